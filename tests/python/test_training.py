"""Trainer, optimisers and losses: training is PyTorch's."""

import inspect

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import load, normal, random_lstm
from training_cases import CASES, STEPS

OPTIMIZERS = {"adam": lw.optim.Adam, "adamw": lw.optim.AdamW, "sgd": lw.optim.SGD, "rmsprop": lw.optim.RMSprop}
BY_NAME = {case.name: case for case in CASES}


def network_of(case, dtype="float64", parameters=None):
    modules = [lw.Embedding(case.vocabulary, case.input_size, dtype=dtype)] if case.vocabulary else []
    modules.append(
        lw.LSTM(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            bidirectional=case.bidirectional,
            proj_size=case.proj_size,
            dtype=dtype,
        )
    )
    modules += [lw.Last()] if case.last else []
    modules.append(lw.Linear(case.lstm_output_size, case.output_size, activation=case.activation, dtype=dtype))
    return load(lw.Network(modules), case.parameters() if parameters is None else parameters)


def trainer_of(case, network, seed=None):
    return lw.Trainer(
        network,
        loss=case.loss,
        optimizer=OPTIMIZERS[case.optimizer](**case.optimizer_options),
        clip_norm=case.clip_norm or None,
        seed=seed,
        **({"quantiles": case.quantiles} if case.quantiles else {}),
    )


def train(case, steps=STEPS, dtype="float64"):
    """The loss before each update."""
    trainer = trainer_of(case, network_of(case, dtype))
    losses, state = [], None
    for step in range(steps):
        x, target, lengths = case.batch(step)
        loss, end = trainer.step(x, target, state, lengths=lengths)
        losses.append(loss)
        state = end if case.carried else None
    return np.array(losses)


def train_by_hand(case, steps=STEPS):
    """The same losses by record, backward, clip_grad_norm and an optimiser, with the squared error written out."""
    network = network_of(case)
    optimizer = OPTIMIZERS[case.optimizer](network, **case.optimizer_options)
    losses = []
    for step in range(steps):
        x, target, lengths = case.batch(step)
        tape = network.record(x, lengths=lengths)
        error = tape.output - target
        if lengths is not None and not case.last:
            error[np.arange(len(error))[:, None] >= lengths] = 0
            count = lengths.sum() * error.shape[-1]
        else:
            count = error.size
        gradients = tape.backward(2 * error / count)
        if case.clip_norm:
            lw.optim.clip_grad_norm(gradients, case.clip_norm)
        optimizer.step(gradients)
        losses.append((error**2).sum() / count)
    return np.array(losses)


@pytest.mark.parametrize("name", BY_NAME)
def test_losses_equal_golden(golden, name):
    assert_close(train(BY_NAME[name]), golden("training")[name], 1e-6)


@pytest.mark.parametrize(
    "name",
    # The golden files hold the same answers, so one live run is enough without --slow.
    [CASES[0].name, *(pytest.param(case.name, marks=pytest.mark.slow) for case in CASES[1:])],
)
def test_losses_equal_live_torch(torch_peer, name):
    assert_close(train(BY_NAME[name]), torch_peer.train(BY_NAME[name], STEPS), 1e-6)


@pytest.mark.parametrize("name", ["adam with clipping", "adam with clipping, language", "quantiles"])
def test_float32_follows_float64(golden, name):
    assert_close(train(BY_NAME[name], 50, "float32"), golden("training")[name][:50], 1e-4)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.loss == "squared_error"])
def test_losses_by_hand_equal_golden(golden, name):
    assert_close(train_by_hand(BY_NAME[name]), golden("training")[name], 1e-6)


def test_a_bare_lstm_can_be_trained():
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64")
    trainer = lw.Trainer(lstm, loss="squared_error", optimizer=lw.optim.Adam(lr=0.01))
    x, y = normal(1, (9, 4, 3), "float64"), 0.3 * np.tanh(normal(2, (9, 4, 5), "float64"))
    losses = [trainer.step(x, y)[0] for _ in range(100)]
    assert losses[-1] < 0.7 * losses[0]
    assert trainer.steps == 100
    assert trainer.network is lstm


def expected_loss(kind, output, target, valid, quantiles=None):
    output, target = output[valid], target[valid]
    if kind == "cross_entropy":
        shifted = output - output.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=-1))
        return float(np.mean(log_sum - np.take_along_axis(shifted, target[..., None], axis=-1)[..., 0]))
    if kind == "quantile":
        error = target[..., None] - output.reshape(*output.shape[:-1], -1, len(quantiles))
        return float(np.mean(np.maximum(np.array(quantiles) * error, (np.array(quantiles) - 1) * error)))
    error = output - target
    return float(np.mean(error**2 if kind == "squared_error" else np.abs(error)))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 1]])
