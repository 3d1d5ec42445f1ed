"""How much of a value that was seen last still holds some steps later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latchwork import _core

if TYPE_CHECKING:
    from latchwork._arrays import Array

# Distances in steps at which values are compared. A gap's step counts for the largest that is not above its age.
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

_ROWS = 16384  # rows that are looked at at once
_CANDIDATES = 64  # of each refinement


class Persistence:
    """What a column's distance from its mean is to be multiplied by at each step at which it is missing.

    The best linear guess of a value d steps after the one that was seen last is the mean plus a share of the last
    value's distance from it. The share is taken to be p**d, with one p from 0 to 1 for each column: the one with the
    least squared error over all pairs of values that are there, each distance weighted by how often a gap's step is so
    far from the value seen last. All sums are the core's own, so that every CPU finds the same bits.

    Rows come piece by piece, first all or at least some of those that `add_gaps` counts, then those of `add_pairs`,
    which looks only at distances that were counted.

    Parameters
    ----------
    columns : int
        How many there are.
    """

    def __init__(self, columns: int) -> None:
        shape = (len(_LAGS), columns)
        self._gaps = np.zeros(shape, np.int64)  # steps that are missing, by their distance from the value seen last
        self._last = np.full(columns, -(1 << 62))  # the row that was seen last, counted from the next row on
        self._pairs = np.zeros(shape, np.int64)
        # Over the pairs, of differences from `_origin`: first value, second value, product, square of the first.
        self._sums = np.zeros((4, *shape))
        self._origin = np.full(columns, np.nan)  # some value of the column, near which sums lose no digits
        self._before = np.full((_LAGS[-1], columns), np.nan)  # the rows before the next one

    def add_gaps(self, values: Array, positions: Array) -> None:
        """Count the gaps of the next rows, (rows, columns), at these steps of their sequences, (rows,)."""
        for begin in range(0, len(values), _ROWS):
            self._add_gaps(np.isnan(values[begin : begin + _ROWS]), positions[begin : begin + _ROWS])

    def add_pairs(self, values: Array, positions: Array) -> None:
        """Compare the next rows, (rows, columns), at these steps of their sequences, with those before them."""
        if self._gaps.any():
            for begin in range(0, len(values), _ROWS):
                rows = values[begin : begin + _ROWS].astype(np.float64)
                self._add_pairs(rows, positions[begin : begin + _ROWS])

    def fitted(self, mean: Array) -> Array:
        """Give the share that is kept at each step, (columns,), with respect to these means.

        It is 1 where there are no two values to compare. A column without gaps is fitted to those of all.
        """
        weights = np.where(self._gaps.any(axis=0), self._gaps, self._gaps.sum(axis=1, keepdims=True)).astype(np.float64)
        count = np.maximum(self._pairs, 1)
        shift = np.where(np.isnan(self._origin), 0.0, mean - self._origin)
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range of float64 is not compared
            first, second, product, square = self._sums / count
            covariance = product - shift * (first + second) + shift * shift
            variance = square - 2.0 * shift * first + shift * shift
        usable = (self._pairs > 0) & np.isfinite(covariance) & np.isfinite(variance)
        weights[~usable], covariance[~usable], variance[~usable] = 0.0, 0.0, 0.0
        return _least_squares(weights, covariance, variance)

    def _add_gaps(self, missing: Array, positions: Array) -> None:
        if not missing.any():
            self._last[:] = -1
            return
        rows = np.arange(len(missing))[:, np.newaxis]
        last = np.maximum(np.maximum.accumulate(np.where(missing, -(1 << 62), rows), axis=0), self._last)
        ages = np.where(missing & (last >= rows - positions[:, np.newaxis]), rows - last, 0)
        for place, lag in enumerate(_LAGS):
            longer = _LAGS[place + 1] if place + 1 < len(_LAGS) else 1 << 62
            self._gaps[place] += ((ages >= lag) & (ages < longer)).sum(axis=0)
        self._last = np.maximum(last[-1] - len(missing), -(1 << 62))

    def _add_pairs(self, rows: Array, positions: Array) -> None:
        seen = ~np.isnan(rows)
        new = np.isnan(self._origin) & seen.any(axis=0)
        self._origin[new] = rows[seen.argmax(axis=0), np.arange(len(new))][new]
        rows -= self._origin
        joined = np.concatenate([self._before, rows])
        units = np.ones(rows.shape[1])
        for place in np.flatnonzero(self._gaps.any(axis=1)):
            lag = _LAGS[place]
            first = joined[len(self._before) - lag : -lag]
            both = seen & ~np.isnan(first) & (positions >= lag)[:, np.newaxis]
            with np.errstate(over="ignore", invalid="ignore"):
                parts = (first, rows, first * rows, first * first)
            self._pairs[place] += both.sum(axis=0)
            for number, part in enumerate(parts):
                self._sums[number, place] += _core.column_sums(np.where(both, part, np.nan), units, None)
        self._before = joined[-len(self._before) :]


def _least_squares(weights: Array, covariance: Array, variance: Array) -> Array:
    """Find the p of each column, (columns,), with the least squared error; of several the largest.

    The error is the sum over lags of ``weights * (variance * p**(2 * lag) - 2 * covariance * p**lag)``, apart from what
    does not depend on p. All three are (lags, columns).
    """
    columns = np.arange(weights.shape[1])
    best, reach = np.full(len(columns), 0.5), 0.5
    for _ in range(3):
        steps = np.arange(_CANDIDATES, -1, -1)[:, np.newaxis] / _CANDIDATES
        candidates = np.clip(best + reach * (2.0 * steps - 1.0), 0.0, 1.0)
        error, power, exponent = np.zeros_like(candidates), np.ones_like(candidates), 0
        for place, lag in enumerate(_LAGS):
            while exponent < lag:
                power, exponent = power * candidates, exponent + 1
            error += weights[place] * (variance[place] * power * power - 2.0 * covariance[place] * power)
        best = candidates[error.argmin(axis=0), columns]
        reach = 2.0 * reach / _CANDIDATES
    return best
