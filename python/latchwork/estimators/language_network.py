"""The network of a language model: an embedding, an LSTM stack and a linear layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from latchwork.layers import Dropout, Embedding, Linear
from latchwork.lstm import LSTM
from latchwork.network import Network
from latchwork.optim import AdamW, Optimizer

# The options of the cell, as `latchwork.LSTM` has them.
CELL_OPTIONS = (
    "recurrent_dropout", "recurrent_dropout_on", "weight_dropout", "zoneout", "forget_gate", "peephole", "layer_norm",
    "activations", "clip", "cell_clip", "residual", "learn_start_state", "proj_size", "forget_bias", "init", "t_max",
)  # fmt: skip


def new_network(parameters: Mapping[str, Any], tokens: int, seeds: Sequence[int]) -> Network:
    """Build the network that the parameters of a model describe, for a number of tokens, from three seeds."""
    dtype, dropout, num_layers = parameters["dtype"], parameters["dropout"], parameters["num_layers"]
    lstm = LSTM(
        parameters["embedding_size"],
        parameters["hidden_size"],
        num_layers,
        dropout=dropout if num_layers > 1 else 0.0,
        dtype=dtype,
        seed=seeds[1],
        **{name: parameters[name] for name in CELL_OPTIONS},
    )
    layers = [
        Embedding(tokens, parameters["embedding_size"], dtype=dtype, seed=seeds[0]),
        lstm,
        *([Dropout(dropout)] if dropout else []),
        Linear(lstm.proj_size or lstm.hidden_size, tokens, dtype=dtype, seed=seeds[2]),
    ]
    return Network(layers, parameters["n_members"])


def take_weights(network: Network, fitted: Network) -> None:
    """Give a new network the weights of one that was fitted. ValueError if they do not fit; nothing has changed then.

    Dropout has no weights, so that it may come and go.
    """
    places = [place for place, layer in enumerate(network) if not isinstance(layer, Dropout)]
    layers = [layer for layer in fitted if not isinstance(layer, Dropout)]
    weights = {
        f"{place}.{name}": value
        for place, layer in zip(places, layers, strict=True)
        for name, value in layer.state_dict().items()
    }
    try:
        network.load_state_dict(weights)
    except ValueError as error:
        raise ValueError(f"warm_start: expected the options of the network that was fitted: {error}") from error


def new_optimizer(parameters: Mapping[str, Any]) -> Optimizer:
    """Make the optimiser of a fit; one of the user's is copied, so that it can be used again."""
    optimizer = parameters["optimizer"]
    if isinstance(optimizer, Optimizer):
        return copy.deepcopy(optimizer)
    return AdamW(lr=parameters["lr"], weight_decay=parameters["weight_decay"])


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError or ValueError unless this is what the parameter ``optimizer`` may be."""
    if isinstance(optimizer, Optimizer):
        if optimizer.targets:
            raise ValueError("optimizer: expected one without a target, such as latchwork.optim.Adam(lr=1e-3)")
    elif not isinstance(optimizer, str):
        raise TypeError(f'optimizer: expected "adamw" or one of latchwork.optim, got {type(optimizer).__name__}')
    elif optimizer != "adamw":
        raise ValueError(f'optimizer: expected "adamw" or one of latchwork.optim, got {optimizer!r}')
