"""Models that commands are given as files."""

import os
from typing import Any, NamedTuple

from latchwork.cli.errors import CommandError, describe
from latchwork.cli.input import regular_file, shown
from latchwork.files import load_as


class LoadedModel(NamedTuple):
    """A model, and the file that it was read from."""

    model: Any
    name: str  # the file's, for messages
    size: int  # in bytes


def load_model(path: str) -> LoadedModel:
    """Read a model of any kind; ``-`` is standard input."""
    name = shown(path)
    try:
        with regular_file(path) as file:
            return LoadedModel(load_as(file, name), name, os.path.getsize(file))
    except OSError as error:
        raise CommandError(f"cannot read {name}: {describe(error)}") from error
    except ValueError as error:
        raise CommandError(str(error)) from error
