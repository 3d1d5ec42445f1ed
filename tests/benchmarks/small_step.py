"""Time `Trainer.step` on networks so small that its cost besides the arithmetic shows.

One call checks and converts the batch, records, computes loss and gradients, clips, takes a step of Adam and packs the
weights anew.
"""

import argparse
from collections.abc import Callable

import latchwork as lw
import numpy as np
from latchwork.benchmark import timing

# T, N, inputs, H. The first shape has a dozen multiply-adds.
SHAPES = ((1, 1, 1, 1), (5, 1, 4, 8), (20, 8, 4, 12))
BOUND_US = 10.0  # for the first shape


def make_job(steps: int, rows: int, inputs: int, hidden: int) -> Callable[[], object]:
    """Return a function that takes one step of a trainer."""
    random = np.random.default_rng(0)
    adam = lw.optim.Adam(lr=1e-3)
    trainer = lw.Trainer(lw.LSTM(inputs, hidden, seed=0), "squared_error", adam, clip_norm=1.0)
    x = random.standard_normal((steps, rows, inputs), dtype=np.float32)
    y = random.standard_normal((steps, rows, hidden), dtype=np.float32)
    return lambda: trainer.step(x, y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    lw.set_num_threads(arguments.threads)
    print(f"float32, {lw.cpu_info()['isa']}, {arguments.threads} thread(s), bound of the first: {BOUND_US:g} us\n")
    print("| T, N, inputs, H | us |\n| --- | --- |")
    for shape in SHAPES:
        seconds = timing.medians({"step": make_job(*shape)}, arguments.rounds)["step"]
        print(f"| {', '.join(map(str, shape))} | {seconds * 1e6:.1f} |")


if __name__ == "__main__":
    main()
