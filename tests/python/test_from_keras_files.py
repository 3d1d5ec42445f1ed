"""`from_keras` on files of versions that cannot run here, on kept files, and what it refuses."""

import importlib.util
import json
import os
from pathlib import Path

import hdf5_threads
import keras_formula as formula
import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close
from latchwork.interop import keras as interop_keras
from safetensors.numpy import load_file

GOLDEN = Path(__file__).parent / "golden" / "keras"
FEATURES, UNITS = 7, 5
KERAS2_LSTM = {
    "return_sequences": True, "return_state": False, "go_backwards": False, "stateful": False, "unroll": False,
    "units": UNITS, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True,
    "unit_forget_bias": True, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 1,
}  # fmt: skip

needs_h5py = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="needs h5py")


@pytest.fixture
def random():
    return np.random.default_rng(3)


@pytest.fixture
def x(random):
    return random.normal(size=(4, 9, FEATURES))


@pytest.fixture
def weights(random):
    return formula.drawn(random, FEATURES, UNITS)


@pytest.fixture(autouse=True)
def threads(monkeypatch, request):
    """Read sound files without a process of their own."""
    if importlib.util.find_spec("h5py") and "own_process" not in request.fixturenames:
        hdf5_threads.use(monkeypatch)


@pytest.fixture
def own_process():
    """Read files as everybody does."""


def dense(random, features, units):
    return [random.normal(size=shape).astype(np.float32) for shape in ((features, units), (units,))]


@needs_h5py
def test_keras2_sequential(tmp_path, x, random, weights, own_process):
    """A list of layers, as the first versions of Keras 2 wrote, and their hard sigmoid."""
    head = dense(random, UNITS, 3)
    config = {
        "class_name": "Sequential",
        "config": [
            formula.keras2_layer("LSTM", "lstm_1", batch_input_shape=[None, None, FEATURES], **KERAS2_LSTM),
            formula.keras2_layer("TimeDistributed", "td", layer=formula.keras2_layer("Dense", "dense_1", units=3)),
        ],
    }
    tensors = {
        "lstm_1": formula.lstm_tensors("lstm_1", weights),
        "td": [("td/kernel:0", head[0]), ("td/bias:0", head[1])],
    }
    formula.write_keras2(tmp_path / "model.h5", config, tensors)
    network = lw.from_keras(tmp_path / "model.h5")
    expected = formula.lstm(x, *weights, gate=formula.hard_sigmoid_of_keras2) @ head[0] + head[1]
    assert_close(network(x)[0], expected, 1e-5)


@needs_h5py
@pytest.mark.parametrize("kind", ["CuDNNLSTM", "LSTM"])
def test_weights_of_cudnn(tmp_path, x, random, kind):
    """Other kernels and twice as many biases, in a file of a CuDNNLSTM or of an LSTM that such a file was read into."""
    kernel, recurrent, _ = formula.drawn(random, FEATURES, UNITS)
    biases = random.normal(size=8 * UNITS).astype(np.float32)
    options = {"units": UNITS, "return_sequences": True, "go_backwards": False}
    options |= {} if kind == "CuDNNLSTM" else {"recurrent_activation": "sigmoid"}
    config = {"class_name": "Sequential", "config": {"layers": [formula.keras2_layer(kind, "a", **options)]}}
    tensors = {"a": formula.lstm_tensors("a", formula.of_cudnn(kernel, recurrent, biases))}
    formula.write_keras2(tmp_path / "model.h5", config, tensors)
    lstm = lw.from_keras(tmp_path / "model.h5")
    assert isinstance(lstm, lw.LSTM)
    assert lstm.activations is None
    assert_close(lstm(x)[0], formula.lstm(x, kernel, recurrent, sum(np.split(biases, 2))), 1e-5)


