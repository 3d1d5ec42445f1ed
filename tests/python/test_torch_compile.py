"""`latchwork.torch` within ``torch.compile``: one graph without a break, the same bits, and tapes that do not leak."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

import latchwork.torch as lt  # noqa: E402
from latchwork.torch import compiled  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch_graphs import fresh_compiler  # noqa: E402


@pytest.fixture(autouse=True)
def graphs_with_recurrent_layers() -> Iterator[None]:
    """By its default, PyTorch breaks the graph at every object of ``torch.nn.LSTM``'s class."""
    with fresh_compiler(allow_rnn=True):
        yield


def in_one_graph(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("options", [
    {}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"proj_size": 3, "bias": False},
    {"peephole": True, "learn_start_state": True},
])  # fmt: skip
def test_a_layer_gives_the_same_bits_in_a_graph(options: dict[str, Any]) -> None:
    module = lt.LSTM(5, 7, **options)
    x = torch.randn(4, 3, 5, requires_grad=True)
    reset = torch.rand(4, 3) < 0.3
    leaves = [x, *module.parameters()]

    def run(x: Any) -> Any:
        output, (h_n, c_n) = module(x, reset=reset)
        return output * 2, h_n, c_n

    found = []
    for function in (run, in_one_graph(run)):
        results = function(x)
        found.append([*results, *torch.autograd.grad(sum((part * part).sum() for part in results), leaves)])
        with torch.no_grad():
            found[-1] += function(x)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_a_loop_over_a_cell_is_one_graph() -> None:
    cell = lt.LSTMCell(5, 7)
    x, h_0, c_0 = torch.randn(3, 2, 5), torch.randn(2, 7, requires_grad=True), torch.randn(2, 7)

    def run(x: Any, h: Any, c: Any) -> Any:
        for step in x:
            h, c = cell(step, (h, c))
        return h

    leaves = [h_0, *cell.parameters()]
    gradients = [torch.autograd.grad(f(x, h_0, c_0).sum(), leaves) for f in (run, in_one_graph(run))]
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_random_masks_follow_pytorchs_generator_in_a_graph() -> None:
    module = lt.LSTM(5, 7, zoneout=(0.3, 0.3))
    x = torch.randn(4, 3, 5)
    run = in_one_graph(module)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(run(x)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_the_operator_refuses_tensors_that_the_core_cannot_read() -> None:
    module = lt.LSTM(5, 7)
    run = in_one_graph(module)
    with pytest.raises(RuntimeError, match="h_0: expected"):
        run(torch.randn(4, 3, 5), (torch.zeros(1, 2, 7), torch.zeros(1, 3, 7)))
    with pytest.raises(RuntimeError, match="reset: expected"):
        run(torch.randn(4, 3, 5), reset=torch.zeros(3, 3))


def test_a_graph_frees_its_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    record = compiled.Call.record

    def noted(self: Any, *arguments: Any) -> Any:
        outputs, token = record(self, *arguments)
        places.append((self.stack, token.data_ptr()))
        return outputs, token

    monkeypatch.setattr(compiled.Call, "record", noted)
    module = lt.LSTM(5, 7)
    loss = in_one_graph(lambda x: module(x)[0].sum())(torch.randn(4, 3, 5))
    loss.backward()
    del loss
    gc.collect()
    ((stack, place),) = places
    written = torch.empty(stack.size)
    assert not stack.network.backward_tensors(place, (0, 0, 0), (0, 0), written.data_ptr(), (0, 0, 0), (0, 0), 1)


def test_the_operator_passes_pytorchs_own_check() -> None:
    module = lt.LSTM(5, 7)
    module(torch.randn(2, 2, 5))
    options = '{"kind": "lstm", "input_size": 5, "hidden_size": 7}'
    weights = [parameter.detach().requires_grad_() for parameter in module.parameters()]
    x = torch.randn(4, 3, 5, requires_grad=True)
    arguments = (x, None, None, weights, None, None, None, None, options, "steps first", 0, True)
    torch.library.opcheck(compiled.lstm, arguments, test_utils=("test_schema", "test_faketensor"))


def functions_of_the_drop_in() -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        if name == "latchwork.torch" or name.startswith("latchwork.torch."):
            for owner in (module, *filter(inspect.isclass, vars(module).values())):
                for function in vars(owner).values():
                    function = inspect.unwrap(getattr(function, "__func__", function))
                    if inspect.isfunction(function) and function.__module__ == name:
                        yield f"{name}.{function.__qualname__}", function


def of_a_step(model: Any, x: Any) -> Any:
    loss = model(x)[0].square().sum()
    loss.backward()
    return loss.detach()


def of_a_packed_step(model: Any, x: Any) -> Any:
    loss = model(pack_padded_sequence(x, torch.tensor([4, 2, 1])))[0].data.square().sum()
    loss.backward()
    return loss.detach()


def of_a_penalty_on_a_gradient(model: Any, x: Any) -> Any:
    (gradient,) = torch.autograd.grad(model(x)[0].square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    return gradient.detach()


def of_a_batch_of_gradients(model: Any, x: Any) -> Any:
    output = model(x)[0]
    d_outputs = torch.linspace(-1, 1, 3 * output.numel()).reshape(3, *output.shape)
    (gradients,) = torch.autograd.grad(output, x, d_outputs, is_grads_batched=True)
    return gradients


def of_a_checkpointed_step(model: Any, x: Any) -> Any:
    loss = checkpoint(lambda x: model(x)[0], x, use_reentrant=False).square().sum()
    loss.backward()
    return loss.detach()


@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, about itself
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    "program",
    [of_a_step, of_a_packed_step, of_a_penalty_on_a_gradient, of_a_batch_of_gradients, of_a_checkpointed_step],
)
@pytest.mark.parametrize("allow_rnn", [False, True])  # False is PyTorch's default
def test_a_step_with_its_backward_pass_is_what_it_is_without_the_compiler(
    program: Any, backend: str, allow_rnn: bool
) -> None:
    if allow_rnn and program in (of_a_penalty_on_a_gradient, of_a_batch_of_gradients):
        pytest.skip("an operator in a graph has first derivatives only, and no batches of them")
    torch.manual_seed(3)
    model = lt.LSTM(5, 7, 2)
    x = torch.randn(4, 3, 5, requires_grad=True)
    leaves = [x, *model.parameters()]
    result = program(model, x)
    expected = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    with fresh_compiler(allow_rnn=allow_rnn):
        torch.testing.assert_close(torch.compile(program, backend=backend)(model, x), result)
        compiled_code = torch._C._dynamo.eval_frame._debug_get_cache_entry_list
        looked_at = {name for name, function in functions_of_the_drop_in() if compiled_code(function.__code__)}
    for leaf, gradient in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, gradient)
    # What a graph leaves out is not cut into graphs of its own: forward sends the rest past the compiler.
    if not allow_rnn:
        assert looked_at <= {"latchwork.torch.lstm.LSTM.forward"}


@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, about itself
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_loop_over_a_cell(reentrant: bool) -> None:
    cell = lt.LSTMCell(5, 7)
    x = torch.randn(3, 5, requires_grad=True)

    def step() -> Any:
        checkpoint(lambda x: cell(x, cell(x))[0], x, use_reentrant=reentrant).square().sum().backward()

    step()
    expected, x.grad = x.grad, None
    torch.compile(step, backend="eager")()
    torch.testing.assert_close(x.grad, expected)
