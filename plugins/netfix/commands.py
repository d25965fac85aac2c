"""The commands of NetFIX: what clients ask, and our answers."""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fixgw import logmemory
from fixgw.database import ANNUNCIATE, BAD, FAIL, FLAG_LETTERS, KEPT, NEVER, Database, Item, Reading, Value
from fixgw.errors import BadValue
from fixgw.history import History
from fixgw.identity import identity
from fixgw.kit.complaints import Complaints
from fixgw.kit.sources import OVERRIDE, START, digits_of, path_of, unmarked, with_path
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
    Version,
)
from fixgw.plugins.netfix.fanout import FanOut
from fixgw.plugins.netfix.mirror import take_kept
from fixgw.plugins.netfix.peer import Peer, Written
from fixgw.plugins.netfix.versions import Versions, versions_of
from fixgw.plugins.netfix.writer import Job, Writer
from fixgw.status import Collector

ECHO_S = 5.0  # a client that writes back a fresh value unchanged within this time has no new data
STATUS_TIMEOUT_S = 3.0
LOG_PAGE_CHARS = 32768  # of the text of the log's lines in one answer
HISTORY_PAGE = 3000  # values in one answer
HTTP = "speaks HTTP"
T = TypeVar("T")
_IDENTITY = re.compile(r"[A-Za-z0-9-]{1,64}")


