"""Models in files: safetensors with torch's names, and metadata that say what they are."""

from __future__ import annotations

import importlib
import json
import os
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from latchwork._arrays import Array

FORMAT_VERSION = 1

# Where the class of each kind lives.
_KINDS = {
    "embedding": ("latchwork.layers", "Embedding"),
    "ensemble_lstm": ("latchwork.ensemble", "EnsembleLSTM"),
    "language_model": ("latchwork.estimators.language_model", "LSTMLanguageModel"),
    "last": ("latchwork.layers", "Last"),
    "linear": ("latchwork.layers", "Linear"),
    "lstm": ("latchwork.lstm", "LSTM"),
    "lstm_cell": ("latchwork.lstm_cell", "LSTMCell"),
    "network": ("latchwork.network", "Network"),
}


class Savable(Protocol):
    """What a class in the table of kinds has to offer."""

    def _to_file(self) -> tuple[str, dict[str, Any], Mapping[str, Array]]:
        """Give the kind, a configuration that JSON can hold, and the tensors by name."""

    @classmethod
    def _from_file(cls, config: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """Reverse `_to_file`. ValueError, TypeError or KeyError where the file, which may be hostile, does not fit."""


def save(model: Savable, path: str | os.PathLike[str]) -> None:
    """Write a model to a file, whole or not at all: what was there before stays until the new one is on the disk."""
    from safetensors.numpy import save as to_bytes

    kind, config, tensors = model._to_file()
    metadata = {"format_version": str(FORMAT_VERSION), "kind": kind, "config": json.dumps(config, sort_keys=True)}
    _write_atomically(os.path.realpath(os.fspath(path)), to_bytes(dict(tensors), metadata=metadata))


def load(path: str | os.PathLike[str]) -> Any:
    """Read whatever `save` wrote: a layer, a network or an estimator.

    Nothing in the file is executed.

    Parameters
    ----------
    path : str or os.PathLike
        A ``.safetensors`` file that Latchwork wrote, of this or an older format version.

    Returns
    -------
    LSTM, EnsembleLSTM, LSTMCell, Embedding, Linear, Last, Network or LSTMLanguageModel
        What was saved, with its weights and dtype.

    Raises
    ------
    ValueError
        If the file is truncated or damaged, was not written by Latchwork, or was written by a newer version. The
        message names the file.
    OSError
        If the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)
    with open(path, "rb"):  # what safetensors itself raises for a file that cannot be opened varies
        pass
    try:
        with safe_open(path, framework="np") as file:
            model_class, config = _described(file.metadata() or {})
            names = file.keys()
            return model_class._from_file(config, {name: file.get_tensor(name) for name in names})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_tensors(expected_count: int, tensors: Mapping[str, Array], dtype: Any) -> None:
    """Raise ValueError unless the tensors hold so many numbers, all of this dtype.

    Asked before a model is built, so that a file that claims sizes it does not fill costs no memory.
    """
    count = sum(tensor.size for tensor in tensors.values())
    if count != expected_count:
        raise ValueError(f"tensors: expected {expected_count} numbers by the configuration, got {count}")
    for name, tensor in tensors.items():
        if tensor.dtype != dtype:
            raise ValueError(f"{name}: expected dtype {dtype}, got {tensor.dtype}")


def _described(metadata: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """Find the class and the configuration that a file's metadata name."""
    missing = {"format_version", "kind", "config"} - set(metadata)
    if missing:
        raise ValueError(
            f"expected a file that Latchwork wrote, got one whose metadata lack {', '.join(sorted(missing))}"
        )
    version, kind = metadata["format_version"], metadata["kind"]
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ValueError(
            f"expected format_version {FORMAT_VERSION} or older, got {version}; a newer Latchwork may read it"
        )
    if kind not in _KINDS:
        raise ValueError(f"expected a model of kind {', '.join(_KINDS)}, got {kind!r}")
    config = json.loads(metadata["config"])
    if not isinstance(config, dict):
        raise TypeError(f"config: expected an object, got {type(config).__name__}")
    module, name = _KINDS[kind]
    return getattr(importlib.import_module(module), name), config


def _write_atomically(path: str, content: bytes) -> None:
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".latchwork-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the new name must reach the disk too; elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
