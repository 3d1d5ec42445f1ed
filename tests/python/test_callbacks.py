"""Who is told of a run: callbacks, the progress bars, the printed rows, TensorBoard."""

import io
import subprocess
import sys
import types

import latchwork as lw
import pytest
from latchwork import _progress
from latchwork.estimators.runs import callbacks
from latchwork.estimators.runs.stopping import DivergenceError
from training_runs import Sums, assert_equal_weights, fit, weights_of


class Told(lw.Callback):
    def __init__(self):
        self.told = []

    def on_fit_begin(self, run):
        self.told.append(("begin", len(run.history)))

    def on_epoch_end(self, run, row):
        assert row is run.history[-1]
        self.told.append(("epoch", row["epoch"]))

    def on_fit_end(self, run):
        self.told.append(("end", run.ended_by))


class TestCallbacks:
    def test_order(self):
        told, rows = Told(), []
        loop = fit(max_epochs=2, callbacks=[told, lambda run, row: rows.append((run, row))])
        assert told.told == [("begin", 0), ("epoch", 1), ("epoch", 2), ("end", "epochs")]
        assert [run for run, _ in rows] == [loop, loop]
        assert [row for _, row in rows] == loop.history

    def test_one_alone(self):
        told = Told()
        fit(max_epochs=1, callbacks=told)
        assert len(told.told) == 3

    def test_stop(self):
        loop = fit(callbacks=lambda run, row: row["epoch"] == 3 and run.stop())
        assert loop.ended_by == "callback"
        assert len(loop.history) == 3

    def test_what_they_see_is_the_run(self):
        seen = []
        loop = fit(max_epochs=2, callbacks=lambda run, row: seen.append((run.network, run.trainer, run.max_epochs)))
        assert seen == [(loop.network, loop.trainer, 2)] * 2

    def test_weights_at_the_end_are_the_best(self):
        class Last(lw.Callback):
            def on_fit_end(self, run):
                self.weights = weights_of(run)

        last, losses = Last(), iter([2.0, 1.0, 3.0])
        validate = lambda: {"validation_loss": next(losses)}  # noqa: E731
        loop = fit(max_epochs=3, early_stopping=True, validate=validate, callbacks=last)
        assert_equal_weights(loop, last.weights)

    def test_what_one_raises_is_passed_on(self):
        def fail(run, row):
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            fit(callbacks=fail)

    def test_resumed(self, tmp_path):
        told = Told()
        with pytest.raises(LookupError):
            fit(checkpoint_dir=tmp_path, callbacks=[lambda run, row: {}[0] if row["epoch"] == 3 else None])
        fit(checkpoint_dir=tmp_path, resume=True, callbacks=told)
        assert told.told == [("begin", 2), ("epoch", 3), ("epoch", 4), ("epoch", 5), ("epoch", 6), ("end", "epochs")]

    @pytest.mark.parametrize("bad", [3, "row", lw.Callback])
    def test_bad(self, bad):
        with pytest.raises(TypeError, match=r"callbacks\[1\]: expected a Callback or a function of \(run, row\), got"):
            fit(callbacks=[Told(), bad])


