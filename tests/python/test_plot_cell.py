"""plot.cell: the diagram shows how the cell is wired, and the numbers of the step."""

import re

import latchwork as lw
import numpy as np
import pytest
from layers import normal, random_lstm
from skips import LENGTHS, ROWS, STEPS, masks
from variants import PLAIN

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from pictures import assert_inside, nothing_drawn, overlapping

PARTS = ("forget", "input", "update", "output")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def texts(ax):
    return [artist for artist in ax.get_children() if isinstance(artist, Text) and artist.get_text()]


def words(ax):
    return [text.get_text() for text in texts(ax)]


def strong(ax):
    return {text.get_text() for text in texts(ax) if text.get_alpha() == 1}


def number_after(ax, start):
    """The number that stands behind a name, such as "$f$"."""
    (text,) = [each for each in words(ax) if each.startswith(f"{start} = ")]
    return float(text.rpartition("= ")[2].replace("\u2212", "-"))


def diagram(trace, *arguments, **options):
    return lw.plot.cell(trace, *arguments, **options, ax=Figure((9, 5.2)).subplots())


def test_the_numbers_are_those_of_the_step():
    lstm = random_lstm(input_size=3, hidden_size=5)
    start = normal(2, (1, 2, 5)), normal(3, (1, 2, 5))
    trace = lstm.trace(normal(1, (7, 2, 3)), start)
    for step in (0, 3, -1):
        ax = diagram(trace, step, 4, row=1)
        place = step % 7
        before = (trace.cell[place - 1], trace.hidden[place - 1]) if place else (start[1][0], start[0][0])
        i, f, g, o, c, h = (float(getattr(trace, name)[place, 1, 4]) for name in trace["l0"]._fields)
        c_prev, h_prev = (float(values[1, 4]) for values in before)
        expected = {
            "$i$": i, "$f$": f, "$g$": g, "$o$": o, "$c_t$": c, "$h_t$": h, r"$c_\mathrm{prev}$": c_prev,
            r"$h_\mathrm{prev}$": h_prev, r"$f \cdot c_\mathrm{prev}$": f * c_prev, r"$i \cdot g$": i * g,
        }  # fmt: skip
        for name, value in expected.items():
            assert number_after(ax, name) == pytest.approx(value, abs=6e-4), name
        assert f"{np.tanh(c):.3f}".replace("-", "\u2212") in words(ax)
        assert f"step {place}" in words(ax)
        equations = [text for text in words(ax) if "_t = " in text]
        assert len(equations) == 2
        for equation, value in zip(equations, (c, h), strict=True):
            assert float(equation.rpartition("= ")[2].replace("\u2212", "-")) == pytest.approx(value, abs=6e-4)
        assert words(ax).count("\u03c3") == 3
        assert words(ax).count("tanh") == 2


def test_masks_and_directions_say_what_came_before():
    lstm = random_lstm(input_size=3, hidden_size=5, bidirectional=True, learn_start_state=True)
    reset, skip = np.zeros((STEPS, ROWS), bool), np.zeros((STEPS, ROWS), bool)
    reset[4, 1], skip[2, 1] = True, True
    start = normal(2, (2, ROWS, 5)), normal(3, (2, ROWS, 5))
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)), start, lengths=LENGTHS, reset=reset, skip=skip)  # row 1: 6 steps
    before = {
        ("l0", 0): (start[1][0, 1, 2], start[0][0, 1, 2]),
        ("l0", 3): (trace["l0"].cell[1, 1, 2], trace["l0"].hidden[1, 1, 2]),
        ("l0", 4): (lstm.parameters["c_0_l0"][2], lstm.parameters["h_0_l0"][2]),
        ("l0_reverse", 5): (start[1][1, 1, 2], start[0][1, 1, 2]),
        ("l0_reverse", 4): (trace["l0_reverse"].cell[5, 1, 2], trace["l0_reverse"].hidden[5, 1, 2]),
        ("l0_reverse", 3): (lstm.parameters["c_0_l0_reverse"][2], lstm.parameters["h_0_l0_reverse"][2]),
        ("l0_reverse", 1): (trace["l0_reverse"].cell[3, 1, 2], trace["l0_reverse"].hidden[3, 1, 2]),
    }
    for (layer, step), (cell, hidden) in before.items():
        ax = diagram(trace, step, 2, layer, row=1)
        assert number_after(ax, r"$c_\mathrm{prev}$") == pytest.approx(cell, abs=6e-4), (layer, step)
        assert number_after(ax, r"$h_\mathrm{prev}$") == pytest.approx(hidden, abs=6e-4), (layer, step)
    with pytest.raises(ValueError, match="step: expected one that is computed, got 2, which skip leaves out"):
        lw.plot.cell(trace, 2, 2, row=1)
    with pytest.raises(IndexError, match="step: expected -6 to 5, got 6"), nothing_drawn():
        lw.plot.cell(trace, 6, 2, row=1)


