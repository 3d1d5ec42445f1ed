"""X of every kind as ragged sequences in one array."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._arrays import real_dtype
from latchwork.estimators.data.categories import category_columns, encode, find_categories
from latchwork.estimators.data.frames import is_frame
from latchwork.estimators.data.given import Given, read_given
from latchwork.estimators.data.layout import Layout as Layout
from latchwork.estimators.data.real_columns import all_held, converted, infinity, real_column, warn_of_lost_digits
from latchwork.estimators.data.schema import Schema as Schema
from latchwork.estimators.data.schema import joined_names
from latchwork.estimators.data.sequences import Sequences as Sequences
from latchwork.estimators.data.static import Static, read_static

if TYPE_CHECKING:
    from latchwork._arrays import Array

_ROWS = 1 << 16  # rows that are looked at at once


def read_fit(
    X: Any,
    *,
    static: Any = None,
    sequence: Any = None,
    time: Any = None,
    categorical: Any = None,
    dtype: Any = "float32",
    targets: Sequence[Any] = (),
) -> tuple[Sequences, Schema, Layout]:
    """Read the inputs of ``fit``.

    Parameters
    ----------
    X : array_like or data frame
        (n, T, features). (n, T), a data frame too: one feature a step. A list of (T_i, features) or (T_i,). A data
        frame of pandas, polars or Arrow in long form, one row a step, which ``sequence`` or ``time`` tells. A list of
        data frames, one for each sequence. NaN, None, pandas.NA, null and masked elements are missing values.
    static : array_like or data frame, optional
        (n, static features): what stays the same over a sequence. Its rows are in the order of the sequences, which for
        a long frame is that of their first rows; or a data frame has the column ``sequence`` or an index that names
        them.
    sequence, time : optional
        Columns of a long frame: which sequence a row belongs to, and what orders its rows. Without ``sequence`` all
        rows are one sequence; without ``time`` they come in order. ``time`` may also be a column of each frame of a
        list.
    categorical : sequence, optional
        Names or numbers of columns of categories; static features have the numbers behind the others. A value becomes
        its place among the sorted values, and a missing one the place behind them.
    dtype : {"float32", "float64"}
        What numbers are converted to.
    targets : sequence, optional
        Columns of data frames that are no features.

    Returns
    -------
    sequences : Sequences
    schema : Schema
    layout : Layout

    Raises
    ------
    ValueError, TypeError
        If X is none of these, is empty, or holds infinity or something that is no number; the message names the sample,
        the step and the column, or the row of a frame.
    """
    chosen = real_dtype(dtype)
    given = read_given(X, sequence, time, targets)
    layout = given.layout
    for name in targets:
        if layout.kind == "long" and name not in layout.tables[0]:
            there = ", ".join(map(repr, layout.tables[0].names))
            raise ValueError(f"y: expected a column of X, got {name!r}; there are {there}")
    if len(layout) == 0 or layout.total_steps == 0:
        shape = f"({len(layout)}, ...)" if given.steps is None else f"({len(layout)}, {given.steps})"
        what = "step" if len(layout) else "sample"
        raise ValueError(f"X: expected at least 1 {what}, got 0 {what}(s) (shape={shape}) while 1 is required.")
    extra = read_static(static, layout)
    static_names, n_static = (None, 0) if extra is None else (extra.names, extra.size)
    columns = category_columns(categorical, layout.names, static_names, given.n_features, n_static)
    categories: dict[int, list[Any]] = {}
    for place in columns:
        column, label = _column(given, extra, place)
        categories[place] = find_categories(column, label)
    schema = Schema(
        kind=layout.kind,
        dtype=chosen.name,
        n_features=given.n_features,
        names=layout.names,
        steps=given.steps,
        step_names=given.step_names,
        n_static=n_static,
        static_names=static_names,
        categories=categories,
        sequence=sequence,
        time=time,
        targets=tuple(targets),
    )
    sequences = _sequences(given, extra, schema)
    _warn_of_lost_digits(given, schema, sequences.values)
    return sequences, schema, layout


def read(X: Any, schema: Schema, *, static: Any = None, estimator: str = "this model") -> tuple[Sequences, Layout]:
    """Read the inputs of ``predict`` as those of ``fit`` were read.

    Parameters
    ----------
    X : array_like or data frame
        As for `read_fit`; its form may be another one than that of the training data. Columns of a frame are found by
        their names.
    schema : Schema
        What `read_fit` returned.
    static : array_like or data frame, optional
        As for `read_fit`, and only if there it was given.
    estimator : str
        What the model is called in messages.

    Returns
    -------
    sequences : Sequences
    layout : Layout
        It brings predictions into the form that X has.

    Raises
    ------
    ValueError, TypeError
        As for `read_fit`; also if X has other features than the training data, or a category that it did not have.
    """
    sequence, time = _roles(X, schema)
    given = read_given(X, sequence, time, schema.targets)
    given = _check_features(given, schema, estimator)
    extra = read_static(static, given.layout)
    if (0 if extra is None else extra.size) != schema.n_static:
        raise ValueError(
            f"static: expected {schema.n_static} features of each sequence, as in training, got "
            f"{0 if extra is None else extra.size}"
        )
    if extra is not None:
        extra = extra.in_order(schema.static_names)
    return _sequences(given, extra, schema), given.layout


def _roles(X: Any, schema: Schema) -> tuple[Any, Any]:
    """Say which columns name the sequence and the time in X: none if X has no such columns by its form."""
    if is_frame(X):
        return schema.sequence, schema.time
    frames = isinstance(X, (list, tuple)) and len(X) > 0 and is_frame(X[0])
    return None, schema.time if frames else None


def _check_features(given: Given, schema: Schema, estimator: str) -> Given:
    """Compare features with those of training, in scikit-learn's words; give them in the order that they had there."""
    expected, got = schema.feature_names_in, given.feature_names_in
    comparable = (schema.steps is None) == (given.steps is None)
    if comparable and expected is not None and got is not None:
        if given.steps is None and set(expected) == set(got) and len(expected) == len(got):
            given = _reordered(given, expected)
        elif expected != got:
            raise ValueError(_other_names(expected, got))
    elif comparable and expected is not None:
        warnings.warn(
            f"X does not have valid feature names, but {estimator} was fitted with feature names",
            UserWarning,
            stacklevel=4,
        )
    elif comparable and got is not None:
        warnings.warn(
            f"X has feature names, but {estimator} was fitted without feature names", UserWarning, stacklevel=4
        )
    if comparable and given.steps != schema.steps:
        raise ValueError(
            f"X has {given.steps} features, but {estimator} is expecting {schema.steps} features as input; sequences "
            "of another length are given as (n, T, 1) or as a list"
        )
    if given.n_features != schema.n_features:
        hint = "" if given.steps is None else "; a 2-D X has one feature a step; one sequence is X[np.newaxis]"
        raise ValueError(
            f"X has {given.n_features} features, but {estimator} is expecting {schema.n_features} features as input"
            + hint
        )
    return given


