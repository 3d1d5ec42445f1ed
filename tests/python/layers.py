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
    """x with what lies beyond each sequence's end replaced."""
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
    tape = lstm.record(*arguments, **options)
    d_output = with_padding(configuration, numbers.d_output, np.nan).astype(dtype)
    gradients = tape.backward(d_output, tuple(part.astype(dtype) for part in numbers.d_state))
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
