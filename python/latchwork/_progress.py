"""A progress bar for a terminal or a notebook; silence everywhere else."""

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

WIDTH = 24
REDRAW_SECONDS = 0.1


Message = str | Callable[[], str]


class Bar(Protocol):
    """What draws progress, between ``with`` and its end."""

    def __enter__(self) -> Self:
        """Begin."""

    def update(self, fraction: float, message: Message) -> None:
        """Show how much is done, 0 to 1, and a message, or what gives one."""

    def finish(self, message: Message) -> None:
        """Show, where the bar stays, that all is done. A bar that was not finished stays as that of a failure."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


def progress_bar(enabled: bool = True) -> Bar:
    """Give tqdm's bar on a terminal or in a notebook, if tqdm is installed, and else a `ProgressBar`."""
    if enabled and (_in_notebook() or _on_terminal_with_width()):
        try:
            return TqdmBar()
        except ImportError:
            pass
    return ProgressBar(enabled)


class ProgressBar:
    """One line on standard error, redrawn in place and erased at the end; nothing if that is no terminal.

    Parameters
    ----------
    enabled : bool, default True
        False: draws nothing, even on a terminal.
    stream : text stream, optional
        Where to draw; None: standard error.
    """

    def __init__(self, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        # sys.stderr is None under pythonw and some services.
        self._enabled = enabled and self._stream is not None and self._stream.isatty()
        self._drawn_at = -REDRAW_SECONDS
        self._drawn = False

    def __enter__(self) -> "ProgressBar":
        return self

    def update(self, fraction: float, message: Message) -> None:
        """Show how much is done, 0 to 1, and a message, or what gives one; at most ten times a second."""
        now = time.monotonic()
        if not self._enabled or now - self._drawn_at < REDRAW_SECONDS:
            return
        fraction = min(max(fraction, 0.0), 1.0)
        bar = ("#" * int(fraction * WIDTH)).ljust(WIDTH, ".")
        text = message if isinstance(message, str) else message()
        self._stream.write(f"\r\x1b[K[{bar}] {fraction:4.0%}  {text}")
        self._stream.flush()
        self._drawn_at = now
        self._drawn = True

    def finish(self, message: Message) -> None:
        """Draw nothing, because the line is erased at the end."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class TqdmBar:
    """The same by tqdm, which knows notebooks too. ImportError if it is not installed."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in a notebook without widgets it warns, and then draws with characters
            self._new_bar = importlib.import_module("tqdm.auto").tqdm
        self._drawn_at = -REDRAW_SECONDS
        self._bar: Any = None

    def __enter__(self) -> "TqdmBar":
        """Draw nothing yet."""
        return self

    def update(self, fraction: float, message: Message) -> None:
        """Show how much is done, 0 to 1, and a message, or what gives one; at most ten times a second."""
        now = time.monotonic()
        if now - self._drawn_at < REDRAW_SECONDS:
            return
        if self._bar is None:
            options = {"leave": _in_notebook(), "dynamic_ncols": True, "mininterval": 0}
            self._bar = self._new_bar(total=1.0, bar_format="{percentage:3.0f}%|{bar}| {desc}", **options)
        self._bar.n = min(max(fraction, 0.0), 1.0)
        self._bar.set_description_str(message if isinstance(message, str) else message())
        self._drawn_at = now

    def finish(self, message: Message) -> None:
        """Fill the bar in a notebook, where it stays. One that is closed before it is full turns red there."""
        if self._bar is not None and _in_notebook():
            self._bar.n = self._bar.total
            self._bar.set_description_str(message if isinstance(message, str) else message())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Erase it on a terminal; leave it in a notebook."""
        if self._bar is not None:
            self._bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"


def _on_terminal_with_width() -> bool:
    """Say whether standard error is a terminal on which tqdm draws: on one that says it has no columns it does not."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # what stands in for a terminal need not tell
        return True
