"""ONNX's LSTM operator as its specification writes it, in NumPy, and random nodes with every attribute."""

import math

import numpy as np
from onnx import helper, numpy_helper

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
DEFAULTS = {
    "Affine": (1.0, 0.0), "Elu": (1.0, None), "HardSigmoid": (0.2, 0.5), "LeakyRelu": (0.01, None),
    "Relu": (None, None),
    "ScaledTanh": (1.0, 1.0), "Sigmoid": (None, None), "Softplus": (None, None), "Softsign": (None, None),
    "Tanh": (None, None), "ThresholdedRelu": (1.0, None),
}  # fmt: skip


def activation(name, alpha, beta, x):
    """One of the operator's activations."""
    match name:
        case "Affine":
            return alpha * x + beta
        case "Elu":
            return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)
        case "HardSigmoid":
            return np.clip(alpha * x + beta, 0, 1)
        case "LeakyRelu":
            return np.where(x < 0, alpha * x, x)
        case "Relu":
            return np.maximum(x, 0)
        case "ScaledTanh":
            return alpha * np.tanh(beta * x)
        case "Sigmoid":
            return 1 / (1 + np.exp(-x))
        case "Softplus":
            return np.logaddexp(0, x)
        case "Softsign":
            return x / (1 + np.abs(x))
        case "Tanh":
            return np.tanh(x)
        case "ThresholdedRelu":
            return np.where(x >= alpha, x, 0)
    raise ValueError(name)


def functions(attributes, directions):
    """The three activations of each direction; the lists of alpha and beta are compact."""
    names = attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"] * directions)
    given = [iter(attributes.get(key, [])) for key in ("activation_alpha", "activation_beta")]
    chosen = []
    for name in names:
        numbers = [
            None if default is None else next(values, default)
            for values, default in zip(given, DEFAULTS[name], strict=True)
        ]
        chosen.append(lambda x, name=name, numbers=numbers: activation(name, *numbers, x))
    return [chosen[3 * place : 3 * place + 3] for place in range(directions)]


def run(attributes, values):
    """Y, Y_h and Y_c in float64."""
    values = {name: np.asarray(value, np.float64) for name, value in values.items()}
    batch_first, x = attributes.get("layout", 0) == 1, values["X"]
    direction = attributes.get("direction", "forward")
    starts = [values.get(name) for name in ("initial_h", "initial_c")]
    if batch_first:
        x = x.swapaxes(0, 1)
        starts = [None if start is None else start.swapaxes(0, 1) for start in starts]
    steps, rows, _ = x.shape
    directions, hidden = values["R"].shape[0], values["R"].shape[2]
    lengths = values.get("sequence_lens", np.full(rows, steps)).astype(int)
    clip = attributes.get("clip", math.inf)
    y = np.zeros((steps, directions, rows, hidden))
    ends = np.zeros((2, directions, rows, hidden))
    for place, (f, g, h_of) in enumerate(functions(attributes, directions)):
        w_i, w_o, w_f, w_c = np.split(values["W"][place], 4)
        r_i, r_o, r_f, r_c = np.split(values["R"][place], 4)
        b = values["B"][place] if "B" in values else np.zeros(8 * hidden)
        b_i, b_o, b_f, b_c = np.split(b[: 4 * hidden] + b[4 * hidden :], 4)
        p_i, p_o, p_f = np.split(values["P"][place] if "P" in values else np.zeros(3 * hidden), 3)
        backwards = direction == "reverse" or (direction == "bidirectional" and place == 1)
        for row in range(rows):
            h, c = (np.zeros(hidden) if start is None else start[place, row] for start in starts)
            order = range(lengths[row])
            for step in reversed(order) if backwards else order:
                x_t = x[step, row]

                def cut(a):
                    return np.clip(a, -clip, clip)

                i = f(cut(w_i @ x_t + r_i @ h + b_i + p_i * c))
                own = f(cut(w_f @ x_t + r_f @ h + b_f + p_f * c))
                forget = 1 - i if attributes.get("input_forget", 0) else own
                c = forget * c + i * g(cut(w_c @ x_t + r_c @ h + b_c))
                o = f(cut(w_o @ x_t + r_o @ h + b_o + p_o * c))
                h = o * h_of(c)
                y[step, place, row] = h
            ends[:, place, row] = h, c
    if batch_first:
        return y.transpose(2, 0, 1, 3), *ends.swapaxes(1, 2)
    return y, *ends


