"""Keras's own files, ``.keras``: a zip archive of a configuration, what wrote it, and an HDF5 file."""

from __future__ import annotations

import contextlib
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from latchwork.interop.keras.configs import LARGEST_CONFIG, mapping, parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LARGEST_DIRECTORY = 1 << 20  # bytes; Keras writes three entries, and a folder for each layer with files of its own
_LARGEST_RATIO = 32
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What the standard library raises for damaged archives.
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError, IndexError, ValueError,
    NotImplementedError, RuntimeError, OSError, OverflowError, MemoryError,
)  # fmt: skip


class Archive:
    """An open archive.

    Attributes
    ----------
    config : dict
        The configuration of the model.
    version : str
        Of the Keras that wrote it; empty if the file does not say.

    Raises
    ------
    ValueError
        If it is damaged, larger than it pretends to be, or holds no model.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._source = source
        self._size = os.fstat(file.fileno()).st_size
        _check_directory(file, self._size, source)
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGES as error:
            raise self._damaged(error) from None
        names = self._zip.namelist()
        if CONFIG not in names:
            raise ValueError(f"{source}: expected a Keras file, which holds {CONFIG}, got a zip archive without")
        if WEIGHTS not in names:
            raise ValueError(f"{source}: expected weights in {WEIGHTS}, got {', '.join(names[:8])}")
        self.config: Any = parsed_json(self._content(CONFIG, LARGEST_CONFIG), f"{source}: {CONFIG}")
        metadata = parsed_json(self._content(METADATA, 1 << 16), METADATA) if METADATA in names else {}
        self.version = str(mapping(f"{source}: {METADATA}", metadata).get("keras_version", ""))

    @contextlib.contextmanager
    def weights(self) -> Iterator[str]:
        """Unpack the HDF5 file for a while, and give its path."""
        with tempfile.NamedTemporaryFile(suffix=".weights.h5") as target:
            self._copy(WEIGHTS, self._size * _LARGEST_RATIO, target)
            target.flush()
            yield target.name

    def _content(self, name: str, largest: int) -> bytes:
        chunks: list[bytes] = []
        self._unpack(name, largest, chunks.append)
        return b"".join(chunks)

    def _copy(self, name: str, largest: int, target: Any) -> None:
        self._unpack(name, largest, target.write)

    def _unpack(self, name: str, largest: int, write: Any) -> None:
        """Unpack an entry piece by piece, and stop where it becomes too large."""
        length = 0
        try:
            entry = self._zip.getinfo(name)
            if entry.compress_type not in _PLAIN:
                raise zipfile.BadZipFile("a compression that Keras does not use")
            with self._zip.open(entry) as packed:
                while chunk := packed.read(1 << 16):
                    length += len(chunk)
                    if length > largest:
                        break
                    write(chunk)
        except _DAMAGES as error:
            raise self._damaged(error) from None
        if length > largest:
            raise ValueError(f"{self._source}: {name}: expected at most {largest} bytes, got more")

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(f"{self._source}: expected a zip archive, got a damaged one: {error}")


def _check_directory(file: BinaryIO, size: int, source: str) -> None:
    """Refuse an archive whose list of entries alone would take a lot of memory."""
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    file.seek(0)
    place = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[place + 12 : place + 16], "little") if place >= 0 else 0
    if 0 <= tail.rfind(b"PK\x06\x06") < place:  # the same for large archives
        large = tail.rfind(b"PK\x06\x06")
        length = max(length % 0xFFFFFFFF, int.from_bytes(tail[large + 40 : large + 48], "little"))
    if length > _LARGEST_DIRECTORY:
        raise ValueError(f"{source}: expected at most {_LARGEST_DIRECTORY} bytes of names of entries, got {length}")
