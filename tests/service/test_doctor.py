"""The doctor: devices, permissions and the state of the machine, on computers made of files."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fixgw import doctor, state
from fixgw.clock import EARLIEST_YEAR
from fixgw.configuration import Configuration, Connection
from fixgw.doctor import NO_INSTRUMENT, Machine, Result, Who, examine, look_at, user
from fixgw.drivers.canfix import CanfixOptions
from fixgw.drivers.canfix import Plugin as Canfix
from fixgw.drivers.links.can.bus import CanPlugin
from fixgw.drivers.links.can.port import BusOptions
from fixgw.drivers.links.serial import SerialOptions, SerialPoller
from fixgw.errors import FixgwError, Refused
from fixgw.plugin import Device, Feeds, Finding, PluginBase

PILOT = Who("pilot", 1000, frozenset([1000, 54321]))
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Tree:
    """A computer made of files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(root, lambda: NOON)

    def write(self, path: str, text: str = "") -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def device(self, path: str, mode: int, uid: int = 0, gid: int = 0) -> Path:
        file = self.write(path)
        file.chmod(mode)
        if os.geteuid() == 0:
            os.chown(file, uid, gid)
        return file


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def about(results: Iterator[Result], what: str) -> list[Finding]:
    return [finding for name, finding in results if name == what]


def machine_says(tree: Tree, what: str) -> list[Finding]:
    return about(doctor._machine(tree.machine, None), what)


# -- devices -----------------------------------------------------------------------------------------------------------


def test_a_missing_device_is_reported_with_alternatives_and_a_fix(tree: Tree) -> None:
    tree.write("/dev/ttyACM0")
    found = look_at(Device("/dev/ttyUSB0", "dialout"), tree.machine, PILOT)
    assert found == ("problem", "there is no /dev/ttyUSB0; there is /dev/ttyACM0", "")
    found = look_at(Device("/dev/i2c-1", "i2c", "sudo raspi-config nonint do_i2c 0"), tree.machine, PILOT)
    assert found == ("problem", "there is no /dev/i2c-1", "sudo raspi-config nonint do_i2c 0")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "permitted"),
    [
        (0o660, 0, 54321, True),
        (0o660, 0, 12345, False),
        (0o640, 0, 54321, False),
        (0o666, 0, 0, True),
        (0o600, 1000, 0, True),
        (0o066, 1000, 54321, False),
        (0o600, 0, 0, False),
        (0o777, 0, 0, True),
    ],
)
def test_the_mode_of_a_device_determines_its_users(tree: Tree, mode: int, uid: int, gid: int, permitted: bool) -> None:
    tree.device("/dev/spidev0.0", mode, uid, gid)
    found = look_at(Device("/dev/spidev0.0", "spi"), tree.machine, PILOT)
    assert (found.level == "ok") is permitted
    assert look_at(Device("/dev/spidev0.0"), tree.machine, Who("root", 0, frozenset([0]))).level == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_a_missing_permission_comes_with_the_command_that_grants_it(tree: Tree) -> None:
    for mode in (0o660, 0o661):
        tree.device("/dev/ttyUSB0", mode, 0, grp.getgrnam("dialout").gr_gid)
        found = look_at(Device("/dev/ttyUSB0", "dialout"), tree.machine, PILOT)
        assert found.level == "problem"
        assert "pilot may not read and write it" in found.message
        assert found.fix.startswith("sudo usermod -aG dialout pilot")
    tree.device("/dev/spidev0.0", 0o600)
    found = look_at(Device("/dev/spidev0.0", "spi"), tree.machine, PILOT)
    assert found.fix.startswith("sudo chgrp spi /dev/spidev0.0 && sudo chmod g+rw /dev/spidev0.0")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize(("mode", "group"), [(0o660, "root"), (0o640, "dialout"), (0o620, "dialout")])
def test_nobody_is_to_join_a_group_that_helps_nothing_or_too_much(tree: Tree, mode: int, group: str) -> None:
    tree.device("/dev/ttyUSB0", mode, 0, grp.getgrnam(group).gr_gid)
    assert look_at(Device("/dev/ttyUSB0", "dialout"), tree.machine, PILOT).fix.startswith("sudo chgrp dialout")
    assert look_at(Device("/dev/ttyUSB0"), tree.machine, PILOT).fix == ""


@pytest.mark.parametrize(
    ("path", "present", "others"),
    [
        ("/dev/i2c-1", ["/dev/i2c-20", "/dev/spidev0.0"], "; there is /dev/i2c-20"),
        ("/dev/spidev0.0", ["/dev/spidev1.1"], "; there is /dev/spidev1.1"),
        ("/dev/serial0", ["/dev/serial1", "/dev/ttyAMA0"], "; there is /dev/ttyAMA0"),
        ("/dev/serial/by-id/x", ["/dev/serial/by-path/y", "/dev/ttyAMA0"], "; there is /dev/serial/by-path/y"),
        ("/run/adc1", ["/run/adc2", "/dev/run/adc2"], ""),
        (
            "/dev/ttyUSB0",
            [f"/dev/ttyUSB{n}" for n in range(1, 10)],
            "; there is " + ", ".join(f"/dev/ttyUSB{n}" for n in range(1, 9)),
        ),
    ],
)
def test_others_of_its_kind_are_named(tree: Tree, path: str, present: list[str], others: str) -> None:
    for name in present:
        tree.write(name)
    assert look_at(Device(path), tree.machine, PILOT).message == f"there is no {path}{others}"


