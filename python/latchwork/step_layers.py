"""Layers that act on whole steps: their order, which of them are skipped, and what of the input reaches the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import lengths_array, real_of_own_dtype, shape_text
from latchwork._module import Option
from latchwork.layers import Parameterless

if TYPE_CHECKING:
    from latchwork._arrays import Array


class Reverse(Parameterless):
    """The valid steps of each sequence in reverse order: the last one first, padding after them as before.

    For the layers after it everything that belongs to a step is reversed too. A step that ``skip`` leaves out is left
    out at its new place, a ``reset`` stays between the same two steps, and targets of a `Trainer` are those of the
    steps in the order of the output. So ``Reverse(), LSTM(...), Reverse()`` gives what ``LSTM(..., reverse=True)``
    gives, and ``LSTM(..., reverse=True), Reverse()`` gives that direction's outputs in its own order. A reset before
    the first step of a sequence comes after its last one then: it discards the start state of a reverse direction.
    `Last` takes the last step in the order that it finds; `Mean` and `Max` take the same steps as without a Reverse.
    Random masks are keyed by the steps as they come.

    In a `Network` it comes before `Last`, `Mean` and `Max`, and after an `Impute`. A network that has it cannot be
    streamed, because it begins with the last step. It has neither parameters nor a dtype of its own.

    Examples
    --------
    >>> import latchwork as lw
    >>> lw.Reverse()([[1.0], [2.0], [3.0]]).tolist()
    [[3.0], [2.0], [1.0]]
    """

    _kind = "reverse"

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, x: Any, lengths: Any = None) -> Array:
        """Reverse sequences.

        Parameters
        ----------
        x : array_like
            (T, N, features) or unbatched (T, features). float64 stays float64, other real numbers become float32.
        lengths : array_like of int, optional
            (N,), each from 0 to T; None: T for all. Not for unbatched input.

        Returns
        -------
        numpy.ndarray
            Of the shape of x, new; zero in padding.

        Raises
        ------
        ValueError
            If a shape does not fit, or a length is out of range.
        TypeError
            If an argument is of a wrong type or dtype.
        """
        array = real_of_own_dtype("x", x)
        if array.ndim not in (2, 3):
            raise ValueError(f"x: expected (T, N, features) or (T, features), got {shape_text(array.shape)}")
        if lengths is None:
            return array[::-1].copy()
        if array.ndim == 2:
            raise ValueError(f"lengths: expected None for unbatched x {shape_text(array.shape)}, got lengths")
        steps, rows = array.shape[:2]
        source = lengths_array(lengths, steps, rows) - 1 - np.arange(steps)[:, np.newaxis]
        reverse: Array = np.where((source >= 0)[..., np.newaxis], array[source, np.arange(rows)], array.dtype.type(0))
        return reverse


class InputSkip(Parameterless):
    """Adds ``factor`` times the first features of the network's own input to the first features of what comes in.

    With it a network learns what its output differs from its input in, as models of audio devices do:
    ``Network([LSTM(1, 32), Linear(32, 1), InputSkip(1)])`` gives ``linear(h) + x``. The input is what the network is
    called with, before a `Scale` or an `Impute`; where that holds NaN, so does the sum. Its gradient is part of that
    with respect to x. It may stand anywhere after another layer in a `Network` whose input is no tokens, where each
    step is that of the input: before `Last`, `Mean` and `Max`, and not between two `Reverse`. It has neither parameters
    nor a dtype of its own.

    Parameters
    ----------
    features : int
        How many features are added, at least 1, and at most those of the network's input and of what comes in.
    factor : float, default 1.0
        What the input is multiplied by, rounded to the dtype of the network.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.
    """

    _kind = "input_skip"

    features = Option[int]()
    factor = Option[float]()

    def __init__(self, features: int, factor: float = 1.0) -> None:
        super().__init__(features=features, factor=factor)

    def __call__(self, x: Any, network_input: Any) -> Array:
        """Add the first features of a network's input.

        Parameters
        ----------
        x : array_like
            (..., at least ``features``). float64 stays float64, other real numbers become float32.
        network_input : array_like
            The same leading axes, and at least ``features``.

        Returns
        -------
        numpy.ndarray
            Of the shape of x, new.

        Raises
        ------
        ValueError
            If a shape does not fit.
        TypeError
            If an argument does not hold real numbers.
        """
        output = np.array(real_of_own_dtype("x", x))
        added = real_of_own_dtype("network_input", network_input).astype(output.dtype, copy=False)
        for name, array in (("x", output), ("network_input", added)):
            if array.ndim == 0 or array.shape[-1] < self.features or array.shape[:-1] != output.shape[:-1]:
                leading = ", ".join(map(str, output.shape[:-1])) or "..."
                raise ValueError(
                    f"{name}: expected ({leading}, at least {self.features}), got {shape_text(array.shape)}"
                )
        output[..., : self.features] += output.dtype.type(self.factor) * added[..., : self.features]
        return output


class Mask(Parameterless):
    """Skips the steps of the input whose features all equal ``value``: a network's first layer.

    All layers after it skip them, as they skip those of a call's ``skip``, which may be given too: the state is carried
    through, and all results and gradients are those of the sequence without these steps. `Last` takes the last step
    that is left, `Mean` and `Max` count those that are left, and in a `Trainer` targets of the others do not count. It
    acts in calls, recordings, training and streams, and files hold it. Padding needs no mask where ``lengths`` are
    given. It has neither parameters nor a dtype of its own.

    Parameters
    ----------
    value : float
        What all features of a step are equal to if it is skipped, rounded to the dtype of the network.
    output : {"repeat", "zero"}, default "repeat"
        The output of the network at such a step, as ``skip_output`` of a call says it of a step that ``skip`` leaves
        out. "repeat": that of the last step before it that was not skipped, zero before the first; in the features of a
        reverse direction that of the next one after it. "zero": zero.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If an option is of another type.

    Notes
    -----
    Keras's ``Masking``. There an LSTM repeats its output at masked steps, and gives zero with
    ``zero_output_for_mask=True`` or in a ``Bidirectional``.

    Examples
    --------
    >>> import latchwork as lw
    >>> lw.Mask(0.0)([[0.0, 0.0], [0.0, 5.0]]).tolist()
    [True, False]
    """

    _kind = "mask"

    value = Option[float]()
    output = Option[str]()

    def __init__(self, value: float, output: str = "repeat") -> None:
        super().__init__(value=value, output=output)

    def __call__(self, x: Any) -> Array:
        """Say which steps are skipped.

        Parameters
        ----------
        x : array_like
            (..., features).

        Returns
        -------
        numpy.ndarray
            (...), bool: what a call without this layer takes as ``skip``.

        Raises
        ------
        ValueError
            If x has no features.
        TypeError
            If x does not hold real numbers.
        """
        array = real_of_own_dtype("x", x)
        if array.ndim == 0 or array.shape[-1] == 0:
            raise ValueError(f"x: expected (..., features), got {shape_text(array.shape)}")
        masked: Array = (array == array.dtype.type(self.value)).all(axis=-1)
        return masked
