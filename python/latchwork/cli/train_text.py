"""``latchwork train`` on a text: a language model."""

import argparse
import os
import platform

from latchwork.cli.errors import INTERRUPTED, CommandError
from latchwork.cli.fitting import fit_and_write
from latchwork.cli.history_picture import write_picture
from latchwork.cli.input import read_text, shown
from latchwork.cli.output import check_apart, check_writable, what_is_replaced
from latchwork.estimators.baselines import CharacterModel
from latchwork.estimators.language_model import LSTMLanguageModel

SHORTEST_TEXT = 1000
BASELINE_ORDERS = (0, 4)
SAMPLE_LENGTH = 400
SAMPLE_TEMPERATURE = 0.7

# What is not said is this.
SECONDS = 60.0
EPOCHS = 15
HIDDEN_SIZE = 256
LAYERS = 1


def run(arguments: argparse.Namespace) -> int:
    """Train, measure, write, show."""
    check_apart(arguments.output, DATA=arguments.data)
    name, text = default_text() if arguments.data is None else _given_text(arguments.data)
    if len(text) < SHORTEST_TEXT:
        raise CommandError(f"{name}: expected at least {SHORTEST_TEXT:,} characters, got {len(text):,}")
    output = arguments.output
    target = check_writable(output)
    training, held_out = text[: training_length(text)], text[training_length(text) :]
    print(f"output    {output}{what_is_replaced(output, target)}")
    print(
        f"text      {name}: {len(training):,} characters to train on, the last {len(held_out):,} held out", flush=True
    )

    model = LSTMLanguageModel(
        HIDDEN_SIZE if arguments.hidden_size is None else arguments.hidden_size,
        num_layers=LAYERS if arguments.layers is None else arguments.layers,
        max_seconds=SECONDS if arguments.seconds is None else arguments.seconds,
        max_epochs=EPOCHS if arguments.epochs is None else arguments.epochs,
        checkpoint_dir=arguments.checkpoint_dir,
        random_state=arguments.seed,
        verbose=True,
    )
    print(
        f"model     embedding {model.embedding_size}, {model.num_layers} x LSTM {model.hidden_size}, "
        f"{len(set(training))} different characters",
        flush=True,
    )
    for note in fit_and_write(model, arguments, training):  # before anything else is printed, because that could fail
        print(f"note      {note}")
    _print_training(model)
    print(f"written   {output} ({os.path.getsize(output) / 1e6:.1f} MB)", flush=True)
    for line in write_picture(arguments.plot, model.history_):
        print(line)
    _print_held_out(model, training, held_out)
    print(f"\na sample at temperature {SAMPLE_TEMPERATURE}:\n")
    print(model.generate(length=SAMPLE_LENGTH, temperature=SAMPLE_TEMPERATURE, random_state=arguments.seed))
    return INTERRUPTED if model.interrupted_ else 0


def training_length(text: str) -> int:
    """Give how many characters of a text are trained on: the last tenth is held out."""
    return len(text) - len(text) // 10


def default_text() -> tuple[str, str]:
    """Give the text that is read if none is given, and its name."""
    from pydoc_data.topics import topics

    return f"Python {platform.python_version()}'s pydoc_data.topics", "".join(topics[topic] for topic in sorted(topics))


def _given_text(path: str) -> tuple[str, str]:
    return shown(path), read_text(path)


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
