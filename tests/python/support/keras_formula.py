"""Keras's LSTM written out in NumPy, and files as versions of Keras write them that cannot run here."""

import json
import zipfile

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid_of_keras2(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def lstm(x, kernel, recurrent, bias, gate=sigmoid, content=np.tanh, mask=None):
    """All outputs (N, T, H) in float64; masked steps repeat the output before them."""
    x, kernel, recurrent, bias = (np.asarray(array, np.float64) for array in (x, kernel, recurrent, bias))
    h = c = np.zeros((len(x), len(recurrent)))
    outputs = []
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        new_c = gate(f) * c + gate(i) * content(g)
        new_h = gate(o) * content(new_c)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, step, np.newaxis]
        h, c = np.where(keep, new_h, h), np.where(keep, new_c, c)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def drawn(random, features, units):
    """A kernel, a recurrent kernel and biases."""
    shapes = (features, 4 * units), (units, 4 * units), (4 * units,)
    return [random.normal(size=shape).astype(np.float32) * np.float32(0.5) for shape in shapes]


def of_cudnn(kernel, recurrent, biases):
    """The same weights as CuDNNLSTM keeps them: each gate's kernel row by row as (units, in), and two biases."""
    units = len(recurrent)
    kernels = [block.T.reshape(block.shape) for block in np.split(kernel, 4, axis=1)]
    recurrents = [block.T for block in np.split(recurrent, 4, axis=1)]
    assert biases.shape == (8 * units,)
    return [np.concatenate(kernels, axis=1), np.concatenate(recurrents, axis=1), biases]


def write_keras2(path, model_config, weights, version="2.2.4"):
    """An ``.h5`` of Keras 2.

    ``model_config``: None for weights alone. ``weights``: for each layer of the model a list of (name, array).
    """
    import h5py

    with h5py.File(path, "w") as file:
        root = file
        if model_config is not None:
            file.attrs["keras_version"] = version.encode()
            file.attrs["model_config"] = json.dumps(model_config).encode()
            root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in weights]
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", version.encode()
        for layer, tensors in weights.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name, _ in tensors]
            for name, array in tensors:
                group[name] = array


def lstm_tensors(scope, weights):
    """The names that Keras 2 gives the weights of an LSTM."""
    names = ("kernel:0", "recurrent_kernel:0", "bias:0")
    return [(f"{scope}/{name}", array) for name, array in zip(names, weights, strict=False)]


def keras2_layer(kind, name, **config):
    """A layer's configuration in the words of Keras 2."""
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32"} | config}


def write_keras_archive(path, config, tensors, version="3.15.1"):
    """A ``.keras`` file of given numbers, by their paths in ``model.weights.h5``."""
    import h5py

    weights = path.with_suffix(".weights.h5")
    with h5py.File(weights, "w") as file:
        for name, array in tensors.items():
            file[name] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(weights, "model.weights.h5")
