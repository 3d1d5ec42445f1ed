"""When a run ends before its epochs are over: no more improvement, or a loss that is no use any more."""

import math
from collections.abc import Mapping
from typing import Any

from latchwork._arrays import integer, real_number
from latchwork._sequence import SequenceModule

# An epoch's mean loss this many times the largest loss of any batch of the first epoch is no bad epoch any more: the
# weights are lost. Good runs rise by a factor of 2 to 10 at times.
EXPLODED = 1000.0

_SAMPLES_NAMED = 20


class DivergenceError(RuntimeError):
    """Training ended because its loss, its gradients or its weights became infinite, NaN, or enormous.

    The batch that did it changed nothing, and the best weights until then are kept: those at the end of the epoch with
    the lowest validation loss or, without validation, the lowest training loss. If that happened in the first epoch,
    the weights are those before the batch. An estimator that raises this has them in its ``network_`` and can be used.

    A loss that is finite but enormous ends training too, at the end of an epoch: if the mean loss of the epoch is more
    than 1000 times the largest loss, in absolute value, of any batch of the first epoch. No batch is to blame then.

    Attributes
    ----------
    epoch : int
        The epoch, counted from 1.
    batch : int or None
        The number of the batch in its epoch, counted from 0; None if the mean of an epoch was enormous.
    gradient_norm : float
        Euclidean norm of the gradient, before clipping: infinite or NaN if that is why the batch was refused, else that
        of the step before, NaN if there was none. The larger it is, the likelier that that step was too long.
    samples : list of int, or None
        The numbers of the batch's samples, if the data have numbers; None else.
    """

    def __init__(
        self, reason: str, epoch: int, batch: int | None, gradient_norm: float, samples: Any, kept: str
    ) -> None:
        self.epoch = epoch
        self.batch = batch
        self.gradient_norm = gradient_norm
        self.samples = None if samples is None else [int(sample) for sample in samples]
        place = f"epoch {epoch}" if batch is None else f"epoch {epoch}, batch {batch}{_named(self.samples)}"
        super().__init__(
            f"training ended in {place}: {reason}; the gradient's norm was last {gradient_norm:.3g}; "
            f"{kept} are kept. A lower lr or clip_norm may help{', or a look at these samples' if self.samples else ''}"
        )

    def __reduce__(self) -> Any:
        """Let pickle, and so a process pool, pass the error on."""
        return _rebuilt, (str(self), self.epoch, self.batch, self.gradient_norm, self.samples)


def _rebuilt(message: str, *values: Any) -> DivergenceError:
    error = DivergenceError.__new__(DivergenceError, message)
    error.epoch, error.batch, error.gradient_norm, error.samples = values
    return error


def _named(samples: list[int] | None) -> str:
    if samples is None:
        return ""
    shown = ", ".join(map(str, samples[:_SAMPLES_NAMED]))
    more = f" and {len(samples) - _SAMPLES_NAMED} more" if len(samples) > _SAMPLES_NAMED else ""
    return f" (samples {shown}{more})"


class BestWeights:
    """The weights of the best epoch, and how long ago it was.

    Parameters
    ----------
    n_iter_no_change : int
        After this many epochs in a row without improvement `over` is true.
    tol : float
        An epoch is an improvement if its loss is below the best one by more than this. The best weights are those with
        the lowest loss, however little it is lower.
    """

    def __init__(self, n_iter_no_change: int, tol: float) -> None:
        self._patience = integer("n_iter_no_change", n_iter_no_change, 1)
        self._tol = real_number("tol", tol)
        self.loss = math.inf
        self.epoch = 0  # counted from 1
        self.waited = 0  # epochs since the last improvement
        self.weights: dict[str, Any] | None = None

    def report(self, loss: float, epoch: int, network: SequenceModule[Any]) -> None:
        """Take note of an epoch. A loss of NaN is no improvement."""
        self.waited = 0 if loss < self.loss - self._tol else self.waited + 1
        if loss < self.loss:
            self.loss, self.epoch, self.weights = loss, epoch, network.state_dict()

    @property
    def over(self) -> bool:
        """Whether the loss has not improved for too long."""
        return self.waited >= self._patience

    def put_back(self, network: SequenceModule[Any]) -> bool:
        """Give the network the best weights. False: there are none yet."""
        if self.weights is not None:
            network.load_state_dict(self.weights)
        return self.weights is not None

    def state_dict(self) -> dict[str, Any]:
        """Give what `report` has noted, without the weights."""
        return {"loss": self.loss, "epoch": self.epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any], weights: dict[str, Any] | None) -> None:
        """Go on from there."""
        self.loss, self.epoch, self.waited = (state_dict[name] for name in ("loss", "epoch", "waited"))
        self.weights = weights
