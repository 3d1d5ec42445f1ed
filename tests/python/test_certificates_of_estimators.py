"""``fit(certificate=...)`` of every estimator, `latchwork.verify` and ``latchwork verify``."""

import json

import latchwork as lw
import numpy as np
import pytest
from latchwork.cli import main
from latchwork.estimators.runs.verification import Verification

TEXT = "a stitch in time saves nine, the quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr("os.fsync", lambda _: None)  # which takes most of the time, and is not what is tested
    monkeypatch.chdir(tmp_path)


def sequences(samples=40):
    random = np.random.RandomState(0)
    X = random.randn(samples, 7, 3)
    y = X[:, :, 0].sum(axis=1)
    X[3, 4, 1] = np.nan
    return X, y


def regressor(**options):
    return lw.LSTMRegressor(hidden_size=5, max_epochs=4, **options)


def words_of(y):
    return np.where(y > 0, "up", "down")


def loaded(model):
    model.save("model.safetensors")
    return lw.load("model.safetensors")


@pytest.mark.filterwarnings("ignore:X. .*missing.*", "ignore:.*NaN.*")
@pytest.mark.parametrize(
    "options",
    [
        {"random_state": 3},
        {"random_state": None},
        {"random_state": 3, "early_stopping": True, "n_iter_no_change": 2},
        {"random_state": 3, "n_members": 3},
        {"random_state": 3, "max_seconds": 1000.0},
        {"random_state": 3, "quantiles": [0.1, 0.5, 0.9]},
        {"random_state": 3, "warm_start": True},
        {"random_state": 3, "optimizer": lw.optim.SGD(lr=lw.optim.schedules.Step(0.01, 5), momentum=0.9)},
        {"random_state": 3, "lr_schedule": lw.optim.schedules.ReduceOnPlateau(0.01, patience=0, threshold=0.5)},
    ],
    ids=str,
)
def test_a_regressor(options):
    X, y = sequences()
    model = regressor(**options).fit(X, y, certificate="run.json")
    segments = len(model.history_)
    lw.set_num_threads(3)
    for each in (model, loaded(model)):
        assert lw.verify(each, "run.json", X, y, segments="all") == Verification(segments, segments, segments, [])


@pytest.mark.filterwarnings("ignore:X. .*missing.*", "ignore:.*NaN.*")
class TestFound:
    @pytest.fixture
    def fitted(self):
        X, y = sequences()
        model = regressor(random_state=3).fit(X, y, certificate="run.json")
        return loaded(model), X, y

    def test_a_changed_target(self, fitted):
        model, X, y = fitted
        y[7] += 1e-3
        found = lw.verify(model, "run.json", X, y)
        assert found.findings[0] == "the data are others than those of the certificate"
        assert found.equal == 0

    def test_a_changed_input(self, fitted):
        model, X, y = fitted
        X[7, 6, 2] = 0.0
        assert lw.verify(model, "run.json", X, y).findings == ["the data are others than those of the certificate"]

    def test_a_changed_gap(self, fitted):
        model, X, y = fitted
        X[3, 4, 1] = 0.0
        assert not lw.verify(model, "run.json", X, y).passed

    def test_another_order(self, fitted):
        model, X, y = fitted
        assert not lw.verify(model, "run.json", X[::-1], y[::-1]).passed

    def test_weights(self, fitted):
        model, X, y = fitted
        found = lw.verify(model, "run.json", X, y, sample_weight=np.linspace(1, 2, len(y)))
        assert not found.passed

    @pytest.mark.parametrize(
        "option", [{"lr": 0.1}, {"dropout": 0.5}, {"batch_size": 7}, {"hidden_size": 6}, {"scale": None}]
    )
    def test_a_changed_option(self, fitted, option):
        model, X, y = fitted
        model.set_params(**option)
        found = lw.verify(model, "run.json", X, y)
        assert not found.passed
        assert any(each.startswith(f"other options: {next(iter(option))}: expected ") for each in found.findings)

    def test_a_changed_weight(self, fitted):
        model, X, y = fitted
        with model.network_.edit() as parameters:
            name = list(parameters)[-1]
            parameters[name] = np.nextafter(np.array(parameters[name]), np.float32(9))
        findings = lw.verify(model, "run.json", X, y).findings
        assert findings == ["the model's weights are others than those of the certificate"]


@pytest.mark.filterwarnings("ignore:X. .*missing.*", "ignore:.*NaN.*")
def test_data_for_validation_are_not_in_the_file():
    X, y = sequences()
    model = regressor(random_state=1, early_stopping=True, validation_data=(X[:9], y[:9]), n_iter_no_change=1)
    model.fit(X, y, certificate="run.json")
    for each in (model, loaded(model)):
        assert lw.verify(each, "run.json", X, y).passed


