"""Check that includes in the C++ tree run one way, downwards.

    bindings -> training -> files -> network -> layer -> weights -> machine -> kernels

A file may include files of its own folder and of lower ones. A public header counts as a file of the folder that
implements it: a layer must not include `latchwork/network.hpp`. The kernels, which are compiled once for each
instruction set, include only their own files and the type of an index. The oracle in reference/ stands beside the
core and uses only the core's options and names of parameters, so that the two cannot share a fault.
"""

import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
LEVELS = ["kernels", "machine", "weights", "layer", "network", "files", "training", "bindings"]
# The folder in which each public header is implemented. Headers that no folder implements are on the lowest level.
PUBLIC_HEADERS = {
    "export.hpp": "kernels",
    "types.hpp": "kernels",
    "version.hpp": "kernels",
    "isa.hpp": "machine",
    "skipped_output.hpp": "machine",
    "threads.hpp": "machine",
    "interrupt.hpp": "machine",
    "fork.hpp": "machine",
    "batch.hpp": "machine",
    "options.hpp": "weights",
    "parameters.hpp": "weights",
    "network.hpp": "network",
    "stream.hpp": "network",
    "tape.hpp": "network",
    "files.hpp": "files",
    "training.hpp": "training",
}
REFERENCE_MAY_INCLUDE = {"latchwork/types.hpp", "latchwork/options.hpp", "latchwork/parameters.hpp"}
GENERATED = {"build_config.hpp": "bindings", "built_isas.hpp": "machine"}


def folder_of(name: str, folder: str) -> str | None:
    """Name the folder that an included file belongs to, or None if it is unknown."""
    first, _, rest = name.partition("/")
    if not rest:
        return GENERATED.get(name, folder)
    return PUBLIC_HEADERS.get(rest) if first == "latchwork" else first


def fault_of(name: str, folder: str) -> str | None:
    """Say what is wrong with an include of `name` in a file of `folder`, or return None."""
    target = folder_of(name, folder)
    if folder == "reference":
        fine = target == "reference" or name in REFERENCE_MAY_INCLUDE
        return None if fine else "the oracle may use only the core's options and names of parameters"
    if target not in LEVELS:
        return "this check does not know the folder of that file"
    if LEVELS.index(target) > LEVELS.index(folder):
        return f"{target}/ is above {folder}/"
    return None


def main() -> int:
    tree = Path(sys.argv[1])
    files = [(path, path.relative_to(tree / "src").parts[0]) for path in sorted((tree / "src").rglob("*.[ch]pp"))]
    files += [(path, "bindings") for path in sorted((tree / "bindings").rglob("*.[ch]pp"))]
    files += [(path, PUBLIC_HEADERS.get(path.name, "")) for path in sorted((tree / "include/latchwork").glob("*.hpp"))]
    faults = []
    for path, folder in files:
        here = path.relative_to(tree)
        if folder not in [*LEVELS, "reference"]:
            faults.append(f"{here}: this check does not know the folder of this file")
            continue
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            fault = fault_of(name, folder)
            if fault:
                faults.append(f'{here} includes "{name}": {fault}')
    print(*faults, sep="\n")
    print(f"{len(faults)} faults in the includes of {len(files)} files")
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
