"""How Sphinx builds the site: `make docs`, or `make docs-quick` without running any code."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import bayesmixed

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "bayesmixed"
author = "bayesmixed developers"
release = version = bayesmixed.__version__
extensions = [
    "mathml",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = [
    "_build",
    "_ext",
    "_templates",
    "case-studies/README.md",
    "**/.ipynb_checkpoints",
]
default_role = "py:obj"  # a name in docstrings is a link where it is one of ours
# A pattern at the end of a list of pages picks up what is new; it may find nothing.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4  # links such as methods.md#exact-algebra, as on the forge
myst_links_external_new_tab = False

# Pages with code are run by `make docs`, again only if they or the versions change.
nb_execution_mode = "off" if tags.has("quick") else "cache"  # noqa: F821 (Sphinx defines tags)
suppress_warnings = ["myst-nb.lexer"] if nb_execution_mode == "off" else []
nb_execution_in_temp = True  # what a page writes is not left in the repository
nb_execution_cache_path = str(HERE / "_build" / "executed")
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"
nb_render_markdown_format = "myst"  # tables in what a cell displays

templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says what may be given, in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_citation_re = "[^\\s\\S]"  # [1] in a docstring is its own list of references

html_theme = "pydata_sphinx_theme"
html_title = "bayesmixed"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's own
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# Pages at the top have nothing to list at their side, but for those that hold others.
html_sidebars = {"*": [], "reports": ["sidebar-nav-bs"], "case-studies": ["sidebar-nav-bs"]}
html_theme_options = {
    "logo": {"text": "bayesmixed"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_persistent": [],
    "navbar_end": ["search-button", "theme-switcher"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
copyright = "bayesmixed developers, BSD 3-clause licence"
