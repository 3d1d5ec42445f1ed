"""Models written as ONNX: checked by onnx, run by ONNX Runtime, and read back with the same bits of weights."""

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from layers import normal, random_lstm

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

STEPS, ROWS = 7, 3
LSTMS = {
    "plain": {},
    "stack": {"num_layers": 3, "batch_first": True},
    "both": {"num_layers": 2, "bidirectional": True},
    "reverse": {"reverse": True, "bias": False},
    "coupled": {"forget_gate": "coupled", "peephole": True, "clip": 1.5},
    "peephole": {"peephole": True, "bidirectional": True, "batch_first": True},
    "activations": {"activations": {"input": ("hard_sigmoid", 0.25, 0.5), "forget": ("hard_sigmoid", 0.25, 0.5),
                                    "output": ("hard_sigmoid", 0.25, 0.5), "candidate": ("scaled_tanh", 0.5, 2.0),
                                    "cell": "softsign"}},
    "unlike": {"bidirectional": True, "activations": ({"candidate": ("elu", 0.5)}, {"cell": ("affine", 2.0, 0.25)})},
    "learned": {"learn_start_state": True, "bidirectional": True, "num_layers": 2},
    "sum": {"bidirectional": True, "merge": "sum", "num_layers": 2},
    "mul": {"bidirectional": True, "merge": "mul", "batch_first": True},
    "ave": {"bidirectional": True, "merge": "ave"},
    "residual": {"num_layers": 3, "input_size": 17, "residual": True},
}  # fmt: skip


def runs(path, x, **inputs):
    """All outputs of ONNX Runtime, by name."""
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, {"x": x} | inputs), strict=True))


def lstm(name, **options):
    return random_lstm(seed=1, **({"input_size": 4, "hidden_size": 17} | LSTMS[name] | options))


def x_of(model, steps=STEPS, rows=ROWS, size=4, dtype="float32"):
    return normal(5, (rows, steps, size) if model.batch_first else (steps, rows, size), dtype)


def written(model, folder, **options):
    path = folder / "model.onnx"
    lw.to_onnx(model, path, **options)
    return path


@pytest.mark.parametrize("name", LSTMS)
def test_lstms(name, tmp_path):
    model = lstm(name)
    path = written(model, tmp_path)
    for steps, rows in ((STEPS, ROWS), (1, 1), (31, 2)):
        x = x_of(model, steps, rows, model.input_size)
        assert_close(runs(path, x)["output"], model(x)[0], 1e-5)


@pytest.mark.parametrize("name", LSTMS)
def test_states_are_inputs_and_outputs_on_request(name, tmp_path):
    model = lstm(name)
    x = x_of(model, size=model.input_size)
    states = model(x)[1]
    outputs = runs(written(model, tmp_path, stateful=True), x, h_0=states[0], c_0=states[1])
    output, (h_n, c_n) = model(x, states)
    for actual, expected in zip((outputs["output"], outputs["h_n"], outputs["c_n"]), (output, h_n, c_n), strict=True):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("name", ["plain", "stack", "both", "peephole", "reverse"])
def test_lengths_on_request(name, tmp_path):
    model = lstm(name)
    x, lengths = x_of(model, size=model.input_size), np.array([7, 1, 4], np.int32)
    outputs = runs(written(model, tmp_path, lengths=True), x, lengths=lengths)
    assert_close(outputs["output"], model(x, lengths=lengths)[0], 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(LSTMS.keys() - {"residual"}))
def test_weights_come_back_to_the_bit(name, dtype, tmp_path):
    model = lstm(name, dtype=dtype)
    again = lw.from_onnx(written(model, tmp_path))
    assert_same_bits(again.state_dict(), model.state_dict())
    x = x_of(model, size=model.input_size, dtype=dtype)
    assert_same_bits(again(x)[0], model(x)[0])
    for stateful, lengths in ((True, False), (False, True), (True, True)):
        again = lw.from_onnx(written(model, tmp_path, stateful=stateful, lengths=lengths))
        kept = [name for name in model.parameters if not name.startswith(("h_0", "c_0")) or not stateful]
        assert_same_bits(
            {name: again.parameters[name] for name in kept}, {name: model.parameters[name] for name in kept}
        )


