"""CSV files, line by line, however they are written; and tables with one column for each input of a network."""

import csv
import io
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from latchwork._arrays import MAX_INDEX
from latchwork.cli.errors import CommandError, describe
from latchwork.cli.input import regular_file, shown

# What programs write where there is no value.
MISSING = ("", "na", "n/a", "nan", "null", "none")

DELIMITERS = ",;\t"
# Lines that the choice of the delimiter looks at, and how much of the file it reads for them.
_HEAD_LINES = 20
_HEAD_CHARACTERS = 65536


class Table(NamedTuple):
    """The rows of a file."""

    rows: list[list[Any]]
    labels: list[str] | None  # of a column in front of the others, if there is one


def csv_lines(path: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Read the lines of a CSV file that have something in them, one after another.

    Commas, semicolons or tabs, whichever part the file's first lines into equal numbers of fields; quoted fields, ends
    of lines of any kind, with or without a byte order mark. Empty lines are passed over, and so are lines with nothing
    but delimiters after all others, as some programs write them; elsewhere these are rows whose values are all missing.

    Parameters
    ----------
    path
        A regular file.
    name
        What messages call it.

    Yields
    ------
    int, list of str
        The number of the last line of the file that the record takes, and its fields.

    Raises
    ------
    CommandError
        If the file cannot be read, is no UTF-8 text or no CSV.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.read(_HEAD_CHARACTERS))
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            empty: list[tuple[int, list[str]]] = []
            try:
                for fields in reader:
                    if (fields and fields[0].strip()) or any(map(str.strip, fields)):
                        yield from empty
                        empty.clear()
                        yield reader.line_num, fields
                    elif len(fields) > 1:
                        empty.append((reader.line_num, fields))
            except csv.Error as error:
                raise CommandError(f"{name}: line {reader.line_num} is no CSV: {error}") from error
    except OSError as error:
        raise CommandError(f"cannot read {name}: {describe(error)}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{name}: {_undecodable(path)}") from error


def _delimiter(head: str) -> str:
    """Choose the delimiter by the beginning of a file."""
    if len(head) == _HEAD_CHARACTERS:
        head = head[: head.rfind("\n") + 1] or head  # the last line may be cut off
    widths: dict[str, list[int]] = {}
    for delimiter in DELIMITERS:
        widths[delimiter] = []
        try:
            for fields in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
                if any(map(str.strip, fields)):
                    widths[delimiter].append(len(fields))
                if len(widths[delimiter]) == _HEAD_LINES:
                    break
        except csv.Error:  # reported with its place when the file is read
            pass
    regular = [each for each in DELIMITERS if len(set(widths[each])) == 1 and widths[each][0] > 1]
    # A ragged file is reported by the delimiter that its first line has most of.
    return max(regular or DELIMITERS, key=lambda each: max(widths[each][:1], default=1))


def _undecodable(path: str) -> str:
    """Say where a file is no UTF-8 text."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                return f"line {number}: expected UTF-8 text, got the byte 0x{line[error.start]:02x}"
    return "expected UTF-8 text"


def read_table(path: str, columns: int, number: Callable[[str], float]) -> Table:
    """Read a CSV file that has a column for each input, and perhaps one with labels in front of them.

    A first line in which the columns of the inputs hold words and no numbers has names. A value that is missing is an
    error. CommandError.

    Parameters
    ----------
    path
        The file; ``-`` is standard input.
    columns
        How many inputs there are.
    number
        `int` or `float`: what the inputs are.
    """
    name = shown(path)
    try:
        with regular_file(path) as file:
            lines = list(csv_lines(file, name))
    except OSError as error:
        raise CommandError(f"cannot read {name}: {describe(error)}") from error
    if not lines:
        raise CommandError(f"{name}: expected rows of numbers, got none")
    width = len(lines[0][1])
    if width not in (columns, columns + 1):
        raise CommandError(
            f"{name}: expected {_plural(columns, 'column')}, one for each input of the network, or one more with "
            f"labels in front of them, got {width} in line {lines[0][0]}; columns are separated by commas, semicolons "
            "or tabs"
        )
    first = width - columns
    if _are_names(lines[0][1][first:]):
        names, lines = lines[0][1], lines[1:]
    else:
        names = [str(place) for place in range(1, width + 1)]
    if not lines:
        raise CommandError(f"{name}: expected rows of numbers, got only names")
    rows = []
    for line, fields in lines:
        if len(fields) != width:
            raise CommandError(
                f"{name}: expected {_plural(width, 'column')} as in the first line, got {len(fields)} in line {line}"
            )
        rows.append(
            [
                _number(text, number, f"{name}: line {line}, column {names[first + place]}")
                for place, text in enumerate(fields[first:])
            ]
        )
    return Table(rows, [fields[0] for _, fields in lines] if first else None)


def _number(text: str, number: Callable[[str], float], place: str) -> float:
    kind = "an integer" if number is int else "a finite number"
    try:
        value = math.nan if "_" in text else number(text)  # Python's numbers may have underscores between digits
    except ValueError:
        value = math.nan
    if isinstance(value, int) and abs(value) > MAX_INDEX:
        kind, value = "an integer of at most 63 bits", math.nan
    if not math.isfinite(value):
        raise CommandError(f"{place}: expected {kind}, got {shortened(text.strip())!r}")
    return value


def _are_names(fields: list[str]) -> bool:
    """Say whether fields are the names of columns: words, of which some may be missing, but no numbers."""
    return any(field.strip().lower() not in MISSING for field in fields) and not any(map(is_number, fields))


def is_number(text: str) -> bool:
    """Say whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def shortened(text: str) -> str:
    """Shorten what a message quotes of a file."""
    return text if len(text) <= 40 else text[:39] + "\u2026"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
