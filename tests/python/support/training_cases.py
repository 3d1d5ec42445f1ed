"""The training runs that are compared with PyTorch: a network, its first weights, its batches, loss and optimiser."""

from dataclasses import dataclass, field

import numpy as np
from configurations import uniform

STEPS = 200


@dataclass(frozen=True)
class TrainingCase:
    """A chain [Embedding], LSTM, [Last], Linear, and how it is trained. The optimiser's options are latchwork's."""

    name: str
    loss: str = "squared_error"
    optimizer: str = "adam"
    optimizer_options: dict = field(default_factory=lambda: {"lr": 0.01})
    clip_norm: float = 0.0
    input_size: int = 3
    vocabulary: int = 0  # above 0: the chain starts with an Embedding
    hidden_size: int = 7
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    last: bool = False
    output_size: int = 2
    activation: str | None = None
    target_bound: float = 1.5  # large values make gradients that clipping at 1 shortens
    quantiles: tuple = ()
    ragged: bool = False
    carried: bool = False  # each batch starts with the state in which the one before it ended
    batches: int = 4
    steps: int = 9
    rows: int = 5

    @property
    def lstm_output_size(self):
        return (2 if self.bidirectional else 1) * (self.proj_size or self.hidden_size)

    def parameters(self):
        """The first weights by the names that the chain gives them."""
        random = np.random.RandomState(11)
        shapes, at = {}, 0
        if self.vocabulary:
            shapes["0.weight"], at = (self.vocabulary, self.input_size), 1
        for layer in range(self.num_layers):
            features = self.input_size if layer == 0 else self.lstm_output_size
            for suffix in ("", "_reverse")[: 2 if self.bidirectional else 1]:
                shapes[f"{at}.weight_ih_l{layer}{suffix}"] = (4 * self.hidden_size, features)
                shapes[f"{at}.weight_hh_l{layer}{suffix}"] = (4 * self.hidden_size, self.proj_size or self.hidden_size)
                shapes[f"{at}.bias_ih_l{layer}{suffix}"] = (4 * self.hidden_size,)
                shapes[f"{at}.bias_hh_l{layer}{suffix}"] = (4 * self.hidden_size,)
                if self.proj_size:
                    shapes[f"{at}.weight_hr_l{layer}{suffix}"] = (self.proj_size, self.hidden_size)
        at += 2 if self.last else 1
        shapes[f"{at}.weight"] = (self.output_size, self.lstm_output_size)
        shapes[f"{at}.bias"] = (self.output_size,)
        return {name: uniform(random, 0.4, shape) for name, shape in shapes.items()}

    def batch(self, step):
        """x, target and lengths (or None) of a step; after Last the target has no steps."""
        random = np.random.RandomState(100 + step % self.batches)
        shape = (self.steps, self.rows)
        if self.vocabulary:
            x = random.randint(0, self.vocabulary, shape).astype(np.int64)
        else:
            x = uniform(random, 1.5, (*shape, self.input_size))
        target_shape = shape[1:] if self.last else shape
        if self.loss == "cross_entropy":
            target = random.randint(0, self.output_size, target_shape).astype(np.int64)
        else:
            target = uniform(
                random, self.target_bound, (*target_shape, self.output_size // max(1, len(self.quantiles)))
            )
        lengths = random.randint(1, self.steps + 1, self.rows).astype(np.int64) if self.ragged else None
        return x, target, lengths


_LANGUAGE = {"loss": "cross_entropy", "vocabulary": 11, "input_size": 5, "output_size": 11}

_LARGE = {"clip_norm": 1.0, "target_bound": 9.0}

CASES = (
    TrainingCase("adam with clipping", **_LARGE),
    TrainingCase("adam with clipping, ragged", ragged=True, num_layers=2, **_LARGE),
    TrainingCase("adam with clipping, both directions", bidirectional=True, proj_size=3, num_layers=2, **_LARGE),
    TrainingCase("adam with clipping, language", clip_norm=0.18, hidden_size=17, carried=True, batches=50, **_LANGUAGE),
    TrainingCase("adam with clipping, classes", clip_norm=0.6, last=True, ragged=True, **_LANGUAGE),
    TrainingCase("adam with weight decay", optimizer_options={"lr": 0.01, "weight_decay": 0.03}),
    TrainingCase("adam with other betas", optimizer_options={"lr": 0.01, "betas": (0.7, 0.9), "eps": 1e-3}),
    TrainingCase("adamw", optimizer="adamw", optimizer_options={"lr": 0.01, "weight_decay": 0.1}, **_LARGE),
    TrainingCase("adamw with defaults", optimizer="adamw", optimizer_options={}),
    TrainingCase("sgd", optimizer="sgd", optimizer_options={"lr": 0.1}),
    TrainingCase("sgd with momentum", optimizer="sgd", optimizer_options={"lr": 0.05, "momentum": 0.9}, **_LARGE),
    TrainingCase(
        "sgd with dampening and weight decay",
        optimizer="sgd",
        optimizer_options={"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01},
    ),
    TrainingCase(
        "sgd with nesterov momentum",
        optimizer="sgd",
        optimizer_options={"lr": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    TrainingCase("absolute error", loss="absolute_error", clip_norm=0.12, optimizer_options={"lr": 0.003}),
    TrainingCase("quantiles", loss="quantile", quantiles=(0.1, 0.5, 0.9), output_size=6, ragged=True, clip_norm=0.03),
    TrainingCase("activation of the head", activation="tanh", last=True, **_LARGE),
)
