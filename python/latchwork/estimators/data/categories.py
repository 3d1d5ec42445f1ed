"""Categorical columns as codes: a value's code is its place among the sorted values of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.frames import is_missing, numbered

if TYPE_CHECKING:
    from latchwork._arrays import Array


def category_columns(
    categorical: Any, names: tuple[str, ...] | None, static_names: tuple[str, ...] | None, features: int, static: int
) -> list[int]:
    """Find the numbers of the columns that were called categorical, by name or number, the static ones included."""
    if categorical is None:
        return []
    if isinstance(categorical, str) or not isinstance(categorical, (Sequence, np.ndarray)):
        raise TypeError(f"categorical: expected a list of columns' names or numbers, got {type(categorical).__name__}")
    size = features + static
    named = dict(zip(names or (), range(features), strict=False))
    for place, name in enumerate(static_names or ()):
        named.setdefault(name, features + place)
    columns = set()
    for each in categorical:
        if isinstance(each, (int, np.integer)) and not isinstance(each, bool):
            if not 0 <= each < size:
                raise ValueError(f"categorical: expected columns from 0 to {size - 1}, got {each}")
            columns.add(int(each))
        elif each in named:
            columns.add(named[each])
        else:
            known = ", ".join(map(repr, named)) or "no names"
            raise ValueError(f"categorical: expected columns of X, got {each!r}; there are {known}")
    return sorted(columns)


def find_categories(column: Array, label: str) -> list[Any]:
    """Give the different values of a column in order, and None behind them if some are missing."""
    if column.dtype.kind not in "biufO":
        raise TypeError(f"X: expected texts, or numbers, in {label}, which is categorical, got dtype {column.dtype}")
    values, _ = numbered("X", column)
    found = {value.item() if isinstance(value, np.generic) else value for value in values if not is_missing(value)}
    if not all(isinstance(value, str) for value in found) and not all(
        isinstance(value, (bool, int, float)) for value in found
    ):
        got = ", ".join(sorted({type(value).__name__ for value in found}))
        raise TypeError(f"X: expected texts, or numbers, in {label}, which is categorical, got {got}")
    return [*sorted(found), None] if any(map(is_missing, values)) else sorted(found)


def encode(column: Array, categories: list[Any], label: str, place: Callable[[int], str]) -> Array:
    """Give the code of each value. ValueError for a value that training did not have.

    Parameters
    ----------
    column : ndarray
        (steps,)
    categories : list
        What `find_categories` gave.
    label : str
        The column in words.
    place : callable
        Says in words where a step was given.
    """
    code_of = {value: code for code, value in enumerate(categories)}
    unique, inverse = numbered("X", column)
    codes = np.array([code_of.get(None if is_missing(value) else value, -1) for value in unique], np.int64)[inverse]
    unknown = codes < 0
    if unknown.any():
        step = int(np.argmax(unknown))
        value = unique[int(inverse[step])]
        got = "a missing value" if is_missing(value) else repr(value)
        raise ValueError(
            f"X: expected one of the {len(categories)} categories that {label} had in training, got {got} in "
            f"{place(step)}"
        )
    return codes
