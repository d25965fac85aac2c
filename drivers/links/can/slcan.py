"""CAN adapters on a serial line that speak LAWICEL's protocol ("slcan"): CANable, USBtin, CANUSB and many more.

`Parser` and `encode` are the protocol, without threads or sockets. `SlcanPort` is the line, which is read in chunks.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from binascii import unhexlify
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fixgw.clock import now as clock_now
from fixgw.drivers.links.can import frame as cf
from fixgw.drivers.links.can.frame import BRS, ERROR, ESI, EXTENDED, FD, FD_LENGTHS, REMOTE, Frame
from fixgw.drivers.links.can.port import BusOptions, Count, Port
from fixgw.drivers.links.serial import TCP
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.net import endpoint
from fixgw.net.tcp import TcpLink

if TYPE_CHECKING:
    import serial

MAX_LINE_BYTES = 256  # the longest message has 146
CHUNK_BYTES = 4096  # the most that one read takes

#: bit/s → command. S7 is 800 kbit/s in the specification but 750 on some adapters; only some have S9.
BIT_RATES = {10000: b"S0", 20000: b"S1", 50000: b"S2", 100000: b"S3", 125000: b"S4", 250000: b"S5", 500000: b"S6"} | {
    750000: b"S7",
    800000: b"S7",
    1000000: b"S8",
    83300: b"S9",
}
DATA_BIT_RATES = {1000000: b"Y1", 2000000: b"Y2", 4000000: b"Y4", 5000000: b"Y5"}

#: The letter of a frame → its flags and the number of digits of its identifier.
_KINDS = {
    ord("t"): (0, 3),
    ord("T"): (EXTENDED, 8),
    ord("r"): (REMOTE, 3),
    ord("R"): (REMOTE | EXTENDED, 8),
    ord("d"): (FD, 3),
    ord("D"): (FD | EXTENDED, 8),
    ord("b"): (FD | BRS, 3),
    ord("B"): (FD | BRS | EXTENDED, 8),
}
_LETTERS = {flags: (chr(letter), digits) for letter, (flags, digits) in _KINDS.items()}
_CODES = {
    code: n for n, digits in enumerate(zip(b"0123456789ABCDEF", b"0123456789abcdef", strict=True)) for code in digits
}
_MINUTE_MS = 60000  # the adapter's time stamps count milliseconds and start again every minute
_MAX_WAIT_MS = 1000  # ignore a time stamp that says that a frame waited in the adapter for longer

# Reports about the controller that some adapters send unasked; Linux's slcan driver knows the same ones.
_STATE = re.compile(rb"s([awpb])([0-9]{3})([0-9]{3})")
_STATES = {
    b"a": (0, cf.ACTIVE),
    b"w": (0, cf.RX_WARNING | cf.TX_WARNING),
    b"p": (0, cf.RX_PASSIVE | cf.TX_PASSIVE),
    b"b": (cf.BUS_OFF, 0),
}
_ERRORS = re.compile(rb"e([0-9])([a-zA-Z]+)")
_ERROR_KINDS = {
    ord("a"): (cf.NO_ACK, 0, 0),
    ord("b"): (cf.PROTOCOL, 0, 0x08),
    ord("B"): (cf.PROTOCOL, 0, 0x10),
    ord("f"): (cf.PROTOCOL, 0, 0x02),
    ord("s"): (cf.PROTOCOL, 0, 0x04),
    ord("o"): (cf.CONTROLLER, cf.RX_OVERFLOW, 0),
    ord("O"): (cf.CONTROLLER, cf.TX_OVERFLOW, 0),
}


class Parser:
    """Turns what an adapter sends, in chunks of any size, into frames. Holds back at most `MAX_LINE_BYTES`.

    Counts invalid input as "garbage" and skips it up to the next end of a message. Reports the state of the controller
    in error frames like SocketCAN's.
    """

    def __init__(self, count: Count, clock: Callable[[], float] = clock_now) -> None:
        #: The number of valid messages and answers, and of commands that the adapter refused.
        self.sensible = self.refused = 0
        #: The last status flags; None if the adapter never sent any.
        self.status: int | None = None
        self._count = count
        self._clock = clock
        self._rest = b""
        self._skipping = False
        self._stamps: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes."""
        if b"\a" in data:  # no carriage return follows a refusal
            data = data.replace(b"\a", b"\r\a\r")
        lines = (self._rest + data).split(b"\r")
        self._rest = lines.pop()
        if self._skipping and lines:
            self._skipping = False
            del lines[0]
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
            if not self._skipping:
                self._skipping = True
                self._count("garbage")
        frames: list[Frame] = []
        now = self._clock()
        sensible = len(lines)
        for line in lines:
            try:
                kind = _KINDS.get(line[0]) if line else None
                if kind is None:
                    frame = self._parse_answer(line, now)
                else:
                    frame = self._parse_frame(line, *kind, now, len(frames))
                if frame is not None:
                    frames.append(frame)
            except (ValueError, LookupError):
                sensible -= 1
                self._count("garbage")
        self.sensible += sensible
        if self._stamps:
            self._restamp(frames, now)
        return frames

    def _parse_frame(self, line: bytes, flags: int, digits: int, now: float, place: int) -> Frame:
        """Parse a frame. Raises ValueError or LookupError if `line` is not one."""
        identifier = int.from_bytes(unhexlify(b"0" + line[1:4] if digits == 3 else line[1:9]), "big")
        length = _CODES[line[digits + 1]]
        start = end = digits + 2
        if flags & FD:
            length = FD_LENGTHS[length]
        if (length > 8 and not flags & FD) or identifier > (0x7FF if digits == 3 else 0x1FFFFFFF):
            raise ValueError
        if flags & REMOTE:
            data = bytes(length)
        else:
            end += 2 * length
            data = unhexlify(line[start:end])
            if len(data) != length:
                raise ValueError
        if len(line) != end:
            stamp = unhexlify(line[end:])
            if len(stamp) != 2:
                raise ValueError
            self._stamps.append((place, int.from_bytes(stamp, "big")))
        return Frame(identifier, data, flags, now)

    def _restamp(self, frames: list[Frame], now: float) -> None:
        """Correct the frames' time stamps by the adapter's: its last one is `now`, the others are earlier."""
        last = self._stamps[-1][1]
        for place, stamp in self._stamps:
            age = (last - stamp) % _MINUTE_MS
            if 0 < age <= _MAX_WAIT_MS:
                frame = frames[place]
                frames[place] = Frame(frame.arbitration_id, frame.data, frame.flags, now - age / 1000)
        self._stamps.clear()

    def _parse_answer(self, line: bytes, now: float) -> Frame | None:
        """Parse an answer or a report; returns an error frame if it reports one. Raises ValueError for garbage."""
        if line in (b"", b"z", b"Z"):  # command done, frame sent
            return None
        if line == b"\a":
            self.refused += 1
            return None
        if line[:1] == b"F" and len(line) == 3:
            before, self.status = self.status or 0, unhexlify(line[1:])[0]
            return None if self.status == before else _make_status_frame(self.status, now)
        if match := _STATE.fullmatch(line):
            error, controller = _STATES[match[1]]
            rx, tx = (min(int(match[n]), 255) for n in (2, 3))
            return _make_error_frame(error | cf.COUNTERS, now, controller, tx=tx, rx=rx)
        if (match := _ERRORS.fullmatch(line)) and int(match[1]) == len(match[2]):
            error = controller = violation = 0
            for code in match[2]:
                more = _ERROR_KINDS.get(code, (cf.BUS_ERROR, 0, 0))
                error, controller, violation = error | more[0], controller | more[1], violation | more[2]
            return _make_error_frame(error, now, controller, violation)
        raise ValueError


