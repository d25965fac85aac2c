"""The page in Chromium: what it shows, what it never shows, and what it does when the gateway is gone."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import state
from fixgw.drivers.canfix.monitor import Monitor
from fixgw.drivers.canfix.table import load
from fixgw.drivers.links.can.frame import Frame
from fixgw.kit.update import BAD, FAIL, OLD
from fixgw.plugins.web.access import Tokens

from .browsing import CHROMIUM, CONNECTION, DESK, HOSTILE, NARROW, NO_CHROMIUM, PHONE, Served
from .recorded import record

pytestmark = pytest.mark.slow

Visit = Callable[..., Any]
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = api.expect
PATIENCE_MS = 20_000  # on a busy computer
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
        served = Served()
        yield served
        served.close()


@pytest.fixture
def visit(browser: Any, gateway: Served) -> Iterator[Visit]:
    """Open a page; whatever the browser complains of fails the test, but what `allowed` matches."""
    contexts: list[Any] = []
    errors: list[str] = []
    tolerated: list[str] = []

    def dismiss(dialog: Any) -> None:
        errors.append(dialog.message)
        dialog.dismiss()

    def open_page(
        path: str = "", url: str | None = None, viewport: dict[str, int] = DESK, allowed: str = "", **options: Any
    ) -> Any:
        context = browser.new_context(viewport=viewport, color_scheme=options.pop("scheme", "dark"), **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        if allowed:
            tolerated.append(allowed)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.extend([message.text] if message.type == "error" else []))
        page.on("dialog", dismiss)
        page.goto((url or gateway.url) + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [e for e in errors if not any(re.search(pattern, e) for pattern in tolerated)] == []


def row(page: Any, key: str) -> Any:
    return page.locator(f"#r-{key}")


# -- values ------------------------------------------------------------------------------------------------------------


def test_the_first_values_are_there_within_a_second(gateway: Served, visit: Visit) -> None:
    gateway.put("ALT", 1234.4, source="gps")
    took: list[float] = []
    while not took or (min(took) > 3000 and len(took) < 4):  # a busy computer may hold the browser up, but not always
        page = visit("#data")
        expect(row(page, "ALT").locator(".value")).to_have_text("1234")
        took.append(page.evaluate("performance.now()"))
    assert min(took) <= 3000  # a second where nothing else runs
    expect(row(page, "ALT").locator(".flags")).to_have_text("✓ good")
    expect(row(page, "ALT").locator(".source")).to_have_text("gps")
    expect(row(page, "X1")).to_have_count(0)  # nothing feeds it, and nobody searches it
    gateway.put("ALT", 1300.0, source="gps")
    expect(row(page, "ALT").locator(".value")).to_have_text("1300")
    expect(page.locator(".light")).to_have_text("LIVE")


@pytest.mark.parametrize(
    ("flags", "level", "word"),
    [(BAD, "bad", "BAD"), (FAIL, "fail", "FAILED"), (OLD, "old", "OLD"), (0, "good", "good")],
)
def test_each_flag_is_said_in_words_and_takes_the_needle_away(
    gateway: Served, visit: Visit, flags: int, level: str, word: str
) -> None:
    gateway.db.item("OILP1").write(
        70.0, "eis", flags & ~OLD, old="it is derived from an old value" if flags & OLD else ""
    )
    page = visit("#data?search=OILP1")
    expect(row(page, "OILP1")).to_have_attribute("data-level", level)
    expect(row(page, "OILP1").locator(".flags")).to_contain_text(word)
    page.goto(gateway.url + "#engine")
    gauge = page.locator("[data-key=OILP1]")
    expect(gauge.locator(".value")).to_have_text("70")
    if flags:
        expect(gauge.locator(".needle")).to_be_hidden()
        expect(gauge.locator(".cross")).to_be_visible()
        expect(gauge.locator(".state")).to_contain_text(word)
    else:
        expect(gauge.locator(".needle")).to_be_visible()
        expect(gauge.locator(".cross")).to_be_hidden()


def test_a_value_that_nobody_renews_becomes_old_on_the_page(gateway: Served, visit: Visit) -> None:
    page = visit("#data")
    gateway.put("IAS", 101.26)
    expect(row(page, "IAS").locator(".value")).to_have_text("101.3")
    expect(row(page, "IAS").locator(".flags")).to_contain_text("OLD")
    expect(row(page, "IAS").locator(".age")).to_have_text(re.compile(r"^[1-9]\.\d s$"))  # and it grows


def test_nan_and_hostile_text_are_shown_and_never_run(gateway: Served, visit: Visit) -> None:
    gateway.put("WPNAME", HOSTILE)
    gateway.put("FUELF1", float("nan"))
    gateway.connections["eis"] = {**CONNECTION, "health": HOSTILE, "state": "failed", "status": {HOSTILE: [HOSTILE]}}
    page = visit("#data?search=WPNAME&open=WPNAME")
    expect(row(page, "WPNAME").locator(".value")).to_have_text(HOSTILE)
    expect(page.locator(".explanation .sources")).to_contain_text(HOSTILE)
    page.goto(gateway.url + "#data?search=FUELF1")
    expect(row(page, "FUELF1").locator(".flags")).to_contain_text("FAILED")
    page.goto(gateway.url + "#health?open=eis")
    expect(page.locator("#c-eis .inner")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 0
    gateway.connections["eis"] = {**CONNECTION}


def test_limits_colour_a_gauge_and_say_so_in_words(gateway: Served, visit: Visit) -> None:
    gateway.put("OILP1", 20.0)
    gateway.put("OILT1", 90.0)
    page = visit("#engine")
    oil = page.locator("[data-key=OILP1]")
    expect(oil).to_have_attribute("data-level", "alarm")
    expect(oil.locator(".state")).to_have_text("▼ LOW")
    gateway.put("OILP1", 97.0)
    expect(oil).to_have_attribute("data-level", "warn")
    expect(oil.locator(".state")).to_have_text("▲ high")


def test_every_engine_has_its_gauges(gateway: Served, visit: Visit) -> None:
    gateway.put("TACH1", 2400)
    gateway.put("TACH2", 2380)
    page = visit("#engine")
    expect(page.get_by_role("heading", name="Engine 2")).to_be_visible()
    expect(page.locator("[aria-label='Engine 2'] [data-key=TACH2] .value")).to_have_text("2380")


def test_a_driver_that_may_feed_more_cylinders_than_there_are_draws_no_crosses(gateway: Served, visit: Visit) -> None:
    gateway.put("TACH1", 2400)
    for cylinder in (1, 3):
        gateway.put(f"CHT1{cylinder}", 190.0)
    gateway.db.feeders["eis"] = frozenset(f"CHT1{c}" for c in range(1, 7))
    try:
        page = visit("#engine")
        expect(page.locator("[data-key=CHT13] .value")).to_have_text("190")
        expect(page.locator("[data-key=CHT12] .cross")).to_be_visible()  # its probe is dead
        expect(page.locator("[data-key=CHT14]")).to_have_count(0)
    finally:
        gateway.db.feeders.clear()


def test_the_hottest_cylinder_and_the_lean_assist(gateway: Served, visit: Visit) -> None:
    for cylinder, value in enumerate((700.0, 720.0, 710.0, 690.0), 1):
        gateway.put(f"EGT1{cylinder}", value)
    page = visit("#engine?keys=EGT11,EGT12,EGT13,EGT14")
    expect(page.locator("[data-key=EGT12] .hottest")).to_have_text("hottest")
    page.get_by_role("button", name="Lean assist").click()
    expect(page.locator("[data-key=EGT13] .lean")).to_have_text("rising")
    gateway.put("EGT13", 760.0)
    expect(page.locator("[data-key=EGT13] .hottest")).to_have_text("hottest")
    gateway.put("EGT13", 740.0)
    expect(page.locator("[data-key=EGT13] .lean")).to_have_text("1st −20")


def test_units_are_converted_on_the_page_only(gateway: Served, visit: Visit) -> None:
    gateway.put("OILT1", 100.0)
    gateway.put("EGTSPAN1", 10.0)
    page = visit("#settings")
    page.get_by_label("temperature").select_option("degF")
    page.goto(gateway.url + "#data")
    expect(row(page, "OILT1").locator(".value")).to_have_text("212")
    expect(row(page, "OILT1").locator(".units")).to_have_text("°F")
    expect(row(page, "EGTSPAN1").locator(".value")).to_have_text("18")  # a difference
    assert gateway.db.read("OILT1").value == 100.0


def test_what_is_not_real_says_so_on_every_page(gateway: Served, visit: Visit) -> None:
    gateway.put("OILT1", 90.0, source="sim/eis")
    gateway.put("ALT", 1000.0, source="replay/flight")
    gateway.db.item("TACH1").override(2400, 0, "override/test", "overridden", 60.0)
    try:
        page = visit("#trends")
        expect(page.locator(".mark")).to_have_text(["SIMULATED", "REPLAY", "1 OVERRIDE"])
        page.goto(gateway.url + "#engine")
        expect(page.locator("[data-key=OILT1] .tag")).to_have_text("SIM")
        expect(page.locator("[data-key=TACH1] .tag")).to_have_text("OVERRIDE")
        expect(page.locator(".mark")).to_have_count(3)
    finally:
        gateway.db.item("TACH1").end_override()
        gateway.put("OILT1", 90.0)
        gateway.put("ALT", 1000.0)


# -- why is it red? ----------------------------------------------------------------------------------------------------


def test_three_taps_on_a_phone_say_why_a_key_is_red(gateway: Served, visit: Visit) -> None:
    gateway.db.item("OILP1").fail("the sensor is unplugged", "eis")
    gateway.db.feeders["eis"] = frozenset({"OILP1", "OILT1"})
    gateway.connections["eis"] = {**CONNECTION, "state": "waiting", "health": "waiting: /dev/eis is not there"}
    try:
        page = visit("", viewport=PHONE, has_touch=True)
        page.get_by_role("link", name="Data").tap()
        page.get_by_role("button", name="Not well").tap()
        row(page, "OILP1").locator(".open").tap()
        reasons = page.locator(".reasons")
        expect(reasons).to_contain_text("Failed: the sensor is unplugged")
        expect(reasons).to_contain_text("eis should feed it, but: waiting: /dev/eis is not there")
        # The way from the first page is shorter still.
        page.goto(gateway.url + "#health")
        page.locator(".keys a", has_text="OILP1").tap()
        expect(page.locator(".reasons")).to_contain_text("the sensor is unplugged")
    finally:
        gateway.db.feeders.clear()
        gateway.connections["eis"] = {**CONNECTION}


# -- the link ----------------------------------------------------------------------------------------------------------

CONFIGURATION = """\
database file: "{PACKAGE}/database.yaml"
initialization files: ["{PACKAGE}/initial.ini"]
connections:
  web: {load: yes, module: fixgw.plugins.web, port: PORT, admin: [127.0.0.0/8]}
  # The engine monitor is not there yet.
