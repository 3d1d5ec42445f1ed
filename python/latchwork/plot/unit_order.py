"""An order of units in which those that do alike stand side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array


def similar_side_by_side(courses: Array) -> Array:
    """Sort units by the similarity of their courses.

    Average linkage joins the two clusters that are nearest on average until one is left, and of the four ways to put
    two clusters side by side takes the one whose touching ends are most alike: Eisen, Spellman, Brown and Botstein,
    "Cluster analysis and display of genome-wide expression patterns", PNAS 95 (1998). The end whose courses are higher
    comes first.

    Parameters
    ----------
    courses : numpy.ndarray
        (steps, units). What is not finite counts as 0.

    Returns
    -------
    numpy.ndarray of int
        (units,), the units in their order.
    """
    points = np.nan_to_num(courses.T.astype(np.float64), nan=0, posinf=0, neginf=0)
    count = len(points)
    if count < 2:
        return np.arange(count)
    between = _distances(points)
    averages = between.copy()
    np.fill_diagonal(averages, np.inf)
    nearest = averages.argmin(axis=1)
    least = averages[np.arange(count), nearest]
    clusters = [[unit] for unit in range(count)]
    for _ in range(count - 1):
        one = int(least.argmin())
        other = int(nearest[one])
        sizes = len(clusters[one]), len(clusters[other])
        clusters[one] = _joined(clusters[one], clusters[other], between)
        merged = (sizes[0] * averages[one] + sizes[1] * averages[other]) / sum(sizes)
        merged[one] = np.inf
        averages[one] = averages[:, one] = merged
        averages[other] = averages[:, other] = np.inf
        least[other] = np.inf
        closer = merged < least
        nearest[closer] = one
        least[closer] = merged[closer]
        # Whose nearest was one of the two, looks for its nearest anew. Average linkage brings no two clusters closer.
        for changed in np.flatnonzero(((nearest == one) | (nearest == other)) & np.isfinite(least) & ~closer):
            nearest[changed] = averages[changed].argmin()
            least[changed] = averages[changed, nearest[changed]]
        nearest[one] = merged.argmin()
        least[one] = merged[nearest[one]]
    order = np.array(clusters[one])
    means = points[order].mean(axis=1)
    half = count // 2
    return order if means[:half].sum() >= means[count - half :].sum() else order[::-1]


def _joined(one: list[int], other: list[int], between: Array) -> list[int]:
    ways = [(one, other), (one[::-1], other), (one, other[::-1]), (one[::-1], other[::-1])]
    left, right = min(ways, key=lambda way: between[way[0][-1], way[1][0]])
    return left + right


def _distances(points: Array) -> Array:
    squares = np.einsum("ij,ij->i", points, points)
    distances: Array = np.sqrt(np.maximum(squares[:, np.newaxis] + squares - 2 * points @ points.T, 0))
    return distances
