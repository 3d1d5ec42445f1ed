"""What single operators do to the data of a chain: those that turn its axes, and those that are layers.

A rule gives the outputs of a node, or None where nothing of ours does the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.chain import Part
from latchwork.interop.onnx.folding import (
    NotFoldedError,
    axes_argument,
    filled_value,
    slices_argument,
    split_argument,
)
from latchwork.interop.onnx.layer_rules import LAYER_RULES, joined_data
from latchwork.interop.onnx.loading import FLOAT_TYPES, attribute
from latchwork.interop.onnx.values import Axis, Data, Known, Opaque, Size, Spread, reshaped
from latchwork.layers import Embedding
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork._arrays import Array
    from latchwork.interop.onnx.reader import Reader

# Operators that only move numbers, so that parts of a state are still parts of a state.
PLUMBING = frozenset(
    {
        "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
        "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_FAR = 1 << 30  # exporters write the end of an axis, whatever its size, as a number beyond this


def _known(value: Any) -> Array | None:
    return value.array if isinstance(value, Known) else None


def _identity(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    return [values[0]]


def _dropout(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    training = values[2]
    if training is not None and not (isinstance(training, Known) and not training.array.any()):
        return None
    return [values[0], Opaque("the mask of a Dropout")]


def _cast(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    value, to = values[0], attribute(node, "to")
    if not isinstance(value, Data):
        return [value] if isinstance(value, Spread) and to in FLOAT_TYPES else None
    if to in FLOAT_TYPES:
        return None if value.kind == "cut" else [replace(value, kind="float")]
    if to not in (6, 7):
        return None
    if value.kind == "float":
        return [replace(value, kind="cut")] if value.stage.part is None and not value.stage.broken else None
    return [value]


def _shape(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    if not isinstance(values[0], Data):
        return None
    sizes: list[Any] = []
    for axis in values[0].axes:
        size = reader.axes.size(axis)
        sizes.append(size if size.names else size.factor)
    chosen = sizes[attribute(node, "start", 0) : attribute(node, "end")]
    array = np.empty(len(chosen), object)
    array[:] = chosen
    return [Known(array if any(isinstance(each, Size) for each in chosen) else array.astype(np.int64))]


def _transpose(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data = values[0]
    perm = attribute(node, "perm")
    if isinstance(data, Spread):
        return [data] if data.array.size == 1 else [Spread(np.transpose(data.array, perm))]
    perm = list(range(len(data.axes)))[::-1] if perm is None else perm
    if sorted(perm) != list(range(len(data.axes))):
        return None
    return [data.with_axes([data.axes[place] for place in perm])]


def _squeeze(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data = values[0]
    if isinstance(data, Spread):
        return (
            [data] if data.array.size == 1 else [Spread(np.squeeze(data.array, _axes(node, values, data.array.ndim)))]
        )
    cut = axes_argument(node, _known(values[1]), len(data.axes))
    if cut is None:
        cut = [place for place, axis in enumerate(data.axes) if not axis]
        if any(_may_be_one(reader, axis) for axis in data.axes if axis):
            return None
    if not all(not data.axes[place] or _is_one(reader, data.axes[place]) for place in cut):
        return None
    return [data.with_axes([axis for place, axis in enumerate(data.axes) if place not in cut])]


def _axes(node: Any, values: Sequence[Any], ndim: int) -> tuple[int, ...]:
    axes = axes_argument(node, _known(values[1]), ndim)
    if axes is None:
        raise NotFoldedError
    return tuple(axes)


def _is_one(reader: Reader, axis: Axis) -> bool:
    """Say whether an axis has one element in the file, as an exporter freezes a batch of one or a single step."""
    return all(reader.axes.sizes[name] == 1 for name in axis)


def _may_be_one(reader: Reader, axis: Axis) -> bool:
    return all(reader.axes.sizes[name] in (1, None) for name in axis)


def _unsqueeze(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, given = values[0], _known(values[1])
    count = len(attribute(node, "axes") or []) if given is None else given.size
    if isinstance(data, Spread):
        if data.array.size == 1:
            return [data]
        return [Spread(np.expand_dims(data.array, _axes(node, values, data.array.ndim + count)))]
    ndim = len(data.axes) + count
    added = set(_axes(node, values, ndim))
    if len(added) != count or ndim > 8:
        return None
    rest = iter(data.axes)
    return [data.with_axes([() if place in added else next(rest) for place in range(ndim)])]


def _reshape(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, shape = values[0], _known(values[1])
    if isinstance(data, Spread):
        return [data] if data.array.size == 1 else None
    if shape is None or shape.ndim != 1:
        return None
    axes = reshaped(reader.axes, data.axes, shape, not attribute(node, "allowzero", 0))
    return None if axes is None else [data.with_axes(axes)]


def _flatten(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, axis = values[0], attribute(node, "axis", 1)
    if not isinstance(data, Data) or not -len(data.axes) <= axis <= len(data.axes):
        return None
    at = axis % len(data.axes) if axis < 0 else axis
    merged = [tuple(name for each in part for name in each) for part in (data.axes[:at], data.axes[at:])]
    return [data.with_axes(merged)]


def _is_direction(data: Data, axis: Axis) -> bool:
    """Say whether an axis is that of an LSTM's two directions."""
    return len(data.stage.features) == 2 and axis == data.stage.features[:1]


