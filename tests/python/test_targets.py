"""y of every kind: numbers and labels, for each sample or each step, with weights and gaps."""

import hashlib
import warnings

import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from frame_libraries import LIBRARIES, LONG, in_pandas
from latchwork.estimators.data.inputs import read_fit
from latchwork.estimators.data.targets import (
    class_codes,
    class_targets,
    class_weights,
    regression_targets,
    target_columns,
)

NAN = float("nan")
LENGTHS = (3, 1, 0, 2)


@pytest.fixture(params=LIBRARIES)
def frame(request):
    return request.param


def array_layout(samples=4, steps=3):
    return read_fit(np.ones((samples, steps, 2)))[2]


def list_layout():
    return read_fit([np.ones((length, 2)) for length in LENGTHS])[2]


def long_layout(frame):
    return read_fit(frame(LONG), sequence="id", time="t", categorical=["site"])[2]


class TestNumbersForSamples:
    @pytest.mark.parametrize("y", [[1, 2, 3, 4], (1.0, 2, 3, 4), np.array([1, 2, 3, 4], ">i2"), np.arange(8)[1:5]])
    def test_one_output(self, y, dtype):
        targets = regression_targets(y, array_layout(), per_step=False, dtype=dtype)
        assert (targets.single, targets.weights, targets.per_step, len(targets)) == (True, None, False, 4)
        assert_same_bits(targets.values, np.array([[1], [2], [3], [4]], dtype))
        values, weights = targets.batch([3, 0])
        assert_same_bits(values, np.array([[4], [1]], dtype))
        assert weights is None

    def test_several_outputs(self):
        targets = regression_targets(np.arange(8).reshape(2, 4).T, array_layout(), per_step=False)
        assert not targets.single
        assert targets.values.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
        column = regression_targets(np.ones((4, 1)), array_layout(), per_step=False)
        assert (column.single, column.values.shape) == (False, (4, 1))

    def test_frames_and_series(self, frame):
        targets = regression_targets(frame({"a": [1, 2, 3, 4], "b": [5.0, 6, 7, None]}), array_layout(), per_step=False)
        assert targets.names == ("a", "b")
        assert targets.weights.tolist() == [[1, 1], [1, 1], [1, 1], [1, 0]]
        if frame is in_pandas:
            series = in_pandas({"a": [1, 2, 3, 4]})["a"]
            named = regression_targets(series, array_layout(), per_step=False)
            assert (named.single, named.names) == (True, ("a",))

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (None, "requires y to be passed, but the target y is None"),
            ([1, 2, 3], r"one target for each of 4 samples, got \(3,\)$"),
            (np.ones(12), 'got \\(12,\\); one for each step needs head="sequence"'),
            (np.ones((4, 0)), r"got \(4, 0\)"),
            (np.ones((4, 3, 1)), r"y: expected \(4,\) or \(4, outputs\), got \(4, 3, 1\)"),
            (3, r"got \(\)"),
            ([1, 2, np.inf, 4], "y: expected finite numbers or NaN, got inf in sample 2$"),
            (np.array([[1, 2], [1, 2], [1, 2], [1, -np.inf]]), "got -inf in sample 3, column 1$"),
            (np.array([1, 2, 1e300, 4]), r"range of float32, got 1e\+300 in sample 2"),
            ([NAN] * 4, "y: expected at least one target, got none that is not missing"),
            ([1, "b", 2, 3], "got 'b' in sample 1"),
            (np.ones(4) * 1j, "Complex data not supported"),
            ("price", "y: expected targets, got the name 'price', but X is no data frame"),
        ],
    )
    def test_refused(self, y, message):
        with pytest.raises(ValueError, match=message):
            regression_targets(y, array_layout(), per_step=False)

    def test_texts_and_times_are_no_numbers(self):
        for y in (np.array(["a"] * 4), np.array([1] * 4, "M8[s]")):
            with pytest.raises(TypeError, match="y: expected numbers, got dtype"):
                regression_targets(y, array_layout(), per_step=False)


