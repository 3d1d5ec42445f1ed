"""The predictions that need no model, beside plain loops."""

import math

import numpy as np
import pytest
from latchwork.estimators.naive import last_values, majority_class, mean, root_mean_squared_error

NAN = math.nan


def last_values_by_a_loop(targets, offsets, first):
    predicted = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
        last = first
        for step in range(begin, end):
            predicted.append(last)
            unknown = math.isnan(targets[step]) if isinstance(targets[step], float) else targets[step] < 0
            last = last if unknown else targets[step]
    return predicted


@pytest.mark.parametrize("lengths", [[0], [1], [7], [3, 0, 1, 17], [1, 1, 1], [0, 31, 0]])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("unknown", [0.0, 0.3, 1.0])
def test_last_values(lengths, classes, unknown):
    random = np.random.default_rng(sum(lengths))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    missing = random.random(offsets[-1]) < unknown
    if classes:
        targets, first = np.where(missing, -1, random.integers(5, size=offsets[-1])), 9
    else:
        targets, first = np.where(missing, NAN, random.normal(size=offsets[-1])), 0.25
    predicted = last_values(targets, offsets, first)
    assert predicted.tolist() == last_values_by_a_loop(targets.tolist(), offsets.tolist(), first)
    assert predicted.dtype == targets.dtype


def test_mean():
    assert mean(np.array([1.0, NAN, 4.0])) == 2.5
    assert mean(np.array([1e16, 1.0, -1e16])) == 1 / 3
    assert math.isnan(mean(np.array([NAN])))


def test_majority_class():
    assert majority_class(np.array([2, 0, -1, -1, -1, 2, 1])) == 2
    assert majority_class(np.array([3, 1, 1, 3])) == 1


def test_root_mean_squared_error():
    assert root_mean_squared_error(np.array([1.0, NAN, 3.0]), np.array([4.0, 9.0, 7.0])) == math.sqrt((9 + 16) / 2)
    assert math.isnan(root_mean_squared_error(np.array([NAN]), np.array([1.0])))
    single = np.array([16777216.0], np.float32)  # the difference is taken in double
    assert root_mean_squared_error(single, np.array([16777217.0])) == 1
