"""Programs that use an LSTM, run on torch.nn's and on the drop-in. Imported only where PyTorch is installed."""

import warnings
from types import SimpleNamespace

import latchwork.torch
import pytest
import torch

torch.set_num_threads(1)

TORCH = SimpleNamespace(LSTM=torch.nn.LSTM, LSTMCell=torch.nn.LSTMCell)
DROP_IN = SimpleNamespace(LSTM=latchwork.torch.LSTM, LSTMCell=latchwork.torch.LSTMCell)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def run(program, layers, *arguments, seed=0):
    """What a program gives with some layers, and a draw from the generator after it."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")  # which code computes it is no matter
        result = program(layers, *arguments)
    return {"result": result, "the generator's next number": torch.rand(1)}


def same(program, *arguments, seed=0, tolerance=None):
    """See that a program gives the same with the drop-in as with torch.nn, and leaves the generator in the same state.

    The program is called with a namespace that has LSTM and LSTMCell, and returns tensors, or anything that can be
    compared, in dictionaries, lists and tuples. Tensors agree within `tolerance` times the largest magnitude in them,
    by default 1e-5 in float32 and 1e-12 in float64.
    """
    expected = run(program, TORCH, *arguments, seed=seed)
    agree(run(program, DROP_IN, *arguments, seed=seed), expected, tolerance)


def agree(ours, theirs, tolerance=None, where=""):
    """See that two results are of the same structure, types, shapes and dtypes, and their numbers close."""
    if isinstance(theirs, torch.Tensor):
        agree_tensors(ours, theirs, tolerance, where)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key, value in theirs.items():
            agree(ours[key], value, tolerance, f"{where}[{key!r}]")
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs), f"{where}: {type(ours)}, expected {type(theirs)}"
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            agree(ours[index], value, tolerance, f"{where}[{index}]")
    else:
        assert ours == theirs, f"{where}: {ours!r}, expected {theirs!r}"


def agree_tensors(ours, theirs, tolerance, where):
    assert type(ours) is type(theirs), f"{where}: {type(ours)}, expected {type(theirs)}"
    for fact in ("shape", "dtype", "device", "requires_grad", "is_leaf"):
        assert getattr(ours, fact) == getattr(theirs, fact), f"{where}: {fact}"
    if theirs.is_meta or theirs.numel() == 0:
        return
    ours, theirs = ours.detach(), theirs.detach()
    if not theirs.is_floating_point():
        assert torch.equal(ours, theirs), where
        return
    if tolerance is None:
        tolerance = TOLERANCE[theirs.dtype]
    finite = theirs.isfinite()
    torch.testing.assert_close(
        ours[~finite], theirs[~finite], rtol=0, atol=0, equal_nan=True, msg=lambda m: f"{where}: {m}"
    )
    ours, theirs = ours[finite], theirs[finite]
    if theirs.numel():
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale, msg=lambda m: f"{where}: {m}")


def gradients(module, *tensors):
    """The gradients of a module's parameters by name, then those of tensors."""
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    return found, [tensor.grad for tensor in tensors]


def refusal(call, *arguments, **options):
    """The class of the error that a call ends with, and its words."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which class it is, is the question
        call(*arguments, **options)
    return caught.value
