"""Runs that stop before a step and go on from any state."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.explain._choices import positions_of_rows
from latchwork.explain._places import check_one_member
from latchwork.layers import Linear
from latchwork.lstm import LSTM
from latchwork.network import Network
from latchwork.step_layers import InputSkip

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._sequence import Call, Pairs, SequenceModule


class Stopped:
    """A network that has run over a batch up to a step of each row.

    Parameters
    ----------
    network : LSTM or Network
        Of one member, with forward directions only.
    call : Call
        The whole batch.
    stops : () or (N,) ndarray of int
        Before which step all rows stop, or each.
    alive : (N,) ndarray of bool, optional
        Which rows need to be run at all. None: all.

    Attributes
    ----------
    steps : int
        How many steps are left in the row that has most, padding included.
    stops, left : (N,) ndarray of int
        Before which step each row stopped, and how many of its steps are still to come.
    state : list of (h, c)
        For each LSTM the state of every row before its stop, (layers, N, size); so too what an Impute carries.
    """

    def __init__(self, network: SequenceModule[Any], call: Call, stops: Array, alive: Array | None = None) -> None:
        self._body, self._head = _split(network)
        self._call = call
        self.steps = int(call.steps - stops.min(initial=call.steps))
        self.stops: Array = np.broadcast_to(stops, (call.rows,))
        ends = np.full(call.rows, call.steps) if call.lengths is None else call.lengths
        self.left: Array = np.maximum(ends - self.stops, 0)
        run = np.where(self.left > 0 if alive is None else alive, self.stops, 0)
        last = int(run.max(initial=0))
        same = bool((run == last).all())
        parts = [None if part is None else part[:last] for part in (call.x, call.reset, call.left_out)]
        # Only what is pooled later needs more than the state.
        self._before, self.state = _run(
            self._body, parts[0], None if same else run, parts[1], call.start, parts[2], last_step=self._head is None
        )

    def go_on(self, state: Pairs, repeats: int, steps: int) -> Array:
        """Run on from states that differ: (repeats * N) rows, those of one repeat side by side.

        Returns
        -------
        numpy.ndarray
            The output of at most ``steps`` steps from the stop on, (steps, repeats * N, features), zero after each
            row's end and where a step is skipped; after pooling (1, repeats * N, features).
        """
        call, count = self._call, self.steps if self._head is not None else min(steps, self.steps)
        parts = [
            None if part is None else self._from_stop(part, count, repeats)
            for part in (call.x, call.reset, call.left_out)
        ]
        left = np.tile(np.minimum(self.left, count), repeats)
        lengths = None if (left == count).all() else left
        output, _ = _run(self._body, parts[0], lengths, parts[1], state, parts[2])
        return output if self._head is None else self._pooled(output, repeats)

    def _from_stop(self, array: Array, count: int, repeats: int) -> Array:
        """Give each row's steps from its stop on, once for each repeat."""
        index = np.minimum(self.stops + np.arange(count)[:, np.newaxis], self._call.steps - 1)
        return np.tile(array[index, np.arange(self._call.rows)], (1, repeats) + (1,) * (array.ndim - 2))

    def _pooled(self, after: Array, repeats: int) -> Array:
        """Pool each row's whole sequence: what came before the stop, which all repeats share, and what came after."""
        assert self._head is not None
        call = self._call
        features = after.shape[-1]
        whole = np.zeros((call.steps, repeats, call.rows, features), after.dtype)
        of_repeats = after.reshape(-1, repeats, call.rows, features)
        for row, stop in enumerate(self.stops.tolist()):
            if self.left[row]:
                whole[:stop, :, row] = self._before[:stop, np.newaxis, row]
                whole[stop:, :, row] = of_repeats[: call.steps - stop, :, row]
        ends = np.where(self.left > 0, self.stops + self.left, 0)
        masks = [None if mask is None else np.tile(mask, (1, repeats)) for mask in (call.reset, call.left_out)]
        x = whole.reshape(call.steps, -1, features)
        return _run(self._head, x, np.tile(ends, repeats), masks[0], None, masks[1])[0]


def check_forward(network: SequenceModule[Any]) -> None:
    """Raise ValueError unless a network's state before a step says all that it knows of the steps before it."""
    check_one_member(network)
    if not network._streamable:
        raise ValueError(
            f"network: expected forward LSTMs only, because the state of a reverse direction before a step comes from "
            f"the steps after it, got {network!r}"
        )


def checked_stops(name: str, step: Any, call: Call, end: bool = False) -> Array:
    """Read before which step each row stops; ``end``: it may be after the last. ValueError, IndexError or TypeError."""
    return positions_of_rows(name, step, call.rows, call.steps, call.steps if end else None)


def _split(network: SequenceModule[Any]) -> tuple[SequenceModule[Any], Network | None]:
    """Cut a network that pools in two, after the last LSTM, since a pooled result has to see the whole sequence."""
    if not isinstance(network, Network) or network._core.keeps_sequence:
        return network, None
    layers = [copy.deepcopy(layer) for layer in network]
    end = 1 + max(index for index, layer in enumerate(layers) if isinstance(layer, LSTM))
    if any(isinstance(layer, InputSkip) for layer in layers[end:]):
        raise ValueError(f"network: expected no InputSkip between the last LSTM and pooling, got {network!r}")
    body = Network(layers[:end])
    # A head may not begin with pooling; this layer passes its input on as it is.
    size = body._core.output_size
    same = Linear(size, size, bias=False, dtype=network.dtype)
    same.load_state_dict({"weight": np.eye(size)})
    return body, Network([same, *layers[end:]])


def _run(
    network: SequenceModule[Any],
    x: Any,
    lengths: Array | None,
    reset: Array | None,
    start: Pairs | None,
    skip: Array | None,
    last_step: bool = False,
) -> tuple[Array, Pairs]:
    """Call a network in the axes of the core, (T, N, features); outputs of skipped steps are zero."""
    core = network._core
    steps, rows = x.shape[:2]
    sequence = core.keeps_sequence and not last_step
    output = np.empty((steps if sequence else 1, rows, core.output_size), network.dtype)
    states = [
        (
            np.empty((size.states, rows, size.hidden), network.dtype),
            np.empty((size.states, rows, size.cell), network.dtype),
        )
        for size in network._state_sizes
    ]
    forward = core.forward_last_step if last_step else core.forward
    forward(np.ascontiguousarray(x), lengths, reset, start, output, states, skip, True)
    return output, states
