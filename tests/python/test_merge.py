"""Directions that merge: against two LSTMs of one direction each, joined by NumPy."""

import copy
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from differences import Objective, objective
from layers import normal, random_lstm

JOINED = {
    "concat": lambda one, other: np.concatenate([one, other], axis=-1),
    "sum": lambda one, other: one + other,
    "mul": lambda one, other: one * other,
    "ave": lambda one, other: (one + other) * one.dtype.type(0.5),
}
MERGING = ["sum", "mul", "ave"]
LENGTHS = [6, 0, 1, 4]


def by_hand(lstm, x, reset=None, lengths=None):
    """The output, by LSTMs of one layer and direction, and the state."""
    states = []
    size = lstm.input_size
    for layer in range(lstm.num_layers):
        outputs = []
        for suffix in ("", "_reverse"):
            one = lw.LSTM(size, lstm.hidden_size, reverse=bool(suffix), proj_size=lstm.proj_size, dtype=lstm.dtype)
            for name in list(one.parameters):
                kind = name.split("_l0")[0]
                one.parameters[name] = lstm.parameters[f"{kind}_l{layer}{suffix}"]
            output, state = one(x, reset=reset, lengths=lengths)
            outputs.append(output)
            states.append(state)
        x = JOINED[lstm.merge](*outputs)
        size = x.shape[-1]
    return x, tuple(np.concatenate(parts) for parts in zip(*states, strict=True))


def merging(merge, dtype="float32", **options):
    return random_lstm(input_size=3, hidden_size=7, bidirectional=True, merge=merge, dtype=dtype, **options)


@pytest.mark.parametrize("merge", JOINED)
@pytest.mark.parametrize("options", [{}, {"num_layers": 3}, {"num_layers": 2, "proj_size": 2}], ids=str)
def test_it_is_two_directions_joined_in_each_layer(merge, options, dtype):
    lstm = merging(merge, dtype, **options)
    features = (lstm.proj_size or 7) * (2 if merge == "concat" else 1)
    for shape in ((6, 4, 3), (1, 4, 3), (0, 4, 3), (6, 0, 3)):
        x = normal(1, shape, dtype)
        output, state = lstm(x)
        expected, expected_state = by_hand(lstm, x)
        assert output.shape == (*shape[:2], features)
        assert_same_bits(output, expected)
        assert_same_bits(tuple(state), expected_state)
    x, reset = normal(1, (6, 4, 3), dtype), np.random.RandomState(2).random_sample((6, 4)) < 0.3
    assert_same_bits(lstm(x, lengths=LENGTHS, reset=reset)[0], by_hand(lstm, x, reset, LENGTHS)[0])
    for layer in range(1, lstm.num_layers):
        assert lstm.parameters[f"weight_ih_l{layer}_reverse"].shape == (28, features)


@pytest.mark.parametrize("merge", MERGING)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"num_layers": 3, "residual": True}], ids=str)
def test_gradients_equal_finite_differences(merge, options):
    sizes = {"input_size": 2, "hidden_size": 3, "bidirectional": True, "merge": merge}
    objective(sizes | options).check()
    objective(sizes | options, lengths=[5, 0, 2], reset=np.random.RandomState(2).random_sample((5, 3)) < 0.3).check()


@pytest.mark.parametrize("merge", MERGING)
def test_checkpoints_and_members_change_no_bit(merge, dtype):
    lstm = merging(merge, dtype, num_layers=2, dropout=0.25)
    x, d_output = normal(1, (6, 4, 3), dtype), normal(2, (6, 4, 7), dtype)
    expected = lstm.record(x, mask_seed=3).backward(d_output)
    for checkpoint in (1, 4, 9):
        tape = lstm.record(x, mask_seed=3, checkpoint=checkpoint)
        gradients = tape.backward(d_output)
        assert_same_bits(gradients.x, expected.x)
        assert_same_bits(dict(gradients.parameters), dict(expected.parameters))

    def layers():
        one = lw.LSTM(3, 7, 2, bidirectional=True, merge=merge, dtype=dtype, seed=1)
        return [one, lw.Last(), lw.Linear(7, 2, dtype=dtype, seed=2)]

    several = lw.Network(layers(), members=3)
    for member in range(3):
        assert_same_bits(several(x)[0][member], several.member(member)(x)[0])
    assert_same_bits(several(x)[0][0], lw.Network(layers())(x)[0])


