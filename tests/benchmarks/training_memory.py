"""Compare the memory of a training step with the peers', without weights, input and target. Linux with glibc only.

Each measurement has a process of its own. First it takes a small step of another shape, for the memory of libraries and
threads. It then prepares the case and takes steps, and asks the kernel for the largest resident memory meanwhile. From
that it subtracts what was resident after the small step, and the computed size of the weights, the input and the target
(or the gradient with respect to the output). Everything else counts as the step's, even what a peer prepares
beforehand, because some peers prepare the optimiser's moments and others do not. Pages of files are left out, because
they are libraries' code.

The kind varied is training on sequences of varying length: first the case's, then at least a sixth of it. JAX would
compile each length anew and is left out.
"""

import argparse
import ctypes
import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from latchwork.benchmark import cases
from latchwork.benchmark.cases import CASES, Case
from latchwork.benchmark.peers import OURS, PEERS
from latchwork.benchmark.peers.peer import MissingPeerError

KINDS = ("training", "update", "varied")
TRAINING_PEERS = [name for name, peer in PEERS.items() if {"training", "update"} <= set(peer.kinds)]
VARIED_PEERS = (OURS, "torch")
FURTHER_STEPS = 10
MEGABYTE = 1e6


def status() -> dict[str, int]:
    """Return what the kernel says about the memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    values = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): 1024 * int(kibibytes) for name, kibibytes, _ in values}


def unnamed(resident: str) -> int:
    """Return VmRSS, the resident memory, or VmHWM, its largest value so far, without pages of files."""
    values = status()
    return values[resident] - values["RssFile"]


def forget_peak() -> None:
    """Set VmHWM back to what is resident now. (getrusage's peak covers the whole life of the process.)"""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def give_back_free_memory() -> None:
    """Give free memory back to the system: malloc's counts as resident, so a step that used it would not show."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def data_bytes(case: Case) -> int:
    """Return the bytes of weights, input, and target or output gradient, each of which every peer holds once."""
    sequences = case.steps * case.rows * (case.input_size + case.output_size)
    return 4 * (sum(value.size for value in cases.weights(case).values()) + sequences)


def varied_loop(name: str, case: Case) -> Callable[[int], None]:
    """Return a loop that trains one network, each time on another number of the case's steps."""
    x, d_output = cases.inputs(case, "training"), cases.output_sized(case)
    shape = case.input_size, case.hidden_size, case.layers
    bidirectional = case.directions == 2
    library = importlib.import_module(name)
    if name == OURS:
        ours = library.LSTM(*shape, bidirectional=bidirectional)

        def train(steps: int) -> None:
            ours.record(x[:steps]).backward(d_output[:steps], input_gradient=False)
    else:
        theirs = library.nn.LSTM(*shape, bidirectional=bidirectional)
        tensor, d_tensor = library.from_numpy(x), library.from_numpy(d_output)

        def train(steps: int) -> None:
            theirs(tensor[:steps])[0].backward(d_tensor[:steps])

    further = np.random.default_rng(0).integers(case.steps // 6, case.steps + 1, FURTHER_STEPS)
    lengths = iter([case.steps, *map(int, further)])

    def loop(iterations: int) -> None:
        for _ in range(iterations):
            train(next(lengths))

    return loop


def run_child(name: str, case: Case, kind: str, threads: int) -> None:
    """Print the bytes of one peer, or why it is missing."""
    try:
        peer = PEERS[name](threads)
    except MissingPeerError as error:
        print(json.dumps({"missing": str(error)}))
        return
    warming = "training" if kind == "varied" else kind
    peer.prepare(replace(case, steps=3, rows=2, input_size=8, hidden_size=16), warming).loop(2)
    data = data_bytes(case)
    give_back_free_memory()
    before = unnamed("VmRSS") + data

    loop = varied_loop(name, case) if kind == "varied" else peer.prepare(case, kind).loop
    give_back_free_memory()
    whole = status()["VmHWM"]
    forget_peak()
    loop(1)
    first = unnamed("VmHWM") - before
    whole = max(whole, status()["VmHWM"])
    forget_peak()
    for _ in range(FURTHER_STEPS):
        loop(1)
    # Read before the peak: to read takes a little memory itself, which may raise both.
    kept = unnamed("VmRSS") - before
    further = unnamed("VmHWM") - before
    whole = max(whole, status()["VmHWM"])
    figures = {"first": first, "further": further, "kept": kept, "whole": whole, "data": data}
    print(json.dumps({"version": peer.description["version"], **figures}))


def child_figures(name: str, case: str, kind: str, threads: int) -> dict[str, Any]:
    """Measure one peer in a fresh process."""
    command = [sys.executable, __file__, "--child", name, "--cases", case, "--kinds", kind, "--threads", str(threads)]
    environment = {**os.environ, **PEERS[name].environment(threads, None)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measurements(names: list[str], kinds: list[str], thread_counts: list[int]) -> Iterator[dict[str, Any]]:
    """Measure all peers that are installed, and name the others on standard error."""
    peers = list(TRAINING_PEERS)
    for threads in thread_counts:
        for case in names:
            for kind in kinds:
                found = {}
                for name in [name for name in peers if kind != "varied" or name in VARIED_PEERS]:
                    found[name] = child_figures(name, case, kind, threads)
                    if "missing" in found[name]:
                        print(f"{name}: {found.pop(name)['missing']}", file=sys.stderr)
                        peers.remove(name)
                ours = found[OURS]
                ratios = {
                    name: {step: ours[step] / figures[step] for step in ("first", "further")}
                    for name, figures in found.items()
                    if name != OURS
                }
                yield {"case": case, "kind": kind, "threads": threads, "peers": found, "ratios": ratios}


def rows(measurement: dict[str, Any]) -> Iterator[str]:
    """Write one row of the table for each peer."""
    for name, figures in measurement["peers"].items():
        cells = [measurement[key] for key in ("case", "kind", "threads")] + [f"{name} {figures['version']}"]
        cells += [f"{figures[key] / MEGABYTE:.1f}" for key in ("first", "further", "kept", "whole")]
        cells += [f"{ratio:.2f}" for ratio in measurement["ratios"].get(name, {}).values()] or ["", ""]
        yield f"| {' | '.join(map(str, cells))} |"


def names_from(text: str, known: list[str], parser: argparse.ArgumentParser) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="hydro,charlm", help="any cases of `latchwork bench`")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--threads", default="1,2", help="numbers of threads, measured one after the other")
    parser.add_argument("--json", type=Path, help="keep all figures here, in bytes")
    parser.add_argument("--child", choices=TRAINING_PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (Path("/proc/self/clear_refs").exists() and hasattr(ctypes.CDLL(None), "malloc_trim")):
        parser.error("this program needs Linux with glibc: /proc/self/clear_refs and malloc_trim")
    names, kinds = names_from(arguments.cases, list(CASES), parser), names_from(arguments.kinds, list(KINDS), parser)
    thread_counts = list(map(int, arguments.threads.split(",")))
    if arguments.child is not None:
        run_child(arguments.child, CASES[names[0]], kinds[0], thread_counts[0])
        return

    print(
        f"MB without weights, input and target: most in the first step, and in {FURTHER_STEPS} further; kept after the "
        "last; whole: the most that the process had resident, with libraries. Ratios: Latchwork's over the peer's.\n"
    )
    print("| case | kind | threads | peer | first | further | kept | whole | first, ratio | further, ratio |")
    print("| --- | --- |" + " --- |" * 8)
    results = []
    for measurement in measurements(names, kinds, thread_counts):
        results.append(measurement)
        print("\n".join(rows(measurement)), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
