"""Mean, Max and Dropout, Linear's activations and initial scale, and recordings of single layers."""

import copy
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from differences import Objective
from layers import normal, random_lstm

STEPS, ROWS = 6, 4
LENGTHS = [6, 3, 0, 1]
SEED = 5
POOLINGS = {"mean": (lw.Mean, np.mean), "max": (lw.Max, np.max)}
ACTIVATIONS = [
    None, "sigmoid", "tanh", "relu", ("hard_sigmoid", 0.25, 0.4), ("affine", 0.5, -1.0), ("leaky_relu", 0.2),
    ("thresholded_relu", 0.5), ("scaled_tanh", 1.5, 0.75), ("elu", 0.5), "softsign", "softplus",
    "selu", "silu", "gelu", "gelu_tanh", "exponential",
]  # fmt: skip


def chain(pooling, dtype="float32", members=1, **options):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype=dtype, **options)
    features = 5 * (2 if lstm.bidirectional else 1)
    head = lw.Linear(features, 2, activation="softplus", dtype=dtype, seed=2)
    return lw.Network([lw.Dropout(0.25), lstm, lw.Dropout(0.5), pooling, head, lw.Dropout(0.25)], members)


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_counts_valid_steps(name, dtype):
    layer, function = POOLINGS[name]
    x = normal(1, (STEPS, ROWS, 3), dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-15
    assert_close(layer()(x), function(x, axis=0), tolerance)
    assert_close(layer()(x[:, 0]), function(x[:, 0], axis=0), tolerance)
    padded = np.array(x)
    expected = np.zeros((ROWS, 3), dtype)
    for row, length in enumerate(LENGTHS):
        padded[length:, row] = np.nan
        if length:
            expected[row] = function(x[:length, row], axis=0)
    result = layer()(padded, LENGTHS)
    assert result.dtype == dtype
    assert_close(result, expected, tolerance)
    assert_same_bits(layer()(x[:0]), np.zeros((ROWS, 3), dtype))
    assert_same_bits(layer()(x[:0, 0]), np.zeros(3, dtype))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_network_pools_as_the_layer_alone(name, dtype):
    layer, _ = POOLINGS[name]
    lstm = random_lstm(input_size=3, hidden_size=5, bidirectional=True, dtype=dtype)
    x = normal(1, (STEPS, ROWS, 3), dtype)
    hidden, state = lstm(x, lengths=LENGTHS)
    network = lw.Network([lstm, layer()])
    output, end = network(x, lengths=LENGTHS)
    assert_same_bits(output, layer()(hidden, LENGTHS))
    assert_same_bits(tuple(end), tuple(state))
    assert_same_bits(network(x[:, 0])[0], output[0])
    assert list(network.trace(x)) == ["0.l0", "0.l0_reverse"]


@pytest.mark.parametrize("name", POOLINGS)
def test_a_sequence_counts_from_its_last_reset_on(name, dtype):
    layer, _ = POOLINGS[name]
    network = lw.Network([random_lstm(input_size=3, hidden_size=5, dtype=dtype), layer()])
    x = normal(1, (STEPS, ROWS, 3), dtype)
    reset = np.zeros((STEPS, ROWS), bool)
    reset[[1, 4], 0] = reset[2, 1] = reset[5, 3] = True
    output, _ = network(x, reset=reset, lengths=[6, 6, 6, 5])
    for row, begin in enumerate((4, 2, 0, 0)):
        assert_same_bits(output[row], network(x[begin : 5 if row == 3 else None, row])[0])


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("members", [1, 3])
def test_a_stream_gives_what_is_so_far(name, members, dtype):
    network = chain(POOLINGS[name][0](), dtype) if members == 1 else None
    if network is None:
        lstm, head = lw.LSTM(3, 5, dtype=dtype, seed=1), lw.Linear(5, 2, dtype=dtype, seed=2)
        network = lw.Network([lstm, POOLINGS[name][0](), head], members)
    x = normal(1, (STEPS, ROWS, 3), dtype)
    stream = network.stream(ROWS)
    for _ in range(2):
        for count, step in enumerate(x, start=1):
            assert_same_bits(stream.step(step), network(x[:count])[0])
        stream.reset()
    stream.step(x[0])
    stream.state = stream.state
    assert_same_bits(stream.step(x[1]), network(x[1:2], network(x[:1])[1])[0])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [*POOLINGS, "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_equal_finite_differences(name, bidirectional, training):
    layer = lw.Last if name == "last" else POOLINGS[name][0]
    network = chain(layer(), "float64", bidirectional=bidirectional)
    options = {"lengths": LENGTHS, "training": training, "mask_seed": SEED}
    states = 2 if bidirectional else 1
    start = tuple(normal(seed, (states, ROWS, 5), "float64") for seed in (3, 4))
    Objective(network, normal(1, (STEPS, ROWS, 3), "float64"), start, **options).check()


def test_the_gradient_of_a_maximum_goes_to_the_first_that_has_it():
    network = lw.Network([lw.Linear(1, 1, bias=False), lw.Max()])
    network.parameters["0.weight"] = [[1.0]]
    x = np.array([[1.0], [3.0], [3.0], [2.0], [3.0]])
    tape = network.record(x)
    assert_same_bits(tape.backward([7.0]).x, np.array([[0], [7], [0], [0], [0]], np.float32))
    nan = network.record(np.array([[1.0], [np.nan], [9.0], [np.nan]]))
    assert np.isnan(nan.output).all()
    assert_same_bits(nan.backward([7.0]).x, np.array([[0], [7], [0], [0]], np.float32))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_do_not_depend_on_threads_or_other_rows(threads, dtype):
    lstm = random_lstm(input_size=3, hidden_size=40, dtype=dtype)
    network = lw.Network([lstm, lw.Dropout(0.5), lw.Mean(), lw.Linear(40, 3, dtype=dtype, seed=1)])
    x = normal(1, (20, 30, 3), dtype)
    lw.set_num_threads(1)
    expected = network.record(x, mask_seed=SEED)
    lw.set_num_threads(threads)
    actual = network.record(x, mask_seed=SEED)
    assert_same_bits(actual.output, expected.output)
    d_output = normal(2, expected.output.shape, dtype)
    assert_same_bits(actual.backward(d_output).parameters.flat, expected.backward(d_output).parameters.flat)
    assert_same_bits(network.record(x[:, :7], mask_seed=SEED).output, expected.output[:7])


def test_dropout_drops_in_recordings_alone():
    network = lw.Network([lw.Dropout(0.25), lw.Linear(100, 100, bias=False), lw.Dropout(0.75)])
    network.parameters["1.weight"] = np.eye(100)
    x = np.ones((50, 20, 100))
    assert_same_bits(network(x)[0], x.astype(np.float32))
    assert_same_bits(network.record(x, training=False).output, x.astype(np.float32))
    assert_same_bits(network.stream(20).step(x[0].astype(np.float32)), x[0].astype(np.float32))
    tape = network.record(x, lengths=[50] * 19 + [3])
    output = tape.output[:, :19]
    kept = 0.75 * 0.25
    assert abs(np.mean(output != 0) - kept) < 5 * np.sqrt(kept * (1 - kept) / output.size)
    assert_close(output[output != 0], np.full((output != 0).sum(), 1 / kept), 1e-6)
    assert not tape.output[3:, 19].any()
    gradients = tape.backward(np.ones_like(tape.output))
    assert_same_bits(gradients.x, tape.output)  # of a linear map
    assert not np.array_equal(network.record(x).output, tape.output)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_everything(p):
    network = lw.Network([lw.LSTM(3, 5, seed=1), lw.Dropout(p)])
    x = normal(1, (STEPS, ROWS, 3))
    tape = network.record(x)
    expected = network[0](x)[0] * (1 - p)
    assert_same_bits(np.abs(tape.output), np.abs(expected).astype(np.float32))
    assert bool(tape.backward(np.ones_like(tape.output)).x.any()) is (p == 0)


def test_training_drops():
    def weights(p):
        network = lw.Network([lw.LSTM(3, 5, seed=1), lw.Dropout(p), lw.Linear(5, 2, seed=2)])
        trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.1), seed=3)
        for _ in range(3):
            trainer.step(normal(1, (STEPS, ROWS, 3)), normal(2, (STEPS, ROWS, 2)))
        return network.state_dict()

    assert_same_bits(weights(0.5), weights(0.5))
    assert not np.array_equal(weights(0.5)["2.weight"], weights(0.0)["2.weight"])


