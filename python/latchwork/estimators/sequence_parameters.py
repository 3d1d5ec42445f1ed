"""The parameters that `LSTMRegressor` and `LSTMClassifier` share, and their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from latchwork._arrays import boolean, integer, real_dtype, real_number
from latchwork.estimators.estimator import Estimator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import DTypeLike

    from latchwork.optim import Optimizer
    from latchwork.schedules import Schedule

HEADS = ("last", "mean", "max", "sequence")
SCALES = ("standard", "robust", None)
LEAST_EPOCHS = 60
LEAST_STEPS = 600
# Steps of sequences that count as short. Longer ones are learned better from initial values that remember for longer,
# and dropout within the recurrence costs more there than it gives.
LONGEST_SHORT = 50
MISSING = (None, "forward", "mean", "zero", "refuse")

# The options of the cell, as `latchwork.LSTM` has them.
CELL_OPTIONS = (
    "recurrent_dropout", "recurrent_dropout_on", "weight_dropout", "zoneout", "forget_gate", "peephole", "layer_norm",
    "activations", "clip", "cell_clip", "residual", "learn_start_state", "proj_size", "forget_bias", "init", "t_max",
)  # fmt: skip


class SequenceParameters(Estimator):
    """What the constructors store as it was given; ``fit`` checks it."""

    hidden_size: int
    num_layers: int
    bidirectional: bool | None
    head: str
    dropout: float
    recurrent_dropout: float | None
    recurrent_dropout_on: str
    weight_dropout: float
    zoneout: tuple[float, float]
    forget_gate: bool | str
    peephole: bool
    layer_norm: bool
    activations: Any
    clip: float | None
    cell_clip: float | None
    residual: bool
    learn_start_state: bool
    proj_size: int
    forget_bias: float | None
    init: str | None
    t_max: int | None
    dtype: DTypeLike
    scale: str | None
    missing: str | None
    categorical: Sequence[Any] | None
    sequence: str | None
    time: str | None
    loss: str | Callable[..., Any]
    optimizer: str | Optimizer
    lr: float
    lr_schedule: str | Schedule
    weight_decay: float
    clip_norm: float | None
    max_epochs: int | None
    max_seconds: float | None
    batch_size: int | None
    shuffle: bool
    early_stopping: bool
    validation_fraction: float
    validation_data: Any
    n_iter_no_change: int
    tol: float
    warm_start: bool
    n_members: int
    window: int | None
    checkpoint: int | None
    checkpoint_dir: Any
    checkpoint_every: int | float
    random_state: Any
    verbose: int | bool
    callbacks: Any

    _dropout_if_short: ClassVar[float]  # what ``recurrent_dropout=None`` means for sequences of few steps

    def _store(self, given: Mapping[str, Any]) -> None:
        """Make attributes of the constructor's arguments, which are the local variables of ``__init__``."""
        for name in self._parameter_names():
            setattr(self, name, given[name])

    def _check_parameters(self) -> None:
        """Raise ValueError or TypeError if a parameter is out of range or of a wrong type.

        The options of the cell are checked by the core when it builds the network, those of a run by the loop.
        """
        for name in ("hidden_size", "num_layers", "n_iter_no_change", "n_members"):
            integer(name, getattr(self, name), 1)
        for name in ("max_epochs", "batch_size", "window", "checkpoint"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), 1)
        for name in ("shuffle", "early_stopping", "warm_start"):
            boolean(name, getattr(self, name))
        if not isinstance(self.verbose, (bool, np.bool_)):
            integer("verbose", self.verbose, 0)
        if self.bidirectional is not None:
            boolean("bidirectional", self.bidirectional)
        one_of("head", self.head, HEADS)
        if self.window is not None and (self.head != "sequence" or self.bidirectional):
            got = f"head={self.head!r}" if self.head != "sequence" else "bidirectional=True"
            raise ValueError(f'window: expected head="sequence" and one direction beside it, got {got}')
        one_of("scale", self.scale, SCALES)
        one_of("missing", self.missing, MISSING)
        real_dtype(self.dtype)
        real_number("dropout", self.dropout, 0.0, 1.0)
        for name in ("lr", "weight_decay", "tol"):
            real_number(name, getattr(self, name))
        if self.clip_norm is not None:
            real_number("clip_norm", self.clip_norm)
        if self.max_seconds is not None:
            real_number("max_seconds", self.max_seconds)
        fraction = real_number("validation_fraction", self.validation_fraction, 0.0, 1.0)
        if not 0 < fraction < 1:
            raise ValueError(f"validation_fraction: expected above 0 and below 1, got {self.validation_fraction}")

    def _cell_options(self, longest: int) -> dict[str, Any]:
        """Give the options of the cell for sequences of at most so many steps."""
        options = {name: getattr(self, name) for name in CELL_OPTIONS}
        # Nothing that is further back than a window is learned.
        longest = longest if self.window is None else min(longest, self.window)
        if options["recurrent_dropout"] is None:
            options["recurrent_dropout"] = self._dropout_if_short if longest <= LONGEST_SHORT else 0.0
        if options["init"] is None:
            # Without a forget gate there is no bias that says how long to remember; or the user has said what it is.
            chosen = options["forget_gate"] is False or options["forget_bias"] is not None
            short = longest <= LONGEST_SHORT and options["t_max"] is None
            options["init"] = "torch" if chosen or short else "chrono"
        if options["init"] == "chrono" and options["t_max"] is None:
            options["t_max"] = max(longest, 2)
        return options

    def _batch_size(self, samples: int) -> int:
        """Give the size of a batch of so many sequences: of few, such that there are about ten batches."""
        if self.batch_size is not None:
            return self.batch_size
        return min(32, max(8, samples // 10)) if self.window is None else 32

    def _reads_backward(self) -> bool:
        """Say whether the network is bidirectional: if it may be, unless it is said."""
        return self.window is None if self.bidirectional is None else self.bidirectional

    def _max_epochs(self, steps: int | None) -> int:
        """Give the number of epochs of so many steps, None if that is not known: at least 60, and 600 steps in all."""
        if self.max_epochs is not None:
            return self.max_epochs
        return LEAST_EPOCHS if steps is None else max(LEAST_EPOCHS, -(-LEAST_STEPS // max(steps, 1)))


def one_of(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if not any(value is choice if choice is None else isinstance(value, str) and value == choice for choice in choices):
        *others, last = map(repr, choices)
        raise ValueError(f"{name}: expected {', '.join(others) + ' or ' if others else ''}{last}, got {value!r}")
