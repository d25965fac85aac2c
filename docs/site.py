"""Builds the documentation site in build/site, and checks it: ``make site``.

The site is the repository's pages with their links as they are, so it has the repository's folders. Its first page is
README.md. The navigation is the table of all pages in docs/index.md, with the pages of a folder below the folder's
first page. The reference is made from the docstrings of the names that docs/architecture.md lists. A page that is in
none of these, a link without a target, and anything that a browser would fetch from elsewhere are errors.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fixgw.install import NOT_SOURCE  # noqa: E402

DOCS = ROOT / "docs"
SOURCE = ROOT / "build" / "site-source"
SITE = ROOT / "build" / "site"
#: What a browser fetches by itself: elements and attributes.
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "audio": "src"}
STYLED = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
#: Rows of docs/architecture.md: a module and the names that versions promise; modules that drivers and tests share.
PROMISED = re.compile(r"^\| `(fixgw[\w.]*)` \| `([\w ]+)` \|$", re.MULTILINE)
SHARED = re.compile(r"^\| (`fixgw[\w.]*`(?:, `[\w.]+`)*) \|", re.MULTILINE)


def prepare() -> None:
    """Lay out in `SOURCE` what Sphinx reads: the tree, the first page and the reference."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT, SOURCE, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    (SOURCE / "index.md").write_text((ROOT / "README.md").read_text(encoding="utf-8") + navigation(), encoding="utf-8")
    (SOURCE / "api").mkdir()
    for name, text in reference().items():
        (SOURCE / "api" / f"{name}.md").write_text(text, encoding="utf-8")


def navigation() -> str:
    """The sections and pages of docs/index.md, as directives. Pages in a folder with a first page are below that."""
    table = (DOCS / "index.md").read_text(encoding="utf-8").partition("\n## All pages\n")[2].partition("\n## ")[0]
    sections: dict[str, list[str]] = {"": ["All pages, glossary <docs/index>"]}
    for row in table.splitlines():
        if heading := re.match(r"\| \*\*(.+)\*\* \|", row):
            sections[heading[1]] = []
            continue
        for target in re.findall(r"\]\(([^)#]+)\)", row.split("|")[1]) if row else ():
            page = Path(os.path.normpath(DOCS / target))
            if page.name in ("index.md", "README.md") or page.parent in (ROOT, DOCS):
                [*sections.values()][-1].append(str(page.relative_to(ROOT).with_suffix("")))
    described = sorted(page.relative_to(ROOT).with_suffix("") for page in ROOT.glob("tests/*/README.md"))
    [*sections.values()][-1] += ["api/index", *map(str, described)]
    return "".join(
        "\n".join(
            [
                "\n\n```{toctree}",
                ":hidden:",
                ":titlesonly:",
                *([f":caption: {title}"] if title else []),
                "",
                *pages,
                "```",
            ]
        )
        for title, pages in sections.items()
    )


def reference() -> dict[str, str]:
    """The pages of the reference, by their names."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = [(module, names.split()) for module, names in PROMISED.findall(text)]
    for cell in SHARED.findall(text.partition("\n## What drivers share\n")[2].partition("\n## ")[0]):
        first, *others = re.findall(r"[\w.]+", cell)
        package = first.rpartition(".")[0]
        rows += [(name if name.startswith("fixgw.") else f"{package}.{name}", []) for name in (first, *others)]
    pages, contents = {}, ["# API reference", "", REFERENCE, "| module | |", "|---|---|"]
    for name, names in rows:
        module = importlib.import_module(name)
        first, _, _ = (module.__doc__ or "").partition("\n\n")
        contents.append(f"| [{name}]({name}.md) | {' '.join(first.replace('``', '`').split())} |")
        described = [f".. automodule:: {name}", f"   :{'no-' if names else ''}members:", ""]
        for each in names:
            described += [f".. auto{kind(getattr(module, each))}:: {name}.{each}", ""]
        pages[name] = "\n".join([f"# {name}", "", "```{eval-rst}", *described, "```", ""])
    return {"index": "\n".join([*contents, ""]), **pages}


def kind(subject: object) -> str:
    """What Sphinx calls `subject`."""
    if isinstance(subject, type):
        return "exception" if issubclass(subject, BaseException) else "class"
    return "function" if callable(subject) else "data"


REFERENCE = """\
What plugins, drivers and tests in other repositories use. [Public names](../docs/architecture.md#public-names) says
which of it versions promise, and [writing plugins](../docs/writing-plugins.md) how it is used.
"""


class Links(HTMLParser):
    """The links of a page, what a browser fetches for it, and the places in it that a link can name."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self._style = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attributes if value}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if url := values.get(FETCHED.get(tag, "")):
            self.fetched.append(url)
        self._style = tag == "style"
        self.fetched += urls_of_style(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._style:
            self.fetched += urls_of_style(data)


def urls_of_style(text: str) -> list[str]:
    return [one or other for one, other in STYLED.findall(text)]


def problems(site: Path) -> Iterator[str]:
    """What is wrong with the links of the site in the directory `site`, a line each."""
    links_of = cache(Links)
    for page in sorted(site.rglob("*.html")):
        links = links_of(page)
        for url in (*links.fetched, *links.links):
            if trouble := problem(url, page, site, links_of, url in links.fetched):
                yield f"{page.relative_to(site)}: {url}: {trouble}"
    for sheet in sorted(site.rglob("*.css")):
        for url in urls_of_style(sheet.read_text(encoding="utf-8")):
            if trouble := problem(url, sheet, site, links_of, True):
                yield f"{sheet.relative_to(site)}: {url}: {trouble}"


def problem(url: str, page: Path, site: Path, links_of: Callable[[Path], Links], fetched: bool) -> str:
    """What is wrong with the link `url` on `page`; nothing is fetched to find out."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return "fetched from elsewhere" if fetched and parts.scheme != "data" else ""
    target = page
    if parts.path:
        target = Path(os.path.normpath(page.parent / unquote(parts.path)))
    if not target.is_relative_to(site):
        return "outside the site"
    if not target.is_file():
        return "no such file"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in links_of(target).places:
        return "no such place on the page"
    return ""


def main() -> int:
    prepare()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--quiet", "--jobs", "2"]
    command += ["--conf-dir", str(DOCS), "--doctree-dir", str(ROOT / "build" / "site-doctrees"), "--fresh-env"]
    if subprocess.run([*command, str(SOURCE), str(SITE)], cwd=ROOT, check=False).returncode:
        return 1
    found = list(problems(SITE))
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201
    if not found:
        print(SITE / "index.html")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
