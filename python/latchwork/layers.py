"""The layers that surround LSTMs in a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from latchwork import _core
from latchwork._arrays import integer_array, lengths_array, real_array, real_of_own_dtype, shape_text
from latchwork._module import Config, Module, Option
from latchwork.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array


class LeadingAxes(NamedTuple):
    """The axes before the features, whatever they are; the core takes them as the rows of one step."""

    leading: tuple[int, ...]

    def shape(self, steps: int, rows: int, *features: int) -> tuple[int, ...]:
        """Give the user's shape."""
        return (*self.leading, *features)

    def to_core(self, array: Array, sequence: bool = True) -> Array:
        """View a user's array as (1, rows, ...)."""
        return array.reshape(1, math.prod(self.leading), *array.shape[len(self.leading) :])


class RowsCall(NamedTuple):
    """The input of one call as the core takes it."""

    axes: LeadingAxes
    x: Array
    steps: int = 1

    @property
    def rows(self) -> int:
        """How many rows there are."""
        rows: int = self.x.shape[1]
        return rows


class RowsModule(Module):
    """`Embedding` or `Linear`: each row by itself."""

    _vocabulary: int | None = None  # how many tokens there are, if the input is tokens

    def _new_output(self, call: RowsCall) -> tuple[Array, Array]:
        """Allocate the output: the user's array, and the core's view of it."""
        output = np.empty(call.axes.shape(1, call.rows, self._core.output_size), self.dtype)
        return output, call.axes.to_core(output)

    def _forward(self, call: RowsCall) -> Array:
        output, core_output = self._new_output(call)
        self._core.forward(call.x, None, None, None, core_output, None)
        return output

    def _record(self, call: RowsCall) -> Tape[tuple[()]]:
        output, core_output = self._new_output(call)
        core_tape = self._core.record(call.x, None, None, None, core_output, None, False, None, 0, 0)
        return Tape(self, core_tape, call, output, ())

    def _core_states(self, name: str, parts: tuple[str, str], state: Any, axes: LeadingAxes, rows: int) -> list[Any]:
        if state != ():
            raise TypeError(f"{name}: expected None or (), because the layer has no state, got {type(state).__name__}")
        return []

    def _new_states(self, call: RowsCall) -> tuple[tuple[()], list[Any]]:
        return (), []

    def _new_gate_gradients(self, call: RowsCall) -> NoReturn:
        raise ValueError(f"gates: expected False for a layer without gates, got True for {self!r}")


class Embedding(RowsModule):
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
    mask_token : int, optional
        All layers after it in a `Network` skip the steps with this token, as those that `Mask` finds (Keras's
        ``mask_zero`` is 0). The layer alone gives a vector for it as for any other. None: no token.
    mask_output : {"repeat", "zero"}, default "repeat"
        The output of the network at such a step, as for `Mask`.

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
    mask_token = Option["int | None"](lambda config: config.modules[0].get("mask_token"))
    mask_output = Option[str](lambda config: config.modules[0].get("mask_output", "repeat"))

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        mask_token: int | None = None,
        mask_output: str = "repeat",
    ) -> None:
        options = {
            "kind": "embedding",
            "num_embeddings": num_embeddings,
            "embedding_dim": embedding_dim,
            "mask_token": mask_token,
            "mask_output": mask_output,
        }
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
        return self._forward(self._rows(tokens))

    def record(self, tokens: Any) -> Tape[tuple[()]]:
        """Run as a call does, and keep what gradients need.

        Parameters
        ----------
        tokens : array_like of int
            As for a call.

        Returns
        -------
        Tape
            With ``output`` and ``backward``, whose ``x`` is None; ``state`` is ``()``. It keeps the weights of this
            moment.

        Raises
        ------
        ValueError, TypeError
            As for a call.
        """
        return self._record(self._rows(tokens))

    def _build(self, modules: Sequence[Mapping[str, Any]], seed: int) -> None:
        super()._build(modules, seed)
        self._vocabulary = self.num_embeddings

    def _rows(self, tokens: Any) -> RowsCall:
        self._check_callable()
        array = integer_array("tokens", tokens)
        axes = LeadingAxes(array.shape)
        return RowsCall(axes, axes.to_core(array))


