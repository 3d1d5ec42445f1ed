"""The named shapes that speed is measured on, and the weights and data every peer gets for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

KINDS = {
    "forward": "a whole sequence, inference",
    "step": "one time step that carries the state, inference",
    "training": "forward and backward, no optimiser",
    "update": "forward, squared error, backward, clipping by norm and Adam",
}

DTYPES = ("float32", "float64")

# The step kind carries the state over this many different inputs before its results are compared.
VERIFIED_STEPS = 8
# The update kind makes this many updates before its losses are compared.
VERIFIED_UPDATES = 3

LEARNING_RATE = 1e-3
MAX_NORM = 1.0


@dataclass(frozen=True)
class Case:
    """One shape, and the kinds that are timed unless others are asked for."""

    name: str
    steps: int
    rows: int
    input_size: int
    hidden_size: int
    layers: int
    kinds: tuple[str, ...]
    directions: int = 1
    dtype: str = "float32"

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.directions * self.hidden_size

    def layer_input_size(self, layer: int) -> int:
        """Features of what a layer reads."""
        return self.input_size if layer == 0 else self.output_size

    def allows(self, kind: str) -> bool:
        """Whether the kind makes sense: the reverse direction cannot go step by step."""
        return kind != "step" or self.directions == 1

    def floating_point_operations(self, kind: str) -> int:
        """Operations of the matrix products, which are nearly all; a backward pass counts as two forward passes."""
        per_row = sum(
            self.directions * 2 * 4 * self.hidden_size * (self.layer_input_size(layer) + self.hidden_size)
            for layer in range(self.layers)
        )
        steps = 1 if kind == "step" else self.steps
        return per_row * steps * self.rows * (3 if kind in ("training", "update") else 1)


def _case(name: str, shape: tuple[int, int, int, int, int], *kinds: str, directions: int = 1) -> Case:
    return Case(name, *shape, kinds=kinds, directions=directions)


def _grid(hidden_sizes: tuple[int, ...], row_counts: tuple[int, ...], features: int | None) -> list[Case]:
    """Make a case for each pair; as many features as hidden units where no number is given."""
    return [
        _case(f"h{hidden}-n{rows}", (100, rows, features or hidden, hidden, 1), "forward")
        for hidden in hidden_sizes
        for rows in row_counts
    ]


_UNEVEN = (5, 33, 48, 96, 200, 333)
_ROUND = (8, 32, 64, 128, 256)

# Shapes are T, N, in, H, layers.
_GROUPS: dict[str, list[Case]] = {
    "inference": [
        _case("step-20", (1, 1, 1, 20, 1), "step"),
        _case("step-64", (1, 1, 64, 64, 1), "step"),
        _case("step-128", (1, 1, 64, 128, 1), "step"),
        _case("step-256", (1, 1, 256, 256, 1), "step"),
        _case("step-512", (1, 1, 512, 512, 1), "step"),
        _case("step-1024", (1, 1, 1024, 1024, 1), "step"),
        _case("seq-20", (1000, 1, 1, 20, 1), "forward"),
        _case("seq-128", (200, 1, 64, 128, 1), "forward"),
        _case("seq-256", (200, 1, 256, 256, 1), "forward"),
        _case("seq-512", (200, 1, 512, 512, 1), "forward"),
        _case("seq-1024", (100, 1, 1024, 1024, 1), "forward"),
        _case("b8-256", (100, 8, 256, 256, 1), "forward"),
        _case("b32-128", (100, 32, 64, 128, 1), "forward"),
        _case("b32-256", (100, 32, 256, 256, 1), "forward"),
        _case("b64-512x2", (64, 64, 512, 512, 2), "forward"),
        _case("b256-64", (100, 256, 16, 64, 1), "forward"),
        _case("b128-1024", (32, 128, 1024, 1024, 1), "forward"),
    ],
    "training": [
        _case("small", (50, 32, 8, 32, 1), "training", "update"),
        _case("hydro", (365, 256, 16, 128, 1), "training", "update"),
        _case("hydro-20", (365, 256, 16, 20, 1), "training", "update"),
        _case("ptb", (35, 20, 650, 650, 2), "training", "update"),
        _case("charlm", (100, 64, 128, 512, 1), "training", "update"),
        _case("rl", (32, 64, 64, 128, 1), "training", "update"),
        _case("big", (50, 128, 1024, 1024, 1), "training", "update"),
    ],
    # Training on these two shapes must be at least as fast as PyTorch's.
    "floor": [
        _case("floor-32", (50, 32, 8, 32, 1), "forward", "training", "update"),
        _case("floor-64", (365, 256, 16, 64, 1), "forward", "training", "update"),
    ],
    # Sizes that fill no register and divide by no tile, and even ones to judge their GF/s by.
    "shapes": [
        *_grid(_UNEVEN, (1, 5, 100), features=16),
        *_grid(_UNEVEN, (3, 17), features=None),
        *_grid(_ROUND, (1, 96), features=16),
        *_grid(_ROUND, (4, 16), features=None),
        _case("h33x2-n5", (100, 5, 16, 33, 2), "forward"),
        _case("h200x2-n17", (100, 17, 200, 200, 2), "forward"),
        _case("h48-bi-n3", (100, 3, 16, 48, 1), "forward", directions=2),
        _case("h200x2-bi-n17", (100, 17, 16, 200, 2), "forward", directions=2),
        _case("t-h5-n100", (100, 100, 16, 5, 1), "training"),
        _case("t-h33-n17", (100, 17, 33, 33, 1), "training"),
        _case("t-h33x2-n5", (100, 5, 16, 33, 2), "training"),
        _case("t-h96-n3", (100, 3, 96, 96, 1), "training"),
        _case("t-h200-n17", (100, 17, 200, 200, 1), "training"),
        _case("t-h48-bi-n17", (100, 17, 16, 48, 1), "training", directions=2),
    ],
}

CASES = {case.name: case for group in _GROUPS.values() for case in group}
GROUPS = {name: [case.name for case in group] for name, group in _GROUPS.items()}


def parameter_suffixes(case: Case) -> list[list[str]]:
    """Say what ``torch.nn.LSTM`` puts behind a parameter's name: for each layer, for each direction."""
    return [[f"_l{layer}{end}" for end in ("", "_reverse")[: case.directions]] for layer in range(case.layers)]


def weights(case: Case) -> dict[str, Array]:
    """Draw parameters as ``torch.nn.LSTM`` does, under its names."""
    generator = np.random.default_rng(0)
    bound = case.hidden_size**-0.5
    parameters: dict[str, Array] = {}
    for layer, suffixes in enumerate(parameter_suffixes(case)):
        for suffix in suffixes:
            for name, shape in (
                ("weight_ih", (4 * case.hidden_size, case.layer_input_size(layer))),
                ("weight_hh", (4 * case.hidden_size, case.hidden_size)),
                ("bias_ih", (4 * case.hidden_size,)),
                ("bias_hh", (4 * case.hidden_size,)),
            ):
                parameters[name + suffix] = generator.uniform(-bound, bound, shape).astype(case.dtype)
    return parameters


def inputs(case: Case, kind: str) -> Array:
    """Draw the input sequence (T, N, in); for the step kind, VERIFIED_STEPS steps."""
    steps = VERIFIED_STEPS if kind == "step" else case.steps
    return _normal(1, (steps, case.rows, case.input_size), case.dtype)


def output_sized(case: Case) -> Array:
    """Draw the gradient by the output, or the target of the squared error (T, N, directions * H)."""
    return _normal(2, (case.steps, case.rows, case.output_size), case.dtype)


def _normal(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.dtype(dtype))
