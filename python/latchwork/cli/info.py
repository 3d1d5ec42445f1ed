"""``latchwork info``: what the machine, the build and a model are."""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from latchwork.cli.errors import CommandError, describe
from latchwork.cli.input import regular_file, shown
from latchwork.estimators.estimator import Estimator
from latchwork.machine import show_versions


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "info",
        help="describe the machine, the build and a model",
        description="Print what the machine and the build are or, with MODEL, what that file holds: of a model of "
        "Latchwork's its configuration and tensors; of one from elsewhere the LSTMs in it, and what keeps the whole of "
        "it from becoming a model here; of any other file, what it is.",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a file; - is standard input")
    parser.add_argument("--json", action="store_true", help="print what MODEL holds as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one of the two."""
    if arguments.model is None:
        if arguments.json:
            raise CommandError("--json: expected a MODEL with it, got none")
        show_versions()
        return 0
    from latchwork.files import load_as
    from latchwork.interop import formats

    name = shown(arguments.model)
    try:
        with regular_file(arguments.model) as file:
            head = {"file": name, "bytes": os.path.getsize(file)}
            foreign = _is_foreign(file)
            content = formats.found_in(file) if foreign else load_as(file, name)
    except OSError as error:
        raise CommandError(f"cannot read {name}: {describe(error)}") from error
    except ValueError as error:
        raise CommandError(str(error).replace(file, name)) from error
    except ImportError as error:
        raise RuntimeError(str(error)) from error
    show = _print_foreign if foreign else _print_model
    show(head, content, arguments.json)
    return 0


def _is_foreign(file: str) -> bool:
    """Say whether a file is a model from elsewhere. Of those that are none at all, loading says what they are."""
    from latchwork.interop import formats

    try:
        return formats.format_of(file) != "latchwork"
    except ValueError:
        return False


def _print_foreign(head: Mapping[str, Any], found: Any, as_json: bool) -> None:
    from latchwork.interop.formats import described

    if as_json:
        lstms = [dataclasses.asdict(each) for each in found.lstms]
        print(json.dumps({**head, "format": found.format, "lstms": lstms, "metadata": found.metadata}, default=str))
        return
    _print_table({"file": f"{head['file']} ({head['bytes']:,} bytes)", "format": described(found.format)})
    _print_table({name: value for name, value in found.metadata.items() if not isinstance(value, dict)})
    _print_table({"LSTMs": len(found.lstms)})
    for each in found.lstms:
        print(f"  {each}")


def _print_model(head: Mapping[str, Any], model: Any, as_json: bool) -> None:
    content = model._to_file()
    tensors = content.tensors
    if as_json:
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        print(
            json.dumps(
                {**head, "format": "latchwork", "kind": content.kind, "config": content.config, "tensors": shapes}
            )
        )
        return
    _print_table({"file": f"{head['file']} ({head['bytes']:,} bytes)", "kind": content.kind})
    _print_configuration(model)
    dtypes = sorted({str(tensor.dtype) for tensor in tensors.values()})
    _print_table({"parameters": f"{sum(tensor.size for tensor in tensors.values()):,} {' '.join(dtypes)}"})
    _print_table({f"  {name}": tensor.shape for name, tensor in tensors.items()})


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
