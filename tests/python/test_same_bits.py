"""What Python trains and draws is the same on every CPU with fused multiply-adds (docs/same-bits.md)."""

import hashlib
import math
import os
import platform
import subprocess
import sys

import latchwork as lw
import numpy as np
import pytest
from layers import normal

X86 = platform.machine() in ("x86_64", "AMD64")
FUSED = [isa for isa in lw.cpu_info()["available_isas"] if not (X86 and isa == "baseline")]
# Words from a fixed generator of integers, in which some follow others.
WORDS = ("the", "cell", "keeps", "its", "value", "until", "a", "gate", "lets", "something", "in")
TEXT = " ".join(WORDS[(number * number + 3 * number) % len(WORDS)] for number in range(900))

# The SHA-256 sum of what `latchwork train` made: parameters, a text that the model generated, and bits per character.
TRAINED = "ac959d2587055a639bcf1bd57aebdaabdb2085895e2e970c3a932bad335f7427"
# The SHA-256 sum of the weights and predictions of `learned_by_estimators`.
LEARNED = "b46a89b4835ade9ce3db694691730188085aff388b7b40aefa49889835ddd103"


def train(isa, folder):
    """Let the command line train, with this instruction set from the start, and give the sum of what came out."""
    (folder / "text.txt").write_text(TEXT)
    # With so many seconds the learning rate follows the epochs alone, and no clock.
    command = [
        sys.executable,
        "-m",
        "latchwork",
        "train",
        "text.txt",
        "--epochs",
        "4",
        "--seconds",
        "1000000000",
        "--hidden-size",
        "40",
        "--seed",
        "3",
    ]
    environment = os.environ | {"LATCHWORK_ISA": isa}
    subprocess.run([*command, "--output", "model.safetensors"], cwd=folder, env=environment, check=True)
    before = lw.cpu_info()["isa"]
    lw.set_isa(isa)
    try:
        model = lw.load(folder / "model.safetensors")
        digest = hashlib.sha256()
        for name, value in model.network_.state_dict().items():
            digest.update(name.encode() + value.tobytes())
        digest.update(model.generate("the ", 200, random_state=1).encode())
        digest.update(np.float64(model.bits_per_character(TEXT[:500])).tobytes())
    finally:
        lw.set_isa(before)
    return digest.hexdigest()


@pytest.mark.parametrize("isa", FUSED)
def test_what_the_command_line_trains(isa, tmp_path):
    assert train(isa, tmp_path) == TRAINED


def learned_by_estimators():
    """Give the sum of what a regressor and a classifier learn of gaps, categories and sequences of all lengths."""
    series = [normal(steps, (steps, 3)) for steps in range(1, 40)]
    codes = [np.arange(len(each)) % 3 for each in series]
    X = [np.column_stack([np.where(each > 1, np.nan, each), code]) for each, code in zip(series, codes, strict=True)]
    means = [math.fsum(each.ravel()) / each.size for each in series]
    options = {"hidden_size": 7, "max_epochs": 2, "batch_size": 8, "categorical": [3], "random_state": 5}
    regressor = lw.LSTMRegressor(quantiles=[0.2, 0.8], n_members=2, **options).fit(X, means)
    classifier = lw.LSTMClassifier(missing="mean", scale="robust", head="max", **options)
    classifier.fit(X, np.where(np.array(means) > 0, "up", "down"))
    digest = hashlib.sha256()
    for model in (regressor, classifier):
        for name, value in model.network_.state_dict().items():
            digest.update(name.encode() + value.tobytes())
    digest.update(regressor.predict(X).tobytes() + classifier.predict_proba(X).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", FUSED)
def test_what_estimators_learn(isa, threads):
    before = lw.cpu_info()["isa"], lw.get_num_threads()
    lw.set_isa(isa)
    lw.set_num_threads(threads)
    try:
        assert learned_by_estimators() == LEARNED
    finally:
        lw.set_isa(before[0])
        lw.set_num_threads(before[1])
