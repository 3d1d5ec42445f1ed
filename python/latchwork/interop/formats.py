"""All formats of models: which one a file has, by what is in it, and what reads and writes each."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import latchwork
from latchwork._file_kinds import kind_and_description
from latchwork._writing import path_text, write_atomically
from latchwork.files import is_ours
from latchwork.interop import keras, nam
from latchwork.interop.chain import WITHOUT_EFFECT, layers_of, only_options
from latchwork.interop.found import FoundLSTM, found_of
from latchwork.interop.json_files import read_object
from latchwork.interop.rtneural import reading as rtneural
from latchwork.interop.state_dicts import SAID_BY_TENSORS
from latchwork.lstm import LSTM
from latchwork.lstm_cell import LSTMCell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latchwork._writing import FilePath

_NAMES = {
    "latchwork": "a model of Latchwork's",
    "safetensors": "tensors in safetensors",
    "torch": "tensors of PyTorch's",
    "keras": "a Keras model",
    "onnx": "an ONNX model",
    "rtneural": "a model of RTNeural, GuitarML or AIDA-X, or tensors as JSON",
    "nam": "a model of Neural Amp Modeler's",
}
_OF_KIND = {"torch": "torch", "torch_legacy": "torch", "keras": "keras", "hdf5": "keras", "onnx": "onnx"}
# The arguments that take a part of a file out and say what is not in it, and the function that reads it.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "safetensors": ("prefix",),
    "torch": ("prefix",),
    "rtneural": ("prefix",),
    "keras": ("layer", "activation", "recurrent_activation"),
    "onnx": ("node",),
}
_READERS = {
    "latchwork": "load",
    "safetensors": "from_torch",
    "torch": "from_torch",
    "keras": "from_keras",
    "onnx": "from_onnx",
}
ENDINGS = (".safetensors", ".onnx", ".pt", ".pth", ".json", ".nam")


class Found(NamedTuple):
    """What a file from elsewhere holds."""

    format: str
    lstms: list[FoundLSTM]
    metadata: Mapping[str, Any]  # what it says of itself, as far as the format has such


def format_of(file: FilePath) -> str:
    """Say which format a file has, by its content: one of the keys of `described`.

    Raises
    ------
    ValueError
        If it is none that is read; the message says what it is instead.
    OSError
        If it cannot be read.
    """
    return _identified(path_text(file))[0]


def described(name: str) -> str:
    """Give a format's name in messages."""
    return _NAMES[name]


def read(
    file: FilePath,
    *,
    prefix: Any = None,
    node: str | None = None,
    layer: str | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
) -> Any:
    """Read a model of any format.

    Parameters
    ----------
    file : str, bytes or os.PathLike
        The file; which format it has is told by its content.
    prefix : optional
        For tensors: as for `from_torch`.
    node : str, optional
        For ONNX: as for `from_onnx`.
    layer, activation, recurrent_activation : str, optional
        For Keras: as for `from_keras`.

    Raises
    ------
    ValueError
        If the file is none of these, or an argument is not one for its format.
    OSError
        If it cannot be read.
    ImportError
        If a library that the format needs is missing.
    """
    path = path_text(file)
    name, content = _identified(path)
    given = {
        "prefix": prefix,
        "node": node,
        "layer": layer,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
    }
    keywords = {argument: value for argument, value in given.items() if value is not None}
    for argument in keywords:
        if argument not in _ARGUMENTS.get(name, ()):
            right = f"; {_ARGUMENTS[name][0]} is the one for it" if name in _ARGUMENTS else ""
            raise ValueError(f"{argument}: expected none for {_NAMES[name]}, got {keywords[argument]!r}{right}")
    if content is not None:
        return _model_of_json(name, content, path, prefix)
    return getattr(latchwork, _READERS[name])(path, **keywords)


