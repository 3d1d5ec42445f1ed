"""What `LSTMRegressor` and `LSTMClassifier` share: how they fit, run and are kept in files."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from latchwork import files
from latchwork._random import Random
from latchwork.estimators.batches import SequenceBatches
from latchwork.estimators.estimator import not_fitted_error
from latchwork.estimators.examples import Examples, check_no_gaps
from latchwork.estimators.fit_loop import FitLoop, Run
from latchwork.estimators.holdout import held_out
from latchwork.estimators.input_numbers import input_numbers
from latchwork.estimators.inputs import read, read_fit
from latchwork.estimators.prediction import run_network
from latchwork.estimators.prediction_stream import PredictionStream, step_reader
from latchwork.estimators.preparation import missing_features
from latchwork.estimators.schema import Schema
from latchwork.estimators.sequence_network import (
    NetworkSeeds,
    OutputNumbers,
    new_network,
    predicting_network,
    training_network,
)
from latchwork.estimators.sequence_parameters import SequenceParameters
from latchwork.estimators.sklearn_tags import sklearn_tags
from latchwork.estimators.stopping import DivergenceError
from latchwork.estimators.stored_parameters import restored, stored
from latchwork.estimators.targets import target_columns
from latchwork.estimators.validation import Validation
from latchwork.network import Network
from latchwork.optim import AdamW
from latchwork.training import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latchwork._arrays import Array
    from latchwork._writing import FilePath
    from latchwork.estimators.layout import Layout
    from latchwork.estimators.targets import Targets

_OUTPUTS = ("default", "pandas", "polars")


@dataclasses.dataclass(frozen=True)
class Learned:
    """What fit learned beside the weights."""

    schema: Schema
    outputs: OutputNumbers
    missing: str
    answers: Any  # what targets look like: a regressor's `Answers`, a classifier's classes


@dataclasses.dataclass(frozen=True)
class Fitting:
    """A training that is about to begin."""

    learned: Learned
    run: Run


@dataclasses.dataclass(frozen=True)
class Going:
    """Where ``partial_fit`` goes on."""

    seed: int
    epochs: int  # that are over
    trainer: Trainer[Any]


class SequenceEstimator(SequenceParameters):
    """The base of `LSTMRegressor` and `LSTMClassifier`."""

    _kind: ClassVar[str]  # as files name it, and scikit-learn

    network_: Network
    history_: list[dict[str, float]]
    n_iter_: int
    interrupted_: bool
    missing_: str
    n_features_in_: int
    feature_names_in_: Array
    _learned: Learned
    _going: Going | None

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        static: Any = None,
        resume: bool = False,
        certificate: FilePath | None = None,
    ) -> Self:
        """Train, from new weights unless ``warm_start`` says otherwise.

        Parameters
        ----------
        X : array_like, data frame or list
            The sequences; see the class.
        y : array_like, or str or list of str
            The targets; see the class. The name of a column, or of several, if X is a data frame in long form.
        sample_weight : array_like, optional
            How much each sequence counts, at least 0: (n_samples,); or each step, in the form of y. None: all alike.
        static : array_like or data frame, optional
            Features that stay the same over a sequence: (n_samples, n_static_features). They are read at each step.
        resume : bool, default False
            Whether to go on from the newest checkpoint in ``checkpoint_dir``, if there is one. The data and the
            parameters must be the same; the weights at the end are, bit for bit, those of a training that was never
            stopped.
        certificate : path, optional
            Where to write a certificate of the training, which ``latchwork verify`` checks.

        Returns
        -------
        self
            On an error it is the model that it was before, except where ``Raises`` says otherwise.

        Raises
        ------
        ValueError
            If a parameter is out of range, X and y do not fit together, or X holds infinity or a NaN that is refused.
        TypeError
            If something is of a wrong type.
        latchwork.estimators.stopping.DivergenceError
            If the loss is NaN or explodes. The model has the best weights until then.
        OSError
            If a checkpoint or the certificate cannot be written. The model has the weights until then.
        """
        started = time.perf_counter()
        self._check_parameters()
        seed = Random(self.random_state).seed()
        fitting = self._new_fitting(X, y, sample_weight, static, seed=seed, started=started)
        loop = FitLoop(fitting.run)
        try:
            loop.run()
        except (DivergenceError, OSError):
            self._keep_run(fitting, loop)
            raise
        self._keep_run(fitting, loop)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, static: Any) -> Self:
        """Read the data once, from where the last call ended."""
        started = time.perf_counter()
        self._check_parameters()
        before = getattr(self, "_going", None)
        if before is None:
            going = Going(Random(self.random_state).seed(), 0, None)
        else:
            # A copy, so that after an error the model is what it was.
            going = Going(before.seed, before.epochs, copy.deepcopy(before.trainer))
        fitting = self._new_fitting(X, y, sample_weight, static, seed=going.seed, started=started, going=going)
        loop = FitLoop(fitting.run)
        loop.run()
        history = [*getattr(self, "history_", ())]
        rows = [{**row, "epoch": len(history) + 1} for row in loop.history]
        self._keep(fitting.learned, loop.network, [*history, *rows], loop.interrupted)
        self._going = Going(going.seed, going.epochs + 1, loop.trainer)
        return self

    def stream(
        self, batch_size: int | None = None, static: Any = None, *, method: str = "predict"
    ) -> PredictionStream:
        """Predict step by step, from raw features, what ``predict`` gives for the steps so far, bit for bit.

        Parameters
        ----------
        batch_size : int, optional
            How many sequences run side by side. None: one, and arrays have no axis of rows.
        static : array_like, optional
            The static features, if the model has some: (n_static_features,), with a ``batch_size`` (batch_size,
            n_static_features).
        method : str, default "predict"
            What a step gives: what the method of this name does. A classifier has "predict_proba" too.

        Returns
        -------
        PredictionStream

        Raises
        ------
        ValueError
            If the model is bidirectional, ``static`` does not fit, or there is no such method.
        NotFittedError
            If there is no fitted model.
        """
        self._check_fitted()
        finish = self._finishing(method)
        rows = 1 if batch_size is None else batch_size
        if static is not None and batch_size is None:
            static = np.asarray(static)[np.newaxis]
        reader = step_reader(self._learned.schema, rows, static, self._learned.missing == "refuse")
        return PredictionStream(self.network_, reader, finish, batch_size)

    def save(self, path: FilePath) -> None:
        """Write the model to a ``.safetensors`` file that `latchwork.load` reads.

        The file holds the parameters, the weights and all else that predictions need. A parameter that only ``fit``
        reads and no file can hold is left out, and has its default in the loaded model: data for validation, callbacks,
        a loss that is a function. What ``partial_fit`` needs to go on is left out too; it begins with new moments.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file. One of that name is replaced once the new one is complete, which then has its mode. If the path is
            a link, it stays one, and the file that it leads to is replaced.

        Raises
        ------
        OSError
            If the file cannot be written, or if something is there that is no regular file: a folder, a FIFO, a device.
        NotFittedError
            If there is no fitted model.
        """
        self._check_fitted()
        files.save(self, path)

    def set_output(self, *, predict: str | None = None) -> Self:
        """Choose the form of predictions.

        Parameters
        ----------
        predict : {"default", "pandas", "polars"}, optional
            "default": arrays. "pandas", "polars": a Series or data frame, in pandas with the index of X if it is a data
            frame. None: nothing changes.

        Returns
        -------
        self
        """
        if predict is not None:
            if predict not in _OUTPUTS:
                raise ValueError(f"predict: expected {', '.join(map(repr, _OUTPUTS))} or None, got {predict!r}")
            self._sklearn_output_config = {"predict": predict}  # scikit-learn's clone copies what has this name
        return self

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what this is."""
        return sklearn_tags(self._kind)

    # What the two classes tell apart.

    def _read_targets(self, y: Any, layout: Layout, sample_weight: Any, answers: Any) -> tuple[Targets, Any]:
        """Read y, as fit learned to if it did; give the targets and what targets look like."""
        raise NotImplementedError

    def _prepared(self, targets: Targets, outputs: OutputNumbers) -> Targets:
        """Give targets in the units of the network that is trained."""
        raise NotImplementedError

    def _weighted(self, targets: Targets) -> Targets:
        """Give the targets that are trained on the weights of their classes."""
        return targets

    def _new_outputs(self, targets: Targets, answers: Any) -> OutputNumbers:
        """Find out what the last layers are made of."""
        raise NotImplementedError

    def _loss(self, answers: Any) -> tuple[Any, dict[str, Any]]:
        """Give the loss and its options, as a trainer takes them."""
        raise NotImplementedError

    def _score_of(self, output: Array, targets: Targets) -> float:
        """Say how good an output (M, rows, features) is."""
        raise NotImplementedError

    def _finishing(self, method: str) -> Callable[[Array], Array]:
        """Give what makes predictions of an output (M, ..., features). ValueError if there is no such method."""
        raise NotImplementedError

    def _learn(self, answers: Any) -> None:
        """Set the attributes that say what targets look like."""
        raise NotImplementedError

    # Fitting.

    def _new_run(self, X: Any, y: Any, sample_weight: Any = None, *, static: Any = None, seed: int) -> Run:
        """Make the run that ``fit`` makes with this seed, to replay it."""
        return self._new_fitting(X, y, sample_weight, static, seed=seed, started=time.perf_counter()).run

    def _new_fitting(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        static: Any,
        *,
        seed: int,
        started: float,
        going: Going | None = None,
    ) -> Fitting:
        """Read the data, and build all that is trained; nothing of this estimator changes."""
        random = Random(seed)
        network_seeds = NetworkSeeds.drawn(random)
        trainer_seed, order_seed, split_seed = random.seed(), random.seed(), random.seed()
        goes_on = hasattr(self, "network_") and (self.warm_start or going is not None)
        before = self._learned if goes_on else None

        examples, schema, answers, layout = self._read_examples(X, y, sample_weight, static, before)
        training, validation = self._split(examples, schema, answers, split_seed)
        numbers = training.counted_samples()
        training = training.take(numbers)
        if before is None:
            gaps = missing_features(training.sequences)
            missing = self.missing or ("forward" if gaps else "refuse")
            outputs = self._new_outputs(training.targets, answers)
            learned = Learned(schema, outputs, missing, answers)
        else:
            learned = before
        if learned.missing == "refuse":
            check_no_gaps(examples.sequences, layout)
        if going is not None and going.trainer is not None:
            trainer = going.trainer
        elif before is None:
            inputs = input_numbers(training.sequences, schema, self.scale, learned.missing, gaps)
            trainer = self._new_trainer(new_network(self, inputs, learned.outputs, network_seeds), learned, trainer_seed)
        else:
            trainer = self._new_trainer(training_network(self.network_, learned.outputs), learned, trainer_seed)
        targets = self._prepared(self._weighted(training.targets), learned.outputs)
        data = SequenceBatches(
            training.sequences,
            targets,
            batch_size=self.batch_size,
            seed=order_seed,
            shuffle=self.shuffle,
        )
        run = Run(
            trainer=trainer,
            data=data,
            max_epochs=self.max_epochs,
            max_seconds=self.max_seconds,
            started=started,
            validate=None if validation is None else self._validation(trainer.network, validation, learned),
            lr_schedule=self.lr_schedule,
            early_stopping=self.early_stopping,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            callbacks=self.callbacks,
            verbose=int(self.verbose),
        )
        return Fitting(learned, run)
