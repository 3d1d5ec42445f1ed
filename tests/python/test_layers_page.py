"""The examples of docs/layers.md run as they stand, one after another, each with what the ones before it defined."""

import re
from pathlib import Path

import latchwork as lw

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_examples_run():
    assert len(EXAMPLES) == 5
    names = {}
    for number, example in enumerate(EXAMPLES, start=1):
        exec(compile(example, f"docs/layers.md, example {number}", "exec"), names)
    assert names["again"].mask_seed == names["tape"].mask_seed
    assert (names["again"].output != names["network"](names["x"], lengths=names["lengths"])[0]).any()


def test_it_names_every_layer():
    text = PAGE.read_text(encoding="utf-8")
    for layer in (lw.Embedding, lw.Linear, lw.Dropout, lw.Last, lw.Mean, lw.Max):
        assert f"`{layer.__name__}(" in text
