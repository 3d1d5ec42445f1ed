"""Damaged files, and files that try to do harm: a clear error, little time and memory, no error of another kind."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import hdf5_threads
import latchwork as lw
import mutations
import pytest
from latchwork.interop.keras import hdf5

pytestmark = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="needs h5py")

HERE = Path(__file__).parent
KEPT = HERE / "golden" / "keras"
# What each file of keras_hostile.py is refused for.
REFUSALS = {
    "large_config": "config.json: expected at most",
    "large_weights": "model.weights.h5: expected at most",
    "deep_json": "expected JSON, got maximum recursion depth",
    "deep_object": "expected JSON, got maximum recursion depth",
    "deep_models": "expected at most 32 models in each other",
    "many_entries": "bytes of names of entries",
    "large_units": "expected weights of shapes",
    "no_weights": "expected an HDF5 file",
    "huge": "data set 'layers/lstm/cell/vars/0': expected at most",
    "huge_chunked": "data set 'layers/lstm/cell/vars/0': expected at most",
    "huge_chunks": "data set 'layers/lstm/cell/vars/0': expected at most",
    "compressed": "data set 'layers/lstm/cell/vars/0': expected at most",
    "outside": "expected numbers in the file itself",
    "virtual": "expected numbers in the file itself",
    "link_outside": "got a link to another place",
    "link": "got a link to another place",
    "circle": "got more or a circle",
    "deep_groups": "expected at most",
    "many_groups": "expected weights of shapes",
    "same_numbers": "expected weights of shapes",
    "large_text": "expected an HDF5 file",
    "deep_text": "expected JSON, got maximum recursion depth",
    "cut_8": "expected an HDF5 file",
    "cut_100": "expected an HDF5 file",
    "cut_4076": "expected an HDF5 file",
    "cut_8151": "expected an HDF5 file",
    "signature": "expected a zip archive, got a damaged one",
    "noise": "expected an HDF5 file",
}


def run(script, *arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(lw.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, HERE / "support" / script, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_files_that_try_to_do_harm(tmp_path):
    results = run("keras_hostile.py", tmp_path)
    found = {name.partition(".")[0]: result for name, result in results["files"].items()}
    assert set(found) == set(REFUSALS)
    for name, (message, seconds, memory, _) in found.items():
        assert message.startswith(f"ValueError: {tmp_path}"), (name, message)
        assert REFUSALS[name] in message, (name, message)
        assert seconds < 1, name
        assert memory < 100, name


def test_damaged_files():
    outcomes = run("keras_mutations.py", KEPT, mutations.COUNT, 0)
    assert set(outcomes) <= {"refused", "read", "crashed"}, outcomes
    assert outcomes["refused"] > mutations.COUNT / 10
    assert outcomes["read"] > mutations.COUNT / 20


def test_a_crash_of_libhdf5_is_a_refusal(monkeypatch):
    start = hdf5._start

    def crashing(path):
        process = start(path)
        os.kill(process.pid, signal.SIGSEGV)
        return process

    monkeypatch.setattr(hdf5, "_start", crashing)
    with pytest.raises(ValueError, match=r"libhdf5 crashed on it, or needed too much time or memory \(status -11\)"):
        lw.from_keras(KEPT / "keras2.h5")


def test_a_process_that_hangs_is_ended(monkeypatch):
    start = hdf5._start

    def stopping(path):
        process = start(path)
        os.kill(process.pid, signal.SIGSTOP)
        return process

    monkeypatch.setattr(hdf5, "_start", stopping)
    monkeypatch.setattr(hdf5, "_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"libhdf5 crashed on it, or needed too much time or memory \(status -9\)"):
        lw.from_keras(KEPT / "keras2.h5")


def test_no_process_is_left(monkeypatch):
    """Neither after a model was read nor after an error."""
    processes, start = [], hdf5._start
    monkeypatch.setattr(hdf5, "_start", lambda path: processes.append(start(path)) or processes[-1])
    lw.from_keras(KEPT / "keras2.h5")
    with pytest.raises(ValueError, match="layer: expected the name of an LSTM"):
        lw.from_keras(KEPT / "keras2.h5", layer="b")
    assert [process.poll() is not None for process in processes] == [True, True]


def test_code_is_not_run(tmp_path, monkeypatch):
    """What a file says is only ever compared with names."""
    import keras_formula as formula

    hdf5_threads.use(monkeypatch)
    code = {"class_name": "__lambda__", "config": {"value": "raise SystemExit"}}
    layer = {"class_name": "os.system", "module": "os", "config": {"name": "touch here", "function": code}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    formula.write_keras_archive(tmp_path / "m.keras", config, {})
    with pytest.raises(ValueError, match="os>os.system 'touch here' has no counterpart, and there is no LSTM in it"):
        lw.from_keras(tmp_path / "m.keras")
