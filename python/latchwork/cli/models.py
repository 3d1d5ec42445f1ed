"""Models that commands are given as files."""

from typing import Any

from latchwork.cli.errors import CommandError, describe
from latchwork.files import load


def load_model(path: str) -> Any:
    """Read a model of any kind."""
    try:
        return load(path)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {describe(error)}") from error
    except ValueError as error:
        raise CommandError(str(error)) from error
