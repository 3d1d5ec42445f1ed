"""The command line at its edges: standard input and output, memory, Ctrl-C at start-up, help and versions."""

import io
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time

import latchwork as lw
import pytest
from latchwork.cli import main

TEXT = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n" * 60
COMMAND = f"{shlex.quote(sys.executable)} -m latchwork"
BENCH = "bench --peers= --cases step-20 --kinds step --threads 1 --rounds 1"


def shell(command, unbuffered="", **keywords):
    """Run a line of the shell's in which ``latchwork`` is the command."""
    line = f"export PYTHONUNBUFFERED={unbuffered}; " + command.replace("latchwork", COMMAND, 1)
    return subprocess.run(line, shell=True, capture_output=True, encoding="utf-8", timeout=120, check=False, **keywords)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a text and a model in it."""
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    (tmp_path / "empty").touch()
    lw.LSTMLanguageModel(8, 8, max_epochs=1, batch_size=8, random_state=0).fit(TEXT).save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    "latchwork train text -o out --seconds 0 --hidden-size 4",
    "latchwork generate model --length 30000",
    "latchwork info model",
    "latchwork train --help",
]


@pytest.mark.usefixtures("folder")
class TestOutputThatCannotBeWritten:
    """One line on standard error and exit status 1."""

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize(
        "command",
        [
            *COMMANDS,
            "latchwork generate model --length 3",
            "latchwork info",
            f"latchwork {BENCH}",
            "latchwork --version",
        ],
    )
    def test_a_full_disk(self, command, unbuffered):
        result = shell(f"{command} > /dev/full", unbuffered)
        assert (result.returncode, result.stderr) == (1, "latchwork: standard output: No space left on device\n")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_closed_output(self, command):
        result = shell(f"{command} >&-")
        assert (result.returncode, result.stderr) == (1, "latchwork: standard output is closed\n")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_one_that_is_for_reading(self, command):
        result = shell(f"{command} 1< text")
        assert (result.returncode, result.stderr) == (1, "latchwork: standard output: Bad file descriptor\n")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_reader_that_leaves(self, command):
        result = shell(f"{{ {command}; echo $? >&2; }} | true")
        assert result.stderr in ("1\n", "0\n")  # 0 if all was written before the reader left


@pytest.mark.usefixtures("folder")
class TestErrorsThatCannotBeWritten:
    def test_the_exit_status_says_it(self):
        for target in ("2> /dev/full", "2>&-"):
            assert shell(f"latchwork info nowhere {target}").returncode == 2
            assert shell(f"latchwork train text -o out --seconds 0 --hidden-size 4 {target}").returncode == 0

    def test_nothing_of_it_goes_to_the_output(self):
        assert shell("latchwork info nowhere 2>&-").stdout == ""


class FailingOutput(io.TextIOBase):
    """Takes what is printed until training begins."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.fails = False

    def write(self, text):
        if self.fails:
            raise self.error
        return len(text)

    def flush(self):
        self.write("")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenPipeError()])
def test_the_model_is_written_once_training_has_ended(folder, monkeypatch, capsys, error):
    output = FailingOutput(error)
    fit = lw.LSTMLanguageModel.fit

    def fit_and_fail(model, text, **options):
        output.fails = True
        return fit(model, text, **options)

    monkeypatch.setattr(lw.LSTMLanguageModel, "fit", fit_and_fail)
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["train", "text", "-o", "out", "--seconds", "0", "--hidden-size", "4"]) == 1
    assert isinstance(lw.load(folder / "out"), lw.LSTMLanguageModel)
    lines = [] if isinstance(error, BrokenPipeError) else ["latchwork: standard output: No space left on device"]
    assert capsys.readouterr().err.splitlines() == lines


