"""The link that all serial drivers share. It opens the port, reads, notices a lost device and finds the baud rate.

A driver derives from `SerialPoller` and overrides `received`; its options derive from `SerialOptions`, or from
`NetworkOptions` if the partner is usually reached by a socket. The port can be a device, a pseudo-terminal, a network
link (``tcp://HOST:PORT``, also written ``socket://``, and ``udp://HOST:PORT``) or another URL that pyserial knows
(``rfc2217://``, ``spy://``, ``loop://``).
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from fixgw.clock import HoldUp
from fixgw.drivers.links.gather import Gather
from fixgw.drivers.links.opening import open_patiently
from fixgw.drivers.links.recorded import RecordedHoldUp, RecordedLine
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.kit import raw
from fixgw.net import endpoint
from fixgw.plugin import Device, Feeds, Finding, Options, Poller, TypeVar

if TYPE_CHECKING:
    from fixgw.database import Database
    from fixgw.net.access import Address
    from fixgw.net.udp import UdpLink

CHUNK_BYTES = 4096  # the most that one read takes
EMPTY_READ_PAUSE_S = 0.02  # wait this long after a port that was ready had no data
REFUSED_PAUSE_S = 0.001  # and this long after a socket, which may have had datagrams of others
SETTLE_S = 0.02  # after this much silence no old bytes are left on the line
FLUSH_S = 1.0  # the most time that discarding old bytes may take, after this process was held up

#: The URL schemes of links over a network; pyserial handles all others.
TCP, UDP = ("tcp", "socket"), "udp"
#: An open port: a `serial.Serial`, a `fixgw.net.tcp.TcpLink` or a `fixgw.net.udp.UdpLink`.
Line = Any

#: The rates that ``baud: auto`` tries, the most common first.
BAUD_RATES = (9600, 4800, 38400, 115200, 57600, 19200)


class LinkOptions(Options, frozen=True, kw_only=True):
    """Options of any link. Those of a serial line are `SerialOptions`, those of a socket usually `NetworkOptions`."""

    @property
    def url(self) -> str:
        """The device, pseudo-terminal or URL to open."""
        raise NotImplementedError

    @property
    def speed(self) -> int | Literal["auto"]:
        """The bits per second of a serial line."""
        return "auto"

    @property
    def networks(self) -> Sequence[str] | None:
        """UDP: the networks whose datagrams are accepted; None for all."""
        return None


class SerialOptions(LinkOptions, frozen=True, kw_only=True):
    port: Annotated[
        str,
        Meta(
            min_length=1,
            description="Device (`/dev/serial/by-id/...` stays the same across reboots), pseudo-terminal, "
            "`tcp://HOST:PORT` (connect to a server), `udp://HOST:PORT` (listen there for datagrams), or a URL that "
            "pyserial knows",
        ),
    ]
    baud: Annotated[
        Annotated[int, Meta(ge=50, le=4000000)] | Literal["auto"],
        Meta(
            description="Bits per second; `auto` tries the usual rates while only garbage arrives. Ignored for "
            "`tcp://` and `udp://`"
        ),
    ] = "auto"

    @property
    def url(self) -> str:
        return self.port

    @property
    def speed(self) -> int | Literal["auto"]:
        return self.baud


def _loopback() -> tuple[str, ...]:
    from fixgw.net.access import LOOPBACK  # loads `ipaddress`, which serial lines do not need

    return LOOPBACK


Host = Annotated[
    str, Meta(min_length=1, description="UDP: the address of this computer to receive at. TCP: the server")
]
NetworkPort = Annotated[
    Annotated[int, Meta(ge=1, le=65535)] | Annotated[str, Meta(min_length=1)],
    Meta(
        description="Number of the port; or `udp://HOST:PORT` (receive there), `tcp://HOST:PORT` (connect to a "
        "server), or a device"
    ),
]
Allow = Annotated[
    tuple[str, ...],
    Meta(description="UDP: networks whose datagrams are accepted, such as `192.168.1.0/24`, or single addresses"),
]


class NetworkOptions(SerialOptions, frozen=True, kw_only=True):
    """Options of a link that is usually a socket: a `port` number at `host`, or any `port` that a serial line can have.

    A driver derives from it and gives defaults: ``port: NetworkPort = 4000``, and ``host: Host = "0.0.0.0"`` and
    ``allow: Allow = (...)`` if its partner cannot be on this computer.
    """

    #: What a `port` number is a port of: "udp", to receive there, or "tcp", to connect to.
    SCHEME: ClassVar[str] = UDP

    host: Host = "127.0.0.1"
    port: NetworkPort  # type: ignore[assignment]
    allow: Allow = field(default_factory=_loopback)

    @property
    def url(self) -> str:
        return self.port if isinstance(self.port, str) else str(endpoint.Endpoint(self.SCHEME, self.host, self.port))

    @property
    def networks(self) -> Sequence[str]:
        return self.allow


OptionsT = TypeVar("OptionsT", bound=LinkOptions, default=SerialOptions)


class SerialPoller(Poller[OptionsT]):
    """A plugin that reads a serial line on its own thread. Override `received`, and `idle` and `lost` if needed."""

    reopen_delay_max: ClassVar[float] = 2.0
    #: After this many seconds without valid data, `health` reports it and ``auto`` tries another rate.
    patience_s: ClassVar[float] = 3.0
    replays: ClassVar[bool] = True
    #: Seconds to let bytes gather while they arrive in quick succession (see `Gather`).
    gather_s: ClassVar[float] = 0.005
    #: Whether `received` gets one UDP datagram at a time. Otherwise they form a stream.
    whole_datagrams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        #: The open port; only the polling thread uses it.
        self.port: Line | None = None
        #: When the last bytes and the last valid data arrived, in monotonic seconds; -inf if none have.
        self.heard_at = self.valid_at = float("-inf")
        self._searching_since = 0.0
        self._networked = endpoint.scheme_of(self.options.url) in (*TCP, UDP)
        speed = self.options.speed
        self._auto = speed == "auto" and not self._networked
        self._baud = BAUD_RATES[0] if speed == "auto" else speed
        self._fd: int | None = None
        self._gather = Gather(0.0 if self.whole_datagrams else self.gather_s)
        self.hold_up = HoldUp()
        self._raw = raw.Point()
        self._feed: raw.Feed | None = None
        self.counts["bytes"] = 0

    # -- to override ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> bool:
        """Process `data`: at least one byte, at most `CHUNK_BYTES`. Return True if any of it was valid."""
        raise NotImplementedError

    def idle(self) -> None:
        """Called when nothing has arrived for `poll_timeout` seconds. Handle time-outs here."""

    def flushed(self) -> None:
        """Called when old bytes were discarded: an unfinished frame will not be completed."""

    # -- for drivers to call -------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Send as much of `data` as the port accepts at once. Returns the number of bytes sent.

        Never waits, except on ports without a file descriptor (``rfc2217://``). Raises `DeviceError` if the device is
        gone.
        """
        port = self.port
        if port is None:  # stopped while opening
            return 0
        try:
            if self._fd is None or self._networked:
                sent: int = port.write(data) or 0
            else:
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                sent = os.write(self._fd, data) if poll.poll(0) else 0
        except BlockingIOError:
            return 0
        except (OSError, ValueError, TypeError) as error:
            raise DeviceError(f"{self.options.url} went away") from error
        if self._raw.taps and sent:
            self._raw.pass_on(self.name, self.clock(), "out", data[:sent])
        return sent

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: OptionsT, db: Database) -> Iterable[tuple[str, str]]:
        try:
            if endpoint.scheme_of(options.url) in (*TCP, UDP):
                endpoint.parse(options.url)
            else:
                _pyserial().serial_for_url(options.url, do_not_open=True)
        except ImportError as error:
            yield "port", str(error)
        except OSError:
            pass  # the URL looks for hardware that is not there now
        except ValueError as error:
            yield "port", str(error)
        if (networks := options.networks) is not None:
            from fixgw.net import access

            yield from access.problems("allow", networks)

    @classmethod
    def claims(cls, options: OptionsT) -> Iterable[tuple[str, str]]:
        if options.url.startswith("/"):  # symbolic links resolved; servers may accept several clients
            yield os.path.realpath(options.url), "port"
        elif endpoint.scheme_of(options.url) == UDP:
            with suppress(ValueError):  # `check` reports it
                yield f"UDP port {endpoint.parse(options.url).port}", "port"

    @classmethod
    def heard_as(cls, name: str, options: OptionsT) -> Iterable[str]:
        return (name,)

    @classmethod
    def preflight(cls, options: OptionsT) -> Iterable[Device | Feeds | Finding]:
        return preflight(options.url)

    def run(self) -> None:
        self._raw = raw.point(self.db)
        self._feed = self._raw.feed(self.name)
        if not self._networked and self._feed is None:
            _pyserial()
        super().run()

    def health(self) -> str:
        if trouble := super().health():
            return trouble
        now = self.clock()
        if now - self.heard_at > self.patience_s:
            return "no data"
        if now - max(self.valid_at, self._searching_since) > self.patience_s:
            if self._networked:
                return "only garbage: is this the right instrument?"
            return f"only garbage at {self._baud} baud: " + (
                "trying other rates" if self._auto else "check the baud rate"
            )
        link_trouble: str = getattr(self.port, "trouble", "")  # a `UdpLink` has it
        return link_trouble

    def get_status(self) -> Mapping[str, Any]:
        connected, *counts = super().get_status().items()
        link: tuple[str, Any] = ("baud", self._baud)
        if self._networked:
            port = self.port
            link = "link", "none" if port is None else port.described
        return dict([("port", self.options.url), link, connected, *counts])

    def open(self) -> None:
        self.heard_at = self.valid_at = float("-inf")
        self.port = self._open()
        self._searching_since = self.clock()
        self.hold_up.reset()
        self._fd = None
        if self.port is not None:
            self._raw.opened("serial", self.name, self._facts)
            with suppress(OSError, AttributeError):  # rfc2217:// and loop:// have no file descriptor
                self._fd = self.port.fileno()
                if not self._networked:
                    self.port.timeout = 0

    def poll(self, timeout: float) -> None:
        data = self._read(timeout)
        if self.hold_up.noticed(self.poll_timeout):
            self._flush_input(data)
            return
        if not data:
            self.idle()
            return
        if self._raw.taps:
            self._raw.pass_on(self.name, self.clock(), "in", data)
        now = self.heard_at = self.clock()
        self.count("bytes", len(data))
        if self.received(data):
            self.valid_at = now
        elif self._auto and now - max(self.valid_at, self._searching_since) > self.patience_s:
            self._next_baud(now)

    def close(self) -> None:
        port, self.port, self._fd = self.port, None, None
        if port is not None:
            _close(port)

    def note_loss(self, reason: str) -> None:
        self._raw.lost("serial", self.name, self.clock(), reason)

    def _facts(self) -> list[raw.Heard]:
        rate = "" if self._networked else str(self._baud)
        return [raw.Heard(self.name, self._searching_since, "in", raw.Event("serial", "opened", rate))]

    def _read(self, timeout: float) -> bytes:
        port = self.port
        if port is None:  # stopped while opening
            return b""
        try:
            if self._fd is None:
                data: bytes = port.read(1)
                if not data:
                    return b""
                data += port.read(min(port.in_waiting, CHUNK_BYTES - 1))
            else:
                poll = select.poll()
                poll.register(self._fd, select.POLLIN)
                self._gather.rest(self.stopping)
                arrived = bool(poll.poll(timeout * 1000))
                self._gather.note(arrived)
                if not arrived:
                    return b""
                data = port.read(CHUNK_BYTES)
        except (OSError, ValueError, TypeError) as error:
            raise DeviceError(f"{self.options.url} went away") from error
        if not data:  # the port was ready but had no data; do not spin on it
            self.stopping.wait(REFUSED_PAUSE_S if self._networked else EMPTY_READ_PAUSE_S)
        return data

    def _flush_input(self, data: bytes) -> None:
        """Discard the bytes that piled up while this process was held up: they are as old as the hold-up. `data` are
        those that have been read."""
        self._note_discarded(data)
        discarded, deadline = len(data), self.hold_up.clock() + FLUSH_S
        while self.port is not None and self.hold_up.clock() < deadline and not self.stopping.is_set():
            if not (data := self._read(SETTLE_S)):
                break
            self._note_discarded(data)
            discarded += len(data)
        self.hold_up.reset()
        self.flushed()
        if discarded:
            self.count("bytes", discarded)
            self.count("old bytes discarded", discarded)
            self.complain("held up: discarded %d old bytes", discarded, about="hold-up")

    def _note_discarded(self, data: bytes) -> None:
        if self._raw.taps:
            self._raw.pass_on(self.name, self.clock(), "discarded", data)

    def _next_baud(self, now: float) -> None:
        assert self.port is not None
        self._baud = BAUD_RATES[(BAUD_RATES.index(self._baud) + 1) % len(BAUD_RATES)]
        self._searching_since = now
        self.log.info("only garbage: trying %d baud", self._baud)
        if self._raw.taps:
            self._raw.pass_on(self.name, now, "in", raw.Event("serial", "baud", str(self._baud)))
        try:
            self.port.baudrate = self._baud
            self.port.reset_input_buffer()
        except Exception as error:  # termios.error is not an OSError
            raise DeviceError(f"{self.options.url}: {error}") from error

    def _open(self) -> Line | None:
        """Open the port. Returns None if the plugin is stopped in the meantime. Raises `DeviceError`."""
        if self._feed is not None:
            self.hold_up = RecordedHoldUp(self._feed)
            return RecordedLine(self._feed)

        def waiting() -> None:
            self.alive = self.clock()

        try:
            return open_patiently(self.name, self._open_now, _close, self.stopping, waiting)
        except Exception as error:
            raise DeviceError(f"{self.options.url}: {_describe(error)}") from error

    def _open_now(self) -> Line:
        scheme = endpoint.scheme_of(self.options.url)
        if scheme in TCP:
            from fixgw.net.tcp import TcpLink

            return TcpLink(endpoint.parse(self.options.url))
        if scheme == UDP:
            return self.listen(endpoint.parse(self.options.url))
        port = _pyserial().serial_for_url(self.options.url, do_not_open=True)
        port.baudrate = self._baud
        port.timeout = self.poll_timeout
        port.exclusive = True
        port.open()
        return port

    def listen(self, at: endpoint.Endpoint) -> UdpLink:
        """Receive datagrams at an address of this computer. Raises OSError."""
        from fixgw.net.access import Networks
        from fixgw.net.udp import UdpLink

        allow = None if (networks := self.options.networks) is None else Networks(networks)
        return UdpLink(at, self._refuse_datagram, lambda: self.clock(), allow=allow, whole=self.whole_datagrams)

    def _refuse_datagram(self, why: str, sender: Address) -> None:
        self.count(why)
        self.complain("refused a datagram from %s: %s", sender, why, about=why)


