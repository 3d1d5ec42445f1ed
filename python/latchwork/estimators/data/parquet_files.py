"""Parquet files larger than memory as long sequences: read once, then kept as plain numbers in a temporary file.

Training reads many places of the data side by side, and again in each epoch. A Parquet file is compressed in large
groups of rows, of which each such place would have to hold one; a file of plain numbers is read wherever one likes.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.frames import read_column
from latchwork.estimators.data.sources import ArraySource, mappings

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array

_ROWS = 16384  # that are converted at once
_BUFFER = 65536  # bytes of each column that PyArrow reads at once, rather than all of a group of rows


class ParquetSource(ArraySource):
    """Long sequences in Parquet files, each row a step.

    Parameters
    ----------
    paths : sequence of str or os.PathLike
        Each file is one sequence, or with ``sequence`` several. All have the same columns.
    target : str or sequence of str
        The column of y, or the columns, if there are any.
    sequence : str, optional
        The column that names the sequence of each row. The rows of a sequence are neighbours.
    time : str, optional
        The column that grows from row to row of a sequence.
    features : sequence of str, optional
        The columns of X in order; None: all others.
    dtype : dtype
        What X is converted to.
    labels : bool
        Whether y is labels of any kind rather than numbers.

    Attributes
    ----------
    names : tuple of str
        The columns of X.
    target_names : tuple of str
        The columns of y.
    values : numpy.memmap
        (rows, columns): X of all sequences.

    Raises
    ------
    ImportError
        If PyArrow is not installed.
    OSError
        If a file cannot be read, or there is no room for the temporary one.
    ValueError, TypeError
        If a file is no Parquet, lacks a column, has one of another type, or holds infinity. The message names the row.
    """

    def __init__(
        self,
        paths: Sequence[Any],
        target: str | Sequence[str],
        *,
        sequence: str | None = None,
        time: str | None = None,
        features: Sequence[str] | None = None,
        dtype: DTypeLike = "float32",
        labels: bool = False,
    ) -> None:
        self.target_names = (target,) if isinstance(target, str) else tuple(target)
        files = [_File(path) for path in paths]
        others = {*self.target_names, *(name for name in (sequence, time) if name is not None)}
        self.names: tuple[str, ...] = tuple(features) if features is not None else tuple(
            name for name in files[0].names if name not in others
        )  # fmt: skip
        if not self.names:
            raise ValueError(f"X: expected a column beside {', '.join(map(repr, sorted(others)))} in {files[0].path}")
        for file in files:
            file.check_columns((*self.names, *others))
        if not any(file.rows for file in files):
            raise ValueError(f"X: expected at least one step, got none in {files[0].path}")
        kind = np.dtype(dtype)
        codes: dict[Any, int] = {}
        lengths: list[int] = []
        kinds = [kind, np.dtype(np.int32 if labels else np.float64)][: 1 + bool(self.target_names)]
        with _Spool(kinds, sum(file.rows for file in files)) as spool:
            for file in files:
                borders = _Borders(file.path, sequence, time)
                for first, columns in file.parts((*self.names, *others)):
                    borders.add(first, columns)
                    numbers = [self._numbers(columns, self.names, kind, file.path, first, "X")]
                    if labels:
                        numbers.append(np.stack([_codes(columns[name], codes) for name in self.target_names], axis=1))
                    elif self.target_names:
                        numbers.append(self._numbers(columns, self.target_names, kinds[1], file.path, first, "y"))
                    spool.write(*numbers)
                lengths += borders.lengths()
            outputs = () if isinstance(target, str) else (len(self.target_names),)
            self.values, *all_y = spool.arrays((len(self.names),), outputs)
        cuts = np.cumsum(lengths)[:-1].tolist()
        x = _split(self.values, cuts)
        y: list[Any] = [np.empty((len(each), 0)) for each in x] if not all_y else _split(all_y[0], cuts)
        if labels:
            values = _label_array(list(codes))
            y = [_Labels(each, values) for each in y]
        super().__init__(x, y)
        self._maps = mappings([self.values, *all_y])

    @staticmethod
    def _numbers(
        columns: dict[str, Any], names: Sequence[str], dtype: np.dtype[Any], path: str, first: int, role: str
    ) -> Array:
        numbers = np.empty((len(columns[names[0]]), len(names)), dtype)
        for place, name in enumerate(names):
            numbers[:, place] = _numbers(columns[name], dtype, name, path, first, role)
        return numbers


class FileTable:
    """The rows of Parquet files one behind the other, where targets are looked up as in a data frame.

    Attributes
    ----------
    names : list of str
        The columns of the first file.
    rows : int
        How many rows there are.
    index : None
        A file has no labels of rows.
    """

    index = None

    def __init__(self, paths: Sequence[Any]) -> None:
        self._files = [_File(path) for path in paths]
        self.names = self._files[0].names
        self.rows = sum(file.rows for file in self._files)

    def __contains__(self, name: object) -> bool:
        """Say whether there is a column of this name."""
        return name in self.names

    def column(self, name: str) -> Array:
        """Read a column."""
        return np.concatenate([file.column(name) for file in self._files])


class _File:
    """One Parquet file, opened."""

    def __init__(self, path: Any) -> None:
        arrow = _pyarrow()
        self.path = os.fsdecode(path)
        try:
            self._file = arrow.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER)
        except OSError:
            raise
        except Exception as error:  # ArrowInvalid is a ValueError that does not name the file
            raise ValueError(f"{self.path}: expected a Parquet file: {error}") from error
        self.names: list[str] = self._file.schema_arrow.names
        self.rows: int = self._file.metadata.num_rows

    def check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if self.names.count(name) != 1:
                known = ", ".join(map(repr, self.names))
                raise ValueError(f"{self.path}: expected one column {name!r}, got {known}")

    def column(self, name: str) -> Array:
        self.check_columns([name])
        return read_column(self._file.read([name]).column(name))

    def parts(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of the first row, and the columns, of some thousand rows after each other."""
        first = 0
        for batch in self._file.iter_batches(_ROWS, columns=list(names), use_threads=False):
            if batch.num_rows:
                yield first, {name: _decoded(batch.column(name)) for name in names}
                first += batch.num_rows


