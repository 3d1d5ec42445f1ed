"""Traces: what each gate did at each step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

import numpy as np

from latchwork._module import S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._axes import Axes
    from latchwork._sequence import Call, Pairs, SequenceModule, StateSize
    from latchwork.tape import Tape


class LayerTrace(NamedTuple):
    """One layer in one direction, each (T, N, hidden_size) in the axes of the output, zero in padding.

    The ranges are those of the default activations. In `GateGradients` the same names hold gradients.
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
    end_reset: Array | None = None  # (N,) or (M, N): whether a reset comes after the last step of a row

    def reversed(self) -> Course:
        """Give what a layer sees after a `Reverse`: each reset stays between the same two steps."""
        lengths = np.full(self.rows, self.steps) if self.lengths is None else self.lengths
        steps = np.arange(self.steps)[:, np.newaxis]
        ends = lengths[..., np.newaxis, :]

        def taken(mask: Array, places: Array) -> Array:
            mask, places = np.broadcast_arrays(mask, places)
            inside = (places >= 0) & (places < ends)
            reverse: Array = inside & np.take_along_axis(mask, np.where(inside, places, 0), axis=-2)
            return reverse

        skip = None if self.skip is None else taken(self.skip, ends - 1 - steps)
        if self.reset is None or not self.steps:
            return self._replace(skip=skip)
        reset = taken(self.reset, np.where(steps > 0, ends - steps, -1))
        return self._replace(skip=skip, reset=reset, end_reset=self.reset[..., 0, :] & (lengths > 0))


class CellCourse(NamedTuple):
    """How one layer and direction came to the cells that a trace shows, apart from its gates."""

    start: Array  # c before the first step: (N, H), or (M, N, H) with members
    restart: Array  # c after a reset: (1, H), or (M, 1, H)
    zoneout: float  # which part of c_prev stays, whatever the gates do
    cell_clip: float | None
    hidden_start: Array  # the same of h
    hidden_restart: Array
    options: Mapping[str, Any]  # of its LSTM, in the core's words
    backwards: bool  # whether a `Reverse` has turned its steps


class LayerSignals(Mapping[str, LayerTrace]):
    """What `Trace` and `GateGradients` share: `LayerTrace` by the name of a layer and direction."""

    _noun: ClassVar[str]  # what error messages call it

    def __init__(self, layers: dict[str, LayerTrace]) -> None:
        self._layers = layers

    def __getitem__(self, key: str | int) -> LayerTrace:
        """Return a layer and direction by name, or a layer by number."""
        if isinstance(key, str):
            return self._layers[key]
        return self._layers[names_by_number(self)[key]]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._layers)

    def __len__(self) -> int:
        """Return the number of layers times directions."""
        return len(self._layers)

    def __repr__(self) -> str:
        """Show the names."""
        return f"{type(self).__name__}({', '.join(self._layers)})"

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

    def _only(self, signal: str) -> LayerTrace:
        if len(self._layers) != 1:
            raise AttributeError(
                f"{self._noun}.{signal}: expected one layer and direction, got {len(self._layers)}; "
                f'use {self._noun}["name"].{signal} with one of {", ".join(self._layers)}'
            )
        return next(iter(self._layers.values()))


class Trace(LayerSignals, Generic[S]):
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

    _noun = "trace"

    def __init__(
        self,
        output: Array,
        start: S,
        state: S,
        layers: dict[str, LayerTrace],
        course: Course,
        cell_courses: dict[str, CellCourse],
    ) -> None:
        super().__init__(layers)
        self.output = output
        self.start = start
        self.state = state
        self._course = course
        self._cell_courses = cell_courses

    def _course_of(self, name: str) -> Course:
        """Give the call as one layer and direction sees it."""
        return self._course.reversed() if self._cell_courses[name].backwards else self._course


class GateGradients(LayerSignals):
    """The gradient of a loss with respect to every number that a `Trace` shows: made by ``tape.backward(gates=True)``.

    A mapping with the names of the trace: ``gates["l0"].forget_gate`` has the shape of ``trace["l0"].forget_gate``, and
    with one layer and one direction ``gates.forget_gate`` is there too. It is zero in padding and where ``skip`` is
    true.

    Notes
    -----
    An element says how fast the loss changes if that number alone is changed, at that step alone, and all that is
    computed from it follows, at this and at all other steps: the total derivative with the activation as a free
    variable, whatever the gate would have computed. So with c_prev, i, f, g, o and c of one step, d_c the gradient with
    respect to c and d_h that with respect to o * tanh(c)::

        d_i = d_c * g        d_f = d_c * c_prev        d_g = d_c * i        d_o = d_h * tanh(c)

    They come from before the multiplication by the slope of the gate's activation, and are as exact where a gate is
    saturated and the slope zero as elsewhere.

    ``input_gate``, ``forget_gate``
        Coupled gates are one number: each follows from the other, ``input_gate`` is d_c * (g - c_prev), and
        ``forget_gate`` exactly minus that. Without a forget gate ``forget_gate`` is the gradient with respect to the 1
        by which c_prev is multiplied: d_c * c_prev.
    ``candidate``
        With respect to g before it is dropped, if ``recurrent_dropout_on="candidate"`` does.
    ``cell``
        With respect to the cell as the trace shows it, limited by ``cell_clip``. If zoneout acts on the cell, h comes
        from the cell before zoneout, so that of this number only later steps depend.
    ``hidden``
        With respect to the layer's own h after projection and zoneout: through what reads the output of the layer, and
        through the next step.
    """

    _noun = "gates"


