"""Where the files of Keras's versions keep the numbers of each layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from latchwork.interop.keras.configs import Layer, flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from latchwork._arrays import Array
    from latchwork.interop.keras.hdf5 import File

# How many arrays a layer has, with and without bias.
_COUNTS = {"LSTM": (3, 2), "CuDNNLSTM": (3, 2), "LSTMCell": (3, 2), "Dense": (2, 1), "Embedding": (1, 1)}
_WEIGHTLESS = (
    "InputLayer", "Masking", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax", "Flatten",
    "Reshape", "Permute", "GlobalAveragePooling1D", "GlobalMaxPooling1D",
)  # fmt: skip
# The folders of a model's layers, by Keras 3 and by the last ones of Keras 2.
_FOLDERS = ("layers", "_layer_checkpoint_dependencies")


def owners(layer: Layer) -> list[Layer]:
    """Give those layers within a layer that have numbers, in the order of Keras's ``get_weights``."""
    if layer.kind in ("Bidirectional", "RNN", "StackedRNNCells", "TimeDistributed"):
        return [owner for child in layer.children for owner in owners(child)]
    return [layer]


def share_out(layer: Layer, arrays: Callable[[], Sequence[Array]]) -> None:
    """Give the layers within a layer their parts of all its numbers, which are read when they are asked for."""
    start = 0
    for owner in owners(layer):

        def part(count: int, start: int = start) -> Sequence[Array]:
            return arrays()[start : start + count]

        owner.weights = part
        start += count_of(owner) or 0


def count_of(layer: Layer) -> int | None:
    """Give how many arrays a layer has. None: nobody knows."""
    if layer.kind in _COUNTS:
        with_bias, without = _COUNTS[layer.kind]
        return with_bias if flag(layer, "use_bias", True) else without
    return 0 if layer.kind in _WEIGHTLESS else None


def from_paths(model: Layer, file: File) -> None:
    """Take the numbers from a file of Keras 3, whose folders are called after the classes of the layers."""
    paths: dict[str, set[str]] = {}
    for path in file.datasets:
        parts = path.split("/")
        for depth in range(len(parts)):
            paths.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    _from_folder(model, "", file, paths)


def _from_folder(layer: Layer, path: str, file: File, paths: dict[str, set[str]]) -> None:
    if layer.is_model:
        for folder in _FOLDERS:
            _from_container(layer.children, _joined(path, folder), file, paths)
    elif layer.kind == "Bidirectional":
        for child, name in zip(layer.children, ("forward_layer", "backward_layer"), strict=True):
            _from_folder(child, _joined(path, name), file, paths)
    elif layer.kind == "TimeDistributed":
        _from_folder(layer.children[0], _joined(path, "layer"), file, paths)
    elif layer.kind == "RNN":
        cells = layer.children[0].children if layer.children[0].kind == "StackedRNNCells" else layer.children
        if layer.children[0].kind == "StackedRNNCells" or len(cells) > 1:
            _from_container(cells, _joined(path, "cell/cells"), file, paths)
        else:
            _from_folder(cells[0], _joined(path, "cell"), file, paths)
    else:
        own = _joined(path, "cell/vars" if layer.kind in ("LSTM", "CuDNNLSTM") else "vars")
        if own in paths or layer.kind in _COUNTS:
            layer.weights = lambda count: [file.read(f"{own}/{place}") for place in range(count)]


def _from_container(layers: Iterable[Layer], path: str, file: File, paths: dict[str, set[str]]) -> None:
    """Pair the layers of each class with the folders of its name, in order: "lstm", "lstm_1", ..."""
    by_name: dict[str, list[Layer]] = {}
    for layer in layers:
        by_name.setdefault(_snake_case(layer.kind.rpartition(">")[2]), []).append(layer)
    for name, group in by_name.items():
        folders = [folder for folder in paths.get(path, ()) if re.fullmatch(rf"{re.escape(name)}(_\d{{1,9}})?", folder)]
        folders.sort(key=lambda folder: int(folder.removeprefix(name).removeprefix("_") or 0))
        if len(folders) == len(group):
            for layer, folder in zip(group, folders, strict=True):
                _from_folder(layer, _joined(path, folder), file, paths)


def _snake_case(name: str) -> str:
    """Write the name of a class as Keras does: "TimeDistributed" is "time_distributed"."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def from_names(model: Layer, file: File, root: str) -> None:
    """Take the numbers from an ``.h5`` file, which has a group for each layer that lists their names in order.

    Parameters
    ----------
    model : Layer
        The model, or one layer alone.
    file : File
        The file.
    root : str
        The group in which those of the layers are.
    """
    for layer in model.children if model.is_model else [model]:
        group = _joined(root, layer.name)
        paths = [f"{group}/{name}" for name in file.names(group, "weight_names") or []]
        if layer.is_model:
            _share_by_name(layer, file, paths, len(group))
        else:
            share_out(layer, lambda paths=paths: [file.read(path) for path in paths])  # type: ignore[misc]


def _share_by_name(model: Layer, file: File, paths: list[str], skipped: int) -> None:
    """Give the layers of a nested model theirs: those whose names hold its own, or else as many as it has."""
    own = {path: path[skipped:].split("/") for path in paths}
    start = 0
    for layer in model.children:
        mine = [path for path, words in own.items() if layer.name in words]
        count = sum(count_of(owner) or 0 for owner in owners(layer))
        if not mine:
            mine = paths[start : start + count]
        start += count
        if layer.is_model:
            _share_by_name(layer, file, mine, skipped)
        else:
            share_out(layer, lambda mine=mine: [file.read(path) for path in mine])  # type: ignore[misc]
