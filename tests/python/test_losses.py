"""Losses: values and gradients, weights, lengths and members, in `lw.losses` and in a trainer."""

import functools
import math
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import normal

STEPS, ROWS, FEATURES = 70, 3, 6
LENGTHS = [70, 0, 41]
OPTIONS = {
    "cross_entropy": {"label_smoothing": 0.25},
    "squared_error": {},
    "absolute_error": {},
    "huber": {"delta": 0.5},
    "quantile": {"quantiles": [0.1, 0.5, 0.9], "quantile_weights": [1.0, 0.0, 2.5]},
    "gaussian": {},
    "student_t": {},
    "negative_binomial": {},
}
PER_TARGET = {"quantile": 3, "gaussian": 2, "student_t": 3, "negative_binomial": 2}


@pytest.fixture(params=OPTIONS)
def kind(request):
    return request.param


def softplus(x):
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def log_gamma(x):
    return np.vectorize(math.lgamma)(x)


def plain_losses(kind, output, y, **options):
    """The loss of each target by itself, in float64."""
    if kind == "cross_entropy":
        log_sum = np.log(np.exp(output).sum(axis=-1))
        share = options["label_smoothing"]
        label = np.take_along_axis(output, np.clip(y, 0, output.shape[-1] - 1)[..., None], axis=-1)[..., 0]
        return log_sum - (1 - share) * label - share * output.mean(axis=-1)
    parts = np.moveaxis(output.reshape(*y.shape, -1), -1, 0)
    error = y - parts[0]
    if kind == "squared_error":
        return error**2
    if kind == "absolute_error":
        return np.abs(error)
    if kind == "huber":
        size, delta = np.abs(error), options["delta"]
        return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))
    if kind == "quantile":
        weights = np.array(options["quantile_weights"])
        losses = [w * np.maximum(q * (y - p), (q - 1) * (y - p))
                  for q, w, p in zip(options["quantiles"], weights, parts, strict=True)]  # fmt: skip
        return sum(losses) / weights.sum()
    if kind == "negative_binomial":
        mean, alpha = softplus(parts[0]) + 1e-6, softplus(parts[1]) + 1e-6
        counts = log_gamma(1 / alpha) + log_gamma(y + 1) - log_gamma(y + 1 / alpha)
        return counts + (1 / alpha + y) * np.log1p(alpha * mean) - y * np.log(alpha * mean)
    scale = softplus(parts[1]) + 1e-6
    z = error / scale
    if kind == "gaussian":
        return z**2 / 2 + np.log(scale) + np.log(2 * np.pi) / 2
    nu = 2 + softplus(parts[2])
    constants = log_gamma(nu / 2) - log_gamma(nu / 2 + 0.5) + np.log(nu * np.pi) / 2
    return constants + np.log(scale) + (nu + 1) / 2 * np.log1p(z**2 / nu)


