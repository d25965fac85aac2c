"""console: commands from a pipe, and typed on a real terminal with completion and history."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixgw.cli.console import Completion
from fixgw.errors import NotConnected

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result, Terminal

    Cli = Callable[..., Result]
    Open = Callable[..., Terminal]

KEYS = ["IAS", "ALT", "EGT11", "EGT12"]


def complete(line: str) -> list[str]:
    """The completions of the last word of `line`."""
    completion = Completion(lambda: KEYS, lambda key: [f"{key}.Vs", f"{key}.Vne"])
    before, _, word = line.rpartition(" ")
    return completion.candidates(before.split(), word)


# -- completion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("re", ["read", "report", "restart"]),
        ("q", ["quit"]),
        ("help e", ["explain"]),
        ("read E", ["EGT11", "EGT12"]),
        ("read eg", ["EGT11", "EGT12"]),
        ("read IAS A", ["ALT"]),
        ("read IAS.V", ["IAS.Vs", "IAS.Vne"]),
        ("write IAS.vn", ["IAS.Vne"]),
        ("write IAS 1", []),
        ("flag IAS ", ["annunciate", "old", "bad", "fail", "secfail"]),
        ("flag IAS bad o", ["on", "off"]),
        ("flag IAS bad on x", []),
        ("status x", []),
        ("nonsense x", []),
    ],
)
def test_completion_offers_what_matches(line: str, candidates: list[str]) -> None:
    assert complete(line) == candidates


def test_completion_offers_nothing_without_a_gateway() -> None:
    def away(*_: object) -> list[str]:
        raise NotConnected("away")

    assert Completion(away, away).candidates(["read"], "I") == []
    assert Completion(away, away).candidates(["read"], "IAS.") == []


# -- through a pipe ----------------------------------------------------------------------------------------------------


def test_commands_come_through_a_pipe(bench: Bench, child: Cli) -> None:
    code, out, err = child("console", input="write ALT 1000\n\n# nothing\nread ALT 'EGT1?'  # both\nquit\nread NOPE\n")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["ALT  1000  ft  good", "ALT    1000  ft    good"]
    assert bench.db.read("ALT").value == 1000


def test_a_failed_command_sets_the_exit_code_and_the_others_still_run(bench: Bench, child: Cli) -> None:
    code, out, err = child("console", input="reed ALT\nread\nread NOPE\nread 'ALT\nlist ALT\n")
    assert (code, out) == (1, "ALT\n")
    assert err.splitlines() == [
        "fixgw: there is no command 'reed' (did you mean 'read'?); `help` lists them",
        "read: the following arguments are required: KEY; see `help read`",
        "fixgw: no item 'NOPE'",
        "fixgw: no closing quotation",
    ]


def test_help_lists_the_commands_and_describes_each(bench: Bench, child: Cli) -> None:
    code, out, _ = child("console", input="help\nhelp read\nread --help\n")
    assert code == 0
    assert "  explain   explain where a value comes from" in out
    assert out.count("usage: read [-h] [--json] [--units UNITS] KEY [KEY ...]") == 2
    assert child("console", input="help reed\n").code == 1


def test_without_a_gateway_every_command_says_so(child: Cli) -> None:
    code, out, err = child("console", "--port", "1", input="list\nread IAS\nwatch IAS\n")
    assert (code, out) == (1, "")
    assert err.count("no gateway answers at 127.0.0.1:1") == 3
    assert "Traceback" not in err


def test_fixgwc_is_a_console(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import io

    from fixgw.cli import client_main

    monkeypatch.setattr("sys.stdin", io.StringIO("list ALT\n"))
    assert client_main([]) == 0
    assert capsys.readouterr().out == "ALT\n"


def test_watch_works_in_the_console(bench: Bench, child: Cli) -> None:
    assert child("console", input="watch ALT --count 1\nlist ALT\n").out == "ALT\t0.0\tft\told\nALT\n"


# -- on a terminal -----------------------------------------------------------------------------------------------------

PROMPT = "fixgw> "
ANSWER = r"list ALT\r\n[^\n]*ALT\r\n.*" + PROMPT  # to `list ALT`


def test_a_user_types_commands_until_quit(bench: Bench, terminal: Open) -> None:
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("write ALT 1000\n")
    it.wait_for(r"ALT  1000  ft  good\r\n.*" + PROMPT)
    it.type("quit\n")
    assert it.end() == 0


def test_the_tab_key_completes_commands_keys_aux_values_and_flags(bench: Bench, terminal: Open) -> None:
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("expl\tBA\t")
    it.wait_for("explain BARO ")
    it.type("\n")
    it.wait_for("BARO: Altimeter setting.*" + PROMPT)
    it.type("read IAS.Vn\t\n")
    it.wait_for(r"IAS\.Vne  -  knots.*" + PROMPT)
    it.type("flag ALT fa\ton\n")
    it.wait_for(r"ALT  0  ft  old, fail.*" + PROMPT)
    it.type("\x04")
    assert it.end() == 0


def test_the_gateway_can_restart_between_two_commands(bench: Bench, terminal: Open) -> None:
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("list ALT\n")
    it.wait_for(ANSWER)
    bench.stop()
    it.type("list ALT\n")
    it.wait_for(r"no gateway answers at 127\.0\.0\.1.*" + PROMPT)
    it.type("read A\t\n")
    it.wait_for(r"no gateway answers at 127\.0\.0\.1.*" + PROMPT)
    bench.start()
    it.type("list ALT\n")
    it.wait_for(ANSWER)
    it.type("quit\n")
    assert it.end() == 0
    assert "Traceback" not in it.shown


def test_a_console_can_be_opened_before_the_gateway(bench: Bench, terminal: Open) -> None:
    bench.stop()
    it = terminal("console")
    it.wait_for("no gateway answers at.*" + PROMPT)
    bench.start()
    it.type("list ALT\n")
    it.wait_for(ANSWER)


def test_ctrl_c_drops_the_line_but_keeps_the_console(bench: Bench, terminal: Open) -> None:
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("read nonsense")
    it.wait_for("read nonsense")
    it.interrupt_until(PROMPT)
    it.type("watch ALT\n")
    it.wait_for("q quits")
    it.type("\x03")
    it.wait_for(PROMPT)
    it.type("list ALT\n")
    it.wait_for(ANSWER)


def test_the_history_is_kept_for_the_next_console(bench: Bench, terminal: Open, home: Path) -> None:
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("list ALT\nquit\n")
    assert it.end() == 0
    assert "list ALT" in (home / ".local" / "state" / "fixgw" / "history").read_text()
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("\x1b[A\x1b[A\n")
    it.wait_for(ANSWER)


def test_the_console_works_when_the_history_cannot_be_saved(bench: Bench, terminal: Open, home: Path) -> None:
    (home / ".local").write_text("in the way")
    it = terminal("console")
    it.wait_for(PROMPT)
    it.type("list ALT\nquit\n")
    assert it.end() == 0
    assert not re.search("Error|Traceback", it.shown)
