"""Recordings and the gradients that they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, SupportsIndex

import numpy as np

from latchwork._arrays import boolean, check_shape, real_array
from latchwork._module import S
from latchwork._parameters import ParameterGradients, flat_size

if TYPE_CHECKING:
    from latchwork import _core
    from latchwork._arrays import Array
    from latchwork._sequence import SequenceModule
    from latchwork.layers import RowsModule
    from latchwork.trace import GateGradients


class Gradients(Generic[S]):
    """Gradients of a loss, as `Tape.backward` returns them.

    Attributes
    ----------
    x : numpy.ndarray or None
        With respect to the input, in its shape; zero in padding. None if the input was tokens, or if it was not wanted.
        If the network has several members, their axis is in front, even if they shared the input.
    state
        With respect to the start state, in its form, whether or not one was passed: for one LSTM a pair for h_0 and
        c_0. If the network has several members, their axis is in front, even if they shared the start state.
    parameters : ParameterGradients
        With respect to the parameters: a mapping from PyTorch's names to views of one contiguous buffer,
        ``parameters.flat``.
    gates : GateGradients or None
        With respect to every gate activation, cell and output at each step of each layer and direction, by the names
        and in the shapes of a trace: ``gates["l0"].forget_gate``. None if they were not asked for.
    """

    def __init__(
        self, x: Array | None, state: S, parameters: ParameterGradients, gates: GateGradients | None = None
    ) -> None:
        self.x = x
        self.state = state
        self.parameters = parameters
        self.gates = gates

    def __repr__(self) -> str:
        """Show the shapes."""
        gates = "" if self.gates is None else f", gates={self.gates!r}"
        return f"Gradients(x={None if self.x is None else self.x.shape}, parameters={self.parameters!r}{gates})"


class Tape(Generic[S]):
    """What one recording kept: made by ``record`` of an `LSTM`, a `Network`, a `Linear` or an `Embedding`.

    Attributes
    ----------
    output : numpy.ndarray
        What the recorded call computed; what a call returns, if it was recorded with ``training=False``. It belongs to
        this tape alone.
    state
        The state after the last step.
    mask_seed : int or None
        The seed of the random masks, with which ``record`` draws the same again; None if it drew none.
    """

    def __init__(
        self, module: SequenceModule[S] | RowsModule, core: _core.Tape32, call: Any, output: Array, state: S
    ) -> None:
        self.output = output
        self.state = state
        self.mask_seed = core.mask_seed
        self._module = module
        self._core = core
        self._call = call  # the arguments of the recorded call, which `module` understands
        self._keeps_sequence = module._core.keeps_sequence

    def backward(
        self,
        d_output: Any = None,
        d_state: Any = None,
        into: Gradients[S] | None = None,
        *,
        input_gradient: bool = True,
        gates: bool = False,
    ) -> Gradients[S]:
        """Backpropagate through the whole recording. May be called again, and from several threads.

        Parameters
        ----------
        d_output : array_like, optional
            Gradient of the loss with respect to ``output``, in its shape; its content in padding does not matter. None:
            zeros.
        d_state : optional
            Gradient of the loss with respect to ``state``, in its form. None: zeros.
        into : Gradients, optional
            Gradients to whose ``parameters`` those of this call are added, in place. The gradients with respect to the
            input and the start state are new arrays in any case. None: ``parameters`` are new too.
        input_gradient : bool, default True
            Whether to compute the gradient with respect to the input. False leaves ``x`` of the result None, which
            saves a sixth of the arithmetic of one layer whose input is as wide as the layer. The other gradients are
            the same bit for bit.
        gates : bool, default False
            Whether to keep the gradients with respect to the gate activations, the cell and h of every step too, in
            ``gates`` of the result, see `GateGradients`. The other gradients are the same bit for bit. It needs memory
            for six numbers for each unit, step and row, with ``checkpoint`` too.

        Returns
        -------
        Gradients
            Its ``parameters`` are those of ``into``, if that was given.

        Raises
        ------
        ValueError
            If a shape does not fit, or ``into`` is of another module.
        TypeError
            If an argument is of a wrong type or dtype.
        """
        module, call, core_d_state = self._module, self._call, None
        core_d_output = self._core_d_output(d_output)
        if d_state is not None:
            core_d_state = module._core_states("d_state", ("d_h_n", "d_c_n"), d_state, call.axes, call.rows)
        parameters = self._parameter_gradients(into)
        wants_gates = boolean("gates", gates)
        d_x = core_d_x = None
        if input_gradient and module._vocabulary is None:
            d_x, core_d_x = self._new_d_x()
        d_start: Any
        d_start, core_d_start = module._new_states(call)
        d_gates = core_d_gates = None
        if wants_gates:
            d_gates, core_d_gates = module._new_gate_gradients(call)
        self._core.backward(
            core_d_output, core_d_state, parameters.flat, into is not None, core_d_x, core_d_start, core_d_gates
        )
        return Gradients(d_x, d_start, parameters, d_gates)

    def _gradients_of_input(self, d_output: Any) -> tuple[Array, S]:
        """Compute those with respect to the input, which is no tokens, and the start state, without the parameters'."""
        d_x, core_d_x = self._new_d_x()
        d_start: Any
        d_start, core_d_start = self._module._new_states(self._call)
        self._core.backward(self._core_d_output(d_output), None, None, False, core_d_x, core_d_start)
        return d_x, d_start

    def _core_d_output(self, d_output: Any) -> Array | None:
        if d_output is None:
            return None
        array = real_array("d_output", d_output, self._module.dtype)
        check_shape("d_output", array, self.output.shape)
        core_array: Array = self._call.axes.to_core(array, self._keeps_sequence)
        return core_array

    def _new_d_x(self) -> tuple[Array, Array]:
        """Return a new array for the gradient with respect to the input, and it with the axes of the core."""
        module, call = self._module, self._call
        d_x = np.empty(call.axes.shape(call.steps, call.rows, module._core.input_size), module.dtype)
        return d_x, call.axes.to_core(d_x)

    def _parameter_gradients(self, into: Gradients[S] | None) -> ParameterGradients:
        layout, dtype = self._module._layout, self._module.dtype
        if into is None:
            return ParameterGradients(layout, np.empty(flat_size(layout), dtype))
        if not isinstance(into, Gradients):
            raise TypeError(f"into: expected Gradients, got {type(into).__name__}")
        if into.parameters._layout != layout or into.parameters.flat.dtype != dtype:
            raise ValueError(f"into: expected gradients of {self._module!r}, got those of another module")
        return into.parameters

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse copy and pickle."""
        raise TypeError(
            "a Tape cannot be copied or pickled: it holds the core's memory; record again, or keep Gradients"
        )