def problem(kind, dtype="float64", members=()):
    output = normal(1, (*members, STEPS, ROWS, FEATURES), dtype)
    if kind == "cross_entropy":
        return output, np.random.RandomState(2).randint(0, FEATURES, (*members, STEPS, ROWS))
    y = normal(2, (*members, STEPS, ROWS, FEATURES // PER_TARGET.get(kind, 1)), dtype)
    return output, np.abs(np.round(4 * y)) if kind == "negative_binomial" else y


def weights_like(y, share=0.3):
    random = np.random.RandomState(5)
    return np.where(random.random_sample(y.shape) < share, 0.0, random.random_sample(y.shape))


def call(kind, *arguments, **keywords):
    return getattr(lw.losses, kind)(*arguments, **OPTIONS[kind], **keywords)


def mean_of(kind, output, y, weights):
    losses = plain_losses(kind, output.astype(np.float64), y, **OPTIONS[kind])
    return np.where(weights > 0, losses, 0).ravel() @ weights.ravel() / weights.sum()


def full_weights(y, lengths):
    valid = np.arange(STEPS)[:, None] < np.array(lengths)
    return np.broadcast_to(valid[..., None] if y.ndim == 3 else valid, y.shape).astype(np.float64)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_loss_is_the_mean_over_valid_steps(kind, batch_first, dtype):
    output, y = problem(kind, dtype)
    expected = mean_of(kind, output, y, full_weights(y, LENGTHS))
    inner, target = (np.swapaxes(part, 0, 1) if batch_first else part for part in (output, y))
    loss, d_output = call(kind, inner, target, LENGTHS, batch_first=batch_first)
    assert_close(loss, expected, 1e-6 if dtype == "float32" else 1e-13)
    assert (d_output.dtype, d_output.shape) == (output.dtype, inner.shape)
    d_output = np.swapaxes(d_output, 0, 1) if batch_first else d_output
    assert not d_output[:, 1].any()
    assert not d_output[41:, 2].any()


def test_the_gradient_is_that_of_the_loss(kind):
    output, y = problem(kind)
    weights = weights_like(y)
    _, d_output = call(kind, output, y, LENGTHS, weights)
    direction = normal(7, output.shape, "float64")
    above, below = (call(kind, output + h * direction, y, LENGTHS, weights)[0] for h in (1e-6, -1e-6))
    assert (d_output * direction).sum() == pytest.approx((above - below) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("shape", ["rows", "steps", "elements"])
def test_weights_of_rows_steps_and_elements(kind, shape):
    output, y = problem(kind)
    if shape == "elements" and kind == "cross_entropy":
        with pytest.raises(ValueError, match=r"weights: expected \(70, 3\) or \(3,\), got \(70, 3, 6\)"):
            call(kind, output, y, weights=np.ones((STEPS, ROWS, 6)))
        return
    whole = weights_like(y if shape == "elements" else y[..., 0] if y.ndim == 3 else y)
    weights = whole[0] if shape == "rows" else whole
    weights[..., :1] += 0.5  # not all zero
    full = np.broadcast_to(weights, (STEPS, ROWS)) if shape == "rows" else weights
    full = np.broadcast_to(full[..., None], y.shape) if full.ndim < y.ndim else full
    full = full * full_weights(y, LENGTHS)
    loss, d_output = call(kind, output, y, LENGTHS, weights)
    assert loss == pytest.approx(mean_of(kind, output, y, full), rel=1e-12)
    # What lies where the weight is 0 does not matter.
    spoiled = np.where(full > 0, y, 1000 if kind == "cross_entropy" else np.nan)
    assert_same_bits(call(kind, output, spoiled, LENGTHS, weights), (loss, d_output))


def test_members_have_their_own_losses(kind):
    output, y = problem(kind, members=(2,))
    weights = weights_like(y)
    losses, d_output = call(kind, output, y, LENGTHS, weights, members=2)
    for m in range(2):
        one, d_one = call(kind, output[m], y[m], LENGTHS, weights[m])
        assert losses[m] == one
        assert_same_bits(d_output[m], d_one)
    shared, _ = call(kind, output, y[1], members=2)
    assert shared[1] == call(kind, output[1], y[1])[0]


def test_after_pooling_there_are_no_lengths(kind):
    output, y = problem(kind)
    loss, d_output = call(kind, output[0], y[0])
    expected, d_expected = call(kind, output[:1], y[:1])
    assert loss == expected
    assert_same_bits(d_output, d_expected[0])
    assert call(kind, output[0], y[0], weights=[1, 0, 2])[0] == call(kind, output[:1], y[:1], weights=[[1, 0, 2]])[0]
    with pytest.raises(ValueError, match="lengths: expected None after pooling, .* got lengths"):
        call(kind, output[0], y[0], [1, 1, 1])


def test_nothing_that_counts_is_a_loss_of_zero(kind):
    output, y = problem(kind)
    for lengths, weights in (([0, 0, 0], None), (None, np.zeros(ROWS)), (LENGTHS, [0, 1, 0])):
        loss, d_output = call(kind, output, y, lengths, weights)
        assert loss == 0
        assert not d_output.any()


def test_labels_to_be_ignored_do_not_count():
    output, y = problem("cross_entropy")
    weights = (np.arange(STEPS * ROWS).reshape(STEPS, ROWS) % 3 > 0).astype(float)
    expected = lw.losses.cross_entropy(output, y, weights=weights)
    for index in (-100, 77, 2):
        labels = np.where(y == 2, 3, y)
        expected = lw.losses.cross_entropy(output, labels, weights=weights)
        ignoring = lw.losses.cross_entropy(output, np.where(weights > 0, labels, index), ignore_index=index)
        assert_same_bits(ignoring, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1, -1, 1]}, r"weights: expected finite numbers of at least 0, got -1 at step 0, row 1"),
        ({"weights": [1, np.nan, 1]}, r"weights: expected finite numbers of at least 0, got nan at step 0, row 1"),
        ({"weights": [1, 1]}, r"weights: expected \(70, 3\) or \(70, 3, 6\) or \(3,\), got \(2,\)"),
        ({"y": np.full((STEPS, ROWS, 6), np.nan)}, "y: expected finite numbers, or weights that are 0 .*, got nan"),
        ({"y": np.zeros((STEPS, ROWS, 5))}, r"y: expected \(70, 3, 6\), got \(70, 3, 5\)"),
        ({"output": np.zeros(6)}, r"output: expected \(T, N, features\) or \(N, features\), got \(6,\)"),
        ({"lengths": [71, 1, 1]}, "lengths: expected 0 to 70"),
        ({"members": 1}, "members: expected at least 2, got 1"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    output, y = problem("squared_error")
    with pytest.raises(ValueError, match=message):
        lw.losses.squared_error(**({"output": output, "y": y} | change))


def test_counts_are_not_negative():
    output, y = problem("negative_binomial")
    with pytest.raises(ValueError, match="y: expected numbers of at least 0, got -1"):
        lw.losses.negative_binomial(output, y - y.max() - 1)
    with pytest.raises(ValueError, match="loss: expected an output size that is a multiple of 2"):
        lw.losses.gaussian(np.zeros((2, 2, 3)), np.zeros((2, 2, 1)))


def test_no_thread_and_no_padding_changes_a_bit(kind):
    output, y = problem(kind, "float32")
    expected, d_expected = call(kind, output, y, LENGTHS)
    for threads in (1, 2, 3):
        lw.set_num_threads(threads)
        assert_same_bits(call(kind, output, y, LENGTHS), (expected, d_expected))
    longer = [np.concatenate([part, part]) for part in (output, y)]
    assert call(kind, *longer, LENGTHS)[0] == expected


# ---- In a trainer.


def network_of(dtype="float64", members=1, last=False, **options):
    layers = [lw.LSTM(3, 5, seed=1, dtype=dtype, **options), lw.Linear(5, FEATURES, seed=2, dtype=dtype)]
    return lw.Network([layers[0], lw.Last(), layers[1]] if last else layers, members=members)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_trainer_takes_the_same_loss(kind, batch_first):
    network, twin = network_of(batch_first=batch_first), network_of(batch_first=batch_first)
    x = normal(3, (STEPS, ROWS, 3), "float64")
    _, y = problem(kind)
    weights = weights_like(y)
    if batch_first:
        x, y, weights = (np.swapaxes(part, 0, 1) for part in (x, y, weights))
    trainer = lw.Trainer(network, kind, lw.optim.SGD(lr=0.1), **OPTIONS[kind])
    optimizer = lw.optim.SGD(twin, lr=0.1)
    for _ in range(2):
        tape = twin.record(x, lengths=LENGTHS, training=True)
        expected, d_output = call(kind, tape.output, y, LENGTHS, weights, batch_first=batch_first)
        optimizer.step(tape.backward(d_output))
        assert trainer.step(x, y, lengths=LENGTHS, weights=weights)[0] == expected
        assert_same_bits(network.state_dict(), twin.state_dict())
    assert trainer.evaluate(x, y, weights=weights)[0] == call(kind, twin(x)[0], y, None, weights, batch_first)[0]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("members", [1, 2])
def test_a_loss_of_the_users_own(members, last):
    shapes = []

    def loss(output, y, **keywords):
        shapes.append((output.shape, sorted(keywords)))
        error = output - y
        axes = tuple(range(error.ndim - (2 if last else 3), error.ndim))
        return (error**2).mean(axis=axes), 2 * error / (error.size / members)

    network, twin = (network_of(members=members, last=last, dropout=0.0, zoneout=(0.25, 0.25)) for _ in range(2))
    x, y = normal(3, (7, 4, 3), "float64"), normal(4, (4, FEATURES) if last else (7, 4, FEATURES), "float64")
    own, builtin = (
        lw.Trainer(net, chosen, lw.optim.Adam(lr=0.01), clip_norm=0.5, seed=3)
        for net, chosen in ((network, loss), (twin, "squared_error"))
    )
    for _ in range(3):
        actual, expected = own.step(x, y), builtin.step(x, y)
        assert_close(actual[0], expected[0], 1e-13)
        assert_close(own.evaluate(x, y)[0], builtin.evaluate(x, y)[0], 1e-13)
    for name, value in network.parameters.items():
        assert_close(value, twin.parameters[name], 1e-12)
    front = (members,) if members > 1 else ()
    assert set(map(str, shapes)) == {str(((*front, *y.shape), []))}
    own.step(x, y, lengths=[7, 7, 7, 7], weights=[1, 1, 1, 1])
    assert shapes[-1][1] == ["lengths", "weights"]


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda o: (o.mean(), o[1:]), ValueError, r"d_output: expected \(7, 4, 6\), got \(6, 4, 6\)"),
        (lambda o: (o, o), ValueError, r"loss: expected \(\), got \(7, 4, 6\)"),
        (lambda o: o.mean(), TypeError, r"loss: expected a function that returns \(loss, d_output\), got float"),
        (lambda o: (0.0, np.full_like(o, np.nan)), ValueError, "d_output: expected finite numbers, got nan"),
        (lambda o: (np.nan, o), RuntimeError, "loss: expected a finite number, got nan; nothing was changed"),
        (lambda o: (0.0, o.astype(str)), TypeError, "d_output: expected real numbers"),
        (lambda o: {}[0], KeyError, "0"),
    ],
)
def test_what_a_loss_of_the_users_own_returns_is_checked(result, error, message):
    network = network_of()
    before = network.state_dict()
    trainer = lw.Trainer(network, lambda output, y: result(output), lw.optim.Adam())
    with pytest.raises(error, match=message):
        trainer.step(np.zeros((7, 4, 3)), None)
    assert trainer.steps == 0
    assert_same_bits(network.state_dict(), before)


