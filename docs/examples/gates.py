"""What the gates of a small language model do with the gender of the subject; docs/gates.md explains it.

python docs/examples/gates.py [FOLDER]

It prints the tables of that page. With a folder it also draws the page's pictures there, for which it needs matplotlib.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import latchwork as lw
import numpy as np
from gender_corpus import (
    ADJECTIVES,
    CONJUNCTIONS,
    FEELINGS,
    MEN,
    PLACES,
    PRONOUNS,
    THINGS,
    TOKENS,
    VERBS,
    VOCABULARY,
    WOMEN,
    Text,
    write,
)
from latchwork import explain
from latchwork.trace import LayerTrace

SEEDS = range(10)
SHOWN = 5  # the seed of the pictures
EMBEDDING, UNITS = 8, 16
LENGTH, TEST_LENGTH = 60_000, 20_000  # words
ROWS, WINDOW, EPOCHS = 20, 40, 80
CONTEXT = 20  # how many words before a pronoun are run again: it holds the name, however far back that is
LAYER = "1.l0"
MOST, FEW = 0.95, 0.05  # one unit carries gender if it turns the pronoun in most clauses, and each other one in few
SHE, HE = (TOKENS[word] for word in PRONOUNS)
KINDS = {
    "verb": VERBS,
    "the": ["the"],
    "adjective": ADJECTIVES,
    "thing": THINGS,
    "near": ["near"],
    "place": PLACES,
    "because, and": CONJUNCTIONS,
    "she": ["she"],
    "he": ["he"],
    "was": ["was"],
    "feeling": FEELINGS,
    ".": ["."],
}
CLAMPS = {
    "nothing": {},
    "forget gate held open": {"forget_gate": 1.0},
    "forget gate held shut": {"forget_gate": 0.0},
    "input gate held shut": {"input_gate": 0.0},
}


class Clauses(NamedTuple):
    """A text, what the model did with it, and where its clauses have their names and pronouns."""

    text: Text
    tokens: np.ndarray
    trace: lw.Trace
    names: np.ndarray  # where the name of each clause stands
    women: np.ndarray  # whether it is a woman's
    changed: np.ndarray  # whether the name before it was of the other gender
    pronouns: np.ndarray  # (pronouns in a clause, clauses): where they stand


class Study(NamedTuple):
    """What was found out about the network of one seed."""

    network: lw.Network
    clauses: Clauses
    turned: np.ndarray  # of each unit: the share of pronouns that its state from another run turns
    told: np.ndarray  # of each unit: the share of clauses whose gender it tells

    @property
    def unit(self):
        """The unit that turns most pronouns."""
        return int(self.turned.argmax())

    @property
    def reader(self):
        """Of the other units, the one that tells gender best."""
        order = np.argsort(-self.told, kind="stable")
        return int(order[order != self.unit][0])

    @property
    def signals(self):
        """The gates, the cell and the output of the unit that turns most pronouns, each (words,)."""
        return LayerTrace(*(signal[:, self.unit] for signal in self.clauses.trace[LAYER]))


def train(text, seed):
    """Train a language model to predict each next word of the text."""
    network = lw.Network(
        [
            lw.Embedding(len(VOCABULARY), EMBEDDING, seed=3 * seed),
            lw.LSTM(EMBEDDING, UNITS, forget_bias=1.0, seed=3 * seed + 1),
            lw.Linear(UNITS, len(VOCABULARY), seed=3 * seed + 2),
        ]
    )
    tokens = tokens_of(text)
    steps = (len(tokens) - 1) // (ROWS * WINDOW) * WINDOW
    x = tokens[: ROWS * steps].reshape(ROWS, steps).T
    y = tokens[1 : ROWS * steps + 1].reshape(ROWS, steps).T
    schedule = lw.optim.schedules.Cosine(3e-2, steps=EPOCHS * steps // WINDOW)
    trainer = lw.Trainer(network, "cross_entropy", lw.optim.AdamW(lr=schedule, weight_decay=0.01), clip_norm=1.0)
    for _ in range(EPOCHS):
        state = None
        for start in range(0, steps, WINDOW):
            window = slice(start, start + WINDOW)
            _, state = trainer.step(x[window], y[window], state)
    return network


def tokens_of(text):
    """Give the words' numbers."""
    return np.array([TOKENS[word] for word in text.words])


def read(network, text):
    """Run the model over a text; clauses whose pronoun has too few words before it are left out."""
    tokens = tokens_of(text)
    pronouns = np.array(text.pronouns)
    enough = pronouns[:, 0] > CONTEXT
    names, pronouns = np.array(text.names)[enough], pronouns[enough].T
    women = tokens[names] < len(WOMEN)
    changed = np.append(False, women[1:] != women[:-1])
    return Clauses(text, tokens, network.trace(tokens), names, women, changed, pronouns)


def says_she(output):
    """Tell whether "she" is more probable than "he", whatever else the model may expect."""
    return output[..., SHE] > output[..., HE]


def right(network, clauses):
    """Tell for each pronoun whether the model holds the right one to be the more probable one."""
    output, _ = network(clauses.tokens)
    return says_she(output[clauses.pronouns - 1]) == clauses.women


