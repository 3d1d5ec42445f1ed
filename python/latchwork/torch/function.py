"""One call of the core on tensors, and its gradients by PyTorch's autograd."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from latchwork.torch.gradients import Gradients, checked_gradients, looked_into, visible_gradients
from latchwork.torch.weights import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork.torch.weights import Stack

Tensors = tuple[Tensor, ...]
# An address, and the strides of steps and rows in elements.
Place = tuple[int, int, int]
# What the core's functions on tensors take: weights, sizes, input, masks, batch sizes, start, output, end, threads.
Arguments = tuple[
    list[int], tuple[int, int], Place, tuple[int, int, int], int, tuple[int, int], Place, tuple[int, int], int
]
# A function as torch.compile leaves it alone, with all that it calls. Where the compiler passes over a module's
# forward, as it does over recurrent layers by its default, it would cut the functions that forward calls into graphs of
# nothing. This loads the compiler, which takes a second, so it is to be called only where the compiler is loaded.
left_alone: Callable[[Callable[..., Any]], Callable[..., Any]] = functools.cache(torch.compiler.disable)


class Axes(NamedTuple):
    """Where steps and rows lie in the tensors of a call; None: there is no such axis."""

    step: int | None
    row: int | None


STEPS_FIRST = Axes(0, 1)
BATCH_FIRST = Axes(1, 0)
UNBATCHED = Axes(0, None)
PACKED = Axes(None, None)
CELL = Axes(None, 0)
UNBATCHED_CELL = Axes(None, None)


class Masks(NamedTuple):
    """Lengths, resets and skipped steps as contiguous tensors: int64 (N,), bool (T, N), bool (T, N)."""

    lengths: Tensor | None = None
    reset: Tensor | None = None
    skip: Tensor | None = None

    @property
    def places(self) -> tuple[int, int, int]:
        """The addresses of all three; 0: there is none."""
        lengths, reset, skip = (0 if tensor is None else tensor.data_ptr() for tensor in self)
        return lengths, reset, skip


class Call:
    """What one call is, apart from its tensors.

    Parameters
    ----------
    stack : Stack
        The layers.
    axes : Axes
        How the input lies.
    steps, rows : int
        T and N.
    batch_sizes : torch.Tensor, optional
        How many rows each step of a packed sequence has, int64 (T,).
    masks : Masks, optional
        None: there are none.
    mask_seed : int, optional
        Seed of zoneout and of dropout within the recurrence. None: nothing is drawn.
    checkpoint : int, default 0
        Steps between the states that a recording keeps; 0: it keeps everything.
    """

    __slots__ = ("axes", "batch_sizes", "checkpoint", "mask_seed", "masks", "sizes", "stack", "wants_output")

    def __init__(
        self,
        stack: Stack,
        axes: Axes,
        steps: int,
        rows: int,
        batch_sizes: Tensor | None = None,
        masks: Masks | None = None,
        mask_seed: int | None = None,
        checkpoint: int = 0,
        wants_output: bool = True,
    ) -> None:
        self.stack = stack
        self.axes = axes
        self.sizes = (steps, rows)
        self.batch_sizes = batch_sizes
        self.masks = masks
        self.mask_seed = mask_seed
        self.checkpoint = checkpoint
        self.wants_output = wants_output

    @property
    def rows_shape(self) -> tuple[int, ...]:
        """The shape of the rows of a state: (N,), or () where there is no such axis."""
        return () if self.axes.row is None and self.batch_sizes is None else (self.sizes[1],)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of the input without its features."""
        if self.batch_sizes is not None:
            return (int(self.batch_sizes.sum()),)
        step, row = self.axes
        lengths = {step: self.sizes[0], row: self.sizes[1]}
        return tuple(lengths[axis] for axis in (0, 1) if axis in lengths)

    def __call__(self, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]) -> Tensors:
        """Compute the output, where one is wanted, h_n and c_n."""
        if torch.is_grad_enabled() and _any_requires_grad(x, h_0, c_0, weights):
            if "torch._dynamo" in sys.modules:
                _leave_gradients_alone()
            outputs: Tensors = Recorded.apply(self, x, h_0, c_0, *weights)
            return outputs
        if self.mask_seed is not None:
            return self.record(x, h_0, c_0, weights)[0]
        arguments, outputs, alive = self._arguments(x, h_0, c_0, weights)
        self.stack.network.run_tensors(*arguments)
        del alive
        return outputs

    def record(
        self, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
    ) -> tuple[Tensors, Tensor]:
        """Compute the same, and give the token of a tape too: a tensor that keeps the tape alive."""
        arguments, outputs, alive = self._arguments(x, h_0, c_0, weights)
        token = self.stack.network.record_tensors(*arguments, self.mask_seed, self.checkpoint)
        del alive
        return outputs, torch.from_numpy(token)

    def gradients(
        self, token: Tensor, d_outputs: Sequence[Tensor | None], wanted: Sequence[bool], x: Tensor,
        h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor]:  # fmt: skip
        """Compute the gradients of x, h_0, c_0, as far as they are wanted, and those of all weights in one tensor.

        ``wanted`` says it of x, h_0, c_0 and then of weights; if of these none is, their tensor has no elements.
        ``d_outputs`` are those of the output, where there is one, h_n and c_n. If the tape is gone, because what kept
        it was copied rather than kept, the call is recorded again.
        """
        stack = self.stack
        *d_output, d_h, d_c = checked_gradients(self, d_outputs, x, h_0, c_0)
        d_y, y = self._sequence(d_output[0] if d_output else None)
        d_h = None if d_h is None else d_h.contiguous()
        d_c = None if d_c is None else d_c.contiguous()
        d_parameters = x.new_empty(stack.size if any(wanted[3:]) else 0)
        d_x = x.new_empty(x.shape) if wanted[0] else None
        d_h_0 = d_c_0 = None
        if wanted[1] or wanted[2]:
            assert h_0 is not None
            assert c_0 is not None
            d_h_0, d_c_0 = h_0.new_empty(h_0.shape), c_0.new_empty(c_0.shape)
        arguments = (
            y, (_place(d_h), _place(d_c)), d_parameters.data_ptr() if len(d_parameters) else 0, self._sequence(d_x)[1],
            (_place(d_h_0), _place(d_c_0)), torch.get_num_threads(),
        )  # fmt: skip
        if not stack.network.backward_tensors(token.data_ptr(), *arguments):
            if not stack.takes(weights):
                raise RuntimeError(f"weights: expected {stack.dtype} on a CPU of shapes {stack.shapes}, got others")
            token = self.record(x, h_0, c_0, weights)[1]
            stack.network.backward_tensors(token.data_ptr(), *arguments)
        del d_y
        return d_x, d_h_0 if wanted[1] else None, d_c_0 if wanted[2] else None, d_parameters

    def _arguments(
        self, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
    ) -> tuple[Arguments, Tensors, Any]:
        """Give the core's arguments, the results that it is to write, and what must stay alive meanwhile."""
        places, copies = addresses(weights)
        x, x_place = self._sequence(x)
        start = (0, 0)
        if h_0 is not None and c_0 is not None:
            h_0, c_0 = h_0.contiguous(), c_0.contiguous()
            start = (h_0.data_ptr(), c_0.data_ptr())
        outputs, output_place = self._new_outputs(x)
        end = (outputs[-2].data_ptr(), outputs[-1].data_ptr())
        masks, batch_sizes = self.masks, self.batch_sizes
        arguments = (
            places, self.sizes, x_place, (0, 0, 0) if masks is None else masks.places,
            0 if batch_sizes is None else batch_sizes.data_ptr(), start, output_place, end, torch.get_num_threads(),
        )  # fmt: skip
        return arguments, outputs, (x, h_0, c_0, copies)

    def _new_outputs(self, x: Tensor) -> tuple[Tensors, Place]:
        stack, (steps, rows) = self.stack, self.sizes
        if not self.wants_output:
            batch = x.shape[:-1]
            return (x.new_empty((*batch, stack.hidden_size)), x.new_empty((*batch, stack.cell_size))), (0, 0, 0)
        if self.axes is BATCH_FIRST:  # torch gives a view like this one
            output = x.new_empty((steps, rows, stack.output_size)).transpose(0, 1)
        else:
            output = x.new_empty((*x.shape[:-1], stack.output_size))
        batch = () if self.axes is UNBATCHED else (rows,)
        h_n = x.new_empty((stack.states, *batch, stack.hidden_size))
        c_n = x.new_empty((stack.states, *batch, stack.cell_size))
        return (output, h_n, c_n), self._sequence(output)[1]

    def _sequence(self, tensor: Tensor | None) -> tuple[Tensor | None, Place]:
        """Give a tensor with contiguous features, and its address with the strides of steps and rows."""
        if tensor is None:
            return None, (0, 0, 0)
        step, row = self.axes
        if step is None and row is None:
            tensor = tensor.contiguous()
            return tensor, (tensor.data_ptr(), 0, 0)
        strides = tensor.stride()
        if strides[-1] != 1:
            tensor = tensor.contiguous()
            strides = tensor.stride()
        return tensor, (tensor.data_ptr(), 0 if step is None else strides[step], 0 if row is None else strides[row])


