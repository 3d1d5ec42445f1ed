"""The weights of a module as the core takes them: where they lie, and the core's network that keeps them packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter

from latchwork import _core
from latchwork._module import without_initial_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The dtypes in which the core computes, with its class for each.
NETWORKS = {torch.float32: _core.Network32, torch.float64: _core.Network64}


class Stack:
    """Layers in the core, in one dtype. Their weights are a module's tensors, read at each call.

    Parameters
    ----------
    options : mapping
        The core's options of the layers.
    dtype : torch.dtype
        float32 or float64.
    """

    __slots__ = ("cell_size", "draws_masks", "dtype", "hidden_size", "input_size", "names", "network", "options",
                 "output_size", "shapes", "size", "sizes", "states")  # fmt: skip

    def __init__(self, options: Mapping[str, Any], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.options = options
        self.draws_masks = draws_masks(options)
        self.network = NETWORKS[dtype](without_initial_values([options]), "of_layer", 0, 1)
        layout = self.network.layout()
        self.names = tuple(name for name, _, _ in layout)
        self.shapes = tuple(shape for _, shape, _ in layout)
        self.sizes = [torch.Size(shape).numel() for shape in self.shapes]
        self.size = sum(self.sizes)
        self.input_size = self.network.input_size
        self.output_size = self.network.output_size
        ((self.states, self.hidden_size, self.cell_size),) = self.network.state_sizes

    def takes(self, weights: Sequence[torch.Tensor]) -> bool:
        """Say whether the core can read these tensors where they lie or after a copy."""
        dtype = self.dtype
        for weight, shape in zip(weights, self.shapes, strict=True):
            if weight.dtype is not dtype or weight.shape != shape or not is_plain(weight):
                return False
        return True

    def pieces(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Give the views of one tensor of all parameters that are the parameters, in the core's order."""
        parts: Sequence[torch.Tensor] = flat.split_with_sizes(self.sizes)
        return [part if len(shape) == 1 else part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def draws_masks(options: Mapping[str, Any]) -> bool:
    """Say whether the cell drops or keeps anything at random in training."""
    names = ("zoneout_hidden", "zoneout_cell", "recurrent_dropout", "weight_dropout")
    return any(options[name] > 0 for name in names)


def is_plain(tensor: Any) -> bool:
    """Say whether this is a tensor whose numbers lie in the machine's memory and whose class changes nothing.

    Those of a view with the negative bit, such as the imaginary part of a conjugate, lie there with the other sign.
    """
    kind = type(tensor)
    return (
        (kind is torch.Tensor or kind is Parameter)
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not tensor.is_neg()
    )


def named_tensors(module: torch.nn.Module, names: Sequence[str]) -> list[torch.Tensor]:
    """Read a module's tensors by name: parameters, or what a parametrisation or a hook has put in their place."""
    parameters = module._parameters
    try:
        return [parameters[name] for name in names]
    except KeyError:
        return [getattr(module, name) for name in names]


def addresses(weights: Sequence[torch.Tensor]) -> tuple[list[int], list[torch.Tensor]]:
    """Give where the elements of weights lie, with the copies that had to be made of some, which must stay alive."""
    copies: list[torch.Tensor] = []
    places = []
    for weight in weights:
        if not weight.is_contiguous():
            weight = weight.contiguous()
            copies.append(weight)
        places.append(weight.data_ptr())
    return places, copies
