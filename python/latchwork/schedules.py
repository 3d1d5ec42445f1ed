"""Schedules: learning rates that change from step to step, for the ``lr`` of any optimiser.

``lw.optim.Adam(network, lr=lw.optim.schedules.Cosine(1e-3, steps=1000))``. A schedule is called with the number of
steps that the optimiser has taken and gives the learning rate of the next one. It is saved and resumed with the
optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from latchwork import _core
from latchwork._arrays import integer, real_number

__all__ = ["Constant", "Cosine", "OneCycle", "ReduceOnPlateau", "Schedule", "Step", "Warmup"]


class Schedule:
    """What all schedules share."""

    def __call__(self, step: int) -> float:
        """Give the learning rate of the step after ``step`` others."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Copy the options, and what changes while training."""
        saved = {
            name: value.state_dict() if isinstance(value, Schedule) else value for name, value in vars(self).items()
        }
        return {"kind": type(self).__name__} | saved

    def __eq__(self, other: object) -> bool:
        """Compare kind, options and state."""
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show options and state."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Constant(Schedule):
    """The same learning rate at every step.

    Parameters
    ----------
    lr : float
        At least 0.
    """

    def __init__(self, lr: float) -> None:
        self.lr = real_number("lr", lr)

    def __call__(self, step: int) -> float:
        """Give the learning rate."""
        return self.lr


