"""The programs of PyTorch in docs/examples: with their LSTMs replaced they are trained as they are without."""

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import latchwork.torch as lwt  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(1)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
# How far the losses may be from each other, and over how many steps: in float32 training is chaotic.
LIMITS = [("float64", 200, 1e-8), ("float32", 200, 1e-3), ("float32", 10, 1e-5)]
EPOCHS = {200: 10, 10: 1}  # of the forecaster: an epoch is 20 steps


@pytest.fixture(params=["torch_character_model", "torch_forecaster", "torch_tagger"])
def program(request, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(request.param)


def train(program, steps, **options):
    """Train for a number of steps. Give the model and the losses."""
    count = {"epochs": EPOCHS[steps]} if hasattr(program, "EPOCHS") else {"steps": steps}
    model, losses, *_ = program.train(**count, **options)
    return model, np.array(losses)


def kinds(model):
    return {type(module) for module in model.modules() if isinstance(module, nn.LSTM)}


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "steps", "limit"), LIMITS[:2], ids=lambda value: str(value))
def test_the_losses_are_those_without(program, dtype, steps, limit, monkeypatch):
    compare(program, dtype, steps, limit, monkeypatch)


def test_the_first_losses_are_those_without(program, monkeypatch):
    compare(program, *LIMITS[2], monkeypatch)


def compare(program, dtype, steps, limit, monkeypatch):
    theirs, expected = train(program, steps, dtype=getattr(torch, dtype))

    def refuse(*arguments):
        raise AssertionError("PyTorch's own code computed an LSTM")

    monkeypatch.setattr(torch.nn.modules.rnn._VF, "lstm", refuse)
    ours, losses = train(program, steps, dtype=getattr(torch, dtype), with_latchwork=True)
    assert kinds(theirs) == {nn.LSTM}
    assert kinds(ours) == {lwt.LSTM}
    assert len(losses) == len(expected) >= steps
    assert expected[-10:].mean() < expected[:10].mean() or steps == 10  # it learns
    np.testing.assert_allclose(losses[:steps], expected[:steps], rtol=0, atol=limit)


@pytest.mark.parametrize("first", ["torch", "latchwork"])
def test_a_checkpoint_of_one_goes_on_in_the_other(program, first, tmp_path):
    double = {"dtype": torch.float64}
    path = tmp_path / "checkpoint.pt"
    _, expected = train(program, 10, **double)
    _, later = train(program, 10, **double, with_latchwork=first == "latchwork", save=path)
    np.testing.assert_allclose(later, expected, rtol=0, atol=1e-8)
    _, twice = train(program, 10, **double, with_latchwork=first == "torch", resume=path)
    _, expected_twice = train(program, 10, **double, with_latchwork=first == "latchwork", resume=path)
    np.testing.assert_allclose(twice, expected_twice, rtol=0, atol=1e-8)
    assert abs(twice - later).max() > 1e-3  # it went on, and did not begin again


@pytest.mark.slow
def test_the_commands_run(program, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(lw.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    count = ["--epochs", "1"] if hasattr(program, "EPOCHS") else ["--steps", "3"]
    done = subprocess.run(
        [sys.executable, program.__file__, "--latchwork", *count, "--save", tmp_path / "saved.pt"],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Report: 1 swapped, 0 left\n  swapped  lstm  LSTM(" in done.stdout
    assert "at first" in done.stdout
    assert (tmp_path / "saved.pt").exists()
