"""Recorded data in place of devices, for replays: a line, datagrams, pins, and hold-ups of the process.

Each takes its data from a `fixgw.kit.raw.Feed`. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fixgw.clock import HoldUp
from fixgw.errors import DeviceError
from fixgw.kit.raw import Feed

if TYPE_CHECKING:
    from fixgw.net.access import Address


class RecordedHoldUp(HoldUp):
    """The process was held up when the recording says so, not when the replay is."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(lambda: 0.0)
        self._feed = feed

    def noticed(self, allowed_s: float) -> bool:
        held_up, self._feed.held_up = self._feed.held_up, False
        return held_up


def require(feed: Feed) -> None:
    """Raise `DeviceError` if the device was not there at this time of the recording."""
    if feed.trouble:
        raise DeviceError(feed.trouble)


class RecordedLine:
    """A serial port with the interface of pyserial, without a file descriptor. A `read` returns at most one piece."""

    described = "a recording"
    baudrate = 0
    timeout = 0.0

    def __init__(self, feed: Feed) -> None:
        require(feed)
        self._feed = feed
        self._piece = b""

    @property
    def in_waiting(self) -> int:
        return len(self._piece)

    def read(self, size: int) -> bytes:
        require(self._feed)
        if not self._piece and self._feed.entries:
            self._piece = self._feed.entries.popleft().data
        data, self._piece = self._piece[:size], self._piece[size:]
        return data

    def write(self, data: bytes) -> int:
        require(self._feed)
        self._feed.sent(bytes(data))
        return len(data)

    def reset_input_buffer(self) -> None:
        """What it would discard has never been read."""

    def reset_output_buffer(self) -> None:
        """Everything is sent at once."""

    def close(self) -> None:
        self._piece = b""


class RecordedDatagrams:
    """`fixgw.net.udp.Datagrams` without a socket. Its entries are pairs: a datagram, and the sender's host and port."""

    def __init__(self, feed: Feed) -> None:
        require(feed)
        self._feed = feed

    def receive(self) -> Iterator[tuple[bytes, Address, Any]]:
        from fixgw.net.access import address_of  # loads `ipaddress`, which serial lines do not need

        while self._feed.entries:
            data, address = self._feed.entries.popleft().data
            yield data, address_of(address[0]), address

    def send(self, data: bytes, address: Any) -> bool:
        return self._feed.sent((data, address)) is not False

    def close(self) -> None: ...


class RecordedPins:
    """Pins with the interface of RPi.GPIO."""

    BCM, IN, OUT, LOW, HIGH, PUD_OFF, PUD_DOWN, PUD_UP, RISING, FALLING, BOTH = 11, 1, 0, 0, 1, 20, 21, 22, 31, 32, 33

    def __init__(self, feed: Feed) -> None:
        require(feed)
        self._feed = feed

    def setwarnings(self, on: bool) -> None: ...

    def setmode(self, mode: int) -> None: ...

    def setup(self, pin: int, direction: int, pull_up_down: int = PUD_OFF, initial: int | None = None) -> None:
        require(self._feed)
        if initial is not None:
            self.output(pin, initial)

    def input(self, pin: int) -> bool:
        require(self._feed)
        return self._feed.levels.get(pin, False)

    def output(self, pin: int, level: int) -> None:
        require(self._feed)
        if self._feed.levels.get(pin) is not bool(level):
            self._feed.levels[pin] = bool(level)
            self._feed.sent(f"GPIO{pin} {int(level)}")

    def add_event_detect(self, pin: int, edge: int, callback: Any) -> None:
        if pin in self._feed.polled:
            raise RuntimeError("no edge detection")
        self._feed.callbacks[pin] = lambda: callback(pin)

    def remove_event_detect(self, pin: int) -> None:
        self._feed.callbacks.pop(pin, None)

    def cleanup(self, pin: int | None = None) -> None: ...

    def PWM(self, pin: int, frequency: float) -> RecordedPwm:
        return RecordedPwm(self._feed, pin)


class RecordedPwm:
    def __init__(self, feed: Feed, pin: int) -> None:
        self._feed = feed
        self._pin = pin

    def start(self, percent: float) -> None:
        self._feed.sent(f"GPIO{self._pin} {percent:g} %")

    ChangeDutyCycle = start

    def stop(self) -> None: ...
