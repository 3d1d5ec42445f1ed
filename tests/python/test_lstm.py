"""LSTM and LSTMCell: results are PyTorch's."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from configurations import CONFIGURATIONS, FORWARD_NAMES, numbers, sample, sample_limit
from layers import inputs_of, load, lstm_of, normal, random_lstm

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def forward(configuration, dtype):
    drawn = numbers(configuration)
    arguments, options = inputs_of(configuration, drawn, dtype)
    output, (h_n, c_n) = lstm_of(configuration, drawn, dtype)(*arguments, **options)
    return {"output": output, "h_n": h_n, "c_n": c_n}


def shapes_of(configuration):
    c = configuration
    return {
        "output": c.sequence_shape(c.directions * c.output_size),
        "h_n": c.state_shape(c.output_size),
        "c_n": c.state_shape(c.hidden_size),
    }


def test_configurations_cover_what_they_should():
    assert len(CONFIGURATIONS) == 200
    for name, values in {
        "num_layers": {1, 2, 3},
        "bidirectional": {False, True},
        "bias": {False, True},
        "batched": {False, True},
        "batch_first": {False, True},
        "start_state": {False, True},
        "hidden_size": {1, 7, 17, 31, 100},
        "input_size": {1, 7, 17, 31, 100},
    }.items():
        assert values <= {getattr(c, name) for c in CONFIGURATIONS}, name
    assert any(c.lengths is not None and c.bidirectional and c.proj_size for c in CONFIGURATIONS)


def test_forward_equals_golden(golden, dtype):
    answers = golden("lstm")
    for configuration in CONFIGURATIONS:
        actual = forward(configuration, dtype)
        assert {name: value.shape for name, value in actual.items()} == shapes_of(configuration), configuration
        for name in FORWARD_NAMES:
            assert actual[name].dtype == dtype
            picked = sample(actual[name], sample_limit(name))
            assert_close(
                picked, answers[f"{configuration.index}.{name}"], TOLERANCE[dtype], f"{name} of {configuration}"
            )


def test_forward_equals_live_torch(torch_peer, dtype):
    for configuration in CONFIGURATIONS:
        drawn = numbers(configuration)
        expected = torch_peer.answer(configuration, drawn, getattr(torch_peer.torch, dtype), gradients=False)
        for name, actual in forward(configuration, dtype).items():
            assert_close(actual, expected[name], TOLERANCE[dtype], f"{name} of {configuration}")


def test_record_gives_the_output_of_a_call(dtype):
    for configuration in CONFIGURATIONS[:40]:
        drawn = numbers(configuration)
        arguments, options = inputs_of(configuration, drawn, dtype)
        lstm = lstm_of(configuration, drawn, dtype)
        tape = lstm.record(*arguments, **options, training=False)
        assert_same_bits((tape.output, tuple(tape.state)), lstm(*arguments, **options), str(configuration))


def test_output_in_padding_is_zero():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    x = normal(1, (6, 4, 3))
    lengths = [6, 0, 1, 4]
    output, _ = lstm(x, lengths=lengths)
    for row, length in enumerate(lengths):
        assert np.all(output[length:, row] == 0)
        assert np.all(output[:length, row] != 0)


@pytest.mark.parametrize("kind", [list, tuple, np.int32, np.int64, np.uint8])
def test_lengths_may_be_any_integers(kind):
    lstm = random_lstm(input_size=3, hidden_size=5)
    x, lengths = normal(1, (6, 4, 3)), [6, 2, 1, 4]
    expected = lstm(x, lengths=np.array(lengths))
    given = kind(lengths) if kind in (list, tuple) else np.array(lengths, dtype=kind)
    assert_same_bits(lstm(x, lengths=given), expected)


def test_a_lone_reverse_direction_is_that_half_of_both(dtype):
    both = random_lstm(input_size=3, hidden_size=7, bidirectional=True, dtype=dtype)
    reverse = lw.LSTM(3, 7, reverse=True, dtype=dtype)
    assert list(reverse.parameters) == [name for name in both.parameters if name.endswith("_reverse")]
    reverse.load_state_dict({name: np.array(both.parameters[name]) for name in reverse.parameters})
    x, reset = normal(1, (9, 5, 3), dtype), np.random.RandomState(2).random_sample((9, 5)) < 0.3
    start = normal(3, (2, 5, 7), dtype), normal(4, (2, 5, 7), dtype)
    options = {"lengths": [9, 4, 0, 1, 8], "reset": reset}
    output, state = both(x, start, **options)
    alone, end = reverse(x, tuple(part[1:] for part in start), **options)
    assert_same_bits(alone, np.ascontiguousarray(output[..., 7:]))
    assert_same_bits(end, tuple(part[1:] for part in state))
    assert list(reverse.trace(x)) == ["l0_reverse"]
    with pytest.raises(ValueError, match="reverse"):
        reverse.stream()
    with pytest.raises(ValueError, match="reverse"):
        lw.LSTM(3, 7, bidirectional=True, reverse=True)


def test_a_stack_of_reverse_layers_is_a_forward_one_on_reversed_steps(dtype):
    forward = random_lstm(input_size=3, hidden_size=7, num_layers=2, proj_size=4, dtype=dtype)
    reverse = lw.LSTM(3, 7, 2, proj_size=4, reverse=True, dtype=dtype)
    reverse.load_state_dict({f"{name}_reverse": np.array(value) for name, value in forward.parameters.items()})
    x = normal(1, (9, 5, 3), dtype)
    output, state = forward(x[::-1])
    assert_same_bits(reverse(x), (np.ascontiguousarray(output[::-1]), state))


def test_batch_first_moves_the_batch_axis_only():
    options = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True}
    one, other = random_lstm(**options), random_lstm(**options, batch_first=True)
    x = normal(1, (6, 4, 3))
    output, state = one(x, lengths=[6, 3, 0, 1])
    swapped, swapped_state = other(np.swapaxes(x, 0, 1), lengths=[6, 3, 0, 1])
    assert_same_bits(np.swapaxes(swapped, 0, 1), output)
    assert_same_bits(swapped_state, state)


def test_inputs_are_not_changed_and_outputs_own_their_memory():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2)
    x, start = normal(1, (6, 4, 3)), (normal(2, (2, 4, 5)), normal(3, (2, 4, 5)))
    copies = x.copy(), start[0].copy(), start[1].copy()
    output, state = lstm(x, start)
    kept = [np.array(part) for part in (output, *state)]
    later, later_state = lstm(normal(4, (6, 4, 3)), start)
    assert_same_bits((x, *start), copies)
    assert_same_bits((output, *state), kept)
    others = (x, *start, later, *later_state)
    assert not any(np.shares_memory(part, other) for part in (output, *state) for other in others)


def test_start_state_is_carried_over():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2)
    x = normal(1, (9, 4, 3))
    output, state = lstm(x)
    first, middle = lstm(x[:4])
    second, last = lstm(x[4:], middle)
    assert_same_bits(np.concatenate([first, second]), output)
    assert_same_bits(last, state)


def test_seed_fixes_the_first_weights():
    one, other, third = (lw.LSTM(5, 16, seed=seed) for seed in (3, 3, 4))
    for name, value in one.parameters.items():
        assert_same_bits(other.parameters[name], value)
        assert not np.array_equal(third.parameters[name], value)


def test_without_a_seed_weights_differ():
    one, other = lw.LSTM(5, 16), lw.LSTM(5, 16)
    assert not np.array_equal(one.parameters["weight_ih_l0"], other.parameters["weight_ih_l0"])


def test_weights_start_as_torchs_do(dtype):
    lstm = lw.LSTM(40, 64, 2, bidirectional=True, proj_size=9, dtype=dtype, seed=1)
    bound = 1 / np.sqrt(64)
    for name, value in lstm.parameters.items():
        assert value.dtype == dtype
        assert np.abs(value).max() <= bound, name
        assert np.abs(value).max() > 0.95 * bound, name
        assert abs(value.mean()) < 6 * bound / np.sqrt(3 * value.size), name
        assert abs(value.std() - bound / np.sqrt(3)) < 0.1 * bound, name


def test_dropout_does_nothing_outside_training():
    options = {"input_size": 3, "hidden_size": 5, "num_layers": 3}
    plain, dropped = random_lstm(**options), random_lstm(**options, dropout=0.9)
    x = normal(1, (6, 4, 3))
    assert_same_bits(dropped(x), plain(x))
    assert_same_bits(dropped.record(x, training=False).output, plain(x)[0])


def test_attributes_are_the_constructors():
    lstm = lw.LSTM(
        3, 8, 2, bias=False, batch_first=True, dropout=0.25, bidirectional=True, proj_size=5, dtype="float64"
    )
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.proj_size) == (3, 8, 2, 5)
    assert (lstm.bias, lstm.batch_first, lstm.bidirectional) == (False, True, True)
    assert lstm.dropout == 0.25
    assert lstm.dtype == np.float64
    assert "3" in repr(lstm)
    assert "8" in repr(lstm)
    assert repr(lstm).startswith("LSTM(")


def test_default_dtype_is_float32():
    assert lw.LSTM(2, 3).dtype == np.float32
    assert lw.LSTM(2, 3, dtype=np.float64).dtype == np.float64


def test_real_input_is_converted_to_the_layers_dtype(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype=dtype)
    x = np.round(normal(1, (6, 4, 3), "float64") * 8) / 8
    expected = lstm(x.astype(dtype))
    for other in ("float16", "float32", "float64"):
        assert_same_bits(lstm(x.astype(other)), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden_size", [1, 7, 17, 31])
def test_cell_is_one_step_of_a_layer(hidden_size, bias, dtype):
    lstm = random_lstm(input_size=5, hidden_size=hidden_size, bias=bias, dtype=dtype)
    cell = lw.LSTMCell(5, hidden_size, bias=bias, dtype=dtype)
    load(cell, {name.removesuffix("_l0"): np.array(value) for name, value in lstm.parameters.items()})
    x, h, c = (normal(seed, (6, size), dtype) for seed, size in enumerate((5, hidden_size, hidden_size)))
    _, (h_n, c_n) = lstm(x[None], (h[None], c[None]))
    assert_same_bits(cell(x, (h, c)), (h_n[0], c_n[0]))
    assert_same_bits(cell(x[2], (h[2], c[2])), (h_n[0, 2], c_n[0, 2]))
    zeros = np.zeros((6, hidden_size), dtype)
    assert_same_bits(cell(x), cell(x, (zeros, zeros)))


def test_the_smallest_cell_has_one_input_and_one_unit(dtype):
    cell = lw.LSTMCell(1, 1, dtype=dtype)
    assert [value.shape for value in cell.parameters.values()] == [(4, 1), (4, 1), (4,), (4,)]
    assert [part.shape for part in cell(np.ones((2, 1), dtype))] == [(2, 1), (2, 1)]
    for sizes, named in (((0, 1), "input_size"), ((1, 0), "hidden_size")):
        with pytest.raises(ValueError, match=f"{named}: expected at least 1, got 0"):
            lw.LSTMCell(*sizes)


def test_cell_has_torchs_names_and_answers(torch_peer, dtype):
    torch = torch_peer.torch
    for hidden_size in (1, 7, 31):
        peer = torch.nn.LSTMCell(5, hidden_size, dtype=getattr(torch, dtype))
        cell = lw.LSTMCell(5, hidden_size, dtype=dtype)
        cell.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
        assert list(cell.parameters) == list(peer.state_dict())
        x, h, c = (normal(seed, (6, size), dtype) for seed, size in enumerate((5, hidden_size, hidden_size)))
        expected = peer(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
        for actual, wanted in zip(cell(x, (h, c)), expected, strict=True):
            assert_close(actual, wanted.detach().numpy(), TOLERANCE[dtype])


def test_large_preactivations_reach_the_limits(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype=dtype)
    output, (_, c_n) = lstm(np.full((4, 2, 3), 1e30, dtype))
    assert np.isfinite(output).all()
    assert np.isfinite(c_n).all()
    assert np.abs(output).max() <= 1


def test_nan_in_a_valid_step_stays_nan():
    lstm = random_lstm(input_size=3, hidden_size=5)
    x = normal(1, (6, 2, 3))
    x[3, 1, 0] = np.nan
    output, _ = lstm(x)
    assert np.isfinite(output[:, 0]).all()
    assert np.isfinite(output[:3, 1]).all()
    assert np.isnan(output[3:, 1]).all()
