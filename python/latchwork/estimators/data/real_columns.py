"""Columns of whatever dtype as real numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.frames import is_missing
from latchwork.estimators.data.preparation import extent

if TYPE_CHECKING:
    from latchwork._arrays import Array


# Numbers that lie so few steps of the dtype apart cannot be told from rounding.
_LEAST_STEPS = 1024


def converted(array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert an array of real numbers; what is too large becomes infinite. C-contiguous, and no copy if it was so."""
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array, dtype)


def infinity(name: str, value: Any, dtype: np.dtype[Any], place: str) -> str:
    """Write the message about a value that is infinite, or is so in the dtype."""
    if np.isinf(value):
        return f"{name}: expected finite numbers or NaN, got {value} in {place}"
    return f"{name}: expected numbers in the range of {dtype}, got {value} in {place}"


def real_column(column: Array, dtype: np.dtype[Any], place: Callable[[int], str], name: str) -> Array:
    """Convert one column of numbers, or of objects that are numbers or missing, which become NaN.

    Parameters
    ----------
    column : ndarray
        (rows,)
    dtype : numpy.dtype
        float32 or float64.
    place : callable
        Says in words where the value of a row was given.
    name : str
        What the values belong to.

    Raises
    ------
    ValueError, TypeError
        If a value is infinite, out of the dtype's range, or no number.
    """
    if column.dtype.kind == "O":
        column = _object_numbers(column, place, name)
    if column.dtype.kind not in "biuf":
        hint = _text_hint(name) if column.dtype.kind == "U" else ""
        raise TypeError(f"{name}: expected numbers, got dtype {column.dtype} in {place(0)}{hint}")
    values = converted(column, dtype)
    infinite = np.isinf(values)
    if infinite.any():
        step = int(np.argmax(infinite))
        raise ValueError(infinity(name, column[step], dtype, place(step)))
    return values


def _text_hint(name: str) -> str:
    """Say who takes texts where numbers were expected."""
    if name in ("X", "static"):
        return "; columns of categories are named in categorical="
    return "; labels are for a classifier" if name == "y" else ""


def _object_numbers(column: Array, place: Callable[[int], str], name: str) -> Array:
    """Convert objects as scikit-learn would: what float() reads is a number."""
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        pass  # one after the other, to name the one that is no number
    numbers = np.empty(len(column))
    for step, value in enumerate(column.tolist()):
        try:
            numbers[step] = np.nan if is_missing(value) else float(value)
        except (TypeError, ValueError, OverflowError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            hint = _text_hint(name) if isinstance(value, str) else ""
            raise kind(f"{name}: expected numbers, got {value!r} in {place(step)}: {error}{hint}") from None
    return numbers


def all_held(arrays: Iterable[Array], dtype: np.dtype[Any]) -> bool:
    """Say whether the dtype holds all numbers of the dtypes of these arrays."""
    return all(np.promote_types(each, dtype) == dtype for each in {array.dtype for array in arrays})


def warn_of_lost_digits(
    values: Array, column: Callable[[int], Array | None], text: Callable[[int], str], *, stacklevel: int
) -> None:
    """Warn if numbers that differ are equal, or nearly so, in the dtype they were converted to.

    Parameters
    ----------
    values : ndarray of float32 or float64
        (rows, columns): the numbers as they were converted.
    column : callable
        Gives a column as it was before; None: it is no column of numbers.
    text : callable
        Names a column in words.
    stacklevel : int
        As for `warnings.warn`, counted from here.
    """
    if values.dtype != np.float32:
        return  # there is no wider dtype to advise
    _, least, most = extent(values)
    apart = np.spacing(np.maximum(np.abs(least), np.abs(most)).astype(values.dtype))
    for place in np.flatnonzero((most - least < _LEAST_STEPS * apart) & (least <= most)).tolist():
        given = column(place)
        if given is not None and given.dtype.kind != "O" and np.fmin.reduce(given) < np.fmax.reduce(given):
            warnings.warn(
                f"{text(place)} lies between {least[place]:.9g} and {most[place]:.9g}, where numbers of float32 are "
                f'{apart[place]:.3g} apart; subtract an offset, or use dtype="float64"',
                UserWarning,
                stacklevel=stacklevel,
            )
