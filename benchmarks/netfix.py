"""The cost of NetFIX: fan-out, latency, a client that does not read. ``python -m benchmarks.netfix`` prints a table.

The clients run in a separate process, so that the measured CPU time is that of the gateway (and the writer) alone.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import Row
from fixgw import database
from fixgw.database import Database, Definition
from fixgw.plugins.netfix import Plugin

KEYS = [f"KEY{n}" for n in range(100)]
RATE = 20  # Hz
LOCAL = "127.0.0.1"


@contextmanager
def gateway(**options: Any) -> Iterator[tuple[Database, Plugin]]:
    """A database with `KEYS` and a few more, and a server on a free port."""
    db = Database([Definition(key=key, min=-1e9, max=1e9, tolerance=2000) for key in (*KEYS, "PING", "PONG")])
    database.bind(db)
    db.start()
    plugin = Plugin("netfix", {"port": 0, **options})
    plugin.start()
    try:
        yield db, plugin
    finally:
        plugin.shutdown()
        db.stop()


def connect(port: int, keys: list[str], host: str = LOCAL) -> socket.socket:
    """A client that has subscribed to `keys`."""
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall("".join(f"@s{key}\n" for key in keys).encode())
    answered = 0
    while answered < len(keys):
        answered += sock.recv(65536).count(b"\n")
    return sock


def _readers(port: int, count: int, keys: list[str], pipe: Connection, host: str) -> None:
    """In the other process: `count` clients that count sentences until told to stop."""
    socks = [connect(port, keys, host) for _ in range(count)]
    poll = select.epoll()
    for sock in socks:
        poll.register(sock.fileno(), select.EPOLLIN)
    poll.register(pipe.fileno(), select.EPOLLIN)
    by_fd = {sock.fileno(): sock for sock in socks}
    lines = 0
    pipe.send("ready")
    stopping = False
    while True:
        events = poll.poll(0.3 if stopping else None)
        if stopping and not events:
            break
        for fd, _ in events:
            if fd in by_fd:
                lines += by_fd[fd].recv(262144).count(b"\n")
            else:
                pipe.recv()
                poll.unregister(fd)
                stopping = True
    pipe.send(lines)


class Readers:
    """`count` subscribed clients in another process."""

    def __init__(self, port: int, count: int, keys: list[str] = KEYS, host: str = LOCAL) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_readers, args=(port, count, keys, theirs, host), daemon=True)
        self._process.start()
        self._pipe.recv()

    def stop(self) -> int:
        """The number of sentences that they have received."""
        self._pipe.send("stop")
        lines: int = self._pipe.recv()
        self._process.join()
        return lines


def write_at(db: Database, rate: float, seconds: float) -> int:
    """Write every key `rate` times a second; returns the number of rounds."""
    items = [db.item(key) for key in KEYS]
    start = time.monotonic()
    rounds = int(seconds * rate)
    for n in range(rounds):
        delay = start + n / rate - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        value = float(n)
        for item in items:
            item.write(value + 0.123, "bench")
    return rounds


def fan_out(clients: int, rate: float = RATE, seconds: float = 3.0) -> tuple[float, float, float]:
    """(% of a core, sentences a second, % of them delivered)."""
    with gateway() as (db, plugin):
        readers = Readers(plugin.port, clients)
        started, cpu = time.monotonic(), time.process_time()
        rounds = write_at(db, rate, seconds)
        elapsed, cpu = time.monotonic() - started, time.process_time() - cpu
        lines = readers.stop()
        expected = rounds * len(KEYS) * clients
        return 100.0 * cpu / elapsed, lines / elapsed, 100.0 * lines / expected


def ceiling(clients: int = 50, seconds: float = 2.0) -> float:
    """Sentences a second when every key is written as fast as the clients get them."""
    with gateway() as (db, plugin):
        readers = Readers(plugin.port, clients)
        server = plugin.server
        assert server is not None
        items = [db.item(key) for key in KEYS]
        started = time.monotonic()
        n = 0
        while time.monotonic() - started < seconds:
            n += 1
            for item in items:
                item.write(n + 0.123, "bench")
            while server._fanout.waiting:
                time.sleep(0.0002)
        elapsed = time.monotonic() - started
        return readers.stop() / elapsed


def _ping(port: int, count: int, pipe: Connection) -> None:
    """In the other process: a client that receives `PING` and reports the time."""
    sock = connect(port, ["PING"])
    pipe.send("ready")
    for _ in range(count):
        data = sock.recv(4096)
        now = time.monotonic()
        if not data:
            break
        pipe.send(now)


def pings(port: int, write: Callable[[int], object], count: int = 500) -> tuple[float, float]:
    """(p50, p99) in µs from just before `write` until a client in another process has the sentence."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_ping, args=(port, count, theirs), daemon=True)
    process.start()
    pipe.recv()
    times = []
    for n in range(count):
        time.sleep(0.004)
        written = time.monotonic()
        write(n)
        times.append((pipe.recv() - written) * 1e6)
    process.join()
    return percentiles(times)


