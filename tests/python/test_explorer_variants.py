"""explain.explorer in a headless browser: terms that add up, every variant, odd texts and odd numbers."""

import latchwork as lw
import numpy as np
import pytest
from explorer_actions import choose, equations, mouse, number, open_page, point_of, shown, text_of
from explorer_pages import SIGNALS, settle, terms, wait_for
from layers import normal, random_lstm

LAST_TERMS = """
    const m = memoryTerms(state.layer, arguments[0], arguments[1]);
    return [Array.from(m.written), Array.from(m.cut), m.start, m.cell, m.adjusted, m.exact];
"""

VARIANTS = {
    "plain": {},
    "float64": {"dtype": "float64"},
    "coupled": {"forget_gate": "coupled"},
    "no forget gate": {"forget_gate": False},
    "peephole and layer norm": {"peephole": True, "layer_norm": True},
    "zoneout": {"zoneout": (0.2, 0.3)},
    "cell_clip": {"forget_gate": False, "cell_clip": 0.4},
    "cell_clip and zoneout": {"cell_clip": 0.3, "zoneout": (0.0, 0.4)},
    "projection": {"proj_size": 2},
    "reverse": {"reverse": True},
    "activations": {"activations": {"forget": "hard_sigmoid", "candidate": "affine", "cell": "softsign"}},
    "start state": {"learn_start_state": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_terms_add_up_to_the_cell_in_every_variant(browser, tmp_path, variant):
    lstm = random_lstm(**({"input_size": 3, "hidden_size": 7} | VARIANTS[variant]))
    x, state = normal(1, (23, 3)), (normal(2, (1, lstm.proj_size or 7)), normal(3, (1, 7)))
    reset, skip = np.zeros(23, bool), np.zeros(23, bool)
    reset[[9, 17]] = skip[[5, 17, 22]] = True
    zoneout, clip = lstm.zoneout[1], np.inf if lstm.cell_clip is None else lstm.cell_clip
    own = lstm.parameters["c_0_l0"] if lstm.learn_start_state else np.zeros(7)
    for marked in (False, True):
        masks = {"reset": reset, "skip": skip} if marked else {}
        trace = next(iter(lstm.trace(x, state, **masks).values()))
        signals = {name: np.asarray(getattr(trace, name), np.float64) for name in SIGNALS}
        open_page(browser, tmp_path, lstm, x, state=state, **masks)
        cuts = 0
        for unit, step in ((0, 22), (3, 16), (6, 8), (2, 0), (5, 12)):
            written, cut, start, cell, adjusted, exact = browser.execute_script(LAST_TERMS, unit, step)
            expected = terms(
                signals, state[1][0], np.asarray(own, np.float64), unit, step, reverse=lstm.reverse, zoneout=zoneout,
                clip=clip, resets=(9, 17) if marked else (), skips=(5, 17, 22) if marked else (),
            )  # fmt: skip
            size = abs(expected[0]).sum() + abs(expected[1]).sum() + abs(expected[2])
            assert exact
            assert adjusted < 1e-3
            assert sum(written) + sum(cut) + start == pytest.approx(cell, abs=1e-9 * size)
            assert cell == pytest.approx(signals["cell"][step, unit], rel=3e-4)
            np.testing.assert_allclose(written, expected[0], atol=2e-3 * size)
            np.testing.assert_allclose(cut, expected[1], atol=2e-3 * size)
            assert start == pytest.approx(expected[2], abs=2e-3 * size)
            cuts += np.count_nonzero(expected[1])
        assert (cuts > 0) == (clip < np.inf)


def test_terms_of_2000_steps_that_hardly_forget(browser, tmp_path):
    # Forget gates of 0.9999 are where rounding to even steps of the value would be felt.
    lstm = lw.LSTM(1, 4, seed=0)
    with lstm.edit() as parameters:
        parameters["bias_ih_l0"][4:8] = [9.2, 16.0, 5.0, 2.0]
        parameters["bias_ih_l0"][0:4] = -6.0
    x = normal(1, (2000, 1))
    trace = lstm.trace(x)
    signals = {name: np.asarray(getattr(trace, name), np.float64) for name in SIGNALS}
    open_page(browser, tmp_path, lstm, x)
    for unit in range(4):
        written, cut, start, cell, adjusted, exact = browser.execute_script(LAST_TERMS, unit, 1999)
        expected = terms(signals, np.zeros(4), np.zeros(4), unit, 1999)[0]
        assert exact
        assert adjusted < 3e-3
        assert sum(written) + sum(cut) + start == pytest.approx(cell, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(written, expected, rtol=0.01, atol=1e-7)
        assert abs(sum(written) - signals["cell"][-1, unit]) <= 0.01 * abs(signals["cell"][-1, unit])


def test_a_sum_that_is_not_a_number_is_said(browser, tmp_path):
    lstm = random_lstm(input_size=1, hidden_size=2)
    open_page(browser, tmp_path, lstm, np.array([[0.0], [1.0], [np.nan], [0.0]]))
    choose(browser, "step", "1")
    assert "Rounding" in text_of(browser, "#memory-summary")
    choose(browser, "step", "3")
    assert "not a number" in text_of(browser, "#memory-summary")
    assert equations(browser)["c"][0] == "NaN"


def test_hostile_texts_are_shown_as_texts(browser, tmp_path):
    labels = ["<img src=x onerror=document.title='bad'>", "</script><script>document.title='bad'</script>", "\ud800",
              "\u202eabc", "\n", "\x07", "a b", "\u05e9\u05dc\u05d5\u05dd", "\U0001f600", ""]  # fmt: skip
    x = normal(0, (10, 2))
    open_page(
        browser,
        tmp_path,
        lw.LSTM(2, 3, seed=0),
        x,
        tokens=labels,
        tracks={"<i>t": labels},
        corpus=x,
        corpus_tokens=labels,
    )
    expected = [*labels[:2], "\\ud800", "\\u202eabc", "\u21b5", "\u2407", *labels[6:9]]
    for step, label in enumerate(expected):
        choose(browser, "step", str(step))
        assert text_of(browser, "#step-labels .label") == label
    choose(browser, "from", "0")
    choose(browser, "threshold", "0")
    assert browser.title == "Latchwork: what the gates did"
    assert (
        browser.execute_script("return document.querySelectorAll('img, i:not([class]), b:not(.equation b)').length")
        == 0
    )


def test_choice_of_sequence_and_layer(browser, tmp_path):
    lstm = random_lstm(input_size=2, hidden_size=5, num_layers=2, bidirectional=True)
    x, lengths = normal(1, (9, 2, 2)), [9, 4]
    labels = [[f"{row}.{step}" for step in range(9)] for row in range(2)]
    open_page(browser, tmp_path, lstm, x, lengths=lengths, tokens=labels)
    trace = lstm.trace(x, lengths=lengths)
    choose(browser, "step", "7")
    for row in (1, 0):
        for place, name in enumerate(trace):
            choose(browser, "sequence", str(row))
            choose(browser, "layer", str(place))
            wait_for(browser, f"return state.layer.facts.name === '{name}' && state.layer.steps === {lengths[row]}")
            settle(browser)
            choose(browser, "step", "2")
            signals = {each: np.asarray(getattr(trace[name], each)[:, row], np.float64) for each in SIGNALS}
            lines = equations(browser)
            for symbol, each in zip("ifgoch", SIGNALS, strict=True):
                assert float(shown(lines[symbol][0])) == pytest.approx(signals[each][2, 0], rel=6e-3, abs=6e-4)
            before = 3 if name.endswith("_reverse") else 1
            c_prev = number(lines["c"][1].split("\n")[1].split("\u00d7 ")[1].split(" +")[0])
            assert c_prev == pytest.approx(signals["cell"][before, 0], rel=6e-3, abs=6e-4)
            assert text_of(browser, "#step-labels") == f"{row}.2"


def test_what_is_done_before_another_sequence_is_there(browser, tmp_path):
    """The place pointed at may not exist in it, and what is found meanwhile is of the sequence that is still shown."""
    lstm = random_lstm(input_size=2, hidden_size=5)
    x, lengths = normal(1, (9, 2, 2)), [9, 4]
    open_page(
        browser, tmp_path, lstm, x, lengths=lengths, tokens=[[f"{row}.{step}" for step in range(9)] for row in "ab"]
    )
    choose(browser, "threshold", "1")
    mouse(browser, point_of(browser, "cell", 8, 0), button=False)
    assert text_of(browser, "#step-labels") == "a.8"
    browser.execute_script("""
        at("sequence").value = "1";
        at("sequence").dispatchEvent(new Event("change"));
        choose({step: 3, from: 2, to: 3});
    """)
    wait_for(browser, "return state.layer.steps === 4 && state.memory.written.length === 4")
    settle(browser)
    assert text_of(browser, "#step-labels") == "b.3"
    expected = browser.execute_script("return unitsOn(state.layer, 2, 3, state.about.thresholds[1])")
    assert browser.execute_script("return state.on") == expected
    hidden = lstm.trace(x, lengths=lengths).hidden[2:4, 1]
    on = np.flatnonzero((hidden >= 0.1).all(axis=0) | (hidden <= -0.1).all(axis=0))
    assert [each["unit"] for each in expected] == on.tolist()


def test_projected_outputs_have_rows_of_their_own(browser, tmp_path):
    lstm = random_lstm(input_size=2, hidden_size=6, proj_size=2)
    x = normal(1, (9, 2))
    open_page(browser, tmp_path, lstm, x)
    left, top = point_of(browser, "hidden", 4, 0)
    height = browser.execute_script("return state.maps.mapHeight")
    mouse(browser, (left, round(top + 0.7 * height)), button=False)
    value = float(lstm.trace(x).hidden[4, 1])
    assert shown(text_of(browser, "#step-labels")).startswith("projected output 1: ")
    assert number(text_of(browser, "#step-labels").rsplit(" ", 1)[1]) == pytest.approx(value, rel=6e-3, abs=6e-4)
    assert "m of unit 0 = " in equations(browser)["h"][1]


@pytest.mark.slow
def test_opens_2000_steps_of_512_units(browser, tmp_path):
    lstm = random_lstm(input_size=16, hidden_size=512)
    x = normal(1, (2000, 16))
    open_page(browser, tmp_path, lstm, x, tokens=[f"word{step}" for step in range(2000)])
    choose(browser, "step", "1990")
    choose(browser, "unit", "500")
    trace = lstm.trace(x)
    lines = equations(browser)
    assert number(lines["c"][0]) == pytest.approx(float(trace.cell[1990, 500]), rel=6e-3, abs=6e-4)
    assert browser.execute_script("const m = state.maps; return m.picture.width * m.picture.height") < 4 * 1280 * 800
    choose(browser, "order", "similar")
    browser.find_element("id", "fit-steps").click()
    browser.find_element("id", "fit-units").click()
    settle(browser)
    assert browser.execute_script("return [state.maps.firstStep, state.maps.lastStep]") == [0, 1999]
