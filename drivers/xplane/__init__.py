"""X-Plane 10 to 12 over UDP: flight and engine from the simulator, levers and settings to it. All is SIMULATED."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

from msgspec import Meta, Struct, field

from fixgw.database import Database
from fixgw.drivers.links.instrument import ChangesWithin
from fixgw.drivers.links.serial import Allow, LinkOptions
from fixgw.drivers.links.simulator import SimulatorLink, SimulatorPoller, check_host, here_for
from fixgw.drivers.xplane import protocol
from fixgw.drivers.xplane.protocol import PLACES, Channel, Client, Row
from fixgw.errors import did_you_mean
from fixgw.kit.publish import check_changes
from fixgw.kit.units import conversion
from fixgw.net import access, endpoint
from fixgw.plugin import Feeds, Poller

if TYPE_CHECKING:
    from fixgw.net.udp import Datagrams

AUTO = "auto"
#: The place of a value that is left alone.
LEAVE = "x"
ONE_WAY = "is also sent: a value can only go one way"
POUNDS_PER_KG = 1 / 0.45359237
SECONDS_PER_HOUR = 3600.0

Port = Annotated[int, Meta(ge=1, le=65535)]
RowNumber = Annotated[int, Meta(ge=0, le=999)]
#: Eight names, separated by commas.
Places = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(min_length=1, max_length=protocol.MAX_NAME)]


class DatarefOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dataref in another unit than its key: the value is multiplied by `factor`, then `offset` is added."""

    dataref: Name
    factor: float = 1.0
    offset: float = 0.0


class XplaneOptions(LinkOptions, frozen=True, kw_only=True):
    """Options of a simulator."""

    ipaddress: Annotated[
        str,
        Meta(
            min_length=1,
            description="The computer on which X-Plane runs; `auto` finds it in this network by its beacon",
        ),
    ] = "127.0.0.1"
    udp_in: Annotated[Port, Meta(description="UDP port of this computer at which to receive")] = 49001
    udp_out: Annotated[
        Port, Meta(description="UDP port at which X-Plane receives; with `auto`, the beacon says which")
    ] = protocol.PORT
    allow: Annotated[
        Allow,
        Meta(
            description="More networks whose datagrams are accepted than `ipaddress`; with `auto`, instead of this "
            "computer and its own networks"
        ),
    ] = ()
    read: Annotated[
        tuple[RowNumber, ...] | dict[str, Name | DatarefOptions] | None,
        Meta(
            description="What to read. A list: rows of the Data Output page, which are switched on; all that come if "
            "not given. A mapping of keys to datarefs: X-Plane is asked for those"
        ),
    ] = None
    rows: Annotated[
        dict[RowNumber, Places],
        Meta(
            extra={"pattern": r"row(\d+)"},
            description="The keys of a row to read, in place of the usual ones: `row4: x, VS, ANORM`; `x` is not read",
        ),
    ] = field(default_factory=dict)
    items: Annotated[
        dict[RowNumber, Places],
        Meta(
            extra={"pattern": r"idx(\d+)"},
            description="The keys to send as a row: `idx25: THR1, x, x, x, x, x, x, x`; `x` is left alone",
        ),
    ] = field(default_factory=dict)
    write: Annotated[
        dict[str, Name], Meta(description="Keys to send, and the datarefs to set: `{BARO: sim/cockpit2/...}`")
    ] = field(default_factory=dict)
    position: Annotated[
        bool, Meta(description="Ask for the exact position, with attitude, ground speed and track (RPOS)")
    ] = False
    rate: Annotated[int, Meta(ge=1, le=60, description="How many times a second to read and to send, in Hz")] = 20
    temperatures: Annotated[
        Literal["degC", "degF"] | None,
        Meta(description="Unit of the rows 47, 48 and 50, as the aircraft's file says; they are not read without it"),
    ] = None
    fuel_density: Annotated[
        Annotated[float, Meta(ge=4.0, le=9.0)] | None,
        Meta(description="Pounds a gallon, to read fuel_flow_kg_sec and the rows 45 and 62: 6.02 is avgas, 6.7 Jet A"),
    ] = None
    changes_within: ChangesWithin = field(default_factory=dict)

    @property
    def url(self) -> str:
        here = "0.0.0.0" if self.ipaddress == AUTO else here_for(self.ipaddress)
        return str(endpoint.Endpoint("udp", here, self.udp_in))

    @property
    def networks(self) -> Sequence[str]:
        if self.ipaddress == AUTO and not self.allow:
            return (*access.LOOPBACK, *access.own_networks())
        return self.allow


