"""Which inputs one output depends on: gradients with respect to the input, and what integrating them attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latchwork._arrays import check_classes, integer, integer_array, real_array, shape_text
from latchwork._axes import Axes
from latchwork._module import Config
from latchwork.explain._choices import positions_of_rows
from latchwork.explain._places import check_module
from latchwork.network import Network

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork._sequence import Pairs, SequenceModule
    from latchwork.tape import Tape


class Saliency(NamedTuple):
    """What `saliency` found. If the input was tokens, its features are those of the embedding's output."""

    gradient: Array
    """How fast the chosen output changes with each feature of the input, in the axes of x: (T, N, features)."""
    times_input: Array
    """The gradient times the input, of the same shape: what the feature would add to the output if that were linear.
    Zero where the input is missing (NaN) and an `Impute` replaces it."""
    output: Array
    """The chosen output of each row: (N,), unbatched (); several members (M, N)."""

    @property
    def gradient_by_step(self) -> Array:
        """The sum of ``gradient`` over the features, signs kept: (T, N)."""
        return np.asarray(self.gradient.sum(axis=-1))

    @property
    def times_input_by_step(self) -> Array:
        """The sum of ``times_input`` over the features, signs kept: (T, N)."""
        return np.asarray(self.times_input.sum(axis=-1))


class IntegratedGradients(NamedTuple):
    """What `integrated_gradients` found. If the input was tokens, its features are those of the embedding's output."""

    attributions: Array
    """What each feature of the input added to the output, in the axes of x: (T, N, features)."""
    state: Any
    """What the start state added, in its form; zeros if both runs begin from the same one."""
    output: Array
    """The chosen output of each row: (N,), unbatched (); several members (M, N)."""
    baseline_output: Array
    """The same output of the baseline."""
    error: Array
    """``output - baseline_output`` minus all that was attributed, of the same shape: 0 if ``steps`` are enough."""

    @property
    def by_step(self) -> Array:
        """The sum of ``attributions`` over the features: (T, N)."""
        return np.asarray(self.attributions.sum(axis=-1))


def saliency(
    module: SequenceModule[Any],
    x: Any,
    state: Any = None,
    lengths: Any = None,
    reset: Any = None,
    *,
    skip: Any = None,
    skip_output: str = "repeat",
    output: Any = None,
    step: Any = None,
) -> Saliency:
    """Differentiate one output with respect to every input of its sequence, by one backward pass.

    Rows do not depend on one another, so this is done for every row at once, each with an output of its own.

    Parameters
    ----------
    module : LSTM or Network
        With at least one LSTM. Nothing is dropped, as in a call.
    x, state, lengths, reset, skip, skip_output
        As for a call of the module.
    output : int or array_like of int, optional
        Which feature of the output, negative from the end; (N,): one for each row. None: the only one.
    step : int or array_like of int, optional
        At which step, negative from the end of T; (N,): one for each row. None: the last valid one of each row. Not for
        a network that pools with `Last`, `Mean` or `Max`.

    Returns
    -------
    Saliency
        ``gradient``, ``times_input``, both zero in padding and where ``skip`` is true, and the ``output`` itself. For
        tokens they are with respect to what the `Embedding` gives for them; ``gradient_by_step`` and
        ``times_input_by_step`` are the sums over its features, one number for each token's place. A row of length 0
        has zeros and an output of 0.

    Raises
    ------
    IndexError
        If there is no such output or step.
    ValueError, TypeError
        As for a call; also if the module has no LSTM, the output must be chosen, or a step lies in padding.

    Notes
    -----
    The gradient is that of Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks: visualising image
    classification models and saliency maps", ICLR workshop 2014; its product with the input, that of Shrikumar,
    Greenside, Shcherbina and Kundaje, "Not just a black box", arXiv:1605.01713 (2016). Both look at the point x alone:
    where a gate is saturated, they are small however important the input is. `integrated_gradients` is not.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(3, 8, seed=0)
    >>> found = lw.explain.saliency(lstm, np.ones((20, 4, 3)), output=5)
    >>> found.gradient.shape, found.output.shape
    ((20, 4, 3), (4,))
    """
    runs = _Runs(module, x, state, lengths, reset, skip, skip_output)
    chosen = _Chosen(runs, output, step)
    tape = runs.record(runs.x, runs.start)
    gradient = runs.sum_over_points(tape._gradients_of_input(chosen.d_output(tape, np.ones(1)))[0], 1)
    with np.errstate(all="ignore"):
        return Saliency(
            runs.in_axes_of_x(gradient),
            runs.in_axes_of_x(gradient * runs.seen(runs.x)),
            runs.of_rows(chosen.outputs(tape, 1)[..., 0, :]),
        )


