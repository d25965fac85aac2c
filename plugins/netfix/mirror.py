"""A link to another gateway, which writes some keys there and receives others from there.

Nothing circulates. A link introduces itself to the other gateway with this gateway's `identity`, and learns the
other's. The source of a value that came from gateways names those that it has passed through; it is not sent to any of
them, and a link tells the other gateway their names. A value from another NetFIX client is sent only if it differs from
the one last sent or received, so that rings with gateways that know no names settle too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from typing import Any

from fixgw.database import (
    ANNUNCIATE,
    BAD,
    FAIL,
    INITIAL,
    KEPT,
    NEVER,
    OLD,
    SECFAIL,
    Database,
    Item,
    Reading,
    Subscription,
    Value,
)
from fixgw.errors import BadValue, NetfixError, PluginFail, UnknownKey
from fixgw.identity import identity
from fixgw.kit.sources import digits_of, path_of, unmarked, with_path
from fixgw.netfix import sentence
from fixgw.netfix.client import Client, Sample
from fixgw.netfix.sentence import NO_VERSION, Version
from fixgw.plugins.netfix.peer import Topic
from fixgw.plugins.netfix.versions import Versions, versions_of

STOP_TIMEOUT_S = 1.0
PROBE_S = 0.4  # the longest time between two probes of the delay


class _Origin(threading.local):
    """The gateway that sent what this thread is writing. Aux values have no source that shows it."""

    gateway = ""


origin = _Origin()


def matching(keys: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The keys that match at least one of the patterns."""
    patterns = list(patterns)
    return [key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)]


def take_kept(item: Item, value: Value) -> None:
    """Write a value that another gateway kept across its restart, unless this one has an equal or better one."""
    if item.said.source in ("", INITIAL):
        item.write(value, KEPT)


