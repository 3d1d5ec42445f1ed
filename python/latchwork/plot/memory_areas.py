"""Picture of which steps wrote what a cell holds, over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.explain._choices import positions
from latchwork.explain.decomposition import Memory, refuse_cut
from latchwork.plot.figures import CATEGORIES, REST, checked_ax, foreground, new_axes, require_matplotlib
from latchwork.plot.layer_view import LayerView, label_steps
from latchwork.plot.step_labels import step_labels

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.explain._cells import Cells

_BESIDE = 0.45  # the largest legend that stands beside the areas, in widths of the axes
START = -1  # stands for the start state among the steps


def memory(
    trace: Any,
    layer: str | int = 0,
    *,
    unit: Any = None,
    row: int = 0,
    member: int = 0,
    labels: Any = None,
    ax: Any = None,
) -> Any:
    """Draw which steps wrote what a cell holds, at each step: the terms of `explain.memory` as stacked areas.

    At each step the areas are the terms that the cell is the sum of: those above zero are stacked upwards from zero,
    those below zero downwards, so that the cell, a line, is the difference of the two heights. The seven steps whose
    areas are largest have colours of their own; the start state may be one of them. All others together are grey.

    For what `explain.memory` returned, which is of one step, the terms are bars over the steps that wrote them.

    Parameters
    ----------
    trace : Trace or Memory
        Of an `LSTM` or a `Network`; or what ``explain.memory(trace, step, unit=..., row=...)`` returned for one unit
        and one sequence, and then nothing but ``labels`` and ``ax`` may be given.
    layer : str or int, default 0
        The layer and direction, as ``trace[layer]`` takes it.
    unit : int or sequence of int, optional
        Which hidden unit. For a sequence, or for None, which means all, the areas are the sizes of the terms, summed
        over the units, and the line is the sum of the sizes of the cells; it lies below the upper edge where terms of
        different signs cancel.
    row : int, default 0
        Which sequence of the batch. Its padding is not drawn.
    member : int, default 0
        Which member of a network of several.
    labels : sequence, optional
        What stands along the axis of steps and in the legend, as for `gates`.
    ax : matplotlib Axes, optional
        None: a new figure of pyplot's.

    Returns
    -------
    matplotlib Axes
        Each area is two patches, its part above zero and its part below, those of all other steps after the others.

    Raises
    ------
    ValueError
        If there is no such layer, the row has no step or ``labels`` are not as many as there are steps; or if
        ``cell_clip`` cut one of the cells, which is then no sum of terms; or if a `Memory` is of several cells.
    TypeError
        If ``trace`` is neither, or another argument is of a wrong type.
    IndexError
        If a row, member or unit is out of range.
    ImportError
        If matplotlib is missing.

    Notes
    -----
    `explain.memory` has the equation. After a ``reset`` only the layer's own start state and later steps count. Only as
    many terms are computed as are drawn, so that long sequences need little memory.

    The colours are those of Okabe and Ito, "Color universal design" (2008).

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> trace = lw.LSTM(3, 8, seed=0).trace(np.ones((20, 3)))
    >>> ax = lw.plot.memory(trace, unit=2)
    >>> ax.get_ylabel()
    'cell of unit 2'
    """
    require_matplotlib()
    if isinstance(trace, Memory):
        if unit is not None or not all(isinstance(each, int) and each == 0 for each in (layer, row, member)):
            raise ValueError("trace: expected a Trace to choose from, got a Memory together with a choice")
        return _draw_one_step(trace, labels, checked_ax(ax))
    view = LayerView(trace, layer, row, member, labels)
    units = np.arange(view.units)[positions("unit", unit, view.units)]
    if units.size == 0:
        raise ValueError("unit: expected at least one, got none")
    cells = view.cells(view.last_computed, units if units.ndim else int(units))
    refuse_cut(cells, cells.cut())
    ax = checked_ax(ax)
    courses = _courses(cells, len(CATEGORIES), signed=not units.ndim)
    if view.reverse:
        courses = courses.turned(view.steps)
    if ax is None:
        ax = new_axes(1, (9.0, 4.0))[0]
    _draw(ax, view, courses)
    if units.ndim:
        ax.set_ylabel(f"size, summed over {len(units)} units")
    else:
        ax.set_ylabel(f"cell of unit {int(units)}")
    return ax


class _Courses(NamedTuple):
    """What is left over time of what some steps wrote, and of what all others did."""

    steps: list[int]  # START or a step
    values: Array  # (len(steps), T)
    rest: Array  # (2, T): the sums of what is above and of what is below zero
    others: int  # how many steps the rest is of
    total: Array  # (T,): the cell, or the sum of the cells' sizes
    signed: bool  # whether it is the cell

    def turned(self, count: int) -> _Courses:
        """Turn the order of a reverse direction, whose padding came first, into that of the sequence."""
        steps = [step if step == START else self.values.shape[1] - 1 - step for step in self.steps]
        places = sorted(range(len(steps)), key=steps.__getitem__)
        values, rest, total = (each[..., ::-1][..., :count] for each in (self.values[places], self.rest, self.total))
        return self._replace(steps=[steps[place] for place in places], values=values, rest=rest, total=total)


def _courses(cells: Cells, most: int, signed: bool) -> _Courses:
    """Follow what the most important steps wrote. Cells of one row; ``signed``: of one unit."""
    with np.errstate(all="ignore"):
        kept, written, restarts = (np.broadcast_to(each[0, :, 0], (cells.count, each.shape[-1])) for each in (
            cells.kept(), cells.written(), cells.restarts
        ))  # fmt: skip
        start, restart = cells.start[0, 0, 0], cells.restart[0, 0, 0]
        survives = np.where(restarts, 0.0, kept)
        started = np.empty_like(written)
        held = start.astype(np.float64)
        for step in range(cells.count):
            held = started[step] = kept[step] * np.where(restarts[step], restart, held)
        # Over all later steps, the size of what is left of a 1 that a step wrote.
        stays = np.ones_like(written)
        for step in range(cells.count - 2, -1, -1):
            stays[step] += np.abs(survives[step + 1]) * stays[step + 1]
        scores = np.append((np.abs(written) * stays).sum(axis=-1), np.abs(started).sum())
        ranks = np.argsort(-np.nan_to_num(scores, nan=np.inf), kind="stable")
        chosen = sorted(START if place == cells.count else int(place) for place in ranks[:most] if scores[place] != 0)

        values = np.zeros((len(chosen), cells.count, written.shape[-1]))
        remaining = written.copy()
        for course, step in zip(values, chosen, strict=True):
            if step == START:
                course[:] = started
            else:
                course[step] = written[step]
                course[step + 1 :] = written[step] * np.multiply.accumulate(survives[step + 1 :], axis=0)
                remaining[step] = 0
        rest = _sums_by_sign(remaining, survives)
        if START not in chosen:
            rest += np.stack([np.maximum(started, 0), np.minimum(started, 0)])
        others = int(np.count_nonzero((remaining != 0).any(axis=-1)))
        total = cells.signal("cell")[0, :, 0].astype(np.float64)
        if signed:
            return _Courses(chosen, values[..., 0], rest[..., 0], others, total[:, 0], True)
        sizes = np.stack([rest[0].sum(axis=-1) - rest[1].sum(axis=-1), np.zeros(cells.count)])
        return _Courses(chosen, np.abs(values).sum(axis=-1), sizes, others, np.abs(total).sum(axis=-1), False)


def _sums_by_sign(written: Array, survives: Array) -> Array:
    """Sum what is left of all that was written, what is above and what is below zero apart: (2, steps, units)."""
    sums = np.empty((2, *written.shape))
    above = below = np.zeros(written.shape[1:])
    for step in range(len(written)):
        # A gate below zero, which some activations allow, turns the signs.
        keeps, turns = np.maximum(survives[step], 0), np.minimum(survives[step], 0)
        above, below = keeps * above + turns * below, keeps * below + turns * above
        above, below = above + np.maximum(written[step], 0), below + np.minimum(written[step], 0)
        sums[0, step], sums[1, step] = above, below
    return sums


def _draw(ax: Any, view: LayerView, courses: _Courses) -> None:
    edges = np.arange(view.steps + 1) - 0.5
    above, below = np.zeros(view.steps), np.zeros(view.steps)
    areas = [
        (np.maximum(course, 0), np.minimum(course, 0), color, _name(view, step))
        for course, step, color in zip(courses.values, courses.steps, CATEGORIES, strict=False)
    ]
    if courses.rest.any():
        areas.append((courses.rest[0], courses.rest[1], REST, _rest_name(courses)))
    for up, down, color, name in areas:
        for base, part, label in ((above, up, name), (below, down, None)):
            ax.stairs(
                base + part, edges, baseline=base, fill=True, facecolor=color, edgecolor=ax.get_facecolor(),
                linewidth=0.3, label=label,
            )  # fmt: skip
        above, below = above + up, below + down
    line = "cell" if courses.signed else "sum of the cells' sizes"
    ax.stairs(courses.total, edges, baseline=None, color=foreground(ax), linewidth=1.4, label=line)
    ax.axhline(0, color=foreground(ax), linewidth=0.6)
    ax.set_xlim(edges[0], edges[-1])
    label_steps(ax, view.labels, view.steps)
    _draw_legend(ax, view.name)


def _draw_one_step(memory: Memory, labels: Any, ax: Any) -> Any:
    """Draw the terms of one cell after one step."""
    if memory.terms.ndim != 1:
        raise ValueError(
            "trace: expected a Memory of one unit and one sequence, as explain.memory(trace, step, unit=..., row=...) "
            f"returns it, got terms of the shape {memory.terms.shape}"
        )
    steps = len(memory.terms)
    names = step_labels(labels, steps, steps)
    if ax is None:
        ax = new_axes(1, (9.0, 4.0))[0]
    edges = np.arange(steps + 1) - 0.5
    ax.stairs(memory.terms, edges, baseline=0.0, fill=True, facecolor=CATEGORIES[0], label="what each step wrote")
    if memory.start:
        ax.bar(-1, float(memory.start), width=1.0, color=CATEGORIES[1], label="start state")
    ax.axhline(float(memory.cell), color=foreground(ax), linewidth=1.4, linestyle="--", label="cell: the sum of all")
    ax.axhline(0, color=foreground(ax), linewidth=0.6)
    ax.set_xlim(-1.5 if memory.start else -0.5, edges[-1])
    label_steps(ax, names, steps)
    ax.set_ylabel("part of the cell")
    ax.legend(fontsize="small")
    return ax


def _draw_legend(ax: Any, name: str) -> None:
    """Draw the legend beside the areas, or where that leaves them too narrow, above them in as many columns as fit."""
    handles, names = ax.get_legend_handles_labels()
    room = ax.get_window_extent().width
    common = {"borderaxespad": 0.0, "fontsize": "small", "frameon": False, "handlelength": 1.2, "columnspacing": 1.2}
    # What is drawn on top is on top of the legend too.
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "title": "written by"}
    if ax.legend(handles[::-1], names[::-1], **beside, **common).get_window_extent().width <= _BESIDE * room:
        ax.set_title(f"{name}: what each step wrote, as long as it is kept", loc="left", fontsize="medium", wrap=True)
        return
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.02), "title": f"{name}, written by", "alignment": "left"}
    for columns in (3, 2, 1):
        # A layout engine makes the axes a little wider than they are yet.
        if ax.legend(handles, names, ncols=columns, **above, **common).get_window_extent().width <= 1.1 * room:
            return


def _rest_name(courses: _Courses) -> str:
    return "1 other step" if courses.others == 1 else f"{courses.others} other steps"


def _name(view: LayerView, step: int) -> str:
    if step == START:
        return "start state"
    name = view.labels.of(step)
    return f" {name}" if name.startswith("_") else name  # else matplotlib would leave it out of the legend
