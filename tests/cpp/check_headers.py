"""Check that every public header compiles alone as C++20 without a warning, and says what is needed when it cannot.

python check_headers.py COMPILER INCLUDE_FOLDER
"""

import subprocess
import sys
from pathlib import Path

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
MESSAGE = "Latchwork needs C++20"


def compile_header(compiler: str, folder: Path, header: str, standard: str) -> tuple[int, str]:
    """Compile a program that only includes this header; give the exit status and what the compiler said."""
    command = [compiler, f"-std={standard}", f"-I{folder}", *WARNINGS, "-fsyntax-only", "-x", "c++", "-"]
    done = subprocess.run(command, input=f'#include "latchwork/{header}"\n', capture_output=True, text=True)
    return done.returncode, done.stderr


def main() -> int:
    compiler, folder = sys.argv[1], Path(sys.argv[2])
    headers = sorted(path.name for path in (folder / "latchwork").glob("*.hpp"))
    wrong = [] if headers else ["there are no headers"]
    for header in headers:
        status, said = compile_header(compiler, folder, header, "c++20")
        if status != 0:
            wrong.append(f"{header}, C++20: {said}")
        status, said = compile_header(compiler, folder, header, "c++17")
        if status == 0 or MESSAGE not in said:
            wrong.append(f"{header}, C++17: expected a message with '{MESSAGE}', got: {said or 'none'}")
    print(f"{len(headers)} headers", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
