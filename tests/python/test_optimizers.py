"""Targets of optimisers, refused steps, schedules, and going on where training stopped."""

import copy
import json
import math
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal

schedules = lw.optim.schedules
X, Y = normal(1, (6, 4, 3)), normal(2, (6, 4, 2))
KINDS = {
    "sgd": lambda target=None, **more: lw.optim.SGD(target, **{"lr": 0.1, "momentum": 0.9, **more}),
    "adam": lambda target=None, **more: lw.optim.Adam(target, **{"lr": 0.01, **more}),
    "adamw": lambda target=None, **more: lw.optim.AdamW(target, **{"lr": 0.01, **more}),
    "rmsprop": lambda target=None, **more: lw.optim.RMSprop(
        target, **{"lr": 0.01, "momentum": 0.5, "centered": True, **more}
    ),
}


@pytest.fixture(params=KINDS)
def optimizer_of(request):
    return KINDS[request.param]


def network_of(dtype="float32", members=1, **options):
    lstm = lw.LSTM(3, 5, 2, seed=1, dtype=dtype, **options)
    return lw.Network([lstm, lw.Linear(5, 2, seed=2, dtype=dtype)], members=members)


def gradients_of(module, seed=1):
    tape = module.record(normal(seed, (6, 4, 3), module.dtype))
    return tape.backward(normal(seed + 1, tape.output.shape, module.dtype))


# ---- The trainer's optimiser is the one it was given.


def test_a_trainer_uses_that_very_optimiser():
    network, optimizer = network_of(), lw.optim.SGD(lr=0.5)
    assert optimizer.targets == ()
    trainer = lw.Trainer(network, "squared_error", optimizer)
    assert trainer.optimizer is optimizer
    assert optimizer.targets == (network,)
    before = network.state_dict()
    optimizer.lr = 0.0
    assert trainer.lr == 0.0
    trainer.step(X, Y)
    assert_same_bits(network.state_dict(), before)
    trainer.lr = 0.25
    assert optimizer.lr == 0.25
    trainer.step(X, Y)
    assert not np.array_equal(network.state_dict()["1.bias"], before["1.bias"])
    assert optimizer.steps == trainer.steps == 2
    optimizer.step(gradients_of(network))
    assert (optimizer.steps, trainer.steps) == (3, 2)


def test_a_trainer_refuses_the_optimiser_of_another_network():
    network, other = network_of(), network_of()
    for optimizer in (lw.optim.Adam(other), lw.optim.Adam(other[1]), lw.optim.Adam([network[1], other[0]])):
        with pytest.raises(ValueError, match="optimizer: expected one without a target, or one of the network"):
            lw.Trainer(network, "squared_error", optimizer)
    optimizer = lw.optim.Adam()
    with pytest.raises(ValueError, match="loss"):
        lw.Trainer(network, "hinge", optimizer)
    assert optimizer.targets == ()  # nothing was taken
    lw.Trainer(other, "squared_error", optimizer)
    with pytest.raises(ValueError, match="optimizer"):
        lw.Trainer(network, "squared_error", optimizer)


# ---- Layers as targets.


@pytest.mark.parametrize("members", [1, 3])
def test_a_head_alone_is_trained(optimizer_of, members, dtype):
    network, twin = network_of(dtype, members), network_of(dtype, members)
    before = network.state_dict()
    trainer = lw.Trainer(network, "squared_error", optimizer_of(network[1]))
    by_hand = optimizer_of(twin[1])
    for _ in range(3):
        tape = twin.record(X, training=True)
        losses, d_output = lw.losses.squared_error(tape.output, Y, members=members if members > 1 else None)
        by_hand.step(tape.backward(d_output))
        assert_same_bits(trainer.step(X, Y)[0], losses)
    assert_same_bits(network.state_dict(), twin.state_dict())
    for name, value in network.parameters.items():
        assert np.array_equal(value, before[name]) == name.startswith("0.")
    assert by_hand.steps == 3
    assert [buffer.size for buffer in by_hand.state_dict()["buffers"]] == [12 * members] * len(
        by_hand.state_dict()["buffers"]
    )


