"""The proxy, between a real client and a real gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixgw.cli import proxy
from fixgw.cli.narrate import Narrator, summary_lines
from fixgw.errors import Refused
from fixgw.netfix import Client
from fixgw.netfix.overheard import Conversation

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Display(threading.Thread):
    """Does `what` with a client behind the proxy, then presses Ctrl-C."""

    def __init__(self, port: int, what: Callable[[Client], object]) -> None:
        super().__init__()
        self.port = port
        self.what = what
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            deadline = time.monotonic() + 10.0
            while True:
                try:
                    client = Client("127.0.0.1", self.port, reconnect=False)
                    client.connect()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            self.what(client)
            client.disconnect()
            time.sleep(0.3)  # until the proxy has noticed
        except BaseException as error:
            self.error = error
        finally:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def watched(bench: Bench, cli: Cli, port: int) -> Callable[..., str]:
    """What the command prints while a display does something."""

    def watch(what: Callable[[Client], object], *options: str) -> str:
        display = Display(port, what)
        display.start()
        result = cli("proxy", "--listen", str(port), "--to", f"127.0.0.1:{bench.port}", *options)
        display.join(10.0)
        assert display.error is None
        assert (result.code, result.err) == (0, "")
        return result.out

    return watch


@pytest.fixture
def flying(bench: Bench) -> Callable[[Client], None]:
    """What a display does: it asks, subscribes, is told, and asks for what does not exist."""

    def fly(client: Client) -> None:
        heard = threading.Semaphore(0)
        client.list()
        client.report_many(["IAS", "ALT", "BARO", "EGT11", "EGT12"])
        client.subscribe("IAS", lambda sample: heard.release())
        client.subscribe("ALT", lambda sample: heard.release())
        client.read("IAS")
        for n in range(5):
            bench.db.write("IAS", 100.0 + n, "test")
        bench.db.write("IAS", 110.0, "test", flags=4)
        while bench.db.read("IAS").value != 110.0 or not heard.acquire(timeout=5.0):
            pass
        with pytest.raises(Refused):
            client.read("FOO")
        client.write("BARO", 30.1)
        time.sleep(0.05)

    return fly


def test_it_shows_what_a_display_asks_for_and_is_told(
    watched: Callable[..., str], flying: Callable[[Client], None], bench: Bench, port: int
) -> None:
    out = watched(flying)
    lines = [re.sub(r"^[0-9:.]{12} ", "", line) for line in out.splitlines()]
    assert lines[0] == f"127.0.0.1 port {port} leads to the gateway at 127.0.0.1 port {bench.port}. Ctrl-C ends it."
    told = "\n".join(lines)
    for pattern in (
        r"client 1: connected from 127\.0\.0\.1:\d+",
        r"client 1: the gateway accepted it after [\d.]+ ms",
        r"client 1: @l is answered after [\d.]+ ms: @l\d+;0;IAS,ALT",
        r"client 1: report, 5 times: IAS, ALT, BARO, EGT11, EGT12; answers after [\d.]+ ms to [\d.]+ ms",
        r"client 1: @rFOO is refused after [\d.]+ ms: unknown key",
        r"client 1: @wBARO;30\.1 is answered after [\d.]+ ms: @wBARO;30\.1;00000",
        r"client 1: told IAS 110 \(bad, before good\)",
        r"client 1: the client closed the connection",
        r"client 1 \(127\.0\.0\.1:\d+\): [\d.]+ s, 2 keys subscribed",
        r"  commands: 1 list, 5 report, 2 subscribe, 2 read, 1 write",
        r"  refused once: @rFOO: unknown key",
        r"  IAS +\d +[\d.]+ +[\d.]+ s +bad +110",
        r"  subscribed, but never told: 1 key: ALT",
    ):
        assert re.search(f"^{pattern}", told, re.MULTILINE), (pattern, told)


def test_a_recording_shows_what_was_shown_live(
    watched: Callable[..., str], flying: Callable[[Client], None], cli: Cli, tmp_path: Path
) -> None:
    pytest.importorskip("mcap")
    file = tmp_path / "display.mcap"
    live = [json.loads(line) for line in watched(flying, "--json", "--record", str(file)).splitlines()]
    assert live.pop(0)["what"] == "listening"
    result = cli("proxy", "--show", str(file), "--json")
    assert (result.code, result.err) == (0, "")
    shown = [json.loads(line) for line in result.out.splitlines()]
    assert [_without_times(event) for event in shown] == [_without_times(event) for event in live]
    assert [event["at"] for event in shown] == pytest.approx([event["at"] for event in live], abs=2e-6)
    assert {event["what"] for event in live} == {"opened", "reached", "answered", "told", "closed", "summary"}
    assert "told IAS 110 (bad, before good)" in cli("proxy", "--show", str(file)).out


TIMES = (
    "at",
    "time",
    "seconds",
    "first_answer",
    "last_subscription",
    "first_told",
    "latencies",
    "per_second",
    "longest_gap",
)


def _without_times(event: Any) -> Any:
    if isinstance(event, dict):
        return {key: _without_times(value) for key, value in event.items() if key not in TIMES}
    return event


def test_a_gateway_that_is_away_is_told(bench: Bench, cli: Cli, port: int) -> None:
    bench.stop()

    def try_it() -> None:
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 5.0) as sock:
                    sock.recv(1)
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    display = threading.Thread(target=try_it)
    display.start()
    result = cli("proxy", "--listen", str(port), "--to", f"127.0.0.1:{bench.port}")
    display.join()
    assert "client 1: the gateway cannot be reached: Connection refused" in result.out
    bench.start()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--to", "1.2.3.4:x"], "the port must be a number"),
        (["--to", "a:1:2"], "'a:1:2': write HOST:PORT"),
        (["--listen", "a b:1"], "neither an address nor a host name"),
        (["--allow", "10.0.0.0/99"], "10.0.0.0/99"),
        (["--record", "x.txt"], "the name of a recording ends with .mcap"),
        (["--show", "no.mcap"], "no.mcap"),
        (["--listen", "192.0.2.1:3600"], "cannot listen on 192.0.2.1"),
    ],
)
def test_problems_are_told_in_a_sentence(cli: Cli, argv: list[str], words: str) -> None:
    result = cli("proxy", *(["--listen", "0"] if "--listen" not in argv else []), *argv)
    assert result.code in (1, 2)
    assert words in result.err
    assert "Traceback" not in result.err


def test_output_that_is_too_slow_loses_pieces_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_WAITING_BYTES", 1000)
    gathering = proxy.Gathering()
    gathering.opened(1, 1.0, "x")
    for n in range(10):
        gathering.passed(1, 2.0 + n, "server", b"IAS;1.0;00000\n")
    gathering.passed(2, 20.0, "server", b"IAS;1.0;00000\n")
    pieces = gathering.take(0.0)
    assert [piece.what for piece in pieces] == ["opened", "passed", "passed", "passed", "missed", "missed"]
    assert gathering.take(0.0) == []
    gathering.passed(1, 30.0, "server", b"IAS;1.0;00000\n")
    assert [piece.what for piece in gathering.take(0.0)] == ["passed"]


def test_a_thousand_commands_are_one_line() -> None:
    talk, narrator = Conversation(1, 0.0), Narrator(0.0, 10.0)
    events = talk.hear(0.0, "client", b"".join(b"@rK%d\n" % n for n in range(1000)))
    events += talk.hear(0.5, "server", b"".join(b"@rK%d;1;00000\n" % n for n in range(1000)))
    events += talk.hear(0.6, "server", b"".join(b"K%d;1;01000\n" % n for n in range(1000)))
    assert [line for event in events for line in narrator.take(event)] == []
    lines = [line.partition(": ")[2] for line in narrator.tick(20.0)]
    assert lines[0] == "read, 1000 times: K0, K1, K2, K3, K4, K5 ...; answers after 500 ms to 500 ms"
    assert lines[1] == "told K0 1 (old, before good)"
    assert lines[11] == "990 more changes of flags"
    assert re.match(r"told 1000 keys 1,000 times in 10 s; a second: K0 0\.1, ", lines[12])
    assert len(lines) == 13
    assert sum(1 for _ in summary_lines(talk.summary(20.0), "x")) < 60
