"""Tablets (ForeFlight, SkyDemon, Avare, EasyVFR, Garmin Pilot): position, attitude and traffic in GDL 90 or as text."""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from fixgw.database import Database
from fixgw.drivers.gdl90 import frame
from fixgw.drivers.gdl90_out.protocol import Own, Speaker, Turns, read_announcement
from fixgw.drivers.links.recorded import RecordedDatagrams
from fixgw.errors import DeviceError
from fixgw.kit import traffic
from fixgw.kit.outward import MaxAge, Outward, SendSimulated
from fixgw.kit.raw import Feed, point
from fixgw.net import access, endpoint
from fixgw.net.access import Address
from fixgw.net.udp import Datagrams
from fixgw.plugin import Options, Poller

#: The port to which tablets broadcast that they are there.
ANNOUNCEMENT_PORT = 63093
#: A tablet that has not announced itself for this long gets nothing more. ForeFlight does every 5 s.
FORGET_TABLET_S = 15.0
MAX_TABLETS = 8
#: Seconds between attempts to listen to announcements, if another program has the port.
LISTEN_AGAIN_S = 5.0
#: A fixed target to which nothing could be sent for this long is reported.
UNREACHABLE_S = 3.0

Targets = tuple[Annotated[str, Meta(min_length=1)], ...]


class OutOptions(Options, frozen=True, kw_only=True):
    """Options of the output. Without `targets`, `text_targets` or `allow` there is nobody to send to."""

    targets: Annotated[
        Targets,
        Meta(max_length=16, description="Tablets that get GDL 90, as `ADDRESS:PORT`; may be a broadcast address"),
    ] = ()
    text_targets: Annotated[
        Targets,
        Meta(
            max_length=16,
            description="Programs that get lines of text (XGPS, XATT, XTRAFFIC), as `ADDRESS:PORT`; usually port 49002",
        ),
    ] = ()
    allow: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks whose tablets get GDL 90 when they announce themselves, as ForeFlight does: "
            "`192.168.4.0/24`. Without it, announcements are not heard"
        ),
    ] = ()
    announcement_port: Annotated[
        int, Meta(ge=1, le=65535, description="UDP port at which tablets announce themselves")
    ] = ANNOUNCEMENT_PORT
    attitude: Annotated[
        tuple[Literal["foreflight", "stratux"], ...],
        Meta(description="Formats in which to send the attitude; `stratux` for apps that know no other"),
    ] = ("foreflight",)
    attitude_rate: Annotated[float, Meta(ge=1.0, le=10.0, description="Attitudes to send per second")] = 5.0
    as_stratux: Annotated[bool, Meta(description="Send Stratux's heartbeat, for apps that wait for it")] = False
    address: Annotated[
        Annotated[str, Meta(pattern="^[0-9A-Fa-f]{6}$")] | None,
        Meta(
            description="ICAO address of this aircraft, six hexadecimal digits in quotes. Traffic with this address is "
            "this aircraft, and is left out"
        ),
    ] = None
    airborne_above: Annotated[
        float, Meta(ge=0.0, le=200.0, description="Ground speed in knots above which the aircraft counts as flying")
    ] = 35.0
    traffic: Annotated[bool, Meta(description="Send the other aircraft that receivers report")] = True
    max_age: MaxAge = 3.0
    simulated: SendSimulated = False


class Tablet(NamedTuple):
    """A tablet that has announced itself."""

    app: str
    port: int
    heard_at: float


