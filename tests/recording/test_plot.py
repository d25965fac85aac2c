"""The page with charts, as a real browser draws it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import cli
from fixgw.cli import reading
from fixgw.kit.update import OLD
from fixgw.recording import Alert, RecordingError
from fixgw.recording.plot import page
from fixgw.recording.sampling import Span, span_of
from tests.recording.flights import START, InMemory, recording

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
HOSTILE = "</script><img src=x onerror=alert(1)>&amp;<b>"
UNITS = {
    "IAS": "knots",
    "ALT": "ft",
    "EGT11": "degC",
    "EGT12": HOSTILE,
    "OILP1": "psi",
    "OILT1": "degC",
    "VS": "ft/min",
}


def flight(**about: Any) -> InMemory:
    """Ten minutes; in the middle EGT 2 is old for a minute, and the position for two."""
    changes: list[tuple[Any, ...]] = []
    for t in range(601):
        values = {"IAS": 100 + t / 10, "ALT": 1000.0 + t, "VS": 60.0, "EGT11": 700.0, "OILP1": 70, "OILT1": 90.0}
        changes += [(t, key, value) for key, value in values.items()]
        changes.append((t, "EGT12", 750.0, OLD if 300 <= t < 360 else 0))
        changes += [(t, k, v + t / 1e4, OLD if 100 <= t < 220 else 0) for k, v in (("LAT", 43.9), ("LONG", -88.6))]
    alerts = [
        Alert(START + 100, "oil", "active", "warning", "OIL LOW " + HOSTILE),
        Alert(START + 160, "oil", "normal", "warning", ""),
        Alert(START + 500, "volts", "active", "caution", "VOLTS LOW"),
    ]
    return recording(changes, alerts, **{"units": UNITS, "ident": HOSTILE, "simulated": True, **about})


def test_the_file_needs_no_network_and_has_no_markup_of_the_recording() -> None:
    text = "".join(page(flight(), span_of(flight())))
    ours = text[: text.index("<script>")]
    assert "\\u003c/script\\u003e" in ours
    assert "<img" not in ours
    assert len(re.findall("</script>", text)) == 3
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", text[: text.index("plotly.js v")])


def test_nothing_to_draw_is_an_error() -> None:
    empty = recording([(0, "WPNAME", "KOSH"), (5, "WPNAME", "KOSH")])
    with pytest.raises(RecordingError, match="nothing to draw"):
        list(page(empty, span_of(empty)))


def test_the_command_writes_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "open_recording", lambda _: flight(ident="N1"))
    opened: list[str] = []

    def pretend(uri: str) -> bool:
        opened.append(uri)
        return True

    monkeypatch.setattr("webbrowser.open", pretend)
    assert cli.main(["plot", "x.mcap", "--open"]) == 0
    (written,) = tmp_path.iterdir()
    assert written.name == "plot_20260516_140500_N1_SIMULATED.html"
    assert opened == [written.as_uri()]
    assert cli.main(["plot", "x.mcap"]) == 1


# -- in the browser ----------------------------------------------------------------------------------------------------


class Page:
    """A page in the browser; `requests` and `errors` are what it asked for and what went wrong."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
        self.page.set_default_timeout(30_000)  # a busy computer
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._heed)
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.locator("body[data-drawn=yes]").wait_for()

    def _heed(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _dismiss(self, dialog: Any) -> None:
        self.errors.append(dialog.message)
        dialog.dismiss()

    def all(self, selector: str) -> Any:
        return self.page.locator(selector)

    def parts(self, figure: str) -> list[int]:
        """The number of parts without a gap of each line that is drawn."""
        return [trace.locator("path.js-line").count() for trace in self.all(f"{figure} .scatterlayer .trace").all()]

    def lines(self, figure: str) -> list[str]:
        """The path of each line, all of its parts."""
        traces = self.all(f"{figure} .scatterlayer .trace").all()
        return [" ".join(p.get_attribute("d") for p in trace.locator("path.js-line").all()) for trace in traces]

    def reading(self, key: str) -> str:
        return str(self.all(f"#legend button[title={key}] b").text_content())

    def statistics(self, key: str) -> list[str]:
        return list(self.all(f"#statistics tr[data-key={key}] td").all_text_contents())

    def move_to(self, part: float) -> None:
        """Put the pointer on the charts, at this part of their time."""
        box = self.all("#figure .nsewdrag").last.bounding_box()
        self.page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no chromium-headless-shell: apt-get install chromium-headless-shell")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER)
        yield started
        started.close()


@pytest.fixture
def draw(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    drawn: list[Page] = []

    def to_page(of: InMemory, span: Span | None = None) -> Page:
        path = tmp_path / "plot.html"
        path.write_text("".join(page(of, span or span_of(of))))
        drawn.append(Page(browser, path))
        return drawn[-1]

    yield to_page
    for each in drawn:
        assert not each.errors
        assert all(url.startswith(("file:", "data:", "blob:")) for url in each.requests)
        each.page.context.close()


@pytest.mark.slow
def test_what_is_drawn(draw: Callable[..., Page]) -> None:
    seen = draw(flight())
    # Texts are texts, and a simulated flight says so.
    assert seen.all("h1").text_content() == HOSTILE
    assert seen.all("#simulated").is_visible()
    assert seen.all("#simulated").text_content() == "SIMULATED"
    assert "2026-05-16 14:05:00 to 14:15:00 UTC" in seen.all("#when").text_content()
    assert seen.all("img").count() == 0
    assert HOSTILE in " ".join(
        seen.all(
            "#figure .ytitle, #figure .y2title, #figure .y3title, #figure .y4title, #figure .y5title"
        ).all_text_contents()
    )
    # A line for each series, in order after the two of the alerts; what was not good is a gap.
    assert seen.all("#legend h3").all_text_contents() == [
        *("Alerts", "Altitude", "Speed", "Exhaust gas temperatures", "Oil"),
    ]
    assert seen.all("#legend button span").all_text_contents() == [
        *("ALT", "VS", "IAS", "EGT 1", "EGT 2", "oil temperature", "oil pressure"),
    ]
    assert seen.parts("#figure") == [1, 1, 1, 1, 1, 1, 2, 1, 1]
    # The track has a gap, too, and both of its ends.
    assert seen.parts("#ground")[0] == 2
    assert seen.all("#ground .scatterlayer .textpoint").all_text_contents() == ["begin", "end"]
    # The alerts are marks behind the charts and rows of a table.
    assert seen.all("#figure .shapelayer path").count() == 2
    rows = seen.all("#alerts tbody tr").all()
    assert [row.locator("td").all_text_contents() for row in rows] == [
        ["warning", "OIL LOW " + HOSTILE, "14:06:40", "14:07:40"],
        ["caution", "VOLTS LOW", "14:13:20", "the end"],
    ]
    # Statistics of the whole flight.
    assert seen.statistics("IAS") == ["IAS", "kt", "100", "130", "160", "14:15:00", "100 %"]
    assert seen.statistics("EGT12")[-1] == "90 %"
    # The cursor reads all charts, and shows the place.
    seen.move_to(0.5)
    assert seen.all("#clock").text_content() in ("14:09:59", "14:10:00", "14:10:01")
    assert (seen.reading("IAS"), seen.reading("EGT11"), seen.reading("EGT12")) == ("130", "700", "–")
    assert seen.all("#here").is_visible()
    seen.move_to(0.25)
    assert seen.reading("EGT12") == "750"
    assert not seen.all("#here").is_visible()
    # Zooming changes what the statistics are about.
    box = seen.all("#figure .nsewdrag").last.bounding_box()
    x, y, width = box["x"], box["y"] + box["height"] / 2, box["width"]
    seen.page.mouse.move(x + 0.25 * width, y)
    seen.page.mouse.down()
    seen.page.mouse.move(x + 0.75 * width, y, steps=3)
    seen.page.mouse.up()
    seen.page.locator("#part", has_text="14:07:").wait_for()
    least, mean, greatest = map(float, seen.statistics("IAS")[2:5])
    assert (least, mean, greatest) == pytest.approx((115, 130, 145), abs=1.5)
    # A line can be hidden.
    seen.all("#legend button[title=EGT11]").click()
    assert seen.all("#legend button[title=EGT11]").get_attribute("aria-pressed") == "false"
    assert len(seen.parts("#figure")) == 2 + 6


@pytest.mark.slow
def test_a_real_flight_without_a_date_or_a_position(draw: Callable[..., Page]) -> None:
    changes = [(50.0 + t + (500.0 if t >= 60 else 0), "OILP1", 70.0) for t in range(5000)]
    changes[3000] = (*changes[3000][:2], 20.0)
    seen = draw(recording(changes, dated=False, ident="", name="first"))
    assert seen.all("h1").text_content() == "first"
    assert not seen.all("#simulated").is_visible()
    assert "without a date" in seen.all("#when").text_content()
    assert not seen.all("#track").is_visible()
    assert not seen.all("#alerts").is_visible()
    assert seen.parts("#figure") == [2]  # for eight minutes nothing was recorded
    assert seen.all("#figure .xtitle").text_content() == "from the beginning"
    # Of more points than can be seen the extremes are drawn, one second's too.
    assert len(re.findall(r"[ML][\d.]+,1\d\d\b", seen.lines("#figure")[0])) == 1
    seen.move_to(0.999)
    assert re.fullmatch("01:31:[34].", seen.all("#clock").text_content())
    assert seen.reading("OILP1") == "70"
    assert seen.statistics("OILP1")[2:5] == ["20", "70", "70"]
