"""Batches of whole sequences, in an order that depends on seed, data and epoch alone."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._random import Random
from latchwork.estimators.data.sequences import Sequences, Update
from latchwork.estimators.data.targets import Targets
from latchwork.estimators.runs.fit_loop import Batch

if TYPE_CHECKING:
    from latchwork._arrays import Array

# The largest share of the steps of an epoch's padded batches that may be padding.
IDLE_SHARE = 0.1


class SequenceBatches:
    """What a `FitLoop` trains on: batches of whole sequences with their targets.

    Sequences that differ in length are brought together with others of nearly their own: in each epoch the shuffled
    samples are cut into groups of as few batches as will do, and sorted in each group, so that at most a tenth of all
    steps is padding. Where even sorting all samples would leave more, batches are split.

    Parameters
    ----------
    sequences : Sequences
    targets : Targets
    batch_size : int
        Samples of a batch. The last one may be smaller.
    seed : int
        What the orders of all epochs follow from.
    shuffle : bool, default True
        False: all batches take the samples as they come, whatever their lengths.
    numbers : ndarray of int, optional
        What the samples are called if the loss is not finite; None: by their places.
    loss_name, loss_label, loss_unit
        How the loss is reported, see `TrainingData`.
    """

    counted = "samples"

    def __init__(
        self,
        sequences: Sequences,
        targets: Targets,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        numbers: Array | None = None,
        loss_name: str = "loss",
        loss_label: str = "loss",
        loss_unit: float = 1.0,
    ) -> None:
        if len(sequences) != len(targets):
            raise ValueError(f"targets: expected those of {len(sequences)} samples, got {len(targets)}")
        self.sequences = sequences
        self.targets = targets
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.loss_name = loss_name
        self.loss_label = loss_label
        self.loss_unit = loss_unit
        self._seed = seed
        self._numbers = numbers
        self._lengths = sequences.lengths
        self._bounds = np.append(np.arange(0, len(sequences), batch_size), len(sequences))
        self._ragged = shuffle and sequences.equal_length is None
        self._group = 1  # batches that are sorted together
        self._split: Array | None = None  # bounds of batches of all samples in order of length, if these are split
        if self._ragged:
            ordered = np.sort(self._lengths)
            if _idle_share(ordered, self._bounds) > IDLE_SHARE:
                self._split = split_bounds(ordered, self._bounds, IDLE_SHARE)
            else:
                self._group = self._smallest_group(self._shuffled(0)[1])

    def steps(self) -> int:
        """Count the batches of an epoch."""
        return len(self._bounds if self._split is None else self._split) - 1

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from this one on."""
        for samples in self.samples(epoch)[first:]:
            x, lengths = self.sequences.batch(samples)
            y, weights = self.targets.batch(samples)
            called = samples if self._numbers is None else self._numbers[samples]
            yield Batch(x, y, lengths, weights, count=len(samples), samples=called)

    def samples(self, epoch: int) -> list[Array]:
        """Give the numbers of the samples of each batch of an epoch."""
        count = len(self.sequences)
        if not self.shuffle:
            return np.split(np.arange(count), self._bounds[1:-1])
        random, order = self._shuffled(epoch)
        if not self._ragged:
            return np.split(order, self._bounds[1:-1])
        bounds = self._bounds
        if self._split is not None:
            order, bounds = self._sorted_in_groups(order, self.steps()), self._split
        else:
            order = self._sorted_in_groups(order, self._smallest_group(order))
        batches = np.split(order, bounds[1:-1])
        # A last batch that is smaller than the others stays last.
        full = len(batches) - (self._split is None and len(batches[-1]) < self.batch_size)
        return [batches[place] for place in _permutation(random, full)] + batches[full:]

    def feed(self, update: Update) -> None:
        """Feed sequences and targets to a hash."""
        self.sequences.feed(update)
        self.targets.feed(update)

    def _shuffled(self, epoch: int) -> tuple[Random, Array]:
        random = Random(epoch_seed(self._seed, epoch))
        return random, _permutation(random, len(self.sequences))

    def _smallest_group(self, order: Array) -> int:
        """Say how many batches at least must be sorted together, from the first epoch's number on."""
        group, all_batches = self._group, self.steps()
        while group < all_batches:
            lengths = self._lengths[self._sorted_in_groups(order, group)]
            if _idle_share(lengths, self._bounds) <= IDLE_SHARE:
                return group
            group += max(group // 2, 1)
        return all_batches

    def _sorted_in_groups(self, order: Array, group: int) -> Array:
        if group <= 1:
            return order
        lengths = self._lengths[order]
        groups = np.arange(len(order)) // (group * self.batch_size)
        sorted_places = np.argsort(groups * (int(self._lengths.max()) + 1) + lengths, kind="stable")
        ordered: Array = order[sorted_places]
        return ordered


def epoch_seed(seed: int, epoch: int) -> int:
    """Give the seed of an epoch: the epoch's own words among those of the run's seed."""
    high, low = _core.random_words(seed, 2 * epoch, 2).tolist()
    return int(high << 32 | low)


def split_bounds(lengths: Array, bounds: Array, share: float) -> Array:
    """Split batches of samples in ascending order of length until no larger share of their steps is padding.

    Each time that batch is split, and there, where it saves most.
    """
    total = int(lengths.sum())
    padded = int(_padded(lengths, bounds).sum())
    splits = [(*_best_split(lengths, begin, end), begin, end) for begin, end in _pairs(bounds)]
    heapq.heapify(splits)
    cuts = set(bounds.tolist())
    while padded and 1.0 - total / padded > share:
        gain, place, begin, end = heapq.heappop(splits)
        padded += gain  # which is negative
        cuts.add(place)
        for part in ((begin, place), (place, end)):
            heapq.heappush(splits, (*_best_split(lengths, *part), *part))
    return np.array(sorted(cuts), np.int64)


def _best_split(lengths: Array, begin: int, end: int) -> tuple[int, int]:
    """Say how many steps the best split of a batch saves, as a negative number, and before which sample it is."""
    if end - begin < 2:
        return 0, begin
    gains = np.arange(1, end - begin) * (lengths[begin : end - 1] - lengths[end - 1])
    best = int(np.argmin(gains))
    return int(gains[best]), begin + 1 + best


def _pairs(bounds: Array) -> list[tuple[int, int]]:
    numbers = bounds.tolist()
    return list(zip(numbers[:-1], numbers[1:], strict=True))


def _padded(lengths: Array, bounds: Array) -> Array:
    """How many steps each batch has with its padding."""
    return np.asarray(np.maximum.reduceat(lengths, bounds[:-1]) * np.diff(bounds))


def _idle_share(lengths: Array, bounds: Array) -> float:
    padded = int(_padded(lengths, bounds).sum())
    return 1.0 - int(lengths.sum()) / padded if padded else 0.0


def _permutation(random: Random, count: int) -> Any:
    """Bring 0 to ``count - 1`` into a random order."""
    return np.argsort(random.uniform(count), kind="stable")
