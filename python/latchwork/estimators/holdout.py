"""Choosing the sequences that are held out of training for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._random import Random


def held_out(count: int, fraction: float, random: Random, classes: Array | None = None) -> tuple[Array, Array]:
    """Split the numbers of whole sequences at random.

    Parameters
    ----------
    count : int
        How many sequences there are, at least 2.
    fraction : float
        The share that is held out, above 0 and below 1; at least one sequence is, and at least one is not.
    random : Random
        What decides, beside ``count``, ``fraction`` and ``classes``.
    classes : numpy.ndarray of int, optional
        (count,): the class of each. Then each class is split by itself, and one of a single sequence stays in training.

    Returns
    -------
    training, validation : numpy.ndarray
        Ascending.

    Raises
    ------
    ValueError
        If there are too few sequences.
    """
    order = np.argsort(random.words(count), kind="stable")
    groups = [order] if classes is None else [order[classes[order] == each] for each in np.unique(classes)]
    chosen = [group[: _share(len(group), fraction)] for group in groups]
    validation = np.sort(np.concatenate(chosen)) if chosen else order
    if not validation.size:
        raise ValueError(
            f"validation_fraction: expected at least two sequences{'' if classes is None else ' of one class'} to hold "
            f"one out, got {count}; pass validation_data=(X, y)"
        )
    left = np.ones(count, np.bool_)
    left[validation] = False
    return np.flatnonzero(left), validation


def _share(count: int, fraction: float) -> int:
    """Round the share of a group to at least one, and to less than all."""
    return min(max(int(count * fraction + 0.5), 1), count - 1) if count else 0
