"""X and y that are larger than memory, or come piece by piece, as what estimators train on."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.examples import GAPS_ADVICE
from latchwork.estimators.data.first_pass import ColumnNumbers, LabelCounts
from latchwork.estimators.data.labels import class_codes
from latchwork.estimators.data.layout import Layout
from latchwork.estimators.data.persistence import Persistence
from latchwork.estimators.data.schema import Schema
from latchwork.estimators.data.sequences import Sequences
from latchwork.estimators.data.sources import ArraySource, Part, PieceSource, array_source
from latchwork.estimators.data.windows import PieceWindows, Windows

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.windows import Encode


def is_long(X: Any) -> bool:
    """Say whether X is read piece by piece: a path, an iterator, a function, a memory-mapped file or a list of them."""
    if isinstance(X, (list, tuple)):
        return any(isinstance(each, np.memmap) for each in X) or (bool(X) and all(map(_is_path, X)))
    return isinstance(X, np.memmap) or _is_path(X) or isinstance(X, Iterator) or callable(X)


def is_path(X: Any) -> bool:
    """Say whether X, which is long, is a file's path or a list of some."""
    return all(map(_is_path, X)) if isinstance(X, (list, tuple)) else _is_path(X)


def is_mapped(X: Any) -> bool:
    """Say whether X, which is long, is memory-mapped files, which can be read like all other arrays too."""
    return isinstance(X, np.memmap) or isinstance(X, (list, tuple)) and any(isinstance(each, np.memmap) for each in X)


