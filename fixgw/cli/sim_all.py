"""``fixgw sim all``: the virtual instruments of one aircraft together, for anybody's gateway."""

from __future__ import annotations

import argparse
import fcntl
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw.cli import EXIT_DONE, complain, stop_on_signal
from fixgw.cli.sim import choose_scenario, end_of, print_event
from fixgw.errors import MissingLibrary, did_you_mean
from fixgw.net.access import address_of

if TYPE_CHECKING:
    from fixgw.hw_sim.can.segment import SimFrame
    from fixgw.hw_sim.scenario import Scenario
    from fixgw.hw_sim.world import World
    from fixgw.kit.raw import Heard
    from fixgw.recording.capture import CaptureWriter

#: The record of what was sent, in the directory.
RECORD = "sent.mcap"
#: With which a replay of the record reads it.
CONFIGURATION = b'include: "{CONFIG}/demo-everything.yaml"\n'
START_S = 1000.0  # of the record's clock
BATCH_S = 1.0


def known() -> tuple[str, ...]:
    """The names of all that there is, the defaults first."""
    from fixgw.hw_sim.devices import instruments

    return tuple(dict.fromkeys((*defaults(), "raw", "can1", *instruments())))


def defaults() -> tuple[str, ...]:
    """The names of the bus and the devices that there are by default: of each kind one."""
    from fixgw.hw_sim.devices import can_instruments, network_instruments
    from fixgw.hw_sim.everything import SERIAL

    return ("can0", "gps", "eis", *SERIAL, "autopilot", *can_instruments(), *network_instruments())


def run(args: argparse.Namespace) -> int:
    """Fly until the end of the scenario or `duration`, Ctrl-C or SIGTERM."""
    names = args.instruments or defaults()
    for name in names:
        if name not in known():
            return complain(f"no instrument {name!r}{did_you_mean(name, known())}")
    try:
        address_of(args.host)
    except ValueError:
        return complain(f"--host: {args.host!r} is not an address")
    scenario, problem = choose_scenario(args)
    if scenario is None:
        return complain(problem)
    directory = Path(args.dir).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return complain(f"cannot make {directory}: {error.strerror}")
    if not args.no_record and find_spec("mcap") is None:
        return complain(f"{MissingLibrary('mcap', 'record')}; or leave the record out with --no-record")
    with ExitStack() as stack:
        try:
            stack.enter_context(_alone_in(directory))
        except BlockingIOError:
            return complain(f"{directory} is in use by another `fixgw sim all`: stop that, or give another --dir")
        except OSError as error:
            return complain(f"{directory}: {error.strerror}")
        over = stack.enter_context(stop_on_signal())
        return _fly(args, scenario, directory, names, over)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep others out of `directory`. The lock ends with the process, and leaves no file. Raises BlockingIOError if
    somebody is in there, and OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(fd)


def _fly(
    args: argparse.Namespace, scenario: Scenario, directory: Path, names: Collection[str], over: threading.Event
) -> int:
    from fixgw.hw_sim.everything import assemble
    from fixgw.hw_sim.wiring import Noting, Wiring

    record, file = Record(), directory / RECORD
    wiring = Wiring(directory, args.host, stepped=True) if args.no_record else Noting(directory, record.note, args.host)
    try:
        devices = [name for name in names if name != "can0"]
        world = assemble(wiring, scenario, devices, print_event, bus="can0" in names)
    except OSError as error:
        return complain(f"{error.filename2 or error.filename or args.host}: {error.strerror}")
    world.duration = end_of(scenario, args)
    try:
        if not args.no_record:
            record.open(file, world, directory, args.host)
        print(_describe(world, directory, names, scenario), flush=True)
        world.over = over
        world.start()
        over.wait()
    except OSError as error:
        return complain(f"{error.filename or file}: {error.strerror}")
    finally:
        world.stop()
        record.close()
    if record.trouble:
        return complain(f"{world.now:.1f} s flown; {file}: {record.trouble}")
    words = "" if args.no_record else f"; what was sent is in {file}: fixgw replay {file}"
    print(f"{world.now:.1f} s flown{words}", flush=True)
    return EXIT_DONE