def integrated_gradients(
    module: SequenceModule[Any],
    x: Any,
    state: Any = None,
    lengths: Any = None,
    reset: Any = None,
    *,
    skip: Any = None,
    skip_output: str = "repeat",
    output: Any = None,
    step: Any = None,
    baseline: Any = None,
    warm_up: int = 0,
    steps: int = 50,
    checkpoint: int | None = None,
) -> IntegratedGradients:
    """Attribute the difference between an output and that of a baseline to the inputs and to the start state.

    The gradient is integrated along the straight line from the baseline to the input. All its points run as one batch.

    Parameters
    ----------
    module, x, state, lengths, reset, skip, skip_output, output, step
        As for `saliency`.
    baseline : array_like, optional
        The input that says nothing: one number, (features,) or in the shape of x. None: zeros. What is missing in x
        (NaN, replaced by an `Impute`) is missing in it too, and nothing is attributed to it. For tokens: one token or
        tokens in the shape of x; None: vectors of zeros in place of what the `Embedding` gives.
    warm_up : int, default 0
        0: the runs of x and of the baseline both begin from ``state``. Above 0: that of the baseline begins from a
        warmed-up state, in which the module is after so many steps of the baseline's first step, again and again, from
        its own start state. A few times as many steps as the module remembers are enough. What the run of x begins
        from depends on whether the past of x is known:

        - ``state`` None: it is not, and x begins from the warmed-up state too, as if the past had been the baseline.
          ``output`` is the module's from there. A module that starts from zeros reacts to its first inputs as it never
          does again, and without a warm-up they seem to matter more, or less, than in the middle of a long sequence.
        - ``state`` given: x begins from it, the line leads from the warmed-up state to it too, and what this change
          adds is attributed to the start state: what the past of x was worth.
    steps : int, default 50
        1 to 1000: how many points of the line are run, at the places of Gauss and Legendre. The batch has ``steps`` + 2
        times as many rows as x.
    checkpoint : int, optional
        As for ``record``: trades memory for time on long sequences. The result is the same bit for bit.

    Returns
    -------
    IntegratedGradients
        ``attributions``, zero in padding and where ``skip`` is true, ``state``, ``output``, ``baseline_output`` and
        ``error``; ``by_step`` is the sum over features. What is attributed adds up to ``output - baseline_output``, but
        for ``error``, which depends on ``steps``. For a module with its initial weights and inputs around 1, 50 steps
        bring it below 1e-5 of the outputs in float32 and below 1e-10 in float64. Large weights, with which gates go
        from one limit to the other along the line, take more steps. Layer norm takes hundreds: around a constant input
        it is all but discontinuous.

    Raises
    ------
    IndexError
        If there is no such output or step.
    ValueError, TypeError
        As for `saliency`; also if the baseline does not fit, if the module has an `EmbedColumns`, whose codes have
        nothing between them, or if ``warm_up``, ``steps`` or ``checkpoint`` is out of range.

    Notes
    -----
    Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017: equation 1, along a line in the
    space of inputs and start states.

    Examples
    --------
    >>> import latchwork as lw
    >>> import numpy as np
    >>> lstm = lw.LSTM(3, 8, seed=0)
    >>> found = lw.explain.integrated_gradients(lstm, np.ones((20, 4, 3)), output=5, warm_up=100)
    >>> difference = found.output - found.baseline_output
    >>> bool(abs(difference - found.attributions.sum(axis=(0, 2))).max() < 1e-5)
    True
    """
    check_module("module", module)
    if any(options["kind"] == "embed_columns" for options in module._config.modules):
        raise ValueError(
            f"module: expected one without EmbedColumns, because there are no codes on the line between two of them, "
            f"got {module!r}; saliency needs no such line"
        )
    runs = _Runs(module, x, state, lengths, reset, skip, skip_output)
    chosen = _Chosen(runs, output, step)
    base = runs.baseline(baseline)
    warm_steps = integer("warm_up", warm_up, 0)
    nodes, shares = np.polynomial.legendre.leggauss(integer("steps", steps, 1, 1000))
    # Both ends run too, for their outputs, but count nothing.
    places, shares = np.array([0.0, *(nodes + 1) / 2, 1.0]), np.array([0.0, *shares / 2, 0.0])
    count = len(places)
    base_start = runs.end_state(base, warm_steps) if warm_steps else runs.start or runs.end_state(base, 0)
    start = runs.start or base_start
    with np.errstate(all="ignore"):
        starts = [
            (_line(base_pair[0], pair[0], places), _line(base_pair[1], pair[1], places))
            for base_pair, pair in zip(base_start, start, strict=True)
        ]
        tape = runs.record(_line(base, runs.x, places), starts, count, checkpoint)
        d_x, d_start = tape._gradients_of_input(chosen.d_output(tape, shares))
        attributions = runs.sum_over_points(d_x, count) * _difference(runs.seen(runs.x), runs.seen(base))
        state_attributions = [
            (
                _sum_over_points(d_pair[0], count) * _difference(pair[0], base_pair[0]),
                _sum_over_points(d_pair[1], count) * _difference(pair[1], base_pair[1]),
            )
            for d_pair, base_pair, pair in zip(runs.pairs_of(d_start), base_start, start, strict=True)
        ]
        outputs = chosen.outputs(tape, count).astype(np.float64)
        baseline_output, final_output = outputs[..., 0, :], outputs[..., -1, :]
        error = final_output - baseline_output - attributions.sum(axis=(-3, -1))
        for pair in state_attributions:
            error = error - pair[0].sum(axis=(-3, -1)) - pair[1].sum(axis=(-3, -1))
        return IntegratedGradients(
            runs.in_axes_of_x(attributions),
            runs.user_states(state_attributions),
            runs.of_rows(final_output),
            runs.of_rows(baseline_output),
            runs.of_rows(error),
        )