class TestMemory:
    def test_a_model_that_fits_nowhere(self, folder):
        for size in ("--hidden-size 1048576", "--hidden-size 1048576 --layers 1000"):
            result = shell(f"latchwork train text -o out {size}")
            assert result.returncode == 2
            assert re.fullmatch("latchwork: (not enough memory for this model: .*|.*overflow.*)\n", result.stderr)
        assert not (folder / "out").exists()

    @pytest.mark.usefixtures("folder")
    def test_little_memory(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))

        result = shell("latchwork train text -o out --hidden-size 20000", preexec_fn=limit)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "not enough memory for this model" in result.stderr

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize(("error", "line"), [
        (MemoryError(), "latchwork: not enough memory"),
        (MemoryError("Unable to allocate 1 TiB"), "latchwork: not enough memory: Unable to allocate 1 TiB"),
        (RuntimeError("the loss is not finite"), "latchwork: the loss is not finite"),
        (ZeroDivisionError("a fault\nof ours"), "latchwork: ZeroDivisionError: a fault of ours"),
    ])  # fmt: skip
    def test_no_error_is_a_traceback(self, monkeypatch, capsys, error, line):
        def fail(*_):
            raise error

        monkeypatch.setattr("latchwork.cli.info.show_versions", fail)
        assert main(["info"]) == 1
        assert capsys.readouterr().err == line + "\n"


