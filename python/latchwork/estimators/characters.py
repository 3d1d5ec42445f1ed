"""Characters as the numbers that a model reads, with one number for all characters that training never met."""

import math

import numpy as np
from numpy.typing import NDArray

CODE_POINTS = 0x110000  # what one character of a Python string can be


class Vocabulary:
    """A sorted set of characters: a character's token is its place in it, and one more token stands for all others.

    Parameters
    ----------
    characters : str
        The known characters; order and repetition do not matter.
    """

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self._code_points = _code_points(self.characters)

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

    def encode(self, text: str) -> NDArray[np.int64]:
        """Tokens of the characters of ``text``."""
        wanted = _code_points(text)
        if not self.characters:
            return np.full(len(wanted), self.unknown, dtype=np.int64)
        places = np.searchsorted(self._code_points, wanted)
        known = self._code_points[np.minimum(places, self.unknown - 1)] == wanted
        return np.where(known, places, self.unknown).astype(np.int64)


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
