"""Swap the LSTMs in a model of PyTorch's for Latchwork's, in place, and give them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from latchwork.torch.lstm import LSTM
from latchwork.torch.lstm_cell import LSTMCell

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS: dict[type[nn.Module], type[nn.Module]] = {nn.LSTM: LSTM, nn.LSTMCell: LSTMCell}
_KINDS = ("LSTM", "LSTMCell")
# Marks a module that `replace` swapped. It is an attribute, so that it goes along with deepcopy and pickle.
_MARK = "_replaced_by_latchwork"
# What each module has for PyTorch's own purposes; none of it holds modules other than `_modules`.
_INTERNAL = frozenset(vars(nn.Module()))


@dataclass(frozen=True)
class Swapped:
    """An LSTM that `replace` or `restore` swapped.

    Attributes
    ----------
    path : str
        Its name in the model, as ``named_modules`` gives it; "" for the model itself. One that stands in a list, tuple,
        set or dictionary is named as Python reaches it: "encoder.layers[0]".
    kind : {"LSTM", "LSTMCell"}
        What it is.
    input_size, hidden_size : int
        Its sizes.
    options : str
        All of its options, as PyTorch prints them: "8, 32, num_layers=2".
    also : tuple of str
        The other paths under which the same module stands.
    """

    path: str
    kind: str
    input_size: int
    hidden_size: int
    options: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Left:
    """An LSTM that `replace` or `restore` left as it is.

    Attributes
    ----------
    path : str
        As of `Swapped`.
    kind : {"LSTM", "LSTMCell"}
        What it is.
    reason : str
        Why it was left: "its dtype is torch.bfloat16, not float32 or float64".
    also : tuple of str
        The other paths under which the same module stands.
    """

    path: str
    kind: str
    reason: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Report:
    """What `replace` or `restore` did, one line for each LSTM and each `LSTMCell`.

    Attributes
    ----------
    swapped : tuple of Swapped
        What was swapped, in the order of the model.
    left : tuple of Left
        What was left as it is, and why.
    """

    swapped: tuple[Swapped, ...]
    left: tuple[Left, ...]

    def __repr__(self) -> str:
        """Show all of it as a table."""
        rows = [("swapped", each.path, f"{each.kind}({each.options})", each.also) for each in self.swapped]
        rows += [("left", each.path, f"{each.kind}: {each.reason}", each.also) for each in self.left]
        width = max((len(_shown(path)) for _, path, _, _ in rows), default=0)
        lines = [f"Report: {len(self.swapped)} swapped, {len(self.left)} left"]
        for what, path, text, also in rows:
            others = f" (also {', '.join(map(_shown, also))})" if also else ""
            lines.append(f"  {what:<7}  {_shown(path):<{width}}  {text}{others}")
        return "\n".join(lines)


def replace(model: nn.Module) -> Report:
    """Have Latchwork compute every ``nn.LSTM`` and ``nn.LSTMCell`` of a model, in place.

    Each of them becomes a `latchwork.torch.LSTM` or `latchwork.torch.LSTMCell` and stays the same object: only its
    class changes. Whatever holds it or its parameters goes on as before: optimisers, tied weights, hooks,
    ``DistributedDataParallel``, lists and closures. So do ``state_dict``, ``requires_grad`` and the training mode. A
    second call changes nothing more.

    Parameters
    ----------
    model : torch.nn.Module
        Any model, also one that is an LSTM itself. Its submodules are looked at, and the lists, tuples, sets and
        dictionaries that are attributes of them.

    Returns
    -------
    Report
        What was swapped, and what was left and why: of a subclass or already Latchwork's; quantised, scripted or
        traced; parametrised, or with weights that a hook or a wrapper computes, as ``weight_norm``, pruning and weight
        drop do; with a method that was replaced; on another device than the CPU; neither float32 nor float64.

    Raises
    ------
    TypeError
        If ``model`` is no module.

    See Also
    --------
    restore : Undoes it.

    Examples
    --------
    >>> import latchwork.torch
    >>> from torch import nn
    >>> model = nn.ModuleDict({"encoder": nn.LSTM(8, 32, num_layers=2), "head": nn.Linear(32, 1)})
    >>> latchwork.torch.replace(model)
    Report: 1 swapped, 0 left
      swapped  encoder  LSTM(8, 32, num_layers=2)
    """
    swapped, left = [], []
    for module, (path, *also) in _lstms(model):
        reason = _reason_to_leave(module)
        if reason is not None:
            left.append(Left(path, _kind(module), reason, tuple(also)))
            continue
        module.__class__ = _OURS[type(module)]
        setattr(module, _MARK, True)
        swapped.append(_swapped(module, path, also))
    return Report(tuple(swapped), tuple(left))


def restore(model: nn.Module) -> Report:
    """Undo `replace`: make PyTorch's own modules of those that it swapped, and of no others.

    A copy of a model whose LSTMs were replaced, by ``copy.deepcopy`` or through a file, can be given back too.

    Parameters
    ----------
    model : torch.nn.Module
        A model, or a part of one.

    Returns
    -------
    Report
        What was given back; left is what has changed since in such a way that it cannot be: one that was parametrised.
        Modules that were made as Latchwork's are in neither.

    Raises
    ------
    TypeError
        If ``model`` is no module.
    """
    swapped, left = [], []
    for module, (path, *also) in _lstms(model):
        if not getattr(module, _MARK, False):
            continue
        theirs = next((theirs for theirs, ours in _OURS.items() if type(module) is ours), None)
        if theirs is None:
            reason = f"its class has become {type(module).__name__} since it was replaced"
            left.append(Left(path, _kind(module), reason, tuple(also)))
            continue
        for name in vars(module).keys() & {_MARK, *vars(type(module))}:  # the mark, and what Latchwork kept for calls
            delattr(module, name)
        module.__class__ = theirs
        swapped.append(_swapped(module, path, also))
    return Report(tuple(swapped), tuple(left))


def _shown(path: str) -> str:
    return path or "(the model)"


def _swapped(module: Any, path: str, also: list[str]) -> Swapped:
    # The options as PyTorch prints them for its own module, whichever class it has at the moment.
    options = (nn.LSTM if isinstance(module, nn.LSTM) else nn.LSTMCell).extra_repr(module)
    return Swapped(path, _kind(module), module.input_size, module.hidden_size, options, tuple(also))


def _lstms(model: Any) -> list[tuple[Any, list[str]]]:
    """List all LSTMs and cells of a model, each once, with the paths at which it stands."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    paths: dict[int, list[str]] = {}
    found: list[tuple[Any, list[str]]] = []
    ahead: list[tuple[Any, str]] = [(model, "")]
    while ahead:
        module, path = ahead.pop()
        if id(module) in paths:
            paths[id(module)].append(path)
            continue
        paths[id(module)] = [path]
        if _is_lstm(module):
            found.append((module, paths[id(module)]))
        if not _is_quantised(module):  # what is inside is part of it
            ahead += reversed(list(_inside(module, path)))
    return found


