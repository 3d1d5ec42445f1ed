"""What a cell holds, as a sum over the steps that wrote it, and where it was forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.explain._cells import Cells

if TYPE_CHECKING:
    from latchwork._arrays import Array


class Memory(NamedTuple):
    """What cells hold after a step, as `memory` returns it: ``terms`` over all steps and ``start`` add up to ``cell``.

    All are in the axes of the trace, of which those of an int ``unit``, ``row`` or ``member`` are left out. T, N and H
    below are those of an LSTM with ``batch_first=False``.
    """

    terms: Array
    """(T, N, H): what is left of the candidate that each step let in; 0 for steps that wrote nothing that is left."""
    start: Array
    """(N, H): what is left of the start state, or of the layer's own since the last ``reset``."""
    cell: Array
    """(N, H): the cell itself, as the trace has it."""
    share: Array
    """(T, N): how much of all that the units hold each step wrote: ``abs(terms)`` summed over the units, divided by the
    sum of that over all steps and of ``abs(start)``. 0 where the units hold nothing at all."""
    start_share: Array
    """(N,): the same of the start state. With ``share`` it adds up to 1."""


class Ranking(NamedTuple):
    """Steps in the order of what they wrote or erased, as `written_by` and `erased_by` return them.

    All three are (T, N) in the axes of the trace, of which those of an int ``row`` or ``member`` are left out. The axis
    T counts ranks: ``steps[0]`` is the first in rank. Steps that did nothing come last, with 0; of equal ones that
    which is nearest to the chosen step comes first. For one sequence ``zip(*ranking)`` gives step, amount and share.
    """

    steps: Array
    """The steps, from 0 to T - 1."""
    amounts: Array
    """What they wrote or erased, in the measure of the cell, summed over the units without regard to signs."""
    shares: Array
    """The same as a share, of which the function says what it is a share of."""


def memory(
    trace: Any, step: int, layer: str | int | None = None, *, unit: Any = None, row: Any = None, member: Any = None
) -> Memory:
    """Split what cells hold after a step into a sum, with a term for each step that wrote it.

    The cell update ``c = f * c_prev + i * g``, put into itself again and again, gives::

        c_t = sum over s of i_s g_s f_{s+1} f_{s+2} ... f_t  +  c_0 f_1 f_2 ... f_t

    The term of step s is the candidate that its input gate let in, times all forget gates since: what is left of it at
    step t.

    Parameters
    ----------
    trace : Trace
        Of an `LSTM` or a `Network`.
    step : int
        After which step the cells are looked at, from 0 to T - 1, or from the end if it is negative. It is the place in
        the sequence: a reverse direction, which starts at the end, has terms from this step on.
    layer : str or int, optional
        The layer and direction, as ``trace[layer]`` takes it: ``"l0_reverse"``, in a network ``"1.l0"``, or a number.
        None: the first.
    unit : int or sequence of int, optional
        Which hidden units, from 0 to H - 1 or from the end. None: all.
    row : int or sequence of int, optional
        Which sequences of the batch. None: all.
    member : int or sequence of int, optional
        Which members of a network of several. None: all.

    Returns
    -------
    Memory
        ``terms``, (T, N, H), ``start`` and ``cell``, (N, H), and the share of each step over the chosen units,
        (T, N); without the axes of an int ``unit``, ``row`` or ``member``.

    Raises
    ------
    TypeError
        If ``trace`` is no `Trace`, or a choice is no int (or sequence of them).
    ValueError
        If there is no such layer, or no axis of rows or members to choose from; or if ``cell_clip`` cut a cell and
        something of that is left: the terms would not add up to it.
    IndexError
        If a choice is out of range.

    Notes
    -----
    This holds for every variant of the cell. With coupled gates f is 1 - i, without a forget gate 1. With zoneout z
    (`LSTM`'s ``zoneout[1]``; a trace mixes old and new cell in these shares) the identity is that of
    ``c = (z + (1 - z) f) c_prev + (1 - z) i g``: z is added to what is kept. After a ``reset`` the sum begins anew with
    the layer's own start state, and steps before it have the term 0. Steps that ``skip`` leaves out keep everything and
    write nothing. In padding all is 0.

    Terms are computed in double precision and returned in the dtype of the trace. They differ from ``cell`` by no more
    than its own rounding: of the largest cell so far 1e-6 in up to 100 steps and 6e-8 T in more for float32, 1e-13 for
    float64. What is too small to be a normal number of the dtype is 0.

    NaN and infinity are taken as the trace has them. A candidate that is NaN or infinite makes the term of its own step
    NaN or infinite, a forget gate that is NaN makes all terms before it NaN, and an infinity times a forget gate of 0
    is NaN, as it is in the cell. A NaN in x is in all gates of its step and, through h, of the steps after it, so that
    from there on all terms are NaN, until a ``reset``.

    The equations are those of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000).

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> trace = lw.LSTM(3, 8, seed=0).trace(np.ones((20, 4, 3)))
    >>> memory = lw.explain.memory(trace, step=-1, row=0)
    >>> memory.terms.shape, memory.cell.shape, memory.share.shape
    ((20, 8), (8,), (20,))
    >>> np.allclose(memory.terms.sum(axis=0) + memory.start, memory.cell, atol=1e-6)
    True
    """
    cells = Cells(trace, step, layer, unit, row, member)
    with np.errstate(all="ignore"):
        parts = _parts(cells)
        return Memory(
            cells.as_sequence(parts.terms),
            cells.as_state(parts.start),
            cells.as_state(cells.signal("cell")[:, -1:]),
            cells.as_sequence(_quotient(parts.step_sizes, parts.total), units=False),
            cells.as_state(_quotient(parts.start_size, parts.total), units=False),
        )


