"""The commands of NetFIX: what clients ask, and our answers."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from fixgw.database import ANNUNCIATE, FLAG_LETTERS, KEPT, Database, Item, Reading, Value
from fixgw.errors import BadValue
from fixgw.kit.sources import unmarked
from fixgw.netfix import sentence
from fixgw.netfix.sentence import (
    NOT_PERMITTED,
    UNKNOWN_COMMAND,
    UNKNOWN_KEY,
    WRONG_FLAG,
    WRONG_SUBSCRIPTION,
    WRONG_VALUE,
    Command,
    Garbage,
)
from fixgw.plugins.netfix.fanout import FanOut
from fixgw.plugins.netfix.mirror import identity, take_kept
from fixgw.plugins.netfix.peer import Peer

ECHO_S = 5.0  # a client that writes a value back unchanged, this soon after it read it, has no news
STATUS_TIMEOUT_S = 3.0
_IDENTITY = re.compile(r"[A-Za-z0-9-]{1,64}")


class StatusCollector:
    """Collects the status tree on a separate thread, because a plugin may be slow to report."""

    def __init__(self, collect: Callable[[], Mapping[str, Any]], done: Callable[[], None]) -> None:
        self._collect = collect
        self._done = done
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self.result = ""
        self.asked = 0  # the number of requests; `result` answers those up to `answered`
        self.answered = 0

    def ask(self) -> int:
        """Request a new status tree. Returns the request's number, to compare with `answered`."""
        self.asked += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="netfix status", daemon=True)
            self._thread.start()
        self._wanted.set()
        return self.asked

    def stop(self) -> None:
        self.asked = -1
        self._wanted.set()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            number = self.asked
            if number < 0:
                return
            try:
                text = json.dumps(self._collect(), default=str)
            except Exception as error:
                text = json.dumps({"health": "failed", "summary": f"cannot collect the status: {error!r}"})
            self.result = text
            self.answered = number
            self._done()


