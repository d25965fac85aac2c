"""How Sphinx makes the site. `docs/site.py` (`make site`) prepares what it reads, and checks what it writes."""

from __future__ import annotations

import re
from inspect import getdoc
from typing import Any

from furo.navigation import get_navigation_tree
from sphinx.environment.adapters.toctree import global_toctree_for_doc

from fixgw import __version__

project = "FIX Gateway"
author = "FIX Gateway contributors"
copyright = "FIX Gateway contributors, Apache-2.0"
version = release = __version__
html_title = f"FIX Gateway {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
include_patterns = ["*.md", "api/**", "docs/**.md", "examples/**.md", "tests/*/README.md"]
exclude_patterns = ["README.md"]  # the site's first page says what it says
#: Samples with `...` in them; words of docstrings that are names of several things.
suppress_warnings = ["misc.highlighting_failure", "ref.python"]

myst_heading_anchors = 4
myst_disable_syntax = ["footnote_ref"]  # `[^...]` is part of a regular expression

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # a page cannot read others from a file system

# In docstrings, `name` is a name of the code, and a link if the site describes it.
default_role = "py:obj"
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # `os.environ` as a default is not what is in the environment of the build
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}


#: A page of a folder, or the first page of a folder in it.
FIRST = re.compile(r"[^/]+|[^/]+/(index|README)")


def list_folder(app: Any, docname: str, source: list[str]) -> None:
    """Put the pages of a folder, and the first pages of the folders in it, below the first page of the folder."""
    folder, _, name = docname.rpartition("/")
    if name not in ("index", "README") or docname in ("index", "docs/index"):
        return
    inside = [page.removeprefix(f"{folder}/") for page in app.env.found_docs if page.startswith(f"{folder}/")]
    pages = [page for page in sorted(inside) if page != name and FIRST.fullmatch(page)]
    if pages:
        source[0] += "\n".join(["\n\n```{toctree}", ":hidden:", ":titlesonly:", "", *pages, "```\n"])


def as_restructured_text(app: Any, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are text with indented code, as in Markdown: mark the code. Those that Python makes say nothing."""
    text = "\n".join(lines)
    if text.startswith("Alias for field number ") or text.strip() == getdoc(type(subject)):
        text = ""
    lines[:] = re.sub(r"(?<=\n\n)(?<!::\n\n)(?=    \S)", "::\n\n", text).split("\n")


# The navigation is resolved once. Doing it for each page takes longer than everything else together.


def remember_navigation(app: Any, builder: Any) -> None:
    tree = global_toctree_for_doc(
        app.env, root_doc, builder, tags=app.tags, collapse=False, titles_only=True, maxdepth=-1, includehidden=True
    )
    builder.navigation = get_navigation_tree(builder.render_partial(tree)["fragment"])


def skip_navigation(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    context["toctree"] = lambda **_: ""


def insert_navigation(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """The navigation with links from `pagename`, opened where that is."""
    html = app.builder.navigation
    entry = f'<a class="reference internal" href="{pagename}.html">'
    at = html.find(entry)
    if at >= 0:
        html = html.replace(entry, '<a class="current reference internal" href="#">')
        own = level = int(html[html.rfind("toctree-l", 0, at) :][9])
        while level:  # the entry, and those above it
            item = f'<li class="toctree-l{level}'
            at = html.rfind(item, 0, at)
            before, after = html[:at], html[at + len(item) :]
            if level == own:
                item += " current-page"
            if level < own or " has-children" in after[: after.find(">")]:
                after = after.replace("<input ", '<input checked="" ', 1)
            html = f"{before}{item} current{after}"
            level -= 1
    context["furo_navigation_tree"] = re.sub(r'href="(?!#)', f'href="{"../" * pagename.count("/")}', html)


def setup(app: Any) -> None:
    app.connect("source-read", list_folder)
    app.connect("write-started", remember_navigation)
    app.connect("html-page-context", skip_navigation, priority=100)  # before the theme
    app.connect("html-page-context", insert_navigation, priority=900)
    app.connect("autodoc-process-docstring", as_restructured_text)
