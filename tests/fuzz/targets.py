"""What is fuzzed: `TARGETS`, a row for each parser. Every driver's ``protocol.py`` has one.

CAN frames come as the records of SocketCAN, 16 bytes each; the other inputs are what the parser reads. Each stream's
file `good` in the corpus is what it must read again after any input.
"""

from __future__ import annotations

import logging
import re
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from fixgw import configuration, identity, settings, state
from fixgw.configuration import items, reader, writer
from fixgw.database import BAD, FAIL, Database, Definition
from fixgw.drivers import efb_text, gdl90
from fixgw.drivers import nmea as nmea0183
from fixgw.drivers.can_bridge import routing
from fixgw.drivers.canfix import mapping, node, table
from fixgw.drivers.canfix import protocol as canfix
from fixgw.drivers.canfix.inputs import Inputs
from fixgw.drivers.canfix.tool import text as canfix_text
from fixgw.drivers.dump1090 import protocol as dump1090
from fixgw.drivers.dynon_d10 import protocol as dynon_d10
from fixgw.drivers.eis import protocol as eis
from fixgw.drivers.fgfs import OWN_FILE
from fixgw.drivers.fgfs import protocol as fgfs
from fixgw.drivers.g3x import protocol as g3x
from fixgw.drivers.garmin_gnx375 import protocol as garmin_gnx375
from fixgw.drivers.gdl90_out import protocol as gdl90_out
from fixgw.drivers.gpio import protocol as gpio
from fixgw.drivers.gpsd import protocol as gpsd
from fixgw.drivers.i2c_ads1115 import protocol as i2c_ads1115
from fixgw.drivers.i2c_bmp import protocol as i2c_bmp
from fixgw.drivers.i2c_bno055 import protocol as i2c_bno055
from fixgw.drivers.lines import pattern
from fixgw.drivers.lines import protocol as lines
from fixgw.drivers.links.can import log as candump
from fixgw.drivers.links.can import slcan
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, REMOTE, Frame, decode_error
from fixgw.drivers.mavlink import protocol as mavlink
from fixgw.drivers.megasquirt import protocol as megasquirt
from fixgw.drivers.mgl_rdac import protocol as mgl_rdac
from fixgw.drivers.mgl_serial import protocol as mgl_serial
from fixgw.drivers.nmea0183_out import protocol as nmea0183_out
from fixgw.drivers.rtl_433 import protocol as rtl_433
from fixgw.drivers.shadin import protocol as shadin
from fixgw.drivers.skyview import protocol as skyview
from fixgw.drivers.spi_mcp3008 import protocol as spi_mcp3008
from fixgw.drivers.stratux import protocol as stratux
from fixgw.drivers.strompi import protocol as strompi
from fixgw.drivers.ups_x728 import protocol as ups_x728
from fixgw.drivers.xgps import protocol as xgps
from fixgw.drivers.xplane import protocol as xplane
from fixgw.errors import BadValue, ConfigurationError, NetfixError
from fixgw.history import History
from fixgw.hw_sim import replay, scenario
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.replay import parse as parse_for_replay
from fixgw.kit import curve, expression
from fixgw.kit.complaints import Complaints
from fixgw.kit.outward import Outward
from fixgw.net import access, endpoint
from fixgw.net.listener import Caller
from fixgw.netfix import Client, sentence
from fixgw.netfix.client import Sample
from fixgw.plugins.netfix import commands, mirror
from fixgw.plugins.netfix.fanout import FanOut
from fixgw.plugins.netfix.peer import Peer
from fixgw.plugins.netfix.writer import Writer
from fixgw.plugins.web import outbox
from fixgw.recording import RecordingError, capture, container
from fixgw.recording import open_recording as recording_of
from fixgw.status import Collector

from .oracle import Clock, Parser, Stream, check_outputs, check_update, is_sane

CORPUS = Path(__file__).parent / "corpus"

log = logging.getLogger(__name__)
log.propagate = False


class Target(NamedTuple):
    """`check` raises for an input that the `module` mistreats; `words` are the language's, for the fuzzer."""

    module: ModuleType
    check: Stream | Parser
    words: tuple[bytes, ...] = ()


def good(name: str) -> bytes:
    return (CORPUS / name / "good").read_bytes()


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fixgw-fuzz-")


def written(name: str, data: bytes) -> Path:
    """A file with `data`, for what reads files."""
    path = Path(_folder().name, name)
    path.write_bytes(data)
    return path


# -- CAN ---------------------------------------------------------------------------------------------------------------

RECORD = struct.Struct("<IB3x8s")  # SocketCAN's can_frame


def frame_of(record: bytes, now: float) -> Frame:
    identifier, length, data = RECORD.unpack(record)
    flags = identifier & (EXTENDED | REMOTE | ERROR)
    identifier &= 0x1FFFFFFF if flags & (EXTENDED | ERROR) else 0x7FF
    return Frame(identifier, data[: min(length, 8)], flags, now)


class Can:
    """Lets a decoder of frames read records, which may be cut anywhere."""

    def __init__(self, decode: Callable[[list[Frame]], list[Any]], clock: Clock, decoder: Any = None) -> None:
        self.decoder = decoder
        if decoder is not None:
            self.counts, self.REFUSALS = decoder.counts, decoder.REFUSALS
        self._decode = decode
        self._clock = clock
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        data = self._rest + data
        whole = len(data) - len(data) % RECORD.size
        self._rest = data[whole:]
        return self._decode([frame_of(data[i : i + RECORD.size], self._clock()) for i in range(0, whole, RECORD.size)])

    def reopen(self) -> None:
        self._rest = b""


