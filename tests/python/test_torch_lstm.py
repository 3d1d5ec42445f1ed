"""`latchwork.torch.LSTM` and `LSTMCell` in the place of PyTorch's: numbers, gradients, copies, reading of weights."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import latchwork as lw
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

import latchwork.torch as lt  # noqa: E402
from latchwork.torch import variant  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402
from torch_bfloat16 import NEEDS_BFLOAT16, RUNS_IN_BFLOAT16  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch's threads spin while they wait, which takes long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def pair(*args: Any, **options: Any) -> tuple[Any, Any]:
    """PyTorch's layer and Latchwork's, built from the same seed."""
    modules = []
    for kind in (torch.nn.LSTM, lt.LSTM):
        torch.manual_seed(0)
        modules.append(kind(*args, **options))
    return modules[0], modules[1]


def assert_close(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    scale = float(expected.detach().abs().max()) if expected.numel() else 1.0
    difference = float((actual - expected).detach().abs().max()) if expected.numel() else 0.0
    assert difference <= TOLERANCE[expected.dtype] * max(scale, 1e-3)


def results(module: Any, x: Any, hx: Any, *, packed: Any = None) -> list[Any]:
    """The output, the end state and all gradients of a call, with dropout drawn from one seed."""
    x = x.clone().requires_grad_()
    state = None if hx is None else tuple(part.clone().requires_grad_() for part in hx)
    first = module.batch_first
    given = x if packed is None else pack_padded_sequence(x, packed, batch_first=first, enforce_sorted=False)
    torch.manual_seed(1)
    output, (h_n, c_n) = module(given, state)
    if packed is not None:
        output = pad_packed_sequence(output, batch_first=first)[0]
    module.zero_grad()
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    ((output * weight).sum() + (h_n * h_n).sum() + c_n.sum()).backward()
    gradients = [x.grad, *(p.grad for p in module.parameters())]
    return [output, h_n, c_n, *gradients, *(() if state is None else (part.grad for part in state))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [
    {}, {"batch_first": True}, {"bias": False}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3},
    {"num_layers": 3, "dropout": 0.4}, {"num_layers": 2, "dropout": 0.4, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "dropout": 1.0}, {"num_layers": 2, "proj_size": 2, "bidirectional": True},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["batch", "start state", "unbatched", "packed"])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_it_gives_what_pytorch_gives(dtype: Any, options: dict[str, Any], kind: str) -> None:
    theirs, ours = pair(5, 7, dtype=dtype, **options)
    assert [(name, p.shape) for name, p in ours.named_parameters()] == [
        (name, p.shape) for name, p in theirs.named_parameters()
    ]
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    unbatched = kind == "unbatched"
    shape = (6, 5) if unbatched else (4, 6, 5) if options.get("batch_first") else (6, 4, 5)
    x = torch.randn(shape, dtype=dtype)
    states = theirs.num_layers * (2 if theirs.bidirectional else 1)
    batch = () if unbatched else (4,)
    hx = (
        torch.randn(states, *batch, theirs.proj_size or 7, dtype=dtype),
        torch.randn(states, *batch, 7, dtype=dtype),
    )
    lengths = torch.tensor([3, 6, 1, 4]) if kind == "packed" else None
    given = None if kind == "batch" else hx
    for mode in (True, False):
        theirs.train(mode)
        ours.train(mode)
        expected, actual = (results(module, x, given, packed=lengths) for module in (theirs, ours))
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other)
        assert actual[0].stride() == expected[0].stride()
    with torch.no_grad():
        assert_close(ours(x, given)[0], theirs(x, given)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [None, 1, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_in_a_loop_gives_what_pytorchs_gives(dtype: Any, rows: int | None, bias: bool) -> None:
    batch = () if rows is None else (rows,)
    x = torch.randn(4, *batch, 5, dtype=dtype)
    found = []
    for kind in (torch.nn.LSTMCell, lt.LSTMCell):
        torch.manual_seed(0)
        cell = kind(5, 7, bias=bias, dtype=dtype)
        leaf = x.clone().requires_grad_()
        state = None
        for step in leaf:
            state = cell(step, state)
        (state[0].sum() + (state[1] ** 2).sum()).backward()
        found.append([*state, leaf.grad, *(p.grad for p in cell.parameters())])
    for one, other in zip(found[1], found[0], strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("options", [
    {"peephole": True, "layer_norm": True, "forget_gate": "coupled", "learn_start_state": True},
    {"num_layers": 2, "residual": True, "forget_gate": False}, {"reverse": True, "clip": 0.5},
    {"num_layers": 2, "bidirectional": True, "merge": "mul", "cell_clip": 0.3}, {"activations": {"cell": "relu"}},
])  # fmt: skip
def test_variants_lengths_and_masks_are_those_of_the_layer_bit_for_bit(options: dict[str, Any]) -> None:
    module, layer = lt.LSTM(5, 7, **options), lw.LSTM(5, 7, **options)
    layer.load_state_dict(module.state_dict())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4, 5)).astype(np.float32)
    reset, skip = rng.random((6, 4)) < 0.3, rng.random((6, 4)) < 0.3
    lengths = [6, 5, 3, 1]
    leaf = torch.from_numpy(x).requires_grad_()
    output, (h_n, c_n) = module(leaf, lengths=lengths, reset=torch.from_numpy(reset), skip=torch.from_numpy(skip))
    (output.sum() + c_n.sum()).backward()
    tape = layer.record(x, None, lengths, reset, training=False, skip=skip)
    gradients = tape.backward(np.ones_like(tape.output), (np.zeros_like(tape.state[0]), np.ones_like(tape.state[1])))
    np.testing.assert_array_equal(output.detach().numpy(), tape.output)
    np.testing.assert_array_equal(h_n.detach().numpy(), tape.state[0])
    np.testing.assert_array_equal(leaf.grad.numpy(), gradients.x)
    for name, parameter in module.named_parameters():
        np.testing.assert_array_equal(parameter.grad.numpy(), gradients.parameters[name], err_msg=name)


def test_a_write_through_data_is_seen() -> None:
    module = lt.LSTM(5, 7)
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        before = module(x)[0]
        version = module.weight_hh_l0._version
        module.weight_hh_l0.data.mul_(2)
        assert module.weight_hh_l0._version == version
        fresh = lt.LSTM(5, 7)
        fresh.load_state_dict(module.state_dict())
        assert not torch.equal(module(x)[0], before)
        assert torch.equal(module(x)[0], fresh(x)[0])


def test_weights_are_packed_again_only_after_a_byte_has_changed() -> None:
    module = lt.LSTM(5, 7)
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        module(x)
        network = module._stack.network
        version = network.version
        module(x)
        module.weight_ih_l0.mul_(1)
        module(x)
        assert network.version == version
        module.bias_hh_l0[3] += 1
        module(x)
        assert network.version == version + 1


def test_threads_that_swap_weights_each_get_their_own() -> None:
    module = lt.LSTM(6, 40)
    x = torch.randn(5, 3, 6)
    sets = [{name: p.detach() * scale for name, p in module.named_parameters()} for scale in (1, 2, 3, 4)]
    stack = module._stack_for(x)
    call = lt.function.Call(stack, lt.function.STEPS_FIRST, 5, 3)

    def run(weights: dict[str, Any]) -> Any:
        with torch.no_grad():
            return call(x, None, None, list(weights.values()))[0]

    expected = [run(weights) for weights in sets]
    wrong = []

    def work(which: int) -> None:
        for _ in range(200):
            if not torch.equal(run(sets[which]), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_tape_lasts_as_long_as_the_graph_needs_it() -> None:
    module = lt.LSTM(5, 7)
    loss = module(torch.randn(3, 2, 5))[0].sum()
    place = loss.grad_fn.next_functions[0][0].saved_tensors[0].data_ptr()
    backward = module._stack.network.backward_tensors
    written = torch.empty(module._stack.size)
    none = ((0, 0, 0), (0, 0), written.data_ptr(), (0, 0, 0), (0, 0), 1)
    assert backward(place, *none)
    loss.backward(retain_graph=True)
    assert backward(place, *none)
    loss.backward()
    gc.collect()
    assert not backward(place, *none)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_tape_that_is_gone_is_recorded_again() -> None:
    module = lt.LSTM(5, 7, zoneout=(0.2, 0.2))
    x = torch.randn(3, 2, 5)
    parameters = list(module.parameters())
    torch.manual_seed(0)
    expected = torch.autograd.grad(module(x)[0].sum(), parameters)
    torch.manual_seed(0)
    with torch.autograd.graph.save_on_cpu():
        loss = module(x)[0].sum()
    for one, other in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_by_pytorch_and_by_steps_changes_no_bit(reentrant: bool) -> None:
    module = lt.LSTM(5, 7, 2, bidirectional=True)
    x = torch.randn(9, 2, 5, requires_grad=True)

    def gradients(loss: Any) -> list[Any]:
        module.zero_grad()
        loss.sum().backward()
        return [parameter.grad.clone() for parameter in module.parameters()]

    expected = gradients(module(x)[0])
    found = gradients(torch.utils.checkpoint.checkpoint(lambda x: module(x)[0], x, use_reentrant=reentrant))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    found = gradients(module(x, checkpoint=3)[0])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_output_may_be_changed_in_place_before_backward_and_weights_may_not() -> None:
    module = lt.LSTM(5, 7)
    x = torch.randn(3, 2, 5)
    changed = module(x)[0].relu_()
    changed.sum().backward()
    found = module.weight_ih_l0.grad.clone()
    module.zero_grad()
    module(x)[0].relu().sum().backward()
    assert torch.equal(found, module.weight_ih_l0.grad)
    loss = module(x)[0].sum()
    with torch.no_grad():
        module.weight_ih_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_are_computed_where_they_are_needed() -> None:
    module = lt.LSTM(5, 7)
    module.weight_hh_l0.requires_grad_(False)
    x = torch.randn(3, 2, 5)
    module(x)[0].sum().backward()
    assert module.weight_hh_l0.grad is None
    assert module.weight_ih_l0.grad is not None
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    assert not module(x)[0].requires_grad
    leaf = x.clone().requires_grad_()
    module(leaf)[0].sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("kind", [lt.LSTM, lt.LSTMCell])
def test_copies_and_files_hold_the_weights_and_no_network(kind: Any) -> None:
    module = kind(5, 7, peephole=True)
    x = torch.randn(2, 5)
    with torch.no_grad():
        expected = module(x)[0]
        for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert "_stack" not in vars(made)
            assert torch.equal(made(x)[0], expected)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = kind(5, 7, peephole=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(other(x)[0], expected)


def test_variants_draw_their_initial_values_from_pytorchs_generator() -> None:
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(lt.LSTM(5, 7, layer_norm=True, forget_bias=1.0))
    first, same, other = (module.weight_hh_l0 for module in made)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(made[0].bias_ih_l0[7:14], torch.ones(7))
    with pytest.raises(TypeError, match="unexpected keyword argument 'peepholes'"):
        lt.LSTM(5, 7, peepholes=True)
    with pytest.raises(ValueError, match="merge"):
        lt.LSTM(5, 7, merge="sum")


def test_a_call_uses_no_more_threads_than_pytorch_may() -> None:
    program = """
