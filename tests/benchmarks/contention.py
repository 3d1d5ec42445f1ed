"""Compare two threads with one while something else uses the CPUs too.

Each situation has a process of its own, in which calls on one and on two threads take turns.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import latchwork as lw
import numpy as np

try:
    import torch
except ImportError:
    torch = None

# The kind, steps, rows, input size and hidden size of each case.
CASES = {
    "small": ("forward", 50, 32, 8, 32),
    "medium": ("forward", 100, 32, 64, 128),
    "training": ("training", 32, 64, 64, 128),
}
SITUATIONS = (
    "quiet",
    "PyTorch's threads spin",
    "another process on one CPU",
    "other processes on all CPUs",
    "pinned to one CPU before the pool starts",
    "pinned to one CPU after the pool has started",
)
BOUND = 3.0
BURN = "while True: pass"

Job = Callable[[], object]


def make_job(case: str) -> Job:
    """Return a function that makes one call."""
    kind, steps, rows, input_size, hidden_size = CASES[case]
    lstm = lw.LSTM(input_size, hidden_size, seed=0)
    random = np.random.default_rng(0)
    x = random.standard_normal((steps, rows, input_size), dtype=np.float32)
    if kind == "forward":
        return lambda: lstm(x)
    d_output = random.standard_normal((steps, rows, hidden_size), dtype=np.float32)
    gradients = lstm.record(x).backward(d_output)
    return lambda: lstm.record(x).backward(d_output, into=gradients)


def pin() -> None:
    """Put every thread of this process on one CPU."""
    cpu = max(os.sched_getaffinity(0))
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {cpu})


def seconds_of(job: Job, threads: int, before: Job) -> float:
    lw.set_num_threads(threads)
    before()
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def spin_threads_of_torch() -> Job:
    """Return a product on two threads of PyTorch, which look for more work for a while after it."""
    torch.set_num_threads(2)
    matrix = torch.ones(384, 384)
    return lambda: matrix @ matrix


def run_child(situation: str, case: str, rounds: int) -> None:
    """Print the seconds of each call on one and on two threads."""
    job = make_job(case)
    before = spin_threads_of_torch() if situation.startswith("PyTorch") else lambda: None
    if situation.endswith("before the pool starts"):
        pin()
    lw.set_num_threads(2)
    job()
    if situation.endswith("after the pool has started"):
        pin()
    for threads in (1, 2):
        for _ in range(3):
            seconds_of(job, threads, before)
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for threads, values in times.items():
            values.append(seconds_of(job, threads, before))
    print(json.dumps([times[1], times[2]]))


def measure(situation: str, case: str, rounds: int) -> list[list[float]]:
    """Return the seconds of each call on one and on two threads."""
    cpus = os.cpu_count() or 1
    burners = {"another process on one CPU": 1, "other processes on all CPUs": cpus}.get(situation, 0)
    busy = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(burners)]
    try:
        command = [sys.executable, __file__, "--child", situation, case, "--rounds", str(rounds)]
        times: list[list[float]] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        )
        return times
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=301, help="calls of each kind in each situation")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--situations", default=";".join(SITUATIONS), help="separated by semicolons")
    parser.add_argument("--json", type=Path, help="keep the seconds of every call here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(*arguments.child, arguments.rounds)
        return
    situations = [one for one in arguments.situations.split(";") if torch is not None or not one.startswith("PyTorch")]
    print(f"float32, {lw.cpu_info()['isa']}, {arguments.rounds} rounds; two threads over one, bound {BOUND:g}\n")
    print("| situation | case | one thread, ms | two | factor of medians | of means | of 95th percentiles |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    results = {}
    for situation in situations:
        for case in arguments.cases.split(","):
            one, two = results[f"{situation}: {case}"] = measure(situation, case, arguments.rounds)
            factors = [f(two) / f(one) for f in (median, fmean, lambda values: float(np.percentile(values, 95)))]
            cells = " | ".join(f"{factor:.2f}{' !' if factor > BOUND else ''}" for factor in factors)
            print(f"| {situation} | {case} | {median(one) * 1e3:.3f} | {median(two) * 1e3:.3f} | {cells} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
