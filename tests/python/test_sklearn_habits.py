"""The estimators among scikit-learn's own: its checks, and what is built of estimators."""

import sys

import latchwork as lw
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

# Why some of scikit-learn's checks fail.
REPEATED = (
    "training by batches: a sequence of weight 2 is read once with twice the gradient, one that is there twice is read "
    "in two places of the random order"
)
EXPECTED = {
    lw.LSTMRegressor: {
        "check_sample_weight_equivalence_on_dense_data": REPEATED,
        "check_regressor_multioutput": "predictions have the network's dtype, which is float32 unless dtype says so",
    },
    lw.LSTMClassifier: {"check_sample_weight_equivalence_on_dense_data": REPEATED},
}


def small(kind, **parameters):
    return kind(**{"hidden_size": 8, "max_epochs": 3, "bidirectional": False, "random_state": 0} | parameters)


@pytest.fixture
def data():
    X = np.random.default_rng(0).normal(size=(60, 5, 3))
    return X, X[:, :, 0].sum(axis=1)


@pytest.mark.filterwarnings("ignore")  # that they do not inherit from BaseEstimator, and what the checks cause
@pytest.mark.parametrize("kind", [lw.LSTMRegressor, lw.LSTMClassifier])
def test_scikit_learns_checks(kind):
    estimator = small(kind, hidden_size=16, max_epochs=60, lr=1e-2)
    results = check_estimator(estimator, expected_failed_checks=EXPECTED[kind], on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed
    expected = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert expected == set(EXPECTED[kind])
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}  # needs SCIPY_ARRAY_API
    assert len(results) > 50


def test_float64_predictions_are_float64(data):
    model = small(lw.LSTMRegressor, dtype="float64").fit(*data)
    assert model.predict(data[0]).dtype == np.float64


def test_tags():
    regressor, classifier = get_tags(lw.LSTMRegressor()), get_tags(lw.LSTMClassifier())
    assert is_regressor(lw.LSTMRegressor())
    assert is_classifier(lw.LSTMClassifier())
    for tags in (regressor, classifier):
        assert tags.input_tags.three_d_array
        assert tags.input_tags.two_d_array
        assert tags.input_tags.allow_nan
        assert tags.target_tags.required
    assert regressor.target_tags.multi_output


@pytest.mark.parametrize("kind", [lw.LSTMRegressor, lw.LSTMClassifier])
def test_clone(kind, data):
    model = small(kind, zoneout=(0.1, 0.0), optimizer=lw.optim.Adam()).set_output(predict="pandas")
    copied = clone(model)
    assert copied.get_params().keys() == model.get_params().keys()
    assert repr(copied) == repr(model)
    pytest.importorskip("pandas", reason="pandas is not installed")
    assert type(copied.fit(data[0], data[1] > 0).predict(data[0])).__name__ == "Series"
    assert not hasattr(model, "network_")


@pytest.mark.parametrize("kind", [lw.LSTMRegressor, lw.LSTMClassifier])
def test_not_fitted(kind, data, monkeypatch):
    model = kind()
    for call in (lambda: model.predict(data[0]), lambda: model.score(*data), model.stream, lambda: model.save("x")):
        with pytest.raises(NotFittedError, match="has learned nothing yet"):
            call()
    monkeypatch.delitem(sys.modules, "sklearn.exceptions")
    with pytest.raises(lw.estimators.estimator.NotFittedError, match="has learned nothing yet"):
        model.predict(data[0])


def test_pipeline_of_two_dimensions(data):
    X, y = data[0][:, :, 0], data[1]
    model = make_pipeline(StandardScaler(), small(lw.LSTMRegressor)).fit(X, y)
    assert model.predict(X).shape == (60,)
    assert model[-1].n_features_in_ == 5
    named = make_pipeline(StandardScaler().set_output(transform="pandas"), small(lw.LSTMRegressor))
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    named.fit(pandas.DataFrame(X, columns=list("abcde")), y)
    assert named[-1].feature_names_in_.tolist() == list("abcde")


def test_pipeline_of_three_dimensions(data):
    model = make_pipeline(FunctionTransformer(np.negative), small(lw.LSTMRegressor)).fit(*data)
    assert model.score(*data) == make_pipeline(small(lw.LSTMRegressor)).fit(-data[0], data[1]).score(-data[0], data[1])


@pytest.mark.slow
def test_grid_search(data):
    grid = {"hidden_size": [4, 8], "lr": [1e-2, 1e-3]}
    scores = []
    for jobs in (1, 2):
        search = GridSearchCV(small(lw.LSTMRegressor), grid, cv=3, n_jobs=jobs).fit(*data)
        scores.append(search.cv_results_["mean_test_score"].tolist())
        assert search.best_params_.keys() == grid.keys()
    assert scores[0] == scores[1]


def test_cross_validation(data):
    X, y = data
    labels = np.where(y > 0, "up", "down")
    scores = cross_val_score(small(lw.LSTMClassifier, max_epochs=20), X, labels, cv=3, scoring="neg_log_loss")
    assert (scores > -0.7).all()
    splits = TimeSeriesSplit(n_splits=3)
    weights = np.linspace(1, 2, 60)
    assert cross_val_score(small(lw.LSTMRegressor), X, y, cv=splits, params={"sample_weight": weights}).shape == (3,)


def test_a_fold_without_one_class(data):
    X, y = data
    labels = np.where(np.arange(60) < 5, "rare", np.where(y > 0, "up", "down"))
    model = small(lw.LSTMClassifier).fit(X[5:], labels[5:])
    assert 0 < model.score(X, labels) <= 55 / 60


def test_calibration(data):
    X, y = data
    calibrated = CalibratedClassifierCV(small(lw.LSTMClassifier), cv=2).fit(X, y > 0)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1, rtol=1e-12)


def test_permutation_importance(data):
    X, y = data[0][:, :, 0], data[0][:, -1, 0]
    model = small(lw.LSTMRegressor, max_epochs=40, lr=1e-2).fit(X, y)
    importances = permutation_importance(model, X, y, n_repeats=3, random_state=0).importances_mean
    assert importances.argmax() == 4
