"""Pins over a library that notes what it is asked, and fails as the real ones do."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec import ValidationError, convert

from fixgw.drivers.links import pins
from fixgw.drivers.links.pins import Pin, PinOptions, Pins
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.kit import raw
from fixgw.kit.raw import Buffer, Event, Feed, Heard, PinLevel
from fixgw.plugin import Device, Finding

LIBRARY = """
import os
BCM, IN, OUT, LOW, HIGH = "BCM", "IN", "OUT", "LOW", "HIGH"
PUD_OFF, PUD_DOWN, PUD_UP, RISING, FALLING, BOTH = "OFF", "DOWN", "UP", "RISING", "FALLING", "BOTH"
asked, fails, levels, callbacks = [], {}, {}, {}
LG_WD = os.environ.get("LG_WD")

def note(what, *args):
    asked.append((what, *args))
    if what in fails:
        raise fails[what]

def setwarnings(on): note("setwarnings", on)
def setmode(mode): note("setmode", mode)
def setup(pin, direction, **more): note("setup", pin, direction, *more.items())
def output(pin, level): note("output", pin, level)
def cleanup(*pins): note("cleanup", *pins)
def remove_event_detect(pin): note("remove_event_detect", pin)

def input(pin):
    note("input", pin)
    return levels.get(pin, 0)

def add_event_detect(pin, edge, callback):
    note("add_event_detect", pin, edge)
    callbacks[pin] = callback

class PWM:
    def __init__(self, pin, frequency): note("PWM", pin, frequency)
    def start(self, duty): note("start", duty)
    def ChangeDutyCycle(self, duty): note("ChangeDutyCycle", duty)
    def stop(self): note("stop")
