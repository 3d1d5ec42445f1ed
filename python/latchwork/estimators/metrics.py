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
        (n,) or (n, K).

    Returns
    -------
    float
        For an output whose targets are all equal 1 if the predictions are too, else 0; NaN if fewer than two targets
        count.
    """
    scores = []
    each_weight = np.ones((1, 1)) if weights is None else weights.astype(np.float64).reshape(len(y), -1)
    every_weight = np.broadcast_to(each_weight, y.shape)
    for target, estimate, weight in zip(
        y.astype(np.float64).T, predicted.astype(np.float64).T, every_weight.T, strict=True
    ):
        counts = ~np.isnan(target) & (weight > 0)
        known, estimated, weighted = target[counts], estimate[counts], weight[counts]
        if len(known) < 2:
            return math.nan
        mean = _sum(weighted * known) / _sum(weighted)
        residual = _sum(weighted * (known - estimated) ** 2)
        total = _sum(weighted * (known - mean) ** 2)
        scores.append(1.0 - residual / total if total else float(residual == 0))
    return math.fsum(scores) / len(scores)


def accuracy(correct: Array, weights: Array | None = None) -> float:
    """Weighted share of what is true; NaN if nothing counts."""
    weight = np.ones(len(correct)) if weights is None else weights.astype(np.float64)
    total = _sum(weight)
    return _sum(weight[correct]) / total if total else math.nan


def _sum(numbers: Array) -> float:
    return math.fsum(numbers.tolist())
