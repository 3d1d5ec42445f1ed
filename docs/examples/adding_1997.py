"""The adding problem of Hochreiter and Schmidhuber (1997), solved by their cell; docs/adding-1997.md explains it.

python docs/examples/adding_1997.py
"""

from typing import NamedTuple

import latchwork as lw
import numpy as np
from memory_blocks import ACTIVATIONS, Blocks
from progress import show_progress

T = 100  # the shortest sequence; the longest is a tenth longer
BLOCKS = Blocks(2, 2)
INPUT_GATE_BIAS = (-3.0, -6.0)  # one for each block
TOLERANCE = 0.04  # a sequence is right if its error is below
BATCH = 4
RECENT = 2000  # how many of the last sequences the criterion looks at
TEST = 2560  # how many sequences test a trained network
LIMIT = 200_000  # a trial gives up after this many sequences


class Result(NamedTuple):
    """What one trial came to."""

    seed: int
    sequences: int  # until the criterion was met
    wrong: int  # of the test sequences
    test_error: float  # their mean absolute error


def draw(count, rng):
    """Draw sequences.

    Returns
    -------
    x : numpy.ndarray
        (T + T/10, count, 2): at each step a value in [-1, 1] and a marker; beyond a sequence's length, padding.
    lengths : numpy.ndarray
        (count,), from T to T + T/10.
    target : numpy.ndarray
        (count, 1): the sum of the two values marked by 1.0, scaled to [0, 1].
    """
    lengths = rng.integers(T, T + T // 10, size=count, endpoint=True)
    rows = np.arange(count)
    first = rng.integers(10, size=count)
    second = rng.integers(T // 2 - 1, size=count)
    second += second >= first  # among the pairs that are not marked yet

    x = np.zeros((T + T // 10, count, 2), np.float32)
    values, markers = x[..., 0], x[..., 1]
    values[:] = rng.uniform(-1, 1, size=values.shape)
    markers[0] = markers[lengths - 1, rows] = -1
    markers[first, rows] = markers[second, rows] = 1
    values[0, markers[0] == 1] = 0
    target = 0.5 + (values[first, rows] + values[second, rows]) / 4
    return x, lengths, target[:, None]


def create(seed):
    """Create the network: all weights within +-0.1, except the biases of the input gates."""
    lstm = lw.LSTM(2, BLOCKS.cells, forget_gate=False, activations=ACTIVATIONS)
    network = lw.Network([lstm, lw.Last(), lw.Linear(BLOCKS.cells, 1)])  # the output unit's sigmoid is in `answer`
    rng = np.random.default_rng(seed)
    with network.edit() as parameters:
        for name, parameter in parameters.items():
            parameter[...] = rng.uniform(-0.1, 0.1, parameter.shape)
            if name.endswith("bias_hh_l0"):
                parameter[...] = 0  # one bias is enough
            elif name.endswith("_l0"):
                gates = BLOCKS.gates(name, parameter)
                if "bias" in name:
                    gates["input"][...] = np.reshape(INPUT_GATE_BIAS, (BLOCKS.count, 1))
                for gate in (gates["input"], gates["output"]):
                    gate[...] = gate[:, :1]
    return network


def answer(output):
    """Apply the output unit's sigmoid."""
    return 1 / (1 + np.exp(-output))


def train(network, rng, progress):
    """Train until the criterion is met; return the number of sequences that it took."""
    optimizer = lw.optim.Adam(network, lr=0.02, betas=(0.9, 0.99))
    recent = np.full(RECENT, np.inf)
    for sequences in range(BATCH, LIMIT + 1, BATCH):
        x, lengths, target = draw(BATCH, rng)
        tape = network.record(x, lengths=lengths)
        error = answer(tape.output) - target
        recent = np.concatenate([recent[BATCH:], np.abs(error[:, 0])])
        if recent.mean() < 0.01 and recent.max() < TOLERANCE:
            return sequences
        gradients = tape.backward(error / BATCH)  # of the mean cross-entropy between answer and target
        BLOCKS.tie(gradients.parameters)
        optimizer.step(gradients)
        if sequences % 1000 == 0:
            progress(f"{sequences:,} sequences, mean error of the last {RECENT:,} {recent.mean():.4f}")
    raise RuntimeError(f"the criterion was not met within {LIMIT:,} sequences")


def trial(seed, progress=lambda message: None):
    """Train a network from this seed and test it on sequences of its own."""
    network, rng = create(seed), np.random.default_rng([seed, 1])
    sequences = train(network, rng, lambda message: progress(f"seed {seed}: {message}"))
    x, lengths, target = draw(TEST, rng)
    output, _ = network(x, lengths=lengths)
    error = np.abs(answer(output) - target)
    return Result(seed, sequences, int((error >= TOLERANCE).sum()), float(error.mean()))


def main(seeds=range(10)):
    """Run a trial for each seed, as the paper ran ten, and print them beside the paper's means."""
    results = [trial(seed, show_progress) for seed in seeds]
    show_progress("")
    print(f"{'seed':>10}  {'sequences':>9}  {f'wrong of {TEST:,}':>14}  {'mean test error':>15}")
    for seed, sequences, wrong, test_error in results:
        print(f"{seed:>10}  {sequences:>9,}  {wrong:>14}  {test_error:>15.4f}")
    _, sequences, wrong, test_error = np.mean(results, axis=0)
    print(f"{'mean':>10}  {sequences:>9,.0f}  {wrong:>14.1f}  {test_error:>15.4f}")
    print(f"{'1997, mean':>10}  {74000:>9,}  {1:>14}  {'below 0.01':>15}")
    return results


if __name__ == "__main__":
    main()
