"""Compare one call of a network of many members with one call for each member, interleaved in one process."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import latchwork as lw
import numpy as np
from latchwork.benchmark import timing

Jobs = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def make_jobs(members: int, steps: int, rows: int, input_size: int, hidden_size: int) -> Jobs:
    """Return functions for each kind of work: member by member, and in one call."""
    network = lw.Network([lw.LSTM(input_size, hidden_size, seed=0)], members=members)
    singles = [network.member(index) for index in range(members)]
    random = np.random.default_rng(0)
    x = random.standard_normal((steps, rows, input_size), dtype=np.float32)
    separate = random.standard_normal((members, steps, rows, input_size), dtype=np.float32)
    y = random.standard_normal((steps, rows, hidden_size), dtype=np.float32)
    d_output = random.standard_normal((members, steps, rows, hidden_size), dtype=np.float32)
    grads = network.record(x).backward(d_output)
    each_grads = [one.record(x).backward(d) for one, d in zip(singles, d_output, strict=True)]

    def train_each() -> None:
        for one, d, into in zip(singles, d_output, each_grads, strict=True):
            one.record(x).backward(d, into=into)

    def trainer_of(model: lw.Network, seed: int) -> lw.Trainer:
        return lw.Trainer(model, "squared_error", lw.optim.Adam(lr=1e-3), clip_norm=1.0, seed=seed)

    # These train copies, so that the weights of the other kinds of work stay as they are.
    trainer = trainer_of(lw.Network.stack(singles), 0)
    trainers = [trainer_of(lw.Network.stack([single]), index) for index, single in enumerate(singles)]
    return {
        "forward, shared input": (lambda: [one(x) for one in singles], lambda: network(x)),
        "forward, separate input": (
            lambda: [one(its_x) for one, its_x in zip(singles, separate, strict=True)],
            lambda: network(separate),
        ),
        "training: record and backward": (train_each, lambda: network.record(x).backward(d_output, into=grads)),
        "update: Trainer.step": (lambda: [one.step(x, y) for one in trainers], lambda: trainer.step(x, y)),
    }


def check_bits(jobs: Jobs) -> None:
    """Raise AssertionError unless one call gives bit for bit what the calls of the members give."""
    each, together = (job() for job in jobs["forward, separate input"])
    assert all(np.array_equal(its_output[0], one) for its_output, one in zip(each, together[0], strict=True))
    each, together = (job() for job in jobs["update: Trainer.step"])
    assert [loss for loss, _ in each] == together[0].tolist()


def measure(jobs: Jobs, rounds: int) -> dict[str, tuple[float, float]]:
    """Return medians in seconds: of a call for each member, and of one call for all."""
    times = timing.medians({(kind, which): jobs[kind][which] for kind in jobs for which in range(2)}, rounds)
    return {kind: (times[kind, 0], times[kind, 1]) for kind in jobs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("members", 100), ("steps", 50), ("rows", 8), ("input-size", 8), ("hidden-size", 16)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--threads", default="1,2", help="numbers of threads of both sides, with a table for each")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="keep the medians here, in seconds, by number of threads")
    arguments = parser.parse_args()
    shape = (arguments.members, arguments.steps, arguments.rows, arguments.input_size, arguments.hidden_size)
    print(
        "M = {}, T = {}, N = {}, in = {}, H = {}, float32, ".format(*shape)
        + f"{lw.cpu_info()['isa']}, {arguments.rounds} rounds"
    )
    results = {}
    for threads in map(int, arguments.threads.split(",")):
        lw.set_num_threads(threads)
        jobs = make_jobs(*shape)
        check_bits(jobs)
        results[threads] = measure(jobs, arguments.rounds)
        print(f"\n| {threads} thread(s) | {arguments.members} calls, ms | one call, ms | factor |")
        print("| --- | --- | --- | --- |")
        for kind, (each, together) in results[threads].items():
            print(f"| {kind} | {each * 1e3:.2f} | {together * 1e3:.2f} | {each / together:.2f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
