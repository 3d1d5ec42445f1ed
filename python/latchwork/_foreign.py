"""Numbers that NumPy alone does not read: bfloat16, tensors of one number, and columns of pandas that may have gaps.

Nothing is imported for it: bfloat16 is the upper half of a float32, and a table is asked through its own methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array


def is_bfloat16(array: Array) -> bool:
    """Say whether an array has the dtype bfloat16 of ml_dtypes, JAX's and TensorFlow's."""
    return array.dtype.kind == "V" and array.dtype.name == "bfloat16"


def bfloat16_numbers(array: Array) -> Array:
    """Give bfloat16 numbers, or their bits as 16-bit integers, as float32, exactly."""
    numbers: Array = (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return numbers


def without_numpy_dtype(value: Any) -> Any | None:
    """Give a tensor that NumPy can read for one of PyTorch's in bfloat16; None for all other values."""
    return value.float() if str(getattr(value, "dtype", None)) == "torch.bfloat16" else None


def without_tensor(value: Any) -> Any:
    """Give the number in a tensor of one, PyTorch's or another's; all other values as they are."""
    is_tensor = getattr(value, "shape", None) == () and hasattr(value, "__array__") and hasattr(value, "item")
    return value.item() if is_tensor and not isinstance(value, (np.ndarray, np.generic)) else value


def is_table(value: Any) -> bool:
    """Say whether something is a DataFrame, a Series or an array of pandas."""
    return any(str(base.__module__).partition(".")[0] == "pandas" for base in type(value).__mro__) and hasattr(
        value, "isna"
    )


def table_array(name: str, table: Any) -> Array:
    """Read a DataFrame, a Series or an array of pandas. ValueError if a column that may have gaps has one."""
    if not hasattr(table, "columns"):
        label = getattr(table, "name", None)
        return _column_array(name, table, "" if label is None else f"column {label!r}")
    columns = [table.iloc[:, place] for place in range(len(table.columns))]
    if not columns or all(_is_numpys(column) for column in columns):
        return np.asarray(table)
    labelled = zip(table.columns, columns, strict=True)
    return np.stack([_column_array(name, column, f"column {label!r}") for label, column in labelled], axis=1)


def _is_numpys(column: Any) -> bool:
    return isinstance(column.dtype, np.dtype) and column.dtype.kind != "O"


def _column_array(name: str, column: Any, label: str) -> Array:
    if _is_numpys(column):
        return np.asarray(column)
    gaps = np.flatnonzero(np.asarray(column.isna()))
    if gaps.size:
        place = f"row {gaps[0]}, {label}" if label else f"row {gaps[0]}"
        raise ValueError(f"{name}: expected no missing values, got one in {place}")
    dtype = getattr(column.dtype, "numpy_dtype", None)  # of a column that may have gaps, but has none
    if dtype is not None and dtype.kind in "biuf":
        return np.asarray(column.to_numpy(dtype=dtype))
    values = np.asarray(column)
    if values.dtype.kind == "O" and all(isinstance(value, (int, float, np.bool_, np.number)) for value in values):
        values = np.array(values.tolist())
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got dtype {column.dtype}{f' in {label}' if label else ''}")
    return values
