"""``latchwork predict``: what a regressor or a classifier says of the rows or sequences of a table."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from latchwork.cli.arguments import HelpFormatter
from latchwork.cli.columns import Array, Kind, Kinds, Table
from latchwork.cli.csv_input import shortened
from latchwork.cli.errors import CommandError
from latchwork.cli.models import load_model
from latchwork.cli.table_problem import as_input, target_of_past, with_past
from latchwork.cli.table_sequences import TableSequences, sequences_of
from latchwork.cli.tables import read_columns
from latchwork.estimators.classifier import LSTMClassifier
from latchwork.estimators.data.schema import Schema
from latchwork.estimators.sequence_estimator import SequenceEstimator

# Predictions are written after each so many rows, or after a longer sequence.
ROWS_AT_ONCE = 65536


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "predict",
        help="predict the rows or sequences of a table",
        description="Print as CSV what a regressor or a classifier predicts: for each row, or for each sequence, as "
        "the targets were in training. Sequences come in the order of their first rows, rows in that of the column of "
        "times, if the model has one. Columns are found by their names; others are passed over.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by latchwork train or save; - is standard input")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a CSV file with a line of names, or a Parquet file, with the columns of the training data; the target is "
        "needed only by a model that reads that of the row before. - is standard input, as CSV",
    )
    parser.add_argument("--proba", action="store_true", help="print the probabilities of the classes too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, read, predict and print, part by part."""
    if arguments.model == arguments.data == "-":
        raise CommandError("MODEL and DATA: expected at most one to be standard input, got - twice")
    model, name, _ = load_model(arguments.model)
    if not isinstance(model, SequenceEstimator):
        raise CommandError(f"{name}: expected a regressor or a classifier, got {type(model).__name__}")
    if arguments.proba and not isinstance(model, LSTMClassifier):
        raise CommandError(f"--proba: expected a classifier, got {type(model).__name__}")
    schema = model._learned.schema
    if schema.n_static:
        raise CommandError(f"{name}: expected a model without static features, which a table has no place for")
    table = _read(arguments.data, schema)
    reading = Reading(
        inputs=schema.names or tuple(each for each in table.columns if each not in (schema.sequence, schema.time)),
        sequence=schema.sequence,
        time=schema.time,
        past=None,
        per_step=model.head == "sequence",
        named=schema.names is not None,
    )
    past = next((target for each in reading.inputs if (target := target_of_past(each)) in table), None)
    reading = reading._replace(past=past)
    sequences = sequences_of(table, schema.sequence, schema.time)
    _check_values(reading.read(sequences).table, schema, reading.inputs, model.missing_)
    write = csv.writer(sys.stdout, lineterminator="\n").writerows
    roles = [each for each in (reading.sequence, reading.time if reading.per_step else None) if each is not None]
    write([[*roles, *_names(model, arguments.proba)]])
    for part in _parts(sequences):
        write(_lines(model, reading, part, roles, arguments.proba))
    return 0


class Reading(NamedTuple):
    """How a model reads a table."""

    inputs: tuple[str, ...]
    sequence: str | None
    time: str | None
    past: str | None  # the column whose value in the row before is an input, made here
    per_step: bool  # whether there is a prediction for each row
    named: bool  # whether the model knows its inputs by names

    def as_input(self, sequences: TableSequences) -> Any:
        """Give sequences as the model takes them."""
        if self.named:
            return as_input(sequences, self.inputs, self.sequence, self.time)
        return [np.stack([sequences.table[name] for name in self.inputs], axis=1)]

    def read(self, sequences: TableSequences) -> TableSequences:
        """Give what the model reads: with the target of the row before, without the first row of each sequence."""
        return sequences if self.past is None else with_past(sequences, self.past)[0]


