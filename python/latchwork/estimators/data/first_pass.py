"""What one pass over long data finds: how columns are scaled, where something is missing, which labels there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork.estimators.data.gaps import Gaps
from latchwork.estimators.data.labels import class_codes, distinct_labels
from latchwork.estimators.data.preparation import inverse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array

_ROWS = 16384  # rows whose sums are formed at once


class ColumnNumbers:
    """Count, mean and spread of columns whose rows come piece by piece; NaN does not count.

    The mean and the squares around it of one piece after another are joined to those of all before (Chan, Golub and
    LeVeque, 1983), in float64 and in the order in which rows come, so that every CPU finds the same bits.

    Parameters
    ----------
    columns : int
        How many there are.
    dtype : {"float32", "float64"}, default "float64"
        In what they are to be scaled.
    """

    def __init__(self, columns: int, dtype: DTypeLike = "float64") -> None:
        self._dtype = np.dtype(dtype)
        self.counts = np.zeros(columns, np.int64)
        self.gaps = Gaps(columns)
        self._mean = np.zeros(columns)
        self._squares = np.zeros(columns)
        self._least = np.full(columns, np.inf)
        self._most = np.full(columns, -np.inf)

    def add(self, values: Array) -> None:
        """Look at the next rows, (rows, columns) of real numbers."""
        for begin in range(0, len(values), _ROWS):
            self._add(values[begin : begin + _ROWS].astype(np.float64))

    def _add(self, rows: Array) -> None:
        self.gaps.add(np.isnan(rows))
        counts, least, most = _core.column_extents(rows)
        self._least, self._most = np.minimum(self._least, least), np.maximum(self._most, most)
        units, divisor = np.ones(rows.shape[1]), np.maximum(counts, 1)
        own = _core.column_sums(rows, units, None) / divisor
        rows -= own
        # What is left corrects the rounding of the mean.
        rest = _core.column_sums(rows, units, None) / divisor
        squares = _core.column_sums(rows, units, np.zeros(len(units))) - counts * rest * rest
        own += rest
        total = self.counts + counts
        share = counts / np.maximum(total, 1)
        apart = own - self._mean
        self._squares += squares + apart * apart * (self.counts * share)
        self._mean += apart * share
        self.counts = total

    def scale(self, how: str | None) -> tuple[Array, Array]:
        """Give the shift and the factor of each column.

        Parameters
        ----------
        how : {"standard", None}
            "standard": the mean, and one over the standard deviation, that of the population. None: 0 and 1.

        Returns
        -------
        shift, factor : ndarray of float64
            (columns,). A constant column has its value and 1, and one that is missing everywhere 0 and 1.
        """
        if how is None:
            return np.zeros(len(self.counts)), np.ones(len(self.counts))
        some = self.counts > 0
        constant = ~(self._least < self._most)
        shift = np.where(constant, np.where(some, self._least, 0.0), self._mean)
        spread = np.sqrt(self._squares / np.maximum(self.counts, 1))
        return shift, inverse(spread, constant, self._dtype)


class LabelCounts:
    """How often each label comes, piece by piece."""

    def __init__(self) -> None:
        self._counts: dict[Any, int] = {}
        self._dtype: np.dtype[Any] | None = None

    def add(self, labels: Array, place: Callable[[int], str]) -> None:
        """Look at the next labels, (rows,); ``place`` says in words where each was given.

        Raises
        ------
        ValueError, TypeError
            As for `class_codes`.
        """
        found, inverse = distinct_labels(labels, place)
        self._dtype = self._dtype or labels.dtype
        for label, count in zip(found, np.bincount(inverse, minlength=len(found)).tolist(), strict=True):
            if label is not None:
                self._counts[label] = self._counts.get(label, 0) + count

    def counts_of(self, classes: Array) -> Array:
        """Give how often each of these labels came, (classes,)."""
        return np.array([self._counts.get(label, 0) for label in classes.tolist()], np.int64)

    def classes(self) -> tuple[Array, Array]:
        """Give the different labels, sorted, and how often each came.

        Raises
        ------
        ValueError
            If there was none that is not missing.
        TypeError
            If some are texts and others numbers.
        """
        labels = np.empty(len(self._counts), object)
        labels[:] = list(self._counts)
        codes, classes = class_codes(labels)
        counts = np.zeros(len(classes), np.int64)
        counts[codes] = list(self._counts.values())
        if self._dtype is not None and self._dtype.kind != "O":
            classes = np.array(classes.tolist())
        return classes, counts
