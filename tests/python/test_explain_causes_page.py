"""The examples of docs/explain-causes.md run as they stand, one after another, in one namespace."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "explain-causes.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_examples_run(capsys):
    names = {}
    for number, example in enumerate(EXAMPLES, start=1):
        exec(compile(example, f"docs/explain-causes.md, example {number}", "exec"), names)
    assert len(EXAMPLES) == 11
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("<Probe of cell in 0.l0, auc with 0.5 by chance: unit 0: 1.000, 1: 1.000")
    assert printed[1] == "<Responsible in 0.l0: 0: 1, 1: 0, 2: 0; together [0]: 1>"
    assert printed[2].startswith("<Ablation of 0.l0: loss ")