def test_members_drop_as_networks_of_their_own():
    network = lw.Network([lw.LSTM(3, 5, seed=1), lw.Dropout(0.5), lw.Max(), lw.Linear(5, 2, seed=2)], members=3)
    x = normal(1, (STEPS, ROWS, 3))
    tape = network.record(x, mask_seed=SEED, lengths=LENGTHS)
    for member in range(3):
        alone = network.member(member).record(x, mask_seed=SEED + member, lengths=LENGTHS)
        assert_same_bits(tape.output[member], alone.output)


def test_layers_without_parameters_alone():
    x = normal(1, (STEPS, ROWS, 3), "float64")
    for layer in (lw.Mean(), lw.Max(), lw.Last(), lw.Dropout(0.9)):
        assert layer(x).dtype == np.float64
        assert layer(x.astype(np.float16)).dtype == np.float32
        assert layer(x.tolist()).dtype == np.float64
        assert dict(layer.parameters) == {}
        with pytest.raises(AttributeError, match="no dtype of its own"):
            _ = layer.dtype
        for wrong, error in (("x", TypeError), (np.zeros(3, complex), TypeError)):
            with pytest.raises(error, match=r"x: expected"):
                layer(wrong)
    assert_same_bits(lw.Dropout(0.9)(x), x)
    assert not np.shares_memory(lw.Dropout(0.9)(x), x)
    for layer in (lw.Mean(), lw.Max()):
        for arguments in ((np.zeros(3),), (np.zeros((2, 3, 4, 5)),), (x, [1, 2]), (x, [7] * ROWS), (x[:, 0], [3])):
            with pytest.raises(ValueError, match=r"(x|lengths): expected.*got"):
                layer(*arguments)
        expected = layer(x)
        for laid in (np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, axis=2)[:, :, ::2]):
            assert_same_bits(layer(laid), expected)