def _is_steps(reader: Reader, axis: Axis) -> bool:
    return reader.axes.role(axis) == "T"


def _cut(reader: Reader, data: Data, place: int, cut: slice) -> Data | None:
    """Cut one axis; the result keeps it."""
    axis = data.axes[place]
    size = reader.axes.size(axis)
    frozen = size.factor if not size.names else _frozen(reader, axis)
    start, stop, step = cut.start, cut.stop, cut.step
    to_end = stop is None or stop >= _FAR or (frozen is not None and stop >= frozen)
    if step == 1 and (start == 0 or start <= -_FAR) and to_end:
        return data
    shorter = [*data.axes[:place], (), *data.axes[place + 1 :]]
    if _is_direction(data, axis) and step == 1:
        first = start % 2 if -2 <= start < 2 else None
        last = 2 if to_end else stop % 2 if stop < 0 else stop
        if first is not None and last == first + 1:
            return replace(data, axes=tuple(shorter), direction=first)
        return None
    if len(axis) != 1 or axis[0] in reader.axes.features or data.state or data.step:
        return None
    if step == -1 and (start == -1 or start >= _FAR or (frozen is not None and start == frozen - 1)):
        ends = stop is None or (frozen is not None and stop == -frozen - 1)
        return replace(data, flipped=not data.flipped) if ends and reader.axes.assign(axis, "T") else None
    if step == 1 and data.stage.lstm is None and frozen is not None:
        at = start + frozen if start < 0 else start
        until = frozen if to_end else stop + frozen if stop < 0 else stop
        if 0 <= at < frozen and until == at + 1:  # one of the steps that a file has in a row
            return replace(data, axes=tuple(shorter), step=(axis[0], at))
    if step == 1 and _is_steps(reader, axis):
        if to_end and (start == -1 or (frozen is not None and start == frozen - 1)):
            return _picked(reader, data, "last", shorter)
        if start == 0 and stop == 1:
            return _picked(reader, data, "first", shorter)
    return None


def _frozen(reader: Reader, axis: Axis) -> int | None:
    """Give the size of an axis of time or batch in the file, if an exporter froze it."""
    return reader.axes.sizes[axis[0]] if len(axis) == 1 else None


def _picked(reader: Reader, data: Data, end: str, axes: Sequence[Axis]) -> Data | None:
    """Take the first or the last step: an LSTM's final output, if its direction ends there."""
    number = data.stage.lstm
    if number is None or reader.entries[number].lengths:
        return None  # at the end of a shorter sequence there is padding
    lstm = reader.stages[number]
    options = lstm.part.options if lstm.part is not None else {}
    reverse = bool(options.get("reverse"))
    if data.stage is lstm:
        if options.get("bidirectional"):
            if data.direction is None or options.get("merge"):
                return None
            reverse = data.direction == 1
    elif options.get("bidirectional") or reverse:
        return None
    wanted = "first" if reverse != data.flipped else "last"
    if end != wanted:
        return None
    return replace(data, stage=reader.last_of(data.stage), axes=tuple(axes), flipped=False)


