"""Build the programs of docs/examples/cpp against an installed Latchwork, and compare what they compute.

python check_examples.py CMAKE CMAKE_FOLDER: the folder that holds latchwork's CMake package.
With --install BUILD PREFIX, the build is installed into that folder first. With --keep FOLDER, the programs stay there.
"""

import argparse
import array
import json
import math
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "python" / "files_v2"
FOREIGN = re.compile(r"#include\s*[<\"](Python|pybind|Eigen|nlohmann)")
RATE, CHANNELS, HIDDEN = 8000, 2, 3


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def read_tensor(path: Path, name: str) -> tuple[list[int], array.array]:
    content = path.read_bytes()
    (size,) = struct.unpack_from("<Q", content)
    entry = json.loads(content[8 : 8 + size])[name]
    assert entry["dtype"] == "F32"
    begin, end = (8 + size + offset for offset in entry["data_offsets"])
    return entry["shape"], array.array("f", content[begin:end])


def check_stream(program: Path) -> None:
    """A kept model answers as it did in Python, when its file was written."""
    (steps, rows, features), x = read_tensor(KEPT / "expected.safetensors", "lstm.x")
    (_, _, size), y = read_tensor(KEPT / "expected.safetensors", "lstm.output")
    for row in range(rows):
        places = [(step * rows + row) for step in range(steps)]
        given = "".join(f"{value!r} " for at in places for value in x[at * features : (at + 1) * features])
        got = [list(map(float, line.split())) for line in
               run(program, KEPT / "lstm.safetensors", input=given).splitlines()]  # fmt: skip
        expected = [list(y[at * size : (at + 1) * size]) for at in places]
        assert len(got) == steps
        for one, other in zip(sum(got, []), sum(expected, []), strict=True):
            assert abs(one - other) < 1e-5, (got, expected)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


class Amplifier:
    """An LSTM of one sample with a trained start state, and a linear layer: what a capture of an amplifier is."""

    SHAPES = {
        "0.weight_ih_l0": (4 * HIDDEN, 1), "0.weight_hh_l0": (4 * HIDDEN, HIDDEN), "0.bias_ih_l0": (4 * HIDDEN,),
        "0.bias_hh_l0": (4 * HIDDEN,), "0.h_0_l0": (HIDDEN,), "0.c_0_l0": (HIDDEN,), "1.weight": (1, HIDDEN),
        "1.bias": (1,),
    }  # fmt: skip

    def __init__(self) -> None:
        draw = random.Random(1)
        self.numbers = {
            name: array.array("f", [draw.uniform(-1, 1) for _ in range(math.prod(shape))])
            for name, shape in self.SHAPES.items()
        }

    def save(self, path: Path) -> None:
        modules = [{"kind": "lstm", "input_size": 1, "hidden_size": HIDDEN, "learn_start_state": True},
                   {"kind": "linear", "in_features": HIDDEN, "out_features": 1}]  # fmt: skip
        config = {"modules": modules, "dtype": "float32", "members": 1}
        header: dict[str, object] = {
            "__metadata__": {"format_version": "2", "kind": "network", "config": json.dumps(config), "python": "{}"}
        }
        data = b""
        for name, shape in self.SHAPES.items():
            begin, data = len(data), data + self.numbers[name].tobytes()
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def __call__(self, samples: list[float]) -> list[float]:
        p = self.numbers
        h, c, answers = list(p["0.h_0_l0"]), list(p["0.c_0_l0"]), []
        for sample in samples:
            a = [
                p["0.weight_ih_l0"][k] * sample + p["0.bias_ih_l0"][k] + p["0.bias_hh_l0"][k]
                + sum(p["0.weight_hh_l0"][k * HIDDEN + j] * h[j] for j in range(HIDDEN))
                for k in range(4 * HIDDEN)
            ]  # fmt: skip
            i, f, g, o = (a[gate * HIDDEN : (gate + 1) * HIDDEN] for gate in range(4))
            c = [sigmoid(f[j]) * c[j] + sigmoid(i[j]) * math.tanh(g[j]) for j in range(HIDDEN)]
            h = [sigmoid(o[j]) * math.tanh(c[j]) for j in range(HIDDEN)]
            answers.append(p["1.bias"][0] + sum(p["1.weight"][j] * h[j] for j in range(HIDDEN)))
        return answers


