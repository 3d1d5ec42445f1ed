"""The examples of the README run as they stand, one after another in one folder."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("readme")
    text = "It is a truth universally acknowledged, that a model must be in want of a text.\n"
    (path / "my-text.txt").write_text(text * 40, encoding="utf-8")
    return path


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number, folder, monkeypatch, capsys):
    if re.search(r"^import torch$", EXAMPLES[number], flags=re.MULTILINE):
        pytest.importorskip("torch", reason="the example needs PyTorch, which is not installed")
    monkeypatch.chdir(folder)
    exec(compile(EXAMPLES[number], f"README.md, example {number + 1}", "exec"), {})
