"""``_core.pyi`` says what the extension module is.

``.ci/run`` compares the two with mypy's stubtest. It does not see the parameters of most functions, because pybind11
writes them into docstrings, where ``inspect.signature`` does not look. They are compared here.
"""

import ast
import re
from pathlib import Path

import latchwork as lw
import pytest
from latchwork import _core

STUB = ast.parse((Path(lw.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
COMPARED = [name for name in CLASSES if not name.startswith("_")]
# pybind11 does not make a stream's `step`, so stubtest sees its parameters; streams and tapes have no constructor.
WITHOUT_SIGNATURE = {(f"{kind}{bits}", member) for bits in (32, 64) for kind, member in
                     (("Stream", "step"), ("Stream", "__init__"), ("Tape", "__init__"))}  # fmt: skip


def members(name):
    """The methods and properties of a class in the stub, with those of its bases."""
    found = {}
    for base in CLASSES[name].bases:
        found |= members(base.id)
    return found | {node.name: node for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)}


def parameters(function):
    """The names of a function's parameters, with = after those that have a default."""
    names = [argument.arg for argument in function.args.posonlyargs + function.args.args]
    required = len(names) - len(function.args.defaults)
    return [name if place < required else f"{name}=" for place, name in enumerate(names)]


def bound_signatures(function):
    """The parameters of each overload, read from the docstring that pybind11 writes."""
    name = function.__name__
    lines = re.findall(rf"^(?:\d+\. )?({name}\(.*\) -> .*)$", function.__doc__, flags=re.MULTILINE)
    return [parameters(ast.parse(f"def {line}: ...").body[0]) for line in lines]


def test_functions_have_the_parameters_of_the_stub():
    for name, stub in FUNCTIONS.items():
        signatures = bound_signatures(getattr(_core, name))
        assert signatures == [parameters(stub)] * len(signatures), name
        assert signatures, name


@pytest.mark.parametrize("name", COMPARED)
def test_classes_have_the_members_of_the_stub(name):
    bound = getattr(_core, name)
    stub = members(name)
    public = {member for member in vars(bound) if not member.startswith("_")}
    assert {member for member in stub if not member.startswith("_")} == public
    for member, node in stub.items():
        function = getattr(bound, member)
        if not isinstance(function, property) and (name, member) not in WITHOUT_SIGNATURE:
            signatures = bound_signatures(function)
            assert signatures == [parameters(node)] * len(signatures), member
            assert signatures, member
