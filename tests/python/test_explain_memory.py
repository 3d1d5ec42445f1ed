"""explain.memory, written_by and erased_by: what cells hold, as a sum over the steps that wrote it."""

import re

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from decompositions import ROWS, STEPS, Course, arguments_of, gated_lstm, gates_input
from generated import batches, lstms
from hypothesis import given, settings
from hypothesis import strategies as st
from latchwork import explain
from layers import normal, random_lstm
from members import MEMBERS, Data, together
from skips import masks
from variants import PLAIN

TOLERANCE = {"float32": 1e-6, "float64": 1e-13}
WITHIN_BOUNDS = {
    name: options | ({"cell_clip": 50} if "cell_clip" in options else {}) for name, options in PLAIN.items()
}


def courses_of(lstm, trace, start, common):
    """The course of each layer and direction by name."""
    courses = {}
    for place, name in enumerate(trace):
        own = np.zeros(lstm.hidden_size)
        if lstm.learn_start_state:
            own = lstm.parameters[f"c_0_{name}"]
        passed = np.broadcast_to(own, (ROWS, lstm.hidden_size)) if start is None else start[1][place]
        courses[name] = Course(trace[name], name.endswith("_reverse"), passed, own, lstm.zoneout[1], **common)
    return courses


def assert_within(actual, expected, tolerance, scale, name):
    assert actual.shape == np.shape(expected), name
    error = np.abs(np.asarray(actual, np.float64) - expected).max(initial=0) / max(scale, 1e-3)
    assert error <= tolerance, f"{name}: off by {error:.3g} of the largest cell"


def check_memory(course, memory, at, tolerance):
    """Against plain loops, and the sum against the cell that the core computed."""
    terms, start = course.memory(at)
    scale = np.abs(course.shown.cell).max(initial=0)
    assert_within(memory.terms, terms, tolerance, scale, "terms")
    assert_within(memory.start, start, tolerance, scale, "start")
    assert_same_bits(memory.cell, course.shown.cell[at])
    total = memory.terms.sum(axis=0, dtype=np.float64) + memory.start
    assert_within(total, memory.cell.astype(np.float64), tolerance, scale, "sum")
    sizes, started = np.abs(terms).sum(axis=-1), np.abs(start).sum(axis=-1)
    whole = sizes.sum(axis=0) + started
    for actual, part in ((memory.share, sizes), (memory.start_share, started)):
        expected = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        assert_within(actual, expected, 10 * tolerance, 1, "share")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", WITHIN_BOUNDS.values(), ids=WITHIN_BOUNDS)
def test_the_terms_are_those_of_plain_loops_and_add_up_to_the_cell(options, masked, dtype):
    lstm = random_lstm(input_size=3, hidden_size=7, dtype=dtype, **options)
    start, common = arguments_of(lstm, masked)
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3), dtype), start, **common)
    for name, course in courses_of(lstm, trace, start, common).items():
        for at in range(STEPS):
            memory = explain.memory(trace, at, name)
            assert memory.terms.dtype == memory.start.dtype == memory.share.dtype == dtype
            check_memory(course, memory, at, TOLERANCE[dtype])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{"reverse": True}, {"bidirectional": True, "learn_start_state": True}])
def test_a_start_state_of_the_layers_own(options, masked, dtype):
    lstm = random_lstm(input_size=3, hidden_size=7, dtype=dtype, **options)
    _, common = arguments_of(lstm, masked)
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3), dtype), **common)
    for name, course in courses_of(lstm, trace, None, common).items():
        for at in range(STEPS):
            check_memory(course, explain.memory(trace, at, name), at, TOLERANCE[dtype])


