"""save and load: a file is written whole or not at all, and hostile files are refused with a ValueError."""

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from latchwork import _core
from layers import normal, random_lstm
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

STACK = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True, "proj_size": 2}


def lstm(dtype="float32"):
    return random_lstm(dtype=dtype, dropout=0.25, batch_first=True, **STACK)


def plain(dtype="float32"):
    return random_lstm(input_size=3, hidden_size=5, bias=False, dtype=dtype)


def cell(dtype="float32"):
    return lw.LSTMCell(3, 5, dtype=dtype)


def linear(dtype="float32"):
    return lw.Linear(3, 5, bias=False, activation="tanh", dtype=dtype)


def embedding(dtype="float32"):
    return lw.Embedding(7, 4, dtype=dtype)


def network(dtype="float32"):
    chain = [lw.Embedding(7, 4, dtype=dtype), lw.LSTM(4, 5, 2, dtype=dtype), lw.Last(), lw.Linear(5, 3, dtype=dtype)]
    return lw.Network(chain)


MAKERS = (lstm, plain, cell, linear, embedding, network)


def metadata_of(path):
    with safe_open(path, framework="np") as file:
        return file.metadata()


def resave(path, change):
    """The file again, with its metadata changed by a function; None removes a key."""
    tensors, metadata = load_file(path), metadata_of(path)
    metadata |= change(metadata)
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    lstm().save(path)
    return path


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("make", MAKERS)
def test_round_trip(tmp_path, make, kind, dtype):
    module = make(dtype)
    path = kind(tmp_path / "model.safetensors")
    module.save(path)
    loaded = lw.load(path)
    assert type(loaded) is type(module)
    assert repr(loaded) == repr(module)
    assert loaded.dtype == module.dtype
    assert_same_bits(loaded.state_dict(), module.state_dict())


def test_a_loaded_layer_runs_and_learns(saved):
    loaded, original = lw.load(saved), lstm()
    x = normal(1, (4, 6, 3))
    assert_same_bits(loaded(x), original(x))
    assert_same_bits(
        loaded.record(x, training=True, mask_seed=3).output, original.record(x, training=True, mask_seed=3).output
    )
    loaded.parameters["bias_ih_l0"] = np.zeros(20)


def test_tensors_have_torchs_names_and_metadata_says_what_they_are(saved):
    tensors, metadata = load_file(saved), metadata_of(saved)
    assert_same_bits(dict(sorted(tensors.items())), dict(sorted(lstm().state_dict().items())))
    assert metadata["kind"] == "lstm"
    assert metadata["format_version"] == "2"
    assert set(metadata) == {"format_version", "kind", "config", "python"}
    config = json.loads(metadata["config"])
    assert set(config) == {"modules", "dtype", "members"}
    assert config["dtype"] == "float32"
    assert json.loads(metadata["python"]) == {"batch_first": True}


@pytest.mark.parametrize("make", MAKERS)
def test_config_is_the_cores_options(tmp_path, make, dtype):
    module = make(dtype)
    module.save(tmp_path / "model.safetensors")
    config = json.loads(metadata_of(tmp_path / "model.safetensors")["config"])
    assert config["dtype"] == dtype
    assert [_core.checked_module(options) for options in config["modules"]] == config["modules"]
    assert _core.parameter_count(config["modules"]) == sum(value.size for value in module.parameters.values())
    layers = module.layers if isinstance(module, lw.Network) else [module]
    kinds = {lw.LSTM: "lstm", lw.LSTMCell: "lstm", lw.Linear: "linear", lw.Embedding: "embedding", lw.Last: "last"}
    assert [options["kind"] for options in config["modules"]] == [kinds[type(layer)] for layer in layers]


