"""Files that ``torch.save`` wrote, read by PyTorch's own loader of weights alone."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

from latchwork.interop.pytorch.writing import imported_torch

_TENSORS = 100_000  # that a file may have


def checkpoint_of(path: str) -> Mapping[Any, Any]:
    """Read a file in PyTorch's format or that before version 1.6.

    Raises
    ------
    ValueError
        If the file is damaged, claims more than it has bytes, or holds something else than a mapping of tensors.
    OSError
        If it cannot be read.
    ImportError
        If PyTorch is missing.
    """
    torch = imported_torch()
    size = os.path.getsize(path)
    _check_zip(path, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, about how its loader works
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file makes the loader raise nearly anything
        raise ValueError(f"{path}: {_reason(error)}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a state dictionary, got {type(content).__name__}")
    _check_sizes(torch, content, size, path)
    return content


def _check_zip(path: str, size: int) -> None:
    """Refuse an archive whose entries are compressed or claim more bytes than there are: PyTorch writes no such."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: expected a PyTorch file, got a damaged one: {error}") from error
    if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
        raise ValueError(f"{path}: expected a PyTorch file, which holds no compressed entries, got one that does")


def _check_sizes(torch: Any, content: Any, size: int, path: str) -> None:
    """Refuse tensors that repeat few numbers many times, because a copy of them could need any amount of memory."""
    seen: set[int] = set()
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values())
        elif isinstance(value, torch.Tensor):
            count += 1
            if value.numel() * value.element_size() > size or count > _TENSORS:
                shape = tuple(value.shape)
                raise ValueError(f"{path}: expected tensors whose numbers are in the file, got one of shape {shape}")


def _reason(error: Exception) -> str:
    """Say why the loader refused a file: its own message is long, and advises to run what is in the file."""
    text = str(error)
    if "Unsupported global: GLOBAL " in text:
        name = text.partition("Unsupported global: GLOBAL ")[2].split()[0]
        if "torch.jit" in name or "quantized" in name or "ScriptObject" in text:
            return f"expected a state dictionary of real tensors, got quantised weights or TorchScript ({name})"
        return (
            f"expected a state dictionary, got a pickled object of {name}, which only running code from the file could "
            "read; torch.save(model.state_dict(), path) writes what can be read"
        )
    if "quantized" in text or "ScriptObject" in text or "torch.jit" in text or "packed_params" in text:
        return "expected a state dictionary of real tensors, got quantised weights"
    line = " ".join(text.split("\n")[0].split())[:200]
    return f"expected a state dictionary, got a file that PyTorch cannot read: {type(error).__name__}: {line}"
