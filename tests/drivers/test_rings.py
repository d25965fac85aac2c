"""Rings of gateways over CAN-FIX and NetFIX: a measurement goes round once at most, and ages when its sensor dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import can
import pytest

from fixgw.database import Database, Definition
from fixgw.drivers.canfix import Plugin as CanFix
from fixgw.drivers.canfix import path
from fixgw.drivers.links.can import bus as can_bus
from fixgw.identity import identity
from fixgw.kit.sources import digits_of
from fixgw.plugins.netfix import Plugin as NetFix
from fixgw.world import World

pytestmark = pytest.mark.slow

IN = "inputs: [{canid: 0x183, fixid: IAS}]\n"
OUT = "outputs: [{canid: 0x183, fixid: IAS, owner: yes, rate_limit: 0}]\n"
TOLERANCE_S = 2.0


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


class Clock:
    """Runs, and can be wound forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Gateway:
    def __init__(self, clock: Clock, tmp_path: Path, number: int) -> None:
        self.db = Database([Definition(key="IAS", min=0, max=1000, units="knots", tolerance=2000)], clock)
        self.world = World(self.db)
        self.digits = digits_of(identity(self.db))
        self._path = tmp_path / f"{number}.yaml"
        self._plugins: list[Any] = []
        self.cans: list[CanFix] = []
        with self.world.hosting():
            self.server = NetFix("netfix", {"port": 0})
        self.server.start()
        self._plugins.append(self.server)

    def can(self, channel: str, node: int, text: str) -> CanFix:
        mapfile = self._path.with_name(f"{self._path.stem}-{channel}.yaml")
        mapfile.write_text(text)
        with self.world.hosting():
            options = {"interface": "virtual", "channel": channel, "mapfile": str(mapfile), "node": node}
            plugin = CanFix(f"can-{channel}", options)
        plugin.start()
        self._plugins.append(plugin)
        self.cans.append(plugin)
        until(lambda: plugin._opened)
        return plugin

    def link(self, to: Gateway, **what: Any) -> NetFix:
        """`what`: send or receive."""
        with self.world.hosting():
            output = {"host": "127.0.0.1", "port": to.server.port, **what}
            plugin = NetFix(f"link{len(self._plugins)}", {"type": "client", "outputs": [output]})
        plugin.start()
        self._plugins.append(plugin)
        until(lambda: plugin.health() == "")
        return plugin

    @property
    def ias(self) -> Any:
        return self.db.read("IAS")

    def close(self) -> None:
        for plugin in reversed(self._plugins):
            plugin.shutdown()
        self.db.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Gateway]]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(can_bus.SharedBus, "poll_timeout", 0.05)
    monkeypatch.setattr(can_bus, "_key", lambda options: (id(options),))  # as on separate computers
    gateways: list[Gateway] = []

    def make() -> Gateway:
        gateways.append(Gateway(clock, tmp_path, len(gateways)))
        return gateways[-1]

    yield make
    for gateway in gateways:
        gateway.close()


def settle(gateways: list[Gateway]) -> None:
    """Wait until each gateway on a bus has heard of the other."""
    for gateway in gateways:
        for plugin in gateway.cans:
            until(lambda plugin=plugin: plugin.inputs.paths._gateways)  # type: ignore[misc]


def over_can_and_back(make: Callable[[], Gateway], **how: Any) -> list[Gateway]:
    a, b = make(), make()
    a.can("ring", 10, IN + OUT)
    b.can("ring", 11, IN + OUT)
    if how["back"] == "received":
        a.link(b, receive=["*"])
    else:
        b.link(a, send=["*"])
    return [a, b]


def through_a_third(make: Callable[[], Gateway], **how: Any) -> list[Gateway]:
    """A sensor of the first reaches the second over NetFIX, the third over CAN, and the first over NetFIX."""
    a, b, c = make(), make(), make()
    b.can("ring", 10, IN + OUT)
    c.can("ring", 11, IN + OUT)
    if how["back"] == "received":
        b.link(a, receive=["*"])
        a.link(c, receive=["*"])
    else:
        a.link(b, send=["*"])
        c.link(a, send=["*"])
    return [a, b, c]


def over_netfix_alone(make: Callable[[], Gateway], **how: Any) -> list[Gateway]:
    gateways = [make() for _ in range(4)]
    for n, gateway in enumerate(gateways):
        if how["back"] == "received":
            gateways[n - 3].link(gateway, receive=["*"])
        else:
            gateway.link(gateways[n - 3], send=["*"])
    return gateways


