"""What every peer offers."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.timing import Loop


class MissingPeerError(Exception):
    """The peer is not installed, or cannot do what is asked of all."""


@dataclass(frozen=True)
class Prepared:
    """One case made ready: what the peer computes for it, to be compared, and the loop to be timed."""

    results: dict[str, Array]
    loop: Loop


class Peer(Protocol):
    """One library in this process."""

    description: dict[str, Any]

    def __init__(self, threads: int) -> None: ...

    @staticmethod
    def environment(threads: int, isa: str | None) -> dict[str, str]:
        """Name what the process must start with, for so many threads and no instruction set beyond this one.

        Raises MissingPeerError where the library has no such limit.
        """

    def prepare(self, case: Case, kind: str) -> Prepared | None:
        """Make a case ready; None where the peer does not do this kind."""


def import_library(module: str) -> Any:
    """Import a module, or raise MissingPeerError."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f"{module} cannot be imported: {error}") from error


def onednn_environment(isa: str) -> dict[str, str]:
    """Limit the instruction sets of oneDNN, inside whichever library; older copies know the second name alone."""
    name = {"baseline": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE"}[isa]
    return {"ONEDNN_MAX_CPU_ISA": name, "DNNL_MAX_CPU_ISA": name}
