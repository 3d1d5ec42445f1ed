"""The loop that fits a network: epochs of training steps, until the epochs, the seconds or the improvement are over."""

import dataclasses
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latchwork._arrays import integer, real_number
from latchwork._progress import Bar, progress_bar
from latchwork._sequence import SequenceModule
from latchwork.estimators.runs.callbacks import RowPrinter, callbacks_of
from latchwork.estimators.runs.certificate import NO_ORDER, Recorder, next_order
from latchwork.estimators.runs.checkpoints import (
    Checkpoints,
    Snapshot,
    packed,
    restore_trainer,
    trainer_snapshot,
    unpacked,
    with_prefix,
)
from latchwork.estimators.runs.fingerprints import basis_of, check_resumable
from latchwork.estimators.runs.interruption import CtrlC
from latchwork.estimators.runs.learning_rates import LearningRates
from latchwork.estimators.runs.runs import Batch as Batch
from latchwork.estimators.runs.runs import Run as Run
from latchwork.estimators.runs.runs import TrainingData as TrainingData
from latchwork.estimators.runs.stopping import EXPLODED, BestWeights, DivergenceError


@dataclass
class _Place:
    """Where a run is: all that changes from step to step but the trainer's own state."""

    epoch: int = 0  # counted from 0
    batch: int = 0  # batches done in this epoch
    steps: int = 0  # batches done in all
    counted: int = 0  # things read in all
    epoch_steps: int | None = None  # batches in an epoch, as far as it is known
    largest_loss: float = 0.0  # of the batches of the first epoch
    last_norm: float = math.nan  # of the last step's gradient
    # Of this epoch:
    loss_sum: float = 0.0  # of the batches' losses, each times what it read
    norm_sum: float = 0.0  # of the gradients' norms
    counted_in_epoch: int = 0

    def next_epoch(self) -> None:
        self.epoch += 1
        self.batch = self.counted_in_epoch = 0
        self.loss_sum = self.norm_sum = 0.0


