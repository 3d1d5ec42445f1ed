"""What the commands say when they cannot do what was asked."""

INTERRUPTED = 130  # the exit status that shells report for a program that Ctrl-C ended


class CommandError(Exception):
    """Bad input: the message is shown in one line, without a traceback."""


def describe(error: OSError) -> str:
    """Say why a file could not be opened, read or written."""
    return error.strerror or str(error)
