"""What a module's ``forward`` does, as a chain of layers: followed operation by operation, without numbers.

PyTorch's own tracer runs ``forward`` with stand-ins for tensors and writes down what is asked of them. Only what is
known here to be a chain passes; all else is an `Obstacle`, and never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from latchwork.interop.chain import Part, activated
from latchwork.interop.pytorch import activations
from latchwork.interop.pytorch.modules import extended, is_known, variant_of
from latchwork.layers import Dropout, Last, Max, Mean
from latchwork.lstm import LSTM
from latchwork.lstm_cell import LSTMCell

_ZEROS = {"zeros", "zeros_like", "new_zeros", "zero_"}
# What zeros stay zeros under, beside `_UNCHANGED`.
_ZEROS_OF_ANOTHER_SHAPE = {"requires_grad_", "type_as", "expand", "expand_as", "repeat", "unsqueeze", "view", "reshape"}
_UNCHANGED = {"contiguous", "to", "float", "double", "cpu", "cuda", "detach", "clone", "flatten_parameters"}
# What only asks for sizes and kinds.
_MEASURES = ("getattr", "size", "dim", "device", "type", "numel", "__len__", "len")
# Functions that may write over what they are given, and the place of that argument.
_INPLACE = {"relu": 1, "selu": 1, "silu": 1, "hardsigmoid": 1, "elu": 2, "leaky_relu": 2, "dropout": 3}


class Obstacle(ValueError):
    """Why a ``forward`` is no chain that can be followed."""


@dataclass(frozen=True)
class Value:
    """What one operation gives."""

    # "data", "lstm" (the pair that one gives), "state" (h_n and c_n), "h", "c", "forward end" and "reverse end" of h,
    # "padded" (data and lengths), "maximum" (values and places), "tokens" (the input as integers), "zero", "plumbing"
    # (sizes and what is made of them)
    what: str
    parts: tuple[Part, ...] = ()
    lstm: Any = None  # the LSTM module that it comes straight from
    pooled: bool = False  # one row for each sequence rather than one for each step
    argument: bool = False  # an argument of ``forward`` as it came
    packed: bool | None = None  # the batch_first of what is packed; None: it is not
    padding: bool = False  # unpacked, so that shorter sequences end in zeros


PLUMBING = Value("plumbing")


def followed(module: Any) -> tuple[list[Part], list[Any]]:
    """Follow ``forward``. Give the parts in order, and the LSTM modules among them. `Obstacle` if that fails."""
    graph = _traced(module)
    walk = _Walk(module)
    values: dict[Any, Value] = {}
    for node in graph.nodes:
        if node.op == "output":
            result = values_of(node.args[0], values)
            parts = _result(result)
            return list(parts), walk.lstms_of(parts)
        _refuse_written_over(node, module, values)
        values[node] = walk.value(node, values)
    raise Obstacle("its forward gives nothing")


def values_of(arguments: Any, values: dict[Any, Value]) -> Any:
    """Put values in the place of nodes, within tuples and lists too."""
    if isinstance(arguments, (tuple, list)):
        return tuple(values_of(each, values) for each in arguments)
    if isinstance(arguments, slice):
        return slice(*(values_of(each, values) for each in (arguments.start, arguments.stop, arguments.step)))
    if isinstance(arguments, dict):
        return {name: values_of(each, values) for name, each in arguments.items()}
    return values[arguments] if type(arguments).__module__ == "torch.fx.node" else arguments


def _traced(module: Any) -> Any:
    import torch.nn.utils.rnn as packing
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            return is_known(m) or super().is_leaf_module(m, module_qualified_name)

    wrapped = (packing.pack_padded_sequence, packing.pad_packed_sequence)
    try:
        return Tracer(autowrap_modules=(packing,), autowrap_functions=wrapped).trace(module)
    except Exception as error:  # forward is the user's, and anything may happen in it
        line = str(error).partition("\n")[0]
        raise Obstacle(f"its forward cannot be followed: {type(error).__name__}: {line}") from error


class _Walk:
    """Goes through the operations of one graph."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._lstms: dict[str, Any] = {}  # by origin of their part

    def lstms_of(self, parts: tuple[Part, ...]) -> list[Any]:
        return [self._lstms[part.origin] for part in parts if part.origin in self._lstms]

    def value(self, node: Any, values: dict[Any, Value]) -> Value:
        """Give the value of a node. `Obstacle` if it takes data and is unknown."""
        arguments, keywords = values_of(node.args, values), values_of(node.kwargs, values)
        if node.op == "placeholder":
            return Value("data", argument=True)
        if node.op == "get_attr":
            return PLUMBING
        if node.op == "call_module":
            return self._of_module(node.target, arguments, keywords)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        given = list(_flat((arguments, keywords)))
        data = [value for value in given if value.what != "plumbing" and value.what != "zero"]
        if name in _ZEROS:
            return Value("zero")
        if name in _MEASURES:
            return PLUMBING
        if not data:
            of_zeros = bool(arguments) and isinstance(arguments[0], Value) and arguments[0].what == "zero"
            still_zero = of_zeros and name in _UNCHANGED | _ZEROS_OF_ANOTHER_SHAPE
            return Value("zero") if still_zero else PLUMBING
        if name == "getitem":
            return _item(arguments[0], arguments[1])
        if name in _UNCHANGED and isinstance(arguments[0], Value):
            return _cast(arguments[0], (arguments[1:], keywords)) if name == "to" else arguments[0]
        if name == "pack_padded_sequence":
            first = keywords.get("batch_first", arguments[2] if len(arguments) > 2 else False)
            if first not in (True, False):
                raise Obstacle("batch_first of pack_padded_sequence is computed")
            return replace(_data(arguments[0], name), packed=bool(first), padding=False)
        if name == "pad_packed_sequence":
            packed = _data(arguments[0], name)
            first = keywords.get("batch_first", arguments[1] if len(arguments) > 1 else False)
            if first not in (packed.packed, None):
                raise Obstacle("pad_packed_sequence has another batch_first than pack_padded_sequence")
            return replace(packed, what="padded", packed=None, padding=True, argument=False)
        return self._of_function(name, arguments, keywords)

    def _of_module(self, target: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Value:
        from torch import nn

        module = self._module.get_submodule(target)
        name = f"{type(module).__name__} {target!r}"
        if not arguments or not isinstance(arguments[0], Value):
            raise Obstacle(f"{name} takes no tensor as its first argument")
        before = arguments[0]
        if before.what == "tokens" and isinstance(module, nn.Embedding):
            before = replace(before, what="data")
        before = _data(before, name)
        parts = extended(before.parts, module, target)
        if parts is None:
            raise Obstacle(f"{name} has no counterpart")
        if len(parts) > len(before.parts) and parts[-1].layer in (LSTM, LSTMCell):
            if parts[-1].layer is LSTMCell:
                raise Obstacle(f"{name} is called step by step")
            state = arguments[1] if len(arguments) > 1 else keywords.get("hx")
            _check_state(state, name)
            ragged = _check_masks(keywords, name)
            if before.packed not in (None, module.batch_first):
                raise Obstacle(f"{name} has another batch_first than the pack_padded_sequence before it")
            if before.padding and not ragged:
                raise Obstacle(f"{name} takes a padded output, and runs over the padding")
            self._lstms[parts[-1].origin] = module
            return Value("lstm", tuple(parts), module, before.pooled, packed=before.packed, padding=ragged)
        if len(arguments) > 1 or keywords:
            raise Obstacle(f"{name} takes more than one argument")
        unchanged = isinstance(module, (nn.Identity, nn.Dropout))
        return replace(before, parts=tuple(parts), lstm=before.lstm if unchanged else None, argument=False)

    def _of_function(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Value:
        first = arguments[0] if arguments else keywords.get("input")
        if name == "cat":
            return _ends(first, keywords.get("dim", arguments[1] if len(arguments) > 1 else 0))
        if name == "squeeze" and isinstance(first, Value) and first.what == "h" and _is_only_end(first.lstm):
            if arguments[1:] != (0,) and keywords != {"dim": 0}:
                raise Obstacle("squeeze of h_n is taken over something else than the layers")
            return _pooled(first, Last)
        if not isinstance(first, Value) or any(value is not first for value in _flat((arguments, keywords))):
            raise Obstacle(f"{name} joins several values")
        if name in ("mean", "max", "amax"):
            return _over_steps(name, first, arguments[1:], keywords)
        data = _data(first, name)
        if name in ("dropout", "dropout_"):
            p = keywords.get("p", arguments[1] if len(arguments) > 1 else 0.5)
            training = keywords.get("training", arguments[2] if len(arguments) > 2 else True)
            if training and not self._module.training:
                raise Obstacle(f"{name} drops in evaluation too, without training=self.training")
            parts = (*data.parts, Part(Dropout, {"p": float(p)}, {}, "dropout"))
            return replace(data, parts=parts, argument=False)
        try:
            left_out = ("input", "inplace", "_stacklevel", "dtype")
            options = {key: value for key, value in keywords.items() if key not in left_out}
            activation = activations.of_function(name, arguments[1:], options)
        except ValueError as error:
            raise Obstacle(str(error)) from error
        if activation is None:
            raise Obstacle(f"{name!r} has no counterpart")
        return replace(data, parts=tuple(activated(data.parts, activation, name)), lstm=None, argument=False)


def _result(result: Any) -> tuple[Part, ...]:
    """Give the chain that a forward returns: alone, or before states."""
    first, *others = result if isinstance(result, tuple) else (result,)
    if any(other.what not in ("state", "h", "c") for other in _flat(others)):
        raise Obstacle("its forward gives more than one result")
    if isinstance(first, Value) and first.what == "lstm" and not others:
        return first.parts
    return _data(first, "the result").parts


def _cast(value: Value, options: Any) -> Value:
    """Let a change of the dtype through that rounds nothing: to real numbers, or of the input to tokens."""
    import torch

    given, keywords = options
    dtypes = [each for each in (*given, *keywords.values()) if isinstance(each, torch.dtype)]
    if all(dtype.is_floating_point for dtype in dtypes):
        return value
    if not value.argument:
        raise Obstacle(f"'to' rounds to {dtypes[0]}")
    return replace(value, what="tokens")


def _refuse_written_over(node: Any, module: Any, values: dict[Any, Value]) -> None:
    """Raise `Obstacle` if an operation changes in place what others read too."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op == "call_module":
        writes = getattr(module.get_submodule(node.target), "inplace", False)
    else:
        place = _INPLACE.get(name, len(node.args))
        writes = node.kwargs.get("inplace", place < len(node.args) and node.args[place])
        writes = writes or (name.endswith("_") and not name.endswith("__") and name != "requires_grad_")
    source = node.args[0] if node.args else node.kwargs.get("input")
    while writes and source in values:
        if len([user for user in source.users if user.target not in _MEASURES and user.target is not getattr]) > 1:
            raise Obstacle(f"{name} changes in place what something else reads too")
        same = source.op == "call_method" and source.target in _UNCHANGED - {"clone"}
        source = source.args[0] if same else None


def _data(value: Any, name: str) -> Value:
    if not isinstance(value, Value) or value.what != "data":
        what = {"lstm": "the pair that an LSTM gives", "h": "h_n", "c": "c_n", "state": "(h_n, c_n)"}
        what["tokens"] = "integers"
        got = what.get(value.what, value.what) if isinstance(value, Value) else type(value).__name__
        raise Obstacle(f"{name} takes {got}")
    return value


def _item(value: Any, key: Any) -> Value:
    """Take an item of an LSTM's result, or the last step."""
    if not isinstance(value, Value):
        raise Obstacle("an item is taken of several values")
    if value.what == "lstm" and key in (0, 1):
        return replace(value, what=("data", "state")[key])
    if value.what == "state" and key in (0, 1):
        return replace(value, what="hc"[key])
    if value.what == "padded" and key in (0, 1):
        return replace(value, what="data") if key == 0 else PLUMBING
    if value.what == "maximum" and key == 0:
        return replace(value, what="data")
    if value.what == "h":
        return _end(value, key)
    if value.what != "data" or value.pooled:
        raise Obstacle("an item is taken of something else than an LSTM's result")
    module = value.lstm
    if module is None:
        raise Obstacle("steps are taken from something else than an LSTM's output")
    whole = slice(None)
    keys = key if isinstance(key, tuple) else (key,)
    wanted = ((whole, -1), (whole, -1, whole)) if module.batch_first else ((-1,), (-1, whole), (-1, whole, whole))
    if module.bidirectional or variant_of(module).get("reverse"):
        raise Obstacle("a step of an LSTM is taken whose reverse direction ends at the first one")
    if keys not in wanted:
        raise Obstacle("steps are taken that are not the last one alone")
    if value.padding:
        raise Obstacle("the last step is taken of a padded output, which may be padding; h_n[-1] is not")
    return _pooled(value, Last)


def _end(value: Value, key: Any) -> Value:
    """Take one direction's end of the last layer: of h_n, which is all layers' and directions'."""
    directions = 2 if value.lstm.bidirectional else 1
    states = value.lstm.num_layers * directions
    keys = key if isinstance(key, tuple) else (key,)
    if not isinstance(keys[0], int) or any(each != slice(None) for each in keys[1:]):
        raise Obstacle("an item of h_n is computed")
    if variant_of(value.lstm).get("residual"):
        raise Obstacle("h_n of an LSTM with residual connections is taken, which is not its output")
    place = keys[0] % states - states
    if directions == 1 and place == -1:
        return _pooled(value, Last)
    if directions == 2 and place in (-2, -1):
        return replace(value, what=("forward end", "reverse end")[place + 2])
    raise Obstacle("a state of another layer than the last is taken")


def _ends(joined: Any, dim: Any) -> Value:
    """Join the ends of both directions, which is what `Last` gives."""
    ends = [value.what if isinstance(value, Value) else None for value in joined] if isinstance(joined, tuple) else []
    if ends != ["forward end", "reverse end"] or dim not in (1, -1) or joined[0].lstm is not joined[1].lstm:
        raise Obstacle("cat joins several values")
    if "merge" in variant_of(joined[0].lstm):
        raise Obstacle("cat joins the ends of both directions, which the LSTM itself merges in another way")
    return _pooled(joined[0], Last)


def _over_steps(name: str, value: Value, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Value:
    module = value.lstm
    if value.what != "data" or module is None:
        raise Obstacle(f"{name} is taken of something else than an LSTM's output")
    dim = keywords.get("dim", arguments[0] if arguments else None)
    keepdim = keywords.get("keepdim", arguments[1] if len(arguments) > 1 else False)
    if dim not in ((1, -2, (1,)) if module.batch_first else (0, -3, (0,))) or keepdim:
        raise Obstacle(f"{name} is taken over something else than the steps")
    if value.padding:
        raise Obstacle(f"{name} is taken of a padded output, over the padding too")
    pooled = _pooled(value, Mean if name == "mean" else Max)
    return replace(pooled, what="maximum") if name == "max" else pooled


def _pooled(value: Value, layer: type[Any]) -> Value:
    return Value("data", (*value.parts, Part(layer, {}, {}, layer.__name__.lower())), pooled=True)


def _is_only_end(module: Any) -> bool:
    return bool(module.num_layers == 1 and not module.bidirectional)


def _check_state(state: Any, name: str) -> None:
    """Let zeros and what came with the call through: a start state that is computed has no counterpart."""
    for value in _flat((state,)):
        if value.what not in ("zero", "state", "h", "c") and not value.argument:
            raise Obstacle(f"{name} starts from a state that is computed")
        if value.what in ("state", "h", "c"):
            raise Obstacle(f"{name} starts from the state in which another LSTM ended")


def _check_masks(keywords: dict[str, Any], name: str) -> bool:
    """Let lengths and resets through that a `latchwork.torch.LSTM` has from the call. Say whether there are lengths."""
    reset, lengths = keywords.get("reset"), keywords.get("lengths")
    if isinstance(reset, Value) and not reset.argument:
        raise Obstacle(f"{name} takes a reset that is computed")
    if isinstance(lengths, Value) and not lengths.argument and lengths.what != "plumbing":
        raise Obstacle(f"{name} takes lengths that are computed")
    if keywords.get("skip") is not None:
        raise Obstacle(f"{name} takes a skip, which layers after it would not see")
    return lengths is not None


def _flat(values: Any) -> Any:
    """Give all values within tuples, dictionaries and slices."""
    if isinstance(values, Value):
        yield values
    elif isinstance(values, (tuple, list)):
        for each in values:
            yield from _flat(each)
    elif isinstance(values, dict):
        yield from _flat(tuple(values.values()))
    elif isinstance(values, slice):
        yield from _flat((values.start, values.stop, values.step))