class TestGaps:
    @pytest.mark.parametrize(
        "y", [[1, NAN, 3, 4], [1, None, 3, 4], np.ma.masked_array([1, 2, 3, 4], [False, True, False, False])]
    )
    def test_a_missing_target_has_weight_0(self, y, dtype):
        targets = regression_targets(y, array_layout(), per_step=False, dtype=dtype)
        assert_same_bits(targets.values[:, 0], np.array([1, np.nan, 3, 4], dtype))
        assert_same_bits(targets.weights, np.array([1, 0, 1, 1], dtype))
        values, weights = targets.batch([1, 2])
        assert values[:, 0].tolist() == [0, 3]  # no NaN, whatever a loss does with it
        assert weights.tolist() == [0, 1]

    def test_of_one_output(self):
        y = [[1, NAN], [3, 4], [NAN, NAN], [7, 8]]
        targets = regression_targets(y, array_layout(), per_step=False, sample_weight=[1, 2, 3, 4])
        assert targets.weights.tolist() == [[1, 0], [2, 2], [0, 0], [4, 4]]
        both = regression_targets([[1, 2], [3, 4], [NAN, NAN], [7, 8]], array_layout(), per_step=False)
        assert both.weights.tolist() == [1, 1, 0, 1]

    def test_nothing_counts(self):
        with pytest.raises(ValueError, match="at least one target that counts, got weight zero for all"):
            regression_targets([1, NAN, 3, 4], array_layout(), per_step=False, sample_weight=[0, 1, 0, 0])


class TestNumbersForSteps:
    def test_arrays(self, dtype):
        y = np.arange(12).reshape(4, 3)
        targets = regression_targets(y, array_layout(), per_step=True, dtype=dtype)
        assert targets.single
        assert_same_bits(targets.values, np.arange(12, dtype=dtype)[:, np.newaxis])
        values, weights = targets.batch([2, 0])
        assert_same_bits(values, y[[2, 0]].T[..., np.newaxis].astype(dtype))
        assert weights is None
        several = regression_targets(np.stack([y, y], axis=2), array_layout(), per_step=True)
        assert (several.single, several.values.shape) == (False, (12, 2))
        as_list = regression_targets(list(y), array_layout(), per_step=True)
        assert_same_bits(as_list.values, targets.values.astype(np.float32))

    def test_lists(self):
        y = [np.array([1, 2, NAN]), [4], [], (5, 6)]
        targets = regression_targets(y, list_layout(), per_step=True, sample_weight=[1, 2, 3, 4])
        assert targets.weights.tolist() == [1, 1, 0, 2, 4, 4]
        values, weights = targets.batch([3, 0, 2])
        assert values[..., 0].T.tolist() == [[5, 6, 0], [1, 2, 0], [0, 0, 0]]
        assert weights.T.tolist() == [[4, 4, 0], [1, 1, 0], [0, 0, 0]]
        by_step = [[1, 2, 3], [4], [], [5, 0]]
        targets = regression_targets(y, list_layout(), per_step=True, sample_weight=by_step)
        assert targets.weights.tolist() == [1, 2, 0, 4, 5, 0]

    def test_take(self):
        targets = regression_targets([[1, 2, NAN], [4], [], [5, 6]], list_layout(), per_step=True).take([3, 1])
        assert targets.values[:, 0].tolist() == [5, 6, 4]
        assert targets.weights.tolist() == [1, 1, 1]
        assert targets.offsets.tolist() == [0, 2, 3]
        assert regression_targets([1, 2, 3, 4], list_layout(), per_step=False).take([2, 0]).values[:, 0].tolist() == [
            3,
            1,
        ]

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (np.ones(12), r"y: expected \(4, 3\) or \(4, 3, outputs\), one for each step, got \(12,\)"),
            (np.ones((4, 2)), r"got \(4, 2\)"),
            ([np.ones(3)] * 3, "y: expected a list of 4 arrays, one value for each step of each sample, got 3"),
            ([np.ones(3)] * 3 + [np.ones(2)], r"y\[3\]: expected \(3,\), got \(2,\)"),
            ([np.ones((3, 1))] * 3 + [np.ones((3, 2))], r"y\[3\]: expected \(3, 1\), got \(3, 2\)"),
            ([np.ones((3, 1, 1))] * 4, r"y\[0\]: expected \(T,\) or \(T, outputs\), got \(3, 1, 1\)"),
            (np.where(np.arange(12).reshape(4, 3) == 7, np.inf, 1), "got inf in sample 2, step 1$"),
        ],
    )
    def test_refused(self, y, message):
        with pytest.raises(ValueError, match=message):
            regression_targets(y, array_layout(), per_step=True)

    def test_lists_are_needed_for_ragged_sequences(self):
        with pytest.raises(ValueError, match="y: expected a list of 4 arrays.*got ndarray"):
            regression_targets(np.ones((4, 3)), list_layout(), per_step=True)