def test_several_optimisers_share_a_network(optimizer_of):
    network, twin = network_of(), network_of()
    head, body = optimizer_of(network[1]), optimizer_of(network[0])
    trainer = lw.Trainer(network, "squared_error", [head, body])
    whole = lw.Trainer(twin, "squared_error", optimizer_of())
    assert trainer.optimizer == (head, body)
    with pytest.raises(ValueError, match="lr: expected one optimizer, got 2"):
        trainer.lr  # noqa: B018
    for _ in range(3):
        assert trainer.step(X, Y)[0] == whole.step(X, Y)[0]
    assert_same_bits(network.state_dict(), twin.state_dict())
    head.lr = 0.0
    before = network.state_dict()
    trainer.step(X, Y)
    assert not np.array_equal(network.parameters["0.weight_hh_l1"], before["0.weight_hh_l1"])
    with pytest.raises(ValueError, match=r"targets\[1\]: expected parameters of its own"):
        lw.Trainer(network, "squared_error", [lw.optim.SGD(network), body])


def test_an_optimiser_of_several_targets():
    encoder, decoder = network_of(), network_of()
    twins = [network_of(), network_of()]
    optimizer = lw.optim.Adam([encoder, decoder], lr=0.01)
    apart = [lw.optim.Adam(twin, lr=0.01) for twin in twins]
    for seed in range(3):
        grads = [gradients_of(encoder, seed), gradients_of(decoder, seed + 5)]
        norms = [lw.optim.clip_grad_norm(copy.deepcopy(each), 1e9) for each in grads]
        total = lw.optim.clip_grad_norm(grads, 1.0)
        assert total == pytest.approx(np.hypot(*norms), rel=1e-12)
        optimizer.step(grads)
        for one, each in zip(apart, grads, strict=True):
            one.step(each)
    assert_same_bits(encoder.state_dict(), twins[0].state_dict())
    assert_same_bits(decoder.state_dict(), twins[1].state_dict())
    for wrong, error in (([], ValueError), ([encoder, 3], TypeError), ([encoder, encoder[0]], ValueError)):
        with pytest.raises(error, match="target"):
            lw.optim.Adam(wrong)
    with pytest.raises(ValueError, match="target: expected one dtype"):
        lw.optim.Adam([encoder, network_of("float64")])
    with pytest.raises(ValueError, match="grads: expected gradients of"):
        optimizer.step(gradients_of(encoder[0]))
    with pytest.raises(ValueError, match="grads: expected one for each of the 2 targets, got 1"):
        optimizer.step([gradients_of(encoder)])
    both = lw.optim.SGD([encoder[0], encoder[1]])
    before = encoder.state_dict()
    both.step(gradients_of(encoder))
    assert not any(np.array_equal(value, before[name]) for name, value in encoder.parameters.items())


def test_the_norm_for_clipping_is_that_of_what_is_trained():
    network = network_of("float64")
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(network[1], lr=1.0), clip_norm=1e-3)
    before = network.state_dict()
    trainer.step(X, Y)
    moved = [network.parameters[name] - before[name] for name in ("1.weight", "1.bias")]
    assert np.sqrt(sum((part**2).sum() for part in moved)) == pytest.approx(1e-3, rel=1e-2)


# ---- Steps that are refused.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite_are_refused(optimizer_of, bad, dtype):
    network = network_of(dtype)
    optimizer = optimizer_of(network)
    optimizer.step(gradients_of(network))
    grads = gradients_of(network)
    grads.parameters["0.weight_hh_l1"][3, 2] = bad
    before, state = network.state_dict(), pickle.dumps(optimizer.state_dict())
    with pytest.raises(RuntimeError, match="norm of the gradient: expected a finite number, got .*; nothing"):
        optimizer.step(grads)
    assert_same_bits(network.state_dict(), before)
    assert pickle.dumps(optimizer.state_dict()) == state
    optimizer.step(grads, check_finite=False)
    assert not np.isfinite(network.parameters["0.weight_hh_l1"]).all()