def _slice(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, arrays = values[0], [_known(value) for value in values]
    if isinstance(data, Spread):
        cuts = slices_argument(node, arrays, data.array.ndim if data.array.size > 1 else 8)
        if data.array.size == 1:
            return [data]
        if any(data.array.shape[axis] == 1 for axis in cuts):
            return None
        return [Spread(data.array[tuple(cuts.get(axis, slice(None)) for axis in range(data.array.ndim))])]
    for place, cut in slices_argument(node, arrays, len(data.axes)).items():
        data = _cut(reader, data, place, cut)
        if data is None:
            return None
    return [data]


def _gather(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    axis = attribute(node, "axis", 0)
    if isinstance(values[1], Data):
        return _embedding(reader, values) if axis == 0 and isinstance(values[0], Known) else None
    data, index = values[0], _known(values[1])
    if index is None or index.size != 1 or index.dtype.kind not in "iu":
        return None
    if isinstance(data, Spread):
        return [data] if data.array.size == 1 else None
    place, chosen = axis % len(data.axes), int(index.reshape(()))
    if not -len(data.axes) <= axis < len(data.axes):
        return None
    if not data.axes[place]:
        made = data if chosen in (0, -1) else None
    else:
        frozen = _frozen(reader, data.axes[place])
        is_last = chosen == -1 or (frozen is not None and chosen == frozen - 1 and _is_steps(reader, data.axes[place]))
        start = -1 if is_last else chosen
        made = _cut(reader, data, place, slice(start, None if is_last else chosen + 1, 1))
        if made is not None and made.axes[place]:
            return None  # an axis of one element in the file, which is more than that elsewhere
    if made is None:
        return None
    shape: list[Axis] = [()] * index.ndim
    return [made.with_axes([*made.axes[:place], *shape, *made.axes[place + 1 :]])]


def _embedding(reader: Reader, values: Sequence[Any]) -> Any:
    tokens, table = values[1], values[0].array
    if table.ndim != 2 or table.dtype.kind != "f" or tokens.stage.part is not None or tokens.kind == "float":
        return None
    if tokens.stage.broken:
        return None
    options = {"num_embeddings": table.shape[0], "embedding_dim": table.shape[1]}
    part = Part(Embedding, options, {"weight": table}, f"input {tokens.stage.input!r}")
    stage = reader.put(tokens.stage, part, table.shape[1])
    return [replace(tokens, stage=stage, axes=(*tokens.axes, stage.features), kind="float")]


def _split(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, axis = values[0], attribute(node, "axis", 0)
    if isinstance(data, Spread):
        return [data] * len(node.output) if data.array.size == 1 else None
    if not -len(data.axes) <= axis < len(data.axes) or not _is_direction(data, data.axes[axis % len(data.axes)]):
        return None
    if split_argument(node, _known(values[1]), 2) != [1, 1]:
        return None
    place = axis % len(data.axes)
    shorter = (*data.axes[:place], (), *data.axes[place + 1 :])
    return [replace(data, axes=shorter, direction=direction) for direction in (0, 1)]


def _concat(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    parts = [value for value in values if value is not None]
    if all(isinstance(part, (Spread, Known)) for part in parts):
        numbers = {number for part in parts for number in np.unique(part.array).tolist()[:2]}
        return [Spread(parts[0].array.reshape(-1)[0])] if len(numbers) == 1 else None
    if len(parts) == 1:
        return parts
    if all(isinstance(part, Data) and part.step for part in parts):
        return _steps_in_a_row(reader, attribute(node, "axis"), parts)
    if len(parts) != 2 or not all(isinstance(part, Data) for part in parts):
        return None
    one, other = parts
    if (one.direction, other.direction) != (0, 1) or not _are_pair(one, other):
        return None
    axis = attribute(node, "axis")
    place = axis % len(one.axes)
    directions, hidden = one.stage.features[:1], one.stage.features[1:]
    if not -len(one.axes) <= axis < len(one.axes) or one.axes[place] not in ((), hidden):
        return None
    joined = directions + (hidden if one.axes[place] else ())
    return [replace(one, axes=(*one.axes[:place], joined, *one.axes[place + 1 :]), direction=None)]


def _steps_in_a_row(reader: Reader, axis: int, parts: Sequence[Data]) -> Any:
    """Join all steps of a number that the file fixes, which makes a sequence of them again."""
    first = parts[0]
    assert first.step is not None
    name, place = first.step[0], axis % len(first.axes)
    if not -len(first.axes) <= axis < len(first.axes) or first.axes[place] or len(parts) != reader.axes.sizes[name]:
        return None
    if any(part != replace(first, step=(name, at)) for at, part in enumerate(parts)) or first.state:
        return None
    return [replace(first, axes=(*first.axes[:place], (name,), *first.axes[place + 1 :]), step=None)]


def _are_pair(one: Data, other: Data) -> bool:
    """Say whether two tensors are the two directions of one LSTM in the same axes."""
    return replace(one, direction=None) == replace(other, direction=None)


def _merge(mode: str) -> Callable[[Reader, Any, Sequence[Any]], Any]:
    """Make the rule of an operator that joins the outputs of two directions."""

    def rule(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
        one, other = values[:2]
        if {one.direction, other.direction} != {0, 1} or not _are_pair(replace(one, direction=other.direction), other):
            return None
        part = one.stage.part
        if part is None or part.layer is not LSTM or one.state or one.stage.below is None or values[2] is not None:
            return None
        merged = replace(part, options={**part.options, "merge": mode})
        features = one.stage.features[1:]
        stage = one.stage.below.under(merged, features, one.stage.lstm)
        reader.stages[one.stage.lstm] = stage
        return [replace(one, stage=stage, direction=None)]

    return rule


def _binary(op_type: str, mode: str | None = None) -> Callable[[Reader, Any, Sequence[Any]], Any]:
    """Make the rule of an operator that is a layer beside a constant, and may join directions."""

    def rule(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
        if all(isinstance(value, Data) for value in values[:2]):
            joined = _merge(mode)(reader, node, values) if mode else None
            return joined or joined_data(op_type, reader, node, values[0], values[1])
        return LAYER_RULES[op_type](reader, node, values)

    return rule


def _expand(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    if isinstance(values[0], Data) or values[0].array.dtype == object:
        return None
    array = values[0].array
    if array.size and array.size < 1 << 20 and (array == array.reshape(-1)[0]).all():
        return [Spread(array.reshape(-1)[0])]
    shape = _known(values[1])
    return [Spread(array)] if shape is not None and shape.shape == (array.ndim,) else None


def _constant_of_shape(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    return [Spread(filled_value(reader.folder, node))]


def _reverse_sequence(reader: Reader, node: Any, values: Sequence[Any]) -> Any:
    data, lengths = values[:2]
    time, batch = attribute(node, "time_axis", 0), attribute(node, "batch_axis", 1)
    if not isinstance(data, Data) or {time, batch} != {0, 1} or len(data.axes) < 2 or not isinstance(lengths, Spread):
        return None
    whole = {reader.axes.size(data.axes[time])}
    if set(np.asarray(lengths.array).reshape(-1).tolist()) != whole or not reader.axes.assign(data.axes[time], "T"):
        return None
    return [replace(data, flipped=not data.flipped)]


RULES: dict[str, Callable[[Reader, Any, Sequence[Any]], Any]] = {
    **LAYER_RULES,
    "Add": _binary("Add", "sum"),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _binary("Div"),
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Mean": _merge("ave"),
    "Mul": _binary("Mul", "mul"),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _binary("Sub"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
