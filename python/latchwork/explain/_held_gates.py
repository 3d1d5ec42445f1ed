"""How a gate is held at a value through the weights alone, whatever the variant of the cell."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from latchwork._arrays import real_number
from latchwork.layers import Linear
from latchwork.lstm import LSTM
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork.explain._places import Place

M = TypeVar("M", LSTM, Network)

# The largest pre-activation that is tried. Every activation that has a limit has reached it there.
_LARGEST = 1e30

# Activations that fall before they rise, and from where on they do: only that part is searched.
_RISES_FROM = {"silu": -1.2784645, "gelu": -0.7517916, "gelu_tanh": -0.7524614}

_PEEPHOLES = ("input", "forget", "output")


class HeldGate(NamedTuple):
    """One gate, by the core's name for it, and the pre-activation at which it is held."""

    gate: str
    pre_activation: float


def held_gates(place: Place, values: Mapping[str, float | None]) -> list[HeldGate]:
    """Find at which pre-activations gates have the values that are wanted; None: the gate is left as it is.

    Raises
    ------
    ValueError
        If no gate is to be held, if the cell lacks one, or if its activation never gives that value.
    TypeError
        If a value is no number.
    """
    wanted = {gate: real_number(_argument(gate), value, -np.inf) for gate, value in values.items() if value is not None}
    if not wanted:
        raise ValueError("clamp: expected a value for input_gate, forget_gate, candidate or output_gate, got none")
    forget = place.options["forget_gate"]
    if "forget" in wanted and forget == "none":
        raise ValueError(
            "forget_gate: expected None for a cell without a forget gate, whose f is always 1, got a value"
        )
    if "forget" in wanted and forget == "coupled":
        kept = wanted.pop("forget")
        if wanted.setdefault("input", 1.0 - kept) != 1.0 - kept:
            raise ValueError(
                "forget_gate: expected 1 - input_gate, because the gates of this cell are coupled, "
                f"got {kept:g} with input_gate={wanted['input']:g}"
            )
    return [HeldGate(gate, _pre_activation(gate, value, place)) for gate, value in wanted.items()]


def copy_with_bias(module: M, place: Place) -> M:
    """Copy a module. If the LSTM at ``place`` has nothing that can hold a gate, its copy has biases, which are zero."""
    if place.options["bias"] or place.options["layer_norm"]:
        return copy.deepcopy(module)
    modules = list(module._config.modules)
    modules[place.module] = modules[place.module] | {"bias": True}
    config = module._config._replace(modules=modules)
    twin: M
    if isinstance(module, Network):
        twin = type(module)._unset(config, module.members)
    else:
        twin = type(module)._unbuilt(config)
        twin._members = module._members
        twin._create_unset()
    values = {name: np.zeros(each.shape, each.dtype) for name, each in twin.parameters.items()}
    twin.load_state_dict(values | module.state_dict())
    twin._mask_seeds = module._mask_seeds
    return twin


def hold(tensors: Mapping[str, Array], place: Place, units: Sequence[int], gates: Sequence[HeldGate]) -> None:
    """Change parameters so that units' gates have constant pre-activations, for every finite input and state.

    Layer norm takes mean and variance over the rows of all gates, so that a change of W or R would change the other
    gates too; there the gate's own scale and shift after the norm are what is set.
    """
    own_forget_gate = place.options["forget_gate"] == "own"
    order = ("input", "forget", "candidate", "output") if own_forget_gate else ("input", "candidate", "output")
    peepholes = [gate for gate in _PEEPHOLES if gate in order]
    norm = place.options["layer_norm"]

    def tensor(kind: str) -> Array | None:
        return tensors.get(f"{place.prefix}{kind}_{place.suffix}")

    for gate, pre_activation in gates:
        rows = [order.index(gate) * place.units + unit for unit in units]
        for kind in ("weight_ih", "weight_hh") if not norm else ():
            matrix = tensor(kind)
            assert matrix is not None
            matrix[..., rows, :] = 0.0
        for kind in ("norm_ih_weight", "norm_ih_bias", "norm_hh_weight", "norm_hh_bias", "bias_ih", "bias_hh"):
            vector = tensor(kind)
            if vector is not None:
                vector[..., rows] = pre_activation if kind == ("norm_ih_bias" if norm else "bias_ih") else 0.0
        peephole = tensor("weight_peephole")
        if peephole is not None and gate in peepholes:
            peephole[..., [peepholes.index(gate) * place.units + unit for unit in units]] = 0.0


