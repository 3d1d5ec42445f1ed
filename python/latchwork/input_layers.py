"""Layers that prepare the input of a network: scaling, missing values, and columns that hold codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._arrays import integer_array, lengths_array, real_array, real_of_own_dtype, shape_text
from latchwork._module import Config, Option, core_class
from latchwork.layers import FeaturesModule, LeadingAxes, Parameterless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from latchwork._arrays import Array


class Scale(Parameterless):
    """``(x - shift) * factor`` for each feature: brings inputs to one scale, or outputs back to the user's units.

    It may stand anywhere in a `Network` except before an `Embedding`. ``shift`` and ``factor`` are constants: training
    does not change them, they are the same for all members, and files hold them with the layer's options. NaN stays
    NaN, for an `Impute` after it. It has neither parameters nor a dtype of its own: the constants are rounded to that
    of the network.

    Parameters
    ----------
    shift : array_like
        (features,): what is subtracted, such as the mean of each feature.
    factor : array_like
        (features,): what the difference is multiplied by, such as 1 over the standard deviation.

    Raises
    ------
    ValueError
        If the two are not of one size, or a number is not finite.
    TypeError
        If they do not hold real numbers.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lw.Scale([10.0, 0.5], [0.1, 2.0])(np.array([[20.0, 1.0]]))
    array([[1., 1.]])
    """

    _kind = "scale"

    shift = Option[tuple[float, ...]](lambda config: tuple(config.modules[0]["shift"]))
    factor = Option[tuple[float, ...]](lambda config: tuple(config.modules[0]["factor"]))

    def __init__(self, shift: ArrayLike, factor: ArrayLike) -> None:
        super().__init__(shift=_numbers("shift", shift), factor=_numbers("factor", factor))

    @property
    def features(self) -> int:
        """Features of input and output."""
        return len(self._config.modules[0]["shift"])

    def __call__(self, x: Any) -> Array:
        """Scale numbers.

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
            If the last axis has another size.
        TypeError
            If x does not hold real numbers.
        """
        array = _with_features(x, self.features)
        axes = LeadingAxes(array.shape[:-1])
        output = np.empty_like(array, order="C")
        _core_of(self, array.dtype).forward(axes.to_core(array), None, None, None, axes.to_core(output), None)
        return output


class Impute(Parameterless):
    """Replaces missing values, which are NaN, and says where it did.

    A `Network` that has it before its first LSTM takes NaN in x: in calls, streams and training. It may stand anywhere
    before the LSTMs, usually after a `Scale`, so that the fill 0 means the average.

    With ``method="forward"`` the values that are carried and how many steps ago they were seen are a state of the
    network: a pair (value, age) of shapes (1, N, features), before the pairs of the LSTMs after it. They start as the
    fill and 0, go back to that at a ``reset``, and are carried on in streams and from window to window. Steps that
    ``skip`` leaves out do not happen to them. The gradient of a value that was carried goes to the step at which it was
    seen, or to the start state if there was none; masks and ages have no gradient. It has neither parameters nor a
    dtype of its own.

    Parameters
    ----------
    features : int
        Features of the input.
    method : {"forward", "constant"}, default "forward"
        What takes the place of a missing value. "forward": the value that was seen last, carried on as ``persistence``
        says, and before the first one the fill. "constant": always the fill.
    fill : array_like, optional
        (features,). None: zeros.
    indicators : sequence of int, default ()
        The features for which the network is told what is missing. For each of them a mask is appended, 1 where the
        value was seen and 0 where it is missing. With "forward" the masks of all of them are followed by their ages:
        log(1 + the number of steps since the value was seen), counted from the start if it never was. The output has
        ``features + 2 * len(indicators)`` features, with "constant" ``features + len(indicators)``.
    persistence : array_like, optional
        (features,), each from 0 to 1, with "forward" only. At each step at which a feature is missing, its carried
        value keeps this share of its distance from the fill: ``value = fill + persistence * (value - fill)``. 1 carries
        the value as it was, 0 gives the fill at once. A feature of codes needs 1. None: 1 for all.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.

    Notes
    -----
    A mask and the time since the last observation as inputs of the network: Lipton, Kale and Wetzel, "Directly modeling
    missing data in sequences with RNNs", Machine Learning for Healthcare 2016; Che, Purushotham, Cho, Sontag and Liu,
    "Recurrent neural networks for multivariate time series with missing values", Scientific Reports 8 (2018). In
    the latter carried values decay to the mean, at rates that are learned with the network.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lw.Impute(1, indicators=[0])(np.array([[np.nan], [5.0], [np.nan]])).round(2)
    array([[0.  , 0.  , 0.69],
           [5.  , 1.  , 0.  ],
           [5.  , 0.  , 0.69]])
    >>> lw.Impute(1, persistence=[0.5])(np.array([[8.0], [np.nan], [np.nan]]))
    array([[8.],
           [4.],
           [2.]])
    """

    _kind = "impute"

    features = Option[int]()
    method = Option[str]()
    fill = Option["tuple[float, ...] | None"](lambda config: tuple(config.modules[0]["fill"]) or None)
    indicators = Option[tuple[int, ...]](lambda config: tuple(config.modules[0]["indicators"]))
    persistence = Option["tuple[float, ...] | None"](
        lambda config: tuple(config.modules[0].get("persistence", ())) or None
    )

    def __init__(
        self,
        features: int,
        method: str = "forward",
        fill: ArrayLike | None = None,
        indicators: Sequence[int] | Array = (),
        persistence: ArrayLike | None = None,
    ) -> None:
        super().__init__(
            features=features,
            method=method,
            fill=[] if fill is None else _numbers("fill", fill),
            indicators=_features("indicators", indicators),
            persistence=[] if persistence is None else _numbers("persistence", persistence),
        )

    def __call__(self, x: Any, lengths: Any = None) -> Array:
        """Replace missing values of sequences, from the start.

        Parameters
        ----------
        x : array_like
            (T, N, features) or unbatched (T, features). float64 stays float64, other real numbers become float32.
        lengths : array_like of int, optional
            (N,), each from 0 to T; None: T for all. Not for unbatched input.

        Returns
        -------
        numpy.ndarray
            In the axes of x, with the features of the output; zero in padding.

        Raises
        ------
        ValueError
            If a shape does not fit, or a length is out of range.
        TypeError
            If an argument is of a wrong type or dtype.
        """
        array = _with_features(x, self.features)
        if array.ndim not in (2, 3):
            expected = f"(T, N, {self.features}) or (T, {self.features})"
            raise ValueError(f"x: expected {expected}, got {shape_text(array.shape)}")
        core_x = array if array.ndim == 3 else array[:, np.newaxis]
        if lengths is not None:
            if array.ndim == 2:
                raise ValueError(f"lengths: expected None for unbatched x {shape_text(array.shape)}, got lengths")
            lengths = lengths_array(lengths, *core_x.shape[:2])
        core = _core_of(self, array.dtype)
        output = np.empty((*core_x.shape[:2], core.output_size), array.dtype)
        core.forward(core_x, lengths, None, None, output, None)
        return output if array.ndim == 3 else output[:, 0]


class EmbedColumns(FeaturesModule):
    """Replaces columns that hold codes of categories by vectors, and keeps the other columns.

    Codes are the integers 0, 1, 2 and so on, as real numbers among those of the other columns. The other columns come
    first, in their order, then the vectors, in the order of ``columns``. In a `Network` it may follow a `Scale`, whose
    shift is 0 and factor 1 there, and an `Impute`, whose fill is a code and persistence 1 there. A code that is out of
    range or no integer is refused before anything is computed. Codes have no gradient.

    Parameters
    ----------
    features : int
        Features of the input.
    columns : sequence of int
        Which of them hold codes, each once.
    num_embeddings : int or sequence of int
        How many codes there are in each of the columns: 0 to ``num_embeddings - 1``.
    embedding_dim : int or sequence of int
        Features of the vectors of each of the columns.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of parameters and outputs.
    seed : int, optional
        Seed of the initial weights, which are standard normal as those of an `Embedding`. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.

    Notes
    -----
    Parameters: ``weight_0``, ``weight_1`` and so on, (num_embeddings, embedding_dim), for each of the columns.

    Examples
    --------
    >>> import latchwork as lw
    >>> layer = lw.EmbedColumns(3, [1], 7, 2, seed=0)
    >>> layer([[20.5, 6.0, 1013.0]]).shape
    (1, 4)
    """

    _kind = "embed_columns"

    features = Option[int]()
    columns = Option[tuple[int, ...]](lambda config: tuple(config.modules[0]["columns"]))
    num_embeddings = Option[tuple[int, ...]](lambda config: tuple(config.modules[0]["num_embeddings"]))
    embedding_dim = Option[tuple[int, ...]](lambda config: tuple(config.modules[0]["embedding_dim"]))

    def __init__(
        self,
        features: int,
        columns: Sequence[int] | Array,
        num_embeddings: int | Sequence[int] | Array,
        embedding_dim: int | Sequence[int] | Array,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        chosen = _features("columns", columns)
        options = {
            "kind": "embed_columns",
            "features": features,
            "columns": chosen,
            "num_embeddings": _sizes("num_embeddings", num_embeddings, len(chosen)),
            "embedding_dim": _sizes("embedding_dim", embedding_dim, len(chosen)),
        }
        self._config = Config.of_layer(dtype, options)
        self._create(seed)

    def __call__(self, x: Any) -> Array:
        """Embed the codes.

        Parameters
        ----------
        x : array_like
            (..., features), with any leading axes.

        Returns
        -------
        numpy.ndarray
            (..., output features), new.

        Raises
        ------
        ValueError
            If the last axis has another size, a code is out of range or no integer, or the layer is part of a network
            of several members.
        TypeError
            If x does not hold real numbers.
        """
        return self._forward(self._rows(x))


def _numbers(name: str, values: Any) -> list[float]:
    """Read numbers, one for each feature."""
    array = real_array(name, values, np.dtype(np.float64))
    if array.ndim != 1:
        raise ValueError(f"{name}: expected (features,), got {shape_text(array.shape)}")
    numbers: list[float] = array.tolist()
    return numbers


def _features(name: str, values: Any) -> list[int]:
    """Read numbers of features."""
    array = integer_array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected a sequence of features, got {shape_text(array.shape)}")
    numbers: list[int] = array.tolist()
    return numbers


def _sizes(name: str, values: Any, columns: int) -> list[int]:
    """Read a size for each column; one int is that of all of them."""
    array = integer_array(name, values)
    if array.ndim == 0:
        return [int(array)] * columns
    return _features(name, array)


def _with_features(x: Any, features: int) -> Array:
    array = real_of_own_dtype("x", x)
    if array.ndim == 0 or array.shape[-1] != features:
        raise ValueError(f"x: expected (..., {features}), got {shape_text(array.shape)}")
    return array


def _core_of(layer: Parameterless, dtype: np.dtype[Any]) -> _core.Network32:
    """Make the core's network of a layer without parameters, in the dtype of its input."""
    return core_class(dtype, _core.Network32, _core.Network64)(layer._config.modules, "of_layer", 0, 1)
