"""One instrument on a CAN bus, or on a serial line, without either: whom it trusts, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest
from msgspec import ValidationError

from fixgw.database import Database
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.instrument import CanInstrument
from fixgw.drivers.links.instrument import Instrument
from fixgw.kit.majority import FOREIGN
from fixgw.kit.publish import Publisher
from fixgw.kit.raw import Event, Heard
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


def test_discarded_bytes_do_not_make_an_instrument_a_stranger(db: Database) -> None:
    it: Any = OnLine("it", {"port": "/dev/x"})
    it.received(bytes([100]))
    before = it._protocol
    it.flushed()
    assert it._protocol is not before, "an unfinished frame will not be completed"
    it.received(bytes([255, 255, 101]))
    assert db.read("IAS").value == 101.0, "so many bad frames would be too many for one that has just been opened"
    interrupted: list[bool] = []
    it._protocol.interrupt = lambda: interrupted.append(True)
    before = it._protocol
    it.flushed()
    assert (it._protocol, interrupted) == (before, [True]), "it knows how to forget one"


def test_another_instrument_may_be_on_a_line_that_is_opened_again(db: Database) -> None:
    it = OnLine("it", {"port": "loop://"})
    it.received(bytes([100]))
    before = it._protocol
    it.open()
    it.close()
    assert it._protocol is not before
    it.received(bytes([255, 255, 101]))
    assert db.read("IAS").value == 100.0, "two of three frames were another device's"


def test_updates_that_are_due_because_data_stopped_are_published(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    due = [Update("IAS", 55.0)]
    monkeypatch.setattr(Protocol, "tick", lambda self: [due.pop()] if due else [], raising=False)
    it = OnLine("it", {"port": "/dev/x"})
    for _ in range(2):
        it.poll(0.0)
        assert db.read("IAS").value == 55.0
    assert due == []


@pytest.mark.parametrize("make", [make for make, _ in KINDS])
def test_what_the_instrument_says_of_itself_is_in_the_health(
    db: Database, make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = make()
    it._trouble, it.heard_at, it.valid_at = "", it.clock(), it.clock()
    assert it.health() == ""
    monkeypatch.setattr(Publisher, "trouble", "IAS: does not change")
    assert it.health() == "IAS: does not change"
    it._protocol.trouble = "a probe is missing"
    assert it.health() == "a probe is missing"


def test_a_recording_of_an_instrument_has_no_place_and_nothing_of_others() -> None:
    def anonymised(kind: Any, *entries: Heard, alone: bool = True, **options: Any) -> Any:
        return kind.anonymise(kind("it", options).options, [*entries], None, alone)

    frames = Heard("bus", 1.0, "in", [Frame(5), Frame(6), Frame(5, b"x")])
    event = Heard("bus", 0.0, "in", Event("can", "opened"))
    assert anonymised(OnBus, event, frames) == [event, frames._replace(data=[Frame(5), Frame(5, b"x")])]
    assert anonymised(OnBus, frames, alone=False) is None
    text = Heard("it", 1.0, "in", b"100")
    assert anonymised(OnLine, text, port="/dev/x") == [text]
    assert anonymised(OnLine, text, port="/dev/x", keys={"IAS": "LAT"}) is None

    class Receiver(OnLine):
        KEYS = frozenset({"LAT"})

    class ReceiverOnBus(OnBus):
        KEYS = frozenset({"LAT"})

    assert anonymised(Receiver, text, port="/dev/x", keys={"LAT": "IAS"}) is None
    assert anonymised(ReceiverOnBus, frames) is None


def test_the_keys_of_an_instrument_can_be_others_or_left_out(db: Database) -> None:
    class Two(OnLine):
        KEYS = frozenset({"IAS", "TAS"})

    def options(**given: Any) -> Any:
        return Two("it", {"port": "loop://", **given}).options

    assert sorted(Two.writes(options())) == ["IAS", "TAS"]
    assert sorted(Two.writes(options(keys={"IAS": "CAS"}))) == ["CAS", "TAS"]
    assert sorted(Two.writes(options(keys={"IAS": None}))) == ["TAS"]
    assert [*Two.check(options(keys={"IAS": "CAS"}, changes_within={"CAS": 3600}), db)] == []
    wrong = options(keys={"IAS": "NOSUCH"}, changes_within={"IAS": 30})
    assert [where for where, _ in Two.check(wrong, db)] == ["keys.IAS", "changes_within.IAS"]
    wrong = OnBus("it", {"interface": "socketcan", "changes_within": {"TAS": 30}})
    assert [where for where, _ in OnBus.check(wrong.options, db)] == ["changes_within.TAS"]  # type: ignore[misc]
    for seconds in 0.0, 3601.0:
        with pytest.raises(ValidationError):
            options(changes_within={"IAS": seconds})


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
