"""y and weights as they were given, in the order of the samples or of their steps, before anything is converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import as_array, shape_text
from latchwork._foreign import bfloat16_numbers, is_bfloat16
from latchwork.estimators.data.frames import Table, is_frame, is_series, objects, read_column
from latchwork.estimators.data.given import is_array, joined
from latchwork.estimators.data.labels import class_codes
from latchwork.estimators.data.real_columns import real_column
from latchwork.estimators.data.static import rows_of

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.layout import Layout


class Answers(NamedTuple):
    """Columns of y, each (n,) or (total_steps,), in whatever dtype."""

    columns: list[Array]
    names: tuple[Any, ...] | None
    single: bool  # y had no axis of outputs
    place: Callable[..., str]  # says in words where a row, and a column if given, is
    unit: str  # "sample" or "step"

    def column_text(self, column: int) -> str:
        """Name an output in words."""
        return f"column {column if self.names is None else repr(self.names[column])}"

    @property
    def rows(self) -> int:
        """How many samples or steps there are."""
        return len(self.columns[0])


def target_columns(y: Any, names: Sequence[Any]) -> tuple[Any, ...]:
    """Say which columns of a data frame with these names y calls: () if y is no name and no list of names."""
    if isinstance(y, str):
        return (y,)
    listed = isinstance(y, (list, tuple)) and len(y) > 0 and all(isinstance(each, str) for each in y)
    return tuple(y) if listed and all(each in names for each in y) else ()


def read_answers(y: Any, layout: Layout, per_step: bool) -> Answers:
    """Read y without converting it. The arguments are those of `regression_targets`."""
    if y is None:
        raise ValueError(
            "y: expected targets, got None: this estimator requires y to be passed, but the target y is None"
        )
    named = target_columns(y, layout.tables[0].names if layout.tables else ())
    if named:
        columns = [_column_of_frame(name, layout, per_step) for name in named]
        return _answers(columns, named, isinstance(y, str), layout, per_step)
    if per_step:
        return _per_step("y", y, layout)
    names: tuple[Any, ...] | None = None
    single = False
    if is_frame(y):
        table = Table(y)
        own = [name for name in table.names if layout.ids is None or name != layout.sequence]
        rows = _rows_by_name(table.column(layout.sequence).tolist() if len(own) < len(table.names) else None, layout)
        rows = _rows_by_index(table.index, layout) if rows is None else rows
        columns, names = [table.column(name) for name in own], tuple(own)
    elif is_series(y):
        rows, single = _rows_by_index(getattr(y, "index", None), layout), True
        columns = [read_column(y)]
        names = None if getattr(y, "name", None) is None else (y.name,)
    else:
        array = _read("y", y)
        if array.ndim not in (1, 2):
            raise ValueError(f"y: expected ({len(layout)},) or ({len(layout)}, outputs), got {shape_text(array.shape)}")
        rows, single = None, array.ndim == 1
        columns = [array] if single else list(array.T)
    if rows is not None:
        columns = [column[rows] for column in columns]
    if not columns or len(columns[0]) != len(layout):
        if single:
            got = shape_text((len(columns[0]),))
        else:
            got = shape_text((len(columns[0]), len(columns)) if columns else (len(layout), 0))
        hint = '; one for each step needs head="sequence"' if columns and len(columns[0]) == layout.total_steps else ""
        raise ValueError(f"y: expected one target for each of {len(layout)} samples, got {got}{hint}")
    return _answers(columns, names, single, layout, False)


def distinct_classes(classes: Any) -> Array:
    """Read the labels that y may bring, and sort them. ValueError or TypeError, as for labels in y."""
    array = np.ravel(_read("classes", classes))
    try:
        codes, found = class_codes(array, None, "place {}".format)
    except (ValueError, TypeError) as error:
        raise type(error)("classes" + str(error).removeprefix("y")) from None
    if (codes < 0).any():
        raise ValueError(f"classes: expected labels, got none in place {int(np.argmax(codes < 0))}")
    return found


def _answers(
    columns: list[Array], names: tuple[Any, ...] | None, single: bool, layout: Layout, per_step: bool
) -> Answers:
    def place(row: int, column: int = 0) -> str:
        text = layout.place(row) if per_step else layout.sample_text(row)
        if single:
            return text
        return f"{text}, column {column if names is None else repr(names[column])}"

    return Answers(columns, names, single, place, "step" if per_step else "sample")


def _column_of_frame(name: Any, layout: Layout, per_step: bool) -> Array:
    """Read a column of the frames that X is."""
    if not layout.tables or (per_step and layout.kind == "univariate"):
        raise ValueError(f"y: expected targets, got the name {name!r}, but X is no data frame in long form")
    for place, table in enumerate(layout.tables):
        if name not in table:
            where = "X" if layout.kind != "frames" else f"X[{place}]"
            there = ", ".join(map(repr, table.names))
            raise ValueError(f"y: expected a column of {where}, got {name!r}; there are {there}")
    steps = joined([table.column(name) for table in layout.tables])
    if layout.kind == "univariate":
        return steps
    steps = layout.by_step(steps)
    if per_step:
        return steps
    lengths = np.diff(layout.offsets)
    if not lengths.all():
        empty = layout.sample_text(int(np.argmin(lengths)))
        raise ValueError(f"y: expected at least one row of each sequence, because y is a column, got none of {empty}")
    first = steps[layout.offsets[:-1]]
    repeated = np.repeat(first, lengths)
    differs = repeated != steps
    if steps.dtype.kind == "f":
        differs &= ~(np.isnan(repeated) & np.isnan(steps))
    if differs.any():
        step = int(np.argmax(differs))
        values = [each.item() if isinstance(each, np.generic) else each for each in (repeated[step], steps[step])]
        raise ValueError(
            f"y: expected the same value of column {name!r} in all rows of a sequence, got {values[0]!r} and "
            f'{values[1]!r} in {layout.place(step)}; one target for each row needs head="sequence"'
        )
    return first


def _per_step(name: str, y: Any, layout: Layout) -> Answers:
    if layout.kind == "long":
        columns, names, single = _aligned(name, y, layout)
        return _answers([layout.by_step(column) for column in columns], names, single, layout, True)
    if layout.kind in ("array", "univariate") and not _is_list_of_arrays(y):
        array = _read(name, Table(y).values() if is_frame(y) else y)
        steps = int(layout.offsets[1])
        shape = (len(layout), steps)
        if array.ndim not in (2, 3) or array.shape[:2] != shape:
            expected = f"{shape_text(shape)} or {shape_text((*shape, 'outputs'))}"
            raise ValueError(f"{name}: expected {expected}, one for each step, got {shape_text(array.shape)}")
        flat = array.reshape(layout.total_steps, *array.shape[2:])
        single = flat.ndim == 1
        return _answers([flat] if single else list(flat.T), None, single, layout, True)
    parts = [_sample_columns(f"{name}[{place}]", each) for place, each in enumerate(y)] if _is_list(y) else []
    if len(parts) != len(layout):
        got = len(parts) if parts else type(y).__name__
        raise ValueError(
            f"{name}: expected a list of {len(layout)} arrays, one value for each step of each sample, got {got}"
        )
    lengths = np.diff(layout.offsets)
    for place, (part, length) in enumerate(zip(parts, lengths.tolist(), strict=True)):
        if len(part) != length or part.shape[1:] != parts[0].shape[1:]:
            expected = shape_text((length, *parts[0].shape[1:]))
            raise ValueError(f"{name}[{place}]: expected {expected}, got {shape_text(part.shape)}")
    flat = layout.by_step(joined(parts))
    single = flat.ndim == 1
    return _answers([flat] if single else list(flat.T), None, single, layout, True)


def _is_list(y: Any) -> bool:
    return isinstance(y, (list, tuple)) or (isinstance(y, np.ndarray) and y.dtype.kind == "O" and y.ndim == 1)


def _is_list_of_arrays(y: Any) -> bool:
    return _is_list(y) and len(y) > 0 and is_array(y[0])


def _sample_columns(name: str, each: Any) -> Array:
    """Read the targets of one sample's steps: (T,) or (T, outputs)."""
    array = _read(name, Table(each).values() if is_frame(each) else each)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: expected (T,) or (T, outputs), got {shape_text(array.shape)}")
    return array


