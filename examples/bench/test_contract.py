"""The contract suite for the engine monitor, with the options of this aircraft."""

from __future__ import annotations

from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.devices.eis import Eis


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.eis",
        Eis,
        "TACH1 OILP1 OILT1 CHT11 CHT14 EGT11 EGT14",  # must be good and true in flight
        options={"cylinders": 4},
        absurd={"TACH1": 30_000},  # impossible
        unknown=("CHT11",),  # a missing probe
    )
