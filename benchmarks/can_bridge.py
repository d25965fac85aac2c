"""The cost of a frame that crosses a bridge. ``python -m benchmarks can_bridge`` prints a table.

Each bridge runs in a separate process, so that its CPU time can be measured. Only python-can's virtual bus must share
the process. Every frame carries the time at which it was due to be sent.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from benchmarks import Row
from fixgw.drivers.can_bridge import Plugin
from fixgw.drivers.can_bridge.routing import Route, Router
from fixgw.drivers.links.can.frame import Frame

GROUP = "239.74.163.2"
IDENTIFIERS = 64
PACED = 1000  # frames/s at which latency is measured
QUIET = 0.2  # seconds without a frame after which the rest counts as lost
HOPELESS = 500  # frames/s
LATE = 0.05  # seconds of latency from which a bridge counts as behind
STAMP = struct.Struct("<d")


class Trial(NamedTuple):
    """Frames sent in `seconds`, and the latencies of those that arrived, in order."""

    sent: int
    seconds: float
    latencies: list[float]

    @property
    def kept_up(self) -> bool:
        """Whether no frame was lost, and the bridge was not behind at the end."""
        last = sorted(self.latencies[-100:])
        return len(self.latencies) == self.sent and last[len(last) // 2] < LATE

    def percentile(self, share: float) -> float:
        """In milliseconds; infinite if frames were lost."""
        if len(self.latencies) < self.sent:
            return math.inf
        return sorted(self.latencies)[int(len(self.latencies) * share)] * 1e3


Send = Callable[[int, bytes], object]
Receive = Callable[[float], list[bytes]]  # seconds to wait -> the data of the frames that have arrived


def send_paced(send: Send, rate: float, seconds: float, pause: Callable[[float], object]) -> tuple[int, float]:
    """Send frames; return their number and the time in seconds. Late frames go at once: a slow sender takes longer."""
    total, sent, since = int(rate * seconds), 0, time.monotonic()
    while sent < total:
        now = time.monotonic()
        due = min(total, int((now - since) * rate) + 1)
        while sent < due:
            send(0x100 + sent % IDENTIFIERS, STAMP.pack(time.monotonic()))
            sent += 1
        pause(max(0.0, since + sent / rate - time.monotonic()))
    return total, time.monotonic() - since


class Sink:
    """Collects frames and their latencies."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.latencies: list[float] = []

    def take(self, timeout: float) -> bool:
        came = self.receive(timeout)
        now = time.monotonic()
        self.latencies += [now - STAMP.unpack(data)[0] for data in came]
        return bool(came)


# -- datagrams from this process: cheaper than the measured bridge -----------------------------------------------------


class Datagrams:
    """A node that sends on a udp_multicast bus."""

    def __init__(self, port: int) -> None:
        import msgpack  # type: ignore[import-untyped]

        self._pack = msgpack.packb
        self._address = GROUP, port
        self._fields: dict[str, Any] = {
            "timestamp": 0.0,
            "is_extended_id": False,
            "is_remote_frame": False,
            "is_error_frame": False,
            "channel": None,
            "dlc": STAMP.size,
            "is_fd": False,
            "bitrate_switch": False,
            "error_state_indicator": False,
        }
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, identifier: int, data: bytes) -> None:
        self._fields["arbitration_id"], self._fields["data"] = identifier, data
        self._socket.sendto(self._pack(self._fields), self._address)

    def close(self) -> None:
        self._socket.close()


class Listener:
    """A node that receives."""

    def __init__(self, port: int) -> None:
        import msgpack

        self._unpack = msgpack.unpackb
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8388608)
        group = socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        self._socket.bind((GROUP, port))
        self._socket.setblocking(False)

    def receive(self, timeout: float) -> list[bytes]:
        frames: list[bytes] = []
        if select.select([self._socket], [], [], timeout)[0]:
            with suppress(BlockingIOError):
                frames.extend(self._unpack(self._socket.recv(2048))["data"] for _ in range(64))
        return frames

    def close(self) -> None:
        self._socket.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        return port


def leg(port: int) -> dict[str, Any]:
    return {"interface": "udp_multicast", "channel": GROUP, "extra": {"port": port}}


def local(name: str) -> dict[str, Any]:
    return {"interface": "virtual", "channel": name}


# -- bridges in separate processes -------------------------------------------------------------------------------------


def _bridge(buses: dict[str, Any], pipe: Connection) -> None:
    """In the other process: a bridge between two buses, and a node on each of its virtual ones.

    ("send", rate, seconds) sends on the first and answers (sent, seconds); ("hear", 0, seconds) receives on the second
    for that time and until no more frames arrive, and answers the latencies; ("cross", rate, seconds) does both.
    """
    import can

    route = {"from": "a", "to": "b", "both": True}
    plugin = Plugin(
        "bridge", {"buses": {name: {"receive_buffer": 67108864, **buses[name]} for name in buses}, "routes": [route]}
    )
    plugin.start()
    nodes = {
        name: can.Bus(bus["channel"], interface="virtual", ignore_config=True)
        for name, bus in buses.items()
        if bus["interface"] == "virtual"
    }

    def send(identifier: int, data: bytes) -> None:
        nodes["a"].send(can.Message(arbitration_id=identifier, data=data, is_extended_id=False))

    def receive(timeout: float) -> list[bytes]:
        message = nodes["b"].recv(timeout)
        return [bytes(message.data)] if message is not None else []

    while plugin.health():
        time.sleep(0.01)
    pipe.send("ready")
    while (command := pipe.recv()) is not None:
        gc.collect()
        pipe.send(_obey(command, send, receive))
    for node in nodes.values():
        node.shutdown()
    plugin.shutdown()


