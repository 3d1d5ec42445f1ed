"""Reads the pages that explain.explorer writes: by Python alone, and in a headless browser."""

import base64
import html.parser
import json
import shutil
import time
import zlib

import numpy as np
import pytest

SIGNALS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")


class Elements(html.parser.HTMLParser):
    """All elements with their attributes, and the contents of scripts and styles by id or name."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.contents = [], {}
        self._open = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = dict(attributes).get("id", tag) if tag in ("script", "style") else None
        if self._open:
            self.contents[self._open] = ""

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.contents[self._open] += data


class Page:
    """What lies in a file of the explorer."""

    def __init__(self, path):
        self.html = path.read_text(encoding="utf-8")
        self.elements = Elements(self.html)
        self.facts = json.loads(self.unpacked("about"))

    def unpacked(self, name):
        return zlib.decompress(base64.b64decode(self.elements.contents[name], validate=True))

    def layer(self, sequence=0, layer=0):
        """The signals of a layer, each (T, H)."""
        facts, ours = self.facts["sequences"][sequence], self.facts["layers"][layer]
        stored, steps = facts["layers"][layer], facts["steps"]
        octets = np.frombuffer(self.unpacked(f"values-{sequence}-{layer}"), np.uint8)
        counts = [ours["outputs"] if name == "hidden" else ours["units"] for name in stored["signals"]]
        scales_at, at = sum(2 * steps * count for count in counts), 0
        signals = {}
        for name, count, scaled in zip(stored["signals"], counts, stored["scaled"], strict=True):
            size = steps * count
            high, low = octets[at : at + size].astype(np.int64), octets[at + size : at + 2 * size]
            codes = np.cumsum((256 * high + low).reshape(count, steps), axis=1) % 65536
            at += 2 * size
            scales = None
            if scaled:
                scales = np.frombuffer(octets[scales_at : scales_at + 8 * count].tobytes())
                scales_at += 8 * count
            signals[name] = _decode(codes, scales).T
        assert scales_at == len(octets)
        if "hidden" not in signals:
            signals["hidden"] = signals["output_gate"] * np.tanh(signals["cell"])
        return signals

    def corpus(self):
        """The labels, the ends of sequences, and for each layer the levels (T, H)."""
        octets = self.unpacked("corpus")
        size = int.from_bytes(octets[:8], "little")
        texts = json.loads(octets[8 : 8 + size])
        steps, at, levels = len(texts["tokens"]), 8 + size, []
        width = (steps + 1) // 2
        for layer in self.facts["layers"]:
            pairs = np.frombuffer(octets, np.uint8, layer["units"] * width, at).reshape(layer["units"], width)
            at += pairs.size
            nibbles = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(layer["units"], -1)[:, :steps]
            levels.append(nibbles.T.astype(int) - 8)
        assert at == len(octets)
        return texts["tokens"], texts["ends"], levels


def _decode(codes, scales):
    """The values of codes, as page_codes.py describes them; written anew, so that it can disagree."""
    values = np.empty(codes.shape)
    for place, code in np.ndenumerate(codes):
        if code == 0:
            values[place] = np.nan
        elif scales is None:
            logit = -17 + 34 * (code - 2) / 65532
            values[place] = {1: 0.0, 65535: 1.0}.get(int(code), 1 / (1 + np.exp(-logit)))
        elif code in (1, 65535):
            values[place] = np.inf if code > 1 else -np.inf
        else:
            steps = code - 32768
            size = np.exp(-16 * (1 - (abs(steps) - 1) / 32765)) * scales[place[0]]
            values[place] = np.sign(steps) * size
    return values


def terms(trace, start, own_start, unit, step, *, reverse=False, resets=(), skips=(), zoneout=0.0, clip=np.inf):
    """What each step wrote into a cell, by plain loops in double: the written and the cut terms, and the start's.

    ``trace``: the signals (T, H) of one row; ``start``, ``own_start``: the cells at the start and after resets.
    """
    last = len(trace["cell"]) - 1
    i, f, g, c = (np.asarray(trace[name], np.float64)[:, unit] for name in SIGNALS[:3] + SIGNALS[4:5])
    order = range(last, step - 1, -1) if reverse else range(step + 1)
    written, cut, from_start = np.zeros(last + 1), np.zeros(last + 1), 0.0
    c_prev = start[unit]
    for k in order:
        boundary = (k + 1 if reverse else k) in resets
        if k == order[0] or boundary:
            written[:], cut[:] = 0, 0
            from_start = c_prev = own_start[unit] if boundary else start[unit]
        if k in skips:
            continue
        keep = zoneout + (1 - zoneout) * f[k]
        written *= keep
        cut *= keep
        from_start *= keep
        whole = f[k] * c_prev + i[k] * g[k]
        written[k] = (1 - zoneout) * i[k] * g[k]
        cut[k] = (1 - zoneout) * (min(clip, max(-clip, whole)) - whole)
        c_prev = c[k]
    return written, cut, from_start


def open_browser(width=1280, height=800):
    """A headless Chromium, or a skipped test that says why there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium and its driver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    resize(browser, width, height)
    return browser


def resize(browser, width, height):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(browser, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def visit(browser, path):
    """Open a page from the disk, and wait until it is drawn."""
    browser.get_log("browser")
    browser.get(path.as_uri())
    wait_for(browser, "return document.getElementById('picture').dataset.ready === 'true'")
    settle(browser)


def wait_for(browser, script, seconds=60):
    deadline = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < deadline, f"never true: {script}; {messages(browser)}"
        time.sleep(0.02)


def settle(browser):
    """Wait for two frames, after which what was asked for is drawn."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")


def messages(browser):
    """What is in the console since the page was opened."""
    return [entry["message"] for entry in browser.get_log("browser")]
