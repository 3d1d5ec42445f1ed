"""Layers for PyTorch: `LSTM` and `LSTMCell` take the place of ``torch.nn.LSTM`` and ``torch.nn.LSTMCell`` on a CPU.

Parameters, their names and initial values, shapes, gradients and errors are PyTorch's; the arithmetic is Latchwork's.
PyTorch is not installed with Latchwork: ``pip install 'latchwork[torch]'`` brings it.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("latchwork.torch needs PyTorch: pip install 'latchwork[torch]'") from error

from latchwork.torch.lstm import LSTM as LSTM
from latchwork.torch.lstm_cell import LSTMCell as LSTMCell

__all__ = ["LSTM", "LSTMCell"]