@pytest.mark.parametrize(("steps", "rows", "units"), [(1, 1, 1), (1, 7, 17), (31, 1, 31), (100, 2, 3)])
def test_odd_sizes(steps, rows, units, dtype):
    lstm = random_lstm(input_size=2, hidden_size=units, bidirectional=True, dtype=dtype)
    start = tuple(normal(place, (2, rows, units), dtype) for place in (2, 3))
    trace = lstm.trace(normal(1, (steps, rows, 2), dtype), start)
    for place, name in enumerate(trace):
        course = Course(trace[name], name.endswith("_reverse"), start[1][place], np.zeros(units))
        for at in {0, steps // 2, steps - 1}:
            check_memory(course, explain.memory(trace, at, name), at, TOLERANCE[dtype])


@settings(max_examples=100)
@given(data=st.data())
def test_the_sum_is_the_cell_whatever_the_layer(data):
    lstm = data.draw(lstms(WITHIN_BOUNDS))
    batch = data.draw(batches(lstm))
    x, reset = batch.x, batch.reset
    if lstm.batch_first:
        x, reset = x.swapaxes(0, 1), None if reset is None else reset.T
    trace = lstm.trace(x, batch.start, lengths=batch.lengths, reset=reset)
    name = data.draw(st.sampled_from(list(trace)))
    if batch.steps == 0:
        return
    at = data.draw(st.integers(-batch.steps, batch.steps - 1))
    memory = explain.memory(trace, at, name)
    axis = 1 if lstm.batch_first else 0
    assert_same_bits(memory.cell, trace[name].cell.take(at, axis))
    scale = np.abs(trace[name].cell).max(initial=0)
    total = memory.terms.sum(axis=axis, dtype=np.float64) + memory.start
    assert_within(total, memory.cell.astype(np.float64), TOLERANCE[lstm.dtype.name], scale, "sum")


@pytest.mark.parametrize("options", [{}, {"forget_gate": False}, {"forget_bias": 4.0}, {"zoneout": (0.0, 0.1)}])
def test_ten_thousand_steps(options, dtype):
    lstm = lw.LSTM(2, 5, seed=0, dtype=dtype, **options)
    trace = lstm.trace(normal(1, (10_000, 2), dtype), (normal(2, (1, 5), dtype), normal(3, (1, 5), dtype)))
    for steps in (100, 2_000, 10_000):
        memory = explain.memory(trace, steps - 1)
        total = memory.terms.sum(axis=0, dtype=np.float64) + memory.start
        tolerance = 1e-13 if dtype == "float64" else 1e-6 if steps == 100 else 6e-8 * steps
        scale = np.abs(trace.cell[:steps]).max()
        assert_within(total, memory.cell.astype(np.float64), tolerance, scale, f"sum after {steps} steps")


def test_batch_first_and_unbatched_have_the_axes_of_the_trace():
    lstm = random_lstm(input_size=3, hidden_size=7)
    first = lw.LSTM(3, 7, batch_first=True)
    first.load_state_dict(lstm.state_dict())
    x = normal(1, (STEPS, ROWS, 3))
    expected = explain.memory(lstm.trace(x), 5)
    actual = explain.memory(first.trace(x.swapaxes(0, 1)), 5)
    assert_same_bits(actual.terms.swapaxes(0, 1), expected.terms)
    assert_same_bits(actual.share.swapaxes(0, 1), expected.share)
    assert_same_bits(
        (actual.start, actual.cell, actual.start_share), (expected.start, expected.cell, expected.start_share)
    )
    alone = explain.memory(first.trace(x[:, 2]), 5)
    assert_same_bits(alone.terms, expected.terms[:, 2])
    assert_same_bits((alone.start, alone.cell), (expected.start[2], expected.cell[2]))
    assert_same_bits((alone.share, alone.start_share), (expected.share[:, 2], expected.start_share[2]))
    for function in (explain.written_by, explain.erased_by):
        expected, actual, alone = (function(module.trace(given), 5) for module, given in
                                   ((lstm, x), (first, x.swapaxes(0, 1)), (lstm, x[:, 2])))  # fmt: skip
        for whole, swapped, of_one in zip(expected, actual, alone, strict=True):
            assert_same_bits(swapped.T, whole)
            assert_same_bits(of_one, whole[:, 2])


class Foreign:
    """An array of another library: neither a sequence nor NumPy's."""

    def __init__(self, numbers):
        self._numbers = numbers

    def __array__(self, dtype=None, copy=None):
        return np.array(self._numbers, dtype)


def test_chosen_units_and_rows_are_those_of_the_whole():
    lstm = random_lstm(input_size=3, hidden_size=7, bidirectional=True)
    start, common = arguments_of(lstm, masked=True)
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)), start, **common)
    for name in trace:
        whole = explain.memory(trace, 3, name)
        some = explain.memory(trace, 3, name, unit=[4, -1, 0], row=np.array([3, 1]))
        assert_same_bits(some.terms, whole.terms[:, [3, 1]][..., [4, -1, 0]])
        assert_same_bits(some.start, whole.start[[3, 1]][:, [4, -1, 0]])
        assert_same_bits(some.cell, whole.cell[[3, 1]][:, [4, -1, 0]])
        foreign = explain.memory(trace, 3, name, unit=Foreign([4, -1, 0]))
        assert_same_bits(foreign.terms, whole.terms[..., [4, -1, 0]])
        one = explain.memory(trace, 3, name, unit=-2, row=3)
        assert_same_bits(one.terms, whole.terms[:, 3, -2])
        assert_same_bits((one.start, one.cell), (whole.start[3, -2], whole.cell[3, -2]))
        something = (whole.cell != 0).any(axis=-1)
        assert 0 < something.sum() < ROWS
        assert_within(whole.share.sum(axis=0) + whole.start_share, something.astype(float), 1e-6, 1, "shares")
        assert_same_bits(explain.memory(trace, 3, name, row=[0]).share, whole.share[:, [0]])
        assert_same_bits(explain.memory(trace, 3 - STEPS, name).terms, whole.terms)
        for function in (explain.written_by, explain.erased_by):
            assert_same_bits(function(trace, 3, name, row=3).steps, function(trace, 3, name).steps[:, 3])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_members(shared, batch_first):
    network = together(
        lambda seed, dtype: [
            lw.LSTM(3, 6, bidirectional=True, batch_first=batch_first, learn_start_state=True, dtype=dtype, seed=seed)
        ]
    )
    with network.edit() as parameters:
        for name in parameters:
            parameters[name][...] = normal(len(name), parameters[name].shape)
    data = Data(network, shared)
    for state in (data.state, None):
        trace = network.trace(data.x, state, **data.common)
        for name in trace:
            results = [function(trace, 2, name) for function in (explain.memory, explain.written_by, explain.erased_by)]
            for member in range(MEMBERS):
                alone = network.member(member).trace(
                    data.of(data.x, member), None if state is None else data.of(state, member), **data.common_of(member)
                )
                expected = [
                    function(alone, 2, name) for function in (explain.memory, explain.written_by, explain.erased_by)
                ]
                for together_, of_one in zip(results, expected, strict=True):
                    for part, other in zip(together_, of_one, strict=True):
                        assert_same_bits(part[member], other)
                assert_same_bits(explain.memory(trace, 2, name, member=member - MEMBERS), expected[0])
            some = explain.memory(trace, 2, name, member=[2, 0], row=[1, 1], unit=[0])
            assert_same_bits(some.start, results[0].start[[2, 0]][:, [1, 1]][..., [0]])


