"""What the explorer has to know of each layer and direction, and of each sequence that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork.explain._choices import direction_activations, of_member
from latchwork.explain.page_codes import Coded, encode
from latchwork.plot.unit_order import similar_side_by_side

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._sequence import Call, SequenceModule
    from latchwork.trace import Trace

GATES = ("input_gate", "forget_gate", "candidate", "output_gate", "cell")


class Layer(NamedTuple):
    """One layer in one direction."""

    name: str
    options: Mapping[str, Any]
    """Those of the LSTM, in the core's words."""
    activations: Mapping[str, Any]
    """Those of this direction."""

    @property
    def units(self) -> int:
        """How many units it has."""
        units: int = self.options["hidden_size"]
        return units

    @property
    def hidden_follows(self) -> bool:
        """Whether h is o * tanh(c), so that the page need not store it."""
        return not (
            self.options["proj_size"]
            or self.options["layer_norm"]
            or self.options["zoneout_hidden"]
            or self.activations["cell"] != "tanh"
        )

    def facts(self) -> dict[str, Any]:
        """Give what the page knows of the layer."""
        options = self.options
        return {
            "name": self.name,
            "units": self.units,
            "outputs": options["proj_size"] or self.units,
            "reverse": self.name.endswith("_reverse"),
            "projects": bool(options["proj_size"]),
            "activations": {gate: _activation_text(each) for gate, each in self.activations.items()},
            "forgetGate": options["forget_gate"],
            "peephole": options["peephole"],
            "layerNorm": options["layer_norm"],
            "clip": options["clip"],
            "cellClip": options["cell_clip"],
            "zoneoutHidden": options["zoneout_hidden"],
            "zoneoutCell": options["zoneout_cell"],
        }


class Selected(NamedTuple):
    """One row of a trace, of one member."""

    call: Call
    row: int
    member: int

    @property
    def steps(self) -> int:
        """How many of its steps are no padding."""
        lengths = self.call.lengths
        return self.call.steps if lengths is None else int(of_member(lengths, 1, self.member)[self.row])

    def values(self, array: Array) -> Array:
        """Give the row (T, features) of an array in the axes of a trace, without padding."""
        core = self.call.axes.to_core(array)
        row: Array = of_member(core, 3, self.member)[: self.steps, self.row]
        return row

    def flagged(self, mask: Array | None) -> list[int]:
        """Give the steps at which a mask, `reset` or `skip`, is true."""
        if mask is None:
            return []
        steps: list[int] = np.flatnonzero(of_member(mask, 2, self.member)[: self.steps, self.row]).tolist()
        return steps

    def token_numbers(self, network: SequenceModule[Any]) -> list[str]:
        """Give the labels of steps that have no other: the numbers of tokens, and nothing for other input."""
        if network._vocabulary is None:
            return [""] * self.steps
        return [str(token) for token in of_member(self.call.x, 2, self.member)[: self.steps, self.row]]

    def starts(self, trace: Trace[Any], name: str) -> tuple[Array, Array]:
        """Give the cell (H,) of a layer before the first step, and after a reset."""
        course = trace._cell_courses[name]
        start: Array = of_member(course.start, 2, self.member)[self.row]
        restart: Array = of_member(course.restart, 2, self.member)[0]
        return start, restart


def layers_of(network: SequenceModule[Any]) -> list[Layer]:
    """List the layers and directions in the trace's order. ValueError if not all read the steps in that of x."""
    if any(options["kind"] == "reverse" for options in network._config.modules):
        raise ValueError(f"network: expected one whose layers all read the steps in their order, got {network!r}")
    options_of_lstms = [options for options in network._config.modules if options["kind"] == "lstm"]
    layers = []
    for options, names in zip(options_of_lstms, network._trace_names, strict=True):
        for name in names:
            layers.append(Layer(name, options, direction_activations(options, name)))
    return layers


def sequence_facts(
    trace: Trace[Any], layers: Sequence[Layer], selected: Selected
) -> tuple[dict[str, Any], list[list[Coded]]]:
    """Give what the page knows of one sequence, and for each layer its signals."""
    of_layers, coded = [], []
    for layer in layers:
        signals = trace[layer.name]
        # Where a step is left out, the output gate is zero, and h is carried through.
        names = GATES if layer.hidden_follows and selected.call.left_out is None else (*GATES, "hidden")
        coded.append([encode(selected.values(getattr(signals, name))) for name in names])
        start, restart = selected.starts(trace, layer.name)
        of_layers.append(
            {
                "start": _numbers(start),
                "restart": _numbers(restart),
                "similar": similar_side_by_side(selected.values(signals.cell)).tolist(),
                "signals": names,
                "scaled": [signal.scales is not None for signal in coded[-1]],
            }
        )
    facts = {
        "row": selected.row,
        "member": selected.member,
        "steps": selected.steps,
        "resets": selected.flagged(selected.call.reset),
        "skips": selected.flagged(selected.call.left_out),
        "layers": of_layers,
    }
    return facts, coded


def _activation_text(activation: Any) -> str:
    if isinstance(activation, str):
        return activation
    name, *numbers = activation
    return f"{name}({', '.join(f'{number:g}' for number in numbers)})"


def _numbers(values: Array) -> list[float | str]:
    """Give numbers that JSON can hold: a NaN or an infinity becomes a text."""
    return [value if np.isfinite(value) else str(value) for value in values.astype(np.float64).tolist()]
