"""Checks before flight: is everything present, permitted, fed and healthy, and if not, what fixes it?

`examine` looks at the configuration, the needs of its connections (`fixgw.plugin.PluginBase.preflight`), the machine,
and the running gateway, if there is one. It changes nothing, opens no device, and needs no privileges.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from fixgw import configuration, loader, state
from fixgw.clock import EARLIEST_YEAR
from fixgw.errors import ConfigurationError, FixgwError, Refused, counted
from fixgw.kit.options import convert
from fixgw.plugin import CONFIGPATH, Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.configuration import Configuration, Connection
    from fixgw.netfix import Client

OK: Final = "ok"
SKIPPED: Final = "skipped"
WARNING: Final = "warning"
PROBLEM: Final = "problem"
SERVICE_USER = "fixgw"
INSTALLED = "/opt/fixgw"  # if it exists, the gateway is a service
PATIENCE_S = 15.0  # for a gateway to explain all keys
LOW_DISK_BYTES = 200 << 20
FULL_DISK_BYTES = 10 << 20
HOT_C, TOO_HOT_C = 75.0, 82.0  # a Pi slows down at 80 to 85
NO_INSTRUMENT = "no instrument is configured yet: copy the configuration, and add yours under `connections`"
#: Counters in a connection's status that should be 0.
COUNTERS = ("bus off", "error frames", "lost", "saving failed")


class Result(NamedTuple):
    """A finding, and its subject: ``configuration``, a connection, ``gateway`` or a part of the machine."""

    about: str
    finding: Finding


class Who(NamedTuple):
    """The user of the gateway."""

    name: str
    uid: int
    groups: frozenset[int]


class Machine:
    """This computer, seen from `root`: tests build their own trees. Never raises."""

    def __init__(self, root: Path = Path("/"), now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self.now = now

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """The content of a small file, without surrounding white space; empty if it cannot be read."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as file:
                return file.read(4096).strip("\0 \t\n")
        except OSError:
            return ""

    def find(self, pattern: str) -> list[str]:
        """The matching paths on this computer."""
        return sorted("/" + str(p.relative_to(self.root)) for p in self.root.glob(pattern.lstrip("/")))

    def process(self, pid: int) -> Who | None:
        """The user of a process; None if unknown."""
        facts = dict(line.partition(":")[::2] for line in self.read(f"/proc/{pid}/status").splitlines())
        try:
            uid = int(facts["Uid"].split()[1])
            groups = frozenset(map(int, [facts["Gid"].split()[1], *facts["Groups"].split()]))
        except (KeyError, IndexError, ValueError):
            return None
        return Who(_user_name(uid), uid, groups)


def user(name: str | None = None) -> Who:
    """The user `name`, or the service's user if it exists, or else the current user. Raises `FixgwError` if unknown."""
    for wanted in [name] if name else [SERVICE_USER]:
        try:
            entry = pwd.getpwnam(wanted)
            return Who(wanted, entry.pw_uid, frozenset(os.getgrouplist(wanted, entry.pw_gid)))
        except KeyError:
            if name:
                raise FixgwError(f"there is no user {name!r}") from None
    return Who(_user_name(os.geteuid()), os.geteuid(), frozenset([os.getegid(), *os.getgroups()]))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def examine(
    file: Path, machine: Machine, client: Client | None = None, who: Who | None = None, seconds: float = 4.0
) -> Iterator[Result]:
    """All findings, in the order in which to fix them.

    `client` is connected to a running gateway, which is watched for `seconds`; without a client that part is skipped.
    `who` is the user who needs access to the devices: by default that gateway's, or else `user()`.
    """
    loaded: Configuration | None = None
    try:
        loaded = configuration.load(file)
    except ConfigurationError as error:
        yield from (Result("configuration", Finding(PROBLEM, str(problem))) for problem in error.problems)
    else:
        size = f"{counted(len(loaded.connections), 'connection')}, {counted(len(loaded.definitions), 'item')}"
        yield Result("configuration", Finding(OK, f"{size} ({loaded.file})"))
        if all(c.plugin.__module__.startswith(loader.PLUGINS) for c in loaded.connections):
            yield Result("configuration", Finding(SKIPPED, NO_INSTRUMENT, "fixgw config init ~/.config/fixgw"))
    tree: dict[str, Any] = {}
    silent = _absent(machine)
    if client is not None:
        try:
            tree = client.status()
        except Refused as error:
            silent = Finding(SKIPPED, f"it does not report its status: {error}")
        except FixgwError as error:
            silent = Finding(PROBLEM, f"something listens there but does not answer: {error}")
    if who is None:
        who = machine.process(_number(_inner(tree, "process").get("pid"))) or user()
    feeds: dict[str, list[str]] = {}
    for connection in loaded.connections if loaded is not None else ():
        for finding in _needs(connection, machine, who, feeds):
            yield Result(connection.name, finding)
        if connection.plugin.elects and connection.options.get("total_nodes") != 1:
            yield Result(connection.name, _votes(loaded))
    yield from _machine(machine, loaded)
    if not tree:
        yield Result("gateway", silent)
    if client is None or not tree:
        return
    yield from _gateway(tree, loaded)
    yield from _keys(client, tree, loaded, feeds, seconds)


