"""ONNX's LSTM operator with all its attributes and inputs, converted, beside the formula and ONNX Runtime."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, same_bits
from differences import Objective
from layers import normal

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx_formula  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
SMALL = {"X": (3, 2, 4), "W": (1, 20, 4), "R": (1, 20, 5), "B": (1, 40), "P": (1, 15)}


def arrays(dtype="float32", **shapes):
    shapes = {name: shape for name, shape in (SMALL | shapes).items() if shape is not None}
    return {name: normal(place, shape, dtype) for place, (name, shape) in enumerate(shapes.items())}


def converted(attributes, values, **options):
    return lw.from_onnx(onnx_formula.model_of(attributes, values), **options)


@pytest.mark.parametrize("seed", range(120))
def test_random_nodes(seed):
    attributes, values = onnx_formula.random_case(seed)
    model = converted(attributes, values)
    assert isinstance(model, lw.LSTM)
    assert model.dtype == values["X"].dtype
    names = zip(("Y", "Y_h", "Y_c"), onnx_formula.run(attributes, values), strict=True)
    for (name, expected), actual in zip(names, onnx_formula.call(model, attributes, values), strict=True):
        assert_close(actual, expected, TOLERANCE[model.dtype.name], name)


@pytest.mark.parametrize("seed", range(60))
def test_random_nodes_beside_onnx_runtime(seed):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    attributes, values = onnx_formula.random_case(seed, for_runtime=True)
    file = onnx_formula.model_of(attributes, values)
    session = runtime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {each.name: values[each.name] for each in session.get_inputs()}
    for actual, expected in zip(
        onnx_formula.call(lw.from_onnx(file), attributes, values), session.run(None, given), strict=True
    ):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("seed", [1, 7, 17, 31])
def test_gradients_of_the_converted(seed):
    random = np.random.RandomState(seed)
    direction = ("forward", "reverse", "bidirectional")[seed % 3]
    directions = 2 if direction == "bidirectional" else 1
    attributes = {
        "hidden_size": 3, "direction": direction, "clip": 3.0, "input_forget": seed % 2, "layout": seed // 7 % 2,
        "activations": [str(each) for each in random.choice(["Sigmoid", "Tanh", "Softsign"], 3 * directions)],
    }  # fmt: skip
    shapes = {"X": (4, 2, 3), "W": (directions, 12, 3), "R": (directions, 12, 3), "B": (directions, 24)}
    values = arrays("float64", **shapes, P=(directions, 9))
    model = converted(attributes, values)
    start = tuple(normal(place, (directions, 4 if model.batch_first else 2, 3), "float64") for place in (8, 9))
    Objective(model, values["X"], start).check()


def test_weights_keep_their_bits():
    values = arrays()
    model = converted({"hidden_size": 5}, values)
    gates = {"i": 0, "o": 1, "f": 2, "g": 3}
    for place, gate in enumerate("ifgo"):
        rows, source = slice(5 * place, 5 * place + 5), slice(5 * gates[gate], 5 * gates[gate] + 5)
        assert same_bits(model.parameters["weight_ih_l0"][rows], values["W"][0, source])
        assert same_bits(model.parameters["bias_hh_l0"][rows], values["B"][0, 20:][source])
    assert same_bits(model.parameters["weight_peephole_l0"], values["P"][0, [*range(5), *range(10, 15), *range(5, 10)]])


@pytest.mark.parametrize("opset", [7, 11, 14, 22])
def test_every_opset(opset):
    values = arrays()
    model = lw.from_onnx(onnx_formula.model_of({"hidden_size": 5}, values, opset))
    for actual, expected in zip(
        onnx_formula.call(model, {}, values), onnx_formula.run({"hidden_size": 5}, values), strict=True
    ):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize(("kind", "numpy_kind"), [("float16", "float16"), ("bfloat16", "float32")])
def test_narrow_weights_become_float32(kind, numpy_kind):
    values = arrays("float32", B=None, P=None)
    file = onnx_formula.model_of({"hidden_size": 5}, values)
    del file.graph.initializer[:]
    for name in "WR":
        element = onnx.TensorProto.BFLOAT16 if kind == "bfloat16" else onnx.TensorProto.FLOAT16
        halves = (values[name].view(np.uint32) >> 16).astype(np.uint16)
        raw = halves.tobytes() if kind == "bfloat16" else values[name].astype(np.float16).tobytes()
        file.graph.initializer.append(helper.make_tensor(name, element, values[name].shape, raw, raw=True))
        exact = (halves.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else None
        values[name] = values[name].astype(np.float16).astype(np.float32) if exact is None else exact
    model = lw.from_onnx(file)
    assert model.dtype == np.float32
    assert_close(model(values["X"])[1][0], onnx_formula.run({}, values)[1], 1e-5)


def test_another_dtype_on_request():
    values = arrays("float64")
    assert converted({"hidden_size": 5}, values, dtype="float32").dtype == np.float32
    with pytest.raises(ValueError, match="dtype: expected"):
        converted({"hidden_size": 5}, values, dtype="int32")


@pytest.mark.parametrize("layout", [0, 1])
def test_constant_start_states_become_parameters(layout):
    values = arrays(X=(3, 3, 4))
    h, c = normal(8, (1, 1, 5)), normal(9, (1, 1, 5))
    file = onnx_formula.model_of({"hidden_size": 5, "layout": layout}, values)
    file.graph.node[0].input[5:7] = ["h", "c"]
    rows = (3, 1, 5) if layout else (1, 3, 5)
    for name, row in (("h", h), ("c", c)):
        file.graph.initializer.append(numpy_helper.from_array(np.broadcast_to(row, rows).copy(), name))
    model = lw.from_onnx(file)
    assert model.learn_start_state
    assert same_bits(model.parameters["h_0_l0"], h[0, 0])
    whole = values | {"initial_h": np.broadcast_to(h, rows), "initial_c": np.broadcast_to(c, rows)}
    expected = onnx_formula.run({"layout": layout}, whole)
    for actual, each in zip(onnx_formula.call(model, {"layout": layout}, values), expected, strict=True):
        assert_close(actual, each, 1e-5)
    different = np.array(np.broadcast_to(c, rows))
    different[..., 0].reshape(-1)[1] += 1
    del file.graph.initializer[-1]
    file.graph.initializer.append(numpy_helper.from_array(different, "c"))
    with pytest.raises(ValueError, match="initial_c: differs from row to row"):
        lw.from_onnx(file)


@pytest.mark.parametrize(
    ("attributes", "shapes", "message"),
    [
        ({"hidden_size": 6}, {}, r"hidden_size: expected 5, as R \(1, 20, 5\) has, got 6"),
        ({"direction": "bidirectional"}, {}, r"W: expected \(2, 20, 4\), got \(1, 20, 4\)"),
        ({"direction": "sideways"}, {}, "direction: expected forward, reverse or bidirectional, got 'sideways'"),
        ({"layout": 2}, {}, "layout: expected 0 or 1, got 2"),
        ({"clip": 0.0}, {}, "clip"),
        ({"clip": float("nan")}, {}, "clip: expected a finite number"),
        ({"activations": ["Sigmoid"]}, {}, "activations: expected 3 names"),
        ({"activations": ["Sigmoid", "Swish", "Tanh"]}, {}, "got 'Swish'"),
        ({"activations": ["Relu", "Elu", "Tanh"], "activation_alpha": [1.0, 2.0]}, {}, "_alpha: expected at most 1"),
        ({"output_sequence": 1}, {}, "got 'output_sequence'"),
        ({}, {"B": (1, 20)}, r"B: expected \(1, 40\), got \(1, 20\)"),
        ({}, {"P": (1, 20)}, r"P: expected \(1, 15\), got \(1, 20\)"),
        ({}, {"W": (20, 4)}, "W: expected real numbers with 3 axes"),
        ({}, {"W": (1, 20, 0)}, "W: expected weights, got none"),
        ({}, {"R": (1, 0, 0)}, "expected"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(attributes, shapes, message):
    with pytest.raises(ValueError, match=message):
        converted(attributes, arrays(**shapes))


def test_weights_that_are_inputs_are_refused_and_listed():
    file = onnx_formula.model_of({}, arrays())
    del file.graph.initializer[0]
    file.graph.input.append(helper.make_tensor_value_info("W", 1, [1, 20, 4]))
    with pytest.raises(ValueError, match="W: expected numbers that are in the file, got input 'W'"):
        lw.from_onnx(file)
    (found,) = lw.onnx_lstms(file)
    assert "W: expected numbers that are in the file" in found.obstacles[0]


def test_the_list_of_lstms():
    attributes = {"direction": "reverse", "clip": 2.0, "input_forget": 1}
    (found,) = lw.onnx_lstms(onnx_formula.model_of(attributes, arrays()))
    assert (found.path, found.input_size, found.hidden_size, found.direction) == ("lstm", 4, 5, "reverse")
    assert found.options == {"clip": 2.0, "forget_gate": "coupled", "peephole": True}
    assert found.obstacles == ()
