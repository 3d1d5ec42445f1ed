"""Operators that are layers of ours: products, sums with constants, activations and pooling."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.input_layers import Scale
from latchwork.interop.chain import Part, activated
from latchwork.interop.onnx.folding import axes_argument
from latchwork.interop.onnx.loading import attribute, text
from latchwork.interop.onnx.steps import ACTIVATIONS, activation_of
from latchwork.interop.onnx.values import Data, Known
from latchwork.layers import Linear, Max, Mean
from latchwork.step_layers import InputSkip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork.interop.onnx.reader import Reader


def _origin(node: Any) -> str:
    return f"node {text(node.name or (node.output[0] if node.output else ''))!r}"


def _numbers(value: Any) -> Array | None:
    return value.array if isinstance(value, Known) and value.array.dtype.kind == "f" else None


def _linear(reader: Reader, node: Any, data: Any, matrix: Array | None, bias: Array | None) -> Any:
    """Put a product with a matrix (in, out) on top, if the data's last axis is all of its features."""
    if not isinstance(data, Data) or matrix is None or matrix.ndim != 2 or not reader.whole(data):
        return None
    count, (inputs, outputs) = reader.feature_count(data), matrix.shape
    if count not in (None, inputs) or not inputs or not outputs:
        return None
    if data.stage.part is None:
        reader.axes.sizes[data.axes[-1][0]] = inputs
    options = {"in_features": inputs, "out_features": outputs, "bias": bias is not None}
    tensors = {"weight": matrix.T} | ({} if bias is None else {"bias": bias})
    return [reader.on_top(data, Part(Linear, options, tensors, _origin(node)), outputs)]


