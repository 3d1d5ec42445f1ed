"""The LSTM module for TorchRL beside TorchRL's own: rows with several trajectories in one call."""

import sys
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torchrl = pytest.importorskip("torchrl", reason="TorchRL is not installed")
import latchwork.torch  # noqa: E402
from latchwork.torch.torchrl import LSTMModule  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from tensordict.nn import (  # noqa: E402
    InteractionType,
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictSequential,
)
from torch import nn  # noqa: E402
from torchrl import envs, modules  # noqa: E402
from torchrl.objectives import ClipPPOLoss  # noqa: E402
from torchrl.objectives.value import GAE  # noqa: E402

KEYS = {"in_keys": ["x", "h", "c"], "out_keys": ["y", ("next", "h"), ("next", "c")]}


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other take very long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pair(**options):
    """Make Latchwork's module and TorchRL's with the same weights."""
    made = []
    for kind in (LSTMModule, modules.LSTMModule):
        torch.manual_seed(0)
        made.append(kind(3, 5, **KEYS, **options))
    return made


def data(*shape, layers=1, sizes=(5, 5), at_starts=0.0, states=True, seed=0):
    """Make a tensordict. ``at_starts``: by what its states are multiplied where trajectories start within a row."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, 3, generator=generator)
    is_init = torch.rand(*shape, 1, generator=generator) < 0.3
    held = TensorDict(x=x, is_init=is_init, batch_size=shape)
    if states:
        inner = is_init.clone()
        inner[..., 0, :] = False
        for key, size in zip("hc", sizes, strict=True):
            state = torch.randn(*shape, layers, size, generator=generator)
            held[key] = torch.where(inner.unsqueeze(-1), at_starts * state, state)
    return held


def results(module, held, only_last, differentiated="x"):
    """Give outputs, states and gradients in recurrent mode. ``only_last``: of the states those of the last step."""
    held = held.clone()
    inputs = [held[key].requires_grad_() for key in differentiated]
    with modules.set_recurrent_mode(True):
        out = module(held)
    assert out is held
    states = [out["next", key] for key in "hc"]
    if only_last:
        states = [state[..., -1, :, :] for state in states]
    weights = torch.randn(out["y"].shape, generator=torch.Generator().manual_seed(1))
    ((out["y"] * weights).sum() + sum(state.square().sum() for state in states)).backward()
    gradients = [tensor.grad for tensor in [*inputs, *module.parameters()]]
    module.zero_grad()
    return [out["y"], *states, *gradients]


def same(held, only_last=True, differentiated="x", **options):
    made = pair(**options)
    for one, other in zip(*(results(module, held, only_last, differentiated) for module in made), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1,), (9,), (4, 1), (4, 9), (2, 3, 7)], ids=str)
@pytest.mark.parametrize("states", [True, False])
def test_rows_with_trajectories(shape, states):
    for seed in range(4):
        same(data(*shape, states=states, seed=seed))


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bias": False}, {"recurrent_backend": "auto"}], ids=str)
def test_options(options):
    same(data(4, 9, layers=options.get("num_layers", 1)), **options)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections():
    same(data(4, 9, sizes=(2, 5)), proj_size=2)


def test_gradients_of_states():
    same(data(4, 9), only_last=False, differentiated="xhc")


def test_states_before_the_last_trajectory_are_zeros():
    ours, _ = pair()
    held = data(4, 9)
    with modules.set_recurrent_mode(True):
        ours(held)
    for key in "hc":
        assert held["next", key][:, -1].all()
        assert not held["next", key][:, :-1].any()


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_states_that_trajectories_start_with(options):
    layers = options.get("num_layers", 1) * (2 if "bidirectional" in options else 1)
    same(data(4, 9, layers=layers, at_starts=1.0), only_last=False, **options)


def test_both_directions():
    same(data(4, 9, layers=2), only_last=False, bidirectional=True)


def test_single_steps():
    held = data(4, at_starts=1.0)
    for ours, other in zip(*(module(held.clone()).values(True, True) for module in pair()), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
    with_starts = pair()[0](held.clone())
    held["is_init"][:] = False
    assert (with_starts["y"] != pair()[0](held)["y"]).any()


def test_without_a_tensordict():
    held = data(4, 9)
    with modules.set_recurrent_mode(True):
        outputs, others = (module(x=held["x"], is_init=held["is_init"]) for module in pair())
    torch.testing.assert_close(outputs[0], others[0], rtol=1e-5, atol=1e-5)


def test_rows_with_trajectories_are_one_call():
    ours, _ = pair()
    shapes = []
    ours.lstm.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    with modules.set_recurrent_mode(True):
        ours(data(4, 9))
    assert shapes == [(4, 9, 3)]


def test_missing_keys_are_the_same_errors():
    for key, message in (("x", "x"), ("is_init", "is_init"), ("c", "hidden1")):
        for module in pair():
            with modules.set_recurrent_mode(True), pytest.raises((KeyError, RuntimeError), match=message):
                module(data(4, 9).exclude(key))


def test_python_based_is_refused():
    with pytest.raises(ValueError, match="lstm: expected torch.nn.LSTM or latchwork.torch.LSTM, got"):
        LSTMModule(3, 5, **KEYS, python_based=True)


def test_a_start_state_that_is_learned_is_refused():
    with pytest.raises(ValueError, match="lstm: expected learn_start_state=False, got True"):
        LSTMModule(lstm=latchwork.torch.LSTM(3, 5, batch_first=True, learn_start_state=True), **KEYS)


def test_a_variant():
    lstm = latchwork.torch.LSTM(3, 5, batch_first=True, forget_gate="coupled")
    module = LSTMModule(lstm=lstm, **KEYS)
    held = data(4, 9)
    held["is_init"][:, 0] = False  # TorchRL starts with zeros there if it computes single steps
    with modules.set_recurrent_mode(True):
        together = module(held.clone())["y"]
    state = held[:, 0].select("h", "c")
    for t in range(9):
        step = module(held[:, t].exclude("h", "c").update(state))
        torch.testing.assert_close(step["y"], together[:, t], rtol=1e-5, atol=1e-6)
        state = step["next"].select("h", "c")


def test_made_python_based_it_is_torchrls():
    ours, other = pair()
    held = data(4, 9)
    for one, another in zip(results(ours.make_python_based(), held, False), results(other, held, False), strict=True):
        torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-5)


class Learner:
    """PPO with an LSTM for actions and one for values, on an environment whose episodes end at random."""

    def __init__(self, kind):
        from random_episodes import RandomEpisodes

        torch.manual_seed(0)
        actor_lstm = kind(3, 6, in_keys=["observation", "ha", "ca"], out_keys=["fa", ("next", "ha"), ("next", "ca")])
        critic_lstm = kind(3, 6, in_keys=["observation", "hv", "cv"], out_keys=["fv", ("next", "hv"), ("next", "cv")])
        self.actor = ProbabilisticTensorDictSequential(
            actor_lstm,
            TensorDictModule(nn.Linear(6, 2), in_keys=["fa"], out_keys=["logits"]),
            ProbabilisticTensorDictModule(
                in_keys=["logits"], out_keys=["action"], distribution_class=modules.OneHotCategorical,
                return_log_prob=True, default_interaction_type=InteractionType.RANDOM,
            ),
        )  # fmt: skip
        self.critic = TensorDictSequential(
            critic_lstm, TensorDictModule(nn.Linear(6, 1), in_keys=["fv"], out_keys=["state_value"])
        )
        self.environment = envs.TransformedEnv(
            envs.SerialEnv(3, lambda: envs.GymWrapper(RandomEpisodes())),
            envs.Compose(envs.InitTracker(), actor_lstm.make_tensordict_primer(), critic_lstm.make_tensordict_primer()),
        )
        self.environment.set_seed(0)
        self.loss = ClipPPOLoss(self.actor, self.critic)
        self.advantage = GAE(gamma=0.9, lmbda=0.9, value_network=self.critic, deactivate_vmap=True)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=1e-3)

    def update(self):
        """Collect, and take a step; give the losses and the weights."""
        with torch.no_grad():
            policy = TensorDictSequential(self.actor, self.critic[0])
            rollout = self.environment.rollout(20, policy, break_when_any_done=False)
            with modules.set_recurrent_mode(True):
                self.advantage(rollout)
        assert rollout["is_init"][:, 1:].any()
        losses = self.loss(rollout)
        self.optimizer.zero_grad()
        sum(losses[f"loss_{each}"] for each in ("objective", "critic", "entropy")).backward()
        self.optimizer.step()
        return [losses[f"loss_{each}"].detach() for each in ("objective", "critic", "entropy")] + [
            weight.detach().clone() for weight in self.loss.parameters()
        ]


def test_the_first_three_updates_are_the_same():
    # Each learner seeds all generators when it is made, so that one has to be done before the other is made.
    updates = []
    for kind in (LSTMModule, modules.LSTMModule):
        learner = Learner(kind)
        updates.append([tensor for _ in range(3) for tensor in learner.update()])
    for one, other in zip(*updates, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "latchwork.torch.torchrl")
    monkeypatch.setitem(sys.modules, "torchrl.modules", None)
    with pytest.raises(ImportError, match="pip install torchrl"):
        import latchwork.torch.torchrl  # noqa: F401
