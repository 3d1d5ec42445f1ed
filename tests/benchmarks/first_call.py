"""Compare the first call in a fresh process with later ones; import, model and input come before the clock starts."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import latchwork as lw
import numpy as np

# The kind, steps, rows, input size and hidden size of each case.
CASES = (
    ("step", 1, 1, 1, 20),
    ("step", 1, 1, 64, 128),
    ("step", 1, 1, 256, 512),
    ("forward", 1000, 1, 1, 20),
    ("forward", 20, 4, 8, 16),
    ("forward", 100, 8, 256, 256),
    ("forward", 100, 32, 64, 128),
    ("forward", 20, 64, 128, 512),
    ("forward", 365, 256, 16, 64),
    ("training", 50, 32, 8, 32),
    ("training", 32, 64, 64, 128),
)
LATER_CALLS = 20
# The first call may take TIMES times as long as the later ones, or SECONDS_MORE longer.
TIMES, SECONDS_MORE = 3.0, 100e-6


def make_job(kind: str, steps: int, rows: int, input_size: int, hidden_size: int) -> Callable[[], object]:
    """Return a function that makes one call, no part of which has run before."""
    lstm = lw.LSTM(input_size, hidden_size, seed=0)
    random = np.random.default_rng(0)
    x = random.standard_normal((steps, rows, input_size), dtype=np.float32)
    if kind == "step":
        step, first, y = lstm.stream().step, x[0, 0], np.zeros(hidden_size, np.float32)
        return lambda: step(first, out=y)
    if kind == "forward":
        return lambda: lstm(x)
    d_output = random.standard_normal((steps, rows, hidden_size), dtype=np.float32)
    return lambda: lstm.record(x).backward(d_output)


def run_child(case: int, threads: int) -> None:
    """Print the seconds of the first call and of the median later one."""
    lw.set_num_threads(threads)
    job = make_job(*CASES[case])
    times = []
    for _ in range(1 + LATER_CALLS):
        begin = time.perf_counter()
        job()
        times.append(time.perf_counter() - begin)
    print(json.dumps([times[0], median(times[1:])]))


def child_times(case: int, threads: int) -> list[float]:
    """Return the seconds of the first call and of the median later one, from a fresh process."""
    command = [sys.executable, __file__, "--child", str(case), "--threads", str(threads)]
    seconds: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.3g}" if seconds < 1e-3 else f"{seconds * 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, measured one after the other")
    parser.add_argument("--rounds", type=int, default=11, help="fresh processes for each case")
    parser.add_argument("--json", type=Path, help="keep the medians here, in seconds")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        run_child(arguments.child, int(arguments.threads))
        return

    print(
        f"float32, {lw.cpu_info()['isa']}, {arguments.rounds} processes each, medians; bound of the first call: "
        f"{TIMES:g} times the later ones, or {SECONDS_MORE * 1e6:g} us more"
    )
    cases = [(case, threads) for threads in map(int, arguments.threads.split(",")) for case in range(len(CASES))]
    samples: dict[tuple[int, int], list[list[float]]] = {one: [] for one in cases}
    for _ in range(arguments.rounds):
        for one in cases:
            samples[one].append(child_times(*one))
    print("\n| threads | kind | T | N | in | H | first, us | later, us | factor | us more | within |")
    print("| --- |" + " --- |" * 10)
    results = []
    for case, threads in cases:
        first, later = (median(values) for values in zip(*samples[case, threads], strict=True))
        within = first <= TIMES * later or first - later <= SECONDS_MORE
        results.append({"case": CASES[case], "threads": threads, "first": first, "later": later, "within": within})
        print(
            f"| {threads} | {' | '.join(map(str, CASES[case]))} | {microseconds(first)} | {microseconds(later)} "
            f"| {first / later:.2f} | {microseconds(first - later)} | {'yes' if within else 'NO'} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
