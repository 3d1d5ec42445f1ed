"""Chains of layers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core, files
from latchwork._arrays import boolean, real_dtype
from latchwork._module import Config, Module, kind_of, without_initial_values
from latchwork._sequence import SequenceModule
from latchwork.layers import Embedding, Last, Linear
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from typing import Self


_LAYERS: dict[str, type[Module]] = {layer._kind: layer for layer in (Embedding, LSTM, Last, Linear)}


class Network(SequenceModule[Any]):
    """A chain of layers on one contiguous buffer of parameters: called, streamed, traced, recorded and saved as one.

    ``output, state = network(x, state=None, lengths=None, reset=None)``; see `__call__` for the shapes. The state is
    (h_n, c_n) where there is one LSTM, a tuple of such pairs for several, ``()`` for none.

    Parameters
    ----------
    layers : sequence of LSTM, Embedding, Last and Linear
        Each layer's input size is the output size of the one before. An `Embedding` may come first, so that the network
        takes tokens; LSTMs come before `Last`. The layers keep their weights and from then on share them with the
        network: a write through one is seen by the other. A layer belongs to one network at most.

    Raises
    ------
    ValueError
        If the layers do not fit together, differ in dtype or ``batch_first``, or belong to a network already.
    TypeError
        If an item is no such layer.

    Notes
    -----
    Parameters are named as in ``torch.nn.Sequential``: ``1.weight_ih_l0`` is that of ``network[1]``. Traces are named
    the same way: ``1.l0``.

    Pickle and ``copy.deepcopy`` copy layer by layer. While another thread trains, ``state_dict()`` is the copy
    that is of one moment.

    Examples
    --------
    >>> network = Network([Embedding(50, 16), LSTM(16, 32), Last(), Linear(32, 3)])
    >>> output, (h_n, c_n) = network(np.zeros((10, 4), int))
    >>> output.shape
    (4, 3)
    """

    _kind = "network"
    _own = SequenceModule._own | {"_config"}

    def __init__(self, layers: Sequence[Module]) -> None:
        if not isinstance(layers, Sequence):
            raise TypeError(f"layers: expected a sequence of layers, got {type(layers).__name__}")
        self._join(tuple(layers))

    @property
    def batch_first(self) -> bool:
        """Whether input and output are (N, T, ...), as its LSTMs have it; without an LSTM they are (T, N, ...)."""
        batch_first: bool = self._config.python["batch_first"]
        return batch_first

    @property
    def layers(self) -> tuple[Module, ...]:
        """The layers in order."""
        return self._layers

    def __getitem__(self, index: int) -> Module:
        """Return one layer."""
        return self._layers[index]

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        """Iterate over the layers."""
        return iter(self._layers)

    def __repr__(self) -> str:
        """Show the layers."""
        return f"Network([{', '.join(map(repr, self._layers))}])"

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Join copied layers."""
        self.__dict__.update(state)
        self._join(self.__dict__.pop("_layers"))

    def __getstate__(self) -> dict[str, Any]:
        """Return the layers, which hold the weights."""
        return {name: value for name, value in self.__dict__.items() if name not in self._own}

    def _join(self, layers: tuple[Module, ...]) -> None:
        """Give all layers one buffer; on an error they are as before."""
        _check_layers(layers)
        dtypes = {layer.dtype for layer in layers if not isinstance(layer, Last)}
        if len(dtypes) > 1:
            raise ValueError(f"layers: expected one dtype, got {' and '.join(sorted(map(str, dtypes)))}")
        dtype = dtypes.pop() if dtypes else np.dtype(np.float32)
        lstms = {index: layer for index, layer in enumerate(layers) if isinstance(layer, LSTM)}
        if len({lstm.batch_first for lstm in lstms.values()}) > 1:
            raise ValueError("layers: expected one batch_first for all LSTMs, got both True and False")
        core_class = _core.Network64 if dtype == np.float64 else _core.Network32
        modules = [options for layer in layers for options in layer._config.modules]
        try:
            core = core_class(without_initial_values(modules), True, 0)
        except ValueError as error:  # where sizes or the order do not fit; layers are the core's modules
            raise ValueError(str(error).replace("modules", "layers")) from error
        core.write(
            {
                f"{index}.{name}": value
                for index, layer in enumerate(layers)
                for name, value in layer.state_dict().items()
            }
        )
        self._layers = layers
        self._config = Config(modules, dtype.name, {"batch_first": any(lstm.batch_first for lstm in lstms.values())})
        self._in_network = False
        self._state_sizes = tuple(itertools.chain.from_iterable(lstm._state_sizes for lstm in lstms.values()))
        self._trace_names = tuple(
            tuple(f"{index}.{name}" for name in names) for index, lstm in lstms.items() for names in lstm._trace_names
        )
        self._vocabulary = layers[0].num_embeddings if isinstance(layers[0], Embedding) else None
        self._streamable = all(lstm._streamable for lstm in lstms.values())
        self._adopt(core)
        for index, layer in enumerate(layers):
            layer._in_network = True
            if not isinstance(layer, Last):
                layer._adopt(core.module(index))

    @classmethod
    def _from_file(cls, content: files.Content) -> Self:
        modules, dtype = files.named("config", content.config, ("modules", "dtype"))
        (batch_first,) = files.named("python", content.python, ("batch_first",))
        python = {"batch_first": boolean("batch_first", batch_first)}
        config = Config(_core.checked_modules(modules), real_dtype(dtype).name, python)
        files.check_tensors(config, content.tensors)
        layers = []
        for place, options in enumerate(config.modules):
            kind = kind_of(options)
            if kind not in _LAYERS:
                raise ValueError(f"modules[{place}].kind: expected one of {', '.join(_LAYERS)}, got {kind}")
            layer = _LAYERS[kind]._unbuilt(Config([options], config.dtype, python if kind == "lstm" else {}))
            layer._create_unset()
            layers.append(layer)
        network = cls(layers)
        network.load_state_dict(content.tensors)
        return network


def _check_layers(layers: tuple[Module, ...]) -> None:
    for index, layer in enumerate(layers):
        if not isinstance(layer, (Embedding, LSTM, Last, Linear)):
            raise TypeError(f"layers[{index}]: expected LSTM, Embedding, Last or Linear, got {type(layer).__name__}")
        if layer._in_network or any(layer is other for other in layers[:index]):
            raise ValueError(
                f"layers[{index}]: expected a layer that belongs to no network, got one that does; "
                "copy.deepcopy(layer) makes one with the same weights"
            )
