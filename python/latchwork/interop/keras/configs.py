"""What a model's configuration says: a tree of layers. Names are read, and nothing is ever deserialised or run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from latchwork._arrays import Array

# Nested models are rarely more than a few levels deep; deeper ones are no model but an attempt to exhaust the stack.
DEEPEST = 32
LARGEST_CONFIG = 16 << 20  # bytes
MODELS = ("Sequential", "Functional", "Model")
_OWN_MODULES = ("keras", "tf_keras", "tensorflow")


class Unsupported(ValueError):
    """Something that a chain of our layers cannot hold, in words that follow "with"."""


@dataclass(eq=False)
class Layer:
    """One layer of a Keras model.

    Attributes
    ----------
    kind : str
        Its class: "LSTM". A class that is not Keras's own: "package>Name".
    name : str
        Its name within its model.
    config : dict
        What its ``get_config`` gave.
    children : list of Layer
        The layers of a model, or what a wrapper wraps: both directions, the layer for each step, the cells.
    nodes : list
        Where a layer of a functional model takes its inputs from, as the file says it.
    weights : callable
        Gives the layer's own numbers, in Keras's order, at most as many as it is asked for.
    """

    kind: str
    name: str
    config: dict[str, Any]
    children: list[Layer] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    weights: Callable[[int], Sequence[Array]] = lambda count: ()

    def __str__(self) -> str:
        """Give the class and the name."""
        return f"{self.kind} {self.name!r}"

    @property
    def is_model(self) -> bool:
        """Whether its children are the layers of a model."""
        return self.kind in MODELS

    def walk(self) -> Iterator[Layer]:
        """Go over the layer and everything in it."""
        yield self
        for child in self.children:
            yield from child.walk()


def parsed_json(text: str | bytes, what: str) -> Any:
    """Parse a configuration. ValueError if it is none."""
    if len(text) > LARGEST_CONFIG:
        raise ValueError(f"{what}: expected at most {LARGEST_CONFIG} bytes, got {len(text)}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what}: expected JSON, got {error}") from None


def layer_of(entry: Any, depth: int = 0) -> Layer:
    """Make the tree of what a file says of a layer or a model.

    Raises
    ------
    ValueError
        If it is not what Keras writes.
    """
    if depth > DEEPEST:
        raise ValueError(f"configuration: expected at most {DEEPEST} models in each other, got more")
    entry = mapping("a layer of the configuration", entry)
    kind, config = text("class_name", entry.get("class_name")), entry.get("config")
    if isinstance(config, list):  # the first versions of Keras 2 wrote a Sequential model so
        config = {"layers": config}
    config = mapping(f"config of {kind}", config)
    name = text(f"name of {kind}", config.get("name", entry.get("name", kind.lower())))
    layer = Layer(_kind(entry, kind), name, config)
    layer.nodes = sequence(f"inbound_nodes of {layer}", entry.get("inbound_nodes", []))
    layer.children = [layer_of(child, depth + 1) for child in _children(layer)]
    return layer


def _kind(entry: dict[str, Any], kind: str) -> str:
    """Give the class, and with its package if it is not Keras's own, whatever its name."""
    module, registered = entry.get("module"), entry.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        return registered
    if isinstance(module, str) and module.split(".")[0] not in _OWN_MODULES:
        return f"{module}>{kind}"
    return kind


def _children(layer: Layer) -> Sequence[Any]:
    config = layer.config
    if layer.is_model:
        return sequence(f"layers of {layer}", config.get("layers"))
    if layer.kind == "Bidirectional":
        return _directions(config)
    if layer.kind == "TimeDistributed":
        return [config.get("layer")]
    if layer.kind == "RNN":
        cell = config.get("cell")
        return cell if isinstance(cell, list) else [cell]
    if layer.kind == "StackedRNNCells":
        return sequence(f"cells of {layer}", config.get("cells"))
    return []


def _directions(config: dict[str, Any]) -> list[Any]:
    """Give the layers of both directions; without a second one it is the first one, turned round."""
    forward = mapping("layer of Bidirectional", config.get("layer"))
    backward = config.get("backward_layer")
    if backward is None:
        options = mapping("config of layer of Bidirectional", forward.get("config"))
        turned = not options.get("go_backwards", False)
        backward = {**forward, "config": {**options, "go_backwards": turned, "name": f"backward_{options.get('name')}"}}
    return [forward, backward]


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Check that something is a mapping. ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a mapping, got {type(value).__name__}")
    return value


def sequence(name: str, value: Any) -> list[Any]:
    """Check that something is a list. ValueError."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name}: expected a list, got {type(value).__name__}")
    return list(value)


def text(name: str, value: Any) -> str:
    """Check that something is text. ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, got {type(value).__name__}")
    return value


def flag(layer: Layer, name: str, default: bool = False) -> bool:
    """Give an option that is true or false. ValueError if it is neither."""
    value = layer.config.get(name, default)
    if not isinstance(value, (bool, int)):
        raise ValueError(f"{layer}: {name}: expected true or false, got {value!r:.80}")
    return bool(value)


def size(layer: Layer, name: str) -> int:
    """Give an option that counts something. ValueError if it does not."""
    value = layer.config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{layer}: {name}: expected a number above 0, got {value!r:.80}")
    return value


def number(layer: Layer, name: str, default: float) -> float:
    """Give an option that is a finite number, or the default if the file leaves it out. ValueError."""
    value = layer.config.get(name)
    if isinstance(value, dict) and "value" in value:  # an array of NumPy, as some versions wrote slopes
        value = value["value"]
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"].get("value")
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{layer}: {name}: expected a number, got {value!r:.80}")
    return float(value)