class Commands:
    """Answers clients on the server's thread. `source` is the plugin's; `quit` is called for ``@xkill``."""

    def __init__(
        self,
        database: Database,
        fanout: FanOut,
        status: StatusCollector,
        *,
        source: str,
        refresh: bool,
        quit: Callable[[], None],
        log: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self.db = database
        self.source = source
        self.refresh = refresh
        self.log = log
        #: The number of value sentences that were invalid or not permitted.
        self.ignored = 0
        self._fanout = fanout
        self._status = status
        self._awaiting: deque[tuple[int, float, Peer]] = deque()
        self._quit = quit
        self._clock = clock
        self._items: dict[str, Item] = {}
        self._list_reply = ""
        self._list_length = -1

    def handle(self, peer: Peer, line: str | Garbage) -> None:
        """Carry out a line from a client, and queue the answer for it."""
        if isinstance(line, Garbage):
            peer.errors += 1
            peer.reply(f"{line.echo}!{UNKNOWN_COMMAND}")
            return
        command = sentence.parse(line)
        handler = _HANDLERS.get(command.letter)
        error = UNKNOWN_COMMAND if handler is None else handler(self, peer, command)
        if error:
            peer.errors += 1
            peer.reply(command.error(error))

    def _item(self, key: str) -> Item | None:
        """The item `key`, or None. Faster than `Database.item`, whose error suggests the nearest key."""
        item = self._items.get(key)
        if item is None and key in self.db:
            item = self._items[key] = self.db.item(key)
        return item

    def _topic(self, key: str) -> tuple[Item, str] | None:
        """The item and aux name (or "") that ``KEY`` or ``KEY.aux`` names."""
        base, dot, name = key.partition(".")
        item = self._item(base)
        if item is None or (dot and name not in item.aux):
            return None
        return item, name

    def _list(self, peer: Peer, command: Command) -> str | None:
        if len(self.db) != self._list_length:
            keys = self.db.keys()
            self._list_length = len(keys)
            self._list_reply = sentence.key_list(keys)
        peer.reply(self._list_reply)
        return None

    def _read(self, peer: Peer, command: Command) -> str | None:
        topic = self._topic(command.key)
        if topic is None:
            return UNKNOWN_KEY
        item, name = topic
        if name:
            peer.reply("@r" + sentence.aux_update(item.key, name, item.aux[name]))
        else:
            peer.read_at[item.key] = self._clock()
            reading = item.reading
            line = sentence.update(item.key, reading)
            if peer.gateway and (told := sentence.for_gateway(line, reading.source)) != line:
                # It is not to be taken as it is: the answer is old, and what may be taken follows as an update.
                peer.reply(f"@r{line[:-4]}1{line[-3:]}")
                if told:
                    peer.reply(told)
            else:
                peer.reply("@r" + line)
        return None

    def _query(self, peer: Peer, command: Command) -> str | None:
        item = self._item(command.key)
        if item is None:
            return UNKNOWN_KEY
        peer.reply(sentence.report(item.definition))
        return None

    def _write_command(self, peer: Peer, command: Command) -> str | None:
        if not peer.may_write:
            return NOT_PERMITTED
        topic = self._topic(command.key)
        if topic is None:
            return UNKNOWN_KEY
        if command.rest is None or ";" in command.rest:
            return WRONG_VALUE
        item, name = topic
        try:
            if name:
                value = self._store_aux(peer, item, name, command.rest)
                peer.reply("@w" + sentence.aux_update(item.key, name, value))
            else:
                self._store(peer, item, command.rest)
                peer.reply("@w" + sentence.update(item.key, item.reading))
        except BadValue:
            return WRONG_VALUE
        return None

    def _value_sentence(self, peer: Peer, command: Command, mark: str = "") -> str | None:
        """Handle ``KEY;value[;flags]``. Never answers; counts what is invalid or not permitted."""
        topic = self._topic(command.key)
        value, semicolon, flags = (command.rest or "").partition(";")
        bits = sentence.flags_of(flags) if semicolon else (0, 0)
        if not peer.may_write or topic is None or bits is None or (topic[1] and semicolon):
            self._ignore(peer)
            return None
        item, name = topic
        try:
            if name:
                self._store_aux(peer, item, name, value)
            else:
                self._store(peer, item, value, *bits, mark=mark)
        except BadValue:
            self._ignore(peer)
        return None

    def _ignore(self, peer: Peer) -> None:
        peer.errors += 1
        self.ignored += 1

    def _store(self, peer: Peer, item: Item, text: str, flags: int = 0, mask: int = 0, mark: str = "") -> None:
        """Write a client's value, unless it only repeats what another source published. Raises `BadValue`."""
        value = item.convert(text)
        self._fanout.sync(peer)
        current = item.said
        if mark == KEPT:
            take_kept(item, value)
            return
        source = f"{mark}/{peer.source}" if mark else peer.source
        if self._repeats(peer, item, value, current):
            if (current.flags ^ flags) & mask:
                self._fanout.remember_own(peer, item.key, item.flag(flags, mask, source))
            return
        reading = item.write(value, source, flags if mask else None, mask=mask)
        self._fanout.remember_own(peer, item.key, reading)

    def _repeats(self, peer: Peer, item: Item, value: Value, current: Reading) -> bool:
        """Whether a client only writes back a value that it has just received: no sensor measured it again."""
        if self.refresh or item.definition.setting or value != current.value or unmarked(current.source) == peer.source:
            return False
        sent = current.stamp >= peer.subscriptions.get(item.key, float("inf"))
        return sent or self._clock() - peer.read_at.get(item.key, -ECHO_S) < ECHO_S

    def _store_aux(self, peer: Peer, item: Item, name: str, text: str) -> Value | None:
        self._fanout.sync(peer)
        return self._fanout.write_aux(peer, item, name, None if text == "None" else text)

    def _flag(self, peer: Peer, command: Command) -> str | None:
        if not peer.may_write:
            return NOT_PERMITTED
        item = self._item(command.key)
        if item is None:
            return UNKNOWN_KEY
        letter, semicolon, setting = (command.rest or "").partition(";")
        if not semicolon:
            return WRONG_VALUE
        flag = FLAG_LETTERS.get(letter)
        if flag is None:
            return WRONG_FLAG
        if setting not in ("0", "1"):
            return WRONG_VALUE
        ours = unmarked(item.said.source) == peer.source
        if ours or flag != ANNUNCIATE:
            item.flag(flag if setting == "1" else 0, flag, peer.source)
        if flag == ANNUNCIATE and not (ours and setting == "1"):  # all clients are one owner, as they come and go
            item.annunciate(setting == "1", "set by a client", self.source)
        peer.reply(command.line)
        return None

    def _subscribe(self, peer: Peer, command: Command) -> str | None:
        item = self._item(command.key)
        if item is None:
            return UNKNOWN_KEY
        if item.key in peer.subscriptions:
            return WRONG_SUBSCRIPTION
        self._fanout.subscribe(peer, item)
        peer.reply(command.line)
        return None

    def _unsubscribe(self, peer: Peer, command: Command) -> str | None:
        if self._item(command.key) is None:
            return UNKNOWN_KEY
        if command.key not in peer.subscriptions:
            return WRONG_SUBSCRIPTION
        self._fanout.unsubscribe(peer, command.key)
        peer.reply(command.line)
        return None

    def _extended(self, peer: Peer, command: Command) -> str | None:
        what, _, key = command.key.partition(" ")
        if command.key == "status":
            peer.awaits_status = True
            self._awaiting.append((self._status.ask(), self._clock() + STATUS_TIMEOUT_S, peer))
        elif command.key == "kill":
            if not peer.may_admin:
                return NOT_PERMITTED
            self.log.warning("%s told the gateway to stop", peer.name)
            peer.reply("@xkill")
            peer.emit()
            self._quit()
        elif what == "explain":
            item = self._item(key)
            if item is None:
                return UNKNOWN_KEY
            peer.reply(f"@xexplain {key};{json.dumps(item.explain(), default=str)}")
        elif what == "mirror" and _IDENTITY.fullmatch(key) and not peer.gateway:
            peer.gateway = key
            peer.source += f"/{key}"
            self._fanout.introduce(peer, key)
            peer.reply(f"@xmirror {key};{identity(self.db)}")
        elif peer.gateway and (marked := sentence.split_mark(command.line))[0]:
            return self._value_sentence(peer, sentence.parse(marked[1]), marked[0])
        else:
            return UNKNOWN_COMMAND
        return None

    def answer_status(self) -> list[Peer]:
        """Answer the clients that wait for the status, in the order of their requests. Returns those answered."""
        answered: list[Peer] = []
        if not self._awaiting:
            return answered
        now = self._clock()
        newest, result = self._status.answered, self._status.result
        while self._awaiting and (self._awaiting[0][0] <= newest or self._awaiting[0][1] < now):
            number, _, peer = self._awaiting.popleft()
            if number > newest:
                result = json.dumps({"health": "failed", "summary": "could not collect the status in time"})
            if not peer.closed:
                peer.awaits_status = False
                peer.reply(f"@xstatus;{result}")
                answered.append(peer)
        return answered


_HANDLERS: dict[str, Callable[[Commands, Peer, Command], str | None]] = {
    "l": Commands._list,
    "r": Commands._read,
    "w": Commands._write_command,
    "s": Commands._subscribe,
    "u": Commands._unsubscribe,
    "q": Commands._query,
    "f": Commands._flag,
    "x": Commands._extended,
    "=": Commands._value_sentence,
}
