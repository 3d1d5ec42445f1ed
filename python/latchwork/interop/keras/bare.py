"""Files of weights alone: which LSTMs they hold, by the shapes and names of their numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from latchwork.interop.keras.configs import Layer
from latchwork.interop.keras.weights import share_out

if TYPE_CHECKING:
    from latchwork.interop.keras.hdf5 import File

KIND = "weights"
_WRAPPINGS = re.compile(r"(cell|vars|lstm_cell(_\d+)?|forward_layer|backward_layer)")
_STACKS = ("cells", "stacked_rnn_cells")  # each cell of which is taken out by itself
_DIRECTIONS = (re.compile(r"forward_.*"), re.compile(r"backward_.*"))


def model_of_weights(file: File, source: str, options: dict[str, Any]) -> Layer:
    """Make layers of a file's numbers: one for each LSTM, with the activations given, and one for all the others.

    A Bidirectional is recognised by the names of its directions. How a layer runs is not in the file: LSTMs are taken
    to run forwards, and to give all steps.
    """
    cells = _cells(file)
    taken = {path for paths in cells.values() for path in paths}
    layers: dict[str, dict[str, list[str]]] = {}
    for owner, paths in cells.items():
        place, direction = _place_and_direction(owner)
        layers.setdefault(place, {})[direction] = paths
    names = {place: _name(place, file) for place in layers}
    unique = {name for name, times in Counter(names.values()).items() if times == 1}
    children = [
        _layer(names[place] if names[place] in unique else place, directions, file, options)
        for place, directions in layers.items()
    ]
    others = sorted({path.rpartition("/")[0] for path in file.datasets if path not in taken})
    children += [Layer("weights", owner, {}) for owner in others]
    return Layer(KIND, source, {}, children)


def _cells(file: File) -> dict[str, list[str]]:
    """Find arrays that are a kernel, a recurrent kernel and perhaps biases of an LSTM, by the group that has them."""
    groups: dict[str, dict[str, str]] = {}
    for path in file.datasets:
        owner, _, name = path.rpartition("/")
        groups.setdefault(owner, {})[name.partition(":")[0]] = path
    cells = {}
    for owner, named in groups.items():
        for names in (("kernel", "recurrent_kernel", "bias"), ("0", "1", "2")):
            paths = [named[name] for name in names if name in named]
            if len(paths) >= 2 and names[0] in named and names[1] in named and _are_lstm(file, paths):
                cells[owner] = paths
    return cells


def _are_lstm(file: File, paths: list[str]) -> bool:
    kernel, recurrent, *biases = (file.datasets[path][0] for path in paths)
    if len(kernel) != 2 or len(recurrent) != 2 or recurrent[1] != 4 * recurrent[0] or kernel[1] != recurrent[1]:
        return False
    return recurrent[0] > 0 and all(bias in ((recurrent[1],), (2 * recurrent[1],)) for bias in biases)


def _place_and_direction(owner: str) -> tuple[str, str]:
    """Give where the layer is that has a cell, and which of its directions the cell is; "" if it has one."""
    direction, words = "", owner.removesuffix("/vars").split("/")
    while len(words) > 1 and words[-2] not in _STACKS:
        for side, pattern in zip(("forward", "backward"), _DIRECTIONS, strict=True):
            if pattern.fullmatch(words[-1]) and len(words) > 1:
                direction = side
        if not _WRAPPINGS.fullmatch(words[-1]) and not any(each.fullmatch(words[-1]) for each in _DIRECTIONS):
            break
        words.pop()
    return "/".join(words), direction


def _name(place: str, file: File) -> str:
    """Give the name of a layer, which Keras 3 keeps beside its numbers."""
    name = file.attributes.get(f"{place}/vars", {}).get("name")
    return name if isinstance(name, str) else place.rpartition("/")[2]


def _layer(name: str, directions: dict[str, list[str]], file: File, options: dict[str, Any]) -> Layer:
    if set(directions) == {"forward", "backward"}:
        both = [
            _cell(f"{side}_{name}", directions[side], file, options | {"go_backwards": side == "backward"})
            for side in ("forward", "backward")
        ]
        return Layer("Bidirectional", name, {"merge_mode": "concat"}, both)
    return _cell(name, next(iter(directions.values())), file, options)


def _cell(name: str, paths: list[str], file: File, options: dict[str, Any]) -> Layer:
    units = file.datasets[paths[1]][0][0]
    config = {"units": units, "use_bias": len(paths) > 2, "return_sequences": True, **options}
    layer = Layer("LSTM", name, config)
    share_out(layer, lambda: [file.read(path) for path in paths])
    return layer
