"""sim serial: each virtual instrument on its own port."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixgw import database
from fixgw.database import Database
from fixgw.drivers import eis
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.datagrams import whole
from fixgw.hw_sim.devices import instruments, network_instruments

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Result

    Child = Callable[..., Result]
    Cli = Callable[..., Result]
    Started = Callable[..., subprocess.Popen[str]]


SENDERS = [name for name, kind in instruments().items() if kind.UDP_PORT]
#: How each datagram begins and ends.
ENDS = {
    "gps": (b"$GP", b"\r\n"),
    "ifly": (b"$GP", b"\r\n"),
    "mavlink": (b"\xfd", b""),
    "navigator": (b"$GP", b"\r\n"),
    "stratux": (b"\x7e", b"\x7e"),
    "xgps": (b"X", b"\n"),
}


class Line:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        """Nothing is open."""


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def db() -> Iterator[Database]:
    """The packaged database, ageing, and bound as in a gateway."""
    made = packaged_database()
    before = database.current()
    database.bind(made)
    made.start()
    yield made
    made.stop()
    database.bind(before)


def test_without_a_name_it_lists_the_instruments(cli: Cli) -> None:
    code, out, err = cli("sim", "serial")
    assert (code, err) == (0, "")
    lines = [re.fullmatch(r"(\S+) +(\d+) baud  (\S.*\S)", line) for line in out.splitlines()]
    assert [line and line[1] for line in lines] == list(instruments())
    assert "eis          9600 baud  Grand Rapids EIS 4000/6000 engine monitor" in out


@pytest.mark.parametrize("name", instruments())
def test_each_instrument_runs_and_describes_itself(name: str, child: Child, tmp_path: Path) -> None:
    kind = instruments()[name]
    assert name == kind.NAME
    assert kind.WHAT
    path = tmp_path / "port"
    code, out, err = child("sim", "serial", name, "--pty", str(path), "--duration", "0.1")
    assert (code, err) == (0, "")
    assert out.startswith(f"{name} at {path}, {kind.BAUD} baud, 8N1\n")
    assert re.search(r"^\d+ rounds, 0 bytes read, \d+ bytes not read$", out, re.MULTILINE)
    assert not path.is_symlink()


def test_a_driver_reads_it(db: Database, started: Started, tmp_path: Path) -> None:
    path = tmp_path / "eis"
    process = started("sim", "serial", "eis", "--pty", str(path))
    assert line_of(process) == f"eis at {path}, 9600 baud, 8N1\n"
    driver = eis.Plugin("eis", {"port": str(path)})
    driver.start()
    try:
        assert wait_for(lambda: db.read("TACH1").good and db.read("EGT14").good)
        assert 500 < float(db.read("TACH1").value) < 3000
    finally:
        driver.shutdown()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    read = re.search(r"(\d+) bytes read", out)
    assert read is not None
    assert int(read[1]) > 0
    assert list(tmp_path.glob("eis*")) == []


def test_without_a_path_it_uses_a_temporary_one_and_removes_it(started: Started, tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    process = started("sim", "serial", "shadin", TMPDIR=str(place))
    port = re.fullmatch(rf"shadin at ({place}/\S+), 9600 baud, 8N1\n", line_of(process))
    assert port is not None
    with open(port[1], "rb") as file:
        assert file.read(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert list(place.iterdir()) == []


def test_the_baud_rate_can_be_given(child: Child, tmp_path: Path) -> None:
    code, out, _ = child("sim", "serial", "gps", "--pty", str(tmp_path / "gps"), "--baud", "38400", "--duration", "0.1")
    assert code == 0
    assert "38400 baud" in out


def test_a_scenario_can_unplug_it_and_plug_it_in_again(started: Started, tmp_path: Path) -> None:
    path, file = tmp_path / "gps", tmp_path / "loose.yaml"
    file.write_text("duration: 2\nevents: [{at: 0.5, instrument: gps, fault: unplug, for: 1}]\n")
    process = started("sim", "serial", "gps", "--pty", str(path), "--scenario", str(file))
    line_of(process)
    assert path.is_symlink()
    assert wait_for(lambda: not path.is_symlink())
    assert wait_for(path.is_symlink)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    told = re.findall(r"^ +(\d\.\d\d) s +.*gps.*unplug", out, re.MULTILINE)
    assert [float(at) for at in told] == [pytest.approx(0.5, abs=0.1), pytest.approx(1.5, abs=0.1)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["eiss"], "no instrument 'eiss' (did you mean 'eis'?)"),
        (["eis", "--baud", "0"], "--baud: 0 is not a baud rate"),
        (["eis", "--pty", "/no/such/place"], "cannot create /no/such/place: No such file or directory"),
    ],
)
def test_wrong_arguments_are_reported_in_one_sentence(cli: Cli, arguments: list[str], sentence: str) -> None:
    assert cli("sim", "serial", *arguments) == (1, "", f"fixgw: {sentence}\n")


def test_a_custom_instrument_runs_too(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert cli("new", "driver", "sim_own").code == 0
    for name in ("sim_own", "sim_own.simulator"):
        code, out, err = cli("sim", "serial", name, "--duration", "0.1")
        assert (code, err) == (0, "")
        assert re.match(r"sim_own at .+, 19200 baud, 8N1\n", out)
    Path("sim_none.py").write_text("x = 1\n")
    words = (
        "fixgw: sim_none: LookupError: sim_none has 0 classes with a NAME that are SerialInstrument, instead of one\n"
    )
    assert cli("sim", "serial", "sim_none") == (1, "", words)
    Path("sim_odd.py").write_text("import sim_gone\n")
    assert cli("sim", "serial", "sim_odd") == (1, "", "fixgw: sim_odd: No module named 'sim_gone'\n")


def test_an_unknown_scenario_is_reported_in_one_sentence(cli: Cli) -> None:
    code, out, err = cli("sim", "serial", "eis", "--scenario", "nosuch")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"fixgw: no scenario 'nosuch': give a file, or one of .*misbehaving.*\n", err)


def test_a_flight_model_that_is_not_installed_is_reported(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.cli.sim.find_spec", lambda name: None)
    (tmp_path / "other.yaml").write_text("flight: {model: jsbsim}\n")
    words = "fixgw: the flight model needs the library JSBSim: pip install JSBSim (x86-64 only)\n"
    assert cli("sim", "serial", "eis", "--scenario", str(tmp_path / "other.yaml")) == (1, "", words)
    assert cli("sim", "network", "fgfs", "--model", "jsbsim", "--port", "0") == (1, "", words)


def test_an_existing_file_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("mine")
    assert cli("sim", "serial", "eis", "--pty", str(file)) == (1, "", f"fixgw: cannot create {file}: File exists\n")
    assert file.read_text() == "mine"


def test_programs_on_the_network_are_listed(cli: Cli) -> None:
    code, out, _ = cli("sim", "network")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*network_instruments(), *SENDERS]


def test_instruments_send_datagrams_to_anybody(child: Child) -> None:
    """Each frame is a datagram of its own; whoever has the address needs no gateway."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tablet:
        tablet.bind(("127.255.255.255", 0))  # a broadcast on this computer
        tablet.settimeout(10.0)
        to = f"127.255.255.255:{tablet.getsockname()[1]}"
        code, out, err = child("sim", "network", "stratux", "--to", to, "--duration", "0.3")
        assert (code, err) == (0, "")
        assert f"stratux sends to udp://{to}" in out
        first = tablet.recv(1000)
    assert first[0] == first[-1] == 0x7E
    assert 0x7E not in first[1:-1]


