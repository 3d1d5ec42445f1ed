"""Texts for the steps of a sequence: tokens, timestamps or numbers, as they stand along an axis."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import as_array
from latchwork._foreign import is_table, without_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 24  # characters of a label that are shown

# Characters that would leave no mark on the page, or would break the line.
_VISIBLE = {" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"}


class StepLabels(NamedTuple):
    """What stands along the axis of steps."""

    texts: tuple[str, ...] | None  # one for each step; None: their numbers
    name: str  # of the axis
    rotates: bool  # whether the texts may stand upright, so that more of them fit

    def of(self, step: int) -> str:
        """Name one step in a legend: its number, and its text if there is one."""
        return f"step {step}" if self.texts is None else f"{self.texts[step]} (step {step})"


def step_labels(labels: Any, steps: int, valid: int) -> StepLabels:
    """Read labels: one for each of the steps, or for each that is no padding. ValueError or TypeError."""
    if labels is None:
        return StepLabels(None, "step", False)
    values = _listed(labels)
    if len(values) not in (steps, valid):
        expected = f"one for each of the {steps} steps"
        if valid != steps:
            expected += f" or of the {valid} valid ones"
        raise ValueError(f"labels: expected {expected}, got {len(values)}")
    values = values[:valid]
    if values and all(isinstance(value, (np.datetime64, datetime.date)) for value in values):
        return _times(values)
    return StepLabels(tuple(visible(_text(value)) for value in values), "token", True)


def visible(text: str) -> str:
    """Show what would leave no mark, cut off what is too long, and keep dollars from starting a formula."""
    if not text.strip() or "\n" in text or "\t" in text:
        text = "".join(_VISIBLE.get(character, character) for character in text)
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text) or '""'
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "\u2026"
    return text.replace("$", r"\$")


def _listed(labels: Any) -> list[Any]:
    if is_table(labels) or hasattr(labels, "__array__"):
        array = np.asarray(labels) if is_table(labels) else as_array("labels", labels)
        if array.ndim != 1:
            raise ValueError(f"labels: expected one axis, got the shape {array.shape}")
        # NumPy's times would become integers if they are of nanoseconds.
        return list(array) if array.dtype.kind == "M" else list(array.tolist())
    if isinstance(labels, (bytes, Mapping, Set)) or not isinstance(labels, Iterable):
        raise TypeError(f"labels: expected a sequence of texts, numbers or timestamps, got {type(labels).__name__}")
    return [without_tensor(label) for label in labels]


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:g}"
    return str(value)


def _times(values: Sequence[Any]) -> StepLabels:
    """Write timestamps as short as they can be told apart: what all of them share is left out."""
    pairs = [_date_and_time(value) for value in values]
    dates = {date for date, _ in pairs if date}
    whole_days = not any(time.strip("0:.") for _, time in pairs)
    if whole_days:
        return StepLabels(tuple(date or "NaT" for date, _ in pairs), "date", False)
    times = [time for _, time in pairs]
    if not any(time[8:].strip("0.") for time in times):
        times = [time[:8] for time in times]
        if not any(time[5:].strip("0:") for time in times):
            times = [time[:5] for time in times]
    if len(dates) == 1:
        texts = [time if date else "NaT" for (date, _), time in zip(pairs, times, strict=True)]
        return StepLabels(tuple(texts), f"time on {next(iter(dates))}", False)
    years = {date.rpartition("-")[0].rpartition("-")[0] for date in dates}
    year, name = (f"{next(iter(years))}-", f"time in {next(iter(years))}") if len(years) == 1 else ("", "time")
    both = [(date.removeprefix(year), time) for (date, _), time in zip(pairs, times, strict=True)]
    return StepLabels(tuple(f"{date} {time}" if date else "NaT" for date, time in both), name, False)


def _date_and_time(value: Any) -> tuple[str, str]:
    """Give the date, and the time to the microsecond; two empty texts for a NaT."""
    if value != value:  # NumPy's NaT and pandas'
        return "", ""
    if isinstance(value, np.datetime64):
        date, _, time = str(value.astype("datetime64[us]")).partition("T")
    else:
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime(*value.timetuple()[:3])
        date, time = f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S.%f}"
    return date, time
