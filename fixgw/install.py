"""``fixgw-install``: installs, upgrades and removes the gateway as a service of this computer.

It needs only Python's standard library, so it runs where nothing is installed yet: from a clone
(``sudo systemd/install``) or straight from a wheel (``sudo env PYTHONPATH=fixgw-....whl python3 -P -m fixgw.install``).
It announces each step, and skips a step whose result already exists, so the command can be repeated at any time. It
never changes files that the administrator has edited.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import NoReturn

from fixgw import __version__, state

HOME = "/opt/fixgw"  # the virtual environment
CONFIGURATION = "/etc/fixgw"
SHARE = "/usr/local/share/fixgw"
DEFAULTS = f"{SHARE}/defaults"  # of the last installation, to compare with the next
CHANGES = f"{SHARE}/changes.diff"
WRITTEN = f"{SHARE}/written"  # checksums of configuration files as written: a file that differs was edited
#: Exists until the gateway has been restarted after a change, even if the installation is interrupted.
RESTART = "/run/fixgw-install.restart"
PACKAGED = "/usr/lib/systemd/system/fixgw.service"  # of the Debian package
#: /etc overrides files here; the files of a Debian package are in /usr/lib.
LIBRARY = "/usr/local/lib"
COMMANDS = ("fixgw", "fixgwc", "fixgw-install")
UNIT = "fixgw.service"
INSTANCES = "fixgw@*.service"
#: The files of `fixgw.systemd`, and their places below a library directory.
FILES = {
    "fixgw.service": "systemd/system/fixgw.service",
    "fixgw@.service": "systemd/system/fixgw@.service",
    "fixgw-safe.service": "systemd/system/fixgw-safe.service",
    "fixgw-safe@.service": "systemd/system/fixgw-safe@.service",
    "fixgw-poweroff.path": "systemd/system/fixgw-poweroff.path",
    "fixgw-poweroff@.path": "systemd/system/fixgw-poweroff@.path",
    "fixgw-poweroff.service": "systemd/system/fixgw-poweroff.service",
    "80-fixgw-can.network": "systemd/network/80-fixgw-can.network",
    "70-fixgw.rules": "udev/rules.d/70-fixgw.rules",
    "sysusers.conf": "sysusers.d/fixgw.conf",
    "tmpfiles.conf": "tmpfiles.d/fixgw.conf",
    "modules.conf": "modules-load.d/fixgw.conf",
    "sysctl.conf": "sysctl.d/90-fixgw.conf",
}
REALTIME = f"/etc/systemd/system/{UNIT}.d/realtime.conf"
CAN = "/etc/systemd/network/80-fixgw-can.network"
PURGED = (CONFIGURATION, "/var/lib/fixgw", "/var/log/fixgw", SHARE, REALTIME, CAN)
NOT_SOURCE = (".*", "build", "dist", "*.egg-info", "__pycache__")


class Refused(Exception):
    """The request cannot be met; the message says why, and what to do."""


class Target:
    """The system, or a directory that stands for it. Reports each action; with `pretend`, does nothing else."""

    def __init__(self, root: Path, pretend: bool = False, say: Callable[[str], object] = print) -> None:
        self.root = root
        self.pretend = pretend
        self.say = say
        self.live = root == Path("/") and not pretend
        #: Whether something has changed that needs a restart of the gateway.
        self.changed = self.live and self.path(RESTART).exists()

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def told(self, what: str, name: str) -> None:
        self.say(f"  {'would be ' if self.pretend else ''}{what}: {name}")

    def write(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Write the whole file or nothing, even if the power fails."""
        path = self.path(name)
        if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
            self.say(f"  unchanged: {name}")
            return
        self.told("written", name)
        self.changes()
        if self.pretend:
            return
        try:
            state.replace(path, data, mode)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None

    def changes(self) -> None:
        """Remember that a restart is needed, even if this run is interrupted."""
        self.changed = True
        if self.live:
            self.path(RESTART).touch()

    def link(self, name: str, to: str) -> None:
        path = self.path(name)
        if path.is_symlink() and os.readlink(path) == to:
            return
        if os.path.lexists(path) and not path.is_symlink():
            self.say(f"  kept, because it is not ours: {name}")
            return
        self.told("linked", f"{name} -> {to}")
        if not self.pretend:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(to)

    def remove(self, name: str) -> None:
        path = self.path(name)
        if not os.path.lexists(path):
            return
        self.told("removed", name)
        if self.pretend:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def run(self, *command: str, optional: bool = False) -> bool:
        """Run a system command, and return whether it succeeded; unless live, only show it.

        Raises `Refused` if it fails and is not `optional`.
        """
        text = shlex.join(command)
        if not self.live:
            self.say(f"  would run: {text}")
            return True
        self.say(f"  $ {text}")
        # PYTHONPATH is for this program, which may run from a wheel.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        try:
            done = subprocess.run(command, env=environment, check=False).returncode == 0
        except FileNotFoundError:
            self.say(f"  there is no {command[0]} on this computer")
            done = False
        if not done and not optional:
            raise Refused(f"this command failed (its output is above): {text}")
        return done


