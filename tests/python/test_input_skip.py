"""InputSkip: the first features of the network's own input, added to those of what comes in."""

import copy
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from differences import Objective
from layers import normal
from skips import LENGTHS, ROWS, STEPS, masks, spoilt

CALLS = {
    "all steps": {},
    "ragged": {"lengths": LENGTHS},
    "all masks": {"reset": masks(3, 0.3), "lengths": LENGTHS, "skip": masks(2, 0.3)},
    "zero": {"skip": masks(2, 0.3), "skip_output": "zero"},
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def before(dtype, **options):
    """The layers before, the same at each call."""
    return [
        lw.Scale([0.5, 0.0, 1.0], [2.0, 3.0, 0.5]),
        lw.LSTM(3, 5, dtype=dtype, seed=1, **options),
        lw.Linear(5 * (1 + options.get("bidirectional", False)), 4, dtype=dtype, seed=2),
    ]


def network_of(dtype, features=2, factor=0.3, after=(), **options):
    return lw.Network([*before(dtype, **options), lw.InputSkip(features, factor), *after])


def spoilt_input(call, dtype):
    return spoilt(normal(1, (STEPS, ROWS, 3), dtype), call.get("skip", np.zeros((STEPS, ROWS), bool)))


@calls
@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_call_adds_the_input(call, features, bidirectional, dtype):
    x = spoilt_input(call, dtype)
    computed = np.ones((STEPS, ROWS), bool)
    if "lengths" in call:
        computed &= np.arange(STEPS)[:, np.newaxis] < LENGTHS
    if "skip" in call:
        computed &= ~call["skip"]
    without, state = lw.Network(before(dtype, bidirectional=bidirectional))(x, **call)
    network = network_of(dtype, features, -0.7, bidirectional=bidirectional)
    output, state_then = network(x, **call)
    expected = without.copy()
    expected[..., :features] += np.array(-0.7, dtype) * x[..., :features]
    assert_same_bits(output[computed], expected[computed])
    assert_same_bits(tuple(state_then), tuple(state))
    if call.get("skip_output") == "zero":
        assert not output[~computed].any()
    assert_same_bits(network.record(x, training=False, **call).output, output)


@calls
def test_the_last_step_is_that_of_the_whole_output(call, dtype):
    x = spoilt_input(call, dtype)
    for after in ((), (lw.Linear(4, 2, dtype=dtype, seed=3), lw.InputSkip(1), lw.Dropout())):
        network = network_of(dtype, after=copy.deepcopy(after))
        whole, _ = network(x, **call)
        alone, _ = network(x, **call, last_step=True)
        ends = np.broadcast_to(call.get("lengths", STEPS), ROWS)
        assert_same_bits(alone, np.where((ends > 0)[:, np.newaxis], whole[ends - 1, np.arange(ROWS)], 0).astype(dtype))


@calls
def test_gradients_are_those_of_differences(call):
    if "skip" in call:
        call = call | {"skip": call["skip"][:4, :2]}
    call = {name: value[:4, :2] if name == "reset" else value for name, value in call.items()}
    call = {name: np.array([4, 2]) if name == "lengths" else value for name, value in call.items()}
    x = normal(1, (4, 2, 3), "float64")
    after = (lw.Linear(4, 3, activation="tanh", dtype="float64", seed=3), lw.InputSkip(3, 1.5))
    Objective(network_of("float64", after=after), x, **call).check()


def test_it_may_follow_reverse_if_another_one_restores_the_order(dtype):
    x = normal(1, (STEPS, ROWS, 3), dtype)
    lstm = lw.LSTM(3, 5, dtype=dtype, seed=1)
    network = lw.Network([lw.Reverse(), lstm, lw.Reverse(), lw.InputSkip(3)])
    output, _ = network(x, lengths=LENGTHS)
    expected, _ = lw.LSTM(3, 5, dtype=dtype, seed=1, reverse=True)(x, lengths=LENGTHS)
    valid = np.arange(STEPS)[:, np.newaxis] < LENGTHS
    expected[valid, :3] += x[valid]
    assert_same_bits(output, expected)


@pytest.mark.parametrize("batch_size", [None, ROWS])
@pytest.mark.parametrize("members", [1, 3])
def test_a_stream_gives_what_a_call_gives(batch_size, members, dtype):
    after = (lw.InputSkip(2, 0.3), lw.Linear(4, 2, dtype=dtype, seed=3), lw.InputSkip(2, 0.5))
    network = lw.Network([*before(dtype), *after], members)
    x, skip, reset = normal(1, (STEPS, ROWS, 3), dtype), masks(2), masks(3)
    if batch_size is None:
        x, skip, reset = x[:, 0], skip[:, 0], reset[:, 0]
    output, _ = network(x, skip=skip, reset=reset)
    stream = network.stream(batch_size)
    for step in range(STEPS):
        one = (bool(reset[step]), bool(skip[step])) if batch_size is None else (reset[step], skip[step])
        assert_same_bits(stream.step(x[step], None, *one), output[step] if members == 1 else output[:, step])
    stream.refresh()
    repeated = stream.step(x[0], skip=True if batch_size is None else np.ones(ROWS, bool))
    assert_same_bits(repeated, output[-1] if members == 1 else output[:, -1])


def test_members_add_inputs_of_their_own(dtype):
    network = lw.Network(before(dtype) + [lw.InputSkip(3, 2.0)], 2)
    x = normal(1, (2, STEPS, ROWS, 3), dtype)
    tape = network.record(x, lengths=LENGTHS)
    d_output = normal(2, tape.output.shape, dtype)
    gradients = tape.backward(d_output)
    for member in range(2):
        alone = network.member(member).record(x[member], lengths=LENGTHS)
        assert_same_bits(alone.output, tape.output[member])
        assert_same_bits(alone.backward(d_output[member]).x, gradients.x[member])


def test_training_learns_the_difference():
    network = lw.Network([lw.LSTM(1, 4, seed=0), lw.Linear(4, 1, seed=1, init_scale=0.0), lw.InputSkip(1)])
    x = normal(1, (STEPS, ROWS, 1))
    assert lw.Trainer(network, "squared_error", lw.optim.Adam()).evaluate(x, x)[0] == 0.0
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam(lr=0.05))
    losses = [trainer.step(x, 2 * x)[0] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_layer_alone(dtype):
    x, network_input = normal(0, (7, 3, 4), dtype), normal(1, (7, 3, 2), dtype)
    kept = x.copy()
    expected = x.copy()
    expected[..., :2] += np.array(0.1, dtype) * network_input
    assert_same_bits(lw.InputSkip(2, 0.1)(x, network_input), expected)
    assert_same_bits(x, kept)
    with pytest.raises(ValueError, match=r"^network_input: expected \(7, 3, at least 3\), got \(7, 3, 2\)$"):
        lw.InputSkip(3)(x, network_input)
    with pytest.raises(ValueError, match=r"^network_input: expected \(7, 3, at least 1\), got \(3, 2\)$"):
        lw.InputSkip(1)(x, network_input[0])


def test_files_and_copies(tmp_path):
    network = network_of("float32")
    x = normal(1, (STEPS, ROWS, 3))
    network.save(tmp_path / "network.safetensors")
    for other in (
        lw.load(tmp_path / "network.safetensors"),
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        assert repr(other) == repr(network)
        assert "InputSkip(2, factor=0.3)" in repr(other)
        assert_same_bits(other(x)[0], network(x)[0])


def test_a_factor_that_the_dtype_does_not_hold_is_refused():
    with pytest.raises(ValueError, match=r"^layers\[1\]\.factor: expected a number of at most 3\.4\d*e\+38, which"):
        lw.Network([lw.Linear(1, 1), lw.InputSkip(1, 1e39)])
