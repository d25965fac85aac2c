"""The pressure sensors: the data sheets' examples, altitudes and climbs, and virtual chips on a virtual bus."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL, Database
from fixgw.drivers.i2c_bmp import Options, Plugin, protocol
from fixgw.drivers.i2c_bmp.protocol import AirData, Bmp180, Bmp280, Bmp388, Chip
from fixgw.hw_sim import i2c
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import Subject
from fixgw.hw_sim.bench.chips import I2cBench
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices import bmp
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.kit.airdata import pressure_altitude
from fixgw.kit.update import Update
from tests.drivers.bus_bench import SOURCE, adds_up, numbers, packaged_database, running, until

pytestmark = pytest.mark.slow

# -- compensation ------------------------------------------------------------------------------------------------------

BMP180_EXAMPLE = struct.pack(">hhhHHHhhhhh", 408, -72, -14383, 32741, 32757, 23153, 6190, 4, -32768, -8711, 2868)
BMP280_EXAMPLE = struct.pack(
    "<HhhHhhhhhhhh", 27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000
)
BMP388_INVENTED = struct.pack(
    "<HHbhhbbHHbbhbb", 27_000, 18_000, -100, 1000, -900, 120, 110, 25_000, 31_000, -99, 88, -7000, 77, -66
)


def test_bmp180_matches_the_example_of_the_data_sheet() -> None:
    """UT 27898, UP 23843 at oversampling 0 are 15.0 °C and 69964 Pa."""
    assert Bmp180(BMP180_EXAMPLE).compensate(27898, 23843, 0) == (150, 69964)


def test_bmp280_matches_the_example_of_the_data_sheet() -> None:
    """519888 and 415148 are 25.08 °C and 100653.27 Pa."""
    celsius, pascals = Bmp280(BMP280_EXAMPLE).compensate(519888, 415148)
    assert celsius == pytest.approx(25.08, abs=0.005)
    assert pascals == pytest.approx(100653.27, abs=0.02)


def bmp180_by_the_data_sheet(c: tuple[int, ...], ut: int, up: int, oss: int) -> tuple[int, int]:
    ac1, ac2, ac3, ac4, ac5, ac6, b1, b2, _, mc, md = c
    x1 = (ut - ac6) * ac5 >> 15
    b5 = x1 + int((mc << 11) / (x1 + md))
    b6 = b5 - 4000
    x1, x2 = (b2 * (b6 * b6 >> 12)) >> 11, (ac2 * b6) >> 11
    b3 = (((ac1 * 4 + x1 + x2) << oss) + 2) // 4
    x1, x2 = (ac3 * b6) >> 13, (b1 * ((b6 * b6) >> 12)) >> 16
    b4 = (ac4 * (((x1 + x2 + 2) >> 2) + 32768)) >> 15
    p = int((up - b3) * (50000 >> oss) * 2 / b4)
    x1, x2 = (((p >> 8) ** 2) * 3038) >> 16, (-7357 * p) >> 16
    return (b5 + 8) >> 4, p + ((x1 + x2 + 3791) >> 4)


def bmp280_by_the_data_sheet(c: tuple[int, ...], ut: int, up: int) -> tuple[float, float]:
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9 = c
    fine = (ut / 16384.0 - t1 / 1024.0) * t2
    fine += (ut / 131072.0 - t1 / 8192.0) * (ut / 131072.0 - t1 / 8192.0) * t3
    var1 = int(fine) / 2.0 - 64000.0
    var2 = var1 * var1 * p6 / 32768.0
    var2 = (var2 + var1 * p5 * 2.0) / 4.0 + p4 * 65536.0
    var1 = (p3 * var1 * var1 / 524288.0 + p2 * var1) / 524288.0
    p = (1048576.0 - up - var2 / 4096.0) * 6250.0 / ((1.0 + var1 / 32768.0) * p1)
    return fine / 5120.0, p + (p9 * p * p / 2147483648.0 + p * p8 / 32768.0 + p7) / 16.0


def bmp388_by_the_data_sheet(c: tuple[int, ...], ut: int, up: int) -> tuple[float, float]:
    t1, t2, t3 = c[0] * 2.0**8, c[1] / 2.0**30, c[2] / 2.0**48
    p1, p2 = (c[3] - 2.0**14) / 2.0**20, (c[4] - 2.0**14) / 2.0**29
    p3, p4, p5, p6 = c[5] / 2.0**32, c[6] / 2.0**37, c[7] * 2.0**3, c[8] / 2.0**6
    p7, p8, p9, p10, p11 = c[9] / 2.0**8, c[10] / 2.0**15, c[11] / 2.0**48, c[12] / 2.0**48, c[13] / 2.0**65
    t = (ut - t1) * t2 + (ut - t1) ** 2 * t3
    out1 = p5 + p6 * t + p7 * t**2 + p8 * t**3
    out2 = up * (p1 + p2 * t + p3 * t**2 + p4 * t**3)
    return t, out1 + out2 + up**2 * (p9 + p10 * t) + up**3 * p11


def test_compensation_is_that_of_the_data_sheets_step_by_step() -> None:
    c = struct.unpack(">hhhHHHhhhhh", BMP180_EXAMPLE)
    for oss in range(4):
        for ut, up in product(range(20_000, 36_000, 1501), range(18_000 << oss, 40_000 << oss, 1237 << oss)):
            assert Bmp180(BMP180_EXAMPLE).compensate(ut, up, oss) == bmp180_by_the_data_sheet(c, ut, up, oss)
    c = struct.unpack("<HhhHhhhhhhhh", BMP280_EXAMPLE)
    for ut, up in product((400_000, 519_888, 600_000), (200_000, 415_148, 700_000)):
        expected = bmp280_by_the_data_sheet(c, ut, up)
        assert Bmp280(BMP280_EXAMPLE).compensate(ut, up) == pytest.approx(expected, rel=1e-12)
    c = struct.unpack(Bmp388.CALIBRATION[1], BMP388_INVENTED)
    chip = Bmp388(BMP388_INVENTED)
    for ut, up in product((6_000_000, 8_500_000, 10_000_000), (5_000_000, 7_000_000, 12_000_000)):
        assert chip.compensate(ut, up) == pytest.approx(bmp388_by_the_data_sheet(c, ut, up), rel=1e-12)


def test_the_registers_are_those_of_the_data_sheets() -> None:
    examples = (BMP180_EXAMPLE, BMP280_EXAMPLE, BMP388_INVENTED)
    chips = bmp180, bmp280, bmp388 = [chip(example) for chip, example in zip(protocol.CHIPS, examples, strict=True)]
    assert [chip.ID for chip in chips] == [
        (0xD0, (0x55,)),
        (0xD0, (0x56, 0x57, 0x58, 0x60)),  # the last is a BME280
        (0x00, (0x50, 0x60)),  # the last is a BMP390
    ]
    assert [chip.RESET[:2] for chip in chips] == [(0xE0, 0xB6), (0xE0, 0xB6), (0x7E, 0xB6)]
    assert all(0.010 <= chip.RESET[2] <= 0.1 for chip in chips), "start-up takes 2 ms, or 10 ms"
    # Filter; oversampling of the temperature and the pressure, and normal mode.
    assert bmp280.SETUP == ((0xF5, 2 << 2), (0xF4, 1 << 5 | 4 << 2 | 3))
    # Oversampling of the pressure; output data rate; filter; normal mode with both sensors.
    assert bmp388.SETUP == ((0x1C, 3), (0x1D, 2), (0x1F, 2 << 1), (0x1B, 3 << 4 | 3))
    temperature, pressure = bmp180.STEPS
    assert (temperature.command, pressure.command) == ((0xF4, 0x2E), (0xF4, 0xF4))
    assert 0.0045 <= temperature.wait <= 0.01, "4.5 ms"
    assert 0.0255 <= pressure.wait <= 0.03, "25.5 ms"
    assert [(step.command, step.wait) for step in (*bmp280.STEPS, *bmp388.STEPS)] == [(None, 0.0)] * 2


def test_raw_bytes_are_assembled_in_the_order_of_the_chip() -> None:
    raw = (415148 << 4).to_bytes(3, "big") + (519888 << 4).to_bytes(3, "big")
    assert Bmp280(BMP280_EXAMPLE).measured(raw) == pytest.approx((25.08, 100653.27), abs=0.03)
    chip = Bmp180(BMP180_EXAMPLE)
    raw = (27898).to_bytes(2, "big") + (23843 * 8 << 5).to_bytes(3, "big")
    measured = chip.measured(raw)
    assert measured is not None
    assert measured[0] == 15.0
    assert measured[1] == pytest.approx(69964, abs=5)  # the integers round differently at another oversampling


@pytest.mark.parametrize(("kind", "virtual"), [(Bmp180, bmp.Bmp180), (Bmp280, bmp.Bmp280), (Bmp388, bmp.Bmp388)])
@pytest.mark.parametrize(
    ("celsius", "pascals"), [(-30.0, 30_000.0), (0.0, 60_000.0), (25.0, 101_325.0), (60.0, 108_000.0)]
)
def test_compensation_inverts_the_virtual_chip(
    kind: type[Chip], virtual: type[bmp.Barometer], celsius: float, pascals: float
) -> None:
    chip = virtual()
    chip.temperature, chip.pressure, chip.noise = celsius, pascals, 0.0
    for register, value in kind.SETUP:
        chip.write(register, bytes((value,)))
    raw = b""
    for step in kind.STEPS:
        if step.command is not None:
            register, value = step.command
            chip.write(register, bytes((value,)))
        raw += chip.read(step.data, step.length)
    driver = kind(chip.read(kind.CALIBRATION[0], kind.calibration_length()))
    measured = driver.measured(raw)
    assert measured is not None
    assert measured[0] == pytest.approx(celsius, abs=0.1)
    assert measured[1] == pytest.approx(pascals, abs=12.0 if kind is Bmp180 else 1.0)


def test_a_chip_that_has_not_measured_gives_no_value() -> None:
    for kind, virtual in ((Bmp280, bmp.Bmp280()), (Bmp388, bmp.Bmp388())):
        driver = kind(virtual.read(kind.CALIBRATION[0], kind.calibration_length()))
        assert driver.measured(virtual.read(kind.STEPS[0].data, 6)) is None


@pytest.mark.parametrize(
    ("chip", "raw", "nothing"),
    [
        (Bmp180(BMP180_EXAMPLE), "6cfa 5d2300", ("8000 5d2300", "6cfa 800000")),
        (Bmp280(BMP280_EXAMPLE), "655ac0 7eed00", ("800000 7eed00", "655ac0 800000")),
        (Bmp388(BMP388_INVENTED), "00d06a 20b381", ("000080 20b381", "00d06a 000080")),
    ],
)
def test_a_measurement_of_one_quantity_or_of_another_length_gives_no_value(
    chip: Chip, raw: str, nothing: tuple[str, str]
) -> None:
    assert chip.measured(bytes.fromhex(raw)) is not None
    assert [chip.measured(bytes.fromhex(part)) for part in nothing] == [None, None]
    assert chip.measured(bytes.fromhex(raw)[:-1]) is None
    assert chip.measured(bytes.fromhex(raw) + b"\0") is None


def test_a_calibration_that_makes_the_formula_fail_gives_no_value() -> None:
    fields = list(struct.unpack(Bmp280.CALIBRATION[1], BMP280_EXAMPLE))
    fields[3] = 0  # dig_P1, by which the pressure is divided
    assert Bmp280(struct.pack(Bmp280.CALIBRATION[1], *fields)).measured(bytes.fromhex("655ac0 7eed00")) is None


def test_an_empty_memory_is_not_a_calibration() -> None:
    for kind in protocol.CHIPS:
        for filler in (b"\x00", b"\xff"):
            with pytest.raises(ValueError, match="no calibration"):
                kind(filler * kind.calibration_length())


@given(st.sampled_from(protocol.CHIPS), st.binary(min_size=24, max_size=24), st.binary(max_size=8))
def test_no_calibration_or_raw_value_raises(kind: type[Chip], calibration: bytes, raw: bytes) -> None:
    try:
        chip = kind(calibration[: kind.calibration_length()])
    except ValueError:
        return
    measured = chip.measured(raw)
    if measured is not None:
        AirData(lambda: 0.0, 1.0).updates(*measured, protocol.STANDARD_SETTING_INHG)


# -- air data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pascals", "feet"), [(101325.0, 0.0), (84307.0, 5000.0), (69682.0, 10000.0), (46563.0, 20000.0)]
)
def test_pressure_altitude_is_that_of_the_standard_atmosphere(pascals: float, feet: float) -> None:
    """ICAO Doc 7488, rounded to the pascal."""
    assert pressure_altitude(pascals) == pytest.approx(feet, abs=2.0)


def updates(air: AirData, pascals: float, setting: float = 29.92, flags: int = 0) -> dict[str, Update]:
    found = air.updates(20.0, pascals, setting, not flags)
    assert found is not None
    return {u.key: u for u in found}


def test_the_altimeter_setting_shifts_only_the_altitude(clock: Clock) -> None:
    air = AirData(clock, 1.0)
    standard, high = updates(air, 90000.0, 29.9213), updates(air, 90000.0, 30.92)
    assert standard["ALT"].value == pytest.approx(standard["PALT"].value, abs=0.5)
    assert high["PALT"].value == standard["PALT"].value
    assert float(high["ALT"].value or 0) - float(standard["ALT"].value or 0) == pytest.approx(920, abs=10)
    assert updates(air, 90000.0, 29.92, FAIL)["ALT"][2:] == (BAD, "the altimeter setting is not good")
    assert updates(air, 90000.0, 29.92, FAIL)["PALT"].flags == 0


@pytest.mark.parametrize("setting", [0.0, -1.0, None, "30.1"])
def test_without_an_altimeter_setting_the_altitude_is_that_of_the_standard_setting_and_bad(
    clock: Clock, setting: object
) -> None:
    air = AirData(clock, 1.0)
    found = {u.key: u for u in air.updates(20.0, 90_000.0, setting) or ()}
    assert found["ALT"] == (
        "ALT",
        updates(air, 90_000.0, 29.92)["ALT"].value,
        BAD,
        "the altimeter setting is not good",
    )
    assert found["PALT"].flags == 0
    assert set(found) == {"AIRPRESS", "PALT", "ALT", "VS"} == protocol.KEYS, "the temperature has no key"


def test_an_aircraft_on_the_ground_with_the_qnh_set_reads_its_elevation(clock: Clock) -> None:
    aircraft = Aircraft()
    values = updates(AirData(clock, 1.0), aircraft.pressure, aircraft.qnh)
    assert values["ALT"].value == pytest.approx(aircraft.altitude, abs=3.0)


def pressure_at(feet: float) -> float:
    return 101325.0 * math.pow(1.0 - 0.0065 * feet * 0.3048 / 288.15, 5.25588)


def pressure_in_a_climb(seconds: float) -> float:
    """From 3000 ft at 600 ft/min."""
    return pressure_at(3000.0 + 10.0 * seconds)


def test_the_vertical_speed_of_a_steady_climb_settles_at_its_rate(clock: Clock) -> None:
    air = AirData(clock, 0.7)
    began, flags = clock.now, []
    for _ in range(400):
        speed = updates(air, pressure_in_a_climb(clock.now - began))["VS"]
        flags.append(speed.flags)
        clock.now += 0.05
    assert speed.value == pytest.approx(600.0, abs=1.0)
    assert flags[0] == BAD
    assert flags[-1] == 0
    assert speed.reason == ""


@pytest.mark.parametrize("gap_s", [0.3, 0.9, 1.9])
def test_missing_pressures_do_not_change_the_vertical_speed_of_a_steady_climb(clock: Clock, gap_s: float) -> None:
    """The chip was unplugged for a moment, or its bus was busy."""
    air = AirData(clock, 0.7)
    began = clock.now
    for n in range(300):
        speed = updates(air, pressure_in_a_climb(clock.now - began))["VS"]
        if n >= 200:
            assert speed.value == pytest.approx(600.0, abs=1.0)
            assert (speed.flags, speed.reason) == (0, "")
        clock.now += gap_s if n == 220 else 0.05


def test_a_climb_shows_after_twice_the_time_constant(clock: Clock) -> None:
    """As after two low-pass filters, one after the other."""
    tau = 0.5
    air = AirData(clock, tau)
    for _ in range(300):
        updates(air, pressure_at(3000.0))
        clock.now += 0.01
    for n in range(1, 201):
        passed = 0.01 * n / tau
        speed = updates(air, pressure_at(3000.0 + 0.1 * n))["VS"]
        assert speed.value == pytest.approx(600.0 * (1.0 - (1.0 + passed) * math.exp(-passed)), abs=6.0)
        clock.now += 0.01


def test_the_vertical_speed_has_settled_after_six_time_constants(clock: Clock) -> None:
    air = AirData(clock, 0.5)
    began = clock.now = 100.0
    speeds = []
    for _ in range(14):
        speeds.append(updates(air, pressure_in_a_climb(clock.now - began))["VS"])
        clock.now += 0.25
    assert [speed.flags for speed in speeds] == [BAD] * 12 + [0, 0]
    assert speeds[12].value == pytest.approx(600.0, rel=0.02), "it is good as soon as it looks good"


def test_two_pressures_at_the_same_time_do_not_change_the_vertical_speed(clock: Clock) -> None:
    air = AirData(clock, 0.5)
    for _ in range(50):
        updates(air, pressure_in_a_climb(clock.now))
        clock.now += 0.05
    first = updates(air, pressure_in_a_climb(clock.now))["VS"]
    assert updates(air, pressure_in_a_climb(clock.now))["VS"] == first


@pytest.mark.parametrize(
    ("seconds", "feet", "settles"),
    [
        (0.001, 50.4, False),
        (0.001, 50.6, True),
        (1.0, 549.5, False),
        (1.0, 550.5, True),
        (1.0, -549.5, False),
        (1.0, -550.5, True),
        (2.0, 0.0, False),
        (2.01, 0.0, True),
    ],
)
def test_what_is_a_leap_or_a_gap(clock: Clock, seconds: float, feet: float, settles: bool) -> None:
    """No aircraft climbs 500 ft in a second; 50 ft are for gusts and noise."""
    air = AirData(clock, 0.5)
    clock.now = 64.0
    for _ in range(40):
        updates(air, pressure_at(3000.0))
        clock.now += 0.125
    updates(air, pressure_at(3000.0))
    clock.now += seconds
    assert (updates(air, pressure_at(3000.0 + feet))["VS"].reason == "settling") is settles


def test_the_vertical_speed_starts_afresh_after_a_gap(clock: Clock) -> None:
    air = AirData(clock, 0.5)
    for _ in range(100):
        updates(air, 90000.0)
        clock.now += 0.05
    clock.now += 10.0
    speed = updates(air, 85000.0)["VS"]
    assert speed == Update("VS", 0.0, BAD, "settling")


def test_after_a_leap_of_the_pressure_the_vertical_speed_settles_again(clock: Clock) -> None:
    """A value that the chip had before its first measurement, for example: the filters would be wrong for seconds."""
    air = AirData(clock, 0.7)
    for _ in range(60):
        updates(air, 101_325.0)
        clock.now += 0.05
    for _ in range(40):
        speed = updates(air, 90_000.0)["VS"]
        assert abs(float(speed.value or 0)) < 10.0
        assert speed.flags == BAD
        clock.now += 0.05
    for _ in range(50):
        speed = updates(air, 90_000.0)["VS"]
        clock.now += 0.05
    assert speed == Update("VS", speed.value, 0, "")


@pytest.mark.parametrize(
    ("celsius", "pascals"), [(20, 20_000), (20, 120_000), (-60, 90_000), (100, 90_000), (20, math.nan)]
)
def test_impossible_air_is_refused(clock: Clock, celsius: float, pascals: float) -> None:
    assert AirData(clock, 1.0).updates(celsius, pascals, protocol.STANDARD_SETTING_INHG) is None


# -- virtual chips -----------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


@pytest.fixture
def bus() -> Iterator[i2c.VirtualBus]:
    bus = i2c.bus(next(numbers))
    yield bus
    bus.detach(0x77)


def options(bus: i2c.VirtualBus, **more: object) -> dict[str, object]:
    return {"library": "fixgw.hw_sim.i2c", "bus": bus.number, "vs_time": 0.1, **more}


@pytest.mark.parametrize("kind", [bmp.Bmp180, bmp.Bmp280, bmp.Bmp388])
def test_each_chip_is_recognised_and_measures_the_air(
    kind: type[bmp.Barometer], bus: i2c.VirtualBus, db: Database
) -> None:
    aircraft = Aircraft()
    chip = bus.attach(0x77, kind())
    chip.look(aircraft)
    db.write("BARO", aircraft.qnh)
    with running(Plugin, **options(bus, temperature="CAT")) as plugin:
        until(lambda: all(db.read(key).good for key in ("AIRPRESS", "PALT", "ALT", "VS", "CAT")))
        assert db.read("AIRPRESS").value == pytest.approx(aircraft.pressure, abs=15.0)
        assert db.read("PALT").value == pytest.approx(aircraft.values()["PALT"], abs=6.0)
        assert db.read("ALT").value == pytest.approx(aircraft.altitude, abs=8.0)
        assert db.read("CAT").value == pytest.approx(aircraft.cabin + chip.case, abs=0.2)
        assert db.read("ALT").source == SOURCE
        assert kind.__name__.upper() in plugin.get_status()["chip"]
        assert plugin.health() == ""
        assert adds_up(plugin.counts, "nothing measured", "absurd values")


def test_an_altitude_with_a_simulated_setting_is_simulated(bus: i2c.VirtualBus, db: Database) -> None:
    bus.attach(0x77, bmp.Bmp180())
    db.write("BARO", 30.0, "sim/can/50")
    with running(Plugin, **options(bus)):
        until(lambda: db.read("ALT").good and db.read("PALT").good)
        assert (db.read("ALT").source, db.read("PALT").source) == (f"sim/{SOURCE}", SOURCE)
        bus.unplug(0x77)
        until(lambda: db.read("ALT").fail and db.read("PALT").fail)


def test_a_chip_may_vanish_and_return_as_another_type(bus: i2c.VirtualBus, db: Database) -> None:
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "no answer" in plugin.health())
        bus.attach(0x77, bmp.Bmp180())
        until(lambda: db.read("PALT").good)
        bus.unplug(0x77)
        until(lambda: db.read("PALT").fail and db.read("VS").fail)
        bus.attach(0x77, bmp.Bmp388())
        until(lambda: db.read("PALT").good and not plugin.health())
        assert plugin.get_status()["chip"] == "BMP388"


def test_an_unknown_chip_is_reported(bus: i2c.VirtualBus, db: Database) -> None:
    bus.attach(0x77, Bno055())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "not a pressure sensor that this driver knows" in plugin.health())


def test_a_stuck_sensor_fails(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x77, bmp.Bmp280())
    plugin = Plugin(SOURCE, options(bus))
    plugin.stuck_after_s = 0.2  # type: ignore[misc]
    plugin.start()
    try:
        until(lambda: db.read("PALT").good)
        chip.faults.stuck = True
        until(lambda: db.read("PALT").fail)
        assert "stuck" in db.read("PALT").reason(FAIL)
        chip.faults.stuck = False
        until(lambda: db.read("PALT").good)
    finally:
        plugin.shutdown()


@pytest.mark.parametrize("kind", [bmp.Bmp280, bmp.Bmp388])
def test_a_chip_that_lost_power_for_a_moment_is_set_up_again(
    kind: type[bmp.Barometer], bus: i2c.VirtualBus, db: Database
) -> None:
    chip = bus.attach(0x77, kind())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("PALT").good and not plugin.health())
        chip.power_up()
        until(lambda: db.read("PALT").fail)
        assert "has lost its configuration" in db.read("PALT").reason(FAIL)
        until(lambda: db.read("PALT").good and not plugin.health())


@pytest.mark.parametrize(("kind", "register", "asleep"), [(bmp.Bmp280, 0xF4, 0x30), (bmp.Bmp388, 0x1B, 0x03)])
def test_the_last_pressure_of_a_sleeping_chip_is_not_taken_for_a_new_one(
    kind: type[bmp.Barometer], register: int, asleep: int, bus: i2c.VirtualBus, db: Database
) -> None:
    chip = bus.attach(0x77, kind())
    plugin = Plugin(SOURCE, options(bus))
    plugin.stuck_after_s = 1000.0  # type: ignore[misc]
    plugin.start()
    try:
        until(lambda: db.read("PALT").good)
        chip.registers[register] = asleep
        until(lambda: db.read("PALT").fail)
        until(lambda: db.read("PALT").good and not plugin.health())
    finally:
        plugin.shutdown()


def test_a_chip_that_answers_only_during_set_up_causes_a_single_outage(bus: i2c.VirtualBus, db: Database) -> None:
    class Forgetful(bmp.Bmp280):
        def measure(self) -> None:
            super().measure()
            self.registers[0xF4] = 0

    bus.attach(0x77, Forgetful())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: plugin.counts.get("failed attempts", 0) > 1)
        assert plugin.counts["outages"] == 1
        assert "has lost its configuration" in plugin.health()


def test_the_power_on_registers_of_a_bmp180_are_not_a_measurement(bus: i2c.VirtualBus, db: Database) -> None:
    """Raw values of 0x8000 would give some 50 degrees and 2000 ft, which look plausible."""
    chip = bus.attach(0x77, bmp.Bmp180())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("PALT").good)
        chip.faults.stuck = True  # it accepts commands but does not measure
        chip.power_up()
        until(lambda: db.read("PALT").fail)
        assert plugin.health() == "nothing measured"
        assert plugin.counts["nothing measured"] > 3
        chip.faults.stuck = False
        until(lambda: db.read("PALT").good and not plugin.health())


def test_an_impossible_pressure_is_counted_and_soon_fails(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x77, bmp.Bmp280())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("PALT").good)
        last = db.read("PALT").value
        chip.pressure = 10_000.0
        until(lambda: plugin.counts["absurd values"] > 3)
        until(lambda: plugin.health() == "absurd values")
        until(lambda: db.read("PALT").fail)
        assert db.read("PALT").reason(FAIL) == "absurd values"
        assert db.read("PALT").value == pytest.approx(last, abs=20.0)
        chip.pressure = 101_325.0
        until(lambda: db.read("PALT").good and not plugin.health())


def test_keys_can_be_redirected_or_left_out(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x77, bmp.Bmp280())
    chip.pressure = 90_000.0
    with running(Plugin, **options(bus, keys={"PALT": "DALT", "ALT": None})):
        until(lambda: db.read("DALT").good)
        assert db.read("PALT").old
        assert db.read("ALT").old


def test_wrong_options_are_found_without_a_bus(db: Database) -> None:
    wrong = msgspec.convert({"temperature": "CATT", "keys": {"PALTT": "ALT"}}, Options)
    assert [option for option, _ in Plugin.check(wrong, db)] == ["keys.PALTT", "temperature"]
    assert list(Plugin.check(Options(), db)) == []
    assert list(Plugin.claims(Options(bus=3))) == [("i2c-3 0x77", "address")]


# -- the contract that all drivers pass --------------------------------------------------------------------------------


def subject(device: Callable[..., bmp.Barometer]) -> Subject:
    return I2cBench.of(
        "fixgw.drivers.i2c_bmp",
        device,
        "AIRPRESS PALT ALT",
        options={"vs_time": 0.1},
        within={"AIRPRESS": 15.0, "PALT": 6.0, "ALT": 8.0},
        absurd={"AIRPRESS": 15_000.0},
        repeats=True,
    )


class TestContractOfABmp180(Contract):
    subject = subject(bmp.Bmp180)


class TestContractOfABmp280(Contract):
    subject = subject(bmp.Bmp280)


class TestContractOfABmp388(Contract):
    subject = subject(bmp.Bmp388)