class _Runs:
    """One call, to be run on other inputs and start states, which are real ones also where the module takes tokens.

    Arrays are in the core's axes, (T, N, features), with several members where they differ (M, T, N, features). Several
    points, each with all rows of the call, run as one batch of ``points * N`` rows.
    """

    def __init__(
        self, module: SequenceModule[Any], x: Any, state: Any, lengths: Any, reset: Any, skip: Any, skip_output: str
    ) -> None:
        check_module("module", module)
        if not module._lstm_states:
            raise ValueError(f"module: expected at least one LSTM in it, got {module!r}")
        self._asked = module
        self._call = module._call(x, state, lengths, reset, skip)
        self._skip_output = skip_output if skip is not None else self._call.masked_output or skip_output
        self._table: Array | None = None
        self.module = module
        if isinstance(module, Network) and module._vocabulary is not None:
            self.module, self._table = _without_embedding(module)
        self.x = self._read(self._call.x)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self._call.steps

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._call.rows

    @property
    def lengths(self) -> Array:
        """How long each row is: (N,) or (M, N)."""
        return np.full(self.rows, self.steps) if self._call.lengths is None else self._call.lengths

    @property
    def start(self) -> Pairs | None:
        """The start state; None: the module's own."""
        return self._call.start

    def baseline(self, baseline: Any) -> Array:
        """Read the input that says nothing."""
        if baseline is None:
            return self._missing_as_in_x(np.zeros_like(self.x))
        call, vocabulary = self._call, self._asked._vocabulary
        features = () if vocabulary is not None else (self.x.shape[-1],)
        separate = call.x.ndim > 2 + len(features)
        axes = Axes(call.axes.batched, self._asked.batch_first, self._asked._members if separate else None)
        shape = axes.shape(call.steps, call.rows, *features)
        if vocabulary is not None:
            array = integer_array("baseline", baseline)
        else:
            array = real_array("baseline", baseline, self.x.dtype)
        if array.shape not in ((), features, shape):
            shapes = [shape_text(each) for each in dict.fromkeys(((), features, shape))]
            raise ValueError(f"baseline: expected the shape {' or '.join(shapes)}, got {shape_text(array.shape)}")
        array = axes.to_core(np.broadcast_to(array, shape))
        if vocabulary is not None:
            check_classes("baseline", "tokens", vocabulary, array, call.valid, members=separate)
        return self._missing_as_in_x(self._read(array))

    def _missing_as_in_x(self, baseline: Array) -> Array:
        """Let the same values be missing as in x, so that the line between the two changes none of them."""
        return np.where(np.isnan(self.x), self.x, baseline) if self.module._core.takes_missing else baseline

    def seen(self, x: Array) -> Array:
        """Put zeros where a value is missing and the module replaces it: the gradient there is zero."""
        return np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf) if self.module._core.takes_missing else x

    def record(self, x: Array, start: Pairs | None, points: int = 1, checkpoint: int | None = None) -> Tape[Any]:
        """Record a batch of several points."""

        def repeated(array: Array | None) -> Array | None:
            return None if array is None else np.concatenate([array] * points, axis=-1)

        reset, skip = repeated(self._call.reset), repeated(self._call.left_out)
        return self.module.record(
            self._batch_axes(x, -3),
            None if start is None else self.module._user_states(start),
            repeated(self._call.lengths),
            None if reset is None else self._batch_axes(reset, -2),
            training=False,
            checkpoint=checkpoint,
            skip=None if skip is None else self._batch_axes(skip, -2),
            skip_output=self._skip_output,
        )

    def end_state(self, x: Array, steps: int) -> Pairs:
        """Run the first step of an input again and again, from the module's own start state."""
        _, state = self.module(self._batch_axes(np.repeat(x[..., :1, :, :], steps, axis=-3), -3))
        return self.pairs_of(state)

    def pairs_of(self, state: Any) -> Pairs:
        """Give the state of a batch as pairs."""
        return [state] if len(self.module._state_sizes) == 1 else list(state)

    def sum_over_points(self, d_x: Array | None, points: int) -> Array:
        """Add up the gradient with respect to the input of a batch, which comes in the axes of a batch."""
        assert d_x is not None
        return _sum_over_points(self._batch_axes(d_x, -3), points)

    def core_output(self, output: Array) -> Array:
        """View the output of a batch as (T, N, features); T is 1 if it is no sequence."""
        axes = Axes(True, self.module.batch_first, self.module._members)
        return axes.to_core(output, self.module._core.keeps_sequence)

    def in_axes_of_x(self, array: Array) -> Array:
        """Give an array in the axes of the input and the module's dtype."""
        return np.ascontiguousarray(self._call.axes.from_core(array), self.module.dtype)

    def user_states(self, pairs: Pairs) -> Any:
        """Give states in the user's form and the module's dtype."""
        batched, dtype = self._call.axes.batched, self.module.dtype
        return self.module._user_states(
            [tuple((part if batched else part[..., 0, :]).astype(dtype) for part in pair) for pair in pairs]  # type: ignore[misc]
        )

    def of_rows(self, array: Array) -> Array:
        """Give one number for each row, without that axis for unbatched input, in the module's dtype."""
        return np.asarray(array if self._call.axes.batched else array[..., 0], self.module.dtype)

    def _batch_axes(self, array: Array, steps_axis: int) -> Array:
        """Turn the core's axes into those of a batch, or the other way round."""
        return array.swapaxes(steps_axis, steps_axis + 1) if self.module.batch_first else array

    def _read(self, x: Array) -> Array:
        """Embed tokens; set to zero what the module does not read."""
        valid = self._call.valid
        if self._table is not None:
            tokens = x if valid is None else np.where(valid, x, 0)
            members = () if self._table.ndim == 2 else (np.arange(len(self._table))[:, np.newaxis, np.newaxis],)
            x = self._table[(*members, tokens)]
        return x if valid is None else np.where(valid[..., np.newaxis], x, np.zeros((), x.dtype))


