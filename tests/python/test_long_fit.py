"""Estimators on long data: the same model, wherever the data lie, and predictions of files."""

import itertools

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators import prediction
from latchwork.estimators.data import sources
from latchwork.estimators.data.windows import Windows

OPTIONS = {"hidden_size": 4, "window": 25, "head": "sequence", "max_epochs": 2, "batch_size": 4, "random_state": 0}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(sources, "STEPS_PER_READ", 300)


@pytest.fixture
def data():
    random = np.random.RandomState(0)
    x = random.standard_normal((2, 900, 3)) * [1, 10, 100] + [0, 5, 50]
    y = np.sign(x[..., 0]).cumsum(axis=1) % 5 + x[..., 1]
    return x.astype(np.float32), y


def mapped(path, values):
    array = np.memmap(path, values.dtype, "w+", shape=values.shape)
    array[...] = values
    return array


def table(path, x, y, **more):
    pyarrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")
    parquet.write_table(pyarrow.table({"a": x[:, 0], "b": x[:, 1], "y": y, "c": x[:, 2], **more}), path)
    return path


def assert_same_model(model, expected):
    weights, others = model.network_.state_dict(), expected.network_.state_dict()
    assert list(weights) == list(others)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)
    assert [row["loss"] for row in model.history_] == [row["loss"] for row in expected.history_]


