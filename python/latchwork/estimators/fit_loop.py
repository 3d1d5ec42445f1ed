"""The loop that fits a network: epochs of training steps, until the epochs, the seconds or the improvement are over."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from latchwork import _core
from latchwork._arrays import integer, real_number
from latchwork._progress import ProgressBar
from latchwork._sequence import SequenceModule
from latchwork.estimators.callbacks import callbacks_of
from latchwork.estimators.interruption import CtrlC
from latchwork.estimators.learning_rates import LearningRates
from latchwork.estimators.stopping import EXPLODED, BestWeights, DivergenceError
from latchwork.schedules import Schedule
from latchwork.training import Trainer


@dataclass(slots=True)
class Batch:
    """What one step of training reads; the first fields are those of `latchwork.Trainer.step`."""

    x: Any
    y: Any
    lengths: Any = None
    weights: Any = None
    continues: bool = False  # start from the end state of the batch before
    count: int = 0  # how many things it reads: samples, steps, characters
    samples: Any = None  # the numbers of the samples, which are named if the loss is not finite


class TrainingData(Protocol):
    """What a `FitLoop` trains on, and the words it is reported in."""

    counted: str  # the plural of what a step reads, such as "characters"
    loss_name: str  # the name of the loss in the history
    loss_label: str  # the same beside the progress bar
    loss_unit: float  # the loss is reported in this unit

    def steps(self) -> int | None:
        """Count the batches of an epoch. None: unknown before the first epoch has been read."""

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from this one on.

        They depend on the seed, the data and the epoch alone, so that any epoch can be replayed.
        """

    def feed(self, update: Callable[[Any], object]) -> None:
        """Pass all the data, as bytes, to ``update`` of a hash."""


@dataclass(kw_only=True)
class Run:
    """What an estimator asks of `FitLoop`.

    Attributes
    ----------
    trainer : Trainer
        What makes the steps; its learning rate is the largest.
    data : TrainingData
        What it trains on.
    max_epochs : int
        How many times to read the data at most.
    max_seconds : float, optional
        No step is begun after this time.
    started : float
        When the time began, by `time.perf_counter`; by default now.
    validate : callable, optional
        Gives "validation_loss", and whatever else the history is to have, of the network as it is at the end of an
        epoch.
    lr_schedule : str, Schedule or None
        "warmup_cosine", "cosine", "constant" or a schedule of `latchwork.optim`; None: the optimiser's own.
    early_stopping : bool
        Whether to end when ``validation_loss`` has not been better by ``tol`` for ``n_iter_no_change`` epochs, and to
        put the weights of the best epoch back at the end. It needs ``validate``.
    callbacks : sequence of Callback or callable, or one of them
        See `latchwork.estimators.callbacks`.
    verbose : int or bool
        1: a progress bar on a terminal; 2: a row for each epoch too, on standard output.
    """

    trainer: Trainer[Any]
    data: TrainingData
    max_epochs: int
    max_seconds: float | None = None
    started: float = field(default_factory=time.perf_counter)
    validate: Callable[[], Mapping[str, float]] | None = None
    lr_schedule: str | Schedule | None = "warmup_cosine"
    early_stopping: bool = False
    n_iter_no_change: int = 10
    tol: float = 1e-4
    callbacks: Any = None
    verbose: int = 0