CMDLINE = "/proc/cmdline"


def preflight(port: str) -> Iterator[Device | Finding]:
    """Report what a serial port of this computer needs, for `PluginBase.preflight`."""
    if not port.startswith("/"):
        return
    on_board = port.removeprefix("/dev/") in ("serial0", "serial1", "ttyAMA0", "ttyS0")
    yield Device(port, "dialout", "sudo raspi-config nonint do_serial_hw 0  # and reboot" if on_board else "")
    with suppress(OSError), open(CMDLINE, encoding="utf-8", errors="replace") as file:
        for word in file.read(4096).split():
            name, _, console = word.partition("=")
            device = f"/dev/{console.partition(',')[0]}"
            if name == "console" and os.path.realpath(device) == os.path.realpath(port):
                fix = "sudo raspi-config nonint do_serial_cons 1  # and reboot"
                yield Finding("problem", f"{port} is a system console: its login prompt disturbs the device", fix)


def _pyserial() -> Any:
    """Import pyserial when it is first needed. Raises `MissingLibrary`."""
    try:
        import serial
    except ImportError:
        raise MissingLibrary("pyserial") from None
    return serial


def _close(port: Line) -> None:
    with suppress(Exception):  # a device that is gone may fail in many ways
        port.close()


def _describe(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        return "no such device"
    if code == errno.EACCES:
        return "permission denied (is the user in the group 'dialout'?)"
    if code == errno.EBUSY or "exclusively lock" in str(error):
        return "in use by another program"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
