"""The layers of a Keras model as the parts of our chain, or what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import latchwork as lw
from latchwork.interop.chain import Part, activated
from latchwork.interop.keras.activations import LAYERS, activation_of, of_layer
from latchwork.interop.keras.configs import Layer, Unsupported, flag, number, size
from latchwork.interop.keras.recurrent import both_runs, is_lstm, merge_of, part_of_both, parts_of_run, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork.interop.keras.order import Step

# What drops or adds noise in training, in ways that none of our layers has.
_ONLY_IN_TRAINING = (
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
)


@dataclass
class Chain:
    """A chain as far as it is made.

    Attributes
    ----------
    keras3 : bool
        Whether Keras 3 wrote the model.
    parts : list of Part
        What became of the layers so far.
    problems : dict
        What stands in the way, by the place of the layer.
    sequence : bool
        Whether there is an axis of steps at this point.
    masked : bool
        Whether some steps are masked at this point.
    zero_output : bool
        Whether the last recurrent layer gives zeros at masked steps.
    """

    keras3: bool
    parts: list[Part] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    sequence: bool = True
    masked: bool = False
    turned: bool = False  # the mask stands the other way round than the steps
    zero_output: bool = False
    features: int | None = None
    is_end: bool = False  # whether the layer at hand is the last one

    def add(self, layer: type[Any], origin: str, tensors: dict[str, Any] | None = None, **options: Any) -> None:
        """Add a part."""
        self.parts.append(Part(layer, options, tensors or {}, origin))


def chain_of(steps: Sequence[Step], keras3: bool) -> Chain:
    """Convert the layers of a chain one by one, and collect what is in the way."""
    chain = Chain(keras3)
    for place, step in enumerate(steps):
        chain.is_end = place == len(steps) - 1
        convert = _converter(step.layer)
        try:
            if convert is None:
                raise Unsupported(" and ".join(map(str, step.layer.children)))
            if not is_lstm(step.layer) and step.taken != (0,):
                raise Unsupported("several outputs")
            convert(chain, step)
        except Unsupported as error:
            chain.problems[place] = f"{step.layer}" + (f" with {error}" if str(error) else "")
    if chain.masked and chain.zero_output:
        option = "output" if chain.parts[0].layer is lw.Mask else "mask_output"
        chain.parts[0] = replace(chain.parts[0], options={**chain.parts[0].options, option: "zero"})
    return chain


def is_known(layer: Layer) -> bool:
    """Whether a chain of ours can hold layers of this class."""
    return _converter(layer) is not None


def _converter(layer: Layer) -> Callable[[Chain, Step], None] | None:
    if is_lstm(layer):
        return _lstm
    if layer.kind in LAYERS:
        return _activation
    if layer.kind in _ONLY_IN_TRAINING:
        return _nothing
    return _CONVERTERS.get(layer.kind)


def _nothing(chain: Chain, step: Step) -> None:
    pass


def _embedding(chain: Chain, step: Step) -> None:
    layer = step.layer
    if chain.parts:
        raise Unsupported("layers before it")
    (weight,) = _numbers(layer, [(size(layer, "input_dim"), size(layer, "output_dim"))])
    options: dict[str, Any] = {"num_embeddings": weight.shape[0], "embedding_dim": weight.shape[1]}
    if flag(layer, "mask_zero"):
        options["mask_token"] = 0
        chain.masked = True
    chain.features = weight.shape[1]
    chain.add(lw.Embedding, _origin(layer), {"weight": weight}, **options)


def _masking(chain: Chain, step: Step) -> None:
    if chain.parts:
        raise Unsupported("layers before it")
    chain.add(lw.Mask, _origin(step.layer), value=number(step.layer, "mask_value", 0.0))
    chain.masked = True


def _lstm(chain: Chain, step: Step) -> None:
    layer = step.layer
    if not chain.sequence:
        raise Unsupported("one result of all steps before it")
    if chain.turned:
        raise Unsupported("a mask whose steps go_backwards before it has turned round")
    if layer.kind == "Bidirectional":
        _bidirectional(chain, step)
        return
    run = run_of(layer)
    state = 0 not in step.taken
    if step.taken not in ((0,), (1,)) and not (chain.is_end and step.taken[0] < 2):
        raise Unsupported("its cell state goes on")
    if state and len(run.cells) > 1:
        raise Unsupported("the state of one of several cells goes on")
    chain.parts += parts_of_run(run, chain.keras3, _origin(layer))
    _end(chain, layer, replace(run, sequences=False, zero_output=False) if state else run)


def _bidirectional(chain: Chain, step: Step) -> None:
    layer = step.layer
    merge = merge_of(layer)
    first, second = both_runs(layer)
    outputs = 1 if merge is not None else 2
    taken = tuple(index for index in step.taken if index < outputs)
    if not taken or (len(taken) < len(step.taken) and not chain.is_end):
        raise Unsupported("its state goes on")
    if merge is None and len(taken) == 1:
        _one_direction(chain, step, (first, second)[taken[0]], taken[0] == 1)
        return
    merge = merge or step.merge or "concat"
    if merge == "concat" and step.merge is None and not chain.is_end and merge_of(layer) is None:
        raise Unsupported("merge_mode=None")
    if first.backwards and merge == "concat":
        raise Unsupported("the backward direction first")
    forward, backward = (second, first) if first.backwards else (first, second)
    part = part_of_both(forward.cells[0], backward.cells[0], merge, chain.keras3, _origin(layer))
    chain.parts.append(part)
    _end(chain, layer, replace(first, backwards=first.backwards))
    if merge == "concat":
        chain.features = 2 * (chain.features or 0)


def _one_direction(chain: Chain, step: Step, run: Any, turned: bool) -> None:
    """Convert one of the two outputs of merge_mode=None; that of the second direction is turned round once more."""
    chain.parts += parts_of_run(run, chain.keras3, _origin(step.layer))
    _end(chain, step.layer, replace(run, backwards=run.backwards != turned))


def _end(chain: Chain, layer: Layer, run: Any) -> None:
    """Bring the output into Keras's form: the last step alone, or all in the order in which they were computed."""
    chain.features = chain.parts[-1].options["hidden_size"]
    chain.zero_output = run.zero_output
    if not run.sequences:
        if chain.masked and run.zero_output:
            raise Unsupported("zero_output_for_mask=True for the last step alone")
        chain.add(lw.Last, _origin(layer))
        chain.sequence = chain.masked = False
    elif run.backwards:
        chain.add(lw.Reverse, _origin(layer))
        chain.turned = chain.masked


