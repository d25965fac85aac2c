"""NMEA 0183 to autopilots, transponders and tablets: position, track, time, heading and guidance, from any source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from fixgw.database import Database
from fixgw.drivers.links.serial import UDP, Line, SerialOptions, SerialPoller
from fixgw.drivers.nmea0183_out.protocol import MAX_SENTENCE, Talker
from fixgw.errors import DeviceError
from fixgw.kit.anonymous import Shift
from fixgw.kit.outward import MaxAge, Outward, SendSimulated
from fixgw.kit.raw import Heard
from fixgw.net import endpoint
from fixgw.net.udp import UdpSender
from fixgw.plugin import Poller

Kind = Literal["RMC", "GGA", "GLL", "VTG", "GSA", "ZDA", "RMB", "APB", "XTE", "BOD", "HDG", "HDM", "HDT"]
Rate = Annotated[float, Meta(ge=0.1, le=20.0)]

STALLED_S = 2.0  # how long a receiver may take no data


class OutOptions(SerialOptions, frozen=True, kw_only=True):
    """Options of an output."""

    port: Annotated[
        str,
        Meta(
            min_length=1,
            description="Device, pseudo-terminal, `tcp://HOST:PORT` (connect to a receiver that listens), or "
            "`udp://ADDRESS:PORT`, which may be a broadcast or multicast address",
        ),
    ]
    baud: Annotated[int, Meta(ge=50, le=4000000, description="Bits per second; autopilots take 4800 or 9600")] = 4800
    sentences: Annotated[
        dict[Kind, Rate], Meta(min_length=1, description="Sentences to send, and how many of each per second")
    ] = field(default_factory=lambda: {"RMC": 1.0, "GGA": 1.0, "RMB": 1.0, "APB": 1.0})
    talker: Annotated[
        str, Meta(pattern="^[A-Z]{2}$", description="The two letters that every sentence begins with")
    ] = "GP"
    max_age: MaxAge = 3.0
    arrival: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="Distance to the waypoint, in nautical miles, at which it counts as reached"),
    ] = 0.3
    full_scale: Annotated[
        Annotated[float, Meta(ge=0.05, le=20.0)] | None,
        Meta(
            description="Cross-track distance in nautical miles that CDI shows as full scale; needed if only CDI is "
            "available"
        ),
    ] = None
    simulated: SendSimulated = False


class Plugin(SerialPoller[OutOptions]):
    """One output. It sends each sentence on schedule, and does not queue what the receiver is too slow to take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.talker = Talker(
            Outward(self.db.read, lambda: self.db.clock(), lambda: self.source, options.max_age, options.simulated),
            self.utc,
            talker=options.talker,
            arrival=options.arrival,
            full_scale=options.full_scale,
        )
        self.counts = {"sent": 0, "void": 0, "left out": 0, "bytes": 0}
        self._sends_datagrams = endpoint.scheme_of(options.port) == UDP
        self._due: dict[str, float] = {}
        self._void: dict[str, bool] = {}
        self._pending = b""
        self._taken = 0.0  # when the receiver last took data, or there was none to take

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: OutOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        if endpoint.scheme_of(options.port) == UDP:
            with suppress(ValueError):  # `super().check` reports it
                if endpoint.parse(options.port).address is None:
                    yield "port", "UDP needs an address, not a name: for example udp://192.168.1.255:10110"
        if "://" not in options.port:
            needed, carried = MAX_SENTENCE * sum(options.sentences.values()), options.baud / 10
            if needed > carried:
                yield (
                    "sentences",
                    f"up to {needed:.0f} bytes a second, but the line carries {carried:.0f}: send fewer sentences, "
                    "send them less often, or raise `baud` here and at the receiver",
                )

    @classmethod
    def claims(cls, options: OutOptions) -> Iterable[tuple[str, str]]:
        if endpoint.scheme_of(options.port) != UDP:  # any number may send
            yield from super().claims(options)

    @classmethod
    def anonymise(cls, options: OutOptions, entries: list[Heard], shift: Shift, alone: bool) -> list[Heard] | None:
        return [entry for entry in entries if not isinstance(entry.data, bytes)]  # no replay needs what was sent

    def health(self) -> str:
        return Poller.health(self)

    def get_status(self) -> Mapping[str, Any]:
        return {**super().get_status(), "void now": ", ".join(kind for kind, void in list(self._void.items()) if void)}

    def open(self) -> None:
        super().open()
        self._pending = b""
        self._taken = now = self.clock()
        self._due = dict.fromkeys(self.options.sentences, now)

    def poll(self, timeout: float) -> None:
        self._wait(max(0.0, min([timeout, *(due - self.clock() for due in self._due.values())])))
        self._flush()
        now = self.clock()
        for kind, due in self._due.items():
            if due <= now:
                period = 1.0 / self.options.sentences[kind]  # type: ignore[index]
                self._due[kind] = due + period if now - due < period else now + period
                self._say(kind)
        if now - self._taken > STALLED_S:
            raise DeviceError(f"{self.options.port}: the receiver takes no data (flow control, or nobody reads)")

    def poll_by(self) -> float:
        return min(self._due.values(), default=float("inf"))

    def close(self) -> None:
        if self.port is not None:  # unsent data is old, and closing would wait for it
            with suppress(Exception):
                self.port.reset_output_buffer()
        super().close()

    def _open_now(self) -> Line:
        if self._sends_datagrams:
            return UdpSender(endpoint.parse(self.options.port))
        return super()._open_now()

    # -- work ----------------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        """Wait by reading: receivers send nothing useful, but reading notices when they go away."""
        if self._fd is not None:
            data = self._read(seconds)
            if data and self._raw.taps:
                self._raw.pass_on(self.name, self.clock(), "in", data)
        else:
            self.stopping.wait(seconds)

    def _say(self, kind: str) -> None:
        if self._pending:  # earlier sentences are still waiting: this one would be late
            self.count("left out")
            return
        data, valid = self.talker.sentence(kind)
        if isinstance(self.port, UdpSender):
            if not self.port.send(data):
                self.count("left out")
                return
            if self._raw.taps:
                self._raw.pass_on(self.name, self.clock(), "out", data)
        else:
            self._pending = data
            self._flush()
        self.count("sent" if valid else "void")
        self.count("bytes", len(data))
        self._void[kind] = not valid

    def _flush(self) -> None:
        taken = self.send(self._pending) if self._pending else 0
        self._pending = self._pending[taken:]
        if taken or not self._pending:
            self._taken = self.clock()
