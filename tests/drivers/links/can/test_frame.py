"""CAN frames: validity, the send queue, identifier filters, and error frames."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers.links.can.frame import (
    ERROR,
    EXTENDED,
    FD,
    REMOTE,
    BusError,
    Frame,
    SendQueue,
    decode_error,
    masks,
    priority,
    validate,
)

base_ids = st.integers(0, 0x7FF)
extended_ids = st.integers(0, 0x1FFFFFFF)
frames = st.one_of(
    st.builds(Frame, base_ids, st.binary(max_size=8)),
    st.builds(Frame, extended_ids, st.binary(max_size=8), st.just(EXTENDED)),
)


@given(frames)
def test_ordinary_frames_are_valid(frame: Frame) -> None:
    validate(frame)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (Frame(0x800), "0x800 does not fit into 11 bits"),
        (Frame(-1), "-0x1 does not fit into 11 bits"),
        (Frame(0x20000000, b"", EXTENDED), "0x20000000 does not fit into 29 bits"),
        (Frame(1, bytes(9)), "9 data bytes do not fit into a classic frame"),
        (Frame(1, bytes(12)), "12 data bytes do not fit into a classic frame"),
        (Frame(1, bytes(9), FD), "9 data bytes do not fit into a CAN FD frame"),
        (Frame(1, bytes(65), FD), "65 data bytes do not fit into a CAN FD frame"),
        (Frame(1, b"", ERROR), "an error frame, or a remote CAN FD frame, cannot be sent"),
        (Frame(1, b"", FD | REMOTE), "an error frame, or a remote CAN FD frame, cannot be sent"),
    ],
)
def test_a_frame_that_no_bus_can_carry_is_refused(frame: Frame, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        validate(frame)


@pytest.mark.parametrize(
    "frame", [Frame(0), Frame(0x7FF, bytes(8)), Frame(0x1FFFFFFF, bytes(8), EXTENDED), Frame(1, bytes(8), REMOTE)]
)
def test_the_longest_frame_with_the_largest_identifier_is_valid(frame: Frame) -> None:
    validate(frame)


def test_a_can_fd_frame_has_one_of_sixteen_lengths() -> None:
    """ISO 11898-1, table of the data length code."""

    def fits(length: int) -> bool:
        try:
            validate(Frame(1, bytes(length), FD))
        except ValueError:
            return False
        return True

    assert [n for n in range(100) if fits(n)] == [*range(9), 12, 16, 20, 24, 32, 48, 64]


def test_arbitration_is_won_by_the_lower_identifier_and_by_base_frames() -> None:
    order = [Frame(0x122), Frame(0x123), Frame(0x123 << 18, b"", EXTENDED), Frame(0x124), Frame(0x7FF)]
    assert sorted(order, key=priority) == order


# -- the queue ---------------------------------------------------------------------------------------------------------


def drain(queue: SendQueue) -> list[Frame]:
    return [queue.pop()[0] for _ in range(len(queue))]


def test_the_highest_priority_is_sent_first() -> None:
    queue = SendQueue(10)
    for identifier in (0x300, 0x100, 0x200):
        queue.push(Frame(identifier), origin=hex(identifier))
    assert [queue.pop() for _ in range(3)] == [(Frame(i), hex(i)) for i in (0x100, 0x200, 0x300)]
    with pytest.raises(IndexError):
        queue.pop()


def test_when_full_the_lowest_priority_loses_its_oldest() -> None:
    queue = SendQueue(3)
    for frame in (Frame(0x300, b"old"), Frame(0x300, b"new"), Frame(0x200)):
        assert queue.push(frame) is None
    assert queue.push(Frame(0x100)) == Frame(0x300, b"old")
    assert queue.push(Frame(0x400)) == Frame(0x400)
    assert queue.push(Frame(0x300, b"newest")) == Frame(0x300, b"new")
    assert drain(queue) == [Frame(0x100), Frame(0x200), Frame(0x300, b"newest")]


def test_an_unsent_frame_goes_back_to_the_front() -> None:
    queue = SendQueue(2)
    for data in (b"1", b"2"):
        queue.push(Frame(0x100, data))
    first, origin = queue.pop()
    assert queue.put_back(first, origin) is None
    assert drain(queue) == [Frame(0x100, b"1"), Frame(0x100, b"2")]


def test_a_frame_put_back_into_a_full_queue_displaces_the_lowest_priority() -> None:
    queue = SendQueue(1)
    queue.push(Frame(0x100))
    first, _ = queue.pop()
    queue.push(Frame(0x200))
    assert queue.put_back(first) == Frame(0x200)
    first, _ = queue.pop()
    queue.push(Frame(0x050))
    assert queue.put_back(first) == first


@given(st.integers(1, 20), st.lists(st.one_of(st.integers(0, 12), st.none()), max_size=200))
def test_the_queue_is_bounded_keeps_the_order_of_each_identifier_and_loses_only_the_lowest(
    size: int, steps: list[int | None]
) -> None:
    queue, kept, gone = SendQueue(size), list[Frame](), defaultdict[int, list[int]](list)
    for serial, step in enumerate(steps):
        if step is None:
            if queue:
                frame, _ = queue.pop()
                assert frame.arbitration_id == min(f.arbitration_id for f in kept)
                kept.remove(frame)
                gone[frame.arbitration_id].append(int.from_bytes(frame.data, "big"))
            continue
        frame = Frame(step, serial.to_bytes(2, "big"))
        lost = queue.push(frame)
        kept.append(frame)
        if lost is not None:
            assert len(kept) > size
            assert lost.arbitration_id == max(f.arbitration_id for f in kept)
            kept.remove(lost)
        assert len(queue) == len(kept) <= size
    for frame in drain(queue):
        gone[frame.arbitration_id].append(int.from_bytes(frame.data, "big"))
        kept.remove(frame)
    assert not kept
    for serials in gone.values():
        assert serials == sorted(serials)


# -- filters -----------------------------------------------------------------------------------------------------------


def passes(pairs: list[tuple[int, int]], identifier: int) -> bool:
    return any(identifier & mask == wanted for wanted, mask in pairs)


@pytest.mark.slow
@given(st.sets(base_ids, max_size=60), st.sets(extended_ids.map(lambda i: i | EXTENDED), max_size=5), base_ids)
def test_masks_pass_only_the_wanted_identifiers(base: set[int], extended: set[int], other: int) -> None:
    pairs = masks(base | extended)
    for identifier in range(0x800):
        assert passes(pairs, identifier) == (identifier in base)
    for identifier in (*extended, other | EXTENDED):
        assert passes(pairs, identifier) == (identifier in extended)


def test_neighbours_share_a_mask() -> None:
    assert masks(range(0x6E0, 0x700)) == [(0x6E0, 0x7E0 | EXTENDED)]
    assert masks(range(0x800)) == [(0, EXTENDED)]
    assert masks([]) == []


# -- controllers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "data", "expected"),
    [
        (0x040, b"", BusError("bus off", ("bus off",))),
        (0x100, b"", BusError("active", ("restarted",))),
        (0x004, b"\0\x04", BusError("warning")),
        (0x004, b"\0\x10", BusError("passive")),
        (0x004, b"\0\x28", BusError("passive")),
        (0x004, b"\0\x08", BusError("warning")),
        (0x004, b"\0\x40", BusError("active")),
        (0x104, b"\0\x20", BusError("passive", ("restarted",))),
        (0x144, b"\0\x40", BusError("bus off", ("bus off", "restarted"))),
        (0x001, b"", BusError("", ("transmit timeout",))),
        (0x002, b"\x05", BusError("", ("arbitration lost",))),
        (0x010, b"\0\0\0\0\x04", BusError("", ("transceiver",))),
        (0x004, b"\0\x01", BusError("", ("receive overflow",))),
        (0x004, b"\0\x02", BusError("", ("transmit overflow",))),
        *(
            (0x008, bytes((0, 0, bit)), BusError("", (f"{what} error",)))
            for bit, what in ((1, "bit"), (2, "form"), (4, "stuff"), (8, "bit 0"), (16, "bit 1"), (32, "overload"))
        ),
        (0x020, b"\0\xff\xff\0\0\0\x01\x02", BusError("", ("no acknowledgement",))),
        (0x088, b"\0\0\x04", BusError("", ("bus error", "stuff error"))),
        (0x204, b"\0\x20\0\0\0\0\x80\x05", BusError("passive", (), 128, 5)),
    ],
)
def test_error_frames_are_decoded(identifier: int, data: bytes, expected: BusError) -> None:
    assert decode_error(identifier, data) == expected


@given(st.integers(0, 0x1FFFFFFF), st.binary(max_size=64))
def test_any_error_frame_is_tolerated(identifier: int, data: bytes) -> None:
    assert decode_error(identifier, data).state in ("", "active", "warning", "passive", "bus off")
