"""The bases of drivers for chips without their thread, by a clock that is wound by hand."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from msgspec import ValidationError, convert

from fixgw.database import Database
from fixgw.drivers.links import chips
from fixgw.drivers.links.chips import ChipOptions, ChipPoller, I2cOptions, I2cPoller, SpiOptions, SpiPoller
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.kit import raw
from fixgw.kit.raw import POLLED, Buffer, Event, Failure, Feed, Heard
from fixgw.kit.update import Update
from fixgw.plugin import Device, Finding
from tests.drivers.bus_bench import packaged_database


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


class Chip(ChipPoller[ChipOptions]):
    """A chip that gives readings: a number, the name of a refusal, or an error."""

    KEYS = frozenset({"OAT"})
    GROUP = "i2c"
    place = "i2c-1 0x28"
    stuck_after_s = 5.0

    def __init__(self, **options: Any) -> None:
        super().__init__("chip", options)
        self.now = 100.0
        self.clock = lambda: self.now
        self.waited: list[float] = []
        self.stopping.wait = self.wait  # type: ignore[method-assign, assignment]
        self.gives: list[float | str | Exception] = []
        self.begun = 0
        self.missing: OSError | None = None
        self.takes_s = 0.0

    def wait(self, seconds: float) -> bool:
        self.waited.append(round(seconds, 6))
        self.now += seconds
        return False

    def connect(self) -> Any:
        return None

    def begin(self) -> None:
        self.begun += 1
        if self.missing is not None:
            raise self.missing

    def sample(self) -> str:
        self.now += self.takes_s
        given = self.gives.pop(0)
        if isinstance(given, Exception):
            raise given
        if isinstance(given, str):
            return given
        self.require_change(b"%f" % given)
        self.publisher.publish([Update("OAT", given)])
        return ""

    def give(self, *given: float | str | Exception) -> None:  # type: ignore[override]
        self.gives += given
        for _ in given:
            self.step(0.2)


GONE = OSError(errno.EIO, "Input/output error")


def test_a_chip_is_polled_at_its_rate(db: Database) -> None:
    chip = Chip(rate=10.0)
    chip.give(1.0, 2.0, 3.0)
    assert chip.waited == [0.1, 0.1], "the first at once"
    assert db.read("OAT").value == 3.0
    chip.now += 5.0
    chip.give(4.0, 5.0, 6.0)
    assert chip.waited == [0.1, 0.1, 0.1], "what was missed is made up for by one reading"
    slow = Chip(rate=2.0)
    slow.give(1.0)
    slow.step(0.2)
    slow.step(0.2)
    assert (slow.waited, slow.counts["polls"]) == ([0.2, 0.2], 1)
    assert slow.get_status() == {
        "device": "i2c-1 0x28",
        "connected": True,
        "polls": 1,
        "used": 1,
        "read errors": 0,
    }


def test_a_chip_that_fails_three_times_in_a_row_is_gone(db: Database) -> None:
    chip = Chip()
    chip.give(1.0, GONE, GONE, 2.0, GONE, GONE)
    assert chip.health() == ""
    assert chip.waited == [0.1, 0.02, 0.02, 0.1, 0.02], "it is asked again soon"
    chip.give(GONE)
    assert chip.health() == "i2c-1 0x28: no answer"
    assert db.read("OAT").fail
    assert chip.counts == {**chip.counts, "polls": 7, "used": 2, "read errors": 5}


def test_a_chip_that_has_never_answered_gets_no_second_attempt(db: Database) -> None:
    chip = Chip()
    chip.give(GONE)
    assert chip.health() == "i2c-1 0x28: no answer"
    chip.give(1.0)
    assert chip.health() == ""
    assert chip.begun == 2


@pytest.mark.parametrize(("takes_s", "health"), [(0.3, ""), (0.31, "i2c-1 0x28: no answer")])
def test_a_bus_that_is_stuck_is_not_asked_again(db: Database, takes_s: float, health: str) -> None:
    chip = Chip()
    chip.give(1.0)
    chip.now, chip._due, chip.takes_s = 0.0, 0.0, takes_s
    chip.give(GONE)
    assert chip.health() == health


def test_an_error_of_the_driver_is_final(db: Database) -> None:
    chip = Chip()
    chip.give(1.0, DeviceError("it is another chip"))
    assert chip.health() == "it is another chip"


def test_a_sensor_that_repeats_itself_for_too_long_is_stuck_even_if_opened_again(db: Database) -> None:
    chip = Chip()
    chip.give(1.0)
    chip.now += 4.9
    chip.give(1.0, 1.0)
    assert chip.health() == ""
    chip.now += 0.2
    chip.give(1.0)
    assert chip.health() == "i2c-1 0x28 is stuck: it keeps repeating the same reading"
    chip.give(1.0)
    assert chip.health() == "i2c-1 0x28 is stuck: it keeps repeating the same reading"
    chip.give(1.5)
    assert chip.health() == ""
    patient = Chip()
    patient.stuck_after_s = 0.0  # type: ignore[misc]
    patient.give(1.0)
    patient.now += 1000.0
    patient.give(1.0)
    assert patient.health() == ""


def test_keys_fail_after_a_second_of_refused_readings(db: Database) -> None:
    chip = Chip()
    chip.give(1.0)
    opened = chip.now

    def after(seconds: float, given: float | str) -> tuple[str, bool]:
        chip.now = chip._due = opened + seconds
        chip.give(given)
        return chip.health(), db.read("OAT").fail

    assert after(1.0, "wrong checksum") == ("", False)
    assert after(1.1, "wrong checksum") == ("wrong checksum", True)
    assert after(1.2, "too hot") == ("wrong checksum", True)
    assert after(1.3, 2.0) == ("", False)
    assert chip.counts == {**chip.counts, "polls": 5, "used": 2, "wrong checksum": 2, "too hot": 1}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        *((OSError(code, "?"), "no answer") for code in (errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT)),
        *(
            (OSError(code, "?"), "no such bus (is it enabled? see raspi-config, Interface Options)")
            for code in (errno.ENOENT, errno.ENODEV)
        ),
        (OSError(errno.EACCES, "?"), "permission denied (is the user in the group 'i2c'?)"),
        (OSError("something else"), "something else"),
        (OSError(), "OSError"),
    ],
)
def test_why_a_chip_cannot_be_opened_is_said_in_words(db: Database, error: OSError, words: str) -> None:
    chip = Chip()
    chip.missing = error
    chip.step(0.2)
    assert chip.health() == f"i2c-1 0x28: {words}"
    chip.missing = DeviceError("it is another chip")
    chip.step(0.2)
    assert chip.health() == "it is another chip"


def test_a_chip_is_looked_for_after_growing_pauses(db: Database) -> None:
    chip = Chip()
    chip.missing = GONE
    assert [chip.step(0.0) for _ in range(5)] == [0.25, 0.5, 1.0, 2.0, 2.0]


def test_a_chip_that_is_given_up_fails_its_keys_as_some_never_age(db: Database) -> None:
    chip = Chip()
    chip.give(1.0)
    chip.close()
    assert not db.read("OAT").fail, "it may be opened again"
    chip.stopping.set()
    chip.close()
    assert db.read("OAT").fail


class Bus:
    """Stands for an `smbus2.SMBus` and for a `spidev.SpiDev`."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[tuple[Any, ...]] = []
        self.closed = False

    def _answer(self, *asked: Any) -> Any:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    read_i2c_block_data = write_i2c_block_data = xfer2 = _answer

    def close(self) -> None:
        self.closed = True
        raise OSError("it is gone")