# -- the files to install ----------------------------------------------------------------------------------------------


def unit_file(name: str) -> bytes:
    """A file from the folder systemd/, even inside a wheel."""
    return (resources.files("fixgw") / "systemd" / name).read_bytes()


def defaults() -> dict[str, bytes]:
    """The packaged configuration: names relative to its directory, and contents."""

    def walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            if entry.name.startswith((".", "__")) or entry.name.endswith((".py", ".pyc")):
                continue
            if entry.is_dir():
                yield from walk(entry, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.read_bytes()

    return dict(walk(resources.files("fixgw") / "config", ""))


def own_source() -> str:
    """The wheel or clone that this module was started from. Raises `Refused` for an installed copy.

    Never a package name: in a package index, that name may belong to somebody else.
    """
    here = Path(__file__).resolve()
    for parent in here.parents:
        if parent.suffix == ".whl" and parent.is_file():
            return str(parent)
    clone = here.parents[1]
    if not (clone / "pyproject.toml").is_file():
        raise Refused("an installed copy cannot install the program: use --wheel FILE, or systemd/install of a clone")
    return str(clone)


def fingerprint(source: str, extras: str) -> str:
    """A checksum of `source` and `extras`: changes when there is something new to install."""
    digest = hashlib.sha256(extras.encode())
    path = Path(source)
    if path.is_file():
        digest.update(path.read_bytes())
    else:
        ignore = shutil.ignore_patterns(*NOT_SOURCE)
        for directory, folders, names in os.walk(path):
            skipped = ignore(directory, [*folders, *names])
            folders[:] = sorted(f for f in folders if f not in skipped)
            for name in sorted(n for n in names if n not in skipped):
                file = Path(directory, name)
                digest.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


# -- installing --------------------------------------------------------------------------------------------------------


def install(target: Target, args: argparse.Namespace) -> int:
    if target.path(PACKAGED).exists():
        raise Refused("the Debian package is installed: upgrade that, or remove it first with `apt remove fixgw`")
    if target.live:
        need_root()
        if not (shutil.which("systemctl") and shutil.which("systemd-sysusers")):
            raise Refused("this computer has no systemd: docs/getting-started.md shows how to run without a service")
    target.say(f"FIX Gateway {__version__}")
    install_program(target, args)
    install_configuration(target, args.take_defaults)
    target.say(f"Units, users and device rules, in {LIBRARY}")
    install_files(target, LIBRARY)
    if args.realtime:
        target.write(REALTIME, unit_file("realtime.conf"))
    if args.can:
        target.write(CAN, can_network(args.can, args.listen_only))
    return start(target, args)


def need_root() -> None:
    if os.geteuid() != 0:
        raise Refused("this needs root: run the same command with sudo")


PROBE = """
import importlib.util as u, sys
print("%d.%d" % sys.version_info[:2])
print("" if all(map(u.find_spec, ("venv", "ensurepip"))) else "no venv")
print("yes" if any(map(u.find_spec, ("lgpio", "RPi", "gpiod"))) else "no")
"""


def base_python(given: str | None) -> tuple[str, str, bool]:
    """The Python for the virtual environment, its version such as ``3.11``, and whether it has a GPIO library.

    Raises `Refused` if it is unsuitable.
    """
    python = given or getattr(sys, "_base_executable", "") or sys.executable
    if in_a_home(python) and not given:
        python = "/usr/bin/python3"
    if in_a_home(python):
        raise Refused(f"the service cannot see {python}, which is in a home directory: use --python /usr/bin/python3")
    try:
        result = subprocess.run([python, "-I", "-c", PROBE], capture_output=True, text=True, check=True)
        version, wrong, gpio = result.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError, ValueError):
        raise Refused(f"{python} does not run as Python: choose another with --python") from None
    if tuple(map(int, version.split("."))) < (3, 11):
        raise Refused(f"{python} is Python {version}, but 3.11 or later is needed: choose another with --python")
    if wrong:
        raise Refused("Python's venv module is missing: sudo apt install python3-venv")
    return python, version, gpio == "yes"


