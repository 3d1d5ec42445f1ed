"""Constant folding: what a graph computes from its own constants, such as the weights of its LSTMs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.onnx.loading import BFLOAT16, attribute, tensor_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork._arrays import Array

_CAST = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip
_BEGINNING = 1 << 25  # bytes that may be computed beside what the file's own tensors hold, several times over


class NotFoldedError(Exception):
    """An operator that is not computed here, or not with these arguments."""


class TooLargeError(ValueError):
    """A constant that is far larger than the file."""


# What code that takes a node's inputs and attributes as they should be raises where they are not.
MAKES_NO_SENSE = (
    NotFoldedError, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, ZeroDivisionError
)  # fmt: skip


class Folder:
    """Computes operators whose inputs are known, within a budget of memory that follows from the file's own size."""

    def __init__(self, opset: int, folder: str | None, held: int) -> None:
        self.opset = opset
        self._folder = folder
        self._budget = _BEGINNING + 8 * held

    def allocate(self, shape: Sequence[int], itemsize: int) -> None:
        """Refuse results that are far larger than anything the file holds."""
        count = math.prod(max(0, int(size)) for size in shape)
        self._budget -= count * itemsize
        if self._budget < 0 or len(shape) > 32:
            raise TooLargeError(f"expected constants of a size that follows from the file's, got {count} elements more")

    def constant(self, node: Any) -> Array:
        """Read a Constant node."""
        for each in node.attribute:
            if each.name == "value":
                return tensor_array(each.t, self._folder)
            if each.name in ("value_float", "value_floats"):
                return np.array(attribute(node, each.name), np.float32)
            if each.name in ("value_int", "value_ints"):
                return np.array(attribute(node, each.name), np.int64)
        raise NotFoldedError

    def fold(self, node: Any, inputs: Sequence[Array | None]) -> list[Array]:
        """Compute a node's outputs.

        Raises
        ------
        NotFoldedError
            If the operator is not among those that are computed here, or its arguments make no sense.
        TooLargeError
            If the result would be too large.
        """
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in ("", "ai.onnx"):
            raise NotFoldedError
        try:
            return rule(self, node, [*inputs, *([None] * (6 - len(inputs)))])
        except MAKES_NO_SENSE as error:
            if isinstance(error, TooLargeError):
                raise
            raise NotFoldedError from error


def axes_argument(node: Any, given: Array | None, ndim: int) -> list[int] | None:
    """Give the axes of Squeeze, Unsqueeze and reductions, from the attribute or the input, counted from the front."""
    axes = attribute(node, "axes") if given is None else given.reshape(-1).tolist()
    if axes is None:
        return None
    if not all(isinstance(axis, int) and -ndim <= axis < ndim for axis in axes):
        raise NotFoldedError
    return [axis % ndim for axis in axes]


