"""tui: its trends and pages alone, the screen against a real gateway, and on a terminal that stalls."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from fixgw import logmemory
from fixgw.cli.feed import ALERT_KEYS, Feed
from fixgw.cli.terminal import REVERSE, Row
from fixgw.cli.text import BARS, YELLOW, sparkline
from fixgw.cli.tui.app import Screen
from fixgw.cli.tui.model import STEP_S, TREND_STEPS, Model, Trend, usable
from fixgw.cli.tui.pages import Alerts, Health, Panel, wrapped
from fixgw.database import BAD, OLD
from fixgw.history import OVERRIDDEN
from fixgw.netfix.client import Trace
from tests.cli.test_cli_alerts import ALERTS, KEYS
from tests.cli.test_cli_feed import until as wait_until
from tests.cli.test_cli_hostile_gateway import port as port
from tests.cli.test_cli_panel import bank as bank
from tests.cli.test_cli_panel import server as server

if TYPE_CHECKING:
    from fixgw.hw_sim.panel_server import PanelServer
    from tests.cli.conftest import Bench, Result, Terminal

pytestmark = pytest.mark.slow

# -- alone -------------------------------------------------------------------------------------------------------------


def test_a_sparkline_shows_dips_and_gaps() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.0], 4) == "▁▃▆█"
    assert sparkline([1.0, None, None, 1.0], 4) == "▅  ▅"
    assert sparkline([5.0] * 50 + [0.0] + [5.0] * 49, 10) == "█████▁████", "the short dip is not averaged away"
    assert sparkline([None] * 5, 5) == sparkline([], 5) == sparkline([1.0], 0) == ""
    assert sparkline([-1.7e308, 1.7e308], 2) == "▁█"
    assert sparkline([2.0], 5, low=0.0, high=1.0) == "█"


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=60), st.integers(0, 30))
def test_a_sparkline_fits_and_has_nothing_but_bars(values: list[float | None], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) <= width
    assert set(line) <= set(BARS + " ")


def test_a_trend_has_gaps_where_nobody_could_note_anything() -> None:
    trend = Trend()
    for at, value in ((10.0, 1.0), (10.2, 9.0), (10.5, 2.0), (12.0, 3.0), (12.5, None)):
        trend.add(value, at)
    assert list(trend.values) == [1.0, 2.0, None, None, 3.0, None]
    trend.add(5.0, 5000.0)
    assert len(trend.values) == TREND_STEPS
    assert list(trend.values)[:-1] == [None] * (TREND_STEPS - 1)


def test_a_trend_takes_what_the_gateway_remembers_of_the_time_before() -> None:
    trend = Trend()
    for n in range(4):
        trend.add(100.0 + n, 20.0 + n * STEP_S)
    values: list[float | None] = [float(n) for n in range(10)]
    trend.put_before(Trace(20.5, 0.5, values, [0] * 6 + [OVERRIDDEN, OLD, BAD, 0]), 21.5)
    assert list(trend.values) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None, None, 100.0, 101.0, 102.0, 103.0]
    empty = Trend()
    empty.put_before(Trace(20.5, 0.5, values, [0] * 10), 20.6)
    assert list(empty.values)[:9] == values[:9]
    gap = Trend()
    gap.add(5.0, 30.0)
    gap.put_before(Trace(20.5, 0.5, [1.0], [0]), 30.0)
    assert list(gap.values) == [1.0] + [None] * 18 + [5.0], "nothing is drawn through what nobody remembers"


@pytest.mark.parametrize(
    ("value", "flags", "expected"),
    [
        (5, 0, 5.0),
        (5.5, 0, 5.5),
        (True, 0, None),
        ("x", 0, None),
        (None, 0, None),
        (5, OLD, None),
        (5, BAD, None),
    ],
)
def test_only_good_numbers_have_a_trend(value: Any, flags: int, expected: float | None) -> None:
    row = Row("IAS")
    row.show(value, flags, 1.0)
    assert usable(row) == expected
    row.source = "override/netfix/127.0.0.1"
    assert usable(row) is None


def test_the_panel_takes_its_own_keys(server: PanelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXGW_PANEL", server.path)
    page = Panel()

    def shows(words: str) -> bool:
        return words in "\n".join("".join(words for words, _ in line) for line in page.draw(100, 30))

    wait_until(lambda: shows("knobs      1: +0"))
    assert page.press("\x1b[C")
    wait_until(lambda: shows("knobs      1: +1"))
    assert shows("Esc leaves")
    assert page.greedy, "q is a key of its own"
    server.close()
    wait_until(lambda: shows("no panel at"))
    assert not page.press("1")
    page.close()


def test_what_is_acknowledged_is_the_highlighted_alert_whatever_comes_meanwhile() -> None:
    feed = cast("Feed", SimpleNamespace(client=None))
    model = Model(feed, lambda: 0.0)
    page = Alerts(feed, model)

    def highlighted(height: int = 24) -> str:
        return "".join(words for ((words, colour),) in page.draw(40, height) if REVERSE in colour).rstrip()

    model._status_at = 0.0
    model.alerts = {id: ("caution", id) for id in ("b", "c", "d")}
    assert highlighted() == "caution  b"
    page.press("\x1b[B")
    model.alerts = {"a": ("warning", "a"), **model.alerts}
    assert highlighted() == "caution  c", "the highlight stays on it"
    page.click(3)
    assert highlighted(5) == "caution  d"
    page.click(0)  # of d and the two above it
    assert highlighted(5) == "caution  b"
    del model.alerts["b"]
    assert highlighted() == "warning  a"
    model.cannot["health"] = "this gateway does not tell"
    page.draw(40, 24)
    for key in "aA":
        assert not page.press(key), "nothing is acknowledged that is not on the screen"


def test_long_lines_are_wrapped_and_indented() -> None:
    assert wrapped(["  one two three four"], 12) == [[("  one two", "")], [("    three", "")], [("    four", "")]]
    assert wrapped(["", "x" * 30], 10)[:2] == [[("", "")], [("x" * 10, "")]]
    assert all(len(words) <= 8 for line in wrapped(["a b c d e f g h i j k"], 3) for words, _ in line)


# -- on a screen without a terminal ------------------------------------------------------------------------------------


@pytest.fixture
def flying(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A gateway with an alert, a log, and no panel."""
    monkeypatch.setenv("FIXGW_PANEL", str(bench.directory / "none"))
    memory = logmemory.LogMemory()
    monkeypatch.setattr(logmemory, "memory", memory)
    bench.stop()
    bench.entries = bench.entries.replace("tol: 2000", "tol: 0") + KEYS
    bench.connection_options = ALERTS
    bench.start()
    bench.db.write("IAS", 40.0, "test")
    memory.handle(log_record("gps", "WARNING", "no [bold]fix[/bold] since\n\x1b[2Jan hour"))
    memory.handle(log_record("eis", "INFO", "connected"))
    return bench


