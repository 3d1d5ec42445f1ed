"""To RTNeural's JSON, with AIDA-X's gains and skip where the model has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from latchwork.activation import Activation
from latchwork.input_layers import Scale
from latchwork.interop.chain import WITHOUT_EFFECT, joined_bias, layers_of, only_options
from latchwork.interop.json_files import hertz, plain, write_object
from latchwork.layers import Dropout, Linear
from latchwork.lstm import LSTM
from latchwork.step_layers import InputSkip

if TYPE_CHECKING:
    from latchwork._module import Module
    from latchwork._writing import FilePath

_ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax")


def to_rtneural(model: Any, file: FilePath, *, sample_rate: float | None = None) -> None:
    """Write a model as RTNeural and AIDA-X read it.

    Parameters
    ----------
    model : LSTM, Linear, Network or fitted estimator
        LSTMs in forward direction without variants, Linear layers without an activation or with "tanh", "relu",
        "sigmoid", "elu" or "softmax", and `Activation` of these. Around them may stand what AIDA-X has: a `Scale` of
        the input's first feature, an `InputSkip`, and a `Scale` of the output. Dropout, which does nothing outside
        training, is left out.
    file : str, bytes or os.PathLike
        Where to write, as ``save`` does.
    sample_rate : float, optional
        Hertz, above 0, for ``samplerate``, which AIDA-X reads. None: nothing is said.

    Raises
    ------
    ValueError
        If the format cannot hold the model: the message names the layer or the option. If a number is not finite.
    TypeError
        If it is no such model.
    OSError
        If the file cannot be written.
    """
    rate = None if sample_rate is None else hertz(sample_rate)
    layers = [layer for layer in layers_of(model) if not isinstance(layer, Dropout)]
    content = _around(layers)
    size = None
    written: list[dict[str, Any]] = []
    for layer in layers:
        for each in _entries(layer, size):
            size = each["shape"][-1]
            written.append(each)
    if not written or size is None:
        raise ValueError("model: expected an LSTM or a Linear, got none")
    first = next(layer for layer in layers if isinstance(layer, (LSTM, Linear)))
    inputs = first.input_size if isinstance(first, LSTM) else first.in_features
    content = {"in_shape": [None, None, inputs], **content, "layers": written}
    if rate is not None:
        content["samplerate"] = rate
    write_object(file, content)


def _around(layers: list[Module]) -> dict[str, Any]:
    """Take gains and skip off both ends of a chain, and give them as AIDA-X has them."""
    content: dict[str, Any] = {}
    gain = 1.0
    if layers and isinstance(layers[0], Scale):
        gain, *others = layers[0].factor
        if any(layers[0].shift) or any(other != 1 for other in others):
            raise ValueError("Scale at the input: expected shift 0, and factor 1 for all features but the first")
        content["in_gain"] = _decibels(gain)
        del layers[0]
    if layers and isinstance(layers[-1], Scale):
        factors = set(layers[-1].factor)
        if any(layers[-1].shift) or len(factors) > 1:
            raise ValueError("Scale at the output: expected shift 0, and one factor for all features")
        content["out_gain"] = _decibels(factors.pop())
        del layers[-1]
    if layers and isinstance(layers[-1], InputSkip):
        skip = layers[-1]
        if skip.features != 1 or not math.isclose(skip.factor, gain, rel_tol=1e-6):
            raise ValueError(
                f"InputSkip: expected 1 feature and the factor {gain} of the input's Scale, got {skip.features} and "
                f"{skip.factor}"
            )
        content["in_skip"] = 1
        del layers[-1]
    return content


def _decibels(factor: float) -> float:
    if not factor > 10**-4.5:
        raise ValueError(f"Scale: expected a factor that is a gain of more than -90 decibels, got {factor}")
    return 20 * math.log10(factor)


def _entries(layer: Module, size: int | None) -> list[dict[str, Any]]:
    """Write one layer, which is several entries if it is a stack of LSTMs."""
    tensors = layer.state_dict()
    if isinstance(layer, LSTM):
        only_options(layer, ("input_size", "hidden_size", "num_layers", "bias", *WITHOUT_EFFECT), "RTNeural's lstm")
        return [
            {
                "type": "lstm",
                "activation": "tanh",
                "shape": [None, None, layer.hidden_size],
                "weights": [
                    plain(tensors[f"weight_ih_l{index}"].T),
                    plain(tensors[f"weight_hh_l{index}"].T),
                    plain(joined_bias(layer, tensors, index)),
                ],
            }
            for index in range(layer.num_layers)
        ]
    if isinstance(layer, Linear):
        bias = plain(tensors["bias"]) if layer.bias else [0.0] * layer.out_features
        return [
            {
                "type": "dense",
                "activation": _activation(layer.activation),
                "shape": [None, None, layer.out_features],
                "weights": [plain(tensors["weight"].T), bias],
            }
        ]
    if isinstance(layer, Activation) and size is not None:
        name = _activation(layer.activation)
        return [{"type": "activation", "activation": name, "shape": [None, None, size], "weights": []}]
    raise ValueError(f"expected layers that RTNeural has, got {type(layer).__name__}")


def _activation(activation: Any) -> str:
    """Give RTNeural's name of an activation."""
    if activation is None:
        return ""
    name, *numbers = (activation,) if isinstance(activation, str) else activation
    if name == "elu" and numbers[:1] in ([], [1.0]):
        return "elu"
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(_ACTIVATIONS)} and elu, got {activation!r}")
    return str(name)
