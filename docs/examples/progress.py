"""A line that says how far a program is, for the programs beside this file."""

import sys


def show_progress(message):
    """Rewrite one line, if there is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{message}", end="", file=sys.stderr, flush=True)
