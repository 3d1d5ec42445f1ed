"""Files that commands write."""

import contextlib
import os
import tempfile
import time

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


def check_apart(output: str, **inputs: str | None) -> None:
    """Raise CommandError if the output would replace one of the inputs, which are paths by their names in messages."""
    for name, path in inputs.items():
        same = False
        if path is not None and path != "-":
            with contextlib.suppress(OSError):  # a file that is not there is no other file
                same = os.path.samefile(path, output)
        if same:
            raise CommandError(f"--output: expected another file than {name}, got {output!r}")


def what_is_replaced(output: str, target: str) -> str:
    """Say what is at the place of the output, which may be a link."""
    link = f", which leads to {target}" if os.path.islink(output) else ""
    if not os.path.exists(target):
        return f"{link} (a new file)"
    status = os.stat(target)
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
    verb = " and replaces" if link else ", which replaces"
    return f"{link}{verb} the file there ({status.st_size:,} bytes, of {written})"
