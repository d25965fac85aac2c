"""The MCP3008 driver: its bits, and a virtual converter on a virtual bus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import Database
from fixgw.drivers.spi_mcp3008 import Options, Plugin, protocol
from fixgw.hw_sim import spi
from fixgw.hw_sim.bench.chips import SpiBench
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.mcp3008 import Mcp3008
from tests.drivers.bus_bench import SENDERS, SOURCE, adds_up, numbers, packaged_database, running, until, with_senders

pytestmark = pytest.mark.slow

CHANNELS = [
    {"input": "0", "key": "OILP1", "curve": {"points": [[0.25, 0.0], [2.25, 100.0]]}},
    {"input": "5-4", "key": "FUELQ1", "curve": {"linear": {"factor": 10.0}}},
]


def test_requests_are_those_of_the_data_sheet() -> None:
    """Table 5-2 and figure 6-1: a start bit, single-ended or not, three bits of the channel."""
    assert {inputs: protocol.request(inputs) for inputs in protocol.INPUTS} == {
        **{str(n): (0x01, 0x80 + 0x10 * n, 0x00) for n in range(8)},
        **{
            inputs: (0x01, 0x10 * n, 0x00)
            for n, inputs in enumerate(("0-1", "1-0", "2-3", "3-2", "4-5", "5-4", "6-7", "7-6"))
        },
    }


def test_the_result_is_the_last_ten_bits() -> None:
    assert protocol.counts(b"\xff\xfb\xff") == 1023 == protocol.STEPS - 1
    assert protocol.counts(b"\x00\x02\x01") == 513
    assert protocol.counts(b"\xff\xff\xff") is None  # nothing pulls the line down
    assert protocol.counts(b"\x00\x04\x00") is None
    assert protocol.counts(b"\x00") is None
    assert protocol.counts(b"\x00\x02\x01\x00") is None


@given(st.binary(max_size=5))
def test_no_answer_raises(answer: bytes) -> None:
    counts = protocol.counts(answer)
    assert counts is None or 0 <= counts <= 1023


@given(st.floats(0.0, 3.3), st.sampled_from(["0", "3", "7"]))
def test_the_virtual_chip_and_the_driver_agree_on_every_bit(volts: float, channel: str) -> None:
    chip = Mcp3008()
    chip.volts[int(channel)] = volts
    counts = protocol.counts(chip.transfer(bytes(protocol.request(channel))))
    assert counts == min(int(volts / 3.3 * 1024), 1023)


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


@pytest.fixture
def bus() -> Iterator[int]:
    number = next(numbers)
    yield number
    spi.detach(number, 0)


def options(bus: int, **more: Any) -> dict[str, Any]:
    return {"library": "fixgw.hw_sim.spi", "bus": bus, "rate": 100.0, "channels": CHANNELS, **more}


def test_channels_are_read_calibrated_and_written(bus: int, db: Database) -> None:
    chip = spi.attach(bus, 0, Mcp3008())
    chip.volts[0], chip.volts[4], chip.volts[5] = 1.25, 0.5, 1.5
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("OILP1").good and db.read("FUELQ1").good)
        assert db.read("OILP1").value == pytest.approx(50.0, abs=0.3)
        assert db.read("FUELQ1").value == pytest.approx(10.0, abs=0.05)
        assert db.read("OILP1").source == SOURCE
        assert plugin.health() == ""
        assert adds_up(plugin.counts)


def test_a_broken_wire_fails_only_its_own_key(bus: int, db: Database) -> None:
    chip = spi.attach(bus, 0, Mcp3008())
    chip.volts[0] = 1.25
    with running(Plugin, **options(bus)):
        until(lambda: db.read("OILP1").good and db.read("FUELQ1").good)
        chip.volts[0] = 3.3
        until(lambda: db.read("OILP1").fail)
        assert db.read("FUELQ1").good
        chip.volts[0] = 1.25
        until(lambda: db.read("OILP1").good)


def test_a_chip_may_be_missing_vanish_and_return(bus: int, db: Database) -> None:
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "no such bus" in plugin.health())
        chip = spi.attach(bus, 0, Mcp3008())
        chip.volts[0] = 1.25
        until(lambda: db.read("OILP1").good)
        spi.unplug(bus, 0)
        until(lambda: db.read("OILP1").fail)
        assert plugin.health() == f"spi-{bus}.0: no chip answers"
        spi.attach(bus, 0, chip)
        until(lambda: db.read("OILP1").good and not plugin.health())


@pytest.mark.slow
def test_a_line_that_stays_low_is_not_read_as_zero_volts(bus: int, db: Database) -> None:
    chip = spi.attach(bus, 0, Mcp3008())
    chip.volts[0] = 1.25
    linear = [{"input": "0", "key": "OILP1", "curve": {"linear": {"factor": 40.0}}}]
    with running(Plugin, **options(bus, channels=linear)) as plugin:
        until(lambda: db.read("OILP1").good)
        chip.volts[0], chip.volts[7] = 0.0, 0.5
        until(lambda: db.read("OILP1").value == 0.0)
        assert db.read("OILP1").good  # another input shows that the chip is present
        chip.volts[0] = 1.25
        until(lambda: db.read("OILP1").value == pytest.approx(50.0, abs=0.3))
        spi.unplug(bus, 0, high=False)
        until(lambda: db.read("OILP1").fail)
        assert db.read("OILP1").value == pytest.approx(50.0, abs=0.3)
        until(lambda: plugin.counts.get("failed attempts", 0) > 1)
        assert plugin.health() == f"spi-{bus}.0: no chip answers, or all its inputs are at 0 V"
        assert plugin.counts["outages"] == 1
        spi.attach(bus, 0, chip)
        until(lambda: db.read("OILP1").good and not plugin.health())


def test_it_can_be_started_again_after_a_stop(bus: int, db: Database) -> None:
    spi.attach(bus, 0, Mcp3008()).volts[0] = 1.25
    for _ in range(3):
        with running(Plugin, **options(bus)) as plugin:
            until(lambda p=plugin: p.counts["used"])  # type: ignore[misc]


def test_claims_and_checks(db: Database) -> None:
    given = msgspec.convert({"channels": CHANNELS}, Options)
    assert list(Plugin.claims(given)) == [("spi-0.0", "device")]
    assert list(Plugin.check(given, db)) == []
    wrong = msgspec.convert({"channels": [{**CHANNELS[0], "key": "OILPP"}]}, Options)
    assert [option for option, _ in Plugin.check(wrong, db)] == ["channels.0.key"]


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SpiBench.of(
        "fixgw.drivers.spi_mcp3008",
        lambda: with_senders(Mcp3008()),
        "OILP1 VOLT",
        options={"channels": SENDERS},
        within={"OILP1": 0.4, "VOLT": 0.1},
        absurd={"OILP1": 160.0},
    )
