"""The order of the rows of frames in long form: sequence after sequence, each by time."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.frames import Table, is_missing, numbered

if TYPE_CHECKING:
    from latchwork._arrays import Array


def long_order(table: Table, sequence: Any, time: Any) -> tuple[list[Any] | None, Array | None, Array]:
    """Find the sequences of a frame in long form.

    Parameters
    ----------
    table : Table
        Each row is one step.
    sequence : optional
        The column that says of which sequence; None: all rows are one.
    time : optional
        The column that orders the steps of a sequence; None: they come in the order of the rows.

    Returns
    -------
    ids : list or None
        What names the sequences, in the order of their first rows; None without ``sequence``.
    rows : ndarray of int64 or None
        The row of each step; None if the rows are in order already.
    offsets : ndarray of int64
        (n + 1,): where each sequence begins among the steps.
    """
    ids: list[Any] | None = None
    codes = np.zeros(table.rows, np.int64)
    if sequence is not None:
        ids, codes = _codes(table.column(sequence), sequence)
    counts = np.bincount(codes, minlength=1 if ids is None else len(ids))
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    if time is None:
        order = np.argsort(codes, kind="stable")
    else:
        order = _by_time(_times(table.column(time), time, ""), codes, time, "", ids)
    return ids, _unless_in_order(order), offsets


def time_order(tables: Sequence[Table], time: Any, offsets: Array) -> Array | None:
    """Find the order of the rows of frames that hold one sequence each; None if they are in order already."""
    orders = []
    for place, table in enumerate(tables):
        where = f" of X[{place}]"
        times = _times(table.column(time), time, where)
        orders.append(_by_time(times, np.zeros(len(times), np.int64), time, where, None) + offsets[place])
    return _unless_in_order(np.concatenate(orders))


def _unless_in_order(order: Array) -> Array | None:
    return None if (order == np.arange(len(order))).all() else order


def _codes(column: Array, name: Any) -> tuple[list[Any], Array]:
    """Give the names of the sequences in the order of first appearance, and for each row the place of its own."""
    unique, inverse = numbered("X", column)
    for place, value in enumerate(unique):
        if is_missing(value) or (isinstance(value, (np.datetime64, np.timedelta64)) and np.isnat(value)):
            row = int(np.argmax(inverse == place))
            raise ValueError(f"X: expected the name of a sequence in column {name!r}, got none in row {row}")
    first = np.full(len(unique), len(inverse))
    np.minimum.at(first, inverse, np.arange(len(inverse)))
    by_appearance = np.argsort(first, kind="stable")
    place_of = np.empty(len(unique), np.int64)
    place_of[by_appearance] = np.arange(len(unique))
    return [unique[place] for place in by_appearance.tolist()], place_of[inverse]


def _times(column: Array, name: Any, where: str) -> Array:
    """Read times as numbers that can be compared: those of a column of numbers, times, or ISO 8601 texts."""
    if column.dtype.kind == "O":
        unique, inverse = numbered("X", column)
        moments, zones = [], set()
        for place, value in enumerate(unique):
            try:
                moment, zone = _moment(value)
            except (ValueError, TypeError):
                raise ValueError(
                    f"X: expected numbers, times, or texts such as 2025-01-31T12:00 in column {name!r}, got {value!r} "
                    f"in row {int(np.argmax(inverse == place))}{where}"
                ) from None
            moments.append(moment)
            zones |= zone
        if len(zones) > 1:
            raise ValueError(f"X: expected times that all have a zone or all have none in column {name!r}, got both")
        column = np.array(moments, "M8[us]")[inverse]
    if column.dtype.kind not in "biufMm":
        raise TypeError(f"X: expected numbers or times in column {name!r}, got dtype {column.dtype}")
    if column.dtype.kind in "fMm":
        wrong = ~np.isfinite(column)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"X: expected a time in column {name!r}, got {column[row]} in row {row}{where}")
    return column


def _moment(value: Any) -> tuple[np.datetime64, set[bool]]:
    """Read a time, in UTC if it has a zone, and say whether it has one, unless it is missing."""
    if is_missing(value):
        return np.datetime64("NaT"), set()
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return np.datetime64(value), {False}  # a year, or a year and a month
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return np.datetime64(value.astimezone(datetime.UTC).replace(tzinfo=None)), {True}
    if not isinstance(value, (datetime.date, np.datetime64)):
        raise TypeError(value)
    return np.datetime64(value), {False}


def _by_time(times: Array, codes: Array, name: Any, where: str, ids: list[Any] | None) -> Array:
    """Sort rows by sequence and time. ValueError if a sequence has two rows of the same time."""
    order: Array = np.lexsort((times, codes))
    ordered, sequences = times[order], codes[order]
    same = (ordered[1:] == ordered[:-1]) & (sequences[1:] == sequences[:-1])
    if same.any():
        place = int(np.argmax(same))
        first, second = sorted((int(order[place]), int(order[place + 1])))
        which = "" if ids is None else f" of sequence {ids[sequences[place]]!r}"
        raise ValueError(
            f"X: expected different times{which} in column {name!r}, got {ordered[place]} in rows {first} and "
            f"{second}{where}"
        )
    return order
