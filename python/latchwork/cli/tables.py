"""Tables that commands read, CSV or Parquet, with what each column holds found out."""

from __future__ import annotations

from collections.abc import Callable

from latchwork.cli.columns import Kind, Kinds, Table
from latchwork.cli.csv_columns import MixedColumn, read_csv
from latchwork.cli.errors import CommandError, describe
from latchwork.cli.input import regular_file, shown

PARQUET = (".parquet", ".pq")


def is_table(path: str) -> bool:
    """Say whether a file is a table, by its name."""
    return path.lower().endswith((".csv", ".tsv", *PARQUET))


def read_columns(path: str, kinds: Kinds | Callable[[list[str]], Kinds] | None = None, others: bool = True) -> Table:
    """Read a table.

    What a column holds is found out from its values: numbers; dates and times as ISO 8601 writes them; else texts.
    Empty fields and NA, N/A, NaN, null and None, in capitals or not, are missing numbers and dates. A column that holds
    mostly numbers and something else is refused, by the line of the first value that is no number. Each column is kept
    as an array; memory for objects is taken for the different texts alone.

    Parameters
    ----------
    path
        A CSV file with a line of names, or a Parquet file, which has a name that ends in .parquet or .pq; ``-`` is
        standard input, which is CSV.
    kinds
        Columns that must be there, and what they hold; None for what is to be found out. "time" takes numbers and
        dates, of which none may be missing; "text" takes values as they are written. Or a function that says so, given
        the names in the file.
    others
        Whether to read the other columns too.

    Returns
    -------
    Table
        Other columns without a name (they have the names "column 1" and so on), without any value, or (Parquet) of
        types that are no numbers, texts or dates are left out.

    Raises
    ------
    CommandError
        If the file cannot be read, a column is not there or holds something else, or a line has too few or too many
        fields.
    """
    name = shown(path)
    mixed: dict[str, Kind | None] = {}

    def asked(names: list[str]) -> Kinds:
        return {**(kinds(names) if callable(kinds) else kinds or {}), **mixed}

    try:
        with regular_file(path) as file:
            if path.lower().endswith(PARQUET):
                from latchwork.cli.parquet_input import read_parquet

                return read_parquet(file, name, asked, others)
            while True:
                try:
                    return read_csv(file, name, asked, others)
                except MixedColumn as column:  # some of its values have been read as numbers, and their texts are gone
                    mixed[column.name] = "text"
    except OSError as error:
        raise CommandError(f"cannot read {name}: {describe(error)}") from error
