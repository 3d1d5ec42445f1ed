"""One pass over the pieces of data finds the numbers that the whole has."""

import math

import numpy as np
import pytest
from latchwork.estimators.data import first_pass
from latchwork.estimators.data.first_pass import ColumnNumbers, LabelCounts
from latchwork.estimators.data.preparation import scale_of


def of_pieces(values, size):
    numbers = ColumnNumbers(values.shape[1])
    for begin in range(0, len(values), size):
        numbers.add(values[begin : begin + size])
    return numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_mean_and_spread(size, gaps, dtype, monkeypatch):
    monkeypatch.setattr(first_pass, "_ROWS", 31)
    random = np.random.RandomState(0)
    values = random.standard_normal((317, 5)) * [1, 1e-6, 1e6, 1, 3] + [0, 5, -1e7, 1e4, 0]
    values[random.uniform(size=values.shape) < gaps] = np.nan
    values[:, 4] = 7.25
    values = values.astype(dtype)
    numbers = of_pieces(values, size)
    shift, factor = numbers.scale("standard")
    for column in range(5):
        known = [float(each) for each in values[:, column] if not math.isnan(each)]
        mean = math.fsum(known) / len(known)
        deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in known) / len(known))
        np.testing.assert_allclose(shift[column], mean, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(factor[column], 1 / deviation if deviation else 1.0, rtol=1e-9)
        assert numbers.counts[column] == len(known)
        assert numbers.gaps.missing[column] == (len(known) < 317)
    expected = scale_of(values, "standard")
    np.testing.assert_allclose(shift, expected[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(factor, expected[1], rtol=1e-9)


def test_constant_missing_and_unscaled_columns():
    values = np.array([[3.0, np.nan, 1.0, np.nan], [3.0, np.nan, np.nan, 5.0]])
    for size in (1, 2):
        numbers = of_pieces(values, size)
        shift, factor = numbers.scale("standard")
        assert shift.tolist() == [3, 0, 1, 5]
        assert factor.tolist() == [1, 1, 1, 1]
        assert numbers.gaps.missing.tolist() == [False, True, True, True]
        unscaled = numbers.scale(None)
        assert [each.tolist() for each in unscaled] == [[0] * 4, [1] * 4]
    shift, factor = ColumnNumbers(1).scale("standard")
    assert (shift.tolist(), factor.tolist()) == ([0], [1])


def test_the_values_given_are_not_changed():
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    ColumnNumbers(2).add(values)
    np.testing.assert_array_equal(values, [[1.0, np.nan], [2.0, 3.0]])


@pytest.mark.parametrize(
    ("pieces", "classes", "counts"),
    [
        ([np.array([3, 1, 3]), np.array([2, 3])], [1, 2, 3], [1, 1, 3]),
        ([np.array(["b", "a"]), np.array(["ccc", "a"])], ["a", "b", "ccc"], [2, 1, 1]),
        ([np.array([True]), np.array([False, True])], [False, True], [1, 2]),
        ([np.array([1.0, np.nan]), np.array([0.0])], [0.0, 1.0], [1, 1]),
        ([np.array(["x", None], object), np.array([None], object), np.array(["a"], object)], ["a", "x"], [1, 1]),
    ],
)
def test_labels(pieces, classes, counts):
    found = LabelCounts()
    for piece in pieces:
        found.add(piece, str)
    labels, times = found.classes()
    assert labels.tolist() == classes
    assert times.tolist() == counts
    assert labels.dtype.kind == pieces[0].dtype.kind


def test_labels_that_are_none():
    with pytest.raises(ValueError, match=r"expected labels, got 0.5 in row 1"):
        LabelCounts().add(np.array([1.0, 0.5]), "row {}".format)
    with pytest.raises(ValueError, match="y: expected at least one label, got none that is not missing"):
        LabelCounts().classes()
    mixed = LabelCounts()
    mixed.add(np.array(["a"]), str)
    mixed.add(np.array([1]), str)
    with pytest.raises(TypeError, match="y: expected labels that are all texts or all numbers, got int, str"):
        mixed.classes()