@needs_h5py
@pytest.mark.parametrize(
    ("version", "given", "gate"),
    [
        ("2.2.0", None, formula.hard_sigmoid_of_keras2),
        ("2.2.0", "sigmoid", formula.sigmoid),
        ("2.3.1", None, formula.sigmoid),
        ("2.3.1", "hard_sigmoid", formula.hard_sigmoid_of_keras2),
        ("2.2.4-tf", None, formula.sigmoid),
    ],
)
def test_weights_alone_of_keras2(tmp_path, x, random, version, given, gate):
    """The activations come from the caller, or are what the version that wrote the file takes by itself."""
    layers = [formula.drawn(random, FEATURES, UNITS), formula.drawn(random, UNITS, 3)]
    tensors = {
        f"lstm_{place + 1}": formula.lstm_tensors(f"lstm_{place + 1}", each) for place, each in enumerate(layers)
    }
    formula.write_keras2(tmp_path / "w.h5", None, {"input_1": []} | tensors, version)
    with pytest.raises(ValueError, match=r"weights alone.*(?s:.*)'lstm_1' \(7 -> 5.*\n.*'lstm_2' \(5 -> 3"):
        lw.from_keras(tmp_path / "w.h5")
    output = x
    for place, each in enumerate(layers):
        lstm = lw.from_keras(
            tmp_path / "w.h5", layer=f"lstm_{place + 1}", recurrent_activation=given, activation="relu"
        )
        expected = formula.lstm(output, *each, gate=gate, content=lambda z: np.maximum(z, 0))
        output = lstm(output)[0]
        assert_close(output, expected, 1e-5)


@needs_h5py
def test_keras2_functional_with_states_and_a_nested_model(tmp_path, x, random, weights):
    above, head = formula.drawn(random, UNITS, 3), dense(random, 3, 2)
    options = KERAS2_LSTM | {"recurrent_activation": "sigmoid"}

    def layer(kind, name, inbound, **config):
        return formula.keras2_layer(kind, name, **config) | {"name": name, "inbound_nodes": inbound}

    inner = {
        "name": "inner",
        "layers": [
            layer("InputLayer", "i", [], batch_input_shape=[None, None, UNITS]),
            layer("LSTM", "b", [[["i", 0, 0, {}]]], **options | {"units": 3}),
            layer("Dense", "d", [[["b", 0, 0, {}]]], units=2),
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["d", 0, 0]],
    }
    outer = {
        "name": "outer",
        "layers": [
            # Not in the order in which they are called.
            {"class_name": "Model", "config": inner, "name": "inner", "inbound_nodes": [[["a", 0, 0, {}]]]},
            layer("InputLayer", "x", [], batch_input_shape=[None, None, FEATURES]),
            layer("InputLayer", "h", [], batch_input_shape=[None, UNITS]),
            layer("InputLayer", "c", [], batch_input_shape=[None, UNITS]),
            layer("LSTM", "a", [[["x", 0, 0, {}], ["h", 0, 0, {}], ["c", 0, 0, {}]]], **options),
        ],
        "input_layers": [["x", 0, 0], ["h", 0, 0], ["c", 0, 0]],
        "output_layers": [["inner", 1, 0]],
    }
    tensors = {
        "x": [], "h": [], "c": [], "a": formula.lstm_tensors("a", weights),
        "inner": [*formula.lstm_tensors("b", above), ("d/kernel:0", head[0]), ("d/bias:0", head[1])],
    }  # fmt: skip
    formula.write_keras2(tmp_path / "m.h5", {"class_name": "Model", "config": outer}, tensors)
    network = lw.from_keras(tmp_path / "m.h5")
    expected = formula.lstm(formula.lstm(x, *weights), *above) @ head[0] + head[1]
    assert_close(network(x)[0], expected, 1e-5)
    found = {lstm.path: (lstm.input_size, lstm.hidden_size) for lstm in interop_keras.lstms(tmp_path / "m.h5")}
    assert found == {"a": (FEATURES, UNITS), "b": (UNITS, 3)}


def sequential(*layers):
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def keras3_layer(kind, name="a", module="keras.layers", registered=None, **config):
    return {"module": module, "class_name": kind, "config": {"name": name} | config, "registered_name": registered}


def lstm(**options):
    usual = {"units": UNITS, "return_sequences": True, "activation": "tanh", "recurrent_activation": "sigmoid"}
    return keras3_layer("LSTM", **usual | options)


LSTM = lstm()