class FitLoop:
    """One run over the epochs, and what is known of it at any moment.

    Attributes
    ----------
    history : list of dict
        One row for each epoch: ``epoch``, ``seconds`` since the start, what was counted in all, the mean loss in
        training, ``lr`` of the last step, ``gradient_norm``: the mean over the steps of the gradient's norm before
        clipping; and what validation gave. With several members, means over the members. An epoch that Ctrl-C ended
        is not validated.
    interrupted : bool
        Whether Ctrl-C was pressed. Training ends after a batch; a second Ctrl-C ends it at once.
    ended_by : str or None
        "epochs", "seconds", "early_stopping", "callback", "interrupt" or "divergence"; None while it runs.
    """

    def __init__(self, run: Run) -> None:
        self.max_epochs = integer("max_epochs", run.max_epochs, 0)
        self._max_seconds = None if run.max_seconds is None else real_number("max_seconds", run.max_seconds)
        if run.early_stopping and run.validate is None:
            raise ValueError("early_stopping: expected data to validate on, got none")
        if run.resume and run.checkpoint_dir is None:
            raise ValueError("resume: expected a checkpoint_dir, got None")
        self.history: list[dict[str, float]] = []
        self.interrupted = False
        self.ended_by: str | None = None
        self.trainer = run.trainer
        self._run = run
        self._data = run.data
        self._callbacks = [*callbacks_of(run.callbacks), *([RowPrinter()] if run.verbose >= 2 else [])]
        self._best = BestWeights(run.n_iter_no_change, run.tol)
        self._checkpoints = (
            None if run.checkpoint_dir is None else Checkpoints(run.checkpoint_dir, run.checkpoint_every)
        )
        self._basis = {} if self._checkpoints is None and run.certificate is None else basis_of(run)
        steps = run.data.steps()
        self._rates = LearningRates(run.trainer, run.lr_schedule, None if steps is None else steps * self.max_epochs)
        self._recorder = None
        if run.certificate is not None:
            records_rates = run.max_seconds is not None or self._rates.follows_losses
            self._recorder = Recorder(
                run.certificate, self._basis, given_start=run.given_start, records_rates=records_rates
            )
        self._place = _Place(epoch_steps=steps)
        self._state: Any = None  # the end state of the last batch, for the next one if that continues
        self._started = run.started

    @property
    def network(self) -> SequenceModule[Any]:
        """What is trained."""
        return self.trainer.network

    def stop(self) -> None:
        """End training after this epoch; for callbacks."""
        self.ended_by = "callback"

    def run(self) -> None:
        """Train until the epochs, the seconds or the improvement are over, or Ctrl-C is pressed.

        Raises
        ------
        DivergenceError
            If the loss, the gradient or the weights become infinite, NaN or enormous. The network has the best weights
            until then.
        OSError
            If a checkpoint cannot be written; before the first step, where that can be known then. The network has the
            weights of this moment, and the checkpoints before are intact.
        ValueError
            If the run that is to be resumed had other options or other data.
        """
        self._begin()
        for callback in self._callbacks:
            callback.on_fit_begin(self)
        with CtrlC() as ctrl_c, progress_bar(self._run.verbose == 1) as bar:
            try:
                while self.ended_by is None and self._place.epoch < self.max_epochs:
                    self._run_epoch(ctrl_c, bar)
                if not self.interrupted:
                    bar.finish(self._last_message)
            except KeyboardInterrupt:  # a second Ctrl-C, or one that a handler of the user's turned into this
                self._end_by_interrupt()
        self.interrupted |= ctrl_c.pressed
        self.ended_by = self.ended_by or "epochs"
        self._keep(put_back=self._run.early_stopping)
        for callback in self._callbacks:
            callback.on_fit_end(self)

    def replay(
        self, state: Snapshot, epoch: int, steps: int, before: Sequence[int], rates: Sequence[float] | None
    ) -> tuple[Snapshot, bytes]:
        """Repeat an epoch of a run from the state before it.

        Parameters
        ----------
        state : Snapshot
            The state before.
        epoch : int
            Which one, counted from 0.
        steps : int
            How many of its batches the run did.
        before : sequence of int
            The steps of each epoch before it.
        rates : sequence of float, optional
            The learning rate of each step; None: as the run's schedule says.

        Returns
        -------
        state : Snapshot
            The state after it.
        order : bytes
            The hash of what its steps read, and of their learning rates.
        """
        restore_trainer(self.trainer, state)
        self._state = unpacked(state.info["carried"], state.tensors)
        known = before[-1] if before else self._data.steps()
        self._place = _Place(epoch=epoch, steps=sum(before), epoch_steps=known)
        order = NO_ORDER
        for place, batch in enumerate(itertools.islice(self._data.batches(epoch), steps)):
            if rates is None:
                self._rates.before_step(self._place.steps, self._done())
            else:
                self.trainer.lr = rates[place]
            order = next_order(order, batch, self.trainer.lr)
            self._step(batch)
        return self._snapshot(), order

    def _begin(self) -> None:
        """Go on from a checkpoint, or write what is to be written before the first step."""
        if self._checkpoints is not None:
            self._checkpoints.open()
            if self._run.resume:
                if self._resume(self._checkpoints):
                    return
            else:
                self._checkpoints.check_replaceable()
        if self._recorder is not None:
            self._recorder.begin(self._snapshot())
        if self._checkpoints is not None:
            self._checkpoints.write_first(self._checkpoint())

    def _run_epoch(self, ctrl_c: CtrlC, bar: Bar) -> None:
        place = self._place
        for batch in self._data.batches(place.epoch, place.batch):
            done = self._done()
            if done >= 1:
                self.ended_by = "seconds"
                break
            self._rates.before_step(place.steps, done)
            if self._recorder is not None:
                rate = self.trainer.lr
                self._step(batch)
                self._recorder.step(batch, rate)
            else:
                self._step(batch)
            bar.update(done, self._message)
            if ctrl_c.pressed:
                self._write_checkpoint()
                self._end_by_interrupt()
                return
            if self._checkpoints is not None and self._checkpoints.is_due(place.epoch, epoch_ended=False):
                self._write_checkpoint()
        else:
            if place.batch == 0:
                raise ValueError("data: expected at least one batch in an epoch, got none")
            place.epoch_steps = place.batch
            if place.epoch + 1 == self.max_epochs:
                self.ended_by = "epochs"
        if place.batch > 0:
            self._end_of_epoch()

    def _step(self, batch: Batch) -> None:
        place, trainer = self._place, self.trainer
        state = self._state if batch.continues else None
        try:
            loss, end = trainer.step(batch.x, batch.y, state, batch.lengths, batch.reset, batch.weights)
        except RuntimeError as error:
            if not str(error).endswith("; nothing was changed"):  # an error of the user's own loss, say
                raise
            raise self._diverged(str(error).removesuffix("; nothing was changed"), batch) from error
        self._state = end
        mean_loss = _mean(loss) / self._data.loss_unit
        place.last_norm = _mean(trainer.gradient_norm)
        place.batch += 1
        place.steps += 1
        place.counted += batch.count
        place.counted_in_epoch += batch.count
        place.loss_sum += mean_loss * batch.count
        place.norm_sum += place.last_norm
        if place.epoch == 0:
            place.largest_loss = max(place.largest_loss, abs(mean_loss))

    def _end_of_epoch(self) -> None:
        place = self._place
        self._record_segment()
        row = self._new_row()
        if self._run.validate is not None:
            row.update(self._run.validate())
        self.history.append(row)
        training_loss = row[self._data.loss_name]
        loss = training_loss if self._run.validate is None else row["validation_loss"]
        self._best.report(loss, place.epoch + 1, self.network)
        self._rates.after_epoch(loss)
        if training_loss > EXPLODED * place.largest_loss:
            raise self._diverged(f"its mean loss was {training_loss:.3g}", None)
        if self._run.early_stopping and self._best.over:
            self.ended_by = self.ended_by or "early_stopping"
        for callback in self._callbacks:
            callback.on_epoch_end(self, row)
        place.next_epoch()
        if self._checkpoints is not None and (
            self.ended_by is not None or self._checkpoints.is_due(place.epoch, epoch_ended=True)
        ):
            self._write_checkpoint()

    def _end_by_interrupt(self) -> None:
        self.interrupted = True
        self.ended_by = "interrupt"
        if self._place.batch > 0:
            self._record_segment()
            self.history.append(self._new_row())

    def _diverged(self, reason: str, batch: Batch | None) -> DivergenceError:
        """Put the best weights back and make the error that says so."""
        place = self._place
        self.ended_by = "divergence"
        if batch is not None and place.batch > 0:
            self._record_segment()
        self._keep(put_back=True)
        kept = (
            "the weights before it" if self._best.weights is None else f"those of epoch {self._best.epoch}, the best,"
        )
        number, samples = (None, None) if batch is None else (place.batch, batch.samples)
        # The norm that was refused, or else that of the last step; right after a checkpoint the trainer knows none.
        norm = _mean(self.trainer.gradient_norm) if self.trainer._core.gradient_norms else place.last_norm
        return DivergenceError(reason, place.epoch + 1, number, norm, samples, kept)

    def _keep(self, *, put_back: bool) -> None:
        """Give the network the weights that it will keep, and the certificate their hash."""
        best = put_back and self._best.put_back(self.network)
        if self._recorder is not None:
            self._recorder.end(self.network.state_dict(), self._best.epoch if best else None, str(self.ended_by))

    def _new_row(self) -> dict[str, float]:
        place, data = self._place, self._data
        return {
            "epoch": place.epoch + 1,
            "seconds": time.perf_counter() - self._started,
            data.counted: place.counted,
            data.loss_name: place.loss_sum / place.counted_in_epoch,
            "lr": self.trainer.lr,
            "gradient_norm": place.norm_sum / place.batch,
        }

    def _done(self) -> float:
        """Return the share of the run that is over before this step: of the epochs, or of the seconds if more."""
        place = self._place
        in_epoch = 0.0 if place.epoch_steps is None else min(place.batch / place.epoch_steps, 1.0)
        done = (place.epoch + in_epoch) / self.max_epochs
        if self._max_seconds is None:
            return done
        seconds = time.perf_counter() - self._started
        return max(done, seconds / self._max_seconds) if self._max_seconds > 0 else 1.0

    def _message(self) -> str:
        """Say where the run is, and how long it will take still."""
        place, done = self._place, self._done()
        parts = self._shown(place.epoch + 1, place.loss_sum / place.counted_in_epoch)
        if done > 0:
            seconds = time.perf_counter() - self._started
            parts.append(f"{_minutes(seconds * (1 - done) / done)} left")
        return "  ".join(parts)

    def _last_message(self) -> str:
        """Say what became of the run, and how long it took."""
        row = self.history[-1]
        parts = self._shown(int(row["epoch"]), row[self._data.loss_name])
        return "  ".join([*parts, _minutes(time.perf_counter() - self._started)])

    def _shown(self, epoch: int, loss: float) -> list[str]:
        """Give what a progress bar tells of the last epoch; of validation it tells what is known."""
        data = self._data
        speed = self._place.counted / (time.perf_counter() - self._started)
        parts = [f"epoch {epoch}", f"{loss:.3f} {data.loss_label}"]
        if self._run.validate is not None and self.history:
            parts.append(f"validation {self.history[-1]['validation_loss']:.3f}")
        return [*parts, f"{speed:,.0f} {data.counted}/s"]

    def _snapshot(self) -> Snapshot:
        """Copy the state of the trainer, and the state that the next batch may continue."""
        info, tensors = trainer_snapshot(self.trainer)
        return Snapshot({**info, "carried": packed(self._state, "carried", tensors)}, tensors)

    def _record_segment(self) -> None:
        if self._recorder is not None:
            self._recorder.end_segment(self._snapshot(), self._place.epoch + 1, self._place.batch)

    def _write_checkpoint(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.write(self._checkpoint(), self._place.epoch)

    def _checkpoint(self) -> Snapshot:
        state = self._snapshot()
        tensors = state.tensors | {f"best.{name}": value for name, value in (self._best.weights or {}).items()}
        info = {
            "basis": self._basis,
            "best": self._best.state_dict(),
            "certificate": None if self._recorder is None else self._recorder.state_dict(tensors),
            "ended_by": self.ended_by,
            "history": self.history,
            "place": dataclasses.asdict(self._place),
            "seconds": time.perf_counter() - self._started,
            "seed": self._run.seed,
            "trainer": state.info,
        }
        return Snapshot(info, tensors)

    def _resume(self, checkpoints: Checkpoints) -> bool:
        """Go on from the newest checkpoint. False: there is none."""
        for info, tensors in checkpoints.newest_first():
            check_resumable(info["basis"], self._basis)
            if self._recorder is not None:
                if info["certificate"] is None:
                    raise ValueError("certificate: expected a run that was recorded from its start, got another")
                self._recorder.load_state_dict(info["certificate"], tensors)
            restore_trainer(self.trainer, Snapshot(info["trainer"], tensors))
            self._state = unpacked(info["trainer"]["carried"], tensors)
            self._best.load_state_dict(info["best"], with_prefix("best.", tensors) or None)
            self._place = _Place(**info["place"])
            self.history = info["history"]
            self.ended_by = info["ended_by"]
            self._started = time.perf_counter() - info["seconds"]
            return True
        return False


def _minutes(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole // 60}:{whole % 60:02}"


def _mean(values: Any) -> float:
    """Give a number, or the mean over the members."""
    if isinstance(values, float):
        return values
    return math.fsum(np.ravel(values).tolist()) / np.size(values)
