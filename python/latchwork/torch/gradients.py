"""The gradients of a call as a function of their own, which PyTorch can batch and differentiate once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latchwork import _core

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork.torch.function import Call

Tensors = tuple[Tensor, ...]
# The options that decide what PyTorch's own layers compute.
_PYTORCHS = ("kind", "input_size", "hidden_size", "num_layers", "bias", "direction", "proj_size", "cell")
# The options that change no result of a layer: initial values, and dropout between layers, which PyTorch itself does.
_OF_NO_RESULT = ("init", "forget_bias", "t_max", "dropout")


class Gradients(torch.autograd.Function):
    """The gradients of x, h_0 and c_0, those that are wanted, and those of all weights in one tensor.

    The arguments are the call, whether each of x, h_0, c_0 and the weights needs a gradient, the token of the tape, and
    then tensors: the gradients of the results, x, h_0, c_0 and the weights.
    """

    @staticmethod
    def forward(call: Call, wanted: Sequence[bool], token: Tensor, *tensors: Tensor | None) -> Tensors:
        """Let the core compute them."""
        d_outputs, (x, h_0, c_0, *weights) = _parts(call, tensors)
        *of_inputs, flat = call.gradients(token, d_outputs, wanted, x, h_0, c_0, weights)
        return *(gradient for gradient in of_inputs if gradient is not None), flat

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        """Keep what the second derivatives depend on."""
        ctx.call, ctx.wanted, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *dd: Tensor | None) -> tuple[Tensor | None, ...]:
        """Compute the call again by PyTorch's own code, which can be differentiated any number of times."""
        call: Call = ctx.call
        _refuse_second_derivatives(call)
        wanted = ctx.wanted
        *dd_inputs, dd_flat = dd
        given = iter(dd_inputs)
        of_each = [next(given) if want else None for want in wanted[:3]]
        of_each += call.stack.pieces(dd_flat) if dd_flat is not None and any(wanted[3:]) else [None] * len(wanted[3:])
        higher = torch.is_grad_enabled()
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            # Aliases, because the gradients of the results may themselves depend on the inputs: that path is not to be
            # counted here.
            tensors = [None if tensor is None else tensor.view_as(tensor) for tensor in ctx.saved_tensors]
            d_outputs, inputs = _parts(call, tensors)
            results = [
                (result, d)
                for result, d in zip(_by_pytorch(call, *inputs), d_outputs, strict=True)
                if d is not None and result.requires_grad
            ]
            asked = [(tensor, d) for tensor, want, d in zip(inputs, wanted, of_each, strict=True) if want]
            first = torch.autograd.grad(
                [result for result, _ in results],
                [tensor for tensor, _ in asked],
                [d for _, d in results],
                create_graph=True,
                allow_unused=True,
            )
            pairs = [
                (gradient, d)
                for gradient, (_, d) in zip(first, asked, strict=True)
                if gradient is not None and gradient.requires_grad and d is not None
            ]
            needed = ctx.needs_input_grad[3:]
            second = torch.autograd.grad(
                [gradient for gradient, _ in pairs],
                [tensor for tensor, need in zip(tensors, needed, strict=True) if need],
                [d for _, d in pairs],
                create_graph=higher,
                allow_unused=True,
            )
        found = iter(second)
        return None, None, None, *(next(found) if need else None for need in needed)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], call: Call, wanted: Sequence[bool], token: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensors, tuple[int, ...]]:
        """Compute those of a batch of gradients of the results one by one."""
        each = []
        for index in range(info.batch_size):
            slices = [
                tensor if tensor is None or dim is None else tensor.select(dim, index)
                for tensor, dim in zip(tensors, in_dims[3:], strict=True)
            ]
            each.append(Gradients.apply(call, wanted, token, *slices))
        stacked = tuple(torch.stack(parts) for parts in zip(*each, strict=True))
        return stacked, (0,) * len(stacked)


def looked_into(d_outputs: Sequence[Tensor | None], tensors: Sequence[Tensor | None]) -> bool:
    """Say whether PyTorch batches or differentiates what is computed from these gradients and saved tensors."""
    if torch._C._are_functorch_transforms_active() or any(d is not None and _is_batch(d) for d in d_outputs):
        return True
    return torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (*d_outputs, *tensors)
    )


