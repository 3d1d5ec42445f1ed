"""The layers that surround LSTMs in a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import as_array, integer_array, lengths_array, real_array, shape_text
from latchwork._module import Config, Module, Option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array


class Embedding(Module):
    """A vector for each token: the rows of ``weight`` (num_embeddings, embedding_dim).

    Parameters
    ----------
    num_embeddings : int
        How many tokens there are: 0 to ``num_embeddings - 1``.
    embedding_dim : int
        Features of each vector.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of parameters and outputs.
    seed : int, optional
        Seed of the initial weights, which are standard normal as PyTorch's are. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.
    """

    _kind = "embedding"

    num_embeddings = Option[int]()
    embedding_dim = Option[int]()

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, dtype: DTypeLike = "float32", seed: int | None = None
    ) -> None:
        options = {"kind": "embedding", "num_embeddings": num_embeddings, "embedding_dim": embedding_dim}
        self._config = Config.of_layer(dtype, options)
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
            (..., embedding_dim), new.

        Raises
        ------
        ValueError
            If a token is not in the vocabulary, or the layer is part of a network of several members.
        TypeError
            If the tokens are no integers.
        """
        self._check_callable()
        array = integer_array("tokens", tokens)
        output = np.empty((*array.shape, self.embedding_dim), self.dtype)
        self._core.forward(
            array.reshape(1, array.size), None, None, None, output.reshape(1, array.size, self.embedding_dim), None
        )
        return output


class Linear(Module):
    """``activation(x W^T + b)``, with ``weight`` (out_features, in_features) and ``bias`` (out_features,) as PyTorch's.

    Parameters
    ----------
    in_features, out_features : int
        Features of input and output, at least 1.
    bias : bool, default True
        Whether there is a bias.
    activation : {None, "relu", "sigmoid", "tanh"}, default None
        What is applied to x W^T + b; None or "identity": nothing.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of parameters and outputs.
    seed : int, optional
        Seed of the initial parameters, which are uniform in +-1/sqrt(in_features) as PyTorch's are. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.
    """

    _kind = "linear"

    in_features = Option[int]()
    out_features = Option[int]()
    bias = Option[bool]()
    activation = Option["str | None"](lambda config: _python_activation(config.modules[0]["activation"]))

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        options = {
            "kind": "linear",
            "in_features": in_features,
            "out_features": out_features,
            "bias": bias,
            "activation": "identity" if activation is None else activation,
        }
        self._config = Config.of_layer(dtype, options)
        self._create(seed)

    def __call__(self, x: Any) -> Array:
        """Apply the layer.

        Parameters
        ----------
        x : array_like
            (..., in_features), with any leading axes.

        Returns
        -------
        numpy.ndarray
            (..., out_features).

        Raises
        ------
        ValueError
            If the last axis has another size, or the layer is part of a network of several members.
        TypeError
            If x does not hold real numbers.
        """
        self._check_callable()
        array = real_array("x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != self.in_features:
            raise ValueError(f"x: expected (..., {self.in_features}), got {shape_text(array.shape)}")
        rows = array.size // self.in_features
        output = np.empty((*array.shape[:-1], self.out_features), self.dtype)
        self._core.forward(
            array.reshape(1, rows, self.in_features), None, None, None, output.reshape(1, rows, self.out_features), None
        )
        return output


class Last(Module):
    """Each sequence's final output: (T, N, features) becomes (N, features).

    In a `Network` it knows the directions of the LSTM before it: of a reverse direction it takes the output of step 0,
    which that direction computes last. It has neither parameters nor a dtype of its own.
    """

    _kind = "last"

    def __init__(self) -> None:
        self._config = Config.of_layer("float32", {"kind": "last"})
        self._create_unset()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Raise AttributeError, because `Last` keeps the dtype of its input."""
        raise AttributeError("Last has no dtype of its own: it keeps that of its input")

    def __call__(self, x: Any, lengths: Any = None) -> Array:
        """Take the last valid step of each sequence, as for a forward direction.

        Parameters
        ----------
        x : array_like
            (T, N, features) or unbatched (T, features). float64 stays float64, other real numbers become float32.
        lengths : array_like of int, optional
            (N,), each from 0 to T; None: T for all. Not for unbatched input.

        Returns
        -------
        numpy.ndarray
            (N, features) or (features,), new; zeros for an empty sequence.

        Raises
        ------
        ValueError
            If a shape does not fit, a length is out of range, or the layer is part of a network of several members.
        TypeError
            If an argument is of a wrong type or dtype.
        """
        self._check_callable()
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

    def _build(self, modules: Sequence[Mapping[str, Any]], seed: int) -> None:
        self._layout = {}
        self._in_network = False

    def _read(self) -> Array:
        return np.empty(0, np.float32)

    def _write(self, values: Mapping[str, Array]) -> None:
        pass

    @property
    def _mask_seeds(self) -> tuple[int, int]:
        return 0, 0

    @_mask_seeds.setter
    def _mask_seeds(self, seeds: tuple[int, int]) -> None:
        pass

    def _version(self) -> int:
        return 0

    def _is_as_built(self) -> bool:
        return True

    def _initial_values(self, members: int) -> dict[str, Array]:
        return {}


def _python_activation(activation: str) -> str | None:
    return None if activation == "identity" else activation
