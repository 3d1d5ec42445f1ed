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
from latchwork.torch.weights import is_plain


def computed_elsewhere() -> bool:
    """Say whether PyTorch looks into calls at the moment in a way that the core cannot follow."""
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or torch.is_autocast_enabled("cpu")
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


def refuse_input(module: torch.nn.LSTM, input: Any, hx: Any) -> None:
    """Raise what ``torch.nn.LSTM`` raises for this input and start state, if it refuses them."""
    if isinstance(input, PackedSequence):
        x, batch_sizes = input.data, input.batch_sizes
    else:
        x, batch_sizes = input, None
        if x.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {x.dim()}D instead")
        if hx is not None and (hx[0].dim() != x.dim() or hx[1].dim() != x.dim()):
            kind = "batched 3-D" if x.dim() == 3 else "unbatched 2-D"
            raise RuntimeError(
                f"For {kind} input, hx and cx should also be {x.dim()}-D "
                f"but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        if x.dim() == 2:
            x = x.unsqueeze(0 if module.batch_first else 1)
            hx = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
    if hx is None:
        module.check_input(x, batch_sizes)
    else:
        module.check_forward_args(x, hx, batch_sizes)
    if x.shape[0 if batch_sizes is not None or not module.batch_first else 1] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _as_numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
