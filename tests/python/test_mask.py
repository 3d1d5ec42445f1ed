"""Mask, and the mask token of an Embedding: what a call gives that is told to skip the same steps."""

import copy
import json
import pickle

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal
from skips import LENGTHS, ROWS, STEPS, masks, spoilt

VALUE = -0.3
TOKEN = 2
MASKED, SKIPPED, RESETS = masks(2, 0.3), masks(5, 0.2), masks(3, 0.3)
SKIPPED[:, -1] = False
HEADS = {
    "sequence": lambda dtype: [lw.Linear(10, 2, dtype=dtype, seed=3)],
    "both directions": lambda dtype: [],
    "last": lambda dtype: [lw.Last(), lw.Linear(10, 2, dtype=dtype, seed=3)],
    "mean": lambda dtype: [lw.Mean()],
    "max": lambda dtype: [lw.Dropout(), lw.Max()],
    "reversed": lambda dtype: [lw.Reverse(), lw.Linear(10, 2, dtype=dtype, seed=3)],
}
heads = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
outputs = pytest.mark.parametrize("output", ["repeat", "zero"])
kinds = pytest.mark.parametrize("tokens", [False, True], ids=["values", "tokens"])


def network_of(tokens, output, layers, dtype="float32", members=1, mask=True, bidirectional=True):
    """A network that masks, or the same without its mask."""
    # Random masks go by a layer's number, so that another layer takes the place of the mask.
    first = [lw.Mask(VALUE, output) if mask else lw.Dropout(0.0)]
    if tokens:
        token = {"mask_token": TOKEN, "mask_output": output} if mask else {}
        first = [lw.Embedding(4, 3, dtype=dtype, seed=0, **token)]
    return lw.Network([*first, lw.LSTM(3, 5, dtype=dtype, seed=1, bidirectional=bidirectional), *layers], members)


def input_of(tokens, masked, dtype="float32", skip=None):
    """An input with masked steps, and the same with what must not matter there. One step is nearly masked."""
    if tokens:
        x = np.random.RandomState(0).choice([0, 1, 3], masked.shape)
        x[masked] = TOKEN
    else:
        x = normal(1, (*masked.shape, 3), dtype)
        x[0, 0, :2] = VALUE
        x[masked] = VALUE
    everywhere = masked if skip is None else masked | skip
    return (x if skip is None else spoilt(x, skip)), spoilt(x, everywhere)


@kinds
@heads
@outputs
@pytest.mark.parametrize("call", [{}, {"lengths": LENGTHS, "reset": RESETS}], ids=["all", "ragged"])
def test_it_is_skip_in_calls_and_gradients(tokens, head, output, call, dtype):
    x, spoilt_x = input_of(tokens, MASKED, dtype)
    network = network_of(tokens, output, head(dtype), dtype)
    plain = network_of(tokens, output, head(dtype), dtype, mask=False)
    skip = {"skip": MASKED, "skip_output": output}
    actual, state = network(x, **call)
    expected, expected_state = plain(spoilt_x, **skip, **call)
    assert_same_bits(actual, expected)
    assert_same_bits(tuple(state), tuple(expected_state))
    tape = network.record(x, mask_seed=3, checkpoint=2, **call)
    expected_tape = plain.record(spoilt_x, mask_seed=3, checkpoint=2, **skip, **call)
    assert_same_bits(tape.output, expected_tape.output)
    d_output = normal(4, actual.shape, dtype)
    gradients, wanted = tape.backward(d_output), expected_tape.backward(d_output)
    assert_same_bits(list(gradients.parameters.values()), list(wanted.parameters.values()))
    if not tokens:
        assert_same_bits(gradients.x, wanted.x)
    if network._core.keeps_sequence:
        last, _ = network(x, last_step=True, **call)
        assert_same_bits(last, plain(spoilt_x, last_step=True, **skip, **call)[0])


