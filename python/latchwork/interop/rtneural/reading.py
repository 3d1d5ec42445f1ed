"""From JSON: the layers that RTNeural lists, or a state dictionary of PyTorch's, and what stands around either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latchwork._arrays import real_dtype
from latchwork._writing import path_text
from latchwork.input_layers import Scale
from latchwork.interop.chain import Part, activated, model_of
from latchwork.interop.json_files import integer_of, numbers, read_object, rounded
from latchwork.interop.state_dicts import groups, parts_of, unwrapped
from latchwork.layers import Linear
from latchwork.lstm import LSTM
from latchwork.step_layers import InputSkip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike

    from latchwork._arrays import Array
    from latchwork._writing import FilePath
    from latchwork.layers import Parameterless

# RTNeural's names of activations, as it writes and reads them.
ACTIVATIONS: dict[str, str | None] = {
    "": None,
    "linear": None,
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "elu": "elu",
    "softmax": "softmax",
}
_SILENCE = -90.0  # decibels; AIDA-X takes less as nothing


def from_rtneural(
    file: FilePath,
    *,
    prefix: str | Parameterless | Sequence[str | Parameterless] | None = None,
    dtype: DTypeLike = "float32",
) -> Any:
    """Read a model of RTNeural, GuitarML or AIDA-X, or a bare state dictionary, from its JSON file.

    Parameters
    ----------
    file : str, bytes or os.PathLike
        One of these, told apart by what is in it:

        - RTNeural's list of ``layers`` (LSTM, dense, time-distributed dense, activations), alone or with AIDA-X's
          ``in_gain``, ``out_gain`` (decibels) and ``in_skip``;
        - GuitarML's ``model_data`` and ``state_dict``: an LSTM, a linear layer, and ``skip``, which adds the input;
        - a PyTorch state dictionary as JSON, at the top or under ``state_dict``, with names of the author's choice.
    prefix : str, or list of str and of layers without parameters, optional
        Of a state dictionary the layers in their order, as for `from_torch`. None: all, in the order of the file,
        which is that of their registration.
    dtype : {"float32", "float64"}, default "float32"
        The dtype of the model.

    Returns
    -------
    LSTM or Network
        With the input in the last axis: (T, N, features) or (T, features).

    Raises
    ------
    ValueError
        If the file is damaged or larger than such models are, holds layers without a counterpart (``gru``, ``conv1d``,
        ...), or sizes that contradict its weights.
    OSError
        If it cannot be read.

    See Also
    --------
    to_rtneural : The way back.
    """
    path = path_text(file)
    return model_of_object(read_object(path), path, prefix, dtype)


def model_of_object(content: Mapping[str, Any], path: str, prefix: Any = None, dtype: DTypeLike = "float32") -> Any:
    """Make the model that a parsed file describes."""
    name = real_dtype(dtype).name
    try:
        parts = _parts(content, prefix)
        return model_of([_rounded(part, name) for part in parts], name, batch_first=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def is_model(content: Mapping[str, Any]) -> bool:
    """Say whether a parsed file is one that is read here."""
    return any(name in content for name in ("layers", "model_data", "state_dict")) or bool(_tensors_in(content))


def tensors_of(content: Mapping[str, Any]) -> dict[str, Array]:
    """Give the tensors of a file that holds a state dictionary; none of one that lists layers."""
    if "layers" in content:
        return {}
    holder = content.get("state_dict", content)
    if not isinstance(holder, dict):
        raise ValueError(f"state_dict: expected an object, got {type(holder).__name__}")
    found = unwrapped(_tensors_in(holder))
    return {name: numbers(name, value, _dimensions(value)) for name, value in found.items()}


def _parts(content: Mapping[str, Any], prefix: Any) -> list[Part]:
    skip = integer_of("in_skip", content["in_skip"], 0) if isinstance(content.get("in_skip"), (int, float)) else 0
    if skip > 1:
        raise ValueError(f"in_skip: expected 0 or 1, got {skip}")
    if "layers" in content:
        if prefix is not None:
            raise ValueError("prefix: expected None for a file that lists its layers")
        parts = _listed(content)
    else:
        parts = _of_state_dict(content, prefix)
        data = content.get("model_data")
        skip = max(skip, integer_of("model_data.skip", data.get("skip", 0), 0) if isinstance(data, dict) else 0)
    in_gain, out_gain = (_factor(content, name) for name in ("in_gain", "out_gain"))
    if skip:
        parts.append(Part(InputSkip, {"features": skip, "factor": in_gain}, {}, "the skip"))
    if in_gain != 1:
        # The gain is that of the sound, the first feature; what controls the model is never scaled.
        factor = [in_gain] + [1.0] * (_width(parts[0], "in_features", "input_size") - 1)
        parts.insert(0, Part(Scale, {"shift": [0.0] * len(factor), "factor": factor}, {}, "in_gain"))
    if out_gain != 1:
        last = next((part for part in reversed(parts) if part.layer in (Linear, LSTM)), parts[-1])
        size = _width(last, "out_features", "hidden_size")
        parts.append(Part(Scale, {"shift": [0.0] * size, "factor": [out_gain] * size}, {}, "out_gain"))
    return parts


def _factor(content: Mapping[str, Any], name: str) -> float:
    """Give a gain in decibels as a factor; 1 if there is none."""
    gain = content.get(name)
    if isinstance(gain, bool) or not isinstance(gain, (int, float)):
        return 1.0
    if not gain < 1000:
        raise ValueError(f"{name}: expected decibels below 1000, got {gain}")
    return float(10.0 ** (gain / 20.0)) if gain > _SILENCE else 0.0


def _width(part: Part, *names: str) -> int:
    return next((int(part.options[name]) for name in names if name in part.options), 1)


def _listed(content: Mapping[str, Any]) -> list[Part]:
    """Read RTNeural's list of layers."""
    layers = content["layers"]
    if not isinstance(layers, list) or not layers:
        raise ValueError("layers: expected a list of layers")
    size = _last_of("in_shape", content["in_shape"]) if "in_shape" in content else None
    parts: list[Part] = []
    for index, layer in enumerate(layers):
        origin = f"layers[{index}]"
        if not isinstance(layer, dict) or not isinstance(layer.get("type"), str):
            raise ValueError(f"{origin}: expected an object with a type")
        kind, activation = layer["type"], _activation(layer, origin)
        if kind == "activation":
            parts = activated(parts, activation, origin)
            continue
        if kind not in ("lstm", "dense", "time-distributed-dense"):
            raise ValueError(f"{origin}: expected lstm, dense, time-distributed-dense or activation, got {kind!r}")
        origin = f"{origin} ({kind})"
        weights = layer.get("weights")
        if not isinstance(weights, list):
            raise ValueError(f"{origin}: expected a list of weights")
        part = _lstm(weights, origin) if kind == "lstm" else _dense(weights, origin)
        expected = _width(part, "in_features", "input_size"), _width(part, "out_features", "hidden_size")
        if size is not None and size != expected[0]:
            before = "in_shape" if not parts else "the layer before"
            raise ValueError(f"{origin}: expected weights for {size} inputs, as {before} says, got {expected[0]}")
        size = expected[1]
        if "shape" in layer and _last_of(f"{origin}: shape", layer["shape"]) != size:
            said = _last_of(f"{origin}: shape", layer["shape"])
            raise ValueError(f"{origin}: expected weights for {said} units, as its shape says, got {size}")
        if kind == "lstm" and activation not in (None, "tanh"):
            raise ValueError(f"{origin}: activation: expected 'tanh', got {layer['activation']!r}")
        parts = [*parts, part] if kind == "lstm" else activated([*parts, part], activation, origin)
    return parts