def test_nan_in_d_output_does_not_reach_the_weights():
    network = network_of()
    tape = network.record(X)
    d_output = np.zeros_like(tape.output)
    d_output[2, 1, 0] = np.nan
    with pytest.raises(RuntimeError, match="finite"):
        lw.optim.SGD(network).step(tape.backward(d_output))
    assert all(np.isfinite(value).all() for value in network.parameters.values())


@pytest.mark.parametrize("members", [1, 2])
def test_infinite_weights_are_refused(optimizer_of, dtype, members):
    network = network_of(dtype, members)
    optimizer = optimizer_of(network)
    trainer = lw.Trainer(network, "squared_error", optimizer, seed=1)
    trainer.step(X, Y)
    optimizer.lr = 1e38 if dtype == "float32" else 1e308
    before, state = network.state_dict(), pickle.dumps(trainer.state_dict())
    grads = gradients_of(network)
    grads.parameters.flat[:] = np.sign(grads.parameters.flat) * 100
    taken = 0
    with pytest.raises(RuntimeError, match="parameters: expected finite numbers after the step, got others; nothing"):
        while taken < 20:
            optimizer.step(grads)
            before, state = network.state_dict(), pickle.dumps(trainer.state_dict())
            taken += 1
    assert_same_bits(network.state_dict(), before)
    assert pickle.dumps(trainer.state_dict()) == state
    assert optimizer.steps == taken + 1


def test_the_step_before_infinity_is_the_last():
    """The squares of such weights are infinite too, so that their norm says nothing."""
    network = lw.Network([lw.LSTM(3, 4, dtype="float64", seed=1)])
    optimizer = lw.optim.SGD(network, lr=np.finfo(np.float64).max / 64)
    grads = gradients_of(network)
    grads.parameters.flat[:] = 0.75
    with pytest.raises(RuntimeError, match="parameters: expected finite numbers after the step"):
        for _ in range(100):
            optimizer.step(grads)
            assert all(np.isfinite(value).all() for value in network.parameters.values())
    assert optimizer.steps == 85


def test_a_trainer_refuses_infinite_weights():
    network = network_of()
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=1e38, momentum=0.9))
    before = network.state_dict()
    with pytest.raises(RuntimeError, match="parameters: expected finite numbers after the step"):
        trainer.step(X, Y * 1e5)
    assert_same_bits(network.state_dict(), before)
    assert trainer.steps == trainer.optimizer.steps == 0
    trainer.lr = 1e-3
    trainer.step(X, Y)
    assert trainer.steps == 1


def test_weights_written_between_steps_are_seen():
    network = network_of()
    optimizer = lw.optim.SGD(network, lr=1.0)
    grads = gradients_of(network)
    optimizer.step(grads)
    with network.edit() as parameters:
        parameters["1.bias"][:] = np.finfo(np.float32).max
    grads.parameters["1.bias"][:] = -np.finfo(np.float32).max
    with pytest.raises(RuntimeError, match="parameters: expected finite numbers after the step"):
        optimizer.step(grads)
    assert (network.parameters["1.bias"] == np.finfo(np.float32).max).all()


# ---- Going on.


def make_trainer(optimizer_of, network=None, **options):
    network = network_of(dropout=0.5, zoneout=(0.25, 0.25)) if network is None else network
    lr = schedules.Warmup(schedules.Cosine(0.05, 10, 0.001), 3)
    return lw.Trainer(network, "huber", optimizer_of(lr=lr), clip_norm=0.5, seed=9, **options)


def copied(trainer):
    return copy.deepcopy(trainer)


def pickled(trainer):
    return pickle.loads(pickle.dumps(trainer))


