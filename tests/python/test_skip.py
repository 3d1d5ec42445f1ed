"""skip: a step that is left out, so that a sequence gives what it gives without that step, bit for bit."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from generated import EVERY, RANDOM, batches, lstms, numbers
from hypothesis import given
from hypothesis import strategies as st
from layers import directions_of, normal, random_lstm
from members import CHAINS, MEMBERS, together
from skips import LENGTHS, ROWS, STEPS, masks, spoilt


def without(skip, lengths, array):
    """The steps of each row that are not left out, one after another, and zeros; and how many there are."""
    steps, rows = skip.shape
    lengths = np.full(rows, steps) if lengths is None else lengths
    shorter, counts = np.zeros_like(array), np.zeros(rows, int)
    for row in range(rows):
        kept = np.flatnonzero(~skip[: lengths[row], row])
        counts[row] = len(kept)
        shorter[: len(kept), row] = array[kept, row]
    return shorter, counts


class Expected:
    """What a batch with a skip mask means, step by step in plain loops: a ragged batch, and how it is spread out."""

    def __init__(self, skip, lengths, reset):
        steps, rows = skip.shape
        self.skip = skip
        self.lengths = np.full(rows, steps) if lengths is None else lengths
        reset = np.zeros_like(skip) if reset is None else reset
        _, self.counts = without(skip, lengths, skip)
        self.reset = np.zeros_like(skip)
        self.restarted_end = np.zeros(rows, bool)
        # Of each step the number of the one that it repeats in either direction, or -1.
        self.before, self.after = np.full((steps, rows), -1), np.full((steps, rows), -1)
        for row in range(rows):
            number, last, due = 0, -1, False
            for step in range(self.lengths[row]):
                if reset[step, row]:
                    last, due = -1, True
                if not skip[step, row]:
                    self.reset[number, row], due = due, False
                    last, number = number, number + 1
                self.before[step, row] = last
            self.restarted_end[row] = due
            following = -1
            for step in reversed(range(self.lengths[row])):
                if not skip[step, row]:
                    number -= 1
                    following = number
                self.after[step, row] = following
                if reset[step, row]:
                    following = -1

    def spread(self, output, columns, repeat):
        """The output of the whole batch. ``columns``: how many features the forward direction computes."""
        spread = np.zeros((*self.skip.shape, output.shape[2]), output.dtype)
        for step, row in np.ndindex(self.skip.shape):
            if not repeat and self.skip[step, row]:
                continue
            for numbers_of, part in ((self.before, np.s_[:columns]), (self.after, np.s_[columns:])):
                if numbers_of[step, row] >= 0:
                    spread[step, row, part] = output[numbers_of[step, row], row, part]
        return spread

    def summed(self, d_output, columns, repeat):
        """Its gradient, added in the order of the steps."""
        summed = np.zeros_like(d_output)
        first = np.ones(d_output.shape, bool)
        for step, row in np.ndindex(self.skip.shape):
            if not repeat and self.skip[step, row]:
                continue
            for numbers_of, part in ((self.before, np.s_[:columns]), (self.after, np.s_[columns:])):
                number = numbers_of[step, row]
                if number < 0:
                    continue
                if first[number, row, part].all():  # -0.0 must not become 0.0
                    summed[number, row, part] = d_output[step, row, part]
                else:
                    summed[number, row, part] += d_output[step, row, part]
                first[number, row, part] = False
        return summed

    def scattered(self, values):
        """Values of the steps that are not left out, at their places; zeros elsewhere."""
        scattered = np.zeros_like(values)
        for row in range(self.skip.shape[1]):
            kept = np.flatnonzero(~self.skip[: self.lengths[row], row])
            scattered[kept, row] = values[: len(kept), row]
        return scattered


def columns_of(lstm):
    """How many features of the output the forward direction computes."""
    size = lstm.proj_size or lstm.hidden_size
    return 0 if lstm.reverse else size


def own_start(lstm):
    """The layers' own start state, h and c: (num_layers * directions, size)."""
    states = []
    for name, size in (("h", lstm.proj_size or lstm.hidden_size), ("c", lstm.hidden_size)):
        suffixes = ["", "_reverse"] if lstm.bidirectional else ["_reverse"] if lstm.reverse else [""]
        places = [f"{name}_0_l{layer}{suffix}" for layer in range(lstm.num_layers) for suffix in suffixes]
        zeros = np.zeros(size, lstm.dtype)
        states.append(np.stack([lstm.parameters[place] if lstm.learn_start_state else zeros for place in places]))
    return states


