"""Long sequences that are read part by part: arrays, memory-mapped files, and pieces that come one after another."""

from __future__ import annotations

import bisect
import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from latchwork._arrays import as_array, real_numbers, shape_text

if TYPE_CHECKING:
    from latchwork._arrays import Array

# Steps that a pass over all of a source reads at once.
STEPS_PER_READ = 16384


class Part(NamedTuple):
    """Consecutive steps."""

    x: Array  # (steps, features), real numbers of any dtype
    y: Array  # (steps,) or (steps, targets), as the user gave them
    weights: Array | None = None  # (steps,)


class Lane(Protocol):
    """What one row of the batches reads in an epoch, from its first step to its last."""

    length: int
    starts: Sequence[int]  # before which steps another sequence begins, ascending; not the first step

    def read(self, begin: int, end: int) -> Part:
        """Read the steps from ``begin`` to before ``end``; fast if ``begin`` is where the last call ended."""

    def sequence_at(self, step: int) -> int:
        """Return the number of the sequence that a step belongs to."""


class Source(Protocol):
    """Long sequences of known lengths, any part of which can be read again and again."""

    features: int

    @property
    def lengths(self) -> Sequence[int]:
        """The lengths of the sequences."""

    def lanes(self, count: int, order: Sequence[int]) -> Sequence[Lane]:
        """Cut all steps into at most ``count`` lanes of nearly equal length; the sequences follow each other so."""

    def parts(self) -> Iterator[Part]:
        """Yield all steps in order, some thousand at once; none crosses from one sequence to the next."""

    def release(self) -> None:
        """Give back the memory that reading took and that can be read again."""