def _argument(gate: str) -> str:
    return gate if gate == "candidate" else f"{gate}_gate"


def _pre_activation(gate: str, wanted: float, place: Place) -> float:
    """Search for the pre-activation at which the core's own activation gives a value, or comes nearest to it."""
    activation, clip, dtype = place.activations[gate], place.options["clip"], place.layer.dtype
    line = _Line(activation, dtype, min(_LARGEST, np.inf if clip is None else clip))
    # Less than half of the smallest normal number is zero in the core, too.
    target = float(dtype.type(wanted))
    found = line.nearest(target)
    reached = line.value(found)
    if abs(reached - target) > 16 * np.finfo(dtype).eps * max(1.0, abs(target)):
        ends = sorted((line.value(line.lowest), line.value(line.largest)))
        limit = "" if clip is None else f" with clip={clip:g}"
        name = activation if isinstance(activation, str) else activation[0]
        raise ValueError(
            f"{_argument(gate)}: expected a value that {name}{limit} reaches, from {ends[0]:g} to {ends[1]:g}, "
            f"got {wanted:g}" + (f"; the nearest is {reached:g}" if ends[0] <= target <= ends[1] else "")
        )
    return found


class _Line:
    """An activation over the numbers of a dtype, in their order, between which it rises or falls all the way."""

    def __init__(self, activation: Any, dtype: np.dtype[Any], largest: float) -> None:
        # A Linear layer of one feature computes what a gate computes of its pre-activation, bit for bit.
        self._linear = Linear(1, 1, bias=False, dtype=dtype, activation=activation)
        self._linear.load_state_dict({"weight": np.ones((1, 1))})
        self._dtype = dtype
        self._integer = np.dtype(np.int32 if dtype == np.float32 else np.int64)
        self._rank = self._rank_of(largest)
        self.largest = self._number_of(self._rank)
        name = activation if isinstance(activation, str) else activation[0]
        self._lowest = -min(self._rank, self._rank_of(abs(_RISES_FROM.get(name, largest))))
        self.lowest = self._number_of(self._lowest)
        self._sign = 1.0 if self.value(self.largest) >= self.value(-self.largest) else -1.0

    def value(self, number: float) -> float:
        return float(self._linear(np.array([number], self._dtype))[0])

    def nearest(self, target: float) -> float:
        """Give a number whose value is the target or, else, as near to it as any."""
        first = self._first(lambda value: value >= self._sign * target)
        beyond = self._first(lambda value: value > self._sign * target)
        if first < beyond:
            inside = self._inside(first, beyond - 1)
            if self.value(inside) == target:
                return inside
        near = [rank for rank in range(first - 8, first + 8) if self._lowest <= rank <= self._rank]
        return self._number_of(min(near, key=lambda rank: abs(self.value(self._number_of(rank)) - target)))

    def _inside(self, first: int, last: int) -> float:
        """Choose a number in a range that has one value, not at its edge, which may lie elsewhere on other CPUs."""
        low, high = self._number_of(first), self._number_of(last)
        endless = (first == -self._rank, last == self._rank)
        if endless == (False, True):
            return min(low + max(1.0, abs(low)), high)
        if endless == (True, False):
            return max(high - max(1.0, abs(high)), low)
        return float(self._dtype.type((low + high) / 2))

    def _first(self, holds: Any) -> int:
        """Bisect for the first rank whose value, made to rise, fulfils a condition; one after the last if none does."""
        low, high = self._lowest, self._rank + 1
        while low < high:
            middle = (low + high) // 2
            if holds(self._sign * self.value(self._number_of(middle))):
                high = middle
            else:
                low = middle + 1
        return low

    def _rank_of(self, number: float) -> int:
        """Give the place of a number among those of its dtype in their order; 0 has place 0."""
        return int(np.array([number], self._dtype).view(self._integer)[0])

    def _number_of(self, rank: int) -> float:
        size = float(np.array([abs(rank)], self._integer).view(self._dtype)[0])
        return size if rank >= 0 else -size
