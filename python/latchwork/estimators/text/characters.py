"""Characters as the numbers that a model reads, with one number for all characters that training never met."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODE_POINTS = 0x110000  # what one character of a Python string can be

Tokens = NDArray[np.unsignedinteger[Any]]

_PIECE = 65536  # characters that are encoded at once


class Vocabulary:
    """A sorted set of characters: a character's token is its place in it, and one more token stands for all others.

    Parameters
    ----------
    characters : str
        The known characters; order and repetition do not matter.
    """

    kind = counted = "characters"
    has_unknown = True

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        # The token of each code point up to the largest known one, and once more for all beyond it.
        known = code_points(self.characters)
        self._tokens = np.full(int(known.max(initial=0)) + 2, self.unknown, np.min_scalar_type(self.unknown))
        self._tokens[known] = np.arange(self.unknown)

    @property
    def unknown(self) -> int:
        """The token of a character that is not in the vocabulary."""
        return len(self.characters)

    @property
    def size(self) -> int:
        """How many tokens there are, ``unknown`` included."""
        return len(self.characters) + 1

    @property
    def unknown_bits(self) -> float:
        """Bits that name one of the characters behind ``unknown``, all code points being equally likely."""
        return math.log2(CODE_POINTS - len(self.characters))

    @property
    def vocabulary(self) -> str:
        """The characters."""
        return self.characters

    def encode(self, text: str) -> Tokens:
        """Tokens of the characters of ``text``, in the smallest dtype that holds all tokens."""
        return self._encoded(text, 0)

    def encode_after_start(self, text: str) -> Tokens:
        """Tokens of ``text`` after ``unknown``, the token that is read before its first character is predicted."""
        return self._encoded(text, 1)

    def pieces(self, text: str) -> list[str]:
        """Give the characters of a text."""
        return list(text)

    def decoder(self, prompt: str) -> "PieceDecoder":
        """Give a decoder, which needs no prompt."""
        return PieceDecoder(self.characters)

    def to_file(self) -> dict[str, Any]:
        """Give the code points, because JSON joins a high and a low surrogate to one character."""
        return {"kind": self.kind, "characters": [ord(character) for character in self.characters]}

    def _encoded(self, text: str, start: int) -> Tokens:
        tokens = np.full(start + len(text), self.unknown, self._tokens.dtype)
        # Piece by piece, because four bytes for each character at once would be more than all the rest takes.
        for begin in range(0, len(text), _PIECE):
            piece = text[begin : begin + _PIECE]
            places = code_points(piece)
            np.minimum(places, len(self._tokens) - 1, out=places)
            tokens[start + begin : start + begin + len(piece)] = self._tokens[places]
        return tokens


class PieceDecoder:
    """Writes down tokens each of which is a text by itself.

    Parameters
    ----------
    pieces : sequence of str
        The text of each token.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = pieces

    def text(self, token: int) -> str:
        """Give the text of a token."""
        return self._pieces[token]

    def rest(self) -> str:
        """Nothing waits."""
        return ""


def code_points(text: str) -> NDArray[np.uint32]:
    """Code points of the characters of a text, surrogates too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