"""


class Process:
    """A real gateway, `fixgw run`, that serves a page."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.file = directory / "default.yaml"
        self.file.write_text(CONFIGURATION.replace("PORT", str(self.port)))
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "fixgw", "run", "--config-file", str(self.file)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the gateway does not listen")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("gateway")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(directory))
        started = Process(directory)
        yield started
        started.stop()


def test_a_gateway_that_freezes_restarts_or_dies_is_seen_at_once(process: Process, visit: Visit) -> None:
    page = visit("#data?search=BARO", url=process.url, allowed="ERR_CONNECTION_REFUSED|WebSocket")
    cover = page.locator("#cover")
    expect(row(page, "BARO").locator(".value")).to_have_text("29.92")
    expect(cover).to_be_hidden()

    took: list[float] = []
    while not took or (min(took) > 2.5 and len(took) < 3):  # a busy computer may hold the browser up, but not always
        process.process.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        expect(cover).to_contain_text("Nothing on this page is current")
        took.append(time.monotonic() - frozen)
        expect(page.locator(".light")).to_have_text("NO LINK")
        expect(page.locator(".verdict")).to_have_text("No data")
        expect(page.locator(".alarm-button")).to_have_attribute("aria-label", "alarms unknown")
        process.process.send_signal(signal.SIGCONT)
        expect(cover).to_be_hidden()
        expect(page.locator(".light")).to_have_text("LIVE")
    assert min(took) <= 2.5

    process.stop()
    expect(cover).to_be_visible()
    process.start()
    expect(cover).to_be_hidden()
    expect(row(page, "BARO").locator(".value")).to_have_text("29.92")