@needs_h5py
def test_archives_of_keras_2(tmp_path, x, random):
    """The folder has another name, those with numbers count twice in it, and the hard sigmoid is that of 2."""
    layers = [formula.drawn(random, FEATURES, UNITS), formula.drawn(random, UNITS, 3)]
    config = sequential(
        *(keras3_layer("LSTM", f"lstm_{units}", units=units, return_sequences=True, recurrent_activation="hard_sigmoid")
          for units in (UNITS, 3))
    )  # fmt: skip
    tensors = {
        f"_layer_checkpoint_dependencies/{folder}/cell/vars/{place}": array
        for folder, weights in zip(("lstm", "lstm_2"), layers, strict=True)
        for place, array in enumerate(weights)
    }
    formula.write_keras_archive(tmp_path / "m.keras", config, tensors, version="2.13.1")
    output = x
    for weights in layers:
        output = formula.lstm(output, *weights, gate=formula.hard_sigmoid_of_keras2)
    model = lw.from_keras(tmp_path / "m.keras")
    assert_close(model(x)[0], output, 1e-5)


@needs_h5py
@pytest.mark.parametrize(
    ("stored", "dtype"), [("<f8", "float64"), (">f4", "float32"), ("<f2", "float32"), ("bfloat16", "float32")]
)
def test_dtypes(tmp_path, weights, stored, dtype):
    tensors, expected = {}, []
    for place, array in enumerate(weights):
        if stored == "bfloat16":  # as Keras writes it: two bytes of no particular kind
            upper = (array.view(np.uint32) >> 16).astype(np.uint16)
            written, rounded = upper.view("V2"), (upper.astype(np.uint32) << 16).view(np.float32)
        else:
            written = array.astype(stored)
            rounded = written.astype(dtype)
        tensors[f"layers/lstm/cell/vars/{place}"] = written
        expected.append(rounded)
    formula.write_keras_archive(tmp_path / "m.keras", sequential(LSTM), tensors)
    lstm = lw.from_keras(tmp_path / "m.keras")
    assert lstm.dtype == dtype
    assert (lstm.parameters["weight_ih_l0"] == expected[0].T).all()
    assert (lstm.parameters["weight_hh_l0"] == expected[1].T).all()
    assert (lstm.parameters["bias_ih_l0"] == expected[2]).all()


def archive(tmp_path, *layers, weights=()):
    """A file with these layers, and with numbers for layers of a class called LSTM."""
    folders = ["lstm", "lstm_1"][: sum(layer["class_name"] == "LSTM" for layer in layers)]
    tensors = {f"layers/{folder}/cell/vars/{place}": array for folder in folders for place, array in enumerate(weights)}
    formula.write_keras_archive(tmp_path / "m.keras", sequential(*layers), tensors)
    return tmp_path / "m.keras"


CODE = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}
PLAIN_DENSE = keras3_layer("Dense", "d", units=2)


