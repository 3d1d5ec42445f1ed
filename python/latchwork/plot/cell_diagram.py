"""The diagram of one step of an LSTM's cell, with the numbers of that step in it."""

from __future__ import annotations

from typing import Any

from latchwork.plot.figures import checked_ax, new_axes, require_matplotlib
from latchwork.plot.layer_view import LayerView, cell_step

PARTS = ("forget", "input", "update", "output")


def cell(
    trace: Any,
    step: int,
    unit: int,
    layer: str | int = 0,
    *,
    row: int = 0,
    member: int = 0,
    highlight: str | None = None,
    labels: Any = None,
    ax: Any = None,
) -> Any:
    """Draw one step of one unit: gates, cell and output, how they are wired, and their numbers.

    The line at the top is the cell: what the forget gate keeps of c_prev, and what input gate and candidate add to it.
    The line at the bottom brings h_prev, joined by x_t, to the gates, and takes away h_t, which is what the output gate
    shows of the cell. Below stand the equations with the numbers in them.

    Parameters
    ----------
    trace : Trace
        Of an `LSTM` or a `Network`.
    step : int
        Which step, from 0 to T - 1, or from the end of the sequence if it is negative.
    unit : int
        Which hidden unit, from 0 to H - 1, or from the end.
    layer : str or int, default 0
        The layer and direction, as ``trace[layer]`` takes it.
    row : int, default 0
        Which sequence of the batch.
    member : int, default 0
        Which member of a network of several.
    highlight : {"forget", "input", "update", "output"}, optional
        Which part is drawn strongly, the others being pale, and whose equations are shown, to walk through a step: the
        forget gate; input gate and candidate; how both make the new cell; and the output. None: all are alike.
    labels : sequence, optional
        Texts, tokens, numbers or timestamps of the steps, as for `gates`, to name x_t by.
    ax : matplotlib Axes, optional
        What it is drawn on, without its frame. None: a new figure of pyplot's.

    Returns
    -------
    matplotlib Axes
        Its texts grow and shrink with it.

    Raises
    ------
    ValueError
        If there is no such layer or part, the step is left out by ``skip``, the row has no step, or ``labels`` are not
        as many as there are steps.
    TypeError
        If ``trace`` is no `Trace`, or another argument is of a wrong type.
    IndexError
        If a step, row, member or unit is out of range.
    ImportError
        If matplotlib is missing.

    Notes
    -----
    Variants of the cell are drawn as they are: without a forget gate c_prev runs straight through; a coupled one is 1
    minus the input gate; dashed lines are peepholes; boxes on the lines are the norm and the clipping of the cell,
    zoneout and projection. After a ``reset`` c_prev and h_prev are the layer's own start state. In a reverse direction
    they come from the step after this one.

    Where the output is projected, the unit has no h of its own, and none is shown. With ``layer_norm`` the trace holds
    no normalised cell; its activated value is then h over the output gate, if that can be told.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> trace = lw.LSTM(3, 8, seed=0).trace(np.ones((20, 3)))
    >>> ax = lw.plot.cell(trace, step=4, unit=2, highlight="forget")
    """
    require_matplotlib()
    if highlight is not None and (not isinstance(highlight, str) or highlight not in PARTS):
        raise ValueError(f"highlight: expected one of {', '.join(PARTS)} or None, got {highlight!r}")
    numbers = cell_step(LayerView(trace, layer, row, member, labels), step, unit)
    ax = checked_ax(ax)
    if ax is None:
        ax = new_axes(1, (9.0, 5.2))[0]
    from latchwork.plot.cell_parts import draw_cell

    draw_cell(ax, numbers, highlight)
    return ax