def _activation(layer: Mapping[str, Any], origin: str) -> str | None:
    name = layer.get("activation") or ""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"{origin}: activation: expected one of {', '.join(filter(None, ACTIVATIONS))}, got {name!r}")
    return ACTIVATIONS[name]


def _lstm(weights: list[Any], origin: str) -> Part:
    """Read kernels as Keras has them: (in, 4H) and (H, 4H) in the order i, f, g, o, which is PyTorch's too."""
    kernel, recurrent, bias = _arrays(weights, (2, 2, 1), origin)
    hidden = recurrent.shape[0]
    for name, array, shape in (
        ("kernel", kernel, (kernel.shape[0], 4 * hidden)),
        ("recurrent kernel", recurrent, (hidden, 4 * hidden)),
        ("bias", bias, (4 * hidden,)),
    ):
        if array.shape != shape or 0 in shape:
            raise ValueError(f"{origin}: {name}: expected {shape}, got {array.shape}")
    tensors = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
    return Part(LSTM, {"input_size": kernel.shape[0], "hidden_size": hidden}, tensors, origin)


def _dense(weights: list[Any], origin: str) -> Part:
    kernel, *rest = _arrays(weights, (2, 1)[: max(1, len(weights))], origin)
    if 0 in kernel.shape:
        raise ValueError(f"{origin}: kernel: expected (inputs, outputs), got {kernel.shape}")
    tensors = {"weight": kernel.T}
    if rest:
        if rest[0].shape != (kernel.shape[1],):
            raise ValueError(f"{origin}: bias: expected ({kernel.shape[1]},), got {rest[0].shape}")
        tensors["bias"] = rest[0]
    options = {"in_features": kernel.shape[0], "out_features": kernel.shape[1], "bias": bool(rest)}
    return Part(Linear, options, tensors, origin)


