"""What `LSTMRegressor` and `LSTMClassifier` share: fitting, running, files, and scikit-learn's habits."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from latchwork import files
from latchwork._arrays import integer
from latchwork._random import seed_of
from latchwork.estimators.data.examples import check_no_gaps
from latchwork.estimators.data.layout import OUTPUTS
from latchwork.estimators.data.schema import Schema
from latchwork.estimators.estimator import not_fitted_error
from latchwork.estimators.prediction import run_network
from latchwork.estimators.prediction_stream import PredictionStream, step_reader
from latchwork.estimators.runs.checkpoints import run_seed
from latchwork.estimators.runs.fit_loop import FitLoop
from latchwork.estimators.runs.stopping import DivergenceError
from latchwork.estimators.sequence_fitting import Going, Learned, SequenceFitting
from latchwork.estimators.sequence_network import OutputNumbers, predicting_network
from latchwork.estimators.sequence_parameters import MISSING, one_of
from latchwork.estimators.sklearn_tags import sklearn_tags
from latchwork.estimators.stored_parameters import restored, stored
from latchwork.lstm import LSTM
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork._arrays import Array
    from latchwork._sequence import SequenceModule
    from latchwork._writing import FilePath
    from latchwork.estimators.data.layout import Layout


class SequenceEstimator(SequenceFitting):
    """The base of `LSTMRegressor` and `LSTMClassifier`."""

    _kind: ClassVar[str]  # what files and scikit-learn call it

    history_: list[dict[str, float]]
    n_iter_: int
    interrupted_: bool
    missing_: str
    n_features_in_: int
    feature_names_in_: Array
    _going: Going | None

    def fit(
        self,
        X: Any,
        y: Any = None,
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
            After an error it is the model that it was before, except where ``Raises`` says otherwise.

        Raises
        ------
        ValueError
            If a parameter is out of range, X and y do not fit together, or X holds infinity or a NaN that is refused.
        TypeError
            If something is of a wrong type.
        latchwork.estimators.runs.stopping.DivergenceError
            If the loss is NaN or explodes. After the first step the model has the best weights until then.
        OSError
            If a checkpoint or the certificate cannot be written. After the first step the model has the weights until
            then.
        """
        started = time.perf_counter()
        self._check_parameters()
        seed = run_seed(self.random_state, self.checkpoint_dir, resume)
        fitting = self._new_fitting(X, y, sample_weight, static, seed, started)
        loop = FitLoop(dataclasses.replace(fitting.run, resume=resume, certificate=certificate))
        try:
            loop.run()
        except (DivergenceError, OSError):
            if loop.trainer.steps:
                self._keep(fitting.learned, loop.network, loop.history, loop.interrupted)
            raise
        self._keep(fitting.learned, loop.network, loop.history, loop.interrupted)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, static: Any, classes: Array | None = None) -> Self:
        """Read the data once, from where the last call ended."""
        started = time.perf_counter()
        self._check_parameters()
        going = getattr(self, "_going", None) or Going(seed_of(self.random_state), 0, None)
        # A copy, so that after an error the model is what it was.
        going = Going(going.seed, going.epochs, copy.deepcopy(going.trainer), classes)
        fitting = self._new_fitting(X, y, sample_weight, static, going.seed, started, going)
        loop = FitLoop(fitting.run)
        loop.run()
        history = [*getattr(self, "history_", ())]
        rows = [{**row, "epoch": len(history) + 1} for row in loop.history]
        self._keep(fitting.learned, loop.network, [*history, *rows], loop.interrupted)
        self._going = Going(going.seed, going.epochs + 1, loop.trainer)
        return self

    def stream(self, batch_size: int | None = None, static: Any = None, *, method: str = "predict") -> PredictionStream:
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
        if any(isinstance(layer, LSTM) and layer.bidirectional for layer in self.network_):
            raise ValueError("stream: expected a model with bidirectional=False, got one that reads from the end too")
        if batch_size is not None:
            integer("batch_size", batch_size, 1)
        if static is not None and batch_size is None:
            static = np.asarray(static)[np.newaxis]
        reader = step_reader(
            self._learned.schema, 1 if batch_size is None else batch_size, static, self.missing_ == "refuse"
        )
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
        ValueError, TypeError
            If `set_params` gave a parameter that no model can have.
        NotFittedError
            If there is no fitted model.
        """
        self._check_fitted()
        self._check_parameters()  # else nobody could read the file
        files.save(self, path)

    def set_output(self, *, predict: str | None = None) -> Self:
        """Choose the form of predictions.

        Parameters
        ----------
        predict : {"default", "pandas", "polars"}, optional
            "default": arrays. "pandas", "polars": a Series or data frame, in pandas with the index of X if that is a
            data frame. None: nothing changes.

        Returns
        -------
        self
        """
        if predict is not None:
            if predict not in OUTPUTS:
                raise ValueError(f"predict: expected {', '.join(map(repr, OUTPUTS))} or None, got {predict!r}")
            self._sklearn_output_config = {"predict": predict}  # scikit-learn's clone copies what has this name
        return self

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what this is."""
        return sklearn_tags(self._kind)

    def _finishing(self, method: str) -> Callable[[Array], Array]:
        """Give what makes predictions of an output (M, ..., features). ValueError if there is no such method."""
        raise NotImplementedError

    def _learn(self, answers: Any) -> None:
        """Set the attributes that say what targets look like."""
        raise NotImplementedError

    def _answers_to_file(self, answers: Any) -> Any:
        """Give what JSON can hold of what targets look like."""
        raise NotImplementedError

    @classmethod
    def _answers_from_file(cls, stored_answers: Any, outputs: OutputNumbers) -> Any:
        """Reverse `_answers_to_file`. ValueError, TypeError or KeyError if it does not fit."""
        raise NotImplementedError

    def _run(self, X: Any, static: Any, *finish: Callable[[Array], Array]) -> tuple[tuple[Array, ...], Layout]:
        """Run the network over raw sequences; each of ``finish`` makes one result of its output."""
        self._check_fitted()
        sequences, layout = self._read(X, self._learned.schema, static)
        if len(sequences) == 0:
            raise ValueError("X: expected at least 1 sample, got 0 sample(s) while 1 is required.")
        if self.missing_ == "refuse":
            check_no_gaps(sequences, layout)
        steps = self.network_._core.keeps_sequence
        results = run_network(self.network_, sequences, steps, lambda output: tuple(each(output) for each in finish))
        return results, layout

    def _to_user(self, values: Array, layout: Layout, names: Sequence[Any] | None) -> Any:
        """Give predictions the form of X, or that which `set_output` asks for."""
        return layout.to_user(values, self.network_._core.keeps_sequence, self._output_form(), names)

    def _output_form(self) -> str:
        form: str = getattr(self, "_sklearn_output_config", {}).get("predict", "default")
        return form

    def _keep(
        self, learned: Learned, trained: SequenceModule[Any], history: list[dict[str, float]], interrupted: bool
    ) -> None:
        """Become the model that was trained."""
        assert isinstance(trained, Network)
        self._become(learned, predicting_network(trained, learned.outputs), history, interrupted)

    def _become(self, learned: Learned, network: Network, history: list[dict[str, float]], interrupted: bool) -> None:
        self._learned = learned
        self._going = None
        self.network_ = network
        self.history_ = history
        self.n_iter_ = len(history)
        self.interrupted_ = interrupted
        self.missing_ = learned.missing
        self.n_features_in_ = learned.schema.n_features_in
        names = learned.schema.feature_names_in
        vars(self).pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.array(names, object)
        self._learn(learned.answers)

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise not_fitted_error(f"this {type(self).__name__} has learned nothing yet: call fit(X, y) first")

    def _to_file(self) -> files.Content:
        network = self.network_._to_file()
        learned = self._learned
        python = {
            "network": network.python,
            "parameters": stored(self.get_params()),
            "schema": learned.schema.to_json(),
            "outputs": learned.outputs._asdict(),
            "missing": learned.missing,
            "answers": self._answers_to_file(learned.answers),
            "history": self.history_,
            "interrupted": self.interrupted_,
        }
        return files.Content(self._kind, network.config, python, network.tensors)

    @classmethod
    def _from_file(cls, content: files.Content) -> Self:
        network_python, parameters, schema, outputs, missing, answers, history, interrupted = files.named(
            "python",
            content.python,
            ("network", "parameters", "schema", "outputs", "missing", "answers", "history", "interrupted"),
        )
        model = cls(**restored(parameters))
        model._check_parameters()
        one_of("missing", missing, MISSING[1:])
        numbers = OutputNumbers.read(outputs)
        learned = Learned(Schema.from_json(schema), numbers, missing, cls._answers_from_file(answers, numbers))
        network = Network._from_file(files.Content("network", content.config, network_python, content.tensors))
        core = network._core
        if core.takes_tokens or (core.input_size, core.output_size) != (learned.schema.size, numbers.size):
            raise ValueError(
                f"network: expected one that reads {learned.schema.size} features and predicts {numbers.size}"
            )
        if learned.answers.per_step != core.keeps_sequence:
            raise ValueError(
                f"per_step: expected {core.keeps_sequence} for this network, got {learned.answers.per_step}"
            )
        model._become(learned, network, [dict(row) for row in history], bool(interrupted))
        return model
