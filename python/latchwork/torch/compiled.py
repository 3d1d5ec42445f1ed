"""The operator that stands for a call of the core in the graphs of ``torch.compile``."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latchwork import _core
from latchwork.torch.function import BATCH_FIRST, CELL, STEPS_FIRST, UNBATCHED, UNBATCHED_CELL, Call, Masks
from latchwork.torch.weights import Stack, is_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

AXES = {
    "steps first": STEPS_FIRST,
    "batch first": BATCH_FIRST,
    "unbatched": UNBATCHED,
    "cell": CELL,
    "unbatched cell": UNBATCHED_CELL,
}
Four = tuple[Tensor, Tensor, Tensor, Tensor]


@functools.lru_cache(maxsize=256)
def _stack(options: str, dtype: torch.dtype, place: int) -> Stack:
    """Give layers by their options in JSON. ``place`` tells modules of the same options apart, for speed alone."""
    return Stack(_core.checked_module(json.loads(options)), dtype)


def _call(
    x: Tensor, state: tuple[Tensor | None, Tensor | None], weights: Sequence[Tensor],
    masks: tuple[Tensor | None, Tensor | None, Tensor | None], options: str, axes: str, mask_seed: Tensor | None,
    checkpoint: int,
) -> Call:  # fmt: skip
    """Give the call. RuntimeError if a tensor is not as the core reads it, since a graph checks nothing before."""
    stack = _stack(options, x.dtype, weights[0].data_ptr())
    steps, rows = _sizes(x, axes)
    if not stack.takes(weights):
        raise RuntimeError(f"weights: expected {x.dtype} on a CPU of shapes {stack.shapes}, got others")
    batch = (() if "cell" in axes else (stack.states,)) + (() if "unbatched" in axes else (rows,))
    for name, tensor, dtype, shape in (
        ("input", x, x.dtype, (*x.shape[:-1], stack.input_size)),
        ("h_0", state[0], x.dtype, (*batch, stack.hidden_size)),
        ("c_0", state[1], x.dtype, (*batch, stack.cell_size)),
        ("lengths", masks[0], torch.int64, (rows,)),
        ("reset", masks[1], torch.bool, _mask_shape(steps, rows, axes)),
        ("skip", masks[2], torch.bool, _mask_shape(steps, rows, axes)),
    ):
        if tensor is not None and (not is_plain(tensor) or tensor.dtype is not dtype or tensor.shape != shape):
            got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
            raise RuntimeError(f"{name}: expected {dtype} {shape} on cpu, got {got}")
    if (state[0] is None) != (state[1] is None):
        raise RuntimeError("hx: expected both h_0 and c_0, or neither, got one of them")
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if masks[0] is not None and bool(((masks[0] < 1) | (masks[0] > steps)).any()):
        raise RuntimeError(f"lengths: expected 1 to {steps} (T), got {masks[0].tolist()}")
    seed = None if mask_seed is None else int(mask_seed)
    kept = Masks(*(None if mask is None else mask.contiguous() for mask in masks))
    return Call(stack, AXES[axes], steps, rows, None, kept, seed, checkpoint, "cell" not in axes)


def _mask_shape(steps: int, rows: int, axes: str) -> tuple[int, ...]:
    return (steps,) if axes == "unbatched" else (steps, rows)


def _sizes(x: Tensor, axes: str) -> tuple[int, int]:
    step, row = AXES[axes]
    return 1 if step is None else x.shape[step], 1 if row is None else x.shape[row]


def _lstm(
    x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], lengths: Tensor | None,
    reset: Tensor | None, skip: Tensor | None, mask_seed: Tensor | None, options: str, axes: str,
    checkpoint: int, records: bool,
) -> Four:  # fmt: skip
    """Compute the output, empty for a cell, the end state, and the token of a tape, which is no tape's if not asked."""
    call = _call(x, (h_0, c_0), weights, (lengths, reset, skip), options, axes, mask_seed, checkpoint)
    if records or call.mask_seed is not None:
        outputs, token = call.record(x, h_0, c_0, weights)
    else:
        outputs, token = call(x, h_0, c_0, weights), x.new_empty(1, dtype=torch.uint8)
    return (outputs if len(outputs) == 3 else (x.new_empty(0), *outputs)) + (token,)


def _fake_lstm(
    x: Tensor, h_0: Any, c_0: Any, weights: Any, lengths: Any, reset: Any, skip: Any, mask_seed: Any, options: str,
    axes: str, checkpoint: int, records: bool,
) -> Four:  # fmt: skip
    stack = _stack(options, x.dtype, 0)
    token = x.new_empty(1, dtype=torch.uint8)
    steps, rows = _sizes(x, axes)
    if "cell" in axes:
        batch = x.shape[:-1]
        return x.new_empty(0), x.new_empty((*batch, stack.hidden_size)), x.new_empty((*batch, stack.cell_size)), token
    if axes == "batch first":
        output = x.new_empty((steps, rows, stack.output_size)).transpose(0, 1)
    else:
        output = x.new_empty((*x.shape[:-1], stack.output_size))
    batch = () if axes == "unbatched" else (rows,)
    h_n, c_n = (x.new_empty((stack.states, *batch, size)) for size in (stack.hidden_size, stack.cell_size))
    return output, h_n, c_n, token


