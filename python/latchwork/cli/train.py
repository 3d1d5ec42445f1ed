"""``latchwork train``: a language model from a text, a regressor or a classifier from a table."""

import argparse

from latchwork.cli import train_table, train_text
from latchwork.cli.arguments import MAX_SEED, HelpFormatter, integer, number
from latchwork.cli.errors import CommandError
from latchwork.cli.history_picture import check_picture
from latchwork.cli.tables import is_table
from latchwork.machine import set_num_threads


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "train",
        help="train a model on a text or a table",
        description="Train a character-level language model on a text or, with --target, a regressor or a classifier "
        "on a table; write it to a file, and measure it on the last tenth, which is held out, beside simple baselines. "
        "Ctrl-C ends the training early; the model is written and measured all the same, and the exit status is then "
        "130.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="a UTF-8 text file or a table; - is standard input; without it, the text of Python's own documentation "
        "(pydoc_data.topics)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="latchwork-model.safetensors", help="where to write")
    parser.add_argument(
        "--seconds",
        type=number(0),
        help=f"how long to train at most; by default {train_text.SECONDS:g} on a text, as long as the epochs take on a "
        "table",
    )
    parser.add_argument(
        "--epochs",
        type=integer(1, 10**9),
        help=f"how many times to read the data at most; by default {train_text.EPOCHS} times for a text, and the "
        "estimator's own for a table",
    )
    parser.add_argument(
        "--hidden-size",
        type=integer(1, 2**20),
        help=f"units of each LSTM layer; by default {train_text.HIDDEN_SIZE} for a text, the estimator's own for a "
        "table",
    )
    parser.add_argument("--layers", type=integer(1, 1000), help="number of LSTM layers; by default 1")
    parser.add_argument(
        "--threads", type=integer(1, 1024), help="number of threads; without it, as many as there are CPUs to use"
    )
    parser.add_argument(
        "--seed", type=integer(0, MAX_SEED), default=0, help="seed of the weights, the training and the sample"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the training's history (.png, .svg or .pdf)")
    parser.add_argument("--checkpoint-dir", metavar="FOLDER", help="keep checkpoints of the training there")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in --checkpoint-dir, if there is one"
    )
    parser.add_argument("--certificate", metavar="FILE", help="record the training there, to be verified")
    train_table.add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train on a table, if DATA is one, else on a text."""
    if arguments.resume and arguments.checkpoint_dir is None:
        raise CommandError("--resume: expected --checkpoint-dir, which says where the checkpoints are")
    if arguments.plot is not None:
        check_picture(arguments.plot)
    if arguments.threads is not None:
        set_num_threads(arguments.threads)
    if arguments.target is not None:
        if arguments.data is None:
            raise CommandError("--target: expected DATA, a table, got none")
        return train_table.run(arguments)
    if arguments.data is not None and is_table(arguments.data):
        raise CommandError(f"{arguments.data}: expected --target, which names the column of the table to predict")
    used = train_table.table_options(arguments)
    if used:
        raise CommandError(f"{used[0]}: expected --target too, because only tables have this option")
    return train_text.run(arguments)
