"""``latchwork predict``: what it prints for rows and sequences, and what it refuses."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from latchwork.cli import main, predict
from tables import gestures, monthly

KINDS = ("saw", "sine", "square")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models trained by the command: of sequences, of the rows of sequences, of one series."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "gestures.csv").write_text(gestures())
    (folder / "monthly.csv").write_text(monthly())
    quick = ["--epochs", "2", "--hidden-size", "8"]
    rows = ["--sequence", "id", "--time", "t", *quick]
    for name, data, *options in (
        ("kind", "gestures", "--target", "kind", "--no-bidirectional", *rows),
        ("hand", "gestures", "--target", "hand", "--missing", "forward", *rows),
        ("x", "gestures", "--target", "x", *rows),
        ("past", "gestures", "--target", "x", "--own-past", *rows),
        ("load", "monthly", "--target", "load", "--time", "month", *quick),
        ("words", "gestures", "--target", "kind", "--task", "classification", "--categorical", "t", *quick),
    ):
        assert main(["train", str(folder / f"{data}.csv"), "-o", str(folder / name), *options]) == 0
    return folder


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsys):
    """Run the command: the rows of its output, by the names of the columns, after exit status 0."""
    monkeypatch.chdir(tmp_path)

    def run(model, content, *options):
        Path("data.csv").write_text(content, encoding="utf-8")
        capsys.readouterr()
        status = main(["predict", str(models / model), "data.csv", *options])
        printed = capsys.readouterr()
        assert (status, printed.err) == (0, "")
        assert "\r" not in printed.out
        return list(csv.DictReader(io.StringIO(printed.out)))

    return run


def columns(content):
    """Read a table by the csv module alone."""
    rows = list(csv.DictReader(io.StringIO(content)))
    return {name: [row[name] for row in rows] for name in rows[0]}


def stream_of(model, content, names):
    """Predict row by row with a stream of the model; the sequences are in order already."""
    table = columns(content)
    stream, predicted, before = model.stream(), [], None
    for row, sequence in enumerate(table.get("id", ["one"] * len(next(iter(table.values()))))):
        if sequence != before:
            stream.reset()
            before = sequence
        values = [table[name][row] if name in ("hand", "kind") else float(table[name][row]) for name in names]
        predicted.append(stream.step(np.array(values, object)))
    return predicted


class TestSequences:
    def test_of_words(self, run, models):
        found = run("kind", gestures(12, seed=5))
        assert [row["id"] for row in found] == [f"g{n}" for n in range(12)]
        assert list(found[0]) == ["id", "prediction"]
        table, model = columns(gestures(12, seed=5)), lw.load(models / "kind")
        stream = stream_of(model, gestures(12, seed=5), ["x", "hand"])
        last = {sequence: str(predicted) for sequence, predicted in zip(table["id"], stream, strict=True)}
        assert {row["id"]: row["prediction"] for row in found} == last

    def test_probabilities(self, run, models):
        found = run("kind", gestures(12, seed=5), "--proba")
        names = [f"probability_{kind}" for kind in KINDS]
        assert list(found[0]) == ["id", "prediction", *names]
        for row in found:
            probabilities = [float(row[name]) for name in names]
            assert sum(probabilities) == pytest.approx(1, abs=1e-6)
            assert row["prediction"] == KINDS[int(np.argmax(probabilities))]

    def test_order_of_rows_and_columns_and_those_not_needed(self, run):
        """Sequences come in the order of their first rows, whatever that of the rows and columns is."""
        expected = run("kind", gestures(6, seed=5), "--proba")
        header, *lines = gestures(6, seed=5).splitlines()
        rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
        order = np.random.default_rng(0).permutation(len(rows))
        shuffled = "note;hand;x;t;id\n" + "".join("n;{hand};{x};{t};{id}\n".format(**rows[place]) for place in order)
        found = run("kind", shuffled, "--proba")
        assert [row["id"] for row in found] == list(dict.fromkeys(rows[place]["id"] for place in order))
        assert sorted(map(str, found)) == sorted(map(str, expected))

    def test_missing_values(self, run, models):
        table = gestures(6, seed=5)
        line = table.splitlines()[9]
        id, t, _, hand, kind = line.split(",")
        found = run("hand", table.replace(line, f"{id},{t},NA,,{kind}").replace(f"{id},{t},NA", f"{id},{t},"))
        assert len(found) == 6


class TestRows:
    def test_of_sequences(self, run, models):
        content = gestures(6, seed=5)
        found = run("x", content)
        assert list(found[0]) == ["id", "t", "prediction"]
        table = columns(content)
        assert [row["id"] for row in found] == table["id"]
        assert [row["t"] for row in found] == table["t"]
        stream = stream_of(lw.load(models / "x"), content, ["hand", "kind"])
        assert [np.float32(row["prediction"]) for row in found] == [np.float32(each) for each in stream]

    def test_in_the_order_of_time(self, run):
        header, *lines = gestures(3, seed=5).splitlines()
        expected = run("x", "\n".join([header, *lines]))
        backward = [line for id in ("g0,", "g1,", "g2,") for line in reversed(lines) if line.startswith(id)]
        assert run("x", "\n".join([header, *backward])) == expected

    def test_own_past(self, run, models):
        """The first row of each sequence has no prediction; the others read the target of the row before."""
        content = gestures(6, seed=5) + "single,0,1,left,saw\n"
        found = run("past", content)
        table = columns(content)
        assert [row["id"] for row in found] == table["id"]
        first = [row == 0 or table["id"][row] != table["id"][row - 1] for row in range(len(found))]
        assert [row["prediction"] == "" for row in found] == first
        lines = content.splitlines()
        made = ["id,hand,kind,x (row before)"]
        for row in range(len(found)):
            if not first[row]:
                made.append(f"{table['id'][row]},{table['hand'][row]},{table['kind'][row]},{table['x'][row - 1]}")
        assert len(lines) == len(found) + 1
        stream = stream_of(lw.load(models / "past"), "\n".join(made), ["hand", "kind", "x (row before)"])
        predicted = [np.float32(row["prediction"]) for row in found if row["prediction"]]
        assert predicted == [np.float32(each) for each in stream]

    def test_own_past_given_as_a_column(self, run):
        content = "month,load\n" + "".join(f"2000-{n:02},{n}\n" for n in range(1, 8))
        expected = run("load", content)
        assert list(expected[0]) == ["month", "prediction"]
        assert [row["month"] for row in expected] == [f"2000-{n:02}" for n in range(1, 8)]
        made = "month,load (row before)\n" + "".join(f"2000-{n:02},{n - 1}\n" for n in range(2, 8))
        assert run("load", made) == expected[1:]

    def test_the_row_after_the_last_target(self, run):
        """A row whose target nobody knows yet is predicted from those before it."""
        content = "month,load\n" + "".join(f"2000-{n:02},{n}\n" for n in range(1, 8))
        assert run("load", content.replace(",7\n", ",\n")) == run("load", content)

    def test_without_sequence_and_time(self, run):
        found = run("words", gestures(3, seed=5), "--proba")
        assert list(found[0]) == ["prediction", *(f"probability_{kind}" for kind in KINDS)]
        assert len(found) == len(gestures(3, seed=5).splitlines()) - 1


@pytest.mark.parametrize("model", ["kind", "x", "past"])
def test_parts_make_no_difference(run, monkeypatch, model):
    whole = run(model, gestures(12, seed=5))
    for rows in (1, 17, 40):
        monkeypatch.setattr(predict, "ROWS_AT_ONCE", rows)
        assert run(model, gestures(12, seed=5)) == whole


class TestModelsOfPython:
    """Estimators that were fitted on arrays and frames."""

    def test_outputs_and_quantiles(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        random = np.random.default_rng(0)
        X = random.normal(size=(20, 5, 2)).astype(np.float32)
        Path("data.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in X[0]))
        for options, y, names in (
            ({}, X[:, :, :2].sum(axis=1), ["prediction_0", "prediction_1"]),
            ({"quantiles": (0.1, 0.5)}, X[:, :, 0].sum(axis=1), ["prediction_0.1", "prediction_0.5"]),
            ({"n_members": 3}, X[:, :, 0].sum(axis=1), ["prediction"]),
        ):
            model = lw.LSTMRegressor(4, max_epochs=1, random_state=0, **options).fit(X, y)
            model.save("model")
            assert main(["predict", "model", "data.csv"]) == 0
            found = list(csv.reader(io.StringIO(capsys.readouterr().out)))
            assert found[0] == names
            assert [[np.float32(each) for each in row] for row in found[1:]] == model.predict(X[:1]).reshape(
                1, -1
            ).tolist()

    def test_a_frame_of_pandas(self, tmp_path, monkeypatch, capsys):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        monkeypatch.chdir(tmp_path)
        Path("data.csv").write_text(gestures(9))
        frame = pandas.read_csv("data.csv")
        model = lw.LSTMRegressor(
            4, max_epochs=1, random_state=0, sequence="id", time="t", categorical=["hand", "kind"], head="sequence"
        ).fit(frame, "x")
        model.save("model")
        assert main(["predict", "model", "data.csv"]) == 0
        found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [np.float32(row["prediction"]) for row in found] == model.predict(frame).tolist()


class TestBadInput:
    @pytest.mark.parametrize(
        ("model", "content", "message"),
        [
            ("kind", "", "data.csv: expected a line of column names and then rows, got an empty file"),
            ("kind", "id,t,x\na,1,2\n", "data.csv: expected a column 'hand', got 'id', 't', 'x'"),
            ("kind", "id,t,x,hand\na,1,two,left\n", "data.csv: line 2, column 'x': expected a number, got 'two'"),
            ("kind", "id,t,x,hand\na,1,2,up\n", "line 2, column 'hand': expected one of the 2 categories of training, "
             "got 'up'"),
            ("kind", "id,t,x,hand\na,1,2,\n", "line 2, column 'hand': expected one of the 2 categories of training, "
             "got nothing"),
            ("kind", "id,t,x,hand\na,1,,left\n", "line 2, column 'x': expected a value, because the model was trained"),
            ("kind", "id,t,x,hand\na,1,inf,left\n", "line 2, column 'x': expected a finite number, got 'inf'"),
            ("kind", "id,t,x,hand\na,1,2,left\na,1,2,left\n", "line 3, column 't': expected different times within"),
            ("past", "id,t,hand,kind\na,1,left,saw\n", "data.csv: expected a column 'x', got"),
            ("past", "id,t,x,hand,kind\na,1,,left,saw\na,2,1,left,saw\n", "line 3, column 'x (row before)': expected"),
        ],
    )  # fmt: skip
    def test_tables(self, models, tmp_path, monkeypatch, capsys, model, content, message):
        monkeypatch.chdir(tmp_path)
        Path("data.csv").write_text(content)
        capsys.readouterr()
        status = main(["predict", str(models / model), "data.csv"])
        printed = capsys.readouterr()
        assert (status, printed.out) == (2, "")
        assert printed.err.startswith("latchwork: ")
        assert printed.err.count("\n") == 1
        assert message in printed.err

    def test_models(self, models, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        lw.LSTM(3, 5).save("lstm")
        X = np.zeros((4, 3, 1))
        lw.LSTMRegressor(2, max_epochs=1).fit(X, [1, 2, 3, 4], static=np.ones((4, 1))).save("static")
        Path("data.csv").write_text("x\n1\n")
        load = str(models / "load")
        for arguments, message in (
            (["lstm", "data.csv"], "lstm: expected a regressor or a classifier, got LSTM"),
            (["none", "data.csv"], "cannot read none: No such file"),
            ([load, "none.csv"], "cannot read none.csv: No such file"),
            ([load, "data.csv", "--proba"], "--proba: expected a classifier, got LSTMRegressor"),
            (["-", "-"], "MODEL and DATA: expected at most one to be standard input, got - twice"),
            (["static", "data.csv"], "static: expected a model without static features"),
        ):
            capsys.readouterr()
            assert main(["predict", *arguments]) == 2
            assert message in capsys.readouterr().err

    def test_other_numbers_of_columns(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        lw.LSTMRegressor(2, max_epochs=1).fit(np.zeros((4, 3, 2)), [1, 2, 3, 4]).save("model")
        Path("data.csv").write_text("x\n1\n")
        assert main(["predict", "model", "data.csv"]) == 2
        assert "data.csv: expected 2 columns of inputs, got 1" in capsys.readouterr().err


class TestStreams:
    def test_standard_input_and_output(self, models):
        command = [sys.executable, "-m", "latchwork", "predict", str(models / "load"), "-"]
        result = subprocess.run(command, input=monthly(2).encode(), capture_output=True, timeout=120)
        assert (result.returncode, result.stderr) == (0, b"")
        assert len(result.stdout.splitlines()) == 25

    def test_a_reader_that_leaves(self, models, tmp_path):
        (tmp_path / "data.csv").write_text(gestures(2000))
        command = f"{sys.executable} -m latchwork predict {models / 'x'} {tmp_path / 'data.csv'} | head -n 2"
        result = subprocess.run(command, shell=True, capture_output=True, timeout=120)
        assert (result.stdout.count(b"\n"), result.stderr) == (2, b"")
