"""What a file is that is no model of Latchwork's, as far as its content tells."""

from __future__ import annotations

import codecs
import json
import math
import os
from typing import Any

_HEAD = 65536  # bytes that are looked at

# What a file begins with, and what it is then: the word for programs, and that for people.
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", "hdf5", "an HDF5 file, as Keras writes"),
    (b"\x93NUMPY", "", "a NumPy array (.npy)"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "torch_legacy", "a PyTorch file in the format before version 1.6"),
    (b"GGUF", "", "a GGUF file"),
    (b"\x1f\x8b", "", "a file that gzip compressed"),
    (b"BZh", "", "a file that bzip2 compressed"),
    (b"\xfd7zXZ\x00", "", "a file that xz compressed"),
    (b"\x28\xb5\x2f\xfd", "", "a file that zstd compressed"),
)

# The second field of an ONNX model, which follows its format version; by the protobuf rules for ONNX's ModelProto.
_ONNX_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def description(path: str, refused: str = "") -> str:
    """Say what a file is, as the end of the sentence "expected a model, got ...".

    ``refused`` is why safetensors did not take it, if it did not.
    """
    return kind_and_description(path, refused)[1]


def kind_and_description(path: str, refused: str = "") -> tuple[str, str]:
    """Say what a file is, as far as its content tells, in a word and as `description` does.

    The word is "safetensors", "torch", "torch_legacy", "torchscript", "pt2", "keras", "hdf5", "onnx", "json" or, of all
    other files, "".
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return "", f"a file that cannot be read: {error.strerror or error}"
    if not head:
        return "", "an empty file"
    for beginning, kind, words in _BEGINNINGS:
        if head.startswith(beginning):
            return kind, words
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip_kind(path)
    if head[5:9] == b"\0\0\0{":
        return "safetensors", _safetensors_description(path, size, refused)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "", "a pickle, which Latchwork never reads because loading one runs code"
    if head[:1] == b"\x08" and head[2:3] and head[2] in _ONNX_FIELDS:
        return "onnx", "what looks like an ONNX model"
    if head[4:8] == b"TFL3":
        return "", "a TensorFlow Lite model"
    if head[257:262] == b"ustar":
        return "", "a tar archive"
    if _is_text(head):
        is_json = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")
        return ("json", "a JSON file") if is_json else ("", "a text file")
    return "", f"a file of a format unknown here, which begins with the bytes {head[:8].hex(' ')}"


def _zip_kind(path: str) -> tuple[str, str]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "", "a truncated or damaged zip archive"
    if any(name.endswith("constants.pkl") for name in names):
        return "torchscript", "a TorchScript file"
    if any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in names):
        return "pt2", "an exported program of PyTorch's (.pt2)"
    if any(name.endswith("data.pkl") for name in names):
        return "torch", "a PyTorch file; lw.from_torch(...) reads it"
    if "model.weights.h5" in names:
        return "keras", "a Keras model (.keras)"
    if names and all(name.endswith(".npy") for name in names):
        return "", "NumPy arrays (.npz)"
    return "", f"a zip archive of {len(names):,} files"


def _safetensors_description(path: str, size: int, refused: str) -> str:
    """Describe a file that begins as safetensors files do: the length of a header, and the header, which is JSON."""
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if header_size > size - 8:
            whole = f" of {size:,} bytes, whose header alone should take {header_size:,}"
            return f"a truncated or damaged safetensors file{whole}"
        text = file.read(header_size)
    try:
        header: dict[str, Any] = json.loads(text)
        header.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in header.values()]
        numbers = sum(math.prod(entry["shape"]) for entry in header.values())
        expected = 8 + header_size + max(ends, default=0)
        if expected > size:
            return f"a truncated safetensors file: {size:,} of {expected:,} bytes"
        if expected < size:
            return f"a damaged safetensors file: {size - expected:,} bytes too many"
        if refused:
            return f"a damaged safetensors file: {refused}"
        dtypes = ", ".join(sorted({str(entry.get("dtype")) for entry in header.values()})) or "none"
        return f"a safetensors file from elsewhere: {len(header):,} tensors, {numbers:,} numbers, dtypes {dtypes}"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "a damaged safetensors file"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
