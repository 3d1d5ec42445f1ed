"""What anybody would predict without a model, to be printed beside a score so that it means something."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array


def mean(targets: Array) -> float:
    """Mean of numbers, of which those that are NaN do not count; NaN if none does.

    Parameters
    ----------
    targets : numpy.ndarray
        (n,), those of training.
    """
    known = targets[~np.isnan(targets)].tolist()
    return math.fsum(known) / len(known) if known else math.nan


def majority_class(codes: Array) -> int:
    """Give the class that most targets have, of equally frequent ones the first.

    Parameters
    ----------
    codes : numpy.ndarray of int
        (n,), those of training; those below 0 do not count. At least one does.
    """
    return int(np.argmax(np.bincount(codes[codes >= 0])))


def last_values(targets: Array, offsets: Array, first: Any) -> Array:
    """Predict, at each step, the target of the step before it: persistence, the naive forecast of a random walk.

    Parameters
    ----------
    targets : numpy.ndarray
        (total_steps,): numbers, of which NaN ones are unknown, or classes, of which those below 0 are.
    offsets : numpy.ndarray of int
        (n + 1,): where each sequence begins.
    first : scalar
        What is predicted as long as no target of the sequence is known.

    Returns
    -------
    numpy.ndarray
        (total_steps,), of the dtype of the targets: the last target known before each step.
    """
    unknown = np.isnan(targets) if targets.dtype.kind == "f" else targets < 0
    steps = np.arange(len(targets))
    # The latest step with a known target, up to and including each step, or before the beginning of all.
    latest = np.maximum.accumulate(np.where(unknown, -1, steps)) if len(steps) else steps
    begins = np.repeat(offsets[:-1], np.diff(offsets))
    before = np.full(len(targets), -1)
    before[1:] = latest[:-1]
    known = before >= begins
    predicted = np.full(len(targets), first, targets.dtype)
    predicted[known] = targets[before[known]]
    return predicted


def root_mean_squared_error(targets: Array, predicted: Array) -> float:
    """Square root of the mean squared error; targets that are NaN do not count, and NaN if none does."""
    errors = (targets.astype(np.float64) - predicted)[~np.isnan(targets)].tolist()
    return math.sqrt(math.fsum(error * error for error in errors) / len(errors)) if errors else math.nan
