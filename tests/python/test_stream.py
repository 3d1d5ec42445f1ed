"""Stream: one step after another, strict, without allocating."""

import gc
import threading
import time
import tracemalloc

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm

OPTIONS = {"input_size": 3, "hidden_size": 5, "num_layers": 2}
STATES = 2


@pytest.fixture
def lstm(dtype):
    return random_lstm(dtype=dtype, **OPTIONS)


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_steps_are_the_whole_sequence(lstm, dtype, batch_size):
    x = normal(1, (9, 3) if batch_size is None else (9, batch_size, 3), dtype)
    expected, (h_n, c_n) = lstm(x)
    stream = lstm.stream(batch_size)
    assert_same_bits(np.stack([stream.step(step) for step in x]), expected)
    assert_same_bits(tuple(stream.state), (h_n, c_n))


def test_batch_size_is_a_keyword_with_none_as_default(lstm, dtype):
    assert lstm.stream(batch_size=2).step(np.zeros((2, 3), dtype)).shape == (2, 5)
    assert lstm.stream().step(np.zeros(3, dtype)).shape == (5,)
    assert lstm.stream(batch_size=None).batch_size is None
    assert lstm.stream(batch_size=2).batch_size == 2


@pytest.mark.parametrize("batch_size", [None, 4])
def test_out_is_written_and_returned(lstm, dtype, batch_size):
    x = normal(1, (9, 3) if batch_size is None else (9, batch_size, 3), dtype)
    expected, _ = lstm(x)
    stream, out = lstm.stream(batch_size), np.full(expected[0].shape, np.nan, dtype)
    for step, wanted in zip(x, expected, strict=True):
        assert stream.step(step, out=out) is out
        assert_same_bits(out, wanted)


def test_without_out_results_are_the_callers(lstm, dtype):
    stream = lstm.stream()
    first = stream.step(np.ones(3, dtype))
    kept = np.array(first)
    second = stream.step(np.ones(3, dtype))
    assert_same_bits(first, kept)
    assert not np.shares_memory(first, second)
    first[...] = 0


def test_reset_restarts_single_rows(lstm, dtype):
    x = normal(1, (9, 4, 3), dtype)
    reset = np.random.RandomState(2).random_sample((9, 4)) < 0.4
    expected, state = lstm(x, reset=reset)
    stream = lstm.stream(4)
    assert_same_bits(np.stack([stream.step(one, reset=mask) for one, mask in zip(x, reset, strict=True)]), expected)
    assert_same_bits(tuple(stream.state), state)


@pytest.mark.parametrize("flag", [True, np.True_])
def test_reset_of_a_single_sequence_is_a_bool(lstm, dtype, flag):
    stream, x = lstm.stream(), normal(1, (3,), dtype)
    first = stream.step(x)
    assert not np.array_equal(stream.step(x), first)
    assert_same_bits(stream.step(x, reset=flag), first)


def test_reset_starts_afresh(lstm, dtype):
    stream, x = lstm.stream(4), normal(1, (4, 3), dtype)
    first = stream.step(x)
    stream.step(x)
    stream.reset()
    for part in stream.state:
        assert np.all(part == 0)
    assert_same_bits(stream.step(x), first)


def test_state_is_a_copy_and_assignable(lstm, dtype):
    stream, x = lstm.stream(4), normal(1, (9, 4, 3), dtype)
    for step in x[:4]:
        stream.step(step)
    kept = stream.state
    expected = [stream.step(step) for step in x[4:]]
    for part in stream.state:
        part[...] = 99
    stream.state = kept
    assert_same_bits([stream.step(step) for step in x[4:]], expected)
    assert [part.shape for part in kept] == [(STATES, 4, 5)] * 2
    other = lstm.stream(4)
    other.state = tuple(np.asfortranarray(part) for part in kept)
    assert_same_bits([other.step(step) for step in x[4:]], expected)


