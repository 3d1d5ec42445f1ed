"""Runs models converted from ONNX files on the inputs that lie beside them, in the words of the files."""

import numpy as np
import onnx
from onnx import numpy_helper


def with_weights(path, values):
    """The model of one of ONNX's own operator cases, whose weights are inputs: as initialisers."""
    model = onnx.load(path)
    for name in ("W", "R", "B", "P"):
        if name in values:
            model.graph.initializer.append(numpy_helper.from_array(values[name], name))
    return model


def answers(model, values):
    """The expected outputs, and what the model gives, in the same order and shapes."""
    if "lstm_in" in values:  # the LSTM alone was taken out
        output, _ = model(values["lstm_in"], (values["h"], values["c"]))
        return [values["lstm_out"]], [output.reshape(values["lstm_out"].shape)]
    if "state" in values:  # frame by frame, with one packed state for each layer: h and c
        state, frames = None, []
        for frame in values["x"]:
            output, state = model(frame[np.newaxis, np.newaxis], state)
            frames.append(output.reshape(-1))
        packed = np.stack([part[:, 0] for part in state], axis=-1)[np.newaxis]
        return [values["y"], values["state"]], [np.stack(frames), packed]
    x, state, lengths = inputs_of(values)
    single = x.ndim == 2 and state is not None  # one step
    if single:
        x = x[np.newaxis]
    if state is not None and state[0].ndim == 2:
        state = tuple(part[np.newaxis] for part in state)
    if state is not None and model.batch_first and state[0].shape[1] != x.shape[0]:
        state = tuple(part.swapaxes(0, 1) for part in state)
    output, end = model(x, state, lengths=lengths)
    expected = [value for name, value in values.items() if name.startswith("out.") or name in OUTPUTS]
    actual = [output, *(end if isinstance(end, tuple) and len(end) == 2 else ())]
    names = [name for name in values if name.startswith("out.") or name in OUTPUTS]
    if names == ["out.Y_h"]:
        actual = actual[1:]
    if names == ["out.Y", "out.Y_h"] and model.batch_first:
        actual[1] = actual[1].swapaxes(0, 1)
    if single:
        actual = [output, end[1]]
    return expected, [given.reshape(value.shape) for given, value in zip(actual, expected, strict=False)]


OUTPUTS = ("y", "h", "c", "y0", "y1", "y2")


def inputs_of(values):
    """x, the start state and the lengths."""
    x = next(values[name] for name in ("x", "x0", "in.x", "X") if name in values)
    pairs = (("x1", "x2"), ("in.h_in", "in.c_in"), ("in.h0", "in.c0"), ("initial_h", "initial_c"))
    state = next((tuple(values[name] for name in pair) for pair in pairs if pair[1] in values), None)
    lengths = values.get("sequence_lens", values["x1"] if "x1" in values and values["x1"].ndim == 1 else None)
    return x, state, lengths
