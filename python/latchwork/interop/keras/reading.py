"""`from_keras`: from a model of Keras to one of ours."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from latchwork.interop.chain import model_of
from latchwork.interop.found import FoundLSTM, refusal
from latchwork.interop.keras import archive, hdf5
from latchwork.interop.keras.activations import activation_of
from latchwork.interop.keras.archive import Archive
from latchwork.interop.keras.bare import KIND as WEIGHTS_ALONE
from latchwork.interop.keras.bare import model_of_weights
from latchwork.interop.keras.configs import Layer, Unsupported, layer_of, parsed_json
from latchwork.interop.keras.conversion import Chain, chain_of, dtype_of, is_known
from latchwork.interop.keras.objects import is_layer, layer_of_object, version_of_object
from latchwork.interop.keras.order import NoChain, Step, steps_of
from latchwork.interop.keras.recurrent import found, is_lstm
from latchwork.interop.keras.weights import from_names, from_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class _Source:
    """A model of Keras, whose numbers can be read."""

    name: str  # what messages call it
    model: Layer
    keras3: bool


def from_keras(
    model: Any,
    *,
    layer: str | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
) -> Any:
    """Make an `LSTM` or a `Network` of a model of Keras 3 or 2.

    A model that is a chain of layers which Latchwork has is converted whole; models within it are flattened. Input and
    output are (N, T, features) as in Keras: ``batch_first=True``. A layer without ``return_sequences`` is followed by
    `Last`, one with ``go_backwards`` and ``return_sequences`` by `Reverse`. What dropout a layer has is carried over
    where it means the same: ``Dropout``, and an LSTM's ``recurrent_dropout``.

    Parameters
    ----------
    model : path, or layer or model of Keras
        A file ``.keras``, an ``.h5`` with or without configuration, a layer or a model. What a file is follows from its
        content. HDF5, of which all these files have a part, needs the extra ``keras``; neither Keras nor TensorFlow is
        imported, and nothing in a file is executed.
    layer : str, optional
        The name of one LSTM, or of a Bidirectional or RNN, to be taken out of the model. None: the whole model.
    activation, recurrent_activation : str, optional
        Only for files of weights alone, which do not say them: Keras's names of the activations of the layer. None:
        what Keras takes by itself, "tanh" and "sigmoid", and "hard_sigmoid" in files of Keras before 2.3.

    Returns
    -------
    LSTM or Network
        An LSTM if the model is only that. float64 if numbers of the model are, otherwise float32.

    Raises
    ------
    ValueError
        If the model is no such chain, with a list of the LSTMs that it holds and of what stands in the way; if there
        is no such layer; if the file is damaged, or not one of Keras.
    TypeError
        If an argument is of another type.
    ImportError
        If h5py is not installed and the file needs it.
    OSError
        If there is no such file.

    Examples
    --------
    >>> import latchwork as lw
    >>> network = lw.from_keras("model.keras")  # doctest: +SKIP
    """
    given = {"activation": activation, "recurrent_activation": recurrent_activation}
    for name, value in {"layer": layer, **given}.items():
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name}: expected str or None, got {type(value).__name__}")
    with _named_errors(model), _opened(model, given) as source:
        return _converted(source, layer)


def lstms(model: Any) -> list[FoundLSTM]:
    """Give all LSTMs of a model, with what keeps the model from being converted whole.

    Parameters
    ----------
    model : path, or layer or model of Keras
        As for `from_keras`.

    Raises
    ------
    ValueError, TypeError, ImportError, OSError
        As `from_keras` does for what is no model of Keras.
    """
    with _named_errors(model), _opened(model, {}) as source:
        return _Attempt(source).found()


@contextlib.contextmanager
def _named_errors(model: Any) -> Iterator[None]:
    """Say in each error about a file which one it is."""
    try:
        yield
    except ValueError as error:
        if isinstance(model, (str, os.PathLike)) and not str(error).startswith(str(os.fspath(model))):
            raise ValueError(f"{os.fspath(model)!s}: {error}") from None
        raise


def _converted(source: _Source, layer: str | None) -> Any:
    attempt = _Attempt(source)
    if layer is not None:
        attempt = attempt.of_one(layer)
    if attempt.reason:
        raise refusal(source.name, attempt.reason, attempt.found(), "layer")
    try:
        parts = attempt.chain.parts
        return model_of(parts, dtype_of(parts), batch_first=True)
    except ValueError as error:
        raise refusal(source.name, str(error), attempt.found(), "layer") from error


class _Attempt:
    """An attempt at a chain: what it gave, or why it did not."""

    def __init__(self, source: _Source, only: Layer | None = None) -> None:
        self.source = source
        self.lstms = _named_lstms(source.model)
        self.chain, self.steps, self.reason, self.no_chain = Chain(source.keras3), [], "", ""
        model = source.model
        if only is None and model.kind == WEIGHTS_ALONE:
            if len(model.children) != 1 or not self.lstms:
                self.reason = "it holds weights alone and does not say in which order its layers follow each other"
                return
            only = model.children[0]
        try:
            self.steps = steps_of(only or model)
        except NoChain as error:
            self.steps = [Step(each) for each in model.walk() if _is_leaf(each)]
            self.no_chain = str(error)
            self.reason = f"it is no chain of layers: {error}"
        self.chain = chain_of(self.steps, source.keras3)
        if self.reason:  # what a layer makes of the one before it in the file says nothing
            self.chain.problems = {
                place: str(step.layer) for place, step in enumerate(self.steps) if not is_known(step.layer)
            }
        elif self.chain.problems:
            self.reason = f"{', '.join(self.chain.problems.values())} has no counterpart"
        if not self.reason and not any(is_lstm(step.layer) for step in self.steps):
            self.reason = "it has no recurrent layer that is an LSTM"

    def of_one(self, name: str) -> _Attempt:
        """Try one of the LSTMs alone."""
        if name not in self.lstms:
            raise refusal(self.source.name, f"layer: expected the name of an LSTM, got {name!r}", self.found(), "layer")
        return _Attempt(self.source, self.lstms[name])

    def found(self) -> list[FoundLSTM]:
        """Describe all LSTMs, and what stands in the way of each."""
        places = {id(step.layer): place for place, step in enumerate(self.steps)}
        described = []
        for path, layer in self.lstms.items():
            lstm = found(layer, path, self.source.keras3)
            own = places.get(id(layer))
            obstacles = [*lstm.obstacles, *([self.no_chain] if self.no_chain else [])]
            for place, problem in self.chain.problems.items():
                if place == own or layer in self.steps[place].layer.walk():
                    obstacles.append(problem)
                else:
                    obstacles.append(f"{problem} {'before' if own is None or place < own else 'after'} it")
            described.append(replace(lstm, obstacles=tuple(obstacles)))
        return described


def _named_lstms(model: Layer) -> dict[str, Layer]:
    """Give all LSTMs by name, or by path where several have one name."""
    paths = dict(_lstm_paths(model, ""))
    names = [layer.name for layer in paths.values()]
    return {layer.name if names.count(layer.name) == 1 else path: layer for path, layer in paths.items()}


def _lstm_paths(layer: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    if is_lstm(layer):
        yield path or layer.name, layer
        return
    for child in layer.children:
        yield from _lstm_paths(child, f"{path}/{child.name}" if path else child.name)


def _is_leaf(layer: Layer) -> bool:
    return not layer.is_model and layer.kind not in (WEIGHTS_ALONE, "InputLayer")


@contextlib.contextmanager
def _opened(model: Any, activations: Mapping[str, str | None]) -> Iterator[_Source]:
    """Open whatever holds a model."""
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if isinstance(path, bytes):
            raise TypeError("model: expected a path of type str, got bytes")
        with open(path, "rb") as file, _opened_file(file, path, activations) as source:
            yield source
    elif is_layer(model):
        _expect_no_activations(model, activations)
        layer = layer_of_object(model)
        yield _Source(str(layer), layer, _is_keras3(version_of_object(model)))
    else:
        raise TypeError(f"model: expected a path, or a layer or a model of Keras, got {type(model).__name__}")


@contextlib.contextmanager
def _opened_file(file: BinaryIO, path: str, activations: Mapping[str, str | None]) -> Iterator[_Source]:
    head = file.read(len(hdf5.SIGNATURE))
    if head.startswith(archive.SIGNATURE):
        _expect_no_activations(path, activations)
        zipped = Archive(file, path)
        model = layer_of(zipped.config)
        with zipped.weights() as weights, hdf5.File(weights, path) as content:
            from_paths(model, content)
            yield _Source(path, model, _is_keras3(zipped.version))
    elif head == hdf5.SIGNATURE:
        with hdf5.File(path, path) as content:
            yield _source_of_hdf5(content, path, activations)
    else:
        raise ValueError(f"{path}: expected a file of Keras, which is a zip archive or HDF5, got neither")


def _source_of_hdf5(content: hdf5.File, path: str, activations: Mapping[str, str | None]) -> _Source:
    config = content.attributes[""].get("model_config")
    root = "model_weights" if "model_weights" in content.attributes else ""
    version = _version(content, root)
    if isinstance(config, str):
        _expect_no_activations(path, activations)
        model = layer_of(parsed_json(config, f"{path}: model_config"))
        from_names(model, content, root)
        return _Source(path, model, _is_keras3(version))
    options = {name: value for name, value in activations.items() if value is not None}
    if "recurrent_activation" not in options and _numbers(version) < (2, 3) and version:
        options["recurrent_activation"] = "hard_sigmoid" if "tf" not in version else "sigmoid"
    for name, value in options.items():
        try:
            activation_of(value, keras3=True)
        except Unsupported as error:
            raise ValueError(f"{name}: expected one of Keras's activations that Latchwork has, got {error}") from None
    keras3 = _is_keras3(version) if version else "_layer_checkpoint_dependencies" not in content.attributes
    return _Source(path, model_of_weights(content, path, options), keras3)


def _version(content: hdf5.File, root: str) -> str:
    for group in ("", root):
        version = content.attributes.get(group, {}).get("keras_version")
        if isinstance(version, str):
            return version
    return ""


def _numbers(version: str) -> tuple[int, int]:
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    return (int(numbers[1]), int(numbers[2])) if numbers else (2, 0)


def _is_keras3(version: str) -> bool:
    return _numbers(version)[0] >= 3


def _expect_no_activations(model: Any, activations: Mapping[str, str | None]) -> None:
    for name, value in activations.items():
        if value is not None:
            raise ValueError(f"{name}: expected None for a model that says its activations, got {value!r}")
