"""plot.gates: heat maps that show what the trace holds, labelled so that everything can be read."""

import re

import latchwork as lw
import numpy as np
import pytest
from layers import normal, random_lstm
from variants import PLAIN

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
import matplotlib
from latchwork.plot.unit_order import similar_side_by_side
from latchwork.trace import LayerTrace
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pictures import assert_inside, boxes_of, labels_of, nothing_drawn, overlapping

STEPS, ROWS, UNITS = 11, 3, 7
SIGNALS = LayerTrace._fields
WORDS = ("the", "internationally", "a", "$x$", "was", "feeling", ".")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def traced(steps=STEPS, units=UNITS, **options):
    lstm = random_lstm(input_size=3, hidden_size=units, **options)
    rows = (ROWS, steps) if lstm.batch_first else (steps, ROWS)
    return lstm.trace(normal(1, (*rows, 3)))


def words(count):
    return [WORDS[place % len(WORDS)] for place in range(count)]


def drawn(axes):
    axes[0].figure.draw_without_rendering()
    return axes


def data(ax):
    return ax.images[0].get_array()


def colour_bar(ax):
    return [label.get_text() for label in ax.images[0].colorbar.ax.get_yticklabels()]


@pytest.mark.parametrize("batch_first", [False, True])
def test_images_show_the_trace(batch_first):
    trace = traced(batch_first=batch_first)
    axes = lw.plot.gates(trace, row=1, order=None)
    assert axes.shape == (6,)
    for ax, name in zip(axes, SIGNALS, strict=True):
        values = getattr(trace, name)
        np.testing.assert_array_equal(data(ax), (values[1] if batch_first else values[:, 1]).T)
        assert ax.get_title(loc="left").startswith(name.replace("_", " ").replace("hidden", "output"))
        assert ax.get_ylim() == (UNITS - 0.5, -0.5)


def test_drawing_changes_no_trace():
    lstm = random_lstm(input_size=3, hidden_size=UNITS)
    x, skip = normal(1, (STEPS, ROWS, 3)), np.zeros((STEPS, ROWS), bool)
    skip[2:5] = True
    trace = lstm.trace(x, skip=skip)
    before = [np.array(getattr(trace, name)) for name in SIGNALS]
    drawn(lw.plot.gates(trace))
    for name, values in zip(SIGNALS, before, strict=True):
        np.testing.assert_array_equal(getattr(trace, name), values)


def test_units_and_signals_are_those_chosen_in_their_order():
    trace = traced()
    axes = drawn(lw.plot.gates(trace, units=[5, -1, 0], signals=["cell", "forget_gate"]))
    for ax, name in zip(axes, ("cell", "forget_gate"), strict=True):
        np.testing.assert_array_equal(data(ax), getattr(trace, name)[:, 0, [5, 6, 0]].T)
        assert [label.get_text() for label in labels_of(ax.yaxis)] == ["5", "6", "0"]
    (alone,) = lw.plot.gates(trace, units=np.int64(2), signals="cell")
    np.testing.assert_array_equal(data(alone), trace.cell[:, 0, 2:3].T)


def test_similar_units_stand_side_by_side():
    """Two kinds of units, mixed, come out sorted by kind, the higher kind first; labels go with them."""
    random = np.random.RandomState(0)
    low, high = 0.2 + 0.1 * random.random_sample((STEPS, 10)), 0.7 + 0.1 * random.random_sample((STEPS, 10))
    courses = np.empty((STEPS, 20))
    courses[:, ::2], courses[:, 1::2] = low, high
    for kinds, first in ((courses, 1), (1 - courses, 0)):
        order = similar_side_by_side(kinds)
        assert sorted(order) == list(range(20))
        assert set(order[:10]) == set(range(first, 20, 2))


