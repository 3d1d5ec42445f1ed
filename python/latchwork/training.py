"""Training by mini-batches: forward, loss, backward, clipping and update, in one call or in two."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

import numpy as np

from latchwork import _core, losses
from latchwork._arrays import (
    MAX_SEED,
    check_finite,
    check_not_infinite,
    check_shape,
    integer,
    real_array,
    seed_number,
)
from latchwork._module import S, core_class
from latchwork._parameters import ParameterGradients
from latchwork._sequence import SequenceModule
from latchwork._targets import in_the_users_words, target_array, weights_array
from latchwork.network import Network
from latchwork.optim import Optimizer

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._sequence import Call, Pairs
    from latchwork.schedules import Schedule

    # x, lengths, reset, start, target, weights, end, skip
    _Batch = tuple[Array, Array | None, Array | None, Pairs | None, Any, Array | None, Pairs, Array | None]


class Trainer(Generic[S]):
    """Trains an `LSTM` or a `Network` batch by batch: ``loss, state = trainer.step(x, y)``.

    The network may be used meanwhile, from other threads too; each step updates its parameters in one write. If it has
    several members, member m is trained as by a trainer of its own with ``seed + m``: it has its own loss, clipping,
    moments and masks.

    ``copy.deepcopy`` and pickle copy the trainer with its network and optimisers; `state_dict` is all that the next
    steps depend on.

    Parameters
    ----------
    network : Network or LSTM
        What to train.
    loss : str or callable
        The name of one of `latchwork.losses`: "cross_entropy", "squared_error", "absolute_error", "huber", "quantile",
        "gaussian", "student_t" or "negative_binomial". It is the mean over all valid elements, which are those before
        each sequence's end; for cross-entropy, which takes the network's output as logits, over all valid steps and
        rows. Or a function of your own, ``loss(output, y) -> (loss, d_output)``: it is given the network's output and
        what was passed as y, with keywords ``lengths`` and ``weights`` if those were passed too, and returns the loss
        (with several members an array (M,)) and its gradient with respect to the output, in the shape of the output.
    optimizer : Optimizer or sequence of Optimizer
        One or more of `latchwork.optim`. One without a target, such as ``latchwork.optim.Adam(lr=4e-3)``, gets the
        network as its target; the target of another must be the network or layers inside it. The trainer uses that very
        optimiser: ``optimizer.lr = 1e-4`` acts at the next step. Parameters that are no optimiser's keep their values,
        and their gradients do not count for clipping.
    clip_norm : float, optional
        Gradients are scaled down to this Euclidean norm, as by `latchwork.optim.clip_grad_norm`. None or 0: never.
    seed : int, optional
        Seed of the random masks of zoneout and of every kind of dropout. None: a fresh one.
    gradient_blocks : int, optional
        The number of blocks of rows in which the gradients of all layers are summed: a power of two up to 1024.
        Machines that each hold consecutive blocks together get the bits that one machine gets; ``docs/same-bits.md``
        says more. None: each layer chooses by its shape, which costs least.
    checkpoint : int, optional
        At least 1. Of each LSTM a step keeps only the state before every ``checkpoint``-th step of the sequence, and
        computes the steps between again, as `LSTM.record` does. That changes no bit of any result; it takes less memory
        and one more forward pass, for exact gradients over long sequences. None: everything is kept.
    **loss_options
        Options of the loss, as the function of its name in `latchwork.losses` has them, such as
        ``quantiles=[0.1, 0.5, 0.9]`` for "quantile" or ``label_smoothing=0.1`` for "cross_entropy".

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
        loss: str | Callable[..., Any],
        optimizer: Optimizer | Sequence[Optimizer],
        clip_norm: float | None = None,
        seed: int | None = None,
        *,
        gradient_blocks: int | None = None,
        checkpoint: int | None = None,
        **loss_options: Any,
    ) -> None:
        if not isinstance(network, SequenceModule):
            raise TypeError(f"network: expected a Network or an LSTM, got {type(network).__name__}")
        self._network = network
        self._optimizers = _optimizers_of(optimizer, network)
        self._loss = _loss_of(loss, loss_options)
        self._clip_norm = clip_norm
        self._gradient_blocks = 0 if gradient_blocks is None else integer("gradient_blocks", gradient_blocks, 1)
        self._checkpoint = 0 if checkpoint is None else integer("checkpoint", checkpoint, 1)
        self._build(seed_number("seed", seed))

    def _build(self, seed: int) -> None:
        network = self._network
        free = [optimizer for optimizer in self._optimizers if not optimizer.targets]
        try:
            for optimizer in free:
                optimizer._bind((network,))
            self._network_core = network._core
            self._core = _new_core(network, self._loss, self._optimizers, self._clip_norm, seed, self._gradient_blocks)
        except Exception:
            for optimizer in free:
                optimizer._unbind()
            raise
        if self._checkpoint:
            self._core.checkpoint = self._checkpoint
        self._keeps_sequence = network._core.keeps_sequence
        if isinstance(self._loss, Mapping):
            self._takes_labels = self._loss["kind"] == "cross_entropy"
            self._target_size = network._core.output_size // _core.outputs_per_target(self._loss)

    @property
    def network(self) -> SequenceModule[S]:
        """What is trained."""
        return self._network

    @property
    def optimizer(self) -> Optimizer | tuple[Optimizer, ...]:
        """The optimiser; a tuple if there are several."""
        return self._optimizers[0] if len(self._optimizers) == 1 else self._optimizers

    @property
    def lr(self) -> float:
        """Learning rate of the optimiser; may be set before any step, at least 0 (ValueError).

        If there are several optimisers, each has its own (ValueError).
        """
        return self._only_optimizer().lr

    @lr.setter
    def lr(self, value: float | Schedule) -> None:
        self._only_optimizer().lr = value

    def _only_optimizer(self) -> Optimizer:
        if len(self._optimizers) > 1:
            raise ValueError(f"lr: expected one optimizer, got {len(self._optimizers)}, each with its own lr")
        return self._optimizers[0]

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return max(self._core.steps)

    @property
    def gradient_norm(self) -> Any:
        """Euclidean norm of the gradients before clipping, as the last `step` or `apply` found it.

        A float, with several members an array (M,). It is computed in every step, so it costs nothing to read; that of
        a step that was refused because the norm is not finite is shown too. Parameters that no optimiser updates do not
        count. ValueError before the first step.
        """
        norms = self._core.gradient_norms
        if not norms:
            raise ValueError(f"gradient_norm: expected a step before it, got {self!r}")
        return norms[0] if self._network._members is None else np.array(norms)

    def state_dict(self) -> dict[str, Any]:
        """Copy all that the next steps depend on: the network's weights, the optimisers, and the place in the masks."""
        return {
            "network": self._network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "seed": self._core.seed,
            "steps": self._core.steps,
            "gradient_blocks": self._gradient_blocks or None,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the trainer was that gave this state, bit for bit; all of it or, on an error, nothing is taken.

        Parameters
        ----------
        state_dict : mapping
            What `state_dict` gave. The network, the loss and ``gradient_blocks`` must be like those of that trainer,
            and the optimisers must be of the same classes and have the same targets.

        Raises
        ------
        ValueError
            If it does not fit or is incomplete.
        TypeError
            If something in it is of another type.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: expected a mapping, got {type(state_dict).__name__}")
        if set(state_dict) != {"network", "optimizers", "seed", "steps", "gradient_blocks"}:
            names = ", ".join(map(str, state_dict))
            raise ValueError(f"state_dict: expected network, optimizers, seed, steps and gradient_blocks, got {names}")
        if state_dict["gradient_blocks"] != (self._gradient_blocks or None):
            raise ValueError(
                f"gradient_blocks: expected {self._gradient_blocks or None}, as this trainer has, got "
                f"{state_dict['gradient_blocks']}"
            )
        states = list(state_dict["optimizers"])
        if len(states) != len(self._optimizers):
            raise ValueError(f"optimizers: expected {len(self._optimizers)}, got {len(states)}")
        seed = integer("seed", state_dict["seed"], 0, MAX_SEED)
        steps = [integer("steps", count, 0) for count in state_dict["steps"]]
        if len(steps) != len(self._core.steps):
            raise ValueError(f"steps: expected {len(self._core.steps)} numbers, got {len(steps)}")
        loadable = [each._loadable(state) for each, state in zip(self._optimizers, states, strict=True)]
        self._network.load_state_dict(state_dict["network"])
        for optimizer, state in zip(self._optimizers, loadable, strict=True):
            optimizer._load(state)
        self._core.restore(seed, steps)

    def __getstate__(self) -> dict[str, Any]:
        """Return the network, then the optimisers, then the rest."""
        return {
            "_network": self._network,
            "_optimizers": self._optimizers,
            "_loss": self._loss,
            "_clip_norm": self._clip_norm,
            "_gradient_blocks": self._gradient_blocks,
            "_checkpoint": self._checkpoint,
            "_place": (self._core.seed, self._core.steps),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the core's trainer of the copied network and optimisers."""
        self.__dict__.update(state)
        seed, steps = self.__dict__.pop("_place")
        self._build(seed)
        self._core.restore(seed, steps)

    def step(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        weights: Any = None,
        *,
        skip: Any = None,
    ) -> tuple[Any, S]:
        """Train on one mini-batch.

        Parameters
        ----------
        x, state, lengths, reset, skip
            As for a call of the network. Where ``skip`` is true, the target does not count either, because the output
            there is no prediction of that step's own: neither its content nor that of x matters. NaN in x is a missing
            value if the network has an `Impute` for it, and is refused otherwise.
        y : array_like
            What the output should be, in the axes of the output. Values (T, N, features), for some losses fewer than
            the output has; class labels (T, N), integers from 0 to the output size - 1, for cross-entropy. After `Last`
            there is no axis T. With several members, y is the same for all, or has their axis before the others. Its
            content in padding does not matter.
        weights : array_like, optional
            How much each target counts, at least 0: (N,) for rows, (T, N) for steps, in the axes of the output, or in
            the shape of y for single elements; the axis of members may be in front. A target with weight 0 does not
            count at all, whatever it is, NaN too: so gaps are left out. The loss is the mean weighted by these. If
            their sum is 0, the loss is 0 and nothing is updated: no parameter, no moment, no count of steps. None: all
            count alike.

        Returns
        -------
        loss : float
            The loss before the update; with several members an array (M,).
        state
            The state after the last step, to be passed in with the next window of the same sequences.

        Raises
        ------
        ValueError
            If a shape does not fit, a label or a code is out of range, a weight is negative or not finite, or x or y
            holds NaN or infinity where it counts.
        TypeError
            If an argument is of a wrong type or dtype.
        RuntimeError
            If the loss, the gradient or a parameter after the step is not finite; with several members the message
            names the first one. Nothing has changed then, in any member.
        """
        batch, end = self._batch(x, y, state, lengths, reset, weights, skip)
        for optimizer in self._optimizers:
            if optimizer._schedule is not None:
                optimizer._prepare()
        try:
            return self._core.step(*batch), end
        except ValueError as error:
            raise in_the_users_words(error) from None

    def gradient(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        weights: Any = None,
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
        x, y, state, lengths, reset, weights, skip
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
        batch, end = self._batch(x, y, state, lengths, reset, weights, skip)
        try:
            return self._core.gradient(*batch, first_row, ready), end
        except ValueError as error:
            raise in_the_users_words(error) from None

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
        for optimizer in self._optimizers:
            if optimizer._schedule is not None:
                optimizer._prepare()
        self._core.apply()

    def evaluate(
        self,
        x: Any,
        y: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        weights: Any = None,
        *,
        skip: Any = None,
    ) -> tuple[Any, S]:
        """Measure the loss on one mini-batch, without training: nothing is dropped.

        Parameters
        ----------
        x, y, state, lengths, reset, weights, skip
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
        batch, end = self._batch(x, y, state, lengths, reset, weights, skip)
        try:
            return self._core.evaluate(*batch), end
        except ValueError as error:
            raise in_the_users_words(error) from None

    def __repr__(self) -> str:
        """Show the network and the steps taken."""
        return f"<Trainer of {self._network!r}, {self.steps} steps>"

    def _batch(self, x: Any, y: Any, state: Any, lengths: Any, reset: Any, weights: Any, skip: Any) -> tuple[_Batch, S]:
        """Check and convert a mini-batch; give it as the core takes it, and the states that the core will fill."""
        network = self._network
        if network._core is not self._network_core:
            raise ValueError(
                "network: expected a layer on its own, got one that joined a Network after the trainer was made"
            )
        call = network._call(x, state, lengths, reset, skip)
        sequence = self._keeps_sequence
        if network._vocabulary is None:
            check = check_not_infinite if network._core.takes_missing else check_finite
            check("x", call.x, call.valid, members=call.x.ndim == 4)
        end, core_end = network._new_states(call)
        if callable(self._loss):
            if skip is not None:
                raise ValueError("skip: expected None with a loss function of your own, got a mask; give it weights")
            given = {"lengths": lengths, "weights": weights}
            target: Any = CustomLoss(self._loss, network, call, y, {k: v for k, v in given.items() if v is not None})
            return (call.x, call.lengths, call.reset, call.start, target, None, core_end, None), end
        place = (
            self._takes_labels, self._target_size, network.dtype, call.axes, call.steps, call.rows, sequence
        )  # fmt: skip
        target = target_array(y, *place)
        core_weights = None if weights is None else weights_array(weights, *place)
        return (call.x, call.lengths, call.reset, call.start, target, core_weights, core_end, call.skip), end


class CustomLoss:
    """A loss of the user's own and one mini-batch, as the core calls it."""

    def __init__(
        self, loss: Callable[..., Any], network: SequenceModule[Any], call: Call, y: Any, keywords: dict[str, Any]
    ) -> None:
        self._loss = loss
        self._network = network
        self._axes = call.axes
        self._y = y
        self._keywords = keywords

    def __call__(self, core_output: Array) -> tuple[Array, Array]:
        """Compute the losses (M,) and the gradient (M, T, N, features) of an output of that shape."""
        axes, sequence = self._axes, self._network._core.keeps_sequence
        one = core_output if axes.members is not None else core_output[0]
        output = np.ascontiguousarray(axes.from_core(one, sequence))
        result = self._loss(output, self._y, **self._keywords)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(f"loss: expected a function that returns (loss, d_output), got {type(result).__name__}")
        losses = np.asarray(result[0], np.float64)
        check_shape("loss", losses, () if axes.members is None else (axes.members,))
        d_output = real_array("d_output", result[1], self._network.dtype)
        check_shape("d_output", d_output, output.shape)
        if np.isfinite(losses).all():  # else the core refuses it
            check_finite("d_output", d_output, None, members=axes.members is not None)
        d_core = np.ascontiguousarray(axes.to_core(d_output, sequence)).reshape(core_output.shape)
        return losses.reshape(-1), d_core


def _loss_of(loss: Any, options: Mapping[str, Any]) -> Mapping[str, Any] | Callable[..., Any]:
    """Give the core's options of a loss by name, or a callable of the user's."""
    if isinstance(loss, functools.partial) and not loss.args:
        loss, options = loss.func, {**loss.keywords, **options}
    name = losses.BY_FUNCTION.get(loss, loss) if callable(loss) else loss
    if isinstance(name, str):
        return {"kind": name, **options}
    if not callable(loss):
        raise TypeError(f"loss: expected the name of one, or a callable, got {type(loss).__name__}")
    if options:
        raise TypeError(f"loss: expected a callable without options, got {', '.join(options)}")
    return loss  # type: ignore[no-any-return]


def _optimizers_of(optimizer: Any, network: SequenceModule[Any]) -> tuple[Optimizer, ...]:
    optimizers = (optimizer,) if isinstance(optimizer, Optimizer) else optimizer
    if not isinstance(optimizers, (tuple, list)) or not optimizers:
        raise TypeError(f"optimizer: expected one of latchwork.optim, got {type(optimizer).__name__}")
    inside = (network, *network) if isinstance(network, Network) else (network,)
    for each in optimizers:
        if not isinstance(each, Optimizer):
            raise TypeError(f"optimizer: expected one of latchwork.optim, got {type(each).__name__}")
        for target in each.targets:
            if not any(target is module for module in inside):
                raise ValueError(
                    "optimizer: expected one without a target, or one of the network or layers inside it, "
                    f"got one of {target!r}"
                )
    return tuple(optimizers)


def _new_core(
    network: SequenceModule[Any],
    loss: Mapping[str, Any] | Callable[..., Any],
    optimizers: Sequence[Optimizer],
    clip_norm: Any,
    seed: int,
    gradient_blocks: int,
) -> _core.Trainer32:
    """Let the core check the options, and say in Python's words what it refuses."""
    options = loss if isinstance(loss, Mapping) else None
    trainer_type = core_class(network.dtype, _core.Trainer32, _core.Trainer64)
    cores = [optimizer._bound("optimizer") for optimizer in optimizers]
    try:
        return trainer_type(
            network._core, options, cores, 0.0 if clip_norm is None else clip_norm, seed, gradient_blocks
        )
    except (TypeError, ValueError) as error:
        message = str(error)
        if message.startswith("unknown option"):
            raise TypeError(f"Trainer: {message.replace('for kind', 'for the loss')}") from None
        for name, python_name in (("kind:", "loss:"), ("targets[", "optimizer: targets[")):
            if message.startswith(name):
                raise type(error)(python_name + message.removeprefix(name)) from None
        raise
