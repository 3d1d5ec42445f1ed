"""What the gates of a small language model do with the gender of the subject; docs/gates.md explains it.

python docs/examples/gates.py [FOLDER]

It prints the tables of that page. With a folder it also draws the page's pictures there, for which it needs matplotlib.
"""

import sys
from pathlib import Path

import numpy as np
from gender_corpus import KINDS, MEN, TOKENS, VOCABULARY, WOMEN, write
from gender_model import (
    LAYER,
    LENGTH,
    TELLS,
    TEST_LENGTH,
    causes,
    clamped,
    echo,
    excerpt,
    read,
    right,
    study,
    train,
)
from latchwork import explain

SEEDS = range(10)
SHOWN = 5  # the seed of the pictures
SHUT = 0.1  # a forget gate is shut at some words if its mean there is below this
CLAMPS = {
    "nothing": {},
    "forget gate held open": {"forget_gate": 1.0},
    "forget gate held shut": {"forget_gate": 0.0},
    "input gate held shut": {"input_gate": 0.0},
}


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
        self._widths = [max(7, len(each)) for each in header]
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


def print_causes():
    """Train a network for each seed, and print which unit carries gender."""
    table = Table("seed", "right", "unit", "turns", "next turns", "alone", "after the name", "turns")
    studies = {}
    for seed in SEEDS:
        found = studies[seed] = study(seed)
        early = found.causes_after_name
        first, second = found.causes.shares[:2]
        table.row(
            seed, share(right(found.network, found.clauses)), found.unit, share(first), share(second),
            "yes" if found.alone else "no", early.units[0], share(early.shares[0]),
        )  # fmt: skip
    alone = sum(found.alone for found in studies.values())
    from_name_on = sum(found.from_name_on for found in studies.values())
    print(f"\nOne unit alone carries gender before the pronoun in {alone} of {len(studies)} seeds.")
    print(f"In {from_name_on} of these it does so from the name on.")
    return studies


def print_told(studies):
    """Print from how many units gender can be read, whether they are causes or not."""
    table = Table("seed", "unit", "tell", "best", "tell later", "best later", "it turns", "echo")
    for seed, found in studies.items():
        tell, tell_later = ((told.scores >= TELLS).sum() for told in (found.told, found.told_later))
        best = found.told_later.units[0]
        turned = share(found.causes.shares[found.causes.units == best])
        heard = "" if found.reader is None else echo(found)
        table.row(seed, found.unit, tell, found.told.units[0], tell_later, best, turned, heard)


def print_steps(piece, unit):
    """Print all that happens in the unit at each name, at the word before the pronoun, and at the pronoun."""
    table = Table("word", "c_prev", "f", "f c_prev", "i", "g", "i g", "c", "o", "h", "she", "he")
    i, f, g, o, c, h = (signal[:, unit] for signal in piece.trace[LAYER])
    c_prev = np.append(piece.c_0[unit], c[:-1])
    for step in np.sort(np.concatenate([piece.names, piece.pronouns - 1, piece.pronouns])):
        table.row(
            piece.words[step], signed(c_prev[step]), f[step], signed(f[step] * c_prev[step]), i[step], signed(g[step]),
            signed(i[step] * g[step]), signed(c[step]), o[step], signed(h[step]), *piece.probabilities[step],
        )  # fmt: skip


def print_names(found):
    """Print what the gates do at each name, and what the cell holds before and after it."""
    table = Table("name", "times", "c_prev", "forget gate", "input gate", "candidate", "c")
    names, tokens = found.clauses.names, found.clauses.tokens
    _, _, _, _, cell, _ = signals = found.signals
    for name in WOMEN + MEN:
        places = names[tokens[names] == TOKENS[name]]
        means = [signal[places].mean() for signal in (signals.forget_gate, signals.input_gate)]
        table.row(
            name, len(places), signed(cell[places - 1].mean()), *means, signed(signals.candidate[places].mean()),
            signed(cell[places].mean()),
        )  # fmt: skip


def print_words(found):
    """Print what the gates do at each kind of word."""
    table = Table(f"{'word':>13}", "forget gate", "input gate", "input gate x candidate", "output gate")
    signals = found.signals
    for kind, places in kinds_of_words(found.clauses).items():
        written = (signals.input_gate * signals.candidate)[places].mean()
        forget, add, show = (
            signal[places].mean() for signal in (signals.forget_gate, signals.input_gate, signals.output_gate)
        )
        table.row(kind, forget, add, signed(written), show)


def print_forget_gates(studies):
    """Print what the forget gate of the first cause does in each network where it is alone."""
    names = ("W after W", "W after M", "M after M", "M after W")
    table = Table("seed", "unit", *names, "she", "he", "was", "other")
    shut = []
    for seed, found in studies.items():
        if not found.alone:
            continue
        forget, clauses, kinds = found.signals.forget_gate, found.clauses, kinds_of_words(found.clauses)
        at_names = [
            forget[clauses.names[(clauses.women == women) & (clauses.changed == changed)]].mean()
            for women in (True, False)
            for changed in (False, True)
        ]
        named = [kinds[kind] for kind in ("women's names", "men's names")]
        after = [kinds[kind] for kind in ("she", "he", "was")]
        other = np.delete(forget, np.concatenate(named + after)).mean()
        table.row(seed, found.unit, *at_names, *(forget[places].mean() for places in after), other)
        shut.append(sum(forget[places].mean() < SHUT for places in named))
    one, both, none = (shut.count(genders) for genders in (1, 2, 0))
    print(f"\nThe forget gate is shut at the names of one gender in {one} of these networks, at all names in {both}.")
    print(f"It is open or half open at all names in {none}.")


