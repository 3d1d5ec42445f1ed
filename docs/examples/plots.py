"""Makes the pictures of docs/plots.md by the code that stands there.

python docs/examples/plots.py [FOLDER]

They go into docs/images unless another folder is given.
"""

import os
import re
import sys
from pathlib import Path

import matplotlib

DOCS = Path(__file__).resolve().parents[1]


def run(folder):
    """Run the page's code in a folder, and return the names that it defined."""
    matplotlib.use("Agg")
    page = (DOCS / "plots.md").read_text(encoding="utf-8")
    names = {}
    before = os.getcwd()
    os.chdir(folder)
    try:
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL), start=1):
            exec(compile(code, f"docs/plots.md, example {number}", "exec"), names)
    finally:
        os.chdir(before)
    return names


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images")
