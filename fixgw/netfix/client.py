"""A blocking NetFIX client.

    with Client("127.0.0.1") as client:
        print(client.read("IAS").value)
        client.subscribe("ALT", lambda sample: print(sample.key, sample.value))

Any method may be called from any thread. One thread of the client's own receives; it calls the callbacks, which may
make requests themselves, and which nothing else waits for but the next update.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from fixgw.backoff import Backoff
from fixgw.database import Flags, Value
from fixgw.errors import BadValue, NetfixError, NotConnected, Refused, RequestTimeout
from fixgw.kit.complaints import Complaints
from fixgw.net import tcp
from fixgw.netfix.sentence import PORT, LineSplitter, flag_bits, split_mark, text_of, value_of

log = logging.getLogger(__name__)

RECONNECT_DELAY = 0.1  # seconds, doubled
RECONNECT_DELAY_MAX = 2.0  # up to this
LONGEST_ANSWER = 1 << 24
WINDOW = 1000  # requests on their way at a time
UPDATES_KEPT = 10000  # that wait while a callback makes requests


class Sample(Flags, msgspec.Struct, frozen=True, gc=False):
    """What a gateway says of an item or of an aux value (`key` is then ``"IAS.Vne"``; its flags are 0).

    `text` is the value as it came, `value` the same as float, int, bool, str or None; for an item that this client
    has asked a `report` of, in its declared type, otherwise in the type that the text looks like. To a gateway that has
    introduced itself, `mark` says that the value is ``sim``, ``replay`` or ``override``, or ``kept`` over a restart.
    """

    key: str
    value: Value | None
    flags: int
    text: str
    mark: str = ""


class Report(msgspec.Struct, frozen=True):
    """What is fixed about an item; `tolerance` in milliseconds."""

    key: str
    description: str
    type: str
    min: Value | None
    max: Value | None
    units: str
    tolerance: int
    aux: tuple[str, ...]


SampleCallback = Callable[[Sample], object]
Samples = list[Sample]  # `list` is a method of the client
Reports = list[Report]


class _Request:
    """One command on its way; `echo` is how its answer begins."""

    __slots__ = ("answer", "done", "echo", "error")

    def __init__(self, echo: str) -> None:
        self.echo = echo
        self.answer = ""
        self.error: NetfixError | None = None
        self.done = threading.Event()

    def matches(self, line: str) -> bool:
        return line.startswith(self.echo) and line[len(self.echo) : len(self.echo) + 1] in ("", ";", "!")

    def take(self, line: str) -> bool:
        """Use an answer that matches; True when nothing more is to come."""
        rest = line[len(self.echo) :]
        if rest[:1] == "!":
            self.error = Refused(self.echo, rest[1:])
        else:
            self.answer = rest[1:]
        return True


class _ListRequest(_Request):
    """`@l`, whose answer may come in several lines."""

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
        return not total.isdecimal() or len(self.keys) >= int(total)


class Client:
    """Connection to the gateway at `host`, `port`.

    Each answer is waited for at most `timeout` seconds. With `reconnect`, a connection that is lost is made again,
    after delays of 0.1 to 2 s, and subscriptions are renewed. `on_connect` and `on_disconnect` are called without
    arguments on the receiving thread, the former after each (re)connection. Everything raises `NotConnected`,
    `RequestTimeout` or `Refused`, all of them `NetfixError`.
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
        self._sending = threading.RLock()  # held while sending, never by the receiving thread's own work
        self._lock = threading.Lock()  # guards `_socket` and `_requests`; taken last, held briefly
        self._socket: socket.socket | None = None
        self._splitter = LineSplitter(LONGEST_ANSWER)
        self._requests: deque[_Request] = deque()
        #: Callbacks that raised; some are logged.
        self.callback_errors = 0
        self._complain = Complaints(log, time.monotonic)
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
        """Connect now. Raises `NotConnected` when nobody answers; then nothing keeps trying."""
        if self._thread is not None and self._thread.is_alive() and self.connected:
            return
        self.disconnect()
        self._open()
        self._start()

    def start(self) -> None:
        """Connect in the background, and keep trying, whatever `reconnect` says of later losses. Returns at once."""
        self.disconnect()
        self._start()

    def disconnect(self, wait: float = 0.5) -> None:
        """Close the connection, and stop trying to get one; harmless when there is none.

        Waits at most `wait` seconds for the receiving thread, which may be trying to connect, or in a callback.
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
            self._splitter = LineSplitter(LONGEST_ANSWER)
            self._socket = sock

    def _hang_up(self) -> None:
        """Close the socket; every request under way fails."""
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
        backoff = Backoff(RECONNECT_DELAY, RECONNECT_DELAY_MAX)
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
        """Receive once, True when something came; answers go to their requests, updates are kept for `_deliver`."""
        sock = self._socket
        if sock is None:
            raise NotConnected("disconnected")
        try:
            data = sock.recv(65536)
        except TimeoutError:
            return False
        except OSError as error:
            raise NotConnected(str(error)) from error
        if not data:
            raise NotConnected("the gateway closed the connection")
        for line in self._splitter.feed(data):
            if not isinstance(line, str):
                continue
            mark = ""
            if line[0] == "@":
                mark, line = split_mark(line)
            if line[0] == "@":
                self._answered(line)
            elif len(self._updates) < UPDATES_KEPT:
                self._updates.append(self._sample(line, mark))
        return True

    def _answered(self, line: str) -> None:
        with self._lock:
            for n, request in enumerate(self._requests):
                if request.matches(line):
                    # Answers come in order: what was asked before this one will not be answered any more.
                    for _ in range(n):
                        self._requests.popleft()
                    if request.take(line):
                        self._requests.popleft()
                        request.done.set()
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

    def _sample(self, line: str, mark: str = "") -> Sample:
        key, _, rest = line.partition(";")
        base, dot, _ = key.partition(".")
        kind = self._types.get(base, "")
        if dot:
            return Sample(key, None if rest == "None" else value_of(rest, kind), 0, rest)
        text, _, flags = rest.rpartition(";")
        return Sample(key, value_of(text, kind), flag_bits(flags), text, mark)

    # -- requests ------------------------------------------------------------------------------------------------------

    def send_lines(self, lines: Iterable[str]) -> None:
        """Send value sentences as they are. Raises `NotConnected`."""
        self._send(lines)

    def _send(self, lines: Iterable[str], requests: Iterable[_Request] = ()) -> None:
        """Send lines; `requests` get their answers. Raises `NotConnected`."""
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
            except OSError as error:  # part of a line may have gone: nothing that follows would be understood
                self._hang_up()
                raise NotConnected(f"the connection to {self.host} port {self.port} was lost: {error}") from error

    def _await(self, request: _Request) -> str:
        """The answer to a request that has been sent. Raises `RequestTimeout`, `Refused`, `NotConnected`."""
        deadline = time.monotonic() + self.timeout
        if threading.current_thread() is self._thread:  # in a callback: nobody else receives
            while not request.done.is_set() and time.monotonic() < deadline:
                self._pump()
        else:
            request.done.wait(self.timeout)
        if not request.done.is_set():
            raise RequestTimeout(f"no answer to {request.echo} from {self.host} port {self.port} in {self.timeout} s")
        if request.error is not None:
            raise request.error
        return request.answer

    def _ask(self, line: str, echo: str = "") -> str:
        request = _Request(echo or line)
        self._send([line], [request])
        return self._await(request)

    def _ask_many(self, commands: Sequence[str]) -> list[str]:
        """Answers to `commands`, asked without waiting for each other."""
        answers: list[str] = []
        for start in range(0, len(commands), WINDOW):
            requests = [_Request(command) for command in commands[start : start + WINDOW]]
            self._send([request.echo for request in requests], requests)
            answers.extend(self._await(request) for request in requests)
        return answers

    def list(self) -> list[str]:
        """All keys, in the order of their definition."""
        request = _ListRequest()
        self._send(["@l"], [request])
        self._await(request)
        return request.keys

    def read(self, key: str) -> Sample:
        """The current value of an item, or with ``"IAS.Vne"`` of an aux value."""
        return self._sample(f"{key};{self._ask(f'@r{_fit(key)}')}")

    def read_many(self, keys: Iterable[str]) -> Samples:
        """As `read`, for many at the price of one round trip. Raises on the first that is refused."""
        keys = list(keys)
        answers = self._ask_many([f"@r{_fit(key)}" for key in keys])
        return [self._sample(f"{key};{answer}") for key, answer in zip(keys, answers, strict=True)]

    def write(self, key: str, value: Any) -> Sample:
        """Write a value, leaving the flags alone; returns what is now stored, clamped perhaps.

        Raises `BadValue` for text that no sentence can carry, `Refused` for a value that the item cannot take.
        """
        answer = self._ask(f"@w{_fit(key)};{_carried(key, value)}", f"@w{key}")
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
        """Write a value and its flags in one step, without an answer; `secfail` None leaves that flag alone."""
        flags = [annunciate, bad, fail] if secfail is None else [annunciate, bad, fail, secfail]
        self._send([f"{_fit(key)};{_carried(key, value)};{''.join('1' if flag else '0' for flag in flags)}"])

    def flag(self, key: str, flag: str, setting: bool) -> None:
        """Set or clear one flag: ``"a"`` annunciate, ``"o"`` old, ``"b"`` bad, ``"f"`` fail, ``"s"`` secondary fail."""
        self._ask(f"@f{_fit(key)};{flag};{int(setting)}", f"@f{key}")

    def report(self, key: str) -> Report:
        """What is fixed about an item."""
        return self._report(self._ask(f"@q{_fit(key)}"), key)

    def report_many(self, keys: Iterable[str]) -> Reports:
        """As `report`, for many at the price of one round trip. Raises on the first that is refused."""
        keys = list(keys)
        answers = self._ask_many([f"@q{_fit(key)}" for key in keys])
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
            int(tolerance) if tolerance.isdecimal() else 0,
            tuple(name for name in aux.split(",") if name),
        )

    def subscribe(self, key: str, callback: SampleCallback) -> None:
        """Call ``callback(sample)`` on every update of an item and of its aux values, on the receiving thread.

        Several callbacks may share a key. Nothing is sent for the current value: `read` it. A subscription outlives
        the connection.
        """
        with self._sending:
            callbacks = self._callbacks.get(key, [])
            self._callbacks[key] = [*callbacks, callback]
            if callbacks or not self.connected:
                return
            request = _Request(f"@s{_fit(key)}")
            self._send([request.echo], [request])
        try:
            self._await(request)
        except Refused:
            self._callbacks.pop(key, None)
            raise

    def unsubscribe(self, key: str, callback: SampleCallback | None = None) -> None:
        """Undo `subscribe`, for one callback or for all of the key; harmless when there is nothing to undo."""
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

    def explain(self, key: str) -> dict[str, Any]:
        """Where a value comes from, which sources exist, why it is flagged."""
        return self._json(f"@xexplain {_fit(key)}")

    def _json(self, command: str) -> dict[str, Any]:
        try:
            tree = json.loads(self._ask(command))
        except json.JSONDecodeError as error:
            raise NetfixError(f"the answer to {command} is not JSON: {error}") from error
        return tree if isinstance(tree, dict) else {"": tree}

    def introduce(self, identity: str) -> str:
        """Say that this client is a link of the gateway `identity`: it is then not told what came from there.

        Returns the other gateway's identity, empty of one that knows no such thing.
        """
        try:
            return self._ask(f"@xmirror {identity}")
        except Refused:
            return ""

    def kill(self) -> None:
        """Ask the gateway to stop."""
        self._ask("@xkill")


def _fit(key: str) -> str:
    """`key`, if a command can carry it; otherwise it cannot exist."""
    if not key or ";" in key or not key.isprintable():
        raise Refused(repr(key), "001")
    return key


def _carried(key: str, value: Any) -> str:
    text = text_of(value)
    if isinstance(value, str) and text != value:
        raise BadValue(key, "text with ';' or control characters cannot be sent", "text")
    return text