class TestLongFrames:
    def test_a_column_for_each_step(self, frame):
        layout = long_layout(frame)
        targets = regression_targets("pressure", layout, per_step=True)
        assert_same_bits(targets.values[:, 0], np.float32([NAN, 3.5, 0.5, 2.5, 1.5]))
        assert (targets.single, targets.names, targets.weights.tolist()) == (True, ("pressure",), [0, 1, 1, 1, 1])
        several = regression_targets(["pressure", "t"], layout, per_step=True)
        assert (several.single, several.values[:, 1].tolist()) == (False, [1, 2, 3, 5, 7])
        labels = class_targets("site", layout, per_step=True)
        assert (labels.classes.tolist(), labels.values.tolist()) == (["x", "y"], [-1, 1, 0, 0, 1])

    def test_rows_for_each_step(self, frame):
        layout = long_layout(frame)
        for y in (np.arange(5), list(range(5)), frame({"y": [0, 1, 2, 3, 4]})):
            targets = regression_targets(y, layout, per_step=True, sample_weight=np.arange(5))
            assert targets.values[:, 0].tolist() == [2, 4, 0, 3, 1]
            assert targets.weights.tolist() == [2, 4, 0, 3, 1]
        with pytest.raises(ValueError, match="y: expected 5 rows, one for each row of X, got 2"):
            regression_targets([1, 2], layout, per_step=True)
        assert (
            regression_targets(range(5), layout, per_step=True, sample_weight=[3, 4]).weights.tolist()
            == [3] * 3 + [4] * 2
        )

    def test_rows_go_where_their_times_are(self, frame):
        X = frame({"t": [2, 3, 1], "v": [20.0, 30, 10]})
        layout = read_fit(X, time="t")[2]
        for y in ("v", [20, 30, 10]):
            assert regression_targets(y, layout, per_step=True).values[:, 0].tolist() == [10, 20, 30]
        layout = read_fit([X], time="t")[2]
        for y in ("v", [[20, 30, 10]]):
            assert regression_targets(y, layout, per_step=True).values[:, 0].tolist() == [10, 20, 30]

    def test_a_column_for_each_sequence(self, frame):
        layout = read_fit(
            frame({"id": ["b", "a", "b"], "v": [1, 2, 3], "y": ["u", None, "u"]}), sequence="id", targets="y"
        )[2]
        targets = class_targets("y", layout, per_step=False)
        assert (targets.classes.tolist(), targets.values.tolist(), targets.weights.tolist()) == (["u"], [0, -1], [1, 0])
        with pytest.raises(
            ValueError, match=r"same value of column 'v' in all rows of a sequence, got 1 and 3 in row 2 \(s"
        ):
            regression_targets("v", layout, per_step=False)
        with pytest.raises(ValueError, match="y: expected a column of X, got 'z'; there are 'id', 'v', 'y'"):
            regression_targets("z", layout, per_step=False)

    def test_one_for_each_sequence_in_order_of_appearance(self, frame):
        layout = long_layout(frame)  # first b, then a
        assert regression_targets([10, 20], layout, per_step=False).values[:, 0].tolist() == [10, 20]
        by_name = frame({"id": ["a", "b"], "y": [10, 20], "z": [1, 2]})
        targets = regression_targets(by_name, layout, per_step=False)
        assert (targets.values.tolist(), targets.names) == ([[20, 2], [10, 1]], ("y", "z"))

    def test_series_by_their_index(self):
        layout = long_layout(in_pandas)
        series = in_pandas({"y": [10, 20]}, index=["a", "b"])["y"]
        assert regression_targets(series, layout, per_step=False).values[:, 0].tolist() == [20, 10]
        weights = in_pandas({"w": [1, 2]}, index=["a", "b"])["w"]
        targets = regression_targets(series, layout, per_step=False, sample_weight=weights)
        assert targets.weights.tolist() == [2, 1]
        assert regression_targets(series.reset_index(drop=True), layout, per_step=False).values[0] == 10
        with pytest.raises(
            ValueError, match="expected an index of the sequences' names, or one that counts them.*'c', 'b'"
        ):
            regression_targets(in_pandas({"y": [1, 2]}, index=["c", "b"])["y"], layout, per_step=False)

    def test_weights_by_name_where_each_sequence_has_one_row(self):
        layout = read_fit(in_pandas({"id": ["b", "a"], "v": [1.0, 2]}), sequence="id")[2]
        weights = in_pandas({"w": [1, 2]}, index=["a", "b"])["w"]
        assert regression_targets("v", layout, per_step=True, sample_weight=weights).weights.tolist() == [2, 1]

    def test_a_column_may_be_missing_in_all_rows_of_a_sequence(self, frame):
        X = frame({"id": ["b", "a", "b"], "v": [1, 2, 3], "y": [None, 5.0, None]})
        layout = read_fit(X, sequence="id", targets=("y",))[2]
        assert_same_bits(regression_targets("y", layout, per_step=False).values[:, 0], np.float32([NAN, 5]))

    def test_numbers_as_names_go_before_counting(self):
        layout = read_fit(in_pandas({"id": [1, 0, 1], "v": [1.0, 2, 3]}), sequence="id")[2]
        assert regression_targets(in_pandas({"y": [10, 20]})["y"], layout, per_step=False).values[:, 0].tolist() == [
            20,
            10,
        ]

    def test_rows_in_another_order_are_refused(self):
        layout = read_fit(in_pandas(LONG, index=list("pqrst")), sequence="id", time="t", categorical=["site"])[2]
        with pytest.raises(ValueError, match="y: expected the rows in the order of those of X"):
            regression_targets(in_pandas({"y": [1.0] * 5}, index=list("qprst"))["y"], layout, per_step=True)
        assert regression_targets(in_pandas({"y": [1.0] * 5})["y"], layout, per_step=True).names == ("y",)

    def test_lists_of_frames(self, frame):
        X = [frame({"t": [2, 1], "v": [1.0, 2.0], "y": [3, 4]}), frame({"t": [1], "v": [1.0], "y": [5]})]
        layout = read_fit(X, time="t", targets=("y",))[2]
        assert regression_targets("y", layout, per_step=True).values[:, 0].tolist() == [4, 3, 5]
        assert regression_targets([[3, 4], [5]], layout, per_step=True).values[:, 0].tolist() == [4, 3, 5]
        frames = [frame({"y": [3, 4]}), frame({"y": [5]})]
        assert regression_targets(frames, layout, per_step=True).values[:, 0].tolist() == [4, 3, 5]
        with pytest.raises(ValueError, match="same value of column 'y'"):
            regression_targets("y", layout, per_step=False)

    def test_tables(self, frame):
        layout = read_fit(frame({"a": [1, 2], "b": [3, 4], "y": ["u", "v"]}), targets=("y",))[2]
        assert class_targets("y", layout, per_step=False).values.tolist() == [0, 1]
        with pytest.raises(ValueError, match="no data frame in long form"):
            class_targets("y", layout, per_step=True)


