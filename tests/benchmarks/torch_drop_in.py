"""Compare `latchwork.torch` with PyTorch's own modules, and whole training steps with Latchwork's `Trainer`, in turn.

A training step sets gradients to zero, runs forward and backward, clips and updates by PyTorch's fused Adam, and reads
the loss. Figures are PyTorch's time over the other's: above 1, the other is faster. "share" is the drop-in's figure
over the trainer's, and "PyTorch's part" how much of the drop-in's step PyTorch's loss, clipping and Adam take, which
the trainer does without. "own threads" is the drop-in on threads of Latchwork's own rather than on PyTorch's.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

import latchwork as lw
import latchwork.torch
import numpy as np
import torch
from latchwork import _core
from latchwork.benchmark import cases, timing
from latchwork.benchmark.cases import Case
from latchwork.torch.threads import team_function
from torch.nn.utils.rnn import pack_padded_sequence

Jobs = dict[str, Callable[[], object]]
KINDS = {"PyTorch": torch.nn.LSTM, "drop-in": latchwork.torch.LSTM}
CELLS = {"PyTorch": torch.nn.LSTMCell, "drop-in": latchwork.torch.LSTMCell}

# Rows and hidden sizes of ragged batches; lengths are uniform between a tenth of the steps and all of them.
RAGGED = ((8, 256), (32, 128), (64, 512), (256, 64), (100, 48))
RAGGED_STEPS, RAGGED_FEATURES = 100, 32
SMALL_STEPS = (1, 2, 5, 10)
CELL_SIZES, CELL_ROWS, CELL_STEPS = ((64, 128), (256, 512)), (1, 4, 16, 64), 10


def filled(module: torch.nn.Module, case: Case) -> torch.nn.Module:
    """Give a module the weights of a case."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in cases.weights(case).items()})
    return module


def training_step(module: torch.nn.Module, x: torch.Tensor, target: torch.Tensor) -> Callable[[], float]:
    """Return a function that runs one step of a usual training loop."""
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, lr=cases.LEARNING_RATE, fused=True)
    squared_error = torch.nn.MSELoss()

    def step() -> float:
        optimizer.zero_grad()
        loss = squared_error(module(x)[0], target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, cases.CLIP_NORM)
        optimizer.step()
        return float(loss.item())

    return step


def on_own_threads(job: Callable[[], object]) -> Callable[[], object]:
    """Return a job whose calls of the drop-in do not run on PyTorch's threads."""
    function = team_function()

    def run() -> object:
        _core.set_team_function(0)
        try:
            return job()
        finally:
            _core.set_team_function(function)

    return run


def part_of_pytorch(module: torch.nn.Module, output: torch.Tensor, target: torch.Tensor) -> Callable[[], float]:
    """Return a function that runs what a step takes beside the module: the output and all gradients are there."""
    parameters = list(module.parameters())
    gradients = [torch.randn_like(parameter) for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, lr=cases.LEARNING_RATE, fused=True)
    squared_error = torch.nn.MSELoss()
    output.requires_grad_()

    def step() -> float:
        optimizer.zero_grad()
        output.grad = None
        loss = squared_error(output, target)
        loss.backward()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, cases.CLIP_NORM)
        optimizer.step()
        return float(loss.item())

    return step


def training_jobs(case: Case) -> Jobs:
    """Return a whole training step of each."""
    x, target = cases.inputs(case, "update"), cases.output_sized(case)
    shape = case.input_size, case.hidden_size, case.layers
    jobs: Jobs = {
        name: training_step(filled(kind(*shape), case), torch.from_numpy(x), torch.from_numpy(target))
        for name, kind in KINDS.items()
    }
    jobs["own threads"] = on_own_threads(jobs["drop-in"])
    jobs["part"] = part_of_pytorch(
        filled(torch.nn.LSTM(*shape), case), torch.zeros(target.shape), torch.from_numpy(target)
    )
    layer = lw.LSTM(*shape)
    layer.load_state_dict(cases.weights(case))
    trainer = lw.Trainer(layer, "squared_error", lw.optim.Adam(lr=cases.LEARNING_RATE), clip_norm=cases.CLIP_NORM)
    return jobs | {"trainer": lambda: trainer.step(x, target)}


def packing_share(case: Case, rounds: int) -> float:
    """Give the share of a training step in which weights that have changed are copied and packed.

    That is what a call of one step and one row takes longer after a write into each parameter than after a write into
    each of other tensors of the same sizes.
    """
    x, target = torch.from_numpy(cases.inputs(case, "update")), torch.from_numpy(cases.output_sized(case))
    module = filled(latchwork.torch.LSTM(case.input_size, case.hidden_size, case.layers), case)
    first = x[:1, :1]
    elements = [parameter.data.view(-1)[:1] for parameter in module.parameters()]
    others = [element.clone() for element in elements]

    def call(written: list[torch.Tensor]) -> object:
        for element in written:
            element.neg_()
        return module(first)

    jobs: Jobs = {"changed": lambda: call(elements), "unchanged": lambda: call(others)}
    jobs["step"] = training_step(module, x, target)
    times = medians(jobs, rounds)
    return (times["changed"] - times["unchanged"]) / times["step"]