class Recorded(torch.autograd.Function):
    """A recording of the core in PyTorch's graph."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor) -> Tensors:
        """Record the call. The graph frees the tape with the saved tensors, because the token is one of them."""
        outputs, token = call.record(x, h_0, c_0, weights)
        ctx.set_materialize_grads(False)
        ctx.call = call
        ctx.save_for_backward(token, x, h_0, c_0, *weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """Compute the gradients that are needed."""
        token, *tensors = ctx.saved_tensors
        call, wanted = ctx.call, ctx.needs_input_grad[1:]
        x, h_0, c_0, *weights = tensors
        of_inputs: list[Tensor | None]
        if looked_into(d_outputs, tensors):
            *present, flat = visible_gradients(call, wanted, token, d_outputs, tensors)
            found = iter(present)
            of_inputs = [next(found) if want else None for want in wanted[:3]]
        else:
            with torch.no_grad():
                *of_inputs, flat = call.gradients(token, d_outputs, wanted, x, h_0, c_0, weights)
        if not any(wanted[3:]):
            return None, *of_inputs, *(None for _ in weights)
        pieces = call.stack.pieces(flat)
        return None, *of_inputs, *(piece if want else None for piece, want in zip(pieces, wanted[3:], strict=True))


@functools.cache
def _leave_gradients_alone() -> None:
    """Have torch.compile leave alone what autograd calls, where a step that it compiles has a backward pass in it.

    It is the methods themselves that are replaced: if they called what the compiler leaves alone, it would still look
    at them, and so at saved tensors, which may be looked at once only.
    """
    for recorded in (Recorded, Gradients):
        recorded.backward = staticmethod(left_alone(recorded.backward))  # type: ignore[method-assign]


def _any_requires_grad(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]) -> bool:
    if x.requires_grad or (h_0 is not None and h_0.requires_grad) or (c_0 is not None and c_0.requires_grad):
        return True
    return any(weight.requires_grad for weight in weights)


def _place(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
