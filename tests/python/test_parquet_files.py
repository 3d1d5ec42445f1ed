"""Parquet files as long sequences: what is read is what was written."""

import io

import numpy as np
import pytest
from latchwork.estimators.data import parquet_files, sources
from latchwork.estimators.data.parquet_files import ParquetSource

pyarrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(parquet_files, "_ROWS", 64)
    monkeypatch.setattr(sources, "STEPS_PER_READ", 50)


def written(path, columns, groups=100):
    parquet.write_table(pyarrow.table(columns), path, row_group_size=groups)
    return path


def read(source):
    """All steps, sequence after sequence."""
    sequences = [[] for _ in source.lengths]
    number, left = -1, 0
    for part in source.parts():
        while left == 0:
            number += 1
            left = source.lengths[number]
        sequences[number].append(part)
        left -= len(part.x)
    return [
        (np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])) for parts in sequences
    ]


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 500])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_come_back(rows, dtype, tmp_path):
    random = np.random.RandomState(0)
    a, b, y = random.standard_normal((3, rows))
    gaps = [None if number % 7 == 3 else number for number in range(rows)]
    columns = {"a": a, "y": y, "b": b.astype("f4"), "whole": gaps, "flag": (a > 0).tolist(), "b 2": b}
    source = ParquetSource([written(tmp_path / "data.parquet", columns)], "y", dtype=dtype)
    assert source.names == ("a", "b", "whole", "flag", "b 2")
    assert source.target_names == ("y",)
    assert source.lengths == [rows]
    ((x, read_y),) = read(source)
    numbers = np.array([np.nan if each is None else each for each in gaps])
    np.testing.assert_array_equal(x, np.stack([a, b.astype("f4"), numbers, a > 0, b], axis=1).astype(dtype))
    assert x.dtype == dtype
    np.testing.assert_array_equal(read_y, y)


def test_several_files_targets_and_columns_in_another_order(tmp_path):
    random = np.random.RandomState(0)
    tables = [dict(zip("abcd", random.standard_normal((4, rows)), strict=True)) for rows in (70, 130)]
    paths = [written(tmp_path / f"{number}.parquet", table) for number, table in enumerate(tables)]
    parquet.write_table(pyarrow.table({name: tables[1][name] for name in "dbca"}), paths[1])
    source = ParquetSource(paths, ["d", "b"])
    assert (source.names, source.target_names, source.lengths) == (("a", "c"), ("d", "b"), [70, 130])
    for (x, y), table in zip(read(source), tables, strict=True):
        np.testing.assert_array_equal(x, np.stack([table["a"], table["c"]], axis=1).astype("f4"))
        np.testing.assert_array_equal(y, np.stack([table["d"], table["b"]], axis=1))
    chosen = ParquetSource(paths, "d", features=["c"])
    assert chosen.features == 1
    np.testing.assert_array_equal(read(chosen)[0][0][:, 0], tables[0]["c"].astype("f4"))


@pytest.mark.parametrize("names", [[4, 2, 9], ["b", "a", "c"]])
@pytest.mark.parametrize("encoded", [False, True])
def test_a_column_names_the_sequences(names, encoded, tmp_path):
    lengths = [64, 1, 200]
    column = pyarrow.array(np.repeat(names, lengths).tolist())
    time = np.concatenate([np.arange(length) for length in lengths]).astype("datetime64[ms]")
    columns = {
        "id": column.dictionary_encode() if encoded else column,
        "x": np.arange(265.0),
        "y": np.arange(265.0),
        "t": time,
    }
    source = ParquetSource([written(tmp_path / "data.parquet", columns)], "y", sequence="id", time="t")
    assert source.names == ("x",)
    assert source.lengths == lengths
    np.testing.assert_array_equal(read(source)[2][0][:, 0], np.arange(65.0, 265.0))
    without_time = ParquetSource([tmp_path / "data.parquet"], "y", sequence="id", features=["x"])
    assert without_time.lengths == lengths


