"""How times are taken: samples that last long enough for the clock, in rounds that visit every peer."""

import gc
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TypeVar

# Runs a peer's work the given number of times. Each peer writes this loop itself, so that no wrapper's call is timed:
# an empty Python call takes a quarter of the time of the shortest step.
Loop = Callable[[int], None]

Name = TypeVar("Name", bound=Hashable)

SHORTEST_SAMPLE = 2e-3
# Before each sample the same loop runs this long, untimed: a peer's threads sleep while the others have their turns.
WARM_UP = 2e-3
# A process whose threads use next to no CPU time for so long has none that is busy. A system may add up the time of a
# thread that runs on another CPU only every 4 or 10 milliseconds; within a shorter window such a thread seems to sleep.
SETTLED_WINDOW = 20e-3
# Calls longer than this need no warm-up: waking threads and refilling caches takes a negligible part of them.
LONG_CALL = 50e-3


@dataclass(frozen=True)
class Summary:
    """Quartiles and minimum over rounds, in seconds for one call."""

    median: float
    lower_quartile: float
    upper_quartile: float
    fastest: float
    rounds: int


def elapsed(loop: Loop, iterations: int) -> float:
    """Time this many iterations, in seconds."""
    started = time.perf_counter()
    loop(iterations)
    return time.perf_counter() - started


def iterations_for_sample(loop: Loop) -> int:
    """Find how many iterations make a sample of at least SHORTEST_SAMPLE."""
    iterations = 1
    while True:
        seconds = elapsed(loop, iterations)
        if seconds < 10 * SHORTEST_SAMPLE:  # so short that one interruption could make it look long enough
            seconds = min(seconds, elapsed(loop, iterations), elapsed(loop, iterations))
        if seconds >= SHORTEST_SAMPLE:
            return iterations
        wanted = 1.2 * iterations * SHORTEST_SAMPLE / max(seconds, 1e-9)
        iterations = min(10 * iterations, max(iterations + 1, round(wanted)))


def sample(loop: Loop, iterations: int) -> float:
    """Take one sample: seconds of one call among many consecutive ones.

    A warm-up first wakes the peer's threads and fills its caches; a single long call needs none.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        warmed = elapsed(loop, iterations)
        if iterations == 1 and warmed > LONG_CALL:
            return warmed
        while warmed < WARM_UP:
            warmed += elapsed(loop, iterations)
        return elapsed(loop, iterations) / iterations
    finally:
        if collecting:
            gc.enable()


def settle(limit: float = 0.5) -> bool:
    """Wait until no thread of this process is busy any more; return False if that takes longer than the limit.

    Worker threads of a pool commonly spin for some milliseconds after their last task before they sleep, those of
    ONNX Runtime for 45.
    """
    deadline = time.perf_counter() + limit
    while time.perf_counter() < deadline:
        used = time.process_time()
        time.sleep(SETTLED_WINDOW)
        if time.process_time() - used < SETTLED_WINDOW / 4:
            return True
    return False


def rotated(names: Sequence[Name], round_number: int) -> list[Name]:
    """Order the peers of a round: each comes first, second, ... equally often."""
    first = round_number % max(1, len(names))
    return [*names[first:], *names[:first]]


def summarise(samples: Sequence[float]) -> Summary:
    """Summarise at least one sample."""
    lower, upper = (samples[0], samples[0])
    if len(samples) > 1:
        lower, _, upper = quantiles(samples, n=4, method="inclusive")
    return Summary(median(samples), lower, upper, min(samples), len(samples))


def medians(jobs: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """Time jobs of one process in turn: medians over rounds, in seconds for one call."""

    def loop_of(job: Callable[[], object]) -> Loop:
        def loop(iterations: int) -> None:
            for _ in range(iterations):
                job()

        return loop

    loops = {name: loop_of(job) for name, job in jobs.items()}
    iterations = {name: iterations_for_sample(loop) for name, loop in loops.items()}
    samples: dict[Name, list[float]] = {name: [] for name in loops}
    for round_number in range(rounds):
        for name in rotated(list(loops), round_number):
            samples[name].append(sample(loops[name], iterations[name]))
    return {name: median(values) for name, values in samples.items()}
