"""Chains of layers, and the layers that surround LSTMs in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core, files
from latchwork._arrays import (
    as_array,
    boolean,
    integer,
    integer_array,
    lengths_array,
    real_array,
    real_dtype,
    shape_text,
)
from latchwork._module import Module, Option
from latchwork._sequence import SequenceModule
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array

_ACTIVATIONS = (None, "relu", "sigmoid", "tanh")


class Embedding(Module):
    """A vector of its own for each token: rows of ``weight`` (vocabulary, size).

    Parameters
    ----------
    vocabulary : int
        How many tokens there are: 0 to ``vocabulary - 1``.
    size : int
        Features of each vector.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters and outputs.
    seed : int, optional
        Of the initial weights, standard normal as PyTorch's. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.
    """

    _kind = "embedding"

    vocabulary = Option[int]()
    size = Option[int]()

    def __init__(self, vocabulary: int, size: int, *, dtype: DTypeLike = "float32", seed: int | None = None) -> None:
        self._config = self._checked(vocabulary, size, dtype=dtype)
        self._create(seed)

    def __call__(self, tokens: Any) -> Array:
        """Look tokens up.

        Parameters
        ----------
        tokens : array_like of int
            Any shape.

        Returns
        -------
        numpy.ndarray
            (..., size), new.

        Raises
        ------
        ValueError
            If a token is not in the vocabulary.
        TypeError
            If the tokens are no integers.
        """
        array = integer_array("tokens", tokens)
        output = np.empty((*array.shape, self.size), self.dtype)
        self._core.forward(
            array.reshape(1, array.size), None, None, None, output.reshape(1, array.size, self.size), None
        )
        return output

    @staticmethod
    def _checked(vocabulary: Any, size: Any, *, dtype: Any = "float32") -> dict[str, Any]:
        return {
            "vocabulary": integer("vocabulary", vocabulary, 1),
            "size": integer("size", size, 1),
            "dtype": real_dtype(dtype).name,
        }

    def _core_options(self) -> dict[str, Any]:
        return {"kind": "embedding", "vocabulary": self.vocabulary, "size": self.size}

    def _parameter_count(self) -> int:
        return self.vocabulary * self.size


class Linear(Module):
    """``activation(x W^T + b)``, with ``weight`` (output_size, input_size) and ``bias`` (output_size,) as PyTorch's.

    Parameters
    ----------
    input_size, output_size : int
        Features of input and output, at least 1.
    bias : bool, default True
        Whether there is a bias.
    activation : {None, "relu", "sigmoid", "tanh"}, default None
        What is applied to the result.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters and outputs.
    seed : int, optional
        Of the initial parameters, uniform in +-1/sqrt(input_size) as PyTorch's. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.
    """

    _kind = "linear"

    input_size = Option[int]()
    output_size = Option[int]()
    bias = Option[bool]()
    activation = Option["str | None"]()

    def __init__(
        self,
        input_size: int,
        output_size: int,
        bias: bool = True,
        activation: str | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self._config = self._checked(input_size, output_size, bias, activation, dtype=dtype)
        self._create(seed)

    def __call__(self, x: Any) -> Array:
        """Apply the layer.

        Parameters
        ----------
        x : array_like
            (..., input_size), with any leading axes.

        Returns
        -------
        numpy.ndarray
            (..., output_size).

        Raises
        ------
        ValueError
            If the last axis has another size.
        TypeError
            If x does not hold real numbers.
        """
        array = real_array("x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != self.input_size:
            raise ValueError(f"x: expected (..., {self.input_size}), got {shape_text(array.shape)}")
        rows = array.size // self.input_size
        output = np.empty((*array.shape[:-1], self.output_size), self.dtype)
        self._core.forward(
            array.reshape(1, rows, self.input_size), None, None, None, output.reshape(1, rows, self.output_size), None
        )
        return output

    @staticmethod
    def _checked(
        input_size: Any, output_size: Any, bias: Any = True, activation: Any = None, *, dtype: Any = "float32"
    ) -> dict[str, Any]:
        if activation is not None and not isinstance(activation, str):
            raise TypeError(f"activation: expected str or None, got {type(activation).__name__}")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(map(repr, _ACTIVATIONS))}, got {activation!r}")
        return {
            "input_size": integer("input_size", input_size, 1),
            "output_size": integer("output_size", output_size, 1),
            "bias": boolean("bias", bias),
            "activation": activation,
            "dtype": real_dtype(dtype).name,
        }

    def _core_options(self) -> dict[str, Any]:
        names = ("input_size", "output_size", "bias", "activation")
        return {"kind": "linear"} | {name: self._config[name] for name in names}

    def _parameter_count(self) -> int:
        return self.output_size * (self.input_size + self.bias)


class Last(Module):
    """Each sequence's final output: (T, N, features) becomes (N, features).

    In a `Network` it knows the directions of the LSTM before it: of a reverse direction it takes what that one computed
    last, which is step 0. It has neither parameters nor a dtype of its own.
    """

    _kind = "last"

    def __init__(self) -> None:
        self._config = {}
        self._create_unset()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Not there: Last keeps the dtype of its input."""
        raise AttributeError("Last has no dtype of its own: it keeps that of its input")

    def __call__(self, x: Any, lengths: Any = None) -> Array:
        """Take the last valid step of each sequence, as of a forward direction.

        Parameters
        ----------
        x : array_like
            (T, N, features) or unbatched (T, features). float64 stays, other real numbers become float32.
        lengths : array_like of int, optional
            (N,), each from 0 to T; None: T for all. Not for unbatched input.

        Returns
        -------
        numpy.ndarray
            (N, features) or (features,), new; zeros for an empty sequence.

        Raises
        ------
        ValueError
            If a shape does not fit or a length is out of range.
        TypeError
            If an argument has no fitting dtype.
        """
        array = as_array("x", x)
        array = real_array(
            "x", array, np.dtype(np.float64 if array.dtype.newbyteorder("=") == np.float64 else np.float32)
        )
        if array.ndim not in (2, 3):
            raise ValueError(f"x: expected (T, N, features) or (T, features), got {shape_text(array.shape)}")
        if array.ndim == 2:
            if lengths is not None:
                raise ValueError(f"lengths: expected None for unbatched x {shape_text(array.shape)}, got lengths")
            return array[-1].copy() if len(array) else np.zeros(array.shape[1:], array.dtype)
        steps, rows, features = array.shape
        ends = np.full(rows, steps) if lengths is None else lengths_array(lengths, steps, rows)
        output = np.zeros((rows, features), array.dtype)
        filled = np.flatnonzero(ends)
        output[filled] = array[ends[filled] - 1, filled]
        return output

    @staticmethod
    def _checked() -> dict[str, Any]:
        return {}

    def _core_options(self) -> dict[str, Any]:
        return {"kind": "last"}

    def _build(self, options: Mapping[str, Any], seed: int) -> None:
        self._layout = {}
        self._in_network = False

    def _read(self) -> Array:
        return np.empty(0, np.float32)

    def _write(self, values: Mapping[str, Array]) -> None:
        pass

    @classmethod
    def _from_file(cls, config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        last = cls._unbuilt(config)
        files.check_tensors(0, tensors, np.dtype(np.float32))
        last._create_unset()
        return last

    def _parameter_count(self) -> int:
        return 0


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
        batch_first: bool = self._config["batch_first"]
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
        try:
            core = core_class([layer._core_options() for layer in layers], True, 0)
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
        self._config = {"batch_first": any(lstm.batch_first for lstm in lstms.values()), "dtype": dtype.name}
        self._in_network = False
        self._state_sizes = tuple(itertools.chain.from_iterable(lstm._state_sizes for lstm in lstms.values()))
        self._trace_names = tuple(
            tuple(f"{index}.{name}" for name in names) for index, lstm in lstms.items() for names in lstm._trace_names
        )
        self._vocabulary = layers[0].vocabulary if isinstance(layers[0], Embedding) else None
        self._streamable = all(lstm._streamable for lstm in lstms.values())
        self._adopt(core)
        for index, layer in enumerate(layers):
            layer._in_network = True
            if not isinstance(layer, Last):
                layer._adopt(core.module(index))

    def _to_file(self) -> tuple[str, dict[str, Any], Mapping[str, Array]]:
        return self._kind, {"layers": [{"kind": layer._kind} | layer._config for layer in self]}, self.state_dict()

    @classmethod
    def _from_file(cls, config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        layers = []
        for options in config["layers"]:
            arguments = dict(options)
            kind = arguments.pop("kind")
            if kind not in _LAYERS:
                raise ValueError(f"kind: expected one of {', '.join(_LAYERS)}, got {kind!r}")
            layers.append(_LAYERS[kind]._unbuilt(arguments))
        dtypes = [layer.dtype for layer in layers if not isinstance(layer, Last)]
        files.check_tensors(
            sum(layer._parameter_count() for layer in layers), tensors, dtypes[0] if dtypes else np.dtype(np.float32)
        )
        for layer in layers:
            layer._create_unset()
        network = cls(layers)
        network.load_state_dict(tensors)
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
