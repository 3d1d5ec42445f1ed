"""``latchwork generate``: text from a language model."""

import argparse
import itertools
import sys

from latchwork._random import Random
from latchwork.cli.arguments import MAX_SEED, HelpFormatter, integer, number
from latchwork.cli.errors import CommandError
from latchwork.cli.models import load_model
from latchwork.estimators.language_model import LSTMLanguageModel


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "generate",
        help="text from a language model",
        description="Print a prompt and the text with which a language model continues it.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by latchwork train; - is standard input")
    parser.add_argument("--prompt", default="", help="what the text begins with")
    parser.add_argument("--length", type=integer(0, 10**9), default=500, help="how many characters to generate")
    parser.add_argument(
        "--temperature",
        type=number(0),
        default=0.7,
        help="below 1 likely characters become likelier; 0: always the likeliest",
    )
    parser.add_argument(
        "--seed", type=integer(0, MAX_SEED), help="equal seeds give equal texts; without one, each text is another"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, generate, print."""
    model, name, _ = load_model(arguments.model)
    if not isinstance(model, LSTMLanguageModel):
        raise CommandError(f"{name}: expected a language model, got {type(model).__name__}")
    characters = model._characters(arguments.prompt, arguments.temperature, Random(arguments.seed))
    print(arguments.prompt, end="")
    for character in itertools.islice(characters, arguments.length):
        print(character, end="", flush=sys.stdout.isatty())  # to watch it being written
    print()
    return 0
