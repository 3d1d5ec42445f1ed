"""A picture of how a training went."""

from __future__ import annotations

import io
import os

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


def write_picture(path: str | None, history: list[dict[str, float]]) -> list[str]:
    """Draw the losses, the learning rate and the gradient's norm by epoch, and say so; None draws nothing."""
    if path is None:
        return []
    if not history:
        return ["note      nothing to draw: the training ended before its first step"]
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("agg")  # no display is needed
    from latchwork.plot.training_curves import training

    content = io.BytesIO()
    figure = training(history)[0].figure
    figure.savefig(content, format=os.path.splitext(path)[1][1:].lower(), dpi=120)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise CommandError(f"cannot write {path}: {describe(error)}") from error
    return [f"written   {path}"]
