"""Compare the speed of several callers at once, in one process or several, with what sharing the CPUs would give.

The ideal is the speed of one caller alone on one thread, times the number of CPUs or of callers, whichever is smaller.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import contention
import latchwork as lw

# The number of processes, of callers in each, and of threads in each pool.
SITUATIONS = ((1, 2, 1), (1, 2, 2), (1, 4, 2), (2, 1, 2), (4, 1, 1), (4, 1, 2))
ALONE = (1, 1, 1)
BOUND = 3.0
# Seconds between the start of the processes and the start of their calls.
HEAD_START = 1.5


def run_child(case: str, callers: int, threads: int, start: float, seconds: float) -> None:
    """Call for this many seconds from the start time on; print all callers' calls a second, and the longest call."""
    lw.set_num_threads(threads)
    job = contention.make_job(case)
    job()
    counts, longest = [0] * callers, [0.0] * callers

    def call(caller: int) -> None:
        time.sleep(max(0.0, start - time.time()))
        end = time.perf_counter() + seconds
        begin = time.perf_counter()
        while begin < end:
            job()
            counts[caller] += 1
            now = time.perf_counter()
            longest[caller] = max(longest[caller], now - begin)
            begin = now

    running = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(json.dumps([sum(counts) / seconds, max(longest)]))


def measure(case: str, situation: tuple[int, int, int], seconds: float) -> tuple[float, float]:
    """Return the calls a second of all processes together, and the seconds of the longest call."""
    processes, callers, threads = situation
    child = [case, callers, threads, time.time() + HEAD_START, seconds]
    command = [sys.executable, __file__, "--child", *map(str, child)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    rates, longest = zip(*(json.loads(process.communicate()[0]) for process in running), strict=True)
    return sum(rates), max(longest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; each measures every situation once")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="how long the calls go on in every situation and round"
    )
    parser.add_argument("--cases", default=",".join(contention.CASES))
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        case, callers, threads, start, seconds = arguments.child
        run_child(case, int(callers), int(threads), float(start), float(seconds))
        return
    cpus = os.cpu_count() or 1
    print(f"{cpus} CPUs, float32, {lw.cpu_info()['isa']}; bound: {BOUND:g} times the time-shared ideal\n")
    print("| case | processes | callers in each | threads | calls a second | ideal | factor | longest call, ms |")
    print("| --- |" + " --- |" * 7)
    results = []
    for case in arguments.cases.split(","):
        samples: dict[tuple[int, int, int], list[tuple[float, float]]] = {one: [] for one in (ALONE, *SITUATIONS)}
        for _ in range(arguments.rounds):
            for situation, values in samples.items():
                values.append(measure(case, situation, arguments.seconds))
        alone = median(rate for rate, _ in samples[ALONE])
        for situation, values in samples.items():
            processes, callers, threads = situation
            rate, longest = median(value for value, _ in values), max(value for _, value in values)
            ideal = alone * min(cpus, processes * callers)
            result = {"case": case, "situation": situation, "rate": rate, "ideal": ideal, "longest": longest}
            results.append(result)
            print(
                f"| {case} | {processes} | {callers} | {threads} | {rate:.0f} | {ideal:.0f} "
                f"| {ideal / rate:.2f}{' !' if ideal / rate > BOUND else ''} | {longest * 1e3:.2f} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
