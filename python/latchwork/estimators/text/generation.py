"""Texts that are written down token by token, several side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from latchwork.estimators.text.sampling import StopStrings
from latchwork.estimators.text.tokenizers import Decoder


class _Text:
    """One text that grows."""

    def __init__(self, decoder: Decoder, stops: Sequence[str]) -> None:
        self._decoder = decoder
        self._stops = StopStrings(stops)

    @property
    def stopped(self) -> bool:
        return self._stops.stopped

    def grow(self, token: int) -> str:
        return "" if self.stopped else self._stops.text(self._decoder.text(token))

    def end(self) -> str:
        return "" if self.stopped else self._stops.text(self._decoder.rest()) + self._stops.rest()


def written(
    tokens: Iterator[Sequence[int]], decoders: Sequence[Decoder], stops: Sequence[str], length: int
) -> Iterator[list[str]]:
    """Yield what each of several texts grows by, whenever one of them does.

    Parameters
    ----------
    tokens : iterator of sequences of int
        The next token of each text. Only those that are written are asked for.
    decoders : sequence of Decoder
        One for each text.
    stops : sequence of str
        A text ends before the first of them.
    length : int
        A text ends after so many tokens.
    """
    texts = [_Text(decoder, stops) for decoder in decoders]
    for step in itertools.islice(tokens, length):
        grown = [text.grow(token) for text, token in zip(texts, step, strict=True)]
        if any(grown):
            yield grown
        if all(text.stopped for text in texts):
            return
    grown = [text.end() for text in texts]
    if any(grown):
        yield grown
