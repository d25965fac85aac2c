"""The bases of drivers for chips without their thread, by a clock that is wound by hand."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from fixgw.database import Database
from fixgw.drivers.links.chips import ChipOptions, ChipPoller, I2cOptions, I2cPoller, SpiOptions, SpiPoller
from fixgw.errors import DeviceError
from fixgw.kit.update import Update
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
