"""``latchwork generate``: text from a language model."""

import argparse
import sys

from latchwork.cli.arguments import MAX_SEED, HelpFormatter, integer, number
from latchwork.cli.errors import CommandError
from latchwork.cli.models import load_model
from latchwork.estimators.language_model import LSTMLanguageModel


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "generate",
        help="write text with a language model",
        description="Print a prompt and the text with which a language model continues it, on a terminal while it is "
        "written.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by latchwork train; - is standard input")
    parser.add_argument("--prompt", default="", help="what the text begins with")
    parser.add_argument(
        "--length",
        type=integer(0, 10**9),
        default=500,
        help="how many characters, or bytes, words or tokens if the model reads such, to generate",
    )
    parser.add_argument(
        "--temperature",
        type=number(0),
        default=0.7,
        help="below 1 likely characters become likelier; 0: always the likeliest",
    )
    parser.add_argument("--top-k", type=integer(1, 10**9), metavar="K", help="draw from the K likeliest only")
    parser.add_argument(
        "--top-p", type=number(0), metavar="P", help="draw from the likeliest only whose probabilities add up to P"
    )
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before this text; may be given several times"
    )
    parser.add_argument(
        "--samples", type=integer(1, 10**6), metavar="N", help="write N texts, with the seeds SEED, SEED + 1 and so on"
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
    samples = arguments.samples or 1
    try:
        written = model.generate_stream(
            arguments.prompt,
            arguments.length,
            arguments.temperature,
            arguments.seed,
            top_k=arguments.top_k,
            top_p=arguments.top_p,
            stop=arguments.stop,
            n_samples=samples,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    later = [""] * (samples - 1)  # the first text is printed while it is written, the others after it
    _print_beginning(arguments, 1)
    for pieces in written:
        print(pieces[0], end="", flush=sys.stdout.isatty())
        later = [text + piece for text, piece in zip(later, pieces[1:], strict=True)]
    print()
    for number_of_text, text in enumerate(later, 2):
        print()
        _print_beginning(arguments, number_of_text)
        print(text)
    return 0


def _print_beginning(arguments: argparse.Namespace, number_of_text: int) -> None:
    if arguments.samples is not None:
        print(f"sample {number_of_text}:\n")
    print(arguments.prompt, end="")
