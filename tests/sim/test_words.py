"""The fixtures of the pytest plugin: gateways on both clocks, expectations, faults, several gateways, and failures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixgw.hw_sim.bench import plugin
from fixgw.hw_sim.bench.gateways import Airplane, Bed, CanBus
from fixgw.hw_sim.bench.words import Expect, Fault, Latencies, StartGateway, s
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.mgl_rdac import Rdac
from fixgw.hw_sim.gpio import Bank
from fixgw.hw_sim.pty import VirtualPort
from fixgw.hw_sim.scenario import Scenario

ENGINE = {"engine": {"module": "fixgw.drivers.eis", "cylinders": 4}}
AIR = {"air": {"module": "fixgw.drivers.i2c_bmp"}}
RDAC = {"rdac": {"module": "fixgw.drivers.mgl_rdac"}}

Only = Callable[..., AbstractContextManager[None]]


def failure(words: Callable[[], object], error: type[BaseException] = AssertionError) -> str:
    with pytest.raises(error) as caught:
        words()
    return str(caught.value)


# -- one gateway, on either clock --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.clock("wound", "real")
def test_each_kind_of_link_can_be_unplugged(gateway: StartGateway, expect: Expect, fault: Fault) -> None:
    engine = {**ENGINE["engine"], "keys": {"TACH1": None}}
    running = gateway({"engine": engine, **AIR, **RDAC}, engine=Eis, air=Bmp280, rdac=Rdac)
    keys = {"engine": "EGT11", "air": "AIRPRESS", "rdac": "TACH1"}
    expect(*keys.values()).becomes_good(within=5 * s)
    client = running.netfix()
    for name, key in keys.items():
        with fault("unplug", on=name):
            expect(key).fails(within=3 * s)
            expect(*(other for other in keys.values() if other != key)).good().now()
            assert name in str(running.health()) or name == "rdac"
        expect(key).becomes_good(within=5 * s)
        assert client.read(key).good


def test_what_is_set_is_what_every_device_measures(gateway: StartGateway, expect: Expect, aircraft: Airplane) -> None:
    aircraft["OILT1"] = 95.0  # before it is there
    gateway(ENGINE, engine=Eis)
    expect("OILT1").within(1, of=95).by(3 * s)
    flown = aircraft["OILP1"]
    aircraft["OILP1"] = 12.0
    assert expect("OILP1").within(0.5, of=12).comes_from("engine").by(3 * s) > 0
    expect.that("OILP1 < 13 and not OILP1.old").now()
    del aircraft["OILP1"]
    expect("OILP1").between(float(flown) - 5, float(flown) + 5).by(3 * s)
    assert "did you mean" in failure(lambda: aircraft.__setitem__("OILPP1", 1.0), KeyError)
    assert failure(lambda: aircraft.__setitem__("OILP1", "low"), TypeError) == "OILP1 is a number, not 'low'"


def test_faults_have_the_names_of_scenarios(gateway: StartGateway, expect: Expect, fault: Fault) -> None:
    running = gateway(ENGINE, engine=Eis)
    expect("OILP1").becomes_good(within=3 * s)
    refused = running.plugins["engine"].counts["bad checksum"]
    with fault("bit-flips", rate=0.01):
        expect("OILP1").good().by(4 * s, lasting=1 * s)
    assert running.plugins["engine"].counts["bad checksum"] > refused
    with fault("silent"):
        expect("OILP1").becomes_old(within=4 * s)

    def begin(*args: Any, **options: Any) -> None:
        with fault(*args, **options):
            raise RuntimeError("it begins")

    assert "did you mean 'truncate'" in failure(lambda: begin("trunkate"), LookupError)
    assert "did you mean 'engine'" in failure(lambda: begin("drop", "engin"), LookupError)
    assert "did you mean 'rate'" in failure(lambda: begin("drop", rat=0.5), LookupError)


def test_no_other_key(
    gateway: StartGateway,
    expect: Expect,
    aircraft: Airplane,
    fly: Callable[[float], None],
    no_other_key_changed: Only,
) -> None:
    gateway(RDAC, rdac=Rdac)
    for key in [*aircraft]:
        aircraft[key] = aircraft[key]  # nothing changes any more
    fly(2 * s)
    with no_other_key_changed("TACH1", "ZZ*"):
        aircraft["TACH1"] = 1200
        fly(2 * s)

    def others() -> None:
        with no_other_key_changed("OIL*"):
            aircraft["TACH1"] = 2000
            fly(2 * s)

    assert failure(others).startswith("expected: no key changes but OIL*\nseen: TACH1 became ")


def test_the_latency_is_that_from_the_aircraft_to_the_database(
    gateway: StartGateway, expect: Expect, latency: Callable[..., Latencies]
) -> None:
    gateway(ENGINE, engine=Eis)
    expect("OILP1").becomes_good(within=3 * s)
    measured = latency("OILP1", 50, 60)
    assert 0.05 < measured.p50 <= measured.p99 <= measured.max < 0.4, measured
    assert str(measured) == repr(measured)
    assert repr(measured).startswith("p50 ")


# -- several gateways, and what they share -----------------------------------------------------------------------------


@pytest.mark.clock("wound", "real")
def test_gateways_on_one_can_bus(gateway: StartGateway, can_bus: CanBus, tmp_path: Path) -> None:
    map = tmp_path / "map.yaml"
    map.write_text(
        "inputs: [{canid: 0x183, fixid: IAS}]\noutputs: [{canid: 0x183, fixid: IAS, owner: yes, rate_limit: 0}]\n"
    )

    def on_the_bus(node: int) -> Any:
        return gateway(
            {"canfix": {"module": "fixgw.drivers.canfix", "node": node, "mapfile": str(map)}}, canfix=can_bus
        )

    left, right = on_the_bus(10), on_the_bus(11)
    left.expect.that("IAS.old").now()
    for n in range(3):
        left.write("IAS", 100.0 + n)
        right.expect("IAS").reads(100.0 + n).comes_from("canfix/10*").by(2 * s)
    right.expect("IAS").becomes_old(within=5 * s)


@pytest.mark.clock("real")
def test_gateways_linked_by_netfix(gateway: StartGateway) -> None:
    left = gateway({"netfix": {"module": "fixgw.plugins.netfix"}})
    output = {"host": "127.0.0.1", "port": left.netfix_port, "receive": ["IAS"]}
    right = gateway({"link": {"module": "fixgw.plugins.netfix", "type": "client", "outputs": [output]}})
    left.write("IAS", 90.0)
    right.expect("IAS").reads(90.0).by(5 * s)


ALERTS = {
    "alerts": {
        "module": "fixgw.plugins.alerts",
        "alerts": [{"id": "oil", "text": "OIL", "key": "OILP1", "level": "warning", "below": 25}],
    }
}


def test_a_scenario_raises_an_alert(gateway: StartGateway, expect: Expect, scenario: Callable[[str], Scenario]) -> None:
    happens = scenario("events:\n  - {at: 5, set: OILP1, to: 12, for: 5}\n")
    gateway({**ENGINE, **ALERTS}, happens, engine=Eis)
    expect("OILP1").becomes_good(within=3 * s)
    expect.alert("oil").raised("warning").by(6 * s)
    expect.alert("oil").cleared().by(9 * s)


def test_pins(gateway: StartGateway, expect: Expect, pins: Callable[[], Bank]) -> None:
    buttons = [{"pin": 17, "key": "BTN33"}]
    gateway({"gpio": {"module": "fixgw.drivers.gpio", "library": "fixgw.hw_sim.gpio", "buttons": buttons}})
    expect("BTN33").reads(False).by(2 * s)
    pins().press(17)
    expect("BTN33").reads(True).by(1 * s)


@pytest.mark.clock("real")
def test_bytes_by_hand(gateway: StartGateway, expect: Expect, fly: Callable[[float], None], port: VirtualPort) -> None:
    running = gateway({"wind": {"module": "fixgw.drivers.nmea0183", "port": port.path, "baud": 4800}})
    while not running.plugins["wind"].connected:
        fly(0.05 * s)
    port.write(b"$HCHDG,101.1,,,7.1,W*3C\r\n" * 4)
    expect("HEAD").within(0.1, of=101.1).by(3 * s)


# -- what was forgotten or mistaken ------------------------------------------------------------------------------------


def test_a_failure_says_what_was_seen_and_why(
    gateway: StartGateway, expect: Expect, fault: Fault, aircraft: Airplane
) -> None:
    gateway(ENGINE, engine=Eis)
    aircraft["OILP1"] = 62.0
    expect("OILP1").within(1, of=62).by(3 * s)
    said = failure(lambda: expect("OILP1").within(1, of=12).by(2 * s))
    assert said.startswith("expected: OILP1 is 12 ± 1 within 2 s\nseen: OILP1 was 62 psi, 49 psi too high at ")
    assert "did you mean 'OILP1'" in failure(lambda: expect("OILPP1").good().now())
    with fault("unplug"):
        said = failure(lambda: expect("OILP1").good().throughout(9 * s))
    assert "connection engine: /bench/engine went away" in said


def test_a_gateway_that_does_not_fit_is_refused(
    gateway: StartGateway, expect: Expect, fly: Callable[[float], None]
) -> None:
    assert "start one first" in failure(lambda: expect("IAS").good().now(), LookupError)
    assert "start one first" in failure(lambda: fly(1.0), LookupError)
    assert "did you mean 'engine'" in failure(lambda: gateway(ENGINE, engin=Eis), LookupError)
    gateway({})
    gateway({})
    assert "say which" in failure(lambda: expect("IAS").good().now(), LookupError)


@pytest.mark.parametrize(("clocks", "named"), [((), "nothing"), (("wound", "unwound"), "wound, unwound")])
def test_a_clock_that_does_not_exist_is_refused(clocks: tuple[str, ...], named: str) -> None:
    mark = pytest.mark.clock.with_args(*clocks).mark
    definition = SimpleNamespace(get_closest_marker=lambda name: mark, nodeid="test_it")
    asked: Any = SimpleNamespace(definition=definition, fixturenames=["_bed"])
    words = failure(lambda: plugin.pytest_generate_tests(asked), pytest.fail.Exception)
    assert words == f"test_it: the clock is wound or real, not {named}"


def test_words_that_nobody_judges_fail_the_test(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    bed.gateway({})
    bed.expect("IAS").good()
    assert bed.forgotten() == "expect('IAS')"
    bed.close()
    assert "add a word" in failure(bed.expect("IAS").now, TypeError)
