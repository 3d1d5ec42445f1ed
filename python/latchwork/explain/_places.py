"""Which layer and which units are meant: by name or number, for networks and traces alike."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import integer_array, shape_text
from latchwork.lstm import LSTM
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._sequence import SequenceModule


class Place(NamedTuple):
    """One layer and direction of an LSTM, alone or in a network."""

    name: str  # as a trace has it: "l0_reverse", in a network "1.l0_reverse"
    module: int  # where the LSTM stands in the network
    lstm: int  # which of the network's LSTMs it is
    state: int  # where its state lies along the first axis of that LSTM's h_n and c_n
    layer: LSTM

    @property
    def prefix(self) -> str:
        """What stands before the names of the LSTM's parameters in the network."""
        return self.name.rpartition(".")[0] + "." if "." in self.name else ""

    @property
    def suffix(self) -> str:
        """What stands behind the names of this layer's and direction's parameters: "l0_reverse"."""
        return self.name.rpartition(".")[2]

    @property
    def units(self) -> int:
        """How many units it has."""
        return self.layer.hidden_size

    @property
    def options(self) -> dict[str, Any]:
        """The core's options of the LSTM."""
        return self.layer._config.modules[0]

    @property
    def activations(self) -> dict[str, Any]:
        """The activations of this direction by gate."""
        of_directions = self.options["activations"]
        activations: dict[str, Any] = of_directions[-1 if self.suffix.endswith("_reverse") else 0]
        return activations


def layer_name(names: Sequence[str], layer: Any) -> str:
    """Find a layer and direction among a trace's names: by name or number, as ``trace[...]`` takes it; None: the first.

    Raises
    ------
    ValueError, IndexError, TypeError
        If there is none of that name or number, or it is neither.
    """
    if layer is None:
        return names[0]
    if isinstance(layer, str):
        if layer not in names:
            raise ValueError(f"layer: expected one of {', '.join(names)}, got {layer!r}")
        return layer
    forward = [name for name in names if not name.endswith("_reverse")] or list(names)
    return forward[one_index("layer", layer, len(forward), "a name, a number or None")]


def place_of(module: Any, layer: Any) -> Place:
    """Find a layer and direction of an LSTM or a network; see `layer_name`. ValueError, IndexError or TypeError."""
    if not isinstance(module, (LSTM, Network)):
        hint = "; its network_ is one" if hasattr(module, "network_") else ""
        raise TypeError(f"network: expected a Network or an LSTM, got {type(module).__name__}{hint}")
    modules = tuple(module) if isinstance(module, Network) else (module,)
    lstms = [(index, each) for index, each in enumerate(modules) if isinstance(each, LSTM)]
    if not lstms:
        raise ValueError(f"network: expected one with an LSTM, got {module!r}")
    name = layer_name([name for names in module._trace_names for name in names], layer)
    for number, ((index, lstm), names) in enumerate(zip(lstms, module._trace_names, strict=True)):
        if name in names:
            return Place(name, index, number, names.index(name), lstm)
    raise AssertionError(name)


def check_one_member(network: SequenceModule[Any]) -> None:
    """Raise ValueError if a network has several members."""
    if network._members is not None:
        raise ValueError(
            f"network: expected one of one member, got one of {network._members}; network.member(m) is one of them"
        )


def unit_numbers(name: str, units: Any, count: int) -> list[int]:
    """Read one unit or several, from 0 to ``count - 1`` or from the end if negative; each once, in the order given.

    Raises
    ------
    IndexError, ValueError, TypeError
        If there is no such unit, or the argument is neither an int nor a sequence of them.
    """
    if isinstance(units, (str, bytes, bool, np.bool_)) or units is None:
        raise TypeError(f"{name}: expected an int or a sequence of ints, got {type(units).__name__}")
    numbers = integer_array(name, list(units) if isinstance(units, (range, set, frozenset)) else units)
    if numbers.ndim > 1:
        raise ValueError(f"{name}: expected an int or a sequence of ints, got an array {shape_text(numbers.shape)}")
    return list(dict.fromkeys(one_index(name, number, count) for number in numbers.reshape(-1).tolist()))


def step_numbers(name: str, step: Any, rows: int, steps: int, last: int) -> Array:
    """Read one step for all rows, (), or one for each, (N,): from 0 to ``last``, negative ones from ``steps`` back."""
    numbers = integer_array(name, step)
    if numbers.shape not in ((), (rows,)):
        raise ValueError(f"{name}: expected an int or one for each row, ({rows},), got {shape_text(numbers.shape)}")
    wrong = (numbers < -steps) | (numbers > last)
    if wrong.any():
        got = numbers[wrong].reshape(-1)[0]
        raise IndexError(f"{name}: expected {-steps} to {last} for {steps} steps, got {got}")
    return np.where(numbers < 0, numbers + steps, numbers)


def one_index(name: str, value: Any, count: int, kind: str = "an int") -> int:
    """Read an int from 0 to ``count - 1``, or from the end if it is negative. IndexError or TypeError."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected {kind}, got bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {kind}, got {type(value).__name__}") from None
    if not -count <= number < count:
        raise IndexError(f"{name}: expected {-count} to {count - 1}, got {number}")
    return number % count
