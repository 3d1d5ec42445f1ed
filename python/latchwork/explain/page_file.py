"""Puts the explorer's page together: one file of HTML that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCRIPTS = ("values.js", "memory.js", "texts.js", "matches.js", "colours.js", "maps.js", "panels.js", "page.js")


def page_html(facts: Mapping[str, Any], blocks: Mapping[str, bytes]) -> bytes:
    """Give the whole file.

    Parameters
    ----------
    facts
        What `explorer_page/page.js` starts with. It is compressed and written in base64, as the blocks are, so whatever
        its texts hold cannot be taken for HTML; the page shows them as text alone.
    blocks
        Further data by the id under which the page looks for it.
    """
    about = zlib.compress(json.dumps(facts, allow_nan=False, separators=(",", ":")).encode(), 9)
    style = _part("page.css")
    # One script, so that all parts of it are strict and share their names.
    script = '"use strict";\n' + "\n".join(_part(name) for name in _SCRIPTS)
    data = "\n".join(_data_element(name, content) for name, content in {"about": about, **blocks}.items())
    parts = {
        # The page may run this script and use this style, and load nothing from anywhere.
        "policy": f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
        "form-action 'none'",
        "style": style,
        "data": data,
        "script": script,
    }
    html = _part("page.html")
    for name, text in parts.items():
        before, after = html.split(f"<!-- {name} -->")
        html = before + text + after
    return html.encode()


def _part(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("explorer_page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data_element(name: str, content: bytes) -> str:
    return f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>'
