from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fixgw.database import BAD, FAIL, OLD, Definition
from fixgw.plugins.netfix.mirror import identity

Gateway = Any  # TestGateway of conftest.py
Wait = Callable[[Callable[[], object]], None]
Pair = tuple[Gateway, Gateway]


@pytest.fixture
def pair(serve: Callable[..., Gateway], wait_for: Wait) -> Pair:
    """Two gateways; the first sends IAS and BARO to the second, and takes ALT and BARO from it."""
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


def test_values_flags_and_aux_go_there(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    here.db.write("IAS", 120.0, "driver", BAD)
    wait_for(lambda: there.db.read("IAS").value == 120.0)
    assert there.db.read("IAS").flags == BAD
    assert there.db.read("IAS").source == f"netfix/127.0.0.1/{identity(here.db)}"
    here.db.write("IAS.Vne", 140)
    wait_for(lambda: there.db.read_aux("IAS.Vne") == 140.0)
    here.db.item("IAS").fail("no sensor", "driver")
    wait_for(lambda: there.db.read("IAS").fail)


def test_values_and_flags_come_here(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    there.db.write("ALT", 5000.0, "driver", FAIL)
    wait_for(lambda: here.db.read("ALT").value == 5000.0)
    reading = here.db.read("ALT")
    assert (reading.flags, reading.source) == (FAIL, f"netfix/127.0.0.1:{there.port}/{identity(there.db)}")
    assert reading.reason(FAIL) == f"so says 127.0.0.1:{there.port}"


def test_what_is_old_there_is_old_here(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    there.db.write("ALT", 5000.0, "driver")
    wait_for(lambda: here.db.read("ALT").good)
    there.db.item("ALT").flag(OLD, OLD, "clock")
    wait_for(lambda: here.db.read("ALT").old)


def test_other_keys_stay_where_they_are(pair: Pair, wait_for: Wait) -> None:
    here, there = pair
    here.db.write("FREE", 1.0, "driver")
    here.db.write("ALT", 2.0, "driver")
    there.db.write("COUNT", 3, "driver")
    here.db.write("IAS", 4.0, "driver")
    wait_for(lambda: there.db.read("IAS").value == 4.0)
    assert there.db.read("FREE").source == there.db.read("ALT").source == here.db.read("COUNT").source == ""


def test_a_key_that_goes_both_ways_comes_to_rest(pair: Pair, wait_for: Wait) -> None:
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


def test_two_links_against_each_other_come_to_rest(serve: Callable[..., Gateway], wait_for: Wait) -> None:
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


def test_what_both_sides_send_and_take_does_not_go_round(serve: Callable[..., Gateway], wait_for: Wait) -> None:
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
    assert after[2] - before[2] <= 400, "each comes by both links, once"


def test_two_settings_that_cross_on_their_way_do_not_chase_each_other(
    serve: Callable[..., Gateway], wait_for: Wait
) -> None:
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


def test_what_was_there_before_is_exchanged_on_connecting(serve: Callable[..., Gateway], wait_for: Wait) -> None:
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
    assert here.db.read("BARO").value == there.db.read("BARO").value == 30.0, "the other side's fresh value wins"
    assert dict(here.db.item("IAS").aux) == {"Vs": 45.0, "Vne": None}
    assert there.db.read("COUNT").source == "", "what nobody has written is not sent"
    link.stop()
    link.join()


def test_a_key_that_the_other_side_lacks_is_counted(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    there = serve([Definition(key="ALT")])
    here = serve(type="client", outputs=[{"host": "127.0.0.1", "port": there.port, "receive": ["ALT", "FREE"]}])
    there.db.write("ALT", 1.0, "driver")
    wait_for(lambda: here.db.read("ALT").value == 1.0)
    wait_for(lambda: link(here)["refused"] == 1)


def test_after_a_restart_of_the_other_side_everything_goes_on(serve: Callable[..., Gateway], wait_for: Wait) -> None:
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


def test_a_client_without_a_server_stops_at_once_even_when_nobody_is_there(serve: Callable[..., Gateway]) -> None:
    outputs = [{"host": f"127.0.0.{n}", "port": 1, "send": ["IAS"]} for n in range(1, 5)]
    here = serve(type="client", outputs=outputs)
    assert here.plugin.server is None
    assert here.plugin.running
    started = time.monotonic()
    here.plugin.shutdown()
    assert time.monotonic() - started < 1.0
    assert here.db.item("IAS")._subscriptions == ()
