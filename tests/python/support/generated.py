"""Hypothesis strategies: layers of any shape and option, and batches for them.

Shapes, options and layouts are what Hypothesis chooses and shrinks; numbers come from a generator that it seeds.
"""

from dataclasses import dataclass

import latchwork as lw
import numpy as np
from hypothesis import strategies as st
from layers import directions_of, random_lstm
from variants import EVERY, PLAIN, RANDOM, forward_only

DTYPES = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 2**32 - 1)
# Just below, at and above the registers' widths; more than the projections of the variants.
HIDDEN_SIZES = st.sampled_from([4, 5, 7, 8, 9, 16, 17, 33])


def numbers(seed, shape, dtype):
    """Multiples of 1/8 within 2, which every real dtype holds exactly."""
    return (np.random.RandomState(seed).randint(-16, 17, shape) / 8).astype(dtype)


@st.composite
def lstms(draw, variants=EVERY, forward=False):
    """An LSTM with large random weights; ``forward``: one that runs step by step."""
    options = variants[draw(st.sampled_from(sorted(variants)))]
    options = {"num_layers": draw(st.integers(1, 2))} | (forward_only(options) if forward else options)
    if not forward:
        options.setdefault("bidirectional", draw(st.booleans()))
        options["batch_first"] = draw(st.booleans())
        options["reverse"] = not options["bidirectional"] and draw(st.booleans())
    options.setdefault("bias", draw(st.booleans()))
    return random_lstm(
        seed=draw(SEEDS),
        dtype=draw(DTYPES),
        input_size=draw(st.integers(1, 5)),
        hidden_size=draw(HIDDEN_SIZES),
        **options,
    )


@dataclass
class Batch:
    """The arguments of a call in the layout of ``batch_first=False``, and what comes from above in backward."""

    x: np.ndarray
    start: tuple | None
    lengths: np.ndarray | None
    reset: np.ndarray | None
    d_output: np.ndarray
    d_state: tuple

    @property
    def steps(self):
        return self.x.shape[0]

    @property
    def rows(self):
        return self.x.shape[1]

    def of_rows(self, rows):
        """The batch of these rows alone, in this order."""
        return Batch(
            self.x[:, rows],
            self.start and tuple(part[:, rows] for part in self.start),
            None if self.lengths is None else self.lengths[rows],
            None if self.reset is None else self.reset[:, rows],
            self.d_output[:, rows],
            tuple(part[:, rows] for part in self.d_state),
        )


@st.composite
def batches(draw, lstm, ragged=None):
    """A batch for a layer, from no steps and no rows on."""
    steps, rows = draw(st.integers(0, 9)), draw(st.integers(0, 7))
    seed = draw(st.integers(0, 2**32 - 10))
    hidden, states = lstm.proj_size or lstm.hidden_size, lstm.num_layers * directions_of(lstm)
    shapes = [(states, rows, hidden), (states, rows, lstm.hidden_size)]

    def state(first):
        return tuple(numbers(first + place, shape, lstm.dtype) for place, shape in enumerate(shapes))

    lengths = st.lists(st.integers(0, steps), min_size=rows, max_size=rows).map(lambda given: np.array(given, int))
    share = draw(st.sampled_from([0.2, 0.6]))
    return Batch(
        x=numbers(seed, (steps, rows, lstm.input_size), lstm.dtype),
        start=state(seed + 1) if draw(st.booleans()) else None,
        lengths=draw(lengths) if (draw(st.booleans()) if ragged is None else ragged) else None,
        reset=np.random.RandomState(seed + 3).random_sample((steps, rows)) < share if draw(st.booleans()) else None,
        d_output=numbers(seed + 4, (steps, rows, directions_of(lstm) * hidden), lstm.dtype),
        d_state=state(seed + 5),
    )


def _spread(array):
    """A view with a gap after every element."""
    wide = np.full((*array.shape, 2), np.nan if array.dtype.kind == "f" else 1).astype(array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


def _backwards(array):
    return np.flip(np.ascontiguousarray(np.flip(array)))


LAYOUTS = {
    "as it is": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "spread": _spread,
    "backwards": _backwards,
    "nested lists": lambda array: array.tolist() if array.size else array,
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
}


@st.composite
def layouts(draw, with_dtypes=True):
    """A function that gives an array another memory layout and, if it is real, another dtype that loses nothing."""
    lay = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    dtype = draw(st.sampled_from([None, "float16", "float32", "float64"])) if with_dtypes else None
    return lambda array: lay(array if dtype is None or array.dtype.kind != "f" else array.astype(dtype))


@st.composite
def networks(draw, variants=EVERY, last=None, values=None):
    """A chain: tokens or values, an LSTM or two, perhaps Last, a linear layer."""
    dtype, seed = draw(DTYPES), draw(SEEDS)
    first = draw(st.integers(1, 5))
    takes_values = draw(st.booleans()) if values is None else values
    modules = [] if takes_values else [lw.Embedding(7, first, dtype=dtype, seed=seed)]
    for place in range(draw(st.integers(1, 2))):
        options = {"num_layers": 1} | variants[draw(st.sampled_from(sorted(variants)))]
        lstm = lw.LSTM(first, draw(st.sampled_from([4, 5, 8, 9])), dtype=dtype, seed=seed + place, **options)
        modules.append(lstm)
        first = directions_of(lstm) * (lstm.proj_size or lstm.hidden_size)
    if draw(st.booleans()) if last is None else last:
        modules.append(lw.Last())
    activation = draw(st.sampled_from([None, "tanh", "sigmoid", "relu"]))
    modules.append(lw.Linear(first, 6, bias=draw(st.booleans()), activation=activation, dtype=dtype, seed=seed))
    return lw.Network(modules)


def takes_tokens(network):
    return isinstance(network[0], lw.Embedding)


def input_of(network, seed, steps, rows):
    """Tokens or values for a network of `networks`."""
    if takes_tokens(network):
        return np.random.RandomState(seed).randint(0, 7, (steps, rows))
    return numbers(seed, (steps, rows, network[0].input_size), network.dtype)


__all__ = ["EVERY", "LAYOUTS", "PLAIN", "RANDOM", "Batch", "batches", "input_of", "layouts", "lstms", "networks",
           "numbers", "takes_tokens"]  # fmt: skip
