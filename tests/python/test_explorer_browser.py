"""explain.explorer in a headless browser: each interaction does what the page says."""

import numpy as np
import pytest
from explorer_actions import (
    SHIFT,
    action_chains,
    check_equations,
    choose,
    chosen,
    mouse,
    number,
    pixels,
    point_of,
    press,
    shift,
    shown,
    text_of,
)
from explorer_pages import SIGNALS, messages, prefer, resize, settle, terms, visit, wait_for
from latchwork.explain.page import explorer
from layers import normal, random_lstm

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="Selenium is not installed").Keys

STEPS, UNITS = 60, 12
TOKENS = [f"w{step}" for step in range(STEPS)]
TRACK = ["first"] * 20 + [None] * 20 + ["<b>last</b>"] * 20


@pytest.fixture(scope="module")
def run():
    """A network, its input, and what it did: (T, H) by name of the signal."""
    lstm = random_lstm(input_size=3, hidden_size=UNITS)
    x = np.repeat(normal(1, (STEPS // 4, 3)), 4, axis=0)  # slow, so that units stay on for a while
    trace = lstm.trace(x)
    return lstm, x, {name: np.asarray(getattr(trace, name), np.float64) for name in SIGNALS}


@pytest.fixture(scope="module")
def corpus():
    return np.repeat(normal(2, (40, 3)), 3, axis=0)


@pytest.fixture(scope="module")
def page_path(run, corpus, tmp_path_factory):
    lstm, x, _ = run
    path = tmp_path_factory.mktemp("explorer") / "gates.html"
    labels = [f"c{step}" for step in range(len(corpus))]
    sequences, of_sequences = [corpus[:70], corpus[70:]], [labels[:70], labels[70:]]
    explorer(lstm, x, tokens=TOKENS, tracks={"part": TRACK}, corpus=sequences, corpus_tokens=of_sequences, path=path)
    return path


@pytest.fixture
def page(browser, page_path):
    visit(browser, page_path)
    return browser


class TestPointing:
    def test_hover_shows_the_equations_with_numbers(self, page, run):
        before = chosen(page)
        for signal, step, unit in (("input_gate", 5, 3), ("forget_gate", 0, 11), ("cell", 20, 0), ("hidden", 31, 7)):
            mouse(page, point_of(page, signal, step, unit), button=False)
            check_equations(page, run[2], step, unit)
            labels = text_of(page, "#step-labels").split("\n")
            assert labels == ([TOKENS[step]] if TRACK[step] is None else [TOKENS[step], f"part: {TRACK[step]}"])
        assert chosen(page) == before
        mouse(page, (5, 5), button=False)  # away from the maps: the chosen place is shown again
        check_equations(page, run[2], *before[:2])

    def test_a_click_shows_who_wrote_the_cell(self, page, run):
        mouse(page, point_of(page, "candidate", 30, 4))
        assert chosen(page) == [30, 4, 30, 30]
        mouse(page, (5, 5), button=False)
        check_equations(page, run[2], 30, 4)
        written, cut, start = terms(run[2], np.zeros(UNITS), np.zeros(UNITS), 4, 30)
        rows = page.execute_script("""
            return [...document.querySelectorAll("#writers tbody tr")].map((tr) =>
              [...tr.cells].map((td) => td.innerText));
        """)
        order = np.argsort(-abs(written), kind="stable")[:6]
        assert [int(row[0]) for row in rows[:6]] == order.tolist()
        assert [row[1] for row in rows[:6]] == [TOKENS[step] for step in order]
        np.testing.assert_allclose([number(row[2]) for row in rows[:6]], written[order], rtol=6e-3, atol=6e-4)
        assert rows[6][0] == "25 more"
        total = sum(number(row[2]) for row in rows)
        assert total == pytest.approx(run[2]["cell"][30, 4], rel=0.01, abs=0.005)
        assert (cut == 0).all()
        assert start == 0
        page.find_element("css selector", "#writers tbody tr:nth-child(2) button").click()
        assert chosen(page)[:2] == [int(order[1]), 4]

    def test_dragging_and_shift_click_choose_a_range(self, page):
        mouse(page, point_of(page, "cell", 10, 2), point_of(page, "cell", 12, 3), point_of(page, "cell", 16, 5))
        assert chosen(page)[2:] == [10, 16]
        mouse(page, point_of(page, "cell", 25, 2), point_of(page, "hidden", 21, 3))
        assert chosen(page)[2:] == [21, 25]
        mouse(page, point_of(page, "cell", 8, 2))
        action_chains(page).key_down(SHIFT).perform()
        mouse(page, point_of(page, "cell", 14, 2))
        action_chains(page).key_up(SHIFT).perform()
        assert chosen(page) == [8, 2, 8, 14]

    def test_bars_stand_where_steps_wrote(self, page, run):
        written = terms(run[2], np.zeros(UNITS), np.zeros(UNITS), 4, 30)[0]
        mouse(page, point_of(page, "candidate", 30, 4))
        script = """
            return Array.from({length: state.layer.steps}, (_, step) => {
              let height = 0;
              for (let y = maps.barsY; y < maps.barsY + BARS - 4; y++) {
                const [red, , blue] = at_pixel(maps.xOf(step) + maps.stepWidth / 2 - 1, y);
                height += red > blue + 60 ? 1 : blue > red + 60 ? -1 : 0;
              }
              return height;
            });
        """
        heights = np.array(pixels(page, script))
        visible = abs(written) > 0.03 * np.ptp(written)
        assert visible.sum() > 3
        assert (heights[31:] == 0).all()
        assert (np.sign(heights[: len(written)])[visible] == np.sign(written)[visible]).all()
        np.testing.assert_allclose(heights / abs(heights).max(), written / abs(written).max(), atol=0.08)


class TestKeyboard:
    def test_arrows_move_step_and_unit(self, page):
        page.find_element("id", "view").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
        assert chosen(page)[:2] == [2, 1]
        press(page, Keys.PAGE_DOWN, Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ARROW_UP)
        assert chosen(page)[:2] == [11, 0]
        press(page, Keys.END)
        assert chosen(page) == [STEPS - 1, 0, STEPS - 1, STEPS - 1]
        visible = "return state.step <= state.maps.lastStep && state.step >= state.maps.firstStep"
        settle(page)
        assert page.execute_script(visible)
        press(page, Keys.HOME)
        assert chosen(page) == [0, 0, 0, 0]

    def test_shift_makes_a_range_and_escape_drops_it(self, page):
        page.find_element("id", "view").send_keys(Keys.ARROW_RIGHT * 5)
        for _ in range(3):
            shift(page, Keys.ARROW_RIGHT)
        assert chosen(page) == [8, 0, 5, 8]
        for _ in range(5):
            shift(page, Keys.ARROW_LEFT)
        assert chosen(page) == [3, 0, 3, 5]
        press(page, Keys.ESCAPE)
        assert chosen(page) == [3, 0, 3, 3]

    def test_the_numbers_are_read_out(self, page, run):
        page.find_element("id", "view").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
        wait_for(page, "return at('said').textContent !== ''")
        said = page.find_element("id", "said")
        assert said.get_attribute("aria-live") == "polite"
        assert shown(said.get_attribute("textContent")).startswith("step 1, w1, unit 1: input gate ")
        read = [float(part.rsplit(" ", 1)[1]) for part in shown(said.get_attribute("textContent")).split(", ")[2:]]
        expected = [run[2][name][1, 1] for name in SIGNALS[1:]]
        np.testing.assert_allclose(read[-5:], expected, rtol=6e-3, atol=6e-4)

    def test_tab_reaches_every_control_in_order(self, page):
        script = """
            const visible = (each) => each.offsetParent !== null && !each.disabled;
            return [...document.querySelectorAll("select, input, button, summary, #view")].filter(visible)
              .map((each) => each.id || each.innerText);
        """
        expected = page.execute_script(script)
        page.execute_script("document.activeElement.blur()")
        reached = []
        for _ in expected:
            action_chains(page).send_keys(Keys.TAB).perform()
            reached.append(page.execute_script("return document.activeElement.id || document.activeElement.innerText"))
            outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", reached[-1]
        inside = [each for each in reached if each in expected]
        assert inside == expected[: len(inside)]
        assert {"layer", "order", "filter", "theme", "view", "step", "from", "threshold"} <= {*inside}

    def test_every_control_has_a_name(self, page):
        script = """
            return [...document.querySelectorAll("select, input, button, #view")].filter((each) => {
              const label = each.labels && each.labels[0];
              return !(each.getAttribute("aria-label") || (label && label.innerText.trim()) || each.innerText.trim());
            }).map((each) => each.outerHTML);
        """
        assert page.execute_script(script) == []
        ids = page.execute_script("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len({*ids}) == len(ids)

    def test_typed_numbers(self, page):
        choose(page, "step", "17")
        choose(page, "unit", "5")
        choose(page, "to", "22")
        choose(page, "from", "19")
        assert chosen(page) == [17, 5, 19, 22]
        choose(page, "step", "1000")
        choose(page, "unit", "-3")
        choose(page, "from", "40")
        choose(page, "to", "")
        assert chosen(page) == [STEPS - 1, 0, 40, 40]


class TestRange:
    @staticmethod
    def on(signals, first, last, threshold):
        """The units that stay beyond the threshold, and on which side, by plain loops."""
        units = {}
        for unit in range(UNITS):
            values = signals["hidden"][first : last + 1, unit]
            if all(value >= threshold for value in values):
                units[unit] = 1
            if all(value <= -threshold for value in values):
                units[unit] = -1
        return units

    @staticmethod
    def shown_units(browser):
        chips = browser.execute_script(
            "return [...document.querySelectorAll('#units-on button')].map((b) => [b.dataset.unit, b.className])"
        )
        return {int(unit): 1 if "positive" in name else -1 for unit, name in chips}

    def test_units_on_throughout(self, page, run):
        found = 0
        for first, last, threshold in ((4, 7, 0.3), (20, 23, 0.1), (20, 21, 0.5), (0, 59, 0.05), (12, 12, 0.9)):
            choose(page, "to", str(last))
            choose(page, "from", str(first))
            choose(page, "to", str(last))
            choose(page, "threshold", str([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9].index(threshold)))
            expected = self.on(run[2], first, last, threshold)
            assert self.shown_units(page) == expected
            summary = text_of(page, "#range-summary")
            assert summary.startswith(f"{len(expected)} unit" if expected else "No unit is on throughout")
            assert page.find_element("id", "keep-units").is_displayed() == bool(expected)
            found += len(expected)
        assert found > 5

    def test_places_in_sequence_and_corpus(self, page, run, corpus):
        lstm, _, signals = run
        first, last, threshold = 20, 22, 0.2
        choose(page, "to", str(last))
        choose(page, "from", str(first))
        choose(page, "threshold", "2")
        on = self.on(signals, first, last, threshold)
        assert len(on) >= 3

        def counts(hidden):
            return sum((sign * hidden[:, unit] >= threshold).astype(int) for unit, sign in on.items())

        here = counts(signals["hidden"])
        there = [counts(lstm.trace(part).hidden) for part in (corpus[:70], corpus[70:])]
        items = page.execute_script(
            "return [...document.querySelectorAll('#places li')].map((li) => [Number(li.dataset.from),"
            " Number(li.dataset.to), Number(li.dataset.count), li.innerText, li.querySelector('mark').innerText])"
        )
        order = [(-item[2], abs(item[1] - item[0] - (last - first))) for item in items]
        assert order == sorted(order)
        sources = {"sequence": 0, "corpus": 0}
        for begin, end, count, text, marked in items:
            assert text.startswith(f"{count} of {len(on)}, ")
            assert 2 * count >= len(on)
            if "this sequence" in text:
                sources["sequence"] += 1
                assert here[begin : end + 1].min() == count
                assert end < first or begin > last
                expected = [f"w{step}" for step in range(begin, end + 1)]
            else:
                sources["corpus"] += 1
                part = 0 if begin < 70 else 1
                assert end < 70 or part == 1
                assert there[part][begin - 70 * part : end + 1 - 70 * part].min() == count
                steps = (
                    f"steps {begin - 70 * part}\u2013{end - 70 * part}" if end > begin else f"step {begin - 70 * part}"
                )
                assert steps in text
                expected = [f"c{step}" for step in range(begin, end + 1)]
            assert marked.split() == expected
        assert min(sources.values()) > 0
        # No place with all units on is missing.
        whole = {item[0] for item in items if item[2] == len(on) and "corpus" in item[3]}
        starts = {
            70 * part + step
            for part, each in enumerate(there)
            for step in range(len(each))
            if each[step] == len(on) and (step == 0 or each[step - 1] < len(on))
        }
        assert starts
        assert whole == starts

    def test_a_place_can_be_visited_and_units_kept(self, page):
        choose(page, "to", "22")
        choose(page, "from", "20")
        choose(page, "threshold", "2")
        units = sorted(self.shown_units(page))
        page.find_element("id", "keep-units").click()
        settle(page)
        assert page.execute_script("return state.order") == units
        assert page.find_element("id", "filter").get_attribute("value") == ", ".join(map(str, units))
        page.find_element("id", "all-units").click()
        settle(page)
        assert page.execute_script("return state.order.length") == UNITS
        chip = page.find_element("css selector", "#units-on button:last-child")
        unit = int(chip.get_attribute("data-unit"))
        chip.click()
        assert chosen(page)[1] == unit
        place = page.find_element("css selector", "#places li:has(button)")
        target = [int(place.get_attribute("data-from")), int(place.get_attribute("data-to"))]
        place.find_element("css selector", "button").click()
        assert chosen(page)[2:] == target


class TestControls:
    def test_order_of_units(self, page, run):
        activity = abs(run[2]["hidden"]).mean(axis=0)
        for value, expected in (
            ("activity", np.argsort(-activity).tolist()),
            ("similar", page.execute_script("return state.layer.similar")),
            ("number", list(range(UNITS))),
        ):
            choose(page, "order", value)
            assert page.execute_script("return state.order") == expected
            # The third row of the map is what the order says.
            mouse(page, point_of(page, "cell", 9, expected[2]), button=False)
            check_equations(page, run[2], 9, expected[2])
        assert expected != np.argsort(-activity).tolist()

    def test_filter(self, page):
        choose(page, "filter", "3, 7-9,0")
        assert page.execute_script("return state.order") == [0, 3, 7, 8, 9]
        choose(page, "filter", "5")
        assert chosen(page)[1] == 5
        choose(page, "order", "activity")
        assert page.execute_script("return state.order") == [5]
        for wrong, message in (("x", "cannot read \u201cx\u201d"), ("12", "units go from 0 to 11"), ("4-2", "go from")):
            choose(page, "filter", wrong)
            assert message in text_of(page, "#filter-error")
            assert page.find_element("id", "filter").get_attribute("aria-invalid") == "true"
            assert page.execute_script("return state.order.length") == UNITS
        choose(page, "filter", "")
        assert text_of(page, "#filter-error") == ""

    def test_maps_and_sizes(self, page):
        choose(page, "maps-shown", "forget_gate")
        assert page.execute_script("return state.maps.rects.map((r) => r.name)") == ["forget_gate"]
        choose(page, "maps-shown", "all")
        assert page.execute_script("return state.maps.rects.length") == 6
        width = page.execute_script("return state.maps.stepWidth")
        page.find_element("id", "wider").click()
        assert page.execute_script("return state.maps.stepWidth") == pytest.approx(1.5 * width)
        page.find_element("id", "fit-steps").click()
        settle(page)
        fits = "const v = at('view'); return [state.maps.firstStep, state.maps.lastStep, v.scrollWidth - v.clientWidth]"
        assert page.execute_script(fits) == [0, STEPS - 1, 0]
        for _ in range(4):
            page.find_element("id", "narrower").click()
        settle(page)
        assert page.execute_script("return state.maps.stepWidth") < 3
        for _ in range(3):
            page.find_element("id", "higher").click()
        settle(page)
        assert page.execute_script("const v = at('view'); return v.scrollHeight > v.clientHeight")
        page.find_element("id", "fit-units").click()
        settle(page)
        assert page.execute_script("const v = at('view'); return v.scrollHeight - v.clientHeight") == 0

    def test_theme_follows_the_system_and_the_choice(self, page):
        def background():
            return page.execute_script("return getComputedStyle(document.body).backgroundColor")

        def corner():
            return pixels(page, "return at_pixel(2, 400)")

        light = background()
        assert corner() == [255, 255, 255]
        prefer(page, "dark")
        settle(page)
        dark = background()
        assert dark != light
        assert max(corner()) < 50
        choose(page, "theme", "light")
        assert (background(), corner()) == (light, [255, 255, 255])
        prefer(page, "light")
        choose(page, "theme", "dark")
        assert background() == dark
        choose(page, "theme", "system")
        assert background() == light

    def test_colours_say_what_the_values_are(self, page, run):
        script = """
            const rect = maps.rects.find((each) => each.name === arguments[0]), row = state.order.indexOf(arguments[2]);
            return at_pixel(maps.xOf(arguments[1]) + maps.stepWidth / 2, rect.y + (row + 0.5) * maps.rowHeight);
        """
        for order in ("number", "activity"):
            choose(page, "order", order)
            for unit in range(UNITS):
                gate, candidate = run[2]["forget_gate"][7, unit], run[2]["candidate"][7, unit]
                red, _, _ = pixels(page, script, "forget_gate", 7, unit)
                assert (red > 120) == (gate > 0.48) or abs(gate - 0.48) < 0.06
                red, _, blue = pixels(page, script, "candidate", 7, unit)
                assert (red > blue) == (candidate > 0) or abs(candidate) < 0.1


def test_a_damaged_file_says_so(chromium, page_path, tmp_path):
    text = page_path.read_text(encoding="utf-8")
    at = text.index('id="values-0-0"') + 400
    (tmp_path / "bad.html").write_text(text[:at] + "AAAA" + text[at + 4 :], encoding="utf-8")
    chromium.get((tmp_path / "bad.html").as_uri())
    wait_for(chromium, "return !document.getElementById('notice').hidden")
    assert "could not be read" in text_of(chromium, "#notice")
    assert messages(chromium)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_fits_the_window(browser, page_path, width, height):
    resize(browser, width, height)
    visit(browser, page_path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    overflowing = """
        return [...document.querySelectorAll("select, input, button, label, p, h1, h2")].filter((each) => {
          const box = each.getBoundingClientRect();
          return box.width && !each.closest(".visually-hidden") && (box.right > innerWidth + 1 || box.left < 0);
        }).map((each) => each.outerHTML);
    """
    assert browser.execute_script(overflowing) == []
    view = browser.execute_script("return at('view').getBoundingClientRect().toJSON()")
    assert view["width"] >= 0.6 * width
    assert browser.execute_script("return Math.min(...state.maps.rects.map((r) => r.height))") >= 24
