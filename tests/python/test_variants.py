"""The variants of the cell: the same bits always, start states, traces and residual connections.

Gradients, chains and training are in test_variants_training.py, random masks in test_variants_masks.py, comparisons
with other systems in test_variants_peers.py.
"""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import data, directions_of, random_lstm, results_of, rows_of, weights_from_above, with_gradients
from variants import EVERY, PLAIN, RANDOM, forward_only

SIZES = {"input_size": 5, "hidden_size": 9}
STEPS, ROWS = 6, 7
LENGTHS = np.array([6, 0, 3, 1, 6, 5, 2])


@pytest.fixture(params=PLAIN)
def lstm(request, isa, dtype):
    return random_lstm(dtype=dtype, **SIZES, **PLAIN[request.param])


def arguments_of(lstm, steps=STEPS, rows=ROWS):
    """Arguments for a layer: x, start, reset, (d_output, d_state)."""
    return *data(lstm, steps, rows), weights_from_above(lstm, steps, rows)


# ---- The same bits.


def test_a_row_has_the_same_bits_in_any_batch(lstm):
    x, start, reset, (d_output, d_state) = arguments_of(lstm)
    whole, _ = with_gradients(lstm, x, start, d_output, d_state, lengths=LENGTHS, reset=reset)
    for chosen in ([4], [6, 2, 0]):
        part, _ = with_gradients(
            lstm,
            x[:, chosen],
            rows_of(start, chosen),
            d_output[:, chosen],
            rows_of(d_state, chosen),
            lengths=LENGTHS[chosen],
            reset=reset[:, chosen],
        )
        assert_same_bits(part, rows_of(whole, chosen), f"rows {chosen}")
    own = [part[:, 4] for part in (x, *start, d_output, *d_state)]
    alone, _ = with_gradients(lstm, own[0], tuple(own[1:3]), own[3], tuple(own[4:]), reset=reset[:, 4])
    assert_same_bits(alone, tuple(part[:, 4] for part in whole))


def test_padded_and_ragged_have_the_same_bits(lstm):
    x, start, _, (d_output, d_state) = arguments_of(lstm)
    for row, length in enumerate(LENGTHS):
        x[length:, row] = np.nan
        d_output[length:, row] = np.nan
    for given in (start, None):
        ragged, _ = with_gradients(lstm, x, given, d_output, d_state, lengths=LENGTHS)
        for row, length in enumerate(LENGTHS):
            alone, _ = with_gradients(
                lstm,
                x[:length, row],
                None if given is None else tuple(part[:, row] for part in given),
                d_output[:length, row],
                tuple(part[:, row] for part in d_state),
            )
            expected = [ragged[0][:length, row], *(ragged[place][:, row] for place in (1, 2))]
            expected += [ragged[3][:length, row], *(ragged[place][:, row] for place in (4, 5))]
            assert_same_bits(alone, tuple(expected), f"row {row} of length {length}")
            assert not ragged[0][length:, row].any()
            assert not ragged[3][length:, row].any()


@pytest.mark.parametrize("name", PLAIN)
def test_step_by_step_has_the_same_bits_as_whole(name, isa, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, **forward_only(PLAIN[name]))
    x, start, reset, _ = arguments_of(lstm)
    for given in (start, None):
        whole, end = lstm(x, given, reset=reset)
        stream, single, state = lstm.stream(ROWS), lstm.stream(), given
        if given is not None:
            stream.state = given
            single.state = tuple(np.ascontiguousarray(part[:, 5]) for part in given)
        for step in range(STEPS):
            assert_same_bits(stream.step(x[step], reset=reset[step]), whole[step], f"step {step}")
            assert_same_bits(single.step(x[step, 5], reset=bool(reset[step, 5])), whole[step, 5], f"step {step}")
            one, state = lstm(x[step : step + 1], state, reset=reset[step : step + 1])
            assert_same_bits(one[0], whole[step], f"call of step {step}")
        assert_same_bits(tuple(stream.state), end)
        assert_same_bits(tuple(single.state), tuple(part[:, 5] for part in end))
        assert_same_bits(state, end)