class Commands:
    """Answers clients on the server's thread. `source` is the plugin's; `quit` is called for ``@xkill``."""

    def __init__(
        self,
        database: Database,
        fanout: FanOut,
        status: Collector,
        writer: Writer,
        *,
        source: str,
        refresh: bool,
        quit: Callable[[], None],
        restart: Callable[[str], str],
        offers: Callable[[str], Callable[[str], str] | None],
        history: History,
        log: logging.Logger,
        complain: Complaints,
        clock: Callable[[], float],
    ) -> None:
        self.db = database
        self.source = source
        self.refresh = refresh
        self.log = log
        #: The number of value sentences that were invalid or not permitted.
        self.ignored = 0
        #: The number of measurements that were ignored because they waited while this process was held up.
        self.late = 0
        #: The number of measurements from gateways that had been here before.
        self.returned = 0
        self._me = digits_of(identity(database))
        self._fanout = fanout
        self._status = status
        self._writer = writer
        self._awaiting: deque[tuple[int, float, Peer]] = deque()
        self._complain = complain
        self._quit = quit
        self._restart = restart
        self._offers = offers
        self._history = history
        self._versions = versions_of(database, identity(database))
        self._clock = clock
        self._items: dict[str, Item] = {}
        self._list_reply = ""
        self._list_length = -1
        self._definitions_reply = ""
        self._definitions_length = -1

    def handle(self, peer: Peer, line: str | Garbage) -> None:
        """Carry out a line from a client, and queue the answer for it."""
        if isinstance(line, Garbage):
            if sentence.is_http(line.echo):
                peer.foreign = HTTP
                return
            peer.errors += 1
            peer.reply(f"{line.echo}!{UNKNOWN_COMMAND}")
            return
        command = sentence.parse(line)
        handler = _HANDLERS.get(command.letter)
        error = UNKNOWN_COMMAND if handler is None else handler(self, peer, command)
        if error:
            if command.letter == "" and sentence.is_http(line):
                peer.foreign = HTTP
                return
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
        topic = self._topic(command.key.rstrip(" "))
        if topic is None:
            return UNKNOWN_KEY
        item, name = topic
        if name:
            peer.reply("@r" + sentence.aux_update(item.key, name, item.aux[name]))
            if peer.gateway and (told := self._versions.line(item, name)):
                peer.reply(told)
        else:
            peer.read_at[item.key] = self._clock()
            reading = item.reading
            line = sentence.update(item.key, reading)
            if peer.gateway and (told := self._tell_gateway(peer, item, reading, line)) != line:
                # It must not be used: the answer is old, and a usable value follows as an update.
                peer.reply(f"@r{line[:-4]}1{line[-3:]}")
                if told:
                    peer.reply(told)
            else:
                peer.reply("@r" + line)
        return None

    def _tell_gateway(self, peer: Peer, item: Item, reading: Reading, line: str) -> str:
        if Versions.has(item, "") and not reading.old:
            return self._versions.line(item)
        line = sentence.for_gateway(line, reading.source)
        return sentence.with_path(line, path_of(reading.source)) if peer.traces else line

    def _query(self, peer: Peer, command: Command) -> str | None:
        item = self._item(command.key.rstrip(" "))
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
                self._store_aux(
                    peer,
                    item,
                    name,
                    command.rest,
                    lambda: peer.reply("@w" + sentence.aux_update(item.key, name, item.aux[name])),
                )
            else:
                self._store(
                    peer, item, command.rest, then=lambda: peer.reply("@w" + sentence.update(item.key, item.reading))
                )
        except BadValue:
            return WRONG_VALUE
        return None

    def _value_sentence(self, peer: Peer, command: Command, mark: str = "", path: tuple[str, ...] = ()) -> str | None:
        """Handle ``KEY;value[;flags]``. Never answers; counts what is invalid or not permitted."""
        topic = self._topic(command.key)
        value, semicolon, flags = (command.rest or "").partition(";")
        bits = sentence.flags_of(flags) if semicolon else (0, 0)
        if not peer.may_write or topic is None or bits is None or (topic[1] and semicolon):
            if topic is None and sentence.is_http(command.line):
                peer.foreign = HTTP
            self._ignore(peer)
            return None
        item, name = topic
        try:
            if name:
                self._store_aux(peer, item, name, value)
            else:
                self._store(peer, item, value, *bits, mark=mark, path=path)
        except BadValue:
            self._ignore(peer)
        return None

    def _setting_sentence(self, peer: Peer, version: Version, command: Command, mark: str) -> None:
        """``KEY;value;flags`` or ``KEY.aux;value`` from a gateway, with its version."""
        topic = self._topic(command.key)
        value, semicolon, flags = (command.rest or "").partition(";")
        bits = sentence.flags_of(flags) if semicolon else (0, 0)
        if not peer.may_write or topic is None or bits is None or command.letter != "=" or (topic[1] and semicolon):
            self._ignore(peer)
            return
        item, name = topic
        source = f"{mark}/{peer.source}" if mark else peer.source
        take = partial(self._versions.take, item, name, value, bits[0], source, version)

        def answer(behind: bool | None) -> None:
            if behind and (line := self._versions.line(item, name)):
                peer.reply(line)

        self._fanout.sync(peer)
        try:
            if not (name and value == "None"):
                item.convert(value)
            self._perform(peer, item, lambda: self._fanout.write_for(peer, item.key, name, take), answer)
        except BadValue:
            self._ignore(peer)

    def _ignore(self, peer: Peer) -> None:
        peer.errors += 1
        self.ignored += 1

    def _store(
        self,
        peer: Peer,
        item: Item,
        text: str,
        flags: int = 0,
        mask: int = 0,
        mark: str = "",
        path: tuple[str, ...] = (),
        then: Callable[[], object] | None = None,
    ) -> None:
        """Write a client's value, unless it only repeats what another source published, and call `then` when done.

        Without `then`, nobody waits for an answer. Raises `BadValue`.
        """
        value = item.convert(text)
        asked, then = then is not None, then or (lambda: None)
        if peer.backlog and item.measured:
            self.late += 1
            then()
            return
        if self._me in path and not item.definition.setting:
            self.returned += 1
            then()
            return
        self._fanout.sync(peer)
        current = item.said
        if mark == KEPT:
            self._perform(peer, item, lambda: take_kept(item, value), lambda _: then())
            return
        source = with_path(f"{mark}/{peer.source}" if mark else peer.source, path)
        written = peer.written.setdefault(item.key, Written())
        write: Callable[[], Reading | None]
        news = not self._hands_back(peer, item, text, value, current, written)
        if news:
            # A value sentence that a client repeats comes from a feeder: it may not have heard of what was set since.
            repeats = written.value == value and item.definition.setting and not asked
            written.varied |= written.value not in (None, value)
            written.value, written.flags = value, 0
            how = item.report if repeats else item.write
            write = partial(how, value, source, flags if mask else None, mask=mask)
        else:
            written.handed_back = True
            # The client may flag another source's value bad or failed, and clear only such flags that it has set.
            mask &= ~(current.flags & (BAD | FAIL) & ~flags & ~written.flags)
            if not (current.flags ^ flags) & mask:
                then()
                return
            written.flags = flags & mask
            write = partial(item.flag, flags, mask, source)

        def done(reading: Reading | None) -> None:
            if reading is not None:
                self._fanout.remember_own(peer, item.key, reading)
                if news:
                    written.stamp = reading.stamp
            then()

        if item.quick:
            done(write())
        else:
            self._hand_over(peer, item, partial(self._fanout.write_for, peer, item.key, "", write), done)

    def _hands_back(self, peer: Peer, item: Item, text: str, value: Value, current: Reading, written: Written) -> bool:
        """Whether a client only writes back a value that it has received: no sensor measured it again.

        A fresh value must have been sent to the client recently. An old value stays old if the client has received it
        at any time and has not written a different one. A client that has not received it may be a sensor that has
        reconnected: it is trusted when it repeats the value.
        """
        if self.refresh or item.definition.setting or peer.gateway:
            return False
        subscribed = peer.subscriptions.get(item.key, float("inf"))
        told = item.key in peer.read_at or current.stamp + item.tolerance >= subscribed
        if value != current.value and not (told and current.old and _is_rounded(text, current.value)):
            return False
        if written.stamp == current.stamp and unmarked(current.source) == peer.source:
            return False  # the client published it itself
        if not current.old:
            return current.stamp >= subscribed or self._clock() - peer.read_at.get(item.key, -ECHO_S) < ECHO_S
        if written.varied or written.value not in (None, current.value):
            return False
        if told:
            return True
        measured = current.stamp != NEVER and current.source not in START
        return measured and not written.handed_back

    def _store_aux(
        self, peer: Peer, item: Item, name: str, text: str, then: Callable[[], object] = lambda: None
    ) -> None:
        value = None if text == "None" else item.convert(text)
        self._fanout.sync(peer)
        self._perform(
            peer,
            item,
            lambda: self._fanout.write_for(peer, item.key, name, lambda: item.write_aux(name, value)),
            lambda _: then(),
        )

    def _perform(self, peer: Peer, item: Item, write: Callable[[], T], then: Callable[[T | None], object]) -> None:
        """Call `write` for a client, on another thread if a subscriber of the item may hang, and then `then`.

        `then` gets the result of `write`, or None if that took too long. Other commands of the client wait for it.
        """
        if item.quick:
            then(write())
        else:
            self._hand_over(peer, item, write, then)

    def _hand_over(self, peer: Peer, item: Item, write: Callable[[], T], then: Callable[[T | None], object]) -> None:
        peer.awaits = True
        self._writer.do(Job(peer, item.key, write, then))

    def answer_writes(self) -> list[Peer]:
        """Answer the clients whose writes are done or have been given up; returns these clients."""
        jobs = self._writer.finished()
        for job in jobs:
            job.peer.awaits = False
            if job.error is not None:
                job.peer.errors += 1
                self._complain("write of %s failed", job.key, about=f"write {job.key}", error=job.error)
            if not job.peer.closed:
                job.then(job.result)
        return [job.peer for job in jobs if not job.peer.closed]

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

        def write() -> None:
            ours = unmarked(item.said.source) == peer.source
            if ours or flag != ANNUNCIATE:
                item.flag(flag if setting == "1" else 0, flag, peer.source)
            if flag == ANNUNCIATE and not (ours and setting == "1"):  # all clients are one owner, as they come and go
                item.annunciate(setting == "1", "set by a client", self.source)

        self._perform(peer, item, write, lambda _: peer.reply(command.line))
        return None

    def _subscribe(self, peer: Peer, command: Command) -> str | None:
        item = self._item(command.key.rstrip(" "))
        if item is None:
            return UNKNOWN_KEY
        if item.key in peer.subscriptions:
            return WRONG_SUBSCRIPTION
        self._fanout.subscribe(peer, item)
        peer.reply(command.line)
        return None

    def _unsubscribe(self, peer: Peer, command: Command) -> str | None:
        key = command.key.rstrip(" ")
        if self._item(key) is None:
            return UNKNOWN_KEY
        if key not in peer.subscriptions:
            return WRONG_SUBSCRIPTION
        self._fanout.unsubscribe(peer, key)
        peer.reply(command.line)
        return None

    def _extended(self, peer: Peer, command: Command) -> str | None:
        what, _, key = command.key.partition(" ")
        if command.key == "status":
            peer.awaits = True
            self._awaiting.append((self._status.ask(), self._clock() + STATUS_TIMEOUT_S, peer))
        elif command.key == "kill":
            if not peer.may_admin:
                self._complain(
                    "%s may not stop the gateway: the option `admin` does not name its address", peer.name, about="kill"
                )
                return NOT_PERMITTED
            self.log.warning("%s told the gateway to stop", peer.name)
            peer.reply("@xkill")
            peer.emit()
            self._quit()
        elif what == "restart" and key:
            if not peer.may_admin:
                return NOT_PERMITTED
            self.log.warning("%s asked to restart %s", peer.name, key)
            peer.reply(f"@xrestart {key};{self._restart(key)}")
        elif what == "log" and key:
            after, _, connection = key.partition(" ")
            if not after.isdecimal():
                return UNKNOWN_COMMAND
            peer.reply(f"{command.line};{_log_page(int(after), connection or None)}")
        elif what == "history" and key:
            seconds, *keys = key.split()
            if not (keys and seconds.isdecimal()):
                return UNKNOWN_COMMAND
            if not all(key in self.db for key in keys):
                return UNKNOWN_KEY
            self._history.start()
            past = self._history.read(keys, float(seconds[:9]), HISTORY_PAGE)
            peer.reply(f"{command.line};{json.dumps(past.tree(self.db.clock()))}")
        elif command.key == "sources":
            peer.reply(f"@xsources;{json.dumps(self._sources())}")
        elif command.key == "definitions":
            peer.reply(self._definitions())
        elif what in ("hold", "release") and key:
            self._override(peer, what, key, command.line)
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
        elif peer.gateway and (found := sentence.split_version(command.line))[0] is not None:
            mark, line = sentence.split_mark(found[1])
            self._setting_sentence(peer, found[0], sentence.parse(line), mark)
        elif command.line == "@xvia" and peer.gateway:
            self._fanout.trace(peer)
            peer.reply(command.line)
        elif peer.gateway and (traced := sentence.split_path(command.line))[0]:
            mark, line = sentence.split_mark(traced[1])
            return self._value_sentence(peer, sentence.parse(line), mark, traced[0])
        elif peer.gateway and (marked := sentence.split_mark(command.line))[0]:
            return self._value_sentence(peer, sentence.parse(marked[1]), marked[0])
        else:
            return self._offered(peer, what, key)
        return None

    def _sources(self) -> dict[str, tuple[str, float]]:
        """The source of each item that was ever written, and the age of its value in seconds."""
        now = self.db.clock()
        readings = zip(self.db.keys(), self.db.readings(), strict=False)  # another may be defined in between
        return {key: (r.source, round(now - r.stamp, 3)) for key, r in readings if r.stamp != NEVER}

    def _definitions(self) -> str:
        """What `@q`, with its eight fields, does not say of the items, in one answer."""
        if len(self.db) != self._definitions_length:
            keys = self.db.keys()
            self._definitions_length = len(keys)
            decimals = {key: self.db.item(key).definition.decimals for key in keys}
            found = {key: {"decimals": n} for key, n in decimals.items() if n is not None}
            self._definitions_reply = f"@xdefinitions;{json.dumps(found)}"
        return self._definitions_reply

    def _override(self, peer: Peer, what: str, words: str, line: str) -> None:
        """``@xhold SECONDS KEY;value;aobfs`` and ``@xrelease KEY``, which answer why not."""
        echo = line.partition(";")[0]

        def answer(why: str | None) -> None:
            peer.reply(f"{echo};{sentence.sanitize('a subscriber of the key hangs' if why is None else why)}")

        given, _, rest = words.partition(" ") if what == "hold" else ("", "", words)
        key, *value = rest.split(";")
        item = self._item(key)
        right = not value if what == "release" else len(value) == 2 and given.isdecimal() and len(value[1]) == 5
        if not peer.may_admin:
            error = NOT_PERMITTED
        elif item is None:
            error = UNKNOWN_KEY
        elif not right or (value and sentence.flags_of(value[1]) is None):
            error = WRONG_VALUE
        else:
            override: Callable[[], object] = item.end_override
            doing = f"releases {item.key}"
            if value:
                source = f"{OVERRIDE}{peer.source}"
                flags, seconds = sentence.flag_bits(value[1]), int(given)
                override = partial(item.override, value[0], flags, source, "overridden", seconds)
                doing = f"overrides {item.key} with {sentence.sanitize(value[0])} for {seconds} s"

            def attempt() -> str:
                try:
                    override()
                except ValueError as refusal:
                    return str(refusal)
                return ""

            self.log.warning("%s %s", peer.name, doing)
            self._perform(peer, item, attempt, answer)
            return
        peer.errors += 1
        peer.reply(f"{sentence.sanitize(echo)}!{error}")

    def _offered(self, peer: Peer, name: str, words: str) -> str | None:
        """Carry out a command that another connection offers."""
        command = self._offers(name) if words else None
        if command is None:
            return UNKNOWN_COMMAND
        if not peer.may_write:
            return NOT_PERMITTED
        try:
            answer = command(words)
        except Exception as error:  # a defect of that connection
            answer = f"{type(error).__name__}: {error}"
            self._complain("the command %s failed", name, about=f"command {name}", error=error)
        peer.reply(f"@x{name} {words};{sentence.sanitize(answer)}")
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
                peer.awaits = False
                peer.reply(f"@xstatus;{result}")
                answered.append(peer)
        return answered


def _log_page(after: int, connection: str | None) -> str:
    """The next lines of the log, as JSON: as many as fit into `LOG_PAGE_CHARS`."""
    page: list[logmemory.Line] = []
    length = 0
    for line in logmemory.memory.lines(connection, after):
        length += len(line.text)
        if page and length > LOG_PAGE_CHARS:
            break
        page.append(line)
    return json.dumps({"lines": page})


def _is_rounded(text: str, value: Value) -> bool:
    """Whether `text` is `value`, rounded to the decimals of `text`."""
    decimals = len(text.strip().partition(".")[2])
    return isinstance(value, float) and decimals > 0 and text.strip() == f"{value:.{decimals}f}"


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
