"""A file that is no model: the message says what it is."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import latchwork as lw
import numpy as np
import pytest
from latchwork import _file_kinds
from latchwork.cli import main
from safetensors.numpy import save, save_file


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return content.getvalue()


def tarred():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("name"))
    return content.getvalue()


def npz():
    content = io.BytesIO()
    np.savez(content, a=np.zeros(3), b=np.zeros(2))
    return content.getvalue()


def npy():
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


OTHER = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int64)}, {"format": "pt"})
HEADER = 8 + struct.unpack("<Q", OTHER[:8])[0]

CONTENTS = {
    "empty": (b"", "an empty file"),
    "text": ("Once upon a time, na\u00efve\r\n\tand so on\n".encode() * 3000, "a text file"),
    "text with a mark": ("\ufeffOnce".encode(), "a text file"),
    "text with a brace": (b"abcdefgh{}", "a text file"),
    "JSON": (json.dumps({"layers": []}).encode(), "a JSON file"),
    "JSON list": (b"\n [1, 2]", "a JSON file"),
    "safetensors": (OTHER, "a safetensors file from elsewhere: 2 tensors, 10 numbers, dtypes F32, I64"),
    "no tensors": (save({}), "a safetensors file from elsewhere: 0 tensors, 0 numbers, dtypes none"),
    "truncated header": (OTHER[:50], "safetensors file of 50 bytes, whose header alone should take"),
    "truncated": (OTHER[:-1], f"a truncated safetensors file: {len(OTHER) - 1:,} of {len(OTHER):,} bytes"),
    "too long": (OTHER + b"\0\0", "a damaged safetensors file: 2 bytes too many"),
    "damaged header": (OTHER[:9] + b"}" + OTHER[10:], "a damaged safetensors file"),
    "damaged dtype": (OTHER.replace(b'"F32"', b'"X32"'), "a damaged safetensors file: "),
    "PyTorch": (zipped("archive/data.pkl", "archive/data/0"), "a PyTorch file; "),
    "TorchScript": (zipped("m/data.pkl", "m/constants.pkl"), "a TorchScript file"),
    "old PyTorch": (pickle.dumps(0x1950A86A20F9469CFC6C, 2), "a PyTorch file in the format before version 1.6"),
    "Keras": (zipped("metadata.json", "config.json", "model.weights.h5"), r"a Keras model \(.keras\)"),
    "npz": (npz(), r"NumPy arrays \(.npz\)"),
    "npy": (npy(), r"a NumPy array \(.npy\)"),
    "zip": (zipped("a", "b"), "a zip archive of 2 files"),
    "truncated zip": (zipped("a", "b")[:60], "a truncated or damaged zip archive"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle, which Latchwork never reads because loading one runs code"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "an HDF5 file"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(range(200)), "what looks like an ONNX model"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + b"\0" * 100, "a TensorFlow Lite model"),
    "gzip": (gzip.compress(b"text"), "a file that gzip compressed"),
    "tar": (tarred(), "a tar archive"),
    "unknown": (b"\x00\x01\xfe\xff" * 10, "begins with the bytes 00 01 fe ff 00 01 fe ff$"),
}  # fmt: skip


@pytest.fixture(params=CONTENTS)
def case(request, tmp_path):
    content, expected = CONTENTS[request.param]
    path = tmp_path / "file"
    path.write_bytes(content)
    return path, expected


def test_load_says_what_it_is(case):
    path, expected = case
    with pytest.raises(ValueError, match=f"^{path}: expected a model that Latchwork wrote, got .*{expected}"):
        lw.load(path)


@pytest.mark.parametrize("command", ["info", "generate"])
def test_the_commands_say_it_in_one_line(case, command, capsys):
    path, _ = case
    kind, found = _file_kinds.kind_and_description(str(path), reason(path))
    if command == "info" and kind in ("safetensors", "torch", "torch_legacy", "keras", "hdf5", "onnx", "json"):
        pytest.skip("test_cli_convert.py shows what is said of models from elsewhere")
    assert main([command, str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"latchwork: {path}: expected a model that Latchwork wrote, got {found}\n"


def reason(path):
    """Why safetensors does not take a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            return ""
    except SafetensorError as error:
        return str(error)


def test_a_model_of_ours_that_is_cut_off(tmp_path):
    path = tmp_path / "model.safetensors"
    lw.LSTM(3, 5).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=f"got a truncated safetensors file: .* of {len(content):,} bytes"):
        lw.load(path)


def test_metadata_of_ours_alone_do_not_make_a_model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight_ih_l0": np.zeros((4, 3), np.float32)}, path, {"kind": "lstm"})
    with pytest.raises(ValueError, match="got a safetensors file from elsewhere: 1 tensors, 12 numbers, dtypes F32"):
        lw.load(path)


def test_any_bytes_are_described(tmp_path):
    path, random = tmp_path / "file", np.random.RandomState(1)
    beginnings = [
        b"",
        b"PK\x03\x04",
        b"\x80",
        b"\x08",
        struct.pack("<Q", 40) + b"{",
        b"\x28\xb5",
        b"\x80\x05",
        b"\x08\x08",
    ]
    for beginning in beginnings:
        for length in (0, 1, 2, 7, 100):
            path.write_bytes(beginning + random.bytes(length))
            assert _file_kinds.description(str(path)).startswith(("a ", "an ", "what "))
    assert _file_kinds.description(str(tmp_path / "none")).startswith("a file that cannot be read: ")


HOSTILE_HEADERS = [
    b"[]", b"3", b'{"a": 3}', b'{"a": {}}', b'{"a": {"shape": 3, "data_offsets": [0, 0]}}', b"{" * 5000,
    b'{"a": {"shape": [1e400], "data_offsets": [0, "x"]}}', b'{"a": {"shape": [2], "data_offsets": []}}', b"{\xff}",
    b'{"a": {"shape": [NaN], "data_offsets": [0, 0]}}',
    b'{"a": {"shape": [' + b"9" * 4000 + b"," + b"9" * 4000 + b'], "data_offsets": [0, 0]}}',
]  # fmt: skip


@pytest.mark.parametrize("header", HOSTILE_HEADERS, ids=range(len(HOSTILE_HEADERS)))
def test_hostile_headers_are_described(tmp_path, header):
    path = tmp_path / "file"
    if not header.startswith(b"{"):
        header = b"{" + header
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "safetensors file" in _file_kinds.description(str(path))
    with pytest.raises(ValueError, match="safetensors file"):
        lw.load(path)