def test_layers_of_a_network_by_name_and_number():
    network = lw.Network(
        [lw.Embedding(9, 3, seed=0), lw.LSTM(3, 4, 2, bidirectional=True, seed=0), lw.LSTM(8, 5, reverse=True, seed=1)]
    )
    trace = network.trace(np.arange(14).reshape(7, 2) % 9)
    assert explain.memory(trace, 3).terms.shape == (7, 2, 4)
    for number, name in enumerate(["1.l0", "1.l1", "2.l0_reverse"]):
        for layer in (number, number - 3, np.int64(number)):
            assert_same_bits(explain.memory(trace, 3, layer), explain.memory(trace, 3, name))
            assert_same_bits(trace[layer].cell, trace[name].cell)
    assert_same_bits(explain.memory(trace, 3, "1.l1_reverse").cell, trace["1.l1_reverse"].cell[3])
    for bad in ("l0", "1.l2", ""):
        with pytest.raises(ValueError, match=re.escape("layer: expected one of 1.l0, 1.l0_reverse, 1.l1")):
            explain.memory(trace, 3, bad)
    with pytest.raises(IndexError, match="layer: expected -3 to 2, got 3"):
        explain.memory(trace, 3, 3)
    assert_same_bits(explain.memory(trace, 0, None).terms, explain.memory(trace, 0, 0).terms)
    with pytest.raises(TypeError, match="layer: expected str or int, got float"):
        explain.memory(trace, 3, 1.0)
    without = lw.Network([lw.Linear(3, 2, seed=0)]).trace(np.ones((4, 1, 3)))
    for layer in (None, 0, "l0"):
        with pytest.raises(ValueError, match="layer: expected one of an LSTM, but the network has no LSTM"):
            explain.memory(without, 3, layer)


