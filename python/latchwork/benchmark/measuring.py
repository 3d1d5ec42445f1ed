"""Which measurements a run makes, and each of them."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from latchwork.benchmark import timing
from latchwork.benchmark.cases import CASES, Array, Case
from latchwork.benchmark.peers import OTHERS, PEERS
from latchwork.benchmark.peers.peer import MissingPeerError
from latchwork.benchmark.report import Measurement, PeerResult
from latchwork.benchmark.verification import TOLERANCES, largest_difference
from latchwork.benchmark.workers import PeerError, Worker

# Unless a number is asked for: this many rounds, or as many as fit in the seconds, but at least the fewest.
ROUNDS = 15
FEWEST_ROUNDS = 3
SECONDS_OF_ROUNDS = 8.0


@dataclass(frozen=True)
class Planned:
    """One measurement that is to be made."""

    case: Case
    kind: str
    threads: int

    def does(self, peers: Collection[str]) -> list[str]:
        """Name those of the peers that do this kind."""
        return [name for name in peers if self.kind in PEERS[name].kinds]

    def seconds(self, peers: Collection[str], rounds: int | None) -> float:
        """Estimate how long it will take; a slow machine may need twice as long."""
        count = len(self.does(peers))
        speed = 100e9 if self.case.dtype == "float32" else 50e9
        arithmetic = self.case.floating_point_operations(self.kind) / (speed * math.sqrt(self.threads))
        call = arithmetic if self.kind == "step" else arithmetic + 3e-6 * self.case.steps * self.case.layers
        warm_up = 0.0 if call > timing.LONG_CALL else call + timing.SHORTEST_SAMPLE
        round_of_all = count * (call + warm_up + timing.SETTLED_WINDOW)
        if rounds is None:
            rounds = max(FEWEST_ROUNDS, min(ROUNDS, int(SECONDS_OF_ROUNDS / round_of_all)))
        return count * (0.3 + 4 * call) + rounds * round_of_all


def plan(cases: Sequence[str], kinds: Sequence[str] | None, thread_counts: Sequence[int], dtype: str) -> list[Planned]:
    """List all measurements, in order; kinds that a case cannot do are left out."""
    return [
        Planned(replace(CASES[name], dtype=dtype), kind, threads)
        for threads in thread_counts
        for name in cases
        for kind in kinds or CASES[name].kinds
        if CASES[name].allows(kind)
    ]


def start(names: Sequence[str], threads: int, isa: str | None, missing: dict[str, str]) -> dict[str, Worker]:
    """Start a worker for each peer that is installed; the others, and why, go into ``missing``."""
    workers = {}
    for name in names:
        if name not in missing:
            try:
                workers[name] = Worker(name, threads, isa)
            except (MissingPeerError, PeerError) as error:
                missing[name] = str(error)
    return workers


def measure(
    workers: dict[str, Worker], planned: Planned, rounds: int | None, progress: Callable[[float, str], None]
) -> Measurement:
    """Prepare the case in every peer, compare the results, and time the peers whose results agree.

    ``progress`` is called with the part of the measurement that is done, and with what is done next.
    """
    case, kind = planned.case, planned.kind
    peers: dict[str, PeerResult] = {}
    results: dict[str, dict[str, Array]] = {}
    names = planned.does(workers)
    for number, name in enumerate(names):
        progress(0.5 * number / len(names), f"{name} prepares")
        try:
            results[name] = workers[name].prepare(case, kind)
        except PeerError as error:
            peers[name] = PeerResult(note=str(error))
    reference = next((name for name in OTHERS if name in results), None)
    differences = {
        name: largest_difference(answer, results[reference]) if reference else None for name, answer in results.items()
    }
    del results

    tolerance = TOLERANCES[case.dtype][kind]
    iterations: dict[str, int] = {}
    for name, difference in differences.items():
        if difference is not None and not difference <= tolerance:
            note = f"differs by {difference:.1e} from {reference}; {tolerance:.0e} is allowed: not timed"
            peers[name] = PeerResult(difference=difference, note=note)
            continue
        try:
            iterations[name] = workers[name].calibrate()
        except PeerError as error:
            peers[name] = PeerResult(difference=difference, note=str(error))

    samples: dict[str, list[float]] = {name: [] for name in iterations}
    settled = dict.fromkeys(iterations, True)
    for number, done in _rounds(rounds):
        progress(0.5 + 0.5 * done, f"round {number + 1}")
        for name in timing.rotated(list(iterations), number):
            if name in peers:
                continue  # failed in an earlier round
            try:
                seconds, asleep = workers[name].sample()
            except PeerError as error:
                peers[name] = PeerResult(difference=differences[name], note=str(error))
            else:
                samples[name].append(seconds)
                settled[name] &= asleep
    for name, calls in iterations.items():
        if name not in peers:
            peers[name] = PeerResult(timing.summarise(samples[name]), calls, differences[name], settled[name])
    for name in [name for name, worker in workers.items() if not worker.alive]:
        workers.pop(name).close()
    return Measurement(case, kind, planned.threads, reference, {name: peers[name] for name in PEERS if name in peers})


def _rounds(rounds: int | None) -> Iterator[tuple[int, float]]:
    """Yield the numbers of the rounds to make, and which part of them is done before each."""
    if rounds is not None:
        yield from ((number, number / rounds) for number in range(rounds))
        return
    started = time.monotonic()
    for number in range(ROUNDS):
        spent = (time.monotonic() - started) / SECONDS_OF_ROUNDS
        if number >= FEWEST_ROUNDS and spent > 1:
            return
        yield number, min(1.0, max(spent, number / ROUNDS))
