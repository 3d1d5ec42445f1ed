"""Check that the shared library exports what the public headers declare, and nothing else.

python check_exports.py NM LIBRARY INCLUDE_FOLDER [PYTHON_MODULE]
With the Python module, also that it finds in the library all that it needs.
"""

import re
import subprocess
import sys
from pathlib import Path

# What the Python package calls besides.
OTHERS = {"mathematics", "column_extents", "column_sums", "known_cpu", "ask_cpu", "set_team_function", "run_in_team"}
# Some of what a program needs, so that an empty library is no success.
NEEDED = ["latchwork::load(", "latchwork::Network<float>::stream(", "latchwork::Stream<double>::step(",
          "latchwork::Trainer<float>::step(", "typeinfo for latchwork::Interrupted"]  # fmt: skip
PARTS = re.compile(r"(?:typeinfo(?: name)? for |vtable for |.* )?latchwork::(?:detail::)?(\w+)")


def without_arguments(name: str) -> str:
    """Leave out the arguments of a function and of templates, which name other things."""
    depth, kept = 0, ""
    for letter in name:
        if letter in "<(":
            depth += 1
        elif letter in ">)":
            depth -= 1
        elif depth == 0:
            kept += letter
    return kept


def mangled(nm: str, which: str, library: str) -> set[str]:
    """Name the dynamic symbols that are defined or missing in a library."""
    listing = subprocess.run(
        [nm, "--dynamic", which, "--portability", library], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return {line.split()[0] for line in listing.splitlines() if line}


def main() -> int:
    nm, library, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    declared = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("latchwork/*.hpp")))
    known = set(re.findall(r"\w+", declared)) | OTHERS
    listing = subprocess.run(
        [nm, "--dynamic", "--defined-only", "--demangle", "--portability", library],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    names = [re.sub(r" [A-Za-z](?: [0-9a-f]*)*$", "", line.rstrip()) for line in listing.splitlines()]
    faults = []
    for name in names:
        match = PARTS.match(without_arguments(name))
        if match is None or match[1] not in known:
            faults.append(f"exported, but in no public header: {name}")
    faults += [f"not exported: {name}" for name in NEEDED if not any(name in each for each in names)]
    if len(sys.argv) > 4:
        exported = mangled(nm, "--defined-only", library)
        needed = {name for name in mangled(nm, "--undefined-only", sys.argv[4]) if "9latchwork" in name}
        faults += [f"not exported, but the Python module needs it: {name}" for name in sorted(needed - exported)]
    print(*faults, sep="\n")
    print(f"{len(faults)} faults in {len(names)} exported symbols")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