def test_members_unbatched_input_and_labels():
    network = lw.Network([lw.LSTM(3, 4, seed=0), lw.Linear(4, 2)], members=2)
    trace = network.trace(normal(1, (6, 3)))
    ax = diagram(trace, 2, 1, member=1, labels=["a", "b", "$c$", "d", "e", "f"])
    assert number_after(ax, "$c_t$") == pytest.approx(trace["0.l0"].cell[1, 2, 1], abs=6e-4)
    assert r"\$c\$ (step 2)" in words(ax)


def test_highlights_walk_through_the_step():
    trace = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (7, 3)))
    whole = strong(diagram(trace, 3, 2))
    parts = {part: strong(diagram(trace, 3, 2, highlight=part)) for part in PARTS}
    assert "forget gate" in parts["forget"]
    assert not parts["forget"] & {"input gate", "candidate", "output gate", "+", "\u00d7"}
    assert {"input gate", "candidate"} <= parts["input"]
    assert not parts["input"] & {"forget gate", "output gate", "+", "\u00d7"}
    assert {"+", "\u00d7"} <= parts["update"]
    assert not parts["update"] & {"forget gate", "input gate", "candidate", "output gate", "$x_t$", "\u03c3", "tanh"}
    assert {"output gate", "\u03c3", "tanh", "\u00d7"} <= parts["output"]
    assert not parts["output"] & {"forget gate", "input gate", "candidate", "+"}
    for part in ("forget", "input", "output"):
        assert "$x_t$" in parts[part]
    equations = {
        part: [text for text in shown if text.startswith("$") and "W_" in text] for part, shown in parts.items()
    }
    assert {part: len(each) for part, each in equations.items()} == {"forget": 1, "input": 2, "update": 0, "output": 1}
    assert any(text.startswith("$c_t = f") for text in parts["update"])
    assert any(text.startswith("$h_t = o") for text in parts["output"])
    gates = {text for shown in parts.values() for text in shown}
    assert whole <= gates  # what is drawn belongs to some part


def test_pale_is_paler_in_light_and_in_dark_style():
    trace = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (7, 3)))
    for style in ("default", "dark_background"):
        with pyplot.style.context(style):
            ax = lw.plot.cell(trace, 3, 2, highlight="forget")
        boxes = [patch for patch in ax.patches if type(patch).__name__ == "FancyBboxPatch"][1:]
        paper = np.array(ax.get_facecolor())[:3]
        contrast = [np.abs(np.array(box.get_facecolor())[:3] - paper).max() for box in boxes]
        assert contrast[0] > 3 * max(contrast[1:])  # of the forget gate against all others
        ink = {
            tuple(text.get_color()) if not isinstance(text.get_color(), str) else text.get_color() for text in texts(ax)
        }
        assert ("white" in ink) == (style == "dark_background")


def structure(ax):
    shown = words(ax)
    dashed = sum(patch.get_linestyle() not in ("-", "solid") for patch in ax.patches)
    return {
        "gates": [name for name in ("forget gate", "input gate", "candidate", "output gate") if name in shown],
        "products": shown.count("\u00d7"),
        "one minus": "1\u2212" in shown,
        "peepholes": dashed,
        "boxes": {name for name in ("clip", "norm", "zoneout", "project") if name in shown},
    }


@pytest.mark.parametrize("name", ["plain", *PLAIN])
@pytest.mark.parametrize("masked", [False, True])
def test_every_variant_is_drawn_as_it_is(name, masked):
    options = PLAIN.get(name, {})
    lstm = random_lstm(**({"input_size": 3, "hidden_size": 5} | options))
    common = {"lengths": LENGTHS, "reset": masks(3, 0.2)} if masked else {}
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)), **common)
    forget_gate = lstm.forget_gate
    for layer in trace:
        for highlight in (None, *PARTS) if not masked else ("output",):
            ax = diagram(trace, 3, 2, layer, row=1, highlight=highlight)
            found = structure(ax)
            gates = ["input gate", "candidate", "output gate"]
            assert found["gates"] == (["forget gate", *gates] if forget_gate is True else gates)
            assert found["products"] == (2 if forget_gate is False else 3)
            assert found["one minus"] == (forget_gate == "coupled")
            assert found["peepholes"] == (0 if not lstm.peephole else 3 if forget_gate is True else 2)
            expected = {"clip"} if lstm.cell_clip is not None else set()
            expected |= {"norm"} if lstm.layer_norm else set()
            expected |= {"zoneout"} if any(lstm.zoneout) else set()
            expected |= {"project"} if lstm.proj_size else set()
            assert found["boxes"] == expected
        signals = trace[layer]
        f, c = (float(values[3, 1, 2]) for values in (signals.forget_gate, signals.cell))
        assert number_after(ax, "$c_t$") == pytest.approx(c, abs=6e-4)
        if forget_gate is not False:
            assert number_after(ax, "$f$") == pytest.approx(f, abs=6e-4)
        h_t = [text for text in words(ax) if text.startswith("$h_t$")]
        if lstm.proj_size:
            assert h_t == [f"$h_t$: {lstm.proj_size} features"]
        else:
            assert number_after(ax, "$h_t$") == pytest.approx(float(signals.hidden[3, 1, 2]), abs=6e-4)