def test_several_programs_share_a_bus(child: Child, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("left", "right")]
    arguments = [word for path in paths for word in ("--slcan", path)]
    code, out, err = child("sim", "can", *arguments, "--instrument", "rdac", "--duration", "0.5")
    assert (code, err) == (0, "")
    assert [line.split()[-3].rstrip(",") for line in out.splitlines() if "adapter" in line] == paths
    assert int(out.splitlines()[-1].split()[0]) >= 7
    assert not any(map(Path.exists, map(Path, paths)))


def test_an_unknown_instrument_for_a_bus_is_reported(cli: Cli) -> None:
    code, _, err = cli("sim", "can", "--slcan", "x", "--instrument", "rdca")
    assert (code, err) == (1, "fixgw: no instrument 'rdca' (did you mean 'rdac'?)\n")


@pytest.mark.parametrize(("name", "begin", "end"), [(n, *ENDS[n]) for n in ENDS])
def test_each_datagram_is_a_whole_message(name: str, begin: bytes, end: bytes) -> None:
    line = Line()
    aircraft = Aircraft(datetime(2025, 7, 21, 15, tzinfo=UTC), turbulence=0.0)
    instrument = whole(instruments()[name])(line)
    for tick in range(40):
        aircraft.step(0.025)
        instrument.tick(aircraft, tick * 0.025)
    assert len(line.sent) > 1
    assert all(data.startswith(begin) and data.endswith(end) for data in line.sent)
    assert set(ENDS) == set(SENDERS)


@pytest.mark.parametrize("name", network_instruments())
def test_each_program_runs(name: str, child: Child) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        to = f"127.0.0.1:{receiver.getsockname()[1]}"
        code, out, err = child("sim", "network", name, "--port", "0", "--to", to, "--duration", "0.3")
        assert (code, err) == (0, "")
        assert receiver.recv(4096, socket.MSG_DONTWAIT)
    assert out.startswith(f"{name} at 127.0.0.1 port ")
    assert re.search(r"^[1-9]\d* datagrams sent, 0 received$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["xplaen"], 1, "no program 'xplaen' (did you mean 'xplane'?)"),
        (["xplane", "--to", "there"], 2, "--to: 'there': no port: write HOST:PORT"),
        (["xplane", "--port", "99999"], 1, "cannot receive at 127.0.0.1 port 99999"),
    ],
)
def test_wrong_arguments_for_a_program_are_reported(cli: Cli, arguments: list[str], code: int, sentence: str) -> None:
    result = cli("sim", "network", *arguments)
    assert result.code == code
    assert sentence in result.err


def test_the_demonstration_does_not_fly_unrecorded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixgw.cli.demo.find_spec", lambda name: None)
    code, out, err = cli("demo", "--record", "--port", "0")
    assert (code, out) == (1, "")
    assert err.startswith("fixgw: mcap is not installed: ")
