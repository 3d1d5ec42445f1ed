"""Losses, RMSprop and schedules against PyTorch's."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close
from layers import normal


@pytest.fixture(scope="module")
def torch(torch_peer):
    return torch_peer.torch


def answer(torch, function, output):
    """The loss and its gradient by autograd."""
    leaf = torch.tensor(output, requires_grad=True)
    loss = function(leaf)
    loss.backward()
    return loss.item(), leaf.grad.numpy()


def check(actual, expected):
    assert_close(actual[0], expected[0], 1e-12)
    assert_close(actual[1], expected[1], 1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignore", [-100, 2, 9])
def test_cross_entropy(torch, smoothing, ignore):
    output = 3 * normal(1, (7, 4, 5), "float64")
    labels = np.random.RandomState(1).randint(0, 5, (7, 4))
    labels[labels == 1] = ignore
    function = torch.nn.functional.cross_entropy
    expected = answer(
        torch,
        lambda leaf: function(leaf.flatten(0, 1), torch.tensor(labels).flatten(), ignore_index=ignore,
                              label_smoothing=smoothing),
        output,
    )  # fmt: skip
    check(lw.losses.cross_entropy(output, labels, label_smoothing=smoothing, ignore_index=ignore), expected)


def test_weights(torch):
    output, labels = normal(1, (7, 4, 5), "float64"), np.random.RandomState(1).randint(0, 5, (7, 4))
    weights = np.random.RandomState(2).random_sample((7, 4)) * (labels != 3)
    function = torch.nn.functional.cross_entropy

    def weighted(leaf):
        each = function(leaf.flatten(0, 1), torch.tensor(labels).flatten(), reduction="none")
        return (each * torch.tensor(weights).flatten()).sum() / weights.sum()

    check(lw.losses.cross_entropy(output, labels, weights=weights), answer(torch, weighted, output))
    y = normal(2, (7, 4, 5), "float64")
    weights = np.random.RandomState(2).random_sample((7, 4, 5))
    expected = answer(
        torch, lambda leaf: torch.nn.functional.mse_loss(leaf, torch.tensor(y), weight=torch.tensor(weights)), output
    )
    check(lw.losses.squared_error(output, y, weights=weights), expected)


@pytest.mark.parametrize(
    ("ours", "name", "options"),
    [
        ("squared_error", "mse_loss", {}),
        ("absolute_error", "l1_loss", {}),
        ("huber", "huber_loss", {}),
        ("huber", "huber_loss", {"delta": 0.3}),
    ],
)
def test_errors(torch, ours, name, options):
    output, y = normal(1, (7, 4, 5), "float64"), normal(2, (7, 4, 5), "float64")
    function = getattr(torch.nn.functional, name)
    expected = answer(torch, lambda leaf: function(leaf, torch.tensor(y), **options), output)
    check(getattr(lw.losses, ours)(output, y, **options), expected)


def test_likelihoods(torch):
    softplus = torch.nn.functional.softplus
    distributions = torch.distributions
    y = normal(2, (7, 4, 2), "float64")
    counts = np.abs(np.round(5 * y))

    def gaussian(leaf):
        return distributions.Normal(leaf[..., ::2], softplus(leaf[..., 1::2]) + 1e-6)

    def student_t(leaf):
        return distributions.StudentT(2 + softplus(leaf[..., 2::3]), leaf[..., ::3], softplus(leaf[..., 1::3]) + 1e-6)

    def negative_binomial(leaf):
        mean, alpha = softplus(leaf[..., ::2]) + 1e-6, softplus(leaf[..., 1::2]) + 1e-6
        return distributions.NegativeBinomial(1 / alpha, logits=torch.log(alpha * mean))

    for function, features, target in ((gaussian, 4, y), (student_t, 6, y), (negative_binomial, 4, counts)):
        output = normal(1, (7, 4, features), "float64")
        expected = answer(torch, lambda leaf, of=function, t=target: -of(leaf).log_prob(torch.tensor(t)).mean(), output)
        check(getattr(lw.losses, function.__name__)(output, target), expected)


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"centered": True}, {"centered": True, "momentum": 0.5, "weight_decay": 0.1}]
)
def test_rmsprop(torch, options):
    linear = lw.Network([lw.LSTM(3, 4, seed=1, dtype="float64")])
    optimizer = lw.optim.RMSprop(linear, lr=0.02, alpha=0.9, **options)
    parameters = [torch.nn.Parameter(torch.tensor(np.array(value))) for value in linear.parameters.values()]
    peer = torch.optim.RMSprop(parameters, lr=0.02, alpha=0.9, **options)
    for step in range(5):
        gradients = linear.record(normal(step, (5, 2, 3), "float64")).backward(normal(9, (5, 2, 4), "float64"))
        for parameter, gradient in zip(parameters, gradients.parameters.values(), strict=True):
            parameter.grad = torch.tensor(np.array(gradient))
        peer.step()
        optimizer.step(gradients)
    for parameter, value in zip(parameters, linear.parameters.values(), strict=True):
        assert_close(value, parameter.detach().numpy(), 1e-13)


def rates(torch, make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(optimizer)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def test_schedules(torch):
    schedules, peers = lw.optim.schedules, torch.optim.lr_scheduler
    cases = [
        (schedules.Step(0.5, 7, 0.25), lambda o: peers.StepLR(o, 7, 0.25), 30),
        (schedules.Cosine(0.5, 20, 0.01), lambda o: peers.CosineAnnealingLR(o, 20, 0.01), 21),
        (schedules.OneCycle(0.5, 40), lambda o: peers.OneCycleLR(o, 0.5, 40, cycle_momentum=False), 40),
        (
            schedules.OneCycle(0.5, 41, rising=0.2, initial_factor=0.1, final_factor=0.1 / 50),
            lambda o: peers.OneCycleLR(o, 0.5, 41, None, None, 0.2, cycle_momentum=False, div_factor=10,
                                       final_div_factor=50),
            41,
        ),
    ]  # fmt: skip
    for schedule, make, steps in cases:
        np.testing.assert_allclose([schedule(step) for step in range(steps)], rates(torch, make, steps), rtol=1e-12)


def test_reduce_on_plateau(torch):
    options = {"factor": 0.5, "patience": 2, "threshold": 0.01, "cooldown": 3, "min_lr": 0.02}
    schedule = lw.optim.schedules.ReduceOnPlateau(0.5, **options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    random = np.random.RandomState(3)
    for step in range(80):
        loss = 1 / (1 + step // 6) + 0.1 * random.random_sample()
        schedule.report(loss)
        peer.step(loss)
        assert schedule(step) == optimizer.param_groups[0]["lr"]
    assert schedule(0) == 0.02
