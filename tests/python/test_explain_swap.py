"""explain.swap and explain.responsible: units' states from another run."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from latchwork.explain import responsible, swap, swaps
from layers import normal, random_lstm
from members import VOCABULARY
from variants import PLAIN, forward_only

SIZES = {"input_size": 3, "hidden_size": 7}
STEPS, ROWS = 6, 4
STOPS = np.array([2, 5, 0, 4])
LENGTHS = np.array([6, 3, 4, 5])  # the second row ends before its stop


def inputs(dtype="float32", features=3):
    return normal(1, (STEPS, ROWS, features), dtype), normal(2, (STEPS, ROWS, features), dtype)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def copied(state):
    if state and not isinstance(state[0], tuple):
        return tuple(part.copy() for part in state)
    return tuple(copied(pair) for pair in state)


def pair_of(state, lstm):
    return state[lstm] if isinstance(state[0], tuple) else state


def step_by_step(network, x, other_x, units, stop, other_stop, lstm=0, layer=0, parts=(0, 1)):
    """One row alone: its outputs from the stop on, by streams. x is (T, features), or (T,) for tokens."""
    own, other = network.stream(), network.stream()
    for step in x[:stop]:
        own.step(step)
    for step in other_x[:other_stop]:
        other.step(step)
    state = copied(own.state)
    for part in parts:
        for unit in units:
            pair_of(state, lstm)[part][layer, unit] = pair_of(other.state, lstm)[part][layer, unit]
    own.state = state
    return [own.step(step) for step in x[stop:]]


# ---- swap: the outputs.


def test_swapped_outputs_are_those_of_plain_loops():
    lstm = random_lstm(**SIZES, dtype="float64")
    x, other_x = inputs("float64")
    result = swap(lstm, x, other_x, [1, 4], 3, parts="cell")
    w, r = lstm.parameters["weight_ih_l0"], lstm.parameters["weight_hh_l0"]
    bias = lstm.parameters["bias_ih_l0"] + lstm.parameters["bias_hh_l0"]

    def run(steps, h, c):
        outputs = []
        for step in steps:
            i, f, g, o = np.split(w @ step + r @ h + bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return outputs, h, c

    for row in range(ROWS):
        _, h, c = run(x[:3, row], np.zeros(7), np.zeros(7))
        other_c = run(other_x[:3, row], np.zeros(7), np.zeros(7))[2]
        expected = run(x[3:, row], h, c)[0]
        c = c.copy()
        c[1], c[4] = other_c[1], other_c[4]
        swapped = run(x[3:, row], h, c)[0]
        assert_close(result.output[:, row], expected, 1e-14)
        assert_close(result.swapped[:, row], swapped, 1e-14)
        assert_close(result.difference[:, row], np.subtract(swapped, expected), 1e-14)
    assert np.abs(result.difference).max() > 0.01


@pytest.mark.parametrize("name", PLAIN)
def test_every_variant_by_streams(name, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES, **forward_only(PLAIN[name]))
    x, other_x = inputs(dtype)
    parts = ("cell",) if lstm.proj_size else ("hidden", "cell")
    result = swap(lstm, x, other_x, [-1, 2], STOPS, layer=-1, parts=parts)
    last = lstm.num_layers - 1
    for row, stop in enumerate(STOPS):
        expected = step_by_step(lstm, x[:, row], other_x[:, row], (6, 2), stop, stop, layer=last,
                                parts=(1,) if lstm.proj_size else (0, 1))  # fmt: skip
        assert_same_bits(result.swapped[: STEPS - stop, row], np.array(expected))
        assert not result.swapped[STEPS - stop :, row].any()
        assert_same_bits(result.output[: STEPS - stop, row], lstm(x)[0][stop:, row])


@pytest.mark.parametrize("part", [0, 1])
def test_one_part_alone(part, dtype):
    lstm = random_lstm(dtype=dtype, **SIZES)
    x, other_x = inputs(dtype)
    result = swap(lstm, x, other_x, 3, 4, parts=["hidden", "cell"][part])
    for row in range(ROWS):
        expected = step_by_step(lstm, x[:, row], other_x[:, row], [3], 4, 4, parts=(part,))
        assert_same_bits(result.swapped[:, row], np.array(expected))


@pytest.mark.parametrize("layer", ["1.l0", "1.l1", "2.l0"])
def test_networks_of_several_lstms_on_tokens(layer):
    network = lw.Network([lw.Embedding(VOCABULARY, 3, seed=0), lw.LSTM(3, 7, 2, seed=1), lw.LSTM(7, 5, seed=2),
                          lw.Linear(5, 2, seed=3)])  # fmt: skip
    x = np.arange(24).reshape(STEPS, ROWS) % VOCABULARY
    other_x = (x * 3 + 1) % VOCABULARY
    result = swap(network, x, other_x, [4, 0], [1, 2, 3, 3], layer=layer, other_step=[2, 6, -6, 3])
    for row, (stop, other_stop) in enumerate(zip([1, 2, 3, 3], [2, 6, 0, 3], strict=True)):
        lstm, number = int(layer[0]) - 1, int(layer[3])
        expected = step_by_step(network, x[:, row], other_x[:, row], (0, 4), stop, other_stop, lstm, number)
        assert_same_bits(result.swapped[: STEPS - stop, row], np.array(expected))
    assert (result.difference != 0).any(axis=(0, 2)).tolist() == [True] * 4


@pytest.mark.parametrize("pooling", [lw.Last, lw.Mean, lw.Max])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_pooled_outputs_are_those_of_the_whole_sequence(pooling, lengths, dtype):
    network = lw.Network([lw.LSTM(3, 7, seed=1, dtype=dtype), pooling(), lw.Linear(7, 2, seed=3, dtype=dtype)])
    x, other_x = inputs(dtype)
    result = swap(network, x, other_x, [4, 0], STOPS, lengths=lengths)
    whole = network(x, lengths=lengths)[0]
    for row, stop in enumerate(STOPS):
        length = STEPS if lengths is None else lengths[row]
        if stop < length:
            lstm = network[0]
            before = lstm(x[:stop, row])[0]
            after = np.array(step_by_step(lstm, x[:length, row], other_x[:, row], [0, 4], stop, stop))
            pooled = pooling()(np.concatenate([before, after])[:, np.newaxis])
            assert_same_bits(result.swapped[row], network[2](pooled)[0])
            assert_same_bits(result.output[row], whole[row])
        else:
            assert not result.difference[row].any()


def test_swapping_with_oneself_changes_nothing():
    network = lw.Network([lw.LSTM(3, 7, seed=1), lw.Linear(7, 2, seed=3)])
    x, _ = inputs()
    for step in (0, 3, -1):
        result = swap(network, x, x, range(7), step)
        assert_same_bits(result.swapped, result.output)
        assert_same_bits(result.output, network(x)[0][step:])


def test_swapping_everything_is_the_other_run():
    lstm = random_lstm(**SIZES)
    x, other_x = inputs()
    other_x[4:] = x[4:]
    result = swap(lstm, x, other_x, range(7), 4)
    assert_same_bits(result.swapped, lstm(other_x)[0][4:])


# ---- swap: batches.


def test_lengths_and_padding(dtype):
    lstm = random_lstm(dtype=dtype, **SIZES)
    x, other_x = inputs(dtype)
    for row, length in enumerate(LENGTHS):
        x[length:, row] = other_x[length:, row] = np.nan
    result = swap(lstm, x, other_x, [1], STOPS, lengths=LENGTHS)
    for row, (stop, length) in enumerate(zip(STOPS, LENGTHS, strict=True)):
        left = max(length - stop, 0)
        assert not result.output[left:, row].any()
        assert not result.swapped[left:, row].any()
        if left:
            expected = step_by_step(lstm, x[:length, row], other_x[:, row], [1], stop, stop)
            assert_same_bits(result.swapped[:left, row], np.array(expected))
            assert_same_bits(result.output[:left, row], lstm(x, lengths=LENGTHS)[0][stop:length, row])
    ended = r"other_step: expected at most the length of each row of other_x, got 4 for row 3, whose length is 2"
    with pytest.raises(ValueError, match=ended):
        swap(lstm, x, other_x, [1], STOPS, lengths=LENGTHS, other_lengths=[6, 0, 4, 2])


def test_tokens_in_padding_never_matter():
    network = lw.Network([lw.Embedding(VOCABULARY, 3, seed=0), lw.LSTM(3, 7, seed=1)])
    x = np.arange(24).reshape(STEPS, ROWS) % VOCABULARY
    padded = np.where(np.arange(STEPS)[:, np.newaxis] < LENGTHS, x, 10**12)
    result = swap(network, padded, padded.copy(), 3, STOPS, lengths=LENGTHS)
    assert_same_bits(result.output, swap(network, x, x, 3, STOPS, lengths=LENGTHS).output)


def test_another_length_and_step_of_the_other_run():
    lstm = random_lstm(**SIZES)
    x, _ = inputs()
    other_x = normal(5, (9, ROWS, 3))
    result = swap(lstm, x, other_x, 2, 3, other_step=9)
    for row in range(ROWS):
        assert_same_bits(result.swapped[:, row], np.array(step_by_step(lstm, x[:, row], other_x[:, row], [2], 3, 9)))
    assert_same_bits(swap(lstm, x, other_x, 2, -2).swapped, swap(lstm, x, other_x, 2, 4).swapped)
    short = swap(lstm, x, other_x[:2], 2, 3, other_step=2)
    assert_same_bits(short.swapped, swap(lstm, x, other_x, 2, 3, other_step=2).swapped)


def test_batch_first_and_unbatched():
    first, last = random_lstm(**SIZES, batch_first=True), random_lstm(**SIZES)
    x, other_x = inputs()
    expected = swap(last, x, other_x, 2, 3)
    result = swap(first, x.swapaxes(0, 1), other_x.swapaxes(0, 1), 2, 3)
    assert_same_bits(result.swapped, expected.swapped.swapaxes(0, 1))
    alone = swap(last, x[:, 1], other_x[:, 1], 2, 3)
    assert_same_bits(alone.swapped, expected.swapped[:, 1])
    assert_same_bits(alone.difference, expected.difference[:, 1])
    pooled = lw.Network([lw.LSTM(3, 7, seed=0, batch_first=True), lw.Mean()])
    whole = swap(pooled, x.swapaxes(0, 1), other_x.swapaxes(0, 1), 2, 3).swapped
    assert whole.shape == (4, 7)
    assert_same_bits(swap(pooled, x[:, 1], other_x[:, 1], 2, 3).swapped, whole[1])


def test_start_states_and_resets():
    lstm = random_lstm(**SIZES, learn_start_state=True)
    x, other_x = inputs()
    states = [(normal(seed, (1, ROWS, 7)), normal(seed + 1, (1, ROWS, 7))) for seed in (3, 5)]
    reset = np.zeros((STEPS, ROWS), bool)
    reset[1, 0] = reset[4, 1] = reset[3, 2] = True
    result = swap(lstm, x, other_x, [2], 3, state=states[0], other_state=states[1], reset=reset)
    whole = lstm(x, states[0], reset=reset)[0]
    assert_same_bits(result.output, whole[3:])
    h, c = (part.copy() for part in lstm(x[:3], states[0], reset=reset[:3])[1])
    other_h, other_c = lstm(other_x[:3], states[1], reset=reset[:3])[1]
    h[..., 2], c[..., 2] = other_h[..., 2], other_c[..., 2]
    assert_same_bits(result.swapped, lstm(x[3:], (h, c), reset=reset[3:])[0])
    assert not result.difference[:, 2].any()  # reset at the step
    assert not result.difference[1:, 1].any()  # reset one later
    only_start = swap(lstm, x, x, [2], 0, state=states[0], other_state=states[1])
    assert only_start.difference.any()
    assert not swap(lstm, x, other_x, [2], 0, state=states[0]).difference.any()


def test_skipped_steps():
    lstm = random_lstm(**SIZES)
    x, other_x = inputs()
    skip = np.array([0, 1, 0, 1, 1, 0], bool)[:, np.newaxis] & np.array([True, False, True, True])
    x[skip] = np.nan
    other_x[skip] = np.nan
    network = lw.Network([random_lstm(**SIZES), lw.Mean()])
    result, pooled = (swap(each, x, other_x, [2], 3, skip=skip) for each in (lstm, network))
    for row in range(ROWS):
        left = ~skip[:, row]
        expected = step_by_step(lstm, x[left, row], other_x[left, row], [2], left[:3].sum(), left[:3].sum())
        assert_same_bits(result.swapped[left[3:], row], np.array(expected))
        assert not result.swapped[skip[3:, row], row].any()
        before = lstm(x[left, row])[0][: left[:3].sum()]
        assert_close(pooled.swapped[row], np.concatenate([before, expected]).mean(axis=0), 1e-6)


def test_empty_batches():
    lstm = random_lstm(**SIZES)
    empty = np.zeros((STEPS, 0, 3))
    assert swap(lstm, empty, empty, 1, 2).output.shape == (4, 0, 7)
    x = normal(1, (1, 1, 3))
    assert swap(lstm, x, x, 1, 0).output.shape == (1, 1, 7)
    with pytest.raises(IndexError, match="step: expected an index, but there are none to choose from, got 0"):
        swap(lstm, x[:0], x[:0], 1, 0)


def test_arrays_are_read_only_and_strided():
    lstm = random_lstm(**SIZES)
    x, other_x = inputs()
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    wide.flags.writeable = False
    assert_same_bits(
        swap(lstm, wide, other_x, 1, [1, 2, 2, 2]).swapped, swap(lstm, x, other_x, 1, [1, 2, 2, 2]).swapped
    )


# ---- swap: refusals.


@pytest.mark.parametrize(
    ("options", "arguments", "error", "message"),
    [
        ({"bidirectional": True}, {}, ValueError, "forward LSTMs only, because the state of a reverse"),
        ({"reverse": True}, {}, ValueError, "network: expected forward LSTMs only"),
        ({"proj_size": 2}, {}, ValueError, 'parts: expected "cell" for an LSTM with proj_size'),
        ({}, {"parts": "c"}, ValueError, "parts: expected \"hidden\", \"cell\" or both, got 'c'"),
        ({}, {"parts": ()}, ValueError, 'parts: expected "hidden", "cell" or both, got \'none\''),
        ({}, {"parts": [np.zeros(2)]}, ValueError, r'"hidden", "cell" or both, got array\(\[0., 0.\]\)'),
        ({}, {"parts": 3}, TypeError, 'parts: expected "hidden", "cell" or both, got int'),
        ({}, {"units": 7}, IndexError, "units: expected -7 to 6, got 7"),
        ({}, {"step": 6}, IndexError, "step: expected -6 to 5, got 6"),
        ({}, {"step": [0, 0, 0, -7]}, IndexError, "step: expected -6 to 5, got -7"),
        ({}, {"step": [0, 1]}, ValueError, r"step: expected an int or one for each row, \(4,\), got \(2,\)"),
        ({}, {"step": 1.5}, TypeError, "step: expected integers, got dtype float64"),
        ({}, {"step": None}, TypeError, "step: expected integers, got dtype object"),
        ({}, {"other_step": 7}, IndexError, "other_step: expected -6 to 6, got 7"),
        ({}, {"other_x": np.zeros((6, 3, 3))}, ValueError, r"other_x: expected as many rows .* \(6, 4\), got \(6, 3\)"),
        ({}, {"other_x": np.zeros((6, 3))}, ValueError, r"other_x: expected as many rows .*, \(6, 4\), got \(6,\)"),
        ({}, {"other_x": np.zeros((6, 4, 2))}, ValueError, r"^other_x: expected \(T, N, 3\)"),
        ({}, {"other_lengths": [1]}, ValueError, r"^other_lengths: expected \(N,\) with N = 4"),
        ({}, {"other_state": 3}, TypeError, "^other_state: expected a pair"),
        ({}, {"other_state": (np.zeros((1, 4, 6)),) * 2}, ValueError, r"^other_state: h_0: expected .* 6\)$"),
        ({}, {"layer": "l1"}, ValueError, "layer: expected one of l0, got 'l1'"),
        ({}, {"other_x": np.zeros((5, 4, 3)), "step": 1, "reset": np.zeros((6, 4), bool)}, ValueError,
         r"reset: expected \(5, 4\), got \(6, 4\); other_x is run with the same mask"),
    ],
)  # fmt: skip
def test_what_swap_refuses(options, arguments, error, message):
    x, other_x = inputs()
    given = {"x": x, "other_x": other_x, "units": 1, "step": 2} | arguments
    with pytest.raises(error, match=message):
        swap(random_lstm(**SIZES, **options), **given)


def test_members_are_refused():
    x, other_x = inputs()
    network = lw.Network([lw.LSTM(3, 7, seed=0)], members=2)
    with pytest.raises(ValueError, match=r"network: expected one of one member, got one of 2; network\.member\(m\)"):
        swap(network, x, other_x, 1, 2)
    assert swap(network.member(1), x, other_x, 1, 2).output.shape == (4, 4, 7)


# ---- responsible.


def contrast(output):
    return output[0, :, 1].astype(np.float64) - output[0, :, 0]


def expected_shares(network, x, other_x, sets, step, outcome, **options):
    """One swap after the other; the other outcome is that of all units of the only LSTM."""
    own = outcome(swap(network, x, other_x, [], step, **options).output)
    other = outcome(swap(network, x, other_x, range(7), step, **(options | {"parts": ("hidden", "cell")})).swapped)
    moved = np.array([outcome(swap(network, x, other_x, units, step, **options).swapped) - own for units in sets])
    distance = other - own
    row_shares = moved / distance
    shares = [sum(np.sign(distance) * each) / sum(abs(distance)) for each in moved]
    return own, other, row_shares, np.array(shares)


@pytest.mark.parametrize("budget", [1, 5_000, swaps._BYTES])
@pytest.mark.parametrize("outcome", [(1, 0), contrast, lambda output: output.sum(axis=(0, 2), dtype=np.float64)])
def test_shares_are_those_of_single_swaps(outcome, budget, monkeypatch, dtype):
    monkeypatch.setattr(swaps, "_BYTES", budget)
    network = lw.Network([lw.LSTM(3, 7, seed=1, dtype=dtype), lw.Linear(7, 2, seed=3, dtype=dtype)])
    x, other_x = inputs(dtype)
    found = responsible(network, x, other_x, 3, outcome=outcome)
    function = contrast if isinstance(outcome, tuple) else outcome
    own, other, row_shares, shares = expected_shares(network, x, other_x, [[u] for u in range(7)], 3, function)
    assert_close(found.outcome, own, 1e-14)
    assert_close(found.other_outcome, other, 1e-14)
    assert sorted(found.units) == list(range(7))
    assert (np.diff(found.shares) <= 0).all()
    assert_close(found.shares, shares[found.units], 1e-12)
    assert_close(found.row_shares, row_shares[found.units], 1e-12)
    assert_close(found.turned, (row_shares > 0.5).mean(axis=1)[found.units], 1e-14)


def test_the_greedy_set_is_that_of_plain_loops():
    stops = [2, 5, 1, 4]
    network = lw.Network([lw.LSTM(3, 7, seed=1, dtype="float64"), lw.Linear(7, 2, seed=3, dtype="float64")])
    x, other_x = inputs("float64")
    for enough, most in ((0.9, 8), (0.5, 8), (2.0, 8), (0.9, 1), (0.9, 0)):
        found = responsible(network, x, other_x, stops, outcome=(1, 0), enough=enough, most=most)
        chosen, reached, turned = [], [], 0.0
        while len(chosen) < most and not (reached and reached[-1] >= enough):
            left = [unit for unit in range(7) if unit not in chosen]
            if not left:
                break
            sets = [[*chosen, unit] for unit in left]
            _, _, row_shares, shares = expected_shares(network, x, other_x, sets, stops, contrast)
            best = int(np.argmax(shares))
            if shares[best] <= (reached[-1] if reached else 0):
                break
            chosen.append(left[best])
            reached.append(shares[best])
            turned = (row_shares[best] > 0.5).mean()
        assert found.together == tuple(chosen)
        assert_close(found.together_shares, np.array(reached), 1e-12)
        assert found.together_turned == turned


def test_one_unit_alone_turns_what_it_alone_decides():
    """The head reads unit 4 alone, and no gate reads any h: unit 4's cell is all that matters."""
    network = lw.Network([random_lstm(**SIZES), lw.Linear(7, 2, bias=False)])
    with network.edit() as parameters:
        parameters["0.weight_hh_l0"][:] = 0
        parameters["1.weight"][:] = 0
        parameters["1.weight"][:, 4] = (1, -1)
    x, other_x = inputs()
    other_x[3:] = x[3:]
    found = responsible(network, x, other_x, 3, outcome=(0, 1))
    assert found.units.tolist() == [4, 0, 1, 2, 3, 5, 6]
    assert_close(found.shares, [1, 0, 0, 0, 0, 0, 0], 1e-6)
    assert found.turned.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert found.together == (4,)
    assert found.together_turned == 1
    assert_close(found.other_outcome, contrast(network(other_x)[0][3:]) * -1, 1e-6)
    assert repr(found).startswith("<Responsible in 0.l0: 4: 1, 0: 0, ")
    assert repr(found).endswith("together [4]: 1>")
    hidden = responsible(network, x, other_x, 3, outcome=(0, 1), parts="hidden")
    assert hidden.shares.tolist() == [0] * 7  # no gate reads h
    assert hidden.together == ()
    assert repr(hidden).endswith("together []: 0>")


