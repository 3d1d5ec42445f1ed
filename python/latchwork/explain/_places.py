"""Where a layer and direction lies in a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from latchwork.explain._choices import direction_activations, layer_name
from latchwork.lstm import LSTM
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latchwork._sequence import SequenceModule


class Place(NamedTuple):
    """One layer and direction of an LSTM, alone or in a network."""

    name: str  # as a trace has it: "l0_reverse", in a network "1.l0_reverse"
    module: int  # where the LSTM stands in the network
    lstm: int  # which of the network's LSTMs it is
    state: int  # where its state lies along the first axis of that LSTM's h_n and c_n
    layer: LSTM

    @property
    def prefix(self) -> str:
        """What stands before the names of the LSTM's parameters in the network."""
        return self.name.rpartition(".")[0] + "." if "." in self.name else ""

    @property
    def suffix(self) -> str:
        """What stands behind the names of this layer's and direction's parameters: "l0_reverse"."""
        return self.name.rpartition(".")[2]

    @property
    def units(self) -> int:
        """How many units it has."""
        return self.layer.hidden_size

    @property
    def options(self) -> dict[str, Any]:
        """The core's options of the LSTM."""
        return self.layer._config.modules[0]

    @property
    def activations(self) -> Mapping[str, Any]:
        """The activations of this direction by gate."""
        return direction_activations(self.options, self.name)


def check_module(name: str, module: Any) -> None:
    """Raise TypeError unless something is an LSTM or a network."""
    if not isinstance(module, (LSTM, Network)):
        hint = "; its network_ is one" if hasattr(module, "network_") else ""
        raise TypeError(f"{name}: expected LSTM or Network, got {type(module).__name__}{hint}")


def place_of(module: Any, layer: Any) -> Place:
    """Find a layer and direction of an LSTM or a network; None: the first. ValueError, IndexError or TypeError."""
    check_module("network", module)
    modules = tuple(module) if isinstance(module, Network) else (module,)
    lstms = [(index, each) for index, each in enumerate(modules) if isinstance(each, LSTM)]
    if not lstms:
        raise ValueError(f"network: expected one with an LSTM, got {module!r}")
    name = layer_name([name for names in module._trace_names for name in names], layer)
    for number, ((index, lstm), names) in enumerate(zip(lstms, module._trace_names, strict=True)):
        if name in names:
            return Place(name, index, number, names.index(name), lstm)
    raise AssertionError(name)


def check_one_member(network: SequenceModule[Any]) -> None:
    """Raise ValueError if a network has several members."""
    if network._members is not None:
        raise ValueError(
            f"network: expected one of one member, got one of {network._members}; network.member(m) is one of them"
        )


def numbers_per_step(network: SequenceModule[Any]) -> int:
    """Estimate how many numbers a run keeps for each step and row: outputs, and what layers pass to each other."""
    between = sum(2 * network._state_sizes[number].states * network._state_sizes[number].hidden
                  for number in network._lstm_states)  # fmt: skip
    return int(3 * network._core.output_size + between)
