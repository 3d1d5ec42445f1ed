"""Reads LSTMs that are written out: one step, several steps in a row, or the body of a Scan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.onnx.entries import Scope
from latchwork.interop.onnx.loading import attribute
from latchwork.interop.onnx.lstms import put_lstm
from latchwork.interop.onnx.operator import Operator
from latchwork.interop.onnx.steps import StepFinder
from latchwork.interop.onnx.values import Data, Known, Opaque, Value

if TYPE_CHECKING:
    from latchwork.interop.onnx.reader import Reader
    from latchwork.interop.onnx.steps import Step


def put_step(reader: Reader, step: Step, scope: Scope, prefix: str) -> None:
    """Read a step that is written out: an LSTM of which the graph runs one step, or one of several in a row."""
    x, c_prev = scope[step.x], scope[step.c_prev]
    h_prev = scope[step.h_prev] if step.h_prev else None
    following = _following(reader, step, x, h_prev, c_prev)
    if following is not None:
        scope.values |= following
        return
    entry = reader.new_entry(step.name, prefix)
    entry.operator = Operator(step.options, step.tensors, 0, step.tensors["weight_ih_l0"].dtype)
    begins = isinstance(x, Data) and x.step is not None and x.step[1] == 0
    values: dict[str, Value | None] = {"initial_h": _unsqueezed(h_prev), "initial_c": _unsqueezed(c_prev)}
    if isinstance(x, Data) and x.step is not None and begins:
        y, _, c = put_lstm(reader, entry, values | {"X": replace(x, axes=((x.step[0],), *x.axes), step=None)}, "")
        for name, value, without in ((step.h, y, (0, 0)), (step.c, c, (0,))):
            for place in without:
                value = _without_axis(value, place)
            scope.values[name] = replace(value, step=x.step) if isinstance(value, Data) else value
        return
    _, h, c = put_lstm(reader, entry, values | {"X": _unsqueezed(x)}, "")
    scope.values |= {step.h: _without_axis(h, 0), step.c: _without_axis(c, 0)}


def _following(reader: Reader, step: Step, x: Value, h_prev: Value | None, c_prev: Value) -> dict[str, Value] | None:
    """Give what a step makes, if it is the next one of an LSTM whose steps the graph has in a row."""
    if not (isinstance(x, Data) and isinstance(h_prev, Data) and isinstance(c_prev, Data)) or x.step is None:
        return None
    before = (x.step[0], x.step[1] - 1)
    stage, number = h_prev.stage, h_prev.stage.lstm
    if h_prev.step != before or c_prev.step != before or number is None or reader.stages.get(number) is not stage:
        return None
    operator = reader.entries[number].operator
    if operator is None or c_prev.stage is not reader.last_of(stage) or c_prev.state != "c" or h_prev.flipped:
        return None
    if stage.below is not x.stage or x.flipped or x.axes[:-1] != h_prev.axes[:-1] or not reader.whole(x):
        return None
    same = operator.tensors.keys() == step.tensors.keys() and operator.options == step.options
    if not same or not all((operator.tensors[name] == tensor).all() for name, tensor in step.tensors.items()):
        return None
    return {step.h: replace(h_prev, step=x.step), step.c: replace(c_prev, step=x.step)}


def put_scan(reader: Reader, node: Any, scope: Scope, path: str) -> bool:
    """Read a Scan whose body is one step of an LSTM and nothing else."""
    body = attribute(node, "body")
    try:
        states = len(node.input) - attribute(node, "num_scan_inputs", 0)
        plain = not any(attribute(node, f"scan_output_{name}") for name in ("axes", "directions"))
    except (ValueError, TypeError):
        return False
    if body is None or states != 2 or len(node.input) != 3 or not plain or reader.source.opset < 9:
        return False
    names, made = [each.name for each in body.input], [each.name for each in body.output]
    inner = Scope(reader.source.folder, body, scope)
    inner.values = {name: Opaque("") for name in names}
    for each in body.node:
        reader.fold(each, inner)
    alias = {each.output[0]: each.input[0] for each in body.node if each.op_type == "Identity" and each.output}
    made = [alias.get(name, name) for name in made]
    if len(names) != 3 or len(made) < 2:
        return False
    steps = StepFinder(body.node, inner.known, {}, dict(zip(made[:2], names[:2], strict=True))).find()
    if len(steps) != 1 or {steps[0].h_prev, steps[0].c_prev} != set(names[:2]) or steps[0].x != names[2]:
        return False
    step = steps[0]
    if set(zip(names[:2], made[:2], strict=True)) != {(step.h_prev, step.h), (step.c_prev, step.c)}:
        return False
    if any(name != step.h for name in made[2:]):
        return False
    data = scope[node.input[2]]
    axis = (attribute(node, "scan_input_axes") or [0])[0]
    if isinstance(data, Data) and len(data.axes) == 3 and axis in range(-3, 3):
        rest = [each for place, each in enumerate(data.axes) if place != axis % 3]
        data = data.with_axes((data.axes[axis], *rest))
        if (attribute(node, "scan_input_directions") or [0])[0] == 1:
            data = replace(data, flipped=not data.flipped)
    entry = reader.new_entry(path, "")
    entry.operator = Operator(step.options, step.tensors, 0, step.tensors["weight_ih_l0"].dtype)
    starts = dict(zip(names[:2], node.input[:2], strict=True))
    values: dict[str, Value | None] = {"X": data, "initial_h": _unsqueezed(scope[starts[step.h_prev]])}
    y, h, c = put_lstm(reader, entry, values | {"initial_c": _unsqueezed(scope[starts[step.c_prev]])}, "")
    results = [_without_axis(value, cut) for value, cut in ((y, 1), (h, 0), (c, 0))]
    finals = [results[1] if name == step.h else results[2] for name in made[:2]]
    outputs = [*finals, *[results[0]] * (len(made) - 2)]
    scope.values.update({name: value for name, value in zip(node.output, outputs, strict=False) if name})
    return True


def _unsqueezed(value: Value | None) -> Value | None:
    """Put an axis of one element in front."""
    if isinstance(value, Data):
        return value.with_axes(((), *value.axes))
    if isinstance(value, Known):
        return Known(value.array[np.newaxis])
    return value


def _without_axis(value: Value, place: int) -> Value:
    """Drop the axis of directions of an LSTM that has one."""
    return value.with_axes(value.axes[:place] + value.axes[place + 1 :]) if isinstance(value, Data) else value
