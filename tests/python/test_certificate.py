"""Certificates: what a run records, and that every change of data, options or weights is found."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.runs.certificate import NO_ORDER, folder_of, next_link, next_order
from latchwork.estimators.runs.fingerprints import options_of
from latchwork.estimators.runs.fit_loop import Batch, FitLoop
from latchwork.estimators.runs.stopping import DivergenceError
from latchwork.estimators.runs.verification import Verification, verify
from training_runs import Stream, Sums, UnknownLength, new_run


class Model:
    """An estimator that is no more than its run."""

    def __init__(self, **options):
        self.options = options

    def _new_run(self, data, *, seed, **keywords):
        return new_run(data, seed=seed, fingerprint=options_of(self.options), **self.options, **keywords)

    def fit(self, data, path, **keywords):
        loop = FitLoop(self._new_run(data, seed=4, certificate=path, **keywords))
        self.loop = loop
        self.network_ = loop.network
        loop.run()
        return self


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # which takes most of the time, and is not what is tested


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.json"


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def passed(segments):
    return Verification(segments, segments, segments, [])


SCHEDULES = {
    "warm-up": {},
    "constant": {"lr_schedule": "constant"},
    "steps": {"lr_schedule": lw.optim.schedules.Step(0.02, 10)},
    "plateau": {"lr_schedule": lw.optim.schedules.ReduceOnPlateau(0.02, 0.5, patience=0, threshold=0.2)},
    "members": {"members": 2},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("data", [Sums, Stream, UnknownLength])
def test_every_segment_is_equal(path, data, schedule):
    lw.set_num_threads(2)
    model = Model(**SCHEDULES[schedule]).fit(data(), path)
    lw.set_num_threads(1)
    found = verify(model, path, data(), segments="all")
    assert found == passed(6)
    assert found.passed
    assert str(found) == "6 of 6 segments equal"


def test_what_is_recorded(path):
    model = Model(max_epochs=3).fit(Sums(), path)
    content = json.loads(path.read_text())
    assert [(each["epoch"], each["steps"]) for each in content["segments"]] == [(1, 7), (2, 7), (3, 7)]
    assert content["basis"]["seed"] == 4
    assert content["basis"]["machine"]["version"] == lw.__version__
    assert content["end"]["kept_segment"] == 3
    assert sorted(os.listdir(folder_of(str(path)))) == [f"epoch-{number:06}.safetensors" for number in range(4)]
    links = [content["link"], *(each["link"] for each in content["segments"]), content["end"]["link"]]
    assert len(set(links)) == 5
    again = path.with_name("again.json")
    Model(max_epochs=3).fit(Sums(), again)
    assert json.loads(again.read_text()) == content
    assert verify(model, again, Sums()) == passed(3)


def test_a_shorter_run_in_its_place(path):
    Model().fit(Sums(), path)
    model = Model(max_epochs=2).fit(Sums(), path)
    assert len(os.listdir(folder_of(str(path)))) == 3
    assert verify(model, path, Sums()) == passed(2)


def test_an_order_covers_all_that_steps_read():
    batches = [
        Batch(1, 1, count=2, samples=[0, 1]),
        Batch(1, 1, count=2, samples=[1, 0]),
        Batch(1, 1, count=3, samples=[0, 1]),
        Batch(1, 1, count=2, samples=[0, 1], continues=True),
        Batch(1, 1, count=2, samples=[0, 1], lengths=np.array([3, 4])),
        Batch(1, 1, count=2, samples=[0, 1], reset=np.array([[True, False]])),
    ]
    orders = {next_order(NO_ORDER, batch, 0.1) for batch in batches}
    orders.add(next_order(NO_ORDER, batches[0], 0.2))
    orders.add(next_order(next_order(NO_ORDER, batches[0], 0.1), batches[0], 0.1))
    assert len(orders) == 8
    assert next_order(NO_ORDER, Batch(2, 2, count=2, samples=np.array([0, 1], np.int32)), 0.1) in orders


def test_random_segments(path):
    model = Model().fit(Sums(), path)
    assert verify(model, path, Sums()) == Verification(3, 3, 6, [])
    assert verify(model, path, Sums(), segments=0) == Verification(0, 0, 6, [])
    replayed = []

    class Watched(Sums):
        def batches(self, epoch, first=0):
            replayed[-1].append(epoch)
            return super().batches(epoch, first)

    for seed in range(8):
        replayed.append([])
        assert verify(model, path, Watched(), segments=2, random_state=seed).passed
    assert len(set(map(tuple, replayed))) > 3
    assert {epoch for each in replayed for epoch in each} == set(range(6))
    assert all(a < b for a, b in replayed)


@pytest.mark.parametrize("segment", range(6))
def test_a_segment_alone(path, segment):
    """The state that windows carry from epoch to epoch comes from the file, not from a segment repeated before."""
    model = Model().fit(Stream(), path)
    seeds = (seed for seed in range(1000) if random.Random(seed).sample(range(1, 7), 1) == [segment + 1])
    assert verify(model, path, Stream(), segments=1, random_state=next(seeds)) == Verification(1, 1, 6, [])


class TestEnds:
    def test_by_the_clock(self, path, monkeypatch):
        now = [0.0]
        step = lw.Trainer.step

        def slow_step(self, *arguments, **keywords):
            now[0] += 1.0
            return step(self, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda: now[0])
            patch.setattr(lw.Trainer, "step", slow_step)
            model = Model(max_seconds=17.0, max_epochs=50).fit(Sums(), path, started=0.0)
        content = json.loads(path.read_text())
        assert [each["steps"] for each in content["segments"]] == [7, 7, 3]
        assert content["end"]["ended_by"] == "seconds"
        assert verify(model, path, Sums(), segments="all") == passed(3)

    def test_by_ctrl_c(self, path):
        class Interrupted(Sums):
            def batches(self, epoch, first=0):
                for number, batch in enumerate(super().batches(epoch, first)):
                    if (epoch, number) == (1, 3):
                        os.kill(os.getpid(), signal.SIGINT)
                    yield batch

        model = Model().fit(Interrupted(), path)
        assert [each["steps"] for each in json.loads(path.read_text())["segments"]] == [7, 4]
        assert verify(model, path, Sums(), segments="all") == passed(2)

    def test_by_early_stopping(self, path):
        losses = iter([5.0, 3.0, 4.0, 4.0])
        options = {"early_stopping": True, "n_iter_no_change": 2}
        model = Model(**options).fit(Sums(), path, validate=lambda: {"validation_loss": next(losses)})
        content = json.loads(path.read_text())
        assert len(content["segments"]) == 4
        assert content["end"]["kept_segment"] == 2
        assert verify(model, path, Sums(), segments="all") == passed(4)

    @pytest.mark.parametrize("epoch", [1, 3])
    def test_by_divergence(self, path, epoch):
        model = Model(loss=failing_loss)
        failing_loss.calls = 7 * epoch - 2
        with pytest.raises(DivergenceError):
            model.fit(Sums(), path)
        failing_loss.calls = -1
        content = json.loads(path.read_text())
        assert content["end"]["ended_by"] == "divergence"
        assert [each["steps"] for each in content["segments"]] == [7] * (epoch - 1) + [5]
        assert verify(model, path, Sums(), segments="all") == passed(epoch)

    def test_before_the_first_step(self, path):
        model = Model(max_seconds=0).fit(Sums(), path)
        assert verify(model, path, Sums()) == passed(0)

    def test_never(self, path):
        def stop(run, row):
            if row["epoch"] == 2:
                raise KeyError

        model = Model()
        with pytest.raises(KeyError):
            model.fit(Sums(), path, callbacks=stop)
        found = verify(model, path, Sums())
        assert (found.equal, found.replayed, found.passed) == (2, 2, False)
        assert found.findings == ["the certificate has no end: it is of a run that goes on, or was killed"]


def failing_loss(output, y):
    failing_loss.calls -= 1
    difference = output - y
    return float("nan") if failing_loss.calls == -1 else (difference**2).mean(), 2 * difference / difference.size


class TestResumed:
    @pytest.mark.parametrize("every", [1, 1e-9])
    @pytest.mark.parametrize("options", [{}, {"max_seconds": 1000.0}])
    def test_is_the_certificate_of_a_run_never_stopped(self, path, tmp_path, every, options):
        class Stopped(Sums):
            def batches(self, epoch, first=0):
                for number, batch in enumerate(super().batches(epoch, first), first):
                    if (epoch, number) == (3, 4):
                        raise InterruptedError
                    yield batch

        keeping = {"checkpoint_dir": tmp_path / "run", "checkpoint_every": every}
        with pytest.raises(InterruptedError):
            Model(**options).fit(Stopped(), path, **keeping)
        model = Model(**options).fit(Sums(), path, resume=True, **keeping)
        assert verify(model, path, Sums(), segments="all") == passed(6)
        if not options:  # the clock decides nothing
            Model().fit(Sums(), tmp_path / "whole.json")
            assert json.loads(path.read_text()) == json.loads((tmp_path / "whole.json").read_text())

    def test_needs_a_record_from_the_start(self, path, tmp_path):
        FitLoop(new_run(seed=4, max_epochs=6, checkpoint_dir=tmp_path / "run")).run()
        with pytest.raises(ValueError, match="certificate: expected a run that was recorded from its start"):
            Model().fit(Sums(), path, resume=True, checkpoint_dir=tmp_path / "run")


class TestFound:
    @pytest.fixture
    def model(self, path):
        return Model(max_epochs=4).fit(Sums(), path)

    def one(self, found):
        assert not found.passed
        return found.findings[0]

    def test_a_changed_number(self, model, path):
        data = Sums()
        data.x[6, 30, 2] = np.nextafter(data.x[6, 30, 2], 1)
        found = verify(model, path, data, segments="all")
        assert self.one(found) == "the data are others than those of the certificate"
        data = Sums()
        data.x[0, 9] += 0.5
        found = verify(model, path, data, segments="all")
        assert found.equal == 0
        assert str(found).startswith("0 of 4 segments equal\nthe data are others")
        assert found.findings[1] == "segment 1 ends in another state"

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"lr": 0.03}, "other options: lr: expected None, got 0.03"),
            ({"max_epochs": 5}, "other options: max_epochs: expected 4, got 5"),
            ({"lr_schedule": "cosine"}, "other options: lr_schedule: expected 'warmup_cosine', got 'cosine'"),
        ],
    )
    def test_a_changed_option(self, model, path, option, message):
        model.options.update(option)
        found = verify(model, path, Sums())
        assert self.one(found) == message
        assert str(found).startswith("no segment was repeated\n")

    def test_an_option_that_the_estimator_does_not_tell(self, model, path):
        other = Model(max_epochs=4)
        other._new_run = lambda data, seed: new_run(
            data, seed=seed, lr=0.03, fingerprint={"max_epochs": 4}, max_epochs=4
        )
        other.network_ = model.network_
        assert self.one(verify(other, path, Sums())) == "other options: lr: expected 0.02, got 0.03"

    def test_a_changed_weight(self, model, path):
        with model.network_.edit() as parameters:
            parameters["2.bias"] += np.float32(1e-6)
        found = verify(model, path, Sums())
        assert found.findings == ["the model's weights are others than those of the certificate"]
        assert found.equal == 3

    def test_another_seed(self, model, path):
        changed(path, lambda content: content["basis"].update(seed=5))
        assert verify(model, path, Sums()).findings == ["the chain of hashes is broken at its start"]

    @pytest.mark.parametrize(
        ("change", "finding"),
        [
            (lambda content: content["segments"][1].update(steps=6), "the chain of hashes is broken at segment 2"),
            (lambda content: content["segments"].pop(), "the chain of hashes is broken at its end"),
            (lambda content: content["segments"].pop(0), "the chain of hashes is broken at segment 1"),
            (lambda content: content["end"].update(ended_by="nothing"), "the chain of hashes is broken at its end"),
            (lambda content: content["basis"].update(data="0" * 64), "the chain of hashes is broken at its start"),
        ],
    )
    def test_a_changed_certificate(self, model, path, change, finding):
        changed(path, change)
        assert verify(model, path, Sums()) == Verification(
            0, 0, len(json.loads(path.read_text())["segments"]), [finding]
        )

    def test_an_end_that_cannot_be(self, model, path):
        def forge(content):
            content["end"]["kept_segment"] = 5
            content["end"]["link"] = next_link(content["segments"][-1]["link"], content["end"])

        changed(path, forge)
        finding = "the weights are said to be those after segment 5, which is not there"
        assert verify(model, path, Sums()).findings == [finding]

    def test_weights_of_another_segment(self, model, path):
        def forge(content):
            content["end"]["kept_segment"] = 2
            content["end"]["link"] = next_link(content["segments"][-1]["link"], content["end"])

        changed(path, forge)
        assert verify(model, path, Sums()).findings == ["the model's weights are others than those after segment 2"]

    def test_a_forged_state(self, model, path):
        """The last epoch was done with something else, and all hashes were made anew: replaying finds it."""
        other = Model(max_epochs=4)
        run = other._new_run(Sums(), seed=4, certificate=path)
        loop = FitLoop(run)
        epochs = []

        def cheat(loop, row):
            epochs.append(row)
            if len(epochs) == 2:
                with loop.network.edit() as parameters:
                    parameters["2.bias"] += np.float32(0.1)

        from latchwork.estimators.runs.callbacks import callbacks_of

        loop._callbacks = callbacks_of(cheat)
        loop.run()
        other.network_ = loop.network
        found = verify(other, path, Sums(), segments="all")
        assert found.equal == 3
        assert found.findings == ["segment 3 ends in another state"]

    def test_a_changed_file(self, model, path):
        file = path.with_name("run.checkpoints") / "epoch-000002.safetensors"
        content = bytearray(file.read_bytes())
        content[-3] ^= 4
        file.write_bytes(content)
        found = verify(model, path, Sums(), segments="all")
        assert found.equal == 2
        assert [each[:28] for each in found.findings] == [
            "segment 2 cannot be repeated",
            "segment 3 cannot be repeated",
        ]

    def test_files_that_changed_places(self, model, path):
        folder = path.with_name("run.checkpoints")
        os.replace(folder / "epoch-000001.safetensors", folder / "epoch-000002.safetensors")
        (folder / "epoch-000001.safetensors").write_bytes((folder / "epoch-000000.safetensors").read_bytes())
        found = verify(model, path, Sums(), segments="all")
        assert found.equal == 1
        assert "expected the certified state, got another" in found.findings[0]

    def test_weights_that_do_not_follow_from_the_seed(self, path):
        model = Model()
        run = model._new_run(Sums(), seed=4, certificate=path)
        with run.trainer.network.edit() as parameters:
            parameters["2.bias"] += np.float32(0.1)
        loop = FitLoop(run)
        loop.run()
        model.network_ = loop.network
        assert verify(model, path, Sums()).findings == ["the state at the start does not follow from the seed"]

    def test_weights_that_were_given(self, path):
        model = Model()
        run = model._new_run(Sums(), seed=4, certificate=path, given_start=True)
        with run.trainer.network.edit() as parameters:
            parameters["2.bias"] += np.float32(0.1)
        loop = FitLoop(run)
        loop.run()
        model.network_ = loop.network
        assert verify(model, path, Sums()).passed

    def test_a_model_of_another_network(self, model, path):
        model.network_ = lw.Network([lw.Linear(1, 1)])
        assert self.one(verify(model, path, Sums())).startswith("the model's weights are others")


class TestBadInput:
    @pytest.mark.parametrize("text", ["", "{}", "[]", "hello", '{"kind": "certificate"}', "\x00", "[" * 100_000])
    def test_no_certificate(self, path, text):
        path.write_text(text)
        with pytest.raises(ValueError, match="run.json: expected a certificate that Latchwork wrote, got another file"):
            verify(Model(), path, Sums())

    @pytest.mark.parametrize(
        "change",
        [
            lambda content: content.pop("end"),
            lambda content: content.update(segments=3),
            lambda content: content["segments"][0].update(steps=0),
            lambda content: content["segments"][0].pop("state"),
            lambda content: content["segments"][0].update(link="xyz"),
            lambda content: content["end"].update(kept_segment=-1),
            lambda content: content["basis"].update(seed=-1),
            lambda content: content["basis"].update(options=None),
            lambda content: content["basis"].update(machine=None),
        ],
    )
    def test_a_damaged_certificate(self, path, change):
        model = Model().fit(Sums(), path)
        changed(path, change)
        with pytest.raises(ValueError, match="run.json: expected a certificate that Latchwork wrote"):
            verify(model, path, Sums())

    def test_no_file(self, path):
        with pytest.raises(FileNotFoundError):
            verify(Model(), path, Sums())

    def test_no_states(self, path):
        model = Model().fit(Sums(), path)
        os.rename(folder_of(str(path)), folder_of(str(path)) + ".moved")
        with pytest.raises(FileNotFoundError):
            verify(model, path, Sums())

    def test_a_newer_format(self, path):
        model = Model().fit(Sums(), path)
        changed(path, lambda content: content.update(format_version=2))
        with pytest.raises(ValueError, match="expected format_version 1, got 2"):
            verify(model, path, Sums())

    def test_segments(self, path):
        model = Model().fit(Sums(), path)
        with pytest.raises(ValueError, match="segments: expected at least 0, got -1"):
            verify(model, path, Sums(), segments=-1)

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        with pytest.raises(OSError, match="none"):
            Model().fit(Sums(), "/proc/none/run.json")


def test_another_instruction_set_is_refused_or_equal(path):
    """With fused multiply-adds all are equal; without, the bits differ, and that is said."""
    model = Model().fit(Sums(), path)
    for isa in lw.cpu_info()["available_isas"]:
        lw.set_isa(isa)
        if (isa == "baseline") == (json.loads(path.read_text())["basis"]["machine"]["fused_multiply_adds"] is False):
            assert verify(model, path, Sums(), segments="all") == passed(6)
        else:
            with pytest.raises(ValueError, match="fused multiply-adds, as the run's was, got another"):
                verify(model, path, Sums())


@pytest.mark.slow
def test_in_another_process(path, tmp_path):
    """Hashes do not depend on the process: not on the order of sets, nor on addresses."""
    model = Model().fit(Sums(), path)
    np.savez(tmp_path / "weights.npz", **model.network_.state_dict())
    program = (
        "import sys, numpy as np; from training_runs import Sums; from test_certificate import Model, verify, new_run;"
        "model = Model(); model.network_ = new_run(Sums(), seed=4).trainer.network;"
        "model.network_.load_state_dict(dict(np.load(sys.argv[2]))); "
        "print(verify(model, sys.argv[1], Sums(), segments='all'))"
    )
    folder = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, folder])}
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "weights.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "6 of 6 segments equal\n"
