"""A module that takes the place of ``torch.nn.LSTMCell``."""

from __future__ import annotations

import json
import sys
import types
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from latchwork._cell_options import checked_lstm
from latchwork.lstm_cell import LSTMCell as CoreLSTMCell
from latchwork.lstm_cell import check_dropout
from latchwork.torch.checks import computed_elsewhere, is_pair
from latchwork.torch.compiled import lstm as lstm_operator
from latchwork.torch.function import CELL, UNBATCHED_CELL, Call, left_alone
from latchwork.torch.inspection import Inspected
from latchwork.torch.variant import (
    LSTMCellOptions,
    chosen_options,
    default_options,
    draw_initial_values,
    new_mask_seed,
)
from latchwork.torch.weights import NETWORKS, Stack, draws_masks, is_plain, named_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

Pair = tuple[Tensor, Tensor]

# The options that torch.nn.LSTMCell has too.
_SHARED = ("input_size", "hidden_size", "bias")
_NO_OPTIONS: Mapping[str, Any] = types.MappingProxyType({})


class LSTMCell(Inspected, torch.nn.LSTMCell):
    """One step of one layer that takes the place of ``torch.nn.LSTMCell`` on a CPU, with all variants of the cell.

    What `LSTM` says of arguments, parameters, initial values, threads and of what is left to PyTorch holds here too.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As for ``torch.nn.LSTMCell``.
    **options
        Keyword-only: the options of `latchwork.LSTMCell` that ``torch.nn.LSTMCell`` lacks, ``proj_size`` and those
        from ``forget_gate`` on.

    Raises
    ------
    ValueError, TypeError
        As for ``torch.nn.LSTMCell`` and `latchwork.LSTMCell`.

    Notes
    -----
    For a loop over whole sequences, `LSTM` with its ``reset`` is many times faster.
    """

    _variant: Mapping[str, Any] = _NO_OPTIONS  # the options that torch.nn.LSTMCell lacks, where not the defaults
    # Of a variant in graphs: its options, whether it draws masks, and the names of its parameters.
    _graph_options: tuple[str, bool, list[str]] | None = None
    _stack: Stack | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[LSTMCellOptions],
    ) -> None:
        variant = chosen_options(CoreLSTMCell, _SHARED, options)
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        if variant:
            self.__dict__["_variant"] = variant
            self._replace_parameters()
            self.reset_parameters()
            core = self._core_options()
            names = self._weight_names(self._any_stack())
            self.__dict__["_graph_options"] = (json.dumps(core), draws_masks(core), names)

    def forward(self, input: Tensor, hx: Pair | None = None) -> Pair:
        """Run one step.

        Parameters
        ----------
        input : torch.Tensor
            (N, input_size), or unbatched (input_size,).
        hx : pair of torch.Tensor, optional
            (h, c), each (N, hidden_size), h (N, proj_size) with a projection; unbatched without the axis N. None: zeros
            or, with ``learn_start_state``, the parameters h_0 and c_0.

        Returns
        -------
        h, c : torch.Tensor
            The new state, in the same shapes.

        Raises
        ------
        RuntimeError, ValueError
            As ``torch.nn.LSTMCell`` does.
        """
        if torch.compiler.is_compiling():
            return self._run_compiled(input, hx)
        if "torch._dynamo" in sys.modules:
            h, c = left_alone(LSTMCell._run_eagerly)(self, input, hx)
            return h, c
        return self._run_eagerly(input, hx)

    def reset_parameters(self) -> None:
        """Draw initial values: PyTorch's, or for a variant those of the core, as ``init`` and ``forget_bias`` say."""
        if self._variant:
            draw_initial_values(self._core_options(), self._parameters, self._weight_names(self._any_stack()))
        else:
            super().reset_parameters()

    def extra_repr(self) -> str:
        """Show PyTorch's options, and the others where they differ from their defaults."""
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in self._variant.items())])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the core's network: a copy makes its own."""
        state = dict(self.__dict__)
        state.pop("_stack", None)
        return state

    def _run_eagerly(self, input: Any, hx: Any) -> Pair:
        """Compute in the core what it takes, and leave the rest to PyTorch's own code."""
        stack = self._stack_for(input)
        if stack is not None and not computed_elsewhere() and is_plain(input):
            shape = input.shape
            batch = shape[:-1]
            if (
                len(shape) in (1, 2)
                and shape[-1] == stack.input_size
                and (hx is None or is_pair(hx, stack.dtype, (*batch, stack.hidden_size), (*batch, stack.cell_size)))
            ):
                weights = named_tensors(self, self._weight_names(stack))
                if stack.takes(weights):
                    axes, rows = (CELL, shape[0]) if len(shape) == 2 else (UNBATCHED_CELL, 1)
                    call = Call(stack, axes, 1, rows, wants_output=False)
                    if stack.draws_masks and self.training:
                        call.mask_seed = new_mask_seed()
                    h_0, c_0 = (None, None) if hx is None else hx
                    h, c = call(input, h_0, c_0, weights)
                    return h, c
        return self._run_elsewhere(input, hx)

    def _core_options(self) -> dict[str, Any]:
        """Give the core's options, those of a layer. ValueError or TypeError."""
        options = {name: getattr(self, name) for name in _SHARED}
        config = checked_lstm(
            "float32", {}, cell=True, **{**default_options(CoreLSTMCell, _SHARED), **options, **self._variant}
        )
        check_dropout(config)
        return config.modules[0]

    def _any_stack(self) -> Stack:
        return self._stack or Stack(self._core_options(), torch.float32)

    def _weight_names(self, stack: Stack) -> list[str]:
        return [name.removesuffix("_l0") for name in stack.names]

    def _stack_for(self, x: Any) -> Stack | None:
        """Give the layer in the dtype of an input; None if the core does not have it."""
        dtype = getattr(x, "dtype", None)
        stack = self._stack
        if stack is not None and stack.dtype is dtype:
            return stack
        if dtype not in NETWORKS:
            return None
        stack = self.__dict__["_stack"] = Stack(self._core_options(), dtype)
        return stack

    def _replace_parameters(self) -> None:
        """Take the parameters of a variant, whose names and shapes may differ from PyTorch's."""
        like = self.weight_ih
        layout = self._any_stack()
        self._parameters.clear()
        for name, shape in zip(self._weight_names(layout), layout.shapes, strict=True):
            self.register_parameter(name, Parameter(like.new_empty(shape)))
        if not self.bias:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)

    def _run_compiled(self, x: Tensor, hx: Pair | None) -> Pair:
        """Put the operator into the graph that ``torch.compile`` makes of this call, which reads plain attributes."""
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or x.dim() not in (1, 2):
            return self._run_elsewhere(x, hx)
        if self._graph_options is None:
            names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
            options, random = (
                (
                    f'{{"kind": "lstm", "cell": true, "input_size": {self.input_size}, '
                    f'"hidden_size": {self.hidden_size}, "bias": {"true" if self.bias else "false"}}}'
                ),
                False,
            )
        else:
            options, random, names = self._graph_options
        h_0, c_0 = (None, None) if hx is None else hx
        seed = torch.randint(2**63 - 1, ()) if random and self.training else None
        axes = "cell" if x.dim() == 2 else "unbatched cell"
        weights = [getattr(self, name) for name in names]
        records = torch.is_grad_enabled()
        _, h, c, _ = lstm_operator(x, h_0, c_0, weights, None, None, None, seed, options, axes, 0, records)
        return h, c

    def _run_elsewhere(self, input: Any, hx: Any) -> Pair:
        """Leave the call to PyTorch's own code, which also refuses what is wrong with it."""
        if not self._variant:
            h, c = super().forward(input, hx)
            return h, c
        sizes = self._any_stack()
        if input.dim() not in (1, 2):
            raise ValueError(f"LSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]}, expected {self.input_size}")
        for index, size in enumerate((sizes.hidden_size, sizes.cell_size)):
            if hx is not None and hx[index].shape != (*input.shape[:-1], size):
                expected, got = (*input.shape[:-1], size), tuple(hx[index].shape)
                raise RuntimeError(f"hx[{index}]: expected shape {expected}, got {got}")
        raise NotImplementedError(
            f"{next(iter(self._variant))}: expected tensors of class torch.Tensor on a CPU, all in float32 or all in "
            "float64, and no torch.func transform, forward-mode derivative or trace, because PyTorch's own "
            "LSTMCell, which takes over elsewhere, does not have it"
        )
