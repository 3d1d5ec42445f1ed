"""Makes the pictures of the pages on estimators by the code that stands there.

python docs/examples/estimators.py [FOLDER]

They go into docs/images unless another folder is given.
"""

import os
import re
import sys
from pathlib import Path

import matplotlib

DOCS = Path(__file__).resolve().parents[1]
PAGES = ("regressor", "classifier", "missing-values", "language-model")


def run(page, folder):
    """Run a page's code in a folder, up to its picture, and return the names that it defined."""
    matplotlib.use("Agg")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    names = {}
    before = os.getcwd()
    os.chdir(folder)
    try:
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL), start=1):
            exec(compile(code, f"docs/{page}.md, example {number}", "exec"), names)
            if "savefig" in code:
                break
    finally:
        os.chdir(before)
    return names


if __name__ == "__main__":
    for each in PAGES:
        run(each, Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images")
