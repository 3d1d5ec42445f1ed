"""From PyTorch: modules, state dictionaries, and files that hold one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import boolean
from latchwork._file_kinds import kind_and_description
from latchwork._foreign import bfloat16_numbers, is_bfloat16
from latchwork._writing import path_text
from latchwork.files import foreign_tensors
from latchwork.interop.chain import model_of, part_of
from latchwork.interop.found import refusal
from latchwork.interop.state_dicts import (
    as_sequence,
    common_dtype,
    flattened,
    floats,
    names_of_prefix,
    parts_of,
)
from latchwork.layers import Parameterless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._writing import FilePath
    from latchwork.interop.chain import Part


def from_torch(
    model: Any,
    *,
    prefix: str | Parameterless | Sequence[str | Parameterless] | None = None,
    batch_first: bool | None = None,
) -> Any:
    """Make a model of PyTorch's modules, of their tensors, or of a file that holds these.

    Parameters
    ----------
    model : torch.nn.Module, mapping, str, bytes or os.PathLike
        - A module: an ``nn.LSTM``, an ``nn.LSTMCell``, or one whose ``forward`` is a chain: embedding, LSTMs, dropout,
          the last step (``output[:, -1]`` or ``h_n[-1]``), the mean or the maximum over steps, linear layers and
          activations. PyTorch's tracer (``torch.fx``) follows ``forward`` without numbers; what is no such chain is
          refused.
        - A state dictionary, of tensors or of arrays, or a checkpoint that holds one beside other things.
        - A file: as ``torch.save`` writes a state dictionary or a checkpoint, in the present format and that before
          version 1.6, or safetensors.
    prefix : str, or list of str and of layers without parameters, optional
        What to take out: the name of a layer ("encoder.lstm"; "" for tensors without a prefix), or the names of layers
        in the order in which they follow each other. Between them may stand layers of Latchwork's that have no
        parameters, because tensors do not tell of those: ``["embedding", "lstm", lw.Last(), "fc"]``. None: the whole,
        which of a state dictionary must be one LSTM, as its tensors do not say in which order others follow.
    batch_first : bool, optional
        Whether the model takes (N, T, features). None: as the module has it; False for tensors, which do not say it.

    Returns
    -------
    LSTM, LSTMCell or Network
        The LSTM if there is no other layer, with the same weights, of dtype float64 where they are, and float32
        otherwise. Tensors do not hold ``dropout``, which is 0 then; a module's is kept.

    Raises
    ------
    ValueError
        If the model is no chain, or more than a chain and ``prefix`` says nothing: the message lists the LSTMs in it.
        If a file is damaged, or holds TorchScript, a pickled module, an exported program or quantised weights.
    TypeError
        If the model is nothing of these.
    OSError
        If a file cannot be read.
    ImportError
        If PyTorch is needed and missing: for its own files. ``pip install 'latchwork[torch]'`` brings it.

    Notes
    -----
    Nothing in a file is executed: PyTorch's own loader for weights alone (``weights_only=True``) reads pickles. A
    module's ``forward`` is the program's own and is run once, on stand-ins for tensors.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> tensors = {"lstm.weight_ih_l0": np.ones((8, 3)), "lstm.weight_hh_l0": np.ones((8, 2))}
    >>> lw.from_torch(tensors, prefix="lstm")
    LSTM(3, 2, bias=False, dtype='float64')
    """
    first = None if batch_first is None else boolean("batch_first", batch_first)
    if _is_module(model):
        return _of_module(model, prefix, first)
    if isinstance(model, Mapping):
        return model_of_tensors(model, prefix, "state_dict", bool(first))
    try:
        path = path_text(model)
    except TypeError:
        raise TypeError(
            f"model: expected a torch.nn.Module, a mapping of tensors or a path, got {type(model).__name__}"
        ) from None
    return model_of_tensors(tensors_of_file(path), prefix, path, bool(first))


def model_of_tensors(tensors: Mapping[str, Any], prefix: Any, source: str, batch_first: bool = False) -> Any:
    """Make a model of a state dictionary or of a checkpoint that holds one, as `from_torch` does."""
    parts = parts_of(flattened(tensors, _is_tensor), prefix, source, _array)
    return model_of(parts, common_dtype(parts), batch_first=batch_first)


def tensors_of_file(path: FilePath) -> dict[str, Any]:
    """Read the tensors of a file by name. ValueError if it is none of PyTorch's or safetensors, or holds no tensors."""
    path = path_text(path)
    kind, what = kind_and_description(path)
    if kind == "safetensors":
        return foreign_tensors(path)
    if kind in ("torch", "torch_legacy"):
        from latchwork.interop.pytorch.loading import checkpoint_of

        return flattened(checkpoint_of(path), _is_tensor)
    with open(path, "rb"):  # raises OSError
        pass
    raise ValueError(f"{os.fspath(path)}: expected a state dictionary of PyTorch's, got {what}")


