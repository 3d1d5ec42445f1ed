"""``latchwork convert``: a model in another format."""

import argparse
import os
from typing import Any

from latchwork.cli.arguments import HelpFormatter, number
from latchwork.cli.errors import CommandError, describe
from latchwork.cli.input import regular_file, shown


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "convert",
        help="write a model in another format",
        description="Read a model of PyTorch, Keras, ONNX, RTNeural, GuitarML, AIDA-X, Neural Amp Modeler or "
        "Latchwork, or tensors in safetensors, whichever the content of SRC is, and write it as the ending of DST "
        "says: .safetensors (Latchwork's own), .onnx, .pt (PyTorch's tensors), .json (RTNeural) or .nam. latchwork "
        "info SRC lists the LSTMs in a file.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", help="the model; - is standard input")
    parser.add_argument("target", metavar="DST", help="the file to write")
    parser.add_argument(
        "--prefix",
        metavar="NAME[,NAME]",
        help="of tensors the layer, or several in their order; between them @last, @mean, @max, or @ and the name of "
        "an activation, for layers without tensors",
    )
    parser.add_argument("--node", metavar="NAME", help="of an ONNX model the LSTM to take out")
    parser.add_argument("--layer", metavar="NAME", help="of a Keras model the layer to take out")
    parser.add_argument(
        "--activation", metavar="NAME", help="of an LSTM in a Keras file of weights alone; left out: Keras's default"
    )
    parser.add_argument(
        "--recurrent-activation",
        metavar="NAME",
        help="the same of its gates: sigmoid or, as by default before Keras 2.3, hard_sigmoid",
    )
    parser.add_argument("--stateful", action="store_true", help="to .onnx: states are inputs and outputs")
    parser.add_argument("--sample-rate", type=number(1), metavar="HZ", help="to .json and .nam: what the model is for")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, write, and say what was written."""
    from latchwork.interop import formats

    name = shown(arguments.source)
    if os.path.splitext(arguments.target)[1].lower() not in formats.ENDINGS:
        raise CommandError(f"DST: expected a name that ends in {', '.join(formats.ENDINGS)}, got {arguments.target}")
    try:
        with regular_file(arguments.source) as file:
            model = formats.read(
                file,
                prefix=_prefix(arguments.prefix),
                node=arguments.node,
                layer=arguments.layer,
                activation=arguments.activation,
                recurrent_activation=arguments.recurrent_activation,
            )
    except OSError as error:
        raise CommandError(f"cannot read {name}: {describe(error)}") from error
    except (ValueError, TypeError) as error:
        raise CommandError(str(error).replace(file, name)) from error
    except ImportError as error:
        raise RuntimeError(str(error)) from error
    try:
        formats.write(model, arguments.target, stateful=arguments.stateful, sample_rate=arguments.sample_rate)
    except OSError as error:
        raise CommandError(f"cannot write {arguments.target}: {describe(error)}") from error
    except (ValueError, TypeError) as error:
        raise CommandError(f"{name}: {error}") from error
    except ImportError as error:
        raise RuntimeError(str(error)) from error
    print(f"model     {model}")
    print(f"written   {arguments.target} ({os.path.getsize(arguments.target):,} bytes)")
    return 0


def _prefix(text: str | None) -> Any:
    """Read the names of layers, and layers without tensors."""
    if text is None or "," not in text and not text.startswith("@"):
        return text
    return [_layer(name.removeprefix("@")) if name.startswith("@") else name for name in text.split(",")]


def _layer(name: str) -> Any:
    """Make a layer that has no tensors."""
    import latchwork

    made = {"last": latchwork.Last, "mean": latchwork.Mean, "max": latchwork.Max}.get(name)
    try:
        return latchwork.Activation(name) if made is None else made()
    except ValueError as error:
        raise CommandError(f"--prefix: expected @last, @mean, @max or an activation, got @{name}") from error
