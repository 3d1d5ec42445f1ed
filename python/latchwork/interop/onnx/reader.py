"""Reads a graph: every tensor becomes what is known of it, every LSTM is noted with what it reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from latchwork.interop.chain import Part
from latchwork.interop.onnx.entries import Entry, Scope, described
from latchwork.interop.onnx.folding import MAKES_NO_SENSE, Folder, NotFoldedError
from latchwork.interop.onnx.loading import text
from latchwork.interop.onnx.loops import put_scan, put_step
from latchwork.interop.onnx.lstms import put_lstm
from latchwork.interop.onnx.operator import read_operator
from latchwork.interop.onnx.rules import PLUMBING, RULES
from latchwork.interop.onnx.steps import StepFinder
from latchwork.interop.onnx.values import Axes, Axis, Data, Known, Opaque, Stage, Value
from latchwork.layers import Last

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork.interop.onnx.loading import Source

_DEEPEST = 50  # graphs within graphs
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_WHOLE_NUMBERS = (2, 3, 4, 5, 6, 7, 9, 12, 13)  # ONNX's numbers of the types of whole numbers


class Reader:
    """Reads the graph of a model, and those within it.

    Attributes
    ----------
    entries : list of Entry
        The LSTMs in order; those that are written out in single operators too.
    outputs : mapping of str to Value
        What the graph gives.
    axes : Axes
        What was found out about the axes of the data.
    inputs : mapping of str to int
        How many axes each of the graph's inputs has.
    stages : mapping of int to Stage
        The stage of each LSTM by its number.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        graph = source.model.graph
        self.axes = Axes()
        self.entries: list[Entry] = []
        self.inputs: dict[str, int] = {}
        self.stages: dict[int, Stage] = {}
        self._made: dict[tuple[Any, ...], Stage] = {}
        self._names = 0
        self.folder = Folder(source.opset, source.folder, source.model.ByteSize())
        scope = Scope(source.folder, graph, None)
        sizes = {}
        for each in graph.input:
            if not scope.holds(each.name):
                scope.values[each.name] = self._input(each)
                dims = each.type.tensor_type.shape.dim
                sizes[each.name] = (dims[-1].dim_value or None) if dims else None
        self._walk(graph, scope, "", sizes, 0)
        self.outputs = {each.name: scope[each.name] for each in graph.output}

    # What rules use.

    def new_name(self, size: int) -> str:
        """Name a new axis of features."""
        self._names += 1
        name = f"features {self._names}"
        self.axes.features.add(name)
        self.axes.sizes[name] = size
        return name

    def whole(self, data: Data) -> bool:
        """Say whether the last axis holds all features; of an input it then is the axis of features from now on."""
        if not data.axes or data.direction is not None or data.state == "c" or data.kind != "float":
            return False
        last = data.axes[-1]
        if data.stage.part is None and data.stage.below is None and not data.stage.features:
            if len(last) == 1 and last[0] not in self.axes.roles:
                self.axes.features.add(last[0])
            return len(last) == 1 and last[0] in self.axes.features
        return last == data.stage.features

    def feature_count(self, data: Data) -> int | None:
        """How many features there are, as far as the file says."""
        count = 1
        for name in data.axes[-1]:
            size = self.axes.sizes[name]
            if size is None:
                return None
            count *= size
        return count

    def put(self, below: Stage, part: Part, features: Axis | int) -> Stage:
        """Put a layer on top: one and the same wherever a graph has it several times, as for each step.

        ``features`` are the names of the axes of its features, or how many features of its own it has.
        """
        tensors = tuple((name, _identity(tensor)) for name, tensor in part.tensors.items())
        key = (below, part.layer, repr(part.options), tensors, features)
        if key not in self._made:
            names = (self.new_name(features),) if isinstance(features, int) else features
            self._made[key] = below.under(part, names)
        return self._made[key]

    def on_top(self, data: Data, part: Part, count: int) -> Data:
        """Put a layer with features of its own on top."""
        stage = self.put(data.stage, part, count)
        return replace(data, stage=stage, axes=(*data.axes[:-1], stage.features), state="")

    def last_of(self, stage: Stage) -> Stage:
        """Give the stage that takes the last output of each direction."""
        return self.put(stage, Part(Last), stage.features)

    # The graph.

    def _input(self, item: Any) -> Value:
        name, tensor = item.name, item.type.tensor_type
        if not item.type.HasField("tensor_type") or not tensor.HasField("shape") or len(tensor.shape.dim) > 8:
            return Opaque(f"input {text(name)!r} of unknown axes", inputs=frozenset({name}))
        dims = tensor.shape.dim
        self.inputs[name] = len(dims)
        for place, dim in enumerate(dims):
            self.axes.sizes[f"{name}.{place}"] = dim.dim_value if dim.dim_value > 0 else None
        kind = "int" if tensor.elem_type in _WHOLE_NUMBERS else "float"
        return Data(Stage(None, None, (), input=name), tuple((f"{name}.{k}",) for k in range(len(dims))), kind=kind)

    def _walk(self, graph: Any, scope: Scope, prefix: str, inputs: Mapping[str, int | None], depth: int) -> None:
        """Evaluate the nodes of a graph in order: first what is constant, then the steps, then everything else."""
        if depth > _DEEPEST:
            raise ValueError(f"expected at most {_DEEPEST} graphs within each other, got more")
        nodes = graph.node
        for node in nodes:
            self.fold(node, scope)
        steps = StepFinder(nodes, scope.known, inputs, {}).find()
        inner = {place for step in steps for place in step.inner}
        at = {step.place: step for step in steps}
        for place, node in enumerate(nodes):
            if place in at:
                put_step(self, at[place], scope, prefix)
            elif place not in inner and any(name not in scope.values for name in node.output if name):
                self._evaluate(node, scope, prefix, depth)

    def fold(self, node: Any, scope: Scope) -> None:
        """Compute a node if all that it reads is known."""
        names = list(node.input)
        if node.op_type in ("LSTM", "If", "Loop", "Scan") or (not names and node.op_type != "Constant"):
            return
        values = [scope[name] if name else None for name in names]
        if not all(value is None or isinstance(value, Known) for value in values):
            return
        try:
            arrays = self.folder.fold(node, [value.array if isinstance(value, Known) else None for value in values])
        except NotFoldedError:
            return
        scope.values.update({name: Known(array) for name, array in zip(node.output, arrays, strict=False) if name})

    def _evaluate(self, node: Any, scope: Scope, prefix: str, depth: int) -> None:
        """Find out what a node makes."""
        if node.op_type == "LSTM" and node.domain in ("", "ai.onnx"):
            self._lstm(node, scope, prefix)
            return
        if node.op_type in ("If", "Loop", "Scan"):
            self._branches(node, scope, prefix, depth)
            return
        self.fold(node, scope)
        if all(name in scope.values for name in node.output if name):
            return
        values = [scope[name] if name else None for name in node.input]
        made: Sequence[Value] | None = None
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is not None and not any(isinstance(value, Opaque) for value in values):
            try:
                made = rule(self, node, [*values, *[None] * (6 - len(values))])
            except MAKES_NO_SENSE:
                made = None  # its arguments make no sense, or none here
        if made is None:
            made = [self._opaque(node, values)] * len(node.output)
        scope.values.update({name: value for name, value in zip(node.output, made, strict=False) if name})

    def _opaque(self, node: Any, values: Sequence[Value | None]) -> Opaque:
        """Say that a node has no counterpart. Parts of inputs and of end states stay known as such."""
        op_type = text(node.op_type)
        reason = f"{op_type} {text(node.name or (node.output[0] if node.output else ''))!r}"
        if "LSTM" in op_type:
            reason += ", an LSTM with quantised weights," if "uantize" in op_type else ", an LSTM of another kind,"
        inputs: set[str] = set()
        states: set[int] = set()
        cause = ""  # what the node reads that has no counterpart either
        pure = node.op_type in PLUMBING
        for value in values:
            if isinstance(value, Data):
                if value.state and value.stage.lstm is not None:
                    states.add(value.stage.lstm)
                elif value.stage.part is None and not value.stage.broken:
                    inputs.add(value.stage.input)
                else:
                    pure = False
                if value.stage.broken:
                    cause = cause or value.stage.broken.reason
                if value.stage.lstm is not None and not (pure and value.state):
                    self.entries[value.stage.lstm].obstacles.append(f"{reason} after it")
            elif isinstance(value, Opaque):
                inputs |= value.inputs
                states |= value.states
                if not (value.inputs or value.states):
                    cause = cause or value.reason
        if cause:
            return Opaque(cause)
        return Opaque(reason, frozenset(inputs), frozenset(states)) if pure else Opaque(reason)

    def _branches(self, node: Any, scope: Scope, prefix: str, depth: int) -> None:
        """Note the LSTMs of the graphs within a node. A Scan over one step is an LSTM itself."""
        label = text(node.name or node.op_type)
        reason = f"{node.op_type} {label!r}"
        if node.op_type == "Scan" and put_scan(self, node, scope, prefix + label):
            return
        before = len(self.entries)
        for item in node.attribute:
            if item.type != 5:
                continue
            inner = Scope(self.source.folder, item.g, scope)
            inner.values = {each.name: Opaque(reason) for each in item.g.input}
            self._walk(item.g, inner, f"{prefix}{label}.{text(item.name)}.", {}, depth + 1)
        for entry in self.entries[before:]:
            entry.obstacles.append(f"{reason} around it")
        self._opaque(node, [scope[name] for name in node.input if name])
        scope.values.update({name: Opaque(reason) for name in node.output if name})

    # LSTMs.

    def new_entry(self, name: str, prefix: str) -> Entry:
        """Note an LSTM under a path of its own."""
        path = prefix + text(name)
        taken = {entry.path for entry in self.entries}
        number, unique = 2, path
        while unique in taken:
            unique, number = f"{path} ({number})", number + 1
        self.entries.append(Entry(unique, text(name)))
        return self.entries[-1]

    def _lstm(self, node: Any, scope: Scope, prefix: str) -> None:
        outputs = [name for name in node.output if name]
        entry = self.new_entry(node.name or (outputs[0] if outputs else "LSTM"), prefix)
        values = dict(zip(_INPUTS, [scope[name] if name else None for name in node.input], strict=False))
        broken = ""
        try:
            entry.operator = read_operator(node, self._weights(values))
            if values.get("X") is None:
                raise ValueError("X: expected an input, got none")
        except ValueError as error:
            entry.error = broken = str(error)
        made = put_lstm(self, entry, values, broken)
        scope.values.update({name: value for name, value in zip(node.output, made, strict=False) if name})

    def _weights(self, values: Mapping[str, Value | None]) -> dict[str, Array | None]:
        weights: dict[str, Array | None] = {}
        for name in ("W", "R", "B", "P"):
            value = values.get(name)
            if value is None and name in ("B", "P"):
                weights[name] = None
            elif isinstance(value, Known) and value.array.dtype != object:
                weights[name] = value.array
            else:
                raise ValueError(f"{name}: expected numbers that are in the file, got {described(value)}")
        return weights


def _identity(tensor: Array) -> Any:
    """Tell tensors apart: by their numbers, or, of large ones, by where these are in memory."""
    if tensor.size <= 1 << 14:
        return tensor.shape, tensor.tobytes()
    return tensor.shape, tensor.strides, tensor.__array_interface__["data"][0]
