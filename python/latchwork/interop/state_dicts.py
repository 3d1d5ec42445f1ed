"""State dictionaries: tensors under PyTorch's names, the layers that they belong to, and chains of these.

They come from PyTorch, from safetensors files and from JSON; nothing here needs any of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork._arrays import shape_text
from latchwork.interop.chain import Part, part_of
from latchwork.interop.found import FoundLSTM, refusal
from latchwork.layers import Embedding, Linear, Parameterless
from latchwork.lstm import LSTM
from latchwork.lstm_cell import LSTMCell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latchwork._arrays import Array

# What stands after a layer's name: one word, or the names that wrappers of weights make several words of.
_LEAF = re.compile(r"(?:^|\.)((?:parametrizations|_packed_params|_all_weight_values)\..+|[^.]+)$")
# The tensors of variants that say what they are; other options (activations, clip, zoneout) leave none.
_VARIANT = r"weight_peephole|norm_(?:ih|hh|cell)_(?:weight|bias)|[hc]_0"
_OF_LAYER = rf"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh|{_VARIANT})"
_STACKED = re.compile(rf"{_OF_LAYER}_l(\d{{1,4}})(_reverse)?")
_CELL = re.compile(_OF_LAYER)
# The options, in the core's words, that the tensors of an LSTM or a cell say by their names and shapes.
SAID_BY_TENSORS = (
    "input_size", "hidden_size", "num_layers", "bias", "proj_size", "direction", "peephole", "layer_norm",
    "learn_start_state",
)  # fmt: skip
# How the names of a variant's tensors begin.
_STARTS: dict[str, str | tuple[str, ...]] = {
    "peephole": "weight_peephole",
    "layer_norm": "norm_",
    "learn_start_state": ("h_0", "c_0"),
}
_WRAPPED = re.compile(r"parametrizations\.|weight\w*_(g|v|orig)$")
_QUANTISED = re.compile(r"_packed_params|_all_weight_values|(scale|zero_point)$")
_DEPTH = 4  # of the mappings within a checkpoint that are looked at
_ENTRIES = 100_000  # that a checkpoint may have


@dataclass(frozen=True)
class Group:
    """The tensors of one layer by their own names, which ``prefix`` comes before."""

    prefix: str
    tensors: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What the layer is, as far as the names and shapes of its tensors tell."""
        names, shapes = list(self.tensors), {name: _shape(tensor) for name, tensor in self.tensors.items()}
        if any(_WRAPPED.match(name) for name in names):
            return "a layer whose weights are computed from others, as by weight_norm, spectral_norm or pruning"
        if any(_QUANTISED.match(name) for name in names):
            return "a quantised layer"
        for end, name in (("_l0", "LSTM"), ("_l0_reverse", "LSTM"), ("", "LSTMCell")):
            if f"weight_ih{end}" in shapes and f"weight_hh{end}" in shapes:
                of_hidden = shapes[f"weight_hh{end}"]
                if f"weight_hr{end}" in shapes or len(of_hidden) != 2 or of_hidden[1] < 1:
                    return name
                gates = of_hidden[0] / of_hidden[1]
                return name.replace("LSTM", "GRU" if gates == 3 else "RNN" if gates == 1 else "LSTM")
        dimensions = len(shapes.get("weight", ()))
        if dimensions == 2 and set(names) <= {"weight", "bias"}:
            return "Linear" if "bias" in names else "Embedding, or Linear without a bias"
        if dimensions in (3, 4, 5):
            return f"Conv{dimensions - 2}d"
        if dimensions == 1:
            return "BatchNorm" if "running_mean" in names else "a norm"
        return "a layer of a kind unknown here"

    @property
    def is_lstm(self) -> bool:
        """Whether it is an LSTM or a cell of one."""
        return self.kind in ("LSTM", "LSTMCell")

    def __str__(self) -> str:
        """Name it, and say what it is."""
        weight = self.tensors.get("weight")
        shape = f" {shape_text(_shape(weight))}" if weight is not None else ""
        return f"{self.prefix!r} ({self.kind}{shape})"


