"""The cost of a CAN-FIX frame, compared with python-canfix if that is installed.

``python -m benchmarks.canfix`` prints a table.

The frames resemble those on an aircraft's bus: flight data, positions, engine with cylinders, limits, node status. The
path to the database is the shortest possible for a driver, so the result is the cost of codec and database.
"""

from __future__ import annotations

import gc
import importlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from fixgw.database import ANNUNCIATE, BAD, FAIL, Database, Definition, Item
from fixgw.drivers.canfix import protocol as cf

Row = tuple[str, float, str, float, str]

ROUNDS = 7
BUS = 9000  # frames/s: 1 Mbit/s, saturated
NO_BUDGET = math.inf

TABLE = cf.Codec().table
#: parameter -> (value, instances)
VALUES: dict[str, tuple[Any, int]] = {
    "Pitch Angle": (2.5, 1),
    "Roll Angle": (-12.25, 1),
    "Indicated Airspeed": (123.4, 1),
    "Indicated Altitude": (7250, 1),
    "Heading": (271.3, 1),
    "Vertical Speed": (-350, 1),
    "Normal Acceleration": (1.015, 1),
    "Aircraft Position Latitude": (40.5, 1),
    "Aircraft Position Longitude": (-82.25, 1),
    "Groundspeed": (131.2, 1),
    "N1 or Engine RPM #1": (2400, 1),
    "Oil Pressure #1": (62.5, 1),
    "Oil Temperature #1": (88.1, 1),
    "Cylinder Head Temperature #1": (190.4, 4),
    "Exhaust Gas Temperature #1": (712.6, 4),
}
FLAGS = tuple(
    (ANNUNCIATE if code & cf.ANNUNCIATE else 0) | (BAD if code & cf.QUALITY else 0) | (FAIL if code & cf.FAILURE else 0)
    for code in range(8)
)


def values() -> list[cf.Frame]:
    """A frame for each value."""
    return [
        cf.update(TABLE[name], value, 12, index=index).encode()
        for name, (value, instances) in VALUES.items()
        for index in range(instances)
    ]


def mixed() -> list[cf.Frame]:
    """The values, some of their limits, and the status of nodes."""
    oil = TABLE["Oil Pressure #1"]
    return [
        *values(),
        *(cf.update(oil, 25.0, 12, meta=meta).encode() for meta in ("Low Warn", "Low Alarm")),
        *(cf.NodeStatus(node, 0, 0).encode() for node in (12, 13)),
        cf.ParameterSet(144, TABLE["Altimeter Setting"], 0, 29.92).encode(),
    ]


def microseconds(work: Callable[[], int]) -> float:
    """The cost of one of the operations of `work`: the best of several rounds of about 50 ms."""
    best = math.inf
    gc.collect()
    for _ in range(ROUNDS):
        done = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < 0.05:
            done += work()
        best = min(best, elapsed / done)
    return best * 1e6


def decoding(frames: list[cf.Frame]) -> Callable[[], int]:
    decode = cf.Codec().decode
    received = [(frame.arbitration_id, bytearray(frame.data)) for frame in frames]

    def work() -> int:
        for arbitration_id, data in received:
            decode(arbitration_id, data, False, False, False, False)
        return len(received)

    return work


def storing(frames: list[cf.Frame]) -> Callable[[], int]:
    """Received frames, decoded, routed and written, as in a driver's receive loop."""
    codec = cf.Codec()
    db = Database([Definition(key=f"KEY{n}", min=-1e9, max=1e9, tolerance=2000) for n in range(len(frames))])
    routes: dict[int, dict[int, Item]] = {}
    for n, frame in enumerate(frames):
        routes.setdefault(frame.arbitration_id, {})[frame.data[1]] = db.item(f"KEY{n}")
    sources = [f"canfix/{node}" for node in range(256)]
    received = [(frame.arbitration_id, bytearray(frame.data)) for frame in frames]
    decode = codec.decode

    def work() -> int:
        for arbitration_id, data in received:
            outcome = decode(arbitration_id, data, False, False, False, False)
            if type(outcome) is cf.Value:
                item = routes[arbitration_id].get(outcome.index)
                if item is not None:
                    item.write(float(outcome.value), sources[outcome.node], FLAGS[outcome.code & 7])  # type: ignore[arg-type]
        return len(received)

    return work


def encoding() -> Callable[[], int]:
    parameter = TABLE["Indicated Airspeed"]

    def work() -> int:
        for _ in range(100):
            cf.update(parameter, 123.4, 12).encode()
        return 100

    return work


def peer(frames: list[cf.Frame]) -> Callable[[], int] | None:
    """The same frames decoded by python-canfix; None if it is not installed."""
    try:
        canfix: Any = importlib.import_module("canfix")
        can: Any = importlib.import_module("can")
    except ImportError:
        return None
    parse = canfix.parseMessage
    received = [can.Message(arbitration_id=f.arbitration_id, is_extended_id=False, data=f.data) for f in frames]

    def work() -> int:
        for message in received:
            parse(message)
        return len(received)

    return work


def rows() -> Iterator[Row]:
    frames = mixed()
    ours = microseconds(decoding(frames))
    yield "CAN-FIX frame decoded", ours, "µs", 2.0, "lower"
    theirs = peer(frames)
    if theirs is not None:
        cost = microseconds(theirs)
        yield "  the same with python-canfix", cost, "µs", NO_BUDGET, "lower"
        yield "  ratio", cost / ours, "times", 5.0, "higher"
    stored = microseconds(storing(values()))
    yield "CAN-FIX frame decoded, routed and written", stored, "µs", 4.0, "lower"
    yield "  a saturated 1 Mbit/s bus (9,000 frames/s)", stored * BUS / 1e4, "% of a core", 10.0, "lower"
    yield "CAN-FIX parameter encoded", microseconds(encoding()), "µs", 10.0, "lower"
    yield (
        "CAN-FIX codec made, from the table in memory",
        microseconds(lambda: bool(cf.Codec())) / 1e3,
        "ms",
        20.0,
        "lower",
    )


if __name__ == "__main__":
    for name, value, unit, budget, _ in rows():
        print(f"{name:45} {value:8.2f} {unit:12}" + (f" (budget {budget:g})" if budget != NO_BUDGET else ""))
