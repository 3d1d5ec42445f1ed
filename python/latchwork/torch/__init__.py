"""Layers for PyTorch: `LSTM` and `LSTMCell` take the place of ``torch.nn.LSTM`` and ``torch.nn.LSTMCell`` on a CPU.

Parameters, their names and initial values, shapes, gradients and errors are PyTorch's; the arithmetic is Latchwork's.
`replace` swaps them in for all LSTMs of a model, and `restore` undoes that; both give a `Report`. PyTorch is not
installed with Latchwork: ``pip install 'latchwork[torch]'`` brings it.
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
from latchwork.torch.replacing import Left as Left
from latchwork.torch.replacing import Report as Report
from latchwork.torch.replacing import Swapped as Swapped
from latchwork.torch.replacing import replace as replace
from latchwork.torch.replacing import restore as restore
from latchwork.torch.threads import share_threads as _share_threads

__all__ = ["LSTM", "LSTMCell", "Left", "Report", "Swapped", "replace", "restore"]

_share_threads()
