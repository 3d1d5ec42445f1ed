"""What all converters share: a model as a chain of parts, each a layer of ours with its options and numbers.

Readers of formats make such a chain and call `model_of`; writers go through `layers_of`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._module import Module, without_initial_values
from latchwork.activation import Activation as ActivationLayer
from latchwork.layers import Linear
from latchwork.lstm import LSTM
from latchwork.lstm_cell import LSTMCell
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array

# A name, or (name, alpha) or (name, alpha, beta), as `latchwork.Linear` and `latchwork.Activation` take it.
Activation = str | tuple[Any, ...]

# The options of an LSTM that act in training alone: formats that only run models need not hold them.
WITHOUT_EFFECT = ("dropout", "recurrent_dropout", "recurrent_dropout_on", "weight_dropout")

# The options that have no defaults.
_SIZES = ("input_size", "hidden_size", "in_features", "out_features", "num_embeddings", "embedding_dim")

_LAYER_OF_TENSOR = re.compile(r"_l(\d+)(?=_reverse$|$)")


@dataclass(frozen=True)
class Part:
    """One layer of a chain.

    Attributes
    ----------
    layer : type
        The class: `latchwork.LSTM`, `latchwork.Linear`, ...
    options : mapping
        Arguments of its constructor by name, without ``dtype``, ``seed`` and ``batch_first``. Those that are left out
        have the constructor's defaults.
    tensors : mapping of str to numpy.ndarray
        The parameters under the layer's own names, as its ``load_state_dict`` takes them.
    origin : str
        Where the layer stands in the source, for messages: "node '/lstm/LSTM'", "layer 'lstm_1'".
    """

    layer: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)
    origin: str = ""


def model_of(parts: Sequence[Part], dtype: str, *, batch_first: bool) -> Any:
    """Build the model that a chain describes: the layer if it is one LSTM or one cell, and a `Network` otherwise.

    Consecutive LSTMs of one kind become one stack, which gives the same bits.

    Raises
    ------
    ValueError
        If there is no part, an option is refused by the layer, or a tensor does not fit; the message says where.
    """
    if not parts:
        raise ValueError("expected at least one layer, got none")
    chain = [_layer(part, dtype, batch_first) for part in stacked(parts)]
    if len(chain) == 1 and isinstance(chain[0], (LSTM, LSTMCell)):
        return chain[0]
    return Network(chain)


def part_of(layer: Module) -> Part:
    """Describe a layer that has no parameters, so that it can stand in a chain."""
    return Part(type(layer), {name: value for name, value in layer._config.modules[0].items() if name != "kind"})


def activated(parts: Sequence[Part], activation: Activation | None, origin: str = "") -> list[Part]:
    """Put an activation behind a chain: into the `Linear` at its end that has none yet, or else as a layer."""
    if activation is None:
        return list(parts)
    if parts and parts[-1].layer is Linear and parts[-1].options.get("activation") is None:
        return [*parts[:-1], replace(parts[-1], options={**parts[-1].options, "activation": activation})]
    return [*parts, Part(ActivationLayer, {"activation": activation}, {}, origin)]


def layers_of(model: Any) -> list[Module]:
    """Give the layers of a model that is to leave: of a layer itself, of a network, or of an estimator's network.

    Raises
    ------
    ValueError
        If the model has several members, of which a file elsewhere can hold one: ``network.member(m)`` gives it.
    TypeError
        If it is none of these.
    """
    network = getattr(model, "network_", model)
    if not isinstance(network, Module):
        raise TypeError(f"model: expected a layer, a Network or a fitted estimator, got {type(model).__name__}")
    if not isinstance(network, Network):
        return [network]
    if network.members > 1:
        raise ValueError(f"model: expected one member, got {network.members}: network.member(m) gives one of them")
    return list(network)


def unheld_options(layer: Module, held: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Give the options of a layer that differ from their defaults, other than those that are held.

    Options that only choose initial values never matter.

    Parameters
    ----------
    layer : LSTM, LSTMCell, Embedding or Linear
        The layer.
    held : sequence of str
        Options in the core's words, which may have any value.

    Returns
    -------
    dict
        The default and the value of each, by its name in Python.
    """
    (given,) = without_initial_values(layer._config.modules)
    sizes = {name: given[name] for name in _SIZES if name in given}
    (default,) = without_initial_values([_core.checked_module({"kind": given["kind"], **sizes})])
    return {
        "zoneout" if name.startswith("zoneout") else name: (default.get(name), value)
        for name, value in given.items()
        if value != default.get(name) and name not in held and name not in ("kind", "cell")
    }


def only_options(layer: Module, held: Sequence[str], holder: str) -> None:
    """Raise ValueError if a layer has an option, other than those that are held, that differs from its default.

    Parameters
    ----------
    layer, held
        As for `unheld_options`.
    holder : str
        What cannot hold the others, for the message: "PyTorch's LSTM".
    """
    for name, (default, value) in unheld_options(layer, held).items():
        raise ValueError(f"{name}: expected {default!r} for {holder}, got {value!r}")


def joined_bias(lstm: LSTM, tensors: Mapping[str, Array], layer: int) -> Array:
    """Give the one bias (4H,) of a layer for formats that have one, which is the sum of ours, or zeros without any."""
    if not lstm.bias:
        return np.zeros(4 * lstm.hidden_size, lstm.dtype)
    of_input, of_hidden = tensors[f"bias_ih_l{layer}"], tensors[f"bias_hh_l{layer}"]
    return np.where(of_hidden == 0, of_input, of_input + of_hidden)  # adding zero would change the sign of a zero


def stacked(parts: Sequence[Part]) -> list[Part]:
    """Join LSTMs that follow each other and differ in nothing but their input size into stacks of several layers."""
    joined: list[Part] = []
    for part in parts:
        if joined and _continues(joined[-1], part):
            joined[-1] = _on_top(joined[-1], part)
        else:
            joined.append(part)
    return joined


def _continues(below: Part, part: Part) -> bool:
    """Say whether a part can be one more layer, or some more, of the stack below it."""
    if below.layer is not LSTM or part.layer is not LSTM:
        return False
    # A residual connection skips the first layer of a stack alone, and a stack has one kind of dropout between layers.
    own = {"input_size", "num_layers"}
    first, second = ({name: value for name, value in each.options.items() if name not in own} for each in (below, part))
    return first == second and not first.get("residual") and not first.get("dropout")


def _on_top(below: Part, part: Part) -> Part:
    count = below.options.get("num_layers", 1)
    moved = {
        _LAYER_OF_TENSOR.sub(lambda match: f"_l{int(match[1]) + count}", name): tensor
        for name, tensor in part.tensors.items()
    }
    options = {**below.options, "num_layers": count + part.options.get("num_layers", 1)}
    origin = " and ".join(each.origin for each in (below, part) if each.origin)
    return replace(below, options=options, tensors={**below.tensors, **moved}, origin=origin)


def _layer(part: Part, dtype: str, batch_first: bool) -> Module:
    options = dict(part.options)
    if part.layer is LSTM:
        options["batch_first"] = batch_first
    if part.tensors:
        options |= {"dtype": dtype, "seed": 0}
    try:
        layer: Module = part.layer(**options)
        if part.tensors:
            layer.load_state_dict({name: np.asarray(tensor) for name, tensor in part.tensors.items()})
    except (ValueError, TypeError) as error:
        raise type(error)(f"{part.origin}: {error}" if part.origin else str(error)) from error
    return layer
