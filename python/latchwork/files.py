"""Models in files: safetensors under PyTorch's names, and metadata that say what the model is."""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, TypeVar

import numpy as np

from latchwork import _core
from latchwork._file_kinds import description
from latchwork._foreign import bfloat16_numbers
from latchwork._writing import path_text, writable_target, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from latchwork._arrays import Array
    from latchwork._module import Config
    from latchwork._writing import FilePath
    from latchwork.layers import Parameterless

P = ParamSpec("P")
R = TypeVar("R")

FORMAT_VERSION = 2
CONFIG = ("modules", "dtype", "members")  # the keys of every file's ``config``

# Where the class of each kind lives.
_KINDS = {
    "activation": ("latchwork.activation", "Activation"),
    "classifier": ("latchwork.estimators.classifier", "LSTMClassifier"),
    "dropout": ("latchwork.layers", "Dropout"),
    "embed_columns": ("latchwork.input_layers", "EmbedColumns"),
    "embedding": ("latchwork.layers", "Embedding"),
    "impute": ("latchwork.input_layers", "Impute"),
    "input_skip": ("latchwork.step_layers", "InputSkip"),
    "language_model": ("latchwork.estimators.language_model", "LSTMLanguageModel"),
    "last": ("latchwork.layers", "Last"),
    "linear": ("latchwork.layers", "Linear"),
    "lstm": ("latchwork.lstm", "LSTM"),
    "lstm_cell": ("latchwork.lstm_cell", "LSTMCell"),
    "mask": ("latchwork.step_layers", "Mask"),
    "max": ("latchwork.layers", "Max"),
    "mean": ("latchwork.layers", "Mean"),
    "network": ("latchwork.network", "Network"),
    "regressor": ("latchwork.estimators.regressor", "LSTMRegressor"),
    "reverse": ("latchwork.step_layers", "Reverse"),
    "scale": ("latchwork.input_layers", "Scale"),
    "sort": ("latchwork.layers", "Sort"),
}


# While safetensors works, it gives the GIL back. If the interpreter ends meanwhile, it takes the thread away where that
# asks for the GIL again, which safetensors turns into an abort of the process. So the end of the program waits for the
# calls that are running, and those that come later wait until the process is gone. A fork waits for them too, so that
# no child finds the lock held by a thread that it does not have.
_lock = threading.RLock()
atexit.register(_lock.acquire)
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _before_the_end(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function that calls safetensors finish before the interpreter ends, or never begin."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with _lock:
            return function(*args, **kwargs)

    return guarded


class Content(NamedTuple):
    """What a file holds."""

    kind: str
    config: Mapping[str, Any]  # what every reader must know; its keys are `CONFIG`, "modules" are the core's options
    python: Mapping[str, Any]  # what only this package knows
    tensors: Mapping[str, Array]


class Savable(Protocol):
    """What every class in `_KINDS` offers."""

    def _to_file(self) -> Content:
        """Give the content. JSON must be able to hold its ``config`` and ``python``."""

    @classmethod
    def _from_file(cls, content: Content) -> Self:
        """Reverse `_to_file`. ValueError, TypeError or KeyError if the file, which may be hostile, does not fit."""


def save(model: Savable, path: FilePath) -> None:
    """Write a model to a file, whole or not at all: a file that was there stays until the new one is on the disk."""
    target = path_text(path)
    writable_target(target)
    content = model._to_file()
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "kind": content.kind,
        "config": json.dumps(content.config, sort_keys=True),
        "python": json.dumps(content.python, sort_keys=True),
    }
    write_atomically(target, to_bytes(content.tensors, metadata))


def load(path: FilePath, *, prefix: str | Parameterless | Sequence[str | Parameterless] | None = None) -> Any:
    """Read whatever ``save`` wrote: a layer, a network or an estimator; or layers of a safetensors file from elsewhere.

    Nothing in the file is executed.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A ``.safetensors`` file that Latchwork wrote, of format version 2. Its tensors may have been rewritten as
        float16 or bfloat16: they become the model's dtype, exactly.
    prefix : str, or list of str and of layers without parameters, optional
        For a file that Latchwork did not write, with tensors under PyTorch's names: the layer, or the layers in their
        order, as for `from_torch`. "" stands for tensors without a prefix.

    Returns
    -------
    LSTM, LSTMCell, another layer, Network, LSTMRegressor, LSTMClassifier or LSTMLanguageModel
        What was saved, with its weights and dtype.

    Raises
    ------
    ValueError
        If the file is truncated or damaged, was not written by Latchwork, or has another format version: 1, which was
        never released, or that of a newer Latchwork. The message names the file, and says what it is instead.
    OSError
        If the file cannot be read.
    """
    path = path_text(path)
    if prefix is None:
        return load_as(path, path)
    from latchwork.interop.pytorch.reading import model_of_tensors

    return model_of_tensors(foreign_tensors(path), prefix, path)