class Plan(NamedTuple):
    """What to read and to send, and the (option, message) pairs of what is wrong."""

    datarefs: list[tuple[str, Channel]]
    rows: dict[int, Row]
    problems: list[tuple[str, str]]


class Plugin(SimulatorPoller[XplaneOptions]):
    """One X-Plane."""

    def __post_init__(self) -> None:
        options = self.options
        self._plan = make_plan(options, self.db)
        self._items = {row: _places(text) for row, text in options.items.items()}
        self._beacon: Datagrams | None = None
        if options.items or options.write:
            self.send_rate = float(options.rate)
        super().__post_init__()

    def protocol(self) -> Client:
        options, plan = self.options, self._plan
        return Client(
            self.clock,
            self.counts,
            datarefs=plan.datarefs,
            rows=plan.rows,
            ask_rows=options.read if isinstance(options.read, tuple) else (),
            position=options.position,
            rate=options.rate,
        )

    @property
    def _client(self) -> Client:
        return cast(Client, self._protocol)

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: XplaneOptions, db: Database) -> Iterable[tuple[str, str]]:
        if options.ipaddress != AUTO:
            yield from check_host("ipaddress", options.ipaddress, options.udp_out)
        yield from access.problems("allow", options.allow)
        yield from make_plan(options, db).problems
        for option, key in _sent(options):
            if key not in db and not _of_another_engine(key, db):
                yield option, f"the database has no item {key!r}{did_you_mean(key, db)}"
            elif key in db and db.item(key).type == "str":
                yield option, f"{key} is text, but X-Plane takes numbers"
        for row, text in options.items.items():
            if len(_places(text)) > PLACES:
                yield f"idx{row}", f"a row has {PLACES} places"
        yield from check_changes(options.changes_within, cls.writes(options))

    @classmethod
    def advise(cls, options: XplaneOptions, db: Database) -> Iterable[tuple[str, str]]:
        if options.ipaddress != AUTO and options.udp_out in protocol.OTHER_PORTS:
            yield "udp_out", f"X-Plane receives at port {protocol.PORT}, unless its settings say otherwise"
        for option, key in _sent(options):
            if key not in db and (other := _of_another_engine(key, db)):
                yield option, f"the database has no item {key}, but {other}: it is left alone (-999 is sent)"
        rows = _rows(options)
        for place, n in enumerate(options.read) if isinstance(options.read, tuple) else ():
            if n not in rows:
                yield f"read.{place}", f"nothing is read of row {n}: {_remedy(n)}"

    @classmethod
    def writes(cls, options: XplaneOptions) -> Iterable[str]:
        keys = [key for key in options.read or () if isinstance(key, str)]
        wanted = options.read if isinstance(options.read, tuple) else None
        keys += [c.key for n, row in _rows(options).items() if wanted is None or n in wanted for c in row if c]
        return dict.fromkeys([*keys, *(protocol.POSITION_KEYS if options.position else ())])

    @classmethod
    def claims(cls, options: XplaneOptions) -> Iterable[tuple[str, str]]:
        yield f"UDP port {options.udp_in}", "udp_in"

    @classmethod
    def preflight(cls, options: XplaneOptions) -> Iterable[Any]:
        if options.read is not None:  # otherwise X-Plane's own settings decide what comes
            others = {channel.key for row in protocol.ENGINE_ROWS for channel in row[1:] if channel}
            yield Feeds(tuple(key for key in cls.writes(options) if key not in others))

    def get_status(self) -> Mapping[str, Any]:
        unanswered = self._client.unanswered
        return {**super().get_status(), "unanswered": ", ".join(unanswered)} if unanswered else super().get_status()

    def health(self) -> str:
        if trouble := Poller.health(self):
            return trouble
        if self.options.ipaddress == AUTO and (not isinstance(self.port, SimulatorLink) or self.port.to is None):
            return "no X-Plane found: nothing in this network sends its beacon"
        options = self.options
        if not (options.position or self._plan.datarefs or options.read or options.rows or options.read is None):
            return ""  # nothing is expected to come
        trouble = super().health()
        if not trouble and (unanswered := self._client.unanswered):
            return f"X-Plane does not send {', '.join(unanswered[:3])}{' ...' if len(unanswered) > 3 else ''}"
        return trouble

    # -- work ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        super().open()
        if self.options.ipaddress == AUTO and isinstance(self.port, SimulatorLink):
            from fixgw.net.udp import Datagrams

            self._beacon = Datagrams(
                endpoint.Endpoint("udp", "0.0.0.0", protocol.BEACON_PORT),
                self._refuse_datagram,
                allow=access.Networks(self.options.networks),
                shared=True,
            )
            self._beacon.join(protocol.BEACON_GROUP)

    def poll(self, timeout: float) -> None:
        if self._beacon is not None:
            self._look_for_beacons(self._beacon)
        super().poll(timeout)

    def close(self) -> None:
        if self.port is not None:
            with suppress(OSError):
                for farewell in self._client.farewell():
                    self.send(farewell)
        if self._beacon is not None:
            self._beacon.close()
            self._beacon = None
        super().close()

    def requests(self) -> Iterable[bytes]:
        if self.options.ipaddress == AUTO and isinstance(self.port, SimulatorLink) and self.port.to is None:
            return ()
        return self._client.due()

    def outgoing(self) -> Iterator[bytes]:
        for row, keys in self._items.items():
            yield protocol.send_row(row, [None if key is None else self._number(key) for key in keys])
        for key, dataref in self.options.write.items():
            if (number := self._number(key)) is not None:
                yield protocol.send_dataref(dataref, number)

    def _number(self, key: str) -> float | None:
        value = self.value(key)
        return float(value) if isinstance(value, int | float) else None

    def _look_for_beacons(self, socket: Datagrams) -> None:
        """Turn to the X-Plane whose beacon comes, unless the one that we know still speaks."""
        link = self.port
        if not isinstance(link, SimulatorLink):
            return
        for datagram, _, address in socket.receive():
            try:
                beacon = protocol.read_beacon(datagram)
            except protocol.Refused:
                beacon = None
            if beacon is None or not beacon.is_simulator or not beacon.port:
                self.count("beacons ignored")
                continue
            to = (address[0], beacon.port)
            if to != link.to and (link.to is None or self.clock() - self.heard_at > self.patience_s):
                self.log.info("X-Plane %s found on %s, %s port %d", beacon.version, beacon.name, *to)
                link.aim(to)
                self._new_protocol()

    def listen(self, at: endpoint.Endpoint) -> SimulatorLink:
        options = self.options
        to = None if options.ipaddress == AUTO else (options.ipaddress, options.udp_out)
        return SimulatorLink(at, to, self._refuse_datagram, lambda: self.clock(), options.networks)