def _lstm_backward(
    token: Tensor, d_output: Tensor | None, d_h_n: Tensor | None, d_c_n: Tensor | None, x: Tensor,
    h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], lengths: Tensor | None,
    reset: Tensor | None, skip: Tensor | None, mask_seed: Tensor | None, options: str, axes: str,
    checkpoint: int, wants_input: bool, wants_weights: bool,
) -> Four:  # fmt: skip
    """Compute the gradients of x, h_0, c_0 and all weights together; empty where there is none."""
    call = _call(x, (h_0, c_0), weights, (lengths, reset, skip), options, axes, mask_seed, checkpoint)
    d_outputs = (d_h_n, d_c_n) if "cell" in axes else (d_output, d_h_n, d_c_n)
    has_start = h_0 is not None
    d_x, d_h_0, d_c_0, flat = call.gradients(
        token, d_outputs, (wants_input, has_start, has_start, wants_weights), x, h_0, c_0, weights
    )
    d_x, d_h_0, d_c_0 = (x.new_empty(0) if gradient is None else gradient for gradient in (d_x, d_h_0, d_c_0))
    return d_x, d_h_0, d_c_0, flat


def _fake_lstm_backward(
    token: Tensor, d_output: Any, d_h_n: Any, d_c_n: Any, x: Tensor, h_0: Any, c_0: Any, weights: Any, lengths: Any,
    reset: Any, skip: Any, mask_seed: Any, options: str, axes: str, checkpoint: int, wants_input: bool,
    wants_weights: bool,
) -> Four:  # fmt: skip
    d_h_0, d_c_0 = (x.new_empty(0 if state is None else state.shape) for state in (h_0, c_0))
    flat = x.new_empty(_stack(options, x.dtype, 0).size if wants_weights else 0)
    return x.new_empty(x.shape if wants_input else 0), d_h_0, d_c_0, flat


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Four) -> None:
    x, h_0, c_0, weights, lengths, reset, skip, mask_seed, options, axes, checkpoint, _ = inputs
    ctx.save_for_backward(output[3], x, h_0, c_0, lengths, reset, skip, mask_seed, *weights)
    ctx.options, ctx.axes, ctx.checkpoint = options, axes, checkpoint


def _backward(ctx: Any, d_output: Any, d_h_n: Any, d_c_n: Any, _: Any) -> tuple[Any, ...]:
    token, x, h_0, c_0, lengths, reset, skip, mask_seed, *weights = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    wants_weights = any(wanted[3])
    d_x, d_h_0, d_c_0, flat = lstm_backward(
        token, d_output, d_h_n, d_c_n, x, h_0, c_0, weights, lengths, reset, skip, mask_seed, ctx.options, ctx.axes,
        ctx.checkpoint, wanted[0], wants_weights,
    )  # fmt: skip
    pieces = _stack(ctx.options, x.dtype, 0).pieces(flat) if wants_weights else [None] * len(weights)
    of_state = (None, None) if h_0 is None else (d_h_0, d_c_0)
    return (d_x if wanted[0] else None, *of_state, pieces, *(None,) * 8)


lstm = torch.library.custom_op(
    "latchwork::lstm",
    _lstm,
    mutates_args=(),
    schema="(Tensor x, Tensor? h_0, Tensor? c_0, Tensor[] weights, Tensor? lengths, Tensor? reset, Tensor? skip, "
    "Tensor? mask_seed, str options, str axes, int checkpoint, bool records) -> (Tensor, Tensor, Tensor, Tensor)",
)
lstm_backward = torch.library.custom_op(
    "latchwork::lstm_backward",
    _lstm_backward,
    mutates_args=(),
    schema="(Tensor token, Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor x, Tensor? h_0, Tensor? c_0, "
    "Tensor[] weights, Tensor? lengths, Tensor? reset, Tensor? skip, Tensor? mask_seed, str options, str axes, "
    "int checkpoint, bool wants_input, bool wants_weights) -> (Tensor, Tensor, Tensor, Tensor)",
)
lstm.register_fake(_fake_lstm)
lstm_backward.register_fake(_fake_lstm_backward)
# The compiler would cut into graphs what autograd calls in a backward pass within a compiled step. The first call loads
# the compiler, as whatever made a graph with this operator has done.
lstm.register_autograd(torch._disable_dynamo(_backward), setup_context=_setup_context)
