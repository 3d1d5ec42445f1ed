"""``latchwork bench``: this machine, beside whatever peers are installed."""

import argparse
import json
import os

from latchwork._progress import ProgressBar
from latchwork._writing import write_atomically
from latchwork.benchmark import measuring, report
from latchwork.benchmark.cases import CASES, DTYPES, GROUPS, KINDS
from latchwork.benchmark.measuring import Planned
from latchwork.benchmark.peers import OTHERS, OURS, PEERS
from latchwork.benchmark.workers import Worker
from latchwork.cli.arguments import integer, integers, names
from latchwork.cli.errors import CommandError, describe
from latchwork.cli.output import check_writable
from latchwork.machine import cpu_info, machine_text

DEFAULT_GROUPS = ["inference", "training"]


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "bench",
        help="measure the speed here, beside other libraries that are installed",
        description="Time Latchwork on this machine, beside PyTorch (torch), ONNX Runtime (onnxruntime and onnx), "
        "OpenVINO (openvino) and JAX (jax) if they are installed: the same weights, data, dtype and number of "
        "threads. All that is timed by default takes about ten minutes. The exit status is 1 if a peer fails or its "
        "results differ.",
    )
    parser.add_argument(
        "--cases",
        type=names([*GROUPS, *CASES]),
        default=DEFAULT_GROUPS,
        metavar="NAME,...",
        help=f"groups or cases instead of {' and '.join(DEFAULT_GROUPS)}. "
        + " ".join(f"{group}: {', '.join(members)}." for group, members in GROUPS.items()),
    )
    parser.add_argument(
        "--kinds",
        type=names(KINDS),
        metavar="KIND,...",
        help="time these in every case, instead of each case's own. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in KINDS.items()),
    )
    parser.add_argument(
        "--threads",
        type=integers(1, 1024),
        metavar="COUNT,...",
        help="numbers of threads; by default 1 and the number of CPUs to use",
    )
    parser.add_argument(
        "--peers",
        type=names(OTHERS),
        default=OTHERS,
        metavar="NAME,...",
        help=f"compare only with these of {', '.join(OTHERS)}; an empty string for none",
    )
    parser.add_argument(
        "--rounds",
        type=integer(1, 10**6),
        help=f"samples of each peer; by default {measuring.ROUNDS}, or as many as {measuring.SECONDS_OF_ROUNDS:.0f} s "
        f"allow, but at least {measuring.FEWEST_ROUNDS}",
    )
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help="limit all to this instruction set, one of those that latchwork info lists as available; peers that "
        "cannot be limited are left out",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help=f"of weights, data and arithmetic; by default {DTYPES[0]}; peers that cannot compute in it are left out",
    )
    parser.add_argument("--json", metavar="FILE", help="write the measurements to this file too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print row by row, then summarise."""
    info = cpu_info()
    if arguments.isa is not None and arguments.isa not in info["available_isas"]:
        raise CommandError(f"--isa: expected one of {', '.join(info['available_isas'])}, got {arguments.isa!r}")
    if arguments.json:
        check_writable(arguments.json)
    cases = list(dict.fromkeys(name for chosen in arguments.cases for name in GROUPS.get(chosen, [chosen])))
    thread_counts = arguments.threads or sorted({1, info["usable_cpus"]})
    plan = measuring.plan(cases, arguments.kinds, thread_counts, arguments.dtype)
    if not plan:
        raise CommandError("--cases and --kinds leave nothing to measure")
    record = report.Run(arguments.isa, arguments.dtype, os.getloadavg()[0])
    peers = [OURS, *(name for name in arguments.peers if arguments.dtype in PEERS[name].dtypes)]
    for name in sorted({*arguments.peers} - {*peers}):
        record.missing[name] = f"it does not compute LSTMs in {arguments.dtype}"
    total = sum(planned.seconds(peers, arguments.rounds) for planned in plan)
    done = 0.0
    for threads in dict.fromkeys(planned.threads for planned in plan):
        with ProgressBar() as bar:
            bar.update(done / total, f"starts {', '.join(peers)}")
            workers = measuring.start(peers, threads, arguments.isa, record.missing)
        try:
            if OURS not in workers:
                raise CommandError(f"latchwork cannot be timed: {record.missing[OURS]}")
            if not record.descriptions:
                record.descriptions |= {name: worker.description for name, worker in workers.items()}
                total = sum(planned.seconds(workers, arguments.rounds) for planned in plan)
                _print_header(record, total)
            for planned in plan:
                if planned.threads == threads:
                    share = planned.seconds(workers, arguments.rounds)
                    measurement = _measure(workers, planned, arguments.rounds, done / total, share / total)
                    record.measurements.append(measurement)
                    done += share
                    print("\n".join([report.row(measurement, record.others), *report.notes(measurement)]), flush=True)
        finally:
            for worker in workers.values():
                worker.close()
    for line in ["", *report.summary(record.measurements), report.LEGEND]:
        print(line)
    if arguments.json:
        content = json.dumps(record.as_json(), indent=2) + "\n"
        try:
            write_atomically(arguments.json, content.encode())
        except OSError as error:
            raise CommandError(f"cannot write {arguments.json}: {describe(error)}") from error
    return 1 if any(result.note for m in record.measurements for result in m.peers.values()) else 0


def _measure(
    workers: dict[str, Worker], planned: Planned, rounds: int | None, done: float, share: float
) -> report.Measurement:
    """Make one measurement and show its progress. ``done``, ``share``: the part of the run before it, and its own."""
    label = f"{planned.case.name} {planned.kind}, {report.threads_text(planned.threads)}"
    with ProgressBar() as bar:
        measurement = measuring.measure(
            workers, planned, rounds, lambda part, doing: bar.update(done + share * part, f"{label}: {doing}")
        )
    if OURS not in workers:
        raise CommandError(f"{label}: latchwork's process has ended: nothing more can be compared")
    return measurement


def _print_header(run: report.Run, seconds: float) -> None:
    """Print machine, versions, and the table's first line."""
    for key, value in run.descriptions[OURS]["machine"].items():
        print(f"{key}: {machine_text(value)}".rstrip())
    print(f"dtype: {run.dtype}")
    for name, description in run.descriptions.items():
        print(f"{name}: {description['version']}")
    for name, reason in run.missing.items():
        print(f"{name}: missing: {reason}")
    if run.load_average > 0.5:
        print(f"load average: {run.load_average:.1f}: other programs run here, so times will vary")
    if not run.others:
        print("No peer to compare with: results are not verified.")
    print(f"duration: about {max(1, round(seconds / 60))} min")
    print("\n" + report.header(run.others), flush=True)