@kinds
@outputs
@pytest.mark.parametrize("skip_output", ["repeat", "zero"])
def test_each_step_has_the_output_of_what_skipped_it(tokens, output, skip_output, dtype):
    x, spoilt_x = input_of(tokens, MASKED, dtype, SKIPPED)
    call = {"lengths": LENGTHS, "reset": RESETS}
    network = network_of(tokens, output, [], dtype)
    plain = network_of(tokens, output, [], dtype, mask=False)
    skip = {"skip": MASKED | SKIPPED}
    valid = (np.arange(STEPS)[:, np.newaxis] < LENGTHS)[..., np.newaxis]
    zero = np.where(SKIPPED, skip_output == "zero", MASKED & (output == "zero"))[..., np.newaxis] & valid
    repeated, state = plain(spoilt_x, **skip, **call)
    actual, actual_state = network(x, skip=SKIPPED, skip_output=skip_output, **call)
    assert_same_bits(actual, np.where(zero, np.zeros_like(repeated), repeated))
    assert_same_bits(tuple(actual_state), tuple(state))
    last, _ = network(x, skip=SKIPPED, skip_output=skip_output, last_step=True, **call)
    ends = np.where(LENGTHS > 0, LENGTHS - 1, 0)
    assert_same_bits(last, np.where((LENGTHS > 0)[:, np.newaxis], actual[ends, np.arange(ROWS)], 0).astype(dtype))
    # A gradient with respect to an output that is zero goes nowhere.
    d_output = normal(4, actual.shape, dtype)
    gradients = network.record(x, skip=SKIPPED, skip_output=skip_output, **call).backward(d_output)
    d_repeated = np.where(zero, np.zeros_like(d_output), d_output)
    wanted = plain.record(spoilt_x, **skip, **call).backward(d_repeated)
    for name, value in gradients.parameters.items():
        np.testing.assert_allclose(value, wanted.parameters[name], rtol=1e-4, atol=1e-5)


@kinds
@outputs
def test_without_a_masked_step_nothing_changes(tokens, output, dtype):
    x, _ = input_of(tokens, np.zeros((STEPS, ROWS), bool), dtype)
    actual, _ = network_of(tokens, output, [], dtype)(x)
    assert_same_bits(actual, network_of(tokens, output, [], dtype, mask=False)(x)[0])


@kinds
def test_padding_and_masked_rows(tokens):
    x, _ = input_of(tokens, np.ones((STEPS, 2), bool))
    network = network_of(tokens, "repeat", [])
    output, (h_n, c_n) = network(x)
    assert not output.any()
    assert not h_n.any()
    assert not c_n.any()
    for shape in ((0, 2), (3, 0)):
        assert network(np.zeros(shape if tokens else (*shape, 3), int if tokens else float))[0].shape == (*shape, 10)


@kinds
@outputs
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("batch_size", [None, ROWS])
def test_streams(tokens, output, members, batch_size, dtype):
    head = [lw.Linear(5, 2, dtype=dtype, seed=3)]
    network = network_of(tokens, output, head, dtype, members, bidirectional=False)
    x, _ = input_of(tokens, MASKED, dtype)
    skip, reset = SKIPPED, RESETS
    if batch_size is None:
        x, skip, reset = x[:, 0], skip[:, 0], reset[:, 0]
    for skip_output in ("repeat", "zero"):
        whole, state = network(x, skip=skip, skip_output=skip_output, reset=reset)
        stream = network.stream(batch_size, skip_output=skip_output)
        for step in range(STEPS):
            one = (bool(reset[step]), bool(skip[step])) if batch_size is None else (reset[step], skip[step])
            step_x = int(x[step]) if tokens and batch_size is None else x[step]
            actual = stream.step(step_x, None, *one)
            assert_same_bits(actual, whole[step] if members == 1 else whole[:, step], f"step {step}")
        assert_same_bits(tuple(stream.state), tuple(state))
    # Without a mask of the caller's own, too.
    whole, _ = network(x)
    stream = network.stream(batch_size)
    for step in range(STEPS):
        step_x = int(x[step]) if tokens and batch_size is None else x[step]
        assert_same_bits(stream.step(step_x), whole[step] if members == 1 else whole[:, step])


@kinds
@heads
def test_training_leaves_the_targets_of_masked_steps_out(tokens, head, dtype):
    x, spoilt_x = input_of(tokens, MASKED, dtype)
    spoilt_x = np.where(MASKED if tokens else MASKED[..., np.newaxis], 0, spoilt_x)

    def trained(network, x, **skip):
        trainer = lw.Trainer(network, "squared_error", lw.optim.Adam(lr=0.1), seed=1)
        y = normal(2, network(x, **skip)[0].shape, dtype)
        if network._core.keeps_sequence:
            order = MASKED[::-1] if any(isinstance(layer, lw.Reverse) for layer in network) else MASKED
            y[order] = np.nan
        losses = [trainer.step(x, y, **skip)[0] for _ in range(3)]
        return (np.array([*losses, trainer.evaluate(x, y, **skip)[0]]), *network.state_dict().values())

    actual = trained(network_of(tokens, "zero", head(dtype), dtype), x)
    assert_same_bits(actual, trained(network_of(tokens, "zero", head(dtype), dtype, mask=False), spoilt_x, skip=MASKED))


