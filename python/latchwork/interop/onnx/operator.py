"""ONNX's LSTM operator as a layer: its attributes and weights in our words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import shape_text
from latchwork.interop.gates import reordered
from latchwork.interop.onnx.loading import attribute, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array

ATTRIBUTES = frozenset(
    {
        "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget",
        "layout",
    }
)  # fmt: skip

# The operator's activations in lower case, because names are compared without regard to case: ours, and whether they
# take an alpha and a beta.
_ACTIVATIONS = {
    "affine": ("affine", True, True),
    "elu": ("elu", True, False),
    "hardsigmoid": ("hard_sigmoid", True, True),
    "leakyrelu": ("leaky_relu", True, False),
    "relu": ("relu", False, False),
    "scaledtanh": ("scaled_tanh", True, True),
    "sigmoid": ("sigmoid", False, False),
    "softplus": ("softplus", False, False),
    "softsign": ("softsign", False, False),
    "tanh": ("tanh", False, False),
    "thresholdedrelu": ("thresholded_relu", True, False),
}
_DIRECTIONS = {"forward": ("",), "reverse": ("_reverse",), "bidirectional": ("", "_reverse")}
# What the operator's three activations serve.
_SERVED = (("input", "forget", "output"), ("candidate",), ("cell",))
_DEFAULTS = {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "candidate": "tanh", "cell": "tanh"}

_ALPHA_DEFAULTS = {
    "affine": (1.0, 0.0), "elu": (1.0, None), "hard_sigmoid": (0.2, 0.5), "leaky_relu": (0.01, None),
    "scaled_tanh": (1.0, 1.0), "thresholded_relu": (1.0, None),
}  # fmt: skip


@dataclass(frozen=True)
class Operator:
    """One LSTM: options and tensors of a `latchwork.LSTM` of one layer, and what the call needs beside them.

    Attributes
    ----------
    options, tensors : mapping
        As `latchwork.interop.chain.Part` has them; without a start state.
    layout : {0, 1}
        1: the batch is the first axis of inputs, outputs and states.
    dtype : numpy.dtype
        That of the weights.
    """

    options: Mapping[str, Any]
    tensors: Mapping[str, Array]
    layout: int
    dtype: np.dtype[Any]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffix of the names of each direction's tensors."""
        if self.options.get("bidirectional"):
            return ("", "_reverse")
        return ("_reverse",) if self.options.get("reverse") else ("",)

    @property
    def hidden_size(self) -> int:
        """Units of each direction."""
        size: int = self.options["hidden_size"]
        return size


def read_operator(node: Any, weights: Mapping[str, Array | None]) -> Operator:
    """Read an LSTM node.

    Parameters
    ----------
    node : onnx.NodeProto
        The node, for its attributes.
    weights : mapping
        "W" (D, 4H, in) and "R" (D, 4H, H), "B" (D, 8H) and "P" (D, 3H) or None.

    Raises
    ------
    ValueError
        If an attribute is unknown or out of range, or a shape contradicts another or the attributes.
    """
    unknown = sorted({text(each.name) for each in node.attribute} - ATTRIBUTES)
    if unknown:
        raise ValueError(f"expected the attributes of ONNX's LSTM, got {', '.join(map(repr, unknown))}")
    direction = attribute(node, "direction", "forward")
    direction = direction.lower() if isinstance(direction, str) else direction
    if direction not in _DIRECTIONS:
        raise ValueError(f"direction: expected forward, reverse or bidirectional, got {direction!r}")
    suffixes = _DIRECTIONS[direction]
    layout = _whole("layout", attribute(node, "layout", 0))
    if layout not in (0, 1):
        raise ValueError(f"layout: expected 0 or 1, got {layout!r}")
    coupled = bool(_whole("input_forget", attribute(node, "input_forget", 0)))
    given, dtype = _weights(weights, len(suffixes), attribute(node, "hidden_size"))
    hidden_size, input_size = given["R"].shape[2], given["W"].shape[2]
    options: dict[str, Any] = {"input_size": input_size, "hidden_size": hidden_size}
    if len(suffixes) == 2:
        options["bidirectional"] = True
    elif direction == "reverse":
        options["reverse"] = True
    if "B" not in given:
        options["bias"] = False
    if coupled:
        options["forget_gate"] = "coupled"
    if "P" in given:
        options["peephole"] = True
    clip = attribute(node, "clip")
    if clip is not None:
        options["clip"] = _real("clip", clip)
    activations = _activations(node, len(suffixes), coupled)
    if activations:
        options["activations"] = activations
    return Operator(options, _tensors(given, suffixes, coupled), layout, dtype)


