"""Picture of a training: losses, learning rate and gradient norm by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latchwork._foreign import is_table, without_tensor
from latchwork.plot.figures import CATEGORIES, checked_axes, foreground, new_axes, require_matplotlib, stands_below

_EPOCHS = ("epoch", "epochs")
# What a record says of its place in the training rather than of the result.
_COUNTS = ("seconds", "time", "dur", "characters", "samples", "tokens", "steps", "batches")
_PLACES = (*_EPOCHS, *_COUNTS, "train_batch_count", "valid_batch_count")
# Which data a measure is of, by the beginning of its name.
_OF_DATA = {
    "train_": "training data",
    "training_": "training data",
    "val_": "held-out data",
    "valid_": "held-out data",
    "validation_": "held-out data",
    "test_": "test data",
}
# They differ in more than colour: what is printed in grey has to be read too.
_STYLES = {
    "training data": {"color": CATEGORIES[0], "linestyle": "-"},
    "held-out data": {"color": CATEGORIES[1], "linestyle": "--"},
    "test data": {"color": CATEGORIES[2], "linestyle": ":"},
}
_LEARNING_RATES = ("lr", "learning_rate")
_NORMS = ("grad_norm", "gradient_norm", "norm")
_OF_OPTIMIZER = {_LEARNING_RATES[0]: "learning rate", _NORMS[0]: "gradient norm"}


def training(history: Any, *, axes: Any = None) -> Any:
    """Draw how a training went, epoch by epoch.

    There is a panel for each quantity: first the losses and other measures, those of held-out data beside those of the
    training data, then the learning rate and the norm of the gradient. Where the loss of held-out data is known, its
    best epoch is marked.

    Parameters
    ----------
    history : mapping, DataFrame, sequence of mappings, or a fitted estimator
        A mapping or a table of pandas from names to one number for each epoch, or for each epoch a mapping from names
        to numbers, as ``LSTMLanguageModel.history_`` has them; or what holds one of these as ``history_`` or
        ``history``, as a fitted estimator and what Keras's ``fit`` returns do. A name that begins with ``val_``,
        ``valid_`` or ``validation_`` is of held-out data, ``test_`` of test data, ``train_``, ``training_`` or none of
        them of the training data. ``lr`` or ``learning_rate`` is the learning rate, ``grad_norm``, ``gradient_norm`` or
        ``norm`` the gradient's; ``epoch`` numbers the epochs, which otherwise count from 1. What only counts
        (``seconds``, ``characters``, ``samples``, ``steps``) and what is no number is not drawn. None, NaN and a name
        that a record lacks leave a gap.
    axes : matplotlib Axes or sequence of them, optional
        One for each panel. None: a new figure of pyplot's.

    Returns
    -------
    numpy.ndarray of matplotlib Axes
        (panels,), in the order in which they are drawn.

    Raises
    ------
    ValueError
        If there is no epoch or nothing to draw, if the names have different numbers of epochs, or if ``axes`` has
        another number of axes than there are panels.
    TypeError
        If ``history`` is of another type, or ``axes`` are no axes of matplotlib's.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import latchwork as lw
    >>> (axes,) = lw.plot.training({"loss": [2.0, 1.5, 1.2], "val_loss": [2.1, 1.7, 1.6]})
    >>> axes.get_ylabel()
    'loss'
    """
    require_matplotlib()
    epochs, columns = _columns(history)
    panels = _panels(columns)
    if not panels:
        raise ValueError("history: expected a loss or another number for each epoch, got nothing that can be drawn")
    given = checked_axes(axes, len(panels))
    drawn = new_axes(len(panels), (6.4, 1.0 + 2.0 * len(panels))) if given is None else given
    for ax, (name, lines) in zip(drawn, panels.items(), strict=True):
        _draw(ax, name, lines, epochs)
    for ax in drawn:
        if any(stands_below(other, ax) for other in drawn):
            ax.tick_params(axis="x", labelbottom=False)
        else:
            ax.set_xlabel("epoch")
    return np.array(drawn, dtype=object)


def _draw(ax: Any, name: str, lines: dict[str, list[float]], epochs: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator  # type: ignore[import-not-found,unused-ignore]

    measures = name not in _OF_OPTIMIZER
    for column, values in lines.items():
        data = _data(column)
        marker = "o" if _isolated(values) else None
        ax.plot(epochs, values, label=data if measures else None, marker=marker, markersize=4, **_STYLES[data])
        finite = [(value, place) for place, value in enumerate(values) if math.isfinite(value)]
        if data == "held-out data" and name.endswith(("loss", "bits_per_character")) and finite:
            best, place = min(finite)
            label = f"best: {best:.4g}, epoch {epochs[place]:g}"
            ax.plot(epochs[place], best, "o", color=foreground(ax), markersize=7, fillstyle="none", label=label)
    ax.set_ylabel(_OF_OPTIMIZER.get(name, name.replace("_", " ").replace("$", r"\$")))
    positive = [value for values in lines.values() for value in values if math.isfinite(value)]
    if not measures and positive and min(positive) > 0 and max(positive) > 30 * min(positive):
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.25)
    if measures:
        ax.legend()


def _data(column: str) -> str:
    """Say which data a number is of."""
    return next((data for prefix, data in _OF_DATA.items() if column.startswith(prefix)), "training data")


def _isolated(values: list[float]) -> bool:
    """Say whether a number has gaps on both sides, where a line alone would not show it."""
    there = [False, *map(math.isfinite, values), False]
    return any(not a and b and not c for a, b, c in zip(there, there[1:], there[2:], strict=False))


def _panels(columns: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """Group columns by what they measure; learning rate and gradient norm come last."""
    panels: dict[str, dict[str, list[float]]] = {}
    for column, values in columns.items():
        name = column
        for prefix in _OF_DATA:
            name = name.removeprefix(prefix)
        for names in (_LEARNING_RATES, _NORMS):
            name = names[0] if column in names else name
        panels.setdefault(name, {})[column] = values
    last = [name for name in _OF_OPTIMIZER if name in panels]
    return {name: panels[name] for name in [*(name for name in panels if name not in last), *last]}


def _columns(history: Any) -> tuple[list[float], dict[str, list[float]]]:
    """Read the numbers of the epochs, and a list of as many numbers for each name that is drawn."""
    for attribute in ("history_", "history"):
        history = getattr(history, attribute, history)
    if is_table(history) and hasattr(history, "columns"):
        history = {name: history[name] for name in history.columns}
    if isinstance(history, Mapping):
        columns = {str(name): _sequence(f"history[{name!r}]", values) for name, values in history.items()}
        if len({len(values) for values in columns.values()}) > 1:
            sizes = ", ".join(f"{len(values)} for {name}" for name, values in columns.items())
            raise ValueError(f"history: expected equally many epochs for every name, got {sizes}")
        count = max(map(len, columns.values()), default=0)
    elif isinstance(history, Sequence) and not isinstance(history, (str, bytes)):
        columns, count = _of_records(history), len(history)
    else:
        unfitted = ", which has no history_: call fit first" if hasattr(history, "fit") else ""
        raise TypeError(
            "history: expected a mapping of sequences, a sequence of mappings or a fitted estimator, "
            f"got {type(history).__name__}{unfitted}"
        )
    if count == 0:
        raise ValueError("history: expected at least one epoch, got none")
    epochs = [float(epoch) for epoch in range(1, count + 1)]
    numbers = {}
    for name, values in columns.items():
        if all(value is None or _is_number(value) for value in values):
            numbers[name] = [_float(name, value) for value in values]
    for name in _EPOCHS:
        if name in numbers and all(map(math.isfinite, numbers[name])):
            epochs = numbers[name]
    drawn = {name: values for name, values in numbers.items() if name not in _PLACES}
    return epochs, drawn


def _of_records(records: Sequence[Any]) -> dict[str, list[Any]]:
    names: dict[str, None] = {}
    for place, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise TypeError(f"history[{place}]: expected a mapping from names to numbers, got {type(record).__name__}")
        names |= dict.fromkeys(record)
    return {str(name): [without_tensor(record.get(name)) for record in records] for name in names}


def _sequence(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name}: expected a sequence with a number for each epoch, got {type(values).__name__}")
    return [without_tensor(value) for value in values]


def _float(name: str, value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        raise ValueError(f"history: expected numbers within the range of float, got a larger one in {name!r}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