def with_other_name(clauses, pronoun):
    """Give the words before a pronoun of each clause, and the same words with a name of the other gender.

    Returns
    -------
    x, other_x : numpy.ndarray
        (CONTEXT, clauses): tokens. A pronoun between the name and this one is of the other gender too.
    state : tuple
        The state before these words, from the run over all of the text.
    """
    end = clauses.pronouns[pronoun]
    places = end - CONTEXT + np.arange(CONTEXT)[:, None]
    x = clauses.tokens[places]
    other = np.arange(len(VOCABULARY))  # of each word
    other[: len(WOMEN) + len(MEN)] = np.roll(other[: len(WOMEN) + len(MEN)], len(WOMEN))
    other[[SHE, HE]] = HE, SHE
    layer = clauses.trace[LAYER]
    before = places[0] - 1
    state = layer.hidden[before][None], layer.cell[before][None]
    return x, np.where(places >= clauses.names, other[x], x), state


def turned_by(network, clauses, pronoun=0):
    """Give for each unit the share of clauses in which its state from the other run turns the pronoun."""
    x, other_x, state = with_other_name(clauses, pronoun)
    last = CONTEXT - 1
    _, (h, c) = network(x[:last], state)
    _, (other_h, other_c) = network(other_x[:last], state)
    true = says_she(network(x[last:], (h, c))[0][0])
    turned = []
    for unit in range(UNITS):
        mixed_h, mixed_c = h.copy(), c.copy()
        mixed_h[..., unit], mixed_c[..., unit] = other_h[..., unit], other_c[..., unit]
        turned.append((says_she(network(x[last:], (mixed_h, mixed_c))[0][0]) != true).mean())
    return np.array(turned)


def told_by(clauses):
    """Give for each unit the share of clauses in which a threshold on its output before the pronoun tells the gender."""
    hidden = clauses.trace[LAYER].hidden[clauses.pronouns[0] - 1]
    shares = []
    for unit in hidden.T:
        women = clauses.women[np.argsort(unit)]
        below = np.append(0, np.cumsum(women)) + np.append(0, np.cumsum(~women[::-1]))[::-1]
        shares.append(max(below.max(), len(women) - below.min()) / len(women))
    return np.array(shares)


def carries(turned):
    """Tell whether one unit carries gender: it turns the pronoun in most clauses, and each other one in few."""
    *others, most = np.sort(turned)
    return most >= MOST and max(others) < FEW


def kinds_of_words(clauses):
    """Give for each kind of word where it stands."""
    kinds = {
        "women's names": clauses.names[clauses.women],
        "men's names": clauses.names[~clauses.women],
    }
    for kind, words in KINDS.items():
        kinds[kind] = np.flatnonzero(np.isin(clauses.tokens, [TOKENS[word] for word in words]))
    return kinds


class Table:
    """A table in Markdown, printed row by row."""

    def __init__(self, *header):
        self._widths = [max(4, len(each)) for each in header]
        self._print(header)
        print("|" + "|".join(f" {'-' * (width - 1)}: " for width in self._widths) + "|")

    def row(self, *cells):
        """Print a row; fractions with two decimals."""
        self._print([f"{each:.2f}" if isinstance(each, float) else str(each) for each in cells])

    def _print(self, cells):
        print(
            "| " + " | ".join(f"{each:>{width}}" for each, width in zip(cells, self._widths, strict=True)) + " |",
            flush=True,
        )


def study(seed):
    """Train a network and find the unit that carries gender."""
    network = train(write(LENGTH, seed), seed)
    clauses = read(network, write(TEST_LENGTH, 1000 + seed))
    return Study(network, clauses, turned_by(network, clauses), told_by(clauses))


def mean(values, *where):
    """Average over the places at which all conditions hold."""
    return float(values[np.logical_and.reduce(where)].mean())


def print_causes():
    """Train a network for each seed, and print which units carry gender and which only tell it."""
    table = Table("seed", "right", "unit", "turns", "next turns", "units that tell", "one unit")
    studies = {}
    for seed in SEEDS:
        found = studies[seed] = study(seed)
        next_most, most = np.sort(found.turned)[-2:]
        table.row(
            seed, share(right(found.network, found.clauses).mean()), found.unit, share(most), share(next_most),
            (found.told >= MOST).sum(), "yes" if carries(found.turned) else "no",
        )  # fmt: skip
    return studies


def print_forget_gates(studies):
    """Print what the forget gate of the unit does at names and pronouns."""
    table = Table(
        "seed", "unit", *(f"{name} after {before}" for name in "WM" for before in "WM"), "she", "he", "was", "else"
    )
    for seed, found in studies.items():
        forget, clauses = found.signals.forget_gate, found.clauses
        at_names = forget[clauses.names]
        kinds = kinds_of_words(clauses)
        special = [kinds[kind] for kind in ("women's names", "men's names", "she", "he", "was")]
        table.row(
            seed,
            found.unit,
            mean(at_names, clauses.women, ~clauses.changed),
            mean(at_names, clauses.women, clauses.changed),
            mean(at_names, ~clauses.women, clauses.changed),
            mean(at_names, ~clauses.women, ~clauses.changed),
            *(float(forget[places].mean()) for places in special[2:]),
            float(np.delete(forget, np.concatenate(special)).mean()),
        )


