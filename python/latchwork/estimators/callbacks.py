"""What is told of a run while it goes on."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latchwork.estimators.fit_loop import FitLoop

    Row = Mapping[str, float]


class Callback:
    """What all callbacks share: each method does nothing unless a subclass says otherwise.

    ``run`` has ``network``, ``trainer``, ``history``, ``max_epochs`` and ``stop()``, which ends training after this
    epoch. What a callback raises ends training and is passed on.
    """

    def on_fit_begin(self, run: "FitLoop") -> None:
        """Hear that training begins, or goes on from a checkpoint: ``run.history`` then has the rows until there."""

    def on_epoch_end(self, run: "FitLoop", row: "Row") -> None:
        """Hear that an epoch is over, and validated. ``row`` is the last of ``run.history``."""

    def on_fit_end(self, run: "FitLoop") -> None:
        """Hear that training is over, by Ctrl-C too, and that the network has the weights that it will keep."""


class _Function(Callback):
    """A plain function in the place of a callback."""

    def __init__(self, function: Callable[["FitLoop", "Row"], Any]) -> None:
        self._function = function

    def on_epoch_end(self, run: "FitLoop", row: "Row") -> None:
        self._function(run, row)


def callbacks_of(callbacks: Any) -> list[Callback]:
    """Read what users pass: None, one callback or several, each a `Callback` or a function of (run, row)."""
    if callbacks is None:
        return []
    several = callbacks if isinstance(callbacks, Iterable) else [callbacks]
    return [_callback(place, each) for place, each in enumerate(several)]


def _callback(place: int, callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if not callable(callback) or isinstance(callback, type):  # a class would be called too, but to no use
        raise TypeError(f"callbacks[{place}]: expected a Callback or a function of (run, row), got {callback!r}")
    return _Function(callback)