@pytest.mark.parametrize("kind", ["cross_entropy", "squared_error", "absolute_error", "quantile"])
def test_losses_are_means_over_valid_elements(kind, lengths, batch_first):
    quantiles = (0.1, 0.5, 0.8) if kind == "quantile" else None
    options = {"quantiles": quantiles} if quantiles else {}
    lstm = random_lstm(input_size=3, hidden_size=6, dtype="float64", batch_first=batch_first)
    random = np.random.RandomState(3)
    x = normal(1, (6, 4, 3), "float64")
    target = (
        random.randint(0, 6, (6, 4)) if kind == "cross_entropy" else normal(2, (6, 4, 2 if quantiles else 6), "float64")
    )
    valid = np.ones((6, 4), bool) if lengths is None else np.arange(6)[:, None] < np.array(lengths)
    if batch_first:
        x, target, valid = (np.swapaxes(part, 0, 1) for part in (x, target, valid))
    trainer = lw.Trainer(lstm, loss=kind, optimizer=lw.optim.SGD(lr=0.0), **options)
    expected = expected_loss(kind, lstm(x)[0], target, valid, quantiles)
    target = np.where(valid[..., None], target, np.nan) if kind != "cross_entropy" else np.where(valid, target, 0)
    evaluated, state = trainer.evaluate(x, target, lengths=lengths)
    assert_close(evaluated, expected, 1e-13)
    loss, end = trainer.step(x, target, lengths=lengths)
    assert_close(loss, expected, 1e-13)
    assert_same_bits(end, state)
    assert_same_bits(end, lstm(x, lengths=lengths)[1])


def test_cross_entropy_of_huge_logits_is_finite():
    linear = lw.Linear(5, 3, dtype="float64", seed=1)
    network = lw.Network([random_lstm(input_size=3, hidden_size=5, dtype="float64"), linear])
    linear.parameters["bias"] = [1e4, 0.0, -1e4]
    linear.parameters["weight"] = np.zeros((3, 5))
    trainer = lw.Trainer(network, loss="cross_entropy", optimizer=lw.optim.SGD(lr=0.0))
    for label, expected in ((0, 0.0), (1, 1e4), (2, 2e4)):
        loss, _ = trainer.step(np.zeros((4, 2, 3)), np.full((4, 2), label))
        assert loss == expected


def small(dtype="float32", **options):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, dtype=dtype, **options)
    return lw.Network([lstm, lw.Linear(5, 2, dtype=dtype, seed=1)])


def trainer_for(network, **options):
    return lw.Trainer(network, **({"loss": "squared_error", "optimizer": lw.optim.Adam(lr=0.01)} | options))


def batch():
    return normal(1, (6, 4, 3)), normal(2, (6, 4, 2))


def test_evaluating_changes_nothing_and_drops_nothing():
    network = small(dropout=0.5)
    before = network.state_dict()
    trainer = trainer_for(network, seed=1)
    first, _ = trainer.evaluate(*batch())
    second, _ = trainer.evaluate(*batch())
    assert first == second == pytest.approx(float(np.mean((network(batch()[0])[0] - batch()[1]) ** 2)), rel=1e-5)
    assert trainer.steps == 0
    assert_same_bits(network.state_dict(), before)


