"""Files that commands write."""

import os
import tempfile

from latchwork._writing import writable_target
from latchwork.cli.errors import CommandError, describe


def check_writable(path: str) -> str:
    """Give the file that writing to the path will write, through a link if it is one.

    Raises CommandError if it cannot be written: before minutes of work rather than after them.
    """
    try:
        target = writable_target(path)
        with tempfile.TemporaryFile(dir=os.path.dirname(target)):
            pass
    except OSError as error:
        raise CommandError(f"cannot write {path}: {describe(error)}") from error
    return target
