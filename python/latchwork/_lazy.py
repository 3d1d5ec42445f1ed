"""Names of a package that are imported when they are first asked for, so that importing the package takes no time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``. ``module_of``: in which of its modules each name lives; a module in itself."""

    def getattr_of_package(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{module_of[name]}")
        value = module if module_of[name] == name else getattr(module, name)
        vars(importlib.import_module(package))[name] = value
        return value

    return getattr_of_package
