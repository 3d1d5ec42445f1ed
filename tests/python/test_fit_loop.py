"""The loop that fits every estimator: epochs, learning rates, history, and how a run ends."""

import math
import os
import pickle
import signal
import threading
import time

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.runs.fit_loop import Batch, FitLoop
from latchwork.estimators.runs.stopping import DivergenceError
from training_runs import Stream, Sums, UnknownLength, assert_equal_weights, fit, new_run, weights_of


def by_hand(run, rates):
    """The same steps, written out."""
    data, state = run.data, None
    norms, losses = [], []
    for epoch in range(run.max_epochs):
        for batch in data.batches(epoch):
            run.trainer.lr = next(rates)
            start = state if batch.continues else None
            loss, state = run.trainer.step(batch.x, batch.y, start, batch.lengths, weights=batch.weights)
            losses.append(loss)
            norms.append(math.sqrt(math.fsum(float(g) ** 2 for g in run.trainer.gradients.flat)))
    return losses, norms


def cosine_rates(lr, steps):
    return (lr * math.cos(math.pi / 2 * step / steps) ** 2 for step in range(steps))


@pytest.mark.parametrize("data", [Sums, Stream])
def test_does_what_steps_by_hand_do(data):
    loop = fit(data(), lr_schedule="constant", max_epochs=3)
    run = new_run(data(), max_epochs=3)
    losses, norms = by_hand(run, iter([0.02] * 99))
    assert_equal_weights(loop, {name: np.array(value) for name, value in run.trainer.network.parameters.items()})
    assert loop.ended_by == "epochs"
    assert not loop.interrupted
    steps = run.data.steps()
    counts = [batch.count for batch in run.data.batches(0)]
    for epoch, row in enumerate(loop.history):
        these = slice(epoch * steps, (epoch + 1) * steps)
        assert list(row) == ["epoch", "seconds", "samples", "loss", "lr", "gradient_norm"]
        assert row["epoch"] == epoch + 1
        assert row["samples"] == (epoch + 1) * sum(counts)
        assert row["loss"] == pytest.approx(np.average(losses[these], weights=counts), rel=1e-12)
        assert row["gradient_norm"] == pytest.approx(np.mean(norms[these]), rel=1e-5)
        assert row["lr"] == 0.02
    seconds = [row["seconds"] for row in loop.history]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


