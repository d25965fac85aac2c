"""What a bug report needs to know of an installation, in one text file: `fixgw report` without arguments.

It has versions, configuration, status, log and the doctor's findings. A part that fails says so, and costs no other.
"""

from __future__ import annotations

import argparse
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixgw import __version__, configuration, extras
from fixgw.cli import EXIT_DONE, doctor, text
from fixgw.cli.client import connect, new_client
from fixgw.configuration.reader import Reader
from fixgw.configuration.secrets import mask_text, mask_tree, mask_yaml
from fixgw.errors import FixgwError, counted

if TYPE_CHECKING:
    from fixgw.netfix import Client

MAX_FILE_BYTES = 200_000  # of one file of the configuration
MAX_FILES_BYTES = 2_000_000
DOCTOR_S = 2.0  # how long the doctor counts the gateway's updates
PACKAGED = "(as packaged)"
LOCAL = ("127.0.0.1", "localhost", "::1")
Lines = Iterable[str]


def run(args: argparse.Namespace) -> int:
    """Write the report into the working directory, and print its name."""
    client = new_client(args)
    why = ""
    try:
        connect(client)
    except FixgwError as error:
        why = str(error)
    caches, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave no cache files beside plugins
    try:
        report = "\n".join(_Report(client, why).lines()) + "\n"
    finally:
        sys.dont_write_bytecode = caches
        client.disconnect()
    path = save(report, Path(), datetime.now(UTC).astimezone())
    print(f"{path}: look it through before you send it; passwords and the like are masked")
    return EXIT_DONE


def save(report: str, directory: Path, now: datetime) -> Path:
    """Write a new file that only its owner may read. Never overwrites one. Raises OSError."""
    for number in count():
        path = directory / f"fixgw-report-{now:%Y%m%d-%H%M%S}{f'-{number}' if number else ''}.txt"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        try:
            with open(file, "w", encoding="utf-8") as out:
                os.fchmod(file, 0o600)
                out.write(report)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
    raise AssertionError


class _Report:
    """`why` says why there is no answer from the gateway; then `client` is not connected."""

    def __init__(self, client: Client, why: str) -> None:
        self._client = client
        self._why = why
        self._tree: dict[str, Any] = {}
        self._secrets: set[str] = set()
        self._here = client.host in LOCAL

    def lines(self) -> Iterator[str]:
        now = datetime.now(UTC)
        yield f"FIX Gateway {__version__}, report of {now:%Y-%m-%d %H:%M:%S} UTC"
        parts: dict[str, Callable[[], Lines]] = {
            "Versions": self._versions,
            "Gateway": self._status,
            "Configuration": self._configuration,
            "Doctor": self._doctor,
            "Log": self._log,
        }
        found: dict[str, list[str]] = {}
        for title, part in parts.items():
            try:
                found[title] = list(part())
            except Exception as error:  # whatever is wrong, the rest of the report is wanted the more
                found[title] = [f"This part failed: {type(error).__name__}: {error}"]
        # All secrets are known only now: those of the configuration may be in the status, too.
        for title, lines in found.items():
            yield from ("", f"== {title} ==", "")
            masked = lines if title == "Configuration" else mask_text("\n".join(lines), self._secrets).split("\n")
            yield from (text.printable(line) for line in masked)

    def _versions(self) -> Iterator[str]:
        system = platform.uname()
        memory = _first_line("/proc/meminfo").partition(":")[2].strip()
        rows = [
            ("fixgw", f"{__version__} in {Path(__file__).parents[1]}"),
            ("Python", f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"),
            ("system", f"{_distribution()}, {system.system} {system.release} {system.machine}"),
            ("computer", _first_line("/proc/device-tree/model") or "unknown"),
            ("memory", memory or "unknown"),
            ("time zone", datetime.now(UTC).astimezone().strftime("%Z %z")),
        ]
        yield from text.table(rows)
        yield from ("", "libraries:", *text.table(_libraries(), "  "))

    def _status(self) -> Iterator[str]:
        if self._why:
            yield f"No gateway is running, or it cannot be asked: {self._why}"
            yield "The status and the log of a running gateway are missing from this report."
            return
        self._tree = self._client.status()
        yield from text.status_lines(mask_tree(self._tree), verbose=True)

    def _configuration(self) -> Iterator[str]:
        if not self._here:
            yield f"The configuration is on {self._client.host}: run `fixgw report` there."
            return
        reader = Reader(self._file(), {"PACKAGE": str(configuration.packaged())})
        try:
            configuration.examine(reader)
        except Exception as error:  # a plugin may raise anything when it is imported
            yield f"Reading it raised {type(error).__name__}: {error}"
        texts = {name: self._text(name) for name in reader.files}  # with all secrets
        said = [f"problem: {problem}" for problem in reader.sorted_problems()]
        said += map(str, reader.sorted_advice())
        yield from mask_text("\n".join(said), self._secrets).split("\n") if said else ("It has no problems.",)
        own = {name: content for name, content in texts.items() if content != PACKAGED}
        yield from ("", f"{counted(len(texts) - len(own), 'file')} as packaged, {len(own) or 'no'} others:")
        left = MAX_FILES_BYTES
        for name, content in own.items():
            yield from ("", f"-- {name}")
            left -= len(content)
            if left < 0:
                yield "(left out: there is too much of it)"
            else:
                yield from mask_text(content, self._secrets).splitlines()

    def _file(self) -> Path:
        """The configuration that the gateway runs, or would run."""
        running = (self._tree.get("configuration") or {}).get("file")
        return Path(running) if running and os.path.exists(running) else configuration.find()

    def _text(self, name: str) -> str:
        path = Path(name)
        if path.is_relative_to(configuration.packaged()):
            return PACKAGED
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return "(not a file)"
            with open(path, "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return f"({error.strerror})"
        masked, secrets = mask_yaml(content[:MAX_FILE_BYTES].decode("utf-8", "replace"))
        self._secrets |= secrets
        return masked + ("\n(cut here)" if len(content) > MAX_FILE_BYTES else "")

    def _doctor(self) -> Iterator[str]:
        if not self._here:
            yield f"It looks at its own computer: run `fixgw report` on {self._client.host}."
            return
        from fixgw.doctor import Machine, examine

        client = None if self._why else self._client
        yield from doctor.lines(list(examine(self._file(), Machine(), client, None, DOCTOR_S)))

    def _log(self) -> Iterator[str]:
        if self._why:
            yield "No gateway answers. If systemd runs it, this has its last lines: journalctl -u fixgw -n 500"
            return
        for line in self._client.log():
            when = datetime.fromtimestamp(line.time, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            first, *more = line.text.splitlines() or [""]
            yield f"{when} {line.level:<7} {line.connection or 'gateway'}: {first}"
            yield from (f"    {each}" for each in more)


def _libraries() -> Iterator[tuple[str, str]]:
    """The libraries that the gateway can use, and their versions."""
    wanted = {extras.name(each) for needed in extras.extras().values() for each in needed}
    for library in sorted(wanted - {"fixgw"}):
        try:
            yield library, metadata.version(library)
        except metadata.PackageNotFoundError:
            yield library, "not installed"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _first_line(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.readline(1000).strip("\0 \t\n")
    except OSError:
        return ""
