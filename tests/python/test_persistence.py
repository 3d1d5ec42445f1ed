"""How much of a carried value is kept at each step: against plain loops, and on series of which it is known."""

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.data import persistence
from latchwork.estimators.data.persistence import Persistence


def autoregressive(share, steps, columns, seed, gaps):
    random = np.random.default_rng(seed)
    values = random.normal(size=(steps, columns))
    for step in range(1, steps):
        values[step] = share * values[step - 1] + np.sqrt(1 - share * share) * values[step]
    values[random.uniform(size=values.shape) < gaps] = np.nan
    return values


def fitted(values, lengths, pieces=None):
    """Fit to sequences one behind the other, which come in so many rows at a time."""
    found = Persistence(values.shape[1])
    positions = np.concatenate([np.arange(length) for length in lengths])
    pieces = pieces or len(values)
    for add in (found.add_gaps, found.add_pairs):
        for begin in range(0, len(values), pieces):
            add(values[begin : begin + pieces], positions[begin : begin + pieces])
    return found.fitted(np.nanmean(values, axis=0))


def squared_error(sequences, mean, share, lags):
    """The error of one column by loops: of all pairs at each distance, weighted by the gaps' steps of that age."""
    total = 0.0
    counts = dict.fromkeys(lags, 0)
    for each in sequences:
        last = None
        for step, value in enumerate(each):
            if not np.isnan(value):
                last = step
            elif last is not None:
                counts[max(lag for lag in lags if lag <= step - last)] += 1
    for lag in lags:
        pairs = [(a, b) for each in sequences for a, b in zip(each[:-lag], each[lag:], strict=True)]
        errors = [(b - mean - share**lag * (a - mean)) ** 2 for a, b in pairs if not np.isnan(a + b)]
        total += counts[lag] * np.mean(errors) if errors else 0.0
    return total


@pytest.mark.parametrize("gaps", [0.1, 0.5, 0.9])
def test_no_other_share_has_a_smaller_error(gaps):
    lengths = [1, 40, 3, 25, 100, 2, 60]
    values = autoregressive(0.8, sum(lengths), 3, 0, gaps)
    values[:, 2] = 5.0 - 3.0 * values[:, 2]
    sequences = np.split(values, np.cumsum(lengths)[:-1])
    means = np.nanmean(values, axis=0)
    for column, found in enumerate(fitted(values, lengths)):
        own = [each[:, column] for each in sequences]
        errors = [squared_error(own, means[column], share, persistence._LAGS) for share in np.linspace(0, 1, 101)]
        assert squared_error(own, means[column], found, persistence._LAGS) <= min(errors) + 1e-9


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_share_of_an_autoregression_is_found(share, dtype):
    values = (1000 + autoregressive(share, 40_000, 2, 1, 0.4)).astype(dtype)
    np.testing.assert_allclose(fitted(values, [500] * 80), share, atol=0.02)


def test_values_that_alternate_are_not_carried():
    assert (fitted(autoregressive(-0.7, 2000, 2, 2, 0.3), [2000]) == 0).all()


def test_every_third_step_is_enough():
    values = autoregressive(0.9, 30_000, 1, 3, 0.0)
    values[np.arange(len(values)) % 3 > 0] = np.nan
    np.testing.assert_allclose(fitted(values, [30_000]), 1.0)  # no two values are one or two steps apart


def test_pieces_do_not_matter(monkeypatch):
    lengths = [7, 300, 80, 1]
    values = autoregressive(0.8, sum(lengths), 2, 4, 0.5)
    expected = fitted(values, lengths)
    for pieces in (1, 30, 65, 200):
        np.testing.assert_allclose(fitted(values, lengths, pieces), expected, rtol=1e-6)
    monkeypatch.setattr(persistence, "_ROWS", 50)
    np.testing.assert_allclose(fitted(values, lengths), expected, rtol=1e-6)


def test_without_evidence_values_are_carried_as_they_are():
    whole = autoregressive(0.5, 100, 2, 5, 0.0)
    np.testing.assert_array_equal(fitted(whole, [100]), 1.0)  # no gap says how far ahead to look
    constant = np.full((20, 2), 3.0)
    constant[5] = np.nan
    np.testing.assert_array_equal(fitted(constant, [20]), 1.0)
    one = np.full((20, 1), np.nan)
    one[4] = 2.0
    np.testing.assert_array_equal(fitted(one, [20]), 1.0)
    values = autoregressive(0.5, 400, 2, 5, 0.0)
    values[::7, 0] = np.nan
    found = fitted(values, [400])
    assert (found < 0.7).all()  # the column without gaps is fitted too
    huge = np.where(np.isnan(values), np.nan, values * 1e300)
    assert np.isfinite(fitted(huge, [400])).all()


class TestEstimators:
    def model(self, **parameters):
        return lw.LSTMRegressor(hidden_size=4, max_epochs=1, bidirectional=False, random_state=0, **parameters)

    @pytest.mark.parametrize("scale", ["standard", "robust", None])
    def test_forward_fits_it(self, scale):
        values = autoregressive(0.8, 8000, 2, 6, 0.3).reshape(80, 100, 2)
        model = self.model(scale=scale).fit(values, np.zeros(80))
        np.testing.assert_allclose(model.network_[1].persistence, 0.8, atol=0.05)
        alike = self.model(scale=scale).fit(5 + 10 * values, np.zeros(80))
        np.testing.assert_allclose(alike.network_[1].persistence, model.network_[1].persistence, rtol=1e-3)
        other = self.model(scale=scale, missing="mean").fit(values, np.zeros(80))
        assert other.network_[1].persistence is None

    def test_codes_and_static_features_are_carried_as_they_are(self):
        values = autoregressive(0.3, 4000, 2, 7, 0.3).reshape(80, 50, 2)
        values[..., 1] = np.where(values[..., 1] > 0, 1.0, 0.0)
        static = np.where(np.arange(80) % 3, np.arange(80.0), np.nan)[:, np.newaxis]
        model = self.model(categorical=[1]).fit(values, np.zeros(80), static=static)
        first, *others = model.network_[1].persistence
        assert 0 < first < 0.5
        assert others == [1.0, 1.0]
        assert np.isfinite(model.predict(values, static=static)).all()

    def test_pieces_give_what_arrays_give(self):
        x = autoregressive(0.8, 3000, 2, 8, 0.3).astype("float32")
        y = np.nan_to_num(x[:, 0])
        parameters = {"head": "sequence", "window": 50}
        whole = self.model(**parameters).fit([x], [y])
        pieces = self.model(**parameters).fit(lambda: iter([(x, y)]), None)
        assert all(0.6 < share < 0.9 for share in whole.network_[1].persistence)
        np.testing.assert_allclose(pieces.network_[1].persistence, whole.network_[1].persistence, rtol=1e-4)
