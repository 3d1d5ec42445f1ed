"""``network(x, last_step=True)``: the last valid step of the whole output, without the others."""

import copy

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm

X = normal(1, (6, 4, 3))
LENGTHS = [6, 3, 0, 1]


def last_of(output, lengths, axis=0):
    steps = np.moveaxis(output, axis, 0)
    return np.stack(
        [steps[n - 1, row] if n else np.zeros(steps.shape[-1], np.float32) for row, n in enumerate(lengths)]
    )


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2, "reverse": True}], ids=str)
def test_it_is_the_last_valid_step(options):
    lstm = random_lstm(input_size=3, hidden_size=5, **options)
    features = 10 if lstm.bidirectional else 5
    for module in (lstm, lw.Network([lstm, lw.Linear(features, 7, seed=1), lw.Dropout(), lw.Linear(7, 2, seed=2)])):
        for lengths in (LENGTHS, None):
            output, state = module(X, lengths=lengths)
            result, end = module(X, lengths=lengths, last_step=True)
            assert_same_bits(result, last_of(output, lengths or [6] * 4))
            assert_same_bits(tuple(end), tuple(state))
        assert_same_bits(module(X[:, 1], last_step=True)[0], module(X[:, 1])[0][-1])
        assert not module(X[:0], last_step=True)[0].any()
        assert module(X[:, :0], last_step=True)[0].shape == (0, output.shape[-1])


def test_batch_first_members_tokens_and_states():
    lstm = random_lstm(input_size=3, hidden_size=5, batch_first=True)
    x = np.swapaxes(X, 0, 1)
    output, state = lstm(x, lengths=LENGTHS)
    assert_same_bits(lstm(x, lengths=LENGTHS, last_step=True)[0], last_of(output, LENGTHS, 1))
    again = lstm(x, state, lengths=LENGTHS, last_step=True)[0]
    assert_same_bits(again, last_of(lstm(x, state, lengths=LENGTHS)[0], LENGTHS, 1))

    network = lw.Network([lw.Embedding(5, 3, seed=1), lw.LSTM(3, 4, seed=2), lw.Linear(4, 5, seed=3)], members=3)
    tokens = np.random.RandomState(1).randint(0, 5, (6, 4))
    lengths = np.array([LENGTHS, [1, 2, 3, 4], [6, 6, 6, 0]])
    output, _ = network(tokens, lengths=lengths)
    result, _ = network(tokens, lengths=lengths, last_step=True)
    for member in range(3):
        assert_same_bits(result[member], last_of(output[member], lengths[member]))
    assert_same_bits(network(tokens[:, 0], last_step=True)[0], network(tokens[:, 0])[0][:, -1])


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"reverse": True}], ids=str)
@pytest.mark.parametrize("skip_output", ["repeat", "zero"])
def test_a_last_step_that_is_left_out_is_what_the_whole_output_holds_there(skip_output, options):
    lstm = random_lstm(input_size=3, hidden_size=5, **options)
    features = 10 if lstm.bidirectional else 5
    skip = np.random.RandomState(2).random_sample((6, 4)) < 0.3
    skip[[5, 0], [0, 3]] = True  # at the end of one sequence, and the whole of another
    reset = np.zeros((6, 4), bool)
    reset[2, 1] = skip[2, 1] = True  # nothing is left after a reset
    x = np.where(skip[..., None], np.float32("nan"), X)
    layers = [lw.Dropout()], [lw.Linear(features, 2, seed=1)]
    for module in (lstm, *(lw.Network([copy.copy(lstm), *others]) for others in layers)):
        masks = {"reset": reset, "skip": skip, "skip_output": skip_output}
        output, state = module(x, lengths=LENGTHS, **masks)
        result, end = module(x, lengths=LENGTHS, **masks, last_step=True)
        assert_same_bits(result, last_of(output, LENGTHS))
        assert_same_bits(tuple(end), tuple(state))
        # A reverse direction repeats the next step, of which there is none.
        repeats = not lstm.reverse or isinstance(module, lw.Network) and isinstance(module[1], lw.Linear)
        assert result[0].any() == (skip_output == "repeat" and repeats)
        assert not result[1:].any()
        members = lw.Network([lw.LSTM(3, 5, seed=1), lw.Linear(5, 2, seed=2)], members=2)
        own = {"skip": np.stack([skip, ~skip]), "skip_output": skip_output}
        whole, _ = members(X, **own)
        expected = np.stack([last_of(part, [6] * 4) for part in whole])
        assert_same_bits(members(X, **own, last_step=True)[0], expected)


@pytest.mark.parametrize("pooling", [lw.Last, lw.Mean, lw.Max])
def test_a_network_that_pools_has_no_last_step(pooling):
    network = lw.Network([lw.LSTM(3, 5), pooling()])
    with pytest.raises(ValueError, match="last_step: expected False for a network whose output has no steps"):
        network(X, last_step=True)
    assert network(X, last_step=False)[0].shape == (4, 5)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_it_is_a_bool(value):
    with pytest.raises(TypeError, match="last_step: expected bool"):
        lw.LSTM(3, 5)(X, last_step=value)