# -- requirements of connections ---------------------------------------------------------------------------------------


def _needs(connection: Connection, machine: Machine, who: Who, feeds: dict[str, list[str]]) -> Iterator[Finding]:
    plugin = connection.plugin
    try:
        options: Any = {k: v for k, v in connection.options.items() if k != CONFIGPATH}
        if plugin.Options is not None:
            options = convert(options, plugin.Options)
        found = list(plugin.preflight(options))
    except Exception as error:  # plugins by others may raise anything
        yield Finding(WARNING, f"preflight() of {connection.module} raised {type(error).__name__}: {error}")
        return
    for need in found:
        if isinstance(need, Device):
            yield look_at(need, machine, who)
        elif isinstance(need, Feeds):
            feeds.setdefault(connection.name, []).extend(need.keys)
        else:
            yield need


def _votes(loaded: Configuration | None) -> Finding:
    """Whether this gateway's vote for a leader reaches the others."""
    carriers = [c.name for c in loaded.connections if c.carries_votes] if loaded is not None else []
    if carriers:
        return Finding(OK, f"votes travel by {', '.join(carriers)}")
    return Finding(WARNING, "no connection carries the votes: a CAN-FIX bus does, and NetFIX `outputs` that list QVOTE")


def look_at(device: Device, machine: Machine, who: Who) -> Finding:
    """Whether a device exists, and `who` may read and write it."""
    path = device.path
    try:
        about = machine.path(path).stat()
    except PermissionError:
        return Finding(SKIPPED, f"{path}: no permission to look into its directory")
    except OSError:
        others = [p for p in machine.find(_likely(path)) if p != path] if path.startswith("/dev/") else []
        message = f"there is no {path}" + (f"; there is {', '.join(others[:8])}" if others else "")
        return Finding(PROBLEM, message, device.enable)
    if _may_write(about, who):
        return Finding(OK, f"{path} exists, and {who.name} may use it")
    try:
        group = grp.getgrgid(about.st_gid).gr_name
    except KeyError:
        group = str(about.st_gid)
    mode = stat.filemode(about.st_mode)
    if about.st_mode & 0o060 == 0o060 and about.st_gid != 0:
        fix = f"sudo usermod -aG {group} {who.name}  # then restart the gateway; people must log in again"
    elif device.group:
        fix = f"sudo chgrp {device.group} {path} && sudo chmod g+rw {path}  # until a udev rule does this"
    else:
        fix = ""
    return Finding(PROBLEM, f"{path}: {who.name} may not read and write it ({mode}, group {group})", fix)


def _may_write(about: os.stat_result, who: Who) -> bool:
    if who.uid == 0:
        return True
    shift = 6 if about.st_uid == who.uid else 3 if about.st_gid in who.groups else 0
    return about.st_mode >> shift & 6 == 6


def _likely(path: str) -> str:
    """A pattern for devices of the same kind, such as ports or buses."""
    name = path.removeprefix("/dev/")
    if name.startswith(("tty", "serial")):
        return "/dev/tty[AU][CMAS][MAB]*" if not name.startswith("serial/") else "/dev/serial/by-*/*"
    return "/dev/" + name.rstrip("0123456789.") + "*"


# -- the machine -------------------------------------------------------------------------------------------------------


def _machine(machine: Machine, loaded: Configuration | None) -> Iterator[Result]:
    for about, check in (("clock", _clock), ("card", _card), ("power", _power), ("temperature", _temperature)):
        for finding in check(machine):
            yield Result(about, finding)
    for finding in _disk(machine, loaded):
        yield Result("disk", finding)


