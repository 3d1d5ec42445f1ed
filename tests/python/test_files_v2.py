"""Files of format version 2, written once and kept: they load, and what they hold computes what it did."""

import json
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from latchwork.files import _KINDS
from safetensors import safe_open
from safetensors.numpy import load_file
from saved_models import EXPECTED, answers

FOLDER = Path(__file__).parent / "files_v2"
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors") if path.stem != EXPECTED)


def metadata_of(name):
    with safe_open(FOLDER / f"{name}.safetensors", framework="np") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def expected():
    return load_file(FOLDER / f"{EXPECTED}.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_model_computes_what_it_did(name, isa, expected):
    model = lw.load(FOLDER / f"{name}.safetensors")
    own = {key.removeprefix(f"{name}."): value for key, value in expected.items() if key.startswith(f"{name}.")}
    result = answers(model, own.pop("x"))
    assert result.keys() == own.keys()
    # Without fused multiply-adds the last bits differ, and layer norm sums in another order for each instruction set.
    if isa == "baseline" or "layer_norm" in name:
        for key, value in own.items():
            assert result[key].dtype == value.dtype
            np.testing.assert_allclose(result[key], value, rtol=1e-5, atol=1e-6)
    else:
        assert_same_bits(dict(sorted(result.items())), dict(sorted(own.items())))


@pytest.mark.parametrize("name", NAMES)
def test_saving_it_again_changes_nothing(name, tmp_path):
    model = lw.load(FOLDER / f"{name}.safetensors")
    model.save(tmp_path / "again.safetensors")
    with safe_open(tmp_path / "again.safetensors", framework="np") as file:
        metadata, before = file.metadata(), metadata_of(name)
    if name == "language_model":  # which has got more parameters since
        again, python = json.loads(metadata.pop("python")), json.loads(before.pop("python"))
        assert lw.LSTMLanguageModel(**python["parameters"]).get_params().items() >= python["parameters"].items()
        added = {key: again["parameters"].pop(key) for key in set(again["parameters"]) - set(python["parameters"])}
        assert again == python
        not_in_files = {"callbacks", "checkpoint_dir", "validation_data"}
        assert added.keys() == lw.LSTMLanguageModel().get_params().keys() - python["parameters"].keys() - not_in_files
        assert lw.load(tmp_path / "again.safetensors").get_params() == model.get_params()
    assert metadata == before
    assert_same_bits(load_file(tmp_path / "again.safetensors"), load_file(FOLDER / f"{name}.safetensors"))


def test_there_is_one_of_every_kind():
    assert {metadata_of(name)["kind"] for name in NAMES} == set(_KINDS)
    assert {metadata_of(name)["format_version"] for name in NAMES} == {"2"}


def test_the_language_models_characters_are_code_points():
    assert json.loads(metadata_of("language_model")["config"])["vocabulary"] == [32, 97, 0xD800, 0xDC00, 0x10000]
    model = lw.load(FOLDER / "language_model.safetensors")
    assert model.vocabulary_ == " a\ud800\udc00\U00010000"
    assert model.forget_gate is True  # as that of all models was then
