"""Parquet files as tables, by PyArrow where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from latchwork.cli.columns import Array, Column, Kind, Kinds, Table, TimeFormat, no_column
from latchwork.cli.errors import CommandError

_ROWS_AT_ONCE = 65536


def read_parquet(path: str, name: str, asked: Callable[[list[str]], Kinds], others: bool) -> Table:
    """Read a Parquet file as `latchwork.cli.tables.read_columns` says, a part of its rows at a time."""
    try:
        pa = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise CommandError(
            f"{name}: reading Parquet needs PyArrow, which is not installed: pip install pyarrow"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            return _read(file, pa, name, asked(file.schema_arrow.names), others)
    except pa.ArrowException as error:
        raise CommandError(f"{name}: expected a Parquet file: {error}") from error


def _read(file: Any, pa: Any, name: str, kinds: Kinds, others: bool) -> Table:
    schema = file.schema_arrow
    for each in kinds:
        if schema.names.count(each) != 1:
            raise no_column(name, each, schema.names)
    readers: dict[str, ParquetColumn] = {}
    left_out = {}
    for field in schema:
        if field.name not in kinds and not others:
            continue
        reader = ParquetColumn(pa, name, field, kinds.get(field.name))
        if reader.kind is not None:
            readers[field.name] = reader
        elif field.name in kinds:
            raise CommandError(f"{name}: column {field.name!r}: expected {reader.expected}, got {field.type}")
        else:
            left_out[field.name] = f"it holds {field.type}"
    rows = 0
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(readers)):
        for each, reader in readers.items():
            reader.add(batch.column(each), rows)
        rows += batch.num_rows
    if not rows:
        raise CommandError(f"{name}: expected rows, got none")
    columns = {}
    for each, reader in readers.items():
        if reader.has_values or each in kinds:
            columns[each] = reader.column()
        else:
            left_out[each] = "it has no values"
    return Table(name, columns, np.arange(1, rows + 1), "row", left_out)


class ParquetColumn:
    """One column of a Parquet file: Arrow's arrays in, one of NumPy's out.

    Parameters
    ----------
    pa
        The module.
    file
        The file's name, for messages.
    field
        Arrow's name and type of the column.
    kind
        What it is to be; None: what its type says.
    """

    def __init__(self, pa: Any, file: str, field: Any, kind: Kind | None) -> None:
        types = pa.types
        value_type = field.type.value_type if types.is_dictionary(field.type) else field.type
        own: Kind | None = None
        if types.is_integer(value_type) or types.is_floating(value_type) or types.is_decimal(value_type):
            own = "number"
        elif types.is_boolean(value_type) or types.is_string(value_type) or types.is_large_string(value_type):
            own = "text"
        elif types.is_timestamp(value_type) or types.is_date(value_type):
            own = "time"
        fits = kind in (None, own) or (kind == "text" and own is not None) or (kind == "time" and own == "number")
        self.kind = (own if kind is None else kind) if fits else None
        self.has_values = False
        self._pa = pa
        self._file = file
        self._name = field.name
        self._own = own
        self._wanted = kind
        self._type = value_type
        self._chunks: list[Array] = []
        self._codes: dict[str, int] = {}

    @property
    def expected(self) -> str:
        """What the column should have held."""
        return {"number": "numbers", "time": "numbers or dates", "text": "texts or numbers"}.get(
            str(self._wanted), "numbers, texts or dates"
        )

    def add(self, values: Any, first_row: int) -> None:
        """Take the next values."""
        pa = self._pa
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if self.kind == "text":
            self.has_values |= values.null_count < len(values)
            self._chunks.append(self._texts(values))
            return
        missing = np.flatnonzero(values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
        self.has_values |= len(missing) < len(values)
        if self._wanted == "time" and len(missing):
            row = first_row + int(missing[0]) + 1
            raise CommandError(f"{self._file}: row {row}, column {self._name!r}: expected a time, got nothing")
        if self._own == "time":
            # A zone is only how it is shown: the values are those in UTC.
            self._chunks.append(values.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False))
            return
        if self.kind == "time" and pa.types.is_integer(self._type):
            self._chunks.append(values.cast(pa.int64()).to_numpy(zero_copy_only=False))
            return
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        infinite = np.flatnonzero(np.isinf(numbers))
        if len(infinite):
            row = first_row + int(infinite[0]) + 1
            raise CommandError(
                f"{self._file}: row {row}, column {self._name!r}: expected a finite number, got {numbers[infinite[0]]}"
            )
        self._chunks.append(numbers)

    def column(self) -> Column:
        """Give what was read."""
        values = np.concatenate(self._chunks)
        if self.kind == "text":
            return Column("text", values, list(self._codes))
        assert self.kind is not None
        if values.dtype.kind != "M":
            return Column(self.kind, values)
        is_date = self._pa.types.is_date(self._type)
        zoned = not is_date and self._type.tz is not None
        return Column(self.kind, values, None, TimeFormat("D" if is_date else "us", "T", zoned))

    def _texts(self, values: Any) -> Array:
        """Give texts as their numbers; those that are missing are empty."""
        encoded = values.cast(self._pa.string()).dictionary_encode()
        codes = self._codes
        numbers = [codes.setdefault(text, len(codes)) for text in encoded.dictionary.to_pylist()]
        missing = codes.setdefault("", len(codes)) if values.null_count else 0
        table = np.array([*numbers, missing], np.int32)
        indices = encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        texts: Array = table[indices]
        return texts
