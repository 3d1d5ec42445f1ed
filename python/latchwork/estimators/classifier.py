"""Classification of sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from latchwork import _core
from latchwork._arrays import boolean, real_number
from latchwork.estimators.data.frames import objects
from latchwork.estimators.data.given_targets import distinct_classes
from latchwork.estimators.data.labels import class_weights
from latchwork.estimators.data.long_data import coded_targets
from latchwork.estimators.data.targets import Targets, class_targets
from latchwork.estimators.metrics import accuracy
from latchwork.estimators.parameter_docs import with_shared_docs
from latchwork.estimators.prediction import mean_of_members, spread_of_members
from latchwork.estimators.sequence_estimator import SequenceEstimator
from latchwork.estimators.sequence_network import OutputNumbers
from latchwork.estimators.sequence_parameters import one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array
    from latchwork.estimators.data.layout import Layout
    from latchwork.estimators.data.long_data import LongData
    from latchwork.estimators.data.windows import Encode
    from latchwork.estimators.sequence_fitting import Learned
    from latchwork.optim import Optimizer
    from latchwork.schedules import Schedule


@with_shared_docs
class LSTMClassifier(SequenceEstimator):
    """Predicts classes of sequences: scaling, an LSTM and a linear layer, with scikit-learn's habits.

    Parameters
    ----------
    {network}
    recurrent_dropout : float, optional
        From 0 to 1: the share of h that is dropped within the recurrence in training. None: 0.5 where the longest
        sequence in training, or the ``window``, has at most 50 steps, and 0 where it is longer.
    {cell}
    {input}
    loss : "cross_entropy" or callable, default "cross_entropy"
        Or a function as `latchwork.Trainer` takes it.
    label_smoothing : float, default 0.0
        From 0 to 1: the share of each label that all classes divide among them equally in training.
    class_weight : mapping or "balanced", optional
        The weight of each class in training, by its label; one that is left out has 1. "balanced": classes count alike,
        however many sequences each has.
    lr : float, default 1e-2
        The largest learning rate.
    {training}

    Attributes
    ----------
    classes_ : numpy.ndarray
        (C,): the labels, sorted.
    {learned}

    Notes
    -----
    X is (n_samples, n_timesteps, n_features); (n_samples, n_timesteps), one feature a step; a list of
    (n_timesteps_i, n_features) arrays; a data frame in long form or a list of one for each sequence. y is (n_samples,),
    labels that are integers, booleans or texts; with ``head="sequence"`` one for each step.

    Before ``fit``, what needs a fitted model raises scikit-learn's ``NotFittedError`` or, where the program has not
    imported scikit-learn, ``latchwork.estimators.estimator.NotFittedError``; both are ValueError and AttributeError.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> y = np.where(X[:, :, 0].sum(axis=1) > 0, "up", "down")
    >>> model = lw.LSTMClassifier(hidden_size=16, max_epochs=20, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape
    (200, 2)
    """

    label_smoothing: float
    class_weight: Any
    classes_: Array

    _kind: ClassVar[str] = "classifier"
    _labels: ClassVar[bool] = True
    _dropout_if_short: ClassVar[float] = 0.5

    def __init__(
        self,
        hidden_size: int = 64,
        num_layers: int = 1,
        *,
        bidirectional: bool | None = None,
        head: str = "last",
        dropout: float = 0.0,
        recurrent_dropout: float | None = None,
        recurrent_dropout_on: str = "hidden",
        weight_dropout: float = 0.0,
        zoneout: tuple[float, float] = (0.0, 0.0),
        forget_gate: bool | str = True,
        peephole: bool = False,
        layer_norm: bool = False,
        activations: Any = None,
        clip: float | None = None,
        cell_clip: float | None = None,
        residual: bool = False,
        learn_start_state: bool = False,
        proj_size: int = 0,
        forget_bias: float | None = None,
        init: str | None = None,
        t_max: int | None = None,
        dtype: DTypeLike = "float32",
        scale: str | None = "standard",
        missing: str | None = None,
        categorical: Sequence[Any] | None = None,
        sequence: str | None = None,
        time: str | None = None,
        loss: str | Callable[..., Any] = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        optimizer: str | Optimizer = "adamw",
        lr: float = 1e-2,
        lr_schedule: str | Schedule = "warmup_cosine",
        weight_decay: float = 0.01,
        clip_norm: float | None = 1.0,
        max_epochs: int | None = None,
        max_seconds: float | None = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        validation_data: Any = None,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        n_members: int = 1,
        window: int | None = None,
        checkpoint: int | None = None,
        checkpoint_dir: Any = None,
        checkpoint_every: int | float = 1,
        random_state: Any = None,
        verbose: int | bool = 0,
        callbacks: Any = None,
    ) -> None:
        self._store(locals())

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, *, static: Any = None
    ) -> Self:
        """Read the data once and go on training from where the last call ended.

        The first call decides on scaling, categories and what is done about NaN, from its data. The learning rate stays
        ``lr``, or follows its schedule. After `fit` it begins with new moments. ``history_`` gets a row for each call.

        Parameters
        ----------
        X, y, sample_weight, static
            As for `fit`.
        classes : array_like, optional
            All labels that this and later calls may bring; the first call needs them if its y lacks some. Later they
            must be the same, or None.

        Returns
        -------
        self
            After an error it is the model that it was before.

        Raises
        ------
        ValueError, TypeError, latchwork.estimators.runs.stopping.DivergenceError
            As for `fit`; also if ``classes`` are others than before.
        """
        if classes is not None:
            classes = distinct_classes(classes)
            if hasattr(self, "classes_") and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"classes: expected those of the calls before, {self.classes_.tolist()}, got {classes.tolist()}"
                )
        return self._partial_fit(X, y, sample_weight, static, classes)

    def predict(self, X: Any, *, static: Any = None) -> Any:
        """Predict the class of each sequence, or of each step.

        Parameters
        ----------
        X, static
            As for `fit`; sequences of any lengths.

        Returns
        -------
        numpy.ndarray, list, Series or DataFrame
            (n_samples,): the label with the largest probability, and of equal ones the first. With ``head="sequence"``
            (n_samples, n_timesteps); if X is a list it is a list of arrays, and if X is a frame in long form it has a
            row for each of X's, in their order. See `set_output`.

        Raises
        ------
        ValueError
            If X does not have the features of the training data, or holds infinity or a NaN that is refused.
        TypeError
            If something is of a wrong type.
        NotFittedError
            If there is no fitted model.
        """
        (codes,), layout = self._run(X, static, _codes)
        return self._to_user(self.classes_[codes], layout, None)

    def predict_proba(self, X: Any, *, static: Any = None, return_std: bool = False) -> Any:
        """Predict the probability of each class.

        Parameters
        ----------
        X, static
            As for `predict`.
        return_std : bool, default False
            Whether to return the standard deviation over the members too, which needs ``n_members`` above 1.

        Returns
        -------
        probabilities
            As `predict` gives labels, with an axis of classes at the end, in the order of ``classes_``. float64; with
            several members the mean of their probabilities.
        std
            Of the same form, if ``return_std``.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As for `predict`; ValueError also if ``return_std`` is true and there is one member.
        """
        self._check_fitted()
        if not return_std:
            (values,), layout = self._run(X, static, _joined)
            return self._to_user(values, layout, self._class_names())
        if self.network_.members == 1:
            raise ValueError("return_std: expected False for a model of one member, got True; n_members makes several")
        (values, spread), layout = self._run(X, static, _joined, _spread)
        return tuple(self._to_user(each, layout, self._class_names()) for each in (values, spread))

    def predict_log_proba(self, X: Any, *, static: Any = None) -> Any:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X, static
            As for `predict`.

        Returns
        -------
        log_probabilities
            The logarithms of what `predict_proba` gives, without what rounding takes from small probabilities.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As for `predict`.
        """
        (values,), layout = self._run(X, static, _log_joined)
        return self._to_user(values, layout, self._class_names())

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, static: Any = None) -> float:
        """Share of the labels that `predict` finds, weighted by ``sample_weight``.

        Parameters
        ----------
        X, y, sample_weight, static
            As for `fit`. A label that is missing is left out, and one that training did not have is never found.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            As for `fit`.
        NotFittedError
            If there is no fitted model.
        """
        (codes,), layout = self._run(X, static, _codes)
        per_step = self._learned.answers.per_step
        targets = class_targets(y, layout, per_step=per_step, dtype=self.dtype, sample_weight=sample_weight)
        assert targets.classes is not None
        found = np.asarray(self.classes_[codes] == targets.classes[targets.values], np.bool_)
        return accuracy(found, targets.weights)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.loss, str):
            one_of("loss", self.loss, ("cross_entropy",))
        elif not callable(self.loss):
            raise TypeError(f"loss: expected the name of one, or a callable, got {type(self.loss).__name__}")
        real_number("label_smoothing", self.label_smoothing, 0.0, 1.0)
        balanced = isinstance(self.class_weight, str) and self.class_weight == "balanced"
        if self.class_weight is not None and not isinstance(self.class_weight, Mapping) and not balanced:
            raise ValueError(f'class_weight: expected a mapping, "balanced" or None, got {self.class_weight!r}')

    def _read_targets(
        self, y: Any, layout: Layout, sample_weight: Any, answers: Any, classes: Array | None = None
    ) -> tuple[Targets, Any]:
        per_step = self.head == "sequence" if answers is None else answers.per_step
        targets = class_targets(
            y,
            layout,
            per_step=per_step,
            dtype=self.dtype,
            sample_weight=sample_weight,
            classes=classes if answers is None else answers.classes,
        )
        assert targets.classes is not None
        return targets, Answers(targets.classes, per_step) if answers is None else answers

    def _strata(self, targets: Targets) -> Array | None:
        return None if targets.per_step else targets.values

    def _weighted(self, targets: Targets) -> Targets:
        if self.class_weight is None:
            return targets
        assert targets.classes is not None
        by_class = class_weights(self.class_weight, targets.values, targets.classes, targets.weights)
        weights = by_class[np.maximum(targets.values, 0)]
        weights = np.where(targets.values < 0, 0.0, weights if targets.weights is None else weights * targets.weights)
        weights = _in_dtype(weights, self.dtype)
        return Targets(targets.values, targets.offsets, targets.per_step, weights, targets.classes)

    def _new_outputs(self, targets: Targets, answers: Any) -> OutputNumbers:
        return OutputNumbers(len(answers.classes), 1, None, None)

    def _long_answers(self, long: LongData) -> tuple[Any, OutputNumbers]:
        classes, _ = long.outputs.classes()
        answers = Answers(classes, True)
        return answers, OutputNumbers(len(classes), 1, None, None)

    def _long_targets(self, long: LongData, learned: Learned) -> Encode:
        classes = learned.answers.classes
        if self.class_weight is None:
            weights = np.ones(len(classes))
        else:
            counts = long.outputs.counts_of(classes)
            weights = class_weights(self.class_weight, np.arange(len(classes)), classes, counts)
            weights = _in_dtype(weights, self.dtype)
        return coded_targets(classes, weights, self.dtype)

    def _in_units_of_network(self, targets: Targets, outputs: OutputNumbers) -> Targets:
        return targets

    def _loss(self, answers: Any) -> tuple[Any, dict[str, Any]]:
        if isinstance(self.loss, str):
            return self.loss, {"label_smoothing": self.label_smoothing}
        return self.loss, {}

    def _score_of(self, output: Array, targets: Targets, answers: Any) -> float:
        return accuracy(_codes(output) == targets.values, targets.weights)

    def _learn(self, answers: Any) -> None:
        self.classes_ = answers.classes

    def _answers_to_file(self, answers: Any) -> Any:
        classes = answers.classes
        labels = [{"bytes": label.hex()} if isinstance(label, bytes) else label for label in classes.tolist()]
        return {"dtype": classes.dtype.str, "classes": labels, "per_step": answers.per_step}

    @classmethod
    def _answers_from_file(cls, stored_answers: Any, outputs: OutputNumbers) -> Any:
        if not isinstance(stored_answers, Mapping) or set(stored_answers) != {"dtype", "classes", "per_step"}:
            raise ValueError(f"answers: expected dtype, classes and per_step, got {stored_answers!r}")
        dtype = np.dtype(stored_answers["dtype"])
        if dtype.kind not in "biufUSO":
            raise ValueError(f"dtype: expected one of labels, got {dtype}")
        labels = [
            bytes.fromhex(each["bytes"]) if isinstance(each, dict) else each for each in stored_answers["classes"]
        ]
        classes = objects(labels) if dtype.kind == "O" else np.array(labels, dtype)
        if classes.shape != (outputs.size,):
            raise ValueError(f"classes: expected {outputs.size}, got {classes.shape}")
        return Answers(classes, boolean("per_step", stored_answers["per_step"]))

    def _finishing(self, method: str) -> Callable[[Array], Array]:
        one_of("method", method, ("predict", "predict_proba", "predict_log_proba"))
        if method == "predict":
            return lambda output: self.classes_[_codes(output)]
        return _joined if method == "predict_proba" else _log_joined

    def _class_names(self) -> list[str]:
        return [str(label) for label in self.classes_.tolist()]