#: The tablet sleeps, or wakes up; returns what the page shows at once.
WAKE = """(state) => {
  Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
  return [document.querySelector(".light").textContent, document.querySelector("#cover").hidden];
}"""
#: Note what is shown of ALT whenever the page is uncovered.
WATCH_LINK = """() => {
  window.seen = [];
  const note = () => window.seen.push(document.querySelector("#r-ALT .flags").textContent);
  new MutationObserver(() => {
    if (document.querySelector("#cover").hidden) requestAnimationFrame(() => setTimeout(note));
  }).observe(document.body, {attributeFilter: ["data-link"]});
}"""


def test_a_tablet_that_wakes_up_shows_nothing_before_the_next_message(gateway: Served, visit: Visit) -> None:
    page = visit("#data")
    expect(page.locator(".light")).to_have_text("LIVE")
    assert page.evaluate(WAKE, "hidden") == ["NO LINK", False]
    assert page.evaluate(WAKE, "visible") == ["NO LINK", False]
    expect(page.locator(".light")).to_have_text("LIVE")


def test_what_was_held_up_on_its_way_is_no_sign_of_life_but_counts_after_it(gateway: Served, visit: Visit) -> None:
    gateway.put("ALT", 1000.0)
    held: list[Any] = []
    holds = False

    def relay(to_page: Any) -> None:
        to_gateway = to_page.connect_to_server()
        to_gateway.on_message(lambda message: held.append(message) if holds else to_page.send(message))
        relays.append(to_page)

    relays: list[Any] = []
    page = visit(url="about:blank")
    page.route_web_socket("**/stream", relay)
    page.goto(gateway.url + "#data?search=ALT")
    expect(row(page, "ALT").locator(".value")).to_have_text("1000")
    holds = True
    gateway.put("ALT", 1000.0, FAIL)  # and nobody writes it again
    expect(page.locator("#cover")).to_be_visible()
    page.wait_for_timeout(1000)
    late, holds = held[: len(held) // 3], False
    assert any('"ALT"' in message for message in late)
    page.evaluate(WATCH_LINK)
    for message in late:
        relays[0].send(message)
    expect(page.locator(".light")).to_have_text("LIVE")
    expect(row(page, "ALT").locator(".flags")).to_have_text("✕ FAILED")
    assert len(relays) == 1, "the same connection"
    drawn = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => setTimeout(() => done(window.seen)))))"
    assert set(page.evaluate(drawn)) == {"✕ FAILED"}


