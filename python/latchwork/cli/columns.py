"""A table as an array for each column, with the place of each row in its file."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latchwork.cli.errors import CommandError

Kind = Literal["number", "text", "time"]
Kinds = Mapping[str, Kind | None]  # of columns by name; None: to be found out
Array = NDArray[Any]


class TimeFormat(NamedTuple):
    """How a file writes its dates, so that they are written back in the same way."""

    unit: Literal["M", "D", "m", "s", "us"] = "us"
    separator: str = "T"
    zoned: bool = False  # then all were turned into UTC


class Column(NamedTuple):
    """A column of a table.

    ``values`` are float64 with NaN where a number is missing, numbers of ``texts`` where there are texts (a missing one
    is the empty text), and datetime64[us] with NaT or, of a column that was asked for as times, int64 or float64.
    """

    kind: Kind
    values: Array
    texts: list[str] | None = None
    time_format: TimeFormat | None = None

    def missing(self) -> NDArray[np.bool_]:
        """Say of each row whether its value is missing."""
        if self.texts is not None:
            empty = np.array([not text for text in self.texts], bool)
            return empty[self.values] if len(empty) else np.zeros(len(self.values), bool)
        missing: NDArray[np.bool_] = np.isnat(self.values) if self.values.dtype.kind == "M" else np.isnan(self.values)
        return missing

    def shown(self, row: int) -> str:
        """Write a value as files have it."""
        value = self.values[row]
        if self.texts is not None:
            return str(self.texts[value])
        if self.time_format is not None:
            if np.isnat(value):
                return ""
            text = str(np.datetime_as_string(value, unit=self.time_format.unit))
            return text.replace("T", self.time_format.separator) + ("Z" if self.time_format.zoned else "")
        if np.isnan(value):
            return ""
        return str(int(value)) if value == int(value) and abs(value) < 2**63 else repr(float(value))

    def take(self, rows: Any) -> Column:
        """Give some rows in some order, a slice or their numbers."""
        return self._replace(values=self.values[rows])


class Table:
    """The rows of a file, column by column.

    It has what data frames have, ``columns``, ``len(table)`` and ``table[name]``, so that what reads those reads it.

    Parameters
    ----------
    name
        The file's, for messages.
    columns
        The columns by name.
    places
        The line of the file (CSV), or the row from 1 (Parquet), of each row.
    place_word
        What a place is: "line" or "row".
    left_out
        Columns that are not here, and why.
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, Column],
        places: NDArray[np.int64],
        place_word: Literal["line", "row"] = "line",
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.places = places
        self.place_word = place_word
        self.left_out = dict(left_out or {})
        self._columns = dict(columns)

    @property
    def columns(self) -> list[str]:
        """The columns' names, in the order of the file."""
        return list(self._columns)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.places)

    def __contains__(self, name: object) -> bool:
        """Say whether there is a column of this name."""
        return name in self._columns

    def __getitem__(self, name: str) -> Array:
        """Give the values of a column: numbers, dates, or an object array of str, with None where one is missing."""
        column = self.column(name)
        if column.texts is None:
            return column.values
        values: Array = np.array([text or None for text in column.texts], object)[column.values]
        return values

    def column(self, name: str) -> Column:
        """Give a column. CommandError if there is none of this name."""
        if name not in self._columns:
            raise no_column(self.name, name, self.columns)
        return self._columns[name]

    def place(self, row: int, name: str | None = None) -> str:
        """Say where in the file a row, or its value in a column, is."""
        place = f"{self.name}: {self.place_word} {self.places[row]}"
        return place if name is None else f"{place}, column {name!r}"

    def take(self, rows: Any) -> Table:
        """Give some rows in some order, a slice or their numbers."""
        columns = {name: column.take(rows) for name, column in self._columns.items()}
        return Table(self.name, columns, self.places[rows], self.place_word, self.left_out)

    def with_columns(self, columns: Mapping[str, Column]) -> Table:
        """Give the same rows with other columns."""
        return Table(self.name, columns, self.places, self.place_word, self.left_out)


def no_column(file: str, name: str, columns: Collection[str]) -> CommandError:
    """Make the error that says that a file has no column of this name, and which it has."""
    near = difflib.get_close_matches(name.lower(), [each.lower() for each in columns], 1)
    meant = [each for each in columns if each.lower() in near]
    few = list(columns)[:20]
    listed = ", ".join(map(repr, few)) + (f" and {len(columns) - len(few)} more" if len(columns) > len(few) else "")
    advice = f"; perhaps {meant[0]!r}" if meant else ""
    return CommandError(f"{file}: expected a column {name!r}, got {listed or 'none'}{advice}")
