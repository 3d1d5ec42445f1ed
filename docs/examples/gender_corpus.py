"""A small text in which every pronoun agrees with the subject named last; docs/gates.md explains it.

python docs/examples/gender_corpus.py
"""

import random
from typing import NamedTuple

WOMEN = ("anna", "clara", "emma", "julia", "maria", "sophie")
MEN = ("adam", "david", "henry", "jacob", "oliver", "peter")
PRONOUNS = ("she", "he")  # of WOMEN, of MEN
VERBS = ("carried", "dropped", "found", "painted", "sold", "washed")
ADJECTIVES = ("big", "blue", "broken", "heavy", "new", "old")
THINGS = ("basket", "bicycle", "chair", "guitar", "lamp", "mirror")
PLACES = ("bridge", "garden", "kitchen", "river", "station", "tower")
CONJUNCTIONS = ("because", "and")
FEELINGS = ("bored", "cheerful", "hungry", "proud", "sleepy", "tired")
KINDS = {  # of words that are no names
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
VOCABULARY = (
    *WOMEN, *MEN, *PRONOUNS, *VERBS, *ADJECTIVES, *THINGS, *PLACES, *CONJUNCTIONS, *FEELINGS,
    "the", "near", "was", "so", ".",
)  # fmt: skip
TOKENS = {word: token for token, word in enumerate(VOCABULARY)}


class Text(NamedTuple):
    """Words, and where in them each clause has its name and its pronouns."""

    words: list[str]
    names: list[int]  # of each clause
    pronouns: list[tuple[int, ...]]  # of each clause


def write(length, seed, pronouns=1):
    """Write clauses until there are at least ``length`` words, each with this many pronouns (1 or 2)."""
    rng = random.Random(seed)

    def draw(count):
        # random() is the one method whose numbers no version of Python may change.
        return int(rng.random() * count)

    def pick(words):
        return words[draw(len(words))]

    words, names, places = [], [], []
    while len(words) < length:
        women = draw(2) == 0
        pronoun = PRONOUNS[0 if women else 1]
        names.append(len(words))
        words += [pick(WOMEN if women else MEN), pick(VERBS), "the"]
        words += [pick(ADJECTIVES) for _ in range(draw(3))] + [pick(THINGS)]
        for _ in range(draw(3)):
            words += ["near", "the", pick(PLACES)]
        words.append(pick(CONJUNCTIONS))
        places.append((len(words),))
        words += [pronoun, "was", pick(FEELINGS)]
        if pronouns == 2:
            words += ["so"]
            places[-1] += (len(words),)
            words += [pronoun, "was", pick(FEELINGS)]
        words.append(".")
    return Text(words, names, places)


if __name__ == "__main__":
    print(" ".join(write(200, seed=0).words).replace(" . ", " .\n"))
