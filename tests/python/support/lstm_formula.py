"""The LSTM as a formula in NumPy and float64, for models of formats that nothing else here runs."""

import numpy as np


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def lstm(x, weight_ih, weight_hh, bias, h=None, c=None):
    """One layer over (T, features), with PyTorch's weights and one bias: the outputs (T, H)."""
    hidden = weight_hh.shape[1]
    h, c = (np.zeros(hidden) if state is None else state for state in (h, c))
    outputs = []
    for step in x:
        i, f, g, o = np.split(weight_ih @ step + weight_hh @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs).reshape(len(x), hidden)


ACTIVATIONS = {
    "": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
}
