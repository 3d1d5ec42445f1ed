"""Measuring a network, while it is trained, on sequences that it is not trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import losses
from latchwork.estimators.prediction import run_network

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.examples import Examples
    from latchwork.network import Network


class Validation:
    """Gives "validation_loss" and "validation_score" of the network as it is when this is called.

    Parameters
    ----------
    network : Network
        What is trained.
    examples : Examples
        Targets are in the units of the network's output.
    loss : str or callable
        As for `latchwork.Trainer`.
    options : mapping
        The loss's.
    score : callable
        Given an output (M, rows, features) it says how good that is.
    """

    def __init__(
        self,
        network: Network,
        examples: Examples,
        loss: str | Callable[..., Any],
        options: Mapping[str, Any],
        score: Callable[[Array], float],
    ) -> None:
        self._network = network
        self._examples = examples
        self._loss = functools.partial(getattr(losses, loss) if isinstance(loss, str) else loss, **options)
        self._score = score

    def __call__(self) -> dict[str, float]:
        """Measure; with several members the loss is the mean of theirs, the score that of what they say together."""
        sequences, targets, _ = self._examples
        (rows,) = run_network(self._network, sequences, targets.per_step, lambda out: (np.moveaxis(out, 0, -2),))
        output = np.ascontiguousarray(rows.swapaxes(0, 1))  # (M, rows, features)
        keywords = {} if targets.weights is None else {"weights": targets.weights}
        by_member = [float(self._loss(each, targets.values, **keywords)[0]) for each in output]
        return {"validation_loss": sum(by_member) / len(by_member), "validation_score": self._score(output)}
