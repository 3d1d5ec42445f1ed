"""What the gates of a small language model do with the gender of the subject; docs/gates.md explains it.

python docs/examples/gates.py [FOLDER]

It prints the tables of that page. With a folder it also draws the page's pictures there, for which it needs matplotlib.
"""

import copy
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
from latchwork.explain.probes import Probe
from latchwork.explain.swaps import Responsible
from latchwork.trace import LayerTrace

SEEDS = range(10)
SHOWN = 5  # the seed of the pictures
EMBEDDING, UNITS = 8, 16
LENGTH, TEST_LENGTH = 60_000, 20_000  # words
ROWS, WINDOW, EPOCHS = 20, 40, 80
CONTEXT = 20  # how many words before a pronoun are run again: it holds the name, however far back that is
LAST = CONTEXT - 1  # the step of the last word before the pronoun
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


class Piece(NamedTuple):
    """A few clauses of a text, one after another."""

    words: list[str]
    trace: lw.Trace
    c_0: np.ndarray  # (units,): the cells before the first word
    names: np.ndarray  # where the name of each clause stands
    pronouns: np.ndarray  # where its pronoun stands
    probabilities: np.ndarray  # (words, 2): how probable "she" and "he" are to come next


class Study(NamedTuple):
    """What was found out about the network of one seed."""

    network: lw.Network
    clauses: Clauses
    causes: Responsible  # the units ranked by how many pronouns their state from another run turns
    told: Probe  # the units ranked by how well their cells tell the gender at that moment
    told_later: Probe  # by how well their outputs do one word later, just before the pronoun

    @property
    def unit(self):
        """The unit that turns most pronouns."""
        return int(self.causes.units[0])

    @property
    def reader(self):
        """Of the other units, the one whose output tells gender best; None if none tells it well."""
        scores = zip(self.told_later.units, self.told_later.scores, strict=True)
        return next((int(unit) for unit, score in scores if unit != self.unit and score >= MOST), None)

    @property
    def alone(self):
        """Whether that unit alone carries gender."""
        return self.causes.shares[0] >= MOST and self.causes.shares[1] < FEW

    @property
    def signals(self):
        """The gates, the cell and the output of that unit, each (words,)."""
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


def study(seed):
    """Train a network and find out which units its pronouns depend on."""
    network = train(write(LENGTH, seed), seed)
    clauses = read(network, write(TEST_LENGTH, 1000 + seed))
    x, _, state = with_other_name(clauses, 0)
    trace = network.trace(x, state)
    told = explain.probe(trace, clauses.women, layer=LAYER, step=LAST - 1)
    told_later = explain.probe(trace, clauses.women, layer=LAYER, step=LAST, signal="hidden")
    return Study(network, clauses, causes(network, clauses, 0), told, told_later)


def causes(network, clauses, pronoun):
    """Rank the units by the share of clauses in which their state from the other run turns the pronoun.

    The state, h and c, is put in before the last word, so that it acts through the unit's gates of that step.
    """
    x, other_x, state = with_other_name(clauses, pronoun)
    return explain.responsible(network, x, other_x, LAST, outcome=lambda output: says_she(output[0]), state=state)


def echo(found, unit):
    """How far a unit's output just before the pronoun follows when only the first cause comes from the other run."""
    x, other_x, state = with_other_name(found.clauses, 0)
    body = lw.Network([copy.deepcopy(layer) for layer in found.network.layers[:-1]])
    moved = explain.responsible(
        body, x, other_x, LAST, outcome=lambda output: output[0, :, unit], units=found.unit, state=state, most=1
    )
    return float(moved.shares[0])


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
        self._print([f"{each:.2f}" if isinstance(each, float | np.floating) else str(each) for each in cells])

    def _print(self, cells):
        print(
            "| " + " | ".join(f"{each:>{width}}" for each, width in zip(cells, self._widths, strict=True)) + " |",
            flush=True,
        )


def mean(values, *where):
    """Average over the places at which all conditions hold."""
    return float(values[np.logical_and.reduce(where)].mean())


