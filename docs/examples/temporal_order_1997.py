"""The temporal order problem of Hochreiter and Schmidhuber (1997); docs/temporal-order-1997.md explains it.

python docs/examples/temporal_order_1997.py
"""

import random
import statistics
from typing import NamedTuple

import latchwork as lw
import numpy as np
from memory_blocks import ACTIVATIONS, Blocks
from progress import show_progress

SYMBOLS = "abcdXYEB"
T = 100  # the shortest sequence; the longest is a tenth longer
TOLERANCE = 0.3  # a sequence is right if the error of each output is below
RECENT = 2000  # how many of the last sequences the criterion looks at
AVERAGE = 0.1  # what their mean error must be below
TEST = 2560  # how many sequences test a trained network
LIMIT = 200_000  # a trial gives up after so many


class Task(NamedTuple):
    """One of the two tasks."""

    name: str
    places: tuple[int, ...]  # the first of the eleven places, counted from 1, at which each mark may be
    batch: int  # sequences before each update
    paper_sequences: int
    paper_wrong: int

    @property
    def classes(self):
        """How many orders of marks there are."""
        return 2 ** len(self.places)

    @property
    def blocks(self):
        """As many blocks as there are marks to remember."""
        return Blocks(len(self.places), 2)


TASKS = (
    Task("6a, 4 classes", (10, 50), 4, 31390, 1),
    Task("6b, 8 classes", (10, 33, 66), 8, 571100, 2),
)


class Result(NamedTuple):
    """What one trial came to."""

    sequences: int  # until the criterion was met
    wrong: int  # of the test sequences


def draw(task, count, rng):
    """Draw sequences.

    Returns
    -------
    symbols : numpy.ndarray of int
        (T + T/10, count), indices into ``SYMBOLS``.
    lengths : numpy.ndarray of int
        (count,), from T to T + T/10.
    classes : numpy.ndarray of int
        (count,): the marks read as a binary number, X being 0 and Y 1.
    """

    def bytes_of(*shape):
        return np.frombuffer(rng.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)

    def one_of_eleven():
        return np.array([int(11 * rng.random()) for _ in range(count)])

    lengths, rows = T + one_of_eleven(), np.arange(count)
    symbols = (bytes_of(T + T // 10, count) % 4).astype(int)
    symbols[0], symbols[lengths - 1, rows] = SYMBOLS.index("E"), SYMBOLS.index("B")
    classes = np.zeros(count, int)
    for place in task.places:
        mark = bytes_of(count) % 2
        symbols[place - 1 + one_of_eleven(), rows] = SYMBOLS.index("X") + mark
        classes = 2 * classes + mark
    return symbols, lengths, classes


def create(task, seeds):
    """Create the networks, one member for each seed, with the paper's initial weights."""
    cells = task.blocks.cells
    lstm = lw.LSTM(len(SYMBOLS), cells, forget_gate=False, activations=ACTIVATIONS)
    network = lw.Network([lstm, lw.Last(), lw.Linear(cells, task.classes)], members=len(seeds))
    task.blocks.initialize(network, seeds, 0.1, input=[-2 * (block + 1) for block in range(task.blocks.count)])
    return network


def sigmoid(values):
    """Apply the library's sigmoid, which is the same on every CPU."""
    layer = lw.Linear(1, 1, bias=False, activation="sigmoid")
    layer.parameters["weight"] = [[1]]
    return layer(values[..., np.newaxis])[..., 0]


def errors(task, output, classes):
    """Compute answers minus targets, (..., classes)."""
    return sigmoid(output) - np.eye(task.classes, dtype=np.float32)[classes]


def summed(values):
    """Add up the last axis one after another, so that the sum is the same on every CPU."""
    return np.add.accumulate(values, axis=-1)[..., -1]


def one_hot(symbols):
    """Make the network's input."""
    return np.eye(len(SYMBOLS), dtype=np.float32)[symbols]


def train(task, seeds, progress=lambda message: None):
    """Train until the criterion is met; return for each seed the number of sequences and the network, or None."""
    network = create(task, seeds)
    generators = [random.Random(f"training of {seed}") for seed in seeds]
    optimizer = lw.optim.Adam(network, lr=0.02, betas=(0.9, 0.99))
    largest, total = (np.full((len(seeds), RECENT), np.inf) for _ in range(2))  # errors of the last sequences
    training, trained = np.ones(len(seeds), bool), dict.fromkeys(seeds)
    for sequences in range(task.batch, LIMIT + 1, task.batch):
        drawn = (draw(task, task.batch, rng) for rng in generators)
        symbols, lengths, classes = map(np.stack, zip(*drawn, strict=True))
        lengths[~training] = 0  # no work is done for these
        tape = network.record(one_hot(symbols), lengths=lengths)
        error = errors(task, tape.output, classes)
        place = np.arange(sequences - task.batch, sequences) % RECENT
        largest[:, place], total[:, place] = abs(error).max(axis=-1), summed(abs(error))
        met = training & (largest < TOLERANCE).all(axis=1) & (summed(total) < AVERAGE * RECENT)
        for member in np.flatnonzero(met):
            trained[seeds[member]] = sequences, network.member(member)
        training &= ~met
        if not training.any():
            break
        gradients = tape.backward(error / task.batch, input_gradient=False)  # of the mean cross-entropy
        task.blocks.tie(gradients.parameters)
        optimizer.step(gradients)
        if sequences % 1000 == 0:
            progress(f"{task.name}: {sequences:,} sequences, {sum(~training)} of {len(seeds)} trials successful")
    return trained


def trials(task, seeds, progress=lambda message: None):
    """Train a network from each seed, of which there are at least two, and test it on sequences of its own."""
    results = {}
    for seed, trained in train(task, seeds, progress).items():
        results[seed] = None
        if trained is not None:
            sequences, network = trained
            symbols, lengths, classes = draw(task, TEST, random.Random(f"test of {seed}"))
            output, _ = network(one_hot(symbols), lengths=lengths)
            wrong = (abs(errors(task, output, classes)) >= TOLERANCE).any(axis=-1).sum()
            results[seed] = Result(sequences, int(wrong))
    return results


def main(seeds=range(10)):
    """Run trials of both tasks, and print what they came to beside the paper's means."""
    print(f"{'':>14} {'':>9}  {'training sequences':^35}  {f'wrong of {TEST:,}':^16}  {'1997, means':^17}")
    print(
        f"{'task':<14} {'success':>9}  {'mean':>7} {'deviation':>10} {'least':>7} {'most':>8}  "
        f"{'mean':>8} {'most':>7}  {'sequences':>9} {'wrong':>7}"
    )
    results = {}
    for task in TASKS:
        results[task.name] = trials(task, seeds, show_progress)
        show_progress("")
        met = [result for result in results[task.name].values() if result is not None]
        success = f"{len(met)} of {len(seeds)}"
        print(f"{task.name:<14} {success:>9}", end="  ")
        if len(met) > 1:
            needed, wrong = zip(*met, strict=True)
            print(
                f"{statistics.mean(needed):>7,.0f} {statistics.stdev(needed):>10,.0f} {min(needed):>7,} "
                f"{max(needed):>8,}  {statistics.mean(wrong):>8.2f} {max(wrong):>7}",
                end="  ",
            )
        print(f"{task.paper_sequences:>9,} {task.paper_wrong:>7}")
    return results


if __name__ == "__main__":
    main()
