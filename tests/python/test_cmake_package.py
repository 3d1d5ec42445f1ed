"""What a wheel holds for programs in C++: the shared library that the package itself uses, headers, files for CMake."""

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from latchwork import _core
from layers import normal

ROOT = Path(__file__).parents[2]
PACKAGE = Path(lw.__file__).parent


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "latchwork", *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def cmake_folder():
    done = command("--cmake-dir")
    if not (PACKAGE / "cmake").is_dir():
        assert done.returncode == 2
        assert done.stderr == (
            "latchwork: --cmake-dir: expected Latchwork as pip installs it, got one without files for CMake\n"
        )
        pytest.skip("Latchwork is not installed as a wheel")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.removesuffix("\n"))


def test_the_folder_has_what_cmake_looks_for(cmake_folder):
    assert {"latchworkConfig.cmake", "latchworkConfigVersion.cmake", "latchworkTargets.cmake"} <= {
        path.name for path in cmake_folder.iterdir()
    }
    version = (cmake_folder / "latchworkConfigVersion.cmake").read_text()
    assert re.search(rf'set\(PACKAGE_VERSION "{re.escape(lw.__version__)}"\)', version)


def test_there_is_one_library_which_the_package_uses_too(cmake_folder):
    (library,) = PACKAGE.rglob("liblatchwork*")
    assert library.parent == PACKAGE
    mapped = {
        line.split(maxsplit=5)[5].strip()
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "latchwork" in line
    }
    assert str(library.resolve()) in mapped
    assert str(Path(_core.__file__).resolve()) in mapped


@pytest.fixture(scope="module")
def programs(cmake_folder, tmp_path_factory):
    """The examples, built with the package; their own checks have passed."""
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("there is no cmake or no C++ compiler")
    folder = tmp_path_factory.mktemp("programs")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "cpp" / "check_examples.py", cmake, cmake_folder, "--keep", folder],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("size", [1, 7, 17])
def test_a_program_steps_what_python_trained(programs, tmp_path, size):
    network = lw.Network([lw.LSTM(3, size, num_layers=2, seed=1), lw.Linear(size, 2, activation="tanh", seed=2)])
    network.save(tmp_path / "network.safetensors")
    x = normal(3, (31, 3))
    given = "\n".join(" ".join(map(repr, row)) for row in x.tolist())
    printed = subprocess.run(
        [programs / "stream", tmp_path / "network.safetensors"], input=given, capture_output=True, text=True, check=True
    ).stdout
    answers = np.array([[float(value) for value in line.split()] for line in printed.splitlines()])
    stream = network.stream()
    np.testing.assert_allclose(answers, [stream.step(row) for row in x], rtol=1e-5, atol=1e-7)


def test_a_captured_amplifier_sounds_as_in_python(programs, tmp_path):
    size = 5
    weights = normal(4, (4 * size * (1 + size) + 6 * size + size + 1,), "float64") / 2
    config = {"input_size": 1, "hidden_size": size, "num_layers": 1}
    content = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights.tolist()}
    (tmp_path / "a.nam").write_text(json.dumps(content))
    model = lw.from_nam(tmp_path / "a.nam")
    model.save(tmp_path / "a.safetensors")
    x = normal(5, (400,))
    kind = struct.pack("<HHIIHH", 3, 1, 48000, 4 * 48000, 4, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", len(kind)) + kind + b"data" + struct.pack("<I", x.nbytes) + x.tobytes()
    (tmp_path / "in.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    subprocess.run(
        [programs / "effect", tmp_path / "a.safetensors", tmp_path / "in.wav", tmp_path / "out.wav"],
        check=True, capture_output=True,
    )  # fmt: skip
    answers = np.frombuffer((tmp_path / "out.wav").read_bytes()[44:], np.float32)
    stream = model.stream()
    np.testing.assert_array_equal(answers, [stream.step(value)[0] for value in x.reshape(-1, 1)])
