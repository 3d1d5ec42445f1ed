"""What a user does with the explorer's page in a browser, and what he reads on it."""

import numpy as np
import pytest
from explorer_pages import SIGNALS, settle, visit
from latchwork.explain.page import explorer

SHIFT = "\ue008"  # as Selenium's Keys has it


def action_chains(browser, **options):
    """Selenium's chain of keys and of moves of the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    return ActionChains(browser, **options)


def open_page(browser, tmp_path, network, x, **keywords):
    explorer(network, x, path=tmp_path / "gates.html", **keywords)
    visit(browser, tmp_path / "gates.html")


def shown(text):
    """A text of the page, with minus signs that Python reads."""
    return text.replace("\u2212", "-")


def number(text):
    return float(shown(text))


def text_of(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def choose(browser, element, value):
    """Choose in a list or write into a field, as a user does."""
    script = """
        const field = document.getElementById(arguments[0]);
        field.value = arguments[1];
        for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, {bubbles: true}));
    """
    browser.execute_script(script, element, value)
    settle(browser)


def point_of(browser, signal, step, unit):
    """Where a step and unit lie in the browser's window."""
    script = """
        const {maps, order} = state, box = at("view").getBoundingClientRect();
        const rect = maps.rects.find((each) => each.name === arguments[0]);
        return [box.left + maps.xOf(arguments[1]) + maps.stepWidth / 2,
          box.top + rect.y + (order.indexOf(arguments[2]) + 0.5) * maps.rowHeight - at("view").scrollTop];
    """
    return [round(each) for each in browser.execute_script(script, signal, step, unit)]


def pixels(browser, script, *arguments):
    """Run a script that may call ``at_pixel(x, y)``, which gives red, green and blue of the picture.

    It reads a copy, because Chromium complains in the console of reading a canvas that is drawn on.
    """
    before = """
        const copy = document.createElement("canvas"), {maps} = state;
        Object.assign(copy, {width: maps.picture.width, height: maps.picture.height});
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(maps.picture, 0, 0);
        const at_pixel = (x, y) => [...context.getImageData(Math.round(x), Math.round(y), 1, 1).data].slice(0, 3);
    """
    return browser.execute_script(before + script, *arguments)


def mouse(browser, *places, button=True):
    """Move through the places; the button is down from the first to the last."""
    chain = action_chains(browser, duration=20)
    pointer = chain.w3c_actions.pointer_action
    pointer.move_to_location(*places[0])
    if button:
        pointer.pointer_down()
        for place in places[1:]:
            pointer.move_to_location(*place)
        pointer.pointer_up()
    chain.perform()
    settle(browser)


def press(browser, *keys):
    """Send keys to what has the focus."""
    action_chains(browser).send_keys(*keys).perform()
    settle(browser)


def shift(browser, key):
    action_chains(browser).key_down(SHIFT).send_keys(key).key_up(SHIFT).perform()
    settle(browser)


def chosen(browser):
    return browser.execute_script("return [state.step, state.unit, state.from, state.to]")


def equations(browser):
    script = """
        return Object.fromEntries([...document.querySelectorAll(".equation")].map((line) =>
          [line.dataset.symbol, [line.querySelector(".value").innerText, line.querySelector(".line").innerText]]));
    """
    return browser.execute_script(script)


def check_equations(browser, signals, step, unit):
    """What is shown, against the trace, to three digits."""
    lines = equations(browser)
    assert text_of(browser, "#step-title") == f"Step {step}, unit {unit}"
    for symbol, name in zip("ifgoch", SIGNALS, strict=True):
        expected = signals[name][step, unit]
        assert number(lines[symbol][0]) == pytest.approx(expected, rel=6e-3, abs=6e-4), symbol
    i, f, g, o, c, _ = (signals[name][step, unit] for name in SIGNALS)
    c_prev = signals["cell"][step - 1, unit] if step else 0.0
    formula, numbers = shown(lines["c"][1]).split("\n")
    assert formula == "f \u00d7 cprev + i \u00d7 g"
    parts = [float(part) for part in numbers.removeprefix("= ").replace(" + ", " \u00d7 ").split(" \u00d7 ")]
    np.testing.assert_allclose(parts, [f, c_prev, i, g], rtol=6e-3, atol=6e-4)
    formula, numbers = shown(lines["h"][1]).split("\n")
    assert formula == "o \u00d7 tanh(c)"
    assert numbers.startswith("= ")
    output_gate, cell = numbers.removeprefix("= ").removesuffix(")").split(" \u00d7 tanh(")
    np.testing.assert_allclose([float(output_gate), float(cell)], [o, c], rtol=6e-3, atol=6e-4)
