"""Training by mini-batches: forward, loss, backward, clipping and update, in one call or in two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

from latchwork import _core
from latchwork._arrays import (
    check_classes,
    check_finite,
    integer_array,
    real_array,
    seed_number,
)
from latchwork._module import S, core_class
from latchwork._parameters import ParameterGradients
from latchwork._sequence import SequenceModule
from latchwork.optim import Optimizer

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._sequence import Pairs

    # x, lengths, reset, start, target, end, skip
    _Batch = tuple[Array, Array | None, Array | None, Pairs | None, Array, Pairs, Array | None]


class Trainer(Generic[S]):
    """Trains an `LSTM` or a `Network` batch by batch: ``loss, state = trainer.step(x, y)``.

    The network may be used meanwhile, from other threads too; each step updates its parameters in one write. If it has
    several members, member m is trained as by a trainer of its own with ``seed + m``: it has its own loss, clipping,
    moments and masks.

    Parameters
    ----------
    network : Network or LSTM
        What to train.
    loss : {"cross_entropy", "squared_error", "absolute_error", "quantile"}
        The mean over all valid elements, which are those before each sequence's end; for cross-entropy, which takes the
        network's output as logits, over all valid steps and rows.
    optimizer : latchwork.optim.SGD, Adam or AdamW
        Without a target: ``latchwork.optim.Adam(lr=4e-3)``. The trainer takes its options and keeps moments of its own.
    clip_norm : float, optional
        Gradients are scaled down to this Euclidean norm, as by `latchwork.optim.clip_grad_norm`. None or 0: never.
    seed : int, optional
        Seed of the random masks of zoneout and of every kind of dropout. None: a fresh one.
    quantiles : sequence of float, optional
        For the quantile loss, each above 0 and below 1: the network's output holds, for each feature of the target, one
        value for each quantile, side by side.

    Raises
    ------
    ValueError
        If an option is out of range or does not fit the others.
    TypeError
        If an option is of another type.
    """

    def __init__(
        self,
        network: SequenceModule[S],
        loss: str,
        optimizer: Optimizer,
        clip_norm: float | None = None,
        seed: int | None = None,
        *,
        quantiles: Sequence[float] | None = None,
    ) -> None:
        if not isinstance(network, SequenceModule):
            raise TypeError(f"network: expected a Network or an LSTM, got {type(network).__name__}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected one of latchwork.optim, got {type(optimizer).__name__}")
        if optimizer._target is not None:
            raise ValueError(
                f"optimizer: expected one without a target, such as Adam(lr=1e-3), got one for {optimizer._target!r}"
            )
        self._network = network
        self._network_core = network._core
        self._takes_labels = loss == "cross_entropy"
        trainer_type = core_class(network.dtype, _core.Trainer32, _core.Trainer64)
        self._core = _new_core(
            trainer_type, network._core, loss, quantiles, optimizer._options, clip_norm, seed_number("seed", seed)
        )
        self._target_size = network._core.output_size // (1 if quantiles is None else len(quantiles))

    @property
    def network(self) -> SequenceModule[S]:
        """What is trained."""
        return self._network

    @property
    def lr(self) -> float:
        """Learning rate; may be set before any step, at least 0 (ValueError)."""
        return self._core.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._core.lr = value

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self._core.steps

    def step(
        self, x: Any, y: Any, state: Any = None, lengths: Any = None, reset: Any = None, *, skip: Any = None
    ) -> tuple[Any, S]:
        """Train on one mini-batch.

        Parameters
        ----------
        x, state, lengths, reset, skip
            As for a call of the network. Where ``skip`` is true, the target does not count either, because the output
            there is no prediction of that step's own: neither its content nor that of x matters.
        y : array_like
            What the output should be, in the axes of the output. Values (T, N, features) for the errors and quantiles;
            class labels (T, N), integers from 0 to the output size - 1, for cross-entropy. After `Last` there is no
            axis T. With several members, y is the same for all, or has their axis before the others. Its content in
            padding does not matter.

        Returns
        -------
        loss : float
            The loss before the update; with several members an array (M,).
        state
            The state after the last step, to be passed in with the next window of the same sequences.

        Raises
        ------
        ValueError
            If a shape does not fit, a label is out of range, or x or y holds NaN or infinity where it is valid.
        TypeError
            If an argument is of a wrong type or dtype.
        RuntimeError
            If the loss or the gradient is not finite; with several members the message names the first one. Nothing has
            changed then, in any member.
        """
        batch, end = self._batch(x, y, state, lengths, reset, skip)
        return self._core.step(*batch), end

    def gradient(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        *,
        skip: Any = None,
        first_row: int = 0,
        ready: Callable[[int, int, Array], object] | None = None,
    ) -> tuple[Any, S]:
        """Do the first part of a step: compute the loss, and store its gradients in `gradients`. No parameter changes.

        ``trainer.gradient(x, y)`` and then ``trainer.apply()`` do the same as ``trainer.step(x, y)``. Between the two,
        `gradients` may be changed, say exchanged between several machines that train together.

        Parameters
        ----------
        x, y, state, lengths, reset, skip
            As for `step`.
        first_row : int, default 0
            The number of the first row in the larger batch of which this one is a part: masks depend on it.
        ready : callable, optional
            ``ready(layer, member, values)`` is called for each layer, from the top one down, when its gradients are
            complete. ``values`` is the layer's part of ``gradients.flat`` and may be written. With one member, the
            layers below are still to be computed then. Layers without parameters are passed over.

        Returns
        -------
        loss, state
            What `step` returns.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            As for `step`; also if ``first_row`` is no int or below 0, or ``ready`` is not callable. What ``ready``
            raises is passed on; ``ready`` cannot call the trainer itself (RuntimeError).
        """
        if ready is not None and not callable(ready):
            raise TypeError(f"ready: expected a callable or None, got {type(ready).__name__}")
        batch, end = self._batch(x, y, state, lengths, reset, skip)
        return self._core.gradient(*batch, first_row, ready), end

    @property
    def gradients(self) -> ParameterGradients:
        """What `gradient` computes and `apply` reads, by PyTorch's names: writeable views of one buffer, ``flat``."""
        return ParameterGradients(self._network._layout, self._core.gradients)

    def apply(self) -> None:
        """Do the second part of a step: clip `gradients` and update the parameters, once for each call of `gradient`.

        Raises
        ------
        RuntimeError
            If no call of `gradient` succeeded since the last update, or a gradient is not finite; nothing has changed
            then.
        """
        self._core.apply()

    def evaluate(
        self, x: Any, y: Any, state: Any = None, lengths: Any = None, reset: Any = None, *, skip: Any = None
    ) -> tuple[Any, S]:
        """Measure the loss on one mini-batch, without training: nothing is dropped.

        Parameters
        ----------
        x, y, state, lengths, reset, skip
            As for `step`.

        Returns
        -------
        loss : float
            With several members an array (M,).
        state
            The state after the last step.

        Raises
        ------
        ValueError, TypeError
            As for `step`.
        """
        batch, end = self._batch(x, y, state, lengths, reset, skip)
        return self._core.evaluate(*batch), end

    def __repr__(self) -> str:
        """Show the network and the steps taken."""
        return f"<Trainer of {self._network!r}, {self.steps} steps>"

    def _batch(self, x: Any, y: Any, state: Any, lengths: Any, reset: Any, skip: Any) -> tuple[_Batch, S]:
        """Check and convert a mini-batch; give it as the core takes it, and the states that the core will fill."""
        network = self._network
        if network._core is not self._network_core:
            raise ValueError(
                "network: expected a layer on its own, got one that joined a Network after the trainer was made"
            )
        call = network._call(x, state, lengths, reset, skip)
        sequence = self._network_core.keeps_sequence
        valid = call.valid
        if network._vocabulary is None:
            check_finite("x", call.x, valid, members=call.x.ndim == 4)
        features = () if self._takes_labels else (self._target_size,)
        target = integer_array("y", y) if self._takes_labels else real_array("y", y, network.dtype)
        axes = call.axes
        if axes.members is not None:
            axes = axes.of_array(target, len(axes.shape(call.steps, call.rows, *features, sequence=sequence)))
        axes.check_shape("y", target, call.steps, call.rows, *features, sequence=sequence)
        target = axes.to_core(target, sequence)
        if not sequence:
            valid = None  # after Last every row counts, an empty sequence's too
        if self._takes_labels:
            check_classes("y", "labels", self._target_size, target, valid, members=axes.members is not None)
        else:
            check_finite("y", target, valid, members=axes.members is not None)
        end, core_end = network._new_states(call)
        return (call.x, call.lengths, call.reset, call.start, target, core_end, call.skip), end


def _new_core(
    trainer_type: type[_core.Trainer32],
    network: _core.Network32,
    loss: Any,
    quantiles: Any,
    optimizer: Mapping[str, Any],
    clip_norm: Any,
    seed: int,
) -> _core.Trainer32:
    """Let the core check the options, and say in Python's words what it refuses."""
    options = {"kind": loss} | ({} if quantiles is None else {"quantiles": quantiles})
    try:
        return trainer_type(network, options, optimizer, 0.0 if clip_norm is None else clip_norm, seed)
    except (TypeError, ValueError) as error:
        if str(error).startswith("kind:"):
            raise type(error)("loss" + str(error).removeprefix("kind")) from None
        raise