def log_record(connection: str, level: str, words: str) -> Any:
    import logging

    return logging.LogRecord(f"fixgw.plugins.{connection}", getattr(logging, level), "", 0, words, None, None)


def shown(screen: Screen) -> str:
    """What is on the screen, each line as it goes to the terminal."""
    strips = [canvas.render_line(y) for canvas in screen.canvases for y in range(canvas.size.height)]
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


@asynccontextmanager
async def running(at: int, size: tuple[int, int] = (80, 24), *keys: str) -> AsyncIterator[tuple[Screen, Pilot[int]]]:
    feed = Feed(Namespace(host="127.0.0.1", port=at, timeout=5.0, units={}), keys, ALERT_KEYS)
    feed.connect()
    feed.start()
    screen = Screen(feed, bool(keys))
    try:
        async with screen.run_test(size=size) as pilot:
            yield screen, pilot
    finally:
        feed.close()


async def until(screen: Screen, pattern: str, seconds: float = 10.0) -> str:
    """Wait until the screen shows `pattern`."""
    deadline = time.monotonic() + seconds
    while not re.search(pattern, shown(screen), re.DOTALL):
        assert time.monotonic() < deadline, f"no {pattern!r} in\n{shown(screen)}"
        await asyncio.sleep(0.05)
    return shown(screen)


