"""Checkpoints of a run: files that hold all that its next steps depend on."""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latchwork import files
from latchwork._arrays import integer, real_number
from latchwork._random import seed_of
from latchwork._writing import path_text, write_atomically
from latchwork.training import Trainer

KEPT = 3  # files that stay in a folder

FORMAT_VERSION = 1

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
_TEMPORARY = re.compile(r"\.latchwork-[0-9a-f]{16}\.tmp")


class Snapshot(NamedTuple):
    """What a checkpoint holds."""

    info: dict[str, Any]  # JSON can hold it
    tensors: dict[str, NDArray[Any]]


class Checkpoints:
    """The checkpoints of one run, in a folder that holds nothing else.

    Parameters
    ----------
    folder : str, bytes or os.PathLike
        It is made if it is not there.
    every : int or float
        An int: after so many epochs, at least 1; a float: after so many seconds, above 0, at the end of a batch.
    """

    def __init__(self, folder: Any, every: int | float) -> None:
        self.folder = path_text(folder)
        self._epochs = self._seconds = None
        if isinstance(every, (float, np.floating)):
            self._seconds = real_number("checkpoint_every", every)
            if self._seconds == 0.0:
                raise ValueError("checkpoint_every: expected an int of epochs or a float of seconds above 0, got 0.0")
        else:
            self._epochs = integer("checkpoint_every", every, 1)
        self._written_at = time.perf_counter()
        self._written_epoch = 0

    def open(self) -> None:
        """Make the folder, see whether it can be written to, and remove files that were never finished. OSError."""
        os.makedirs(self.folder, exist_ok=True)
        for name in os.listdir(self.folder):
            if _TEMPORARY.fullmatch(name):
                os.unlink(os.path.join(self.folder, name))
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "cannot write checkpoints there", self.folder)

    def newest_first(self) -> Iterator[Snapshot]:
        """Yield what the files hold, the newest first; an unreadable one is left out, with a warning."""
        for number in reversed(_numbers(self.folder)):
            path = _path(self.folder, number)
            try:
                yield read_snapshot(path)
            except (OSError, ValueError) as error:
                warnings.warn(f"{path}: {error}; it is passed over", stacklevel=2)

    def check_replaceable(self) -> None:
        """Raise ValueError if the folder holds a run that was stopped before its end, which could still go on."""
        for snapshot in self.newest_first():
            if snapshot.info["ended_by"] in (None, "interrupt"):
                raise ValueError(
                    f"checkpoint_dir: expected a folder without a run that was stopped, got {self.folder!r}, where one "
                    f"was in epoch {snapshot.info['place']['epoch'] + 1}: fit(..., resume=True) goes on with it, and "
                    "to begin anew remove its files"
                )
            return

    def is_due(self, epoch: int, *, epoch_ended: bool) -> bool:
        """Say whether the next checkpoint is to be written now, ``epoch`` epochs being over."""
        if self._seconds is not None:
            return time.perf_counter() - self._written_at >= self._seconds
        return epoch_ended and epoch - self._written_epoch >= self._epochs  # type: ignore[operator]

    def write_first(self, snapshot: Snapshot) -> None:
        """Write the checkpoint before the first step. OSError if the folder has too little room for those to come."""
        size = self.write(snapshot, 0)
        needed = (KEPT + 1) * size  # the best weights are still to come, and one more file while the oldest stays
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"expected {needed:,} free bytes for checkpoints, got {free:,}", self.folder)

    def write(self, snapshot: Snapshot, epoch: int) -> int:
        """Write the next file, and then remove the oldest; give its size. If that fails, those before are intact."""
        numbers = _numbers(self.folder)
        path = _path(self.folder, numbers[-1] + 1 if numbers else 1)
        try:
            size = write_snapshot(path, snapshot)
        except OSError as error:
            reason = f"cannot write a checkpoint ({error.strerror}); those written before are intact"
            raise OSError(error.errno, reason, path) from error
        for number in numbers[: -KEPT + 1]:
            os.unlink(_path(self.folder, number))
        self._written_at = time.perf_counter()
        self._written_epoch = epoch
        return size


