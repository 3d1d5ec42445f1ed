"""Sequences of different lengths as one padded array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import as_array, boolean, real_numbers, shape_text

if TYPE_CHECKING:
    from latchwork._arrays import Array


def pad(sequences: Iterable[Any], batch_first: bool = False) -> tuple[Array, Array]:
    """Make one array of sequences that differ in length, and say how long each is: ``x, lengths = pad(sequences)``.

    ``network(x, lengths=lengths)`` then runs each sequence as if it were alone: no work is done on padding.

    Parameters
    ----------
    sequences : iterable of array_like
        At least one (N): each (T_i, features), or each (T_i,) for tokens, labels or masks. A length of 0 is allowed.
    batch_first : bool, default False
        Whether N is the first axis of the result, as layers built with ``batch_first=True`` have it.

    Returns
    -------
    x : numpy.ndarray
        (T, N, features) or (T, N), with ``batch_first`` (N, T, features) or (N, T); T is the longest length. Zero, or
        False, after the end of each sequence. The values and the dtype are those of the sequences; if their dtypes
        differ, the smallest that holds all, and bfloat16 becomes float32.
    lengths : numpy.ndarray of int64
        (N,): how many steps of each sequence are valid.

    Raises
    ------
    ValueError
        If there is no sequence, or one has other features or another number of axes.
    TypeError
        If ``sequences`` cannot be iterated over, or one does not hold real numbers or bool.

    Examples
    --------
    >>> import latchwork as lw
    >>> x, lengths = lw.pad([[[1.0], [2.0], [3.0]], [[4.0]]])
    >>> x.shape, lengths
    ((3, 2, 1), array([3, 1]))
    """
    batch_first = boolean("batch_first", batch_first)
    if not isinstance(sequences, Iterable):
        raise TypeError(f"sequences: expected an iterable of arrays, got {type(sequences).__name__}")
    given = list(sequences)
    if not given:
        raise ValueError("sequences: expected at least one array, got none")
    arrays: list[Array] = []
    for place, sequence in enumerate(given):
        name = f"sequences[{place}]"
        array = real_numbers(name, as_array(name, sequence))
        if array.ndim not in (1, 2):
            raise ValueError(f"{name}: expected (T,) or (T, features), got {shape_text(array.shape)}")
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            expected = shape_text(("T", *arrays[0].shape[1:]))
            raise ValueError(f"{name}: expected {expected}, as sequences[0] is, got {shape_text(array.shape)}")
        arrays.append(array)
    # An empty list has no dtype of its own: NumPy makes it float64, which would make numbers of tokens.
    typed = [array for array, each in zip(arrays, given, strict=True) if array.size or isinstance(each, np.ndarray)]
    lengths = np.array([len(array) for array in arrays], np.int64)
    shape = (len(arrays), int(lengths.max()), *arrays[0].shape[1:])
    padded = np.zeros(shape if batch_first else (shape[1], shape[0], *shape[2:]), np.result_type(*(typed or arrays)))
    rows = padded if batch_first else padded.swapaxes(0, 1)
    for row, array in zip(rows, arrays, strict=True):
        row[: len(array)] = array
    return padded, lengths