def _make_status_frame(status: int, now: float) -> Frame:
    """Convert the adapter's status flags to an error frame."""
    error = (cf.LOST_ARBITRATION if status & 0x40 else 0) | (cf.BUS_ERROR if status & 0x80 else 0)
    if status & 0x20:
        controller = cf.RX_PASSIVE | cf.TX_PASSIVE
    elif status & 0x04:
        controller = cf.RX_WARNING | cf.TX_WARNING
    else:
        controller = cf.ACTIVE
    if status & 0x09:
        controller |= cf.RX_OVERFLOW
    if status & 0x02:
        controller |= cf.TX_OVERFLOW
    return _make_error_frame(error, now, controller)


def _make_error_frame(
    error: int, now: float, controller: int = 0, violation: int = 0, tx: int = 0, rx: int = 0
) -> Frame:
    if controller:
        error |= cf.CONTROLLER
    return Frame(error, bytes((0, controller, violation, 0, 0, 0, tx, rx)), ERROR, now)


def encode(frame: Frame) -> bytes:
    """Return the command that sends `frame`. Raises ValueError if there is no command for this kind of frame."""
    letter, digits = _LETTERS.get(frame.flags & ~ESI, ("", 0))
    if not letter:
        raise ValueError("slcan has no command for this kind of frame")
    data = frame.data
    length = FD_LENGTHS.index(len(data)) if frame.flags & FD else len(data)
    body = "" if frame.flags & REMOTE else data.hex()
    return f"{letter}{frame.arbitration_id:0{digits}X}{length:X}{body.upper()}\r".encode()


