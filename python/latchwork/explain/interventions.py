"""Gates held open or shut, and which units a loss needs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from latchwork._arrays import as_array
from latchwork.explain._choices import some_units, unit_numbers
from latchwork.explain._held_gates import copy_with_bias, held_gates, hold
from latchwork.explain._places import check_one_member, numbers_per_step, place_of
from latchwork.lstm import LSTM
from latchwork.network import Network
from latchwork.optim import SGD
from latchwork.training import Trainer, _loss_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork.explain._held_gates import HeldGate
    from latchwork.explain._places import Place

__all__ = ["Ablation", "ablate", "clamp"]

M = TypeVar("M", LSTM, Network)

# About how much memory the copies that run side by side may take.
_BYTES = 1 << 28


def clamp(
    network: M,
    layer: str | int | None,
    unit: int | Sequence[int],
    *,
    input_gate: float | None = None,
    forget_gate: float | None = None,
    candidate: float | None = None,
    output_gate: float | None = None,
) -> M:
    """Copy a network with gates of chosen units held at a value, at every step and whatever the input.

    ``clamp(network, "l0", 3, forget_gate=1.0)`` is a network whose unit 3 never forgets. All else is as before, bit for
    bit: the other gates of that unit and all gates of the others have the same weights.

    Parameters
    ----------
    network : LSTM or Network
        It is not changed. If it has several members, the gate is held in each.
    layer : str or int, optional
        Which layer and direction, as ``trace[layer]`` takes it: a name such as "l0", "l0_reverse" or, in a network,
        "1.l0"; or the number of a layer, whose forward direction it is. None: the first.
    unit : int or sequence of int
        Which unit or units, from 0 to ``hidden_size`` - 1, or from the end if negative.
    input_gate, forget_gate, candidate, output_gate : float, optional
        At what to hold each: a gate with the sigmoid is open at 1 and shut at 0. Any value that the activation reaches
        will do. None: as the network has it. At least one is needed.

    Returns
    -------
    LSTM or Network
        An independent copy, which can be called, traced, streamed and saved like any other.

    Raises
    ------
    ValueError
        If no gate is given; if the activation never has that value, or ``clip`` keeps it from it; if the cell has no
        forget gate; if the gates are coupled and the values given contradict each other; if there is no such layer.
    IndexError
        If there is no such unit or layer of that number.
    TypeError
        If an argument is of a wrong type.

    Notes
    -----
    The gate's rows of W and R and its peepholes become zero, and its bias such that the activation gives the value:
    exactly if it gives it at all (0 and 1 with a sigmoid), and else the nearest number of the dtype. With
    ``layer_norm``, whose mean runs over all gates, W and R stay and the norm's scale and shift of these rows are set
    instead. Without ``bias``, the copy has biases, which are zero but for the one needed.

    Coupled gates are one gate: ``forget_gate=f`` holds the input gate at 1 - f and the other way round. Zoneout acts
    after the gates, also on units whose gates are held. An input that is NaN or infinite still gives NaN, since
    0 times infinity is none. Training goes on from the copy's weights and would not keep the gate where it is.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(3, 8, seed=0)
    >>> open_for_ever = lw.explain.clamp(lstm, "l0", [2, 5], forget_gate=1.0)
    >>> open_for_ever.trace(np.ones((4, 1, 3))).forget_gate[:, 0, [2, 5]].min()
    np.float32(1.0)
    """
    place = place_of(network, layer)
    units = unit_numbers("unit", unit, place.units)
    gates = held_gates(place, _by_gate(input_gate, forget_gate, candidate, output_gate))
    twin = copy_with_bias(network, place)
    with twin.edit() as tensors:
        hold(tensors, place, units, gates)
    return twin


@dataclass(frozen=True, eq=False)
class Ablation:
    """What `ablate` measured. ``losses[k]`` is the loss without unit ``units[k]``; the first is needed most.

    Attributes
    ----------
    layer : str
        The layer and direction, named as in a trace.
    units : numpy.ndarray of int
        (U,): the units that were ablated, by falling loss; equal losses by rising number.
    losses : numpy.ndarray of float64
        (U,): the loss with that unit ablated.
    baseline : float
        The loss of the network as it is.
    """

    layer: str
    units: Array
    losses: Array
    baseline: float

    @property
    def increases(self) -> Array:
        """By how much the loss rises without each unit, in the order of ``units``; below 0: the unit does harm."""
        increases: Array = self.losses - self.baseline
        return increases

    def __repr__(self) -> str:
        """Show the baseline and the units that are needed most."""
        shown = ", ".join(f"{unit}: {loss:.4g}" for unit, loss in zip(self.units[:5], self.losses[:5], strict=True))
        more = ", ..." if len(self.units) > 5 else ""
        return f"<Ablation of {self.layer}: loss {self.baseline:.4g}, without unit {shown}{more}>"


def ablate(
    network: LSTM | Network,
    x: Any,
    y: Any,
    loss: str | Callable[..., Any],
    *,
    layer: str | int | None = None,
    units: int | Sequence[int] | None = None,
    input_gate: float | None = None,
    forget_gate: float | None = None,
    candidate: float | None = None,
    output_gate: float | None = None,
    state: Any = None,
    lengths: Any = None,
    reset: Any = None,
    skip: Any = None,
    weights: Any = None,
    **loss_options: Any,
) -> Ablation:
    """Take one unit after the other out of a network, and rank them by what that does to a loss.

    A unit is *ablated* by `clamp`: unless other gates are given, its output gate is held at 0. Then it shows nothing:
    its h is 0 at every step, so neither the layers above nor the gates of its own layer see it. ``forget_gate=1.0``
    asks instead what happens if a unit cannot forget, ``input_gate=0.0`` if nothing new comes in, and so on.

    Parameters
    ----------
    network : LSTM or Network
        Of one member. It is not changed.
    x, y, state, lengths, reset, skip, weights
        One mini-batch, as for `latchwork.Trainer.evaluate`.
    loss : str or callable
        The name of one of `latchwork.losses`, or one of its functions; or a function of your own, ``loss(output, y)``,
        which is given the output of one network and what was passed as y (``lengths`` and ``weights`` too, as keywords,
        if they were passed) and returns a number or, as for a `Trainer`, a pair (loss, d_output).
    layer : str or int, optional
        Which layer and direction, see `clamp`. None: the first.
    units : int or sequence of int, optional
        Which units to ablate, each alone. None: all of the layer.
    input_gate, forget_gate, candidate, output_gate : float, optional
        At what to hold gates instead; see `clamp`. None for all: ``output_gate=0.0``.
    **loss_options
        Options of the loss, such as ``delta=0.5`` of "huber".

    Returns
    -------
    Ablation
        The units ranked, the loss without each, and the baseline.

    Raises
    ------
    ValueError, IndexError, TypeError
        As for `clamp` and `latchwork.Trainer.evaluate`; also if the network has several members, or if there is no unit
        to ablate.

    Notes
    -----
    Copies of the network run side by side as members of one, as many at a time as take about 256 MiB, so that is the
    time of about as many calls as there are units, or less in small networks.

    A unit whose removal costs nothing may still be used: another one may do the same. A start state is seen before the
    first step whatever the gates do. With ``layer_norm`` the cells of a layer share one norm, so a cell that shows
    nothing still shifts what the others show; with ``zoneout`` h still decays from a start state.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> network = lw.Network([lw.LSTM(3, 8, seed=0), lw.Linear(8, 1, seed=1)])
    >>> x = np.ones((5, 2, 3))
    >>> lw.explain.ablate(network, x, np.zeros((5, 2, 1)), "squared_error").units.shape
    (8,)
    """
    place = place_of(network, layer)
    check_one_member(network)
    chosen = some_units("units", units, place.units)
    values = _by_gate(input_gate, forget_gate, candidate, output_gate)
    if all(value is None for value in values.values()):
        values["output"] = 0.0
    gates = held_gates(place, values)
    measured = _Measured(loss, loss_options, (x, y, state, lengths, reset, weights, skip))
    original = network if isinstance(network, Network) else Network([copy.deepcopy(network)])
    baseline = float(measured.losses(original)[0])
    inside = place if isinstance(network, Network) else place._replace(name=f"0.{place.name}")
    base = copy_with_bias(original, inside)
    side_by_side = _copies_at_once(base, measured.x_size)
    losses = np.concatenate(
        [
            measured.losses(_copies(base, inside, chosen[start : start + side_by_side], gates))
            for start in range(0, len(chosen), side_by_side)
        ]
    )
    ranked = np.lexsort((np.array(chosen), -losses))
    return Ablation(place.name, np.array(chosen)[ranked], losses[ranked], baseline)


class _Measured:
    """A loss on one mini-batch, of networks of any number of members."""

    def __init__(self, loss: Any, options: Mapping[str, Any], batch: tuple[Any, ...]) -> None:
        self._loss = _loss_of(loss, options)
        self._batch = batch
        if callable(self._loss) and batch[-1] is not None:
            raise ValueError("skip: expected None with a loss function of your own, got a mask; give it weights")

    @property
    def x_size(self) -> int:
        return as_array("x", self._batch[0]).size

    def losses(self, network: Network) -> Array:
        """Give the loss of each member, (M,)."""
        if isinstance(self._loss, dict):
            options = {name: value for name, value in self._loss.items() if name != "kind"}
            trainer = Trainer(network, self._loss["kind"], SGD(lr=0.0), **options)
            *batch, skip = self._batch
            return np.asarray(trainer.evaluate(*batch, skip=skip)[0], np.float64).reshape(-1)
        x, y, state, lengths, reset, weights, _ = self._batch
        output = network(x, state, lengths, reset)[0]
        keywords = {name: value for name, value in (("lengths", lengths), ("weights", weights)) if value is not None}
        outputs = output if network.members > 1 else output[np.newaxis]
        return np.array([self._own(each, y, keywords) for each in outputs])

    def _own(self, output: Array, y: Any, keywords: dict[str, Any]) -> float:
        assert callable(self._loss)
        result = self._loss(output, y, **keywords)
        number = result[0] if isinstance(result, (tuple, list)) and len(result) == 2 else result
        if np.ndim(number) == 0 and np.asarray(number).dtype.kind in "biuf":
            return float(number)
        raise TypeError(f"loss: expected a function that returns a number, got {type(result).__name__}")


def _by_gate(
    input_gate: float | None, forget_gate: float | None, candidate: float | None, output_gate: float | None
) -> dict[str, float | None]:
    return {"input": input_gate, "forget": forget_gate, "candidate": candidate, "output": output_gate}


def _copies(base: Network, place: Place, units: Sequence[int], gates: Sequence[HeldGate]) -> Network:
    """Make a network whose members are copies of one, each with the gates of another unit held."""
    copies = type(base)._unset(base._config, len(units))
    values = {name: np.repeat(value[np.newaxis], len(units), axis=0) for name, value in base.state_dict().items()}
    for member, unit in enumerate(units):
        hold({name: value[member] for name, value in values.items()}, place, [unit], gates)
    copies.load_state_dict(values if len(units) > 1 else {name: value[0] for name, value in values.items()})
    return copies


def _copies_at_once(network: Network, x_size: int) -> int:
    """Estimate how many copies fit: their weights, packed weights and gradients, and what they compute at each step."""
    numbers = 4 * sum(value.size for value in network.parameters.values())
    features = 1 if network._vocabulary is not None else network._core.input_size
    numbers += x_size // features * numbers_per_step(network)
    return max(1, _BYTES // max(1, numbers * network.dtype.itemsize))