def networks():
    """Chains, by name: the network, and its x as a function of steps and rows."""

    def numbers(size):
        return lambda steps, rows: normal(3, (steps, rows, size))

    def tokens(steps, rows):
        return np.random.RandomState(3).randint(0, 9, (steps, rows))

    def gaps(steps, rows):
        x = normal(3, (steps, rows, 3))
        x[np.random.RandomState(1).random_sample(x.shape) < 0.4] = np.nan
        return x

    def codes(steps, rows):
        x = normal(3, (steps, rows, 3))
        x[..., 1] = np.random.RandomState(2).randint(0, 5, (steps, rows))
        return x

    linear = lw.Linear
    return {
        "tagger": (lw.Network([lw.Embedding(9, 4, seed=1), lw.LSTM(4, 7, bidirectional=True, seed=2),
                               lw.Dropout(0.5), linear(14, 3, activation="tanh", seed=3)]), tokens),
        "last": (lw.Network([lw.LSTM(3, 7, 2, seed=1), lw.Last(), linear(7, 5, activation=("elu", 0.5), seed=2),
                             linear(5, 2, bias=False, seed=3)]), numbers(3)),
        "last of both": (lw.Network([lw.LSTM(3, 7, bidirectional=True, seed=1), lw.Last(), linear(14, 2, seed=2)]),
                         numbers(3)),
        "last of reverse": (lw.Network([lw.LSTM(3, 7, reverse=True, seed=1), lw.Last()]), numbers(3)),
        "mean": (lw.Network([lw.LSTM(3, 7, seed=1), lw.Mean(), linear(7, 2, seed=2)]), numbers(3)),
        "max": (lw.Network([lw.LSTM(3, 7, seed=1), lw.Max(), linear(7, 2, seed=2)]), numbers(3)),
        "scaled": (lw.Network([lw.Scale([1, 2, 3], [0.5, 2, 1]), lw.LSTM(3, 7, seed=1), lw.Last(), linear(7, 2, seed=2),
                               lw.Scale([0, -1], [3, 2])]), numbers(3)),
        "two": (lw.Network([lw.LSTM(3, 7, seed=1), linear(7, 5, activation="relu", seed=4), lw.LSTM(5, 4, seed=2)]),
                numbers(3)),
        "sorted": (lw.Network([lw.LSTM(3, 7, seed=1), lw.Last(), linear(7, 6, seed=2), lw.Sort(3)]), numbers(3)),
        "constant": (lw.Network([lw.Impute(3, "constant", fill=[1, 2, 3], indicators=[0, 2]), lw.LSTM(5, 4, seed=2)]),
                     gaps),
        "forward": (lw.Network([lw.Impute(3, fill=[1, 2, 3], indicators=[2, 1]), lw.LSTM(7, 4, seed=2)]), gaps),
        "forward to a mean": (lw.Network([lw.Impute(3, fill=[1, 2, 3], persistence=[0.5, 1, 0.9]),
                                          lw.LSTM(3, 4, seed=2)]), gaps),
        "forward alone": (lw.Network([lw.Impute(3), lw.LSTM(3, 4, seed=2)]), gaps),
        "reverse": (lw.Network([lw.LSTM(3, 4, reverse=True, seed=2), lw.Reverse()]), numbers(3)),
        "reversed": (lw.Network([lw.LSTM(3, 4, seed=2), lw.Reverse(), lw.Mean()]), numbers(3)),
        "skip": (lw.Network([lw.LSTM(3, 4, seed=2), linear(4, 3, seed=1), lw.InputSkip(3)]), numbers(3)),
        "skip of some": (lw.Network([lw.LSTM(3, 4, seed=2), lw.InputSkip(2, 0.5)]), numbers(3)),
        "activations": (lw.Network([lw.LSTM(3, 4, seed=2), lw.Activation("relu"), lw.Last(), lw.Activation("softmax")]),
                        numbers(3)),
        "codes": (lw.Network([lw.EmbedColumns(3, [1], 5, 2, seed=3), lw.LSTM(4, 4, seed=2)]), codes),
    }  # fmt: skip


READABLE = (
    "tagger",
    "last",
    "last of both",
    "last of reverse",
    "mean",
    "max",
    "scaled",
    "two",
    "reverse",
    "skip",
    "activations",
)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", networks())
def test_networks(name, opset, tmp_path):
    network, x_of = networks()[name]
    path = written(network, tmp_path, opset=opset)
    for steps, rows in ((STEPS, ROWS), (1, 1), (17, 2)):
        x = x_of(steps, rows)
        assert_close(runs(path, x)["output"], network(x)[0], 1e-5)


