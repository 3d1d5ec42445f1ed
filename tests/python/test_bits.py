"""The same bits, always: every line of the design's promise.

For each instruction set: results of a row do not depend on the batch, the place in it, steps, padding or threads;
gradients with respect to parameters do not depend on threads; masks depend on their seed only.
"""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits, same_bits
from layers import ROWS, STEPS, data, directions_of, normal, random_lstm, rows_of, weights_from_above, with_gradients

STACK = {"num_layers": 2, "bidirectional": True}
# Sizes just below, at and above the registers' widths; several panels; one unit.
OPTIONS = {
    "one unit": {"input_size": 1, "hidden_size": 1, **STACK},
    "seven units": {"input_size": 3, "hidden_size": 7, **STACK},
    "projection": {"input_size": 5, "hidden_size": 17, "proj_size": 9, **STACK},
    "no bias": {"input_size": 17, "hidden_size": 31, "num_layers": 2, "bias": False},
    "one layer": {"input_size": 8, "hidden_size": 33},
    "a hundred units": {"input_size": 31, "hidden_size": 100},
}
LENGTHS = tuple(int(length) for length in np.random.RandomState(3).randint(0, STEPS + 1, ROWS))


@pytest.fixture(params=OPTIONS)
def lstm(request, isa, dtype):
    return random_lstm(dtype=dtype, **OPTIONS[request.param])


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 16])
def test_a_row_has_the_same_bits_in_any_batch(lstm, rows):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    whole, _ = with_gradients(lstm, x, start, d_output, d_state, lengths=LENGTHS, reset=reset)
    chosen = np.random.RandomState(rows).permutation(ROWS)[:rows]
    part, _ = with_gradients(
        lstm,
        x[:, chosen],
        rows_of(start, chosen),
        d_output[:, chosen],
        rows_of(d_state, chosen),
        lengths=np.array(LENGTHS)[chosen],
        reset=reset[:, chosen],
    )
    assert_same_bits(part, rows_of(whole, chosen))


def test_a_row_has_the_same_bits_at_any_place(lstm):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    same = [np.repeat(part[:, :1], ROWS, axis=1) for part in (x, *start, reset, d_output, *d_state)]
    results, _ = with_gradients(lstm, same[0], tuple(same[1:3]), same[4], tuple(same[5:]), reset=same[3])
    for row in range(1, ROWS):
        assert_same_bits(rows_of(results, [row]), rows_of(results, [0]), f"row {row}")


def test_an_unbatched_row_has_the_same_bits(lstm):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    whole, _ = with_gradients(lstm, x, start, d_output, d_state, reset=reset)
    for row in (0, 9, ROWS - 1):
        own = [part[:, row] for part in (x, *start, reset, d_output, *d_state)]
        alone, _ = with_gradients(lstm, own[0], tuple(own[1:3]), own[4], tuple(own[5:]), reset=own[3])
        assert_same_bits(alone, tuple(part[:, row] for part in whole))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(lstm, threads):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    options = {"lengths": LENGTHS, "reset": reset}
    lw.set_num_threads(1)
    expected = with_gradients(lstm, x, start, d_output, d_state, **options), lstm(x, start, **options)
    lw.set_num_threads(threads)
    assert_same_bits(with_gradients(lstm, x, start, d_output, d_state, **options), expected[0])
    assert_same_bits(lstm(x, start, **options), expected[1])


def test_a_call_a_recording_and_a_trace_have_the_same_bits(lstm):
    x, start, reset = data(lstm)
    options = {"lengths": LENGTHS, "reset": reset}
    output, state = lstm(x, start, **options)
    tape, trace = lstm.record(x, start, **options, training=False), lstm.trace(x, start, **options)
    assert_same_bits((tape.output, tuple(tape.state)), (output, state))
    top = list(trace)[-directions_of(lstm) :]
    assert_same_bits(np.concatenate([trace[key].hidden for key in top], axis=-1), output)


def test_step_by_step_has_the_same_bits_as_whole(isa, dtype):
    for name in ("seven units", "projection", "no bias", "one layer", "a hundred units", "one unit"):
        lstm = random_lstm(dtype=dtype, **(OPTIONS[name] | {"bidirectional": False}))
        x, start, reset = data(lstm)
        whole, end = lstm(x, start, reset=reset)
        stream, single = lstm.stream(ROWS), lstm.stream()
        stream.state = start
        single.state = tuple(np.ascontiguousarray(part[:, 5]) for part in start)
        state = start
        for step in range(STEPS):
            assert_same_bits(stream.step(x[step], reset=reset[step]), whole[step], f"{name}, step {step}")
            assert_same_bits(
                single.step(x[step, 5], reset=bool(reset[step, 5])), whole[step, 5], f"{name}, step {step}"
            )
            one, state = lstm(x[step : step + 1], state, reset=reset[step : step + 1])
            assert_same_bits(one[0], whole[step], f"{name}, call of step {step}")
        assert_same_bits(tuple(stream.state), end)
        assert_same_bits(tuple(single.state), tuple(part[:, 5] for part in end))
        assert_same_bits(state, end)