def on_can(make: Callable[[], Any]) -> Callable[[Clock], Can]:
    def wrapped(clock: Clock) -> Can:
        decoder = make()
        return Can(decoder.feed, clock, decoder)

    return wrapped


TABLE = table.load()
CODEC = canfix.Codec(TABLE)  # takes long to make


def item(key: str, type: Any = "float", **more: Any) -> Definition:
    return Definition(key=key, type=type, tolerance=0 if more.get("setting") else 2000, **more)


FEW = (
    item("IAS", min=0.0, max=1000.0, aux=("Min", "Max", "V1", "lowWarn", "highWarn"), initial=0.0),
    item("ALT", min=-1000.0, max=60000.0, units="ft"),
    item("HEAD", min=0.0, max=359.9, wrap=360.0),
    item("LAT", min=-90.0, max=90.0),
    item("BARO", min=0.0, max=35.0, setting=True, initial=29.92, units="inHg"),
    item("TACH1", "int", min=0, max=10000),
    item("BTN1", "bool", setting=True),
    item("BTN2", "bool", setting=True),
    item("ENC1", "int", setting=True, min=-100, max=100, initial=0),
    item("ENC2", "int", setting=True),
    item("ACID", "str", setting=True),
    item("TIMEZ", "str"),
    item("TIMEZH", "int"),
)
MAP = {
    "inputs": [
        {"canid": 0x183, "index": 0, "fixid": "IAS"},
        {"canid": 0x184, "index": 0, "fixid": "ALT", "nodespecific": True},
        {"canid": 0x185, "index": 0, "fixid": "HEAD"},
        {"canid": 0x190, "index": 0, "fixid": "BARO", "nodespecific": True},
        {"canid": 0x200, "index": 0, "fixid": "TACH1"},
        {"canid": 0x580, "index": 0, "fixid": "TIMEZ,TIMEZH,,"},
        {"canid": 0x4D0, "index": 0, "fixid": "ACID"},
    ],
    "encoders": [{"canid": 0x300, "index": 0, "fixid": "ENC1,ENC2", "sum": True}],
    "switches": [{"canid": 0x308, "index": 0, "fixid": "BTN1,BTN2", "toggle": "BTN2"}],
}


class CanfixNode:
    """What the plugin does with frames: values to a database, requests to our node."""

    def __init__(self, clock: Clock) -> None:
        self.db = Database(FEW, clock)
        found = msgspec.convert(MAP, mapping.Map)
        self.inputs = Inputs(found, TABLE, self.db, "canfix")
        self.node = node.Node(
            145,
            node.Identity(device=1, model=1, firmware=1, description="fuzzed", table=TABLE.revision),
            clock,
            obey=("disable", "report", "bit-rate", "node-id", "configuration"),
            produced={0x190},
            bitrate=250_000,
            names={0x190: "BARO"},
        )

    def take(self, frames: list[Frame]) -> list[Any]:
        said: list[Any] = []
        for frame in frames:
            flags = frame.flags
            outcome = CODEC.decode(
                frame.arbitration_id, frame.data, *(bool(flags & flag) for flag in (EXTENDED, REMOTE, ERROR, 0))
            )
            said.append(canfix_text.describe_message(TABLE, outcome))
            assert said[-1].isprintable(), said[-1]
            try:
                if isinstance(outcome, canfix.Value):
                    take = self.inputs.values.get(frame.arbitration_id, {}).get(outcome.index)
                    if take is not None:
                        take(outcome.value, outcome.code, outcome.node)
                elif isinstance(outcome, canfix.Meta):
                    self.inputs.meta(outcome)
                elif isinstance(outcome, canfix.ParameterSet):
                    self.inputs.set(outcome)
            except BadValue:
                pass
            if not isinstance(outcome, canfix.Value):
                said += self.node.receive(outcome)
        check_database(self.db)
        return said


def canfix_bus(clock: Clock) -> Can:
    bus = CanfixNode(clock)
    can = Can(bus.take, clock)
    can.decoder, can.tick = (bus.db, bus.node, bus.inputs.heard), bus.node.tick  # type: ignore[attr-defined]
    return can