class LongData:
    """Long sequences, read once: what they look like, and the numbers that a pass over them found.

    Parameters
    ----------
    X : numpy.memmap, path of a Parquet file, list of these, iterator or callable
        See `array_source`, `ParquetSource` and `PieceSource`.
    y : array_like, str or sequence of str
        For paths the column of the targets, or the columns; None for pieces; otherwise as X.
    sample_weight : array_like, optional
        For memory-mapped files.
    dtype : {"float32", "float64"}
        That of the network.
    labels : bool
        Whether y is labels rather than numbers.
    sequence, time : str, optional
        Columns of Parquet files.
    before : Schema, optional
        That of data which an earlier training read; None: none did, and one is made of X.
    refuse_gaps : bool
        Whether NaN in X is refused.

    Attributes
    ----------
    schema : Schema
    inputs : ColumnNumbers
        Of the columns of X.
    persistence : Persistence
        Of the columns of X, from the first gap on.
    outputs : ColumnNumbers or LabelCounts
        Of those of y.
    n_outputs : int
        How many targets a step has.
    single : bool
        Whether y has no axis of targets.
    names : tuple of str or None
        The names of the targets.
    can_repeat : bool
        Whether it can be read more than once.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        If the data do not fit or cannot be read.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        dtype: Any = "float32",
        labels: bool = False,
        sequence: str | None = None,
        time: str | None = None,
        before: Schema | None = None,
        refuse_gaps: bool = False,
    ) -> None:
        self._source: ArraySource | PieceSource
        self._dtype = np.dtype(dtype)
        self._labels = labels
        self._refuse_gaps = refuse_gaps
        self._length: int | None = None  # of each row of pieces
        self.names: tuple[str, ...] | None = None
        self.outputs: Any = LabelCounts() if labels else None
        self.inputs: ColumnNumbers
        self.persistence: Persistence
        self.n_outputs = 0
        self.can_repeat = True
        if isinstance(X, Iterator) or callable(X):
            _refuse("y", y, "pieces (x, y) of an iterator")
            _refuse("sample_weight", sample_weight, "an iterator")
            self._look_at_pieces(X, warns=before is None)
        else:
            source = self._known_source(X, y, sample_weight, sequence, time, before)
            self._look_at_sequences(source)
            self._source = source
        self.schema = before if before is not None else self._new_schema(sequence, time)
        _check_count(len(self.inputs.counts), self.schema)

    def windows(self, encode: Encode, *, window: int, batch_size: int, seed: int, shuffle: bool) -> Any:
        """Make what a `FitLoop` trains on; ``encode`` makes targets of y."""
        if isinstance(self._source, PieceSource):
            return PieceWindows(self._source, window=window, encode=encode, dtype=self._dtype, length=self._length)
        return Windows(
            self._source,
            window=window,
            batch_size=batch_size,
            encode=encode,
            dtype=self._dtype,
            seed=seed,
            shuffle=shuffle,
        )

    def _known_source(
        self, X: Any, y: Any, sample_weight: Any, sequence: str | None, time: str | None, before: Schema | None
    ) -> ArraySource:
        paths = list(X) if isinstance(X, (list, tuple)) else [X]
        if not all(map(_is_path, paths)):
            for name, column in (("sequence", sequence), ("time", time)):
                if column is not None:
                    raise TypeError(f"{name}: expected None for arrays, which have no columns, got {column!r}")
            return array_source(X, y, sample_weight)
        from latchwork.estimators.data.parquet_files import ParquetSource

        _refuse("sample_weight", sample_weight, "Parquet files")
        if not isinstance(y, str) and not (isinstance(y, (list, tuple)) and y and all(isinstance(n, str) for n in y)):
            raise TypeError(f"y: expected the name of a column of {os.fsdecode(paths[0])}, or several, got {y!r}")
        features = None if before is None else before.names
        source = ParquetSource(
            paths, y, sequence=sequence, time=time, features=features, dtype=self._dtype, labels=self._labels
        )
        self._column_names: tuple[str, ...] | None = source.names
        self.names = source.target_names
        return source

    def _look_at_sequences(self, source: ArraySource) -> None:
        sequence = begin = 0
        for part in source.parts():
            while begin == source.lengths[sequence]:
                sequence, begin = sequence + 1, 0
            self._look(part.x, part.y, f"sample {sequence}, step {{}}", begin)
            begin += len(part.x)

    def _look_at_pieces(self, X: Any, *, warns: bool) -> None:
        if callable(X):
            source = PieceSource(X)
            length = 0
            for number, part in enumerate(source.open()):
                self._look_at_piece(part, number)
                length += len(part.x)
            self._source, self._length = source, length
        else:
            first = next(X, None)
            if first is None:
                raise ValueError("X: expected at least one step, got none")
            (part,) = PieceSource(iter([first])).open()
            self._look_at_piece(part, 0)
            self._source = PieceSource(itertools.chain([first], X))
            self.can_repeat = False
            if warns:
                found = "classes and the numbers of scaling" if self._labels else "the numbers of scaling"
                warnings.warn(
                    f"X: {found} are those of the first piece, of {len(part.x)} steps, because an iterator can be read "
                    "only once; pass a function that returns a fresh one to have those of all pieces",
                    UserWarning,
                    stacklevel=6,  # where fit was called
                )
        if not self.n_outputs:
            raise ValueError("X: expected at least one step, got none")

    def _look_at_piece(self, part: Part, number: int) -> None:
        for row in range(part.x.shape[1]):
            where = f"piece {number}, step {{}}" + (f" of row {row}" if part.x.shape[1] > 1 else "")
            self._look(part.x[:, row], part.y[:, row], where, 0)

    def _look(self, x: Array, y: Array, where: str, begin: int) -> None:
        """Look at consecutive steps; ``where`` says in words where a step of some number was given."""
        y = np.asarray(y)
        if not self.n_outputs:
            self.single = y.ndim == 1
            self.n_outputs = 1 if self.single else y.shape[1]
            self.inputs = ColumnNumbers(x.shape[1], self._dtype)
            self.persistence = Persistence(x.shape[1])
            if not self._labels:
                self.outputs = ColumnNumbers(self.n_outputs, self._dtype)
            elif self.n_outputs > 1:
                raise ValueError(f"y: expected one label for each step, got {self.n_outputs} columns")

        def place(step: int) -> str:
            return where.format(begin + step)

        converted = _converted("X", x, self._dtype, place)
        if self._refuse_gaps and np.isnan(converted).any():
            step, column = np.argwhere(np.isnan(converted))[0].tolist()
            raise ValueError(f"X: expected no NaN, got NaN in {place(step)}, column {column}; {GAPS_ADVICE}")
        self.inputs.add(converted)
        positions = np.arange(begin, begin + len(converted))
        self.persistence.add_gaps(converted, positions)
        self.persistence.add_pairs(converted, positions)
        if self._labels:
            self.outputs.add(y.reshape(len(y)), place)
        else:
            self.outputs.add(_converted("y", y.reshape(len(y), self.n_outputs), self._dtype, place))

    def _new_schema(self, sequence: str | None, time: str | None) -> Schema:
        names = getattr(self, "_column_names", None)
        return Schema(
            kind="list" if names is None else "long",
            dtype=self._dtype.name,
            n_features=len(self.inputs.counts),
            names=names,
            sequence=sequence,
            time=time,
            targets=self.names or (),
        )


def sequences_of_files(X: Any, schema: Schema) -> tuple[Sequences, Layout]:
    """Read Parquet files for predictions.

    Parameters
    ----------
    X : path, or list of paths
    schema : Schema
        That of the training data.

    Returns
    -------
    sequences : Sequences
        Of values that are mapped from a file.
    layout : Layout
        That of one data frame in long form, or of a list of data frames that are one sequence each.
    """
    from latchwork.estimators.data.parquet_files import FileTable, ParquetSource

    paths = list(X) if isinstance(X, (list, tuple)) else [X]
    source = ParquetSource(
        paths,
        (),
        sequence=schema.sequence,
        time=schema.time,
        features=schema.names,
        dtype=schema.dtype,
    )
    _check_count(source.features, schema)
    offsets = np.concatenate([[0], np.cumsum(source.lengths)])
    if isinstance(X, (list, tuple)) and schema.sequence is None:
        layout = Layout("frames", offsets, source.names, [FileTable([path]) for path in paths])
    else:
        layout = Layout("long", offsets, source.names, [FileTable(paths)])
    return Sequences(source.values, offsets, None, source.names), layout


def scaled_targets(shift: Array, factor: Array, dtype: Any) -> Encode:
    """Make targets ``(y - shift) * factor`` of real numbers, computed in float64; NaN does not count."""
    kind = np.dtype(dtype)

    def encode(y: Array) -> tuple[Array, Array | None]:
        numbers = y.reshape(len(y), -1).astype(kind).astype(np.float64)
        known = ~np.isnan(numbers)
        numbers -= shift
        numbers *= factor
        values = numbers.astype(kind)
        if known.all():
            return values, None
        return np.where(known, values, kind.type(0)), known.astype(kind)

    return encode


def coded_targets(classes: Array, weights: Array, dtype: Any) -> Encode:
    """Make class numbers of labels, with the weights of their classes; a label that is missing does not count."""
    kind = np.dtype(dtype)
    plain = bool((weights == 1).all())

    def encode(y: Array) -> tuple[Array, Array | None]:
        codes, _ = class_codes(y.reshape(len(y)), classes, "step {} of a window".format)
        missing = codes < 0
        if not missing.any():
            return codes, None if plain else weights[codes].astype(kind)
        known = np.where(missing, 0, codes)
        return known, np.where(missing, 0.0, weights[known]).astype(kind)

    return encode


def _converted(name: str, values: Any, dtype: np.dtype[Any], place: Callable[[int], str]) -> Array:
    """Convert steps of real numbers, refusing infinities."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype} in {place(0)}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    infinite = np.isinf(converted)
    if infinite.any():
        step, column = np.argwhere(infinite)[0].tolist()
        expected = "finite numbers or NaN" if np.isinf(array[step, column]) else f"numbers in the range of {dtype}"
        raise ValueError(f"{name}: expected {expected}, got {array[step, column]} in {place(step)}, column {column}")
    return converted


def _check_count(features: int, schema: Schema) -> None:
    if features != schema.n_features:
        raise ValueError(f"X: expected {schema.n_features} features, as in training, got {features}")


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def _refuse(name: str, value: Any, what: str) -> None:
    if value is not None:
        raise TypeError(f"{name}: expected None with {what}, got {type(value).__name__}")
