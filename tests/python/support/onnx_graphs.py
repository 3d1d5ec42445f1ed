"""ONNX graphs around LSTMs as exporters write them, and others."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def constants(**arrays):
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def normal(seed, *shape):
    return (np.random.RandomState(seed).standard_normal(shape) * 0.5).astype(np.float32)


def model(nodes, inputs, outputs, initializers=(), opset=17):
    """A model; inputs and outputs are names with dims, or (dims, type)."""
    infos = [
        [
            helper.make_tensor_value_info(name, *(dims[::-1] if isinstance(dims, tuple) else (FLOAT, dims)))
            for name, dims in each.items()
        ]
        for each in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "graph", *infos, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op_type, inputs, outputs, **attributes):
    return helper.make_node(op_type, inputs.split(), outputs.split(), name=f"{op_type} {outputs}", **attributes)


def lstm(name="lstm", seed=0, size=4, hidden=5, directions=1, x="x", outputs="y yh yc", **attributes):
    """A node, with its weights as initialisers."""
    if directions == 2:
        attributes["direction"] = "bidirectional"
    weights = constants(
        **{
            f"{name}.W": normal(seed, directions, 4 * hidden, size),
            f"{name}.R": normal(seed + 1, directions, 4 * hidden, hidden),
            f"{name}.B": normal(seed + 2, directions, 8 * hidden),
        }
    )
    names = [x, f"{name}.W", f"{name}.R", f"{name}.B"]
    made = helper.make_node("LSTM", names, outputs.split(), name=name, hidden_size=hidden, **attributes)
    return made, weights


def plain():
    made, weights = lstm()
    return model([made, node("Squeeze", "y one", "out")], {"x": ["T", "N", 4]}, {"out": None},
                 [*weights, *constants(one=[1])])  # fmt: skip


def tagger():
    """An embedding, both directions, a linear layer at each step, batch first."""
    made, weights = lstm(x="xt", directions=2)
    nodes = [
        node("Gather", "table tokens", "e"), node("Transpose", "e", "xt", perm=[1, 0, 2]), made,
        node("Transpose", "y", "yt", perm=[2, 0, 1, 3]), node("Reshape", "yt shape", "yr"),
        node("MatMul", "yr K", "mm"), node("Add", "k mm", "sum"), node("Softmax", "sum", "out", axis=-1),
    ]  # fmt: skip
    extra = constants(table=normal(7, 9, 4), shape=[0, 0, -1], K=normal(8, 10, 3), k=normal(9, 3))
    return model(nodes, {"tokens": (["N", "T"], INT64)}, {"out": None}, [*weights, *extra])


def cell():
    """One step as TensorFlow writes it."""
    nodes = [
        node("Concat", "x h", "xh", axis=1), node("MatMul", "xh K", "zz"), node("Add", "zz b", "z"),
        node("Split", "z", "iz gz fz oz", axis=1), node("Sigmoid", "iz", "i"), node("Sigmoid", "fz", "f"),
        node("Tanh", "gz", "g"), node("Sigmoid", "oz", "o"), node("Mul", "f c", "fc"), node("Mul", "i g", "ig"),
        node("Add", "fc ig", "cn"), node("Tanh", "cn", "tc"), node("Mul", "o tc", "hn"),
    ]  # fmt: skip
    inputs = {"x": ["N", 4], "c": ["N", 5], "h": ["N", 5]}
    return model(nodes, inputs, {"hn": None, "cn": None}, constants(K=normal(3, 9, 20), b=normal(4, 20)), 11)


def all_kinds():
    return [plain(), tagger(), cell()]


def chain_of(op_type, count):
    nodes = [node(op_type, f"x{k}" if k else "x", f"x{k + 1}") for k in range(count)]
    return model(nodes, {"x": ["T", "N", 4]}, {f"x{count}": None})


def sums(count):
    """A sum of a product with itself, again and again, that ends in what could be a step."""
    nodes = [node("MatMul", "x K", "s0")]
    nodes += [node("Add", f"s{k} s{k}", f"s{k + 1}") for k in range(count)]
    nodes += [node("Sigmoid", f"s{count}", "i"), node("Mul", "i i", "ig"), node("Mul", "i c", "fc")]
    nodes += [node("Add", "ig fc", "cn"), node("Mul", "cn i", "hn")]
    return model(nodes, {"x": ["N", 5], "c": ["N", 5]}, {"hn": None}, constants(K=normal(1, 5, 5)))
