"""Sequences together with their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork import _core

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.layout import Layout
    from latchwork.estimators.data.sequences import Sequences
    from latchwork.estimators.data.targets import Targets


GAPS_ADVICE = 'give missing="forward", "mean" or "zero" to the constructor to train a model that takes gaps'


class Examples(NamedTuple):
    """Sequences and their targets."""

    sequences: Sequences
    targets: Targets
    numbers: Array | None = None  # which of the user's sequences these are; None: all, in order

    def take(self, samples: Array) -> Examples:
        """Take the sequences of these numbers, in this order."""
        numbers = samples if self.numbers is None else self.numbers[samples]
        return Examples(self.sequences.take(samples), self.targets.take(samples), numbers)

    def counted(self) -> Examples:
        """Leave out sequences without a target of a weight above 0."""
        weights = self.targets.weights
        if weights is None:
            return self
        counts: Array = np.asarray(weights.reshape(len(weights), -1).any(axis=1))
        if self.targets.per_step:
            before = np.zeros(len(counts) + 1, np.int64)
            np.cumsum(counts, out=before[1:])
            offsets = self.targets.offsets
            counts = before[offsets[1:]] > before[offsets[:-1]]
        return self if counts.all() else self.take(np.flatnonzero(counts))


def check_no_gaps(sequences: Sequences, layout: Layout) -> None:
    """Raise ValueError if there is a NaN, and name its place."""
    if not _core.all_finite(sequences.values):
        step, column = (int(place) for place in np.argwhere(np.isnan(sequences.values))[0])
        raise ValueError(f"X: expected no NaN, got NaN in {layout.place(step, column)}; {GAPS_ADVICE}")
    if sequences.static is not None and not _core.all_finite(sequences.static):
        sample, column = (int(place) for place in np.argwhere(np.isnan(sequences.static))[0])
        raise ValueError(
            f"static: expected no NaN, got NaN in {layout.sample_text(sample)}, column {column}; {GAPS_ADVICE}"
        )


def all_numbers(values: Any) -> bool:
    """Say whether there is neither NaN nor infinity."""
    return bool(_core.all_finite(np.ascontiguousarray(values)))