class OnI2c(I2cPoller[I2cOptions]):
    def sample(self) -> str:
        return ""


class OnSpi(SpiPoller[SpiOptions]):
    def sample(self) -> str:
        return ""


def test_a_long_answer_of_an_i2c_chip_is_read_in_blocks() -> None:
    chip, bus = OnI2c("chip", {"address": 0x28}), Bus()
    chip.bus = bus
    bus.answers = [[1] * 32, [2] * 8]
    assert chip.read(0x10, 40) == b"\1" * 32 + b"\2" * 8
    assert bus.asked == [(0x28, 0x10, 32), (0x28, 0x30, 8)]
    for short in [1], [1] * 3:
        bus.answers = [short]
        with pytest.raises(OSError, match="short answer"):
            chip.read(0, 2)
    bus.answers = [None]
    chip.write(0x20, 1, 2)
    assert bus.asked[-1] == (0x28, 0x20, [1, 2])
    chip.close()
    assert bus.closed
    assert chip.place == "i2c-1 0x28"
    assert [*OnI2c.claims(chip.options)] == [("i2c-1 0x28", "address")]


@pytest.mark.parametrize(("answers", "agreed"), [("aa", "a"), ("abb", "b"), ("abcdd", "d"), ("abcdef", "")])
def test_a_register_is_read_until_two_answers_agree(answers: str, agreed: str) -> None:
    chip, bus = OnI2c("chip", {"address": 0x28}), Bus()
    chip.bus = bus
    bus.answers = [answer.encode() for answer in answers]
    if agreed:
        assert chip.read_surely(0, 1) == agreed.encode()
    else:
        with pytest.raises(OSError, match="its answers do not agree"):
            chip.read_surely(0, 1)
    assert len(bus.asked) == len(answers) - (0 if agreed else 1)


