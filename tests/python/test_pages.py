"""The pages in Markdown: the code in them runs, in order, and their links lead somewhere.

A block is run, or says why not in its first line, as in ``# Not run by the tests: it takes an hour.`` A block of the
language ``text`` right after one that was run is what that one prints.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import latchwork as lw
import pytest
from markdown_pages import ROOT, blocks_of, name_of, pages

# The peers that examples may import.
PEERS = (
    "matplotlib", "onnx", "onnxruntime", "pandas", "pyarrow", "sb3_contrib", "sklearn", "torch", "torchrl",
)  # fmt: skip
TEXT = "It is a truth universally acknowledged, that a model must be in want of a text.\n"


class Skipped(Exception):
    """A block needs what is not installed."""


def run_page(page, folder, monkeypatch):
    """Run all blocks in one folder. Give the names that the Python blocks defined, and what was left out."""
    monkeypatch.chdir(folder)
    (folder / "my-text.txt").write_text(TEXT * 40, encoding="utf-8")
    golden = Path(__file__).parent / "golden"
    shutil.copy(golden / "keras" / "stack.keras", folder / "model.keras")
    shutil.copy(golden / "json" / "model.nam", folder / "amp.nam")
    names, left_out, printed = {}, [], None
    lacking = None  # why a block that the next ones may build on was left out
    for block in blocks_of(page):
        if block.language != "text":
            printed = None  # what the block before this one printed
        if block.reason_not_run:
            continue
        try:
            if block.language == "python":
                if re.search(r"^import latchwork", block.text, flags=re.MULTILINE):
                    names, lacking = {}, None  # a block with imports of its own is one that a reader may take alone
                try:
                    printed = run_python(block, names)
                except NameError as error:
                    if lacking is None:
                        raise
                    raise lacking from error
            elif block.language == "sh":
                printed = "".join(run_command(block, command, folder) for command in block.commands()).rstrip("\n")
            elif block.language == "cpp":
                file = re.match(r"// (\w+\.cpp)\n", block.text)
                assert file, f"{block.place}: expected the name of the file in the first line, // NAME.cpp"
                program = ROOT / "docs" / "examples" / "cpp" / file[1]  # built by check_examples.py
                assert block.text[file.end() :] == program.read_text(encoding="utf-8").rstrip("\n"), block.place
            elif block.language == "json":
                json.loads(block.text)
            elif block.language == "text" and printed is not None:
                assert block.text == printed, f"{block.place}: the block before it prints\n{printed}"
            else:
                assert block.language in ("", "text"), f"{block.place}: nothing here runs {block.language}"
        except Skipped as reason:
            if block.language == "python":
                lacking = reason
            left_out.append(f"{block.place}: {reason}")
    return names, left_out


def run_python(block, names):
    """Run a block, and give what it prints."""
    for peer in PEERS:
        imported = re.search(rf"^(import|from) {peer}\b", block.text, flags=re.MULTILINE)
        if imported and importlib.util.find_spec(peer) is None:
            raise Skipped(f"needs {peer}")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            exec(compile(block.text, block.place, "exec"), names)
        except ImportError as error:
            missing = extra_missing(str(error))
            if not missing:
                raise
            raise Skipped(missing) from error
    return output.getvalue().rstrip("\n")


def extra_missing(message):
    """Which extra of the package an error asks for; None: it is about something else."""
    extra = re.search(r"pip install '?(latchwork\[\w+\])", message)
    return f"needs {extra[1]}" if extra else None


def run_command(block, command, folder):
    """Run one command and give what it prints, or see that something else runs it."""
    words = command.split()
    if words[0] == "latchwork":
        return shell(block, command.replace("latchwork", f"{sys.executable} -m latchwork", 1), folder)
    if words[0] == "python" and words[1].startswith("docs/examples/"):
        stem = Path(words[1]).stem
        assert (ROOT / words[1]).exists(), f"{block.place}: there is no {words[1]}"
        tests = [path for path in Path(__file__).parent.glob("test_*.py") if stem in path.read_text(encoding="utf-8")]
        assert tests, f"{block.place}: no test runs {words[1]}"
        return ""
    assert is_in_ci(command), f"{block.place}: expected a command that tests can run, or a reason, got {command}"
    return ""


def is_in_ci(command):
    """Whether .ci/run does the same, or what it does is to install."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    return re.search(rf"(^|\s){re.escape(command)}(\s|$)", ci) or "pip install " in command


def shell(block, command, folder):
    package = Path(lw.__file__).parents[1]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(package)},
    )  # fmt: skip
    missing = extra_missing(done.stderr)
    if done.returncode != 0 and missing:
        raise Skipped(missing)
    assert done.returncode == 0, f"{block.place}: {command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_what_a_page_shows_runs(page, tmp_path, monkeypatch):
    _, left_out = run_page(page, tmp_path, monkeypatch)
    if left_out:
        pytest.skip("ran all but " + ", ".join(left_out))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.is_relative_to(ROOT), target
        assert to.exists(), target
        if anchor:
            assert anchor in anchors_of(to), target


def anchors_of(page):
    """What a heading is called in links."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_there_are_pages_and_blocks():
    names = [name_of(page) for page in pages()]
    assert {"README.md", "docs/index.md", "docs/start.md", "docs/files.md", "docs/cpp.md"} <= set(names)
    assert len([block for block in blocks_of(ROOT / "README.md") if block.language == "python"]) >= 5
    assert [block.language for block in blocks_of(ROOT / "docs" / "adding-1997.md")] == ["sh", "", "", "python", ""]


def test_the_page_on_layers(tmp_path, monkeypatch):
    page = ROOT / "docs" / "layers.md"
    names, _ = run_page(page, tmp_path, monkeypatch)
    assert names["again"].mask_seed == names["tape"].mask_seed
    assert (names["again"].output != names["network"](names["x"], lengths=names["lengths"])[0]).any()
    text = page.read_text(encoding="utf-8")
    for layer in (lw.Embedding, lw.Linear, lw.Dropout, lw.Last, lw.Mean, lw.Max):
        assert f"`{layer.__name__}(" in text
