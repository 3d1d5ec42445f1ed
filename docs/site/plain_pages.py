"""A Sphinx extension: pages that are plain Markdown get what a site has beside the text.

The lists of links in index.md become the table of contents; pages that it does not link come last. Names such as
``lw.Trainer`` in code become links to the page of the object.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import make_refnode

# Of every page, the names that lead to an object: lw.Trainer, lw.optim.Adam(lr=1e-3)
NAME = re.compile(r"lw((?:\.\w+)+)(?:\(.*\))?", re.DOTALL)
LINK = re.compile(r"\]\(([\w/-]+)\.md\)")
# A link to a page above docs, whatever the place in it.
OUTSIDE = re.compile(r"\[([^]`]+)\]\((\.\./[^)#]+\.md)(?:#[^)]*)?\)")
REFERENCE = "api/index"


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append to the first page a table of contents for each of its sections that has links."""
    if docname != app.config.root_doc:
        return
    sections = {}
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        sections[title.strip()] = list(dict.fromkeys(LINK.findall(text)))
    listed = {page for pages in sections.values() for page in pages}
    others = {page for page in app.env.found_docs if not page.startswith("api/")} - listed - {docname}
    sections |= {"More": sorted(others), "Reference": [REFERENCE]}
    for title, pages in sections.items():
        if pages:
            entries = "\n".join(pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


def offer_files(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links to pages that are no part of the site into links to the files."""
    source[0] = OUTSIDE.sub(r"{download}`\1 <\2>`", source[0])


class ObjectLinks(SphinxTransform):
    """Makes a reference of each name of an object that stands in code in a page's text."""

    default_priority = 200

    def apply(self) -> None:
        """Wrap the names."""
        for literal in list(self.document.findall(nodes.literal)):
            match = NAME.fullmatch(literal.astext())
            if match and not isinstance(literal.parent, (nodes.reference, addnodes.pending_xref)):
                reference = addnodes.pending_xref(
                    "",
                    refdomain="py",
                    reftype="obj",
                    reftarget=f"latchwork{match[1]}",
                    refdoc=self.env.docname,
                    refexplicit=True,
                    refwarn=True,
                )
                literal.replace_self(reference)
                reference += literal


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Find an object by the end of its name, as docstrings say `Trainer.step` in other modules than its own too.

    That is the object of this name in the innermost package around, or the only one anywhere.
    """
    if node["refdomain"] != "py":
        return None
    name, objects = node["reftarget"], env.domains.python_domain.objects
    around = (node.get("py:module") or "").split(".")
    inner = [".".join([*around[:depth], name]) for depth in range(len(around), 0, -1)]
    found = [objects[each] for each in inner if each in objects][:1]
    # An object may have several names, by which it is imported here and there.
    anywhere = {(each.docname, each.node_id): each for full, each in objects.items() if full.endswith(f".{name}")}
    if not found and len(anywhere) == 1:
        found = list(anywhere.values())
    if not found:
        return None
    return make_refnode(app.builder, node["refdoc"], found[0].docname, found[0].node_id, content, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension."""
    app.connect("source-read", add_contents)
    app.connect("source-read", offer_files)
    app.connect("missing-reference", resolve_short_name)
    app.add_transform(ObjectLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
