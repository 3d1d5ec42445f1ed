"""Long sequences as training reads them: lanes side by side, window by window (truncated backpropagation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._random import Random
from latchwork.estimators.data.sources import Part, joined
from latchwork.estimators.runs.fit_loop import Batch

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from latchwork._arrays import Array
    from latchwork.estimators.data.sources import Lane, PieceSource, Source

# Fewer would leave a short series with few steps of the optimiser in each epoch, and would cut it into short lanes.
SHORTEST_LANE_WINDOWS = 16

# Lanes that are read before what was mapped of files is unmapped: a page in the system's cache can be a large one.
_LANES_PER_RELEASE = 8

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
        reading = [(row, lanes[row], int(length)) for row, length in enumerate(lengths) if length]
        x = np.zeros((len(lanes), end - begin, self._source.features), self._dtype)
        y, weights = [], []
        for row, lane, length in reading:
            part = lane.read(begin, begin + length)
            x[row, :length] = part.x
            y.append(np.array(part.y))
            if part.weights is not None:
                weights.append(np.array(part.weights))
            del part
            if row % _LANES_PER_RELEASE == 0:
                self._source.release()
        self._source.release()
        targets, counts = weighted(self._encode(np.concatenate(y)), np.concatenate(weights) if weights else None)
        return Batch(
            x.swapaxes(0, 1),
            _padded(targets, lengths, end - begin),
            lengths=None if len(reading) == len(lanes) and lengths.min() == end - begin else lengths,
            weights=None if counts is None else _padded(counts, lengths, end - begin),
            continues=begin > 0,
            count=int(lengths.sum()),
            samples=sorted({lane.sequence_at(begin) for _, lane, _ in reading}),
            reset=_resets(lanes, begin, end),
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
        targets, weights = self._encode(part.y.reshape(steps * rows, *part.y.shape[2:]))
        return Batch(
            part.x.astype(self._dtype),
            targets.reshape(steps, rows, *targets.shape[1:]),
            weights=None if weights is None else weights.reshape(steps, rows, *weights.shape[1:]),
            continues=number > 0,
            count=steps * rows,
        )


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


def _padded(values: Array, lengths: NDArray[np.int64], steps: int) -> Array:
    """Give what belongs to the steps of lanes, one lane after another, the axes (steps, lanes, ...)."""
    if (lengths == steps).all():
        return values.reshape(len(lengths), steps, *values.shape[1:]).swapaxes(0, 1)
    padded = np.zeros((len(lengths), steps, *values.shape[1:]), values.dtype)
    ends = np.cumsum(lengths).tolist()
    for row, (length, end) in enumerate(zip(lengths.tolist(), ends, strict=True)):
        padded[row, :length] = values[end - length : end]
    return padded.swapaxes(0, 1)


def _resets(lanes: Sequence[Lane], begin: int, end: int) -> NDArray[np.bool_] | None:
    """Say before which steps of a window the state restarts, because a sequence begins; None if nowhere."""
    reset: NDArray[np.bool_] | None = None
    for row, lane in enumerate(lanes):
        inside = [start for start in lane.starts if begin <= start < end]
        if inside:
            if reset is None:
                reset = np.zeros((end - begin, len(lanes)), np.bool_)
            reset[np.array(inside) - begin, row] = True
    return reset


def _cut(part: Part, begin: int, end: int) -> Part:
    return Part(part.x[begin:end], part.y[begin:end])
