"""A text as training reads it: streams side by side, window by window."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from latchwork._random import Random
from latchwork.estimators.runs.fit_loop import Batch
from latchwork.estimators.text.characters import Tokens

# The share of characters that training reads as unknown, so that the model learns to read on after one and to expect a
# few. It costs about 0.001 bits per character.
UNKNOWN_SHARE = 0.0005

# Fewer would leave a short text with few steps in each epoch.
SHORTEST_STREAM_WINDOWS = 16

_PIECE = 1 << 20  # tokens that are hashed at once


class TokenArray(Protocol):
    """Tokens in an array, or in a file that is read where a slice is taken."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What each slice holds."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, places: slice, /) -> Tokens:
        """Read consecutive ones."""


class TextWindows:
    """What a `FitLoop` trains on: each epoch reads every character once, and the state goes from window to window.

    Parameters
    ----------
    tokens : (1 + length,) ndarray of unsigned integers, or TextFileTokens
        ``unknown``, and after it the text, at least two tokens.
    unknown : int
        The token that stands for every character that the text lacks and for what came before the first one.
    batch_size : int
        How many streams the text is cut into at most.
    window : int
        How many tokens of each stream one step of training reads at most.
    seed : int
        It decides, for each epoch, which tokens are read as unknown.
    counted : str, default "characters"
        The plural of a token.
    characters : int, optional
        How many characters the text has, so that the loss can be told in bits per character. None: one each token.
    has_unknown : bool, default True
        Whether some tokens are read as unknown.
    """

    loss_name = "bits_per_character"
    loss_label = "bits/character"

    def __init__(
        self,
        tokens: TokenArray,
        unknown: int,
        batch_size: int,
        window: int,
        seed: int,
        *,
        counted: str = "characters",
        characters: int | None = None,
        has_unknown: bool = True,
    ) -> None:
        self._tokens = tokens
        self._unknown = unknown
        self._seed = seed
        self._has_unknown = has_unknown
        self.counted = counted
        length = len(tokens) - 1
        self.loss_unit = math.log(2) * ((characters or length) / length)
        rows = min(max(length // (window * SHORTEST_STREAM_WINDOWS), 1), batch_size)
        steps = -(-length // rows)
        # Neighbouring streams overlap a little if the text does not divide evenly.
        self._starts = (length - steps) * np.arange(rows) // max(rows - 1, 1)
        # Windows of nearly equal length, because each is one step of the optimiser.
        windows = -(-steps // window)
        self._bounds = (steps * np.arange(windows + 1) // windows).tolist()

    def steps(self) -> int:
        """Training steps in an epoch, one for each window."""
        return len(self._bounds) - 1

    def feed(self, update: Callable[[Any], object]) -> None:
        """Pass the dtype, the number and the values of the tokens to a hash."""
        update(f"tokens {self._tokens.dtype.str} {len(self._tokens)} {self._unknown}\n".encode())
        for begin in range(0, len(self._tokens), _PIECE):
            update(self._tokens[begin : begin + _PIECE])

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield, for each window from this one on, what every stream reads at each step, and what comes next."""
        tokens, random = self._tokens, Random.of_epoch(self._seed, epoch)
        # Sorted, so that each window finds its own without a copy of the text.
        share = int(len(tokens) * UNKNOWN_SHARE + random.uniform(1)[0]) if self._has_unknown else 0
        unknown = np.sort(random.below(len(tokens), share))
        for start, end in zip(self._bounds[first:-1], self._bounds[first + 1 :], strict=True):
            begins = self._starts + start
            read = np.stack([tokens[begin : begin + end - start + 1] for begin in begins.tolist()], axis=1)
            lowest, highest = (np.searchsorted(unknown, places) for places in (begins, begins + len(read)))
            for row in np.flatnonzero(lowest < highest):
                read[unknown[lowest[row] : highest[row]] - begins[row], row] = self._unknown
            if start == 0:
                read[0] = self._unknown
            yield Batch(read[:-1], read[1:], continues=start > 0, count=read[:-1].size)
