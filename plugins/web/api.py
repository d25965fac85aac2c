"""What the server speaks: HTTP and one WebSocket under ``/api/v1/``, all of it JSON.

Times are in seconds. Flags are bits: 1 annunciate, 2 old, 4 bad, 8 fail, 16 secfail. An answer that is not 200 is
``{"error": WORDS, "code": WORD}``. Requests other than GET and HEAD need an ``Origin`` equal to the ``Host`` and
``Content-Type: application/json``.

``GET /metrics`` (at the root) is for Prometheus. Unless it says otherwise, what changes something needs no more than
the role that it names, and reading needs `read`.

Codes: ``pair`` (401: this browser must be paired), ``role`` (403: its role does not include this), ``origin``, ``host``
(403), ``in-flight`` (409: confirm with ``"force": true``), ``key`` (404), ``value``, ``json`` (400), ``full`` (503).

GET /status                 the status tree, as ``fixgw status --json`` prints it
GET /items                  {"revision": 3, "items": {"IAS": {"description", "units", "type", "min", "max",
                            "tolerance" (ms), "decimals" (or null), "setting" (true if a person sets it),
                            "aux": {"Vne": 180.0, ...}, "feeders": [connections that may write it]}, ...},
                            "units": what `fixgw.kit.units.choices` says}
GET /items/KEY              what ``fixgw explain KEY --json`` prints, and "type" and "setting"
PUT /items/KEY              {"value": 29.92, "flags": ["bad"]} (flags may be left out) ->
                            {"stored": {"value", "flags", "source"}, "published": true}, or with "published": false
                            also "by": {"value", "flags", "source"} and "why": WORDS
POST /pair                  {"code": "K7QM-4T2X"} -> {"name", "role"}, and a cookie; 403 ``code``, 429 ``too-many``
GET /history?keys=IAS,EGT*&seconds=60   {"step": 0.5, "age": of the newest values, "keys": {"IAS": {"values": [77.5,
                            ..., null], "flags": [0, ...]}, ...}}: the newest last; 32 in the flags: simulated or
                            replayed, 64: overridden; null for a key that is not remembered, which is from now on.
                            40 keys at most
GET /overrides              {"overrides": {"IAS": {"value", "flags", "source", "seconds": still to go}, ...}}
PUT /overrides/KEY          {"value", "flags": [...], "seconds": 300, "force"} -> what GET answers. bench
DELETE /overrides/KEY, DELETE /overrides    release one or all -> what GET answers. bench
POST /alarms                {"command": "ack ID" | "shelve ID SECONDS" | "mute"} -> {}. write
POST /connections/NAME/restart, POST /reload    {"force"} -> {}: it has begun. admin
GET /log?after=N&connection=NAME    {"lines": [LINE, ...] (100 at most), "more": whether there are more}

WebSocket /stream. The client sends, at any time, an object with one or more of these members:

    "keys"    ["IAS", "EGT*"], or "*" for all; all their values follow
    "rate"    messages per second, 2 to the option `rate`
    "status"  true: the status tree once a second
    "log"     the number of the last known line (0: none): the lines after it, as they come; false: none

The server sends ``{"hello": {"version", "gateway", "items" (revision), "role", "permissions": ["read", ...], "rate"}}``
first, and then a message at each tick, even if nothing has changed. Each has "n", which counts up by one, "t", when it
was made, in seconds of a clock of ours, so that the page notices one that was held up on its way, and "v"; the other
members only when there is something to say:

    "v"       {"IAS": [77.5, 0, 3, 0.02]}: the value (null: never written), flags, index of the source, age (or null)
    "sources" ["", "canfix/12", ...]: the whole list, whenever it has changed; it stands before the "v" that needs it
    "verdict" {"health": "ok" | "degraded" | "failed", "summary": WORDS, "uptime": 12.5,
              "simulated": 340, "replayed": 0, "overridden": 2 (keys whose value is such)}, about once a second
    "alarms"  [{"id", "connection", "level", "state", "text", "for", ...}, ...]: alerts that are active, acknowledged,
              latched or shelved, the most important first; whenever that has changed
    "status"  the status tree, if it was asked for
    "log"     [{"number", "time" (seconds since 1970), "level", "connection" ("": the gateway), "text"}, ...]
    "items"   the revision: definitions or aux values have changed, so GET /items again
    "unknown" ["FOO"]: which of the "keys" asked for match nothing
    "error"   words: the last message of the client was not understood
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec
from tornado.web import HTTPError, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from fixgw import __version__, logmemory
from fixgw.database import FAIL, FLAG_NAMES, WRITABLE, Database, Item, Reading
from fixgw.errors import UnknownKey
from fixgw.identity import identity
from fixgw.kit.phases import FLYING_KT
from fixgw.kit.sources import OVERRIDE
from fixgw.kit.units import choices
from fixgw.net.access import address_of
from fixgw.plugins.web import metrics
from fixgw.plugins.web.access import PairingError, Role, is_same_origin
from fixgw.plugins.web.stream import BITS, MOST_PATTERNS, Outbox

if TYPE_CHECKING:
    from fixgw.plugins.web.server import Hub

PAGES = Path(__file__).resolve().parent / "pages"
SLOWEST_HZ = 2.0  # a page that gets no message for a second covers itself
MOST_TRENDS = 40  # keys in one answer
LOG_LINES = 100  # in one message or answer
SHOWN_ALERTS = ("active", "latched", "acknowledged", "shelved")
OVERRIDE_S = 300.0  # how long an override lasts, unless it says so
COOKIE_S = 400 * 86400  # as long as browsers keep one
T = TypeVar("T")
ALERTS = "fixgw.plugins.alerts"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Refusal(HTTPError):
    """An answer that is not 200: its status, its code for programs, and its words for people."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(status)
        self.code = code
        self.words = words


