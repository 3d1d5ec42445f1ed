"""The command ``latchwork``: one module for each of its commands."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from latchwork.cli import bench, generate, info, train
from latchwork.cli.errors import INTERRUPTED, CommandError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 is success, 2 bad input, 130 Ctrl-C; 1 means that the output's reader has gone, or that ``bench`` found a fault.
    """
    # A character that the terminal's encoding lacks, generated or given, must not end the command.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except CommandError as error:
        print(f"latchwork: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, say `head`, has had enough. Nothing may be written when the interpreter flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latchwork", description="Train, run and explain LSTMs on this machine's CPU."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (train, generate, info, bench):
        module.add_command(commands)
    return parser
