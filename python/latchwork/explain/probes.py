"""What can be read from single units and from all of them together: correlation, not cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import as_array, integer, mask_array, real_number, seed_number, shape_text
from latchwork._foreign import is_table
from latchwork._random import Random
from latchwork._sequence import computed_steps
from latchwork.explain._choices import check_none, checked_trace, layer_name, of_member, position, positions_of_rows
from latchwork.explain._readout import Moments, Pairwise, chunks_of
from latchwork.trace import LayerTrace, Trace

if TYPE_CHECKING:
    from latchwork._arrays import Array

__all__ = ["Probe", "probe"]

# Every class is compared with every other.
MOST_CLASSES = 100


@dataclass(frozen=True, eq=False)
class Probe:
    """How well a label can be read from each unit and from all together. ``scores[k]`` is that of unit ``units[k]``.

    Attributes
    ----------
    layer, signal : str
        What was read, named as in a trace.
    measure : {"auc", "r2"}
        What the scores are: see `probe`.
    chance : float
        The score of a unit that knows nothing: 0.5 of "auc", 0 of "r2". The best of many such units is above it.
    classes : tuple
        The classes in order; empty if labels are numbers.
    units : numpy.ndarray of int
        (U,): the units by falling score; equal scores by rising number.
    scores : numpy.ndarray of float64
        (U,): the score of each unit alone, over all steps that count.
    linear : float or None
        The score of the linear combination of all units, on sequences that it was not fitted to. None: ``folds=None``.
    steps, sequences : int
        How many steps, of how many sequences, counted.
    """

    layer: str
    signal: str
    measure: str
    chance: float
    classes: tuple[Any, ...]
    units: Array
    scores: Array
    linear: float | None
    steps: int
    sequences: int

    def __repr__(self) -> str:
        """Show the best units and the linear combination."""
        shown = ", ".join(f"{unit}: {score:.3f}" for unit, score in zip(self.units[:5], self.scores[:5], strict=True))
        more = ", ..." if len(self.units) > 5 else ""
        linear = "" if self.linear is None else f"; all together {self.linear:.3f}"
        return (
            f"<Probe of {self.signal} in {self.layer}, {self.measure} with {self.chance:g} by chance: "
            f"unit {shown}{more}{linear}>"
        )


def probe(
    traces: Trace[Any] | Sequence[Trace[Any]],
    labels: Any,
    *,
    layer: str | int | None = None,
    signal: str = "cell",
    step: Any = None,
    where: Any = None,
    member: int | None = None,
    folds: int | None = 5,
    ridge: float = 1e-2,
    seed: int | None = 0,
) -> Probe:
    """Rank units by how well a label can be read from them, and say how well from all of them together.

    This is correlation, not cause: a unit may hold what the network never uses, or follow something that goes with the
    label. `swap` and `responsible` say which units the output depends on.

    Parameters
    ----------
    traces : Trace or sequence of Trace
        What ``trace`` gave, of one batch or of several, of the same network. Steps that are padding or that ``skip``
        left out do not count; what these are, and in which order the axes come, the traces know from the calls.
    labels : array_like
        One for each sequence, (N,), or one for each step, in the axes of x: (T, N), with ``batch_first`` (N, T);
        unbatched one alone, or (T,). Integers, booleans and strings are classes; floats are numbers. For a sequence of
        traces a sequence of such labels, and so for ``where``. At most 100 classes.
    layer : str or int, optional
        Which layer and direction, as ``trace[layer]`` takes it. None: the first.
    signal : str, default "cell"
        What of the units to read: "cell", "hidden", "input_gate", "forget_gate", "candidate" or "output_gate".
    step : int or (N,) array_like of int, optional
        The only step that counts; for all sequences, or for each its own; negative ones from T back. Of sequences that
        are padding there, none counts; the last step of each is ``step=lengths - 1``. For a sequence of traces an int,
        or a sequence of such steps. None: all steps count.
    where : array_like of bool, optional
        Which steps count, in the axes of labels for each step. None: all.
    member : int, optional
        Which member to read: needed if the network has several.
    folds : int, optional
        In how many parts the sequences are divided for the cross-validation, at least 2. Fewer, if there are fewer
        sequences or, where each sequence is of one class, fewer of the rarest class. None: no linear combination is
        fitted. Default 5.
    ridge : float, default 1e-2
        Above 0: how much the linear combination is held back, as a share of the units' own variance.
    seed : int, optional
        Seed of the division into folds, 0 by default. None: a fresh one.

    Returns
    -------
    Probe
        The units ranked with their scores, and the score of the linear combination.

    Raises
    ------
    ValueError
        If a shape does not fit, if there are fewer than two classes or all numbers are equal, if what is read or a
        label that counts is not finite, or if there are too few sequences to divide, which needs at least two of each
        class.
    IndexError
        If there is no such layer, step or member.
    TypeError
        If an argument is of a wrong type.

    Notes
    -----
    *Classes.* The score is the area under the ROC curve: the probability that of two steps of different classes the
    unit orders them rightly, by rising or by falling value, whichever is better; ties count half. 1: a threshold
    divides the classes without an error; 0.5: chance. With more than two classes it is the mean over all pairs of
    classes (Hand and Till, "A simple generalisation of the area under the ROC curve for multiple class classification
    problems", Machine Learning 45, 2001).

    *Numbers.* The score is R2 of a straight line, the share of the labels' variance that it explains; 0: chance.

    *The linear combination* is fitted by ridge regression in float64 to all units, each divided by its standard
    deviation: to the numbers, or to an indicator of each class. All steps of a sequence lie in one fold, because
    neighbouring steps are nearly equal and would give the answer away; each fold is predicted by a fit to the others.
    Its score is of the same kind. Pairs of steps are compared within a fold; R2 compares with the mean of the labels
    that were fitted, and is below 0 if that mean is better. The classes of sequences are spread over the folds evenly.

    Each step counts alike, so long sequences count more. Scores of single units are not cross-validated, having next to
    nothing to fit; but with few sequences the best of many units looks good by chance alone. To see how good, probe
    the same traces with labels that are shuffled among the sequences.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(1, 8, seed=0)
    >>> x = np.linspace(-1, 1, 20)[np.newaxis, :, np.newaxis] * np.ones((10, 20, 1))
    >>> found = lw.explain.probe(lstm.trace(x), x[0, :, 0] > 0, step=9)
    >>> found.measure, float(found.scores[0])
    ('auc', 1.0)
    """
    batches = _batches(traces, labels, layer, signal, step, where, member)
    count = None if folds is None else integer("folds", folds, 2)
    strength = real_number("ridge", ridge)
    if strength <= 0:
        raise ValueError(f"ridge: expected a number above 0, got {ridge}")
    random = Random(seed_number("seed", seed))
    samples = _Samples(batches)
    divided = None if count is None else samples.folds(count, random)
    if samples.classes:
        scores, linear = _class_scores(samples, divided, strength)
    else:
        scores, linear = _number_scores(samples, divided, strength)
    units = np.lexsort((np.arange(len(scores)), -scores))
    measure, chance = ("auc", 0.5) if samples.classes else ("r2", 0.0)
    name = batches[0].layer
    return Probe(
        name, signal, measure, chance, samples.classes, units, scores[units], linear, len(samples.labels),
        len(samples.sequences),
    )  # fmt: skip


class _Batch(NamedTuple):
    """What counts of one trace: steps in the order of the sequences."""

    layer: str
    values: Array  # (steps, units)
    labels: Array  # (steps,)
    rows: Array  # (steps,): to which sequence of the trace each belongs


class _Samples:
    """All steps that count, sequence after sequence."""

    def __init__(self, batches: Sequence[_Batch]) -> None:
        units = {batch.values.shape[1] for batch in batches}
        if len(units) > 1:
            raise ValueError(
                f"traces: expected equally many units in each, got {' and '.join(map(str, sorted(units)))}"
            )
        kinds = {"numbers" if batch.labels.dtype.kind == "f" else "strings" if batch.labels.dtype.kind == "U" else
                 "integers" for batch in batches}  # fmt: skip
        if len(kinds) > 1:
            raise TypeError(f"labels: expected the same kind for all traces, got {' and '.join(sorted(kinds))}")
        self.values: Array = np.concatenate([batch.values for batch in batches])
        labels = np.concatenate([batch.labels for batch in batches])
        traces = np.repeat(np.arange(len(batches)), [len(batch.rows) for batch in batches])
        places = np.stack([traces, np.concatenate([batch.rows for batch in batches])])
        self.sequences, self.sequence_of = np.unique(places, axis=1, return_inverse=True)
        self.sequences = self.sequences.T
        self.sequence_of = self.sequence_of.reshape(-1)
        if not len(labels):
            raise ValueError("traces: expected at least one step that counts, got none")
        if not np.isfinite(self.values).all():
            raise ValueError("traces: expected finite numbers in the steps that count, got NaN or infinity")
        self.classes: tuple[Any, ...] = ()
        if kinds == {"numbers"}:
            self.labels: Array = labels.astype(np.float64)
            if not np.isfinite(self.labels).all():
                raise ValueError("labels: expected finite numbers, got NaN or infinity; where= says which steps count")
            if (self.labels == self.labels[0]).all():
                raise ValueError(f"labels: expected numbers that differ, got {self.labels[0]:g} only")
        else:
            names, self.labels = np.unique(labels, return_inverse=True)
            self.classes = tuple(names.tolist())
            if len(names) < 2:
                raise ValueError(
                    f"labels: expected at least two classes in the steps that count, got {self.classes[0]!r} only"
                )
            if len(names) > MOST_CLASSES:
                raise ValueError(
                    f"labels: expected at most {MOST_CLASSES} classes, whose pairs are compared, got {len(names)}; "
                    "floats are read as numbers"
                )

    def folds(self, count: int, random: Random) -> Array:
        """Divide the sequences; say for each step in which fold it is."""
        sequences = len(self.sequences)
        if sequences < 2:
            raise ValueError(
                f"folds: expected at least two sequences to divide, got {sequences}; cut the sequence into several, or "
                "say folds=None for the scores of single units alone"
            )
        order = np.argsort(random.uniform(sequences), kind="stable")
        count = min(count, sequences)
        if self.classes:
            # If each sequence is of one class, every fold needs some of each class, and so does what is fitted.
            first = np.full(sequences, len(self.classes))
            np.minimum.at(first, self.sequence_of, self.labels)
            last = np.full(sequences, -1)
            np.maximum.at(last, self.sequence_of, self.labels)
            if (first == last).all():
                order = order[np.argsort(first[order], kind="stable")]
                of_classes = np.bincount(first)
                rarest = int(np.argmin(of_classes))
                if of_classes[rarest] < 2:
                    raise ValueError(
                        f"folds: expected at least two sequences of each class, got one of {self.classes[rarest]!r}; "
                        "say folds=None for the scores of single units alone"
                    )
                count = min(count, int(of_classes[rarest]))
        fold = np.empty(sequences, np.int64)
        fold[order] = np.arange(sequences) % count
        of_steps: Array = fold[self.sequence_of]
        return of_steps


def _class_scores(samples: _Samples, folds: Array | None, ridge: float) -> tuple[Array, float | None]:
    count = len(samples.classes)
    members = [np.flatnonzero(samples.labels == each) for each in range(count)]
    scores = np.empty(samples.values.shape[1])
    for unit in range(len(scores)):
        areas = Pairwise(count)
        column = samples.values[:, unit]
        areas.add_values([column[each] for each in members])
        scores[unit] = areas.mean(either_way=True)
    if folds is None:
        return scores, None
    indicators = (samples.labels[:, np.newaxis] == np.arange(count)).astype(np.float64)
    areas = Pairwise(count)
    for part, predicted, _ in _predictions(samples.values, indicators, folds, ridge):
        labels = samples.labels[part]
        areas.add_decisions([predicted[labels == each] for each in range(count)])
    return scores, areas.mean(either_way=False)


def _number_scores(samples: _Samples, folds: Array | None, ridge: float) -> tuple[Array, float | None]:
    # So that the sums of products lose nothing, wherever the labels lie, and none overflows.
    labels = np.ldexp(samples.labels, -np.frexp(np.abs(samples.labels).max())[1])
    labels -= labels.mean()
    labels /= np.abs(labels).max()
    targets = labels[:, np.newaxis]
    scores = Moments.of(samples.values, targets, samples.values.mean(axis=0, dtype=np.float64)).r2()
    if folds is None:
        return scores, None
    error = baseline = 0.0
    for part, predicted, mean in _predictions(samples.values, targets, folds, ridge):
        error += float(((labels[part] - predicted[:, 0]) ** 2).sum())
        baseline += float(((labels[part] - mean[0]) ** 2).sum())
    return scores, 1.0 - error / baseline


def _predictions(values: Array, targets: Array, folds: Array, ridge: float) -> list[tuple[Array, Array, Array]]:
    """For each fold: its steps, what a fit to all others predicts of them, and the mean of the targets fitted to."""
    shift = values.mean(axis=0, dtype=np.float64)
    parts = [np.flatnonzero(folds == fold) for fold in range(int(folds.max()) + 1)]
    moments = [Moments.of(values[part], targets[part], shift) for part in parts]
    result = []
    for place, part in enumerate(parts):
        others = sum((each for other, each in enumerate(moments) if other != place), Moments.none(moments[0]))
        weights, intercept, mean = others.ridge(ridge)
        predicted = np.concatenate([(chunk - shift) @ weights + intercept for chunk in chunks_of(values[part])])
        result.append((part, predicted, mean))
    return result


def _batches(traces: Any, labels: Any, layer: Any, signal: Any, step: Any, where: Any, member: Any) -> list[_Batch]:
    # A LayerTrace is a tuple, too.
    if isinstance(traces, LayerTrace) or not isinstance(traces, (list, tuple)):
        trace = checked_trace(traces, "traces", ", or a list of them")
        return [_batch(trace, labels, layer, signal, step, where, member, "")]
    if not traces:
        raise ValueError("traces: expected at least one, got none")
    for number, trace in enumerate(traces):
        checked_trace(trace, f"traces[{number}]")
    count = len(traces)
    steps = step if _is_sequence(step) else [step] * count
    each = [_one_for_each(name, value, count) for name, value in
            (("labels", labels), ("step", steps), ("where", where))]  # fmt: skip
    batches = []
    for number, (trace, own, at, mask) in enumerate(zip(traces, *each, strict=True)):
        place = f"[{number}]"
        batches.append(_batch(trace, own, layer, signal, at, mask, member, place))
    return batches


def _one_for_each(name: str, value: Any, count: int) -> Any:
    if value is None:
        return [None] * count
    if not _is_sequence(value):
        raise TypeError(f"{name}: expected a sequence, one for each trace, got {type(value).__name__}")
    if len(value) != count:
        raise ValueError(f"{name}: expected one for each of {count} traces, got {len(value)}")
    return value


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim > 0


def _batch(
    trace: Trace[Any], labels: Any, layer: Any, signal: Any, step: Any, where: Any, member: Any, place: str
) -> _Batch:
    name = layer_name(trace, layer)
    if not isinstance(signal, str) or signal not in LayerTrace._fields:
        raise ValueError(f"signal: expected one of {', '.join(LayerTrace._fields)}, got {signal!r}")
    course = trace._course_of(name)
    steps, rows, axes = course.steps, course.rows, course.axes.of_one_member
    values = course.axes.to_core(getattr(trace[name], signal))
    computed = computed_steps(steps, course.lengths, course.skip)
    if course.axes.members is None:
        check_none("member", member, "there is one member only")
    elif member is None:
        raise ValueError(f"member: expected which of {course.axes.members} to read, got None")
    else:
        number = position("member", member, course.axes.members)
        values = values[number]
        if computed is not None:
            computed = of_member(computed, 2, number)
    counts = np.ones((steps, rows), bool) if computed is None else computed

    own = _label_array(f"labels{place}", labels)
    of_steps, of_rows = axes.shape(steps, rows), axes.shape(steps, rows, sequence=False)
    if own.shape == of_steps:
        own = axes.to_core(own)
    elif own.shape == of_rows:
        own = np.broadcast_to(axes.to_core(own, sequence=False), (steps, rows))
    else:
        expected = shape_text(of_rows) if axes.batched else "one label"
        raise ValueError(f"labels{place}: expected {expected} or {shape_text(of_steps)}, got {shape_text(own.shape)}")
    if where is not None:
        counts = counts & axes.to_core(mask_array(f"where{place}", where, of_steps))
    if step is not None:
        numbers = positions_of_rows(f"step{place}", step, rows, steps)
        counts = counts & (np.arange(steps)[:, np.newaxis] == numbers)
    chosen = np.nonzero(counts.T)
    return _Batch(name, values.swapaxes(0, 1)[chosen], own.T[chosen], chosen[0])


def _label_array(name: str, labels: Any) -> Array:
    if is_table(labels) and not hasattr(labels, "columns") and _are_words(np.asarray(labels, dtype=object)):
        labels = np.asarray(labels, dtype=object)  # a column of words, which numbers may not be read from
    array = as_array(name, labels)
    if array.dtype.kind == "O" and _are_words(array):
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise TypeError(
            f"{name}: expected integers, booleans or strings (classes), or floats (numbers), got dtype {array.dtype}"
        )
    return array


def _are_words(array: Array) -> bool:
    return all(isinstance(each, str) for each in array.reshape(-1).tolist())
