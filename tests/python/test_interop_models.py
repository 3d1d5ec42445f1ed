"""Real models with the outputs of the systems that they come from: those of the folder LATCHWORK_MODELS, if it is set.

The folder holds models that are not ours to pass on: ``json/`` (GuitarML, AIDA-X, state dictionaries, ``.nam``),
``real/*.safetensors`` and ``onnx_torch/*.pt``, each beside a ``.npz`` of the same name with inputs and outputs.
"""

import os
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest

FOLDER = Path(os.environ.get("LATCHWORK_MODELS", "/nonexistent"))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="LATCHWORK_MODELS names no folder of models")

# What is in the state dictionaries, in which order, and whether the input is (N, T, features).
CHAINS = {
    "plain": ("", False),
    "nobias": ("", False),
    "proj": ("", False),
    "stack_bi": ("", True),
    "packed": ("l", False),
    "state": ("l", False),
    "tagger": (["e", "l", "f"], True),
    "cell_loop": (["c", "f"], False),
}


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * max(1, abs(expected).max()))


def files(pattern):
    return sorted(FOLDER.glob(pattern))


@pytest.mark.parametrize("path", files("json/*.json") + files("json/*.nam"), ids=lambda path: path.name)
def test_json(path):
    stored = np.load(path.with_suffix(".npz"))
    model = (lw.from_nam if path.suffix == ".nam" else lw.from_rtneural)(path)
    close(model(stored["x"])[0], stored["y"])


def test_a_cell_in_safetensors():
    path = FOLDER / "real" / "silero_vad_16k.safetensors"
    stored = np.load(f"{path}.npz")
    for cell in (lw.load(path, prefix="lstm_cell"), lw.from_torch(path, prefix="lstm_cell")):
        state = stored["h0"], stored["c0"]
        outputs = []
        for step in stored["x"]:
            state = cell(step[np.newaxis], state)
            outputs.append(state[0][0])
        close(np.array(outputs), stored["y"])
        close(state[1], stored["c"])


@pytest.mark.parametrize("name", CHAINS)
def test_state_dictionaries(name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    stored = np.load(FOLDER / "onnx_torch" / f"{name}.npz")
    prefix, batch_first = CHAINS[name]
    model = lw.from_torch(FOLDER / "onnx_torch" / f"{name}.pt", prefix=prefix, batch_first=batch_first)
    if name == "packed":
        output, (h, c) = model(stored["x0"], lengths=stored["x1"])
    elif name == "state":
        output, (h, c) = model(stored["x0"], (stored["x1"], stored["x2"]))
    else:
        output, state = model(stored["x0"])
        h, c = state
    close(output, stored["y0"])
    if "y2" in stored:
        close(h, stored["y1"])
        close(c, stored["y2"])
