"""Ctrl-C while a model is trained."""

import signal
from types import FrameType, TracebackType


class CtrlC:
    """Remembers the first Ctrl-C, so that training ends at the end of a batch; a second one ends it at once.

    Where a program has a handler of its own, or outside the main thread, which is the one that hears Ctrl-C, nothing
    changes: what is raised there is for the caller to catch.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._handles = False

    def __enter__(self) -> "CtrlC":
        """Listen."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, self._press)
                self._handles = True
            except ValueError:  # not the main thread
                pass
        return self

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            signal.default_int_handler(number, frame)
        self.pressed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        if self._handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)
