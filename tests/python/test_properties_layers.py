"""Layers of any shape, options, layout and batch: properties that hold for all of them, bit for bit."""

import numpy as np
from comparison import assert_same_bits
from generated import PLAIN, RANDOM, batches, layouts, lstms
from hypothesis import given
from hypothesis import strategies as st


def swapped(lstm, array):
    """Swap steps and rows if the layer has ``batch_first``."""
    return np.swapaxes(array, 0, 1) if lstm.batch_first else array


def options_of(lstm, batch):
    reset = None if batch.reset is None else swapped(lstm, batch.reset)
    return {"lengths": batch.lengths, "reset": reset}


def called(lstm, batch):
    """Output, h_n and c_n of a call."""
    output, (h_n, c_n) = lstm(swapped(lstm, batch.x), batch.start, **options_of(lstm, batch))
    return swapped(lstm, output), h_n, c_n


def recorded(lstm, batch, **training):
    """The same of a recording, and every gradient: of x, h_0 and c_0, and of the parameters."""
    tape = lstm.record(swapped(lstm, batch.x), batch.start, **options_of(lstm, batch), **{"training": False} | training)
    gradients = tape.backward(swapped(lstm, batch.d_output), batch.d_state)
    results = swapped(lstm, tape.output), *tape.state, swapped(lstm, gradients.x), *gradients.state
    return results, dict(gradients.parameters)


@given(st.data())
def test_a_recording_and_a_trace_have_the_results_of_a_call(data):
    lstm = data.draw(lstms())
    batch = data.draw(batches(lstm))
    expected = called(lstm, batch)
    assert_same_bits(recorded(lstm, batch)[0][:3], expected)
    trace = lstm.trace(swapped(lstm, batch.x), batch.start, **options_of(lstm, batch))
    assert_same_bits((swapped(lstm, trace.output), *trace.state), expected)
    for row, length in enumerate(batch.lengths if batch.lengths is not None else []):
        assert not expected[0][length:, row].any()


@given(st.data())
def test_step_by_step_is_the_whole(data):
    lstm = data.draw(lstms(forward=True))
    batch = data.draw(batches(lstm))
    output, h_n, c_n = called(lstm, batch)
    lengths = np.full(batch.rows, batch.steps) if batch.lengths is None else batch.lengths
    stream = lstm.stream(batch.rows)
    if batch.start is not None:
        stream.state = batch.start
    states = [stream.state]
    for step in range(batch.steps):
        reset = None if batch.reset is None else batch.reset[step]
        y = stream.step(batch.x[step], reset=reset)
        reached = step < lengths
        assert_same_bits(y[reached], output[step, reached], f"step {step}")
        states.append(stream.state)
    # A row's end state is the stream's after its last step; of a row without steps, the start state.
    for row, length in enumerate(lengths):
        assert_same_bits(tuple(part[:, row] for part in states[length]), (h_n[:, row], c_n[:, row]), f"row {row}")


@given(st.data())
def test_two_windows_are_the_whole(data):
    lstm = data.draw(lstms(forward=True))
    batch = data.draw(batches(lstm, ragged=False))
    output, h_n, c_n = called(lstm, batch)
    cut = data.draw(st.integers(0, batch.steps))
    resets = (None, None) if batch.reset is None else (batch.reset[:cut], batch.reset[cut:])
    first, middle = lstm(batch.x[:cut], batch.start, reset=resets[0])
    second, end = lstm(batch.x[cut:], middle, reset=resets[1])
    assert_same_bits((np.concatenate([first, second]), *end), (output, h_n, c_n))


@given(st.data())
def test_rows_depend_on_no_other_row(data):
    lstm = data.draw(lstms(PLAIN))
    batch = data.draw(batches(lstm))
    rows = data.draw(st.lists(st.integers(0, batch.rows - 1), max_size=9)) if batch.rows else []
    whole, _ = recorded(lstm, batch)
    part, _ = recorded(lstm, batch.of_rows(np.array(rows, int)))
    assert_same_bits(part, tuple(result[:, rows] for result in whole))


@given(st.data())
def test_what_lies_in_padding_does_not_matter(data):
    lstm = data.draw(lstms())
    batch = data.draw(batches(lstm, ragged=True))
    expected = recorded(lstm, batch, training=True, mask_seed=3)
    padding = np.arange(batch.steps)[:, None] >= batch.lengths
    batch.x[padding] = np.nan
    batch.d_output[padding] = np.nan
    if batch.reset is not None:
        batch.reset[padding] ^= True
    assert_same_bits(recorded(lstm, batch, training=True, mask_seed=3), expected)


@given(st.data())
def test_memory_layout_and_dtype_do_not_matter(data):
    lstm = data.draw(lstms())
    batch = data.draw(batches(lstm))
    expected = recorded(lstm, batch)
    lay_values, lay_flags = data.draw(layouts()), data.draw(layouts(with_dtypes=False))
    options = options_of(lstm, batch) | {"lengths": None if batch.lengths is None else batch.lengths.tolist()}
    if options["reset"] is not None:
        options["reset"] = lay_flags(options["reset"])
    x, start = lay_values(swapped(lstm, batch.x)), batch.start and tuple(map(lay_values, batch.start))
    tape = lstm.record(x, start, **options, training=False)
    gradients = tape.backward(lay_values(swapped(lstm, batch.d_output)), tuple(map(lay_values, batch.d_state)))
    actual = swapped(lstm, tape.output), *tape.state, swapped(lstm, gradients.x), *gradients.state
    assert_same_bits((actual, dict(gradients.parameters)), expected)


@given(st.data())
def test_checkpoints_change_nothing(data):
    lstm = data.draw(lstms(RANDOM))
    batch = data.draw(batches(lstm))
    options = {"training": data.draw(st.booleans()), "mask_seed": data.draw(st.integers(0, 2**64 - 1))}
    expected = recorded(lstm, batch, **options)
    assert_same_bits(recorded(lstm, batch, **options, checkpoint=data.draw(st.integers(1, 10))), expected)
