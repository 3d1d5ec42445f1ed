"""The interface of every peer."""

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.timing import Loop


class MissingPeerError(Exception):
    """The peer is not installed, or cannot do what is asked of all."""


@dataclass(frozen=True)
class Prepared:
    """One case made ready; nothing of it has run yet.

    Attributes
    ----------
    results
        What the peer computes for it, to be compared; may be called once, before the loop.
    loop
        What is timed; it needs no results first.
    """

    results: Callable[[], dict[str, Array]]
    loop: Loop


class Peer(Protocol):
    """One library in this process."""

    kinds: ClassVar[Collection[str]]
    dtypes: ClassVar[Collection[str]]
    description: dict[str, Any]

    def __init__(self, threads: int) -> None: ...

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Give the environment variables that the process must start with, for its threads and largest instruction set.

        Raises MissingPeerError if the library cannot be limited to an instruction set.
        """

    def prepare(self, case: Case, kind: str) -> Prepared:
        """Make a case ready, for one of the kinds and dtypes that the peer does."""


def import_library(module: str) -> Any:
    """Import a module, or raise MissingPeerError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{module} cannot be imported: {error}") from error


def onednn_environment(isa: str) -> dict[str, str]:
    """Limit the instruction sets of the oneDNN inside a library; older versions know only the second variable."""
    name = {"baseline": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE"}[isa]
    return {"ONEDNN_MAX_CPU_ISA": name, "DNNL_MAX_CPU_ISA": name}
