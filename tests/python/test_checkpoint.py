"""``record(checkpoint=k)``: the same bits in less memory."""

import copy
import json
import pickle
import subprocess
import sys

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import data, normal, random_lstm, results_of, weights_from_above
from variants import EVERY

STEPS, ROWS = 13, 5


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_gradients_have_the_same_bits(name, threads, dtype):
    lstm = random_lstm(dtype=dtype, **({"input_size": 3, "hidden_size": 9} | EVERY[name]))
    x, start, reset = data(lstm, STEPS, ROWS)
    d_output, d_state = weights_from_above(lstm, STEPS, ROWS)
    options = {"lengths": [13, 0, 7, 12, 1], "reset": reset, "training": True, "mask_seed": 7}
    expected = results_of(lstm.record(x, start, **options), d_output, d_state)
    lw.set_num_threads(threads)
    for checkpoint in (1, 2, 7, STEPS, 1000):
        tape = lstm.record(x, start, **options, checkpoint=checkpoint)
        assert_same_bits(results_of(tape, d_output, d_state), expected)


def test_a_reverse_batch_first_layer():
    lstm = random_lstm(input_size=3, hidden_size=9, reverse=True, batch_first=True)
    x, d_output = normal(1, (ROWS, STEPS, 3)), normal(2, (ROWS, STEPS, 9))
    d_state = (normal(3, (1, ROWS, 9)), normal(4, (1, ROWS, 9)))
    expected = results_of(lstm.record(x), d_output, d_state)
    assert_same_bits(results_of(lstm.record(x, checkpoint=4), d_output, d_state), expected)
    unbatched = lstm.record(x[0], checkpoint=4)
    assert_same_bits(unbatched.output, expected["output"][0])
    assert_same_bits(unbatched.backward(d_output[0], (d_state[0][:, 0], d_state[1][:, 0])).x, expected["x"][0])


@pytest.mark.parametrize("ending", [[], [lw.Linear(14, 3)], [lw.Last(), lw.Linear(14, 3, activation="tanh")]])
def test_networks(ending):
    layers = [lw.Embedding(11, 4), lw.LSTM(4, 5, num_layers=2, dropout=0.5, residual=True, proj_size=2)]
    layers += [lw.Linear(2, 6, activation="relu"), lw.LSTM(6, 7, bidirectional=True, zoneout=(0.2, 0.1)), *ending]
    network = lw.Network(layers)
    tokens = np.random.RandomState(0).randint(0, 11, (STEPS, ROWS))
    options = {"lengths": [13, 1, 7, 12, 0], "training": True, "mask_seed": 3}
    whole = network.record(tokens, **options)
    d_output = normal(1, whole.output.shape)
    expected = whole.backward(d_output)
    for checkpoint in (1, 4, 100):
        tape = network.record(tokens, **options, checkpoint=checkpoint)
        assert_same_bits(tape.output, whole.output)
        assert_same_bits(tape.state, whole.state)
        gradients = tape.backward(d_output)
        assert_same_bits(dict(gradients.parameters), dict(expected.parameters))
        assert_same_bits(gradients.state, expected.state)


def test_members():
    network = lw.Network([lw.LSTM(2, 9, bidirectional=True, recurrent_dropout=0.3, seed=0)], members=3)
    x, d_output = normal(1, (STEPS, ROWS, 2)), normal(2, (3, STEPS, ROWS, 18))
    whole = network.record(x, training=True, mask_seed=5)
    tape = network.record(x, training=True, mask_seed=5, checkpoint=4)
    assert_same_bits(tape.output, whole.output)
    expected, gradients = whole.backward(d_output), tape.backward(d_output)
    assert_same_bits(gradients.x, expected.x)
    assert_same_bits(gradients.parameters.flat, expected.parameters.flat)


def test_the_tape_keeps_its_weights_and_what_is_written_into_its_output_does_not_matter():
    lstm = random_lstm(input_size=3, hidden_size=9, num_layers=2)
    x, start, _ = data(lstm, STEPS, ROWS)
    d_output, d_state = weights_from_above(lstm, STEPS, ROWS)
    expected = lstm.record(x, start).backward(d_output, d_state)
    tape = lstm.record(x, start, checkpoint=3)
    first = tape.backward(d_output, d_state)
    tape.output[...] = np.nan
    x[...] = np.nan
    with lstm.edit() as parameters:
        parameters["weight_hh_l0"] *= 2
    total = tape.backward(d_output, d_state, into=first)
    assert_same_bits(total.x, expected.x)
    assert_same_bits(total.parameters.flat, 2 * expected.parameters.flat)


@pytest.mark.parametrize(("steps", "rows"), [(0, 3), (3, 0)])
def test_nothing_to_compute(steps, rows):
    lstm = lw.LSTM(2, 3)
    tape = lstm.record(np.ones((steps, rows, 2)), checkpoint=2)
    assert tape.output.shape == (steps, rows, 3)
    assert not tape.backward().parameters.flat.any()