@pytest.mark.filterwarnings("ignore:X. .*missing.*", "ignore:.*NaN.*")
def test_a_warm_start(tmp_path):
    X, y = sequences()
    model = regressor(random_state=3, warm_start=True).fit(X, y)
    model.fit(X[:20], y[:20], certificate="run.json")
    assert json.loads((tmp_path / "run.json").read_text())["given_start"]
    assert lw.verify(loaded(model), "run.json", X[:20], y[:20], segments="all").equal == 4


@pytest.mark.filterwarnings("ignore:X. .*missing.*", "ignore:.*NaN.*")
@pytest.mark.parametrize(
    "options", [{}, {"head": "sequence"}, {"class_weight": "balanced"}, {"bidirectional": True}], ids=str
)
def test_a_classifier(options):
    X, y = sequences()
    if options.get("head") == "sequence":
        y = X[:, :, 0]
    labels = words_of(y)
    model = lw.LSTMClassifier(hidden_size=4, max_epochs=3, random_state=0, **options)
    model.fit(X, labels, certificate="run.json")
    assert lw.verify(loaded(model), "run.json", X, labels) == Verification(3, 3, 3, [])
    labels[(0,) * labels.ndim] = "up" if labels[(0,) * labels.ndim] == "down" else "down"
    assert not lw.verify(loaded(model), "run.json", X, labels).passed


def test_ragged_sequences_and_windows():
    random = np.random.RandomState(0)
    X = [random.randn(length, 2) for length in (1, 7, 17, 31, 0, 5)]
    y = [each[:, 0] for each in X]
    for window in (None, 4):
        model = lw.LSTMRegressor(hidden_size=4, max_epochs=3, random_state=0, head="sequence", window=window)
        model.fit(X, y, certificate="run.json")
        assert lw.verify(loaded(model), "run.json", X, y).passed
        y[2][16] += 1
        assert not lw.verify(loaded(model), "run.json", X, y).passed


class TestDataThatIsReadPieceByPiece:
    @pytest.fixture
    def rows(self):
        random = np.random.RandomState(0)
        x = random.randn(300, 2).astype(np.float32)
        return x, x.sum(axis=1)

    def check(self, data, changed):
        options = {"hidden_size": 4, "max_epochs": 3, "random_state": 0, "head": "sequence", "window": 20}
        model = lw.LSTMRegressor(**options).fit(*data, certificate="run.json")
        assert lw.verify(loaded(model), "run.json", *data, segments="all") == Verification(3, 3, 3, [])
        found = lw.verify(loaded(model), "run.json", *changed)
        assert "the data are others than those of the certificate" in found.findings

    def test_memory_mapped_arrays(self, rows):
        x, y = rows
        maps = []
        for name, shift in (("x", 0.0), ("changed", 1e-3)):
            maps.append(np.memmap(name, np.float32, "w+", shape=(1, 300, 2)))
            maps[-1][0] = x
            maps[-1][0, 137, 1] += shift
        self.check((maps[0], y[np.newaxis]), (maps[1], y[np.newaxis]))

    def test_parquet(self, rows):
        pyarrow = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed")
        x, y = rows
        for name in ("data.parquet", "changed.parquet"):
            parquet.write_table(pyarrow.table({"a": x[:, 0], "b": x[:, 1], "y": y}), name, row_group_size=70)
            y = y.copy()
            y[200] += 1e-3
        self.check(("data.parquet", "y"), ("changed.parquet", "y"))

    def test_a_function_that_gives_pieces(self, rows):
        x, y = rows

        def pieces(shift=0.0):
            for begin in range(0, 300, 100):
                yield x[begin : begin + 100] + np.float32(shift), y[begin : begin + 100]

        self.check((pieces, None), (lambda: pieces(1e-3), None))


@pytest.mark.parametrize("options", [{}, {"max_seconds": 1000.0}, {"early_stopping": True}], ids=str)
def test_a_language_model(options):
    model = lw.LSTMLanguageModel(8, max_epochs=4, random_state=1, **options).fit(TEXT, certificate="run.json")
    again = loaded(model)
    segments = len(model.history_)
    assert lw.verify(again, "run.json", TEXT, segments="all") == Verification(segments, segments, segments, [])
    changed = TEXT[:300] + TEXT[301:] + "."
    assert "the data are others than those of the certificate" in lw.verify(again, "run.json", changed).findings
    assert not lw.verify(again, "run.json", TEXT + "\u2603").passed


