"""Optional libraries: the command that installs them where this gateway is installed.

The gateway may live in a virtual environment, in /opt/fixgw, in a Debian package or beside the system's Python. Each
needs another command. It installs what an extra consists of, so it works wherever the gateway itself came from.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from functools import cache
from importlib import metadata, util
from pathlib import Path

from fixgw.errors import FixgwError, did_you_mean

#: Where the Debian package keeps the gateway; below it, a directory for each version of Python.
PACKAGED = Path("/opt/fixgw/lib")
#: Debian's packages of our extras. The others come from PyPI.
DEBIAN = {
    "rpi": "python3-rpi-lgpio",
    "rpi-legacy": "python3-rpi.gpio",
    "i2c": "python3-smbus2",
    "spi": "python3-spidev",
    "can-udp": "python3-msgpack",
    "completion": "python3-argcomplete",
}
NOT_FOR_USERS = ("dev", "docs", "fuzz", "mutate", "release")


@cache
def extras() -> dict[str, list[str]]:
    """The extras and the requirements of each; those that are always installed have the name ``""``."""
    found: dict[str, list[str]] = {}
    try:
        lines = metadata.requires("fixgw") or []
    except metadata.PackageNotFoundError:  # a clone that was never installed
        return found
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        _, extra, name = marker.partition("extra == ")
        found.setdefault(name.strip("\"' ") if extra else "", []).append(requirement)
    return {name: each for name, each in found.items() if name not in NOT_FOR_USERS}


def command(extra: str) -> list[str]:
    """The command that installs `extra` for this installation. Raises `FixgwError` if there is no such extra."""
    known = extras()
    if extra not in known or not extra:
        names = sorted(name for name in known if name)
        nearest = did_you_mean(extra, names)
        raise FixgwError(f"there is no extra {extra!r}{nearest}: choose one of {', '.join(names)}")
    if is_debian_package() and extra in DEBIAN:
        return [*_sudo("/var/lib/dpkg"), "apt-get", "install", DEBIAN[extra]]
    return _pip(known[extra])


def install_hint(library: str, extra: str = "") -> str:
    """The command for people that installs `library`, part of `extra`; empty if we cannot tell. Never raises."""
    try:
        if extra:
            return shlex.join(command(extra))
        wanted = [r for r in extras().get("", ()) if name(r) == name(library)]
        return shlex.join(_pip(wanted)) if wanted else ""
    except FixgwError:
        return ""


def is_debian_package() -> bool:
    return Path(__file__).resolve().is_relative_to(PACKAGED) and sys.prefix == sys.base_prefix


def _pip(requirements: list[str]) -> list[str]:
    if is_debian_package():
        place = str(Path(__file__).resolve().parents[1])
        return [*_sudo(place), sys.executable, "-m", "pip", "install", "--target", place, *requirements]
    sudo = _sudo(sysconfig.get_path("purelib"))
    if util.find_spec("pip") is None and (uv := shutil.which("uv")):
        return [*sudo, uv, "pip", "install", "--python", sys.executable, *requirements]
    managed = sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()
    return [*sudo, sys.executable, "-m", "pip", "install", *["--break-system-packages"] * managed, *requirements]


def _sudo(place: str) -> list[str]:
    return [] if os.access(place, os.W_OK) else ["sudo"]


def name(requirement: str) -> str:
    """The name of a library without its version, as pip compares names."""
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), len(requirement))
    return requirement[:end].lower().replace("_", "-").replace(".", "-")