def test_members_mask_inputs_of_their_own(dtype):
    x = np.stack([input_of(False, masks(seed, 0.4), dtype)[0] for seed in (7, 8)])
    network = network_of(False, "repeat", [], dtype, 2)
    tape = network.record(x, skip=SKIPPED, lengths=LENGTHS, skip_output="zero")
    d_output = normal(2, tape.output.shape, dtype)
    gradients = tape.backward(d_output)
    for member in range(2):
        alone = network.member(member).record(x[member], skip=SKIPPED, lengths=LENGTHS, skip_output="zero")
        assert_same_bits(alone.output, tape.output[member])
        assert_same_bits(alone.backward(d_output[member]).x, gradients.x[member])


def test_layers_for_inputs_skip_masked_steps_too():
    def network(*mask):
        layers = [lw.Scale([1.0, 0.0], [0.5, 1.0]), lw.Impute(2, indicators=[0]),
                  lw.EmbedColumns(4, [1], 3, 2, seed=0), lw.LSTM(5, 4, seed=1)]  # fmt: skip
        return lw.Network([*mask, *layers])

    x = np.stack([normal(1, (STEPS, ROWS)), np.random.RandomState(0).randint(0, 3, (STEPS, ROWS))], axis=-1)
    x = np.where(np.random.RandomState(1).random_sample(x.shape) < 0.2, np.nan, x).astype(np.float32)
    x[MASKED] = -7.0  # no code
    masked = network(lw.Mask(-7.0))
    output, _ = masked(x)
    assert_same_bits(output, network()(x, skip=MASKED)[0])
    stream = masked.stream(ROWS)
    for step in range(STEPS):
        assert_same_bits(stream.step(x[step]), output[step])
    trainer = lw.Trainer(masked, "squared_error", lw.optim.Adam())
    assert np.isfinite(trainer.step(x, output)[0])
    with pytest.raises(ValueError, match="^x: expected a code, an integer from 0 to 2, in column 1, got -7 at step"):
        network()(x)


def test_a_trace_shows_masked_steps_as_skipped():
    x, spoilt_x = input_of(False, MASKED)
    trace = network_of(False, "zero", [])(x) and network_of(False, "zero", []).trace(x)
    wanted = network_of(False, "zero", [], mask=False).trace(spoilt_x, skip=MASKED, skip_output="zero")
    assert_same_bits(trace.output, wanted.output)
    for name in ("l0", "l0_reverse"):
        for signal, value in trace[f"1.{name}"]._asdict().items():
            assert_same_bits(value, getattr(wanted[f"1.{name}"], signal))


def test_an_embedding_alone_gives_a_vector_for_its_mask_token():
    masking, plain = lw.Embedding(4, 3, seed=0, mask_token=0), lw.Embedding(4, 3, seed=0)
    tokens = np.array([[0, 1], [3, 0]])
    assert_same_bits(masking(tokens), plain(tokens))
    assert_same_bits(lw.Network([masking])(tokens)[0], plain(tokens))


@kinds
def test_files_and_copies(tokens, tmp_path):
    x, _ = input_of(tokens, MASKED)
    network = network_of(tokens, "zero", [])
    network.save(tmp_path / "network.safetensors")
    for other in (
        lw.load(tmp_path / "network.safetensors"),
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        assert repr(other) == repr(network)
        assert_same_bits(other(x)[0], network(x)[0])


def test_an_embedding_without_a_mask_is_in_files_as_before():
    assert lw.Embedding(4, 3)._config.modules == [{"kind": "embedding", "num_embeddings": 4, "embedding_dim": 3}]
    options = lw.Embedding(4, 3, mask_token=0)._config.modules[0]
    assert json.dumps(options | {"mask_token": 0}) == json.dumps(options)
    assert repr(lw.Embedding(4, 3, mask_token=1, mask_output="zero")).endswith("mask_token=1, mask_output='zero')")


def test_the_layer_alone(dtype):
    x = np.array([[0.1, 0.1], [0.1, 0.2], [np.nan, 0.1]], dtype)
    assert lw.Mask(0.1)(x).tolist() == [True, False, False]
    assert lw.Mask(0.0)([[-0.0]]).tolist() == [True]
    with pytest.raises(ValueError, match=r"^x: expected \(\.\.\., features\), got \(\)$"):
        lw.Mask(0.0)(0.0)


def test_a_value_that_the_dtype_does_not_hold_is_refused():
    with pytest.raises(ValueError, match=r"^layers\[0\]\.value: expected a number of at most 3\.4\d*e\+38, which"):
        lw.Network([lw.Mask(1e39), lw.Linear(1, 1)])


def test_other_words_for_the_output_are_refused():
    with pytest.raises(ValueError, match='^output: expected one of repeat, zero, got "last"$'):
        lw.Mask(0.0, "last")
    with pytest.raises(ValueError, match='^mask_output: expected one of repeat, zero, got "last"$'):
        lw.Embedding(4, 3, mask_token=0, mask_output="last")