def _describe(world: World, directory: Path, names: Collection[str], scenario: Scenario) -> str:
    there: dict[str, str] = {}
    if "can0" in names:
        nodes = ", ".join(scenario.nodes)
        there["can0"] = f"slcan adapter, {scenario.bit_rate // 1000} kbit/s, with the CAN-FIX nodes {nodes}"
    for name, device in world.named.items():
        where, what = _describe_one(name, getattr(device, "device", device))
        there[where] = what
    width = max(map(len, there))
    lines = [scenario.description] if scenario.description else []
    lines.append(f"The instruments of one aircraft, in {directory}:")
    return "\n".join([*lines, *(f"  {w:{width}}  {what}" for w, what in there.items()), "Press Ctrl-C to stop."])


def _describe_one(name: str, device: Any) -> tuple[str, str]:
    """Where a device is, and what."""
    from fixgw.hw_sim.can.instrument import CanInstrument
    from fixgw.hw_sim.network import NetworkInstrument
    from fixgw.hw_sim.serial import SerialInstrument

    if isinstance(device, SerialInstrument):
        return name, f"{device.baud} baud, {device.WHAT}"
    if isinstance(device, CanInstrument):
        return name, f"slcan adapter, {device.BITRATE // 1000} kbit/s, with one instrument"
    if isinstance(device, NetworkInstrument):
        to = f"; sends to {device.output[0]} port {device.output[1]}" if device.output else ""
        return f"udp://{device.host}:{device.port}", f"{name}, {device.WHAT}{to}"
    return name, "slcan adapter on a bus of its own" if name == "can1" else "listens to NMEA 0183"


class Record:
    """What the instruments send and get, as a capture. One thread."""

    def __init__(self) -> None:
        self._entries: list[Heard] = []
        self._noted: list[tuple[str, bool, bytes | SimFrame | str]] = []  # before it is open
        #: Why the record is not complete; empty if it is.
        self.trouble = ""
        self._writer: CaptureWriter | None = None
        self._world: World | None = None
        self._buses: dict[str, str] = {}
        self._bauds: dict[str, int] = {}
        self._written_at = 0.0

    def open(self, file: Path, world: World, directory: Path, host: str) -> None:
        """Begin, in place of an older record. Raises OSError."""
        from fixgw.hw_sim.can.instrument import CanInstrument
        from fixgw.recording.capture import CaptureWriter

        file.unlink(missing_ok=True)
        file.with_name(f"{file.name}.part").unlink(missing_ok=True)
        self._world = world
        devices = {name: getattr(device, "device", device) for name, device in world.named.items()}
        buses = ["can0", "can1", *(name for name, device in devices.items() if isinstance(device, CanInstrument))]
        self._buses = {name: f"slcan {directory / name}" for name in buses}
        self._bauds = {name: device.baud for name, device in devices.items() if hasattr(device, "baud")}
        self._writer = CaptureWriter(
            file,
            {"default.yaml": CONFIGURATION},
            START_S,
            {"made by": "fixgw sim all"},
            offset=world.aircraft.time.timestamp() - START_S,
            variables={"SIM": str(directory), "GPS": "sim/gps", "HOST": host},
        )
        for noted in self._noted:
            self.note(*noted)
        self._noted.clear()

    def note(self, name: str, sent: bool, data: bytes | SimFrame | str) -> None:
        """Note what a device has sent, or else got."""
        from fixgw.kit.raw import Heard

        world = self._world
        if world is None:
            self._noted.append((name, sent, data))
            return
        link = self._buses.get(name, name)
        if self._entries and world.now - self._written_at >= BATCH_S:
            self._write()
        self._entries.append(Heard(link, START_S + world.now, "in" if sent else "out", self._convert(name, data)))

    def _convert(self, name: str, data: bytes | SimFrame | str) -> Any:
        from fixgw.kit.raw import Event
        from fixgw.recording.raw import CanFrame

        assert self._world is not None
        if isinstance(data, bytes):
            return data
        if isinstance(data, str):
            kind = "can" if name in self._buses else "serial"
            return Event(kind, "lost", data) if data else Event(kind, "opened", str(self._bauds.get(name, "")))
        flags = 0x80000000 * data.extended | 0x40000000 * data.remote | 0x04 * data.fd | 0x01 * data.brs
        return [CanFrame(data.arbitration_id, data.data, flags, START_S + self._world.now)]

    def _write(self) -> None:
        assert self._world is not None
        entries, self._entries, self._written_at = self._entries, [], self._world.now
        if self._writer is not None:
            try:
                self._writer.write(entries)
            except OSError as error:  # the instruments go on
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.trouble = f"the record is not complete: {error.strerror}"
        self._writer = None

    def close(self) -> None:
        """Complete it."""
        if self._writer is not None:
            self._write()
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._fail(error)
