"""Whether peers agree, before any of them is timed."""

from collections.abc import Mapping

import numpy as np

from latchwork.benchmark.cases import Array

# Largest difference allowed, over max(1, largest magnitude) of each tensor, by dtype and kind.
TOLERANCES = {
    "float32": {"forward": 1e-5, "step": 1e-5, "training": 1e-4, "update": 1e-5},
    "float64": {"forward": 1e-13, "step": 1e-13, "training": 1e-12, "update": 1e-13},
}


def largest_difference(results: Mapping[str, Array], reference: Mapping[str, Array]) -> float:
    """Find the largest difference of any tensor, over max(1, its largest magnitude).

    It is infinite if names or shapes differ or a number is not finite.
    """
    if results.keys() != reference.keys():
        return float("inf")
    return max(_difference(results[name], reference[name]) for name in reference)


def _difference(result: Array, reference: Array) -> float:
    if result.shape != reference.shape:
        return float("inf")
    largest = float(np.max(np.abs(result.astype(np.float64) - reference), initial=0.0))
    scale = max(1.0, float(np.max(np.abs(reference), initial=0.0)))
    return largest / scale if np.isfinite(largest) else float("inf")
