"""Common to all chips on buses: missing libraries, and requirements on the machine."""

from __future__ import annotations

import errno
import time

import pytest

from fixgw.drivers import i2c_bno055
from fixgw.drivers.i2c_bmp import Options, Plugin
from fixgw.drivers.links import chips
from fixgw.drivers.spi_mcp3008 import Options as SpiOptions
from fixgw.drivers.spi_mcp3008 import Plugin as SpiPlugin
from fixgw.errors import MissingLibrary
from fixgw.hw_sim import i2c, spi
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.hw_sim.devices.x728 import X728
from fixgw.plugin import Device, Feeds, Finding
from tests.drivers.bus_bench import numbers, packaged_database, running, until
from tests.drivers.test_spi_mcp3008 import CHANNELS

pytestmark = pytest.mark.slow


def test_a_missing_library_is_named_with_the_extra_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "smbus2", None)
    with pytest.raises(MissingLibrary, match=r"smbus2 is not installed: .*pip install 'smbus2"):
        Plugin("x", {}).start()
    with pytest.raises(MissingLibrary, match=r"nosuchlibrary is not installed$"):
        Plugin("x", {"library": "nosuchlibrary"}).start()
    monkeypatch.setitem(__import__("sys").modules, "spidev", None)
    with pytest.raises(MissingLibrary, match="pip install 'spidev"):
        SpiPlugin("x", {"channels": CHANNELS}).start()


def test_the_doctor_learns_the_requirements() -> None:
    asked = list(Plugin.preflight(Options(bus=4, keys={"VS": None})))
    assert Device("/dev/i2c-4", "i2c", "sudo raspi-config nonint do_i2c 0") in asked
    assert Feeds(("AIRPRESS", "ALT", "PALT")) in asked
    (missing,) = chips.preflight("no_such_library", "smbus2", "i2c")
    assert missing == Finding("problem", "no_such_library is not installed")
    import msgspec

    options = msgspec.convert({"channels": CHANNELS, "bus": 1}, SpiOptions)
    assert Device("/dev/spidev1.0", "spi", "sudo raspi-config nonint do_spi 0") in list(SpiPlugin.preflight(options))


def test_a_virtual_library_needs_no_device() -> None:
    asked = list(Plugin.preflight(Options(library="fixgw.hw_sim.i2c")))
    assert [type(a) for a in asked] == [Feeds]


def test_the_virtual_bus_has_the_functions_of_the_real_one() -> None:
    """Compare names and leading parameters, so that tested code runs on real hardware."""
    import inspect

    smbus2 = pytest.importorskip("smbus2")
    for name, function in inspect.getmembers(i2c.SMBus, inspect.isfunction):
        if not name.startswith("_"):
            real = list(inspect.signature(getattr(smbus2.SMBus, name)).parameters)
            assert list(inspect.signature(function).parameters) == real, name


def test_the_virtual_spi_bus_has_the_functions_of_the_real_one() -> None:
    import inspect

    spidev = pytest.importorskip("spidev")  # it has no wheel, so it may not be installed
    for name, _ in inspect.getmembers(spi.SpiDev, inspect.isfunction):
        if not name.startswith("_"):
            assert hasattr(spidev.SpiDev, name)


def test_the_virtual_bus_refuses_what_the_real_one_refuses() -> None:
    bus = i2c.bus(next(numbers))
    with i2c.SMBus(bus.number) as smbus:
        with pytest.raises(OSError, match="Remote I/O error"):
            smbus.read_byte_data(0x20, 0)
        bus.attach(0x20, X728())
        with pytest.raises(ValueError, match="32"):
            smbus.read_i2c_block_data(0x20, 0, 33)
        assert smbus.read_word_data(0x20, 2) == 0x00CD  # low byte first, as in SMBus
        smbus.write_byte_data(0x20, 0x40, 7)
        assert smbus.read_byte_data(0x20, 0x40) == 7
    with pytest.raises(FileNotFoundError):
        i2c.SMBus(next(numbers))


def test_a_stuck_bus_is_noticed_at_the_first_transfer_that_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel gives up after about a second; to keep an attitude for three attempts would be too long."""
    bus = i2c.bus(next(numbers))
    bus.attach(0x28, Bno055())

    def held(address: int) -> i2c.Chip:
        time.sleep(0.6)
        raise TimeoutError(errno.ETIMEDOUT, "held")

    with (
        packaged_database() as db,
        running(i2c_bno055.Plugin, library="fixgw.hw_sim.i2c", bus=bus.number) as plugin,
    ):
        until(lambda: db.read("ROLL").good)
        monkeypatch.setattr(bus, "chip", held)
        until(lambda: db.read("ROLL").fail)
        assert plugin.counts["read errors"] == 1
        assert "no answer" in plugin.health()
