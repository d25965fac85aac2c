"""The stream of values: one WebSocket for each page that is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from fixgw import __version__, logmemory
from fixgw.identity import identity
from fixgw.plugins.web.guard import Guarded, Refusal, encode
from fixgw.plugins.web.outbox import Outbox, Wanted, wanted

SLOWEST_HZ = 2.0  # a page that gets no message for a second covers itself
USUAL_HZ = 10.0
LOG_LINES = 100  # in one message
ALERTS = "fixgw.plugins.alerts"
SHOWN_ALERTS = ("active", "latched", "acknowledged", "shelved")


class Masked(WebSocketProtocol13):
    """Frames as RFC 6455 has them from a browser. Tornado takes those without a mask, too, which no browser sends."""

    async def _receive_frame(self) -> None:
        self._frame_mask = None
        await super()._receive_frame()
        if self._frame_mask is None:
            self._abort()

    def _handle_message(self, opcode: int, data: bytes) -> asyncio.Future[None] | None:
        return super()._handle_message(opcode, data) if self._frame_mask is not None else None


class Stream(Guarded, WebSocketHandler):
    """One client of the stream. Its task takes what is new at each tick, and awaits that it was sent."""

    NEEDS = {"GET": "read"}
    is_stream = True

    def prepare(self) -> None:
        super().prepare()
        if len(self.hub.streams) >= self.hub.options.clients:
            self.hub.count("pages too many")
            raise Refusal(503, "full", f"{self.hub.options.clients} pages are open already: close one")

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        made = super().get_websocket_protocol()
        return Masked(self, False, made.params) if isinstance(made, WebSocketProtocol13) else made

    def check_origin(self, origin: str) -> bool:
        return True  # `prepare` has checked it

    def open(self, *args: str, **kwargs: str) -> None:
        hub = self.hub
        self.set_nodelay(True)
        self._outbox = Outbox(hub.feed)
        self._interval = 1 / min(USUAL_HZ, hub.options.rate)
        self._wants_status = False
        self._log_after: int | None = None
        self._revision = hub.revision
        self._answered = hub.answered  # that may be from long ago
        self._alarms: Any = None
        self._extra: dict[str, Any] = {}
        hub.streams.add(self)
        hub.collector.ask()
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
            self._want(wanted(message))
        except ValueError as error:
            self._extra["error"] = f"not understood: {error}"

    def _want(self, what: Wanted) -> None:
        if what.keys is not UNSET and (unknown := self._outbox.subscribe(what.patterns)):
            self._extra["unknown"] = unknown
        if what.rate is not UNSET:
            self._interval = 1 / max(SLOWEST_HZ, min(what.rate, self.hub.options.rate))
        if what.status is not UNSET:
            self._wants_status = what.status
            self.hub.collector.ask()
        if what.log is not UNSET:
            self._log_after = None if isinstance(what.log, bool) else what.log

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
            while True:
                n += 1
                message = self._message(n)
                await asyncio.sleep(0)  # while others whose tick it is look, too: to send lets other threads run
                await self.write_message(message)
                await asyncio.sleep(self._interval - time.monotonic() % self._interval)  # together with others
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
        if hub.answered != self._answered:
            self._answered = hub.answered
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