def _aligned(name: str, y: Any, layout: Layout) -> tuple[list[Array], tuple[Any, ...] | None, bool]:
    """Read what has a row for each row of the long frame."""
    index = getattr(y, "index", None) if is_series(y) or is_frame(y) else None
    own = layout.tables[0].index
    if index is not None and own is not None and not callable(index) and not index.equals(own) and (
        len(index) == len(own) and set(index) == set(own)
    ):  # fmt: skip
        raise ValueError(f"{name}: expected the rows in the order of those of X, got the same index in another order")
    if is_frame(y):
        table = Table(y)
        columns, names, single = [table.column(each) for each in table.names], tuple(table.names), False
    else:
        array = _read(name, y)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name}: expected ({layout.total_steps},), got {shape_text(array.shape)}")
        single = array.ndim == 1
        columns, names = [array] if single else list(array.T), None
        if single and is_series(y) and getattr(y, "name", None) is not None:
            names = (y.name,)
    if not columns or len(columns[0]) != layout.total_steps:
        got = len(columns[0]) if columns else 0
        raise ValueError(f"{name}: expected {layout.total_steps} rows, one for each row of X, got {got}")
    return columns, names, single


def _rows_by_name(labels: list[Any] | None, layout: Layout) -> Array | None:
    return None if labels is None or layout.ids is None else rows_of(layout.ids, labels, "y")


