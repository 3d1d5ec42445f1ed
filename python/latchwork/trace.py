"""Traces: what each gate did at each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

import numpy as np

from latchwork._module import S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._sequence import Call, StateSize
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


class LayerSignals(Mapping[str, LayerTrace]):
    """What `Trace` and `GateGradients` share: `LayerTrace` by the name of a layer and direction."""

    _noun: ClassVar[str]  # what error messages call it

    def __init__(self, layers: dict[str, LayerTrace]) -> None:
        self._layers = layers

    def __getitem__(self, key: str | int) -> LayerTrace:
        """Return a layer and direction by name, or a layer by number."""
        if isinstance(key, str):
            return self._layers[key]
        layers = [name for name in self._layers if not name.endswith("_reverse")] or list(self._layers)
        return self._layers[layers[key]]

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
    ``trace["1.l0"]``. ``trace[k]`` is the forward direction of layer ``k``, counted over all LSTMs. With one layer and
    one direction ``trace.input_gate`` and the others are there too. If the network has several members, their axis is
    in front.

    Attributes
    ----------
    output : numpy.ndarray
        What a call returns.
    state
        The state after the last step.

    Notes
    -----
    The gates are those of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000), which
    added the forget gate to Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
    """

    _noun = "trace"

    def __init__(self, output: Array, state: S, layers: dict[str, LayerTrace]) -> None:
        super().__init__(layers)
        self.output = output
        self.state = state


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


def trace_of(tape: Tape[S], trace_names: Sequence[Sequence[str]], state_sizes: Sequence[StateSize]) -> Trace[S]:
    """Collect all that a recording can show. ``trace_names``: for each LSTM those of its layers and directions."""
    arrays = _new_arrays(tape._call, state_sizes, tape.output.dtype)
    for lstm, states in enumerate(arrays):
        for state, signals in enumerate(states):
            for signal, values in signals._asdict().items():
                tape._core.signal(lstm, state, signal, values)
    return Trace(tape.output, tape.state, _by_name(tape._call, arrays, trace_names))


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
