"""PyTorch's modules as parts of a chain: one layer each, options kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from latchwork.interop.chain import Part, activated
from latchwork.interop.found import FoundLSTM
from latchwork.interop.pytorch import activations
from latchwork.interop.state_dicts import described_as_lstm, floats
from latchwork.layers import Dropout, Embedding, Linear
from latchwork.lstm import LSTM
from latchwork.lstm_cell import LSTMCell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array

# What wraps a whole module, and the attribute that holds it.
_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
# What an nn.LSTM has of itself beside its sizes and directions.
_DEFAULTS = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "proj_size": 0}
# The arguments that `latchwork.LSTM` and `latchwork.LSTMCell` share with PyTorch's.
_OF_LSTM = ("input_size", "hidden_size", "num_layers", "bias", "dropout", "bidirectional", "proj_size")
_OF_CELL = ("input_size", "hidden_size", "bias")


def bare(module: Any) -> Any:
    """Take away what torch.compile and DataParallel put around a module."""
    while type(module).__name__ in _WRAPPERS:
        module = getattr(module, _WRAPPERS[type(module).__name__])
    return module


def array_of(name: str, tensor: Any) -> Array:
    """Copy a tensor of PyTorch's. ValueError if it does not hold real numbers of its own."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
        raise ValueError(f"{name}: expected a tensor of PyTorch's own, got {type(tensor).__name__}")
    if tensor.is_quantized:
        raise ValueError(f"{name}: expected real numbers, got a quantised tensor; dequantize() makes them")
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        kind = "a tensor without numbers (meta)" if tensor.device.type == "meta" else str(tensor.layout)
        raise ValueError(f"{name}: expected a dense tensor, got {kind}")
    tensor = tensor.detach().cpu()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return floats(name, array).copy()


def is_known(module: Any) -> bool:
    """Say whether `extended` takes the module, so that what is inside it need not be looked at."""
    import torch

    layers = (torch.nn.LSTM, torch.nn.LSTMCell, torch.nn.Linear, torch.nn.Embedding, *_drop_ins())
    return any(type(module).forward is layer.forward for layer in layers if isinstance(module, layer))


def _drop_ins() -> tuple[type[Any], ...]:
    """Give the classes of `latchwork.torch`, if the program uses them."""
    made = sys.modules.get("latchwork.torch")
    return () if made is None else (made.LSTM, made.LSTMCell)


def variant_of(module: Any) -> Mapping[str, Any]:
    """Give the options of an LSTM or a cell that PyTorch's own lack, where they differ from their defaults."""
    variant: Mapping[str, Any] = module._variant if isinstance(module, _drop_ins()) else {}
    return variant


def options_of(module: Any) -> dict[str, Any]:
    """Give the arguments of the `latchwork.LSTM` or `latchwork.LSTMCell` that computes what a module does."""
    from torch import nn

    names = _OF_LSTM if isinstance(module, nn.LSTM) else _OF_CELL
    return {name: getattr(module, name) for name in names} | dict(variant_of(module))


def extended(parts: Sequence[Part], module: Any, origin: str) -> list[Part] | None:
    """Put a module behind a chain. None if it is unknown here.

    Raises
    ------
    ValueError
        If it is a layer that has no counterpart, or has an option that has none.
    """
    from torch import nn

    name = f"{type(module).__name__} {origin!r}" if origin else type(module).__name__
    refuse_disguised(module, name)
    if isinstance(module, (nn.GRU, nn.GRUCell, nn.RNN, nn.RNNCell)):
        raise ValueError(f"{name} has no counterpart")
    if is_known(module):
        return [*parts, _layer(module, origin, name)]
    if type(module).forward is nn.Identity.forward:
        return list(parts)
    if type(module).forward is nn.Dropout.forward:
        return [*parts, Part(Dropout, {"p": float(module.p)}, {}, name)]
    activation = activations.of_module(module) if type(module).__module__.startswith("torch.nn.modules.") else None
    return None if activation is None else activated(parts, activation, name)


def _layer(module: Any, origin: str, name: str) -> Part:
    """Make the part of a layer that has weights."""
    from torch import nn

    prefix = f"{origin}." if origin else ""
    tensors = {key: array_of(f"{prefix}{key}", tensor) for key, tensor in module.named_parameters(recurse=False)}
    if isinstance(module, _drop_ins()):
        return Part(LSTM if isinstance(module, nn.LSTM) else LSTMCell, options_of(module), tensors, name)
    if isinstance(module, nn.LSTM):
        part = described_as_lstm(tensors, origin)
        return Part(LSTM, {**part.options, "dropout": float(module.dropout)}, tensors, name)
    if isinstance(module, nn.LSTMCell):
        return Part(LSTMCell, described_as_lstm(tensors, origin).options, tensors, name)
    if isinstance(module, nn.Embedding):
        if module.max_norm is not None:
            raise ValueError(f"{name}: max_norm: expected None, got {module.max_norm}")
        options = {"num_embeddings": module.num_embeddings, "embedding_dim": module.embedding_dim}
        return Part(Embedding, options, tensors, name)
    options = {"in_features": module.in_features, "out_features": module.out_features, "bias": "bias" in tensors}
    return Part(Linear, options, tensors, name)


def refuse_disguised(module: Any, name: str) -> None:
    """Raise ValueError if the weights of a module are not what its parameters hold."""
    from torch import jit
    from torch.nn.utils import parametrize

    if isinstance(module, jit.ScriptModule):
        raise ValueError(
            f"{name}: expected a module, got TorchScript, whose code Latchwork does not read; with prefix= its "
            "state_dict() can be read"
        )
    if "quantized" in type(module).__module__:
        raise ValueError(f"{name}: expected a module with real weights, got a quantised one")
    if parametrize.is_parametrized(module):
        raise ValueError(
            f"{name}: expected weights that are parameters, got parametrised ones (as by weight_norm); "
            "torch.nn.utils.parametrize.remove_parametrizations makes parameters of them"
        )
    if is_known(module) and any(
        key.endswith(("_orig", "_g", "_v")) for key, _ in module.named_parameters(recurse=False)
    ):
        raise ValueError(
            f"{name}: expected weights that are parameters, got some that a hook computes (weight_norm, spectral_norm, "
            "pruning); torch.nn.utils.remove_weight_norm, remove_spectral_norm and prune.remove make parameters of them"
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(
            f"{name}: expected a module without hooks, got a forward hook, which may change what goes in or comes out; "
            "remove() of what registering it gave takes it away"
        )


def found_in(module: Any) -> list[FoundLSTM]:
    """List all LSTMs and cells of a module."""
    from torch import nn

    found = []
    for path, each in module.named_modules():
        if not is_known(each) or not isinstance(each, (nn.LSTM, nn.LSTMCell)):
            continue
        options: dict[str, Any] = {} if isinstance(each, nn.LSTM) else {"cell": True}
        for name, default in _DEFAULTS.items():
            value = getattr(each, name, default)
            if value != default:
                options[name] = value
        options |= variant_of(each)
        reverse = options.pop("reverse", False)
        direction = "both" if getattr(each, "bidirectional", False) else "reverse" if reverse else "forward"
        found.append(FoundLSTM(path, each.input_size, each.hidden_size, direction, options))
    return found


def batch_first_of(modules: Sequence[Any]) -> bool:
    """Give the common ``batch_first`` of the LSTMs among modules. ValueError if they differ."""
    found = {each.batch_first for module in modules for each in module.modules() if hasattr(each, "batch_first")}
    if len(found) > 1:
        raise ValueError("batch_first: expected one for all LSTMs, got both True and False")
    return bool(found and found.pop())
