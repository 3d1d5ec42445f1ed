"""Drawing one token after another from what a network predicts, and ending a text at a stop string."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latchwork import _core
from latchwork._arrays import MAX_SEED, integer, real_number
from latchwork._random import Random
from latchwork.stream import Stream

_DRAWN_AT_ONCE = 64  # random numbers of a row, because asking for one costs as much as asking for many


class Sampling(NamedTuple):
    """How tokens are drawn: from softmax(scores / temperature), of which unlikely tokens may be left out.

    First all but the ``top_k`` likeliest tokens are left out, then all but the likeliest ones whose probabilities,
    among those that are left, add up to ``top_p`` or just above. Of equally likely tokens the first ones stay.
    """

    temperature: float = 1.0  # 0: always the likeliest token
    top_k: int | None = None
    top_p: float | None = None

    @classmethod
    def checked(cls, temperature: Any, top_k: Any, top_p: Any) -> Sampling:
        """Check what a user gave. ValueError, TypeError."""
        temperature = real_number("temperature", temperature)
        if top_k is not None:
            top_k = integer("top_k", top_k, 1)
        if top_p is not None:
            top_p = real_number("top_p", top_p, 0.0, 1.0)
            if top_p == 0:
                raise ValueError("top_p: expected more than 0, got 0; top_k=1 draws the likeliest token")
        return cls(temperature, top_k, top_p)


class Draws:
    """Random numbers of several rows, each the same whatever the other rows are.

    Parameters
    ----------
    seed : int
        Row i has the numbers of ``seed + i``, modulo 2**64.
    rows : int
        How many there are.
    """

    def __init__(self, seed: int, rows: int) -> None:
        self._randoms = [Random((seed + row) % (MAX_SEED + 1)) for row in range(rows)]
        self._drawn = np.empty((rows, 0))
        self._next = 0

    def uniform(self) -> NDArray[np.float64]:
        """Draw a number from 0 to below 1 for each row."""
        if self._next == self._drawn.shape[1]:
            self._drawn = np.stack([random.uniform(_DRAWN_AT_ONCE) for random in self._randoms])
            self._next = 0
        self._next += 1
        drawn: NDArray[np.float64] = self._drawn[:, self._next - 1]
        return drawn


def draw(scores: NDArray[Any], sampling: Sampling, draws: Draws) -> NDArray[np.int64]:
    """Draw a token for each row of scores, (rows, tokens)."""
    if sampling.temperature == 0:
        likeliest: NDArray[np.int64] = scores.argmax(axis=1)
        return likeliest
    weights = _weights(scores, sampling)
    cumulated = np.cumsum(weights, axis=1)
    total = cumulated[:, -1]
    # The product may round up to the whole sum, beyond which there is no token.
    places = np.minimum(draws.uniform() * total, np.nextafter(total, 0.0))
    drawn: NDArray[np.int64] = np.count_nonzero(cumulated <= places[:, np.newaxis], axis=1)
    return drawn


def _weights(scores: NDArray[Any], sampling: Sampling) -> NDArray[np.float64]:
    """Give the weight of each token: proportional to its probability, 0 if it is left out."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, or nearly, of probability 0
        weights: NDArray[np.float64] = _core.exp(shifted / sampling.temperature)
    if sampling.top_k is None and sampling.top_p is None:
        return weights
    # A stable order, which is the same on every CPU: the likeliest first, and of equal ones the first.
    order = np.argsort(-weights, axis=1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=1)
    if sampling.top_k is not None:
        ordered[:, sampling.top_k :] = 0.0
    if sampling.top_p is not None:
        cumulated = np.cumsum(ordered, axis=1)
        # A token is left out if those before it are enough.
        ordered[:, 1:][cumulated[:, :-1] >= sampling.top_p * cumulated[:, -1:]] = 0.0
    np.put_along_axis(weights, order, ordered, axis=1)
    return weights


class StopStrings:
    """Ends a text before the stop string that is complete first, wherever the borders of its pieces are.

    Parameters
    ----------
    stops : sequence of str
        None of them empty. If several are complete at once, the text ends before the longest of them.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._waiting = ""  # the end of the text, as far as it may be the beginning of a stop string
        self.stopped = False

    @staticmethod
    def checked(stop: Any) -> list[str]:
        """Read a stop string or several. ValueError, TypeError."""
        if stop is None:
            return []
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, (list, tuple)):
            raise TypeError(f"stop: expected a str or a list of them, got {type(stop).__name__}")
        for each in stops:
            if not isinstance(each, str):
                raise TypeError(f"stop: expected a str or a list of them, got {type(each).__name__} in it")
            if not each:
                raise ValueError("stop: expected at least one character, got an empty str")
        return list(stops)

    def text(self, piece: str) -> str:
        """Take the next piece; give what belongs to the text whatever follows."""
        if self.stopped:
            return ""
        text = self._waiting + piece
        found = [(place + len(stop), -len(stop)) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            end, minus_length = min(found)
            self.stopped = True
            self._waiting = ""
            return text[: end + minus_length]
        waiting = max(
            (length for stop in self._stops for length in range(1, len(stop)) if text.endswith(stop[:length])),
            default=0,
        )
        self._waiting = text[len(text) - waiting :]
        return text[: len(text) - waiting]

    def rest(self) -> str:
        """Give what waited for a stop string that did not come."""
        waiting, self._waiting = self._waiting, ""
        return waiting


def continued(
    stream: Stream[Any], scores: NDArray[Any], tokens: int, sampling: Sampling, draws: Draws
) -> Iterator[list[int]]:
    """Yield, without end, the next token of each row of a stream, drawn from the scores of those before it.

    Parameters
    ----------
    stream : Stream
        A stream of rows that have read the beginnings of their texts; its network predicts the next token.
    scores : (rows, size) ndarray
        What the network predicts at this moment.
    tokens : int
        How many tokens there are to draw from: those from this number on are never drawn.
    sampling : Sampling
        How they are drawn.
    draws : Draws
        Where the random numbers of each row come from.
    """
    while True:
        drawn = draw(scores[:, :tokens], sampling, draws)
        yield drawn.tolist()
        output = stream.step(drawn)
        scores = joined(output) if output.ndim == 3 else output


def joined(scores: NDArray[Any]) -> NDArray[Any]:
    """Give scores of the mean of the members' probabilities, (M, ..., tokens) to (..., tokens)."""
    logs = scores.astype(np.float64)
    logs -= logs.max(axis=-1, keepdims=True)
    sums = np.cumsum(_core.exp(logs), axis=-1)[..., -1:]
    logs -= _core.log(sums)
    highest = logs.max(axis=0)
    total = np.cumsum(_core.exp(logs - highest), axis=0)[-1]
    joint: NDArray[Any] = highest + _core.log(total / len(scores))
    return joint
