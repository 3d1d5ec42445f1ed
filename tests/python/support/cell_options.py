"""Options of the cell: their defaults, and rich sets of them."""

import latchwork as lw
import numpy as np
import pytest

DEFAULTS = {
    "merge": "concat",
    "forget_gate": True,
    "peephole": False,
    "layer_norm": False,
    "activations": None,
    "clip": None,
    "cell_clip": None,
    "zoneout": (0.0, 0.0),
    "recurrent_dropout": 0.0,
    "recurrent_dropout_on": "hidden",
    "weight_dropout": 0.0,
    "residual": False,
    "learn_start_state": False,
    "forget_bias": None,
    "init": "torch",
    "t_max": None,
}
OF_STACKS = {"residual", "merge"}
CELL_DEFAULTS = {name: value for name, value in DEFAULTS.items() if name not in OF_STACKS} | {"proj_size": 0}

STACK = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True}
WITHOUT_FORGET_GATE = [{"forget_gate": False}, {"forget_gate": "coupled"}]

# Rich configurations, each as given and as it is kept.
HARD = ("hard_sigmoid", 1 / 6, 0.5)
RICH = [
    (STACK | {"forget_gate": "coupled", "peephole": True, "activations": {"candidate": "relu"}, "residual": True}, {}),
    (STACK | {"activations": [{"input": list(HARD)}, {"cell": ("elu", 2)}]},
     {"activations": ({"input": HARD}, {"cell": ("elu", 2.0)})}),
    (STACK | {"activations": ({}, {"output": ("affine", 2.0)})},
     {"activations": ({}, {"output": ("affine", 2.0, 0.0)})}),
    (STACK | {"layer_norm": True, "bias": False, "clip": 3, "cell_clip": np.float32(0.5), "proj_size": 2},
     {"clip": 3.0, "cell_clip": 0.5}),
    (STACK | {"learn_start_state": True, "zoneout": [np.float64(0.25), 1], "dtype": "float64"},
     {"zoneout": (0.25, 1.0)}),
    (STACK | {"recurrent_dropout": 0.5, "recurrent_dropout_on": "candidate", "weight_dropout": 1, "dropout": 0.1}, {}),
    (STACK | {"merge": "mul", "activations": {"input": "gelu", "cell": "silu"}}, {}),
    (STACK | {"init": "chrono", "t_max": 40, "forget_gate": "coupled"}, {}),
    (STACK | {"init": "keras", "forget_bias": 2, "peephole": True, "learn_start_state": True}, {"forget_bias": 2.0}),
    ({"input_size": 3, "hidden_size": 5, "reverse": True, "forget_gate": False, "init": "orthogonal"}, {}),
]  # fmt: skip
DROPOUTS = {"recurrent_dropout", "recurrent_dropout_on", "weight_dropout"}  # which a cell refuses
CELL_OPTIONS = set(CELL_DEFAULTS) - DROPOUTS | {"input_size", "hidden_size", "bias", "dtype"}


def one_direction(options):
    """The same options for a cell, with the first of two sets of activations."""
    options = {name: value for name, value in options.items() if name in CELL_OPTIONS}
    if isinstance(options.get("activations"), (tuple, list)):
        options["activations"] = options["activations"][0]
    return options


MODULES = [
    *[pytest.param(lw.LSTM, given, id=f"LSTM-{place}") for place, (given, _) in enumerate(RICH)],
    *[pytest.param(lw.LSTMCell, one_direction(given), id=f"LSTMCell-{place}") for place, (given, _) in enumerate(RICH)],
]

# The activations of a gate, and the defaults of alpha and beta of those that take them.
ACTIVATIONS = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "hard_sigmoid": (0.2, 0.5),
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (1.0, 1.0),
    "elu": (1.0,),
    "softsign": (),
    "softplus": (),
    "selu": (),
    "silu": (),
    "gelu": (),
    "gelu_tanh": (),
    "exponential": (),
}
GATES = {"input": "sigmoid", "forget": "sigmoid", "candidate": "tanh", "output": "sigmoid", "cell": "tanh"}
