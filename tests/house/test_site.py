"""The check of the documentation site (`docs/site.py`) finds what is wrong with links."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SITE: dict[str, Any] = runpy.run_path(str(ROOT / "docs/site.py"))


def found(tmp_path: Path, html: str, css: str = "") -> list[str]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/page.html").write_text(html)
    (tmp_path / "other.html").write_text('<h2 id="there">There</h2>')
    (tmp_path / "style.css").write_text(css)
    return list(SITE["problems"](tmp_path))


@pytest.mark.parametrize(
    "html",
    [
        '<a href="../other.html#there">',
        '<a href="#here"><p id="here">',
        '<a href="https://example.org/">',
        '<img src="data:image/png;base64,AA==">',
        '<link rel="stylesheet" href="../style.css?v=1">',
    ],
)
def test_links_with_targets_are_no_problem(tmp_path: Path, html: str) -> None:
    assert found(tmp_path, html, "a { background: url(data:image/png;base64,AA==) }") == []


@pytest.mark.parametrize(
    ("html", "trouble"),
    [
        ('<a href="nowhere.html">', "nowhere.html: no such file"),
        ('<a href="../">', "../: no such file"),
        ('<a href="../other.html#where">', "../other.html#where: no such place on the page"),
        ('<a href="#where">', "#where: no such place on the page"),
        ('<a href="../../secret.html">', "../../secret.html: outside the site"),
        ('<img src="https://example.org/a.png">', "https://example.org/a.png: fetched from elsewhere"),
        ('<script src="//example.org/a.js">', "//example.org/a.js: fetched from elsewhere"),
        ("<style>@import 'https://example.org/a.css'</style>", "https://example.org/a.css: fetched from elsewhere"),
    ],
)
def test_others_are_named_with_their_page(tmp_path: Path, html: str, trouble: str) -> None:
    assert found(tmp_path, html) == [f"folder/page.html: {trouble}"]


def test_fonts_of_style_sheets_are_checked(tmp_path: Path) -> None:
    css = "@font-face { src: url('https://example.org/a.woff2') } a { background: url(none.svg) }"
    assert found(tmp_path, "", css) == [
        "style.css: https://example.org/a.woff2: fetched from elsewhere",
        "style.css: none.svg: no such file",
    ]


def test_the_navigation_has_the_first_page_of_each_folder_and_every_other_page() -> None:
    pages = [line.split("<")[-1].rstrip(">") for line in SITE["navigation"]().splitlines()]
    folders = {page.parent for page in (ROOT / "docs").rglob("index.md")} - {ROOT / "docs"}
    for page in [*(ROOT / "docs").glob("*.md"), *(folder / "index.md" for folder in folders)]:
        assert str(page.relative_to(ROOT).with_suffix("")) in pages
    assert "CHANGELOG" in pages
    assert "docs/drivers/eis" not in pages  # it is below docs/drivers/index


def test_the_reference_has_the_names_that_versions_promise_and_what_drivers_share() -> None:
    pages = SITE["reference"]()
    assert ".. autoclass:: fixgw.netfix.Client" in pages["fixgw.netfix"]
    assert ".. autoexception:: fixgw.errors.BadValue" in pages["fixgw.errors"]
    assert {"fixgw.plugin", "fixgw.kit.publish", "fixgw.drivers.links.can.log", "fixgw.hw_sim.gpio"} <= set(pages)