# -- the line ----------------------------------------------------------------------------------------------------------

ANSWER_TIMEOUT_S = 0.3  # some adapters never answer
SETTLE_S = 0.05  # after this much silence an adapter with a closed channel has no more data
MAX_PENDING_BYTES = 256  # send no more while this much is under way: frames that wait here are sorted by priority
STATUS_INTERVAL_S = 1.0  # ask for the status flags this often, if the adapter answers
GARBAGE_LIMIT_S = 3.0  # report an adapter that has sent only garbage for longer


class SlcanPort(Port):
    """An adapter on a serial device, a pseudo-terminal, a network (``tcp://``) or a URL that pyserial knows."""

    def __init__(self, line: serial.SerialBase, count: Count, fd: bool = False) -> None:
        self.fd = fd
        self.version = self.serial_number = ""
        self.parser = Parser(count)
        self._line: Any = line
        self._count = count
        self._early = self._unsent = b""
        self._putting = threading.Lock()
        self._fd: int | None = None
        self._refused = 0
        self._asked_at = clock_now()
        self._garbage_since: float | None = None
        self._garbage_for = 0.0
        with suppress(OSError, AttributeError):  # rfc2217:// and loop:// have no file descriptor
            self._fd = line.fileno()
        self.blocking = self._fd is None
        if self._fd is not None:
            os.set_blocking(self._fd, False)
            self._ready = select.poll()
            self._ready.register(self._fd, select.POLLIN)

    @classmethod
    def open(cls, options: BusOptions, count: Count) -> SlcanPort:
        line = _open_line(options)
        try:
            port = cls(line, count, options.fd)
            time.sleep(min(float(options.extra.get("sleep_after_open", 0.0)), 10.0))
            port.begin(setup_commands(options), options.listen_only)
        except BaseException:
            line.close()
            raise
        return port

    def begin(self, commands: Iterable[bytes], listen_only: bool = False) -> None:
        """Open the adapter's CAN channel. Takes about a second if the adapter never answers."""
        self._put(b"\r\r\rC\r")  # end any half-sent command and close the channel; answers and frames may still come
        deadline = clock_now() + ANSWER_TIMEOUT_S
        while clock_now() < deadline and self._get(SETTLE_S):
            pass
        answers = True
        for command in commands:
            answer = self._ask(command)
            if answer.endswith(b"\a"):
                raise DeviceError(f"{self._line.port}: the adapter refused the command {command.decode()!r}")
            answers = answers and bool(answer)
        if answers:
            self.version, self.serial_number = (_printable(self._ask(question)) for question in (b"V", b"N"))
        opening = self._ask(b"L" if listen_only else b"O")
        if opening == b"\a":
            raise DeviceError(f"{self._line.port}: the adapter refused to open its channel")
        self._early = opening.partition(b"\r")[2]
        if answers:
            self._early += self._ask(b"F").replace(b"\a", b"")

    def read(self, timeout: float) -> list[Frame]:
        data, self._early = self._early or self._get(timeout), b""
        parser = self.parser
        frames = parser.feed(data) if data else []
        now = clock_now()
        if data:
            if parser.sensible:
                self._garbage_since = None
            elif self._garbage_since is None:
                self._garbage_since = now
            self._garbage_for = 0.0 if self._garbage_since is None else now - self._garbage_since
            if parser.refused:
                self._count("refused", parser.refused)
            parser.sensible = parser.refused = 0
        if parser.status is not None and now - self._asked_at > STATUS_INTERVAL_S and not self._unsent:
            self._asked_at = now
            self._put(b"F\r")
        return frames

    def write(self, frame: Frame) -> bool:
        command = encode(frame)
        if not self.flush():
            return False
        with suppress(AttributeError, OSError):  # not every line knows
            if self._line.out_waiting > MAX_PENDING_BYTES:
                return False
        self._put(command)
        return True

    def flush(self) -> bool:
        if self._unsent:
            self._put(b"")
        return not self._unsent

    def close(self) -> None:
        with suppress(Exception):  # the adapter may be gone
            self._put(b"\rC\r")
        with suppress(Exception):
            self._line.close()

    def trouble(self) -> str:
        if self._garbage_for > GARBAGE_LIMIT_S:
            return "only garbage: is this an slcan adapter, and is its serial rate right?"
        return ""

    def facts(self) -> Mapping[str, Any]:
        return {"adapter": " ".join(filter(None, (self.version, self.serial_number))) or "slcan"}

    def _ask(self, command: bytes) -> bytes:
        """Send `command`. Returns what arrives until it is answered; empty if nothing does."""
        self._put(command + b"\r")
        answer = b""
        deadline = clock_now() + ANSWER_TIMEOUT_S
        while not (b"\r" in answer or b"\a" in answer) and (left := deadline - clock_now()) > 0:
            answer += self._get(left)
        return answer

    def _get(self, timeout: float) -> bytes:
        """Read at most `CHUNK_BYTES`; empty after `timeout` seconds. Raises DeviceError if the adapter is gone."""
        try:
            if self._fd is None:
                self._line.timeout = timeout
                data: bytes = self._line.read(1)
                return data + self._line.read(min(self._line.in_waiting, CHUNK_BYTES - 1)) if data else data
            if not self._ready.poll(timeout * 1000):
                return b""
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return b""
        except (OSError, ValueError, TypeError) as error:
            raise DeviceError(f"{self._line.port} went away") from error
        if not data:
            raise DeviceError(f"{self._line.port} went away")
        return data

    def _put(self, data: bytes) -> None:
        """Send what is left over, then `data`, as far as there is room. Raises DeviceError if the adapter is gone."""
        with self._putting:
            self._unsent += data
            try:
                while self._unsent:
                    sent = self._line.write(self._unsent) if self._fd is None else os.write(self._fd, self._unsent)
                    self._unsent = self._unsent[sent:]
            except BlockingIOError:
                pass
            except (OSError, ValueError, TypeError) as error:
                raise DeviceError(f"{self._line.port} went away") from error


