"""``latchwork gates``: what every gate and cell did with a text or a table."""

import argparse
import os
from typing import Any, NamedTuple

from latchwork._sequence import SequenceModule
from latchwork.cli.arguments import HelpFormatter
from latchwork.cli.csv_input import read_table
from latchwork.cli.errors import CommandError, describe
from latchwork.cli.input import read_text, shown
from latchwork.cli.models import load_model
from latchwork.cli.output import check_apart, check_writable
from latchwork.estimators.language_model import LSTMLanguageModel

STEPS_ON_A_PAGE = 2000
STEPS_IN_A_PICTURE = 100


class Reading(NamedTuple):
    """What the network reads: the data, or the part of them that is shown."""

    x: Any  # a text, or a sequence as the network takes it
    labels: list[str] | None  # None: those that the explorer and the pictures have of their own
    steps: str  # what the steps are: "characters" or "rows"


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "gates",
        help="draw the gates, or make a page to explore them",
        description="Run a model over a text (a language model) or the rows of a CSV table (an LSTM or a network), and "
        f"show what every gate and cell did. FILE.html is one page to explore, of the first {STEPS_ON_A_PAGE:,} "
        "characters or rows; those after them are where it looks for other places in which the same units are on. "
        f"FILE.png is a picture of the first {STEPS_IN_A_PICTURE} in the first layer, and needs latchwork[plot].",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by Latchwork; - is standard input")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a UTF-8 text file for a language model, else a CSV file: a column for each input, in their order, with "
        "or without a line of names; one more column in front holds labels, say times. - is standard input",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="gates.html", help="where to write: a name that ends in .html or .png"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, run, write."""
    kind = os.path.splitext(arguments.output)[1].lower()
    if kind not in (".html", ".png"):
        raise CommandError(f"--output: expected a name that ends in .html or .png, got {arguments.output!r}")
    if arguments.model == arguments.data == "-":
        raise CommandError("MODEL and DATA: expected at most one to be standard input, got - twice")
    check_apart(arguments.output, MODEL=arguments.model, DATA=arguments.data)
    if kind == ".png":
        _check_pictures()
    model, name, _ = load_model(arguments.model)
    check_writable(arguments.output)
    try:
        data = _read(model, name, arguments.data)
        write = _write_page if kind == ".html" else _write_picture
        told = write(model, data, arguments.output)
    except ValueError as error:
        raise CommandError(f"{shown(arguments.data)}: {error}") from error
    except OSError as error:
        raise CommandError(f"cannot write {arguments.output}: {describe(error)}") from error
    print(f"shown     {told}")
    print(f"written   {arguments.output} ({os.path.getsize(arguments.output) / 1e6:.1f} MB)")
    return 0


def _check_pictures() -> None:
    from latchwork.plot.figures import require_matplotlib

    try:
        require_matplotlib()
    except ImportError as error:
        raise CommandError(f"{error}; an output that ends in .html needs nothing") from error


def _read(model: Any, name: str, path: str) -> Reading:
    """Read the data as the model takes them."""
    if isinstance(model, LSTMLanguageModel):
        text = read_text(path)
        if not text:
            raise CommandError(f"{shown(path)}: expected at least one character, got none")
        return Reading(text, None, "characters")
    if not isinstance(model, SequenceModule) or not model._trace_names:
        raise CommandError(f"{name}: expected a model with an LSTM that reads sequences, got {type(model).__name__}")
    if model._vocabulary is not None:
        table = read_table(path, 1, int)
        return Reading([number for (number,) in table.rows], table.labels, "rows")
    table = read_table(path, model._core.input_size, float, gaps=model._core.takes_missing)
    return Reading(table.rows, table.labels, "rows")


def _write_page(model: Any, data: Reading, output: str) -> str:
    """Write the explorer's page, and say what it shows."""
    from latchwork.explain.page import MAX_UNIT_STEPS, explorer
    from latchwork.explain.page_corpus import most_steps
    from latchwork.explain.page_layers import layers_of

    is_text = isinstance(model, LSTMLanguageModel)
    network = model.network_ if is_text else model
    layers = layers_of(network)
    members = getattr(network, "members", 1)
    start = 1 if is_text else 0  # the step that reads the start of a text
    most = min(STEPS_ON_A_PAGE, max(1, MAX_UNIT_STEPS // (members * sum(layer.units for layer in layers)) - start))
    shown_x, rest = data.x[:most], data.x[most : most + most_steps(layers) - start]
    labels = None if data.labels is None else data.labels[:most]
    arguments: dict[str, Any] = {"tokens": labels}
    if rest and members == 1:
        arguments["corpus"] = rest
        arguments["corpus_tokens"] = None if data.labels is None else data.labels[most : most + len(rest)]
    explorer(model, shown_x, path=output, **arguments)
    parts = [f"{len(shown_x):,} of {len(data.x):,} {data.steps}"]
    if "corpus" in arguments:
        parts.append(f"{len(rest):,} more to look for other places in")
    return ", ".join(parts)


def _write_picture(model: Any, data: Reading, output: str) -> str:
    """Write a picture of the gates of the first layer, and say what it shows."""
    import io
    import warnings

    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("agg")  # no display is needed
    from latchwork._writing import write_atomically
    from latchwork.plot.gate_maps import gates

    x, labels, network = data.x[:STEPS_IN_A_PICTURE], data.labels, model
    labels = None if labels is None else labels[:STEPS_IN_A_PICTURE]
    if isinstance(model, LSTMLanguageModel):
        tokenizer = model._fitted_tokenizer
        network, labels = model.network_, ["(start)", *tokenizer.pieces(x)]
        x = tokenizer.encode_after_start(x)
    member = ", the first member" if getattr(network, "members", 1) > 1 else ""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        axes = gates(network.trace(x), labels=labels)
        axes[0].figure.savefig(content, format="png", dpi=120)
    write_atomically(output, content.getvalue())
    count = min(len(data.x), STEPS_IN_A_PICTURE)
    return f"{count:,} of {len(data.x):,} {data.steps}, the first layer{member}"
