"""What the server speaks: HTTP and one WebSocket under ``/api/v1/``, all of it JSON.

Times are in seconds. Flags are bits: 1 annunciate, 2 old, 4 bad, 8 fail, 16 secfail. An answer that is not 200 is
``{"error": WORDS, "code": WORD}``. Requests other than GET and HEAD need an ``Origin`` equal to the ``Host`` and
``Content-Type: application/json``. Reading needs the role read; the others say what they need.

Codes: ``pair`` (401: this browser must be paired), ``role`` (403: its role does not include this), ``origin``, ``host``
(403), ``in-flight`` (409: ask the person, then send it again with ``"force": true``), ``key``, ``file`` (404),
``value``, ``flags``, ``json`` (400), ``refused``, ``absent``, ``disk``, ``changed`` (409), ``busy``, ``full`` (503),
``late`` (503: what would change something has waited while the gateway was held up, and is not done).

GET /status                 the status tree, as ``fixgw status --json`` prints it
GET /doctor                 what ``fixgw doctor --json`` prints; takes a few seconds
GET /items                  {"revision": 3, "items": {"IAS": {"description", "units", "type", "min", "max",
                            "tolerance" (ms), "decimals" (or null), "setting" (true if a person sets it),
                            "aux": {"Vne": 180.0, ...}, "feeders": [connections that may write it]}, ...},
                            "units": what `fixgw.kit.units.choices` says}
GET /items/KEY              what ``fixgw explain KEY --json`` prints, and "type" and "setting"
PUT /items/KEY              {"value": 29.92, "flags": ["bad"]} (flags may be left out) ->
                            {"stored": {"value", "flags", "source"}, "published": true}, or with "published": false
                            also "by": {"value", "flags", "source"} and "why": WORDS. Needs write
GET /history?keys=IAS,EGT*&seconds=60   {"step": 0.5, "age": of the newest values, "keys": {"IAS": {"values": [77.5,
                            ..., null], "flags": [0, ...]}, ...}}: the newest last; 32 in the flags: simulated or
                            replayed, 64: overridden; null for a key that is not remembered, which is from now on.
                            40 keys at most
GET /log?after=N&connection=NAME    {"lines": [LINE, ...] (100 at most), "more": whether there are more}
PUT /log/level              {"connection": "gps", "level": "DEBUG" | "INFO" | "WARNING" | "ERROR"}: what that
                            connection logs from now on, until the gateway is started again. Needs admin
GET /can/NAME/monitor       what goes over the CAN-FIX bus of the connection NAME; it is heard from the first question
                            until 10 s after the last: {"rows": [{"id": "183" (hexadecimal), "kind" (one of KINDS of
                            `canfix.protocol`, or "error"), "node" (or null), "name" (of the node), "key": "IAS.Vne" (or
                            ""), "about": WORDS, "index", "meta" (null if there is none), "value": "158.0 knots",
                            "flags": ["bad"], "data": "0c 00 50 2c 06", "count", "rate" (per second; null: not yet
                            known), "age"}, ...] (500 at most), "left out": frames of others}; 404 ``absent``: no such
                            connection has a monitor, or its bus is not in use

POST /pair                  {"code": "K7QM-4T2X"} -> {"name", "role"}, and a cookie; 403 ``code``, 429 ``too-many``.
                            Needs no role
POST /alarms                {"command": "ack ID" | "shelve ID SECONDS" | "mute"} -> {}. Needs write
GET /overrides              {"overrides": {"IAS": {"value", "flags", "source", "seconds": still to go}, ...}}
PUT /overrides/KEY          {"value", "flags": [...], "seconds": 300, "force"} -> what GET answers. Needs bench
DELETE /overrides/KEY, DELETE /overrides    release one or all -> what GET answers. Needs bench
GET /bench                  {"scenarios": {NAME: description, ...}, "playing": NAME, "" for another one, or null,
                            "panel": its state as `fixgw.hw_sim.panel_server` describes it, or null if there is none,
                            "commands": {"press": "N [SECONDS]", ...} of the panel}. Needs bench
POST /scenario              {"name": NAME or null}: let its events happen, or end them -> {}. Needs bench
POST /panel                 {"command": "press 0 0.2"} -> {"panel": its state}. Needs bench
POST /connections/NAME/restart, POST /reload    {"force"} -> {}: it has begun. Need admin

GET /recordings             {"recordings": [what ``fixgw flights --json`` prints of each, without its path, ...]}
GET /recordings/NAME        the file, or what the header ``Range`` asks for
GET /recordings/NAME?to=csv the same as a table, a row for each second
GET /recordings/NAME/series?keys=IAS,EGT*&from=600&until=900&points=600     a stretch of it for a chart, in seconds from
                            the beginning: {"name", "start" (since 1970, or null if it has no date), "length",
                            "simulated", "notes": [WORDS, ...], "from", "until", "step", "recorded": [all keys with
                            numbers until then], "keys": {"IAS": {"units", "low": [77.5, ..., null], "high": [...],
                            "gaps": [3, ...]}, ...}}. Point n lasts from "from" + n * "step" until the next one; "low"
                            and "high" are the least and the greatest value that was good meanwhile, null if there was
                            none; during the points in "gaps" it was not good, or nothing was recorded, for a time,
                            however short. null for a key that was never recorded. 40 keys and 2,000 points at most

What has to do with the configuration needs admin:

GET /config                 {"files": [{"name", "editable", "main", "backup"}, ...], "effective": {...} (no secrets),
                            "problems": [WORDS, ...] of the last configuration that was refused}
GET /config/files/NAME      {"name", "editable", "main", "backup", "text", "revision"}
POST /config/check          {"file": NAME, "text"} -> {"problems": [{"file", "line", "column", "message"}, ...],
                            "advice": [the same], "connections": [names of those that it would change]}
PUT /config/files/NAME      {"text", "revision" (of GET), "force"}: check, keep the old text, replace, reload -> what
                            the check says, and "revision"; 400 ``problems`` with what the check says
POST /config/take-back      {"file": NAME, "force"}: exchange the file and what it was before, reload -> what GET says
GET /config/modules         what ``fixgw plugins --json`` prints: modules with their options, for a form

``GET /metrics``, at the root, is for Prometheus.

WebSocket /stream. The client sends, at any time, an object with one or more of these members:

    "keys"    ["IAS", "EGT*"], or "*" for all; all their values follow. 1,000 at most, 100 of them with *, ? or [
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

import logging
from contextlib import suppress
from typing import Any

from fixgw import logmemory
from fixgw.database import WRITABLE, Item, Reading
from fixgw.errors import UnknownKey
from fixgw.kit.sources import OVERRIDE
from fixgw.kit.units import choices
from fixgw.plugins.web import bench, configuring, metrics, recordings
from fixgw.plugins.web.access import PairingError
from fixgw.plugins.web.guard import PAGES, Act, Api, NotFound, Page, Refusal, encode, flag_bits, reading_facts
from fixgw.plugins.web.hub import Hub
from fixgw.plugins.web.outbox import BITS
from fixgw.plugins.web.stream import ALERTS, LOG_LINES, Stream

MOST_TRENDS = 40  # keys in one answer
OVERRIDE_S = 300.0  # how long an override lasts, unless it says so
COOKIE_S = 400 * 86400  # as long as browsers keep one
LONGEST_COMMAND = 200
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


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


class Level(Act):
    NEEDS = {"PUT": "admin"}

    def put(self) -> None:
        body = self.body()
        name, level = body.get("connection"), body.get("level")
        loaded = self.hub.world.configuration()
        if loaded is None or name not in [connection.name for connection in loaded.connections]:
            raise Refusal(404, "absent", f"there is no connection {name!r}")
        if level not in LEVELS:
            raise Refusal(400, "value", f"the levels are {', '.join(LEVELS)}")
        logging.getLogger(f"{logmemory.PLUGINS}{name}").setLevel(level)
        self.say(f"{name} logs {level} and above")
        self.reply({})


class Pair(Act):
    """Exchange a code for a cookie."""

    NEEDS = {"POST": None}

    async def post(self) -> None:
        code = self.body().get("code")
        try:
            paired = await self.do(lambda: self.hub.tokens.redeem(str(code)[:100]))
        except PairingError as error:
            self.hub.complain("%s could not be paired: %s", self.request.remote_ip, error, about="pairing")
            status, word = (429, "too-many") if error.too_many else (403, "code")
            raise Refusal(status, word, str(error)) from None
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
        if len(patterns) > MOST_TRENDS:
            raise Refusal(400, "value", f"{len(patterns)} keys: ask for {MOST_TRENDS} at most")
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
        if not isinstance(words, str) or not 0 < len(words) <= LONGEST_COMMAND:
            raise Refusal(400, "value", "`command` is a short text")
        if answer := await self.do(lambda: command(words)):
            raise Refusal(400, "value", answer)
        self.say(words)
        self.reply({})


class Monitor(Act):
    NEEDS = {"GET": "read"}

    async def get(self, name: str) -> None:
        show = self.hub.world.offered(f"monitor {name}")
        answer = "" if show is None else await self.do(lambda: show(""))
        if not answer:
            raise Refusal(404, "absent", f"no connection {name!r} uses a CAN-FIX bus now")
        self.reply(answer)


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


def routes(hub: Hub) -> list[Any]:
    names = frozenset(path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*") if path.is_file())
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
        ("/api/v1/can/([^/]+)/monitor", Monitor, shared),
        ("/api/v1/connections/([^/]+)/restart", Restart, shared),
        ("/api/v1/reload", Reload, shared),
        ("/api/v1/log/level", Level, shared),
        ("/api/v1/doctor", configuring.Doctor, shared),
        ("/api/v1/recordings", recordings.Recordings, shared),
        ("/api/v1/recordings/([^/]+)", recordings.OneRecording, shared),
        ("/api/v1/recordings/([^/]+)/series", recordings.Series, shared),
        ("/api/v1/bench", bench.Bench, shared),
        ("/api/v1/scenario", bench.Scenarios, shared),
        ("/api/v1/panel", bench.Panel, shared),
        ("/api/v1/config", configuring.Config, shared),
        ("/api/v1/config/check", configuring.ConfigCheck, shared),
        ("/api/v1/config/take-back", configuring.TakeBack, shared),
        ("/api/v1/config/modules", configuring.Modules, shared),
        ("/api/v1/config/files/(.+)", configuring.ConfigFile, shared),
        ("/api/v1/log", Log, shared),
        ("/api/v1/stream", Stream, shared),
        ("/metrics", Metrics, shared),
        ("/api/.*", NotFound, shared),
        ("/(.*)", Page, {**shared, "files": names}),
    ]
