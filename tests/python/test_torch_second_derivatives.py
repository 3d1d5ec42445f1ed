"""Gradients of the drop-in that PyTorch batches or differentiates once more, and gradients that hooks have changed."""

import copy
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402
from torch_programs import DROP_IN, TORCH, agree, gradients, run, same  # noqa: E402


def randn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


# Modules, inputs and start states, by what is particular about them.
CALLS = {
    "one layer": lambda nn: (nn.LSTM(3, 4), randn(5, 2, 3), None),
    "with a state": lambda nn: (nn.LSTM(3, 4), randn(5, 2, 3), (randn(1, 2, 4), randn(1, 2, 4))),
    "two layers of both directions": lambda nn: (nn.LSTM(3, 4, 2, bidirectional=True), randn(5, 2, 3), None),
    "batch first": lambda nn: (nn.LSTM(3, 4, batch_first=True), randn(2, 5, 3), (randn(1, 2, 4), randn(1, 2, 4))),
    "unbatched": lambda nn: (nn.LSTM(3, 4), randn(5, 3), (randn(1, 4), randn(1, 4))),
    "no bias": lambda nn: (nn.LSTM(3, 4, bias=False), randn(5, 2, 3), None),
    "a projection": lambda nn: (nn.LSTM(3, 4, 2, proj_size=2), randn(5, 2, 3), (randn(2, 2, 2), randn(2, 2, 4))),
    "dropout": lambda nn: (nn.LSTM(3, 4, 2, dropout=0.5), randn(5, 2, 3), None),
    "dropout in evaluation": lambda nn: (nn.LSTM(3, 4, 2, dropout=0.5).eval(), randn(5, 2, 3), None),
    "a cell": lambda nn: (nn.LSTMCell(3, 4), randn(2, 3), (randn(2, 4), randn(2, 4))),
    "an unbatched cell": lambda nn: (nn.LSTMCell(3, 4), randn(3), None),
    "a cell without bias": lambda nn: (nn.LSTMCell(3, 4, bias=False), randn(2, 3), None),
}
calls = pytest.mark.parametrize("case", CALLS)


def made(layers, case):
    module, x, state = CALLS[case](layers)
    return module.double(), x, state


def results_of(module, x, state):
    first, second = module(x, state)
    return [first, *second] if isinstance(second, tuple) else [first, second]


@calls
def test_second_derivatives(case):
    """A penalty on the gradients of everything, and a weight that depends on the input itself."""

    def program(layers):
        module, x, state = made(layers, case)
        sources = [x, *(state or ()), *module.parameters()]
        loss = sum((result * x.sum()).square().sum() for result in results_of(module, x, state))
        first = torch.autograd.grad(loss, sources, create_graph=True)
        (sum(gradient.square().sum() for gradient in first) + loss).backward()
        return [gradient.detach() for gradient in first], gradients(module, x, *(state or ()))

    same(program, tolerance=1e-11)


