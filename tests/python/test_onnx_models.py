"""Files of ONNX models that others made, in the folder that LATCHWORK_MODELS names, each beside its outputs."""

import os
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close

pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx_models

FOLDER = os.environ.get("LATCHWORK_MODELS", "")
# What is more than a chain of our layers: what the refusal names, and the LSTM that is taken out instead, if that is
# possible with the numbers beside the file.
REFUSED = {
    "cell_scan": ("the order of steps and rows", "Scan"),
    "conv_front.dynamo": ("Conv 'node_conv1d' has no counterpart", None),
    "if_nested.legacy16": ("If '/If' has no counterpart", None),
    "proj.dynamo": (r"initial_c: expected \(1, N, 4\), as R has, got \(1, 3, 6\)", None),
    "silero_vad_16k_sequence": ("Pad '/stft/padding/Pad' has no counterpart", "/recurrent/LSTM"),
    "trap_int8": ("DynamicQuantizeLSTM 'Y', an LSTM with quantised weights, has no counterpart", None),
}


def files():
    return sorted(path for path in Path(FOLDER).rglob("*.onnx")) if FOLDER else []


def values_of(path):
    """The numbers beside a file; files of several exporters share them."""
    for name in (path.stem, path.stem.split(".")[0]):
        if (path.parent / f"{name}.npz").exists():
            with np.load(path.parent / f"{name}.npz") as archive:
                return {name: archive[name] for name in archive.files}
    raise FileNotFoundError(path)


@pytest.mark.skipif(not FOLDER, reason="LATCHWORK_MODELS names no folder of models")
def test_the_folder_holds_models():
    assert len(files()) > 20


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_model(path):
    values = values_of(path)
    source = onnx_models.with_weights(path, values) if "W" in values else path
    if path.stem in REFUSED:
        message, node = REFUSED[path.stem]
        with pytest.raises(ValueError, match=message):
            lw.from_onnx(source)
        if node is None:
            return
        model = lw.from_onnx(source, node=node)
        if path.stem == "cell_scan":
            values["in.x"] = values["in.x"].swapaxes(0, 1)  # the graph gives what it is given in another order
    else:
        model = lw.from_onnx(source)
    expected, actual = onnx_models.answers(model, values)
    for number, (given, value) in enumerate(zip(actual, expected, strict=True)):
        assert_close(given, value, 1e-5, f"output {number}")