def found_in(file: FilePath) -> Found:
    """List the LSTMs in a file, and what keeps the whole of it from becoming a model, if something does.

    Raises
    ------
    ValueError
        If the file is of no format that is read, or damaged.
    OSError
        If it cannot be read.
    ImportError
        If a library that the format needs is missing.
    """
    path = path_text(file)
    name, content = _identified(path)
    metadata: Mapping[str, Any] = {}
    if name in ("safetensors", "torch"):
        from latchwork.interop.pytorch.reading import tensors_of_file
        from latchwork.interop.state_dicts import found_lstms

        return Found(name, found_lstms(tensors_of_file(path)), metadata)
    if name == "onnx":
        return Found(name, latchwork.onnx_lstms(path), metadata)
    if name == "keras":
        return Found(name, list(keras.lstms(path)), metadata)
    if content is None:
        layers = layers_of(latchwork.load(path))
    else:
        metadata = {key: value for key, value in content.items() if _is_metadata(key, value)}
        layers = layers_of(_model_of_json(name, content, path))
    lstms = [found_of(layer, str(i)) for i, layer in enumerate(layers) if isinstance(layer, (LSTM, LSTMCell))]
    return Found(name, lstms, metadata)


def write(model: Any, file: FilePath, *, stateful: bool = False, sample_rate: float | None = None) -> None:
    """Write a model in the format that the file's ending names, one of `ENDINGS`.

    Parameters
    ----------
    model : layer, Network or fitted estimator
        What is written.
    file : str, bytes or os.PathLike
        Where to: ``.safetensors`` (Latchwork's own), ``.onnx``, ``.pt`` or ``.pth`` (PyTorch's tensors), ``.json``
        (RTNeural) or ``.nam``.
    stateful : bool, default False
        For ONNX: as for `to_onnx`.
    sample_rate : float, optional
        For ``.json`` and ``.nam``: hertz.

    Raises
    ------
    ValueError
        If the format cannot hold the model, or there is none of this ending.
    OSError
        If the file cannot be written.
    ImportError
        If a library that the format needs is missing.
    """
    path = path_text(file)
    ending = os.path.splitext(path)[1].lower()
    if ending not in ENDINGS:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if stateful and ending != ".onnx":
        raise ValueError(f"stateful: expected False for {ending}, got True")
    if sample_rate is not None and ending not in (".json", ".nam"):
        raise ValueError(f"sample_rate: expected None for {ending}, got {sample_rate:g}")
    if ending == ".safetensors":
        model.save(path)
    elif ending == ".onnx":
        latchwork.to_onnx(model, path, stateful=stateful)
    elif ending == ".json":
        latchwork.to_rtneural(model, path, sample_rate=sample_rate)
    elif ending == ".nam":
        latchwork.to_nam(model, path, sample_rate=sample_rate)
    else:
        _write_tensors(model, path)


def _identified(path: str) -> tuple[str, dict[str, Any] | None]:
    """Give the name of a file's format, and the content of one that is JSON, so that it need not be read twice."""
    with open(path, "rb"):  # raises OSError
        pass
    kind, what = kind_and_description(path)
    if kind == "safetensors":
        return "latchwork" if is_ours(path) else "safetensors", None
    if kind == "json":
        content = read_object(path)
        if nam.is_model(content):
            return "nam", content
        if rtneural.is_model(content):
            return "rtneural", content
        raise ValueError(f"{path}: expected a model, got JSON of another kind")
    if kind not in _OF_KIND:
        raise ValueError(f"{path}: expected a model, got {what}")
    return _OF_KIND[kind], None


def _model_of_json(name: str, content: Mapping[str, Any], path: str, prefix: Any = None) -> Any:
    return nam.model_of_object(content, path) if name == "nam" else rtneural.model_of_object(content, path, prefix)


def _write_tensors(model: Any, path: str) -> None:
    """Write the state dictionary of the module that the model becomes."""
    module = latchwork.to_torch(model)
    for index, layer in enumerate(layers_of(model)):
        if layer._kind == "scale":
            raise ValueError(f"layer {index}: expected layers whose numbers are tensors, got a Scale")
        if isinstance(layer, (LSTM, LSTMCell)):
            only_options(layer, (*SAID_BY_TENSORS, *WITHOUT_EFFECT), "a file of tensors")
    import torch

    content = io.BytesIO()
    torch.save(module.state_dict(), content)
    write_atomically(path, content.getvalue())


def _is_metadata(name: str, value: Any) -> bool:
    """Say whether an entry of a JSON model describes it, rather than being it."""
    return not isinstance(value, list) and name not in ("state_dict", "weights", "layers")
