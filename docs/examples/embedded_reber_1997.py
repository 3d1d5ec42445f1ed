"""The embedded Reber grammar of Hochreiter and Schmidhuber (1997); docs/embedded-reber-1997.md explains it.

python docs/examples/embedded_reber_1997.py
"""

import random
import statistics
from typing import NamedTuple

import latchwork as lw
import numpy as np
import reber
from memory_blocks import ACTIVATIONS, Blocks
from progress import show_progress

STRINGS = 256  # in the training set, and as many in the test set
TRIALS = 10  # with each pair of sets
CHECK = 100  # the criterion is looked at after every so many training sequences
LIMIT = 100_000  # a trial gives up after so many
PAPER = {Blocks(3, 2): 8440, Blocks(4, 1): 39740}  # training sequences, the mean of 30 trials


class Sets(NamedTuple):
    """Training strings and then test strings, without their last symbol, which nothing follows."""

    x: np.ndarray  # (steps, strings, 7)
    following: np.ndarray  # (steps, strings): the symbol that comes next
    possible: np.ndarray  # (steps, strings, 7): 1 for each symbol that might come next; in padding for all
    lengths: np.ndarray  # (strings,)


def draw(pair):
    """Draw a training set and a test set, whose strings are not in the training set; return a list of strings."""
    rng = random.Random(f"strings of pair {pair}")
    strings = [reber.string(rng) for _ in range(STRINGS)]
    known = {symbols for symbols, _ in strings}
    while len(strings) < 2 * STRINGS:
        symbols, states = reber.string(rng)
        if symbols not in known:
            strings.append((symbols, states))
    return strings


def arrays(strings, steps):
    """Make arrays of strings of at most ``steps + 1`` symbols."""
    shape = steps, len(strings)
    x, possible = np.zeros((*shape, 7), np.float32), np.ones((*shape, 7), np.float32)
    following, lengths = np.zeros(shape, int), np.array([len(symbols) - 1 for symbols, _ in strings])
    for row, ((symbols, states), length) in enumerate(zip(strings, lengths, strict=True)):
        x[:length, row] = reber.ONE_HOT[list(symbols[:-1])]
        following[:length, row] = symbols[1:]
        possible[:length, row] = reber.POSSIBLE[list(states[:-1])]
    return Sets(x, following, possible, lengths)


def sets_of(seeds):
    """Give each seed its pair of sets: arrays with an axis of members in front."""
    strings = {pair: draw(pair) for pair in {seed // TRIALS for seed in seeds}}
    steps = max(len(symbols) - 1 for pair in strings.values() for symbols, _ in pair)
    each = {pair: arrays(strings[pair], steps) for pair in strings}
    return Sets(*(np.stack(parts) for parts in zip(*(each[seed // TRIALS] for seed in seeds), strict=True)))


def create(blocks, seeds):
    """Create the networks, one member for each seed, with the paper's initial weights."""
    lstm = lw.LSTM(7, blocks.cells, forget_gate=False, activations=ACTIVATIONS)
    network = lw.Network([lstm, lw.Linear(blocks.cells, 7, bias=False)], members=len(seeds))
    blocks.initialize(network, seeds, 0.2, output=[-1 - block for block in range(blocks.count)])
    return network


def correct(network, sets, wanted):
    """Say of each member that is wanted, and each string, whether every prediction is right: (members, strings)."""
    output, _ = network(sets.x, lengths=np.where(wanted[:, np.newaxis], sets.lengths, 0))
    result = np.zeros(sets.lengths.shape, bool)
    result[wanted] = reber.right(output[wanted], sets.possible[wanted]).all(axis=1)
    return result


def train(blocks, seeds, progress=lambda message: None):
    """Train until the criterion is met; return for each seed how many training sequences that took, or None."""
    network, sets = create(blocks, seeds), sets_of(seeds)
    generators = [random.Random(f"training of {seed}") for seed in seeds]
    optimizer = lw.optim.Adam(network, lr=0.01)
    members, training, needed = np.arange(len(seeds)), np.ones(len(seeds), bool), dict.fromkeys(seeds)
    for sequences in range(1, LIMIT + 1):
        chosen = np.array([int(STRINGS * rng.random()) for rng in generators])
        lengths = np.where(training, sets.lengths[members, chosen], 0)[:, np.newaxis]  # no work for the others
        x, following = (
            values[members, : lengths.max(), chosen][:, :, np.newaxis] for values in (sets.x, sets.following)
        )
        tape = network.record(x, lengths=lengths)
        _, d_output = lw.losses.cross_entropy(tape.output, following, lengths=lengths, members=len(seeds))
        gradients = tape.backward(d_output, input_gradient=False)
        blocks.tie(gradients.parameters)
        optimizer.step(gradients)
        if sequences % CHECK == 0:
            solved = correct(network, sets, training).all(axis=1)
            needed |= dict.fromkeys(np.array(seeds)[solved].tolist(), sequences)
            training &= ~solved
            if not training.any():
                break
            progress(f"{blocks}: {sequences:,} sequences, {sum(~training)} of {len(seeds)} trials successful")
    return needed


def main(seeds=range(30)):
    """Run a trial for each seed, of which there are at least two, and print what they came to beside the paper's."""
    columns = "{:<13} {:>9}  {:>7} {:>10} {:>7} {:>7} {:>11}"
    print(f"{'':<23}  {'training sequences':^33}")
    print(columns.format("architecture", "success", "mean", "deviation", "least", "most", "1997, mean"))
    results = {}
    for blocks, paper in PAPER.items():
        results[blocks] = train(blocks, seeds, show_progress)
        show_progress("")
        needed = [count for count in results[blocks].values() if count is not None]
        spread = ["-"] * 4
        if len(needed) > 1:
            spread = [statistics.mean(needed), statistics.stdev(needed), min(needed), max(needed)]
            spread = [f"{number:,.0f}" for number in spread]
        print(columns.format(str(blocks), f"{len(needed)} of {len(seeds)}", *spread, f"{paper:,}"))
    return results


if __name__ == "__main__":
    main()
