"""Regression on sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from latchwork._arrays import MAX_INDEX, boolean, integer, real_number
from latchwork.estimators.data.long_data import scaled_targets
from latchwork.estimators.data.preparation import fit_target_scale
from latchwork.estimators.data.targets import regression_targets
from latchwork.estimators.metrics import r2_score
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
    from latchwork.estimators.data.targets import Targets
    from latchwork.estimators.data.windows import Encode
    from latchwork.estimators.sequence_fitting import Learned
    from latchwork.optim import Optimizer
    from latchwork.schedules import Schedule

_LOSSES = ("squared_error", "absolute_error", "huber", "quantile")


@with_shared_docs
class LSTMRegressor(SequenceEstimator):
    """Predicts numbers from sequences: scaling, an LSTM and a linear layer, with scikit-learn's habits.

    Parameters
    ----------
    {network}
    recurrent_dropout : float, optional
        From 0 to 1: the share of h that is dropped within the recurrence in training. None: 0.1 where the longest
        sequence in training, or the ``window``, has at most 50 steps, and 0 where it is longer.
    {cell}
    {input}
    loss : {"squared_error", "absolute_error", "huber", "quantile"} or callable, default "squared_error"
        Of targets that are scaled as ``scale`` says; predictions are in the targets' own units. Or a function as
        `latchwork.Trainer` takes it, ``functools.partial(lw.losses.huber, delta=0.5)`` for one.
    quantiles : sequence of float, optional
        Each above 0 and below 1, ascending: ``predict`` gives these quantiles of the targets instead of one number, and
        they never cross. The loss is the quantile loss then.
    lr : float, default 3e-3
        The largest learning rate.
    {training}

    Attributes
    ----------
    {learned}
    n_outputs_ : int
        Numbers that are predicted for each sequence or step (K).

    Notes
    -----
    X is (n_samples, n_timesteps, n_features); (n_samples, n_timesteps), one feature a step; a list of
    (n_timesteps_i, n_features) arrays; a data frame in long form or a list of one for each sequence. y is (n_samples,)
    or (n_samples, n_outputs), and with ``head="sequence"`` has an axis or list of steps behind the first. NaN in y is a
    target left out.

    Before ``fit``, what needs a fitted model raises scikit-learn's ``NotFittedError`` or, where the program has not
    imported scikit-learn, ``latchwork.estimators.estimator.NotFittedError``; both are ValueError and AttributeError.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> y = X[:, :, 0].sum(axis=1)
    >>> model = lw.LSTMRegressor(hidden_size=16, max_epochs=20, random_state=0).fit(X, y)
    >>> model.predict(X).shape
    (200,)
    """

    quantiles: Sequence[float] | None
    n_outputs_: int

    _kind: ClassVar[str] = "regressor"
    _labels: ClassVar[bool] = False
    _dropout_if_short: ClassVar[float] = 0.1

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
        loss: str | Callable[..., Any] = "squared_error",
        quantiles: Sequence[float] | None = None,
        optimizer: str | Optimizer = "adamw",
        lr: float = 3e-3,
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

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, static: Any = None) -> Self:
        """Read the data once and go on training from where the last call ended.

        The first call decides on scaling, categories and what is done about NaN, from its data. The learning rate stays
        ``lr``, or follows its schedule. After `fit` it begins with new moments. ``history_`` gets a row for each call.

        Parameters
        ----------
        X, y, sample_weight, static
            As for `fit`.

        Returns
        -------
        self
            After an error it is the model that it was before.

        Raises
        ------
        ValueError, TypeError, latchwork.estimators.runs.stopping.DivergenceError
            As for `fit`.
        """
        return self._partial_fit(X, y, sample_weight, static)

    def predict(self, X: Any, *, static: Any = None, return_std: bool = False) -> Any:
        """Predict the targets.

        Parameters
        ----------
        X, static
            As for `fit`; sequences of any lengths.
        return_std : bool, default False
            Whether to return the standard deviation over the members too, which needs ``n_members`` above 1.

        Returns
        -------
        y : numpy.ndarray, list, Series or DataFrame
            The mean over the members, with the axes that targets had in ``fit``: (n_samples,) or (n_samples, K), with
            ``quantiles`` (n_samples, Q) or (n_samples, K, Q). With ``head="sequence"`` there is an axis of steps behind
            the first; if X is a list it is a list of arrays, and if X is a frame in long form it has a row for each of
            X's, in their order. See `set_output`.
        std
            Of the same form, if ``return_std``.

        Raises
        ------
        ValueError
            If X does not have the features of the training data, holds infinity or a NaN that is refused, or
            ``return_std`` is true and there is one member.
        TypeError
            If something is of a wrong type.
        NotFittedError
            If there is no fitted model.
        """
        self._check_fitted()
        if not return_std:
            (values,), layout = self._run(X, static, self._predictions)
            return self._in_users_form(values, layout)
        if self.network_.members == 1:
            raise ValueError("return_std: expected False for a model of one member, got True; n_members makes several")
        (values, spread), layout = self._run(X, static, self._predictions, self._spread)
        return self._in_users_form(values, layout), self._in_users_form(spread, layout)

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, static: Any = None) -> float:
        """Coefficient of determination of the predictions, as scikit-learn's ``r2_score``: the mean over outputs.

        Parameters
        ----------
        X, y, sample_weight, static
            As for `fit`. A target that is NaN is left out.

        Returns
        -------
        float
            With ``quantiles`` that of the median, or of the quantile nearest to it. NaN for fewer than two targets.

        Raises
        ------
        ValueError, TypeError
            As for `fit`.
        NotFittedError
            If there is no fitted model.
        """
        (joined,), layout = self._run(X, static, _joined)
        targets, answers = self._read_targets(y, layout, sample_weight, self._learned.answers)
        return r2_score(targets.values, _point(joined, answers.quantiles), targets.weights)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.loss, str):
            one_of("loss", self.loss, _LOSSES)
        elif not callable(self.loss):
            raise TypeError(f"loss: expected the name of one, or a callable, got {type(self.loss).__name__}")
        if self.quantiles is None:
            if self.loss == "quantile":
                raise ValueError('quantiles: expected some, because loss is "quantile", got None')
            return
        if self.loss not in ("squared_error", "quantile"):
            raise ValueError(f'loss: expected its default or "quantile" with quantiles, got {self.loss!r}')
        _quantiles(self.quantiles)

    def _read_targets(
        self, y: Any, layout: Layout, sample_weight: Any, answers: Any, classes: Array | None = None
    ) -> tuple[Targets, Any]:
        per_step = self.head == "sequence" if answers is None else answers.per_step
        targets = regression_targets(
            y, layout, per_step=per_step, dtype=self.dtype, sample_weight=sample_weight, warns=answers is None
        )
        count = targets.values.shape[1]
        if answers is None:
            return targets, self._new_answers(count, targets.single, per_step, targets.names)
        if count != answers.outputs:
            raise ValueError(f"y: expected {answers.outputs} outputs, as in training, got {count}")
        return targets, answers

    def _new_answers(self, outputs: int, single: bool, per_step: bool, names: Any) -> Answers:
        quantiles = None if self.quantiles is None else _quantiles(self.quantiles)
        return Answers(outputs, single, per_step, None if names is None else tuple(map(str, names)), quantiles)

    def _new_outputs(self, targets: Targets, answers: Any) -> OutputNumbers:
        return self._outputs_of(answers, *fit_target_scale(targets, self.scale))

    def _outputs_of(self, answers: Answers, shift: Array, factor: Array) -> OutputNumbers:
        levels = 1 if answers.quantiles is None else len(answers.quantiles)
        size = answers.outputs * levels
        if self.scale is None:
            return OutputNumbers(size, levels, None, None)
        back_shift, back_factor = np.repeat(-shift * factor, levels), np.repeat(1.0 / factor, levels)
        return OutputNumbers(size, levels, back_shift.tolist(), back_factor.tolist())

    def _in_units_of_network(self, targets: Targets, outputs: OutputNumbers) -> Targets:
        return targets if outputs.shift is None else targets.scaled(*_target_scale(outputs))

    def _long_answers(self, long: LongData) -> tuple[Any, OutputNumbers]:
        if not long.outputs.counts.all():
            raise ValueError("y: expected at least one target of each output, got none that is not missing")
        answers = self._new_answers(long.n_outputs, long.single, True, long.names)
        return answers, self._outputs_of(answers, *long.outputs.scale(self.scale))

    def _long_targets(self, long: LongData, learned: Learned) -> Encode:
        return scaled_targets(*_target_scale(learned.outputs), self.dtype)

    def _loss(self, answers: Any) -> tuple[Any, dict[str, Any]]:
        if answers.quantiles is not None:
            return "quantile", {"quantiles": list(answers.quantiles)}
        return self.loss, {}

    def _score_of(self, output: Array, targets: Targets, answers: Any) -> float:
        return r2_score(targets.values, _point(_joined(output), answers.quantiles), targets.weights)

    def _learn(self, answers: Any) -> None:
        self.n_outputs_ = answers.outputs

    def _answers_to_file(self, answers: Any) -> Any:
        stored: dict[str, Any] = answers._asdict()
        return stored

    @classmethod
    def _answers_from_file(cls, stored_answers: Any, outputs: OutputNumbers) -> Any:
        answers = Answers.read(stored_answers)
        if answers.outputs * (1 if answers.quantiles is None else len(answers.quantiles)) != outputs.size:
            raise ValueError(f"answers: expected {outputs.size} numbers, got {stored_answers!r}")
        return answers

    def _finishing(self, method: str) -> Callable[[Array], Array]:
        one_of("method", method, ("predict",))
        return self._predictions

    def _predictions(self, output: Array) -> Array:
        """Join the members, and give the axes of the targets."""
        return self._in_axes_of_targets(_joined(output))

    def _spread(self, output: Array) -> Array:
        return self._in_axes_of_targets(spread_of_members(output).astype(output.dtype))

    def _in_axes_of_targets(self, values: Array) -> Array:
        answers = self._learned.answers
        outputs = () if answers.single else (answers.outputs,)
        levels = () if answers.quantiles is None else (len(answers.quantiles),)
        return values.reshape(*values.shape[:-1], *outputs, *levels)

    def _in_users_form(self, values: Array, layout: Layout) -> Any:
        answers = self._learned.answers
        names = answers.names
        if answers.quantiles is not None and self._output_form() != "default":
            # A frame has one axis of columns.
            values = values.reshape(len(values), -1)
            own = [""] if answers.single else [f"{name}_" for name in names or range(answers.outputs)]
            names = tuple(f"{name}{level:g}" for name in own for level in answers.quantiles)
        return self._to_user(values, layout, names)


def _target_scale(outputs: OutputNumbers) -> tuple[Array, Array]:
    """Give shift and factor of each target: the reverse of the network's last layer."""
    if outputs.shift is None or outputs.factor is None:
        count = outputs.size // outputs.sorted_by
        return np.zeros(count), np.ones(count)
    back_shift, back_factor = (np.array(each[:: outputs.sorted_by]) for each in (outputs.shift, outputs.factor))
    return -back_shift * back_factor, 1.0 / back_factor