def test_rows_that_have_ended_or_do_not_differ_do_not_count():
    network = lw.Network([lw.LSTM(3, 7, seed=1), lw.Linear(7, 2, seed=3)])
    x, other_x = inputs()
    other_x[:, 0] = x[:, 0]
    found = responsible(network, x, other_x, STOPS, outcome=(1, 0), lengths=LENGTHS)
    assert np.isnan(found.row_shares[:, :3]).all()  # equal, ended, and nothing read yet
    alone = responsible(network, x[:, 3:], other_x[:, 3:], 4, outcome=(1, 0))
    assert_same_bits(found.shares, alone.shares)
    assert_same_bits(found.row_shares[:, 3:], alone.row_shares)
    assert found.outcome[1] == found.other_outcome[1] == 0
    assert found.turned.tolist() == alone.turned.tolist()


@pytest.mark.parametrize("pooling", [lw.Last, lw.Mean])
def test_pooled_batch_first_and_unbatched(pooling):
    network = lw.Network([lw.LSTM(3, 7, 2, seed=1, batch_first=True), pooling(), lw.Linear(7, 2, seed=3)])
    x, other_x = (each.swapaxes(0, 1) for each in inputs())
    found = responsible(network, x, other_x, 3, outcome=(1, 0), layer="0.l1", units=[5, 2])
    for unit, row_shares in zip(found.units, found.row_shares, strict=True):
        result = swap(network, x, other_x, unit, 3, layer="0.l1")
        moved = contrast(result.swapped[np.newaxis]) - contrast(result.output[np.newaxis])
        assert_close(row_shares, moved / (found.other_outcome - found.outcome), 1e-12)
    alone = responsible(
        network, x[2], other_x[2], 3, outcome=lambda output: contrast(output[np.newaxis, np.newaxis])[0], layer="0.l1"
    )
    assert alone.row_shares.shape == (7, 1)
    unit = alone.units.tolist().index(5)
    assert_close(alone.row_shares[unit], found.row_shares[found.units.tolist().index(5), 2:3], 1e-6)