class _Spool:
    """A temporary file for each of some arrays, which are written piece by piece and then read from anywhere."""

    def __init__(self, dtypes: Sequence[np.dtype[Any]], rows: int) -> None:
        self._dtypes = dtypes
        self._rows = rows
        self._files: list[IO[bytes]] = []
        for _ in dtypes:
            self._files.append(tempfile.TemporaryFile())  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, *arrays: Array) -> None:
        try:
            for file, array in zip(self._files, arrays, strict=True):
                file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            error.add_note(
                f"the numbers of {self._rows:,} rows are kept in a temporary file in {folder}, which has room for "
                f"{free:,} bytes more; the environment variable TMPDIR names another folder"
            )
            raise

    def arrays(self, *shapes: tuple[int, ...]) -> list[Any]:
        """Map what was written, which outlives this; the shapes are those of one row."""
        mapped = []
        for file, dtype, shape in zip(self._files, self._dtypes, shapes, strict=False):
            file.flush()
            mapped.append(np.memmap(file, dtype, "r", shape=(self._rows, *shape)))
        return mapped


class _Borders:
    """Finds where sequences begin in the rows of a file, and that time grows within each."""

    def __init__(self, path: str, sequence: str | None, time: str | None) -> None:
        self._path = path
        self._sequence = sequence
        self._time = time
        self._starts: list[int] = []
        self._rows = 0
        self._last: tuple[Any, Any] = (None, None)
        self._seen: set[Any] = set()

    def add(self, first: int, columns: dict[str, Any]) -> None:
        """Look at the next rows."""
        rows = len(next(iter(columns.values())))
        starts = {0} if first == 0 else set()
        last_name, last_time = self._last
        if self._sequence is not None:
            names = columns[self._sequence]
            if names.null_count:
                row = first + names.is_null().to_pylist().index(True)
                raise ValueError(
                    f"{self._path}: expected the name of a sequence in column {self._sequence!r}, got none in row {row}"
                )
            starts |= set(_changes(names))
            if first and names[0].as_py() != last_name:
                starts.add(0)
            for start in sorted(starts):
                name = names[start].as_py()
                if name in self._seen:
                    raise ValueError(
                        f"{self._path}: expected the rows of sequence {name!r} to be neighbours, got more of them from "
                        f"row {first + start} on; sort the file by {self._sequence!r}"
                    )
                self._seen.add(name)
            last_name = names[-1].as_py()
        if self._time is not None:
            times = columns[self._time].to_numpy(zero_copy_only=False)
            if columns[self._time].null_count or (times != times).any():
                row = first + int(np.argmax(columns[self._time].is_null(nan_is_null=True)))
                raise ValueError(f"{self._path}: expected a time in column {self._time!r}, got none in row {row}")
            grows = np.ones(rows, bool)
            grows[1:] = times[1:] > times[:-1]
            grows[0] = first == 0 or bool(times[0] > last_time)
            grows[list(starts)] = True
            if not grows.all():
                row = int(np.argmin(grows))
                raise ValueError(
                    f"{self._path}: expected times that grow in column {self._time!r}, got {times[row]} in row "
                    f"{first + row} after {times[row - 1] if row else last_time}; sort the file by time"
                )
            last_time = times[-1]
        self._last = (last_name, last_time)
        self._starts += [first + start for start in sorted(starts)]
        self._rows = first + rows

    def lengths(self) -> list[int]:
        """Give the lengths of all sequences."""
        lengths: list[int] = np.diff([*self._starts, self._rows]).tolist()
        return lengths


