"""The learning rate of each step of a run."""

import copy
from typing import Any

from latchwork.schedules import ReduceOnPlateau, Schedule, Warmup, half_cosine
from latchwork.training import Trainer

NAMES = ("warmup_cosine", "cosine", "constant")

WARM_UP = 0.1  # the share of the run in which "warmup_cosine" rises
WARM_UP_STEPS = 100  # the same where nobody knows how many steps the run has


class LearningRates:
    """Sets the trainer's learning rate before each step.

    Parameters
    ----------
    trainer : Trainer
        Its learning rate is the largest.
    schedule : str, Schedule or None
        "constant"; "cosine": falls to zero along half a cosine; "warmup_cosine": rises in equal steps over the first
        tenth of the run and then falls along half a cosine. A schedule of `latchwork.optim` takes the place of the
        trainer's learning rate, and is copied. None: the optimiser's own is left as it is.
    steps : int, optional
        Steps in the whole run. None: unknown; "warmup_cosine" then rises over the first 100 steps.
    """

    def __init__(self, trainer: Trainer[Any], schedule: str | Schedule | None, steps: int | None) -> None:
        if isinstance(schedule, str):
            if schedule not in NAMES:
                raise ValueError(f"lr_schedule: expected {', '.join(NAMES)} or a schedule, got {schedule!r}")
        elif schedule is not None and not isinstance(schedule, Schedule):
            raise TypeError(f"lr_schedule: expected a str or a schedule of latchwork.optim, got {schedule!r}")
        self._trainer = trainer
        self._shape = schedule if isinstance(schedule, str) else None
        self._steps = steps
        if isinstance(schedule, Schedule):
            trainer.lr = copy.deepcopy(schedule)
        self._start = 0.0 if self._shape is None else trainer.lr

    def before_step(self, step: int, done: float) -> None:
        """Set the learning rate of the step after ``step`` others, at which the share ``done`` of the run is over."""
        if self._shape is not None:
            self._trainer.lr = self._start * self._factor(self._shape, step, done)

    def after_epoch(self, loss: float) -> None:
        """Tell a schedule that waits for it how the epoch went."""
        plateau = self._plateau
        if plateau is not None:
            plateau.report(loss)

    @property
    def _plateau(self) -> ReduceOnPlateau | None:
        optimizer = self._trainer.optimizer
        schedule = None if isinstance(optimizer, tuple) else optimizer.schedule
        while isinstance(schedule, Warmup):
            schedule = schedule.then
        return schedule if isinstance(schedule, ReduceOnPlateau) else None

    @property
    def follows_losses(self) -> bool:
        """Whether the learning rate depends on what the epochs' losses were."""
        return self._plateau is not None

    def _factor(self, shape: str, step: int, done: float) -> float:
        if shape == "constant":
            return 1.0
        if shape == "cosine":
            return half_cosine(1.0, 0.0, done)
        rise = (step + 1) / WARM_UP_STEPS if self._steps is None else (done + 1 / self._steps) / WARM_UP
        return min(rise, 1.0) * half_cosine(1.0, 0.0, max(done - WARM_UP, 0.0) / (1.0 - WARM_UP))