def written_by(
    trace: Any, step: int, layer: str | int | None = None, *, unit: Any = None, row: Any = None, member: Any = None
) -> Ranking:
    """Rank the steps by how much they wrote of what cells hold after a step.

    Parameters
    ----------
    trace, step, layer, unit, row, member
        As for `memory`.

    Returns
    -------
    Ranking
        ``amounts`` are the sizes of the terms of `memory`, summed over the chosen units: of several units every one
        counts by how much it holds. ``shares`` are parts of all that the units hold, so that they and
        ``memory(...).start_share``, the part of the start state, add up to 1. A step whose amount is NaN comes first.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `memory`.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> trace = lw.LSTM(3, 8, seed=0).trace(np.ones((20, 4, 3)))
    >>> written = lw.explain.written_by(trace, step=-1, unit=2, row=0)
    >>> int(written.steps[0])  # the step that wrote most of what unit 2 holds at the end
    19
    """
    cells = Cells(trace, step, layer, unit, row, member)
    with np.errstate(all="ignore"):
        parts = _parts(cells)
        return Ranking(*cells.ranking(parts.step_sizes, _quotient(parts.step_sizes, parts.total)))


def erased_by(
    trace: Any, step: int, layer: str | int | None = None, *, unit: Any = None, row: Any = None, member: Any = None
) -> Ranking:
    """Rank the steps, up to a step, at which the forget gate took most from what cells held.

    A step takes ``(1 - f) * abs(c_prev)`` from a cell, whatever it writes at the same time; with zoneout z only
    ``(1 - z) (1 - f) * abs(c_prev)``.

    Parameters
    ----------
    trace, layer, unit, row, member
        As for `memory`.
    step : int
        The last step that is looked at, as for `memory`. Steps after it, and those before the last ``reset``, count as
        0, for nothing of what they changed is in the cell now. So do steps that are skipped, and padding. A ``reset``
        itself is not what a gate does, and neither is the cut of ``cell_clip``: neither counts.

    Returns
    -------
    Ranking
        ``amounts`` are summed over the chosen units. ``shares`` are parts of what the units held before the step in
        question: 1 if it forgot everything, 0 if it forgot nothing or there was nothing to forget. A step whose amount
        is NaN comes first.

    Raises
    ------
    TypeError, ValueError, IndexError
        As for `memory`; but a cell that ``cell_clip`` cut is no error.

    Notes
    -----
    Forget gates with other activations than the sigmoid may leave the range from 0 to 1. One above 1 takes nothing, one
    below 0 more than there was, because the sign turns.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> trace = lw.LSTM(3, 8, seed=0).trace(np.ones((20, 4, 3)))
    >>> erased = lw.explain.erased_by(trace, step=-1, unit=2)
    >>> erased.steps.shape  # (T, N): for each of the 4 rows the steps, the one that took most first
    (20, 4)
    """
    cells = Cells(trace, step, layer, unit, row, member)
    with np.errstate(all="ignore"):
        held = np.abs(cells.previous())
        amounts = (np.maximum(1 - cells.kept(), 0) * held).sum(axis=-1, keepdims=True)
        np.copyto(amounts, 0, where=np.arange(cells.count)[:, np.newaxis, np.newaxis] < cells.first())
        return Ranking(*cells.ranking(amounts, _quotient(amounts, held.sum(axis=-1, keepdims=True))))


