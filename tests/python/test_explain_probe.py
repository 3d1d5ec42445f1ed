"""explain.probe: what can be read from units."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from latchwork.explain import _readout, probe
from latchwork.trace import LayerTrace
from layers import normal, random_lstm

STEPS, ROWS, UNITS = 5, 9, 4
LENGTHS = np.array([5, 3, 0, 5, 4, 1, 2, 5, 5])


def trace_of(cell, batch_first=False, x=None, **options):
    """The trace of a real call whose cells are then what a test wants them to be."""
    cell = np.asarray(cell)
    layer = lw.LSTM(1, cell.shape[-1], batch_first=batch_first, dtype=cell.dtype)
    module = lw.Network([layer], members=len(cell)) if cell.ndim == 4 or x is not None else layer
    trace = module.trace(np.zeros((*cell.shape[-3:-1], 1)) if x is None else x, **options)
    trace[0].cell[...] = cell
    return trace


def cells(seed=0, shape=(STEPS, ROWS, UNITS), dtype="float32"):
    """Few different values, so that there are ties."""
    return np.random.RandomState(seed).randint(-3, 4, shape).astype(dtype)


def in_order(found):
    """The scores by number of unit."""
    scores = np.empty(len(found.units))
    scores[found.units] = found.scores
    return scores


def area(values, is_second):
    """How often a value of the second class exceeds one of the first, ties half; either way."""
    right = pairs = 0
    for high in values[is_second]:
        for low in values[~is_second]:
            pairs += 1
            right += 1 if high > low else 0.5 if high == low else 0
    return max(right / pairs, 1 - right / pairs)


def counted(lengths=LENGTHS):
    return np.arange(STEPS)[:, np.newaxis] < lengths


def ridge_fit(x, y, strength):
    """Least squares with rows added for the penalty; constant columns get no weight."""
    scale = x.std(axis=0)
    use = scale > 0
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    z = (x - mean_x)[:, use] / scale[use]
    rows = np.concatenate([z, np.sqrt(strength * len(z)) * np.eye(use.sum())])
    targets = np.concatenate([y - mean_y, np.zeros((use.sum(), y.shape[1]))])
    weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
    return lambda new: (new - mean_x)[:, use] / scale[use] @ weights + mean_y


# ---- Single units.


@pytest.mark.parametrize("labels_of", ["sequence", "step"])
@pytest.mark.parametrize("kind", ["int", "bool", "str", "object"])
def test_two_classes_by_counting_pairs(kind, labels_of):
    cell = cells()
    second = np.random.RandomState(1).random_sample((ROWS,) if labels_of == "sequence" else (STEPS, ROWS)) < 0.4
    labels = {"int": np.where(second, 7, 3), "bool": second, "str": np.where(second, "she", "he"),
              "object": np.where(second, "she", "he").astype(object)}[kind]  # fmt: skip
    found = probe(trace_of(cell, lengths=LENGTHS), labels, folds=None)
    valid = counted()
    wanted = np.broadcast_to(second, (STEPS, ROWS))[valid]
    expected = np.array([area(cell[..., unit][valid], wanted) for unit in range(UNITS)])
    assert_close(in_order(found), expected, 1e-14)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.measure, found.chance, found.linear) == ("auc", 0.5, None)
    assert (found.layer, found.signal, found.steps, found.sequences) == ("l0", "cell", LENGTHS.sum(), 8)
    assert found.classes == {"int": (3, 7), "bool": (False, True)}.get(kind, ("he", "she"))


def test_columns_of_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    words = ["she", "he", "she"] * 3
    expected = probe(trace_of(cells()), words)
    for labels in (pandas.Series(words), pandas.Categorical(words), pandas.Series(words, dtype="string")):
        found = probe(trace_of(cells()), labels)
        assert_same_bits(found.scores, expected.scores)
        assert (found.classes, found.linear) == (("he", "she"), expected.linear)
    with pytest.raises(ValueError, match="labels: expected no missing values, got one in row 2"):
        probe(trace_of(cells()), pandas.Series([*words[:2], None, *words[3:]]))


def test_several_classes_are_the_mean_over_pairs():
    cell, labels = cells(), np.random.RandomState(1).randint(0, 4, (STEPS, ROWS))
    found = probe(trace_of(cell), labels, folds=None)
    expected = np.zeros(UNITS)
    for unit in range(UNITS):
        for first in range(4):
            for second in range(first):
                chosen = (labels == first) | (labels == second)
                expected[unit] += area(cell[..., unit][chosen], labels[chosen] == first) / 6
    assert_close(in_order(found), expected, 1e-14)
    assert found.classes == (0, 1, 2, 3)


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_numbers_by_a_line(shift, dtype):
    cell = normal(0, (STEPS, ROWS, UNITS), dtype)
    labels = shift + cell[..., 1] * 2.0 + normal(1, (STEPS, ROWS), "float64")
    cell[..., 3] = 0.1
    found = probe(trace_of(cell), labels, folds=None)
    expected = [np.corrcoef(cell[..., unit].reshape(-1), labels.reshape(-1))[0, 1] ** 2 for unit in range(3)]
    assert_close(in_order(found), [*expected, 0.0], 1e-7)
    assert (found.measure, found.chance, found.classes) == ("r2", 0.0, ())
    assert found.units[0] == 1
    assert found.units[-1] == 3


def test_perfect_and_constant_units():
    labels = np.arange(ROWS) % 2
    cell = np.zeros((STEPS, ROWS, 3), np.float32)
    cell[..., 1] = -labels
    found = probe(trace_of(cell), labels)
    assert found.units.tolist() == [1, 0, 2]
    assert found.scores.tolist() == [1, 0.5, 0.5]
    assert found.linear == 1
    assert repr(found) == (
        "<Probe of cell in l0, auc with 0.5 by chance: unit 1: 1.000, 0: 0.500, 2: 0.500; all together 1.000>"
    )
    numbers = probe(trace_of(cell), labels.astype(float))
    assert numbers.scores.tolist() == [1, 0, 0]
    assert numbers.linear > 0.999


# ---- The linear combination.


@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_numbers_predicted_by_loops(strength, dtype, monkeypatch):
    monkeypatch.setattr(_readout, "_CHUNK", 12)
    cell = normal(0, (STEPS, ROWS, UNITS), dtype)
    labels = cell[..., 1] - 0.5 * cell[..., 2] + 3 + 0.3 * normal(1, (STEPS, ROWS), "float64")
    found = probe(trace_of(cell, lengths=LENGTHS), labels, folds=99, ridge=strength)
    valid, error, baseline = counted(), 0.0, 0.0
    x = cell.astype(np.float64)
    for row in range(ROWS):
        fitted, held_out = valid.copy(), np.zeros_like(valid)
        fitted[:, row] = False
        held_out[:, row] = valid[:, row]
        if held_out.any():
            predicted = ridge_fit(x[fitted], labels[fitted][:, np.newaxis], strength)(x[held_out])[:, 0]
            error += ((labels[held_out] - predicted) ** 2).sum()
            baseline += ((labels[held_out] - labels[fitted].mean()) ** 2).sum()
    assert_close(found.linear, 1 - error / baseline, 1e-9)
    assert 0.5 < found.linear < 1


def test_a_unit_that_is_constant_in_what_is_fitted_has_no_say():
    cell = normal(0, (STEPS, ROWS, 9), "float64")
    labels = cell[..., 0] + 0.1 * normal(1, (STEPS, ROWS), "float64")
    cell[..., 1:] = np.arange(8) / 7
    without = probe(trace_of(cell), labels, folds=ROWS).linear
    cell[:, 4, 1:] = 1e6 + np.arange(8)
    x, error, baseline = cell[..., :1], 0.0, 0.0
    for row in range(ROWS):
        fitted = np.arange(ROWS) != row
        columns = cell if row != 4 else x
        said = ridge_fit(columns[:, fitted].reshape(5 * (ROWS - 1), -1), labels[:, fitted].reshape(-1, 1), 1e-2)
        error += ((labels[:, row] - said(columns[:, row])[:, 0]) ** 2).sum()
        baseline += ((labels[:, row] - labels[:, fitted].mean()) ** 2).sum()
    found = probe(trace_of(cell), labels, folds=ROWS).linear
    assert_close(found, 1 - error / baseline, 1e-6)
    assert abs(found - without) < 0.1


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_predicted_by_loops(classes):
    cell = normal(0, (STEPS, ROWS, UNITS))
    labels = np.random.RandomState(2).randint(0, classes, (STEPS, ROWS))
    cell[..., 0] += labels
    found = probe(trace_of(cell), labels, folds=ROWS)
    right, pairs = np.zeros((classes, classes)), np.zeros((classes, classes))
    x, indicators = cell.astype(np.float64), np.eye(classes)[labels]
    for row in range(ROWS):
        fitted = np.arange(ROWS) != row
        said = ridge_fit(x[:, fitted].reshape(-1, UNITS), indicators[:, fitted].reshape(-1, classes), 1e-2)(x[:, row])
        for one in range(STEPS):
            for other in range(STEPS):
                a, b = labels[one, row], labels[other, row]
                if a > b:
                    first, second = said[one, a] - said[one, b], said[other, a] - said[other, b]
                    right[a, b] += 1 if first > second else 0.5 if first == second else 0
                    pairs[a, b] += 1
    there = pairs > 0
    assert_close(found.linear, (right[there] / pairs[there]).mean(), 1e-9)


def test_steps_of_one_sequence_never_lie_on_both_sides():
    """Each sequence has a mark of its own, so that a fit that had seen other steps of it would know its label."""
    rows = 60
    marks = normal(0, (rows, 80))
    cell = np.broadcast_to(marks, (10, rows, 80)) + 1e-3 * normal(1, (10, rows, 80))
    labels = np.random.RandomState(2).randint(0, 2, rows)
    assert abs(probe(trace_of(cell), labels).linear - 0.5) < 0.2
    assert probe(trace_of(cell.swapaxes(0, 1)), np.broadcast_to(labels[:, np.newaxis], (rows, 10))).linear > 0.99


def test_folds_have_their_share_of_each_class():
    """Two sequences of the rare class, two folds: whatever the seed, each fit has seen the rare class."""
    labels = np.zeros(20, int)
    labels[[3, 4]] = 1
    cell = np.zeros((2, 20, 2), np.float32)
    cell[..., 1] = labels
    for seed in range(20):
        assert probe(trace_of(cell), labels, folds=2, seed=seed).linear == 1


def test_folds_are_fewer_than_the_sequences_of_a_class():
    cell = cells()
    labels = np.array([0, 0, 1, 0, 0, 1, 0, 1, 0])
    scores = {probe(trace_of(cell), labels, folds=folds, seed=3).linear for folds in (3, 5, 9)}
    assert len(scores) == 1


def test_the_seed_decides_the_folds():
    cell, labels = normal(0, (3, 40, 4)), np.random.RandomState(1).standard_normal(40)
    scores = [probe(trace_of(cell), labels, seed=seed).linear for seed in (0, 0, 1, 2**64 - 1)]
    assert scores[0] == scores[1] == probe(trace_of(cell), labels).linear
    assert len(set(scores)) == 3
    assert probe(trace_of(cell), labels, seed=None).linear is not None


def test_labels_that_go_with_nothing_are_read_by_chance():
    cell, labels = normal(0, (1, 1000, 4)), np.random.RandomState(1).randint(0, 2, 1000)
    found = probe(trace_of(cell), labels)
    assert abs(found.linear - 0.5) < 0.05
    assert abs(found.scores - 0.5).max() < 0.05
    assert abs(probe(trace_of(cell), labels.astype(float)).linear) < 0.05


# ---- Which steps count.


def test_padding_skipped_steps_where_and_step_leave_steps_out():
    cell, labels = cells(), np.random.RandomState(1).randint(0, 2, (STEPS, ROWS))
    where, skip = (np.random.RandomState(seed).random_sample((STEPS, ROWS)) < 0.6 for seed in (2, 3))
    step = np.arange(STEPS)[:, np.newaxis]
    clean = cell.copy()
    for of_call, options, valid in (
        ({"lengths": LENGTHS}, {}, counted()),
        ({"skip": skip}, {}, ~skip),
        ({"skip": skip, "lengths": LENGTHS}, {}, ~skip & counted()),
        ({}, {"where": where}, where),
        ({"lengths": LENGTHS}, {"where": where.astype(float)}, where & counted()),
        ({}, {"step": 2}, step == np.full(ROWS, 2)),
        ({"lengths": LENGTHS}, {"step": -4}, (step == 1) & counted()),
        ({"lengths": LENGTHS}, {"step": LENGTHS - 1}, step == LENGTHS - 1),
        ({"skip": skip}, {"step": 2}, (step == np.full(ROWS, 2)) & ~skip),
        ({}, {"step": np.arange(ROWS) % STEPS}, step == np.arange(ROWS) % STEPS),
    ):
        cell = clean.copy()
        cell[~valid] = np.nan
        found = probe(trace_of(cell, **of_call), labels, **options, folds=None)
        expected = [area(clean[..., unit][valid], labels[valid] == 1) for unit in range(UNITS)]
        assert_close(in_order(found), expected, 1e-14)
        assert (found.steps, found.sequences) == (valid.sum(), valid.any(axis=0).sum())


def test_batch_first():
    cell, labels = cells(), np.random.RandomState(1).randint(0, 2, (STEPS, ROWS))
    mask, step = labels + np.arange(ROWS) % 2 < 2, np.arange(ROWS) % STEPS
    for of_call, options, given in (
        ({"lengths": LENGTHS}, {}, labels),
        ({"skip": ~mask}, {}, labels),
        ({}, {"where": mask}, labels),
        ({}, {"step": step}, labels[0]),
    ):
        expected = probe(trace_of(cell, **of_call), given, **options, folds=3)
        of_call, options = ({name: value.T for name, value in each.items()} for each in (of_call, options))
        found = probe(trace_of(cell.swapaxes(0, 1), batch_first=True, **of_call), given.T, **options, folds=3)
        assert_same_bits(found.scores, expected.scores)
        assert found.linear == expected.linear


@pytest.mark.parametrize("batch_first", [False, True])
def test_members_are_read_one_by_one(batch_first):
    """Whatever the members have for themselves: x, lengths and skipped steps."""
    cell, labels = cells(shape=(3, STEPS, ROWS, UNITS)), np.random.RandomState(1).randint(0, 2, (STEPS, ROWS))
    lengths = np.stack([LENGTHS, np.full(ROWS, STEPS), LENGTHS[::-1]])
    skip = np.random.RandomState(3).random_sample((3, STEPS, ROWS)) < 0.4

    def turned(array):
        return array.swapaxes(-1, -2) if batch_first else array

    given = cell.swapaxes(1, 2) if batch_first else cell
    for own in ({}, {"lengths": lengths}, {"skip": skip}, {"lengths": lengths, "skip": skip[0]}):
        of_call = {name: turned(value) if name == "skip" else value for name, value in own.items()}
        trace = trace_of(given, batch_first, np.zeros((3, *given.shape[1:3], 1)), **of_call)
        for member in range(3):
            alone = {name: value[member] if value.shape[0] == 3 else value for name, value in own.items()}
            expected = probe(trace_of(cell[member], **alone), labels, folds=3)
            for number in (member, member - 3):
                found = probe(trace, turned(labels), member=number, folds=3)
                assert_same_bits(found.scores, expected.scores)
                assert (found.linear, found.steps) == (expected.linear, expected.steps)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("steps", [3, STEPS])
def test_an_unbatched_trace_of_several_members(steps, batch_first):
    """As many steps as members, or not: the axis of the members is never taken for that of the rows."""
    cell, labels = cells(shape=(3, steps, UNITS)), np.arange(steps) % 2
    skip = np.arange(steps) == 0
    for options, counts in (({}, np.ones(steps, bool)), ({"skip": skip}, ~skip)):
        trace = trace_of(cell, batch_first, np.zeros((steps, 1)), **options)
        for member in range(3):
            found = probe(trace, labels, member=member, folds=None)
            expected = [area(cell[member, counts, unit], labels[counts] == 1) for unit in range(UNITS)]
            assert_close(in_order(found), expected, 1e-14)
            assert (found.steps, found.sequences) == (counts.sum(), 1)
    with pytest.raises(ValueError, match=rf"labels: expected one label or \({steps},\), got \({steps}, 1\)"):
        probe(trace, labels[:, np.newaxis], member=0)


@pytest.mark.parametrize("labels_of", ["sequence", "step"])
def test_several_traces_are_one_batch(labels_of):
    cell = cells()
    labels = normal(1, (ROWS,) if labels_of == "sequence" else (STEPS, ROWS))
    expected = probe(trace_of(cell, lengths=LENGTHS), labels, folds=ROWS)
    parts = [slice(0, 4), slice(4, 9)]
    several = probe(
        [trace_of(cell[:, part], lengths=LENGTHS[part]) for part in parts], [labels[..., part] for part in parts],
        folds=ROWS,
    )  # fmt: skip
    single = probe(
        [trace_of(cell[: LENGTHS[row], row]) for row in range(ROWS)],
        [labels[row] if labels_of == "sequence" else labels[: LENGTHS[row], row] for row in range(ROWS)], folds=ROWS,
    )  # fmt: skip
    for found in (several, single):
        assert_close(in_order(found), in_order(expected), 1e-14)
        assert_close(found.linear, expected.linear, 1e-12)
        assert found.sequences == expected.sequences
    step = [np.arange(4), np.arange(5)]
    at = probe(
        [trace_of(cell[:, part]) for part in parts], [labels[..., part] for part in parts], step=step, folds=None
    )
    assert at.steps == 9


def test_real_traces_by_layer_signal_and_member():
    lstm = random_lstm(input_size=1, hidden_size=5, num_layers=2, bidirectional=True, proj_size=2)
    x = normal(1, (STEPS, ROWS, 1))
    trace, labels = lstm.trace(x), x[..., 0] > 0
    for layer, name in ((None, "l0"), ("l1_reverse", "l1_reverse"), (-1, "l1")):
        for signal in LayerTrace._fields:
            found = probe(trace, labels, layer=layer, signal=signal, folds=None)
            values = getattr(trace[name], signal)
            assert (found.layer, found.signal, len(found.units)) == (name, signal, values.shape[-1])
            assert found.scores[0] == area(values[..., found.units[0]].reshape(-1), labels.reshape(-1))
    network = lw.Network([lw.LSTM(1, 5, seed=0), lw.Linear(5, 1, seed=0)], members=3)
    for rows in (slice(None), 2):
        of_member = probe(network.trace(x[:, rows]), labels[:, rows], member=-1, folds=None)
        alone = probe(network.member(2).trace(x[:, rows]), labels[:, rows], folds=None)
        assert_same_bits(of_member.scores, alone.scores)


# ---- Refusals.


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (np.zeros(3), {}, ValueError, r"labels: expected \(9,\) or \(5, 9\), got \(3,\)"),
        (np.zeros((9, 5)), {}, ValueError, r"labels: expected \(9,\) or \(5, 9\), got \(9, 5\)"),
        (np.zeros(9), {}, ValueError, "labels: expected numbers that differ, got 0 only"),
        (np.zeros(9, int), {}, ValueError, "labels: expected at least two classes in the steps that count, got 0 only"),
        ([np.nan, *range(8)], {}, ValueError, "labels: expected finite numbers, got NaN or infinity; where= says"),
        ([None] * 9, {}, TypeError, "labels: expected integers, booleans or strings"),
        (range(9), {"layer": "l1"}, ValueError, "layer: expected one of l0, got 'l1'"),
        (range(9), {"layer": 1}, IndexError, "layer: expected -1 to 0, got 1"),
        (range(9), {"signal": "cells"}, ValueError, "signal: expected one of input_gate, .*, got 'cells'"),
        (range(9), {"step": 5}, IndexError, "step: expected -5 to 4, got 5"),
        (range(9), {"where": np.ones(9, bool)}, ValueError, r"where: expected \(5, 9\), got \(9,\)"),
        (range(9), {"where": np.zeros((5, 9), bool)}, ValueError, "traces: expected at least one step that counts"),
        (range(9), {"folds": 1}, ValueError, "folds: expected at least 2, got 1"),
        (range(9), {"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        (range(9), {"ridge": 0}, ValueError, "ridge: expected a number above 0, got 0"),
        ([0] + [1] * 8, {"where": np.arange(9) < np.ones((5, 1))}, ValueError, "labels: expected at least two classes"),
        (["a", "b"] + ["a"] * 7, {}, ValueError, "expected at least two sequences of each class, got one of 'b'"),
        (np.diag(range(5))[:, [0, 1, 2, 3, 4, 0, 0, 0, 0]], {"step": 4}, ValueError, "got one of 4"),
    ],
)  # fmt: skip
def test_what_probe_refuses(labels, options, error, message):
    with pytest.raises(error, match=message):
        probe(trace_of(cells()), labels, **options)


def test_many_classes_are_refused():
    trace = trace_of(cells(shape=(101, 2, 1)))
    labels = np.stack([np.arange(101), np.arange(101)], axis=1)
    assert len(probe(trace, np.minimum(labels, 99)).classes) == 100
    with pytest.raises(ValueError, match="labels: expected at most 100 classes, .* got 101; floats"):
        probe(trace, labels)


def test_labels_are_not_made_into_one_another():
    trace = trace_of(cells())
    with pytest.raises(TypeError, match="labels: expected the same kind for all traces, got integers and strings"):
        probe([trace, trace], [np.arange(ROWS), list("abcabcabc")])


@pytest.mark.parametrize("size", [1e-323, 1e-300, 1e300, 1.7e308])
def test_labels_of_any_size(size):
    trace = trace_of(cells())
    labels = np.arange(ROWS) % 3 / 2
    with np.errstate(over="raise", invalid="raise"):
        found, expected = probe(trace, labels * size, step=0), probe(trace, labels, step=0)
    assert_close(in_order(found), in_order(expected), 1e-12)
    assert found.linear == pytest.approx(expected.linear)


def test_results_compare_without_an_error():
    trace = trace_of(cells())
    first, second = (probe(trace, np.arange(ROWS) % 2) for _ in range(2))
    assert first != second
    assert first in {first}


def test_traces_that_are_none():
    with pytest.raises(TypeError, match=r"traces\[1\]: expected a Trace"):
        probe([trace_of(cells()), None], [np.arange(ROWS)])
    with pytest.raises(ValueError, match="layer: expected one of an LSTM, but the network has no LSTM"):
        probe(lw.Network([lw.Linear(3, 2)]).trace(np.zeros((5, 2, 3))), [0, 1])
    trace = trace_of(cells())
    expected = r"traces: expected a Trace, as module.trace\(x\) returns it, or a list of them, got "
    with pytest.raises(TypeError, match=expected + "LayerTrace; layer= names one of its layers"):
        probe(trace["l0"], range(9))
    with pytest.raises(TypeError, match=expected + "ndarray"):
        probe(cells(), range(9))
    with pytest.raises(ValueError, match="traces: expected at least one, got none"):
        probe([], [])
    with pytest.raises(TypeError, match=r"traces\[1\]: expected a Trace, as module.trace\(x\) returns it, got int"):
        probe([trace, 1], [range(9), range(9)])
    with pytest.raises(ValueError, match="labels: expected one for each of 2 traces, got 3"):
        probe([trace, trace], [1, 2, 3])
    with pytest.raises(ValueError, match=r"labels\[1\]: expected \(9,\) or \(5, 9\), got \(3,\)"):
        probe([trace, trace], [range(9), range(3)])
    with pytest.raises(ValueError, match="traces: expected equally many units in each, got 3 and 4"):
        probe([trace, trace_of(cells(shape=(5, 9, 3)))], [range(9), range(9)])
    with pytest.raises(TypeError, match="labels: expected the same kind for all traces, got integers and numbers"):
        probe([trace, trace], [range(9), np.arange(9.0)])
    with pytest.raises(ValueError, match="traces: expected finite numbers"):
        probe(trace_of(np.full((5, 9, 1), np.nan)), range(9))
    with pytest.raises(ValueError, match=r"folds: expected at least two sequences to divide, got 1; cut"):
        probe(trace_of(cells()[:, 0]), range(5))
    with pytest.raises(ValueError, match=r"member: expected which of 3 to read, got None"):
        probe(trace_of(cells(shape=(3, 5, 9, 2))), range(9))
    with pytest.raises(IndexError, match=r"member: expected -3 to 2, got 3"):
        probe(trace_of(cells(shape=(3, 5, 9, 2))), range(9), member=3)
    with pytest.raises(ValueError, match="member: expected None, because there is one member only, got 0"):
        probe(trace_of(cells()[:, 0]), range(5), member=0)
