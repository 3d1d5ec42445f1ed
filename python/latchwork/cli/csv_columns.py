"""What the columns of a CSV file hold, found out while their fields become arrays."""

from __future__ import annotations

import itertools
import math
import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from latchwork.cli.columns import Array, Column, Kind, Kinds, Table, TimeFormat, no_column
from latchwork.cli.csv_input import MISSING, csv_lines, is_number, shortened
from latchwork.cli.errors import CommandError

# Rows that are held as Python's objects at once.
ROWS_AT_ONCE = 4096

# Texts of a column that are known at once when they come again.
_WORDS_REMEMBERED = 1000

_DATE = re.compile(
    r"(\d{4}-\d{2}(?:-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)?)(?:(?<=:\d{2}:\d{2})(\.\d{1,6})0*)?(Z|[+-]\d{2}:?\d{2})?",
    flags=re.ASCII,
)
_PLAIN_DATE = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?)?", flags=re.ASCII)
_UNITS: dict[int, Literal["M", "D", "m", "s"]] = {7: "M", 10: "D", 16: "m", 19: "s"}
_FINER = ("M", "D", "m", "s", "us")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", flags=re.ASCII)


class MixedColumn(Exception):
    """A column holds texts after what was read as numbers or dates, whose own texts are gone by then."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def read_csv(path: str, name: str, asked: Callable[[list[str]], Kinds], others: bool) -> Table:
    """Read a CSV file as `latchwork.cli.tables.read_columns` says. MixedColumn: again, with that column as texts."""
    lines = csv_lines(path, name)
    first, names = next(lines, (0, []))
    if not names:
        raise CommandError(f"{name}: expected a line of column names and then rows, got an empty file")
    unnamed = {f"column {place}" for place, each in enumerate(names, 1) if not each.strip()}
    names = [each.strip() or f"column {place}" for place, each in enumerate(names, 1)]
    kinds = asked(names)
    _check_names(name, first, names, kinds)
    left_out = {each: "it has no name" for each in names if each in unnamed and each not in kinds and others}
    readers = {
        place: ColumnReader(name, each, kinds.get(each))
        for place, each in enumerate(names)
        if each in kinds or (others and each not in unnamed)
    }
    places = array("q")
    while chunk := list(itertools.islice(lines, ROWS_AT_ONCE)):
        for line, fields in chunk:
            if len(fields) != len(names):
                raise CommandError(f"{name}: line {line}: {_ragged(names, fields)}")
        chunk_places = [line for line, _ in chunk]
        by_column = list(zip(*(fields for _, fields in chunk), strict=True))
        for place, reader in readers.items():
            reader.add(by_column[place], chunk_places)
        places.extend(chunk_places)
    if not places:
        raise CommandError(f"{name}: expected rows, got only the line of names")
    columns = {}
    for reader in readers.values():
        if reader.has_values or reader.name in kinds:
            columns[reader.name] = reader.column()
        else:
            left_out[reader.name] = "it has no values"
    return Table(name, columns, np.frombuffer(places, np.int64), "line", left_out)


def _check_names(file: str, line: int, names: list[str], needed: Kinds) -> None:
    seen: set[str] = set()
    for each in names:
        if each in seen:
            raise CommandError(f"{file}: line {line}: expected different names of columns, got {each!r} twice")
        seen.add(each)
    for each in needed:
        if each not in seen:
            raise no_column(file, each, names)
    if not needed and all(map(is_number, names)):
        few = ", ".join(names[:3])
        raise CommandError(f"{file}: line {line}: expected names of columns, got the numbers {few}")


def _ragged(names: list[str], fields: list[str]) -> str:
    if len(fields) > len(names):
        extra = shortened(fields[len(names)])
        return f"expected {len(names)} fields, as there are names, got {len(fields)}: {extra!r} after {names[-1]!r}"
    return (
        f"expected {len(names)} fields, as there are names, got {len(fields)}: none for column {names[len(fields)]!r}"
    )


class ColumnReader:
    """One column: fields in, an array out.

    Parameters
    ----------
    file, name
        The file's and the column's names, for messages.
    kind
        What it holds; None: to be found out.
    """

    def __init__(self, file: str, name: str, kind: Kind | None) -> None:
        self.name = name
        self.has_values = False
        self._file = file
        self._kind = kind
        self._chunks: list[tuple[Kind | None, Array]] = []  # None: without any value
        self._codes: dict[str, int] = {}  # of the different texts
        self._words: set[str] = set()  # some of the texts that are no numbers and no dates
        self._counts: dict[Kind, int] = {"number": 0, "time": 0, "text": 0}
        self._first: dict[Kind, tuple[int, str]] = {}  # the first field of each kind: its line, and what it is
        self._infinite: tuple[int, str] | None = None  # the same of the first infinite number
        self._formats: set[TimeFormat] = set()

    def add(self, fields: Sequence[str], lines: list[int]) -> None:
        """Take the next fields."""
        if self._kind == "text":
            self._add_texts(fields)
        elif self._kind == "time":
            if not self._add_dates(fields, lines[0]):
                self._add_times(fields, lines)
        elif not self._add_numbers(fields, lines[0]) and not (self._kind is None and self._add_dates(fields, lines[0])):
            self._add_found(fields, lines)

    def column(self) -> Column:
        """Give what was read."""
        kind = self._found() if self._kind is None else self._kind
        if kind == "text":
            if any(each != "text" for each, _ in self._chunks):
                raise MixedColumn(self.name)
            return Column("text", np.concatenate([chunk for _, chunk in self._chunks]), list(self._codes))
        if kind == "number" and self._infinite:
            raise self._unreadable(*self._infinite, "a finite number")
        missing: Any = math.nan if "time" not in self._first else np.datetime64("NaT", "us")
        values = np.concatenate(
            [np.full(len(chunk), missing) if each is None else chunk for each, chunk in self._chunks]
        )
        return Column(kind, values, None, self._time_format() if values.dtype.kind == "M" else None)

    def _add_numbers(self, fields: Sequence[str], line: int) -> bool:
        """Take fields if all of them are finite numbers, as most are."""
        try:
            numbers = np.array(list(map(float, fields)))
        except ValueError:
            return False
        if "_" in "".join(fields) or not np.isfinite(numbers).all():
            return False
        self._keep("number", numbers, len(fields), line, fields[0])
        return True

    def _add_dates(self, fields: Sequence[str], line: int) -> bool:
        """Take fields if all of them are dates of one length without fractions of a second or a zone, as most are."""
        length = len(fields[0])
        if "number" in self._first or length not in _UNITS or set(map(len, fields)) != {length}:
            return False
        if not all(map(_PLAIN_DATE.fullmatch, fields)):
            return False
        try:
            dates = np.array(fields, "datetime64[us]")
        except ValueError:  # there is no such day
            return False
        self._formats.add(TimeFormat(_UNITS[length], fields[0][10:11] or "T"))
        self._keep("time", dates, len(fields), line, fields[0])
        return True

    def _add_found(self, fields: Sequence[str], lines: list[int]) -> None:
        """Take fields of any kind, or that are to be numbers."""
        values: list[Any] = [None] * len(fields)
        kinds: set[Kind] = set()
        for row, (field, line) in enumerate(zip(fields, lines, strict=True)):
            text = field.strip()
            if text.lower() in MISSING:
                continue
            value: Any = None if text in self._words else _number(text)
            kind: Kind = "number"
            if value is None:
                value = None if text in self._words else self._date(text)
                kind = "text" if value is None else "time"
                if value is None and len(self._words) < _WORDS_REMEMBERED:
                    self._words.add(text)
            elif self._infinite is None and not math.isfinite(value):
                self._infinite = line, text
            if kind != "number" and self._kind == "number":
                raise self._unreadable(line, text, "a number")
            kinds.add(kind)
            values[row] = value
            self._counts[kind] += 1
            self._first.setdefault(kind, (line, text))
        if not kinds:
            self._chunks.append((None, np.full(len(fields), math.nan)))
        elif kinds == {"number"}:
            self._keep("number", np.array([math.nan if value is None else value for value in values]))
        elif kinds == {"time"}:
            self._keep("time", np.array(values, "datetime64[us]"))
        else:
            self._add_texts(fields)

    def _add_texts(self, fields: Sequence[str]) -> None:
        codes = self._codes
        self._keep("text", np.array([codes.setdefault(field.strip(), len(codes)) for field in fields], np.int32))
        self.has_values = any(codes)

    def _add_times(self, fields: Sequence[str], lines: list[int]) -> None:
        """Take fields that are times: none may be missing, and integers stay exact."""
        values: list[Any] = []
        for field, line in zip(fields, lines, strict=True):
            text = field.strip()
            value: Any = _integer(text)
            if value is None:
                value = _number(text)
            kind: Kind = "number"
            if value is None:
                value, kind = self._date(text), "time"
            if value is None or (kind == "number" and not math.isfinite(value)):
                raise self._unreadable(line, text, "a number or a date as 2024-01-31 or 2024-01-31T23:59:59")
            self._first.setdefault(kind, (line, text))
            if len(self._first) > 1:
                other = "a number" if kind == "time" else "a date"
                raise self._unreadable(line, text, f"{other}, as in the lines before it")
            values.append(value)
        self._keep("time", np.array(values, "datetime64[us]" if "time" in self._first else None))

    def _keep(self, kind: Kind, values: Array, count: int = 0, line: int = 0, text: str = "") -> None:
        self._chunks.append((kind, values))
        self.has_values = True
        if count:
            self._counts[kind] += count
            self._first.setdefault(kind, (line, text))

    def _found(self) -> Kind:
        """Say what the column holds, by all of its fields."""
        numbers, times, texts = (self._counts[kind] for kind in ("number", "time", "text"))
        if not times and not texts:
            return "number"
        if not numbers and not texts and len({each.zoned for each in self._formats}) == 1:
            return "time"
        if numbers > times + texts:
            line, text = min(place for kind, place in self._first.items() if kind != "number")
            raise self._unreadable(
                line, text, "a number, as most of this column are", "; --categorical reads a column as texts"
            )
        return "text"

    def _time_format(self) -> TimeFormat:
        """Say how to write the dates: to the finest unit that one of them has."""
        formats = sorted(self._formats, key=lambda each: (_FINER.index(each.unit), each))
        if len({each.zoned for each in formats}) > 1:
            raise CommandError(f"{self._file}: column {self.name!r}: expected all times with a zone or none, got both")
        return formats[-1]

    def _date(self, text: str) -> Any:
        """Read a date, in UTC if it has a zone; None if it is none."""
        match = _DATE.fullmatch(text)
        if match is None:
            return None
        local, fraction, zone = match.groups()
        if zone and len(local) < 16:
            return None
        try:
            time: Any = np.datetime64(local + (fraction or ""), "us")
        except ValueError:
            return None
        if zone not in (None, "Z"):
            minutes = int(zone[1:3]) * 60 + int(zone[-2:])
            time -= np.timedelta64(-minutes if zone[0] == "-" else minutes, "m")
        unit = "us" if fraction else _UNITS[len(local)]
        self._formats.add(TimeFormat(unit, local[10:11] or "T", zone is not None))
        return time

    def _unreadable(self, line: int, text: str, expected: str, advice: str = "") -> CommandError:
        if _DECIMAL_COMMA.fullmatch(text):
            advice = "; numbers have a decimal point"
        got = repr(shortened(text)) if text else "nothing"
        return CommandError(f"{self._file}: line {line}, column {self.name!r}: expected {expected}, got {got}{advice}")


def _number(text: str) -> float | None:
    """Read a number as Python does, but without underscores between digits."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _integer(text: str) -> int | None:
    """Read an integer that an array can hold."""
    try:
        value = None if "_" in text else int(text)
    except ValueError:
        return None
    return value if value is not None and -(2**63) <= value < 2**63 else None