def test_memory_mapped_files_train_as_other_arrays_do(data, tmp_path):
    x, y = data
    expected = lw.LSTMRegressor(**OPTIONS).fit(x, y)
    assert expected.n_iter_ == 2
    assert expected.history_[-1]["steps"] == 3600
    x_map, y_map = mapped(tmp_path / "x", x), mapped(tmp_path / "y", y)
    for each_x, each_y in ((x_map, y_map), (list(x_map), list(y_map)), ([x_map[0], x[1]], y), (list(x), list(y))):
        model = lw.LSTMRegressor(**OPTIONS).fit(each_x, each_y)
        np.testing.assert_allclose(model.predict(x), expected.predict(x), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(model.history_[-1]["loss"], expected.history_[-1]["loss"], rtol=1e-4)
    np.testing.assert_array_equal(model.predict(x_map), model.predict(x))
    assert model.n_features_in_ == 3
    assert not hasattr(model, "feature_names_in_")


def test_what_the_state_must_carry_is_learned(tmp_path):
    """Each target is the last sign that was shown, mostly in an earlier window."""
    random = np.random.RandomState(0)
    shown = np.where(random.uniform(size=(1, 8000)) < 0.04, random.choice([-1.0, 1.0], (1, 8000)), 0.0)
    places = np.maximum.accumulate(np.where(shown != 0, np.arange(8000), 0), axis=1)
    y = np.take_along_axis(shown, places, axis=1)
    options = OPTIONS | {"window": 10, "batch_size": 8, "max_epochs": 15, "hidden_size": 8}
    model = lw.LSTMClassifier(**options).fit(mapped(tmp_path / "x", shown[..., np.newaxis]), y)
    assert model.score(shown[..., np.newaxis], y) > 0.98


def test_a_fit_reads_each_batch_window_by_window(data, monkeypatch):
    x, y = data
    made = []
    batch = Windows._batch
    monkeypatch.setattr(Windows, "_batch", lambda *arguments: made.append(batch(*arguments)) or made[-1])
    lw.LSTMRegressor(**OPTIONS).fit(x, y)
    assert {each.x.shape for each in made} == {(25, 4, 3)}
    assert len(made) == 2 * 1800 // (25 * 4)


def test_parquet(data, tmp_path):
    x, y = data
    paths = [table(tmp_path / f"{row}.parquet", x[row], y[row]) for row in range(2)]
    expected = lw.LSTMRegressor(**OPTIONS).fit(mapped(tmp_path / "x", x), mapped(tmp_path / "y", y))
    several = lw.LSTMRegressor(**OPTIONS).fit(paths, "y")
    assert_same_model(several, expected)
    assert several.feature_names_in_.tolist() == ["a", "b", "c"]
    both = table(
        tmp_path / "both.parquet", x.reshape(-1, 3), y.ravel(), id=np.repeat(["p", "q"], 900), t=np.tile(range(900), 2)
    )
    one = lw.LSTMRegressor(**OPTIONS, sequence="id", time="t").fit(str(both), "y")
    assert_same_model(one, expected)

    predicted = expected.predict(x)
    for row, values in enumerate(several.predict(paths)):
        np.testing.assert_array_equal(values, predicted[row])
    np.testing.assert_array_equal(several.predict(paths[1]), predicted[1])
    np.testing.assert_array_equal(one.predict(both), predicted.ravel())
    assert several.score(paths, "y") == one.score(both, "y") == expected.score(x, y)
    loaded_path = tmp_path / "model.safetensors"
    one.save(loaded_path)
    np.testing.assert_array_equal(lw.load(loaded_path).predict(both), predicted.ravel())


def test_predictions_of_files_as_frames(data, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    x, y = data
    path = table(tmp_path / "x.parquet", x[0], y[0])
    model = lw.LSTMRegressor(**OPTIONS).fit(path, ["y"])
    frame = model.set_output(predict="pandas").predict(path)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["y"]
    np.testing.assert_array_equal(frame["y"], model.set_output(predict="default").predict(path)[:, 0])


def test_files_that_do_not_fit_the_model(data, tmp_path):
    x, y = data
    path = table(tmp_path / "x.parquet", x[0], y[0])
    model = lw.LSTMRegressor(**OPTIONS).fit(path, "y")
    other = table(tmp_path / "other.parquet", x[0][:, [1, 0, 2]], y[0], d=y[0])
    np.testing.assert_array_equal(model.predict(other).shape, (900,))
    of_arrays = lw.LSTMRegressor(**OPTIONS).fit(x, y)
    with pytest.raises(ValueError, match="X: expected 3 features, as in training, got 4"):
        of_arrays.predict(path)
    with pytest.raises(TypeError, match="static: expected None, because X is a file, got list"):
        model.predict(path, static=[1.0])
    with pytest.raises(ValueError, match="y: expected a column of X, got 'z'"):
        model.score(path, "z")


@pytest.mark.parametrize("rows", [1, 2])
def test_pieces(data, rows):
    x, y = data

    def pieces():
        for begin in range(0, 900, 130):
            part = slice(begin, begin + 130)
            yield (x[:, part], y[:, part]) if rows == 2 else (x[0, part], y[0, part])

    model = lw.LSTMRegressor(**OPTIONS).fit(pieces)
    assert model.history_[-1]["steps"] == 2 * 900 * rows
    network = lw.Network([lw.LSTM(3, 4), lw.Linear(4, 1)])
    assert len(network) + 2 == len(model.network_)  # Scale before and after
    values = x[:rows].reshape(-1, 3).astype(np.float64)
    shift = model.network_[0].shift
    np.testing.assert_allclose(shift, values.mean(axis=0), rtol=1e-6)
    with pytest.warns(UserWarning, match="the first piece, of 130 steps") as caught:
        once = lw.LSTMRegressor(**OPTIONS | {"max_epochs": 1}).fit(pieces())
    assert caught[0].filename == __file__
    assert once.history_[-1]["steps"] == 900 * rows
    np.testing.assert_allclose(once.network_[0].shift, x[:rows, :130].reshape(-1, 3).mean(axis=0), rtol=1e-5)


def test_partial_fit_reads_iterators(data):
    x, y = data
    pieces = [(x[0, begin : begin + 100], y[0, begin : begin + 100]) for begin in range(0, 900, 100)]
    model = lw.LSTMRegressor(**OPTIONS)
    with pytest.warns(UserWarning, match="the first piece"):
        model.partial_fit(iter(pieces), None)
    before = model.network_.state_dict()
    model.partial_fit(iter(pieces), None)  # the numbers are known: nothing is warned of
    after = model.network_.state_dict()
    assert len(model.history_) == 2
    assert not np.array_equal(before["1.weight_ih_l0"], after["1.weight_ih_l0"])
    with pytest.raises(ValueError, match="X: expected 3 features, as in training, got 2"):
        model.partial_fit(iter([(np.zeros((5, 2)), np.zeros(5))]), None)


@pytest.mark.parametrize("labels", [["low", "high", "middle"], [2, 0, 7]])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_classes(data, labels, class_weight, tmp_path):
    x, _ = data
    y = np.array(labels)[np.clip(np.floor(x[..., 0]) + 1, 0, 2).astype(int)]
    options = OPTIONS | {"class_weight": class_weight}
    expected = lw.LSTMClassifier(**options).fit(x, y)
    model = lw.LSTMClassifier(**options).fit(mapped(tmp_path / "x", x), y)
    assert model.classes_.tolist() == sorted(labels)
    np.testing.assert_allclose(model.predict_proba(x), expected.predict_proba(x), atol=1e-4)
    paths = [table(tmp_path / f"{row}.parquet", x[row], y[row]) for row in range(2)]
    of_files = lw.LSTMClassifier(**options).fit(paths, "y")
    assert_same_model(of_files, model)
    assert of_files.predict(paths)[1].tolist() == model.predict(x)[1].tolist()
    assert of_files.score(paths, "y") == model.score(x, y)


def test_missing_values(data, tmp_path):
    x, y = data
    x[0, 200:230, 1] = np.nan
    y[1, 5:9] = np.nan
    x_map, y_map = mapped(tmp_path / "x", x), mapped(tmp_path / "y", y)
    for missing in (None, "mean", "zero"):
        for scale in ("standard", None):
            options = OPTIONS | {"missing": missing, "scale": scale}
            expected = lw.LSTMRegressor(**options).fit(x, y)
            model = lw.LSTMRegressor(**options).fit(x_map, y_map)
            assert model.missing_ == expected.missing_ == (missing or "forward")
            assert str(model.network_[1]).split("fill")[0] == str(expected.network_[1]).split("fill")[0]
            np.testing.assert_allclose(model.predict(x), expected.predict(x), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="X: expected no NaN, got NaN in sample 0, step 200, column 1; give missing="):
        lw.LSTMRegressor(**OPTIONS, missing="refuse").fit(x_map, y_map)
    with pytest.raises(ValueError, match="y: expected at least one target of each output, got none"):
        lw.LSTMRegressor(**OPTIONS).fit(x_map, np.full(y.shape, np.nan))


def test_quantiles_and_several_outputs(data, tmp_path):
    x, y = data
    both = np.stack([y, 100 * y + 3], axis=2)
    options = OPTIONS | {"quantiles": [0.1, 0.5, 0.9]}
    expected = lw.LSTMRegressor(**options).fit(x, both)
    model = lw.LSTMRegressor(**options).fit(mapped(tmp_path / "x", x), both)
    assert model.n_outputs_ == 2
    np.testing.assert_allclose(model.predict(x), expected.predict(x), rtol=1e-3, atol=1e-2)


def test_validation_is_on_other_data(data, tmp_path):
    x, y = data
    model = lw.LSTMRegressor(**OPTIONS, early_stopping=True, validation_data=(x[:1], y[:1]))
    model.fit(mapped(tmp_path / "x", x), y)
    assert all("validation_loss" in row for row in model.history_)


def test_going_on_from_a_checkpoint_ends_with_the_same_bits(data, tmp_path):
    x, y = data
    x_map = mapped(tmp_path / "x", x)
    options = OPTIONS | {"max_epochs": 4}
    expected = lw.LSTMRegressor(**options).fit(x_map, y)

    class Stop(RuntimeError):
        pass

    def stop(_, row):
        if row["epoch"] == 2:
            raise Stop

    folder = tmp_path / "checkpoints"
    with pytest.raises(Stop):
        lw.LSTMRegressor(**options, checkpoint_dir=folder, callbacks=stop).fit(x_map, y)
    model = lw.LSTMRegressor(**options, checkpoint_dir=folder)
    model.fit(x_map, y, resume=True)
    assert_same_model(model, expected)


def test_a_certificate_covers_the_data(data, tmp_path):
    x, y = data
    chains = []
    for change in (0, 0, 1e-3):
        x_map = mapped(tmp_path / "x", x)
        x_map[1, 500, 2] += change
        path = tmp_path / f"{len(chains)}.json"
        model = lw.LSTMRegressor(**OPTIONS, checkpoint_dir=tmp_path / f"checkpoints{len(chains)}")
        model.fit(x_map, y, certificate=path)
        chains.append(model._new_run(x_map, y, seed=0).data)
        del x_map
    first, same, other = ([] for _ in range(3))
    for data_of_run, fed in zip(chains, (first, same, other), strict=True):
        data_of_run.feed(lambda each, fed=fed: fed.append(bytes(each)))
    assert len({path.name for path in tmp_path.glob("*.json")}) == 3
    once = lw.LSTMRegressor(**OPTIONS | {"max_epochs": 1}, checkpoint_dir=tmp_path / "once")
    with (
        pytest.warns(UserWarning, match="the first piece"),
        pytest.raises(ValueError, match="X: expected something that can be read again, for a certificate"),
    ):
        once.fit(iter([(x[0], y[0])]), certificate=tmp_path / "once.json")
    assert not hasattr(once, "network_")


@pytest.mark.parametrize("checkpoint", [1, 7, 1000])
def test_checkpoints_change_no_bit(data, checkpoint):
    x, y = data
    for window in (25, None):
        options = OPTIONS | {"window": window}
        expected = lw.LSTMRegressor(**options).fit(x, y)
        assert_same_model(lw.LSTMRegressor(**options, checkpoint=checkpoint).fit(x, y), expected)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("ragged", [False, True])
def test_predictions_of_long_sequences_come_call_by_call_with_the_same_bits(data, members, ragged, monkeypatch):
    x, y = data
    x[0, 100:200, 0] = np.nan
    X = [x[0], x[1, :77], x[1, :1], x[1, :333]] if ragged else x
    model = lw.LSTMRegressor(**OPTIONS, n_members=members, missing="forward").fit(x, y)
    both_ways = lw.LSTMRegressor(**OPTIONS | {"window": None}, bidirectional=True, missing="forward").fit(x, y)
    expected = [model.predict(X), both_ways.predict(X)]
    calls = []
    call = lw.Network.__call__
    monkeypatch.setattr(lw.Network, "__call__", lambda *arguments: calls.append(len(arguments[1])) or call(*arguments))
    monkeypatch.setattr(prediction, "_NUMBERS_OF_A_CALL", 2000)
    for predicted, values in zip(model.predict(X), expected[0], strict=True):
        np.testing.assert_array_equal(predicted, values)
    assert max(calls) < 200
    calls.clear()
    for predicted, values in zip(both_ways.predict(X), expected[1], strict=True):
        np.testing.assert_array_equal(predicted, values)
    assert max(calls) == 900


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": None}, ValueError, "window: expected how many steps are read at once, because X comes piece by"),
        ({"categorical": ["a"]}, ValueError, "categorical: expected None, because X comes piece by piece, got"),
        ({"scale": "robust"}, ValueError, 'scale: expected "standard" or None, because X comes piece by piece'),
        ({"early_stopping": True}, ValueError, r"validation_data: expected \(X, y\) for early_stopping"),
        ({"max_epochs": 2}, ValueError, "max_epochs: expected 1 for an iterator, which can be read only once, got 2"),
    ],
)
def test_options_that_pieces_cannot_have(options, error, message):
    pieces = iter([(np.zeros((100, 3)), np.zeros(100))])
    model = lw.LSTMRegressor(**OPTIONS | {"max_epochs": 1} | options)
    with pytest.raises(error, match=message):
        model.fit(pieces)
    assert next(pieces) is not None  # nothing was read
    assert not hasattr(model, "network_")


