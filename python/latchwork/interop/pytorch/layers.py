"""Modules of PyTorch's for what Latchwork's networks have beside PyTorch's own layers.

This file imports PyTorch, so nothing imports it before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from latchwork import layers as ours
from latchwork.input_layers import Scale as OurScale
from latchwork.interop.chain import Part
from latchwork.interop.pytorch.modules import extended
from latchwork.step_layers import InputSkip as OurInputSkip

if TYPE_CHECKING:
    from collections.abc import Sequence


class Last(nn.Module):
    """The final output of each direction: (T, N, features) becomes (N, features)."""

    def __init__(self, reverse_from: int | None) -> None:
        super().__init__()
        self.reverse_from = reverse_from  # the first feature of the reverse direction, if there is one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the last step, and the first of a reverse direction."""
        if self.reverse_from is None:
            return x[-1]
        return torch.cat((x[-1, ..., : self.reverse_from], x[0, ..., self.reverse_from :]), -1)


class Mean(nn.Module):
    """The mean of each feature over the steps: (T, N, features) becomes (N, features)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Average."""
        return x.mean(0)


class Max(nn.Module):
    """The largest value of each feature over the steps: (T, N, features) becomes (N, features)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the largest."""
        return x.amax(0)


class Scale(nn.Module):
    """``(x - shift) * factor`` for each feature, with constants that training does not change."""

    def __init__(self, shift: Sequence[float], factor: Sequence[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.constants = tuple(shift), tuple(factor)
        self.register_buffer("shift", torch.tensor(shift, dtype=dtype), persistent=False)
        self.register_buffer("factor", torch.tensor(factor, dtype=dtype), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale."""
        return (x - self.shift) * self.factor


class InputSkip(nn.Module):
    """Adds ``factor`` times the first features of the network's own input to those of what comes in."""

    def __init__(self, features: int, factor: float) -> None:
        super().__init__()
        self.features = features
        self.factor = factor

    def forward(self, x: torch.Tensor, network_input: torch.Tensor) -> torch.Tensor:
        """Add."""
        first = x[..., : self.features] + self.factor * network_input[..., : self.features]
        return torch.cat((first, x[..., self.features :]), -1)


class Chain(nn.Module):
    """A network of Latchwork's as modules: ``output, state = chain(x, state=None)``, with the same shapes.

    The state is (h_n, c_n) if there is one LSTM, a tuple of such pairs if there are several, () if there is none. The
    modules have the numbers of the layers, so that parameters have the same names.
    """

    def __init__(self, modules: Sequence[tuple[str, nn.Module]], batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        for name, module in modules:
            self.add_module(name, module)

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """Run over a whole sequence."""
        count = sum(isinstance(module, nn.LSTM) for module in self.children())
        given = [None] * count if state is None else [state] if count == 1 else list(state)
        ends: list[tuple[torch.Tensor, torch.Tensor]] = []
        network_input = x
        for module in self.children():
            if isinstance(module, nn.LSTM):
                x, end = module(x, given[len(ends)])
                ends.append(end)
            elif isinstance(module, (Last, Mean, Max)):
                x = module(x.transpose(0, 1) if self.batch_first and x.dim() == 3 else x)
            elif isinstance(module, InputSkip):
                x = module(x, network_input)
            else:
                x = module(x)
        return x, ends[0] if count == 1 else tuple(ends)

    def parts(self) -> list[Part]:
        """Describe the layers, as they were in the network that this was made of."""
        parts: list[Part] = []
        for name, module in self.named_children():
            if isinstance(module, Scale):
                shift, factor = module.constants
                parts.append(Part(OurScale, {"shift": shift, "factor": factor}, {}, name))
            elif isinstance(module, InputSkip):
                options = {"features": module.features, "factor": module.factor}
                parts.append(Part(OurInputSkip, options, {}, name))
            elif isinstance(module, (Last, Mean, Max)):
                parts.append(Part(getattr(ours, type(module).__name__), {}, {}, name))
            else:
                parts = extended(parts, module, name) or parts
        return parts
