"""record and backward: gradients are right."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from configurations import CONFIGURATIONS, FORWARD_NAMES, numbers, sample, sample_limit
from differences import objective
from layers import answer, normal, random_lstm

RESET = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 1]], dtype=bool)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({"bias": False}, {}),
        ({"hidden_size": 1}, {}),
        ({"num_layers": 2}, {}),
        ({"bidirectional": True}, {}),
        ({"proj_size": 2}, {}),
        ({"num_layers": 2, "bidirectional": True, "proj_size": 3}, {}),
        ({"batch_first": True}, {"lengths": [5, 2, 4], "reset": RESET.T}),
        ({}, {"batched": False}),
        ({}, {"batched": False, "reset": RESET[:, 0]}),
        ({}, {"lengths": [5, 2, 4]}),
        ({}, {"lengths": [0, 1, 5]}),
        ({"num_layers": 2, "bidirectional": True}, {"lengths": [0, 1, 4]}),
        ({"proj_size": 2}, {"lengths": [3, 0, 4]}),
        ({}, {"reset": RESET}),
        ({"num_layers": 2, "bidirectional": True}, {"reset": RESET}),
        ({"num_layers": 2, "bidirectional": True, "proj_size": 3}, {"reset": RESET, "lengths": [5, 3, 4]}),
        ({"num_layers": 2, "reverse": True}, {"reset": RESET, "lengths": [5, 3, 0]}),
        ({"num_layers": 3, "dropout": 0.4}, {"training": True, "mask_seed": 5}),
        (
            {"num_layers": 2, "dropout": 0.4, "bidirectional": True},
            {"training": True, "mask_seed": 6, "lengths": [5, 2, 0]},
        ),
    ],
)
def test_gradients_equal_finite_differences(options, call):
    objective({"input_size": 3, "hidden_size": 4} | options, **call).check()


@pytest.mark.parametrize("hidden_size", [7, 9, 17])
def test_gradients_equal_finite_differences_across_panels(hidden_size):
    options = {"input_size": 5, "hidden_size": hidden_size, "bidirectional": True, "proj_size": hidden_size // 2}
    objective(options, steps=4, rows=2, lengths=[4, 3]).check()


GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def test_gradients_equal_golden(golden, dtype):
    answers = golden("lstm")
    for configuration in CONFIGURATIONS:
        actual = answer(configuration, numbers(configuration), dtype)
        expected = {key.partition(".")[2] for key in answers if key.startswith(f"{configuration.index}.")}
        assert set(actual) == expected
        for name, value in actual.items():
            picked, wanted = sample(value, sample_limit(name)), answers[f"{configuration.index}.{name}"]
            assert value.dtype == dtype
            assert_close(picked, wanted, GRADIENT_TOLERANCE[dtype], f"{name} of {configuration}")


def test_gradients_equal_live_torch(torch_peer, dtype):
    for configuration in CONFIGURATIONS:
        drawn = numbers(configuration)
        expected = torch_peer.answer(configuration, drawn, getattr(torch_peer.torch, dtype))
        actual = answer(configuration, drawn, dtype)
        assert set(actual) == set(expected)
        for name in set(expected) - set(FORWARD_NAMES):
            assert_close(actual[name], expected[name], GRADIENT_TOLERANCE[dtype], f"{name} of {configuration}")


@pytest.fixture
def recording(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, dtype=dtype)
    return lstm, lstm.record(normal(1, (6, 4, 3), dtype), lengths=[6, 3, 0, 1])


def everything(gradients):
    return [gradients.x, *gradients.state, *gradients.parameters.values()]


def test_backward_may_be_called_again(recording, dtype):
    _, tape = recording
    d_output = normal(2, tape.output.shape, dtype)
    first = [np.array(part) for part in everything(tape.backward(d_output))]
    tape.backward(normal(3, tape.output.shape, dtype))
    assert_same_bits(everything(tape.backward(d_output)), first)


def test_gradients_of_end_states_default_to_zero(recording, dtype):
    _, tape = recording
    d_output = normal(2, tape.output.shape, dtype)
    zeros = tuple(np.zeros_like(part) for part in tape.state)
    assert_same_bits(everything(tape.backward(d_output)), everything(tape.backward(d_output, zeros)))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradient_by_the_input_may_be_left_out(layers, bidirectional):
    rng = np.random.default_rng(0)
    lstm = lw.LSTM(3, 7, layers, bidirectional=bidirectional, seed=0)
    tape = lstm.record(rng.standard_normal((5, 4, 3)), lengths=[5, 1, 0, 3])
    d_output = rng.standard_normal(tape.output.shape)
    whole, part = tape.backward(d_output), tape.backward(d_output, input_gradient=False)
    assert part.x is None
    assert_same_bits(part.parameters.flat, whole.parameters.flat)
    for ours, others in zip(part.state, whole.state, strict=True):
        assert_same_bits(ours, others)


def test_gradient_by_the_input_may_be_left_out_for_several_members():
    rng = np.random.default_rng(0)
    network = lw.Network([lw.LSTM(2, 5, seed=0)], members=3)
    tape = network.record(rng.standard_normal((4, 2, 2)))
    d_output = rng.standard_normal(tape.output.shape)
    whole, part = tape.backward(d_output), tape.backward(d_output, input_gradient=False)
    assert part.x is None
    assert_same_bits(part.parameters.flat, whole.parameters.flat)


def test_into_adds_the_parameters(recording, dtype):
    _, tape = recording
    one, other = normal(2, tape.output.shape, dtype), normal(3, tape.output.shape, dtype)
    first, second = tape.backward(one), tape.backward(other)
    total = tape.backward(one)
    again = tape.backward(other, into=total)
    assert np.shares_memory(again.parameters["bias_ih_l0"], total.parameters["bias_ih_l0"])
    assert_same_bits(again.x, second.x)
    for name, value in total.parameters.items():
        assert_close(value, first.parameters[name] + second.parameters[name], 1e-5 if dtype == "float32" else 1e-13)


def test_gradients_use_the_weights_of_the_recording(recording, dtype):
    lstm, tape = recording
    d_output = normal(2, tape.output.shape, dtype)
    output = np.array(tape.output)
    first = [np.array(part) for part in everything(tape.backward(d_output))]
    with lstm.edit() as parameters:
        for name in parameters:
            parameters[name] *= 0
    assert_same_bits(everything(tape.backward(d_output)), first)
    assert_same_bits(tape.output, output)


def test_a_tape_keeps_its_instruction_set(dtype):
    names = lw.cpu_info()["available_isas"]
    lstm = random_lstm(input_size=3, hidden_size=9, dtype=dtype)
    lw.set_isa(names[-1])
    tape = lstm.record(normal(1, (6, 4, 3), dtype))
    d_output = normal(2, tape.output.shape, dtype)
    first = [np.array(part) for part in everything(tape.backward(d_output))]
    lw.set_isa(names[0])
    assert_same_bits(everything(tape.backward(d_output)), first)


def test_gradients_use_the_input_of_the_recording(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype=dtype)
    x, start = normal(1, (6, 4, 3), dtype), (normal(2, (1, 4, 5), dtype), normal(3, (1, 4, 5), dtype))
    tape = lstm.record(x, start)
    d_output = normal(4, tape.output.shape, dtype)
    first = [np.array(part) for part in everything(tape.backward(d_output))]
    x[:] = 0
    start[0][:] = 0
    start[1][:] = 0
    assert_same_bits(everything(tape.backward(d_output)), first)


def test_a_tape_owns_its_output(recording, dtype):
    lstm, tape = recording
    output = np.array(tape.output)
    for seed in range(3):
        later = lstm.record(normal(seed + 5, (6, 4, 3), dtype))
        later.backward(np.array(later.output))
    assert_same_bits(tape.output, output)


def test_gradients_outlive_their_tape(recording, dtype):
    lstm, tape = recording
    d_output = normal(2, tape.output.shape, dtype)
    gradients = tape.backward(d_output)
    kept = [np.array(part) for part in everything(gradients)]
    del tape
    lstm.record(normal(9, (6, 4, 3), dtype)).backward(d_output)
    assert_same_bits(everything(gradients), kept)


def test_parameter_gradients_are_contiguous_and_named_as_parameters(recording, dtype):
    lstm, tape = recording
    gradients = tape.backward(normal(2, tape.output.shape, dtype))
    assert list(gradients.parameters) == list(lstm.parameters)
    values = list(gradients.parameters.values())
    addresses = [value.__array_interface__["data"][0] for value in values]
    for value, address, following in zip(values, addresses, addresses[1:], strict=False):
        assert value.flags.c_contiguous
        assert address + value.nbytes == following


def test_no_gradient_in_padding_and_through_length_zero():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, dtype="float64")
    x, lengths = normal(1, (6, 4, 3), "float64"), [6, 3, 0, 1]
    tape = lstm.record(x, lengths=lengths)
    d_state = tuple(normal(seed, part.shape, "float64") for seed, part in enumerate(tape.state))
    gradients = tape.backward(normal(2, tape.output.shape, "float64"), d_state)
    for row, length in enumerate(lengths):
        assert np.all(gradients.x[length:, row] == 0)
    for actual, given in zip(gradients.state, d_state, strict=True):
        assert_same_bits(actual[:, 2], given[:, 2])


def test_no_gradient_crosses_a_reset():
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64")
    x = normal(1, (6, 2, 3), "float64")
    reset = np.zeros((6, 2), bool)
    reset[3, 0] = True
    tape = lstm.record(x, reset=reset)
    d_output = np.zeros(tape.output.shape)
    d_output[3:] = 1
    gradients = tape.backward(d_output)
    assert np.all(gradients.x[:3, 0] == 0)
    assert np.all(gradients.x[:3, 1] != 0)
    assert np.all(gradients.state[1][0, 0] == 0)
    assert np.all(gradients.state[1][0, 1] != 0)


def test_dropout_in_training_scales_what_it_keeps():
    hidden, rows = 64, 200
    lstm = lw.LSTM(3, hidden, 2, dropout=0.25, dtype="float64")
    values = {name: np.zeros(value.shape) for name, value in lstm.parameters.items()}
    # All units of the first layer have the same output, and each unit of the second passes one of them on.
    values["bias_ih_l0"] += 1.0
    values["weight_ih_l1"][2 * hidden : 3 * hidden] = np.eye(hidden)
    lstm.load_state_dict(values)
    x = np.zeros((1, rows, 3))
    number = lstm.trace(x)["l0"].hidden[0, 0, 0]
    output = lstm.record(x, training=True).output
    assert abs(np.mean(output == 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / output.size)
    assert_close(output[output != 0], np.full((output != 0).sum(), np.tanh(np.tanh(number / 0.75) / 2) / 2), 1e-14)


def _chains():
    """Networks that together have every module through which gradients go back, and what they are called with."""
    seeded = {"seed": 0}
    gaps, categories = normal(3, (6, 4, 3)), normal(3, (6, 4, 3))
    gaps[1::2, :, 1] = np.nan
    categories[..., 1] = np.arange(24).reshape(6, 4) % 5
    yield (
        [lw.LSTM(3, 5, 2, bidirectional=True, proj_size=2, **seeded), lw.Linear(4, 2, activation="gelu", **seeded)],
        {},
    )
    yield [lw.LSTM(3, 5, peephole=True, learn_start_state=True, **seeded), lw.Last()], {"lengths": [6, 0, 1, 4]}
    yield [lw.LSTM(3, 4, bidirectional=True, merge="mul", **seeded), lw.Mean(), lw.Activation("tanh")], {}
    yield [lw.Linear(3, 4, **seeded), lw.Reverse(), lw.LSTM(4, 3, layer_norm=True, **seeded), lw.Max()], {}
    yield [lw.LSTM(3, 4, weight_dropout=0.5, **seeded), lw.Dropout(0.5)], {"training": True, "mask_seed": 1}
    yield [lw.Scale([0] * 3, [2] * 3), lw.Impute(3, "forward"), lw.LSTM(3, 3, **seeded), lw.Linear(3, 2)], {"x": gaps}
    embedded = lw.EmbedColumns(3, [1], 5, 2, **seeded)
    yield [lw.Mask(9.0), embedded, lw.LSTM(4, 4, **seeded), lw.InputSkip(3), lw.Sort(2)], {"x": categories}
    yield [lw.LSTM(3, 40, **seeded), lw.Linear(40, 30, **seeded), lw.LSTM(30, 40, **seeded)], {"checkpoint": 2}


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("number", range(8))
def test_gradients_of_the_input_do_not_need_those_of_the_parameters(number, members):
    layers, call = list(_chains())[number]
    network = lw.Network(layers, members=members)
    call = {"x": normal(2, (6, 4, 3)), "training": False} | call
    tape = network.record(**call)
    d_output = normal(4, tape.output.shape)
    expected = tape.backward(d_output)
    d_x, d_start = tape._gradients_of_input(d_output)
    assert_same_bits(d_x, expected.x)
    assert_same_bits(d_start, expected.state)


def test_gradients_of_the_start_of_tokens_do_not_need_those_of_the_parameters():
    network = lw.Network([lw.Embedding(3, 16, seed=0), lw.LSTM(16, 5, seed=0)])
    tape = network.record(np.arange(60).reshape(20, 3) % 3)  # repeated so often that the core sums by token
    d_output = normal(4, tape.output.shape)
    expected = tape.backward(d_output).state
    d_start = np.empty_like(expected[0]), np.empty_like(expected[1])
    tape._core.backward(d_output, None, None, False, None, [d_start])
    assert_same_bits(d_start, expected)
