"""CAN frames, the queue of frames to send, filters and controller errors. Uses no threads, sockets or clocks."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

# Flags of a frame. The values are SocketCAN's: the first three are those of the identifier, the others of CAN FD.
EXTENDED = 0x80000000  # a 29-bit identifier instead of an 11-bit one
REMOTE = 0x40000000
ERROR = 0x20000000  # not a frame on the bus but a report by the controller, see `decode_error`
FD = 0x04
BRS = 0x01  # FD: the data is sent at the higher bit rate
ESI = 0x02  # FD: the sender is error-passive

#: The numbers of data bytes that a CAN FD frame can have.
FD_LENGTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame that was received or is to be sent.

    `flags` is a sum of the constants above; 0 is a plain frame. The `data` of a remote frame is as many zero bytes as
    the frame asks for. `timestamp` is in monotonic seconds: when the frame was received, or when it was given to us to
    send.
    """

    arbitration_id: int
    data: bytes = b""
    flags: int = 0
    timestamp: float = 0.0


def validate(frame: Frame) -> None:
    """Raise ValueError for a frame that no bus can carry."""
    identifier, length, flags = frame.arbitration_id, len(frame.data), frame.flags
    if not 0 <= identifier <= (0x1FFFFFFF if flags & EXTENDED else 0x7FF):
        raise ValueError(f"{identifier:#x} does not fit into {'29' if flags & EXTENDED else '11'} bits")
    if length > 8 and not (flags & FD and length in FD_LENGTHS):
        raise ValueError(f"{length} data bytes do not fit into a {'CAN FD' if flags & FD else 'classic'} frame")
    if flags & ERROR or (flags & REMOTE and flags & FD):
        raise ValueError("an error frame, or a remote CAN FD frame, cannot be sent")


def priority(frame: Frame) -> int:
    """The frame's priority in CAN arbitration; the lower number wins the bus.

    A base frame beats an extended one whose identifier starts with the same 11 bits.
    """
    identifier = frame.arbitration_id
    if frame.flags & EXTENDED:
        return (identifier >> 18) << 19 | 1 << 18 | (identifier & 0x3FFFF)
    return identifier << 19


Waiting = tuple[Frame, Any]


class SendQueue:
    """At most `size` frames that wait to be sent, each with an `origin` that the caller chooses.

    The highest priority goes first; frames with one identifier keep their order. A full queue drops the oldest frame
    of the lowest priority, because a newer frame is worth more. The caller does the locking.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._length = 0
        self._order: list[int] = []  # negative priorities: the next to send is at the end, where removal is cheap
        self._waiting: dict[int, deque[Waiting]] = {}

    def __len__(self) -> int:
        return self._length

    def push(self, frame: Frame, origin: Any = None) -> Frame | None:
        """Add `frame`. Returns the frame that was dropped to make room, if any; it may be `frame` itself."""
        key = -priority(frame)
        lost = None
        if self._length >= self.size:
            last = self._order[0]
            if key < last:
                return frame
            lost = self._take(last, 0)[0]
        queue = self._waiting.get(key)
        if queue is None:
            queue = self._waiting[key] = deque()
            insort(self._order, key)
        queue.append((frame, origin))
        self._length += 1
        return lost

    def pop(self) -> Waiting:
        """Remove and return the next frame to send. Raises IndexError if the queue is empty."""
        return self._take(self._order[-1], -1)

    def put_back(self, frame: Frame, origin: Any = None) -> Frame | None:
        """Undo `pop`. Returns the frame that was dropped to make room, if any; it may be `frame` itself."""
        key = -priority(frame)
        if self._length >= self.size and key <= self._order[0]:
            return frame
        lost = self._take(self._order[0], 0)[0] if self._length >= self.size else None
        queue = self._waiting.get(key)
        if queue is None:
            queue = self._waiting[key] = deque()
            insort(self._order, key)
        queue.appendleft((frame, origin))
        self._length += 1
        return lost

    def _take(self, key: int, place: int) -> Waiting:
        """Remove and return the oldest frame with `key`, which is at index `place` of `_order`."""
        queue = self._waiting[key]
        waiting = queue.popleft()
        if not queue:
            del self._waiting[key]
            del self._order[place]
        self._length -= 1
        return waiting


def masks(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Pairs (identifier, mask) that let only `ids` through; extended ids are written ``identifier | EXTENDED``.

    Neighbours share a pair where one mask covers them. A frame passes if ``id & mask == identifier``, its id written
    in the same way.
    """
    wanted = set(ids)
    pairs: list[tuple[int, int]] = []
    for kind, width in ((0, 11), (EXTENDED, 29)):
        level = {i & ~EXTENDED for i in wanted if i & EXTENDED == kind}
        full = (1 << width) - 1
        for bits in range(width + 1):
            whole = {i for i in level if i ^ 1 in level} if bits < width else set()
            mask = full >> bits << bits | EXTENDED
            pairs += [(i << bits | kind, mask) for i in sorted(level - whole)]
            level = {i >> 1 for i in whole}
    return pairs