@pytest.mark.parametrize("function", [explain.memory, explain.written_by, explain.erased_by])
def test_wrong_arguments(function):
    trace = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (STEPS, ROWS, 3)))
    for arguments, error, message in [
        ({"step": STEPS}, IndexError, "step: expected -9 to 8, got 9"),
        ({"step": -STEPS - 1}, IndexError, "step: expected -9 to 8, got -10"),
        ({"step": 1.0}, TypeError, "step: expected int, got float"),
        ({"step": True}, TypeError, "step: expected int, got bool"),
        ({"unit": 5}, IndexError, "unit: expected -5 to 4, got 5"),
        ({"unit": [0, -6]}, IndexError, "unit[1]: expected -5 to 4, got -6"),
        ({"unit": "0"}, TypeError, "unit: expected int, a sequence of int or None, got str"),
        ({"unit": [True] * 5}, TypeError, "unit[0]: expected int, got bool"),
        ({"unit": np.ones((1, 1), int)}, TypeError, "unit: expected int, a sequence of int or None, got ndarray"),
        ({"unit": 0.5}, TypeError, "unit: expected int, a sequence of int or None, got float"),
        ({"row": 5}, IndexError, "row: expected -5 to 4, got 5"),
        ({"member": 0}, ValueError, "member: expected None, because there is one member only, got 0"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            function(**({"trace": trace, "step": 0} | arguments))
    for bad in (trace["l0"], None, random_lstm(input_size=3, hidden_size=5)):
        with pytest.raises(TypeError, match=f"trace: expected a Trace, .* got {type(bad).__name__}"):
            function(bad, 0)
    unbatched = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (STEPS, 3)))
    with pytest.raises(ValueError, match="row: expected None, because x was unbatched, got 0"):
        function(unbatched, 0, row=0)


def test_no_steps_no_rows_and_no_units():
    lstm = random_lstm(input_size=3, hidden_size=5)
    for function in (explain.memory, explain.written_by, explain.erased_by):
        with pytest.raises(IndexError, match="step: expected an index, but there are none to choose from, got 0"):
            function(lstm.trace(np.ones((0, 2, 3))), 0)
        for part in function(lstm.trace(np.ones((4, 0, 3))), 1):
            assert part.size == 0
        trace = lstm.trace(np.ones((4, 2, 3)))
        assert all((part == 0).all() for part in function(trace, 1, unit=[])[1:])


