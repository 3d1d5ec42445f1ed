"""Long sequences as training reads them: lanes side by side, window by window (truncated back-propagation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._random import Random
from latchwork.estimators.fit_loop import Batch
from latchwork.estimators.sources import Part, joined

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from latchwork._arrays import Array
    from latchwork.estimators.sources import Lane, PieceSource, Source

# Fewer would leave a short series with few steps of the optimiser in each epoch, and would cut it into short lanes.
SHORTEST_LANE_WINDOWS = 16

# Makes targets of what the user gave for some steps, (steps,) or (steps, targets): values (steps, targets) or labels
# (steps,), and how much each counts, (steps,) or (steps, targets), or None if all count alike.
Encode = Callable[["Array"], "tuple[Array, Array | None]"]


class Windows:
    """What a `FitLoop` trains on: every step once an epoch, in windows whose states go on from one to the next.

    All steps, the sequences one after another, are cut into lanes of equal length, which are the rows of the batches;
    where a sequence begins within a lane, the state restarts. What makes lanes decides how equal they are.

    Parameters
    ----------
    source : Source
        What is read.
    window : int
        How many steps of each lane one batch reads at most.
    batch_size : int
        The number of lanes at most; fewer if a lane would be shorter than 16 windows.
    encode : callable
        Makes the targets.
    dtype : dtype
        That of the network.
    seed : int
        It decides, for each epoch, in what order the sequences follow each other.
    shuffle : bool
        Whether that order is drawn at all, or always that of the source.
    """

    counted = "steps"
    loss_name = "loss"
    loss_label = "loss"
    loss_unit = 1.0

    def __init__(
        self,
        source: Source,
        *,
        window: int,
        batch_size: int,
        encode: Encode,
        dtype: DTypeLike,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        self._source = source
        self._encode = encode
        self._dtype = np.dtype(dtype)
        self._seed = seed
        self._shuffle = shuffle and len(source.lengths) > 1
        total = sum(source.lengths)
        self._rows = min(batch_size, max(total // (window * SHORTEST_LANE_WINDOWS), 1))
        longest = max(lane.length for lane in source.lanes(self._rows, range(len(source.lengths))))
        self._bounds = window_bounds(longest, window)

    def steps(self) -> int:
        """Count the batches of an epoch: one for each window."""
        return len(self._bounds) - 1

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the windows of an epoch from this one on."""
        lanes = self._source.lanes(self._rows, self._order(epoch))
        for begin, end in zip(self._bounds[first:-1], self._bounds[first + 1 :], strict=True):
            yield self._batch(lanes, begin, end)

    def feed(self, update: Callable[[Any], object]) -> None:
        """Pass the lengths of the sequences and all values, in the dtypes in which they are read, to a hash."""
        update(f"sequences of {list(self._source.lengths)} steps, {self._source.features} features\n".encode())
        for part in self._source.parts():
            feed_part(part, update)

    def _order(self, epoch: int) -> Sequence[int]:
        count = len(self._source.lengths)
        if not self._shuffle:
            return range(count)
        order: list[int] = np.argsort(Random.of_epoch(self._seed, epoch).words(count), kind="stable").tolist()
        return order

    def _batch(self, lanes: Sequence[Lane], begin: int, end: int) -> Batch:
        lengths = np.array([min(max(lane.length - begin, 0), end - begin) for lane in lanes], np.int64)
        rows = [row for row, length in enumerate(lengths) if length]
        parts = [lanes[row].read(begin, begin + int(lengths[row])) for row in rows]
        steps = end - begin
        x = np.zeros((steps, len(lanes), self._source.features), self._dtype)
        targets = Targets(steps, len(lanes))
        reset: NDArray[np.bool_] | None = None
        for row, part in zip(rows, parts, strict=True):
            x[: len(part.x), row] = part.x
            targets.put(row, *weighted(self._encode(np.asarray(part.y)), part.weights))
            starts = lanes[row].starts
            inside = starts[np.searchsorted(starts, begin) : np.searchsorted(starts, end)]
            if len(inside):
                if reset is None:
                    reset = np.zeros((steps, len(lanes)), np.bool_)
                reset[inside - begin, row] = True
        del parts
        self._source.release()
        return Batch(
            x,
            targets.values,
            lengths=None if (lengths == steps).all() else lengths,
            weights=targets.weights,
            continues=begin > 0,
            count=int(lengths.sum()),
            samples=sorted({lanes[row].sequence_at(begin) for row in rows}),
            reset=reset,
        )


