"""``latchwork train`` on tables: what it says, what it writes, how it ends."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from latchwork.cli import main
from latchwork.estimators.data.batches import SequenceBatches
from tables import gestures, monthly

OF_GESTURES = ["--target", "kind", "--sequence", "id", "--time", "t"]
QUICK = ["--hidden-size", "8", "--epochs", "2"]


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Run the command on a table in an empty folder: the exit status, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def train(content, *options, name="data.csv"):
        if content is not None:
            Path(name).write_text(content, encoding="utf-8")
        status = main(["train", name, "-o", "model.st", *options])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return train


def scores(out):
    """Give the last table of the output."""
    return dict(re.findall(r"^  (.+?)  +(\S+)$", out, flags=re.MULTILINE))


class TestWhatItSays:
    def test_words_of_sequences(self, train):
        status, out, err = train(gestures(), *OF_GESTURES, "--epochs", "30", "--hidden-size", "24")
        assert (status, err) == (0, "")
        assert "output    model.st (a new file)\n" in out
        assert re.search(r"table     data.csv: 45 sequences of 8 to 19 rows in the order of 't'\n", out)
        assert "inputs    x, hand (category)\n" in out
        assert "target    'kind': classification, because the column holds 3 different words\n" in out
        assert "          one for each sequence, because they are equal in all rows of a sequence\n" in out
        assert "held out  3 sequences of 45, the last tenth of each class\n" in out
        assert "model     LSTMClassifier, 1 x LSTM 24, bidirectional\n" in out
        assert re.search(r"training  took \d+\.\d s: 30 epochs, loss 0\.\d+\n", out)
        assert f"written   model.st ({Path('model.st').stat().st_size / 1e6:.1f} MB)\n" in out
        assert "held-out accuracy, larger is better:" in out
        assert scores(out) == {"most frequent class, 'saw'": "0.333", "this model": "1.000"}
        model = lw.load("model.st")
        assert isinstance(model, lw.LSTMClassifier)
        assert model.classes_.tolist() == ["saw", "sine", "square"]
        assert model.feature_names_in_.tolist() == ["x", "hand"]

    def test_one_series_of_numbers(self, train):
        status, out, err = train(monthly(), "--target", "load", "--time", "month")
        assert (status, err) == (0, "")
        assert "table     data.csv: one series of 299 rows in the order of 'month'\n" in out
        assert "inputs    load (row before)\n" in out
        assert "target    'load': regression, because the column holds " in out
        assert "          one for each row, because there is one series:\n" in out
        assert "the inputs of the rows up to it and the targets of those before it, which the first row has not" in out
        assert "held out  the last 29 rows of 299\n" in out
        found = {name: float(score) for name, score in scores(out).items()}
        assert found["this model"] < found["last value"] < found["mean"]

    def test_scores_are_those_of_the_definitions(self, train):
        """From the predictions of the model in the file, and from the table, by plain NumPy."""
        _, out, _ = train(monthly(), "--target", "load", "--time", "month", *QUICK)
        load = np.array([float(line.split(",")[1]) for line in monthly().splitlines()[1:]])
        stream = lw.load("model.st").stream()
        predicted = np.array([stream.step(load[row : row + 1]) for row in range(len(load) - 1)])
        held = load[-29:]
        expected = {
            "mean": np.full(29, load[1:-29].mean()), "last value": load[-30:-1], "this model": predicted[-29:].ravel(),
        }  # fmt: skip
        found = scores(out)
        for name, values in expected.items():
            assert float(found[name]) == pytest.approx(np.sqrt(np.mean((held - values) ** 2)), rel=1e-4)

    def test_numbers_of_rows_in_sequences(self, train):
        status, out, _ = train(gestures(), "--target", "x", "--sequence", "id", *QUICK)
        assert status == 0
        assert "they differ within a sequence (line 3 is the first that does):\n" in out
        assert "predicted from the inputs of the rows up to it\n" in out
        assert "inputs    t, hand (category), kind (category)\n" in out
        assert "held out  4 sequences of 45, the last tenth\n" in out
        assert [*scores(out)] == ["mean", "last value", "this model"]
        assert lw.load("model.st").head == "sequence"

    def test_whole_numbers(self, train):
        table = gestures(labels=(4, 0, -1))
        status, out, _ = train(table, *OF_GESTURES, *QUICK)
        assert status == 0
        assert "classification, because the column holds 3 different whole numbers; --task regression" in out
        assert lw.load("model.st").classes_.tolist() == [-1, 0, 4]
        status, out, _ = train(table, *OF_GESTURES, *QUICK, "--task", "regression")
        assert "target    'kind': regression, because --task says so\n" in out
        assert isinstance(lw.load("model.st"), lw.LSTMRegressor)

    def test_notes(self, train):
        lines = monthly().splitlines()
        del lines[40]
        lines = [f"{line},{'' if n in (4, 9) else n},2024-01-01" for n, line in enumerate(lines)]
        lines[0] = "month,load,other,day"
        status, out, _ = train("\n".join(lines), "--target", "load", "--time", "month", "--no-own-past", *QUICK)
        assert status == 0
        assert "note      column 'day' is left out: it holds dates, which are no inputs\n" in out
        assert "note      line 41, column 'month': 61 days after the row before it, where most rows are 31 days" in out
        assert "note      2 values are missing in column 'other', the first in line 5: a number is carried" in out

    @pytest.mark.parametrize(
        ("missing", "word"), [(None, "carried forward"), ("mean", "the mean"), ("zero", "0 stands")]
    )
    def test_missing_only_in_what_is_held_out(self, train, missing, word):
        rows = [f"{'' if n == 48 else n},{n / 7}\n" for n in range(50)]
        options = [] if missing is None else ["--missing", missing]
        status, out, err = train("x,y\n" + "".join(rows), "--target", "y", *QUICK, *options)
        assert (status, err) == (0, "")
        assert re.search(rf"1 value is missing in column 'x', the first in line 50: .*{word}", out)
        assert "this model" in scores(out)

    def test_missing_labels_and_targets(self, train):
        table = "\n".join(
            line.rpartition(",")[0] + "," if line.startswith("g4,") else line for line in gestures().splitlines()
        )
        status, out, _ = train(table, *OF_GESTURES, *QUICK)
        assert status == 0
        assert "note      1 sequence without a value in column 'kind', the first in line" in out
        assert "44 sequences" in out
        status, out, _ = train(
            "x,y\n" + "".join(f"{n},{'' if n % 5 == 1 else 'ab'[n % 2]}\n" for n in range(50)), "--target", "y", *QUICK
        )
        assert status == 0
        assert "note      10 rows without a value in column 'y'" in out


class TestOptions:
    def test_reach_the_model(self, train):
        options = ["--layers", "2", "--seconds", "50", "--threads", "1", "--seed", "7", "--bidirectional"]
        more = ["--members", "2", "--missing", "zero", "--scale", "robust", "--categorical", "t"]
        status, out, _ = train(gestures(), "--target", "kind", "--sequence", "id", *QUICK, *options, *more)
        assert status == 0
        assert "model     LSTMClassifier, 2 x LSTM 8, bidirectional, 2 members\n" in out
        assert "inputs    t (category), x, hand (category)\n" in out
        model = lw.load("model.st")
        assert (model.num_layers, model.hidden_size, model.max_epochs, model.max_seconds) == (2, 8, 2, 50)
        assert (model.random_state, model.bidirectional, model.n_members) == (7, True, 2)
        assert (model.missing, model.scale, model.sequence, model.time) == ("zero", "robust", "id", None)
        assert lw.get_num_threads() == 1

    def test_none_of_them(self, train):
        train(gestures(), *OF_GESTURES, "--epochs", "1")
        model, default = lw.load("model.st"), lw.LSTMClassifier()
        own = {
            "sequence": "id",
            "time": "t",
            "categorical": ["hand"],
            "random_state": 0,
            "max_epochs": 1,
            "verbose": True,
        }
        assert model.get_params() == {**default.get_params(), **own}

    def test_directions(self, train):
        for options, expected in (([], True), (["--no-bidirectional"], False), (["--bidirectional"], True)):
            train(gestures(), *OF_GESTURES, *QUICK, *options)
            assert any("reverse" in name for name in lw.load("model.st").network_.parameters) is expected
        for options, expected in (([], False), (["--bidirectional"], True)):
            _, out, _ = train(gestures(), "--target", "x", "--sequence", "id", *QUICK, *options)
            assert any("reverse" in name for name in lw.load("model.st").network_.parameters) is expected
            assert f"predicted from the inputs of {'all rows' if expected else 'the rows up to it'}\n" in out

    def test_scale_none(self, train):
        train(gestures(), *OF_GESTURES, *QUICK, "--scale", "none")
        assert lw.load("model.st").scale is None

    def test_equal_seeds_give_equal_models(self, train):
        written = []
        for seed, threads in ((3, 1), (3, 2), (4, 1)):
            train(gestures(), *OF_GESTURES, *QUICK, "--seed", str(seed), "--threads", str(threads))
            written.append(lw.load("model.st").network_.state_dict())
        same = [all(np.array_equal(a[name], b[name]) for name in a) for a, b in zip(written, written[1:], strict=False)]
        assert same == [True, False]

    def test_a_model_of_python(self, train):
        """The file is the estimator that the same call in Python gives."""
        train(gestures(), *OF_GESTURES, *QUICK)
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        frame = pandas.read_csv("data.csv")
        labels = frame.groupby("id", sort=False)["kind"].first()
        held = [name for label in ("saw", "sine", "square") for name in labels.index[labels == label][-1:]]
        training = frame[~frame["id"].isin(held)].drop(columns="kind")
        model = lw.LSTMClassifier(8, max_epochs=2, sequence="id", time="t", categorical=["hand"], random_state=0).fit(
            training, labels.drop(held).to_numpy()
        )
        mine, theirs = model.network_.state_dict(), lw.load("model.st").network_.state_dict()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)

    @pytest.mark.parametrize("end", ["png", "SVG", "pdf"])
    def test_plot(self, train, end):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        status, out, err = train(gestures(), *OF_GESTURES, *QUICK, "--plot", f"history.{end}")
        assert (status, err) == (0, "")
        assert f"written   history.{end}\n" in out
        beginning = {"png": b"\x89PNG", "SVG": b"<?xml", "pdf": b"%PDF"}[end]
        assert Path(f"history.{end}").read_bytes().startswith(beginning)

    def test_plot_of_a_text(self, train):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        assert train("some text, " * 200, *QUICK, "--plot", "h.png", name="text.txt")[0] == 0
        assert Path("h.png").read_bytes().startswith(b"\x89PNG")

    def test_no_time_to_train(self, train):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        status, out, _ = train(gestures(), *OF_GESTURES, "--seconds", "0", "--plot", "h.png")
        assert status == 0
        assert "training  ended before its first step\n" in out
        assert "note      nothing to draw" in out
        assert not Path("h.png").exists()

    def test_parquet(self, train):
        pa_csv = pytest.importorskip("pyarrow.csv", reason="PyArrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")
        train(gestures(), *OF_GESTURES, *QUICK)
        expected = lw.load("model.st").network_.state_dict()
        parquet.write_table(pa_csv.read_csv("data.csv"), "data.parquet")
        status, _, err = train(None, *OF_GESTURES, *QUICK, name="data.parquet")
        assert (status, err) == (0, "")
        state = lw.load("model.st").network_.state_dict()
        assert all(np.array_equal(state[name], expected[name]) for name in expected)

    def test_standard_input(self, tmp_path):
        command = [sys.executable, "-m", "latchwork", "train", "-", *OF_GESTURES, *QUICK, "-o", str(tmp_path / "m")]
        result = subprocess.run(command, input=gestures().encode(), capture_output=True, timeout=120)
        assert (result.returncode, result.stderr) == (0, b"")
        assert b"table     standard input: 45 sequences" in result.stdout


class TestEnds:
    def test_ctrl_c_keeps_the_model(self, tmp_path):
        (tmp_path / "data.csv").write_text(gestures())
        output = tmp_path / "model.st"
        command = [sys.executable, "-m", "latchwork", "train", str(tmp_path / "data.csv"), *OF_GESTURES]
        options = ["-o", str(output), "--epochs", "1000000"]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            for line in process.stdout:
                if line.startswith(b"model"):
                    break
            threading.Timer(1.0, process.send_signal, [signal.SIGINT]).start()
            printed, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, b"")
        assert b"ended by Ctrl-C" in printed
        assert b"this model" in printed
        assert isinstance(lw.load(output), lw.LSTMClassifier)

    def test_resume(self, train, monkeypatch):
        """What goes on from a checkpoint ends as what was never stopped."""
        options = [*OF_GESTURES, "--hidden-size", "8", "--epochs", "6"]
        train(gestures(), *options)
        expected = lw.load("model.st").network_.state_dict()
        batches = SequenceBatches.batches

        def stopped(data, epoch, first=0):
            if epoch == 3:
                raise KeyboardInterrupt
            return batches(data, epoch, first)

        monkeypatch.setattr(SequenceBatches, "batches", stopped)
        status, out, _ = train(None, *options, "--checkpoint-dir", "kept")
        assert status == 130
        assert "ended by Ctrl-C" in out
        stopped_state = lw.load("model.st").network_.state_dict()
        assert not all(np.array_equal(stopped_state[name], expected[name]) for name in expected)
        read = []

        def counted(data, epoch, first=0):
            read.append(epoch)
            return batches(data, epoch, first)

        monkeypatch.setattr(SequenceBatches, "batches", counted)
        status, _, err = train(None, *options, "--checkpoint-dir", "kept", "--resume")
        assert (status, err) == (0, "")
        assert read == [3, 4, 5]
        state = lw.load("model.st").network_.state_dict()
        assert all(np.array_equal(state[name], expected[name]) for name in expected)

    def test_resume_of_a_text(self, train):
        options = [*QUICK, "--checkpoint-dir", "kept"]
        text = "some text, " * 200
        assert train(text, *options, name="text.txt")[0] == 0
        before = lw.load("model.st").network_.state_dict()
        status, _, err = train(text, *options, "--resume", name="text.txt")
        assert (status, err) == (0, "")
        after = lw.load("model.st").network_.state_dict()
        assert all(np.array_equal(before[name], after[name]) for name in before)

    @pytest.mark.parametrize("words", [True, False])
    def test_certificate(self, train, capsys, words):
        """Also of a series whose own past is a category, words or numbers that are read as words."""
        content = "y\n" + "".join(f"{'abc'[n * n % 3] if words else n * n % 3}\n" for n in range(60))
        options = ["--target", "y", *([] if words else ["--categorical", "y"]), *QUICK, "--certificate", "run.json"]
        assert train(content, *options)[0] == 0
        assert main(["verify", "model.st", "run.json", "data.csv", "--target", "y"]) == 0
        assert "2 of 2 segments equal" in capsys.readouterr().out
        other = content.splitlines()
        other[5] = "a" if words else "0"
        Path("data.csv").write_text("\n".join(other) + "\n")
        assert main(["verify", "model.st", "run.json", "data.csv", "--target", "y"]) == 1

    def test_a_folder_that_cannot_be(self, train):
        Path("kept").write_text("a file")
        status, _, err = train(gestures(), *OF_GESTURES, *QUICK, "--checkpoint-dir", "kept")
        assert status in (1, 2)
        assert err.count("\n") == 1
        assert "kept" in err

    def test_a_training_that_explodes_keeps_the_model(self, train, monkeypatch):
        fit = lw.LSTMClassifier.fit

        def exploding(model, *data, **options):
            fit(model, *data, **options)
            raise RuntimeError("epoch 3: expected a finite loss")

        monkeypatch.setattr(lw.LSTMClassifier, "fit", exploding)
        status, _, err = train(gestures(), *OF_GESTURES, *QUICK)
        assert (status, err) == (1, "latchwork: epoch 3: expected a finite loss\n")
        assert isinstance(lw.load("model.st"), lw.LSTMClassifier)


class TestBadInput:
    """One line on standard error, exit status 2, and no model."""

    @pytest.mark.parametrize(
        ("table", "options", "message"),
        [
            ("", ["--target", "y"], "data.csv: expected a line of column names and then rows, got an empty file"),
            (gestures(), ["--target", "Kind"], "data.csv: expected a column 'Kind', got 'id', 't', 'x', 'hand', 'kind'"
             "; perhaps 'kind'"),
            (gestures(), ["--target", "kind", "--sequence", "no"], "data.csv: expected a column 'no', got"),
            (gestures().replace("g3,4,", "g3,3,"), OF_GESTURES, "column 't': expected different times within sequence "
             "'g3', got 3 as in line"),
            (gestures().replace("g3,4,", "g3,four,"), OF_GESTURES, "column 't': expected a number or a date"),
            ("x,y\n" + "1,2\n" * 20 + "x,3\n" + "1,2\n" * 20, ["--target", "y"], "line 22, column 'x': expected a n"),
            ("x,y\n1,2\n1\n", ["--target", "y"], "line 3: expected 2 fields, as there are names, got 1"),
            ("x,y\n" + "1,2.5\n" * 20, ["--target", "y"], "expected at least two different targets to learn from, got"),
            (gestures(), [*OF_GESTURES, "--task", "regression"], "expected a number, as --task regression needs, got "),
            (gestures(), [*OF_GESTURES, "--own-past"], "--own-past: expected targets that differ within a sequence"),
            (gestures(), [*OF_GESTURES, "--resume"], "--resume: expected --checkpoint-dir"),
            (gestures(), [*OF_GESTURES, "--plot", "h.txt"], "--plot: expected a name that ends in .png, .svg, .pdf"),
            (gestures(), ["--sequence", "id"], "data.csv: expected --target, which names the column of the table"),
        ],
    )  # fmt: skip
    def test_tables(self, train, table, options, message):
        status, _, err = train(table, *options)
        assert status == 2
        assert err.startswith("latchwork: ")
        assert err.count("\n") == 1
        assert message in err
        assert not Path("model.st").exists()

    @pytest.mark.parametrize(
        "option",
        [
            ["--sequence", "a"], ["--time", "a"], ["--task", "regression"], ["--categorical", "a"], ["--no-own-past"],
            ["--missing", "zero"], ["--scale", "none"], ["--bidirectional"], ["--members", "2"],
        ],
    )  # fmt: skip
    def test_options_of_tables_with_a_text(self, train, option):
        status, out, err = train("text " * 300, *option, name="text.txt")
        assert (status, out) == (2, "")
        assert "expected --target too, because only tables have this option" in err
        assert err.startswith(f"latchwork: {option[0].replace('--no-', '--')}: ")

    def test_a_target_without_data(self, capsys):
        assert main(["train", "--target", "y"]) == 2
        assert capsys.readouterr().err == "latchwork: --target: expected DATA, a table, got none\n"

    def test_the_output_is_not_the_table(self, train, capsys):
        train(gestures(), *OF_GESTURES, "--epochs", "1", "--hidden-size", "1")
        before = Path("data.csv").read_bytes()
        assert main(["train", "data.csv", *OF_GESTURES, "-o", "data.csv"]) == 2
        assert "--output: expected another file than DATA" in capsys.readouterr().err
        assert Path("data.csv").read_bytes() == before

    def test_a_picture_in_a_folder_that_is_not_there(self, train):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        status, _, err = train(gestures(), *OF_GESTURES, "--plot", "no/h.png")
        assert status == 2
        assert "cannot write no/h.png: No such file" in err

    def test_without_matplotlib(self, train, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        status, _, err = train(gestures(), *OF_GESTURES, "--plot", "h.png")
        assert status == 2
        assert "pip install 'latchwork[plot]'" in err

    def test_without_pyarrow(self, train, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        status, _, err = train("PAR1", *OF_GESTURES, name="data.parquet")
        assert status == 2
        assert "reading Parquet needs PyArrow, which is not installed: pip install pyarrow" in err