class TestLearningRates:
    def rates(self, monkeypatch, data=None, **options):
        rates = []
        step = lw.Trainer.step

        def watched(self, *arguments, **keywords):
            rates.append(self.lr)
            return step(self, *arguments, **keywords)

        monkeypatch.setattr(lw.Trainer, "step", watched)
        loop = fit(data, **options)
        return rates, loop

    def test_cosine(self, monkeypatch):
        rates, _ = self.rates(monkeypatch, lr_schedule="cosine")
        assert rates[0] == 0.02
        assert rates == pytest.approx(list(cosine_rates(0.02, 42)), rel=1e-14)

    def test_warm_up(self, monkeypatch):
        rates, _ = self.rates(monkeypatch, Sums(batch_size=31), max_epochs=40)
        assert rates[:4] == pytest.approx([0.02 * k / 4 for k in range(1, 5)])
        fall = [0.02 * math.cos(math.pi / 2 * (step - 4) / 36) ** 2 for step in range(4, 40)]
        assert rates[4:] == pytest.approx(fall, rel=1e-13)

    def test_constant(self, monkeypatch):
        rates, _ = self.rates(monkeypatch, lr_schedule="constant")
        assert rates == [0.02] * 42

    def test_the_optimiser_s_own(self, monkeypatch):
        schedule = lw.optim.schedules.Step(0.01, every=10)
        rates, _ = self.rates(monkeypatch, lr_schedule=None, optimizer=lw.optim.SGD(lr=schedule))
        assert rates == pytest.approx([0.01 * 0.1 ** (step // 10) for step in range(42)])

    def test_a_schedule_is_copied(self, monkeypatch):
        schedule = lw.optim.schedules.Warmup(lw.optim.schedules.ReduceOnPlateau(0.01, patience=0, threshold=0.9), 3)
        rates, loop = self.rates(monkeypatch, lr_schedule=schedule)
        assert rates[:8] == pytest.approx([0.0025, 0.005, 0.0075] + [0.01] * 5)
        assert rates[-1] < 1e-4  # no epoch was better by 90 percent
        assert schedule.then == lw.optim.schedules.ReduceOnPlateau(0.01, patience=0, threshold=0.9)
        assert loop.history[0]["lr"] == 0.01

    def test_seconds(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])
        step = lw.Trainer.step

        def slow_step(self, *arguments, **keywords):
            now[0] += 1.0
            return step(self, *arguments, **keywords)

        monkeypatch.setattr(lw.Trainer, "step", slow_step)
        rates, loop = self.rates(monkeypatch, lr_schedule="cosine", max_epochs=1000, max_seconds=20.0, started=0.0)
        assert rates == pytest.approx(list(cosine_rates(0.02, 20)), rel=1e-14)
        assert loop.ended_by == "seconds"
        assert [(row["epoch"], row["samples"], row["seconds"]) for row in loop.history] == [
            (1, 31, 7.0), (2, 62, 14.0), (3, 62 + 30, 20.0)
        ]  # fmt: skip

    def test_unknown_length(self, monkeypatch):
        """The rise takes 100 steps, and the fall knows epochs alone until the first is over."""
        rates, _ = self.rates(monkeypatch, UnknownLength(batch_size=1), max_epochs=10)
        known = 31
        fall = [math.cos(math.pi / 2 * max(step / 310 - 0.1, 0) / 0.9) ** 2 for step in range(310)]
        fall[:known] = [1.0] * known
        expected = [0.02 * min((step + 1) / 100, 1.0) * fall[step] for step in range(310)]
        assert rates == pytest.approx(expected, rel=1e-13)

    @pytest.mark.parametrize(("schedule", "error"), [("linear", ValueError), (0.1, TypeError)])
    def test_bad(self, schedule, error):
        with pytest.raises(error, match="lr_schedule: expected"):
            FitLoop(new_run(lr_schedule=schedule))


class TestMembers:
    def test_rows_are_means(self):
        several = fit(members=3, max_epochs=2, lr_schedule="constant")
        network = several.network
        assert network.parameters["0.weight_ih_l0"].shape[0] == 3
        losses = []
        run = new_run(members=3, max_epochs=2)
        for epoch in range(2):
            of_epoch = [(batch.count, run.trainer.step(batch.x, batch.y)[0]) for batch in run.data.batches(epoch)]
            losses.append(sum(count * each.mean() for count, each in of_epoch) / 31)
        assert [row["loss"] for row in several.history] == pytest.approx(losses)
        assert all(row["gradient_norm"] > 0 for row in several.history)


class Poisoned(Sums):
    """One target is enormous from some epoch on."""

    def __init__(self, value, epoch=2, **options):
        super().__init__(**options)
        self.value = value
        self.epoch = epoch

    def batches(self, epoch, first=0):
        for batch in super().batches(epoch, first):
            if epoch >= self.epoch and 17 in batch.samples:
                batch.y[batch.samples == 17] = self.value
            yield batch


def own_loss(output, y):
    """The squared error, infinite for a poisoned batch."""
    difference = output - y
    return (difference**2).mean() if abs(y).max() < 1e30 else math.inf, 2 * difference / difference.size


class TestDivergence:
    def place(self, epoch):
        return next(
            (number, batch.samples) for number, batch in enumerate(Sums().batches(epoch)) if 17 in batch.samples
        )

    @pytest.mark.parametrize("validated", [True, False])
    def test_an_infinite_loss(self, validated):
        losses = iter([3.0, 4.0])
        options = {"validate": lambda: {"validation_loss": next(losses)}} if validated else {}
        loop = FitLoop(new_run(Poisoned(1e30), loss=own_loss, **options))
        number, samples = self.place(2)
        with pytest.raises(DivergenceError) as raised:
            loop.run()
        error = raised.value
        assert (error.epoch, error.batch) == (3, number)
        assert error.samples == samples.tolist()
        assert 0 < error.gradient_norm < 100
        assert isinstance(error, RuntimeError)
        best = 1 if validated else 2
        message = f"training ended in epoch 3, batch {number} (samples {', '.join(map(str, samples))}): loss: expected"
        assert str(error).startswith(message)
        assert f"those of epoch {best}, the best, are kept" in str(error)
        assert loop.ended_by == "divergence"
        assert len(loop.history) == 2
        # The best weights are those after the best epoch.
        kept = []
        fit(loss=own_loss, callbacks=lambda loop, row: kept.append(weights_of(loop)))
        assert_equal_weights(loop, kept[best - 1])
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.samples, again.epoch) == (str(error), error.samples, 3)

    def test_in_the_first_epoch_the_weights_are_those_before_the_batch(self):
        loop = FitLoop(new_run(Poisoned(1e30, epoch=0), loss=own_loss, lr_schedule="constant"))
        with pytest.raises(DivergenceError, match="the weights before it are kept"):
            loop.run()
        number, _ = self.place(0)
        run = new_run(loss=own_loss)
        for _, batch in zip(range(number), run.data.batches(0), strict=False):
            run.trainer.step(batch.x, batch.y)
        assert_equal_weights(loop, {name: np.array(value) for name, value in run.trainer.network.parameters.items()})
        assert loop.history == []

    def test_a_finite_loss_that_explodes(self):
        loop = FitLoop(new_run(Poisoned(1e6), loss="absolute_error"))
        with pytest.raises(DivergenceError, match="training ended in epoch 3: its mean loss was") as raised:
            loop.run()
        assert raised.value.batch is None
        assert raised.value.samples is None
        assert len(loop.history) == 3
        assert_equal_weights(loop, self.weights_after_two_epochs("absolute_error"))

    def weights_after_two_epochs(self, loss):
        kept = []
        fit(loss=loss, callbacks=[lambda loop, row: kept.append(weights_of(loop))])
        return kept[1]

    def test_a_large_loss_from_the_start_is_none(self):
        assert fit(Poisoned(1e6, epoch=0), loss="absolute_error").ended_by == "epochs"

    def test_an_error_of_the_user_s_loss_is_passed_on(self):
        def loss(output, y):
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine") as raised:
            fit(loss=loss)
        assert type(raised.value) is RuntimeError

    def test_many_samples_are_counted(self):
        error = DivergenceError("loss: nan", 1, 0, 1.0, range(25), "its weights")
        assert "17, 18, 19 and 5 more)" in str(error)


class TestCtrlC:
    def test_ends_after_the_batch(self):
        class Interrupted(Sums):
            def batches(self, epoch, first=0):
                for number, batch in enumerate(super().batches(epoch, first)):
                    if (epoch, number) == (1, 3):
                        os.kill(os.getpid(), signal.SIGINT)
                    yield batch

        loop = fit(Interrupted(), lr_schedule="constant")
        assert loop.interrupted
        assert loop.ended_by == "interrupt"
        assert [row["samples"] for row in loop.history] == [31, 51]
        run = new_run()
        batches = [*run.data.batches(0), *run.data.batches(1)][:11]
        for batch in batches:
            run.trainer.step(batch.x, batch.y)
        assert_equal_weights(loop, {name: np.array(value) for name, value in run.trainer.network.parameters.items()})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_after_the_last_batch_is_heard_too(self):
        loop = fit(callbacks=lambda run, row: row["epoch"] == 6 and os.kill(os.getpid(), signal.SIGINT))
        assert loop.interrupted
        assert loop.ended_by == "epochs"
        assert len(loop.history) == 6

    def test_twice_ends_at_once(self):
        class Stuck(Sums):
            def batches(self, epoch, first=0):
                yield from itertools_first(super().batches(epoch, first), 2)
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)

        loop = fit(Stuck())
        assert loop.interrupted
        assert loop.history[-1]["samples"] == 10

    def test_in_another_thread(self):
        loops = []
        thread = threading.Thread(target=lambda: loops.append(fit()))
        thread.start()
        thread.join()
        assert len(loops[0].history) == 6

    def test_a_handler_of_the_user_s_stays(self):
        heard = []
        before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
        try:
            fit(callbacks=[lambda run, row: os.kill(os.getpid(), signal.SIGINT)])
        finally:
            signal.signal(signal.SIGINT, before)
        assert len(heard) == 6


