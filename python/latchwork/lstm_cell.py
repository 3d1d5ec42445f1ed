"""The single LSTM cell: one step of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import check_shape, contiguous_real_array, real_array, shape_text
from latchwork._cell_options import CellOptions, checked_lstm
from latchwork._module import Module, Option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from latchwork._cell_options import GateActivations
    from latchwork._module import Config
    from latchwork.lstm import StatePair


class LSTMCell(CellOptions, Module):
    """One step of one layer: ``h, c = cell(x, (h, c))``, with PyTorch's names and shapes.

    Parameters
    ----------
    input_size : int
        Features of the input, at least 1.
    hidden_size : int
        Units (H), at least 1.
    bias : bool, default True
        Whether there are ``bias_ih`` and ``bias_hh``.
    proj_size : int, default 0
        Above 0, and below ``hidden_size``: h is projected to this many features. 0: no projection.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of parameters and outputs.
    seed : int, optional
        Seed of the initial parameters, see ``init``. None: a fresh one.
    forget_gate : True, False or "coupled", default True
    peephole, layer_norm : bool, default False
        As for `LSTM`.
    activations : mapping, optional
        As for `LSTM`.
    clip, cell_clip : float, optional
        As for `LSTM`.
    zoneout : (float, float), default (0.0, 0.0)
        As for `LSTM`. A call is not training, so it mixes old and new state in these shares.
    recurrent_dropout, weight_dropout : float, default 0.0
    recurrent_dropout_on : {"hidden", "candidate"}, default "hidden"
        Only these defaults: dropout acts in recordings alone, and a cell cannot be recorded.
    learn_start_state : bool, default False
        As for `LSTM`: ``state=None`` stands for the parameters h_0 and c_0.
    forget_bias : float, optional
    init : {"torch", "keras", "orthogonal", "chrono"}, default "torch"
    t_max : int, optional
        As for `LSTM`.

    Raises
    ------
    ValueError
        If an option is out of range or makes no sense with the others, or sizes overflow.
    TypeError
        If an option is of another type.

    Notes
    -----
    Parameters: ``weight_ih`` (4H, input_size), ``weight_hh`` (4H, H), ``bias_ih``, ``bias_hh`` (4H,), gate order
    i, f, g, o: the layout of ``torch.nn.LSTMCell``. See `LSTM` for equations, sources and the parameters of the
    variants, whose names here lack the ``_l{k}``. ``LSTM.stream`` runs consecutive steps many times faster.
    """

    _kind = "lstm_cell"

    input_size = Option[int]()
    hidden_size = Option[int]()
    bias = Option[bool]()
    proj_size = Option[int]()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        proj_size: int = 0,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        forget_gate: bool | str = True,
        peephole: bool = False,
        layer_norm: bool = False,
        activations: GateActivations | Sequence[GateActivations] | None = None,
        clip: float | None = None,
        cell_clip: float | None = None,
        zoneout: tuple[float, float] = (0.0, 0.0),
        recurrent_dropout: float = 0.0,
        recurrent_dropout_on: str = "hidden",
        weight_dropout: float = 0.0,
        learn_start_state: bool = False,
        forget_bias: float | None = None,
        init: str = "torch",
        t_max: int | None = None,
    ) -> None:
        self._config = checked_lstm(
            dtype, {}, cell=True, input_size=input_size, hidden_size=hidden_size, bias=bias, proj_size=proj_size,
            forget_gate=forget_gate, peephole=peephole, layer_norm=layer_norm, activations=activations,
            clip=clip, cell_clip=cell_clip, zoneout=zoneout, recurrent_dropout=recurrent_dropout,
            recurrent_dropout_on=recurrent_dropout_on, weight_dropout=weight_dropout,
            learn_start_state=learn_start_state, forget_bias=forget_bias, init=init, t_max=t_max,
        )  # fmt: skip
        check_dropout(self._config)
        self._create(seed)

    def __call__(self, x: Any, state: Any = None) -> StatePair:
        """Run one step.

        Parameters
        ----------
        x : array_like
            (N, input_size) or unbatched (input_size,).
        state : pair of array_like, optional
            (h, c): (N, proj_size or else hidden_size) and (N, hidden_size), unbatched without the axis N. None: zeros
            or, with ``learn_start_state``, the parameters h_0 and c_0.

        Returns
        -------
        h, c : numpy.ndarray
            The new state, in the same shapes; h is the output too.

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
        rows = x.shape[0] if x.ndim == 2 else 1
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        shapes = [(*x.shape[:-1], size) for size in sizes]
        core_shapes = [(1, rows, size) for size in sizes]
        start = None
        if state is not None:
            if not isinstance(state, (tuple, list)):
                raise TypeError(f"state: expected a pair (h, c), got {type(state).__name__}")
            if len(state) != 2:
                raise ValueError(f"state: expected a pair (h, c), got {len(state)} items")
            h_0, c_0 = (
                contiguous_real_array(name, value, self.dtype, shape).reshape(core_shape)
                for name, value, shape, core_shape in zip(("h_0", "c_0"), state, shapes, core_shapes, strict=True)
            )
            start = [(h_0, c_0)]
        h, c = (np.empty(core_shape, self.dtype) for core_shape in core_shapes)
        output = np.empty(core_shapes[0], self.dtype)
        self._core.forward(x.reshape(1, rows, self.input_size), None, None, start, output, [(h, c)])
        return h.reshape(shapes[0]), c.reshape(shapes[1])


def check_dropout(config: Config) -> None:
    """Raise ValueError if there is any. Files may have it, because cells could be built and saved so."""
    for name, expected in (("recurrent_dropout", 0), ("recurrent_dropout_on", "hidden"), ("weight_dropout", 0)):
        value = config.modules[0][name]
        if value != expected:
            raise ValueError(
                f"{name}: expected {expected!r} for a cell, which cannot be recorded, so that nothing would ever be "
                f"dropped, got {value!r}; lw.LSTM has dropout"
            )
