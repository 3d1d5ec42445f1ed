"""Naive models to print beside a real one, so that its number means something."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Self

from latchwork.estimators.estimator import not_fitted_error
from latchwork.estimators.text.characters import Vocabulary


class CharacterModel:
    """Character model of fixed order with additive smoothing.

    The probability of a character c after the ``order`` characters before it is
    ``(count(context, c) + alpha) / (count(context) + alpha * V)``, with V the number of different characters in the
    training text plus one for all others. The first characters of a text have shorter contexts.

    Parameters
    ----------
    order : int
        Characters of context. 0 knows only how frequent each character is.
    alpha : float
        What is added to every count. The default suits orders of 3 to 5 on some hundred thousand characters.

    Attributes
    ----------
    vocabulary_ : str
        The characters of the training text, sorted.
    """

    def __init__(self, order: int, alpha: float = 0.01) -> None:
        if order < 0:
            raise ValueError(f"order: expected at least 0, got {order}")
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha: expected a positive number, got {alpha}")
        self.order = order
        self.alpha = alpha

    def fit(self, text: str) -> Self:
        """Count the characters of ``text`` and their contexts."""
        if not text:
            raise ValueError("text: expected at least 1 character, got none")
        self._vocabulary = Vocabulary(text)
        self.vocabulary_ = self._vocabulary.characters
        self._counts = Counter(self._grams(text))
        self._context_counts: Counter[str] = Counter()
        for gram, count in self._counts.items():
            self._context_counts[gram[:-1]] += count
        return self

    def bits_per_character(self, text: str) -> float:
        """Mean -log2 of the probability of each character of ``text``.

        The probability of a character that the training text lacks is shared equally by all such Unicode code points,
        so that the bits would suffice to write the text down.
        """
        if not hasattr(self, "vocabulary_"):
            raise not_fitted_error("this CharacterModel has learned nothing yet: call fit(text) first")
        if not text:
            raise ValueError("text: expected at least 1 character, got none")
        shared = self.alpha * self._vocabulary.size
        known = set(self.vocabulary_)
        bits = 0.0
        for gram, times in Counter(self._grams(text)).items():
            probability = (self._counts[gram] + self.alpha) / (self._context_counts[gram[:-1]] + shared)
            bits -= times * math.log2(probability)
            if gram[-1] not in known:
                bits += times * self._vocabulary.unknown_bits
        return bits / len(text)

    def _grams(self, text: str) -> Iterator[str]:
        """Yield each character of ``text`` with its context before it."""
        return (text[max(0, end - self.order - 1) : end] for end in range(1, len(text) + 1))
