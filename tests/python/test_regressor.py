"""LSTMRegressor: what only it does."""

import functools

import latchwork as lw
import numpy as np
import pytest


def small(**parameters):
    given = {"hidden_size": 7, "max_epochs": 3, "batch_size": 16, "bidirectional": False, "random_state": 0}
    return lw.LSTMRegressor(**(given | parameters))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def data(rng):
    X = rng.normal(size=(80, 9, 2))
    return X, np.stack([X[..., 0].sum(axis=1), 100 - 50 * X[:, -1, 1]], axis=1)


def test_learns(data):
    X, y = data
    model = small(hidden_size=32, max_epochs=100, lr=1e-2, recurrent_dropout=0.0).fit(X[:60], y[:60])
    assert model.score(X[60:], y[60:]) > 0.8


@pytest.mark.parametrize("outputs", [None, 1, 2])
@pytest.mark.parametrize("quantiles", [None, (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("head", ["mean", "sequence"])
def test_shapes(data, outputs, quantiles, head):
    X, y = data
    if head == "sequence":
        y = np.repeat(y[:, np.newaxis], 9, axis=1)
    y = y[..., 0] if outputs is None else y[..., :outputs]
    model = small(quantiles=quantiles, head=head).fit(X, y)
    assert model.n_outputs_ == (outputs or 1)
    steps = (9,) if head == "sequence" else ()
    expected = (80, *steps, *(() if outputs is None else (outputs,)), *(() if quantiles is None else (3,)))
    assert model.predict(X).shape == expected


@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_units_of_targets_do_not_matter(data, scale):
    """Targets times a power of two, plus a number that float64 adds exactly, change nothing but the predictions."""
    X, y = data
    y = np.round(y, 3)
    model, other = (small(scale=scale, dtype="float64").fit(X, each) for each in (y, 1024 * y + 2**14))
    np.testing.assert_allclose(other.predict(X), 1024 * model.predict(X) + 2**14, rtol=1e-9)


def test_scale_is_of_the_training_data_alone(data):
    X, y = data
    far = X.copy()
    far[60:] += 1000
    model = small(validation_data=(far[60:], y[60:])).fit(far[:60], y[:60])
    np.testing.assert_array_equal(model.network_[0].shift, small().fit(X[:60], y[:60]).network_[0].shift)
    np.testing.assert_allclose(model.network_[0].shift, X[:60].astype(np.float32).mean(axis=(0, 1)), rtol=1e-5)


def test_without_scale(data):
    X, y = data
    model = small(scale=None).fit(X, y)
    assert [type(layer).__name__ for layer in model.network_] == ["Scale", "LSTM", "Last", "Linear"]
    assert model.network_[0].factor == (1.0, 1.0)


@pytest.mark.parametrize("members", [1, 3])
def test_quantiles_never_cross(rng, members):
    X, y = rng.normal(size=(60, 5, 1)), rng.normal(size=(60, 2))
    model = small(quantiles=[0.1, 0.3, 0.5, 0.9], n_members=members, max_epochs=1, lr=0.1).fit(X, y)
    predicted = model.predict(10 * rng.normal(size=(500, 5, 1)))
    assert (np.diff(predicted, axis=-1) >= 0).all()


def test_quantiles_hold_their_share(rng):
    X, y = np.zeros((400, 2, 1)), rng.normal(size=400)
    model = small(quantiles=[0.1, 0.5, 0.8], max_epochs=60, lr=1e-2).fit(X, y)
    below = (y[:, np.newaxis] <= model.predict(X)).mean(axis=0)
    np.testing.assert_allclose(below, [0.1, 0.5, 0.8], atol=0.04)


@pytest.mark.parametrize(("quantiles", "middle"), [((0.1, 0.5, 0.9), 1), ((0.1, 0.6), 1), ((0.4, 0.6), 0), ((0.2,), 0)])
def test_score_of_quantiles(data, quantiles, middle):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    X, y = data
    model = small(quantiles=quantiles).fit(X, y)
    expected = metrics.r2_score(y, model.predict(X)[..., middle])
    assert model.score(X, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("head", ["last", "sequence"])
def test_score_is_scikit_learns(data, head):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    X, y = data
    weights = np.linspace(0, 1, 80)
    if head == "sequence":
        y = y[:, np.newaxis] + X
    model = small(head=head).fit(X, y)
    flat = [each.reshape(-1, 2) for each in (y, model.predict(X))]
    expected = metrics.r2_score(*flat, sample_weight=np.repeat(weights, len(flat[0]) // 80))
    assert model.score(X, y, weights) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("quantiles", [None, (0.2, 0.8)])
def test_committee(data, quantiles):
    X, y = data
    model = small(n_members=3, quantiles=quantiles, dtype="float64").fit(X, y)
    outputs, _ = model.network_(X.swapaxes(0, 1))
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean.reshape(80, -1), outputs.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std.reshape(80, -1), outputs.std(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(mean, model.predict(X))
    with pytest.raises(ValueError, match="return_std: expected False"):
        small().fit(X, y).predict(X, return_std=True)


def test_members_are_networks_of_their_own(data):
    """The first member starts and is trained as a model of one."""
    X, y = data
    committee, alone = small(n_members=2).fit(X, y), small().fit(X, y)
    first = lw.Network.member(committee.network_, 0)
    for name, value in alone.network_.state_dict().items():
        np.testing.assert_array_equal(first.parameters[name], value)


def test_losses(rng):
    """Of constant inputs, the best prediction is the mean for one loss and the median for another."""
    X, y = np.zeros((301, 2, 1)), rng.exponential(size=301)
    y[:5] = 100
    options = {"max_epochs": 60, "lr": 1e-2, "batch_size": 32}
    predicted = {
        name: small(loss=loss, **options).fit(X, y).predict(X[:1])[0]
        for name, loss in {
            "squared": "squared_error",
            "absolute": "absolute_error",
            "huber": "huber",
            "own huber": functools.partial(lw.losses.huber, delta=1e-3),
        }.items()
    }
    assert predicted["squared"] == pytest.approx(y.mean(), rel=0.25)
    assert predicted["absolute"] == pytest.approx(np.median(y), abs=0.3)
    assert predicted["absolute"] < predicted["huber"] < predicted["squared"]
    assert predicted["own huber"] == pytest.approx(np.median(y), abs=0.3)


def test_some_outputs_missing(rng):
    X = rng.normal(size=(200, 4, 1))
    y = np.stack([X[:, -1, 0], -X[:, 0, 0]], axis=1)
    y[rng.uniform(size=y.shape) < 0.4] = np.nan
    model = small(max_epochs=60, lr=1e-2, recurrent_dropout=0.0).fit(X, y)
    assert model.score(X, y) > 0.9


def test_window_equals_whole_sequences_in_one(rng):
    """A window as long as the only lane reads what a batch of that sequence reads."""
    X, y = rng.normal(size=(1, 32, 2)), rng.normal(size=(1, 32))
    options = {"head": "sequence", "batch_size": 1, "max_epochs": 4}
    windows, whole = (small(window=window, **options).fit(X, y) for window in (32, None))
    np.testing.assert_array_equal(windows.predict(X), whole.predict(X))


def test_windows_carry_the_state(rng):
    """A feature that is shown at the first step alone is known 40 steps later."""
    X = np.zeros((32, 64, 1))
    X[:, 0, 0] = rng.normal(size=32)
    y = np.repeat(X[:, 0], 64, axis=1)
    remembering = {"init": "chrono", "t_max": 64, "recurrent_dropout": 0.0}
    model = small(head="sequence", window=16, max_epochs=60, lr=1e-2, **remembering).fit(X, y)
    assert model.score(X, y) > 0.9
