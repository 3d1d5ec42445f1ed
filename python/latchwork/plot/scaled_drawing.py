"""Shapes and texts that grow and shrink together with their axes, so that a diagram never overlaps itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_rgb  # type: ignore[import-not-found,unused-ignore]
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon  # type: ignore[import-not-found,unused-ignore]
from matplotlib.path import Path  # type: ignore[import-not-found,unused-ignore]
from matplotlib.text import Text  # type: ignore[import-not-found,unused-ignore]

Point = tuple[float, float]


class ScaledText(Text):  # type: ignore[misc,unused-ignore]
    """A text whose font size is a length of the axes, in units of the y axis."""

    def __init__(self, x: float, y: float, text: str, height: float, **properties: Any) -> None:
        super().__init__(x, y, text, **properties)
        self._height = height

    def draw(self, renderer: Any) -> None:
        """Draw in the size that the axes have now."""
        self._fit()
        super().draw(renderer)

    def get_window_extent(self, renderer: Any = None, dpi: Any = None) -> Any:
        """Measure in the size that the axes have now."""
        self._fit()
        return super().get_window_extent(renderer, dpi)

    def _fit(self) -> None:
        size = max(_points(self, self._height), 0.1)
        if abs(size - float(self.get_fontsize())) > 1e-6 * size:
            self.set_fontsize(size)


class ScaledWire(PathPatch):  # type: ignore[misc,unused-ignore]
    """A line whose width is a length of the axes, in units of the y axis."""

    def __init__(self, path: Path, width: float, **properties: Any) -> None:
        super().__init__(path, fill=False, capstyle="butt", joinstyle="miter", **properties)
        self._width = width

    def draw(self, renderer: Any) -> None:
        """Draw in the width that the axes have now."""
        self.set_linewidth(_points(self, self._width))
        super().draw(renderer)


def _points(artist: Any, length: float) -> float:
    """Give a length of the axes in points."""
    (_, low), (_, high) = artist.axes.transData.transform([(0.0, 0.0), (0.0, length)])
    return abs(float(high) - float(low)) * 72 / float(artist.axes.figure.dpi)


class Canvas:
    """Draws the pieces of a diagram on axes, in data coordinates.

    Parameters
    ----------
    ax : matplotlib Axes
        What is drawn on.
    extent : (float, float, float, float)
        The least and largest x, the least and largest y.
    ink, paper : color
        Of lines and texts, and of what lies behind them.
    """

    def __init__(self, ax: Any, extent: tuple[float, float, float, float], ink: Any, paper: Any) -> None:
        self.ax = ax
        self.ink = ink
        self.paper = paper
        ax.set_aspect("equal", adjustable="box")
        ax.set_xlim(*extent[:2])
        ax.set_ylim(*extent[2:])
        ax.set_axis_off()

    def text(self, place: Point, text: str, height: float, alpha: float, **properties: Any) -> None:
        """Write a text; ``place`` is its centre unless ``properties`` say otherwise."""
        settings = {"ha": "center", "va": "center", "color": self.ink, "zorder": 5} | properties
        written = ScaledText(*place, text, height, alpha=alpha, clip_on=False, **settings)
        self.ax.add_artist(written)

    def lines(self, x: float, top: float, texts: list[str], height: float) -> None:
        """Write lines below each other, centred."""
        for place, text in enumerate(texts):
            self.text((x, top - 1.7 * height * (place + 0.5)), text, height, 1.0)

    def wire(
        self, points: list[Point], width: float, alpha: float, *, arrow: bool = False, dashed: bool = False
    ) -> None:
        """Draw a line, whose parts are level or upright, through points, with an arrow's head at its end."""
        color = _mixed(self.ink, self.paper, alpha)
        end = points[-1]
        if arrow:
            along = np.sign(np.subtract(end, points[-2]))
            across = along[::-1] * 0.5
            head = width * 2.2 + 0.08
            base = end - head * along
            corners = np.stack([np.array(end), base + head * across, base - head * across])
            self.ax.add_patch(Polygon(corners, closed=True, facecolor=color, edgecolor="none", zorder=2))
            points = [*points[:-1], (float(base[0]), float(base[1]))]
        style = {"linestyle": (0, (3, 2))} if dashed else {}
        self.ax.add_patch(ScaledWire(Path(points), width, edgecolor=color, zorder=2 if alpha == 1 else 1.5, **style))

    def box(self, centre: Point, size: Point, text: str, color: Any, alpha: float, height: float) -> None:
        """Draw a box with a text in it: a function of what comes in."""
        corner = centre[0] - size[0] / 2, centre[1] - size[1] / 2
        shape = FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.08", zorder=3)
        self._filled(shape, color, alpha)
        # Dark on the light colours of the boxes, in a dark style too.
        self.text(centre, text, height, alpha, color="black" if alpha == 1 else self.ink)

    def circle(self, centre: Point, text: str, color: Any, alpha: float, radius: float, height: float) -> None:
        """Draw a circle with a sign in it: what is done with two numbers."""
        self._filled(Circle(centre, radius, zorder=3), color, alpha)
        self.text(centre, text, height, alpha, color="black" if alpha == 1 else self.ink)

    def dot(self, centre: Point, alpha: float) -> None:
        """Draw a point where a wire branches off."""
        color = _mixed(self.ink, self.paper, alpha)
        self.ax.add_patch(Circle(centre, 0.06, color=color, linewidth=0, zorder=3 if alpha == 1 else 1.5))

    def frame(self, corner: Point, size: Point) -> None:
        """Draw the rounded rectangle around a cell."""
        style = "round,pad=0,rounding_size=0.25"
        shape = FancyBboxPatch(corner, *size, boxstyle=style, zorder=0)
        shape.set(facecolor=self.ink, edgecolor="none", alpha=0.07)
        self.ax.add_patch(shape)

    def _filled(self, shape: Any, color: Any, alpha: float) -> None:
        # What is pale must still hide the wire behind it.
        edge = _mixed(self.ink, self.paper, alpha)
        shape.set(facecolor=_mixed(color, self.paper, alpha), edgecolor=edge, linewidth=0.8)
        self.ax.add_patch(shape)


def _mixed(color: Any, paper: Any, share: float) -> tuple[float, ...]:
    return tuple(share * a + (1 - share) * b for a, b in zip(to_rgb(color), to_rgb(paper), strict=True))
