"""The layers that surround LSTMs in a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import files
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
