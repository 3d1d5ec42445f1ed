"""Policies for RecurrentPPO of sb3-contrib whose LSTMs are Latchwork's.

sb3-contrib is not installed with Latchwork: ``pip install sb3-contrib``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latchwork.torch.replacing import replace

try:
    from sb3_contrib.common.recurrent import policies
except ImportError as error:
    raise ImportError("latchwork.torch.sb3_contrib needs sb3-contrib: pip install sb3-contrib") from error

if TYPE_CHECKING:
    from torch import Tensor

    from latchwork.torch.lstm import LSTM

__all__ = ["CnnLstmPolicy", "MlpLstmPolicy", "MultiInputLstmPolicy"]


class MlpLstmPolicy(policies.RecurrentActorCriticPolicy):
    """The policy of sb3-contrib's name, whose LSTMs are `latchwork.torch.LSTM`.

    Use it in place of the name ``"MlpLstmPolicy"``. It takes the same arguments, starts with the same weights for the
    same seed, and learns the same to within rounding. Sequences in which an episode starts are computed in one call
    with ``reset``, where sb3-contrib calls the LSTM once for each step. On another device than the CPU, sb3-contrib's
    own code runs.

    An agent that was saved with either of the two policies can be loaded with the other, by
    ``RecurrentPPO.load(path, custom_objects={"policy_class": MlpLstmPolicy})``.

    A policy class of your own takes its LSTMs from here if this one comes first among its bases:
    ``class Policy(MlpLstmPolicy, YourPolicy)``.

    Raises
    ------
    ValueError
        If an LSTM is not one that `latchwork.torch.replace` swaps.

    Examples
    --------
    >>> from latchwork.torch.sb3_contrib import MlpLstmPolicy
    >>> from sb3_contrib import RecurrentPPO
    >>> model = RecurrentPPO(MlpLstmPolicy, "CartPole-v1").learn(10_000)  # doctest: +SKIP
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("lstm_actor", "lstm_critic"):
            lstm = getattr(self, name)
            if lstm is not None:
                for left in replace(lstm).left:
                    raise ValueError(f"{name}: expected an LSTM that Latchwork can compute, but {left.reason}")

    @staticmethod
    def _process_sequence(
        features: Tensor, lstm_states: tuple[Tensor, Tensor], episode_starts: Tensor, lstm: LSTM
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if features.device.type != "cpu":
            theirs = policies.RecurrentActorCriticPolicy._process_sequence
            return theirs(features, lstm_states, episode_starts, lstm)  # type: ignore[no-any-return]
        # The rows come one after another, each with all of its steps; states are (layers, rows, H).
        rows = lstm_states[0].shape[1]
        x = features.reshape(rows, -1, lstm.input_size).transpose(0, 1)
        reset = episode_starts.reshape(rows, -1).transpose(0, 1) != 0
        output, lstm_states = lstm(x, lstm_states, reset=reset)
        return output.transpose(0, 1).flatten(end_dim=1), lstm_states


class CnnLstmPolicy(MlpLstmPolicy, policies.RecurrentActorCriticCnnPolicy):
    """sb3-contrib's policy for images, with the LSTMs of `MlpLstmPolicy`."""


class MultiInputLstmPolicy(MlpLstmPolicy, policies.RecurrentMultiInputActorCriticPolicy):
    """sb3-contrib's policy for dictionaries of observations, with the LSTMs of `MlpLstmPolicy`."""