def _clock(machine: Machine) -> Iterator[Finding]:
    now = machine.now()
    shown = f"{now:%Y-%m-%d %H:%M} UTC"
    has_rtc = bool(machine.find("/sys/class/rtc/rtc*"))
    synchronised = machine.path("/run/systemd/timesync/synchronized").exists()
    source = "set by network time" if synchronised else "apparently not set by network time"
    source += "" if has_rtc else "; no battery-backed clock"
    if now.year < EARLIEST_YEAR or now.year > EARLIEST_YEAR + 50:
        # This affects logs and certificates, but not values, their ages or timers.
        yield Finding(
            WARNING, f"it is not {shown} ({source}); this affects only the dates in logs", "timedatectl status"
        )
    else:
        yield Finding(OK, f"{shown} ({source})")


def _disk(machine: Machine, loaded: Configuration | None) -> Iterator[Finding]:
    kept = Path("/var/lib/fixgw")
    directory = str(kept) if machine.path(str(kept)).is_dir() else str(state.path("x").parent)
    places = {"state": directory} | ({"configuration": str(loaded.directory)} if loaded is not None else {})
    for what, place in places.items():
        path = machine.path(place)
        while not path.exists() and path != path.parent:
            path = path.parent
        try:
            about = os.statvfs(path)
        except OSError as error:
            yield Finding(WARNING, f"{what} in {place}: {error.strerror}")
            continue
        free = about.f_bavail * about.f_frsize
        words = f"{what} in {place}: {free / 2**20:,.0f} MiB free"
        if about.f_flag & os.ST_RDONLY and what == "state":
            yield Finding(
                WARNING, f"{what} in {place}: the disk is read-only, so state is not saved", "mount | grep ro,"
            )
        elif free < FULL_DISK_BYTES:
            yield Finding(PROBLEM, words, "sudo journalctl --vacuum-size=50M")
        elif free < LOW_DISK_BYTES:
            yield Finding(WARNING, words, "sudo journalctl --vacuum-size=50M")
        else:
            yield Finding(OK, words)


def _card(machine: Machine) -> Iterator[Finding]:
    """Wear as eMMC reports it (JEDEC eMMC 5.0, EXT_CSD 267 to 269: tenths of the life used, 11 for more; 2 and 3 for
    spare blocks 80 % and more used up). SD cards do not report it."""
    for device in machine.find("/sys/block/mmcblk[0-9]"):
        name = device.rpartition("/")[2]
        used = [_number(word, 16) for word in machine.read(f"{device}/device/life_time").split()]
        spare = _number(machine.read(f"{device}/device/pre_eol_info"), 16)
        tenths = max(used, default=0)
        if not tenths and not spare:
            yield Finding(SKIPPED, f"{name} does not report its wear")
        elif tenths > 10 or spare >= 3:
            yield Finding(PROBLEM, f"{name} is worn out: replace it before it fails")
        elif tenths >= 9 or spare == 2:
            yield Finding(WARNING, f"{name} has used up to {tenths * 10} % of its life: have a spare ready")
        else:
            yield Finding(OK, f"{name} has used up to {tenths * 10} % of its life")
        if machine.read(f"{device}/ro") == "1":
            yield Finding(WARNING, f"{name} is write-protected: by its switch, or because it has failed")


#: The firmware's flags by bit: at present, and 16 bits higher since power-on.
_THROTTLED = {0: "under-voltage", 1: "slowed down", 2: "throttled", 3: "at its temperature limit"}


def _power(machine: Machine) -> Iterator[Finding]:
    text = machine.read("/sys/devices/platform/soc/soc:firmware/get_throttled") or _vcgencmd(machine)
    alarms = [
        machine.read(f"{path.rpartition('/')[0]}/in0_lcrit_alarm") == "1"
        for path in machine.find("/sys/class/hwmon/hwmon*/name")
        if machine.read(path) == "rpi_volt"
    ]
    if not text and not alarms:
        yield Finding(SKIPPED, "this computer does not report its power supply")
        return
    flags = _number(text, 16) | any(alarms)
    now = [words for bit, words in _THROTTLED.items() if flags >> bit & 1]
    past = [words for bit, words in _THROTTLED.items() if flags >> 16 + bit & 1 and words not in now]
    advice = "" if not flags & 0x10001 else ": use a supply of 5.1 V and 3 A (Pi 5: 5 A), with short, thick wires"
    if now:
        yield Finding(PROBLEM, f"the processor is now {', '.join(now)}{advice}")
    if past:
        yield Finding(WARNING, f"since power-on the processor was {', '.join(past)}{advice}")
    if not now and not past:
        yield Finding(OK, "no under-voltage and no throttling since power-on")


