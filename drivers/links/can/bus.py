"""The CAN bus that drivers share. Each bus has one handle, one reader, one writer and one set of counters.

A driver derives from `CanPlugin` and embeds `BusOptions` in its own options:

    class Plugin(CanPlugin[NodeOptions]):  # class NodeOptions(BusOptions, frozen=True, kw_only=True)
        def run(self):
            self.bus = self.tap(self.options, self.received, ids={0x183, 0x184})

        def received(self, frames):                          # called on the bus's threads, one call at a time
            for frame in frames:
                self.bus.send(0x6E0 + 145, b"\\x06")          # call it on any thread; it never waits

Connections that name the same interface and channel share the handle. Each of them receives what the others send, as
if they were separate nodes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from fixgw.clock import HoldUp
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
from fixgw.drivers.links.can.port import BATCH_FRAMES, BusOptions, Count, Port
from fixgw.drivers.links.gather import Gather
from fixgw.drivers.links.opening import open_patiently
from fixgw.drivers.links.recorded import RecordedHoldUp, require
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

MAX_AGE_S = 1.0  # a frame that has waited longer is too old to send
INLINE_FRAMES = 32  # a caller of `send` sends at most this many itself; the writer thread sends the rest
RETRY_S = (0.0005, 0.01)  # the first and the longest pause between attempts to send when there is no room
STUCK_S = 2.0  # `health` reports a bus that has had no room for longer
RECENT_FRAMES = 64  # sent frames that are remembered, in case the interface refuses one
REFUSED_S = 2.0  # we read within this time that the interface has refused a frame
LOST_S = 0.2  # the interface has sent a frame within this time, unless it was lost before
LOCAL_FRAMES = 4096  # the most frames that may wait for the other users of this bus
OPENING_S = 10.0  # `health` reports an opening that takes longer
FLUSH_S = 1.0  # the most time that discarding old frames may take, after this process was held up
PASSIVE_ERRORS = 128  # a controller that has seen this many while sending is error-passive
SETTLE_S = 0.005  # after this much silence no old frames are left


class BusConflict(FixgwError, ValueError):
    """Two connections ask for the same bus with different options."""


Received = Callable[[Sequence[Frame]], object]
Unsent = Callable[[Frame], object]


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
        at_once: bool = False,
    ) -> None:
        self.bus = bus
        self.point = point
        #: Whether frames must never be left to gather.
        self.at_once = at_once
        self.received = received
        self.failed = failed
        self.lost = lost
        #: Called with each frame that was accepted to be sent, and then was not, or perhaps not. It must only take
        #: note. Any thread, with the bus's locks held.
        self.unsent: Unsent | None = None
        self.ids: frozenset[int] | None = None if ids is None else frozenset(ids)
        #: Why `received` is no longer called; empty while it still is.
        self.failure = ""
        self.closed = False

    def send(self, arbitration_id: int, data: bytes = b"", flags: int = 0) -> bool:
        """Send a frame, now or when its turn comes. Never waits; returns False if the frame had to be dropped.

        `flags` are those of `Frame`. Raises ValueError for a frame that no bus can carry.
        """
        frame = Frame(arbitration_id, bytes(data), flags, self.bus.clock())
        validate(frame)
        return self.bus.submit(frame, self)

    def forward(self, frame: Frame) -> bool:
        """Send a frame that came from another bus. Like `send`, but the frame's age counts from its time stamp."""
        return self.bus.submit(frame, self)

    def accept(self, ids: Iterable[int] | None) -> None:
        """From now on receive only `ids`, or everything if None. Write extended ids as ``identifier | EXTENDED``."""
        self.ids = None if ids is None else frozenset(ids)
        self.bus.refilter()

    def listen(self, received: Received) -> Tap:
        """Another hold on the same bus, which hears all frames, also those that this one sends. Close it first."""
        tap = Tap(self.bus, received, None, point=self.point)
        self.bus.add(tap)
        return tap

    def close(self) -> None:
        """Stop using the bus. When this returns, `received` is not running and will not be called again.

        The last user to leave closes the bus. May be called twice. Raises PluginFail if `received` does not return.
        """
        _release(self)