@_before_the_end
def load_as(path: str, name: str) -> Any:
    """Do what `load` does, with another name for the file in messages."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # raises OSError; what safetensors raises if it cannot open a file varies
        pass
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if not {"format_version", "kind"} <= set(metadata):
                raise ValueError(f"expected a model that Latchwork wrote, got {description(path)}")
            model_class = _class_named(metadata["format_version"], metadata["kind"])
            config, python = (_object(metadata, each) for each in ("config", "python"))
            dtype = np.dtype(np.float64 if config.get("dtype") == "float64" else np.float32)
            tensors = {each: _tensor(file, path, each, dtype) for each in file.keys()}  # noqa: SIM118
            return model_class._from_file(Content(metadata["kind"], config, python, tensors))
    except (SafetensorError, OSError) as error:
        found = description(path, str(error))
        raise ValueError(f"{name}: expected a model that Latchwork wrote, got {found}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name}: {error}") from error


def named(name: str, values: Mapping[str, Any], expected: Sequence[str]) -> list[Any]:
    """Give the values of these names. ValueError unless exactly these are there."""
    if set(values) != set(expected):
        raise ValueError(f"{name}: expected {', '.join(expected) or 'nothing'}, got {', '.join(values) or 'nothing'}")
    return [values[each] for each in expected]


def check_tensors(config: Config, members: int, tensors: Mapping[str, Array]) -> None:
    """Raise ValueError unless the tensors hold as many numbers as the parameters of such a model, all of its dtype.

    Checked before a model is built, so that a file that claims sizes it does not fill costs no memory. float16 passes
    too, because a file may have been rewritten to take less space.
    """
    expected = members * _core.parameter_count(config.modules)
    count = sum(tensor.size for tensor in tensors.values())
    if count != expected:
        raise ValueError(f"tensors: expected {expected} numbers for this configuration, got {count}")
    for name, tensor in tensors.items():
        if tensor.dtype not in (np.dtype(config.dtype), np.float16):
            raise ValueError(f"{name}: expected dtype {config.dtype}, got {tensor.dtype}")


@_before_the_end
def to_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Give the content of a safetensors file."""
    from safetensors.numpy import save

    return save(dict(tensors), metadata=dict(metadata))


@_before_the_end
def read_tensors(path: str) -> tuple[dict[str, str], dict[str, Array]]:
    """Read metadata and tensors of a safetensors file. OSError, or ValueError if it is none."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # raises OSError; what safetensors raises if it cannot open a file varies
        pass
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"expected a safetensors file, got {description(path, str(error))}") from error


@_before_the_end
def is_ours(path: str) -> bool:
    """Say whether a safetensors file is one that Latchwork wrote. One that is damaged counts: `load` says how."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {"format_version", "kind"} <= set(file.metadata() or {})
    except (SafetensorError, OSError):
        return True


@_before_the_end
def foreign_tensors(path: str) -> dict[str, Array]:
    """Read the tensors of a safetensors file that Latchwork did not write. OSError, or ValueError if it is no such."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # raises OSError; what safetensors raises if it cannot open a file varies
        pass
    try:
        with safe_open(path, framework="np") as file:
            if {"format_version", "kind"} <= set(file.metadata() or {}):
                raise ValueError(
                    f"{path}: expected a file from elsewhere, got a model of Latchwork's, which lw.load(path) reads"
                )
            return {name: _tensor(file, path, name, np.dtype(np.float32)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        found = description(path, str(error))
        raise ValueError(f"{path}: expected a safetensors file, got {found}") from error
    except (TypeError, KeyError, AttributeError) as error:  # dtypes that NumPy does not have
        raise ValueError(f"{path}: {error}") from error


def _tensor(file: Any, path: str, name: str, dtype: np.dtype[Any]) -> Array:
    """Read one tensor of an open file. One of bfloat16, which NumPy does not have, becomes another dtype."""
    if file.get_slice(name).get_dtype() != "BF16":
        tensor: Array = file.get_tensor(name)
        return tensor
    with open(path, "rb") as content:
        size = int.from_bytes(content.read(8), "little")
        entry = json.loads(content.read(size))[name]
        begin, end = entry["data_offsets"]
        content.seek(8 + size + begin)
        numbers = bfloat16_numbers(np.frombuffer(content.read(end - begin), "<u2"))
        return numbers.astype(dtype, copy=False).reshape(entry["shape"])


def _class_named(version: str, kind: str) -> type[Savable]:
    """Find the class of a kind. ValueError if there is none, or the format version is another."""
    if version == "1":
        raise ValueError(
            f"expected format_version {FORMAT_VERSION}, got 1, which was never released; "
            "save the model again with this version of Latchwork"
        )
    if not version.isdecimal() or int(version) != FORMAT_VERSION:
        raise ValueError(f"expected format_version {FORMAT_VERSION}, got {version}; a newer Latchwork may read it")
    if kind not in _KINDS:
        raise ValueError(f"expected a model of kind {', '.join(_KINDS)}, got {kind!r}")
    module, name = _KINDS[kind]
    model_class: type[Savable] = getattr(importlib.import_module(module), name)
    return model_class


def _object(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """Read one of the metadata that are JSON."""
    if name not in metadata:
        raise ValueError(f"expected a file that Latchwork wrote, got one whose metadata lack {name}")
    value = json.loads(metadata[name])
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected an object, got {type(value).__name__}")
    return value
