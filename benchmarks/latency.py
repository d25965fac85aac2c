"""How long a value takes from the wire to a display, stage by stage, for each driver while all of them work.

``python -m benchmarks latency`` compares with the budgets; ``python -m benchmarks.latency`` prints the table of
docs/latency.md. Three processes, as on a bench: the virtual instruments of `fixgw demo --everything`, a gateway with
their drivers, and a display that has subscribed to every key. Chips and pins are in the gateway's process.

The stages are moments of the monotonic clock, which all processes of a computer share:

    wire      the instrument has sent the first of what the driver then reads at once
    read      the driver's link has read it
    decoded   the driver's protocol has made updates of it
    written   the item has the new reading
    notified  the NetFIX server knows of it
    sent      the socket has it
    received  the display has it

What a slow line takes is not counted: at 9600 baud, a byte needs a millisecond. A chip has no wire, because its driver
polls it, and a CAN-FIX frame is written while it is decoded. A frame on a bus may have waited up to 5 ms longer.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import select
import tempfile
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from benchmarks import Rows
from benchmarks.netfix import connect, percentiles
from fixgw import configuration
from fixgw.clock import now
from fixgw.configuration import Configuration
from fixgw.database import Reading
from fixgw.gateway import Gateway
from fixgw.hw_sim import everything
from fixgw.hw_sim.network import NetworkInstrument, own_host
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.pty import VirtualPort
from fixgw.hw_sim.scenario import Scenario
from fixgw.hw_sim.wiring import Wiring
from fixgw.hw_sim.world import World
from fixgw.kit import raw
from fixgw.kit.publish import Publisher
from fixgw.netfix import sentence
from fixgw.plugins.netfix.peer import Peer

STAGES = ("wire", "read", "decoded", "written", "notified", "sent", "received")
SETTLE_S, SECONDS = 6.0, 15.0
LINK_S = 1.0  # what has been read longer ago is not the origin of a value
#: Connections that are no driver of an instrument.
WITHOUT = ("demo", "autopilot", "tablets", "raw", "bridge", "web", "alerts", "compute", "compare")
#: Rates, for which pulses are counted for some seconds.
COMPUTED = ("FUELF1",)
#: The device of a connection, if its name is not the connection's.
DEVICES = {"can": "can0"}
#: From the wire, or from the reading of a chip, to the display: for half of the values, and for 99 of 100. Some drivers
#: have a hundred values in this time, so that one frame decides.
MEDIAN_MS, MOST_MS = 20.0, 75.0


class Way(NamedTuple):
    """The moment of each of the `STAGES` of one value; None where there is none."""

    wire: float | None
    read: float
    decoded: float | None
    written: float
    notified: float
    sent: float
    received: float

    @property
    def whole(self) -> float:
        """Seconds from the wire, or from the reading of a chip, to the display."""
        return self.received - (self.read if self.wire is None else self.wire)


class Lines:
    """Lines of NetFIX that went by, and when."""

    def __init__(self) -> None:
        self._when: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, at: float, data: bytes) -> None:
        for line in data.decode().splitlines():
            self._when[line].append(at)

    def first(self, line: str, since: float) -> float | None:
        """When `line` first went by, `since` then; None if it did not within `LINK_S`."""
        when = self._when[line]
        n = bisect_left(when, since)
        return when[n] if n < len(when) and when[n] - since < LINK_S else None


def _fly(directory: str, pipe: Connection) -> None:
    """In another process: the instruments. Returns when each of them has sent something, by the names of devices."""
    wires: defaultdict[str, list[float]] = defaultdict(list)
    write, send = VirtualPort.write, NetworkInstrument.send

    def note_write(port: VirtualPort, data: bytes) -> int:
        wires[Path(port.path).name].append(now())
        return write(port, data)

    def note_send(program: NetworkInstrument, data: bytes, to: Any) -> None:
        wires[program.NAME].append(now())
        send(program, data, to)

    with mock.patch.object(VirtualPort, "write", note_write), mock.patch.object(NetworkInstrument, "send", note_send):
        world = everything.bench(Path(directory), more=True)
        pipe.send(own_host())
        pipe.recv()
        with world:
            pipe.recv()
    pipe.send(dict(wires))


def _display(port: int, keys: list[str], pipe: Connection) -> None:
    """In another process: a display. Returns what it has received, and when."""
    sock: Any = connect(port, keys)
    pipe.send("ready")
    received: list[tuple[float, bytes]] = []
    rest = b""
    while not pipe.poll():
        if sock in select.select([sock, pipe], [], [])[0]:
            whole, _, rest = (rest + sock.recv(262_144)).rpartition(b"\n")
            received.append((now(), whole))
    pipe.send(received)


@contextmanager
def _process(work: Any, *args: Any) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(*args, theirs), daemon=True)
    process.start()
    yield ours
    process.join()


def _configuration(directory: str, host: str) -> Configuration:
    """The demonstration of everything, in which each source of a value is told, not only the best one."""
    loaded = configuration.load(
        configuration.packaged() / "demo-everything.yaml", {"SIM": directory, "GPS": "sim/gps", "HOST": host}
    )
    connections = [
        dataclasses.replace(c, options={**c.options, "port": 0}) if c.name == "netfix" else c
        for c in loaded.connections
        if c.name not in WITHOUT
    ]
    definitions = [msgspec.structs.replace(d, sources=()) for d in loaded.definitions]
    return dataclasses.replace(loaded, connections=tuple(connections), definitions=tuple(definitions))


def _chips(directory: str) -> World:
    """A world with the panel and the chips, which are reached within the process."""
    names = ("panel", *everything.ON_BUSES)
    return everything.assemble(Wiring(Path(directory)), Scenario({}), names, bus=False)


def _press(panel: Panel) -> float:
    """Press or release a button of the panel; returns when."""
    panel.press(0, bool(int(now() * 10) % 2))
    return now()


def ways(seconds: float = SECONDS) -> dict[str, list[Way]]:
    """Measure: the ways of all values of that time that a display was told, by connection."""
    read: defaultdict[str, list[float]] = defaultdict(list)
    decoded: defaultdict[str, list[float]] = defaultdict(list)
    notified: list[tuple[str, Reading, float]] = []
    sent, received = Lines(), Lines()
    publish, send = Publisher.publish, Peer.send

    def note_read(connection: str, at: float, direction: raw.Direction, data: Any) -> None:
        if direction == "in" and not isinstance(data, raw.Event):
            read[connection].append(now())

    def note_decoded(publisher: Publisher, updates: Iterable[Any], source: str = "") -> None:
        decoded[publisher._plugin.name].append(now())
        publish(publisher, updates, source)

    def note_sent(peer: Peer, data: bytes) -> None:
        telling.append((now(), bytes(data)))
        send(peer, data)

    telling: list[tuple[float, bytes]] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.dict(os.environ, STATE_DIRECTORY=directory),
        mock.patch.object(Publisher, "publish", note_decoded),
        mock.patch.object(Peer, "send", note_sent),
        _process(_fly, directory) as instruments,
    ):
        gateway = Gateway(_configuration(directory, instruments.recv()))
        chips = _chips(directory)
        panel = chips.named["panel"]
        gateway.start()
        try:
            plugins: dict[str, Any] = {name: runner.plugin for name, runner in gateway.runners.items()}
            links = {name: next(iter(p.heard_as(name, p.options)), name) for name, p in plugins.items()}
            with chips, _process(_display, plugins["netfix"].port, [*gateway.database]) as display:
                display.recv()
                instruments.send("fly")
                settled = now() + SETTLE_S
                gateway.supervise(lambda: now() > settled, every=0.1)
                tap = raw.listen(gateway.database, note_read, logging.getLogger(__name__))
                gateway.database.subscribe("*", lambda key, reading: notified.append((key, reading, now())), quick=True)
                gateway.supervise(lambda: _press(panel) > settled + seconds, every=0.1)
                tap.close()
                until = now() - LINK_S
                display.send("stop")
                for at, data in display.recv():
                    received.add(at, data)
            instruments.send("stop")
            wires: dict[str, list[float]] = instruments.recv()
        finally:
            gateway.stop()
    for at, data in telling:
        sent.add(at, data)
    result: defaultdict[str, list[Way]] = defaultdict(list)
    connections = [c for c in gateway.configuration.connections if c.name != "netfix"]
    for key, reading, at in notified:
        name = next((c.name for c in connections if is_of(reading.source, c.source)), None)
        if name is None or reading.flags or at - reading.stamp > LINK_S or key in COMPUTED or at > until:
            continue  # not written by a driver, but flagged, aged or computed; or too late for the display
        link, wire = links[name], wires.get(DEVICES.get(name, name), [])
        n = bisect_right(read[link], reading.stamp)
        if n < 2:
            continue
        before, began = read[link][n - 2 : n]
        made = [at for at in decoded[name][: bisect_right(decoded[name], reading.stamp)][-2:] if at >= began]
        if len(made) > 1:
            continue  # what was read had been published already: the driver said this of its own accord
        # The driver does not hear the frames of a bus that it has not asked for, so there the last one counts.
        last = bisect_right(wire, began) - 1
        first = last if link != name else min(bisect_right(wire, before), last)
        line = sentence.update(key, reading)
        handed = sent.first(line, reading.stamp)
        if handed is None:
            continue  # the same once more, or overtaken by a newer one
        shown = received.first(line, handed) or handed + LINK_S  # at least, if it was late
        origin = wire[first] if first >= 0 else None
        result[name].append(Way(origin, began, made[0] if made else None, reading.stamp, at, handed, shown))
    return result


def is_of(source: str, connection: str) -> bool:
    """Whether a connection with this source wrote it."""
    return source == connection or source.startswith(f"{connection}/")


def stages(found: Sequence[Way]) -> list[tuple[float, float] | None]:
    """Median and 99th percentile in ms of each step from a stage to the next that there is, and of the whole."""
    result: list[tuple[float, float] | None] = []
    for n in range(1, len(STAGES)):
        steps = []
        for way in found:
            since = next((at for at in reversed(way[:n]) if at is not None), None)
            until = way[n]
            if since is not None and until is not None:
                steps.append(until - since)
        result.append(_ms(steps))
    result.append(_ms([way.whole for way in found]))
    return result


def _ms(times: list[float]) -> tuple[float, float] | None:
    if len(times) < 10:
        return None
    median, most = percentiles(times)
    return median * 1e3, most * 1e3


def rows() -> Rows:
    for name, found in sorted(ways().items()):
        if (whole := stages(found)[-1]) is not None:
            yield f"latency: {name}, wire -> display: p50", whole[0], "ms", MEDIAN_MS, "lower"
            yield f"latency: {name}, wire -> display: p99", whole[1], "ms", MOST_MS, "lower"


def main() -> None:
    """Print the table."""
    print("| connection | values | " + " | ".join(f"→ {stage}" for stage in STAGES[1:]) + " | whole |")
    print("|---" * (len(STAGES) + 2) + "|")
    for name, found in sorted(ways().items()):
        cells = ("" if step is None else f"{step[0]:.2f} / {step[1]:.1f}" for step in stages(found))
        print(f"| `{name}` | {len(found)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
