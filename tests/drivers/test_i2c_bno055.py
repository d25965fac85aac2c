"""The BNO055 driver: register contents, mountings, frames on the serial line, and a virtual chip on a virtual bus."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL, Database
from fixgw.drivers.i2c_bno055 import Plugin, protocol
from fixgw.drivers.i2c_bno055.protocol import AXES, Decoder
from fixgw.hw_sim import i2c
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.chips import I2cBench
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit.update import Update
from tests.drivers.bus_bench import SOURCE, adds_up, numbers, packaged_database, running, until

pytestmark = pytest.mark.slow

# -- the registers -----------------------------------------------------------------------------------------------------


def block(
    force: tuple[int, int, int] = (0, 0, 981),
    rates: tuple[int, int, int] = (0, 0, 0),
    heading: int = 0,
    sky: tuple[int, int, int] = (0, 0, 981),
    calibration: int = 0xFF,
    status: int = 5,
    error: int = 0,
) -> tuple[bytes, bytes]:
    """The registers 0x08 to 0x1F, and 0x2E to 0x3A."""
    data = struct.pack("<12h", *force, 0, 0, 0, *rates, heading, 0, 0)
    return data, struct.pack("<3h", *sky) + bytes((25, calibration, 0x0F, 0, 0, status, error))


def decoded(decoder: Decoder | None = None, **what: object) -> dict[str, Update]:
    updates = (decoder or Decoder("ndof")).decode(*block(**what))  # type: ignore[arg-type]
    assert updates is not None
    return {u.key: u for u in updates}


def test_level_and_still_reads_one_g_and_nothing_else() -> None:
    values = {key: update.value for key, update in decoded().items()}
    assert values == {
        "ROLL": pytest.approx(0.0),
        "PITCH": pytest.approx(0.0),
        "HEAD": 0.0,
        "ROT": pytest.approx(0.0),
        "ANORM": pytest.approx(1.0, abs=0.001),
        "ALAT": 0.0,
        "ALONG": 0.0,
    }


def test_units_are_those_of_the_data_sheet() -> None:
    """Euler angles 1° = 16, rates 1 °/s = 16, accelerations 1 m/s² = 100."""
    values = decoded(heading=16 * 90, rates=(0, 0, -16 * 3), force=(-98, 196, 1961))
    assert values["HEAD"].value == 90.0
    assert values["ROT"].value == pytest.approx(3.0, abs=0.01)  # clockwise from above: a turn to the right
    assert values["ALAT"].value == pytest.approx(-0.1, abs=0.001)
    assert values["ALONG"].value == pytest.approx(0.2, abs=0.001)
    assert values["ANORM"].value == pytest.approx(2.0, abs=0.001)


@pytest.mark.parametrize("roll", [-170, -60, 0, 30, 90])
@pytest.mark.parametrize("pitch", [-80, -10, 0, 45])
def test_the_attitude_follows_the_direction_of_gravity(roll: int, pitch: int) -> None:
    r, p = math.radians(roll), math.radians(pitch)
    sky = (-math.sin(r) * math.cos(p), math.sin(p), math.cos(r) * math.cos(p))
    x, y, z = (round(981 * s) for s in sky)
    values = decoded(sky=(x, y, z))
    assert values["ROLL"].value == pytest.approx(roll, abs=0.5)
    assert values["PITCH"].value == pytest.approx(pitch, abs=0.2)


def test_trims_are_added() -> None:
    values = decoded(Decoder("ndof", roll=1.5, pitch=-2.0, heading=-10.0), heading=0)
    assert values["ROLL"].value == pytest.approx(1.5)
    assert values["PITCH"].value == pytest.approx(-2.0)
    assert values["HEAD"].value == 350.0
    assert decoded(Decoder("ndof", roll=10.0), sky=(-170, 0, -966))["ROLL"].value == pytest.approx(-180.0, abs=0.1)


@pytest.mark.parametrize(("up", "trim", "pitch"), [(979, 5.0, 90.0), (-979, -5.0, -90.0), (1020, 0.0, 90.0)])
def test_no_pitch_is_steeper_than_vertical(up: int, trim: float, pitch: float) -> None:
    assert decoded(Decoder("ndof", pitch=trim), sky=(0, up, 60))["PITCH"].value == pitch


def test_the_rate_of_turn_is_about_the_vertical_however_the_aircraft_is_banked() -> None:
    assert decoded(sky=(-981, 0, 0), rates=(16 * 10, 16 * 20, 16 * 30))["ROT"].value == pytest.approx(10.0, abs=0.01)
    assert decoded(sky=(0, 981, 0), rates=(16 * 10, 16 * 20, 16 * 30))["ROT"].value == pytest.approx(-20.0, abs=0.01)


@pytest.mark.parametrize(
    ("spike", "key", "steady", "moved"),
    [
        ({"heading": 16 * 90}, "HEAD", 0.0, 90.0),
        ({"rates": (0, 0, -16 * 64)}, "ROT", 0.0, 64.0),
        ({"force": (0, 0, 1962)}, "ANORM", 1.0, 2.0),
        ({"sky": (0, 981, 0)}, "PITCH", 0.0, 90.0),
    ],
)
def test_a_wrong_bit_in_one_reading_of_three_has_no_effect(
    spike: dict[str, object], key: str, steady: float, moved: float
) -> None:
    """But the second one in a row is a movement."""
    decoder = Decoder("ndof")
    shown = [decoded(decoder, **what)[key].value for what in ({}, {}, spike, {}, spike, spike)]
    assert shown == pytest.approx([steady, steady, steady, steady, moved, moved], abs=0.03)


def test_a_heading_around_north_has_a_middle_too() -> None:
    decoder = Decoder("ndof")
    shown = [decoded(decoder, heading=16 * degrees)["HEAD"].value for degrees in (358, 2, 1)]
    assert shown == pytest.approx([358.0, 0.0, 1.0])


def test_earlier_readings_are_forgotten_when_the_chip_may_have_been_moved() -> None:
    decoder = Decoder("ndof")
    for _ in range(3):
        decoded(decoder)
    decoder.begin()
    assert decoded(decoder, heading=16 * 90)["HEAD"].value == 90.0


@pytest.mark.parametrize("changes", [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_registers_of_another_length_are_refused(changes: tuple[int, int]) -> None:
    parts = [(part + b"\0")[: len(part) + change] for part, change in zip(block(), changes, strict=True)]
    assert Decoder("ndof").decode(*parts) is None


def test_without_the_magnetometer_there_is_yaw_but_no_heading() -> None:
    values = decoded(Decoder("imu"), heading=16 * 350, calibration=0x30)
    assert "HEAD" not in values
    assert values["YAW"].value == pytest.approx(-10.0)
    assert not any(update.flags for update in values.values())


def test_its_keys_can_be_redirected_in_both_modes() -> None:
    assert {*Decoder("imu").keys, *Decoder("ndof").keys} == protocol.KEYS


def test_an_uncalibrated_value_is_bad_and_says_what_to_do() -> None:
    values = decoded(calibration=0b11_01_11_11)
    assert {key for key, u in values.items() if u.flags == BAD} == {"ROLL", "PITCH", "HEAD", "ROT"}
    assert values["ROLL"].reason == "gyroscope not calibrated: keep the sensor still"
    decoder = Decoder("ndof")
    values = decoded(decoder, calibration=0b11_11_11_01)
    assert {key for key, u in values.items() if u.flags} == {"HEAD"}
    assert decoder.trouble == "magnetometer not calibrated: rotate it about all axes"
    assert decoder.calibration == (3, 3, 3, 1)
    assert decoded(calibration=0b00_11_11_11)["PITCH"].reason == "sensor fusion not calibrated yet"
    assert decoded(decoder)["HEAD"].flags == 0
    assert decoder.trouble == ""


@pytest.mark.parametrize(
    ("calibration", "bad"),
    [
        (0b01_10_00_10, set()),  # as little as is enough
        (0b01_01_11_10, {"ROLL", "PITCH", "HEAD", "ROT"}),
        (0b00_10_11_10, {"ROLL", "PITCH", "HEAD", "ROT"}),
        (0b01_10_11_01, {"HEAD"}),
    ],
)
def test_how_far_the_calibration_must_be(calibration: int, bad: set[str]) -> None:
    decoder = Decoder("ndof")
    assert decoder.calibration == (0, 0, 0, 0), "before the first reading"
    assert {key for key, u in decoded(decoder, calibration=calibration).items() if u.flags == BAD} == bad
    assert bool(decoder.trouble) is bool(bad)


def test_a_chip_without_sensor_fusion_fails_everything_with_the_reason() -> None:
    values = decoded(status=1, error=3)
    assert set(values) == {"ROLL", "PITCH", "HEAD", "ROT", "ANORM", "ALAT", "ALONG"}
    assert all(u.flags == FAIL and u.value is None for u in values.values())
    assert values["ROLL"].reason == "the sensor fusion is not running (status 1: the self-test failed)"
    assert decoded(status=0)["HEAD"].reason == "the sensor fusion is not running (status 0)"
    reason = "the sensor fusion is not running (status 5: error 11)"
    assert decoded(status=5, error=11)["HEAD"] == Update("HEAD", None, FAIL, reason)
    assert set(decoded(Decoder("imu"), status=0)) == {"ROLL", "PITCH", "YAW", "ROT", "ANORM", "ALAT", "ALONG"}


@pytest.mark.parametrize(
    "what",
    [
        {"sky": (0, 0, 0)},
        {"sky": (700, 0, 0)},
        {"heading": 5761},
        {"heading": -1},
        {"force": (0, 0, 32767)},
    ],
)
def test_impossible_readings_are_refused(what: dict[str, object]) -> None:
    assert Decoder("ndof").decode(*block(**what)) is None  # type: ignore[arg-type]


@given(st.binary(max_size=40), st.binary(max_size=20))
def test_no_register_contents_raise(data: bytes, fused: bytes) -> None:
    for update in Decoder("ndof").decode(data, fused) or ():
        assert update.value is None or math.isfinite(float(update.value))


@given(st.binary(min_size=24, max_size=24), st.binary(min_size=7, max_size=7), st.integers(0, 255))
def test_values_stay_within_their_ranges_for_any_registers(data: bytes, fused: bytes, where: int) -> None:
    sky = struct.pack("<3h", 981, 0, 0) + fused
    for update in Decoder("imu").decode(data, sky[:11] + b"\x05\x00") or ():
        limit = {"ROLL": 180, "PITCH": 90, "YAW": 180, "ROT": 2100}.get(update.key, 17)
        assert update.value is not None
        assert abs(float(update.value)) <= limit


def test_the_self_test_names_the_failed_part() -> None:
    assert protocol.self_test(0x0F, "ndof") == ""
    assert protocol.self_test(0b1001, "ndof") == "self-test failed: magnetometer, gyroscope"
    assert protocol.self_test(0b1101, "imu") == ""


def test_the_mountings_of_the_data_sheet() -> None:
    """The placements P0 to P7 lie flat; the register values are those of the table in the data sheet."""
    printed = {
        (0x21, 0x04),
        (0x24, 0x00),
        (0x24, 0x06),
        (0x21, 0x02),
        (0x24, 0x03),
        (0x21, 0x01),
        (0x21, 0x07),
        (0x24, 0x05),
    }
    assert {both for (_, up), both in protocol.MOUNTINGS.items() if up.endswith("z")} == printed
    assert protocol.MOUNTINGS["y", "z"] == (0x24, 0x00)  # the factory setting
    assert len(protocol.MOUNTINGS) == 24
    assert protocol.remap("x", "-x") is None


def test_what_is_beyond_the_ranges_of_the_chip_is_refused() -> None:
    def used(**changes: int) -> bool:
        raw = {"force": 0, "heading": 0, "up": 981, **changes}
        data = struct.pack("<3h6x3hh4x", raw["force"], 0, 981, 0, 0, 0, raw["heading"])
        fused = struct.pack("<3hBBBBBBB", 0, 0, raw["up"], 0, 0xFF, 0, 0, 0, protocol.RUNNING, 0)
        return Decoder("ndof").decode(data, fused) is not None

    assert [used(heading=raw) for raw in (-1, 0, 5760, 5761)] == [False, True, True, False]
    assert [used(force=raw) for raw in (-16182, -16180, 16180, 16182)] == [False, True, True, False]
    assert [used(up=raw) for raw in (931, 932, 1029, 1030)] == [False, True, True, False]


def test_every_status_that_the_data_sheet_lists_has_its_words() -> None:
    errors = [decoded(status=1, error=code)["HEAD"].reason.partition(": ")[2] for code in range(1, 11)]
    assert len({*errors, "error 11"}) == 11
    assert all(errors)
    assert not any(words.startswith("error") for words in errors)
    replies = [protocol.REPLIES[found[1]] for code in range(1, 11) if (found := protocol.reply(bytes((0xEE, code))))]
    assert len(set(replies)) == 10
    assert replies[0] == "", "success"
    assert replies[protocol.OVERRUN - 1] == "wrong start byte"
    assert not {0, 11} & (protocol.ERRORS.keys() | protocol.REPLIES.keys())


# -- the serial line ---------------------------------------------------------------------------------------------------


def test_frames_are_those_of_the_data_sheet() -> None:
    assert protocol.read_request(0x00, 1) == b"\xaa\x01\x00\x01"
    assert protocol.write_request(0x3D, [0x0C]) == b"\xaa\x00\x3d\x01\x0c"
    assert protocol.reply(b"\xee\x01") == (b"", 1)
    assert protocol.reply(b"\xee\x07") == (b"", 7)
    assert protocol.reply(b"\xbb\x02\x34\x12") == (b"\x34\x12", 1)
    assert protocol.reply(b"\xbb\x02\x34") is None
    assert protocol.reply(b"\xbb") is None
    assert protocol.reply(b"\xbb\x01\xee\xff") == (b"\xee", 1)
    assert protocol.reply(b"\x00\x12\xee\x08") == (b"", 8)
    assert protocol.reply(b"\x00\xbb\x01\x34") == (b"\x34", 1)
    assert protocol.reply(b"\x00\xee") is None
    assert protocol.reply(b"") is None


@given(st.binary(max_size=300))
def test_no_bytes_make_an_answer_raise(data: bytes) -> None:
    protocol.reply(data)


# -- a virtual chip ----------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


@pytest.fixture
def bus() -> Iterator[i2c.VirtualBus]:
    bus = i2c.bus(next(numbers))
    yield bus
    bus.detach(0x28)


def options(bus: i2c.VirtualBus) -> dict[str, object]:
    return {"library": "fixgw.hw_sim.i2c", "bus": bus.number, "rate": 100.0}


def test_the_database_follows_the_aircraft(bus: i2c.VirtualBus, db: Database) -> None:
    aircraft = Aircraft()
    aircraft.step(60.0)
    chip = bus.attach(0x28, Bno055())
    chip.look(aircraft)
    truth = aircraft.values()
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: all(db.read(key).good for key in plugin.decoder.keys) and not plugin.health())
        for key, within in {"ROLL": 0.2, "PITCH": 0.2, "HEAD": 0.1, "ROT": 0.6, "ANORM": 0.02, "ALONG": 0.02}.items():
            assert db.read(key).value == pytest.approx(truth[key], abs=within), key
            assert db.read(key).source == SOURCE
        assert plugin.get_status()["calibration (0 to 3)"]["gyroscope"] == 3
        assert adds_up(plugin.counts, "absurd values")


@pytest.mark.parametrize(("forward", "up"), [(f, u) for f, u in product(AXES, AXES) if f[-1] != u[-1]])
def test_the_chip_can_be_mounted_in_any_orientation(forward: str, up: str) -> None:
    """The chip's remapping and ours together undo each of the 24 mountings."""
    chip = Bno055(forward, up)
    chip.roll, chip.pitch, chip.heading, chip.force = 20.0, 5.0, 123.0, (0.1, 0.2, 1.5)
    chip.write(protocol.REMAP, bytes(protocol.MOUNTINGS[forward, up]))
    chip.write(protocol.MODE, b"\x0c")
    updates = Decoder("ndof").decode(chip.read(protocol.DATA, 24), chip.read(protocol.FUSED, 13))
    assert updates is not None
    values = {u.key: u.value for u in updates}
    assert values["ROLL"] == pytest.approx(20.0, abs=0.2)
    assert values["PITCH"] == pytest.approx(5.0, abs=0.2)
    assert values["ALAT"] == pytest.approx(0.1, abs=0.03)
    assert values["ALONG"] == pytest.approx(0.2, abs=0.03)
    assert values["ANORM"] == pytest.approx(1.5, abs=0.03)


