"""``latchwork gates``: texts and tables, pages and pictures, and what it refuses."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from explorer_pages import Page
from latchwork.cli import main
from latchwork.cli.gates import STEPS_IN_A_PICTURE, STEPS_ON_A_PAGE

SENTENCE = "the quick brown fox jumps over the lazy dog.\n"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model = lw.LSTMLanguageModel(8, 4, max_epochs=1, batch_size=2, random_state=0).fit(SENTENCE * 40)
    model.save(folder / "text")
    lw.Network([lw.LSTM(2, 5, batch_first=True, seed=0), lw.Last(), lw.Linear(5, 1, seed=0)]).save(folder / "table")
    lw.Network([lw.LSTM(2, 3, seed=0)], members=2).save(folder / "members")
    lw.Network([lw.Embedding(4, 2, seed=0), lw.LSTM(2, 3, seed=0)]).save(folder / "tokens")
    lw.Network([lw.Linear(2, 3, seed=0)]).save(folder / "linear")
    lw.Network([lw.Scale([1, 2], [2, 1]), lw.Impute(2), lw.LSTM(2, 3, seed=0)]).save(folder / "gaps")
    lw.LSTMCell(2, 3, seed=0).save(folder / "cell")
    return folder


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder: the exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(model, data, *options):
        if isinstance(data, str) and data != "-":
            (tmp_path / "data").write_text(data, encoding="utf-8", newline="")
            data = "data"
        status = main(["gates", "-" if model == "-" else str(models / model), data, *options])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_a_text(run, models):
    text = SENTENCE * 60
    status, out, err = run("text", text)
    assert (status, err) == (0, "")
    rest = len(text) - STEPS_ON_A_PAGE
    assert out.startswith(f"shown     2,000 of 2,700 characters, {rest} more to look for other places in\n")
    assert "written   gates.html (" in out
    page = Page(Path("gates.html"))
    assert page.facts["sequences"][0]["tokens"] == ["(start)", *text[:STEPS_ON_A_PAGE]]
    assert page.corpus()[0] == ["(start)", *text[STEPS_ON_A_PAGE:]]
    model = lw.load(models / "text")
    cell = model.network_.trace(model._tokenizer.encode_after_start(text[:STEPS_ON_A_PAGE])).cell
    np.testing.assert_allclose(page.layer()["cell"], cell, rtol=3e-4, atol=1e-6)


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("labels", [True, False])
def test_a_table(run, models, names, labels):
    x = np.round(np.random.default_rng(0).normal(size=(STEPS_ON_A_PAGE + 7, 2)), 3)
    times = [f'"at {step}, or so"' for step in range(len(x))]
    lines = [",".join([*([time] if labels else []), *map(str, row)]) for time, row in zip(times, x, strict=True)]
    if names:
        lines.insert(0, "time,flow,level" if labels else "flow,level")
    status, out, err = run("table", "\r\n".join(lines) + "\r\n\r\n", "-o", "page.html")
    assert (status, err) == (0, "")
    assert out.startswith("shown     2,000 of 2,007 rows, 7 more to look for other places in\n")
    page = Page(Path("page.html"))
    expected = [f"at {step}, or so" if labels else "" for step in range(len(x))]
    assert page.facts["sequences"][0]["tokens"] == expected[:STEPS_ON_A_PAGE]
    assert page.corpus()[0] == expected[STEPS_ON_A_PAGE:]
    hidden = lw.load(models / "table").trace(x[:STEPS_ON_A_PAGE])["0.l0"].hidden
    np.testing.assert_allclose(page.layer()["hidden"], hidden, rtol=1e-3, atol=1e-6)


def test_tokens_in_a_table(run, models):
    assert run("tokens", "0\n3\n1\n")[0] == 0
    page = Page(Path("gates.html"))
    assert page.facts["sequences"][0]["tokens"] == ["0", "3", "1"]
    cell = lw.load(models / "tokens").trace([0, 3, 1])["1.l0"].cell
    np.testing.assert_allclose(page.layer()["cell"], cell, rtol=3e-4)
    for data, message in (
        ("0\n1.5\n", "line 2, column 1: expected an integer, got '1.5'"),
        ("9\n", "tokens from 0 to 3"),
    ):
        status, _, err = run("tokens", data)
        assert status == 2
        assert message in err


def test_members(run):
    status, out, _ = run("members", "1,2\n3,4\n" * 1500)
    assert status == 0
    assert out.startswith("shown     2,000 of 3,000 rows\n")
    assert [each["member"] for each in Page(Path("gates.html")).facts["sequences"]] == [0, 1]


@pytest.mark.parametrize("name", ["gates.html", "gates.png"])
def test_a_table_with_gaps(run, models, name):
    if name.endswith("png"):
        pytest.importorskip("matplotlib")
    status, out, err = run("gaps", "a,b\n1,2\n,3\nNaN,NA\n0.5,1e3\n", "-o", name)
    assert (status, err) == (0, "")
    assert out.startswith("shown     4 of 4 rows")
    if name.endswith("html"):
        trace = lw.load(models / "gaps").trace([[1, 2], [np.nan, 3], [np.nan, np.nan], [0.5, 1e3]])
        np.testing.assert_allclose(Page(Path(name)).layer()["cell"], trace["2.l0"].cell, rtol=1e-3, atol=1e-6)
    status, _, err = run("gaps", "a,b\n1,2\n,x\n")
    assert status == 2
    assert "line 3, column b: expected a finite number, got 'x'" in err


def test_lines_that_hold_nothing(run):
    """Those after the last row, which some programs write, are no rows; a column may be without a name."""
    status, out, _ = run("table", "a,\n1,2\n\n3,4\n,\n , \n\n")
    assert status == 0
    assert out.startswith("shown     2 of 2 rows\n")


@pytest.mark.parametrize(("name", "input_file"), [("DATA", "data"), ("MODEL", "model")])
def test_an_output_that_is_one_of_the_inputs(models, tmp_path, capsys, name, input_file):
    files = {"data": tmp_path / "data.html", "model": tmp_path / "model.html"}
    files["data"].write_text("1,2\n")
    shutil.copy(models / "table", files["model"])
    link = tmp_path / "link.html"
    link.symlink_to(files[input_file].name)
    before = files[input_file].read_bytes()
    for output in (files[input_file], link):
        assert main(["gates", str(files["model"]), str(files["data"]), "-o", str(output)]) == 2
        expected = f"latchwork: --output: expected another file than {name}, got '{output}'\n"
        assert capsys.readouterr().err == expected
        assert files[input_file].read_bytes() == before


def test_standard_input(run, models):
    command = [sys.executable, "-m", "latchwork", "gates", str(models / "table"), "-"]
    result = subprocess.run(command, input=b"1,2\n3,4\n", capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(Page(Path("gates.html")).facts["sequences"][0]["tokens"]) == 2


class TestPicture:
    def test_of_a_text_and_a_table(self, run):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        for model, data, shown in (
            ("text", SENTENCE * 5, f"{STEPS_IN_A_PICTURE} of 225 characters, the first layer"),
            ("table", "a,1,2\nb,3,4\n", "2 of 2 rows, the first layer"),
            ("members", "1,2\n3,4\n", "2 of 2 rows, the first layer, the first member"),
        ):
            status, out, err = run(model, data, "--output", "gates.PNG")
            assert (status, err) == (0, "")
            assert out.startswith(f"shown     {shown}\n")
            content = Path("gates.PNG").read_bytes()
            assert content.startswith(PNG)
            assert len(content) > 10_000

    def test_characters_that_the_font_lacks(self, run):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            status, _, err = run("table", "\u4e2d,1,2\n\U0001f9e0,3,4\n", "-o", "gates.png")
        assert (status, err) == (0, "")
        assert not [str(each.message) for each in warned if "Glyph" in str(each.message)]

    def test_without_matplotlib(self, run, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        status, out, err = run("table", "1,2\n", "-o", "gates.png")
        assert (status, out) == (2, "")
        assert "pip install 'latchwork[plot]'" in err
        assert ".html needs nothing" in err


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        ("text", "", [], "data: expected at least one character, got none"),
        ("text", SENTENCE, ["-o", "gates.svg"], "--output: expected a name that ends in .html or .png"),
        ("text", SENTENCE, ["-o", "none/gates.html"], "cannot write none/gates.html: No such file or directory"),
        ("none", SENTENCE, [], "cannot read"),
        ("linear", "1,2\n", [], "expected a model with an LSTM that reads sequences, got Network"),
        ("cell", "1,2\n", [], "expected a model with an LSTM that reads sequences, got LSTMCell"),
        ("table", "", [], "data: expected rows of numbers, got none"),
        ("table", "\n , \n", [], "data: expected rows of numbers, got none"),
        ("table", "a,b\n", [], "data: expected rows of numbers, got only names"),
        ("table", "1\n", [], "data: expected 2 columns, one for each input of the network, or one more"),
        ("table", "1,2,3,4\n", [], "got 4 in line 1; columns are separated by commas"),
        ("table", "1,2\n\n3\n", [], "data: expected 2 columns as in the first line, got 1 in line 3"),
        ("table", "x,y\n1,2\n3,no\n", [], "data: line 3, column y: expected a finite number, got 'no'"),
        ("table", "1,2\n3,\n", [], "data: line 2, column 2: expected a finite number, got ''"),
        ("table", "1,2\n3,nan\n", [], "data: line 2, column 2: expected a finite number, got 'nan'"),
        ("table", '1,2\n"3,4\n', [], "is no CSV"),
        ("table", "t0,,\nt1,1,2\n", [], "data: line 1, column 2: expected a finite number, got ''"),
        ("table", ",\n1,2\n", [], "data: line 1, column 1: expected a finite number, got ''"),
        ("table", "1,2\n,\n3,4\n", [], "data: line 2, column 1: expected a finite number, got ''"),
        ("table", "NA,null\n1,2\n", [], "data: line 1, column 1: expected a finite number, got 'NA'"),
        ("table", "1,2_0\n", [], "data: line 1, column 2: expected a finite number, got '2_0'"),
        ("table", f"1,{'2' * 400}\n", [], f"expected a finite number, got '{'2' * 39}\u2026'"),
        ("tokens", f"{'2' * 400}\n", [], f"expected an integer of at most 63 bits, got '{'2' * 39}\u2026'"),
        ("tokens", f"{2**63}\n", [], "expected an integer of at most 63 bits, got '9223372036854775808'"),
        ("tokens", "7\n", [], "data: x: expected tokens from 0 to 3, got 7"),
        ("-", "-", [], "MODEL and DATA: expected at most one to be standard input, got - twice"),
    ],
)  # fmt: skip
def test_what_is_refused(run, model, data, options, message):
    status, out, err = run(model, data, *options)
    assert (status, out) == (2, "")
    assert err.startswith("latchwork: ")
    assert err.count("\n") == 1
    assert message in err
    assert not Path("gates.html").exists()
