"""The part of scikit-learn's habits that every estimator shares, without scikit-learn."""

import importlib
import inspect
import warnings
from typing import Any, Self


class NotFittedError(ValueError, AttributeError):
    """An estimator was asked before it was fitted, on a machine that lacks scikit-learn's error of this name."""


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
        shown = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name].default]
        return f"{type(self).__name__}({', '.join(shown)})"


def not_fitted_error(message: str) -> Exception:
    """Make the error of an estimator that is asked before it is fitted.

    It is scikit-learn's NotFittedError where scikit-learn is installed, which is imported only now, and one with the
    same bases where it is not.
    """
    kind: type[Exception] = NotFittedError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = importlib.import_module("sklearn.exceptions").NotFittedError
    except Exception:  # not installed, or not for this version of Python or NumPy
        pass
    return kind(message)