class _Labels:
    """Labels of steps that are read where a slice is taken, from codes in a file."""

    def __init__(self, codes: Array, labels: Array) -> None:
        self._codes = codes
        self._labels = labels
        self.shape = codes.shape

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, places: slice) -> Array:
        labels: Array = self._labels[self._codes[places]]
        return labels


def _numbers(column: Any, dtype: np.dtype[Any], name: str, path: str, first: int, role: str) -> Array:
    """Convert some rows of a column of numbers; null becomes NaN."""
    types = importlib.import_module("pyarrow").types
    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)):
        raise TypeError(f"{role}: expected numbers in column {name!r} of {path}, got {kind}")
    numbers: Array = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", under="ignore"):
        values = numbers.astype(dtype)
    infinite = np.isinf(values)
    if infinite.any():
        row = int(np.argmax(infinite))
        expected = "finite numbers or NaN" if np.isinf(numbers[row]) else f"numbers in the range of {dtype}"
        raise ValueError(
            f"{role}: expected {expected}, got {numbers[row]} in row {first + row} of {path}, column {name!r}"
        )
    return values


def _codes(column: Any, codes: dict[Any, int]) -> Array:
    """Give each label its place among all so far; a null has -1."""
    encoded = column.dictionary_encode()
    places = [-1 if label is None else codes.setdefault(label, len(codes)) for label in encoded.dictionary.to_pylist()]
    indices = encoded.indices.cast("int32").fill_null(len(places)).to_numpy(zero_copy_only=False)
    found: Array = np.array([*places, -1], np.int32)[indices]
    return found


def _label_array(labels: list[Any]) -> Array:
    """Give the labels in one array, and behind them, where the code -1 finds it, None if it may hold that."""
    array = np.empty(len(labels) + 1, object)
    array[:-1] = labels
    return array


def _split(array: Array, cuts: Sequence[int]) -> list[Array]:
    return [array[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(array)], strict=True)]


def _decoded(column: Any) -> Any:
    return column.dictionary_decode() if hasattr(column, "dictionary_decode") else column


def _changes(column: Any) -> list[int]:
    """Where a column's value differs from the one before."""
    compute = importlib.import_module("pyarrow.compute")
    if len(column) < 2:
        return []
    differs = compute.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    changes: list[int] = (np.flatnonzero(differs) + 1).tolist()
    return changes


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError("reading Parquet files needs PyArrow: pip install pyarrow") from error
