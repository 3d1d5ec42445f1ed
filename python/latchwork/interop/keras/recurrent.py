"""Keras's recurrent layers as LSTMs of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork.interop.chain import Part
from latchwork.interop.found import FoundLSTM
from latchwork.interop.keras.activations import activation_of
from latchwork.interop.keras.configs import Layer, Unsupported, flag, number, size
from latchwork.lstm import LSTM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latchwork._arrays import Array

_GATES = ("input", "forget", "output")
_DEFAULTS = {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "candidate": "tanh", "cell": "tanh"}
_MERGES = ("concat", "sum", "mul", "ave")


@dataclass(frozen=True)
class Run:
    """How a recurrent layer goes over its steps."""

    cells: tuple[Layer, ...]
    backwards: bool
    sequences: bool
    zero_output: bool  # whether masked steps give zeros rather than the output before them


def is_lstm(layer: Layer) -> bool:
    """Whether a layer, or what it wraps, is an LSTM over time."""
    if layer.kind == "Bidirectional":
        return all(is_lstm(child) for child in layer.children)
    if layer.kind == "RNN":
        return bool(cells_of(layer)) and all(cell.kind == "LSTMCell" for cell in cells_of(layer))
    return layer.kind in ("LSTM", "CuDNNLSTM")


def cells_of(layer: Layer) -> list[Layer]:
    """Give those layers in a recurrent layer, or that one itself, that have the numbers of cells, in Keras's order."""
    if layer.kind == "Bidirectional" or layer.kind in ("RNN", "StackedRNNCells"):
        return [cell for child in layer.children for cell in cells_of(child)]
    return [layer]


def run_of(layer: Layer) -> Run:
    """Read how one direction runs.

    Raises
    ------
    Unsupported
        If it runs in a way that we have not.
    """
    if flag(layer, "time_major"):
        raise Unsupported("time_major=True")
    return Run(
        tuple(cells_of(layer)),
        flag(layer, "go_backwards"),
        flag(layer, "return_sequences"),
        flag(layer, "zero_output_for_mask"),
    )


def both_runs(layer: Layer) -> tuple[Run, Run]:
    """Read how the directions of a Bidirectional run, which writes zeros at masked steps if it gives sequences.

    Raises
    ------
    Unsupported
        If a stack of our LSTMs cannot hold both.
    """
    first, second = (run_of(child) for child in layer.children)
    if len(first.cells) > 1 or len(second.cells) > 1:
        raise Unsupported("several cells in each direction, which see only their own direction")
    if first.backwards == second.backwards:
        raise Unsupported("two directions that run the same way")
    if first.sequences != second.sequences:
        raise Unsupported("return_sequences in one direction alone")
    units = [size(run.cells[0], "units") for run in (first, second)]
    if units[0] != units[1]:
        raise Unsupported(f"directions of {units[0]} and {units[1]} units")
    return replace(first, zero_output=first.sequences), replace(second, zero_output=second.sequences)


def merge_of(layer: Layer) -> str | None:
    """Give how a Bidirectional joins its directions. Unsupported if we cannot."""
    merge = layer.config.get("merge_mode", "concat")
    if merge is not None and merge not in _MERGES:
        raise Unsupported(f"merge_mode={merge!r:.80}")
    return None if merge is None else str(merge)


def parts_of_run(run: Run, keras3: bool, origin: str) -> Iterator[Part]:
    """Make the LSTMs of one direction: one for each cell, each on top of the one before."""
    suffix = "_reverse" if run.backwards else ""
    for cell in run.cells:
        weights = weights_of(cell)
        options = _options(cell, weights, keras3)
        if run.backwards:
            options["reverse"] = True
        yield Part(LSTM, options, _tensors(weights, suffix, len(weights) > 2), origin)


def part_of_both(forward: Layer, backward: Layer, merge: str, keras3: bool, origin: str) -> Part:
    """Make one LSTM of the cells of both directions."""
    weights = [weights_of(cell) for cell in (forward, backward)]
    options, others = (
        _options(cell, tensors, keras3) for cell, tensors in zip((forward, backward), weights, strict=True)
    )
    if options["input_size"] != others["input_size"]:
        raise Unsupported(f"directions of {options['input_size']} and {others['input_size']} inputs")
    bias = any(len(tensors) > 2 for tensors in weights)
    activations = [each.pop("activations", {}) for each in (options, others)]
    if activations[0] != activations[1]:
        options["activations"] = tuple(activations)
    elif activations[0]:
        options["activations"] = activations[0]
    if options.get("recurrent_dropout") != others.get("recurrent_dropout"):
        raise Unsupported("different recurrent_dropout in both directions")
    options |= {"bidirectional": True, "bias": bias}
    if merge != "concat":
        options["merge"] = merge
    tensors = _tensors(weights[0], "", bias) | _tensors(weights[1], "_reverse", bias)
    return Part(LSTM, options, tensors, origin)


