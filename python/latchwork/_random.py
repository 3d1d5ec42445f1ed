"""Random numbers that are the same on every CPU and with every version of NumPy: the core's, Philox4x32-10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._arrays import seed_number

if TYPE_CHECKING:
    from numpy.typing import NDArray


def seed_of(random_state: Any) -> int:
    """Give the seed that a random_state is, or draw one. It takes what `Random` does."""
    if isinstance(random_state, np.random.Generator):
        random_state = random_state.integers(2**63)
    elif isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**63, dtype=np.int64)
    return seed_number("random_state", random_state)


class Random:
    """One sequence of random numbers.

    Parameters
    ----------
    random_state : int, numpy.random.Generator or numpy.random.RandomState, optional
        The seed, or what draws one. None: a fresh one.

    Raises
    ------
    TypeError, ValueError
        If the seed is no int from 0 to 2**64 - 1.
    """

    def __init__(self, random_state: Any = None) -> None:
        self._seed = seed_of(random_state)
        self._drawn = 0

    @classmethod
    def of_epoch(cls, seed: int, epoch: int) -> Random:
        """Give the sequence of an epoch, counted from 0: each has its own, so that any can be repeated alone."""
        high, low = _core.random_words(seed, 2 * epoch, 2).tolist()
        return cls(int(high << 32 | low))

    def words(self, count: int) -> NDArray[np.uint32]:
        """Draw integers of 32 random bits."""
        words = _core.random_words(self._seed, self._drawn, count)
        self._drawn += count
        return words

    def seed(self) -> int:
        """Draw an integer from 0 to 2**64 - 1."""
        high, low = self.words(2).tolist()
        return int(high << 32 | low)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Draw multiples of 2**-53 from 0 to below 1."""
        words = self.words(2 * count).reshape(count, 2).astype(np.uint64)
        return (words[:, 0] >> np.uint64(5)) * 2.0**-27 + (words[:, 1] >> np.uint64(6)) * 2.0**-53

    def below(self, bound: int, count: int) -> NDArray[np.int64]:
        """Draw integers from 0 to ``bound - 1``; ``bound`` is at most 2**53."""
        # The product may round up to the bound.
        return np.minimum((self.uniform(count) * float(bound)).astype(np.int64), bound - 1)
