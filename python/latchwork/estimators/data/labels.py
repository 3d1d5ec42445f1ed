"""Class labels as codes, and the weights of classes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.estimators.data.frames import is_missing, numbered, objects

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
    labels, inverse = distinct_labels(y, place)
    known = [label for label in labels if label is not None]
    if classes is None:
        if not known:
            raise ValueError("y: expected at least one label, got none that is not missing")
        ordered = sorted(set(known))
        classes = objects(ordered) if y.dtype.kind == "O" else np.array(ordered, y.dtype)
    code_of = {label: code for code, label in enumerate(np.asarray(classes).tolist())}
    for label in known:
        if label not in code_of:
            where = place(int(np.argmax(inverse == labels.index(label))))
            raise ValueError(f"y: expected one of the classes {_listed(list(code_of))}, got {label!r} in {where}")
    codes = np.array([-1 if label is None else code_of[label] for label in labels], np.int64)[inverse]
    return codes, np.asarray(classes)


def distinct_labels(y: Array, place: Callable[[int], str]) -> tuple[list[Any], Array]:
    """Give the different labels in y, (rows,), None for those that are missing, and for each row the place of its own.

    The errors are those of `class_codes`.
    """
    if y.dtype.kind not in "biufUSO":
        raise TypeError(f"y: expected labels, integers, booleans or texts, got dtype {y.dtype}")
    unique, inverse = numbered("y", y)
    labels = [
        None if is_missing(value) else value.item() if isinstance(value, np.generic) else value for value in unique
    ]
    known = [label for label in labels if label is not None]
    if not any(all(isinstance(label, kinds) for label in known) for kinds in (str, bytes, (bool, int, float))):
        got = ", ".join(sorted({type(label).__name__ for label in known}))
        raise TypeError(f"y: expected labels that are all texts or all numbers, got {got}")
    for number, label in enumerate(labels):
        if isinstance(label, float) and not label.is_integer():
            where = place(int(np.argmax(inverse == number)))
            raise ValueError(
                f"y: expected labels, got {label} in {where}. Unknown label type: continuous; maybe a regressor is "
                "meant"
            )
    return labels, inverse


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
    unknown = []
    for label, weight in class_weight.items():
        plain = label.item() if isinstance(label, np.generic) else label
        if isinstance(weight, (bool, np.bool_)) or not isinstance(weight, (int, float, np.integer, np.floating)):
            raise TypeError(f"class_weight: expected numbers, got {weight!r} for {plain!r}")
        if not (0 <= weight < float("inf")):
            raise ValueError(f"class_weight: expected finite numbers from 0 on, got {weight} for {plain!r}")
        if plain in places:
            found[places.pop(plain)] = weight
        else:
            unknown.append(plain)
    if unknown and places:  # a class has no weight, perhaps because its label was misspelt
        raise ValueError(f"class_weight: expected the classes {_listed(classes.tolist())}, got {unknown[0]!r}")
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