@pytest.mark.parametrize(
    ("y", "expected"),
    [("y", ("y",)), (["a", "b"], ("a", "b")), (["a", "c"], ()), ([1, 2], ()), (np.array(["a"]), ()), ([], ())],
)
def test_which_columns_y_calls(y, expected):
    assert target_columns(y, ["a", "b"]) == expected


class TestLabels:
    @pytest.mark.parametrize(
        ("y", "classes", "codes"),
        [
            (["b", "a", "b", "c"], ["a", "b", "c"], [1, 0, 1, 2]),
            (np.array(["b", "a", "b", "c"]), ["a", "b", "c"], [1, 0, 1, 2]),
            ([3, -1, 3, 2], [-1, 2, 3], [2, 0, 2, 1]),
            ([True, False, True, True], [False, True], [1, 0, 1, 1]),
            ([1.0, 0.0, NAN, 1.0], [0.0, 1.0], [1, 0, -1, 1]),
            (np.array(["b", None, "a", NAN], object), ["a", "b"], [1, -1, 0, -1]),
            (np.array([2, None, 1, 2], object), [1, 2], [1, -1, 0, 1]),
            (np.array([1, 0, 1, 1], np.uint8), [0, 1], [1, 0, 1, 1]),
        ],
    )
    def test_classes_and_codes(self, y, classes, codes):
        targets = class_targets(y, array_layout(), per_step=False)
        assert targets.classes.tolist() == classes
        assert_same_bits(targets.values, np.array(codes))
        batch, weights = targets.batch([0, 1, 2, 3])
        assert_same_bits(batch, np.maximum(codes, 0))
        assert (weights is None) == (-1 not in codes)
        if weights is not None:
            assert weights.tolist() == [float(code >= 0) for code in codes]

    @pytest.mark.parametrize("kind", ["<U1", "object", "int16", "float64", "bool"])
    def test_classes_have_the_dtype_of_y(self, kind):
        y = (
            np.array(["1", "0"], object if kind == "object" else None)
            if kind in ("<U1", "object")
            else np.array([1, 0])
        )
        assert class_codes(y.astype(kind))[1].dtype == np.dtype(kind)

    def test_categories_of_pandas(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        y = pandas.Series(["b", "a", None, "b"], dtype="category")
        targets = class_targets(y, array_layout(), per_step=False)
        assert (targets.classes.tolist(), targets.values.tolist()) == (["a", "b"], [1, 0, -1, 1])
        y = pandas.Series([1, 0, None, 1], dtype="Int64")
        assert class_targets(y, array_layout(), per_step=False).values.tolist() == [1, 0, -1, 1]

    @pytest.mark.parametrize(
        ("y", "error", "message"),
        [
            ([0.5, 1, 2, 3], ValueError, "Unknown label type: continuous"),
            ([1, 2, np.inf, 3], ValueError, "y: expected labels, got inf in sample 2"),
            (np.array([1, "a", 2, 3], object), TypeError, "all texts or all numbers, got int, str"),
            ([1, "a", 2, 3], TypeError, "all texts or all numbers, got int, str"),
            (np.array([1] * 4, "M8[s]"), TypeError, "got dtype datetime64"),
            (np.array([(1,)] * 4 + [None], object)[:4], TypeError, "all texts or all numbers, got tuple"),
            ([None] * 4, ValueError, "at least one label, got none that is not missing"),
            (np.ones((4, 2)), ValueError, "y: expected one label for each sample, got 2 columns"),
            ([1, 2, 3], ValueError, r"one target for each of 4 samples, got \(3,\)"),
        ],
    )
    def test_refused(self, y, error, message):
        with pytest.raises(error, match=message):
            class_targets(y, array_layout(), per_step=False)

    def test_known_classes(self):
        classes = np.array(["a", "b", "c"])
        targets = class_targets(["c", "a", "a", "c"], array_layout(), per_step=False, classes=classes)
        assert (targets.values.tolist(), targets.classes.tolist()) == ([2, 0, 0, 2], ["a", "b", "c"])
        with pytest.raises(ValueError, match="one of the classes 'a', 'b', 'c', got 'z' in sample 1$"):
            class_targets(["c", "z", "a", "c"], array_layout(), per_step=False, classes=classes)
        assert class_codes(np.array([1.0, 0.0]), np.array([0, 1]))[0].tolist() == [1, 0]

    def test_a_column_of_labels_is_taken_with_a_warning(self):
        with pytest.warns(UserWarning, match="A column-vector y was passed when a 1d array was expected"):
            assert class_targets([[1], [0], [1], [0]], array_layout(), per_step=False).values.tolist() == [1, 0, 1, 0]

    def test_for_steps(self):
        y = [["a", "b", "a"], ["b"], [], ["a", None]]
        targets = class_targets(y, list_layout(), per_step=True, sample_weight=[[1, 2, 3], [4], [], [5, 6]])
        assert targets.values.tolist() == [0, 1, 0, 1, 0, -1]
        codes, weights = targets.batch([3, 0])
        assert codes.T.tolist() == [[0, 0, 0], [0, 1, 0]]
        assert weights.T.tolist() == [[5, 0, 0], [1, 2, 3]]
        assert codes.dtype == np.int64
        with pytest.raises(ValueError, match="expected labels, got 0.5 in sample 1, step 0"):
            class_targets([[1, 2, 1], [0.5], [], [1, 1]], list_layout(), per_step=True)


class TestWeights:
    @pytest.mark.parametrize("weights", [[1, 2, 0, 4], np.array([1, 2, 0, 4], np.uint8), np.float64([1, 2, 0, 4])])
    def test_of_samples(self, weights, dtype):
        targets = regression_targets(range(4), array_layout(), per_step=False, dtype=dtype, sample_weight=weights)
        assert_same_bits(targets.weights, np.array([1, 2, 0, 4], dtype))
        assert_same_bits(targets.batch([3, 1])[1], np.array([4, 2], dtype))

    def test_of_steps(self):
        weights = np.arange(12).reshape(4, 3)
        targets = regression_targets(np.ones((4, 3)), array_layout(), per_step=True, sample_weight=weights)
        assert targets.weights.tolist() == list(range(12))
        assert targets.batch([2, 1])[1].T.tolist() == [[6, 7, 8], [3, 4, 5]]

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([1, -1, 1, 1], "sample_weight: expected numbers from 0 on, got -1.0 in sample 1"),
            ([1, 1, NAN, 1], "sample_weight: expected numbers from 0 on, got nan in sample 2"),
            ([1, 1, np.inf, 1], "sample_weight: expected finite numbers or NaN, got inf in sample 2"),
            ([1, 1, 1], r"sample_weight: expected \(4,\), got \(3,\)"),
            (np.ones((4, 1)), r"sample_weight: expected \(4,\), got \(4, 1\)"),
            (2.0, r"sample_weight: expected \(4,\), got \(\)"),
            ([0, 0, 0, 0], "at least one target that counts"),
        ],
    )
    def test_refused(self, weights, message):
        with pytest.raises(ValueError, match=message):
            regression_targets(range(4), array_layout(), per_step=False, sample_weight=weights)

    def test_of_steps_refused(self):
        for weights, message in (
            (np.ones(3), r"expected \(4,\), or one for each step, got \(3,\)"),
            (np.ones((4, 2)), r"sample_weight: expected \(4, 3\)"),
            (np.ones((4, 3, 2)), "sample_weight: expected one for each step, got 2"),
            (np.where(np.arange(12).reshape(4, 3) == 5, -1, 1), "got -1.0 in sample 1, step 2"),
        ):
            with pytest.raises(ValueError, match=message):
                regression_targets(np.ones((4, 3)), array_layout(), per_step=True, sample_weight=weights)

    @pytest.mark.parametrize("sample_weight", [None, [1.0, 2, 3, 0.5]])
    @pytest.mark.parametrize("class_weight", [None, "balanced", {"a": 2, "b": 0.5}, {"a": 3}, {"z": 4, "a": 3, "b": 1}])
    def test_of_classes_are_scikit_learns(self, class_weight, sample_weight):
        sklearn = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
        y = np.array(["a", "b", "a", "a"])
        codes, classes = class_codes(y)
        ours = class_weights(class_weight, codes, classes, None if sample_weight is None else np.array(sample_weight))
        theirs = sklearn.compute_class_weight(class_weight, classes=classes, y=y, sample_weight=sample_weight)
        assert_close(ours, theirs, 1e-15)

    def test_of_classes_times_those_of_samples(self):
        targets = class_targets(
            ["a", "b", None, "a"],
            array_layout(),
            per_step=False,
            class_weight={"a": 2, "b": 4},
            sample_weight=[1, 2, 3, 4],
        )
        assert targets.weights.tolist() == [2, 8, 0, 8]
        balanced = class_targets(["a", "b", None, "a"], array_layout(), per_step=False, class_weight="balanced")
        assert_close(balanced.weights, [0.75, 1.5, 0, 0.75], 1e-7)

    @pytest.mark.parametrize(
        ("class_weight", "error", "message"),
        [
            ("even", ValueError, "class_weight: expected a mapping, \"balanced\" or None, got 'even'"),
            ({"a": "1"}, TypeError, "class_weight: expected numbers, got '1' for 'a'"),
            ({"a": -1}, ValueError, "finite numbers from 0 on, got -1 for 'a'"),
            ({"a": NAN}, ValueError, "finite numbers from 0 on, got nan for 'a'"),
            ({"z": 1}, ValueError, "class_weight: expected the classes 'a', 'b', got 'z'"),
            ({"a": 1, "z": 1}, ValueError, "class_weight: expected the classes 'a', 'b', got 'z'"),
        ],
    )
    def test_of_classes_refused(self, class_weight, error, message):
        with pytest.raises(error, match=message):
            class_targets(["a", "b", "a", "a"], array_layout(), per_step=False, class_weight=class_weight)


