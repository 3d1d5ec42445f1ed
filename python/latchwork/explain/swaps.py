"""Units' states taken from one run into another: which unit is the cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import as_array, integer, real_number, shape_text
from latchwork.explain._choices import position, some_units, unit_numbers
from latchwork.explain._continued import Stopped, check_forward, checked_stops
from latchwork.explain._places import numbers_per_step, place_of

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._sequence import Call, Pairs
    from latchwork.explain._places import Place
    from latchwork.lstm import LSTM
    from latchwork.network import Network

__all__ = ["Responsible", "Swap", "responsible", "swap"]

Outcome = Callable[["Array"], Any] | tuple[int, int]

# About how much memory the runs that stand side by side may take.
_BYTES = 1 << 27


class Swap(NamedTuple):
    """What `swap` changed: outputs from the step on, in the axes of the output.

    If rows have steps of their own, step 0 here is that step of each. After pooling there is no axis of steps. Zero
    after the end of a row, and where a step is skipped.
    """

    output: Array
    """The outputs of the run as it was."""
    swapped: Array
    """The outputs with the units' state from the other run."""

    @property
    def difference(self) -> Array:
        """``swapped - output``."""
        difference: Array = self.swapped - self.output
        return difference


def swap(
    network: LSTM | Network,
    x: Any,
    other_x: Any,
    units: int | Sequence[int],
    step: int | Sequence[int],
    *,
    layer: str | int | None = None,
    parts: str | Sequence[str] = ("hidden", "cell"),
    other_step: int | Sequence[int] | None = None,
    state: Any = None,
    other_state: Any = None,
    lengths: Any = None,
    other_lengths: Any = None,
    reset: Any = None,
    skip: Any = None,
) -> Swap:
    """Put units' state from another run into this one just before a step, and say how the outputs change.

    The network runs over x up to ``step``. There the h and c of chosen units are replaced by those that they have in a
    run over ``other_x``, and it goes on over the rest of x. Nothing else differs, so what changes in the outputs is
    the effect of what these units held: cause, where a correlation may be none.

    Parameters
    ----------
    network : LSTM or Network
        Of one member, forward directions only.
    x, other_x : array_like
        As for a call; equally many rows, each of which swaps with its like. Usually they differ in little, such as one
        word, so that it is known what the other run's state stands for.
    units : int or sequence of int
        Which units of the layer to swap, from 0 to ``hidden_size`` - 1, or from the end if negative; ``range(H)`` for
        all.
    step : int or (N,) array_like of int
        Just before which step; for all rows, or for each its own. From 0 to T - 1, or from the end if negative.
    layer : str or int, optional
        Which layer, as ``trace[layer]`` takes it. None: the first.
    parts : {"hidden", "cell"} or sequence of them, default ("hidden", "cell")
        What of the units to swap.
    other_step : int or (N,) array_like of int, optional
        Before which step of ``other_x`` the state is taken; T is its end. None: ``step``.
    state, other_state : optional
        Start states, as for a call. ``other_state`` None: ``state``.
    lengths, other_lengths : array_like of int, optional
        As for a call. ``other_lengths`` None: ``lengths``. A row that ends at ``step`` or before has nothing to change.
    reset, skip : array_like of bool, optional
        As for a call, of both runs; ``other_x`` then needs as many steps as ``x``. The output of a skipped step is
        zero. A reset at ``step`` itself discards what was swapped.

    Returns
    -------
    Swap
        ``output``, ``swapped`` and ``difference``, from ``step`` on: with an int for ``step`` (T - step, N, features),
        in the axes of the output.

    Raises
    ------
    ValueError
        If a shape does not fit; if the network has several members, or a reverse direction, whose state comes from the
        steps to come; if a row of ``other_x`` ends before its step; if ``parts`` holds "hidden" for an LSTM with
        ``proj_size``, whose h has no units of its own.
    IndexError
        If there is no such unit or step.
    TypeError
        If an argument is of a wrong type.

    Notes
    -----
    Exchanging states between runs on paired inputs is known as interchange intervention or activation patching: Geiger,
    Lu, Icard and Potts, "Causal abstractions of neural networks", NeurIPS 2021; for LSTMs see Lakretz, Kruszewski,
    Desbordes, Hupkes, Dehaene and Baroni, "The emergence of number and syntax units in LSTM language models", NAACL
    2019, which ablates units.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(3, 8, seed=0)
    >>> x, other_x = np.zeros((10, 4, 3)), np.ones((10, 4, 3))
    >>> lw.explain.swap(lstm, x, other_x, units=[2, 5], step=6).difference.shape
    (4, 4, 8)
    """
    runs = _Runs(network, x, other_x, step, layer, parts, other_step, state, other_state, lengths, other_lengths, reset,
                 skip)  # fmt: skip
    numbers = unit_numbers("units", units, runs.place.units)
    output, swapped = runs.outputs([[], numbers], runs.own.steps)
    return Swap(output, swapped)