"""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"pins_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(LIBRARY)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def opened(library: str) -> Iterator[Pins]:
    it = Pins(library)
    it.open()
    yield it
    it.close()
    assert not +Pins._users


def module() -> Any:
    (found,) = (module for name, module in sys.modules.items() if name.startswith("pins_of_"))
    return found


def asked() -> list[Any]:
    """What the library has been asked since the last call."""
    calls: list[Any] = module().asked
    found = calls[:]
    calls.clear()
    return found


def test_the_library_is_asked_for_bcm_numbers_without_its_warnings(opened: Pins) -> None:
    assert asked() == [("setwarnings", False), ("setmode", "BCM")]


@pytest.mark.parametrize(("pull", "resistor"), [("up", "UP"), ("down", "DOWN"), ("none", "OFF")])
def test_an_input_has_the_resistor_that_is_asked_for(opened: Pins, pull: Any, resistor: str) -> None:
    asked()
    opened.input(17, pull)
    assert asked() == [("setup", 17, "IN", ("pull_up_down", resistor))]


def test_an_input_has_no_resistor_by_default(opened: Pins) -> None:
    asked()
    opened.input(17)
    assert asked() == [("setup", 17, "IN", ("pull_up_down", "OFF"))]


@pytest.mark.parametrize(("edge", "name"), [("both", "BOTH"), ("rising", "RISING"), ("falling", "FALLING")])
def test_edges_of_the_kind_that_is_asked_for_are_reported(opened: Pins, edge: Any, name: str) -> None:
    asked()
    called: list[int] = []
    assert opened.watch(17, lambda: called.append(17), edge)
    assert asked() == [("add_event_detect", 17, name)]
    module().callbacks[17](17)
    assert called == [17]
    assert opened.watch(18, print)
    assert asked() == [("add_event_detect", 18, "BOTH")]


def test_an_output_starts_at_its_level_and_follows(opened: Pins) -> None:
    asked()
    for high in True, False:
        opened.output(23, high)
        opened.write(23, high)
    assert asked() == [
        ("setup", 23, "OUT", ("initial", "HIGH")),
        ("output", 23, "HIGH"),
        ("setup", 23, "OUT", ("initial", "LOW")),
        ("output", 23, "LOW"),
    ]


def test_a_dimmed_output_pulses_until_it_is_told_to_stop(opened: Pins) -> None:
    asked()
    opened.dim(23, 0.25)
    opened.dim(23, 1.0)
    opened.stop_dimming(23, False)
    assert asked() == [
        *(("PWM", 23, 200.0), ("start", 25.0), ("ChangeDutyCycle", 100.0)),
        *(("stop",), ("output", 23, "LOW")),
    ]
    opened.dim(23, 0.5, 1000.0)
    assert asked() == [("PWM", 23, 1000.0), ("start", 50.0)]


def test_a_closed_connection_frees_its_inputs_and_leaves_its_outputs(opened: Pins) -> None:
    opened.input(17)
    opened.watch(17, print)
    opened.output(23, True)
    opened.output(24, True)
    opened.dim(24, 0.5)
    asked()
    module().fails.update({name: OSError("gone") for name in ("remove_event_detect", "stop", "cleanup")})
    opened.close()
    assert asked() == [("remove_event_detect", 17), ("stop",), ("cleanup", 17)]
    opened.open()
    asked()
    opened.close()
    assert asked() == [], "they are not its any more"


def test_a_lost_chip_is_given_up_by_the_last_of_its_users(opened: Pins, library: str) -> None:
    other = Pins(library)
    other.open()
    for it, pin in (opened, 23), (other, 24):
        it.input(pin - 6)
        it.output(pin, True)
    asked()
    opened.close(lost=True)
    assert sorted(asked()) == [("cleanup", 17), ("cleanup", 23)]
    other.close(lost=True)
    assert sorted(asked()) == [("cleanup",), ("cleanup", 18), ("cleanup", 24)]
    opened.open()
    opened.close()
    assert ("cleanup",) not in asked(), "the chip is there"


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("setup", lambda it: it.input(17)),
        ("setup", lambda it: it.output(17, True)),
        ("output", lambda it: it.write(17, True)),
        ("input", lambda it: it.read(17)),
        ("add_event_detect", lambda it: it.watch(17, print)),
        ("PWM", lambda it: it.dim(17, 0.5)),
    ],
)
def test_whatever_the_library_raises_is_an_error_of_the_pin(
    opened: Pins, name: str, act: Callable[[Pins], object]
) -> None:
    class OfLgpio(Exception):
        """Its errors are no OSErrors."""

    module().fails[name] = OfLgpio("no such pin")
    with pytest.raises(DeviceError, match=r"^GPIO17: no such pin$"):
        act(opened)
    if name != "add_event_detect" and name != "input":
        module().fails[name] = OfLgpio()
        with pytest.raises(DeviceError, match=r"^GPIO17: OfLgpio$"):
            act(opened)


def test_a_kernel_without_edges_is_not_a_lost_chip(opened: Pins) -> None:
    module().fails["add_event_detect"] = RuntimeError("Failed to add edge detection")
    assert opened.watch(17, print) is False
    opened.close()
    assert ("remove_event_detect", 17) not in asked()
    opened.open()
    module().fails.update({name: RuntimeError("gone") for name in ("add_event_detect", "input")})
    with pytest.raises(DeviceError, match="GPIO17: gone"):
        opened.watch(17, print)


# -- the library -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, tempfile.gettempdir()),
        ({"RUNTIME_DIRECTORY": "/run/fixgw:/run/other"}, "/run/fixgw"),
        ({"RUNTIME_DIRECTORY": "/run/fixgw", "LG_WD": "/home/pi"}, "/home/pi"),
    ],
)
def test_lgpio_writes_where_it_may(
    library: str, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], used: str
) -> None:
    for name in "RUNTIME_DIRECTORY", "LG_WD":
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    other = Pins(library)
    other.open()
    other.close()
    assert given.get("LG_WD") == module().LG_WD, "other libraries do not need it"
    del sys.modules[library]
    monkeypatch.setattr(pins, "REAL", library)
    it = Pins(library)
    it.open()
    it.close()
    assert used == module().LG_WD


def test_a_library_that_fails_is_told_from_one_that_is_missing(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"{library}.py").write_text("raise RuntimeError('not a Raspberry Pi')")
    with pytest.raises(DeviceError, match=f"^cannot use {library}: not a Raspberry Pi$"):
        Pins(library).open()
    for name, hint in ("no_such_library", ""), ("no.such.library", ""), ("RPi.GPIO", ": .*pip install 'rpi-lgpio"):
        monkeypatch.setitem(sys.modules, "RPi", None)
        with pytest.raises(MissingLibrary, match=f"^{name} is not installed{hint}" + ("" if hint else "$")):
            Pins(name).open()
        with pytest.raises(MissingLibrary):
            Pins(name).require()
    assert not +Pins._users


def test_the_doctor_looks_for_the_library_and_the_chip(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*pins.preflight(library)] == []
    monkeypatch.setitem(sys.modules, "without_a_spec", ModuleType("without_a_spec"))
    for name in "no_such_library", "no.such.library", "without_a_spec":
        with pytest.raises(MissingLibrary):
            Pins(name).require()
        assert [*pins.preflight(name)] == [Finding("problem", f"no module {name}", "")]
    monkeypatch.setitem(sys.modules, "RPi", None)
    missing, chip = pins.preflight("RPi.GPIO")
    assert isinstance(missing, Finding)
    assert "pip install 'rpi-lgpio" in missing.fix
    assert chip == Device("/dev/gpiochip0", "gpio")


def test_pins_are_those_of_the_chip() -> None:
    assert [convert(pin, Pin) for pin in (0, 53)] == [0, 53]
    for pin in -1, 54:
        with pytest.raises(ValidationError):
            convert(pin, Pin)
    assert PinOptions().library == "RPi.GPIO"
    assert pins.resource(17) == "GPIO17"


# -- recorders ---------------------------------------------------------------------------------------------------------


def test_recorders_hear_of_levels_and_edges(library: str) -> None:
    class Db:
        pass

    db, buffer, now = Db(), Buffer(100), [5.0]
    it = Pins(library)
    it.tie(raw.point(db), "panel", lambda: now[0])
    it.open()
    it.input(17)
    it.watch(17, lambda: it.read(17))
    module().fails["add_event_detect"] = RuntimeError("no edges")
    it.watch(18, print)
    it.watch(19, print)
    raw.listen(db, buffer, logging.getLogger("recorder"))

    def heard(*data: Any) -> list[Heard]:
        return [Heard("panel", now[0], "in", each) for each in data]

    assert buffer.take() == []
    it.set_up()
    opened = Event("pins", "opened", "18,19")
    assert buffer.take() == heard(opened)
    now[0] = 6.0
    module().levels[17] = 1
    module().callbacks[17](17)
    assert buffer.take() == heard(PinLevel(17, True), PinLevel(17, True, edge=True)), "the level that it led to first"
    it.read(17)
    assert buffer.take() == [], "it is the same"
    now[0] = 7.0
    assert it.levels() == heard(PinLevel(18, False), PinLevel(19, False), PinLevel(17, True))
    assert raw.point(db).facts() == [*it.levels(), *heard(opened)]
    it.lost("stopped")
    assert buffer.take() == heard(Event("pins", "lost", "stopped"))
    it.close()
    it.open()
    assert it.facts() == heard(Event("pins", "opened")), "nothing is known of it any more"
    it.close()


def test_in_a_replay_no_library_is_needed() -> None:
    class Db:
        pass

    feed = Feed(print)
    db = Db()
    raw.point(db).feeds = lambda name: feed if name == "panel" else None
    it = Pins("no_such_library")
    it.tie(raw.point(db), "panel", lambda: 0.0)
    it.require()
    with pytest.raises(DeviceError, match="the recording has no data of it"):
        it.open()
    feed.trouble = ""
    feed.levels[17] = True
    it.open()
    it.input(17)
    assert it.read(17)
    it.close()
    assert not +Pins._users
    with pytest.raises(DeviceError):
        it.read(17)
