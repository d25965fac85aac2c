"""Displays write back values that they have received: that is never fresh data from a sensor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixgw.database import BAD, FAIL, INITIAL, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.netfix import commands

from .conftest import RawClient, TestGateway

pytestmark = pytest.mark.slow

HERE, FAR = "127.0.0.1", "127.0.0.7"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def panel(serve: Callable[..., TestGateway], clock: Clock) -> TestGateway:
    return serve(clock=clock)


def dead_sensor(panel: TestGateway, clock: Clock, source: str = HERE, value: float = 104.5) -> None:
    """A client has written IAS and disconnected; its value is old."""
    feeder = panel.connect(source)
    assert feeder.ask(f"@wIAS;{value}") == f"@wIAS;{value};00000"
    feeder.close()
    clock.now += 3.0


def read(client: RawClient) -> str:
    return client.ask("@rIAS").split(";", 1)[1]


@pytest.mark.parametrize("source", [HERE, FAR])
@pytest.mark.parametrize("told", ["@rIAS", "@sIAS", ""])
@pytest.mark.parametrize("hand_back", ["IAS;104.5;0000\n", "IAS;104.5\n", "@wIAS;104.5\n", "IAS;104.50;000\n"])
def test_the_value_of_a_dead_sensor_stays_old(
    panel: TestGateway, clock: Clock, source: str, told: str, hand_back: str
) -> None:
    dead_sensor(panel, clock, source)
    display = panel.connect(HERE)
    if told:
        display.ask(told)
    display.send(hand_back)
    display.ask("@rMARK")
    if hand_back[0] == "@":
        assert display.line().startswith("@rMARK")
    assert read(display) == "104.5;01000"


def test_it_stays_old_however_late_and_often_it_is_written_back(
    panel: TestGateway, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ECHO_S", 0.0)  # as if that were long ago
    dead_sensor(panel, clock)
    display = panel.connect()
    assert read(display) == "104.5;01000"
    for _ in range(5):
        assert display.ask("@wBTN1;True") == "@wBTN1;True;00000"  # it writes its own values, too
        assert display.ask("@wIAS;104.5") == "@wIAS;104.5;01000"
    assert panel.db.read("IAS").source == f"netfix/{HERE}"


def test_a_display_on_the_host_of_a_sensor_does_not_refresh_its_value(panel: TestGateway, clock: Clock) -> None:
    feeder, display = panel.connect(), panel.connect()
    display.send("@sIAS\n@sMARK\n")
    display.lines(2)
    feeder.ask("@wIAS;104.5")
    assert panel.heard(display) == ["IAS;104.5;00000"]
    clock.now += 1.5
    assert display.ask("@wIAS;104.5") == "@wIAS;104.5;00000"
    clock.now += 1.0
    assert read(display) == "104.5;01000", "2.5 s after the feeder's last write"


def test_a_rounded_value_written_back_is_not_fresh_data_either(panel: TestGateway, clock: Clock) -> None:
    dead_sensor(panel, clock, value=104.5123)
    display = panel.connect()
    read(display)
    assert display.ask("@wIAS;104.51") == "@wIAS;104.5123;01000"
    assert display.ask("@wIAS;104") == "@wIAS;104.0;00000", "it is set"


def test_a_feeder_can_repeat_its_own_value(panel: TestGateway, clock: Clock) -> None:
    feeder = panel.connect()
    for _ in range(3):
        assert feeder.ask("@wIAS;104.5") == "@wIAS;104.5;00000"
        clock.now += 3.0
    assert read(feeder) == "104.5;01000"
    assert feeder.ask("@wIAS;104.5") == "@wIAS;104.5;00000"


def test_a_feeder_that_reconnects_with_a_constant_value_counts_from_the_second_write(
    panel: TestGateway, clock: Clock
) -> None:
    dead_sensor(panel, clock)
    feeder = panel.connect()
    feeder.send("IAS;104.5;0000\n")
    assert read(panel.connect()) == "104.5;01000"
    feeder.send("IAS;104.5;0000\n")
    assert read(feeder) == "104.5;00000"


def test_a_client_that_has_written_another_value_is_a_source(panel: TestGateway, clock: Clock) -> None:
    feeder = panel.connect()
    read(feeder)
    feeder.ask("@wIAS;99")
    feeder.ask("@wIAS;104.5")
    panel.connect(FAR).ask("@wIAS;104.5")
    clock.now += 3.0
    assert read(feeder) == "104.5;01000"
    assert feeder.ask("@wIAS;104.5") == "@wIAS;104.5;00000"


def test_a_first_value_counts_unless_the_client_has_read_it(panel: TestGateway, clock: Clock) -> None:
    assert panel.connect().ask("@wIAS;0") == "@wIAS;0.0;00000", "a parked aircraft"
    panel.db.write("ALT", 500.0, INITIAL)
    clock.now += 3.0
    assert panel.connect().ask("@wALT;500") == "@wALT;500.0;00000"


def test_writing_back_does_not_clear_a_failure_of_the_sensor(serve: Callable[..., TestGateway]) -> None:
    gateway = serve([Definition(key="OAT"), Definition(key="MARK", type="int")])
    oat = gateway.db.item("OAT")
    oat.write(21.5, "probe", 0)
    display = gateway.connect()
    assert display.ask("@rOAT") == "@rOAT;21.5;00000"
    oat.fail("open circuit", "probe")
    display.send("OAT;21.5;0000\n")
    assert display.ask("@rOAT") == "@rOAT;21.5;00010"
    display.send("OAT;21.5;0110\n")
    assert display.ask("@rOAT") == "@rOAT;21.5;00110", "it may doubt it"
    display.send("OAT;21.5;0010\n")
    assert display.ask("@rOAT") == "@rOAT;21.5;00010", "and take that back"
    assert oat.reading.flags & (BAD | FAIL) == FAIL
