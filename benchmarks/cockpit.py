"""What an ordinary cockpit costs: frames and values that arrive spread as instruments spread them, and few displays.

Everything is live: frames come one at a time from another process through a socket in place of SocketCAN's, displays
are clients in another process. CPU is that of this whole process; wake-ups are its voluntary context switches.
"""

from __future__ import annotations

import multiprocessing
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from benchmarks import Rows
from benchmarks.canfix_driver import frames
from benchmarks.netfix import KEYS, RATE, Readers, gateway
from fixgw import configuration, database
from fixgw.drivers.canfix import Plugin as Canfix
from fixgw.drivers.links.can import ports
from fixgw.drivers.links.can.socketcan import SocketCanPort, pack
from fixgw.plugins.netfix import Plugin as Netfix

SECONDS = 4.0
BURST_KEYS = 10
CAN_RATES = (1000, 9000)  # frames/s: a well-equipped aircraft; 1 Mbit/s, saturated


class Used(NamedTuple):
    cpu: float  # % of a core
    wakeups: float  # a second


@contextmanager
def measured(result: list[Used]) -> Iterator[None]:
    """Append what this process used meanwhile."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    yield
    after, elapsed = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result.append(Used(100 * cpu / elapsed, (after.ru_nvcsw - before.ru_nvcsw) / elapsed))


def _feed(sock: socket.socket, rate: float, seconds: float) -> None:
    """In another process: send frames one at a time, evenly."""
    raw = [pack(frame) for frame in frames()]
    start = time.monotonic()
    for n in range(int(rate * seconds)):
        delay = start + n / rate - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        sock.send(raw[n % len(raw)])


def can(rate: float, displays: int, **options: Any) -> Used:
    """A gateway that receives `rate` CAN frames/s, with `displays` that have subscribed to everything."""
    db = configuration.load(configuration.packaged() / configuration.NAME).make_database()
    database.bind(db)
    db.start()
    result: list[Used] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    port = SocketCanPort(ours, "can0", lambda what, n=1: None)
    port.accept = lambda ids: None  # type: ignore[method-assign]  # this socket cannot filter
    with mock.patch.object(ports, "open_port", return_value=port), mock.patch.object(ports, "require"):
        netfix, canfix = Netfix("netfix", {"port": 0}), Canfix("canfix", {"interface": "socketcan", **options})
        netfix.start()
        canfix.start()
        readers = Readers(netfix.port, displays, [key for key in db if not key.startswith("ZZ")])
        feeder = multiprocessing.get_context("spawn").Process(target=_feed, args=(theirs, rate, SECONDS + 2))
        feeder.start()
        while not canfix.counts["used"]:
            time.sleep(0.01)
        with measured(result):
            time.sleep(SECONDS)
        readers.stop()
        feeder.join()
        canfix.shutdown()
        netfix.shutdown()
    theirs.close()
    db.stop()
    return result[0]


def bursts(displays: int) -> Used:
    """100 keys at 20 Hz, ten at a time, as frames and sentences of instruments bring them."""
    result: list[Used] = []
    with gateway() as (db, plugin):
        readers = Readers(plugin.port, displays)
        items = [db.item(key) for key in KEYS]
        groups = [items[at : at + BURST_KEYS] for at in range(0, len(items), BURST_KEYS)]
        with measured(result):
            start = time.monotonic()
            for n in range(int(SECONDS * RATE) * len(groups)):
                delay = start + n / (RATE * len(groups)) - time.monotonic()
                if delay > 0:
                    time.sleep(delay)
                with db.batch:
                    for item in groups[n % len(groups)]:
                        item.write(n + 0.123, "bench")
        readers.stop()
    return result[0]


def rows() -> Rows:
    for rate in CAN_RATES:
        for displays, words in ((0, "no display"), (1, "a display of everything")):
            used = can(rate, displays)
            name = f"cockpit: {rate:,} CAN frames/s, {words}"
            yield f"{name}: CPU", used.cpu, "% of a core", (8.0 if rate == 1000 else 25.0) * (1 + displays), "lower"
            yield f"{name}: wake-ups", used.wakeups, "/s", 600.0, "lower"
    for displays in (1, 2, 10):
        used = bursts(displays)
        name = f"cockpit: 100 keys x {RATE} Hz in bursts of {BURST_KEYS}, {displays} display{'s' * (displays > 1)}"
        yield f"{name}: CPU", used.cpu, "% of a core", 8.0, "lower"
        yield f"{name}: wake-ups", used.wakeups, "/s", 700.0, "lower"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    raise SystemExit(main(["cockpit"]))
