"""The ADS1115 driver: configuration words and results, filters, and a virtual converter on a virtual bus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import configuration
from fixgw.database import FAIL, Database
from fixgw.drivers import analog
from fixgw.drivers.i2c_ads1115 import Options, Plugin, protocol
from fixgw.hw_sim import i2c
from fixgw.hw_sim.bench.chips import I2cBench
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.ads1115 import Ads1115
from fixgw.hw_sim.devices.x728 import X728
from fixgw.kit.update import Update
from tests.drivers.bus_bench import SENDERS, SOURCE, adds_up, numbers, packaged_database, running, until, with_senders

pytestmark = pytest.mark.slow

# -- the registers -----------------------------------------------------------------------------------------------------


def test_configuration_words_are_those_of_the_data_sheet() -> None:
    """One conversion of AIN0 against ground, ±2.048 V, 128 a second, comparator off: C583 hex; of AIN0-AIN1, 8583."""
    assert protocol.config("0", 2.048, 128) == 0xC583
    assert protocol.config("0-1", 2.048, 128) == 0x8583
    assert protocol.config("3", 6.144, 860) == 0xF1E3


@pytest.mark.parametrize(
    ("choices", "config", "first_bit"),
    [
        (("0-1", "0-3", "1-3", "2-3", "0", "1", "2", "3"), lambda inputs: protocol.config(inputs, 6.144, 8), 12),
        ((6.144, 4.096, 2.048, 1.024, 0.512, 0.256), lambda range_: protocol.config("0-1", range_, 8), 9),
        ((8, 16, 32, 64, 128, 250, 475, 860), lambda rate: protocol.config("0-1", 6.144, rate), 5),
    ],
    ids=["MUX", "PGA", "DR"],
)
def test_each_choice_has_its_bits(choices: tuple[Any, ...], config: Callable[[Any], int], first_bit: int) -> None:
    assert [config(choice) - 0x8103 for choice in choices] == [bits << first_bit for bits in range(len(choices))]


def test_results_are_sixteen_bits_of_the_range() -> None:
    assert protocol.volts(b"\x40\x00", 4.096) == 2.048
    assert protocol.volts(b"\xff\xff", 2.048) == pytest.approx(-62.5e-6)
    assert protocol.volts(b"\x7f\xff", 4.096) is None  # out of range
    assert protocol.volts(b"\x80\x00", 4.096) is None
    assert protocol.volts(b"\x7f\xf0", 4.096) is None  # as the ADS1015 reports it
    assert protocol.volts(b"\x7f\xef", 4.096) == pytest.approx(4.0939, abs=1e-4)
    assert protocol.volts(b"\x80\x01", 4.096) == pytest.approx(-4.0959, abs=1e-4)
    assert protocol.volts(b"", 4.096) is None
    assert protocol.volts(b"\x40\x00\x00", 4.096) is None


@given(st.binary(max_size=4), st.sampled_from(protocol.RANGES))
def test_no_result_raises(raw: bytes, range_: float) -> None:
    volts = protocol.volts(raw, range_)
    assert volts is None or abs(volts) <= range_


# -- filters -----------------------------------------------------------------------------------------------------------


def input_(**options: Any) -> analog.Input:
    given = {"key": "OILP1", "curve": {"points": [[0.5, 0.0], [4.5, 100.0]]}, **options}
    return analog.Input(msgspec.convert(given, analog.Channel), 5.0)


def values(each: analog.Input, readings: list[float], period: float = 0.1) -> list[Any]:
    return [each.update(reading, i * period).value for i, reading in enumerate(readings)]


def test_a_spike_is_filtered_out() -> None:
    assert values(input_(), [2.5, 2.5, 2.5, 4.4, 2.5, 2.5]) == [50.0] * 6
    assert values(input_(median=1), [2.5, 4.5]) == [50.0, 100.0]


def test_a_low_pass_follows_a_step_with_its_time_constant() -> None:
    stepped = values(input_(median=1, smooth=1.0), [0.5] + [4.5] * 10)
    assert stepped[0] == 0.0
    assert stepped[10] == pytest.approx(100.0 * (1 - math.exp(-1.0)))


def test_an_open_sensor_fails_at_once_whatever_the_filter() -> None:
    each = input_(smooth=60.0, median=1)
    values(each, [2.5] * 5)
    update = each.update(5.0, 1.0)
    assert update == Update("OILP1", None, FAIL, "open, shorted or off its curve: the reading is 5")
    assert each.update(1.5, 1.1).value == 25.0  # and the next readings are not mixed with the earlier ones


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20), st.integers(1, 5), st.floats(0, 60))
def test_no_reading_makes_a_channel_raise(readings: list[float], median: int, smooth: float) -> None:
    for value in values(input_(median=median, smooth=smooth), readings):
        assert value is None or math.isfinite(value)


# -- a virtual converter -----------------------------------------------------------------------------------------------

CHANNELS = [
    {"input": "0", "key": "OILP1", "curve": {"linear": {"factor": 50.0, "offset": -25.0}, "limits": [0.4, 3.2]}},
    {"input": "1", "key": "OILT1", "curve": {"thermistor": {"r25": 10000, "beta": 3950, "pull_up": 1000}}},
    {"input": "2-3", "key": "VOLT", "range": 0.512, "curve": {"linear": {"factor": 40.0}}},
]


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


@pytest.fixture
def bus() -> Iterator[i2c.VirtualBus]:
    bus = i2c.bus(next(numbers))
    yield bus
    bus.detach(0x48)


def options(bus: i2c.VirtualBus, **more: Any) -> dict[str, Any]:
    given = {"library": "fixgw.hw_sim.i2c", "bus": bus.number, "conversions": 860, "rate": 50.0, "channels": CHANNELS}
    return {**given, **more}


def warmed(celsius: float) -> float:
    """Volts of a 10 kΩ thermistor with a pull-up of 1 kΩ at 3.3 V."""
    ohms = 10000 * math.exp(3950 * (1 / (celsius + 273.15) - 1 / 298.15))
    return 3.3 * ohms / (ohms + 1000)


def test_channels_are_read_calibrated_and_written(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x48, Ads1115())
    chip.volts = [1.5, warmed(95.0), 0.4, 0.05]
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: all(db.read(key).good for key in ("OILP1", "OILT1", "VOLT")))
        assert db.read("OILP1").value == pytest.approx(50.0, abs=0.01)
        assert db.read("OILT1").value == pytest.approx(95.0, abs=0.1)
        assert db.read("VOLT").value == pytest.approx(14.0, abs=0.01)
        assert db.read("VOLT").source == SOURCE
        assert plugin.health() == ""
        assert adds_up(plugin.counts)


def test_a_broken_wire_fails_only_its_own_key(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x48, Ads1115())
    chip.volts = [1.5, warmed(95.0), 0.4, 0.05]
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: all(db.read(key).good for key in ("OILP1", "OILT1", "VOLT")))
        chip.volts[0] = 0.0
        chip.volts[1] = 3.3
        until(lambda: db.read("OILP1").fail and db.read("OILT1").fail)
        assert db.read("VOLT").good
        chip.volts[2] = 1.0
        until(lambda: db.read("VOLT").fail)
        assert db.read("VOLT").reason(FAIL) == "beyond the range of 0.512 V"
        until(lambda: plugin.counts["out of range"])
        chip.volts = [1.5, warmed(95.0), 0.4, 0.05]
        until(lambda: all(db.read(key).good for key in ("OILP1", "OILT1", "VOLT")))


def test_a_chip_may_be_missing_vanish_and_return(bus: i2c.VirtualBus, db: Database) -> None:
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "no answer" in plugin.health())
        chip = bus.attach(0x48, Ads1115())
        chip.volts[0] = 1.5
        until(lambda: db.read("OILP1").good)
        bus.unplug(0x48)
        until(lambda: db.read("OILP1").fail)
        bus.plug(0x48)
        until(lambda: db.read("OILP1").good)


def test_a_chip_that_does_not_keep_its_configuration_is_refused(bus: i2c.VirtualBus, db: Database) -> None:
    bus.attach(0x48, X728())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "its configuration is" in plugin.health())


def test_wrong_options_are_found_without_a_bus(tmp_path: Any) -> None:
    (tmp_path / "default.yaml").write_text(
        """