def test_a_call_a_recording_and_a_trace_have_the_same_bits(lstm):
    x, start, reset, _ = arguments_of(lstm)
    for given in (start, None):
        call = lstm(x, given, lengths=LENGTHS, reset=reset)
        for result in (
            lstm.record(x, given, lengths=LENGTHS, reset=reset, training=False),
            lstm.trace(x, given, lengths=LENGTHS, reset=reset),
        ):
            assert_same_bits((result.output, tuple(result.state)), call)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("rows", "hidden"), [(23, 9), (2, 70)], ids=["batch", "units"])
def test_threads_change_no_bit(name, isa, dtype, rows, hidden):
    lstm = random_lstm(dtype=dtype, input_size=5, hidden_size=hidden, **EVERY[name])
    x, start, reset, (d_output, d_state) = arguments_of(lstm, 9, rows)
    lengths = np.random.RandomState(3).randint(0, 10, rows)
    results = []
    for threads in (1, 2, 3):
        lw.set_num_threads(threads)
        results.append(
            [
                with_gradients(lstm, x, start, d_output, d_state, lengths=lengths, training=training, mask_seed=7)
                for training in (False, True)
            ]
            + [lstm(x, start, reset=reset)]
        )
    assert_same_bits(results[1], results[0], "2 threads")
    assert_same_bits(results[2], results[0], "3 threads")
    acts_at_random = name.startswith("random") or lstm.zoneout != (0.0, 0.0)
    assert np.array_equal(results[0][0][0][0], results[0][1][0][0]) != acts_at_random


# Long and wide enough that work is cut into chunks of steps, tiles of rows and parts for threads.
@pytest.mark.parametrize("name", ["everything", "random: all, with projection", "peephole",
                                  pytest.param("everything, coupled", marks=pytest.mark.slow)])  # fmt: skip
