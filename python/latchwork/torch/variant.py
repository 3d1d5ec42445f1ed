"""What the modules of `latchwork.torch` share: the options of the cell beyond PyTorch's, and what they make of it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch.nn import Parameter

from latchwork.lstm import LSTM as CoreLSTM
from latchwork.lstm_cell import LSTMCell as CoreLSTMCell
from latchwork.torch.weights import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._cell_options import GateActivations

# What the modules have from PyTorch, or from the module's own dtype and generator.
_PYTORCHS = frozenset({"batch_first", "dtype", "seed"})


class CellOptions(TypedDict, total=False):
    """The options of `latchwork.LSTMCell` that ``torch.nn.LSTMCell`` does not have, as `latchwork.LSTM` explains."""

    forget_gate: bool | str
    peephole: bool
    layer_norm: bool
    activations: GateActivations | Sequence[GateActivations] | None
    clip: float | None
    cell_clip: float | None
    zoneout: tuple[float, float]
    recurrent_dropout: float
    recurrent_dropout_on: str
    weight_dropout: float
    learn_start_state: bool
    forget_bias: float | None
    init: str
    t_max: int | None


class LayerOptions(CellOptions, total=False):
    """The options of `latchwork.LSTM` that ``torch.nn.LSTM`` does not have."""

    reverse: bool
    merge: str
    residual: bool


class LSTMCellOptions(CellOptions, total=False):
    """The options of `latchwork.LSTMCell` that ``torch.nn.LSTMCell`` does not have."""

    proj_size: int


def default_options(core: type[CoreLSTM] | type[CoreLSTMCell], shared: Sequence[str]) -> dict[str, Any]:
    """Give the options of a layer of Latchwork beyond PyTorch's, with their defaults.

    ``shared`` are the names of those that PyTorch's module has too.
    """
    parameters = inspect.signature(core).parameters
    return {name: parameters[name].default for name in parameters if name not in _PYTORCHS.union(shared)}


def chosen_options(
    core: type[CoreLSTM] | type[CoreLSTMCell], shared: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Give those of these options that differ from their defaults. TypeError for one that there is not."""
    defaults = default_options(core, shared)
    for name in given:
        if name not in defaults:
            raise TypeError(f"{core.__name__}.__init__() got an unexpected keyword argument {name!r}")
    return {name: value for name, value in given.items() if value != defaults[name]}


def draw_initial_values(options: Mapping[str, Any], parameters: Mapping[str, Parameter], names: Sequence[str]) -> None:
    """Write the initial values that the core draws for a variant, from a seed of PyTorch's generator.

    ``names`` are those of the parameters in the order of the core's layout. Parameters in a dtype that the core does
    not have get the values of float32, converted.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    first = parameters[names[0]]
    if first.is_meta:
        return
    network = NETWORKS.get(first.dtype, NETWORKS[torch.float32])([options], "of_layer", seed, 1)
    values = torch.from_numpy(network.read())
    with torch.no_grad():
        for name, (_, shape, offset) in zip(names, network.layout(), strict=True):
            size = torch.Size(shape).numel()
            parameters[name].copy_(values[offset : offset + size].view(shape))


def new_mask_seed() -> int:
    """Draw the seed of random masks from PyTorch's generator, so that ``torch.manual_seed`` decides."""
    return int(torch.randint(2**63 - 1, ()))
