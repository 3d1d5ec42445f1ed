"""Pages in Markdown: which there are, and their blocks of code."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
# What shows that a block without a language is commands or Python, and neither equations nor what a program prints.
COMMAND = re.compile(r"(latchwork|python3?|pip|cmake|ctest|g\+\+|tests/\S+|\./\S+) ?")
PYTHON = re.compile(r"(import|from) \w+|>>> ")
FENCE = re.compile(r"```(\w*)$")
NOT_RUN = re.compile(r"(?:#|//) Not run by the tests: (.+)")


class Block(NamedTuple):
    language: str  # "" if the page does not say
    text: str
    place: str  # page and line, for messages

    @property
    def reason_not_run(self):
        """What the first line says, which readers see too; None if the block is to be run."""
        match = NOT_RUN.match(self.text)
        return match and match[1]

    def commands(self):
        """The commands of a shell's block, without comments; those that go on in the next line joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [command for line in lines if (command := re.sub(r"(^| ) *#.*", "", line).strip())]


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks_of(page):
    """All blocks, fenced or indented."""
    blocks, lines = [], page.read_text(encoding="utf-8").splitlines()
    number, after_blank = 0, True
    while number < len(lines):
        start, line = number, lines[number]
        if fence := FENCE.match(line):
            end = next(at for at in range(start + 1, len(lines)) if lines[at] == "```")
            number = end + 1
            text = "\n".join(lines[start + 1 : end])
            blocks.append(Block(fence[1] or language_of(text), text, f"{name_of(page)}, line {start + 2}"))
        elif after_blank and line.startswith("    "):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            text = "\n".join(each[4:] for each in lines[start:number]).rstrip()
            blocks.append(Block(language_of(text), text, f"{name_of(page)}, line {start + 1}"))
        else:
            assert "```" not in line, (
                f"{name_of(page)}, line {start + 1}: expected ``` and one word at most, got {line}"
            )
            number += 1
        after_blank = not lines[number - 1]
    return blocks


def language_of(text):
    """What the language of a block is that does not say."""
    return "sh" if COMMAND.match(text) else "python" if PYTHON.match(text) else ""
