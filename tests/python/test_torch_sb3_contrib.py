"""The policies for sb3-contrib's RecurrentPPO beside sb3-contrib's own: the same updates, in one call each."""

import io
import sys
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
from latchwork.torch import LSTM  # noqa: E402
from latchwork.torch.sb3_contrib import CnnLstmPolicy, MlpLstmPolicy, MultiInputLstmPolicy  # noqa: E402
from random_episodes import RandomEpisodes  # noqa: E402
from sb3_contrib import RecurrentPPO  # noqa: E402
from sb3_contrib.ppo_recurrent import policies as theirs  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402
from torch import nn  # noqa: E402

STEPS, ROWS = 24, 3


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other take very long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def agent(policy, dictionary=False, **policy_options):
    options = {"lstm_hidden_size": 12, "net_arch": [8]} | policy_options
    environments = DummyVecEnv([lambda: RandomEpisodes(dictionary=dictionary)] * ROWS)
    return RecurrentPPO(
        policy, environments, n_steps=STEPS, batch_size=36, n_epochs=2, policy_kwargs=options, seed=0, device="cpu"
    )


def after_updates(model, updates=3):
    """Give the losses and the weights after each of the first updates."""
    for _ in range(updates):
        model.learn(STEPS * ROWS, reset_num_timesteps=False)
        losses = {name: value for name, value in model.logger.name_to_value.items() if name.startswith("train/")}
        yield losses, {name: weight.clone() for name, weight in model.policy.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_lstm_layers": 2, "enable_critic_lstm": False},
        {"shared_lstm": True, "enable_critic_lstm": False},
        {"lstm_kwargs": {"bias": False}},
    ],
    ids=["two LSTMs", "layers, a linear critic", "shared", "no bias"],
)
def test_the_first_three_updates_are_the_same(options):
    # Each agent seeds all generators when it is made, so that one has to be done before the other is made.
    ours, other = (list(after_updates(agent(policy, **options))) for policy in (MlpLstmPolicy, "MlpLstmPolicy"))
    for (losses, weights), (their_losses, their_weights) in zip(ours, other, strict=True):
        assert losses == pytest.approx(their_losses, rel=0, abs=1e-4)
        assert weights.keys() == their_weights.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, their_weights[name], rtol=0, atol=1e-4)


def test_observations_in_dictionaries():
    ours, other = (
        next(after_updates(agent(policy, dictionary=True))) for policy in (MultiInputLstmPolicy, "MultiInputLstmPolicy")
    )
    assert ours[0] == pytest.approx(other[0], rel=0, abs=1e-4)


def test_each_policy_has_its_extractor():
    for ours, other in (
        (MlpLstmPolicy, theirs.MlpLstmPolicy),
        (CnnLstmPolicy, theirs.CnnLstmPolicy),
        (MultiInputLstmPolicy, theirs.MultiInputLstmPolicy),
    ):
        assert issubclass(ours, other)
    import gymnasium
    import numpy as np

    images = gymnasium.spaces.Box(0, 255, (3, 36, 36), np.uint8)
    policies = []
    for kind in (CnnLstmPolicy, theirs.CnnLstmPolicy):
        torch.manual_seed(0)
        policies.append(kind(images, gymnasium.spaces.Discrete(2), lambda _: 1e-3, lstm_hidden_size=8))
    observations = torch.randint(256, (6, 3, 36, 36), dtype=torch.uint8)
    state = (torch.randn(1, 2, 8), torch.randn(1, 2, 8))
    starts = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    values, other = (policy.predict_values(observations, state, starts) for policy in policies)
    assert isinstance(policies[0].lstm_critic, LSTM)
    torch.testing.assert_close(values, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_sequences_with_starts_inside(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, steps, layers, size = (int(torch.randint(1, most, (), generator=generator)) for most in (5, 12, 3, 9))
    torch.manual_seed(seed)
    other = nn.LSTM(5, size, layers)
    lstm = LSTM(5, size, layers)
    lstm.load_state_dict(other.state_dict())
    features = torch.randn(rows * steps, 5, generator=generator)
    states = [torch.randn(layers, rows, size, generator=generator) for _ in range(2)]
    starts = (torch.rand(rows * steps, generator=generator) < 0.3).float()
    weights = torch.randn(rows * steps, size, generator=generator)
    results = []
    for policy, module in ((MlpLstmPolicy, lstm), (theirs.MlpLstmPolicy, other)):
        inputs = [tensor.clone().requires_grad_() for tensor in (features, *states)]
        output, ends = policy._process_sequence(inputs[0], tuple(inputs[1:]), starts, module)
        ((output * weights).sum() + sum(end.square().sum() for end in ends)).backward()
        tensors = [*inputs, *module.parameters()]
        results.append([output, *ends, *(tensor.grad for tensor in tensors)])
    for one, another in zip(*results, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-5)


def test_a_batch_is_one_call_of_each_lstm():
    calls = []
    model = agent(MlpLstmPolicy)
    model.learn(STEPS * ROWS)
    for lstm in (model.policy.lstm_actor, model.policy.lstm_critic):
        lstm.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape[0]))
    model.train()
    batches = model.n_epochs * -(-STEPS * ROWS // model.batch_size)
    assert len(calls) == 2 * batches
    assert min(calls) > 1


def test_an_agent_goes_from_one_policy_to_the_other():
    model = agent(MlpLstmPolicy)
    model.learn(STEPS * ROWS)
    file = io.BytesIO()
    model.save(file)
    observations = model.get_env().reset()
    state = tuple(torch.randn(1, ROWS, 12).numpy() for _ in range(2))
    expected, ends = model.predict(observations, state, [False, True, False], deterministic=True)
    for policy in (None, "MlpLstmPolicy"):
        file.seek(0)
        kind = {} if policy is None else {"policy_class": RecurrentPPO.policy_aliases[policy]}
        again = RecurrentPPO.load(file, device="cpu", custom_objects=kind)
        assert isinstance(again.policy, MlpLstmPolicy) == (policy is None)
        actions, their_ends = again.predict(observations, state, [False, True, False], deterministic=True)
        assert (actions == expected).all()
        for end, other in zip(ends, their_ends, strict=True):
            assert end == pytest.approx(other, rel=0, abs=1e-5)


def test_an_lstm_that_cannot_be_swapped_is_refused():
    with pytest.raises(ValueError, match=r"lstm_actor: .* its dtype is torch\.bfloat16"):
        agent(MlpLstmPolicy, lstm_kwargs={"dtype": torch.bfloat16})


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "latchwork.torch.sb3_contrib")
    monkeypatch.setitem(sys.modules, "sb3_contrib.common.recurrent", None)
    with pytest.raises(ImportError, match="pip install sb3-contrib"):
        import latchwork.torch.sb3_contrib  # noqa: F401
