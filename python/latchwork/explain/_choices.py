"""Which layer, step, row, member and units a user asks for: the checks that all of `latchwork.explain` shares."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.trace import Trace

if TYPE_CHECKING:
    from latchwork._arrays import Array

    Choice = int | Array | slice  # one place on an axis, several, or all


def checked_trace(trace: Any) -> Trace[Any]:
    """Raise TypeError unless this is a whole trace."""
    if not isinstance(trace, Trace):
        raise TypeError(
            f"trace: expected a Trace, as module.trace(x) returns it, got {type(trace).__name__}; "
            "layer= names one of its layers"
        )
    return trace


def layer_name(trace: Trace[Any], layer: Any) -> str:
    """Read a layer and direction: a name of the trace, or a number as ``trace[number]`` takes it."""
    if isinstance(layer, str):
        if layer not in trace:
            names = ", ".join(trace) or "none, because the network has no LSTM"
            raise ValueError(f"layer: expected one of {names}, got {layer!r}")
        return layer
    names_by_number = trace._names_by_number()
    return names_by_number[position("layer", layer, len(names_by_number), "str or int")]


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


def positions(name: str, value: Any, size: int) -> Choice:
    """Read one index or several; None: all. TypeError or IndexError."""
    if value is None:
        return slice(None)
    expected = "int, a sequence of int or None"
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = list(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return np.array([position(f"{name}[{place}]", each, size) for place, each in enumerate(value)], dtype=np.intp)
    return position(name, value, size, expected)
