"""To PyTorch: an equal module of PyTorch's own layers, and of Latchwork's for what these lack."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.activation import Activation
from latchwork.input_layers import Scale
from latchwork.interop.chain import layers_of, only_options, unheld_options
from latchwork.layers import Dropout, Embedding, Last, Linear, Max, Mean
from latchwork.lstm import LSTM
from latchwork.lstm_cell import LSTMCell
from latchwork.network import Network
from latchwork.step_layers import InputSkip

if TYPE_CHECKING:
    from latchwork._module import Module

# What PyTorch's own modules hold, in the core's words.
_OF_LSTM = ("input_size", "hidden_size", "num_layers", "bias", "dropout", "proj_size", "direction")
_OF_CELL = ("input_size", "hidden_size", "bias")


def to_torch(model: Any) -> Any:
    """Make an equal module for PyTorch, with a copy of the weights.

    Parameters
    ----------
    model : LSTM, LSTMCell, Embedding, Linear, Network or fitted estimator
        Without layers that impute or sort, and of one member.

    Returns
    -------
    torch.nn.Module
        Of a single layer the ``nn.LSTM``, ``nn.LSTMCell``, ``nn.Embedding`` or ``nn.Linear``. An LSTM or a cell with
        options that PyTorch's lack (peepholes, layer norm, other activations, a reverse direction alone and so on)
        becomes a ``latchwork.torch.LSTM`` or ``latchwork.torch.LSTMCell``. Of a network a module
        that is called as the network is, ``output, state = module(x, state)``, and whose parameters have the same
        names. It is in training mode as new modules are: ``eval()`` switches dropout off.

    Raises
    ------
    ValueError
        If there is no module for a layer: the message names it.
    TypeError
        If it is no such model.
    ImportError
        If PyTorch is missing: ``pip install 'latchwork[torch]'`` brings it.

    See Also
    --------
    from_torch : The way back, which gives the same bits.
    """
    torch = imported_torch()
    layers = layers_of(model)
    network = getattr(model, "network_", model)
    if not isinstance(network, Network) and not isinstance(network, Linear):
        return _module(network, None, network.dtype)[0]
    from latchwork.interop.pytorch.layers import Chain

    if isinstance(network, Linear):
        modules = _module(network, None, network.dtype)
        return modules[0] if len(modules) == 1 else torch.nn.Sequential(*modules)
    named: list[tuple[str, Any]] = []
    lstm: LSTM | None = None
    for index, layer in enumerate(layers):
        if isinstance(layer, LSTM):
            lstm = layer
        elif not isinstance(layer, (Dropout, Last)):
            lstm = None
        try:
            modules = _module(layer, lstm, network.dtype)
        except ValueError as error:
            raise ValueError(f"layer {index}: {error}") from error
        names = [str(index), *(f"{index}_activation" for _ in modules[1:])]
        named += zip(names, modules, strict=True)
    return Chain(named, network.batch_first)


def imported_torch() -> Any:
    """Import PyTorch. ImportError that names the extra."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch is needed for this: pip install 'latchwork[torch]'") from error
    return torch


def _module(layer: Module, lstm: LSTM | None, dtype: np.dtype[Any]) -> list[Any]:
    """Make the module of a layer, and that of its activation if it has one."""
    import torch
    from torch import nn

    from latchwork.interop.pytorch import activations
    from latchwork.interop.pytorch import layers as own

    torch_dtype = torch.float64 if dtype == np.float64 else torch.float32
    if isinstance(layer, (LSTM, LSTMCell)):
        made = _recurrent(layer, torch_dtype)
    elif isinstance(layer, Embedding):
        only_options(layer, ("num_embeddings", "embedding_dim"), "PyTorch's Embedding")
        made = nn.Embedding(layer.num_embeddings, layer.embedding_dim, dtype=torch_dtype)
    elif isinstance(layer, Linear):
        made = nn.Linear(layer.in_features, layer.out_features, layer.bias, dtype=torch_dtype)
    else:
        return [_without_weights(layer, lstm, torch_dtype, own, activations)]
    made.load_state_dict({name: torch.from_numpy(array) for name, array in layer.state_dict().items()})
    activation = layer.activation if isinstance(layer, Linear) else None
    return [made] if activation is None else [made, activations.to_module(activation)]


def _recurrent(layer: LSTM | LSTMCell, dtype: Any) -> Any:
    """Make the module of an LSTM or a cell: PyTorch's own if that holds it."""
    from torch import nn

    if isinstance(layer, LSTM) and not layer.reverse and not unheld_options(layer, _OF_LSTM):
        return nn.LSTM(
            layer.input_size, layer.hidden_size, layer.num_layers, layer.bias, layer.batch_first, layer.dropout,
            layer.bidirectional, layer.proj_size, dtype=dtype,
        )  # fmt: skip
    if isinstance(layer, LSTMCell) and not unheld_options(layer, _OF_CELL):
        return nn.LSTMCell(layer.input_size, layer.hidden_size, layer.bias, dtype=dtype)
    import latchwork.torch

    options = {name: getattr(layer, name) for name in inspect.signature(type(layer)).parameters if name != "seed"}
    kind = latchwork.torch.LSTM if isinstance(layer, LSTM) else latchwork.torch.LSTMCell
    return kind(**options | {"dtype": dtype})


def _reverse_from(lstm: LSTM) -> int | None:
    """Say which feature of the output is the first of the reverse direction; None: there is no such direction."""
    if lstm.reverse:
        return 0
    if not lstm.bidirectional:
        return None
    if lstm.merge != "concat":
        raise ValueError(f"expected an LSTM with merge='concat' before it, got {lstm.merge!r}, which hides the ends")
    return lstm.proj_size or lstm.hidden_size


def _without_weights(layer: Module, lstm: LSTM | None, dtype: Any, own: Any, activations: Any) -> Any:
    from torch import nn

    if isinstance(layer, Dropout):
        return nn.Dropout(layer.p)
    if isinstance(layer, Last):
        return own.Last(None if lstm is None else _reverse_from(lstm))
    if isinstance(layer, (Mean, Max)):
        return own.Mean() if isinstance(layer, Mean) else own.Max()
    if isinstance(layer, InputSkip):
        return own.InputSkip(layer.features, layer.factor)
    if isinstance(layer, Scale):
        return own.Scale(layer.shift, layer.factor, dtype)
    if isinstance(layer, Activation):
        return activations.to_module(layer.activation)
    raise ValueError(f"expected a layer that PyTorch has, got {type(layer).__name__}")
