"""A progress bar for a terminal; silence everywhere else."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

WIDTH = 24
REDRAW_SECONDS = 0.1


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

    def update(self, fraction: float, message: str | Callable[[], str]) -> None:
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
