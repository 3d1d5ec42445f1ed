"""plot.memory: the areas are the terms of the cell's decomposition."""

import re

import latchwork as lw
import numpy as np
import pytest
from latchwork import explain
from layers import normal, random_lstm
from skips import LENGTHS, ROWS, STEPS, masks
from variants import PLAIN

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from pictures import assert_inside, boxes_of, nothing_drawn, overlapping

REST = "#999999"
# Within the bounds of the clip, as the decomposition needs it.
WITHIN_BOUNDS = {
    name: options | ({"cell_clip": 50} if "cell_clip" in options else {}) for name, options in PLAIN.items()
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def areas(ax):
    """For each name in the legend its part above zero, and its part below, over the steps; what is stacked fits."""
    patches = [patch for patch in ax.patches if patch.get_fill()]
    parts = {}
    heights = None
    for up, down in zip(patches[::2], patches[1::2], strict=True):
        assert up.get_facecolor() == down.get_facecolor()
        values = []
        for place, patch in enumerate((up, down)):
            top, edges, base = patch.get_data()
            heights = np.zeros((2, len(top))) if heights is None else heights
            np.testing.assert_array_equal(edges, np.arange(len(top) + 1) - 0.5)
            np.testing.assert_allclose(base, heights[place], rtol=1e-12, atol=1e-300)
            heights[place] = top
            values.append(top - base)
        parts[up.get_label()] = np.stack(values)
        assert (to_hex(up.get_facecolor()) == REST) == ("other step" in up.get_label())
    return parts


def line(ax):
    (step,) = [patch for patch in ax.patches if not patch.get_fill()]
    return step.get_label(), step.get_data()[0]


def expected_terms(trace, layer, row, units, steps, signed):
    """By explain.memory, step for step: (writer, step), the start state last; sizes summed if not signed."""
    whole = len(trace[layer].cell)
    terms = np.zeros((whole + 1, steps))
    for step in range(steps):
        memory = explain.memory(trace, step, layer, unit=units, row=row)
        for part, place in ((memory.terms, slice(0, whole)), (memory.start, whole)):
            terms[place, step] = part if signed else np.abs(part).sum(axis=-1)
    return terms


def check(ax, trace, layer, row, units, steps, tolerance=1e-6):
    signed = np.ndim(units) == 0
    terms = expected_terms(trace, layer, row, units, steps, signed)
    scale = np.abs(terms).sum(axis=0).max()
    shown = areas(ax)
    named = {"start state": len(terms) - 1} | {f"step {step}": step for step in range(len(terms) - 1)}
    own = [named[name] for name in shown if name in named]
    sizes = np.abs(terms).sum(axis=1)
    count = min(7, np.count_nonzero(sizes))
    assert len(own) == count
    assert sizes[own].min(initial=np.inf) >= np.sort(sizes)[::-1][count - 1] * (1 - 1e-5) if count else True
    # In the legend the start state comes first, then the steps in their order.
    assert own == sorted(own, key=lambda place: -1 if place == len(terms) - 1 else place)
    for name, parts in shown.items():
        place = [named[name]] if name in named else [each for each in range(len(terms)) if each not in own]
        of_name = terms[place]
        both = np.stack([np.maximum(of_name, 0).sum(axis=0), np.minimum(of_name, 0).sum(axis=0)])
        np.testing.assert_allclose(parts, both, atol=tolerance * scale)
    rest = [each for each in range(len(terms)) if each not in own]
    assert any(name not in named for name in shown) == bool(np.any(terms[rest] != 0))
    cell = trace[layer].cell[:steps, row, units]
    name, values = line(ax)
    if signed:
        assert name == "cell"
        np.testing.assert_allclose(values, cell, rtol=1e-12)
        np.testing.assert_allclose(sum(parts.sum(axis=0) for parts in shown.values()), cell, atol=1e-5 * scale)
    else:
        assert name == "sum of the cells' sizes"
        np.testing.assert_allclose(values, np.abs(cell.astype(np.float64)).sum(axis=-1), rtol=1e-12)


@pytest.mark.parametrize("name", ["plain", *WITHIN_BOUNDS])
@pytest.mark.parametrize("masked", [False, True])
def test_areas_are_the_terms_of_every_variant(name, masked):
    options = {} if name == "plain" else WITHIN_BOUNDS[name]
    lstm = random_lstm(**({"input_size": 3, "hidden_size": 5} | options))
    states, hidden = lstm.num_layers * (1 + lstm.bidirectional), lstm.proj_size or lstm.hidden_size
    start = tuple(normal(2 + size, (states, ROWS, size)) for size in (hidden, lstm.hidden_size))
    common = {"lengths": LENGTHS, "reset": masks(3, 0.2), "skip": masks(4, 0.3)} if masked else {}
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)), start, **common)
    for place, layer in enumerate(trace):
        row = (0, 1, 3)[place % 3]
        steps = LENGTHS[row] if masked else STEPS
        for units, given in ((place % 5, place % 5), (np.arange(5), None)):
            ax = lw.plot.memory(trace, layer, unit=given, row=row, ax=Figure().subplots())
            check(ax, trace, layer, row, units, steps)