def test_a_chip_is_waited_for_fails_at_once_when_lost_and_recovers(bus: i2c.VirtualBus, db: Database) -> None:
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: plugin.counts.get("outages"))
        assert plugin.health() == f"i2c-{bus.number} 0x28: no answer"
        bus.attach(0x28, Bno055())
        until(lambda: db.read("ROLL").good)
        bus.unplug(0x28)
        until(lambda: db.read("ROLL").fail and db.read("HEAD").fail)
        assert "no answer" in db.read("ROLL").reason(FAIL)
        bus.plug(0x28)
        until(lambda: db.read("ROLL").good and not plugin.health())


def test_a_missing_bus_is_reported(db: Database) -> None:
    with running(Plugin, library="fixgw.hw_sim.i2c", bus=next(numbers)) as plugin:
        until(lambda: "no such bus" in plugin.health())


def test_another_chip_at_the_address_is_refused(bus: i2c.VirtualBus, db: Database) -> None:
    bus.attach(0x28, Bmp280())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "is not a BNO055" in plugin.health())
        assert not db.read("ROLL").good


def test_a_chip_that_another_program_left_on_its_other_page_is_found(bus: i2c.VirtualBus, db: Database) -> None:
    class Paged(Bno055):
        """The second page has other registers, all of them zero here, but for the number of the page."""

        def read(self, register: int, length: int) -> bytes:
            data = super().read(register, length)
            return data if not self.registers[0x07] or register == 0x07 else bytes(length)

        def write(self, register: int, data: bytes) -> None:
            if not self.registers[0x07] or register == 0x07:
                super().write(register, data)

    chip = bus.attach(0x28, Paged())
    chip.registers[0x07] = 1
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("ROLL").good and not plugin.health())