class _Parts(NamedTuple):
    """The decomposition as `Cells` has its arrays."""

    terms: Array
    start: Array
    step_sizes: Array  # the sizes of the terms, summed over the units
    start_size: Array
    total: Array  # what all of them add up to


def _parts(cells: Cells) -> _Parts:
    """Compute the terms. ValueError if they would not add up to the cell."""
    # What is left of c_prev of each step: the product of its own forget gate and all later ones.
    left = np.multiply.accumulate(cells.kept()[:, ::-1], axis=1)[:, ::-1]
    _flush(left, cells.tiny)
    first = cells.first()
    forgotten = np.arange(cells.count)[:, np.newaxis, np.newaxis] < first
    _refuse_cuts(cells, forgotten, left)

    terms = cells.written()
    terms[:, :-1] *= left[:, 1:]
    _flush(terms, cells.tiny)
    np.copyto(terms, 0, where=forgotten)
    start = np.where(cells.restarts.any(axis=1, keepdims=True), cells.restart, cells.start)
    start = start * np.take_along_axis(left, np.minimum(first, cells.count - 1), axis=1)
    _flush(start, cells.tiny)
    np.copyto(start, 0, where=first == cells.count)

    step_sizes, start_size = (np.abs(each).sum(axis=-1, keepdims=True) for each in (terms, start))
    return _Parts(terms, start, step_sizes, start_size, step_sizes.sum(axis=1, keepdims=True) + start_size)


def _refuse_cuts(cells: Cells, forgotten: Array, left: Array) -> None:
    """Raise ValueError if ``cell_clip`` cut a cell of which something is left."""
    cut = cells.cut()
    if cut is not None:
        cut &= ~forgotten
        cut[:, :-1] &= left[:, 1:] != 0
    refuse_cut(cells, cut)


def refuse_cut(cells: Cells, cut: Array | None) -> None:
    """Raise ValueError if ``cut``, in the form of what ``cells.cut`` returns, says that a cell was cut."""
    if cut is None or not cut.any():
        return
    member, number, row, unit = (int(each[0]) for each in np.nonzero(cut))
    raise ValueError(
        f"trace: expected cells that cell_clip did not cut, got {cells.place(member, number, row, unit)} of "
        f"{cells.layer}: the terms would not add up to it; choose other units, or an earlier step"
    )


def _flush(values: Array, tiny: float) -> None:
    """Replace subnormal numbers by zeros, which is what the core does."""
    values[np.abs(values) < tiny] = 0


def _quotient(part: Array, whole: Array) -> Array:
    """Divide; 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
