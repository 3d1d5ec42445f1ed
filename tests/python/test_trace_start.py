"""What a trace keeps beside its signals: the start state and the course of the call."""

import pickle

import latchwork as lw
import numpy as np
from comparison import assert_same_bits
from decompositions import LENGTHS, ROWS, STEPS, arguments_of
from latchwork import explain
from layers import normal, random_lstm
from skips import masks


def test_the_start_state_has_the_form_of_the_end_state():
    lstm = random_lstm(
        input_size=3, hidden_size=5, num_layers=2, bidirectional=True, proj_size=2, learn_start_state=True
    )
    x = normal(1, (STEPS, ROWS, 3))
    start = (normal(2, (4, ROWS, 2)), normal(3, (4, ROWS, 5)))
    assert_same_bits(lstm.trace(x, start).start, start)
    own = lstm.trace(x).start
    for place, name in enumerate(["l0", "l0_reverse", "l1", "l1_reverse"]):
        for part, kind in zip(own, ("h_0", "c_0"), strict=True):
            expected = np.broadcast_to(lstm.parameters[f"{kind}_{name}"], part[place].shape)
            assert_same_bits(part[place], np.ascontiguousarray(expected))
    alone = lstm.trace(x[:, 0], tuple(part[:, 0] for part in start))
    assert_same_bits(alone.start, tuple(part[:, 0] for part in start))
    assert lstm.trace(x[:, 0]).start[1].shape == (4, 5)
    again = lstm.trace(x, lstm.trace(x, start).state)
    assert_same_bits(again.start, lstm.trace(x, start).state)


def test_the_start_states_of_networks():
    x = normal(1, (STEPS, ROWS, 3))
    network = lw.Network([lw.LSTM(3, 4, seed=0, learn_start_state=True), lw.LSTM(4, 5, seed=1), lw.Last()], members=2)
    network.parameters["0.c_0_l0"] = normal(2, (2, 4))
    trace = network.trace(x)
    (_, first), (_, second) = trace.start
    assert_same_bits(first, np.ascontiguousarray(np.broadcast_to(normal(2, (2, 1, 1, 4)), (2, 1, ROWS, 4))))
    assert second.shape == trace.state[1][1].shape == (2, 1, ROWS, 5)
    assert (second == 0).all()
    shared = (normal(3, (1, ROWS, 4)),) * 2
    assert_same_bits(network.trace(x, (shared, second_state())).start[0][1][1], shared[1])
    assert lw.Network([lw.Linear(3, 2, seed=0)]).trace(x).start == ()
    inside = network[0].trace(x)
    assert_same_bits(inside.start[1], first)
    assert_same_bits(explain.memory(inside, 3), explain.memory(trace, 3, "0.l0"))


def test_a_trace_stays_when_the_caller_writes_to_his_arrays():
    lstm = random_lstm(input_size=3, hidden_size=5)
    start, common = arguments_of(lstm, masked=True)
    common["lengths"] = common["lengths"].copy()
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)), start, **common)
    before = explain.memory(trace, 5)
    for array in (*start, *common.values()):
        array[...] = 0
    assert_same_bits(explain.memory(trace, 5), before)


def test_a_trace_can_be_pickled():
    lstm = random_lstm(input_size=3, hidden_size=5, batch_first=True, zoneout=(0.1, 0.2), learn_start_state=True)
    trace = lstm.trace(normal(1, (ROWS, STEPS, 3)), reset=masks(3).T, lengths=LENGTHS)
    again = pickle.loads(pickle.dumps(trace))
    assert repr(again) == repr(trace) == "Trace(l0)"
    for function in (explain.memory, explain.written_by, explain.erased_by):
        assert_same_bits(function(again, 5), function(trace, 5))
    assert_same_bits((again.start, again.state, again.output), (trace.start, trace.state, trace.output))


def test_the_start_state_is_of_the_moment_of_the_recording(monkeypatch):
    lstm = random_lstm(input_size=3, hidden_size=5, learn_start_state=True)
    own = lstm.parameters["c_0_l0"].copy()
    record = lw.LSTM.record

    def record_before_another_thread_writes(module, *arguments, **options):
        tape = record(module, *arguments, **options)
        lstm.parameters["c_0_l0"] = np.full(5, 7)
        return tape

    monkeypatch.setattr(lw.LSTM, "record", record_before_another_thread_writes)
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)))
    assert_same_bits(trace.start[1][0, 0], own)


def second_state():
    return (np.zeros((1, ROWS, 5)),) * 2
