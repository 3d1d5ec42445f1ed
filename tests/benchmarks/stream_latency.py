"""Time single steps of a stream from Python: a million one by one for the tail, and loops for the cost.

The same loop around a call that does nothing shows what is due to the clock and the machine and not to the step.
"""

import argparse
import json
import os
import resource
import time
from array import array
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from statistics import median

import latchwork as lw
import numpy as np

# Input size and hidden size.
SIZES = ((1, 20), (1, 128))
PERCENTILES = {"median": 50, "99 %": 99, "99.9 %": 99.9, "99.99 %": 99.99, "worst": 100}
LOOP_STEPS = 20_000
BOUND_NS = 250  # for a step at H = 20 with out=, in a loop

Step = Callable[..., object]


def do_nothing(x: object, out: object) -> object:
    return out


def interrupts(cpu: int) -> int:
    """Count the interrupts this CPU has taken since the machine started; 0 if the system does not tell."""
    try:
        lines = Path("/proc/interrupts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    column = lines[0].split().index(f"CPU{cpu}") + 1
    rows = (line.split() for line in lines[1:])
    return sum(int(row[column]) for row in rows if len(row) > column and row[column].isdigit())


def one_by_one(
    step: Step, x: np.ndarray, y: np.ndarray, steps: int, cpu: int
) -> tuple[np.ndarray, float, dict[str, int]]:
    """Return nanoseconds of each step, seconds of all together, and counts of what the machine did meanwhile."""
    times = array("q", bytes(8 * steps))  # a list of ints would take memory at every step, and so cause page faults
    clock = time.perf_counter_ns
    for _ in range(1000):
        step(x, out=y)
    interrupts_before, before = interrupts(cpu), resource.getrusage(resource.RUSAGE_THREAD)
    start = time.perf_counter()
    for i in range(steps):
        begin = clock()
        step(x, out=y)
        times[i] = clock() - begin
    seconds = time.perf_counter() - start
    after, interrupts_after = resource.getrusage(resource.RUSAGE_THREAD), interrupts(cpu)
    return (
        np.frombuffer(times, np.int64),
        seconds,
        {
            "interrupts": interrupts_after - interrupts_before,
            "switches": after.ru_nivcsw - before.ru_nivcsw,
            "page faults": after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt,
        },
    )


def loop_cost(step: Step, x: np.ndarray, y: np.ndarray) -> float:
    """Return the nanoseconds of one step in a loop, with Python's loop and call included."""
    begin = time.perf_counter_ns()
    for _ in repeat(None, LOOP_STEPS):
        step(x, out=y)
    return (time.perf_counter_ns() - begin) / LOOP_STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument(
        "--rounds", type=int, default=51, help=f"number of loops of {LOOP_STEPS} steps that measure the cost"
    )
    parser.add_argument("--json", type=Path, help="keep the figures here, in nanoseconds")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # on one CPU, so that its interrupts are those that hit this thread
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        cpu = max(os.sched_getaffinity(0))
    else:
        cpu = 0

    jobs: dict[str, tuple[Step, np.ndarray, np.ndarray]] = {
        "no step": (do_nothing, np.zeros(1, np.float32), np.zeros(1, np.float32))
    }
    for input_size, units in SIZES:
        lstm = lw.LSTM(input_size, units, seed=0)
        x = np.random.default_rng(0).standard_normal(input_size, dtype=np.float32)
        jobs[f"H = {units}"] = (lstm.stream().step, x, np.zeros(units, np.float32))

    print(f"in = {SIZES[0][0]}, float32, {lw.cpu_info()['isa']}, {arguments.steps} steps one by one, on one CPU\n")
    header = [*(f"{name}, ns" for name in PERCENTILES), "over 2 us and twice the median, a second"]
    counts = ["interrupts", "switches", "page faults"]
    print(f"| step | {' | '.join(header + counts)} |")
    print("| --- |" + " --- |" * (len(header) + len(counts)))
    results: dict[str, dict[str, float]] = {}
    for name, job in jobs.items():
        times, seconds, happened = one_by_one(*job, arguments.steps, cpu)
        figures = {key: float(np.percentile(times, value)) for key, value in PERCENTILES.items()}
        slow = float(np.sum(times > max(2000, 2 * figures["median"]))) / seconds
        results[name] = figures | {"slow": slow} | happened
        cells = [f"{value:.0f}" for value in results[name].values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    costs: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(arguments.rounds):
        for name, job in jobs.items():
            costs[name].append(loop_cost(*job))
    print(f"\n| a step in a loop, ns | median of {arguments.rounds} | least |\n| --- | --- | --- |")
    for name, values in costs.items():
        results[name] |= {"loop": median(values), "loop, least": min(values)}
        bound = f" (bound: {BOUND_NS})" if name == "H = 20" else ""
        print(f"| {name} | {median(values):.0f}{bound} | {min(values):.0f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
