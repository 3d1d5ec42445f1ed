"""Who is told of a run while it goes on: callbacks, the printed rows, TensorBoard."""

import importlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latchwork.estimators.runs.fit_loop import FitLoop

    Row = Mapping[str, float]


class Callback:
    """What all callbacks share: each method does nothing unless a subclass says otherwise.

    The ``callbacks`` of an estimator are such objects, or functions of ``(run, row)``, which are called as
    `on_epoch_end` is. ``run`` has ``network``, ``trainer``, ``history``, ``max_epochs`` and ``stop()``, which ends
    training after this epoch. What a callback raises ends training and is passed on.

    Examples
    --------
    >>> import latchwork as lw
    >>> class Patience(lw.Callback):
    ...     def on_epoch_end(self, run, row):
    ...         if row["loss"] < 0.01:
    ...             run.stop()
    """

    def on_fit_begin(self, run: "FitLoop") -> None:
        """Hear that training begins, or goes on from a checkpoint: ``run.history`` then has the rows until there."""

    def on_epoch_end(self, run: "FitLoop", row: "Row") -> None:
        """Hear that an epoch is over, and validated. ``row`` is the last of ``run.history``."""

    def on_fit_end(self, run: "FitLoop") -> None:
        """Hear that training is over, by Ctrl-C too, and that the network has the weights that it will keep."""


class TensorBoard(Callback):
    """Writes every number of the history where TensorBoard finds it.

    Parameters
    ----------
    folder : str or os.PathLike
        A new file is written there for each ``fit``; ``tensorboard --logdir`` takes it, or a folder above it.

    Raises
    ------
    ImportError
        If neither ``tensorboard`` nor ``tensorboardX`` is installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = os.fspath(folder)
        self._new_writer = _tensorboard_writer()
        self._add: Callable[[str, float, int], Any] | None = None
        self._writer: Any = None

    def on_fit_begin(self, run: "FitLoop") -> None:
        """Begin a file."""
        self._writer, self._add = self._new_writer(self._folder)

    def on_epoch_end(self, run: "FitLoop", row: "Row") -> None:
        """Write a row, which TensorBoard can show at once."""
        assert self._add is not None
        for name, value in row.items():
            if name != "epoch":
                self._add(name, value, int(row["epoch"]))
        self._writer.flush()

    def on_fit_end(self, run: "FitLoop") -> None:
        """Close the file."""
        self._writer.close()
        self._writer = self._add = None


class RowPrinter(Callback):
    """Prints the history on standard output, a row for each epoch."""

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}

    def on_epoch_end(self, run: "FitLoop", row: "Row") -> None:
        """Print a row, and before the first one the names of the columns."""
        if not self._widths:
            self._widths = {name: max(len(name), 10) for name in row}
            print("  ".join(name.rjust(width) for name, width in self._widths.items()))
        texts = (_text(row[name]).rjust(width) for name, width in self._widths.items())
        print("  ".join(texts), flush=True)


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


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _tensorboard_writer() -> Callable[[str], tuple[Any, Callable[[str, float, int], Any]]]:
    """Find what can write such files: give a function that begins one, and returns it and how a number is added."""
    try:
        new_event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
        new_summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        new_file = importlib.import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter
    except ImportError:
        try:
            new_writer = importlib.import_module("tensorboardX").SummaryWriter
        except ImportError:
            raise ImportError(
                "TensorBoard: expected the package tensorboard or tensorboardX, got neither; pip install tensorboard"
            ) from None

        def begin_with_x(folder: str) -> tuple[Any, Callable[[str, float, int], Any]]:
            writer = new_writer(folder)
            return writer, writer.add_scalar

        return begin_with_x

    def begin(folder: str) -> tuple[Any, Callable[[str, float, int], Any]]:
        writer = new_file(folder)

        def add(name: str, value: float, epoch: int) -> None:
            summary = new_summary(value=[new_summary.Value(tag=name, simple_value=value)])
            writer.add_event(new_event(wall_time=time.time(), step=epoch, summary=summary))

        return writer, add

    return begin