class TestRankings:
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("name", ["zoneout", "coupled", "cell clip", "activations of two directions"])
    def test_they_are_those_of_plain_loops(self, name, masked, dtype):
        lstm = random_lstm(input_size=3, hidden_size=7, dtype=dtype, **WITHIN_BOUNDS[name])
        start, common = arguments_of(lstm, masked)
        trace = lstm.trace(normal(1, (STEPS, ROWS, 3), dtype), start, **common)
        for layer, course in courses_of(lstm, trace, start, common).items():
            for at in range(STEPS):
                terms, left = course.memory(at)
                whole = (np.abs(terms).sum(axis=0) + np.abs(left)).sum(axis=-1)
                written = np.abs(terms).sum(axis=-1)
                self.check(explain.written_by(trace, at, layer), written, np.broadcast_to(whole, written.shape), dtype)
                lost, held = course.erased(at)
                self.check(explain.erased_by(trace, at, layer), lost.sum(axis=-1), held.sum(axis=-1), dtype)

    def check(self, ranking, amounts, whole, dtype):
        tolerance = 20 * TOLERANCE[dtype]
        assert (np.sort(ranking.steps, axis=0) == np.arange(STEPS)[:, np.newaxis]).all()
        assert (np.diff(ranking.amounts, axis=0) <= 0).all()
        expected = np.take_along_axis(amounts, ranking.steps, axis=0)
        assert_within(ranking.amounts, expected, tolerance, 1, "amounts")
        shares = np.divide(amounts, whole, out=np.zeros_like(amounts), where=whole > 0)
        assert_within(ranking.shares, np.take_along_axis(shares, ranking.steps, axis=0), tolerance, 1, "shares")

    def test_of_equal_steps_the_nearest_comes_first(self):
        x = gates_input(i=[0, 1, 2, 0, 2, 9], f=1, g=1)
        forward = explain.written_by(gated_lstm().trace(x), 4)
        assert forward.steps.tolist() == [4, 2, 1, 3, 0, 5]
        assert forward.amounts.tolist() == [2, 2, 1, 0, 0, 0]
        assert_within(forward.shares, [0.4, 0.4, 0.2, 0, 0, 0], 1e-7, 1, "shares")
        backward = explain.written_by(gated_lstm(reverse=True).trace(x[::-1]), 1)
        assert backward.steps.tolist() == [1, 3, 4, 2, 5, 0]
        assert list(zip(*forward, strict=True))[0][:2] == (4, 2)

    def test_many_equal_steps(self):
        trace = gated_lstm().trace(gates_input(i=np.tile([1, 0], 500), f=1, g=1))
        steps = explain.written_by(trace, -1).steps
        assert steps.tolist() == [*range(998, -1, -2), *range(999, 0, -2)]

    def test_erased_is_what_the_forget_gate_took_whatever_was_written(self):
        x = gates_input(i=1, f=[1, 1, 0.25, 1, 0, 2, -1], g=[4, 0, 1, 0, -3, 1, 0])
        trace = gated_lstm().trace(x)
        assert trace.cell[:, 0].tolist() == [4, 4, 2, 2, -3, -5, 5]
        ranking = explain.erased_by(trace, -1)
        assert ranking.steps.tolist() == [6, 2, 4, 5, 3, 1, 0]
        assert ranking.amounts.tolist() == [10, 3, 2, 0, 0, 0, 0]
        assert ranking.shares.tolist() == [2, 0.75, 1, 0, 0, 0, 0]
        assert explain.erased_by(trace, 3).steps.tolist() == [2, 3, 1, 0, 4, 5, 6]

    def test_a_nan_comes_first(self):
        trace = spoilt_trace(np.nan, "candidate", f=1, g=[1, 2, 3, 4])
        ranking = explain.written_by(trace, -1)
        assert ranking.steps.tolist() == [2, 3, 1, 0]
        assert np.isnan(ranking.amounts[0])
        assert ranking.amounts[1:].tolist() == [4, 2, 1]
        assert explain.erased_by(spoilt_trace(np.nan, "forget_gate", f=0.5, g=1), -1).steps[0] == 2