def _vcgencmd(machine: Machine) -> str:
    program = shutil.which("vcgencmd") if machine.root == Path("/") else None
    if program is None:
        return ""
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=2.0, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("throttled=")[2]


def _temperature(machine: Machine) -> Iterator[Finding]:
    found = [_number(machine.read(path)) / 1000 for path in machine.find("/sys/class/thermal/thermal_zone*/temp")]
    if not found:
        yield Finding(SKIPPED, "this computer does not report its temperature")
        return
    hottest = max(found)
    words = f"processor at {hottest:.0f} degrees C"
    if hottest >= TOO_HOT_C:
        yield Finding(PROBLEM, f"{words}: it slows down; improve its cooling")
    elif hottest >= HOT_C:
        yield Finding(WARNING, f"{words}: too little margin for a hot day")
    else:
        yield Finding(OK, words)


def _number(text: Any, base: int = 10) -> int:
    try:
        return int(text, base) if isinstance(text, str) else int(text)
    except (TypeError, ValueError):
        return 0


# -- the running gateway -----------------------------------------------------------------------------------------------


def _absent(machine: Machine) -> Finding:
    fix = "sudo systemctl start fixgw" if machine.path(INSTALLED).exists() else "fixgw run"
    return Finding(SKIPPED, "no gateway answers: the sources of the keys were not examined", fix)


