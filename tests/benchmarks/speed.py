"""Time Latchwork beside PyTorch and ONNX Runtime: ``python tests/benchmarks/speed.py --help``."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import report
import timing
from cases import CASES, KINDS, Array, Case
from peers import PEERS, MissingPeerError
from report import OURS, Measurement, PeerResult
from verification import TOLERANCES, largest_difference
from workers import PeerError, Worker

OTHERS = [name for name in PEERS if name != OURS]
LEGEND = """
us: median over rounds of one call; every round visits every peer once, in rotating order, each in its own process.
ratio: the peer's time divided by Latchwork's; above 1 Latchwork is faster. spread: widest distance between quartiles,
over the median. difference: Latchwork's largest difference to the reference, over max(1, largest magnitude).
GF/s: Latchwork's arithmetic in matrix products, a backward pass counted as two forward passes.
training: Latchwork's gradients include those by the input and by the start state; PyTorch is not asked for them.
"""


def main() -> int:
    """Run what the command line asks for; the result is the exit status."""
    options = parse_options()
    load_average = os.getloadavg()[0]
    measurements: list[Measurement] = []
    descriptions: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for threads in options.threads:
        workers = start([OURS, *options.peers], threads, missing)
        if OURS not in workers:
            sys.exit(f"latchwork cannot be timed: {missing[OURS]}")
        if not descriptions:
            descriptions = {name: worker.description for name, worker in workers.items()}
            print_header(descriptions, missing, load_average)
        try:
            for name in options.cases:
                case = CASES[name]
                for kind in options.kinds or case.kinds:
                    measurement = measure(workers, case, kind, threads, options.rounds)
                    measurements.append(measurement)
                    print(report.row(measurement, [name for name in descriptions if name != OURS]), flush=True)
                    for line in report.notes(measurement):
                        print(line, flush=True)
                    if OURS not in workers:
                        sys.exit("latchwork's process has ended: nothing more can be compared")
        finally:
            for worker in workers.values():
                worker.close()
    means = report.geometric_means(measurements)
    print_means(means)
    print(LEGEND)
    if options.json:
        document = {
            "format_version": 1,
            "machine": descriptions[OURS]["machine"],
            "load_average_at_start": load_average,
            "versions": {name: description["version"] for name, description in descriptions.items()},
            "missing": missing,
            "measurements": [report.as_json(measurement) for measurement in measurements],
            "geometric_means": means,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    refused = any(result.note for measurement in measurements for result in measurement.peers.values())
    return 1 if refused else 0


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time Latchwork beside PyTorch and ONNX Runtime.")
    parser.add_argument(
        "--cases",
        type=_names(CASES),
        default=list(CASES),
        metavar="NAME,...",
        help="instead of all, of " + ", ".join(CASES),
    )
    parser.add_argument(
        "--kinds",
        type=_names(KINDS),
        metavar="KIND,...",
        help="time these in every case, instead of each case's own. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in KINDS.items()),
    )
    parser.add_argument("--threads", type=_thread_counts, default=[1, 2], metavar="COUNT,...", help="default: 1,2")
    parser.add_argument(
        "--peers",
        type=_names(OTHERS),
        default=OTHERS,
        metavar="NAME,...",
        help=f"instead of all, of {', '.join(OTHERS)}; an empty string for none",
    )
    parser.add_argument("--rounds", type=_positive, default=15, help="samples of each peer; default: 15")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    return parser.parse_args()


def start(names: Sequence[str], threads: int, missing: dict[str, str]) -> dict[str, Worker]:
    """A worker for each peer that is installed; the others, and why, go into `missing`."""
    workers = {}
    for name in names:
        if name not in missing:
            try:
                workers[name] = Worker(name, threads)
            except (MissingPeerError, PeerError) as error:
                missing[name] = str(error)
    return workers


def measure(workers: dict[str, Worker], case: Case, kind: str, threads: int, rounds: int) -> Measurement:
    """Prepare the case everywhere, compare the results, and time the peers that are right."""
    peers: dict[str, PeerResult] = {}
    results: dict[str, dict[str, Array]] = {}
    for name, worker in workers.items():
        try:
            answer = worker.prepare(case, kind)
        except PeerError as error:
            peers[name] = PeerResult(note=str(error))
        else:
            if answer is not None:
                results[name] = answer
    reference = next((name for name in OTHERS if name in results), None)
    differences = {
        name: largest_difference(answer, results[reference]) if reference else None for name, answer in results.items()
    }
    del results

    iterations: dict[str, int] = {}
    for name, difference in differences.items():
        if difference is not None and not difference <= TOLERANCES[kind]:
            note = f"differs by {difference:.1e} from {reference}; {TOLERANCES[kind]:.0e} is allowed: not timed"
            peers[name] = PeerResult(difference=difference, note=note)
            continue
        try:
            iterations[name] = workers[name].calibrate()
        except PeerError as error:
            peers[name] = PeerResult(difference=difference, note=str(error))

    samples: dict[str, list[float]] = {name: [] for name in iterations}
    settled = dict.fromkeys(iterations, True)
    for number in range(rounds):
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
    return Measurement(case, kind, threads, reference, {name: peers[name] for name in PEERS if name in peers})


def print_header(descriptions: dict[str, dict[str, Any]], missing: dict[str, str], load_average: float) -> None:
    """Machine, versions, and the table's first line."""
    for key, value in descriptions[OURS]["machine"].items():
        print(f"{key}: {value}")
    for name, description in descriptions.items():
        print(f"{name}: {description['version']}")
    for name, reason in missing.items():
        print(f"{name}: missing: {reason}")
    if load_average > 0.5:
        print(f"load average: {load_average:.1f}: other programs run here, so times will vary")
    if len(descriptions) == 1:
        print("No peer to compare with: results are not verified.")
    print("\n" + report.header([name for name in descriptions if name != OURS]), flush=True)


def print_means(means: Sequence[dict[str, Any]]) -> None:
    """Geometric means of the ratios."""
    if means:
        print("\ngeometric means of the ratios")
    for mean in means:
        threads = report.threads_text(mean["threads"])
        print(f"  {mean['kind']:<8} {threads:<10} {mean['peer']:<12} {mean['ratio']:6.2f}  (of {mean['cases']})")


def _names(known: Sequence[str] | dict[str, Any]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return chosen

    return parse


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _thread_counts(text: str) -> list[int]:
    return [_positive(count) for count in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
