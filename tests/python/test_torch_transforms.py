"""What turns a PyTorch program into another: torch.func, autocast, compilation, TorchScript, devices, dtypes."""

import shutil
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch_bfloat16 import NEEDS_BFLOAT16, RUNS_IN_BFLOAT16  # noqa: E402
from torch_graphs import fresh_compiler  # noqa: E402
from torch_programs import DROP_IN, TORCH, agree, gradients, refusal, run, same  # noqa: E402


def made(layers, **options):
    return layers.LSTM(3, 5, dtype=torch.float64, **options), torch.randn(6, 4, 3, dtype=torch.float64)


def loss_of(lstm):
    def loss(parameters, x):
        return torch.func.functional_call(lstm, parameters, (x,))[0].square().sum()

    return loss


def func_grad(layers):
    lstm, x = made(layers)
    return torch.func.grad(loss_of(lstm))({name: value.detach() for name, value in lstm.named_parameters()}, x)


def func_vjp(layers):
    lstm, x = made(layers)
    output, pull = torch.func.vjp(lambda x: lstm(x)[0], x)
    return output.detach(), pull(torch.ones_like(output))[0].detach()


def func_vmap(layers):
    lstm, x = made(layers)
    with torch.no_grad():
        return torch.func.vmap(lambda row: lstm(row)[0], in_dims=1, out_dims=1)(x)


def func_per_sample_gradients(layers):
    lstm, x = made(layers)
    gradient = torch.func.grad(loss_of(lstm))
    parameters = {name: value.detach() for name, value in lstm.named_parameters()}
    return torch.func.vmap(gradient, in_dims=(None, 1))(parameters, x)


def func_jacrev(layers):
    lstm, x = made(layers)
    return torch.func.jacrev(lambda x: lstm(x)[0][-1, 0])(x[:, :1]).detach()


def func_jacfwd(layers):
    lstm, x = made(layers)
    return torch.func.jacfwd(lambda x: lstm(x)[0][-1, 0])(x[:, :1]).detach()


def jacobian(layers):
    lstm, x = made(layers)
    return torch.autograd.functional.jacobian(lambda x: lstm(x)[0][-1, 0], x[:, :1])


def batched_gradients(layers):
    lstm, x = made(layers)
    output = lstm(x.requires_grad_())[0]
    seeds = torch.stack([torch.ones_like(output), torch.zeros_like(output), output.detach()])
    return torch.autograd.grad(output, [x, lstm.weight_hh_l0], seeds, is_grads_batched=True)


def second_derivatives(layers):
    lstm, x = made(layers)
    x.requires_grad_()
    (first,) = torch.autograd.grad(lstm(x)[0].square().sum(), x, create_graph=True)
    first.square().sum().backward()
    return x.grad, gradients(lstm)