def drive(run: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(run())  # type: ignore[arg-type]


def test_a_tour_of_the_pages(flying: Bench) -> None:
    bench = flying

    async def tour() -> None:
        async with running(bench.port) as (screen, pilot):
            await until(screen, rf"FIX Gateway 127\.0\.0\.1:{bench.port} OK: 2 of 2 .*WARNING TOO SLOW.*IAS +40 +knots")
            bench.db.write("ALT", 1234.5, "sim/eis", BAD)
            await until(screen, r"ALT +1234\.5 ft +bad .*IAS ─+.*IAS: Indicated airspeed\nIAS = 40 knots, annunciate")
            await pilot.press("down")
            await until(screen, r"ALT ─+\nALT: Indicated altitude\nALT = 1234\.5 ft, bad\..*From sim/eis")
            await until(screen, "SIMULATED")
            await pilot.press("enter")
            assert "KEY" not in await until(screen, r"Esc back, arrows scroll")
            await pilot.press("escape", "slash", *"egt12", "1")
            assert screen.at == 0, "digits belong to what is searched"
            await until(screen, r"/egt121_")
            await pilot.press("backspace", "enter")
            await until(screen, "search 'egt12': 0 found")
            await pilot.press("escape")
            await pilot.click("#page", offset=(5, 1))
            await until(screen, r"IAS ─")

            await pilot.press("2")
            await until(screen, r"OK: 2 of 2 connections well\nfixgw .*alerts +running +ok")
            await pilot.press("v")
            await until(screen, r"netfix:\n +host|netfix:\n")
            await pilot.press("right", "a")
            await until(screen, r"warning +acknowledged.*slow +TOO SLOW.*latest changes")
            await until(screen, "acknowledged$")
            await pilot.press("4")
            lines = await until(screen, r"WARNING gps: no \[bold\]fix\[/bold\] since.*INFO +eis: connected")
            assert "\x1b" not in lines, "an escape sequence is shown, not sent"
            await pilot.press("slash", *"eis", "enter")
            assert "gps:" not in await until(screen, "search 'eis': 1 found")
            await pilot.press("escape", "5")
            await until(screen, r"no panel at")
            await pilot.press("1")
            assert screen.at == 0
            await pilot.click("#head", offset=(14, 1))
            assert screen.current.title == "Health"

            await pilot.press("n")
            await until(screen, "OK")
            assert screen.canvases[0].render_line(0)._segments[0].style.color.name == "#ff5050"  # type: ignore[union-attr]
            bench.db.item("IAS").override(120, 0, "override/netfix/127.0.0.1", "", 60.0)
            await until(screen, "1 OVERRIDE")
            await pilot.press("q")
            assert screen.return_value == 0

    drive(tour)


def test_small_screens(flying: Bench) -> None:
    async def look() -> None:
        async with running(flying.port, (80, 24)) as (screen, pilot):
            await until(screen, "OK: 2 of 2")
            for width, height in ((1, 1), (20, 3), (40, 8)):
                await pilot.resize_terminal(width, height)
                for page in "12345":
                    await pilot.press("f" + page, "down", "end")
                    screen.redraw()
                    lines = shown(screen).splitlines()
                    assert max(map(len, lines)) <= width
                    assert len(lines) <= height + 3
            await pilot.resize_terminal(120, 40)
            await pilot.press("f1")
            await until(screen, r"LAST MINUTE.*IAS +40 +knots")

    drive(look)


def test_the_screen_covers_itself_when_nothing_is_current(flying: Bench) -> None:
    bench = flying

    async def look() -> None:
        async with running(bench.port) as (screen, _):
            await until(screen, "IAS +40")
            with bench.gateway.runners["netfix"].plugin.server._fanout.working:  # type: ignore[union-attr]
                began = time.monotonic()
                covered = await until(screen, r"NOTHING IS CURRENT.*No data from the gateway\..*no answer from")
                assert time.monotonic() - began < 2.5
                assert not re.search(r"\b(IAS|40|knots|good|OK|WARNING)\b", covered)  # 40 may be part of the port
                alive = screen.feed.answers
            await until(screen, "IAS +40")
            assert screen.feed.answers > alive, "the sign of life moves"
            await asyncio.to_thread(bench.stop)
            assert "IAS" not in await until(screen, r"connection lost, reconnecting")
            await asyncio.to_thread(bench.start)
            await until(screen, r"OK: 2 of 2")
            bench.db.write("IAS", 77.0, "test")
            await until(screen, r"IAS +77 +knots +good")

    drive(look)


def test_what_the_gateway_no_longer_tells_is_not_shown(flying: Bench) -> None:
    """The values go on; the answers to other questions do not come."""
    at = 1000.0
    feed = Feed(Namespace(host="127.0.0.1", port=flying.port, timeout=5.0, units={}), (), ALERT_KEYS)
    feed.connect()
    model = Model(feed, lambda: at)
    feed.start()
    try:
        feed.trouble = lambda at: ""  # type: ignore[method-assign]
        model.page, model.chosen = "data", "IAS"
        model.turn()
        assert model.explanation("IAS")[0] == "IAS: Indicated airspeed"
        assert model.verdict[0].startswith("OK: ")
        at += 5.0
        assert model.explanation("IAS") == []
        at += 5.0
        assert model.verdict[0] == "health unknown"
        for page in (Health(model), Alerts(feed, model)):
            assert page.draw(80, 20) == [[("waiting for the gateway to report its health", YELLOW)]]
        model.do(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        model.turn()
        assert model.said == "ZeroDivisionError: division by zero"
    finally:
        feed.close()


def test_a_trend_begins_with_what_the_gateway_remembers(flying: Bench) -> None:
    bench = flying
    history = bench.gateway.world.history
    clock = bench.db.clock
    offset = -30.0
    history._clock = lambda: clock() + offset  # half a minute ago
    for n in range(60):
        bench.db.write("EGT11", 700.0 + n, "test")
        history.sample()
        offset += STEP_S
    history._clock = clock

    async def look() -> None:
        async with running(bench.port, (120, 40), "EGT11", "EGT12") as (screen, _):
            await until(screen, r"EGT11 +759 +degC .*[▁▂▃▄]{4,}[▅▆▇█]{4,}.*700 to 759 degC in the last 3[0-9] s")

    drive(look)


def test_a_gateway_that_answers_nonsense(port: int) -> None:
    async def look() -> None:
        async with running(port) as (screen, pilot):
            await until(screen, "IAS")
            for page in "12345":
                await pilot.press("f" + page, "enter")
                screen.redraw()
                await asyncio.sleep(0.3)
                assert all(line.isprintable() for line in shown(screen).splitlines())
            assert screen.model.cannot["log"] == "this gateway does not tell"
            assert screen.model.cannot["alerts"].startswith("this gateway judges no alerts")

    drive(look)


def test_no_more_trends_than_there_is_room_for(flying: Bench) -> None:
    feed = Feed(Namespace(host="127.0.0.1", port=flying.port, timeout=5.0, units={}))
    model = Model(feed)
    for n in range(100):
        model.trend(f"K{n}")
    assert len(model.trends) == 64
    assert "K99" in model.trends


# -- on a terminal -----------------------------------------------------------------------------------------------------


def test_it_works_on_a_terminal_that_stalls_and_ends_in_order(bench: Bench, terminal: Callable[..., Terminal]) -> None:
    bench.db.write("ALT", 1000, "test")
    it = terminal("tui", rows=50, columns=200)
    it.wait_for(r"FIX Gateway 127\.0\.0\.1.*ALT.*1000")
    for n in range(40):  # nobody reads what it draws
        bench.db.write("ALT", 2000 + n, "test")
        time.sleep(0.05)
    bench.db.write("ALT", 7777, "test")
    it.wait_for(r"7777")
    it.type("q")
    it.wait_for(re.escape("\x1b[?1049l"))
    assert it.end() == 0


def test_it_ends_even_if_the_terminal_takes_nothing(bench: Bench, terminal: Callable[..., Terminal]) -> None:
    it = terminal("tui")
    it.wait_for("FIX Gateway")
    its_end = os.open(os.readlink(f"/proc/{it.process.pid}/fd/0"), os.O_RDWR | os.O_NOCTTY)
    try:
        assert not termios.tcgetattr(its_end)[3] & termios.ECHO
        termios.tcflow(its_end, termios.TCOOFF)
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(10) == 143
        assert termios.tcgetattr(its_end)[3] & termios.ECHO, "the shell can be used again"
    finally:
        os.close(its_end)


def test_it_ends_when_the_terminal_goes_away(bench: Bench, terminal: Callable[..., Terminal]) -> None:
    it = terminal("tui")
    it.wait_for("FIX Gateway")
    os.close(it.fd)
    try:
        assert it.process.wait(10) != 0
    finally:
        it.fd = os.open(os.devnull, os.O_RDONLY)  # to be closed


def test_without_a_terminal_or_the_library_it_says_what_to_do(
    bench: Bench, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("tui").err == "fixgw: tui needs a terminal that draws; `fixgw watch` writes lines to any\n"
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "textual.app", None)
    for name in [name for name in sys.modules if name.startswith("fixgw.cli.tui.app")]:
        monkeypatch.delitem(sys.modules, name)
    result = cli("tui")
    assert result.code == 1
    assert result.err.startswith("fixgw: textual is not installed: ")
