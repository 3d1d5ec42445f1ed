"""Writes the files of Keras that are kept in keras/, and what it gives for them: python make_interop_keras.py

Needs Keras with PyTorch, h5py and safetensors. The models are in keras_models.py; those of Keras 2 are written after
its layout, and what they give is a formula's answer.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import keras_formula as formula  # noqa: E402
import keras_models  # noqa: E402
import numpy as np  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

TARGET = HERE / "keras"
KEPT = ["stack.keras", "cells.keras", "gates_hard_sigmoid.keras", "nested.h5", "last.weights.h5", "both_concat.h5"]


def of_keras3():
    """Copy some of the models. Of weights alone, what their LSTM gives is a formula's answer."""
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        keras_models.make(folder)
        for file in KEPT:
            name = file.partition(".")[0]
            shutil.copy(Path(folder) / file, TARGET)
            with np.load(Path(folder) / f"{name}.npz") as content:
                answers[f"{name}.x"], answers[f"{name}.y"] = content["x0"], content["y0"]
            if file.endswith(".weights.h5"):
                answers[f"{name}.y"] = formula.lstm(content_of(folder, name, "x0"), *weights_of(TARGET / file))[:, -1]
    return answers


def content_of(folder, name, key):
    with np.load(Path(folder) / f"{name}.npz") as content:
        return content[key]


def weights_of(path):
    import h5py

    with h5py.File(path) as file:
        return [file[f"layers/lstm/cell/vars/{place}"][()] for place in range(3)]


def of_keras2():
    """An LSTM with the hard sigmoid of Keras 2, and one with the weights of cuDNN."""
    random, answers = np.random.default_rng(0), {}
    for name, kind in (("keras2", "LSTM"), ("keras2_cudnn", "CuDNNLSTM")):
        kernel, recurrent, bias = formula.drawn(random, 7, 5)
        weights, gate = [kernel, recurrent, bias], formula.hard_sigmoid_of_keras2
        if kind == "CuDNNLSTM":
            biases = random.normal(size=40).astype(np.float32)
            weights, gate = formula.of_cudnn(kernel, recurrent, biases), formula.sigmoid
            bias = sum(np.split(biases, 2))
        options = {"units": 5, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "return_sequences": True}
        config = {"class_name": "Sequential", "config": {"layers": [formula.keras2_layer(kind, "lstm_1", **options)]}}
        formula.write_keras2(TARGET / f"{name}.h5", config, {"lstm_1": formula.lstm_tensors("lstm_1", weights)})
        x = random.normal(size=(4, 9, 7)).astype(np.float32)
        answers |= {f"{name}.x": x, f"{name}.y": formula.lstm(x, kernel, recurrent, bias, gate)}
    return answers


def main():
    TARGET.mkdir(exist_ok=True)
    answers = of_keras3() | of_keras2()
    save_file({name: np.asarray(value, np.float32) for name, value in answers.items()}, TARGET / "expected.safetensors")


if __name__ == "__main__":
    main()
