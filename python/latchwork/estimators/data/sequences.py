"""Sequences of different lengths in one contiguous array, and the batches that are made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array

Update = Callable[[Any], object]  # takes bytes, as the method `update` of a hash does

_PIECE = 1 << 20  # numbers that are fed to a hash at once


class Sequences:
    """Sequences of real numbers that may differ in length, one behind the other in one array.

    Parameters
    ----------
    values : ndarray of float32 or float64
        (total_steps, features), C-contiguous. NaN stands for a missing value.
    offsets : ndarray of int64
        (n + 1,): sequence i is ``values[offsets[i]:offsets[i + 1]]``.
    static : ndarray, optional
        (n, static_features) in the dtype of ``values``: what stays the same over a sequence. A batch has it at every
        step, behind the features.
    names : sequence of str, optional
        The features' names, and behind them those of the static features.
    categories : mapping, optional
        For the number of each feature of codes, what they stand for. Names and categories are fed to hashes.
    """

    def __init__(
        self,
        values: Array,
        offsets: Array,
        static: Array | None = None,
        names: tuple[str, ...] | None = None,
        categories: Mapping[int, list[Any]] | None = None,
    ) -> None:
        self.values = values
        self.offsets = offsets
        self.static = static
        self.names = names
        self.categories = categories or {}
        self.lengths: Array = np.diff(offsets)
        same = len(self.lengths) > 0 and bool((self.lengths == self.lengths[0]).all())
        self.equal_length: int | None = int(self.lengths[0]) if same else None  # None if the sequences differ in length

    def __len__(self) -> int:
        """Return how many sequences there are."""
        return len(self.lengths)

    @property
    def total_steps(self) -> int:
        """Steps of all sequences together."""
        return int(self.offsets[-1])

    @property
    def features(self) -> int:
        """How many features a batch has: those of each step and the static ones."""
        static = 0 if self.static is None else self.static.shape[1]
        return int(self.values.shape[1]) + static

    def take(self, samples: Any) -> Sequences:
        """Return the sequences of these numbers, in this order. A range of neighbours shares memory with this."""
        samples = sample_numbers(samples, len(self))
        offsets = np.zeros(len(samples) + 1, np.int64)
        np.cumsum(self.lengths[samples], out=offsets[1:])
        static = None if self.static is None else self.static[samples]
        return Sequences(take_steps(self.values, self.offsets, samples), offsets, static, self.names, self.categories)

    def batch(self, samples: Any) -> tuple[Array, Array | None]:
        """Make a batch of the sequences of these numbers.

        Parameters
        ----------
        samples : array_like of int
            (n,), each from 0 to ``len(self) - 1``.

        Returns
        -------
        x : ndarray
            (T, n, features); zero behind the end of each sequence. It is not to be written, because it may be a view.
        lengths : ndarray of int64 or None
            (n,); None if all are equal.
        """
        samples = sample_numbers(samples, len(self))
        lengths: Array | None = self.lengths[samples]
        x = pad_steps(self.values, self.offsets, samples, self.equal_length, self.static)
        if self.equal_length is not None or (lengths == x.shape[0]).all():
            lengths = None
        return x, lengths

    def unbatch(self, output: Array, samples: Any, into: Array) -> None:
        """Write the output (T, n, ...) of a batch of these samples into (total_steps, ...), without padding."""
        samples = sample_numbers(samples, len(self))
        by_sample = output.swapaxes(0, 1)
        if self.equal_length is not None:
            into.reshape(len(self), self.equal_length, *into.shape[1:])[samples] = by_sample
            return
        valid = np.arange(output.shape[0]) < self.lengths[samples][:, np.newaxis]
        into[_steps_of(self.offsets, samples)] = by_sample[valid]

    def feed(self, update: Update) -> None:
        """Feed dtype, shapes, names, lengths and values to a hash, the same bytes on every machine."""
        static = None if self.static is None else self.static.shape
        head = {
            "dtype": self.values.dtype.name,
            "shape": self.values.shape,
            "static": static,
            "names": self.names,
            "categories": sorted(self.categories.items()),
        }
        update(json.dumps(head, separators=(",", ":")).encode())
        for array in (self.lengths, self.values, self.static):
            feed_array(array, update)


def sample_numbers(samples: Any, count: int) -> Array:
    """Read numbers of samples, from a slice too."""
    if isinstance(samples, slice):
        return np.arange(*samples.indices(count))
    numbers: Array = np.asarray(samples, np.int64)
    return numbers


def is_range(samples: Array) -> bool:
    """Say whether samples are neighbours in ascending order."""
    count = len(samples)
    return count > 0 and bool(samples[-1] - samples[0] == count - 1 and (np.diff(samples) == 1).all())


def take_steps(values: Array, offsets: Array, samples: Array) -> Array:
    """Return the steps of these samples one behind the other; a view if they are neighbours."""
    if is_range(samples):
        near: Array = values[offsets[samples[0]] : offsets[samples[-1] + 1]]
        return near
    taken: Array = values[_steps_of(offsets, samples)]
    return taken


def pad_steps(
    values: Array, offsets: Array, samples: Array, equal_length: int | None, static: Array | None = None
) -> Array:
    """Return the steps of these samples, (T, n, ...) with zeros behind the end of each, and static features at each.

    It is a transposed view of (n, T, ...): the steps of a sequence are copied as they lie, which is several times as
    fast as to bring those of one moment together, and the core reads either.
    """
    count, trailing = len(samples), values.shape[1:]
    if equal_length is not None and len(values):
        whole = values.reshape(-1, equal_length, *trailing)
        near = is_range(samples)
        steps = whole[samples[0] : samples[-1] + 1] if near else whole.take(samples, axis=0)
        if static is not None:
            steps = _with_static(steps, static[samples], None)
        return steps.swapaxes(0, 1)
    starts = offsets[samples]
    lengths = offsets[samples + 1] - starts
    longest = int(lengths.max(initial=0))
    # So many steps are copied of each sample, of the next ones too if it is shorter: one piece of memory for each.
    last = len(values) - longest
    flat = np.ascontiguousarray(values).reshape(-1)
    width = len(flat) // max(len(values), 1)
    pieces = np.lib.stride_tricks.as_strided(
        flat, (last + 1, longest * width), (width * flat.itemsize, flat.itemsize), writeable=False
    )
    padded: Array = np.ascontiguousarray(pieces[np.minimum(starts, last)]).reshape(count, longest, *trailing)
    for place in np.flatnonzero(starts > last):  # a few at the end of all values
        padded[place, : lengths[place]] = values[starts[place] : starts[place] + lengths[place]]
    valid = np.arange(longest) < lengths[:, np.newaxis]
    padded.reshape(count * longest, *trailing)[np.flatnonzero(~valid)] = 0
    if static is not None:
        padded = _with_static(padded, static[samples], valid)
    return padded.swapaxes(0, 1)


def _with_static(steps: Array, static: Array, valid: Array | None) -> Array:
    """Append static features (n, S) to each step of (n, T, F), except in padding."""
    count, length, features = steps.shape
    joined = np.empty((count, length, features + static.shape[1]), steps.dtype)
    joined[..., :features] = steps
    joined[..., features:] = static[:, np.newaxis]
    if valid is not None:
        joined[~valid, features:] = 0
    return joined


def _steps_of(offsets: Array, samples: Array) -> Array:
    """Return the place of each step of these samples, sample after sample."""
    lengths = offsets[samples + 1] - offsets[samples]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    # In a sample the places count on; from one to the next they jump.
    places: Array = np.arange(total) + np.repeat(offsets[samples] - (ends - lengths), lengths)
    return places


def feed_array(array: Array | None, update: Update) -> None:
    """Feed the numbers of a contiguous array to a hash, in little-endian bytes whatever the machine's own are."""
    if array is None:
        return
    flat = array.reshape(-1)
    for begin in range(0, len(flat), _PIECE):
        piece = flat[begin : begin + _PIECE]
        update(np.ascontiguousarray(piece, piece.dtype.newbyteorder("<")).data)