@given(st.data())
def test_a_sequence_is_the_sequence_without_the_steps_left_out(data):
    lstm = data.draw(lstms(EVERY))
    batch = data.draw(batches(lstm))
    skip = np.random.RandomState(data.draw(st.integers(0, 2**32 - 1))).random_sample((batch.steps, batch.rows))
    skip = skip < data.draw(st.sampled_from([0.2, 0.5, 0.9]))
    repeat = data.draw(st.booleans())
    training = {"training": data.draw(st.booleans()), "mask_seed": 5}
    expected = Expected(skip, batch.lengths, batch.reset)
    columns = columns_of(lstm)
    shorter, counts = without(skip, batch.lengths, batch.x)

    def swapped(array):
        return np.swapaxes(array, 0, 1) if lstm.batch_first else array

    reset = None if batch.reset is None else swapped(batch.reset)
    options = {"skip": swapped(skip), "skip_output": "repeat" if repeat else "zero"}
    x = swapped(spoilt(batch.x, skip))
    tape = lstm.record(x, batch.start, batch.lengths, reset, **training, **options)
    d_output = batch.d_output if repeat else spoilt(batch.d_output, skip)
    gradients = tape.backward(swapped(d_output), batch.d_state)

    # Where a reset comes after the last step that is left, the forward direction ends in the layers' own start state,
    # and no step gets its gradient. The reverse direction starts from it.
    directions = directions_of(lstm)
    own = own_start(lstm)
    restarted, started = np.zeros((2, lstm.num_layers * directions, batch.rows), bool)
    if not lstm.reverse:
        restarted[::directions] = expected.restarted_end
    if lstm.reverse or lstm.bidirectional:
        started[directions - 1 :: directions] = expected.restarted_end & (counts > 0)
    start = batch.start
    if start is not None:
        start = tuple(np.where(started[..., None], one[:, None], part) for one, part in zip(own, start, strict=True))
    reference = lstm.record(swapped(shorter), start, counts, swapped(expected.reset), **training)
    d_state = tuple(np.where(restarted[..., np.newaxis], 0, part).astype(part.dtype) for part in batch.d_state)
    wanted = reference.backward(swapped(expected.summed(batch.d_output, columns, repeat)), d_state)

    assert_same_bits(swapped(tape.output), expected.spread(swapped(reference.output), columns, repeat))
    for name, part, other, one in zip("hc", tape.state, reference.state, own, strict=True):
        expected_part = np.where(restarted[..., None], one[:, None], other)
        assert_same_bits(part, expected_part, f"{name}_n")
    assert_same_bits(swapped(gradients.x), expected.scattered(swapped(wanted.x)))
    for part, other in zip(gradients.state, wanted.state, strict=True):
        assert_same_bits(part, np.where(started[..., None], np.zeros((), part.dtype), other))
    for name, value in gradients.parameters.items():
        if expected.restarted_end.any() and name.startswith(("h_0", "c_0")):
            continue  # see the test of learned start states
        assert_same_bits(value, wanted.parameters[name], name)
    if not training["training"]:
        output, state = lstm(x, batch.start, batch.lengths, reset, **options)
        assert_same_bits((output, *state), (tape.output, *tape.state))


def test_a_mask_without_a_hole_changes_nothing(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, dtype=dtype)
    x, reset = normal(1, (STEPS, ROWS, 3), dtype), masks(2)
    for lengths in (None, LENGTHS):
        none = np.zeros((STEPS, ROWS), bool)
        assert_same_bits(lstm(x, None, lengths, reset, skip=none), lstm(x, None, lengths, reset))


def test_what_is_repeated(dtype):
    lstm = random_lstm(input_size=3, hidden_size=4, bidirectional=True, dtype=dtype)
    skip = np.array([1, 1, 0, 1, 0, 1, 1], bool)
    reset = np.array([0, 0, 0, 0, 0, 0, 1], bool)
    output, _ = lstm(normal(1, (7, 3), dtype), reset=reset, skip=skip)
    forward, backward = output[:, :4], output[:, 4:]
    nothing = np.zeros(4, dtype)
    assert_same_bits(forward, np.stack([nothing, nothing, *forward[[2, 2, 4, 4]], nothing]))
    assert_same_bits(backward, np.stack([*backward[[2, 2, 2, 4, 4]], nothing, nothing]))
    zeros, _ = lstm(normal(1, (7, 3), dtype), reset=reset, skip=skip, skip_output="zero")
    assert_same_bits(zeros, np.where(skip[:, None], np.zeros((), dtype), output))