@pytest.mark.parametrize("merge", MERGING)
def test_the_trace_shows_each_direction(merge, dtype):
    lstm = merging(merge, dtype, num_layers=2)
    x = normal(1, (6, 4, 3), dtype)
    trace = lstm.trace(x, lengths=LENGTHS)
    assert list(trace) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert_same_bits(trace.output, lstm(x, lengths=LENGTHS)[0])
    joined = JOINED[merge](trace["l1"].hidden, trace["l1_reverse"].hidden)
    assert_same_bits(joined, trace.output)


@pytest.mark.parametrize("merge", MERGING)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_last_joins_the_final_outputs_of_both_directions(merge, num_layers, dtype):
    lstm = merging(merge, dtype, num_layers=num_layers)
    x = normal(1, (6, 4, 3), dtype)
    _, (h_n, _) = lstm(x, lengths=LENGTHS)
    expected = JOINED[merge](*h_n[-2:])
    expected[1] = 0  # an empty sequence has no output
    network = lw.Network([copy.deepcopy(lstm), lw.Last()])
    assert_same_bits(network(x, lengths=LENGTHS)[0], expected)
    assert_same_bits(network.record(x, lengths=LENGTHS).output, expected)
    assert_same_bits(lw.Network([copy.deepcopy(lstm), lw.Mean()])(x)[0], lw.Mean()(lstm(x)[0]))
    small = random_lstm(
        input_size=2, hidden_size=3, bidirectional=True, merge=merge, num_layers=num_layers, dtype="float64"
    )
    network = lw.Network([small, lw.Last(), lw.Linear(3, 2, dtype="float64", seed=1)])
    Objective(network, normal(1, (5, 3, 2), "float64"), lengths=[5, 0, 2]).check()


@pytest.mark.parametrize("merge", MERGING)
def test_at_skipped_steps_what_has_merged_is_repeated_or_zero(merge, dtype):
    lstm = merging(merge, dtype)
    x = normal(1, (6, 1, 3), dtype)
    skip = np.array([1, 0, 0, 1, 1, 0], bool)[:, np.newaxis]
    computed, _ = lstm(x[[1, 2, 5]])
    zero = np.zeros_like(computed[0])
    for skipped, places in (("repeat", [None, 0, 1, 1, 1, 2]), ("zero", [None, 0, 1, None, None, 2])):
        output, _ = lstm(x, skip=skip, skip_output=skipped)
        assert_same_bits(output, np.stack([zero if place is None else computed[place] for place in places]))


@pytest.mark.parametrize("merge", MERGING)
def test_files_copies_and_training(merge, tmp_path):
    network = lw.Network([lw.LSTM(3, 7, bidirectional=True, merge=merge, seed=1), lw.Linear(7, 2, seed=2)])
    x, y = normal(1, (6, 4, 3)), normal(2, (6, 4, 2))
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam(lr=0.01))
    losses = [trainer.step(x, y)[0] for _ in range(20)]
    assert losses[-1] < losses[0]
    network.save(tmp_path / "model.safetensors")
    for other in (lw.load(tmp_path / "model.safetensors"), copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert repr(other) == repr(network)
        assert other[0].merge == merge
        assert_same_bits(other(x)[0], network(x)[0])
    with pytest.raises(ValueError, match="bidirectional"):
        network.stream(4)


def test_mean_is_not_the_sum():
    sizes = {"input_size": 3, "hidden_size": 7, "bidirectional": True}
    x = normal(1, (6, 4, 3))
    total, mean = (random_lstm(**sizes, merge=merge)(x)[0] for merge in ("sum", "ave"))
    assert_close(mean, total / 2, 1e-7)


@pytest.mark.parametrize(("merge", "error"), [("max", ValueError), (None, TypeError), (1, TypeError), ("", ValueError)])
def test_a_wrong_merge_is_refused(merge, error):
    with pytest.raises(error, match="^merge: expected"):
        lw.LSTM(3, 5, bidirectional=True, merge=merge)
