"""Named tensors in one contiguous buffer: a module's parameters and their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import contiguous_real_array

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._module import Module


class Place(NamedTuple):
    """Where a tensor lies in the buffer, or in each member's part of it."""

    shape: tuple[int, ...]  # with the axis of members, if there is one
    start: int
    end: int
    members: int | None = None  # each has a part of the buffer, one after another; None: one member

    def view(self, flat: Array) -> Array:
        """View the tensor in the buffer."""
        parts = flat if self.members is None else flat.reshape(self.members, -1)
        return parts[..., self.start : self.end].reshape(self.shape)


Layout = dict[str, Place]


def layout_of(specifications: list[tuple[str, tuple[int, ...], int]], members: int | None) -> Layout:
    """Read the core's layout: name, shape and offset of each tensor of one member."""
    layout = {}
    for name, shape, offset in specifications:
        size = 1
        for extent in shape:
            size *= extent
        whole_shape = tuple(shape) if members is None else (members, *shape)
        layout[name] = Place(whole_shape, offset, offset + size, members)
    return layout


def members_of(layout: Layout) -> int | None:
    """Give the number of members; None: one."""
    return next((place.members for place in layout.values()), None)


def flat_size(layout: Layout) -> int:
    """Count the numbers in the buffer."""
    return max((place.end for place in layout.values()), default=0) * (members_of(layout) or 1)


class Named(Mapping[str, "Array"]):
    """A mapping from PyTorch's names to arrays of fixed shapes."""

    _layout: Layout

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)

    def __contains__(self, name: object) -> bool:
        return name in self._layout

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name!r}: {place.shape}" for name, place in self._layout.items())
        return f"{type(self).__name__}({{{shapes}}})"


class Parameters(Named):
    """A module's parameters by PyTorch's names: read-only views that show every later write.

    ``parameters[name] = array`` writes; the shape must match exactly, real numbers are converted to the module's dtype.
    Views taken before a layer joins a `Network` do not follow it there.
    """

    def __init__(self, module: Module) -> None:
        self._module = module
        self._layout = module._layout

    def __getitem__(self, name: str) -> Array:
        return self._layout[name].view(self._module._core.view())

    def __setitem__(self, name: str, value: Any) -> None:
        shape = self._layout[name].shape
        self._module._write({name: contiguous_real_array(name, value, self._module.dtype, shape)})


class ParameterGradients(Named):
    """Gradients with respect to parameters, under their names: writeable views of one contiguous buffer, `flat`."""

    def __init__(self, layout: Layout, flat: Array) -> None:
        self._layout = layout
        self._flat = flat

    @property
    def flat(self) -> Array:
        """All gradients, one tensor after another, 1-D."""
        return self._flat

    def __getitem__(self, name: str) -> Array:
        return self._layout[name].view(self._flat)

    def __setitem__(self, name: str, value: Any) -> None:
        view = self[name]
        np.copyto(view, contiguous_real_array(name, value, self._flat.dtype, view.shape))