class _Chosen:
    """The output that is explained: one number for each row."""

    def __init__(self, runs: _Runs, output: Any, step: Any) -> None:
        self._runs = runs
        rows, lengths = runs.rows, runs.lengths
        core = runs.module._core
        if output is None and core.output_size != 1:
            raise ValueError(f"output: expected which of the {core.output_size} features of the output, got None")
        feature = positions_of_rows("output", 0 if output is None else output, rows, core.output_size)
        self._features = np.broadcast_to(feature, (rows,))
        self._steps = np.zeros(rows, np.int64)
        if not core.keeps_sequence:
            if step is not None:
                raise ValueError(f"step: expected None for a network whose output has no steps, got {step!r}")
        elif step is None:
            self._steps = np.maximum(lengths - 1, 0)  # the output of an empty row is zero there
        else:
            self._steps = np.broadcast_to(positions_of_rows("step", step, rows, runs.steps), (rows,))
            for place in np.argwhere(self._steps >= lengths)[:1].tolist():
                row, length = place[-1], lengths[tuple(place)]
                raise ValueError(
                    f"step: expected a step before the end of each row, got {self._steps[row]} in row {row}, "
                    f"whose length is {length}"
                )

    def d_output(self, tape: Tape[Any], shares: Array) -> Array:
        """Make the gradient of the chosen output with respect to the whole, times a factor for each point."""
        d_output = np.zeros_like(tape.output)
        view = self._runs.core_output(d_output)
        if view.size:
            view[self._places(len(shares))] = shares[:, np.newaxis]
        return d_output

    def outputs(self, tape: Tape[Any], points: int) -> Array:
        """Read the chosen output of each point and row: (points, N), several members (M, points, N)."""
        view = self._runs.core_output(tape.output)
        if not view.size:
            return np.zeros((*view.shape[:-3], points, self._runs.rows), view.dtype)
        return np.asarray(view[self._places(points)])

    def _places(self, points: int) -> tuple[Array, ...]:
        """Index the output of each point and row in the core's axes."""
        rows = np.arange(points * self._runs.rows).reshape(points, self._runs.rows)
        places = (self._steps[..., np.newaxis, :], rows, self._features)
        members = self._runs.module._members
        return places if members is None else (np.arange(members)[:, np.newaxis, np.newaxis], *places)


