"""Predictions step by step, as numbers arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from latchwork._arrays import Array
    from latchwork.network import Network


class PredictionStream:
    """Takes raw features step by step and gives what ``predict`` gives for the steps so far, bit for bit.

    Made by the ``stream`` method of an estimator. It keeps the weights of the moment in which it was made, and serves
    one thread at a time.
    """

    def __init__(
        self,
        network: Network,
        read: Callable[[Any, int | None], Array],
        finish: Callable[[Array], Array],
        batch_size: int | None,
    ) -> None:
        self._stream = network.stream(batch_size)
        self._one_member = network.members == 1
        self._read = read
        self._finish = finish
        self._batch_size = batch_size

    def step(self, x: Any, reset: Any = None, skip: Any = None) -> Array:
        """Read one step and predict.

        Parameters
        ----------
        x : array_like
            The raw features of the step: (n_features,), with a ``batch_size`` (batch_size, n_features). NaN, and
            categories by their values, as for ``predict``.
        reset : bool or array of bool, optional
            Where it is true, a new sequence begins with this step.
        skip : bool or array of bool, optional
            Where it is true, the step is left out, and the prediction is that of the step before.

        Returns
        -------
        numpy.ndarray
            What ``predict`` or, by the stream's method, ``predict_proba`` gives: with a ``batch_size`` one for each
            row, else of one sequence without the axis of sequences.

        Raises
        ------
        ValueError
            If a shape does not fit, a number is infinite, NaN is refused, or a category is unknown.
        TypeError
            If x does not hold numbers.
        """
        output = self._stream.step(self._read(x, self._batch_size), None, reset, skip)
        if self._one_member:
            output = output[np.newaxis]
        return self._finish(output) if self._batch_size is not None else self._finish(output[:, np.newaxis])[0]

    @property
    def batch_size(self) -> int | None:
        """How many sequences run side by side; None: one, and arrays have no axis of rows."""
        return self._batch_size

    def reset(self) -> None:
        """Begin new sequences."""
        self._stream.reset()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse copy and pickle."""
        raise TypeError("a PredictionStream cannot be copied or pickled: make another one")
