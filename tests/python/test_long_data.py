"""X and y that are read piece by piece: what one pass finds, and what training is given."""

import itertools

import numpy as np
import pytest
from latchwork.estimators.data import sources
from latchwork.estimators.data.long_data import LongData, coded_targets, is_long, scaled_targets
from latchwork.estimators.data.preparation import scale_of


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(sources, "STEPS_PER_READ", 50)


def mapped(path, values):
    array = np.memmap(path, values.dtype, "w+", shape=values.shape)
    array[...] = values
    return array


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    x = random.standard_normal((2, 333, 3)) * [1, 10, 100] + [5, 0, -3]
    y = x.sum(axis=2) + 40
    x[1, 200:210, 2] = np.nan
    y[0, 17] = np.nan
    return x, y


def batches_of(data, encode, **options):
    windows = data.windows(encode, **{"window": 6, "batch_size": 4, "seed": 1, "shuffle": False} | options)
    return windows, list(windows.batches(0))


def steps_in_order(batches, row):
    x = np.concatenate([batch.x[:, row] for batch in batches])
    y = np.concatenate([batch.y[:, row] for batch in batches])
    lengths = [len(batch.x) if batch.lengths is None else int(batch.lengths[row]) for batch in batches]
    return x[: sum(lengths)], y[: sum(lengths)]


def test_what_is_long(tmp_path):
    array = np.memmap(tmp_path / "x.bin", np.float32, "w+", shape=(3, 4, 2))
    for each in (
        array,
        [array[0], np.zeros((3, 2))],
        "x.parquet",
        tmp_path,
        [tmp_path, "x"],
        iter([]),
        lambda: [],
        b"x",
    ):
        assert is_long(each)
    for each in (np.zeros((3, 4, 2)), [np.zeros((3, 2))], [], [tmp_path, np.zeros(3)], [[1.0, 2.0]], None):
        assert not is_long(each)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_mapped_files(arrays, dtype, tmp_path):
    x, y = arrays
    data = LongData(mapped(tmp_path / "x", x), mapped(tmp_path / "y", y), dtype=dtype)
    schema = data.schema
    assert (schema.kind, schema.dtype, schema.n_features, schema.names) == ("list", dtype, 3, None)
    assert (data.n_outputs, data.single, data.names, data.can_repeat) == (1, True, None, True)
    assert data.inputs.gaps.columns() == [2]
    shift, factor = data.inputs.scale("standard")
    expected = scale_of(x.reshape(-1, 3).astype(dtype), "standard")
    np.testing.assert_allclose([shift, factor], expected, rtol=1e-9)
    shift, factor = data.outputs.scale("standard")
    np.testing.assert_allclose([shift, factor], scale_of(y.reshape(-1, 1).astype(dtype), "standard"), rtol=1e-9)
    windows, batches = batches_of(data, scaled_targets(shift, factor, dtype))
    assert windows.steps() == len(batches)
    read, targets = zip(*(steps_in_order(batches, row) for row in range(4)), strict=True)
    assert read[0].dtype == targets[0].dtype == dtype
    np.testing.assert_array_equal(np.concatenate(read), x.reshape(-1, 3).astype(dtype))
    known = (y.reshape(-1, 1).astype(dtype).astype(np.float64) - shift) * factor
    np.testing.assert_array_equal(np.concatenate(targets), np.nan_to_num(known).astype(dtype))
    (gap,) = [batch for batch in batches if batch.weights is not None]
    assert (gap.weights == 0).sum() == 1
    assert gap.weights.dtype == dtype


@pytest.mark.parametrize("labels", [["b", "a", "c"], [5, 2, 9]])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_labels(labels, weight, tmp_path):
    x = np.random.RandomState(0).standard_normal((1, 300, 2))
    y = np.array(labels)[np.arange(300) ** 2 % 7 % 3]
    data = LongData(mapped(tmp_path / "x", x), [y], labels=True)
    classes, counts = data.outputs.classes()
    assert classes.tolist() == sorted(labels)
    assert counts.tolist() == [(y == label).sum() for label in sorted(labels)]
    assert classes.dtype.kind == y.dtype.kind
    _, batches = batches_of(data, coded_targets(classes, np.array([1, weight, 1]), "float32"), batch_size=1)
    _, codes = steps_in_order(batches, 0)
    assert classes[codes].tolist() == y.tolist()
    if weight == 1:
        assert all(batch.weights is None for batch in batches)
    else:
        weights = np.concatenate([batch.weights[:, 0] for batch in batches])
        np.testing.assert_array_equal(weights, np.where(codes == 1, weight, 1))