def test_an_spi_chip_answers_as_much_as_it_is_sent() -> None:
    chip, bus = OnSpi("chip", {"bus": 1, "device": 2}), Bus()
    chip.bus = bus
    bus.answers = [[7, 8, 9], [7]]
    assert chip.transfer((1, 0x80, 0)) == b"\7\x08\x09"
    assert bus.asked == [([1, 0x80, 0],)]
    with pytest.raises(OSError, match="short answer"):
        chip.transfer((1, 0x80, 0))
    assert chip.place == "spi-1.2"
    assert OnSpi("chip", {}).place == "spi-0.0"
    assert OnI2c("chip", {"address": 8}).place == "i2c-1 0x08"
    assert [*OnSpi.claims(chip.options)] == [("spi-1.2", "device")]


def test_an_spi_bus_is_opened_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, int]] = []

    class SpiDev:
        max_speed_hz = mode = -1

        def open(self, bus: int, device: int) -> None:
            opened.append((bus, device))

    chip = OnSpi("chip", {"bus": 1, "device": 2, "speed": 500_000})
    monkeypatch.setattr(chip, "module", lambda: type("spidev", (), {"SpiDev": SpiDev}))
    spi = chip.connect()
    assert (opened, spi.max_speed_hz, spi.mode) == ([(1, 2)], 500_000, 0)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "option", "fit", "unfit"),
    [
        (I2cOptions, "address", (0x08, 0x77), (0x07, 0x78)),
        (I2cOptions, "bus", (0, 12), (-1,)),
        (I2cOptions, "rate", (0.1, 200.0), (0.0, 200.1)),
        (I2cOptions, "library", ("smbus2",), ("",)),
        (SpiOptions, "bus", (0, 6), (-1,)),
        (SpiOptions, "device", (0, 2), (-1,)),
        (SpiOptions, "speed", (1_000, 32_000_000), (999, 32_000_001)),
        (SpiOptions, "library", ("spidev",), ("",)),
    ],
)
def test_an_option_has_its_range(kind: type[Any], option: str, fit: tuple[Any, ...], unfit: tuple[Any, ...]) -> None:
    rest = {"address": 0x28} if kind is I2cOptions else {}
    for value in fit:
        assert getattr(convert({**rest, option: value}, kind), option) == value
    for value in unfit:
        with pytest.raises(ValidationError, match=option):
            convert({**rest, option: value}, kind)


def test_a_chip_is_read_ten_times_a_second_unless_it_is_said() -> None:
    i2c, spi = I2cOptions(address=0x28), SpiOptions()
    assert (i2c.rate, i2c.bus, i2c.library, i2c.changes_within) == (10.0, 1, "smbus2", {})
    assert (spi.rate, spi.bus, spi.device, spi.speed, spi.library) == (10.0, 0, 0, 1_000_000, "spidev")


def test_the_doctor_asks_for_the_real_bus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    i2c = Device("/dev/i2c-3", "i2c", "sudo raspi-config nonint do_i2c 0")
    spi = Device("/dev/spidev1.2", "spi", "sudo raspi-config nonint do_spi 0")
    assert [*OnI2c.preflight(I2cOptions(address=8, bus=3))] == [i2c]
    assert [*OnSpi.preflight(SpiOptions(bus=1, device=2))] == [spi]
    assert [*OnI2c.preflight(I2cOptions(address=8, library="virtual"))] == []
    assert [*OnSpi.preflight(SpiOptions(library="virtual"))] == []


