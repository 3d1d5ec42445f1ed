"""An estimator's parameters as JSON can hold them, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from latchwork.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from latchwork.schedules import Schedule, schedule_of

_OPTIMIZERS: dict[str, type[Optimizer]] = {each._kind: each for each in (SGD, Adam, AdamW, RMSprop)}


def to_json(parameters: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """Give the parameters by name.

    Parameters
    ----------
    parameters : mapping
        What ``get_params`` gives.
    left_out : collection of str
        The parameters that become None, because they belong to one machine or one run.
    """
    return {name: None if name in left_out else _to_json(value) for name, value in parameters.items()}


def from_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Reverse `to_json`. ValueError or TypeError if the content, which may be hostile, does not fit."""
    return {name: _from_json(value) for name, value in parameters.items()}


def _to_json(value: Any) -> Any:
    if isinstance(value, Optimizer):
        schedule = None if value.schedule is None else value.schedule.state_dict()
        return {"optimizer": dict(value._options), "schedule": schedule}
    if isinstance(value, Schedule):
        return {"schedule": value.state_dict()}
    if isinstance(value, Mapping):
        return {"mapping": {name: _to_json(each) for name, each in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_to_json(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(each) for each in value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"optimizer", "schedule"}:
        return _optimizer(value["optimizer"], value["schedule"])
    if set(value) == {"schedule"}:
        return schedule_of(value["schedule"])
    if set(value) == {"mapping"} and isinstance(value["mapping"], dict):
        return {name: _from_json(each) for name, each in value["mapping"].items()}
    raise ValueError(f"parameters: expected an optimizer, a schedule or a mapping, got {', '.join(value)}")


def _optimizer(options: Any, schedule: Any) -> Optimizer:
    if not isinstance(options, Mapping):
        raise TypeError(f"optimizer: expected a mapping, got {type(options).__name__}")
    values = dict(options)
    kind = values.pop("kind", None)
    if kind not in _OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(_OPTIMIZERS)}, got {kind!r}")
    if "beta1" in values and "beta2" in values:
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    if schedule is not None:
        values["lr"] = schedule_of(schedule)
    try:
        return _OPTIMIZERS[kind](**values)
    except TypeError as error:
        raise ValueError(f"optimizer: expected the options of {kind}, got {', '.join(values)}") from error