@pytest.mark.parametrize("name", sorted(networks().keys() - {"activations"}))
def test_networks_with_lengths_and_states(name, tmp_path):
    network, x_of = networks()[name]
    x, lengths = x_of(STEPS, ROWS), np.array([7, 2, 4], np.int32)
    path = written(network, tmp_path, stateful=True, lengths=True)
    start = network(x)[1]
    pairs = [start] if isinstance(start[0], np.ndarray) else list(start)
    inputs, number = {}, 0
    for pair in pairs:
        impute = pair[0].shape[-1] == 3 and "forward" in name
        names = (
            ("value_0", "age_0")
            if impute
            else (f"h_0{f'_{number}' * (number > 0)}", f"c_0{f'_{number}' * (number > 0)}")
        )
        number += not impute
        inputs |= dict(zip(names, [part[0] if impute else part for part in pair], strict=True))
    outputs = runs(path, x, lengths=lengths, **inputs)
    output, end = network(x, start, lengths=lengths)
    assert_close(outputs["output"], output, 1e-5)
    last = end if isinstance(end[0], np.ndarray) else end[-1]
    tail = f"_{number - 1}" if number > 1 else ""
    assert_close(outputs[f"h_n{tail}"], last[0], 1e-5)


@pytest.mark.parametrize("name", READABLE)
def test_networks_come_back(name, tmp_path):
    network, x_of = networks()[name]
    again = lw.from_onnx(written(network, tmp_path))
    kinds = [type(layer) for layer in network if not isinstance(layer, lw.Dropout)]
    assert [type(layer) for layer in again] == kinds
    assert_same_bits(list(again.state_dict().values()), list(network.state_dict().values()))
    x = x_of(STEPS, ROWS)
    assert_same_bits(again(x)[0], network(x)[0])


@pytest.mark.parametrize(
    "activation",
    ["sigmoid", "tanh", "relu", ("hard_sigmoid", 0.25, 0.5), ("affine", 2.0, 1.0), ("leaky_relu", 0.125), "softsign",
     ("thresholded_relu", 0.25), ("scaled_tanh", 0.5, 2.0), ("elu", 0.5), "softplus", "softmax", "log_softmax", "selu",
     "silu", "exponential"],
    ids=str,
)  # fmt: skip
def test_activations(activation, tmp_path):
    model = lw.Network([lw.LSTM(3, 4, seed=1), lw.Linear(4, 5, activation=activation, seed=2)])
    path = written(model, tmp_path)
    x = normal(4, (STEPS, ROWS, 3)) * 3
    assert_close(runs(path, x)["output"], model(x)[0], 1e-5)
    assert_close(lw.from_onnx(path)(x)[0], model(x)[0], 1e-6)


def test_a_regressor_with_its_scaling(tmp_path):
    random = np.random.RandomState(0)
    x = 10 + 5 * random.standard_normal((40, 6, 2))
    y = 100 + x.sum((1, 2))
    regressor = lw.LSTMRegressor(hidden_size=4, max_epochs=2, random_state=0).fit(x, y)
    outputs = runs(written(regressor, tmp_path), x.astype(np.float32))
    assert_close(outputs["output"].reshape(-1), regressor.predict(x), 1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_norm": True}, "layer norm"),
        ({"proj_size": 3}, "projects h"),
        ({"cell_clip": 3.0}, "clips the cell"),
        ({"zoneout": (0.1, 0.0)}, "zoneout"),
        ({"forget_gate": False}, "without a forget gate"),
        ({"activations": {"input": "relu"}}, "differ between the gates"),
        ({"dtype": "float64", "clip": 0.1}, "which ONNX would round to float32"),
    ],
)
def test_what_onnx_has_not_is_refused(options, message, tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=message):
        lw.to_onnx(lw.LSTM(4, 7, **options), path)
    assert not path.exists()


def test_wrong_arguments(tmp_path):
    path = tmp_path / "model.onnx"
    model = lw.LSTM(4, 7)
    for options, error in (({"opset": 12}, ValueError), ({"opset": 999}, ValueError), ({"stateful": 2}, TypeError)):
        with pytest.raises(error, match=next(iter(options))):
            lw.to_onnx(model, path, **options)
    with pytest.raises(TypeError, match="model: expected a layer, a Network or a fitted estimator, got int"):
        lw.to_onnx(7, path)
    with pytest.raises(ValueError, match="expected one member, got 2"):
        lw.to_onnx(lw.Network([lw.LSTM(4, 7)], members=2), path)
    with pytest.raises(ValueError, match="ONNX has no counterpart of LSTMCell"):
        lw.to_onnx(lw.LSTMCell(4, 7), path)
    with pytest.raises(FileNotFoundError):
        lw.to_onnx(model, tmp_path / "none" / "model.onnx")
    assert list(tmp_path.iterdir()) == []
