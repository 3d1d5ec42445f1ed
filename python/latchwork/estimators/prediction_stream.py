"""Predictions step by step, as numbers arrive."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

import numpy as np

from latchwork._arrays import shape_text
from latchwork.estimators.data.examples import all_numbers, check_no_gaps
from latchwork.estimators.data.inputs import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from latchwork._arrays import Array
    from latchwork.estimators.data.schema import Schema
    from latchwork.network import Network


class PredictionStream:
    """Takes raw features step by step and gives what ``predict`` gives for the steps so far, bit for bit.

    Made by the ``stream`` method of an estimator. It keeps the weights of the moment in which it was made, and serves
    one thread at a time.
    """

    def __init__(
        self,
        network: Network,
        read_step: Callable[[Any], Array],
        finish: Callable[[Array], Array],
        batch_size: int | None,
    ) -> None:
        self._stream = network.stream(batch_size)
        self._one_member = network.members == 1
        self._read_step = read_step
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
            Where it is true, the step is left out, and the prediction is that of the step before. Where there was none
            since the start or a ``reset``, it is 0, of a classifier that of equal probabilities.

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
        rows = self._read_step(
            x if self._batch_size is not None else [x] if isinstance(x, list) else np.asarray(x)[None]
        )
        output = self._stream.step(rows if self._batch_size is not None else rows[0], None, reset, skip)
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


def step_reader(schema: Schema, rows: int, static: Any, refuses_gaps: bool) -> Callable[[Any], Array]:
    """Make what reads one step of sequences side by side: raw features (rows, n_features) become (rows, size).

    Parameters
    ----------
    schema : Schema
        What fit learned of its inputs.
    rows : int
        How many sequences there are.
    static : array_like or None
        (rows, n_static_features).
    refuses_gaps : bool
        Whether NaN is a ValueError.
    """
    # A step has neither names nor the form that X had.
    plain = dataclasses.replace(
        schema, kind="array", names=None, steps=None, step_names=None, static_names=None, sequence=None, time=None
    )
    dtype = np.dtype(schema.dtype)
    size = schema.n_features
    first = [[schema.categories[place][0] if place in schema.categories else 0.0 for place in range(size)]]
    start, layout = read(np.array([first] * rows, object), plain, static=static)
    if refuses_gaps:
        check_no_gaps(start, layout)
    columns = [place for place in schema.columns if place < size]

    def read_step(x: Any) -> Array:
        array = np.asarray(x) if not columns else np.array(x, object)
        if array.shape != (rows, size):
            raise ValueError(f"x: expected {shape_text((rows, size))}, got {shape_text(array.shape)}")
        fast = not columns and array.dtype.kind in "biuf"
        values = array.astype(dtype) if fast else None
        if values is None or not all_numbers(values):
            sequences, place = read(array[:, np.newaxis], plain, static=static)
            if refuses_gaps:
                check_no_gaps(sequences, place)
            values = sequences.values
        if start.static is None:
            return np.ascontiguousarray(values)
        return np.concatenate([values, start.static], axis=1)

    return read_step
