"""Reverse: a network with it gives what layers of the other direction give on sequences that are reversed by hand."""

import copy
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal, random_lstm
from skips import LENGTHS, ROWS, STEPS, masks, spoilt

RESETS = masks(3, 0.3)
SKIPS = masks(2, 0.3)
CALLS = {
    "all steps": {},
    "ragged": {"lengths": LENGTHS},
    "reset": {"reset": RESETS, "lengths": LENGTHS},
    "skip": {"skip": SKIPS},
    "all masks": {"reset": RESETS, "lengths": LENGTHS, "skip": SKIPS},
    "zero": {"reset": RESETS, "lengths": LENGTHS, "skip": SKIPS, "skip_output": "zero"},
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def by_loops(array, lengths=None):
    """(T, N, ...) with the valid steps of each row in reverse order, zeros after them."""
    result = np.zeros_like(array)
    for row in range(array.shape[1]):
        length = len(array) if lengths is None else lengths[row]
        result[:length, row] = array[:length, row][::-1]
    return result


def lstm_of(dtype="float32", **options):
    return random_lstm(**{"input_size": 3, "hidden_size": 5, "learn_start_state": True, "dtype": dtype} | options)


def everything(module, x, call, checkpoint=None, states=2):
    """Output, end state, and all gradients; those of the parameters apart, whose sums may have another order."""
    start = tuple(normal(5, (states, ROWS, 5), x.dtype) for _ in "hc")
    tape = module.record(x, start, training=False, checkpoint=checkpoint, **call)
    d_state = tuple(normal(7, part.shape, x.dtype) for part in start)
    gradients = tape.backward(normal(6, tape.output.shape, x.dtype), d_state)
    output, state = module(x, start, **call)
    assert_same_bits((output, *state), (tape.output, *tape.state))
    return (output, *state, gradients.x, *gradients.state), list(gradients.parameters.values())


@calls
@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_between_two_of_it_a_layer_has_the_other_direction(reverse, checkpoint, call, dtype):
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), call.get("skip", np.zeros((STEPS, ROWS), bool)))
    options = {"num_layers": 2}
    expected = everything(lstm_of(dtype, reverse=not reverse, **options), x, call, checkpoint)
    network = lw.Network([lw.Reverse(), lstm_of(dtype, reverse=reverse, **options), lw.Reverse()])
    actual = everything(network, x, call, checkpoint)
    assert_same_bits(actual[0], expected[0])
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for one, other in zip(actual[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@calls
def test_two_of_it_change_nothing(call, dtype):
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), call.get("skip", np.zeros((STEPS, ROWS), bool)))
    expected = everything(lstm_of(dtype, bidirectional=True), x, call)
    for place in (0, 1):
        layers = [lw.Reverse(), lw.Reverse()]
        layers.insert(2 * place, lstm_of(dtype, bidirectional=True))
        actual = everything(lw.Network(layers[::-1] if place else layers[:0] + layers), x, call)
        assert_same_bits(actual[0], expected[0])


@calls
def test_at_the_end_it_reverses_what_came_out(call, dtype):
    lengths = call.get("lengths")
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), call.get("skip", np.zeros((STEPS, ROWS), bool)))
    for options in ({}, {"reverse": True}, {"bidirectional": True}):
        (output, *rest), _ = everything(lstm_of(dtype, **options), x, call, states=1 + ("bidirectional" in options))
        network = lw.Network([lstm_of(dtype, **options), lw.Dropout(), lw.Reverse()])
        reversed_output, _ = network(x, **call, state=None)
        plain, _ = lstm_of(dtype, **options)(x, **call)
        assert_same_bits(reversed_output, by_loops(plain, lengths))
        network = lw.Network([lstm_of(dtype, **options), lw.Reverse(), lw.Activation("tanh")])
        activated, _ = network(x, **call)
        assert_same_bits(activated, lw.Activation("tanh")(by_loops(plain, lengths)))
        assert output.shape == plain.shape
        assert rest


@calls
def test_the_last_step_is_that_of_the_whole_output(call, dtype):
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), call.get("skip", np.zeros((STEPS, ROWS), bool)))
    chains = ([lw.Reverse()], [lw.Linear(5, 2, dtype=dtype, seed=1), lw.Reverse()],
              [lw.Reverse(), lw.Linear(5, 2, dtype=dtype, seed=1)])  # fmt: skip
    for chain in chains:
        network = lw.Network([lw.Reverse(), lstm_of(dtype), *chain])
        whole, state = network(x, **call)
        alone, state_then = network(x, **call, last_step=True)
        ends = np.broadcast_to(call.get("lengths", STEPS), ROWS)
        expected = np.where((ends > 0)[:, np.newaxis], whole[ends - 1, np.arange(ROWS)], 0)
        assert_same_bits(alone, expected.astype(dtype))
        assert_same_bits(tuple(state), tuple(state_then))


