"""A blocking NetFIX client.

    with Client("127.0.0.1") as client:
        print(client.read("IAS").value)
        client.subscribe("ALT", lambda sample: print(sample.key, sample.value))

Any thread may call any method. The client has a thread that receives and calls the callbacks. Callbacks may make
requests, and a slow one delays only the updates that follow.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from fixgw.backoff import Backoff
from fixgw.clock import HoldUp
from fixgw.database import Flags, Value
from fixgw.errors import BadValue, NetfixError, NotConnected, Refused, RequestTimeout
from fixgw.kit.complaints import Complaints
from fixgw.logmemory import Line
from fixgw.net import tcp
from fixgw.netfix.sentence import (
    NOT_PERMITTED,
    PORT,
    LineSplitter,
    Version,
    flag_bits,
    flag_text,
    split_mark,
    split_path,
    split_version,
    text_of,
    value_of,
    whole_number,
)

log = logging.getLogger(__name__)

RECONNECT_DELAY_S = 0.1  # the first delay; it doubles
RECONNECT_DELAY_MAX_S = 2.0  # up to this
MAX_ANSWER_BYTES = 1 << 24
MAX_PENDING_REQUESTS = 1000  # requests sent before their answers arrive
CHUNK_BYTES = 65536
SETTLE_S = 0.3  # data sent by the gateway during a hold-up arrives within this time afterwards
DELAYED_S = 2.5  # data that is older when it arrives was held up in the network
HISTORY_CHARS = 3000  # of one @xhistory
MAX_WAITING_UPDATES = 10000  # updates that wait while a callback makes requests


class Sample(Flags, msgspec.Struct, frozen=True, gc=False):
    """The value of an item or of an aux value (`key` is then ``"IAS.Vne"``, and `flags` is 0).

    `text` is the value as the gateway sent it; `value` is the same as a float, int, bool, str or None. It has the
    item's declared type if this client has requested a `report` of the item, otherwise the type that the text looks
    like. For a client that has introduced itself as a gateway, `mark` says that the value is ``sim``, ``replay`` or
    ``override``, or was ``kept`` across a restart. `version` is that of a setting (`fixgw.netfix.sentence.Version`).
    `path` are the gateways that a measurement had passed through before it came to that gateway.
    """

    key: str
    value: Value | None
    flags: int
    text: str
    mark: str = ""
    version: Version | None = None
    path: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """The definition of an item; `tolerance` is in milliseconds."""

    key: str
    description: str
    type: str
    min: Value | None
    max: Value | None
    units: str
    tolerance: int
    aux: tuple[str, ...]


class Origin(NamedTuple):
    """The source of a value, and its age in seconds when the gateway said so."""

    source: str
    age: float


class Trace(NamedTuple):
    """The values that a gateway remembers of a key, the newest last, one each `step` seconds; None where it has none.

    `newest` is the time of the last one, in seconds of `fixgw.clock.now`. `flags` are bits, as in `fixgw.history`.
    """

    newest: float
    step: float
    values: list[float | None]
    flags: list[int]


class _Remembered(msgspec.Struct):
    values: list[float | None]
    flags: list[int]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.flags):
            raise ValueError("there are not as many flags as values")


class _Page(msgspec.Struct):
    """An answer to ``@xhistory``."""

    step: Annotated[float, msgspec.Meta(gt=0)]
    age: Annotated[float, msgspec.Meta(ge=0)]
    keys: dict[str, _Remembered | None]


SampleCallback = Callable[[Sample], object]
Samples = list[Sample]  # `list` is a method of the client
Reports = list[Report]


class _Request:
    """A command that waits for its answer, which begins with `echo`."""

    __slots__ = ("answer", "done", "echo", "error")

    def __init__(self, echo: str) -> None:
        self.echo = echo
        self.answer = ""
        self.error: NetfixError | None = None
        self.done = threading.Event()

    def matches(self, line: str) -> bool:
        return line.startswith(self.echo) and line[len(self.echo) : len(self.echo) + 1] in ("", ";", "!")

    def take(self, line: str) -> bool:
        """Store an answer that matches. Returns True if it is complete."""
        rest = line[len(self.echo) :]
        if rest[:1] == "!":
            self.error = Refused(self.echo, rest[1:])
        else:
            self.answer = rest[1:]
        return True


class _ListRequest(_Request):
    """`@l`, whose answer may have several lines."""

    __slots__ = ("keys",)

    def __init__(self) -> None:
        super().__init__("@l")
        self.keys: list[str] = []

    def matches(self, line: str) -> bool:
        return line.startswith("@l")

    def take(self, line: str) -> bool:
        total, _, rest = line[2:].partition(";")
        keys = rest.partition(";")[2]
        self.keys.extend(key for key in keys.split(",") if key)
        return len(self.keys) >= whole_number(total)


class _Probe(_Request):
    """A request whose answer shows how old the data behind it can be at most."""

    __slots__ = ("sent_at",)

    def __init__(self, echo: str, sent_at: float) -> None:
        super().__init__(echo)
        self.sent_at = sent_at


class Client:
    """A connection to the gateway at `host`, `port`.

    A request waits at most `timeout` seconds for its answer. With `reconnect`, the client restores a lost connection
    after delays of 0.1 to 2 s, and renews its subscriptions. It calls `on_connect` after each connection and
    `on_disconnect` after each loss, without arguments, on the receiving thread. All requests can raise `NotConnected`,
    `RequestTimeout` or `Refused`, which are `NetfixError`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        timeout: float = 1.0,
        *,
        reconnect: bool = True,
        on_connect: Callable[[], object] | None = None,
        on_disconnect: Callable[[], object] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.reconnect = reconnect
        self.on_connect = on_connect
        self.on_disconnect = on_disconnect
        self._sending = threading.RLock()  # held while sending; never held while receiving
        self._lock = threading.Lock()  # guards `_socket` and `_requests`; always taken last, and held briefly
        self._socket: socket.socket | None = None
        self._splitter = LineSplitter(MAX_ANSWER_BYTES)
        self._requests: deque[_Request] = deque()
        #: The number of times that a callback raised. Only some are logged.
        self.callback_errors = 0
        self._complain = Complaints(log, time.monotonic)
        #: Whether the data arriving now waited while this process was held up, and is old. For callbacks.
        self.late = False
        #: Whether the data arriving now may be older than `DELAYED_S`, by the answers to `probe`. For callbacks.
        self.delayed = False
        self._probe: _Probe | None = None  # the last one sent
        self._fresh_since = float("inf")  # when the last one answered was sent
        self._hold_up = HoldUp()
        self._drained = False
        self._settled_at = 0.0
        self._updates: deque[Sample] = deque()
        self._callbacks: dict[str, list[SampleCallback]] = {}
        self._types: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect()

    # -- connection ----------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def connect(self) -> None:
        """Connect now. Raises `NotConnected` if no gateway answers, and then does not keep trying."""
        if self._thread is not None and self._thread.is_alive() and self.connected:
            return
        self.disconnect()
        self._open()
        self._start()

    def start(self) -> None:
        """Connect in the background, and keep trying until it works, even without `reconnect`. Returns at once."""
        self.disconnect()
        self._start()

    def disconnect(self, wait: float = 0.5) -> None:
        """Close the connection, and stop trying to connect. May be called without a connection.

        Waits at most `wait` seconds for the receiving thread, which may be connecting or in a callback.
        """
        self._stopping.set()
        self._hang_up()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait)
        self._thread = None

    def _start(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="netfix client", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            sock = tcp.connect(self.host, self.port, self.timeout)
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise NotConnected(f"no gateway at {self.host} port {self.port}: {reason}") from error
        with self._lock:
            self._splitter = LineSplitter(MAX_ANSWER_BYTES)
            self._socket = sock
        self._hold_up.reset()
        self.late = self.delayed = False
        self._probe, self._fresh_since = None, float("inf")

    def _hang_up(self) -> None:
        """Close the socket. All pending requests fail."""
        with self._lock:
            sock, self._socket = self._socket, None
            requests = list(self._requests)
            self._requests.clear()
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        for request in requests:
            request.error = NotConnected(f"the connection to {self.host} port {self.port} was lost")
            request.done.set()

    # -- the receiving thread ------------------------------------------------------------------------------------------

    def _run(self, stopping: threading.Event) -> None:
        backoff = Backoff(RECONNECT_DELAY_S, RECONNECT_DELAY_MAX_S)
        while not stopping.is_set():
            if self._socket is None:
                try:
                    self._open()
                except NotConnected:
                    stopping.wait(backoff.next())
                    continue
            if stopping.is_set():
                break
            try:
                self._greet()
                while not stopping.is_set():
                    if self._pump():
                        backoff.reset()
                    self._deliver()
            except NotConnected:
                pass
            if stopping.is_set():
                break
            self._hang_up()
            self._call(self.on_disconnect)
            if not self.reconnect:
                return
            stopping.wait(backoff.next())
        if self._stopping is stopping:
            self._hang_up()
        self._call(self.on_disconnect)

    def _greet(self) -> None:
        with self._sending:
            for key in list(self._callbacks):
                self._send([f"@s{key}"], [_Request(f"@s{key}")])
        self._call(self.on_connect)

    def _pump(self) -> bool:
        """Receive once. Passes answers to their requests and keeps updates for `_deliver`.

        Returns True if anything arrived.
        """
        sock = self._socket
        if sock is None:
            raise NotConnected("disconnected")
        try:
            data = sock.recv(CHUNK_BYTES)
        except TimeoutError:
            self._hold_up.noticed(self.timeout)  # no data has waited
            self.late = False
            return False
        except OSError as error:
            raise NotConnected(str(error)) from error
        if not data:
            raise NotConnected("the gateway closed the connection")
        self._note_hold_up(len(data) < CHUNK_BYTES)
        self.delayed = self._hold_up.clock() - self._fresh_since > DELAYED_S  # before the answers in this data count
        for line in self._splitter.feed(data):
            if not isinstance(line, str):
                continue
            mark, version = "", None
            path: tuple[str, ...] = ()
            if line[0] == "@":
                path, line = split_path(line)
                mark, line = split_mark(line)
                version, line = split_version(line)
                if version is not None:
                    mark, line = split_mark(line)
            if line[0] == "@":
                self._handle_answer(line)
            elif len(self._updates) < MAX_WAITING_UPDATES:
                self._updates.append(self._sample(line, mark, version, path))
        return True

    def _note_hold_up(self, drained: bool) -> None:
        """Data has been read. `drained`: the socket is empty."""
        if self._hold_up.noticed(self.timeout):
            self.late = True
            self._settled_at = self._hold_up.clock() + SETTLE_S
        elif self.late and self._drained and self._hold_up.clock() >= self._settled_at:
            self.late = False
        self._drained = drained

    def _handle_answer(self, line: str) -> None:
        with self._lock:
            for n, request in enumerate(self._requests):
                if request.matches(line):
                    # Answers come in order, so earlier requests will not be answered.
                    for _ in range(n):
                        self._requests.popleft()
                    if request.take(line):
                        self._requests.popleft()
                        request.done.set()
                        if isinstance(request, _Probe):
                            self._fresh_since = request.sent_at
                    return

    def _deliver(self) -> None:
        while self._updates:
            sample = self._updates.popleft()
            for callback in self._callbacks.get(sample.key.partition(".")[0], ()):
                self._call(callback, sample)

    def _call(self, callback: Callable[..., object] | None, *args: Any) -> None:
        if callback is not None:
            try:
                callback(*args)
            except NetfixError as error:
                log.info("callback %r: %s", callback, error)
            except Exception:
                self.callback_errors += 1
                if self._complain.due():
                    log.exception("callback %r failed", callback)

    def _sample(self, line: str, mark: str = "", version: Version | None = None, path: tuple[str, ...] = ()) -> Sample:
        key, _, rest = line.partition(";")
        base, dot, _ = key.partition(".")
        kind = self._types.get(base, "")
        if dot:
            return Sample(key, None if rest == "None" else value_of(rest, kind), 0, rest, mark, version)
        text, _, flags = rest.rpartition(";")
        return Sample(key, value_of(text, kind), flag_bits(flags), text, mark, version, path)

    # -- requests ------------------------------------------------------------------------------------------------------

    def send_lines(self, lines: Iterable[str]) -> None:
        """Send value sentences unchanged. Raises `NotConnected`."""
        self._send(lines)

    def _send(self, lines: Iterable[str], requests: Iterable[_Request] = ()) -> None:
        """Send lines, whose answers go to `requests`. Raises `NotConnected`."""
        text = "\n".join((*lines, ""))
        with self._sending:
            with self._lock:  # answers come in this order
                sock = self._socket
                if sock is not None:
                    self._requests.extend(requests)
            if sock is None:
                raise NotConnected(f"not connected to {self.host} port {self.port}")
            try:
                sock.sendall(text.encode())
            except OSError as error:  # part of a line may be sent, so the gateway would misread what follows
                self._hang_up()
                raise NotConnected(f"the connection to {self.host} port {self.port} was lost: {error}") from error

    def _await(self, request: _Request) -> str:
        """Wait for the answer to a request that was sent. Raises `RequestTimeout`, `Refused`, `NotConnected`."""
        deadline = time.monotonic() + self.timeout
        if threading.current_thread() is self._thread:  # in a callback, so no other thread receives
            while not request.done.is_set() and time.monotonic() < deadline:
                self._pump()
        else:
            request.done.wait(self.timeout)
        if not request.done.is_set():
            gateway = f"{self.host} port {self.port}"
            raise RequestTimeout(f"no answer to {request.echo} from {gateway} within {self.timeout} s")
        if request.error is not None:
            raise request.error
        return request.answer

    def _ask(self, line: str, echo: str = "") -> str:
        request = _Request(echo or line)
        self._send([line], [request])
        return self._await(request)

    def _ask_many(self, commands: Sequence[str]) -> list[str]:
        """Send all `commands` without waiting for each answer. Returns the answers."""
        answers: list[str] = []
        for start in range(0, len(commands), MAX_PENDING_REQUESTS):
            requests = [_Request(command) for command in commands[start : start + MAX_PENDING_REQUESTS]]
            self._send([request.echo for request in requests], requests)
            answers.extend(self._await(request) for request in requests)
        return answers

    def list(self) -> list[str]:
        """All keys, in the order in which they are defined."""
        request = _ListRequest()
        self._send(["@l"], [request])
        self._await(request)
        return request.keys

    def read(self, key: str) -> Sample:
        """The current value of an item, or of an aux value: ``"IAS.Vne"``."""
        return self._sample(f"{key};{self._ask(f'@r{_sendable(key)}')}")

    def read_many(self, keys: Iterable[str]) -> Samples:
        """Like `read`, for many keys in one round trip. Raises at the first key that is refused."""
        keys = list(keys)
        answers = self._ask_many([f"@r{_sendable(key)}" for key in keys])
        return [self._sample(f"{key};{answer}") for key, answer in zip(keys, answers, strict=True)]

    def write(self, key: str, value: Any) -> Sample:
        """Write a value without changing the flags. Returns what is now stored, which may be clamped.

        Raises `BadValue` for text that a sentence cannot carry, and `Refused` for a value that the item cannot have.
        """
        answer = self._ask(f"@w{_sendable(key)};{_value_text(key, value)}", f"@w{key}")
        return self._sample(f"{key};{answer}")

    def send(
        self,
        key: str,
        value: Any,
        *,
        annunciate: bool = False,
        bad: bool = False,
        fail: bool = False,
        secfail: bool | None = None,
    ) -> None:
        """Write a value and its flags in one step, without an answer. `secfail` None does not change that flag."""
        flags = [annunciate, bad, fail] if secfail is None else [annunciate, bad, fail, secfail]
        self._send([f"{_sendable(key)};{_value_text(key, value)};{''.join('1' if flag else '0' for flag in flags)}"])

    def flag(self, key: str, flag: str, setting: bool) -> None:
        """Set or clear one flag: ``"a"`` annunciate, ``"o"`` old, ``"b"`` bad, ``"f"`` fail, ``"s"`` secondary fail."""
        self._ask(f"@f{_sendable(key)};{flag};{int(setting)}", f"@f{key}")

    def report(self, key: str) -> Report:
        """The definition of an item."""
        return self._report(self._ask(f"@q{_sendable(key)}"), key)

    def report_many(self, keys: Iterable[str]) -> Reports:
        """Like `report`, for many keys in one round trip. Raises at the first key that is refused."""
        keys = list(keys)
        answers = self._ask_many([f"@q{_sendable(key)}" for key in keys])
        return [self._report(answer, key) for key, answer in zip(keys, answers, strict=True)]

    def _report(self, answer: str, key: str) -> Report:
        fields = [*answer.split(";"), *[""] * 7]
        description, kind, low, high, units, tolerance, aux = fields[:7]
        self._types[key] = kind
        return Report(
            key,
            description,
            kind,
            value_of(low, "" if kind == "str" else kind),
            value_of(high, "" if kind == "str" else kind),
            units,
            whole_number(tolerance),
            tuple(name for name in aux.split(",") if name),
        )

    def subscribe(self, key: str, callback: SampleCallback) -> None:
        """Call ``callback(sample)`` on every update of an item and of its aux values, on the receiving thread.

        A key may have several callbacks. The current value is not sent; use `read`. A subscription outlives the
        connection.
        """
        with self._sending:
            callbacks = self._callbacks.get(key, [])
            self._callbacks[key] = [*callbacks, callback]
            if callbacks or not self.connected:
                return
            request = _Request(f"@s{_sendable(key)}")
            self._send([request.echo], [request])
        try:
            self._await(request)
        except Refused:
            self._callbacks.pop(key, None)
            raise

    def unsubscribe(self, key: str, callback: SampleCallback | None = None) -> None:
        """Undo `subscribe` for one callback of the key, or for all. Does nothing if there is none."""
        with self._sending:
            if key not in self._callbacks:
                return
            rest = [c for c in self._callbacks[key] if callback is not None and c != callback]
            if rest:
                self._callbacks[key] = rest
                return
            del self._callbacks[key]
            if not self.connected:
                return
            request = _Request(f"@u{key}")
            self._send([request.echo], [request])
        self._await(request)

    def status(self) -> dict[str, Any]:
        """The gateway's status tree."""
        return self._json("@xstatus")

    def log(self, connection: str = "", after: int = 0) -> Sequence[Line]:
        """The latest lines of the gateway's log that it has kept, with numbers greater than `after`; of a connection,
        or of all. Raises `Refused` if it keeps none."""
        lines: deque[Line] = deque()
        words = f" {_sendable(connection)}" if connection else ""
        while True:
            page = self._json(f"@xlog {after}{words}").get("lines") or ()
            try:
                lines += [Line(*line) for line in page]
            except TypeError as error:
                raise NetfixError(f"the answer to @xlog is not a log: {error}") from error
            if not page or lines[-1].number <= after:
                return tuple(lines)
            after = lines[-1].number

    def history(self, keys: Iterable[str], seconds: int) -> dict[str, Trace]:
        """The values of these keys in the last so many seconds, without those that are no numbers.

        Raises `Refused` if the gateway does not remember values, or at a key that it does not know.
        """
        left = deque(_sendable(key) for key in dict.fromkeys(keys))
        traces: dict[str, Trace] = {}
        while left:
            command = f"@xhistory {int(seconds)}"
            for key in left:
                if len(command) + len(key) > HISTORY_CHARS:
                    break
                command += f" {key}"
            answer = self._ask(command)
            now = self._hold_up.clock()
            try:
                page = msgspec.json.decode(answer, type=_Page)
            except msgspec.MsgspecError as error:
                raise NetfixError(f"the answer to @xhistory is no history: {error}") from error
            if left[0] not in page.keys:
                raise NetfixError(f"the answer to @xhistory has no {left[0]}")
            while left and left[0] in page.keys:
                key = left.popleft()
                if (found := page.keys[key]) is not None:
                    traces[key] = Trace(now - page.age, page.step, found.values, found.flags)
        return traces

    def definitions(self) -> dict[str, Any]:
        """What `report` does not say of items, by key: ``{"IAS": {"decimals": 1}}``. Raises `Refused` if the gateway
        does not know this command."""
        return self._json("@xdefinitions")

    def sources(self) -> dict[str, Origin]:
        """Where the values of all keys that were ever written come from. Raises `Refused` if the gateway does not know
        this command."""
        try:
            return msgspec.json.decode(self._ask("@xsources"), type=dict[str, Origin])
        except msgspec.MsgspecError as error:
            raise NetfixError(f"the answer to @xsources is not what it should be: {error}") from error

    def explain(self, key: str) -> dict[str, Any]:
        """Where a value comes from, which sources it has, and why it is flagged."""
        return self._json(f"@xexplain {_sendable(key)}")

    def _json(self, command: str) -> dict[str, Any]:
        try:
            tree = json.loads(self._ask(command))
        except json.JSONDecodeError as error:
            raise NetfixError(f"the answer to {command} is not JSON: {error}") from error
        return tree if isinstance(tree, dict) else {"": tree}

    def introduce(self, identity: str) -> str:
        """Tell the gateway that this client is a link of the gateway `identity`, and need not get that one's values.

        Returns the other gateway's identity; empty if it does not know this command.
        """
        try:
            return self._ask(f"@xmirror {identity}")
        except Refused:
            return ""

    def trace(self) -> bool:
        """After `introduce`: ask the gateway to say which gateways its values have passed through, and offer the same.

        Returns whether it does; one that does not know this command sends its values without.
        """
        try:
            self._ask("@xvia")
        except Refused:
            return False
        return True

    def probe(self, key: str) -> None:
        """Ask for the definition of `key`, and note when: what arrives behind the answer was sent since.

        Call it several times per second. Once there has been an answer, `delayed` says whether the data now arriving
        may be old. Does nothing while an answer is due. Does not wait for it.
        """
        with self._lock:
            if self._probe is not None and self._probe in self._requests:
                return
            self._probe = _Probe(f"@q{key}", self._hold_up.clock())
        self._send([self._probe.echo], [self._probe])

    def drop_updates(self) -> None:
        """Forget the updates that have arrived and that no callback has got yet. For `on_connect`."""
        self._updates.clear()

    def restart(self, connection: str) -> str:
        """Ask the gateway to restart one of its connections with its current code on disk.

        Returns at once, with the reason why not, or an empty text. The status shows the progress.
        """
        if not connection or ";" in connection or not connection.isprintable():
            return f"there is no connection {connection!r}"
        return self._ask(f"@xrestart {connection}")

    def override(self, key: str, value: Any, flags: int = 0, seconds: int = 300) -> str:
        """Ask the gateway to publish `value` with the `flags` (bits), whatever its sources say, for so many seconds.

        Returns why not, or an empty text. Raises `Refused`: the key is unknown, or this client may not administer the
        gateway; and `BadValue` for text that a sentence cannot carry.
        """
        sent = f"@xhold {seconds} {_sendable(key)};{_value_text(key, value)};{flag_text(flags)}"
        return self._ask(sent, f"@xhold {seconds} {key}")

    def release(self, key: str) -> str:
        """Ask the gateway to publish the key's sources again. Returns and raises as `override`."""
        return self._ask(f"@xrelease {_sendable(key)}")

    def command(self, name: str, words: str) -> str:
        """Ask the gateway to carry out a command that one of its connections offers: ``command("alerts", "ack cht")``.

        Returns why not, or an empty text. Raises `Refused`: the gateway has no such connection, or this client may not
        write.
        """
        if not words or ";" in words or not words.isprintable():
            return f"{words!r} is no command"
        return self._ask(f"@x{name} {words}")

    def kill(self) -> None:
        """Ask the gateway to stop. Raises `Refused` unless its configuration permits this computer to."""
        try:
            self._ask("@xkill")
        except Refused as error:
            if error.code != NOT_PERMITTED:
                raise
            advice = "the option `admin` of the gateway's netfix connection must name this computer's address"
            raise Refused(error.request, error.code, advice) from None


def _sendable(key: str) -> str:
    """Return `key` if a command can carry it. Raises `Refused` otherwise: such a key cannot exist."""
    if not key or ";" in key or not key.isprintable():
        raise Refused(repr(key), "001")
    return key


def _value_text(key: str, value: Any) -> str:
    text = text_of(value)
    if isinstance(value, str) and text != value:
        raise BadValue(key, "cannot send text with ';' or control characters", "text")
    return text
