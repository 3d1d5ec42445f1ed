"""What `LSTMRegressor` and `LSTMClassifier` share: how they fit, run and are kept in files."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from latchwork import losses
from latchwork._random import Random
from latchwork.estimators.batches import SequenceBatches
from latchwork.estimators.estimator import not_fitted_error
from latchwork.estimators.fit_loop import FitLoop, Run
from latchwork.estimators.holdout import held_out
from latchwork.estimators.inputs import read, read_fit
from latchwork.estimators.prediction import run_network
from latchwork.estimators.prediction_stream import PredictionStream
from latchwork.estimators.preparation import fit_scale, missing_features
from latchwork.estimators.sequence_network import (
    InputNumbers,
    NetworkSeeds,
    OutputNumbers,
    new_network,
    predicting_network,
    training_network,
)
from latchwork.estimators.sequence_parameters import SequenceParameters
from latchwork.optim import AdamW
from latchwork.training import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from latchwork._arrays import Array
    from latchwork._writing import FilePath
    from latchwork.estimators.inputs import Layout, Schema
    from latchwork.estimators.sequences import Sequences
    from latchwork.estimators.targets import Targets
    from latchwork.network import Network


class Examples(NamedTuple):
    """Sequences and their targets."""

    sequences: Sequences
    targets: Targets

    def take(self, samples: Array) -> Examples:
        """Take the sequences of these numbers, in this order."""
        return Examples(self.sequences.take(samples), self.targets.take(samples))


@dataclass(frozen=True)
class Learned:
    """What fit learned beside the weights; predictions and files need it."""

    schema: Schema
    outputs: OutputNumbers
    missing: str
    form: Any  # what targets look like: a regressor's `TargetForm`, a classifier's classes


@dataclass(frozen=True)
class Fitting:
    """A training that is about to begin."""

    learned: Learned
    run: Run