class SharedBus(Poller):
    """An open bus and all its users. `open_tap` creates it; closing its last `Tap` closes it."""

    reopen_delay_max: ClassVar[float] = 2.0

    def __init__(
        self, options: BusOptions, clock: Callable[[], float] | None = None, feed: raw.Feed | None = None
    ) -> None:
        super().__init__(name_of(options), {})
        self.options: BusOptions = options
        if clock is not None:
            self.clock = clock
        self.feed = feed
        #: The state that the controller last reported: "active", "warning", "passive" or "bus off"; empty if none.
        self.state = ""
        self.hold_up = HoldUp() if feed is None else RecordedHoldUp(feed)
        self.error_counters: tuple[int, int] | None = None
        self._port: Port | None = None
        self._taps: tuple[Tap, ...] = ()
        self._points: tuple[raw.Point, ...] = ()  # one for each gateway that uses the bus
        self._delivering = threading.RLock()  # held while any user's `received` runs
        self._filters_changed = False
        self._queue = SendQueue(options.send_queue)
        self._queueing = threading.Lock()  # guards the queue, the counters that go with it, and changes to `_taps`
        self._sending = threading.Lock()  # held while sending
        self._sent = self._dropped = self._stale = self._unsendable = self._unheard = 0
        self._stuck_since: float | None = None
        self._recent: deque[tuple[float, Frame]] = deque(maxlen=RECENT_FRAMES)  # when sent; they may still be refused
        self._refused = 0
        self._broken: OSError | None = None
        self._wake = threading.Event()
        self._local: deque[tuple[Frame, Any]] = deque(maxlen=LOCAL_FRAMES)
        self._writer = threading.Thread(target=self._write_loop, name=f"{self.name} sending", daemon=True)
        self._received = 0
        self._gather = Gather(0.0)
        self._rates = (0.0, 0.0)
        self._rated = (self.clock(), 0, 0)
        self.counts |= dict.fromkeys(("lost", "error frames", "bus off", "own echoes"), 0)

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads that this bus needs; it fails when one of them dies."""
        return [thread for thread in (self._thread, self._writer) if thread is not None]

    # -- users ---------------------------------------------------------------------------------------------------------

    def add(self, tap: Tap) -> None:
        with self._queueing:
            known = tap.point in self._points
            self._set_taps((*self._taps, tap))
        if tap.point is not None and not known and self._port is not None:
            tap.point.opened("can", self.name, self._facts)
        self.refilter()

    def remove(self, tap: Tap) -> bool:
        """Stop serving `tap`. Returns True if no users are left. A call to it may still be running: see `settle`."""
        with self._queueing:
            self._set_taps(tuple(t for t in self._taps if t is not tap))
            point = tap.point if tap.point not in self._points else None
        if point is not None:
            point.lost("can", self.name, self.clock(), "stopped")
        self.refilter()
        return not self._taps

    def _set_taps(self, taps: tuple[Tap, ...]) -> None:
        self._taps = taps
        self._gather.seconds = 0.0 if any(tap.at_once for tap in taps) else self.options.gather / 1000.0
        self._points = tuple({id(tap.point): tap.point for tap in taps if tap.point is not None}.values())

    def settle(self) -> None:
        """Wait until no call to a user is running, unless a user calls this. Raises PluginFail after a time-out."""
        if not self._delivering.acquire(timeout=self.join_timeout):
            raise PluginFail(f"{self.name}: a driver is still processing the frames it received")
        self._delivering.release()

    def refilter(self) -> None:
        self._filters_changed = True

    def _combine_ids(self) -> frozenset[int] | None:
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
                    self._drop_user(tap, error)

    def lost(self, reason: str) -> None:
        with self._delivering:
            for tap in self._taps:
                if tap.lost is not None and not tap.closed:
                    try:
                        tap.lost(reason)
                    except Exception as error:
                        self._drop_user(tap, error)

    def _drop_user(self, tap: Tap, error: Exception) -> None:
        """Stop serving a user that raised an exception; the others carry on."""
        tap.failure = f"{type(error).__name__}: {error}"
        self.log.error("a driver on the bus failed: %s", tap.failure, exc_info=error)
        self.remove(tap)
        if tap.failed is not None:
            try:
                tap.failed(tap.failure)
            except Exception:
                self.log.exception("%r failed", tap.failed)

    # -- receiving: on the polling thread ------------------------------------------------------------------------------

    def run(self) -> None:
        if self.feed is None:
            ports.require(self.options.interface)
        super().run()
        if self._thread is not None:
            self._writer.start()

    def turn(self) -> float:
        due = super().turn()
        with self._sending:
            while self._send_waiting(INLINE_FRAMES):
                pass
        self._deliver_local()
        return due

    def is_waiting(self) -> bool:
        return bool(self._queue or self._local)

    def open(self) -> None:
        self.state, self.error_counters, self._broken = "", None, None
        self._filters_changed = True
        port = self._open()
        if port is not None:  # None if the bus was stopped in the meantime
            self.state = port.state()
        self.hold_up.reset()
        self._port = port
        if port is not None:
            for point in self._points:
                point.opened("can", self.name, self._facts)

    def _facts(self) -> list[raw.Heard]:
        opened = raw.Event("can", "opened", str(self.options.bitrate or ""))
        return [raw.Heard(self.name, self.clock(), "in", opened)]

    def note_loss(self, reason: str) -> None:
        for point in self._points:
            point.lost("can", self.name, self.clock(), reason)

    def poll(self, timeout: float) -> None:
        port = self._port
        if port is None:
            return
        if self._filters_changed:
            self._filters_changed = False
            port.accept(self._combine_ids())
        self._gather.rest(self.stopping)
        frames = port.read(timeout)
        self._gather.note(0 < len(frames) < BATCH_FRAMES // 2)
        if (refused := self.counts.get("refused", 0)) != self._refused:
            self._refused = refused
            self._doubt_recent(REFUSED_S)
        if self.hold_up.noticed(self.poll_timeout):
            self._flush_input(port, frames)
            return
        if frames:
            self._record("in", frames)
            errors = [f for f in frames if f.flags & ERROR]
            if errors:
                frames = [f for f in frames if not f.flags & ERROR]
                for error in errors:
                    self._handle_error(error)
            self._received += len(frames)
            if frames:
                self._deliver(frames)
        if self._broken is not None:
            raise self._broken
        self._update_rates()

    def _flush_input(self, port: Port, frames: list[Frame]) -> None:
        """This process was held up, and what waits at the interface is as old as that: throw it away until it is
        new. `frames` are those that have been read."""
        self._record("discarded", frames)
        discarded, deadline = len(frames), self.hold_up.clock() + FLUSH_S
        while self.hold_up.clock() < deadline and (frames := port.read(SETTLE_S)):
            self._record("discarded", frames)
            discarded += len(frames)
        self.hold_up.reset()
        if discarded:
            self._received += discarded
            self.count("old frames discarded", discarded)
            self.complain("held up: discarded %d old frames", discarded, about="hold-up")

    def _record(self, direction: raw.Direction, frames: list[Frame]) -> None:
        for point in self._points:
            if point.taps:
                point.pass_on(self.name, self.clock(), direction, frames)

    def close(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        self._doubt_recent(LOST_S)
        with self._queueing:  # the queued frames would be too old
            while self._queue:
                self._tell_unsent(self._queue.pop()[0])
                self._dropped += 1
        self._stuck_since = None
        self._rates = (0.0, 0.0)
        if not port.blocking:
            with self._sending:
                port.close()
        else:
            port.close()

    def _handle_error(self, frame: Frame) -> None:
        """Count what an error frame reports, and follow the controller's state."""
        self.count("error frames")
        error = decode_error(frame.arbitration_id, frame.data)
        if error.tx_errors is not None and error.rx_errors is not None:
            self.error_counters = (error.tx_errors, error.rx_errors)
        for event in error.events:
            self.count(event)
        if error.state and error.state != self.state:
            self.state = error.state
            if error.state == "bus off":
                self._doubt_recent(LOST_S)
            self.complain("%s", _HARMED.get(error.state, "the controller has recovered"))

    def _update_rates(self) -> None:
        now = self.clock()
        since, received, sent = self._rated
        if now - since >= 1.0:
            self._rates = (self._received - received) / (now - since), (self._sent - sent) / (now - since)
            self._rated = (now, self._received, self._sent)

    def _open(self) -> Port | None:
        """Open the interface. Returns None if the bus is stopped in the meantime."""
        if self.feed is not None:
            return RecordedPort(self.feed, self.count)
        since = self.clock()

        def waiting() -> None:
            self.alive = self.clock()
            if self.alive - since > OPENING_S:
                self._trouble = f"still opening after {self.alive - since:.0f} s"

        return open_patiently(
            self.name,
            lambda: ports.open_port(self.options, self.count),
            lambda port: port.close(),
            self.stopping,
            waiting,
        )

    # -- sending: on any thread ----------------------------------------------------------------------------------------

    def submit(self, frame: Frame, origin: Any = None) -> bool:
        """Queue `frame`; if no other thread is sending, send the queue. Returns False if it was dropped at once."""
        port = self._port
        if port is None or self.options.listen_only or (frame.flags & FD and not port.fd):
            with self._queueing:
                self._dropped += 1
            return False
        with self._queueing:
            lost = self._queue.push(frame, origin)
            if lost is not None:
                self._dropped += 1
                if lost is not frame:
                    self._tell_unsent(lost)
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
        """Send at most `limit` queued frames. Returns True if some are left. The caller holds `_sending`."""
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
                now = self.clock()
                if now - frame.timestamp > MAX_AGE_S:
                    aged = True
                    self._stale += 1
                    self._tell_unsent(frame)
                    continue
                self._recent.append((now, frame))  # first: the refusal may be read before `write` returns
                try:
                    taken = port.write(frame)
                except OSError:
                    self._forget(now, frame)
                    self._tell_unsent(frame)
                    raise
                except Exception as error:
                    self._forget(now, frame)
                    self._unsendable += 1
                    self.complain("could not send %#x: %s", frame.arbitration_id, error)
                    continue
                if not taken:
                    self._forget(now, frame)
                    with self._queueing:
                        lost = self._queue.put_back(frame, origin)
                    if lost is not None:
                        self._dropped += 1
                        self._tell_unsent(lost)
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
                self._broken = error  # the polling thread closes the port and opens it again
            return False

    def _tell_unsent(self, frame: Frame) -> None:
        for tap in self._taps:
            if tap.unsent is not None:
                tap.unsent(frame)

    def _forget(self, sent_at: float, frame: Frame) -> None:
        """The interface has not taken this frame, so it cannot refuse it."""
        with suppress(ValueError, IndexError):  # another thread has told of it
            self._recent.remove((sent_at, frame))

    def _doubt_recent(self, age: float) -> None:
        """The interface has refused a frame, or was lost: report each that it may be, sent at most `age` s ago."""
        since = self.clock() - age
        while self._recent:
            sent_at, frame = self._recent.popleft()
            if sent_at >= since:
                self._tell_unsent(frame)

    @property
    def can_send(self) -> bool:
        """Whether a frame would be sent now, as far as the bus knows."""
        return (
            self._port is not None
            and self._stuck_since is None
            and self.state != "bus off"
            and not self.options.listen_only
        )

    @property
    def acknowledged(self) -> bool:
        """Whether another node acknowledges what this one sends, as far as the controller says."""
        unheard = self.state == "passive" and (self.error_counters is None or self.error_counters[0] >= PASSIVE_ERRORS)
        return self.can_send and not unheard

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
        """Pass each frame that a user has sent to the other users."""
        while self._local:
            frame, origin = self._local.popleft()
            self._deliver([frame], origin)

    # -- life ----------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        super().stop()
        if self._writer.is_alive() and self._writer is not threading.current_thread():
            self._writer.join(self.join_timeout)
            if self._writer.is_alive():
                raise PluginFail(f"{self.name}: its writer thread did not stop within {self.join_timeout} s")

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
            return "cannot send: is another node on the bus, at the same bit rate?"
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
    "passive": "error-passive: is another node on the bus, at the same bit rate, and is the bus terminated?",
    "bus off": "bus off: a short circuit, no terminators, or the wrong bit rate?",
}


