"""The named shapes on which speed is measured, and the weights and data that every peer gets for them."""

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

# Results of the step kind are compared after this many different inputs.
VERIFIED_STEPS = 8
# Losses of the update kind are compared after this many updates.
VERIFIED_UPDATES = 3

LEARNING_RATE = 1e-3
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Case:
    """One shape, and the kinds that are timed unless others are asked for.

    Rows of a ragged case have different lengths. ``nearest_round`` names a case of round sizes, with whose time per
    operation this one's is compared.
    """

    name: str
    steps: int
    rows: int
    input_size: int
    hidden_size: int
    layers: int
    kinds: tuple[str, ...]
    directions: int = 1
    ragged: bool = False
    dtype: str = "float32"
    nearest_round: str | None = None

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.directions * self.hidden_size

    def layer_input_size(self, layer: int) -> int:
        """Features of what a layer reads."""
        return self.input_size if layer == 0 else self.output_size

    def allows(self, kind: str) -> bool:
        """Whether the kind makes sense: a reverse direction cannot run step by step, ragged cases are for training."""
        return kind == "training" if self.ragged else kind != "step" or self.directions == 1

    def floating_point_operations(self, kind: str) -> int:
        """Count the matrix products' operations, nearly all there are; a backward pass counts as two forward passes.

        Padding needs none.
        """
        per_row = sum(
            self.directions * 2 * 4 * self.hidden_size * (self.layer_input_size(layer) + self.hidden_size)
            for layer in range(self.layers)
        )
        steps = self.rows if kind == "step" else int(lengths(self).sum())
        return per_row * steps * (3 if kind in ("training", "update") else 1)


def _case(name: str, shape: tuple[int, int, int, int, int], *kinds: str, directions: int = 1) -> Case:
    return Case(name, *shape, kinds=kinds, directions=directions)


def _grid(hidden_sizes: tuple[int, ...], row_counts: tuple[int, ...], features: int | None) -> list[Case]:
    """Make a case for each pair; ``features`` None: as many as hidden units."""
    return [
        _case(f"h{hidden}-n{rows}", (100, rows, features or hidden, hidden, 1), "forward")
        for hidden in hidden_sizes
        for rows in row_counts
    ]


_UNEVEN = (5, 33, 48, 96, 200, 333)
_ROUND = (8, 32, 64, 128, 256)

# Uneven numbers of hidden units and of rows, and the nearest round ones.
_ROUND_HIDDEN_SIZES = {12: 16, 48: 64, 75: 64, 200: 192, 333: 320}
_ROUND_ROWS = {3: 4, 17: 16, 100: 96}
# Steps by hidden units, and four times as many with fewer than 16 rows, so that an update takes about a millisecond or
# more, and not much more than a hundred.
_TRAINING_STEPS = {12: 500, 16: 500, 48: 200, 64: 200, 75: 200, 192: 50, 200: 50, 320: 30, 333: 30}


def _training_case(hidden: int, rows: int, layers: int = 1, directions: int = 1, ragged: bool = False) -> Case:
    """Make a case: of 16 features if there are many rows, else of as many as hidden units."""
    steps = _TRAINING_STEPS[hidden] * (4 if rows < 16 else 1)
    features = 16 if rows > 17 else hidden

    def name(hidden: int, rows: int) -> str:
        return f"t-h{hidden}{f'x{layers}' * (layers > 1)}{'-bi' * (directions > 1)}-n{rows}"

    nearest = name(_ROUND_HIDDEN_SIZES[hidden], _ROUND_ROWS[rows]) if hidden in _ROUND_HIDDEN_SIZES else None
    return Case(
        name(hidden, rows) + "-ragged" * ragged,
        *(steps, rows, features, hidden, layers),
        kinds=("training",),
        directions=directions,
        ragged=ragged,
        nearest_round=nearest,
    )