def _dense(chain: Chain, step: Step) -> None:
    layer = step.layer
    if layer.config.get("quantization_config") is not None or layer.config.get("lora_rank") is not None:
        raise Unsupported("quantized or low-rank weights")
    bias, units = flag(layer, "use_bias", True), size(layer, "units")
    activation = activation_of(layer.config.get("activation"), chain.keras3)
    kernel, *biases = _numbers(layer, [(chain.features, units), (units,)][: 2 if bias else 1])
    tensors = {"weight": kernel.T} | ({"bias": biases[0]} if bias else {})
    options: dict[str, Any] = {"in_features": len(kernel), "out_features": units, "bias": bias}
    if activation is not None:
        options["activation"] = activation
    chain.features = units
    chain.add(lw.Linear, _origin(layer), tensors, **options)


def _numbers(layer: Layer, shapes: list[tuple[int | None, ...]]) -> list[Any]:
    """Give a layer's numbers, which have shapes as expected; None stands for any size.

    Raises
    ------
    ValueError
        If they have not.
    """
    weights = list(layer.weights(len(shapes)))
    got = [weight.shape for weight in weights]
    fits = len(got) == len(shapes) and all(
        len(one) == len(other) and all(wanted in (None, had) for had, wanted in zip(one, other, strict=True))
        for one, other in zip(got, shapes, strict=True)
    )
    if not fits:
        raise ValueError(f"{layer}: expected weights of shapes {shapes}, got {got}")
    return weights


