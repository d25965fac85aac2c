"""Makes the captures in this folder from the virtual devices, and their outcomes.

    python tests/golden/make.py             # those that are missing
    python tests/golden/make.py eis gpio    # these, anew

The capture of a device that is only read is what the virtual device sends. Chips and pins are also written to, so
their drivers run here, with the virtual chips and on a clock that this script winds, and a recorder on the raw tap.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from fixgw import loader, state
from fixgw.database import Database
from fixgw.drivers.links.can.frame import EXTENDED
from fixgw.hw_sim import gpio, i2c, spi
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench import golden
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.can import devices as nodes
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.devices.ads1115 import Ads1115
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.devices.bno055 import Bno055
from fixgw.hw_sim.devices.dynon_d10 import D10
from fixgw.hw_sim.devices.eis import Eis
from fixgw.hw_sim.devices.fgfs import Fgfs
from fixgw.hw_sim.devices.g3x import G3x, Gnx
from fixgw.hw_sim.devices.gpsd import Gpsd
from fixgw.hw_sim.devices.ifly import Ifly
from fixgw.hw_sim.devices.lines import READ_WITH, Arduino
from fixgw.hw_sim.devices.mavlink import MavlinkAutopilot
from fixgw.hw_sim.devices.mcp3008 import Mcp3008
from fixgw.hw_sim.devices.megasquirt import Megasquirt
from fixgw.hw_sim.devices.mgl_rdac import Rdac
from fixgw.hw_sim.devices.mgl_serial import Tp3
from fixgw.hw_sim.devices.nmea0183 import Gps, Navigator
from fixgw.hw_sim.devices.shadin import Shadin
from fixgw.hw_sim.devices.skyview import SkyView
from fixgw.hw_sim.devices.stratux import Stratux
from fixgw.hw_sim.devices.strompi import StromPi
from fixgw.hw_sim.devices.tyres import DECODER, IDS, Tyres
from fixgw.hw_sim.devices.x728 import X728
from fixgw.hw_sim.devices.xgps import Xgps
from fixgw.hw_sim.devices.xplane import Xplane
from fixgw.hw_sim.network import NetworkInstrument
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.serial import SerialInstrument
from fixgw.kit import raw
from fixgw.kit.raw import Event, Heard
from fixgw.plugin import Worker
from fixgw.recording.capture import open_capture, write_capture
from fixgw.recording.raw import CanFrame
from fixgw.world import World

HERE = Path(__file__).parent
START_S = 1000.0
SECONDS = 4.0
#: The link is lost, and opened again, in seconds from the start.
LOST_S, BACK_S = 2.5, 3.0
STEP_S = 0.02
#: The date of the captures: UTC less the monotonic clock.
OFFSET = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp() - START_S

#: What is wired to the converters.
SENDERS: list[dict[str, Any]] = [
    {"input": 0, "key": "OILP1", "curve": {"linear": {"factor": 50.0}}},
    {"input": 1, "key": "VOLT", "curve": {"linear": {"factor": 10.0}}},
]

Connections = dict[str, dict[str, Any]]
Capture = tuple[Connections, list[Heard]]


def aircraft() -> Aircraft:
    """A minute after the take-off."""
    made = Aircraft(datetime(2026, 11, 1, 12, tzinfo=UTC), turbulence=0.3)
    for _ in range(600):
        made.step(0.1)
    return made


def with_senders(converter: Any) -> Any:
    converter.senders += (lambda a: float(a.values()["OILP1"]) / 50.0, lambda a: float(a.values()["VOLT"]) / 10.0)
    return converter


# -- serial lines ------------------------------------------------------------------------------------------------------


class Wire:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def read(self) -> bytes:
        return b""

    def close(self) -> None: ...


def talk(name: str, make: Callable[[Any], SerialInstrument], seconds: float = SECONDS) -> Iterator[Heard]:
    """What an instrument sends, with garbage in between, and with an outage."""
    wire, flying = Wire(), aircraft()
    device = make(wire)
    yield Heard(name, START_S, "in", Event("serial", "opened", str(device.BAUD)))
    lost = False
    for n in range(round(seconds / STEP_S)):
        now = START_S + n * STEP_S
        flying.step(STEP_S)
        device.tick(flying, now)
        data, wire.data = wire.data, b""
        if LOST_S <= now - START_S < BACK_S:
            if not lost:
                lost = True
                yield Heard(name, now, "in", Event("serial", "lost", "/dev/ttyUSB0 went away"))
            continue
        if lost:
            lost = False
            yield Heard(name, now, "in", Event("serial", "opened", str(device.BAUD)))
        if n == 60:
            data = data[: len(data) // 2] + b"\x00\xff~$" + data[len(data) // 2 + 3 :]
        if data:
            yield Heard(name, round(now + 0.0031, 6), "in", data)


def serial(driver: str, make: Callable[[Any], SerialInstrument], **options: Any) -> Callable[[], Capture]:
    def capture() -> Capture:
        section = {"module": f"fixgw.drivers.{driver}", "port": "/dev/ttyUSB0", **options}
        return {driver: section}, list(talk(driver, make))

    return capture


def receiver(name: str) -> Callable[[], Capture]:
    """What a real receiver sent."""

    def capture() -> Capture:
        with closing(open_capture(HERE.parent / f"captures/nmea0183/{name}.log", "gps")) as log:
            entries = [entry for entry in log.entries() if isinstance(entry, Heard)]
        return {"gps": {"module": "fixgw.drivers.nmea0183", "port": "/dev/ttyUSB0"}}, entries

    return capture


def watched_gpsd(wire: Wire) -> Gpsd:
    made = Gpsd(wire)
    made.watched = True
    return made


def strompi() -> Capture:
    board = StromPi.__new__(StromPi)
    StromPi.__init__(board, Wire())  # type: ignore[arg-type]
    entries = [Heard("strompi", START_S, "in", Event("serial", "opened", "38400"))]
    for n in range(4):
        board.battery, board.charging = n >= 2, n < 2
        entries.append(Heard("strompi", START_S + 0.5 + 2.0 * n, "in", board.report()))
    return {"strompi": {"module": "fixgw.drivers.strompi", "port": "/dev/ttyUSB0"}}, entries


def tyres() -> Capture:
    sensors = [
        {
            "sensor_id": ident,
            "decoder": DECODER,
            "mappings": {
                f"TIREP{wheel}": {"source": "pressure_kPa", "scale": 0.1450377},
                f"TIREB{wheel}": {"source": "battery_ok", "type": "bool"},
            },
        }
        for wheel, ident in enumerate(IDS, 1)
    ]
    return {"rtl_433": {"module": "fixgw.drivers.rtl_433", "sensors": sensors}}, list(talk("rtl_433", Tyres))


def nmea_out() -> Capture:
    section = {"module": "fixgw.drivers.nmea0183_out", "port": "/dev/ttyUSB1", "simulated": True}
    gps = {"module": "fixgw.drivers.nmea0183", "port": "/dev/ttyUSB0"}
    entries = [*talk("gps", Navigator), Heard("autopilot", START_S, "in", Event("serial", "opened", "4800"))]
    return {"gps": gps, "autopilot": section}, sorted(entries, key=lambda heard: heard.stamp)


# -- datagrams ---------------------------------------------------------------------------------------------------------


def exchange(name: str, program: NetworkInstrument, requests: Callable[[], list[bytes]] = list) -> Iterator[Heard]:
    """What a program sends that got `requests`, with garbage in between, and with a silence."""
    flying, sent = aircraft(), list[bytes]()
    program.send = lambda data, to: sent.append(data)  # type: ignore[method-assign]
    yield Heard(name, START_S, "in", Event("serial", "opened"))
    for request in requests():
        program.take(request, ("127.0.0.1", 1))  # type: ignore[attr-defined]
    for n in range(round(SECONDS / STEP_S)):
        now = START_S + n * STEP_S
        flying.step(STEP_S)
        program.tick(flying, now)
        if not LOST_S <= now - START_S < BACK_S:
            for data in sent:
                yield Heard(name, round(now + 0.0031, 6), "in", data[:-3] if n in range(60, 70) else data)
        sent.clear()
    program.close()


def xplane() -> Capture:
    section: dict[str, Any] = {
        "module": "fixgw.drivers.xplane",
        "position": True,
        "rate": 4,
        "read": {
            "IAS": "sim/cockpit2/gauges/indicators/airspeed_kts_pilot",
            "TACH1": "sim/cockpit2/engine/indicators/engine_speed_rpm[0]",
        },
        "idx26": "DIM",
    }

    options = {name: value for name, value in section.items() if name != "module"}

    def requests() -> list[bytes]:
        with World(packaged_database()).hosting(), state.detached():
            plugin: Any = loader.load_plugin("fixgw.drivers.xplane")("xplane", options)
        due: list[bytes] = plugin.protocol().due()
        return due

    return {"xplane": section}, list(exchange("xplane", Xplane(port=0), requests))


def fgfs() -> Capture:
    program = Fgfs(port=0)
    program.RATE_HZ = 5.0
    program.send_to(("127.0.0.1", 1))
    return {"fgfs": {"module": "fixgw.drivers.fgfs", "rate": 2.0}}, list(exchange("fgfs", program))


# -- CAN ---------------------------------------------------------------------------------------------------------------


def bus(name: str, frames: Callable[[Aircraft, float], list[SimFrame]], period_s: float = 0.02) -> Iterator[Heard]:
    flying = aircraft()
    yield Heard(name, START_S, "in", Event("can", "opened", "250000"))
    lost = False
    for n in range(round(SECONDS / period_s)):
        now = START_S + n * period_s
        flying.step(period_s)
        sent = frames(flying, now)
        if LOST_S <= now - START_S < BACK_S:
            if not lost:
                lost = True
                yield Heard(name, now, "in", Event("can", "lost", "the interface is down"))
            continue
        if lost:
            lost = False
            yield Heard(name, now, "in", Event("can", "opened", "250000"))
        if sent:
            plain = [CanFrame(f.arbitration_id, f.data, EXTENDED * f.extended, round(now, 6)) for f in sent]
            yield Heard(name, round(now + 0.0007, 6), "in", plain)


def can_instrument(driver: str, kind: Any, **options: Any) -> Callable[[], Capture]:
    def capture() -> Capture:
        with Segment() as segment:
            device = kind(segment)
            entries = list(bus("socketcan can0", lambda flying, now: device.frames(flying, now), 0.2))
        return {driver: {"module": f"fixgw.drivers.{driver}", **options}}, entries

    return capture


def canfix() -> Capture:
    sending = [nodes.AirData(), nodes.Engine(), nodes.Gps()]

    def frames(flying: Aircraft, now: float) -> list[SimFrame]:
        view = nodes.look(flying)
        return [frame for node in sending for frame in node.due(now, view)]

    return {"canfix": {"module": "fixgw.drivers.canfix"}}, list(bus("socketcan can0", frames))


def can_bridge() -> Capture:
    with Segment() as segment:
        device = Rdac(segment)
        entries = list(bus("socketcan can0", lambda flying, now: device.frames(flying, now), 0.2))
    far = {"channel": "can1"}
    bridge = {
        "module": "fixgw.drivers.can_bridge",
        "buses": {"near": {"channel": "can0"}, "far": far},
        "routes": [{"from": "near", "to": "far", "ids": ["base"]}],
    }
    rdac = {"module": "fixgw.drivers.mgl_rdac", **far}
    opened = Heard("socketcan can1", START_S, "in", Event("can", "opened"))
    return {"bridge": bridge, "rdac": rdac}, [opened, *entries]


# -- chips and pins, with their drivers --------------------------------------------------------------------------------


@contextmanager
def running(
    driver: str, options: dict[str, Any], note: Callable[[Database], object] = lambda db: None
) -> Iterator[tuple[Clock, list[Heard], Callable[[], None]]]:
    """The driver on a wound clock, the list that gets what its links pass on, and what gives it its turn.

    `note` is called with its database before it starts.
    """
    clock, heard = Clock(), list[Heard]()
    workers: list[Worker[Any]] = []
    clock.now = START_S
    db = packaged_database(clock)
    with World(db, clock=clock, adopt=workers.append).hosting(), state.detached():
        plugin: Any = loader.load_plugin(f"fixgw.drivers.{driver}")(driver, options)
    db.write("BARO", 29.92, "test")
    raw.listen(db, lambda *entry: heard.append(Heard(*entry)), logging.getLogger("golden"))
    note(db)
    plugin.pause = time.sleep  # the virtual chips take their time
    plugin.start()

    def turn() -> None:
        for worker in workers:
            worker.turn()

    yield clock, heard, turn
    plugin.shutdown()


def run_chip(
    driver: str,
    make: Callable[[], Any],
    options: dict[str, Any],
    note: Callable[[Database], object] = lambda db: None,
) -> list[Heard]:
    """Run a driver with a virtual chip that goes away and comes back."""
    device, flying, address = make(), aircraft(), options["address"]
    i2c.bus(90).attach(address, device)
    device.power_up()
    virtual: dict[str, Any] = {"library": "fixgw.hw_sim.i2c", "bus": 90}
    if driver == "ups_x728":
        virtual["pins"] = "fixgw.hw_sim.gpio"
        gpio.BANK.reset()
    with running(driver, {**options, **virtual}, note) as (clock, heard, turn):
        for n in range(round(SECONDS / STEP_S)):
            clock.now = START_S + n * STEP_S
            flying.step(STEP_S)
            device.tick(flying, clock.now)
            if n == round(LOST_S / STEP_S):
                i2c.bus(90).unplug(address)
            if n == round(BACK_S / STEP_S):
                i2c.bus(90).plug(address)
            if driver == "ups_x728" and n == 60:
                gpio.BANK.drive(6, True)
            turn()
        entries = list(heard)
    i2c.bus(90).detach(address)
    return entries


def chip(driver: str, make: Callable[[], Any], address: int, **options: Any) -> Callable[[], Capture]:
    real = {"address": address, "rate": 10.0, **options}
    return lambda: ({driver: {"module": f"fixgw.drivers.{driver}", **real}}, run_chip(driver, make, real))


def mcp3008() -> Capture:
    device, flying = with_senders(Mcp3008()), aircraft()
    spi.attach(90, 0, device)
    real = {"channels": SENDERS, "rate": 10.0}
    with running("spi_mcp3008", {**real, "library": "fixgw.hw_sim.spi", "bus": 90}) as (clock, heard, turn):
        for n in range(round(SECONDS / STEP_S)):
            clock.now = START_S + n * STEP_S
            flying.step(STEP_S)
            device.tick(flying, clock.now)
            if n == round(LOST_S / STEP_S):
                spi.unplug(90, 0)
            if n == round(BACK_S / STEP_S):
                spi.attach(90, 0, device)
            turn()
        entries = list(heard)
    return {"spi_mcp3008": {"module": "fixgw.drivers.spi_mcp3008", **real}}, entries


def pins() -> Capture:
    gpio.BANK.reset()
    panel, flying = Panel(), aircraft()
    options = {
        "pulses": [{"pin": 4, "key": "FUELF1", "pulses": 29000, "per": "gallon", "window": 2}],
        "buttons": [{"pin": 17, "key": "BTN33"}],
        "encoders": [{"a": 5, "b": 6, "key": "ENC3"}],
        "outputs": [{"pin": 20, "when": "OILP1 < 25"}],
        "dimmers": [{"pin": 18, "key": "DIM"}],
    }
    with running("gpio", {**options, "library": "fixgw.hw_sim.gpio"}) as (clock, heard, turn):
        turn()
        for n in range(round(SECONDS / STEP_S)):
            clock.now = START_S + n * STEP_S
            flying.step(STEP_S)
            if n == 20:
                panel.turn(0, 3)
            if n in (50, 70):
                panel.press(0, n == 50)
            panel.tick(flying, clock.now)
            gpio.BANK.flush()
            if n == round(LOST_S / STEP_S):
                gpio.BANK.unplug()
            if n == round(BACK_S / STEP_S):
                gpio.BANK.plug()
            turn()
        entries = list(heard)
    gpio.BANK.reset()
    return {"gpio": {"module": "fixgw.drivers.gpio", **options}}, entries


#: The drivers, and what makes a capture for each.
CAPTURES: dict[str, Callable[[], Capture]] = {
    "can_bridge": can_bridge,
    "canfix": canfix,
    "dynon_d10": serial("dynon_d10", D10, stall_angle=18.0),
    "eis": serial("eis", Eis),
    "fgfs": fgfs,
    "g3x": serial("g3x", partial(G3x, gps=True)),
    "garmin_gnx375": serial("garmin_gnx375", Gnx),
    "gpio": pins,
    "gpsd": serial("gpsd", watched_gpsd, port=2947),
    "i2c_ads1115": chip("i2c_ads1115", lambda: with_senders(Ads1115()), 0x48, conversions=860, channels=SENDERS),
    "i2c_bmp": chip("i2c_bmp", Bmp280, 0x77),
    "i2c_bno055": chip("i2c_bno055", Bno055, 0x28),
    "ifly": serial("ifly", Ifly, port=2000),
    "lines": serial("lines", Arduino, **READ_WITH),
    "mavlink": serial("mavlink", MavlinkAutopilot),
    "megasquirt": can_instrument("megasquirt", Megasquirt, probes=4),
    "mgl_rdac": can_instrument("mgl_rdac", Rdac),
    "mgl_serial": serial("mgl_serial", Tp3, keys={"input1": "OILP1", "input2": "OILT1", "input3": "VOLT"}),
    "nmea0183": serial("nmea0183", Gps),
    "nmea0183-bu353s4": receiver("bu353s4"),
    "nmea0183_out": nmea_out,
    "rtl_433": tyres,
    "shadin": serial("shadin", partial(Shadin, format="G")),
    "skyview": serial("skyview", SkyView, inputs={12: "H2OT1"}),
    "spi_mcp3008": mcp3008,
    "stratux": serial("stratux", Stratux),
    "strompi": strompi,
    "xplane": xplane,
    "xgps": serial("xgps", Xgps),
    "ups_x728": chip("ups_x728", X728, 0x36),
}


def make(name: str, directory: Path = HERE) -> None:
    """Make the capture of one driver, and its outcome."""
    path = directory / f"{name}.mcap"
    path.unlink(missing_ok=True)
    connections, entries = CAPTURES[name]()
    # The database and all else are those of the packaged configuration.
    main = yaml.safe_dump({"connections": connections}, sort_keys=False).encode()
    write_capture(path, entries, {"default.yaml": main}, START_S, {"made by": "tests/golden/make.py"}, offset=OFFSET)
    golden.check(path, update=True)
    print(f"{name}: {path.stat().st_size} bytes, {len(entries)} entries")  # noqa: T201


def main() -> None:
    for name in sys.argv[1:] or [name for name in CAPTURES if not (HERE / f"{name}.mcap").exists()]:
        make(name)


if __name__ == "__main__":
    main()