def encode(answer: Any) -> bytes:
    return msgspec.json.encode(answer, enc_hook=str)


class Guarded(RequestHandler):
    """What every request passes: the checks of its host, its origin and its role."""

    #: The permission that each method needs; None: only that the host may connect.
    NEEDS: ClassVar[Mapping[str, Role | None]] = {}

    def initialize(self, hub: Hub, **others: Any) -> None:
        self.hub = hub
        super().initialize(**others)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        request, access = self.request, self.hub.access
        self.role: Role | None = None
        if not access.is_our_host(request.host, self._local()):
            raise Refusal(403, "host", f"{request.host} is not a name of this gateway: see the option `names`")
        address = address_of(request.remote_ip or "")
        token = self.hub.tokens.find(self.get_cookie(self.cookie_name))
        self.paired = token
        self.role = access.role(address, token.role if token else None)
        method = request.method or ""
        if (method not in ("GET", "HEAD") or self.is_stream) and not is_same_origin(
            request.headers.get("Origin"), request.host
        ):
            raise Refusal(403, "origin", "the Origin of the request is not this gateway")
        if method not in ("GET", "HEAD"):
            kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Refusal(415, "type", "the Content-Type is not application/json")
        need = self.NEEDS.get("GET" if method == "HEAD" else method)
        if need is not None and need not in access.permissions(self.role):
            if self.role is None and token is None:
                raise Refusal(401, "pair", "pair this browser: `fixgw web pair` on the gateway prints a code")
            raise Refusal(403, "role", f"this browser may not do that: it needs the role {need!r}")

    #: Whether it is a WebSocket, which needs an Origin although its method is GET.
    is_stream = False

    @property
    def cookie_name(self) -> str:
        return f"fixgw-{self.hub.options.port}"

    @property
    def who(self) -> str:
        """The source of what the client writes: the connection's, and who it is."""
        return f"{self.hub.source}/{self.paired.name if self.paired else self.request.remote_ip}".replace(" ", "-")

    def _local(self) -> str:
        """The address that the client has called."""
        stream = getattr(self.request.connection, "stream", None)
        sock = getattr(stream, "socket", None)
        try:
            return str(sock.getsockname()[0]) if sock is not None else ""
        except OSError:
            return ""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, Refusal):
            self.reply({"error": error.words, "code": error.code})
        else:
            self.reply({"error": self._reason.lower(), "code": str(status_code)})

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if isinstance(value, HTTPError | ConnectionError | WebSocketClosedError):
            self.hub.count("refused")
        elif self.hub.complain.due("request"):
            self.hub.log.error("%s", self._request_summary(), exc_info=value)

    def reply(self, answer: Any) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(answer if isinstance(answer, str | bytes) else encode(answer))

    def body(self) -> dict[str, Any]:
        try:
            found = msgspec.json.decode(self.request.body or b"{}")
        except (msgspec.DecodeError, RecursionError) as error:
            raise Refusal(400, "json", f"the request is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise Refusal(400, "json", "the request is not a JSON object")
        return found


class Api(Guarded):
    """An answer in JSON."""

    def head(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        return self.get(*args, **kwargs)


class NotFound(Api):
    def prepare(self) -> None:
        super().prepare()
        raise Refusal(404, "path", "there is nothing here")


class Page(Guarded, StaticFileHandler):
    """The files of the page: only those that were there at the start."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-cache")

    def initialize(self, hub: Hub, files: frozenset[str]) -> None:  # type: ignore[override]
        self.files = files
        super().initialize(hub, path=str(PAGES), default_filename="index.html")

    def prepare(self) -> None:
        super().prepare()
        if (self.path_args[0] or "index.html") not in self.files:
            raise Refusal(404, "path", "there is nothing here")


class Status(Api):
    NEEDS = {"GET": "read"}

    async def get(self) -> None:
        try:
            await self.hub.status()
        except TimeoutError:
            raise Refusal(503, "busy", "could not collect the status in time") from None
        self.reply(self.hub.collector.result)


class Items(Api):
    NEEDS = {"GET": "read"}

    def get(self) -> None:
        items = self.hub.db.items()
        feeders: dict[str, list[str]] = {}
        for name, keys in [*self.hub.db.feeders.items()]:
            for key in keys:
                feeders.setdefault(key, []).append(name)
        self.reply(
            {
                "revision": self.hub.revision,
                "items": {item.key: _facts(item, feeders.get(item.key, [])) for item in items},
                "units": choices(item.units for item in items),
            }
        )


def _facts(item: Item, feeders: list[str]) -> dict[str, Any]:
    """What the definition says of an item, its aux values, and who feeds it."""
    d = item.definition
    return {
        "description": d.description,
        "units": d.units,
        "type": d.type,
        "min": d.min,
        "max": d.max,
        "tolerance": d.tolerance,
        "decimals": d.decimals,
        "setting": d.setting,
        "aux": item.aux,
        "feeders": feeders,
    }


class Act(Api):
    """Requests that change something."""

    def item(self, key: str) -> Item:
        try:
            return self.hub.db.item(key)
        except UnknownKey as error:
            raise Refusal(404, "key", str(error)) from None

    async def do(self, act: Callable[[], T]) -> T:
        """Call `act` where a plugin or a disk that hangs holds up nobody."""
        try:
            return await self.hub.in_thread(act)
        except ValueError as error:
            raise Refusal(400, "value", str(error)) from None
        except TimeoutError:
            raise Refusal(503, "busy", "it has begun, but takes unusually long: a plugin or the disk hangs") from None

    def mind_flight(self, body: Mapping[str, Any]) -> None:
        """Raise `Refusal` if the aircraft appears to fly, unless the client insists."""
        if body.get("force") is not True and (signs := signs_of_flight(self.hub.db)):
            raise Refusal(409, "in-flight", f"the aircraft appears to be flying: {', '.join(signs)}")

    def list_overrides(self) -> None:
        found = self.hub.db.overridden()
        self.reply(
            {"overrides": {key: {**reading_facts(r), "seconds": round(left, 1)} for key, (r, left) in found.items()}}
        )

    def say(self, what: str) -> None:
        """Note in the log who did it."""
        self.hub.log.warning("%s: %s", self.who, what)


def signs_of_flight(db: Database) -> list[str]:
    """The speeds with which an aircraft flies, in words. An override hides none."""
    found = []
    for key in ("IAS", "GS"):
        if key in db:
            item = db.item(key)
            speeds = [r.value for r in (item.said, item.reading) if not r.flags & FAIL]
            fastest = max((speed for speed in speeds if isinstance(speed, int | float)), default=0.0)
            if fastest > FLYING_KT:
                found.append(f"{key} is {fastest:.0f} knots")
    return found


class OneItem(Act):
    NEEDS = {"GET": "read", "PUT": "write"}

    def get(self, key: str) -> None:
        item = self.item(key)
        self.reply({**item.explain(), "type": item.type, "setting": item.definition.setting})

    async def put(self, key: str) -> None:
        item = self.item(key)
        body = self.body()
        if "value" not in body:
            raise Refusal(400, "value", "there is no value")
        value, flags = body["value"], flag_bits(body.get("flags", ()))
        stored = await self.do(lambda: item.write(value, self.who, flags, mask=WRITABLE))
        self.reply(_outcome(item, stored, self.who))


def flag_bits(names: Any) -> int:
    """The bits of the flags that a client has named. Raises `Refusal`."""
    bits = {name: bit for bit, name in FLAG_NAMES.items() if bit & WRITABLE}
    if not isinstance(names, list | tuple) or any(name not in bits for name in names):
        raise Refusal(400, "flags", f"flags are a list of {', '.join(bits)}")
    return sum(bits[name] for name in set(names))


def reading_facts(reading: Reading) -> dict[str, Any]:
    flags = [name for bit, name in FLAG_NAMES.items() if bit & reading.flags]
    return {"value": reading.value, "flags": flags, "source": reading.source}


def _outcome(item: Item, stored: Reading, source: str) -> dict[str, Any]:
    """What became of a write: whether it is what everybody gets, and if not, why."""
    ours = next((r for r in item.readings() if r.source == source), stored)
    published = item.reading
    if published.source == source:
        return {"stored": reading_facts(published), "published": True}
    if item.overridden is not None:
        why = f"{item.key} is overridden"
    elif item.ranked:
        why = f"{published.source or 'another source'} ranks above {source}"
    else:
        why = f"{published.source} has written since"
    return {"stored": reading_facts(ours), "published": False, "by": reading_facts(published), "why": why}


class Pair(Act):
    """Exchange a code for a cookie."""

    NEEDS = {"POST": None}

    async def post(self) -> None:
        code = self.body().get("code")
        try:
            paired = await self.do(lambda: self.hub.tokens.redeem(str(code)[:100]))
        except PairingError as error:
            self.say(f"{self.request.remote_ip} could not be paired: {error}")
            raise Refusal(
                429 if error.too_many else 403, "too-many" if error.too_many else "code", str(error)
            ) from None
        except OSError as error:
            raise Refusal(503, "disk", f"cannot keep the token: {error.strerror or error}") from None
        self.say(f"{self.request.remote_ip} is paired as {paired.name}, with the role {paired.role}")
        secure = self.request.protocol == "https"
        self.set_cookie(
            self.cookie_name, paired.token, httponly=True, samesite="Strict", secure=secure, max_age=COOKIE_S, path="/"
        )
        self.reply({"name": paired.name, "role": paired.role})


class Trends(Act):
    NEEDS = {"GET": "read"}

    async def get(self) -> None:
        patterns = [key for key in self.get_query_argument("keys", "").split(",") if key]
        try:
            keys = self.hub.db.matching(*patterns)
            seconds = float(self.get_query_argument("seconds", "900"))
        except UnknownKey as error:
            raise Refusal(404, "key", str(error)) from None
        except ValueError:
            raise Refusal(400, "value", "`seconds` is a number") from None
        if len(keys) > MOST_TRENDS:
            raise Refusal(400, "value", f"{len(keys)} keys: ask for {MOST_TRENDS} at most")
        if not seconds > 0:
            raise Refusal(400, "value", "`seconds` is positive")
        self.reply(await self.do(lambda: self._past(keys, seconds)))

    def _past(self, keys: list[str], seconds: float) -> bytes:
        tree = self.hub.world.history.read(keys, seconds).tree(self.hub.db.clock())
        for found in tree["keys"].values():
            if found is not None:
                found["flags"] = [BITS[flags & 31] | flags & ~31 for flags in found["flags"]]
        return encode(tree)


class Overrides(Act):
    NEEDS = {"GET": "read", "DELETE": "bench"}

    def get(self) -> None:
        self.list_overrides()

    async def delete(self) -> None:
        self.say("releases all overrides")
        await self.do(self._release_all)
        self.list_overrides()

    def _release_all(self) -> None:
        for key in self.hub.db.overridden():
            self.hub.db.item(key).end_override()


class Override(Act):
    NEEDS = {"PUT": "bench", "DELETE": "bench"}

    async def put(self, key: str) -> None:
        item, body = self.item(key), self.body()
        flags, seconds = flag_bits(body.get("flags", ())), body.get("seconds", OVERRIDE_S)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise Refusal(400, "value", "`seconds` is a number")
        self.mind_flight(body)
        value, source = body.get("value"), f"{OVERRIDE}{self.who}"
        await self.do(lambda: item.override(value, flags, source, "overridden", float(seconds)))
        self.say(f"overrides {key} with {value!r} for {seconds:g} s")
        self.list_overrides()

    async def delete(self, key: str) -> None:
        await self.do(self.item(key).end_override)
        self.say(f"releases {key}")
        self.list_overrides()


class Alarms(Act):
    NEEDS = {"POST": "write"}

    async def post(self) -> None:
        command = self.hub.world.offered("alerts")
        if command is None:
            raise Refusal(409, "absent", f"no connection with the module {ALERTS} runs")
        words = self.body().get("command")
        if not isinstance(words, str) or not words:
            raise Refusal(400, "value", "`command` is a text")
        if answer := await self.do(lambda: command(words)):
            raise Refusal(400, "value", answer)
        self.say(words)
        self.reply({})


class Restart(Act):
    NEEDS = {"POST": "admin"}

    def post(self, name: str) -> None:
        self.mind_flight(self.body())
        if answer := self.hub.world.restart(name):
            raise Refusal(409, "refused", answer)
        self.say(f"restarts {name}")
        self.reply({})


class Reload(Act):
    NEEDS = {"POST": "admin"}

    def post(self) -> None:
        self.mind_flight(self.body())
        if answer := self.hub.world.reload():
            raise Refusal(409, "refused", answer)
        self.say("has the configuration read again")
        self.reply({})


class Metrics(Act):
    NEEDS = {"GET": "read"}

    async def get(self) -> None:
        with suppress(TimeoutError):  # then the numbers of the last time
            await self.hub.status()
        self.set_header("Content-Type", metrics.CONTENT_TYPE)
        self.finish(metrics.text(self.hub.db, self.hub.collector.tree))


class Log(Api):
    NEEDS = {"GET": "read"}

    def get(self) -> None:
        after = self.get_query_argument("after", "0")
        if not after.isdecimal() or len(after) > 18:
            raise Refusal(400, "value", "`after` is the number of a line")
        lines = logmemory.memory.lines(self.get_query_argument("connection", None), int(after))
        self.reply({"lines": [line._asdict() for line in lines[:LOG_LINES]], "more": len(lines) > LOG_LINES})


class Stream(Guarded, WebSocketHandler):
    """One client of the stream. Its task takes what is new at each tick, and awaits that it was sent."""

    NEEDS = {"GET": "read"}
    is_stream = True

    def prepare(self) -> None:
        super().prepare()
        if len(self.hub.streams) >= self.hub.options.clients:
            self.hub.count("pages too many")
            raise Refusal(503, "full", f"{self.hub.options.clients} pages are open already: close one")

    def check_origin(self, origin: str) -> bool:
        return True  # `prepare` has checked it

    def open(self, *args: str, **kwargs: str) -> None:
        hub = self.hub
        self.set_nodelay(True)
        self._outbox = Outbox(hub.db)
        self._interval = 1 / min(10.0, hub.options.rate)
        self._wants_status = False
        self._log_after: int | None = None
        self._revision = hub.revision
        self._answered = 0
        self._alarms: Any = None
        self._extra: dict[str, Any] = {}
        hub.streams.add(self)
        self._task = asyncio.ensure_future(self._run())

    def on_close(self) -> None:
        self.hub.streams.discard(self)
        self._task.cancel()

    def look(self) -> None:
        """What is due once a second: a token that was revoked ends the stream."""
        if self.paired is not None:
            token = self.hub.tokens.find(self.get_cookie(self.cookie_name))
            if token is None or token.role != self.paired.role:
                self.close(4401, "this browser is no longer paired")

    def on_message(self, message: str | bytes) -> None:
        try:
            wanted = msgspec.json.decode(message)
            if not isinstance(wanted, dict):
                raise ValueError("not an object")
            self._want(wanted)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            self._extra["error"] = f"not understood: {error}"

    def _want(self, wanted: dict[str, Any]) -> None:
        if "keys" in wanted:
            keys = wanted["keys"]
            patterns = ["*"] if keys == "*" else keys
            if not isinstance(patterns, list) or len(patterns) > MOST_PATTERNS:
                raise ValueError('keys are "*" or a list')
            if not all(isinstance(key, str) and len(key) <= 100 for key in patterns):
                raise ValueError("a key is a text")
            if unknown := self._outbox.subscribe(patterns):
                self._extra["unknown"] = unknown
        if "rate" in wanted:
            rate = wanted["rate"]
            if isinstance(rate, bool) or not isinstance(rate, int | float):
                raise ValueError("the rate is a number")
            self._interval = 1 / max(SLOWEST_HZ, min(float(rate), self.hub.options.rate))
        if "status" in wanted:
            self._wants_status = wanted["status"] is True
            self._answered = 0
        if "log" in wanted:
            after = wanted["log"]
            if isinstance(after, bool) or not isinstance(after, int) or after < 0:
                after = None
            self._log_after = after

    async def _run(self) -> None:
        hub = self.hub
        hello = {
            "version": __version__,
            "gateway": identity(hub.db),
            "items": hub.revision,
            "role": self.role,
            "permissions": hub.access.permissions(self.role),
            "rate": hub.options.rate,
        }
        try:
            await self.write_message(encode({"hello": hello}))
            n = 0
            due = time.monotonic()
            while True:
                n += 1
                await self.write_message(self._message(n))
                due = max(due + self._interval, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        except (WebSocketClosedError, ConnectionError, OSError):
            self.close()
        except Exception as error:
            hub.complain("a page was dropped", about="stream", error=error)
            self.close(1011)

    def _message(self, n: int) -> bytes:
        parts = {"n": n, "t": round(time.monotonic(), 3), **self._outbox.take()}
        hub = self.hub
        if self._extra:
            parts |= self._extra
            self._extra = {}
        if hub.revision != self._revision:
            parts["items"] = self._revision = hub.revision
        if hub.collector.answered != self._answered:
            self._answered = hub.collector.answered
            tree = hub.collector.tree
            parts["verdict"] = {name: tree.get(name) for name in ("health", "summary", "uptime")} | hub.marks
            if self._wants_status:
                parts["status"] = msgspec.Raw(hub.collector.result.encode())
            alarms = alarms_in(tree)
            if alarms != self._alarms:
                parts["alarms"] = self._alarms = alarms
        if self._log_after is not None and logmemory.memory.last > self._log_after:
            lines = logmemory.memory.lines(None, self._log_after)[:LOG_LINES]
            parts["log"] = [line._asdict() for line in lines]
            self._log_after = lines[-1].number if lines else logmemory.memory.last
        return encode(parts)


def alarms_in(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alerts in a status tree that a crew sees, and those that were shelved."""
    connections = tree.get("connections")
    found = []
    for name, report in connections.items() if isinstance(connections, dict) else ():
        if report.get("module") == ALERTS:
            for id, alert in report.get("status", {}).items():
                if isinstance(alert, dict) and alert.get("state") in SHOWN_ALERTS and "level" in alert:
                    found.append({"id": id, "connection": name, **alert})
    return found


def routes(hub: Hub) -> list[Any]:
    files = frozenset(path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*") if path.is_file())
    shared = {"hub": hub}
    return [
        ("/api/v1/status", Status, shared),
        ("/api/v1/items", Items, shared),
        ("/api/v1/items/([^/]+)", OneItem, shared),
        ("/api/v1/overrides", Overrides, shared),
        ("/api/v1/overrides/([^/]+)", Override, shared),
        ("/api/v1/pair", Pair, shared),
        ("/api/v1/history", Trends, shared),
        ("/api/v1/alarms", Alarms, shared),
        ("/api/v1/connections/([^/]+)/restart", Restart, shared),
        ("/api/v1/reload", Reload, shared),
        ("/api/v1/log", Log, shared),
        ("/api/v1/stream", Stream, shared),
        ("/metrics", Metrics, shared),
        ("/api/.*", NotFound, shared),
        ("/(.*)", Page, {**shared, "files": files}),
    ]
