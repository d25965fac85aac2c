"""FlightGear: flight and engine from the simulator by its generic protocol or HTTP, values to it. All is SIMULATED."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, cast

from msgspec import Meta, Struct, field

from fixgw.database import Database
from fixgw.drivers.fgfs import protocol
from fixgw.drivers.fgfs.protocol import BadFile, Generic, Layout, Properties, Property
from fixgw.drivers.links.instrument import ChangesWithin
from fixgw.drivers.links.serial import Allow, Line, LinkOptions
from fixgw.drivers.links.simulator import SimulatorLink, SimulatorPoller, check_host
from fixgw.errors import DeviceError, did_you_mean
from fixgw.kit.publish import check_changes
from fixgw.kit.update import TypeName
from fixgw.net import access, endpoint
from fixgw.plugin import Feeds, Poller

#: The protocol file that comes with the driver.
OWN_FILE = "fixgw.xml"
#: The web server must answer a round within this time: the first of its values is as old as the round.
ROUND_S = 3.0

Port = Annotated[int, Meta(ge=1, le=65535)]
Path_ = Annotated[str, Meta(min_length=2, max_length=400, pattern="^/[!-~]+$")]


class PropertyOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A property in another unit than its key: the value is multiplied by `factor`, then `offset` is added."""

    property: Path_
    factor: float = 1.0
    offset: float = 0.0


class FgfsOptions(LinkOptions, frozen=True, kw_only=True):
    """Options of a simulator."""

    fg_root: Annotated[
        str, Meta(description="FlightGear's data directory, in which protocol files are looked for; `~` is your home")
    ] = ""
    xml_file: Annotated[
        str,
        Meta(
            min_length=1,
            description="The protocol file, which FlightGear must use too: a path, or a name in `Protocol` of "
            "`fg_root`, or in `fg_root`; by default the one that comes with the gateway",
        ),
    ] = OWN_FILE
    recv_host: Annotated[str, Meta(min_length=1, description="Address of this computer at which to receive")] = (
        "127.0.0.1"
    )
    recv_port: Annotated[Port, Meta(description="UDP port at which to receive")] = 5500
    send_host: Annotated[str, Meta(min_length=1, description="The computer on which FlightGear runs")] = "127.0.0.1"
    send_port: Annotated[Port, Meta(description="UDP port at which FlightGear receives")] = 5501
    allow: Annotated[
        Allow, Meta(description="Networks whose datagrams are accepted besides `send_host` and this computer")
    ] = ()
    rate: Annotated[
        float, Meta(gt=0.0, le=100.0, description="How many times a second to send, or to read by HTTP, in Hz")
    ] = 10.0
    instead: Annotated[
        dict[str, float],
        Meta(
            description="Values to send in place of those that are not good, by key. Without them a record is not sent "
            "while a value is missing: it has no place for that"
        ),
    ] = field(default_factory=dict)
    http: Annotated[
        str,
        Meta(description="`HOST:PORT` of FlightGear's web server, to read single properties in place of the protocol"),
    ] = ""
    read: Annotated[
        dict[str, Path_ | PropertyOptions],
        Meta(description="With `http`: keys, and the properties to read, such as `/position/latitude-deg`"),
    ] = field(default_factory=dict)
    changes_within: ChangesWithin = field(default_factory=dict)

    @property
    def url(self) -> str:
        if self.http:
            return f"tcp://{self.http}"
        return str(endpoint.Endpoint("udp", self.recv_host, self.recv_port))

    @property
    def networks(self) -> Sequence[str]:
        return (*access.LOOPBACK, *self.allow)


def find_file(options: FgfsOptions) -> Path:
    """The protocol file; if there is none, the place where it should be."""
    root = Path(options.fg_root).expanduser() if options.fg_root else Path()
    named = Path(options.xml_file).expanduser()
    names = [named] if named.suffix else [named.with_name(f"{named.name}.xml"), named]
    places = [place / name for place in (root / "Protocol", root) for name in names]
    if options.xml_file == OWN_FILE:
        places.append(Path(__file__).with_name(OWN_FILE))
    return next((place for place in places if place.is_file()), places[0])


