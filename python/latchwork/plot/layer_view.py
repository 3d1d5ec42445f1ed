"""One layer, direction and sequence of a trace, as pictures need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.explain._cells import Cells
from latchwork.explain._choices import checked_trace, direction_activations, layer_name, of_member, position
from latchwork.layers import Linear
from latchwork.plot.step_labels import step_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latchwork._arrays import Array
    from latchwork.plot.step_labels import StepLabels

GATES = ("input_gate", "forget_gate", "output_gate")


class LayerView:
    """What a trace shows of one sequence in one layer and direction, without its padding.

    Attributes
    ----------
    name : str
        Of the layer and direction.
    row, member : int or None
        As `latchwork.explain` takes them: None if the trace has no such axis.
    steps : int
        How many there are that are no padding, at least one.
    skipped : numpy.ndarray
        (steps,): which of them are left out.
    labels : StepLabels
        What stands along their axis.
    """

    def __init__(self, trace: Any, layer: Any, row: Any, member: Any, labels: Any = None) -> None:
        self.trace = checked_trace(trace)
        self.name = layer_name(self.trace, layer)
        course = self.trace._course_of(self.name)
        self.row = _only_or_chosen("row", row, course.rows if course.axes.batched else None)
        self.member = _only_or_chosen("member", member, course.axes.members)
        self._course = course
        self.steps = course.steps
        if course.lengths is not None:
            self.steps = int(of_member(course.lengths, 1, self.member)[self.row or 0])
        if self.steps == 0:
            raise ValueError(f"trace: expected a sequence of at least one step, got none in row {self.row or 0}")
        self.skipped = np.zeros(self.steps, np.bool_)
        if course.skip is not None:
            self.skipped[:] = of_member(course.skip, 2, self.member)[: self.steps, self.row or 0]
        self.options: Mapping[str, Any] = self.trace._cell_courses[self.name].options
        self.labels = step_labels(labels, course.steps, self.steps)

    @property
    def units(self) -> int:
        """How many hidden units there are."""
        return int(self.trace[self.name].cell.shape[-1])

    @property
    def reverse(self) -> bool:
        """Whether the direction reads from the end."""
        return self.name.endswith("_reverse")

    def signal(self, name: str) -> Array:
        """Give a signal: (steps, units)."""
        values = self._course.axes.to_core(getattr(self.trace[self.name], name))
        return of_member(values, 3, self.member)[: self.steps, self.row or 0]

    def cells(self, step: int, unit: Any) -> Cells:
        """Give what made the cells of some units, up to a step."""
        return Cells(self.trace, step, self.name, unit, self.row, self.member)

    @property
    def last_computed(self) -> int:
        """Which step the direction comes to last."""
        return 0 if self.reverse else self.steps - 1


def _only_or_chosen(name: str, value: Any, size: int | None) -> int | None:
    """Read a row or a member; without such an axis 0 is the only one."""
    chosen = position(name, value, 1 if size is None else size)
    return None if size is None else chosen


def label_steps(ax: Any, labels: StepLabels, steps: int) -> None:
    """Label the x axis of matplotlib axes, on which steps are at whole numbers."""
    from latchwork.plot.ticks import label_positions

    numbers = [str(step) for step in range(steps)]
    label_positions(ax.xaxis, labels.texts or numbers, rotates=labels.rotates, numbers=labels.texts is None)
    ax.tick_params(axis="x", labelsize="small")
    ax.set_xlabel(labels.name)


class CellStep(NamedTuple):
    """The numbers of one step of one unit, and the options that say how they hang together."""

    label: str
    options: Mapping[str, Any]
    activations: Mapping[str, Any]
    c_prev: float
    h_prev: float | None  # None if h is projected, so that a unit has none of its own
    input_gate: float
    forget_gate: float
    candidate: float
    output_gate: float
    fresh: float  # c before zoneout
    cell: float
    shown: float | None  # the activated cell; None if it cannot be known from the trace
    hidden: float | None  # None if h is projected


def cell_step(view: LayerView, step: Any, unit: Any) -> CellStep:
    """Collect the numbers of one step of one unit. IndexError, TypeError or ValueError."""
    chosen = position("step", step, view.steps)
    number = position("unit", unit, view.units)
    if view.skipped[chosen]:
        raise ValueError(f"step: expected one that is computed, got {chosen}, which skip leaves out")
    cells = view.cells(chosen, number)
    values = {name: float(view.signal(name)[chosen, number]) for name in (*GATES, "candidate", "cell")}
    options = view.options
    activations = direction_activations(options, view.name)
    c_prev = float(cells.previous()[0, -1, 0, 0])
    projected = options["proj_size"] > 0
    hidden = None if projected else float(view.signal("hidden")[chosen, number])
    h_prev = None if projected else float(cells.previous("hidden")[0, -1, 0, 0])
    fresh = values["forget_gate"] * c_prev + values["input_gate"] * values["candidate"]
    if options["cell_clip"] is not None:
        fresh = min(max(fresh, -options["cell_clip"]), options["cell_clip"])
    shown = None
    if not options["layer_norm"]:
        shown = _activated(fresh, activations["cell"])
    elif hidden is not None and not options["zoneout_hidden"] and values["output_gate"]:
        shown = hidden / values["output_gate"]
    return CellStep(
        label=view.labels.of(chosen), options=options, activations=activations, c_prev=c_prev, h_prev=h_prev,
        fresh=fresh, shown=shown, hidden=hidden, **values,
    )  # fmt: skip


def _activated(value: float, activation: Any) -> float:
    """Apply an activation of the core's, which has the only formulas."""
    linear = Linear(1, 1, dtype="float64", activation=activation)
    with linear.edit() as parameters:
        parameters["weight"][...] = 1
        parameters["bias"][...] = 0
    return float(linear(np.array([[value]]))[0, 0])
