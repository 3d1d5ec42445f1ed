"""The variants of the cell, as `LSTM` and `LSTMCell` both have them: options checked, counted and told to the core."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from latchwork._arrays import boolean, integer, real_number
from latchwork._module import Option

# A name, or (name,), (name, alpha), (name, alpha, beta).
GateActivation = str | Sequence[Any]
GateActivations = Mapping[str, GateActivation]


class _Activation(NamedTuple):
    defaults: tuple[float, ...] = ()  # of alpha, or of alpha and beta
    alpha_range: Literal["any", "not negative", "not zero"] = "any"


# ONNX's list. Another activation of the core's is one line here.
_ACTIVATIONS = {
    "sigmoid": _Activation(),
    "tanh": _Activation(),
    "relu": _Activation(),
    "hard_sigmoid": _Activation((0.2, 0.5)),
    "affine": _Activation((1.0, 0.0)),
    "leaky_relu": _Activation((0.01,), "not negative"),
    "thresholded_relu": _Activation((1.0,), "not negative"),
    "scaled_tanh": _Activation((1.0, 1.0), "not zero"),
    "elu": _Activation((1.0,), "not negative"),
    "softsign": _Activation(),
    "softplus": _Activation(),
}
_GATE_DEFAULTS = {"input": "sigmoid", "forget": "sigmoid", "candidate": "tanh", "output": "sigmoid", "cell": "tanh"}
_DROPOUTS = ("hidden", "candidate")
_INITS = ("torch", "keras", "orthogonal", "chrono")


class CellOptions:
    """Read-only attributes: the options that `checked_cell_options` checks."""

    _config: dict[str, Any]

    forget_gate = Option[bool]()
    coupled = Option[bool]()
    peephole = Option[bool]()
    layer_norm = Option[bool]()
    clip = Option["float | None"]()
    cell_clip = Option["float | None"]()
    zoneout = Option[tuple[float, float]]()
    recurrent_dropout = Option[float]()
    recurrent_dropout_on = Option[str]()
    weight_dropout = Option[float]()
    learn_start_state = Option[bool]()
    forget_bias = Option["float | None"]()
    init = Option[str]()
    t_max = Option["int | None"]()

    @property
    def activations(self) -> GateActivations | tuple[GateActivations, GateActivations] | None:
        """A copy of the activations that differ from the default, alpha and beta included; None: all are default."""
        activations: GateActivations | tuple[GateActivations, GateActivations] | None
        activations = copy.deepcopy(self._config["activations"])
        return activations


def checked_cell_options(
    *,
    bias: bool,
    directions: int,
    forget_gate: Any = True,
    coupled: Any = False,
    peephole: Any = False,
    layer_norm: Any = False,
    activations: Any = None,
    clip: Any = None,
    cell_clip: Any = None,
    zoneout: Any = (0.0, 0.0),
    recurrent_dropout: Any = 0.0,
    recurrent_dropout_on: Any = "hidden",
    weight_dropout: Any = 0.0,
    learn_start_state: Any = False,
    forget_bias: Any = None,
    init: Any = "torch",
    t_max: Any = None,
) -> dict[str, Any]:
    """Check the options and bring them into the form in which a configuration keeps them. ValueError or TypeError."""
    config: dict[str, Any] = {
        "forget_gate": boolean("forget_gate", forget_gate),
        "coupled": boolean("coupled", coupled),
        "peephole": boolean("peephole", peephole),
        "layer_norm": boolean("layer_norm", layer_norm),
    }
    if config["coupled"] and not config["forget_gate"]:
        raise ValueError("coupled: expected False with forget_gate=False, because f = 1 - i is a forget gate, got True")
    config |= {
        "activations": _checked_activations(activations, directions, _why_no_forget_gate(config)),
        "clip": _limit("clip", clip),
        "cell_clip": _limit("cell_clip", cell_clip),
        "zoneout": _probability_pair("zoneout", zoneout),
        "recurrent_dropout": real_number("recurrent_dropout", recurrent_dropout, 0.0, 1.0),
        "recurrent_dropout_on": _choice("recurrent_dropout_on", recurrent_dropout_on, _DROPOUTS),
        "weight_dropout": real_number("weight_dropout", weight_dropout, 0.0, 1.0),
        "learn_start_state": boolean("learn_start_state", learn_start_state),
        "forget_bias": None if forget_bias is None else real_number("forget_bias", forget_bias, float("-inf")),
        "init": _choice("init", init, _INITS),
        "t_max": None if t_max is None else integer("t_max", t_max, 2),
    }
    _check_initialisation(config, bias)
    return config


def core_cell_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the core takes for these options, but for the initial values."""
    same = ("peephole", "layer_norm", "recurrent_dropout", "recurrent_dropout_on", "weight_dropout")
    given = config["activations"] or {}
    p_hidden, p_cell = config["zoneout"]
    return {name: config[name] for name in (*same, "learn_start_state")} | {
        "forget_gate": "coupled" if config["coupled"] else "own" if config["forget_gate"] else "none",
        "activations": [_core_activations(each) for each in (given if isinstance(given, tuple) else (given,))],
        "clip": config["clip"] or 0.0,
        "cell_clip": config["cell_clip"] or 0.0,
        "zoneout_hidden": p_hidden,
        "zoneout_cell": p_cell,
    }