@pytest.mark.parametrize("shape", [(150, 3, 7, 31), (9, 70, 17, 33)], ids=str)
def test_large_work_has_the_same_bits(name, isa, dtype, shape):
    steps, rows, features, hidden = shape
    lstm = random_lstm(dtype=dtype, input_size=features, hidden_size=hidden, **EVERY[name])
    with lstm.edit() as parameters:  # so that no combination grows without bound
        for parameter in parameters:
            parameters[parameter] *= 0.5
    x, start, reset, above = arguments_of(lstm, steps, rows)
    lengths = np.random.RandomState(6).randint(steps // 2, steps + 1, rows)
    results = []
    for threads in (1, 2, 3):
        lw.set_num_threads(threads)
        results.append(
            [
                with_gradients(lstm, x, start, *above, lengths=lengths, reset=reset, training=training, mask_seed=7)
                for training in (False, True)
            ]
        )
    assert_same_bits(results[1:], [results[0], results[0]])
    assert np.isfinite(results[0][1][0][0]).all()
    row, length = rows // 2, int(lengths[rows // 2])
    alone, _ = with_gradients(
        lstm,
        x[:length, row],
        tuple(part[:, row] for part in start),
        above[0][:length, row],
        tuple(part[:, row] for part in above[1]),
        reset=reset[:length, row],
    )
    expected = results[0][0][0]
    assert_same_bits((alone[0], alone[3]), (expected[0][:length, row], expected[3][:length, row]))


def test_memory_layout_changes_no_bit(lstm):
    x, start, reset, (d_output, d_state) = arguments_of(lstm)
    expected = with_gradients(lstm, x, start, d_output, d_state, reset=reset)

    def read_only(part):
        part = np.array(part)
        part.flags.writeable = False
        return part

    for lay in (np.asfortranarray, lambda part: np.repeat(part, 2, axis=-1)[..., ::2], read_only):
        laid = [lay(part) for part in (x, *start, d_output, *d_state)]
        actual = with_gradients(lstm, laid[0], tuple(laid[1:3]), laid[3], tuple(laid[4:]), reset=lay(reset))
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(lstm, value):
    x, start, reset, (d_output, d_state) = arguments_of(lstm)
    kept = [row for row in range(ROWS) if row != 3]
    whole, _ = with_gradients(lstm, x, start, d_output, d_state, reset=reset)
    x[2, 3] = value
    spoilt, _ = with_gradients(lstm, x, start, d_output, d_state, reset=reset)
    assert_same_bits(rows_of(spoilt, kept), rows_of(whole, kept))
    if np.isnan(value) and not lstm.bidirectional:
        assert_same_bits(spoilt[0][:2], whole[0][:2])
        assert np.isnan(spoilt[0][2, 3]).all()


def test_instruction_sets_agree_closely(dtype):
    for name, options in PLAIN.items():
        lstm = random_lstm(dtype=dtype, **SIZES, **options)
        x, start, reset, _ = arguments_of(lstm)
        outputs = []
        for isa in lw.cpu_info()["available_isas"]:
            lw.set_isa(isa)
            outputs.append(lstm(x, start, reset=reset)[0])
        for output in outputs[1:]:
            assert_close(output, outputs[0], 1e-5 if dtype == "float32" else 1e-13, name)


@pytest.mark.parametrize("name", EVERY)
def test_a_cell_is_one_step_of_a_layer(name, isa, dtype):
    options = SIZES | forward_only(EVERY[name]) | {"dtype": dtype}
    options = {key: value for key, value in options.items() if key not in ("num_layers", "residual", "dropout")}
    lstm = random_lstm(**options)
    cell = lw.LSTMCell(**{key: value for key, value in options.items() if "dropout" not in key})  # which it refuses
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    x, (h, c), _, _ = arguments_of(lstm)
    for state in (None, (h[0], c[0])):
        expected = lstm(x[:1], state and (h, c))[1]
        assert_same_bits(cell(x[0], state), tuple(part[0] for part in expected))
        row = cell(x[0, 4], state and (h[0, 4], c[0, 4]))
        assert_same_bits(row, tuple(part[0, 4] for part in expected))


# ---- Calls, and recordings without training, of layers with options that act at random in training.


@pytest.mark.parametrize("name", RANDOM)
def test_only_training_acts_at_random(name, dtype):
    options = SIZES | RANDOM[name] | {"dtype": dtype}
    lstm = random_lstm(**options)
    sure = {key: value for key, value in options.items() if "dropout" not in key}
    x, start, reset, above = arguments_of(lstm)
    expected = with_gradients(random_lstm(**sure), x, start, *above, lengths=LENGTHS, reset=reset)
    for seed in (None, 3):
        actual = with_gradients(lstm, x, start, *above, lengths=LENGTHS, reset=reset, mask_seed=seed)
        assert_same_bits(actual, expected)
    assert_same_bits(lstm(x, start, lengths=LENGTHS, reset=reset)[0], expected[0][0])
    training = lstm.record(x, start, training=True, mask_seed=3).output
    assert not np.array_equal(training, lstm(x, start)[0])


def test_zoneout_outside_training_mixes_in_its_shares(dtype):
    options = SIZES | {"proj_size": 4, "dtype": dtype}
    plain, lstm = random_lstm(**options), random_lstm(**options, zoneout=(0.25, 0.5))
    x, (h, c), _, _ = arguments_of(lstm)
    _, (new_h, new_c) = plain(x[:1], (h, c))
    output, state = lstm(x[:1], (h, c))
    assert_close(state[0], 0.25 * h + 0.75 * new_h, 1e-6 if dtype == "float32" else 1e-15)
    assert_close(state[1], 0.5 * c + 0.5 * new_c, 1e-6 if dtype == "float32" else 1e-15)
    assert_same_bits(output, state[0])


# ---- Start states.


def learned_start(lstm, rows):
    """The learned start state in the form in which a start state is passed."""
    suffixes = [name.removeprefix("c_0") for name in lstm.parameters if name.startswith("c_0")]
    return tuple(
        np.repeat(np.stack([lstm.parameters[part + suffix] for suffix in suffixes])[:, None], rows, axis=1)
        for part in ("h_0", "c_0")
    )


@pytest.fixture(params=["learned start state", "everything", "everything, coupled"])
def learned(request, isa, dtype):
    return random_lstm(dtype=dtype, **SIZES, **PLAIN[request.param])


def test_a_state_that_is_not_passed_is_the_learned_one(learned):
    x, start, reset, above = arguments_of(learned)
    own = learned_start(learned, ROWS)
    options = {"lengths": LENGTHS, "reset": reset}
    results, gradients = with_gradients(learned, x, None, *above, **options)
    passed, other_gradients = with_gradients(learned, x, own, *above, **options)
    assert_same_bits(results, passed)
    for name in gradients:
        if not name.startswith(("h_0", "c_0")):
            assert_same_bits(gradients[name], other_gradients[name], name)
            continue
        # The gradient of a learned start state is the sum over rows of that of the start state, and over resets. If a
        # state is passed, only the resets contribute.
        place = list(learned.trace(x)).index(name[4:])
        of_rows = results[4 if name.startswith("h_0") else 5][place]
        assert_close(
            gradients[name],
            of_rows.sum(axis=0) + other_gradients[name],
            1e-5 if learned.dtype == np.float32 else 1e-13,
            name,
        )
    assert not np.array_equal(learned(x, start)[0], results[0])


def test_a_passed_state_has_precedence_until_a_reset(learned):
    x, start, reset, above = arguments_of(learned)
    no_gradient = with_gradients(learned, x, start, *above)[1]
    assert not any(no_gradient[name].any() for name in no_gradient if name.startswith(("h_0", "c_0")))
    reset[:] = False
    reset[0] = True
    if not learned.bidirectional:
        assert_same_bits(learned(x, start, reset=reset), learned(x))
        tape = learned.record(x, start, reset=reset, training=False)
        assert not any(part.any() for part in tape.backward(*above).state)


@pytest.mark.parametrize("options", [{"learn_start_state": True}, {"learn_start_state": True, "zoneout": (0.3, 0.6)},
                                     {"zoneout": (0.3, 0.6), "peephole": True}])  # fmt: skip
def test_a_segment_after_a_reset_is_a_sequence_of_its_own(options, dtype):
    for more in ({}, {"num_layers": 2, "residual": True}, {"reverse": True}):
        lstm = random_lstm(dtype=dtype, **SIZES, **options, **more)
        x, start, _, _ = arguments_of(lstm)
        reset = np.zeros((STEPS, ROWS), bool)
        reset[4, :5] = True
        whole, end = lstm(x, start, reset=reset)
        if lstm.reverse:  # the later segment is computed first, so it is the earlier one that starts afresh
            assert_same_bits(whole[:4, :5], lstm(x[:4, :5])[0])
            assert_same_bits(rows_of(end, slice(0, 5)), lstm(x[:4, :5])[1])
        else:
            assert_same_bits(whole[4:, :5], lstm(x[4:, :5])[0])
            assert_same_bits(rows_of(end, slice(0, 5)), lstm(x[4:, :5])[1])
        assert_same_bits(whole[:, 5:], lstm(x[:, 5:], rows_of(start, slice(5, None)))[0])


def test_empty_sequences_pass_the_learned_start_state_through(learned):
    x, _, _, (d_output, d_state) = arguments_of(learned)
    own = learned_start(learned, ROWS)
    for given, lengths in ((x, [0] * ROWS), (x[:0], None)):
        tape = learned.record(given, lengths=lengths, training=False)
        assert_same_bits(tuple(tape.state), own)
        assert not tape.output.any()
        gradients = tape.backward(d_output[: len(given)], d_state)
        assert_same_bits(tuple(gradients.state), d_state)
        for name, value in gradients.parameters.items():
            expected = np.zeros_like(value)
            if name.startswith(("h_0", "c_0")):
                place = list(learned.trace(x)).index(name[4:])
                expected = d_state[0 if name.startswith("h_0") else 1][place].sum(axis=0)
            assert_close(value, expected, 1e-5 if learned.dtype == np.float32 else 1e-14, name)
    output, state = learned(x[:, :0])
    assert output.shape[1] == 0
    assert state[0].shape[1] == 0


def test_streams_begin_and_restart_at_the_learned_start_state(isa, dtype):
    for name in ("learned start state", "everything", "everything, coupled"):
        lstm = random_lstm(dtype=dtype, **SIZES, **forward_only(PLAIN[name]))
        x, start, _, _ = arguments_of(lstm)
        own, expected = learned_start(lstm, ROWS), lstm(x)[0]
        stream, single = lstm.stream(ROWS), lstm.stream()
        assert_same_bits(tuple(stream.state), own)
        assert_same_bits(tuple(single.state), tuple(part[:, 0] for part in own))
        assert_same_bits(np.stack([stream.step(step) for step in x]), expected)
        stream.reset()
        assert_same_bits(tuple(stream.state), own)
        stream.state = start
        stream.reset()
        assert_same_bits(np.stack([stream.step(step) for step in x]), expected)
        stream.state = start
        mask = np.arange(ROWS) % 2 == 0
        stream.step(x[0], reset=mask)
        mixed = tuple(np.where(mask[:, None], part, given) for part, given in zip(own, start, strict=True))
        assert_same_bits(tuple(stream.state), lstm(x[:1], mixed)[1])
        # A stream keeps the start state of the moment in which it was made.
        with lstm.edit() as parameters:
            parameters["h_0_l0"] += 1
        stream.reset()
        assert_same_bits(tuple(stream.state), own)


# ---- Traces.


@pytest.mark.parametrize("name", PLAIN)
def test_a_trace_shows_what_the_cells_did(name, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, **PLAIN[name])
    x, start, _, _ = arguments_of(lstm)
    trace = lstm.trace(x, start, lengths=LENGTHS)
    valid = np.arange(STEPS)[:, None] < LENGTHS
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    p_hidden, p_cell = lstm.zoneout
    hidden = []
    for place, (key, layer) in enumerate(trace.items()):
        backward = key.endswith("_reverse")
        if lstm.forget_gate == "coupled":
            assert_same_bits(layer.forget_gate, np.where(valid[..., None], 1 - layer.input_gate, 0).astype(dtype))
        elif not lstm.forget_gate:
            assert_same_bits(layer.forget_gate, np.broadcast_to(valid[..., None], layer.cell.shape).astype(dtype))
        # The cell's equation, from the gates and c_prev.
        for row, length in enumerate(LENGTHS):
            before = start[1][place, row]
            for t in reversed(range(length)) if backward else range(length):
                new = layer.forget_gate[t, row] * before + layer.input_gate[t, row] * layer.candidate[t, row]
                if lstm.cell_clip is not None:
                    new = np.clip(new, -lstm.cell_clip, lstm.cell_clip)
                assert_close(layer.cell[t, row], p_cell * before + (1 - p_cell) * new, tolerance, f"cell of {key}")
                before = layer.cell[t, row]
            if length:
                end = 0 if backward else length - 1
                assert_same_bits(layer.cell[end, row], trace.state[1][place, row])
                assert_same_bits(layer.hidden[end, row], trace.state[0][place, row])
        assert not any(signal[~valid].any() for signal in layer)
        if lstm.activations is None and not (lstm.proj_size or lstm.layer_norm or p_hidden or p_cell):
            assert_close(layer.hidden, layer.output_gate * np.tanh(layer.cell), tolerance, f"hidden of {key}")
        hidden.append(layer.hidden)
    # A stack's output is that of its top layer; with residual connections the sum of all layers'.
    width = directions_of(lstm)
    layers = [np.concatenate(hidden[at : at + width], axis=-1) for at in range(0, len(hidden), width)]
    expected = layers[-1]
    if lstm.residual:
        expected = layers[0]
        for layer in layers[1:]:
            expected = layer + expected
    assert_same_bits(trace.output, expected)


# ---- Residual connections.


def test_residual_layers_are_layers_with_a_sum_between(isa, dtype):
    options = SIZES | {"bidirectional": True, "dtype": dtype}
    stack = random_lstm(**options, num_layers=3, residual=True)
    x, start, reset, above = arguments_of(stack)
    layers = []
    for layer in range(3):
        single = lw.LSTM(**(options | ({"input_size": 18} if layer else {})))
        parts = stack.state_dict().items()
        single.load_state_dict({name.replace(f"_l{layer}", "_l0"): v for name, v in parts if f"_l{layer}" in name})
        layers.append(single)
    call = {"lengths": LENGTHS, "reset": reset, "training": False}
    tapes, inputs = [], x
    for layer, single in enumerate(layers):
        tapes.append(single.record(inputs, tuple(part[2 * layer : 2 * layer + 2] for part in start), **call))
        inputs = tapes[-1].output + (inputs if layer else 0)
    actual = results_of(stack.record(x, start, **call), *above)
    assert_same_bits(actual["output"], inputs)
    assert_same_bits(actual["h_n"], np.concatenate([tape.state[0] for tape in tapes]))
    d_inputs, tolerance = above[0], 1e-5 if dtype == "float32" else 1e-13
    d_inputs = np.where(np.arange(STEPS)[:, None, None] < LENGTHS[:, None], d_inputs, 0)
    for layer in reversed(range(3)):
        gradients = tapes[layer].backward(d_inputs, tuple(part[2 * layer : 2 * layer + 2] for part in above[1]))
        for name, value in gradients.parameters.items():
            assert_close(actual[name.replace("_l0", f"_l{layer}")], value, tolerance, name)
        d_inputs = gradients.x + (d_inputs if layer else 0)
    assert_close(actual["x"], d_inputs, tolerance, "x")