class PieceWindows:
    """What a `FitLoop` trains on if the steps come in pieces one after another: as `Windows`, without a known length.

    The rows of the batches are those of the pieces. Every batch has ``window`` steps, wherever pieces end; the last
    one has what is left.

    Parameters
    ----------
    source : PieceSource
        What is read.
    window : int
        How many steps of each row one batch reads.
    encode : callable
        Makes the targets.
    dtype : dtype
        That of the network.
    length : int, optional
        How many steps each row has, if that is known.
    """

    counted = "steps"
    loss_name = "loss"
    loss_label = "loss"
    loss_unit = 1.0

    def __init__(
        self, source: PieceSource, *, window: int, encode: Encode, dtype: DTypeLike, length: int | None = None
    ) -> None:
        self._source = source
        self._window = window
        self._encode = encode
        self._dtype = np.dtype(dtype)
        self._length = length

    def steps(self) -> int | None:
        """Count the batches of an epoch. None: unknown."""
        return None if self._length is None else -(-self._length // self._window)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the windows from this one on; those before it are read and passed over."""
        for number, part in enumerate(self._windows()):
            if number >= first:
                yield self._batch(part, number)

    def feed(self, update: Callable[[Any], object]) -> None:
        """Pass all values, in the dtypes in which they come, to a hash.

        Raises
        ------
        ValueError
            If the pieces can be read only once.
        """
        if not self._source.can_repeat:
            raise ValueError(
                "X: expected something that can be read again, for a certificate, got an iterator; pass a function "
                "that returns a fresh one"
            )
        for part in self._source.open():
            update(f"{part.x.shape[1]} rows, {part.x.shape[2]} features\n".encode())
            feed_part(part, update)

    def _windows(self) -> Iterator[Part]:
        """Cut the pieces anew."""
        kept: list[Part] = []
        count = 0  # steps in them
        for piece in self._source.open():
            begin = 0
            while count + len(piece.x) - begin >= self._window:
                end = begin + self._window - count
                yield joined([*kept, _cut(piece, begin, end)])
                kept, count, begin = [], 0, end
            if begin < len(piece.x):
                kept.append(_cut(piece, begin, len(piece.x)))
                count += len(piece.x) - begin
        if kept:
            yield joined(kept)

    def _batch(self, part: Part, number: int) -> Batch:
        steps, rows = part.x.shape[:2]
        targets = Targets(steps, rows)
        for row in range(rows):
            targets.put(row, *self._encode(part.y[:, row]))
        return Batch(
            part.x.astype(self._dtype),
            targets.values,
            weights=targets.weights,
            continues=number > 0,
            count=steps * rows,
        )


class Targets:
    """Targets and their weights of the rows of a batch, padded with zeros: (steps, rows) or (steps, rows, targets)."""

    def __init__(self, steps: int, rows: int) -> None:
        self.values: Any = None
        self.weights: Any = None
        self._shape = (steps, rows)

    def put(self, row: int, values: Array, weights: Array | None) -> None:
        """Write the steps of one row from the first on."""
        if self.values is None:
            self.values = np.zeros((*self._shape, *values.shape[1:]), values.dtype)
        self.values[: len(values), row] = values
        if weights is None:
            return
        if self.weights is None:
            self.weights = np.ones((*self._shape, *weights.shape[1:]), weights.dtype)
        if weights.ndim == 2 and self.weights.ndim == 2:  # rows so far had a weight for each step alone
            self.weights = np.repeat(self.weights[..., np.newaxis], weights.shape[1], axis=2)
        self.weights[: len(weights), row] = weights if weights.ndim == self.weights.ndim - 1 else weights[:, np.newaxis]


def real_targets(dtype: DTypeLike) -> Encode:
    """Make targets of real numbers, of which NaN does not count."""
    kind = np.dtype(dtype)

    def encode(y: Array) -> tuple[Array, Array | None]:
        values = y.reshape(len(y), -1).astype(kind)
        known = ~np.isnan(values)
        return values, None if known.all() else known.astype(kind)

    return encode


def weighted(target: tuple[Array, Array | None], counts: Array | None) -> tuple[Array, Array | None]:
    """Multiply the weights of targets with those of their steps."""
    values, weights = target
    if counts is None:
        return values, weights
    if weights is None:
        return values, np.asarray(counts)
    return values, weights * (counts if weights.ndim == 1 else np.asarray(counts)[:, np.newaxis])


def window_bounds(steps: int, window: int) -> list[int]:
    """Cut so many steps into windows of nearly equal length, because each is one step of the optimiser."""
    count = -(-steps // window)
    return [steps * each // count for each in range(count + 1)]


def feed_part(part: Part, update: Callable[[Any], object]) -> None:
    """Pass the dtype, the shape and the values of each array of a part to a hash."""
    for array in part:
        if array is not None:
            update(f"{array.dtype.str} {array.shape}\n".encode())
            update(np.ascontiguousarray(array).tobytes())


def _cut(part: Part, begin: int, end: int) -> Part:
    return Part(part.x[begin:end], part.y[begin:end])
