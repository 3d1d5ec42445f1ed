"""Data frames of pandas, polars and Arrow as X: long form, lists, tables; categories; the order of rows."""

import datetime
import json
import warnings

import numpy as np
import pytest
from comparison import assert_same_bits
from frame_libraries import LIBRARIES, LONG, OfAnotherLibrary, in_arrow, in_pandas, in_polars
from latchwork.estimators.data.frames import Table, feature_names, is_frame, read_column
from latchwork.estimators.data.inputs import Schema, read, read_fit

ROWS = [2, 4, 0, 3, 1]  # of LONG, by sequence and time


@pytest.fixture(params=LIBRARIES)
def frame(request):
    return request.param


class TestLongForm:
    def test_sequences_by_name_and_time(self, frame, dtype):
        sequences, schema, layout = read_fit(frame(LONG), sequence="id", time="t", categorical=["site"], dtype=dtype)
        assert (layout.kind, layout.ids, layout.rows.tolist()) == ("long", ["b", "a"], ROWS)
        assert sequences.offsets.tolist() == [0, 3, 5]
        assert (schema.names, schema.categories) == (("pressure", "site"), {1: ["x", "y", None]})
        expected = [[np.nan, 2], [3.5, 1], [0.5, 0], [2.5, 0], [1.5, 1]]
        assert_same_bits(sequences.values, np.array(expected, dtype))
        assert sequences.names == ("pressure", "site")

    def test_without_time_rows_stay_in_order(self, frame):
        columns = {"id": LONG["id"], "v": [0.0, 1, 2, 3, 4]}
        sequences, _, layout = read_fit(frame(columns), sequence="id")
        assert sequences.values[:, 0].tolist() == [0, 2, 4, 1, 3]
        assert layout.ids == ["b", "a"]

    def test_without_names_all_rows_are_one_sequence(self, frame):
        sequences, _, layout = read_fit(frame({"t": [2, 3, 1], "v": [20.0, 30, 10]}), time="t")
        assert (sequences.offsets.tolist(), sequences.values[:, 0].tolist()) == ([0, 3], [10, 20, 30])
        assert layout.ids is None
        assert layout.to_user(np.array([1, 2, 3]), True).tolist() == [2, 3, 1]

    def test_columns_are_found_by_name(self, frame):
        _, schema, _ = read_fit(frame(LONG), sequence="id", time="t", categorical=["site"])
        schema = Schema.from_json(json.loads(json.dumps(schema.to_json())))
        other = {name: LONG[name] for name in ("site", "t", "pressure", "id")}
        sequences, layout = read(frame(other), schema)
        assert_same_bits(sequences.values, read(frame(LONG), schema)[0].values)
        with pytest.raises(ValueError, match=r"got 'z' in row 3 \(sequence 'a', step 0\)"):
            read(frame({**other, "site": ["x", "x", "x", "z", "x"]}), schema)
        assert layout.ids == ["b", "a"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"t": [3, 7, 1, 7, 2]}, "different times of sequence 'a' in column 't', got 7 in rows 1 and 3"),
            ({"t": [3.0, 7, 1, float("nan"), 2]}, "expected a time in column 't', got nan in row 3"),
            ({"t": [3, 7, None, 5, 2]}, "expected a time in column 't', got nan in row 2"),
            ({"id": ["b", None, "b", "a", "b"]}, "expected the name of a sequence in column 'id', got none in row 1"),
            ({"id": [1, 2, 1, None, 1]}, "expected the name of a sequence in column 'id', got none in row 3"),
            (
                {"pressure": [1.0, 2.0, 3.0, float("-inf"), 4.0]},
                r"got -inf in row 3 \(sequence 'a', step 0\), column 'pressure'",
            ),
            (
                {"pressure": ["1", "2", "no", "3", "4"]},
                r"got 'no' in row 2 \(sequence 'b', step 0\), column 'pressure'",
            ),
            ({"t": ["3", "7", "1", "5", "hour"]}, "expected numbers, times, or texts such as .* in column 't'"),
        ],
    )
    def test_bad_rows_are_named(self, frame, change, message):
        with pytest.raises(ValueError, match=message):
            read_fit(frame({**LONG, **change}), sequence="id", time="t", categorical=["site"])

    def test_times_of_which_some_have_a_zone(self, frame):
        with pytest.raises(ValueError, match="all have a zone or all have none in column 't', got both"):
            read_fit(frame({"t": ["2025-01-01T00:00", "2025-01-02T00:00Z"], "v": [1, 2]}), time="t")

    def test_numbers_among_texts_are_no_times(self):
        with pytest.raises(ValueError, match="in column 't', got 3 in row 1"):
            read_fit(in_pandas({"t": ["2025-01-01", 3], "v": [1, 2]}), time="t")

    def test_unknown_columns(self, frame):
        for roles in ({"sequence": "name"}, {"time": "name"}):
            with pytest.raises(ValueError, match="expected a column of X, got 'name'; X has 'id', 't'"):
                read_fit(frame(LONG), **roles)
        with pytest.raises(ValueError, match="at least 1 feature beside 'id', 't'"):
            read_fit(frame({"id": [1], "t": [2]}), sequence="id", time="t")
        with pytest.raises(ValueError, match="categorical: expected columns of X, got 'town'; there are 'pressure'"):
            read_fit(frame(LONG), sequence="id", time="t", categorical=["town"])

    def test_texts_need_to_be_called_categories(self, frame):
        with pytest.raises(ValueError, match="column 'site': .*categorical="):
            read_fit(frame(LONG), sequence="id", time="t")

    def test_target_columns_are_no_features(self, frame):
        _, schema, _ = read_fit(frame(LONG), sequence="id", time="t", targets=("site",))
        assert schema.names == ("pressure",)
        assert read(frame(LONG), schema)[0].features == 1
        assert read(frame({name: LONG[name] for name in ("id", "t", "pressure")}), schema)[0].features == 1

    def test_other_features_than_in_training(self, frame):
        _, schema, _ = read_fit(frame(LONG), sequence="id", time="t", categorical=["site"])
        other = {**LONG, "wind": [1.0] * 5}
        with pytest.raises(ValueError, match="unseen at fit time:\n- wind"):
            read(frame(other), schema)
        del other["pressure"]
        with pytest.raises(ValueError, match="unseen at fit time:\n- wind\n.*yet now missing:\n- pressure"):
            read(frame(other), schema)
        with pytest.warns(UserWarning, match="X does not have valid feature names, but LSTMRegressor was fitted with"):
            read(np.array([[[0, "x"], [1, "y"]]], object), schema, estimator="LSTMRegressor")
        _, nameless, _ = read_fit(np.zeros((1, 2, 2)))
        with pytest.warns(UserWarning, match="X has feature names, but LSTMRegressor was fitted without"):
            read([frame({"a": [1.0], "b": [2.0]})], nameless, estimator="LSTMRegressor")

    @pytest.mark.parametrize(
        "times",
        [
            [datetime.datetime(2025, 1, day) for day in (3, 7, 1, 5, 2)],
            [datetime.date(2025, 1, day) for day in (3, 7, 1, 5, 2)],
            [f"2025-01-0{day}T12:00" for day in (3, 7, 1, 5, 2)],
            [f"2025-01-0{day} 12:00:00+01:00" for day in (3, 7, 1, 5, 2)],
            [f"2025-01-01T0{hour}" for hour in ("0:30Z", "9:00Z", "1:00+02:00", "8:00Z", "1:00+01:00")],
            ["13", "2020", "9", "2019", "10"],
            [f"2025-0{month}" for month in (3, 7, 1, 5, 2)],
            [3.5, 7, -1, 5, 2],
            [False, True, False, False, True],
        ],
    )  # fmt: skip
    def test_times_of_every_kind(self, frame, times):
        if isinstance(times[0], bool):
            times, names = [True, True, False, False, True], [0, 1, 0, 1, 2]
            layout = read_fit(frame({"id": names, "t": times, "v": [0.0] * 5}), sequence="id", time="t")[2]
            assert layout.rows.tolist() == [2, 0, 3, 1, 4]
            return
        layout = read_fit(frame({**LONG, "t": times}), sequence="id", time="t", categorical=["site"])[2]
        assert layout.rows.tolist() == ROWS