def test_training_drops_by_its_seed_and_step():
    def losses(seed, lr=0.0):
        trainer = trainer_for(small(dropout=0.5), optimizer=lw.optim.SGD(lr=lr), seed=seed)
        return [trainer.step(*batch())[0] for _ in range(4)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert len(set(losses(1))) == 4


def test_the_learning_rate_may_be_changed():
    network = small()
    trainer = trainer_for(network, optimizer=lw.optim.SGD(lr=0.5))
    assert trainer.lr == 0.5
    trainer.lr = 0.0
    before = network.state_dict()
    trainer.step(*batch())
    assert_same_bits(network.state_dict(), before)
    trainer.lr = 0.25
    assert trainer.lr == 0.25
    trainer.step(*batch())
    assert not np.array_equal(network.state_dict()["1.bias"], before["1.bias"])
    for value, error in ((-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("0.1", TypeError)):
        with pytest.raises(error, match="lr.*expected.*got"):
            trainer.lr = value
    assert trainer.lr == 0.25


def test_a_loss_that_is_not_finite_changes_nothing():
    network = small("float64")
    trainer = trainer_for(network)
    trainer.step(*batch())
    good = network.state_dict()
    network.load_state_dict(good | {"1.weight": np.full((2, 5), 1e200)})
    before = network.state_dict()
    with pytest.raises(RuntimeError, match="finite"):
        trainer.step(*batch())
    assert_same_bits(network.state_dict(), before)
    assert trainer.steps == 1
    network.load_state_dict(good)
    other = small("float64")
    other_trainer = trainer_for(other)
    assert [trainer.step(*batch())[0]] == [other_trainer.step(*batch())[0] for _ in range(2)][1:]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("laid_out", ["in one piece", "rows apart"])
def test_training_data_that_is_not_finite_is_refused(name, value, laid_out):
    network = small()
    trainer, before = trainer_for(network), network.state_dict()
    data = dict(zip(("x", "y"), batch(), strict=True))
    if laid_out == "rows apart":
        data = {key: np.repeat(part, 2, axis=1)[:, ::2] for key, part in data.items()}
    data[name][4, 1, 1] = value
    for call in (trainer.step, trainer.evaluate):
        with pytest.raises(ValueError, match=f"{name}.*expected.*got"):
            call(**data)
        with pytest.raises(ValueError, match=f"{name}.*expected.*got"):
            call(**data, lengths=[6, 5, 6, 6])
    assert_same_bits(network.state_dict(), before)
    assert trainer.steps == 0
    trainer.step(**data, lengths=[6, 4, 6, 6])  # it lies in padding now
    for part in network.state_dict().values():
        assert np.isfinite(part).all()


LABELS = np.zeros((6, 4), int)
WRONG_TARGETS = [
    ("squared_error", np.zeros((6, 4, 3)), ValueError),
    ("squared_error", np.zeros((6, 4)), ValueError),
    ("squared_error", np.zeros((4, 6, 2)), ValueError),
    ("squared_error", np.zeros((6, 4, 2), complex), TypeError),
    ("squared_error", None, TypeError),
    ("squared_error", "target", TypeError),
    ("cross_entropy", np.zeros((6, 4)), TypeError),
    ("cross_entropy", np.zeros((6, 4, 1), int), ValueError),
    ("cross_entropy", np.zeros((6, 3), int), ValueError),
    ("cross_entropy", LABELS - 1, ValueError),
    ("cross_entropy", LABELS + 2, ValueError),
    ("cross_entropy", LABELS + 2**62, ValueError),
    ("cross_entropy", None, TypeError),
]


@pytest.mark.parametrize(("loss", "target", "error"), WRONG_TARGETS)
def test_wrong_targets_are_refused(loss, target, error):
    network = small()
    trainer, before = trainer_for(network, loss=loss), network.state_dict()
    for call in (trainer.step, trainer.evaluate):
        with pytest.raises(error, match=r"\b(y|labels?|target)\b.*expected.*got"):
            call(batch()[0], target)
    assert_same_bits(network.state_dict(), before)
    assert trainer.steps == 0


@pytest.mark.parametrize(
    ("options", "named", "error"),
    [
        ({"loss": "hinge"}, "loss", ValueError),
        ({"loss": None}, "loss", TypeError),
        ({"loss": "quantile"}, "quantiles", ValueError),
        ({"loss": "quantile", "quantiles": ()}, "quantiles", ValueError),
        ({"loss": "quantile", "quantiles": (0.1, 0.5, 0.9)}, "quantiles", ValueError),
        ({"loss": "quantile", "quantiles": (0.1, 1.5)}, "quantiles", ValueError),
        ({"loss": "quantile", "quantiles": (0.1, float("nan"))}, "quantiles", ValueError),
        ({"loss": "quantile", "quantiles": ("a", "b")}, "quantiles", TypeError),
        ({"loss": "quantile", "quantiles": 0.5}, "quantiles", TypeError),
        ({"quantiles": (0.1, 0.9)}, "quantiles", ValueError),
        ({"optimizer": "adam"}, "optimizer", TypeError),
        ({"optimizer": lw.optim.Adam}, "optimizer", TypeError),
        ({"optimizer": None}, "optimizer", TypeError),
        ({"clip_norm": -1.0}, "clip_norm", ValueError),
        ({"clip_norm": float("nan")}, "clip_norm", ValueError),
        ({"clip_norm": "1"}, "clip_norm", TypeError),
        ({"seed": -1}, "seed", ValueError),
        ({"seed": 0.5}, "seed", TypeError),
    ],
)
def test_wrong_options_of_a_trainer_are_refused(options, named, error):
    with pytest.raises(error, match=f"{named}.*expected.*got"):
        trainer_for(small(), **options)


def test_what_is_trained_must_be_a_network():
    for wrong in (None, lw.LSTM, lw.LSTMCell(2, 3), "network"):
        with pytest.raises(TypeError, match="network.*expected.*got"):
            trainer_for(wrong)


NUMBERS = [
    (-0.1, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    ("1", TypeError),
    (None, TypeError),
]
WRONG_OPTIONS = {
    "sgd": {
        "lr": NUMBERS,
        "momentum": NUMBERS,
        "weight_decay": NUMBERS,
        "dampening": NUMBERS[1:],
        "nesterov": [(True, ValueError)],
    },
    "adam": {"lr": NUMBERS, "eps": NUMBERS, "weight_decay": NUMBERS},
    "adamw": {"lr": NUMBERS, "eps": NUMBERS, "weight_decay": NUMBERS},
    "rmsprop": {
        "lr": NUMBERS,
        "eps": NUMBERS,
        "weight_decay": NUMBERS,
        "momentum": NUMBERS,
        "alpha": [*NUMBERS, (1.0, ValueError)],
        "centered": [(1, TypeError)],
    },
}
for _kind in ("adam", "adamw"):
    WRONG_OPTIONS[_kind]["betas"] = [
        ((0.9,), ValueError),
        ((0.9, 1.0), ValueError),
        ((-0.1, 0.9), ValueError),
        ((float("nan"), 0.9), ValueError),
        (0.9, TypeError),
        (("a", "b"), TypeError),
    ]


def test_optimisers_have_pytorchs_defaults():
    adam = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    sgd = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
    rmsprop = {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False}
    expected = {
        "sgd": sgd,
        "adam": adam | {"weight_decay": 0.0},
        "adamw": adam | {"weight_decay": 0.01},
        "rmsprop": rmsprop,
    }
    for kind, options in expected.items():
        signature = inspect.signature(OPTIMIZERS[kind])
        assert {name: signature.parameters[name].default for name in options} == options


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_wrong_options_of_optimisers_are_refused(kind):
    for name, values in WRONG_OPTIONS[kind].items():
        for value, error in values:
            with pytest.raises(error, match=f"{name}.*expected.*got"):
                OPTIMIZERS[kind](**{name: value})


def gradients_of(module, seed=1):
    tape = module.record(normal(seed, (6, 4, 3), module.dtype))
    return tape.backward(normal(seed + 1, tape.output.shape, module.dtype))


def test_optimisers_take_their_modules_gradients_only():
    network, other = small(), small("float64")
    optimizer, before = lw.optim.Adam(network), network.state_dict()
    with pytest.raises(TypeError, match="grads.*expected.*got"):
        optimizer.step({})
    with pytest.raises(ValueError, match="grads.*expected.*got"):
        optimizer.step(gradients_of(other))
    with pytest.raises(ValueError, match="grads.*expected.*got"):
        optimizer.step(gradients_of(network[0]))
    with pytest.raises(TypeError, match="expected.*got"):
        lw.optim.Adam(3)
    assert_same_bits(network.state_dict(), before)
    assert optimizer.steps == 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimiser_continues_where_it_was_saved(kind, dtype):
    options = {"momentum": 0.9} if kind == "sgd" else {}
    network, copy = small(dtype), small(dtype)
    optimizer = OPTIMIZERS[kind](network, lr=0.03, **options)
    for seed in range(3):
        optimizer.step(gradients_of(network, seed))
    copy.load_state_dict(network.state_dict())
    continued = OPTIMIZERS[kind](copy)
    continued.load_state_dict(optimizer.state_dict())
    assert (continued.lr, continued.steps) == (0.03, 3)
    for seed in range(3):
        optimizer.step(gradients_of(network, seed))
        continued.step(gradients_of(copy, seed))
    assert_same_bits(copy.state_dict(), network.state_dict())


def test_clipping_scales_all_gradients_together():
    network = small("float64")
    gradients = gradients_of(network)
    before = {name: np.array(value) for name, value in gradients.parameters.items()}
    norm = np.sqrt(sum((value**2).sum() for value in before.values()))
    assert lw.optim.clip_grad_norm(gradients, 2 * norm) == pytest.approx(norm, rel=1e-14)
    assert_same_bits(dict(gradients.parameters), before)
    lw.optim.clip_grad_norm(gradients, norm / 4)
    for name, value in gradients.parameters.items():
        assert_close(value, before[name] * ((norm / 4) / (norm + 1e-6)), 1e-15)
    for value, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="clip_norm.*expected.*got"):
            lw.optim.clip_grad_norm(gradients, value)
    with pytest.raises(TypeError, match="grads.*expected.*got"):
        lw.optim.clip_grad_norm({}, 1.0)


def test_an_empty_batch_leaves_the_weights_but_for_decay():
    network = small()
    before = network.state_dict()
    trainer = trainer_for(network, optimizer=lw.optim.SGD(lr=0.1))
    loss, _ = trainer.step(np.zeros((6, 0, 3)), np.zeros((6, 0, 2)))
    assert loss == 0
    loss, _ = trainer.step(np.zeros((6, 4, 3)), np.zeros((6, 4, 2)), lengths=[0] * 4)
    assert loss == 0
    assert_same_bits(network.state_dict(), before)