def packed_jobs(rows: int, hidden_size: int) -> Jobs:
    """Return forward and backward on a packed batch."""
    lengths = torch.from_numpy(np.random.default_rng(1).integers(RAGGED_STEPS // 10, RAGGED_STEPS + 1, rows))
    lengths[rows // 2] = RAGGED_STEPS
    packed = pack_padded_sequence(torch.randn(RAGGED_STEPS, rows, RAGGED_FEATURES), lengths, enforce_sorted=False)
    jobs: Jobs = {}
    for name, kind in KINDS.items():
        module = kind(RAGGED_FEATURES, hidden_size)
        jobs[name] = lambda module=module: module(packed)[0].data.sum().backward()
    return jobs


def small_jobs(steps: int, backward: bool) -> Jobs:
    """Return short calls of a small layer, whose time is that of Python."""
    x = torch.randn(steps, 1, 8)
    jobs: Jobs = {}
    for name, kind in KINDS.items():
        module = kind(8, 32)
        jobs[name] = (lambda module=module: module(x)[0].sum().backward()) if backward else without_grad(module, x)
    return jobs


def without_grad(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return a call in inference."""

    def call() -> object:
        with torch.no_grad():
            return module(x)

    return call


def cell_jobs(features: int, hidden_size: int, rows: int, backward: bool) -> Jobs:
    """Return loops over a cell."""
    x = torch.randn(CELL_STEPS, rows, features)
    jobs: Jobs = {}
    for name, kind in CELLS.items():
        cell = kind(features, hidden_size)

        def loop(cell: torch.nn.Module = cell) -> torch.Tensor:
            state = None
            for step in x:
                state = cell(step, state)
            return state[0]

        def forward(loop: Callable[[], torch.Tensor] = loop) -> object:
            with torch.no_grad():
                return loop()

        jobs[name] = (lambda loop=loop: loop().sum().backward()) if backward else forward
    return jobs


def medians(jobs: Jobs, rounds: int) -> dict[str, float]:
    """Give the seconds that each takes, medians of interleaved samples."""
    loops = {name: repeated(job) for name, job in jobs.items()}
    iterations = {name: timing.iterations_for_sample(loop) for name, loop in loops.items()}
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, loop in loops.items():
            timing.settle()
            samples[name].append(timing.sample(loop, iterations[name]))
    return {name: median(values) for name, values in samples.items()}


def ratios(jobs: Jobs, rounds: int) -> dict[str, float]:
    """Give PyTorch's time over each other one's."""
    times = medians(jobs, rounds)
    return {name: times["PyTorch"] / seconds for name, seconds in times.items() if name != "PyTorch"}


def repeated(job: Callable[[], object]) -> timing.Loop:
    """Return a loop over a job."""

    def loop(iterations: int) -> None:
        for _ in range(iterations):
            job()

    return loop


def training_cases() -> list[Case]:
    """Give the shapes whose whole training steps `latchwork bench` measures."""
    return [case for case in cases.CASES.values() if "update" in case.kinds]


def all_jobs(groups: set[str]) -> dict[str, Callable[[], Jobs]]:
    """Name what is measured."""
    found: dict[str, Callable[[], Jobs]] = {}
    if "training" in groups:
        for case in training_cases():
            found[f"training step, {case.name}"] = lambda case=case: training_jobs(case)
    if "packed" in groups:
        for rows, hidden in RAGGED:
            found[f"packed, N = {rows}, H = {hidden}"] = lambda rows=rows, hidden=hidden: packed_jobs(rows, hidden)
    for backward in (False, True):
        what = "forward and backward" if backward else "forward"
        for steps in SMALL_STEPS if "small" in groups else ():
            name = f"LSTM(8, 32), T = {steps}, {what}"
            found[name] = lambda steps=steps, backward=backward: small_jobs(steps, backward)
        for features, hidden in CELL_SIZES if "cell" in groups else ():
            for rows in CELL_ROWS:
                name = f"LSTMCell({features}, {hidden}), N = {rows}, {CELL_STEPS} steps, {what}"
                found[name] = lambda sizes=(features, hidden, rows, backward): cell_jobs(*sizes)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with a table for each")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--groups", default="training,packing,packed,small,cell")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    arguments = parser.parse_args()
    print(f"float32, {lw.cpu_info()['isa']}, PyTorch {torch.__version__}, {arguments.rounds} rounds")
    results = []
    for threads in map(int, arguments.threads.split(",")):
        lw.set_num_threads(threads)
        torch.set_num_threads(threads)
        groups = set(arguments.groups.split(","))
        if "packing" in groups:
            print(f"\n{threads} thread(s), the share of a training step in which weights are copied and packed:")
            for case in training_cases():
                print(f"{case.name}: {packing_share(case, arguments.rounds):.1%}", flush=True)
        jobs = all_jobs(groups)
        if not jobs:
            continue
        columns = f"{threads} thread(s): PyTorch's time over", "drop-in", "own threads", "trainer", "share"
        print(f"\n| {' | '.join(columns)} | PyTorch's part |\n|{' --- |' * 6}")
        for name, make in jobs.items():
            found = ratios(make(), arguments.rounds)
            rest = " |  |  | "
            if "trainer" in found:
                share, part = found["drop-in"] / found["trainer"], found["drop-in"] / found["part"]
                rest = f"{found['own threads']:.2f} | {found['trainer']:.2f} | {share:.2f} | {part:.0%}"
            print(f"| {name} | {found['drop-in']:.2f} | {rest} |", flush=True)
            results.append({"threads": threads, "what": name, **found})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
