"""Sequences and targets as a `FitLoop` reads them: whole, or window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latchwork.estimators.data.batches import SequenceBatches
from latchwork.estimators.data.sources import ArraySource
from latchwork.estimators.data.windows import Windows, real_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from latchwork._arrays import Array
    from latchwork.estimators.data.examples import Examples
    from latchwork.estimators.runs.runs import Batch, TrainingData


def training_data(
    examples: Examples, batch_size: int, window: int | None, *, seed: int, shuffle: bool
) -> SequenceBatches | Windows:
    """Make what is trained on.

    Parameters
    ----------
    examples : Examples
        Targets are in the units of the network's output.
    batch_size, window, shuffle
        The estimator's options. With a ``window``, targets are those of steps.
    seed : int
        What the orders of all epochs follow from.
    """
    sequences, targets, numbers = examples
    if window is None:
        return SequenceBatches(sequences, targets, batch_size, seed, shuffle=shuffle, numbers=numbers)
    bounds = sequences.offsets[1:-1]
    values = sequences.values
    if sequences.static is not None:
        values = np.concatenate([values, np.repeat(sequences.static, sequences.lengths, axis=0)], axis=1)
    weights = targets.weights
    if weights is not None and weights.ndim == 2:  # an output that is missing is NaN in the targets too
        weights = weights.max(axis=1)
    source = ArraySource(
        np.split(values, bounds),
        np.split(targets.values, bounds),
        None if weights is None else np.split(weights, bounds),
    )
    encode = real_targets(values.dtype) if targets.values.dtype.kind == "f" else _known_labels
    return Windows(
        source,
        window=window,
        batch_size=batch_size,
        encode=encode,
        dtype=values.dtype,
        seed=seed,
        shuffle=shuffle,
    )


class OneEpoch:
    """One epoch of other data, as the only one."""

    def __init__(self, data: TrainingData, epoch: int) -> None:
        self._data = data
        self._epoch = epoch
        self.counted = data.counted
        self.loss_name, self.loss_label, self.loss_unit = data.loss_name, data.loss_label, data.loss_unit

    def steps(self) -> int | None:
        """Count the batches."""
        return self._data.steps()

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches from this one on."""
        return self._data.batches(self._epoch + epoch, first)

    def feed(self, update: Callable[[object], object]) -> None:
        """Feed the data to a hash."""
        self._data.feed(update)


def _known_labels(codes: Array) -> tuple[Array, Array | None]:
    """Give codes of classes, of which those below 0 are missing."""
    known = codes >= 0
    return (codes, None) if known.all() else (np.maximum(codes, 0), known.astype(np.float32))
