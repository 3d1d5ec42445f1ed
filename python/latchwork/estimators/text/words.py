"""Words as the numbers that a language model reads; rare ones are spelled, so that any text can be written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from latchwork import files
from latchwork._arrays import integer
from latchwork.estimators.text.characters import CODE_POINTS, PieceDecoder, Tokens, Vocabulary

# A text is cut into words and runs of punctuation, with the space before them, and runs of white space, as
# Radford et al. do in "Language models are unsupervised multitask learners" (2019). Together they are the whole text.
# A surrogate stands alone, because JSON would join a high and a low one.
_PIECES = re.compile(
    r"[\ud800-\udfff]| ?\w+| ?[^\w\s\ud800-\udfff]+|\s+(?!\S)|\s+"  # a run leaves its last space to what follows
)

_TIMES = 2  # a word of the training text must come so often, or else there is nothing to learn of it


class Words:
    """The most frequent words of a text, and its characters: a word that is not among the former is spelled.

    The tokens are the characters, sorted, then the words, sorted, then ``unknown``.

    Parameters
    ----------
    characters : Vocabulary
        The characters of the training text.
    words : list of str
        The words, sorted, each of known characters and at least two of them.
    """

    kind = "words"
    counted = "tokens"
    has_unknown = True

    def __init__(self, characters: Vocabulary, words: list[str]) -> None:
        self._characters = characters
        self._words = words
        self._tokens = {piece: token for token, piece in enumerate([*characters.characters, *words])}

    @classmethod
    def of_text(cls, text: str, most: int) -> Words:
        """Take the ``most`` most frequent words that a text has at least twice, of equal ones those that come first."""
        return cls.of_pieces([text], Vocabulary(text), most)

    @classmethod
    def of_pieces(cls, texts: Iterable[str], characters: Vocabulary, most: int) -> Words:
        """Do the same for a text that comes in pieces, and whose characters are known."""
        counts = Counter(piece for piece in _pieces(texts) if len(piece) > 1)
        words = [word for word, times in counts.most_common(most) if times >= _TIMES]
        return cls(characters, sorted(words))

    @classmethod
    def from_file(cls, content: Mapping[str, Any]) -> Words:
        """Reverse `to_file`. ValueError or TypeError if the content, which may be hostile, does not fit."""
        _, code_points, words = files.named("tokenizer", content, ("kind", "characters", "words"))
        characters = "".join(chr(integer("characters", each, 0, CODE_POINTS - 1)) for each in code_points)
        vocabulary = Vocabulary(characters)
        if vocabulary.characters != characters:
            raise ValueError("characters: expected different ones in order")
        known = set(characters)
        for word in words:
            if not isinstance(word, str) or len(word) < 2 or not known.issuperset(word):
                raise ValueError(f"words: expected strings of at least two known characters, got {word!r:.60}")
        if words != sorted(set(words)):
            raise ValueError("words: expected different ones in order")
        return cls(vocabulary, words)

    def to_file(self) -> dict[str, Any]:
        """Give the characters as code points, because JSON joins a high and a low surrogate, and the words."""
        return {
            "kind": self.kind,
            "characters": [ord(each) for each in self._characters.characters],
            "words": self._words,
        }

    @property
    def size(self) -> int:
        """How many tokens there are, ``unknown`` included."""
        return len(self._tokens) + 1

    @property
    def unknown(self) -> int:
        """The token of a character that is not in the training text."""
        return len(self._tokens)

    @property
    def unknown_bits(self) -> float:
        """Bits that name one of the characters behind ``unknown``, all code points being equally likely."""
        return self._characters.unknown_bits

    @property
    def vocabulary(self) -> list[str]:
        """The characters and the words."""
        return list(self._tokens)

    def encode(self, text: str) -> Tokens:
        """Tokens of the words and of the characters of spelled ones."""
        return self.encode_after_start(text)[1:]

    def encode_after_start(self, text: str) -> Tokens:
        """Tokens of a text after ``unknown``."""
        return np.fromiter(self.all_tokens([text]), np.min_scalar_type(self.unknown))

    def all_tokens(self, texts: Iterable[str]) -> Iterator[int]:
        """Yield ``unknown`` and the tokens of a text that comes in pieces."""
        yield self.unknown
        for piece in self._known_pieces(texts):
            yield self._tokens.get(piece, self.unknown)

    def pieces(self, text: str) -> list[str]:
        """Give the words, and the characters of spelled ones."""
        return list(self._known_pieces([text]))

    def _known_pieces(self, texts: Iterable[str]) -> Iterator[str]:
        for piece in _pieces(texts):
            if piece in self._tokens:
                yield piece
            else:
                yield from piece

    def decoder(self, prompt: str) -> PieceDecoder:
        """Give a decoder, which needs no prompt."""
        return PieceDecoder(self.vocabulary)


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    """Cut a text that comes in pieces of any length, as if it came in one."""
    rest = ""
    for text in texts:
        rest += text
        last = None
        for match in _PIECES.finditer(rest):
            if last is not None:
                yield last.group()
            last = match
        rest = rest[last.start() :] if last is not None else rest  # it may go on
    yield from (match.group() for match in _PIECES.finditer(rest))