def test_config_has_the_cores_words(tmp_path):
    options = {"forget_gate": False, "reverse": True, "zoneout": (0.25, 0.5), "activations": {"cell": ("elu", 2)}}
    lw.LSTM(3, 5, **options).save(tmp_path / "model.safetensors")
    (saved,) = json.loads(metadata_of(tmp_path / "model.safetensors")["config"])["modules"]
    sigmoids = dict.fromkeys(("input", "forget", "output"), "sigmoid")
    assert saved == {
        "kind": "lstm", "input_size": 3, "hidden_size": 5, "num_layers": 1, "bias": True, "dropout": 0.0,
        "direction": "reverse", "proj_size": 0, "cell": False, "forget_gate": "none", "peephole": False,
        "layer_norm": False, "activations": [sigmoids | {"candidate": "tanh", "cell": ["elu", 2.0]}], "clip": None,
        "cell_clip": None, "zoneout_hidden": 0.25, "zoneout_cell": 0.5, "recurrent_dropout": 0.0,
        "recurrent_dropout_on": "hidden", "weight_dropout": 0.0, "residual": False, "learn_start_state": False,
        "forget_bias": None, "init": "torch", "t_max": None,
    }  # fmt: skip


def test_safetensors_written_by_others_is_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        lw.load(path)


def test_a_missing_file_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        lw.load(tmp_path / "nothing.safetensors")
    with pytest.raises(OSError, match=r"folder|directory|No such"):
        lstm().save(tmp_path / "no folder" / "model.safetensors")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises((OSError, ValueError)):
        lw.load(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011
        lstm().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, 3.5, ["model"]])
def test_a_path_is_a_path(path):
    with pytest.raises(TypeError):
        lw.load(path)
    with pytest.raises(TypeError):
        lstm().save(path)


def test_format_version_1_is_refused_by_name(saved):
    resave(saved, lambda _: {"format_version": "1"})
    with pytest.raises(ValueError, match=r"format_version 2, got 1, which was never released; save the model again"):
        lw.load(saved)


@pytest.mark.parametrize("version", ["3", "999", "18446744073709551616"])
def test_a_newer_format_is_refused_by_name(saved, version):
    resave(saved, lambda _: {"format_version": version})
    with pytest.raises(ValueError, match=rf"format_version.*{version}"):
        lw.load(saved)


def changed(key, **changes):
    return lambda metadata: {key: json.dumps(json.loads(metadata[key]) | changes)}


def changed_options(**changes):
    def change(metadata):
        config = json.loads(metadata["config"])
        config["modules"][0] |= changes
        return {"config": json.dumps(config)}

    return change


HOSTILE_METADATA = {
    "no version": lambda _: {"format_version": None},
    "no kind": lambda _: {"kind": None},
    "no config": lambda _: {"config": None},
    "version no number": lambda _: {"format_version": "one"},
    "version empty": lambda _: {"format_version": ""},
    "version negative": lambda _: {"format_version": "-1"},
    "version nan": lambda _: {"format_version": "nan"},
    "unknown kind": lambda _: {"kind": "os.system"},
    "other kind": lambda _: {"kind": "linear"},
    "kind network": lambda _: {"kind": "network"},
    "kind language model": lambda _: {"kind": "language_model"},
    "config no JSON": lambda _: {"config": "{"},
    "config Python": lambda _: {"config": "__import__('os').getpid()"},
    "config list": lambda _: {"config": "[]"},
    "config null": lambda _: {"config": "null"},
    "config empty": lambda _: {"config": "{}"},
    "config deep": lambda _: {"config": "[" * 100_000},
    "config deep object": lambda _: {"config": '{"a":' * 100_000},
    "unknown option": changed_options(trust=True),
    "dunder option": changed_options(__class__="x", self=3),
    "huge size": changed_options(hidden_size=2**62),
    "beyond 64 bits": changed_options(hidden_size=2**80),
    "large size": changed_options(hidden_size=10**9),
    "zero size": changed_options(hidden_size=0),
    "negative size": changed_options(input_size=-3),
    "float size": changed_options(input_size=3.0),
    "text size": changed_options(input_size="3"),
    "null size": changed_options(input_size=None),
    "list size": changed_options(input_size=[3]),
    "many layers": changed_options(num_layers=10**12),
    "other size": changed_options(hidden_size=6),
    "one layer fewer": changed_options(num_layers=1),
    "other bias": changed_options(bias=False),
    "other direction": changed_options(direction="forward"),
    "text bias": changed_options(bias="yes"),
    "nan dropout": changed_options(dropout=float("nan")),
    "large dropout": changed_options(dropout=2.0),
    "other dtype": changed("config", dtype="float64"),
    "object dtype": changed("config", dtype="object"),
    "null dtype": changed("config", dtype=None),
    "record dtype": changed("config", dtype=[["a", "f4"]]),
    "no python": lambda _: {"python": None},
    "python list": lambda _: {"python": "[]"},
    "python empty": lambda _: {"python": "{}"},
    "unknown in python": changed("python", trust=True),
    "text in python": changed("python", batch_first="yes"),
    "unknown in config": changed("config", trust=True),
    "a cell": changed_options(cell=True),
    "no modules": changed("config", modules=[]),
    "modules null": changed("config", modules=None),
    "another kind": changed_options(kind="last"),
    "surrogate kind": changed_options(kind="\ud800"),
}


