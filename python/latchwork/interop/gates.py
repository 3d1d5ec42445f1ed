"""The order in which formats stack the gates: ONNX i o f g, Keras i f g o, TensorFlow's old cells i g f o."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latchwork._arrays import Array

OURS = "ifgo"


def reordered(array: Array, source: str, target: str = OURS) -> Array:
    """Give blocks of rows, one for each gate and of one size, in another order, as an array of its own.

    Parameters
    ----------
    array : numpy.ndarray
        (gates * H, ...), blocks in the order of ``source``.
    source, target : str
        A letter for each gate: input i, forget f, candidate g, output o; the same letters in both.
    """
    blocks = np.split(array, len(source))
    return np.ascontiguousarray(np.concatenate([blocks[source.index(gate)] for gate in target]))
