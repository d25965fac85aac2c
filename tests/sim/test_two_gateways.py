"""The example of two gateways: a display that follows both sees no value fail when the one that leads dies."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.configuration import Configuration
from fixgw.gateway import Gateway
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.bus import CanBus
from fixgw.hw_sim.can.slcan import VirtualSlcan
from fixgw.hw_sim.scenario import everything
from fixgw.hw_sim.world import World
from fixgw.kit.update import BAD, FAIL, OLD
from fixgw.netfix import Client, Sample

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "two-gateways"
#: What a stock pyEfis subscribes to.
PYEFIS = (ROOT / "tests" / "data" / "pyefis-keys.txt").read_text().split()
HAPPENS_WITHIN_S = 20.0


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + HAPPENS_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def port_of(gateway: Gateway, connection: str) -> int:
    plugin: Any = gateway.runners[connection].plugin
    port: int = plugin.port
    return port


def changed(loaded: Configuration, options: dict[str, dict[str, Any]]) -> Configuration:
    """The configuration with other options of these connections."""
    connections = [dataclasses.replace(c, options={**c.options, **options.get(c.name, {})}) for c in loaded.connections]
    return dataclasses.replace(loaded, connections=tuple(connections))


class Bench:
    """The virtual aircraft, both gateways, and the display's."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        world = World(Aircraft(datetime(2026, 7, 21, 15, tzinfo=UTC), turbulence=0.0))
        bus = CanBus(everything())
        adapters = {side: VirtualSlcan(bus.segment, str(directory / side)) for side in ("left", "right")}
        world.attach(bus)
        self.play = bus.play
        stack.callback(world.stop)
        for adapter in adapters.values():
            stack.callback(adapter.close)
        self.sides = {side: self._run(f"{side}.yaml", self._side(side, adapter)) for side, adapter in adapters.items()}
        links = {}
        for side, gateway in self.sides.items():
            loaded = configuration.load(EXAMPLE / "display.yaml")
            (link,) = next(c for c in loaded.connections if c.name == side).options["outputs"]
            links[side] = {"outputs": [{**link, "port": port_of(gateway, f"{side} server")}]}
        self.display = self._run("display.yaml", {**links, "netfix": {"port": 0}})
        #: What the display ranks, of what a stock pyEfis subscribes to.
        self.measured = [d.key for d in self.display.configuration.definitions if d.sources and d.key in PYEFIS]
        world.start()

    @staticmethod
    def _side(side: str, adapter: VirtualSlcan) -> dict[str, dict[str, Any]]:
        return {f"{side} bus": {"channel": adapter.path}, f"{side} server": {"port": 0}}

    def _run(self, name: str, options: dict[str, dict[str, Any]]) -> Gateway:
        gateway = Gateway(changed(configuration.load(EXAMPLE / name), options))
        self._stack.callback(gateway.stop)
        gateway.start()
        return gateway


def _all_from(bench: Bench, source: str) -> bool:
    return all(bench.display.database.read(key).source.startswith(source) for key in bench.measured)


def _has_setting(gateway: Gateway, setting: float) -> bool:
    return abs(float(gateway.database.read("BARO").value) - setting) < 0.006


def _said_by_the_node(gateway: Gateway, setting: float) -> bool:
    return _has_setting(gateway, setting) and gateway.database.read("BARO").source.endswith("bus/50")


@pytest.fixture
def bench(short_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, short_path)


def test_the_configurations_have_no_problems_and_need_no_advice() -> None:
    for name in ("left", "right", "display"):
        assert [str(each) for each in configuration.load(EXAMPLE / f"{name}.yaml").advice] == []


def test_a_display_sees_no_value_fail_when_the_gateway_that_leads_dies(bench: Bench) -> None:
    left, right = bench.sides["left"], bench.sides["right"]
    until(lambda: left.world.quorum.leader, "the left gateway leads")
    assert not right.world.quorum.leader
    seen: dict[str, Sample] = {}
    bad: list[str] = []
    failing = OLD | BAD | FAIL

    def note(sample: Sample) -> None:
        if seen.get(sample.key) and not seen[sample.key].flags & failing and sample.flags & failing:
            bad.append(f"{sample.key} {sample.flags:b}")
        seen[sample.key] = sample

    with Client("127.0.0.1", port_of(bench.display, "netfix")) as pyefis:
        for key in PYEFIS:
            pyefis.subscribe(key, note)
        assert len(bench.measured) > 30
        until(lambda: all(bench.display.database.read(key).good for key in bench.measured), "all is good")
        until(lambda: all(key in seen and not seen[key].flags & failing for key in bench.measured), "the display knows")
        until(lambda: _all_from(bench, "left/"), "the left gateway's values are shown")
        bad.clear()

        left.stop()
        until(lambda: right.world.quorum.leader, "the right gateway leads")
        until(lambda: _all_from(bench, "right/"), "the right gateway's values are shown")
        assert bad == []
        assert all(
            bench.display.database.read(key).secfail for key in bench.measured
        )  # and nothing is left behind them


def test_what_the_display_sets_reaches_the_node_and_both_gateways(bench: Bench) -> None:
    with Client("127.0.0.1", port_of(bench.display, "netfix")) as pyefis:
        air: Any = bench.play.stations["air"].node
        until(lambda: all(bench.display.database.read(key).good for key in bench.measured), "the display is linked")
        until(lambda: not bench.display.database.read("IAS").secfail, "to both")
        until(lambda: bench.sides["left"].world.quorum.leader, "the left gateway leads")
        pyefis.write("BARO", 30.15)
        until(lambda: air.setting == 30.15, "the node that owns the altimeter setting has it")
        everybody = [*bench.sides.values(), bench.display]
        for gateway in everybody:
            until(partial(_has_setting, gateway, 30.15), "both gateways have it")
        for gateway in bench.sides.values():  # until then they may send it again, over a knob turned meanwhile
            until(partial(_said_by_the_node, gateway, 30.15), "they know that the node has it")
        air.setting = 29.80
        for gateway in everybody:
            until(partial(_has_setting, gateway, 29.80), "the knob of the node was turned")
        for setting in (30.05, 30.06, 30.07):  # while the node repeats the one before
            pyefis.write("BARO", setting)
            until(lambda: air.setting == setting, "the node has it")  # noqa: B023
        time.sleep(1.5)
        assert all(_has_setting(gateway, 30.07) for gateway in everybody)