def _places(text: str) -> list[str | None]:
    """The keys of a row; None for places that are left alone."""
    names = [name.strip() for name in text.split(",")]
    return [None if name in (LEAVE, LEAVE.upper(), "") else name for name in names]


def _sent(options: XplaneOptions) -> Iterator[tuple[str, str]]:
    """The (option, key) pairs that are sent."""
    for row, text in options.items.items():
        yield from ((f"idx{row}", key) for key in _places(text) if key is not None)
    yield from ((f"write.{key}", key) for key in options.write)


def _of_another_engine(key: str, db: Database) -> str:
    """The key of the first engine, if `key` is that of an engine that the aircraft does not have."""
    first = re.sub(r"[2-9]\Z", "1", key)
    return first if first != key and first in db else ""


def _rows(options: XplaneOptions) -> dict[int, Row]:
    """What rows hold, as far as the options say."""
    rows: dict[int, Row] = {} if isinstance(options.read, dict) else dict(protocol.ROWS)
    if not isinstance(options.read, dict):
        if options.temperatures is not None:
            scale = conversion(options.temperatures, "degC") or (1.0, 0.0)
            rows |= {n: _scaled(row, *scale) for n, row in protocol.TEMPERATURES.items()}
        if options.fuel_density is not None:
            rows |= {n: _scaled(row, 1.0 / options.fuel_density) for n, row in protocol.FUEL.items()}
    if options.position:  # it is better
        better = protocol.POSITION_KEYS
        rows = {n: tuple(None if c is None or c.key in better else c for c in row) for n, row in rows.items()}
    for n, text in options.rows.items():
        rows[n] = tuple(None if key is None else Channel(key) for key in _places(text))
    return rows