def test_skip_takes_the_shape_of_x_and_numbers_of_any_kind(dtype):
    options = {"input_size": 3, "hidden_size": 5, "dtype": dtype}
    lstm, batch_first = random_lstm(**options), random_lstm(**options, batch_first=True)
    x, skip = normal(1, (STEPS, ROWS, 3), dtype), masks(2)
    expected, state = lstm(x, skip=skip)
    swapped, swapped_state = batch_first(np.swapaxes(x, 0, 1), skip=skip.T)
    assert_same_bits((np.swapaxes(swapped, 0, 1), swapped_state), (expected, state))
    alone, alone_state = lstm(x[:, 1], skip=skip[:, 1])
    assert_same_bits((alone, alone_state), (expected[:, 1], tuple(part[:, 1] for part in state)))
    for other in (skip.astype(np.uint8), skip.astype(np.float32), skip.astype(int).tolist(), np.asfortranarray(skip)):
        assert_same_bits(lstm(x, skip=other), (expected, state))
    assert_same_bits(lstm(x, reset=skip.astype(np.float64)), lstm(x, reset=skip))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"skip": np.zeros((ROWS, STEPS), bool)}, ValueError, r"skip: expected \(9, 5\), got \(5, 9\)"),
        ({"skip": np.full((STEPS, ROWS), 2)}, ValueError, "skip: expected 0 or 1, got 2"),
        ({"skip": np.full((STEPS, ROWS), np.nan)}, ValueError, "skip: expected 0 or 1, got nan"),
        ({"skip": np.full((STEPS, ROWS), "a")}, TypeError, "skip: expected bool, or numbers .*, got dtype <U1"),
        ({"skip_output": "hold"}, ValueError, 'skip_output: expected "repeat" or "zero", got \'hold\''),
        ({"skip_output": None}, ValueError, 'skip_output: expected "repeat" or "zero", got None'),
    ],
)
def test_what_cannot_be_a_mask_is_refused(arguments, error, message):
    lstm = random_lstm(input_size=3, hidden_size=5)
    for call in (lstm, lstm.record, lstm.trace):
        with pytest.raises(error, match=message):
            call(normal(1, (STEPS, ROWS, 3)), **arguments)
    if "skip_output" in arguments:
        with pytest.raises(error, match=message):
            lstm.stream(2, **arguments)


def test_the_gradient_of_a_restarted_end_is_that_of_the_learned_start_state():
    lstm = random_lstm(input_size=3, hidden_size=4, num_layers=2, learn_start_state=True, dtype="float64")
    x, start = normal(1, (4, 2, 3), "float64"), tuple(normal(k, (2, 2, 4), "float64") for k in (2, 3))
    skip, reset = np.zeros((4, 2), bool), np.zeros((4, 2), bool)
    skip[2:, 1] = reset[3, 1] = True  # row 1 ends in the learned start state, row 0 in the state of its last step
    tape = lstm.record(x, start, reset=reset, skip=skip)
    d_state = tuple(normal(k, (2, 2, 4), "float64") for k in (4, 5))
    parameters = tape.backward(None, d_state).parameters
    for name, state, d_part in zip("hc", tape.state, d_state, strict=True):
        for layer in range(2):
            assert_same_bits(state[layer, 1], lstm.parameters[f"{name}_0_l{layer}"])
            assert_same_bits(parameters[f"{name}_0_l{layer}"], d_part[layer, 1])
    only_row_0 = lstm.record(x[:, :1], tuple(part[:, :1] for part in start))
    expected = only_row_0.backward(None, tuple(part[:, :1] for part in d_state)).parameters
    for name, value in parameters.items():
        if not name.startswith(("h_0", "c_0")):
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-14)