def test_long_sequences_with_few_steps_of_their_own():
    lstm = random_lstm(input_size=3, hidden_size=4, dtype="float64", forget_bias=2)
    trace = lstm.trace(normal(1, (150, 2, 3)))
    ax = lw.plot.memory(trace, unit=-1, row=1)
    check(ax, trace, "l0", 1, 3, 150, 1e-12)
    assert len(areas(ax)) == 8
    (rest,) = [name for name in areas(ax) if "other" in name]
    assert rest == "143 other steps"
    chosen = lw.plot.memory(trace, unit=[2, 0], ax=Figure().subplots())
    check(chosen, trace, "l0", 0, np.array([2, 0]), 150, 1e-12)
    assert chosen.get_ylabel() == "size, summed over 2 units"


def test_a_start_state_that_counts_little_is_one_of_the_others():
    lstm = random_lstm(input_size=3, hidden_size=4, dtype="float64")
    start = np.zeros((1, 2, 4)), np.full((1, 2, 4), 1e-3)
    trace = lstm.trace(normal(1, (30, 2, 3)), start)
    ax = lw.plot.memory(trace, unit=1)
    assert "start state" not in areas(ax)
    check(ax, trace, "l0", 0, 1, 30, 1e-12)


def test_gates_below_zero_turn_signs():
    lstm = random_lstm(input_size=3, hidden_size=3, activations={"forget": ("affine", 0.5, -0.4)}, dtype="float64")
    trace = lstm.trace(normal(1, (30, 2, 3)))
    assert trace.forget_gate.min() < 0
    for unit in range(3):
        check(lw.plot.memory(trace, unit=unit, ax=Figure().subplots()), trace, "l0", 0, unit, 30, 1e-12)


def test_unbatched_members_and_labels():
    network = lw.Network([lw.LSTM(3, 4, seed=0), lw.Linear(4, 2)], members=2)
    trace = network.trace(normal(1, (6, 3)))
    ax = lw.plot.memory(trace, unit=1, member=1, labels=["a", "b", "c", "$d$", "e", "f"])
    np.testing.assert_allclose(line(ax)[1], trace["0.l0"].cell[1, :, 1])
    assert set(areas(ax)) == {r"\$d\$ (step 3)", *(f"{'abcdef'[step]} (step {step})" for step in (0, 1, 2, 4, 5))}
    assert ax.get_xlabel() == "token"
    assert ax.get_ylabel() == "cell of unit 1"
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["cell", *reversed(areas(ax))]
    assert ax.get_legend().get_title().get_text() == "written by"


def test_no_label_is_left_out_of_the_legend():
    trace = lw.LSTM(3, 4, seed=0).trace(normal(1, (4, 3)))
    ax = lw.plot.memory(trace, unit=1, labels=["_", "_a", "b", "__"])
    names = {text.get_text().strip() for text in ax.get_legend().get_texts()}
    assert names == {"cell", "_ (step 0)", "_a (step 1)", "b (step 2)", "__ (step 3)"}


