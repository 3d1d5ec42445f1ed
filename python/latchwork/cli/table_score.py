"""How good a model of a table is on what was held out, beside what needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from latchwork.cli.columns import Array
from latchwork.cli.table_problem import Problem, as_input
from latchwork.estimators.naive import last_values, majority_class, mean, root_mean_squared_error


def score_lines(problem: Problem, model: Any) -> list[str]:
    """Measure a fitted model on what was held out, and write a table of it and of naive predictions."""
    places = problem.places(problem.held_out)
    target = problem.target.take(places)
    training = problem.target.take(problem.places(problem.training))
    naive: dict[str, Array] = {}
    constant: float
    if target.task == "regression":
        constant, title = mean(training.values), "root mean squared error, smaller is better"
        naive["mean"] = np.full(len(places), constant)
    else:
        constant, title = majority_class(training.values), "accuracy, larger is better"
        naive[f"most frequent class, {target.classes[constant]!r}"] = np.full(len(places), constant)
    if target.per_step:
        naive["last value"] = last_values(problem.target.values, problem.sequences.offsets, constant)[places]
    naive["this model"] = _predicted(problem, model)
    measure = root_mean_squared_error if target.task == "regression" else _accuracy
    lines = [f"held-out {title}:", ""]
    width = max(24, *(len(name) + 2 for name in naive))
    for name, predicted in naive.items():
        score = measure(target.values, predicted)
        lines.append(f"  {name:<{width}} " + (f"{score:.5g}" if target.task == "regression" else f"{score:.3f}"))
    return lines


def _predicted(problem: Problem, model: Any) -> Array:
    """Predict what was held out: numbers, or numbers of classes."""
    wanted = problem.wanted
    # One series is read from its beginning, because the model remembers; whole sequences are held out with theirs.
    sequences = problem.sequences if problem.one_series else problem.sequences.take(problem.held_out)
    predicted = model.predict(as_input(sequences, problem.inputs, wanted.sequence, wanted.time))
    values: Array = np.concatenate(predicted) if isinstance(predicted, list) else predicted
    if problem.one_series:
        values = values[problem.held_out]
    if problem.target.task == "regression":
        return values
    code_of = {label: code for code, label in enumerate(problem.target.classes)}
    return np.array([code_of[label] for label in values.tolist()], np.int64)


def _accuracy(targets: Array, predicted: Array) -> float:
    known = targets >= 0
    return int((targets[known] == predicted[known]).sum()) / int(known.sum())
