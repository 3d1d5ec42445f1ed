"""Which layer, steps, rows, members and units a user asks for: the checks that all of `latchwork.explain` shares."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
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
    if isinstance(layer, str):
        if layer not in names:
            known = ", ".join(names) or "none, because the network has no LSTM"
            raise ValueError(f"layer: expected one of {known}, got {layer!r}")
        return layer
    numbered = names_by_number(names)
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
        bounds = f"{-size} to {size - 1}" if size else "an index, but there are none to choose from"
        raise IndexError(f"{name}: expected {bounds}, got {index}")
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
