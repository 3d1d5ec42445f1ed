"""How long `latchwork.explain` takes to say which steps wrote what the cells of a long sequence hold."""

import argparse
import time

import latchwork as lw
import numpy as np
from latchwork import explain

ROUNDS = 7


def main() -> None:
    """Print the median and the slowest of several calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    x = np.random.RandomState(0).standard_normal((arguments.steps, 8))
    # Gates that forget fast, whose products become subnormal, and slowly.
    for bias in (None, 3.0):
        lstm = lw.LSTM(8, arguments.units, seed=0, dtype=arguments.dtype, forget_bias=bias)
        trace = lstm.trace(x)
        print(f"forget gates of {trace.forget_gate.mean():.2f} on average:")
        for function in (explain.memory, explain.written_by, explain.erased_by):
            seconds = []
            for _ in range(ROUNDS):
                begin = time.perf_counter()
                function(trace, -1)
                seconds.append(time.perf_counter() - begin)
            print(f"  {function.__name__:10}  {np.median(seconds):.3f} s, at most {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
