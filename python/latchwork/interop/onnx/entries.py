"""What is noted while a graph is read: its LSTMs, and its names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latchwork.interop.chain import Part
from latchwork.interop.found import FoundLSTM
from latchwork.interop.onnx.loading import tensor_array, text
from latchwork.interop.onnx.values import Data, Known, Opaque, Value
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.interop.onnx.operator import Operator


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

    def __init__(self, folder: str | None, graph: Any, outer: Scope | None) -> None:
        self._folder = folder
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
            return Known(tensor_array(self._tensors[name], self._folder))
        except ValueError as error:
            return Opaque(str(error))

    def holds(self, name: str) -> bool:
        """Say whether the graph has a tensor of this name."""
        return name in self._tensors

    def known(self, name: str) -> Array | None:
        """Give the numbers of a name, if they are known."""
        value = self[name] if name else None
        return value.array if isinstance(value, Known) and value.array.dtype != object else None


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