@dataclass(frozen=True, eq=False)
class Responsible:
    """What `responsible` found. A share of 0: the outcome stays as it is; 1: it becomes that of the other run.

    Attributes
    ----------
    layer : str
        The layer, named as in a trace.
    units : numpy.ndarray of int
        (U,): the units by falling share; equal shares by rising number.
    shares : numpy.ndarray of float64
        (U,): how far swapping that unit alone moves the outcome towards the other's: over all rows, the distance moved
        in the right direction over the whole distance. It may be below 0 or above 1.
    turned : numpy.ndarray of float64
        (U,): in which share of the rows the outcome is then nearer to the other's than to its own.
    together : tuple of int
        The greedy set: units in the order in which they were added, each the one that helps most.
    together_shares : numpy.ndarray of float64
        The share after each of them.
    together_turned : float
        In which share of the rows the whole set turns the outcome.
    outcome, other_outcome : numpy.ndarray of float64
        (N,): the outcome of each row as it is, and with the whole state of the other run.
    row_shares : numpy.ndarray of float64
        (U, N): the shares of single rows; NaN where the two outcomes are equal.
    """

    layer: str
    units: Array
    shares: Array
    turned: Array
    together: tuple[int, ...]
    together_shares: Array
    together_turned: float
    outcome: Array
    other_outcome: Array
    row_shares: Array

    def __repr__(self) -> str:
        """Show the units that move the outcome most, and the set."""
        shown = ", ".join(f"{unit}: {share:.3g}" for unit, share in zip(self.units[:5], self.shares[:5], strict=True))
        more = ", ..." if len(self.units) > 5 else ""
        share = f"{self.together_shares[-1]:.3g}" if self.together else "0"
        return f"<Responsible in {self.layer}: {shown}{more}; together {list(self.together)}: {share}>"


def responsible(
    network: LSTM | Network,
    x: Any,
    other_x: Any,
    step: int | Sequence[int],
    *,
    outcome: Outcome,
    layer: str | int | None = None,
    units: int | Sequence[int] | None = None,
    parts: str | Sequence[str] = ("hidden", "cell"),
    other_step: int | Sequence[int] | None = None,
    state: Any = None,
    other_state: Any = None,
    lengths: Any = None,
    other_lengths: Any = None,
    reset: Any = None,
    skip: Any = None,
    enough: float = 0.9,
    most: int = 8,
) -> Responsible:
    """Rank units by how far swapping each alone moves an outcome towards that of another run; see `swap`.

    Parameters
    ----------
    network, x, other_x, step, layer, parts, other_step, state, other_state, lengths, other_lengths, reset, skip
        As for `swap`.
    outcome : (int, int) or callable
        What is asked of the output. A pair (a, b): feature a minus feature b of the output at ``step``, the first one
        that the swap can change; in a language model by how much the score of token a exceeds that of b. Or a function,
        ``outcome(output)``, of the output from ``step`` on as `swap` gives it, which returns one number for each row,
        (N,).
    units : int or sequence of int, optional
        Which units to try. None: all of the layer.
    enough : float, default 0.9
        The greedy set is complete when its share is at least this.
    most : int, default 8
        How many units the greedy set has at most.

    Returns
    -------
    Responsible
        The units ranked with their shares, and the set that together turns the outcome.

    Raises
    ------
    ValueError, IndexError, TypeError
        As for `swap`; also if there is no such feature, if an outcome has another shape or is not finite, or if the two
        outcomes are equal in all rows.

    Notes
    -----
    The other run's outcome is that of the rest of x from the whole state of the other run, h and c of all layers. If
    the two inputs are equal from ``step`` on, that is what the run over ``other_x`` gives itself.

    A row counts the more, the more its two outcomes differ. The shares of single units need not add up to that of all:
    units can stand in for each other, or act only together, which is why the greedy set is searched for by swapping
    sets.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(3, 8, seed=0)
    >>> x, other_x = np.zeros((10, 4, 3)), np.ones((10, 4, 3))
    >>> lw.explain.responsible(lstm, x, other_x, 6, outcome=(0, 1)).shares.shape
    (8,)
    """
    threshold, limit = real_number("enough", enough), integer("most", most, 0)
    runs = _Runs(network, x, other_x, step, layer, parts, other_step, state, other_state, lengths, other_lengths, reset,
                 skip)  # fmt: skip
    place = runs.place
    numbers = sorted(some_units("units", units, place.units))
    moves = _Moves(runs, outcome)
    row_shares, shares = moves.of([[unit] for unit in numbers])
    together, together_shares, together_turned = moves.greedy(numbers, (row_shares, shares), threshold, limit)
    ranked = np.argsort(-shares, kind="stable")
    return Responsible(
        place.name,
        np.array(numbers)[ranked],
        shares[ranked],
        moves.turned(row_shares)[ranked],
        together,
        together_shares,
        together_turned,
        moves.own,
        moves.other,
        row_shares[ranked],
    )


