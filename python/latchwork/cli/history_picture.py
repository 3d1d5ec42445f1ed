"""A picture of how a training went."""

from __future__ import annotations

import io
import os
from typing import Any

from latchwork._writing import write_atomically
from latchwork.cli.errors import CommandError, describe
from latchwork.cli.output import check_writable

KINDS = (".png", ".svg", ".pdf")


def check_picture(path: str) -> None:
    """Raise CommandError if `write_picture` could not write there."""
    if not path.lower().endswith(KINDS):
        raise CommandError(f"--plot: expected a name that ends in {', '.join(KINDS)}, got {path!r}")
    from latchwork.plot.figures import require_matplotlib

    try:
        require_matplotlib()
    except ImportError as error:
        raise CommandError(f"--plot: {error}") from error
    check_writable(path)


def write_picture(path: str, history: Any) -> None:
    """Draw the losses, the learning rate and the gradient's norm by epoch, without a display."""
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("agg")
    from latchwork.plot.training_curves import training

    axes = training(history)
    content = io.BytesIO()
    axes[0].figure.savefig(content, format=os.path.splitext(path)[1][1:].lower(), dpi=120)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise CommandError(f"cannot write {path}: {describe(error)}") from error
