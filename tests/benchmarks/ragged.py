"""Compare a ragged batch with the same batch padded, interleaved in one process.

The figure is the time over the batch's share of the padded time. No step of padding is computed, so a batch whose
sequences fill half of the padded one should take half of the time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import latchwork as lw
import numpy as np
from latchwork.benchmark import timing

# Rows and hidden sizes. Lengths are uniform between a tenth of the steps and all of them.
SHAPES = ((8, 256), (32, 128), (64, 512), (256, 64), (100, 48))
STEPS, INPUT_SIZE = 100, 32
KINDS = ("forward", "bidirectional forward", "training")
BOUND = 1.15  # the bound holds for forward calls

Jobs = dict[str, Callable[[], object]]


def lengths_of(rows: int) -> dict[str, np.ndarray]:
    """Return the same lengths in random order and with the longest first."""
    lengths = np.random.default_rng(1).integers(STEPS // 10, STEPS + 1, rows)
    lengths[rows // 2] = STEPS
    return {"unsorted": lengths, "sorted": np.sort(lengths)[::-1].copy()}


def make_jobs(kind: str, rows: int, hidden_size: int) -> Jobs:
    """Return functions that call the padded batch, and the ragged batch for each order of the lengths."""
    lstm = lw.LSTM(INPUT_SIZE, hidden_size, bidirectional=kind.startswith("bidirectional"), seed=0)
    random = np.random.default_rng(0)
    x = random.standard_normal((STEPS, rows, INPUT_SIZE), dtype=np.float32)
    batches: dict[str, np.ndarray | None] = {"padded": None, **lengths_of(rows)}
    if kind != "training":
        return {name: lambda lengths=lengths: lstm(x, lengths=lengths) for name, lengths in batches.items()}
    d_output = random.standard_normal((STEPS, rows, hidden_size), dtype=np.float32)
    gradients = lstm.record(x).backward(d_output)
    return {
        name: lambda lengths=lengths: lstm.record(x, lengths=lengths).backward(d_output, into=gradients)
        for name, lengths in batches.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with a table for each")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path, help="keep the medians here, in seconds")
    arguments = parser.parse_args()
    print(f"T = {STEPS}, in = {INPUT_SIZE}, float32, {lw.cpu_info()['isa']}, {arguments.rounds} rounds")
    print(f"time over the batch's share of the padded time; bound of a forward call: {BOUND}")
    results = []
    for threads in map(int, arguments.threads.split(",")):
        lw.set_num_threads(threads)
        print(f"\n| {threads} thread(s) | share | kind | padded, ms | unsorted | longest first |")
        print("| --- | --- | --- | --- | --- | --- |")
        for rows, hidden_size in SHAPES:
            share = float(lengths_of(rows)["sorted"].sum()) / (rows * STEPS)
            for kind in KINDS:
                times = timing.medians(make_jobs(kind, rows, hidden_size), arguments.rounds)
                results.append({"threads": threads, "N": rows, "H": hidden_size, "kind": kind, "share": share} | times)
                ratios = [times[order] / (share * times["padded"]) for order in ("unsorted", "sorted")]
                cells = [f"{ratio:.2f}{' !' if kind != 'training' and ratio > BOUND else ''}" for ratio in ratios]
                print(
                    f"| N = {rows}, H = {hidden_size} | {share:.2f} | {kind} "
                    f"| {times['padded'] * 1e3:.2f} | {' | '.join(cells)} |",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