@pytest.mark.parametrize("layer", [lw.LSTM(2, 3), lw.Network([lw.LSTM(2, 3)], members=2), lw.Network([lw.LSTM(2, 3)])])
@pytest.mark.parametrize(
    ("checkpoint", "error", "message"),
    [
        (0, ValueError, "checkpoint: expected at least 1, got 0"),
        (-3, ValueError, "checkpoint: expected at least 1, got -3"),
        (2**70, ValueError, "checkpoint: expected at most"),
        (2.0, TypeError, "checkpoint: expected int, got float"),
        (True, TypeError, "checkpoint: expected int, got bool"),
        ("8", TypeError, "checkpoint: expected int, got str"),
    ],
)
def test_what_is_no_checkpoint_is_refused(layer, checkpoint, error, message):
    with pytest.raises(error, match=message):
        layer.record(np.ones((4, 1, 2)), checkpoint=checkpoint)


def test_checkpoint_is_a_keyword_and_may_be_any_int():
    lstm = lw.LSTM(2, 3)
    with pytest.raises(TypeError):
        lstm.record(np.ones((4, 1, 2)), None, None, None, False, None, 8)
    for checkpoint in (np.int32(2), 2**63 - 1):
        lstm.record(np.ones((4, 1, 2)), checkpoint=checkpoint).backward()


MEASUREMENT = """
import json, resource
import latchwork as lw, numpy as np
steps = 1_000_000
lstm = lw.LSTM(1, 64, seed=0)
x = np.ones((steps, 1, 1), np.float32)
d_output = np.ones((steps, 1, 64), np.float32)
lstm.record(x[:1000], checkpoint=100).backward(d_output[:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lstm.record(x, checkpoint=1000).backward(d_output)
print(json.dumps(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_a_million_steps_need_little_more_than_their_output():
    process = subprocess.run([sys.executable, "-c", MEASUREMENT], check=True, capture_output=True, timeout=600)
    taken = json.loads(process.stdout)
    output = 4 * 64 * 1_000_000
    assert taken < 300e6
    assert taken - output < 20e6


def trainer_steps(checkpoint, members=1, dtype="float32", **options):
    layers = [
        lw.LSTM(3, 9, num_layers=2, dropout=0.3, zoneout=(0.1, 0.2), bidirectional=True, dtype=dtype, seed=1),
        lw.Linear(18, 2, dtype=dtype, seed=2),
    ]
    network = lw.Network(layers, members)
    trainer = lw.Trainer(
        network, optimizer=lw.optim.Adam(lr=0.01), clip_norm=1.0, seed=5, checkpoint=checkpoint, **options
    )
    results = []
    state = None
    for seed in range(3):
        x, y = normal(seed, (STEPS, ROWS, 3)), normal(seed + 10, (STEPS, ROWS, 2))
        loss, state = trainer.step(x, y, state, [13, 0, 7, 12, 1])
        results.append(loss)
    loss, _ = trainer.gradient(x, y, state)
    return trainer, {"losses": np.array([*results, loss]), "gradients": trainer.gradients.flat.copy(), "end": state}


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", lw.losses.squared_error, lambda output, y, lengths=None: (
    ((output - y) ** 2).mean(axis=(-1, -2, -3)), 2 * (output - y) / (STEPS * ROWS * 2))])  # fmt: skip
def test_a_trainer_with_checkpoints_gives_the_same_bits(loss, members, dtype):
    expected_trainer, expected = trainer_steps(None, members, dtype, loss=loss)
    for checkpoint in (1, 4, STEPS, 1000):
        trainer, results = trainer_steps(checkpoint, members, dtype, loss=loss)
        assert_same_bits(results, expected)
        assert_same_bits(trainer.network.state_dict(), expected_trainer.network.state_dict())


def test_copies_of_a_trainer_keep_its_checkpoints():
    trainer, _ = trainer_steps(4, loss="squared_error")
    for copied in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        assert copied._core.checkpoint == 4
    assert trainer_steps(None, loss="squared_error")[0]._core.checkpoint == 0
    with pytest.raises(ValueError, match="checkpoint: expected at least 0, got -1"):
        trainer._core.checkpoint = -1
    assert trainer._core.checkpoint == 4


@pytest.mark.parametrize(("checkpoint", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_what_is_no_checkpoint_of_a_trainer_is_refused(checkpoint, error):
    with pytest.raises(error, match="checkpoint: expected"):
        lw.Trainer(lw.LSTM(2, 3), "squared_error", lw.optim.SGD(lr=0.1), checkpoint=checkpoint)


TRAINING = """
import json, resource
import latchwork as lw, numpy as np
steps = 1_000_000
network = lw.Network([lw.LSTM(1, 32, seed=0), lw.Linear(32, 1, seed=0)])
trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.01), checkpoint=1000)
x = np.ones((steps, 1, 1), np.float32)
trainer.step(x[:1000], x[:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trainer.step(x, x)
print(json.dumps(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_a_step_of_training_over_a_million_steps():
    process = subprocess.run([sys.executable, "-c", TRAINING], check=True, capture_output=True, timeout=600)
    taken = json.loads(process.stdout)
    hidden = 4 * 32 * 1_000_000  # the LSTM's output and its gradient remain; without checkpoints there are 6 more
    assert taken < 2.5 * hidden
