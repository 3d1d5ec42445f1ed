"""Puts LSTMs on top of what they read: the axes of their input, their lengths and their start states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from latchwork._arrays import shape_text
from latchwork.interop.onnx.entries import described
from latchwork.interop.onnx.values import Axis, Data, Known, Opaque, Spread, Stage, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latchwork.interop.chain import Part
    from latchwork.interop.onnx.entries import Entry
    from latchwork.interop.onnx.operator import Operator
    from latchwork.interop.onnx.reader import Reader


def put_lstm(reader: Reader, entry: Entry, values: Mapping[str, Value | None], broken: str) -> list[Value]:
    """Put an LSTM on top of its input, and give Y, Y_h and Y_c."""
    number, operator = reader.entries.index(entry), entry.operator
    if operator is None:
        return [Opaque(f"LSTM {entry.path!r}: {broken}")] * 3
    batch_first = operator.layout == 1
    data = values.get("X")
    if isinstance(data, Opaque) and len(data.inputs) == 1 and data.reason.startswith("input "):
        (name,) = data.inputs
        reader.inputs[name] = 3
        reader.axes.sizes |= {f"{name}.{place}": None for place in range(3)}
        data = Data(Stage(None, None, (), input=name), tuple((f"{name}.{place}",) for place in range(3)))
    try:
        data = _checked_input(reader, data, operator, batch_first)
        entry.lengths = _lengths(reader, values.get("sequence_lens"), data.axes[1 if batch_first else 0])
        if entry.lengths and data.flipped:
            raise ValueError("its steps are reversed without regard to the lengths")
        for key in ("initial_h", "initial_c"):
            _start(entry, key, values.get(key), batch_first)
        _complete_start(entry)
        if entry.error:
            raise ValueError(entry.error)
    except ValueError as error:
        reason = data if isinstance(data, Opaque) else Opaque(f"LSTM {entry.path!r}: {error}")
        if not entry.error:
            entry.obstacles.append(f"{reason.reason} before it" if isinstance(data, Opaque) else str(error))
        axes: tuple[Axis, ...] = ((), (), (reader.new_name(operator.options["input_size"]),))
        data = Data(Stage(None, None, axes[2], broken=reason), axes)
    part = entry.layer(operator)
    if data.flipped:
        if operator.options.get("bidirectional"):
            entry.obstacles.append("steps in reverse order before both directions")
            return [Opaque(f"LSTM {entry.path!r}: steps in reverse order before both directions")] * 3
        part = _turned(part)
    hidden = reader.new_name(operator.hidden_size)
    both = bool(operator.options.get("bidirectional"))
    directions: Axis = (reader.new_name(2),) if both else ()
    stage = reader.stages[number] = data.stage.under(part, (*directions, hidden), number)
    first, second = data.axes[0], data.axes[1]
    output = Data(stage, _y_axes(first, second, directions, (hidden,), batch_first), flipped=data.flipped)
    rows = first if batch_first else second
    state_axes = (rows, directions, (hidden,)) if batch_first else (directions, rows, (hidden,))
    last = reader.last_of(stage)
    return [output, Data(last, state_axes, state="h"), Data(last, state_axes, state="c")]


def _checked_input(reader: Reader, data: Value | None, operator: Operator, batch_first: bool) -> Data:
    size = operator.options["input_size"]
    if not isinstance(data, Data):
        raise ValueError(f"X: expected data, got {described(data)}")
    if data.stage.broken:
        return data if len(data.axes) == 3 else data.with_axes(((), (), data.axes[-1] if data.axes else ()))
    if data.step:
        raise ValueError("X: a single step out of a sequence")
    if len(data.axes) != 3:
        raise ValueError(f"X: expected 3 axes, got {len(data.axes)}")
    steps, rows = data.axes[:2][::-1] if batch_first else data.axes[:2]
    if not (reader.axes.assign(steps, "T") and reader.axes.assign(rows, "N")):
        raise ValueError("X: its axes are not steps, rows and features, in this order")
    if not reader.whole(data):
        raise ValueError("X: its last axis does not hold the features as the layer before gives them")
    count = reader.feature_count(data)
    if count is not None and count != size:
        raise ValueError(f"X: expected {size} features, as W has, got {count}")
    if data.stage.part is None:
        reader.axes.sizes[data.axes[-1][0]] = size
    return data


def _lengths(reader: Reader, value: Value | None, steps: Axis) -> str:
    if value is None:
        return ""
    if isinstance(value, Data) and value.stage.part is None and not value.stage.broken and len(value.axes) == 1:
        return value.stage.input
    if isinstance(value, (Known, Spread)):
        entries = set(value.array.reshape(-1).tolist()) if value.array.size < 1 << 20 else {None}
        frozen = [reader.axes.sizes[name] for name in steps]
        if entries <= {reader.axes.size(steps)} or (len(frozen) == 1 and entries <= {frozen[0]} - {None}):
            return ""
    raise ValueError("sequence_lens: expected an input, or the number of steps")


def _start(entry: Entry, key: str, value: Value | None, batch_first: bool) -> None:
    """Read a start state: constants equal in all rows, or an input of the graph."""
    assert entry.operator is not None
    suffixes, hidden = entry.operator.suffixes, entry.operator.hidden_size
    if value is None:
        return
    if isinstance(value, (Known, Spread)) and value.array.dtype.kind == "f":
        array = np.asarray(value.array, entry.operator.dtype)
        if isinstance(value, Spread):
            ones = (1, len(suffixes), 1) if batch_first else (len(suffixes), 1, 1)
            try:
                array = np.broadcast_to(array, np.broadcast_shapes(array.shape, ones, (hidden,)))
            except ValueError:
                array = np.empty((0,))
        if array.ndim == 3 and batch_first:
            array = array.swapaxes(0, 1)
        if array.ndim != 3 or array.shape[0] != len(suffixes) or array.shape[2] != hidden:
            expected = f"({len(suffixes)}, N, {hidden})"
            entry.error = f"{key}: expected {expected}, as R has, got {shape_text(value.array.shape)}"
        elif array.shape[1] and not (array == array[:, :1]).all():
            entry.error = f"{key}: differs from row to row, so that it is no start state of a model"
        elif array.shape[1] and array.any():
            name = "h_0_l0" if key == "initial_h" else "c_0_l0"
            entry.start |= {name + suffix: np.array(array[place, 0]) for place, suffix in enumerate(suffixes)}
        return
    inputs: frozenset[str] = frozenset()
    if isinstance(value, Opaque):
        inputs = value.inputs if not value.states else frozenset()
    elif isinstance(value, Data) and value.stage.part is None and not value.stage.broken:
        inputs = frozenset({value.stage.input})
    if not inputs:
        raise ValueError(f"{key}: expected a constant or an input, got {described(value)}")
    entry.state_inputs |= inputs


def _complete_start(entry: Entry) -> None:
    if entry.start and entry.state_inputs:
        raise ValueError("initial_h, initial_c: expected two inputs or two constants, got one of each")
    if entry.start:
        assert entry.operator is not None
        zeros = np.zeros(entry.operator.hidden_size, entry.operator.dtype)
        names = [name + suffix for name in ("h_0_l0", "c_0_l0") for suffix in entry.operator.suffixes]
        entry.start = {name: entry.start.get(name, zeros) for name in names}


def _y_axes(first: Axis, second: Axis, directions: Axis, hidden: Axis, batch_first: bool) -> tuple[Axis, ...]:
    return (first, second, directions, hidden) if batch_first else (first, directions, second, hidden)


def _turned(part: Part) -> Part:
    """Give the LSTM that runs the other way."""
    options = dict(part.options)
    if options.pop("reverse", False):
        tensors = {name.removesuffix("_reverse"): tensor for name, tensor in part.tensors.items()}
    else:
        options["reverse"] = True
        tensors = {f"{name}_reverse": tensor for name, tensor in part.tensors.items()}
    return replace(part, options=options, tensors=tensors)
