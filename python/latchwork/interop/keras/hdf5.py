"""HDF5 files, read by a process of their own: see `hdf5_process`."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from latchwork._foreign import bfloat16_numbers

if TYPE_CHECKING:
    from typing import BinaryIO, Self

    from latchwork._arrays import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Waiting for a process that neither answers nor ends, and for each byte; what it computes is bounded more tightly.
_SECONDS, _SECONDS_PER_BYTE = 20.0, 1e-6


class _Process(Protocol):
    """What this file needs of a `subprocess.Popen`."""

    stdin: Any
    stdout: Any

    def wait(self) -> int: ...

    def kill(self) -> None: ...


def _start(path: str) -> _Process:
    """Start a process that serves a file."""
    from multiprocessing.spawn import get_executable  # the interpreter, also where another program runs Python

    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "HDF5_PLUGIN_PRELOAD": "::",  # no plugins
    }
    # -P: what lies in the current folder is not imported.
    return subprocess.Popen(
        [get_executable(), "-P", "-m", "latchwork.interop.keras.hdf5_process", path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


class File:
    """An open HDF5 file.

    Parameters
    ----------
    path : str
        The file.
    source : str
        What messages call it.

    Attributes
    ----------
    datasets : dict
        Shape and dtype of each data set of numbers, by its path.
    attributes : dict
        The attributes of each group, by its path, "" for the file: text and lists of text.

    Raises
    ------
    ValueError
        If libhdf5 cannot read it, ends unexpectedly, or takes too much time or memory.
    ImportError
        If h5py is not installed.
    """

    def __init__(self, path: str, source: str) -> None:
        if importlib.util.find_spec("h5py") is None:
            raise ImportError(f"{source}: HDF5 files need h5py: pip install 'latchwork[keras]'")
        self._source = source
        self._process = _start(path)
        try:
            listing = self._reply()
            self.datasets: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
                name: (tuple(shape), np.dtype(kind)) for name, (shape, kind) in listing["datasets"].items()
            }
            self.attributes: dict[str, dict[str, Any]] = listing["attributes"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Give the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def names(self, group: str, attribute: str) -> list[str] | None:
        """Give a list of names that Keras wrote into one attribute or, if it is long, into several. None: nowhere."""
        attributes = self.attributes.get(group, {})
        parts = [attributes[attribute]] if attribute in attributes else []
        while not parts or f"{attribute}{len(parts)}" in attributes:
            if f"{attribute}{len(parts)}" not in attributes:
                return None
            parts.append(attributes[f"{attribute}{len(parts)}"])
        names = [name for part in parts for name in (part if isinstance(part, list) else [part])]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{self._source}: {attribute} of {group!r}: expected names, got something else")
        return names

    def read(self, path: str) -> Array:
        """Read a data set: float64 as it is, other numbers as float32.

        Raises
        ------
        ValueError
            If there is none, or it cannot be read.
        """
        if path not in self.datasets:
            raise ValueError(f"{self._source}: expected weights {path!r}, got none")
        shape, dtype = self.datasets[path]
        bfloat16 = dtype.str == "|V2"
        if dtype.kind != "f" and not bfloat16:
            raise ValueError(f"{self._source}: {path!r}: expected real numbers, got {dtype}")
        try:
            self._process.stdin.write(json.dumps(path).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        self._reply(math.prod(shape) * dtype.itemsize)
        content: Any = self._received(self._process.stdout, math.prod(shape) * dtype.itemsize)
        flat = bfloat16_numbers(np.frombuffer(content, "<u2")) if bfloat16 else np.frombuffer(content, dtype)
        numbers = flat.reshape(shape)
        return numbers.astype(np.float64 if dtype.itemsize == 8 else np.float32, copy=False)

    def _reply(self, length: int = 0) -> dict[str, Any]:
        timer = threading.Timer(_SECONDS + length * _SECONDS_PER_BYTE, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ValueError(f"{self._source}: expected an HDF5 file as Keras writes it: {reply['error']:.300}")
        return reply

    def _received(self, pipe: BinaryIO, length: int) -> bytes:
        content = pipe.read(length)
        if len(content) < length:
            raise self._ended()
        return content

    def _ended(self) -> ValueError:
        """Say that the process ended unexpectedly."""
        self._process.kill()
        status = self._process.wait()
        return ValueError(
            f"{self._source}: expected an HDF5 file as Keras writes it: libhdf5 crashed on it, or needed too much time "
            f"or memory (status {status})"
        )
