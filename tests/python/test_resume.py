"""A run that was stopped at any moment goes on from its checkpoint and ends with the bits of one that never was."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.runs import checkpoints, fingerprints
from latchwork.estimators.runs.checkpoints import KEPT, read_snapshot, run_seed
from latchwork.estimators.runs.fit_loop import FitLoop
from latchwork.estimators.runs.stopping import DivergenceError
from training_runs import (
    Stream,
    Sums,
    UnknownLength,
    assert_equal_weights,
    fit,
    killed_run,
    new_run,
    weights_of,
)

PROGRAM = Path(__file__).parent / "support" / "training_runs.py"


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


class Stopped(Exception):
    """As good as a kill: nothing is done after it."""


def stop_at(epoch, batch):
    """Data of a class that stop before this batch."""

    def stopping(base):
        class Stopping(base):
            def batches(self, at, first=0):
                for number, each in enumerate(super().batches(at, first), first):
                    if (at, number) == (epoch, batch):
                        raise Stopped
                    yield each

        return Stopping

    return stopping


KINDS = {
    "samples": (Sums, {}),
    "windows": (Stream, {}),
    "unknown length": (UnknownLength, {}),
    "members": (Sums, {"members": 3}),
    "plateau": (Sums, {"lr_schedule": lw.optim.schedules.ReduceOnPlateau(0.02, 0.5, patience=0, threshold=0.2)}),
    "momentum": (Sums, {"optimizer": lambda: lw.optim.SGD(lr=0.01, momentum=0.9), "lr_schedule": "cosine"}),
}


def options_for(kind):
    data, options = KINDS[kind]
    optimizer = {"optimizer": options["optimizer"]()} if "optimizer" in options else {}
    return data, {**options, **optimizer}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [1, 2, 1e-9])
@pytest.mark.parametrize("stop", [(0, 0), (0, 3), (2, 0), (3, 5), (5, 6)])
def test_ends_with_the_same_bits(kind, every, stop, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # which takes most of the time, and is not what is tested
    data, options = options_for(kind)
    whole = fit(data(), **options)
    data, options = options_for(kind)
    keeping = {"checkpoint_dir": tmp_path / "run", "checkpoint_every": every}
    lw.set_num_threads(1)
    with pytest.raises(Stopped):
        fit(stop_at(*stop)(data)(), **options, **keeping)
    lw.set_num_threads(2)
    data, options = options_for(kind)
    loop = fit(data(), **options, **keeping, resume=True)
    assert_equal_weights(loop, whole)
    for row, expected in zip(loop.history, whole.history, strict=True):
        assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    seconds = [row["seconds"] for row in loop.history]
    assert seconds == sorted(seconds)
    assert len(files_in(tmp_path / "run")) <= KEPT


def test_nothing_but_the_newest_is_read_again(tmp_path):
    read = []

    class Counted(Sums):
        def batches(self, epoch, first=0):
            read.append((epoch, first))
            return super().batches(epoch, first)

    with pytest.raises(Stopped):
        fit(stop_at(4, 2)(Sums)(), checkpoint_dir=tmp_path, checkpoint_every=1e-9)
    fit(Counted(), checkpoint_dir=tmp_path, resume=True)
    assert read == [(4, 2), (5, 0)]


def test_early_stopping_goes_on(tmp_path):
    def run(**options):
        losses = iter([5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 3.7, 1.0])
        seen = [next(losses) for _ in range(options.pop("skip", 0))]
        del seen
        return new_run(
            options.pop("data", Sums()),
            max_epochs=8,
            early_stopping=True,
            n_iter_no_change=3,
            validate=lambda: {"validation_loss": next(losses)},
            **options,
        )

    whole = FitLoop(run())
    whole.run()
    assert whole.ended_by == "early_stopping"
    assert len(whole.history) == 7
    for epoch in (1, 4, 5, 6):
        folder = tmp_path / str(epoch)
        with pytest.raises(Stopped):
            FitLoop(run(data=stop_at(epoch, 0)(Sums)(), checkpoint_dir=folder)).run()
        loop = FitLoop(run(skip=epoch, checkpoint_dir=folder, resume=True))
        loop.run()
        assert loop.ended_by == "early_stopping"
        assert_equal_weights(loop, whole)


def test_a_run_that_is_over_is_not_begun_again(tmp_path):
    options = {"checkpoint_dir": tmp_path, "early_stopping": True, "n_iter_no_change": 2}
    losses = iter([3.0, 1.0, 2.0, 2.0])
    whole = fit(validate=lambda: {"validation_loss": next(losses)}, **options)
    before = files_in(tmp_path)
    again = fit(validate=lambda: pytest.fail("validated again"), resume=True, **options)
    assert_equal_weights(again, whole)
    assert again.ended_by == "early_stopping"
    assert again.history == whole.history
    assert files_in(tmp_path) == before


def test_after_ctrl_c(tmp_path):
    class Interrupted(Sums):
        def batches(self, epoch, first=0):
            for number, batch in enumerate(super().batches(epoch, first), first):
                if (epoch, number) == (2, 3):
                    os.kill(os.getpid(), signal.SIGINT)
                yield batch

    stopped = fit(Interrupted(), checkpoint_dir=tmp_path, checkpoint_every=100)
    assert stopped.interrupted
    assert len(stopped.history) == 3
    place = read_snapshot(str(max(tmp_path.iterdir()))).info["place"]
    assert (place["epoch"], place["batch"]) == (2, 4)
    loop = fit(checkpoint_dir=tmp_path, checkpoint_every=100, resume=True)
    assert not loop.interrupted
    assert loop.ended_by == "epochs"
    assert len(loop.history) == 6
    assert_equal_weights(loop, fit())


def test_seconds_that_were_used_count(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    step = lw.Trainer.step

    def slow_step(self, *arguments, **keywords):
        now[0] += 1.0
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(lw.Trainer, "step", slow_step)
    options = {"max_seconds": 20.0, "checkpoint_dir": tmp_path, "max_epochs": 100}
    with pytest.raises(Stopped):
        fit(stop_at(1, 2)(Sums)(), started=0.0, **options)
    now[0] = 1000.0
    loop = fit(resume=True, started=999.0, **options)
    assert loop.ended_by == "seconds"
    assert [row["seconds"] for row in loop.history] == [7.0, 14.0, 20.0]
    assert fit(resume=True, **options).history == loop.history


class TestFiles:
    def stopped(self, folder, epoch=5, **options):
        with pytest.raises(Stopped):
            fit(stop_at(epoch, 0)(Sums)(), checkpoint_dir=folder, **options)

    def test_the_last_few_stay(self, tmp_path):
        self.stopped(tmp_path)
        assert files_in(tmp_path) == [f"checkpoint-{number:08}.safetensors" for number in (4, 5, 6)]
        assert [read_snapshot(str(path)).info["place"]["epoch"] for path in sorted(tmp_path.iterdir())] == [3, 4, 5]

    def test_another_run_in_the_folder_counts_on(self, tmp_path):
        fit(seed=1, checkpoint_dir=tmp_path)
        self.stopped(tmp_path, epoch=1)
        assert files_in(tmp_path) == [f"checkpoint-{number:08}.safetensors" for number in (7, 8, 9)]
        assert_equal_weights(fit(checkpoint_dir=tmp_path, resume=True), fit())

    def test_a_run_that_was_stopped_is_not_replaced(self, tmp_path):
        self.stopped(tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ValueError, match="^checkpoint_dir: expected a folder without a run that was stopped, got"):
            fit(checkpoint_dir=tmp_path)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "another file", "unreadable json"])
    def test_an_unreadable_one_is_passed_over(self, tmp_path, damage):
        self.stopped(tmp_path)
        newest = tmp_path / "checkpoint-00000006.safetensors"
        content = newest.read_bytes()
        flipped = bytearray(content)
        flipped[-5] ^= 1
        newest.write_bytes(
            {
                "truncated": content[: len(content) // 2],
                "empty": b"",
                "one bit": bytes(flipped),
                "another file": b"hello",
                "unreadable json": content.replace(b"largest_loss", b"largest\\loss"),
            }[damage]
        )
        with pytest.warns(UserWarning, match=r"checkpoint-00000006.safetensors: expected .*; it is passed over"):
            loop = fit(checkpoint_dir=tmp_path, resume=True)
        assert_equal_weights(loop, fit())

    def test_a_model_is_no_checkpoint(self, tmp_path):
        lw.Linear(2, 2).save(tmp_path / "checkpoint-00000001.safetensors")
        with pytest.warns(UserWarning, match="expected a checkpoint of a run, got another safetensors file"):
            fit(checkpoint_dir=tmp_path, resume=True)

    def test_a_newer_format(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "FORMAT_VERSION", 2)
            self.stopped(tmp_path, epoch=1)
        with pytest.warns(UserWarning, match="expected format_version 1, got 2"):
            fit(checkpoint_dir=tmp_path, resume=True)

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        (tmp_path / ".latchwork-0123456789abcdef.tmp").write_bytes(b"half")
        (tmp_path / "mine.tmp").write_bytes(b"")
        fit(checkpoint_dir=tmp_path)
        assert ".latchwork-0123456789abcdef.tmp" not in files_in(tmp_path)
        assert "mine.tmp" in files_in(tmp_path)

    def test_no_checkpoint_yet(self, tmp_path):
        assert_equal_weights(fit(checkpoint_dir=tmp_path / "a" / "b", resume=True), fit())

    def test_nothing_is_pickled(self, tmp_path):
        fit(checkpoint_dir=tmp_path, max_epochs=1)
        info = read_snapshot(str(next(tmp_path.iterdir()))).info
        assert json.loads(json.dumps(info)) == info


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"fingerprint": {"hidden_size": 5, "head": "last"}}, r"hidden_size: expected 4, got 5$"),
            ({"fingerprint": {"hidden_size": 4}}, r"head: expected 'last', got None$"),
            ({"lr": 0.01}, r"lr: expected 0.02, got 0.01$"),
            ({"max_epochs": 7}, r"max_epochs: expected 6, got 7$"),
            ({"lr_schedule": "cosine"}, r"lr_schedule: expected 'warmup_cosine', got 'cosine'$"),
            ({"seed": 1}, r"seed: expected 0, got 1$"),
            ({"loss": "absolute_error"}, r"kind: expected 'squared_error', got 'absolute_error'$"),
            ({"data": Sums(samples=32)}, r"the data are others$"),
            ({"lr": 0.01, "data": Sums(samples=32)}, r"lr: expected 0.02, got 0.01; the data are others$"),
            ({"optimizer": lw.optim.SGD(lr=0.02)}, r"kind: expected 'adamw', got 'sgd'"),
        ],
    )
    def test_other_options_or_data(self, tmp_path, options, message):
        fingerprint = {"fingerprint": {"hidden_size": 4, "head": "last"}}
        fit(checkpoint_dir=tmp_path, **fingerprint)
        before = [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())]
        loop = FitLoop(new_run(checkpoint_dir=tmp_path, resume=True, **{**fingerprint, **options}))
        weights = weights_of(loop)
        with pytest.raises(ValueError, match="resume: expected the options and the data of the checkpoint; ") as raised:
            loop.run()
        assert raised.match(message)
        assert_equal_weights(loop, weights)
        assert [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())] == before

    def test_a_changed_number(self, tmp_path):
        fit(checkpoint_dir=tmp_path)
        data = Sums()
        data.x[3, 4, 1] = np.nextafter(data.x[3, 4, 1], 1)
        with pytest.raises(ValueError, match="the data are others"):
            fit(data, checkpoint_dir=tmp_path, resume=True)

    def test_another_version_is_taken_with_a_warning(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(
                fingerprints,
                "machine",
                lambda: {"version": "0.0.1", "fused_multiply_adds": lw.cpu_info()["isa"] != "baseline"},
            )
            fit(checkpoint_dir=tmp_path)
        with pytest.warns(UserWarning, match="version: expected '0.0.1', got"):
            fit(checkpoint_dir=tmp_path, resume=True)


class TestNoRoom:
    def test_no_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            fit(checkpoint_dir=tmp_path / "file")

    def test_a_folder_that_may_not_be_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
        with pytest.raises(PermissionError, match="cannot write checkpoints there"):
            fit(checkpoint_dir=tmp_path)

    def test_too_little_from_the_start(self, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10_000))
        loop = FitLoop(new_run(checkpoint_dir=tmp_path))
        with pytest.raises(OSError, match=r"expected [\d,]+ free bytes for checkpoints, got 10,000") as raised:
            loop.run()
        assert raised.value.errno == errno.ENOSPC
        assert loop.trainer.steps == 0

    def test_too_little_later(self, tmp_path, monkeypatch):
        """Three files can be written, and the fourth only in part."""
        left = [3]
        write = checkpoints.write_atomically

        def full(path, content):
            if left[0] == 0:
                with open(os.path.join(tmp_path, ".latchwork-0123456789abcdef.tmp"), "wb") as file:
                    file.write(content[:100])
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
            write(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "write_atomically", full)
            loop = FitLoop(new_run(checkpoint_dir=tmp_path))
            with pytest.raises(OSError, match="cannot write a checkpoint .No space left on device.*before are intact"):
                loop.run()
        assert len(loop.history) == 3
        assert_equal_weights(fit(checkpoint_dir=tmp_path, resume=True), fit())

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
    def test_the_system_s_own_words(self, tmp_path, monkeypatch):
        open_file = open

        def full(name, *arguments, **keywords):
            if str(name).endswith(".tmp"):
                return open_file("/dev/full", "wb")
            return open_file(name, *arguments, **keywords)

        monkeypatch.setattr("builtins.open", full)
        with pytest.raises(OSError, match="cannot write a checkpoint .No space left on device"):
            fit(checkpoint_dir=tmp_path)


class TestSeeds:
    def test_a_fresh_seed_is_kept(self, tmp_path):
        assert run_seed(None) != run_seed(None)
        assert run_seed(None, tmp_path / "none", True) != run_seed(None, tmp_path / "none", True)
        fit(seed=2**63 + 5, checkpoint_dir=tmp_path)
        assert run_seed(None, tmp_path, True) == 2**63 + 5
        assert run_seed(np.random.default_rng(0), tmp_path, True) == 2**63 + 5
        assert run_seed(None, tmp_path, False) != 2**63 + 5
        assert run_seed(7, tmp_path, True) == 7
        assert run_seed(np.int64(7), tmp_path, True) == 7


def test_divergence_leaves_the_checkpoints(tmp_path):
    def loss(output, y):
        difference = output - y
        return float("nan") if failing[0] else (difference**2).mean(), 2 * difference / difference.size

    failing = [False]

    def fail(run, row):
        failing[0] = row["epoch"] == 3

    with pytest.raises(DivergenceError):
        fit(loss=loss, checkpoint_dir=tmp_path, callbacks=fail)
    failing[0] = False
    assert_equal_weights(fit(loss=loss, checkpoint_dir=tmp_path, resume=True), fit(loss=loss))


def start(kind, folder, every, threads, output):
    command = [sys.executable, str(PROGRAM), kind, str(folder), every, str(threads), str(output)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def train_with_kills(kind, folder, every, moments, output):
    """Kill the training again and again, with 1 and 2 threads by turns, until it may end."""
    for number, seconds in enumerate(moments):
        process = start(kind, folder, every, 1 + number % 2, output)
        deadline = time.monotonic() + 60
        while not folder.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has imported what it needs
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(kind, folder, every, 2, output)
    assert process.wait() == 0
    with np.load(output) as weights:
        return dict(weights)


def whole_run(kind):
    loop = FitLoop(killed_run(kind))
    started = time.perf_counter()
    loop.run()
    return loop, time.perf_counter() - started


@pytest.mark.parametrize("kind", ["samples", "windows"])
def test_a_killed_process(kind, tmp_path):
    whole, seconds = whole_run(kind)
    weights = train_with_kills(kind, tmp_path / "run", "0.001", [seconds / 4], tmp_path / "weights.npz")
    assert_equal_weights(weights, whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["samples", "windows"])
@pytest.mark.parametrize("every", ["0.0001", "3"])
def test_processes_killed_at_random_moments(kind, every, tmp_path):
    """20 runs in all, 5 of each kind and each way of keeping, and each killed up to 3 times."""
    whole, seconds = whole_run(kind)
    moments = random.Random(f"{kind} {every}")
    for number in range(5):
        folder = tmp_path / str(number)
        # In a new process, with files that are written all the time, a run takes longer than here.
        kills = [moments.uniform(0, 4 * seconds) for _ in range(moments.randint(1, 3))]
        weights = train_with_kills(kind, folder, every, kills, tmp_path / f"{number}.npz")
        assert_equal_weights(weights, whole)