@needs_h5py
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras3_layer("Lambda", "l", function=CODE), LSTM], "Lambda 'l' has no counterpart.*Lambda 'l' before it"),
        ([LSTM, keras3_layer("Dense", "d", units=2, activation=CODE)], "Dense 'd' with the activation '__lambda__'"),
        ([LSTM, keras3_layer("PReLU", "p")], "PReLU 'p' has no counterpart.*PReLU 'p' after it"),
        ([LSTM, keras3_layer("GRU", "g", units=3)], "GRU 'g' has no counterpart"),
        ([LSTM, keras3_layer("LSTM", "b", module="mine", units=3)], "mine>LSTM 'b' has no counterpart"),
        ([LSTM, keras3_layer("LSTM", "b", registered="P>LSTM", units=3)], "P>LSTM 'b' has no counterpart"),
        ([LSTM, keras3_layer("Softmax", "s", axis=1)], "Softmax 's' with axis=1"),
        ([LSTM, keras3_layer("ReLU", "r", max_value=6.0)], "ReLU 'r' with max_value=6"),
        ([LSTM, keras3_layer("Activation", "m", activation="mish")], "Activation 'm' with the activation 'mish'"),
        ([LSTM, keras3_layer("Flatten", "f")], "Flatten 'f' with a new shape"),
        ([LSTM, keras3_layer("Reshape", "r", target_shape=[5, -1])], "Reshape 'r' with a new shape"),
        ([LSTM, keras3_layer("GlobalMaxPooling1D", "g", keepdims=True)], "with keepdims=True"),
        ([LSTM, keras3_layer("GlobalMaxPooling1D", "g", data_format="channels_first")], "data_format='channels_first'"),
        ([LSTM, keras3_layer("Embedding", "e", input_dim=3, output_dim=2)], "Embedding 'e' with layers before it"),
        ([LSTM, keras3_layer("Masking", "m")], "Masking 'm' with layers before it"),
        ([LSTM, keras3_layer("TimeDistributed", "t", layer=LSTM)], r"TimeDistributed 't' with LSTM 'a'"),
        ([lstm(return_sequences=False), lstm(name="b")], "LSTM 'b' with one result of all steps before it"),
        ([lstm(time_major=True)], "LSTM 'a' with time_major=True"),
        ([lstm(activation="softmax")], "activations.candidate: expected one of"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way(tmp_path, weights, layers, message):
    path = archive(tmp_path, *layers, weights=weights)
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        lw.from_keras(path)
    assert "m.keras: " in str(error.value)
    found = interop_keras.lstms(path)
    assert ("a", FEATURES, UNITS) in [
        (lstm.path, lstm.input_size, lstm.hidden_size) for lstm in found
    ] or "GRU" in message
    if "time_major" not in message and "candidate" not in message and len(found) == 1:
        assert "layer='a' takes it out" in str(error.value)
        assert isinstance(lw.from_keras(path, layer="a"), lw.LSTM)


@needs_h5py
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 3, "go_backwards": True}, "directions of 5 and 3 units"),
        ({"go_backwards": False}, "two directions that run the same way"),
        ({"go_backwards": True, "return_sequences": False}, "return_sequences in one direction alone"),
        ({"go_backwards": True, "recurrent_dropout": 0.1}, "different recurrent_dropout in both directions"),
        ({"merge_mode": "max"}, "merge_mode='max'"),
    ],
)  # fmt: skip
def test_directions_that_no_lstm_holds(tmp_path, weights, options, message):
    if "merge_mode" not in options:
        options = {"backward_layer": lstm(name="back", **options)}
    layer = keras3_layer("Bidirectional", "both", layer=LSTM, **options)
    tensors = {
        f"layers/bidirectional/{side}_layer/cell/vars/{place}": array
        for side in ("forward", "backward")
        for place, array in enumerate(weights)
    }
    formula.write_keras_archive(tmp_path / "m.keras", sequential(layer), tensors)
    with pytest.raises(ValueError, match=f"Bidirectional 'both' with {message}"):
        lw.from_keras(tmp_path / "m.keras")


@needs_h5py
def test_arguments(tmp_path, weights):
    path = archive(tmp_path, LSTM, weights=weights)
    with pytest.raises(TypeError, match="model: expected a path, or a layer or a model of Keras, got int"):
        lw.from_keras(3)
    with pytest.raises(TypeError, match="layer: expected str or None, got int"):
        lw.from_keras(path, layer=3)
    with pytest.raises(ValueError, match="layer: expected the name of an LSTM, got 'b'(?s:.*)layer='a' takes it out"):
        lw.from_keras(path, layer="b")
    with pytest.raises(ValueError, match="recurrent_activation: expected None for a model that says"):
        lw.from_keras(path, recurrent_activation="sigmoid")
    with pytest.raises(FileNotFoundError):
        lw.from_keras(tmp_path / "none.keras")
    with pytest.raises(ValueError, match="activation: expected one of Keras's activations that Latchwork has, got the"):
        lw.from_keras(tmp_path / "m.weights.h5", activation="mish")
    (tmp_path / "text.keras").write_text("a text")
    with pytest.raises(ValueError, match="expected a file of Keras, which is a zip archive or HDF5, got neither"):
        lw.from_keras(tmp_path / "text.keras")


def test_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "h5py" else find_spec(name))
    with pytest.raises(ImportError, match=r"pip install 'latchwork\[keras\]'"):
        lw.from_keras(tmp_path / "m.h5")


@needs_h5py
def test_neither_keras_nor_tensorflow_is_imported(tmp_path, weights, own_process):
    import subprocess
    import sys

    path = archive(tmp_path, LSTM, weights=weights)
    others = "{'h5py', 'keras', 'tensorflow', 'torch'}"
    code = f"import sys, latchwork; latchwork.from_keras({str(path)!r}); print(sorted({others} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(lw.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


@needs_h5py
@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*.*5")) + sorted(GOLDEN.glob("*.keras")), ids=lambda path: path.name
)
def test_kept_files(path):
    """What versions of Keras wrote, and what they gave for it; see golden/make_interop_keras.py."""
    kept = load_file(GOLDEN / "expected.safetensors")
    name, options = path.name.partition(".")[0], {}
    if path.name.endswith(".weights.h5"):
        options = {"layer": interop_keras.lstms(path)[0].path}
    model = lw.from_keras(path, **options)
    output, _ = model(kept[f"{name}.x"])
    assert_close(output[:, -1] if options else output, kept[f"{name}.y"], 1e-5)