def core_initial_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the core takes for the initial values."""
    return {"forget_bias": config["forget_bias"], "init": config["init"], "t_max": config["t_max"] or 0}


def parameter_count(config: Mapping[str, Any], input_size: int) -> int:
    """Count the numbers in the parameters of one layer and direction."""
    units, output = config["hidden_size"], config["proj_size"] or config["hidden_size"]
    gates = 3 if _why_no_forget_gate(config) else 4
    rows = gates * units
    count: int = rows * (input_size + output + 2 * config["bias"]) + config["proj_size"] * units
    count += config["peephole"] * (gates - 1) * units
    count += config["layer_norm"] * (4 * rows + 2 * units)
    count += config["learn_start_state"] * (output + units)
    return count


def _why_no_forget_gate(config: Mapping[str, Any]) -> str:
    """Name the option that leaves the cell no forget gate of its own; empty where it has one."""
    return "coupled=True" if config["coupled"] else "" if config["forget_gate"] else "forget_gate=False"


def _check_initialisation(config: Mapping[str, Any], bias: bool) -> None:
    forget_bias, init, t_max = config["forget_bias"], config["init"], config["t_max"]
    without = _why_no_forget_gate(config)
    if forget_bias is not None and (without or not bias):
        reason = f"{without}, which leaves no forget gate of its own" if without else "bias=False"
        raise ValueError(f"forget_bias: expected None with {reason}, got {forget_bias}")
    if init != "chrono":
        if t_max is not None:
            raise ValueError(f't_max: expected None without init="chrono", the only one that takes it, got {t_max}')
        return
    if not bias:
        raise ValueError("init: expected another with bias=False, because it sets biases, got 'chrono'")
    if not config["forget_gate"]:
        raise ValueError(
            "init: expected another with forget_gate=False, because it sets how long a forget gate remembers, "
            "got 'chrono'"
        )
    if forget_bias is not None:
        raise ValueError(f'forget_bias: expected None with init="chrono", which sets the same bias, got {forget_bias}')
    if t_max is None:
        raise ValueError('t_max: expected the longest dependency in steps, at least 2, with init="chrono", got None')


def _checked_activations(activations: Any, directions: int, without: str) -> Any:
    """Keep what differs from the default: None for nothing, one dict for all directions, or a pair of them."""
    if activations is None:
        return None
    if isinstance(activations, Mapping):
        return _checked_set("activations", activations, without) or None
    if not isinstance(activations, (tuple, list)):
        raise TypeError(
            f"activations: expected a mapping, a pair of mappings or None, got {type(activations).__name__}"
        )
    if len(activations) != 2:
        raise ValueError(f"activations: expected a mapping or a pair of mappings, got {len(activations)} items")
    if directions == 1:
        raise ValueError("activations: expected one mapping for one direction, got a pair of them")
    first, second = (_checked_set(f"activations[{i}]", each, without) for i, each in enumerate(activations))
    return (first, second) if first != second else first or None


def _checked_set(name: str, activations: Any, without: str) -> dict[str, Any]:
    if not isinstance(activations, Mapping):
        raise TypeError(f"{name}: expected a mapping, got {type(activations).__name__}")
    for gate in activations:
        if gate not in _GATE_DEFAULTS:
            raise ValueError(f"{name}: expected keys among {', '.join(_GATE_DEFAULTS)}, got {gate!r}")
    if without and "forget" in activations:
        raise ValueError(
            f'{name}["forget"]: expected none with {without}, which leaves no forget gate of its own, '
            f"got {activations['forget']!r}"
        )
    checked = {
        gate: _checked_activation(f'{name}["{gate}"]', activations[gate])
        for gate in _GATE_DEFAULTS
        if gate in activations
    }
    return {gate: activation for gate, activation in checked.items() if activation != _GATE_DEFAULTS[gate]}


def _checked_activation(name: str, activation: Any) -> str | tuple[Any, ...]:
    """Give the name, or (name, alpha) or (name, alpha, beta) where the activation takes them."""
    if not isinstance(activation, (str, tuple, list)):
        raise TypeError(f"{name}: expected a name or (name, alpha, beta), got {type(activation).__name__}")
    parts = [activation] if isinstance(activation, str) else activation
    if not parts:
        raise ValueError(f"{name}: expected a name or (name, alpha, beta), got {activation!r}")
    kind, *given = parts
    if not isinstance(kind, str):
        raise TypeError(f"{name}: expected a name, got {type(kind).__name__}")
    if kind not in _ACTIVATIONS:
        raise ValueError(f"{name}: expected one of {', '.join(_ACTIVATIONS)}, got {kind!r}")
    defaults, alpha_range = _ACTIVATIONS[kind]
    if len(given) > len(defaults):
        takes = ("neither alpha nor beta", "alpha alone", "alpha and beta")[len(defaults)]
        raise ValueError(f"{name}: expected {takes} for {kind}, got {activation!r}")
    if not defaults:
        return kind
    minimum = 0.0 if alpha_range == "not negative" else float("-inf")
    numbers = [
        real_number(f"{name} {coefficient} of {kind}", value, minimum if coefficient == "alpha" else float("-inf"))
        for coefficient, value in zip(("alpha", "beta"), given, strict=False)
    ]
    numbers += defaults[len(given) :]
    if alpha_range == "not zero" and numbers[0] == 0:
        raise ValueError(f"{name} alpha of {kind}: expected any number but 0, got {given[0]}")
    return (kind, *numbers)


def _core_activations(activations: Mapping[str, str | tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Write each activation as (name, alpha, beta), None where it does not take one."""
    core = {}
    for gate, activation in activations.items():
        kind, *numbers = (activation,) if isinstance(activation, str) else activation
        core[gate] = (kind, *numbers, *[None] * (2 - len(numbers)))
    return core


def _limit(name: str, value: Any) -> float | None:
    if value is None:
        return None
    limit = real_number(name, value, float("-inf"))
    if limit <= 0:
        raise ValueError(f"{name}: expected above 0, or None for no limit, got {value}")
    return limit


def _probability_pair(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected a pair (p_hidden, p_cell), got {type(value).__name__}")
    if len(value) != 2:
        raise ValueError(f"{name}: expected a pair (p_hidden, p_cell), got {len(value)} items")
    p_hidden, p_cell = (real_number(f"{name}[{i}]", each, 0.0, 1.0) for i, each in enumerate(value))
    return p_hidden, p_cell


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected str, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def check_projection(config: Mapping[str, Any]) -> None:
    """Raise ValueError unless the projection is smaller than what it projects."""
    if config["proj_size"] >= config["hidden_size"]:
        raise ValueError(
            f"proj_size: expected less than hidden_size ({config['hidden_size']}), got {config['proj_size']}"
        )