def test_static_features_of_pieces_are_refused():
    with pytest.raises(TypeError, match="static: expected None, because X comes piece by piece, got list"):
        lw.LSTMRegressor(**OPTIONS).fit(lambda: [(np.zeros((9, 1)), np.zeros(9))], static=[1])


def test_a_memory_mapped_file_without_a_window_is_an_array(data, tmp_path):
    x, y = data
    options = OPTIONS | {"window": None}
    model = lw.LSTMRegressor(**options, early_stopping=True).fit(mapped(tmp_path / "x", x), y)
    assert_same_model(model, lw.LSTMRegressor(**options, early_stopping=True).fit(x, y))


def test_an_endless_iterator_ends_by_the_clock(data):
    x, y = data
    endless = ((x[0, :100], y[0, :100]) for _ in itertools.count())
    model = lw.LSTMRegressor(**OPTIONS | {"max_epochs": 1}, max_seconds=0.5)
    with pytest.warns(UserWarning, match="the first piece"):
        model.fit(endless)
    assert model.history_[-1]["steps"] > 100


def test_a_network_reads_both_ways_unless_it_reads_windows(data):
    x, y = data
    for window, bidirectional, expected in ((None, None, True), (None, False, False), (25, None, False)):
        options = OPTIONS | {"window": window, "max_epochs": 1}
        model = lw.LSTMRegressor(**options, bidirectional=bidirectional).fit(x, y)
        assert model.network_[1].bidirectional == expected
    with pytest.raises(
        ValueError, match='window: expected head="sequence" and one direction beside it, got bidirectional=True'
    ):
        lw.LSTMRegressor(**OPTIONS, bidirectional=True).fit(x, y)