class ArraySource:
    """Long sequences in arrays, which may be memory-mapped: they are never copied whole.

    Parameters
    ----------
    x : sequence of (T_i, features) ndarray
        One array for each sequence, real numbers of any dtype.
    y : sequence of (T_i,) or (T_i, targets) ndarray
        What belongs to each step.
    weights : sequence of (T_i,) ndarray, optional
        How much each step counts.
    """

    def __init__(self, x: Sequence[Array], y: Sequence[Array], weights: Sequence[Array] | None = None) -> None:
        self._x = x
        self._y = y
        self._weights = weights
        self.features = x[0].shape[1]
        self.lengths: Sequence[int] = [len(each) for each in x]
        self._maps = mappings([*x, *y, *(weights or ())])

    def lanes(self, count: int, order: Sequence[int]) -> Sequence[Lane]:
        """Cut all steps into at most ``count`` lanes whose lengths differ by 1 at most."""
        ends = list(itertools.accumulate(self.lengths[sequence] for sequence in order))
        total = ends[-1]
        bounds = [total * lane // count for lane in range(count + 1)]
        return [
            _ArrayLane(self, order, ends, begin, end)
            for begin, end in zip(bounds[:-1], bounds[1:], strict=True)
            if begin < end
        ]

    def parts(self) -> Iterator[Part]:
        """Yield all steps in order, some thousand at once; none crosses from one sequence to the next."""
        for sequence, length in enumerate(self.lengths):
            for begin in range(0, length, STEPS_PER_READ):
                yield self.part(sequence, begin, min(begin + STEPS_PER_READ, length))
                self.release()

    def part(self, sequence: int, begin: int, end: int) -> Part:
        """View some steps of one sequence."""
        weights = None if self._weights is None else self._weights[sequence][begin:end]
        return Part(self._x[sequence][begin:end], self._y[sequence][begin:end], weights)

    def release(self) -> None:
        """Unmap what was read of files, which stays in the system's cache as long as there is room."""
        for each in self._maps:
            each.madvise(mmap.MADV_DONTNEED)


class _ArrayLane:
    """Consecutive steps of the sequences of an `ArraySource` in an order, whose ends are ``ends``."""

    def __init__(self, source: ArraySource, order: Sequence[int], ends: Sequence[int], begin: int, end: int) -> None:
        self._source = source
        self._order = order
        self._ends = ends
        self._begin = begin
        self.length = end - begin
        inside = ends[bisect.bisect_right(ends, begin) : bisect.bisect_left(ends, end)]
        self.starts: Sequence[int] = sorted({each - begin for each in inside})

    def read(self, begin: int, end: int) -> Part:
        parts = []
        at, stop = self._begin + begin, self._begin + end
        while at < stop:
            place = self._place(at)
            sequence = self._order[place]
            first = self._ends[place] - self._source.lengths[sequence]
            until = min(self._ends[place], stop)
            parts.append(self._source.part(sequence, at - first, until - first))
            at = until
        return parts[0] if len(parts) == 1 else joined(parts)

    def sequence_at(self, step: int) -> int:
        return self._order[self._place(self._begin + step)]

    def _place(self, step: int) -> int:
        return bisect.bisect_right(self._ends, step)


class PieceSource:
    """Pieces of long sequences that come one after another: an iterator, or a function that makes a fresh one.

    Parameters
    ----------
    pieces : iterator or callable
        It gives pairs (x, y). x is (steps, features) or (steps,): the sequence goes on where the piece before ended; or
        (rows, steps, features): so many sequences side by side, each of which goes on. y is x without the axis of
        features, or has an axis of targets in its place. All pieces have the same rows and features.
    """

    def __init__(self, pieces: Iterator[Any] | Callable[[], Iterable[Any]]) -> None:
        self._pieces = pieces
        self.can_repeat = callable(pieces)
        self._started = False

    def open(self) -> Iterator[Part]:
        """Yield the pieces from the first one on, x as (steps, rows, features) and y as (steps, rows[, targets]).

        Raises
        ------
        ValueError
            If the pieces can be read only once and were read before, or if one does not fit those before it.
        TypeError
            If something is no pair, or holds no real numbers.
        """
        if callable(self._pieces):
            return _checked_pieces(iter(self._pieces()))
        if self._started:
            raise ValueError(
                "X: expected something that can be read again, got an iterator that was read before; pass a function "
                "that returns a fresh one"
            )
        self._started = True
        return _checked_pieces(self._pieces)


def joined(parts: Sequence[Part]) -> Part:
    """Join parts along their first axis, which are its steps."""
    weights = [part.weights for part in parts if part.weights is not None]
    return Part(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate(weights) if weights else None,
    )


def array_source(x: Any, y: Any, weights: Any = None) -> ArraySource:
    """Read X, y and the weights of steps as sequences, without a copy of arrays.

    Parameters
    ----------
    x : array_like or list of array_like
        (n, T, features); (n, T), which is one feature a step; or a list of (T_i, features) or (T_i,).
    y : array_like or list of array_like
        (n, T) or (n, T, targets), or a list of (T_i,) or (T_i, targets).
    weights : array_like or list of array_like, optional
        (n, T), or a list of (T_i,).

    Raises
    ------
    ValueError
        If the shapes do not fit together, or there is no step at all.
    TypeError
        If X does not hold real numbers.
    """
    sequences = [each[:, np.newaxis] if each.ndim == 1 else each for each in _sequences("X", x, (1, 2))]
    for place, each in enumerate(sequences):
        real_numbers(f"X[{place}]", each)
        if each.shape[1] != sequences[0].shape[1]:
            raise ValueError(
                f"X[{place}]: expected {sequences[0].shape[1]} features, as X[0] has, got {shape_text(each.shape)}"
            )
    targets = _of_steps("y", y, sequences, (1, 2), x)
    for place, each in enumerate(targets):
        if each.shape[1:] != targets[0].shape[1:]:
            expected = shape_text(("T", *targets[0].shape[1:]))
            raise ValueError(f"y[{place}]: expected {expected}, as y[0] is, got {shape_text(each.shape)}")
    counts = None if weights is None else _of_steps("sample_weight", weights, sequences, (1,), x)
    if not any(map(len, sequences)):
        raise ValueError("X: expected at least one step, got none")
    return ArraySource(sequences, targets, counts)


def mappings(arrays: Iterable[Any]) -> list[mmap.mmap]:
    """Find the memory-mapped files below arrays, as far as what was read of them can be unmapped and read again."""
    found: dict[int, mmap.mmap] = {}
    for array in arrays:
        mode = None
        base = array
        while isinstance(base, np.ndarray):
            mode = getattr(base, "mode", None)
            base = base.base
        # In mode "c" what the user changed is in memory alone.
        if isinstance(base, mmap.mmap) and mode != "c" and hasattr(base, "madvise"):
            found[id(base)] = base
    return list(found.values())


def _sequences(name: str, value: Any, axes: tuple[int, ...]) -> list[Array]:
    """Give the sequences of an array, along its first axis, or of a list."""
    if isinstance(value, (list, tuple)):
        sequences = [as_array(f"{name}[{place}]", each) for place, each in enumerate(value)]
        if not sequences:
            raise ValueError(f"{name}: expected at least one sequence, got none")
    else:
        array = as_array(name, value)
        if array.ndim - 1 not in axes or not len(array):
            shapes = " or ".join(shape_text(("n", "T", "features")[: count + 1]) for count in axes)
            raise ValueError(f"{name}: expected {shapes} or a list, got {shape_text(array.shape)}")
        sequences = list(array)
    for place, each in enumerate(sequences):
        if each.ndim not in axes:
            shapes = " or ".join(shape_text(("T", "features")[:count]) for count in axes)
            raise ValueError(f"{name}[{place}]: expected {shapes}, got {shape_text(each.shape)}")
    return sequences


def _of_steps(name: str, value: Any, sequences: Sequence[Array], axes: tuple[int, ...], x: Any) -> list[Array]:
    """Give what belongs to each step of each sequence."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    given: tuple[int, ...] = getattr(value, "shape", ())
    if len(shape) == 2 and given[:1] == shape[:1] and given[1:2] != shape[1:2]:
        raise ValueError(
            f"X: expected (n, T, features), or (n, T), which is one feature a step, got {shape_text(shape)} with "
            f"{name} {shape_text(given)}; if it is one long sequence of {shape[0]} steps, pass [X] and [y]"
        )
    each_step = _sequences(name, value, axes)
    if len(each_step) != len(sequences):
        raise ValueError(f"{name}: expected {len(sequences)} sequences, as X has, got {len(each_step)}")
    for place, (each, sequence) in enumerate(zip(each_step, sequences, strict=True)):
        if len(each) != len(sequence):
            raise ValueError(f"{name}[{place}]: expected {len(sequence)} steps, as X[{place}] has, got {len(each)}")
    return each_step


def _checked_pieces(pieces: Iterator[Any]) -> Iterator[Part]:
    """Check each piece, and put its steps first."""
    first: tuple[int, ...] | None = None
    targets: tuple[int, ...] = ()
    for number, piece in enumerate(pieces):
        if not isinstance(piece, (tuple, list)) or len(piece) != 2:
            raise TypeError(f"X: expected pieces (x, y), got {type(piece).__name__} as piece {number}")
        x = real_numbers(f"X, piece {number}", as_array(f"X, piece {number}", piece[0]))
        y = as_array(f"y, piece {number}", piece[1])
        if x.ndim not in (1, 2, 3):
            raise ValueError(
                f"X, piece {number}: expected (T, features), (T,) or (N, T, features), got {shape_text(x.shape)}"
            )
        if x.ndim == 1:
            x = x[:, np.newaxis]
        steps = x.shape[:-1]
        if y.shape[: len(steps)] != steps or y.ndim > x.ndim:
            expected = " or ".join(shape_text(shape) for shape in (steps, (*steps, "targets")))
            raise ValueError(f"y, piece {number}: expected {expected}, got {shape_text(y.shape)}")
        x = x[:, np.newaxis] if x.ndim == 2 else x.swapaxes(0, 1)
        y = y[:, np.newaxis] if len(steps) == 1 else y.swapaxes(0, 1)
        if first is None:
            first, targets = x.shape[1:], y.shape[2:]
        if x.shape[1:] != first:
            raise ValueError(
                f"X, piece {number}: expected {first[0]} row(s) and {first[1]} feature(s), as the first piece has, got "
                f"{x.shape[1]} and {x.shape[2]}"
            )
        if y.shape[2:] != targets:
            raise ValueError(f"y, piece {number}: expected the targets of the first piece, got {shape_text(y.shape)}")
        yield Part(x, y)
