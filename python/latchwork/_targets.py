"""Targets of losses and their weights, as the core takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import check_shape, integer_array, real_array, shape_text

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._axes import Axes


def target_array(
    y: Any, labels: bool, features: int, dtype: np.dtype[Any], axes: Axes, steps: int, rows: int, sequence: bool
) -> Array:
    """Read targets in the axes of the output: labels, or values with so many features; give the core's view."""
    target = integer_array("y", y) if labels else real_array("y", y, dtype)
    sizes = () if labels else (features,)
    if axes.members is not None:
        axes = axes.of_array(target, len(axes.shape(steps, rows, *sizes, sequence=sequence)))
    check_shape("y", target, axes.shape(steps, rows, *sizes, sequence=sequence))
    return axes.to_core(target, sequence)


def weights_array(
    weights: Any, labels: bool, features: int, dtype: np.dtype[Any], axes: Axes, steps: int, rows: int, sequence: bool
) -> Array:
    """Read weights of rows, steps or elements; give the core's view, (T, N, 1) or (T, N, features)."""
    array = real_array("weights", weights, dtype)
    one = axes.of_one_member
    shapes: list[tuple[str, tuple[int, ...]]] = [("step", one.shape(steps, rows, sequence=sequence))]
    if not labels:
        shapes.append(("element", one.shape(steps, rows, features, sequence=sequence)))
    if one.batched and sequence:
        shapes.append(("row", (rows,)))
    if axes.members is not None:
        shapes += [(kind, (axes.members, *shape)) for kind, shape in shapes]
    for place, (kind, shape) in enumerate(shapes):
        if array.shape != shape:
            continue
        own = axes if axes.members is not None and place >= len(shapes) // 2 else one
        if kind == "element":
            return own.to_core(array, sequence)
        if kind == "step":
            return own.to_core(array, sequence)[..., np.newaxis]
        return np.broadcast_to(array[..., np.newaxis, :, np.newaxis], (*shape[:-1], steps, rows, 1))
    expected = " or ".join(shape_text(shape) for _, shape in shapes)
    raise ValueError(f"weights: expected {expected}, got {shape_text(array.shape)}")


def in_the_users_words(error: ValueError) -> ValueError:
    """Call y what the core calls target."""
    message = str(error)
    return ValueError("y" + message.removeprefix("target")) if message.startswith("target:") else error