def _obey(command: tuple[str, float, float], send: Send, receive: Receive) -> Any:
    what, rate, seconds = command
    if what == "send":
        return send_paced(send, rate, seconds, time.sleep)
    sink, until = Sink(receive), time.monotonic() + seconds
    sent: list[tuple[int, float]] = []
    sender = threading.Thread(target=lambda: sent.append(send_paced(send, rate, seconds, time.sleep)))
    if what == "cross":
        sender.start()
    while sink.take(QUIET) or time.monotonic() < until or sender.is_alive():
        pass
    return (*sent[0], sink.latencies) if sent else sink.latencies


class Bridge:
    """The process that runs `_bridge`."""

    def __init__(self, **buses: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_bridge, args=(buses, theirs), daemon=True)
        self._process.start()
        self.pipe.recv()

    def ask(self, what: str, rate: float, seconds: float) -> Any:
        self.pipe.send((what, rate, seconds))
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.send(None)
        self._process.join(5)
        self._process.kill()


Run = Callable[[float, float], Trial]  # rate, seconds


def across_datagrams(stack: ExitStack) -> Run:
    """udp_multicast to udp_multicast: this process sends and receives, the other forwards."""
    first, second = free_port(), free_port()
    node, listener = Datagrams(first), Listener(second)
    bridge = Bridge(a=leg(first), b=leg(second))
    for thing in (node, listener, bridge):
        stack.callback(thing.close)

    def run(rate: float, seconds: float) -> Trial:
        sink = Sink(listener.receive)
        gc.collect()
        sent, took = send_paced(node.send, rate, seconds, sink.take)
        while sink.take(QUIET):
            pass
        return Trial(sent, took, sink.latencies)

    return run


def across_virtual(stack: ExitStack) -> Run:
    """Virtual to virtual: sender, bridge and receiver in one process, on threads."""
    bridge = Bridge(a=local("one"), b=local("two"))
    stack.callback(bridge.close)
    return lambda rate, seconds: Trial(*bridge.ask("cross", rate, seconds))


def across_processes(stack: ExitStack) -> Run:
    """Virtual to virtual, each in its own process, with udp_multicast between: two bridges."""
    port = free_port()
    here, there = Bridge(a=local("here"), b=leg(port)), Bridge(a=leg(port), b=local("there"))
    stack.callback(here.close)
    stack.callback(there.close)

    def run(rate: float, seconds: float) -> Trial:
        there.pipe.send(("hear", 0.0, seconds + QUIET))
        sent, took = here.ask("send", rate, seconds)
        return Trial(sent, took, there.pipe.recv())

    return run


def highest(run: Run, rate: float, seconds: float = 0.3) -> float:
    """The highest rate in frames/s, to a tenth, without loss or growing delay; the search starts at `rate` and gives up
    at `HOPELESS`."""
    best, step = 0.0, 1.5
    while step > 1.1:
        trial = run(rate, seconds)
        if trial.kept_up:
            best = max(best, trial.sent / trial.seconds)
            if best < rate * 0.9:  # the sender cannot go faster
                break
            rate *= step
        elif best:
            rate /= step
            step **= 0.5
            rate *= step
        elif rate < HOPELESS:
            break
        else:
            rate /= step
    return best


def routing() -> float:
    """Microseconds that the router takes for a frame: the best of several rounds."""
    one = Route(source="a", target="b")
    router = Router([one, one.reversed()])
    frames = [Frame(0x100 + n % 400, struct.pack("<HI", 12, n)) for n in range(2000)]
    best, now = math.inf, 0.0
    for _ in range(7):
        since = time.perf_counter()
        for frame in frames:
            now += 1e-4
            router.route("a", frame, now)
        best = min(best, (time.perf_counter() - since) / len(frames))
    return best * 1e6


LEGS: tuple[tuple[str, Callable[[ExitStack], Run], tuple[float, float, float]], ...] = (
    ("udp_multicast, two processes", across_datagrams, (0.5, 5.0, 6000)),
    ("virtual, one process", across_virtual, (0.5, 5.0, 12000)),
    ("virtual, udp, virtual, two processes", across_processes, (1.0, 10.0, 5000)),
)


def rows() -> Iterator[Row]:
    yield "CAN bridge: frame routed", routing(), "µs", 5.0, "lower"
    for name, make, (median, tail, rate) in LEGS:
        with ExitStack() as stack:
            run = make(stack)
            run(PACED, 0.02)  # to warm up
            trial = run(PACED, 0.8)
            yield f"CAN bridge over {name}: p50", trial.percentile(0.5), "ms", median, "lower"
            yield f"CAN bridge over {name}: p99", trial.percentile(0.99), "ms", tail, "lower"
            yield f"CAN bridge over {name}: highest rate", highest(run, 1.7 * rate), "frames/s", rate, "higher"
