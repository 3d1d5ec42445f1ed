"""What runs here: threads, instruction sets, versions."""

from __future__ import annotations

import os
import platform
from typing import Any

from latchwork import _core
from latchwork._arrays import integer

_MAX_THREADS = 1024


def set_num_threads(count: int) -> None:
    """Set how many threads work at once, for the whole process. It changes no bit of any result.

    Parameters
    ----------
    count : int
        1 to 1024. Until it is set: ``LATCHWORK_NUM_THREADS``, else ``OMP_NUM_THREADS``, else as many as there are CPUs
        that the process may use.

    Raises
    ------
    ValueError
        If the count is out of range.
    TypeError
        If it is no int.
    """
    _core.set_num_threads(integer("count", count, 1, _MAX_THREADS))


def get_num_threads() -> int:
    """Say how many threads work at once."""
    return _core.get_num_threads()


def set_isa(name: str) -> None:
    """Choose the instruction set, for the whole process.

    "avx2" and "avx512" give the same bits; those of "baseline", which has no fused multiply-adds, are others.
    Calls under way, tapes and streams keep theirs.

    Parameters
    ----------
    name : str
        One of ``cpu_info()["available_isas"]``. Until it is set: the environment's ``LATCHWORK_ISA``, else the fastest.

    Raises
    ------
    ValueError
        If it is not available here.
    TypeError
        If it is no str.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected str, got {type(name).__name__}")
    available = _core.available_isas()
    if name not in available:
        raise ValueError(f"name: expected one of {', '.join(available)}, got {name!r}")
    _core.set_isa(name)


def cpu_info() -> dict[str, Any]:
    """Say what Latchwork runs on.

    Returns
    -------
    dict
        ``cpu``: the CPU's name; ``maker``: its maker as the CPU spells it, such as "GenuineIntel", or an empty string
        if it is not known, as on machines other than x86-64; ``family`` and ``model``: its maker's numbers for it, 0 if
        not known; ``hypervisor``: the name of a virtual machine's, an empty string if none gives a name;
        ``caches``: for each of ``"l1d"`` (L1 for data), ``"l2"`` and ``"l3"`` its size in ``bytes`` and by how many
        CPUs it is ``shared_by``, where 32 KB, 512 KB and 8 MB stand for those that are not known; ``usable_cpus``: how
        many CPUs this process may use; ``num_threads``; ``isa``: the instruction set in use; ``available_isas``: those
        that this CPU has and this build has kernels for (see ``LATCHWORK_ISAS`` in CONTRIBUTING.md), slowest first.

    Notes
    -----
    How threads share work and how weights are read depends on the caches and the maker. No bit of any result does.
    """
    return {
        "cpu": _cpu_name(),
        **_core.cpu(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "num_threads": _core.get_num_threads(),
        "isa": _core.current_isa(),
        "available_isas": _core.available_isas(),
    }


def show_versions() -> None:
    """Print what a bug report should contain: versions, build and machine."""
    from importlib.metadata import PackageNotFoundError, version

    build = _core.build_info()
    rows = {"latchwork": build.pop("version"), "python": platform.python_version(), "platform": platform.platform()}
    for package in ("numpy", "safetensors", "scikit-learn", "torch", "matplotlib"):
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "not installed"
    rows |= {name.replace("_", " "): machine_text(value) for name, value in cpu_info().items()}
    rows |= {f"build: {name.replace('_', ' ')}": value for name, value in build.items()}
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}".rstrip())


def machine_text(value: Any) -> str:
    """Write one of the values of `cpu_info` for people."""
    if isinstance(value, dict):
        return ", ".join(f"{level.upper()} {_cache_text(**cache)}" for level, cache in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _cache_text(bytes: int, shared_by: int) -> str:
    size = f"{bytes / 2**20:g} MB" if bytes >= 2**20 else f"{bytes / 2**10:g} KB"
    return size if shared_by == 1 else f"{size} shared by {shared_by} CPUs"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