def test_a_status_that_comes_no_longer_is_not_shown_as_current(gateway: Served, visit: Visit) -> None:
    page = visit("#health")
    expect(page.locator(".verdict")).to_contain_text("1 of 1 connections well")
    gateway.held.clear()
    try:
        expect(page.locator(".verdict")).to_contain_text("but not how it is")
        expect(page.locator("body")).to_have_attribute("data-status", "old")
        expect(page.locator(".alarm-button")).to_have_attribute("aria-label", "alarms unknown")
        page = visit("#alarms")
        expect(page.locator(".light")).to_have_text("LIVE")
        expect(page.locator(".alarm-button")).to_have_attribute("aria-label", "alarms unknown")
        expect(page.locator(".alarms")).to_have_text("? The gateway has not said yet")
    finally:
        gateway.held.set()
    expect(page.locator(".verdict")).to_contain_text("1 of 1 connections well")
    expect(page.locator("body")).to_have_attribute("data-status", "")
    expect(page.locator(".alarms")).to_have_text("✓ No alarms")


def test_a_page_begins_with_new_values_only(gateway: Served, visit: Visit) -> None:
    gateway.put("ALT", 1000.0)
    page = visit("#data")
    expect(row(page, "ALT").locator(".value")).to_have_text("1000")
    page.goto(gateway.url + "#log")
    expect(page.locator(".log")).to_be_visible()
    known = "async () => (await import('/gateway.js')).gateway.readings.size"
    assert page.evaluate(known) == 0
    gateway.put("ALT", 1100.0)
    page.goto(gateway.url + "#data")
    expect(row(page, "ALT").locator(".value")).to_have_text("1100")


