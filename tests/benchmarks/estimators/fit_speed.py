"""Time a whole `fit`, skorch's, a plain PyTorch loop's and that of `latchwork.Trainer` alone, interleaved."""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CLASSES = 4
LR = 1e-2
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
LEAST_SHARE_OF_TRAINER = 0.9


class Case(NamedTuple):
    hidden_size: int
    steps: int
    batch_size: int
    samples: int
    features: int
    needed: float  # how many times as fast as PyTorch on a machine with AVX-512


CASES = {"small": Case(32, 50, 32, 10_000, 8, 4.0), "large": Case(128, 365, 256, 1_024, 8, 2.2)}


def main() -> int:
    """Print times and ratios; 1 if `fit` gains too little over PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES), help="names with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    # PyTorch and Latchwork read these when they are imported.
    os.environ["OMP_NUM_THREADS"] = os.environ["LATCHWORK_NUM_THREADS"] = str(arguments.threads)
    if importlib.util.find_spec("torch") is None:
        print("no PyTorch: pip install torch", file=sys.stderr)
        return 2
    if importlib.util.find_spec("skorch") is None:
        print("no skorch, which is left out: pip install skorch", file=sys.stderr)
    missed = False
    for name in arguments.cases.split(","):
        missed |= measure(name, CASES[name], arguments.rounds)
    return int(missed)


def measure(name: str, case: Case, rounds: int) -> bool:
    """Time a case; say whether it misses what is needed."""
    import latchwork as lw

    jobs = make_jobs(case)
    for job in jobs.values():
        job(min(case.samples, 4 * case.batch_size))  # pools and caches awake, code compiled
    seconds: dict[str, list[float]] = {side: [] for side in jobs}
    for turn in range(rounds):
        sides = list(jobs)
        for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
            seconds[side].append(jobs[side](case.samples))
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    print(
        f"{name}: hidden {case.hidden_size}, T {case.steps}, batch {case.batch_size}, {case.samples} samples, an epoch"
    )
    print("| side | median, s | fastest, s | its median over that of fit |\n| --- | --- | --- | --- |")
    for side, median in medians.items():
        print(f"| {side} | {median:.3f} | {min(seconds[side]):.3f} | {median / medians['fit']:.2f} |")
    gain = medians["PyTorch loop"] / medians["fit"]
    trainer_gain = medians["PyTorch steps"] / medians["Trainer steps"]
    print(
        f"fit gains {gain:.2f} over the PyTorch loop, Trainer alone {trainer_gain:.2f} over PyTorch's steps alone",
        end="",
    )
    print(f": {gain / trainer_gain:.2f} of it\n", flush=True)
    # What is needed is known for machines with AVX-512 alone; others differ in what the trainer itself can gain.
    needed = case.needed if lw.cpu_info()["isa"] == "avx512" else LEAST_SHARE_OF_TRAINER * trainer_gain
    return gain < needed


def make_jobs(case: Case) -> dict[str, Callable[[int], float]]:
    """Give what trains on so many samples for an epoch and says how long it took."""
    import latchwork as lw
    import torch

    random = np.random.default_rng(0)
    X = random.standard_normal((case.samples, case.steps, case.features)).astype(np.float32) * 3 + 5
    y = random.integers(0, CLASSES, case.samples)

    def estimator(samples: int) -> float:
        model = lw.LSTMClassifier(
            case.hidden_size,
            bidirectional=False,
            recurrent_dropout=0.0,
            max_epochs=1,
            batch_size=case.batch_size,
            random_state=0,
        )
        begin = time.perf_counter()
        model.fit(X[:samples], y[:samples])
        return time.perf_counter() - begin

    def network() -> Any:
        return Net(case)

    def pytorch_loop(samples: int) -> float:
        begin = time.perf_counter()
        x = torch.from_numpy(standardised(X[:samples]))
        labels = torch.from_numpy(y[:samples])
        net = network()
        optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=WEIGHT_DECAY, fused=True)
        steps = -(-samples // case.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
        for chosen in torch.randperm(samples).split(case.batch_size):
            pytorch_step(net, optimizer, x[chosen], labels[chosen])
            schedule.step()
        return time.perf_counter() - begin

    def pytorch_steps(samples: int) -> float:
        net = network()
        optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=WEIGHT_DECAY, fused=True)
        x = torch.from_numpy(standardised(X[:samples]))
        batches = list(zip(x.split(case.batch_size), torch.from_numpy(y[:samples]).split(case.batch_size), strict=True))
        begin = time.perf_counter()
        for batch in batches:
            pytorch_step(net, optimizer, *batch)
        return time.perf_counter() - begin

    def trainer_steps(samples: int) -> float:
        net = lw.Network(
            [lw.LSTM(case.features, case.hidden_size, seed=0), lw.Last(), lw.Linear(case.hidden_size, CLASSES, seed=0)]
        )
        optimizer = lw.optim.AdamW(lr=LR, weight_decay=WEIGHT_DECAY)
        trainer = lw.Trainer(net, "cross_entropy", optimizer, clip_norm=CLIP_NORM, seed=0)
        x = np.ascontiguousarray(standardised(X[:samples]).transpose(1, 0, 2))
        batches = [
            (np.ascontiguousarray(x[:, begin : begin + case.batch_size]), y[begin : begin + case.batch_size])
            for begin in range(0, samples, case.batch_size)
        ]
        begin = time.perf_counter()
        for batch in batches:
            trainer.step(*batch)
        return time.perf_counter() - begin

    class Net(torch.nn.Module):
        def __init__(self, case: Case) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(case.features, case.hidden_size, batch_first=True)
            self.linear = torch.nn.Linear(case.hidden_size, CLASSES)

        def forward(self, x: Any) -> Any:
            _, (h, _) = self.lstm(x)
            return self.linear(h[-1])

    def pytorch_step(net: Any, optimizer: Any, x: Any, labels: Any) -> None:
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        loss.item()  # a history needs it

    def skorch_fit(samples: int) -> float:
        import skorch
        from skorch.callbacks import GradientNormClipping, LRScheduler

        steps = -(-samples // case.batch_size)
        model = skorch.NeuralNetClassifier(
            Net,
            module__case=case,
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=WEIGHT_DECAY,
            optimizer__fused=True,
            lr=LR,
            max_epochs=1,
            batch_size=case.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            callbacks=[
                GradientNormClipping(CLIP_NORM),
                LRScheduler("LambdaLR", lr_lambda=lambda step: rate(step, steps), step_every="batch"),
            ],
        )
        begin = time.perf_counter()
        model.fit(standardised(X[:samples]), y[:samples])
        return time.perf_counter() - begin

    jobs = {"fit": estimator, "PyTorch loop": pytorch_loop}
    if importlib.util.find_spec("skorch") is not None:
        jobs["skorch"] = skorch_fit
    return jobs | {"Trainer steps": trainer_steps, "PyTorch steps": pytorch_steps}


def standardised(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each feature."""
    return (X - X.mean(axis=(0, 1))) / X.std(axis=(0, 1))


def rate(step: int, steps: int) -> float:
    """Give the learning rate's factor: a tenth of warm-up, then half a cosine."""
    done = step / steps
    if done < 0.1:
        return min((done + 1 / steps) / 0.1, 1.0)
    return float(0.5 + 0.5 * np.cos(np.pi * (done - 0.1) / 0.9))


if __name__ == "__main__":
    sys.exit(main())
