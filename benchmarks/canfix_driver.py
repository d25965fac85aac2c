"""The cost of the CAN-FIX driver, from frames to the database and back. ``python -m benchmarks.canfix_driver``.

The map is the default for the packaged database. The bus is python-can's virtual bus: measurements over the bus include
its cost and that of the sender's thread.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import can

from fixgw import configuration, database
from fixgw.database import Database
from fixgw.drivers.canfix import Plugin
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.links.can.frame import Frame

Row = tuple[str, float, str, float, str]

ROUNDS = 7
BUS = 9000  # frames/s: 1 Mbit/s, saturated
FLOOD = 20_000  # frames/s: more than a bus can carry
#: An aircraft's traffic: parameter, value, instances.
TRAFFIC: list[tuple[str, Any, int]] = [
    ("Pitch Angle", 2.5, 1),
    ("Roll Angle", -12.25, 1),
    ("Indicated Airspeed", 123.4, 1),
    ("Indicated Altitude", 7250, 1),
    ("Heading", 271.3, 1),
    ("Vertical Speed", -350, 1),
    ("Aircraft Position Latitude", 40.5, 1),
    ("Aircraft Position Longitude", -82.25, 1),
    ("N1 or Engine RPM #1", 2400, 1),
    ("Oil Pressure #1", 62.5, 1),
    ("Cylinder Head Temperature #1", 190.4, 4),
    ("Exhaust Gas Temperature #1", 712.6, 4),
    ("Engine Throttle Control Position #1", 75.0, 1),
    ("Generic Switches #1", (1, 2, 3, 4, 5), 1),
    ("Encoder Input #1", (1, 0, 0), 1),
]
MAP = "outputs:\n  - {fixid: IAS, canid: 0x183, owner: yes, rate_limit: 0}\n"


def frames() -> list[Frame]:
    table = cf.Codec().table
    encoded = (
        cf.update(table[name], value, 12, index=index).encode()
        for name, value, instances in TRAFFIC
        for index in range(instances)
    )
    return [Frame(frame.arbitration_id, frame.data) for frame in encoded]


@contextmanager
def driver(text: str = "") -> Iterator[tuple[Plugin, Database]]:
    """The driver on a virtual bus, with the packaged database."""
    db = configuration.load(configuration.packaged() / configuration.NAME).make_database()
    database.bind(db)
    db.start()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["STATE_DIRECTORY"] = directory
        options: dict[str, Any] = {"interface": "virtual", "channel": "benchmark"}
        if text:
            options["mapfile"] = os.path.join(directory, "map.yaml")
            with open(options["mapfile"], "w") as file:
                file.write(text)
        plugin = Plugin("canfix", options)
        plugin.start()
        while plugin.health():
            time.sleep(0.01)
        try:
            yield plugin, db
        finally:
            plugin.shutdown()
            db.stop()


def microseconds(work: Callable[[], int]) -> float:
    """Microseconds for one of the operations that `work` counts, at best."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        done = work()
        best = min(best, (time.perf_counter() - begin) / done)
    return best * 1e6


def receiving(batch: int) -> float:
    """µs from a received frame to the database, `batch` frames at a time."""
    traffic = frames()
    batches = [traffic[at : at + batch] for at in range(0, len(traffic), batch)]
    with driver() as (plugin, _):

        def work() -> int:
            for _ in range(500):
                for some in batches:
                    plugin.received(some)
            return 500 * len(traffic)

        return microseconds(work)


def sending() -> float:
    """µs that a write takes its writer if it is sent as a parameter."""
    with driver(MAP) as (_, db), can.Bus("benchmark", interface="virtual") as other:
        item = db.item("IAS")

        def work() -> int:
            for n in range(1000):
                item.write(100.0 + n % 10, "benchmark")
            while other.recv(0) is not None:
                pass
            return 1000

        return microseconds(work)


def latency(pause: float, count: int = 300) -> tuple[float, float]:
    """(p50, p99) in µs from a frame on the bus until a subscriber gets the value, with `pause` seconds in between."""
    with driver() as (_, db), can.Bus("benchmark", interface="virtual") as other:
        arrived = threading.Event()
        at = [0.0]

        def hear(key: str, reading: Any) -> None:
            at[0] = time.perf_counter()
            arrived.set()

        db.subscribe("IAS", hear)
        message = can.Message(arbitration_id=0x183, data=b"\x0c\0\0\xd2\4", is_extended_id=False)
        times = []
        for _ in range(count):
            arrived.clear()
            begin = time.perf_counter()
            other.send(message)
            arrived.wait(1)
            times.append((at[0] - begin) * 1e6)
            time.sleep(pause)
        cuts = statistics.quantiles(times, n=100)
        return cuts[49], cuts[98]


def flood(rate: int, seconds: float = 2.0) -> tuple[float, float]:
    """(% of the frames that arrived, µs p99 of a write by another thread) at `rate` frames a second on the bus."""
    messages = [can.Message(arbitration_id=f.arbitration_id, data=f.data, is_extended_id=False) for f in frames()]
    with driver() as (plugin, db), can.Bus("benchmark", interface="virtual") as other:
        stop = threading.Event()
        sent = [0]

        def babble() -> None:
            begin = time.perf_counter()
            while not stop.is_set():
                behind = int((time.perf_counter() - begin) * rate) - sent[0]
                for _ in range(min(behind, 1000)):
                    other.send(messages[sent[0] % len(messages)])
                    sent[0] += 1
                time.sleep(0.002)

        thread = threading.Thread(target=babble)
        thread.start()
        times = []
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            begin = time.perf_counter()
            db.write("TAS", 100.0, "somebody")
            times.append((time.perf_counter() - begin) * 1e6)
            time.sleep(0.001)
        stop.set()
        thread.join()
        time.sleep(0.3)
        arrived = 100.0 * plugin.codec.counts["value"] / sent[0]
        return arrived, statistics.quantiles(times, n=100)[98]


def rows() -> Iterator[Row]:
    bursts, single = receiving(64), receiving(1)
    yield "CAN-FIX driver: frame in hand to database", bursts, "µs", 4.0, "lower"
    yield "  the same, frames one by one", single, "µs", 5.0, "lower"
    yield "  a saturated 1 Mbit/s bus (9,000 frames/s)", bursts * BUS / 1e4, "% of a core", 10.0, "lower"
    yield "CAN-FIX driver: write to frame sent", sending(), "µs", 40.0, "lower"
    p50, p99 = latency(0.01)
    yield "CAN-FIX driver: virtual bus to subscriber after a pause, p50", p50, "µs", 300.0, "lower"
    yield "  p99", p99, "µs", 2000.0, "lower"
    _, p99 = latency(0.002)
    yield "  in traffic, where frames are gathered for 5 ms, p99", p99, "µs", 7500.0, "lower"
    arrived, write = flood(FLOOD)
    yield "CAN-FIX driver: of 20,000 frames/s processed", arrived, "%", 99.9, "higher"
    yield "  meanwhile a write by another thread, p99", write, "µs", 20_000.0, "lower"


if __name__ == "__main__":
    for name, value, unit, budget, _ in rows():
        print(f"{name:50} {value:10.2f} {unit:12} (budget {budget:g})")