@pytest.mark.parametrize("name", ["no_such_library", "no.such.library", "without_a_spec"])
def test_a_library_that_cannot_be_found_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "without_a_spec", ModuleType("without_a_spec"))
    monkeypatch.setitem(sys.modules, "smbus2", None)
    assert [*chips.preflight(name, "smbus2", "i2c")] == [Finding("problem", f"{name} is not installed", "")]
    (ours,) = chips.preflight("smbus2", "smbus2", "i2c")
    assert (ours.level, ours.message) == ("problem", "smbus2 is not installed")
    assert "pip install 'smbus2" in ours.fix


def test_the_library_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbus2", None)
    for library, words in (
        ("smbus2", "smbus2 is not installed: .*pip install 'smbus2"),
        ("x.y", "x.y is not installed$"),
    ):
        with pytest.raises(MissingLibrary, match=words):
            OnI2c("chip", {"address": 8, "library": library}).module()
    assert OnI2c("chip", {"address": 8, "library": "errno"}).module() is errno


def test_the_keys_of_a_chip_can_be_others_or_left_out(db: Database) -> None:
    class Keyed(ChipOptions, frozen=True, kw_only=True):
        keys: chips.KeysOption = {}

    class Two(ChipPoller[Keyed]):
        KEYS = frozenset({"OAT", "CAT"})

    def options(**given: Any) -> Any:
        return convert(given, Keyed)

    assert sorted(Two.writes(options())) == ["CAT", "OAT"]
    assert sorted(Two.writes(options(keys={"OAT": "RAT", "CAT": None}))) == ["RAT"]
    assert [*Two.check(options(keys={"OAT": "RAT"}, changes_within={"RAT": 3600}), db)] == []
    wrong = options(keys={"OAT": "NOSUCH"}, changes_within={"OAT": 30})
    assert [where for where, _ in Two.check(wrong, db)] == ["keys.OAT", "changes_within.OAT"]
    heard = [Heard("chip", 1.0, "in", (0, b"x"))]
    assert Two.anonymise(options(), heard, None, True) == heard  # type: ignore[arg-type]
    assert Two.anonymise(options(keys={"OAT": "LAT"}), heard, None, True) is None  # type: ignore[arg-type]
    assert [*Two.heard_as("chip", options())] == ["chip"]


# -- recorders and replays ---------------------------------------------------------------------------------------------


class Hearing:
    """A chip with a recorder."""

    def __init__(self, chip: ChipPoller[Any]) -> None:
        self.db = Database()
        self.buffer = Buffer(100)
        self.point = chip._raw = raw.point(self.db)
        raw.listen(self.db, self.buffer, logging.getLogger("recorder"))

    def heard(self) -> list[tuple[str, Any]]:
        return [(heard.direction, heard.data) for heard in self.buffer.take()]


def test_recorders_hear_what_an_i2c_chip_is_told_and_answers() -> None:
    chip, bus = OnI2c("chip", {"address": 0x28}), Bus()
    hearing = Hearing(chip)
    chip.bus = bus
    bus.answers = [[1, 2], None, OSError(errno.EIO, "Input/output error"), OSError("lost"), [1]]
    chip.read(0x10, 2)
    chip.write(0x20, 7, 8)
    assert hearing.heard() == [("in", (0x10, b"\1\2")), ("out", (0x20, b"\7\x08"))]
    with pytest.raises(OSError, match="Input/output"):
        chip.read(0x10, 2)
    with pytest.raises(OSError, match="lost"):
        chip.write(0x20, 7)
    with pytest.raises(OSError, match="short"):
        chip.read(0x10, 2)
    assert hearing.heard() == [
        ("in", Failure(0x10, errno.EIO, "[Errno 5] Input/output error")),
        ("out", Failure(0x20, 0, "lost")),
        ("in", Failure(0x10, errno.EIO, "[Errno 5] short answer")),
    ]


def test_recorders_hear_what_an_spi_chip_answers_by_what_it_was_asked() -> None:
    chip, bus = OnSpi("chip", {}), Bus()
    hearing = Hearing(chip)
    chip.bus = bus
    bus.answers = [[7, 8, 9], [7, 8, 9], OSError(errno.EIO, "Input/output error")]
    chip.transfer((0x01, 0x80, 0x00))
    chip.transfer((0x80, 0x00, 0x00))  # registers have fifteen bits
    with pytest.raises(OSError, match="Input/output"):
        chip.transfer((0x01, 0x80, 0x00))
    answer = b"\7\x08\x09"
    failure = Failure(0x0180, errno.EIO, "[Errno 5] Input/output error")
    assert hearing.heard() == [("in", (0x0180, answer)), ("in", (0x8000 % 0x7FFF, answer)), ("in", failure)]