def _rows_by_index(index: Any, layout: Layout) -> Array | None:
    """Find the row of each sequence in an index of pandas; None if it counts the rows, or names nothing."""
    if index is None or callable(index) or layout.ids is None:
        return None
    labels = index.tolist()
    if set(labels) == set(layout.ids) and len(labels) == len(layout.ids):
        return rows_of(layout.ids, labels, "y")
    if labels == list(range(len(labels))):
        return None
    raise ValueError(
        "y: expected an index of the sequences' names, or one that counts them in the order of their first rows, got "
        f"{', '.join(map(repr, labels[:3]))}{', ...' if len(labels) > 3 else ''}"
    )


def read_weights(sample_weight: Any, layout: Layout, per_step: bool, dtype: np.dtype[Any]) -> Array | None:
    """Read weights of samples, or of steps where targets are per step: (n,) or (total_steps,). ValueError."""
    if sample_weight is None:
        return None
    name = "sample_weight"
    by_step = per_step and _has_steps(sample_weight, layout)
    if by_step:
        column = _per_step_weights(sample_weight, layout)
        place: Callable[[int], str] = layout.place
    else:
        column = _read(name, sample_weight)
        place = layout.sample_text
        if is_series(sample_weight):
            rows = _rows_by_index(getattr(sample_weight, "index", None), layout)
            column = column if rows is None else column[rows]
        if column.shape != (len(layout),):
            steps = ", or one for each step" if per_step else ""
            raise ValueError(f"{name}: expected ({len(layout)},){steps}, got {shape_text(column.shape)}")
    weights = real_column(column, dtype, place, name)
    wrong = ~(weights >= 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name}: expected numbers from 0 on, got {weights[row]} in {place(row)}")
    return weights if by_step or not per_step else np.repeat(weights, np.diff(layout.offsets))


def _has_steps(sample_weight: Any, layout: Layout) -> bool:
    """Say whether weights are those of steps by their form."""
    if layout.kind == "long":
        return hasattr(sample_weight, "__len__") and len(sample_weight) == layout.total_steps != len(layout)
    if _is_list(sample_weight):
        return len(sample_weight) > 0 and hasattr(sample_weight[0], "__len__")
    return np.ndim(sample_weight) > 1


def _per_step_weights(sample_weight: Any, layout: Layout) -> Array:
    answers = _per_step("sample_weight", sample_weight, layout)
    if len(answers.columns) != 1:
        raise ValueError(f"sample_weight: expected one for each step, got {len(answers.columns)}")
    return answers.columns[0]


def _read(name: str, value: Any) -> Array:
    """Read an array of labels or numbers in whatever dtype; what is masked is missing."""
    if is_series(value):
        return read_column(value)
    if isinstance(value, np.ma.MaskedArray):
        gaps = np.ma.getmaskarray(value)
        if gaps.any():
            filled = value.data.astype(object)
            filled[gaps] = None
            return filled
        value = value.data
    if isinstance(value, (list, tuple)) and any(each is None or type(each).__name__ == "NAType" for each in value):
        return objects(value)
    array = as_array(name, value)
    if is_bfloat16(array):
        return bfloat16_numbers(array)
    if array.dtype.kind == "c":
        raise ValueError(f"{name}: expected real numbers, got {array.dtype}: Complex data not supported")
    if array.dtype.kind == "U" and isinstance(value, (list, tuple)) and not all(
        isinstance(each, str) for each in _leaves(value)
    ):  # fmt: skip
        return np.array(value, object)  # NumPy would make texts of numbers among texts
    return array


def _leaves(value: Any) -> list[Any]:
    flat: list[Any] = []
    for each in value:
        flat += _leaves(each) if isinstance(each, (list, tuple, np.ndarray)) else [each]
    return flat