class Gpsd(gpsd.Client):
    """A connection to gpsd, after which another begins."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, climb=True, attitude=True, heading="true")

    def reopen(self) -> None:
        self.__init__(self._clock)  # type: ignore[misc]


class Mavlink(mavlink.Decoder):
    """The driver calls `tick` all the time, so that it lets go of a vehicle that has fallen silent."""

    def feed(self, data: bytes) -> list[Any]:
        return [*self.tick(), *super().feed(data)]


class Strompi(strompi.Decoder):
    """The driver asks for each report, and what came before is then no part of it."""

    reopen = strompi.Decoder.start_report


def check_database(db: Database) -> None:
    for each in db.items():
        reading = each.reading
        assert type(reading.value) is {"float": float, "int": int, "bool": bool, "str": str}[each.type], reading
        assert is_sane(reading.value), reading
        for name, value in each.aux.items():
            assert value is None or is_sane(value), f"{each.key}.{name} is {value!r}"


def bridge(clock: Clock) -> Can:
    shift = routing.parse_shift("0x183", "0x283")
    router = routing.Router(
        [
            routing.Route(source="a", target="b", exclude=(routing.parse_ids("0x200-0x27F"),), shifts=(shift,)),
            routing.Route(source="b", target="a", ids=(routing.parse_ids("0x500/0x7F0"),), rate=5.0, rate_bytes=3),
        ]
    )

    def take(frames: list[Frame]) -> list[Any]:
        sent = [router.route("ab"[frame.arbitration_id & 1], frame, clock()) for frame in frames]
        assert all(0 <= frame.arbitration_id <= 0x1FFFFFFF for out in sent for _, frame in out)
        return [(direction.target, frame) for out in sent for direction, frame in out]

    can = Can(take, clock)
    can.decoder = router
    return can


def parse_candump(data: bytes) -> None:
    for line in text_of(data).splitlines():
        recorded = candump.parse(line)
        if recorded is not None:
            frame = recorded.frame
            assert isfinite(frame.timestamp), line
            assert len(frame.data) <= 64
            again = candump.parse(candump.line(frame, recorded.channel, frame.timestamp))
            assert again is not None, line
            assert (again.frame.arbitration_id, again.frame.data) == (frame.arbitration_id, frame.data), line
        entry = parse_for_replay(line)
        assert entry is None or isfinite(entry.time), line


# -- text --------------------------------------------------------------------------------------------------------------

CSV = lines.Format(
    [lines.Field("OAT", 1), lines.Field("TACH1", 2, "int", low=0.0, high=9999.0), lines.Field("BTN1", 3, "bool")],
    prefix="E,",
)
PAIRS = lines.Format(
    [lines.Field("VOLT", "v"), lines.Field("ACID", "id", "str", invalid=frozenset({"none"}))], pairs=True
)
PATTERN = lines.Format(
    [lines.Field("CURRNT", "A")], pattern=pattern.compile_safely(r"I=(?P<A>[-+]?\d+(?:\.\d+)?)(?: A)?")
)


TYRE = rtl_433.Sensor(
    "03A38B2",
    60,
    [
        rtl_433.Field("TIREP1", "pressure_kPa", 0.1450377, digits=1),
        rtl_433.Field("TIREB1", "battery_ok", type="bool", into="bool"),
    ],
)


class Slcan(slcan.Parser):
    def __init__(self, clock: Clock) -> None:
        self.counts: dict[str, int] = {}
        super().__init__(self._add, clock)

    def _add(self, what: str, n: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + n

    def feed(self, data: bytes) -> list[Frame]:
        frames = super().feed(data)
        for frame in frames:
            assert len(frame.data) <= 64
            if frame.flags & ERROR:
                decode_error(frame.arbitration_id, frame.data)
        return [Frame(frame.arbitration_id, frame.data, frame.flags) for frame in frames]  # stamps depend on the cuts


def _constant(value: Any, reference: expression.Reference) -> Any:
    return value


def parse_expression(data: bytes) -> None:
    parsed = expression.Expression(text_of(data))
    values: tuple[Any, ...] = (None, 0.0, -1.5, 17, True, "text", 1e308)
    for value in values:
        result = parsed(partial(_constant, value))
        assert result is None or isinstance(result, (bool, int, float, str))
        assert result == result, "not a number"


def parse_pattern(data: bytes) -> None:
    """``pattern``, a line end, and a line for it."""
    words, _, line = text_of(data).partition("\n")
    compiled = pattern.compile_safely(words)
    for each in (line[:250], line[:9] * 30, "a" * 250, "1" * 250, " " * 249 + "!"):
        compiled.fullmatch(each[:250])


def parse_addresses(data: bytes) -> None:
    text = text_of(data)
    for parse in (access.network, access.address_of, endpoint.parse, routing.parse_ids):
        try:
            parsed = parse(text)
        except ValueError:
            continue
        else:
            if isinstance(parsed, endpoint.Endpoint):
                assert endpoint.parse(str(parsed)).port == parsed.port
            elif isinstance(parsed, routing.Ids) and parsed.first == parsed.last and parsed.mask is None:
                assert routing.parse_ids(routing.format_id(parsed.first)) == parsed


def parse_replay(data: bytes) -> None:
    """No byte of a log is lost, and it never waits for long."""
    sent = bytearray()
    clock = Clock()
    played = replay.Replay(data, sent.extend, clock=clock)
    while (wait := played.step()) is not None:
        assert 0.0 <= wait <= 60.0, wait
        clock.now += wait
    assert data.endswith(sent)


# -- files -------------------------------------------------------------------------------------------------------------


def check_problems(error: ConfigurationError) -> None:
    assert error.problems
    for problem in error.problems:
        assert str(problem).isprintable(), f"{problem!s} cannot be shown"
        assert len(str(problem)) < 2000, f"a problem of {len(str(problem))} characters"


def parse_yaml(data: bytes) -> None:
    """What is read can be written, and is then read again."""
    path = written("main.yaml", data)
    found = reader.Reader(path)
    value, _ = found.read(path)
    if found.problems:
        check_problems(ConfigurationError(found.sorted_problems()))
    elif isinstance(value, dict) and value:
        path.write_text("\n".join(writer.block(value, "")) + "\n", encoding="utf-8")
        again = reader.Reader(path)
        assert repr(again.read(path)[0]) == repr(value), path.read_text()
        assert not again.problems, again.problems


def parse_configuration(data: bytes) -> None:
    try:
        loaded = configuration.load(written("default.yaml", data))
    except ConfigurationError as error:
        check_problems(error)
        return
    check_database(loaded.make_database())


def parse_items(data: bytes) -> None:
    path = written("items.yaml", data)
    found = reader.Reader(path)
    read = items.read_definitions(found, [found.read(path)])
    if not found.problems:
        check_database(Database(read.definitions))


def parse_initial(data: bytes) -> None:
    path = written("initial.ini", data)
    found = reader.Reader(path)
    database = Database(FEW)
    initial = items.read_initial(found, [(path, None)], items.Items(list(FEW), set(), True), database)
    items.apply_initial(database, initial)
    check_database(database)
    if found.problems:
        check_problems(ConfigurationError(found.sorted_problems()))


def parse_map(data: bytes) -> None:
    database = Database(FEW)
    path = written("map.yaml", data)
    found, problems = mapping.read(path, TABLE, database)
    mapping.advice(path, TABLE, database)
    if problems:
        check_problems(ConfigurationError(problems))
    else:
        mapping.keys_in(path)
        Inputs(found, TABLE, database, "canfix").open()


def follow_page(data: bytes) -> None:
    """What a page sends, and what it gets for it."""
    said = outbox.wanted(data)
    assert said.rate is UNSET or isfinite(said.rate)
    followed = outbox.Outbox(outbox.Feed(Database(FEW, Clock())))
    unknown = followed.subscribe(said.patterns)
    assert set(unknown) <= set(said.patterns)
    entries = msgspec.json.decode(followed.take()["v"])
    assert set(entries) <= {each.key for each in FEW}
    assert bool(entries) or set(unknown) == set(said.patterns)


def parse_scenario(data: bytes) -> None:
    try:
        found = scenario.load(written("scenario.yaml", data))
    except ConfigurationError as error:
        check_problems(error)
        return
    play, aircraft = scenario.Play(found), Aircraft(datetime(2025, 7, 21, 15, tzinfo=UTC))
    for now in (0.0, 1.0, 100_000.0):
        play.due(now, aircraft)


def parse_curve(data: bytes) -> None:
    path = written("curve.yaml", data)
    found = reader.Reader(path)
    value, _ = found.read(path)
    made = msgspec.convert(value, curve.CurveSpec, strict=True).curve(5.0)
    for reading in (0.0, -0.0, 1e-300, 0.1, 2.5, 4.999, 5.0, -3.0, 1e300, float("inf"), float("nan")):
        result = made(reading)
        assert result is None or (isinstance(result, float) and isfinite(result)), f"{reading} gives {result!r}"
        made.ohms()


def parse_state(data: bytes) -> None:
    """The files that keep what must survive a restart."""
    path = written("state.json", data)
    try:
        assert state.load(path) == data[: -len(b"\n# crc32 00000000\n")]
    except ValueError:
        pass
    try:
        restored = node.load_state(data)
    except ValueError:
        pass
    else:
        assert node.load_state(node.save_state(restored)) == restored
        node.Node(
            145, node.Identity(device=1, model=1, firmware=1, description="", table=1), Clock(), restored
        ).status()


def parse_settings(data: bytes) -> None:
    path = written("settings.json", data + b"\n# crc32 %08x\n" % zlib.crc32(data))
    database = Database([msgspec.structs.replace(definition, keep=definition.setting) for definition in FEW])
    settings.Settings(database, path).open()
    check_database(database)


def parse_recording(data: bytes) -> None:
    """A recording of ours or the incumbent's, finished, cut or damaged."""
    recording = recording_of(written("flight", data))
    try:
        for change in (*recording.changes(), *recording.changes(since=recording.about.start + 1.0)):
            assert isfinite(change.time), change
            assert 0 <= change.flags < 32, change
            assert change.value is None or not isinstance(change.value, float) or isfinite(change.value), change
        recording.alerts()
    finally:
        recording.close()