def test_a_chart_has_a_gap_where_there_was_no_link(gateway: Served, visit: Visit) -> None:
    gateway.put("ALT", 1000.0)
    past: list[float | None] = [1000.0] * 120  # a minute

    def remember(route: Any) -> None:
        series = {"values": past, "flags": [0] * len(past)}
        route.fulfill(json={"step": 0.5, "age": 0.1, "keys": {"ALT": series}})

    page = visit(url="about:blank")
    page.route("**/history?*", remember)
    page.goto(gateway.url + "#trends?keys=ALT&seconds=60")
    value = page.locator(".chart .value")
    expect(value).to_have_text("1000")
    page.locator(".chart canvas").focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".chart .when")).to_have_text("30 s ago")
    expect(value).to_have_text("1000")
    past[40:80] = [None] * 40  # the gateway was away, for example
    page.evaluate(WAKE, "hidden")
    page.evaluate(WAKE, "visible")
    expect(value).to_have_text("gap")


# -- who may -----------------------------------------------------------------------------------------------------------


def test_a_browser_without_a_role_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Visit) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    served = Served(write=[], admin=[])
    try:
        page = visit("#health", url=served.url, allowed="403")
        expect(page.locator(".light")).to_have_text("LIVE")
        answer = page.evaluate("""async () => {
          const headers = {"Content-Type": "application/json"};
          const answer = await fetch("/api/v1/items/BARO", {method: "PUT", headers, body: '{"value": 30.1}'});
          return [answer.status, await answer.json()];
        }""")
        assert answer[0] == 403
        assert answer[1]["code"] == "role"
        assert served.db.read("BARO").value == 29.92
        page.close()
    finally:
        served.close()


MODULES = [
    {
        "name": "eis",
        "module": "fixgw.drivers.eis",
        "summary": "Engine monitors",
        "options": [{"name": "port", "type": "text", "default": "required", "description": "Device"}],
    }
]

NEXT_STATUS = """async () => {
  const { gateway } = await import("/gateway.js");
  await new Promise((done) => gateway.on("status", () => gateway.state === "live" && done()));
}"""


def test_the_configuration_is_checked_applied_and_taken_back(process: Process, visit: Visit) -> None:
    before = process.file.read_text()
    page = visit(url="about:blank", allowed="400")
    page.clock.install()
    page.goto(process.url + "#configuration")
    text = page.get_by_label("Text of the file")
    expect(text).to_have_value(before)
    text.fill(before + "  eis: {load: yes, module: fixgw.drivers.eis, prt: /dev/null/eis}\n")
    page.get_by_role("button", name="Check").click()
    line = before.count("\n") + 1
    expect(page.locator(".problems")).to_contain_text("prt")
    expect(page.locator(f".numbers [data-line='{line}']")).to_have_class("wrong")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".toast.error")).to_contain_text("nothing was saved")
    assert process.file.read_text() == before

    page.route("**/config/modules", lambda route: route.fulfill(json=MODULES))  # to list them all takes seconds
    page.get_by_role("button", name="Add a connection").click()
    page.get_by_label("Module").select_option("fixgw.drivers.eis")
    page.get_by_label("port *").fill("/dev/null/eis")
    text.fill(before)
    page.get_by_role("button", name="Insert into the file").click()
    expect(page.locator(".problems")).to_contain_text("Applying it changes: eis")
    page.get_by_role("button", name="Apply").click()
    assert process.file.read_text().count("# The engine monitor is not there yet.") == 1
    expect(page.get_by_role("button", name="Take the change back")).to_be_visible()
    page.clock.fast_forward(40_000)  # with nothing from the gateway: it was held up, for example
    page.evaluate(NEXT_STATUS)
    expect(page.locator("[role=alert]").get_by_text("Not well yet")).to_be_visible()
    page.get_by_role("button", name="Take the change back").click()
    expect(text).to_have_value(before)
    assert process.file.read_text() == before


def test_an_override_is_made_marked_and_released_on_the_bench(gateway: Served, visit: Visit) -> None:
    gateway.put("OILT1", 90.0)
    gateway.put("IAS", 100.0)  # in flight it has to be confirmed
    page = visit("#bench?key=OILT1", allowed="409")
    page.get_by_label("Value").fill("120")
    page.get_by_role("button", name="Override").click()
    expect(page.get_by_role("dialog")).to_contain_text("IAS is 100 knots")
    page.get_by_role("button", name="Do it all the same").click()
    expect(page.locator(".override")).to_contain_text("120")
    expect(page.locator(".mark")).to_have_text("1 OVERRIDE")
    assert gateway.db.read("OILT1").source.startswith("override/")
    page.get_by_role("button", name="Release all").click()
    expect(page.locator(".override")).to_have_count(0)
    expect(page.locator(".mark")).to_have_count(0)
    assert gateway.db.read("OILT1").value == 90.0