def test_order_joins_the_nearest_on_average():
    """Against clusters joined by plain loops."""
    random = np.random.RandomState(1)
    for count in (1, 2, 3, 17, 17, 17, 31):
        courses = random.random_sample((5, count))
        clusters = [[unit] for unit in range(count)]

        def distance(one, other, courses=courses):
            return np.mean([np.linalg.norm(courses[:, a] - courses[:, b]) for a in one for b in other])

        joins = []
        while len(clusters) > 1:
            pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
            a, b = min(pairs, key=lambda pair: distance(clusters[pair[0]], clusters[pair[1]]))
            joins.append(set(clusters[a] + clusters[b]))
            clusters[b] += clusters[a]
            del clusters[a]
        order = similar_side_by_side(courses).tolist()
        assert sorted(order) == list(range(count))
        for join in joins:  # every cluster stands together
            places = sorted(order.index(unit) for unit in join)
            assert places[-1] - places[0] == len(join) - 1


def test_order_takes_numbers_that_are_not_finite():
    courses = np.random.RandomState(0).random_sample((5, 4))
    courses[2, 1], courses[3, 2], courses[0, 0] = np.nan, np.inf, -np.inf
    assert sorted(similar_side_by_side(courses)) == [0, 1, 2, 3]


def shown_units(trace, **options):
    (ax,) = lw.plot.gates(trace, signals=["cell"], **options)
    courses = np.asarray(trace.cell[:, 0])
    return [int(np.flatnonzero((row == courses.T).all(axis=1))[0]) for row in data(ax)]


def test_default_order_is_by_forget_gates_or_else_cells():
    trace = traced()
    assert shown_units(trace) == similar_side_by_side(trace.forget_gate[:, 0]).tolist()
    assert shown_units(trace) != list(range(UNITS))
    assert shown_units(trace, order="input_gate") == similar_side_by_side(trace.input_gate[:, 0]).tolist()
    chosen = [3, 1, 6, 2]
    sorted_places = similar_side_by_side(trace.hidden[:, 0, chosen])
    assert shown_units(trace, order="hidden", units=chosen) == np.array(chosen)[sorted_places].tolist()
    for forget_gate in (False, "coupled"):
        without = traced(forget_gate=forget_gate)
        assert shown_units(without) == similar_side_by_side(without.cell[:, 0]).tolist()


def test_padding_is_left_out_and_what_is_skipped_is_grey():
    lstm = random_lstm(input_size=3, hidden_size=UNITS)
    skip = np.zeros((STEPS, ROWS), bool)
    skip[2:4, 1] = True
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)), lengths=[11, 6, 0], skip=skip)
    axes = drawn(lw.plot.gates(trace, row=1, order=None, labels="abcdef"))
    for ax, name in zip(axes, SIGNALS, strict=True):
        values = data(ax)
        assert values.shape == (UNITS, 6)
        np.testing.assert_array_equal(values.data, getattr(trace, name)[:6, 1].T)
        masked = np.ma.getmaskarray(values)
        assert masked[:, 2:4].all() == (name not in ("cell", "hidden"))
        assert not masked[:, [0, 1, 4, 5]].any()
    assert matplotlib.colors.to_hex(axes[0].images[0].cmap.get_bad()) == "#808080"
    assert [label.get_text() for label in labels_of(axes[-1].xaxis)] == list("abcdef")
    with pytest.raises(ValueError, match="at least one step, got none in row 2"), nothing_drawn():
        lw.plot.gates(trace, row=2)


def test_layers_directions_members_and_unbatched_input():
    network = lw.Network(
        [lw.LSTM(3, 5, bidirectional=True, seed=0), lw.LSTM(10, 4, seed=1), lw.Linear(4, 2)], members=3
    )
    x = normal(1, (STEPS, 3))
    trace = network.trace(x)
    options = {"order": None, "signals": ["cell"]}
    np.testing.assert_array_equal(data(lw.plot.gates(trace, "1.l0", member=2, **options)[0]), trace["1.l0"].cell[2].T)
    np.testing.assert_array_equal(data(lw.plot.gates(trace, 1, **options)[0]), trace["1.l0"].cell[0].T)
    reverse = lw.plot.gates(trace, "0.l0_reverse", member=-1, **options)
    np.testing.assert_array_equal(data(reverse[0]), trace["0.l0_reverse"].cell[2].T)
    skip = np.zeros((3, STEPS, ROWS), bool)
    skip[1, 1] = True
    batched = network.trace(normal(1, (STEPS, ROWS, 3)), lengths=[[9, 8, 7], [6, 5, 4], [3, 2, 1]], skip=skip)
    for member in range(3):
        (ax,) = lw.plot.gates(batched, 0, member=member, row=1, order=None, signals=["candidate"])
        assert data(ax).shape == (5, 8 - 3 * member)
        assert np.ma.getmaskarray(data(ax))[:, 1].all() == (member == 1)


