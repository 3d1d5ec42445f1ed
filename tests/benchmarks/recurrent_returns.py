"""Train agents with memory by sb3-contrib or TorchRL, with Latchwork's adapter and without, on the same seeds.

The first observation of an episode names one of two actions, which is paid for at each of its 16 steps, so that the
agent has to remember: it earns 8 by chance, and 16 if it does. The figure is the mean return of the last 100 episodes
of a training. Rounding makes two trainings of one seed differ after some updates, so it is the means over seeds that
should agree: within the spread of the seeds.
"""

import argparse
import importlib.util
import time
from collections import deque
from collections.abc import Callable
from statistics import mean, stdev

import gymnasium
import latchwork as lw
import numpy as np
import torch

EPISODES = 100  # whose mean return counts


class Recall(gymnasium.Env):
    """An environment in which the first observation says what to do until the end."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 16

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict[str, object]]:
        super().reset(seed=seed)
        self.wanted, self.left = int(self.np_random.integers(2)), self.steps
        return np.array([2 * self.wanted - 1, 1], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        self.left -= 1
        return np.zeros(2, np.float32), float(action == self.wanted), self.left == 0, False, {}


def train_sb3(ours: bool, seed: int, frames: int) -> float:
    """Train by RecurrentPPO."""
    from latchwork.torch.sb3_contrib import MlpLstmPolicy
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env

    model = RecurrentPPO(
        MlpLstmPolicy if ours else "MlpLstmPolicy",
        make_vec_env(Recall, 8, seed=seed),
        learning_rate=3e-3, n_steps=128, batch_size=256, n_epochs=10, gae_lambda=0.98, max_grad_norm=1.0,
        policy_kwargs={"lstm_hidden_size": 64, "net_arch": [], "ortho_init": False},
        seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(frames)
    return mean(episode["r"] for episode in model.ep_info_buffer)


def train_torchrl(ours: bool, seed: int, frames: int) -> float:
    """Train by TorchRL's loss for PPO, with one LSTM for actions and values."""
    import latchwork.torch.torchrl
    from tensordict.nn import (
        InteractionType,
        ProbabilisticTensorDictModule,
        ProbabilisticTensorDictSequential,
        TensorDictModule,
        TensorDictSequential,
    )
    from torchrl import envs, modules
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    torch.manual_seed(seed)
    rows, steps, hidden_size = 8, 128, 64
    kind = latchwork.torch.torchrl.LSTMModule if ours else modules.LSTMModule
    lstm = kind(2, hidden_size, in_key="observation", out_key="features")
    actor = ProbabilisticTensorDictSequential(
        lstm,
        TensorDictModule(torch.nn.Linear(hidden_size, 2), in_keys=["features"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(
            in_keys=["logits"], out_keys=["action"], distribution_class=modules.OneHotCategorical,
            return_log_prob=True, default_interaction_type=InteractionType.RANDOM,
        ),
    )  # fmt: skip
    value = TensorDictModule(torch.nn.Linear(hidden_size, 1), in_keys=["features"], out_keys=["state_value"])
    critic = TensorDictSequential(lstm, value)
    environment = envs.TransformedEnv(
        envs.SerialEnv(rows, lambda: envs.GymWrapper(Recall())),
        envs.Compose(envs.InitTracker(), envs.RewardSum(), lstm.make_tensordict_primer()),
    )
    environment.set_seed(seed)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.0, normalize_advantage=True)
    advantage = GAE(gamma=0.99, lmbda=0.98, value_network=critic, deactivate_vmap=True)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3, eps=1e-5)
    returns: deque[float] = deque(maxlen=EPISODES)
    start = environment.reset()
    for _ in range(-(-frames // (rows * steps))):
        with torch.no_grad():
            rollout = environment.rollout(steps, actor, auto_reset=False, tensordict=start, break_when_any_done=False)
            start = environment.step_mdp(rollout[:, -1])
            start = environment.maybe_reset(start)
            with modules.set_recurrent_mode(True):
                advantage(rollout)
        ended = rollout["next", "done"]
        returns.extend(rollout["next", "episode_reward"][ended].tolist())
        for _ in range(10):
            for rows_of_batch in torch.randperm(rows).split(2):
                losses = loss(rollout[rows_of_batch])
                optimizer.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"]).backward()
                torch.nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
                optimizer.step()
    return mean(returns)


TRAININGS: dict[str, Callable[[bool, int, int], float]] = {"sb3_contrib": train_sb3, "torchrl": train_torchrl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", default=",".join(TRAININGS))
    parser.add_argument("--frames", type=int, default=8_192)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lw.set_num_threads(1)
    for library in arguments.libraries.split(","):
        if importlib.util.find_spec(library) is None:
            print(f"{library} is not installed")
            continue
        seeds = " | ".join(f"seed {seed}" for seed in range(arguments.seeds))
        print(f"\n| {library} | {seeds} | mean | sd | minutes |")
        print("| --- |" + " --- |" * (arguments.seeds + 3))
        for name, ours in (("with Latchwork", True), ("without", False)):
            started = time.perf_counter()
            returns = [TRAININGS[library](ours, seed, arguments.frames) for seed in range(arguments.seeds)]
            minutes = (time.perf_counter() - started) / 60
            spread = stdev(returns) if len(returns) > 1 else float("nan")
            figures = [f"{each:.2f}" for each in (*returns, mean(returns), spread)] + [f"{minutes:.1f}"]
            print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
