"""The network that an estimator trains, and the one that it predicts with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from latchwork._arrays import integer, real_number
from latchwork.input_layers import EmbedColumns, Impute, Scale
from latchwork.layers import Dropout, Last, Linear, Max, Mean, Sort
from latchwork.lstm import LSTM
from latchwork.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._module import Module
    from latchwork._random import Random
    from latchwork.estimators.data.input_numbers import InputNumbers
    from latchwork.estimators.sequence_parameters import SequenceParameters

_POOLING: dict[str, type[Module]] = {"last": Last, "mean": Mean, "max": Max}

# A category gets about half as many features as its column has categories, and never more than this.
_MOST_FEATURES_OF_A_CATEGORY = 16


class OutputNumbers(NamedTuple):
    """What the network's last layers are made of."""

    size: int  # features of the linear layer
    sorted_by: int  # above 1: so many features side by side are sorted, which are the quantiles of one output
    shift: Sequence[float] | None  # what `Scale` at the end needs; None: the output is in its units already
    factor: Sequence[float] | None

    @classmethod
    def read(cls, values: Any) -> OutputNumbers:
        """Check what a file says. ValueError or TypeError."""
        if not isinstance(values, Mapping) or set(values) != set(cls._fields):
            raise ValueError(f"outputs: expected {', '.join(cls._fields)}, got {values!r}")
        numbers = [
            None if values[name] is None else [real_number(name, each, float("-inf")) for each in values[name]]
            for name in ("shift", "factor")
        ]
        if (numbers[0] is None) != (numbers[1] is None):
            raise ValueError(f"outputs: expected shift and factor, or neither, got {values!r}")
        return cls(integer("size", values["size"], 1), integer("sorted_by", values["sorted_by"], 1), *numbers)


class NetworkSeeds(NamedTuple):
    """The seeds of the initial values."""

    categories: int
    lstm: int
    linear: int

    @classmethod
    def drawn(cls, random: Random) -> NetworkSeeds:
        """Draw all of them, whatever layers there are, so that no option changes the seeds of another."""
        return cls(random.seed(), random.seed(), random.seed())


def new_network(
    parameters: SequenceParameters, inputs: InputNumbers, outputs: OutputNumbers, seeds: NetworkSeeds, longest: int
) -> Network:
    """Make the network that is trained, on sequences of at most so many steps.

    Its output is in the units of the scaled targets.
    """
    dtype = parameters.dtype
    layers: list[Module] = [Scale(inputs.shift, inputs.factor)]
    size = len(inputs.shift)
    if inputs.impute is not None:
        impute = Impute(size, **inputs.impute)
        layers.append(impute)
        size += len(impute.indicators) * (2 if impute.method == "forward" else 1)
    if inputs.categories:
        columns = sorted(inputs.categories)
        counts = [inputs.categories[column] for column in columns]
        features = [min((count + 1) // 2, _MOST_FEATURES_OF_A_CATEGORY) for count in counts]
        layers.append(EmbedColumns(size, columns, counts, features, dtype=dtype, seed=seeds.categories))
        size += sum(features) - len(columns)
    lstm = LSTM(
        size,
        parameters.hidden_size,
        parameters.num_layers,
        bidirectional=parameters._reads_backward(),
        dropout=parameters.dropout if parameters.num_layers > 1 else 0.0,
        dtype=dtype,
        seed=seeds.lstm,
        **parameters._cell_options(longest),
    )
    layers.append(lstm)
    if parameters.head != "sequence":
        layers.append(_POOLING[parameters.head]())
    if parameters.dropout:
        layers.append(Dropout(parameters.dropout))
    features_of_head = (lstm.proj_size or lstm.hidden_size) * (2 if lstm.bidirectional else 1)
    layers.append(Linear(features_of_head, outputs.size, dtype=dtype, seed=seeds.linear))
    if outputs.sorted_by > 1:
        layers.append(Sort(outputs.sorted_by))
    return Network(layers, parameters.n_members)


def predicting_network(trained: Network, outputs: OutputNumbers) -> Network:
    """Copy the trained network and let it give its output in the user's units."""
    layers = [copy.deepcopy(layer) for layer in trained]
    if outputs.shift is not None and outputs.factor is not None:
        layers.append(Scale(outputs.shift, outputs.factor))
    return Network(layers, trained.members)


def training_network(predicting: Network, outputs: OutputNumbers) -> Network:
    """Reverse `predicting_network`."""
    layers = [copy.deepcopy(layer) for layer in predicting]
    return Network(layers if outputs.shift is None else layers[:-1], predicting.members)