@pytest.mark.parametrize("name", PLAIN)
def test_every_variant(name):
    trace = traced(**PLAIN[name])
    for layer in trace:
        axes = lw.plot.gates(trace, layer, axes=Figure().subplots(6, 1))
        gate = axes[1].get_title(loc="left")
        forget_gate = PLAIN[name].get("forget_gate")
        assert ("has none" in gate) == (forget_gate is False)
        assert ("coupled" in gate) == (forget_gate == "coupled")
        for ax, signal in zip(axes, SIGNALS, strict=True):
            shown = np.asarray(data(ax))
            low, high = ax.images[0].get_clim()
            if signal != "cell":
                assert low <= shown.min() <= shown.max() <= high
        features = trace[layer].hidden.shape[-1]
        assert data(axes[-1]).shape[0] == features
        assert axes[-1].get_ylabel() == ("feature" if PLAIN[name].get("proj_size") else "unit")


def test_colour_bars_say_what_0_and_1_mean():
    axes = lw.plot.gates(traced())
    for ax, name in zip(axes, SIGNALS, strict=True):
        image = ax.images[0]
        if name.endswith("gate"):
            assert image.get_clim() == (0, 1)
            assert colour_bar(ax) == ["0 shut", "1 open"]
        elif name == "cell":
            low, high = image.get_clim()
            assert low == -high
            assert colour_bar(ax)[1] == "0"
        else:
            assert image.get_clim() == (-1, 1)
            assert colour_bar(ax) == ["\u22121", "0", "1"]


def test_a_few_large_cells_leave_colours_to_the_others():
    trace = traced(steps=40)
    trace.cell[7, 0, 3] = 500
    bar = lw.plot.gates(trace, signals=["cell"])[0].images[0].colorbar
    assert bar.vmax < 50
    assert bar.extend == "both"
    assert lw.plot.gates(traced(), signals=["cell"])[0].images[0].colorbar.extend == "neither"


def test_gates_beyond_their_range_widen_the_colours():
    trace = traced()
    trace.input_gate[0, 0, 0], trace.input_gate[1, 0, 0], trace.candidate[0, 0, 0] = -0.5, 2.5, 3
    gate, candidate = lw.plot.gates(trace, signals=["input_gate", "candidate"])
    assert gate.images[0].get_clim() == (-0.5, 2.5)
    assert set(colour_bar(gate)) == {"\u22120.5", "0 shut", "1 open", "2.5"}
    assert candidate.images[0].get_clim() == (-3, 3)


def test_numbers_that_are_not_finite_are_drawn_all_the_same():
    trace = traced()
    trace.cell[3, 0, 2], trace.input_gate[0, 0, 0], trace.cell[4, 0, 1] = np.nan, np.nan, np.inf
    trace.candidate[...] = np.nan
    drawn(lw.plot.gates(trace))


@pytest.mark.parametrize(("steps", "units"), [(20, 8), (500, 512)])
@pytest.mark.parametrize("width", [3.9, 9.0, 16.0])
@pytest.mark.parametrize("labels", ["words", "numbers", "times"])
def test_labels_do_not_overlap_and_are_not_cut_off(units, steps, width, labels):
    random = np.random.RandomState(0)
    trace = lw.LSTM(3, units, seed=0).trace(random.standard_normal((steps, 3)))
    times = np.datetime64("2026-11-28T14:05") + np.arange(steps) * np.timedelta64(5, "m")
    texts = {"words": words(steps), "numbers": None, "times": times}[labels]
    figure = Figure((width, 4), layout="constrained")
    options = {"signals": ["forget_gate", "cell"], "order": None, "axes": figure.subplots(2, 1)}
    axes = drawn(lw.plot.gates(trace, labels=texts, **options))
    assert not labels_of(axes[0].xaxis)  # those below serve both
    steps_shown, units_shown = boxes_of(axes[1].xaxis), boxes_of(axes[0].yaxis)
    assert len(steps_shown) >= 3
    assert len(units_shown) >= 3
    assert overlapping(steps_shown) == 0
    assert overlapping(units_shown) == 0
    assert_inside(figure, [*steps_shown, *units_shown, axes[0].title.get_window_extent()])
    others = [axes[1].xaxis.label, axes[0]._left_title, axes[1]._left_title]
    assert overlapping([*steps_shown, *(text.get_window_extent() for text in others)]) == 0
    bar = [label.get_window_extent() for label in axes[0].images[0].colorbar.ax.get_yticklabels()]
    assert_inside(figure, bar)
    assert overlapping(bar) == 0
    # No fewer labels than needed: the next denser ones would overlap.
    if labels == "words" and steps == 20 and width == 9.0:
        assert [label.get_text() for label in labels_of(axes[1].xaxis)] == [word.replace("$", r"\$") for word in texts]


