"""`latchwork.torch` within ``torch.compile``: one graph without a break, the same bits, and tapes that do not leak."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

import latchwork.torch as lt  # noqa: E402
from latchwork.torch import compiled  # noqa: E402


@pytest.fixture(autouse=True)
def graphs_with_recurrent_layers() -> Iterator[None]:
    """By its default, PyTorch breaks the graph at every object of ``torch.nn.LSTM``'s class."""
    with torch._dynamo.config.patch(allow_rnn=True):
        yield
    torch._dynamo.reset()


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