def latency() -> tuple[float, float]:
    """From a database write to a subscribed client, with an idle gateway."""
    with gateway() as (db, plugin):
        item = db.item("PING")
        return pings(plugin.port, lambda n: item.write(float(n), "bench"))


def bare_latency() -> tuple[float, float]:
    """The same from a bare socket: the cost of the machine itself."""
    connections: list[socket.socket] = []

    def answer() -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(4096)
        connection.sendall(b"@sPING\n")
        connections.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        result = pings(listener.getsockname()[1], lambda n: connections[0].send(b"PING;%d.0;00000\n" % n))
        thread.join()
    connections[0].close()
    return result


def round_trips(
    port: int, count: int, pipe: Connection, host: str = LOCAL, key: str = "PONG", value: float = 0.0
) -> None:
    """In the other process: one client writes `key`, another receives it."""
    reader = connect(port, [key], host)
    writer = connect(port, [], host)
    pipe.send("ready")
    times = []
    for n in range(count):
        time.sleep(0.007)
        started = time.monotonic()
        writer.sendall(f"{key};{value + n % 2 * 1e-3};000\n".encode())
        reader.recv(4096)
        times.append((time.monotonic() - started) * 1e6)
    pipe.send(times)


def round_trip(clients: int, count: int = 300) -> tuple[float, float]:
    """(p50, p99) in ms from one client's write to another client, while `clients` get 100 keys at 20 Hz."""
    with gateway() as (db, plugin):
        readers = Readers(plugin.port, clients)
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=round_trips, args=(plugin.port, count, theirs), daemon=True)
        process.start()
        pipe.recv()
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                write_at(db, RATE, 0.5)

        writer = threading.Thread(target=write)
        writer.start()
        p50, p99 = percentiles(pipe.recv())
        stop.set()
        writer.join()
        process.join()
        readers.stop()
    return p50 / 1000.0, p99 / 1000.0


FLOODS = {
    "reads": "".join(f"@r{key}\n" for key in KEYS),
    "lists": "@l\n" * 100,
    "writes": "".join(f"{key};1.5;000\n" for key in KEYS),
    "explanations": "".join(f"@xexplain {key}\n" for key in KEYS),
    "status": "@xstatus\n" * 100,
    "nonsense": "?\n" * 1000,
}


def flood(port: int, text: str, count: int, pipe: Connection, host: str = LOCAL) -> None:
    """In the other process: `count` clients that send `text` as fast as the server reads it, and read every answer."""
    poll = select.epoll()
    data = text.encode()
    by_fd, left = {}, {}
    for _ in range(count):
        sock = socket.create_connection((host, port))
        sock.setblocking(False)
        by_fd[sock.fileno()], left[sock.fileno()] = sock, data
        poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
    poll.register(pipe.fileno(), select.EPOLLIN)
    pipe.send("ready")
    while True:
        for fd, events in poll.poll():
            if fd not in by_fd:
                return
            if events & select.EPOLLIN:
                by_fd[fd].recv(1 << 20)
            if events & select.EPOLLOUT:
                left[fd] = left[fd][by_fd[fd].send(left[fd]) :] or data


def asking(port: int, count: int, pipe: Connection, host: str = LOCAL, key: str = "PONG") -> None:
    """In the other process: a client that sends occasional requests."""
    sock = connect(port, [], host)
    pipe.send("ready")
    times = []
    for _ in range(count):
        time.sleep(0.007)
        started = time.monotonic()
        sock.sendall(f"@r{key}\n".encode())
        sock.recv(4096)
        times.append((time.monotonic() - started) * 1e6)
    pipe.send(times)


