"""The order of axes in the user's arrays, and conversions from and to the core's, which is always (T, N, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import SWAPPED, shape_text

if TYPE_CHECKING:
    from latchwork._arrays import Array


class Axes(NamedTuple):
    """The axes of a user's array: (T, N, ...), with ``batch_first`` (N, T, ...), unbatched (T, ...).

    After `Last` there is no axis T. If a network has several members, their axis comes before all others, in the core's
    arrays too.
    """

    batched: bool
    batch_first: bool
    members: int | None = None  # None: no axis of members

    def shape(self, steps: Any, rows: Any, *features: Any, sequence: bool = True) -> tuple[Any, ...]:
        """Give the user's shape. Sizes may be names, for error messages."""
        if not sequence:
            shape: tuple[Any, ...] = (rows, *features) if self.batched else features
        elif not self.batched:
            shape = (steps, *features)
        else:
            shape = (rows, steps, *features) if self.batch_first else (steps, rows, *features)
        return shape if self.members is None else (self.members, *shape)

    def check_shape(
        self, name: str, array: Array, steps: int, rows: int, *features: Any, sequence: bool = True
    ) -> None:
        """Raise ValueError unless an array has the shape that belongs to an x of these sizes.

        The message has a hint if T and N of that x seem to be swapped.
        """
        expected = self.shape(steps, rows, *features, sequence=sequence)
        if array.shape == expected:
            return
        swapped = self._replace(batch_first=not self.batch_first).shape(rows, steps, *features, sequence=sequence)
        hint = SWAPPED if self.batched and array.shape == swapped else ""
        raise ValueError(f"{name}: expected {shape_text(expected)}, got {shape_text(array.shape)}{hint}")

    def core_shape(self, steps: int, rows: int, features: int) -> tuple[int, ...]:
        """Give the core's shape of a sequence."""
        shape = (steps, rows, features)
        return shape if self.members is None else (self.members, *shape)

    def to_core(self, array: Array, sequence: bool = True) -> Array:
        """View a user's array as (T, N, ...); T is 1 if it is no sequence, N is 1 if it is unbatched."""
        if self.members is not None:
            if not sequence:
                array = array[:, np.newaxis]
            if not self.batched:
                return array[:, :, np.newaxis]
            return array.swapaxes(1, 2) if self.batch_first and sequence else array
        if not self.batched:
            array = array[np.newaxis] if not sequence else array
            return array[:, np.newaxis]
        if not sequence:
            return array[np.newaxis]
        return array.swapaxes(0, 1) if self.batch_first else array

    def from_core(self, array: Array, sequence: bool = True) -> Array:
        """View the core's (T, N, ...) as the user's; T is 1 if it is no sequence."""
        if not sequence:
            array = array[0] if self.members is None else array[:, 0]
            if self.batched:
                return array
            return array[0] if self.members is None else array[:, 0]
        if self.members is not None:
            if not self.batched:
                return array[:, :, 0]
            return array.swapaxes(1, 2) if self.batch_first else array
        if not self.batched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.batch_first else array

    def state_shape(self, states: int, rows: int, size: int) -> tuple[int, ...]:
        """Give the user's shape of a state: (layers * directions, N, size), unbatched (layers * directions, size)."""
        shape = (states, rows, size) if self.batched else (states, size)
        return shape if self.members is None else (self.members, *shape)

    def state_to_core(self, array: Array) -> Array:
        """View a user's state as (layers * directions, N, size)."""
        return array if self.batched else array[..., np.newaxis, :]

    @property
    def of_one_member(self) -> Axes:
        """The same axes without that of the members."""
        return self if self.members is None else self._replace(members=None)

    def of_array(self, array: Array, rank: int) -> Axes:
        """Give the axes of an array that has ``rank`` axes or, if that of the members is missing, one fewer."""
        return self.of_one_member if array.ndim == rank - 1 else self