def loaded(trainer):
    fresh = lw.Trainer(
        network_of(dropout=0.5, zoneout=(0.25, 0.25)), "huber", type(trainer.optimizer)(), clip_norm=0.5, delta=0.5
    )
    fresh.load_state_dict(trainer.state_dict())
    return fresh


@pytest.mark.parametrize("again", [copied, pickled, loaded])
def test_training_goes_on_with_the_same_bits(optimizer_of, again):
    trainer = make_trainer(optimizer_of, delta=0.5)
    for _ in range(4):
        trainer.step(X, Y)
    other = again(trainer)
    assert other.steps == other.optimizer.steps == 4
    assert other.optimizer.targets == (other.network,)
    assert other.network is not trainer.network
    for _ in range(4):
        assert trainer.step(X, Y)[0] == other.step(X, Y)[0]
        assert trainer.lr == other.lr
    assert_same_bits(trainer.network.state_dict(), other.network.state_dict())
    assert trainer.lr == schedules.Cosine(0.05, 10, 0.001)(5)


def test_an_optimiser_of_layers_is_copied_with_its_trainer():
    network = network_of()
    trainer = lw.Trainer(network, "squared_error", [lw.optim.Adam(network[1]), lw.optim.SGD(network[0], momentum=0.5)])
    trainer.step(X, Y)
    for other in (copied(trainer), pickled(trainer)):
        assert other.optimizer[0].targets[0] is other.network[1]
        one = copied(trainer)
        assert one.step(X, Y)[0] == other.step(X, Y)[0]
        assert_same_bits(one.network.state_dict(), other.network.state_dict())
    assert trainer.steps == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"steps": [1, 2]}, "steps: expected 1 numbers, got 2"),
        ({"optimizers": []}, "optimizers: expected 1, got 0"),
        ({"more": 1}, "state_dict: expected network, optimizers, seed, steps and gradient_blocks"),
        ({"network": {}}, "state_dict: expected exactly the names"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    trainer, other = make_trainer(KINDS["adam"]), make_trainer(KINDS["adam"])
    other.step(X, Y)
    before = pickle.dumps(trainer.state_dict())
    with pytest.raises(ValueError, match=message):
        trainer.load_state_dict(other.state_dict() | change)
    broken = other.state_dict()
    broken["optimizers"][0]["buffers"].pop()
    with pytest.raises(ValueError, match="buffers: expected 2, got 1"):
        trainer.load_state_dict(broken)
    assert pickle.dumps(trainer.state_dict()) == before
    with pytest.raises(TypeError, match="state_dict: expected a mapping"):
        trainer.load_state_dict(3)
    with pytest.raises(ValueError, match='state_dict: expected that of "sgd", got that of .adam'):
        lw.Trainer(network_of(), "huber", lw.optim.SGD()).load_state_dict(other.state_dict())


# ---- Schedules.


def test_a_schedule_gives_each_steps_rate():
    network = network_of("float64")
    schedule = schedules.Step(1.0, 2, 0.5)
    optimizer = lw.optim.SGD(network, lr=schedule)
    grads = gradients_of(network)
    for expected in (1.0, 1.0, 0.5, 0.5, 0.25):
        assert optimizer.lr == expected
        before = network.parameters["1.bias"].copy()
        optimizer.step(grads)
        np.testing.assert_allclose(before - network.parameters["1.bias"], expected * grads.parameters["1.bias"])
    assert optimizer.schedule is schedule
    optimizer.lr = 0.125
    assert (optimizer.lr, optimizer.schedule) == (0.125, None)
    optimizer.lr = schedules.Constant(0.75)
    assert optimizer.lr == 0.75


def test_a_warm_up_rises_in_equal_steps():
    warm = schedules.Warmup(1.0, 4)
    np.testing.assert_allclose([warm(step) for step in range(6)], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    then = schedules.Warmup(schedules.Step(1.0, 2, 0.5), 1)
    assert [then(step) for step in range(5)] == [0.5, 1.0, 1.0, 0.5, 0.5]


def between(first, last, share):
    """Half a cosine from the first number to the last."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (schedules.Constant(0.3), lambda step: 0.3),
        (schedules.Step(0.5, 7, 0.25), lambda step: 0.5 * 0.25 ** (step // 7)),
        (schedules.Cosine(0.5, 20, 0.01), lambda step: between(0.5, 0.01, min(step, 20) / 20)),
        (
            schedules.OneCycle(0.5, 40, 0.3, 0.04, 0.001),
            lambda step: between(0.02, 0.5, step / 11) if step <= 11 else between(0.5, 5e-4, min(step - 11, 28) / 28),
        ),
        (schedules.Warmup(0.4, 3), lambda step: 0.4 * min(step + 1, 4) / 4),
    ],
    ids=["Constant", "Step", "Cosine", "OneCycle", "Warmup"],
)
def test_schedules_follow_their_formulas(schedule, formula):
    steps = range(50)
    np.testing.assert_allclose([schedule(step) for step in steps], [formula(step) for step in steps], rtol=1e-12)


ALL = [
    schedules.Constant(0.1),
    schedules.Step(0.1, 3),
    schedules.Cosine(0.1, 30, 0.01),
    schedules.OneCycle(0.1, 30),
    schedules.Warmup(schedules.Cosine(0.1, 30), 5),
    schedules.ReduceOnPlateau(0.1, patience=1),
]


@pytest.mark.parametrize("schedule", ALL, ids=[type(schedule).__name__ for schedule in ALL])
def test_a_schedule_is_saved_with_its_optimiser(schedule):
    network, other = network_of(), network_of()
    optimizer = lw.optim.Adam(network, lr=copy.deepcopy(schedule))
    for loss in (3.0, 2.0, 2.5, 2.5, 2.5):
        optimizer.step(gradients_of(network))
        if isinstance(schedule, schedules.ReduceOnPlateau):
            optimizer.schedule.report(loss)
    state = optimizer.state_dict()
    json.dumps(state["schedule"])
    again = lw.optim.Adam(other)
    again.load_state_dict(state)
    assert again.schedule == optimizer.schedule
    assert again.lr == optimizer.lr
    copies = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    assert [each.lr for each in copies] == [optimizer.lr] * 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"best": math.nan}, ValueError),
        ({"best": "2.0"}, ValueError),
        ({"bad_reports": -1}, ValueError),
        ({"cooling": 1.5}, TypeError),
    ],
)
def test_a_damaged_state_of_a_schedule_is_refused(change, error):
    optimizer = lw.optim.Adam(network_of(), lr=schedules.ReduceOnPlateau(0.1))
    state = optimizer.state_dict()
    damaged = state | {"schedule": state["schedule"] | change}
    (name,) = change
    with pytest.raises(error, match=f"^{name}: expected .*got"):
        optimizer.load_state_dict(damaged)
    assert optimizer.schedule == schedules.ReduceOnPlateau(0.1)
    damaged = state | {"schedule": schedules.Constant(0.1).state_dict() | change}
    with pytest.raises(ValueError, match="^schedule: expected the options of Constant, got"):
        optimizer.load_state_dict(damaged)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.Constant(-1), ValueError, "lr"),
        (lambda: schedules.Step(0.1, 0), ValueError, "every"),
        (lambda: schedules.Cosine(0.1, 10.0), TypeError, "steps"),
        (lambda: schedules.OneCycle(0.1, 10, rising=1.0), ValueError, "rising"),
        (lambda: schedules.Warmup("0.1", 10), TypeError, "then"),
        (lambda: schedules.ReduceOnPlateau(0.1, factor=1.0), ValueError, "factor"),
        (lambda: lw.optim.Adam(lr="0.1"), TypeError, "lr"),
        (lambda: lw.optim.Adam(network_of()).load_state_dict({}), ValueError, "state_dict"),
    ],
)
def test_wrong_schedules_are_refused(make, error, message):
    with pytest.raises(error, match=f"{message}.*expected.*got"):
        make()
