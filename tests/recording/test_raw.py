"""The encoding of raw data: everything comes back, and damage never raises."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers.links.can.frame import BRS, ERROR, EXTENDED, FD, FD_LENGTHS, REMOTE, Frame
from fixgw.kit.raw import DIRECTIONS, POLLED, Event, Failure, Heard, PinLevel
from fixgw.recording import raw

stamps = st.integers(0, 10**15).map(lambda us: us / 1e6)
frames = st.builds(
    Frame,
    st.integers(0, 0x7FF),
    st.sampled_from(FD_LENGTHS).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    st.sampled_from([0, 0, REMOTE, ERROR, FD, FD | BRS]),
    stamps,
) | st.builds(
    Frame, st.integers(0, 0x1FFFFFFF), st.binary(max_size=8), st.sampled_from([EXTENDED, EXTENDED | FD]), stamps
)
events = st.builds(
    Event, st.sampled_from(["serial", "can", "pins"]), st.sampled_from(["opened", "lost", "baud"]), st.text(max_size=50)
)
data = st.one_of(
    st.binary(max_size=300),
    st.lists(frames, max_size=5),
    st.tuples(st.integers(0, 255), st.binary(max_size=40)),
    st.just(POLLED),
    st.builds(Failure, st.integers(0, 255), st.integers(0, 200), st.text(max_size=50)),
    st.builds(PinLevel, st.integers(0, 53), st.booleans(), st.booleans()),
    events,
)


@st.composite
def entries(draw: st.DrawFn) -> Heard:
    what: Any = draw(data)
    directions = ["in", "out"] if isinstance(what, tuple) and not hasattr(what, "_fields") else DIRECTIONS
    if isinstance(what, list) and what:  # some frames of about the same time, too
        at = what[0].timestamp + draw(st.floats(0.0, 0.3))
        return Heard("eis", round(at, 6), draw(st.sampled_from(DIRECTIONS)), what)
    direction: Any = "in" if what is POLLED else draw(st.sampled_from(directions))
    return Heard("eis", draw(stamps), direction, what)


def plain(entry: Heard) -> Heard:
    """The entry as it comes back: frames as plain tuples, their stamps in milliseconds before it, at most 255."""
    if not isinstance(entry.data, list):
        return entry
    found = []
    for frame in entry.data:
        age = max(0, min(255, int((entry.stamp - frame.timestamp) * 1e3)))
        stamp = round(entry.stamp - age / 1e3, 6)
        found.append(raw.CanFrame(frame.arbitration_id, frame.data, frame.flags, stamp))
    return entry._replace(data=found)


@given(st.lists(entries(), max_size=12))
def test_everything_comes_back_in_order(given_entries: list[Heard]) -> None:
    assert raw.decode("eis", raw.encode(given_entries)) == [plain(entry) for entry in given_entries]


@given(st.lists(entries(), max_size=8), st.data())
def test_a_cut_message_yields_its_beginning(given_entries: list[Heard], chosen: st.DataObject) -> None:
    message = raw.encode(given_entries)
    found = raw.decode("eis", message[: chosen.draw(st.integers(0, len(message)))])
    assert found == [plain(entry) for entry in given_entries][: len(found)]


@given(st.binary(max_size=400))
def test_junk_never_raises(junk: bytes) -> None:
    for entry in raw.decode("eis", junk):
        assert isinstance(entry, Heard)


@given(st.lists(entries(), min_size=1, max_size=4), st.data())
def test_a_wrong_byte_never_raises(given_entries: list[Heard], chosen: st.DataObject) -> None:
    message = bytearray(raw.encode(given_entries))
    message[chosen.draw(st.integers(0, len(message) - 1))] ^= chosen.draw(st.integers(1, 255))
    raw.decode("eis", bytes(message))


def test_what_no_link_passes_on_is_left_out() -> None:
    strange: list[Any] = [None, "text", 12, (1, b"x", 3), {"a": 1}]
    known = Heard("eis", 1.0, "in", b"known")
    mixed = [known, *(Heard("eis", 1.0, "in", each) for each in strange), Heard("eis", float("nan"), "in", b"never")]
    assert raw.decode("eis", raw.encode(mixed)) == [known]


def test_the_channels() -> None:
    assert raw.topic(Heard("eis", 0.0, "in", b"")) == "/raw/eis"
    assert raw.topic(Heard("socketcan can0", 0.0, "in", [])) == "/can/socketcan can0"
    assert raw.topic(Heard("slcan /dev/x", 0.0, "in", Event("can", "lost", "gone"))) == "/can/slcan /dev/x"
    assert raw.topic(Heard("bmp", 0.0, "in", (0, b"\1"))) == "/raw/bmp"
    assert [raw.is_raw(t) for t in ("/raw/eis", "/can/slcan /dev/x", "/engine")] == ["eis", "slcan /dev/x", ""]
