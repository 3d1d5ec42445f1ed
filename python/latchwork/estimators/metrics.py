"""How good predictions are, with scikit-learn's definitions and the same bits on every CPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array


def r2_score(y: Array, predicted: Array, weights: Array | None = None) -> float:
    """Coefficient of determination, the mean over outputs.

    Parameters
    ----------
    y, predicted : numpy.ndarray
        (n, K). Where y is NaN it does not count.
    weights : numpy.ndarray, optional
        (n,).

    Returns
    -------
    float
        For an output whose targets are all equal 1 if the predictions are too, else 0; NaN if fewer than two targets
        count.
    """
    scores = []
    for target, estimate in zip(y.astype(np.float64).T, predicted.astype(np.float64).T, strict=True):
        weight = np.ones(len(target)) if weights is None else weights.astype(np.float64)
        counts = ~np.isnan(target) & (weight > 0)
        target, estimate, weight = target[counts], estimate[counts], weight[counts]
        if len(target) < 2:
            return math.nan
        mean = math.fsum(weight * target) / math.fsum(weight)
        residual = math.fsum(weight * (target - estimate) ** 2)
        total = math.fsum(weight * (target - mean) ** 2)
        scores.append(1.0 - residual / total if total else float(residual == 0))
    return math.fsum(scores) / len(scores)


def accuracy(correct: Array, weights: Array | None = None) -> float:
    """Weighted share of what is true; NaN if nothing counts."""
    weight = np.ones(len(correct)) if weights is None else weights.astype(np.float64)
    total = math.fsum(weight)
    return math.fsum(weight[correct]) / total if total else math.nan