class TestCellClip:
    def test_it_is_refused_for_exactly_the_cells_that_were_cut(self, dtype):
        lstm = random_lstm(input_size=3, hidden_size=7, dtype=dtype, cell_clip=0.3, bidirectional=True)
        start, _ = arguments_of(lstm, False)
        start = (start[0], np.clip(start[1], -0.25, 0.25))
        reset = masks(3, 0.2)
        trace = lstm.trace(normal(1, (STEPS, ROWS, 3), dtype), start, reset=reset)
        refused = 0
        for name in trace:
            steps = list(range(STEPS)) if name == "l0" else list(reversed(range(STEPS)))
            for row, unit in np.ndindex(ROWS, 7):
                cut = []
                for at in steps:
                    restarts = reset[at, row] if name == "l0" else at + 1 < STEPS and reset[at + 1, row]
                    cut = [] if restarts else cut
                    if abs(trace[name].cell[at, row, unit]) == lstm.dtype.type(0.3):
                        cut.append(at)
                    if not cut:
                        explain.memory(trace, at, name, unit=unit, row=row)
                        continue
                    refused += 1
                    where = f"unit {unit} at step {cut[0]}, row {row} of {name}:"
                    for function in (explain.memory, explain.written_by):
                        with pytest.raises(ValueError, match=where):
                            function(trace, at, name, unit=unit, row=row)
        assert 50 < refused < 500

    def test_a_cell_at_the_bound_was_not_cut(self):
        trace = gated_lstm(cell_clip=2).trace(gates_input(i=1, f=1, g=[2, 0, -4, 1]))
        assert trace.cell[:, 0].tolist() == [2, 2, -2, -1]
        assert explain.memory(trace, -1).terms[:, 0].tolist() == [2, 0, -4, 1]

    def test_a_cut_of_which_nothing_is_left_does_no_harm(self):
        trace = gated_lstm(cell_clip=2).trace(gates_input(i=1, f=[1, 1, 0, 1], g=[3, 1, 1, 0.5]))
        for at in (0, 1):
            with pytest.raises(ValueError, match="unit 0 at step 0 of l0"):
                explain.memory(trace, at)
        assert explain.memory(trace, 3).terms[:, 0].tolist() == [0, 0, 1, 0.5]
        assert explain.erased_by(trace, 3).amounts[0] == 2

    def test_what_is_left_of_a_cut_may_be_too_small_for_the_dtype(self):
        x = gates_input(i=1, f=[1] + [0.5] * 300, g=[3] + [0.5] * 300)
        assert explain.memory(gated_lstm(cell_clip=2).trace(x), -1).terms[0, 0] == 0
        with pytest.raises(ValueError, match="unit 0 at step 0 of l0"):
            explain.memory(gated_lstm(cell_clip=2, dtype="float64").trace(x), -1)

    def test_with_zoneout_what_is_cut_is_the_cell_before_the_mix(self):
        lstm = gated_lstm(cell_clip=2, zoneout=(0.0, 0.5))
        trace = lstm.trace(gates_input(i=1, f=1, g=[1, 1, 3, 0]))
        assert trace.cell[:, 0].tolist() == [0.5, 1, 1.5, 1.5]  # at step 2 (1 + 2) / 2, and 2 was 4
        assert explain.memory(trace, 1).terms[:, 0].tolist() == [0.5, 0.5, 0, 0]
        with pytest.raises(ValueError, match="unit 0 at step 2 of l0"):
            explain.memory(trace, 3)

    def test_members_are_named(self):
        network = lw.Network([lw.LSTM(2, 3, seed=0, cell_clip=1e-3)], members=2)
        with pytest.raises(ValueError, match=r"unit 2 at step 0, row 1, member 1 of 0\.l0: "):
            explain.memory(network.trace(np.ones((2, 2, 2))), 1, unit=[2], row=[1], member=[1])


