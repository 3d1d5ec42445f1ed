"""Reads an HDF5 file in a process of its own, because libhdf5 may crash, or take all memory, on a damaged file.

It writes a listing as one line of JSON, and then, for each path that it reads on standard input, the numbers. Whatever
Keras never writes is left out or refused: links to other places and files, virtual data sets, filters from plugins.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any, BinaryIO

# Compressed numbers may be this many times as many bytes as the file: Keras compresses nothing, others do a little.
LARGEST_RATIO = 32
MOST_OBJECTS = 100_000
MOST_TEXT = 16 << 20  # bytes of attributes
DEEPEST = 64
ROOM = 64 << 20  # bytes of memory beside those of the numbers
# Of whatever else stands in attributes nothing is read.
_ATTRIBUTES = ("keras_version", "model_config", "layer_names", "weight_names", "name", "dtype")
_OPTIMIZERS = ("optimizer", "optimizer_weights")
_FILTERS = ("gzip", "lzf", None)


class _Listing:
    """All groups, data sets and attributes of a file."""

    def __init__(self, file: Any, size: int) -> None:
        import h5py  # type: ignore[import-not-found,unused-ignore]

        self._h5py = h5py
        self._size = size
        self._seen: set[Any] = set()
        self._left = MOST_TEXT
        self.datasets: dict[str, tuple[list[int], str]] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        self._group(file, "", 0)

    def _group(self, group: Any, path: str, depth: int) -> None:
        address = self._h5py.h5o.get_info(group.id).addr
        if depth > DEEPEST or address in self._seen:
            raise ValueError(f"group {path!r}: expected a tree of at most {DEEPEST} levels, got more or a circle")
        self._seen.add(address)
        self._read_attributes(group, path)
        for name in group:
            below = f"{path}/{name}" if path else name
            if below in _OPTIMIZERS:
                continue
            if len(self.attributes) + len(self.datasets) >= MOST_OBJECTS:
                raise ValueError(f"expected at most {MOST_OBJECTS} groups and data sets, got more")
            if type(group.get(name, getlink=True)) is not self._h5py.HardLink:
                raise ValueError(f"{below!r}: expected a group or a data set, got a link to another place")
            item = group[name]
            if isinstance(item, self._h5py.Group):
                self._group(item, below, depth + 1)
            elif isinstance(item, self._h5py.Dataset):
                self._dataset(item, below)

    def _dataset(self, dataset: Any, path: str) -> None:
        bfloat16 = dataset.dtype.str == "|V2"  # as which Keras writes it
        if dataset.shape is None or (dataset.dtype.kind not in "fiub" and not bfloat16):
            return
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"data set {path!r}: expected numbers in the file itself, got some elsewhere")
        if dataset.compression not in _FILTERS or dataset.scaleoffset is not None:
            raise ValueError(f"data set {path!r}: expected no compression but gzip and lzf, got another one")
        self._read_attributes(dataset, path)
        ratio = 1 if dataset.chunks is None else LARGEST_RATIO
        for shape in (dataset.shape, dataset.chunks or ()):
            length = math.prod(shape) * dataset.dtype.itemsize
            if length > ratio * self._size:
                raise ValueError(f"data set {path!r}: expected at most {ratio * self._size} bytes, got {length}")
        self.datasets[path] = (list(dataset.shape), dataset.dtype.newbyteorder("<").str)

    def _read_attributes(self, item: Any, path: str) -> None:
        found = self.attributes[path] = {}
        for name in item.attrs:
            if name.rstrip("0123456789") not in _ATTRIBUTES:
                continue
            identity = item.attrs.get_id(name)
            self._left -= math.prod(identity.shape or ()) * max(identity.dtype.itemsize, 1)
            if self._left < 0:
                raise ValueError(f"expected at most {MOST_TEXT} bytes of attributes, got more")
            found[name] = self._text(item.attrs[name])

    def _text(self, value: Any) -> Any:
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, list):
            return [self._text(each) for each in value]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str):
            return None
        self._left -= len(value)
        if self._left < 0:
            raise ValueError(f"expected at most {MOST_TEXT} bytes of attributes, got more")
        return value


def serve(path: str, requests: BinaryIO, replies: BinaryIO) -> None:
    """List a file, then give the numbers of those data sets that are asked for, until nobody asks any more.

    Parameters
    ----------
    path : str
        The file.
    requests : file
        A JSON string in each line: the path of a data set.
    replies : file
        The listing, or ``{"error": message}``, as one line of JSON; then for each request the numbers, as many bytes as
        its shape says, after a line that is ``ok`` or an error.
    """
    try:
        import h5py

        size = os.path.getsize(path)
        _limit_time(size)
        _limit_memory(0)
        with h5py.File(path, "r", locking=False) as file:
            listing = _Listing(file, size)
            _reply(replies, {"datasets": listing.datasets, "attributes": listing.attributes})
            left = max(LARGEST_RATIO * size, ROOM)
            for line in requests:
                dataset = file[json.loads(line)]
                length = dataset.size * dataset.dtype.itemsize
                left -= length
                if left < 0:
                    raise ValueError(f"expected at most {LARGEST_RATIO} times the file's size of numbers, got more")
                _limit_memory(2 * length)
                numbers = dataset[()].astype(dataset.dtype.newbyteorder("<"), copy=False)
                _reply(replies, {})
                replies.write(numbers.reshape(-1).view("u1").data)
                replies.flush()
                del numbers
    except BrokenPipeError:
        return
    except Exception as error:  # of any kind: it is the file's fault, and the other process is to say so
        _reply(replies, {"error": f"{error or type(error).__name__}"})


def _reply(replies: BinaryIO, content: dict[str, Any]) -> None:
    replies.write(json.dumps(content).encode() + b"\n")
    replies.flush()


def _limit_time(size: int) -> None:
    """Bound the time of this process from here on; ending it is how the system says that it was too much."""
    if sys.platform == "win32":
        return
    import resource

    spent = math.ceil(sum(os.times()[:2]))
    seconds = spent + 2 + size // (4 << 20)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_memory(length: int) -> None:
    """Bound the memory that this process may take from here on: some bytes beside those of libhdf5."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as statistics:
        used = int(statistics.read().split()[0]) * resource.getpagesize()
    _, largest = resource.getrlimit(resource.RLIMIT_AS)
    memory = used + ROOM + length
    resource.setrlimit(resource.RLIMIT_AS, (memory if largest < 0 else min(memory, largest), largest))


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
