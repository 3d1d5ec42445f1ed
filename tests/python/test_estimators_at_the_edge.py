"""The regressor and the classifier at the edge of what they take: little data, odd numbers, parameters of odd types."""

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.runs.stopping import DivergenceError

KINDS = [lw.LSTMRegressor, lw.LSTMClassifier]


def small(kind, **parameters):
    given = {"hidden_size": 3, "max_epochs": 2, "bidirectional": False, "random_state": 0}
    return kind(**(given | parameters))


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(12, 5, 2))
    return X, X[:, :, 0].sum(axis=1)


def labels_of(y):
    return np.where(y > 0, "up", "down")


def targets_of(kind, y):
    return labels_of(y) if kind is lw.LSTMClassifier else y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("X", [np.zeros((0, 5, 2)), np.zeros((0, 1, 2), np.float32)])
def test_no_sequence_to_predict(kind, X, data):
    model = small(kind).fit(data[0], targets_of(kind, data[1]))
    with pytest.raises(ValueError, match=r"X: expected at least 1 sample, got 0 sample\(s\)"):
        model.predict(X)


def test_no_row_to_predict(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame({"id": np.repeat(np.arange(12), 5), "x": X[:, :, 0].ravel()})
    model = small(lw.LSTMRegressor, sequence="id").fit(frame, y)
    with pytest.raises(ValueError, match="X: expected at least 1 sample"):
        model.predict(frame[:0])


class TestNothingTrained:
    """An error before the first step leaves what was there, and makes no model of initial weights."""

    @pytest.mark.parametrize("where", ["checkpoint_dir", "certificate"])
    @pytest.mark.parametrize("fitted", [False, True])
    def test_a_folder_that_cannot_be_written(self, where, fitted, data, tmp_path):
        X, y = data
        nowhere = tmp_path / "file" / "run"
        nowhere.parent.write_text("no folder")
        model = small(lw.LSTMRegressor)
        if fitted:
            model.fit(X, y).partial_fit(X, y)
        before = dict(vars(model))
        with pytest.raises(OSError, match="file"):
            if where == "certificate":
                model.fit(X, y, certificate=nowhere)
            else:
                model.set_params(checkpoint_dir=nowhere).fit(X, y)
        assert vars(model.set_params(checkpoint_dir=None)) == before

    def test_divergence_at_the_first_step(self, data):
        X, y = data

        def loss(output, target, weights=None):
            return np.nan, np.zeros_like(output)

        model = small(lw.LSTMRegressor).fit(X, y)
        before = dict(vars(model))
        with pytest.raises(DivergenceError):
            model.set_params(loss=loss).fit(X, y)
        assert vars(model) == before | {"loss": loss}


class TestFiles:
    @pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), "float64"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_dtype_is_kept_however_it_was_given(self, kind, dtype, data, tmp_path):
        X, y = data[0], targets_of(kind, data[1])
        model = small(kind, dtype=dtype).fit(X, y)
        model.save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        assert loaded.dtype == "float64"
        again, expected = loaded.partial_fit(X, y), model.partial_fit(X, y)
        for left, right in zip(
            again.network_.state_dict().values(), expected.network_.state_dict().values(), strict=True
        ):
            np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("loss", ["quantile", "squared_error"])
    def test_quantiles_and_columns_given_as_arrays_are_kept(self, loss, data, tmp_path):
        X, y = data
        X = X.round()
        model = small(lw.LSTMRegressor, quantiles=np.array([0.1, 0.5]), loss=loss, categorical=np.array([1]))
        model.fit(X, y).save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        assert (loaded.quantiles, loaded.categorical) == ([0.1, 0.5], [1])
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))

    def test_no_data_is_kept(self, data, tmp_path):
        X, y = data
        model = small(lw.LSTMRegressor, validation_data=(X.tolist(), y.tolist())).fit(X, y)
        model.save(tmp_path / "model.safetensors")
        assert lw.load(tmp_path / "model.safetensors").validation_data is None

    @pytest.mark.parametrize(("name", "value"), [("hidden_size", "many"), ("window", 3), ("lr", -1.0)])
    def test_what_nobody_could_load_is_not_written(self, name, value, data, tmp_path):
        model = small(lw.LSTMRegressor).fit(*data).set_params(**{name: value})
        with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
            model.save(tmp_path / "model.safetensors")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "labels",
        [
            np.array([b"up", b"down"] * 6),
            np.array([b"up", b"d\xff"] * 6, object),
            np.array(["up", "d\0"] * 6, object),
            np.array([2**63, 1] * 6, np.uint64),
            [2**70, 1] * 6,
            [True, False] * 6,
        ],
    )
    def test_labels(self, labels, data, tmp_path):
        model = small(lw.LSTMClassifier).fit(data[0], labels)
        model.save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        assert loaded.classes_.dtype == model.classes_.dtype
        assert loaded.predict(data[0]).tolist() == model.predict(data[0]).tolist()

    @pytest.mark.parametrize("name", [np.int64(7), 7, ("of", "what"), (1, np.int64(7)), "id"])
    def test_names_of_columns(self, name, tmp_path):
        pandas = pytest.importorskip("pandas")
        column = (1, 7) if isinstance(name, tuple) and name[0] == 1 else name
        other = ("of", "x") if isinstance(name, tuple) else "x" if name == "id" else 9
        frame = pandas.DataFrame({column: [1, 1, 2], other: [0.5, 1.5, 2.5]})
        model = small(lw.LSTMRegressor, sequence=name).fit(frame, [1.0, 2.0])
        model.save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        assert loaded.sequence == name
        np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))

    def test_a_name_that_no_file_holds(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        day = pandas.Timestamp("2025-01-31")
        frame = pandas.DataFrame({day: [1, 1, 2], "x": [0.5, 1.5, 2.5]})
        model = small(lw.LSTMRegressor, sequence=day).fit(frame, [1.0, 2.0])
        with pytest.raises(TypeError, match="^sequence: expected the name of a column, a text or a number"):
            model.save(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "change", [{"names": "ab"}, {"names": ["a"]}, {"names": ["a", 1]}, {"single": True}, {"per_step": True}]
)
def test_a_file_whose_targets_do_not_fit(change, data):
    model = small(lw.LSTMRegressor).fit(data[0], np.stack([data[1], data[1]], axis=1))
    content = model._to_file()
    lw.LSTMRegressor._from_file(content)
    content.python["answers"].update(change)
    with pytest.raises(ValueError, match="expected"):
        lw.LSTMRegressor._from_file(content)


@pytest.mark.parametrize(("name", "value"), [("hidden_size", "many"), ("verbose", "loud"), ("lr", -1.0)])
def test_a_language_model_that_nobody_could_load(name, value, tmp_path):
    model = lw.LSTMLanguageModel(hidden_size=3, max_epochs=1).fit("to be or not to be " * 20)
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        model.set_params(**{name: value}).save(tmp_path / "model.safetensors")
    with pytest.raises((ValueError, TypeError), match=f"^{name}: expected"):
        model.fit("to be or not to be " * 20)
    assert not list(tmp_path.iterdir())


def test_labels_of_two_kinds_of_text(data):
    with pytest.raises(TypeError, match="^y: expected labels that are all texts or all numbers, got bytes, str"):
        small(lw.LSTMClassifier).fit(data[0], np.array(["up", b"down"] * 6, object))


def test_a_stream_that_has_read_nothing(data):
    X, y = data
    regressor = small(lw.LSTMRegressor).fit(X, y + 10).stream(2)
    np.testing.assert_array_equal(regressor.step(X[:2, 0], skip=[True, True]), [0, 0])
    classifier = small(lw.LSTMClassifier).fit(X, labels_of(y)).stream(method="predict_proba")
    np.testing.assert_array_equal(classifier.step(X[0, 0], skip=True), [0.5, 0.5])


@pytest.mark.parametrize("size", [0, -1])
def test_a_stream_of_no_rows(size, data):
    with pytest.raises(ValueError, match=f"^batch_size: expected at least 1, got {size}"):
        small(lw.LSTMRegressor).fit(*data).stream(size)


class TestClassWeights:
    def test_a_class_of_weight_zero_is_left_out(self, data):
        X, y = data[0], labels_of(data[1])
        left, right = small(lw.LSTMClassifier, class_weight={"up": 0.0, "down": 1.0}), small(lw.LSTMClassifier)
        left.fit(X, y)
        right.fit(X, y, sample_weight=np.where(y == "up", 0.0, 1.0))
        np.testing.assert_array_equal(left.predict_proba(X), right.predict_proba(X))

    def test_nothing_that_counts(self, data):
        with pytest.raises(ValueError, match="class_weight: expected at least one target that counts"):
            small(lw.LSTMClassifier, class_weight={"up": 0, "down": 0}).fit(data[0], labels_of(data[1]))

    def test_out_of_range(self, data):
        with pytest.raises(ValueError, match="class_weight: expected weights in the range of float32, got 1e.300"):
            small(lw.LSTMClassifier, class_weight={"up": 1e300}).fit(data[0], labels_of(data[1]))

    @pytest.mark.parametrize(("weight", "match"), [(0, "at least one target"), (1e300, "in the range of float32")])
    def test_of_long_data(self, weight, match, data):
        def pieces():
            yield data[0][0], np.zeros(5, int)

        model = small(lw.LSTMClassifier, class_weight={0: weight}, head="sequence", window=2)
        with pytest.raises(ValueError, match=f"class_weight: expected .*{match}"):
            model.fit(pieces)

    @pytest.mark.parametrize("value", [[1, 2], "uniform", 3])
    def test_of_another_kind(self, value, data):
        with pytest.raises(ValueError, match=r'class_weight: expected a mapping, "balanced" or None, got'):
            small(lw.LSTMClassifier, class_weight=value).fit(data[0], labels_of(data[1]))


class TestClasses:
    """The ``classes`` of ``partial_fit`` are labels as those in y are."""

    @pytest.mark.parametrize(
        ("classes", "error"),
        [
            (["up", "down", None], ValueError),
            ([0.0, 1.0, np.nan], ValueError),
            ([0.0, 1.5], ValueError),
            (["up", 3], TypeError),
            (np.array(["2025"], "M8[Y]"), TypeError),
            ([], ValueError),
        ],
    )
    def test_refused(self, classes, error, data):
        model = small(lw.LSTMClassifier)
        with pytest.raises(error, match="^classes: expected"):
            model.partial_fit(data[0], labels_of(data[1]), classes=classes)
        assert not hasattr(model, "network_")

    def test_in_any_order(self, data):
        model = small(lw.LSTMClassifier).partial_fit(data[0], labels_of(data[1]), classes=["up", "left", "down"])
        assert model.classes_.tolist() == ["down", "left", "up"]
        model.partial_fit(data[0], labels_of(data[1]), classes=["left", "down", "up"])


class TestColumnsOfPandas:
    @pytest.mark.parametrize("form", ["categorical", "array", "index"])
    def test_labels(self, form, data):
        pandas = pytest.importorskip("pandas")
        X, y = data[0], labels_of(data[1])
        given = {
            "categorical": pandas.Categorical(y),
            "array": pandas.array(y, dtype="string"),
            "index": pandas.Index(y),
        }[form]
        expected = small(lw.LSTMClassifier).fit(X, y)
        np.testing.assert_array_equal(
            small(lw.LSTMClassifier).fit(X, given).predict_proba(X), expected.predict_proba(X)
        )

    def test_what_is_missing_in_a_categorical(self, data):
        pandas = pytest.importorskip("pandas")
        X, y = data[0], labels_of(data[1])
        weights = np.ones(len(y))
        weights[2] = 0
        given = pandas.Categorical([None if place == 2 else each for place, each in enumerate(y)])
        expected = small(lw.LSTMClassifier).fit(X, y, weights)
        np.testing.assert_array_equal(
            small(lw.LSTMClassifier).fit(X, given).predict_proba(X), expected.predict_proba(X)
        )


@pytest.mark.parametrize("form", ["whole", "pieces"])
def test_features_of_subnormal_numbers(form, data):
    X = (data[0] * 1e-41).astype(np.float32)
    y = X[:, :, 0]
    if form == "whole":
        model = small(lw.LSTMRegressor, head="sequence").fit(X, y)
    else:
        model = small(lw.LSTMRegressor, head="sequence", window=2).fit(lambda: zip(X, y, strict=True))
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_forget_bias_needs_no_other_option(kind, data):
    model = small(kind, forget_bias=2.0).fit(data[0], targets_of(kind, data[1]))
    assert model.network_[1].init == "torch"


@pytest.mark.parametrize(("value", "error"), [("loud", TypeError), (1.5, TypeError), (-1, ValueError)])
@pytest.mark.parametrize("kind", KINDS)
def test_verbose_of_another_kind(kind, value, error, data):
    with pytest.raises(error, match="^verbose: expected"):
        small(kind, verbose=value).fit(data[0], targets_of(kind, data[1]))