@pytest.mark.parametrize("what", HOSTILE_METADATA)
def test_hostile_metadata_is_a_value_error(saved, what):
    resave(saved, HOSTILE_METADATA[what])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(saved)


def test_the_kind_must_be_that_of_the_module(tmp_path):
    path = tmp_path / "model.safetensors"
    for module, kind, own in ((cell(), "linear", "lstm_cell"), (linear(), "embedding", "linear")):
        module.save(path)
        resave(path, lambda _, kind=kind: {"kind": kind})
        with pytest.raises(ValueError, match=f"kind: expected {kind}, got {own}"):
            lw.load(path)


def test_a_layer_is_one_module(saved):
    resave(saved, lambda metadata: changed("config", modules=json.loads(metadata["config"])["modules"] * 2)(metadata))
    with pytest.raises(ValueError, match="modules: expected a list of one module, got "):
        lw.load(saved)


def test_a_network_has_no_cells(tmp_path):
    path = tmp_path / "model.safetensors"
    lw.Network([lw.LSTM(3, 5), lw.LSTM(5, 4)]).save(path)

    def make_the_second_a_cell(metadata):
        config = json.loads(metadata["config"])
        config["modules"][1]["cell"] = True
        return {"config": json.dumps(config)}

    resave(path, make_the_second_a_cell)
    with pytest.raises(ValueError, match=r"modules\[1\].kind: expected one of .*, got lstm_cell"):
        lw.load(path)


@pytest.mark.parametrize("kind", ["network", "language_model"])
@pytest.mark.parametrize(
    "modules",
    [
        3,
        [],
        [3],
        [{}],
        [None],
        [{"kind": "lstm"}],
        [{"kind": "network", "modules": []}],
        [{"kind": "lstm", "cell": True, "input_size": 3, "hidden_size": 5}],
        [["lstm", {}]],
        {"kind": "lstm"},
    ],
)
def test_hostile_chains_are_value_errors(saved, kind, modules):
    config = {"modules": modules, "dtype": "float32", "members": 1}
    python = {"batch_first": False}
    if kind == "language_model":
        config["vocabulary"] = [97, 98]
        python = {"network": python, "parameters": {}, "history": [], "interrupted": False}
    resave(saved, lambda _: {"kind": kind, "config": json.dumps(config), "python": json.dumps(python)})
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(saved)


def change_tensors(path, change):
    tensors, metadata = load_file(path), metadata_of(path)
    change(tensors)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.pop("bias_ih_l0"),
        lambda tensors: tensors.update(extra=np.zeros(3, np.float32)),
        lambda tensors: tensors.update(bias_ih_l0=np.zeros(19, np.float32)),
        lambda tensors: tensors.update(bias_ih_l0=np.zeros((20, 1), np.float32)),
        lambda tensors: tensors.update(bias_ih_l0=np.zeros(20, np.float64)),
        lambda tensors: tensors.update(bias_ih_l0=np.zeros(20, np.int32)),
        lambda tensors: tensors.update({"bias_ih_l9": tensors.pop("bias_ih_l0")}),
        lambda tensors: tensors.update(bias_ih_l0=np.zeros(40, np.float32), bias_hh_l0=np.zeros(0, np.float32)),
    ],
)
def test_tensors_that_do_not_fit_are_a_value_error(saved, change):
    change_tensors(saved, change)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(saved)


