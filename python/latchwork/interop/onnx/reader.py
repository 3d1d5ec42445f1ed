"""Reads a graph: every tensor becomes what is known of it, every LSTM is noted with what it reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import shape_text
from latchwork.interop.chain import Part
from latchwork.interop.found import FoundLSTM
from latchwork.interop.onnx.folding import MAKES_NO_SENSE, Folder, NotFoldedError
from latchwork.interop.onnx.loading import attribute, tensor_array, text
from latchwork.interop.onnx.operator import Operator, read_operator
from latchwork.interop.onnx.rules import PLUMBING, RULES
from latchwork.interop.onnx.steps import StepFinder
from latchwork.interop.onnx.values import Axes, Axis, Data, Known, Opaque, Spread, Stage, Value
from latchwork.layers import Last
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork.interop.onnx.loading import Source
    from latchwork.interop.onnx.steps import Step

_DEEPEST = 50  # graphs within graphs
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_WHOLE_NUMBERS = (2, 3, 4, 5, 6, 7, 9, 12, 13)  # ONNX's numbers of the types of whole numbers


@dataclass
class Entry:
    """One LSTM of the graph, and what the call that runs it needs."""

    path: str
    name: str
    operator: Operator | None = None
    start: dict[str, Array] = field(default_factory=dict)  # constant start states, by name
    state_inputs: frozenset[str] = frozenset()  # inputs of the graph that hold its start state
    lengths: str = ""  # the input of the graph that holds the lengths
    error: str = ""  # why it cannot be read
    obstacles: list[str] = field(default_factory=list)

    @property
    def part(self) -> Part:
        """The layer. ValueError if it cannot be read."""
        if self.operator is None or self.error:
            raise ValueError(f"node {self.path!r}: {self.error}")
        return self.layer(self.operator)

    def layer(self, operator: Operator) -> Part:
        """Make a layer of its operator and its start state."""
        options = dict(operator.options)
        if self.start:
            options["learn_start_state"] = True
        return Part(LSTM, options, {**operator.tensors, **self.start}, f"node {self.path!r}")

    def found(self) -> FoundLSTM:
        """Describe it for users."""
        options = {} if self.operator is None else dict(self.operator.options)
        both, reverse = options.pop("bidirectional", False), options.pop("reverse", False)
        sizes = [options.pop(name, 0) for name in ("input_size", "hidden_size")]
        if self.start:
            options["learn_start_state"] = True
        direction = "both" if both else "reverse" if reverse else "forward"
        obstacles = ([self.error] if self.error else []) + self.obstacles
        input_size, hidden_size = sizes
        return FoundLSTM(self.path, input_size, hidden_size, direction, options, tuple(dict.fromkeys(obstacles)))


class Scope:
    """The names of a graph, and of those around it."""

    def __init__(self, reader: Reader, graph: Any, outer: Scope | None) -> None:
        self._reader = reader
        self._outer = outer
        self._tensors = {each.name: each for each in graph.initializer}
        self.values: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        """Look a name up, in this graph first."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            if name in scope._tensors:
                scope.values[name] = scope._read(name)
                return scope.values[name]
            scope = scope._outer
        return Opaque(f"{text(name)!r}, which nothing makes")

    def _read(self, name: str) -> Value:
        try:
            return Known(tensor_array(self._tensors[name], self._reader.source.folder))
        except ValueError as error:
            return Opaque(str(error))

    def holds(self, name: str) -> bool:
        """Say whether the graph has a tensor of this name."""
        return name in self._tensors

    def known(self, name: str) -> Array | None:
        """Give the numbers of a name, if they are known."""
        value = self[name] if name else None
        return value.array if isinstance(value, Known) and value.array.dtype != object else None


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
        self._lasts: dict[Stage, Stage] = {}
        self._names = 0
        self.folder = Folder(source.opset, source.folder, source.model.ByteSize())
        scope = Scope(self, graph, None)
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

    def on_top(self, data: Data, part: Part, count: int) -> Data:
        """Put a layer with features of its own on top."""
        features = (self.new_name(count),)
        return Data(data.stage.under(part, features), (*data.axes[:-1], features), flipped=data.flipped)

    def last_of(self, stage: Stage) -> Stage:
        """Give the stage that takes the last output of each direction, one for each stage."""
        if stage not in self._lasts:
            self._lasts[stage] = stage.under(Part(Last), stage.features)
        return self._lasts[stage]

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
            self._fold(node, scope)
        steps = StepFinder(nodes, scope.known, inputs, {}).find()
        inner = {place for step in steps for place in step.inner}
        at = {step.place: step for step in steps}
        for place, node in enumerate(nodes):
            if place in at:
                self._step(at[place], scope, prefix)
            elif place not in inner and any(name not in scope.values for name in node.output if name):
                self._evaluate(node, scope, prefix, depth)

    def _fold(self, node: Any, scope: Scope) -> None:
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
        self._fold(node, scope)
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
        if node.op_type == "Scan" and self._scan(node, scope, prefix + label):
            return
        before = len(self.entries)
        for item in node.attribute:
            if item.type != 5:
                continue
            inner = Scope(self, item.g, scope)
            inner.values = {each.name: Opaque(reason) for each in item.g.input}
            self._walk(item.g, inner, f"{prefix}{label}.{text(item.name)}.", {}, depth + 1)
        for entry in self.entries[before:]:
            entry.obstacles.append(f"{reason} around it")
        self._opaque(node, [scope[name] for name in node.input if name])
        scope.values.update({name: Opaque(reason) for name in node.output if name})

    # LSTMs.

    def _entry(self, name: str, prefix: str) -> Entry:
        path = prefix + text(name)
        taken = {entry.path for entry in self.entries}
        number, unique = 2, path
        while unique in taken:
            unique, number = f"{path} ({number})", number + 1
        self.entries.append(Entry(unique, text(name)))
        return self.entries[-1]

    def _lstm(self, node: Any, scope: Scope, prefix: str) -> None:
        outputs = [name for name in node.output if name]
        entry = self._entry(node.name or (outputs[0] if outputs else "LSTM"), prefix)
        values = dict(zip(_INPUTS, [scope[name] if name else None for name in node.input], strict=False))
        broken = ""
        try:
            entry.operator = read_operator(node, self._weights(values))
            if values.get("X") is None:
                raise ValueError("X: expected an input, got none")
        except ValueError as error:
            entry.error = broken = str(error)
        made = self._run(entry, values, broken)
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

    def _run(self, entry: Entry, values: Mapping[str, Value | None], broken: str) -> list[Value]:
        """Put an LSTM on top of its input, and give Y, Y_h and Y_c."""
        number, operator = self.entries.index(entry), entry.operator
        if operator is None:
            return [Opaque(f"LSTM {entry.path!r}: {broken}")] * 3
        batch_first = operator.layout == 1
        data = values.get("X")
        if isinstance(data, Opaque) and len(data.inputs) == 1 and data.reason.startswith("input "):
            (name,) = data.inputs
            self.inputs[name] = 3
            self.axes.sizes |= {f"{name}.{place}": None for place in range(3)}
            data = Data(Stage(None, None, (), input=name), tuple((f"{name}.{place}",) for place in range(3)))
        try:
            data = self._checked_input(data, operator, batch_first)
            entry.lengths = self._lengths(values.get("sequence_lens"), data.axes[1 if batch_first else 0])
            if entry.lengths and data.flipped:
                raise ValueError("its steps are reversed without regard to the lengths")
            for key in ("initial_h", "initial_c"):
                self._start(entry, key, values.get(key), batch_first)
            self._complete_start(entry)
            if entry.error:
                raise ValueError(entry.error)
        except ValueError as error:
            reason = data if isinstance(data, Opaque) else Opaque(f"LSTM {entry.path!r}: {error}")
            if not entry.error:
                entry.obstacles.append(f"{reason.reason} before it" if isinstance(data, Opaque) else str(error))
            axes: tuple[Axis, ...] = ((), (), (self.new_name(operator.options["input_size"]),))
            data = Data(Stage(None, None, axes[2], broken=reason), axes)
        part = entry.layer(operator)
        if data.flipped:
            if operator.options.get("bidirectional"):
                entry.obstacles.append("steps in reverse order before both directions")
                return [Opaque(f"LSTM {entry.path!r}: steps in reverse order before both directions")] * 3
            part = _turned(part)
        hidden = self.new_name(operator.hidden_size)
        both = bool(operator.options.get("bidirectional"))
        directions: Axis = (self.new_name(2),) if both else ()
        stage = self.stages[number] = data.stage.under(part, (*directions, hidden), number)
        first, second = data.axes[0], data.axes[1]
        output = Data(stage, _y_axes(first, second, directions, (hidden,), batch_first), flipped=data.flipped)
        rows = first if batch_first else second
        state_axes = (rows, directions, (hidden,)) if batch_first else (directions, rows, (hidden,))
        last = self.last_of(stage)
        return [output, Data(last, state_axes, state="h"), Data(last, state_axes, state="c")]

    def _checked_input(self, data: Value | None, operator: Operator, batch_first: bool) -> Data:
        size = operator.options["input_size"]
        if not isinstance(data, Data):
            raise ValueError(f"X: expected data, got {described(data)}")
        if data.stage.broken:
            return data if len(data.axes) == 3 else data.with_axes(((), (), data.axes[-1] if data.axes else ()))
        if len(data.axes) != 3:
            raise ValueError(f"X: expected 3 axes, got {len(data.axes)}")
        steps, rows = data.axes[:2][::-1] if batch_first else data.axes[:2]
        if not (self.axes.assign(steps, "T") and self.axes.assign(rows, "N")):
            raise ValueError("X: its axes are not steps, rows and features, in this order")
        if not self.whole(data):
            raise ValueError("X: its last axis does not hold the features as the layer before gives them")
        count = self.feature_count(data)
        if count is not None and count != size:
            raise ValueError(f"X: expected {size} features, as W has, got {count}")
        if data.stage.part is None:
            self.axes.sizes[data.axes[-1][0]] = size
        return data

    def _lengths(self, value: Value | None, steps: Axis) -> str:
        if value is None:
            return ""
        if isinstance(value, Data) and value.stage.part is None and not value.stage.broken and len(value.axes) == 1:
            return value.stage.input
        if isinstance(value, (Known, Spread)):
            entries = set(value.array.reshape(-1).tolist()) if value.array.size < 1 << 20 else {None}
            frozen = [self.axes.sizes[name] for name in steps]
            if entries <= {self.axes.size(steps)} or (len(frozen) == 1 and entries <= {frozen[0]} - {None}):
                return ""
        raise ValueError("sequence_lens: expected an input, or the number of steps")

    def _start(self, entry: Entry, key: str, value: Value | None, batch_first: bool) -> None:
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

    def _complete_start(self, entry: Entry) -> None:
        if entry.start and entry.state_inputs:
            raise ValueError("initial_h, initial_c: expected two inputs or two constants, got one of each")
        if entry.start:
            assert entry.operator is not None
            zeros = np.zeros(entry.operator.hidden_size, entry.operator.dtype)
            names = [name + suffix for name in ("h_0_l0", "c_0_l0") for suffix in entry.operator.suffixes]
            entry.start = {name: entry.start.get(name, zeros) for name in names}

    def _step(self, step: Step, scope: Scope, prefix: str) -> None:
        """Read a step that is written out: an LSTM of which the graph runs one step."""
        entry = self._entry(step.name, prefix)
        entry.operator = Operator(step.options, step.tensors, 0, step.tensors["weight_ih_l0"].dtype)
        values: dict[str, Value | None] = {"X": _unsqueezed(scope[step.x])}
        values |= {"initial_h": _unsqueezed(scope[step.h_prev]), "initial_c": _unsqueezed(scope[step.c_prev])}
        _, h, c = self._run(entry, values, "")
        scope.values |= {step.h: _without_axis(h, 0), step.c: _without_axis(c, 0)}

    def _scan(self, node: Any, scope: Scope, path: str) -> bool:
        """Read a Scan whose body is one step of an LSTM and nothing else."""
        body = attribute(node, "body")
        try:
            states = len(node.input) - attribute(node, "num_scan_inputs", 0)
            plain = not any(attribute(node, f"scan_output_{name}") for name in ("axes", "directions"))
        except (ValueError, TypeError):
            return False
        if body is None or states != 2 or len(node.input) != 3 or not plain or self.source.opset < 9:
            return False
        names, made = [each.name for each in body.input], [each.name for each in body.output]
        inner = Scope(self, body, scope)
        inner.values = {name: Opaque("") for name in names}
        for each in body.node:
            self._fold(each, inner)
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
        entry = self._entry(path, "")
        entry.operator = Operator(step.options, step.tensors, 0, step.tensors["weight_ih_l0"].dtype)
        starts = dict(zip(names[:2], node.input[:2], strict=True))
        values: dict[str, Value | None] = {"X": data, "initial_h": _unsqueezed(scope[starts[step.h_prev]])}
        y, h, c = self._run(entry, values | {"initial_c": _unsqueezed(scope[starts[step.c_prev]])}, "")
        results = [_without_axis(value, cut) for value, cut in ((y, 1), (h, 0), (c, 0))]
        finals = [results[1] if name == step.h else results[2] for name in made[:2]]
        outputs = [*finals, *[results[0]] * (len(made) - 2)]
        scope.values.update({name: value for name, value in zip(node.output, outputs, strict=False) if name})
        return True


def described(value: Value | None) -> str:
    """Say what a tensor is, for messages."""
    if value is None:
        return "nothing"
    if isinstance(value, Opaque):
        return value.reason or "what the graph around it gives"
    if isinstance(value, Data):
        if value.stage.broken:
            return value.stage.broken.reason
        if value.stage.lstm is not None:
            return "what another LSTM gives"
        return f"input {text(value.stage.input)!r}" if value.stage.part is None else "what other layers give"
    return "sizes" if isinstance(value, Known) else "numbers of unknown shape"


def _unsqueezed(value: Value) -> Value:
    """Put an axis of one element in front."""
    if isinstance(value, Data):
        return value.with_axes(((), *value.axes))
    if isinstance(value, Known):
        return Known(value.array[np.newaxis])
    return value


def _without_axis(value: Value, place: int) -> Value:
    """Drop the axis of directions of an LSTM that has one."""
    return value.with_axes(value.axes[:place] + value.axes[place + 1 :]) if isinstance(value, Data) else value


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