def test_one_failed_transfer_has_no_effect(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x28, Bno055())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("ROLL").good)
        chip.faults.refuse = 0.05
        until(lambda: plugin.counts["read errors"] > 5)
        chip.faults.refuse = 0.0
        until(lambda: db.read("ROLL").good and not plugin.health())
        assert adds_up(plugin.counts, "absurd values")


def test_a_chip_that_lost_power_for_a_moment_is_set_up_again(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x28, Bno055())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("ROLL").good)
        failed = threading.Event()
        db.subscribe("ROLL", lambda key, reading: failed.set() if reading.fail else None)
        chip.power_up()
        assert failed.wait(20)
        until(lambda: db.read("ROLL").good and not plugin.health())


def test_a_setting_garbled_on_the_bus_gives_no_attitude(bus: i2c.VirtualBus, db: Database) -> None:
    class Garbling(Bno055):
        garbles = True

        def write(self, register: int, data: bytes) -> None:
            super().write(register, b"\x06" + data[1:] if self.garbles and register == 0x41 else data)

    chip = bus.attach(0x28, Garbling())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: "did not accept its configuration" in plugin.health())
        assert not db.read("ROLL").good
        chip.garbles = False
        until(lambda: db.read("ROLL").good and not plugin.health())


@pytest.mark.slow
def test_a_chip_that_repeats_itself_fails_and_stays_failed(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x28, Bno055())
    plugin = Plugin(SOURCE, options(bus))
    plugin.stuck_after_s = 0.1  # type: ignore[misc]
    plugin.start()
    try:
        until(lambda: db.read("ROLL").good)
        chip.registers[0x08] ^= 1
        chip.faults.stuck = True
        until(lambda: db.read("ROLL").fail)
        until(lambda: plugin.counts.get("failed attempts"))
        chip.faults.stuck = False
        until(lambda: db.read("ROLL").good and not plugin.health())
    finally:
        plugin.shutdown()