def _inner(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    inner = tree.get(name)
    return inner if isinstance(inner, dict) else {}


def _gateway(tree: Mapping[str, Any], loaded: Configuration | None) -> Iterator[Result]:
    connections = _inner(tree, "connections")
    level: Literal["ok", "warning"] = OK if tree.get("health") == "ok" else WARNING  # its connections report problems
    yield Result("gateway", Finding(level, f"version {tree.get('version')}: {tree.get('summary')}"))
    theirs = _inner(tree, "configuration").get("file")
    if loaded is not None and theirs and os.path.realpath(theirs) != os.path.realpath(loaded.file):
        yield Result(
            "gateway",
            Finding(WARNING, f"it runs another configuration: {theirs}", f"fixgw doctor {shlex.quote(theirs)}"),
        )
    for problem in _inner(tree, "configuration").get("problems") or ():
        yield Result("gateway", Finding(WARNING, f"not yet applied: {problem}"))
    for key, conflict in _inner(_inner(tree, "database"), "conflicts").items():
        yield Result("gateway", Finding(WARNING, f"{key} is written by {conflict}: rank them, or remove one of them"))
    for name in [c.name for c in loaded.connections if c.name not in connections] if loaded is not None else ():
        yield Result(
            name, Finding(WARNING, "it is configured, but the running gateway does not have it", "fixgw status")
        )
    for name, report in connections.items():
        if not isinstance(report, dict):
            continue
        health = report.get("health")
        if health != "ok":
            yield Result(name, Finding(PROBLEM, f"not well: {health}", f"fixgw status --verbose  # {name}"))
        if report.get("restarts"):
            yield Result(name, Finding(WARNING, f"restarted {counted(report['restarts'], 'time')}"))
        for finding in _counters(_inner(report, "status")):
            yield Result(name, finding)


def _counters(status: Mapping[str, Any], where: str = "") -> Iterator[Finding]:
    """Error counters of a connection's status, and of the buses in it."""
    for name, value in status.items():
        if name in COUNTERS and isinstance(value, int) and value:
            yield Finding(WARNING, f"{where}{name}: {value}")
        elif name == "controller" and value in ("warning", "passive", "bus off"):
            errors = status.get("error counters")
            yield Finding(
                PROBLEM,
                f"{where}the controller is {value}{f' ({errors})' if errors else ''}: check the wiring, the two "
                "120 ohm resistors, and that all devices use the same bit rate",
            )
        elif isinstance(value, dict) and not where:
            yield from _counters(value, f"{name}: ")


# -- the sources of keys -----------------------------------------------------------------------------------------------


class Fed(NamedTuple):
    """A key with a source: its `writes` in the seconds `watched`, and its `tolerance` in seconds; 0: it never ages."""

    key: str
    writes: int
    watched: float
    tolerance: float

    @property
    def rate(self) -> float:
        """Writes a second."""
        return self.writes / self.watched

    @property
    def needed(self) -> float:
        """Writes a second to stay fresh; 0 if `watched` is too short to tell."""
        return 1 / self.tolerance if 0 < self.tolerance <= self.watched else 0.0

    @property
    def slow(self) -> bool:
        """Whether it is written too seldom, allowing for one write just before or after."""
        return self.writes + 1 < self.needed * self.watched


def _keys(
    client: Client,
    tree: Mapping[str, Any],
    loaded: Configuration | None,
    feeds: Mapping[str, list[str]],
    seconds: float,
) -> Iterator[Result]:
    try:
        before = _explain(client)
        time.sleep(seconds)
        after = _explain(client)
    except Refused as error:
        yield Result("keys", Finding(SKIPPED, f"the gateway refuses to explain them: {error}"))
        return
    except FixgwError as error:
        yield Result("keys", Finding(PROBLEM, f"the gateway stopped answering: {error}"))
        return
    sources = {c.name: c.source for c in loaded.connections} if loaded is not None else {}
    sources = {**{name: name for name in _inner(tree, "connections")}, **sources}
    fed: dict[str, list[Fed]] = {}
    wrong: dict[tuple[str, str], list[str]] = {}
    for key, (at, facts) in after.items():
        source = facts.get("source") or ""
        owner = next((name for name, s in sources.items() if _is_of(source, s)), None)
        if owner is None or key not in before:
            continue  # initial values, and values that clients write
        then, first = before[key]
        writes = facts["writes"] - first["writes"]
        fed.setdefault(owner, []).append(Fed(key, writes, at - then, facts["tolerance"]))
        for flag in [flag for flag in ("fail", "old", "bad", "secfail") if flag in _inner(facts, "flags")][:1]:
            reason = facts["flags"][flag]
            wrong.setdefault((owner, f"{flag}: {reason}" if reason else flag), []).append(key)
    for (owner, reason), keys in wrong.items():
        level: Literal["warning", "problem"] = PROBLEM if reason.startswith(("fail", "old")) else WARNING
        yield Result(owner, Finding(level, f"{_some(keys)}: {reason}", f"fixgw explain {keys[0]}"))
    for owner, all_of_it in fed.items():
        yield Result(owner, Finding(OK, _feeding(all_of_it)))
        flagged = {key for (name, _), keys in wrong.items() if name == owner for key in keys}
        slow = [f"{f.key} {f.rate:.2g} of {f.needed:.2g}" for f in all_of_it if f.slow and f.key not in flagged]
        if slow:
            words = f"written too seldom to stay fresh (values a second, of those needed): {_some(slow)}"
            yield Result(owner, Finding(WARNING, words))
    for name, mapped in feeds.items():
        never = [
            key
            for key in dict.fromkeys(mapped)
            if key in after and after[key][1]["tolerance"] and not _has(after[key][1], sources.get(name, name))
        ]
        if never:
            yield Result(name, Finding(WARNING, f"mapped, but never written: {_some(never)}"))


def _some(words: list[str]) -> str:
    return ", ".join(words[:20]) + (f" and {len(words) - 20} more" if len(words) > 20 else "")


def _explain(client: Client) -> dict[str, tuple[float, dict[str, Any]]]:
    """The gateway's explanation of every key, and its time in monotonic seconds. Raises `FixgwError`."""
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    began = time.monotonic()
    for key in client.list():
        if time.monotonic() - began > PATIENCE_S:
            raise FixgwError(f"it explained only {len(found)} keys in {PATIENCE_S:g} s")
        facts = client.explain(key)
        found[key] = time.monotonic(), facts
    return found


def _is_of(source: str, connection: str) -> bool:
    """Whether it is the connection's source or one of its sub-sources."""
    return source == connection or source.startswith(f"{connection}/")


def _has(facts: Mapping[str, Any], connection: str) -> bool:
    return any(_is_of(str(s.get("source")), connection) for s in facts.get("sources") or ())


def _feeding(keys: Iterable[Fed]) -> str:
    fed = list(keys)
    words = f"feeds {counted(len(fed), 'key')}, {sum(f.rate for f in fed):.3g} values a second"
    slowest = min((f for f in fed if f.needed), key=lambda f: f.rate / f.needed, default=None)
    if slowest is not None:
        words += f"; the slowest is {slowest.key}, {slowest.rate:.2g} of {slowest.needed:.2g} needed to stay fresh"
    return words