@needs_h5py
@pytest.mark.skipif("LATCHWORK_MODELS" not in os.environ, reason="LATCHWORK_MODELS names no folder of models")
def test_folder_of_models():
    """A folder that holds models of Keras, inputs and outputs, and index.json, which says what is expected of each."""
    folder = Path(os.environ["LATCHWORK_MODELS"]) / "keras"
    index = json.loads((folder / "index.json").read_text())["cases"]
    for name, case in index.items():
        with np.load(folder / f"{name}.npz") as file:
            content = dict(file)
        for path in (folder / f"{name}.keras", folder / f"{name}.h5"):
            if not path.exists():
                continue
            if case["must"] != "convert":
                with pytest.raises(ValueError, match="has no counterpart"):
                    lw.from_keras(path)
                for layer in case.get("lstm", []):
                    assert_close(
                        lw.from_keras(path, layer=layer)(content["core.in"])[0], content["core.out"], 1e-5, name
                    )
                continue
            model = lw.from_keras(path)
            x, first = content["x0"], content.get("y0", content.get("y0_call1"))
            output, state = model(x)
            if "y1" in content and content["y1"].shape == first.shape:  # both directions apart
                first = np.concatenate([first, content["y1"]], axis=-1)
            assert_close(output, first, 1e-5, str(path))
            if "y2" in content:
                assert_close(state[0][0], content["y1"], 1e-5, str(path))
                assert_close(state[1][0], content["y2"], 1e-5, str(path))
            if "y0_call2" in content:
                assert_close(model(x, state)[0], content["y0_call2"], 1e-5, str(path))


@needs_h5py
@pytest.mark.parametrize("whole", [True, False])
def test_both_directions_of_keras2(tmp_path, x, random, whole):
    """The names of the weights say which direction they are of, in files with and without a configuration."""
    directions = [formula.drawn(random, FEATURES, UNITS) for _ in range(2)]
    inner = formula.keras2_layer("LSTM", "lstm_1", **KERAS2_LSTM | {"recurrent_activation": "sigmoid"})
    layer = formula.keras2_layer("Bidirectional", "bidirectional_1", layer=inner, merge_mode="concat")
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}} if whole else None
    tensors = [
        tensor
        for name, each in zip(("forward", "backward"), directions, strict=True)
        for tensor in formula.lstm_tensors(f"bidirectional_1/{name}_lstm_1", each)
    ]
    formula.write_keras2(tmp_path / "m.h5", config, {"bidirectional_1": tensors}, version="2.3.1")
    lstm = lw.from_keras(tmp_path / "m.h5")
    backward = formula.lstm(x[:, ::-1], *directions[1])[:, ::-1]
    assert_close(lstm(x)[0], np.concatenate([formula.lstm(x, *directions[0]), backward], axis=-1), 1e-5)
    (found,) = interop_keras.lstms(tmp_path / "m.h5")
    assert (found.path, found.direction, found.obstacles) == ("bidirectional_1", "both", ())


@needs_h5py
def test_names_of_tensorflow(tmp_path, x, weights):
    """Cells have a name of their own, which is not the layer's."""
    formula.write_keras2(tmp_path / "w.h5", None, {"a": formula.lstm_tensors("a/lstm_cell_3", weights)}, "2.15.0")
    assert_close(lw.from_keras(tmp_path / "w.h5", layer="a")(x)[0], formula.lstm(x, *weights), 1e-5)


@needs_h5py
def test_long_lists_of_names(tmp_path, x, weights):
    """Attributes of more than 64 KiB are cut into several."""
    import h5py

    config = {
        "class_name": "Sequential",
        "config": [formula.keras2_layer("LSTM", "a", units=UNITS, return_sequences=True)],
    }
    formula.write_keras2(tmp_path / "m.h5", config, {"a": formula.lstm_tensors("a", weights)}, "2.3.1")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        attributes = file["model_weights/a"].attrs
        names = attributes["weight_names"]
        del attributes["weight_names"]
        attributes["weight_names0"], attributes["weight_names1"] = names[:2], names[2:]
    assert_close(lw.from_keras(tmp_path / "m.h5")(x)[0], formula.lstm(x, *weights), 1e-5)
