"""Check that the objects of one instruction set cannot leak into code for another.

An inline function that is compiled for two instruction sets under one name is a weak symbol, of which the linker keeps
any one copy. AVX-512 code could then run on a CPU without it, or all kernels could be as slow as the slowest. A static
initialiser would run instructions of its set when the library is loaded, on any CPU.

Kernels must also fetch weights ahead. A compiler may drop a fetch that it holds to be useless, and no result would show
that.
"""

import argparse
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# Pointers to the runtime's exception routines, which the compiler emits. They hold no code.
IGNORED_PREFIXES = ("DW.ref.",)
INITIALISER_SECTIONS = (".init_array", ".ctors", ".preinit_array")
# The instruction that fetches into L1, on x86 and on Arm.
FETCH = re.compile(r"\bprefetcht0\b|\bprfm\s+pldl1keep\b")
FETCHING_FUNCTIONS = ("product_tile", "step_tile", "pre_activation_tile")
# "0000000000000420 <name>:", or .cold and the like behind the name
FUNCTION = re.compile(r"^[0-9a-f]+ <(\S+)>:$")


class Group(NamedTuple):
    name: str
    objects: list[str]
    is_kernels: bool


class Symbols(NamedTuple):
    weak: set[str]  # defined here, but the linker may take another definition instead
    named: set[str]  # defined or used here


def symbols_of(objects: list[str], nm: str) -> Symbols:
    listing = subprocess.run([nm, "--portability", *objects], check=True, stdout=subprocess.PIPE, text=True).stdout
    weak: set[str] = set()
    named: set[str] = set()
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) < 2 or line.endswith(":") or fields[0].startswith(IGNORED_PREFIXES):
            continue
        name, kind = fields[:2]
        if kind.isupper() or kind == "u" or kind in "vw":  # all other kinds are local symbols
            named.add(name)
        if kind in "WVu":
            weak.add(name)
    return Symbols(weak, named)


def initialisers_in(path: str, readelf: str) -> list[str]:
    listing = subprocess.run(
        [readelf, "--sections", "--wide", path], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [section for section in INITIALISER_SECTIONS if section in listing]


def fetching_functions(path: str, objdump: str) -> set[str]:
    listing = subprocess.run([objdump, "--disassemble", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    fetching: set[str] = set()
    function = ""
    for line in listing.splitlines():
        if match := FUNCTION.match(line):
            function = match[1]
        elif FETCH.search(line):
            fetching.add(function)
    return fetching


def demangle(names: list[str]) -> list[str]:
    try:
        return subprocess.run(
            ["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True
        ).stdout.splitlines()
    except FileNotFoundError:
        return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nm", default="nm")
    parser.add_argument("--readelf", default="readelf")
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--kernels", nargs="+", action="append", metavar=("NAME", "OBJECT"), required=True)
    parser.add_argument("--group", nargs="+", action="append", metavar=("NAME", "OBJECT"), default=[])
    arguments = parser.parse_args()
    groups = [Group(name, objects, True) for name, *objects in arguments.kernels]
    groups += [Group(name, objects, False) for name, *objects in arguments.group]

    unreadable = [f"{group.name}: no objects" for group in groups if not group.objects]
    unreadable += [f"no such object: {path}" for group in groups for path in group.objects if not Path(path).is_file()]
    if unreadable:
        print(*unreadable, sep="\n")
        return 1

    failures = []
    symbols = {group.name: symbols_of(group.objects, arguments.nm) for group in groups}
    for one, other in itertools.permutations(groups, 2):
        if one.is_kernels:
            shared = demangle(sorted(symbols[one.name].weak & symbols[other.name].named))
            failures += [f"{one.name} defines a weak symbol that {other.name} names too: {name}" for name in shared]
    for group in groups:
        if group.is_kernels:
            for path in group.objects:
                sections = initialisers_in(path, arguments.readelf)
                failures += [f"{group.name}: a static initialiser ({section}) in {path}" for section in sections]
            fetching = set().union(*(fetching_functions(path, arguments.objdump) for path in group.objects))
            for name in FETCHING_FUNCTIONS:
                # The length comes before a name in a symbol, so that step_tile is no part of a longer name.
                if not any(f"{len(name)}{name}" in function for function in fetching):
                    failures.append(f"{group.name}: nothing is fetched ahead in {name}")
    for failure in failures:
        print(failure)
    counts = ", ".join(f"{group.name} {len(group.objects)}" for group in groups)
    print(f"{len(failures)} faults in the objects of: {counts}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
