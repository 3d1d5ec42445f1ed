"""The activation layer, softmax over features, and the loss that a network with it at its end cannot have."""

import copy
import math
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from differences import Objective
from layers import normal, random_lstm

SHAPES = [(1,), (7,), (3, 17), (2, 0, 31), (4, 2, 5), (3, 0)]


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# Each as its formula, in NumPy.
FORMULAS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    ("leaky_relu", 0.25): lambda x: np.where(x < 0, 0.25 * x, x),
    ("affine", 0.5, -1.0): lambda x: 0.5 * x - 1,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "selu": lambda x: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(x), x),
    "exponential": np.exp,
    "softmax": lambda x: softmax(x) if x.shape[-1] else x,
    "log_softmax": lambda x: np.log(softmax(x)) if x.shape[-1] else x,
}


@pytest.mark.parametrize("activation", FORMULAS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_computes_the_formula(activation, shape, dtype):
    layer = lw.Activation(activation)
    x = normal(1, shape, dtype) * 3
    y = layer(x)
    assert y.dtype == dtype
    assert_close(y, FORMULAS[activation](x.astype("float64")), 1e-6 if dtype == "float32" else 1e-14)
    assert_same_bits(layer(np.swapaxes(x, 0, -1)), layer(np.ascontiguousarray(np.swapaxes(x, 0, -1))))
    if np.prod(shape):
        linear = lw.Linear(shape[-1], shape[-1], bias=False, activation=activation, dtype=dtype)
        linear.parameters["weight"] = np.eye(shape[-1])
        assert_close(linear(x), y, 0)


@pytest.mark.parametrize("activation", FORMULAS, ids=str)
def test_its_gradient_equals_finite_differences(activation):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64")
    layers = [lw.Activation(activation), lstm, lw.Activation(activation), lw.Linear(5, 4, dtype="float64", seed=1)]
    network = lw.Network([*layers, lw.Activation(activation)])
    Objective(network, normal(1, (6, 2, 3), "float64"), lengths=[6, 4]).check()


@pytest.mark.parametrize("activation", ["gelu", "softmax", "identity"])
def test_streams_last_steps_and_members_give_the_same_bits(activation, dtype):
    def layers():
        lstm = lw.LSTM(3, 5, dtype=dtype, seed=1)
        return [lstm, lw.Activation(activation), lw.Linear(5, 4, dtype=dtype, seed=2), lw.Activation(activation)]

    network = lw.Network(layers())
    x = normal(1, (6, 4, 3), dtype)
    output, _ = network(x)
    assert output.dtype == dtype
    stream = network.stream(4)
    for step, expected in zip(x, output, strict=True):
        assert_same_bits(stream.step(step), expected)
    assert_same_bits(lw.Network([*layers(), lw.Last()])(x)[0], output[-1])
    several = lw.Network(layers(), members=3)
    assert_same_bits(several(x)[0][0], output)
    assert_same_bits(several.member(2)(x)[0], several(x)[0][2])
    lengths = [6, 0, 1, 3]
    ragged, _ = network(x, lengths=lengths)
    for row, length in enumerate(lengths):
        assert_same_bits(ragged[:length, row], output[:length, row])
        assert not ragged[length:, row].any()


def test_a_last_behind_it_keeps_the_directions_apart():
    lstm = lw.LSTM(3, 5, bidirectional=True, seed=1)
    x = normal(1, (6, 4, 3))
    hidden, (h_n, _) = lstm(x)
    expected = lw.Activation("relu")(np.concatenate(h_n, axis=-1))
    assert_same_bits(lw.Network([copy.deepcopy(lstm), lw.Activation("relu"), lw.Last()])(x)[0], expected)
    # Softmax mixes the directions of a step, so that there they stay together.
    mixed = lw.Network([copy.deepcopy(lstm), lw.Activation("softmax"), lw.Last()])(x)[0]
    assert_same_bits(mixed, lw.Activation("softmax")(hidden[-1]))


@pytest.mark.parametrize("activation", ["gelu", ("hard_sigmoid", 0.25, 0.5), "identity"])
def test_copies_files_and_repr(activation, tmp_path):
    layer = lw.Activation(activation)
    assert layer.activation == activation
    layer.save(tmp_path / "layer.safetensors")
    for other in (
        lw.load(tmp_path / "layer.safetensors"),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        eval(repr(layer), {"Activation": lw.Activation}),
    ):
        assert type(other) is lw.Activation
        assert repr(other) == repr(layer)
    network = lw.Network([lw.Linear(3, 4, activation="softmax"), layer])
    network.save(tmp_path / "network.safetensors")
    x = normal(1, (2, 3))
    for other in (lw.load(tmp_path / "network.safetensors"), pickle.loads(pickle.dumps(network))):
        assert repr(other) == repr(network)
        assert_same_bits(other(x[np.newaxis])[0], network(x[np.newaxis])[0])
    with pytest.raises(AttributeError, match="no dtype of its own"):
        _ = layer.dtype


def test_defaults_of_coefficients_are_filled_in():
    assert lw.Activation("elu").activation == ("elu", 1.0)
    assert repr(lw.Activation(("scaled_tanh", 2.0))) == "Activation(('scaled_tanh', 2.0, 1.0))"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lw.Activation(), TypeError, "activation"),
        (lambda: lw.Activation(3), TypeError, r"activation: expected a name or \(name, alpha, beta\), got int"),
        (lambda: lw.Activation(np.tanh), TypeError, "activation: expected .* cannot call Python"),
        (lambda: lw.Activation("softmax")(3.0), ValueError, r"x: expected \(..., features\), got \(\)"),
        (lambda: lw.Activation("softmax")(["a"]), TypeError, "x: expected"),
        (lambda: lw.Network([lw.Activation("relu")]), ValueError, "layers: expected at least one .* how many features"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_cross_entropy_refuses_a_network_that_ends_in_softmax():
    message = (
        "^loss: expected another one for a network that ends in softmax, because cross_entropy takes logits and "
        "applies the softmax itself, got cross_entropy$"
    )
    for end in (
        [lw.Linear(3, 4, activation="softmax")],
        [lw.Linear(3, 4), lw.Activation("softmax")],
        [lw.Linear(3, 4, activation="softmax"), lw.Mean(), lw.Dropout(0.5)],
        [lw.Linear(3, 4, activation="softmax"), lw.Reverse()],
    ):
        network = lw.Network(end)
        with pytest.raises(ValueError, match=message):
            lw.Trainer(network, "cross_entropy", lw.optim.Adam())
        lw.Trainer(network, "squared_error", lw.optim.Adam())


def test_cross_entropy_of_logarithms_of_a_softmax_is_that_of_the_logits():
    x, labels = normal(1, (6, 2, 3)), np.arange(12).reshape(6, 2) % 4
    losses = []
    for end in ([], [lw.Activation("log_softmax")]):
        network = lw.Network([lw.Linear(3, 4, seed=1), *end])
        trainer = lw.Trainer(network, "cross_entropy", lw.optim.SGD(lr=0.5))
        losses.append([trainer.step(x, labels)[0] for _ in range(5)])
    assert_close(losses[1], losses[0], 1e-6)
    assert losses[0][4] < losses[0][0]
