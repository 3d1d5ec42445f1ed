"""Files of other formats with the answers of PyTorch, stored, for where PyTorch is not installed."""

import json

import latchwork as lw
import numpy as np
import pytest
from conftest import GOLDEN

JSON = GOLDEN / "json"
ANSWERS = json.loads((JSON / "answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ANSWERS)
def test_json(name, dtype):
    read = lw.from_nam if name.endswith(".nam") else lw.from_rtneural
    output, _ = read(JSON / name, dtype=dtype)(ANSWERS[name]["x"])
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(output, ANSWERS[name]["y"], rtol=0, atol=tolerance)


def test_safetensors(golden):
    path, stored = GOLDEN / "interop_torch.safetensors", golden("interop_torch")
    tokens = stored["x.tokens"]
    output, _ = lw.from_torch(path, prefix=["embedding", "lstm"])(tokens)
    np.testing.assert_allclose(output, stored["y.lstm"], rtol=0, atol=1e-6)
    chain = lw.load(path, prefix=["embedding", "lstm", "projected", lw.Last(), "head"])
    np.testing.assert_allclose(np.tanh(chain(tokens)[0]), stored["y.head"], rtol=0, atol=1e-6)
    cell = lw.load(path, prefix="cell")
    for ours, name in zip(cell(stored["embedding.weight"][tokens[0]]), ("y.cell_h", "y.cell_c"), strict=True):
        np.testing.assert_allclose(ours, stored[name], rtol=0, atol=1e-6)
