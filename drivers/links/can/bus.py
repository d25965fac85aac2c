"""The CAN bus that drivers share: one handle, one reader, one writer and one set of counters for each bus.

A driver derives from `CanPlugin`, and embeds `BusOptions` in its own options:

    class Plugin(CanPlugin[NodeOptions]):  # class NodeOptions(BusOptions, frozen=True, kw_only=True)
        def run(self):
            self.bus = self.tap(self.options, self.received, ids={0x183, 0x184})

        def received(self, frames):                          # on the bus's threads, one call at a time
            for frame in frames:
                self.bus.send(0x6E0 + 145, b"\\x06")          # any thread; never waits

Connections that name the same interface and channel share the handle. What one of them sends, the others hear, as if
each were a node of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from fixgw.database import Database
from fixgw.drivers.links.can import ports
from fixgw.drivers.links.can.frame import (
    BRS,
    ERROR,
    ESI,
    EXTENDED,
    FD,
    REMOTE,
    Frame,
    SendQueue,
    decode_error,
    validate,
)
from fixgw.drivers.links.can.port import BusOptions, Port
from fixgw.drivers.links.opening import open_patiently
from fixgw.errors import FixgwError, PluginFail, Problem
from fixgw.kit import raw
from fixgw.plugin import Device, Feeds, Finding, Options, Poller, TypeVar, Worker

__all__ = [
    "BRS",
    "ESI",
    "EXTENDED",
    "FD",
    "REMOTE",
    "BusConflict",
    "BusOptions",
    "CanPlugin",
    "Frame",
    "SharedBus",
    "Tap",
    "check",
    "open_tap",
]

MAX_AGE_S = 1.0  # after that a frame that could not be sent is not worth sending
INLINE_FRAMES = 32  # that the caller of `send` sends itself, before it leaves the rest to the writer
RETRY_S = (0.0005, 0.01)  # between attempts to send when there is no room: the first pause, and the longest
STUCK_S = 2.0  # without room, after which `health` says so
LOCAL_FRAMES = 4096  # that wait for the others on this bus, at most
OPENING_S = 10.0  # of opening, after which `health` says so


class BusConflict(FixgwError, ValueError):
    """Two connections want one bus with different options."""


Received = Callable[[Sequence[Frame]], object]


class Tap:
    """One user's hold on a bus. Its methods may be called from any thread."""

    def __init__(
        self,
        bus: SharedBus,
        received: Received,
        ids: Iterable[int] | None,
        failed: Callable[[str], object] | None = None,
        lost: Callable[[str], object] | None = None,
        point: raw.Point | None = None,
    ) -> None:
        self.bus = bus
        self.point = point
        self.received = received
        self.failed = failed
        self.lost = lost
        self.ids: frozenset[int] | None = None if ids is None else frozenset(ids)
        #: Why `received` is not called any more; empty while it is.
        self.failure = ""
        self.closed = False

    def send(self, arbitration_id: int, data: bytes = b"", flags: int = 0) -> bool:
        """Send a frame, at once or when its turn comes; never waits. False when it had to be dropped.

        `flags` as in `Frame`. ValueError for a frame that no bus can carry.
        """
        frame = Frame(arbitration_id, bytes(data), flags, self.bus.clock())
        validate(frame)
        return self.bus.submit(frame, self)

    def forward(self, frame: Frame) -> bool:
        """Send a frame that came from elsewhere; its age counts from its time stamp. Otherwise as `send`."""
        return self.bus.submit(frame, self)

    def accept(self, ids: Iterable[int] | None) -> None:
        """Hear just `ids` from now on: extended ones as ``identifier | EXTENDED``; None for all."""
        self.ids = None if ids is None else frozenset(ids)
        self.bus.refilter()

    def close(self) -> None:
        """Let go; `received` is not running, nor will be, when this returns. Raises PluginFail when it does not end.

        The last one to go closes the bus. May be called twice.
        """
        _release(self)