def print_causes():
    """Train a network for each seed, and print which units carry gender and which only tell it."""
    table = Table("seed", "right", "unit", "turns", "next turns", "alone", "tell", "tell later", "best later", "echo")
    studies = {}
    for seed in SEEDS:
        found = studies[seed] = study(seed)
        first, second = found.causes.shares[:2]
        reader = found.reader
        tell, tell_later = ((told.scores >= MOST).sum() for told in (found.told, found.told_later))
        table.row(
            seed, share(right(found.network, found.clauses).mean()), found.unit, share(first), share(second),
            "yes" if found.alone else "no", tell, tell_later, found.told_later.units[0],
            "" if reader is None else echo(found, reader),
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
        if found.alone:
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
        first, second = (causes(network, clauses, pronoun) for pronoun in (0, 1))
        table.row(
            seed, share(right(network, clauses).mean()), first.units[0], share(first.shares[0]),
            second.units[0], share(second.shares[0]), "yes" if first.units[0] == second.units[0] else "no",
        )  # fmt: skip


def share(value):
    """Write a share in percent."""
    return f"{100 * value:.1f} %"


def signed(value):
    """Write a number with its sign."""
    return f"{value:+.2f}"


def excerpt(found):
    """Take the shortest piece of the text that has four clauses about a woman, a man, a man and a woman."""
    clauses = found.clauses
    ends = np.append(clauses.names[1:], len(clauses.tokens))
    pieces = [
        (ends[k + 3] - clauses.names[k], k)
        for k in range(len(ends) - 3)
        if clauses.women[k : k + 4].tolist() == [True, False, False, True]
    ]
    k = min(pieces)[1]
    start, end = clauses.names[k], ends[k + 3]
    layer = clauses.trace[LAYER]
    trace = found.network.trace(clauses.tokens[start:end], (layer.hidden[[start - 1]], layer.cell[[start - 1]]))
    exponentials = np.exp(trace.output - trace.output.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return Piece(
        clauses.text.words[start:end],
        trace,
        layer.cell[start - 1],
        clauses.names[k : k + 4] - start,
        clauses.pronouns[0, k : k + 4] - start,
        probabilities[:, [SHE, HE]],
    )


def print_steps(piece, unit):
    """Print all that happens in the unit at each name, at the word before the pronoun, and at the pronoun."""
    table = Table("word", "c_prev", "f", "f c_prev", "i", "g", "i g", "c", "o", "h", "she", "he")
    i, f, g, o, c, h = (signal[:, unit] for signal in piece.trace[LAYER])
    c_prev = np.append(piece.c_0[unit], c[:-1])
    for step in np.sort(np.concatenate([piece.names, piece.pronouns - 1, piece.pronouns])):
        table.row(
            piece.words[step],
            signed(c_prev[step]),
            f[step],
            signed(f[step] * c_prev[step]),
            i[step],
            signed(g[step]),
            signed(i[step] * g[step]),
            signed(c[step]),
            o[step],
            signed(h[step]),
            *piece.probabilities[step],
        )


def main(folder=None):
    """Print the tables of the page, and draw its pictures into a folder."""
    print("Which units carry gender\n")
    studies = print_causes()
    found = studies[SHOWN]
    piece = excerpt(found)
    print(f"\nSeed {SHOWN}, unit {found.unit}, in these clauses: {' '.join(piece.words)}\n")
    print_steps(piece, found.unit)
    print("\nAt every name\n")
    print_names(found)
    print("\nAt every kind of word\n")
    print_words(found)
    print("\nForget gates\n")
    print_forget_gates(studies)
    print("\nPronouns that are right while a gate is held\n")
    print_clamps_by_gender(found)
    print()
    print_clamps(studies)
    print("\nTwo pronouns in a clause\n")
    print_two_pronouns()
    if folder is not None:
        import gates_pictures

        print("\nPictures:", *gates_pictures.draw(piece, found.unit, folder))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