def test_an_alarm_is_shown_everywhere_and_acknowledged(gateway: Served, visit: Visit) -> None:
    alert = {"state": "active", "level": "warning", "text": "OIL PRESSURE LOW", "for": 2.0}
    status = {"oil-pressure": alert, "flight phase": "air", "muted for": 0.0, "alert log": []}
    gateway.connections["alerts"] = {**CONNECTION, "module": "fixgw.plugins.alerts", "status": status}
    asked: list[str] = []

    def acknowledge(words: str) -> str:
        asked.append(words)
        return ""

    gateway.world.offer("alerts", "alerts", acknowledge)
    try:
        page = visit("#data")
        expect(page.locator(".alarm-button")).to_have_attribute("aria-label", "1 alarms not acknowledged")
        page.locator(".alarm-button").click()
        expect(page.get_by_role("alert").get_by_text("OIL PRESSURE LOW")).to_be_visible()
        page.get_by_role("button", name="Acknowledge", exact=True).click()
        status["oil-pressure"] = {**alert, "state": "acknowledged"}
        expect(page.locator(".alarms [data-state=acknowledged]")).to_contain_text("OIL PRESSURE LOW")
        expect(page.locator(".alarm-button")).to_have_attribute("aria-label", "1 alarms")
        assert asked == ["ack oil-pressure"]
    finally:
        del gateway.connections["alerts"]


def test_a_browser_is_paired_with_the_code_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Visit
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    served = Served(write=[], admin=[])
    try:
        page = visit("#pair=WRONGCDE", url=served.url, allowed="403")
        expect(page.get_by_label("Code")).to_have_value("WRONGCDE")
        page.get_by_role("button", name="Pair").click()
        expect(page.locator(".why")).to_contain_text("wrong, used or older")
        page.get_by_label("Code").fill(Tokens().pair("write", "Tablet"))
        page.get_by_role("button", name="Pair").click()
        expect(page.locator("main h1")).to_have_text("Health")
        expect(page.locator("main")).to_contain_text("write, 127.0.0.1")
        page.close()
    finally:
        served.close()


# -- CAN ---------------------------------------------------------------------------------------------------------------


def test_the_traffic_of_a_bus_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Visit) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    served = Served()
    clock = [1000.0]
    monitor = Monitor(load(), lambda: clock[0], lambda node: HOSTILE if node == 12 else "")
    questions: list[str] = []

    def show(words: str) -> str:
        questions.append(words)
        return json.dumps(monitor.ask())

    def hear(identifier: int, data: str) -> None:
        monitor.take([Frame(identifier, bytes.fromhex(data), 0, clock[0])])

    try:
        served.connections["can"] = {**CONNECTION, "status": {"received per second": 20, "nodes": {}}}
        served.world.offer("can", "monitor can", show)
        hear(0x183, "0c0000d204")
        hear(0x500, "0d0204e803")
        page = visit("#can", url=served.url, viewport=NARROW, allowed="Failed to load|ERR_|WebSocket")
        rows = page.locator(".traffic li:visible")
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("IAS · Indicated Airspeed")
        expect(rows.first).to_contain_text("123.4 knots")
        expect(rows.first).to_contain_text(HOSTILE)
        expect(rows.last).to_contain_text("✕ fail")
        assert page.evaluate(AUDIT) == {"faint": [], "small": [], "width": NARROW["width"]}
        hear(0x183, "0c0000e803")
        expect(rows.first).to_contain_text("100.0 knots")

        filter = page.get_by_label("Filter")
        filter.fill("node 13")
        expect(rows).to_have_count(1)
        expect(page.locator("main")).to_contain_text("1 of 2")
        filter.fill("nonsense")
        expect(rows).to_have_count(0)
        filter.fill("")

        page.get_by_role("button", name="Pause").click()
        asked = len(questions)
        hear(0x183, "0c0000d204")
        expect(rows.first.locator(".when")).to_contain_text("◷")  # the age goes on
        expect(rows.first).to_contain_text("100.0 knots")
        assert len(questions) <= asked + 1, "one may have been on its way"
        page.get_by_role("button", name="Paused").click()
        expect(rows.first).to_contain_text("123.4 knots")

        served.plugin.shutdown()
        expect(page.locator("#cover")).to_be_visible()
        expect(page.locator(".traffic li")).to_have_count(0)
        page.close()
    finally:
        served.close()