def flattened(checkpoint: Mapping[Any, Any], is_tensor: Callable[[Any], bool]) -> dict[str, Any]:
    """Find the state dictionary in a checkpoint, which may hold an optimiser's and other things beside it.

    Parameters
    ----------
    checkpoint : mapping
        A state dictionary, or a mapping that holds one or more: {"model": ..., "optimizer": ...}.
    is_tensor : callable
        Says what is a tensor.

    Returns
    -------
    dict
        The tensors by name. Where several mappings hold LSTMs, those of all, with the mapping's name in front. What
        wrappers of modules put in front of all names (``module.``, ``_orig_mod.``) is gone.
    """
    found: dict[str, dict[str, Any]] = {}
    count = 0

    def visit(mapping: Mapping[Any, Any], path: str, depth: int) -> None:
        nonlocal count
        tensors = {}
        for name, value in mapping.items():
            count += 1
            if count > _ENTRIES:
                raise ValueError(f"expected a checkpoint of at most {_ENTRIES:,} entries, got more")
            if not isinstance(name, str):
                continue
            if isinstance(value, Mapping) and depth < _DEPTH:
                visit(value, f"{path}{name}.", depth + 1)
            elif is_tensor(value):
                tensors[name] = value
        if tensors:
            found[path] = unwrapped(tensors)

    visit(checkpoint, "", 1)
    with_lstms = {path: tensors for path, tensors in found.items() if any(map(_is_recurrent, groups(tensors)))}
    chosen = with_lstms or found
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    return {f"{path}{name}": tensor for path, tensors in chosen.items() for name, tensor in tensors.items()}


