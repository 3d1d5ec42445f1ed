"""What cells hold, from the gates of a trace in plain loops, in the layout of ``batch_first=False`` without members."""

from dataclasses import dataclass

import latchwork as lw
import numpy as np
from latchwork.trace import LayerTrace
from layers import directions_of, normal
from skips import masks

STEPS, ROWS = 9, 5
LENGTHS = np.array([9, 6, 0, 9, 4])


def arguments_of(lstm, masked, seed=1):
    """The start state and the masks of a call, or neither."""
    states, hidden = lstm.num_layers * directions_of(lstm), lstm.proj_size or lstm.hidden_size
    start = tuple(normal(seed + size, (states, ROWS, size), lstm.dtype) for size in (hidden, lstm.hidden_size))
    if not masked:
        return start, {}
    return start, {"lengths": LENGTHS, "reset": masks(3, 0.25), "skip": masks(4, 0.3)}


@dataclass
class Course:
    """How one layer and direction ran: its gates and what the test passed in."""

    shown: LayerTrace
    reverse: bool
    start: np.ndarray  # (N, H)
    own: np.ndarray  # (H,)
    zoneout: float = 0.0
    lengths: np.ndarray | None = None
    reset: np.ndarray | None = None
    skip: np.ndarray | None = None

    def steps_of(self, row):
        """The valid steps of a row in the order in which they are run, each with whether the state restarts before."""
        length = len(self.shown.cell) if self.lengths is None else self.lengths[row]
        reset = np.zeros(len(self.shown.cell), bool) if self.reset is None else self.reset[:, row]
        if self.reverse:
            return [(step, step + 1 < length and reset[step + 1]) for step in reversed(range(length))]
        return [(step, reset[step]) for step in range(length)]

    def skipped(self, step, row):
        return self.skip is not None and self.skip[step, row]

    def gates(self, step, row, unit):
        """Which part of c_prev stays, and what is written."""
        i, f, g = (
            float(getattr(self.shown, name)[step, row, unit]) for name in ("input_gate", "forget_gate", "candidate")
        )
        return self.zoneout + (1 - self.zoneout) * f, (1 - self.zoneout) * (i * g)

    def memory(self, at):
        """The terms (T, N, H) and what is left of the start state (N, H), after a step."""
        terms, start = np.zeros(self.shown.cell.shape), np.zeros(self.shown.cell.shape[1:])
        for row, unit in np.ndindex(start.shape):
            if all(step != at for step, _ in self.steps_of(row)):
                continue
            held = {"start": float(self.start[row, unit])}
            for step, restarts in self.steps_of(row):
                if restarts:
                    held = {"start": float(self.own[unit])}
                if not self.skipped(step, row):
                    kept, written = self.gates(step, row, unit)
                    held = {when: kept * part for when, part in held.items()} | {step: written}
                if step == at:
                    break
            start[row, unit] = held.pop("start")
            for step, part in held.items():
                terms[step, row, unit] = part
        return terms, start

    def erased(self, at):
        """What each step took and what there was before it, (T, N, H) each."""
        lost, held = np.zeros((2, *self.shown.cell.shape))
        for row, unit in np.ndindex(self.shown.cell.shape[1:]):
            steps = self.steps_of(row)
            if all(step != at for step, _ in steps):
                continue
            c = float(self.start[row, unit])
            for step, restarts in steps:
                if restarts:
                    c = float(self.own[unit])
                    lost[:, row, unit] = 0
                held[step, row, unit] = abs(c)
                if not self.skipped(step, row):
                    kept, written = self.gates(step, row, unit)
                    lost[step, row, unit] = max(1 - kept, 0) * abs(c)
                    c = kept * c + written
                if step == at:
                    break
        return lost, held


def gated_lstm(units=1, dtype="float32", **options):
    """An LSTM whose input is its gates: the features are i, f and g of all units."""
    activations = dict.fromkeys(("input", "forget", "candidate"), "affine")
    lstm = lw.LSTM(3 * units, units, bias=False, activations=activations, dtype=dtype, **options)
    for name in list(lstm.parameters):
        weight = np.zeros(lstm.parameters[name].shape)
        if name.startswith("weight_ih"):
            weight[: 3 * units] = np.eye(3 * units)
        lstm.parameters[name] = weight
    return lstm


def gates_input(i, f, g):
    """The input of a `gated_lstm` of one unit, unbatched: (T, 3)."""
    return np.stack(np.broadcast_arrays(i, f, g), axis=-1).astype(np.float64)