def _activation(chain: Chain, step: Step) -> None:
    chain.parts = activated(chain.parts, of_layer(step.layer, chain.keras3), _origin(step.layer))


def _dropout(chain: Chain, step: Step) -> None:
    rate = number(step.layer, "rate", 0.0)
    # A noise_shape drops the same numbers at several steps, or in several rows.
    if rate and step.layer.config.get("noise_shape") is None:
        chain.add(lw.Dropout, _origin(step.layer), p=rate)


def _pooling(chain: Chain, step: Step) -> None:
    layer = step.layer
    if not chain.sequence:
        raise Unsupported("one result of all steps before it")
    if layer.config.get("data_format") not in (None, "channels_last"):
        raise Unsupported(f"data_format={layer.config['data_format']!r:.80}")
    if flag(layer, "keepdims"):
        raise Unsupported("keepdims=True")
    if chain.masked and layer.kind == "GlobalMaxPooling1D":
        raise Unsupported("masked steps before it, which it counts too")
    if chain.turned:
        raise Unsupported("a mask whose steps go_backwards before it has turned round")
    chain.add(lw.Mean if layer.kind == "GlobalAveragePooling1D" else lw.Max, _origin(layer))
    chain.sequence = chain.masked = False


def _reshaping(chain: Chain, step: Step) -> None:
    """Leave out a layer that changes no shape. Unsupported if it does, or may do."""
    layer, features = step.layer, chain.features
    if layer.kind == "Flatten":
        same = not chain.sequence
    elif layer.kind == "Permute":
        same = layer.config.get("dims") == ([1, 2] if chain.sequence else [1])
    else:
        target = layer.config.get("target_shape")
        steps = -1 if chain.sequence else None
        same = features is not None and list(target or ()) in ([steps, features], [features] if not steps else [])
        same = same or (not chain.sequence and target == [-1])
    if not same:
        raise Unsupported("a new shape")


def _per_step(chain: Chain, step: Step) -> None:
    inner = step.layer.children[0]
    convert = None if is_lstm(inner) or inner.kind in _NOT_PER_STEP else _converter(inner)
    if convert is None or not chain.sequence:
        raise Unsupported(f"{inner}")
    convert(chain, replace(step, layer=inner))


def _item(chain: Chain, step: Step) -> None:
    """Convert ``x[:, -1]`` behind a forward direction."""
    whole = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}
    keys = step.node.arguments if step.node else []
    lstms = [part for part in chain.parts if part.layer is lw.LSTM]
    forward = lstms and not lstms[-1].options.get("bidirectional") and not lstms[-1].options.get("reverse")
    if keys not in ([[whole, -1]], [[whole, -1, whole]]) or not chain.sequence or not forward:
        raise Unsupported("steps of its own choice")
    if chain.masked and chain.zero_output:
        raise Unsupported("a last step that may be masked")
    chain.add(lw.Last, _origin(step.layer))
    chain.sequence = chain.masked = False


def _origin(layer: Layer) -> str:
    return f"layer {layer.name!r}"


def dtype_of(parts: Sequence[Part]) -> str:
    """Give float64 if any of the numbers is, else float32."""
    doubles = any(np.asarray(tensor).dtype.itemsize == 8 for part in parts for tensor in part.tensors.values())
    return "float64" if doubles else "float32"


_CONVERTERS: dict[str, Callable[[Chain, Step], None]] = {
    "InputLayer": _nothing,
    "Embedding": _embedding,
    "Masking": _masking,
    "Dense": _dense,
    "Dropout": _dropout,
    "TimeDistributed": _per_step,
    "GlobalAveragePooling1D": _pooling,
    "GlobalMaxPooling1D": _pooling,
    "Flatten": _reshaping,
    "Reshape": _reshaping,
    "Permute": _reshaping,
    "GetItem": _item,
}
_NOT_PER_STEP = ("InputLayer", "Embedding", "Masking", "TimeDistributed", "GetItem", "Flatten", "Reshape", "Permute",
                 "GlobalAveragePooling1D", "GlobalMaxPooling1D")  # fmt: skip
