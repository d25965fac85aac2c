"""The cost of a CAN bus before decoding. ``python -m benchmarks can_link`` prints a table.

The sender runs in a separate process, so that the measured CPU time is the gateway's alone.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from benchmarks import Row
from fixgw.drivers.links.can.bus import Tap, open_tap
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.can.slcan import encode
from fixgw.drivers.links.can.socketcan import SocketCanPort, pack

BUS = 9000  # frames/s: a saturated 1 Mbit/s bus
FRAMES = [Frame(0x100 + n % 400, bytes([n & 255] * (4 + n % 5))) for n in range(1000)]
CHUNKS = [b"".join(map(encode, FRAMES[n : n + 100])) for n in range(0, 1000, 100)]


class Counter:
    """A user of a bus that counts frames; `done` is set when `total` have arrived."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.frames = 0
        self.first = self.last = 0.0
        self.done = threading.Event()

    def received(self, frames: Sequence[Frame]) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.frames += len(frames)
        if self.frames >= self.total:
            self.done.set()

    @property
    def rate(self) -> float:
        return self.frames / (self.last - self.first)


@contextmanager
def pseudo_terminal() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


def _feed(write: Callable[[int], object], total: int, rate: float | None) -> None:
    """In another process: call `write` with 0, 1, ..., `rate` times a second or as fast as it can."""
    since, sent = time.perf_counter(), 0
    while sent < total:
        due = total if rate is None else min(total, int((time.perf_counter() - since) * rate))
        while sent < due:
            write(sent)
            sent += 1
        time.sleep(0.0005)


@contextmanager
def feeder(write: Callable[[int], object], total: int, rate: float | None = None) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=_feed, args=(write, total, rate))
    process.start()
    try:
        yield
    finally:
        process.join(10)
        process.kill()


def settled(tap: Tap) -> None:
    while tap.bus.health():
        time.sleep(0.01)


def slcan(rate: float | None, seconds: float = 3.0) -> tuple[float, float]:
    """Frames per second, and % of a core, of an slcan adapter that sends `rate` frames/s, or as many as it can."""
    with pseudo_terminal() as (master, path):
        total = 300_000 if rate is None else int(rate * seconds)
        counter = Counter(total)
        tap = open_tap(BusOptions(interface="slcan", channel=path, bitrate=1000000), counter.received)
        settled(tap)
        with suppress(OSError):
            os.read(master, 4096)  # the commands
        if rate is None:
            write, calls = (lambda n: os.write(master, CHUNKS[n % len(CHUNKS)])), total // 100
        else:
            write, calls = (lambda n: os.write(master, encode(FRAMES[n % 1000]))), total
        with feeder(write, calls, rate):
            counter.done.wait(0.5)  # under way
            before, since = time.process_time(), time.perf_counter()
            counter.done.wait(30)
            used = (time.process_time() - before) / max(counter.last - since, 1e-9)
        tap.close()
        return counter.rate, used * 100


def slcan_of_python_can(seconds: float = 2.0) -> float:
    """Frames per second of python-can's own reader."""
    import can

    with pseudo_terminal() as (master, path):
        bus = can.Bus(path, interface="slcan", bitrate=1000000, sleep_after_open=0, ignore_config=True)
        with suppress(OSError):
            os.read(master, 4096)
        os.set_blocking(master, False)
        stop, got = threading.Event(), 0

        def feed() -> None:  # reading is slower than writing, so no separate process is needed
            ready = select.poll()
            ready.register(master, select.POLLOUT)
            rest, n = b"", 0
            while not stop.is_set():
                rest, n = rest or CHUNKS[n % len(CHUNKS)], n + 1
                if ready.poll(100):
                    with suppress(BlockingIOError):
                        rest = rest[os.write(master, rest) :]

        thread = threading.Thread(target=feed)
        thread.start()
        since = time.perf_counter()
        while (elapsed := time.perf_counter() - since) < seconds:
            got += bus.recv(0.1) is not None
        stop.set()
        thread.join()
        bus.shutdown()
        return got / elapsed


