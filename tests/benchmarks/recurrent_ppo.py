"""Time an update of recurrent PPO: a rollout in which episodes end, forward, backward and a step of Adam.

The ways are interleaved in one process and have the same weights and the same data. Before anything is timed, the
gradients of those that compute the same must agree to 1e-4 of the largest. sb3-contrib and TorchRL are compared too,
each if it is installed.
"""

import argparse
import importlib.util
from collections.abc import Callable

import latchwork as lw
import latchwork.torch
import numpy as np
import torch
from latchwork.benchmark import timing
from torch import Tensor, nn

FEATURES, ACTIONS = 64, 8
CLIP = 0.2
TOLERANCE = 1e-4

Job = Callable[[], object]


class Rollout:
    """What one collection gives: T steps of N environments, all tensors (T, N) or (T, N, features)."""

    def __init__(self, steps: int, rows: int, share: float) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (steps, rows)
        self.observations = torch.randn(*shape, FEATURES, generator=generator)
        self.actions = torch.randint(ACTIONS, shape, generator=generator)
        self.log_probabilities = torch.full(shape, -float(np.log(ACTIONS)))
        self.advantages = torch.randn(shape, generator=generator)
        self.returns = torch.randn(shape, generator=generator)
        self.starts = torch.rand(shape, generator=generator) < share