import os, torch
import latchwork as lw
import latchwork.torch as lt
lw.set_num_threads(4)
module, x = lt.LSTM(64, 128), torch.ones(20, 64, 64)
torch.set_num_threads(1)
before = len(os.listdir("/proc/self/task"))
one = module(x)[0]
one.sum().backward()
assert len(os.listdir("/proc/self/task")) == before
assert lw.get_num_threads() == 4
torch.set_num_threads(2)
assert torch.equal(module(x)[0], one)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("options", [{}, {"proj_size": 3}, {"dtype": torch.float64}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", ["batch", "packed", "no rows"])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_autocast_gives_the_dtypes_that_pytorch_gives(options: dict[str, Any], kind: str) -> None:
    dtype = options.get("dtype", torch.float32)
    if kind == "batch" and dtype is torch.float32 and "proj_size" not in options and not RUNS_IN_BFLOAT16:
        pytest.skip(NEEDS_BFLOAT16)
    modules = pair(5, 7, **options)
    x: Any = torch.randn(4, 0 if kind == "no rows" else 3, 5, dtype=dtype)
    if kind == "packed":
        x = pack_padded_sequence(x, torch.tensor([4, 2, 1]))
    found = []
    for module in modules:
        with torch.autocast("cpu", torch.bfloat16):
            output, (h_n, c_n) = module(x)
        found.append([output.data if kind == "packed" else output, h_n, c_n])
    for theirs, ours in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.allclose(ours, theirs, atol=0.05)
    if kind == "batch" and dtype is torch.float32:
        with torch.autocast("cpu", torch.bfloat16):
            lowered = modules[1](x.bfloat16())[0]
            lowered.float().sum().backward()
        assert torch.equal(lowered, modules[1](x.bfloat16().float())[0].bfloat16())
        assert modules[1].weight_ih_l0.grad.dtype == torch.float32
    cells = torch.nn.LSTMCell(5, 7), lt.LSTMCell(5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (cell(torch.randn(2, 5)) for cell in cells)
    assert [part.dtype for part in ours] == [part.dtype for part in theirs]


def test_the_typed_options_are_those_of_the_layers() -> None:
    for core, typed, shared in (
        (lw.LSTM, variant.LayerOptions, lt.lstm._SHARED),
        (lw.LSTMCell, variant.LSTMCellOptions, lt.lstm_cell._SHARED),
    ):
        assert set(typed.__annotations__) == set(variant.default_options(core, shared))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"lengths": [5, 0]}, ValueError, "lengths: expected 1 to 5"),
        ({"lengths": [5, 6]}, ValueError, "lengths"),
        ({"lengths": [5]}, ValueError, "lengths"),
        ({"lengths": [1.5, 2.0]}, TypeError, "lengths"),
        ({"reset": torch.zeros(2, 5)}, ValueError, "reset"),
        ({"reset": torch.full((5, 2), 0.5)}, ValueError, "reset"),
        ({"skip": torch.zeros(5)}, ValueError, "skip"),
        ({"checkpoint": 0}, ValueError, "checkpoint"),
        ({"checkpoint": 1.5}, TypeError, "checkpoint"),
    ],
)
def test_what_pytorch_does_not_have_is_checked(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    lstm = lt.LSTM(3, 4)
    with pytest.raises(kind, match=message):
        lstm(torch.zeros(5, 2, 3), **given)
    name, value = next(iter(given.items()))
    if name != "checkpoint":
        packed = pack_padded_sequence(torch.zeros(5, 2, 3), torch.tensor([5, 2]))
        with pytest.raises(ValueError, match=f"{name}: expected None for a PackedSequence"):
            lstm(packed, **{name: value})
    if name == "lengths":
        with pytest.raises(ValueError, match="lengths: expected None for unbatched input"):
            lstm(torch.zeros(5, 3), lengths=value)
