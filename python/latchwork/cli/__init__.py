"""The command ``latchwork``: one module for each of its commands.

This file imports next to nothing, so that Ctrl-C is silent while the rest, NumPy above all, is being imported.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from latchwork.cli.errors import INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 is success, 2 bad input, 130 Ctrl-C; 1 is everything else: a full disk or memory, an output that nobody reads any
    more, or a fault that ``bench`` found.
    """
    with _silent_ctrl_c():
        from latchwork.cli.command_line import run
    return run(arguments)


@contextlib.contextmanager
def _silent_ctrl_c() -> Iterator[None]:
    """End the process at once on Ctrl-C. A KeyboardInterrupt would be reported by whatever import it comes across."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, _leave)
    except ValueError:  # not the main thread, which is the one that hears Ctrl-C
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: Any) -> None:
    os._exit(INTERRUPTED)
