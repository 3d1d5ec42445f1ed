"""What is to be learned of a table: its inputs, its targets and the part that is held out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latchwork.cli.columns import Array, Kind, Table
from latchwork.cli.csv_input import shortened
from latchwork.cli.errors import CommandError
from latchwork.cli.table_sequences import TableSequences, gaps_in_time, sequences_of
from latchwork.cli.table_target import Target, Task, target_of
from latchwork.cli.tables import read_columns

# A column of texts is an input, a category, if there are at most so many different ones.
MOST_CATEGORIES = 100

FEWEST_SEQUENCES = 3
FEWEST_ROWS = 10
HELD_OUT = 10  # one part in so many

_ROW_BEFORE = " (row before)"


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; what is None is chosen by what the table holds."""

    target: str
    sequence: str | None = None
    time: str | None = None
    task: Task | None = None
    categorical: tuple[str, ...] = ()
    own_past: bool | None = None
    missing: str | None = None
    bidirectional: bool | None = None


class Part(NamedTuple):
    """Sequences and targets as ``fit`` takes them."""

    X: Any
    y: Any


@dataclass(frozen=True)
class Problem:
    """A table, ready to be learned.

    Attributes
    ----------
    wanted
        What the user asked for.
    sequences
        The rows that are used, in order.
    inputs
        The columns that the model reads by name; those of texts are categories.
    target
        One for each row of ``sequences``, or one for each sequence.
    own_past
        Whether the model reads the target of the row before.
    training, held_out
        What is learned and what the score is of: numbers of sequences or, of one series, of rows.
    notes
        What the user should know of the table, each a line.
    """

    wanted: Wanted
    sequences: TableSequences
    inputs: tuple[str, ...]
    target: Target
    own_past: bool
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)

    @property
    def one_series(self) -> bool:
        """Whether there is but one sequence, so that its end is held out rather than whole sequences."""
        return len(self.sequences) == 1

    @property
    def categorical(self) -> list[str]:
        """The inputs that are categories."""
        return [name for name in self.inputs if self.sequences.table.column(name).kind == "text"]

    @property
    def has_gaps(self) -> bool:
        """Whether numbers are missing among the inputs, in what is held out too."""
        columns = [self.sequences.table.column(name) for name in self.inputs]
        return any(column.kind == "number" and bool(column.missing().any()) for column in columns)

    def training_part(self) -> Part:
        """Give what is learned."""
        sequences = self.sequences.part(self.training) if self.one_series else self.sequences.take(self.training)
        X = as_input(sequences, self.inputs, self.wanted.sequence, self.wanted.time)
        target = self.target.take(self.places(self.training))
        if target.task == "regression":
            return Part(X, self._in_form(target.values))
        plain = target.known.all() and not isinstance(target.classes[0], str)
        labels = np.array([*target.classes, None], object)[target.values]  # the last one where a label is missing
        return Part(X, self._in_form(labels.astype(np.int64) if plain else labels))

    def places(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the places among the targets of `training` or `held_out`."""
        return self.rows(part) if self.target.per_step else part

    def rows(self, part: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the rows of `training` or `held_out`."""
        if self.one_series:
            return part
        chosen = np.zeros(len(self.sequences), bool)
        chosen[part] = True
        return np.flatnonzero(np.repeat(chosen, self.sequences.lengths))

    def _in_form(self, values: Array) -> Any:
        """Give what stands beside X in the form that X has: a list if X is one."""
        return [values] if self.wanted.sequence is None else values


def as_input(sequences: TableSequences, inputs: tuple[str, ...], sequence: str | None, time: str | None) -> Any:
    """Give sequences as the estimators take them: one frame in long form or, without ``sequence``, a list of one."""
    table = sequences.table
    roles = [name for name in (sequence, time) if name is not None]
    frame = table.with_columns({name: table.column(name) for name in (*roles, *inputs)})
    return [frame] if sequence is None else frame


def past_name(target: str) -> str:
    """Name the input that holds the target of the row before."""
    return target + _ROW_BEFORE


def target_of_past(name: str) -> str | None:
    """Give the target whose past an input of this name holds; None for all other inputs."""
    return name.removesuffix(_ROW_BEFORE) if name.endswith(_ROW_BEFORE) else None


def with_past(sequences: TableSequences, target: str) -> tuple[TableSequences, NDArray[np.bool_]]:
    """Add the target of the row before as a column, and leave out the first row of each sequence, which has none.

    Returns
    -------
    TableSequences
        Without sequences that had but one row.
    ndarray of bool
        Which of the rows are still there.
    """
    table = sequences.table
    column = table.column(target)
    before = column._replace(values=np.roll(column.values, 1))
    columns = {name: table.column(name) for name in table.columns}
    kept = np.ones(len(table), bool)
    kept[sequences.offsets[:-1][sequences.lengths > 0]] = False
    wider = TableSequences(table.with_columns({**columns, past_name(target): before}), sequences.offsets)
    longer = wider.keep(kept)
    return longer.take(longer.lengths > 0), kept


def read_problem(path: str, wanted: Wanted) -> Problem:
    """Read a table, and decide what is to be learned of it. The same table and wishes always give the same.

    Raises
    ------
    CommandError
        If the table cannot be read, or if there is nothing to learn from it.
    """
    _check_roles(wanted)
    kinds: dict[str, Kind] = dict.fromkeys(wanted.categorical, "text")
    if wanted.sequence is not None:
        kinds[wanted.sequence] = "text"
    if wanted.time is not None:
        kinds[wanted.time] = "time"
    table = read_columns(path, kinds)
    table.column(wanted.target)
    sequences = sequences_of(table, wanted.sequence, wanted.time)
    notes = [f"column {name!r} is left out: {reason}" for name, reason in table.left_out.items()]
    gaps = None if wanted.time is None else gaps_in_time(sequences, wanted.time)
    notes += [] if gaps is None else [gaps]
    target = target_of(sequences, wanted.target, wanted.task)
    inputs = _inputs(table, wanted, notes)
    own_past = _own_past(wanted, target, inputs, table.name, len(sequences) == 1)
    if own_past:
        sequences, kept = with_past(sequences, wanted.target)
        target = target.take(kept)
        inputs = (*inputs, past_name(wanted.target))
    _check_missing_inputs(sequences.table, inputs, wanted, notes)
    sequences, target = _with_known_targets(sequences, target, wanted.target, notes)
    training, held_out = _split(sequences, target, table.name)
    problem = Problem(wanted, sequences, inputs, target, own_past, training, held_out, notes)
    _check_variety(problem)
    return _without_new_categories(problem)


def _check_roles(wanted: Wanted) -> None:
    roles = {"--target": wanted.target, "--sequence": wanted.sequence, "--time": wanted.time}
    given = [(option, name) for option, name in roles.items() if name is not None]
    for place, (option, name) in enumerate(given):
        for earlier, other in given[:place]:
            if name == other:
                raise CommandError(f"{option}: expected another column than that of {earlier}, got {name!r}")
        if option != "--target" and name in wanted.categorical:
            raise CommandError(f"--categorical: expected inputs or the target, got {name!r}, the column of {option}")


def _inputs(table: Table, wanted: Wanted, notes: list[str]) -> tuple[str, ...]:
    """Choose the columns that are inputs, and note why others are not."""
    inputs = []
    for name in table.columns:
        if name in (wanted.target, wanted.sequence, wanted.time):
            continue
        column = table.column(name)
        if column.kind == "time":
            notes.append(f"column {name!r} is left out: it holds dates, which are no inputs")
        elif column.texts is not None and name not in wanted.categorical and len(column.texts) > MOST_CATEGORIES:
            notes.append(
                f"column {name!r} is left out: it holds {len(column.texts):,} different texts; --categorical makes an "
                "input of it"
            )
        else:
            inputs.append(name)
    return tuple(inputs)


def _own_past(wanted: Wanted, target: Target, inputs: tuple[str, ...], table: str, one_series: bool) -> bool:
    """Decide whether the model reads the target of the row before."""
    if wanted.own_past and not target.per_step:
        raise CommandError(f"--own-past: expected targets that differ within a sequence, got {wanted.target!r}")
    if wanted.own_past and wanted.bidirectional:
        raise CommandError(
            "--own-past: a model that reads backward too would read the very target; leave out one of both"
        )
    own_past = wanted.own_past
    if own_past is None and not wanted.bidirectional:
        own_past = target.per_step and (not inputs or (one_series and target.task == "regression"))
    if not inputs and not own_past:
        raise CommandError(f"{table}: expected a column of inputs beside {wanted.target!r}, got none")
    return bool(own_past)


def _check_missing_inputs(table: Table, inputs: tuple[str, ...], wanted: Wanted, notes: list[str]) -> None:
    """Note how many inputs are missing, and where the first one is; or refuse it, if that is wanted."""
    counts = {name: table.column(name).missing() for name in inputs}
    some = {name: missing for name, missing in counts.items() if missing.any()}
    if not some:
        return
    row, name = min((int(np.argmax(missing)), name) for name, missing in some.items())
    if wanted.missing == "refuse":
        raise CommandError(
            f"{table.place(row, name)}: expected a value, got nothing; --missing says what to do without"
        )
    total = sum(int(missing.sum()) for missing in some.values())
    columns = f"{len(some)} columns" if len(some) > 1 else f"column {name!r}"
    instead = {"mean": "the mean of a number stands for it", "zero": "0 stands for a number"}
    notes.append(
        f"{total:,} values are missing in {columns}, the first in {table.place_word} {table.places[row]}: "
        + instead.get(wanted.missing or "forward", "a number is carried forward")
    )


def _with_known_targets(
    sequences: TableSequences, target: Target, name: str, notes: list[str]
) -> tuple[TableSequences, Target]:
    """Leave out sequences without a target; rows without one stay, because the rows after them read their inputs."""
    known = target.known
    if known.all():
        return sequences, target
    table = sequences.table
    count, first = int((~known).sum()), int(np.argmin(known))
    row = first if target.per_step else int(sequences.offsets[first])
    things = ("row" if target.per_step else "sequence") + ("" if count == 1 else "s")
    notes.append(
        f"{count:,} {things} without a value in column {name!r}, the first in {table.place_word} {table.places[row]}: "
        "left out of training and score"
    )
    return (sequences, target) if target.per_step else (sequences.take(known), target.take(known))


def _split(sequences: TableSequences, target: Target, table: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out the last tenth: of the rows of one series, of the sequences, or of the sequences of each class."""
    if len(sequences) <= 1:
        rows = int(sequences.offsets[-1])
        if rows < FEWEST_ROWS:
            raise CommandError(f"{table}: expected at least {FEWEST_ROWS} rows of one series, got {rows}")
        places = np.arange(rows)
        return places[: rows - rows // HELD_OUT], places[rows - rows // HELD_OUT :]
    if len(sequences) < FEWEST_SEQUENCES:
        raise CommandError(f"{table}: expected at least {FEWEST_SEQUENCES} sequences, got {len(sequences)}")
    held = np.zeros(len(sequences), bool)
    if target.per_step or target.task == "regression":
        held[-max(len(sequences) // HELD_OUT, 1) :] = True
    else:
        for code in range(len(target.classes)):
            places = np.flatnonzero(target.values == code)
            if len(places) > 1:
                held[places[-max(len(places) // HELD_OUT, 1) :]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _check_variety(problem: Problem) -> None:
    """Raise CommandError if there is nothing to learn, or nothing to measure it with."""
    table, name = problem.sequences.table.name, problem.wanted.target
    training = problem.target.take(problem.places(problem.training))
    different = np.unique(training.values[training.known])
    if len(different) < 2:
        raise CommandError(
            f"{table}: column {name!r}: expected at least two different targets to learn from, got {len(different)}"
        )
    if not problem.target.take(problem.places(problem.held_out)).known.any():
        raise CommandError(f"{table}: column {name!r}: expected a target in what is held out, the last part, got none")


def _without_new_categories(problem: Problem) -> Problem:
    """Leave out categories of which some are only in what is held out: a model cannot read what it has never seen."""
    sequences, wanted = problem.sequences, problem.wanted
    learned = problem.rows(problem.training)
    inputs, notes = list(problem.inputs), list(problem.notes)
    for name in problem.categorical:
        column = sequences.table.column(name)
        new = ~np.isin(column.values, column.values[learned])
        if not new.any():
            continue
        row = int(np.argmax(new))
        place, value = sequences.table.place(row, name), shortened(column.shown(row))
        if name in wanted.categorical or target_of_past(name) is not None:
            raise CommandError(f"{place}: expected a text that is not only in what is held out, got {value!r}")
        inputs.remove(name)
        where = f"{sequences.table.place_word} {sequences.table.places[row]}"
        notes.append(f"column {name!r} is left out: {value!r}, in {where}, is only in what is held out")
    if not inputs:
        raise CommandError(f"{sequences.table.name}: expected a column of inputs beside {wanted.target!r}, got none")
    return replace(problem, inputs=tuple(inputs), notes=notes)