@pytest.mark.parametrize("layer", [lw.Mean(), lw.Max(), lw.Dropout(0.25)], ids=repr)
def test_layers_are_copied_and_saved(layer, tmp_path):
    head = lw.Linear(5, 2, activation=("elu", 0.5), init_scale=0.5, seed=2)
    network = lw.Network([lw.LSTM(3, 5, seed=1), copy.deepcopy(layer), head])
    for module in (layer, network):
        module.save(tmp_path / "model.safetensors")
        for other in (
            copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module)),
            lw.load(tmp_path / "model.safetensors"),
        ):  # fmt: skip
            assert type(other) is type(module)
            assert repr(other) == repr(module)
            assert other._config == module._config
    assert repr(eval(repr(layer), {type(layer).__name__: type(layer)})) == repr(layer)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_wrong_share_is_refused(p):
    with pytest.raises(ValueError, match="p: expected 0 to 1"):
        lw.Dropout(p)
    with pytest.raises(TypeError, match="p: expected float"):
        lw.Dropout("0.5")


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_linear_has_the_activations_of_the_cell(activation, dtype, tmp_path):
    name, *coefficients = (activation,) if isinstance(activation, str) else activation or ("identity",)
    linear = lw.Linear(3, 4, activation=activation, dtype=dtype, seed=1)
    assert linear.activation == activation
    bare = lw.Linear(3, 4, dtype=dtype, seed=1)
    x = normal(1, (9, 3), dtype) * 3
    expected = bare(x)
    if activation is not None:
        # A cell whose candidate is multiplied by gates that are 1 shows the same activation.
        one = ("affine", 0.0, 1.0)
        options = {"input": one, "forget": one, "output": one, "candidate": activation, "cell": ("affine", 1.0, 0.0)}
        lstm = lw.LSTM(3, 4, activations=options, dtype=dtype)
        with lstm.edit() as values:
            for value in values.values():
                value[...] = 0
            values["weight_ih_l0"][8:12], values["bias_ih_l0"][8:12] = bare.state_dict().values()
        expected = lstm(x[np.newaxis])[0][0]
    assert_close(linear(x), expected, 1e-6 if dtype == "float32" else 1e-14, name)
    linear.save(tmp_path / "model.safetensors")
    for other in (
        lw.load(tmp_path / "model.safetensors"),
        copy.deepcopy(linear),
        eval(repr(linear), {"Linear": lw.Linear}),
    ):
        assert other.activation == activation
        assert repr(other) == repr(linear)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_linear_activations_are_differentiated(activation):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64")
    network = lw.Network([lstm, lw.Linear(5, 4, activation=activation, dtype="float64", seed=1)])
    Objective(network, normal(1, (STEPS, 2, 3), "float64"), lengths=[6, 4]).check()


