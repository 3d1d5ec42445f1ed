"""A Sphinx extension: a page for each public object, written to docs/api before each build.

Public is what ``__all__`` of one of `MODULES` names, and what these return, or have as an attribute, by the annotations
and the docstrings: classes of modules whose names have no underscore.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

# In the order of the pages.
MODULES = (
    "latchwork",
    "latchwork.losses",
    "latchwork.optim",
    "latchwork.optim.schedules",
    "latchwork.explain",
    "latchwork.plot",
)
# The special methods that users call, by what Python makes of an expression.
SPECIAL = ("__call__", "__getitem__", "__setitem__")
# What is inherited from these is Python's.
FOREIGN = ("Generic", "Mapping", "dict", "object", "tuple")


def module_named(name: str) -> ModuleType:
    """Find a module by its public name, which need not be the one by which Python imports it."""
    parent, _, last = name.rpartition(".")
    module: ModuleType = getattr(module_named(parent), last) if parent else importlib.import_module(name)
    return module


def public_objects(module: ModuleType) -> dict[str, Any]:
    """Give the classes of ``__all__``, and then its functions, in the order of their names."""
    objects = {name: getattr(module, name) for name in sorted(module.__all__)}
    classes = {name: each for name, each in objects.items() if inspect.isclass(each)}
    return classes | {name: each for name, each in objects.items() if inspect.isfunction(each)}


def returned_classes(documented: list[Any]) -> list[type]:
    """Give the classes that these objects return, and those that these return in turn, in the order of their names."""
    found: list[type] = []
    ahead = list(documented)
    while ahead:
        for name in _names_returned_by(ahead.pop()):
            new = [each for each in _public_classes_named(name) if each not in [*documented, *found]]
            found += new
            ahead += new
    return sorted(found, key=lambda each: each.__qualname__)


def _names_returned_by(documented: Any) -> Iterator[str]:
    """Yield every name in the types of attributes and of what calls, methods and properties return."""
    members = [documented]
    if inspect.isclass(documented):
        members = [
            member.fget if isinstance(member, property) else member
            for name, member in inspect.getmembers(documented)
            if not name.startswith("_") or name in SPECIAL
        ]
        attributes = (inspect.getdoc(documented) or "").partition("\nAttributes\n---")[2]
        for types in re.findall(r"^\w[\w, ]* : (.+)$", attributes, flags=re.MULTILINE):
            yield from re.findall(r"\w+", types)
    for member in members:
        if inspect.isfunction(member):
            yield from re.findall(r"\w+", str(member.__annotations__.get("return", "")))


def _public_classes_named(name: str) -> Iterator[type]:
    for module_name, module in list(sys.modules.items()):
        if module_name.split(".")[0] == "latchwork" and "._" not in module_name and not name.startswith("_"):
            found = getattr(module, "__dict__", {}).get(name)
            if inspect.isclass(found) and found.__module__ == module_name:
                yield found


def pages() -> dict[str, str]:
    """Give the pages, in reStructuredText, by their names without the suffix."""
    modules = {name: module_named(name) for name in MODULES}
    objects = {name: list(public_objects(module)) for name, module in modules.items()}
    known = [getattr(module, each) for name, module in modules.items() for each in objects[name]]
    written = {"index": _index_page()}
    for name, module in modules.items():
        full_names = [f"{name}.{each}" for each in objects[name]]
        for each in returned_classes([getattr(module, each) for each in objects[name]]):
            if each not in known:
                known.append(each)
                full_names.append(f"{each.__module__}.{each.__qualname__}")
        written[name] = _module_page(name, module, full_names)
        written |= {full_name: _object_page(full_name) for full_name in full_names}
    return written


def _index_page() -> str:
    return _joined(_heading("Reference"), ".. toctree::", _indented(MODULES))


def _module_page(name: str, module: ModuleType, full_names: list[str]) -> str:
    """Give the page of a module: what it is, and a table of its objects."""
    if name == module.__name__:
        subject = [f".. automodule:: {name}"]
    else:  # autodoc only imports by the other name
        subject = [f".. py:module:: {name}", inspect.getdoc(module) or ""]
    names = [full_name.removeprefix(f"{name}.") for full_name in full_names]
    table = [".. autosummary::\n   :nosignatures:", _indented(f"~{each}" for each in names)]
    entries = [".. toctree::\n   :hidden:", _indented(f"{each.split('.')[-1]} <{each}>" for each in full_names)]
    return _joined(_heading(name), *subject, f".. currentmodule:: {name}", *table, *entries)


def _object_page(full_name: str) -> str:
    """Give the page of a class or a function."""
    module, _, name = full_name.rpartition(".")
    if inspect.isclass(getattr(module_named(module), name)):
        subject = [
            f".. autoclass:: {name}",
            "   :members:",
            f"   :inherited-members: {', '.join(FOREIGN)}",
            f"   :special-members: {', '.join(SPECIAL)}",
        ]
    else:
        subject = [f".. autofunction:: {name}"]
    return _joined(_heading(full_name), f".. currentmodule:: {module}", "\n".join(subject))


def _heading(text: str) -> str:
    return f"{text}\n{'=' * len(text)}"


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"   {line}" for line in lines)


def _joined(*blocks: str) -> str:
    return "\n\n".join(blocks) + "\n"


def write_pages(app: Sphinx) -> None:
    """Write the pages that have changed, and delete those of objects that are gone."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    texts = {f"{name}.rst": text for name, text in pages().items()}
    for path in folder.glob("*.rst"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
