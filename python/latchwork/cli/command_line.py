"""The whole command line: the parser, and what becomes of errors."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import latchwork
from latchwork.cli import bench, convert, gates, generate, info, predict, train, verify
from latchwork.cli.errors import INTERRUPTED, CommandError, describe


class Parser(argparse.ArgumentParser):
    """Options are never abbreviated, so that a new option cannot change what a command line means."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(allow_abbrev=False, **keywords)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help and versions. If they cannot be written, that is an error, which argparse would pass over."""
        if file is sys.stdout:
            print(message, end="")
        else:
            super()._print_message(message, file)


class _CMakeFolder(argparse.Action):
    """Print where the files lie with which C++ programs find the library of this package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        folder = Path(latchwork.__file__).parent / "cmake"
        if not folder.is_dir():
            raise CommandError("--cmake-dir: expected Latchwork as pip installs it, got one without files for CMake")
        print(folder)
        parser.exit()


def run(arguments: Sequence[str] | None) -> int:
    """Do what `latchwork.cli.main` does."""
    if sys.stdout is None:
        return _end(1, "standard output is closed")
    # A character that the terminal's encoding lacks, generated or given, must not end the command.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    status, message = _outcome(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if message is None and status != INTERRUPTED:
            status, message = _failed(error)
    return _end(status, message)


def _outcome(arguments: Sequence[str] | None) -> tuple[int, str | None]:
    """Run the command; give the exit status and, if it failed, the line that says why."""
    try:
        parsed = _parser().parse_args(arguments)
        return parsed.run(parsed), None
    except SystemExit as end:  # argparse has printed what there is to say
        return int(end.code or 0), None
    except CommandError as error:
        return 2, str(error)
    except KeyboardInterrupt:
        return INTERRUPTED, None
    except MemoryError as error:
        return 1, f"not enough memory: {error}" if str(error) else "not enough memory"
    except OSError as error:
        return _failed(error)
    except RuntimeError as error:
        return 1, str(error)
    except Exception as error:
        return 1, f"{type(error).__name__}: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="latchwork", description="Train, run and explain LSTMs on this machine's CPU.")
    parser.add_argument("--version", action="version", version=f"latchwork {latchwork.__version__}")
    parser.add_argument("--cmake-dir", action=_CMakeFolder, nargs=0, help="print the folder for CMake's latchwork_DIR")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (train, predict, verify, generate, gates, convert, info, bench):
        module.add_command(commands)
    return parser


def _failed(error: OSError) -> tuple[int, str | None]:
    """Say what could not be used: an error that names no file is the standard output's.

    If its reader, say `head`, has had enough, there is nothing to say.
    """
    message = f"{error.filename or 'standard output'}: {describe(error)}"
    return 1, None if isinstance(error, BrokenPipeError) else message


def _end(status: int, message: str | None) -> int:
    """Print the message, if there is one, as one line on standard error."""
    if message is not None and sys.stderr is not None:
        try:
            print("latchwork: " + message.replace("\n", " "), file=sys.stderr)
            sys.stderr.flush()
        except OSError:
            _discard(sys.stderr)
    return status


def _discard(stream: IO[str]) -> None:
    """Throw away what a stream could not write, because the interpreter would try again at its end and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
