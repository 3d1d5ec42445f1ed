"""A text as training reads it: streams side by side, window by window."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from latchwork._random import Random
from latchwork.estimators.characters import Tokens
from latchwork.training import Trainer

# The share of characters that training reads as unknown, so that the model learns to read on after one and to expect a
# few. It costs about 0.001 bits per character.
UNKNOWN_SHARE = 0.0005

# Fewer would leave a short text with few steps in each epoch.
SHORTEST_STREAM_WINDOWS = 16


class TextWindows:
    """What a `FitLoop` trains on: each epoch reads every character once, and the state goes from window to window.

    Parameters
    ----------
    tokens : (1 + length,) ndarray of unsigned integers
        ``unknown``, and after it the text, at least two tokens.
    unknown : int
        The token that stands for every character that the text lacks and for what came before the first one.
    batch_size : int
        How many streams the text is cut into at most.
    window : int
        How many tokens of each stream one step of training reads at most.
    random : Random
        It chooses, in each epoch, the characters that are read as unknown.
    """

    counted = "characters"
    loss_name = "bits_per_character"
    loss_label = "bits/character"
    loss_unit = math.log(2)

    def __init__(self, tokens: Tokens, unknown: int, batch_size: int, window: int, random: Random) -> None:
        self._tokens = tokens
        self._unknown = unknown
        self._random = random
        length = len(tokens) - 1
        rows = min(max(length // (window * SHORTEST_STREAM_WINDOWS), 1), batch_size)
        steps = -(-length // rows)
        # Neighbouring streams overlap a little if the text does not divide evenly.
        self._starts = (length - steps) * np.arange(rows) // max(rows - 1, 1)
        # Windows of nearly equal length, because each is one step of the optimiser.
        windows = -(-steps // window)
        self._bounds = (steps * np.arange(windows + 1) // windows).tolist()

    @property
    def steps(self) -> int:
        """Training steps in an epoch, one for each window."""
        return len(self._bounds) - 1

    def epoch(self, trainer: Trainer[Any]) -> Iterator[tuple[float, int]]:
        """Make one step of training each time that it is asked; yield the loss and the number of characters read."""
        state: Any = None
        for inputs, targets in self.windows():
            loss, state = trainer.step(inputs, targets, state)
            yield loss, inputs.size

    def windows(self) -> Iterator[tuple[Tokens, Tokens]]:
        """Yield, for each window, what every stream reads at each step, and what comes next: (steps, rows)."""
        tokens, random = self._tokens, self._random
        # Sorted, so that each window finds its own without a copy of the text.
        share = int(len(tokens) * UNKNOWN_SHARE + random.uniform(1)[0])
        unknown = np.sort(random.below(len(tokens), share))
        for start, end in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            begins = self._starts + start
            read = tokens[begins + np.arange(end - start + 1)[:, np.newaxis]]
            first, last = (np.searchsorted(unknown, places) for places in (begins, begins + len(read)))
            for row in np.flatnonzero(first < last):
                read[unknown[first[row] : last[row]] - begins[row], row] = self._unknown
            if start == 0:
                read[0] = self._unknown
            yield read[:-1], read[1:]
