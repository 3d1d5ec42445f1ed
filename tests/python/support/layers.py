"""Latchwork's side of the comparisons: layers built from configurations, and their answers under torch_peer's names."""

import latchwork as lw
import numpy as np


def load(module, parameters):
    """Give a module these parameters, converted to its dtype."""
    module.load_state_dict({name: value.astype(module.dtype) for name, value in parameters.items()})
    return module


def lstm_of(configuration, numbers, dtype):
    return load(lw.LSTM(**configuration.options, dtype=dtype), numbers.parameters)


def with_padding(configuration, x, value):
    """x with its padding replaced."""
    x = np.array(x)
    if configuration.lengths is not None:
        steps = x if not configuration.batch_first else np.swapaxes(x, 0, 1)
        for row, length in enumerate(configuration.lengths):
            steps[length:, row] = value
    return x


def inputs_of(configuration, numbers, dtype):
    """Positional and keyword arguments of a call; padding is NaN, which must not matter."""
    x = with_padding(configuration, numbers.x, np.nan).astype(dtype)
    start = None if numbers.start is None else tuple(part.astype(dtype) for part in numbers.start)
    return (x, start), {"lengths": configuration.lengths}


def answer(configuration, numbers, dtype):
    """Results and gradients by name: output, h_n, c_n; x, h_0, c_0; and the parameters."""
    lstm = lstm_of(configuration, numbers, dtype)
    arguments, options = inputs_of(configuration, numbers, dtype)
    tape = lstm.record(*arguments, **options, training=False)
    d_output = with_padding(configuration, numbers.d_output, np.nan).astype(dtype)
    return results_of(tape, d_output, tuple(part.astype(dtype) for part in numbers.d_state))


def results_of(tape, d_output, d_state):
    """Results and gradients of one recording, by name."""
    gradients = tape.backward(d_output, d_state)
    results = {"output": tape.output, "h_n": tape.state[0], "c_n": tape.state[1]}
    results |= {"x": gradients.x, "h_0": gradients.state[0], "c_0": gradients.state[1]}
    return results | dict(gradients.parameters)


def random_lstm(seed=0, dtype="float32", **options):
    """An LSTM with large random weights, so that differences show."""
    lstm = lw.LSTM(**options, dtype=dtype)
    random = np.random.RandomState(seed)
    bound = 1.5 / np.sqrt(lstm.hidden_size)
    for name in list(lstm.parameters):
        lstm.parameters[name] = random.uniform(-bound, bound, lstm.parameters[name].shape).astype(dtype)
    return lstm


def normal(seed, shape, dtype="float32"):
    return np.random.RandomState(seed).standard_normal(shape).astype(dtype)


# The sizes of a batch whose bits are compared, unless a test says otherwise.
STEPS, ROWS = 13, 23


def directions_of(lstm):
    return 2 if lstm.bidirectional else 1


def data(lstm, steps=STEPS, rows=ROWS):
    states, hidden = lstm.num_layers * directions_of(lstm), lstm.proj_size or lstm.hidden_size
    x = normal(1, (steps, rows, lstm.input_size), lstm.dtype)
    start = tuple(normal(2 + size, (states, rows, size), lstm.dtype) for size in (hidden, lstm.hidden_size))
    reset = np.random.RandomState(4).random_sample((steps, rows)) < 0.2
    return x, start, reset


def rows_of(parts, rows):
    """Chosen rows of results whose second to last axis is the row."""
    return tuple(np.ascontiguousarray(part[:, rows]) for part in parts)


def with_gradients(lstm, x, start, d_output, d_state, **options):
    tape = lstm.record(x, start, **{"training": False} | options)
    gradients = tape.backward(d_output, d_state)
    return (tape.output, *tape.state, gradients.x, *gradients.state), dict(gradients.parameters)


def weights_from_above(lstm, steps=STEPS, rows=ROWS):
    hidden = lstm.proj_size or lstm.hidden_size
    states = lstm.num_layers * directions_of(lstm)
    d_output = normal(11, (steps, rows, directions_of(lstm) * hidden), lstm.dtype)
    return d_output, tuple(normal(12 + size, (states, rows, size), lstm.dtype) for size in (hidden, lstm.hidden_size))


def variant_problem(options, start=True, ragged=False, reset=False):
    """An LSTM with these options, x, start state, gradients from above, and the lengths and resets of a call."""
    lstm = random_lstm(**({"input_size": 4, "hidden_size": 7} | options))
    x, state, restarts = data(lstm, steps=6, rows=5)
    d_output, d_state = weights_from_above(lstm, steps=6, rows=5)
    call = {"lengths": [6, 0, 1, 4, 6] if ragged else None, "reset": restarts if reset else None}
    return lstm, x, state if start else None, d_output, d_state, call