def test_padded_and_ragged_have_the_same_bits(lstm):
    x, start, _ = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    ragged, _ = with_gradients(lstm, x, start, d_output, d_state, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        alone, _ = with_gradients(
            lstm,
            x[:length, row : row + 1],
            rows_of(start, [row]),
            d_output[:length, row : row + 1],
            rows_of(d_state, [row]),
        )
        cut = [part[:length, row : row + 1] for part in (ragged[0], ragged[3])]
        assert_same_bits((alone[0], alone[3]), tuple(cut), f"row {row} of length {length}")
        own = [rows_of([ragged[place]], [row])[0] for place in (1, 2, 4, 5)]
        assert_same_bits((alone[1], alone[2], alone[4], alone[5]), tuple(own), f"row {row} of length {length}")


def test_padding_changes_no_bit_of_anything(lstm):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    results, parameters = with_gradients(lstm, x, start, d_output, d_state, reset=reset)
    more = np.full((5, ROWS, 1), np.nan, lstm.dtype)
    padded, padded_parameters = with_gradients(
        lstm,
        np.concatenate([x, np.repeat(more, x.shape[2], axis=2)]),
        start,
        np.concatenate([d_output, np.repeat(more, d_output.shape[2], axis=2)]),
        d_state,
        lengths=[STEPS] * ROWS,
        reset=np.concatenate([reset, np.ones((5, ROWS), bool)]),
    )
    cut = (padded[0][:STEPS], padded[1], padded[2], padded[3][:STEPS], padded[4], padded[5])
    assert_same_bits(cut, results)
    assert_same_bits(padded_parameters, parameters)


def test_memory_layout_changes_no_bit(lstm):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    expected = with_gradients(lstm, x, start, d_output, d_state, reset=reset)
    for lay in (
        np.asfortranarray,
        lambda part: np.repeat(part, 2, axis=-1)[..., ::2],
        lambda part: part[::-1].copy()[::-1],
    ):
        laid = [lay(part) for part in (x, *start, d_output, *d_state)]
        actual = with_gradients(lstm, laid[0], tuple(laid[1:3]), laid[3], tuple(laid[4:]), reset=reset)
        assert_same_bits(actual, expected)


def test_earlier_calls_change_no_bit(lstm):
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    expected = with_gradients(lstm, x, start, d_output, d_state, reset=reset)
    lstm.record(normal(8, (40, 50, lstm.input_size), lstm.dtype))
    lstm(np.full((3, 70, lstm.input_size), np.nan, lstm.dtype))
    assert_same_bits(with_gradients(lstm, x, start, d_output, d_state, reset=reset), expected)


# Long and wide enough that work is cut into chunks of steps, tiles of rows and parts for threads.
LARGE = [(400, 3, 7, 31), (37, 150, 17, 33), (3, 1, 7, 200), (150, 64, 3, 64)]


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_work_has_the_same_bits(isa, dtype, shape):
    steps, rows, features, hidden = shape
    lstm = random_lstm(input_size=features, hidden_size=hidden, dtype=dtype)
    x, start, reset = data(lstm, steps, rows)
    above = weights_from_above(lstm, steps, rows)
    lengths = np.random.RandomState(6).randint(steps // 2, steps + 1, rows)
    lw.set_num_threads(1)
    expected, parameters = with_gradients(lstm, x, start, *above, lengths=lengths, reset=reset)
    for threads in (2, 3):
        lw.set_num_threads(threads)
        actual, actual_parameters = with_gradients(lstm, x, start, *above, lengths=lengths, reset=reset)
        assert_same_bits(actual, expected, f"{threads} threads")
        assert_same_bits(actual_parameters, parameters, f"{threads} threads")
        assert_same_bits(lstm(x, start, lengths=lengths, reset=reset)[0], expected[0], f"{threads} threads")
    row, length = rows // 2, int(lengths[rows // 2])
    alone, _ = with_gradients(
        lstm,
        x[:length, row],
        tuple(part[:, row] for part in start),
        above[0][:length, row],
        tuple(part[:, row] for part in above[1]),
        reset=reset[:length, row],
    )
    assert_same_bits((alone[0], alone[3]), (expected[0][:length, row], expected[3][:length, row]))


def test_masks_depend_on_their_seed_alone(isa, dtype):
    lstm = random_lstm(input_size=5, hidden_size=31, num_layers=3, dropout=0.5, bidirectional=True, dtype=dtype)
    x, start, reset = data(lstm)
    d_output, d_state = weights_from_above(lstm)
    options = {"lengths": LENGTHS, "reset": reset, "training": True}
    lw.set_num_threads(1)
    expected = with_gradients(lstm, x, start, d_output, d_state, mask_seed=7, **options)
    for threads in (1, 2, 3):
        lw.set_num_threads(threads)
        actual = with_gradients(lstm, x, start, d_output, d_state, mask_seed=7, **options)
        assert_same_bits(actual, expected, f"{threads} threads")
    other, _ = with_gradients(lstm, x, start, d_output, d_state, mask_seed=8, **options)
    assert not np.array_equal(other[0], expected[0][0])
    untrained, _ = with_gradients(lstm, x, start, d_output, d_state, mask_seed=7, lengths=LENGTHS, reset=reset)
    assert not np.array_equal(untrained[0], expected[0][0])


def test_masks_are_keyed_by_layer_step_row_and_unit():
    options = {"input_size": 5, "hidden_size": 31, "num_layers": 2, "dropout": 0.5}
    lstm = random_lstm(dtype="float64", **options)
    x = normal(1, (9, 8, 5), "float64")
    whole = lstm.record(x, training=True, mask_seed=3).output
    assert_same_bits(lstm.record(x[:4], training=True, mask_seed=3).output, whole[:4])
    assert_same_bits(lstm.record(x[:, :3], training=True, mask_seed=3).output, whole[:, :3])
    same = np.repeat(np.repeat(x[:1, :1], 9, axis=0), 8, axis=1)
    rows = lstm.record(same, training=True, mask_seed=3).output[0]
    assert np.unique(rows, axis=0).shape[0] == 8
    # Every bit of the seed counts.
    outputs = [lstm.record(x, training=True, mask_seed=seed).output for seed in (5, 2**32 + 5, 2**63 + 5, 2**63 + 5)]
    assert_same_bits(outputs[3], outputs[2])
    assert not any(same_bits(outputs[one], outputs[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("sharing", ["batch", "units"])
def test_training_has_the_same_bits_for_any_number_of_threads(isa, dtype, sharing):
    rows, hidden = (50, 17) if sharing == "batch" else (2, 70)
    histories = []
    for threads in (1, 2, 3):
        lw.set_num_threads(threads)
        network = lw.Network(
            [
                lw.Embedding(11, 7, dtype=dtype, seed=1),
                lw.LSTM(7, hidden, 2, dropout=0.3, dtype=dtype, seed=2),
                lw.Linear(hidden, 11, dtype=dtype, seed=3),
            ]
        )
        trainer = lw.Trainer(network, loss="cross_entropy", optimizer=lw.optim.Adam(), clip_norm=0.5, seed=5)
        random = np.random.RandomState(9)
        batches = [(random.randint(0, 11, (9, rows)), random.randint(0, 11, (9, rows))) for _ in range(4)]
        losses = [trainer.step(x, y)[0] for x, y in batches]
        histories.append((losses, network.state_dict()))
    assert histories[0][0][3] != histories[0][0][0]
    for losses, state in histories[1:]:
        assert losses == histories[0][0]
        assert_same_bits(state, histories[0][1])


def test_instruction_sets_agree_closely(dtype):
    lstm = random_lstm(input_size=17, hidden_size=31, num_layers=2, bidirectional=True, dtype=dtype)
    x, start, reset = data(lstm)
    outputs = []
    for name in lw.cpu_info()["available_isas"]:
        lw.set_isa(name)
        outputs.append(lstm(x, start, reset=reset)[0])
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)


def test_the_callers_floating_point_state_is_left_alone():
    lstm = random_lstm(input_size=5, hidden_size=31)
    lw.set_num_threads(2)
    tiny = np.full(4, np.finfo(np.float32).tiny)
    tape = lstm.record(normal(1, (9, 40, 5)))
    tape.backward(np.array(tape.output))
    lstm.stream().step(normal(1, (5,)))
    assert np.all(tiny / np.float32(4) > 0)