def test_tensors_of_integers_are_a_value_error(saved):
    content = saved.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + size].replace(b'"F32"', b'"I32"', 1)
    saved.write_bytes(content[:8] + header + content[8 + size :])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(saved)


def test_truncated_files_are_value_errors(saved):
    content = saved.read_bytes()
    lengths = {*range(0, 200, 7), *range(200, len(content), len(content) // 40), len(content) - 1}
    for length in sorted(lengths):
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            lw.load(saved)


def test_appended_bytes_are_a_value_error(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(saved)


def test_flipped_bytes_never_do_worse_than_a_value_error(saved):
    content = bytearray(saved.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    random, refused = np.random.RandomState(1), 0
    for _ in range(400):
        damaged = bytearray(content)
        for place in random.randint(0, header, random.randint(1, 4)):
            damaged[place] = random.randint(256)
        saved.write_bytes(damaged)
        try:
            lw.load(saved)
        except ValueError:
            refused += 1
    assert refused > 300


def test_garbage_is_a_value_error(tmp_path):
    path, random = tmp_path / "garbage.safetensors", np.random.RandomState(1)
    contents = [random.bytes(size) for size in (1, 8, 9, 100, 10_000)]
    contents += [b"", b"{}", b"\0" * 100, b"\xff" * 100, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 2**63) + b"{}"]
    contents += [b"PK\x03\x04" + b"\0" * 100, b"\x93NUMPY\x01\x00" + b"\0" * 100, b"\x89HDF\r\n\x1a\n" + b"\0" * 100]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"garbage\.safetensors"):
            lw.load(path)


def test_members_without_parameters_take_no_time(tmp_path):
    path = tmp_path / "model.safetensors"
    lw.Network([lw.Scale([1.0], [2.0])]).save(path)
    resave(path, changed("config", members=10**12))
    started = time.perf_counter()
    assert isinstance(lw.load(path), lw.Network)
    assert time.perf_counter() - started < 1


class Executed:
    """An object whose unpickling leaves a trace."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_not_read(tmp_path):
    path, trace = tmp_path / "model.safetensors", tmp_path / "executed"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Executed(trace), protocol))
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            lw.load(path)
    np.save(tmp_path / "array.npy", np.array([Executed(trace)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"array\.npy"):
        lw.load(tmp_path / "array.npy")
    assert not trace.exists()


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(OSError, match="no space left"):
                plain().save(saved)
        assert saved.read_bytes() == before
        assert os.listdir(saved.parent) == [saved.name]


def test_saving_over_a_file_replaces_it_and_leaves_nothing_else(saved):
    cell().save(saved)
    assert isinstance(lw.load(saved), lw.LSTMCell)
    assert os.listdir(saved.parent) == [saved.name]


def test_saving_through_a_link_keeps_the_link(saved):
    link = saved.parent / "link.safetensors"
    link.symlink_to(saved)
    cell().save(link)
    assert link.is_symlink()
    assert isinstance(lw.load(saved), lw.LSTMCell)


SAVER = """
import sys
import latchwork as lw
first, second = (lw.LSTM(64, 256, seed=seed) for seed in (1, 2))
first.save(sys.argv[1])
print("ready", flush=True)
while True:
    second.save(sys.argv[1])
    first.save(sys.argv[1])
"""


def kill_while_saving(path, seconds):
    with subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(60)


def check_killed_saves(folder, times):
    path, random = folder / "model.safetensors", np.random.RandomState(1)
    allowed = [lw.LSTM(64, 256, seed=seed).state_dict() for seed in (1, 2)]
    for _ in range(times):
        kill_while_saving(path, random.uniform(0, 0.05))
        state = lw.load(path).state_dict()
        assert any(all(np.array_equal(state[name], value) for name, value in one.items()) for one in allowed)


def test_kill_during_save_leaves_a_whole_file(tmp_path):
    check_killed_saves(tmp_path, 3)


@pytest.mark.slow
def test_kill_during_save_leaves_a_whole_file_many_times(tmp_path):
    check_killed_saves(tmp_path, 40)