connections:
  adc:
    load: yes
    module: fixgw.drivers.i2c_ads1115
    rate: 100
    channels:
      - {input: "0", key: OILPP1, curve: {linear: {factor: 1.0}}}
      - {input: "1", key: OILT1, curve: {sender: {table: vdo-pressure-5bar, pull_up: 220}}}
      - {input: "1", key: OILT1, curve: {points: [[1, 1]]}}
      - {input: "2", key: VOLT, range: 5.0, curve: {linear: {factor: 1.0}}}
"""
    )
    found = [str(p).partition("default.yaml:")[2] for p in configuration.check(tmp_path / "default.yaml")]
    assert [f.partition(":")[0] for f in found] == ["8", "9", "10", "11"]
    assert "at least two points" in found[2]
    assert "range: choose one of 6.144" in found[3]


def test_keys_units_and_rates_are_checked(db: Database) -> None:
    given = msgspec.convert(
        {
            "rate": 100,
            "conversions": 128,
            "channels": [
                {"input": "0", "key": "OILPP1", "curve": {"linear": {"factor": 1.0}}},
                {"input": "1", "key": "OILT1", "curve": {"sender": {"table": "vdo-pressure-5bar", "pull_up": 220}}},
                {"input": "2", "key": "OILT1", "curve": {"linear": {"factor": 1.0}}},
                {"input": "3", "key": "TIMEZ", "curve": {"linear": {"factor": 1.0}}},
            ],
        },
        Options,
    )
    assert list(Plugin.check(given, db)) == [
        ("channels.0.key", "the database has no item 'OILPP1' (did you mean 'OILP1'?)"),
        ("channels.1.curve", "the curve gives psi, but the key is in degC: set `scale` (and `add`) to convert"),
        ("channels.2.key", "OILT1 is written by two channels"),
        ("channels.3.key", "TIMEZ is not of type float"),
        ("rate", "4 channels at this rate need more conversions"),
    ]


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = I2cBench.of(
        "fixgw.drivers.i2c_ads1115",
        lambda: with_senders(Ads1115()),
        "OILP1 VOLT",
        options={"conversions": 860, "channels": SENDERS},
        absurd={"OILP1": 160.0},
    )
