"""Running step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, SupportsIndex

import numpy as np

from latchwork._axes import Axes
from latchwork._module import S

if TYPE_CHECKING:
    from latchwork import _core
    from latchwork._arrays import Array
    from latchwork._sequence import SequenceModule


class Stream(Generic[S]):
    """Runs an `LSTM` or a `Network` step by step: made by their ``stream`` method.

    A stream owns its state and buffers, and keeps the weights of the moment in which it was made or last refreshed. It
    serves one thread at a time: if a second one calls ``step`` meanwhile, that call raises RuntimeError.

    Attributes
    ----------
    step : callable
        ``step(x, out=None, reset=None, skip=None)`` runs one step and returns the output. ``x`` is (input_size,), with
        a ``batch_size`` (batch_size, input_size); for a network that begins with an `Embedding` an int, or int64
        (batch_size,). The output is (output_size,) or (batch_size, output_size). If ``out`` is given, it receives the
        output and is returned, and nothing is allocated. Where ``reset`` is true, the state goes back to the layers'
        own start state before the step: one truth value, with a ``batch_size`` (batch_size,), as bool or as numbers
        that are all 0 or 1; arrays of them are read where they are, lists are converted. Where ``skip``, of the same
        forms, is true, the step is left out: the state stays as it is (but goes back if ``reset`` says so), x does not
        matter, and the output is that of the last step that was not left out, or zero if there is none since the last
        reset or since the state was assigned; with ``skip_output="zero"`` it is zero. ``x`` and ``out`` must be
        C-contiguous and of the stream's dtype (TypeError) and of exactly these shapes (ValueError): nothing is
        converted, because this is the hot path. After `Mean` and `Max` each step returns what they make of the steps
        since the start or the last reset that were not left out, after `Last` the step itself.
        If the network has several members, the output has their axis before the others; ``x``, ``reset`` and ``skip``
        may have it too, and are the same for all members if they do not.
    """

    def __init__(self, module: SequenceModule[S], core: _core.Stream32, batch_size: int | None) -> None:
        self.__dict__["step"] = core.step  # the core's own method: no Python stands between
        self._core = core
        self._module = module
        self._batch_size = batch_size

    def step(self, x: Any, out: Array | None = None, reset: Any = None, skip: Any = None) -> Array:
        """Run one step and return the output; `Stream` says what the arguments are.

        Parameters
        ----------
        x : numpy.ndarray
            (input_size,), with a ``batch_size`` (batch_size, input_size); of tokens an int, or int64 (batch_size,).
        out : numpy.ndarray, optional
            What receives the output and is returned; None: a new array.
        reset : bool or array of bool, optional
            Where it is true, the state goes back to the layers' own start state before the step.
        skip : bool or array of bool, optional
            Where it is true, the step is left out.

        Returns
        -------
        numpy.ndarray
            (output_size,), with a ``batch_size`` (batch_size, output_size).

        Raises
        ------
        ValueError
            If a shape does not fit, or a token or a code is out of range; nothing has changed then.
        TypeError
            If an array is of another dtype or not C-contiguous.
        RuntimeError
            If another thread is inside ``step``.
        """
        return self._core.step(x, out, reset, skip)

    @property
    def batch_size(self) -> int | None:
        """How many sequences run side by side; None: one, and arrays have no axis of rows."""
        return self._batch_size

    @property
    def input_size(self) -> int:
        """Features of a step; 1 for tokens."""
        return self._core.input_size

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self._core.output_size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of input, output and state."""
        return self._module.dtype

    @property
    def state(self) -> S:
        """A copy of the state; assigning checks the shapes (ValueError).

        For one LSTM a pair (h, c) of (num_layers, batch_size, size), without a ``batch_size`` (num_layers, size); for
        several a tuple of such pairs; an `Impute` that carries values forward has a pair (value, age) too, in the order
        of the layers. If the network has several members, their axis comes before the others. `Mean`
        and `Max` are no part of it: they start anew when it is assigned.
        """
        pairs = [(np.asarray(hidden), np.asarray(cell)) for hidden, cell in self._core.get_state()]
        if self._batch_size is None:
            pairs = [(hidden[..., 0, :], cell[..., 0, :]) for hidden, cell in pairs]
        return self._module._user_states(pairs)

    @state.setter
    def state(self, state: S) -> None:
        axes = Axes(self._batch_size is not None, False, self._module._members)
        rows = 1 if self._batch_size is None else self._batch_size
        self._core.set_state(self._module._core_states("state", ("h", "c"), state, axes, rows))

    def reset(self) -> None:
        """Go back to the layers' own start state: zeros or, with ``learn_start_state``, the trained one."""
        self._core.reset()

    def refresh(self) -> None:
        """Take the weights that the module has now, and keep the state.

        This takes new memory; the steps after it allocate as little as those before. Trained start states come into
        effect at the next reset. The instruction set is that of this moment too.

        Raises
        ------
        RuntimeError
            If another thread is inside ``step``; nothing has changed then.
        """
        self._core.refresh()

    def __repr__(self) -> str:
        """Show what runs."""
        return f"<Stream of {self._module!r}, batch_size={self._batch_size}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse copy and pickle."""
        raise TypeError("a Stream cannot be copied or pickled: make another one, and assign this one's state to it")