def kernel(total: int = 100_000) -> float:
    """Microseconds for a frame from a socket in place of SocketCAN's, 100 at a time."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    port = SocketCanPort(ours, "can0", lambda what, n=1: None)
    raw, spent = [pack(frame) for frame in FRAMES[:100]], 0.0
    for _ in range(total // 100):
        for one in raw:
            theirs.send(one)
        since, read = time.perf_counter(), 0
        while read < 100:
            read += len(port.read(1.0))
        spent += time.perf_counter() - since
    port.close()
    theirs.close()
    return spent / total * 1e6


def virtual(total: int = 20_000) -> float:
    """Frames per second through python-can's virtual bus, the sender in this process."""
    import can

    counter = Counter(total)
    tap = open_tap(BusOptions(interface="virtual", channel="benchmark", receive_buffer=67108864), counter.received)
    settled(tap)
    with can.Bus("benchmark", interface="virtual", ignore_config=True) as bus:
        message = can.Message(arbitration_id=0x123, data=bytes(8), is_extended_id=False)
        for _ in range(total):
            bus.send(message)
    counter.done.wait(30)
    tap.close()
    return counter.rate


def udp(seconds: float = 3.0) -> tuple[float, float]:
    """Lost frames in %, and % of a core, at `BUS` frames/s from another process over udp_multicast."""
    import can

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        address = {"channel": "239.74.163.2", "port": sock.getsockname()[1]}
    counter = Counter(int(BUS * seconds))
    options = BusOptions(interface="udp_multicast", channel=address["channel"], extra={"port": address["port"]})
    tap = open_tap(options, counter.received)
    settled(tap)
    with can.Bus(interface="udp_multicast", ignore_config=True, **address) as bus:
        message = can.Message(arbitration_id=0x123, data=bytes(8), is_extended_id=False)
        with feeder(lambda n: bus.send(message), counter.total, BUS):
            before, since = time.process_time(), time.perf_counter()
            counter.done.wait(seconds + 10)
            used = (time.process_time() - before) / (time.perf_counter() - since)
    tap.close()
    return (1 - counter.frames / counter.total) * 100, used * 100


def sending(total: int = 3000) -> tuple[float, float]:
    """Microseconds from `send` until another thread has the frame, over a socket: median and 99th percentile."""
    with pseudo_terminal() as (master, path):
        tap = open_tap(BusOptions(interface="slcan", channel=path, bitrate=1000000), lambda frames: None)
        settled(tap)
        with suppress(OSError):
            os.read(master, 4096)
        delays: list[float] = []
        for n in range(total):
            since = time.perf_counter()
            tap.send(0x123, n.to_bytes(4, "big"))
            os.read(master, 100)
            delays.append(time.perf_counter() - since)
            time.sleep(0.0002)
        tap.close()
    delays.sort()
    return delays[total // 2] * 1e6, delays[total * 99 // 100] * 1e6


def rows() -> Iterator[Row]:
    ceiling, _ = slcan(None)
    yield "CAN: slcan adapter, ceiling", ceiling, "frames/s", float(BUS), "higher"
    theirs = slcan_of_python_can()
    yield "  the same with python-can", theirs, "frames/s", 0.0, "higher"
    yield "  ratio", ceiling / theirs, "times", 3.0, "higher"
    rate, used = slcan(BUS)
    yield "  9,000 frames/s one by one: delivered", rate / BUS * 100, "%", 99.0, "higher"
    yield "  9,000 frames/s one by one: CPU", used, "% of a core", 15.0, "lower"
    yield "CAN: SocketCAN, a frame of a burst", kernel(), "µs", 3.0, "lower"
    p50, p99 = sending()
    yield "CAN: send -> on the line: p50", p50, "µs", 100.0, "lower"
    yield "CAN: send -> on the line: p99", p99, "µs", 1000.0, "lower"
    yield "CAN: python-can's virtual bus", virtual(), "frames/s", float(BUS), "higher"
    lost, used = udp()
    yield "CAN: udp_multicast, 9,000 frames/s: lost", lost, "%", 0.0, "lower"
    yield "CAN: udp_multicast, 9,000 frames/s: CPU", used, "% of a core", 40.0, "lower"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    raise SystemExit(main(["can_link"]))