class Plugin(Poller[OutOptions]):
    """The output to all tablets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        address = None if options.address is None else int(options.address, 16)
        no_call = str(self.db.item("ACID").definition.initial or "") if "ACID" in self.db else ""
        outward = Outward(
            self.db.read, lambda: self.db.clock(), lambda: self.source, options.max_age, options.simulated
        )
        self.speaker = Speaker(outward, lambda: self.clock(), Own(address, options.airborne_above, no_call))
        self._turns = Turns(lambda: self.clock())
        self._traffic = traffic.table(self.db)
        self._traffic.own(self.name, address)
        self._fixed = [_address(target) for target in options.targets]
        self._text = [_address(target) for target in options.text_targets]
        self.tablets: dict[Address, Tablet] = {}
        self.counts |= dict.fromkeys(("sent", "not sent", "traffic", "announcements", "announcements refused"), 0)
        self._senders: dict[bool, Datagrams | RecordedDatagrams] = {}
        self._ears: Datagrams | RecordedDatagrams | None = None
        self._feed: Feed | None = None
        self._second_at = self._attitude_at = 0.0
        self._reached: dict[tuple[str, int], float] = {}
        self._deaf = ""  # why announcements are not heard although they should be
        self._listen_at = 0.0

    @classmethod
    def check(cls, options: OutOptions, db: Database) -> Iterable[tuple[str, str]]:
        for name, targets in ("targets", options.targets), ("text_targets", options.text_targets):
            for n, target in enumerate(targets):
                try:
                    _address(target)
                except ValueError as error:
                    yield f"{name}.{n}", str(error)
        yield from access.problems("allow", options.allow)
        if not (options.targets or options.text_targets or options.allow):
            yield (
                "targets",
                "nobody to send to: name a tablet, `targets: [192.168.4.20:4000]`, or its network, "
                "`allow: [192.168.4.0/24]`, if it announces itself",
            )

    def health(self) -> str:
        if trouble := super().health():
            return trouble
        now = self.clock()
        lost = [host for (host, _), since in list(self._reached.items()) if now - since > UNREACHABLE_S]
        if lost:
            return f"nothing can be sent to {', '.join(lost)}"
        return f"tablets that announce themselves are not heard: {self._deaf}" if self._deaf else ""

    def get_status(self) -> Mapping[str, Any]:
        now = self.clock()
        tablets = {
            f"{host}:{tablet.port}": f"{tablet.app}, {now - tablet.heard_at:.0f} s ago"
            for host, tablet in list(self.tablets.items())
        }
        return {**super().get_status(), "tablets": tablets, "other aircraft": len(self._traffic.heard_within())}

    def open(self) -> None:
        options = self.options
        self._feed = point(self.db).feed(self.name)
        six = {":" in host for host, _ in (*self._fixed, *self._text)} | ({False} if options.allow else set())
        trouble = ""
        for v6 in six:
            try:
                self._senders[v6] = self._socket(endpoint.Endpoint("udp", "::" if v6 else "0.0.0.0", 0))
            except OSError as error:  # such as a computer without IPv6: other targets do not depend on it
                trouble = f"no socket to send from: {error.strerror or error}"
        if not self._senders:
            raise DeviceError(trouble)
        self._listen()
        if self._deaf and not (self._fixed or self._text):
            raise DeviceError(self._deaf)
        self._second_at = self._attitude_at = now = self.clock()
        self._reached = dict.fromkeys((*self._fixed, *self._text), now)

    def poll(self, timeout: float) -> None:
        self._wait(max(0.0, min(timeout, self._attitude_at - self.clock(), self._second_at - self.clock())))
        now = self.clock()
        for host, tablet in list(self.tablets.items()):
            if now - tablet.heard_at > FORGET_TABLET_S:
                self.log.info("%s at %s is gone", tablet.app, host)
                del self.tablets[host]
        with_attitude = now >= self._attitude_at
        with_second = now >= self._second_at
        if with_attitude:
            self._attitude_at = _next(self._attitude_at, 1.0 / self.options.attitude_rate, now)
        if with_second:
            self._second_at = _next(self._second_at, 1.0, now)
        if self._deaf and now >= self._listen_at:
            self._listen()
        if with_attitude or with_second:
            self._say(with_second, with_attitude)

    def poll_by(self) -> float:
        return min(self._attitude_at, self._second_at)

    def close(self) -> None:
        senders, self._senders, ears, self._ears = self._senders, {}, self._ears, None
        for sender in senders.values():
            sender.close()
        if ears is not None:
            ears.close()

    def finish(self) -> None:
        super().finish()
        self._traffic.own(self.name, None)

    # -- work ----------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Listen to announcements, if they are allowed and nothing is in the way. Fixed targets do not depend on it."""
        options = self.options
        self._deaf, self._listen_at = "", self.clock() + LISTEN_AGAIN_S
        if not options.allow:
            return
        try:
            self._ears = self._socket(
                endpoint.Endpoint("udp", "0.0.0.0", options.announcement_port),
                self._refuse,
                allow=access.Networks(options.allow),
                shared=True,
            )
        except OSError as error:
            self._deaf = f"UDP port {options.announcement_port}: {error.strerror or error}"

    def _socket(self, at: endpoint.Endpoint, *more: Any, **options: Any) -> Datagrams | RecordedDatagrams:
        return Datagrams(at, *more, **options) if self._feed is None else RecordedDatagrams(self._feed)

    def _wait(self, seconds: float) -> None:
        """Wait, and note the tablets that announce themselves meanwhile."""
        ears = self._ears
        if ears is None:
            self.stopping.wait(seconds)
            return
        if isinstance(ears, Datagrams):
            poll = select.poll()
            poll.register(ears.fileno(), select.POLLIN)
            if not poll.poll(seconds * 1000):
                return
        for data, host, _ in ears.receive():
            said = read_announcement(data)
            if said is None or (host not in self.tablets and len(self.tablets) >= MAX_TABLETS):
                self.count("announcements refused")
                self.complain("refused an announcement from %s: %s", host, data[:80] if said is None else "too many")
                continue
            self.count("announcements")
            if host not in self.tablets:
                self.log.info("%s at %s, port %d", said.app, host, said.port)
            self.tablets[host] = Tablet(said.app, said.port, self.clock())

    def _say(self, with_second: bool, with_attitude: bool) -> None:
        options, speaker = self.options, self.speaker
        others = list(self._turns.due(self._others())) if options.traffic else []
        tablets = ((str(host), tablet.port) for host, tablet in self.tablets.items())
        targets = list(dict.fromkeys((*self._fixed, *tablets)))
        if targets:
            messages = speaker.second(options.as_stratux) if with_second else []
            if with_attitude:
                messages += speaker.attitude("foreflight" in options.attitude, "stratux" in options.attitude)
            reports = [report for other in others if (report := speaker.report(other)) is not None]
            self.count("traffic", len(reports))
            self._send([frame(message) for message in (*messages, *reports)], targets)
        if self._text:
            lines = [speaker.gps_line()] if with_second else []
            lines += [speaker.attitude_line()] if with_attitude else []
            lines += [speaker.traffic_line(other) for other in others]
            self._send([line for line in lines if line is not None], self._text)

    def _others(self) -> Iterator[traffic.Target]:
        """The other aircraft whose position is fresh."""
        now = self.db.clock()
        for target in self._traffic.heard_within(self.options.max_age):
            if now - target.placed_at <= self.options.max_age and not self._traffic.is_own(target):
                yield target

    def _send(self, datagrams: list[bytes], targets: list[tuple[str, int]]) -> None:
        """Send each datagram to each target. An app that sleeps is not an error."""
        now = self.clock()
        for target in targets:
            sender = self._senders.get(":" in target[0])
            arrived = 0 if sender is None else sum(sender.send(datagram, target) for datagram in datagrams)
            self.count("sent", arrived)
            self.count("not sent", len(datagrams) - arrived)
            if arrived == len(datagrams) and target in self._reached:
                self._reached[target] = now

    def _refuse(self, why: str, sender: Address) -> None:
        self.count("announcements refused")
        self.complain("refused an announcement from %s: %s", sender, why, about=why)


def _address(target: str) -> tuple[str, int]:
    """The socket address of a target. Raises ValueError."""
    there = endpoint.parse(f"udp://{target}")
    if there.address is None:
        raise ValueError(f"{target}: name an address, because looking up a name in flight might fail")
    if there.address.version == 6 and there.address.is_link_local:
        raise ValueError(f"{target}: nothing can be sent to a link-local address; name another one of the tablet")
    return str(there.address), there.port


def _next(due: float, period: float, now: float) -> float:
    """The next time of something periodic; what was missed is not made up for."""
    return due + period if now - due < period else now + period
