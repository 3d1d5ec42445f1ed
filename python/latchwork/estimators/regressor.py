"""Regression on sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from latchwork._arrays import real_number
from latchwork.estimators.metrics import r2_score
from latchwork.estimators.parameter_docs import with_shared_docs
from latchwork.estimators.prediction import mean_of_members, spread_of_members
from latchwork.estimators.sequence_estimator import SequenceEstimator
from latchwork.estimators.sequence_network import OutputNumbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array
    from latchwork.optim import Optimizer
    from latchwork.schedules import Schedule

_LOSSES = ("squared_error", "absolute_error", "huber", "quantile")


@with_shared_docs
class LSTMRegressor(SequenceEstimator):
    """Predicts numbers from sequences: scaling, an LSTM and a linear layer, with scikit-learn's habits.

    Parameters
    ----------
    {network}
    recurrent_dropout : float, default 0.0
        From 0 to 1: the share of h that is dropped within the recurrence in training.
    {cell}
    {input}
        Targets are scaled by the same option, and predictions are in their own units.
    loss : {"squared_error", "absolute_error", "huber", "quantile"} or callable, default "squared_error"
        Of scaled targets. Or a function as `latchwork.Trainer` takes it, ``functools.partial(lw.losses.huber,
        delta=0.5)`` for one.
    quantiles : sequence of float, optional
        Each above 0 and below 1, ascending: ``predict`` gives these quantiles of the targets instead of one number, and
        they never cross. The loss is the quantile loss then.
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
    imported scikit-learn, ``latchwork.estimators.estimator.NotFittedError``. Both are ValueError and AttributeError too.

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

    _kind: ClassVar[str] = "regressor"

    def __init__(
        self,
        hidden_size: int = 64,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        head: str = "last",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
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
        init: str = "torch",
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
        lr: float = 1e-2,
        lr_schedule: str | Schedule = "warmup_cosine",
        weight_decay: float = 0.01,
        clip_norm: float | None = 1.0,
        max_epochs: int = 60,
        max_seconds: float | None = None,
        batch_size: int = 32,
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
        checkpoint_every: Any = None,
        random_state: Any = None,
        verbose: int | bool = 0,
        callbacks: Any = None,
    ) -> None:
        self._store(locals())

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
            In the form in which targets were given to ``fit``: (n_samples,) or (n_samples, K), with ``quantiles``
            (n_samples, Q) or (n_samples, K, Q). With ``head="sequence"`` there is an axis of steps behind the first; it
            is a list of arrays if X is a list, and rows in the order of X's if X is a frame. The mean over the members.
        std
            Of the same form, if ``return_std``.

        Raises
        ------
        ValueError
            If X does not have the features of the training data, holds infinity or a NaN that is refused, or
            ``return_std`` is true and there is one member.
        NotFittedError
            If there is no fitted model.
        """
        self._check_fitted()
        if not return_std:
            (values,), layout = self._run(X, static, lambda output: (self._predictions(output),))
            return self._restored(values, layout)
        if self.network_.members == 1:
            raise ValueError("return_std: expected False for a model of one member, got True; n_members makes several")
        results, layout = self._run(X, static, lambda output: (self._predictions(output), self._spread(output)))
        return tuple(self._restored(each, layout) for each in results)

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, static: Any = None) -> float:
        """Coefficient of determination of the predictions, as scikit-learn's ``r2_score``: the mean over outputs.

        Parameters
        ----------
        X, y, sample_weight, static
            As for `fit`. A target that is NaN is left out.

        Returns
        -------
        float
            Of the median or the quantile nearest to it, if there are ``quantiles``. NaN for fewer than two targets.

        Raises
        ------
        ValueError, TypeError
            As for `fit`.
        """
        return self._measured(X, y, sample_weight, static)

    def _predictions(self, output: Array) -> Array:
        """Join the members, and give the axes of the targets."""
        joined = output[0] if len(output) == 1 else mean_of_members(output).astype(output.dtype)
        return self._in_axes_of_targets(joined)

    def _spread(self, output: Array) -> Array:
        return self._in_axes_of_targets(spread_of_members(output).astype(output.dtype))

    def _in_axes_of_targets(self, values: Array) -> Array:
        outputs = () if self._one_output else (self.n_outputs_,)
        quantiles = () if self.quantiles is None else (len(self.quantiles),)
        return values.reshape(*values.shape[:-1], *outputs, *quantiles)

    def _point(self, joined: Array) -> Array:
        """Give one number for each output (..., K): of quantiles the one nearest to the median, of two the lower."""
        if self.quantiles is None:
            return joined
        distances = [abs(quantile - 0.5) for quantile in self.quantiles]
        middle = distances.index(min(distances))
        return joined[..., middle :: len(self.quantiles)]
