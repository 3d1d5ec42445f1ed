"""The time of a training step with the option gradient_blocks over that without it, for three large networks."""

import argparse
from collections.abc import Callable

import latchwork as lw
import numpy as np
from latchwork.benchmark import timing

BLOCKS = (8, 16)


def language_model(
    rows: int, steps: int, vocabulary: int, embedding: int, hidden: int, layers: int
) -> Callable[[int], Callable[[], object]]:
    """Return what makes a job, a training step of a language model, for a number of blocks (0: the default)."""

    def job(blocks: int) -> Callable[[], object]:
        network = lw.Network(
            [
                lw.Embedding(vocabulary, embedding, seed=1),
                lw.LSTM(embedding, hidden, layers, seed=2),
                lw.Linear(hidden, vocabulary, seed=3),
            ]
        )
        trainer = lw.Trainer(network, "cross_entropy", lw.optim.SGD(lr=0.0), gradient_blocks=blocks or None)
        tokens = np.random.default_rng(0).integers(vocabulary, size=(steps + 1, rows))
        return lambda: trainer.step(tokens[:-1], tokens[1:])

    return job


def regressor(rows: int, steps: int, inputs: int, hidden: int) -> Callable[[int], Callable[[], object]]:
    """Return the same for one LSTM and its squared error."""

    def job(blocks: int) -> Callable[[], object]:
        random = np.random.default_rng(0)
        lstm = lw.LSTM(inputs, hidden, seed=1)
        trainer = lw.Trainer(lstm, "squared_error", lw.optim.SGD(lr=0.0), gradient_blocks=blocks or None)
        x = random.standard_normal((steps, rows, inputs), dtype=np.float32)
        y = random.standard_normal((steps, rows, hidden), dtype=np.float32)
        return lambda: trainer.step(x, y)

    return job


# The sizes of the cases of `latchwork bench` with these names.
CASES = {
    "charlm": language_model(rows=64, steps=100, vocabulary=100, embedding=128, hidden=512, layers=1),
    "ptb": language_model(rows=20, steps=35, vocabulary=10000, embedding=650, hidden=650, layers=2),
    "big": regressor(rows=128, steps=50, inputs=1024, hidden=1024),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print(f"float32, {lw.cpu_info()['isa']}\n")
    print("| case | threads | ms | " + " | ".join(f"{blocks} blocks" for blocks in BLOCKS) + " |")
    print("| --- | --- | --- |" + " --- |" * len(BLOCKS))
    for name, job in CASES.items():
        for threads in map(int, arguments.threads.split(",")):
            lw.set_num_threads(threads)
            jobs = {blocks: job(blocks) for blocks in (0, *BLOCKS)}
            seconds = timing.medians(jobs, arguments.rounds)
            ratios = " | ".join(f"{seconds[blocks] / seconds[0]:.2f}" for blocks in BLOCKS)
            print(f"| {name} | {threads} | {seconds[0] * 1e3:.0f} | {ratios} |")


if __name__ == "__main__":
    main()
