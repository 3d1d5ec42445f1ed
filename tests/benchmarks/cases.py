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

    def floating_point_operations(self, kind: str) -> int:
        """Operations of the matrix products, which are nearly all; a backward pass counts as two forward passes."""
        sizes = [self.input_size] + [self.hidden_size] * (self.layers - 1)
        per_row = sum(2 * 4 * self.hidden_size * (size + self.hidden_size) for size in sizes)
        steps = 1 if kind == "step" else self.steps
        return per_row * steps * self.rows * (3 if kind in ("training", "update") else 1)


def _case(name: str, shape: tuple[int, int, int, int, int], *kinds: str) -> Case:
    return Case(name, *shape, kinds=kinds)


# Shapes are T, N, in, H, layers.
CASES = {
    case.name: case
    for case in (
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
        _case("small", (50, 32, 8, 32, 1), "training", "update"),
        _case("hydro", (365, 256, 16, 128, 1), "training", "update"),
        _case("hydro-20", (365, 256, 16, 20, 1), "training", "update"),
        _case("ptb", (35, 20, 650, 650, 2), "training", "update"),
        _case("charlm", (100, 64, 128, 512, 1), "training", "update"),
        _case("rl", (32, 64, 64, 128, 1), "training", "update"),
        _case("big", (50, 128, 1024, 1024, 1), "training", "update"),
        # Training on these two shapes must be at least as fast as PyTorch's.
        _case("floor-32", (50, 32, 8, 32, 1), "forward", "training", "update"),
        _case("floor-64", (365, 256, 16, 64, 1), "forward", "training", "update"),
    )
}


def weights(case: Case) -> dict[str, Array]:
    """Parameters under ``torch.nn.LSTM``'s names, drawn as it draws them."""
    generator = np.random.default_rng(0)
    bound = case.hidden_size**-0.5
    parameters: dict[str, Array] = {}
    for layer in range(case.layers):
        input_size = case.input_size if layer == 0 else case.hidden_size
        for name, shape in (
            ("weight_ih", (4 * case.hidden_size, input_size)),
            ("weight_hh", (4 * case.hidden_size, case.hidden_size)),
            ("bias_ih", (4 * case.hidden_size,)),
            ("bias_hh", (4 * case.hidden_size,)),
        ):
            parameters[f"{name}_l{layer}"] = generator.uniform(-bound, bound, shape).astype(np.float32)
    return parameters


def inputs(case: Case, kind: str) -> Array:
    """The input sequence (T, N, in); for the step kind, VERIFIED_STEPS steps."""
    steps = VERIFIED_STEPS if kind == "step" else case.steps
    return _normal(1, (steps, case.rows, case.input_size))


def output_sized(case: Case) -> Array:
    """The gradient by the output, or the target of the squared error (T, N, H)."""
    return _normal(2, (case.steps, case.rows, case.hidden_size))


def _normal(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
