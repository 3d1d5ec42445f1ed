"""What the regressor and the classifier share: fitting, running, copies, files and streams."""

import copy
import inspect
import math
import pickle
import subprocess
import sys

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators import prediction
from latchwork.estimators.runs.stopping import DivergenceError

KINDS = [lw.LSTMRegressor, lw.LSTMClassifier]


def small(kind, **parameters):
    given = {"hidden_size": 7, "max_epochs": 3, "batch_size": 16, "bidirectional": False, "random_state": 0}
    return kind(**(given | parameters))


def targets_of(kind, values):
    return np.where(values > 0, "up", "down") if kind is lw.LSTMClassifier else values


def arrays_of(model):
    return list(model.network_.state_dict().values())


def assert_same_model(model, other, X):
    for left, right in zip(arrays_of(model), arrays_of(other), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(model.predict(X), other.predict(X), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def ragged(rng):
    X = [rng.normal(size=(length, 3)) for length in [1, 17, 5, 31, 7, 2] * 8]
    return X, np.array([each[:, 0].sum() for each in X])


class TestParameters:
    @pytest.mark.parametrize("kind", KINDS)
    def test_stored_as_given(self, kind):
        names = list(inspect.signature(kind).parameters)
        values = {name: object() for name in names}
        model = kind(**values)
        assert model.get_params() == values
        assert vars(model) == values

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("hidden_size", 0, ValueError),
            ("hidden_size", 1.5, TypeError),
            ("num_layers", 0, ValueError),
            ("bidirectional", 1, TypeError),
            ("head", "first", ValueError),
            ("dropout", 1.5, ValueError),
            ("recurrent_dropout", -0.1, ValueError),
            ("zoneout", 0.1, TypeError),
            ("activations", "relu", TypeError),
            ("dtype", "float16", ValueError),
            ("scale", "minmax", ValueError),
            ("missing", "backward", ValueError),
            ("loss", "hinge", ValueError),
            ("loss", 3, TypeError),
            ("optimizer", "adam2", ValueError),
            ("lr", -1.0, ValueError),
            ("lr_schedule", "linear", ValueError),
            ("weight_decay", -1.0, ValueError),
            ("clip_norm", -1.0, ValueError),
            ("max_epochs", 0, ValueError),
            ("max_seconds", -1.0, ValueError),
            ("batch_size", 0, ValueError),
            ("early_stopping", "yes", TypeError),
            ("validation_fraction", 0.0, ValueError),
            ("validation_fraction", 1.0, ValueError),
            ("validation_data", (1,), TypeError),
            ("n_iter_no_change", 0, ValueError),
            ("tol", -1.0, ValueError),
            ("n_members", 0, ValueError),
            ("window", 4, ValueError),
            ("checkpoint", 0, ValueError),
            ("random_state", -1, ValueError),
            ("callbacks", [3], TypeError),
        ],
    )
    def test_refused(self, kind, name, value, error, ragged):
        X, y = ragged
        model = small(kind).fit(X, targets_of(kind, y))
        before = dict(vars(model))
        setattr(model, name, value)
        with pytest.raises(error, match=name):
            model.fit(X, targets_of(kind, y))
        assert vars(model) == before | {name: value}

    def test_only_the_regressors(self, ragged):
        for quantiles, error in (((0.5, 0.1), ValueError), ((0.0,), ValueError), ((), ValueError), ("0.5", TypeError)):
            with pytest.raises(error, match="quantiles"):
                small(lw.LSTMRegressor, quantiles=quantiles).fit(*ragged)
        with pytest.raises(ValueError, match="loss: expected its default"):
            small(lw.LSTMRegressor, quantiles=(0.5,), loss="huber").fit(*ragged)
        with pytest.raises(ValueError, match="quantiles: expected some"):
            small(lw.LSTMRegressor, loss="quantile").fit(*ragged)

    def test_only_the_classifiers(self, ragged):
        X, y = ragged
        for name, value, error in (("label_smoothing", 2.0, ValueError), ("class_weight", "even", ValueError)):
            with pytest.raises(error, match=name):
                small(lw.LSTMClassifier, **{name: value}).fit(X, y > 0)


