"""What a network's first layers are built from: scaling, what stands for gaps, and counts of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.estimators.data.persistence import Persistence
from latchwork.estimators.data.preparation import fit_scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._arrays import Array
    from latchwork.estimators.data.schema import Schema
    from latchwork.estimators.data.sequences import Sequences


class InputNumbers(NamedTuple):
    """What fit learned of the features of a step, static ones behind the others."""

    shift: Sequence[float]
    factor: Sequence[float]
    impute: Mapping[str, Any] | None  # arguments of `latchwork.Impute`; None: there is no NaN
    categories: Mapping[int, int]  # how many each categorical feature has, by its number


def input_numbers(
    sequences: Sequences, schema: Schema, scale: str | None, missing: str, indicators: Sequence[int]
) -> InputNumbers:
    """Find the numbers of the training data.

    Parameters
    ----------
    sequences : Sequences
        The training data alone.
    schema : Schema
        Which features are categorical.
    scale, missing : str
        The estimator's options; ``missing`` decided.
    indicators : sequence of int
        The features that get a mask and, with "forward", the time since they were last seen: of features that were
        always missing together, the first.
    """
    shift, factor = fit_scale(sequences, scale, schema.columns)
    means = missing != "refuse" and scale != "standard"
    mean = fit_scale(sequences, "standard", schema.columns)[0] if means else shift
    persistence = None
    if missing == "forward":
        own = mean[: sequences.values.shape[1]]
        persistence = np.ones(len(mean))  # static features stay as they are
        persistence[: len(own)] = persistence_of(sequences).fitted(own)
    return joined_numbers(shift, factor, mean, schema, scale, missing, indicators, persistence)


def persistence_of(sequences: Sequences) -> Persistence:
    """Look at the gaps of all sequences."""
    found = Persistence(sequences.values.shape[1])
    positions = np.arange(sequences.total_steps) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    found.add_gaps(sequences.values, positions)
    found.add_pairs(sequences.values, positions)
    return found


def joined_numbers(
    shift: Array,
    factor: Array,
    mean: Array,
    schema: Schema,
    scale: str | None,
    missing: str,
    indicators: Sequence[int],
    persistence: Array | None,
) -> InputNumbers:
    """Join the numbers of scaling with what stands for gaps.

    That is ``mean``, unscaled, unless ``missing`` is "zero"; with "forward" it is the last value, which at each step
    keeps the share ``persistence`` of its distance from ``mean``.
    """
    impute: dict[str, Any] | None = None
    if missing != "refuse":
        # What stands for a gap is scaled like everything else by then.
        if missing == "zero":
            fill = (0.0 - shift) * factor
        elif scale == "standard":
            fill = np.zeros(len(shift))
        else:
            fill = (mean - shift) * factor
        fill[schema.columns] = 0.0
        method = "forward" if missing == "forward" else "constant"
        impute = {"method": method, "fill": fill.tolist(), "indicators": list(indicators)}
        if persistence is not None:
            persistence[schema.columns] = 1.0  # codes, which have no mean
            impute["persistence"] = persistence.tolist()
    categories = {column: len(found) for column, found in schema.categories.items()}
    return InputNumbers(shift.tolist(), factor.tolist(), impute, categories)