class _Runs:
    """Two runs that have stopped, and the outputs of the first with units of the second."""

    def __init__(
        self, network: Any, x: Any, other_x: Any, step: Any, layer: Any, parts: Any, other_step: Any, state: Any,
        other_state: Any, lengths: Any, other_lengths: Any, reset: Any, skip: Any,
    ) -> None:  # fmt: skip
        self.place: Place = place_of(network, layer)
        check_forward(network)
        self._parts = _checked_parts(parts, self.place)
        self.network = network
        self.call: Call = network._call(x, state, lengths, reset, skip)
        stops = checked_stops("step", step, self.call)
        other = _other_call(
            network, other_x, state if other_state is None else other_state,
            lengths if other_lengths is None else other_lengths, reset, skip,
        )  # fmt: skip
        _check_alike(self.call, other)
        other_stops = checked_stops("other_step", stops if other_step is None else other_step, other, end=True)
        self.own = Stopped(network, self.call, stops)
        self.alive: Array = self.own.left > 0
        if other.lengths is not None:
            ended = self.alive & (other.lengths < other_stops)
            if ended.any():
                row = int(np.argmax(ended))
                raise ValueError(
                    f"other_step: expected at most the length of each row of other_x, got "
                    f"{np.broadcast_to(other_stops, ended.shape)[row]} for row {row}, "
                    f"whose length is {other.lengths[row]}"
                )
        self._other: Pairs = Stopped(network, other, other_stops, self.alive).state

    def outputs(self, sets: Sequence[Sequence[int]], steps: int) -> list[Array]:
        """Give, for each set of units, the outputs from the stop on, in the user's axes."""
        return self._outputs([self._swapped(units) for units in sets], steps)

    def outputs_of_other_state(self, steps: int) -> Array:
        """Give the outputs from the stop on with the whole state of the other run."""
        return self._outputs([self._other], steps)[0]

    def sets_at_once(self, steps: int) -> int:
        """Estimate how many runs may stand side by side."""
        widths = numbers_per_step(self.network) + (self.call.x[0, 0].size if self.call.x.size else 1)
        if not self.network._core.keeps_sequence:
            steps = self.call.steps
        return max(1, _BYTES // max(1, steps * self.call.rows * int(widths) * int(self.network.dtype.itemsize)))

    def _outputs(self, states: Sequence[Pairs], steps: int) -> list[Array]:
        side_by_side = [
            (
                np.concatenate([state[number][0] for state in states], axis=1),
                np.concatenate([state[number][1] for state in states], axis=1),
            )
            for number in range(len(self.network._state_sizes))
        ]
        output = self.own.go_on(side_by_side, len(states), steps)
        axes, sequence = self.call.axes, self.network._core.keeps_sequence
        parts = np.split(output, len(states), axis=1)
        return [np.ascontiguousarray(axes.from_core(part, sequence)) for part in parts]

    def _swapped(self, units: Sequence[int]) -> Pairs:
        state = [(hidden.copy(), cell.copy()) for hidden, cell in self.own.state]
        number, layer = self.network._lstm_states[self.place.lstm], self.place.state
        for part in self._parts:
            state[number][part][layer][:, units] = self._other[number][part][layer][:, units]
        return state


class _Moves:
    """How far sets of units move an outcome."""

    def __init__(self, runs: _Runs, outcome: Any) -> None:
        self._runs = runs
        features = runs.network._core.output_size
        self._contrast = None if callable(outcome) else _checked_contrast(outcome, features)
        self._outcome = outcome
        self._steps = 1 if self._contrast else runs.own.steps
        self._at_once = runs.sets_at_once(self._steps)
        self.own = self._numbers(runs.outputs([[]], self._steps)[0])
        self.other = self._numbers(runs.outputs_of_other_state(self._steps))
        self._distance = self.other - self.own  # 0 in rows that have ended
        if not self._distance.any():
            raise ValueError("outcome: expected one that differs between the two runs in some row, got equal ones")

    def of(self, sets: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        """Give the shares of single rows, (sets, N), and of all rows, (sets,)."""
        moved = np.empty((len(sets), self._runs.call.rows))
        for start in range(0, len(sets), self._at_once):
            outputs = self._runs.outputs(sets[start : start + self._at_once], self._steps)
            moved[start : start + len(outputs)] = [self._numbers(output) - self.own for output in outputs]
        differs = self._distance != 0
        row_shares = np.full(moved.shape, np.nan)
        np.divide(moved, self._distance, out=row_shares, where=differs)
        towards = (moved * np.sign(self._distance))[:, differs].sum(axis=1)
        return row_shares, towards / np.abs(self._distance).sum()

    def turned(self, row_shares: Array) -> Array:
        """In which share of the rows each set turns the outcome."""
        turned: Array = (row_shares[:, self._distance != 0] > 0.5).mean(axis=1)
        return turned

    def greedy(
        self, units: Sequence[int], alone: tuple[Array, Array], enough: float, most: int
    ) -> tuple[tuple[int, ...], Array, float]:
        """Add one unit after the other, each time the one that helps most, until they move the outcome far enough.

        ``alone``: the shares of each unit alone, as `of` gives them.
        """
        chosen: list[int] = []
        shares: list[float] = []
        turned = 0.0
        while len(chosen) < most and (not shares or shares[-1] < enough):
            left = [unit for unit in units if unit not in chosen]
            if not left:
                break
            row_shares, of_sets = self.of([[*chosen, unit] for unit in left]) if chosen else alone
            best = int(np.argmax(of_sets))
            if of_sets[best] <= (shares[-1] if shares else 0.0):
                break
            chosen.append(left[best])
            shares.append(float(of_sets[best]))
            turned = float(self.turned(row_shares)[best])
        return tuple(chosen), np.array(shares), turned

    def _numbers(self, output: Array) -> Array:
        """Read the outcome of one run: (N,), in float64; 0 in rows that have ended."""
        rows, alive = self._runs.call.rows, self._runs.alive
        axes = self._runs.call.axes
        if self._contrast:
            at_step = axes.to_core(output, self._runs.network._core.keeps_sequence)[0].astype(np.float64)
            numbers = at_step[:, self._contrast[0]] - at_step[:, self._contrast[1]]
        else:
            numbers = as_array("outcome", self._outcome(output))
            if numbers.shape != (rows,) and not (numbers.shape == () and rows == 1):
                expected = f"one number for each row, ({rows},)" if axes.batched else "one number"
                raise ValueError(f"outcome: expected {expected}, got {shape_text(numbers.shape)}")
            if numbers.dtype.kind not in "biuf":
                raise TypeError(f"outcome: expected real numbers, got dtype {numbers.dtype}")
            numbers = numbers.reshape(rows).astype(np.float64)
        if not np.isfinite(numbers[alive]).all():
            raise ValueError("outcome: expected finite numbers, got NaN or infinity")
        return np.where(alive, numbers, 0.0)


def _other_call(network: Any, other_x: Any, state: Any, lengths: Any, reset: Any, skip: Any) -> Call:
    try:
        call: Call = network._call(other_x, state, lengths, reset, skip)
    except (ValueError, TypeError) as error:
        message = str(error)
        if message.startswith(("h_0", "c_0")):
            raise type(error)(f"other_state: {message}") from None
        if message.startswith(("x:", "state", "lengths:")):
            raise type(error)(f"other_{message}") from None
        raise type(error)(f"{message}; other_x is run with the same mask") from None
    return call


def _check_alike(call: Call, other: Call) -> None:
    if call.axes.batched != other.axes.batched or call.rows != other.rows:
        shapes = [shape_text(each.axes.shape(each.steps, each.rows)) for each in (call, other)]
        raise ValueError(f"other_x: expected as many rows as x has, {shapes[0]}, got {shapes[1]}")


def _checked_parts(parts: Any, place: Place) -> list[int]:
    """Read which of h and c to swap: 0 and 1."""
    words = (parts,) if isinstance(parts, str) else parts
    if not isinstance(words, (tuple, list, set, frozenset)):
        raise TypeError(f'parts: expected "hidden", "cell" or both, got {type(parts).__name__}')
    wrong = [word for word in words if not isinstance(word, str) or word not in ("hidden", "cell")]
    if wrong or not words:
        raise ValueError(f'parts: expected "hidden", "cell" or both, got {wrong[0] if wrong else "none"!r}')
    if "hidden" in words and place.layer.proj_size:
        raise ValueError(
            'parts: expected "cell" for an LSTM with proj_size, whose h is a projection of all units, got "hidden"'
        )
    return [number for number, word in enumerate(("hidden", "cell")) if word in words]


def _checked_contrast(outcome: Any, features: int) -> tuple[int, int]:
    if not isinstance(outcome, (tuple, list)):
        raise TypeError(f"outcome: expected a function or a pair of features, got {type(outcome).__name__}")
    if len(outcome) != 2:
        raise ValueError(f"outcome: expected a function or a pair of features, got {len(outcome)} items")
    first, second = (position("outcome", feature, features) for feature in outcome)
    return first, second
