"""Scores, beside scikit-learn's, and the sequences that are held out."""

import math

import numpy as np
import pytest
from latchwork._random import Random
from latchwork.estimators.holdout import held_out
from latchwork.estimators.metrics import accuracy, r2_score


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class TestR2:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("outputs", [1, 3])
    def test_equals_scikit_learns(self, rng, outputs, weighted):
        metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
        y, predicted = rng.normal(size=(2, 31, outputs)) * 5 + 100
        weights = rng.uniform(0, 2, 31) if weighted else None
        expected = metrics.r2_score(y, predicted, sample_weight=weights)
        assert r2_score(y, predicted, weights) == pytest.approx(expected, rel=1e-12)

    def test_targets_that_do_not_count(self, rng):
        y, predicted = rng.normal(size=(2, 9, 1))
        expected = r2_score(y[2:], predicted[2:])
        y[0] = math.nan
        assert r2_score(y, predicted, np.array([1, 0, *[1] * 7])) == pytest.approx(expected, rel=1e-14)

    def test_weights_of_each_output(self, rng):
        y, predicted = rng.normal(size=(2, 9, 2))
        weights = np.ones((9, 2))
        weights[:4, 1] = 0
        expected = (r2_score(y[:, :1], predicted[:, :1]) + r2_score(y[4:, 1:], predicted[4:, 1:])) / 2
        assert r2_score(y, predicted, weights) == pytest.approx(expected, rel=1e-14)

    def test_constant_targets(self):
        assert r2_score(np.ones((3, 1)), np.ones((3, 1))) == 1.0
        assert r2_score(np.ones((3, 1)), np.zeros((3, 1))) == 0.0

    def test_too_few(self):
        assert math.isnan(r2_score(np.ones((1, 1)), np.ones((1, 1))))


class TestAccuracy:
    def test_weighted(self):
        assert accuracy(np.array([True, False, True])) == pytest.approx(2 / 3)
        assert accuracy(np.array([True, False, True]), np.array([1.0, 2.0, 1.0])) == 0.5

    def test_nothing_counts(self):
        assert math.isnan(accuracy(np.array([True]), np.array([0.0])))


class TestHeldOut:
    @pytest.mark.parametrize(("count", "fraction"), [(2, 0.1), (7, 0.5), (31, 0.1), (100, 0.25), (3, 0.99)])
    def test_share(self, count, fraction):
        training, validation = held_out(count, fraction, Random(0))
        assert sorted([*training, *validation]) == list(range(count))
        assert len(validation) == min(max(round(count * fraction), 1), count - 1)
        assert (np.diff(training) > 0).all()
        assert (np.diff(validation) > 0).all()

    def test_depends_on_the_seed_alone(self):
        first, again, other = (held_out(50, 0.2, Random(seed))[1].tolist() for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_each_class(self):
        classes = np.array([0] * 40 + [1] * 10 + [2] * 3 + [3])
        training, validation = held_out(54, 0.2, Random(0), classes)
        assert np.bincount(classes[validation], minlength=4).tolist() == [8, 2, 1, 0]
        assert len(training) + len(validation) == 54

    @pytest.mark.parametrize("classes", [None, np.array([0])])
    def test_too_few(self, classes):
        with pytest.raises(ValueError, match="validation_fraction: expected at least two sequences"):
            held_out(1, 0.5, Random(0), classes)
