"""Time the explorer's page in headless Chromium: how large it is, how long it takes to open, to scroll and to point."""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from latchwork.explain.page import explorer

sys.path.insert(0, str(Path(__file__).parents[1] / "python" / "support"))
from explorer_pages import open_browser, settle, visit
from layers import normal, random_lstm

# Scrolls, or points somewhere else, before each frame. Gives the milliseconds that the work of a frame took, and those
# from frame to frame.
FRAMES = """
    const [frames, pointing, done] = arguments, view = document.getElementById("view"), work = [], between = [];
    const {maps} = state;
    let last = null;
    const frame = (now) => {
      if (last !== null) between.push(now - last);
      last = now;
      const k = work.length, begun = performance.now();
      if (pointing) {
        const box = view.getBoundingClientRect();
        const spot = {clientX: box.left + 60 + 4 * (k % 150), clientY: box.top + 130 + k % 60};
        view.dispatchEvent(new PointerEvent("pointermove", {...spot, pointerType: "mouse"}));
      } else {
        view.scrollLeft = 37 * k % (view.scrollWidth - view.clientWidth + 1);
        maps._drawn = null;
        maps.draw(state.memory);
        drawMarks();
      }
      work.push(performance.now() - begun);
      if (work.length < frames) requestAnimationFrame(frame);
      else done([work, between]);
    };
    requestAnimationFrame(frame);
"""


def main() -> None:
    """Make a page of random numbers, the worst case for its size, and print what it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--frames", type=int, default=120)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gates.html"
        lstm = random_lstm(input_size=64, hidden_size=arguments.units)
        started = time.perf_counter()
        explorer(lstm, normal(1, (arguments.steps, 64)), tokens=[f"w{k}" for k in range(arguments.steps)], path=path)
        print(f"{arguments.steps:,} steps x {arguments.units} units: {path.stat().st_size:,} bytes")
        print(f"written in {time.perf_counter() - started:.1f} s")
        browser = open_browser()
        try:
            browser.set_script_timeout(300)
            started = time.perf_counter()
            visit(browser, path)
            print(f"opened in {time.perf_counter() - started:.1f} s")
            measure(browser, arguments.frames, "steps of 12 pixels")
            for button in ("fit-steps", "fit-units"):
                browser.execute_script("document.getElementById(arguments[0]).click()", button)
            settle(browser)
            measure(browser, arguments.frames, "all steps and units at once")
        finally:
            browser.quit()


def measure(browser, frames: int, name: str) -> None:
    """Print the times of scrolling and pointing: the middle one and that which 19 of 20 stay below."""
    for pointing in (False, True):
        work, between = browser.execute_async_script(FRAMES, frames, pointing)
        doing = "pointing" if pointing else "drawing all"
        print(
            f"{name}, {doing}: {statistics.median(work):.1f} ms a frame (95 %: {np.quantile(work, 0.95):.1f}), "
            f"{statistics.median(between):.1f} ms from frame to frame (95 %: {np.quantile(between, 0.95):.1f})"
        )


if __name__ == "__main__":
    main()
