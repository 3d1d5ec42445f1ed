"""Numbers of scaling, beside plain sums in exact arithmetic and scikit-learn; features with gaps."""

import hashlib
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from comparison import assert_same_bits
from latchwork.estimators.data.gaps import Gaps
from latchwork.estimators.data.inputs import read_fit
from latchwork.estimators.data.preparation import check_scale, fit_scale, fit_target_scale, gaps_of, scale_of
from latchwork.estimators.data.targets import regression_targets


def exact(column):
    """The mean and the standard deviation of the numbers in a column, by fractions."""
    numbers = [Fraction(float(value)) for value in column if not math.isnan(value)]
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    return float(mean), math.sqrt(variance)


@pytest.mark.parametrize("rows", [2, 3, 7, 17, 31, 1000])
@pytest.mark.parametrize("columns", [1, 3])
def test_standard_is_exact_to_rounding(rows, columns, dtype):
    rng = np.random.default_rng(rows)
    values = (rng.normal(size=(rows, columns)) * 10.0 ** np.arange(columns) + 1000).astype(dtype)
    values[1::5, 0] = np.nan
    if rows == 2:
        values[1, 0] = 3
    shift, factor = scale_of(values, "standard")
    for column in range(columns):
        mean, deviation = exact(values[:, column])
        assert abs(shift[column] - mean) <= 1e-15 * abs(mean)
        assert abs(factor[column] * deviation - 1) <= 1e-13
    assert shift.dtype == factor.dtype == np.float64


@pytest.mark.parametrize(("how", "name"), [("standard", "StandardScaler"), ("robust", "RobustScaler")])
def test_as_scikit_learn_has_it(how, name):
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 3.0, size=(301, 4))
    values[rng.uniform(size=values.shape) < 0.2] = np.nan
    scaler = getattr(preprocessing, name)().fit(values)
    shift, factor = scale_of(values, how)
    np.testing.assert_allclose(shift, scaler.mean_ if how == "standard" else scaler.center_, rtol=1e-12)
    np.testing.assert_allclose(1 / factor, scaler.scale_, rtol=1e-12)


@pytest.mark.parametrize("how", ["standard", "robust"])
class TestEdges:
    @pytest.mark.parametrize("value", [0.1, 0.0, -7.0, 1e9 + 0.1, 1e300])
    def test_constant(self, how, value):
        values = np.full((1001, 1), value)
        values[::3] = np.nan
        shift, factor = scale_of(values, how)
        assert (shift.tolist(), factor.tolist()) == ([value], [1.0])

    def test_constant_though_the_mean_is_rounded(self, how):
        for rows in range(1, 100):
            shift, factor = scale_of(np.full((rows, 1), 0.1), how)
            assert (shift.tolist(), factor.tolist()) == ([0.1], [1.0])

    def test_nothing_seen(self, how):
        shift, factor = scale_of(np.full((5, 1), np.nan), how)
        assert (shift.tolist(), factor.tolist()) == ([0.0], [1.0])
        shift, factor = scale_of(np.empty((0, 2)), how)
        assert (shift.tolist(), factor.tolist()) == ([0.0, 0.0], [1.0, 1.0])

    @pytest.mark.parametrize("size", [1e300, 1.0, 1e-300])
    def test_very_large_and_small_numbers(self, how, size):
        values = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]) * size
        shift, factor = scale_of(values, how)
        scaled = (values - shift) * factor
        expected = np.array([-2, -1, 0, 1, 2]) / (math.sqrt(2) if how == "standard" else 2)
        np.testing.assert_allclose(scaled[:, 0], expected, rtol=1e-12, atol=1e-12)

    def test_no_factor_is_beyond_the_dtype(self, how):
        values = np.float32([[1e-40], [2e-40], [3e-40]])
        assert scale_of(values, how)[1].tolist() == [float(np.finfo(np.float32).max)]
        factor = scale_of(values.astype(np.float64), how)[1]
        assert 1e39 < factor[0] < 1e41

    def test_large_offsets_and_integers(self, how):
        values = 2.0**40 + np.arange(1000.0)[:, np.newaxis]
        shift, factor = scale_of(values, how)
        assert shift[0] == 2.0**40 + 499.5
        expected = math.sqrt((1000**2 - 1) / 12) if how == "standard" else 499.5
        assert abs(1 / factor[0] - expected) < 1e-9

    def test_one_row(self, how):
        shift, factor = scale_of(np.array([[3.0, np.nan]]), how)
        assert (shift.tolist(), factor.tolist()) == ([3.0, 0.0], [1.0, 1.0])


