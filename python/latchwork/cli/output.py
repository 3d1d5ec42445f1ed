"""Files that commands write."""

import tempfile
from pathlib import Path

from latchwork.cli.errors import CommandError, describe


def check_writable(path: Path) -> None:
    """Raise CommandError if the file cannot be written: before minutes of work rather than after them."""
    if path.is_dir():
        raise CommandError(f"cannot write {path}: it is a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CommandError(f"cannot write {path}: {describe(error)}") from error