# -- who can use it ----------------------------------------------------------------------------------------------------

PAGES = (
    "health",
    "data",
    "engine",
    "alarms",
    "trends",
    "can",
    "log",
    "recordings",
    "configuration",
    "bench",
    "settings",
    "more",
    "pair",
)
AUDIT = (Path(__file__).parent / "audit.js").read_text()


@pytest.mark.parametrize("theme", ["day", "dark", "night"])
def test_no_page_scrolls_sideways_and_every_text_has_contrast(gateway: Served, visit: Visit, theme: str) -> None:
    gateway.put("OILP1", 20.0)
    gateway.put("EGT11", 700.0)
    gateway.put("ALT", 1000.0, BAD)
    gateway.db.item("IAS").fail("the tube is blocked " * 5, "adc")
    page = visit(f"#health?{theme}", viewport=NARROW, allowed="409")  # this gateway has no configuration
    for name in PAGES:
        page.goto(f"{gateway.url}#{name}?{theme}{'&open=IAS&search=IAS' if name == 'data' else ''}")
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator(".light")).to_have_text("LIVE")
        assert page.evaluate(AUDIT) == {"faint": [], "small": [], "width": NARROW["width"]}, name


def test_the_keyboard_alone_is_enough(gateway: Served, visit: Visit) -> None:
    gateway.put("ALT", 1000.0)
    page = visit("#health")
    expect(page.locator(".light")).to_have_text("LIVE")
    page.keyboard.press("2")
    expect(page.locator("main h1")).to_have_text("Data")
    page.keyboard.press("/")
    search = page.get_by_label("Search")
    for _ in range(5):  # a busy computer may lose the link for a moment, and then the page is covered
        page.keyboard.press("Control+a")
        page.keyboard.type("altitude")
        if search.input_value() == "altitude":
            break
    expect(row(page, "ALT")).to_be_visible()
    focused = "document.activeElement.textContent + (document.activeElement.ariaLabel ?? '')"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(focused).startswith("ALT"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".reasons")).to_contain_text("Good")
    page.keyboard.press("n")
    expect(page.locator("html")).to_have_attribute("data-theme", "night")
    expect(page.get_by_role("button", name="Night colours")).to_have_attribute("aria-pressed", "true")


def test_a_screen_reader_finds_its_way(gateway: Served, visit: Visit) -> None:
    gateway.put("ALT", 1000.0)
    page = visit("#data?search=ALT")
    expect(row(page, "ALT").locator(".value")).to_have_text("1000")
    header = page.locator("header").aria_snapshot()
    assert "status" in header
    assert "1 of 1 connections well" in header
    assert 'link "0 alarms"' in header
    assert 'navigation "Pages"' in page.locator("body").aria_snapshot()
    table = page.locator(".table").aria_snapshot()
    assert 'table "Values"' in table
    assert 'columnheader "Value"' in table
    assert re.search(r'row "Pin ALT . ALT Altitude 1000 ft ✓ good', table)
    assert page.locator("[aria-live], [role=status], [role=alert]").locator(".value").count() == 0


def test_a_kiosk_shows_one_page_alone_with_its_header(gateway: Served, visit: Visit) -> None:
    gateway.put("OILP1", 70.0)
    gateway.put("OILT1", 90.0)
    page = visit("#engine?kiosk&night&keys=OILP1")
    expect(page.locator("[data-key=OILP1] .value")).to_have_text("70")
    expect(page.locator("[data-key=OILT1]")).to_have_count(0)
    expect(page.locator("nav")).to_be_hidden()
    expect(page.locator("header .light")).to_have_text("LIVE")
    expect(page.locator("html")).to_have_attribute("data-theme", "night")