def _of_module(module: Any, prefix: Any, batch_first: bool | None) -> Any:
    from latchwork.interop.pytorch import modules
    from latchwork.interop.pytorch.graph import Obstacle, followed
    from latchwork.interop.pytorch.layers import Chain

    module = modules.bare(module)
    modules.refuse_disguised(module, type(module).__name__)
    lstms: Sequence[Any] = [module]
    if prefix is not None:
        parts, lstms = _named_modules(module, prefix)
    elif isinstance(module, Chain):
        parts = module.parts()
    elif (alone := modules.extended([], module, "")) is not None:
        parts = alone
    else:
        try:
            parts, lstms = followed(module)
        except Obstacle as obstacle:
            raise _no_chain(module, obstacle) from obstacle
    if batch_first is None:
        batch_first = modules.batch_first_of(lstms)
    return model_of(parts, common_dtype(parts), batch_first=batch_first)


def _named_modules(module: Any, prefix: Any) -> tuple[list[Part], list[Any]]:
    """Make a chain of the modules of these names."""
    from latchwork.interop.pytorch import modules

    named: dict[str, Any] = {}
    parts: list[Part] = []
    for item in names_of_prefix(prefix):
        if isinstance(item, Parameterless):
            parts.append(part_of(item))
            continue
        try:
            named[item] = modules.bare(module.get_submodule(item.removesuffix(".")))
        except AttributeError as error:
            there = ", ".join(repr(name) for name, _ in list(module.named_modules())[1:51])
            raise ValueError(f"prefix: expected the name of a module, got {item!r}; there are {there}") from error
        longer = modules.extended(parts, named[item], item)
        if longer is None:
            raise ValueError(f"prefix: {item!r} is a {type(named[item]).__name__}, which has no counterpart")
        parts = longer
    return (as_sequence(parts) if len(parts) > 1 else parts), list(named.values())


def _no_chain(module: Any, obstacle: Exception) -> ValueError:
    """Make the error for a module that is more than a chain."""
    from latchwork.interop.pytorch.modules import found_in

    name = type(module).__name__
    error = refusal(name, str(obstacle), found_in(module), "prefix")
    layers = ", ".join(repr(path) for path, each in module.named_modules() if path and not list(each.children()))
    return ValueError(f"{error}\nprefix=[...] makes a chain of several of its modules: {layers}")


def _is_module(model: Any) -> bool:
    """Say whether something is a module, without importing PyTorch: what is one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(name: str, tensor: Any) -> Array:
    """Make an array of a tensor of PyTorch's, or of an array."""
    if type(tensor).__module__.partition(".")[0] == "torch":
        from latchwork.interop.pytorch.modules import array_of

        return array_of(name, tensor)
    array = np.asarray(tensor)
    return floats(name, bfloat16_numbers(array) if is_bfloat16(array) else array)
