"""What `LSTM` and `Network` share: calls, recordings, traces and streams, and the checks of their arguments."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

import numpy as np

from latchwork._arrays import (
    SWAPPED,
    as_array,
    boolean,
    check_classes,
    contiguous_real_array,
    integer,
    integer_array,
    lengths_array,
    mask_array,
    real_array,
    seed_number,
    shape_text,
)
from latchwork._axes import Axes
from latchwork._module import Module, S
from latchwork.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latchwork._arrays import Array
    from latchwork.stream import Stream
    from latchwork.trace import GateGradients, LayerTrace, Trace

Pairs = list[tuple["Array", "Array"]]


class StateSize(NamedTuple):
    """Sizes of the state of one layer."""

    states: int  # of an LSTM layers times directions, else 1
    hidden: int
    cell: int


class Call(NamedTuple):
    """The arguments of one call as the core takes them."""

    axes: Axes
    steps: int
    rows: int
    x: Array
    lengths: Array | None
    reset: Array | None
    start: Pairs | None
    skip: Array | None
    first: Mapping[str, Any]  # the options of the module's first layer, which may mask steps

    @property
    def masked(self) -> Array | None:
        """Which steps the module itself skips: (T, N), or (M, T, N) if members differ. None: it masks none."""
        if self.first["kind"] == "mask":
            masked: Array = (self.x == self.x.dtype.type(self.first["value"])).all(axis=-1)
            return masked
        token = self.first.get("mask_token")
        return None if token is None else self.x == token

    @property
    def masked_output(self) -> str | None:
        """What the output of a step is that the module itself skips: "repeat" or "zero". None: it masks none."""
        if self.first["kind"] == "mask":
            return str(self.first["output"])
        return None if self.first.get("mask_token") is None else str(self.first.get("mask_output", "repeat"))

    @property
    def left_out(self) -> Array | None:
        """Which steps are skipped, whoever says so: (T, N), or (M, T, N) if members differ. None: none."""
        masked = self.masked
        if self.skip is None or masked is None:
            return masked if self.skip is None else self.skip
        left_out: Array = self.skip | masked
        return left_out

    @property
    def valid(self) -> Array | None:
        """Which steps are computed: neither padding nor skipped. (T, N), or (M, T, N) if members differ. None: all."""
        return computed_steps(self.steps, self.lengths, self.left_out)


class SequenceModule(Module, Generic[S]):
    """A module that runs over time, with one state for each LSTM in it and each `Impute` that carries values."""

    _state_sizes: tuple[StateSize, ...]
    _lstm_states: tuple[int, ...]  # which of the states are those of LSTMs
    _trace_names: tuple[tuple[str, ...], ...]  # for each LSTM those of its layers and directions
    _streamable: bool
    _vocabulary: int | None = None  # how many tokens there are, if the input is tokens
    _not_copied: ClassVar[frozenset[str]] = Module._not_copied | {
        "_state_sizes",
        "_lstm_states",
        "_trace_names",
        "_streamable",
        "_vocabulary",
    }

    @property
    def batch_first(self) -> bool:
        """Whether input and output are (N, T, ...) rather than (T, N, ...)."""
        raise NotImplementedError

    def __call__(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        *,
        skip: Any = None,
        skip_output: str = "repeat",
        last_step: bool = False,
    ) -> tuple[Array, S]:
        """Run over a whole sequence.

        If a network has several members, M, its arrays have an axis M before all others. What is passed in may lack
        it and is then the same for all members. Unbatched input always is: if members are to have different inputs, x
        needs the axis N.

        Parameters
        ----------
        x : array_like
            (T, N, input_size), with ``batch_first`` (N, T, input_size), unbatched (T, input_size). Real numbers of any
            dtype (bfloat16 of PyTorch, JAX and ml_dtypes too) and memory layout, converted to the module's dtype; never
            changed. Tables of pandas, if they have no gaps. For a network that begins with an `Embedding`: integers
            without the last axis. Sequences of different lengths are padded first: ``x, lengths = latchwork.pad(...)``.
        state : optional
            Start state; None: the layers' own, which is zeros or, with ``learn_start_state``, the trained one. For one
            LSTM a pair (h_0, c_0) of shapes (L * D, N, H_out) and (L * D, N, H): L is ``num_layers``, D the number of
            directions, H_out ``proj_size`` or else ``hidden_size``; unbatched without the axis N. For a network of
            several LSTMs one pair each; for none ``()`` or None. An `Impute` that carries values has a pair too.
        lengths : array_like of int, optional
            (N,), each from 0 to T: how many steps of each sequence are valid. The others are padding: no work is done
            there, its content never matters, and outputs there are zero. The end states are those at each sequence's
            own end. None: all are valid. Not for unbatched input.
        reset : array_like of bool, optional
            (T, N), with ``batch_first`` (N, T), unbatched (T,); booleans, or numbers that are all 0 or 1. Where it is
            true, the state becomes the layers' own start state before this step, whatever ``state`` was; the reverse
            direction restarts at the step before it, the last of its segment. None: nowhere.
        skip : array_like of bool, optional
            The complement of ``reset``, of the same shapes. Where it is true, the step is left out: the state is
            carried through, what lies in x there never matters, and all other results and gradients of the sequence
            are, bit for bit, those of the sequence without the step. Random masks count the steps that are left. A
            ``reset`` at such a step still acts, between the steps before and after it that are left; if there is none
            after it, the forward direction ends in the layers' own start state, and the reverse direction starts from
            it. None: nowhere.
        skip_output : {"repeat", "zero"}, default "repeat"
            The output where ``skip`` is true. "repeat": that of the last step before it that was not left out, and zero
            if there is none since the start or the last ``reset``; in the features of a reverse direction that of the
            next step after it, accordingly. "zero": zero.
        last_step : bool, default False
            Whether to return the output of each sequence's last valid step alone, without the axis T: bit for bit what
            the whole output holds there, zeros for an empty sequence. The layers after the last LSTM then compute that
            step only, so a network that was trained to predict at every step predicts the next one without a head over
            all steps. The name says what it does: unlike `Last`, it takes that step of the reverse direction too, and
            if ``skip`` leaves it out, what ``skip_output`` says. Not for a network that pools with `Last`, `Mean` or
            `Max`.

        Returns
        -------
        output : numpy.ndarray
            (T, N, D * H_out), in the axes of ``x``; (T, N, H_out) if the directions merge. For a network the features
            of the last module; after `Last`, `Mean` or `Max`, or with ``last_step``, without the axis T.
        state
            State after the last step, of the same form as the start state: for one LSTM (h_n, c_n).

        Raises
        ------
        ValueError
            If a shape does not fit, or a length, reset, skip, token or code is out of range.
        TypeError
            If an argument is of a wrong type or dtype.
        """
        zero_skipped = _zero_skipped(skip_output)
        call = self._call(x, state, lengths, reset, skip)
        core = self._core
        only_last = boolean("last_step", last_step)
        if only_last and not core.keeps_sequence:
            raise ValueError(
                f"last_step: expected False for a network whose output has no steps, got True for {self!r}"
            )
        output, core_output = self._new_output(call, core.keeps_sequence and not only_last, core.output_size)
        end, core_end = self._new_states(call)
        forward = core.forward_last_step if only_last else core.forward
        forward(call.x, call.lengths, call.reset, call.start, core_output, core_end, call.skip, zero_skipped)
        return output, end

    def record(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        training: bool = True,
        mask_seed: int | None = None,
        *,
        checkpoint: int | None = None,
        skip: Any = None,
        skip_output: str = "repeat",
        gradient_blocks: int | None = None,
    ) -> Tape[S]:
        """Run as in training, and keep what gradients need.

        Unlike a call, a recording drops what dropout and zoneout drop in training, each time something else. What a
        call returns is recorded with ``training=False``: for an evaluation, or to compare gradients with differences.

        Parameters
        ----------
        x, state, lengths, reset, skip, skip_output
            As for a call.
        training : bool, default True
            Whether zoneout and every kind of dropout act at random. Otherwise nothing is dropped, and zoneout mixes old
            and new state in the shares that it has on average, as a call does.
        mask_seed : int, optional
            Seed of the random masks: equal seeds give equal masks; member m has those of ``mask_seed + m``. None: with
            ``training`` the next of the module's own, which follow from its ``seed`` (a network's from those of its
            layers) and from how many it has drawn, so a loop over a module that was built with a seed gives the same
            again. Copies and pickles continue the count; files do not hold it. A layer draws from its network's.
            ``tape.mask_seed`` says which it was.
        checkpoint : int, optional
            At least 1. Of each LSTM only the state before every ``checkpoint``-th step is kept, and ``backward``
            computes the steps between again. The gradients are the same bit for bit and cost one more forward pass;
            memory holds ``checkpoint`` steps and T / ``checkpoint`` states rather than T steps. The square root of T is
            a good choice. The input and what layers pass to each other are kept in any case. None: everything is kept.
        gradient_blocks : int, optional
            In how many blocks of rows ``backward`` sums the gradients of all layers, as for `Trainer`.

        Returns
        -------
        Tape
            With ``output``, ``state``, ``backward`` and ``mask_seed``. It keeps the weights of this moment.

        Raises
        ------
        ValueError, TypeError
            As for a call; also if ``checkpoint`` is no int or below 1, or ``gradient_blocks`` no power of two up to
            1024.
        """
        interval = 0 if checkpoint is None else integer("checkpoint", checkpoint, 1)
        blocks = 0 if gradient_blocks is None else integer("gradient_blocks", gradient_blocks, 1)
        zero_skipped = _zero_skipped(skip_output)
        call = self._call(x, state, lengths, reset, skip)
        seed = None if mask_seed is None else seed_number("mask_seed", mask_seed)
        core = self._core
        output, core_output = self._new_output(call, core.keeps_sequence, core.output_size)
        end, core_end = self._new_states(call)
        core_tape = core.record(
            call.x, call.lengths, call.reset, call.start, core_output, core_end, bool(training), seed, interval, 0,
            call.skip, zero_skipped, blocks,
        )  # fmt: skip
        return Tape(self, core_tape, call, output, end)

    def trace(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        *,
        skip: Any = None,
        skip_output: str = "repeat",
    ) -> Trace[S]:
        """Run as a call does, and show what every gate and cell did at every step.

        Parameters
        ----------
        x, state, lengths, reset, skip, skip_output
            As for a call.

        Returns
        -------
        Trace
            With ``output``, ``start`` and ``state``, and for each layer and direction ``input_gate``, ``forget_gate``,
            ``candidate``, ``output_gate``, ``cell`` and ``hidden``, zero in padding. Where ``skip`` is true, the gates
            and the candidate are zero, and ``cell`` and ``hidden`` are the state that is carried through, whatever
            ``skip_output`` says of the output.

        Raises
        ------
        ValueError, TypeError
            As for a call.
        """
        from latchwork.trace import trace_of

        module = self
        if any(options.get("learn_start_state") for options in self._config.modules):
            # The trace reads the start state once more. A copy, to which no other thread writes in between.
            module = copy.deepcopy(self)
            module.load_state_dict(self.state_dict())
        return trace_of(module.record(x, state, lengths, reset, False, skip=skip, skip_output=skip_output))

    def stream(self, batch_size: int | None = None, *, skip_output: str = "repeat") -> Stream[S]:
        """Make a stream, which runs step by step, as numbers arrive.

        Parameters
        ----------
        batch_size : int, optional
            How many sequences run side by side. None: one, and arrays have no axis of rows.
        skip_output : {"repeat", "zero"}, default "repeat"
            The output of a step that is left out, see `Stream`.

        Returns
        -------
        Stream
            It owns its state, which starts as the layers' own start state (zeros or, with ``learn_start_state``, the
            trained one), and keeps the weights of this moment.

        Raises
        ------
        ValueError
            If an LSTM is bidirectional or reverse, or there is a `Reverse`, because it would have to start at the end;
            or if ``batch_size`` is out of range, or ``skip_output`` is another word.
        TypeError
            If ``batch_size`` is no int.
        """
        from latchwork.stream import Stream

        if not self._streamable:
            raise ValueError(f"stream: expected forward LSTMs only and no Reverse, got {self!r}")
        rows = None if batch_size is None else integer("batch_size", batch_size, 0)
        zero_skipped = _zero_skipped(skip_output)
        try:
            core = self._core.stream(rows, zero_skipped)
        except ValueError as error:
            raise ValueError(f"batch_size: expected a size that does not overflow, got {batch_size}") from error
        return Stream(self, core, rows)

    def _call(self, x: Any, state: Any, lengths: Any, reset: Any, skip: Any = None) -> Call:
        """Check and convert the arguments of a call."""
        core = self._core
        members = self._members
        if self._vocabulary is not None:
            array = integer_array("x", x)
            axes = Axes(array.ndim == 2, self.batch_first)
            if array.ndim not in (1, 2):
                axes = self._axes_of_separate(array, ())
        else:
            array = real_array("x", x, self.dtype)
            axes = Axes(array.ndim == 3, self.batch_first)
            if array.ndim not in (2, 3) or array.shape[-1] != core.input_size:
                axes = self._axes_of_separate(array, (core.input_size,))
        core_x = axes.to_core(array)
        steps, rows = core_x.shape[:2] if axes.members is None else core_x.shape[1:3]
        core_lengths = core_reset = core_skip = None
        if lengths is not None:
            if not axes.batched:
                raise ValueError(f"lengths: expected None for unbatched x {shape_text(array.shape)}, got lengths")
            core_lengths = lengths_array(lengths, steps, rows, members)
        if members is not None:
            axes = axes._replace(members=members)  # those of what each member has for itself
        if reset is not None:
            core_reset = self._core_mask("reset", reset, axes, steps, rows)
        if skip is not None:
            core_skip = self._core_mask("skip", skip, axes, steps, rows)
        start = None if state is None else self._core_start(state, axes, steps, rows)
        call = Call(axes, steps, rows, core_x, core_lengths, core_reset, start, core_skip, self._config.modules[0])
        if self._vocabulary is not None:
            check_classes("x", "tokens", self._vocabulary, core_x, call.valid, members=core_x.ndim == 3)
        return call

    def _core_mask(self, name: str, mask: Any, axes: Axes, steps: int, rows: int) -> Array:
        if axes.members is not None:
            mask = as_array(name, mask)
            axes = axes.of_array(mask, len(axes.shape(steps, rows)))
        return axes.to_core(mask_array(name, mask, axes.shape(steps, rows)))

    def _axes_of_separate(self, x: Array, features: tuple[int, ...]) -> Axes:
        """Give the axes of an input that differs from member to member. ValueError if x is no such input."""
        batched, unbatched = Axes(True, self.batch_first), Axes(False, self.batch_first)
        separate = batched._replace(members=self._members)
        rank = 2 + len(features)
        if self._members is None:
            shapes = [batched] if x.ndim == rank else [batched, unbatched]
        elif x.ndim == rank + 1 and x.shape[0] == self._members and x.shape[3:] == features:
            return separate
        else:
            shapes = [separate, batched, unbatched]
        expected = " or ".join(shape_text(each.shape("T", "N", *features)) for each in shapes)
        raise ValueError(f"x: expected {expected}, got {shape_text(x.shape)}")

    def _core_start(self, state: Any, axes: Axes, steps: int, rows: int) -> Pairs:
        parts = ("h_0", "c_0")
        try:
            return self._core_states("state", parts, state, axes, rows)
        except ValueError as error:
            try:
                self._core_states("state", parts, state, axes, steps)
            except ValueError:
                raise error from None
            raise ValueError(f"{error}{SWAPPED}") from None

    def _core_states(self, name: str, parts: tuple[str, str], state: Any, axes: Axes, rows: int) -> Pairs:
        """Check and convert a user's states."""
        sizes = self._state_sizes
        if len(sizes) == 1:
            return [self._core_pair(name, self._parts_of(0, parts), state, sizes[0], axes, rows)]
        if not isinstance(state, (tuple, list)):
            raise TypeError(f"{name}: expected a tuple of {len(sizes)} pairs, got {type(state).__name__}")
        if len(state) != len(sizes):
            owners = "LSTM" if len(self._lstm_states) == len(sizes) else "LSTM and Impute"
            raise ValueError(f"{name}: expected {len(sizes)} pairs, one for each {owners}, got {len(state)}")
        pairs = []
        for i, (pair, size) in enumerate(zip(state, sizes, strict=True)):
            first, second = self._parts_of(i, parts)
            names = f"{name}[{i}] {first}", f"{name}[{i}] {second}"
            pairs.append(self._core_pair(f"{name}[{i}]", names, pair, size, axes, rows))
        return pairs

    def _parts_of(self, state: int, parts: tuple[str, str]) -> tuple[str, str]:
        """Name the two parts of a state, given what they are called in that of an LSTM."""
        if state in self._lstm_states:
            return parts
        return ("d_value", "d_age") if parts[0].startswith("d_") else ("value", "age")

    def _core_pair(
        self, name: str, parts: tuple[str, str], pair: Any, size: StateSize, axes: Axes, rows: int
    ) -> tuple[Array, Array]:
        if not isinstance(pair, (tuple, list)):
            raise TypeError(f"{name}: expected a pair ({parts[0]}, {parts[1]}), got {type(pair).__name__}")
        if len(pair) != 2:
            raise ValueError(f"{name}: expected a pair ({parts[0]}, {parts[1]}), got {len(pair)} items")
        hidden, cell = (
            self._core_state(part, value, axes, (size.states, rows, features))
            for part, value, features in zip(parts, pair, (size.hidden, size.cell), strict=True)
        )
        return hidden, cell

    def _core_state(self, name: str, value: Any, axes: Axes, sizes: tuple[int, int, int]) -> Array:
        if axes.members is not None:
            value = real_array(name, value, self.dtype)
            axes = axes.of_array(value, len(axes.state_shape(*sizes)))
        return axes.state_to_core(contiguous_real_array(name, value, self.dtype, axes.state_shape(*sizes)))

    def _new_output(self, call: Call, sequence: bool, features: int) -> tuple[Array, Array]:
        """Allocate an output: the user's array, and the core's view of it."""
        output = np.empty(call.axes.shape(call.steps, call.rows, features, sequence=sequence), self.dtype)
        return output, call.axes.to_core(output, sequence)

    def _new_states(self, call: Call) -> tuple[S, Pairs]:
        """Allocate states: the user's arrays, and the core's views of them."""
        axes, rows, dtype = call.axes, call.rows, self.dtype
        pairs = [
            (
                np.empty(axes.state_shape(size.states, rows, size.hidden), dtype),
                np.empty(axes.state_shape(size.states, rows, size.cell), dtype),
            )
            for size in self._state_sizes
        ]
        core_pairs = pairs
        if not axes.batched:
            core_pairs = [(axes.state_to_core(hidden), axes.state_to_core(cell)) for hidden, cell in pairs]
        return self._user_states(pairs), core_pairs

    def _new_gate_gradients(self, call: Call) -> tuple[GateGradients, list[list[LayerTrace]]]:
        """Allocate gradients with respect to the gates: the user's arrays, and the core's views of them."""
        from latchwork.trace import new_gate_gradients

        sizes = [self._state_sizes[state] for state in self._lstm_states]
        return new_gate_gradients(call, self._trace_names, sizes, self.dtype)

    def _user_states(self, pairs: Pairs) -> S:
        """Give states the form in which the user has them."""
        state: Any = pairs[0] if len(pairs) == 1 else tuple(pairs)
        return state  # type: ignore[no-any-return]


def computed_steps(steps: int, lengths: Array | None, skip: Array | None) -> Array | None:
    """Which steps are computed: neither padding nor skipped. (T, N), or (M, T, N) if members differ. None: all."""
    if lengths is None:
        return None if skip is None else ~skip
    valid: Array = np.arange(steps)[:, np.newaxis] < lengths[..., np.newaxis, :]
    return valid if skip is None else valid & ~skip


def _zero_skipped(skip_output: Any) -> bool:
    """Read what the output of a skipped step is. ValueError."""
    if not isinstance(skip_output, str) or skip_output not in ("repeat", "zero"):
        raise ValueError(f'skip_output: expected "repeat" or "zero", got {skip_output!r}')
    return skip_output == "zero"