def visible_gradients(
    call: Call, wanted: Sequence[bool], token: Tensor, d_outputs: Sequence[Tensor | None], tensors: Sequence[Any]
) -> Tensors:
    """Compute `Gradients` so that PyTorch can batch and differentiate them. ``tensors`` are x, h_0, c_0 and weights."""
    if not any(d is not None and _is_batch(d) for d in d_outputs):
        gradients: Tensors = Gradients.apply(call, wanted, token, *d_outputs, *tensors)
        return gradients
    # torch.autograd.grad(is_grads_batched=True) has batches of a kind that functions of autograd do not take apart.
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    wholes = [torch._remove_batch_dim(d, level, 1, 0) if d is not None and _is_batch(d) else None for d in d_outputs]
    size = max(len(whole) for whole in wholes if whole is not None)
    each = []
    for index in range(size):
        slices = [d if whole is None else whole[index] for d, whole in zip(d_outputs, wholes, strict=True)]
        each.append(visible_gradients(call, wanted, token, slices, tensors))
    return tuple(torch._add_batch_dim(torch.stack(parts), 0, level) for parts in zip(*each, strict=True))


def _is_batch(tensor: Tensor) -> bool:
    return bool(torch._C._functorch.is_legacy_batchedtensor(tensor))


def checked_gradients(
    call: Call, d_outputs: Sequence[Tensor | None], x: Tensor, h_0: Tensor | None, c_0: Tensor | None
) -> list[Tensor | None]:
    """Give the gradients of the results as the core can read them.

    RuntimeError if they do not fit the call, or if x, h_0 and c_0 do not: PyTorch checks neither the arguments of an
    operator that is called directly nor what a hook of saved tensors gives back.
    """
    stack, sizes = call.stack, call.batch_shape
    states = () if not call.wants_output else (stack.states,)
    rows = sizes if not call.wants_output else call.rows_shape
    state_shapes = ((*states, *rows, stack.hidden_size), (*states, *rows, stack.cell_size))
    _refuse_others("x", x, stack.dtype, (*sizes, stack.input_size))
    for name, state, shape in zip(("h_0", "c_0"), (h_0, c_0), state_shapes, strict=True):
        if state is not None:
            _refuse_others(name, state, stack.dtype, shape)
    shapes = ((*sizes, stack.output_size), *state_shapes) if call.wants_output else state_shapes
    names = ("output", "h_n", "c_n")[-len(shapes) :]
    checked: list[Tensor | None] = []
    for name, d, shape in zip(names, d_outputs, shapes, strict=True):
        if d is not None:
            _refuse_others(f"gradient of {name}", d, stack.dtype, shape)
            d = d.resolve_neg()
        checked.append(d)
    return checked


def _refuse_others(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype is dtype and tensor.shape == shape and tensor.is_cpu and tensor.layout is torch.strided:
        return
    got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}, {tensor.layout}"
    raise RuntimeError(f"{name}: expected {dtype} {shape} on cpu, {torch.strided}, got {got}")


def _parts(call: Call, tensors: Sequence[Any]) -> tuple[Sequence[Tensor | None], Sequence[Any]]:
    """Split into the gradients of the results and the inputs."""
    results = 3 if call.wants_output else 2
    return tensors[:results], tensors[results:]


def _refuse_second_derivatives(call: Call) -> None:
    if call.masks is not None and any(mask is not None for mask in call.masks):
        beyond = "lengths, reset or skip"
    elif call.checkpoint:
        beyond = "checkpoint"
    elif not _has_pytorchs_results(call.stack.options):
        beyond = "a variant of the cell or of the layer"
    else:
        return
    raise RuntimeError(
        "latchwork.torch computes first derivatives only, except of calls that torch.nn.LSTM and LSTMCell have too; "
        f"this is a derivative of one of a call with {beyond}"
    )


def _has_pytorchs_results(options: Mapping[str, Any]) -> bool:
    if options["direction"] not in ("forward", "both"):
        return False
    plain = _core.checked_module({name: options[name] for name in _PYTORCHS})
    kept = [{name: value for name, value in each.items() if name not in _OF_NO_RESULT} for each in (options, plain)]
    return kept[0] == kept[1]


def _by_pytorch(call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor) -> Tensors:
    """Compute the results of a call by PyTorch's own code."""
    stack, options = call.stack, call.stack.options
    rows = call.rows_shape
    layers = (stack.states,) if call.wants_output else ()
    if h_0 is None or c_0 is None:
        h_0, c_0 = (x.new_zeros((*layers, *rows, size)) for size in (stack.hidden_size, stack.cell_size))
    row_axis = len(layers)
    if not rows:
        x, h_0, c_0 = x.unsqueeze(row_axis), h_0.unsqueeze(row_axis), c_0.unsqueeze(row_axis)
    if not call.wants_output:
        results = torch._VF.lstm_cell(x, (h_0, c_0), *weights)
    else:
        numbers = (options["bias"], options["num_layers"], 0.0, True, options["direction"] == "both")
        if call.batch_sizes is not None:
            results = torch._VF.lstm(x, call.batch_sizes, (h_0, c_0), list(weights), *numbers)
        else:
            results = torch._VF.lstm(x, (h_0, c_0), list(weights), *numbers, call.axes.step == 1)
    return tuple(results) if rows else tuple(result.squeeze(row_axis) for result in results)