class TestStandardInput:
    """``-`` is standard input wherever a file is read."""

    @pytest.mark.usefixtures("folder")
    def test_a_text(self):
        options = "--seconds 0 --hidden-size 4 --seed 1"
        piped = shell(f"cat text | latchwork train - -o piped {options}")
        assert (piped.returncode, piped.stderr) == (0, "")
        assert "text      standard input: 3,996 characters to train on" in piped.stdout
        shell(f"latchwork train text -o read {options}")
        texts = [lw.load(name).generate(length=20, random_state=0) for name in ("piped", "read")]
        assert texts[0] == texts[1]

    def test_line_ends_and_marks_are_read_as_from_a_file(self, folder):
        content = b"\xef\xbb\xbf" + TEXT.encode().replace(b"\n", b"\r\n")
        (folder / "windows").write_bytes(content)
        options = "--seconds 0 --hidden-size 4"
        for command in (f"latchwork train windows -o m {options}", f"cat windows | latchwork train - -o m {options}"):
            assert "3,996 characters" in shell(command).stdout
            assert set(lw.load("m").vocabulary_) <= set(TEXT)

    @pytest.mark.usefixtures("folder")
    def test_a_model(self):
        piped = shell("cat model | latchwork info -")
        assert (piped.returncode, piped.stderr) == (0, "")
        size = os.path.getsize("model")
        assert piped.stdout.splitlines()[0] == f"file                 standard input ({size:,} bytes)"
        assert piped.stdout.splitlines()[1:] == shell("latchwork info model").stdout.splitlines()[1:]
        text = shell("cat model | latchwork generate - --length 30 --seed 0").stdout
        assert text == shell("latchwork generate model --length 30 --seed 0").stdout
        assert shell("latchwork info - < model").stdout == piped.stdout

    @pytest.mark.usefixtures("folder")
    def test_a_pipe_with_a_name(self):
        line = f"mkfifo pipe; cat model > pipe & {COMMAND} info pipe"
        result = subprocess.run(line, shell=True, capture_output=True, encoding="utf-8", timeout=120, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        assert "language_model" in result.stdout

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize(
        ("command", "line"),
        [
            ("latchwork train - <&-", "cannot read standard input: it is closed"),
            ("latchwork info - <&-", "cannot read standard input: it is closed"),
            ("printf '\\351' | latchwork train -", "standard input: expected UTF-8 text, got the byte 0xe9 at 0"),
            ("echo text | latchwork train -", "standard input: expected at least 1,000 characters, got 5"),
            ("cat text | latchwork info -", "standard input: expected a model that Latchwork wrote, got a text file"),
            ("latchwork info - < empty", "standard input: expected a model that Latchwork wrote, got an empty file"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_read(self, command, line):
        result = shell(command)
        assert (result.returncode, result.stdout, result.stderr) == (2, "", f"latchwork: {line}\n")


SLOW_IMPORT = """
import sys, time
print("importing", flush=True)
try:
    time.sleep(30)
except BaseException as error:  # as an import that tries something else would
    raise ImportError("no") from error
"""


@pytest.mark.parametrize("module", ["numpy", "argparse"])
def test_ctrl_c_at_start_up_is_silent(tmp_path, module):
    (tmp_path / f"{module}.py").write_text(SLOW_IMPORT)
    paths = [str(tmp_path), os.path.dirname(os.path.dirname(lw.__file__))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    code = "import sys; from latchwork.cli import main; sys.exit(main(['info']))"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout.readline() == b"importing\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=20)
    assert (process.returncode, printed, errors) == (130, b"", b"")


@pytest.mark.usefixtures("folder")
def test_ctrl_c_is_heard_as_before_once_all_is_imported(monkeypatch, capsys):
    handlers = []
    monkeypatch.setattr("latchwork.cli.info.show_versions", lambda: handlers.append(signal.getsignal(signal.SIGINT)))
    for handler in (signal.default_int_handler, signal.SIG_IGN):
        before = signal.signal(signal.SIGINT, handler)
        try:
            assert main(["info"]) == 0
        finally:
            signal.signal(signal.SIGINT, before)
        assert handlers.pop() == handler

    def press():
        raise KeyboardInterrupt

    monkeypatch.setattr("latchwork.cli.info.show_versions", press)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == ""


class TestHelp:
    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"latchwork {lw.__version__}\n"

    @pytest.mark.parametrize("command", ["train", "generate", "info", "bench"])
    def test_defaults_are_said_as_a_person_would(self, command, capsys):
        assert main([command, "--help"]) == 0
        printed = capsys.readouterr().out
        for word in ("None", "default:", "[]", "by default \n"):
            assert word not in printed

    def test_the_defaults(self, capsys):
        for command, expected in (
            ("train", ["at most; by default 60 ", "at most; by default 15 ", "layers; by default 1 ",
                       "where to write; by default latchwork-model.safetensors ", "layer; by default 256 ",
                       "sample; by default 0 ", "without it, as many as there are CPUs to use "]),
            ("generate", ["generate; by default 500 ", "likeliest; by default 0.7 ", "what the text begins with "]),
        ):  # fmt: skip
            assert main([command, "--help"]) == 0
            printed = " ".join(capsys.readouterr().out.split()) + " "
            for text in expected:
                assert text in printed

    @pytest.mark.parametrize(
        "arguments",
        [["train", "--sec", "1"], ["train", "--out=m"], ["generate", "m", "--temp", "1"], ["bench", "--case", "small"],
         ["--vers"]],
    )  # fmt: skip
    def test_options_are_not_abbreviated(self, arguments, capsys, monkeypatch):
        for module in ("train", "generate", "bench"):
            monkeypatch.setattr(f"latchwork.cli.{module}.run", lambda *_: pytest.fail("ran"))
        assert main(arguments) == 2
        assert "error: " in capsys.readouterr().err


class TestWhatTrainReplaces:
    def test_a_new_file(self, folder, capsys):
        assert main(["train", "text", "-o", "new", "--seconds", "0", "--hidden-size", "4"]) == 0
        assert capsys.readouterr().out.startswith("output    new (a new file)\ntext ")

    def test_it_is_said_before_training(self, folder, capsys, monkeypatch):
        os.utime("model", (0, 0))
        (folder / "link").symlink_to("model")
        size = os.path.getsize("model")
        said = []

        def fit(*_, **options):
            said.append(capsys.readouterr().out)
            raise KeyboardInterrupt

        monkeypatch.setattr(lw.LSTMLanguageModel, "fit", fit)
        for name in ("model", "link"):
            assert main(["train", "text", "-o", name]) == 130
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(0))
        assert said[0].startswith(f"output    model, which replaces the file there ({size:,} bytes, of {date})\n")
        assert said[1].startswith(f"output    link, which leads to {folder / 'model'} and replaces the file there (")
