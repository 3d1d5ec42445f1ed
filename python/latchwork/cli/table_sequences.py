"""The sequences in a table: its rows grouped, and ordered by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latchwork.cli.columns import Array, Table
from latchwork.cli.errors import CommandError

_MICROSECONDS = (("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000))


@dataclass(frozen=True)
class TableSequences:
    """The rows of a table, one sequence after the other in the order of their first rows, each by time.

    ``offsets`` (n + 1,) says where each sequence begins.
    """

    table: Table
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The steps of each sequence (n,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        """Count the sequences."""
        return len(self.offsets) - 1

    def take(self, sequences: Any) -> TableSequences:
        """Give some of the sequences, by their numbers in ascending order or a boolean of each."""
        chosen = np.zeros(len(self), bool)
        chosen[sequences] = True
        rows = np.repeat(chosen, self.lengths)
        return TableSequences(self.table.take(rows), _offsets(self.lengths[chosen]))

    def between(self, first: int, last: int) -> TableSequences:
        """Give the sequences from ``first`` to before ``last``."""
        begin, end = self.offsets[first], self.offsets[last]
        return TableSequences(self.table.take(slice(begin, end)), self.offsets[first : last + 1] - begin)

    def part(self, rows: Any) -> TableSequences:
        """Give some rows of one sequence, which stay one."""
        table = self.table.take(rows)
        return TableSequences(table, _offsets([len(table)]))

    def keep(self, rows: NDArray[np.bool_]) -> TableSequences:
        """Give the same sequences without some of their rows."""
        counts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(rows, out=counts[1:])
        return TableSequences(self.table.take(rows), counts[self.offsets])


def sequences_of(table: Table, sequence: str | None, time: str | None) -> TableSequences:
    """Group the rows by the texts in the column ``sequence``, and order them by the column ``time``.

    Parameters
    ----------
    table
        Its columns ``sequence`` and ``time`` were read as texts and times.
    sequence
        None: all rows are one sequence.
    time
        None: they stay in their order.

    Raises
    ------
    CommandError
        If a row is of no sequence, or two rows of one have the same time.
    """
    codes: Array = np.zeros(len(table), np.int64)
    if sequence is not None:
        column = table.column(sequence)
        missing = np.flatnonzero(column.missing())
        if len(missing):
            place = table.place(int(missing[0]), sequence)
            raise CommandError(f"{place}: expected the name of a sequence, got nothing")
        codes = _by_first_appearance(column.values)
    count = int(codes.max(initial=0)) + 1
    offsets = _offsets(np.bincount(codes, minlength=count))
    if time is None:
        order = np.argsort(codes, kind="stable")
    else:
        times = table.column(time).values
        order = np.lexsort((times, codes))
        same = (np.diff(times[order]) == np.zeros(1, np.diff(times[:1]).dtype)) & (np.diff(codes[order]) == 0)
        if same.any():
            _refuse_same_time(table, sequence, time, order[np.flatnonzero(same)[0] + np.arange(2)])
    in_order = bool((order[1:] > order[:-1]).all())
    return TableSequences(table if in_order else table.take(order), offsets)


def gaps_in_time(sequences: TableSequences, time: str) -> str | None:
    """Say where steps are missing of a table whose rows are mostly at equal distances in time; None if none are."""
    table, offsets = sequences.table, sequences.offsets
    times = table.column(time).values
    if len(times) < 2:
        return None
    steps = np.diff(times)
    steps = steps.astype(np.int64) if steps.dtype.kind == "m" else steps
    within = np.ones(len(steps), bool)
    within[offsets[1:-1] - 1] = False
    different, counts = np.unique(steps[within], return_counts=True)
    if not len(counts) or 2 * counts.max() <= within.sum():
        return None  # there is no distance that most rows have
    usual = different[counts.argmax()]
    gaps = np.flatnonzero(within & (steps > 1.5 * usual))
    if not len(gaps):
        return None
    row = int(gaps[0]) + 1
    in_words = _duration if times.dtype.kind == "M" else "{:g}".format
    return (
        f"{table.place_word} {table.places[row]}, column {time!r}: {in_words(steps[row - 1])} after the row before it, "
        f"where most rows are {in_words(usual)} apart"
        + (f"; {len(gaps):,} such gaps" if len(gaps) > 1 else "")
        + "; each row is one step all the same"
    )


def _refuse_same_time(table: Table, sequence: str | None, time: str, rows: Array) -> None:
    first, second = sorted(rows.tolist())
    value = table.column(time).shown(second)
    which = "" if sequence is None else f" within sequence {table.column(sequence).shown(second)!r}"
    advice = "; --sequence names the column that tells sequences apart" if sequence is None else ""
    raise CommandError(
        f"{table.place(second, time)}: expected different times{which}, got {value} as in {table.place_word} "
        f"{table.places[first]}{advice}"
    )


def _by_first_appearance(values: Array) -> Array:
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[codes]


def _offsets(lengths: Any) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _duration(microseconds: int) -> str:
    """Say how long something is in the largest unit that it has one of."""
    for unit, size in _MICROSECONDS:
        if microseconds >= size:
            count = microseconds / size
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{microseconds / 1e6:g} seconds"
