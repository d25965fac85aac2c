"""A whole gateway with two virtual instruments: the effect of a loose cable."""

from __future__ import annotations

import pytest

from fixgw.hw_sim.bench.words import Expect, Fault, StartGateway, s
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.nmea0183 import Gps


@pytest.mark.clock("wound", "real")
def test_a_loose_cable_fails_only_the_engine(gateway: StartGateway, expect: Expect, fault: Fault) -> None:
    gateway("default.yaml", engine=Eis, gps=Gps)
    expect("OILP1", "EGT11", "LAT").becomes_good(within=5 * s)
    with fault("unplug", on="engine"):
        expect("OILP1", "EGT11").fails(within=1 * s)
        expect("LAT").good().throughout(3 * s)
    expect("OILP1", "EGT11").becomes_good(within=5 * s)