def test_a_cell_that_was_cut_is_refused():
    lstm = random_lstm(input_size=3, hidden_size=4, cell_clip=0.2)
    trace = lstm.trace(normal(1, (9, 2, 3)))
    with pytest.raises(ValueError, match="expected cells that cell_clip did not cut"), nothing_drawn():
        lw.plot.memory(trace)


def test_one_step_s_terms_are_bars():
    lstm = random_lstm(input_size=3, hidden_size=4)
    start = normal(5, (1, 2, 4)), normal(6, (1, 2, 4))
    trace = lstm.trace(normal(1, (9, 2, 3)), start)
    memory = explain.memory(trace, 6, unit=2, row=1)
    ax = lw.plot.memory(memory, labels="abcdefghi")
    (terms, bar) = ax.patches
    np.testing.assert_array_equal(terms.get_data()[0], memory.terms)
    assert bar.get_height() == pytest.approx(float(memory.start))
    assert bar.get_x() == -1.5
    assert ax.lines[0].get_ydata()[0] == pytest.approx(float(memory.cell))
    names = {text.get_text() for text in ax.get_legend().get_texts()}
    assert names == {"what each step wrote", "start state", "cell: the sum of all"}
    with pytest.raises(ValueError, match="Memory of one unit and one sequence"), nothing_drawn():
        lw.plot.memory(explain.memory(trace, 6))
    for choice in ({"unit": 0}, {"row": 1}, {"layer": "l0"}, {"member": np.array([0, 0])}):
        with pytest.raises(ValueError, match="expected a Trace to choose from, got a Memory together with a choice"):
            lw.plot.memory(memory, **choice)
    with pytest.raises(ValueError, match="a Memory together with a choice"), nothing_drawn():
        lw.plot.memory(memory, unit=2)


@pytest.mark.parametrize("steps", [20, 500])
@pytest.mark.parametrize("width", [3.9, 9.0, 16.0])
def test_nothing_overlaps_and_nothing_is_cut_off(steps, width):
    trace = lw.LSTM(3, 8, seed=0, forget_bias=3).trace(normal(1, (steps, 3)))
    figure = Figure((width, 4), layout="constrained")
    texts = [("the", "internationally", "a")[step % 3] for step in range(steps)]
    ax = lw.plot.memory(trace, unit=3, labels=texts, ax=figure.subplots())
    figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    labels = boxes_of(ax.xaxis)
    assert len(labels) >= 5
    texts = [text.get_window_extent() for text in (ax.xaxis.label, ax._left_title) if text.get_text()]
    assert overlapping([*labels, legend, *texts]) == 0
    assert not legend.overlaps(ax.get_window_extent())
    assert_inside(figure, [*labels, legend])
    assert ax.get_window_extent().width > 0.45 * figure.bbox.width


def test_axes_given_are_used():
    trace = lw.LSTM(3, 8, seed=0).trace(normal(1, (5, 3)))
    ax = Figure().subplots()
    with nothing_drawn():
        assert lw.plot.memory(trace, ax=ax) is ax
        assert lw.plot.memory(explain.memory(trace, 3, unit=0), ax=ax) is ax
    assert lw.plot.memory(trace).figure.number in pyplot.get_fignums()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unit": 8}, IndexError, "unit: expected -8 to 7, got 8"),
        ({"unit": []}, ValueError, "unit: expected at least one, got none"),
        ({"unit": "all"}, TypeError, "unit: expected int, a sequence of int or None, got str"),
        ({"row": 1}, IndexError, "row: expected -1 to 0, got 1"),
        ({"layer": "l7"}, ValueError, "layer: expected one of l0"),
        ({"labels": "ab"}, ValueError, "labels: expected one for each of the 5 steps, got 2"),
        ({"ax": 3}, TypeError, "ax: expected a matplotlib Axes, got int"),
    ],
)
def test_errors_come_before_any_drawing(options, error, message):
    trace = lw.LSTM(3, 8, seed=0).trace(normal(1, (5, 3)))
    with pytest.raises(error, match=re.escape(message)), nothing_drawn():
        lw.plot.memory(trace, **options)
