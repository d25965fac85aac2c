from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixgw.clock import now
from fixgw.database import FAIL, OLD, Definition
from fixgw.errors import BadValue, NetfixError, NotConnected, Refused, RequestTimeout
from fixgw.netfix import Client, Report, Sample

pytestmark = pytest.mark.slow

Gateway = Any  # TestGateway of conftest.py
Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(port=gateway.port, timeout=5.0) as client:
        yield client


class Silent:
    """A server that accepts connections, and sends given answers."""

    def __init__(self, *answers: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._answers = answers
        self._socks: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        self._socks.append(sock)
        for answer in self._answers:
            sock.recv(4096)
            sock.sendall(answer)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(5.0)
        for sock in self._socks:
            sock.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Silent]]:
    made = []

    def make(*answers: bytes) -> Silent:
        made.append(Silent(*answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- requests ----------------------------------------------------------------------------------------------------------


def test_the_list_is_read(client: Client) -> None:
    assert client.list() == ["IAS", "ALT", "FREE", "COUNT", "BTN1", "ACID", "BARO", "MARK", "ZZLOADER"]


def test_a_list_sent_in_parts_is_understood(server: Callable[..., Silent]) -> None:
    with Client(port=server(b"@l3;0;A,B\n@l3;2;C\n").port) as client:
        assert client.list() == ["A", "B", "C"]


def test_values_are_read(client: Client, gateway: Gateway) -> None:
    gateway.db.write("IAS", 120.5, "test", FAIL)
    gateway.db.write("IAS.Vne", 140)
    sample = client.read("IAS")
    assert sample == Sample("IAS", 120.5, FAIL, "120.5")
    assert (sample.annunciate, sample.old, sample.bad, sample.fail, sample.secfail) == (False,) * 3 + (True, False)
    assert not sample.good
    assert client.read("IAS.Vne") == Sample("IAS.Vne", 140.0, 0, "140.0")
    assert client.read("IAS.Vs").value is None
    assert client.read("BTN1").value is False
    assert client.read("COUNT").value == 0
    assert client.read("ALT").old


def test_a_report_determines_the_type(client: Client, gateway: Gateway) -> None:
    gateway.db.write("ACID", "0123", "test")
    assert client.read("ACID").value == 123
    assert client.report("ACID").type == "str"
    assert client.read("ACID").value == "0123"
    assert client.read("ACID").text == "0123"


def test_definitions_are_reported(client: Client) -> None:
    assert client.report("IAS") == Report("IAS", "Airspeed", "float", 0.0, 1000.0, "knots", 2000, ("Vs", "Vne"))
    assert client.report("BTN1").aux == ()
    assert client.report("ACID").min is None


def test_writing_returns_what_is_stored(client: Client, gateway: Gateway) -> None:
    assert client.write("IAS", 5000) == Sample("IAS", 1000.0, 4, "1000.0")
    assert client.write("BTN1", True).value is True
    assert client.write("ACID", "N123").text == "N123"
    assert client.write("IAS.Vne", 140).value == 140.0
    assert client.write("IAS.Vne", None).value is None
    assert gateway.db.read("ACID").value == "N123"


def test_a_value_sentence_sets_value_and_flags(client: Client, gateway: Gateway) -> None:
    client.send("IAS", 5, bad=True, annunciate=True)
    assert client.read("IAS").flags == 0b10100
    client.send("IAS", 6, secfail=True)
    assert client.read("IAS").flags == 0b00001


def test_flags_are_set_and_cleared(client: Client) -> None:
    client.flag("IAS", "f", True)
    assert client.read("IAS").fail
    client.flag("IAS", "f", False)
    assert not client.read("IAS").fail


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (lambda c: c.read("NO"), "001"), (lambda c: c.report("NO"), "001"), (lambda c: c.write("IAS", "x"), "003"),
        (lambda c: c.flag("IAS", "z", True), "002"), (lambda c: c.subscribe("NO", print), "001"),
        (lambda c: c.explain("NO"), "001"), (lambda c: c.read("IAS\n@xkill"), "001"), (lambda c: c.read(""), "001"),
        (lambda c: c.read_many(["IAS", "NO", "ALT"]), "001"), (lambda c: c.write("IAS", float("nan")), "003"),
    ],
)  # fmt: skip
def test_refusals_raise_the_matching_error(client: Client, request_: Callable[[Client], object], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        request_(client)
    assert refusal.value.code == code
    assert client.read("ALT").key == "ALT", "and the next answer is the right one"


def test_text_that_a_sentence_cannot_carry_is_not_sent(client: Client) -> None:
    for text in ("a;b", "a\nb"):
        with pytest.raises(BadValue):
            client.write("ACID", text)


def test_sources_and_ages_of_all_keys_at_once(client: Client, gateway: Gateway, server: Callable[..., Silent]) -> None:
    gateway.db.write("IAS", 100, "canfix/12")
    gateway.db.write("BARO", 29.92, "initial")
    sources = client.sources()
    assert {key: origin.source for key, origin in sources.items()} == {"IAS": "canfix/12", "BARO": "initial"}
    assert 0.0 <= sources["IAS"].age < 5.0
    with (
        Client(port=server(b'@xsources;{"IAS": 5}\n').port) as other,
        pytest.raises(NetfixError, match="@xsources"),
    ):
        other.sources()


def test_the_past_is_read_in_pages(client: Client, gateway: Gateway, serve: Callable[..., Gateway]) -> None:
    time_ = 5000.0
    definitions = [Definition(key=f"{'K' * 60}{n}") for n in range(200)] + [Definition(key="ACID", type="str")]
    gateway = serve(definitions, clock=lambda: time_)
    gateway.world.history.start = lambda: None
    for value in range(20):
        time_ += 0.5
        for key in gateway.db.keys()[:110]:
            gateway.db.write(key, value, "eis")
        gateway.world.history.sample()
    time_ += 0.1
    with Client(port=gateway.port, timeout=5.0) as other:
        traces = other.history(gateway.db, seconds=5)
        assert list(traces) == gateway.db.keys()[:-1], "all but the text"
        first, last = traces[definitions[0].key], traces[definitions[199].key]
        assert (first.step, first.values, first.flags) == (0.5, [float(n) for n in range(10, 20)], [0] * 10)
        assert last.values == [None] * 10
        assert 0.1 <= now() - first.newest < 5
        with pytest.raises(Refused) as refusal:
            other.history(["NO_SUCH"], 5)
        assert refusal.value.code == "001"


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense", b"{}", b"[]", b'{"step": 0, "age": 0, "keys": {}}', b'{"step": 1, "age": 0, "keys": {}}',
        b'{"step": 1, "age": 0, "keys": {"IAS": {"values": ["x"], "flags": [0]}}}',
        b'{"step": 1, "age": 0, "keys": {"IAS": {"values": [NaN], "flags": [0]}}}',
        b'{"step": 1, "age": 0, "keys": {"IAS": {"values": [1, 2], "flags": [0]}}}',
    ],
)  # fmt: skip
def test_a_history_that_is_none_is_refused(server: Callable[..., Silent], answer: bytes) -> None:
    with (
        Client(port=server(b"@xhistory 5 IAS;" + answer + b"\n").port) as client,
        pytest.raises(NetfixError, match="@xhistory"),
    ):
        client.history(["IAS"], 5)


