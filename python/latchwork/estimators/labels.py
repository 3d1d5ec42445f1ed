"""Class labels as codes, and the weights of classes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.frames import is_missing

if TYPE_CHECKING:
    from latchwork._arrays import Array


def class_codes(
    y: Array, classes: Array | None = None, place: Callable[[int], str] = "sample {}".format
) -> tuple[Array, Array]:
    """Give each label the place of its class.

    Parameters
    ----------
    y : ndarray
        (rows,) of integers, booleans, texts, whole numbers, or objects that are these. NaN, None and pandas.NA are
        labels that are missing.
    classes : ndarray, optional
        The classes in order; None: the different labels, sorted.
    place : callable
        Says in words where the label of a row was given.

    Returns
    -------
    codes : ndarray of int64
        (rows,); -1 for a label that is missing.
    classes : ndarray
        In the dtype of y.

    Raises
    ------
    ValueError
        If a label is a number that is not whole, or not among ``classes``, or if all labels are missing.
    TypeError
        If labels are of several kinds, or of no kind that labels have.
    """
    labels, missing = plain_labels(y, place)
    codes = np.full(len(labels), -1, np.int64)
    known = labels[~missing]
    if classes is None:
        if not len(known):
            raise ValueError("y: expected at least one label, got none that is not missing")
        classes, codes[~missing] = np.unique(known, return_inverse=True)
        if y.dtype.kind == "O":
            classes = classes.astype(object)
        return codes, classes
    code_of = {label: code for code, label in enumerate(np.asarray(classes).tolist())}
    unique, inverse = np.unique(known, return_inverse=True)
    unique_codes = np.array([code_of.get(label, -1) for label in unique.tolist()], np.int64)
    codes[~missing] = unique_codes[inverse]
    unknown = (codes < 0) & ~missing
    if unknown.any():
        row = int(np.argmax(unknown))
        got = labels[row : row + 1].tolist()[0]
        raise ValueError(f"y: expected one of the classes {_listed(list(code_of))}, got {got!r} in {place(row)}")
    return codes, np.asarray(classes)


def plain_labels(y: Array, place: Callable[[int], str]) -> tuple[Array, Array]:
    """Give labels in a dtype in which they can be sorted, and where they are missing."""
    missing = np.zeros(len(y), bool)
    if y.dtype.kind == "O":
        missing = np.array([is_missing(value) for value in y.tolist()], bool)
        known = [value.item() if isinstance(value, np.generic) else value for value in y[~missing].tolist()]
        kinds = {
            "texts" if isinstance(value, str) else "numbers" if isinstance(value, (bool, int, float)) else None
            for value in known
        }
        if None in kinds or len(kinds) > 1:
            got = ", ".join(sorted({type(value).__name__ for value in known}))
            raise TypeError(f"y: expected labels that are all texts or all numbers, got {got}")
        plain = np.array(known) if "numbers" in kinds else np.array(known, object)
        labels = np.zeros(len(y), plain.dtype)
        labels[~missing] = plain
    elif y.dtype.kind in "biufUS":
        labels = y
    else:
        raise TypeError(f"y: expected labels, integers, booleans or texts, got dtype {y.dtype}")
    if labels.dtype.kind == "f":
        missing = missing | np.isnan(labels)
        with np.errstate(invalid="ignore"):
            wrong = ~missing & ~(np.isfinite(labels) & (np.floor(labels) == labels))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"y: expected labels, got {labels[row]} in {place(row)}. Unknown label type: continuous; maybe a "
                "regressor is meant"
            )
    return labels, missing


def class_weights(class_weight: Any, codes: Array, classes: Array, weights: Array | None = None) -> Array:
    """Find the weight of each class, as scikit-learn does.

    Parameters
    ----------
    class_weight : mapping, "balanced" or None
        By label; a class that is left out has 1. "balanced": the sum of all weights, over the number of classes times
        the sum of the weights of the class. None: 1.
    codes : ndarray of int64
        (rows,): what `class_codes` gave.
    classes : ndarray
        (classes,)
    weights : ndarray, optional
        (rows,): weights of the samples; None: 1.

    Returns
    -------
    ndarray of float64
        (classes,)
    """
    found = np.ones(len(classes))
    if class_weight is None:
        return found
    if isinstance(class_weight, str) and class_weight == "balanced":
        known = codes >= 0
        counts = np.bincount(
            codes[known], None if weights is None else weights[known].astype(np.float64), minlength=len(classes)
        ).astype(np.float64)
        total = float(np.cumsum(counts)[-1])
        np.divide(total, len(classes) * counts, out=found, where=counts > 0)
        return found
    if not isinstance(class_weight, Mapping):
        raise ValueError(f'class_weight: expected a mapping, "balanced" or None, got {class_weight!r}')
    places = {label: place for place, label in enumerate(classes.tolist())}
    for label, weight in class_weight.items():
        plain = label.item() if isinstance(label, np.generic) else label
        if isinstance(weight, (bool, np.bool_)) or not isinstance(weight, (int, float, np.integer, np.floating)):
            raise TypeError(f"class_weight: expected numbers, got {weight!r} for {plain!r}")
        if not (0 <= weight < float("inf")):
            raise ValueError(f"class_weight: expected finite numbers from 0 on, got {weight} for {plain!r}")
        if plain in places:
            found[places.pop(plain)] = weight
            continue
        if len(class_weight) < len(classes) or places:
            raise ValueError(f"class_weight: expected the classes {_listed(classes.tolist())}, got {plain!r}")
    return found


def one_column(y: Array) -> Array:
    """Give labels that came as one column (n, 1) as (n,), with scikit-learn's warning."""
    module: Any = sys.modules.get("sklearn.exceptions")
    kind = UserWarning if module is None else module.DataConversionWarning
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples,), for "
        "example using ravel().",
        kind,
        stacklevel=5,
    )
    return y.reshape(-1)


def _listed(classes: list[Any]) -> str:
    return ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