def unwrapped(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Take out of the names what DataParallel and torch.compile put there."""
    names = {name: name.replace("_orig_mod.", "") for name in tensors}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {original: name.removeprefix("module.") for original, name in names.items()}
    if len(set(names.values())) < len(names):
        return dict(tensors)
    return {names[original]: tensor for original, tensor in tensors.items()}


def groups(tensors: Mapping[str, Any]) -> list[Group]:
    """Sort tensors by layer, in the order in which the layers come."""
    layers: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        match = _LEAF.search(name)
        leaf = match[1] if match else name
        layers.setdefault(name[: len(name) - len(leaf)].removesuffix("."), {})[leaf] = tensor
    return [Group(prefix, leaves) for prefix, leaves in layers.items()]


def found_lstms(tensors: Mapping[str, Any]) -> list[FoundLSTM]:
    """List the LSTMs among tensors, and what stands beside each of them. Those that fit no LSTM are left out."""
    all_groups = groups(tensors)
    found = []
    for group in all_groups:
        if not group.is_lstm:
            continue
        try:
            part = _recurrent(group, _shape_only)
        except ValueError:
            continue
        options = dict(part.options)
        sizes = options.pop("input_size"), options.pop("hidden_size")
        direction = (
            "both" if options.get("bidirectional") else "reverse" if options.pop("reverse", False) else "forward"
        )
        differing = {
            name: value
            for name, value in options.items()
            if value != {"bias": True, "num_layers": 1}.get(name, value if name == "bidirectional" else 0)
        }
        if part.layer is LSTMCell:
            differing["cell"] = True
        others = tuple(f"{other} beside it" for other in all_groups if other is not group)
        found.append(FoundLSTM(group.prefix, *sizes, direction, differing, others))
    return found


def parts_of(tensors: Mapping[str, Any], prefix: Any, source: str, convert: Callable[[str, Any], Array]) -> list[Part]:
    """Make a chain of the layers of a state dictionary.

    Parameters
    ----------
    tensors : mapping
        Tensors by name.
    prefix : str, sequence or None
        The layer's name; or the names of several in the order in which they follow each other, among them layers of
        Latchwork's that have no parameters. None: there is one layer, an LSTM.
    source : str
        What the tensors come from, for messages.
    convert : callable
        Makes an array of a tensor, whose name it gets for messages.

    Raises
    ------
    ValueError
        If the tensors do not say what was asked for, or contradict each other.
    TypeError
        If ``prefix`` is of another type.
    """
    all_groups = groups(tensors)
    if prefix is None:
        return [_recurrent(_only_lstm(all_groups, tensors, source), convert)]
    items = names_of_prefix(prefix)
    layers = [_named(all_groups, tensors, item, source) if isinstance(item, str) else item for item in items]
    parts: list[Part] = []
    for place, layer in enumerate(layers):
        if isinstance(layer, Parameterless):
            parts.append(part_of(layer))
        elif layer.is_lstm:
            parts.append(_recurrent(layer, convert))
        else:
            later = next((each for each in layers[place + 1 :] if isinstance(each, Group)), None)
            first = not any(isinstance(each, Group) for each in layers[:place])
            parts.append(_of_weight(layer, later, first, convert))
    return as_sequence(parts) if len(parts) > 1 else parts


def names_of_prefix(prefix: Any) -> list[Any]:
    """Check ``prefix``, and give it as a list. TypeError or ValueError."""
    items = [prefix] if isinstance(prefix, (str, Parameterless)) else prefix
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, Parameterless)) for item in items):
        types = sorted({type(item).__name__ for item in items}) if isinstance(items, (list, tuple)) else []
        got = f"a list of {', '.join(types)}" if types else type(prefix).__name__
        raise TypeError(f"prefix: expected a str, or a list of str and of layers without parameters, got {got}")
    if not items:
        raise ValueError("prefix: expected at least one name, got none")
    return list(items)


def as_sequence(parts: Sequence[Part]) -> list[Part]:
    """Make LSTMs of cells, because a chain runs over time."""
    return [
        Part(LSTM, part.options, {f"{name}_l0": tensor for name, tensor in part.tensors.items()}, part.origin)
        if part.layer is LSTMCell
        else part
        for part in parts
    ]


def described_as_lstm(tensors: Mapping[str, Array], origin: str) -> Part:
    """Read sizes and options of an LSTM off the shapes of its tensors. ValueError if they contradict each other."""
    return _recurrent(Group(origin, tensors), lambda name, tensor: tensor)


def _only_lstm(all_groups: list[Group], tensors: Mapping[str, Any], source: str) -> Group:
    if len(all_groups) == 1 and all_groups[0].is_lstm:
        return all_groups[0]
    listed = "; ".join(map(str, all_groups[:20])) + ("; ..." if len(all_groups) > 20 else "")
    if not any(group.is_lstm for group in all_groups):
        raise ValueError(f"{source}: expected the tensors of an LSTM, got {listed or 'none'}")
    reason = f"its tensors do not say in which order its {len(all_groups)} layers follow each other: {listed}"
    error = refusal(source, reason, found_lstms(tensors), "prefix")
    raise ValueError(f"{error}\nA list, such as prefix=['embedding', 'lstm', 'fc'], takes a chain out.")


def _named(all_groups: list[Group], tensors: Mapping[str, Any], name: str, source: str) -> Group:
    wanted = name.removesuffix(".")
    for candidate in (wanted, *unwrapped({f"{wanted}.x": None})):
        inside = candidate.removesuffix(".x")
        for group in all_groups:
            if group.prefix == inside:
                return group
    below = [group for group in all_groups if not wanted or group.prefix.startswith(f"{wanted}.")]
    if len(below) == 1 and below[0].is_lstm:
        return below[0]
    there = ", ".join(repr(group.prefix) for group in (below or all_groups)[:50])
    raise ValueError(f"{source}: prefix: expected the name of a layer, got {name!r}; there are {there or 'none'}")


def _recurrent(group: Group, convert: Callable[[str, Any], Array]) -> Part:
    """Read an LSTM or a cell."""
    if not group.is_lstm:
        raise ValueError(f"{_origin(group)}: expected an LSTM, got {group.kind}")
    if group.kind == "LSTMCell":
        _refuse_unknown(group, [name for name in group.tensors if not _CELL.fullmatch(name)])
        tensors = {name: convert(_full(group, name), tensor) for name, tensor in group.tensors.items()}
        sizes = _sizes({f"{name}_l0": tensor for name, tensor in tensors.items()}, group, (0,), ("",))
        return Part(LSTMCell, sizes, tensors, _origin(group))
    _refuse_unknown(group, [name for name in group.tensors if not _STACKED.fullmatch(name)])
    matches = [match for match in map(_STACKED.fullmatch, group.tensors) if match]
    layers = sorted({int(match[2]) for match in matches})
    if layers != list(range(len(layers))):
        raise ValueError(f"{_origin(group)}: expected layers 0 to {layers[-1]}, got {', '.join(map(str, layers[:9]))}")
    suffixes = tuple(sorted({match[3] or "" for match in matches}))
    tensors = {name: convert(_full(group, name), tensor) for name, tensor in group.tensors.items()}
    options = _sizes(tensors, group, tuple(layers), suffixes)
    options |= {"num_layers": len(layers), "bidirectional": len(suffixes) == 2}
    if suffixes == ("_reverse",):
        options["reverse"] = True
    return Part(LSTM, options, tensors, _origin(group))


def _sizes(tensors: Mapping[str, Any], group: Group, layers: Sequence[int], suffixes: Sequence[str]) -> dict[str, Any]:
    """Read the sizes of an LSTM off its first layer, and check all shapes against them."""
    shapes = {name: _shape(tensor) for name, tensor in tensors.items()}
    end = f"_l0{suffixes[0]}"
    first = shapes.get(f"weight_ih{end}", ())
    if len(first) != 2 or first[0] % 4 or 0 in first:
        got = shape_text(first)
        raise ValueError(f"{_full(group, 'weight_ih')}: expected (4 * hidden_size, input_size), got {got}")
    hidden, size = first[0] // 4, first[1]
    bias = f"bias_ih{end}" in shapes
    variants = {option: any(name.startswith(start) for name in shapes) for option, start in _STARTS.items()}
    projected = shapes.get(f"weight_hr{end}")
    if projected is not None and (len(projected) != 2 or not 0 < projected[0] < hidden):
        raise ValueError(
            f"{_full(group, f'weight_hr{end}')}: expected (proj_size, {hidden}), got {shape_text(projected)}"
        )
    out = projected[0] if projected else hidden
    expected: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        for suffix in suffixes:
            end = f"_l{layer}{suffix}"
            expected[f"weight_ih{end}"] = (4 * hidden, out * len(suffixes) if layer else size)
            expected[f"weight_hh{end}"] = (4 * hidden, out)
            if bias:
                expected |= {f"bias_ih{end}": (4 * hidden,), f"bias_hh{end}": (4 * hidden,)}
            if projected:
                expected[f"weight_hr{end}"] = (out, hidden)
            if variants["peephole"]:
                expected[f"weight_peephole{end}"] = (3 * hidden,)
            if variants["layer_norm"]:
                for normed, size_normed in (("ih", 4 * hidden), ("hh", 4 * hidden), ("cell", hidden)):
                    expected |= {f"norm_{normed}_{part}{end}": (size_normed,) for part in ("weight", "bias")}
            if variants["learn_start_state"]:
                expected |= {f"h_0{end}": (out,), f"c_0{end}": (hidden,)}
    for name, shape in expected.items():
        if name not in shapes:
            raise ValueError(f"{_full(group, name)}: expected {shape_text(shape)}, got none")
        if shapes[name] != shape:
            raise ValueError(f"{_full(group, name)}: expected {shape_text(shape)}, got {shape_text(shapes[name])}")
    _refuse_unknown(group, [name for name in shapes if name not in expected])
    options = {"input_size": size, "hidden_size": hidden, "bias": bias, "proj_size": out if projected else 0}
    return options | {option: True for option, there in variants.items() if there}


def _of_weight(group: Group, later: Group | None, first: bool, convert: Callable[[str, Any], Array]) -> Part:
    """Read a Linear, or at the beginning of a chain an Embedding."""
    if group.kind not in ("Linear", "Embedding, or Linear without a bias"):
        raise ValueError(f"{_origin(group)}: expected an LSTM, a Linear or an Embedding, got {group.kind}")
    tensors = {name: convert(_full(group, name), tensor) for name, tensor in group.tensors.items()}
    rows, columns = tensors["weight"].shape
    if "bias" not in tensors and first:
        size = None if later is None else _input_size(later)
        if (rows == size) == (columns == size):
            raise ValueError(
                f"{_origin(group)}: expected a weight that can only be an Embedding or a Linear's, got one of shape "
                f"{shape_text((rows, columns))}, which may be either; the module itself says which"
            )
        if columns == size:
            return Part(Embedding, {"num_embeddings": rows, "embedding_dim": columns}, tensors, _origin(group))
    if "bias" in tensors and tensors["bias"].shape != (rows,):
        raise ValueError(
            f"{_full(group, 'bias')}: expected {shape_text((rows,))}, as {_full(group, 'weight')} has {rows} rows, got "
            f"{shape_text(tensors['bias'].shape)}"
        )
    options = {"in_features": columns, "out_features": rows, "bias": "bias" in tensors}
    return Part(Linear, options, tensors, _origin(group))


def _input_size(group: Group) -> int | None:
    for name in ("weight_ih_l0", "weight_ih", "weight"):
        shape = _shape(group.tensors.get(name))
        if len(shape) == 2:
            return shape[1]
    return None


def _is_recurrent(group: Group) -> bool:
    return any("weight_ih" in name or "weight_hh" in name for name in group.tensors)


def _refuse_unknown(group: Group, names: Sequence[str]) -> None:
    if names:
        raise ValueError(f"{_origin(group)}: expected the tensors of an LSTM alone, got {', '.join(names[:9])} too")


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in getattr(tensor, "shape", ()))


def _shape_only(name: str, tensor: Any) -> Any:
    """Convert nothing: for listings, which need shapes alone."""
    return tensor


def _full(group: Group, name: str) -> str:
    return f"{group.prefix}.{name}" if group.prefix else name


def _origin(group: Group) -> str:
    return repr(group.prefix) if group.prefix else "the layer"


def floats(name: str, array: Array) -> Array:
    """Give float32 or float64 numbers; float16 becomes float32. ValueError for other dtypes."""
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype == np.float16:
        return array.astype(np.float32)
    raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")


def common_dtype(parts: Sequence[Part]) -> str:
    """Give the dtype that holds all numbers of a chain: float64 if some have it, or else float32."""
    wide = any(tensor.dtype == np.float64 for part in parts for tensor in part.tensors.values())
    return "float64" if wide else "float32"
