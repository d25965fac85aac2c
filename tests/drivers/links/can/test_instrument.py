"""One instrument on a CAN bus, or on a serial line, without either: whom it trusts, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest

from fixgw.database import Database
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.instrument import CanInstrument
from fixgw.drivers.links.instrument import Instrument
from fixgw.kit.majority import FOREIGN
from fixgw.kit.update import Update
from tests.drivers.bus_bench import packaged_database


class Protocol:
    """Each frame is one byte of data, a number of knots; above 200 it is not the instrument's."""

    REFUSALS: ClassVar[tuple[str, ...]] = ("wrong checksum",)
    ids = frozenset({5})

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.refused = self.trouble = ""
        for name in "received", "used", *self.REFUSALS:
            counts.setdefault(name, 0)

    def feed(self, frames: Iterable[Frame] | bytes) -> Iterator[Update]:
        for each in frames:
            value = each if isinstance(each, int) else each.data[0]
            self.counts["received"] += 1
            if value > 200:
                self.counts["wrong checksum"] += 1
                self.refused = f"{value}: wrong checksum"
            else:
                self.counts["used"] += 1
                yield Update("IAS", float(value))


class OnBus(CanInstrument):
    KEYS = frozenset({"IAS"})

    def protocol(self) -> Any:
        return Protocol(self.counts)


class OnLine(Instrument):
    KEYS = frozenset({"IAS"})

    def protocol(self) -> Any:
        return Protocol(self.counts)


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


Feed = Callable[[Any, bytes], object]
KINDS: list[tuple[Callable[[], Any], Feed]] = [
    (lambda: OnBus("it", {}), lambda it, data: it.received([Frame(5, bytes([byte])) for byte in data])),
    (lambda: OnLine("it", {"port": "/dev/x"}), lambda it, data: it.received(data)),
]


@pytest.mark.parametrize(("make", "feed"), KINDS)
def test_what_most_of_the_frames_say_is_published(
    db: Database, make: Callable[[], Any], feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    it = make()
    feed(it, bytes([255, 255, 100]))
    assert it.counts == {**it.counts, "received": 3, "used": 1, "wrong checksum": 2}
    assert db.read("IAS").value == 0.0, "two of three frames were another device's"
    assert caplog.messages == ["refused 2 frames so far; the last: 255: wrong checksum"]
    feed(it, bytes([101]))
    assert db.read("IAS").value == 101.0
    assert not db.read("IAS").fail
    feed(it, bytes([255] * 3 + [102]))
    assert db.read("IAS").value == 102.0, "what is trusted stays so while a third of it is good"
    feed(it, bytes([255] * 20))
    assert db.read("IAS").fail
    it._trouble, it.heard_at, it.valid_at = "", it.clock(), it.clock()  # as if the port were open
    assert it.health() == FOREIGN
    it._protocol.SELF_EVIDENT = True
    assert it.health() == ("" if isinstance(it, OnLine) else FOREIGN)


def test_a_silent_instrument_is_reported_after_three_seconds(db: Database) -> None:
    it: Any = OnBus("it", {})
    now = 100.0
    it.clock = lambda: now
    assert it.health() == "no data"
    it.received([Frame(5, b"\x64")])
    now += 3.0
    assert it.health() == ""
    now += 0.1
    assert it.health() == "no data"
    it.received([Frame(5, b"\xff")])
    assert it.health() == "no data", "that was another device"
    it.received([Frame(5, b"\x64")])
    it._protocol.trouble = "a probe is missing"
    assert it.health() == "a probe is missing"


def test_with_the_bus_its_keys_fail_and_it_has_to_be_heard_again(db: Database) -> None:
    it = OnBus("it", {})
    it.received([Frame(5, b"\x64")])
    assert it.health() == ""
    it.lost("can0 is down")
    assert db.read("IAS").fail
    assert it.health() == "no data"
    it.received([Frame(5, b"\xff"), Frame(5, b"\x64"), Frame(5, b"\xff")])
    assert db.read("IAS").fail, "it may be another instrument now"