def test_state_of_a_single_sequence_has_no_batch_axis(lstm, dtype):
    stream = lstm.stream()
    stream.step(np.ones(3, dtype))
    assert [part.shape for part in stream.state] == [(STATES, 5)] * 2
    projected = random_lstm(dtype=dtype, proj_size=2, **OPTIONS).stream()
    assert [part.shape for part in projected.state] == [(STATES, 2), (STATES, 5)]


@pytest.mark.parametrize(
    "state",
    [
        None,
        3,
        (np.zeros((2, 4, 5)),),
        (np.zeros((2, 4, 5)), np.zeros((2, 4, 4))),
        (np.zeros((2, 4, 5)), np.zeros((2, 5, 4))),
        (np.zeros((2, 5)), np.zeros((2, 5))),
        (np.zeros((2, 4, 5)), np.zeros((2, 4, 5), complex)),
        (np.zeros((2, 4, 5)), np.zeros((2, 4, 5)), np.zeros((2, 4, 5))),
        (np.zeros((2, 4, 5)), "state"),
    ],
)
def test_a_wrong_state_changes_nothing(lstm, dtype, state):
    stream = lstm.stream(4)
    stream.step(np.ones((4, 3), dtype))
    before = stream.state
    with pytest.raises((TypeError, ValueError), match=r"\b(state|h|c)\b"):
        stream.state = state
    assert_same_bits(tuple(stream.state), tuple(before))


def other_of(dtype):
    return "float64" if dtype == "float32" else "float32"


WRONG_STEPS = {
    "dtype": (lambda dtype: np.zeros((4, 3), other_of(dtype)), TypeError),
    "integers": (lambda dtype: np.zeros((4, 3), np.int64), TypeError),
    "byte order": (lambda dtype: np.zeros((4, 3), np.dtype(dtype).newbyteorder()), TypeError),
    "list": (lambda dtype: [[0.0] * 3] * 4, TypeError),
    "None": (lambda dtype: None, TypeError),
    "number": (lambda dtype: 1.0, TypeError),
    "Fortran order": (lambda dtype: np.zeros((4, 3), dtype, order="F"), (TypeError, ValueError)),
    "stride": (lambda dtype: np.zeros((4, 6), dtype)[:, ::2], (TypeError, ValueError)),
    "negative stride": (lambda dtype: np.zeros((4, 3), dtype)[::-1], (TypeError, ValueError)),
    "features": (lambda dtype: np.zeros((4, 2), dtype), ValueError),
    "rows": (lambda dtype: np.zeros((3, 3), dtype), ValueError),
    "rank below": (lambda dtype: np.zeros(3, dtype), ValueError),
    "rank above": (lambda dtype: np.zeros((1, 4, 3), dtype), ValueError),
    "size of all": (lambda dtype: np.zeros(12, dtype), ValueError),
}


@pytest.mark.parametrize("what", WRONG_STEPS)
def test_step_is_strict_about_x(lstm, dtype, what):
    make, error = WRONG_STEPS[what]
    stream = lstm.stream(4)
    stream.step(np.ones((4, 3), dtype))
    before = stream.state
    with pytest.raises(error, match=r"\bx\b.*expected.*got"):
        stream.step(make(dtype))
    assert_same_bits(tuple(stream.state), tuple(before))


WRONG_OUTS = {
    "dtype": (lambda dtype: np.zeros((4, 5), other_of(dtype)), TypeError),
    "list": (lambda dtype: [[0.0] * 5] * 4, TypeError),
    "read-only": (lambda dtype: read_only(np.zeros((4, 5), dtype)), (TypeError, ValueError)),
    "Fortran order": (lambda dtype: np.zeros((4, 5), dtype, order="F"), (TypeError, ValueError)),
    "stride": (lambda dtype: np.zeros((4, 10), dtype)[:, ::2], (TypeError, ValueError)),
    "features": (lambda dtype: np.zeros((4, 3), dtype), ValueError),
    "rows": (lambda dtype: np.zeros((5, 5), dtype), ValueError),
    "rank": (lambda dtype: np.zeros(20, dtype), ValueError),
}


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("what", WRONG_OUTS)
def test_step_is_strict_about_out(lstm, dtype, what):
    make, error = WRONG_OUTS[what]
    stream = lstm.stream(4)
    stream.step(np.ones((4, 3), dtype))
    before, out = stream.state, make(dtype)
    with pytest.raises(error, match=r"\bout\b.*expected.*got"):
        stream.step(np.ones((4, 3), dtype), out=out)
    assert_same_bits(tuple(stream.state), tuple(before))
    assert not np.any(out)