def test_third_derivatives():
    def program(layers):
        module, x, _ = made(layers, "one layer")
        (first,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
        second.square().sum().backward()
        return gradients(module, x)

    same(program, tolerance=1e-11)


def test_second_derivatives_of_packed_sequences():
    def program(layers):
        lstm, x = layers.LSTM(3, 4, 2, bidirectional=True, dtype=torch.float64), randn(5, 3, 3)
        packed = pack_padded_sequence(x, torch.tensor([2, 5, 3]), enforce_sorted=False)
        output, (_, c_n) = lstm(packed)
        (first,) = torch.autograd.grad(output.data.square().sum() + c_n.sum(), x, create_graph=True)
        first.square().sum().backward()
        return gradients(lstm, x)

    same(program, tolerance=1e-11)


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_second_derivatives_in_float32(kind):
    def program(layers):
        module, x = getattr(layers, kind)(3, 4), randn(5, 3, dtype=torch.float32)
        (first,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        first.square().sum().backward()
        return gradients(module, x)

    same(program)


def test_second_derivatives_under_autocast():
    """What is computed again is computed in the module's own dtype, as the first time."""
    module, x = DROP_IN.LSTM(3, 4), randn(5, 2, 3, dtype=torch.float32)
    found = []
    for enabled in (False, True):
        (first,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(torch.autograd.grad(first.square().sum(), x)[0])
    assert torch.equal(*found)


def test_first_derivatives_are_the_same_bits_in_a_graph():
    module, x, _ = made(DROP_IN, "two layers of both directions")
    sources = [x, *module.parameters()]
    found = [
        torch.autograd.grad(module(x)[0].square().sum(), sources, create_graph=create_graph)
        for create_graph in (False, True)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_initial_values_of_ones_own_have_second_derivatives():
    module, x = DROP_IN.LSTM(3, 4, forget_bias=1.0, dtype=torch.float64), randn(5, 2, 3)
    theirs = TORCH.LSTM(3, 4, dtype=torch.float64)
    theirs.load_state_dict(module.state_dict())
    found = []
    for lstm in (module, theirs):
        (first,) = torch.autograd.grad(lstm(x)[0].square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [x, *lstm.parameters()]))
    agree(*found, tolerance=1e-11)


BEYOND = {
    "peephole": ({"peephole": True}, {}),
    "reverse": ({"reverse": True}, {}),
    "activations": ({"activations": {"cell": "relu"}}, {}),
    "lengths": ({}, {"lengths": [5, 3]}),
    "reset": ({}, {"reset": torch.zeros(5, 2, dtype=torch.bool)}),
    "skip": ({}, {"skip": torch.zeros(5, 2, dtype=torch.bool)}),
    "checkpoint": ({}, {"checkpoint": 2}),
    "zoneout": ({"zoneout": (0.5, 0.5)}, {}),
}


@pytest.mark.parametrize("case", BEYOND)
def test_second_derivatives_of_what_pytorch_lacks(case):
    """The first are there in a graph too, and the second are refused with words."""
    options, arguments = BEYOND[case]
    module, x = DROP_IN.LSTM(3, 4, dtype=torch.float64, **options).eval(), randn(5, 2, 3)
    expected = torch.autograd.grad(module(x, **arguments)[0].square().sum(), x)[0]
    (first,) = torch.autograd.grad(module(x, **arguments)[0].square().sum(), x, create_graph=True)
    assert torch.equal(first, expected)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        first.sum().backward()


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
def test_first_derivatives_of_a_cell_in_a_graph():
    module, x = DROP_IN.LSTMCell(3, 4, peephole=True), torch.randn(2, 3)
    module(x)[0].sum().backward(create_graph=True)
    expected = copy.deepcopy(module)
    for parameter in expected.parameters():
        parameter.grad = None
    expected(x)[0].sum().backward()
    for parameter, other in zip(module.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad)
        parameter.grad = None  # or the graph and the parameter keep each other alive


@calls
def test_batched_gradients(case):
    def program(layers):
        module, x, state = made(layers, case)
        results = results_of(module, x, state)
        seeds = [torch.stack([torch.ones_like(r), torch.zeros_like(r), r.detach()]) for r in results]
        return torch.autograd.grad(results, [x, *(state or ()), *module.parameters()], seeds, is_grads_batched=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        same(program)


@pytest.mark.parametrize("options", [{}, {"peephole": True}], ids=["plain", "variant"])
@pytest.mark.parametrize("how", ["is_grads_batched", "vmap", "vmap of vmap", "vectorize"])
def test_batches_of_gradients_are_those_of_one_at_a_time(how, options):
    lstm, x = DROP_IN.LSTM(3, 4, dtype=torch.float64, **options), randn(5, 2, 3)
    output = lstm(x)[0]
    seeds = torch.randn(3, 2, *output.shape, dtype=torch.float64)

    def pull(seed):
        return torch.autograd.grad(output, x, seed, retain_graph=True)[0]

    expected = torch.stack([torch.stack([pull(seed) for seed in row]) for row in seeds])
    if how == "is_grads_batched":
        given = torch.autograd.grad(output, x, seeds.flatten(0, 1), is_grads_batched=True)[0].view_as(expected)
    elif how == "vmap":
        given = torch.func.vmap(pull)(seeds.flatten(0, 1)).view_as(expected)
    elif how == "vmap of vmap":
        given = torch.func.vmap(torch.func.vmap(pull))(seeds)
    else:
        output = output.detach()
        vectorized, plain = (
            torch.autograd.functional.jacobian(lambda x: lstm(x)[0], x, vectorize=each) for each in (True, False)
        )
        assert torch.equal(vectorized, plain)
        return
    assert torch.equal(given, expected)


def test_batched_gradients_that_are_differentiated():
    """The whole matrix of second derivatives, batched."""

    def program(layers):
        lstm = layers.LSTM(2, 3, dtype=torch.float64)
        x = torch.randn(3, 2, 2, dtype=torch.float64)
        return torch.autograd.functional.hessian(lambda x: lstm(x)[0].square().sum(), x, vectorize=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        same(program, tolerance=1e-11)


def test_a_hook_that_negates_by_a_bit():
    """PyTorch gives on what a hook returns as it is."""

    def program(layers):
        lstm = layers.LSTM(3, 4, dtype=torch.float64)
        x = randn(5, 2, 3).requires_grad_()
        output, _ = lstm(x)
        output.register_hook(lambda d: torch._neg_view(d.contiguous()))
        output.sum().backward()
        return output, gradients(lstm, x)

    same(program)


def test_negative_bits():
    """A view whose elements lie in memory with the other sign, as inputs and as gradients."""

    def program(layers):
        lstm = layers.LSTM(3, 4, dtype=torch.float64)
        x, h, c = (torch._neg_view(randn(*shape).detach()) for shape in ((5, 2, 3), (1, 2, 4), (1, 2, 4)))
        assert x.is_neg()
        output, (_, c_n) = lstm(x.requires_grad_(), (h, c))
        below = torch.complex(torch.ones_like(output), output).conj()
        (below * below).real.sum().backward(retain_graph=True)
        seeds = [torch._neg_view(torch.randn_like(each)) for each in (output, c_n)]
        torch.autograd.backward([output, c_n], seeds)
        return output, c_n, gradients(lstm, x)

    same(program)


@pytest.mark.parametrize(
    "changed", [torch.zeros(5, 2, 4, dtype=torch.float64), torch.zeros(5, 1, 4)], ids=["dtype", "shape"]
)
def test_gradients_that_the_operator_is_given_are_checked(changed):
    """The operator that stands in the graphs of torch.compile can be called by anyone."""
    options = '{"kind": "lstm", "input_size": 3, "hidden_size": 4}'
    x, weights = torch.randn(5, 2, 3), list(DROP_IN.LSTM(3, 4).parameters())
    nothing = [None] * 4
    *_, token = torch.ops.latchwork.lstm(x, None, None, weights, *nothing, options, "steps first", 0, True)
    backward = torch.ops.latchwork.lstm_backward
    with pytest.raises(RuntimeError, match="gradient of output: expected torch.float32"):
        backward(token, changed, None, None, x, None, None, weights, *nothing, options, "steps first", 0, True, True)


@pytest.mark.parametrize("lengths", [[5, 0], [6, 2]], ids=str)
def test_lengths_that_the_operator_is_given_are_checked(lengths):
    options = '{"kind": "lstm", "input_size": 3, "hidden_size": 4}'
    x, weights = torch.randn(5, 2, 3), list(DROP_IN.LSTM(3, 4).parameters())
    arguments = torch.tensor(lengths), None, None, None, options, "steps first", 0, True
    with pytest.raises(RuntimeError, match="lengths: expected 1 to 5"):
        torch.ops.latchwork.lstm(x, None, None, weights, *arguments)


@pytest.mark.parametrize(
    "unpack", [torch.Tensor.bfloat16, lambda tensor: tensor.flatten()[:1], lambda tensor: tensor.to("meta")]
)
def test_saved_tensors_that_a_hook_has_changed_are_checked(unpack):
    lstm, x = DROP_IN.LSTM(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, unpack):
        output, _ = lstm(x)
    with pytest.raises(RuntimeError, match="x: expected torch.float32"):
        output.sum().backward()


def test_a_cell_does_not_read_whether_it_trains():
    """torch.nn.LSTMCell computes without that attribute."""

    def program(layers):
        cell = layers.LSTMCell(3, 4)
        del cell.training
        return cell(torch.ones(2, 3))

    assert run(program, DROP_IN).keys() == run(program, TORCH).keys()
    same(program)
