"""LSTMClassifier: what only it does."""

import latchwork as lw
import numpy as np
import pytest


def small(**parameters):
    given = {"hidden_size": 7, "max_epochs": 3, "batch_size": 16, "bidirectional": False, "random_state": 0}
    return lw.LSTMClassifier(**(given | parameters))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def data(rng):
    X = rng.normal(size=(90, 6, 2))
    return X, np.digitize(X[..., 0].sum(axis=1), [-1, 1])


def test_learns(data):
    X, y = data
    model = small(hidden_size=16, max_epochs=60).fit(X[:70], y[:70])
    assert model.score(X[70:], y[70:]) > 0.7


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["low", "middle", "top"]),
        np.array(["low", "middle", "top"], object),
        np.array([-5, 2, 900]),
        np.array([0.0, 1.0, 7.0]),
        np.array([1, 2, 3], np.uint8),
    ],
    ids=lambda labels: labels.dtype.name,
)
def test_labels(data, labels, tmp_path):
    X, y = data
    model = small(max_epochs=30).fit(X, labels[y])
    assert model.classes_.tolist() == labels.tolist()
    assert model.classes_.dtype.kind == labels.dtype.kind
    predicted = model.predict(X)
    assert set(predicted.tolist()) <= set(labels.tolist())
    assert model.score(X, labels[y]) == pytest.approx((predicted == labels[y]).mean())
    model.save(tmp_path / "model.safetensors")
    loaded = lw.load(tmp_path / "model.safetensors")
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.predict(X).tolist() == predicted.tolist()


def test_two_classes_and_one(data):
    X, y = data
    model = small().fit(X, y > 0)
    assert model.classes_.tolist() == [False, True]
    assert model.predict(X).dtype == bool
    assert small().fit(X, ["same"] * 90).predict(X).tolist() == ["same"] * 90


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("head", ["last", "sequence"])
def test_probabilities(data, members, head):
    X, y = data
    y = np.repeat(y[:, np.newaxis], 6, axis=1) if head == "sequence" else y
    model = small(n_members=members, head=head).fit(X, y)
    logits = (
        model.network_(X.swapaxes(0, 1))[0].astype(np.float64).reshape(members, *((6, 90) if y.ndim == 2 else (90,)), 3)
    )
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    each = exponentials / exponentials.sum(axis=-1, keepdims=True)
    each = each.swapaxes(1, 2) if y.ndim == 2 else each
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities, each.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities), rtol=1e-9, atol=1e-12)
    assert (model.predict(X) == probabilities.argmax(axis=-1)).all()
    if members > 1:
        mean, std = model.predict_proba(X, return_std=True)
        np.testing.assert_array_equal(mean, probabilities)
        np.testing.assert_allclose(std, each.std(axis=0), rtol=1e-9, atol=1e-14)
    else:
        with pytest.raises(ValueError, match="return_std: expected False"):
            model.predict_proba(X, return_std=True)


def test_log_probabilities_of_what_is_almost_impossible(data):
    X, y = data
    model = small().fit(X, y)
    with model.network_.edit() as parameters:
        parameters["3.bias"][:] = [0, 2000, -2000]
    assert (model.predict_proba(X)[:, 1:] == [1, 0]).all()
    logs = model.predict_log_proba(X)
    np.testing.assert_allclose(logs[:, 2] - logs[:, 1], -4000, atol=10)


def test_class_weight(rng):
    """With weights that even out 9 to 1, a model that cannot tell gives each class one half."""
    X, y = np.zeros((200, 3, 1)), np.arange(200) % 10 == 0
    options = {"max_epochs": 200, "batch_size": 200, "recurrent_dropout": 0.0}
    assert small(**options).fit(X, y).predict_proba(X)[0, 1] == pytest.approx(0.1, abs=0.03)
    for weight in ("balanced", {True: 9}, {False: 1 / 9, True: 1}):
        assert small(class_weight=weight, **options).fit(X, y).predict_proba(X)[0, 1] == pytest.approx(0.5, abs=0.05)


def test_class_weight_is_a_weight_of_samples(data):
    X, y = data
    weighted = small(class_weight={0: 2.0, 1: 0.5}).fit(X, y)
    by_sample = small().fit(X, y, np.array([2.0, 0.5, 1.0])[y])
    np.testing.assert_array_equal(weighted.predict_proba(X), by_sample.predict_proba(X))


def test_label_smoothing(rng):
    sharp = rng.normal(size=(60, 3, 1)) * 0.1 + np.repeat([[[-1.0]], [[1.0]]], 30, axis=0)
    labels = np.repeat([0, 1], 30)
    smooth = small(label_smoothing=0.4, max_epochs=100, recurrent_dropout=0.0).fit(sharp, labels)
    assert smooth.predict_proba(sharp)[:, 0].min() == pytest.approx(0.2, abs=0.05)
    assert small(max_epochs=100).fit(sharp, labels).predict_proba(sharp)[:, 0].min() < 0.05


def test_missing_labels_are_left_out(data):
    X, y = data
    labels = np.array(["a", "b", "c"], object)[y]
    labels[4] = None
    kept = np.arange(90) != 4
    model, other = small().fit(X, labels), small().fit(X[kept], labels[kept])
    np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))
    assert model.score(X, labels) == other.score(X[kept], labels[kept])


def test_numbers_that_are_no_labels(data):
    with pytest.raises(ValueError, match="y: expected labels, got"):
        small().fit(data[0], np.linspace(0, 1, 90))


def test_held_out_sequences_are_a_share_of_each_class(rng):
    X, y = rng.normal(size=(100, 3, 1)), np.repeat(["often", "rare"], [80, 20])
    seen = []

    def remember(run, row):
        seen.append(np.bincount(run._data.targets.values).tolist())

    small(early_stopping=True, validation_fraction=0.25, max_epochs=1, callbacks=[remember]).fit(X, y)
    assert seen == [[60, 15]]