def print_clamps(studies):
    """Print how many pronouns are right while a gate of the unit is held."""
    table = Table("seed", "unit", *CLAMPS)
    for seed, found in studies.items():
        if carries(found.turned):
            table.row(seed, found.unit, *(share(clamped(found, found.unit, held).mean()) for held in CLAMPS.values()))


def clamped(found, unit, held):
    """Tell for each clause whether the pronoun is right while gates of a unit are held."""
    network = explain.clamp(found.network, LAYER, unit, **held) if held else found.network
    return right(network, found.clauses)[0]


def print_clamps_by_gender(found):
    """Print for one network at whose pronouns the clamped gates act; another unit's gates for comparison."""
    table = Table("unit", "held", "all", "women", "men")
    women = found.clauses.women
    for unit in (found.unit, found.reader):
        for name, held in CLAMPS.items():
            if held or unit == found.unit:
                hit = clamped(found, unit, held)
                table.row(unit, name, share(hit.mean()), share(hit[women].mean()), share(hit[~women].mean()))


def print_names(found):
    """Print what the gates do at each name, and what the cell holds before and after it."""
    table = Table("name", "times", "c_prev", "forget gate", "input gate", "candidate", "c")
    names, tokens, signals = found.clauses.names, found.clauses.tokens, found.signals
    for name in WOMEN + MEN:
        places = names[tokens[names] == TOKENS[name]]
        table.row(
            name,
            len(places),
            signed(signals.cell[places - 1].mean()),
            float(signals.forget_gate[places].mean()),
            float(signals.input_gate[places].mean()),
            signed(signals.candidate[places].mean()),
            signed(signals.cell[places].mean()),
        )


def print_words(found):
    """Print what the gates do at each kind of word."""
    table = Table("word", "forget gate", "input gate", "input gate x candidate", "output gate")
    signals = found.signals
    written = signals.input_gate * signals.candidate
    for kind, places in kinds_of_words(found.clauses).items():
        table.row(
            kind,
            float(signals.forget_gate[places].mean()),
            float(signals.input_gate[places].mean()),
            signed(written[places].mean()),
            float(signals.output_gate[places].mean()),
        )


def print_two_pronouns():
    """Train networks on clauses with two pronouns, and print which unit turns which."""
    table = Table("seed", "right", "first: unit", "turns", "second: unit", "turns", "same unit")
    for seed in SEEDS:
        network = train(write(LENGTH, seed, pronouns=2), seed)
        clauses = read(network, write(TEST_LENGTH, 1000 + seed, pronouns=2))
        first, second = (turned_by(network, clauses, pronoun) for pronoun in (0, 1))
        table.row(
            seed, share(right(network, clauses).mean()), first.argmax(), share(first.max()),
            second.argmax(), share(second.max()), "yes" if first.argmax() == second.argmax() else "no",
        )  # fmt: skip


def share(value):
    """Write a share in percent."""
    return f"{100 * value:.1f} %"


def signed(value):
    """Write a number with its sign."""
    return f"{value:+.2f}"


def excerpt(clauses):
    """Find the shortest piece of four clauses about a woman, a man, a man and a woman: its first and last word."""
    ends = np.append(clauses.names[1:], len(clauses.tokens))
    wanted = [True, False, False, True]
    found = [k for k in range(len(ends) - 3) if clauses.women[k : k + 4].tolist() == wanted]
    first = min(found, key=lambda k: ends[k + 3] - clauses.names[k])
    return int(clauses.names[first]), int(ends[first + 3])


def print_steps(found, steps):
    """Print all that happens in one unit at some steps."""
    table = Table("word", "c_prev", "f", "f c_prev", "i", "g", "i g", "c", "o", "h")
    signals, words = found.signals, found.clauses.text.words
    for step in steps:
        i, f, g, o, c, h = (signal[step] for signal in signals)
        c_prev = signals.cell[step - 1]
        numbers = [c_prev, f, f * c_prev, i, g, i * g, c, o, h]
        table.row(
            words[step], *(signed(each) if k in (0, 2, 4, 5, 6, 8) else float(each) for k, each in enumerate(numbers))
        )


def main(folder=None):
    """Print the tables of the page, and draw its pictures into a folder."""
    print("Which unit carries gender\n")
    studies = print_causes()
    found = studies[SHOWN]
    start, end = excerpt(found.clauses)
    print(f"\nSeed {SHOWN}, unit {found.unit}: {' '.join(found.clauses.text.words[start:end])}\n")
    print_steps(found, range(start, end))
    print("\nAt every name\n")
    print_names(found)
    print("\nAt every kind of word\n")
    print_words(found)
    print("\nForget gates\n")
    print_forget_gates(studies)
    print("\nGates held: pronouns that are right\n")
    print_clamps_by_gender(found)
    print()
    print_clamps(studies)
    print("\nTwo pronouns in a clause\n")
    print_two_pronouns()
    if folder is not None:
        pass


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