class TestColumns:
    @pytest.mark.parametrize(
        "kind", ["Int64", "Int8", "Float32", "Float64", "boolean", "int64[pyarrow]", "double[pyarrow]"]
    )
    def test_columns_of_pandas_that_may_have_gaps(self, kind):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        whole = read_column(pandas.Series([1, 0, 1], dtype=kind))
        assert whole.dtype.kind in "biuf"
        assert whole.tolist() == [1, 0, 1]
        assert_same_bits(read_column(pandas.Series([1, None, 0], dtype=kind)).astype(float), np.array([1, np.nan, 0]))

    @pytest.mark.parametrize("kind", ["object", "string", "category", "string[pyarrow]", "str"])
    def test_texts_of_pandas(self, kind):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        assert read_column(pandas.Series(["b", None, "a"], dtype=kind)).tolist() == ["b", None, "a"]

    def test_times_of_pandas(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        times = pandas.Series(pandas.to_datetime(["2025-01-01T01:00", None]))
        assert np.isnat(read_column(times)).tolist() == [False, True]
        in_zone = read_column(times.dt.tz_localize("Europe/Berlin"))
        assert in_zone[0] == np.datetime64("2025-01-01T00:00")

    @pytest.mark.parametrize("values", [[1, None, 0], [1.5, None, 0], [True, None, False]])
    def test_gaps_of_polars_and_arrow(self, values):
        expected = np.array([float("nan") if value is None else value for value in values])
        for frame in (in_polars, in_arrow, in_pandas, OfAnotherLibrary):
            sequences, _, _ = read_fit([frame({"v": values})], dtype="float64")
            assert_same_bits(sequences.values[:, 0], expected)

    def test_categories_of_polars_and_arrow(self):
        polars = pytest.importorskip("polars", reason="polars is not installed")
        pyarrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
        values = ["b", None, "a"]
        for series in (
            polars.Series(values, dtype=polars.Categorical),
            polars.Series(values, dtype=polars.Enum(["a", "b"])),
            polars.Series(values),
            pyarrow.chunked_array([pyarrow.array(values).dictionary_encode()]),
            pyarrow.array(values),
            pyarrow.array(values, type=pyarrow.large_string()),
        ):
            assert read_column(series).tolist() == values
        numbers = pyarrow.array([2, None, 1]).dictionary_encode()
        assert read_column(numbers).tolist() == [2, None, 1]

    def test_decimals(self):
        from decimal import Decimal

        values = [Decimal("1.5"), None, Decimal(2)]
        for frame in (in_polars, in_arrow, in_pandas):
            assert_same_bits(read_fit([frame({"v": values})])[0].values[:, 0], np.float32([1.5, np.nan, 2]))

    def test_columns_of_one_name(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        frame = pandas.DataFrame([[1, 2, 3]], columns=["t", "v", "v"])
        with pytest.raises(ValueError, match="different names, got 2 of the name 'v'"):
            read_fit(frame, time="t")

    def test_a_lazy_frame(self):
        polars = pytest.importorskip("polars", reason="polars is not installed")
        with pytest.raises(TypeError, match="LazyFrame; collect"):
            read_fit(polars.LazyFrame({"v": [1]}), time="v")

    def test_names_that_are_no_texts(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        assert read_fit([pandas.DataFrame(np.ones((2, 2)))])[1].names is None
        with pytest.raises(TypeError, match="Feature names are only supported if all"):
            read_fit([pandas.DataFrame(np.ones((2, 2)), columns=["a", 0])])
        assert feature_names([]) is None

    def test_what_is_a_frame(self):
        assert not any(map(is_frame, (np.ones(2), [1], (), "text", None, 3)))
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        assert not is_frame(pandas.Series([1]))
        assert is_frame(type("Own", (pandas.DataFrame,), {})({"a": [1]}))
        assert Table(pandas.DataFrame({"a": [1]})).library == "pandas"


class TestCategories:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (["b", "a", "b"], ["a", "b"]),
            (["b", None, "a"], ["a", "b", None]),
            ([3, 1, 2], [1, 2, 3]),
            ([2.5, float("nan"), 1], [1.0, 2.5, None]),
            ([True, False, True], [False, True]),
        ],
    )
    def test_sorted_and_the_missing_one_last(self, frame, values, expected):
        sequences, schema, _ = read_fit([frame({"c": values, "v": [0.0, 1, 2]})], categorical=["c"])
        assert schema.categories == {0: expected}
        codes = [expected.index(None if value != value else value) for value in values]
        assert sequences.values[:, 0].tolist() == codes

    def test_by_number_and_in_arrays(self):
        X = np.array([[[7, 1.5], [2**25, 2.5]], [[2**25 + 1, 0], [7, 1]]])
        sequences, schema, _ = read_fit(X, categorical=[0])
        assert schema.categories == {0: [7, 2**25, 2**25 + 1]}  # which float32 could not tell apart
        assert sequences.values.tolist() == [[0, 1.5], [1, 2.5], [2, 0], [0, 1]]
        assert read(list(X[1:]), schema)[0].values.tolist() == [[2, 0], [0, 1]]
        with pytest.raises(
            ValueError, match="3 categories that column 0 had in training, got 8.0 in sample 1, step 0$"
        ):
            read(np.array([[[7, 1.5]], [[8, 1.5]]]), schema)
        with pytest.raises(ValueError, match="got a missing value in sample 0, step 1"):
            read(np.array([[[7, 1.5], [np.nan, 1.5]]]), schema)

    def test_texts_in_arrays_of_objects(self):
        X = np.array([[["x", 1], ["y", 2]]], object)
        sequences, schema, _ = read_fit(X, categorical=np.array([0]))
        assert sequences.values.tolist() == [[0, 1], [1, 2]]
        assert schema.categories == {0: ["x", "y"]}
        as_list, _ = read([X[0], X[0][:1]], schema)
        assert as_list.values.tolist() == [[0, 1], [1, 2], [0, 1]]

    def test_static_columns(self, frame):
        static = frame({"id": ["a", "b"], "town": ["p", "q"], "height": [1.0, 2.0]})
        sequences, schema, _ = read_fit(
            frame(LONG), sequence="id", time="t", static=static, categorical=["site", "town"]
        )
        assert schema.categories == {1: ["x", "y", None], 2: ["p", "q"]}
        assert sequences.names == ("pressure", "site", "town", "height")
        assert sequences.static.tolist() == [[1, 2], [0, 1]]  # in the order of the sequences, b and a
        other = frame({"height": [3.0, 4.0, 0.0], "id": ["b", "c", "a"], "town": ["p", "p", "q"]})
        assert read(frame(LONG), schema, static=other)[0].static.tolist() == [[0, 3], [1, 0]]
        assert read_fit(frame(LONG), sequence="id", static=np.ones((2, 1)), categorical=[2, 3])[1].columns == [2, 3]
        with pytest.raises(ValueError, match="got 'r' in sequence 'a'"):
            read(frame(LONG), schema, static=frame({"id": ["a", "b"], "town": ["r", "q"], "height": [1.0, 2.0]}))

    def test_static_rows_are_one_for_each_sequence(self, frame):
        roles = {"sequence": "id", "time": "t", "categorical": ["site"]}
        with pytest.raises(ValueError, match="static: expected a row for each sequence, got none for 'a'"):
            read_fit(frame(LONG), **roles, static=frame({"id": ["c", "b"], "h": [1.0, 2.0]}))
        with pytest.raises(ValueError, match="static: expected one row for each sequence, got rows 0 and 2 for 'b'"):
            read_fit(frame(LONG), **roles, static=frame({"id": ["b", "a", "b"], "h": [1.0, 2.0, 3.0]}))
        with pytest.raises(ValueError, match="static: expected 2 rows, one for each sequence, got 3"):
            read_fit(frame(LONG), **roles, static=frame({"h": [1.0, 2.0, 3.0]}))
        sequences, schema, _ = read_fit(frame(LONG), **roles, static=frame({"h": [1.0, 2.0]}))
        assert sequences.static[:, 0].tolist() == [1, 2]
        with pytest.raises(ValueError, match="static: expected the columns h, got g"):
            read(frame(LONG), schema, static=frame({"g": [1.0, 2.0]}))

    def test_static_by_the_index_of_pandas(self):
        static = in_pandas({"h": [1.0, 2.0]}, index=["a", "b"])
        sequences, _, _ = read_fit(in_pandas(LONG), sequence="id", categorical=["site"], static=static, targets=["t"])
        assert sequences.static[:, 0].tolist() == [2, 1]

    @pytest.mark.parametrize(
        ("categorical", "error", "message"),
        [
            ("site", TypeError, "categorical: expected a list of columns' names or numbers, got str"),
            ([2], ValueError, "categorical: expected columns from 0 to 1, got 2"),
            ([-1], ValueError, "categorical: expected columns from 0 to 1, got -1"),
            ([True], ValueError, "categorical: expected columns of X, got True; there are no names"),
        ],
    )
    def test_which_columns(self, categorical, error, message):
        with pytest.raises(error, match=message):
            read_fit(np.ones((2, 3, 2)), categorical=categorical)

    def test_values_of_several_kinds(self):
        X = np.array([[["x"], [1]]], object)
        with pytest.raises(
            TypeError, match="expected texts, or numbers, in column 0, which is categorical, got int, str"
        ):
            read_fit(X, categorical=[0])
        with pytest.raises(TypeError, match="got dtype datetime64"):
            read_fit(in_pandas({"t": [1, 2], "c": np.array([1, 2], "M8[s]")}), time="t", categorical=["c"])


class TestListsOfFrames:
    def test_one_for_each_sequence(self, frame):
        X = [frame({"a": [1, 2], "b": [3.0, None]}), frame({"b": [4.0], "a": [5.5]})]
        sequences, schema, layout = read_fit(X)
        assert (layout.kind, schema.names) == ("frames", ("a", "b"))
        assert_same_bits(sequences.values, np.float32([[1, 3], [2, np.nan], [5.5, 4]]))
        assert read(X[1:], schema)[0].values.tolist() == [[5.5, 4]]

    def test_rows_are_sorted_by_time(self, frame):
        X = [frame({"t": [2, 1], "v": [1.0, 2.0]}), frame({"t": [1, 3, 2], "v": [3.0, 4.0, 5.0]})]
        sequences, schema, layout = read_fit(X, time="t")
        assert sequences.values[:, 0].tolist() == [2, 1, 3, 5, 4]
        assert [each.tolist() for each in layout.to_user(np.arange(5), True)] == [[1, 0], [2, 4, 3]]
        assert read(X, schema)[0].values[:, 0].tolist() == [2, 1, 3, 5, 4]
        with pytest.raises(ValueError, match=r"got inf in sample 1, row 1, column 'v'"):
            read([X[0], frame({"t": [3, 1], "v": [3.0, float("inf")]})], schema)
        with pytest.raises(ValueError, match=r"got 1 in rows 0 and 2 of X\[1\]"):
            read_fit([X[0], frame({"t": [1, 3, 1], "v": [3.0, 4.0, 5.0]})], time="t")
        with pytest.raises(ValueError, match=r"time: expected a column of X\[1\], got 't'"):
            read_fit([X[0], frame({"v": [3.0]})], time="t")

    def test_other_columns_or_things(self, frame):
        with pytest.raises(ValueError, match=r"X\[1\]: expected the columns of X\[0\], 'a', got 'b'"):
            read_fit([frame({"a": [1]}), frame({"b": [1]})])
        with pytest.raises(TypeError, match=r"X\[1\]: expected a data frame, as X\[0\] is, got ndarray"):
            read_fit([frame({"a": [1]}), np.ones((1, 1))])
        with pytest.raises(TypeError, match="sequence: expected None"):
            read_fit([frame({"a": [1]})], sequence="a")

    def test_texts_and_gaps_together(self, frame):
        X = [frame({"c": ["x", "y"]}), frame({"c": [None, "x"]}), frame({"c": ["y"]})]
        sequences, schema, _ = read_fit(X, categorical=["c"])
        assert schema.categories == {0: ["x", "y", None]}
        assert sequences.values[:, 0].tolist() == [0, 1, 2, 0, 1]


class TestTables:
    def test_each_row_is_a_sequence(self, frame):
        X = frame({"mon": [1, 4], "tue": [2.0, None], "wed": [3, 6]})
        sequences, schema, layout = read_fit(X)
        assert (layout.kind, schema.n_features, schema.n_features_in) == ("univariate", 1, 3)
        assert (schema.names, schema.feature_names_in) == (None, ("mon", "tue", "wed"))
        assert_same_bits(sequences.values[:, 0], np.float32([1, 2, 3, 4, np.nan, 6]))
        assert read(X, schema)[0].total_steps == 6
        with pytest.raises(ValueError, match="same order as they were in fit"):
            read(frame({"tue": [2], "mon": [1], "wed": [3]}), schema)
        with pytest.raises(ValueError, match="unseen at fit time:\n- thu"):
            read(frame({"mon": [1], "tue": [2], "thu": [3]}), schema)
        with pytest.raises(ValueError, match="got inf in row 1, column 'wed'"):
            read(frame({"mon": [1, 1], "tue": [2, 2], "wed": [3.0, float("inf")]}), schema)

    def test_times_need_the_long_form(self, frame):
        with pytest.raises(TypeError, match="times in column 't'; a frame in long form needs sequence= and time="):
            read_fit(frame({"t": [datetime.datetime(2025, 1, 1)], "v": [1.0]}))

    def test_a_target_among_the_columns(self, frame):
        _, schema, _ = read_fit(frame({"a": [1, 2], "y": ["u", "v"]}), targets=("y",))
        assert schema.feature_names_in == ("a",)

    def test_without_columns(self):
        with pytest.raises(ValueError, match=r"0 feature\(s\) \(shape=\(3, 0\)\)"):
            read_fit(in_pandas({}, index=[0, 1, 2]))


class TestResults:
    def test_steps_of_a_long_frame_come_in_the_order_of_its_rows(self, frame):
        sequences, _, layout = read_fit(frame(LONG), sequence="id", time="t", categorical=["site"])
        assert_same_bits(layout.to_user(sequences.values, True)[:, 0], np.float32(LONG["pressure"]))

    def test_in_pandas(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        X = in_pandas(LONG, index=list("pqrst"))
        _, _, layout = read_fit(X, sequence="id", time="t", categorical=["site"])
        steps = layout.to_user(np.arange(5.0), True, "pandas", ["y"])
        pandas.testing.assert_series_equal(steps, pandas.Series([2.0, 4, 0, 3, 1], index=list("pqrst"), name="y"))
        samples = layout.to_user(np.array([[1, 2], [3, 4]]), False, "pandas")
        expected = pandas.DataFrame([[1, 2], [3, 4]], pandas.Index(["b", "a"], name="id"))
        expected.columns = ["prediction_0", "prediction_1"]
        pandas.testing.assert_frame_equal(samples, expected)
        frames = [in_pandas({"v": [1.0, 2.0]}, index=[5, 6]), in_pandas({"v": [1.0]}, index=[7])]
        results = read_fit(frames)[2].to_user(np.arange(3), True, "pandas")
        assert [each.index.tolist() for each in results] == [[5, 6], [7]]
        table = read_fit(in_pandas({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["u", "v"]))[2]
        assert table.to_user(np.array(["x", "y"], object), False, "pandas").to_dict() == {"u": "x", "v": "y"}
        array = read_fit(np.ones((2, 3, 1)))[2]
        assert array.to_user(np.arange(2), False, "pandas").index.tolist() == [0, 1]
        by_step = array.to_user(np.arange(6), True, "pandas")
        assert by_step.index.names == ["sample", "step"]
        assert by_step.loc[(1, 2)] == 5

    def test_in_polars(self):
        polars = pytest.importorskip("polars", reason="polars is not installed")
        _, _, layout = read_fit(in_polars(LONG), sequence="id", time="t", categorical=["site"])
        steps = layout.to_user(np.arange(5.0), True, "polars", ["y"])
        assert steps.to_list() == [2, 4, 0, 3, 1]
        assert steps.name == "y"
        samples = layout.to_user(np.array(["u", "v"], object), False, "polars")
        assert samples.equals(polars.DataFrame({"id": ["b", "a"], "prediction": ["u", "v"]}))
        array = read_fit(np.ones((1, 2, 1)))[2].to_user(np.ones((2, 2)), True, "polars")
        assert array.columns == ["sample", "step", "prediction_0", "prediction_1"]

    def test_names_of_times_go_back_to_pandas(self):
        days = np.array(["2025-01-02", "2025-01-01"], "M8[ns]")
        X = in_pandas({"day": days.repeat(2), "v": [1.0, 2.0, 3.0, 4.0]})
        layout = read_fit(X, sequence="day")[2]
        assert (layout.to_user(np.arange(2), False, "pandas").index == days).all()


def test_a_frame_is_read_without_warnings_or_changes():
    X = in_pandas(LONG)
    before = X.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sequences, _, _ = read_fit(X, sequence="id", time="t", categorical=["site"])
    sequences.values[...] = 7
    assert X.equals(before)
