"""A module that takes the place of ``torch.nn.LSTM``."""

from __future__ import annotations

import json
import sys
import types
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils.rnn import PackedSequence

from latchwork._arrays import integer
from latchwork.lstm import LSTM as CoreLSTM
from latchwork.lstm import checked_stack
from latchwork.torch.checks import (
    computed_elsewhere,
    is_pair,
    lengths_tensor,
    mask_tensor,
    packing_fault,
    refuse_input,
    refuse_packed,
    refuse_weights,
)
from latchwork.torch.compiled import lstm as lstm_operator
from latchwork.torch.function import BATCH_FIRST, PACKED, STEPS_FIRST, UNBATCHED, Axes, Call, Masks, left_alone
from latchwork.torch.inspection import Inspected
from latchwork.torch.variant import (
    LayerOptions,
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

# The options that torch.nn.LSTM has too.
_SHARED = ("input_size", "hidden_size", "num_layers", "bias", "dropout", "bidirectional", "proj_size")
# The dtypes that autocast converts.
_CONVERTED = (torch.float32, torch.bfloat16, torch.float16)
_NO_OPTIONS: Mapping[str, Any] = types.MappingProxyType({})


class LSTM(Inspected, torch.nn.LSTM):
    """A stack of LSTM layers that takes the place of ``torch.nn.LSTM`` on a CPU, with all variants of the cell.

    It has ``torch.nn.LSTM``'s arguments, parameters with their names and initial values, results, gradients and
    errors. What Latchwork does not compute is left to PyTorch's own code: tensors on other devices, dtypes other than
    float32 and float64, transforms of ``torch.func``, forward-mode derivatives and ``torch.jit.trace``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        As for ``torch.nn.LSTM``. Dropout between layers is PyTorch's, with the numbers of its generator.
    **options
        Keyword-only: the options of `latchwork.LSTM` that ``torch.nn.LSTM`` lacks, ``reverse``, ``merge`` and
        those from ``forget_gate`` on. Parameters then have the names and shapes that `latchwork.LSTM` has, and initial
        values from a seed that PyTorch's generator draws. A variant computes on a CPU only, in float32
        or float64.

    Raises
    ------
    ValueError, TypeError
        As for ``torch.nn.LSTM`` and `latchwork.LSTM`.

    Notes
    -----
    The weights are packed for the processor when a byte of them has changed since the last call. A recording for
    gradients keeps copies of all that it needs but the start state and the weights in their own layout, and each
    gradient of a parameter is a view of one tensor. Second derivatives are computed by PyTorch's own code; a variant,
    and a call with ``lengths``, ``reset``, ``skip`` or ``checkpoint``, has first derivatives only.

    A call uses at most ``torch.get_num_threads()`` and at most ``latchwork.get_num_threads()`` threads. The results do
    not depend on it, bit for bit.

    Under ``torch.autocast("cpu")`` it computes in float32 and gives the dtypes that ``torch.nn.LSTM`` gives. In a graph
    of ``torch.compile`` it is one operator; PyTorch breaks the graph at every ``torch.nn.LSTM``, and so at this class,
    unless ``torch._dynamo.config.allow_rnn`` is True. `LSTMCell` needs no such setting.
    """

    _flat_weights_names: list[str]

    # Class attributes, so that an object whose class was changed to this one works too.
    _variant: Mapping[str, Any] = _NO_OPTIONS  # the options that torch.nn.LSTM lacks, where they differ from defaults
    _stack: Stack | None = None
    _graph_options: tuple[str, bool] | None = None  # of a variant in graphs: its options, and whether it draws masks
    _layers: list[Stack] | None = None  # the same layers one by one, made when they are first needed

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        variant = chosen_options(CoreLSTM, _SHARED, options)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device=device, dtype=dtype,
        )  # fmt: skip
        if variant:
            self.__dict__["_variant"] = variant
            self._replace_parameters()
            self.reset_parameters()
            core = self._core_options()
            self.__dict__["_graph_options"] = (json.dumps(core | {"dropout": 0.0}), draws_masks(core))

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Pair | None = None,
        *,
        lengths: Any = None,
        reset: Any = None,
        skip: Any = None,
        checkpoint: int | None = None,
    ) -> tuple[Any, Pair]:
        """Run over a whole sequence.

        Parameters
        ----------
        input : torch.Tensor or PackedSequence
            (T, N, input_size), with ``batch_first`` (N, T, input_size), unbatched (T, input_size), or packed.
        hx : pair of torch.Tensor, optional
            (h_0, c_0) as for ``torch.nn.LSTM``. None: the layers' own start state, which is zeros or, with
            ``learn_start_state``, trained.
        lengths : torch.Tensor or sequence of int, optional
            (N,), each from 1 to T: how many steps of each sequence are valid. No work is done on the others, the output
            is zero there, and h_n and c_n are the states at each sequence's own end. Not for packed or unbatched input.
        reset : torch.Tensor, optional
            (T, N), with ``batch_first`` (N, T), unbatched (T,); booleans, or numbers that are all 0 or 1. Where it is
            true, the state becomes the layers' own start state before this step, and no gradient crosses. In a loop
            over time this is ``h * (1 - done)``. Not for packed input.
        skip : torch.Tensor, optional
            Of the same shapes. Where it is true, the step is left out: the state is carried through, and the output is
            that of the step before. Not for packed input.
        checkpoint : int, optional
            Every how many steps the state is kept for ``backward``, which computes the steps between again: the
            gradients are the same bit for bit. None: everything is kept.

        Returns
        -------
        output : torch.Tensor or PackedSequence
        (h_n, c_n) : pair of torch.Tensor
            As of ``torch.nn.LSTM``.

        Raises
        ------
        RuntimeError, ValueError, TypeError
            As ``torch.nn.LSTM`` does. What lies beyond it is a ValueError or TypeError.
        """
        if torch.compiler.is_compiling() and not isinstance(input, PackedSequence):
            return self._run_compiled(input, hx, lengths, reset, skip, checkpoint)
        if "torch._dynamo" in sys.modules:
            output, hidden = left_alone(LSTM._run_eagerly)(self, input, hx, lengths, reset, skip, checkpoint)
            return output, hidden
        return self._run_eagerly(input, hx, lengths, reset, skip, checkpoint)

    def reset_parameters(self) -> None:
        """Draw initial values: PyTorch's, or for a variant those of the core, as ``init`` and ``forget_bias`` say."""
        if self._variant:
            draw_initial_values(self._core_options(), self._parameters, self._flat_weights_names)
        else:
            super().reset_parameters()

    def extra_repr(self) -> str:
        """Show PyTorch's options, and the others where they differ from their defaults."""
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in self._variant.items())])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the core's network: a copy makes its own."""
        state = dict(super().__getstate__())
        state.pop("_stack", None)
        state.pop("_layers", None)
        return state

    def _core_options(self) -> dict[str, Any]:
        """Give the core's options. ValueError or TypeError."""
        options = {name: getattr(self, name) for name in _SHARED}
        defaults = default_options(CoreLSTM, _SHARED)
        config = checked_stack(batch_first=False, dtype="float32", **{**defaults, **options, **self._variant})
        return config.modules[0]

    def _stack_for(self, x: Any) -> Stack | None:
        """Give the layers in the dtype of an input; None if the core does not have it."""
        dtype = getattr(x, "dtype", None)
        stack = self._stack
        if stack is not None and stack.dtype is dtype:
            return stack
        if dtype not in NETWORKS:
            return None
        stack = Stack(self._core_options(), dtype)
        self.__dict__.update(_stack=stack, _layers=None)
        return stack

    def _layers_of(self, stack: Stack) -> list[Stack]:
        """Give the layers one by one."""
        layers = self._layers
        if layers is None or layers[0].dtype is not stack.dtype:
            options = self._core_options() | {"num_layers": 1, "dropout": 0.0, "residual": False}
            first = Stack(options, stack.dtype)
            others = Stack(options | {"input_size": first.output_size}, stack.dtype) if self.num_layers > 1 else first
            layers = [first] + [others] * (self.num_layers - 1)
            self.__dict__["_layers"] = layers
        return layers

    def _replace_parameters(self) -> None:
        """Take the parameters of a variant, whose names and shapes may differ from PyTorch's."""
        options = self._core_options()
        like = next(iter(self._parameters.values()))
        assert like is not None
        layout = Stack(options, torch.float32)
        for name in self._flat_weights_names:
            del self._parameters[name]
        self._flat_weights_names = list(layout.names)
        self._flat_weights = [None] * len(layout.names)
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            self.register_parameter(name, Parameter(like.new_empty(shape)))
        each = len(layout.names) // self.num_layers
        self._all_weights = [list(layout.names[layer * each : (layer + 1) * each]) for layer in range(self.num_layers)]
        self._init_flat_weights()

    def _takes_sequence(self, stack: Stack, x: Tensor, hx: Any) -> bool:
        """Say whether PyTorch accepts this input and this start state, so that the core may."""
        if not is_plain(x):
            return False
        shape = x.shape
        if len(shape) not in (2, 3) or shape[-1] != stack.input_size:
            return False
        batched = len(shape) == 3
        if shape[1 if batched and self.batch_first else 0] == 0:
            return False
        if hx is None:
            return True
        batch = (shape[0 if self.batch_first else 1],) if batched else ()
        return is_pair(
            hx, stack.dtype, (stack.states, *batch, stack.hidden_size), (stack.states, *batch, stack.cell_size)
        )

    def _takes_packed(self, stack: Stack, packed: PackedSequence, hx: Any) -> bool:
        data, sizes = packed.data, packed.batch_sizes
        if not (is_plain(data) and is_plain(sizes)) or packing_fault(packed) is not None:
            return False
        if data.shape[-1] != stack.input_size:
            return False
        rows = int(sizes[0])
        return hx is None or is_pair(
            hx, stack.dtype, (stack.states, rows, stack.hidden_size), (stack.states, rows, stack.cell_size)
        )

    def _run_eagerly(
        self, input: Any, hx: Any, lengths: Any, reset: Any, skip: Any, checkpoint: Any
    ) -> tuple[Any, Pair]:
        """Compute in the core what it takes, and leave the rest to PyTorch's own code."""
        packed = isinstance(input, PackedSequence)
        x: Tensor = input.data if packed else input
        if torch.is_autocast_enabled("cpu"):
            return self._run_autocast(input, hx, lengths, reset, skip, checkpoint)
        stack = self._stack_for(x)
        if stack is not None and not computed_elsewhere():
            weights = named_tensors(self, stack.names)
            if stack.takes(weights):
                if packed and self._takes_packed(stack, input, hx):
                    _refuse_for_packed(lengths, reset, skip)
                    return self._run_packed(stack, input, hx, weights, checkpoint)
                if not packed and self._takes_sequence(stack, x, hx):
                    return self._run(stack, x, hx, weights, lengths, reset, skip, checkpoint)
        return self._run_elsewhere(input, hx, lengths, reset, skip, checkpoint)

    def _run(
        self, stack: Stack, x: Tensor, hx: Pair | None, weights: list[Tensor],
        lengths: Any, reset: Any, skip: Any, checkpoint: Any,
    ) -> tuple[Tensor, Pair]:  # fmt: skip
        shape = x.shape
        if len(shape) == 2:
            axes, steps, rows = UNBATCHED, shape[0], 1
        elif self.batch_first:
            axes, rows, steps = BATCH_FIRST, shape[0], shape[1]
        else:
            axes, steps, rows = STEPS_FIRST, shape[0], shape[1]
        masks = None
        if lengths is not None or reset is not None or skip is not None:
            masks = _masks(axes, steps, rows, lengths, reset, skip)
        interval = 0 if checkpoint is None else integer("checkpoint", checkpoint, 1)
        call = Call(stack, axes, steps, rows, None, masks, None, interval)
        if self.training and self.num_layers > 1 and self.dropout > 0:
            return self._run_with_dropout(call, x, hx, weights)
        if stack.draws_masks and self.training:
            call.mask_seed = new_mask_seed()
        h_0, c_0 = (None, None) if hx is None else hx
        output, h_n, c_n = call(x, h_0, c_0, weights)
        return output, (h_n, c_n)

    def _run_packed(
        self, stack: Stack, packed: PackedSequence, hx: Pair | None, weights: list[Tensor], checkpoint: Any
    ) -> tuple[PackedSequence, Pair]:
        x, batch_sizes, sorted_indices, unsorted_indices = packed
        interval = 0 if checkpoint is None else integer("checkpoint", checkpoint, 1)
        # A copy, because a recording that is lost is made again in the backward pass.
        kept_sizes = batch_sizes.clone(memory_format=torch.contiguous_format)
        call = Call(stack, PACKED, len(batch_sizes), int(batch_sizes[0]), kept_sizes, None, None, interval)
        if hx is not None:
            hx = self.permute_hidden(hx, sorted_indices)
        if self.training and self.num_layers > 1 and self.dropout > 0:
            output, hidden = self._run_with_dropout(call, x, hx, weights)
        else:
            if stack.draws_masks and self.training:
                call.mask_seed = new_mask_seed()
            h_0, c_0 = (None, None) if hx is None else hx
            output, *end = call(x, h_0, c_0, weights)
            hidden = (end[0], end[1])
        result = PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices)
        return result, self.permute_hidden(hidden, unsorted_indices)

    def _run_with_dropout(self, call: Call, x: Tensor, hx: Pair | None, weights: list[Tensor]) -> tuple[Tensor, Pair]:
        """Run layer by layer, with PyTorch's dropout between them, on sequences that lie as they do in PyTorch."""
        layers = self._layers_of(call.stack)
        batch_first = call.axes is BATCH_FIRST
        if batch_first:
            x, call.axes = x.transpose(0, 1), STEPS_FIRST
        each, states = len(weights) // len(layers), layers[0].states
        random = call.stack.draws_masks
        ends = []
        below = x
        for layer, stack in enumerate(layers):
            call_of_layer = Call(
                stack, call.axes, *call.sizes, call.batch_sizes, call.masks,
                new_mask_seed() if random else None, call.checkpoint,
            )  # fmt: skip
            h_0, c_0 = (None, None) if hx is None else [h[layer * states : (layer + 1) * states] for h in hx]
            dropped = below if layer == 0 else torch.nn.functional.dropout(below, self.dropout, True)
            output, h_n, c_n = call_of_layer(dropped, h_0, c_0, weights[layer * each : (layer + 1) * each])
            below = output + below if layer > 0 and self._variant.get("residual") else output
            ends.append((h_n, c_n))
        h_n, c_n = (torch.cat(parts) for parts in zip(*ends, strict=True))
        return (below.transpose(0, 1) if batch_first else below), (h_n, c_n)

    def _run_autocast(
        self, input: Any, hx: Any, lengths: Any, reset: Any, skip: Any, checkpoint: Any
    ) -> tuple[Any, Pair]:
        """Compute in the weights' own dtype, and give the dtypes that PyTorch's own code gives under autocast."""
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        dtype = getattr(self, self._flat_weights_names[0]).dtype
        # With packed input, with no rows and with a projection PyTorch has no call of oneDNN's that converts all; its
        # single operators then convert the projected output alone.
        lowers = dtype is torch.float32 and (self.proj_size > 0 or (not packed and x.numel() > 0))
        if x.dtype not in (_CONVERTED if lowers else (dtype,)):
            return self._run_elsewhere(input, hx, lengths, reset, skip, checkpoint)
        if lowers:
            input = input.to(torch.float32)
            hx = None if hx is None else (hx[0].float(), hx[1].float())
        with torch.autocast("cpu", enabled=False):
            output, (h_n, c_n) = self._run_eagerly(input, hx, lengths, reset, skip, checkpoint)
        if not lowers:
            return output, (h_n, c_n)
        lower = torch.get_autocast_dtype("cpu")
        output = PackedSequence(output.data.to(lower), *output[1:]) if packed else output.to(lower)
        return output, (h_n.to(lower), c_n if self.proj_size > 0 else c_n.to(lower))

    def _run_compiled(
        self, x: Tensor, hx: Pair | None, lengths: Any, reset: Any, skip: Any, checkpoint: int | None
    ) -> tuple[Tensor, Pair]:
        """Put the operator into the graph that ``torch.compile`` makes of this call, which reads plain attributes."""
        weights = [getattr(self, name) for name in self._flat_weights_names]
        dtype = weights[0].dtype
        drops = self.training and self.num_layers > 1 and self.dropout > 0
        if (
            drops
            or torch.is_autocast_enabled("cpu")
            or x.device.type != "cpu"
            or x.dtype != dtype
            or dtype not in (torch.float32, torch.float64)
        ):
            return self._run_elsewhere(x, hx, lengths, reset, skip, checkpoint)
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            refuse_input(self, x, hx)
        axes = "unbatched" if x.dim() == 2 else "batch first" if self.batch_first else "steps first"
        masks = [None if mask is None else mask.to(torch.bool) for mask in (reset, skip)]
        if axes == "batch first":
            masks = [None if mask is None else mask.transpose(0, 1) for mask in masks]
        masks = [None if mask is None else mask.contiguous() for mask in masks]
        if self._graph_options is None:
            direction = "both" if self.bidirectional else "forward"
            options, random = (
                (
                    f'{{"kind": "lstm", "input_size": {self.input_size}, "hidden_size": {self.hidden_size}, '
                    f'"num_layers": {self.num_layers}, "bias": {"true" if self.bias else "false"}, '
                    f'"proj_size": {self.proj_size}, "direction": "{direction}"}}'
                ),
                False,
            )
        else:
            options, random = self._graph_options
        h_0, c_0 = (None, None) if hx is None else hx
        records = torch.is_grad_enabled()
        seed = torch.randint(2**63 - 1, ()) if self.training and random else None
        lengths = None if lengths is None else torch.as_tensor(lengths, dtype=torch.int64)
        output, h_n, c_n, _ = lstm_operator(
            x, h_0, c_0, weights, lengths, *masks, seed, options, axes, checkpoint or 0, records
        )
        return output, (h_n, c_n)

    def _run_elsewhere(
        self, input: Any, hx: Any, lengths: Any, reset: Any, skip: Any, checkpoint: Any
    ) -> tuple[Any, Pair]:
        """Leave the call to PyTorch's own code, which also refuses what is wrong with it."""
        given = {"lengths": lengths, "reset": reset, "skip": skip, "checkpoint": checkpoint}
        beyond = [name for name, value in given.items() if value is not None] + list(self._variant)
        if not beyond:
            refuse_weights(self)
            if isinstance(input, PackedSequence):
                refuse_packed(self, input, hx)
                if not input.batch_sizes.is_contiguous():
                    input = input._replace(batch_sizes=input.batch_sizes.contiguous())
            output, hidden = super().forward(input, hx)
            return output, hidden
        refuse_input(self, input, hx)
        raise NotImplementedError(
            f"{beyond[0]}: expected tensors of class torch.Tensor on a CPU, all in float32 or all in float64, at least "
            "one step, and no torch.func transform, forward-mode derivative or trace, because PyTorch's own "
            "LSTM, which takes over elsewhere, does not have it"
        )


def _refuse_for_packed(lengths: Any, reset: Any, skip: Any) -> None:
    for name, value in (("lengths", lengths), ("reset", reset), ("skip", skip)):
        if value is not None:
            raise ValueError(f"{name}: expected None for a PackedSequence, got {type(value).__name__}")


def _masks(axes: Axes, steps: int, rows: int, lengths: Any, reset: Any, skip: Any) -> Masks:
    """Read lengths and masks. ValueError or TypeError."""
    if lengths is not None and axes is UNBATCHED:
        raise ValueError("lengths: expected None for unbatched input, got lengths")
    return Masks(
        None if lengths is None else lengths_tensor(lengths, steps, rows),
        None if reset is None else mask_tensor("reset", reset, axes, steps, rows),
        None if skip is None else mask_tensor("skip", skip, axes, steps, rows),
    )