def over_two_buses(make: Callable[[], Gateway], **how: Any) -> list[Gateway]:
    a, b = make(), make()
    a.can("one", 10, IN + OUT)
    a.can("two", 10, IN + OUT)
    b.can("one", 11, IN + OUT)
    b.can("two", 11, IN + OUT)
    return [a, b]


RINGS = [
    pytest.param(over_can_and_back, {"back": "received"}, id="can-netfix-received"),
    pytest.param(over_can_and_back, {"back": "sent"}, id="can-netfix-sent"),
    pytest.param(through_a_third, {"back": "received"}, id="netfix-can-netfix-received"),
    pytest.param(through_a_third, {"back": "sent"}, id="netfix-can-netfix-sent"),
    pytest.param(over_netfix_alone, {"back": "received"}, id="netfix-received"),
    pytest.param(over_netfix_alone, {"back": "sent"}, id="netfix-sent"),
    pytest.param(over_two_buses, {}, id="two-buses"),
]


@pytest.mark.parametrize(("ring", "how"), RINGS)
def test_a_measurement_dies_with_its_sensor(
    make: Callable[[], Gateway], clock: Clock, ring: Callable[..., list[Gateway]], how: dict[str, Any]
) -> None:
    gateways = ring(make, **how)
    settle(gateways)
    sensor = gateways[0].db
    for n in range(20):
        sensor.write("IAS", 100.0 + n, "pitot")
        until(lambda n=n: all(gateway.ias.value == 100.0 + n for gateway in gateways))  # type: ignore[misc]
    time.sleep(0.1)  # some get it by two ways
    assert all(gateway.ias.good for gateway in gateways)
    assert gateways[0].ias.source == "pitot", "it did not come back"
    writes = [gateway.db.item("IAS").writes for gateway in gateways]
    for _ in range(8):
        clock.ahead += TOLERANCE_S / 4
        time.sleep(0.01)
    until(lambda: all(gateway.ias.old for gateway in gateways), 2.0)
    assert [gateway.db.item("IAS").writes for gateway in gateways] == writes, "nothing circulates"


@pytest.mark.parametrize(("ring", "how"), [RINGS[n] for n in (1, 2, 5, 6)])
def test_a_sensor_fed_into_any_gateway_of_the_ring_dies_too(
    make: Callable[[], Gateway], clock: Clock, ring: Callable[..., list[Gateway]], how: dict[str, Any]
) -> None:
    gateways = ring(make, **how)
    settle(gateways)
    for source in gateways:
        source.db.write("IAS", 100.0, "pitot")
        time.sleep(0.05)
    for _ in range(8):
        clock.ahead += TOLERANCE_S / 4
        time.sleep(0.01)
    until(lambda: all(gateway.ias.old for gateway in gateways), 2.0)


def test_who_starts_later_learns_the_path_of_a_measurement(make: Callable[[], Gateway], clock: Clock) -> None:
    a, b, c = make(), make(), make()
    b.can("ring", 10, OUT)
    b.link(a, receive=["*"])
    a.db.write("IAS", 90.0, "pitot")
    until(lambda: b.ias.value == 90.0)
    c.can("ring", 11, IN)
    a.link(c, receive=["*"])

    def passed_on() -> bool:
        a.db.write("IAS", 95.0, "pitot")
        return bool(c.ias.source == f"can-ring/10/via-{b.digits}/via-{a.digits}")

    until(passed_on)
    assert a.ias.source == "pitot"


def test_other_nodes_and_gateways_that_do_not_announce_work_as_before(make: Callable[[], Gateway]) -> None:
    a = make()
    plugin = a.can("ring", 10, IN + OUT)
    bus = can.Bus("ring", interface="virtual", ignore_config=True)
    bus.send(can.Message(arbitration_id=0x183, data=bytes.fromhex("050000e803"), is_extended_id=False))
    until(lambda: a.ias.source == "can-ring/5")
    # A node that announces its path is refused only while it names us.
    for digits, writes in ([a.digits], 1), ([], 2):
        for frame in path.encode_path(5, (0x183, 0), digits):
            bus.send(can.Message(arbitration_id=frame.arbitration_id, data=frame.data, is_extended_id=False))
        bus.send(can.Message(arbitration_id=0x183, data=bytes.fromhex("050000e903"), is_extended_id=False))
        until(lambda: plugin.inputs.returned == 1)
        until(lambda writes=writes: a.db.item("IAS").writes == writes)  # type: ignore[misc]
    bus.shutdown()
