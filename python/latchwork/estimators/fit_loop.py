"""The loop that fits a network: epochs of training steps, until the epochs or the seconds are over."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from latchwork._progress import ProgressBar
from latchwork.schedules import half_cosine
from latchwork.training import Trainer


class TrainingData(Protocol):
    """What a `FitLoop` trains on, and the words it is reported in."""

    counted: str  # the plural of what a step reads, such as "characters"
    loss_name: str  # the name of the loss in the history
    loss_label: str  # the same beside the progress bar
    loss_unit: float  # the loss is reported in this unit

    @property
    def steps(self) -> int:
        """Training steps in an epoch."""

    def epoch(self, trainer: Trainer[Any]) -> Iterator[tuple[float, int]]:
        """Make one step of training each time that it is asked; yield the loss and how many things the step read."""


class FitLoop:
    """One run over the epochs, and what is known of it at any moment.

    The learning rate falls from the trainer's own to zero along half a cosine while the epochs or seconds run out.

    Parameters
    ----------
    trainer : Trainer
        What makes the steps; its learning rate is the first step's.
    data : TrainingData
        What it trains on.
    max_epochs : int
        How many times to read the data at most.
    max_seconds : float, optional
        No step is begun after this time.
    started : float
        When the time began, by `time.perf_counter`.

    Attributes
    ----------
    history : list of dict
        One for each epoch: ``epoch``, ``seconds`` since the start, what was counted in all, and the mean loss.
    interrupted : bool
        Whether Ctrl-C ended the training. It ends between two steps.
    """

    def __init__(
        self, trainer: Trainer[Any], data: TrainingData, *, max_epochs: int, max_seconds: float | None, started: float
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.interrupted = False
        self._trainer = trainer
        self._data = data
        self._lr = trainer.lr
        self._max_epochs = max_epochs
        self._max_seconds = max_seconds
        self._started = started
        self._counted = 0

    def run(self, bar: ProgressBar) -> None:
        """Train until the epochs or the seconds are over, or Ctrl-C is pressed."""
        try:
            for epoch in range(self._max_epochs):
                if not self._run_epoch(epoch, bar):
                    return
        except KeyboardInterrupt:
            self.interrupted = True

    def _run_epoch(self, epoch: int, bar: ProgressBar) -> bool:
        """Return whether the epoch came to its end before the seconds were over."""
        results = self._data.epoch(self._trainer)
        total = 0.0
        counted = 0
        for step in range(self._data.steps):
            done = self._done(epoch, step)
            if done >= 1:
                return False
            self._trainer.lr = learning_rate(self._lr, done)
            loss, count = next(results)
            total += loss / self._data.loss_unit * count
            counted += count
            self._counted += count
            if step == 0:
                self.history.append({"epoch": epoch + 1})
            seconds = time.perf_counter() - self._started
            mean = total / counted
            self.history[-1].update({"seconds": seconds, self._data.counted: self._counted, self._data.loss_name: mean})
            rate = f"{self._counted / seconds:,.0f} {self._data.counted}/s"
            bar.update(done, f"epoch {epoch + 1}  {mean:.3f} {self._data.loss_label}  {rate}")
        return True

    def _done(self, epoch: int, step: int) -> float:
        """Return the share of the training that is over before this step: of the epochs, or of the seconds if more."""
        done = (epoch * self._data.steps + step) / (self._max_epochs * self._data.steps)
        if self._max_seconds is None:
            return done
        seconds = time.perf_counter() - self._started
        return max(done, seconds / self._max_seconds) if self._max_seconds > 0 else 1.0


def learning_rate(start: float, done: float) -> float:
    """Learning rate after the share ``done`` of the training: half a cosine from ``start`` to zero."""
    return half_cosine(start, 0.0, done)
