"""Models and layers that are in memory: they themselves say what they are, so no library is imported here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.keras.configs import Layer, layer_of
from latchwork.interop.keras.weights import share_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array


def is_layer(value: Any) -> bool:
    """Whether something is a layer or a model of Keras."""
    return all(callable(getattr(value, name, None)) for name in ("get_config", "get_weights"))


def layer_of_object(value: Any) -> Layer:
    """Make the tree of a layer or a model, with its numbers of the moment at which they are asked for.

    Raises
    ------
    ValueError
        If its configuration is not what Keras gives.
    """
    kind = type(value)
    try:
        config = value.get_config()
    except NotImplementedError:  # a class of the user's own that cannot be written
        config = {}
    written = json.dumps({"name": value.name} | config, default=_plain)  # so that it is what a file would say
    layer = layer_of({"class_name": kind.__name__, "module": kind.__module__, "config": json.loads(written)})
    if not layer.is_model and hasattr(value, "layers"):
        layer.children = [layer_of_object(child) for child in value.layers]
    else:
        _give_weights(layer, value)
    return layer


def _plain(value: Any) -> Any:
    """Give what JSON can hold of a number of NumPy's, and of anything else what it is called."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _give_weights(layer: Layer, value: Any) -> None:
    if layer.is_model:
        objects = {child.name: child for child in value.layers}
        for child in layer.children:
            if child.name in objects:
                _give_weights(child, objects[child.name])
    else:
        share_out(layer, lambda: _numbers(value))


def _numbers(value: Any) -> Sequence[Array]:
    arrays = [np.asarray(array) for array in value.get_weights()]
    return [array.astype(np.float64 if array.dtype == np.float64 else np.float32) for array in arrays]


def version_of_object(value: Any) -> str:
    """Give the version of the Keras that made a layer; that inside TensorFlow is Keras 2."""
    package = type(value).__module__.split(".")[0]
    return str(getattr(sys.modules.get(package), "__version__", "2")) if "keras" in package else "2"