def _with_nearest_round(uneven: list[Case]) -> list[Case]:
    """Put the nearest round case before the first case that names it, so that the two are measured close in time."""
    found: dict[str, Case] = {}
    for case in uneven:
        hidden, rows = _ROUND_HIDDEN_SIZES[case.hidden_size], _ROUND_ROWS[case.rows]
        nearest = _training_case(hidden, rows, case.layers, case.directions)
        found |= {nearest.name: nearest, case.name: case}
    return list(found.values())


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
    # Sizes that fill no register and are no multiple of a tile, and round ones to compare their GF/s with.
    "shapes": [
        *_grid(_UNEVEN, (1, 5, 100), features=16),
        *_grid(_UNEVEN, (3, 17), features=None),
        *_grid(_ROUND, (1, 96), features=16),
        *_grid(_ROUND, (4, 16), features=None),
        _case("h33x2-n5", (100, 5, 16, 33, 2), "forward"),
        _case("h200x2-n17", (100, 17, 200, 200, 2), "forward"),
        _case("h48-bi-n3", (100, 3, 16, 48, 1), "forward", directions=2),
        _case("h200x2-bi-n17", (100, 17, 16, 200, 2), "forward", directions=2),
    ],
    # Sizes for which no part of the kernels was tuned.
    "between": [
        _case(f"h{hidden}-n{rows}", (100 if rows < 400 else 25, rows, hidden, hidden, 1), "forward", "training")
        for hidden in (28, 80, 144, 300, 640)
        for rows in (6, 20, 28, 48, 400)
    ],
    # The same as "shapes" for training; the nearest round case of a ragged one is not ragged.
    "training-shapes": _with_nearest_round(
        [
            *(_training_case(hidden, rows) for rows in _ROUND_ROWS for hidden in _ROUND_HIDDEN_SIZES),
            *(
                _training_case(hidden, rows, layers, directions)
                for hidden, rows, layers, directions in (
                    (48, 17, 3, 1),
                    (75, 100, 2, 1),
                    (200, 17, 2, 1),
                    (333, 3, 2, 1),
                    (12, 100, 1, 2),
                    (48, 17, 2, 2),
                    (75, 17, 1, 2),
                    (200, 3, 1, 2),
                )
            ),
            *(
                _training_case(hidden, rows, layers, directions, ragged=True)
                for hidden, rows, layers, directions in (
                    (12, 100, 1, 1),
                    (48, 17, 1, 1),
                    (75, 100, 1, 1),
                    (200, 17, 1, 1),
                    (333, 100, 1, 1),
                    (200, 17, 2, 1),
                    (75, 17, 1, 2),
                )
            ),
        ]
    ),
}

CASES = {case.name: case for group in _GROUPS.values() for case in group}
GROUPS = {name: [case.name for case in group] for name, group in _GROUPS.items()}


def parameter_suffixes(case: Case) -> list[list[str]]:
    """Say what ``torch.nn.LSTM`` appends to a parameter's name: for each layer, for each direction."""
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
    """Draw d_output, or the target of the squared error: (T, N, directions * H), zeros in padding."""
    return without_padding(case, _normal(2, (case.steps, case.rows, case.output_size), case.dtype))


def lengths(case: Case) -> NDArray[np.int64]:
    """Draw the length of each row: in a ragged case one is T and the others are at least a tenth of it."""
    if not case.ragged:
        return np.full(case.rows, case.steps)
    drawn = np.random.default_rng(3).integers(-(-case.steps // 10), case.steps, case.rows, endpoint=True)
    drawn[case.rows // 2] = case.steps
    return drawn


def present(case: Case) -> NDArray[np.bool_]:
    """Say which steps of which rows (T, N, 1) are no padding."""
    within: NDArray[np.bool_] = np.arange(case.steps)[:, None, None] < lengths(case)[:, None]
    return within


def without_padding(case: Case, sequence: Array) -> Array:
    """Put zeros into the padding of (T, N, any)."""
    return np.where(present(case), sequence, np.zeros((), sequence.dtype))


def _normal(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.dtype(dtype))