class TestCommand:
    def train(self, *arguments):
        assert main(["train", *arguments, "--epochs", "3", "--hidden-size", "4", "--certificate", "run.json"]) == 0

    def verify(self, capsys, *arguments, status=0):
        capsys.readouterr()
        assert main(["verify", "latchwork-model.safetensors", "run.json", *arguments]) == status
        return capsys.readouterr().out.splitlines()

    @pytest.fixture
    def text(self, tmp_path):
        (tmp_path / "text.txt").write_text(TEXT)
        return "text.txt"

    @pytest.fixture
    def table(self, tmp_path):
        random = np.random.RandomState(0)
        rows = [
            f"{name},{step},{value:.4f},{name % 2}" for name in range(12) for step, value in enumerate(random.randn(5))
        ]
        (tmp_path / "table.csv").write_text("\n".join(["id,t,x,y", *rows]) + "\n")
        return "table.csv"

    def test_a_text(self, text, capsys):
        self.train(text)
        assert self.verify(capsys, text) == [
            "data      text.txt: all but the last tenth",
            "segments  3, one for each epoch",
            "3 of 3 segments equal",
        ]
        assert self.verify(capsys, text, "--segments", "2", "--threads", "1")[2] == "2 of 2 segments equal"
        assert self.verify(capsys, text, "--segments", "all")[2] == "3 of 3 segments equal"

    def test_a_text_read_whole(self, text, capsys):
        lw.LSTMLanguageModel(4, max_epochs=2, random_state=0).fit(TEXT, certificate="run.json").save(
            "latchwork-model.safetensors"
        )
        assert self.verify(capsys, text)[::2] == ["data      text.txt: all of it", "2 of 2 segments equal"]

    def test_another_text(self, text, capsys, tmp_path):
        self.train(text)
        (tmp_path / "text.txt").write_text(TEXT.replace("fox", "ofx", 1))
        assert self.verify(capsys, text, status=1)[2:4] == [
            "0 of 3 segments equal",
            "the data are others than those of the certificate",
        ]

    def test_no_text(self, capsys, monkeypatch):
        monkeypatch.setattr("latchwork.cli.train_text.default_text", lambda: ("mine", TEXT))
        monkeypatch.setattr("latchwork.cli.verify.default_text", lambda: ("mine", TEXT))
        self.train()
        assert self.verify(capsys)[0] == "data      mine: all but the last tenth"

    @pytest.mark.parametrize("options", [[], ["--sequence", "id", "--time", "t"], ["--own-past"]], ids=str)
    @pytest.mark.parametrize("target", ["y", "x"])
    def test_a_table(self, table, capsys, options, target):
        if options == ["--own-past"]:
            options = ["--sequence", "id", "--time", "t"] + (["--own-past"] if target == "x" else [])
        self.train(table, "--target", target, *options)
        lines = self.verify(capsys, table, "--target", target)
        assert lines == [
            "data      table.csv: all but what latchwork train holds out",
            "segments  3, one for each epoch",
            "3 of 3 segments equal",
        ]

    def test_a_changed_row(self, table, capsys, tmp_path):
        self.train(table, "--target", "y", "--sequence", "id", "--time", "t")
        path = tmp_path / "table.csv"
        lines = path.read_text().splitlines()
        lines[3] = lines[3].replace(lines[3].split(",")[2], "0.5")
        path.write_text("\n".join(lines) + "\n")
        found = self.verify(capsys, table, "--target", "y", status=1)
        assert found[2:] == ["no segment was repeated", "the data are others than those of the certificate"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["table.csv"], "--target: expected the column that the model predicts, got none"),
            ([], "DATA: expected a table for this model, got none"),
            (["none.csv", "--target", "y"], "cannot read none.csv"),
            (["table.csv", "--target", "z"], "expected a column 'z'"),
        ],
    )
    def test_bad_arguments(self, table, capsys, arguments, message):
        self.train(table, "--target", "y", "--sequence", "id", "--time", "t")
        capsys.readouterr()
        assert main(["verify", "latchwork-model.safetensors", "run.json", *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_bad_files(self, text, capsys):
        self.train(text)
        assert main(["verify", "latchwork-model.safetensors", "text.txt", text]) == 2
        assert "text.txt: expected a certificate that Latchwork wrote, got another file" in capsys.readouterr().err
        assert main(["verify", "latchwork-model.safetensors", "none.json", text]) == 1
        assert "none.json: No such file" in capsys.readouterr().err
        lw.Linear(2, 2).save("layer.safetensors")
        assert main(["verify", "layer.safetensors", "run.json", text]) == 2
        assert "layer.safetensors: expected a model of an estimator, got Linear" in capsys.readouterr().err
        assert main(["verify", "latchwork-model.safetensors", "run.json", text, "--target", "y"]) == 2
        assert "--target: expected a model of a table" in capsys.readouterr().err

    @pytest.mark.parametrize("segments", ["-1", "some", "1.5"])
    def test_bad_segments(self, capsys, segments):
        assert main(["verify", "a", "b", "--segments", segments]) == 2
        assert "--segments: expected an integer from 0" in capsys.readouterr().err
