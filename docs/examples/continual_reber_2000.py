"""The continual embedded Reber grammar of Gers, Schmidhuber and Cummins (2000), with and without forget gates.

docs/continual-reber-2000.md explains it.

python docs/examples/continual_reber_2000.py
"""

import random
import statistics
from typing import NamedTuple

import latchwork as lw
import numpy as np
import reber
from memory_blocks import ACTIVATIONS, Blocks
from progress import show_progress

BLOCKS, BLOCK_SIZE = 4, 2
ROWS = 4  # streams that train a network side by side
WINDOW = 20  # steps before each update
UPDATES = 8000
STREAMS = 30_000  # a network that has begun so many training streams is trained no more
CHECK = 500  # updates before each test
TESTS = 10  # streams that test a network
LONGEST = 100_000  # symbols of a stream
GOOD = 1000  # symbols that a good network predicts before its first mistake, on average


class Setting(NamedTuple):
    """One row of the paper's table."""

    name: str
    paper: str  # of 100 networks, how many are perfect and how many good
    forget_gates: bool
    external_reset: bool = False  # the state goes back to zero before each string
    decay: bool = False  # the learning rate falls

    @property
    def blocks(self):
        """The paper's memory blocks."""
        return Blocks(BLOCKS, BLOCK_SIZE, self.forget_gates)


SETTINGS = (
    Setting("no forget gates", " 0 %", False),
    Setting("no forget gates, external reset", "74 %", False, external_reset=True),
    Setting("forget gates", "18 %, 29 %", True),
    Setting("forget gates, decaying lr", "62 %,  6 %", True, decay=True),
)


class Result(NamedTuple):
    """What one network came to."""

    streams: int  # training streams that it began
    correct: int  # the mean number of symbols that it predicted in its last test before the first mistake

    @property
    def perfect(self):
        """Whether no test stream had a mistake."""
        return self.correct == LONGEST

    @property
    def good(self):
        """Whether it is not perfect, but good."""
        return GOOD < self.correct < LONGEST


def create(setting, seeds):
    """Create the networks, one member for each seed; the gates' biases are the paper's."""
    blocks = setting.blocks
    lstm = lw.LSTM(7, blocks.cells, forget_gate=setting.forget_gates, activations=ACTIVATIONS)
    network = lw.Network([lstm, lw.Linear(blocks.cells, 7)], members=len(seeds))
    closed = [-0.5 * (block + 1) for block in range(BLOCKS)]
    biases = {"input": closed, "output": closed, "forget": [-bias for bias in closed]}
    blocks.initialize(network, seeds, 0.2, **biases)
    return network


def test(setting, network, seeds, wanted, name):
    """Count the symbols that each network predicts before its first mistake.

    Parameters
    ----------
    setting : Setting
        Whether there is an external reset.
    network : latchwork.Network
        One member for each seed.
    seeds : sequence of int
        What the test streams are drawn from, together with ``name``.
    wanted : numpy.ndarray of bool
        (members,): the others are not tested.
    name : str
        Of the test; another one has other streams.

    Returns
    -------
    numpy.ndarray of int
        (members, TESTS), at most ``LONGEST``.
    """
    streams = reber.Streams([random.Random(f"{name} of {seed}") for seed in seeds], TESTS)
    running = np.repeat(wanted[:, np.newaxis], TESTS, axis=1)
    correct, state, read = np.zeros(running.shape, int), None, 0
    while running.any() and read < LONGEST:
        steps = min(max(100, read), 5000, LONGEST - read)
        symbols, possible, _, first = streams.read(steps)
        output, state = network(
            reber.ONE_HOT[symbols],
            state,
            lengths=np.where(running, steps, 0),  # no work is done for the others
            reset=first if setting.external_reset else None,
        )
        wrong = ~reber.right(output, possible)
        before = np.where(wrong.any(axis=1), wrong.argmax(axis=1), steps)
        correct += np.where(running, before, 0)
        running &= before == steps
        read += steps
    return correct


def train(setting, seeds, progress=lambda message: None):
    """Train a network from each seed, of which there are at least two, until it is perfect; return their results."""
    network = create(setting, seeds)
    streams = reber.Streams([random.Random(f"training of {seed}") for seed in seeds], ROWS)
    lr = lw.optim.schedules.Cosine(0.02, UPDATES) if setting.decay else 0.01  # on average the same
    optimizer = lw.optim.Adam(network, lr=lr)
    state, fresh = None, np.ones((len(seeds), ROWS), bool)
    begun, age = np.zeros(len(seeds), int), np.zeros(fresh.shape, int)
    training, results = np.ones(len(seeds), bool), {}
    for update in range(1, UPDATES + 1):
        streams.restart(fresh)
        begun += np.where(training, fresh.sum(axis=1), 0)
        age = np.where(fresh, 0, age) + WINDOW
        symbols, possible, following, first = streams.read(WINDOW)
        reset = np.zeros(symbols.shape, bool)
        reset[:, 0] = fresh
        if setting.external_reset:
            reset |= first
        lengths = np.repeat(np.where(training, WINDOW, 0)[:, np.newaxis], ROWS, axis=1)
        tape = network.record(reber.ONE_HOT[symbols], state, lengths=lengths, reset=reset)
        state = tape.state
        # The window in which a stream has its first mistake is its last.
        fresh = ~reber.right(tape.output, possible).all(axis=1) | (age >= LONGEST)
        _, d_output = lw.losses.cross_entropy(tape.output, following, lengths=lengths, members=len(seeds))
        gradients = tape.backward(d_output, input_gradient=False)
        setting.blocks.tie(gradients.parameters)
        lw.optim.clip_grad_norm(gradients, 1.0)
        optimizer.step(gradients)
        if update % CHECK == 0:
            correct = test(setting, network, seeds, training, f"test {update}").mean(axis=1)
            for member in np.flatnonzero(training):
                results[seeds[member]] = Result(int(begun[member]), int(correct[member]))
            training &= (correct < LONGEST) & (begun < STREAMS)
            if not training.any():
                break
            perfect = sum(result.perfect for result in results.values())
            progress(f"{setting.name}: {update:,} of {UPDATES:,} updates, {perfect} of {len(seeds)} networks perfect")
    return results


def main(seeds=range(20)):
    """Train networks in each setting, and print what they came to beside the paper's."""
    print(
        f"{'':<31}  {'perfect':>7}  {'streams until then':^21}  {'good':>4}  {'mean stream':>11}  "
        f"{'2000: perfect, good':>19}"
    )
    results = {}
    for setting in SETTINGS:
        results[setting.name] = train(setting, seeds, show_progress)
        show_progress("")
        each = results[setting.name].values()
        until = [result.streams for result in each if result.perfect]
        others = [result.correct for result in each if not result.perfect]
        spread = f"{statistics.median(until):,.0f} ({min(until):,} to {max(until):,})" if until else "-"
        median = f"{statistics.median(others):,.0f}" if others else "-"
        perfect = f"{len(until)}/{len(seeds)}"
        good = sum(result.good for result in each)
        print(f"{setting.name:<31}  {perfect:>7}  {spread:>21}  {good:>4}  {median:>11}  {setting.paper:>19}")
    return results


if __name__ == "__main__":
    main()
