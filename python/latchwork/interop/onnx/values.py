"""What the reader of a graph knows of a tensor: its numbers, or which step of a chain of layers it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork.interop.chain import Part

# One axis of a tensor: the names of the axes of the data that it holds, merged in this order; empty if its size is 1.
Axis = tuple[str, ...]

_DEEPEST = 1000  # layers of a chain, which nobody stacks so high


class Size:
    """The size of an axis, which the file may leave open: a number times the sizes of named axes."""

    def __init__(self, factor: int, names: Sequence[str] = ()) -> None:
        self.factor = factor
        self.names = tuple(sorted(names))

    def __mul__(self, other: Any) -> Size:
        """Multiply by a size or a whole number."""
        if isinstance(other, Size):
            return Size(self.factor * other.factor, self.names + other.names)
        if isinstance(other, (int, np.integer)):
            return Size(self.factor * int(other), self.names)
        return NotImplemented

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        """Say whether it is the same size whatever the open sizes are."""
        if not isinstance(other, Size):
            return NotImplemented
        return (self.factor, self.names) == (other.factor, other.names)

    def __hash__(self) -> int:
        """Follow equality."""
        return hash((self.factor, self.names))


@dataclass(frozen=True)
class Known:
    """A tensor whose elements are known: numbers, or sizes of axes (an array of objects)."""

    array: Array


@dataclass(frozen=True)
class Spread:
    """A tensor of unknown shape that repeats an array by NumPy's rules of broadcasting."""

    array: Array


@dataclass(frozen=True)
class Opaque:
    """A tensor that is no step of a chain.

    Attributes
    ----------
    reason : str
        What made it so: "Conv '/encoder/Conv'".
    inputs : frozenset of str
        Inputs of the graph that it consists of, if it is nothing but parts of them.
    states : frozenset of int
        Numbers of the LSTMs whose end states it consists of, if it is nothing but parts of them.
    """

    reason: str
    inputs: frozenset[str] = frozenset()
    states: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Stage:
    """One layer of a chain, on top of those below it.

    Attributes
    ----------
    part : Part, optional
        The layer. None: the chain's beginning.
    below : Stage, optional
        What comes before it. None: nothing does.
    features : Axis
        The names of the axes that its features consist of, in our order. At the beginning they are not known yet.
    input : str
        The input of the graph that the chain begins with; empty if it begins with what no layer makes.
    broken : Opaque, optional
        What no layer makes, if the chain begins with that.
    lstm : int, optional
        The number of the topmost LSTM of the chain.
    depth : int
        How many layers there are below it.
    """

    part: Part | None
    below: Stage | None
    features: Axis
    input: str = ""
    broken: Opaque | None = None
    lstm: int | None = None
    depth: int = 0

    def under(self, part: Part, features: Axis, lstm: int | None = None) -> Stage:
        """Put one more layer on top."""
        if self.depth >= _DEEPEST:
            raise ValueError(f"expected a chain of at most {_DEEPEST} layers, got more")
        lstm = self.lstm if lstm is None else lstm
        return Stage(part, self, features, self.input, self.broken, lstm, self.depth + 1)

    @property
    def chain(self) -> list[Stage]:
        """All stages from the beginning to this one."""
        stages: list[Stage] = []
        stage: Stage | None = self
        while stage is not None:
            stages.append(stage)
            stage = stage.below
        return stages[::-1]


@dataclass(frozen=True)
class Data:
    """The output of a stage, in the graph's axes.

    Attributes
    ----------
    stage : Stage
        The layer that made it.
    axes : tuple of Axis
        Its axes.
    direction : int, optional
        Of which direction it is the part: 0 or 1. None: it is whole.
    flipped : bool
        Whether its steps are in reverse order.
    state : {"", "h", "c"}
        Whether it is an LSTM's end state as the operator gives it.
    kind : {"float", "int", "cut"}
        What its elements are: "cut" are real numbers that were cut off to whole ones.
    step : (str, int), optional
        If it is a single step of a number that the file fixes: the axis that it was taken from, and where. None: it has
        all steps, or one that takes part in nothing else.
    """

    stage: Stage
    axes: tuple[Axis, ...]
    direction: int | None = None
    flipped: bool = False
    state: str = ""
    kind: str = "float"
    step: tuple[str, int] | None = None

    def with_axes(self, axes: Sequence[Axis]) -> Data:
        """Give the same numbers in other axes."""
        return replace(self, axes=tuple(axes))


