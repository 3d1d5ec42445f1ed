"""The options of the cell that `LSTM` and `LSTMCell` share, translated from Python's words to the core's and back."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latchwork import _core
from latchwork._module import Config, Option

# A name, or (name,), (name, alpha), (name, alpha, beta).
GateActivation = str | Sequence[Any]
GateActivations = Mapping[str, GateActivation]

_FORGET_GATES: dict[str, bool | str] = {"own": True, "none": False, "coupled": "coupled"}


def _zoneout(config: Config) -> tuple[float, float]:
    options = config.modules[0]
    return options["zoneout_hidden"], options["zoneout_cell"]


def _activations(config: Config) -> GateActivations | tuple[GateActivations, GateActivations] | None:
    """Copy the activations that differ from their defaults, alpha and beta included; None if none does."""
    defaults = _default_activations()
    first, *second = [
        {
            gate: activation if isinstance(activation, str) else tuple(activation)
            for gate, activation in activations.items()
            if activation != defaults[gate]
        }
        for activations in config.modules[0]["activations"]
    ]
    return (first, second[0]) if second else first or None


class CellOptions:
    """The options of the cell as read-only attributes, in the words that the constructor takes."""

    _config: Config

    forget_gate = Option["bool | str"](lambda config: _FORGET_GATES[config.modules[0]["forget_gate"]])
    peephole = Option[bool]()
    layer_norm = Option[bool]()
    activations = Option["GateActivations | tuple[GateActivations, GateActivations] | None"](_activations)
    clip = Option["float | None"]()
    cell_clip = Option["float | None"]()
    zoneout = Option[tuple[float, float]](_zoneout)
    recurrent_dropout = Option[float]()
    recurrent_dropout_on = Option[str]()
    weight_dropout = Option[float]()
    learn_start_state = Option[bool]()
    forget_bias = Option["float | None"]()
    init = Option[str]()
    t_max = Option["int | None"]()


def checked_lstm(
    dtype: Any, python: Mapping[str, Any], *, forget_gate: Any, activations: Any, zoneout: Any, **options: Any
) -> Config:
    """Have the core check the options of an LSTM or a cell.

    Three of them have other words in Python than in the core; the others are passed on as they are.
    """
    zoneout_hidden, zoneout_cell = _pair(zoneout)
    options |= {
        "kind": "lstm",
        "forget_gate": _core_forget_gate(forget_gate),
        "activations": _core_activations(activations),
        "zoneout_hidden": zoneout_hidden,
        "zoneout_cell": zoneout_cell,
    }
    names = {"zoneout_hidden": "zoneout[0]", "zoneout_cell": "zoneout[1]"}
    if len(options["activations"]) == 1:
        names["activations[0]"] = "activations"  # the core numbers what a user gave without a number
    try:
        return Config.of_layer(dtype, options, **python)
    except (ValueError, TypeError) as error:
        message = str(error)
        for name, python_name in names.items():
            if message.startswith(name):
                raise type(error)(python_name + message.removeprefix(name)) from None
        raise


@functools.cache
def _default_activations() -> dict[str, Any]:
    """Ask the core for the default activation of each gate."""
    options = _core.checked_module({"kind": "lstm", "input_size": 1, "hidden_size": 1})
    defaults: dict[str, Any] = options["activations"][0]
    return defaults


def _core_forget_gate(forget_gate: Any) -> str:
    if isinstance(forget_gate, (bool, np.bool_)):
        return "own" if forget_gate else "none"
    if not isinstance(forget_gate, str):
        raise TypeError(f'forget_gate: expected True, False or "coupled", got {type(forget_gate).__name__}')
    if forget_gate != "coupled":
        raise ValueError(f'forget_gate: expected True, False or "coupled", got {forget_gate!r}')
    return forget_gate


def _core_activations(activations: Any) -> Sequence[Any]:
    """Give one set for all directions, or one for each."""
    if activations is None:
        return ({},)
    if isinstance(activations, Mapping):
        return (activations,)
    if not isinstance(activations, (tuple, list)):
        raise TypeError(
            f"activations: expected a mapping, a pair of mappings or None, got {type(activations).__name__}"
        )
    if len(activations) != 2:
        raise ValueError(f"activations: expected a mapping or a pair of mappings, got {len(activations)} items")
    return activations


def _pair(zoneout: Any) -> Sequence[Any]:
    if not isinstance(zoneout, (tuple, list)):
        raise TypeError(f"zoneout: expected a pair (p_hidden, p_cell), got {type(zoneout).__name__}")
    if len(zoneout) != 2:
        raise ValueError(f"zoneout: expected a pair (p_hidden, p_cell), got {len(zoneout)} items")
    return zoneout