def _weights(
    weights: Mapping[str, Array | None], directions: int, hidden_size: Any
) -> tuple[dict[str, Array], np.dtype[Any]]:
    """Check the shapes of the weights against each other."""
    given = {name: array for name, array in weights.items() if array is not None}
    for name, ndim in (("W", 3), ("R", 3), ("B", 2), ("P", 2)):
        if name in given and (given[name].ndim != ndim or given[name].dtype.kind != "f"):
            found = f"{given[name].dtype.name} {shape_text(given[name].shape)}"
            raise ValueError(f"{name}: expected real numbers with {ndim} axes, got {found}")
    hidden = given["R"].shape[2]
    if hidden_size is not None and _whole("hidden_size", hidden_size) != hidden:
        raise ValueError(f"hidden_size: expected {hidden}, as R {shape_text(given['R'].shape)} has, got {hidden_size}")
    expected = {
        "W": (directions, 4 * hidden, given["W"].shape[2]),
        "R": (directions, 4 * hidden, hidden),
        "B": (directions, 8 * hidden),
        "P": (directions, 3 * hidden),
    }
    for name, array in given.items():
        if array.shape != expected[name]:
            raise ValueError(f"{name}: expected {shape_text(expected[name])}, got {shape_text(array.shape)}")
        if hidden == 0 or array.size == 0:
            raise ValueError(f"{name}: expected weights, got none: {shape_text(array.shape)}")
    dtypes = {array.dtype for array in given.values()}
    if len(dtypes) > 1:
        raise ValueError(f"expected weights of one type, got {' and '.join(sorted(each.name for each in dtypes))}")
    return given, dtypes.pop()


def _tensors(given: Mapping[str, Array], suffixes: Sequence[str], coupled: bool) -> dict[str, Array]:
    """Cut the weights apart and put the gates in our order; a coupled forget gate has none of its own."""
    gates, sights = ("igo", "io") if coupled else ("ifgo", "ifo")
    tensors: dict[str, Array] = {}
    for place, suffix in enumerate(suffixes):
        names = {"weight_ih_l0": given["W"][place], "weight_hh_l0": given["R"][place]}
        if "B" in given:
            names["bias_ih_l0"], names["bias_hh_l0"] = np.split(given["B"][place], 2)
        tensors |= {name + suffix: reordered(array, "iofg", gates) for name, array in names.items()}
        if "P" in given:
            tensors["weight_peephole_l0" + suffix] = reordered(given["P"][place], "iof", sights)
    return tensors


def _activations(node: Any, directions: int, coupled: bool) -> Any:
    """Read the activations: one mapping for all directions, or one for each; an empty one if all are the usual ones."""
    names = attribute(node, "activations") or ["Sigmoid", "Tanh", "Tanh"] * directions
    if not isinstance(names, list) or len(names) != 3 * directions:
        raise ValueError(f"activations: expected {3 * directions} names, got {names!r}")
    unknown = [name for name in names if not isinstance(name, str) or name.lower() not in _ACTIVATIONS]
    if unknown:
        raise ValueError(f"activations: expected those of ONNX's LSTM, got {unknown[0]!r}")
    chosen = [_ACTIVATIONS[name.lower()] for name in names]
    values = []
    for place, key in ((1, "activation_alpha"), (2, "activation_beta")):
        numbers = attribute(node, key, [])
        takers = sum(bool(each[place]) for each in chosen)
        if not isinstance(numbers, list) or len(numbers) > takers:
            raise ValueError(f"{key}: expected at most {takers} numbers for {', '.join(names)}, got {numbers!r}")
        values.append([_real(key, number) for number in numbers])
    alphas, betas = values
    complete: list[str | tuple[Any, ...]] = []
    for name, takes_alpha, takes_beta in chosen:
        if not takes_alpha:
            complete.append(name)
            continue
        # The lists are compact: only activations that have an alpha or a beta consume one. Where the lists end, the
        # defaults of the operators of these names begin.
        alpha, beta = _ALPHA_DEFAULTS[name]
        alpha = alphas.pop(0) if alphas else alpha
        if takes_beta:
            beta = betas.pop(0) if betas else beta
        complete.append((name, alpha, beta) if takes_beta else (name, alpha))
    sets = []
    for place in range(directions):
        served = zip(_SERVED, complete[3 * place : 3 * place + 3], strict=True)
        by_gate = {gate: activation for gates, activation in served for gate in gates}
        if coupled:
            del by_gate["forget"]
        sets.append({gate: activation for gate, activation in by_gate.items() if activation != _DEFAULTS[gate]})
    return sets[0] if all(each == sets[0] for each in sets) else tuple(sets)


def _real(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return value
