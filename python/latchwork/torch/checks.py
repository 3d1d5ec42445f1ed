"""Whether a call is one for the core, and the checks of arguments that PyTorch's modules do not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from latchwork._arrays import lengths_array, mask_array
from latchwork.torch.function import BATCH_FIRST, UNBATCHED, Axes
from latchwork.torch.weights import is_plain, named_tensors


def computed_elsewhere() -> bool:
    """Say whether PyTorch looks into calls at the moment in a way that the core cannot follow."""
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


def is_pair(state: Any, dtype: torch.dtype, hidden: tuple[int, ...], cell: tuple[int, ...]) -> bool:
    """Say whether this is a start state of two tensors of these shapes in the machine's memory."""
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        return False
    h, c = state
    return is_plain(h) and is_plain(c) and h.dtype is c.dtype is dtype and h.shape == hidden and c.shape == cell


def lengths_tensor(lengths: Any, steps: int, rows: int) -> Tensor:
    """Read lengths of 1 to T. ValueError or TypeError."""
    array = lengths_array(_as_numpy(lengths), steps, rows, None)
    if (array < 1).any():
        row = int(np.argmax(array < 1))
        raise ValueError(f"lengths: expected 1 to {steps} (T), got {array[row]} in row {row}")
    return torch.from_numpy(np.array(array, np.int64))


def mask_tensor(name: str, mask: Any, axes: Axes, steps: int, rows: int) -> Tensor:
    """Read a mask of steps, in the order of axes of the input. ValueError or TypeError."""
    shape = (steps,) if axes is UNBATCHED else (rows, steps) if axes is BATCH_FIRST else (steps, rows)
    array = mask_array(name, _as_numpy(mask), shape)
    if axes is BATCH_FIRST:
        array = array.T
    return torch.from_numpy(np.array(array, np.bool_, order="C"))


def packing_fault(packed: PackedSequence) -> str | None:
    """Say what is wrong with how a packed sequence is packed, as far as its numbers can be read; None: nothing."""
    data, sizes, *orders = packed
    if sizes.dim() != 1 or sizes.dtype is not torch.int64 or sizes.device.type != "cpu":
        return (
            f"batch_sizes: expected torch.int64 (T,) on cpu, got {sizes.dtype} {tuple(sizes.shape)} on {sizes.device}"
        )
    if data.dim() != 2:
        return f"input must have 2 dimensions, got {data.dim()}"
    if not is_plain(sizes):
        return None
    numbers = sizes.numpy()
    if len(numbers) == 0 or numbers[-1] < 1 or (numbers[1:] > numbers[:-1]).any():
        return f"batch_sizes: expected at least one, all at least 1 and in descending order, got {numbers.tolist()}"
    if numbers.sum() != len(data):
        return f"batch_sizes: expected a sum of {len(data)}, the rows of data, got {numbers.sum()}"
    for name, order in zip(("sorted_indices", "unsorted_indices"), orders, strict=True):
        if order is not None and order.shape != (numbers[0],):
            return f"{name}: expected shape ({numbers[0]},), got {tuple(order.shape)}"
    return None


def refuse_packed(module: torch.nn.LSTM, packed: PackedSequence, hx: Any) -> None:
    """Raise RuntimeError for a packed sequence or a start state that do not fit each other or the module.

    ``torch.nn.LSTM`` checks neither, and may read and write beyond the end of a tensor. Where there is no step or an
    axis of a state is missing, it raises IndexError, and so does this.
    """
    trace = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # because what is read here is no part of what torch.jit.trace records
    try:
        data, sizes = packed.data, packed.batch_sizes
        fault = packing_fault(packed)
        if fault is not None:
            raise IndexError(fault) if sizes.numel() == 0 else RuntimeError(fault)
        if data.shape[-1] != module.input_size:
            raise RuntimeError(f"input: expected {module.input_size} features, got {data.shape[-1]}")
        if not isinstance(hx, (tuple, list)) or len(hx) != 2 or not all(isinstance(state, Tensor) for state in hx):
            return
        expected = module.get_expected_hidden_size(data, sizes), module.get_expected_cell_size(data, sizes)
        for index, (state, shape) in enumerate(zip(hx, expected, strict=True)):
            if state.shape != shape:
                kind = IndexError if state.dim() < 3 else RuntimeError
                raise kind(f"hx[{index}]: expected shape {shape}, got {tuple(state.shape)}")
    finally:
        torch._C._set_tracing_state(trace)


def refuse_weights(module: torch.nn.LSTM) -> None:
    """Raise RuntimeError if a parameter of PyTorch's LSTM has another shape than the module's sizes make it."""
    trace = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        names = module._flat_weights_names
        for name, weight in zip(names, named_tensors(module, names), strict=True):
            shape = _weight_shape(module, name)
            if weight.shape != shape:
                raise RuntimeError(f"{name}: expected shape {shape}, got {tuple(weight.shape)}")
    finally:
        torch._C._set_tracing_state(trace)


def _weight_shape(module: torch.nn.LSTM, name: str) -> tuple[int, ...]:
    below = (2 if module.bidirectional else 1) * (module.proj_size or module.hidden_size)
    kind, _, layer = name.removesuffix("_reverse").rpartition("_l")
    gates = 4 * module.hidden_size
    if kind == "weight_ih":
        return gates, module.input_size if layer == "0" else below
    if kind == "weight_hh":
        return gates, module.proj_size or module.hidden_size
    return (module.proj_size, module.hidden_size) if kind == "weight_hr" else (gates,)


def refuse_input(module: torch.nn.LSTM, input: Any, hx: Any) -> None:
    """Raise what ``torch.nn.LSTM`` raises for this input and start state, if it refuses them."""
    if isinstance(input, PackedSequence):
        return refuse_packed(module, input, hx)
    x = input
    if x.dim() not in (2, 3):
        raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {x.dim()}D instead")
    if hx is not None and (hx[0].dim() != x.dim() or hx[1].dim() != x.dim()):
        kind = "batched 3-D" if x.dim() == 3 else "unbatched 2-D"
        raise RuntimeError(
            f"For {kind} input, hx and cx should also be {x.dim()}-D but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
        )
    if x.dim() == 2:
        x = x.unsqueeze(0 if module.batch_first else 1)
        hx = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
    if hx is None:
        module.check_input(x, None)
    else:
        module.check_forward_args(x, hx, None)
    if x.shape[1 if module.batch_first else 0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _as_numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
