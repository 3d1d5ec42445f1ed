"""What layers are in ONNX: a writer for each kind adds its nodes to a graph and gives the name of its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.gates import reordered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork._arrays import Array
    from latchwork.interop.onnx.writing import Graph

# Our activations in ONNX's LSTM: the name, and how many numbers they take.
_GATES = {
    "sigmoid": ("Sigmoid", 0), "tanh": ("Tanh", 0), "relu": ("Relu", 0), "hard_sigmoid": ("HardSigmoid", 2),
    "affine": ("Affine", 2), "leaky_relu": ("LeakyRelu", 1), "thresholded_relu": ("ThresholdedRelu", 1),
    "scaled_tanh": ("ScaledTanh", 2), "elu": ("Elu", 1), "softsign": ("Softsign", 0), "softplus": ("Softplus", 0),
}  # fmt: skip
# Operators that are an activation by themselves.
_SINGLE = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus",
    "exponential": "Exp", "selu": "Selu",
}  # fmt: skip
_DEFAULTS = {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "candidate": "tanh", "cell": "tanh"}


def _lstm(graph: Graph, layer: Any, x: str) -> str:
    """Write a stack of LSTMs: a node for each layer."""
    config = layer._config.modules[0]
    _refuse(config)
    graph.make_mask(x)
    directions = 2 if layer.bidirectional else 1
    suffixes = ("", "_reverse") if layer.bidirectional else ("_reverse",) if layer.reverse else ("",)
    attributes = _attributes(graph, config, suffixes)
    pair = graph.pairs
    graph.pairs += 1
    tail = f"_{pair}" if pair else ""
    states: dict[str, list[str]] = {"h": [], "c": []}
    shape = [layer.num_layers * directions, "N", layer.hidden_size]
    starts = {key: graph.input(f"{key}_0{tail}", graph.dtype, shape) for key in "hc"} if graph.stateful else {}
    tensors = layer.state_dict()
    for number in range(layer.num_layers):
        names = [f"_l{number}{suffix}" for suffix in suffixes]
        prefix = f"lstm{tail}_l{number}"
        inputs = [x, *_weights(graph, layer, tensors, names, prefix), graph.lengths]
        for key in "hc":
            inputs.append(_start(graph, layer, tensors, names, starts.get(key, ""), key, number * directions, x))
        peephole = _peepholes(tensors, names, layer.forget_gate == "coupled")
        if peephole is not None:
            inputs.append(graph.constant(peephole, f"{prefix}_P"))
        while not inputs[-1]:
            inputs.pop()
        y, y_h, y_c = graph.node("LSTM", inputs, 3, name=prefix, **attributes)
        states["h"].append(y_h)
        states["c"].append(y_c)
        joined = _joined(graph, y, directions, getattr(layer, "merge", "concat"))
        x = graph.node("Add", [x, joined]) if layer.residual and number else joined
    graph.features = _output_size(layer)
    # Where more happens to the output, the last of it is no longer the state.
    plain = (layer.num_layers == 1 or not layer.residual) and getattr(layer, "merge", "concat") == "concat"
    graph.last = states["h"][-1] if plain else ""
    graph.zero_in_padding = layer.num_layers == 1 or not layer.residual
    graph.directions = suffixes
    if graph.stateful:
        for key, parts in states.items():
            whole = graph.node("Concat", parts, axis=0) if len(parts) > 1 else parts[0]
            graph.output(f"{key}_n{tail}", whole, shape)
    return x


def _refuse(config: Any) -> None:
    """Refuse what ONNX's LSTM does not have."""
    reasons = {
        "proj_size": "projects h, which ONNX's LSTM does not",
        "layer_norm": "has layer norm, which ONNX's LSTM does not",
        "cell_clip": "clips the cell, which ONNX's LSTM does not",
        "zoneout_hidden": "has zoneout, which ONNX's LSTM does not",
        "zoneout_cell": "has zoneout, which ONNX's LSTM does not",
    }
    for name, reason in reasons.items():
        if config.get(name):
            raise ValueError(f"an LSTM that {reason}")
    if config["forget_gate"] == "none":
        raise ValueError("an LSTM without a forget gate, which ONNX's LSTM always has")