def print_cells(studies):
    """Print what the cell of the first cause holds before a pronoun and at the end of the clause."""
    table = Table("seed", "unit", "W, before pronoun", "M, before pronoun", "W, at the end", "M, at the end")
    for seed, found in studies.items():
        if found.alone:
            women = found.clauses.women
            places = found.clauses.pronouns[0] - 1, found.clauses.ends
            means = [signed(found.signals.cell[each[who]].mean()) for each in places for who in (women, ~women)]
            table.row(seed, found.unit, *means)


def print_signs(found):
    """Print how the sign of the cell goes with the gender of the name."""
    clauses, negative = found.clauses, found.signals.cell < 0
    as_named = [
        negative[name:pronoun] == woman
        for name, pronoun, woman in zip(clauses.names, clauses.pronouns[0], clauses.women, strict=True)
    ]
    print(
        f"From a name to its pronoun the cell is below zero for women and above zero for men at "
        f"{share(np.concatenate(as_named))} of the words."
    )
    print(f"It is below zero at the end of {share(negative[clauses.ends])} of the clauses.")


def print_clamps_of(found):
    """Print which pronouns are right while gates of the unit are held, or those of the one that tells next best."""
    table = Table("unit", f"{'held':>21}", "all", "women", "men")
    women = found.clauses.women
    other = next(unit for unit in found.told.units if unit != found.unit)
    for unit in (found.unit, other):
        for name, held in CLAMPS.items():
            if held or unit == found.unit:
                hit = clamped(found, unit, held)
                table.row(unit, name, share(hit), share(hit[women]), share(hit[~women]))
    ever_open = explain.clamp(found.network, LAYER, found.unit, forget_gate=1.0)
    _, (_, c) = ever_open(found.clauses.tokens)
    print(f"\nWith its forget gate held open, the cell is at {c[0, found.unit]:,.0f} after the last word.")


def print_clamps(studies):
    """Print how many pronouns are right while a gate of the unit is held, in each network where it is alone."""
    table = Table("seed", "unit", *CLAMPS)
    for seed, found in studies.items():
        if found.alone:
            table.row(seed, found.unit, *(share(clamped(found, found.unit, held)) for held in CLAMPS.values()))


def print_two_pronouns():
    """Train networks on clauses with two pronouns, and print which unit turns which."""
    table = Table("seed", "right", "first: unit", "turns", "second: unit", "turns", "same unit")
    same = []
    for seed in SEEDS:
        network = train(write(LENGTH, seed, pronouns=2), seed)
        clauses = read(network, write(TEST_LENGTH, 1000 + seed, pronouns=2))
        first, second = (causes(network, clauses, pronoun) for pronoun in (0, 1))
        same.append(first.units[0] == second.units[0])
        table.row(
            seed, share(right(network, clauses)), first.units[0], share(first.shares[0]), second.units[0],
            share(second.shares[0]), "yes" if same[-1] else "no",
        )  # fmt: skip
    print(f"\nThe same unit turns both pronouns best in {sum(same)} of {len(same)} seeds.")


def share(values):
    """Write the mean of shares, or of what is true or false, in percent."""
    return f"{100 * np.mean(values):.1f} %"


def signed(value):
    """Write a number with its sign."""
    return f"{value:+.2f}"


def main(folder=None):
    """Print the tables of the page, and draw its pictures into a folder."""
    print(f"A training text has {LENGTH:,} words, of which {len(VOCABULARY)} are different.\n")
    studies = print_causes()
    print("\nFrom which units gender can be read:\n")
    print_told(studies)
    found = studies[SHOWN]
    piece = excerpt(found)
    print(
        f"\nUnit {found.unit} of seed {SHOWN}, in a text of {len(found.clauses.names):,} clauses, four of which are:\n"
    )
    print(f"> {' '.join(piece.words)}\n")
    print_steps(piece, found.unit)
    print("\nThe means at every name:\n")
    print_names(found)
    print("\nThe means at every kind of word:\n")
    print_words(found)
    print()
    print_signs(found)
    print("\nPronouns that are right while a gate is held:\n")
    print_clamps_of(found)
    print("\nThe same in all networks in which one unit carries gender:\n")
    print_clamps(studies)
    print("\nThe forget gates of these units:\n")
    print_forget_gates(studies)
    print("\nTheir cells:\n")
    print_cells(studies)
    print("\nTwo pronouns in a clause:\n")
    print_two_pronouns()
    if folder is not None:
        import gates_pictures

        print("\nPictures:", *gates_pictures.draw(piece, found.unit, folder))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