@pytest.mark.slow
def test_flipped_bits_are_refused_or_within_range(bus: i2c.VirtualBus, db: Database) -> None:
    chip = bus.attach(0x28, Bno055())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("ROLL").good)
        chip.faults.flips = 0.2
        until(lambda: plugin.counts["absurd values"] > 3)
        chip.faults.flips = 0.0
        until(lambda: db.read("ROLL").good and not plugin.health())


def test_it_can_be_started_again_after_a_stop(bus: i2c.VirtualBus, db: Database) -> None:
    bus.attach(0x28, Bno055())
    for _ in range(3):
        with running(Plugin, **options(bus)) as plugin:
            until(lambda p=plugin: p.counts["used"])  # type: ignore[misc]


def test_an_impossible_mounting_is_a_problem(db: Database) -> None:
    import msgspec

    from fixgw.drivers.i2c_bno055 import Options

    assert list(Plugin.check(msgspec.convert({"forward": "x", "up": "-x"}, Options), db)) == [
        ("up", "-x is the same axis as `forward`, or its opposite")
    ]
    assert list(Plugin.claims(Options())) == [("i2c-1 0x28", "address")]
    assert list(Plugin.claims(Options(port="/dev/null"))) == [("/dev/null", "port")]


# -- on a serial port --------------------------------------------------------------------------------------------------