def test_missing_labels_do_not_count(tmp_path):
    x = mapped(tmp_path / "x", np.zeros((1, 40, 1)))
    y = np.array([None if number % 5 == 0 else number % 3 > 0 for number in range(40)], object)
    data = LongData(x, [y], labels=True)
    classes, counts = data.outputs.classes()
    assert classes.tolist() == [False, True]
    assert counts.sum() == 32
    _, batches = batches_of(data, coded_targets(classes, np.array([1.0, 2.0]), "float64"), batch_size=1)
    weights = np.concatenate([batch.weights[:, 0] for batch in batches])
    np.testing.assert_array_equal(weights, [0 if label is None else 2 if label else 1 for label in y])


def test_weights_of_steps(tmp_path):
    x = np.zeros((1, 100, 1))
    weights = np.random.RandomState(0).uniform(size=(1, 100))
    data = LongData(mapped(tmp_path / "x", x), np.zeros((1, 100)), weights)
    _, batches = batches_of(data, scaled_targets(np.zeros(1), np.ones(1), "float32"), batch_size=1)
    np.testing.assert_array_equal(np.concatenate([batch.weights[:, 0] for batch in batches]), weights[0])


def test_parquet_gives_what_arrays_give(arrays, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")
    x, y = arrays
    for row in range(2):
        columns = {"a": x[row, :, 0], "b": x[row, :, 1], "gap": x[row, :, 2], "y": y[row]}
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{row}.parquet", row_group_size=100)
    whole = {name: np.concatenate([x[..., place].ravel()]) for place, name in enumerate(("a", "b", "gap"))}
    whole |= {"y": y.ravel(), "id": np.repeat(["v", "u"], 333), "time": np.tile(np.arange(333), 2)}
    parquet.write_table(pyarrow.table(whole), tmp_path / "whole.parquet")
    reference = LongData(mapped(tmp_path / "x", x), mapped(tmp_path / "y", y))
    data = [
        LongData([tmp_path / "0.parquet", tmp_path / "1.parquet"], "y"),
        LongData(tmp_path / "whole.parquet", "y", sequence="id", time="time"),
    ]
    for each in data:
        assert each.schema.names == ("a", "b", "gap")
        assert each.schema.targets == each.names == ("y",)
        assert each.single
        np.testing.assert_array_equal(each.inputs.scale("standard"), reference.inputs.scale("standard"))
        encode = scaled_targets(np.zeros(1), np.ones(1), "float32")
        for shuffle in (False, True):
            _, batches = batches_of(each, encode, shuffle=shuffle)
            _, expected = batches_of(reference, encode, shuffle=shuffle)
            for batch, other in zip(batches, expected, strict=True):
                for name in ("x", "y", "weights", "lengths", "reset", "continues", "samples"):
                    np.testing.assert_equal(getattr(batch, name), getattr(other, name))
    several = LongData(tmp_path / "0.parquet", ["y", "b"])
    assert (several.n_outputs, several.single, several.schema.names) == (2, False, ("a", "gap"))
    again = LongData(tmp_path / "1.parquet", ["y", "b"], before=several.schema)
    assert again.schema is several.schema


def pieces_of(x, y, size=100):
    return [(x[0, at : at + size], y[0, at : at + size]) for at in range(0, x.shape[1], size)]


def test_a_function_that_gives_pieces(arrays):
    x, y = arrays
    data = LongData(lambda: iter(pieces_of(x, y)), None)
    np.testing.assert_allclose(data.inputs.scale("standard"), scale_of(x[0].astype("f4"), "standard"), rtol=1e-9)
    assert data.can_repeat
    windows, batches = batches_of(data, scaled_targets(np.zeros(1), np.ones(1), "float32"))
    assert windows.steps() == len(batches) == -(-333 // 6)
    read, _ = steps_in_order(batches, 0)
    np.testing.assert_array_equal(read, x[0].astype("f4"))


def test_an_iterator_has_the_numbers_of_its_first_piece(arrays):
    x, y = arrays
    with pytest.warns(UserWarning, match="the numbers of scaling are those of the first piece, of 100 steps"):
        data = LongData(iter(pieces_of(x, y)), None)
    np.testing.assert_allclose(data.inputs.scale("standard"), scale_of(x[0, :100].astype("f4"), "standard"), rtol=1e-9)
    assert not data.can_repeat
    windows, batches = batches_of(data, scaled_targets(np.zeros(1), np.ones(1), "float32"))
    assert windows.steps() is None
    np.testing.assert_array_equal(steps_in_order(batches, 0)[0], x[0].astype("f4"))
    with pytest.warns(UserWarning, match="classes and the numbers of scaling are those of the first"):
        data = LongData(iter([(np.zeros((4, 3, 2)), np.arange(12).reshape(4, 3) % 2)]), None, labels=True)
    assert data.outputs.classes()[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        ({(1, 250, 2): np.inf}, {}, {}, ValueError,
         "X: expected finite numbers or NaN, got inf in sample 1, step 250, column 2"),
        ({(1, 0, 0): 1e300}, {}, {}, ValueError,
         r"X: expected numbers in the range of float32, got 1e\+300 in sample 1, step 0, column 0"),
        ({}, {(0, 60): -np.inf}, {}, ValueError,
         "y: expected finite numbers or NaN, got -inf in sample 0, step 60, column 0"),
        ({}, {(0, 60): 0.5}, {"labels": True}, ValueError, "y: expected labels, got 0.5 in sample 0, step 60"),
        ({}, {}, {"sequence": "id"}, TypeError, "sequence: expected None for arrays, which have no columns, got 'id'"),
        ({}, {}, {"time": "t"}, TypeError, "time: expected None for arrays"),
    ],
)  # fmt: skip
def test_what_is_refused_of_arrays(x, y, options, error, message, tmp_path):
    values, targets = np.zeros((2, 333, 3)), np.zeros((2, 333))
    for place, value in x.items():
        values[place] = value
    for place, value in y.items():
        targets[place] = value
    with pytest.raises(error, match=message):
        LongData(mapped(tmp_path / "x", values), targets, **options)


@pytest.mark.parametrize(
    ("X", "y", "weight", "error", "message"),
    [
        (lambda: [], None, None, ValueError, "X: expected at least one step, got none"),
        (iter([]), None, None, ValueError, "X: expected at least one step, got none"),
        (lambda: [(np.zeros((3, 2)), np.zeros(3))], np.zeros(3), None, TypeError,
         r"y: expected None with pieces \(x, y\) of an iterator, got ndarray"),
        (lambda: [(np.zeros((3, 2)), np.zeros(3))], None, np.ones(3), TypeError,
         "sample_weight: expected None with an iterator, got ndarray"),
        (lambda: [(np.zeros(3), np.zeros(3)), (np.array([1, np.inf]), np.zeros(2))], None, None, ValueError,
         "got inf in piece 1, step 1, column 0"),
        (lambda: [(np.array([[[1.0], [2]], [[3], [np.inf]]]), np.zeros((2, 2)))], None, None, ValueError,
         "got inf in piece 0, step 1 of row 1, column 0"),
        (lambda: [(np.zeros(3), np.array(["a"] * 3))], None, None, TypeError, "y: expected numbers, got dtype"),
        ("x.parquet", np.zeros(3), None, TypeError, r"y: expected the name of a column of x.parquet, or several, got"),
        (["x.parquet"], [], None, TypeError, "y: expected the name of a column"),
        ("x.parquet", "y", np.ones(3), TypeError, "sample_weight: expected None with Parquet files, got ndarray"),
    ],
)  # fmt: skip
def test_what_is_refused_of_pieces_and_paths(X, y, weight, error, message):
    with pytest.raises(error, match=message):
        LongData(X, y, weight)


def test_columns_of_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="y: expected one label for each step, got 2 columns"):
        LongData(mapped(tmp_path / "x", np.zeros((1, 9, 1))), np.zeros((1, 9, 2)), labels=True)


def test_other_features_than_in_the_first_training_are_refused(tmp_path):
    x = mapped(tmp_path / "x", np.zeros((1, 9, 2)))
    schema = LongData(x, np.zeros((1, 9))).schema
    assert LongData(x, np.zeros((1, 9)), before=schema).schema is schema
    with pytest.raises(ValueError, match="X: expected 2 features, as in training, got 3"):
        LongData(mapped(tmp_path / "z", np.zeros((1, 9, 3))), np.zeros((1, 9)), before=schema)


def test_the_order_of_sequences_follows_the_seed(tmp_path):
    x = mapped(tmp_path / "x", np.arange(600.0).reshape(30, 20, 1))
    data = LongData(x, np.zeros((30, 20)))
    encode = scaled_targets(np.zeros(1), np.ones(1), "float32")

    def first_steps(seed):
        windows, _ = batches_of(data, encode, seed=seed, shuffle=True)
        return [next(windows.batches(epoch)).x[0, 0, 0] for epoch in range(6)]

    assert first_steps(1) == first_steps(1)
    assert len({*first_steps(1), *first_steps(2)}) > 6
    assert all(each % 20 == 0 for each in itertools.chain(first_steps(1), first_steps(2)))
