"""The target of a table: one for each sequence or each row, numbers or classes, by what its column holds."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latchwork.cli.columns import Array, Column
from latchwork.cli.errors import CommandError
from latchwork.cli.table_sequences import TableSequences

Task = Literal["regression", "classification"]

# A target of integers is classes if there are at most so many, and so many times as many targets.
MOST_CLASSES = 20
TARGETS_OF_A_CLASS = 3


class Target(NamedTuple):
    """What is to be predicted.

    ``values`` are numbers, of which missing ones are NaN, or numbers of ``classes``, of which missing ones are -1; one
    for each of ``rows``, which are all rows of the table or one of each sequence.
    """

    task: Task
    task_reason: str
    per_step: bool
    per_step_reason: str
    rows: NDArray[np.int64]
    values: Array
    classes: list[Any]

    def take(self, places: Any) -> Target:
        """Give some of the targets."""
        return self._replace(rows=self.rows[places], values=self.values[places])

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which of them are not missing."""
        known: NDArray[np.bool_] = self.values >= 0 if self.classes else ~np.isnan(self.values)
        return known


def target_of(sequences: TableSequences, name: str, task: Task | None) -> Target:
    """Say what a column is as a target.

    Parameters
    ----------
    sequences
        With this column.
    name
        The column's.
    task
        What it is to be; None: classification if it holds words or few different integers, else regression.

    Raises
    ------
    CommandError
        If there is no such column, it holds nothing, or what it holds is no target, or none for this task.
    """
    table = sequences.table
    column = table.column(name)
    if column.kind == "time":
        raise CommandError(f"{table.name}: column {name!r}: expected numbers or words as targets, got dates")
    missing = column.missing()
    if missing.all():
        raise CommandError(f"{table.name}: column {name!r}: expected targets, got none")
    changes = _first_change(sequences, column, missing)
    if len(sequences) == 1:
        rows, per_step, reason = np.arange(len(table)), True, "there is one series"
    elif changes is not None:
        rows, per_step, reason = np.arange(len(table)), True, f"they differ within a sequence ({changes})"
    else:
        # The first row that says it; that of a sequence without a target says that it has none.
        order = np.lexsort((np.arange(len(table)), missing, _sequence_numbers(sequences)))
        rows, per_step, reason = order[sequences.offsets[:-1]], False, "they are equal in all rows of a sequence"
    if column.texts is not None:
        found, why, values, classes = _words(column.take(rows), task, lambda row: table.place(int(rows[row]), name))
    else:
        found, why, values, classes = _numbers(column.take(rows), task, lambda row: table.place(int(rows[row]), name))
    return Target(found, why, per_step, reason, rows, values, classes)


def _first_change(sequences: TableSequences, column: Column, missing: NDArray[np.bool_]) -> str | None:
    """Say where a sequence has another value than before in the same sequence; None: nowhere."""
    known = np.flatnonzero(~missing)
    values, numbers = column.values[known], _sequence_numbers(sequences)[known]
    changed = np.flatnonzero((values[1:] != values[:-1]) & (numbers[1:] == numbers[:-1]))
    if not len(changed):
        return None
    table = sequences.table
    return f"{table.place_word} {table.places[known[changed[0] + 1]]} is the first that does"


def _sequence_numbers(sequences: TableSequences) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sequences)), sequences.lengths)


def _words(column: Column, task: Task | None, place: Any) -> tuple[Task, str, Array, list[Any]]:
    assert column.texts is not None
    missing = column.missing()
    if task == "regression":
        row = int(np.flatnonzero(~missing)[0])
        raise CommandError(f"{place(row)}: expected a number, as --task regression needs, got {column.shown(row)!r}")
    words = sorted(column.texts[code] for code in np.unique(column.values[~missing]).tolist())
    place_of = {word: code for code, word in enumerate(words)}
    codes = np.array([place_of.get(text, -1) for text in column.texts], np.int64)
    reason = f"the column holds {len(words)} different words" if task is None else "--task says so"
    return "classification", reason, codes[column.values], list(words)


def _numbers(column: Column, task: Task | None, place: Any) -> tuple[Task, str, Array, list[Any]]:
    values, missing = column.values, column.missing()
    different = np.unique(values[~missing])
    whole = different == np.trunc(different)
    few = len(different) <= MOST_CLASSES and TARGETS_OF_A_CLASS * len(different) <= int((~missing).sum())
    reason = "--task says so"
    if task is None:
        task = "classification" if few and whole.all() else "regression"
        kind = "whole numbers" if whole.all() else "numbers"
        count = f"the column holds {len(different):,} different {kind}"
        reason = f"{count}; --task regression predicts numbers" if task == "classification" else count
    if task == "regression":
        return task, reason, values, []
    if not whole.all():
        row = int(np.flatnonzero(values == different[~whole][0])[0])
        raise CommandError(
            f"{place(row)}: expected words or whole numbers, which classes are, got {column.shown(row)}; --categorical "
            "reads a column as words"
        )
    codes = np.full(len(values), -1, np.int64)
    codes[~missing] = np.searchsorted(different, values[~missing])
    return task, reason, codes, [int(each) for each in different]