# -- controller errors -------------------------------------------------------------------------------------------------

# SocketCAN's error classes, in the identifier of an error frame, and its reasons, in the data.
TX_TIMEOUT, LOST_ARBITRATION, CONTROLLER, PROTOCOL, TRANSCEIVER, NO_ACK, BUS_OFF, BUS_ERROR, RESTARTED, COUNTERS = (
    1 << bit for bit in range(10)
)
RX_OVERFLOW, TX_OVERFLOW, RX_WARNING, TX_WARNING, RX_PASSIVE, TX_PASSIVE, ACTIVE = (1 << bit for bit in range(7))

_CLASSES = {
    TX_TIMEOUT: "transmit timeout",
    LOST_ARBITRATION: "arbitration lost",
    TRANSCEIVER: "transceiver",
    NO_ACK: "no acknowledgement",
    BUS_OFF: "bus off",
    BUS_ERROR: "bus error",
    RESTARTED: "restarted",
}
_OVERFLOWS = {RX_OVERFLOW: "receive overflow", TX_OVERFLOW: "transmit overflow"}
_VIOLATIONS = {1 << bit: what for bit, what in enumerate(("bit", "form", "stuff", "bit 0", "bit 1", "overload"))}


class BusError(msgspec.Struct, frozen=True, gc=False):
    """A controller's report.

    `state` is its new state: "active", "warning", "passive" or "bus off"; empty if the report does not say. `events`
    says in words what happened. The error counters are None if the report has none.
    """

    state: str
    events: tuple[str, ...] = ()
    tx_errors: int | None = None
    rx_errors: int | None = None


def decode_error(arbitration_id: int, data: bytes) -> BusError:
    """Decode an error frame. Never raises; missing bytes count as zero."""
    data = bytes(data[:8]).ljust(8, b"\0")
    controller = data[1] if arbitration_id & CONTROLLER else 0
    violation = data[2] if arbitration_id & PROTOCOL else 0
    events = [what for bit, what in _CLASSES.items() if arbitration_id & bit]
    events += [what for bit, what in _OVERFLOWS.items() if controller & bit]
    events += [f"{what} error" for bit, what in _VIOLATIONS.items() if violation & bit]
    if arbitration_id & BUS_OFF:
        state = "bus off"
    elif controller & (RX_PASSIVE | TX_PASSIVE):
        state = "passive"
    elif controller & (RX_WARNING | TX_WARNING):
        state = "warning"
    elif controller & ACTIVE or arbitration_id & RESTARTED:
        state = "active"
    else:
        state = ""
    counted = bool(arbitration_id & COUNTERS)
    return BusError(state, tuple(events), data[6] if counted else None, data[7] if counted else None)