def test_a_link_to_an_adapter_that_is_not_there_is_no_alternative(tree: Tree) -> None:
    link = tree.write("/dev/ttyUSB1").with_name("ttyUSB0")
    link.symlink_to("gone")
    assert look_at(Device("/dev/ttyUSB0"), tree.machine, PILOT).message.endswith("; there is /dev/ttyUSB1")


def test_what_one_may_not_look_at_is_left_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: Path, **_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "stat", locked)
    found = look_at(Device("/dev/x/y"), tree.machine, PILOT)
    assert found == ("skipped", "/dev/x/y: no permission to look into its directory", "")


def test_a_group_without_a_name_is_told_by_its_number(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tree.device("/dev/spidev0.0", 0o600)

    def nameless(gid: int) -> None:
        raise KeyError(gid)

    monkeypatch.setattr(grp, "getgrgid", nameless)
    found = look_at(Device("/dev/spidev0.0"), tree.machine, Who("pilot", 12345, frozenset()))
    group = file.stat().st_gid
    assert found.message == f"/dev/spidev0.0: pilot may not read and write it (-rw-------, group {group})"
    assert found.fix == ""


def test_the_user_of_a_process_is_read_from_proc(tree: Tree) -> None:
    about = "Name:\tfixgw\nUid:\t1000\t991\t992\t993\nGid:\t1000\t991\t992\t993\nGroups:\t20 44 \n"
    tree.write("/proc/77/status", about)
    assert tree.machine.process(77) == Who("991", 991, frozenset([991, 20, 44]))
    assert tree.machine.process(78) is None
    real = Machine().process(os.getpid())
    assert real is not None
    assert real.uid == os.geteuid()
    assert {os.getegid(), *os.getgroups()} == real.groups


@pytest.mark.parametrize(
    "facts", ["Uid:\t1000\nGid:\t1 1\nGroups:\n", "Uid:\t1 x\nGid:\t1 1\nGroups:\n", "Uid:\t1 1\nGid:\t1 1\n"]
)
def test_a_process_that_tells_no_user_has_none(tree: Tree, facts: str) -> None:
    tree.write("/proc/77/status", facts)
    assert tree.machine.process(77) is None


def test_only_the_beginning_of_a_file_is_read(tree: Tree) -> None:
    tree.write("/long", "x" * 10_000)
    assert tree.machine.read("/long") == "x" * 4096
    assert tree.machine.read("/nothing") == ""


def test_without_a_name_it_is_the_user_of_the_service_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = pwd.getpwnam("daemon")
    monkeypatch.setattr(doctor, "SERVICE_USER", "daemon")
    groups = frozenset(os.getgrouplist("daemon", daemon.pw_gid))
    assert user() == user("daemon") == Who("daemon", daemon.pw_uid, groups)
    monkeypatch.setattr(doctor, "SERVICE_USER", "nobody-of-that-name")
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert user() == Who(name, os.geteuid(), frozenset([os.getegid(), *os.getgroups()]))


def test_a_user_is_found_by_name() -> None:
    assert user("root").uid == 0
    with pytest.raises(FixgwError, match="no user 'nobody-of-that-name'"):
        user("nobody-of-that-name")
    assert user().name


# -- requirements of drivers -------------------------------------------------------------------------------------------


def test_a_serial_driver_needs_its_port_and_no_console_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cmdline").write_text("console=tty1 console=ttyS0,115200 root=/dev/mmcblk0p2\n")
    monkeypatch.setattr("fixgw.drivers.links.serial.CMDLINE", str(tmp_path / "cmdline"))
    device, console = SerialPoller.preflight(SerialOptions(port="/dev/ttyS0"))
    assert device == Device("/dev/ttyS0", "dialout", "sudo raspi-config nonint do_serial_hw 0  # and reboot")
    assert isinstance(console, Finding)
    assert (console.level, console.fix) == ("problem", "sudo raspi-config nonint do_serial_cons 1  # and reboot")
    assert list(SerialPoller.preflight(SerialOptions(port="/dev/ttyUSB0"))) == [Device("/dev/ttyUSB0", "dialout")]
    assert list(SerialPoller.preflight(SerialOptions(port="socket://10.0.0.1:7000"))) == []


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Create network interfaces, and what the kernel reports about them."""
    monkeypatch.setattr("fixgw.drivers.links.can.socketcan.SYS_NET", str(tmp_path / "net"))
    details: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr("fixgw.drivers.links.can.socketcan.link_details", lambda channel: details.get(channel, {}))

    def make(name: str, kind: int = 280, up: bool = True, **facts: Any) -> None:
        (tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "type").write_text(f"{kind}\n")
        (tmp_path / "net" / name / "flags").write_text("0x40041\n" if up else "0x40040\n")
        details[name] = {key.replace("_", " "): value for key, value in facts.items()}

    return make


HEALTHY = {"bit_rate": 250000, "controller": "active", "error_counters": "sending 0, receiving 0"}


def looked(**options: Any) -> list[Any]:
    return list(CanPlugin.preflight(BusOptions(**options)))


def test_a_missing_can_interface_is_a_problem(links: Callable[..., None]) -> None:
    assert looked()[0].message == "there is no CAN interface can0: is its adapter plugged in, its overlay loaded?"
    links("can1")
    links("eth0", 1)
    assert looked()[0].message == "there is no CAN interface can0; found can1"
    assert looked(channel="eth0")[0].message == "eth0 is not a CAN interface; found can1"
    (virtual,) = looked(channel="vcan0")
    assert virtual.fix == "sudo ip link add vcan0 type vcan && sudo ip link set vcan0 up"


def test_a_can_interface_that_is_down_is_reported_with_the_command_to_bring_it_up(links: Callable[..., None]) -> None:
    links("can0", up=False)
    assert looked(bitrate=500000) == [
        ("problem", "can0 is down", "sudo ip link set can0 up type can bitrate 500000"),
    ]
    assert looked()[0].fix == "sudo ip link set can0 up type can bitrate 250000"


def test_the_counters_of_a_can_interface_are_shown(links: Callable[..., None]) -> None:
    links("can0", **HEALTHY, restarts_after_ms=100)
    assert looked() == [("ok", "can0 is up at 250000 bit/s (sending 0, receiving 0)", "")]
    (wrong, well) = looked(bitrate=125000)
    assert (wrong.level, well.level) == ("problem", "ok")
    assert wrong.fix.endswith("sudo ip link set can0 up type can bitrate 125000")
    links("vcan0")
    assert looked(channel="vcan0") == [("ok", "vcan0 is up", "")]


@pytest.mark.parametrize(
    ("state", "level"), [("warning", "warning"), ("passive", "warning"), ("bus off", "problem"), ("active", "ok")]
)
def test_a_can_controller_in_trouble_is_reported(links: Callable[..., None], state: str, level: str) -> None:
    links("can0", **{**HEALTHY, "controller": state}, restarts_after_ms=100)
    assert [f.level for f in looked()] == [level]


def test_a_can_interface_that_would_stay_bus_off_is_reported(links: Callable[..., None]) -> None:
    links("can0", **HEALTHY, restarts_after_ms=0)
    assert looked()[0].level == "warning"
    assert looked()[0].fix.endswith("up type can bitrate 250000 restart-ms 100")


def test_an_slcan_adapter_needs_its_port() -> None:
    assert looked(interface="slcan", channel="/dev/ttyACM0", bitrate=250000) == [Device("/dev/ttyACM0", "dialout")]
    assert looked(interface="virtual", channel="x") == []


def test_a_can_fix_map_gives_the_expected_keys(tmp_path: Path) -> None:
    map_file = tmp_path / "map.yaml"
    map_file.write_text(
        "inputs: [{canid: 0x183, fixid: IAS}]\nencoders: [{canid: 0x300, fixid: 'ENC1, ENC2'}]\noutputs:\n"
    )
    options = CanfixOptions(interface="virtual", mapfile=str(map_file))
    assert list(Canfix.preflight(options)) == [Feeds(("IAS", "ENC1", "ENC2"))]
    assert list(Canfix.preflight(CanfixOptions(interface="virtual"))) == []


# -- the machine -------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_years_off_is_a_warning(tree: Tree) -> None:
    assert machine_says(tree, "clock")[0].level == "ok"
    tree.machine.now = lambda: datetime(1970, 1, 1, tzinfo=UTC)
    (found,) = machine_says(tree, "clock")
    assert found.level == "warning"
    assert "1970-01-01 00:00 UTC" in found.message
    assert "no battery-backed clock" in found.message
    tree.write("/run/systemd/timesync/synchronized")
    tree.write("/sys/class/rtc/rtc0/name")
    tree.machine.now = lambda: NOON
    assert machine_says(tree, "clock")[0].message == "2026-06-01 12:00 UTC (set by network time)"


@pytest.mark.parametrize(("years", "level"), [(-1, "warning"), (0, "ok"), (50, "ok"), (51, "warning")])
def test_a_clock_is_believed_within_fifty_years(tree: Tree, years: int, level: str) -> None:
    tree.machine.now = lambda: datetime(EARLIEST_YEAR + years, 7, 1, tzinfo=UTC)
    (found,) = machine_says(tree, "clock")
    assert (found.level, found.fix) == (level, "timedatectl status" if level == "warning" else "")


@pytest.mark.parametrize(
    ("life", "spare", "message"),
    [
        ("0x01 0x02", "0x01", "has used up to 20 % of its life"),
        ("0x0a 0x01", "0x01", "has used up to 100 % of its life: have a spare ready"),
        ("0x0b 0x01", "0x01", "is worn out: replace it before it fails"),
        ("", "", "does not report its wear"),
        ("", "0x01", "has used up to 0 % of its life"),
    ],
)
def test_the_wear_of_a_card_is_told_in_words(tree: Tree, life: str, spare: str, message: str) -> None:
    tree.write("/sys/block/mmcblk1/device/life_time", life)
    tree.write("/sys/block/mmcblk1/device/pre_eol_info", spare)
    assert [f.message for f in machine_says(tree, "card")] == [f"mmcblk1 {message}"]
    tree.write("/sys/block/mmcblk1/ro", "1")
    assert machine_says(tree, "card")[1].message.startswith("mmcblk1 is write-protected")


SUPPLY = ": use a supply of 5.1 V and 3 A (Pi 5: 5 A), with short, thick wires"


@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        ("1", [f"the processor is now under-voltage{SUPPLY}"]),
        ("10001", [f"the processor is now under-voltage{SUPPLY}"]),
        (
            "10002",
            [f"the processor is now slowed down{SUPPLY}", f"since power-on the processor was under-voltage{SUPPLY}"],
        ),
        ("60000", ["since power-on the processor was slowed down, throttled"]),
        ("8", ["the processor is now at its temperature limit"]),
    ],
)
def test_only_a_weak_supply_is_to_be_replaced(tree: Tree, flags: str, messages: list[str]) -> None:
    tree.write("/sys/devices/platform/soc/soc:firmware/get_throttled", flags)
    assert [f.message for f in machine_says(tree, "power")] == messages


def test_where_the_kernel_does_not_say_it_the_firmware_is_asked(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50000\n')
    program.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(program) if name == "vcgencmd" else None)
    assert doctor._vcgencmd(Machine()) == "0x50000"
    assert doctor._vcgencmd(tree.machine) == "", "a tree is not this computer"
    for broken in ("no program", "#!/bin/sh\necho throttled=0x5\nexit 1\n"):
        program.write_text(broken)
        assert doctor._vcgencmd(Machine()) == ""

    def late(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", late)
        assert doctor._vcgencmd(Machine()) == ""
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert doctor._vcgencmd(Machine()) == ""


@pytest.mark.parametrize(
    ("life", "spare", "level"),
    [
        ("0x01 0x02", "0x01", "ok"),
        ("0x08 0x01", "0x01", "ok"),
        ("0x0a 0x01", "0x01", "warning"),
        ("0x01 0x01", "0x04", "problem"),
        ("0x00 0x00", "0x01", "ok"),
        ("0x09 0x01", "0x01", "warning"),
        ("0x01 0x01", "0x02", "warning"),
        ("0x0b 0x01", "0x01", "problem"),
        ("0x01 0x01", "0x03", "problem"),
        ("", "", "skipped"),
        ("0x00 0x00", "0x00", "skipped"),
        ("nonsense", "?", "skipped"),
    ],
)
def test_the_wear_of_a_card_is_shown(tree: Tree, life: str, spare: str, level: str) -> None:
    tree.write("/sys/block/mmcblk0/device/life_time", life + "\n")
    tree.write("/sys/block/mmcblk0/device/pre_eol_info", spare + "\n")
    tree.write("/sys/block/mmcblk0boot0/device/life_time", "0x0b 0x0b")
    tree.write("/sys/block/mmcblk0/ro", "0\n")
    assert [f.level for f in machine_says(tree, "card")] == [level]


def test_a_read_only_card_is_reported(tree: Tree) -> None:
    tree.write("/sys/block/mmcblk0/ro", "1\n")
    assert machine_says(tree, "card")[-1].level == "warning"


@pytest.mark.parametrize(
    ("flags", "levels", "words"),
    [
        ("0", ["ok"], "no under-voltage"),
        ("50005", ["problem"], "now under-voltage, throttled: use a supply of 5.1 V"),
        ("0x50000", ["warning"], "since power-on the processor was under-voltage, throttled"),
        ("80008", ["problem"], "at its temperature limit"),
        ("20001", ["problem", "warning"], "slowed down"),
        ("", ["skipped"], "does not report"),
    ],
)
def test_the_power_supply_of_a_pi_is_checked(tree: Tree, flags: str, levels: list[str], words: str) -> None:
    if flags:
        tree.write("/sys/devices/platform/soc/soc:firmware/get_throttled", flags + "\n")
    found = machine_says(tree, "power")
    assert [f.level for f in found] == levels
    assert words in found[-1].message


def test_the_voltage_alarm_of_a_pi_is_reported(tree: Tree) -> None:
    tree.write("/sys/class/hwmon/hwmon0/name", "another\n")
    tree.write("/sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n")
    assert [f.level for f in machine_says(tree, "power")] == ["skipped"]
    tree.write("/sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    alarm = tree.write("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    assert [f.level for f in machine_says(tree, "power")] == ["ok"]
    alarm.write_text("1\n")
    assert [f.level for f in machine_says(tree, "power")] == ["problem"]


@pytest.mark.parametrize(
    ("temperature", "level"), [(47236, "ok"), (74999, "ok"), (75000, "warning"), (81999, "warning"), (82000, "problem")]
)
def test_the_temperature_is_checked(tree: Tree, temperature: int, level: str) -> None:
    tree.write("/sys/class/thermal/thermal_zone0/temp", "30000\n")
    tree.write("/sys/class/thermal/thermal_zone1/temp", f"{temperature}\n")
    (found,) = machine_says(tree, "temperature")
    assert found.level == level
    assert f"{temperature / 1000:.0f} degrees C" in found.message


@pytest.mark.parametrize(
    ("free", "read_only", "level"),
    [
        (10_000_000, False, "ok"),
        (51_200, False, "ok"),  # 200 MiB
        (51_199, False, "warning"),
        (2_560, False, "warning"),  # 10 MiB
        (2_559, False, "problem"),
        (10_000_000, True, "warning"),
    ],
)
def test_the_disk_is_checked(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, free: int, read_only: bool, level: str
) -> None:
    (tree.root / "var/lib/fixgw").mkdir(parents=True)
    flags = os.ST_RDONLY if read_only else 0
    answer = os.statvfs_result((4096, 4096, free, free, free, 9, 9, 9, flags, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: answer)
    (found,) = machine_says(tree, "disk")
    assert found.level == level
    assert found.message.startswith("state in /var/lib/fixgw")


def test_without_a_service_the_state_of_the_user_is_looked_at(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "path", lambda name: tmp_path / "own" / f"{name}.json")
    (found,) = machine_says(tree, "disk")
    assert found.message.startswith(f"state in {tmp_path}/own: ")


def test_both_disks_are_looked_at_and_what_helps_is_said(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def statvfs(path: Path) -> os.statvfs_result:
        asked.append(str(path))
        free = 2_559 if len(asked) == 1 else 51_199
        return os.statvfs_result((4096, 4096, free, free, free, 9, 9, 9, os.ST_RDONLY * (len(asked) > 2), 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    (tree.root / "var/lib/fixgw").mkdir(parents=True)
    loaded = Configuration(file=Path("/etc/fixgw/default.yaml"), directory=Path("/etc/fixgw"))
    found = [finding for about, finding in doctor._machine(tree.machine, loaded) if about == "disk"]
    vacuum = "sudo journalctl --vacuum-size=50M"
    assert found == [
        ("problem", "state in /var/lib/fixgw: 10 MiB free", vacuum),
        ("warning", "configuration in /etc/fixgw: 200 MiB free", vacuum),
    ]
    assert asked == [str(tree.root / "var/lib/fixgw"), str(tree.root)], "the nearest directory that there is"
    found = [finding for about, finding in doctor._machine(tree.machine, loaded) if about == "disk"]
    words = "state in /var/lib/fixgw: the disk is read-only, so state is not saved"
    assert found[0] == ("warning", words, "mount | grep ro,")
    assert found[1].message.endswith("200 MiB free"), "a configuration is only read"

    def gone(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", gone)
    assert [f.message for a, f in doctor._machine(tree.machine, loaded) if a == "disk"] == [
        "state in /var/lib/fixgw: Input/output error",
        "configuration in /etc/fixgw: Input/output error",
    ]


# -- everything together -----------------------------------------------------------------------------------------------


PLUGIN = """
from fixgw.plugin import Device, Feeds, Finding, PluginBase, Options, PluginBase

class Settings(Options, frozen=True, kw_only=True):
    port: str = ""

class Plugin(PluginBase):
    Options = Settings

    @classmethod
    def preflight(cls, options):
        if not options.port:
            raise RuntimeError("a defect")
        yield Device(options.port)
        yield Finding("warning", "it squeaks", "oil it")
        yield Feeds(("IAS",))
"""


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    (tmp_path / "doctored.py").write_text(PLUGIN)
    before = list(sys.path)

    def write(text: str) -> Path:
        (tmp_path / "default.yaml").write_text(text)
        return tmp_path / "default.yaml"

    yield write
    sys.path[:] = before
    sys.modules.pop("doctored", None)


def test_each_connection_reports_its_requirements(tree: Tree, configured: Callable[[str], Path]) -> None:
    file = configured(
        "connections:\n"
        "  a: {module: doctored, port: /dev/ttyUSB7}\n"
        "  b: {module: doctored}\n"
        "  c: {module: fixgw.plugins.skel}\n"
    )
    tree.device("/dev/ttyUSB7", 0o666)
    results = list(examine(file, tree.machine, who=PILOT))
    assert about(iter(results), "configuration")[0].message.startswith("3 connections, ")
    assert about(iter(results), "a") == [
        ("ok", "/dev/ttyUSB7 exists, and pilot may use it", ""),
        ("warning", "it squeaks", "oil it"),
    ]
    (defect,) = about(iter(results), "b")
    assert defect == ("warning", "preflight() of doctored raised RuntimeError: a defect", "")
    assert about(iter(results), "c") == []
    assert about(iter(results), "gateway")[0].level == "skipped"


def test_every_configuration_problem_is_a_finding_and_the_machine_is_still_checked(
    tree: Tree, configured: Callable[[str], Path]
) -> None:
    file = configured("connections:\n  a: {module: doctord}\n  b: {module: doctored, prot: x}\n")
    results = list(examine(file, tree.machine, who=PILOT))
    problems = about(iter(results), "configuration")
    assert [p.level for p in problems] == ["problem", "problem"]
    assert "default.yaml:2:" in problems[0].message
    assert about(iter(results), "clock")


def test_any_part_of_a_machine_can_be_absent(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "nothing", lambda: NOON)
    levels = {name: finding.level for name, finding in doctor._machine(machine, None)}
    assert levels.pop("disk") in ("ok", "warning", "problem")  # of the computer that runs the tests
    assert levels == {"clock": "ok", "power": "skipped", "temperature": "skipped"}


def test_it_opens_no_device(tree: Tree) -> None:
    os.mkfifo(tree.write("/dev/x").with_name("ttyUSB0"))  # opening it would block forever
    assert stat.S_ISFIFO((tree.root / "dev/ttyUSB0").stat().st_mode)
    assert look_at(Device("/dev/ttyUSB0"), tree.machine, Who("root", 0, frozenset())).level == "ok"


def test_a_configuration_without_instruments_is_reported(tmp_path: Path) -> None:
    def said(connections: str) -> list[str]:
        file = tmp_path / "default.yaml"
        file.write_text(f"connections: {{{connections}}}\n")
        return [r.finding.message for r in examine(file, Machine(tmp_path)) if r.about == "configuration"]

    assert NO_INSTRUMENT in said("netfix: {module: fixgw.plugins.netfix}")
    assert NO_INSTRUMENT not in said("gps: {module: fixgw.drivers.nmea0183, port: /dev/ttyS0}")
    assert NO_INSTRUMENT not in said("gps: {module: fixgw.plugins.nmea0183, port: /dev/ttyS0}")  # by its old name


# -- the running gateway -----------------------------------------------------------------------------------------------


class Answering:
    """A gateway that explains its keys, on a clock of its own: what it says first, and what it says later."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], after: dict[str, Any]) -> None:
        self.now = 100.0
        self._explanations = iter([*before.items(), *after.items()])
        self._keys = [list(before), list(after)]
        monkeypatch.setattr(doctor, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def list(self) -> list[str]:
        return self._keys.pop(0)

    def explain(self, key: str) -> dict[str, Any]:
        expected, facts = next(self._explanations)
        assert key == expected
        return {"writes": 0, "source": "", "tolerance": 0.0, "flags": {}, "sources": [], **facts}


def connections(directory: Path, *names: str) -> Configuration:
    made = tuple(Connection(name=name, module="theirs", plugin=PluginBase, options={}) for name in names)
    return Configuration(file=directory / "default.yaml", directory=directory, connections=made)


def test_the_rates_of_keys_are_told_by_their_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before: dict[str, Any] = {
        "TAS": {"source": "adcomputer", "writes": 5},
        "IAS": {"source": "adc", "writes": 100, "tolerance": 2.0},
        "ALT": {"source": "adc/1", "writes": 10, "tolerance": 0.5},
        "VS": {"source": "adc", "writes": 5},
    }
    after: dict[str, Any] = {
        "TAS": {"source": "adcomputer", "writes": 6},
        "IAS": {"source": "adc", "writes": 104, "tolerance": 2.0},
        "ALT": {"source": "adc/1", "writes": 14, "tolerance": 0.5},
        "VS": {"source": "adc", "writes": 5},
        "NEW": {"source": "adc", "writes": 6},
    }
    client: Any = Answering(monkeypatch, before, after)
    found = list(doctor._keys(client, {}, connections(tmp_path, "adc", "gps"), {}, 4.0))
    assert [(about, finding.level, finding.message) for about, finding in found] == [
        (
            "adc",
            "ok",
            "feeds 3 keys, 2 values a second; the slowest is ALT, 1 of 2 needed to stay fresh",
        ),
        ("adc", "warning", "written too seldom to stay fresh (values a second, of those needed): ALT 1 of 2"),
    ]
    assert client.now == 104.0


@pytest.mark.parametrize(
    ("writes", "tolerance", "needed", "slow"),
    [(0, 0.0, 0.0, False), (0, 4.01, 0.0, False), (0, 4.0, 0.25, False), (3, 1.0, 1.0, False), (2, 1.0, 1.0, True)],
)
def test_one_write_more_or_less_does_not_make_a_key_slow(
    writes: int, tolerance: float, needed: float, slow: bool
) -> None:
    fed = doctor.Fed("IAS", writes, 4.0, tolerance)
    assert (fed.needed, fed.slow) == (needed, slow)


def test_a_key_that_never_ages_is_not_the_slowest() -> None:
    assert doctor._feeding([doctor.Fed("IAS", 2, 4.0, 0.0)]) == "feeds 1 key, 0.5 values a second"


def test_twenty_names_are_enough() -> None:
    assert doctor._some(["x"] * 20) == ", ".join(["x"] * 20)
    assert doctor._some(["x"] * 21).endswith("x and 1 more")


def test_a_running_gateway_is_watched_as_its_own_user(
    tree: Tree, configured: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: dict[str, Any] = {
        "IAS": {"tolerance": 1.0, "sources": [{"source": "efis"}]},
        "ALT": {"source": "a", "writes": 8},
    }
    client: Any = Answering(monkeypatch, explained, explained)
    report = {
        "process": {"pid": 77},
        "version": "2.0",
        "health": "ok",
        "summary": "all well",
        "connections": {"a": {"health": "ok"}},
    }
    client.status = lambda: report
    monkeypatch.setattr(doctor, "user", lambda: Who("me", 0, frozenset()))
    tree.device("/dev/ttyUSB7", 0o666)
    tree.write("/proc/77/status", "Uid:\t1 54321 1 1\nGid:\t1 1 1 1\nGroups:\t1\n")
    file = configured("connections:\n  a: {module: doctored, port: /dev/ttyUSB7}\n")
    found = list(examine(file, tree.machine, client))
    assert client.now == 104.0, "it is watched for four seconds"
    assert about(iter(found), "gateway") == [("ok", "version 2.0: all well", "")]
    assert [f.message for f in about(iter(found), "a")] == [
        "/dev/ttyUSB7 exists, and 54321 may use it",
        "it squeaks",
        "feeds 1 key, 0 values a second",
        "mapped, but never written: IAS",
    ]
    assert about(examine(file, tree.machine), "a")[0].message == "/dev/ttyUSB7 exists, and me may use it"


@pytest.mark.parametrize(
    ("status", "messages"),
    [
        ({"controller": "passive"}, ["the controller is passive: check the wiring"]),
        (
            {"controller": "warning", "error counters": "rx 100"},
            ["the controller is warning (rx 100): check the wiring"],
        ),
        ({"frames": 12, "lost": "none", "state": "passive"}, []),
    ],
)
def test_only_counters_of_errors_and_a_controller_in_trouble_are_findings(
    status: dict[str, Any], messages: list[str]
) -> None:
    assert [f.message.partition(" the wiring")[0] + " the wiring" for f in doctor._counters(status)] == messages


def test_the_worst_flag_of_each_key_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flagged: dict[str, Any] = {
        "A": {"old": "nothing from adc", "fail": "open"},
        "B": {"fail": "open", "bad": "x"},
        "C": {"old": "", "bad": "x"},
        "D": {"bad": "ice", "secfail": "nothing from efis"},
        "E": {"secfail": "nothing from efis"},
        "F": {"annunciate": "high"},
    }
    explained = {key: {"source": "adc", "flags": flags, "tolerance": 1.0} for key, flags in flagged.items()}
    client: Any = Answering(monkeypatch, explained, explained)
    found = list(doctor._keys(client, {"connections": {"adc": {}}}, None, {}, 4.0))
    assert [(finding.level, finding.message, finding.fix) for _, finding in found[:-2]] == [
        ("problem", "A, B: fail: open", "fixgw explain A"),
        ("problem", "C: old", "fixgw explain C"),
        ("warning", "D: bad: ice", "fixgw explain D"),
        ("warning", "E: secfail: nothing from efis", "fixgw explain E"),
    ]
    assert found[-1].finding.message.endswith("needed): F 0 of 1"), "those that are flagged are told already"


def test_keys_that_are_mapped_but_come_from_elsewhere_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: dict[str, Any] = {f"K{n}": {"tolerance": 1.0, "sources": [{"source": "efis"}]} for n in range(22)} | {
        "ours": {"tolerance": 1.0, "sources": [{"source": "efis"}, {"source": "adc/2"}]},
        "knob": {"sources": []},
    }
    client: Any = Answering(monkeypatch, explained, explained)
    feeds = {"adc": [*explained, "K0", "no such key"]}
    found = list(doctor._keys(client, {}, connections(tmp_path, "adc"), feeds, 0.0))
    keys = ", ".join(f"K{n}" for n in range(20))
    assert found == [("adc", ("warning", f"mapped, but never written: {keys} and 2 more", ""))]


class Refusing:
    """A gateway that answers with an error."""

    def __init__(self, error: FixgwError) -> None:
        self.error = error

    def status(self) -> None:
        raise self.error

    list = status


@pytest.mark.parametrize(
    ("error", "level", "status", "keys"),
    [
        (
            Refused("status", "005"),
            "skipped",
            "it does not report its status: ",
            "the gateway refuses to explain them: ",
        ),
        (
            FixgwError("late"),
            "problem",
            "something listens there but does not answer: ",
            "the gateway stopped answering: ",
        ),
    ],
)
def test_a_gateway_that_does_not_answer_is_a_finding(
    tree: Tree, error: FixgwError, level: str, status: str, keys: str
) -> None:
    client: Any = Refusing(error)
    file = tree.write("/etc/fixgw/default.yaml", "connections: {}")
    assert about(examine(file, tree.machine, client), "gateway") == [(level, f"{status}{error}", "")]
    assert list(doctor._keys(client, {}, None, {}, 0.0)) == [("keys", (level, f"{keys}{error}", ""))]


def test_a_gateway_that_answers_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    explained = {f"K{n}": {"source": "adc"} for n in range(10)}
    client: Any = Answering(monkeypatch, explained, {})
    explain = client.explain

    def slowly(key: str) -> dict[str, Any]:
        client.now += doctor.PATIENCE_S / 4
        facts: dict[str, Any] = explain(key)
        return facts

    client.explain = slowly
    (found,) = doctor._keys(client, {}, None, {}, 0.0)
    words = f"the gateway stopped answering: it explained only 5 keys in {doctor.PATIENCE_S:g} s"
    assert found == ("keys", ("problem", words, ""))


def test_what_a_running_gateway_reports_is_a_finding(tmp_path: Path) -> None:
    def report(**facts: Any) -> dict[str, Any]:
        return {"health": "ok", "restarts": 0, "status": {}, **facts}

    bus = {"controller": "bus off", "error counters": "tx 255", "bus off": 1, "lost": 2, "error frames": 0}
    tree: dict[str, Any] = {
        "version": "2.0",
        "health": "degraded",
        "summary": "2 of 4 connections well",
        "configuration": {"file": "/etc/fixgw/my own.yaml", "problems": ["the database definition changed"]},
        "database": {"conflicts": {"IAS": "adc and efis (3 times)"}},
        "connections": {
            "odd": "unavailable",
            "adc": report(health="no data", restarts=1),
            "can": report(restarts=2, status={"left": bus, "saving failed": 4, "controller": "active"}),
        },
    }
    found = [(about, *finding) for about, finding in doctor._gateway(tree, connections(tmp_path, "adc", "gps"))]
    assert found == [
        ("gateway", "warning", "version 2.0: 2 of 4 connections well", ""),
        (
            "gateway",
            "warning",
            "it runs another configuration: /etc/fixgw/my own.yaml",
            "fixgw doctor '/etc/fixgw/my own.yaml'",
        ),
        ("gateway", "warning", "not yet applied: the database definition changed", ""),
        ("gateway", "warning", "IAS is written by adc and efis (3 times): rank them, or remove one of them", ""),
        ("gps", "warning", "it is configured, but the running gateway does not have it", "fixgw status"),
        ("adc", "problem", "not well: no data", "fixgw status --verbose  # adc"),
        ("adc", "warning", "restarted 1 time", ""),
        ("can", "warning", "restarted 2 times", ""),
        (
            "can",
            "problem",
            "left: the controller is bus off (tx 255): check the wiring, the two 120 ohm resistors, and that all "
            "devices use the same bit rate",
            "",
        ),
        ("can", "warning", "left: bus off: 1", ""),
        ("can", "warning", "left: lost: 2", ""),
        ("can", "warning", "saving failed: 4", ""),
    ]


def test_a_running_gateway_that_is_well_gives_one_line(tmp_path: Path) -> None:
    own = connections(tmp_path, "adc")
    tree: dict[str, Any] = {
        "version": "2.0",
        "health": "ok",
        "summary": "all well",
        "configuration": {"file": str(tmp_path / "default.yaml"), "problems": []},
        "connections": {"adc": {"health": "ok", "restarts": 0, "status": {"left": {"deep": {"bus off": 1}}}}},
    }
    for loaded in (own, None):
        assert list(doctor._gateway(tree, loaded)) == [("gateway", ("ok", "version 2.0: all well", ""))]


def test_only_a_gateway_that_is_installed_is_started_as_a_service(tree: Tree) -> None:
    assert doctor._absent(tree.machine).fix == "fixgw run"
    tree.write("/opt/fixgw/installed")
    assert doctor._absent(tree.machine).fix == "sudo systemctl start fixgw"


QUORUM = "connections:\n  quorum: {module: fixgw.plugins.quorum, nodeid: 1, total_nodes: NODES}\n"
NETFIX = "  netfix: {module: fixgw.plugins.netfix, type: both, outputs: [{host: other, send: [QVOTE1]}]}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (QUORUM.replace("NODES", "2") + NETFIX, ("ok", "votes travel by netfix", "")),
        (
            QUORUM.replace("NODES", "2"),
            (
                "warning",
                "no connection carries the votes: a CAN-FIX bus does, and NetFIX `outputs` that list QVOTE",
                "",
            ),
        ),
        (QUORUM.replace("NODES", "1"), None),
    ],
)
def test_votes_need_a_way_to_the_other_gateways(tree: Tree, text: str, found: tuple[str, str, str] | None) -> None:
    file = tree.write("/etc/fixgw/default.yaml", text)
    votes = [f for f in about(examine(file, tree.machine, who=PILOT), "quorum") if "votes" in f.message]
    assert votes == ([found] if found else [])