def test_scaled():
    targets = regression_targets([[1, 10], [NAN, 20], [3, 30], [4, 40]], array_layout(), per_step=False)
    scaled = targets.scaled(np.array([1.0, 10.0]), np.array([2.0, 0.1]))
    assert_same_bits(scaled.values, np.float32([[0, 0], [NAN, 1], [4, 2], [6, 3]]))
    assert_same_bits(scaled.weights, targets.weights)
    assert targets.values[0, 1] == 10


def test_a_digest_covers_all():
    layout = array_layout()
    made = [
        regression_targets([1, 2, 3, 4], layout, per_step=False),
        regression_targets([1, 2, 3, 5], layout, per_step=False),
        regression_targets([1, 2, 3, 4], layout, per_step=False, dtype="float64"),
        regression_targets([1, 2, 3, 4], layout, per_step=False, sample_weight=[1, 1, 1, 1]),
        regression_targets([1, 2, 3, 4], layout, per_step=False, sample_weight=[1, 1, 1, 2]),
        class_targets([1, 2, 3, 4], layout, per_step=False),
        class_targets(["1", "2", "3", "4"], layout, per_step=False),
        class_targets(["1", "2", "3", "5"], layout, per_step=False),
    ]
    digests = set()
    for targets in made:
        digest = hashlib.sha256()
        targets.feed(digest.update)
        digests.add(digest.hexdigest())
    assert len(digests) == len(made)


def test_y_is_not_changed():
    y = np.array([1, NAN, 3, 4], np.float32)
    weights = np.array([1, 2, 3, 4], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        targets = regression_targets(y, array_layout(), per_step=False, sample_weight=weights)
    assert targets.weights.tolist() == [1, 0, 3, 4]
    assert weights.tolist() == [1, 2, 3, 4]
    assert np.isnan(y[1])
