"""The layer that applies an activation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._arrays import real_of_own_dtype, shape_text
from latchwork._module import Option
from latchwork.layers import Parameterless, activation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchwork._arrays import Array


class Activation(Parameterless):
    """An activation as a layer of its own, for where no `Linear` computes what it is applied to.

    It may stand anywhere in a `Network` except before an `Embedding` or an `EmbedColumns`. It has neither parameters
    nor a dtype of its own.

    Parameters
    ----------
    activation : str or tuple
        Any that a `Linear` may have: a name, (name, alpha) or (name, alpha, beta). `LSTM` lists the names under
        ``activations``; "softmax" and "log_softmax", over the features of each step, and "identity" come on top.

    Raises
    ------
    ValueError
        If there is no such activation, or alpha or beta is out of range.
    TypeError
        If an option is of another type.

    Examples
    --------
    >>> import latchwork as lw
    >>> lw.Activation("softmax")([[1.0, 1.0], [0.0, 0.0]])
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """

    _kind = "activation"

    activation = Option["str | tuple[Any, ...]"](
        lambda config: activation_of(config.modules[0]["activation"]) or "identity"
    )

    def __init__(self, activation: str | Sequence[Any]) -> None:
        super().__init__(activation=activation)

    def __call__(self, x: Any) -> Array:
        """Apply the activation.

        Parameters
        ----------
        x : array_like
            (..., features). float64 stays float64, other real numbers become float32.

        Returns
        -------
        numpy.ndarray
            Of the shape of x, new.

        Raises
        ------
        ValueError
            If x has no axes.
        TypeError
            If x does not hold real numbers.
        """
        array = real_of_own_dtype("x", x)
        if array.ndim == 0:
            raise ValueError(f"x: expected (..., features), got {shape_text(array.shape)}")
        rows = np.ascontiguousarray(array).reshape(math.prod(array.shape[:-1]), array.shape[-1])
        return _core.activated(self._config.modules[0], rows).reshape(array.shape)