def parse_capture(data: bytes) -> None:
    """The raw data of links: as we record it, a log of candump, or the bytes of a line."""
    opened = capture.open_capture(written("capture", data), "gps")
    try:
        for entry in opened.entries():
            assert isfinite(entry.stamp), entry
    finally:
        opened.close()


# -- NetFIX ------------------------------------------------------------------------------------------------------------


#: What a terminal would obey.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Split(sentence.LineSplitter):
    """Splits lines, and looks at each with everything that either end of a connection has."""

    def feed(self, data: bytes) -> list[Any]:
        found: list[Any] = super().feed(data)
        for line in found:
            if isinstance(line, sentence.Garbage):
                assert not CONTROL.search(line.echo), line
                continue
            sentence.is_http(line)
            command = sentence.parse(line)
            assert len(command.error("004").encode()) < 3 * sentence.MAX_LINE_BYTES
            mark, rest = sentence.split_mark(line)
            assert not mark or f"@x{mark} {rest}" == line
            version, rest = sentence.split_version(line)
            assert version is None or sentence.split_version(sentence.versioned(rest, version)) == (version, rest)
            for kind in ("", "float", "int", "bool", "str"):
                value = sentence.value_of(line, kind)
                assert not isinstance(value, float) or isfinite(value)
        return found


