"""reset: before a step the state becomes the layer's own start state, forward and in reverse."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm

STEPS, ROWS = 11, 6
LENGTHS = (11, 7, 1, 0, 9, 11)


def random_reset(seed=0, share=0.3):
    return np.random.RandomState(seed).random_sample((STEPS, ROWS)) < share


def segments(reset, length):
    """[start, end) of the pieces of one row between its resets; a reset at step 0 adds none."""
    starts = [0, *(step for step in range(1, length) if reset[step])]
    return list(zip(starts, [*starts[1:], length], strict=True))


def by_segments(lstm, x, start, reset, length):
    """One row, (T, F) and (states, size), as independent calls: what reset means."""
    directions = 2 if lstm.bidirectional else 1
    if length == 0:
        return np.zeros((len(x), directions * (lstm.proj_size or lstm.hidden_size)), x.dtype), start
    output = []
    ends = []
    pieces = segments(reset, length)
    for begin, end in pieces:
        given = tuple(np.zeros_like(part) for part in start)
        for part, own in zip(given, start, strict=True):
            if begin == 0 and not reset[0]:
                part[0::directions] = own[0::directions]
            if end == length and directions == 2:
                part[1::2] = own[1::2]
        piece, state = lstm(x[begin:end], given)
        output.append(piece)
        ends.append(state)
    output.append(np.zeros((len(x) - length, output[0].shape[1]), x.dtype))
    final = tuple(np.array(part) for part in ends[-1])
    if directions == 2:
        for part, first in zip(final, ends[0], strict=True):
            part[1::2] = first[1::2]
    return np.concatenate(output), final


def start_of(lstm, rows=ROWS):
    states = lstm.num_layers * (2 if lstm.bidirectional else 1)
    sizes = (lstm.proj_size or lstm.hidden_size, lstm.hidden_size)
    return tuple(normal(5 + place, (states, rows, size), lstm.dtype) for place, size in enumerate(sizes))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 3}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}],
)
def test_a_reset_row_is_its_segments_one_by_one(options, lengths, dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype=dtype, **options)
    x, start, reset = normal(1, (STEPS, ROWS, 3), dtype), start_of(lstm), random_reset()
    reset[0, :3] = (True, True, False)
    output, state = lstm(x, start, lengths=lengths, reset=reset)
    for row in range(ROWS):
        own = tuple(part[:, row] for part in start)
        length = STEPS if lengths is None else lengths[row]
        expected, expected_state = by_segments(lstm, x[:, row], own, reset[:, row], length)
        assert_same_bits(output[:, row], expected, f"output of row {row}")
        assert_same_bits(tuple(part[:, row] for part in state), expected_state, f"state of row {row}")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint64", ">f8"])
def test_reset_may_be_numbers_that_are_0_or_1(kind):
    lstm = random_lstm(input_size=3, hidden_size=5)
    network = lw.Network([random_lstm(input_size=3, hidden_size=5), lw.Linear(5, 2, seed=1)])
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.1))
    x, reset, y = normal(1, (STEPS, ROWS, 3)), random_reset(), normal(2, (STEPS, ROWS, 2))
    numbers = reset.astype(kind)
    assert_same_bits(lstm(x, reset=numbers), lstm(x, reset=reset))
    assert_same_bits(lstm.record(x, reset=-0.0 + numbers).output, lstm(x, reset=reset)[0])
    assert_same_bits(lstm(x[:, 0], reset=numbers[:, 0].tolist()), lstm(x[:, 0], reset=reset[:, 0]))
    assert trainer.evaluate(x, y, reset=numbers)[0] == trainer.evaluate(x, y, reset=reset)[0]
    assert trainer.step(x, y, reset=numbers)[0] == pytest.approx(trainer.evaluate(x, y, reset=reset)[0], rel=0.1)


@pytest.mark.parametrize("wrong", [0.5, -1.0, 2.0, 1e-30, np.nan, np.inf])
def test_other_numbers_are_refused_with_their_place(wrong):
    lstm = random_lstm(input_size=3, hidden_size=5)
    x, reset = normal(1, (STEPS, ROWS, 3)), random_reset().astype(float)
    reset[7, 2] = reset[8, 0] = wrong
    with pytest.raises(ValueError, match=rf"^reset: expected 0 or 1, got {wrong} at \[7, 2\]$"):
        lstm(x, reset=reset)
    with pytest.raises(ValueError, match=rf"^reset: expected 0 or 1, got {wrong} at \[7\]$"):
        lstm(x[:, 2], reset=reset[:, 2])


def test_reset_takes_the_shape_of_x(dtype):
    options = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True, "dtype": dtype}
    lstm, batch_first = random_lstm(**options), random_lstm(**options, batch_first=True)
    x, reset = normal(1, (STEPS, ROWS, 3), dtype), random_reset()
    output, state = lstm(x, reset=reset)
    swapped, swapped_state = batch_first(np.swapaxes(x, 0, 1), reset=reset.T)
    assert_same_bits((np.swapaxes(swapped, 0, 1), swapped_state), (output, state))
    alone, alone_state = lstm(x[:, 1], reset=reset[:, 1])
    assert_same_bits((alone, alone_state), (output[:, 1], tuple(part[:, 1] for part in state)))


def test_reset_at_step_0_discards_the_start_state_of_the_forward_direction_only():
    lstm = random_lstm(input_size=3, hidden_size=5, bidirectional=True)
    x, start = normal(1, (STEPS, ROWS, 3)), start_of(lstm)
    reset = np.zeros((STEPS, ROWS), bool)
    reset[0] = True
    without_forward = tuple(np.array(part) for part in start)
    for part in without_forward:
        part[0] = 0
    assert_same_bits(lstm(x, start, reset=reset), lstm(x, without_forward))


def test_reset_in_padding_does_not_matter():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    x, start, reset = normal(1, (STEPS, ROWS, 3)), start_of(lstm), random_reset()
    other = np.array(reset)
    for row, length in enumerate(LENGTHS):
        other[length:, row] ^= True
    expected = lstm(x, start, lengths=LENGTHS, reset=reset)
    assert_same_bits(lstm(x, start, lengths=LENGTHS, reset=other), expected)


def test_without_any_reset_nothing_changes():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    x, start = normal(1, (STEPS, ROWS, 3)), start_of(lstm)
    assert_same_bits(lstm(x, start, reset=np.zeros((STEPS, ROWS), bool)), lstm(x, start))


def test_reset_may_have_any_strides():
    lstm = random_lstm(input_size=3, hidden_size=5)
    x, reset = normal(1, (STEPS, ROWS, 3)), random_reset()
    expected = lstm(x, reset=reset)
    assert_same_bits(lstm(x, reset=np.asfortranarray(reset)), expected)
    assert_same_bits(lstm(x, reset=np.repeat(reset, 2, axis=1)[:, ::2]), expected)
    assert_same_bits(lstm(x, reset=np.ascontiguousarray(reset[::-1, ::-1])[::-1, ::-1]), expected)


def test_record_and_trace_reset_as_a_call_does(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, dtype=dtype)
    x, start, reset = normal(1, (STEPS, ROWS, 3), dtype), start_of(lstm), random_reset()
    output, state = lstm(x, start, lengths=LENGTHS, reset=reset)
    tape = lstm.record(x, start, lengths=LENGTHS, reset=reset)
    assert_same_bits((tape.output, tuple(tape.state)), (output, state))
    trace = lstm.trace(x, start, lengths=LENGTHS, reset=reset)
    both = np.concatenate([trace["l1"].hidden, trace["l1_reverse"].hidden], axis=-1)
    assert_same_bits(both, output)


def test_gradients_of_segments_add_up():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, dtype="float64")
    x, reset = normal(1, (STEPS, 1, 3), "float64"), np.zeros((STEPS, 1), bool)
    reset[4] = True
    tape = lstm.record(x, reset=reset)
    d_output = normal(2, tape.output.shape, "float64")
    whole = tape.backward(d_output)
    late = lstm.record(x[4:]).backward(d_output[4:])
    early = lstm.record(x[:4]).backward(d_output[:4])
    assert_same_bits(whole.x, np.concatenate([early.x, late.x]))
    for name, value in whole.parameters.items():
        np.testing.assert_allclose(value, early.parameters[name] + late.parameters[name], rtol=0, atol=1e-13)