Value = Known | Spread | Opaque | Data


@dataclass
class Axes:
    """What is known of named axes: their sizes where the file fixes them, and which are time and batch."""

    sizes: dict[str, int | None] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    features: set[str] = field(default_factory=set)

    def size(self, axis: Axis) -> Size:
        """Give the size of an axis of a tensor. Time and batch stay open even where the file froze them."""
        known = [self.sizes[name] for name in axis if name in self.features]
        factor = math.prod(size for size in known if size is not None)
        return Size(factor, [name for name in axis if name not in self.features or self.sizes[name] is None])

    def assign(self, axis: Axis, role: str) -> bool:
        """Make an axis time or batch, unless it is something else already."""
        if len(axis) > 1 or (axis and axis[0] in self.features):
            return False
        return not axis or self.roles.setdefault(axis[0], role) == role

    def role(self, axis: Axis) -> str:
        """Say what an axis is: "T", "N", "features", "" if nothing is known, "1" if it has one element."""
        if not axis:
            return "1"
        if len(axis) > 1 or axis[0] in self.features:
            return "features" if all(name in self.features for name in axis) else ""
        return self.roles.get(axis[0], "")


def reshaped(axes: Axes, before: Sequence[Axis], shape: Array, copies_zero: bool) -> tuple[Axis, ...] | None:
    """Find the axes after a Reshape.

    Sizes that an exporter froze are taken as what they were made from: where an axis of time or batch keeps its place,
    any number stands for it.

    Parameters
    ----------
    axes : Axes
        What is known of the names.
    before : sequence of Axis
        The axes before.
    shape : numpy.ndarray
        Numbers, or sizes: 0 copies an axis if ``copies_zero``, -1 is what remains.

    Returns
    -------
    tuple of Axis, or None
        None if there is no reading of the shape, or more than one.
    """
    entries = list(shape.tolist())
    if copies_zero:
        if any(isinstance(entry, int) and entry == 0 and place >= len(before) for place, entry in enumerate(entries)):
            return None
        copied = {place: before[place] for place, entry in enumerate(entries) if isinstance(entry, int) and entry == 0}
    else:
        copied = {}
    names = [name for axis in before for name in axis]
    found: list[tuple[Axis, ...]] = []

    def search(place: int, at: int, after: tuple[Axis, ...]) -> None:
        if len(found) > 8:
            return
        if place == len(entries):
            if at == len(names):
                found.append(after)
            return
        for end in range(at, len(names) + 1):
            axis = tuple(names[at:end])
            if place in copied:
                if axis == copied[place]:
                    search(place + 1, end, (*after, axis))
            elif _may_be(axes, axis, entries[place]):
                search(place + 1, end, (*after, axis))

    if len(entries) > 8 or len(names) > 8:
        return None
    search(0, 0, ())
    if not found:
        return None
    # Time and batch are merged with others only where there is no other reading.
    merged = [[axis for axis in after if len(axis) > 1 and not axes.features.issuperset(axis)] for after in found]
    fewest = min(map(len, merged))
    best = [after for after, those in zip(found, merged, strict=True) if len(those) == fewest]
    return best[0] if len(best) == 1 else None


def _may_be(axes: Axes, axis: Axis, entry: Any) -> bool:
    """Say whether axes merged into one can have a size that a shape gives."""
    size = axes.size(axis)
    if isinstance(entry, Size):
        return entry == size
    if entry == -1:
        return True
    if not size.names:
        return bool(size.factor == entry)
    # An open size that the exporter froze. Where it wrote the size of the example into the file, that must be it.
    frozen = [axes.sizes[name] for name in axis]
    if all(each is not None for each in frozen):
        return bool(math.prod(each for each in frozen if each is not None) == entry)
    return bool(entry % size.factor == 0) if size.factor else False


def parts_of(stage: Stage) -> list[Part]:
    """Give the layers of a chain."""
    return [each.part for each in stage.chain if each.part is not None]