def _read(path: str, schema: Schema) -> Table:
    """Read the columns that the model needs; all of them for one whose inputs have no names."""
    roles: dict[str, Kind] = {}
    if schema.sequence is not None:
        roles[schema.sequence] = "text"
    if schema.time is not None:
        roles[schema.time] = "time"
    if schema.names is None:
        table = read_columns(path, roles)
        if len(table.columns) - len(roles) != schema.n_features:
            raise CommandError(
                f"{table.name}: expected {schema.n_features} columns of inputs, got {len(table.columns) - len(roles)}"
            )
        return table
    inputs: dict[str, Kind] = {}
    for place, name in enumerate(schema.names):
        values = [value for value in schema.categories.get(place, ()) if value is not None]
        inputs[name] = "text" if values and isinstance(values[0], str) else "number"

    def asked(names: list[str]) -> Kinds:
        """Take, for a column that holds the target of the row before and is not there, that of the target."""
        past = {name: target_of_past(name) for name in inputs if name not in names}
        return {**roles, **{past.get(name) or name: kind for name, kind in inputs.items()}}

    return read_columns(path, asked, others=False)


def _check_values(table: Table, schema: Schema, inputs: tuple[str, ...], missing: str) -> None:
    """Raise CommandError for an input that the model cannot read: one that is missing, or an unknown category."""
    for place, name in enumerate(inputs):
        column = table.column(name)
        gaps = column.missing()
        wrong = gaps
        if place in schema.categories:
            known = schema.categories[place]
            if column.texts is not None:
                unknown = np.array([(text or None) not in known for text in column.texts], bool)
                wrong = unknown[column.values]
            else:
                numbers = np.array([value for value in known if value is not None], np.float64)
                wrong = ~np.isin(column.values, numbers) & ~(gaps if None in known else np.zeros(len(gaps), bool))
            expected = "one of the " + f"{len(known)} categories of training"
        elif missing == "refuse":
            expected = "a value, because the model was trained without missing ones"
        else:
            continue
        if wrong.any():
            row = int(np.argmax(wrong))
            got = "nothing" if gaps[row] else repr(shortened(column.shown(row)))
            raise CommandError(f"{table.place(row, name)}: expected {expected}, got {got}")


def _names(model: Any, proba: bool) -> list[str]:
    """Name the columns of the predictions."""
    if isinstance(model, LSTMClassifier):
        return ["prediction", *(f"probability_{label}" for label in model.classes_ if proba)]
    outputs = ["prediction"] if model.n_outputs_ == 1 else [f"prediction_{place}" for place in range(model.n_outputs_)]
    if model.quantiles is None:
        return outputs
    return [f"{output}_{quantile:g}" for output in outputs for quantile in model.quantiles]


def _parts(sequences: TableSequences) -> Iterator[TableSequences]:
    """Cut the sequences into parts of many rows each."""
    first = 0
    while first < len(sequences):
        enough = sequences.offsets[first] + ROWS_AT_ONCE
        last = max(int(np.searchsorted(sequences.offsets, enough, side="right")) - 1, first + 1)
        yield sequences.between(first, last)
        first = last


def _lines(model: Any, reading: Reading, part: TableSequences, roles: list[str], proba: bool) -> Iterator[list[str]]:
    """Predict a part, and write the lines of the output."""
    read = reading.read(part)
    rows = np.arange(len(part.table)) if reading.per_step else part.offsets[:-1]
    predicted: Iterator[list[str]] = iter(())
    if len(read.table):
        predicted = _predictions(model, reading.as_input(read), proba)
    silent = set(part.offsets[:-1].tolist()) if reading.past is not None else set()
    nothing = [""] * len(_names(model, proba))
    columns = [part.table.column(role) for role in roles]
    for row in rows.tolist():
        yield [*(column.shown(row) for column in columns), *(nothing if row in silent else next(predicted))]


def _predictions(model: Any, X: Any, proba: bool) -> Iterator[list[str]]:
    """Give the predictions, as text, one after another."""
    parts = [_flat(model.predict(X))]
    if proba:
        parts.append(_flat(model.predict_proba(X)))
    for values in zip(*parts, strict=True):
        yield [str(value) for each in values for value in np.ravel(each)]


def _flat(predicted: Any) -> Array:
    values: Array = np.concatenate(predicted) if isinstance(predicted, list) else predicted
    return values.reshape(len(values), -1)