def split_channel(options: BusOptions) -> tuple[str, str]:
    """Split a channel like ``/dev/ttyACM0@115200`` into the device or URL and the serial rate, which may be empty."""
    path, _, rate = str(options.channel).rpartition("@")
    return (path, rate) if path and rate.isdigit() else (str(options.channel), "")


def _open_line(options: BusOptions) -> Any:
    """Open the adapter's line. Raises `MissingLibrary`, and OSError or ValueError if that fails."""
    extra = options.extra
    path, rate = split_channel(options)
    if endpoint.scheme_of(path) in TCP:
        return TcpLink(endpoint.parse(path))
    try:
        import serial
    except ImportError:
        raise MissingLibrary("pyserial") from None
    line: Any = serial.serial_for_url(path, do_not_open=True)
    line.baudrate = int(rate or extra.get("tty_baudrate", 115200))
    line.rtscts = bool(extra.get("rtscts", False))
    line.timeout = line.write_timeout = 0.2
    if "://" not in path:
        line.exclusive = True
        if path.startswith("/") and not os.path.exists(path):  # pyserial's message repeats itself
            raise DeviceError(f"there is no {path}")
    line.open()
    return line


class BadBitRate(ValueError):
    """The option `bitrate` is wrong, or missing; not one of `extra`."""


def setup_commands(options: BusOptions) -> list[bytes]:
    """Return the commands that set the bit rates and so on. Raises ValueError for options that adapters do not have."""
    extra = options.extra
    if unknown := set(extra) - _EXTRA:
        raise ValueError(
            f"unknown option of slcan {', '.join(map(repr, sorted(unknown)))}; known: {', '.join(sorted(_EXTRA))}"
        )
    commands: list[bytes] = []
    if "btr" in extra:
        commands.append(b"s" + unhexlify(extra["btr"]).hex().upper().encode())
    elif options.bitrate is None:
        raise BadBitRate("an slcan adapter needs a bitrate")
    elif options.bitrate in BIT_RATES:
        commands.append(BIT_RATES[options.bitrate])
    else:
        raise BadBitRate(
            f"slcan supports the bit rates {', '.join(map(str, sorted(BIT_RATES)))}; others need extra: {{btr}}"
        )
    if "data_bitrate" in extra:
        if extra["data_bitrate"] not in DATA_BIT_RATES:
            raise ValueError(f"slcan supports the data bit rates {', '.join(map(str, DATA_BIT_RATES))}")
        commands.append(DATA_BIT_RATES[extra["data_bitrate"]])
    if "timestamps" in extra:
        commands.append(b"Z1" if extra["timestamps"] else b"Z0")
    return commands


_EXTRA = {"btr", "data_bitrate", "rtscts", "sleep_after_open", "timestamps", "tty_baudrate"}


def _printable(answer: bytes) -> str:
    """Make an answer fit to show to people."""
    return "".join(filter(str.isprintable, answer.decode("ascii", "replace").removeprefix("\r")))[:60].strip()