class Link:
    """One link. It has a thread that sends, and a `Client` whose thread receives. `source` is the plugin's."""

    def __init__(
        self,
        database: Database,
        source: str,
        host: str,
        port: int,
        send: Iterable[str] = (),
        receive: Iterable[str] = (),
        log: logging.Logger | None = None,
        written: Callable[[Collection[Topic], float], object] = lambda topics, when: None,
    ) -> None:
        self.db = database
        self._written = written  # called with what has been written to the other gateway, and since when
        self.name = f"{host}:{port}"
        self.source = self._base = f"{source}/{self.name}"
        self._me = digits_of(identity(database))
        self._far = ""  # the other gateway's identity
        self._traces = False  # whether it takes and says which gateways a value has passed through
        self.log = log or logging.getLogger(__name__)
        self._network = f"{source}/"
        self._send = frozenset(matching(database, send))
        self._receive = matching(database, receive)
        self._client = Client(host, port, reconnect=True, on_connect=self._connected, on_disconnect=self._lost)
        self._pending: dict[Topic, None] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._subscriptions: list[Subscription] = []
        self._thread = threading.Thread(target=self._work, name=f"netfix {self.name}", daemon=True)
        self._last: dict[Topic, str] = {}  # the text that the other side is known to have
        self._sent: dict[str, Reading] = {}  # the last sent of each key
        self._versions = versions_of(database, identity(database))
        self._known: dict[Topic, Version] = {}  # the versions that the other side is known to have
        self._was_connected = False
        self._introduced = False  # both sides know each other: what is sent before would lack path and version
        self.sent = self.received = self.refused = self.withheld = self.connections = 0
        self.late = self.delayed = self.returned = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, and keep trying until it works."""
        self._subscriptions = [
            self.db.subscribe(key, self._changed, self._aux_changed, quick=True) for key in self._send
        ]
        self._versions.listeners.add(self._version_changed)
        for key in self._receive:
            self._client.subscribe(key, self._receive_sample)
        self._thread.start()
        self._client.start()

    def stop(self) -> None:
        """Start to disconnect. Returns at once."""
        self._versions.listeners.discard(self._version_changed)
        for subscription in self._subscriptions:
            subscription.close()
        self._stopping = True
        self._wake.set()
        self._client.disconnect(wait=0.0)

    def join(self) -> None:
        """Wait, after `stop`, until no more is sent. Raises `PluginFail` if the thread does not end."""
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise PluginFail(f"the link to {self.name} did not stop within {STOP_TIMEOUT_S} s")

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def connected(self) -> bool:
        return self._client.connected and self._introduced

    def sends(self, key: str) -> bool:
        return key in self._send

    def status(self) -> dict[str, Any]:
        """The link's part of the status. Any thread may call this."""
        return {
            "sends keys": len(self._send),
            "receives keys": len(self._receive),
            "connected": self.connected,
            "connections": self.connections,
            "sent": self.sent,
            "received": self.received,
            "refused": self.refused,
            "withheld": self.withheld,
            "ignored after a hold-up": self.late,
            "ignored after a stall of the network": self.delayed,
            "came back": self.returned,
        }

    # -- sending -------------------------------------------------------------------------------------------------------

    def _changed(self, key: str, reading: Reading) -> None:
        self._put(key, "")

    def _aux_changed(self, key: str, name: str, value: Value | None) -> None:
        if self._far and origin.gateway == self._far:
            self._pending.pop((key, name), None)  # their value replaces the one that we wanted to send
        else:
            self._put(key, name)

    def _version_changed(self, key: str, name: str) -> None:
        if key in self._send:
            self._put(key, name)

    def _put(self, key: str, name: str) -> None:
        self._pending[key, name] = None
        self._wake.set()

    def _work(self) -> None:
        while not self._stopping:
            self._wake.wait(PROBE_S if self._receive else None)
            self._wake.clear()
            if not self.connected:
                continue  # we send everything again when we connect
            try:
                if self._receive:
                    self._client.probe(self._receive[0])
                news: dict[Topic, list[str]] = {}
                for topic in list(self._pending):
                    del self._pending[topic]  # before reading it, so that a later write queues it again
                    if lines := self._format_news(*topic):
                        news[topic] = lines
                if news:
                    began = self.db.clock()
                    self._client.send_lines(line for lines in news.values() for line in lines)
                    self.sent += sum(map(len, news.values()))
                    self._written(news, began)
            except NetfixError:
                pass

    def _format_news(self, key: str, name: str) -> list[str]:
        """The sentence to send; none if the other side need not know of the change."""
        item = self.db.item(key)
        if self._far and Versions.has(item, name) and (name or item.overridden is None):
            return self._format_setting(item, name)
        if name:
            text = sentence.text_of(item.aux[name])
            known = self._last.get((key, name)) == text or item.aux_sources.get(name) == INITIAL
        else:
            reading = item.reading
            if reading.stamp == NEVER or reading.flags & OLD or self._came_from_there(reading):
                return []  # the other side's copy ages by itself
            if self._sent.get(key) is reading:
                return []  # it was stored before we last looked, and its subscribers were told after
            text = f"{sentence.text_of(reading.value)};{_abfs(reading)}"
            line = sentence.for_gateway(f"{key};{text}", reading.source)
            if self._traces and (path := path_of(reading.source)):
                line = sentence.with_path(line, path)
            if not line or (line[0] == "@" and not self._far):  # one without marks would take it for real
                self.withheld += 1
                return []
            if unmarked(reading.source).startswith(self._network) and self._last.get((key, "")) == line:
                return []
            self._last[key, ""] = line
            self._sent[key] = reading
            return [line]
        if known:
            return []
        self._last[key, name] = text
        return [f"{key}.{name};{text}"]

    def _format_setting(self, item: Item, name: str) -> list[str]:
        """The sentence for a gateway, which compares the version in it with its own."""
        topic = item.key, name
        if not name and item.reading.old:
            return []
        line = self._versions.line(item, name)
        version = self._versions.of(item, name)
        if not line or (version != NO_VERSION and self._known.get(topic) == version):
            return []
        self._known[topic] = version
        return [line]

    def _came_from_there(self, reading: Reading) -> bool:
        passed = self._far != "" and digits_of(self._far) in path_of(reading.source)
        return passed or self._is_mine(reading) or (self._far != "" and reading.source.endswith(f"/{self._far}"))

    def _is_mine(self, reading: Reading) -> bool:
        """Whether this link has received it."""
        source = unmarked(reading.source)
        return source == self.source or source.startswith(f"{self.source}/")

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self.connections += 1
        self._was_connected = True
        self.log.info("connected to %s", self.name)
        self._last.clear()
        self._known.clear()
        self._sent.clear()
        self._far = self._client.introduce(identity(self.db))
        self._traces = bool(self._far) and self._client.trace()
        self._client.drop_updates()  # they came before the other side knew us, without versions; all is read below
        self.source = f"{self._base}/{self._far}" if self._far else self._base
        for key in self._receive:  # read first: if both sides may write a key, the other side's fresh value wins
            for topic in (key, *(f"{key}.{name}" for name in self.db.item(key).aux)):
                try:
                    sample = self._client.read(topic)
                    if not (self._far and "." in topic):  # a gateway tells an aux value with its version
                        self._receive_sample(sample)
                except NetfixError as error:
                    self._refuse(f"{topic}: {error}")
        self._introduced = True
        for key in self._send:
            self._put(key, "")
            for name, value in self.db.item(key).aux.items():
                if value is not None:
                    self._put(key, name)

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.log.debug("%s: %s", self.name, why)

    def _lost(self) -> None:
        self._introduced = False
        if self._was_connected and not self._stopping:
            self._was_connected = False
            self.log.warning("lost the connection to %s; trying again", self.name)

    def _receive_sample(self, sample: Sample) -> None:
        """Write a value from the other side."""
        key, _, name = sample.key.partition(".")
        item = self.db.item(key)
        self.received += 1
        try:
            if sample.version is not None:
                origin.gateway = self._far
                self._known[key, name] = sample.version
                source = f"{sample.mark}/{self.source}" if sample.mark else self.source
                if self._versions.take(item, name, sample.text, sample.flags, source, sample.version):
                    self._put(key, name)
                return
            if name:
                self._last[key, name] = sample.text
                if sample.text != sentence.text_of(item.aux[name]):
                    origin.gateway = self._far
                    item.write_aux(name, None if sample.value is None else sample.text, self.source)
                return
            if sample.old:
                said = item.said
                if self._is_mine(said):
                    item.flag(OLD, OLD, said.source, f"old at {self.name}")
                return
            value = item.convert(sample.text)
            if self._client.late and item.measured:
                self.late += 1
                return
            if self._client.delayed and item.measured:
                self.delayed += 1
                return
            if self._me in sample.path:
                self.returned += 1
                return
        except (BadValue, UnknownKey, KeyError) as error:
            self._refuse(f"{sample.key}: {error}")
            return
        finally:
            origin.gateway = ""
        if sample.mark == KEPT:
            take_kept(item, value)
            return
        source = with_path(f"{sample.mark}/{self.source}" if sample.mark else self.source, sample.path)
        reading = item.write(value, source, sample.flags, f"reported by {self.name}")
        line = f"{key};{sentence.text_of(reading.value)};{_abfs(reading)}"
        self._last[key, ""] = sentence.for_gateway(line, source)


def _abfs(reading: Reading) -> str:
    return "".join("1" if reading.flags & flag else "0" for flag in (ANNUNCIATE, BAD, FAIL, SECFAIL))
