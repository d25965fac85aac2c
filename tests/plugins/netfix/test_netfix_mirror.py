from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fixgw.database import BAD, FAIL, INITIAL, KEPT, OLD, Definition
from fixgw.identity import identity
from fixgw.netfix import client
from fixgw.plugins.netfix import mirror

pytestmark = pytest.mark.slow

Gateway = Any  # TestGateway of conftest.py
Wait = Callable[[Callable[[], object]], None]
Pair = tuple[Gateway, Gateway]


@pytest.fixture
def pair(serve: Callable[..., Gateway], wait_for: Wait) -> Pair:
    """Two gateways; the first sends IAS and BARO to the second, and receives ALT and BARO from it."""
    there = serve()
    here = serve(
        type="both",
        outputs=[{"host": "127.0.0.1", "port": there.port, "send": ["IAS", "BARO"], "receive": ["AL*", "BARO"]}],
    )
    wait_for(lambda: here.plugin.health() == "" and link(here)["received"] == 2)
    return here, there


def link(gateway: Gateway) -> Any:
    (status,) = gateway.plugin.get_status()["outputs"].values()
    return status


def test_values_flags_and_aux_values_are_sent(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    here.db.write("IAS", 120.0, "driver", BAD)
    wait_for(lambda: there.db.read("IAS").value == 120.0)
    assert there.db.read("IAS").flags == BAD
    assert there.db.read("IAS").source == f"netfix/127.0.0.1/{identity(here.db)}"
    here.db.write("IAS.Vne", 140)
    wait_for(lambda: there.db.read_aux("IAS.Vne") == 140.0)
    here.db.item("IAS").fail("no sensor", "driver")
    wait_for(lambda: there.db.read("IAS").fail)


def test_values_and_flags_are_received(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    there.db.write("ALT", 5000.0, "driver", FAIL)
    wait_for(lambda: here.db.read("ALT").value == 5000.0)
    reading = here.db.read("ALT")
    assert (reading.flags, reading.source) == (FAIL, f"netfix/127.0.0.1:{there.port}/{identity(there.db)}")
    assert reading.reason(FAIL) == f"reported by 127.0.0.1:{there.port}"


def test_a_value_that_is_old_there_is_old_here(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    there.db.write("ALT", 5000.0, "driver")
    wait_for(lambda: here.db.read("ALT").good)
    there.db.item("ALT").flag(OLD, OLD, "clock")
    wait_for(lambda: here.db.read("ALT").old)


def test_other_keys_are_not_mirrored(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    here.db.write("FREE", 1.0, "driver")
    here.db.write("ALT", 2.0, "driver")
    there.db.write("COUNT", 3, "driver")
    here.db.write("IAS", 4.0, "driver")
    wait_for(lambda: there.db.read("IAS").value == 4.0)
    assert there.db.read("FREE").source == there.db.read("ALT").source == here.db.read("COUNT").source == ""


def test_a_key_mirrored_both_ways_settles(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    display = there.connect()

    def holds(gateway: Gateway, value: float) -> bool:
        return bool(gateway.db.read("BARO").value == value)

    for n in range(10):
        here.db.write("BARO", 28 + n / 10, "panel")
        wait_for(partial(holds, there, 28 + n / 10))
        display.ask(f"@wBARO;{29 + n / 10}")
        wait_for(partial(holds, here, 29 + n / 10))
    writes = here.db.item("BARO").writes, there.db.item("BARO").writes
    time.sleep(0.1)
    assert (here.db.item("BARO").writes, there.db.item("BARO").writes) == writes == (20, 20)


def test_two_opposite_links_settle(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    first = serve()
    second = serve(type="both", outputs=[{"host": "127.0.0.1", "port": first.port, "send": ["IAS"]}])
    port = first.port
    first.plugin.shutdown()
    third = serve(type="both", port=port, outputs=[{"host": "127.0.0.1", "port": second.port, "send": ["IAS"]}])
    wait_for(lambda: second.plugin.health() == third.plugin.health() == "")
    second.db.write("IAS", 5.0, "driver")
    wait_for(lambda: third.db.read("IAS").value == 5.0)
    time.sleep(0.1)
    writes = second.db.item("IAS").writes, third.db.item("IAS").writes
    time.sleep(0.1)
    assert (second.db.item("IAS").writes, third.db.item("IAS").writes) == writes
    assert max(writes) <= 3


def test_keys_that_both_sides_send_and_receive_do_not_circulate(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    both = {"host": "127.0.0.1", "send": ["IAS", "BARO"], "receive": ["IAS", "BARO"]}
    first = serve()
    second = serve(type="both", outputs=[{**both, "port": first.port}])
    port = first.port
    first.plugin.shutdown()
    third = serve(type="both", port=port, outputs=[{**both, "port": second.port}])
    wait_for(lambda: second.plugin.health() == third.plugin.health() == "")
    wait_for(lambda: min(link(second)["received"], link(third)["received"]) >= 2)

    def at_rest() -> list[int]:
        time.sleep(0.2)
        return [gateway.db.item(key).writes for gateway in (second, third) for key in ("IAS", "BARO")]

    before = at_rest()
    for n in range(200):  # a sensor here, a knob turned on either side
        second.db.write("IAS", float(n), "driver")
        second.db.write("IAS.Vs", n)
    third.db.write("BARO", 29.0, "panel")
    wait_for(lambda: third.db.read("IAS").value == 199.0 and second.db.read("BARO").value == 29.0)
    second.db.write("BARO", 30.0, "panel")
    wait_for(lambda: third.db.read("BARO").value == 30.0)
    wait_for(lambda: third.db.read_aux("IAS.Vs") == 199.0)
    after = at_rest()
    assert after == at_rest()
    assert (second.db.read("IAS").value, second.db.read("IAS").source) == (199.0, "driver"), "nothing came back"
    assert after[0] - before[0] == 200
    assert after[2] - before[2] <= 400, "each arrives once by both links"


def test_two_settings_that_cross_do_not_chase_each_other(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    first = serve()
    second = serve(type="both", outputs=[{"host": "127.0.0.1", "port": first.port, "receive": ["BARO", "IAS"]}])
    port = first.port
    first.plugin.shutdown()
    third = serve(
        type="both", port=port, outputs=[{"host": "127.0.0.1", "port": second.port, "receive": ["BARO", "IAS"]}]
    )
    wait_for(lambda: second.plugin.health() == third.plugin.health() == "")
    wait_for(lambda: min(link(second)["received"], link(third)["received"]) >= 2)
    for n in range(20):
        for gateway, start in ((second, 28.0), (third, 29.0)):
            gateway.db.write("BARO", start + n / 100, "panel")
            gateway.db.write("IAS.Vs", start + n)
    time.sleep(0.2)
    received = link(second)["received"], link(third)["received"]
    time.sleep(0.1)
    assert (link(second)["received"], link(third)["received"]) == received


def test_existing_values_are_exchanged_on_connecting(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve()
    there.db.write("ALT", 5000.0, "driver")
    there.db.write("BARO", 30.0, "driver")
    there.db.write("IAS.Vs", 45)
    here = serve()
    here.db.write("BARO", 29.0, "driver")
    here.db.write("FREE", 9.0, "driver")
    here.db.write("IAS.Vne", 140)
    from fixgw.plugins.netfix.mirror import Link

    link = Link(here.db, "netfix", "127.0.0.1", there.port, ["BARO", "FREE", "COUNT"], ["ALT", "BARO", "IAS"])
    link.start()
    wait_for(lambda: there.db.read("FREE").value == 9.0)
    assert here.db.read("ALT").value == 5000.0
    wait_for(lambda: here.db.read("BARO").value == there.db.read("BARO").value)
    assert dict(here.db.item("IAS").aux) == {"Vs": 45.0, "Vne": 140.0}, "a value not set there stays here"
    assert there.db.read("COUNT").source == "", "a value never written is not sent"
    link.stop()
    link.join()


def test_a_key_that_the_other_side_lacks_is_counted(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve([Definition(key="ALT")])
    here = serve(type="client", outputs=[{"host": "127.0.0.1", "port": there.port, "receive": ["ALT", "FREE"]}])
    there.db.write("ALT", 1.0, "driver")
    wait_for(lambda: here.db.read("ALT").value == 1.0)
    wait_for(lambda: link(here)["refused"] == 1)


def test_it_recovers_from_a_restart_of_the_other_side(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve()
    here = serve(
        type="client", outputs=[{"host": "127.0.0.1", "port": there.port, "send": ["IAS"], "receive": ["ALT"]}]
    )
    here.db.write("IAS", 1.0, "driver")
    wait_for(lambda: there.db.read("IAS").value == 1.0)
    there.plugin.shutdown()
    wait_for(lambda: here.plugin.health() == f"not connected to 127.0.0.1:{there.port}")
    again = serve(port=there.port)
    again.db.write("ALT", 2.0, "driver")
    wait_for(lambda: again.db.read("IAS").value == 1.0 and here.db.read("ALT").value == 2.0)
    assert link(here)["connections"] == 2


def test_a_client_without_a_server_stops_at_once(serve: Callable[..., Gateway]) -> None:
    outputs = [{"host": f"127.0.0.{n}", "port": 1, "send": ["IAS"]} for n in range(1, 5)]
    here = serve(type="client", outputs=outputs)
    assert here.plugin.server is None
    assert here.plugin.running
    started = time.monotonic()
    here.plugin.shutdown()
    assert time.monotonic() - started < 1.0
    assert here.db.item("IAS")._subscriptions == ()


# -- start values and simulated values ---------------------------------------------------------------------------------


def both(serve: Callable[..., Gateway], there: Gateway, *keys: str, **options: Any) -> Gateway:
    """A gateway that mirrors `keys` with `there` in both directions."""
    output = {"host": "127.0.0.1", "port": there.port, "send": list(keys), "receive": list(keys)}
    return serve(type="both", outputs=[output], **options)


def linked(gateway: Gateway, wait_for: Wait) -> None:
    """Wait until the link is up and has exchanged the initial values."""
    wait_for(lambda: gateway.plugin.health() == "")
    gateway.db.write("MARK", gateway.db.item("MARK").writes + 1, "test")
    wait_for(lambda: not gateway.plugin.links[0]._pending)


@pytest.mark.parametrize("start", [INITIAL, KEPT])
def test_a_start_value_overwrites_no_setting_in_either_direction(
    start: str, serve: Callable[..., Gateway], wait_for: Wait
) -> None:
    there = serve()
    there.db.write("BARO", 29.92, start)
    for here_set, there_set in ((30.20, None), (None, 30.50)):
        if there_set is not None:
            there.db.write("BARO", there_set, "panel")
        own = ("BARO", here_set, "panel") if here_set else ("BARO", 29.80, start)
        here = both(serve, there, "BARO", "IAS", start=(own,))
        here.db.write("IAS", 100.0, "pitot")
        expected = here_set or there_set
        wait_for(lambda: there.db.read("IAS").value == 100.0)
        wait_for(lambda: here.db.read("BARO").value == there.db.read("BARO").value == expected)  # noqa: B023
        here.plugin.shutdown()
        there.db.write("BARO", 29.92, start)


def test_two_start_values_leave_each_other_alone(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve()
    there.db.write("BARO", 29.92, INITIAL)
    here = both(serve, there, "BARO", "IAS", start=(("BARO", 29.80, INITIAL),))
    here.db.write("IAS", 100.0, "pitot")
    wait_for(lambda: there.db.read("IAS").value == 100.0)
    assert (here.db.read("BARO").value, there.db.read("BARO").value) == (29.80, 29.92)


def test_a_kept_setting_goes_to_a_gateway_with_only_a_start_value(
    serve: Callable[..., Gateway], wait_for: Wait
) -> None:
    there = serve()
    there.db.write("BARO", 29.92, INITIAL)
    there.db.write("COUNT", 7, KEPT)
    here = both(serve, there, "BARO", "COUNT", start=(("BARO", 30.20, KEPT), ("COUNT", 1, INITIAL)))
    linked(here, wait_for)
    wait_for(lambda: there.db.read("BARO").value == 30.20)
    wait_for(lambda: here.db.read("COUNT").value == 7)
    assert there.db.read("BARO").source == here.db.read("COUNT").source == KEPT


def test_an_annunciated_start_value_is_not_sent_either(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve()
    there.db.write("BARO", 29.92, INITIAL)
    here = both(serve, there, "BARO", "IAS")
    here.db.write("BARO", 30.20, KEPT)
    there.db.write("IAS", 90.0, "pitot")
    wait_for(lambda: here.db.read("IAS").value == 90.0)
    there.db.write("BARO", 29.92, INITIAL)
    there.db.item("BARO").annunciate(True, "not set", "alerts")
    there.db.write("IAS", 91.0, "pitot")
    wait_for(lambda: here.db.read("IAS").value == 91.0)
    assert here.db.read("BARO").value == 30.20


def test_start_values_of_aux_are_not_sent(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve()
    there.db.write("IAS.Vne", 150.0, "display")
    output = {"host": "127.0.0.1", "port": there.port, "send": ["IAS"]}
    here = serve(type="both", outputs=[output])
    here.db.write("IAS.Vne", 160.0, INITIAL)
    here.db.write("IAS.Vs", 48.0, "display")
    here.db.write("IAS", 100.0, "pitot")
    wait_for(lambda: there.db.read("IAS").value == 100.0 and there.db.read_aux("IAS.Vs") == 48.0)
    assert there.db.read_aux("IAS.Vne") == 150.0


@pytest.mark.parametrize("mark", ["sim", "replay", "override"])
def test_simulated_values_stay_simulated_in_both_directions(
    mark: str, serve: Callable[..., Gateway], wait_for: Wait
) -> None:
    there = serve()
    there.db.write("ALT", 5000.0, f"{mark}/baro")
    here = both(serve, there, "IAS", "ALT")
    here.db.write("IAS", 100.0, f"{mark}/pitot", BAD)
    wait_for(lambda: there.db.read("IAS").value == 100.0 and here.db.read("ALT").value == 5000.0)
    for gateway, key in ((there, "IAS"), (here, "ALT")):
        assert gateway.db.read(key).source.startswith(f"{mark}/netfix/")
    assert there.db.read("IAS").flags == BAD
    there.db.write("ALT", 5001.0, f"{mark}/baro")
    wait_for(lambda: here.db.read("ALT").value == 5001.0)
    assert here.db.read("ALT").source.startswith(f"{mark}/netfix/")
    there.db.write("ALT", 5002.0, "baro")
    here.db.write("IAS", 101.0, "pitot")
    wait_for(lambda: here.db.read("ALT").value == 5002.0 and there.db.read("IAS").value == 101.0)
    assert here.db.read("ALT").source.startswith("netfix/")
    assert there.db.read("IAS").source.startswith("netfix/")


def test_simulated_values_in_a_loop_settle(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve()
    here = both(serve, there, "BARO")
    linked(here, wait_for)
    for n in range(5):
        here.db.write("BARO", 29 + n / 10, "sim/panel")
        wait_for(partial(_same, there, 29 + n / 10))
        there.db.write("BARO", 30 + n / 10, "sim/panel")
        wait_for(partial(_same, here, 30 + n / 10))
    time.sleep(0.1)
    assert (here.db.item("BARO").writes, there.db.item("BARO").writes) == (10, 10)


def _same(gateway: Gateway, value: float) -> bool:
    return bool(gateway.db.read("BARO").value == value)


def test_displays_see_simulated_values_like_any_others(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    """A gateway that has fallen behind also gets them with their mark."""
    there = serve()
    display = there.connect()
    assert display.ask("@sIAS") == "@sIAS"
    gateway = there.connect()
    gateway.send("@xmirror elsewhere-1\n@sIAS\n@rIAS\n@rBARO\n")
    assert gateway.lines(2)[1] == "@sIAS"
    gateway.lines(2)
    there.db.write("IAS", 100.0, "sim/pitot", 0)
    assert display.line() == "IAS;100.0;00000"
    assert gateway.line() == "@xsim IAS;100.0;00000"
    assert display.ask("@rIAS") == "@rIAS;100.0;00000"
    gateway.send("@rIAS\n")
    assert gateway.lines(2) == ["@rIAS;100.0;01000", "@xsim IAS;100.0;00000"]
    there.db.write("BARO", 29.92, INITIAL)
    assert gateway.ask("@rBARO") == "@rBARO;29.92;01000"


def test_only_a_gateway_can_mark_its_values(gateway: Gateway) -> None:
    client = gateway.connect()
    assert client.ask("@xsim IAS;100.0;0000") == "@xsim IAS;100.0;0000!004"
    client.send("@xmirror elsewhere-1\n")
    client.line()
    client.send("@xsim IAS;100.0;0000\n@xsim NO;1\n@xsim @rIAS\n@xsim \n@xkept ALT;x\n@xnone IAS;1\n")
    assert client.lines(2) == ["@xsim !004", "@xnone IAS;1!004"]
    assert gateway.db.read("IAS").source.startswith("sim/netfix/")
    assert gateway.db.read("ALT").source == ""


def test_a_gateway_without_marks_gets_no_values_that_need_one(
    serve: Callable[..., Gateway], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fixgw.netfix.client import Client

    monkeypatch.setattr(Client, "introduce", lambda self, identity: "")
    there = serve()
    here = both(serve, there, "IAS", "ALT", "BARO")
    here.db.write("IAS", 100.0, "sim/pitot")
    here.db.write("BARO", 30.0, KEPT)
    here.db.write("ALT", 1000.0, "static")
    wait_for(lambda: there.db.read("ALT").value == 1000.0)
    assert there.db.read("IAS").source == there.db.read("BARO").source == ""
    assert link(here)["withheld"] >= 2


# -- the gateways that a measurement has passed through ----------------------------------------------------------------


def test_a_link_that_asks_learns_the_path_and_does_not_get_what_it_has_had(gateway: Gateway, wait_for: Wait) -> None:
    asks, plain, display = (gateway.connect() for _ in range(3))
    assert asks.ask("@xmirror left-1a2b3c").startswith("@xmirror left-1a2b3c;")
    assert asks.ask("@xvia") == "@xvia"
    plain.ask("@xmirror right-ffffff")
    assert display.ask("@xvia") == "@xvia!004", "only for links"
    for each in (asks, plain, display):
        each.ask("@sIAS")
        each.ask("@sMARK")
    gateway.db.write("IAS", 1.0, "pitot")
    gateway.db.write("IAS", 2.0, "link/far-4d5e6f/via-0a0b0c")
    gateway.db.write("IAS", 3.0, "sim/link/far-4d5e6f")
    assert gateway.heard(asks) == [
        "IAS;1.0;00000",
        "@xvia 4d5e6f,0a0b0c IAS;2.0;00000",
        "@xvia 4d5e6f @xsim IAS;3.0;00000",
    ]
    gateway.db.write("IAS", 4.0, "link/far-4d5e6f/via-1a2b3c")
    assert gateway.heard(asks) == []
    assert gateway.heard(plain)[:3] == ["IAS;1.0;00000", "IAS;2.0;00000", "@xsim IAS;3.0;00000"]
    heard = [line for line in gateway.heard(display) if not line.startswith("MARK")]
    assert heard == [f"IAS;{n}.0;00000" for n in (1, 2, 3, 4)]
    asks.send("@rIAS\n")
    asks.until("@rIAS;4.0;01000")
    assert asks.line() == "@xvia 4d5e6f,1a2b3c IAS;4.0;00000"


def test_a_measurement_that_has_been_here_is_not_taken(gateway: Gateway, wait_for: Wait) -> None:
    link, me = gateway.connect(), identity(gateway.db)[-6:]
    link.ask("@xmirror left-1a2b3c")
    link.send(f"@xvia 4d5e6f,{me} IAS;1.0;0000\n@xvia 4d5e6f IAS;2.0;0000\n@xvia {me} BARO;29.0;0000\n@rIAS\n")
    wait_for(lambda: gateway.db.read("BARO").value == 29.0)
    reading = gateway.db.read("IAS")
    assert (reading.value, reading.source) == (2.0, "netfix/127.0.0.1/left-1a2b3c/via-4d5e6f")
    assert gateway.plugin.get_status()["came back"] == 1


def test_a_path_that_is_too_long_goes_no_further(gateway: Gateway) -> None:
    link = gateway.connect()
    link.ask("@xmirror left-1a2b3c")
    link.ask("@xvia")
    link.ask("@sIAS")
    link.ask("@sMARK")
    for length in (8, 9):
        path = "/".join(f"via-{n:06x}" for n in range(length))
        gateway.db.write("IAS", float(length), f"far/{path}")
    assert [line.rpartition(" ")[2] for line in gateway.heard(link)] == ["IAS;8.0;00000"]


def test_a_gateway_that_knows_no_paths_gets_plain_sentences(
    serve: Callable[..., Gateway], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.netfix.client.Client.trace", lambda self: False)
    there = serve()
    here = serve(type="both", outputs=[{"host": "127.0.0.1", "port": there.port, "send": ["IAS"]}])
    wait_for(lambda: here.plugin.health() == "")
    here.db.write("IAS", 5.0, "link/far-4d5e6f")
    wait_for(lambda: there.db.read("IAS").value == 5.0)
    assert there.db.read("IAS").source == f"netfix/127.0.0.1/{identity(here.db)}"


# -- a network that stalls ---------------------------------------------------------------------------------------------


class Stall:
    """A network between a client and a gateway that can stall: then it delivers later what it has taken."""

    def __init__(self, port: int) -> None:
        self.flows = threading.Event()
        self.flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._to = port
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._to))
        self._sockets += [near, far]
        for one, other in (near, far), (far, near):
            threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.flows.wait()
                other.sendall(data)

    def close(self) -> None:
        self.flows.set()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def test_measurements_that_were_held_up_in_the_network_are_not_fresh(
    serve: Callable[..., Gateway], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PROBE_S", 0.02)
    monkeypatch.setattr(client, "DELAYED_S", 0.5)
    there = serve()
    network = Stall(there.port)
    here = serve(type="both", outputs=[{"host": "127.0.0.1", "port": network.port, "receive": ["IAS", "BARO"]}])
    wait_for(lambda: here.plugin.health() == "")
    far = here.plugin.links[0]._client
    wait_for(lambda: far._fresh_since != float("inf"))
    there.db.write("IAS", 100.0, "pitot")
    wait_for(lambda: here.db.read("IAS").value == 100.0)
    time.sleep(0.6)  # nothing to say is no stall
    there.db.write("IAS", 101.0, "pitot")
    wait_for(lambda: here.db.read("IAS").value == 101.0)
    network.flows.clear()
    there.db.write("IAS", 102.0, "pitot")  # the last words of the sensor
    there.db.write("BARO", 30.0, "knob")
    time.sleep(0.7)
    network.flows.set()
    wait_for(lambda: here.db.read("BARO").value == 30.0)
    wait_for(lambda: link(here)["ignored after a stall of the network"] == 1)
    assert here.db.read("IAS").value == 101.0
    wait_for(lambda: time.monotonic() - far._fresh_since < 0.3)
    there.db.write("IAS", 103.0, "pitot")
    wait_for(lambda: here.db.read("IAS").value == 103.0)
    network.close()


def test_a_gateway_that_answers_no_probes_is_believed(
    serve: Callable[..., Gateway], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PROBE_S", 0.02)
    monkeypatch.setattr(client, "DELAYED_S", 0.1)
    monkeypatch.setattr(client._Probe, "matches", lambda request, line: False)
    there = serve()
    here = serve(type="both", outputs=[{"host": "127.0.0.1", "port": there.port, "receive": ["IAS"]}])
    wait_for(lambda: here.plugin.health() == "")
    time.sleep(0.3)
    there.db.write("IAS", 100.0, "pitot")
    wait_for(lambda: here.db.read("IAS").value == 100.0)
