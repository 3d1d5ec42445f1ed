"""The variants of the cell: gradients by finite differences, chains and training."""

import copy

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from differences import Objective, objective
from layers import directions_of, normal
from variants import EVERY, PLAIN, RANDOM, forward_only

SMALL = {"input_size": 2, "hidden_size": 3}
RESET = np.array([[0, 1], [1, 0], [0, 0], [1, 0]], dtype=bool)


def small(options):
    """The options for layers of three units."""
    return options | ({"proj_size": 2} if "proj_size" in options else {})


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("start", [True, False])
def test_gradients_equal_finite_differences(name, start):
    options = SMALL | small(PLAIN[name])
    objective(options, steps=4, rows=2, start=start).check()
    objective(options, steps=4, rows=2, start=start, lengths=[3, 4], reset=RESET).check()


@pytest.mark.parametrize("name", RANDOM)
def test_gradients_of_training_equal_finite_differences(name):
    options = SMALL | small(RANDOM[name])
    call = {"steps": 4, "rows": 2, "training": True, "mask_seed": 6}
    objective(options, **call).check()
    objective(options, **call, start=False, lengths=[4, 2], reset=RESET).check()


def network_of(kind, options, dtype="float64", features=2):
    """A chain whose LSTM has these options, with large random weights."""
    first = lw.Embedding(5, 3, dtype=dtype) if kind == "tokens" else lw.Linear(2, 3, dtype=dtype)
    lstm = lw.LSTM(3, 3, **small(options), dtype=dtype)
    size = directions_of(lstm) * (lstm.proj_size or 3)
    modules = [first, lstm]
    if kind == "two LSTMs":
        modules.append(lw.LSTM(size, 3, peephole=True, learn_start_state=True, dtype=dtype))
        size = 3
    if kind == "last":
        modules.append(lw.Last())
    network = lw.Network([*modules, lw.Linear(size, features, dtype=dtype)])
    for place, (name, value) in enumerate(network.parameters.items()):
        network.parameters[name] = 0.6 * normal(50 + place, value.shape, dtype)
    return network


def input_of(kind, dtype="float64", steps=4, rows=2):
    if kind == "tokens":
        return np.random.RandomState(1).randint(0, 5, (steps, rows))
    return normal(1, (steps, rows, 2), dtype)


# Each variant runs in one kind of network; the other kinds are slow tests.
KINDS = ("values", "tokens", "last", "two LSTMs")
NETWORK_CASES = [
    pytest.param(kind, name, marks=() if place % 4 == at else pytest.mark.slow)
    for place, name in enumerate(EVERY)
    for at, kind in enumerate(KINDS)
]


@pytest.mark.parametrize(("kind", "name"), NETWORK_CASES)
def test_gradients_of_networks_equal_finite_differences(kind, name):
    network = network_of(kind, EVERY[name])
    training = name.startswith("random")
    Objective(network, input_of(kind), lengths=[4, 3], reset=RESET, training=training, mask_seed=8).check()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", ["values", "tokens", "two LSTMs"])
def test_networks_have_the_variants_of_their_layers(name, kind):
    """A chain is its modules one after another, and its stream the same."""
    network = network_of(kind, forward_only(EVERY[name]), "float32")
    x = input_of(kind, "float32", 6, 4)
    reset = np.random.RandomState(2).random_sample((6, 4)) < 0.3
    output, state = network(x, reset=reset)
    value = x
    for module in network:
        value = module(value, reset=reset)[0] if isinstance(module, lw.LSTM) else alone(module, value)
    assert_same_bits(output, value)
    stream = network.stream(4)
    for step in range(6):
        assert_same_bits(stream.step(np.ascontiguousarray(x[step]), reset=reset[step]), output[step])
    assert_same_bits(stream.state, state)


def alone(module, value):
    return lw.Network([copy.deepcopy(module)])(value)[0]


@pytest.mark.parametrize("name", EVERY)
def test_training_reduces_the_loss(name, dtype):
    lstm = lw.LSTM(3, 8, **EVERY[name], seed=1, dtype=dtype)
    head = lw.Linear(directions_of(lstm) * (lstm.proj_size or 8), 2, seed=2, dtype=dtype)
    network = lw.Network([lstm, head])
    trainer = lw.Trainer(network, loss="squared_error", optimizer=lw.optim.Adam(lr=0.01), clip_norm=1.0, seed=3)
    x, before = normal(1, (8, 16, 3), dtype), network.state_dict()
    y = np.cumsum(np.tanh(x[..., :2]), axis=0) / 3
    lengths = np.random.RandomState(4).randint(4, 9, 16)
    first = trainer.evaluate(x, y, lengths=lengths)[0]
    for _ in range(40):
        assert np.isfinite(trainer.step(x, y, lengths=lengths)[0])
    assert trainer.evaluate(x, y, lengths=lengths)[0] < 0.8 * first
    for parameter, value in network.parameters.items():
        assert np.isfinite(value).all(), parameter
        assert not np.array_equal(value, before[parameter]), parameter


@pytest.mark.parametrize("name", EVERY)
def test_a_language_model_is_trained_window_by_window(name):
    """The chain of a language model, each window starting with the state in which the one before ended."""
    # With cell_clip, because some activations have no bound and the state would grow from window to window.
    lstm = lw.LSTM(4, 8, **({"cell_clip": 2.0} | forward_only(EVERY[name])), seed=1)
    network = lw.Network([lw.Embedding(5, 4, seed=2), lstm, lw.Linear(lstm.proj_size or 8, 5, seed=3)])
    trainer = lw.Trainer(network, loss="cross_entropy", optimizer=lw.optim.Adam(lr=0.02), seed=4)
    text = (np.arange(6 * 80 + 1)[:, None] + np.array([0, 2, 3])) % 5
    losses, state = [], None
    for at in range(0, 6 * 80, 6):
        loss, state = trainer.step(text[at : at + 6], text[at + 1 : at + 7], state)
        losses.append(loss)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert all(np.isfinite(value).all() for value in network.parameters.values())