def names_by_number(names: Iterable[str]) -> list[str]:
    """Of the names of layers and directions, give for each layer the direction that its number stands for."""
    chosen: dict[str, str] = {}
    for name in names:
        chosen.setdefault(name.removesuffix("_reverse"), name)
    return list(chosen.values())


def trace_of(tape: Tape[S]) -> Trace[S]:
    """Collect all that a recording can show. Its module has the weights that it had when the recording was made."""
    call = tape._call
    module: SequenceModule[S] = tape._module  # type: ignore[assignment]  # no other module is traced
    start, core_start = module._new_states(call)
    sizes = [module._state_sizes[state] for state in module._lstm_states]
    arrays = _new_arrays(call, sizes, tape.output.dtype)
    cell_courses = {}
    lstms, backwards = [], False
    for options in module._config.modules:
        if options["kind"] == "lstm":
            lstms.append((options, backwards))
        backwards ^= options["kind"] == "reverse"
    _write_carried_start(module, call, core_start)
    parts = zip(lstms, module._trace_names, sizes, module._lstm_states, strict=True)
    for lstm, ((options, turned), names, size, place) in enumerate(parts):
        own = _own_start(module, options["learn_start_state"], names, size)
        for part, values in enumerate(core_start[place]):
            values[...] = own[part][..., np.newaxis, :] if call.start is None else call.start[place][part]
        for state, name in enumerate(names):
            for signal, signal_values in arrays[lstm][state]._asdict().items():
                tape._core.signal(lstm, state, signal, signal_values)
            cell_courses[name] = CellCourse(
                core_start[place][1][..., state, :, :],
                own[1][..., state, np.newaxis, :],
                options["zoneout_cell"],
                options["cell_clip"],
                core_start[place][0][..., state, :, :],
                own[0][..., state, np.newaxis, :],
                options,
                turned,
            )
    lengths, reset, skip = (None if mask is None else mask.copy() for mask in (call.lengths, call.reset, call.left_out))
    course = Course(call.axes, call.steps, call.rows, lengths, reset, skip)
    layers = _by_name(call, arrays, module._trace_names)
    return Trace(tape.output, start, tape.state, layers, course, cell_courses)


def _write_carried_start(module: SequenceModule[Any], call: Call, core_start: Pairs) -> None:
    """Write the start states of the layers that carry values forward."""
    imputers = [each for each in module._config.modules if each["kind"] == "impute" and each["method"] == "forward"]
    places = [place for place in range(len(core_start)) if place not in module._lstm_states]
    for options, place in zip(imputers, places, strict=True):
        value, age = core_start[place]
        value[...] = (options["fill"] or 0.0) if call.start is None else call.start[place][0]
        age[...] = 0.0 if call.start is None else call.start[place][1]


def new_gate_gradients(
    call: Call, trace_names: Sequence[Sequence[str]], state_sizes: Sequence[StateSize], dtype: np.dtype[Any]
) -> tuple[GateGradients, list[list[LayerTrace]]]:
    """Allocate gradients with respect to the gates: the user's arrays, and the core's views of them."""
    arrays = _new_arrays(call, state_sizes, dtype)
    return GateGradients(_by_name(call, arrays, trace_names)), arrays


def _new_arrays(call: Call, state_sizes: Sequence[StateSize], dtype: np.dtype[Any]) -> list[list[LayerTrace]]:
    """Allocate what the core writes: for each LSTM one `LayerTrace` for each of its layers and directions."""

    def of_state(size: StateSize) -> LayerTrace:
        features = [size.hidden if signal == "hidden" else size.cell for signal in LayerTrace._fields]
        return LayerTrace(*(np.empty(call.axes.core_shape(call.steps, call.rows, each), dtype) for each in features))

    return [[of_state(size) for _ in range(size.states)] for size in state_sizes]


def _by_name(
    call: Call, arrays: Sequence[Sequence[LayerTrace]], trace_names: Sequence[Sequence[str]]
) -> dict[str, LayerTrace]:
    """View the core's arrays as the user's, by the names of layers and directions."""
    return {
        name: LayerTrace(*map(call.axes.from_core, signals))
        for names, states in zip(trace_names, arrays, strict=True)
        for name, signals in zip(names, states, strict=True)
    }


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