def test_a_late_recorder_hears_how_the_chip_was_set_up(db: Database) -> None:
    chip = Chip()
    chip.begin = lambda: chip.record("out", 0x20, b"\1")  # type: ignore[method-assign]
    chip.give(1.0)
    chip.record("in", 0x10, b"\2")
    chip.record_failure("in", 0x10, GONE)
    opened = Event("chip", "opened")
    assert chip.facts() == [Heard("chip", 100.0, "out", (0x20, b"\1")), Heard("chip", 100.0, "in", opened)]
    hearing = Hearing(chip)
    chip.give(2.0)
    assert hearing.heard() == [("in", POLLED)]
    chip.give(GONE, GONE, GONE)
    lost = Event("chip", "lost", "i2c-1 0x28: no answer")
    assert hearing.heard() == [*[("in", POLLED)] * 3, ("in", lost)]
    chip.give(3.0)
    assert hearing.heard() == [("out", (0x20, b"\1")), ("in", opened), ("in", POLLED)]


@pytest.fixture
def feed() -> tuple[Feed, list[Any]]:
    sent: list[Any] = []
    feed = Feed(sent.append)
    feed.trouble = ""
    return feed, sent


def recorded(feed: Feed, *transfers: tuple[Any, Any]) -> None:
    feed.entries.extend(Heard("chip", 0.0, direction, data) for direction, data in transfers)


def test_in_a_replay_the_recorded_answers_are_given_once_each(feed: tuple[Feed, list[Any]]) -> None:
    taken, sent = feed
    i2c, spi = OnI2c("chip", {"address": 8}), OnSpi("chip", {})
    assert not i2c.replayed
    i2c._feed = spi._feed = taken
    assert i2c.replayed
    recorded(
        taken,
        ("out", (0x10, b"\1\2")),
        ("in", (0x11, b"\3\4")),
        ("in", (0x10, b"\5")),
        ("in", (0x10, b"\6\7")),
        ("in", (0x0180, b"\x08\x09\x0a")),
    )
    assert i2c.read(0x10, 2) == b"\6\7", "of that register, that long"
    with pytest.raises(OSError, match="the recording has no such answer") as raised:
        i2c.read(0x10, 2)
    assert raised.value.errno == errno.EIO
    assert spi.transfer((0x01, 0x80, 0x00)) == b"\x08\x09\x0a"
    assert len(taken.entries) == 3
    i2c.write(0x10, 1, 2)
    i2c.write(0x30, 1)
    assert sent == [(0x10, b"\1\2"), (0x30, b"\1")], "also what the recording does not have"
    assert len(taken.entries) == 2


@pytest.mark.parametrize(
    ("direction", "act"), [("in", lambda chip: chip.read(0x10, 2)), ("out", lambda chip: chip.write(0x10, 1))]
)
def test_in_a_replay_a_transfer_fails_as_recorded(
    feed: tuple[Feed, list[Any]], direction: Any, act: Callable[[OnI2c], object]
) -> None:
    taken, sent = feed
    chip = OnI2c("chip", {"address": 8})
    chip._feed = taken
    recorded(taken, (direction, Failure(0x10, errno.ENXIO, "No such device")))
    with pytest.raises(OSError, match="No such device") as raised:
        act(chip)
    assert raised.value.errno == errno.ENXIO
    assert not taken.entries
    assert sent == []


def test_in_a_replay_a_chip_is_polled_when_the_recording_was(feed: tuple[Feed, list[Any]], db: Database) -> None:
    taken, _ = feed
    chip = Chip()
    chip._feed = taken
    taken.trouble = "i2c-1 0x28: no answer"
    chip.step(0.0)
    assert chip.health() == "i2c-1 0x28: no answer"
    taken.trouble = ""
    chip.step(0.0)
    assert (chip.health(), chip.counts["polls"]) == ("", 0)
    for n in range(3):
        recorded(taken, ("in", (0, b"")), ("in", (1, b"")))
        chip.gives.append(float(n))
        chip._due = 1e9  # whatever the clock says
        chip.step(0.0)
        assert not taken.entries, "what it did not ask for is of this poll, too"
    assert (chip.counts["polls"], chip.counts["used"]) == (3, 3)
    taken.trouble = "i2c-1 0x28: no answer"
    chip.step(0.0)
    assert db.read("OAT").fail
