"""An image of numbers in which a pixel shows the mean of all that it stands for, and nothing is blurred otherwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.image import AxesImage  # type: ignore[import-not-found,unused-ignore]


class HeatMap(AxesImage):  # type: ignore[misc,unused-ignore]
    """Rows by columns, each number a rectangle around its whole position.

    matplotlib's own interpolations either leave out numbers where there are more of them than pixels, or blur both
    axes for the sake of the one that has too many.

    Parameters
    ----------
    ax : matplotlib Axes
        What it is drawn on; its limits are set, with row 0 at the top.
    values : numpy.ma.MaskedArray
        (rows, columns).
    cmap : matplotlib Colormap
        Its colours.
    low, high : float
        The numbers at both ends of the colours.
    """

    def __init__(self, ax: Any, values: Any, cmap: Any, low: float, high: float) -> None:
        rows, columns = values.shape
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        super().__init__(ax, cmap=cmap, interpolation="nearest", origin="upper", extent=extent)
        self.set_data(values)
        self.set_clim(low, high)
        ax.set_aspect("auto")
        ax.add_image(self)
        self.set_clip_path(ax.patch)
        ax.set_xlim(-0.5, columns - 0.5)
        ax.set_ylim(rows - 0.5, -0.5)

    def make_image(self, renderer: Any, magnification: float = 1.0, unsampled: bool = False) -> Any:
        """Draw in the size and the range that the axes show now."""
        image: Any = self
        whole, extent = image._A, image._extent
        box = self.axes.get_window_extent(renderer)
        in_view = [abs(high - low) for low, high in (self.axes.get_ylim(), self.axes.get_xlim())]
        pixels = box.height * magnification, box.width * magnification
        blocks = [max(1, math.ceil(shown / max(size, 1.0))) for shown, size in zip(in_view, pixels, strict=True)]
        means = whole
        for axis, block in enumerate(blocks):
            means = _means(means, block, axis)
        rows, columns = (size * block for size, block in zip(means.shape, blocks, strict=True))
        try:
            image._A, image._extent = means, (-0.5, columns - 0.5, rows - 0.5, -0.5)
            return super().make_image(renderer, magnification, unsampled)
        finally:
            image._A, image._extent = whole, extent


def _means(values: Any, block: int, axis: int) -> Any:
    """Average blocks along an axis; the last may be shorter, and what is masked does not count."""
    if block == 1:
        return values
    missing = -values.shape[axis] % block
    shape = list(values.shape)
    shape[axis] = missing
    padding = np.zeros(shape, values.dtype)
    mask = np.concatenate([np.ma.getmaskarray(values), np.ones(shape, np.bool_)], axis=axis)
    filled = np.ma.array(np.concatenate([np.ma.getdata(values), padding], axis=axis), mask=mask)
    shape = list(filled.shape)
    shape[axis : axis + 1] = [shape[axis] // block, block]
    return filled.reshape(shape).mean(axis=axis + 1)