def random_case(seed, for_runtime=False):
    """Attributes and inputs of a node that has about half of everything that there is.

    ``for_runtime`` leaves out what ONNX Runtime lacks, or has other than the specification (see onnx_peer).
    """
    random = np.random.RandomState(seed)
    dtype = (np.float32, np.float64)[0 if for_runtime else random.randint(2)]
    direction = ("forward", "reverse", "bidirectional")[random.randint(3)]
    directions = 2 if direction == "bidirectional" else 1
    steps, rows = random.choice([1, 2, 7], 2)
    size, hidden = random.choice([1, 3, 7, 17], 2)
    attributes = {"hidden_size": int(hidden), "direction": direction}

    def number(low, high):
        return float(np.float32(random.uniform(low, high)))  # as an attribute holds it

    if random.randint(4):
        # Few of them together with a large state grow without bounds; the weights below are small enough.
        names = [str(name) for name in random.choice(sorted(DEFAULTS), 3 * directions)]
        attributes["activations"] = names
        alphas = [number(0.1, 0.9) for name in names if DEFAULTS[name][0] is not None]
        betas = [number(0.1, 0.9) for name in names if DEFAULTS[name][1] is not None]
        if not for_runtime:  # the defaults stand, or the lists end early
            alphas, betas = ((alphas, betas), (alphas[:1], betas[:1]), ([], []))[random.randint(3)]
        given = {"activation_alpha": alphas, "activation_beta": betas}
        attributes |= {key: numbers for key, numbers in given.items() if numbers}
    if random.randint(2):
        attributes["clip"] = number(0.2, 2)
    if random.randint(3) == 0:
        attributes["input_forget"] = 1
    if random.randint(3) == 0 and not for_runtime:
        attributes["layout"] = 1

    def normal(*shape):
        return (random.standard_normal(shape) * 0.5).astype(dtype)

    rows_first = attributes.get("layout", 0) == 1
    values = {
        "X": normal(rows, steps, size) if rows_first else normal(steps, rows, size),
        "W": normal(directions, 4 * hidden, size) / np.sqrt(size).astype(dtype),
        "R": normal(directions, 4 * hidden, hidden) / np.sqrt(hidden).astype(dtype),
    }
    if random.randint(3):
        values["B"] = normal(directions, 8 * hidden)
    if random.randint(2):
        values["sequence_lens"] = random.randint(1 if for_runtime else 0, steps + 1, rows).astype(np.int32)
    if random.randint(2):
        shape = (rows, directions, hidden) if rows_first else (directions, rows, hidden)
        values["initial_h"], values["initial_c"] = normal(*shape), normal(*shape)
    if random.randint(2):
        values["P"] = normal(directions, 3 * hidden)
    return attributes, values


def model_of(attributes, values, opset=22):
    """A file with one node: weights are initialisers, all other inputs are the graph's."""
    node = helper.make_node(
        "LSTM", [name if name in values else "" for name in INPUTS], ["Y", "Y_h", "Y_c"], name="lstm", **attributes
    )
    kind = helper.np_dtype_to_tensor_dtype(values["X"].dtype)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in values.items()
        if name in ("X", "sequence_lens", "initial_h", "initial_c")
    ]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in ("Y", "Y_h", "Y_c")]
    weights = [numpy_helper.from_array(values[name], name) for name in ("W", "R", "B", "P") if name in values]
    graph = helper.make_graph([node], "graph", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def call(model, attributes, values):
    """Call a converted LSTM with the operator's inputs, and give Y, Y_h and Y_c in its axes."""
    start = tuple(values[name] for name in ("initial_h", "initial_c")) if "initial_h" in values else None
    batch_first = attributes.get("layout", 0) == 1
    if start is not None and batch_first:
        start = tuple(part.swapaxes(0, 1) for part in start)
    output, state = model(values["X"], start, lengths=values.get("sequence_lens"))
    directions, hidden = values["R"].shape[0], values["R"].shape[2]
    y = output.reshape(*output.shape[:2], directions, hidden)
    if batch_first:
        return y, *(part.swapaxes(0, 1) for part in state)
    return y.transpose(0, 2, 1, 3), *state