class TestInputs:
    """Every form of X gives the same model, bit for bit."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_arrays_and_lists(self, kind, rng):
        X, y = rng.normal(size=(40, 9, 2)), rng.normal(size=40)
        y = targets_of(kind, y)
        models = [small(kind).fit(each, y) for each in (X, list(X), np.asfortranarray(X))]
        for model in models[1:]:
            assert_same_model(models[0], model, X)

    def test_read_only_and_untouched(self, rng):
        X, y = rng.normal(size=(40, 9, 2)).astype(np.float32), rng.normal(size=40)
        before = X.copy()
        X.flags.writeable = False
        small(lw.LSTMRegressor).fit(X, y).predict(X)
        np.testing.assert_array_equal(X, before)

    def test_univariate(self, rng):
        X, y = rng.normal(size=(40, 9)), rng.normal(size=40)
        flat, deep = small(lw.LSTMRegressor).fit(X, y), small(lw.LSTMRegressor).fit(X[..., np.newaxis], y)
        np.testing.assert_array_equal(flat.predict(X), deep.predict(X[..., np.newaxis]))
        assert (flat.n_features_in_, deep.n_features_in_) == (9, 1)

    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_long_frames(self, library, ragged):
        frames = pytest.importorskip(library, reason=f"{library} is not installed")
        X, y = ragged
        names = np.repeat([f"s{place:02}" for place in range(len(X))], [len(each) for each in X])
        times = np.concatenate([np.arange(len(each)) for each in X])
        values = np.concatenate(X)
        order = np.random.default_rng(1).permutation(len(values))
        columns = {"id": names, "t": times, "a": values[:, 0], "b": values[:, 1], "c": values[:, 2]}
        columns = {name: column[order] for name, column in columns.items()}
        columns["y"] = np.repeat(y, [len(each) for each in X])[order]
        table = frames.table(columns) if library == "pyarrow" else frames.DataFrame(columns)
        model = small(lw.LSTMRegressor, sequence="id", time="t", shuffle=False).fit(table, "y")
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
        appearance = [int(name[1:]) for name in dict.fromkeys(columns["id"].tolist())]
        expected = small(lw.LSTMRegressor, shuffle=False).fit([X[place] for place in appearance], y[appearance])
        np.testing.assert_array_equal(model.predict(table), expected.predict([X[place] for place in appearance]))
        assert model.score(table, "y") == expected.score([X[place] for place in appearance], y[appearance])

    def test_static_features(self, rng):
        X, static = rng.normal(size=(60, 5, 1)), rng.normal(size=(60, 2))
        y = static[:, 1] * 3 + 1
        model = small(lw.LSTMRegressor, max_epochs=60, lr=1e-2).fit(X, y, static=static)
        assert model.score(X, y, static=static) > 0.9
        joined = np.concatenate([X, np.repeat(static[:, np.newaxis], 5, axis=1)], axis=2)
        same = small(lw.LSTMRegressor, max_epochs=60, lr=1e-2).fit(joined, y)
        np.testing.assert_array_equal(model.predict(X, static=static), same.predict(joined))
        with pytest.raises(ValueError, match="static: expected 2 features"):
            model.predict(X)

    def test_categories(self, rng):
        colours = rng.integers(3, size=(80, 6))
        X = np.empty((80, 6, 2), object)
        X[..., 0] = rng.normal(size=(80, 6))
        X[..., 1] = np.array(["red", "green", "blue"])[colours]
        y = (colours == 1).sum(axis=1).astype(float)
        model = small(lw.LSTMRegressor, categorical=[1], max_epochs=60, lr=1e-2).fit(X, y)
        assert model.score(X, y) > 0.8
        X[3, 2, 1] = "mauve"
        with pytest.raises(ValueError, match="sample 3, step 2"):
            model.predict(X)

    @pytest.mark.parametrize("kind", KINDS)
    def test_infinity(self, kind, rng):
        X, y = rng.normal(size=(40, 9, 2)), targets_of(kind, rng.normal(size=40))
        model = small(kind).fit(X, y)
        X[3, 7, 1] = np.inf
        for call in (lambda: model.predict(X), lambda: small(kind).fit(X, y)):
            with pytest.raises(ValueError, match=r"X: expected finite numbers or NaN, got inf in sample 3, step 7"):
                call()

    def test_features_of_predict(self, rng):
        X, y = rng.normal(size=(40, 9, 2)), rng.normal(size=40)
        with pytest.raises(ValueError, match="X has 3 features, but LSTMRegressor is expecting 2"):
            small(lw.LSTMRegressor).fit(X, y).predict(rng.normal(size=(4, 9, 3)))


class TestMissing:
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_none_means(self, kind, ragged):
        X, y = ragged
        y = targets_of(kind, y)
        model = small(kind).fit(X, y)
        assert model.missing_ == "refuse"
        X[5][1, 2] = np.nan
        with pytest.raises(
            ValueError, match=r"X: expected no NaN, got NaN in sample 5, step 1, column 2; give missing"
        ):
            model.predict(X)
        with pytest.raises(ValueError, match="sample 5, step 1, column 2"):
            small(kind, missing="refuse").fit(X, y)
        model = small(kind).fit(X, y)
        assert model.missing_ == "forward"
        assert_same_model(model, small(kind, missing="forward").fit(X, y), X)

    @pytest.mark.parametrize("missing", ["forward", "mean", "zero"])
    def test_set_but_not_seen_in_training(self, missing, ragged):
        X, y = ragged
        # Masks of dropout depend on the number of the layer.
        model = small(lw.LSTMRegressor, missing=missing, recurrent_dropout=0.0).fit(X, y)
        plain = small(lw.LSTMRegressor, recurrent_dropout=0.0).fit(X, y)
        np.testing.assert_array_equal(model.predict(X), plain.predict(X))
        X[5][1, 2] = np.nan
        assert np.isfinite(model.predict(X)).all()

    @pytest.mark.parametrize("scale", ["standard", "robust", None])
    @pytest.mark.parametrize("missing", ["mean", "zero"])
    def test_what_takes_the_place(self, scale, missing, rng):
        X, y = rng.normal(3, 2, size=(50, 4, 2)), rng.normal(size=50)
        X[rng.uniform(size=X.shape) < 0.3] = np.nan
        model = small(lw.LSTMRegressor, scale=scale, missing=missing, dtype="float64").fit(X, y)
        fill = np.zeros(2) if missing == "zero" else np.nanmean(X, axis=(0, 1))
        np.testing.assert_allclose(model.predict(X)[:, np.newaxis], by_hand(model, X, fill), rtol=1e-9)

    def test_forward(self, rng):
        X, y = rng.normal(3, 2, size=(50, 6, 2)), rng.normal(size=50)
        X[rng.uniform(size=X.shape) < 0.3] = np.nan
        model = small(lw.LSTMRegressor, dtype="float64").fit(X, y)
        np.testing.assert_allclose(model.predict(X)[:, np.newaxis], by_hand(model, X, None), rtol=1e-9)

    def test_the_note(self, rng, capsys):
        X, y = rng.normal(size=(50, 6, 3)), rng.normal(size=50)
        X[4, 2, 1] = np.nan
        small(lw.LSTMRegressor, verbose=2).fit(X, y)
        assert 'NaN in 1 features (1): missing="forward"' in capsys.readouterr().out
        small(lw.LSTMRegressor, verbose=2, missing="forward").fit(X, y)
        assert "NaN" not in capsys.readouterr().out
        small(lw.LSTMRegressor, verbose=1).fit(X, y)
        assert capsys.readouterr() == ("", "")  # no terminal

    def test_only_features_with_gaps_get_indicators(self, rng):
        X, y = rng.normal(size=(50, 6, 3)), rng.normal(size=50)
        X[4, 2, 1] = np.nan
        model = small(lw.LSTMRegressor).fit(X, y)
        assert model.network_[1].indicators == (1,)
        assert model.network_[2].input_size == 5

    def test_features_that_are_missing_together_share_indicators(self, rng):
        X, y = rng.normal(size=(50, 6, 4)), rng.normal(size=50)
        X[4, 2, [1, 3]] = X[5, 1, [1, 2, 3]] = np.nan
        model = small(lw.LSTMRegressor).fit(X, y)
        assert model.network_[1].indicators == (1, 2)
        alone = X.copy()
        alone[:, 3, 3] = np.nan  # a feature that was never missing alone is carried forward all the same
        forward, mean = X.copy(), np.nanmean(X[..., 3])
        forward[:, 3, 3] = mean + model.network_[1].persistence[3] * (forward[:, 2, 3] - mean)
        kept = [place for place in range(50) if place not in (4, 5)]
        np.testing.assert_allclose(model.predict(alone[kept]), model.predict(forward[kept]), rtol=1e-4, atol=1e-5)


def by_hand(model, X, fill):
    """Scale, impute and append the indicators by NumPy, and run the layers after that."""
    scale = model.network_[0]
    x = (X - np.array(scale.shift)) * np.array(scale.factor)
    seen = ~np.isnan(X)
    if fill is not None:
        values = np.where(seen, x, (fill - np.array(scale.shift)) * np.array(scale.factor))
        inputs = np.concatenate([values, seen], axis=2)
    else:
        values, ages, persistence = np.zeros_like(x), np.zeros_like(x), np.array(model.network_[1].persistence)
        last, age = np.zeros((len(x), 2)), np.zeros((len(x), 2))
        for step in range(x.shape[1]):
            age = np.where(seen[:, step], 0, age + 1)
            last = np.where(seen[:, step], x[:, step], persistence * last)
            values[:, step], ages[:, step] = last, np.log1p(age)
        inputs = np.concatenate([values, seen, ages], axis=2)
    rest = lw.Network([copy.deepcopy(layer) for layer in model.network_.layers[2:]])
    return rest(inputs.swapaxes(0, 1))[0]


class TestTargets:
    def test_missing_targets_are_left_out(self, ragged):
        X, y = ragged
        gaps = y.copy()
        gaps[[3, 9]] = np.nan
        kept = np.flatnonzero(~np.isnan(gaps))
        model = small(lw.LSTMRegressor, shuffle=False).fit(X, gaps)
        other = small(lw.LSTMRegressor, shuffle=False).fit([X[place] for place in kept], y[kept])
        assert_same_model(model, other, X)

    @pytest.mark.parametrize("kind", KINDS)
    def test_weight_zero_is_as_not_there(self, kind, ragged):
        X, y = ragged
        y = targets_of(kind, y)
        weights = np.ones(len(y))
        weights[[3, 9]] = 0
        kept = np.flatnonzero(weights)
        model = small(kind).fit(X, y, weights)
        assert_same_model(model, small(kind).fit([X[place] for place in kept], y[kept], weights[kept]), X)

    @pytest.mark.parametrize("kind", KINDS)
    def test_per_step(self, kind, rng):
        X = rng.normal(size=(60, 8, 1))
        y = targets_of(kind, X[..., 0].cumsum(axis=1))
        model = small(kind, head="sequence", max_epochs=60, lr=1e-2).fit(X, y)
        assert model.predict(X).shape == (60, 8)
        assert model.score(X, y) > 0.8
        ragged = [X[0], X[1, :3], X[2, :0], X[3, :1]]
        predicted = model.predict(ragged)
        assert [len(each) for each in predicted] == [8, 3, 0, 1]
        np.testing.assert_array_equal(predicted[1], model.predict(X)[1, :3])

    def test_target_per_step_needs_its_head(self, rng):
        with pytest.raises(ValueError, match="y: expected"):
            small(lw.LSTMRegressor).fit(rng.normal(size=(9, 5, 1)), rng.normal(size=(9, 5, 2)))


class TestRunning:
    @pytest.mark.parametrize("head", ["last", "mean", "max", "sequence"])
    @pytest.mark.parametrize("members", [1, 3])
    def test_batches_of_predict_do_not_matter(self, head, members, ragged, monkeypatch):
        X, y = ragged
        y = [each[:, :1] for each in X] if head == "sequence" else y
        model = small(lw.LSTMRegressor, head=head, n_members=members, bidirectional=True, max_epochs=1).fit(X, y)
        whole = model.predict(X)
        monkeypatch.setattr(prediction, "_NUMBERS_OF_A_CALL", 500)
        for left, right in zip(whole, model.predict(X), strict=True):
            np.testing.assert_array_equal(left, right)
        for place in (0, 3, 47):
            np.testing.assert_array_equal(model.predict(X[place : place + 1])[0], whole[place])

    def test_memory_of_predict(self, rng):
        """Outputs of 64 units at 400,000 steps would take 100 MB."""
        code = (
            "import resource, numpy as np, latchwork as lw\n"
            "X = np.zeros((4000, 100, 1), np.float32)\n"
            "X[:, 0] = np.arange(4000)[:, np.newaxis]\n"
            "model = lw.LSTMRegressor(64, head='max', max_epochs=1).fit(X[:40], np.arange(40.0))\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "model.predict(X)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        )
        grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
        assert grown < 64_000  # kB

    @pytest.mark.parametrize("kind", KINDS)
    def test_length_one_and_empty_sequences(self, kind, rng):
        X = [rng.normal(size=(length, 2)) for length in (0, 1, 1, 5, 0, 3)] * 3
        model = small(kind).fit(X, targets_of(kind, rng.normal(size=18)))
        assert len(model.predict(X)) == 18

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("threads", [1, 2])
    def test_same_bits_for_any_number_of_threads(self, kind, threads, ragged, request):
        X, y = ragged
        y = targets_of(kind, y)
        before = lw.get_num_threads()
        request.addfinalizer(lambda: lw.set_num_threads(before))
        lw.set_num_threads(3 - threads)
        expected = small(kind, hidden_size=40, early_stopping=True, n_members=2).fit(X, y)
        lw.set_num_threads(threads)
        model = small(kind, hidden_size=40, early_stopping=True, n_members=2).fit(X, y)
        assert_same_model(model, expected, X)
        assert [row["validation_loss"] for row in model.history_] == [
            row["validation_loss"] for row in expected.history_
        ]

    @pytest.mark.parametrize("kind", KINDS)
    def test_seeds(self, kind, ragged):
        X, y = ragged
        y = targets_of(kind, y)
        first, other = small(kind).fit(X, y), small(kind, random_state=1).fit(X, y)
        assert any((left != right).any() for left, right in zip(arrays_of(first), arrays_of(other), strict=True))
        generators = [np.random.default_rng(5), np.random.RandomState(5)]
        for again, generator in zip([np.random.default_rng(5), np.random.RandomState(5)], generators, strict=True):
            assert_same_model(
                small(kind, random_state=generator).fit(X, y), small(kind, random_state=again).fit(X, y), X
            )
        small(kind, random_state=None).fit(X, y)

    def test_fit_again_is_the_same(self, ragged):
        model = small(lw.LSTMRegressor).fit(*ragged)
        weights = arrays_of(model)
        for left, right in zip(weights, arrays_of(model.fit(*ragged)), strict=True):
            np.testing.assert_array_equal(left, right)


class TestHistory:
    @pytest.mark.parametrize("kind", KINDS)
    def test_rows(self, kind, ragged):
        X, y = ragged
        model = small(kind, early_stopping=True, max_epochs=4, n_iter_no_change=9).fit(X, targets_of(kind, y))
        assert model.n_iter_ == len(model.history_) == 4
        assert set(model.history_[0]) == {
            "epoch", "seconds", "samples", "loss", "lr", "gradient_norm", "validation_loss", "validation_score",
        }  # fmt: skip
        trained = 48 - 5 if kind is lw.LSTMRegressor else 48 - round(0.1 * sum(y > 0)) - round(0.1 * sum(y <= 0))
        assert [row["samples"] for row in model.history_] == [trained * (epoch + 1) for epoch in range(4)]

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("members", [1, 2])
    def test_validation_is_what_the_model_gives(self, kind, members, ragged):
        X, y = ragged
        y = targets_of(kind, y)
        weights = np.linspace(0.5, 1.5, 18)
        model = small(kind, n_members=members, validation_data=(X[30:], y[30:], weights)).fit(X[:30], y[:30])
        expected = model.score(X[30:], y[30:], weights)
        assert model.history_[-1]["validation_score"] == pytest.approx(expected, rel=1e-5)

    def test_validation_loss_of_classes(self, ragged):
        X, y = ragged
        y = y > 0
        model = small(lw.LSTMClassifier, validation_data=(X[30:], y[30:])).fit(X[:30], y[:30])
        likelihood = model.predict_log_proba(X[30:])[np.arange(18), y[30:].astype(int)].mean()
        assert model.history_[-1]["validation_loss"] == pytest.approx(-likelihood, rel=1e-5)

    def test_early_stopping_keeps_the_best(self, rng):
        X, y = rng.normal(size=(60, 5, 2)), rng.normal(size=60)  # nothing to learn
        model = small(
            lw.LSTMRegressor, hidden_size=32, max_epochs=200, lr=1e-2, early_stopping=True, n_iter_no_change=5
        )
        model.set_params(validation_data=(X[40:], y[40:]))
        model.fit(X[:40], y[:40])
        losses = [row["validation_loss"] for row in model.history_]
        assert len(losses) < 200
        best = model.history_[int(np.argmin(losses))]
        assert model.score(X[40:], y[40:]) == pytest.approx(best["validation_score"], abs=1e-5)

    def test_callbacks(self, ragged):
        rows = []
        small(lw.LSTMRegressor, callbacks=[lambda run, row: rows.append(row["epoch"])]).fit(*ragged)
        assert rows == [1, 2, 3]


class TestGoingOn:
    def test_warm_start(self, ragged):
        model = small(lw.LSTMRegressor, warm_start=True, lr_schedule="constant").fit(*ragged)
        scale = model.network_[0]
        loss = model.history_[-1]["loss"]
        X, y = ragged
        model.fit([each + 100 for each in X], y)
        assert model.network_[0].shift == scale.shift
        model.fit(X, y)
        assert model.history_[0]["loss"] < loss * 1.5

    def test_warm_start_begins_at_the_weights(self, ragged):
        model = small(lw.LSTMRegressor, warm_start=True).fit(*ragged)
        weights = arrays_of(model)
        model.set_params(lr=0.0, weight_decay=0.0).fit(*ragged)
        for left, right in zip(weights, arrays_of(model), strict=True):
            np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("kind", KINDS)
    def test_partial_fit_repeats_a_fit_at_a_constant_rate(self, kind, ragged):
        X, y = ragged
        y = targets_of(kind, y)
        whole = small(kind, lr_schedule="constant").fit(X, y)
        parts = small(kind)
        for _ in range(3):
            parts.partial_fit(X, y)
        assert_same_model(parts, whole, X)
        assert parts.n_iter_ == 3
        assert [row["epoch"] for row in parts.history_] == [1, 2, 3]
        assert [row["loss"] for row in parts.history_] == [row["loss"] for row in whole.history_]

    def test_partial_fit_with_a_schedule_of_the_optimiser(self, ragged):
        schedule = lw.optim.schedules.Cosine(1e-2, steps=9)
        whole = small(lw.LSTMRegressor, optimizer=lw.optim.Adam(lr=schedule)).fit(*ragged)
        parts = small(lw.LSTMRegressor, optimizer=lw.optim.Adam(lr=schedule))
        for _ in range(3):
            parts.partial_fit(*ragged)
        assert_same_model(parts, whole, ragged[0])

    def test_partial_fit_of_classes(self, ragged):
        X, _ = ragged
        model = small(lw.LSTMClassifier).partial_fit(X[:6], ["b"] * 6, classes=["c", "a", "b"])
        assert model.classes_.tolist() == ["a", "b", "c"]
        model.partial_fit(X[:6], ["c"] * 6)
        with pytest.raises(ValueError, match="classes: expected those of the calls before"):
            model.partial_fit(X[:6], ["c"] * 6, classes=["b", "c"])
        with pytest.raises(ValueError, match="y: expected one of the classes"):
            model.partial_fit(X[:6], ["d"] * 6)
        assert model.n_iter_ == 2

    def test_partial_fit_that_fails_changes_nothing(self, ragged):
        X, y = ragged
        model, other = (small(lw.LSTMRegressor).partial_fit(X, y) for _ in range(2))

        def fail(run, row):
            raise OverflowError

        before = dict(vars(model))
        with pytest.raises(OverflowError):
            model.set_params(callbacks=[fail]).partial_fit(X, y)
        assert vars(model) == before | {"callbacks": [fail]}
        assert_same_model(model.set_params(callbacks=None).partial_fit(X, y), other.partial_fit(X, y), X)

    def test_partial_fit_after_a_pickle(self, ragged):
        model = small(lw.LSTMRegressor).partial_fit(*ragged)
        copied = pickle.loads(pickle.dumps(model))
        assert_same_model(model.partial_fit(*ragged), copied.partial_fit(*ragged), ragged[0])

    @pytest.mark.parametrize("kind", KINDS)
    def test_resume(self, kind, ragged, tmp_path):
        X, y = ragged
        y = targets_of(kind, y)
        expected = small(kind, max_epochs=5).fit(X, y)

        def interrupt(run, row):
            if row["epoch"] == 2:
                raise OverflowError

        model = small(kind, max_epochs=5, checkpoint_dir=tmp_path / "run", callbacks=[interrupt])
        with pytest.raises(OverflowError):
            model.fit(X, y)
        assert not hasattr(model, "network_")
        assert_same_model(model.set_params(callbacks=None).fit(X, y, resume=True), expected, X)
        with pytest.raises(ValueError, match="resume"):
            model.set_params(lr=0.5).fit(X, y, resume=True)


class TestErrors:
    def test_a_failed_fit_changes_nothing(self, ragged):
        X, y = ragged
        model = small(lw.LSTMRegressor).fit(X, y)
        before = dict(vars(model))

        def fail(run, row):
            raise OverflowError

        model.callbacks = [fail]
        with pytest.raises(OverflowError):
            model.fit(X, y * 2)
        assert vars(model) == before | {"callbacks": [fail]}
        with pytest.raises(ValueError, match="y: expected"):
            model.fit(X, y[1:])
        assert vars(model) == before | {"callbacks": [fail]}

    def test_divergence(self, ragged):
        X, y = ragged
        model = small(lw.LSTMRegressor, optimizer=lw.optim.SGD(lr=1e6), clip_norm=None, lr_schedule="constant")
        with pytest.raises(DivergenceError):
            model.fit(X, y)
        assert np.isfinite(model.predict(X)).all()

    def test_divergence_names_the_users_samples(self, rng):
        def loss(output, y, weights=None):
            return math.nan if (y == 5).any() else 0.0, np.zeros_like(output)

        model = small(lw.LSTMRegressor, scale=None, batch_size=1, loss=loss)
        with pytest.raises(DivergenceError) as error:
            model.fit(rng.normal(size=(8, 4, 1)), np.arange(8.0), [0, 1, 1, 1, 1, 1, 1, 1])
        assert error.value.samples == [5]

    def test_more_sequences_than_targets(self, rng):
        with pytest.raises(ValueError, match="y: expected one target for each of 5 samples"):
            small(lw.LSTMRegressor).fit(rng.normal(size=(5, 4, 1)), np.zeros(4))


class TestCopies:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("members", [1, 2])
    def test_pickle_copy_and_file(self, kind, members, ragged, tmp_path):
        X, y = ragged
        X[3][0, 1] = math.nan
        parameters = {"zoneout": (0.1, 0.0), "lr_schedule": lw.optim.schedules.Step(1e-2, 5), "n_members": members}
        model = small(kind, optimizer=lw.optim.RMSprop(alpha=0.9), **parameters).fit(X, targets_of(kind, y))
        model.save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), loaded):
            assert_same_model(model, other, X)
            assert repr(other) == repr(model)
            assert other.history_ == model.history_
            assert (other.n_features_in_, other.missing_, other.n_iter_) == (3, "forward", 3)
            other.fit(X, targets_of(kind, y))
            assert_same_model(model, other, X)

    def test_what_files_leave_out(self, ragged, tmp_path):
        model = small(lw.LSTMRegressor, callbacks=[print_nothing], validation_data=ragged, loss=lw.losses.huber)
        model.fit(*ragged).save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        assert (loaded.callbacks, loaded.validation_data, loaded.loss) == (None, None, "squared_error")
        assert_same_model(model, loaded, ragged[0])

    def test_files_of_frames(self, tmp_path, rng):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        X = pandas.DataFrame(
            {"id": np.repeat(np.arange(30), 4), "kind": rng.choice(["a", "b"], 120), "x": rng.normal(size=120)}
        )
        y = pandas.Series(rng.normal(size=30), name="price")
        model = small(lw.LSTMRegressor, sequence="id", categorical=["kind"]).fit(X, y).set_output(predict="pandas")
        model.save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors").set_output(predict="pandas")
        pandas.testing.assert_series_equal(loaded.predict(X), model.predict(X))
        assert model.predict(X).name == "price"
        assert loaded.feature_names_in_.tolist() == ["kind", "x"]

    def test_damaged_files(self, ragged, tmp_path):
        from latchwork import files

        model = small(lw.LSTMRegressor).fit(*ragged)
        content = model._to_file()
        for name, value in {
            "missing": 3, "answers": {}, "schema": [], "outputs": None, "parameters": {"hidden": 3}, "history": 5,
            "network": {},
        }.items():  # fmt: skip
            with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
                lw.LSTMRegressor._from_file(content._replace(python={**content.python, name: value}))
        wider = small(lw.LSTMRegressor).fit(*ragged)
        wider.network_ = lw.Network([lw.Linear(4, 1)])
        files.save(wider, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match="network: expected one that reads 3 features and predicts 1"):
            lw.load(tmp_path / "model.safetensors")


def print_nothing(run, row):
    """Do nothing, as a callback."""


class TestStream:
    @pytest.mark.parametrize("head", ["last", "mean", "max", "sequence"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("members", [1, 2])
    def test_equals_predict(self, kind, head, members, rng):
        X = rng.normal(size=(20, 9, 2))
        X[rng.uniform(size=X.shape) < 0.2] = np.nan
        y = rng.normal(size=(20, 9) if head == "sequence" else 20)
        model = small(kind, head=head, n_members=members).fit(X, targets_of(kind, y))
        method = "predict_proba" if kind is lw.LSTMClassifier else "predict"
        many, one = model.stream(20, method=method), model.stream(method=method)
        for step in range(9):
            expected = getattr(model, method)(X[:, : step + 1])
            expected = expected[:, -1] if head == "sequence" else expected
            np.testing.assert_array_equal(many.step(X[:, step]), expected)
            np.testing.assert_array_equal(one.step(X[3, step]), expected[3])

    def test_categories_and_static_features(self, rng):
        X = np.empty((20, 5, 2), object)
        X[..., 0] = rng.normal(size=(20, 5))
        X[..., 1] = rng.choice(["a", "b", "c"], (20, 5))
        static = rng.normal(size=(20, 2))
        model = small(lw.LSTMRegressor, categorical=[1]).fit(X, rng.normal(size=20), static=static)
        many, one = model.stream(20, static), model.stream(None, static[7])
        for step in range(5):
            expected = model.predict(X[:, : step + 1], static=static)
            np.testing.assert_array_equal(many.step(X[:, step]), expected)
            assert one.step([X[7, step, 0], X[7, step, 1]]) == expected[7]

    def test_reset_and_skip(self, rng):
        X = rng.normal(size=(6, 5, 2))
        model = small(lw.LSTMRegressor).fit(X, rng.normal(size=6))
        stream = model.stream()
        first = [stream.step(X[0, step]) for step in range(5)]
        assert stream.step(X[0, 0], reset=True) == first[0]
        assert stream.step(X[1, 0], skip=True) == first[0]
        stream.reset()
        assert [stream.step(X[0, step]) for step in range(5)] == first

    def test_refused(self, rng):
        X = rng.normal(size=(6, 5, 2))
        model = small(lw.LSTMRegressor).fit(X, rng.normal(size=6))
        stream = model.stream(2)
        with pytest.raises(ValueError, match=r"x: expected \(2, 2\), got \(2, 3\)"):
            stream.step(np.zeros((2, 3)))
        for number, expected in ((np.nan, "X: expected no NaN"), (np.inf, "X: expected finite numbers")):
            with pytest.raises(ValueError, match=expected):
                stream.step(np.array([[1.0, number], [0.0, 0.0]]))
        with pytest.raises(TypeError, match="cannot be copied"):
            copy.copy(stream)
        with pytest.raises(ValueError, match="method: expected 'predict'"):
            model.stream(method="predict_proba")
        with pytest.raises(ValueError, match="static"):
            model.stream(static=[1.0])
        with pytest.raises(ValueError, match="direction"):
            small(lw.LSTMRegressor, bidirectional=True).fit(X, rng.normal(size=6)).stream()


class TestOutput:
    def test_forms(self, rng):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        X, y = rng.normal(size=(9, 4)), rng.normal(size=9)
        frame = pandas.DataFrame(X, index=list("abcdefghi"), columns=list("pqrs"))
        model = small(lw.LSTMClassifier).fit(frame, y > 0).set_output(predict="pandas")
        assert model.predict(frame).index.tolist() == list("abcdefghi")
        probabilities = model.predict_proba(frame)
        assert probabilities.columns.tolist() == ["False", "True"]
        assert probabilities.index.tolist() == list("abcdefghi")
        assert isinstance(model.set_output(predict="default").predict(frame), np.ndarray)
        assert model.set_output() is model
        with pytest.raises(ValueError, match="predict: expected"):
            model.set_output(predict="numpy")

    def test_polars(self, rng):
        polars = pytest.importorskip("polars", reason="polars is not installed")
        X, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 2))
        model = small(lw.LSTMRegressor, quantiles=(0.1, 0.9)).fit(X, y).set_output(predict="polars")
        predicted = model.predict(X)
        assert isinstance(predicted, polars.DataFrame)
        assert predicted.columns == ["0_0.1", "0_0.9", "1_0.1", "1_0.9"]


def test_works_without_scikit_learn(tmp_path):
    code = (
        "import sys\n"
        "for name in ('sklearn', 'pandas', 'scipy', 'tqdm'): sys.modules[name] = None\n"
        "import numpy as np, latchwork as lw\n"
        "X = np.zeros((30, 4, 1)); X[:15] = 1\n"
        "y = np.repeat(['a', 'b'], 15)\n"
        "model = lw.LSTMClassifier(8, max_epochs=20, early_stopping=True).fit(X, y)\n"
        "assert model.score(X, y) == 1\n"
        "model.predict_proba(X); lw.LSTMRegressor(8, max_epochs=1).fit(X, np.arange(30.0)).predict(X)\n"
        "try: lw.LSTMRegressor().predict(X)\n"
        "except ValueError as error: assert 'learned nothing' in str(error)\n"
        "assert not [name for name in sys.modules if name.startswith(('sklearn.', 'pandas.'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestMessagesSayWhatToDo:
    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"optimizer": "adam"}, r'optimizer: expected "adamw" or one of latchwork\.optim, got \'adam\''),
            ({"window": 4, "head": "last"}, r"window: expected head=\"sequence\" .* got head='last'"),
            ({"window": 4, "head": "sequence", "bidirectional": True}, "window: .* got bidirectional=True"),
            ({"quantiles": [0.9, 0.1]}, r"quantiles: .* in ascending order, got \[0.9, 0.1\]"),
        ],
    )
    def test_parameters(self, rng, parameters, message):
        with pytest.raises(ValueError, match=message):
            small(lw.LSTMRegressor, **parameters).fit(rng.normal(size=(9, 5)), rng.normal(size=9))

    def test_a_stream_of_both_directions(self, rng):
        model = small(lw.LSTMRegressor, bidirectional=True).fit(rng.normal(size=(9, 5)), rng.normal(size=9))
        with pytest.raises(ValueError, match=r"^stream: expected a model with bidirectional=False"):
            model.stream()

    def test_one_sequence_without_its_axis(self, rng):
        model = small(lw.LSTMRegressor).fit(rng.normal(size=(9, 5, 2)), rng.normal(size=9))
        with pytest.raises(ValueError, match=r"expecting 2 features as input; .*X\[np\.newaxis\]$"):
            model.predict(rng.normal(size=(5, 2)))
        with pytest.raises(ValueError, match="expecting 2 features as input$"):
            model.predict(rng.normal(size=(9, 5, 3)))

    def test_the_number_of_targets(self, rng):
        for y, got in ((rng.normal(size=8), r"\(8,\)"), (rng.normal(size=(8, 2)), r"\(8, 2\)")):
            with pytest.raises(ValueError, match=f"y: expected one target for each of 9 samples, got {got}$"):
                small(lw.LSTMRegressor).fit(rng.normal(size=(9, 5)), y)

    def test_a_target_that_is_no_column(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"id": ["a", "a", "b"], "x": [1.0, 2.0, 3.0], "state": ["on", "on", "off"]})
        with pytest.raises(ValueError, match="^y: expected a column of X, got 'State'; there are 'id', 'x', 'state'$"):
            small(lw.LSTMClassifier, sequence="id").fit(frame, "State")

    @pytest.mark.parametrize("dtype", [str, object])
    def test_labels_for_a_regressor(self, rng, dtype):
        with pytest.raises((TypeError, ValueError), match="^y: expected numbers, got .*; labels are for a classifier$"):
            small(lw.LSTMRegressor).fit(rng.normal(size=(3, 5)), np.array(["a", "b", "a"], dtype))


@pytest.mark.parametrize(
    ("steps", "options", "init", "t_max"),
    [
        (50, {}, "torch", None),
        (51, {}, "chrono", 51),
        (60, {"window": 50}, "torch", None),
        (60, {"window": 55}, "chrono", 55),
        (60, {"forget_gate": False}, "torch", None),
        (5, {"t_max": 9}, "chrono", 9),
        (60, {"init": "orthogonal"}, "orthogonal", None),
        (7, {"init": "chrono"}, "chrono", 7),
        (3, {"init": "chrono", "t_max": 5}, "chrono", 5),
    ],
)
def test_initial_values_follow_from_the_longest_sequence(steps, options, init, t_max):
    X = [np.ones((3, 1)), np.ones((steps, 1))]
    y = [x[:, 0] for x in X] if "window" in options else [0.0, 1.0]
    head = "sequence" if "window" in options else "last"
    model = lw.LSTMRegressor(hidden_size=2, head=head, max_epochs=1, random_state=0, **options).fit(X, y)
    lstm = next(layer for layer in model.network_ if isinstance(layer, lw.LSTM))
    assert (lstm.init, lstm.t_max) == (init, t_max)


@pytest.mark.parametrize(
    ("model_class", "steps", "options", "expected"),
    [
        (lw.LSTMClassifier, 50, {}, 0.5),
        (lw.LSTMClassifier, 51, {}, 0.0),
        (lw.LSTMClassifier, 51, {"recurrent_dropout": 0.2}, 0.2),
        (lw.LSTMRegressor, 50, {}, 0.1),
        (lw.LSTMRegressor, 51, {}, 0.0),
        (lw.LSTMRegressor, 60, {"window": 50}, 0.1),
        (lw.LSTMRegressor, 5, {"recurrent_dropout": 0.0}, 0.0),
    ],
)
def test_dropout_within_the_recurrence_follows_from_the_longest_sequence(model_class, steps, options, expected):
    X = [np.ones((3, 1)), np.ones((steps, 1))]
    y = [x[:, 0] for x in X] if "window" in options else [0, 1]
    head = "sequence" if "window" in options else "last"
    model = model_class(hidden_size=2, head=head, max_epochs=1, random_state=0, **options).fit(X, y)
    assert next(layer for layer in model.network_ if isinstance(layer, lw.LSTM)).recurrent_dropout == expected