def test_the_past_is_remembered_once_somebody_asks_or_from_the_start(
    gateway: Gateway, serve: Callable[..., Gateway]
) -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    assert "history" not in names()
    client = gateway.connect()
    assert client.ask("@xhistory 5 IAS").startswith('@xhistory 5 IAS;{"step": 0.5, ')
    assert names().count("history") == 1
    serve(history=True)
    assert names().count("history") == 2
    for wrong in ("@xhistory", "@xhistory 5", "@xhistory IAS", "@xhistory -1 IAS"):
        assert client.ask(wrong) == f"{wrong}!004"
    assert client.ask(f"@xhistory {'9' * 400} IAS").endswith("}}")


def test_status_explain_and_kill(
    client: Client, gateway: Gateway, serve: Callable[..., Gateway], wait_for: Wait
) -> None:
    killed: list[str] = []
    gateway.world.quit = killed.append
    gateway.world.status = lambda: {"health": "ok"}
    assert client.status() == {"health": "ok"}
    assert client.explain("IAS")["source"] is None
    with pytest.raises(Refused, match="@xkill: not permitted: the option `admin` of"):
        client.kill()
    assert not killed
    gateway = serve(admin=["127.0.0.0/8"])
    gateway.world.quit = killed.append
    with Client(port=gateway.port) as client:
        client.kill()
    wait_for(lambda: killed == ["netfix"])