class _Socket:
    """Takes everything, and gives what it was made with, one piece a time."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts
        self.sent = b""

    def fileno(self) -> int:
        return -1

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    sendall = send

    def recv(self, size: int) -> bytes:
        return self.parts.pop(0) if self.parts else b""

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...


class _Status(Collector):
    """Answers at once, without a thread."""

    result = "{}"

    def ask(self) -> int:
        self.asked += 1
        self.result, self.answered = "{}", self.asked
        return self.asked


class _History(History):
    """Remembers nothing by itself: the clock stands still."""

    def start(self) -> None:
        self.sample()


class NetfixServer:
    """A client that may write, and another that has subscribed to everything."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.db = Database(FEW, clock)
        identity._identities[self.db] = "fuzzed-1a2b3c"  # else it is another each time
        self.fanout = FanOut(self.db, {"HEAD": 5.0}, lambda: None, lambda peer: None, clock)
        complain = Complaints(log, clock)
        self.commands = commands.Commands(
            self.db,
            self.fanout,
            _Status(dict, lambda: None),
            Writer(lambda: None, complain),
            source="netfix",
            refresh=False,
            quit=self._forbidden,
            restart=self._forbidden,
            offers=lambda name: None,
            history=_History(self.db),
            log=log,
            complain=complain,
            clock=clock,
        )
        self.watcher = self._admit("10.0.0.2")
        for key in self.db:
            self.fanout.subscribe(self.watcher, self.db.item(key))
        self.reopen()

    def _forbidden(self, *what: str) -> Any:
        raise AssertionError("it obeys what only an administrator may say")

    def _admit(self, address: str) -> Peer:
        return Peer(Caller(_Socket([]), ip_address(address), 1), f"netfix/{address}", self.clock())  # type: ignore[arg-type]

    def reopen(self) -> None:
        self.peer = self._admit("127.0.0.1")
        self.peer.may_write = True

    def feed(self, data: bytes) -> list[str]:
        peer = self.peer
        said: list[str] = []
        with self.fanout.working:
            for line in peer.splitter.feed(data):
                if peer.foreign or peer.splitter.hopeless:
                    break
                self.commands.handle(peer, line)
                self.commands.answer_status()
                said += peer.replies
                peer.replies.clear()
            self.fanout.flush_if_due()
        for reply in said:
            assert "\n" not in reply, reply
            assert "\x00" not in reply, reply
        if b"\n" in data:
            check_database(self.db)
        return said

    def tick(self) -> list[str]:
        self.db.age()
        socket: Any = self.watcher.sock
        with self.fanout.working:
            self.fanout.flush_if_due()
        for line in socket.sent.decode().splitlines():
            key, _, rest = line.partition(";")
            assert key.partition(".")[0] in self.db, line
            assert rest, line
        socket.sent = b""
        return []


class Ear(Client):
    """A client on a connection where the other end has already said everything."""

    def __init__(self, parts: list[bytes]) -> None:
        super().__init__(timeout=10.0)
        self._socket = _Socket(parts)  # type: ignore[assignment]
        self._thread = threading.current_thread()  # so that requests receive by themselves


def hear_everything(data: bytes) -> None:
    """What a gateway says, as the answer to each request."""
    samples: list[Sample] = []
    asks: list[Callable[[Client], object]] = [
        lambda client: client.list(),
        lambda client: client.read("IAS"),
        lambda client: client.report("IAS"),
        lambda client: client.write("IAS", 100.0),
        lambda client: client.status(),
        lambda client: client.explain("IAS"),
        lambda client: client.introduce("fuzzed-1"),
        lambda client: client.subscribe("IAS", samples.append),
    ]
    for ask in asks:
        client = Ear(data.splitlines(keepends=True))
        try:
            ask(client)
        except NetfixError:
            pass
        try:
            while client.connected:
                client._pump()
                client._deliver()
        except NetfixError:
            pass
        assert not client.callback_errors
    assert all(not isinstance(s.value, float) or isfinite(s.value) for s in samples)


def mirror_everything(data: bytes) -> None:
    """What another gateway says to a link of ours."""
    database = Database(FEW)
    link = mirror.Link(database, "netfix", "127.0.0.1", 3490, [], ["*"], log)
    link._far = "other-1a2b3c"
    client = Ear([data])
    client._callbacks = {key: [link._receive_sample] for key in database}
    try:
        client._pump()
    except NetfixError:
        pass
    client._deliver()
    assert not client.callback_errors
    check_database(database)


# -- chips and pins ----------------------------------------------------------------------------------------------------


def read_ads1115(data: bytes) -> None:
    for range_ in i2c_ads1115.RANGES:
        value = i2c_ads1115.volts(data, range_)
        assert value is None or abs(value) <= range_


def read_mcp3008(data: bytes) -> None:
    value = spi_mcp3008.counts(data)
    assert value is None or 0 <= value < spi_mcp3008.STEPS


def read_x728(data: bytes) -> None:
    found = ups_x728.battery(data[:2], data[2:])
    for update in ups_x728.updates(*found, lost=bool(data and data[-1] & 1)) if found else ():
        check_update(update)


def read_bmp(data: bytes) -> None:
    """The chip's memory, then measurements."""
    kind = i2c_bmp.CHIPS[(data[0] if data else 0) % len(i2c_bmp.CHIPS)]
    length = kind.calibration_length()
    chip = kind(data[1 : 1 + length].ljust(length, b"\x01"))
    clock = Clock()
    air = i2c_bmp.AirData(clock, 1.0, "OAT")
    size = sum(step.length for step in chip.STEPS)
    for at in range(1 + length, len(data), size):
        clock.now += data[at] / 100.0
        measured = chip.measured(data[at : at + size])
        if measured is not None:
            check_outputs(air.updates(*measured, 29.92) or [], size)