@calls
def test_pooling_takes_the_same_steps(call, dtype):
    call = {name: value for name, value in call.items() if name != "skip_output"}
    x = spoilt(normal(1, (STEPS, ROWS, 3), dtype), call.get("skip", np.zeros((STEPS, ROWS), bool)))
    for pooling in (lw.Max, lw.Mean):
        plain, _ = lw.Network([lstm_of(dtype), pooling()])(x, **call)
        network = lw.Network([lstm_of(dtype), lw.Reverse(), pooling()])
        reverse, _ = network(x, **call)
        np.testing.assert_allclose(reverse, plain, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6)
        if pooling is lw.Max:
            assert_same_bits(reverse, plain)
        d_output = normal(3, plain.shape, dtype)
        expected = lw.Network([lstm_of(dtype), pooling()]).record(x, training=False, **call).backward(d_output)
        actual = network.record(x, training=False, **call).backward(d_output)
        np.testing.assert_allclose(actual.x, expected.x, rtol=1e-4, atol=1e-5)


def test_last_takes_the_last_step_in_the_order_that_it_finds():
    x = normal(1, (STEPS, ROWS, 3))
    whole, _ = lstm_of()(x)
    last, _ = lw.Network([lstm_of(), lw.Reverse(), lw.Last()])(x)
    assert_same_bits(last, whole[0])


def test_tokens_are_looked_up_and_reversed(dtype):
    tokens = np.random.RandomState(0).randint(0, 4, (40, ROWS))

    def network(*reverse):
        embedding = lw.Embedding(4, 3, dtype=dtype, seed=0)
        return lw.Network([embedding, *reverse, lstm_of(dtype), lw.Linear(5, 2, dtype=dtype, seed=1)])

    expected = network().record(tokens[::-1])
    actual = network(lw.Reverse()).record(tokens)
    assert_same_bits(actual.output, expected.output)
    d_output = normal(3, actual.output.shape, dtype)
    one, other = actual.backward(d_output).parameters, expected.backward(d_output).parameters
    for name, value in zip(one, other.values(), strict=True):
        np.testing.assert_allclose(one[name], value, rtol=1e-3 if dtype == "float32" else 1e-11, atol=1e-3)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@calls
