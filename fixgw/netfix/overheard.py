"""What a third party hears when a NetFIX client talks to a gateway: `Conversation`. Without I/O.

    conversation = Conversation(1, at)
    for event in conversation.hear(at, "client", data):   # data as it arrives, cut anywhere
        ...

Times are in seconds of any clock. Memory is bounded, whatever either side sends.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from fixgw.database import Value
from fixgw.netfix import sentence
from fixgw.netfix.client import MAX_ANSWER_BYTES
from fixgw.netfix.sentence import Garbage, LineSplitter

MAX_KEYS = 5000  # of which statistics are kept for one client
MAX_KEY_CHARS = 64
MAX_WAITING = 10_000  # commands without an answer; of more, we do not know the latency
SEARCH_DEPTH = 200  # of these, how many an answer is compared with
MAX_REFUSALS = 100  # different ones that are remembered
LATENCIES = 10_000  # the latest, of which the percentiles are

Side = Literal["client", "server"]

#: What the commands do, for people, by their letter.
VERBS = {"l": "list", "r": "read", "w": "write", "s": "subscribe", "u": "unsubscribe", "q": "report", "f": "flag"}
ERRORS = {
    ("", sentence.UNKNOWN_KEY): "unknown key",
    ("s", sentence.WRONG_SUBSCRIPTION): "subscribed already",
    ("u", sentence.WRONG_SUBSCRIPTION): "not subscribed",
    ("", sentence.WRONG_SUBSCRIPTION): "no such flag",
    ("", sentence.WRONG_VALUE): "a wrong value",
    ("", sentence.UNKNOWN_COMMAND): "unknown command",
    ("", sentence.NOT_PERMITTED): "not permitted",
}


def verb_of(command: str) -> str:
    """What a line of a client does, in a word: ``"read"``; ``"set"`` for a value sentence, ``"xstatus"``, ``"?"``."""
    parsed = sentence.parse(command)
    if parsed.letter == "x":
        return command[1:].partition(" ")[0][:20]
    return "set" if parsed.letter == "=" else VERBS.get(parsed.letter, "?")


def why_refused(command: str, code: str) -> str:
    """What the code in an answer means, in words."""
    letter = sentence.parse(command).letter
    return ERRORS.get((letter, code)) or ERRORS.get(("", code)) or f"error {code}"


# -- events ------------------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="what", tag=str.lower):
    """Something that happened at a time to the client with this number."""

    at: float
    client: int


class Answered(Event, frozen=True, kw_only=True):
    """The gateway has answered. `seconds` since the command; `error` is the code of a refusal."""

    command: str
    answer: str
    seconds: float
    error: str = ""


class Unanswered(Event, frozen=True, kw_only=True):
    """The command was not answered, as far as we have heard."""

    command: str


class Wrote(Event, frozen=True, kw_only=True):
    """The client has sent a value; such sentences have no answer. `flags` as it wrote them."""

    key: str
    value: Value | None
    flags: str


class Told(Event, frozen=True, kw_only=True):
    """The gateway has sent a value. `flags` as five characters, empty for an aux value; `before` is what they were when
    the client was last told this key, None if it has not been. `mark` of `sentence.MARKS`, for links of gateways."""

    key: str
    value: Value | None
    flags: str
    before: str | None
    mark: str = ""


class Unclear(Event, frozen=True, kw_only=True):
    """A line that is no sentence (from the client), or no update and no answer to anything (from the gateway)."""

    side: Side
    line: str


# -- summaries ---------------------------------------------------------------------------------------------------------


class KeyUse(msgspec.Struct):
    """What happened with one key, or aux value. Times are absolute; counts are of updates and reads."""

    subscribed_at: float | None = None
    told: int = 0
    reads: int = 0
    told_at: float | None = None
    waits_since: float | None = None  # since it was last told, or subscribed; None if it is not subscribed
    longest_gap: float = 0.0
    value: Value | None = None
    flags: str = ""
    flag_changes: int = 0


class KeySummary(msgspec.Struct, omit_defaults=True):
    """`per_second` and `longest_gap` (s) count from the first subscription; a gap may last to the end."""

    subscribed: bool
    told: int
    per_second: float
    longest_gap: float
    value: Value | None
    flags: str
    flag_changes: int = 0
    reads: int = 0


class Latencies(NamedTuple):
    """Of the latest answers, in seconds."""

    p50: float
    p99: float
    longest: float


class Summary(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Of one client; the times are seconds since it connected."""

    client: int
    seconds: float
    commands: dict[str, int]
    refused: dict[str, int]
    unanswered: int
    unclear: int
    first_answer: float | None
    last_subscription: float | None
    first_told: float | None
    latencies: Latencies | None
    received_bytes: int
    sent_bytes: int
    keys: dict[str, KeySummary]
    keys_left_out: int = 0