def _scaled(row: Row, factor: float, summand: float = 0.0) -> Row:
    return tuple(channel and Channel(channel.key, factor, summand) for channel in row)


def make_plan(options: XplaneOptions, db: Database) -> Plan:
    """What `options` mean with the items of `db`."""
    rows = _rows(options)
    plan = Plan([], rows, [])
    problems = plan.problems
    sent = {key for _, key in _sent(options)}
    if isinstance(options.read, tuple):
        for n in {*rows} - {*options.read, *options.rows}:
            del rows[n]
    for n, text in options.rows.items():
        keys = _places(text)
        problems += [(f"row{n}", _no_item(key, db)) for key in keys if key is not None and key not in db]
        problems += [(f"row{n}", f"{key} {ONE_WAY}") for key in keys if key in sent]
        if len(keys) > PLACES:
            problems.append((f"row{n}", f"a row has {PLACES} places"))
    for key, wanted in options.read.items() if isinstance(options.read, dict) else ():
        dataref = wanted if isinstance(wanted, str) else wanted.dataref
        if key not in db:
            problems.append((f"read.{key}", _no_item(key, db)))
        elif key in sent:
            problems.append((f"read.{key}", f"{key} {ONE_WAY}"))
        elif options.position and key in protocol.POSITION_KEYS:
            problems.append((f"read.{key}", "`position` gives this key, too: read it from one of them"))
        elif not isinstance(wanted, str) and (wanted.factor, wanted.offset) != (1.0, 0.0):
            plan.datarefs.append((dataref, Channel(key, wanted.factor, wanted.offset)))
        else:
            units = db.item(key).units
            numbers = _conversion(protocol.unit_of(dataref), units, options.fuel_density)
            if numbers is None:
                there = protocol.unit_of(dataref)
                problems.append(
                    (
                        f"read.{key}",
                        f"the dataref is in {there}, {key} in {units}: say how to convert, "
                        f"`{{dataref: {dataref}, factor: ...}}`",
                    )
                )
            else:
                plan.datarefs.append((dataref, Channel(key, *numbers)))
    return plan


def _conversion(unit: str, wanted: str, fuel_density: float | None) -> tuple[float, float] | None:
    if unit == "kg/s" and wanted == "gal/hr" and fuel_density is not None:
        return SECONDS_PER_HOUR * POUNDS_PER_KG / fuel_density, 0.0
    return conversion(unit, wanted)


def _remedy(row: int) -> str:
    """What makes a row readable."""
    if row in protocol.TEMPERATURES:
        return "say in which unit it is, `temperatures: degC` or degF, as the aircraft's file says"
    if row in protocol.FUEL:
        return "say how heavy the fuel is, `fuel_density: 6.02`"
    return f"say what it holds, `row{row}: KEY, ...`"


def _no_item(key: str, db: Database) -> str:
    return f"the database has no item {key!r}{did_you_mean(key, db)}"
