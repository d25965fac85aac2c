"""Access to a bank of virtual pins from another program: `PanelServer`, the other end of `fixgw sim panel`.

The bank lives in the process of the gateway that reads it. There, the server listens on a socket in the file system
that only its owner can open. Commands are lines of words, see `COMMANDS`. A panel's parts are numbered from 0, as in
scenarios; pins have their BCM numbers. The server sends lines of JSON: a state, on connecting and whenever it has
changed, at most twenty times a second:

    {"plugged": true,
     "pins": {"17": {"direction": "in", "level": 1, "pull": "up", "driven": 0, "watched": true, "duty": null}, ...},
     "panel": {"knobs": [{"a": 5, "b": 6, "push": 13, "position": -3}, ...], "buttons": [17, ...], "switches": [24, 25],
               "lamps": {"OIL": 20, ...}, "light": 18}}

with null for what does not apply: ``direction`` is null until the program sets the pin up, ``driven`` while nothing
drives it, ``panel`` if there are only pins. For a command that failed it sends ``{"error": "..."}``. A client that
shuts down its sending side receives what is left to send, and then the end.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import selectors
import socket
import stat
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fixgw.hw_sim.faults import check
from fixgw.hw_sim.gpio import BANK, IN, OUT, PINS, PUD_DOWN, PUD_UP, Bank, Pulses
from fixgw.hw_sim.panel import BUTTONS, KNOBS, LAMPS, LIGHT, SWITCHES, Panel

log = logging.getLogger(__name__)

#: The commands and their numbers; those in brackets may be left out.
COMMANDS: Mapping[str, str] = {
    "press": "N [SECONDS]",  # the buttons, then those under the knobs; released after SECONDS, if given
    "release": "N",
    "turn": "KNOB DETENTS",  # clockwise if positive
    "switch": "N 0|1",
    "drive": "PIN 0|1",
    "let": "PIN",  # stop driving it
    "turn-pins": "A B DETENTS",
    "pulses": "PIN HZ",  # until HZ is 0
    "unplug": "",
    "plug": "",
}

LOOK_INTERVAL_S = 0.05  # between two looks at the pins, while a client is connected
STEP_INTERVAL_S = 0.025  # between two moves of a knob's contacts
MAX_CLIENTS = 8
MAX_LINE = 200  # bytes
MAX_WAITING = 65536  # bytes that a client has not read
MAX_DETENTS = 1000
MAX_PRESS_S = 60.0
MIN_HZ, MAX_HZ = 0.1, 2000.0

_DIRECTIONS = {IN: "in", OUT: "out", None: None}
_PULLS = {PUD_UP: "up", PUD_DOWN: "down"}


def default_path() -> str:
    """The usual path of the panel's socket: ``$FIXGW_PANEL``, or a path of this user's."""
    directory = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return os.environ.get("FIXGW_PANEL") or os.path.join(directory, f"fixgw-panel-{os.getuid()}")


def connect(path: str = "") -> socket.socket:
    """Connect to the server at `path`, or at the default path. Raises OSError.

    In a directory that everyone may write to, anyone could pose as the panel; a socket of another user raises
    PermissionError.
    """
    path = path or default_path()
    if os.lstat(path).st_uid not in (os.getuid(), 0):
        raise PermissionError(errno.EPERM, "it belongs to another user", path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(5.0)
        with _address(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    connection.settimeout(None)
    return connection


@contextmanager
def _address(path: str) -> Iterator[str]:
    """`path` as a socket's address, which is limited to about 100 characters."""
    if len(os.fsencode(path)) < 100:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def _abandoned(path: str) -> bool:
    """Whether `path` is a socket of ours, or a link to one, on which no server listens."""
    try:
        found = os.lstat(path)
        if found.st_uid != os.getuid() or not (stat.S_ISSOCK(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return False
        connect(path).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        pass
    return False


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = b""
        self.last_state = ""
        self.waiting = b""
        self.ending = False

    def tell(self, line: str) -> None:
        self.waiting += line.encode() + b"\n"
        if len(self.waiting) > MAX_WAITING:
            raise ConnectionError("the client does not read")

    def flush(self) -> None:
        """Send what the client takes. Raises OSError if it is gone."""
        with suppress(BlockingIOError):
            while self.waiting:
                self.waiting = self.waiting[self.connection.send(self.waiting) :]


class PanelServer:
    """Serves a bank's pins, and the `panel` on them if there is one, from construction until `close`.

    One thread, which sleeps while nobody is connected. What a client holds stays held when it disconnects. Raises
    OSError if there can be no socket at `path`; one left behind by a killed program is replaced.
    """

    def __init__(self, path: str | Path, panel: Panel | None = None, bank: Bank = BANK) -> None:
        self.path = str(path)
        self.bank = bank
        self.panel = panel
        self._link = ""
        self._closed = False
        self._clients: list[_Client] = []
        self._held: dict[int, float] = {}  # button -> when to release it
        self._turning: dict[tuple[int, int], deque[tuple[int, bool]]] = {}
        self._sending: dict[int, Pulses] = {}
        self._next_look = self._next_step = 0.0
        self._listener = self._listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._awake, self._wake = socket.socketpair()
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="panel", daemon=True)
        self._thread.start()

    def publish(self) -> bool:
        """Take the default path, unless another server has it; return whether we have it."""
        link = default_path()
        with suppress(OSError):
            if _abandoned(link):
                Path(link).unlink(missing_ok=True)
            os.symlink(os.path.abspath(self.path), link)
            self._link = link
        return bool(self._link)

    def close(self) -> None:
        """Stop and leave nothing behind; harmless if already stopped."""
        if self._closed:
            return
        self._closed = True
        self._wake.close()
        self._thread.join()
        with suppress(OSError):
            if self._link and os.readlink(self._link) == os.path.abspath(self.path):
                os.unlink(self._link)
        Path(self.path).unlink(missing_ok=True)

    def __enter__(self) -> PanelServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def state(self) -> dict[str, Any]:
        """The state for clients. Any thread."""
        pins = {}
        for number in range(PINS):
            pin = self.bank.state(number)
            pins[str(number)] = {
                "direction": _DIRECTIONS[pin.direction],
                "level": int(pin.level),
                "pull": _PULLS.get(pin.pull),
                "driven": None if pin.driven is None else int(pin.driven),
                "watched": pin.watched,
                "duty": pin.duty,
            }
        return {"plugged": self.bank.plugged, "pins": pins, "panel": self.panel and _parts(self.panel)}

    # -- the server's thread -------------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)  # before anyone can see it
            with _address(self.path) as address:
                try:
                    listener.bind(address)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or not _abandoned(self.path):
                        raise
                    os.unlink(self.path)
                    listener.bind(address)
            os.chmod(self.path, 0o600)
            listener.listen(MAX_CLIENTS)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def _run(self) -> None:
        try:
            while self._serve():
                pass
        except Exception:
            log.exception("the panel's socket has failed")
        finally:
            for client in self._clients:
                client.connection.close()
            for pulses in self._sending.values():
                pulses.stop()
            for thing in (self._selector, self._listener, self._awake, self._wake):
                thing.close()

    def _serve(self) -> bool:
        """Wait for the next event and handle it; False if the server is to stop."""
        due = list(self._held.values())
        if self._clients:
            due.append(self._next_look)
        if self._turning:
            due.append(self._next_step)
        for key, _ in self._selector.select(max(0.0, min(due) - time.monotonic()) if due else None):
            if key.fileobj is self._awake:
                return False
            if key.fileobj is self._listener:
                self._accept()
            else:
                self._hear(key.data)
        now = time.monotonic()
        for button in [button for button, end in self._held.items() if now >= end]:
            self._release(button)
        if self._turning and now >= self._next_step:
            self._next_step = now + STEP_INTERVAL_S
            self._move()
        if self._clients and now >= self._next_look:
            self._next_look = now + LOOK_INTERVAL_S
            self._tell_all()
        return True

    def _accept(self) -> None:
        with suppress(OSError):  # it may already be gone
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if len(self._clients) >= MAX_CLIENTS:
                connection.send(b'{"error": "too many clients are connected to this panel"}\n')
                connection.close()
                return
            client = _Client(connection)
            self._clients.append(client)
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _hear(self, client: _Client) -> None:
        try:
            data = client.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        *lines, client.heard = (client.heard + data).split(b"\n")
        if not data:  # the last line may lack its ending
            lines, client.heard = [client.heard], b""
        too_long = any(len(line) > MAX_LINE for line in (*lines, client.heard))
        try:
            for line in lines:
                words = line.decode("utf-8", "replace").split()
                if words and not too_long:
                    try:
                        self._do(*words)
                    except ValueError as error:
                        client.tell(json.dumps({"error": str(error)}))
            if too_long:
                client.tell(json.dumps({"error": f"a line is longer than {MAX_LINE} bytes"}))
        except ConnectionError:
            self._drop(client)
            return
        if too_long or not data:
            client.ending = True
            self._selector.unregister(client.connection)

    def _drop(self, client: _Client) -> None:
        self._clients.remove(client)
        if not client.ending:
            self._selector.unregister(client.connection)
        client.connection.close()

    def _tell_all(self) -> None:
        state = json.dumps(self.state())
        for client in self._clients[:]:
            try:
                client.flush()
                if client.last_state != state and not client.waiting:  # a slow reader gets the latest state
                    client.last_state = state
                    client.tell(state)
                client.flush()
            except OSError:
                self._drop(client)
                continue
            if client.ending and not client.waiting:
                self._drop(client)

    def _move(self) -> None:
        for pins, moves in list(self._turning.items()):
            pin, close = moves.popleft()
            (self.bank.press if close else self.bank.release)(pin)
            if not moves:
                del self._turning[pins]

    # -- commands ------------------------------------------------------------------------------------------------------

    def _do(self, name: str, *words: str) -> None:
        """Execute a command. Raises ValueError, saying what is wrong with it."""
        usage = COMMANDS.get(name)
        if usage is None:
            raise ValueError(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}")
        kinds = usage.split()
        least = len([kind for kind in kinds if "[" not in kind])
        try:
            if not least <= len(words) <= len(kinds):
                raise ValueError
            numbers = [
                float(word) if kind in ("HZ", "[SECONDS]") else int(word)
                for word, kind in zip(words, kinds, strict=False)
            ]
        except ValueError:
            raise ValueError(f"usage: {name} {usage}".strip()) from None
        for number, kind in zip(numbers, kinds, strict=False):
            if kind in ("PIN", "A", "B"):
                check("pin", number, 0, PINS - 1)
            elif kind == "0|1":
                check(name, number, 0, 1)
        getattr(self, f"_{name.replace('-', '_')}")(*numbers)

    @property
    def _there(self) -> Panel:
        if self.panel is None:
            raise ValueError("there are only pins here, no panel; use drive, let, turn-pins and pulses")
        return self.panel

    def _press(self, button: int, seconds: float | None = None) -> None:
        if seconds is not None:
            check("press", seconds, 0.0, MAX_PRESS_S)
        if button not in self._held:
            self._there.press(button)
        self._held.pop(button, None)
        if seconds is not None:
            self._held[button] = time.monotonic() + seconds

    def _release(self, button: int) -> None:
        self._there.press(button, False)
        self._held.pop(button, None)

    def _turn(self, knob: int, detents: int) -> None:
        self._there.turn(knob, detents)

    def _switch(self, number: int, on: int) -> None:
        self._there.switch(number, bool(on))

    def _drive(self, pin: int, level: int) -> None:
        self.bank.drive(pin, bool(level))

    def _let(self, pin: int) -> None:
        self.bank.release(pin)

    def _turn_pins(self, a: int, b: int, detents: int) -> None:
        moves = self._turning.get((a, b), deque())
        check("turn-pins", len(moves) / 4 + abs(detents), 0, MAX_DETENTS)
        first, second = (a, b) if detents > 0 else (b, a)
        moves.extend(((first, True), (second, True), (first, False), (second, False)) * abs(detents))
        if moves:
            self._turning[a, b] = moves

    def _pulses(self, pin: int, hz: float) -> None:
        if pin in self._sending:
            self._sending.pop(pin).stop()
        if hz:
            check("pulses", hz, MIN_HZ, MAX_HZ)
            self._sending[pin] = self.bank.pulses(pin, hz)

    def _unplug(self) -> None:
        self.bank.unplug()

    def _plug(self) -> None:
        self.bank.plug()


def _parts(panel: Panel) -> dict[str, Any]:
    knobs = [{**knob._asdict(), "position": turned} for knob, turned in zip(KNOBS, panel.turned, strict=True)]
    return {"knobs": knobs, "buttons": BUTTONS, "switches": SWITCHES, "lamps": LAMPS, "light": LIGHT}
