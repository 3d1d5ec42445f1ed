"""Files that commands read: ``-`` is standard input."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from latchwork.cli.errors import CommandError, describe


def shown(path: str) -> str:
    """Give a file's name in messages."""
    return "standard input" if path == "-" else path


def read_text(path: str) -> str:
    """Read a UTF-8 text."""
    try:
        source = _standard_input().fileno() if path == "-" else path
        with open(source, encoding="utf-8-sig", closefd=path != "-") as file:
            return file.read()
    except OSError as error:
        raise CommandError(f"cannot read {shown(path)}: {describe(error)}") from error
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{shown(path)}: expected UTF-8 text, got the byte 0x{error.object[error.start]:02x} at {error.start}"
        ) from error


@contextlib.contextmanager
def regular_file(path: str) -> Iterator[str]:
    """Give the path of a file with the same content that can be read from any place in it: a pipe cannot. OSError."""
    if os.path.isfile(path) and path != "-":
        yield path
        return
    with tempfile.NamedTemporaryFile() as copy:
        if path == "-":
            shutil.copyfileobj(_standard_input(), copy)
        else:
            with open(path, "rb") as source:
                shutil.copyfileobj(source, copy)
        copy.flush()
        yield copy.name


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:
        raise CommandError("cannot read standard input: it is closed")
    return sys.stdin.buffer
