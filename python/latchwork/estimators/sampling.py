"""Drawing one token after another from what a network predicts."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latchwork import _core
from latchwork._random import Random
from latchwork.stream import Stream


def continue_tokens(
    stream: Stream[Any], prompt: Iterable[int], tokens: int, temperature: float, random: Random
) -> Iterator[int]:
    """Yield, without end, the tokens that follow the prompt, each drawn from the scores of those before it.

    Parameters
    ----------
    stream : Stream
        A stream of one row at the start of its sequence; its network reads tokens and predicts the next one.
    prompt : iterable of int
        At least one token.
    tokens : int
        How many tokens there are to draw from: those from this number on are never generated.
    temperature : float
        See `draw`.
    random : Random
        Where the random numbers come from, one for each token unless the temperature is 0.
    """
    for token in prompt:
        scores = stream.step(token)
    while True:
        token = draw(scores[:tokens], temperature, random)
        yield token
        scores = stream.step(token)


def draw(scores: NDArray[np.float32], temperature: float, random: Random) -> int:
    """Draw a token with the probabilities softmax(scores / temperature); temperature 0 takes the largest score."""
    if temperature == 0:
        return int(scores.argmax())
    shifted = scores.astype(np.float64)
    shifted -= shifted.max()
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, or nearly, of probability 0
        cumulated = np.cumsum(_core.exp(shifted / temperature))
    drawn = np.searchsorted(cumulated, random.uniform(1)[0] * cumulated[-1], side="right")
    return min(int(drawn), len(cumulated) - 1)  # the product may round up to the whole sum