class Step(Schedule):
    """A learning rate that is multiplied by ``factor`` after every ``every`` steps, as PyTorch's ``StepLR``.

    Parameters
    ----------
    lr : float
        Of the first steps, at least 0.
    every : int
        At least 1.
    factor : float, default 0.1
        At least 0.
    """

    def __init__(self, lr: float, every: int, factor: float = 0.1) -> None:
        self.lr = real_number("lr", lr)
        self.every = integer("every", every, 1)
        self.factor = real_number("factor", factor)

    def __call__(self, step: int) -> float:
        """Give the learning rate of the step after ``step`` others."""
        return self.lr * _core.pow(self.factor, step // self.every)


class Cosine(Schedule):
    """A learning rate that falls along half a cosine, as PyTorch's ``CosineAnnealingLR``, and then stays.

    Parameters
    ----------
    lr : float
        Of the first step, at least 0.
    steps : int
        After how many steps it has fallen, at least 1.
    final_lr : float, default 0.0
        To what it falls, at least 0.
    """

    def __init__(self, lr: float, steps: int, final_lr: float = 0.0) -> None:
        self.lr = real_number("lr", lr)
        self.steps = integer("steps", steps, 1)
        self.final_lr = real_number("final_lr", final_lr)

    def __call__(self, step: int) -> float:
        """Give the learning rate of the step after ``step`` others."""
        return half_cosine(self.lr, self.final_lr, step / self.steps)


class OneCycle(Schedule):
    """A learning rate that rises and then falls, each along half a cosine, as PyTorch's ``OneCycleLR``.

    Parameters
    ----------
    max_lr : float
        The largest, at least 0.
    steps : int
        After how many steps the cycle is over, at least 2; then the last learning rate stays.
    rising : float, default 0.3
        The share of the steps in which it rises, above 0 and below 1.
    initial_factor : float, default 1 / 25
        The first learning rate is this multiple of the largest.
    final_factor : float, default 1 / 250000
        The last one is this multiple of the largest.

    Notes
    -----
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018.
    """

    def __init__(
        self,
        max_lr: float,
        steps: int,
        rising: float = 0.3,
        initial_factor: float = 1 / 25,
        final_factor: float = 1 / 250000,
    ) -> None:
        self.max_lr = real_number("max_lr", max_lr)
        self.steps = integer("steps", steps, 2)
        self.rising = real_number("rising", rising, 0.0, 1.0)
        self.initial_factor = real_number("initial_factor", initial_factor)
        self.final_factor = real_number("final_factor", final_factor)
        if not 0.0 < self.rising < 1.0:
            raise ValueError(f"rising: expected more than 0 and less than 1, got {rising}")

    def __call__(self, step: int) -> float:
        """Give the learning rate of the step after ``step`` others."""
        top, last = self.rising * self.steps - 1.0, self.steps - 1.0
        if step <= top:
            return half_cosine(self.max_lr * self.initial_factor, self.max_lr, step / top if top > 0.0 else 1.0)
        return half_cosine(self.max_lr, self.max_lr * self.final_factor, (step - top) / (last - top))


class Warmup(Schedule):
    """A learning rate that rises in equal steps to the first one of another schedule, which then follows.

    Parameters
    ----------
    then : float or Schedule
        A learning rate, or a schedule, which begins after the warm-up.
    steps : int
        How long it rises, at least 1: step k, counted from 0, has ``(k + 1) / (steps + 1)`` of the first learning rate.
    """

    def __init__(self, then: float | Schedule, steps: int) -> None:
        self.then = then if isinstance(then, Schedule) else Constant(real_number("then", then))
        self.steps = integer("steps", steps, 1)

    def __call__(self, step: int) -> float:
        """Give the learning rate of the step after ``step`` others."""
        if step >= self.steps:
            return self.then(step - self.steps)
        return self.then(0) * ((step + 1) / (self.steps + 1))


class ReduceOnPlateau(Schedule):
    """A learning rate that falls when a loss does not, as PyTorch's ``ReduceLROnPlateau``.

    Call ``schedule.report(loss)`` once an epoch, say.

    Parameters
    ----------
    lr : float
        The first, at least 0.
    factor : float, default 0.1
        By what it is multiplied, at least 0 and below 1.
    patience : int, default 10
        After how many reports without improvement it stays as it is; at the next one it falls.
    threshold : float, default 1e-4
        A loss is an improvement if it is below ``(1 - threshold)`` times the best one.
    cooldown : int, default 0
        How many reports after a fall are not counted.
    min_lr : float, default 0.0
        It does not fall below.
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.lr = real_number("lr", lr)
        self.factor = real_number("factor", factor)
        if self.factor >= 1.0:
            raise ValueError(f"factor: expected less than 1, got {factor}")
        self.patience = integer("patience", patience, 0)
        self.threshold = real_number("threshold", threshold)
        self.cooldown = integer("cooldown", cooldown, 0)
        self.min_lr = real_number("min_lr", min_lr)
        self.best = math.inf
        self.bad_reports = 0
        self.cooling = 0

    def report(self, loss: float) -> None:
        """Take note of a loss.

        Parameters
        ----------
        loss : float
            NaN is no improvement.
        """
        if float(loss) < self.best * (1.0 - self.threshold) or (self.best == math.inf and loss < math.inf):
            self.best = float(loss)
            self.bad_reports = 0
        else:
            self.bad_reports += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad_reports = 0
        if self.bad_reports > self.patience:
            self.lr = max(self.lr * self.factor, self.min_lr)
            self.cooling = self.cooldown
            self.bad_reports = 0

    def __call__(self, step: int) -> float:
        """Give the present learning rate."""
        return self.lr

    def _restore(self, best: Any, bad_reports: Any, cooling: Any) -> None:
        """Take over the reports of a saved schedule. Before the first report the best loss is infinity."""
        if not isinstance(best, float) or math.isnan(best):
            raise ValueError(f"best: expected a loss or infinity, got {best!r}")
        self.best = best
        self.bad_reports = integer("bad_reports", bad_reports, 0)
        self.cooling = integer("cooling", cooling, 0)


_SCHEDULES = {schedule.__name__: schedule for schedule in (Constant, Step, Cosine, OneCycle, Warmup, ReduceOnPlateau)}


def half_cosine(start: float, end: float, done: float) -> float:
    """Give the place between start and end of a half cosine of which the share ``done`` is over, at most all of it."""
    return end + (start - end) * (0.5 * (1.0 + _core.cos(math.pi * min(done, 1.0))))


def schedule_of(state_dict: Any) -> Schedule:
    """Make the schedule that gave a state. ValueError if there is none such."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"schedule: expected a mapping, got {type(state_dict).__name__}")
    values = dict(state_dict)
    kind = values.pop("kind", None)
    if kind not in _SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(_SCHEDULES)}, got {kind!r}")
    values = {name: schedule_of(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    changing: dict[str, Any] = {}
    if kind == "ReduceOnPlateau":
        changing = {name: values.pop(name, None) for name in ("best", "bad_reports", "cooling")}
    try:
        schedule = _SCHEDULES[kind](**values)
    except TypeError as error:
        raise ValueError(f"schedule: expected the options of {kind}, got {', '.join(values)}") from error
    if isinstance(schedule, ReduceOnPlateau):
        schedule._restore(**changing)
    return schedule