@pytest.mark.parametrize("name", ["plain", *PLAIN])
def test_equations_come_to_what_the_trace_holds(name):
    """The numbers at the ends of the lines, zoneout and clip included, are those of the core."""
    lstm = random_lstm(**({"input_size": 3, "hidden_size": 5} | PLAIN.get(name, {})))
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)))
    formulas = MathTextParser("path")
    for layer in trace:
        ends = {}
        for part, signal in (("forget", None), ("input", None), ("update", "cell"), ("output", "hidden")):
            ax = diagram(trace, 4, 1, layer, highlight=part)
            for text in words(ax):
                if "$" in text:
                    formulas.parse(text)  # ValueError if matplotlib does not understand it
            lines = [text for text in words(ax) if re.match(r"\$[ch]_t =|cut off|zoneout mixes", text)]
            end = re.search(r"[=:] ([\d.e+-]+)$", lines[-1].replace("\u2212", "-")) if lines else None
            ends[signal] = float(end[1]) if end else None
        assert ends["cell"] == pytest.approx(float(trace[layer].cell[4, 0, 1]), abs=6e-4)
        if not lstm.proj_size and not (lstm.layer_norm and lstm.zoneout[0]):
            assert ends["hidden"] == pytest.approx(float(trace[layer].hidden[4, 0, 1]), abs=6e-4)


@pytest.mark.parametrize("size", [(3.9, 3), (9, 5.2), (5, 12)])
@pytest.mark.parametrize("name", ["peephole", "peephole, coupled", "everything"])
def test_texts_do_not_overlap_at_any_size(name, size):
    options = {"input_size": 3, "hidden_size": 5} | PLAIN[name]
    trace = random_lstm(**options).trace(-np.abs(normal(1, (7, 2, 3))))
    for highlight in (None, "output"):
        ax = lw.plot.cell(trace, 3, 2, highlight=highlight, ax=Figure(size, layout="constrained").subplots())
        ax.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in texts(ax)]
        assert overlapping(boxes) == 0
        assert_inside(ax.figure, boxes)


def test_texts_fit_their_boxes():
    for activation in ("sigmoid", "hard_sigmoid", "thresholded_relu", "leaky_relu", "softplus", "relu"):
        names = dict.fromkeys(("input", "forget", "output", "candidate", "cell"), activation)
        trace = random_lstm(input_size=3, hidden_size=5, activations=names).trace(normal(1, (7, 2, 3)))
        ax = diagram(trace, 3, 2)
        ax.figure.draw_without_rendering()
        boxes = [patch for patch in ax.patches if type(patch).__name__ == "FancyBboxPatch"][1:]
        name = "\u03c3" if activation == "sigmoid" else activation.replace("_", "\n")
        inside = [text.get_window_extent() for text in texts(ax) if text.get_text() == name]
        assert len(inside) == len(boxes) == 5
        for text in inside:
            around = [box.get_window_extent() for box in boxes]
            assert any(box.x0 <= text.x0 and text.x1 <= box.x1 for box in around)


def test_numbers_are_short_whatever_they_are():
    from latchwork.plot.cell_parts import number

    values = {0.0: "0.000", 0.12345: "0.123", -0.5: "\u22120.500", 0.0001: "0.0001", 12345.0: "1.2e+04"}
    for value, text in values.items():
        assert number(value) == text
    assert number(float("nan")) == "nan"
    assert number(float("-inf")) == "\u2212inf"
    trace = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (7, 3)))
    trace.cell[...], trace.candidate[...] = np.inf, np.nan
    diagram(trace, 3, 2).figure.draw_without_rendering()


def test_axes_given_are_used():
    trace = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (7, 3)))
    ax = Figure().subplots()
    with nothing_drawn():
        assert lw.plot.cell(trace, 3, 2, ax=ax) is ax
    assert lw.plot.cell(trace, 3, 2).figure.number in pyplot.get_fignums()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": 7}, IndexError, "step: expected -7 to 6, got 7"),
        ({"unit": -6}, IndexError, "unit: expected -5 to 4, got -6"),
        ({"unit": 1.0}, TypeError, "unit: expected int, got float"),
        ({"unit": None}, TypeError, "unit: expected int, got NoneType"),
        ({"layer": "l3"}, ValueError, "layer: expected one of l0, got 'l3'"),
        ({"row": 1}, IndexError, "row: expected -1 to 0, got 1"),
        (
            {"highlight": "cell"},
            ValueError,
            "highlight: expected one of forget, input, update, output or None, got 'cell'",
        ),
        ({"highlight": 1}, ValueError, "highlight: expected one of forget"),
        ({"labels": "abc"}, ValueError, "labels: expected one for each of the 7 steps, got 3"),
        ({"ax": [1]}, TypeError, "ax: expected a matplotlib Axes, got list"),
    ],
)
def test_errors_come_before_any_drawing(options, error, message):
    trace = random_lstm(input_size=3, hidden_size=5).trace(normal(1, (7, 3)))
    with pytest.raises(error, match=re.escape(message)), nothing_drawn():
        lw.plot.cell(trace, **({"step": 2, "unit": 1} | options))
