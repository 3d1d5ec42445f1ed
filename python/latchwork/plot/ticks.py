"""Ticks at whole positions whose labels never overlap: thinned out, and upright where that shows more of them.

The labels are measured each time a figure is drawn, so they fit after the window or the range shown has changed too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.text import Text  # type: ignore[import-not-found,unused-ignore]
from matplotlib.ticker import FuncFormatter, Locator  # type: ignore[import-not-found,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GAP = 0.5  # between labels that stand side by side, in heights of a line
LINE_GAP = 0.1  # between lines one above the other


def label_positions(axis: Any, texts: Sequence[str], *, rotates: bool, numbers: bool) -> None:
    """Label the positions 0, 1, 2, ... of an axis with texts.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        The x or the y axis of some axes.
    texts : sequence of str
        One for each position.
    rotates : bool
        Whether the labels of an x axis stand upright where they do not all fit side by side.
    numbers : bool
        Whether the texts count, so that steps of 1, 2, 5, 10, ... between labels are easiest to read.
    """
    axis.set_major_locator(_Positions(axis, texts, rotates, numbers))
    axis.set_major_formatter(FuncFormatter(lambda position, _: _text_at(texts, position)))


def _text_at(texts: Sequence[str], position: float) -> str:
    """Name a position, also between two of them, where a mouse may point."""
    nearest = math.floor(position + 0.5)
    return texts[nearest] if 0 <= nearest < len(texts) else ""


class _Positions(Locator):  # type: ignore[misc,unused-ignore]
    """Puts a tick at every position, or at every k-th with the smallest k at which no labels overlap."""

    def __init__(self, axis: Any, texts: Sequence[str], rotates: bool, numbers: bool) -> None:
        self._labelled = axis
        self._texts = texts
        self._rotates = rotates
        self._numbers = numbers
        self._measured: dict[tuple[Any, ...], tuple[float, float]] = {}
        self._rotation = 0

    def __call__(self) -> list[int]:
        """Return the positions in view that have a tick."""
        low, high = sorted(self._labelled.get_view_interval())
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> list[int]:
        """Return the positions between two values that have a tick."""
        first, last = max(0, math.ceil(vmin)), min(len(self._texts) - 1, math.floor(vmax))
        horizontal = self._labelled.axis_name == "x"
        box = self._labelled.axes.get_window_extent()
        pitch = (box.width if horizontal else box.height) / max(vmax - vmin, 1e-9)
        if last < first or pitch <= 0:
            return []
        measure = self._measurer()
        line = measure("0")[1]
        if not horizontal:
            return self._thinned(first, last, pitch, lambda _: line, LINE_GAP * line)
        side_by_side = self._thinned(first, last, pitch, lambda text: measure(text)[0], GAP * line)
        if not self._rotates or len(side_by_side) == last - first + 1:
            self._rotate(0)
            return side_by_side
        self._rotate(90)
        return self._thinned(first, last, pitch, lambda _: line, LINE_GAP * line)

    def _thinned(self, first: int, last: int, pitch: float, size: Callable[[str], float], gap: float) -> list[int]:
        for stride in self._strides(last - first + 1):
            positions = list(range(-(-first // stride) * stride, last + 1, stride))
            # No label is smaller than a digit's half, so at most this many can fit, and only those are measured.
            if len(positions) * gap > pitch * (last - first + 1):
                continue
            sizes = [size(self._texts[position]) for position in positions]
            pairs = zip(sizes, sizes[1:], strict=False)
            if all((one + other) / 2 + gap <= pitch * stride for one, other in pairs):
                return positions
        return [first]

    def _strides(self, most: int) -> Iterator[int]:
        if not self._numbers:
            yield from range(1, most + 1)
            return
        power = 1
        while power <= most:
            yield from (power, 2 * power, 5 * power)
            power *= 10

    def _measurer(self) -> Callable[[str], tuple[float, float]]:
        """Give a function that measures a text in the font of the axis' labels, in pixels."""
        label = self._labelled.majorTicks[0].label1
        figure = self._labelled.get_figure()
        font = label.get_fontproperties()

        def measure(text: str) -> tuple[float, float]:
            key = text, hash(font), figure.dpi
            if key not in self._measured:
                drawn = Text(text=text, fontproperties=font)
                drawn.set_figure(figure)
                box = drawn.get_window_extent()
                self._measured[key] = box.width, box.height
            return self._measured[key]

        return measure

    def _rotate(self, degrees: int) -> None:
        if degrees != self._rotation:
            self._rotation = degrees
            self._labelled.set_tick_params(rotation=degrees)