def _attributes(graph: Graph, config: Any, suffixes: Sequence[str]) -> dict[str, Any]:
    direction = "bidirectional" if len(suffixes) == 2 else "reverse" if suffixes[0] else "forward"
    attributes: dict[str, Any] = {"hidden_size": config["hidden_size"], "direction": direction}
    if config["clip"] is not None:
        attributes["clip"] = _as_attribute(graph, "clip", config["clip"])
    if config["forget_gate"] == "coupled":
        attributes["input_forget"] = 1
    sets = config["activations"]
    sets = sets * len(suffixes) if len(sets) == 1 else sets
    names: list[str] = []
    numbers: dict[str, list[float]] = {"activation_alpha": [], "activation_beta": []}
    for given in sets:
        gates = [gate for gate in ("input", "forget", "output") if gate != "forget" or "input_forget" not in attributes]
        chosen = {gate: given.get(gate, _DEFAULTS[gate]) for gate in _DEFAULTS}
        if any(chosen[gate] != chosen["input"] for gate in gates):
            raise ValueError("activations that differ between the gates, which have one in ONNX's LSTM")
        for gate in ("input", "candidate", "cell"):
            name, *values = [chosen[gate]] if isinstance(chosen[gate], str) else chosen[gate]
            if name not in _GATES:
                raise ValueError(f"the activation {name!r} in a gate, which ONNX's LSTM does not have")
            names.append(_GATES[name][0])
            for key, value in zip(numbers, values[: _GATES[name][1]], strict=False):
                numbers[key].append(_as_attribute(graph, f"{gate}: {name}", value))
    if names != ["Sigmoid", "Tanh", "Tanh"] * len(suffixes):
        attributes["activations"] = names
        attributes |= {key: values for key, values in numbers.items() if values}
    return attributes


def _as_attribute(graph: Graph, name: str, value: float) -> float:
    """Give a number as an attribute, which is a float32, holds it."""
    if graph.dtype == np.float64 and float(np.float32(value)) != value:
        raise ValueError(f"{name}: {value!r} in a float64 model, which ONNX would round to float32")
    return float(value)


def _weights(graph: Graph, layer: Any, tensors: Any, names: Sequence[str], prefix: str) -> list[str]:
    """Add W, R and B in ONNX's order of gates. A coupled forget gate has rows of zeros."""
    coupled = layer.forget_gate == "coupled"

    def stacked(kind: str) -> Array:
        return np.stack([_in_order(tensors[kind + name], "igo" if coupled else "ifgo", "iofg") for name in names])

    letters = {"weight_ih": "W", "weight_hh": "R"}
    made = [graph.constant(stacked(kind), f"{prefix}_{letter}") for kind, letter in letters.items()]
    if not layer.bias:
        return [*made, ""]
    both = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return [*made, graph.constant(both, f"{prefix}_B")]


