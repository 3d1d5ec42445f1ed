"""Chosen cells of a trace, step after step as their layer computed them, and results put back into the user's axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._sequence import computed_steps
from latchwork.explain._choices import check_none, checked_trace, layer_name, position, positions

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.explain._choices import Choice


class Cells:
    """The chosen cells of one layer and direction, from the step that it computed first to the chosen one.

    All arrays here are (M, steps, N, H), whatever axes the user's have, and their steps come in the order in which the
    layer computed them. An axis along which nothing differs may have the size 1: masks have no units. What is computed
    is in double precision.
    """

    def __init__(self, trace: Any, step: Any, layer: Any, unit: Any, row: Any, member: Any) -> None:
        trace = checked_trace(trace)
        self.layer = layer_name(trace, layer)
        self._signals = trace[self.layer]
        self._course = course = trace._course_of(self.layer)
        self._own = own = trace._cell_courses[self.layer]
        axes = course.axes
        self._step = position("step", step, course.steps)
        self._units = positions("unit", unit, self._signals.cell.shape[-1])
        if not axes.batched:
            check_none("row", row, "x was unbatched")
        self._rows = positions("row", row, course.rows) if axes.batched else 0
        if axes.members is None:
            check_none("member", member, "there is one member only")
        self._members = 0 if axes.members is None else positions("member", member, axes.members)

        self.dtype = self._signals.cell.dtype
        self.tiny = np.finfo(self.dtype).tiny
        self._reverse = self.layer.endswith("_reverse")
        self.count = course.steps - self._step if self._reverse else self._step + 1
        # Rounded as the core rounds them.
        self._stays = float(self.dtype.type(own.zoneout))
        self._replaced = float(self.dtype.type(1) - self.dtype.type(own.zoneout))
        self.start, self.restart = self._starts(own.start, own.restart)
        self.restarts = self._restarts()

    def signal(self, name: str) -> Array:
        """Give a signal of the trace."""
        values = self._course.axes.to_core(getattr(self._signals, name))
        return self._chosen(self._in_order(values))

    def kept(self) -> Array:
        """Give the part of each c_prev that is still in the cell after the step."""
        kept = self.signal("forget_gate").astype(np.float64)
        kept *= self._replaced
        kept += self._stays
        computed = computed_steps(self._course.steps, self._course.lengths, self._course.skip)
        if computed is not None:
            np.copyto(kept, 1, where=~self._mask(computed))
        return kept

    def written(self) -> Array:
        """Give what each step added to the cell."""
        written: Array = self.signal("input_gate") * self.signal("candidate").astype(np.float64)
        written *= self._replaced
        return written

    def previous(self, name: str = "cell") -> Array:
        """Give c_prev of each step, or h_prev for the name "hidden" if h is not projected."""
        after = self.signal(name)
        start, restart = self.start, self.restart
        if name == "hidden":
            start, restart = self._starts(self._own.hidden_start, self._own.hidden_restart)
        previous = np.empty(after.shape)
        previous[:, 1:] = after[:, :-1]
        previous[:, :1] = start
        padding = self._padding()
        if padding is not None:
            # A reverse direction carries its start state through the padding, in which the trace shows zeros.
            np.copyto(previous[:, 1:], start, where=padding[:, :-1])
        np.copyto(previous, restart, where=self.restarts)
        return previous

    def first(self) -> Array:
        """Give the step from which on the cell remembers, (M, 1, N, 1): that of the last restart, or else 0.

        In padding it is one after the last, because nothing is remembered there.
        """
        numbers = np.arange(self.count)[:, np.newaxis, np.newaxis]
        first = np.where(self.restarts, numbers, 0).max(axis=1, keepdims=True)
        padding = self._padding()
        if padding is not None:
            first = np.where(padding[:, -1:], self.count, first)
        return np.broadcast_to(first, (self.start.shape[0], 1, self.start.shape[2], 1))

    def cut(self) -> Array | None:
        """Say which cells ``cell_clip`` cut at which steps; None: it cannot have cut any."""
        if self._own.cell_clip is None:
            return None
        # The core multiplies in the trace's dtype and adds in one rounding.
        let_in = self.signal("input_gate") * self.signal("candidate")
        new = (self.signal("forget_gate") * self.previous() + let_in).astype(self.dtype)
        cut: Array = np.abs(new) > self.dtype.type(self._own.cell_clip)
        return cut

    def place(self, member: int, number: int, row: int, unit: int) -> str:
        """Say where a cell is, in the user's numbers."""
        of_sequence = self._course.steps - 1 - number if self._reverse else number
        words = [f"unit {_number(self._units, unit)} at step {of_sequence}"]
        if self._course.axes.batched:
            words.append(f"row {_number(self._rows, row)}")
        if self._course.axes.members is not None:
            words.append(f"member {_number(self._members, member)}")
        return ", ".join(words)

    def as_sequence(self, values: Array, units: bool = True) -> Array:
        """Give the user what each step has; ``units``: whether there is an axis of units. Other steps have zeros."""
        members, _, rows, size = values.shape
        whole = np.zeros((members, self._course.steps, rows, size), self.dtype)
        self._turned(whole)[:, : self.count] = values
        return self._of_user(whole, True, units)

    def as_state(self, values: Array, units: bool = True) -> Array:
        """Give the user what has one step only."""
        return self._of_user(values.astype(self.dtype), False, units)

    def ranking(self, amounts: Array, shares: Array) -> tuple[Array, Array, Array]:
        """Sort the steps by their amounts, largest first: steps, amounts and shares, (M, steps, N, 1), for the user."""
        steps = self._course.steps
        whole = np.zeros((2, amounts.shape[0], steps, *amounts.shape[2:]))
        whole[:, :, : self.count] = amounts, shares
        # Of equal amounts the latest comes first, and what comes after the chosen step last.
        nearest = np.concatenate([np.arange(self.count)[::-1], np.arange(self.count, steps)])
        keys = np.where(np.isnan(whole[0]), np.inf, whole[0])[:, nearest]
        order = nearest[np.argsort(-keys, axis=1, kind="stable")]
        sorted_amounts, sorted_shares = (np.take_along_axis(each, order, axis=1) for each in whole)
        return (
            self._of_user(steps - 1 - order if self._reverse else order, True, False),
            self._of_user(sorted_amounts.astype(self.dtype), True, False),
            self._of_user(sorted_shares.astype(self.dtype), True, False),
        )

    def _starts(self, start: Array, restart: Array) -> tuple[Array, Array]:
        """Choose from a state before the first step, and from the one after a reset."""
        whole = start, np.broadcast_to(restart, start.shape)
        if self._course.axes.members is None:
            whole = whole[0][np.newaxis], whole[1][np.newaxis]
        return self._chosen(whole[0])[:, np.newaxis], self._chosen(whole[1])[:, np.newaxis]

    def _restarts(self) -> Array:
        """Say before which steps the state becomes the layer's own start state."""
        reset = self._course.reset
        if reset is None:
            return np.zeros((1, 1, 1, 1), np.bool_)
        if self._reverse:
            # It restarts at the step before. What is said in padding never matters.
            valid = computed_steps(self._course.steps, self._course.lengths, None)
            after = reset if valid is None else reset & valid
            reset = np.zeros_like(after)
            reset[..., :-1, :] = after[..., 1:, :]
            if self._course.end_reset is not None:
                lengths = (
                    np.full(self._course.rows, self._course.steps)
                    if self._course.lengths is None
                    else self._course.lengths
                )
                last = np.arange(self._course.steps)[:, np.newaxis] == lengths[..., np.newaxis, :] - 1
                reset = reset | (last & self._course.end_reset[..., np.newaxis, :])
        return self._mask(reset)

    def _padding(self) -> Array | None:
        valid = computed_steps(self._course.steps, self._course.lengths, None)
        return None if valid is None else ~self._mask(valid)

    def _mask(self, mask: Array) -> Array:
        return self._chosen(self._in_order(mask[..., np.newaxis]), units=False)

    def _in_order(self, values: Array) -> Array:
        """Take the steps up to the chosen one from one of the core's arrays, (T, N, ...) or (M, T, N, ...)."""
        return self._turned(values if values.ndim == 4 else values[np.newaxis])[:, : self.count]

    def _turned(self, values: Array) -> Array:
        """Turn steps in the order of the sequence into those in the order of the layer, or the other way round."""
        return values[:, ::-1] if self._reverse else values

    def _chosen(self, values: Array, units: bool = True) -> Array:
        if values.shape[0] > 1:  # else all members share it
            values = values[_index(self._members)]
        values = values[..., _index(self._rows), :]
        return values[..., _index(self._units)] if units else values

    def _of_user(self, values: Array, sequence: bool, units: bool) -> Array:
        """Give the user an array, without the axes that his trace has not or of which he chose one place."""
        members, rows = _kept_axis(self._members), _kept_axis(self._rows)
        of_units = _kept_axis(self._units) if units else 0
        if not sequence:
            return values[members, 0, rows, of_units]
        if self._course.axes.batch_first:
            return values.swapaxes(1, 2)[members, rows, :, of_units]
        return values[members, :, rows, of_units]


def _index(choice: Choice) -> Array | slice:
    """Give an index that keeps its axis."""
    return slice(choice, choice + 1) if isinstance(choice, int) else choice


def _kept_axis(choice: Choice) -> int | slice:
    """Give an index that leaves an axis of one place out if one place was chosen."""
    return 0 if isinstance(choice, int) else slice(None)


def _number(choice: Choice, place: int) -> int:
    """Give the user's number of something chosen."""
    return choice if isinstance(choice, int) else place if isinstance(choice, slice) else int(choice[place])