def read_bno055(data: bytes) -> None:
    for mode in ("ndof", "imu"):
        decoder = i2c_bno055.Decoder(mode, 1.0, -2.0, 3.0)
        size = i2c_bno055.DATA_LENGTH + i2c_bno055.FUSED_LENGTH
        for at in range(0, len(data), size):
            part = data[at : at + size]
            for update in decoder.decode(part[: i2c_bno055.DATA_LENGTH], part[i2c_bno055.DATA_LENGTH :]) or ():
                check_update(update)
                assert update.value is None or update.key not in ("ROLL", "HEAD") or abs(float(update.value)) <= 360.0
    answer = i2c_bno055.reply(data)
    assert answer is None or len(answer[0]) <= 255


def turn_pins(data: bytes) -> None:
    """Each byte is a moment: how long after the last, and what is pressed, turned and pulsed."""
    now = 0.0
    debouncer, button = gpio.Debouncer(0.02, False), gpio.Button(0.6, 0.2)
    knob, pulses, quick = gpio.Knob(4, (False, False)), gpio.PulseRate(0.0, shortest=0.001), gpio.Acceleration(8.0)
    detents = 0
    for byte in data:
        now += (0.0, 0.0005, 0.01, 0.3)[byte >> 6]
        debouncer.feed(now, bool(byte & 1))
        if debouncer.tick(now):
            assert len(list(button.change(now, bool(byte & 1)))) <= 4
        assert len(list(button.tick(now))) <= 10
        contacts = (bool(byte & 2), bool(byte & 4))
        turned = knob.poll(now, [(byte & 1, contacts)] * (byte >> 3 & 3), contacts)
        detents += turned
        assert 1 <= quick.factor(now, turned) <= 8
        if byte & 32:
            pulses.feed(now)
        rate = pulses.rate(now)
        assert rate is None or (isfinite(rate) and rate >= 0.0), rate
        pulses.noisy(now)
    assert abs(detents) <= 4 * len(data)


@cache
def packaged() -> tuple[Definition, ...]:
    return configuration.load(configuration.packaged() / configuration.NAME).definitions


TALKS = (
    "LAT",
    "LONG",
    "GS",
    "TRACK",
    "TRACKM",
    "TALT",
    "HEAD",
    "XTRACK",
    "CDI",
    "COURSE",
    "WPLAT",
    "WPLON",
    "GPS_FIX_TYPE",
)
WORDS = ("WPNAME", "TIMEZ", "WPHEAD")


def readings_from(data: bytes, numbers: tuple[str, ...], clock: Clock) -> Database:
    """Readings from bytes: a float with flags for each key, and texts from the rest."""
    database = Database([d for d in packaged() if d.key in (*numbers, *WORDS)], clock)
    for number, key in enumerate(numbers):
        raw = data[9 * number : 9 * number + 9]
        if len(raw) == 9:
            flags = (0, 0, BAD, FAIL)[raw[8] & 3]
            with suppress(BadValue):
                database.write(key, struct.unpack("<d", raw[:8])[0] % (180.0 if raw[8] & 4 else 1e308), "gps", flags)
    words = text_of(data[9 * len(numbers) :]).split("\n")
    for key, word in zip(WORDS, words, strict=False):
        if word.isprintable():
            database.write(key, word[:100], "gps")
    return database


SHOWS = (*TALKS, "PALT", "VS", "ROLL", "PITCH", "IAS", "TAS", "ALAT", "ANORM", "ROT", "GPS_ACCURACY_HORIZ")


def show(data: bytes) -> None:
    """What a tablet gets can be decoded, and has no position at 0, 0. What it announces is read or refused."""
    gdl90_out.read_announcement(data)
    clock = Clock()
    outward = Outward(readings_from(data, SHOWS, clock).read, clock)
    speaker = gdl90_out.Speaker(outward, clock, gdl90_out.Own())
    for message in (*speaker.second(True), *speaker.attitude(True, True)):
        said = gdl90.decode(gdl90.unframe(gdl90.frame(message)[1:-1]) or b"")
        assert said is not None, message
        if isinstance(said, gdl90.Report):
            assert said.nic == 0 or said.lat or said.lon, said
    for line in speaker.gps_line(), speaker.attitude_line():
        assert line is None or not isinstance(efb_text.parse(line), str), line


def talk(data: bytes) -> None:
    clock = Clock()
    database = readings_from(data, TALKS, clock)
    talker = nmea0183_out.Talker(
        Outward(database.read, clock),
        lambda: datetime(2025, 7, 21, 12, tzinfo=UTC),
        full_scale=1.0,
    )
    framer = nmea0183.Framer()
    for kind in nmea0183_out.KINDS:
        raw, _ = talker.sentence(kind)
        assert len(raw) <= 82, raw
        assert len(framer.feed(raw)) == 1, raw


# -- simulators --------------------------------------------------------------------------------------------------------


def own_layout() -> fgfs.Layout:
    layout, _ = fgfs.parse((Path(fgfs.__file__).parent / OWN_FILE).read_bytes())
    assert layout is not None
    return layout


OWN_LAYOUT = own_layout()
RAW = [("sim/one", xplane.Channel("IAS")), ("sim/two", xplane.Channel("LAT")), ("sim/three", xplane.Channel("LONG"))]


def read_xplane(data: bytes) -> None:
    """Datagrams, each after its length in two bytes."""
    clock = Clock()
    client = xplane.Client(clock, datarefs=RAW, rows={**xplane.ROWS, 4: (None, RAW[0][1])}, position=True)
    while len(data) > 2:
        length = int.from_bytes(data[:2], "little")
        updates = client.feed(data[2 : 2 + length])
        assert len(updates) <= length
        for update in updates:
            check_update(update)
        with suppress(xplane.Refused):
            xplane.read_beacon(data[2 : 2 + length])
        assert sum(map(len, client.due())) <= 500 * xplane.BURST
        clock.now += 0.5
        data = data[2 + length :]
    counts = client.counts
    assert counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in client.REFUSALS)