def slices_argument(node: Any, inputs: Sequence[Array | None], ndim: int) -> dict[int, slice]:
    """Give the slice of each axis that a Slice cuts."""
    if attribute(node, "starts") is not None:
        starts, ends, axes = (attribute(node, name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        lists = [None if each is None else each.reshape(-1).tolist() for each in inputs[1:5]]
        starts, ends, axes, steps = lists + [None] * (4 - len(lists))
    if starts is None or ends is None:
        raise NotFoldedError
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    result = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not all(isinstance(each, int) for each in (start, end, axis, step)) or not -ndim <= axis < ndim or step == 0:
            raise NotFoldedError
        # From the end backwards, an end before the beginning is none; NumPy would count it from the back.
        result[axis % ndim] = slice(start, None if step < 0 and end < -(1 << 30) else end, step)
    return result


def split_argument(node: Any, given: Array | None, total: int | None) -> list[int]:
    """Give the sizes that a Split cuts an axis into."""
    sizes = attribute(node, "split") if given is None else given.reshape(-1).tolist()
    if sizes is None:
        count = len(node.output)
        if total is None or not count:
            raise NotFoldedError
        chunk = -(-total // count)
        sizes = [min(chunk, total - chunk * place) for place in range(count)]
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or len(sizes) != len(node.output):
        raise NotFoldedError
    if total is not None and sum(sizes) != total:
        raise NotFoldedError
    return sizes


def _one(rule: Callable[..., Array]) -> Callable[..., list[Array]]:
    """Make a rule of one output."""
    return lambda folder, node, inputs: [rule(folder, node, inputs)]


def _cast(folder: Folder, node: Any, inputs: Any) -> Array:
    to = attribute(node, "to")
    folder.allocate(inputs[0].shape, 8)
    if inputs[0].dtype == object:
        return _need(inputs[0], to in (6, 7))
    if to in (10, BFLOAT16):  # the numbers that such a type can hold; they are kept as float32, as in files
        if to == 10:
            with np.errstate(over="ignore"):
                half: Array = inputs[0].astype(np.float16).astype(np.float32)
            return half
        raise NotFoldedError
    result: Array = inputs[0].astype(_CAST[to])
    return result


def _need(array: Array, condition: bool) -> Array:
    if not condition:
        raise NotFoldedError
    return array


def _transpose(folder: Folder, node: Any, inputs: Any) -> Array:
    array: Array = np.transpose(inputs[0], attribute(node, "perm"))
    return array


def _reshape(folder: Folder, node: Any, inputs: Any) -> Array:
    shape = inputs[1].tolist()
    if not attribute(node, "allowzero", 0):
        shape = [inputs[0].shape[place] if size == 0 else size for place, size in enumerate(shape)]
    folder.allocate(inputs[0].shape, inputs[0].itemsize)
    result: Array = inputs[0].reshape(shape)
    return result


def _squeeze(folder: Folder, node: Any, inputs: Any) -> Array:
    axes = axes_argument(node, inputs[1], inputs[0].ndim)
    array: Array = np.squeeze(inputs[0], None if axes is None else tuple(axes))
    return array


def _unsqueeze(folder: Folder, node: Any, inputs: Any) -> Array:
    count = len(attribute(node, "axes") or []) if inputs[1] is None else inputs[1].size
    axes = axes_argument(node, inputs[1], inputs[0].ndim + count)
    return np.expand_dims(inputs[0], tuple(_need_axes(axes)))


def _need_axes(axes: list[int] | None) -> list[int]:
    if axes is None:
        raise NotFoldedError
    return axes


def _concat(folder: Folder, node: Any, inputs: Any) -> Array:
    arrays = [array for array in inputs if array is not None]
    folder.allocate([sum(array.size for array in arrays)], max(array.itemsize for array in arrays))
    return np.concatenate(arrays, attribute(node, "axis"))


def _slice(folder: Folder, node: Any, inputs: Any) -> Array:
    cuts = slices_argument(node, inputs, inputs[0].ndim)
    result: Array = inputs[0][tuple(cuts.get(axis, slice(None)) for axis in range(inputs[0].ndim))]
    return result


def _split(folder: Folder, node: Any, inputs: Any) -> list[Array]:
    axis = attribute(node, "axis", 0)
    sizes = split_argument(node, inputs[1], inputs[0].shape[axis])
    return np.split(inputs[0], np.cumsum(sizes[:-1]).tolist(), axis)


def _gather(folder: Folder, node: Any, inputs: Any) -> Array:
    axis = attribute(node, "axis", 0)
    folder.allocate([inputs[1].size, inputs[0].size // max(1, inputs[0].shape[axis])], inputs[0].itemsize)
    return np.asarray(np.take(inputs[0], inputs[1].astype(np.int64), axis))


def _shape(folder: Folder, node: Any, inputs: Any) -> Array:
    return np.array(inputs[0].shape[attribute(node, "start", 0) : attribute(node, "end")], np.int64)


def _expand(folder: Folder, node: Any, inputs: Any) -> Array:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(_sizes(inputs[1])))
    folder.allocate(shape, inputs[0].itemsize)
    return np.broadcast_to(inputs[0], shape)


def _sizes(array: Array) -> list[int]:
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array < 0).any():
        raise NotFoldedError
    sizes: list[int] = array.tolist()
    return sizes


def filled_value(folder: Folder, node: Any) -> Array:
    """Give the number that a ConstantOfShape repeats."""
    given = attribute(node, "value")
    value = np.zeros(1, np.float32) if given is None else folder.constant(node)
    if value.size != 1:
        raise NotFoldedError
    return value.reshape(())


def _constant_of_shape(folder: Folder, node: Any, inputs: Any) -> Array:
    shape = _sizes(inputs[0])
    value = filled_value(folder, node)
    folder.allocate(shape, value.itemsize)
    return np.full(shape, value)


def _arithmetic(rule: Callable[[Any, Any], Any]) -> Callable[..., list[Array]]:
    def compute(folder: Folder, node: Any, inputs: Any) -> list[Array]:
        one, other = inputs[0], inputs[1]
        shape = np.broadcast_shapes(one.shape, other.shape)
        folder.allocate(shape, max(one.itemsize, other.itemsize))
        with np.errstate(all="ignore"):
            return [np.asarray(rule(one, other))]

    return compute


def _equal(folder: Folder, node: Any, inputs: Any) -> Array:
    """Compare; a size that the file leaves open is no number, such as the -1 that stands for one."""
    folder.allocate(np.broadcast_shapes(inputs[0].shape, inputs[1].shape), 8)
    return np.asarray(np.equal(inputs[0], inputs[1])).astype(np.bool_)


def _where(folder: Folder, node: Any, inputs: Any) -> Array:
    shape = np.broadcast_shapes(*(each.shape for each in inputs[:3]))
    folder.allocate(shape, 8)
    chosen: Array = np.where(*inputs[:3])
    return chosen


def _division(one: Array, other: Array) -> Any:
    if one.dtype.kind == "f":
        return one / other
    if one.dtype == object or other.dtype == object or (other <= 0).any() or (one < 0).any():
        raise NotFoldedError
    return one // other


def _dequantized(folder: Folder, node: Any, inputs: Any) -> Array:
    values, scale, zero = inputs[:3]
    folder.allocate(values.shape, 8)
    if scale.size > 1:
        shape = [1] * values.ndim
        shape[attribute(node, "axis", 1)] = -1
        scale = scale.reshape(shape)
        zero = None if zero is None else zero.reshape(shape)
    offset = 0 if zero is None else zero.astype(np.int64)
    result: Array = ((values.astype(np.int64) - offset).astype(scale.dtype) * scale).astype(scale.dtype)
    return result


_RULES: dict[str, Callable[..., list[Array]]] = {
    "Add": _arithmetic(lambda one, other: one + other),
    "Cast": _one(_cast),
    "Concat": _one(_concat),
    "Constant": _one(lambda folder, node, inputs: folder.constant(node)),
    "ConstantOfShape": _one(_constant_of_shape),
    "DequantizeLinear": _one(_dequantized),
    "Div": _arithmetic(_division),
    "Equal": _one(_equal),
    "Expand": _one(_expand),
    "Gather": _one(_gather),
    "Identity": _one(lambda folder, node, inputs: inputs[0]),
    "Mul": _arithmetic(lambda one, other: one * other),
    "Neg": _one(lambda folder, node, inputs: -inputs[0]),
    "Reshape": _one(_reshape),
    "Shape": _one(_shape),
    "Slice": _one(_slice),
    "Split": _split,
    "Squeeze": _one(_squeeze),
    "Sub": _arithmetic(lambda one, other: one - other),
    "Transpose": _one(_transpose),
    "Unsqueeze": _one(_unsqueeze),
    "Where": _one(_where),
}