def test_a_trace_shows_the_state_that_is_carried_through(dtype):
    lstm = random_lstm(input_size=3, hidden_size=4, bidirectional=True, learn_start_state=True, dtype=dtype)
    lstm.parameters["h_0_l0"] = lstm.parameters["c_0_l0"] = np.full(4, 0.25, dtype)
    start = tuple(normal(k, (2, 1, 4), dtype) for k in (2, 3))
    skip, reset = np.zeros((7, 1), bool), np.zeros((7, 1), bool)
    skip[[0, 2, 4, 6]] = True
    reset[4] = True
    x = spoilt(normal(1, (7, 1, 3), dtype), skip)
    trace = lstm.trace(x, start, reset=reset, skip=skip)
    shorter = lstm.trace(x[[1, 3, 5]], start, reset=reset[[1, 4, 4]] & np.array([[False], [False], [True]]))
    forward, backward = trace["l0"], trace["l0_reverse"]
    for signal in ("input_gate", "forget_gate", "candidate", "output_gate"):
        for one, other in ((forward, shorter["l0"]), (backward, shorter["l0_reverse"])):
            expected = np.zeros_like(getattr(one, signal))
            expected[[1, 3, 5]] = getattr(other, signal)
            assert_same_bits(getattr(one, signal), expected, signal)
    for signal, passed, name in (("hidden", start[0], "h_0_l0"), ("cell", start[1], "c_0_l0")):
        own, own_reverse = lstm.parameters[name], lstm.parameters[f"{name}_reverse"]
        steps = getattr(shorter["l0"], signal)[:, 0]
        expected = np.stack([passed[0, 0], steps[0], steps[0], steps[1], own, steps[2], steps[2]])
        assert_same_bits(getattr(forward, signal)[:, 0], expected, signal)
        steps = getattr(shorter["l0_reverse"], signal)[:, 0]
        expected = np.stack([steps[0], steps[0], steps[1], steps[1], steps[2], steps[2], passed[1, 0]])
        assert_same_bits(getattr(backward, signal)[:, 0], expected, signal)
        assert own_reverse.shape == own.shape
    zeros = lstm.trace(x, start, reset=reset, skip=skip, skip_output="zero")
    assert_same_bits(zeros["l0"], forward)
    assert_same_bits(zeros.output, np.where(skip[..., None], np.zeros((), dtype), trace.output))


@pytest.mark.parametrize("pooling", [lw.Mean, lw.Max])
def test_pooling_counts_from_a_reset_that_is_left_out(pooling):
    lstm = random_lstm(input_size=3, hidden_size=5)
    network = lw.Network([lstm, pooling()])
    x = normal(1, (STEPS, ROWS, 3))
    reset, skip = np.zeros((STEPS, ROWS), bool), np.zeros((STEPS, ROWS), bool)
    reset[4] = skip[4:6] = True
    output, _ = network(x, reset=reset, skip=skip)
    assert_same_bits(output, network(x[6:])[0])
    assert not network(x[:6], reset=reset[:6], skip=skip[:6])[0].any()  # no step counts
    d_x = network.record(x[:6], reset=reset[:6], skip=skip[:6]).backward(np.ones((ROWS, 5), np.float32)).x
    assert not d_x.any()


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("own", [False, True], ids=["shared", "of each member"])
def test_networks_and_members_leave_steps_out(chain, own, dtype):
    """A call, gradients and a training step of several members are those of the batches without these steps."""
    network = together(CHAINS[chain], dtype)
    batch_first = network.batch_first
    tokens = isinstance(network[0], lw.Embedding)
    skip = np.stack([masks(seed) for seed in range(MEMBERS)]) if own else np.stack([masks(0)] * MEMBERS)
    x = np.random.RandomState(3).randint(0, 5, (STEPS, ROWS)) if tokens else numbers(3, (STEPS, ROWS, 3), dtype)
    everywhere = skip.all(axis=0)
    given_x, given_skip = spoilt(x, everywhere), skip if own else skip[0]
    shorter = [without(mask, LENGTHS, x) for mask in skip]

    def axes_of(array, member_axis, features):
        first = int(member_axis)
        assert array.ndim == first + 2 + features
        return np.swapaxes(array, first, first + 1) if batch_first else array

    given_x = axes_of(given_x, False, int(not tokens))
    given_skip = axes_of(given_skip, own, 0)
    other_x = axes_of(np.stack([array for array, _ in shorter]), True, int(not tokens))
    counts = np.stack([count for _, count in shorter])
    output, state = network(given_x, None, LENGTHS, skip=given_skip)
    wanted, wanted_state = network(other_x, None, counts)
    assert_same_bits(state, wanted_state)
    sequence = network._core.keeps_sequence
    if sequence:
        output, wanted = axes_of(output, True, 1), axes_of(wanted, True, 1)
        for member in range(MEMBERS):
            found, _ = without(skip[member], LENGTHS, output[member])
            assert_same_bits(found, wanted[member])
    else:
        assert_same_bits(output, wanted)

    tape = network.record(given_x, None, LENGTHS, training=True, mask_seed=3, skip=given_skip, skip_output="zero")
    other = network.record(other_x, None, counts, training=True, mask_seed=3)
    d_output = np.ones_like(tape.output)
    found, expected = tape.backward(d_output), other.backward(np.ones_like(other.output))
    assert_same_bits(dict(found.parameters), dict(expected.parameters))
    assert_same_bits(found.state, expected.state)

    size = network._core.output_size
    shape = (STEPS, ROWS, size) if sequence else (ROWS, size)
    target = numbers(4, shape, dtype)
    given_y, other_y = target, target
    if sequence:
        given_y = axes_of(spoilt(target, everywhere), False, 1)
        other_y = axes_of(np.stack([without(mask, LENGTHS, target)[0] for mask in skip]), True, 1)
    results = []
    for *arguments, mask in ((given_x, given_y, None, LENGTHS, given_skip), (other_x, other_y, None, counts, None)):
        trained = together(CHAINS[chain], dtype)
        trainer = lw.Trainer(trained, "squared_error", lw.optim.Adam(lr=0.01), seed=1)
        measured, _ = trainer.evaluate(*arguments, skip=mask)
        loss, end = trainer.step(*arguments, skip=mask)
        results.append((measured, loss, end, trained.state_dict()))
    assert_same_bits(results[0], results[1])


