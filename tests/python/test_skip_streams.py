"""skip in streams: a step that is left out, so that a stream gives what the whole sequence gives with such steps."""

import copy

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits, same_bits
from layers import normal, random_lstm
from members import CHAINS, MEMBERS, together
from skips import ROWS, STEPS, masks, spoilt


@pytest.mark.parametrize("batch_size", [None, ROWS])
@pytest.mark.parametrize("skip_output", ["repeat", "zero"])
def test_a_stream_leaves_out_what_the_whole_leaves_out(batch_size, skip_output, dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, proj_size=2, dtype=dtype)
    skip, reset = masks(2), masks(3)
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), skip)
    if batch_size is None:
        x, skip, reset = x[:, 0], skip[:, 0], reset[:, 0]
    output, state = lstm(x, reset=reset, skip=skip, skip_output=skip_output)
    stream = lstm.stream(batch_size, skip_output=skip_output)
    out = np.empty_like(output[0])
    for step in range(STEPS):
        one = (bool(reset[step]), bool(skip[step])) if batch_size is None else (reset[step], skip[step])
        assert stream.step(x[step], out, *one) is out
        assert_same_bits(out, output[step], f"step {step}")
    assert_same_bits(tuple(stream.state), tuple(state))


@pytest.mark.parametrize("skip_output", ["repeat", "zero"])
@pytest.mark.parametrize("pooling", [lw.Last, lw.Mean, lw.Max])
def test_a_stream_pools_the_steps_that_are_not_left_out(pooling, skip_output, dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype=dtype)
    network = lw.Network([lstm, pooling(), lw.Linear(5, 2, dtype=dtype, seed=0)])
    skip = masks(2)
    skip[0] = True
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), skip)
    stream = network.stream(ROWS, skip_output=skip_output)
    for step in range(STEPS):
        expected, _ = network(x[: step + 1], skip=skip[: step + 1])
        nothing_yet = skip[: step + 1].all(axis=0)
        zero = skip[step] if skip_output == "zero" else nothing_yet
        expected[zero] = 0.0
        assert_same_bits(stream.step(x[step], skip=skip[step]), expected, f"step {step}")


@pytest.mark.parametrize("last", [lw.Linear(5, 2, seed=1), lw.Mean(), lw.Max(), None], ids=repr)
def test_a_refreshed_stream_repeats_the_output_from_before(last):
    lstm = random_lstm(input_size=3, hidden_size=5)
    module = lstm if last is None else lw.Network([lstm, copy.copy(last)])
    stream, x = module.stream(), normal(1, (3,))
    before = stream.step(x)
    with module.edit() as parameters:
        for value in parameters.values():
            value += 0.25
    stream.refresh()
    assert_same_bits(stream.step(x, skip=True), before)
    assert not same_bits(stream.step(x), before)
    stream.reset()
    stream.refresh()
    assert not stream.step(x, skip=True).any()


@pytest.mark.parametrize("head", [False, True], ids=["an LSTM", "a network"])
def test_a_stream_repeats_nothing_from_before_a_restart(head, dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, learn_start_state=True, dtype=dtype)
    module = lw.Network([lstm, lw.Linear(5, 2, dtype=dtype, seed=0)]) if head else lstm
    lstm.parameters["h_0_l0"] = np.full(5, 0.25)
    stream, x = module.stream(), normal(1, (3,), dtype)
    nothing = np.zeros(2 if head else 5, dtype)
    assert_same_bits(stream.step(x, skip=True), nothing)
    first = stream.step(x)
    assert_same_bits(stream.step(x, skip=True), first)
    state = stream.state
    stream.state = state
    assert_same_bits(stream.step(x, skip=True), nothing)
    assert_same_bits(stream.state, state)
    stream.step(x)
    stream.reset()
    assert_same_bits(stream.step(x, skip=True), nothing)
    assert_same_bits(stream.step(x), first)
    assert_same_bits(stream.step(x, reset=True, skip=True), nothing)
    assert_same_bits(stream.step(x, skip=True), nothing)
    assert_same_bits(stream.step(x), first)


def test_a_stream_of_members_leaves_out_steps_of_each(dtype):
    network = together(CHAINS["head"], dtype)
    skip, reset = (np.stack([masks(first + member) for member in range(MEMBERS)], axis=1) for first in (2, 7))
    x = normal(1, (STEPS, ROWS, 3), dtype)
    output, state = network(*(np.swapaxes(x, 0, 1), None, None), np.moveaxis(reset, 0, 2), skip=np.moveaxis(skip, 0, 2))
    stream = network.stream(ROWS)
    for step in range(STEPS):
        y = stream.step(x[step], reset=reset[step], skip=skip[step])
        assert_same_bits(y, output[:, :, step], f"step {step}")
    assert_same_bits(stream.state, state)