def test_targets_are_those_of_the_output_in_its_order(call, loss, dtype):
    call = {name: value for name, value in call.items() if name != "skip_output"}
    lengths, skip = call.get("lengths"), call.get("skip", np.zeros((STEPS, ROWS), bool))
    x = np.where(skip[..., np.newaxis], 0, normal(1, (STEPS, ROWS, 3), dtype))
    if loss == "squared_error":
        y = spoilt(normal(2, (STEPS, ROWS, 2), dtype), skip)
    else:
        y = np.where(skip, 77, np.random.RandomState(0).randint(0, 2, (STEPS, ROWS)))
    weights = np.random.RandomState(1).random_sample((STEPS, ROWS)).astype(dtype)

    def trained(*reverse, y, weights):
        network = lw.Network([lstm_of(dtype), *reverse, lw.Linear(5, 2, dtype=dtype, seed=1)])
        trainer = lw.Trainer(network, loss, lw.optim.SGD(lr=0.1))
        evaluated, _ = trainer.evaluate(x, y, weights=weights, **call)
        for _ in range(3):
            value, _ = trainer.step(x, y, weights=weights, **call)
        return evaluated, value

    expected = trained(y=y, weights=weights)
    actual = trained(lw.Reverse(), y=by_loops(y, lengths), weights=by_loops(weights, lengths))
    np.testing.assert_allclose(actual, expected, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_a_trace_has_the_order_of_its_layer():
    x, skip = spoilt(normal(1, (STEPS, ROWS, 3)), SKIPS), SKIPS
    network = lw.Network([lw.Reverse(), lstm_of()])
    by_hand = by_loops(x, LENGTHS), by_loops(skip, LENGTHS)
    expected = lstm_of().trace(by_hand[0], lengths=LENGTHS, skip=by_hand[1])
    trace = network.trace(x, lengths=LENGTHS, skip=skip)
    for signal, value in trace["1.l0"]._asdict().items():
        assert_same_bits(value, getattr(expected["l0"], signal))
    d_output = normal(3, trace.output.shape)
    call = {"lengths": LENGTHS, "training": False}
    gates = network.record(x, skip=skip, **call).backward(d_output, gates=True).gates["1.l0"]
    wanted = lstm_of().record(by_hand[0], skip=by_hand[1], **call).backward(d_output, gates=True).gates["l0"]
    for signal, value in gates._asdict().items():
        assert_same_bits(value, getattr(wanted, signal))


@pytest.mark.parametrize("reverse", [False, True])
@calls
def test_what_a_cell_holds_is_the_sum_of_what_the_steps_wrote(call, reverse):
    call = {name: value for name, value in call.items() if name != "skip_output"}
    x = spoilt(normal(1, (STEPS, ROWS, 3), "float64"), call.get("skip", np.zeros((STEPS, ROWS), bool)))
    start = tuple(normal(5, (1, ROWS, 5), "float64") for _ in "hc")
    trace = lw.Network([lw.Reverse(), lstm_of("float64", reverse=reverse)]).trace(x, start, **call)
    name = "1.l0_reverse" if reverse else "1.l0"
    for step in range(STEPS):
        valid = step < np.broadcast_to(call.get("lengths", STEPS), ROWS)
        held = lw.explain.memory(trace, step, name)
        np.testing.assert_allclose(
            (held.terms.sum(axis=0) + held.start)[valid], trace[name].cell[step, valid], atol=1e-12
        )


def test_members_reverse_masks_of_their_own(dtype):
    x, skip = normal(1, (2, STEPS, ROWS, 3), dtype), np.stack([masks(1), masks(2)])
    reset, lengths = np.stack([masks(3, 0.2), masks(4, 0.2)]), np.stack([LENGTHS, LENGTHS[::-1]])
    network = lw.Network([lw.Reverse(), lw.LSTM(3, 5, dtype=dtype, seed=1), lw.Linear(5, 2, dtype=dtype, seed=2)], 2)
    tape = network.record(x, skip=skip, reset=reset, lengths=lengths)
    d_output = normal(2, tape.output.shape, dtype)
    gradients = tape.backward(d_output)
    for member in range(2):
        call = {"skip": skip[member], "reset": reset[member], "lengths": lengths[member]}
        alone = network.member(member).record(x[member], **call)
        assert_same_bits(alone.output, tape.output[member])
        of_one = alone.backward(d_output[member])
        assert_same_bits(of_one.x, gradients.x[member])
        for name, value in of_one.parameters.items():
            assert_same_bits(value, gradients.parameters[name][member])


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 3), (17, 31, 1), (7, 3)])
def test_the_layer_alone(shape, dtype):
    x = normal(0, shape, dtype)
    assert_same_bits(lw.Reverse()(x), np.ascontiguousarray(x[::-1]))
    if len(shape) == 3:
        lengths = np.arange(shape[1]) % (shape[0] + 1)
        padded = x.copy()
        padded[np.arange(shape[0])[:, np.newaxis] >= lengths] = np.nan
        assert_same_bits(lw.Reverse()(padded, lengths), by_loops(x, lengths))


def test_what_the_layer_alone_refuses():
    with pytest.raises(ValueError, match=r"^x: expected \(T, N, features\) or \(T, features\), got \(3,\)$"):
        lw.Reverse()([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="^lengths: expected None for unbatched x"):
        lw.Reverse()([[1.0]], [1])
    with pytest.raises(ValueError, match="^lengths: expected 0 to 1"):
        lw.Reverse()([[[1.0]]], [2])


def test_streams_are_refused():
    network = lw.Network([lstm_of(), lw.Reverse()])
    with pytest.raises(ValueError, match="^stream: expected forward LSTMs only and no Reverse, got Network"):
        network.stream()
    with pytest.raises(ValueError, match="^stream: a Reverse begins with the last step of a sequence"):
        network._core.stream(None)


def test_files_and_copies(tmp_path):
    x = normal(1, (STEPS, ROWS, 3))
    network = lw.Network([lw.Reverse(), lstm_of(), lw.Reverse()])
    network.save(tmp_path / "network.safetensors")
    lw.Reverse().save(tmp_path / "layer.safetensors")
    assert repr(lw.load(tmp_path / "layer.safetensors")) == "Reverse()"
    for other in (
        lw.load(tmp_path / "network.safetensors"),
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        assert repr(other) == repr(network)
        assert_same_bits(other(x)[0], network(x)[0])