def gradient_penalty(layers):
    cell = layers.LSTMCell(3, 4, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(cell(x)[0].sum(), x, create_graph=True)
    (first.norm() - 1).square().backward()
    return gradients(cell, x)


def forward_mode(layers):
    lstm, x = made(layers)
    with torch.autograd.forward_ad.dual_level():
        output, _ = lstm(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
        return torch.autograd.forward_ad.unpack_dual(output).tangent.detach()


TRANSFORMS = [
    func_grad, func_vjp, func_vmap, func_per_sample_gradients, func_jacrev, func_jacfwd, jacobian, batched_gradients,
    second_derivatives, gradient_penalty, forward_mode,
]  # fmt: skip


@pytest.mark.parametrize("program", TRANSFORMS, ids=lambda program: program.__name__)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_a_transform_does_the_same_or_refuses(program):
    """What the drop-in cannot do it refuses, in words of PyTorch's or its own; it never gives other numbers."""
    try:
        expected = run(program, TORCH)
    except Exception:
        refusal(run, program, DROP_IN)
        return
    try:
        given = run(program, DROP_IN)
    except (RuntimeError, NotImplementedError) as error:
        assert len(str(error)) > 20  # noqa: PT017 - a refusal is one of two good ends
        return
    agree(given, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("enabled", [True, False])
def test_autocast(enabled, dtype):
    """Under autocast torch computes in bfloat16; the drop-in may compute better, but returns the same dtypes."""
    if enabled and dtype is torch.float32 and not RUNS_IN_BFLOAT16:
        pytest.skip(NEEDS_BFLOAT16)

    def program(layers):
        lstm = layers.LSTM(3, 5, dtype=dtype)
        x = torch.randn(6, 4, 3, dtype=dtype, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output, state = lstm(x)
        output.float().square().sum().backward()
        return output, state, gradients(lstm, x)

    same(program, tolerance=2e-2 if enabled else None)


def in_autocast(layers):
    """A model as it is written for mixed precision: the LSTM's input comes in bfloat16 from the layer before."""
    lower, lstm, upper = torch.nn.Linear(3, 4), layers.LSTM(4, 5, 2), torch.nn.Linear(5, 2)
    x = torch.randn(6, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = lstm(lower(x))
        y = upper(output)
    y.float().square().sum().backward()
    return y, [each.dtype for each in (output, *state)], gradients(lower), gradients(lstm)


def test_a_model_in_autocast():
    same(in_autocast, tolerance=5e-2)


def cell_in_autocast(layers):
    cell, x = layers.LSTMCell(3, 4), torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        state = cell(x, cell(x))
    (state[0].float().sum() + state[1].float().sum()).backward()
    return state, gradients(cell)


def test_a_cell_in_autocast():
    same(cell_in_autocast, tolerance=2e-2)


def on_the_meta_device(layers):
    lstm = layers.LSTM(3, 5, 2, bidirectional=True, device="meta")
    with torch.device("meta"):
        other, x = layers.LSTM(3, 5), torch.randn(6, 4, 3)
    return lstm(x), other(x), [parameter.device.type for parameter in other.parameters()]


def made_real(layers):
    lstm = layers.LSTM(3, 5, device="meta").to_empty(device="cpu")
    for parameter in lstm.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    return lstm(torch.ones(2, 3))


def without_initial_values(layers):
    cell = torch.nn.utils.skip_init(layers.LSTMCell, 3, 5, dtype=torch.float64)
    for parameter in cell.parameters():
        torch.nn.init.uniform_(parameter)
    return cell(torch.ones(2, 3, dtype=torch.float64)), repr(cell)


def cell_on_the_meta_device(layers):
    return layers.LSTMCell(3, 5, device="meta")(torch.randn(4, 3, device="meta"))


@pytest.mark.parametrize(
    "program",
    [on_the_meta_device, made_real, without_initial_values, cell_on_the_meta_device],
    ids=lambda program: program.__name__,
)
def test_a_device(program):
    same(program)


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    def program(layers):
        with FakeTensorMode():
            lstm = layers.LSTM(3, 5)
            output, state = lstm(torch.randn(6, 4, 3))
        return [(each.shape, each.dtype) for each in (output, *state)]

    assert run(program, DROP_IN)["result"] == run(program, TORCH)["result"]


def test_the_default_dtype():
    def program(layers):
        lstm, cell = layers.LSTM(3, 5), layers.LSTMCell(3, 5)
        return lstm(torch.ones(2, 3)), cell(torch.ones(3)), [parameter.dtype for parameter in lstm.parameters()]

    torch.set_default_dtype(torch.float64)
    try:
        same(program)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_device():
    def program(layers):
        return layers.LSTM(3, 5)(torch.ones(2, 3))

    torch.set_default_device("meta")
    try:
        expected, given = program(TORCH), program(DROP_IN)
    finally:
        torch.set_default_device(None)
    agree(given, expected)


class Named(torch.Tensor):
    """A subclass that does nothing else than to be one."""


def subclassed(layers):
    lstm, x = made(layers)
    output, _ = lstm(x.as_subclass(Named))
    return type(output).__name__, output.as_subclass(torch.Tensor)


def parameters_as_inputs(layers):
    lstm, x = made(layers)
    x, h_0 = torch.nn.Parameter(x), torch.nn.Parameter(torch.ones(1, 4, 5, dtype=torch.float64))
    output, _ = lstm(x, (h_0, torch.zeros_like(h_0)))
    output.square().sum().backward()
    return output, gradients(lstm, x, h_0)


@pytest.mark.parametrize("program", [subclassed, parameters_as_inputs], ids=lambda program: program.__name__)
def test_other_tensors(program):
    same(program)


def traced(layers):
    lstm, x = made(layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.trace(lstm, x)
    return module(x + 1), lstm(x + 1)


def scripted(layers):
    lstm, x = made(layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(lstm)
    return module(x + 1), lstm(x + 1)


@pytest.mark.parametrize("program", [traced, scripted], ids=lambda program: program.__name__)
def test_torchscript_does_the_same_or_refuses(program):
    try:
        given = run(program, DROP_IN)
    except Exception as error:
        assert str(error)  # noqa: PT017 - a refusal is one of two good ends
        return
    agree(given, run(program, TORCH))


class Tagger(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.table = torch.nn.Embedding(11, 4)
        self.lstm = layers.LSTM(4, 5, 2, bidirectional=True)
        self.head = torch.nn.Linear(10, 3)

    def forward(self, tokens):
        output, (h_n, _) = self.lstm(self.table(tokens))
        return self.head(output) + h_n.sum()


def trained(layers, prepare):
    """What a model gives, in training and without gradients, after it was prepared to run in some way."""
    model = Tagger(layers)
    fast = prepare(model)
    found = []
    for steps, rows in ((6, 4), (6, 4), (7, 3)):
        model.zero_grad()
        y = fast(torch.randint(11, (steps, rows)))
        y.square().mean().backward()
        found.append((y, gradients(model)))
    with torch.no_grad():
        found.append(fast(torch.randint(11, (6, 4))))
    return found


BACKENDS = ["eager", "aot_eager", "inductor"]


@pytest.fixture
def compile_with():
    """torch.compile by some backend, with nothing left in it of what was compiled before."""

    def prepare(backend, **options):
        if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
            pytest.skip("this backend of torch.compile needs a C++ compiler")
        return lambda model: torch.compile(model, backend=backend, **options)

    with fresh_compiler():
        yield prepare


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore")
def test_compiled(compile_with, backend):
    """By default torch.compile leaves an LSTM out of its graphs and runs it as it is."""
    agree(run(trained, DROP_IN, compile_with(backend)), run(trained, TORCH, lambda model: model))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "dynamic"), [("eager", None), ("aot_eager", None), ("aot_eager", True), ("inductor", None)]
)
@pytest.mark.filterwarnings("ignore")
def test_compiled_into_one_graph(compile_with, backend, dynamic):
    if not hasattr(torch._dynamo.config, "allow_rnn"):
        pytest.skip("this version of PyTorch takes no LSTM into a graph")
    with torch._dynamo.config.patch(allow_rnn=True):
        given = run(trained, DROP_IN, compile_with(backend, fullgraph=True, dynamic=dynamic))
    agree(given, run(trained, TORCH, lambda model: model))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_exported():
    def program(layers):
        model, tokens = Tagger(layers).eval(), torch.randint(11, (6, 4))
        return torch.export.export(model, (tokens,)).module()(tokens).detach(), model(tokens).detach()

    given = run(program, DROP_IN)["result"]
    agree(given[0], given[1])
