"""Tables that commands read: CSV with a column for each input of a network."""

import csv
import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from latchwork._arrays import MAX_INDEX
from latchwork.cli.errors import CommandError
from latchwork.cli.input import read_text, shown

# What programs write where there is no value.
_MISSING = ("", "na", "n/a", "null", "none")


class Table(NamedTuple):
    """The rows of a file."""

    rows: list[list[Any]]
    labels: list[str] | None  # of a column in front of the others, if there is one


def read_table(path: str, columns: int, number: Callable[[str], float], gaps: bool = False) -> Table:
    """Read a CSV file that has a column for each input, and perhaps one with labels in front of them.

    A first line in which the columns of the inputs hold words and no numbers has names. Empty lines are passed over,
    and so are lines with nothing but commas at the end; elsewhere a value that is missing is an error, or with ``gaps``
    NaN. CommandError.

    Parameters
    ----------
    path
        The file; ``-`` is standard input.
    columns
        How many inputs there are.
    number
        `int` or `float`: what the inputs are.
    gaps
        Whether inputs may be missing: nothing between two commas, or a word such as NA or NaN.
    """
    name, lines = shown(path), _lines(path)
    if not lines:
        raise CommandError(f"{name}: expected rows of numbers, got none")
    width = len(lines[0][1])
    if width not in (columns, columns + 1):
        raise CommandError(
            f"{name}: expected {_plural(columns, 'column')}, one for each input of the network, or one more with "
            f"labels in front of them, got {width} in line {lines[0][0]}; columns are separated by commas"
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
                math.nan
                if gaps and text.strip().lower() in (*_MISSING, "nan")
                else _number(text, number, f"{name}: line {line}, column {names[first + place]}")
                for place, text in enumerate(fields[first:])
            ]
        )
    return Table(rows, [fields[0] for _, fields in lines] if first else None)


def _lines(path: str) -> list[tuple[int, list[str]]]:
    """Read lines that have something in them, with the number of the last line of the file that each takes."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        # Commas alone are a row whose values are all missing, unless they come after all rows, as some programs write.
        lines = [(reader.line_num, fields) for fields in reader if len(fields) > 1 or any(map(str.strip, fields))]
    except csv.Error as error:
        raise CommandError(f"{shown(path)}: line {reader.line_num} is no CSV: {error}") from error
    while lines and not any(map(str.strip, lines[-1][1])):
        lines.pop()
    return lines


def _number(text: str, number: Callable[[str], float], place: str) -> float:
    kind = "an integer" if number is int else "a finite number"
    try:
        value = math.nan if "_" in text else number(text)  # Python's numbers may have underscores between digits
    except ValueError:
        value = math.nan
    if isinstance(value, int) and abs(value) > MAX_INDEX:
        kind, value = "an integer of at most 63 bits", math.nan
    if not math.isfinite(value):
        raise CommandError(f"{place}: expected {kind}, got {_shortened(text.strip())!r}")
    return value


def _are_names(fields: list[str]) -> bool:
    """Say whether fields are the names of columns: words, of which some may be missing, but no numbers."""
    return any(field.strip().lower() not in _MISSING for field in fields) and not any(map(_is_number, fields))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "\u2026"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
