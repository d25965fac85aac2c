"""A foreign gateway may send anything: the terminal prints it but obeys none of it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fixgw.cli.console import Completion
from fixgw.cli.terminal import Row, Table

if TYPE_CHECKING:
    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

EVIL = "\x1b]0owned\x07\x1b[2J\r\x08\u202eABC\x9b31m"
TREE = {"health": EVIL, "summary": EVIL, "connections": {EVIL: {"state": EVIL, "health": EVIL, "status": {EVIL: EVIL}}}}
FACTS = {
    "key": EVIL, "description": EVIL, "value": EVIL, "units": EVIL, "flags": {EVIL: EVIL, "old": EVIL}, "source": EVIL,
    "age": 1.0, "sources": [{"source": EVIL, "value": EVIL, "flags": {EVIL: EVIL}}] * 2, "aux": {EVIL: EVIL},
    "ranking": [EVIL], "conflicts": 1, "conflict_with": EVIL,
}  # fmt: skip


class Answers(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for raw in self.rfile:
            line = raw.decode().rstrip("\n")
            key = line[2:].partition(";")[0]
            answer = {
                "@l": f"@l2;0;IAS,{EVIL}",
                "@q": f"@q{key};{EVIL};str;None;None;{EVIL};0;{EVIL}",
                "@r": f"@r{key};{EVIL};00000" if "." not in key else f"@r{key};{EVIL}",
                "@w": f"@w{key};{EVIL};00000",
                "@f": line,
                "@s": line,
            }.get(line[:2], f"{line}!004")
            if line == "@xstatus":
                answer = f"@xstatus;{json.dumps(TREE, ensure_ascii=False)}"
            elif line.startswith("@xexplain"):
                answer = f"{line};{json.dumps(FACTS, ensure_ascii=False)}"
            self.wfile.write(f"{answer}\n".encode())


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port: int = server.server_address[1]
        monkeypatch.setenv("FIXGW_PORT", str(port))
        yield port
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv",
    [
        ("list",), ("list", "-l"), ("read", "IAS"), ("read", "IAS.x"), ("write", "IAS", "5"),
        ("flag", "IAS", "bad", "on"), ("report", "IAS"), ("explain", "IAS"), ("status",), ("status", "--verbose"),
        ("read", "--json", "IAS"), ("explain", "--json", "IAS"), ("status", "--json"), ("list", "--json", "-l"),
        ("read", "NOPE*"), ("watch", "IAS", "--duration", "0.2"), ("explain", "I*", "*"),
    ],
)  # fmt: skip
def test_commands_print_no_control_characters(port: int, cli: Cli, argv: tuple[str, ...]) -> None:
    result = cli(*argv)
    assert result.out or result.err
    shown = (result.out + result.err).replace("\n", "").replace("\t", "")
    assert shown.isprintable(), [c for c in shown if not c.isprintable()]


def test_the_table_on_a_terminal_has_only_its_own_colours() -> None:
    row = Row("IAS" + EVIL, EVIL, EVIL)
    row.update(EVIL, 0, 1.0)
    drawn = Table([row]).draw(1.0, 400, 10, "title", colour=False)
    assert all(line.isprintable() for line in drawn)
    assert row.line.replace("\t", "").isprintable()


@pytest.mark.slow
def test_completion_offers_no_key_with_control_characters(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    from argparse import Namespace

    from fixgw.cli.console import Console

    console = Console(Namespace(host="127.0.0.1", port=port, timeout=5.0))
    try:
        offered: Any = console.completion
        assert isinstance(offered, Completion)
        assert offered.candidates(["read"], "") == ["IAS"]
        assert offered.candidates(["read"], "IAS.") == []
    finally:
        console.close()
