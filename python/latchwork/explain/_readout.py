"""The arithmetic of `probe`: ridge regression from sums of products, and areas under ROC curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array

# How many numbers are converted to float64 at a time.
_CHUNK = 1 << 22

# Below this share of the sum of squares, a variance is the rounding of a constant.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Moments:
    """Sums over steps of products of [1, values - shift, targets], from which every fit follows."""

    sums: Array
    units: int

    @classmethod
    def of(cls, values: Array, targets: Array, shift: Array) -> Moments:
        """Sum over all steps. ``shift``: about the mean of the values, so that nothing is lost to rounding."""
        units = values.shape[1]
        sums = np.zeros((1 + units + targets.shape[1],) * 2)
        start = 0
        for chunk in chunks_of(values):
            end = start + len(chunk)
            rows = np.concatenate([np.ones((len(chunk), 1)), chunk - shift, targets[start:end]], axis=1)
            sums += rows.T @ rows
            start = end
        return cls(sums, units)

    @classmethod
    def none(cls, like: Moments) -> Moments:
        """Give the sums over no steps."""
        return cls(np.zeros_like(like.sums), like.units)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.sums + other.sums, self.units)

    def _covariances(self) -> tuple[Array, Array, Array]:
        """Give the covariances, exact zeros for what is constant, the means, and the standard deviations."""
        mean_products = self.sums[1:, 1:] / self.sums[0, 0]
        means = self.sums[0, 1:] / self.sums[0, 0]
        covariances = mean_products - np.outer(means, means)
        constant = covariances.diagonal() <= _ROUNDING * mean_products.diagonal()
        covariances[constant] = 0.0
        covariances[:, constant] = 0.0
        return covariances, means, np.where(constant, 1.0, np.sqrt(np.maximum(covariances.diagonal(), 0.0)))

    def ridge(self, strength: float) -> tuple[Array, Array, Array]:
        """Fit targets to values: weights (units, targets) and intercepts for values - shift; the targets' means too."""
        covariances, means, deviations = self._covariances()
        units = self.units
        scale = deviations[:units]
        inner = covariances[:units, :units] / np.outer(scale, scale) + strength * np.eye(units)
        weights = np.linalg.solve(inner, covariances[:units, units:] / scale[:, np.newaxis]) / scale[:, np.newaxis]
        return weights, means[units:] - means[:units] @ weights, means[units:]

    def r2(self) -> Array:
        """Give the share of the only target's variance that a line on each value alone explains."""
        covariances, _, deviations = self._covariances()
        correlations = covariances[:-1, -1] / (deviations[:-1] * deviations[-1])
        explained: Array = np.minimum(correlations**2, 1.0)
        return explained


class Pairwise:
    """Areas under ROC curves between all pairs of classes, summed over parts that are only compared in themselves."""

    def __init__(self, classes: int) -> None:
        self._right = np.zeros((classes, classes))
        self._pairs = np.zeros((classes, classes))

    def add_values(self, of_classes: Sequence[Array]) -> None:
        """Compare the values of one unit, which the classes have: (steps of the class,) each."""
        ordered = [np.sort(values) for values in of_classes]
        for first in range(len(ordered)):
            for second in range(first):
                self._add(first, second, ordered[first], ordered[second])

    def add_decisions(self, of_classes: Sequence[Array]) -> None:
        """Compare by the difference of what a fit says for two classes: (steps of the class, classes) each."""
        for first in range(len(of_classes)):
            for second in range(first):
                for_first, for_second = (each[:, first] - each[:, second] for each in
                                         (of_classes[first], of_classes[second]))  # fmt: skip
                self._add(first, second, for_first, np.sort(for_second))

    def mean(self, either_way: bool) -> float:
        """Average over the pairs of which there are both; ``either_way``: each taken as rising or as falling."""
        there = self._pairs > 0
        areas = self._right[there] / self._pairs[there]
        return float((np.maximum(areas, 1.0 - areas) if either_way else areas).mean())

    def _add(self, first: int, second: int, values: Array, ordered: Array) -> None:
        """Count how often a value exceeds one of the other class; ties count half."""
        below = np.searchsorted(ordered, values, "left").sum() + np.searchsorted(ordered, values, "right").sum()
        self._right[first, second] += below / 2
        self._pairs[first, second] += float(len(values)) * len(ordered)


def chunks_of(values: Array) -> Iterator[Array]:
    """Give rows in float64, some at a time."""
    rows = max(1, _CHUNK // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        yield values[start : start + rows].astype(np.float64)
