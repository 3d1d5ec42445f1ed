"""What tests of pictures need: figures of their own, and whether labels overlap when they are drawn."""

import itertools
from contextlib import contextmanager

from matplotlib import pyplot


def labels_of(axis):
    """The labels of an axis that are shown, in the places that they had when the figure was last drawn."""
    low, high = sorted(axis.get_view_interval())
    shown = [label for label in axis.get_ticklabels() if label.get_visible() and label.get_text()]
    along = 0 if axis.axis_name == "x" else 1
    return [label for label in shown if low <= label.get_position()[along] <= high]


def boxes_of(axis):
    return [label.get_window_extent() for label in labels_of(axis)]


def overlapping(boxes):
    """How many pairs of boxes overlap by more than half a pixel."""
    shrunk = [box.padded(-0.25) for box in boxes]
    return sum(one.overlaps(other) for one, other in itertools.combinations(shrunk, 2))


def assert_inside(figure, boxes):
    """Nothing is cut off at the edges of the figure."""
    for box in boxes:
        assert figure.bbox.x0 - 1 <= box.x0
        assert box.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 - 1 <= box.y0
        assert box.y1 <= figure.bbox.y1 + 1


@contextmanager
def nothing_drawn():
    """No figure is made within, whatever else goes wrong."""
    before = pyplot.get_fignums()
    try:
        yield
    finally:
        assert pyplot.get_fignums() == before
