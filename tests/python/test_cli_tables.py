"""Tables as the commands read them: CSV however it is written, Parquet, what columns hold, and what is refused."""

import csv
import io
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from latchwork.cli.csv_columns import ROWS_AT_ONCE
from latchwork.cli.errors import CommandError
from latchwork.cli.tables import is_table, read_columns

DAY = np.timedelta64(1, "D")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a text, or bytes, as a file named ``data.csv``."""
    monkeypatch.chdir(tmp_path)

    def read(content, **options):
        (tmp_path / "data.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_columns("data.csv", **options)

    return read


def written(rows, **dialect):
    file = io.StringIO()
    csv.writer(file, **dialect).writerows(rows)
    return file.getvalue()


class TestWriting:
    """How the file is written makes no difference."""

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    def test_delimiters_ends_marks_and_quotes(self, read, delimiter, end, mark, quoting):
        two_lines = f"two{end}lines; or\tmore"
        rows = [["flow", "name, or so", "y"], ["1.5", 'a "quoted", word', "-2"], ["", two_lines, "1e-3"]]
        text = written(rows, delimiter=delimiter, lineterminator=end, quoting=quoting)
        table = read(mark + text.encode())
        assert table.columns == ["flow", "name, or so", "y"]
        np.testing.assert_array_equal(table["flow"], [1.5, np.nan])
        assert table["name, or so"].tolist() == ['a "quoted", word', two_lines]
        assert table["y"].tolist() == [-2, 1e-3]
        assert table.places.tolist() == [2, 4]
        assert table.place(1, "y") == "data.csv: line 4, column 'y'"

    def test_one_column(self, read):
        assert read("y\n1\n2\n")["y"].tolist() == [1, 2]

    def test_no_end_of_the_last_line(self, read):
        assert read("a,b\n1,2")["b"].tolist() == [2]

    def test_semicolons_with_commas_in_the_values(self, read):
        table = read("a;b\nx, y;1\nz, w;2\n")
        assert table["a"].tolist() == ["x, y", "z, w"]

    def test_empty_lines_and_delimiters_at_the_end(self, read):
        table = read("a,b\n\n1,2\n,\n3,4\n,\n , \n\n")
        np.testing.assert_array_equal(table["a"], [1, np.nan, 3])
        assert table.places.tolist() == [3, 4, 5]

    def test_standard_input(self):
        program = "from latchwork.cli.tables import read_columns; t = read_columns('-'); print(t.name, t['b'].tolist())"
        result = subprocess.run([sys.executable, "-c", program], input=b"a,b\n1,x\n", capture_output=True, timeout=60)
        assert (result.stdout, result.stderr) == (b"standard input ['x']\n", b"")

    def test_names_of_tables(self):
        assert all(map(is_table, ("a.csv", "B.CSV", "a.tsv", "a.parquet", "a.pq")))
        assert not any(map(is_table, ("a.txt", "csv", "-", "parquet")))


class TestKinds:
    """What the columns hold."""

    def kinds(self, table):
        return {name: table.column(name).kind for name in table.columns}

    def test_each(self, read):
        table = read("i,x,word,day,flag\n1,.5,a,2024-02-29,True\n-2,NA,b,,False\n03, +1e5 ,a,2024-03-01,\n")
        assert self.kinds(table) == {"i": "number", "x": "number", "word": "text", "day": "time", "flag": "text"}
        np.testing.assert_array_equal(table["i"], [1, -2, 3])
        np.testing.assert_array_equal(table["x"], [0.5, np.nan, 1e5])
        assert table["flag"].tolist() == ["True", "False", None]
        assert table["day"][2] - table["day"][0] == DAY
        for name, missing in {"i": [], "x": [1], "word": [], "day": [1], "flag": [2]}.items():
            assert np.flatnonzero(table.column(name).missing()).tolist() == missing

    @pytest.mark.parametrize("missing", ["", "NA", "n/a", "NaN", "null", "None", " "])
    def test_missing(self, read, missing):
        table = read(f"x,d,other\n{missing},{missing},1\n2,2024-01-01,1\n")
        assert np.isnan(table["x"][0])
        assert np.isnat(table["d"][0])

    def test_what_is_missing_in_texts_is_kept(self, read):
        """NA may be a country."""
        assert read("x\nNA\nFR\n")["x"].tolist() == ["NA", "FR"]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("2024-01-31", "2024-02-01"),
            ("2024-01-31T00:00", "2024-02-01T00:00"),
            ("2024-01-31 00:00:00", "2024-02-01 00:00:00"),
            ("2024-01-31 00:00:00.25", "2024-02-01 00:00:00.250000000"),
            ("2024-01-31T23:30Z", "2024-02-02T01:30+02:00"),
            ("2024-01-31T00:00:00-0130", "2024-02-01T01:30Z"),
        ],
    )
    def test_dates(self, read, first, second):
        table = read(f"t\n{first}\n{second}\n")
        assert self.kinds(table) == {"t": "time"}
        assert table["t"][1] - table["t"][0] == DAY

    @pytest.mark.parametrize(
        "day", ["2024-02-30", "2024-13-01", "24-01-01", "01/02/2024", "2024-01-010", "2024-01-01Z", "2024-01-01T24:61"]
    )
    def test_no_dates(self, read, day):
        assert self.kinds(read(f"t\n2024-01-01\n{day}\n")) == {"t": "text"}

    @pytest.mark.parametrize("number", ["1_000", "0x10", "1 000", "١a"])
    def test_no_numbers(self, read, number):
        assert read(f"x\n{number}\n")["x"].tolist() == [number]

    def test_dates_are_written_as_they_were(self, read):
        for texts in (
            ["2024-01-31", "2024-02-01"],
            ["2024-01", "2024-02"],
            ["2024-01-31T10:20", "2024-02-01T00:00"],
            ["2024-01-31 10:20:30", "2024-02-01 00:00:00"],
            ["2024-01-31 10:20:30Z", "2024-02-01 00:00:00Z"],
            ["-5", "7"],
            ["0.5", "7.25"],
            ["1700000000000000001", "1700000000000000002"],
        ):
            column = read("\n".join(["t", *texts]), kinds={"t": "time"}).column("t")
            assert [column.shown(row) for row in range(2)] == texts

    def test_times_are_exact(self, read):
        times = read("t\n1700000000000000001\n1700000000000000002\n", kinds={"t": "time"})["t"]
        assert (times.dtype, times[1] - times[0]) == (np.int64, 1)

    def test_half_numbers_are_texts(self, read):
        """Only where numbers are more than half, another field is a mistake."""
        assert read("x\n1\na\n2\nb\n")["x"].tolist() == ["1", "a", "2", "b"]
        with pytest.raises(CommandError, match="line 3, column 'x': expected a number"):
            read("x\n1\na\n2\n")

    def test_times_beyond_integers(self, read):
        times = read(f"t\n{2**63}\n{-(2**63)}\n1.5\n", kinds={"t": "time"})["t"]
        assert times.tolist() == [2.0**63, -(2.0**63), 1.5]

    def test_numbers_as_texts(self, read):
        assert read("id,x\n007,1\n7,2\n", kinds={"id": "text"})["id"].tolist() == ["007", "7"]

    def test_texts_after_many_numbers(self, read):
        """What was read as numbers is read again, so that the texts stay as they are written."""
        fields = ["01"] * ROWS_AT_ONCE + ["a"] * (ROWS_AT_ONCE + 1)
        assert read("\n".join(["x", *fields]))["x"].tolist() == fields

    def test_values_after_many_missing_ones(self, read):
        missing = [","] * ROWS_AT_ONCE
        table = read("\n".join(["x,t", *missing, "1,2024-01-01"]))
        assert table["x"][-1] == 1
        assert np.isnan(table["x"][:-1]).all()
        assert table["t"][-1] == np.datetime64("2024-01-01")
        assert np.isnat(table["t"][:-1]).all()

    def test_columns_left_out(self, read):
        table = read(",x,none\n0,1,\n1,2,NA\n")
        assert table.columns == ["x"]
        assert table.left_out == {"column 1": "it has no name", "none": "it has no values"}
        asked = read(",x,none\n0,1,\n1,2,NA\n", kinds={"column 1": "time", "none": None})
        assert asked.columns == ["column 1", "x", "none"]
        assert asked.left_out == {}

    def test_only_some(self, read):
        table = read("a,b,c\n1,bad,3\n", kinds={"c": None, "a": "text"}, others=False)
        assert table.columns == ["a", "c"]
        assert (table["a"].tolist(), table["c"].tolist()) == (["1"], [3])

    def test_a_choice_by_the_names(self, read):
        table = read("a,b,c\n1,2,3\n", kinds=lambda names: {names[1]: "text"}, others=False)
        assert (table.columns, table["b"].tolist()) == (["b"], ["2"])

    def test_rows_taken(self, read):
        table = read("a,b\n1,x\n2,y\n3,z\n").take([2, 0])
        assert (table["a"].tolist(), table["b"].tolist(), table.places.tolist()) == ([3, 1], ["z", "x"], [4, 2])

    def test_memory(self, read, tmp_path):
        """A large file takes what its arrays take, and not objects for each field."""
        rows = 60_000
        (tmp_path / "large.csv").write_text(
            "a,b,c,word,t\n" + "".join(f"{n}.5,{n * 7},{n % 13},w{n % 5},2024-01-01T00:00:00\n" for n in range(rows))
        )
        tracemalloc.start()
        table = read_columns(str(tmp_path / "large.csv"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(table) == rows
        arrays = rows * (3 * 8 + 4 + 8 + 8)
        assert peak < 2 * arrays + ROWS_AT_ONCE * 5 * 120


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "data.csv: expected a line of column names and then rows, got an empty file"),
        ("\n\n", {}, "data.csv: expected a line of column names and then rows, got an empty file"),
        ("a,b\n", {}, "data.csv: expected rows, got only the line of names"),
        ("1,2\n3,4\n", {}, "data.csv: line 1: expected names of columns, got the numbers 1, 2"),
        ("a,b,a\n1,2,3\n", {}, "data.csv: line 1: expected different names of columns, got 'a' twice"),
        ("a,b\n1,2\n\n3\n", {}, "data.csv: line 4: expected 2 fields, as there are names, got 1: none for column 'b'"),
        ("a,b\n1,2,x\n", {}, "data.csv: line 2: expected 2 fields, as there are names, got 3: 'x' after 'b'"),
        ("a,b\n1,2\n3,no\n4,5\n", {}, "line 3, column 'b': expected a number, as most of this column are, got 'no'"),
        ("a\n1\n2\n2024-01-01\n", {}, "line 4, column 'a': expected a number, as most of this column are"),
        ("a;b\n1;2,5\n", {"kinds": {"b": "number"}}, "expected a number, got '2,5'; numbers have a decimal point"),
        ("a\n1\ninf\n", {}, "line 3, column 'a': expected a finite number, got 'inf'"),
        ("a\n1\n-1e999\n", {}, "line 3, column 'a': expected a finite number, got '-1e999'"),
        ("a\n1\nx\n", {"kinds": {"a": "number"}}, "line 3, column 'a': expected a number, got 'x'"),
        ("t\n1\nx\n", {"kinds": {"t": "time"}}, "line 3, column 't': expected a number or a date as 2024-01-31 or"),
        ("t,u\n1,1\n,1\n", {"kinds": {"t": "time"}}, "line 3, column 't': expected a number or a date as 2024-01-31"),
        ("t\n1\n2024-01-01\n", {"kinds": {"t": "time"}}, "line 3, column 't': expected a number, as in the lines"),
        ("t\n2024-01-01\n1\n", {"kinds": {"t": "time"}}, "line 3, column 't': expected a date, as in the lines before"),
        ("t\n2024-01-01T00:00\n2024-01-01T00:00Z\n", {"kinds": {"t": "time"}}, "all times with a zone or none"),
        ("Flow,b\n1,2\n", {"kinds": {"flow": None}}, "expected a column 'flow', got 'Flow', 'b'; perhaps 'Flow'"),
        ("a,b\n1,2\n", {"kinds": {"y": "time"}}, "data.csv: expected a column 'y', got 'a', 'b'"),
        (b"a,b\n1,2\n3,caf\xe9\n", {}, "data.csv: line 3: expected UTF-8 text, got the byte 0xe9"),
        ('a,b\n1,2\n"3,4\n', {}, "data.csv: line 3 is no CSV"),
    ],
)  # fmt: skip
def test_what_is_refused(read, content, options, message):
    with pytest.raises(CommandError) as error:
        read(content, **options)
    assert message in str(error.value)
    assert str(error.value).startswith("data.csv: ")


def test_files_that_cannot_be_read(tmp_path):
    for path, message in ((tmp_path / "none.csv", "No such file"), (tmp_path, "directory")):
        with pytest.raises(CommandError, match=message):
            read_columns(str(path))


class TestParquet:
    def write(self, path, **columns):
        pa = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")
        table = pa.table(columns)
        parquet.write_table(table, path)
        return str(path)

    def test_columns(self, tmp_path):
        pa = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
        days = np.array(["2024-01-31", "2024-02-01", "NaT"], "datetime64[D]")
        path = self.write(
            tmp_path / "t.parquet",
            i=pa.array([1, None, 3]),
            x=pa.array([0.5, 1.5, float("nan")], pa.float32()),
            word=pa.array(["a", None, "a"]),
            cat=pa.array(["p", "q", None]).dictionary_encode(),
            flag=pa.array([True, False, None]),
            day=pa.array(days),
            stamp=pa.array(days.astype("datetime64[ns]"), pa.timestamp("ns", "Europe/Paris")),
            money=pa.array([1, 2, 3], pa.decimal128(5, 2)),
            empty=pa.array([None, None, None], pa.float64()),
            lists=pa.array([[1], [2], [3]]),
        )
        table = read_columns(path)
        assert table.columns == ["i", "x", "word", "cat", "flag", "day", "stamp", "money"]
        assert table.left_out == {"empty": "it has no values", "lists": "it holds list<element: int64>"}
        np.testing.assert_array_equal(table["i"], [1, np.nan, 3])
        np.testing.assert_array_equal(table["x"], [0.5, 1.5, np.nan])
        assert table["word"].tolist() == ["a", None, "a"]
        assert table["cat"].tolist() == ["p", "q", None]
        assert table["flag"].tolist() == ["true", "false", None]
        np.testing.assert_array_equal(table["day"], days.astype("datetime64[us]"))
        np.testing.assert_array_equal(table["stamp"], days.astype("datetime64[us]"))
        np.testing.assert_array_equal(table["money"], [1, 2, 3])
        assert table.column("day").shown(1) == "2024-02-01"
        assert table.place(2, "x").endswith("t.parquet: row 3, column 'x'")

    def test_forced(self, tmp_path):
        big = 1_700_000_000_000_000_001
        path = self.write(tmp_path / "t.parquet", id=[7, 8], t=[big, big + 1], x=[1.0, 2.0])
        table = read_columns(path, kinds={"id": "text", "t": "time"}, others=False)
        assert table["id"].tolist() == ["7", "8"]
        assert (table["t"] - big).tolist() == [0, 1]
        assert table.columns == ["id", "t"]

    def test_same_as_csv(self, tmp_path):
        pa_csv = pytest.importorskip("pyarrow.csv", reason="PyArrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")
        (tmp_path / "t.csv").write_text("x,word,t\n" + "".join(f"{n / 7},w{n % 3},{n}\n" for n in range(1000)))
        parquet.write_table(pa_csv.read_csv(tmp_path / "t.csv"), tmp_path / "t.parquet")
        a, b = (read_columns(str(tmp_path / f"t.{end}")) for end in ("csv", "parquet"))
        for name in ("x", "word", "t"):
            np.testing.assert_array_equal(a[name], b[name])

    @pytest.mark.parametrize(
        ("columns", "options", "message"),
        [
            ({"x": [1.0, float("inf")]}, {}, "row 2, column 'x': expected a finite number, got inf"),
            ({"x": [1, None]}, {"kinds": {"x": "time"}}, "row 2, column 'x': expected a time, got nothing"),
            ({"x": [float("nan")]}, {"kinds": {"x": "time"}}, "row 1, column 'x': expected a time, got nothing"),
            ({"x": ["a"]}, {"kinds": {"x": "number"}}, "column 'x': expected numbers, got string"),
            ({"x": [[1]]}, {"kinds": {"x": None}}, "column 'x': expected numbers, texts or dates, got list"),
            ({"x": [1]}, {"kinds": {"y": None}}, "expected a column 'y', got 'x'"),
        ],
    )
    def test_what_is_refused(self, tmp_path, columns, options, message):
        path = self.write(tmp_path / "t.parquet", **columns)
        with pytest.raises(CommandError) as error:
            read_columns(path, **options)
        assert message in str(error.value)

    def test_no_rows_and_no_parquet(self, tmp_path):
        path = self.write(tmp_path / "t.parquet", x=np.zeros(0))
        with pytest.raises(CommandError, match="expected rows, got none"):
            read_columns(path)
        (tmp_path / "t.parquet").write_text("a,b\n1,2\n")
        with pytest.raises(CommandError, match="expected a Parquet file"):
            read_columns(path)

    def test_without_pyarrow(self, tmp_path, monkeypatch):
        (tmp_path / "t.parquet").write_bytes(b"PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(CommandError, match=r"t\.parquet: reading Parquet needs PyArrow.*pip install pyarrow"):
            read_columns(str(tmp_path / "t.parquet"))
