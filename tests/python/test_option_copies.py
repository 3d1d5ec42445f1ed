"""Modules with options of the cell: repr, copies, files, networks of them."""

import copy
import json
import pickle
import re

import latchwork as lw
import pytest
from cell_options import DEFAULTS, MODULES, STACK
from comparison import assert_same_bits
from latchwork.cli import main
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


@pytest.mark.parametrize(("kind", "options"), MODULES)
def test_repr_says_how_to_build_it(kind, options):
    module = kind(**options)
    again = eval(repr(module), {kind.__name__: kind})
    assert repr(again) == repr(module)
    assert again._config == module._config
    for name in set(DEFAULTS) - set(options):
        assert f"{name}=" not in repr(module)


@pytest.mark.parametrize(("kind", "options"), MODULES)
@pytest.mark.parametrize("clone", ["deepcopy", "pickle", "file"])
def test_clones_are_equal(kind, options, clone, tmp_path):
    module = kind(**options, seed=3)
    if clone == "file":
        module.save(tmp_path / "model.safetensors")
        other = lw.load(tmp_path / "model.safetensors")
    else:
        other = copy.deepcopy(module) if clone == "deepcopy" else pickle.loads(pickle.dumps(module))
    assert type(other) is kind
    assert repr(other) == repr(module)
    assert other._config == module._config
    assert_same_bits(other.state_dict(), module.state_dict())


def rewrite_config(path, change):
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    change(config)
    save_file(load_file(path), path, metadata | {"config": json.dumps(config)})


NEEDED = {"kind", "cell", "input_size", "hidden_size", "num_layers", "bias", "dropout", "direction", "proj_size"}


def forget(config):
    """Leave options out of a file, as one has it that was written before they were there."""
    options = config["modules"][0]
    for name in set(options) - NEEDED:
        del options[name]


def test_files_from_before_an_option_load(tmp_path):
    path = tmp_path / "model.safetensors"
    network = lw.Network([lw.LSTM(4, 3, 2, bias=False), lw.Last(), lw.Linear(3, 2)])
    for module in (lw.LSTM(**STACK, proj_size=2, dropout=0.25), lw.LSTMCell(3, 5), network):
        module.save(path)
        rewrite_config(path, forget)
        loaded = lw.load(path)
        assert repr(loaded) == repr(module)
        assert_same_bits(loaded.state_dict(), module.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"forget_gate": None}, {"forget_gate": True}, {"forget_gate": "some"}, {"peephole": 2}, {"peephole": True},
        {"layer_norm": True}, {"learn_start_state": True}, {"forget_gate": "coupled"}, {"forget_gate": "none"},
        {"coupled": True}, {"bidirectional": True}, {"zoneout": [0, 0]}, {"direction": None},
        {"activations": 3}, {"activations": []}, {"activations": [[[]]]}, {"activations": [{}, {"cell": [[]]}]},
        {"activations": None}, {"activations": [{}, {}, {}]},
        {"activations": [{"cell": ["__import__('os')"]}]}, {"activations": [{"cell": ["elu", 1e400]}]},
        {"activations": [{"__class__": "x"}]}, {"activations": [{"cell": {"elu": 1}}]},
        {"activations": [{"\ud800": "tanh"}]}, {"activations": [{"cell": "\ud800"}]},
        {"clip": float("nan")}, {"clip": "3"}, {"clip": 0}, {"zoneout_hidden": [0.5]}, {"zoneout_cell": 2},
        {"recurrent_dropout_on": []}, {"weight_dropout": -1}, {"residual": 1}, {"forget_bias": {}}, {"init": {}},
        {"init": "chrono"}, {"t_max": 2**70}, {"init": "\ud800"}, {"hidden_size": 2**70},
    ],
)  # fmt: skip
def test_hostile_configurations_are_value_errors(change, tmp_path):
    path = tmp_path / "model.safetensors"
    lw.LSTM(**STACK).save(path)
    rewrite_config(path, lambda config: config["modules"][0].update(change))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(path)


def test_a_network_keeps_the_options_and_values_of_its_layers(tmp_path):
    options = {
        "forget_gate": "coupled",
        "peephole": True,
        "layer_norm": True,
        "learn_start_state": True,
        "init": "keras",
    }
    lstm = lw.LSTM(4, 5, 2, residual=True, activations={"cell": "softsign"}, seed=1, **options)
    before = lstm.state_dict()
    network = lw.Network([lw.Embedding(7, 4), lstm, lw.Last(), lw.Linear(5, 3)])
    assert_same_bits(lstm.state_dict(), before)
    assert network.parameters["1.weight_peephole_l1"].shape == (10,)
    network.save(tmp_path / "model.safetensors")
    for other in (lw.load(tmp_path / "model.safetensors"), copy.deepcopy(network)):
        assert repr(other) == repr(network)
        assert other[1]._config == lstm._config
        assert_same_bits(other.state_dict(), network.state_dict())


def test_info_shows_the_options(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    lw.LSTM(3, 5, forget_gate="coupled", activations={"cell": ("elu", 2.0)}).save(path)
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "forget_gate='coupled', activations={'cell': ('elu', 2.0)}" in printed
    assert re.search(r"weight_ih_l0 +\(15, 3\)", printed)
