"""``latchwork info``: what the machine, the build and a model are."""

import argparse
from collections.abc import Mapping
from typing import Any

from latchwork.cli.models import load_model
from latchwork.estimators.estimator import Estimator
from latchwork.machine import show_versions


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "info",
        help="describe the machine, the build and a model",
        description="Print what the machine and the build are or, with MODEL, what that file holds; of one that is no "
        "model of Latchwork's, what it is instead.",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a file written by Latchwork; - is standard input")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one of the two."""
    if arguments.model is None:
        show_versions()
    else:
        model, file, size = load_model(arguments.model)
        content = model._to_file()
        tensors = content.tensors
        _print_table({"file": f"{file} ({size:,} bytes)", "kind": content.kind})
        _print_configuration(model)
        dtypes = sorted({str(tensor.dtype) for tensor in tensors.values()})
        _print_table({"parameters": f"{sum(tensor.size for tensor in tensors.values()):,} {' '.join(dtypes)}"})
        _print_table({f"  {name}": tensor.shape for name, tensor in tensors.items()})
    return 0


def _print_configuration(model: Any) -> None:
    if not isinstance(model, Estimator):
        _print_table({"configuration": model})
        return
    print("configuration")
    _print_table({f"  {name}": value for name, value in model.get_params().items()})


def _print_table(lines: Mapping[str, Any]) -> None:
    width = max([20, *map(len, lines)])
    for name, value in lines.items():
        print(f"{name:<{width}} {value}")