@pytest.mark.parametrize("labels", [["no", "yes", "maybe"], [7, 3, 5], [True, False]])
def test_labels(labels, tmp_path):
    y = [labels[number * number % len(labels)] for number in range(150)]
    y[70] = None
    source = ParquetSource([written(tmp_path / "data.parquet", {"x": np.zeros(150), "y": y})], "y", labels=True)
    assert read(source)[0][1].tolist() == y


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({}, {"target": "z"}, ValueError, r"data\.parquet: expected one column 'z', got 'a', 'y', 'id', 't'"),
        ({}, {"features": ["a", "q"]}, ValueError, "expected one column 'q'"),
        ({}, {"target": ["a", "y", "id", "t"]}, ValueError, "X: expected a column beside 'a', 'id', 't', 'y' in"),
        ({"a": ["text"] * 99 + ["more"]}, {}, TypeError, r"X: expected numbers in column 'a' of .*, got string"),
        ({"y": ["text"] * 100}, {}, TypeError, "y: expected numbers in column 'y' of"),
        ({"a": [0.0] * 70 + [np.inf] + [0.0] * 29}, {}, ValueError,
         r"X: expected finite numbers or NaN, got inf in row 70 of .*data\.parquet, column 'a'"),
        ({"a": [1e300] * 100}, {}, ValueError, r"X: expected numbers in the range of float32, got 1e\+300 in row 0"),
        ({"y": [-np.inf] * 100}, {}, ValueError, "y: expected finite numbers or NaN, got -inf in row 0"),
        ({"id": [1] * 50 + [2] * 40 + [1] * 10}, {"sequence": "id"}, ValueError,
         "expected the rows of sequence 1 to be neighbours, got more of them from row 90 on; sort the file by 'id'"),
        ({"id": [1] * 80 + [None] * 20}, {"sequence": "id"}, ValueError,
         "expected the name of a sequence in column 'id', got none in row 80"),
        ({"t": [*range(64), 63, *range(65, 100)]}, {"time": "t"}, ValueError,
         "expected times that grow in column 't', got 63 in row 64 after 63; sort the file by time"),
        ({"t": [*range(80), 78, *range(81, 100)]}, {"time": "t"}, ValueError, "got 78 in row 80 after 79"),
        ({"t": [*map(float, range(90)), np.nan, *map(float, range(91, 100))]}, {"time": "t"}, ValueError,
         "expected a time in column 't', got none in row 90"),
        ({"t": [*range(90), None, *range(91, 100)]}, {"time": "t"}, ValueError, "got none in row 90"),
    ],
)  # fmt: skip
def test_what_is_refused(change, options, error, message, tmp_path):
    columns = {"a": np.zeros(100), "y": np.zeros(100), "id": np.zeros(100), "t": np.arange(100.0)} | change
    path = written(tmp_path / "data.parquet", columns)
    with pytest.raises(error, match=message):
        ParquetSource([path], **{"target": "y"} | options)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        ParquetSource([tmp_path / "none.parquet"], "y")
    (tmp_path / "text.parquet").write_text("not a parquet file at all")
    with pytest.raises(ValueError, match=r"text\.parquet: expected a Parquet file: "):
        ParquetSource([tmp_path / "text.parquet"], "y")
    empty = written(tmp_path / "empty.parquet", {"a": np.zeros(0), "y": np.zeros(0)})
    with pytest.raises(ValueError, match=r"X: expected at least one step, got none in .*empty\.parquet"):
        ParquetSource([empty], "y")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_files.tempfile, "TemporaryFile", Full)
    path = written(tmp_path / "data.parquet", {"a": np.zeros(9), "y": np.zeros(9)})
    with pytest.raises(OSError, match="No space left") as caught:
        ParquetSource([path], "y")
    assert "the numbers of 9 rows are kept in a temporary file in" in caught.value.__notes__[0]
