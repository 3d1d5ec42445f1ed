"""Keras's activations in our words."""

from __future__ import annotations

from typing import Any

from latchwork.interop.chain import Activation
from latchwork.interop.keras.configs import Layer, Unsupported, layer_of, number

_OURS: dict[str, Activation | None] = {
    "linear": None,
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softsign": "softsign",
    "softplus": "softplus",
    "elu": "elu",
    "selu": "selu",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "exponential": "exponential",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "leaky_relu": ("leaky_relu", 0.2),
}
LAYERS = ("Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")


def activation_of(value: Any, keras3: bool) -> Activation | None:
    """Translate what a layer has as ``activation``; None is the identity.

    Parameters
    ----------
    value : str, dict or None
        A name, or what Keras made of a function or of a layer.
    keras3 : bool
        Whether Keras 3 wrote it, whose hard sigmoid is another one.

    Raises
    ------
    Unsupported
        If we have none such.
    """
    if isinstance(value, dict):
        if value.get("class_name") in LAYERS:
            return of_layer(layer_of(value), keras3)
        own = value.get("class_name") == "function" and value.get("registered_name") in (None, "function")
        value = value.get("config") if own else value.get("registered_name") or value.get("class_name")
    if value is None:
        return None
    if value == "hard_sigmoid":
        return ("hard_sigmoid", 1 / 6, 0.5) if keras3 else ("hard_sigmoid", 0.2, 0.5)
    if not isinstance(value, str) or value not in _OURS:
        raise Unsupported(f"the activation {value!r:.80}")
    return _OURS[value]


def of_layer(layer: Layer, keras3: bool) -> Activation | None:
    """Translate a layer that is an activation; None is the identity.

    Raises
    ------
    Unsupported
        If we have none such.
    """
    if layer.kind == "Activation":
        return activation_of(layer.config.get("activation"), keras3)
    if layer.kind == "ReLU":
        return _relu(layer)
    if layer.kind == "LeakyReLU":
        return "leaky_relu", number(layer, "negative_slope", number(layer, "alpha", 0.3))
    if layer.kind == "ELU":
        return "elu", number(layer, "alpha", 1.0)
    if layer.kind == "ThresholdedReLU":
        return "thresholded_relu", number(layer, "theta", 1.0)
    if layer.config.get("axis", -1) not in (-1, [-1]):
        raise Unsupported(f"axis={layer.config.get('axis')!r:.80}")
    return "softmax"


def _relu(layer: Layer) -> Activation:
    slope, threshold = number(layer, "negative_slope", 0.0), number(layer, "threshold", 0.0)
    if layer.config.get("max_value") is not None:
        raise Unsupported(f"max_value={layer.config['max_value']!r:.80}")
    if threshold == 0:
        return ("leaky_relu", slope) if slope else "relu"
    if slope:
        raise Unsupported(f"negative_slope={slope} with threshold={threshold}")
    return "thresholded_relu", threshold