def _arrays(weights: list[Any], dimensions: tuple[int, ...], origin: str) -> list[Array]:
    if len(weights) != len(dimensions):
        raise ValueError(f"{origin}: weights: expected {len(dimensions)} arrays, got {len(weights)}")
    return [
        numbers(f"{origin}: weights[{index}]", value, ndim)
        for index, (value, ndim) in enumerate(zip(weights, dimensions, strict=True))
    ]


def _last_of(name: str, shape: Any) -> int:
    if not isinstance(shape, list) or not shape:
        raise ValueError(f"{name}: expected a list of sizes")
    return integer_of(name, shape[-1])


def _of_state_dict(content: Mapping[str, Any], prefix: Any) -> list[Part]:
    """Read a state dictionary, and see that what stands beside it says the same."""
    tensors = tensors_of(content)
    data = content.get("model_data")
    if isinstance(data, dict):
        for name, expected in (("model", "SimpleRNN"), ("unit_type", "LSTM")):
            if str(data.get(name, expected)).lower() != expected.lower():
                raise ValueError(f"model_data.{name}: expected {expected}, got {data[name]!r}")
    found = groups(tensors)
    if not found:
        raise ValueError("expected a model of RTNeural, GuitarML or AIDA-X, or a state dictionary, got other JSON")
    if isinstance(data, dict):  # GuitarML names its layers, so that their order in the file says nothing
        found.sort(key=lambda group: not group.is_lstm)
    order = prefix if prefix is not None else [group.prefix for group in found]
    parts = parts_of(tensors, order, "the state dictionary", lambda name, array: array)
    for before, part in zip(parts, parts[1:], strict=False):
        if before.layer is Linear and part.layer is Linear:
            raise ValueError(
                f"expected prefix= with what stands between {before.origin} and {part.origin}, because the file says "
                f"nothing of activations: prefix=[..., {before.origin}, lw.Activation('relu'), {part.origin}]"
            )
    if isinstance(data, dict):
        _check_model_data(data, parts)
    return parts


def _check_model_data(data: Mapping[str, Any], parts: Sequence[Part]) -> None:
    lstms = [part.options for part in parts if part.layer is LSTM]
    heads = [part.options for part in parts if part.layer is Linear]
    if not lstms:
        raise ValueError("model_data: expected an LSTM among the tensors, got none")
    found = {
        "input_size": lstms[0]["input_size"],
        "hidden_size": lstms[0]["hidden_size"],
        "num_layers": sum(options.get("num_layers", 1) for options in lstms),
        "output_size": heads[-1]["out_features"] if heads else lstms[-1]["hidden_size"],
    }
    for name, value in found.items():
        if name in data and integer_of(f"model_data.{name}", data[name]) != value:
            raise ValueError(f"model_data.{name}: expected {data[name]}, as it says, got weights for {value}")


def _tensors_in(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give what may be a tensor: a list, under a name as PyTorch's tensors have."""
    return {name: value for name, value in content.items() if isinstance(value, list) and _is_parameter(name)}


def _is_parameter(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf.startswith(("weight", "bias"))


def _dimensions(value: Any) -> int:
    dimensions = 0
    while isinstance(value, list) and dimensions < 8:
        dimensions += 1
        value = value[0] if value else None
    return dimensions


def _rounded(part: Part, dtype: str) -> Part:
    tensors = {name: rounded(f"{part.origin}: {name}", array, dtype) for name, array in part.tensors.items()}
    return Part(part.layer, part.options, tensors, part.origin)
