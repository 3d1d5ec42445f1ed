"""Heat maps of gates, candidate, cell and output over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.explain._choices import positions
from latchwork.plot.figures import checked_axes, new_axes, require_matplotlib, stands_below
from latchwork.plot.layer_view import GATES, LayerView, label_steps
from latchwork.plot.unit_order import similar_side_by_side
from latchwork.trace import LayerTrace

if TYPE_CHECKING:
    from latchwork._arrays import Array

# What 0 and 1 of each gate mean, in the words of the cell's equations.
_TITLES = {
    "input_gate": "input gate: how much of the candidate is added to the cell",
    "forget_gate": "forget gate: how much of the old cell is kept",
    "candidate": "candidate: what could be added to the cell",
    "output_gate": "output gate: how much of the cell is shown",
    "cell": "cell: what is kept",
    "hidden": "output: what is shown, and read by the next step",
}
# Both are even in lightness and told apart by everybody; their opposite ends differ in lightness or in blue and red.
_SEQUENTIAL, _DIVERGING = "cividis", "RdBu_r"


def gates(
    trace: Any,
    layer: str | int = 0,
    *,
    row: int = 0,
    member: int = 0,
    units: Any = None,
    order: str | None = "similar",
    labels: Any = None,
    signals: Sequence[str] = LayerTrace._fields,
    axes: Any = None,
) -> Any:
    """Draw what every gate and cell of a layer did over a sequence: heat maps of units by steps.

    The colours of gates run from dark, 0 or shut, to light, 1 or open; those of candidate, cell and output from blue,
    below zero, over white to red, above zero. Colour bars say so. Labels are thinned out so that they never overlap,
    and fit again when the window or the range shown is changed.

    Parameters
    ----------
    trace : Trace
        Of an `LSTM` or a `Network`.
    layer : str or int, default 0
        The layer and direction, as ``trace[layer]`` takes it.
    row : int, default 0
        Which sequence of the batch. Its padding is not drawn.
    member : int, default 0
        Which member of a network of several.
    units : int or sequence of int, optional
        Which hidden units, from 0 to H - 1 or from the end, drawn from top to bottom. None: all.
    order : str or None, default "similar"
        "similar": where ``units`` is None, units that do alike stand side by side: they are sorted by the courses of
        their forget gates or, in cells without a forget gate of their own, by those of their cells. A name of a signal:
        by its courses, those of chosen ``units`` too. None: by number, or as ``units`` has them.
    labels : sequence, optional
        What stands along the axis of steps: a text (one character for each step) or one token, number or timestamp
        (of ``datetime``, NumPy or pandas) for each step. None: the numbers of the steps.
    signals : sequence of str
        What is drawn, from top to bottom: fields of `LayerTrace`, by default all.
    axes : matplotlib Axes or sequence of them, optional
        One for each signal. None: a new figure of pyplot's.

    Returns
    -------
    numpy.ndarray of matplotlib Axes
        (signals,). The colour bars are axes of their own, which ``axes[k].images[0].colorbar`` has.

    Raises
    ------
    ValueError
        If there is no such layer, signal or order, the row has no step, ``labels`` are not as many as there are steps,
        or ``axes`` not as many as signals.
    TypeError
        If ``trace`` is no `Trace`, or another argument is of a wrong type.
    IndexError
        If a row, member or unit is out of range.
    ImportError
        If matplotlib is missing.

    Notes
    -----
    Similarity is that of Eisen, Spellman, Brown and Botstein, "Cluster analysis and display of genome-wide expression
    patterns", PNAS 95 (1998): average linkage of the Euclidean distances between courses. Steps that ``skip`` leaves
    out are grey for gates and candidate, which were not computed there. Activations that leave the ranges 0 to 1 and -1
    to 1 widen the range of colours. If the LSTM projects, the output has features of its own: all are drawn, by number.
    The map of a layer that reads from the end has its first step at the right.

    The colours are cividis, Nuñez, Anderton and Renslow, "Optimizing colormaps with consideration for color vision
    deficiency", PLOS ONE 13 (2018), and RdBu of Brewer's colour-blind safe schemes, https://colorbrewer2.org.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> trace = lw.LSTM(3, 8, seed=0).trace(np.ones((20, 3)))
    >>> axes = lw.plot.gates(trace, signals=["forget_gate", "cell"], labels="a text of 20 chars.")
    >>> axes.shape
    (2,)
    """
    require_matplotlib()
    names = _checked_signals(signals)
    view = LayerView(trace, layer, row, member, labels)
    chosen = _ordered_units(view, units, order)
    given = checked_axes(axes, len(names))
    drawn = new_axes(len(names), (9.0, 0.9 + 1.6 * len(names))) if given is None else given
    labelled = [not any(stands_below(other, ax) for other in drawn) for ax in drawn]
    for ax, name in zip(drawn, names, strict=True):
        _draw(ax, view, name, chosen)
    # The labelled ones last, because axes that share their x axis share what was set last.
    for ax, is_labelled in sorted(zip(drawn, labelled, strict=True), key=lambda pair: pair[1]):
        label_steps(ax, view.labels, view.steps)
        if not is_labelled:
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=False)
    return np.array(drawn, dtype=object)


def _draw(ax: Any, view: LayerView, name: str, units: Array) -> None:
    from latchwork.plot.heat_map import HeatMap
    from latchwork.plot.ticks import label_positions

    values = view.signal(name)
    own_features = name == "hidden" and view.options["proj_size"] > 0
    rows = np.arange(values.shape[1]) if own_features else units
    drawn = np.ma.array(values[:, rows].T, mask=False)
    if name not in ("cell", "hidden"):
        drawn[:, view.skipped] = np.ma.masked
    low, high = _range(name, drawn)
    image = HeatMap(ax, drawn, _colours(name), low, high)
    _draw_colour_bar(ax, image, name, drawn)
    ax.set_title(_title(view, name), loc="left", fontsize="medium", wrap=True)
    ax.set_ylabel("feature" if own_features else "unit")
    label_positions(ax.yaxis, [str(row) for row in rows], rotates=False, numbers=False)
    ax.tick_params(axis="y", labelsize="small")


def _title(view: LayerView, name: str) -> str:
    if name == "forget_gate" and view.options["forget_gate"] == "none":
        return "forget gate: this cell has none and keeps everything"
    if name == "forget_gate" and view.options["forget_gate"] == "coupled":
        return "forget gate, coupled: 1 \u2212 input gate is kept of the old cell"
    return _TITLES[name]


def _colours(name: str) -> Any:
    from matplotlib import colormaps  # type: ignore[import-not-found,unused-ignore]

    return colormaps[_SEQUENTIAL if name in GATES else _DIVERGING].with_extremes(bad="#808080")


def _range(name: str, values: Any) -> tuple[float, float]:
    """Give the numbers at the ends of the colours."""
    finite = values.compressed().astype(np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        finite = np.zeros(1)
    if name in GATES:
        return min(float(finite.min()), 0.0), max(float(finite.max()), 1.0)
    sizes = np.abs(finite)
    largest = float(sizes.max())
    if name != "cell":
        return -max(largest, 1.0), max(largest, 1.0)
    usual = float(np.quantile(sizes, 0.99))
    # A few cells that are far larger than all others would leave no colour to those.
    limit = usual if 0 < usual < largest / 2 else largest or 1.0
    return -limit, limit


def _draw_colour_bar(ax: Any, image: Any, name: str, values: Any) -> None:
    low, high = image.get_clim()
    beyond = np.abs(values).max() > high
    bar = ax.figure.colorbar(
        image, ax=ax, pad=0.01, aspect=10, fraction=0.05, extend="both" if beyond else "neither", extendfrac=0.1
    )
    if name in GATES:
        texts = {low: f"{low:.3g}", high: f"{high:.3g}"} | {0.0: "0 shut", 1.0: "1 open"}
    else:
        texts = {value: f"{value:.3g}" for value in (low, 0.0, high)}
    bar.set_ticks(list(texts), labels=[text.replace("-", "\u2212") for text in texts.values()])
    bar.ax.tick_params(labelsize="small")


def _checked_signals(signals: Any) -> list[str]:
    expected = ", ".join(LayerTrace._fields)
    if isinstance(signals, str):
        signals = [signals]
    if not isinstance(signals, Sequence):
        raise TypeError(f"signals: expected a sequence of str, got {type(signals).__name__}")
    for place, name in enumerate(signals):
        if not isinstance(name, str):
            raise TypeError(f"signals[{place}]: expected a str, got {type(name).__name__}")
        if name not in LayerTrace._fields:
            raise ValueError(f"signals[{place}]: expected one of {expected}, got {name!r}")
    if not signals:
        raise ValueError(f"signals: expected at least one of {expected}, got none")
    return list(signals)


def _ordered_units(view: LayerView, units: Any, order: Any) -> Array:
    expected = ", ".join(LayerTrace._fields)
    if order is not None and (not isinstance(order, str) or order not in ("similar", *LayerTrace._fields)):
        raise ValueError(f'order: expected "similar", None or one of {expected}, got {order!r}')
    if order == "hidden" and view.options["proj_size"] > 0:
        raise ValueError("order: expected another signal, because this LSTM projects its output, got 'hidden'")
    chosen = np.atleast_1d(np.arange(view.units)[positions("units", units, view.units)])
    if chosen.size == 0:
        raise ValueError("units: expected at least one, got none")
    if order == "similar":
        if units is not None:
            return chosen
        order = "forget_gate" if view.options["forget_gate"] == "own" else "cell"
    if order is None:
        return chosen
    return chosen[similar_side_by_side(view.signal(order)[:, chosen])]