class Uart:
    """The virtual chip, wired for its serial protocol."""

    def __init__(self, port: VirtualPort, chip: Bno055) -> None:
        self.port, self.chip = port, chip
        self.ending = threading.Event()
        self.busy = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        heard = b""
        while not self.ending.is_set():
            heard += self.port.read(0.02)
            if len(heard) < 4 or (heard[1] == 0 and len(heard) < 4 + heard[3]):
                continue
            write, register, length = heard[1] == 0, heard[2], heard[3]
            data, heard = heard[4 : 4 + length], b""
            try:
                if self.busy:
                    self.busy -= 1
                    self.port.write(b"\xee\x07")
                elif write:
                    self.chip.write(register, data)
                    if not (register == 0x3F and data[0] & 0x20):
                        self.port.write(b"\xee\x01")
                else:
                    self.port.write(b"\xbb" + bytes((length,)) + self.chip.read(register, length))
            except OSError:  # it is still starting, and does not answer
                pass

    def close(self) -> None:
        self.ending.set()
        self.thread.join()


@pytest.mark.slow
def test_the_chip_works_on_a_serial_port_too(db: Database) -> None:
    with VirtualPort() as port:
        chip = Bno055()
        chip.roll = -12.0
        uart = Uart(port, chip)
        try:
            with running(Plugin, port=port.path) as plugin:
                until(lambda: db.read("ROLL").good)
                assert db.read("ROLL").value == pytest.approx(-12.0, abs=0.1)
                uart.busy = 1  # it was busy once
                until(lambda: plugin.counts["read errors"])
                until(lambda: db.read("ROLL").good)
                port.unplug()
                until(lambda: db.read("ROLL").fail)
                port.plug()
                until(lambda: db.read("ROLL").good and not plugin.health())
        finally:
            uart.close()


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = I2cBench.of(
        "fixgw.drivers.i2c_bno055",
        Bno055,
        "ROLL PITCH HEAD ROT ANORM ALONG ALAT",
        within={"ROLL": 0.2, "PITCH": 0.2, "HEAD": 0.1, "ROT": 0.6, "ANORM": 0.03, "ALONG": 0.03, "ALAT": 0.03},
        truth={"ALAT": 0.0},
        absurd={"ANORM": 30.0},
        repeats=True,
    )