def read_file(options: FgfsOptions) -> tuple[Layout | None, Layout | None]:
    """The layouts of what FlightGear sends and receives. Raises `BadFile`, and `DeviceError` if there is no file."""
    path = find_file(options)
    try:
        with path.open("rb") as file:
            data = file.read(protocol.MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from None
    try:
        return protocol.parse(data)
    except BadFile as error:
        raise BadFile(f"{path}: {error}") from None


class Plugin(SimulatorPoller[FgfsOptions]):
    """One FlightGear."""

    def __post_init__(self) -> None:
        self._output: Layout | None = None
        self._input: Layout | None = None
        self._types: dict[str, TypeName] = {item.key: item.type for item in self.db.items()}
        self._missing: list[str] = []
        super().__post_init__()

    def protocol(self) -> Generic | Properties:
        options = self.options
        if options.http:
            return Properties(self.clock, _properties(options, self._types), self._types, options.rate, self.counts)
        return Generic(self._output or Layout(()), self._types, self.counts)

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: FgfsOptions, db: Database) -> Iterable[tuple[str, str]]:
        yield from access.problems("allow", options.allow)
        yield from check_changes(options.changes_within, cls.writes(options))
        if options.http:
            try:
                endpoint.parse(options.url)
            except ValueError:
                yield "http", "write HOST:PORT, for example 127.0.0.1:8080"
            if not options.read:
                yield "read", "say what to read: `read: {LAT: /position/latitude-deg}`"
            for key in options.read:
                if key not in db:
                    yield f"read.{key}", f"the database has no item {key!r}{did_you_mean(key, db)}"
            return
        if options.read:
            yield "read", "needs `http`: the protocol file says what to read"
        yield from check_host("recv_host", options.recv_host, options.recv_port)
        yield from check_host("send_host", options.send_host, options.send_port)
        try:
            read_file(options)
        except BadFile as error:
            yield "xml_file", str(error)
        except DeviceError:
            pass  # FlightGear may be installed later

    @classmethod
    def advise(cls, options: FgfsOptions, db: Database) -> Iterable[tuple[str, str]]:
        if options.http:
            return
        try:
            output, given = read_file(options)
        except DeviceError as error:
            yield "xml_file", f"{error}: nothing is read or sent until it is there"
            return
        except BadFile:  # `check` reports it
            return
        for key in output.keys if output is not None else ():
            if key not in db:
                yield "xml_file", f"the database has no item {key!r}{did_you_mean(key, db)}: it is not read"
        for key in given.keys if given is not None else ():
            if key not in db and key not in options.instead:
                yield (
                    "xml_file",
                    f"the database has no item {key!r}{did_you_mean(key, db)}: nothing is sent to FlightGear "
                    f"without it; a fixed value may stand in for it, `instead: {{{key}: 0}}`",
                )

    @classmethod
    def writes(cls, options: FgfsOptions) -> Iterable[str]:
        if options.http:
            return list(options.read)
        with suppress(BadFile, DeviceError):
            output, _ = read_file(options)
            return list(dict.fromkeys(output.keys)) if output is not None else []
        return []

    @classmethod
    def claims(cls, options: FgfsOptions) -> Iterable[tuple[str, str]]:
        if not options.http:
            yield f"UDP port {options.recv_port}", "recv_port"

    @classmethod
    def preflight(cls, options: FgfsOptions) -> Iterable[Any]:
        yield Feeds(tuple(cls.writes(options)))

    def get_status(self) -> Mapping[str, Any]:
        status = {**super().get_status()}
        if not self.options.http:
            status["file"] = str(find_file(self.options))
        if missing := list(self._missing):
            status["not sent for want of"] = ", ".join(missing)
        return status

    def health(self) -> str:
        trouble = Poller.health(self)
        if not trouble and (self._output is not None or self.options.http):  # otherwise nothing is expected to come
            trouble = super().health()
        if trouble or not self._missing or self.counts.get("sent"):
            return trouble
        return f"nothing is sent to FlightGear: {', '.join(self._missing)} not good"

    def open(self) -> None:
        if not self.options.http:
            try:
                self._output, self._input = read_file(self.options)
            except BadFile as error:  # it has changed since it was checked
                raise DeviceError(str(error)) from None
            self.send_rate = self.options.rate if self._input is not None else 0.0
        super().open()

    # -- work ----------------------------------------------------------------------------------------------------------

    def requests(self) -> Iterable[bytes]:
        if self.options.http:
            reader = cast(Properties, self._protocol)
            if reader.begun_at is not None and self.clock() - reader.begun_at > ROUND_S:
                raise DeviceError(f"{self.options.url} does not answer within {ROUND_S:g} s")
            if (path := reader.due()) is not None:
                yield path.encode()

    def outgoing(self) -> Iterator[bytes]:
        assert self._input is not None
        values = {key: self.value(key) if key in self.db else None for key in self._input.keys}
        self._missing = [key for key, value in values.items() if value is None and key not in self.options.instead]
        values |= {key: value for key, value in self.options.instead.items() if values.get(key, 0.0) is None}
        data = protocol.record(self._input, values)
        if data is not None:
            yield data
        else:
            self.count("records left out")

    def _open_now(self) -> Line:
        if self.options.http:
            from fixgw.drivers.fgfs.http import HttpLine

            return HttpLine(endpoint.parse(self.options.url))
        return super()._open_now()

    def listen(self, at: endpoint.Endpoint) -> SimulatorLink:
        options = self.options
        to = (options.send_host, options.send_port)
        return SimulatorLink(at, to, self._refuse_datagram, lambda: self.clock(), options.networks)


def _properties(options: FgfsOptions, types: Mapping[str, TypeName]) -> list[Property]:
    made = []
    for key, wanted in options.read.items():
        if key not in types:  # `check` reports it
            continue
        if isinstance(wanted, str):
            made.append(Property(wanted, key))
        else:
            made.append(Property(wanted.property, key, wanted.factor, wanted.offset))
    return made