class RecordedPort(Port):
    """Recorded frames in place of an interface, for a replay."""

    fd = True

    def __init__(self, feed: raw.Feed, count: Count) -> None:
        require(feed)
        self._feed = feed
        self._count = count

    def read(self, timeout: float) -> list[Frame]:
        require(self._feed)
        return [Frame(*frame) for frame in self._feed.entries.popleft().data] if self._feed.entries else []

    def write(self, frame: Frame) -> bool:
        require(self._feed)
        if self._feed.sent(frame) is False:
            self._count("refused")
        return True


# -- sharing -----------------------------------------------------------------------------------------------------------

Key = tuple[Any, ...]
_buses: dict[Key, SharedBus] = {}
_registry = threading.Lock()


def name_of(options: BusOptions) -> str:
    """The name of a bus, for people and recorders."""
    return f"{options.interface} {options.channel}"


def _key(options: BusOptions) -> Key:
    """The options that identify a bus. Connections whose keys are equal share it."""
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
    at_once: bool = False,
) -> Tap:
    """Use the bus that `options` describe, sharing it with others. It is opened, and reopened, in the background.

    `received` gets frames as they arrive, many at once in a burst. It is called on the bus's threads, one call at a
    time, and must return soon; `ids` are those of `Tap.accept`. If it raises, it is not called again, and `failed` is
    called with the reason. `lost` is called with the reason when the bus is lost or cannot be opened: once per outage,
    never while `received` runs. `point` is where the gateway's recorders hear all traffic on the bus. With `at_once`,
    frames do not gather on this bus, whatever its options say.

    Raises BusConflict if the bus is in use with other options, and MissingLibrary or ValueError for an interface that
    this system does not have.
    """
    feed = None if point is None else point.feed(name_of(options))
    key = (*_key(options), feed)  # a recorded bus is not the real one
    with _registry:
        bus = _buses.get(key)
        if bus is not None and bus.running:
            _require_agreement(bus.options, options)
            tap = Tap(bus, received, ids, failed, lost, point, at_once)
            bus.add(tap)
            return tap
        bus = SharedBus(options, feed=feed)
        tap = Tap(bus, received, ids, failed, lost, point, at_once)
        bus.add(tap)
        bus.start()
        _buses[key] = bus
        return tap