def echo(pipe: Connection) -> None:
    """In another process: answer one client, with nothing to look up."""
    with socket.create_server((LOCAL, 0)) as listener:
        pipe.send(listener.getsockname()[1])
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := sock.recv(4096):
            sock.sendall(data)


def flooded(what: str, clients: int = 5, count: int = 400) -> tuple[float, float, float]:
    """p99 in ms of a client's request, of one to a bare socket in another process, and from a write to a client, while
    `clients` others flood the gateway."""
    context = multiprocessing.get_context("spawn")
    with gateway() as (db, plugin):
        tree = {f"connection {n}": {f"count {m}": m * n for m in range(50)} for n in range(20)}
        plugin._gateway.status = lambda: tree
        ours, theirs = context.Pipe()
        attacker = None
        if what:
            attacker = context.Process(target=flood, args=(plugin.port, FLOODS[what], clients, theirs), daemon=True)
            attacker.start()
            ours.recv()
            time.sleep(0.5)
        bare, end = context.Pipe()
        server = context.Process(target=echo, args=(end,), daemon=True)
        server.start()
        answers = []
        for port in (plugin.port, bare.recv()):
            pipe, other = context.Pipe()
            process = context.Process(target=asking, args=(port, count, other), daemon=True)
            process.start()
            pipe.recv()
            answers.append(percentiles(pipe.recv())[1])
            process.join()
        server.join()
        item = db.item("PING")
        _, heard = pings(plugin.port, lambda n: item.write(float(n), "bench"), count)
        ours.send("stop")
        if attacker is not None:
            attacker.join()
    return answers[0] / 1000.0, answers[1] / 1000.0, heard / 1000.0


def stalled_reader(seconds: float = 3.0, rate: float = 100.0) -> float:
    """MiB by which the process grows while a client that has subscribed to 100 keys does not read, 10,000 writes/s."""
    with gateway() as (db, plugin):
        sock = connect(plugin.port, KEYS)
        write_at(db, rate, 0.5)
        gc.collect()
        before = resident()
        write_at(db, rate, seconds)
        gc.collect()
        growth = resident() - before
        sock.close()
    return growth


def resident() -> float:
    """Resident memory of this process, MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def percentiles(times: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def rows() -> Iterator[Row]:
    """(name, measured, unit, budget, what is better) of each measurement."""
    for clients, budget in ((10, 6.0), (50, 25.0)):
        cpu, _, delivered = fan_out(clients)
        yield f"fan-out, {clients} clients x 100 keys x 20 Hz: CPU", cpu, "% of a core", budget, "lower"
        yield f"fan-out, {clients} clients x 100 keys x 20 Hz: delivered", delivered, "%", 100.0, "higher"
    yield "fan-out, ceiling", ceiling(), "sentences/s", 400_000.0, "higher"
    (bare50, bare99), (p50, p99) = bare_latency(), latency()
    yield "a bare socket -> client, idle: p50 (the cost of the machine itself)", bare50, "µs", math.inf, "lower"
    yield "a bare socket -> client, idle: p99", bare99, "µs", math.inf, "lower"
    yield "write -> client, idle: p50", p50, "µs", 100.0, "lower"
    yield "write -> client, idle: p99", p99, "µs", 500.0, "lower"
    for clients, budget in ((10, 3.0), (50, 20.0)):
        _, p99 = round_trip(clients)
        yield f"client -> gateway -> client, {clients} x 100 keys x 20 Hz: p99", p99, "ms", budget, "lower"
    for what in FLOODS:
        asked, bare, heard = flooded(what)
        yield f"client asks while 5 others flood, {what}: p99", asked, "ms", 2.0, "lower"
        yield f"a client of a bare socket while 5 others flood the gateway, {what}: p99", bare, "ms", math.inf, "lower"
        yield f"write -> client while 5 others flood, {what}: p99", heard, "ms", 2.0, "lower"
    yield "a client that does not read, 10,000 writes/s: growth", stalled_reader(), "MiB", 1.0, "lower"


def main() -> None:
    for name, value, unit, budget, better in rows():
        met = value <= budget if better == "lower" else value >= budget
        print(f"{name:62} {value:12,.2f} {unit:12} {'' if met else 'NOT '}within {budget:,.0f}", flush=True)


if __name__ == "__main__":
    main()
