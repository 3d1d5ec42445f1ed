"""The examples of the README run as they stand, one after another in one folder; those of pages under docs too."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def examples_of(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


EXAMPLES = examples_of(ROOT / "README.md")


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


def test_the_page_on_training():
    """Its examples follow from each other."""
    names = {}
    examples = examples_of(ROOT / "docs" / "training.md")
    assert len(examples) >= 4
    for example in examples:
        exec(compile(example, "docs/training.md", "exec"), names)
