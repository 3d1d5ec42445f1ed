"""ONNX files as messages, and their tensors as arrays: nothing is believed that the file does not hold."""

from __future__ import annotations

import importlib
import math
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from latchwork._file_kinds import description
from latchwork._foreign import bfloat16_numbers
from latchwork._writing import path_text

if TYPE_CHECKING:
    from latchwork._arrays import Array

FIRST_OPSET = 7  # the LSTM operator of earlier ones has other attributes

# ONNX's numbers of element types: the dtype here, and the field that holds the elements if ``raw_data`` does not.
_TYPES: dict[int, tuple[np.dtype[Any], str]] = {
    1: (np.dtype("<f4"), "float_data"),
    2: (np.dtype("<u1"), "int32_data"),
    3: (np.dtype("<i1"), "int32_data"),
    4: (np.dtype("<u2"), "int32_data"),
    5: (np.dtype("<i2"), "int32_data"),
    6: (np.dtype("<i4"), "int32_data"),
    7: (np.dtype("<i8"), "int64_data"),
    9: (np.dtype("?"), "int32_data"),
    10: (np.dtype("<f2"), "int32_data"),
    11: (np.dtype("<f8"), "double_data"),
    12: (np.dtype("<u4"), "uint64_data"),
    13: (np.dtype("<u8"), "uint64_data"),
    16: (np.dtype("<u2"), "int32_data"),  # bfloat16, by its bits
}
BFLOAT16 = 16
FLOAT_TYPES = (1, 10, 11, BFLOAT16)
EXTERNAL = 1


@dataclass(frozen=True)
class Source:
    """An ONNX model, and where it came from.

    Attributes
    ----------
    model : onnx.ModelProto
        The message.
    name : str
        What messages call it.
    folder : str, optional
        Where its external data lies. None: it did not come from a file.
    """

    model: Any
    name: str
    folder: str | None

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        versions: list[int] = [each.version for each in self.model.opset_import if each.domain in ("", "ai.onnx")]
        return versions[0] if versions else 1


def onnx_package() -> Any:
    """Import onnx, or say which extra brings it."""
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ImportError("ONNX models need the package onnx: pip install 'latchwork[onnx]'") from None


def opened(model: Any) -> Source:
    """Read a model from a path, from bytes or from a message.

    Raises
    ------
    ValueError
        If it is no ONNX model, or of an opset before 7.
    TypeError
        If it is none of these three.
    """
    onnx = onnx_package()
    folder = None
    if isinstance(model, onnx.ModelProto):
        source = Source(model, "model", None)
    elif isinstance(model, (bytes, bytearray, memoryview)):
        source = Source(_parsed(onnx, bytes(model), "model", "bytes that are none"), "model", None)
    elif isinstance(model, (str, os.PathLike)):
        path = path_text(model)
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{path}: expected an ONNX model, got something that is no regular file")
        with open(path, "rb") as file:
            content = file.read()
        folder = os.path.dirname(os.path.abspath(path))
        source = Source(_parsed(onnx, content, path, description(path)), path, folder)
    else:
        raise TypeError(f"model: expected a path, bytes or onnx.ModelProto, got {type(model).__name__}")
    if not source.model.HasField("graph") or not (source.model.graph.node or source.model.graph.output):
        raise ValueError(f"{source.name}: expected an ONNX model, got one without a graph")
    if source.opset < FIRST_OPSET:
        raise ValueError(f"{source.name}: expected opset {FIRST_OPSET} or later, got {source.opset}")
    return source


def _parsed(onnx: Any, content: bytes, name: str, found: str) -> Any:
    message = onnx.ModelProto()
    try:
        message.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError, or what its other implementations raise
        if isinstance(error, MemoryError):
            raise
        raise ValueError(f"{name}: expected an ONNX model, got {found}: {error}") from error
    return message


