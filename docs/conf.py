"""Settings of Sphinx, which makes a site of these pages: CONTRIBUTING.md has the command."""

import sys
from pathlib import Path

import latchwork

# What the site is made with beside Sphinx and its extensions lies in docs/site.
sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "Latchwork"
author = copyright = "Latchwork contributors"
version = release = latchwork.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "api_pages", "plain_pages"]
exclude_patterns = ["examples", "site"]
nitpicky = True

# In docstrings `name` is another object, ``name`` is code.
default_role = "py:obj"
# The docstrings say what types arguments have.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False

myst_heading_anchors = 4
smartquotes = False
# What says no language is no code: equations, and what programs print.
highlight_language = "none"

html_theme = "furo"
html_static_path = ["site/static"]
html_css_files = ["index.css"]
pygments_dark_style = "monokai"
html_title = f"Latchwork {release}"
# Excerpts of the pages found would be fetched, which browsers refuse for pages that lie on a disk.
html_show_search_summary = False
html_copy_source = False
html_show_sphinx = False
