"""Damaged and hostile ONNX files: a ValueError, soon and without much memory."""

import os
import subprocess
import sys
import time

import latchwork as lw
import mutations
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx_formula  # noqa: E402
import onnx_graphs  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SHAPES = {"X": (3, 2, 4), "W": (1, 20, 4), "R": (1, 20, 5), "B": (1, 40)}
NO_MODELS = [b"", b"\x00", b"garbage " * 100, b"\x08\x07", b"PK\x03\x04" + bytes(99), b"\x3a" * 5000]
ELSEWHERE = ["../secret", "/etc/passwd", "..\\secret", "a/../../secret", "", "x\0y", "link", "folder", "fifo"]
WRONG_SIZES = [{"offset": "-1"}, {"offset": "x"}, {"length": "10"}, {"offset": str(10**18)}, {"offset": "8"}]


def small():
    values = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    return onnx_formula.model_of({"hidden_size": 5}, values)


def refused(model, match=None):
    started = time.process_time()
    with pytest.raises(ValueError, match=match) as caught:
        lw.from_onnx(model)
    assert time.process_time() - started < 1
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("content", NO_MODELS)
def test_what_is_no_model(content, tmp_path):
    refused(content)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, str(path))


def test_every_truncation():
    content = small().SerializeToString()
    for end in range(0, len(content), 7):
        refused(content[:end])


def test_nesting_without_end():
    content = b""
    for _ in range(200):  # a graph in an attribute of a node of a graph
        for field in (0x32, 0x2A, 0x0A):
            length = len(content)
            size = bytearray()
            while True:
                size.append(length & 0x7F | (0x80 if length > 0x7F else 0))
                length >>= 7
                if not length:
                    break
            content = bytes([field]) + bytes(size) + content
    refused(b"\x3a" + bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content)


@pytest.mark.parametrize(
    ("name", "dims"),
    [("W", [1, 20, 10**12]), ("W", [1, 10**6, 10**6]), ("W", [1, -20, -4]), ("W", [2**62, 2**62, 0]), ("R", [1] * 60)],
)
def test_shapes_that_the_numbers_do_not_have(name, dims):
    for raw in (True, False):
        model = small()
        for tensor in model.graph.initializer:
            if tensor.name == name:
                del tensor.dims[:]
                tensor.dims.extend(dims)
                if not raw:
                    tensor.ClearField("raw_data")
        refused(model, "expected")


@pytest.mark.parametrize("op_type", ["ConstantOfShape", "Expand"])
def test_constants_of_10_to_the_12_elements(op_type):
    model = small()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 10**6, 10**6]), "shape"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 1), np.float32), "one"))
    inputs = ["shape"] if op_type == "ConstantOfShape" else ["one", "shape"]
    model.graph.node.insert(0, helper.make_node(op_type, inputs, ["large"]))
    model.graph.node[1].input[2] = "large"
    refused(model, "follows from the file's")


def test_constants_that_double():
    model = small()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 8, 128), np.float32), "c0"))
    nodes = [helper.make_node("Concat", [f"c{k}", f"c{k}"], [f"c{k + 1}"], axis=1) for k in range(60)]
    last = model.graph.node.pop()
    model.graph.node.extend([*nodes, last])
    refused(model, "follows from the file's")


def test_long_chains():
    """A graph of 5,000 layers, and sums of sums of as many."""
    refused(onnx_graphs.chain_of("Tanh", 5_000))
    refused(onnx_graphs.sums(5_000))


@pytest.mark.parametrize("location", ELSEWHERE)
def test_external_data_stays_in_the_folder(location, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(320))
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "fifo")
    refused(external(folder, location), "tensor 'W'")


@pytest.mark.parametrize("fields", WRONG_SIZES)
def test_external_data_of_wrong_size(fields, tmp_path):
    (tmp_path / "data").write_bytes(bytes(320))
    refused(external(tmp_path, "data", **fields), "tensor 'W'")


def test_external_data_is_read_from_the_folder(tmp_path):
    weights = np.arange(80, dtype=np.float32)
    (tmp_path / "data").write_bytes(bytes(8) + weights.tobytes())
    model = lw.from_onnx(external(tmp_path, "data", offset="8", length="320"))
    assert (model.parameters["weight_ih_l0"][:5].reshape(-1) == weights[:20]).all()
    with open(tmp_path / "model.onnx", "rb") as file:
        refused(file.read(), "pass the model's path")


def external(folder, location, **fields):
    """A file whose W is in another file."""
    model = small()
    tensor = next(each for each in model.graph.initializer if each.name == "W")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | fields).items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_folder_and_a_missing_file(tmp_path):
    refused(tmp_path, "no regular file")
    with pytest.raises(FileNotFoundError):
        lw.from_onnx(tmp_path / "none.onnx")
    for wrong in (7, None, [b""]):
        with pytest.raises(TypeError, match="model: expected a path, bytes or onnx.ModelProto"):
            lw.from_onnx(wrong)


def mutated(content, random):
    """A file with a few bytes changed, dropped or doubled."""
    array = bytearray(content)
    for _ in range(random.randint(1, 5)):
        at = random.randint(len(array))
        match random.randint(4):
            case 0:
                array[at] ^= 1 << random.randint(8)
            case 1:
                array[at] = random.randint(256)
            case 2:
                del array[at : at + random.randint(1, 9)]
            case 3:
                array[at:at] = array[at : at + random.randint(1, 30)]
    return bytes(array)


def try_mutations(count, seed):
    """Read mutated files: a model, or a ValueError."""
    random = np.random.RandomState(seed)
    files = [model.SerializeToString() for model in onnx_graphs.all_kinds()]
    read = 0
    for number in range(count):
        content = mutated(files[number % len(files)], random)
        for reader in (lw.from_onnx, lw.onnx_lstms):
            try:
                reader(content)
                read += 1
            except ValueError as error:
                assert type(error) is ValueError  # noqa: PT017
    return read


def test_mutated_files():
    assert 0 < try_mutations(2 * mutations.COUNT, 1) < 4 * mutations.COUNT


def test_memory_of_hostile_files():
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[1:]\n"
        "import test_onnx_hostile as t\n"
        "import latchwork as lw; t.refused(b'')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "t.test_constants_of_10_to_the_12_elements('Expand'); t.test_constants_that_double(); t.test_long_chains()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", code, here, os.path.join(here, "support")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 * 1024  # kilobytes