class _Waiting(NamedTuple):
    """A command, and how its answer begins."""

    at: float
    line: str
    echo: str
    whole: bool  # the answer may go on with anything


class Conversation:
    """One client's connection to a gateway, which began at the time `at`."""

    def __init__(self, number: int, at: float) -> None:
        self.number = number
        self.since = at
        self.keys: dict[str, KeyUse] = {}
        self.commands: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.unanswered = self.unclear = 0
        self._bytes: dict[Side, int] = {"client": 0, "server": 0}
        self._splitters = _splitters()
        self._cut: set[Side] = set()  # the next line of these has no beginning
        self._waiting: deque[_Waiting] = deque()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._longest = 0.0
        self._first_answer: float | None = None
        self._last_subscription: float | None = None
        self._first_told: float | None = None
        self._left_out = 0

    def hear(self, at: float, sender: Side, data: bytes) -> list[Event]:
        """What happened when `data` came from one side."""
        self._bytes[sender] += len(data)
        if sender in self._cut:
            _, newline, data = data.partition(b"\n")
            if newline:
                self._cut.discard(sender)
        hear = self._client_says if sender == "client" else self._server_says
        events: list[Event] = []
        for line in self._splitters[sender].feed(data):
            if isinstance(line, Garbage):
                self.unclear += 1
                events.append(Unclear(at=at, client=self.number, side=sender, line=line.echo))
            else:
                events += hear(at, line)
        return events

    def miss(self) -> None:
        """Note that something was not heard: the lines that were cut by it are left out, and so are latencies."""
        self._splitters = _splitters()
        self._cut = {"client", "server"}
        self._waiting.clear()

    def end(self, at: float) -> list[Event]:
        """The connection is over: what was never answered."""
        waiting, self._waiting = self._waiting, deque()
        self.unanswered += len(waiting)
        for use in self.keys.values():
            _close_gap(use, at)
        return [Unanswered(at=at, client=self.number, command=each.line) for each in waiting]

    # -- what the client says ------------------------------------------------------------------------------------------

    def _client_says(self, at: float, line: str) -> Iterator[Event]:
        _, body = _unwrap(line)
        command = sentence.parse(body)
        if command.letter == "=":
            self.commands["set"] += 1
            value, flags = _value_and_flags(command.rest or "")
            yield Wrote(at=at, client=self.number, key=command.key[:MAX_KEY_CHARS], value=value, flags=flags)
            return
        self.commands[verb_of(line)] += 1
        if len(self._waiting) >= MAX_WAITING:
            self.unanswered += 1
            yield Unanswered(at=at, client=self.number, command=self._waiting.popleft().line)
        echo = f"@{command.letter}{command.key}" if command.letter not in ("", "x", "l") else sentence.sanitize(line)
        self._waiting.append(_Waiting(at, line, "@l" if command.letter == "l" else echo, command.letter == "l"))

    # -- what the gateway says -----------------------------------------------------------------------------------------

    def _server_says(self, at: float, line: str) -> Iterator[Event]:
        if (request := self._answered_by(line)) is not None:
            yield self._answer(at, request, line)
            return
        mark, body = _unwrap(line)
        key, semicolon, rest = body.partition(";")
        if body.startswith("@") or not semicolon:
            if not body.startswith("@l"):  # a list may come in several lines
                self.unclear += 1
                yield Unclear(at=at, client=self.number, side="server", line=line)
            return
        yield self._told(at, key[:MAX_KEY_CHARS], rest, mark)

    def _answered_by(self, line: str) -> _Waiting | None:
        """Take the command that the line answers."""
        for i, waiting in enumerate(self._waiting):
            if i == SEARCH_DEPTH:
                break
            if line.startswith(waiting.echo) and (waiting.whole or line[len(waiting.echo) :][:1] in ("", ";", "!")):
                del self._waiting[i]
                return waiting
        return None

    def _answer(self, at: float, request: _Waiting, line: str) -> Event:
        took = at - request.at
        self._latencies.append(took)
        self._longest = max(self._longest, took)
        if self._first_answer is None:
            self._first_answer = at
        rest = line[len(request.echo) :]
        error = rest[1:] if rest.startswith("!") else ""
        if error:
            refusal = f"{request.line[:MAX_KEY_CHARS]}: {why_refused(request.line, error)}"
            if refusal in self.refused or len(self.refused) < MAX_REFUSALS:
                self.refused[refusal] += 1
        else:
            self._note_success(at, request, rest)
        return Answered(at=at, client=self.number, command=request.line, answer=line, seconds=took, error=error)

    def _note_success(self, at: float, request: _Waiting, rest: str) -> None:
        command = sentence.parse(request.line)
        if command.letter not in ("s", "u", "r") or (use := self._use(command.key.strip()[:MAX_KEY_CHARS])) is None:
            return
        if command.letter == "s":
            use.waits_since = self._last_subscription = at
            if use.subscribed_at is None:
                use.subscribed_at = at
        elif command.letter == "u":
            _close_gap(use, at)
        else:
            use.reads += 1
            use.value, use.flags = _value_and_flags(rest[1:])

    def _told(self, at: float, key: str, rest: str, mark: str) -> Event:
        value, flags = _value_and_flags(rest)
        before = None
        if self._first_told is None:
            self._first_told = at
        use = self._use(key)
        if use is not None:
            if use.told or use.reads:
                before = use.flags
                use.flag_changes += before != flags
            use.told += 1
            if use.waits_since is not None:
                use.longest_gap = max(use.longest_gap, at - use.waits_since)
                use.waits_since = at
            use.told_at, use.value, use.flags = at, value, flags
        return Told(at=at, client=self.number, key=key, value=value, flags=flags, before=before, mark=mark)

    def _use(self, key: str) -> KeyUse | None:
        use = self.keys.get(key)
        if use is None:
            if len(self.keys) >= MAX_KEYS:
                self._left_out += 1
                return None
            use = self.keys[key] = KeyUse()
        return use

    # -- in total ------------------------------------------------------------------------------------------------------

    def summary(self, at: float) -> Summary:
        """What has happened until the time `at`."""

        def since(moment: float | None) -> float | None:
            return None if moment is None else moment - self.since

        return Summary(
            client=self.number,
            seconds=at - self.since,
            commands=dict(self.commands),
            refused=dict(self.refused.most_common()),
            unanswered=self.unanswered + len(self._waiting),
            unclear=self.unclear,
            first_answer=since(self._first_answer),
            last_subscription=since(self._last_subscription),
            first_told=since(self._first_told),
            latencies=self._percentiles(),
            received_bytes=self._bytes["client"],
            sent_bytes=self._bytes["server"],
            keys={key: _summarize(use, at, self.since) for key, use in self.keys.items()},
            keys_left_out=self._left_out,
        )

    def _percentiles(self) -> Latencies | None:
        if not self._latencies:
            return None
        cuts = statistics.quantiles(self._latencies, n=100) if len(self._latencies) > 1 else [self._latencies[0]] * 99
        return Latencies(cuts[49], min(cuts[98], self._longest), self._longest)