def check_effect(program: Path, folder: Path) -> None:
    """A recording comes out as the formulas say, each channel for itself, as 16-bit integers and as floats."""
    amplifier = Amplifier()
    amplifier.save(folder / "amplifier.safetensors")
    length = 400
    words = [round(12000 * math.sin(0.05 * t * (1 + channel))) for t in range(length) for channel in range(CHANNELS)]
    floats = [word / 32768 for word in words]
    for format_code, data in (
        (1, struct.pack(f"<{len(words)}h", *words)),
        (3, struct.pack(f"<{len(words)}f", *floats)),
    ):
        size = len(data) // len(words)
        kind = struct.pack("<HHIIHH", format_code, CHANNELS, RATE, RATE * CHANNELS * size, CHANNELS * size, 8 * size)
        chunks = b"fmt " + struct.pack("<I", len(kind)) + kind + b"LIST" + struct.pack("<I", 3) + b"abc\0"
        chunks += b"data" + struct.pack("<I", len(data)) + data
        (folder / "in.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
        run(program, folder / "amplifier.safetensors", folder / "in.wav", folder / "out.wav")
        out = (folder / "out.wav").read_bytes()
        assert struct.unpack_from("<HHI", out, 20) == (3, CHANNELS, RATE)
        answers = array.array("f", out[44:])
        assert len(answers) == len(words)
        for channel in range(CHANNELS):
            for got, expected in zip(answers[channel::CHANNELS], amplifier(floats[channel::CHANNELS]), strict=True):
                assert abs(got - expected) < 1e-4, (got, expected)
    refused = subprocess.run(
        [program, KEPT / "lstm.safetensors", folder / "in.wav", folder / "out.wav"], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "expected a model that takes one sample and gives one" in refused.stderr


def check_pkg_config(prefix: Path, folder: Path, compiler: str) -> None:
    files = list(prefix.rglob("latchwork.pc"))
    assert len(files) == 1, files
    if shutil.which("pkg-config") is None:
        print("pkg-config is not there: its file was not tried")
        return
    environment = {"PKG_CONFIG_PATH": str(files[0].parent), "PATH": "/usr/bin:/bin"}
    flags = run("pkg-config", "--cflags", "--libs", "latchwork", env=environment).split()
    library = run("pkg-config", "--variable=libdir", "latchwork", env=environment).strip()
    program = folder / "stream-by-pkg-config"
    run(compiler, ROOT / "docs/examples/cpp/stream.cpp", "-o", program, *flags, f"-Wl,-rpath,{library}")
    check_stream(program)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cmake")
    parser.add_argument("cmake_folder", type=Path)
    parser.add_argument("--install", type=Path, nargs=2, metavar=("BUILD", "PREFIX"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--compiler", default="c++")
    arguments = parser.parse_args()
    package = arguments.cmake_folder
    if arguments.install:
        build, prefix = arguments.install
        shutil.rmtree(prefix, ignore_errors=True)
        run(arguments.cmake, "--install", build, "--prefix", prefix)
    includes = re.search(r'"\$\{_IMPORT_PREFIX\}/([^"]*)"', (package / "latchworkTargets.cmake").read_text())
    assert includes, "no include folder in latchworkTargets.cmake"
    headers = [path for parent in package.parents for path in (parent / includes[1]).glob("latchwork/*.hpp")]
    assert len(headers) >= 12, headers
    for header in headers:
        assert not FOREIGN.search(header.read_text(encoding="utf-8")), header
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = arguments.keep or folder / "build"
        run(arguments.cmake, "-S", ROOT / "docs/examples/cpp", "-B", programs, f"-Dlatchwork_DIR={package}",
            f"-DCMAKE_CXX_COMPILER={arguments.compiler}", "-DCMAKE_BUILD_TYPE=Release",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Werror")  # fmt: skip
        run(arguments.cmake, "--build", programs)
        check_stream(programs / "stream")
        check_effect(programs / "effect", folder)
        if arguments.install and list(arguments.install[1].rglob("*.a")):  # a wheel has neither
            check_pkg_config(arguments.install[1], folder, arguments.compiler)
    print(f"both programs compute what they should with the headers in {headers[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
