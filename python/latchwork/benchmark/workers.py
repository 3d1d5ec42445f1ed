"""One process for each peer, so that no peer's threads can disturb another's.

Thread pools wait for their next task by spinning: OpenMP's (PyTorch) and ONNX Runtime's for milliseconds, Latchwork's
for a shorter while. Peers that simply took turns would share the cores with the previous peer's spinning threads, and
the sample after a heavily threaded one would look slow. Switching spinning off (ONNX Runtime's
``session.intra_op.allow_spinning``) would slow that peer down instead. So every peer lives in a process of its own with
its default settings, all are prepared for the same case, one at a time is asked for a sample, and it answers only when
all its threads sleep. Every thread count gets fresh processes.
"""

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from latchwork.benchmark import timing
from latchwork.benchmark.cases import Array, Case
from latchwork.benchmark.peers import PEERS
from latchwork.benchmark.peers.peer import MissingPeerError


class PeerError(Exception):
    """What went wrong in a peer's process."""


@dataclass(frozen=True)
class _Raised:
    text: str
    missing: bool


class Worker:
    """A peer in a process of its own, limited to an instruction set if one is given.

    Raises MissingPeerError if the peer is not installed or cannot be limited.
    """

    def __init__(self, name: str, threads: int, isa: str | None = None) -> None:
        environment = PEERS[name].environment(threads, isa)
        # Not forked: a fork would copy the parent's state, and with it whatever libraries were loaded there.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, threads), daemon=True)
        with _variables(environment):
            self._process.start()
        theirs.close()
        self.description: dict[str, Any] = self._answer()

    def prepare(self, case: Case, kind: str) -> dict[str, Array]:
        """Make the case ready, for one of the peer's kinds, and return its results."""
        results: dict[str, Array] = self._ask("prepare", case, kind)
        return results

    def calibrate(self) -> int:
        """Choose how many calls make a sample."""
        iterations: int = self._ask("calibrate")
        return iterations

    def sample(self) -> tuple[float, bool]:
        """Measure the seconds of one call, and say whether the peer's threads went to sleep afterwards."""
        answer: tuple[float, bool] = self._ask("sample")
        return answer

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _ask(self, *request: Any) -> Any:
        try:
            self._connection.send(request)
        except OSError:
            raise PeerError("the process has ended") from None
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            raise PeerError(f"the process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, _Raised):
            raise MissingPeerError(answer.text) if answer.missing else PeerError(answer.text)
        return answer


@contextlib.contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a process that is started meanwhile, so that its imports see them."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, name: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    try:
        peer = PEERS[name](threads)
        connection.send(peer.description)
    except MissingPeerError as error:
        connection.send(_Raised(str(error), missing=True))
        return
    except Exception:  # the parent reports it and goes on without this peer
        connection.send(_Raised(traceback.format_exc(), missing=False))
        return

    loop: timing.Loop | None = None
    iterations = 1
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        answer: Any
        try:
            if command == "prepare":
                loop = None  # frees the last case before the next is made
                prepared = peer.prepare(*arguments)
                answer, loop = prepared.results(), prepared.loop
                del prepared
            elif loop is None:
                raise RuntimeError("nothing is prepared")
            elif command == "calibrate":
                answer = iterations = timing.iterations_for_sample(loop)
                timing.settle()
            else:
                seconds = timing.sample(loop, iterations)
                answer = seconds, timing.settle()
        except Exception:  # the parent reports it and goes on with the next case
            answer = _Raised(traceback.format_exc(), missing=False)
        connection.send(answer)