def test_robust_needs_no_outliers():
    values = np.concatenate([np.arange(100.0), [1e12]])[:, np.newaxis]
    shift, factor = scale_of(values, "robust")
    assert (shift[0], 1 / factor[0]) == (50.0, 50.0)


def test_robust_where_most_numbers_are_equal():
    values = np.zeros((100, 1))
    values[0] = 10
    shift, factor = scale_of(values, "robust")
    assert shift[0] == 0
    assert factor[0] == scale_of(values, "standard")[1][0] != 1


def test_none_leaves_all_as_it_is():
    shift, factor = scale_of(np.arange(6.0).reshape(3, 2), None)
    assert (shift.tolist(), factor.tolist()) == ([0, 0], [1, 1])


def test_other_words():
    with pytest.raises(ValueError, match='scale: expected "standard", "robust" or None, got \'minmax\''):
        check_scale("minmax")
    with pytest.raises(ValueError, match="scale: expected"):
        fit_scale(read_fit(np.ones((2, 3)))[0], "minmax")


def test_features_static_ones_and_categories():
    X = [np.array([[1.0, 0, 10], [3, 1, 10]]), np.array([[5.0, 1, np.nan]])]
    sequences, schema, _ = read_fit(X, static=np.array([[2.0, np.nan], [4.0, 7.0]]), categorical=[1])
    shift, factor = fit_scale(sequences, "standard", schema.columns)
    assert shift.tolist() == [3, 0, 10, 3, 7]
    np.testing.assert_allclose(factor, [1 / math.sqrt(8 / 3), 1, 1, 1, 1])
    assert gaps_of(sequences).columns() == [2, 4]
    assert gaps_of(read_fit(np.ones((2, 3)))[0]).columns() == []


def test_features_that_are_missing_together():
    x = np.ones((20, 6))
    x[3:5, [1, 2, 5]] = x[9:11, 4] = x[17, [1, 5]] = np.nan  # 5 as 1, and 2 only at first
    gaps = gaps_of(read_fit([x[:7], x[7:]])[0])
    assert (gaps.columns(), gaps.distinct_columns()) == ([1, 2, 4, 5], [1, 2, 4])
    pieces = Gaps(6)
    for row in x:
        pieces.add(np.isnan(row[np.newaxis]))
    assert (pieces.columns(), pieces.distinct_columns()) == ([1, 2, 4, 5], [1, 2, 4])


def test_static_features_are_never_missing_together_with_others():
    x = np.ones((2, 2, 2))
    x[1, :, 0] = np.nan
    gaps = gaps_of(read_fit(list(x), static=np.array([[1.0, 2.0], [np.nan, np.nan]]))[0])
    assert (gaps.columns(), gaps.distinct_columns()) == ([0, 2, 3], [0, 2])


def test_targets_of_weight_0_do_not_count():
    layout = read_fit(np.ones((4, 3, 1)))[2]
    y = np.array([[1.0, 10], [np.nan, 20], [3, 60], [1000, 1000]])
    targets = regression_targets(y, layout, per_step=False, sample_weight=[1, 2, 3, 0])
    shift, factor = fit_target_scale(targets, "standard")
    np.testing.assert_allclose(shift, [2, 30])
    np.testing.assert_allclose(1 / factor, [1, math.sqrt(1400 / 3)])
    plain = regression_targets([1, 2, 3, 6], layout, per_step=False)
    assert fit_target_scale(plain, "standard")[0].tolist() == [3]
    assert fit_target_scale(plain, "robust")[0].tolist() == [2.5]
    assert fit_target_scale(plain, None)[1].tolist() == [1]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("standard", "fb25b08f08948252d3ebc5f809e798aea4073e7ebf7b4201772dbc2d4d0b3903"),
        ("robust", "9540355e506a3583cecf85cdbb1c1df4d79c4c73d0df50a7563068b1f6f73142"),
    ],
)
def test_the_same_bits_for_ever(how, expected):
    values = (np.arange(300_007 * 3, dtype=np.uint32) * np.uint32(2654435761) >> np.uint32(8)).astype(np.float32)
    values = (values / np.float32(2**24)).reshape(-1, 3)
    values[::7, 1] = np.nan
    digest = hashlib.sha256(np.concatenate(scale_of(values, how)).astype("<f8").tobytes()).hexdigest()
    assert digest == expected


def test_the_data_is_left_as_it_was():
    values = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]])
    before = values.copy()
    values.flags.writeable = False
    for how in ("standard", "robust"):
        scale_of(values, how)
    assert_same_bits(values, before)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["standard", "robust"])
def test_ten_million_values_take_little_time(how):
    values = np.random.default_rng(0).normal(size=(1_250_000, 8)).astype(np.float32)
    started = time.perf_counter()
    scale_of(values, how)
    assert time.perf_counter() - started < 6