def itertools_first(items, count):
    for _, item in zip(range(count), items, strict=False):
        yield item


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_epochs": -1}, "max_epochs: expected at least 0"),
            ({"max_seconds": -1.0}, "max_seconds: expected at least 0"),
            ({"early_stopping": True}, "early_stopping: expected data to validate on"),
            ({"n_iter_no_change": 0}, "n_iter_no_change: expected at least 1"),
            ({"tol": -1.0}, "tol: expected at least 0"),
            ({"resume": True}, "resume: expected a checkpoint_dir"),
            ({"checkpoint_dir": "there", "checkpoint_every": 0}, "checkpoint_every: expected at least 1"),
            ({"checkpoint_dir": "there", "checkpoint_every": 0.0}, "checkpoint_every: expected an int of epochs or"),
        ],
    )
    def test_options(self, tmp_path, monkeypatch, options, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=message):
            FitLoop(new_run(**options))
        assert list(tmp_path.iterdir()) == []

    def test_no_batches(self):
        class Nothing(Sums):
            def batches(self, epoch, first=0):
                yield from ()

        with pytest.raises(ValueError, match="data: expected at least one batch"):
            fit(Nothing())

    def test_no_epochs_and_no_seconds(self):
        assert fit(max_epochs=0).history == []
        loop = fit(max_seconds=0)
        assert loop.history == []
        assert loop.ended_by == "seconds"


def test_a_batch_has_no_more_than_it_needs():
    assert Batch(1, 2) == Batch(1, 2, None, None, False, 0, None, None)
