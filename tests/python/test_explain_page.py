"""The examples of docs/explain.md run one after another, and print what the page says that they print."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "explain.md"
# Each example, and the block that shows what it prints, if there is one right after it.
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```(?:\n\n^```text\n(.*?)^```)?",
    PAGE.read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)


def test_the_examples_run_and_print_what_the_page_shows():
    assert len(EXAMPLES) >= 5
    assert sum(bool(shown) for _, shown in EXAMPLES) >= 4
    names = {}
    for number, (example, shown) in enumerate(EXAMPLES, start=1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example, f"docs/explain.md, example {number}", "exec"), names)
        assert printed.getvalue() == shown, f"example {number}"
