"""The variants of the cell that several test files run: each option alone, and combinations."""

import numpy as np

STACK = {"num_layers": 2, "bidirectional": True}

# One activation for each gate and the cell, all different, with constants for those that take them.
ACTIVATIONS = {
    "input": ("hard_sigmoid", 0.3, 0.4),
    "forget": ("affine", 0.2, 0.6),
    "candidate": ("elu", 0.7),
    "output": "softsign",
    "cell": ("leaky_relu", 0.1),
}
OTHER_ACTIVATIONS = {
    "input": ("scaled_tanh", 0.7, 1.3),
    "forget": ("hard_sigmoid", 1 / 6, 0.5),
    "candidate": ("thresholded_relu", 0.2),
    "output": "softplus",
    "cell": "relu",
}
# Hochreiter & Schmidhuber 1997: g in +-2 and h in +-1 come from stretched sigmoids, which are scaled tanhs.
CELL_OF_1997 = {
    "forget_gate": False,
    "activations": {"candidate": ("scaled_tanh", 2.0, 0.5), "cell": ("scaled_tanh", 1.0, 0.5)},
}


def without(gate, activations):
    return {name: given for name, given in activations.items() if name != gate}


# Options that act in every call.
PLAIN = {
    "no forget gate": {"forget_gate": False},
    "coupled": {"forget_gate": "coupled"},
    "peephole": {"peephole": True},
    "peephole, no forget gate": {"peephole": True, "forget_gate": False},
    "peephole, coupled": {"peephole": True, "forget_gate": "coupled"},
    "layer norm": {"layer_norm": True},
    "layer norm without bias": {"layer_norm": True, "bias": False},
    "layer norm, coupled": {"layer_norm": True, "forget_gate": "coupled"},
    "activations": {"activations": ACTIVATIONS},
    "activations of two directions": {**STACK, "activations": (ACTIVATIONS, OTHER_ACTIVATIONS)},
    "clip": {"clip": 0.4},
    "cell clip": {"cell_clip": 0.3},
    "zoneout": {"zoneout": (0.2, 0.35)},
    "zoneout of the cell alone": {"zoneout": (0.0, 0.3)},
    "projection": {"proj_size": 3, "zoneout": (0.3, 0.0), "peephole": True},
    "residual": {"residual": True, "num_layers": 3},
    "learned start state": {"learn_start_state": True},
    "cell of 1997": CELL_OF_1997,
    "everything": {
        **STACK, "proj_size": 3, "peephole": True, "layer_norm": True, "residual": True, "learn_start_state": True,
        "activations": (ACTIVATIONS, OTHER_ACTIVATIONS), "clip": 0.9, "cell_clip": 0.8, "zoneout": (0.1, 0.2),
    },
    "everything, coupled": {
        **STACK, "forget_gate": "coupled", "peephole": True, "layer_norm": True, "residual": True,
        "learn_start_state": True, "activations": without("forget", ACTIVATIONS), "clip": 0.9, "cell_clip": 0.8,
        "zoneout": (0.1, 0.2),
    },
}  # fmt: skip

# Options that act at random in training.
RANDOM = {
    "dropout": {"dropout": 0.4, "num_layers": 2},
    "zoneout": {"zoneout": (0.2, 0.35)},
    "zoneout of h alone": {"zoneout": (0.4, 0.0)},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "recurrent dropout of candidates": {"recurrent_dropout": 0.4, "recurrent_dropout_on": "candidate"},
    "weight dropout": {"weight_dropout": 0.4},
    "all, with projection": {
        **STACK, "dropout": 0.2, "zoneout": (0.2, 0.1), "recurrent_dropout": 0.3, "weight_dropout": 0.2,
        "proj_size": 3,
    },
    "all, with everything": PLAIN["everything"] | {
        "dropout": 0.2, "recurrent_dropout": 0.3, "recurrent_dropout_on": "candidate", "weight_dropout": 0.2,
    },
}  # fmt: skip


def forward_only(options):
    """The same in the forward direction alone, which can be run step by step."""
    options = {name: value for name, value in options.items() if name != "bidirectional"}
    if isinstance(options.get("activations"), tuple):
        options["activations"] = options["activations"][0]
    return options


EVERY = PLAIN | {f"random: {name}": options for name, options in RANDOM.items()}


def _activation(random):
    name, *ranges = (
        ("sigmoid",), ("tanh",), ("relu",), ("hard_sigmoid", (0.1, 0.5), (0.2, 0.8)), ("affine", (-0.8, 0.8), (-1, 1)),
        ("leaky_relu", (0.0, 0.5)), ("thresholded_relu", (0.0, 0.5)), ("scaled_tanh", (-1.5, -0.3), (-1, 1)),
        ("elu", (0.0, 1.2)), ("softsign",), ("softplus",), ("selu",), ("silu",), ("gelu",), ("gelu_tanh",),
    )[random.randint(15)]  # fmt: skip
    # Any number of the constants may be left to their defaults.
    given = tuple(float(random.uniform(*bounds)) for bounds in ranges[: random.randint(len(ranges) + 1)])
    return (name, *given) if given else name


def random_options(index):
    """Options of an LSTM of a few units, drawn from all of them but those that act in training alone."""
    random = np.random.RandomState(5000 + index)

    def chance(share):
        return bool(random.random_sample() < share)

    options = {
        "input_size": int(random.randint(1, 6)),
        "hidden_size": int(random.choice([1, 3, 8, 17])),
        "num_layers": int(random.randint(1, 4)),
        "bias": chance(0.7),
        "bidirectional": chance(0.5),
        "peephole": chance(0.5),
        "layer_norm": chance(0.4),
        "clip": float(random.uniform(0.2, 1.5)) if chance(0.4) else None,
        "cell_clip": float(random.uniform(0.2, 1.0)) if chance(0.4) else None,
        "zoneout": tuple(float(random.uniform(0.0, 0.6)) if chance(0.5) else 0.0 for _ in range(2)),
        "learn_start_state": chance(0.5),
    }
    options |= ({}, {}, {"forget_gate": "coupled"}, {"forget_gate": False})[random.randint(4)]
    if options["hidden_size"] > 1 and chance(0.3):
        options["proj_size"] = int(random.randint(1, options["hidden_size"]))
    if options["num_layers"] > 1:
        options["residual"] = chance(0.5)
    elif not options["bidirectional"]:
        options["reverse"] = chance(0.3)
    gates = [gate for gate in ACTIVATIONS if gate != "forget" or "forget_gate" not in options]
    if options.get("forget_gate") == "coupled" and options["cell_clip"] is not None:
        # An input gate of exactly 0 would keep a cell at its bound, where the clip has no derivative.
        gates.remove("input")
    sets = [{gate: _activation(random) for gate in gates if chance(0.5)} for _ in range(2)]
    if chance(0.6):
        options["activations"] = tuple(sets) if options["bidirectional"] and chance(0.5) else sets[0]
    return options