def test_many_requests_cost_one_round_trip(serve: Callable[..., Gateway]) -> None:
    gateway = serve([Definition(key=f"KEY{n}") for n in range(2500)])
    with Client(port=gateway.port, timeout=5.0) as client:
        keys = client.list()
        assert [report.key for report in client.report_many(keys)] == keys
        assert [sample.key for sample in client.read_many(keys)] == keys


def test_several_threads_can_share_a_client(client: Client, gateway: Gateway) -> None:
    wrong: list[object] = []
    received = threading.Event()
    client.subscribe("MARK", lambda sample: received.set())

    def work(key: str) -> None:
        wrong.extend(n for n in range(100) if client.read(key).key != key or client.write(key, n).value != n)

    threads = [threading.Thread(target=work, args=(key,)) for key in ("IAS", "ALT", "FREE", "COUNT")]
    for thread in threads:
        thread.start()
    for n in range(200):
        gateway.db.write("MARK", n, "test")
    for thread in threads:
        thread.join()
    assert wrong == []
    assert received.wait(5.0)


# -- subscriptions -----------------------------------------------------------------------------------------------------


def test_callbacks_get_updates_of_the_item_and_its_aux_values(client: Client, gateway: Gateway, wait_for: Wait) -> None:
    heard: list[Sample] = []
    client.subscribe("IAS", heard.append)
    client.subscribe("IAS", lambda sample: None)
    gateway.db.write("IAS", 5.0, "test")
    gateway.db.write("IAS.Vne", 140)
    gateway.db.item("IAS").flag(OLD, OLD, "test")
    wait_for(lambda: len(heard) == 3)
    assert heard == [Sample("IAS", 5.0, 0, "5.0"), Sample("IAS.Vne", 140.0, 0, "140.0"), Sample("IAS", 5.0, 8, "5.0")]
    client.unsubscribe("IAS", heard.append)
    client.unsubscribe("IAS")
    client.unsubscribe("IAS")
    assert gateway.db.item("IAS")._subscriptions == ()


def test_a_callback_can_make_requests(client: Client, gateway: Gateway, wait_for: Wait) -> None:
    heard: list[object] = []

    def ask(sample: Sample) -> None:
        heard.append((sample.value, client.read("ALT").value, client.write("COUNT", 5).value))

    client.subscribe("IAS", ask)
    for n in range(3):
        gateway.db.write("IAS", n, "test")
    wait_for(lambda: heard == [(0.0, 0.0, 5), (1.0, 0.0, 5), (2.0, 0.0, 5)])


def test_a_callback_that_raises_does_no_harm(
    client: Client, gateway: Gateway, wait_for: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Sample] = []

    def fail(sample: Sample) -> None:
        raise ZeroDivisionError

    client.subscribe("IAS", fail)
    client.subscribe("IAS", heard.append)
    for n in range(20):
        gateway.db.write("IAS", n, "test")
    wait_for(lambda: len(heard) == 20)
    assert "ZeroDivisionError" in caplog.text
    assert [r.levelname for r in caplog.records].count("ERROR") == 1, "one line, however often it happens"
    assert client.callback_errors == 20
    assert client.read("IAS").value == 19.0


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_missing_server_is_reported() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    client = Client(port=port)
    with pytest.raises(NotConnected, match=f"127.0.0.1 port {port}: Connection refused"):
        client.connect()
    with pytest.raises(ConnectionError):
        client.read("IAS")
    assert not client.connected
    client.disconnect()


