"""An LSTM module for TorchRL whose LSTM is Latchwork's.

TorchRL is not installed with Latchwork: ``pip install torchrl``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latchwork.torch.lstm import LSTM
from latchwork.torch.replacing import replace

try:
    from tensordict.nn import dispatch
    from torchrl.modules import LSTMModule as TorchRLModule
except ImportError as error:
    raise ImportError("latchwork.torch.torchrl needs TorchRL: pip install torchrl") from error

if TYPE_CHECKING:
    from tensordict import TensorDictBase
    from torch import Tensor

__all__ = ["LSTMModule"]


class LSTMModule(TorchRLModule):
    """TorchRL's ``LSTMModule``, whose LSTM is a `latchwork.torch.LSTM`.

    Use it in place of ``torchrl.modules.LSTMModule``. It takes the same arguments, starts with the same weights, has
    the same ``state_dict``, and gives the same outputs and gradients to within rounding. In recurrent mode, rows in
    which trajectories start (``is_init``) are computed in one call with ``reset``, where TorchRL cuts them into
    sequences, pads these and packs them.

    That is so if the states that the tensordict holds where trajectories start are zeros, as they are after an
    environment's reset. Otherwise, and with ``bidirectional``, the rows are cut as TorchRL does, and Latchwork computes
    the packed sequences.

    States are given as TorchRL gives them, the last one of each row at its last step and zeros before, with one
    difference: where several trajectories are in a row, the last states of all but the last of them are zeros
    too. Nothing follows from them, because the next trajectory starts anew, and TorchRL says not to use them.

    ``recurrent_backend`` only says how TorchRL computes what is not Latchwork's.

    On another device than the CPU, TorchRL's own code runs.

    Raises
    ------
    ValueError
        If the LSTM is not one that `latchwork.torch.replace` swaps, as with ``python_based=True``, or if a
        `latchwork.torch.LSTM` was passed whose start state is learned or whose direction is reversed.

    Examples
    --------
    >>> import torch
    >>> from latchwork.torch.torchrl import LSTMModule
    >>> from tensordict import TensorDict
    >>> from torchrl.modules import set_recurrent_mode
    >>> module = LSTMModule(input_size=3, hidden_size=16, in_key="observation", out_key="features")
    >>> data = TensorDict(observation=torch.randn(8, 50, 3), is_init=torch.rand(8, 50, 1) < 0.1, batch_size=(8, 50))
    >>> with set_recurrent_mode(True):
    ...     module(data)["features"].shape
    torch.Size([8, 50, 16])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        replace(self.lstm)
        if not isinstance(self.lstm, LSTM):
            kind = f"{type(self.lstm).__module__}.{type(self.lstm).__name__}"
            raise ValueError(f"lstm: expected torch.nn.LSTM or latchwork.torch.LSTM, got {kind}")
        # A trajectory of TorchRL's starts with zeros, at its first step.
        for option in ("learn_start_state", "reverse"):
            if self.lstm._variant.get(option):
                raise ValueError(f"lstm: expected {option}=False, got True")

    @dispatch  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Compute one step of each row, or in recurrent mode all steps of each row.

        Parameters
        ----------
        tensordict : tensordict.TensorDictBase
            What TorchRL's module takes, (..., T) in recurrent mode.

        Returns
        -------
        tensordict.TensorDictBase
            The same tensordict, with the outputs and the states.
        """
        call = self._whole_rows(tensordict)
        if call is None:
            return super().forward(tensordict)
        x, states, starts = call
        output, last_states = self.lstm(x, states, reset=starts)
        tensordict.set(self.out_keys[0], output.reshape(*tensordict.shape, -1))
        for key, last in zip(self.out_keys[1:], last_states, strict=True):
            # (layers, rows, H) -> (rows, T, layers, H)
            state = last.new_zeros(x.shape[0], x.shape[1], last.shape[0], last.shape[2])
            state[:, -1] = last.transpose(0, 1)
            tensordict.set(key, state.reshape(*tensordict.shape, *state.shape[2:]))
        return tensordict

    def _whole_rows(self, tensordict: TensorDictBase) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor] | None:
        """Give input, start states and starts of trajectories if one call computes them; None: TorchRL has to."""
        if not isinstance(self.lstm, LSTM) or self.lstm.bidirectional:
            return None
        if not self.recurrent_mode or tensordict.ndim == 0:
            return None
        steps = tensordict.shape[-1]
        x, h, c = (tensordict.get(key, None) for key in self.in_keys[:3])
        if x is None or x.device.type != "cpu" or (h is None) != (c is None):
            return None
        # At the first step of a row the state in the tensordict counts, also if a trajectory starts there.
        starts = tensordict["is_init"].reshape(-1, steps).clone()
        starts[:, 0] = False
        x = x.reshape(-1, *x.shape[-2:])
        if h is None:
            return x, None, starts
        states = [state.reshape(-1, *state.shape[-3:]) for state in (h, c)]
        if any(state.requires_grad or state[starts].any() for state in states):
            return None
        h_0, c_0 = (state[:, 0].transpose(0, 1) for state in states)
        return x, (h_0, c_0), starts