@pytest.mark.parametrize("name", ["reset", "skip"])
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize(
    "mask",
    [
        np.zeros(3, bool), np.zeros((4, 1), bool), np.full(4, 2), np.full(4, 0.5), np.full(4, np.nan, np.float32),
        [0, 1, 2, 0], ["a"] * 4, np.zeros(4, complex), np.full(4, None), "yes", 2.0, 0.5, -1, object(), [[0], [0, 1]],
    ],
)  # fmt: skip
def test_a_wrong_mask_is_refused(lstm, dtype, batch_size, name, mask):
    stream = lstm.stream(batch_size)
    stream.step(np.ones((3,) if batch_size is None else (4, 3), dtype))
    before = stream.state
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b.*expected.*got"):
        stream.step(np.zeros((3,) if batch_size is None else (4, 3), dtype), **{name: mask})
    assert_same_bits(tuple(stream.state), tuple(before))


KINDS = [bool, "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i4", ">f4", ">f8", "list", "bools"]


@pytest.mark.parametrize("name", ["reset", "skip"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_may_be_any_numbers_that_are_0_or_1(lstm, dtype, kind, name):
    x = normal(1, (9, 4, 3), dtype)
    mask = np.random.RandomState(2).random_sample((9, 4)) < 0.4
    expected, _ = lstm(x, **{name: mask})
    if kind == "list":
        given = mask.astype(int).tolist()
    elif kind == "bools":
        given = mask.tolist()
    else:
        given = np.repeat(mask.astype(kind), 3, axis=1)[:, ::3]  # not contiguous
    stream = lstm.stream(4)
    assert_same_bits(np.stack([stream.step(one, **{name: each}) for one, each in zip(x, given, strict=True)]), expected)
    single = lstm.stream()
    for row in range(4):
        outputs = [single.step(one[row], **{name: each[row]}) for one, each in zip(x, given, strict=True)]
        assert_same_bits(np.stack(outputs), expected[:, row])
        single.reset()


@pytest.mark.parametrize("name", ["reset", "skip"])
@pytest.mark.parametrize("kind", [bool, "f4", "i8"])
def test_masks_of_members(kind, name):
    network = lw.Network([lw.LSTM(3, 5, seed=1)], members=2)
    x, mask = normal(1, (9, 4, 3)), np.random.RandomState(2).random_sample((9, 2, 4)) < 0.4
    expected, _ = network(x, **{name: mask.swapaxes(0, 1)})
    stream = network.stream(4)
    actual = [stream.step(one, **{name: each.astype(kind)}) for one, each in zip(x, mask, strict=True)]
    assert_same_bits(np.stack(actual, axis=1), expected)
    shared, _ = network(x, **{name: mask[:, 0]})
    stream.reset()
    actual = [stream.step(one, **{name: each[0].astype(kind)}) for one, each in zip(x, mask, strict=True)]
    assert_same_bits(np.stack(actual, axis=1), shared)
    single, (alone, _) = network.stream(), network(x[:, 0], **{name: mask[:, :, 0].T})
    actual = [single.step(one[0], **{name: each[:, 0].astype(kind)}) for one, each in zip(x, mask, strict=True)]
    assert_same_bits(np.stack(actual, axis=1), alone)


@pytest.mark.parametrize(
    ("batch_size", "error"),
    [
        (-1, ValueError),
        (0, None),
        (1.5, TypeError),
        ("4", TypeError),
        (2**62, ValueError),
        (2**70, (ValueError, TypeError)),
    ],
)
def test_batch_size_is_checked(lstm, batch_size, error):
    if error is None:
        stream = lstm.stream(batch_size)
        assert stream.step(np.zeros((0, 3), lstm.dtype)).shape == (0, 5)
        return
    with pytest.raises(error, match="batch_size"):
        lstm.stream(batch_size)


def test_a_bidirectional_layer_has_no_stream():
    with pytest.raises(ValueError, match="bidirectional"):
        lw.LSTM(3, 5, bidirectional=True).stream()
    with pytest.raises(ValueError, match="bidirectional"):
        lw.Network([lw.LSTM(3, 5, bidirectional=True), lw.Linear(10, 2)]).stream()


def test_a_stream_keeps_the_weights_of_its_beginning(lstm, dtype):
    x = normal(1, (9, 3), dtype)
    expected, _ = lstm(x)
    stream = lstm.stream()
    for name in lstm.parameters:
        lstm.parameters[name] = np.zeros(lstm.parameters[name].shape)
    assert_same_bits(np.stack([stream.step(step) for step in x]), expected)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_refreshed_stream_has_the_new_weights_and_the_old_state(dtype, members, batch_size):
    lstm = lw.LSTM(3, 5, 2, learn_start_state=True, dtype=dtype, seed=1)
    network = lw.Network([lstm, lw.Linear(5, 2, dtype=dtype, seed=2)], members)
    x = normal(1, (9, 3) if batch_size is None else (9, batch_size, 3), dtype)
    stream = network.stream(batch_size)
    for step in x[:5]:
        stream.step(step)
    state = stream.state
    with network.edit() as parameters:
        for value in parameters.values():
            value += 0.25
    old = network.stream(batch_size)
    stream.refresh()
    assert_same_bits(tuple(stream.state), tuple(state))
    expected, end = network(x[5:], state)
    actual = [stream.step(step) for step in x[5:]]
    assert_same_bits(np.stack(actual, axis=0 if members == 1 else 1), expected)
    assert_same_bits(tuple(stream.state), tuple(end))
    stream.reset()
    assert_same_bits(stream.step(x[0]), old.step(x[0]))  # from the start state that was trained meanwhile


def test_a_refresh_goes_on_with_the_mean():
    network = lw.Network([lw.LSTM(3, 5, seed=1), lw.Mean()])
    x = normal(1, (9, 3))
    stream = network.stream()
    for step in x[:5]:
        stream.step(step)
    stream.refresh()
    for count in range(6, 10):
        assert_same_bits(stream.step(x[count - 1]), network(x[:count])[0])


def test_a_refreshed_stream_makes_no_array(dtype):
    stream = random_lstm(input_size=64, hidden_size=64, dtype=dtype).stream(64)
    stream.refresh()
    check_allocations(stream, np.zeros((64, 64), dtype), np.zeros((64, 64), dtype), 50)


@pytest.mark.parametrize("kind", [bool, "f4", "f8", "i8"])
def test_a_step_with_masks_makes_no_array(dtype, kind):
    stream, mask = random_lstm(input_size=64, hidden_size=64, dtype=dtype).stream(2000), np.zeros(2000, kind)

    class Masked:
        def step(self, x, out):
            return stream.step(x, out=out, reset=mask, skip=mask)

    check_allocations(Masked(), np.zeros((2000, 64), dtype), np.zeros((2000, 64), dtype), 5)


def test_a_stream_outlives_its_layer(dtype):
    x = normal(1, (9, 3), dtype)
    lstm = random_lstm(dtype=dtype, **OPTIONS)
    expected, _ = lstm(x)
    stream = lstm.stream()
    del lstm
    gc.collect()
    assert_same_bits(np.stack([stream.step(step) for step in x]), expected)


def test_a_stream_keeps_its_instruction_set(dtype):
    x = normal(1, (9, 3), dtype)
    names = lw.cpu_info()["available_isas"]
    lstm = random_lstm(dtype=dtype, **OPTIONS)
    lw.set_isa(names[-1])
    expected, _ = lstm(x)
    stream = lstm.stream()
    lw.set_isa(names[0])
    assert_same_bits(np.stack([stream.step(step) for step in x]), expected)


def test_a_network_streams_tokens(dtype):
    lstm = random_lstm(dtype=dtype, **OPTIONS)
    network = lw.Network([lw.Embedding(7, 3, dtype=dtype, seed=1), lstm, lw.Linear(5, 7, dtype=dtype, seed=1)])
    tokens = np.random.RandomState(1).randint(0, 7, (9, 4))
    expected, _ = network(tokens)
    stream, single = network.stream(4), network.stream()
    assert_same_bits(np.stack([stream.step(step) for step in tokens]), expected)
    assert_same_bits(np.stack([single.step(int(token)) for token in tokens[:, 2]]), expected[:, 2])
    for token in (-1, 7, 2**62):
        with pytest.raises(ValueError, match="x"):
            single.step(token)
        with pytest.raises(ValueError, match="x"):
            stream.step(np.array([0, 1, token, 2]))
    with pytest.raises(TypeError, match="x"):
        single.step(1.5)


def test_last_passes_through_a_stream(dtype):
    lstm = random_lstm(dtype=dtype, **OPTIONS)
    network = lw.Network([lstm, lw.Last(), lw.Linear(5, 2, dtype=dtype, seed=1)])
    x = normal(1, (9, 4, 3), dtype)
    stream = network.stream(4)
    for count, step in enumerate(x, start=1):
        assert_same_bits(stream.step(step), network(x[:count])[0])


def measure_peak(stream, x, out, steps):
    """How much more Python holds after some steps than before, and the most that it held meanwhile.

    The steps are measured in five parts of which the least counts: what the stream allocates is in every part, while
    what threads of earlier tests allocate when they wake up is in few.
    """
    for _ in range(10):
        stream.step(x, out=out)
    gc.collect()
    tracemalloc.start()
    try:
        parts = [measure_part(stream, x, out, max(1, steps // 5)) for _ in range(5)]
    finally:
        tracemalloc.stop()
    return tuple(map(min, zip(*parts, strict=True)))


def measure_part(stream, x, out, steps):
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in range(steps):
        stream.step(x, out=out)
    after, peak = tracemalloc.get_traced_memory()
    return after - before, peak - before


def check_allocations(stream, x, out, steps):
    """No array is allocated; the measurement itself allocates a few Python integers, less than the smallest array."""
    growth, peak = measure_peak(stream, x, out, steps)
    assert growth < 300
    assert peak < 300


def test_a_step_makes_no_array(dtype):
    stream = random_lstm(input_size=64, hidden_size=64, dtype=dtype).stream(64)
    check_allocations(stream, np.zeros((64, 64), dtype), np.zeros((64, 64), dtype), 50)


@pytest.mark.slow
def test_a_million_steps_allocate_nothing(dtype):
    stream = random_lstm(input_size=2, hidden_size=64, dtype=dtype).stream()
    check_allocations(stream, np.zeros(2, dtype), np.zeros(64, dtype), 1_000_000)


def test_a_second_thread_in_a_stream_is_refused_and_disturbs_nothing():
    lw.set_num_threads(1)
    lstm = random_lstm(input_size=128, hidden_size=256, num_layers=2)  # large enough that a step lets other threads run
    stream, x = lstm.stream(64), normal(1, (64, 128))
    outputs, refusals = [[], [], []], []
    deadline = time.monotonic() + 60

    def work(own):
        while not refusals and time.monotonic() < deadline:
            try:
                own.append(stream.step(x))
            except RuntimeError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=work, args=(own,)) for own in outputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert refusals
    assert set(refusals) == {"this stream is in use by another thread; give each thread a stream of its own"}
    # The calls that were not refused are the steps of one sequence in some order, and the sequence goes on.
    alone = lstm.stream(64)
    expected = [alone.step(x).tobytes() for _ in range(sum(map(len, outputs)))]
    assert sorted(output.tobytes() for own in outputs for output in own) == sorted(expected)
    assert_same_bits(stream.step(x), alone.step(x))