class FeaturesModule(RowsModule):
    """`Linear` or `EmbedColumns`: each row real numbers, as many as the layer has inputs."""

    def record(self, x: Any) -> Tape[tuple[()]]:
        """Run as a call does, and keep what gradients need.

        Parameters
        ----------
        x : array_like
            As for a call.

        Returns
        -------
        Tape
            With ``output`` and ``backward``; ``state`` is ``()``. It keeps the weights of this moment.

        Raises
        ------
        ValueError, TypeError
            As for a call.
        """
        return self._record(self._rows(x))

    def _rows(self, x: Any) -> RowsCall:
        self._check_callable()
        features = self._core.input_size
        array = real_array("x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != features:
            raise ValueError(f"x: expected (..., {features}), got {shape_text(array.shape)}")
        axes = LeadingAxes(array.shape[:-1])
        return RowsCall(axes, axes.to_core(array))


class Linear(FeaturesModule):
    """``activation(x W^T + b)``, with ``weight`` (out_features, in_features) and ``bias`` (out_features,) as PyTorch's.

    Parameters
    ----------
    in_features, out_features : int
        Features of input and output, at least 1.
    bias : bool, default True
        Whether there is a bias.
    activation : str or tuple, optional
        What is applied to x W^T + b: any activation that a gate of an `LSTM` may have, which lists them under
        ``activations``: a name, (name, alpha) or (name, alpha, beta). "softmax" and "log_softmax" take all features of
        a row together. None or "identity": nothing.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of parameters and outputs.
    seed : int, optional
        Seed of the initial parameters. None: a fresh one.
    init_scale : float, default 1.0
        Weight and bias start uniform in +-init_scale/sqrt(in_features): 1 is PyTorch's, a small one makes the first
        outputs small, 0 makes them zero.

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
    activation = Option["str | tuple[Any, ...] | None"](lambda config: activation_of(config.modules[0]["activation"]))
    init_scale = Option[float](lambda config: config.modules[0].get("init_scale", 1.0))

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str | Sequence[Any] | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        init_scale: float = 1.0,
    ) -> None:
        options = {
            "kind": "linear",
            "in_features": in_features,
            "out_features": out_features,
            "bias": bias,
            "activation": "identity" if activation is None else activation,
            "init_scale": init_scale,
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
        return self._forward(self._rows(x))


class Parameterless(Module):
    """What layers without parameters share. They have no dtype of their own either: a network gives them its own."""

    def __init__(self, **options: Any) -> None:
        self._config = Config.of_layer("float32", {"kind": self._kind} | options)
        self._create_unset()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Raise AttributeError, because the layer keeps the dtype of its input."""
        name = type(self).__name__
        raise AttributeError(f"{name} has no dtype of its own: it keeps that of its input")

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


class _Pooling(Parameterless):
    """A layer that makes one result of all steps."""

    def __init__(self) -> None:
        super().__init__()

    def _sequences(self, x: Any, lengths: Any) -> tuple[Array, Array | None, bool]:
        """Read sequences as (T, N, features), and say whether there was an axis N."""
        self._check_callable()
        array = real_of_own_dtype("x", x)
        if array.ndim not in (2, 3):
            raise ValueError(f"x: expected (T, N, features) or (T, features), got {shape_text(array.shape)}")
        if array.ndim == 2:
            if lengths is not None:
                raise ValueError(f"lengths: expected None for unbatched x {shape_text(array.shape)}, got lengths")
            return array[:, np.newaxis], None, False
        return array, None if lengths is None else lengths_array(lengths, *array.shape[:2]), True

    def __call__(self, x: Any, lengths: Any = None) -> Array:
        """Make one result of the valid steps of each sequence: `Last` takes the last, as for a forward direction.

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
        array, lengths, batched = self._sequences(x, lengths)
        output = self._pooled(array, lengths)
        return output if batched else output[0]

    def _pooled(self, x: Array, lengths: Array | None) -> Array:
        """Return (N, features) of x (T, N, features)."""
        return _core.pooled(self._config.modules[0], x, lengths)


class Last(_Pooling):
    """Each sequence's final output: (T, N, features) becomes (N, features).

    In a `Network` it knows the directions of the LSTM before it: of a reverse direction it takes the output of step 0,
    which that direction computes last. It has neither parameters nor a dtype of its own.
    """

    _kind = "last"

    def _pooled(self, x: Array, lengths: Array | None) -> Array:
        steps, rows, features = x.shape
        ends = np.full(rows, steps) if lengths is None else lengths
        output = np.zeros((rows, features), x.dtype)
        filled = np.flatnonzero(ends)
        output[filled] = x[ends[filled] - 1, filled]
        return output


class Mean(_Pooling):
    """The mean of each feature over a sequence's valid steps: (T, N, features) becomes (N, features).

    Padding does not count, and an empty sequence gives zeros. In a `Network` a sequence on which ``reset`` falls counts
    from its last reset on; a `Stream` gives the mean of the steps so far, bit for bit what a call gives for them: the
    steps are added one after another. It has neither parameters nor a dtype of its own.
    """

    _kind = "mean"


class Max(_Pooling):
    """The largest value of each feature over a sequence's valid steps: (T, N, features) becomes (N, features).

    Padding does not count, an empty sequence gives zeros, and NaN in a valid step gives NaN. The gradient goes to the
    first step that has the largest value. In a `Network` a sequence on which ``reset`` falls counts from its last reset
    on; a `Stream` gives the largest value so far. It has neither parameters nor a dtype of its own.
    """

    _kind = "max"


class Dropout(Parameterless):
    """Drops numbers in training: each becomes zero with probability ``p``, and is divided by 1 - p otherwise.

    It acts in ``record`` and in training, with masks that follow from the recording's ``mask_seed`` and each number's
    step, row and place; in padding nothing is drawn. Calls, streams and traces pass everything through. An LSTM's own
    ``dropout`` acts between its layers; this one may stand anywhere in a `Network` except before an `Embedding`. It has
    neither parameters nor a dtype of its own.

    Parameters
    ----------
    p : float, default 0.5
        From 0 to 1: the share that is dropped.

    Raises
    ------
    ValueError
        If ``p`` is out of range.
    TypeError
        If ``p`` is no number.

    Notes
    -----
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to prevent neural networks from
    overfitting", Journal of Machine Learning Research 15 (2014).
    """

    _kind = "dropout"

    p = Option[float]()

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p=p)

    def __call__(self, x: Any) -> Array:
        """Copy the input: a call drops nothing.

        Parameters
        ----------
        x : array_like
            Any shape. float64 stays float64, other real numbers become float32.

        Returns
        -------
        numpy.ndarray
            New.

        Raises
        ------
        TypeError
            If x does not hold real numbers.
        """
        return np.array(real_of_own_dtype("x", x))


class Sort(Parameterless):
    """Sorts each run of ``group`` features in ascending order, so that predicted quantiles do not cross.

    The number of features must be a multiple of ``group``. Each gradient goes where its value came from. NaN comes
    last. It may stand anywhere in a `Network` except before an `Embedding` or an `EmbedColumns`. It has neither
    parameters nor a dtype of its own.

    Parameters
    ----------
    group : int
        How many features are sorted together, at least 1: the number of quantiles of each target.

    Raises
    ------
    ValueError
        If ``group`` is out of range.
    TypeError
        If ``group`` is no int.

    Notes
    -----
    Chernozhukov, Fernandez-Val and Galichon, "Quantile and probability curves without crossing", Econometrica 78
    (2010): sorted quantiles are never further from the true ones than the quantiles before sorting.
    """

    _kind = "sort"

    group = Option[int]()

    def __init__(self, group: int) -> None:
        super().__init__(group=group)

    def __call__(self, x: Any) -> Array:
        """Sort numbers.

        Parameters
        ----------
        x : array_like
            (..., features). float64 stays float64, other real numbers become float32.

        Returns
        -------
        numpy.ndarray
            Of the shape of x, new.

        Raises
        ------
        ValueError
            If the last axis is no multiple of ``group``.
        TypeError
            If x does not hold real numbers.
        """
        array = real_of_own_dtype("x", x)
        if array.ndim == 0 or array.shape[-1] % self.group:
            raise ValueError(f"x: expected (..., a multiple of {self.group}), got {shape_text(array.shape)}")
        groups = array.reshape(*array.shape[:-1], array.shape[-1] // self.group, self.group)
        return np.sort(groups, axis=-1, kind="stable").reshape(array.shape)


def activation_of(activation: str | list[Any]) -> str | tuple[Any, ...] | None:
    """Give the core's activation as the constructor takes it."""
    if isinstance(activation, str):
        return None if activation == "identity" else activation
    return tuple(activation)