def test_a_loss_cannot_call_its_trainer():
    trainer = lw.Trainer(network_of(), lambda output, y: (trainer.steps, output), lw.optim.Adam())
    with pytest.raises(RuntimeError, match="a loss cannot call the trainer"):
        trainer.step(np.zeros((7, 4, 3)), None)


def test_the_functions_of_losses_stand_for_their_names():
    x, (_, y) = normal(3, (STEPS, ROWS, 3), "float64"), problem("huber")
    given = (
        (lw.losses.huber, {"delta": 0.25}),
        (functools.partial(lw.losses.huber, delta=0.25), {}),
        ("huber", {"delta": 0.25}),
    )
    losses = [lw.Trainer(network_of(), loss, lw.optim.Adam(), **more).step(x, y, lengths=LENGTHS)[0]
              for loss, more in given]  # fmt: skip
    assert losses[0] == losses[1] == losses[2]
    with pytest.raises(TypeError, match="unknown option 'gamma' for the loss \"huber\""):
        lw.Trainer(network_of(), "huber", lw.optim.Adam(), gamma=1)
    with pytest.raises(TypeError, match="loss: expected a callable without options, got delta"):
        lw.Trainer(network_of(), lambda output, y: None, lw.optim.Adam(), delta=1)


def test_targets_without_weight_update_nothing():
    network = network_of(members=2)
    trainer = lw.Trainer(network, "squared_error", lw.optim.AdamW(lr=0.1), seed=1)
    x, y = normal(3, (7, 4, 3), "float64"), normal(4, (7, 4, FEATURES), "float64")
    trainer.step(x, y)
    before, state = network.state_dict(), pickle.dumps(trainer.state_dict())
    loss, _ = trainer.step(x, y * np.nan, weights=np.zeros(4))
    assert_same_bits(loss, np.zeros(2))
    assert_same_bits(network.state_dict(), before)
    assert pickle.dumps(trainer.state_dict()) == state
    assert trainer.steps == 1
    # Only the second member has targets: the first stays as it is, and both are what they would be alone.
    weights = np.zeros((2, 7, 4))
    weights[1] = 1
    singles = [network.member(m) for m in range(2)]
    trainer.step(x, y, weights=weights)
    assert_same_bits(network.member(0).state_dict(), singles[0].state_dict())
    assert not np.array_equal(network.member(1).parameters["1.bias"], singles[1].parameters["1.bias"])
    assert trainer.state_dict()["steps"] == [1, 2]
    assert trainer.optimizer.state_dict()["steps"] == [1, 2]
