"""Time two builds of Latchwork in turn, and print the old one's time over the new one's in each case.

A build is the Python interpreter of an environment that Latchwork is installed in, or a folder that holds the package.
The cases are those of `latchwork bench` and the training steps of `small_step.py`, in float32. The code of this source
tree times both builds, so that only the library differs.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median, quantiles
from typing import Any

BENCHMARK_PACKAGE = Path(__file__).parents[2] / "python" / "latchwork" / "benchmark"

DEFAULT_CASES = "inference,training,small-step"
SMALL_STEP = "small-step"
SMALL_STEP_KIND = "update"
LOWEST_RATIO = 0.97

# Unless --rounds is given, a measurement whose calls are long ends after SECONDS_OF_ROUNDS, but never before
# FEWEST_ROUNDS.
ROUNDS = 21
FEWEST_ROUNDS = 9
SECONDS_OF_ROUNDS = 40.0
# The speed of a process depends by some percent on the memory addresses it gets, so fresh processes start after this
# many rounds. If a sample is one long call, they start later, because such a process takes long to prepare.
ROUNDS_OF_A_PROCESS = 3
ROUNDS_OF_A_PROCESS_OF_LONG_CALLS = 7
# A disturbance only adds to a sample's time. So a round is the fastest of SAMPLES samples, or of as many as
# SECONDS_OF_SAMPLES allow.
SAMPLES = 5
SECONDS_OF_SAMPLES = 50e-3

# The seconds of one call, for each round and each sample in it.
Times = list[list[float]]


@dataclass(frozen=True)
class Build:
    """How to start a Python that imports one of the builds."""

    label: str
    interpreter: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Planned:
    """One measurement to be made."""

    case: str
    kind: str
    threads: int


class Child:
    """One build in a process of its own, which times one case."""

    def __init__(self, build: Build, threads: int) -> None:
        self._label = build.label
        self._process = subprocess.Popen(
            [build.interpreter, str(Path(__file__).resolve()), "--child", str(threads)],
            env=build.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description = self._answer()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, *request: Any) -> Any:
        """Send a request and wait for its answer."""
        with contextlib.suppress(OSError):  # if the process has ended, the missing answer shows it
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"compare_builds.py: the {self._label} build's process ended with status {self._process.wait()}")
        return json.loads(line)


def serve(threads: int) -> None:
    """Run as the child process: prepare cases and take samples of them as requested."""
    import latchwork as lw
    import latchwork.benchmark

    # What is imported below is the code of this source tree, which calls the build's public interface.
    latchwork.benchmark.__path__ = [str(BENCHMARK_PACKAGE)]
    import small_step
    from latchwork.benchmark import cases, peers, timing

    def prepared(case: str, kind: str) -> Callable[[int], None]:
        if case in small_steps:
            job = small_step.make_job(*small_steps[case])

            def loop(iterations: int) -> None:
                for _ in itertools.repeat(None, iterations):
                    job()

            return loop
        return peer.prepare(cases.CASES[case], kind).loop

    small_steps = {"-".join(map(str, (SMALL_STEP, *shape))): shape for shape in small_step.SHAPES}
    answer: Any = {
        "latchwork": lw.__version__,
        "folder": str(Path(lw.__file__).parent),
        "usable_cpus": lw.cpu_info()["usable_cpus"],
        "isa": lw.cpu_info()["isa"],
        "groups": cases.GROUPS | {SMALL_STEP: list(small_steps)},
        "kinds": dict.fromkeys(small_steps, [SMALL_STEP_KIND])
        | {name: list(case.kinds) for name, case in cases.CASES.items()},
        "possible_kinds": dict.fromkeys(small_steps, [SMALL_STEP_KIND])
        | {name: [kind for kind in cases.KINDS if case.allows(kind)] for name, case in cases.CASES.items()},
    }
    peer = peers.PEERS[peers.OURS](threads)
    loop: Callable[[int], None] | None = None
    while True:
        print(json.dumps(answer), flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        command, *arguments = json.loads(line)
        if command == "prepare":
            loop = prepared(*arguments)
            answer = timing.iterations_for_sample(loop)
        else:
            (iterations,) = arguments
            samples: list[float] = []
            while len(samples) < SAMPLES and sum(samples) * iterations < SECONDS_OF_SAMPLES:
                samples.append(timing.sample(loop, iterations))
            answer = samples
        timing.settle()


def build_of(label: str, place: str) -> Build:
    """Make a build from a command-line argument, which is an interpreter or a folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    # Links are not resolved, because the interpreter of an environment is a link and finds its environment by its path.
    path = os.path.abspath(place)
    if os.path.isdir(path):
        # Without this check an installed Latchwork would be measured instead.
        if not os.path.isfile(os.path.join(path, "latchwork", "__init__.py")):
            raise argparse.ArgumentTypeError(f"{place}: expected a folder that holds the package latchwork")
        return Build(label, sys.executable, environment | {"PYTHONPATH": path})
    if not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{place}: expected a Python interpreter or a folder")
    return Build(label, path, environment)


def plan(
    description: dict[str, Any], chosen: Iterable[str], kinds: list[str] | None, thread_counts: Iterable[int]
) -> list[Planned]:
    """List all measurements, in order."""
    groups, usual, possible = (description[key] for key in ("groups", "kinds", "possible_kinds"))
    names = list(dict.fromkeys(name for choice in chosen for name in groups.get(choice, [choice])))
    if unknown := [name for name in names if name not in usual]:
        sys.exit(
            f"--cases: expected groups ({', '.join(groups)}) or cases ({', '.join(usual)}), got {', '.join(unknown)}"
        )
    return [
        Planned(name, kind, threads)
        for threads in thread_counts
        for name in names
        for kind in (usual[name] if kinds is None else kinds)
        if kind in possible[name]
    ]