def _without_embedding(network: Network) -> tuple[Network, Array]:
    """Take a network that begins with an embedding apart: the network of the other layers, and the table."""
    config = network._config
    rest = Network._unset(Config(config.modules[1:], config.dtype, config.python), network.members)
    tensors = network.state_dict()
    table = tensors.pop("0.weight")
    moved = {}
    for name, value in tensors.items():
        number, _, tensor = name.partition(".")
        moved[f"{int(number) - 1}.{tensor}"] = value
    rest.load_state_dict(moved)
    return rest, table


def _line(here: Array, there: Array, places: Array) -> Array:
    """Points of the line between two arrays (..., N, size), side by side: (..., points * N, size)."""
    shares = places.astype(here.dtype)[:, np.newaxis, np.newaxis]
    # Both ends are exact.
    points = (1 - shares) * here[..., np.newaxis, :, :] + shares * there[..., np.newaxis, :, :]
    *leading, count, rows, size = points.shape
    return np.asarray(points.reshape(*leading, count * rows, size))


def _sum_over_points(array: Array, points: int) -> Array:
    """Add up (..., points * N, size) to (..., N, size), in float64."""
    *leading, rows, size = array.shape
    return np.asarray(array.reshape(*leading, points, rows // points, size).sum(axis=-3, dtype=np.float64))


def _difference(there: Array, here: Array) -> Array:
    return there.astype(np.float64) - here