class Answers(NamedTuple):
    """What targets look like."""

    classes: Array
    per_step: bool


def _in_dtype(weights: Array, dtype: DTypeLike) -> Array:
    """Convert the weights that follow from those of classes. ValueError if one is too large, or all are zero."""
    with np.errstate(over="ignore", under="ignore"):
        converted = weights.astype(dtype)
    if not np.isfinite(converted).all():
        raise ValueError(f"class_weight: expected weights in the range of {converted.dtype}, got {weights.max():.6g}")
    if not converted.any():
        raise ValueError("class_weight: expected at least one target that counts, got weight zero for all")
    return converted


def _shifted(logits: Array) -> Array:
    """Give logits in float64 with the largest at zero."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return np.ascontiguousarray(shifted)


def _probabilities(logits: Array) -> Array:
    """Softmax over the last axis, the same bits on every CPU."""
    exponentials: Array = _core.exp(_shifted(logits))
    exponentials /= np.cumsum(exponentials, axis=-1)[..., -1:]
    return exponentials


def _joined(output: Array) -> Array:
    """Probabilities of (M, ..., classes): the mean over the members."""
    probabilities = _probabilities(output)
    return probabilities[0] if len(output) == 1 else mean_of_members(probabilities)


def _spread(output: Array) -> Array:
    return spread_of_members(_probabilities(output))


def _log_joined(output: Array) -> Array:
    if len(output) > 1:
        return _core.log(np.ascontiguousarray(_joined(output)))
    shifted = _shifted(output[0])
    sums = np.cumsum(_core.exp(shifted), axis=-1)[..., -1:]
    shifted -= _core.log(np.ascontiguousarray(sums))
    return shifted


def _codes(output: Array) -> Array:
    """Give the place of the likeliest class."""
    codes: Array = _joined(output).argmax(axis=-1)
    return codes