def measure(builds: list[Build], planned: Planned, rounds: int | None) -> list[Times]:
    """Time both builds in turn."""
    times: list[Times] = [[] for _ in builds]
    begin = time.monotonic()

    def complete() -> bool:
        late = rounds is None and time.monotonic() - begin > SECONDS_OF_ROUNDS
        return len(times[0]) >= (FEWEST_ROUNDS if late else rounds or ROUNDS)

    while not complete():
        with Child(builds[0], planned.threads) as old, Child(builds[1], planned.threads) as new:
            children = [old, new]
            iterations = max([child.ask("prepare", planned.case, planned.kind) for child in children])
            rounds_of_both = ROUNDS_OF_A_PROCESS if iterations > 1 else ROUNDS_OF_A_PROCESS_OF_LONG_CALLS
            for _ in range(rounds_of_both):
                for which in (0, 1) if len(times[0]) % 2 == 0 else (1, 0):
                    times[which].append(children[which].ask("sample", iterations))
                if complete():
                    break
    return times


def compared(planned: Planned, old: Times, new: Times) -> dict[str, Any]:
    """Make the result of one measurement from its times."""
    by_rounds = [list(map(min, times)) for times in (old, new)]
    medians = [median(values) for values in by_rounds]
    minima = list(map(min, by_rounds))
    return {
        "case": planned.case,
        "kind": planned.kind,
        "threads": planned.threads,
        "old": medians[0],
        "new": medians[1],
        "ratio": medians[0] / medians[1],
        "ratio_of_minima": minima[0] / minima[1],
        "spread": max(map(spread, by_rounds)),
        "samples": {"old": old, "new": new},
    }


def spread(values: list[float]) -> float:
    """Return the distance between the quartiles as a share of the median."""
    if len(values) < 2:
        return 0.0
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return (upper - lower) / middle


def summary(results: list[dict[str, Any]]) -> list[str]:
    """Sum up the ratios of all measurements in a few lines."""
    worst = min(results, key=lambda result: result["ratio"])
    below = [result for result in results if result["ratio"] < LOWEST_RATIO]
    lines = [
        f"geometric mean of {len(results)}: {geometric_mean(r['ratio'] for r in results):.3f} by medians, "
        f"{geometric_mean(r['ratio_of_minima'] for r in results):.3f} by minima",
        f"worst: {name_of(worst)}: {worst['ratio']:.3f}, by minima {worst['ratio_of_minima']:.3f}",
        f"below {LOWEST_RATIO}: {len(below) or 'none'}",
    ]
    return lines + [
        f"  {name_of(result)}: {result['ratio']:.3f}, by minima {result['ratio_of_minima']:.3f}, "
        f"spread {100 * result['spread']:.0f} %"
        for result in below
    ]


def name_of(result: dict[str, Any]) -> str:
    return f"{result['case']} {result['kind']}, {result['threads']} thread{'s' * (result['threads'] > 1)}"


def words(text: str) -> list[str]:
    return text.split(",")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        serve(int(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", help="the build to compare with: an interpreter, or a folder with the package in it")
    parser.add_argument("new", help="the build that should be no slower")
    parser.add_argument(
        "--cases", type=words, default=words(DEFAULT_CASES), help=f"groups or cases, by default {DEFAULT_CASES}"
    )
    parser.add_argument(
        "--kinds", type=words, help="kinds to measure instead of each case's own: forward, step, training, update"
    )
    parser.add_argument("--threads", type=lambda text: list(map(positive, text.split(","))), help="by default 1 and 2")
    parser.add_argument(
        "--rounds",
        type=positive,
        help=f"by default {ROUNDS} or, where calls are long, as many as {SECONDS_OF_ROUNDS:.0f} s allow, but at least "
        f"{FEWEST_ROUNDS}",
    )
    parser.add_argument("--output", type=Path, metavar="JSON", help="keep the seconds of every sample here")
    arguments = parser.parse_args()
    try:
        builds = [build_of(label, getattr(arguments, label)) for label in ("old", "new")]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))

    descriptions = {}
    for build in builds:
        with Child(build, 1) as child:
            descriptions[build.label] = child.description
    old = descriptions["old"]
    thread_counts = arguments.threads or [count for count in (1, 2) if count <= old["usable_cpus"]]
    planned = plan(old, arguments.cases, arguments.kinds, thread_counts)
    if not planned:
        parser.error("--cases and --kinds leave nothing to measure")
    for label, description in descriptions.items():
        print(f"{label}: {description['folder']}, {description['latchwork']}, {description['isa']}")
    print("\n| case | kind | threads | rounds | old, us | new, us | old / new | by minima | spread |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    results = []
    for one in planned:
        result = compared(one, *measure(builds, one, arguments.rounds))
        results.append(result)
        rounds = len(result["samples"]["old"])
        microseconds = [f"{1e6 * result[label]:,.2f}" for label in descriptions]
        ratios = [f"{result[key]:.3f}" for key in ("ratio", "ratio_of_minima")]
        cells = [one.case, one.kind, one.threads, rounds, *microseconds, *ratios, f"{100 * result['spread']:.0f} %"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print("\n" + "\n".join(summary(results)))
    if arguments.output:
        document = {
            "builds": {
                label: {key: description[key] for key in ("latchwork", "folder", "isa")}
                for label, description in descriptions.items()
            },
            "measurements": results,
        }
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