def test_a_default_coefficient_may_be_left_out():
    assert lw.Linear(3, 4, activation="elu").activation == ("elu", 1.0)
    assert lw.Linear(3, 4, activation=("scaled_tanh", 2.0)).activation == ("scaled_tanh", 2.0, 1.0)
    assert lw.Linear(3, 4, activation="identity").activation is None


@pytest.mark.parametrize(
    ("activation", "error"),
    [("mish", ValueError), (("relu", 1.0), ValueError), (("elu", -1.0), ValueError), ((), ValueError), (3, TypeError)],
)
def test_a_wrong_activation_is_refused(activation, error):
    with pytest.raises(error, match=r"activation.*expected.*got"):
        lw.Linear(3, 4, activation=activation)


def test_init_scale_multiplies_the_initial_parameters(dtype):
    plain = lw.Linear(50, 40, dtype=dtype, seed=1)
    assert plain.init_scale == 1.0
    for scale in (0.0, 0.01, 3.0):
        scaled = lw.Linear(50, 40, dtype=dtype, seed=1, init_scale=scale)
        for name, value in scaled.parameters.items():
            assert_close(value, plain.parameters[name] * scale, 1e-6)
            assert np.abs(value).max() <= scale / np.sqrt(50) * (1 + 1e-6)
        assert f"init_scale={scale}" in repr(scaled)
    network = lw.Network([lw.Linear(5, 4, seed=1, init_scale=0.01)], members=2)
    assert np.abs(network.parameters["0.weight"]).max() <= 0.01 / np.sqrt(5)
    for scale, error in ((-1.0, ValueError), (float("inf"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="init_scale: expected"):
            lw.Linear(3, 4, init_scale=scale)
    lw.Network.stack([lw.Network([lw.Linear(3, 4)]), lw.Network([lw.Linear(3, 4, init_scale=2.0)])])


@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (2, 0, 3)])
def test_linear_is_recorded_alone(shape, dtype):
    linear = lw.Linear(3, 4, activation="tanh", dtype=dtype, seed=1)
    x = normal(1, (*shape, 3), dtype)
    tape = linear.record(x)
    assert_same_bits(tape.output, linear(x))
    assert tape.state == ()
    assert tape.mask_seed is None
    d_output = normal(2, (*shape, 4), dtype)
    gradients = tape.backward(d_output)
    network = lw.Network([copy.deepcopy(linear)])
    expected = network.record(x.reshape(1, -1, 3)).backward(d_output.reshape(1, -1, 4))
    assert_same_bits(gradients.x, expected.x.reshape(x.shape))
    assert_same_bits(gradients.parameters.flat, expected.parameters.flat)
    assert gradients.state == ()
    twice = tape.backward(d_output, (), into=gradients, input_gradient=False)
    assert twice.x is None
    assert_close(twice.parameters["bias"], 2 * expected.parameters["0.bias"], 1e-6)
    lw.optim.SGD(linear, lr=0.1).step(gradients)
    with pytest.raises(ValueError, match="d_output: expected"):
        tape.backward(np.zeros((*shape, 5)))
    with pytest.raises(TypeError, match="d_state: expected None"):
        tape.backward(d_output, (np.zeros(3), np.zeros(3)))


def test_an_embedding_is_recorded_alone(dtype):
    embedding = lw.Embedding(5, 3, dtype=dtype, seed=1)
    tokens = np.array([[0, 4, 4], [4, 2, 0]])
    tape = embedding.record(tokens)
    assert_same_bits(tape.output, embedding(tokens))
    d_output = normal(1, (2, 3, 3), dtype)
    gradients = tape.backward(d_output)
    assert gradients.x is None
    expected = np.zeros((5, 3), dtype)
    np.add.at(expected, tokens, d_output)
    assert_close(gradients.parameters["weight"], expected, 1e-6)
    with pytest.raises(ValueError, match="tokens: expected"):
        embedding.record([5])
    copied = pickle.loads(pickle.dumps(embedding))
    assert_same_bits(copied.record(tokens).output, tape.output)


def test_layers_of_several_members_are_not_recorded_alone():
    network = lw.Network([lw.Embedding(5, 3), lw.LSTM(3, 4), lw.Linear(4, 2)], members=2)
    with pytest.raises(ValueError, match="Embedding: expected a layer of one member"):
        network[0].record([0])
    with pytest.raises(ValueError, match="Linear: expected a layer of one member"):
        network[2].record(np.zeros((1, 4)))
