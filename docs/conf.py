"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from xferlab import __version__

project = "xferlab"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # the anchors of GitHub, down to this level
smartquotes = False  # they would change `--yes` in prose
highlight_language = "none"  # of blocks that name no language
default_role = "literal"  # docstrings have Markdown's `code`
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"xferlab {release}"
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2}