def test_tokens_and_several_lstms():
    network = lw.Network([lw.Embedding(VOCABULARY, 3, seed=0), lw.LSTM(3, 7, 2, seed=1), lw.LSTM(7, 5, seed=2),
                          lw.Linear(5, 2, seed=3)])  # fmt: skip
    x = np.arange(24).reshape(STEPS, ROWS) % VOCABULARY
    other_x = np.array(x)
    other_x[1] = (x[1] + 2) % VOCABULARY
    found = responsible(network, x, other_x, 4, outcome=(1, 0), layer="2.l0")
    assert_close(found.other_outcome, contrast(network(other_x)[0][4:]), 1e-7)
    assert_close(found.outcome, contrast(network(x)[0][4:]), 1e-7)
    assert found.shares.shape == (5,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"outcome": (0, 2)}, IndexError, "outcome: expected -2 to 1, got 2"),
        ({"outcome": (0, 1, 1)}, ValueError, "outcome: expected a function or a pair of features, got 3 items"),
        ({"outcome": 1}, TypeError, "outcome: expected a function or a pair of features, got int"),
        ({"outcome": ([0, 1], 1)}, TypeError, "outcome: expected int, got list"),
        ({"outcome": (0, 0)}, ValueError, "outcome: expected one that differs between the two runs"),
        ({"outcome": lambda output: output}, ValueError, r"outcome: expected one number for each row, \(4,\), got"),
        ({"outcome": lambda output: output[0, :, 0] / 0}, ValueError, "outcome: expected finite numbers"),
        ({"outcome": lambda output: ["a"] * 4}, TypeError, "outcome: expected real numbers, got dtype <U1"),
        ({"units": []}, ValueError, "units: expected at least one, got none"),
        ({"enough": "all"}, TypeError, "enough: expected float, got str"),
        ({"most": -1}, ValueError, "most: expected at least 0, got -1"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_responsible_refuses(arguments, error, message):
    network = lw.Network([lw.LSTM(3, 7, seed=1), lw.Linear(7, 2, seed=3)])
    x, other_x = inputs()
    with pytest.raises(error, match=message):
        responsible(network, x, other_x, 3, **({"outcome": (1, 0)} | arguments))