class TestExtremes:
    @pytest.mark.parametrize("forget", [0.5, 0.9, 1e-30])
    def test_products_that_underflow_are_zero(self, forget, dtype):
        steps = 20_000
        lstm = gated_lstm(dtype=dtype)
        trace = lstm.trace(gates_input(i=np.ones(steps), f=forget, g=1))
        with np.errstate(all="raise"):
            results = [function(trace, -1) for function in (explain.memory, explain.written_by, explain.erased_by)]
        terms = results[0].terms[:, 0]
        nonzero = terms[terms != 0]
        assert nonzero.min() >= np.finfo(dtype).tiny
        assert (terms[: steps - len(nonzero)] == 0).all()
        assert len(nonzero) == pytest.approx(1 + np.log(np.finfo(dtype).tiny) / np.log(forget), abs=1)
        assert results[0].terms.dtype == dtype

    def test_small_numbers_times_small_products_are_zero(self, dtype):
        small = float(np.finfo(dtype).tiny) * 2**20
        trace = gated_lstm(dtype=dtype).trace(
            gates_input(i=[small, 0], f=2.0**-22, g=1), (np.zeros((1, 1)), np.full((1, 1), small * 2**22))
        )
        with np.errstate(all="raise"):
            memory = explain.memory(trace, -1)
        assert memory.terms[:, 0].tolist() == [0, 0]
        assert memory.start[0] == 0

    def test_zoneout_is_rounded_as_the_core_rounds_it(self):
        lstm = gated_lstm(zoneout=(0.0, 0.3))
        trace = lstm.trace(gates_input(i=np.zeros(1000), f=1, g=0), (np.zeros((1, 1)), np.ones((1, 1))))
        assert explain.memory(trace, -1).start[0] == trace.cell[-1, 0] == 1

    def test_a_nan_candidate_is_its_step_alone(self):
        memory = explain.memory(spoilt_trace(np.nan, "candidate", f=0.5, g=1), -1)
        assert np.isnan(memory.terms[2, 0])
        assert memory.terms[[0, 1, 3], 0].tolist() == [0.125, 0.25, 1]
        assert np.isnan(memory.share).all()

    def test_a_nan_forget_gate_is_every_step_before(self):
        memory = explain.memory(spoilt_trace(np.nan, "forget_gate", f=0.5, g=1), -1)
        assert np.isnan(memory.terms[:2, 0]).all()
        assert np.isnan(memory.start[0])
        assert memory.terms[2:, 0].tolist() == [0.5, 1]

    def test_a_nan_input_is_every_term(self):
        lstm = random_lstm(input_size=3, hidden_size=5)
        x = normal(1, (STEPS, 3))
        x[4] = np.nan
        with np.errstate(all="raise"):
            trace = lstm.trace(x)
            memory, before = explain.memory(trace, -1), explain.memory(trace, 3)
        assert all(np.isnan(part).all() for part in memory)
        assert_same_bits(before, explain.memory(lstm.trace(x[:4]), 3)._replace(terms=before.terms, share=before.share))

    def test_infinity(self):
        with np.errstate(all="raise"):
            trace = spoilt_trace(np.inf, "candidate", f=[1, 1, 1, 0.5], g=1)
            memory = explain.memory(trace, -1)
            assert explain.written_by(trace, -1).steps[0] == 2
            assert memory.terms[:, 0].tolist() == [0.5, 0.5, np.inf, 1]
            forgotten = explain.memory(spoilt_trace(np.inf, "candidate", f=[1, 1, 1, 0], g=1), -1)
        assert np.isnan(forgotten.terms[2, 0])

    def test_nothing_before_a_reset_matters(self):
        reset = np.array([False, False, True, False])
        trace = gated_lstm().trace(gates_input(i=1, f=1, g=[5, np.inf, 2, 1]), reset=reset)
        assert np.isnan(trace.forget_gate[1])
        with np.errstate(all="raise"):
            memory, erased = explain.memory(trace, -1), explain.erased_by(trace, -1)
        assert memory.terms[:, 0].tolist() == [0, 0, 2, 1]
        assert memory.start[0] == 0
        assert memory.share.tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3])
        assert erased.amounts.tolist() == [0, 0, 0, 0]

    def test_padding_does_not_matter(self):
        x = np.repeat(gates_input(i=1, f=1, g=[1, 2, np.nan, np.nan])[:, np.newaxis], 2, axis=1)
        trace = gated_lstm(reverse=True).trace(x, lengths=[2, 0])
        memory = explain.memory(trace, 0)
        assert memory.terms[..., 0].tolist() == [[1, 0], [2, 0], [0, 0], [0, 0]]
        for at in (2, 3):
            assert all((part == 0).all() for part in explain.memory(trace, at))


def spoilt_trace(value, signal, f, g):
    """A trace of four steps of one unit, with this value at step 2 of one signal alone."""
    trace = gated_lstm().trace(gates_input(i=np.ones(4), f=f, g=g))
    getattr(trace, signal)[2, 0] = value
    return trace
