"""Data frames of pandas, polars and Arrow, read column by column through their own methods.

None of these libraries is imported, except PyArrow for a frame of another library that gives its columns as Arrow does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._foreign import bfloat16_numbers, is_bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array


class Table:
    """A data frame: its names, and each column as an array.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame, pyarrow.Table or another with ``__arrow_c_stream__``
        What `is_frame` says yes to; `latchwork.cli.columns.Table` too, whose columns are arrays already.

    Attributes
    ----------
    library : {"pandas", "polars", "pyarrow", "latchwork"}
        Whose methods the columns are read by.
    names : list
        The columns' names; only pandas has some that are no str.
    rows : int
        How many rows there are.
    index : pandas.Index or None
        The labels of the rows; None for a frame that has none.
    """

    def __init__(self, frame: Any) -> None:
        library = _library(frame)
        if library == "polars" and not hasattr(frame, "height"):
            raise TypeError("X: expected a polars.DataFrame, got a LazyFrame; collect() makes one of it")
        if library not in ("pandas", "polars", "pyarrow", "latchwork"):
            frame, library = importlib.import_module("pyarrow").table(frame), "pyarrow"
        self._frame = frame
        self.library = library
        self.names: list[Any] = list(frame.columns if library != "pyarrow" else frame.schema.names)
        self.rows: int = len(frame) if library != "pyarrow" else frame.num_rows
        self.index: Any = frame.index if library == "pandas" else None

    def __contains__(self, name: object) -> bool:
        """Say whether there is a column of this name."""
        return name in self.names

    def column(self, name: Any) -> Array:
        """Read a column: see `read_column`. KeyError if there is none, ValueError if there are several."""
        places = [place for place, each in enumerate(self.names) if each == name]
        if not places:
            raise KeyError(name)
        if len(places) > 1:
            raise ValueError(f"X: expected columns of different names, got {len(places)} of the name {name!r}")
        if self.library == "latchwork":
            column: Array = self._frame[name]
            return column
        if self.library == "pandas":
            return read_column(self._frame.iloc[:, places[0]])
        if self.library == "polars":
            return read_column(self._frame.to_series(places[0]))
        return read_column(self._frame.column(places[0]))

    def values(self) -> Array:
        """Read all columns as one array (rows, columns)."""
        columns = [self.column(name) for name in self.names]
        return np.stack(columns, axis=1) if columns else np.empty((self.rows, 0))


def is_frame(value: Any) -> bool:
    """Say whether something is a data frame, as opposed to an array, a list or one column."""
    if isinstance(value, (np.ndarray, list, tuple)) or is_series(value):
        return False
    library = _library(value)
    if library == "pandas":
        return hasattr(value, "columns") and hasattr(value, "iloc")
    if library == "latchwork":
        return hasattr(value, "columns") and hasattr(value, "place")
    return library == "polars" or hasattr(value, "__arrow_c_stream__")


def is_series(value: Any) -> bool:
    """Say whether something is one column of pandas, polars or PyArrow."""
    name, library = type(value).__name__, _library(value)
    if library == "pandas":
        return hasattr(value, "dtype") and hasattr(value, "isna") and not hasattr(value, "columns")
    return (library == "polars" and name == "Series") or (library == "pyarrow" and hasattr(value, "to_pylist") and (
        not hasattr(value, "schema")
    ))  # fmt: skip


def read_column(column: Any) -> Array:
    """Read one column (rows,) of pandas, polars or PyArrow.

    Numbers and times come in a dtype of NumPy's; where some are missing they are floats with NaN, and times with NaT.
    All else comes as objects, of which `is_missing` says whether they are missing.
    """
    library = _library(column)
    if library == "pandas":
        return _pandas_column(column)
    if library == "polars":
        values = column.to_numpy() if _is_numeric(str(column.dtype)) else objects(column.to_list())
    else:
        values = column.to_numpy(zero_copy_only=False) if not hasattr(column, "chunks") else column.to_numpy()
        if values.dtype.kind == "O" or str(column.type).startswith("dictionary"):
            values = objects(column.to_pylist())
    return _in_known_dtype(values)


def _is_numeric(dtype: str) -> bool:
    return dtype.startswith(("Int", "UInt", "Float", "Boolean", "Date"))


def _pandas_column(column: Any) -> Array:
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return _in_known_dtype(column.to_numpy())
    missing = np.asarray(column.isna())
    own = getattr(dtype, "numpy_dtype", None)  # of a column that marks what is missing beside its numbers
    kind = getattr(own, "kind", getattr(dtype, "kind", "O"))
    if kind in "biuf" and own is not None:
        if not missing.any():
            return np.asarray(column.to_numpy(dtype=own))
        return np.asarray(column.to_numpy(dtype=own if kind == "f" else np.float64, na_value=np.nan))
    if kind == "M":
        return np.asarray(column.to_numpy(dtype="M8[ns]"))
    values = np.array(column.astype(object), object)
    values[missing] = None
    return values


def _in_known_dtype(values: Array) -> Array:
    if is_bfloat16(values):
        return bfloat16_numbers(values)
    return values.astype(object) if values.dtype.kind in "US" else values


def objects(values: Sequence[Any]) -> Array:
    """Give values as an array (n,) of objects."""
    return np.fromiter(values, object, len(values))


def numbered(name: str, values: Array) -> tuple[list[Any], Array]:
    """Give the different values of an array (n,), and for each one its place among them.

    Those of objects are in the order of first appearance, all others sorted. TypeError if an object has no hash.
    """
    if values.dtype.kind != "O":
        unique, inverse = np.unique(values, return_inverse=True)
        return unique.tolist() if values.dtype.kind not in "Mm" else list(unique), inverse
    each = values.tolist()
    try:
        places = {value: place for place, value in enumerate(dict.fromkeys(each))}
    except TypeError as error:
        raise TypeError(f"{name}: expected texts or numbers, got something else: {error}") from None
    return list(places), np.fromiter(map(places.__getitem__, each), np.int64, len(each))


def is_missing(value: Any) -> bool:
    """Say whether a value stands for one that is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and value != value


def feature_names(names: Sequence[Any]) -> tuple[str, ...] | None:
    """Give the names of features if all are str, None if none is. TypeError for a mixture, as scikit-learn has it."""
    named = [isinstance(name, str) for name in names]
    if all(named) and named:
        return tuple(names)
    if any(named):
        kinds = sorted({type(name).__name__ for name in names})
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{kinds} as feature name / column name types. If you want feature names to be stored and validated, you "
            "must convert them all to strings, by using X.columns = X.columns.astype(str) for example."
        )
    return None


def _library(value: Any) -> str:
    """Name the library that an object's class, or one that it derives from, comes from."""
    roots = [str(base.__module__).partition(".")[0] for base in type(value).__mro__]
    return next((root for root in roots if root in ("pandas", "polars", "pyarrow")), roots[0])
