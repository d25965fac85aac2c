"""The X728 driver on virtual buses and pins: its fuel gauge, its pins, and the shutdown of the computer."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL, Database, Definition
from fixgw.drivers import ups
from fixgw.drivers.ups_x728 import Options, Plugin, protocol
from fixgw.hw_sim import gpio, i2c
from fixgw.hw_sim.bench.chips import I2cBench
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.x728 import X728
from tests.drivers.bus_bench import SOURCE, adds_up, numbers, packaged_database, running, until

pytestmark = pytest.mark.slow

LOST, OFF = 6, 26

# -- the gauge ---------------------------------------------------------------------------------------------------------


def test_registers_count_78_125_microvolts_and_256ths_of_a_percent() -> None:
    assert protocol.battery(b"\xcd\x00", b"\x5f\x80") == (4.1, 95.5)
    assert protocol.battery(b"\xcd\x00", b"\x6e\x00") == (4.1, 100.0)  # 110 %


@pytest.mark.parametrize(("voltage", "charge"), [(b"", b""), (b"\xff\xff", b"\xff\xff"), (b"\xcd\0", b"\xff\0")])
def test_impossible_cell_readings_are_refused(voltage: bytes, charge: bytes) -> None:
    assert protocol.battery(voltage, charge) is None


@pytest.mark.parametrize(
    ("voltage", "charge", "state"),
    [
        (0x6400, 0, (2.0, 0.0)),
        (0x63FF, 0, None),
        (0xFA00, 0, (5.0, 0.0)),
        (0xFA01, 0, None),
        (0xCD00, 0x8200, (4.1, 100.0)),  # 130 %
        (0xCD00, 0x8201, None),
    ],
)
def test_what_a_lithium_cell_can_have(voltage: int, charge: int, state: tuple[float, float] | None) -> None:
    assert protocol.battery(voltage.to_bytes(2), charge.to_bytes(2)) == state


@pytest.mark.parametrize(("voltage", "charge"), [(b"\xcd", b"\x5f\x80"), (b"\xcd\0", b"\x5f"), (b"\xcd\0\0", b"\0\0")])
def test_half_a_register_is_none(voltage: bytes, charge: bytes) -> None:
    assert protocol.battery(voltage, charge) is None


@pytest.mark.parametrize(
    ("percent", "lost", "charging"),
    [(98.9, False, True), (99.0, False, False), (98.9, True, False), (100.0, True, False)],
)
def test_with_supply_a_battery_that_is_not_full_is_charged(percent: float, lost: bool, charging: bool) -> None:
    assert {update.key: update.value for update in protocol.updates(4.1, percent, lost)} == {
        "BAT_VOLTAGE": 4.1,
        "BAT_REMAINING": round(percent),
        "BAT_CHARGING": charging,
        "POWER_FAIL": lost,
    }


@given(st.binary(max_size=3), st.binary(max_size=3))
def test_no_register_contents_raise(voltage: bytes, charge: bytes) -> None:
    found = protocol.battery(voltage, charge)
    assert found is None or (2.0 <= found[0] <= 5.0 and 0.0 <= found[1] <= 100.0)


# -- shutdown ----------------------------------------------------------------------------------------------------------


class Bench:
    """A `Shutdown` whose command creates a file."""

    def __init__(self, path: Path, clock: Clock, **options: Any) -> None:
        self.path, self.clock = path / "shut down", clock
        command = [sys.executable, "-c", f"open({str(self.path)!r}, 'a').write('x')"]
        self.db = Database([Definition(key="IAS", min=0.0, max=500.0, tolerance=2000, aux=("Vs",))])
        declared = msgspec.convert({"after": 30, "command": command, **options}, ups.ShutdownOptions)
        self.shutdown = ups.Shutdown(declared, lambda: self.db, logging.getLogger("test"))

    def fly(self, seconds: float, lost: bool, remaining: float = 50.0) -> None:
        for _ in range(int(seconds)):
            self.shutdown.update(lost, remaining, self.clock.now)
            self.clock.now += 1.0

    @property
    def commands(self) -> int:
        """How often the command has run to completion."""
        thread = self.shutdown._thread
        if thread is not None:
            thread.join(20)
        return len(self.path.read_text()) if self.path.exists() else 0


@pytest.mark.slow
def test_after_the_delay_without_supply_the_computer_is_shut_down_once(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, clock)
    bench.fly(30, lost=True)
    assert bench.commands == 0
    assert bench.shutdown.trouble == "on battery"
    bench.fly(5, lost=True)
    assert bench.commands == 1
    assert bench.shutdown.trouble == "shutting down"


def test_a_supply_that_returns_in_time_cancels_the_shutdown(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, clock)
    for _ in range(5):
        bench.fly(29, lost=True)
        bench.fly(1, lost=False)
    assert bench.commands == 0
    assert bench.shutdown.trouble == ""


@pytest.mark.slow
def test_the_shutdown_can_wait_for_a_low_battery(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, clock, below=20)
    bench.fly(300, lost=True, remaining=20.0)
    assert bench.commands == 0
    bench.fly(1, lost=True, remaining=19.9)
    assert bench.commands == 1


@pytest.mark.slow
def test_a_full_battery_does_not_prevent_the_shutdown(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, clock)
    bench.fly(35, lost=True, remaining=100.0)
    assert bench.commands == 1


@pytest.mark.slow
def test_it_never_shuts_down_in_flight_by_the_last_known_values(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, clock, unless="IAS > 30")
    bench.fly(100, lost=True)
    assert bench.commands == 0
    assert bench.shutdown.trouble == "on battery; shutdown withheld: cannot evaluate IAS > 30"
    bench.db.write("IAS", 90.0, "adc")
    bench.db.item("IAS").fail("no supply", "adc")
    bench.fly(100, lost=True)
    assert bench.commands == 0
    assert bench.shutdown.trouble == "on battery; shutdown withheld: IAS > 30"
    bench.db.write("IAS", 0.0, "adc")
    bench.db.item("IAS").fail("no supply", "adc")
    bench.fly(1, lost=True)
    assert bench.commands == 1


@pytest.mark.slow
def test_a_failed_command_is_reported_and_tried_again(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    command = [
        sys.executable,
        "-c",
        f"import sys; open({str(tmp_path / 'shut down')!r}, 'a').write('x'); sys.exit('no')",
    ]
    bench = Bench(tmp_path, clock, command=command)
    bench.fly(40, lost=True)
    assert bench.commands == 1
    assert "the shutdown failed: exit code 1: no" in caplog.text
    bench.fly(70, lost=True)
    assert bench.commands == 2
    bench = Bench(tmp_path, clock, command=["/no/such/program"])
    bench.fly(40, lost=True)
    bench.shutdown._thread.join(20)  # type: ignore[union-attr]
    assert "No such file" in caplog.text


def test_as_a_service_it_asks_systemd_by_a_file_and_reports_if_nothing_happens(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    bench = Bench(tmp_path, clock, command=[])
    bench.fly(30, lost=True)
    assert list(tmp_path.iterdir()) == []
    bench.fly(5, lost=True)
    assert bench.commands == 0
    (request,) = tmp_path.iterdir()
    assert request.name == "poweroff"
    request.unlink()
    assert "still up" not in caplog.text
    bench.fly(70, lost=True)
    assert "the computer is still up 60 s after the shutdown began" in caplog.text
    bench.shutdown._thread.join(20)  # type: ignore[union-attr]
    assert request.exists()


@pytest.mark.slow
def test_a_hung_command_is_ended(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ups, "COMMAND_LIMIT_S", 0.2)
    bench = Bench(tmp_path, clock, command=[sys.executable, "-c", "import time; time.sleep(60)"])
    bench.fly(40, lost=True)
    assert bench.commands == 0
    assert "timed out" in caplog.text


# -- a virtual board ---------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


@pytest.fixture
def bank() -> Iterator[gpio.Bank]:
    bank = gpio.BANK
    bank.reset()
    yield bank
    bank.reset()


@pytest.fixture
def bus(bank: gpio.Bank) -> Iterator[i2c.VirtualBus]:
    bus = i2c.bus(next(numbers))
    yield bus
    bus.detach(0x36)


def options(bus: i2c.VirtualBus, **more: Any) -> dict[str, Any]:
    given = {"library": "fixgw.hw_sim.i2c", "bus": bus.number, "pins": "fixgw.hw_sim.gpio", "rate": 50.0}
    return {**given, **more}


def test_battery_and_supply_reach_the_database(bus: i2c.VirtualBus, bank: gpio.Bank, db: Database) -> None:
    chip = bus.attach(0x36, X728())
    bank.drive(LOST, False)
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE and not plugin.health())
        assert db.read("BAT_VOLTAGE").value == pytest.approx(4.1)
        assert db.read("BAT_REMAINING").value == 95
        assert db.read("BAT_CHARGING").value is True
        assert db.read("POWER_FAIL").value is False
        bank.drive(LOST, True)
        chip.charge, chip.voltage = 60.0, 3.7
        until(lambda: db.read("POWER_FAIL").value is True and db.read("BAT_REMAINING").value == 60)
        assert db.read("BAT_CHARGING").value is False
        bank.drive(LOST, False)
        chip.charge = 100.0
        until(lambda: db.read("POWER_FAIL").value is False and db.read("BAT_REMAINING").value == 100)
        assert db.read("BAT_CHARGING").value is False
        assert adds_up(plugin.counts, "absurd values")


def test_a_lost_board_fails_its_keys_until_it_is_back(bus: i2c.VirtualBus, bank: gpio.Bank, db: Database) -> None:
    bus.attach(0x36, X728())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE)
        bus.unplug(0x36)
        until(lambda: db.read("BAT_VOLTAGE").fail and db.read("POWER_FAIL").fail)
        bus.plug(0x36)
        until(lambda: db.read("BAT_VOLTAGE").good and not plugin.health())
        bank.unplug()
        until(lambda: db.read("POWER_FAIL").fail)
        bank.plug()
        until(lambda: db.read("POWER_FAIL").good and not plugin.health())


def test_a_stopped_connection_leaves_no_value_that_looks_good_forever(
    bus: i2c.VirtualBus, bank: gpio.Bank, db: Database
) -> None:
    bus.attach(0x36, X728())
    with running(Plugin, **options(bus)):
        until(lambda: all(db.read(key).good for key in ups.KEYS))
    assert {db.read(key).reason(FAIL) for key in ups.KEYS} == {"stopped"}
    with running(Plugin, **options(bus)):
        until(lambda: all(db.read(key).good for key in ups.KEYS))


def test_nonsense_soon_fails_the_keys_although_they_never_age(
    bus: i2c.VirtualBus, bank: gpio.Bank, db: Database
) -> None:
    chip = bus.attach(0x36, X728())
    with running(Plugin, **options(bus)) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE)
        chip.voltage = 0.0
        until(lambda: db.read("BAT_VOLTAGE").fail)
        assert plugin.health() == "absurd values"


def test_without_a_pin_the_supply_is_not_written(bus: i2c.VirtualBus, bank: gpio.Bank, db: Database) -> None:
    bus.attach(0x36, X728())
    with running(Plugin, **options(bus, lost_pin=None)):
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE)
        assert db.read("POWER_FAIL").source != SOURCE
        assert bank.direction(LOST) is None


@pytest.mark.slow
def test_the_board_gets_a_pulse_before_the_command_runs(
    bus: i2c.VirtualBus, bank: gpio.Bank, db: Database, tmp_path: Path, clock: Clock
) -> None:
    done = tmp_path / "done"
    command = [sys.executable, "-c", f"open({str(done)!r}, 'w').close()"]
    bus.attach(0x36, X728())
    plugin = Plugin(SOURCE, options(bus, off_pin=OFF, shutdown={"after": 10, "command": command}))
    plugin.clock = clock
    plugin.start()
    try:

        def fly(seconds: float) -> None:
            for _ in range(int(seconds * 4)):
                polls = plugin.counts["polls"]
                clock.now += 0.25
                until(lambda p=polls: plugin.counts["polls"] > p)  # type: ignore[misc]

        fly(1)
        assert not bank.level(OFF)
        bank.drive(LOST, True)
        fly(9)
        assert not bank.level(OFF)
        fly(2)
        assert bank.level(OFF)
        assert not done.exists()
        fly(3)
        assert not bank.level(OFF)
        until(done.exists)
        times = [(time, level) for time, pin, level in bank.history if pin == OFF]
        assert [level for _, level in times][-2:] == [True, False]
        assert plugin.health() == "shutting down"
    finally:
        plugin.shutdown()


def test_wrong_options_are_found_without_a_board(db: Database) -> None:
    good = msgspec.convert({"shutdown": {"after": 60, "unless": "IAS > 30 or TACH1 > 0"}}, Options)
    assert list(Plugin.check(good, db)) == []
    assert list(Plugin.claims(good)) == [("i2c-1 0x36", "address"), ("GPIO6", "lost_pin")]
    wrong = msgspec.convert({"lost_pin": None, "shutdown": {"after": 60, "unless": "IASS > 30"}}, Options)
    assert list(Plugin.check(wrong, db)) == [
        ("shutdown.unless", "the database has no item 'IASS' (did you mean 'IAS'?)"),
        ("shutdown", "without `lost_pin` a loss of supply cannot be detected"),
    ]
    wrong = msgspec.convert({"shutdown": {"after": 60, "unless": "IAS > IAS.Vx0"}}, Options)
    assert [message[:24] for _, message in Plugin.check(wrong, db)] == ["there is no aux value 'I"]
    wrong = msgspec.convert({"shutdown": {"after": 60, "unless": "IAS >"}}, Options)
    assert [option for option, _ in Plugin.check(wrong, db)] == ["shutdown.unless"]


@pytest.mark.slow
def test_without_the_option_nothing_is_shut_down_or_imported() -> None:
    assert Options().shutdown is None
    code = "import fixgw.drivers.ups_x728, sys; assert not {'smbus2', 'RPi'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = I2cBench.of(
        "fixgw.drivers.ups_x728",
        X728,
        "BAT_VOLTAGE BAT_REMAINING BAT_CHARGING POWER_FAIL",
        options={"pins": "fixgw.hw_sim.gpio"},
        truth={"BAT_VOLTAGE": 4.1, "BAT_REMAINING": 95, "BAT_CHARGING": True, "POWER_FAIL": False},
        absurd={"voltage": 1.0},
    )