class Properties(fgfs.Properties):
    """Asks whenever it can."""

    def __init__(self, clock: Clock) -> None:
        read = [fgfs.Property("/a", "LAT"), fgfs.Property("/b", "LONG"), fgfs.Property("/c", "ACID")]
        super().__init__(clock, read, {"LAT": "float", "LONG": "float", "ACID": "str"})
        self.due()

    def _take_line(self, line: bytes) -> list[Any]:
        updates = super()._take_line(line)
        self._next = 0.0
        self.due()
        return updates

    def reopen(self) -> None:
        self.__init__(self._clock)  # type: ignore[misc]


def parse_protocol_file(data: bytes) -> None:
    for layout in fgfs.parse(data):
        if layout is not None:
            reader = fgfs.Generic(layout, dict.fromkeys(layout.keys, "float"))
            made = fgfs.record(layout, dict.fromkeys(layout.keys, 1.5))
            assert made is None or len(made) < 100 * len(data)
            reader.feed(made or b"1,2\n")


OIL = msgspec.convert({"points": [[400, 0.0], [3600, 100.0]]}, curve.CurveSpec).curve(4095)
RDAC = {name: mgl_rdac.Target(f"{name.upper()}", OIL if c.raw else None) for name, c in mgl_rdac.CHANNELS.items()}

YAML = (
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!str ",
    b"include: ",
    b"|\n",
    b"\n  ",
    b".nan",
)

