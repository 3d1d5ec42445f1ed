"""Activations that PyTorch has as modules and as functions, and their names here."""

from __future__ import annotations

import math
from typing import Any

from latchwork.interop.chain import Activation

# PyTorch's module, and what it is here with its defaults.
_PLAIN: dict[str, Activation] = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softsign": "softsign",
    "SELU": "selu",
    "SiLU": "silu",
    "Hardsigmoid": ("hard_sigmoid", 1 / 6, 0.5),
}
_OF_FUNCTION = {
    "relu": "ReLU",
    "relu_": "ReLU",
    "tanh": "Tanh",
    "tanh_": "Tanh",
    "sigmoid": "Sigmoid",
    "sigmoid_": "Sigmoid",
    "softsign": "Softsign",
    "selu": "SELU",
    "silu": "SiLU",
    "hardsigmoid": "Hardsigmoid",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "softplus": "Softplus",
    "gelu": "GELU",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "exp": "Exp",
}
# The arguments of functions and modules alike, in the functions' order after the input, with their defaults.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "LeakyReLU": {"negative_slope": 0.01},
    "ELU": {"alpha": 1.0},
    "Softplus": {"beta": 1.0, "threshold": 20.0},
    "GELU": {"approximate": "none"},
    "Softmax": {"dim": None},
    "LogSoftmax": {"dim": None},
}


def of_module(module: Any) -> Activation | None:
    """Give the activation that a module is; None if it is none. ValueError if it has options without a counterpart."""
    name = type(module).__name__
    return _activation(name, {key: getattr(module, key) for key in _ARGUMENTS.get(name, ())})


def of_function(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Activation | None:
    """Give the activation that a function of this name is, called with these arguments after the input."""
    module = _OF_FUNCTION.get(name)
    if module is None:
        return None
    defaults = _ARGUMENTS.get(module, {})
    return _activation(module, {**defaults, **dict(zip(defaults, arguments, strict=False)), **keywords})


def _activation(name: str, options: dict[str, Any]) -> Activation | None:
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "Exp":
        return "exponential"
    if name == "LeakyReLU":
        return "leaky_relu", float(options["negative_slope"])
    if name == "ELU":
        return "elu", float(options["alpha"])
    if name == "GELU":
        return "gelu" if options["approximate"] == "none" else "gelu_tanh"
    if name == "Softplus":
        if options["beta"] != 1 or options["threshold"] < 20:
            got = f"{options['beta']} and {options['threshold']}"
            raise ValueError(f"Softplus: expected beta 1 and threshold 20, got {got}")
        return "softplus"
    if name in ("Softmax", "LogSoftmax"):
        if options["dim"] != -1:
            raise ValueError(f"{name}: expected dim=-1, the features, got dim={options['dim']}")
        return "softmax" if name == "Softmax" else "log_softmax"
    return None


def to_module(activation: Activation) -> Any:
    """Make PyTorch's module of an activation. ValueError if it has none."""
    from torch import nn

    name, *numbers = (activation,) if isinstance(activation, str) else activation
    for theirs, ours in _PLAIN.items():
        if name == ours and not numbers:
            return getattr(nn, theirs)()
    if name == "hard_sigmoid" and len(numbers) == 2 and numbers[1] == 0.5 and math.isclose(numbers[0], 1 / 6):
        return nn.Hardsigmoid()
    if name == "leaky_relu":
        return nn.LeakyReLU(*numbers[:1])
    if name == "elu":
        return nn.ELU(*numbers[:1])
    if name == "softplus":
        return nn.Softplus()
    if name in ("gelu", "gelu_tanh"):
        return nn.GELU("none" if name == "gelu" else "tanh")
    if name in ("softmax", "log_softmax"):
        return (nn.Softmax if name == "softmax" else nn.LogSoftmax)(dim=-1)
    raise ValueError(f"activation: expected one that PyTorch has as a module, got {activation!r}")
