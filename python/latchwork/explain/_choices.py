"""Which layer, steps, rows, members and units a user asks for: the checks that all of `latchwork.explain` shares."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import as_array, integer_array, shape_text
from latchwork.trace import Trace, names_by_number

if TYPE_CHECKING:
    from latchwork._arrays import Array

    Choice = int | Array | slice  # one place on an axis, several, or all


def checked_trace(trace: Any, name: str = "trace", alternative: str = "") -> Trace[Any]:
    """Raise TypeError unless this is a whole trace. ``alternative``: what else could have been given."""
    if not isinstance(trace, Trace):
        raise TypeError(
            f"{name}: expected a Trace, as module.trace(x) returns it{alternative}, got {type(trace).__name__}; "
            "layer= names one of its layers"
        )
    return trace


def layer_name(names: Collection[str], layer: Any) -> str:
    """Read a layer and direction of a trace, or of such names; None: the first.

    It is given by name, or by number as ``trace[number]`` takes it.

    Raises
    ------
    ValueError, IndexError, TypeError
        If there is none of that name or number, or it is neither.
    """
    if isinstance(layer, str) and names:
        if layer not in names:
            raise ValueError(f"layer: expected one of {', '.join(names)}, got {layer!r}")
        return layer
    numbered = names_by_number(names)
    if not numbered:
        raise ValueError(f"layer: expected one of an LSTM, but the network has no LSTM, got {layer!r}")
    return numbered[position("layer", 0 if layer is None else layer, len(numbered), "str or int")]


def position(name: str, value: Any, size: int, expected: str = "int") -> int:
    """Read an index into ``size`` things, from the end if it is negative. TypeError or IndexError."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected {expected}, got bool")
    try:
        index = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}") from None
    if not -size <= index < size:
        raise IndexError(f"{name}: expected {_bounds(size, size - 1)}, got {index}")
    return index % size


def check_none(name: str, value: Any, reason: str) -> None:
    """Raise ValueError if a choice was made where there is none."""
    if value is not None:
        raise ValueError(f"{name}: expected None, because {reason}, got {value!r}")


def positions(name: str, value: Any, size: int, expected: str = "int, a sequence of int or None") -> Choice:
    """Read one index or several; None: all. TypeError or IndexError."""
    if value is None:
        return slice(None)
    if hasattr(value, "__array__") and (array := as_array(name, value)).ndim == 1:
        value = list(array)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return np.array([position(f"{name}[{place}]", each, size) for place, each in enumerate(value)], dtype=np.intp)
    return position(name, value, size, expected)


def unit_numbers(name: str, units: Any, count: int) -> list[int]:
    """Read one unit or several, each once, in the order given. IndexError or TypeError."""
    expected = "int or a sequence of int"
    if units is None:
        raise TypeError(f"{name}: expected {expected}, got NoneType")
    chosen = positions(name, list(units) if isinstance(units, (set, frozenset)) else units, count, expected)
    return list(dict.fromkeys(np.arange(count)[chosen].reshape(-1).tolist()))


def some_units(name: str, units: Any, count: int) -> list[int]:
    """Read which units to go through; None: all. ValueError if there is none, IndexError or TypeError."""
    numbers = unit_numbers(name, range(count) if units is None else units, count)
    if not numbers:
        raise ValueError(f"{name}: expected at least one, got none")
    return numbers


def positions_of_rows(name: str, value: Any, rows: int, size: int, last: int | None = None) -> Array:
    """Read an index into ``size`` things for all rows, (), or one for each, (N,), from the end if it is negative.

    ``last`` is the largest, by default ``size - 1``. ValueError, IndexError or TypeError.
    """
    last = size - 1 if last is None else last
    numbers = integer_array(name, value)
    if numbers.shape not in ((), (rows,)):
        raise ValueError(f"{name}: expected an int or one for each row, ({rows},), got {shape_text(numbers.shape)}")
    for got in numbers[(numbers < -size) | (numbers > last)].flat:
        raise IndexError(f"{name}: expected {_bounds(size, last)}, got {got}")
    return np.where(numbers < 0, numbers + size, numbers)


def of_member(array: Array, rank: int, member: Any) -> Array:
    """Choose a member of an array; if it has no more than ``rank`` axes, all members share it."""
    return np.asarray(array[member]) if array.ndim > rank else array


def direction_activations(options: Mapping[str, Any], layer: str) -> Mapping[str, Any]:
    """Give the activations by gate of a layer and direction, from the core's options of its LSTM."""
    activations: Mapping[str, Any] = options["activations"][-1 if layer.endswith("_reverse") else 0]
    return activations


def _bounds(size: int, last: int) -> str:
    return f"{-size} to {last}" if last >= 0 else "an index, but there are none to choose from"
