"""In which order the layers of a model follow each other, if they are a chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latchwork.interop.keras.configs import Layer, mapping

if TYPE_CHECKING:
    from collections.abc import Iterable

_MERGES = {"Concatenate": "concat", "Add": "sum", "Multiply": "mul", "Average": "ave"}
_MASKING = ("NotEqual", "Any")  # as which Keras 3 writes the masks of Masking and Embedding
_LARGEST_INDEX = 1 << 20


@dataclass(frozen=True)
class Ref:
    """One of the outputs of a layer."""

    name: str
    index: int


@dataclass
class Step:
    """A layer of the chain, and which of its outputs go on."""

    layer: Layer
    taken: tuple[int, ...] = (0,)
    merge: str | None = None  # how a layer after it joins its two directions
    node: Node | None = None


@dataclass
class Node:
    """Where one call of a layer takes its inputs from."""

    inputs: list[Ref] = field(default_factory=list)
    states: list[Ref] = field(default_factory=list)
    mask: Ref | None = None
    others: list[Ref] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)  # what came beside tensors


class NoChain(ValueError):
    """The layers of a model do not follow each other one by one; the message says where."""


def steps_of(layer: Layer) -> list[Step]:
    """Give the layers of a model in order, those of nested models in place of these. A layer alone is one step.

    Raises
    ------
    NoChain
        If a layer has several inputs, is used twice, or its other outputs go somewhere.
    ValueError
        If the configuration is not what Keras writes.
    """
    if not layer.is_model:
        apart = layer.kind == "Bidirectional" and layer.config.get("merge_mode", "concat") is None
        return [Step(layer, (0, 1) if apart else (0,))]
    in_order = layer.kind == "Sequential"
    steps = [Step(child) for child in layer.children] if in_order else _Graph(layer).steps()
    return [inner for step in steps for inner in _flattened(step)]


def _flattened(step: Step) -> list[Step]:
    if not step.layer.is_model:
        return [step]
    if step.taken != (0,):
        raise NoChain(f"several outputs of {step.layer} go on")
    inner = steps_of(step.layer)
    if step.merge is not None:
        raise NoChain(f"the outputs of {step.layer} are joined")
    return inner


class _Graph:
    def __init__(self, model: Layer) -> None:
        self.model = model
        self.layers = {child.name: child for child in model.children}
        if len(self.layers) < len(model.children):
            raise ValueError(f"{model}: expected different names of its layers, got some twice")

    def steps(self) -> list[Step]:
        """Go from the output to the input."""
        outputs = list(_refs(self.model.config.get("output_layers")))
        if not outputs:
            raise ValueError(f"{self.model}: expected output_layers, got none")
        if len({ref.name for ref in outputs}) > 1:
            raise NoChain(f"{self.model} has outputs of {' and '.join(sorted({repr(ref.name) for ref in outputs}))}")
        steps: list[Step] = []
        name, taken, merge = outputs[0].name, tuple(sorted({ref.index for ref in outputs})), None
        seen: set[str] = set()
        while True:
            layer = self.layer(name)
            if name in seen:
                raise ValueError(f"{self.model}: expected no circle of layers, got one through {layer}")
            seen.add(name)
            node = self.node(layer)
            steps.append(Step(layer, taken, merge, node))
            if layer.kind == "InputLayer":
                break
            self.check(layer, node)
            sources = {ref.name for ref in node.inputs}
            if not sources:
                raise ValueError(f"{self.model}: expected an input of {layer}, got none")
            if len(sources) > 1 or (len(node.inputs) > 1 and layer.kind not in _MERGES):
                raise NoChain(f"{layer} has {len(node.inputs)} inputs")
            (name,), taken, merge = sources, tuple(ref.index for ref in node.inputs), None
            if len(node.inputs) > 1:
                merge = self.joined(layer, node)
                steps.pop()
        self.check_rest(seen)
        return steps[::-1]

    def layer(self, name: str) -> Layer:
        if name not in self.layers:
            raise ValueError(f"{self.model}: expected a layer {name!r}, got none")
        return self.layers[name]

    def node(self, layer: Layer) -> Node:
        """Read where a layer takes its input from, in the words of Keras 3 or 2."""
        if layer.kind == "InputLayer":
            return Node()
        if len(layer.nodes) != 1:
            raise NoChain(f"{layer} is called {len(layer.nodes)} times")
        written = layer.nodes[0]
        return _node_of_keras3(layer, written) if isinstance(written, dict) else _node_of_keras2(layer, written)

    def check(self, layer: Layer, node: Node) -> None:
        """See that states come from outside and that masks are those that the chain itself makes."""
        for ref in node.states:
            if self.layer(ref.name).kind != "InputLayer":
                raise NoChain(f"{layer} starts from a state of {self.layer(ref.name)}")
        if node.others:
            raise NoChain(f"{layer} takes {self.layer(node.others[0].name)} as another argument")
        if node.mask is not None and not self.is_own_mask(node.mask):
            raise NoChain(f"{layer} takes a mask of {self.layer(node.mask.name)}")

    def is_own_mask(self, ref: Ref) -> bool:
        """Whether a mask is what a Masking or an Embedding with mask_zero of this model makes of its input."""
        layer = self.layer(ref.name)
        embedding = layer.kind != "Any"
        if not embedding:
            inputs = self.node(layer).inputs
            if len(inputs) != 1:
                return False
            layer = self.layer(inputs[0].name)
        if layer.kind != "NotEqual":
            return False
        compared = self.node(layer)
        for maker in self.layers.values():
            if maker.kind == ("Embedding" if embedding else "Masking") and self.node(maker).inputs == compared.inputs:
                value = maker.config.get("mask_value", 0.0) if not embedding else 0
                return compared.arguments == [value] and (not embedding or bool(maker.config.get("mask_zero")))
        return False

    def joined(self, layer: Layer, node: Node) -> str:
        """Read a layer that joins both directions of the one before it."""
        before = self.layer(node.inputs[0].name)
        in_order = [ref.index for ref in node.inputs] == [0, 1]
        on_features = layer.kind != "Concatenate" or layer.config.get("axis", -1) in (-1, 2)
        if before.kind != "Bidirectional" or before.config.get("merge_mode") is not None or not in_order:
            raise NoChain(f"{layer} has {len(node.inputs)} inputs")
        if not on_features:
            raise NoChain(f"{layer} joins along axis {layer.config.get('axis')!r:.80}")
        return _MERGES[layer.kind]

    def check_rest(self, seen: set[str]) -> None:
        """See that what the chain left out does not matter: inputs of states, and masks."""
        for name, layer in self.layers.items():
            if name in seen or layer.kind in ("InputLayer", *_MASKING):
                continue
            if layer.kind in _MERGES and len({ref.name for ref in self.node(layer).inputs}) == 1:
                continue
            raise NoChain(f"{layer} stands beside the chain")


def _node_of_keras3(layer: Layer, written: dict[str, Any]) -> Node:
    arguments, keywords = written.get("args", []), mapping(f"kwargs of {layer}", written.get("kwargs", {}))
    node = Node()
    for place, argument in enumerate(arguments if isinstance(arguments, list) else [arguments]):
        refs = list(_refs(argument))
        if not refs:
            node.arguments.append(argument)
        elif place == 0:
            _add_inputs(layer, node, refs)
        elif layer.kind in _STATEFUL:
            node.states += refs
        else:
            node.others += refs
    _add_keywords(node, keywords)
    return node


def _node_of_keras2(layer: Layer, written: Any) -> Node:
    """Read a list of (layer, node, tensor, keywords), or one of these where it is the only one."""
    node = Node()
    entries = written if isinstance(written, list) else []
    if len(entries) in (3, 4) and isinstance(entries[0], str):
        entries = [entries]
    refs: list[Ref] = []
    for entry in entries:
        found = list(_refs(entry[:3] if isinstance(entry, list) else entry))
        if len(found) != 1:
            raise ValueError(f"{layer}: expected inbound_nodes of (layer, node, tensor), got {entry!r:.80}")
        refs += found
        if len(entry) > 3 and isinstance(entry[3], dict):
            _add_keywords(node, entry[3])
    _add_inputs(layer, node, refs)
    return node


_STATEFUL = ("LSTM", "CuDNNLSTM", "RNN", "Bidirectional")


def _add_inputs(layer: Layer, node: Node, refs: list[Ref]) -> None:
    """Share tensors out: a recurrent layer takes its input first, and then the states that it starts from."""
    count = 1 if layer.kind in _STATEFUL else len(refs)
    node.inputs += refs[:count]
    node.states += refs[count:]


def _add_keywords(node: Node, keywords: dict[str, Any]) -> None:
    for name, value in keywords.items():
        refs = list(_refs(value))
        if name == "initial_state":
            node.states += refs
        elif name == "mask" and len(refs) == 1:
            node.mask = refs[0]
        elif name in ("inputs", "sequences"):
            node.inputs += refs
        else:
            node.others += refs


def _refs(value: Any, depth: int = 0) -> Iterable[Ref]:
    """Find the tensors that an argument is or holds, as Keras 3 or 2 writes them."""
    if depth > 8:
        raise ValueError("inbound_nodes: expected tensors in at most 8 lists, got more")
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            config = mapping("config of a tensor", value.get("config"))
            value = config.get("keras_history")
            if not _is_ref(value):
                raise ValueError(f"keras_history: expected (layer, node, tensor), got {value!r:.80}")
        elif "class_name" in value:
            return
        else:  # named inputs or outputs
            value = list(value.values())
    if _is_ref(value):
        yield Ref(value[0], value[2])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _refs(item, depth + 1)


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and isinstance(value[0], str)
        and all(type(index) is int and 0 <= index < _LARGEST_INDEX for index in value[1:])
    )
