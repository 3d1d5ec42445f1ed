"""trace: what is shown satisfies the cell's equations."""

import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import normal, random_lstm

SIGNALS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell", "hidden")
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
STEPS, ROWS = 7, 4
LENGTHS = (7, 3, 0, 5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def keys_of(lstm):
    suffixes = ("", "_reverse")[: 2 if lstm.bidirectional else 1]
    return [f"l{layer}{suffix}" for layer in range(lstm.num_layers) for suffix in suffixes]


def parameter(lstm, kind, key):
    return np.asarray(lstm.parameters[f"{kind}_{key}"], dtype=np.float64)


def check_equations(lstm, trace, x, start, lengths, tolerance):
    """Every gate and state of every valid step from the textbook's equations, in float64."""
    layer_input = x.astype(np.float64)
    for place, key in enumerate(keys_of(lstm)):
        signals = trace[key]
        if place and place % (2 if lstm.bidirectional else 1) == 0:
            below = keys_of(lstm)[:place][-(2 if lstm.bidirectional else 1) :]
            layer_input = np.concatenate([trace[name].hidden for name in below], axis=-1).astype(np.float64)
        w_ih, w_hh = parameter(lstm, "weight_ih", key), parameter(lstm, "weight_hh", key)
        bias = parameter(lstm, "bias_ih", key) + parameter(lstm, "bias_hh", key)
        for row, length in enumerate(lengths):
            steps = range(length) if not key.endswith("_reverse") else range(length - 1, -1, -1)
            h, c = start[0][place, row].astype(np.float64), start[1][place, row].astype(np.float64)
            for step in steps:
                i, f, g, o = np.split(w_ih @ layer_input[step, row] + w_hh @ h + bias, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                if lstm.proj_size:
                    h = parameter(lstm, "weight_hr", key) @ h
                expected = dict(zip(SIGNALS, (sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o), c, h), strict=True))
                for name, value in expected.items():
                    assert_close(getattr(signals, name)[step, row], value, tolerance, f"{name} of {key} at {step}")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden_size": 17},
        {"num_layers": 3},
        {"bidirectional": True, "num_layers": 2},
        {"proj_size": 3, "num_layers": 2, "bidirectional": True},
    ],
)
def test_signals_satisfy_the_equations(options, dtype):
    lstm = random_lstm(**({"input_size": 3, "hidden_size": 5, "dtype": dtype} | options))
    states = lstm.num_layers * (2 if lstm.bidirectional else 1)
    x = normal(1, (STEPS, ROWS, 3), dtype)
    sizes = (lstm.proj_size or lstm.hidden_size, lstm.hidden_size)
    start = tuple(normal(2 + place, (states, ROWS, size), dtype) for place, size in enumerate(sizes))
    trace = lstm.trace(x, start, lengths=LENGTHS)
    check_equations(lstm, trace, x, start, LENGTHS, TOLERANCE[dtype])


def test_cell_and_hidden_follow_from_the_gates_shown(dtype):
    lstm = random_lstm(input_size=3, hidden_size=9, dtype=dtype)
    x, start = normal(1, (STEPS, ROWS, 3), dtype), (normal(2, (1, ROWS, 9), dtype), normal(3, (1, ROWS, 9), dtype))
    shown = lstm.trace(x, start)["l0"]
    before = np.concatenate([start[1], shown.cell[:-1]])
    assert_close(shown.cell, shown.forget_gate * before + shown.input_gate * shown.candidate, TOLERANCE[dtype])
    assert_close(shown.hidden, shown.output_gate * np.tanh(shown.cell), TOLERANCE[dtype])


@pytest.mark.parametrize("batch_first", [False, True])
def test_hidden_of_the_last_layer_is_the_output(batch_first, dtype):
    lstm = random_lstm(
        input_size=3, hidden_size=5, num_layers=2, bidirectional=True, batch_first=batch_first, dtype=dtype
    )
    x = normal(1, (ROWS, STEPS, 3) if batch_first else (STEPS, ROWS, 3), dtype)
    output, (h_n, c_n) = lstm(x, lengths=LENGTHS)
    trace = lstm.trace(x, lengths=LENGTHS)
    last = trace["l1"], trace["l1_reverse"]
    assert_same_bits(np.concatenate([signals.hidden for signals in last], axis=-1), output)
    cells = trace["l0"].cell if not batch_first else np.swapaxes(trace["l0"].cell, 0, 1)
    for row, length in enumerate(LENGTHS):
        if length:
            assert_same_bits(cells[length - 1, row], c_n[0, row])
    assert h_n.shape == (4, ROWS, 5)


def test_signals_have_torchs_layout_and_zeros_in_padding(dtype):
    lstm = random_lstm(input_size=3, hidden_size=5, proj_size=2, dtype=dtype)
    x = normal(1, (STEPS, ROWS, 3), dtype)
    for row, length in enumerate(LENGTHS):
        x[length:, row] = np.nan
    shown = lstm.trace(x, lengths=LENGTHS)["l0"]
    for name in SIGNALS:
        values = getattr(shown, name)
        assert values.shape == (STEPS, ROWS, 2 if name == "hidden" else 5)
        assert values.dtype == dtype
        for row, length in enumerate(LENGTHS):
            assert np.all(values[length:, row] == 0), name
            assert np.all(values[:length, row] != 0), name


def test_unbatched_signals_have_no_batch_axis():
    lstm = random_lstm(input_size=3, hidden_size=5)
    x = normal(1, (STEPS, ROWS, 3))
    whole, alone = lstm.trace(x)["l0"], lstm.trace(x[:, 2])["l0"]
    for name in SIGNALS:
        assert getattr(alone, name).shape == (STEPS, 5)
        assert_same_bits(getattr(alone, name), getattr(whole, name)[:, 2])


def test_gates_lie_in_their_ranges():
    lstm = random_lstm(input_size=3, hidden_size=5)
    shown = lstm.trace(100 * normal(1, (STEPS, ROWS, 3)))["l0"]
    for name in ("input_gate", "forget_gate", "output_gate"):
        assert getattr(shown, name).min() >= 0
        assert getattr(shown, name).max() <= 1
    assert np.abs(shown.candidate).max() <= 1


def test_a_trace_names_its_layers():
    lstm = random_lstm(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    trace = lstm.trace(normal(1, (STEPS, ROWS, 3)))
    assert list(trace) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    with pytest.raises(KeyError):
        trace["l2"]


def test_a_trace_never_drops_anything():
    options = {"input_size": 3, "hidden_size": 5, "num_layers": 2}
    x = normal(1, (STEPS, ROWS, 3))
    expected = random_lstm(**options).trace(x)["l1"].hidden
    assert_same_bits(random_lstm(**options, dropout=0.9).trace(x)["l1"].hidden, expected)
