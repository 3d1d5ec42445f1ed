"""`from_keras` beside Keras itself: objects, and files as Keras writes them."""

import importlib.util
import json
import re

import hdf5_threads
import keras_models
import latchwork as lw
import numpy as np
import pytest
from comparison import difference
from latchwork.interop import keras as interop_keras

TOLERANCE = {"float16": 2e-3}  # in which Keras computes
RANDOM = 60


def _folder(tmp_path_factory, random_models):
    for peer in ("keras", "torch", "h5py"):
        if importlib.util.find_spec(peer) is None:
            pytest.skip(f"needs {peer}")
    folder = tmp_path_factory.mktemp("keras")
    return folder, keras_models.make(folder, random_models)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with Keras's models and what they give, and their names."""
    return _folder(tmp_path_factory, 12)


def expected_of(content, call=""):
    """What Keras gives; two outputs side by side, if it gives those of both directions apart."""
    first, second = content[f"y{call}0"], content.get(f"y{call}1")
    apart = second is not None and second.shape == first.shape and "y2" not in content
    return np.concatenate([first, second], axis=-1) if apart else first


def where_computed(name, content, output):
    """What is to be equal: at masked steps, what a Dense makes of an output that is zero there is not."""
    if name not in ("masked_dense", "masked_tagger"):
        return output
    x = content["x0"]
    return output[x != 0 if x.ndim == 2 else (x != 0).any(axis=-1)]


def problems(folder, names, ending):
    """Where the converted files differ from what Keras gives."""
    found = []
    for name in names:
        with np.load(folder / f"{name}.npz") as file:
            content = dict(file)
        inputs = [content[key] for key in sorted(content) if key.startswith("x")]
        try:
            model = lw.from_keras(folder / f"{name}{ending}")
        except ValueError as error:
            found.append(f"{name}: {error}")
            continue
        assert model.batch_first
        state = tuple(x[np.newaxis] for x in inputs[1:]) or None
        output, state = model(inputs[0], state)
        outputs = [(where_computed(name, content, each) for each in (output, expected_of(content)))]
        if "yagain0" in content:  # a stateful layer goes on from its state
            outputs.append((model(inputs[0], state)[0], content["yagain0"]))
        if name == "states_out":
            outputs += list(zip((part[0] for part in state), (content["y1"], content["y2"]), strict=True))
        error = max(difference(*pair) for pair in outputs)
        if error > TOLERANCE.get(name, 1e-5):
            found.append(f"{name}: differs by {error:.3g}")
        if output.dtype != (np.float64 if name == "float64" else np.float32):
            found.append(f"{name}: {output.dtype}")
    return found


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_files(models, ending, monkeypatch):
    hdf5_threads.use(monkeypatch)
    assert problems(*models, ending) == []


def test_objects(models):
    folder, names = models
    found = []
    for name in names:
        with np.load(folder / f"{name}.npz") as content:
            outputs = content["object"], expected_of(dict(content))
            error = difference(*(where_computed(name, content, each) for each in outputs))
        if error > TOLERANCE.get(name, 1e-5):
            found.append(f"{name}: differs by {error:.3g}")
    assert found == []


def test_what_is_no_chain(models):
    folder, _ = models
    for name, (expected, message) in json.loads((folder / "refusals.json").read_text()).items():
        assert re.search(expected, message, flags=re.DOTALL), (name, message)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_random_models(tmp_path_factory, ending, monkeypatch):
    hdf5_threads.use(monkeypatch)
    folder, names = _folder(tmp_path_factory, RANDOM)
    assert problems(folder, [name for name in names if name.startswith("random")], ending) == []


@pytest.mark.parametrize(
    ("name", "layer", "options"),
    [
        ("one_unit", None, {}),
        ("gates_softsign", "lstm_*", {"recurrent_activation": "softsign"}),
        ("content_relu", "lstm_*", {"activation": "relu"}),
        ("apart", "bidirectional*", {}),
        ("no_bias", "lstm_*", {}),
    ],
)
def test_weights_alone(models, name, layer, options, monkeypatch):
    """The same numbers as the whole model has, taken out by the layer's name."""
    hdf5_threads.use(monkeypatch)
    folder, _ = models
    whole = folder / f"{name}.keras"
    (found,) = interop_keras.lstms(whole)
    if layer is not None:
        assert found.path.startswith(layer.rstrip("*"))
    expected = lw.from_keras(whole, layer=found.path)
    actual = lw.from_keras(folder / f"{name}.weights.h5", layer=layer and found.path, **options)
    expected = expected if isinstance(expected, lw.LSTM) else expected[0]
    assert repr(actual) == repr(expected)
    for tensor, value in expected.parameters.items():
        assert (actual.parameters[tensor] == value).all(), tensor


def test_weights_alone_of_several_cells(models, monkeypatch):
    """Each cell of a stack is an LSTM of its own."""
    hdf5_threads.use(monkeypatch)
    folder, _ = models
    whole = lw.from_keras(folder / "cells_backwards.keras")[1]
    found = interop_keras.lstms(folder / "cells_backwards.weights.h5")
    assert [(lstm.input_size, lstm.hidden_size) for lstm in found] == [(7, 4), (4, 3)]
    upper = lw.from_keras(folder / "cells_backwards.weights.h5", layer=found[1].path)
    assert (upper.parameters["weight_hh_l0"] == whole.parameters["weight_hh_l0_reverse"]).all()


def test_several_layers_of_one_name(models, monkeypatch):
    """They are called by their paths."""
    hdf5_threads.use(monkeypatch)
    folder, _ = models
    for ending in (".keras", ".weights.h5"):
        first, second = interop_keras.lstms(folder / f"namesakes{ending}")
        assert first.path != second.path
        sizes = [lw.from_keras(folder / f"namesakes{ending}", layer=each.path).hidden_size for each in (first, second)]
        assert sizes == [4, 3]