def in_a_home(python: str) -> bool:
    return os.path.realpath(python).startswith(("/home/", "/root/"))


def install_program(target: Target, args: argparse.Namespace) -> None:
    """Install the virtual environment with the gateway."""
    if Path(sys.prefix) == target.path(HOME) and not args.wheel:
        if args.extras or args.python or args.system_site_packages:
            raise Refused("these options need a program to install: use --wheel FILE, or systemd/install of a clone")
        target.say(f"The program, in {HOME}: this command is part of it")
        return
    source = args.wheel or own_source()
    if args.wheel and not os.path.isfile(source):
        raise Refused(f"there is no wheel {source}")
    target.say(f"The program, in {HOME}, from {source}")
    python, version, gpio = base_python(args.python)
    home, mine = target.path(HOME), f"{HOME}/bin/python"
    site = args.system_site_packages or gpio
    wanted = f"{fingerprint(source, args.extras)} python {version} site {site}\n"
    # Names the contents. It is empty while pip runs, and missing until the environment is complete, so that an
    # interrupted installation is repeated.
    mark = home / "installed"
    present = mark.read_text() if mark.is_file() else None
    if present == wanted and (not target.live or works(mine)):
        target.say("  unchanged: nothing to install")
    else:
        if site:
            target.say("  with access to the system's Python packages, because lgpio and others have no wheels")
        target.changes()
        facts = (home / "pyvenv.cfg").read_text() if (home / "pyvenv.cfg").is_file() else ""
        fits = f"version = {version}." in facts and f"packages = {str(site).lower()}" in facts
        fresh = present is None or not fits or not (target.live and works(mine))
        if fresh:
            if target.live:
                mark.unlink(missing_ok=True)
            flags = ["--system-site-packages"] if site else []
            target.run(python, "-I", "-m", "venv", "--clear", *flags, HOME)
        if target.live:
            mark.write_text("")
        pip_install(target, source, args, again=not fresh)
        if target.live:
            os.sync()  # before the mark; pip does not sync
            mark.write_text(wanted)
    for command in COMMANDS:
        target.link(f"/usr/local/bin/{command}", f"{HOME}/bin/{command}")


