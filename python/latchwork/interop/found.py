"""What is said of a foreign model that is more than a chain of our layers: which LSTMs are in it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latchwork._module import Module


@dataclass(frozen=True)
class FoundLSTM:
    """One LSTM of a foreign model.

    Attributes
    ----------
    path : str
        Its name there, as ``node=`` or ``layer=`` takes it.
    input_size, hidden_size : int
        Features of the input, and units of each direction.
    direction : {"forward", "reverse", "both"}
        Where it runs to.
    options : mapping
        Those arguments of `latchwork.LSTM` that differ from its defaults.
    obstacles : tuple of str
        What keeps the whole model from becoming a chain, as far as this LSTM is concerned: "Conv 'encoder.0' before
        it". Empty: nothing does.
    """

    path: str
    input_size: int
    hidden_size: int
    direction: str = "forward"
    options: Mapping[str, Any] = field(default_factory=dict)
    obstacles: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say all of it in one line."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        direction = "" if self.direction == "forward" else f", direction {self.direction}"
        obstacles = f": {', '.join(self.obstacles)}" if self.obstacles else ""
        return f"{self.path!r} ({self.input_size} -> {self.hidden_size}{direction}{options}){obstacles}"


def found_of(layer: Module, path: str) -> FoundLSTM:
    """Describe an `LSTM` or `LSTMCell` of ours, by the arguments of its constructor that differ from the defaults."""
    options: dict[str, Any] = {} if type(layer).__name__ == "LSTM" else {"cell": True}
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        value = str(layer.dtype) if name == "dtype" else getattr(layer, name, parameter.default)
        if parameter.default is not parameter.empty and value != parameter.default:
            options[name] = value
    both, reverse = options.pop("bidirectional", False), options.pop("reverse", False)
    sizes = layer._config.modules[0]
    direction = "both" if both else "reverse" if reverse else "forward"
    return FoundLSTM(path, sizes["input_size"], sizes["hidden_size"], direction, options)


def refusal(source: str, reason: str, found: Sequence[FoundLSTM], argument: str) -> ValueError:
    """Make the error for a model that cannot become a chain as a whole.

    Parameters
    ----------
    source : str
        The file or object, as the message names it.
    reason : str
        What stands in the way: "Conv 'encoder.0' has no counterpart".
    found : sequence of FoundLSTM
        All LSTMs of the model.
    argument : {"node", "layer"}
        The argument that takes one of them out.
    """
    if not found:
        return ValueError(f"{source}: {reason}, and there is no LSTM in it")
    listed = "\n".join(f"  {each}" for each in found)
    return ValueError(
        f"{source}: {reason}. It holds {len(found)} LSTM{'s' if len(found) > 1 else ''}; "
        f"{argument}={found[0].path!r} takes {'one' if len(found) > 1 else 'it'} out:\n{listed}"
    )