def found(layer: Layer, path: str, keras3: bool) -> FoundLSTM:
    """Describe a recurrent layer for a list, whether or not it can be taken out."""
    direction = "both" if layer.kind == "Bidirectional" else "reverse" if flag(layer, "go_backwards") else "forward"
    cells = cells_of(layer)
    inputs, options, obstacles = 0, {}, []
    try:
        inputs = len(weights_of(cells[0])[0])
        own = ("input_size", "hidden_size", "reverse", "bidirectional")
        options = {name: value for name, value in parts_alone(layer, keras3)[0].options.items() if name not in own}
        if options["bias"]:
            del options["bias"]
    except Unsupported as error:
        obstacles.append(f"it has {error}")
    except ValueError as error:  # a layer that was never built has no numbers
        obstacles.append(str(error))
    return FoundLSTM(path, inputs, size(cells[-1], "units"), direction, options, tuple(obstacles))


def parts_alone(layer: Layer, keras3: bool) -> list[Part]:
    """Make the LSTMs of a recurrent layer, each over all steps."""
    if layer.kind == "Bidirectional":
        first, second = both_runs(layer)
        forward, backward = (second, first) if first.backwards else (first, second)
        merge = merge_of(layer) or "concat"
        return [part_of_both(forward.cells[0], backward.cells[0], merge, keras3, f"layer {layer.name!r}")]
    return list(parts_of_run(run_of(layer), keras3, f"layer {layer.name!r}"))


def weights_of(cell: Layer) -> list[Array]:
    """Give a cell's kernel (in, 4H), recurrent kernel (H, 4H) and, if it has them, biases (4H,), or (8H,) by cuDNN.

    Raises
    ------
    ValueError
        If they do not fit the configuration.
    """
    units = size(cell, "units")
    count = 3 if flag(cell, "use_bias", True) else 2
    weights = list(cell.weights(count))
    shapes = [weight.shape for weight in weights]
    inputs = shapes[0][0] if shapes and len(shapes[0]) == 2 else None
    expected = [(inputs, 4 * units), (units, 4 * units), (4 * units,)][:count]
    if shapes not in (expected, [*expected[:2], (8 * units,)]) or not inputs:
        raise ValueError(f"{cell}: expected weights of shapes {_text(expected)}, got {_text(shapes)}")
    return weights


def _text(shapes: Sequence[Any]) -> str:
    return " ".join(str(shape).replace("None", "in") for shape in shapes) or "none, as a layer that was never built has"


def _options(cell: Layer, weights: Sequence[Array], keras3: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "input_size": len(weights[0]),
        "hidden_size": size(cell, "units"),
        "bias": len(weights) > 2,
    }
    activations = {}
    if cell.kind != "CuDNNLSTM":
        gates = activation_of(cell.config.get("recurrent_activation", "sigmoid"), keras3) or "affine"
        content = activation_of(cell.config.get("activation", "tanh"), keras3) or "affine"
        activations = {name: gates if name in _GATES else content for name in _DEFAULTS}
        activations = {name: value for name, value in activations.items() if value != _DEFAULTS[name]}
    if activations:
        options["activations"] = activations
    dropout = number(cell, "recurrent_dropout", 0.0)
    if dropout:
        options["recurrent_dropout"] = dropout
    return options


def _tensors(weights: Sequence[Array], suffix: str, bias: bool) -> dict[str, Array]:
    """Name a cell's numbers as ours; Keras's gates stand in our order."""
    kernel, recurrent, *biases = weights
    units = len(recurrent)
    if biases and len(biases[0]) == 8 * units:
        # cuDNN's kernels: a block of (in, H) holds the numbers of (H, in) row by row.
        blocks = [block.reshape(units, -1) for block in np.split(kernel, 4, axis=1)]
        both = np.split(biases[0], 2)
        tensors = {"weight_ih": np.concatenate(blocks), "weight_hh": np.concatenate(np.split(recurrent, 4, axis=1))}
    else:
        tensors = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
        one = biases[0] if biases else np.zeros(4 * units, kernel.dtype)
        both = [one, np.zeros_like(one)]
    if bias:
        tensors |= {"bias_ih": both[0], "bias_hh": both[1]}
    return {f"{name}_l0{suffix}": tensor for name, tensor in tensors.items()}