def works(python: str) -> bool:
    try:
        return subprocess.run([python, "-I", "-c", "import pip"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def pip_install(target: Target, source: str, args: argparse.Namespace, again: bool) -> None:
    pip = [f"{HOME}/bin/python", "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    where = ["--no-index"] if args.offline else []
    for directory in args.find_links:
        where += ["--find-links", os.path.abspath(directory)]
    extras = f"[{args.extras}]" if args.extras else ""
    with contextlib.ExitStack() as stack:
        try:
            if os.path.isdir(source):  # build from a copy, so that root leaves no files in the clone
                scratch = "/tmp/fixgw-install"
                if target.live:
                    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="fixgw-install-"))
                    ignore = shutil.ignore_patterns(*NOT_SOURCE)
                    shutil.copytree(source, f"{scratch}/source", symlinks=True, ignore=ignore)
                target.run(*pip, "wheel", "--no-deps", "--wheel-dir", scratch, *where, f"{scratch}/source")
                source = next(map(str, Path(scratch).glob("*.whl")), f"{scratch}/fixgw.whl")
            else:
                source = os.path.abspath(source)
            target.run(*pip, "install", *where, f"{source}{extras}")
            if again:  # pip does not replace a package by the same version
                target.run(*pip, "install", "--force-reinstall", "--no-deps", *where, source)
        except Refused as error:
            raise Refused(
                f"{error}\nWithout a network, use --offline with --find-links DIRECTORY, for wheels fetched elsewhere "
                "(see docs/installation.md), or with --system-site-packages if the system has the libraries"
            ) from None


def install_configuration(target: Target, take: bool) -> None:
    """Copy the defaults the first time; later, show how they have changed.

    Keeps the administrator's files, edited or not, and does not restore removed ones, unless all are gone. With `take`,
    updates files that were never edited.
    """
    target.say(f"The configuration, in {CONFIGURATION}")
    new = defaults()
    before = target.path(DEFAULTS)
    first = not before.is_dir()
    written = checksums(target)
    afresh = not any(os.path.lexists(target.path(f"{CONFIGURATION}/{name}")) for name in new)
    difference: list[str] = []
    same = 0
    for name, data in new.items():
        shown, mine, old = f"{CONFIGURATION}/{name}", target.path(f"{CONFIGURATION}/{name}"), before / name
        was = old.read_bytes() if old.is_file() else None
        if was not in (None, data):
            difference += unified(name, was or b"", data)
        if not os.path.lexists(mine):
            if was is None or afresh:
                target.write(shown, data)
                written[name] = checksum(data)
            else:
                target.say(f"  not restored, because you removed it: {shown}")
        elif not mine.is_file() or mine.read_bytes() == data:
            same += 1
            written[name] = checksum(data)
        elif checksum(mine.read_bytes()) == written.get(name) and take:
            target.write(shown, data)
            written[name] = checksum(data)
        elif checksum(mine.read_bytes()) == written.get(name):
            target.say(f"  kept; the default has changed (--take-defaults updates it: you have not edited it): {shown}")
        else:
            changed = "; the default has changed" if was not in (None, data) else ""
            target.say(f"  kept, because you edited it{changed}: {shown}")
    if same:
        target.say(f"  same as the default: {same} of {len(new)} files")
    for old in () if first else sorted(p for p in before.rglob("*") if p.is_file()):
        name = old.relative_to(before).as_posix()
        if name not in new:
            target.say(f"  kept, but no longer among the defaults: {CONFIGURATION}/{name}")
            target.remove(f"{DEFAULTS}/{name}")
    if difference:
        target.say("  Changes in the defaults since the last installation:")
        for line in difference:
            target.say(f"    {line}")
        target.write(CHANGES, "".join(f"{line}\n" for line in difference).encode())
    elif not first:
        target.say("  The defaults have not changed since the last installation.")
    said, target.say = target.say, lambda _: None  # last, because the next installation compares with these
    for name, data in new.items():
        target.write(f"{DEFAULTS}/{name}", data)
    target.write(WRITTEN, "".join(f"{digest}  {name}\n" for name, digest in sorted(written.items())).encode())
    target.say = said


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checksums(target: Target) -> dict[str, str]:
    """The checksums of the configuration files as last written by this command."""
    path = target.path(WRITTEN)
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def unified(name: str, old: bytes, new: bytes) -> list[str]:
    before, now = (text.decode("utf-8", "replace").splitlines() for text in (old, new))
    return list(difflib.unified_diff(before, now, f"before/{name}", f"now/{name}", lineterm=""))


def install_files(target: Target, library: str) -> None:
    """Write all files for systemd and udev; also used to build the package."""
    for name, place in FILES.items():
        target.write(f"{library}/{place}", unit_file(name))


def can_network(bit_rate: int, listen_only: bool) -> bytes:
    text = unit_file("80-fixgw-can.network").decode().replace("BitRate=250K", f"BitRate={bit_rate}")
    return (text.replace("#ListenOnly=yes", "ListenOnly=yes") if listen_only else text).encode()


def start(target: Target, args: argparse.Namespace) -> int:
    """Register the service, and start the gateway if systemd is running."""
    target.say("The service")
    running = systemd_runs(target)
    target.run("systemd-sysusers", f"{LIBRARY}/{FILES['sysusers.conf']}")
    target.run("systemd-tmpfiles", "--create", f"{LIBRARY}/{FILES['tmpfiles.conf']}", optional=True)
    target.run("systemctl", "unmask", UNIT)  # a removed Debian package leaves it masked
    target.run("systemctl", "enable", UNIT)
    if not running:
        target.say("  systemd is not running: the gateway will start with the system")
        return 0
    target.run("systemctl", "daemon-reload")
    target.run("/usr/lib/systemd/systemd-sysctl", f"{LIBRARY}/{FILES['sysctl.conf']}", optional=True)
    target.run("modprobe", "--quiet", "i2c-dev", optional=True)
    target.run("udevadm", "control", "--reload", optional=True)
    for subsystem in ("gpio", "i2c-dev", "spidev", "tty", "usb-serial"):
        target.run("udevadm", "trigger", f"--subsystem-match={subsystem}", optional=True)
    if args.can:
        start_networkd(target)
    if args.no_start:
        return 0
    if target.live and not target.changed and is_active():
        target.say("  running, and nothing has changed")
        return 0
    if not target.run(f"{HOME}/bin/fixgw", "check", f"{CONFIGURATION}/default.yaml", optional=True):
        raise Refused(f"the configuration has problems; correct them, then run: sudo systemctl restart {UNIT}")
    target.run("systemctl", "reset-failed", UNIT, optional=True)
    if not target.run("systemctl", "restart", UNIT, optional=True):
        target.run("systemctl", "--no-pager", "--lines=20", "status", UNIT, optional=True)
        raise Refused("the gateway did not start: see above")
    target.run("systemctl", "try-restart", INSTANCES, optional=True)
    target.run("systemctl", "--no-pager", "--lines=0", "status", UNIT, optional=True)
    if target.live:
        target.path(RESTART).unlink(missing_ok=True)
        target.say(f"Done. Edit {CONFIGURATION}/default.yaml, and after each change run: sudo systemctl reload fixgw")
    return 0


def systemd_runs(target: Target) -> bool:
    """Whether systemd is running; False, for example, while an image is built."""
    return not target.live or os.path.isdir("/run/systemd/system")


def is_active() -> bool:
    return subprocess.run(["systemctl", "--quiet", "is-active", UNIT], check=False).returncode == 0


def start_networkd(target: Target) -> None:
    """Let networkd set up can0. It ignores interfaces without a file, such as those of NetworkManager."""
    networkd = "systemd-networkd.service"
    enabled = target.live and subprocess.run(["systemctl", "--quiet", "is-enabled", networkd], check=False)
    if enabled and enabled.returncode == 0:
        target.run("networkctl", "reload")
        return
    target.run("systemctl", "enable", "--now", networkd)
    # Enabled together with networkd, it would delay the start of the system for networks that networkd does not manage.
    target.run("systemctl", "disable", "systemd-networkd-wait-online.service", optional=True)


# -- removing, and status ----------------------------------------------------------------------------------------------


def remove(target: Target, args: argparse.Namespace) -> int:
    if target.live:
        need_root()
    target.say("The service")
    running = systemd_runs(target)
    now = ["--now"] if running else []
    target.run("systemctl", "disable", *now, UNIT, "fixgw@.service", optional=True)
    if running:
        target.run("systemctl", "stop", "fixgw-safe.service", INSTANCES, "fixgw-safe@*.service", optional=True)
    target.say("Its files")
    for place in FILES.values():
        target.remove(f"{LIBRARY}/{place}")
        folder = PurePosixPath(place).parent
        while folder.name and not target.pretend and is_empty(target.path(f"{LIBRARY}/{folder}")):
            target.path(f"{LIBRARY}/{folder}").rmdir()
            folder = folder.parent
    for command in COMMANDS:
        link = target.path(f"/usr/local/bin/{command}")
        if link.is_symlink() and os.readlink(link).startswith(f"{HOME}/"):
            target.remove(f"/usr/local/bin/{command}")
    target.remove(HOME)
    if target.live:
        target.path(RESTART).unlink(missing_ok=True)
    if running:
        target.run("systemctl", "daemon-reload", optional=True)
        target.run("udevadm", "control", "--reload", optional=True)
    if args.purge:
        instances = [f"/{p.relative_to(target.root)}" for p in sorted(target.root.glob("var/l*/fixgw-*"))]
        for name in (*PURGED, *instances):
            target.remove(name)
        if not target.pretend and is_empty(target.path(REALTIME).parent):
            target.path(REALTIME).parent.rmdir()
        target.run("userdel", "fixgw", optional=True)
    else:
        target.say(f"Kept: {CONFIGURATION}; {SHARE}, to compare it with later defaults;")
        target.say("state and logs in /var/lib/fixgw and /var/log/fixgw; and the user. --purge removes them too")
    return 0


def is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def status(target: Target, args: argparse.Namespace) -> int:
    """Show what is installed; return 1 if nothing is."""
    if not target.path(f"{LIBRARY}/{FILES[UNIT]}").exists():
        target.say("not installed")
        return 1
    if target.live:
        subprocess.run([f"{HOME}/bin/fixgw", "--version"], check=False)
        for question in ("is-enabled", "is-active"):
            target.say(f"{question} {UNIT}:")
            subprocess.run(["systemctl", question, UNIT], check=False)
    target.say("configuration, compared with its defaults:")
    before, written = target.path(DEFAULTS), checksums(target)
    for old in sorted(p for p in before.rglob("*") if p.is_file()):
        name = old.relative_to(before).as_posix()
        mine = target.path(f"{CONFIGURATION}/{name}")
        as_written = mine.is_file() and checksum(mine.read_bytes()) == written.get(name)
        word = "removed" if not mine.is_file() else "unedited" if as_written else "edited"
        target.say(f"  {word}: {CONFIGURATION}/{name}")
    return 0


# -- the command -------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 not done (the reason is on stderr), 2 wrong usage."""
    args = parser().parse_args(argv)
    # Flush: the commands in between write to the same output.
    target = Target(Path(os.path.abspath(args.root)), args.dry_run, partial(print, flush=True))
    action: Callable[[Target, argparse.Namespace], int] = {"install": install, "remove": remove, "status": status}[
        args.action
    ]
    try:
        return action(target, args)
    except Refused as error:
        return complain(str(error))
    except OSError as error:
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if error.errno == errno.EROFS:
            words += ". Make the disk writable for this: sudo mount -o remount,rw /, or on Raspberry Pi OS disable the "
            words += "overlay file system with raspi-config, and reboot"
        return complain(words)


def complain(words: str) -> int:
    print(f"fixgw-install: {words}", file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fixgw-install",
        description="Install, upgrade or remove FIX Gateway as a service of this computer.\n\n"
        f"  install   program in {HOME}, configuration in {CONFIGURATION}, user, units; started now and with the\n"
        "            system. Repeated: upgrades, keeps the configuration, shows how the defaults have changed\n"
        "  remove    everything except the configuration\n"
        "  status    what is installed, and which configuration files were edited",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", nargs="?", choices=["install", "remove", "status"], default="install")
    parser.add_argument("--dry-run", action="store_true", help="show the steps without taking them")
    parser.add_argument("--root", metavar="DIR", default="/", help="write below DIR, and only show the commands")
    program = parser.add_argument_group("the program")
    program.add_argument("--wheel", metavar="FILE", help="install this wheel")
    program.add_argument("--extras", metavar="NAMES", default="", help="install these extras, such as rpi,can-usb")
    program.add_argument("--find-links", metavar="DIR", action="append", default=[], help="take wheels from DIR first")
    program.add_argument("--offline", action="store_true", help="ask no package index")
    program.add_argument("--system-site-packages", action="store_true", help="use the system's Python packages too")
    program.add_argument("--python", metavar="PYTHON", help="the Python to use")
    service = parser.add_argument_group("the service")
    service.add_argument("--no-start", action="store_true", help="do not start it now")
    service.add_argument("--realtime", action="store_true", help="real-time priority and locked memory")
    service.add_argument("--can", metavar="BITRATE", type=_bit_rate, help="set up CAN interfaces at each start")
    service.add_argument("--listen-only", action="store_true", help="with --can: never send, never acknowledge")
    kept = parser.add_argument_group("the configuration")
    kept.add_argument("--take-defaults", action="store_true", help="upgrade files that were never edited")
    kept.add_argument("--purge", action="store_true", help="with remove: configuration, state, logs and user too")
    return parser


def _bit_rate(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 10_000 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a bit rate from 10000 to 1000000")
    return number


if __name__ == "__main__":
    sys.exit(main())
