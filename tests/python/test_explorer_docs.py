"""docs/explorer.md: its example, its bounds, and the program that makes its picture."""

import importlib.util
import re
from pathlib import Path

import pytest
from explorer_pages import Page
from latchwork.explain import page, page_arguments, page_corpus

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "explorer.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, monkeypatch):
    example, _ = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/explorer.md", "exec"), {})
    assert len(Page(tmp_path / "gates.html").corpus()[0]) == 521


def test_the_bounds_are_those_of_the_code():
    bounds = [int(number.replace(",", "")) for number in re.findall(r"^\| ([\d,]+) \|", TEXT, flags=re.MULTILINE)]
    assert bounds == [
        page.MAX_UNIT_STEPS,
        page_corpus.MAX_UNIT_STEPS,
        page_corpus.MAX_STEPS,
        page_arguments.LONGEST_LABEL,
    ]


@pytest.fixture
def quotes():
    path = ROOT / "docs" / "examples" / "explorer_quotes.py"
    specification = importlib.util.spec_from_file_location("explorer_quotes", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_what_is_inside_quotes(quotes):
    for text, marks in (('a "bc" d', "   ^^^  "), ('"a\nb" c', " ^^  ^^"), ("", "")):
        assert quotes.inside_quotes(text) == [mark == "^" for mark in marks[: len(text)]]


@pytest.mark.slow
def test_the_program_writes_the_page(quotes, tmp_path, capsys):
    quotes.main(str(tmp_path / "quotes.html"))
    assert capsys.readouterr().out.startswith("written: ")
    sequence = Page(tmp_path / "quotes.html").facts["sequences"][0]
    assert sequence["steps"] == quotes.SHOWN + 1
    (track,) = sequence["tracks"]
    assert (track["name"], track["labels"]) == ("quotes", ["inside"])
    inside = {sequence["tokens"][step] for step, label in enumerate(track["steps"]) if label == 0}
    assert '"' in inside
    assert "\n" in {sequence["tokens"][step + 1] for step, label in enumerate(track["steps"][:-1]) if label < 0}