def test_labels_fit_again_after_a_change_of_size_and_range():
    figure = Figure((12, 3), layout="constrained")
    (ax,) = lw.plot.gates(traced(steps=200), labels=words(200), signals=["cell"], axes=figure.subplots())
    figure.draw_without_rendering()
    wide = len(labels_of(ax.xaxis))
    figure.set_size_inches(4, 3)
    figure.draw_without_rendering()
    narrow = labels_of(ax.xaxis)
    assert 3 <= len(narrow) < wide / 2
    assert {label.get_rotation() for label in narrow} == {90}
    ax.set_xlim(9.5, 13.5)
    figure.draw_without_rendering()
    close = labels_of(ax.xaxis)
    assert [label.get_text() for label in close] == [word.replace("$", r"\$") for word in words(200)[10:14]]
    assert {label.get_rotation() for label in close} == {0}
    assert overlapping(boxes_of(ax.xaxis)) == 0


def test_a_pixel_shows_the_mean_of_what_it_stands_for():
    """Neither does a lone open gate vanish among 100,000 steps, nor is a picture blurred that has room for all."""
    trace = traced(steps=40)
    (ax,) = lw.plot.gates(trace, signals=["forget_gate"], order=None, axes=Figure((6, 3)).subplots())
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    image = ax.images[0]
    picture = image.make_image(renderer)[0]
    expected = image.to_rgba(data(ax), bytes=True)
    rows = (np.arange(picture.shape[0]) + 0.5) / picture.shape[0] * UNITS
    columns = (np.arange(picture.shape[1]) + 0.5) / picture.shape[1] * 40
    inner = np.ix_(np.abs(rows % 1 - 0.5) < 0.4, np.abs(columns % 1 - 0.5) < 0.4)
    nearest = expected[np.ix_(rows.astype(int), columns.astype(int))]
    np.testing.assert_array_equal(picture[::-1][inner], nearest[inner])  # the last row of pixels is that of unit 0

    long = lw.LSTM(1, 2, seed=0).trace(np.zeros((100_000, 1)))
    long.forget_gate[...] = 0
    long.forget_gate[54_321, 0] = 1
    (ax,) = lw.plot.gates(long, signals=["forget_gate"], order=None, axes=Figure((6, 3)).subplots())
    picture = ax.images[0].make_image(FigureCanvasAgg(ax.figure).get_renderer())[0]
    assert (picture != picture[0, 0]).any()
    assert data(ax).shape == (2, 100_000)  # what the mouse points at is whole again


def test_axes_given_are_used_and_no_other_figure_is_made():
    figure = Figure((8, 6))
    given = figure.subplots(2, 3)
    with nothing_drawn():
        axes = lw.plot.gates(traced(), axes=given)
    assert [one is other for one, other in zip(axes, given.ravel(), strict=True)] == [True] * 6
    for ax in given[1]:
        assert ax.get_xlabel() == "step"
    for ax in given[0]:
        assert ax.get_xlabel() == ""
    one = Figure().subplots()
    assert lw.plot.gates(traced(), signals=["cell"], axes=one)[0] is one


def test_nothing_global_is_changed():
    before = dict(matplotlib.rcParams)
    backend = matplotlib.get_backend()
    lw.plot.gates(traced(), axes=Figure().subplots(6, 1))
    assert pyplot.get_fignums() == []
    lw.plot.gates(traced())
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend() == backend


def luminance(colours):
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


