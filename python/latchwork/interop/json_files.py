"""JSON files of models: read within bounds, numbers checked, and written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import real_number, shape_text
from latchwork._file_kinds import description
from latchwork._writing import path_text, write_atomically

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._writing import FilePath

# What a file may have, so that no small file needs much memory: Python holds each number in 32 bytes, and each list and
# text in some more.
_BYTES = 25_000_000
_VALUES = 1_500_000
_TEXTS = 100_000
_CONTAINERS = 200_000


def read_object(path: FilePath) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises
    ------
    ValueError
        If it holds something else, is damaged, or is larger than models of this kind are.
    OSError
        If it cannot be read.
    """
    path = path_text(path)
    with open(path, "rb") as file:
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise ValueError(f"{path}: expected JSON of at most {_BYTES:,} bytes, got more")
    for what, limit, found in (
        ("values", _VALUES, content.count(b",")),
        ("texts", _TEXTS, content.count(b'"') // 2),
        ("lists and objects", _CONTAINERS, content.count(b"[") + content.count(b"{")),
    ):
        if found > limit:
            raise ValueError(f"{path}: expected JSON of at most {limit:,} {what}, got {found:,}")
    try:
        value = json.loads(content.decode("utf-8-sig"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"{path}: expected a model as JSON, got lists or objects nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected a model as JSON, got {description(path)}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {_kind(value)}")
    return value


def write_object(path: FilePath, value: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all. ValueError if a number is not finite, because JSON has none such."""
    path = path_text(path)
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"model: expected finite numbers, which are all that JSON holds, got others: {error}"
        ) from error
    write_atomically(path, text.encode())


def hertz(sample_rate: Any) -> float:
    """Check a sample rate. ValueError or TypeError unless it is a number above 0."""
    rate = real_number("sample_rate", sample_rate)
    if rate == 0:
        raise ValueError("sample_rate: expected a number above 0, got 0")
    return rate


def numbers(name: str, value: Any, dimensions: int) -> Array:
    """Make a float64 array of nested lists. ValueError unless they hold finite numbers in so many dimensions."""
    try:
        array = np.asarray(value) if isinstance(value, list) else np.asarray(None)
    except (ValueError, OverflowError):
        raise ValueError(f"{name}: expected lists of one length each, got lists of different lengths") from None
    if array.size == 0:
        array = array.astype(np.float64)
    if array.dtype.kind not in "if":
        raise ValueError(f"{name}: expected lists of numbers, got {_kind(value)}")
    if array.ndim != dimensions:
        raise ValueError(f"{name}: expected {dimensions} dimensions, got shape {shape_text(array.shape)}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got others")
    return array


def integer_of(name: str, value: Any, lowest: int = 1) -> int:
    """Check a size. ValueError unless it is a whole number of at least ``lowest``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < lowest:
        raise ValueError(f"{name}: expected a whole number of at least {lowest}, got {_shown(value)}")
    return int(value)


def rounded(name: str, array: Array, dtype: Any) -> Array:
    """Round numbers to a dtype. ValueError if one of them is too large for it."""
    with np.errstate(over="ignore"):
        result: Array = array.astype(dtype)
    if not np.isfinite(result).all():
        raise ValueError(f"{name}: expected numbers that {np.dtype(dtype)} holds, got larger ones")
    return result


def plain(array: Array) -> Any:
    """Give an array as lists that JSON holds exactly."""
    return array.astype(np.float64).tolist()


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float, str)) and len(repr(value)) < 60 else _kind(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")
