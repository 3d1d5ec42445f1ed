"""The parameters of `LSTMLanguageModel`, and their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import boolean, integer, real_dtype, real_number, seed_number
from latchwork.estimators.estimator import Estimator
from latchwork.estimators.language_network import check_optimizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import DTypeLike

    from latchwork._cell_options import GateActivations
    from latchwork._writing import FilePath
    from latchwork.estimators.text.tokenizers import Decode, Encode
    from latchwork.optim import Optimizer
    from latchwork.schedules import Schedule


class LanguageParameters(Estimator):
    """What the constructor stores as it was given; ``fit`` checks it."""

    def __init__(
        self,
        hidden_size: int = 256,
        embedding_size: int = 64,
        num_layers: int = 1,
        *,
        tokenizer: str | PathLike[str] | tuple[Encode, Decode] | Any = "characters",
        vocabulary_size: int = 10_000,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_dropout_on: str = "hidden",
        weight_dropout: float = 0.0,
        zoneout: tuple[float, float] = (0.0, 0.0),
        forget_gate: bool | str = "coupled",
        peephole: bool = False,
        layer_norm: bool = False,
        activations: GateActivations | Sequence[GateActivations] | None = None,
        clip: float | None = None,
        cell_clip: float | None = None,
        residual: bool = False,
        learn_start_state: bool = False,
        proj_size: int = 0,
        forget_bias: float | None = None,
        init: str = "torch",
        t_max: int | None = None,
        dtype: DTypeLike = "float32",
        batch_size: int = 16,
        window: int = 64,
        optimizer: str | Optimizer = "adamw",
        lr: float = 8e-3,
        lr_schedule: str | Schedule = "cosine",
        weight_decay: float = 0.2,
        clip_norm: float | None = 1.0,
        max_epochs: int = 15,
        max_seconds: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        validation_data: str | None = None,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        n_members: int = 1,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        verbose: bool | int = False,
        callbacks: Any = None,
        checkpoint_dir: FilePath | None = None,
        checkpoint_every: int | float = 1,
    ) -> None:
        self.hidden_size = hidden_size
        self.embedding_size = embedding_size
        self.num_layers = num_layers
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.recurrent_dropout_on = recurrent_dropout_on
        self.weight_dropout = weight_dropout
        self.zoneout = zoneout
        self.forget_gate = forget_gate
        self.peephole = peephole
        self.layer_norm = layer_norm
        self.activations = activations
        self.clip = clip
        self.cell_clip = cell_clip
        self.residual = residual
        self.learn_start_state = learn_start_state
        self.proj_size = proj_size
        self.forget_bias = forget_bias
        self.init = init
        self.t_max = t_max
        self.dtype = dtype
        self.batch_size = batch_size
        self.window = window
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.validation_data = validation_data
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.n_members = n_members
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    def _check_parameters(self) -> None:
        """Raise ValueError or TypeError if a parameter is out of range or of a wrong type.

        The core checks the options of the cell when it builds the network, the loop those of a run.
        """
        for name in (
            "hidden_size", "embedding_size", "num_layers", "vocabulary_size", "batch_size", "window", "max_epochs",
            "n_iter_no_change", "n_members",
        ):  # fmt: skip
            integer(name, getattr(self, name), 1)
        for name in ("lr", "weight_decay", "tol"):
            real_number(name, getattr(self, name))
        for name in ("clip_norm", "max_seconds"):
            if getattr(self, name) is not None:
                real_number(name, getattr(self, name))
        for name in ("early_stopping", "warm_start"):
            boolean(name, getattr(self, name))
        if not isinstance(self.verbose, (bool, np.bool_)):
            integer("verbose", self.verbose, 0)
        real_number("dropout", self.dropout, 0.0, 1.0)
        fraction = real_number("validation_fraction", self.validation_fraction, 0.0, 1.0)
        if not 0 < fraction < 1:
            raise ValueError(f"validation_fraction: expected above 0 and below 1, got {self.validation_fraction}")
        if self.validation_data is not None:
            check_text("validation_data", self.validation_data, shortest=1)
        real_dtype(self.dtype)
        check_optimizer(self.optimizer)
        if not isinstance(self.random_state, (np.random.Generator, np.random.RandomState)):
            seed_number("random_state", self.random_state)


def check_text(name: str, text: Any, shortest: int) -> None:
    """Raise TypeError or ValueError unless this is a text of so many characters at least."""
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str, got {type(text).__name__}")
    if len(text) < shortest:
        raise ValueError(f"{name}: expected at least {shortest} character(s), got {len(text)}")