# What a picture is to whom the green, the red or the blue cones are missing: Machado, Oliveira and Fernandes, "A
# physiologically-based model for simulation of color vision deficiency", IEEE TVCG 15 (2009).
BLIND = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", [None, *BLIND])
def test_colours_are_fit_for_the_colour_blind(kind):
    gate, cell = lw.plot.gates(traced(), signals=["forget_gate", "cell"])

    def seen(ax):
        colours = ax.images[0].cmap(np.linspace(0, 1, 101))[:, :3]
        return colours if kind is None else np.clip(colours @ np.transpose(BLIND[kind]), 0, 1)

    light = luminance(seen(gate))
    assert (np.diff(light) > -1e-3).all()
    assert light[-1] - light[0] > 0.5
    colours = seen(cell)
    light = luminance(colours)
    assert (np.diff(light[:51]) > -5e-3).all()
    assert (np.diff(light[50:]) < 5e-3).all()
    for size in range(20, 51):  # numbers of opposite sign do not look alike
        assert np.abs(colours[50 - size] - colours[50 + size]).max() > 0.15


BAD = [
    ({"layer": "l1"}, ValueError, "layer: expected one of l0, got 'l1'"),
    ({"layer": 1}, IndexError, "layer: expected -1 to 0, got 1"),
    ({"row": 3}, IndexError, "row: expected -3 to 2, got 3"),
    ({"row": None}, TypeError, "row: expected int, got NoneType"),
    ({"member": 1}, IndexError, "member: expected -1 to 0, got 1"),
    ({"units": [0, 7]}, IndexError, "units[1]: expected -7 to 6, got 7"),
    ({"units": []}, ValueError, "units: expected at least one, got none"),
    ({"units": 1.5}, TypeError, "units: expected int, a sequence of int or None, got float"),
    ({"order": "size"}, ValueError, 'order: expected "similar", None or one of input_gate'),
    ({"order": 3}, ValueError, "got 3"),
    ({"labels": "short"}, ValueError, "labels: expected one for each of the 11 steps, got 5"),
    ({"labels": 7}, TypeError, "labels: expected a sequence of texts, numbers or timestamps, got int"),
    ({"labels": np.zeros((11, 2))}, ValueError, "labels: expected one axis, got the shape (11, 2)"),
    ({"signals": ["gate"]}, ValueError, "signals[0]: expected one of input_gate"),
    ({"signals": [1]}, TypeError, "signals[0]: expected a str, got int"),
    ({"signals": []}, ValueError, "signals: expected at least one of input_gate"),
    ({"signals": 5}, TypeError, "signals: expected a sequence of str, got int"),
    ({"axes": 5}, TypeError, "axes: expected 6 matplotlib Axes, got int"),
    ({"axes": []}, ValueError, "axes: expected 6, one for each panel, got 0"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_errors_come_before_any_drawing(options, error, message):
    with pytest.raises(error, match=re.escape(message)), nothing_drawn():
        lw.plot.gates(traced(), **options)


def test_what_is_no_trace_is_refused():
    trace = traced()
    for wrong in (trace["l0"], trace.cell, None):
        with pytest.raises(TypeError, match="trace: expected a Trace"), nothing_drawn():
            lw.plot.gates(wrong)
    network = lw.Network([lw.Linear(3, 2)])
    with (
        pytest.raises(ValueError, match="layer: expected one of an LSTM, but the network has no LSTM"),
        nothing_drawn(),
    ):
        lw.plot.gates(network.trace(np.ones((4, 3))))


def test_empty_traces_are_refused():
    lstm = lw.LSTM(3, 5, seed=0)
    with pytest.raises(ValueError, match="at least one step"), nothing_drawn():
        lw.plot.gates(lstm.trace(np.ones((0, 2, 3))))
    with pytest.raises(IndexError, match="row"), nothing_drawn():
        lw.plot.gates(lstm.trace(np.ones((4, 0, 3))))
    assert data(lw.plot.gates(lstm.trace(np.ones((1, 2, 3))))[0]).shape == (5, 1)


def test_projected_outputs_give_no_order():
    trace = traced(proj_size=2)
    with pytest.raises(ValueError, match="projects its output"), nothing_drawn():
        lw.plot.gates(trace, order="hidden")
