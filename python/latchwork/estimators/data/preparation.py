"""Numbers that bring features and targets to a common scale, and which features have gaps.

All sums are the core's own: the same bits with every version of NumPy and on every CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork.estimators.data.gaps import Gaps

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.sequences import Sequences
    from latchwork.estimators.data.targets import Targets

SCALES = ("standard", "robust", None)

_NUMBERS = 1 << 17  # how many numbers are looked at at once: few enough for the cache


def check_scale(scale: Any) -> None:
    """Raise ValueError unless this is one of `SCALES`."""
    if scale not in SCALES:
        raise ValueError(f'scale: expected "standard", "robust" or None, got {scale!r}')


def fit_scale(sequences: Sequences, how: str | None, categorical: Sequence[int] = ()) -> tuple[Array, Array]:
    """Find the shift and the factor of each feature: ``(x - shift) * factor`` is on a common scale.

    Parameters
    ----------
    sequences : Sequences
        The training data. NaN does not count.
    how : {"standard", "robust", None}
        "standard": the mean, and one over the standard deviation (that of the population, as scikit-learn's
        StandardScaler has it). "robust": the median, and one over the distance of the quartiles; if that is zero
        although the feature is not constant, one over the standard deviation. None: 0 and 1.
    categorical : sequence of int
        Features that hold codes: 0 and 1.

    Returns
    -------
    shift, factor : ndarray of float64
        (features,), the static ones behind the others. A constant feature has its value and 1, and one that is missing
        everywhere 0 and 1.
    """
    check_scale(how)
    shift, factor = scale_of(sequences.values, how)
    if sequences.static is not None:
        static = scale_of(sequences.static, how)
        shift, factor = np.concatenate([shift, static[0]]), np.concatenate([factor, static[1]])
    places = list(categorical)
    shift[places], factor[places] = 0.0, 1.0
    return shift, factor


def fit_target_scale(targets: Targets, how: str | None) -> tuple[Array, Array]:
    """Find the shift and the factor of each target, as `fit_scale` does; targets of weight 0 do not count."""
    check_scale(how)
    values = targets.values
    if targets.weights is not None:
        weights = targets.weights.reshape(len(values), -1)
        if not weights.all():
            values = np.where(weights > 0, values, np.nan)
    return scale_of(values, how)


def gaps_of(sequences: Sequences) -> Gaps:
    """Find the gaps of all features, static ones behind the others."""
    gaps = Gaps(sequences.values.shape[1])
    if not _core.all_finite(sequences.values):  # else there is nothing to look for
        for piece in _pieces(sequences.values):
            gaps.add(np.isnan(piece))
    if sequences.static is None:
        return gaps
    static = Gaps(sequences.static.shape[1])
    static.add(np.isnan(sequences.static))
    return gaps.beside(static)


def scale_of(values: Array, how: str | None) -> tuple[Array, Array]:
    """Find the shift and the factor of each column of (rows, columns), as `fit_scale` says."""
    columns = values.shape[1]
    if how is None or not len(values):
        return np.zeros(columns), np.ones(columns)
    counts, least, most = extent(values)
    shift, spread = _mean_and_deviation(values, counts, least, most)
    if how == "robust":
        for column in np.flatnonzero(least < most):
            shift[column], distance = _median_and_quartiles(values[:, column], int(counts[column]))
            spread[column] = distance or spread[column]
    constant = ~(least < most)
    shift[constant] = np.where(counts > 0, least, 0.0)[constant]
    return shift + 0.0, inverse(spread, constant, values.dtype)  # never -0.0: which zero the least is, is not said


def inverse(spread: Array, constant: Array, dtype: np.dtype[Any]) -> Array:
    """Give 1 over each spread, as far as the dtype holds that; 1 where a column is constant, or there is no spread."""
    with np.errstate(all="ignore"):
        factor: Array = 1.0 / spread
    factor[constant | ~(factor > 0) | (spread == 0)] = 1.0
    return np.minimum(factor, float(np.finfo(dtype).max))


def _pieces(values: Array) -> Iterator[Array]:
    rows = 1 << max((_NUMBERS // max(values.shape[1], 1)).bit_length() - 1, 0)
    return (values[begin : begin + rows] for begin in range(0, len(values), rows))


def extent(values: Array) -> tuple[Array, Array, Array]:
    """Find how many numbers each column has, and the least and the largest; without any, inf and -inf."""
    return _core.column_extents(np.ascontiguousarray(values))


def _mean_and_deviation(values: Array, counts: Array, least: Array, most: Array) -> tuple[Array, Array]:
    """Give the mean and the standard deviation of each column; of one without numbers, 0 and 0."""
    some = counts > 0
    # In units of a power of two, exactly, so that no sum and no square leaves the range of float64.
    largest = np.where(some, np.maximum(np.abs(least), np.abs(most)), 0.0)
    unit = np.array([math.ldexp(1.0, min(max(math.frexp(each)[1], -1020), 1020)) for each in largest.tolist()])
    divisor = np.maximum(counts, 1)
    values = np.ascontiguousarray(values)
    mean = _core.column_sums(values, unit, None) / divisor
    variance = _core.column_sums(values, unit, mean) / divisor
    return mean * unit, np.sqrt(variance) * unit


def _median_and_quartiles(column: Array, count: int) -> tuple[float, float]:
    """Give the median and the distance of the quartiles of the numbers of a column that has so many."""
    positions = [share * (count - 1) for share in (0.25, 0.5, 0.75)]
    lower = [math.floor(position) for position in positions]
    ranks = sorted({*lower, *(min(rank + 1, count - 1) for rank in lower)})
    ordered = np.partition(column, ranks)  # NaN comes last
    quartiles = []
    for position, rank in zip(positions, lower, strict=True):
        below, above = float(ordered[rank]), float(ordered[min(rank + 1, count - 1)])
        share = position - rank
        quartiles.append(below * (1.0 - share) + above * share)
    return quartiles[1], quartiles[2] - quartiles[0]
