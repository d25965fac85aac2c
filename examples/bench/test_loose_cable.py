"""A whole gateway with two virtual instruments: the effect of a loose cable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from fixgw import configuration
from fixgw.gateway import Gateway
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.nmea0183 import Gps
from fixgw.hw_sim.pty import VirtualPort
from fixgw.hw_sim.world import World


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_loose_cable_fails_only_the_engine(tmp_path: Path) -> None:
    engine, gps = Eis(VirtualPort(str(tmp_path / "eis"))), Gps(VirtualPort(str(tmp_path / "gps")))
    gateway = Gateway(configuration.load(Path(__file__).parent / "default.yaml", {"BENCH": str(tmp_path)}))
    read = gateway.database.read
    thread = threading.Thread(target=gateway.run_forever, args=(False,))
    with World() as world:
        world.attach(engine)
        world.attach(gps)
        thread.start()
        try:
            until(lambda: read("OILP1").good and read("LAT").good)
            engine.unplug()
            until(lambda: read("OILP1").fail and read("EGT11").fail)
            assert "eis" in gateway.database.item("OILP1").explain()["flags"]["fail"]
            assert read("LAT").good
            engine.plug()
            until(lambda: read("OILP1").good)
        finally:
            gateway.request_stop()
            thread.join()
