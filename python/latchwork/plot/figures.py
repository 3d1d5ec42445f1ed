"""What all pictures share: whether matplotlib is there, whose axes are drawn on, colours for the colour-blind."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

# Okabe and Ito, "Color universal design" (2008), without their black and grey.
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
REST = "#999999"


def require_matplotlib() -> None:
    """Raise ImportError with the way to get it if matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("latchwork.plot draws with matplotlib, which is missing: pip install 'latchwork[plot]'")


def checked_axes(axes: Any, count: int) -> list[Any] | None:
    """Read ``axes``: None, one axes, or an array or sequence of them. ValueError or TypeError."""
    from matplotlib.axes import Axes  # type: ignore[import-not-found,unused-ignore]

    if axes is None:
        return None
    if isinstance(axes, Axes):
        given = [axes]
    else:
        try:
            given = list(np.ravel(np.asarray(axes, dtype=object)))
        except Exception:  # whatever an object's own __array__ raises
            given = [axes]
    for one in given:
        if not isinstance(one, Axes):
            raise TypeError(f"axes: expected {count} matplotlib Axes, got {type(one).__name__}")
    if len(given) != count:
        raise ValueError(f"axes: expected {count}, one for each panel, got {len(given)}")
    return given


def checked_ax(ax: Any) -> Any:
    """Read ``ax``: None or one axes. TypeError."""
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax: expected a matplotlib Axes, got {type(ax).__name__}")
    return ax


def new_axes(count: int, size: tuple[float, float]) -> list[Any]:
    """Make a figure of pyplot's with panels one above the other, which share their x axis."""
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    figure = pyplot.figure(figsize=size, layout="constrained")
    return list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def foreground(ax: Any) -> Any:
    """Give the colour of text in these axes, whatever style they were made with."""
    return ax.xaxis.label.get_color()


def stands_below(one: Any, other: Any) -> bool:
    """Say whether one axes stands below another and as wide, so that labels along the x axis serve both."""
    if one is other or one.figure is not other.figure:
        return False
    low, high = one.get_position(original=True), other.get_position(original=True)
    return bool(low.y1 <= high.y0 and np.allclose((low.x0, low.x1), (high.x0, high.x1), atol=1e-6))
