"""An estimator's parameters as JSON can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from latchwork import optim
from latchwork._optimizer import Optimizer
from latchwork.schedules import Schedule, schedule_of

_OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer._kind: optimizer for optimizer in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)
}


class NotStorableError(Exception):
    """JSON has no form for a value."""


def stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give what `restored` reads.

    A parameter that no file can hold, such as a function, is left out, and so is data.
    """
    kept = {}
    for name, value in parameters.items():
        if name == "validation_data":
            continue
        try:
            kept[name] = _encoded(value)
        except NotStorableError:
            continue
    return kept


def restored(parameters: Any) -> dict[str, Any]:
    """Reverse `stored`. ValueError, TypeError or KeyError if the file does not fit."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters: expected an object, got {type(parameters).__name__}")
    return {name: _decoded(value) for name, value in parameters.items()}


def _encoded(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.floating)):
        return np.dtype(value).name
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, list):
        return [_encoded(each) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_encoded(each) for each in value]}
    if isinstance(value, Mapping):
        return {"mapping": [[_encoded(key), _encoded(each)] for key, each in value.items()]}
    if isinstance(value, Schedule):
        return {"schedule": value.state_dict()}
    if isinstance(value, Optimizer):
        schedule = None if value.schedule is None else value.schedule.state_dict()
        return {"optimizer": {"options": value._options, "schedule": schedule}}
    raise NotStorableError


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(_decoded(each) for each in content)
    if kind == "mapping":
        return {_decoded(key): _decoded(each) for key, each in content}
    if kind == "schedule":
        return schedule_of(content)
    if kind == "optimizer":
        return _optimizer(**content)
    raise ValueError(f"parameters: expected a tuple, mapping, schedule or optimizer, got {kind!r}")


def _optimizer(options: dict[str, Any], schedule: Any) -> Optimizer:
    optimizer_class = _OPTIMIZERS[options["kind"]]
    optimizer = optimizer_class.__new__(optimizer_class)
    Optimizer.__init__(optimizer, None, options if schedule is None else {**options, "lr": schedule_of(schedule)})
    return optimizer
