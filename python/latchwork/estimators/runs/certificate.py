"""Certificates: a chain of hashes over a run, from which anybody with the data can repeat any part of it."""

import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latchwork._writing import path_text, write_atomically
from latchwork.estimators.runs.checkpoints import Snapshot, feed_tensors, with_prefix, write_snapshot

if TYPE_CHECKING:
    from latchwork.estimators.runs.runs import Batch

FORMAT_VERSION = 1

NO_ORDER = hashlib.sha256().digest()  # the hash of no steps

_FILE = re.compile(r"epoch-\d{6}\.safetensors")


class Recorder:
    """Writes the certificate of a run while it goes on.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        The file, JSON. The states after each epoch are beside it, in a folder of the same name that ends in
        ``.checkpoints`` instead of ``.json``.
    basis : mapping
        What the run depends on: its options, seed, data and machine.
    given_start : bool
        Whether training goes on from weights that do not follow from the seed.
    records_rates : bool
        Whether the learning rate depends on more than the epoch and the step, so that each must be kept.
    """

    def __init__(self, path: Any, basis: Mapping[str, Any], *, given_start: bool, records_rates: bool) -> None:
        self._path = path_text(path)
        self._folder = folder_of(self._path)
        self._records_rates = records_rates
        self._order = NO_ORDER
        self._rates: list[float] = []
        self._content: dict[str, Any] = {
            "kind": "certificate",
            "format_version": FORMAT_VERSION,
            "basis": basis,
            "given_start": given_start,
            "segments": [],
            "end": None,
        }

    def begin(self, start: Snapshot) -> None:
        """Write the state before the first step. OSError if the files cannot be written."""
        os.makedirs(self._folder, exist_ok=True)
        for name in os.listdir(self._folder):  # those of a run that this one replaces
            if _FILE.fullmatch(name):
                os.unlink(os.path.join(self._folder, name))
        self._content["start"] = state_digest(start)
        self._content["link"] = first_link(self._content)
        write_snapshot(segment_file(self._path, 0), start)
        self._write()

    def step(self, batch: "Batch", rate: float) -> None:
        """Take note of a step: what it read, and its learning rate."""
        self._order = next_order(self._order, batch, rate)
        if self._records_rates:
            self._rates.append(rate)

    def end_segment(self, state: Snapshot, epoch: int, steps: int) -> None:
        """Write the state after an epoch, counted from 1, or after the part of it that was done."""
        segments = self._content["segments"]
        segment = {"epoch": epoch, "steps": steps, "order": self._order.hex(), "state": state_digest(state)}
        segment["link"] = next_link(segments[-1]["link"] if segments else self._content["link"], segment)
        tensors = {**state.tensors, "rates": np.array(self._rates)} if self._records_rates else state.tensors
        write_snapshot(segment_file(self._path, len(segments) + 1), Snapshot(state.info, tensors))
        segments.append(segment)
        self._order = NO_ORDER
        self._rates = []
        self._write()

    def end(self, weights: Mapping[str, NDArray[Any]], best_epoch: int | None, ended_by: str) -> None:
        """Write which weights were kept, those after the best epoch or the last ones, and why training ended."""
        segments = self._content["segments"]
        self._content["end"] = {
            "weights": weights_digest(weights),
            "kept_segment": len(segments) if best_epoch is None else best_epoch,
            "ended_by": ended_by,
        }
        last = segments[-1]["link"] if segments else self._content["link"]
        self._content["end"]["link"] = next_link(last, self._content["end"])
        self._write()

    def state_dict(self, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Give what a checkpoint of the run must hold; learning rates go into the tensors."""
        tensors["certificate.rates"] = np.array(self._rates, np.float64)
        names = ("start", "link", "segments")
        return {"order": self._order.hex(), **{name: self._content[name] for name in names}}

    def load_state_dict(self, state_dict: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a checkpoint."""
        self._content |= {name: state_dict[name] for name in ("start", "link", "segments")}
        self._order = bytes.fromhex(state_dict["order"])
        self._rates = tensors["certificate.rates"].tolist()
        self._write()

    def _write(self) -> None:
        write_atomically(self._path, (json.dumps(self._content, indent=1) + "\n").encode())


def folder_of(path: str) -> str:
    """Give the folder beside a certificate that holds its states."""
    return f"{path.removesuffix('.json')}.checkpoints"


def segment_file(path: str, number: int) -> str:
    """Give the file of the state after so many segments."""
    return os.path.join(folder_of(path), f"epoch-{number:06}.safetensors")


def state_digest(state: Snapshot) -> str:
    """Give the SHA-256 sum of a trainer's state: weights, moments, seed of the masks, and steps."""
    info = state.info
    steps = {"seed": info["seed"], "steps": info["steps"], "optimizers": [each["steps"] for each in info["optimizers"]]}
    digest = hashlib.sha256(canonical(steps))
    feed_tensors(digest.update, {name: value for name, value in state.tensors.items() if name != "rates"})
    return digest.hexdigest()


def weights_digest(weights: Mapping[str, NDArray[Any]]) -> str:
    """Give the SHA-256 sum of a network's weights."""
    digest = hashlib.sha256()
    feed_tensors(digest.update, weights)
    return digest.hexdigest()


def kept_weights(state: Snapshot) -> dict[str, NDArray[Any]]:
    """Give the network's weights of a state."""
    return with_prefix("network.", state.tensors)


def next_order(order: bytes, batch: "Batch", rate: float) -> bytes:
    """Give the hash of an epoch's steps until now, this one included."""
    digest = hashlib.sha256(order)
    digest.update(struct.pack("<d?q", rate, batch.continues, batch.count))
    for numbers in (batch.samples, batch.lengths, batch.reset):
        if numbers is not None:
            digest.update(np.ascontiguousarray(numbers, np.int64).data)
    return digest.digest()


def first_link(content: Mapping[str, Any]) -> str:
    """Give the first hash of the chain: over what the run depends on, and the state before the first step."""
    return hashlib.sha256(canonical([content["basis"], content["given_start"], content["start"]])).hexdigest()


def next_link(before: str, entry: Mapping[str, Any]) -> str:
    """Give the hash over the one before and an entry."""
    named = {name: value for name, value in entry.items() if name != "link"}
    return hashlib.sha256(bytes.fromhex(before) + canonical(named)).hexdigest()


def canonical(value: Any) -> bytes:
    """Write JSON in the one way that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
