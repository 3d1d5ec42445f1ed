"""Neural Amp Modeler's files (.nam) of the architecture LSTM: in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import real_dtype
from latchwork._writing import path_text
from latchwork.interop.chain import WITHOUT_EFFECT, Part, joined_bias, layers_of, model_of, only_options
from latchwork.interop.json_files import hertz, integer_of, numbers, plain, read_object, rounded, write_object
from latchwork.layers import Dropout, Linear
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array
    from latchwork._writing import FilePath

_VERSION = "0.5.4"  # of the format that is written


def from_nam(file: FilePath, *, dtype: DTypeLike = "float32") -> Any:
    """Read a model of Neural Amp Modeler's.

    Parameters
    ----------
    file : str, bytes or os.PathLike
        A ``.nam`` file of the architecture LSTM.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of the model.

    Returns
    -------
    Network
        The LSTM and its head. The LSTM has ``learn_start_state``: it starts from the state in the file, and a reset
        goes back to it. ``latchwork.interop.nam.metadata(file)`` gives the sample rate and whatever else the file says.

    Raises
    ------
    ValueError
        If the file is damaged, has another architecture, or other than the number of weights that its sizes ask for.
    OSError
        If it cannot be read.

    See Also
    --------
    to_nam : The way back, which gives the same bits.

    Notes
    -----
    The plug-in runs a model for half a second of silence before it is heard; here the first step is the first one.
    """
    path = path_text(file)
    return model_of_object(read_object(path), path, dtype)


def metadata(file: FilePath) -> dict[str, Any]:
    """Read what a ``.nam`` file says beside its weights: version, architecture, config, sample_rate, metadata.

    Raises
    ------
    ValueError
        If the file is no JSON object.
    OSError
        If it cannot be read.
    """
    return {name: value for name, value in read_object(file).items() if name != "weights"}


def to_nam(
    model: Any, file: FilePath, *, sample_rate: float | None = None, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a model as Neural Amp Modeler reads it.

    Parameters
    ----------
    model : Network or fitted estimator
        An `LSTM` in forward direction without variants, and a `Linear` without an activation. Start states are
        written, zeros if there are none. Dropout, which does nothing outside training, is left out.
    file : str, bytes or os.PathLike
        Where to write, as ``save`` does.
    sample_rate : float, optional
        Hertz, above 0, which the plug-in resamples to. None: nothing is said.
    metadata : mapping, optional
        What the file is to say of the model: name, gear, loudness and so on. JSON must be able to hold it.

    Raises
    ------
    ValueError
        If the format cannot hold the model: the message names the layer or the option. If a number is not finite.
    TypeError
        If it is no such model, or ``metadata`` is none that JSON can hold.
    OSError
        If the file cannot be written.
    """
    rate = None if sample_rate is None else hertz(sample_rate)
    layers = [layer for layer in layers_of(model) if not isinstance(layer, Dropout)]
    lstm, head = layers if len(layers) == 2 else (None, None)
    if not isinstance(lstm, LSTM) or not isinstance(head, Linear) or head.activation is not None:
        got = ", ".join(type(layer).__name__ for layer in layers)
        raise ValueError(f"model: expected an LSTM and a Linear without an activation, got {got}")
    held = ("input_size", "hidden_size", "num_layers", "bias", "learn_start_state", *WITHOUT_EFFECT)
    only_options(lstm, held, "NAM's LSTM")
    tensors, of_head = lstm.state_dict(), head.state_dict()
    weights: list[Array] = []
    for index in range(lstm.num_layers):
        weights.append(np.concatenate([tensors[f"weight_ih_l{index}"], tensors[f"weight_hh_l{index}"]], axis=1))
        weights.append(joined_bias(lstm, tensors, index))
        weights += [tensors.get(f"{name}_0_l{index}", np.zeros(lstm.hidden_size)) for name in "hc"]
    weights += [of_head["weight"], of_head.get("bias", np.zeros(head.out_features))]
    config = {"input_size": lstm.input_size, "hidden_size": lstm.hidden_size, "num_layers": lstm.num_layers}
    if head.out_features > 1:
        config |= {"in_channels": lstm.input_size, "out_channels": head.out_features}
    content = {
        "version": _VERSION,
        "metadata": dict(metadata or {}),
        "architecture": "LSTM",
        "config": config,
        "weights": plain(np.concatenate([array.ravel() for array in weights])),
    }
    if rate is not None:
        content["sample_rate"] = rate
    write_object(file, content)


def is_model(content: Mapping[str, Any]) -> bool:
    """Say whether a parsed file is one of Neural Amp Modeler's."""
    return "architecture" in content and "config" in content


def model_of_object(content: Mapping[str, Any], path: str, dtype: DTypeLike = "float32") -> Any:
    """Make the model that a parsed file describes."""
    name = real_dtype(dtype).name
    try:
        return model_of(_parts(content, np.dtype(name)), name, batch_first=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parts(content: Mapping[str, Any], dtype: np.dtype[Any]) -> list[Part]:
    if content.get("architecture") != "LSTM":
        raise ValueError(f"architecture: expected LSTM, got {content.get('architecture')!r}")
    config = content.get("config")
    if not isinstance(config, dict):
        raise ValueError("config: expected an object")
    size, hidden, layers = (
        integer_of(f"config.{name}", config.get(name)) for name in ("input_size", "hidden_size", "num_layers")
    )
    outputs = integer_of("config.out_channels", config.get("out_channels", 1))
    weights = numbers("weights", content.get("weights"), 1)
    of_first = 4 * hidden * (size + hidden + 1) + 2 * hidden
    of_others = 4 * hidden * (2 * hidden + 1) + 2 * hidden
    expected = of_first + (layers - 1) * of_others + outputs * (hidden + 1)
    if weights.size != expected:
        sizes = f"input_size {size}, hidden_size {hidden}, num_layers {layers} and {outputs} outputs"
        raise ValueError(f"weights: expected {expected} numbers for {sizes}, got {weights.size}")
    rest = iter(np.split(rounded("weights", weights, dtype), _ends(size, hidden, layers, outputs)))
    tensors: dict[str, Array] = {}
    for index in range(layers):
        both = next(rest).reshape(4 * hidden, -1)
        columns = size if index == 0 else hidden
        tensors |= {f"weight_ih_l{index}": both[:, :columns], f"weight_hh_l{index}": both[:, columns:]}
        tensors[f"bias_ih_l{index}"] = next(rest)
        tensors[f"bias_hh_l{index}"] = np.zeros(4 * hidden, dtype)
        tensors |= {f"{name}_0_l{index}": next(rest) for name in "hc"}
    head = {"weight": next(rest).reshape(outputs, hidden), "bias": next(rest)}
    options = {"input_size": size, "hidden_size": hidden, "num_layers": layers, "learn_start_state": True}
    return [
        Part(LSTM, options, tensors, "the LSTM"),
        Part(Linear, {"in_features": hidden, "out_features": outputs}, head, "the head"),
    ]


def _ends(size: int, hidden: int, layers: int, outputs: int) -> Array:
    """Give the places at which the list of weights is cut."""
    sizes = []
    for index in range(layers):
        sizes += [4 * hidden * ((size if index == 0 else hidden) + hidden), 4 * hidden, hidden, hidden]
    return np.cumsum([*sizes, outputs * hidden])
