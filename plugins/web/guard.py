"""What every request passes before it is answered: `Guarded`; and what answers have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
from tornado.web import HTTPError, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketClosedError

from fixgw.database import FAIL, FLAG_NAMES, WRITABLE, Database, Item, Reading
from fixgw.errors import UnknownKey
from fixgw.kit.phases import FLYING_KT
from fixgw.net.access import address_of
from fixgw.plugins.web.access import Role, is_same_origin
from fixgw.plugins.web.hub import Hub, TooBusy

PAGES = Path(__file__).resolve().parent / "pages"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
T = TypeVar("T")


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
            if self.hub.is_late:
                raise Refusal(503, "late", "the gateway was held up while this request waited: send it again")
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
        """The source of what the client writes: the connection's, and who it is. It never looks like a gateway."""
        name = self.paired.name if self.paired else str(self.request.remote_ip)
        return f"{self.hub.source}/{''.join(c if c.isalnum() or c in '.:' else '_' for c in name)}"

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
        self.names = files
        super().initialize(hub, path=str(PAGES), default_filename="index.html")

    def prepare(self) -> None:
        super().prepare()
        if (self.path_args[0] or "index.html") not in self.names:
            raise Refusal(404, "path", "there is nothing here")


class Act(Api):
    """Requests that change something."""

    def item(self, key: str) -> Item:
        try:
            return self.hub.db.item(key)
        except UnknownKey as error:
            raise Refusal(404, "key", str(error)) from None

    async def do(self, act: Callable[[], T], seconds: float = 10.0) -> T:
        """Call `act` where a plugin or a disk that hangs holds up nobody."""
        try:
            return await self.hub.in_thread(act, seconds)
        except TooBusy:
            raise Refusal(503, "busy", "too much is being done already: try again") from None
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


def flag_bits(names: Any) -> int:
    """The bits of the flags that a client has named. Raises `Refusal`."""
    bits = {name: bit for bit, name in FLAG_NAMES.items() if bit & WRITABLE}
    if not isinstance(names, list | tuple) or any(name not in bits for name in names):
        raise Refusal(400, "flags", f"flags are a list of {', '.join(bits)}")
    return sum(bits[name] for name in set(names))


def reading_facts(reading: Reading) -> dict[str, Any]:
    flags = [name for bit, name in FLAG_NAMES.items() if bit & reading.flags]
    return {"value": reading.value, "flags": flags, "source": reading.source}