def _reordered(given: Given, names: tuple[str, ...]) -> Given:
    own = given.layout.names
    if own == names or own is None:
        return given
    given.columns = [given.columns[own.index(name)] for name in names]
    given.layout.names = names
    return given


def _other_names(expected: tuple[str, ...], got: tuple[str, ...]) -> str:
    unseen, missing = sorted(set(got) - set(expected)), sorted(set(expected) - set(got))
    lines = ["The feature names should match those that were passed during fit."]
    for title, names in (("unseen at fit time", unseen), ("seen at fit time, yet now missing", missing)):
        if names:
            lines.append(f"Feature names {title}:")
            lines += [f"- {name}" for name in names[:5]] + (["- ..."] if len(names) > 5 else [])
    if not unseen and not missing:
        lines.append("Feature names must be in the same order as they were in fit.")
    return "\n".join(lines) + "\n"


def _column(given: Given, extra: Static | None, place: int) -> tuple[Array, str]:
    """Give a column by its number, static ones behind the others, and its name in words."""
    if place < given.n_features:
        return given.column(place), given.layout.column_text(place)
    own = place - given.n_features
    static = [] if extra is None else [(column, extra.label(number)) for number, column in enumerate(extra.columns)]
    return static[own]


def _sequences(given: Given, extra: Static | None, schema: Schema) -> Sequences:
    layout, dtype = given.layout, np.dtype(schema.dtype)
    values = _values(given, schema, dtype)
    static = None
    if extra is not None:
        static = np.empty((len(layout), extra.size), dtype)
        for place, column in enumerate(extra.columns):
            categories = schema.categories.get(given.n_features + place)
            label = extra.label(place)
            if categories is None:
                static[:, place] = real_column(column, dtype, functools.partial(_static_place, layout, label), "static")
            else:
                static[:, place] = encode(column, categories, label, layout.sample_text)
    names = joined_names(schema.names, schema.n_features, schema.static_names, schema.n_static)
    return Sequences(values, layout.offsets, static, names, schema.categories)


def _static_place(layout: Layout, label: str, sample: int) -> str:
    return f"{layout.sample_text(sample)}, {label}"


def _values(given: Given, schema: Schema, dtype: np.dtype[Any]) -> Array:
    """Convert all features of a step: (total_steps, features)."""
    layout, features = given.layout, given.n_features
    numeric = given.blocks and all(block.dtype.kind in "biuf" for block in given.blocks)
    if numeric and not any(column < features for column in schema.categories):
        if len(given.blocks) == 1:
            values = converted(given.blocks[0], dtype)
        else:
            values = np.empty((layout.total_steps, features), dtype)
            with np.errstate(all="ignore"):
                np.concatenate(given.blocks, out=values, casting="unsafe")
        _check_finite(values, given)
        return values
    values = np.empty((layout.total_steps, features), dtype)
    for place in range(features):
        column = given.column(place)
        categories = schema.categories.get(place)
        if categories is None:
            values[:, place] = real_column(column, dtype, functools.partial(layout.place, column=place), "X")
        else:
            values[:, place] = encode(column, categories, layout.column_text(place), layout.place)
    return values


def _check_finite(values: Array, given: Given) -> None:
    """Raise ValueError if there is an infinity."""
    if _core.all_finite(values):
        return
    for begin in range(0, len(values), _ROWS):
        infinite = np.isinf(values[begin : begin + _ROWS])
        if infinite.any():
            row, column = (int(place) for place in np.argwhere(infinite)[0])
            step = begin + row
            raise ValueError(infinity("X", given.column(column)[step], values.dtype, given.layout.place(step, column)))


def _warn_of_lost_digits(given: Given, schema: Schema, values: Array) -> None:
    """Warn of features whose numbers differ less than the dtype can tell."""

    def column(place: int) -> Array | None:
        return None if place in schema.categories else given.column(place)

    if not all_held(given.blocks or given.columns, values.dtype):
        warn_of_lost_digits(values, column, lambda place: f"X: {given.layout.column_text(place)}", stacklevel=5)
