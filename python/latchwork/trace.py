"""Traces: what each gate did at each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, NamedTuple

import numpy as np

from latchwork._module import S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array
    from latchwork._sequence import StateSize
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


class Trace(Mapping[str, LayerTrace], Generic[S]):
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

    def __init__(self, output: Array, state: S, layers: dict[str, LayerTrace]) -> None:
        self.output = output
        self.state = state
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

    def _only(self, signal: str) -> LayerTrace:
        if len(self._layers) != 1:
            raise AttributeError(
                f"trace.{signal}: expected one layer and direction, got {len(self._layers)}; "
                f'use trace["name"].{signal} with one of {", ".join(self._layers)}'
            )
        return next(iter(self._layers.values()))


def trace_of(tape: Tape[S], trace_names: Sequence[Sequence[str]], state_sizes: Sequence[StateSize]) -> Trace[S]:
    """Collect all that a recording can show. ``trace_names``: for each LSTM those of its layers and directions."""
    call = tape._call
    layers = {}
    for lstm, (names, size) in enumerate(zip(trace_names, state_sizes, strict=True)):
        for state, name in enumerate(names):
            signals = []
            for signal in LayerTrace._fields:
                features = size.hidden if signal == "hidden" else size.cell
                values = np.empty(call.axes.core_shape(call.steps, call.rows, features), tape.output.dtype)
                tape._core.signal(lstm, state, signal, values)
                signals.append(call.axes.from_core(values))
            layers[name] = LayerTrace(*signals)
    return Trace(tape.output, tape.state, layers)
