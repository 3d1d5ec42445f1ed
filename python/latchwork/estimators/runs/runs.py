"""What an estimator asks of the loop that fits it: what to train, on what, for how long, and what to keep."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    reset: Any = None  # before which steps the state restarts


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
        See `latchwork.estimators.runs.callbacks`.
    verbose : int or bool
        1: a progress bar on a terminal or in a notebook; 2: instead, a row for each epoch on standard output.
    seed : int
        What everything random in the run follows from.
    fingerprint : mapping
        The estimator's options that decide what is learned, see `latchwork.estimators.runs.fingerprints.options_of`.
    given_start : bool
        Whether training goes on from weights that do not follow from the seed.
    checkpoint_dir, checkpoint_every
        See `latchwork.estimators.runs.checkpoints.Checkpoints`; no folder: no checkpoints.
    resume : bool
        Whether to go on from the newest checkpoint, if there is one.
    certificate : str, bytes or os.PathLike, optional
        See `latchwork.estimators.runs.certificate.Recorder`.
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
    seed: int = 0
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    given_start: bool = False
    checkpoint_dir: Any = None
    checkpoint_every: int | float = 1
    resume: bool = False
    certificate: Any = None