def plain(what: Event | Summary) -> dict[str, Any]:
    """As what JSON is made of."""
    made: dict[str, Any] = msgspec.to_builtins(what)
    return made


def _splitters() -> dict[Side, LineSplitter]:
    return {"client": LineSplitter(), "server": LineSplitter(MAX_ANSWER_BYTES)}


def _unwrap(line: str) -> tuple[str, str]:
    """The mark of a line between gateways, and the line without what only gateways send."""
    if not line.startswith("@x"):
        return "", line
    _, rest = sentence.split_path(line)
    _, rest = sentence.split_version(rest)
    return sentence.split_mark(rest)


def _value_and_flags(text: str) -> tuple[Value | None, str]:
    """The parts of ``value;flags``; without flags, those are empty."""
    value, semicolon, flags = text.rpartition(";")
    if not semicolon or set(flags) - {"0", "1"} or not 3 <= len(flags) <= 5:
        return sentence.value_of(text), ""
    return sentence.value_of(value), flags


def _close_gap(use: KeyUse, at: float) -> None:
    if use.waits_since is not None:
        use.longest_gap = max(use.longest_gap, at - use.waits_since)
        use.waits_since = None


def _summarize(use: KeyUse, at: float, connected: float) -> KeySummary:
    since = use.subscribed_at if use.subscribed_at is not None else connected
    gap = at - use.waits_since if use.waits_since is not None else 0.0
    return KeySummary(
        subscribed=use.subscribed_at is not None,
        told=use.told,
        per_second=use.told / (at - since) if at > since else 0.0,
        longest_gap=max(use.longest_gap, gap),
        value=use.value,
        flags=use.flags,
        flag_changes=use.flag_changes,
        reads=use.reads,
    )
