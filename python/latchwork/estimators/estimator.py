"""The part of scikit-learn's habits that every estimator shares, without scikit-learn."""

import inspect
import sys
from typing import Any, Self


class NotFittedError(ValueError, AttributeError):
    """An estimator was asked before it was fitted, in a program that has not imported scikit-learn's error."""


class Estimator:
    """The constructor's parameters are attributes of the same name; what ``fit`` learns ends in ``_``."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters by name. ``deep`` is scikit-learn's and changes nothing here."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; all of them or, if one does not exist, none."""
        names = self._parameter_names()
        for name in params:
            if name not in names:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(names)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Show the parameters that differ from their defaults."""
        defaults = inspect.signature(type(self).__init__).parameters
        shown = [
            f"{name}={value!r}" for name, value in self.get_params().items() if _differs(value, defaults[name].default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_is_fitted__(self) -> bool:
        """Say whether there is something to predict with, for scikit-learn's ``check_is_fitted``."""
        return hasattr(self, "network_")


def _differs(value: Any, default: Any) -> bool:
    """Say whether a parameter is to be shown: its value may be an array, which has no single truth value."""
    if value is default:
        return False
    return type(value) is not type(default) or not isinstance(value, (bool, int, float, str, tuple)) or value != default


def not_fitted_error(message: str) -> Exception:
    """Make the error of an estimator that is asked before it is fitted.

    It is scikit-learn's NotFittedError where the program has imported that, and otherwise one with the same bases:
    nobody can name scikit-learn's in an ``except`` without importing it.
    """
    exceptions = sys.modules.get("sklearn.exceptions")
    kind: type[Exception] = NotFittedError if exceptions is None else exceptions.NotFittedError
    return kind(message)
