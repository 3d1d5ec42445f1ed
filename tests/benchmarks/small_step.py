"""What a whole training step costs beside its arithmetic: `Trainer.step` on networks so small that little else is left.

One call checks and converts the batch, records, computes loss and gradients, clips, takes Adam's step and packs the
weights anew.
"""

import argparse

import latchwork as lw
import numpy as np
from latchwork.benchmark import timing

# T, N, inputs, H. The first has a dozen multiply-adds.
SHAPES = ((1, 1, 1, 1), (5, 1, 4, 8), (20, 8, 4, 12))
BOUND_US = 10.0  # of the first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    lw.set_num_threads(arguments.threads)
    print(f"float32, {lw.cpu_info()['isa']}, {arguments.threads} thread(s), bound of the first: {BOUND_US:g} us\n")
    print("| T, N, inputs, H | us |\n| --- | --- |")
    random = np.random.default_rng(0)
    for steps, rows, inputs, hidden in SHAPES:
        adam = lw.optim.Adam(lr=1e-3)
        trainer = lw.Trainer(lw.LSTM(inputs, hidden, seed=0), "squared_error", adam, clip_norm=1.0)
        x = random.standard_normal((steps, rows, inputs), dtype=np.float32)
        y = random.standard_normal((steps, rows, hidden), dtype=np.float32)
        jobs = {"step": lambda trainer=trainer, x=x, y=y: trainer.step(x, y)}
        print(f"| {steps}, {rows}, {inputs}, {hidden} | {timing.medians(jobs, arguments.rounds)['step'] * 1e6:.1f} |")


if __name__ == "__main__":
    main()
