import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading

import latchwork as lw
import pytest
from latchwork.cli import main

SENTENCE = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n"
QUICK = ["--hidden-size", "16", "--epochs", "5"]


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 60, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = lw.LSTMLanguageModel(16, 8, max_epochs=2, batch_size=8, random_state=0)
    model.fit(SENTENCE * 60).save(path)
    return path


def run(*arguments, **keywords):
    command = [sys.executable, "-m", "latchwork", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, **keywords)


class TestTrain:
    def test_results(self, text_file, tmp_path, capsys):
        output = tmp_path / "out.safetensors"
        assert main(["train", str(text_file), "--output", str(output), *QUICK]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""  # no terminal, no progress bar
        assert "3,996 characters to train on, the last 444 held out" in printed.out
        assert re.search(
            r"training  took \d+\.\d s: 19,\d{3} characters in 5 epochs, [\d,]+ characters a second\n", printed.out
        )
        bits = [float(number) for number in re.findall(r"(?:character|this) model +(\d+\.\d{3})\n", printed.out)]
        assert len(bits) == 3
        model = lw.load(output)
        assert bits[2] == pytest.approx(model.bits_per_character((SENTENCE * 60)[-444:]), abs=6e-4)
        assert bits[0] > bits[1]
        assert f"written   {output} ({output.stat().st_size / 1e6:.1f} MB)\n" in printed.out

    def test_default_text_and_file(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main(["train", "--hidden-size", "4", "--seconds", "0.1"]) == 0
        assert "pydoc_data.topics" in capsys.readouterr().out
        assert isinstance(lw.load("latchwork-model.safetensors"), lw.LSTMLanguageModel)

    @pytest.mark.slow
    def test_the_main_job_learns(self, tmp_path, capsys):
        # Limited by epochs, not by seconds, so that a busy machine makes no difference.
        assert main(["train", "-o", str(tmp_path / "m"), "--epochs", "5", "--seconds", "3600"]) == 0
        bits = dict(re.findall(r"  (.*? model) +(\d+\.\d{3})\n", capsys.readouterr().out))
        assert float(bits["this model"]) <= 1.75

    def test_options_reach_the_model(self, text_file, tmp_path):
        output = tmp_path / "out.safetensors"
        options = ["--layers", "2", "--seconds", "50", "--threads", "1", "--seed", "7"]
        assert main(["train", str(text_file), "-o", str(output), *QUICK, *options]) == 0
        model = lw.load(output)
        assert (model.num_layers, model.hidden_size, model.max_seconds, model.random_state) == (2, 16, 50, 7)
        assert lw.get_num_threads() == 1

    def test_ctrl_c_keeps_the_model(self, text_file, tmp_path):
        output = tmp_path / "out.safetensors"
        command = [sys.executable, "-m", "latchwork", "train", str(text_file), "-o", str(output)]
        options = ["--hidden-size", "16", "--epochs", "1000000", "--seconds", "100"]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            for line in process.stdout:
                if line.startswith(b"model"):
                    break
            threading.Timer(1.0, process.send_signal, [signal.SIGINT]).start()
            printed, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors == b""
        assert b"ended by Ctrl-C" in printed
        assert b"this model" in printed
        assert isinstance(lw.load(output), lw.LSTMLanguageModel)

    @pytest.mark.parametrize("tqdm", [True, False])
    def test_progress_on_a_terminal(self, text_file, tmp_path, tqdm):
        if tqdm:
            pytest.importorskip("tqdm", reason="tqdm is not installed")
        terminal, child_end = pty.openpty()
        if tqdm:  # it does not draw on a terminal without columns, as this one is at first
            termios.tcsetwinsize(child_end, (24, 100))
        hidden = "" if tqdm else "sys.modules['tqdm.auto'] = None; "  # as if it were not installed
        program = f"import sys; {hidden}from latchwork.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, "train", str(text_file), "-o", str(tmp_path / "m"), *QUICK]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=child_end) as process:
            os.close(child_end)
            shown = b""
            try:
                while piece := os.read(terminal, 65536):
                    shown += piece
            except OSError:  # Linux's way to say that the other end is closed
                pass
            os.close(terminal)
        assert process.returncode == 0
        bar = rb" \d+%\|[^|]*\| epoch \d+  " if tqdm else rb"\[[#.]+\] +\d+%  epoch \d+  "
        assert re.search(bar + rb"\d+\.\d{3} bits/character  [\d,]+ characters/s", shown)
        assert (b" \r\r\x1b[K[" in shown) == tqdm  # erased before the bar of the measurement, which is always our own
        assert shown.endswith(b"\r\x1b[K")


class TestGenerate:
    def test_continues_the_prompt(self, model_file, capsys):
        arguments = ["generate", str(model_file), "--prompt", "the ", "--length", "50", "--seed", "1"]
        assert main(arguments) == 0
        first = capsys.readouterr().out
        assert main(arguments) == 0
        assert capsys.readouterr().out == first
        assert first.startswith("the ")
        assert len(first) == 4 + 50 + 1
        assert main([*arguments, "--temperature", "5"]) == 0
        assert capsys.readouterr().out != first

    def test_a_prompt_with_characters_never_seen(self, model_file, capsys):
        assert main(["generate", str(model_file), "--prompt", "\u2603", "--length", "5"]) == 0
        assert len(capsys.readouterr().out) == 1 + 5 + 1

    def test_a_terminal_without_such_characters(self, model_file):
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        result = run("generate", model_file, "--prompt", "\u2603", "--length", "5", env=environment)
        assert result.returncode == 0
        assert result.stdout.startswith("\\u2603")

    def test_a_reader_that_leaves(self, model_file):
        command = f"{sys.executable} -m latchwork generate {model_file} --length 30000 | head -c 10"
        result = subprocess.run(command, shell=True, capture_output=True, timeout=120)
        assert (len(result.stdout), result.stderr) == (10, b"")

    def test_what_is_drawn_from_and_where_it_ends(self, model_file, capsys):
        model = lw.load(model_file)
        options = [
            "--top-k",
            "5",
            "--top-p",
            "0.9",
            "--stop",
            "e ",
            "--stop",
            "zz",
            "--temperature",
            "1",
            "--seed",
            "3",
        ]
        assert main(["generate", str(model_file), "--prompt", "the", "--length", "80", *options]) == 0
        expected = model.generate("the", 80, 1.0, 3, top_k=5, top_p=0.9, stop=["e ", "zz"])
        assert capsys.readouterr().out == f"the{expected}\n"
        assert len(expected) < 80

    def test_several_samples(self, model_file, capsys):
        assert (
            main(["generate", str(model_file), "--prompt", "the", "--length", "9", "--samples", "3", "--seed", "3"])
            == 0
        )
        texts = lw.load(model_file).generate("the", 9, 0.7, 3, n_samples=3)
        expected = "\n".join(f"sample {number}:\n\nthe{text}\n" for number, text in enumerate(texts, 1))
        assert capsys.readouterr().out == expected
        assert (
            main(["generate", str(model_file), "--prompt", "the", "--length", "9", "--samples", "1", "--seed", "5"])
            == 0
        )
        assert capsys.readouterr().out == f"sample 1:\n\nthe{texts[2]}\n"

    def test_is_shown_on_a_terminal_while_it_is_written(self, model_file):
        terminal, child_end = pty.openpty()
        command = [sys.executable, "-m", "latchwork", "generate", str(model_file), "--length", "1000000000"]
        with subprocess.Popen(command, stdout=child_end) as process:
            os.close(child_end)
            assert len(os.read(terminal, 10)) > 0
            process.terminate()
        os.close(terminal)

    def test_a_pair_of_callables_that_no_file_holds(self, capsys, tmp_path):
        pair = (lambda text: list(map(ord, text)), lambda numbers: "".join(map(chr, numbers)))
        model = lw.LSTMLanguageModel(4, 4, tokenizer=pair, max_epochs=1).fit("to be or not to be")
        model.save(tmp_path / "model")
        assert main(["generate", str(tmp_path / "model")]) == 2
        assert "tokenizer: expected the pair of callables" in capsys.readouterr().err


class TestInfo:
    def test_machine(self, capsys):
        assert main(["info"]) == 0
        printed = capsys.readouterr().out
        for expected in (lw.__version__, lw.cpu_info()["isa"], "threads", "numpy", sys.version.split()[0]):
            assert expected in printed

    def test_model(self, model_file, capsys):
        assert main(["info", str(model_file)]) == 0
        printed = capsys.readouterr().out
        parameters = sum(value.size for value in lw.load(model_file).network_.parameters.values())
        for expected in ("language_model", "hidden_size", f"{parameters:,}", "float32"):
            assert expected in printed

    def test_network(self, tmp_path, capsys):
        lw.LSTM(3, 5).save(tmp_path / "lstm.safetensors")
        assert main(["info", str(tmp_path / "lstm.safetensors")]) == 0
        assert f"{4 * 5 * (3 + 5 + 2):,}" in capsys.readouterr().out


class TestBadInput:
    """One line on standard error and exit status 2."""

    def fails(self, capsys, message, *arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse's own
            status = error.code
        printed = capsys.readouterr()
        assert status == 2
        assert re.search(message, printed.err), printed.err
        assert "Traceback" not in printed.err
        return printed

    @pytest.mark.parametrize("command", ["train", "generate", "info"])
    def test_missing_file(self, capsys, tmp_path, command):
        printed = self.fails(capsys, "nowhere.*No such file", command, tmp_path / "nowhere")
        assert printed.err.count("\n") == 1
        assert printed.out == ""

    @pytest.mark.parametrize("command", ["generate", "info"])
    @pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 100, b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
    def test_no_model(self, capsys, tmp_path, command, content):
        path = tmp_path / "file"
        path.write_bytes(content)
        printed = self.fails(capsys, re.escape(str(path)), command, path)
        assert printed.err.count("\n") == 1

    @pytest.mark.parametrize("command", ["train", "generate", "info"])
    def test_a_folder(self, capsys, tmp_path, command):
        self.fails(capsys, "[Dd]irectory|folder", command, tmp_path)

    def test_another_kind_of_model(self, capsys, tmp_path):
        lw.LSTM(3, 5).save(tmp_path / "lstm.safetensors")
        self.fails(capsys, "expected a language model, got LSTM", "generate", tmp_path / "lstm.safetensors")

    def test_not_utf8(self, capsys, tmp_path):
        (tmp_path / "text").write_bytes(b"caf\xe9 " * 1000)
        self.fails(capsys, "expected UTF-8 text, got the byte 0xe9 at 3", "train", tmp_path / "text")

    def test_a_table_without_a_target(self, capsys, tmp_path):
        (tmp_path / "series.csv").write_text("1,2\n" * 1000)
        self.fails(capsys, r"series\.csv: expected --target, which names the column", "train", tmp_path / "series.csv")

    def test_short_text(self, capsys, tmp_path):
        (tmp_path / "text").write_text("short")
        self.fails(capsys, "expected at least 1,000 characters, got 5", "train", tmp_path / "text")
        (tmp_path / "text").write_text("a" * 999)
        self.fails(capsys, "expected at least 1,000 characters, got 999", "train", tmp_path / "text")

    def test_output_is_not_the_text(self, capsys, text_file):
        before = text_file.read_bytes()
        self.fails(capsys, "--output: expected another file than DATA", "train", text_file, "-o", text_file)
        assert text_file.read_bytes() == before

    @pytest.mark.parametrize("output", ["nowhere/model", "."])
    def test_output_is_checked_before_training(self, capsys, text_file, monkeypatch, output):
        monkeypatch.chdir(text_file.parent)
        monkeypatch.setattr(lw.LSTMLanguageModel, "fit", lambda *_: pytest.fail("trained"))
        self.fails(capsys, "cannot write", "train", text_file, "-o", output)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["train", "--seconds", "-1"],
            ["train", "--seconds", "nan"],
            ["train", "--hidden-size", "0"],
            ["train", "--layers", "two"],
            ["generate", "model", "--temperature", "-1"],
            ["generate", "model", "--length", "1.5"],
            ["generate"],
            ["forecast"],
            [],
        ],
    )
    def test_arguments(self, capsys, arguments):
        self.fails(capsys, "usage", *arguments)

    @pytest.mark.parametrize(
        ("command", "option", "value", "expected"),
        [
            ("train", "--epochs", "0", "an integer from 1 to 1000000000"),
            ("train", "--epochs", "1000000001", "an integer from 1 to 1000000000"),
            ("train", "--hidden-size", "1048577", "an integer from 1 to 1048576"),
            ("train", "--layers", "1001", "an integer from 1 to 1000"),
            ("train", "--threads", "0", "an integer from 1 to 1024"),
            ("train", "--threads", "1025", "an integer from 1 to 1024"),
            ("train", "--seed", "-1", "an integer from 0 to 4294967295"),
            ("train", "--seed", "4294967296", "an integer from 0 to 4294967295"),
            ("train", "--seconds", "-0.001", "a number of at least 0"),
            ("train", "--seconds", "inf", "a number of at least 0"),
            ("generate", "--temperature", "-0.001", "a number of at least 0"),
            ("generate", "--temperature", "nan", "a number of at least 0"),
            ("generate", "--length", "-1", "an integer from 0 to 1000000000"),
            ("generate", "--length", "1000000001", "an integer from 0 to 1000000000"),
            ("generate", "--seed", "4294967296", "an integer from 0 to 4294967295"),
            ("generate", "--top-k", "0", "an integer from 1 to 1000000000"),
            ("generate", "--top-p", "-0.5", "a number of at least 0"),
            ("generate", "--samples", "0", "an integer from 1 to 1000000"),
            ("bench", "--rounds", "0", "an integer from 1 to 1000000"),
            ("bench", "--rounds", "1000001", "an integer from 1 to 1000000"),
        ],
    )
    def test_values_beyond_the_bounds(self, capsys, command, option, value, expected):
        message = f"argument {option}: expected {expected}, got {value!r}"
        files = [] if command == "bench" else ["file"]
        self.fails(capsys, re.escape(message), command, *files, f"{option}={value}")


class TestBounds:
    """The smallest and largest values of options are taken."""

    def test_train(self, text_file, tmp_path, monkeypatch):
        fitted = []

        def fit(model, text, **_):
            fitted.append(model)
            raise KeyboardInterrupt

        monkeypatch.setattr(lw.LSTMLanguageModel, "fit", fit)
        command = ["train", str(text_file), "-o", str(tmp_path / "model")]
        names = ("max_epochs", "hidden_size", "num_layers", "random_state", "max_seconds")
        options = ("--epochs", "--hidden-size", "--layers", "--seed", "--seconds")
        for values in ((1, 1, 1, 0, 0), (10**9, 2**20, 1000, 2**32 - 1, 1e9)):
            given = [part for option, value in zip(options, values, strict=True) for part in (option, str(value))]
            assert main([*command, *given]) == 130
            assert tuple(getattr(fitted[-1], name) for name in names) == values
        for threads in (1, 1024):
            assert main([*command, "--threads", str(threads)]) == 130
            assert lw.get_num_threads() == threads

    def test_the_shortest_text(self, tmp_path, capsys):
        (tmp_path / "text").write_text("ab" * 500)
        assert main(["train", str(tmp_path / "text"), "-o", str(tmp_path / "model"), "--seconds", "0"]) == 0
        assert "900 characters to train on, the last 100 held out" in capsys.readouterr().out

    def test_generate(self, model_file, capsys):
        assert main(["generate", str(model_file), "--temperature", "0", "--length", "40", "--seed", "0"]) == 0
        expected = lw.load(model_file).generate(length=40, temperature=0)
        assert capsys.readouterr().out == expected + "\n"
        assert main(["generate", str(model_file), "--length", "0", "--seed", str(2**32 - 1)]) == 0
        assert capsys.readouterr().out == "\n"