def tensor_array(tensor: Any, folder: str | None) -> Array:
    """Read a tensor: float16 and bfloat16 become float32, other types stay as they are.

    Raises
    ------
    ValueError
        If its type has no counterpart in NumPy, or if it holds another number of elements than its shape says.
    """
    name = f"tensor {text(tensor.name)!r}"
    shape = tuple(tensor.dims)
    if tensor.data_type not in _TYPES:
        raise ValueError(f"{name}: expected numbers, got elements of ONNX's type {tensor.data_type}")
    if any(size < 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"{name}: expected a shape, got {_shown(shape)}")
    dtype, field = _TYPES[tensor.data_type]
    count = math.prod(shape)
    if tensor.data_location == EXTERNAL:
        flat = np.frombuffer(_external(tensor, name, folder, count * dtype.itemsize), dtype)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * dtype.itemsize:
            _refuse_count(name, shape, len(tensor.raw_data) / dtype.itemsize)
        flat = np.frombuffer(tensor.raw_data, dtype)
    else:
        values = getattr(tensor, field)
        if len(values) != count:
            _refuse_count(name, shape, len(values))
        try:
            flat = _from_field(values, dtype)
        except (OverflowError, ValueError):
            raise ValueError(f"{name}: expected elements of {dtype.name}, got others") from None
    if tensor.data_type == BFLOAT16:
        flat = bfloat16_numbers(np.ascontiguousarray(flat))
    elif dtype == np.float16:
        flat = flat.astype(np.float32)
    try:
        array: Array = flat.reshape(shape)
    except ValueError:  # an axis of no elements beside ones that are too long for NumPy
        raise ValueError(f"{name}: expected a shape, got {_shown(shape)}") from None
    return array


def _from_field(values: Any, dtype: np.dtype[Any]) -> Array:
    """Read elements from a field of numbers, which holds 16-bit floats as their bits."""
    if dtype == np.float16:
        return np.array(values, np.uint16).view(np.float16)
    return np.array(values, dtype)


def _refuse_count(name: str, shape: tuple[int, ...], found: float) -> NoReturn:
    raise ValueError(f"{name}: expected {math.prod(shape)} elements for the shape {_shown(shape)}, got {found:g}")


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape[:8]))}{', ...' if len(shape) > 8 else ''})"


def _external(tensor: Any, name: str, folder: str | None, size: int) -> bytes:
    """Read a tensor's bytes from the file beside the model that it names, never from elsewhere."""
    if folder is None:
        raise ValueError(f"{name}: its numbers are in a file beside the model: pass the model's path")
    fields = {each.key: each.value for each in tensor.external_data}
    location = fields.get("location", "")
    root = os.path.realpath(folder)
    parts = text(location).replace("\\", "/").split("/")
    if not location or not isinstance(location, str) or "\0" in location or os.path.isabs(location) or ".." in parts:
        raise ValueError(f"{name}: expected a file in the model's folder, got {text(location)!r}")
    path = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath([root, path]) != root:
        raise ValueError(f"{name}: expected a file in the model's folder, got {text(location)!r}, a link out of it")
    offset, length = (_whole(name, key, fields.get(key)) for key in ("offset", "length"))
    if length is not None and length != size:
        raise ValueError(f"{name}: expected {size} bytes for its shape, got {length}")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{name}: expected a regular file, got {text(location)!r}")
        if os.path.getsize(path) < (offset or 0) + size:
            raise ValueError(f"{name}: expected {size} bytes from {offset or 0} on in {text(location)!r}, which ends")
        with open(path, "rb") as file:
            file.seek(offset or 0)
            content = file.read(size)
    except OSError as error:
        raise ValueError(f"{name}: {text(location)!r} cannot be read: {error.strerror or error}") from error
    if len(content) != size:
        raise ValueError(f"{name}: expected {size} bytes, got {len(content)}")
    return content


def _whole(name: str, key: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise ValueError(f"{name}: {key}: expected a whole number, got {text(value)!r}")
    return int(value)


def text(value: Any) -> str:
    """Give a name or a string attribute such that a message can hold it."""
    decoded = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return decoded if len(decoded) <= 100 else decoded[:100] + "..."


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Give the value of a node's attribute: a number, text, a list of them, or a message.

    Raises
    ------
    ValueError
        If it is of a kind that no operator here has.
    """
    for each in node.attribute:
        if each.name == name:
            return _attribute_value(each)
    return default


def _attribute_value(item: Any) -> Any:
    fields = {1: "f", 2: "i", 4: "t", 5: "g", 6: "floats", 7: "ints"}
    if item.type == 3:
        return text(item.s)
    if item.type == 8:
        return [text(each) for each in item.strings]
    if item.type not in fields:
        raise ValueError(f"attribute {text(item.name)!r}: expected a number, text or a graph, got kind {item.type}")
    value = getattr(item, fields[item.type])
    return list(value) if item.type in (6, 7) else value
