"""``latchwork train``: a character-level language model from a text."""

import argparse
import os
import platform
import time

from latchwork.cli.arguments import MAX_SEED, HelpFormatter, integer, number
from latchwork.cli.errors import INTERRUPTED, CommandError, describe
from latchwork.cli.input import read_text, shown
from latchwork.cli.output import check_apart, check_writable
from latchwork.estimators.baselines import CharacterModel
from latchwork.estimators.language_model import LSTMLanguageModel
from latchwork.machine import set_num_threads

SHORTEST_TEXT = 1000
BASELINE_ORDERS = (0, 4)
SAMPLE_LENGTH = 400
SAMPLE_TEMPERATURE = 0.7


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "train",
        help="train a language model on a text",
        description="Train a character-level language model, write it to a file, measure it on the last tenth of the "
        "text beside two simple baselines, and show a sample. Ctrl-C ends the training early; the model is written and "
        "measured all the same, and the exit status is then 130.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="a UTF-8 text file; - is standard input; without it, the text of Python's own documentation "
        "(pydoc_data.topics)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="latchwork-model.safetensors", help="where to write")
    parser.add_argument("--seconds", type=number(0), default=60.0, help="how long to train at most")
    parser.add_argument("--epochs", type=integer(1, 10**9), default=15, help="how many times to read the text at most")
    parser.add_argument("--hidden-size", type=integer(1, 2**20), default=256, help="units of each LSTM layer")
    parser.add_argument("--layers", type=integer(1, 1000), default=1, help="number of LSTM layers")
    parser.add_argument(
        "--threads", type=integer(1, 1024), help="number of threads; without it, as many as there are CPUs to use"
    )
    parser.add_argument(
        "--seed", type=integer(0, MAX_SEED), default=0, help="seed of the weights, the training and the sample"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, measure, write, show."""
    if arguments.threads is not None:
        set_num_threads(arguments.threads)
    check_apart(arguments.output, DATA=arguments.data)
    name, text = _default_text() if arguments.data is None else _given_text(arguments.data)
    if len(text) < SHORTEST_TEXT:
        raise CommandError(f"{name}: expected at least {SHORTEST_TEXT:,} characters, got {len(text):,}")
    output = arguments.output
    target = check_writable(output)
    held_out_length = len(text) // 10
    training, held_out = text[:-held_out_length], text[-held_out_length:]
    print(f"output    {output}{_what_is_replaced(output, target)}")
    print(
        f"text      {name}: {len(training):,} characters to train on, the last {len(held_out):,} held out", flush=True
    )

    model = LSTMLanguageModel(
        arguments.hidden_size,
        num_layers=arguments.layers,
        max_seconds=arguments.seconds,
        max_epochs=arguments.epochs,
        random_state=arguments.seed,
        verbose=True,
    )
    print(
        f"model     embedding {model.embedding_size}, {model.num_layers} x LSTM {model.hidden_size}, "
        f"{len(set(training))} different characters",
        flush=True,
    )
    try:
        model.fit(training)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except MemoryError as error:
        raise CommandError(
            "not enough memory for this model: choose a smaller --hidden-size or fewer --layers"
        ) from error
    try:
        model.save(output)  # before anything is printed, because that could fail
    except OSError as error:
        raise CommandError(f"cannot write {output}: {describe(error)}") from error
    _print_training(model)
    print(f"written   {output} ({os.path.getsize(output) / 1e6:.1f} MB)", flush=True)
    _print_held_out(model, training, held_out)
    print(f"\na sample at temperature {SAMPLE_TEMPERATURE}:\n")
    print(model.generate(length=SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, random_state=arguments.seed))
    return INTERRUPTED if model.interrupted_ else 0


def _default_text() -> tuple[str, str]:
    from pydoc_data.topics import topics

    return f"Python {platform.python_version()}'s pydoc_data.topics", "".join(topics[topic] for topic in sorted(topics))


def _given_text(path: str) -> tuple[str, str]:
    if path.lower().endswith(".csv"):
        raise CommandError(f"{path}: training on CSV is not there yet; DATA is a text file")
    return shown(path), read_text(path)


def _what_is_replaced(output: str, target: str) -> str:
    """Say what is at the place of the output, which may be a link."""
    link = f", which leads to {target}" if os.path.islink(output) else ""
    if not os.path.exists(target):
        return f"{link} (a new file)"
    status = os.stat(target)
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
    verb = " and replaces" if link else ", which replaces"
    return f"{link}{verb} the file there ({status.st_size:,} bytes, of {written})"


def _print_training(model: LSTMLanguageModel) -> None:
    if not model.history_:
        print("training  ended before its first step")
        return
    last = model.history_[-1]
    ended = "ended by Ctrl-C after" if model.interrupted_ else "took"
    print(
        f"training  {ended} {last['seconds']:.1f} s: {last['characters']:,} characters in {last['epoch']} epochs, "
        f"{last['characters'] / last['seconds']:,.0f} characters a second"
    )


def _print_held_out(model: LSTMLanguageModel, training: str, held_out: str) -> None:
    measured = [
        (f"order-{order} character model", CharacterModel(order).fit(training).bits_per_character(held_out))
        for order in BASELINE_ORDERS
    ]
    measured.append(("this model", model.bits_per_character(held_out)))
    print("\nheld-out bits per character, fewer are better:\n")
    for name, bits in measured:
        print(f"  {name:<24} {bits:.3f}")
