"""The order of the rows of frames in long form: sequence after sequence, each by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.frames import Table, is_missing

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
    if column.dtype.kind == "O":
        gaps = np.array([is_missing(value) for value in column.tolist()], bool)
    else:
        gaps = np.isnat(column) if column.dtype.kind in "Mm" else np.isnan(column)
    if gaps.any():
        raise ValueError(
            f"X: expected the name of a sequence in column {name!r}, got none in row {int(np.argmax(gaps))}"
        )
    if column.dtype.kind == "O":
        values = column.tolist()
        places = {value: place for place, value in enumerate(dict.fromkeys(values))}
        return list(places), np.fromiter((places[value] for value in values), np.int64, len(values))
    unique, first, inverse = np.unique(column, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    place_of = np.empty(len(unique), np.int64)
    place_of[by_appearance] = np.arange(len(unique))
    ordered = unique[by_appearance]
    return list(ordered) if column.dtype.kind in "Mm" else ordered.tolist(), place_of[inverse]


def _times(column: Array, name: Any, where: str) -> Array:
    """Read times as numbers that can be compared: those of a column of numbers, times, or ISO 8601 texts."""
    if column.dtype.kind == "O":
        values = []
        for row, value in enumerate(column.tolist()):
            try:
                values.append(np.datetime64("NaT") if is_missing(value) else np.datetime64(value))
            except (ValueError, TypeError):
                raise ValueError(
                    f"X: expected numbers, times, or texts such as 2025-01-31T12:00 in column {name!r}, got {value!r} "
                    f"in row {row}{where}"
                ) from None
        column = np.array(values, "M8[ns]")
    if column.dtype.kind not in "biufMm":
        raise TypeError(f"X: expected numbers or times in column {name!r}, got dtype {column.dtype}")
    if column.dtype.kind in "fMm":
        wrong = ~np.isfinite(column)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"X: expected a time in column {name!r}, got {column[row]} in row {row}{where}")
    return column


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
