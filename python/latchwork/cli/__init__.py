"""The command ``latchwork``: one module for each of its commands."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from latchwork.cli import bench, generate, info, train
from latchwork.cli.errors import INTERRUPTED, CommandError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 130 after Ctrl-C; 1 is bench's."""
    # A generated or given character that the terminal's encoding lacks must not end the command.
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
