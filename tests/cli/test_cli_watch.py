"""watch: its table alone, lines in a pipe, and the page on a real terminal."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fixgw.cli.terminal import Row, Table
from fixgw.cli.text import DIM, GREEN, RED, RESET, YELLOW, Shown
from fixgw.database import BAD, FAIL, OLD

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result, Terminal

    Cli = Callable[..., Result]
    Started = Callable[..., subprocess.Popen[str]]
    Open = Callable[..., Terminal]


def row(key: str = "IAS", value: float = 103.2, flags: int = 0, updated: float | None = 10.0) -> Row:
    made = Row(key, "knots", "Indicated airspeed")
    made.show(value, flags, updated)
    return made


def drawn(table: Table, now: float = 10.0, width: int = 100, height: int = 24, away: bool = False) -> list[str]:
    return table.draw(now, width, height, "title", colour=False, away=away)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_row_shows_value_units_flags_age_and_description() -> None:
    (line,) = [line for line in drawn(Table([row()]), now=12.5) if line.startswith("IAS")]
    assert line.split() == ["IAS", "103.2", "knots", "good", "2.5", "s", "-", "Indicated", "airspeed"]


def test_points_stay_below_each_other() -> None:
    rows = [row("EGT11", 768.3333), row("BARO", 29.921), row("N1", 5.0)]
    for each, decimals in zip(rows, (0, 2, None), strict=True):
        each.shown = Shown("x", decimals)
    table = Table(rows)
    lines = drawn(table)[2:5]
    assert [line.split()[1] for line in lines] == ["768", "29.92", "5"]
    ends = [line.index(whole) + len(whole) for line, whole in zip(lines, ("768", "29", "5 "), strict=True)]
    assert ends[0] == ends[1] == ends[2] - 1
    before = drawn(table)[1]
    rows[1].show(None, 0, 10.0)
    assert drawn(table)[1] == before


def test_the_rate_is_that_of_recent_updates() -> None:
    it = row()
    for n in range(100):
        it.update(100.0, 0, 10 + n * 0.05)
    assert it.rate(14.95) == pytest.approx(20)
    assert it.rate(17.0) < 15
    assert it.rate(30.0) == 0


def test_becoming_old_is_not_an_update() -> None:
    it = row(updated=10.0)
    it.update(103.2, OLD, 12.0)
    assert it.age(12.5) == 2.5
    assert it.flag_words == "old"


def test_nothing_is_wider_or_higher_than_the_terminal() -> None:
    table = Table([row(f"KEY{n}", value=1e8 + n) for n in range(50)])
    for width, height in ((100, 24), (40, 10), (10, 5), (1, 1), (80, 3)):
        lines = drawn(table, width=width, height=height)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width


def test_only_flags_are_coloured() -> None:
    for flags, colour, words in ((0, GREEN, "good"), (OLD, YELLOW, "old"), (BAD | FAIL, RED, "bad, fail")):
        lines = Table([row(flags=flags)]).draw(10.0, 100, 24, "title", colour=True)
        assert f"{colour}{words}{RESET}" in lines[2]
    assert "\x1b" not in "".join(drawn(Table([row(flags=OLD)])))


def test_a_truncated_colour_does_not_run_into_the_next_line() -> None:
    for width in range(1, 60):
        for line in Table([row(flags=BAD)]).draw(10.0, width, 24, "title", colour=True):
            assert line.count("\x1b") % 2 == 0


def test_flags_are_unknown_while_the_gateway_is_away() -> None:
    lines = Table([row()]).draw(10.0, 100, 24, "connection lost", colour=True, away=True)
    assert lines[0].startswith(RED)
    assert lines[2].startswith(DIM)
    assert "good" not in lines[2]
    assert "unknown" in lines[2]


def test_a_long_table_can_be_scrolled() -> None:
    table = Table([row(f"KEY{n:02}") for n in range(50)])
    assert drawn(table, height=13)[-1] == "1 to 10 of 50, arrows scroll, / search, s sort, l live only, q quits"
    table.top += 45
    lines = drawn(table, height=13)
    assert lines[2].startswith("KEY40")
    assert lines[-1].startswith("41 to 50")
    table.top -= 100
    assert drawn(table, height=13)[2].startswith("KEY00")


def test_columns_do_not_shrink_when_a_value_does() -> None:
    it = row(value=123456789.25)
    table = Table([it])
    before = drawn(table)[1]
    it.show(1.0, 0, 10.0)
    assert drawn(table)[1] == before


def test_keys_without_updates_can_be_hidden() -> None:
    silent, old = row("SILENT", flags=OLD, updated=None), row("OLD", flags=OLD, updated=5.0)
    assert [r.key for r in Table([silent, old, row()], news_first=True).visible(12.0)] == ["OLD", "IAS"]
    silent.update(1.0, 0, 11.0)
    assert [r.key for r in Table([silent, old], news_first=True).visible(12.0)] == ["SILENT", "OLD"]


def test_updated_keys_come_before_unused_buttons() -> None:
    buttons = [row(f"BTN{n}", updated=None) for n in range(100)]
    table = Table([*buttons, row("A_BTN_WITH_A_VERY_LONG_NAME", updated=None), row("IAS")], news_first=True)
    lines = table.draw(12.0, 80, 24, "title", colour=False)
    assert lines[2].startswith("IAS  ")
    assert lines[3].startswith("BTN0 ")
    assert "Indicated airspeed" in lines[2], "a long name on another page takes no room on this one"
    buttons[99].update(True, 0, 12.0)
    assert [r.key for r in table.visible(12.0)][:3] == ["IAS", "BTN99", "BTN0"]
    assert Table([*buttons, row("IAS")]).visible(12.0)[0].key == "BTN0", "keys that were asked for stay"


def keys(table: Table, *pressed: str) -> list[str]:
    """The keys of the rows after some keys on the keyboard were pressed."""
    assert all(table.press(key) for key in pressed)
    return [row.key for row in table.visible(12.0)]


def test_search_in_keys_units_and_descriptions() -> None:
    table = Table([row("IAS"), row("OILT1"), row("TAS")])
    table.rows[1].units, table.rows[1].description = "degC", "Oil temperature"
    assert keys(table, "/", "a", "s", "x", "\x7f") == ["IAS", "TAS"]
    assert drawn(table)[-1] == "/as_  Enter keeps, Esc ends the search"
    assert keys(table, "q", "\x7f", "\n") == ["IAS", "TAS"]
    assert drawn(table)[-1].startswith("search 'as': 2 found, Esc ends it")
    assert not table.press("q")
    assert keys(table, "\x1b") == ["IAS", "OILT1", "TAS"]
    assert keys(table, "/", *"TEMP") == ["OILT1"]
    assert keys(table, "\x1b", "/", *"degc", "\r") == ["OILT1"]
    assert keys(table, "/", *"nothing") == []
    assert "q" not in drawn(table)[-1]
    assert keys(table, *"x" * 100) == []
    assert len(table.search.words) == 40
    assert len(keys(table, "\x1b")) == 3
    assert table.press("\x1b[A"), "an arrow does not end up in the search"
    assert keys(table, "/", "\x1b[A", "\t") == ["IAS", "OILT1", "TAS"]


def test_rows_are_sorted_by_key_age_and_flags() -> None:
    rows = [row("C", updated=11.9), row("A", flags=OLD, updated=2.0), row("B", flags=BAD, updated=11.1)]
    rows += [row("E", updated=None), row("D", flags=FAIL | BAD, updated=10.5)]
    table = Table(rows)
    assert keys(table, "s") == ["A", "B", "C", "D", "E"]
    assert drawn(table)[-1] == "sorted by key, / search, s sort, l live only, q quits"
    assert keys(table, "s") == ["A", "D", "C", "B", "E"], "rows of the same second keep their places"
    assert keys(table, "s") == ["D", "B", "A", "C", "E"]
    assert keys(table, "s") == ["C", "A", "B", "E", "D"]


def test_only_live_rows() -> None:
    rows = [row("IAS"), row("OLD", flags=OLD), row("BTN1", updated=None), row("BAD", flags=BAD)]
    table = Table(rows)
    assert keys(table, "l") == ["IAS", "BAD"]
    assert drawn(table)[-1] == "live only, / search, s sort, l all, q quits"
    assert keys(table, "/", *"IA") == ["IAS"]
    assert keys(table, "\x1b", "l") == ["IAS", "OLD", "BTN1", "BAD"]


def test_pages() -> None:
    table = Table([row(f"KEY{n:02}") for n in range(50)])
    drawn(table, height=13)
    for key, first in {
        "\x1b[6~": 10,
        " ": 20,
        "\x1b[5~": 10,
        "G": 40,
        "b": 30,
        "\x1b[H": 0,
        "\x1b[4~": 40,
        "g": 0,
    }.items():
        assert table.press(key)
        assert drawn(table, height=13)[2].startswith(f"KEY{first:02}")


def test_an_aux_value_has_no_flags() -> None:
    assert row("IAS.Vne", 160.0).line == "IAS.Vne\t160.0\tknots\t"
    assert row("IAS", 0.1 + 0.2).line == "IAS\t0.30000000000000004\tknots\tgood"


def test_an_empty_table_can_be_drawn() -> None:
    assert len(drawn(Table([]))) == 3


# -- into a pipe -------------------------------------------------------------------------------------------------------


@contextmanager
def writing(bench: Bench, key: str = "ALT") -> Iterator[None]:
    """Write 1, 2, 3 ... at 100 Hz."""
    stop = threading.Event()

    def work() -> None:
        n = 0
        while not stop.wait(0.01):
            n += 1
            bench.db.write(key, n, "test")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_initial_values_are_printed_before_the_updates(bench: Bench, child: Cli) -> None:
    bench.db.write("BARO", 29.92, "test")
    bench.db.write("IAS.Vne", 160, "test")
    with writing(bench):
        code, out, err = child("watch", "BARO", "IAS.Vne", "ALT", "--count", "6")
    assert (code, err) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[:2] == [["BARO", "29.92", "inHg", "good"], ["IAS.Vne", "160.0", "knots", ""]]
    values = [float(line[1]) for line in lines[2:]]
    assert len(values) == 4
    assert values == sorted(values)
    assert {(line[0], *line[2:]) for line in lines[2:]} <= {("ALT", "ft", "good"), ("ALT", "ft", "old")}


def test_lines_are_printed_at_once_and_continue_after_the_gateway_restarts(bench: Bench, started: Started) -> None:
    process = started("watch", "ALT", "IAS")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ALT\t0.0\tft\told\n"
    assert process.stdout.readline() == "IAS\t0.0\tknots\told\n"
    bench.db.write("ALT", 1000, "test")
    assert process.stdout.readline() == "ALT\t1000.0\tft\tgood\n"
    bench.stop()
    assert process.stderr.readline() == "fixgw: connection lost, reconnecting\n"
    bench.start()
    assert process.stdout.readline() == "ALT\t0.0\tft\told\n"
    assert process.stdout.readline() == "IAS\t0.0\tknots\told\n"
    bench.db.write("ALT", 2000, "test")
    assert process.stdout.readline() == "ALT\t2000.0\tft\tgood\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""


def test_it_ends_after_its_duration(bench: Bench, child: Cli) -> None:
    before = time.monotonic()
    code, out, err = child("watch", "ALT", "--duration", "0.3")
    assert (code, out, err) == (0, "ALT\t0.0\tft\told\n", "")
    assert time.monotonic() - before >= 0.3


def test_it_ends_quietly_when_the_pipe_is_closed(bench: Bench, started: Started) -> None:
    process = started("watch", "ALT")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    with writing(bench):
        assert process.wait(20) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stdout = None  # closed already


def test_without_keys_it_watches_every_key_that_is_updated(bench: Bench, child: Cli) -> None:
    bench.db.write("BARO", 29.92, "test")
    with writing(bench):
        _, out, _ = child("watch", "--count", "20")
    assert {line.split("\t")[0] for line in out.splitlines()} == {"BARO", "ALT"}


def test_an_unknown_key_is_refused(bench: Bench, cli: Cli) -> None:
    assert cli("watch", "ALT", "BARRO") == (1, "", "fixgw: no item 'BARRO' (did you mean 'BARO'?)\n")
    assert cli("watch", "NOPE*") == (1, "", "fixgw: no item matches 'NOPE*'\n")


# -- on a terminal -----------------------------------------------------------------------------------------------------

ENTER, LEAVE = re.escape("\x1b[?1049h\x1b[?25l"), re.escape("\x1b[?25h\x1b[?1049l")


def test_values_change_in_place_until_q(bench: Bench, terminal: Open) -> None:
    bench.db.write("ALT", 1000, "test")
    it = terminal("watch", "ALT", "IAS")
    it.wait_for(ENTER)
    it.wait_for(rf"FIX Gateway at 127\.0\.0\.1:{bench.port}.*ALT +1000 ft +{re.escape(GREEN)}good{re.escape(RESET)}")
    bench.db.write("ALT", 1234.5, "test", BAD)
    it.wait_for(rf"ALT +1234\.5 ft +{re.escape(RED)}bad{re.escape(RESET)}")
    it.type("q")
    it.wait_for(LEAVE)
    assert it.end() == 0


def test_the_foot_says_what_is_overridden(bench: Bench, terminal: Open) -> None:
    bench.db.item("IAS").override(120, 0, "override/netfix/127.0.0.1", "", 60.0)
    it = terminal("watch", "ALT")
    it.wait_for("OVERRIDDEN, NOT REAL: IAS")
    it.type("q")
    assert it.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_restored_when_the_command_is_killed(bench: Bench, terminal: Open, number: int) -> None:
    it = terminal("watch", "ALT")
    it.wait_for(r"ALT +0 ft")
    if number == signal.SIGINT:
        it.type("\x03")
    else:
        it.process.send_signal(number)
    it.wait_for(LEAVE)
    assert it.end() == (0 if number == signal.SIGINT else 143)
    assert "Traceback" not in it.shown


def test_rate_and_age_are_shown(bench: Bench, terminal: Open) -> None:
    bench.db.write("BARO", 30, "test")
    it = terminal("watch", "ALT", "BARO")
    with writing(bench):
        it.wait_for(r"ALT +\d+ ft +\S*good\S* +0\.\d\d s +\d\d+\.\d Hz")
        it.wait_for(r"BARO +30 inHg +\S*good\S* +[\d.]+ s +-")


def test_colour_can_be_turned_off(bench: Bench, terminal: Open) -> None:
    it = terminal("watch", "ALT", NO_COLOR="1")
    assert "m" not in "".join(re.findall(r"\x1b\[[0-9]*([a-zA-Z])", it.wait_for(r".*q quits").group()))


def test_a_dumb_terminal_gets_lines(bench: Bench, terminal: Open) -> None:
    it = terminal("watch", "ALT", "--count", "1", TERM="dumb")
    assert it.wait_for(r".*\n").group() == "ALT\t0.0\tft\told\r\n"
    assert it.end() == 0


def test_it_follows_the_size_of_the_terminal(bench: Bench, terminal: Open) -> None:
    it = terminal("watch", "*", "ALT", columns=100, rows=6, COLUMNS="30", LINES="50")
    it.wait_for(r"1 to 3 of 8, arrows scroll")
    it.type("\x1b[Bj")
    it.wait_for(r"3 to 5 of 8")
    it.type("/egtq\n")
    it.wait_for(r"search 'egtq': 0 found")
    it.type("\x1b")
    it.wait_for(r"1 to 3 of 8")
    it.resize(100, 24)
    it.wait_for(r"ACID[^\n]+\n[^\n]*q quits")
    it.type("q")
    assert it.end() == 0


def test_a_terminal_that_does_not_know_its_size_gets_the_default(bench: Bench, terminal: Open) -> None:
    it = terminal("watch", "ALT", columns=0, rows=0, COLUMNS="", LINES="")
    it.wait_for(r"ALT +0 ft +\S*old.*q quits")
    it.type("q")
    assert it.end() == 0


def test_it_says_when_the_connection_is_lost_and_continues_when_it_is_back(bench: Bench, terminal: Open) -> None:
    bench.db.write("ALT", 1000, "test")
    it = terminal("watch", "ALT")
    it.wait_for(r"ALT +1000 ft +\S*good")
    bench.stop()
    it.wait_for(r"connection lost, reconnecting to.*ALT +1000 ft +unknown")
    bench.start()
    bench.db.write("ALT", 2000, "test")
    it.wait_for(r"FIX Gateway at.*ALT +2000 ft +\S*good")
    bench.db.write("ALT", 3000, "test")
    it.wait_for(r"ALT +3000 ft +\S*good")
    it.type("q")
    assert it.end() == 0


def test_it_copes_with_a_gateway_that_comes_back_with_other_keys(bench: Bench, terminal: Open) -> None:
    it = terminal("watch", "ALT", "IAS")
    it.wait_for(r"IAS +0 knots")
    bench.stop()
    bench.entries = "\n".join(line for line in bench.entries.splitlines() if "key: ALT" not in line)
    bench.start()
    bench.db.write("IAS", 99, "test")
    it.wait_for(r"FIX Gateway at.*ALT +- ft.*IAS +99 knots +\S*good")
    it.type("q")
    assert it.end() == 0