@dataclass
class _Place:
    """Where a run is: all that changes from step to step but the trainer's own state."""

    epoch: int = 0  # counted from 0
    batch: int = 0  # batches done in this epoch
    steps: int = 0  # batches done in all
    counted: int = 0  # things read in all
    state: Any = None  # the end state of the last batch, for the next one if that continues
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
        Whether Ctrl-C ended the training. It ends after a batch; a second Ctrl-C ends it at once.
    ended_by : str or None
        "epochs", "seconds", "early_stopping", "callback" or "interrupt"; None while it runs or after an error.
    """

    def __init__(self, run: Run) -> None:
        self.max_epochs = integer("max_epochs", run.max_epochs, 0)
        self._max_seconds = None if run.max_seconds is None else real_number("max_seconds", run.max_seconds)
        if run.early_stopping and run.validate is None:
            raise ValueError("early_stopping: expected data to validate on, got none")
        self.history: list[dict[str, float]] = []
        self.ended_by: str | None = None
        self.trainer = run.trainer
        self._run = run
        self._data = run.data
        self._callbacks = callbacks_of(run.callbacks)
        self._best = BestWeights(run.n_iter_no_change, run.tol)
        self._epoch_steps = run.data.steps()
        total = None if self._epoch_steps is None else self._epoch_steps * self.max_epochs
        self._rates = LearningRates(run.trainer, run.lr_schedule, total)
        self._place = _Place()
        self._started = run.started
        self._largest_loss = 0.0  # of the batches of the first epoch
        self._last_norm = math.nan

    @property
    def network(self) -> SequenceModule[Any]:
        """What is trained."""
        return self.trainer.network

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training."""
        return self.ended_by == "interrupt"

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
        """
        for callback in self._callbacks:
            callback.on_fit_begin(self)
        with CtrlC() as ctrl_c, ProgressBar(self._run.verbose > 0) as bar:
            try:
                while self.ended_by is None and self._place.epoch < self.max_epochs:
                    self._run_epoch(ctrl_c, bar)
            except KeyboardInterrupt:  # a second Ctrl-C, or one that a handler of the user's turned into this
                self._end_of_interrupted_epoch()
        self.ended_by = self.ended_by or "epochs"
        if self._run.early_stopping:
            self._best.put_back(self.network)
        for callback in self._callbacks:
            callback.on_fit_end(self)

    def _run_epoch(self, ctrl_c: CtrlC, bar: ProgressBar) -> None:
        place = self._place
        for batch in self._data.batches(place.epoch, place.batch):
            done = self._done()
            if done >= 1:
                self.ended_by = "seconds"
                break
            self._rates.before_step(place.steps, done)
            self._step(batch)
            bar.update(done, self._message)
            if ctrl_c.pressed:
                self._end_of_interrupted_epoch()
                return
        else:
            if place.batch == 0:
                raise ValueError("data: expected at least one batch in an epoch, got none")
            self._epoch_steps = place.batch
        if place.batch > 0:
            self._end_of_epoch()
        place.next_epoch()

    def _step(self, batch: Batch) -> None:
        place, trainer = self._place, self.trainer
        state = place.state if batch.continues else None
        try:
            loss, end = trainer.step(batch.x, batch.y, state, batch.lengths, None, batch.weights)
        except RuntimeError as error:
            if not str(error).endswith("; nothing was changed"):  # an error of the user's own loss, say
                raise
            raise self._diverged(str(error).removesuffix("; nothing was changed"), batch) from error
        place.state = end
        mean_loss, norm = _mean(loss) / self._data.loss_unit, _mean(self._gradient_norm())
        place.batch += 1
        place.steps += 1
        place.counted += batch.count
        place.counted_in_epoch += batch.count
        place.loss_sum += mean_loss * batch.count
        place.norm_sum += norm
        self._last_norm = norm
        if place.epoch == 0:
            self._largest_loss = max(self._largest_loss, abs(mean_loss))

    def _end_of_epoch(self) -> None:
        row = self._new_row()
        if self._run.validate is not None:
            row.update(self._run.validate())
        self.history.append(row)
        place = self._place
        loss = row["validation_loss"] if self._run.validate is not None else row[self._data.loss_name]
        self._best.report(loss, place.epoch + 1, self.network)
        self._rates.after_epoch(loss)
        if row[self._data.loss_name] > EXPLODED * self._largest_loss:
            raise self._diverged(f"a mean loss of {row[self._data.loss_name]:.3g}", None)
        if self._run.early_stopping and self._best.over and self.ended_by is None:
            self.ended_by = "early_stopping"
        for callback in self._callbacks:
            callback.on_epoch_end(self, row)

    def _end_of_interrupted_epoch(self) -> None:
        self.ended_by = "interrupt"
        if self._place.batch > 0:
            self.history.append(self._new_row())

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

    def _diverged(self, reason: str, batch: Batch | None) -> DivergenceError:
        """Put the best weights back and make the error that says so."""
        place = self._place
        kept = (
            f"the weights of epoch {self._best.epoch}, the best,"
            if self._best.put_back(self.network)
            else "its weights"
        )
        return DivergenceError(
            reason,
            place.epoch + 1,
            None if batch is None else place.batch,
            self._last_norm,
            None if batch is None else batch.samples,
            kept,
        )

    def _gradient_norm(self) -> Any:
        return _core.gradient_norms([self.trainer.gradients.flat], 1)

    def _done(self) -> float:
        """Return the share of the run that is over before this step: of the epochs, or of the seconds if more."""
        place = self._place
        in_epoch = 0.0 if self._epoch_steps is None else min(place.batch / self._epoch_steps, 1.0)
        done = (place.epoch + in_epoch) / self.max_epochs
        if self._max_seconds is None:
            return done
        seconds = time.perf_counter() - self._started
        return max(done, seconds / self._max_seconds) if self._max_seconds > 0 else 1.0

    def _message(self) -> str:
        place, data = self._place, self._data
        seconds = time.perf_counter() - self._started
        parts = [
            f"epoch {place.epoch + 1}",
            f"{place.loss_sum / place.counted_in_epoch:.3f} {data.loss_label}",
            f"{place.counted / seconds:,.0f} {data.counted}/s",
        ]
        if self._run.validate is not None and self.history:
            parts.insert(2, f"validation {self.history[-1]['validation_loss']:.3f}")
        done = self._done()
        if done > 0:
            left = math.ceil(seconds * (1 - done) / done)
            parts.append(f"{left // 60}:{left % 60:02} left")
        return "  ".join(parts)


def _mean(values: Any) -> float:
    """Give a number, or the mean over the members."""
    if isinstance(values, float):
        return values
    return math.fsum(np.ravel(values).tolist()) / np.size(values)
