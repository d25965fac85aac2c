"""The frames of MAVLink 1 and 2 without I/O: `Framer` finds them in a stream, `build` makes them.

    version 1:  FE length seq system component id payload check
    version 2:  FD length flags compat seq system component id(3) payload check [signature]

The check is CRC-16/MCRF4XX over everything behind the first byte and the message's CRC_EXTRA, low byte first. Version 2
leaves out zeros at the end of the payload. Signatures are skipped: without the key nobody can check them.

Source: mavlink.io, "Packet Serialization".
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from fixgw.drivers.mavlink.messages import MESSAGES, Message
from fixgw.kit.update import begin_counting

V1, V2 = 0xFE, 0xFD
_START = re.compile(rb"[\xfd\xfe]")
_HEADER_V1, _HEADER_V2, _CHECK, _SIGNATURE = 6, 10, 2, 13
_SIGNED = 1  # the only incompatibility flag that exists
MAX_FRAME_BYTES = _HEADER_V2 + 255 + _CHECK + _SIGNATURE

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_of(data: bytes) -> int:
    """CRC-16/MCRF4XX.

    >>> hex(check_of(b"123456789"))
    '0x6f91'
    """
    # It is the CRC that the standard library computes, with the bits of each byte and of the result reversed.
    crc = binascii.crc_hqx(data.translate(_REVERSED), 0xFFFF)
    return _REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]


class Frame(NamedTuple):
    """`message` is None for one that is not in our table: then nothing could be checked. `whole` are all its bytes."""

    id: int
    message: Message | None
    system: int
    component: int
    seq: int
    version: int
    payload: bytes
    whole: bytes


class Framer:
    """Finds the frames of a stream that may begin and end anywhere. Holds at most one unfinished frame.

    A start byte in garbage looks like the beginning of a frame. If that is impossible, the search goes on behind this
    byte. A frame with an unknown identifier cannot be checked: it counts if another start byte follows it.
    """

    REFUSALS: ClassVar[tuple[str, ...]] = ("bad checksum", "wrong length", "unknown flags", "not a frame")

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS)
        self._refused = ("", b"")
        #: The number of frames whose check was right.
        self.checked = 0
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, which count as received. Consume them all."""
        buffer, at = self._buffer + data, 0
        while (start := _START.search(buffer, at)) is not None:
            at = start.start()
            version_2 = buffer[at] == V2
            header = _HEADER_V2 if version_2 else _HEADER_V1
            if len(buffer) < at + header:
                break
            length, flags = buffer[at + 1], buffer[at + 2] if version_2 else 0
            identifier = int.from_bytes(buffer[at + 7 : at + 10], "little") if version_2 else buffer[at + 5]
            message = MESSAGES.get(identifier)
            check_at = at + header + length
            end = check_at + _CHECK + (_SIGNATURE if flags else 0)
            why = ""
            if flags & ~_SIGNED:
                why = "unknown flags"
            elif message is not None and not version_2 and length != message.length_v1:
                why = "wrong length"
            elif len(buffer) < end + (message is None):
                break
            elif message is None:
                why = "" if buffer[end] in (V1, V2) else "not a frame"
            elif check_of(buffer[at + 1 : check_at] + bytes((message.crc_extra,))) != int.from_bytes(
                buffer[check_at : check_at + _CHECK], "little"
            ):
                why = "bad checksum"
            self.counts["received"] += 1
            if why:
                self.counts[why] += 1
                self._refused = why, buffer[at : at + 16]
                at += 1
                continue
            self.checked += message is not None
            seq, system, component = buffer[at + 4 : at + 7] if version_2 else buffer[at + 2 : at + 5]
            payload, version = buffer[at + header : check_at], 2 if version_2 else 1
            yield Frame(identifier, message, system, component, seq, version, payload, buffer[at:end])
            at = end
        else:
            at = len(buffer)
        self._buffer = buffer[at:]

    @property
    def refused(self) -> str:
        """The last refused frame, and the reason."""
        why, begin = self._refused
        return f"{why}: {begin.hex(' ')}" if why else ""

    def interrupt(self) -> None:
        """Forget an unfinished frame: bytes were lost."""
        self._buffer = b""


def build(message: Message, payload: bytes, system: int, component: int, seq: int, version: int = 2) -> bytes:
    """A frame with a `payload` of full length, as `Message.encode` makes it."""
    if version == 1:
        payload = payload[: message.length_v1]
        head = bytes((len(payload), seq, system, component, message.id))
    else:
        payload = payload.rstrip(b"\0") or payload[:1]
        head = bytes((len(payload), 0, 0, seq, system, component)) + message.id.to_bytes(3, "little")
    check = check_of(head + payload + bytes((message.crc_extra,)))
    return bytes((V1 if version == 1 else V2,)) + head + payload + check.to_bytes(2, "little")