def test_a_recording_is_zoomed_into_and_never_looks_current(gateway: Served, visit: Visit) -> None:
    place = state.path("recordings").parent / "recordings"
    place.mkdir()
    told: list[Any] = [(float(n), "/engine", {"EGT11": 700.0, "EGT19": 650.0 + n}) for n in range(101)]
    told += [(50.5, "/engine", {"EGT11": 900.0}), (50.6, "/engine", {"EGT11": 700.0})]
    told += [(79.5, "/flags", {"EGT11": "00010"}), (90.0, "/flags", {"EGT11": "00000"})]
    record(place / "flight.mcap", *sorted(told, key=lambda each: each[0]), sources="sim/eis")
    gateway.put("EGT11", 333.0)
    page = visit("#recordings")
    page.locator("main").get_by_role("link", name="Trends").click()
    banner, chart = page.locator(".recording"), page.locator(".chart")
    expect(banner).to_contain_text("RECORDING of 2026-05-16")
    expect(banner).to_contain_text("SIMULATED")
    expect(banner.get_by_role("status")).to_have_text("14:05:00 to 14:06:40 UTC")
    page.get_by_label("Add a key").fill("EGT11")
    page.keyboard.press("Enter")
    expect(chart.locator(".value")).to_have_text("700 to 900")
    expect(chart.locator(".when")).to_have_text("RECORDING")
    # By dragging, from the middle to the right.
    box = chart.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 52 + (box["width"] - 62) * 0.6, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 80, steps=3)
    page.mouse.up()
    expect(banner.get_by_role("status")).to_have_text(re.compile("14:0(5:59|6:00) to 14:06:(39|40) UTC"))
    expect(chart.locator(".value")).to_have_text("700")
    # By keyboard: the cursor is in the stretch that had failed.
    page.get_by_role("button", name="Whole").click()
    expect(chart.locator(".value")).to_have_text("700 to 900")
    canvas = chart.locator("canvas")
    canvas.focus()
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    expect(chart.locator(".value")).to_have_text("gap")
    expect(chart.locator(".when")).to_have_text("RECORDING, 14:06:25.0 UTC")
    page.keyboard.press("+")
    expect(banner.get_by_role("status")).to_have_text("14:05:50 to 14:06:40 UTC")
    page.get_by_role("button", name="Back to live").click()
    expect(chart.locator(".value")).to_have_text("333")
    expect(banner).to_have_count(0)
    page.get_by_role("button", name="A recording").click()
    page.get_by_label("A recording").select_option("flight")
    expect(banner).to_contain_text("RECORDING of 2026-05-16")


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_365_keys_at_20_hz_leave_the_browser_time(gateway: Served, visit: Visit) -> None:
    stopping = threading.Event()

    def write() -> None:
        turn = 0
        while not stopping.wait(0.05):
            turn += 1
            for n in range(365):
                gateway.put(f"X{n}", 500.0 + (turn * 7 + n) % 100)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        page = visit("#data?rate=20")
        expect(row(page, "X364").locator(".value")).to_have_text(re.compile("5.*"))  # below the screen
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def measure() -> tuple[float, float]:
            """How long the page's thread has worked, in seconds of its own time, and the memory that it uses."""
            session.send("HeapProfiler.collectGarbage")
            metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
            return metrics["TaskDuration"], metrics["JSHeapUsedSize"]

        heap = measure()[1]
        shares: list[float] = []
        while not shares or (min(shares) > 0.2 and len(shares) < 4):
            before, began = measure()[0], time.monotonic()
            page.wait_for_timeout(2000)
            shares.append((measure()[0] - before) / (time.monotonic() - began))
        assert min(shares) <= 0.25
        assert measure()[1] < 1.5 * heap
    finally:
        stopping.set()
        writer.join()


def loaded(module: Path) -> set[Path]:
    """A module of the page, and all that it imports at once."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        each = waiting.pop().resolve()
        if each not in found:
            found.add(each)
            waiting += [each.parent / name for name in re.findall(r'^import .* from "(.+)";$', each.read_text(), re.M)]
    return found


def test_the_page_is_light(visit: Visit) -> None:
    folder = (Path(__file__).parents[3] / "plugins/web/pages").resolve()
    pages = sorted((folder / "pages").iterdir())
    shell = {folder / name for name in ("index.html", "style.css", "icon.svg")} | loaded(folder / "app.js")
    assert folder / "gateway.js" in shell
    assert shell.union(*map(loaded, pages)) == {file for file in folder.rglob("*") if file.is_file()}
    assert max(sum(file.stat().st_size for file in shell | loaded(page)) for page in pages) <= 150_000
    page = visit("#data")
    hosts = page.evaluate("performance.getEntriesByType('resource').map((e) => new URL(e.name).host)")
    assert set(hosts) == {page.evaluate("location.host")}
