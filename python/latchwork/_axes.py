"""Where steps and rows lie in the user's arrays, and in the core's, where it is always (T, N, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array


class Axes(NamedTuple):
    """(T, N, ...), with ``batch_first`` (N, T, ...), unbatched (T, ...). After `Last` the axis of steps is missing."""

    batched: bool
    batch_first: bool

    def shape(self, steps: Any, rows: Any, *features: Any, sequence: bool = True) -> tuple[Any, ...]:
        """Give the user's shape. Sizes may be names, for error messages."""
        if not sequence:
            return (rows, *features) if self.batched else features
        if not self.batched:
            return (steps, *features)
        return (rows, steps, *features) if self.batch_first else (steps, rows, *features)

    def to_core(self, array: Array, sequence: bool = True) -> Array:
        """View a user's array as (T, N, ...); T is 1 where it is no sequence, N is 1 where it is unbatched."""
        if not self.batched:
            array = array[np.newaxis] if not sequence else array
            return array[:, np.newaxis]
        if not sequence:
            return array[np.newaxis]
        return array.swapaxes(0, 1) if self.batch_first else array

    def from_core(self, array: Array) -> Array:
        """View a sequence (T, N, ...) as the user's."""
        if not self.batched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.batch_first else array

    def state_shape(self, states: int, rows: int, size: int) -> tuple[int, ...]:
        """Give the user's shape of a state: (layers * directions, N, size), unbatched (layers * directions, size)."""
        return (states, rows, size) if self.batched else (states, size)

    def state_to_core(self, array: Array) -> Array:
        """View a user's state as (layers * directions, N, size)."""
        return array if self.batched else array[:, np.newaxis]