class Policy(nn.Module):
    """An LSTM, and linear layers for actions and values after it. ``run`` computes the LSTM over a rollout."""

    def __init__(self, hidden_size: int, lstm: type[nn.Module], run: Callable[[nn.Module, Rollout], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = lstm(FEATURES, hidden_size)
        self.actor, self.critic = nn.Linear(hidden_size, ACTIONS), nn.Linear(hidden_size, 1)
        self.run = run
        self.optimizer = torch.optim.Adam(self.parameters(), lr=3e-4)

    def gradient(self, rollout: Rollout) -> None:
        """Compute the gradients of PPO's clipped loss."""
        features = self.run(self.lstm, rollout)
        logits = self.actor(features).log_softmax(-1)
        chosen = logits.gather(-1, rollout.actions.unsqueeze(-1)).squeeze(-1)
        ratio = (chosen - rollout.log_probabilities).exp()
        gain = torch.min(ratio * rollout.advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * rollout.advantages).mean()
        error = (self.critic(features).squeeze(-1) - rollout.returns).square().mean()
        entropy = -(logits.exp() * logits).sum(-1).mean()
        self.optimizer.zero_grad()
        (0.5 * error - gain - 0.01 * entropy).backward()

    def update(self, rollout: Rollout) -> None:
        """Take one step of Adam."""
        self.gradient(rollout)
        self.optimizer.step()


def at_once_with_reset(lstm: nn.Module, rollout: Rollout) -> Tensor:
    output, _ = lstm(rollout.observations, reset=rollout.starts)
    return output


def at_once(lstm: nn.Module, rollout: Rollout) -> Tensor:
    output, _ = lstm(rollout.observations)
    return output


def step_by_step(lstm: nn.LSTM, rollout: Rollout) -> Tensor:
    """Call the LSTM once for each step, as programs for recurrent PPO commonly do."""
    keep = (~rollout.starts).float().unsqueeze(-1)
    h = c = rollout.observations.new_zeros(1, rollout.observations.shape[1], lstm.hidden_size)
    outputs = []
    for x, kept in zip(rollout.observations, keep, strict=True):
        output, (h, c) = lstm(x.unsqueeze(0), (h * kept, c * kept))
        outputs.append(output)
    return torch.cat(outputs)


def cell_by_cell(cell: nn.LSTMCell, rollout: Rollout) -> Tensor:
    """Do the same with a cell."""
    keep = (~rollout.starts).float().unsqueeze(-1)
    h = c = rollout.observations.new_zeros(rollout.observations.shape[1], cell.hidden_size)
    outputs = []
    for x, kept in zip(rollout.observations, keep, strict=True):
        h, c = cell(x, (h * kept, c * kept))
        outputs.append(h)
    return torch.stack(outputs)


WITH_RESETS = {
    "`latchwork.torch.LSTM`, one call with `reset=`": (latchwork.torch.LSTM, at_once_with_reset),
    "`torch.nn.LSTM`, a call for each step": (nn.LSTM, step_by_step),
    "`torch.nn.LSTMCell`, a call for each step": (nn.LSTMCell, cell_by_cell),
}
WITHOUT_RESETS = {
    "`latchwork.torch.LSTM`, one call without resets": (latchwork.torch.LSTM, at_once),
    "`torch.nn.LSTM`, one call without resets": (nn.LSTM, at_once),
}


def policies(steps: int, rows: int, hidden_size: int, share: float) -> tuple[dict[str, Policy], Rollout]:
    """Make all policies, and see that those with resets have the same gradients."""
    rollout = Rollout(steps, rows, share)
    made = {name: Policy(hidden_size, *way) for name, way in (WITH_RESETS | WITHOUT_RESETS).items()}
    for group in (WITH_RESETS, WITHOUT_RESETS):
        first, *others = group
        for name in group:
            made[name].gradient(rollout)
        for name in others:
            check_same(name, made[first], made[name])
    return made, rollout


def check_same(name: str, first: nn.Module, second: nn.Module) -> None:
    """Compare gradients, each with the largest of its tensor."""
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        difference = (one.grad - other.grad).abs().max() / other.grad.abs().max()
        if not difference <= TOLERANCE:
            raise SystemExit(f"{name}: the gradients differ by {difference:.1e} of the largest")


def print_updates(arguments: argparse.Namespace) -> None:
    """Print the time of an update in each way."""
    made, rollout = policies(arguments.steps, arguments.rows, arguments.hidden_size, arguments.share)
    jobs = {name: lambda policy=policy: policy.update(rollout) for name, policy in made.items()}
    times = timing.medians(jobs, arguments.rounds)
    print_table("PPO update", times, next(iter(WITH_RESETS)))


def print_table(title: str, times: dict[str, float], ours: str) -> None:
    print(f"\n| {title} | ms | over Latchwork's |\n| --- | --- | --- |")
    for name, seconds in times.items():
        print(f"| {name} | {seconds * 1e3:.1f} | {seconds / times[ours]:.2f} |", flush=True)


def print_sb3(arguments: argparse.Namespace) -> None:
    """Print the time of RecurrentPPO's update and of a collection with it, by both policies."""
    from latchwork.torch.sb3_contrib import MlpLstmPolicy

    models = {
        "`latchwork.torch.sb3_contrib.MlpLstmPolicy`": sb3_model(MlpLstmPolicy, arguments),
        "sb3-contrib's `MlpLstmPolicy`": sb3_model("MlpLstmPolicy", arguments),
    }
    frames = arguments.steps * arguments.environments
    for model in models.values():
        model.learn(frames)  # fills the rollouts, on which `train` works

    def update(model: object) -> None:
        np.random.seed(0)  # the same sequences each time  # noqa: NPY002
        model.train()

    for title, job in (
        ("`RecurrentPPO.train()`", update),
        ("`RecurrentPPO.learn()` of one rollout", lambda model: model.learn(frames, reset_num_timesteps=False)),
    ):
        jobs = {name: lambda model=model, job=job: job(model) for name, model in models.items()}
        print_table(title, timing.medians(jobs, arguments.rounds), next(iter(models)))


def sb3_model(policy: object, arguments: argparse.Namespace) -> object:
    """Make an agent whose whole rollout is one batch."""
    import gymnasium
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Random(gymnasium.Env):
        """Observations that mean nothing, and episodes that end at random."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (FEATURES,))
        action_space = gymnasium.spaces.Discrete(ACTIONS)

        def observation(self) -> np.ndarray:
            return self.np_random.standard_normal(FEATURES, dtype=np.float32)

        def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict]:
            super().reset(seed=seed)
            return self.observation(), {}

        def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
            ends = self.np_random.random() < arguments.share
            return self.observation(), self.np_random.standard_normal(), ends, False, {}

    return RecurrentPPO(
        policy,
        DummyVecEnv([Random] * arguments.environments),
        n_steps=arguments.steps,
        batch_size=arguments.steps * arguments.environments,
        n_epochs=1,
        policy_kwargs={"lstm_hidden_size": arguments.hidden_size},
        seed=0,
        device="cpu",
    )


def print_torchrl(arguments: argparse.Namespace) -> None:
    """Print the time of TorchRL's module in recurrent mode, forward and backward."""
    import torchrl.modules
    from latchwork.torch.torchrl import LSTMModule
    from tensordict import TensorDict

    rollout = Rollout(arguments.steps, arguments.rows, arguments.share)
    data = TensorDict(
        observation=rollout.observations.transpose(0, 1).contiguous(),
        is_init=rollout.starts.transpose(0, 1).unsqueeze(-1).contiguous(),
        batch_size=(arguments.rows, arguments.steps),
    )
    made = {}
    for name, kind in (
        ("`latchwork.torch.torchrl.LSTMModule`", LSTMModule),
        ("TorchRL's `LSTMModule`", torchrl.modules.LSTMModule),
    ):
        torch.manual_seed(0)
        made[name] = kind(FEATURES, arguments.hidden_size, in_key="observation", out_key="features")

    def gradient(module: nn.Module) -> None:
        module.zero_grad()
        with torchrl.modules.set_recurrent_mode(True):
            module(data.clone(recurse=False))["features"].square().mean().backward()

    for module in made.values():
        gradient(module)
    ours, (name, theirs) = next(iter(made)), list(made.items())[1]
    check_same(name, made[ours], theirs)
    jobs = {name: lambda module=module: gradient(module) for name, module in made.items()}
    print_table("recurrent mode, forward and backward", timing.medians(jobs, arguments.rounds), ours)


LIBRARIES = {"sb3_contrib": print_sb3, "torchrl": print_torchrl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--rows", type=int, default=128, help="environments, but for RecurrentPPO")
    parser.add_argument("--environments", type=int, default=16, help="environments of RecurrentPPO")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--share", type=float, default=0.03, help="the share of steps at which an episode starts")
    parser.add_argument("--libraries", default="sb3_contrib,torchrl", help="what is compared beside the loops")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with tables for each")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(
        f"T = {arguments.steps}, N = {arguments.rows} (RecurrentPPO: {arguments.environments}), in = {FEATURES}, "
        f"H = {arguments.hidden_size}, {arguments.share:.0%} resets, float32, {lw.cpu_info()['isa']}, "
        f"PyTorch {torch.__version__}, {arguments.rounds} rounds"
    )
    for threads in map(int, arguments.threads.split(",")):
        torch.set_num_threads(threads)
        lw.set_num_threads(threads)
        print(f"\n{threads} thread(s)")
        print_updates(arguments)
        for library in filter(None, arguments.libraries.split(",")):
            if importlib.util.find_spec(library) is None:
                print(f"\n{library} is not installed")
            else:
                LIBRARIES[library](arguments)


if __name__ == "__main__":
    main()
