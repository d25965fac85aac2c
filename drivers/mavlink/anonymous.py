"""What an autopilot has sent, without positions and names: `hide`, for captures that are given to others."""

from __future__ import annotations

from fixgw.drivers.mavlink.frames import Frame, Framer, build
from fixgw.drivers.mavlink.messages import MESSAGES
from fixgw.kit.anonymous import Shift

#: Messages that say more than where and how the aircraft flies: texts, parameters, missions, homes, serial numbers, and
#: other aircraft.
HIDDEN = frozenset((22, 73, 75, 76, 148, 242, 246, 253))


def hide(data: bytes, shift: Shift) -> bytes:
    """`data` with positions shifted. What is not understood, and `HIDDEN` messages, are zeros. Bytes keep their
    number."""
    clean, at = bytearray(len(data)), 0
    for frame in Framer().feed(data):
        start = data.index(frame.whole, at)
        at = start + len(frame.whole)
        if frame.message is not None and frame.id not in HIDDEN:
            clean[start:at] = _moved(frame, shift)
    return bytes(clean)


def _moved(frame: Frame, shift: Shift) -> bytes:
    message = MESSAGES[frame.id]
    if "lat" not in message.fields:
        return frame.whole
    lon = "lon" if "lon" in message.fields else "lng"
    fields = message.decode(frame.payload)
    if fields["lat"] or fields[lon]:
        fields["lat"] = round(shift.latitude(fields["lat"] / 1e7) * 1e7)
        fields[lon] = round(shift.longitude(fields[lon] / 1e7) * 1e7)
    moved = build(message, message.encode(fields), frame.system, frame.component, frame.seq, frame.version)
    return moved.ljust(len(frame.whole), b"\0")[: len(frame.whole)]