def test_a_server_that_does_not_answer_times_out(server: Callable[..., Silent]) -> None:
    with Client(port=server().port, timeout=0.05) as client:
        with pytest.raises(RequestTimeout, match="@rIAS"):
            client.read("IAS")
        with pytest.raises(TimeoutError):
            client.list()


def test_a_late_answer_is_not_taken_for_the_next_one(server: Callable[..., Silent]) -> None:
    with Client(port=server(b"", b"@rIAS;1.0;00000\n@rIAS;2.0;00000\n").port, timeout=0.2) as client:
        with pytest.raises(RequestTimeout):
            client.read("IAS")
        assert client.read("IAS").value == 2.0


def test_a_missing_answer_does_not_delay_the_others(server: Callable[..., Silent]) -> None:
    with Client(port=server(b"", b"ALT;5.0;00000\n@rALT;1.0;00000\n").port, timeout=0.2) as client:
        with pytest.raises(RequestTimeout):
            client.read("IAS")
        assert client.read("ALT").value == 1.0


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\n", b";;;\n", b"@\n", b"@r\n", b"@l\n", b"\0\n\n", b"IAS\n", b"@q;\n"])
def test_garbage_from_a_server_does_no_harm(server: Callable[..., Silent], rubbish: bytes) -> None:
    with Client(port=server(rubbish + b"@rIAS;1.0;00000\n").port, timeout=5.0) as client:
        assert client.read("IAS").value == 1.0


def test_short_answers_do_no_harm(server: Callable[..., Silent]) -> None:
    port = server(b"@qIAS\n", b"@xstatus;{\n", b"@rIAS\n", b"@l\n").port
    with Client(port=port, timeout=5.0) as client:
        assert client.report("IAS").type == ""
        with pytest.raises(NetfixError, match="JSON"):
            client.status()
        assert client.read("IAS").value == ""
        assert client.list() == []


def test_a_pending_request_fails_when_the_server_disconnects(server: Callable[..., Silent]) -> None:
    silent = server(b"")
    client = Client(port=silent.port, timeout=5.0)
    client.connect()
    started = time.monotonic()
    closer = threading.Timer(0.1, lambda: silent._socks[0].shutdown(socket.SHUT_RDWR))
    closer.start()
    with pytest.raises(NotConnected):
        client.read("IAS")
    assert time.monotonic() - started < 4.0
    closer.join()
    client.disconnect()


def test_it_recovers_from_a_restart_of_the_gateway(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    first = serve()
    events: list[str] = []
    heard: list[Sample] = []
    display = Client(
        port=first.port,
        timeout=5.0,
        reconnect=True,
        on_connect=lambda: events.append(f"connected, {display.read('IAS').value}"),
        on_disconnect=lambda: events.append("lost"),
    )
    display.connect()
    display.subscribe("IAS", heard.append)
    wait_for(lambda: events == ["connected, 0.0"])
    first.plugin.shutdown()
    wait_for(lambda: events[1:] == ["lost"])
    with pytest.raises(NotConnected):
        display.read("IAS")
    second = serve(port=first.port)
    wait_for(lambda: events[2:] == ["connected, 0.0"])
    second.db.write("IAS", 7.0, "test")
    wait_for(lambda: [sample.value for sample in heard] == [7.0])
    display.disconnect()
    assert events[3:] == ["lost"]


def test_it_can_be_started_before_the_gateway(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    heard: list[Sample] = []
    client = Client(port=port, reconnect=True)
    client.subscribe("IAS", heard.append)
    client.start()
    gateway = serve(port=port)
    wait_for(lambda: gateway.db.item("IAS")._subscriptions)
    gateway.db.write("IAS", 7.0, "test")
    wait_for(lambda: heard)
    client.disconnect()
    assert not client.connected


def test_it_can_disconnect_twice_and_connect_again(gateway: Gateway) -> None:
    client = Client(port=gateway.port)
    client.disconnect()
    for _ in range(3):
        client.connect()
        client.connect()
        assert client.read("IAS").value == 0.0
        client.disconnect()
        client.disconnect()
    assert not any(thread.name == "netfix client" for thread in threading.enumerate())
