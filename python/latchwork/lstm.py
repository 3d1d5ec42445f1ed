"""LSTM layers over time, and the single cell."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import (
    boolean,
    check_shape,
    contiguous_real_array,
    integer,
    real_array,
    real_dtype,
    real_number,
    shape_text,
)
from latchwork._module import Module, Option
from latchwork._sequence import SequenceModule, StateSize

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from latchwork._arrays import Array

StatePair = tuple["Array", "Array"]


class LSTM(SequenceModule[StatePair]):
    """A stack of long short-term memory layers, in one direction or both, with PyTorch's names and shapes.

    ``output, (h_n, c_n) = lstm(x, (h_0, c_0))``; see `__call__` for the shapes. In each step::

        i = sigmoid(W_i x + R_i h + b_i)    input gate
        f = sigmoid(W_f x + R_f h + b_f)    forget gate
        g = tanh   (W_g x + R_g h + b_g)    candidate
        o = sigmoid(W_o x + R_o h + b_o)    output gate
        c = f * c + i * g
        h = o * tanh(c)

    Parameters
    ----------
    input_size : int
        Features of the input, at least 1.
    hidden_size : int
        Units of each layer and direction (H), at least 1.
    num_layers : int, default 1
        Each layer but the first reads the output of the one below.
    bias : bool, default True
        Whether there are ``bias_ih`` and ``bias_hh``.
    batch_first : bool, default False
        Input and output (N, T, features) rather than (T, N, features). States are not concerned.
    dropout : float, default 0.0
        From 0 to 1: share of the output of every layer but the last that is dropped, in training alone.
    bidirectional : bool, default False
        A second direction runs from the end to the begin; outputs stand side by side.
    proj_size : int, default 0
        Above 0, and below ``hidden_size``: h is projected to so many features (P).
    reverse : bool, default False
        The only direction runs from the end to the begin. Not together with ``bidirectional``.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters and outputs.
    seed : int, optional
        Of the initial parameters, uniform in +-1/sqrt(hidden_size) as PyTorch's. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.

    Notes
    -----
    Parameters of layer k: ``weight_ih_l{k}`` (4H, input_size), above the first layer (4H, directions * H_out);
    ``weight_hh_l{k}`` (4H, H_out); ``bias_ih_l{k}``, ``bias_hh_l{k}`` (4H,); ``weight_hr_l{k}`` (P, H). H_out is
    ``proj_size`` or else ``hidden_size``; gate order i, f, g, o; suffix ``_reverse``. This is the layout of
    ``torch.nn.LSTM``.

    The cell is that of Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with the
    forget gate of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000).

    Examples
    --------
    >>> lstm = LSTM(8, 32, seed=0)
    >>> output, (h_n, c_n) = lstm(np.ones((100, 4, 8)))
    >>> output.shape, h_n.shape
    ((100, 4, 32), (1, 4, 32))
    """

    _kind = "lstm"

    input_size = Option[int]()
    hidden_size = Option[int]()
    num_layers = Option[int]()
    bias = Option[bool]()
    batch_first = Option[bool]()
    dropout = Option[float]()
    bidirectional = Option[bool]()
    proj_size = Option[int]()
    reverse = Option[bool]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        reverse: bool = False,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self._config = self._checked(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            reverse=reverse, dtype=dtype,
        )  # fmt: skip
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout acts on the output of every layer but the last, so dropout={dropout} does nothing with "
                "num_layers=1",
                stacklevel=2,
            )
        self._create(seed)

    @staticmethod
    def _checked(
        input_size: Any,
        hidden_size: Any,
        num_layers: Any = 1,
        bias: Any = True,
        batch_first: Any = False,
        dropout: Any = 0.0,
        bidirectional: Any = False,
        proj_size: Any = 0,
        *,
        reverse: Any = False,
        dtype: Any = "float32",
    ) -> dict[str, Any]:
        config: dict[str, Any] = {
            "input_size": integer("input_size", input_size, 1),
            "hidden_size": integer("hidden_size", hidden_size, 1),
            "num_layers": integer("num_layers", num_layers, 1),
            "bias": boolean("bias", bias),
            "batch_first": boolean("batch_first", batch_first),
            "dropout": real_number("dropout", dropout, 0.0, 1.0),
            "bidirectional": boolean("bidirectional", bidirectional),
            "proj_size": integer("proj_size", proj_size, 0),
            "reverse": boolean("reverse", reverse),
            "dtype": real_dtype(dtype).name,
        }
        if config["proj_size"] >= config["hidden_size"]:
            raise ValueError(f"proj_size: expected less than hidden_size ({hidden_size}), got {proj_size}")
        if config["bidirectional"] and config["reverse"]:
            raise ValueError("reverse: expected False with bidirectional=True, which has both directions, got True")
        return config

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _output_size(self) -> int:
        return self._directions * (self.proj_size or self.hidden_size)

    def _core_options(self) -> dict[str, Any]:
        names = ("input_size", "hidden_size", "num_layers", "bias", "dropout", "proj_size")
        direction = "both" if self.bidirectional else "reverse" if self.reverse else "forward"
        return {"kind": "lstm", "direction": direction} | {name: self._config[name] for name in names}

    def _create(self, seed: Any) -> None:
        super()._create(seed)
        states = self.num_layers * self._directions
        suffixes = ["", "_reverse"] if self.bidirectional else ["_reverse"] if self.reverse else [""]
        self._state_sizes = (StateSize(states, self.proj_size or self.hidden_size, self.hidden_size),)
        self._trace_names = (tuple(f"l{layer}{suffix}" for layer in range(self.num_layers) for suffix in suffixes),)
        self._streamable = suffixes == [""]

    def _parameter_count(self) -> int:
        units, hidden = self.hidden_size, self.proj_size or self.hidden_size
        inputs = self.input_size + (self.num_layers - 1) * self._output_size
        each = 4 * units * hidden + 8 * units * self.bias + self.proj_size * units
        return self._directions * (4 * units * inputs + self.num_layers * each)


class LSTMCell(Module):
    """One step of one layer: ``h, c = cell(x, (h, c))``, with PyTorch's names and shapes.

    Parameters
    ----------
    input_size : int
        Features of the input, at least 1.
    hidden_size : int
        Units (H), at least 1.
    bias : bool, default True
        Whether there are ``bias_ih`` and ``bias_hh``.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters and outputs.
    seed : int, optional
        Of the initial parameters, uniform in +-1/sqrt(hidden_size) as PyTorch's. None: a fresh one.

    Raises
    ------
    ValueError
        If an option is out of range, or sizes overflow.
    TypeError
        If an option is of another type.

    Notes
    -----
    Parameters: ``weight_ih`` (4H, input_size), ``weight_hh`` (4H, H), ``bias_ih``, ``bias_hh`` (4H,), gate order
    i, f, g, o: the layout of ``torch.nn.LSTMCell``. See `LSTM` for equations and sources. Where many steps follow one
    another, ``LSTM.stream`` is many times faster.
    """

    _kind = "lstm_cell"

    input_size = Option[int]()
    hidden_size = Option[int]()
    bias = Option[bool]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self._config = self._checked(input_size, hidden_size, bias, dtype=dtype)
        self._create(seed)

    def __call__(self, x: Any, state: Any = None) -> StatePair:
        """Run one step.

        Parameters
        ----------
        x : array_like
            (N, input_size) or unbatched (input_size,).
        state : pair of array_like, optional
            (h, c), each (N, hidden_size) or unbatched (hidden_size,). None: zeros.

        Returns
        -------
        h, c : numpy.ndarray
            The new state, in the same shape; h is the output too.

        Raises
        ------
        ValueError
            If a shape does not fit.
        TypeError
            If an argument does not hold real numbers.
        """
        x = real_array("x", x, self.dtype)
        if x.ndim == 2:
            check_shape("x", x, ("N", self.input_size))
        elif x.shape != (self.input_size,):
            raise ValueError(f"x: expected (N, {self.input_size}) or ({self.input_size},), got {shape_text(x.shape)}")
        shape = (*x.shape[:-1], self.hidden_size)
        rows = x.shape[0] if x.ndim == 2 else 1
        core_shape = (1, rows, self.hidden_size)
        start = None
        if state is not None:
            if not isinstance(state, (tuple, list)):
                raise TypeError(f"state: expected a pair (h, c), got {type(state).__name__}")
            if len(state) != 2:
                raise ValueError(f"state: expected a pair (h, c), got {len(state)} items")
            h_0, c_0 = (
                contiguous_real_array(name, value, self.dtype, shape).reshape(core_shape)
                for name, value in zip(("h_0", "c_0"), state, strict=True)
            )
            start = [(h_0, c_0)]
        h, c, output = (np.empty(core_shape, self.dtype) for _ in range(3))
        self._core.forward(x.reshape(1, rows, self.input_size), None, None, start, output, [(h, c)])
        return h.reshape(shape), c.reshape(shape)

    @staticmethod
    def _checked(input_size: Any, hidden_size: Any, bias: Any = True, *, dtype: Any = "float32") -> dict[str, Any]:
        return {
            "input_size": integer("input_size", input_size, 1),
            "hidden_size": integer("hidden_size", hidden_size, 1),
            "bias": boolean("bias", bias),
            "dtype": real_dtype(dtype).name,
        }

    def _core_options(self) -> dict[str, Any]:
        names = ("input_size", "hidden_size", "bias")
        return {"kind": "lstm", "cell": True} | {name: self._config[name] for name in names}

    def _parameter_count(self) -> int:
        return 4 * self.hidden_size * (self.input_size + self.hidden_size + 2 * self.bias)