def _inside(module: nn.Module, path: str) -> Iterator[tuple[nn.Module, str]]:
    """Give the submodules of a module, and then the modules in its plain attributes."""
    start = f"{path}." if path else ""
    for name, child in module._modules.items():
        if child is not None:
            yield child, f"{start}{name}"
    if isinstance(module, torch.jit.ScriptModule):  # its attributes are TorchScript's own
        return
    seen: set[int] = set()  # containers, which may hold themselves
    for name, value in vars(module).items():
        if name not in _INTERNAL:
            yield from _inside_plain(value, f"{start}{name}", seen)


def _inside_plain(value: Any, path: str, seen: set[int]) -> Iterator[tuple[nn.Module, str]]:
    if isinstance(value, nn.Module):
        yield value, path
    elif isinstance(value, (list, tuple, set, frozenset, dict)) and id(value) not in seen:
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _inside_plain(item, f"{path}[{key!r}]", seen)


def _is_lstm(module: Any) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return module.original_name in _KINDS
    return isinstance(module, (nn.LSTM, nn.LSTMCell)) or _is_quantised(module)


def _is_quantised(module: Any) -> bool:
    return type(module).__module__.startswith("torch.ao.") and type(module).__name__ in _KINDS


def _kind(module: Any) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    if _is_quantised(module):
        return type(module).__name__
    return "LSTM" if isinstance(module, nn.LSTM) else "LSTMCell"


def _reason_to_leave(module: Any) -> str | None:
    """Say why a module is not swapped; None if it is."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "it is scripted or traced: TorchScript runs its own code"
    if _is_quantised(module):
        return f"it is quantised, or prepared for that: {kind.__module__}.{kind.__name__}"
    if kind in _OURS.values():
        return "it is Latchwork's already"
    if parametrize.is_parametrized(module):
        return f"it is parametrised: {', '.join(module.parametrizations)}"
    if kind not in _OURS:
        return f"it is of a subclass, {kind.__module__}.{kind.__qualname__}, which may compute something else"
    return _patched(module, kind) or _unusual_weights(module)


def _patched(module: Any, kind: type[nn.Module]) -> str | None:
    """Say which method is not PyTorch's own: on this module, or as code that changes PyTorch's class does it."""
    for name in vars(module):
        if callable(getattr(kind, name, None)):
            return f"its method {name} was replaced"
    if kind.forward.__module__ != kind.__module__:
        return f"the method forward of nn.{kind.__name__} was replaced, by {kind.forward.__module__}"
    return None


def _unusual_weights(module: Any) -> str | None:
    """Say why its weights are not what it computes with, or not what Latchwork computes with."""
    names = _weight_names(module)
    parameters = module._parameters
    for name in names:
        if parameters.get(name) is None:
            sources = [other for other in parameters if other.startswith(f"{name}_")]
            others = f" from {' and '.join(sources)}" if sources else ""
            return (
                f"its {name} is no parameter, but computed{others}, as by weight_norm, spectral_norm, pruning or "
                "weight drop"
            )
    weights = [parameters[name] for name in names]
    for name, weight in zip(names, weights, strict=True):
        if type(weight) is not nn.Parameter or weight.layout != torch.strided:
            return f"its {name} is no dense parameter, but {type(weight).__name__} of layout {weight.layout}"
    if isinstance(module, nn.LSTM):
        module._update_flat_weights()  # as its forward does first, after parameters became others
    flat = getattr(module, "_flat_weights", weights)
    if len(flat) != len(weights) or any(one is not other for one, other in zip(flat, weights, strict=True)):
        return "it computes with other tensors than its parameters"
    devices = sorted({str(weight.device) for weight in weights})
    if devices != ["cpu"]:
        return f"it is on {' and '.join(devices)}, not on the CPU"
    dtypes = sorted({str(weight.dtype) for weight in weights})
    if dtypes not in (["torch.float32"], ["torch.float64"]):
        return f"its dtype is {' and '.join(dtypes)}, not float32 or float64"
    return None


def _weight_names(module: Any) -> list[str]:
    if isinstance(module, nn.LSTM):
        return list(module._flat_weights_names)
    return ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