class TestRows:
    def test_are_printed(self, capsys):
        fit(max_epochs=2, verbose=2, validate=lambda: {"validation_loss": 0.25})
        out, err = capsys.readouterr()
        assert err == ""
        header, *rows = out.splitlines()
        assert header.split() == ["epoch", "seconds", "samples", "loss", "lr", "gradient_norm", "validation_loss"]
        assert [len(row) for row in rows] == [len(header)] * 2
        assert [row.split()[0::2] for row in rows] == [
            [str(n), str(31 * n), *rows[n - 1].split()[4:5], "0.25"] for n in (1, 2)
        ]

    @pytest.mark.parametrize("verbose", [0, 1, False, True])
    def test_only_if_asked_for(self, capsys, verbose):
        fit(max_epochs=1, verbose=verbose)
        assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_for(monkeypatch, seconds=0.0):
    """Take the place of standard error, which pytest sets anew for each test after its fixtures."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(_progress, "REDRAW_SECONDS", seconds)
    return stream


class TestProgress:
    def test_own_bar(self, monkeypatch):
        terminal = terminal_for(monkeypatch)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # as if it were not installed
        fit(max_epochs=2, verbose=1, validate=lambda: {"validation_loss": 0.25})
        drawn = terminal.getvalue().split("\r\x1b[K")
        assert drawn[0] == drawn[-1] == ""  # erased at the end
        assert drawn[1].startswith("[........................]   0%  epoch 1  ")
        assert "validation" not in drawn[1]
        assert drawn[-2].startswith("[######################..]  93%  epoch 2  ")
        for part in (" loss  validation 0.250  ", " samples/s  ", ":0", " left"):
            assert part in drawn[-2]

    def test_tqdm(self, monkeypatch):
        pytest.importorskip("tqdm", reason="tqdm is not installed")
        terminal = terminal_for(monkeypatch)
        fit(max_epochs=2, verbose=True)
        drawn = terminal.getvalue()
        assert "  0%|" in drawn
        assert " 93%|" in drawn
        assert "epoch 2  " in drawn
        assert " samples/s  0:0" in drawn
        assert drawn.rstrip(" ").endswith("\r")  # erased at the end

    def test_at_most_ten_times_a_second(self, monkeypatch):
        terminal_for(monkeypatch, seconds=60.0)
        messages = []
        for bar in [_progress.ProgressBar(), *tqdm_bars()]:
            messages.clear()
            with bar:
                for share in range(10):
                    bar.update(share / 10, lambda: messages.append(1) or "message")
            assert len(messages) == 1

    @pytest.mark.parametrize("verbose", [0, 2])
    def test_none_unless_asked_for(self, monkeypatch, verbose):
        terminal = terminal_for(monkeypatch)
        fit(max_epochs=1, verbose=verbose)
        assert terminal.getvalue() == ""

    @pytest.fixture
    def notebook_bars(self, monkeypatch):
        """The bars that are drawn, as if in a notebook."""
        shell = type("ZMQInteractiveShell", (), {})()
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
        bars = []

        class Bar:
            def __init__(self, total, leave, **options):
                assert leave
                self.total = total
                bars.append(self)
                self.texts = []

            def set_description_str(self, text):
                self.texts.append((self.n, text))

            def close(self):
                self.closed = True

        monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))
        monkeypatch.setattr(_progress, "REDRAW_SECONDS", 0.0)
        return bars

    def test_in_a_notebook(self, notebook_bars):
        loop = fit(max_epochs=1, verbose=1, validate=lambda: {"validation_loss": 0.25})
        (bar,) = notebook_bars
        assert bar.closed
        assert [share for share, _ in bar.texts] == pytest.approx([step / 7 for step in range(7)] + [1.0])
        assert bar.texts[3][1].startswith("epoch 1  ")
        assert "left" in bar.texts[3][1]
        last = bar.texts[-1][1]
        assert last.startswith(f"epoch 1  {loop.history[0]['loss']:.3f} loss  validation 0.250  ")
        assert "left" not in last

    def test_a_notebook_tells_success_from_failure(self, notebook_bars):
        """A bar that is closed before it is full turns red."""
        fit(max_epochs=3, verbose=1, callbacks=lambda run, row: run.stop())

        def fail(run, row):
            raise LookupError

        with pytest.raises(LookupError):
            fit(max_epochs=3, verbose=1, callbacks=fail)

        class Interrupt(lw.Callback):
            def on_epoch_end(self, run, row):
                raise KeyboardInterrupt

        fit(max_epochs=3, verbose=1, callbacks=Interrupt())
        assert [bar.n for bar in notebook_bars] == [1.0, pytest.approx(2 / 7), pytest.approx(2 / 7)]
        assert all(bar.closed for bar in notebook_bars)

    def test_no_tqdm_unless_it_can_be_seen(self):
        program = (
            "import sys; from training_runs import fit; fit(max_epochs=1, verbose=1); print('tqdm' in sys.modules)"
        )
        environment = {"PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("False\n", "")

    def test_ends_with_an_error_too(self, monkeypatch):
        terminal = terminal_for(monkeypatch)

        def loss(output, y):
            return float("nan"), output

        with pytest.raises(DivergenceError):
            fit(verbose=1, loss=loss)
        assert terminal.getvalue() == ""  # not one step was made

        def fail(run, row):
            raise LookupError

        with pytest.raises(LookupError):
            fit(verbose=1, callbacks=fail)
        assert terminal.getvalue().rstrip(" ").endswith(("\r", "\r\x1b[K"))


def tqdm_bars():
    try:
        return [_progress.TqdmBar()]
    except ImportError:
        return []


class TestTensorBoard:
    def test_every_number(self, tmp_path):
        accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
        )
        loops = [fit(max_epochs=3, callbacks=[lw.TensorBoard(tmp_path / str(seed))], seed=seed) for seed in (0, 1)]
        for seed, loop in enumerate(loops):
            read = accumulator.EventAccumulator(str(tmp_path / str(seed)))
            read.Reload()
            names = ["seconds", "samples", "loss", "lr", "gradient_norm"]
            assert sorted(read.Tags()["scalars"]) == sorted(names)
            for name in names:
                points = read.Scalars(name)
                assert [point.step for point in points] == [1, 2, 3]
                expected = [row[name] for row in loop.history]
                assert [point.value for point in points] == pytest.approx(expected, rel=1e-6)

    def test_what_a_run_wrote_until_an_error_is_there(self, tmp_path):
        accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
        )

        def fail(run, row):
            raise LookupError

        with pytest.raises(LookupError):
            fit(callbacks=[lw.TensorBoard(tmp_path), fail])
        read = accumulator.EventAccumulator(str(tmp_path))
        read.Reload()
        assert len(read.Scalars("loss")) == 1

    def test_tensorboard_x(self, tmp_path, monkeypatch):
        calls = []

        class SummaryWriter:
            def __init__(self, folder):
                calls.append(folder)

            def add_scalar(self, name, value, epoch):
                calls.append((name, value, epoch))

            def flush(self):
                calls.append("flush")

            def close(self):
                calls.append("close")

        monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
        monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
        loop = fit(max_epochs=1, callbacks=lw.TensorBoard(tmp_path))
        row = loop.history[0]
        written = [(name, value, 1) for name, value in row.items() if name != "epoch"]
        assert calls == [str(tmp_path), *written, "flush", "close"]

    def test_neither_is_installed(self, tmp_path, monkeypatch):
        for name in ("tensorboard.compat.proto.event_pb2", "tensorboardX"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match="pip install tensorboard"):
            lw.TensorBoard(tmp_path)


def test_samples_are_told_as_whole_numbers():
    assert callbacks._text(12345) == "12,345"
    assert callbacks._text(0.000123456) == "0.00012346"
    assert callbacks._text(float(len(Sums().y))) == "31"
