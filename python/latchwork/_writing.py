"""Files that are written whole or not at all, and that nobody may read who could not read the file that was there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def path_text(path: Any) -> str:
    """Read a path: str, bytes or os.PathLike. TypeError for others, ValueError if no file can have it."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path: expected str, bytes or os.PathLike, got {type(path).__name__}") from None
    if "\0" in text:
        raise ValueError(f"path: expected no NUL characters in it, got {text!r}")
    return text


def writable_target(path: str) -> str:
    """Give the file that writing to the path would write: a link stays, and the file that it leads to is replaced.

    Raises
    ------
    OSError
        If something is there that is no regular file (a folder, a FIFO, a device, a socket), which would be replaced
        rather than written to.
    """
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    target = os.path.realpath(path)
    status = _status(target)
    if status is None or stat.S_ISREG(status.st_mode):
        return target
    kind = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "something else")
    code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EEXIST
    raise OSError(code, f"expected a regular file or a new one, got {kind}", path)


def write_atomically(path: str, content: bytes) -> None:
    """Write a file. One that was there stays until the new one is on the disk; its mode, owner and group are kept.

    Raises
    ------
    OSError
        If the file cannot be written, or something is there that is no regular file.
    """
    target = writable_target(path)
    folder = os.path.dirname(target)
    before = _status(target)
    temporary = os.path.join(folder, f".latchwork-{os.urandom(8).hex()}.tmp")
    # A new file gets the mode that the umask gives. One that replaces another is nobody else's until it has the owner
    # and the mode of that one, because what it will hold may be private.
    mode = 0o666 if before is None else 0o600
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            if before is not None and hasattr(os, "fchown"):  # Windows has neither owners nor modes of this kind
                _take_over(file.fileno(), before)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the new name must reach the disk too; other systems cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """Give a file the owner and group of another, as far as that is allowed, and its mode."""
    mode = before.st_mode & 0o777
    for owner in (before.st_uid, -1):
        try:
            os.fchown(descriptor, owner, before.st_gid)
            break
        except OSError:
            continue
    now = os.fstat(descriptor)
    if now.st_gid != before.st_gid:
        # The group is another one: its people may do no more than everybody may.
        mode &= 0o707 | (mode & 0o007) << 3
    with contextlib.suppress(OSError):  # some file systems know no modes, and then there is none to keep
        os.fchmod(descriptor, mode)
