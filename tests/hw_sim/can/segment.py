"""A CAN bus in memory: nodes attach to it, send frames and receive those of the others.

    with Segment(bitrate=250000) as segment:
        display = segment.attach("display", print)
        engine = segment.attach("engine")
        engine.send(SimFrame(0x200, b"\\x0c\\x00\\x00\\x10\\x27"))

Other programs reach it through a `Leg`, on any interface of python-can, or through a
`fixgw.hw_sim.can.slcan.VirtualSlcan`.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import can

log = logging.getLogger(__name__)

AHEAD_S = 0.002  # a paced bus may run this far ahead of the clock: no thread can sleep for just one frame


Order = tuple[int, bool, int, bool]


class SimFrame(NamedTuple):
    """A frame on the bus; a remote frame's `data` has the number of bytes that it requests."""

    arbitration_id: int
    data: bytes = b""
    extended: bool = False
    remote: bool = False
    fd: bool = False
    brs: bool = False

    def order(self) -> Order:
        """The key of arbitration: the lowest wins the bus."""
        if self.extended:
            return self.arbitration_id >> 18, True, self.arbitration_id & 0x3FFFF, self.remote
        return self.arbitration_id, False, 0, self.remote

    def bits(self) -> int:
        """Its duration in bits, including the interframe space, without stuff bits."""
        return (67 if self.extended else 47) + 8 * (0 if self.remote else len(self.data))


Receive = Callable[[SimFrame], None]


class Node:
    """A node on a segment. Any thread may `send`; `receive` is called on the segment's thread."""

    def __init__(self, segment: Segment, name: str, receive: Receive | None, depth: int) -> None:
        self.segment = segment
        self.name = name
        self.receive = receive
        self.depth = depth
        #: A node that is off neither sends nor receives: silent, unpowered, or bus-off.
        self.on = True
        self.sent = self.received = self.dropped = self.errors = 0
        self._waiting: deque[tuple[Order, SimFrame]] = deque()

    def send(self, frame: SimFrame) -> bool:
        """Send as soon as the bus is free; False if `depth` frames are already waiting, or the node is off."""
        return self.segment._submit(self, frame)

    def detach(self) -> None:
        """Leave the bus. After this returns, `receive` is no longer called, unless `receive` itself calls this."""
        self.segment._detach(self)


class Segment:
    """A bus with its own thread, which runs from construction until `close`; or a `stepped` one without, on which
    frames wait for `tick`.

    At each instant, the lowest identifier at the head of any node's queue is sent next. With a `bitrate` in bit/s,
    frames take time on the wire (stuff bits are ignored), otherwise none.
    """

    def __init__(self, bitrate: int | None = None, stepped: bool = False) -> None:
        self.bitrate = bitrate
        self.stepped = stepped
        self.frames = 0
        #: Called with each frame that the bus carries, and its sender.
        self.listener: Callable[[Node, SimFrame], object] | None = None
        self._free: float | None = None  # a stepped bus is busy until then
        self._nodes: list[Node] = []
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._delivering = threading.RLock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="CAN segment", daemon=True)
        if not stepped:
            self._thread.start()

    def attach(self, name: str, receive: Receive | None = None, depth: int = 64) -> Node:
        """Add a node that may have `depth` frames waiting to be sent."""
        node = Node(self, name, receive, depth)
        with self._work:
            self._nodes = [*self._nodes, node]
        return node

    def close(self) -> None:
        """Stop the bus; may be called twice."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def tick(self, aircraft: object, now: float) -> None:
        """On a stepped bus: carry the frames for which there has been time since the last tick, at `now` in seconds. An
        instrument of the `World`, after those that send. On a bus with a thread this does nothing."""
        if not self.stepped:
            return
        if self._free is None:
            self._free = now
        while True:
            with self._lock:
                winner = self._winner()
                if winner is None:
                    self._free = now
                    return
                if self.bitrate:
                    free = self._free + winner._waiting[0][1].bits() / self.bitrate
                    if free > now:
                        return
                    self._free = free
                _, frame = winner._waiting.popleft()
            self._deliver(winner, frame)

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, node: Node, frame: SimFrame) -> bool:
        with self._lock:
            if not node.on or node not in self._nodes or len(node._waiting) >= node.depth:
                node.dropped += 1
                return False
            node._waiting.append((frame.order(), frame))
            if not self.stepped:
                self._work.notify()
            return True

    def _detach(self, node: Node) -> None:
        with self._work:
            self._nodes = [n for n in self._nodes if n is not node]
        with self._delivering:
            pass

    def _winner(self) -> Node | None:
        """The node that sends next; None if none has anything to send. The caller holds the lock."""
        winner, best = None, None
        for node in self._nodes:
            if node._waiting and node.on:
                order = node._waiting[0][0]
                if best is None or order < best:
                    winner, best = node, order
        return winner

    def _run(self) -> None:
        free = time.monotonic()
        while True:
            with self._work:
                if self._stopping:
                    return
                winner = self._winner()
                if winner is None:
                    self._work.wait(1.0)
                    continue
                _, frame = winner._waiting.popleft()
            if self.bitrate:
                free = max(free, time.monotonic()) + frame.bits() / self.bitrate
                if (ahead := free - time.monotonic()) > AHEAD_S:
                    time.sleep(ahead)
            self._deliver(winner, frame)

    def _deliver(self, sender: Node, frame: SimFrame) -> None:
        self.frames += 1
        sender.sent += 1
        if self.listener is not None:
            self.listener(sender, frame)
        with self._delivering:
            for node in self._nodes:
                if node is sender or not node.on:
                    continue
                node.received += 1
                if node.receive is None:
                    continue
                try:
                    node.receive(frame)
                except Exception:
                    node.errors += 1
                    if node.errors == 1:
                        log.exception("node %s failed to handle %r", node.name, frame)


class Leg:
    """Joins a segment to a bus of python-can, both ways, on its own thread. `bus` remains the caller's."""

    def __init__(self, segment: Segment, bus: can.BusABC, name: str = "leg") -> None:
        self.bus = bus
        self.failed = 0
        self._mark = f"sim-{secrets.token_hex(6)}"  # udp_multicast returns a sender's own frames
        self._node = segment.attach(name, self._to_bus, depth=4096)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Separate them; may be called twice."""
        self._stopping.set()
        self._node.detach()
        self._thread.join(5.0)

    def __enter__(self) -> Leg:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _to_bus(self, frame: SimFrame) -> None:
        message = to_message(frame)
        message.channel = self._mark
        try:
            self.bus.send(message, timeout=0.1)
        except Exception:  # every interface raises its own kinds
            self.failed += 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                message = self.bus.recv(0.05)
                if message is not None and message.channel != self._mark and message.is_rx:
                    self._node.send(from_message(message))
            except Exception:
                self.failed += 1
                self._stopping.wait(0.01)


def to_message(frame: SimFrame) -> can.Message:
    """Convert a frame for python-can."""
    import can

    return can.Message(
        arbitration_id=frame.arbitration_id,
        data=frame.data,
        dlc=len(frame.data),
        is_extended_id=frame.extended,
        is_remote_frame=frame.remote,
        is_fd=frame.fd,
        bitrate_switch=frame.brs,
    )


def from_message(message: can.Message) -> SimFrame:
    """Convert a frame from python-can."""
    data = bytes(message.dlc) if message.is_remote_frame else bytes(message.data)
    return SimFrame(
        message.arbitration_id,
        data,
        message.is_extended_id,
        message.is_remote_frame,
        message.is_fd,
        message.bitrate_switch,
    )
