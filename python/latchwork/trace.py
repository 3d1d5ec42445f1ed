"""Traces: what each gate did at each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from latchwork._module import S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._axes import Axes
    from latchwork._sequence import SequenceModule, StateSize
    from latchwork.tape import Tape


class LayerTrace(NamedTuple):
    """One layer in one direction, each (T, N, hidden_size) in the axes of the output, zero in padding.

    The ranges are those of the default activations.
    """

    input_gate: Array
    """How much of the candidate was added to the cell: 0 to 1."""
    forget_gate: Array
    """How much of the old cell was kept: 0 to 1. With coupled gates 1 - ``input_gate``, without a forget gate 1."""
    candidate: Array
    """What could be added: -1 to 1."""
    output_gate: Array
    """How much of the cell was shown: 0 to 1."""
    cell: Array
    """The cell after each step, zoneout included."""
    hidden: Array
    """The output of each step, zoneout included; of ``proj_size`` features if the LSTM projects. With ``residual`` it
    is the layer's own result, to which its input is yet to be added."""


class Course(NamedTuple):
    """The call that a trace shows, apart from its input: copies, because a user may write to arrays of his own."""

    axes: Axes
    steps: int
    rows: int
    lengths: Array | None  # this and the next two as the core takes them
    reset: Array | None
    skip: Array | None


class CellCourse(NamedTuple):
    """How one layer and direction came to the cells that a trace shows, apart from its gates."""

    start: Array  # c before the first step: (N, H), or (M, N, H) with members
    restart: Array  # c after a reset: (1, H), or (M, 1, H)
    zoneout: float  # which part of c_prev stays, whatever the gates do
    cell_clip: float | None
    hidden_start: Array  # the same of h
    hidden_restart: Array
    options: Mapping[str, Any]  # of its LSTM, in the core's words


class Trace(Mapping[str, LayerTrace], Generic[S]):
    """Every gate and cell of every layer, direction and step: made by ``trace`` of an `LSTM` or a `Network`.

    A mapping: ``trace["l0"]``, ``trace["l0_reverse"]``, in a network with the layer's number before it:
    ``trace["1.l0"]``. ``trace[k]`` is the forward direction of layer ``k``, counted over all LSTMs, or its reverse
    direction if that is the only one. With one layer and one direction ``trace.input_gate`` and the others are there
    too. If the network has several members, their axis is in front.

    Attributes
    ----------
    output : numpy.ndarray
        What a call returns.
    start
        The state before the first step, in the form of ``state``: what was passed in, or else the layers' own start
        state. A ``reset`` at the first step discards it.
    state
        The state after the last step.

    Notes
    -----
    The gates are those of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000), which
    added the forget gate to Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
    """

    def __init__(
        self,
        output: Array,
        start: S,
        state: S,
        layers: dict[str, LayerTrace],
        course: Course,
        cell_courses: dict[str, CellCourse],
    ) -> None:
        self.output = output
        self.start = start
        self.state = state
        self._layers = layers
        self._course = course
        self._cell_courses = cell_courses

    def __getitem__(self, key: str | int) -> LayerTrace:
        """Return a layer and direction by name, or a layer by number."""
        if isinstance(key, str):
            return self._layers[key]
        return self._layers[self._names_by_number()[key]]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._layers)

    def __len__(self) -> int:
        """Return the number of layers times directions."""
        return len(self._layers)

    def __repr__(self) -> str:
        """Show the names."""
        return f"Trace({', '.join(self._layers)})"

    @property
    def input_gate(self) -> Array:
        """Of the only layer and direction: how much of the candidate was added to the cell."""
        return self._only("input_gate").input_gate

    @property
    def forget_gate(self) -> Array:
        """Of the only layer and direction: how much of the old cell was kept; see `LayerTrace`."""
        return self._only("forget_gate").forget_gate

    @property
    def candidate(self) -> Array:
        """Of the only layer and direction: what could be added to the cell."""
        return self._only("candidate").candidate

    @property
    def output_gate(self) -> Array:
        """Of the only layer and direction: how much of the cell was shown."""
        return self._only("output_gate").output_gate

    @property
    def cell(self) -> Array:
        """Of the only layer and direction: the cell after each step."""
        return self._only("cell").cell

    @property
    def hidden(self) -> Array:
        """Of the only layer and direction: the output of each step."""
        return self._only("hidden").hidden

    def _names_by_number(self) -> list[str]:
        """Name the direction of each layer that its number stands for."""
        names: dict[str, str] = {}
        for name in self._layers:
            names.setdefault(name.removesuffix("_reverse"), name)
        return list(names.values())

    def _only(self, signal: str) -> LayerTrace:
        if len(self._layers) != 1:
            raise AttributeError(
                f"trace.{signal}: expected one layer and direction, got {len(self._layers)}; "
                f'use trace["name"].{signal} with one of {", ".join(self._layers)}'
            )
        return next(iter(self._layers.values()))


def trace_of(tape: Tape[S]) -> Trace[S]:
    """Collect all that a recording can show. Its module has the weights that it had when the recording was made."""
    call = tape._call
    module: SequenceModule[S] = tape._module  # type: ignore[assignment]  # no other module is traced
    start, core_start = module._new_states(call)
    layers, cell_courses = {}, {}
    lstms = [options for options in module._config.modules if options["kind"] == "lstm"]
    parts = zip(lstms, module._trace_names, module._state_sizes, strict=True)
    for lstm, (options, names, size) in enumerate(parts):
        own = _own_start(module, options["learn_start_state"], names, size)
        for part, values in enumerate(core_start[lstm]):
            values[...] = own[part][..., np.newaxis, :] if call.start is None else call.start[lstm][part]
        for state, name in enumerate(names):
            signals = []
            for signal in LayerTrace._fields:
                features = size.hidden if signal == "hidden" else size.cell
                values = np.empty(call.axes.core_shape(call.steps, call.rows, features), tape.output.dtype)
                tape._core.signal(lstm, state, signal, values)
                signals.append(call.axes.from_core(values))
            layers[name] = LayerTrace(*signals)
            cell_courses[name] = CellCourse(
                core_start[lstm][1][..., state, :, :],
                own[1][..., state, np.newaxis, :],
                options["zoneout_cell"],
                options["cell_clip"],
                core_start[lstm][0][..., state, :, :],
                own[0][..., state, np.newaxis, :],
                options,
            )
    lengths, reset, skip = (None if mask is None else mask.copy() for mask in (call.lengths, call.reset, call.skip))
    course = Course(call.axes, call.steps, call.rows, lengths, reset, skip)
    return Trace(tape.output, start, tape.state, layers, course, cell_courses)


def _own_start(
    module: SequenceModule[Any], learned: bool, names: Sequence[str], size: StateSize
) -> tuple[Array, Array]:
    """Give h and c of an LSTM's own start state: (L * D, H_out) and (L * D, H), with members' axis in front."""
    members = () if module._members is None else (module._members,)
    own = []
    for part, features in (("h_0", size.hidden), ("c_0", size.cell)):
        values = np.zeros((*members, size.states, features), module.dtype)
        for state, name in enumerate(names if learned else ()):
            network, dot, layer = name.rpartition(".")
            values[..., state, :] = module.parameters[f"{network}{dot}{part}_{layer}"]
        own.append(values)
    return own[0], own[1]
