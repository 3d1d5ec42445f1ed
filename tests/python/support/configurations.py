"""The random LSTM configurations that are compared with PyTorch, and the numbers that go into them.

Everything is drawn from ``numpy.random.RandomState``, whose streams NumPy promises never to change, so that golden
files need to hold results only. All numbers are exact in float32, so one golden file serves both dtypes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

COUNT = 200
SIZES = (1, 2, 3, 7, 8, 17, 31, 100)


@dataclass(frozen=True)
class Configuration:
    """One LSTM and one batch for it; sizes as in torch.nn.LSTM."""

    index: int
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    bidirectional: bool
    proj_size: int
    steps: int
    rows: int
    batched: bool
    lengths: tuple[int, ...] | None
    start_state: bool

    @property
    def options(self):
        """The arguments that the constructors of latchwork.LSTM and torch.nn.LSTM both take."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size")
        return {name: getattr(self, name) for name in names}

    @property
    def directions(self):
        return 2 if self.bidirectional else 1

    @property
    def output_size(self):
        """Size of h in one direction."""
        return self.proj_size or self.hidden_size

    def sequence_shape(self, features):
        if not self.batched:
            return (self.steps, features)
        if self.batch_first:
            return (self.rows, self.steps, features)
        return (self.steps, self.rows, features)

    def state_shape(self, features):
        states = self.num_layers * self.directions
        return (states, self.rows, features) if self.batched else (states, features)

    def parameter_shapes(self):
        gates, suffixes = 4 * self.hidden_size, ("", "_reverse")[: self.directions]
        shapes = {}
        for layer in range(self.num_layers):
            features = self.input_size if layer == 0 else self.directions * self.output_size
            for suffix in suffixes:
                shapes[f"weight_ih_l{layer}{suffix}"] = (gates, features)
                shapes[f"weight_hh_l{layer}{suffix}"] = (gates, self.output_size)
                if self.bias:
                    shapes[f"bias_ih_l{layer}{suffix}"] = (gates,)
                    shapes[f"bias_hh_l{layer}{suffix}"] = (gates,)
                if self.proj_size:
                    shapes[f"weight_hr_l{layer}{suffix}"] = (self.proj_size, self.hidden_size)
        return shapes


@dataclass(frozen=True)
class Numbers:
    """Parameters, input, start state, d_output and d_state for one configuration."""

    parameters: dict
    x: np.ndarray
    start: tuple | None
    d_output: np.ndarray
    d_state: tuple


def uniform(random, bound, shape):
    """Uniform numbers in +-bound that float32 holds exactly, in float64."""
    return random.uniform(-bound, bound, shape).astype(np.float32).astype(np.float64)


def lstm_parameters(random, shapes, hidden_size):
    """Parameters half as large again as PyTorch's initial ones, so that the gates leave their linear range."""
    return {name: uniform(random, 1.5 / np.sqrt(hidden_size), shape) for name, shape in shapes.items()}


def _draw(index):
    random = np.random.RandomState(7000 + index)

    def pick(choices):
        return choices[random.randint(len(choices))]

    input_size, hidden_size = pick(SIZES), pick(SIZES)
    projected = hidden_size > 1 and pick((False, False, True))
    steps, rows = pick((1, 2, 3, 5, 9, 12)), pick((1, 2, 3, 5, 7, 17))
    batched = pick((True, True, True, True, False))
    ragged = batched and pick((False, True))
    return Configuration(
        index=index,
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=pick((1, 2, 3)),
        bias=pick((True, True, False)),
        batch_first=pick((False, True)),
        bidirectional=pick((False, True)),
        proj_size=int(random.randint(1, hidden_size)) if projected else 0,
        steps=steps,
        rows=rows if batched else 1,
        batched=batched,
        lengths=tuple(int(length) for length in random.randint(1, steps + 1, rows)) if ragged else None,
        start_state=pick((False, True)),
    )


CONFIGURATIONS = tuple(_draw(index) for index in range(COUNT))


@lru_cache(maxsize=8)
def numbers(configuration):
    """The numbers of a configuration; do not write into them."""
    c = configuration
    random = np.random.RandomState(9000 + c.index)
    parameters = lstm_parameters(random, c.parameter_shapes(), c.hidden_size)
    x = uniform(random, 2.0, c.sequence_shape(c.input_size))
    state_shapes = c.state_shape(c.output_size), c.state_shape(c.hidden_size)
    start = tuple(uniform(random, 1.0, shape) for shape in state_shapes) if c.start_state else None
    d_output = uniform(random, 1.0, c.sequence_shape(c.directions * c.output_size))
    d_state = tuple(uniform(random, 1.0, shape) for shape in state_shapes)
    return Numbers(parameters, x, start, d_output, d_state)


def sample(array, limit):
    """A tensor of at most ``limit`` elements as it is, of a larger one ``limit`` of them at fixed places."""
    flat = np.ravel(array)
    if flat.size <= limit:
        return flat
    return flat[np.random.RandomState(flat.size).randint(0, flat.size, limit)]


FORWARD_NAMES = ("output", "h_n", "c_n")


def sample_limit(name):
    """How many elements of a result the golden file holds."""
    return 32 if name in FORWARD_NAMES else 12