def run_seed(random_state: Any, checkpoint_dir: Any = None, resume: bool = False) -> int:
    """Give the seed of a run: that of the run to be resumed, if there is one and random_state is no int.

    It must be known before the network is made.
    """
    if resume and checkpoint_dir is not None and not isinstance(random_state, (int, np.integer)):
        folder = path_text(checkpoint_dir)
        if os.path.isdir(folder):
            for snapshot in Checkpoints(folder, 1).newest_first():
                return int(snapshot.info["seed"])
    return seed_of(random_state)


def write_snapshot(path: str, snapshot: Snapshot) -> int:
    """Write a file, whole or not at all, and give its size."""
    info = json.dumps(snapshot.info, sort_keys=True)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "kind": "checkpoint",
        "info": info,
        "sha256": _digest(info, snapshot.tensors),
    }
    content = files.to_bytes(snapshot.tensors, metadata)
    write_atomically(path, content)
    return len(content)


def read_snapshot(path: str) -> Snapshot:
    """Read a file. OSError, or ValueError if it is damaged or no checkpoint."""
    metadata, tensors = files.read_tensors(path)
    if metadata.get("kind") != "checkpoint":
        raise ValueError("expected a checkpoint of a run, got another safetensors file")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise ValueError(f"expected format_version {FORMAT_VERSION}, got {metadata.get('format_version')}")
    if metadata.get("sha256") != _digest(metadata.get("info", ""), tensors):
        raise ValueError("expected a checkpoint as it was written, got one that was damaged since")
    return Snapshot(json.loads(metadata["info"]), tensors)


def trainer_snapshot(trainer: Trainer[Any]) -> Snapshot:
    """Copy all that the next steps of a trainer depend on."""
    state = trainer.state_dict()
    tensors = {f"network.{name}": value for name, value in state.pop("network").items()}
    optimizers = state.pop("optimizers")
    for place, optimizer in enumerate(optimizers):
        buffers = optimizer.pop("buffers")
        optimizer["buffers"] = len(buffers)
        tensors |= {f"optimizer.{place}.{number}": buffer for number, buffer in enumerate(buffers)}
    return Snapshot({**state, "optimizers": optimizers}, tensors)


def restore_trainer(trainer: Trainer[Any], snapshot: Snapshot) -> None:
    """Let a trainer go on where the one was that gave the snapshot. ValueError if it is another."""
    info, tensors = snapshot
    names = ("seed", "steps", "gradient_blocks")
    optimizers = [
        {**each, "buffers": [tensors[f"optimizer.{place}.{number}"] for number in range(each["buffers"])]}
        for place, each in enumerate(info["optimizers"])
    ]
    state = {name: info[name] for name in names}
    trainer.load_state_dict({**state, "optimizers": optimizers, "network": with_prefix("network.", tensors)})


def with_prefix(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Give the tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def packed(value: Any, name: str, tensors: dict[str, NDArray[Any]]) -> Any:
    """Put the arrays of a state, which may be nested, into tensors; give its structure, as JSON can hold it."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
        return name
    return [packed(each, f"{name}.{place}", tensors) for place, each in enumerate(value)]


def unpacked(structure: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """Reverse `packed`; all that was nested becomes tuples."""
    if structure is None:
        return None
    if isinstance(structure, str):
        return tensors[structure]
    return tuple(unpacked(each, tensors) for each in structure)


def _numbers(folder: str) -> list[int]:
    """Give the numbers of the files, ascending."""
    matches = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in matches if match)


def _path(folder: str, number: int) -> str:
    return os.path.join(folder, f"checkpoint-{number:08}.safetensors")


def _digest(info: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(info.encode())
    feed_tensors(digest.update, tensors)
    return digest.hexdigest()


def feed_tensors(update: Any, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Pass names, dtypes, shapes and values to a hash, in the order of the names."""
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        update(array)
