"""A language model trained on `gender_corpus`, and which of its units the gender of a pronoun depends on."""

import copy
from typing import NamedTuple

import latchwork as lw
import numpy as np
from gender_corpus import MEN, PRONOUNS, TOKENS, VOCABULARY, WOMEN, Text, write
from latchwork import explain
from latchwork.explain.probes import Probe
from latchwork.explain.swaps import Responsible
from latchwork.trace import LayerTrace

EMBEDDING, UNITS = 8, 16
LENGTH, TEST_LENGTH = 60_000, 20_000  # words
ROWS, WINDOW, EPOCHS = 20, 40, 80
CONTEXT = 20  # how many words before a pronoun are run again: it holds the name, however far back that is
LAST = CONTEXT - 1  # the step of the last word before the pronoun
LAYER = "1.l0"
MOST, FEW = 0.95, 0.05  # one unit carries gender if it turns the pronoun in most clauses, and each other one in few
TELLS = 0.95  # a unit tells the gender if its score is at least this
SHE, HE = (TOKENS[word] for word in PRONOUNS)


class Clauses(NamedTuple):
    """A text, what the model did with it, and where its clauses have their names and pronouns."""

    text: Text
    tokens: np.ndarray
    trace: lw.Trace
    names: np.ndarray  # where the name of each clause stands
    women: np.ndarray  # whether it is a woman's
    changed: np.ndarray  # whether the name before it was of the other gender
    pronouns: np.ndarray  # (pronouns in a clause, clauses): where they stand

    @property
    def ends(self):
        """Where each clause has its full stop."""
        return np.append(self.names[1:], len(self.tokens)) - 1


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
    causes_after_name: Responsible  # the same if it is put in right after the name
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
        return next((int(unit) for unit, score in scores if unit != self.unit and score >= TELLS), None)

    @property
    def alone(self):
        """Whether that unit alone carries gender."""
        return self.causes.shares[0] >= MOST and self.causes.shares[1] < FEW

    @property
    def from_name_on(self):
        """Whether it does so from the name on."""
        first, second = self.causes_after_name.shares[:2]
        return self.alone and self.causes_after_name.units[0] == self.unit and first >= MOST and second < FEW

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
    return Study(network, clauses, causes(network, clauses), causes_after_name(network, clauses), told, told_later)


def causes(network, clauses, pronoun=0):
    """Rank the units by the share of clauses in which their state from the other run turns the pronoun.

    The state, h and c, is put in before the last word, so that it acts through the unit's gates of that step.
    """
    x, other_x, state = with_other_name(clauses, pronoun)
    return explain.responsible(network, x, other_x, LAST, outcome=lambda output: says_she(output[0]), state=state)


def causes_after_name(network, clauses):
    """Rank the units as `causes` does, with their state put in right after the name."""
    x, other_x, state = with_other_name(clauses, 0)
    step = clauses.names - (clauses.pronouns[0] - CONTEXT) + 1
    rows = np.arange(len(step))
    return explain.responsible(
        network, x, other_x, step, outcome=lambda output: says_she(output[LAST - step, rows]), state=state
    )


def echo(found):
    """How far the reader's output just before the pronoun follows when only the first cause's state is swapped."""
    x, other_x, state = with_other_name(found.clauses, 0)
    body = lw.Network([copy.deepcopy(layer) for layer in found.network.layers[:-1]])
    moved = explain.responsible(
        body, x, other_x, LAST, outcome=lambda output: output[0, :, found.reader], units=found.unit, state=state, most=1
    )
    return moved.shares[0]


def clamped(found, unit, held):
    """Tell for each clause whether the pronoun is right while gates of a unit are held."""
    return right(explain.clamp(found.network, LAYER, unit, **held) if held else found.network, found.clauses)[0]


def excerpt(found):
    """Take the shortest piece of four clauses about a woman, two men and a woman, the men with either conjunction."""
    clauses = found.clauses
    ends = clauses.ends + 1
    conjunctions = np.array(clauses.text.words)[clauses.pronouns[0] - 1]
    pieces = [
        (ends[k + 3] - clauses.names[k], k)
        for k in range(len(ends) - 3)
        if clauses.women[k : k + 4].tolist() == [True, False, False, True]
        and conjunctions[k + 1] != conjunctions[k + 2]
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