class Answers(NamedTuple):
    """What targets look like."""

    outputs: int  # K
    single: bool  # they had no axis of outputs
    per_step: bool
    names: tuple[str, ...] | None
    quantiles: tuple[float, ...] | None

    @classmethod
    def read(cls, values: Any) -> Answers:
        """Check what a file says. ValueError or TypeError."""
        if not isinstance(values, Mapping) or set(values) != set(cls._fields):
            raise ValueError(f"answers: expected {', '.join(cls._fields)}, got {values!r}")
        names, quantiles = values["names"], values["quantiles"]
        single = boolean("single", values["single"])
        outputs = integer("outputs", values["outputs"], 1, 1 if single else MAX_INDEX)
        if names is not None and (
            not isinstance(names, (list, tuple))
            or len(names) != outputs
            or not all(isinstance(name, str) for name in names)
        ):
            raise ValueError(f"names: expected {outputs} texts, got {names!r}")
        return cls(
            outputs,
            single,
            boolean("per_step", values["per_step"]),
            None if names is None else tuple(names),
            None if quantiles is None else _quantiles(quantiles),
        )


def _joined(output: Array) -> Array:
    """Join the members of (M, ..., features)."""
    return output[0] if len(output) == 1 else mean_of_members(output).astype(output.dtype)


def _point(joined: Array, quantiles: Sequence[float] | None) -> Array:
    """Give one number for each output (rows, K): of quantiles the one nearest to the median, of two such the lower."""
    if quantiles is None:
        return joined
    distances = [abs(quantile - 0.5) for quantile in quantiles]
    middle = distances.index(min(distances))
    return joined[:, middle :: len(quantiles)]


def _quantiles(quantiles: Any) -> tuple[float, ...]:
    """Read quantiles. ValueError or TypeError."""
    if isinstance(quantiles, (str, bytes)) or not isinstance(quantiles, (Sequence, np.ndarray)):
        raise TypeError(f"quantiles: expected a sequence of float or None, got {type(quantiles).__name__}")
    levels = tuple(real_number("quantiles", each, 0.0, 1.0) for each in quantiles)
    ascending = all(low < high for low, high in zip((0.0, *levels), (*levels, 1.0), strict=True))
    if not levels or not ascending:
        raise ValueError(f"quantiles: expected numbers above 0 and below 1 in ascending order, got {quantiles!r}")
    return levels