def _release(tap: Tap) -> None:
    bus, key = tap.bus, (*_key(tap.bus.options), tap.bus.feed)
    tap.closed = True
    with _registry:
        last = bus.remove(tap)
        if last and _buses.get(key) is bus:
            del _buses[key]
    bus.settle()
    if last:
        bus.stop()


def _require_agreement(used: BusOptions, wanted: BusOptions) -> None:
    """Raise BusConflict if `wanted` differs from the options in use, except where it leaves the default."""
    default = BusOptions()
    for name in BusOptions.__struct_fields__:
        ours, theirs = getattr(used, name), getattr(wanted, name)
        unsaid = theirs == getattr(default, name) and name != "listen_only"
        if name != "channel" and theirs != ours and not unsaid:
            raise BusConflict(
                f"{used.interface} {used.channel} is in use with {name} {ours!r}, but this connection asks for "
                f"{theirs!r}: connections that share a bus must agree"
            )


def check(options: BusOptions, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Check `options` for `PluginBase.check`. `prefix` says where they are in the configuration: "buses.0."."""
    return [(prefix + option, message) for option, message in ports.check(options)]


OptionsT = TypeVar("OptionsT", bound=Options, default=BusOptions)


class CanPlugin(Worker[OptionsT]):
    """A plugin on one or more CAN buses. Override `run` to call `tap` for each bus; override `lost` if needed.

    Frames are received on the buses' threads. A plugin that also has to do something at certain times ends its `run`
    with ``super().run()``, which starts a thread that runs `work`.
    """

    replays: ClassVar[bool] = True

    _worked: float | None = None  # the last sign of life of the plugin's own thread

    def __post_init__(self) -> None:
        super().__post_init__()
        self.taps: list[Tap] = []
        self._threads: list[threading.Thread] = []  # the gateway watches these for dead threads
        self._trouble = ""

    def tap(
        self, options: BusOptions, received: Received, ids: Collection[int] | None = None, at_once: bool = False
    ) -> Tap:
        """Use a bus. Call this in `run`. See `open_tap`."""
        tap = open_tap(options, received, ids, self._failed, self.lost, raw.point(self.db), at_once)
        self.taps.append(tap)
        self._threads += tap.bus.threads
        return tap

    def lost(self, reason: str) -> None:
        """Called when a bus is lost or cannot be opened: once per outage, never while `received` runs."""

    def _failed(self, reason: str) -> None:
        self._trouble = reason
        self.running = False

    @property
    def alive(self) -> float | None:
        """When the slowest thread, of a bus or its own, last gave a sign of life, in monotonic seconds."""
        signs = [tap.bus.alive or 0.0 for tap in self.taps]
        if self._worked is not None and self._thread is not None:
            signs.append(self._worked)
        return min(signs, default=None)

    @alive.setter
    def alive(self, when: float | None) -> None:
        self._worked = when

    def stop(self) -> None:
        """End the plugin's own thread, if there is one, and close the taps. Raises PluginFail if that fails."""
        troubles: list[str] = []
        for stop in (super().stop, *(tap.close for tap in self.taps)):
            try:
                stop()
            except PluginFail as error:
                troubles.append(str(error))
        if troubles:
            raise PluginFail("; ".join(troubles))
        self._threads.clear()  # those of a bus that others still use are theirs alone

    def health(self) -> str:
        """What is wrong with the buses; each is named by its channel if there are several."""
        several = len(self.taps) > 1
        troubles = [(tap.bus.options.channel, tap.bus.health()) for tap in self.taps]
        words = [f"{channel}: {trouble}" if several else trouble for channel, trouble in troubles if trouble]
        return self._trouble or "; ".join(words)

    def get_status(self) -> Mapping[str, Any]:
        """The status of the bus; if there are several, the status of each under its channel."""
        if len(self.taps) == 1:
            return self.taps[0].bus.get_status()
        return {str(tap.bus.options.channel): tap.bus.get_status() for tap in self.taps}

    @classmethod
    def heard_as(cls, name: str, options: OptionsT) -> Iterable[str]:
        return (name_of(options),) if isinstance(options, BusOptions) else ()

    @classmethod
    def check(cls, options: OptionsT, db: Database) -> Iterable[Problem | tuple[str, str]]:
        return check(options) if isinstance(options, BusOptions) else ()

    @classmethod
    def preflight(cls, options: OptionsT) -> Iterable[Device | Feeds | Finding]:
        return ports.preflight(options) if isinstance(options, BusOptions) else ()
