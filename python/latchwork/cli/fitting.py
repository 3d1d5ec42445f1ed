"""Training a model within a command: what is good of it is written, whatever ended the training."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from latchwork.cli.errors import CommandError, describe


def fit_and_write(model: Any, arguments: argparse.Namespace, *data: Any) -> list[str]:
    """Train a model on the data, and write it to ``arguments.output``.

    If the training fails on its way, the loss being NaN or a checkpoint not to be written, the model of that moment is
    written all the same, and the error goes on.

    Returns
    -------
    list of str
        What the user should know: the warnings of the training.

    Raises
    ------
    CommandError
        If the model cannot be trained on these data, or cannot be written.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model.fit(*data, resume=arguments.resume, certificate=arguments.certificate)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except MemoryError as error:
        raise CommandError(
            "not enough memory for this model: choose a smaller --hidden-size or fewer --layers"
        ) from error
    except (RuntimeError, OSError):
        if hasattr(model, "network_"):
            _write(model, arguments.output)
        raise
    _write(model, arguments.output)
    return [" ".join(str(warning.message).split()) for warning in warned]


def _write(model: Any, output: str) -> None:
    try:
        model.save(output)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {describe(error)}") from error
