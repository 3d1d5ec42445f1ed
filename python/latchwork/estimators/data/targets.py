"""y and its weights: one target for each sample, or for each step."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.given_targets import read_answers, read_weights
from latchwork.estimators.data.given_targets import target_columns as target_columns
from latchwork.estimators.data.labels import class_codes as class_codes
from latchwork.estimators.data.labels import class_weights as class_weights
from latchwork.estimators.data.labels import one_column
from latchwork.estimators.data.real_columns import all_held, real_column, warn_of_lost_digits
from latchwork.estimators.data.sequences import Update, feed_array, pad_steps, sample_numbers, take_steps

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.layout import Layout


class Targets:
    """What a network should say of each sample, or of each step.

    Parameters
    ----------
    values : ndarray
        (n, outputs) or, per step, (total_steps, outputs) of float32 or float64, NaN where one is missing; or class
        codes (n,) or (total_steps,) of int64, -1 where one is missing.
    offsets : ndarray of int64
        (n + 1,): those of the sequences.
    per_step : bool
        Whether there is one for each step.
    weights : ndarray, optional
        (n,) or (total_steps,), or in the shape of ``values``; 0 where a target is missing. None: all 1.
    classes : ndarray, optional
        The classes that codes stand for.
    names : tuple, optional
        The names of the outputs.
    single : bool
        Whether y had no axis of outputs, so that predictions are to have none.
    """

    def __init__(
        self,
        values: Array,
        offsets: Array,
        per_step: bool,
        weights: Array | None = None,
        classes: Array | None = None,
        names: tuple[Any, ...] | None = None,
        single: bool = True,
    ) -> None:
        self.values = values
        self.offsets = offsets
        self.per_step = per_step
        self.weights = weights
        self.classes = classes
        self.names = names
        self.single = single
        lengths = np.diff(offsets)
        same = len(lengths) > 0 and bool((lengths == lengths[0]).all())
        self._equal_length: int | None = int(lengths[0]) if same else None
        missing = np.isnan(values) if values.dtype.kind == "f" else values < 0
        # What stands for a target that is missing must be one all the same, though it has weight 0.
        self._filled: Array = np.where(missing, np.zeros((), values.dtype), values) if missing.any() else values

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.offsets) - 1

    def take(self, samples: Any) -> Targets:
        """Return the targets of these samples, in this order."""
        samples = sample_numbers(samples, len(self))
        offsets = np.zeros(len(samples) + 1, np.int64)
        np.cumsum(np.diff(self.offsets)[samples], out=offsets[1:])
        values, weights = (
            None if array is None else take_steps(array, self.offsets, samples) if self.per_step else array[samples]
            for array in (self.values, self.weights)
        )
        assert values is not None
        return Targets(values, offsets, self.per_step, weights, self.classes, self.names, self.single)

    def batch(self, samples: Any) -> tuple[Array, Array | None]:
        """Give targets and weights of these samples as `latchwork.Trainer.step` takes them.

        Per step they are (T, n, outputs) or, of class codes, (T, n), and zero behind the end of each sequence.
        """
        samples = sample_numbers(samples, len(self))
        if not self.per_step:
            return self._filled[samples], None if self.weights is None else self.weights[samples]
        values = pad_steps(self._filled, self.offsets, samples, self._equal_length)
        if self.weights is None:
            return values, None
        return values, pad_steps(self.weights, self.offsets, samples, self._equal_length)

    def scaled(self, shift: Array, factor: Array) -> Targets:
        """Return ``(values - shift) * factor``, computed in float64."""
        values = ((self.values.astype(np.float64) - shift) * factor).astype(self.values.dtype)
        return Targets(values, self.offsets, self.per_step, self.weights, self.classes, self.names, self.single)

    def feed(self, update: Update) -> None:
        """Feed dtype, shape, classes, values and weights to a hash, the same bytes on every machine."""
        weights = None if self.weights is None else self.weights.shape
        head = {
            "dtype": self.values.dtype.name,
            "shape": self.values.shape,
            "per_step": self.per_step,
            "weights": weights,
            "classes": None if self.classes is None else self.classes.tolist(),
            "names": None if self.names is None else list(map(str, self.names)),
        }
        update(json.dumps(head, separators=(",", ":")).encode())
        feed_array(self.values, update)
        feed_array(self.weights, update)


def regression_targets(
    y: Any,
    layout: Layout,
    *,
    per_step: bool,
    dtype: Any = "float32",
    sample_weight: Any = None,
    warns: bool = False,
) -> Targets:
    """Read targets that are real numbers.

    Parameters
    ----------
    y : array_like, Series, data frame, str or list of str
        Per sample: (n,) or (n, outputs) in the order of the sequences, which for a long frame is that of their first
        rows. A Series or data frame of pandas whose index is the names of the sequences, or a data frame that has their
        column, is read by these. Per step: (n, T) or (n, T, outputs) for sequences of equal length, a list of (T_i,) or
        (T_i, outputs), and for a long frame one row for each of its rows. A str, or a list of them: columns of X,
        which per sample must be the same in all rows of a sequence. NaN, None and null are targets left out.
    layout : Layout
        That of X.
    per_step : bool
        Whether there is a target for each step.
    dtype : {"float32", "float64"}
        What numbers are converted to.
    sample_weight : array_like, optional
        How much each sample counts, at least 0: (n,); or, for targets per step, each step, in the forms of y.
    warns : bool, default False
        Whether there is a warning if targets that differ are equal, or nearly so, in the dtype.

    Returns
    -------
    Targets

    Raises
    ------
    ValueError, TypeError
        If y does not fit X, or holds infinity or something that is no number, or nothing that is not missing.
    """
    answers = read_answers(y, layout, per_step)
    chosen = np.dtype(dtype)
    values = np.empty((answers.rows, len(answers.columns)), chosen)
    for place, column in enumerate(answers.columns):
        values[:, place] = real_column(column, chosen, functools.partial(answers.place, column=place), "y")
    if warns and not all_held(answers.columns, chosen):
        label = (lambda _: "y") if answers.single else (lambda place: f"y: {answers.column_text(place)}")
        warn_of_lost_digits(values, answers.columns.__getitem__, label, stacklevel=7)
    missing = np.isnan(values)
    weights = read_weights(sample_weight, layout, per_step, chosen)
    if missing.all():
        raise ValueError("y: expected at least one target, got none that is not missing")
    if missing.any():
        by_row = missing.any(axis=1)
        if (by_row == missing.all(axis=1)).all():
            weights = np.where(by_row, chosen.type(0), 1 if weights is None else weights).astype(chosen)
        else:
            own = np.ones(len(values), chosen) if weights is None else weights
            weights = np.where(missing, chosen.type(0), own[:, np.newaxis]).astype(chosen)
    _check_weights(weights)
    return Targets(values, layout.offsets, per_step, weights, None, answers.names, answers.single)


def class_targets(
    y: Any,
    layout: Layout,
    *,
    per_step: bool,
    dtype: Any = "float32",
    sample_weight: Any = None,
    class_weight: Any = None,
    classes: Array | None = None,
) -> Targets:
    """Read targets that are class labels.

    Parameters
    ----------
    y, layout, per_step, dtype, sample_weight
        As for `regression_targets`, of one label each, which may be integers, booleans, whole numbers or texts;
        ``dtype`` is that of the weights.
    class_weight : mapping, "balanced" or None
        See `class_weights`.
    classes : ndarray, optional
        The classes in order; None: the different labels, sorted.

    Returns
    -------
    Targets

    Raises
    ------
    ValueError, TypeError
        As for `regression_targets` and `class_codes`.
    """
    answers = read_answers(y, layout, per_step)
    if len(answers.columns) != 1:
        raise ValueError(f"y: expected one label for each {answers.unit}, got {len(answers.columns)} columns")
    labels = answers.columns[0] if answers.single else one_column(answers.columns[0])
    codes, classes = class_codes(labels, classes, answers.place)
    chosen = np.dtype(dtype)
    weights = read_weights(sample_weight, layout, per_step, chosen)
    if class_weight is not None:
        by_class = class_weights(class_weight, codes, classes, weights)[np.maximum(codes, 0)]
        weights = (by_class if weights is None else weights * by_class).astype(chosen)
    missing = codes < 0
    if missing.any():
        weights = np.where(missing, chosen.type(0), 1 if weights is None else weights).astype(chosen)
    _check_weights(weights)
    return Targets(codes, layout.offsets, per_step, weights, classes, answers.names, True)


def _check_weights(weights: Array | None) -> None:
    if weights is not None and not weights.any():
        raise ValueError("sample_weight: expected at least one target that counts, got weight zero for all")