TARGETS: Mapping[str, Target] = {
    # drivers
    "canfix": Target(canfix, Stream(canfix_bus, good("canfix"))),
    "dynon_d10": Target(dynon_d10, Stream(lambda clock: dynon_d10.Decoder(clock, None, 20.0), good("dynon_d10"))),
    "eis": Target(
        eis, Stream(lambda clock: eis.Decoder(aux={1: ("OILP2", OIL)}, tach2="TACH2"), good("eis")), (eis.HEADER,)
    ),
    "fgfs": Target(
        fgfs, Stream(lambda clock: fgfs.Generic(OWN_LAYOUT, dict.fromkeys(OWN_LAYOUT.keys, "float")), good("fgfs"))
    ),
    "fgfs-file": Target(
        fgfs,
        Parser(parse_protocol_file, (fgfs.BadFile,)),
        (b"<chunk>", b"<!DOCTYPE", b"<!ENTITY", b"&lt;", b"<format>%", b"<binary_mode>true</binary_mode>", b"</"),
    ),
    "fgfs-http": Target(fgfs, Stream(Properties, good("fgfs-http")), (b'{"value":', b"200 /a ", b"404 /b ")),
    "g3x": Target(g3x, Stream(g3x.Decoder, good("g3x")), (b"=1", b"@", b"\x02", b"\r\n")),
    "garmin_gnx375": Target(
        garmin_gnx375,
        # Without a checksum a position may be wrong; the right one is then doubted for three seconds.
        Stream(lambda clock: garmin_gnx375.Receiver(clock, full_scale=5.0), good("garmin_gnx375"), 5, interval=1.0),
        (b"\x02", b"\x03", b"\r\n", b"w01a", b"S----N", b"$GPRMB,"),
    ),
    "gpio": Target(gpio, Parser(turn_pins)),
    "gpsd": Target(
        gpsd,
        Stream(Gpsd, good("gpsd")),
        tuple(b'"%s":' % name for name in (b"class", b"mode", b"status", b"time", b"lat", b"satellites", b"activated")),
    ),
    "i2c_ads1115": Target(i2c_ads1115, Parser(read_ads1115)),
    "i2c_bmp": Target(i2c_bmp, Parser(read_bmp, (ValueError,))),
    "i2c_bno055": Target(i2c_bno055, Parser(read_bno055), (b"\xee", b"\xbb")),
    "lines": Target(lines, Stream(lambda clock: lines.Decoder([CSV, PAIRS, PATTERN]), good("lines"))),
    "lines-checksum": Target(lines, Stream(lambda clock: lines.Decoder([CSV], "nmea-xor"), good("lines-checksum"))),
    "lines-pattern": Target(
        pattern, Parser(parse_pattern, (ValueError,)), (b"(?P<A>", b"(?:", b"{2,9}", b"[^,]*", b"\\d+")
    ),
    "mavlink": Target(mavlink, Stream(Mavlink, good("mavlink"), interval=6.0), (b"\xfd", b"\xfe")),
    "megasquirt": Target(megasquirt, Stream(on_can(megasquirt.Decoder), good("megasquirt"))),
    "mgl_rdac": Target(mgl_rdac, Stream(on_can(lambda: mgl_rdac.Decoder(1, RDAC)), good("mgl_rdac"))),
    "mgl_serial": Target(mgl_serial, Stream(lambda clock: mgl_serial.Decoder(), good("mgl_serial"))),
    "nmea0183": Target(
        nmea0183,
        Stream(nmea0183.Receiver, good("nmea0183")),
        tuple(
            b"$GP%s," % kind.encode() for kind in ("RMC", "GGA", "GSA", "GSV", "GNS", "RMB", "APB", "VTG", "ZDA", "HDM")
        ),
    ),
    "nmea0183_out": Target(nmea0183_out, Parser(talk)),
    "efb_text": Target(efb_text, Parser(efb_text.parse), (b"XGPS", b"XATT", b"XTRAFFIC", b",")),
    "dump1090": Target(
        dump1090,
        Stream(lambda clock: dump1090.Decoder(), good("dump1090"), held_bytes=2 * dump1090.MAX_LINE_BYTES),
        (b"MSG,3,", b",", b'{"aircraft":[{"hex":"'),
    ),
    "xgps": Target(
        xgps, Stream(lambda clock: xgps.Decoder(clock, variation=3.0), good("xgps")), (b"XGPS", b"XATT", b"XTRAFFIC")
    ),
    "gdl90_out": Target(gdl90_out, Parser(show), (b'{"App":"', b'","GDL90":{"port":', b"}}")),
    "rtl_433": Target(
        rtl_433,
        Stream(lambda clock: rtl_433.Decoder(clock, [TYRE]), good("rtl_433")),
        (b'"protocol" : 60', b'"id" : "03A38B2"', b'"pressure_kPa" : ', b'"battery_ok" : 1', b"}\n{"),
    ),
    "shadin": Target(
        shadin, Stream(lambda clock: shadin.Decoder(heading=True), good("shadin")), (b"\x02", b"\x03", b"\r\n")
    ),
    "skyview": Target(
        skyview,
        Stream(lambda clock: skyview.Decoder(clock, stall_angle=20.0, inputs={1: ("OILP2", "psi")}), good("skyview")),
    ),
    "spi_mcp3008": Target(spi_mcp3008, Parser(read_mcp3008)),
    "stratux": Target(
        stratux, Stream(stratux.Decoder, good("stratux"), repeats=4, interval=2.0), (b"\x7e", b"\x7d", b"LE\x01\x01")
    ),
    "strompi": Target(strompi, Stream(lambda clock: Strompi(), good("strompi"))),
    "ups_x728": Target(ups_x728, Parser(read_x728)),
    "xplane": Target(xplane, Parser(read_xplane), (b"RREF,", b"DATA*", b"RPOS4", b"DREF\0", b"BECN\0")),
    # CAN
    "can_bridge": Target(routing, Stream(bridge, good("can_bridge"), interval=1.0, held_bytes=5_000_000)),
    "candump": Target(candump, Parser(parse_candump)),
    "slcan": Target(slcan, Stream(Slcan, good("slcan")), (b"\r", b"\x07", b"t", b"T", b"F00\r", b"e1")),
    # NetFIX
    "netfix-sentence": Target(sentence, Stream(lambda clock: Split(), good("netfix-sentence"))),
    "web": Target(
        outbox, Parser(follow_page, (ValueError,)), (b'{"keys": ["', b'"*"', b'"rate": ', b'"status": true', b'"log": ')
    ),
    "netfix-server": Target(
        commands,
        Stream(NetfixServer, good("netfix-server"), interval=0.1),
        (
            b"@w",
            b"@r",
            b"@q",
            b"@s",
            b"@u",
            b"@f",
            b"@l",
            b"@xstatus",
            b"@xexplain ",
            b"@xmirror a",
            b"@xset 7 a ",
            b"@xsim ",
            b"@xkept ",
            *(d.key.encode() for d in FEW),
        ),
    ),
    "netfix-client": Target(
        sentence, Parser(hear_everything), (b"@rIAS;", b"@qIAS;", b"@l", b"@xstatus;", b"IAS;", b";00000\n")
    ),
    "netfix-link": Target(
        mirror, Parser(mirror_everything), (b"@xset 7 a ", b"@xsim ", b"@xkept ", b"IAS;", b";00000\n")
    ),
    # files
    "yaml": Target(reader, Parser(parse_yaml), YAML),
    "configuration": Target(
        configuration,
        Parser(parse_configuration),
        (*YAML, b"connections:", b"module: fixgw.plugins.netfix", b"database overlay:", b"initialization files:"),
    ),
    "items": Target(
        items, Parser(parse_items), (*YAML, b"entries:", b"key: ", b"type: ", b"tol: ", b"aux: ", b"variables:")
    ),
    "initial": Target(items, Parser(parse_initial), tuple(d.key.encode() for d in FEW)),
    "map": Target(
        mapping, Parser(parse_map), (*YAML, b"inputs:", b"canid: ", b"fixid: ", b"encoders:", b"switches:", b"outputs:")
    ),
    "scenario": Target(
        scenario,
        Parser(parse_scenario),
        (*YAML, b"nodes:", b"events:", b"at: ", b"fault: ", b"flight:", b"expect: ", b"when: ", b"each: ", b"play: "),
    ),
    "curve": Target(
        curve, Parser(parse_curve, (msgspec.ValidationError,)), (*YAML, b"points:", b"thermistor:", b"sender:")
    ),
    "state": Target(state, Parser(parse_state)),
    "settings": Target(settings, Parser(parse_settings)),
    "replay": Target(replay, Parser(parse_replay)),
    "recording": Target(
        container, Parser(parse_recording, (RecordingError,)), (b"\x89MCAP0\r\n", b'{"IAS":[1,0,0,0,0,0]}\n', b"NaN")
    ),
    "capture": Target(
        capture,
        Parser(parse_capture, (RecordingError,)),
        (b"\x89MCAP0\r\n", b"(1.0) can0 180#01\n", b"$GP"),
    ),
    # what people type
    "expression": Target(
        expression,
        Parser(parse_expression, (expression.BadExpression,)),
        (b" and ", b" or ", b"not ", b"abs(", b"min(", b"IAS.old"),
    ),
    "addresses": Target(access, Parser(parse_addresses)),
}