def _matmul(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    return _linear(reader, node, values[0], _numbers(values[1]), None)


def _gemm(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, matrix = values[0], _numbers(values[1])
    if matrix is None or attribute(node, "transA", 0) or not isinstance(data, Data) or len(data.axes) != 2:
        return None
    matrix = _times(matrix.T if attribute(node, "transB", 0) else matrix, attribute(node, "alpha", 1.0))
    if values[2] is None:
        return _linear(reader, node, data, matrix, None)
    given = _numbers(values[2])
    bias = None if given is None or matrix.ndim != 2 else _per_feature(given, matrix.shape[1], 2)
    return None if bias is None else _linear(reader, node, data, matrix, _times(bias, attribute(node, "beta", 1.0)))


def _times(array: Array, factor: float) -> Array:
    return array if factor == 1 else (array * array.dtype.type(factor)).astype(array.dtype)


def _per_feature(array: Array, count: int, ndim: int) -> Array | None:
    """Give a constant as a number for each feature, if it says the same for all steps and rows."""
    if array.size == 1 and array.ndim <= ndim:
        return np.full(count, array.reshape(()))
    if array.size != count or array.shape[-1] != count or array.ndim > ndim:
        return None
    return array.reshape(-1)


def _sum(sign: int) -> Callable[[Reader, Any, Sequence[Any]], Any]:
    """Make the rule of Add, or of Sub: a bias, or a shift of its own."""

    def rule(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
        swapped = isinstance(values[1], Data)
        data, array = (values[1], _numbers(values[0])) if swapped else (values[0], _numbers(values[1]))
        if array is None or not isinstance(data, Data):
            return None
        constant = _constant(reader, data, array)
        if constant is None:
            return None
        if sign < 0 and swapped:
            return _scaled(reader, node, data, constant, np.full_like(constant, -1))
        part, below = data.stage.part, data.stage.below
        is_bare = part is not None and part.layer is Linear and not part.options["bias"]
        if is_bare and part is not None and below is not None and not part.options.get("activation"):
            bias = constant if sign > 0 else -constant
            tensors = {**part.tensors, "bias": bias}
            biased = replace(part, options={**part.options, "bias": True}, tensors=tensors)
            return [replace(data, stage=reader.put(below, biased, data.stage.features))]
        return _scaled(reader, node, data, -constant if sign > 0 else constant, np.ones_like(constant))

    return rule


def _constant(reader: Reader, data: Data, array: Array) -> Array | None:
    """Read a constant that stands beside data as a number for each feature."""
    if not reader.whole(data):
        return None
    count = reader.feature_count(data)
    if count is None:
        if data.stage.part is not None or array.size < 2:
            return None
        count = reader.axes.sizes[data.axes[-1][0]] = array.shape[-1]
    return _per_feature(array, count, len(data.axes))


def _product(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, array = (values[1], values[0]) if isinstance(values[1], Data) else (values[0], values[1])
    numbers = _numbers(array)
    constant = None if numbers is None or not isinstance(data, Data) else _constant(reader, data, numbers)
    return None if constant is None else _scaled(reader, node, data, np.zeros_like(constant), constant)


def _quotient(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, numbers = values[0], _numbers(values[1])
    constant = None if numbers is None or not isinstance(data, Data) else _constant(reader, data, numbers)
    if constant is None or not constant.all():
        return None
    return _scaled(reader, node, data, np.zeros_like(constant), 1 / constant.astype(np.float64))


def _scaled(reader: Reader, node: Any, data: Data, shift: Array, factor: Array) -> Any:
    """Put (x - shift) * factor on top; a factor right after a shift belongs to it."""
    part, below = data.stage.part, data.stage.below
    if part is not None and below is not None and part.layer is Scale and not shift.any():
        before = part.options
        if all(each == 1 for each in before["factor"]):
            options: Mapping[str, Any] = {**before, "factor": factor.tolist()}
            return [replace(data, stage=reader.put(below, replace(part, options=options), data.stage.features))]
    if not (np.isfinite(shift).all() and np.isfinite(factor).all()):
        return None
    options = {"shift": shift.tolist(), "factor": factor.tolist()}
    features = data.stage.features or data.axes[-1]
    return [replace(data, stage=reader.put(data.stage, Part(Scale, options, {}, _origin(node)), features), state="")]


def _activated(reader: Reader, node: Any, data: Any, activation: Any) -> Any:
    """Put an activation on top: that of a Linear which has none, or a layer of its own."""
    if not isinstance(data, Data) or not reader.whole(data):
        return None
    part, below = data.stage.part, data.stage.below
    made = activated([] if part is None or below is None else [part], activation, _origin(node))
    features = data.stage.features or data.axes[-1]
    if part is None or below is None or len(made) == 2:
        return [replace(data, stage=reader.put(data.stage, made[-1], features), state="")]
    return [replace(data, stage=reader.put(below, made[0], features))]


def joined_data(op_type: str, reader: Reader, node: Any, one: Data, other: Data) -> Any:
    """Read what joins two tensors of a chain: x times its sigmoid, or the network's input added to it."""
    for data, beside in ((one, other), (other, one)):
        if replace(beside, stage=data.stage, axes=data.axes) != data or data.direction is not None:
            continue
        if op_type == "Mul" and beside.axes == data.axes:
            silu, sigmoid = (_activated(reader, node, data, name) for name in ("silu", "sigmoid"))
            if sigmoid is not None and silu is not None and sigmoid[0].stage is beside.stage:
                return silu
        if op_type == "Add" and beside.stage.part is None and beside.stage is data.stage.chain[0]:
            return _skipped_to(reader, node, data, beside)
    return None


def _skipped_to(reader: Reader, node: Any, data: Data, given: Data) -> Any:
    """Add the network's input to what it gives."""
    if data.stage.part is None or data.flipped or data.step or data.state:
        return None
    if data.axes[:-1] != given.axes[:-1] or not (reader.whole(data) and reader.whole(given)):
        return None
    count = reader.feature_count(data)
    if count is None or reader.feature_count(given) != count:
        return None
    part = Part(InputSkip, {"features": count}, {}, _origin(node))
    return [replace(data, stage=reader.put(data.stage, part, data.stage.features))]


def _elementwise(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    return _activated(reader, node, values[0], activation_of(node))


def _gelu(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    name = {"none": "gelu", "tanh": "gelu_tanh"}.get(attribute(node, "approximate", "none"))
    return None if name is None else _activated(reader, node, values[0], name)


def _selu(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    alpha, gamma = (
        attribute(node, "alpha", 1.67326319217681884765625),
        attribute(node, "gamma", 1.05070102214813232421875),
    )
    usual = abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.0507010) < 1e-6
    return _activated(reader, node, values[0], "selu") if usual else None


def _softmax(name: str) -> Callable[[Reader, Any, Sequence[Any]], Any]:
    def rule(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
        data = values[0]
        # Before opset 13 everything from the axis on was one; here that is the last one alone.
        axis = attribute(node, "axis", -1 if reader.source.opset >= 13 else 1)
        if not isinstance(data, Data) or axis not in (-1, len(data.axes) - 1):
            return None
        return _activated(reader, node, data, name)

    return rule


def _pooled(layer: Any) -> Callable[[Reader, Any, Sequence[Any]], Any]:
    """Make the rule of a reduction over the steps."""

    def rule(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
        data = values[0]
        given = values[1].array if isinstance(values[1], Known) else None
        axes = axes_argument(node, given, len(data.axes)) if isinstance(data, Data) else None
        if not axes or len(axes) != 1 or not reader.whole(data) or data.state:
            return None
        place, number = axes[0], data.stage.lstm
        if not data.axes[place] or not reader.axes.assign(data.axes[place], "T"):
            return None
        if number is None or reader.entries[number].lengths:
            return None  # padding would count
        kept = [()] if attribute(node, "keepdims", 1) else []
        stage = reader.put(data.stage, Part(layer, {}, {}, _origin(node)), data.stage.features)
        pooled = (*data.axes[:place], *kept, *data.axes[place + 1 :])
        return [replace(data, stage=stage, axes=pooled, flipped=False)]

    return rule


LAYER_RULES: dict[str, Callable[[Reader, Any, Sequence[Any]], Any]] = {
    **dict.fromkeys(ACTIVATIONS, _elementwise),
    "Add": _sum(1),
    "Div": _quotient,
    "Exp": lambda reader, node, values: _activated(reader, node, values[0], "exponential"),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "LogSoftmax": _softmax("log_softmax"),
    "MatMul": _matmul,
    "Mul": _product,
    "ReduceMax": _pooled(Max),
    "ReduceMean": _pooled(Mean),
    "Selu": _selu,
    "Softmax": _softmax("softmax"),
    "Sub": _sum(-1),
}