class SharedBus(Poller):
    """An open bus with all its users. Made by `open_tap`, gone with its last `Tap`."""

    reopen_delay_max: ClassVar[float] = 2.0

    def __init__(self, options: BusOptions, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(f"{options.interface} {options.channel}", {})
        self.options: BusOptions = options
        self.clock = clock
        #: What the controller last said it is: "active", "warning", "passive", "bus off"; empty when it did not say.
        self.state = ""
        self.error_counters: tuple[int, int] | None = None
        self._port: Port | None = None
        self._taps: tuple[Tap, ...] = ()
        self._points: tuple[raw.Point, ...] = ()  # of the gateways that use it
        self._delivering = threading.RLock()  # held while `received` of anybody runs
        self._filters_changed = False
        self._queue = SendQueue(options.send_queue)
        self._queueing = threading.Lock()  # the queue, what is counted beside it, and changes of `_taps`
        self._sending = threading.Lock()  # held by whoever sends
        self._sent = self._dropped = self._stale = self._unsendable = self._unheard = 0
        self._stuck_since: float | None = None
        self._broken: OSError | None = None
        self._wake = threading.Event()
        self._local: deque[tuple[Frame, Any]] = deque(maxlen=LOCAL_FRAMES)
        self._writer = threading.Thread(target=self._write_loop, name=f"{self.name} sending", daemon=True)
        self._received = 0
        self._rates = (0.0, 0.0)
        self._rated = (clock(), 0, 0)
        self.counts |= dict.fromkeys(("lost", "error frames", "bus off", "own echoes"), 0)

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that this bus cannot do without."""
        return [thread for thread in (self._thread, self._writer) if thread is not None]

    # -- users ---------------------------------------------------------------------------------------------------------

    def add(self, tap: Tap) -> None:
        with self._queueing:
            self._set_taps((*self._taps, tap))
        self.refilter()

    def remove(self, tap: Tap) -> bool:
        """Serve `tap` no more; whether nobody is left. It may still be in the middle of something: see `settle`."""
        with self._queueing:
            self._set_taps(tuple(t for t in self._taps if t is not tap))
        self.refilter()
        return not self._taps

    def _set_taps(self, taps: tuple[Tap, ...]) -> None:
        self._taps = taps
        self._points = tuple({id(tap.point): tap.point for tap in taps if tap.point is not None}.values())

    def settle(self) -> None:
        """Wait until no user is in the middle of something, unless called by one. Raises PluginFail."""
        if not self._delivering.acquire(timeout=self.join_timeout):
            raise PluginFail(f"{self.name}: what was received is still being dealt with")
        self._delivering.release()

    def refilter(self) -> None:
        self._filters_changed = True

    def _wanted(self) -> frozenset[int] | None:
        sets = [tap.ids for tap in self._taps]
        if None in sets:
            return None
        return frozenset().union(*(ids for ids in sets if ids is not None))

    def _deliver(self, frames: list[Frame], origin: Any = None) -> None:
        with self._delivering:
            for tap in self._taps:
                if tap is origin or tap.closed:
                    continue
                ids = tap.ids
                mine = frames if ids is None else [f for f in frames if f.arbitration_id | f.flags & EXTENDED in ids]
                if not mine:
                    continue
                try:
                    tap.received(mine)
                except Exception as error:
                    self._part_with(tap, error)

    def lost(self, reason: str) -> None:
        with self._delivering:
            for tap in self._taps:
                if tap.lost is not None and not tap.closed:
                    try:
                        tap.lost(reason)
                    except Exception as error:
                        self._part_with(tap, error)

    def _part_with(self, tap: Tap, error: Exception) -> None:
        """A user that raises is served no more; the others do not notice."""
        tap.failure = f"{type(error).__name__}: {error}"
        self.log.error("a user of the bus failed: %s", tap.failure, exc_info=error)
        self.remove(tap)
        if tap.failed is not None:
            with suppress(Exception):
                tap.failed(tap.failure)

    # -- receiving: on the polling thread ------------------------------------------------------------------------------

    def run(self) -> None:
        ports.require(self.options.interface)
        super().run()
        self._writer.start()

    def open(self) -> None:
        self.state, self.error_counters, self._broken = "", None, None
        self._filters_changed = True
        port = self._open()
        if port is not None:  # None when the bus is being stopped meanwhile
            self.state = port.state()
        self._port = port

    def poll(self, timeout: float) -> None:
        port = self._port
        if port is None:
            return
        if self._filters_changed:
            self._filters_changed = False
            port.accept(self._wanted())
        frames = port.read(timeout)
        if frames:
            self._record("in", frames)
            errors = [f for f in frames if f.flags & ERROR]
            if errors:
                frames = [f for f in frames if not f.flags & ERROR]
                for error in errors:
                    self._see(error)
            self._received += len(frames)
            if frames:
                self._deliver(frames)
        if self._broken is not None:
            raise self._broken
        self._rate()

    def _record(self, direction: raw.Direction, frames: list[Frame]) -> None:
        for point in self._points:
            if point.taps:
                point.pass_on(self.name, self.clock(), direction, frames)

    def close(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        with self._queueing:  # what waits would be stale
            self._dropped += self._queue.clear()
        self._stuck_since = None
        self._rates = (0.0, 0.0)
        if not port.blocking:
            with self._sending:
                port.close()
        else:
            port.close()

    def _see(self, frame: Frame) -> None:
        """An error frame."""
        self.count("error frames")
        error = decode_error(frame.arbitration_id, frame.data)
        if error.tx_errors is not None and error.rx_errors is not None:
            self.error_counters = (error.tx_errors, error.rx_errors)
        for event in error.events:
            self.count(event)
        if error.state and error.state != self.state:
            self.state = error.state
            self.complain("%s", _HARMED.get(error.state, "the controller is well again"))

    def _rate(self) -> None:
        now = self.clock()
        since, received, sent = self._rated
        if now - since >= 1.0:
            self._rates = (self._received - received) / (now - since), (self._sent - sent) / (now - since)
            self._rated = (now, self._received, self._sent)

    def _open(self) -> Port | None:
        """Open the interface; None when the bus is being stopped meanwhile."""
        since = self.clock()

        def waiting() -> None:
            self.alive = self.clock()
            if self.alive - since > OPENING_S:
                self._trouble = f"still opening, for {self.alive - since:.0f} s"

        return open_patiently(
            self.name,
            lambda: ports.open_port(self.options, self.count),
            lambda port: port.close(),
            self.stopping,
            waiting,
        )

    # -- sending: on any thread ----------------------------------------------------------------------------------------

    def submit(self, frame: Frame, origin: Any = None) -> bool:
        """Queue `frame`, and send what waits if nobody else does just now. False when it was dropped at once."""
        port = self._port
        if port is None or self.options.listen_only or (frame.flags & FD and not port.fd):
            with self._queueing:
                self._dropped += 1
            return False
        with self._queueing:
            lost = self._queue.push(frame, origin)
            if lost is not None:
                self._dropped += 1
        if port.blocking or self._stuck_since is not None or not self._sending.acquire(blocking=False):
            self._wake.set()
        else:
            try:
                rest = self._send_waiting(INLINE_FRAMES)
            finally:
                self._sending.release()
            if rest or self._local:
                self._wake.set()
        return lost is not frame

    def _send_waiting(self, limit: int) -> bool:
        """Send at most `limit` of the frames that wait; True when some are left. Held: `_sending`."""
        port = self._port
        if port is None or self._broken is not None:
            return False
        aged = False
        try:
            for _ in range(limit):
                if not port.flush():
                    return self._no_room()
                with self._queueing:
                    if not self._queue:
                        if not aged:
                            self._stuck_since = None
                        return False
                    frame, origin = self._queue.pop()
                if self.clock() - frame.timestamp > MAX_AGE_S:
                    aged = True
                    self._stale += 1
                    continue
                try:
                    taken = port.write(frame)
                except OSError:
                    raise
                except Exception as error:
                    self._unsendable += 1
                    self.complain("%#x could not be sent: %s", frame.arbitration_id, error)
                    continue
                if not taken:
                    with self._queueing:
                        self._dropped += self._queue.put_back(frame, origin) is not None
                    return self._no_room()
                self._stuck_since = None
                self._sent += 1
                self._record("out", [frame])
                if len(self._taps) > 1:
                    self._unheard += len(self._local) == LOCAL_FRAMES
                    self._local.append((frame, origin))
            return True
        except OSError as error:
            if port is self._port:
                self._broken = error  # the polling thread closes and opens again
            return False

    def _no_room(self) -> bool:
        if self._stuck_since is None:
            self._stuck_since = self.clock()
        return True

    def _write_loop(self) -> None:
        pause = RETRY_S[0]
        while not self.stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            rest = True
            while rest and not self.stopping.is_set():
                with self._sending:
                    rest = self._send_waiting(INLINE_FRAMES)
                    stuck = self._stuck_since is not None
                self._deliver_local()
                if rest and stuck:
                    self.stopping.wait(pause)
                    pause = min(pause * 2, RETRY_S[1])
                else:
                    pause = RETRY_S[0]

    def _deliver_local(self) -> None:
        """What one user has sent, the others hear."""
        while self._local:
            frame, origin = self._local.popleft()
            self._deliver([frame], origin)

    # -- life ----------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        self.stopping.set()
        self._wake.set()
        super().stop()
        if self._writer.is_alive() and self._writer is not threading.current_thread():
            self._writer.join(self.join_timeout)
            if self._writer.is_alive():
                raise PluginFail(f"{self.name}: its writer did not stop within {self.join_timeout} s")

    def health(self) -> str:
        if trouble := super().health():
            return trouble
        port = self._port
        if port is not None and (trouble := port.trouble()):
            return trouble
        if self.state in _HARMED:
            return _HARMED[self.state]
        since = self._stuck_since
        if since is not None and self.clock() - since > STUCK_S:
            return "nothing can be sent: is anybody else on the bus, at the same bit rate?"
        return ""

    def get_status(self) -> Mapping[str, Any]:
        port = self._port
        counters = self.error_counters
        return {
            "interface": self.options.interface,
            "channel": self.options.channel,
            "bit rate": self.options.bitrate,
            "connected": self.connected,
            "users": len(self._taps),
            "controller": self.state or "unknown",
            **({"error counters": f"sending {counters[0]}, receiving {counters[1]}"} if counters else {}),
            **(port.facts() if port is not None else {}),
            "received per second": round(self._rates[0]),
            "sent per second": round(self._rates[1]),
            "received": self._received,
            "sent": self._sent,
            "waiting": len(self._queue),
            "dropped": self._dropped,
            "too old to send": self._stale,
            "unsendable": self._unsendable,
            "not heard by other users": self._unheard,
            **self.counts,
        }


_HARMED = {
    "warning": "error warning: the controller has seen many errors",
    "passive": "error-passive: is anybody else on the bus, at the same bit rate, and the bus terminated?",
    "bus off": "bus off: a short circuit, no terminators, or another bit rate?",
}

# -- who shares what ---------------------------------------------------------------------------------------------------

Key = tuple[Any, ...]
_buses: dict[Key, SharedBus] = {}
_registry = threading.Lock()


def _key(options: BusOptions) -> Key:
    """What makes two connections speak of the same bus."""
    extra = options.extra
    return (
        options.interface,
        str(options.channel),
        *(str(extra.get(name)) for name in ("host", "port", "bus", "address")),
    )


def open_tap(
    options: BusOptions,
    received: Received,
    ids: Iterable[int] | None = None,
    failed: Callable[[str], object] | None = None,
    lost: Callable[[str], object] | None = None,
    point: raw.Point | None = None,
) -> Tap:
    """Use the bus that `options` say, with others who do; it is opened, and opened again, in the background.

    `received` gets frames as they come, many at once in a burst, on the bus's threads, one call at a time, and has to
    return soon; `ids` as for `Tap.accept`. When it raises, it is called no more, and `failed` is, with the reason.
    `lost` hears why when the bus is gone, or cannot be opened: once per outage, never while `received` runs. `point` is
    where the gateway's recorders hear all that is on the bus.

    Raises BusConflict when the bus is in use with other options, and MissingLibrary or ValueError for an interface
    that does not exist here.
    """
    key = _key(options)
    with _registry:
        bus = _buses.get(key)
        if bus is not None and bus.running:
            _agree(bus.options, options)
            tap = Tap(bus, received, ids, failed, lost, point)
            bus.add(tap)
            return tap
        bus = SharedBus(options)
        tap = Tap(bus, received, ids, failed, lost, point)
        bus.add(tap)
        bus.start()
        _buses[key] = bus
        return tap


def _release(tap: Tap) -> None:
    bus, key = tap.bus, _key(tap.bus.options)
    tap.closed = True
    with _registry:
        last = bus.remove(tap)
        if last and _buses.get(key) is bus:
            del _buses[key]
    bus.settle()
    if last:
        bus.stop()


def _agree(used: BusOptions, wanted: BusOptions) -> None:
    """Raise BusConflict unless what `wanted` says, beyond the defaults, is what is `used`."""
    default = BusOptions()
    for name in BusOptions.__struct_fields__:
        ours, theirs = getattr(used, name), getattr(wanted, name)
        unsaid = theirs == getattr(default, name) and name != "listen_only"
        if name != "channel" and theirs != ours and not unsaid:
            raise BusConflict(
                f"{used.interface} {used.channel} is in use with {name} {ours!r}, and {theirs!r} is wanted of it: "
                "connections that share a bus have to agree"
            )


def check(options: BusOptions, prefix: str = "") -> Iterable[tuple[str, str]]:
    """What is wrong with `options`, for `PluginBase.check`; `prefix` is where they stand, as in "buses.0."."""
    return [(prefix + option, message) for option, message in ports.check(options)]


OptionsT = TypeVar("OptionsT", bound=Options, default=BusOptions)


class CanPlugin(Worker[OptionsT]):
    """A plugin on one CAN bus or several. Override `run` to call `tap` for each, and perhaps `lost`.

    What is received comes on the buses' threads. For what has to wait for its time there is a thread of the plugin's
    own, if `run` ends with ``super().run()``; it runs `work`.
    """

    _worked: float | None = None  # the last sign of life of its own thread

    def __post_init__(self) -> None:
        super().__post_init__()
        self.taps: list[Tap] = []
        self._threads: list[threading.Thread] = []  # where the gateway looks for dead ones
        self._trouble = ""

    def tap(self, options: BusOptions, received: Received, ids: Collection[int] | None = None) -> Tap:
        """Use a bus; to be called by `run`. See `open_tap`."""
        tap = open_tap(options, received, ids, self._failed, self.lost, raw.point(self.db))
        self.taps.append(tap)
        self._threads += tap.bus.threads
        return tap

    def lost(self, reason: str) -> None:
        """One of its buses is gone, or could not be opened: once per outage, never while `received` runs."""

    def _failed(self, reason: str) -> None:
        self._trouble = reason
        self.running = False

    @property
    def alive(self) -> float | None:
        """Monotonic seconds of the last sign of life of the slowest of its threads: its buses' and its own."""
        signs = [tap.bus.alive or 0.0 for tap in self.taps]
        if self._worked is not None and self._thread is not None:
            signs.append(self._worked)
        return min(signs, default=None)

    @alive.setter
    def alive(self, when: float | None) -> None:
        self._worked = when

    def stop(self) -> None:
        """End its thread, if it has one, and close the taps; raises PluginFail for what could not be."""
        troubles: list[str] = []
        for stop in (super().stop, *(tap.close for tap in self.taps)):
            try:
                stop()
            except PluginFail as error:
                troubles.append(str(error))
        if troubles:
            raise PluginFail("; ".join(troubles))

    def health(self) -> str:
        """What is wrong with its buses, each by its channel when there are several."""
        several = len(self.taps) > 1
        troubles = [(tap.bus.options.channel, tap.bus.health()) for tap in self.taps]
        words = [f"{channel}: {trouble}" if several else trouble for channel, trouble in troubles if trouble]
        return self._trouble or "; ".join(words)

    def get_status(self) -> Mapping[str, Any]:
        """The status of its bus; when there are several, each under its channel."""
        if len(self.taps) == 1:
            return self.taps[0].bus.get_status()
        return {str(tap.bus.options.channel): tap.bus.get_status() for tap in self.taps}

    @classmethod
    def check(cls, options: OptionsT, db: Database) -> Iterable[Problem | tuple[str, str]]:
        return check(options) if isinstance(options, BusOptions) else ()

    @classmethod
    def preflight(cls, options: OptionsT) -> Iterable[Device | Feeds | Finding]:
        return ports.preflight(options) if isinstance(options, BusOptions) else ()
