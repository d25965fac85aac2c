"""The units: checked by systemd's own tools, and equal where they must be."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fixgw.drivers.ups import REQUEST
from fixgw.install import FILES, main
from fixgw.service import EXIT_CONFIG, EXIT_USAGE

ROOT = Path(__file__).parents[2]
UNITS = ("fixgw.service", "fixgw@.service", "fixgw-safe.service", "fixgw-safe@.service")
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed here")


def lines(unit: str) -> list[str]:
    text = (ROOT / "systemd" / unit).read_text()
    return [line for line in text.splitlines() if line and not line.startswith(("#", "["))]


def values(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in lines(unit) if line.startswith(key + "=")]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with the units in place, and with an executable in the place of the gateway's."""
    root = tmp_path_factory.mktemp("root")
    assert main(["--root", str(root)]) == 0
    for program in ("opt/fixgw/bin/fixgw", "bin/kill", "bin/sh", "bin/systemctl"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).write_text("#!/bin/sh\n")
        (root / program).chmod(0o755)
    return root


@pytest.mark.slow
@needs_systemd
@pytest.mark.parametrize("unit", ["fixgw.service", "fixgw@second.service", "fixgw-safe.service", "fixgw-poweroff.path"])
def test_systemd_finds_no_fault_with_the_units(unit: str, staged: Path) -> None:
    directory = staged / "usr/local/lib/systemd/system"
    if "@" in unit:
        shutil.copy(directory / "fixgw@.service", directory / unit)
    command = [str(ANALYZE), "verify", "--man=no", "--recursive-errors=no", f"--root={staged}", f"{directory}/{unit}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    about_ours = [line for line in result.stderr.splitlines() if "fixgw" in line]
    assert (result.returncode, about_ours) == (0, []), result.stderr


@pytest.mark.slow
@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, "fixgw-poweroff.service"])
def test_the_security_exposure_is_at_most_two(unit: str) -> None:
    command = [str(ANALYZE), "security", "--offline=yes", "--threshold=20", str(ROOT / "systemd" / unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "Overall exposure level" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed here")
def test_the_user_is_in_the_groups_of_the_devices_which_are_created(staged: Path) -> None:
    for name in ("passwd", "group"):
        (staged / "etc" / name).write_text("")
    users = str(staged / "usr/local/lib" / FILES["sysusers.conf"])
    subprocess.run(["systemd-sysusers", f"--root={staged}", users], capture_output=True, text=True, check=True)
    groups = (staged / "etc/group").read_text()
    for group in ("dialout", "gpio", "i2c", "spi"):
        assert re.search(rf"^{group}:.*\bfixgw$", groups, re.MULTILINE), groups


def hardening(unit: str) -> list[str]:
    found = lines(unit)
    return found[found.index("CapabilityBoundingSet=") : found.index("SystemCallErrorNumber=EPERM") + 1]


@pytest.mark.parametrize("unit", UNITS[1:])
def test_every_unit_is_hardened_alike(unit: str) -> None:
    assert len(hardening(UNITS[0])) > 20
    assert hardening(unit) == hardening(UNITS[0])


def test_an_instance_differs_only_in_its_directories() -> None:
    renamed = [
        line.replace("/etc/fixgw", "/etc/fixgw/%i")
        .replace("/run/fixgw", "/run/fixgw-%i")
        .replace("Directory=fixgw", "Directory=fixgw-%i")
        .replace("fixgw-safe.service", "fixgw-safe@%i.service")
        .replace("fixgw-poweroff.path", "fixgw-poweroff@%i.path")
        for line in lines("fixgw.service")
        if not line.startswith("Description")
    ]
    assert [line for line in lines("fixgw@.service") if not line.startswith("Description")] == renamed


def test_the_start_waits_for_nothing() -> None:
    for unit in UNITS:
        assert not values(unit, "Requires") + values(unit, "BindsTo")
        assert {"fixgw-poweroff.path", "fixgw-poweroff@%i.path"} >= set(values(unit, "Wants"))
        assert "network" not in " ".join(values(unit, "After"))
    assert "sys-subsystem-net-devices-can0.device" in values("fixgw.service", "After")[0]


def test_permanent_failures_are_not_retried() -> None:
    assert values("fixgw.service", "RestartPreventExitStatus") == [f"{EXIT_CONFIG} {EXIT_USAGE}"]
    assert values("fixgw.service", "OnFailure") == ["fixgw-safe.service"]


def test_hangs_that_only_the_watchdog_ends_count_as_a_crash_loop() -> None:
    """The interval must have room for as many hangs as make a crash loop."""
    (watchdog,), (burst,) = values("fixgw.service", "WatchdogSec"), values("fixgw.service", "StartLimitBurst")
    (interval,) = values("fixgw.service", "StartLimitIntervalSec")
    silent, start = 10, 5  # seconds until the gateway notices a hang, and until it has restarted on a slow computer
    assert int(burst) * (int(watchdog) + silent + start) < int(interval)


def test_stopping_has_more_time_than_the_gateway_takes() -> None:
    from fixgw.gateway import STOP_TOTAL_S

    for unit in UNITS:
        assert int(values(unit, "TimeoutStopSec")[0]) > STOP_TOTAL_S


def test_a_shutdown_request_is_found_where_the_driver_leaves_it() -> None:
    for instance in ("", "@"):
        (directory,) = values(f"fixgw{instance}.service", "RuntimeDirectory")
        assert values(f"fixgw-poweroff{instance}.path", "PathExists") == [f"/run/{directory}/{REQUEST}"]
        assert values(f"fixgw-poweroff{instance}.path", "Unit") == ["fixgw-poweroff.service"]
    forgotten, _ = values("fixgw-poweroff.service", "ExecStart")  # otherwise it would be restarted again and again
    assert f"rm -f /run/fixgw/{REQUEST} /run/fixgw-*/{REQUEST}" in forgotten


def test_safe_mode_touches_no_device() -> None:
    for unit in UNITS[2:]:
        assert values(unit, "PrivateDevices") == ["yes"]
        assert values(unit, "DeviceAllow") == []


def test_devices_that_appear_later_are_allowed_by_number() -> None:
    """A name would work only if the driver were already loaded."""
    allowed = {value.split()[0] for value in values("fixgw.service", "DeviceAllow")}
    serial = {"char-4", "char-166", "char-188", "char-204", "char-216", "char-ttySC", "char-136"}
    pins = {"char-89", "char-153", "char-gpiochip", "char-*gpiomem", "/dev/gpiomem"}
    assert allowed == serial | pins
    assert values("fixgw.service", "DevicePolicy") == ["closed"]


@pytest.mark.skipif(shutil.which("udevadm") is None, reason="udevadm is not installed here")
def test_udev_understands_the_rules() -> None:
    command = ["udevadm", "verify", str(ROOT / "systemd" / "70-fixgw.rules")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unknown command" in result.stderr:
        pytest.skip("udevadm verifies from systemd 254 on")
    assert result.returncode == 0, result.stdout + result.stderr
