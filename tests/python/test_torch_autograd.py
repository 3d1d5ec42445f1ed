"""What a PyTorch program can ask of autograd, asked of torch.nn's layers and of the drop-in."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from latchwork.torch.function import Call  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch_programs import DROP_IN, TORCH, agree, gradients, refusal, run, same  # noqa: E402


def made(layers, **options):
    lstm = layers.LSTM(3, 5, num_layers=2, dtype=torch.float64, **options)
    return lstm, torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)


def accumulated(layers):
    lstm, x = made(layers)
    for _ in range(3):
        output, (_, c_n) = lstm(x)
        (output.square().sum() + c_n.sum()).backward()
    first = {name: parameter.grad.clone() for name, parameter in lstm.named_parameters()}
    lstm.zero_grad(set_to_none=False)
    lstm(x)[0].sum().backward()
    return first, gradients(lstm, x)


def retained(layers):
    lstm, x = made(layers)
    output, (h_n, _) = lstm(x)
    output.sum().backward(retain_graph=True)
    h_n.square().sum().backward(retain_graph=True)
    output.square().sum().backward()
    return gradients(lstm, x)


def twice_through_one_module(layers):
    lstm, x = made(layers)
    output, state = lstm(x)
    again, _ = lstm(x.flip(0), state)
    (output * again).sum().backward()
    return gradients(lstm, x)


def two_roots(layers):
    lstm, x = made(layers)
    one, two = lstm(x)[0], lstm(2 * x)[0]
    two.sum().backward()
    one.square().sum().backward()
    return gradients(lstm, x)


def asked_for_some(layers):
    lstm, x = made(layers)
    output, (_, c_n) = lstm(x)
    some = torch.autograd.grad(output.sum(), [x, lstm.weight_hh_l1], retain_graph=True)
    others = torch.autograd.grad([output, c_n], [lstm.bias_ih_l0, x], [torch.ones_like(output), torch.ones_like(c_n)])
    return some, others, gradients(lstm, x)


def of_h_and_c_alone(layers):
    found = []
    for which in (0, 1):
        lstm, x = made(layers)
        lstm(x)[1][which].sum().backward()
        found.append(gradients(lstm, x))
    return found


def of_a_part(layers):
    lstm, x = made(layers)
    output, _ = lstm(x)
    output[-1, 1:3, ::2].sum().backward()
    return gradients(lstm, x)


def expanded_gradient(layers):
    lstm, x = made(layers)
    output, _ = lstm(x)
    output.backward(torch.tensor(0.5, dtype=torch.float64).expand_as(output))
    return gradients(lstm, x)


def transposed_gradient(layers):
    lstm, x = made(layers, batch_first=True)
    (lstm(x)[0].transpose(0, 2) * torch.randn(5, 4, 6, dtype=torch.float64)).sum().backward()
    return gradients(lstm, x)


def hooks_of_tensors(layers):
    lstm, x = made(layers)
    seen = []
    x.register_hook(lambda gradient: seen.append(gradient.clone()))
    output, (h_n, c_n) = lstm(x)
    output.register_hook(lambda gradient: 2 * gradient)
    c_n.register_hook(lambda gradient: seen.append(gradient.clone()))
    h_n.retain_grad()
    lstm.weight_ih_l0.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    (output.sum() + c_n.square().sum() + h_n.sum()).backward()
    return seen, h_n.grad, gradients(lstm, x)


def hooks_of_modules(layers):
    lstm, x = made(layers)
    seen = []
    lstm.register_forward_pre_hook(lambda module, arguments: (2 * arguments[0], *arguments[1:]))
    lstm.register_forward_hook(lambda module, arguments, result: seen.append(result[0].detach()))
    lstm.register_forward_hook(
        lambda module, arguments, options, result: (result[0] + 1, result[1]), with_kwargs=True, always_call=True
    )
    lstm.register_full_backward_pre_hook(lambda module, d_output: seen.append(d_output))
    lstm.register_full_backward_hook(lambda module, d_input, d_output: seen.append((d_input, d_output)))
    output, _ = lstm(x)
    output.square().sum().backward()
    return seen, gradients(lstm, x)


def hooks_after_accumulation(layers):
    lstm, x = made(layers)
    order = []
    for name, parameter in lstm.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: order.append((name, p.grad.clone())))
    lstm(x)[0].square().sum().backward()
    return dict(sorted(order, key=lambda each: each[0]))


def an_optimizer_in_the_backward_pass(layers):
    """Each parameter is updated, and its gradient freed, as soon as the gradient is there."""
    lstm, x = made(layers)

    def update(parameter):
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None

    for parameter in lstm.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for _ in range(3):
        lstm(x)[0].square().sum().backward()
    return dict(lstm.named_parameters())


def truncated(layers):
    lstm, _ = made(layers)
    optimizer = torch.optim.Adam(lstm.parameters(), lr=0.01)
    state, losses = None, []
    for _ in range(4):
        output, state = lstm(torch.randn(6, 4, 3, dtype=torch.float64), state)
        state = tuple(each.detach() for each in state)
        loss = output.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, dict(lstm.named_parameters())


def without_gradients(layers):
    lstm, x = made(layers)
    with torch.no_grad():
        quiet = lstm(x)
    with torch.set_grad_enabled(False):
        quiet_too = lstm(x)
    with torch.no_grad(), torch.enable_grad():
        loud = lstm(x)
    for parameter in lstm.parameters():
        parameter.requires_grad_(False)
    return quiet, quiet_too, loud, lstm(x), lstm(x.detach())


def in_inference_mode(layers):
    lstm, x = made(layers)
    with torch.inference_mode():
        output, (h_n, c_n) = lstm(x)
    kinds = [each.is_inference() for each in (output, h_n, c_n)]
    return kinds, output.clone(), lstm(x, (h_n.clone(), c_n.clone()))


def with_inference_tensors(layers):
    """Inference tensors go in where nothing has to be kept for the backward pass."""
    lstm, _ = made(layers)
    with torch.inference_mode():
        x = torch.randn(6, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        return lstm(x)


def checkpointed(layers, reentrant):
    lstm, x = made(layers, dropout=0.5)
    output, (_, c_n) = checkpoint(lstm, x, use_reentrant=reentrant)
    (output.square().sum() + c_n.sum()).backward()
    return output, gradients(lstm, x)


def functional(layers):
    lstm, x = made(layers)
    parameters = {name: torch.randn_like(value).requires_grad_() for name, value in lstm.named_parameters()}
    output, _ = torch.func.functional_call(lstm, parameters, (x,))
    output.square().sum().backward()
    return output, {name: value.grad for name, value in parameters.items()}, gradients(lstm, x), lstm(x)


def functional_in_part(layers):
    lstm, x = made(layers)
    replaced = {"weight_hh_l1": torch.zeros_like(lstm.weight_hh_l1)}
    return torch.func.functional_call(lstm, replaced, (x,)), lstm(x)


def stateless_gradient(layers):
    lstm, x = made(layers)
    parameters = dict(lstm.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(lstm, parameters, (x,))[0].square().sum()

    return torch.autograd.grad(loss({k: v * 1.5 for k, v in parameters.items()}, x), list(parameters.values()))


def in_anomaly_mode(layers):
    lstm, x = made(layers)
    with torch.autograd.detect_anomaly(check_nan=True):
        lstm(x)[0].sum().backward()
    return gradients(lstm, x)


def saved_tensors_hooked(layers):
    lstm, x = made(layers)
    with torch.autograd.graph.save_on_cpu():
        output, _ = lstm(x)
    output.square().sum().backward()
    return gradients(lstm, x)


def the_input_alone(layers):
    lstm, x = made(layers)
    lstm.requires_grad_(False)
    lstm(x)[0].square().sum().backward()
    return gradients(lstm, x)


def half_of_the_parameters(layers):
    lstm, x = made(layers)
    for name, parameter in lstm.named_parameters():
        parameter.requires_grad_(name.endswith("l1"))
    lstm(x.detach())[0].square().sum().backward()
    return gradients(lstm, x)


def gradient_on_top_of_a_view(layers):
    """`grad` set before the backward pass: what is there is added to, in place."""
    lstm, x = made(layers)
    held = torch.ones_like(lstm.weight_ih_l0)
    lstm.weight_ih_l0.grad = held
    lstm(x)[0].sum().backward()
    return held, lstm.weight_ih_l0.grad is held


def clipped(layers):
    lstm, x = made(layers)
    lstm(x)[0].square().sum().mul(100).backward()
    return torch.nn.utils.clip_grad_norm_(lstm.parameters(), 1.0), gradients(lstm)


def nonfinite(layers, value):
    lstm, x = made(layers, bidirectional=True)
    with torch.no_grad():
        x[3, 1, 0] = value
    output, state = lstm(x)
    output[:, 0].sum().backward(retain_graph=True)
    first = gradients(lstm)
    output.sum().backward()
    return output.isnan(), state, first[0]["weight_ih_l0"].isnan(), x.grad[:, 0]


def dropped(layers, training):
    lstm, x = made(layers, dropout=0.4)
    lstm.train(training)
    return [lstm(x)[0] for _ in range(3)]


def dropped_when_the_rate_is_changed(layers):
    lstm, x = made(layers, dropout=0.4)
    found = [lstm(x)[0]]
    lstm.dropout = 0.0
    found.append(lstm(x)[0])
    lstm.dropout = 1.0
    found.append(lstm(x)[0])
    return found


def packed_twice(layers):
    lstm, x = made(layers, bidirectional=True)
    packed = pack_padded_sequence(x, torch.tensor([2, 6, 1, 5]), enforce_sorted=False)
    output, state = lstm(packed)
    again, _ = lstm(output._replace(data=output.data[:, :3]), state)
    again.data.square().sum().backward()
    return output, again, gradients(lstm, x)


PROGRAMS = [
    accumulated, retained, twice_through_one_module, two_roots, asked_for_some, of_h_and_c_alone, of_a_part,
    expanded_gradient, transposed_gradient, hooks_of_tensors, hooks_of_modules, hooks_after_accumulation,
    an_optimizer_in_the_backward_pass, truncated, without_gradients, in_inference_mode, with_inference_tensors,
    functional, functional_in_part, stateless_gradient, saved_tensors_hooked, the_input_alone, half_of_the_parameters,
    gradient_on_top_of_a_view, clipped, dropped_when_the_rate_is_changed, packed_twice,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program(program):
    same(program)


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
def test_anomaly_mode():
    same(in_anomaly_mode)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:.*autocast.*is deprecated:FutureWarning")  # PyTorch 2.4 warns of its own code
def test_checkpointing(reentrant):
    same(checkpointed, reentrant)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite(value):
    same(nonfinite, value)


@pytest.mark.parametrize("training", [True, False])
def test_dropout(training):
    same(dropped, training)


def test_a_second_backward_pass_without_retaining():
    def program(layers):
        lstm, x = made(layers)
        output, _ = lstm(x)
        output.sum().backward()
        return type(refusal(output.sum().backward)), gradients(lstm, x)

    same(program)


@pytest.mark.parametrize("what", ["weight_hh_l0", "x", "output"])
def test_a_write_between_forward_and_backward(what):
    """The gradient would be wrong, or, where nothing needs the old numbers, right: never silently wrong."""

    def program(layers):
        lstm, x = made(layers)
        held = x.clone()
        output, _ = lstm(held)
        with torch.no_grad():
            {"weight_hh_l0": lstm.weight_hh_l0, "x": held, "output": output}[what].mul_(3)
        try:
            output.sum().backward()
        except RuntimeError:
            return None
        return gradients(lstm, x)

    expected, given = run(program, TORCH)["result"], run(program, DROP_IN)["result"]
    if given is not None and expected is not None:
        agree(given, expected)
    elif given is not None:  # torch refuses because it needs the old numbers; the drop-in keeps its own copy of them
        agree(given, run(lambda layers: unwritten(layers, what), TORCH)["result"])


def unwritten(layers, what):
    lstm, x = made(layers)
    output, _ = lstm(x.clone())
    (3 * output if what == "output" else output).sum().backward()
    return gradients(lstm, x)


def test_results_are_not_reused():
    lstm, x = made(DROP_IN)
    first, (h_n, c_n) = lstm(x)
    kept = [each.clone() for each in (first, h_n, c_n)]
    lstm(2 * x)[0].sum().backward()
    agree([first, h_n, c_n], kept)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [((), 0), (("weight_hh_l1",), 1), (("bias_ih_l0", "weight_ih_l0"), 1)],
    ids=["the input alone", "one weight", "two"],
)
def test_weights_that_need_no_gradient_cost_no_sum_over_the_steps(monkeypatch, wanted, numbers):
    sizes = []
    compute = Call.gradients

    def watched(*arguments):
        found = compute(*arguments)
        sizes.append(found[-1].numel())
        return found

    monkeypatch.setattr(Call, "gradients", watched)

    def program(layers):
        lstm, x = made(layers)
        for name, parameter in lstm.named_parameters():
            parameter.requires_grad_(name in wanted)
        lstm(x)[0].square().sum().backward()
        return gradients(lstm, x)

    same(program)
    assert sizes == [numbers * sum(parameter.numel() for parameter in made(DROP_IN)[0].parameters())]