@pytest.mark.parametrize("loss", ["cross_entropy", "quantile"])
def test_labels_and_quantiles_of_steps_left_out_do_not_count(loss):
    skip = masks(1)
    x = normal(2, (STEPS, ROWS, 3))
    y = (
        np.random.RandomState(3).randint(0, 6, (STEPS, ROWS))
        if loss == "cross_entropy"
        else normal(4, (STEPS, ROWS, 2))
    )
    options = {} if loss == "cross_entropy" else {"quantiles": (0.1, 0.5, 0.9)}
    (shorter_x, counts), (shorter_y, _) = without(skip, None, x), without(skip, None, y)
    results = []
    batches_of = ((spoilt(x, skip), spoilt(y, skip), None, None, skip), (shorter_x, shorter_y, None, counts, None))
    for *arguments, mask in batches_of:
        trainer = lw.Trainer(random_lstm(input_size=3, hidden_size=6), loss, lw.optim.SGD(lr=0.1), seed=1, **options)
        value, _ = trainer.gradient(*arguments, skip=mask)
        results.append((value, dict(trainer.gradients)))
    assert_same_bits(results[0], results[1])
    everything = np.ones((STEPS, ROWS), bool)
    assert trainer.evaluate(x, y, skip=everything)[0] == 0.0


def test_checkpoints_change_nothing(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, dtype=dtype)
    x, skip, reset = normal(1, (STEPS, ROWS, 3), dtype), masks(2), masks(3)
    d_output = normal(4, (STEPS, ROWS, 10), dtype)
    tapes = [lstm.record(x, None, LENGTHS, reset, skip=skip, checkpoint=interval) for interval in (None, 2)]
    assert_same_bits(tapes[1].output, tapes[0].output)
    whole, segments = (tape.backward(d_output) for tape in tapes)
    assert_same_bits((segments.x, dict(segments.parameters)), (whole.x, dict(whole.parameters)))


def test_a_token_out_of_range_is_refused_where_it_is_read():
    network = lw.Network([lw.Embedding(5, 3, seed=0), lw.LSTM(3, 4, seed=0)])
    tokens, skip = np.zeros((4, 2), int), np.zeros((4, 2), bool)
    tokens[2, 1] = 9
    with pytest.raises(ValueError, match="x: expected tokens from 0 to 4, got 9 at step 2, row 1"):
        network(tokens, skip=skip)
    skip[2, 1] = True
    network(tokens, skip=skip)
    stream = network.stream(2)
    with pytest.raises(ValueError, match="x: expected tokens from 0 to 4, got 9"):
        stream.step(tokens[2])
    with pytest.raises(ValueError, match="x: expected tokens from 0 to 4, got 9"):
        stream.step(tokens[2], skip=np.array([True, False]))
    stream.step(tokens[2], skip=skip[2])
    network.stream().step(9, skip=True)


@pytest.mark.parametrize("name", RANDOM)
def test_random_masks_count_the_steps_that_are_left(name):
    lstm = random_lstm(input_size=3, hidden_size=5, **RANDOM[name])
    skip = np.array([1, 0, 1, 0, 0, 1], bool)
    x = normal(1, (6, 3))
    tape = lstm.record(x, training=True, mask_seed=7, skip=skip)
    shorter = lstm.record(x[~skip], training=True, mask_seed=7)
    assert_same_bits(tape.output[~skip], shorter.output)
