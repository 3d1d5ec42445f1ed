"""Traces and streams of the modules: what Latchwork shows and runs without PyTorch's autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from latchwork._module import without_initial_values
from latchwork.interop.pytorch.modules import array_of, options_of
from latchwork.lstm import LSTM as CoreLSTM

if TYPE_CHECKING:
    from latchwork.lstm import StatePair
    from latchwork.stream import Stream
    from latchwork.trace import Trace


class Inspected:
    """What `latchwork.torch.LSTM` and `latchwork.torch.LSTMCell` have of Latchwork's layers beside ``forward``."""

    def trace(
        self, input: Any, hx: Any = None, *, lengths: Any = None, reset: Any = None, skip: Any = None
    ) -> Trace[StatePair]:
        """Run over a whole sequence outside training, and show what every gate and cell did at every step.

        Parameters
        ----------
        input : torch.Tensor or PackedSequence
            A sequence as for ``latchwork.torch.LSTM``. Of a cell too: (T, N, input_size) or (T, input_size).
        hx : pair of torch.Tensor, optional
            (h_0, c_0) as for a call of the module.
        lengths, reset, skip : optional
            As for ``latchwork.torch.LSTM``.

        Returns
        -------
        Trace
            As `latchwork.LSTM.trace` gives it, in NumPy's arrays: what `latchwork.explain` and `latchwork.plot` take.

        Raises
        ------
        ValueError, TypeError
            As of `latchwork.LSTM.trace`, and if a packed sequence comes with ``lengths``.
        """
        layer = _layer_of(self)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths: expected None for a packed sequence, which has its own, got lengths")
            input, lengths = pad_packed_sequence(input, layer.batch_first)
        if hx is not None and isinstance(self, torch.nn.LSTMCell):
            hx = tuple(part[None] for part in hx)
        state = None if hx is None else tuple(map(_detached, hx))
        return layer.trace(_detached(input), state, lengths, reset, skip=skip)

    def stream(self, batch_size: int | None = None) -> Stream[StatePair]:
        """Make a stream, which runs step by step, as numbers arrive, on NumPy's arrays.

        Parameters
        ----------
        batch_size : int, optional
            How many sequences run side by side. None: one, and arrays have no axis of rows.

        Returns
        -------
        Stream
            As `latchwork.LSTM.stream` makes it. It keeps the weights that the module has at this moment.

        Raises
        ------
        ValueError, TypeError
            As of `latchwork.LSTM.stream`.
        """
        return _layer_of(self).stream(batch_size)


def _layer_of(module: Any) -> CoreLSTM:
    """Make an LSTM of Latchwork's with the weights that a module computes with at present."""
    is_cell = isinstance(module, torch.nn.LSTMCell)
    (options,) = without_initial_values([options_of(module)])
    weight = module.weight_ih if is_cell else getattr(module, module._flat_weights_names[0])
    layer = CoreLSTM(
        **options,
        batch_first=not is_cell and module.batch_first,
        dtype="float64" if weight.dtype == torch.float64 else "float32",
        seed=0,
    )
    # Read as attributes, so that a parametrisation gives what it computes.
    names = {name: name.removesuffix("_l0") if is_cell else name for name in layer.parameters}
    layer.load_state_dict({name: array_of(own, getattr(module, own)) for name, own in names.items()})
    return layer


def _detached(tensor: Any) -> Any:
    return tensor.detach() if isinstance(tensor, torch.Tensor) else tensor
