"""What ``fit`` learned of its inputs, so that ``predict``, files and streams read the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = ("array", "univariate", "list", "long", "frames")


@dataclasses.dataclass(frozen=True)
class Schema:
    """The inputs that a model was trained on.

    Attributes
    ----------
    kind : {"array", "univariate", "list", "long", "frames"}
        The form they had, see `Layout`.
    dtype : {"float32", "float64"}
        What they were converted to.
    n_features : int
        Features of a step, the static ones apart.
    names : tuple of str or None
        The features' names, if they had any.
    steps : int or None
        How many columns a 2-D table had.
    step_names : tuple of str or None
        The names of these columns.
    n_static : int
        Static features.
    static_names : tuple of str or None
        Their names.
    categories : dict
        For the number of each categorical column, the static ones behind the others: the values it had in training, a
        value's code being its place; None, the last one, stands for a value that is missing.
    sequence, time : optional
        The columns of a long frame that name the sequence and order its steps.
    targets : tuple
        Columns of a frame that hold targets, which are passed over.
    """

    kind: str
    dtype: str
    n_features: int
    names: tuple[str, ...] | None = None
    steps: int | None = None
    step_names: tuple[str, ...] | None = None
    n_static: int = 0
    static_names: tuple[str, ...] | None = None
    categories: Mapping[int, list[Any]] = dataclasses.field(default_factory=dict)
    sequence: Any = None
    time: Any = None
    targets: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """Features of a batch: those of each step and the static ones."""
        return self.n_features + self.n_static

    @property
    def columns(self) -> list[int]:
        """The numbers of the categorical columns, ascending."""
        return sorted(self.categories)

    @property
    def n_features_in(self) -> int:
        """What scikit-learn calls ``n_features_in_``: the features of a step, or the columns of a 2-D table."""
        return self.n_features if self.steps is None else self.steps

    @property
    def feature_names_in(self) -> tuple[str, ...] | None:
        """What scikit-learn calls ``feature_names_in_``."""
        return self.names if self.steps is None else self.step_names

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` reads, of values that JSON has."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("names", "step_names", "static_names", "targets"):
            values[name] = None if values[name] is None else list(values[name])
        for name in ("sequence", "time"):
            values[name] = _plain(name, values[name])
        values["categories"] = {str(column): list(found) for column, found in sorted(self.categories.items())}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Schema:
        """Make the schema that `to_json` was called on. ValueError or TypeError if the values are no such thing."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or set(values) != fields:
            raise ValueError(f"schema: expected {', '.join(sorted(fields))}, got {values!r}")
        read = dict(values)
        if read["kind"] not in KINDS or read["dtype"] not in ("float32", "float64"):
            raise ValueError(f"schema: expected a kind and a dtype, got {read['kind']!r} and {read['dtype']!r}")
        for name in ("n_features", "n_static", "steps"):
            number = read[name]
            if type(number) is not int and not (name == "steps" and number is None):
                raise TypeError(f"schema: expected int for {name}, got {number!r}")
        for name in ("names", "step_names", "static_names", "targets"):
            if read[name] is not None or name == "targets":
                read[name] = _texts(name, read[name])
        for name in ("sequence", "time"):
            read[name] = _hashable(_plain(name, read[name]))
        if not isinstance(read["categories"], Mapping):
            raise TypeError(f"schema: expected an object of categories, got {read['categories']!r}")
        read["categories"] = {int(column): _categories(found) for column, found in read["categories"].items()}
        schema = cls(**read)
        if not all(0 <= column < schema.size for column in schema.categories):
            raise ValueError(f"schema: expected columns from 0 to {schema.size - 1}, got {schema.columns}")
        for name, count in (("names", schema.n_features), ("static_names", schema.n_static)):
            given = getattr(schema, name)
            if given is not None and len(given) != count:
                raise ValueError(f"schema: expected {count} {name}, got {len(given)}")
        return schema


def _plain(name: str, value: Any) -> Any:
    """Give a column's name as JSON has it; pandas has numbers and tuples too. TypeError for all others."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(name, each) for each in value]
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise TypeError(f"{name}: expected the name of a column, a text or a number, got {type(value).__name__}")
    return value


def _hashable(value: Any) -> Any:
    """Reverse `_plain`."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _texts(name: str, values: Any) -> tuple[str, ...]:
    """Check a list of columns' names."""
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise TypeError(f"schema: expected a list of str for {name}, got {values!r}")
    return tuple(values)


def _categories(values: Any) -> list[Any]:
    """Check the different values of a categorical column."""
    if not isinstance(values, list) or not all(
        each is None or isinstance(each, (str, bool, int, float)) for each in values
    ):
        raise TypeError(f"schema: expected a list of texts, numbers and null, got {values!r}")
    if len(set(values)) != len(values):
        raise ValueError(f"schema: expected different categories, got {values!r}")
    return values


def joined_names(
    names: tuple[str, ...] | None, features: int, static_names: tuple[str, ...] | None, static: int
) -> tuple[str, ...] | None:
    """Name the features of a step and the static ones behind them; None if none has a name."""
    if names is None and static_names is None:
        return None
    return (*(names or map(str, range(features))), *(static_names or (f"static {j}" for j in range(static))))
