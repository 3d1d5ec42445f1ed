"""The memory blocks of 1997, for the programs beside this file: cells that share their gates.

The cells of a block share their input gate and their output gate and, if there is one, their forget gate. In the
library's LSTM each cell has gates of its own, so each keeps a copy of its block's gates. The gradient with respect to a
shared weight is the sum of the gradients of its copies. Copies that start equal, and all get that sum, stay equal, bit
for bit.
"""

import functools
import random
from typing import NamedTuple

import numpy as np

ACTIVATIONS = {"candidate": ("scaled_tanh", 2, 0.5), "cell": ("scaled_tanh", 1, 0.5)}  # in [-2, 2] and in [-1, 1]


class Blocks(NamedTuple):
    """The blocks of one LSTM layer."""

    count: int
    size: int  # cells of a block
    forget_gates: bool = False

    def __str__(self):
        """Say it as the paper does."""
        return f"{self.count} blocks of {self.size}"

    @property
    def cells(self):
        """How many cells all blocks have together."""
        return self.count * self.size

    def gates(self, name, tensor):
        """View each gate's rows of an LSTM's tensor as (block, cell of the block, ...).

        Parameters
        ----------
        name : str
            The tensor's name.
        tensor : numpy.ndarray
            With an axis of members in front, or without. In the views that axis follows the first two.
        """
        order = ("input", "forget", "candidate", "output") if self.forget_gates else ("input", "candidate", "output")
        axis = tensor.ndim - (1 if "bias" in name else 2)
        parts = tensor.reshape(*tensor.shape[:axis], len(order), self.count, self.size, *tensor.shape[axis + 1 :])
        return dict(zip(order, np.moveaxis(parts, (axis, axis + 1, axis + 2), (0, 1, 2)), strict=True))

    def tie(self, gradients):
        """Give each copy of a shared weight the sum of all copies' gradients; keep ``bias_hh`` as it is, zero."""
        for name, gradient in gradients.items():
            if name.endswith("bias_hh_l0"):
                gradient[...] = 0
            elif name.endswith("_l0"):
                for gate, view in self.gates(name, gradient).items():
                    if gate != "candidate":
                        view[...] = functools.reduce(np.add, view.swapaxes(0, 1))[:, np.newaxis]

    def initialize(self, network, seeds, scale, **biases):
        """Draw each member's weights from its own seed, uniform within ``+-scale``.

        Parameters
        ----------
        network : latchwork.Network
            Its first layer is the LSTM. It has one member for each seed, and at least two.
        seeds : sequence of int
            One for each member.
        scale : float
            The largest weight that is drawn.
        **biases : sequence of float
            For a gate ("input", "forget" or "output") the biases of its blocks, which are then not drawn.
        """
        generators = [random.Random(f"weights of {seed}") for seed in seeds]
        with network.edit() as parameters:
            for name, values in parameters.items():
                for member, generator in zip(values, generators, strict=True):
                    drawn = [generator.uniform(-scale, scale) for _ in range(member.size)]
                    member[...] = np.reshape(drawn, member.shape)
                if name.endswith("bias_hh_l0"):
                    values[...] = 0  # one bias is enough
                elif name.endswith("_l0"):
                    for gate, view in self.gates(name, values).items():
                        if gate in biases and "bias" in name:
                            view[...] = np.reshape(biases[gate], (self.count, 1, 1))
                        elif gate != "candidate":
                            view[...] = view[:, :1]
