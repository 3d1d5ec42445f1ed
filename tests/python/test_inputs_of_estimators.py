"""What estimators read as X: arrays and lists of every kind, as ragged sequences and batches of them."""

import hashlib
import json
import warnings

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from latchwork.estimators.data.inputs import Schema, read, read_fit
from latchwork.estimators.data.sequences import Sequences

LENGTHS = (3, 7, 0, 1, 17)


def ragged(features=2, dtype=np.float32, lengths=LENGTHS):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(length, features)).astype(dtype) for length in lengths]


def padded(blocks, static=None):
    """The batch that plain loops make: (T, n, F)."""
    longest = max(len(block) for block in blocks)
    extra = 0 if static is None else static.shape[1]
    x = np.zeros((longest, len(blocks), blocks[0].shape[1] + extra), blocks[0].dtype)
    for row, block in enumerate(blocks):
        for step, values in enumerate(block):
            x[step, row] = values if static is None else [*values, *static[row]]
    return x


class TestForms:
    def test_an_array_is_not_copied(self, dtype):
        X = np.arange(30, dtype=dtype).reshape(2, 5, 3)
        X.flags.writeable = False
        sequences, schema, layout = read_fit(X, dtype=dtype)
        assert np.shares_memory(sequences.values, X)
        assert (schema.kind, schema.n_features, schema.n_features_in, schema.names) == ("array", 3, 3, None)
        assert_same_bits(sequences.values, X.reshape(10, 3))
        assert sequences.offsets.tolist() == [0, 5, 10]
        assert (len(layout), layout.total_steps, sequences.equal_length) == (2, 10, 5)

    def test_a_table_has_one_feature_a_step(self):
        X = np.arange(12.0).reshape(3, 4)
        sequences, schema, _ = read_fit(X)
        assert (schema.kind, schema.n_features, schema.n_features_in, schema.steps) == ("univariate", 1, 4, 4)
        assert_same_bits(sequences.batch([2, 0])[0][..., 0], X[[2, 0]].T.astype(np.float32))

    def test_a_list_of_arrays(self, dtype):
        X = ragged(dtype=dtype)
        sequences, schema, layout = read_fit(X, dtype=dtype)
        assert (schema.kind, schema.n_features) == ("list", 2)
        assert sequences.offsets.tolist() == [0, 3, 10, 10, 11, 28]
        assert_same_bits(sequences.values, np.concatenate(X))
        assert (sequences.equal_length, layout.kind) == (None, "list")

    def test_lists_of_numbers(self):
        sequences, schema, _ = read_fit([[1, 2, 3], [4]])
        assert (schema.kind, schema.n_features) == ("list", 1)
        assert sequences.values[:, 0].tolist() == [1, 2, 3, 4]
        assert read_fit([[1, 2], [3, 4]])[1].kind == "univariate"
        assert read_fit([[[1, 2]], [[3, 4]]])[1].kind == "array"
        assert read_fit([[[1, 2], [5, 6]], [[3, 4]]])[0].offsets.tolist() == [0, 2, 3]
        assert read_fit([np.ones(3), np.ones(3)])[1].kind == "list"
        of_objects = np.empty(2, object)
        of_objects[:] = [np.ones((3, 2)), np.ones((1, 2))]
        assert read_fit(of_objects)[0].offsets.tolist() == [0, 3, 4]

    @pytest.mark.parametrize("kind", ["float16", ">f4", ">f8", "int8", "uint64", "int64", "bool", "float64"])
    @pytest.mark.parametrize("as_list", [False, True])
    def test_every_real_dtype(self, kind, as_list, dtype):
        X = np.array([[[0, 1], [1, 0]], [[1, 1], [0, 0]]]).astype(kind)
        sequences, _, _ = read_fit(list(X) if as_list else X, dtype=dtype)
        assert_same_bits(sequences.values, X.reshape(4, 2).astype(dtype))

    def test_layouts_of_memory(self):
        X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
        for view in (X[::2, ::3], X.transpose(2, 0, 1), X[:, :, ::-1], np.asfortranarray(X)):
            sequences, _, _ = read_fit(view)
            assert_same_bits(sequences.values, np.array(view).reshape(-1, view.shape[2]))
            assert sequences.values.flags.c_contiguous

    def test_bfloat16(self):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
        X = np.array([[1.5, -2.0], [0.25, 3.0]])
        assert read_fit(X.astype(ml_dtypes.bfloat16))[0].values[:, 0].tolist() == [1.5, -2, 0.25, 3]

    def test_tensors(self):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        X = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
        for each in (torch.from_numpy(X), torch.from_numpy(X).bfloat16(), list(torch.from_numpy(X))):
            assert_same_bits(read_fit(each)[0].values, X.reshape(6, 2))

    def test_what_is_masked_is_missing(self):
        X = np.ma.masked_array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
        assert_same_bits(read_fit(X)[0].values[:, 0], np.float32([1, np.nan, 3, 4]))
        assert np.isnan(read_fit(X.astype(np.float32))[0].values[1, 0])

    def test_objects_that_are_numbers(self):
        X = np.array([[1, 2.5, None], [True, np.float32(3), float("nan")]], object)
        assert_same_bits(read_fit(X)[0].values[:, 0], np.float32([1, 2.5, np.nan, 1, 3, np.nan]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("X", "error", "message"),
        [
            (np.ones(3), ValueError, r"X: expected \(n, T, features\), .*got \(3,\)"),
            (np.ones((2, 2, 2, 2)), ValueError, r"X: expected .*got \(2, 2, 2, 2\)"),
            (np.ones((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\)"),
            (np.ones((3, 0)), ValueError, r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
            (np.ones((3, 2, 0)), ValueError, r"0 feature\(s\)"),
            (np.ones((3, 0, 2)), ValueError, r"at least 1 step, got 0 step\(s\)"),
            ([], ValueError, "X: expected"),
            ([np.ones((2, 3)), np.ones((2, 4))], ValueError, r"X\[1\]: expected \(T, 3\), as X\[0\] is, got \(2, 4\)"),
            ([np.ones((2, 0))], ValueError, "at least 1 feature"),
            ([np.ones((2, 3, 4))], ValueError, r"X\[0\]: expected \(T,\) or \(T, features\), got \(2, 3, 4\)"),
            (np.ones((2, 3)) * 1j, ValueError, "Complex data not supported"),
            (np.array([["a", "b"]]), ValueError, "X: expected numbers, got dtype <U1"),
            (np.array([["a", "b"]], object), ValueError, "got 'a' in sample 0, step 0, column 0.*categorical="),
            (np.array([[1, {}]], object), TypeError, "argument must be .* string.* number"),
            (np.array([[1, 10**400]], object), ValueError, "in sample 0, step 1"),
            (np.array([["2025-01-01"]], "M8[s]"), TypeError, "X: expected real numbers, got dtype datetime64"),
            (3, ValueError, r"X: expected .*got \(\)"),
        ],
    )
    def test_what_is_no_sequences(self, X, error, message):
        with pytest.raises(error, match=message):
            read_fit(X)

    def test_sparse(self):
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
        with pytest.raises(TypeError, match="sparse"):
            read_fit(sparse.csr_array(np.eye(3)))

    @pytest.mark.parametrize("as_list", [False, True])
    @pytest.mark.parametrize("value", [np.inf, -np.inf])
    def test_infinity_is_named(self, as_list, value, dtype):
        X = np.zeros((4, 9, 3), dtype)
        X[0, 0, 0] = np.nan
        X[3, 7, 2] = value
        with pytest.raises(ValueError, match=f"X: expected finite .* got {value} in sample 3, step 7, column 2$"):
            read_fit(list(X) if as_list else X, dtype=dtype)

    def test_out_of_range(self):
        X = np.zeros((2, 3))
        X[1, 2] = 1e300
        with pytest.raises(ValueError, match=r"range of float32, got 1e\+300 in sample 1, step 2"):
            read_fit(X)
        assert read_fit(X, dtype="float64")[0].values.max() == 1e300

    def test_roles_need_a_frame(self):
        with pytest.raises(TypeError, match="sequence: expected None"):
            read_fit(np.ones((2, 3)), sequence="id")
        with pytest.raises(TypeError, match="time: expected None"):
            read_fit(np.ones((2, 3)), time="t")

    def test_dtype(self):
        with pytest.raises(ValueError, match="dtype: expected"):
            read_fit(np.ones((2, 3)), dtype="float16")


class TestLostDigits:
    def test_a_warning_where_float32_cannot_tell_numbers_apart(self):
        X = np.zeros((2, 5, 2))
        X[..., 1] = 1.7e9 + 6400 * np.arange(10).reshape(2, 5)
        with pytest.warns(UserWarning, match=r"column 1 lies between .* float32 are 128 apart"):
            read_fit(X)
        with pytest.warns(UserWarning, match="column 1"):
            read_fit(list(X.astype(np.int64)))

    def test_of_targets(self):
        X, y = np.ones((10, 3, 1)), 1.7e9 + np.arange(10.0)
        model = lw.LSTMRegressor(hidden_size=2, max_epochs=1)
        with pytest.warns(UserWarning, match=r"^y lies between .* float32 are 128 apart"):
            model.fit(X, y)
        with pytest.warns(UserWarning, match=r"^y: column 1 lies between"):
            model.fit(X, np.stack([y - 1.7e9, y], axis=1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(X, y - 1.7e9)
            model.set_params(dtype="float64").fit(X, y)

    def test_none_without_a_loss(self):
        X = np.full((2, 5, 2), 1.7e9)  # constant
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_fit(X)
            read_fit(X.astype(np.float32) + np.float32(128) * np.arange(5)[:, np.newaxis].astype(np.float32))
            read_fit(X + np.arange(5)[:, np.newaxis], dtype="float64")
            read_fit(np.full((2, 3), np.nan))
            read_fit(X + 1e6 * np.arange(5)[:, np.newaxis])


class TestStatic:
    def test_at_every_step_but_not_in_padding(self, dtype):
        X = ragged(dtype=dtype)
        static = np.arange(15, dtype=dtype).reshape(5, 3) + 1
        sequences, schema, _ = read_fit(X, static=static, dtype=dtype)
        assert (schema.n_static, schema.size, sequences.features) == (3, 5, 5)
        samples = [4, 1, 2]
        x, lengths = sequences.batch(samples)
        assert lengths.tolist() == [17, 7, 0]
        assert_same_bits(x, padded([X[sample] for sample in samples], static[samples]))
        again, _ = read([X[3]], schema, static=static[3:4])
        assert_same_bits(again.batch([0])[0][:, 0], np.concatenate([X[3], static[3:4]], axis=1))

    def test_equal_lengths(self):
        X = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
        static = np.arange(4, dtype=np.float32)[:, np.newaxis]
        sequences, _, _ = read_fit(X, static=static)
        for samples in ([0, 1], [3, 0]):
            x, lengths = sequences.batch(samples)
            assert lengths is None
            assert_same_bits(x, padded([X[sample] for sample in samples], static[samples]))

    @pytest.mark.parametrize("static", [np.ones((4, 1)), np.ones(5), np.ones((5, 1, 1))])
    def test_shape(self, static):
        with pytest.raises(ValueError, match=r"static: expected \(5, features\), got"):
            read_fit(ragged(), static=static)

    def test_infinity(self):
        static = np.ones((5, 2))
        static[3, 1] = np.inf
        with pytest.raises(ValueError, match="static: .*got inf in sample 3, static column 1"):
            read_fit(ragged(), static=static)

    def test_as_in_training(self):
        _, schema, _ = read_fit(ragged(), static=np.ones((5, 2)))
        with pytest.raises(ValueError, match="static: expected 2 features of each sequence, as in training, got 0"):
            read(ragged(), schema)
        _, schema, _ = read_fit(ragged())
        with pytest.raises(ValueError, match="static: expected 0 features of each sequence, as in training, got 1"):
            read(ragged(), schema, static=np.ones((5, 1)))


class TestBatches:
    @pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[::-1]])
    @pytest.mark.parametrize("features", [1, 3])
    @pytest.mark.parametrize("samples", [[0], [2], [4, 0, 2], [1, 2, 3, 4], [4, 4, 1], list(range(5)), [3, 2, 1, 0]])
    def test_as_plain_loops_make_them(self, samples, features, lengths, dtype):
        X = ragged(features, dtype, lengths)
        max(X, key=len)[2] = np.nan
        sequences, _, _ = read_fit(X, dtype=dtype)
        x, lengths = sequences.batch(samples)
        expected = [len(X[sample]) for sample in samples]
        assert (lengths is None) == (len(set(expected)) == 1)
        if lengths is not None:
            assert lengths.tolist() == expected
        assert_same_bits(x, padded([X[sample] for sample in samples]))

    def test_equal_lengths(self, dtype):
        X = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(dtype)
        sequences, _, _ = read_fit(X, dtype=dtype)
        for samples in ([0, 1, 2], [6, 0, 3], np.arange(7), [5, 5]):
            x, lengths = sequences.batch(samples)
            assert lengths is None
            assert_same_bits(x, X[np.asarray(samples)].swapaxes(0, 1))
        assert np.shares_memory(sequences.batch([2, 3])[0], X)

    def test_sequences_of_no_steps(self):
        sequences = Sequences(np.ones((0, 2), np.float32), np.zeros(4, np.int64), np.ones((3, 1), np.float32))
        x, lengths = sequences.batch([0, 2])
        assert (x.shape, lengths) == ((0, 2, 3), None)

    @pytest.mark.parametrize("samples", [[2, 0, 4], [1, 2, 3], slice(1, 4), [], [4, 4]])
    def test_take(self, samples):
        X = ragged()
        static = np.arange(5, dtype=np.float32)[:, np.newaxis]
        sequences, _, _ = read_fit(X, static=static)
        taken = sequences.take(samples)
        numbers = np.arange(5)[samples] if isinstance(samples, slice) else samples
        assert len(taken) == len(numbers)
        for place, sample in enumerate(numbers):
            assert_same_bits(taken.values[taken.offsets[place] : taken.offsets[place + 1]], X[sample])
            assert_same_bits(taken.static[place], static[sample])

    @pytest.mark.parametrize("X", [ragged(), np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)])
    def test_unbatch_writes_outputs_back(self, X):
        sequences, _, _ = read_fit(X)
        into = np.full((sequences.total_steps, 2), np.nan, np.float32)
        for samples in ([4, 1], [0, 2, 3]):
            sequences.unbatch(sequences.batch(samples)[0] * 2, samples, into)
        assert_same_bits(into, sequences.values * 2)


class TestPrediction:
    def test_features_as_in_training(self):
        _, schema, _ = read_fit(np.ones((2, 5, 3)))
        with pytest.raises(ValueError, match="^X has 2 features, but LSTMRegressor is expecting 3 features as input"):
            read(np.ones((2, 5, 2)), schema, estimator="LSTMRegressor")
        for X in (np.ones((4, 6, 3)), ragged(3)):  # other forms and lengths are welcome
            assert read(X, schema)[0].features == 3
        assert len(read(np.ones((0, 6, 3)), schema)[0]) == 0

    def test_a_table_has_the_columns_of_training(self):
        _, schema, _ = read_fit(np.ones((2, 5)))
        with pytest.raises(ValueError, match="^X has 1 features, but LSTMRegressor is expecting 5 features as input"):
            read(np.ones((2, 1)), schema, estimator="LSTMRegressor")
        assert read(np.ones((2, 9, 1)), schema)[0].equal_length == 9
        assert read([np.ones(3), np.ones(2)], schema)[0].total_steps == 5

    def test_dtype_as_in_training(self):
        _, schema, _ = read_fit(np.ones((2, 5)), dtype="float64")
        assert read(np.ones((2, 5), np.float32), schema)[0].values.dtype == np.float64


class TestLayout:
    def test_results_of_arrays(self):
        _, _, layout = read_fit(np.ones((2, 3, 1)))
        assert layout.to_user(np.arange(6), True).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert layout.to_user(np.arange(12).reshape(6, 2), True).shape == (2, 3, 2)
        assert layout.to_user(np.array(["a", "b"]), False).tolist() == ["a", "b"]

    def test_results_of_lists(self):
        _, _, layout = read_fit(ragged())
        results = layout.to_user(np.arange(28), True)
        assert [each.tolist() for each in results[:4]] == [[0, 1, 2], list(range(3, 10)), [], [10]]

    def test_unknown_output(self):
        _, _, layout = read_fit(ragged())
        with pytest.raises(ValueError, match='output: expected "default", "pandas" or "polars", got \'arrow\''):
            layout.to_user(np.arange(5), False, "arrow")


class TestSchema:
    def test_by_json(self):
        X = np.array([[[1, "a"], [2, None]]], object)
        _, schema, _ = read_fit(X, static=np.array([[True]]), categorical=[1, 2])
        assert schema.categories == {1: ["a", None], 2: [True]}
        assert schema.columns == [1, 2]
        assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "tree"},
            {"dtype": "int8"},
            {"n_features": "2"},
            {"names": ["a"]},
            {"names": "abc"},
            {"names": ["a", "b", 3]},
            {"targets": None},
            {"categories": [1]},
            {"categories": {"7": ["a"]}},
            {"categories": {"1": "ab"}},
            {"categories": {"1": [["a"]]}},
            {"categories": {"1": [1, True]}},
        ],
    )
    def test_a_damaged_one_is_refused(self, change):
        values = read_fit(np.ones((1, 2, 3)))[1].to_json()
        with pytest.raises((ValueError, TypeError), match="schema"):
            Schema.from_json({**values, **change})
        with pytest.raises(ValueError, match="schema"):
            Schema.from_json({**values, "more": 1})


def digest(sequences):
    digest = hashlib.sha256()
    sequences.feed(digest.update)
    return digest.hexdigest()


def test_a_digest_covers_all_that_is_read():
    X = [np.float32([[1, 2], [3, 4]]), np.float32([[5, 6]])]
    start = digest(read_fit(X)[0])
    assert digest(read_fit([each.astype(">f8") for each in X])[0]) == start
    others = [
        read_fit(X, dtype="float64"),
        read_fit([X[0], X[1] + 1]),
        read_fit([np.concatenate(X)[:1], np.concatenate(X)[1:]]),
        read_fit([np.concatenate(X)]),
        read_fit(X, static=np.ones((2, 1))),
        read_fit(X, static=np.zeros((2, 1))),
        read_fit(X, categorical=[0]),
        read_fit([X[0] * [2, 1], X[1] * [2, 1]], categorical=[0]),
    ]
    assert len({start, *(digest(each[0]) for each in others)}) == 1 + len(others)


def test_a_digest_is_the_same_for_ever():
    expected = "fd6e70b3ba18adb7b9127a09d2d4c43178d08f1bfbb514bf1f714571ff8cfffa"
    assert digest(read_fit([[1, 2], [3]])[0]) == expected
