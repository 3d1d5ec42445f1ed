"""X as it was given: its form, its names and its columns, before anything is converted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import as_array, shape_text
from latchwork._foreign import bfloat16_numbers, is_bfloat16
from latchwork.estimators.data.frames import Table, feature_names, is_frame, is_series, read_column
from latchwork.estimators.data.layout import Layout
from latchwork.estimators.data.long_form import long_order, time_order

if TYPE_CHECKING:
    from latchwork._arrays import Array

_FORMS = "(n, T, features), (n, T) with one feature a step, a list of arrays or a data frame"


class Given:
    """The steps of all sequences, one behind the other, in columns of whatever dtype.

    Parameters
    ----------
    layout : Layout
        Where each step came from.
    blocks : list of ndarray
        Each (some steps, features), in order; empty if there are ``columns``.
    columns : list of ndarray
        Each (total_steps,), one for each feature.
    steps, step_names
        As in `Schema`.
    """

    def __init__(
        self,
        layout: Layout,
        blocks: list[Array],
        columns: list[Array],
        steps: int | None = None,
        step_names: tuple[str, ...] | None = None,
    ) -> None:
        self.layout = layout
        self.blocks = blocks
        self.columns = columns
        self.steps = steps
        self.step_names = step_names
        self.n_features: int = len(columns) if not blocks else blocks[0].shape[1]

    @property
    def feature_names_in(self) -> tuple[str, ...] | None:
        """The names of the features of a step, or of the columns of a 2-D table."""
        return self.layout.names if self.steps is None else self.step_names

    def column(self, place: int) -> Array:
        """Give one feature at all steps, in a dtype that holds all its values."""
        if not self.blocks:
            return self.columns[place]
        if len(self.blocks) == 1:
            return self.blocks[0][:, place]
        return joined([block[:, place] for block in self.blocks])


def read_given(X: Any, sequence: Any, time: Any, passed_over: Sequence[Any]) -> Given:
    """Read X without converting it. The arguments are those of `read_fit`."""
    if is_frame(X):
        table = Table(X)
        if sequence is None and time is None:
            return _wide(table, passed_over)
        return _long(table, sequence, time, passed_over)
    if sequence is not None:
        raise TypeError(f"sequence: expected None, because X is no data frame in long form, got {sequence!r}")
    if isinstance(X, (list, tuple)) and X and is_frame(X[0]):
        return _frames(X, time, passed_over)
    if time is not None:
        raise TypeError(f"time: expected None, because X is no data frame, got {time!r}")
    if isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 1 and len(X) and _has_items(X[0]):
        X = list(X)
    if isinstance(X, (list, tuple)) and (is_ragged(X) or (X and is_array(X[0]))):
        return _list(X)
    return _array(readable("X", X))


def is_ragged(value: Sequence[Any]) -> bool:
    """Say whether the items of a list are sequences that differ in length."""
    return all(map(_has_items, value)) and len({len(each) for each in value}) > 1


def _has_items(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes)) and getattr(value, "shape", None) != ()


def is_array(value: Any) -> bool:
    """Say whether something is an array of a library, as opposed to a list or one number."""
    return hasattr(value, "__array__") and getattr(value, "shape", None) != ()


def readable(name: str, value: Any) -> Array:
    """Read an array of real numbers or objects, with NaN where it is masked. TypeError or ValueError for all others."""
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name}: expected a dense array, got sparse data; toarray() makes it dense")
    if is_series(value):
        return read_column(value)
    if isinstance(value, np.ma.MaskedArray):
        if value.dtype.kind in "biu":
            value = value.astype(np.float64)
        return np.asarray(value.filled(np.nan) if value.dtype.kind in "fO" else value)
    array = as_array(name, value)
    if is_bfloat16(array):
        return bfloat16_numbers(array)
    if array.dtype.kind == "c":
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}: Complex data not supported")
    if array.dtype.kind in "US":
        raise ValueError(f"{name}: expected numbers, got dtype {array.dtype}; an array of objects may hold categories")
    if array.dtype.kind not in "biufO":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def _array(array: Array) -> Given:
    if array.ndim not in (2, 3):
        hint = ". Reshape your data: X.reshape(1, -1) is one sequence of one feature" if array.ndim == 1 else ""
        raise ValueError(f"X: expected {_FORMS}, got {shape_text(array.shape)}{hint}")
    samples, steps = array.shape[:2]
    if array.ndim == 3 and array.shape[2] == 0 or array.ndim == 2 and steps == 0:
        raise ValueError(
            f"X: expected at least 1 feature, got 0 feature(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    layout = Layout("array" if array.ndim == 3 else "univariate", np.arange(samples + 1) * steps)
    features = array.shape[2] if array.ndim == 3 else 1
    block = array.reshape(samples * steps, features)
    return Given(layout, [block], [], steps if array.ndim == 2 else None)


def _list(X: Sequence[Any]) -> Given:
    blocks = []
    for place, each in enumerate(X):
        name = f"X[{place}]"
        array = readable(name, each)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name}: expected (T,) or (T, features), got {shape_text(array.shape)}")
        blocks.append(array[:, np.newaxis] if array.ndim == 1 else array)
        if blocks[-1].shape[1] != blocks[0].shape[1]:
            expected = shape_text(("T", blocks[0].shape[1]))
            raise ValueError(f"{name}: expected {expected}, as X[0] is, got {shape_text(array.shape)}")
    if blocks[0].shape[1] == 0:
        raise ValueError(f"X: expected at least 1 feature, got {shape_text(blocks[0].shape)} as X[0]")
    return Given(Layout("list", _offsets([len(block) for block in blocks])), blocks, [])


def _wide(table: Table, passed_over: Sequence[Any]) -> Given:
    """Read a table of one sequence a row, each column a step."""
    names = [name for name in table.names if name not in passed_over]
    columns = [table.column(name) for name in names]
    if not columns:
        raise ValueError(
            f"X: expected at least 1 feature, got 0 feature(s) (shape=({table.rows}, 0)) while a minimum of 1 is "
            "required."
        )
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind in "Mm":
            raise TypeError(
                f"X: expected numbers, got times in column {name!r}; a frame in long form needs sequence= and time="
            )
    step_names = feature_names(names)
    offsets = np.arange(table.rows + 1) * len(columns)
    layout = Layout("univariate", offsets, tables=[table], step_names=tuple(names))
    if len({column.dtype.kind == "O" for column in columns}) > 1:
        columns = [column.astype(object) for column in columns]
    return Given(layout, [np.stack(columns, axis=1).reshape(-1, 1)], [], len(columns), step_names)


def _long(table: Table, sequence: Any, time: Any, passed_over: Sequence[Any]) -> Given:
    for role, name in (("sequence", sequence), ("time", time)):
        if name is not None and name not in table:
            raise ValueError(f"{role}: expected a column of X, got {name!r}; X has {_listed(table.names)}")
    ids, rows, offsets = long_order(table, sequence, time)
    features = _features(table, (sequence, time, *passed_over))
    columns = [table.column(name) for name in features]
    if rows is not None:
        columns = [column[rows] for column in columns]
    return Given(Layout("long", offsets, feature_names(features), [table], rows, ids, sequence), [], columns)


def _frames(X: Sequence[Any], time: Any, passed_over: Sequence[Any]) -> Given:
    tables: list[Table] = []
    for place, each in enumerate(X):
        if not is_frame(each):
            raise TypeError(f"X[{place}]: expected a data frame, as X[0] is, got {type(each).__name__}")
        tables.append(Table(each))
        if time is not None and time not in tables[-1]:
            raise ValueError(f"time: expected a column of X[{place}], got {time!r}")
    features = _features(tables[0], (time, *passed_over))
    for place, table in enumerate(tables):
        own = _features(table, (time, *passed_over))
        if set(own) != set(features) or len(own) != len(features):
            raise ValueError(f"X[{place}]: expected the columns of X[0], {_listed(features)}, got {_listed(own)}")
    offsets = _offsets([table.rows for table in tables])
    rows = None if time is None else time_order(tables, time, offsets)
    parts = [[table.column(name) for table in tables] for name in features]
    columns = [joined(part) if rows is None else joined(part)[rows] for part in parts]
    return Given(Layout("frames", offsets, feature_names(features), tables, rows), [], columns)


def joined(parts: list[Array]) -> Array:
    """Join a column's parts; if some hold objects, all become objects, so that no number becomes a text."""
    if len({part.dtype.kind in "OUS" for part in parts}) > 1:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def _features(table: Table, others: Sequence[Any]) -> list[Any]:
    features = [name for name in table.names if not any(name == other for other in others)]
    if not features:
        raise ValueError(f"X: expected at least 1 feature beside {_listed(others)}, got {_listed(table.names)}")
    return features


def _offsets(lengths: list[int]) -> Array:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(repr(name) for name in names if name is not None)