def _in_order(array: Array, ours: str, theirs: str) -> Array:
    if "f" not in ours:
        array = np.concatenate([array, np.zeros_like(array[: len(array) // len(ours)])])
        ours += "f"
    return reordered(array, ours, theirs)


def _peepholes(tensors: Any, names: Sequence[str], coupled: bool) -> Array | None:
    rows = [tensors.get(f"weight_peephole{name}") for name in names]
    if rows[0] is None:
        return None
    return np.stack([_in_order(row, "io" if coupled else "ifo", "iof") for row in rows])


def _start(
    graph: Graph, layer: Any, tensors: Any, names: Sequence[str], given: str, key: str, first: int, x: str
) -> str:
    """Give a layer's start state: its part of the input, or what the model learned."""
    directions = len(names)
    if given:
        if layer.num_layers == 1:
            return given
        return str(graph.node("Slice", [given, graph.whole(first), graph.whole(first + directions), graph.whole(0)]))
    if not layer.learn_start_state:
        return ""
    rows = np.stack([tensors[f"{key}_0{name}"] for name in names])[:, np.newaxis]
    sizes = [graph.whole(directions), graph.sizes(x, 1, 2), graph.whole(layer.hidden_size)]
    return str(graph.node("Expand", [graph.constant(rows), graph.node("Concat", sizes, axis=0)]))


def _joined(graph: Graph, y: str, directions: int, merge: str) -> str:
    """Turn (T, D, N, H) into (T, N, features)."""
    if directions == 1:
        return str(graph.node("Squeeze", [y, graph.whole(1)]))
    if merge == "concat":
        return str(graph.node("Reshape", [graph.node("Transpose", [y], perm=[0, 2, 1, 3]), graph.whole(0, 0, -1)]))
    parts = graph.node("Split", [y, graph.whole(1, 1)], 2, axis=1)
    parts = [graph.node("Squeeze", [part, graph.whole(1)]) for part in parts]
    return str(graph.node({"sum": "Add", "mul": "Mul", "ave": "Mean"}[merge], parts))


def _output_size(layer: Any) -> int:
    both = layer.bidirectional and getattr(layer, "merge", "concat") == "concat"
    return int(layer.hidden_size) * (2 if both else 1)


def _embedding(graph: Graph, layer: Any, x: str) -> str:
    if layer.mask_token is not None:
        raise ValueError("an Embedding with a mask_token, whose steps ONNX's LSTM cannot leave out")
    graph.features = layer.embedding_dim
    return str(graph.node("Gather", [graph.constant(layer.state_dict()["weight"], f"embedding_{graph.pairs}"), x]))


def _linear(graph: Graph, layer: Any, x: str) -> str:
    tensors = layer.state_dict()
    x = graph.node("MatMul", [x, graph.constant(tensors["weight"].T)])
    if layer.bias:
        x = graph.node("Add", [x, graph.constant(tensors["bias"])])
    graph.features = layer.out_features
    return _activated(graph, layer.activation, x)


def _activation(graph: Graph, layer: Any, x: str) -> str:
    return _activated(graph, layer.activation, x)


def _activated(graph: Graph, activation: Any, x: str) -> str:
    """Write an activation."""
    if activation is None:
        return x
    given: Sequence[Any] = [activation] if isinstance(activation, str) else activation
    name, values = given[0], given[1:]

    def number(value: float) -> str:
        return graph.constant(np.array(value, graph.dtype))

    if name in _SINGLE:
        return str(graph.node(_SINGLE[name], [x]))
    match name:
        case "hard_sigmoid":
            alpha, beta = (_as_attribute(graph, name, value) for value in values)
            return str(graph.node("HardSigmoid", [x], alpha=alpha, beta=beta))
        case "elu" | "leaky_relu" | "thresholded_relu":
            return str(graph.node(_GATES[name][0], [x], alpha=_as_attribute(graph, name, values[0])))
        case "affine":
            return str(graph.node("Add", [graph.node("Mul", [x, number(values[0])]), number(values[1])]))
        case "scaled_tanh":
            inner = graph.node("Tanh", [graph.node("Mul", [x, number(values[1])])])
            return str(graph.node("Mul", [inner, number(values[0])]))
        case "silu":
            return str(graph.node("Mul", [x, graph.node("Sigmoid", [x])]))
        case "softmax" | "log_softmax":
            return str(graph.node("Softmax" if name == "softmax" else "LogSoftmax", [x], axis=-1))
        case "gelu" | "gelu_tanh" if graph.opset >= 20:
            return str(graph.node("Gelu", [x], approximate="tanh" if name == "gelu_tanh" else "none"))
        case "gelu":
            erf = graph.node("Erf", [graph.node("Mul", [x, number(0.5**0.5)])])
            half = graph.node("Mul", [x, number(0.5)])
            return str(graph.node("Mul", [half, graph.node("Add", [erf, number(1.0)])]))
    raise ValueError(f"the activation {name!r}, which ONNX's opset {graph.opset} does not have")


def _last(graph: Graph, layer: Any, x: str) -> str:
    """Take the last output: what is right after an LSTM ends in its state."""
    graph.sequence = False
    if not graph.last:
        if graph.lengths or graph.directions != ("",):
            raise ValueError("a Last that follows no LSTM at once, with lengths or a direction other than forward")
        return str(graph.node("Gather", [x, graph.constant(np.array(-1, np.int64))], axis=0))
    if len(graph.directions) == 1:
        return str(graph.node("Squeeze", [graph.last, graph.whole(0)]))
    return str(graph.node("Reshape", [graph.node("Transpose", [graph.last], perm=[1, 0, 2]), graph.whole(0, -1)]))


def _mean(graph: Graph, layer: Any, x: str) -> str:
    graph.sequence = False
    if not graph.lengths:
        return _reduced(graph, "ReduceMean", x)
    zero, one = (graph.constant(np.array(number, graph.dtype)) for number in (0, 1))
    total = graph.node("ReduceSum", [graph.node("Where", [graph.mask(), x, zero]), graph.whole(0)], keepdims=0)
    kind = 11 if graph.dtype == np.float64 else 1
    counts = graph.node("Unsqueeze", [graph.node("Cast", [graph.lengths], to=kind), graph.whole(1)])
    return str(graph.node("Div", [total, graph.node("Max", [counts, one])]))


def _max(graph: Graph, layer: Any, x: str) -> str:
    graph.sequence = False
    if not graph.lengths:
        return _reduced(graph, "ReduceMax", x)
    lowest = graph.constant(np.array(-np.inf, graph.dtype))
    largest = _reduced(graph, "ReduceMax", graph.node("Where", [graph.mask(), x, lowest]))
    counts = graph.node("Unsqueeze", [graph.lengths, graph.whole(1)])
    filled = graph.node("Greater", [counts, graph.constant(np.array(0, np.int32))])
    return str(graph.node("Where", [filled, largest, graph.constant(np.array(0, graph.dtype))]))


def _reduced(graph: Graph, op_type: str, x: str) -> str:
    """Reduce the steps; from opset 18 on the axes are an input."""
    if graph.opset >= 18:
        return str(graph.node(op_type, [x, graph.whole(0)], keepdims=0))
    return str(graph.node(op_type, [x], axes=[0], keepdims=0))


def _scale(graph: Graph, layer: Any, x: str) -> str:
    shift, factor = (graph.constant(np.array(each, graph.dtype)) for each in (layer.shift, layer.factor))
    return str(graph.node("Mul", [graph.node("Sub", [x, shift]), factor]))


def _sort(graph: Graph, layer: Any, x: str) -> str:
    lead = [0, 0] if graph.sequence else [0]
    groups = graph.node("Reshape", [x, graph.whole(*lead, graph.features // layer.group, layer.group)])
    values, _ = graph.node("TopK", [groups, graph.whole(layer.group)], 2, axis=-1, largest=0, sorted=1)
    return str(graph.node("Reshape", [values, graph.whole(*lead, graph.features)]))


def _embed_columns(graph: Graph, layer: Any, x: str) -> str:
    tensors = layer.state_dict()
    rest = [place for place in range(layer.features) if place not in layer.columns]
    parts = [graph.node("Gather", [x, graph.whole(*rest)], axis=-1)] if rest else []
    for number, column in enumerate(layer.columns):
        codes = graph.node("Cast", [graph.node("Gather", [x, graph.constant(np.array(column))], axis=-1)], to=7)
        parts.append(graph.node("Gather", [graph.constant(tensors[f"weight_{number}"]), codes]))
    graph.features = len(rest) + sum(layer.embedding_dim)
    return str(graph.node("Concat", parts, axis=-1))


def _impute(graph: Graph, layer: Any, x: str) -> str:
    """Replace NaN by a constant; or by what was seen last, which goes from step to step in a Scan."""
    fill = np.array(layer.fill or np.zeros(layer.features), graph.dtype)
    seen = np.array(layer.indicators, np.int64)
    forward = layer.method == "forward"
    kind = 11 if graph.dtype == np.float64 else 1
    count, chosen = layer.features, len(seen)
    names = {"fill": graph.constant(fill), "chosen": graph.constant(seen)}
    carried = "value_prev"
    carrying: list[tuple[Any, ...]] = []
    if layer.persistence is not None:
        persistence = graph.constant(np.array(layer.persistence, graph.dtype))
        carried = "carried"
        carrying = [
            ("Sub", ["value_prev", names["fill"]], ["distance"], {}),
            ("Mul", [persistence, "distance"], ["kept"], {}),
            ("Add", [names["fill"], "kept"], [carried], {}),
        ]
    graph.features = count + chosen * (2 if forward else 1)
    if not forward:
        missing = graph.node("IsNaN", [x])
        values = graph.node("Where", [missing, names["fill"], x])
        if not chosen:
            return str(values)
        masks = graph.node("Cast", [graph.node("Not", [missing])], to=kind)
        return str(graph.node("Concat", [values, graph.node("Gather", [masks, names["chosen"]], axis=-1)], axis=-1))
    nodes: list[tuple[Any, ...]] = [
        ("IsNaN", ["x_t"], ["missing"], {}),
        *carrying,
        ("Where", ["missing", carried, "x_t"], ["value"], {}),
        ("Add", ["age_prev", graph.constant(np.ones((), graph.dtype))], ["older"], {}),
        ("Where", ["missing", "older", graph.constant(np.zeros((), graph.dtype))], ["age"], {}),
    ]
    if chosen:
        nodes += [
            ("Not", ["missing"], ["present"], {}),
            ("Cast", ["present"], ["masks"], {"to": kind}),
            ("Gather", ["masks", names["chosen"]], ["told"], {"axis": -1}),
            ("Add", ["age", graph.constant(np.ones((), graph.dtype))], ["counted"], {}),
            ("Log", ["counted"], ["ages"], {}),
            ("Gather", ["ages", names["chosen"]], ["told_age"], {"axis": -1}),
            ("Concat", ["value", "told", "told_age"], ["y_t"], {"axis": -1}),
        ]
    else:
        nodes.append(("Identity", ["value"], ["y_t"], {}))
    shape = ["N", count]
    body = graph.body(
        nodes,
        {"value_prev": shape, "age_prev": shape, "x_t": shape},
        {"value": shape, "age": shape, "y_t": ["N", graph.features]},
    )
    if graph.stateful:
        starts = [graph.input(f"{key}_0", graph.dtype, shape) for key in ("value", "age")]
    else:
        sizes = graph.sizes(x, 1, 3)
        starts = [graph.node("Expand", [graph.constant(each), sizes]) for each in (fill, np.zeros_like(fill))]
    value, age, y = graph.node("Scan", [*starts, x], 3, body=body, num_scan_inputs=1)
    if graph.stateful:
        graph.output("value_n", value, shape)
        graph.output("age_n", age, shape)
    return str(y)


def _reverse(graph: Graph, layer: Any, x: str) -> str:
    graph.make_mask(x)
    if graph.lengths:
        lengths = graph.node("Cast", [graph.lengths], to=7)
        made = graph.node("ReverseSequence", [x, lengths], time_axis=0, batch_axis=1)
    else:
        first, end, step = graph.whole(-1), graph.whole(-(1 << 62)), graph.whole(-1)
        made = graph.node("Slice", [x, first, end, graph.whole(0), step])
    graph.directions = ("reversed",)
    return str(made)


def _input_skip(graph: Graph, layer: Any, x: str) -> str:
    """Add the first features of the network's input, times a factor."""
    count, last, zero = graph.whole(layer.features), graph.whole(-1), graph.whole(0)
    added, kept = graph.x, ""
    if graph.input_features > layer.features:
        added = graph.node("Slice", [added, zero, count, last])
    if layer.factor != 1:
        added = graph.node("Mul", [added, graph.constant(np.array(layer.factor, graph.dtype))])
    if graph.features > layer.features:
        kept = graph.node("Slice", [x, count, graph.whole(1 << 62), last])
        x = graph.node("Slice", [x, zero, count, last])
    made = graph.node("Add", [x, added])
    return str(graph.node("Concat", [made, kept], axis=-1)) if kept else str(made)


def _mask(graph: Graph, layer: Any, x: str) -> str:
    raise ValueError("a Mask, whose steps ONNX's LSTM cannot leave out")


def _nothing(graph: Graph, layer: Any, x: str) -> str:
    return x


WRITERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "activation": _activation,
    "dropout": _nothing,
    "embed_columns": _embed_columns,
    "embedding": _embedding,
    "impute": _impute,
    "input_skip": _input_skip,
    "last": _last,
    "linear": _linear,
    "lstm": _lstm,
    "mask": _mask,
    "max": _max,
    "mean": _mean,
    "reverse": _reverse,
    "scale": _scale,
    "sort": _sort,
}
