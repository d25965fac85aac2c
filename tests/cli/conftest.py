"""A real gateway to talk to, commands in this process and in child processes, and a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixgw import configuration, database
from fixgw.cli import main
from fixgw.database import Database
from fixgw.gateway import Gateway

CONFIGURATION = """\
database file: "{CONFIG}/database.yaml"
connections:
  netfix:
    module: fixgw.plugins.netfix
    port: %d
    %s
"""
ITEMS = """\
entries:
  - {key: IAS, description: Indicated airspeed, type: float, min: 0, max: 1000, units: knots, tol: 2000,
     aux: [Vs, Vne]}
  - {key: ALT, description: Indicated altitude, type: float, min: -1000, max: 60000, units: ft, tol: 0}
  - {key: BARO, description: Altimeter setting, type: float, min: 20, max: 35, units: inHg, tol: 0, setting: true}
  - {key: EGT11, description: First, type: float, min: 0, max: 1000, units: degC, tol: 0}
  - {key: EGT12, description: Second, type: float, min: 0, max: 1000, units: degC, tol: 0}
  - {key: GEAR, description: Gear is down, type: bool, tol: 0}
  - {key: COUNT, description: A number of things, type: int, min: 0, max: 9, tol: 0}
  - {key: ACID, description: Name of the aircraft, type: str, tol: 0}
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Bench:
    """A gateway in this process, on its own port. It can be stopped and restarted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries = ITEMS
        self.port = 0
        self.connection_options = ""
        self.start()

    @property
    def file(self) -> Path:
        return self.directory / "default.yaml"

    @property
    def db(self) -> Database:
        return self.gateway.database

    def start(self) -> None:
        (self.directory / "database.yaml").write_text(self.entries)
        self.file.write_text(CONFIGURATION % (self.port, self.connection_options))
        self.gateway = Gateway(configuration.load(self.file))
        self.gateway.start()
        self._thread = threading.Thread(target=self.gateway.run_forever, args=(False,))
        self._thread.start()
        self.port = self.gateway.runners["netfix"].plugin.port  # type: ignore[union-attr]

    def stop(self) -> None:
        self.gateway.request_stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def clients(self) -> int:
        return self.gateway.get_status()["connections"]["netfix"]["status"]["clients"]  # type: ignore[no-any-return]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A gateway that commands find by its port in the environment."""
    before = database.current()
    bench = Bench(tmp_path)
    monkeypatch.setenv("FIXGW_PORT", str(bench.port))
    monkeypatch.delenv("FIXGW_HOST", raising=False)
    yield bench
    bench.stop()
    database.bind(before)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process."""

    def do(*argv: str) -> Result:
        code = main(argv)
        return Result(code, *capsys.readouterr())

    return do


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, so that the user's own configuration and history have no effect."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "FIXGW_CONFIG", "NO_COLOR", "INVOCATION_ID", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def child(home: Path) -> Callable[..., Result]:
    """Run a command in a child process until it ends."""

    def do(*argv: str, input: str = "", **environ: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "fixgw", *argv],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            input=input,
            env={**os.environ, **environ},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return do


@pytest.fixture
def started(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in a child process, with pipes for its output."""
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=20)


class Terminal:
    """A command on its own terminal. `shown` is its output that `wait_for` has not consumed yet."""

    def __init__(self, *argv: str, columns: int = 100, rows: int = 24, **environ: str) -> None:
        self.shown = ""
        self.fd, far = os.openpty()
        self.resize(columns, rows)
        # The first terminal that a session leader opens becomes its controlling terminal, so Ctrl-C works.
        shell = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(far)]
        self.process = subprocess.Popen(
            [*shell, sys.executable, "-m", "fixgw", *argv],
            env={**os.environ, "TERM": "xterm", **environ},
            start_new_session=True,
        )
        self._far: int | None = far  # keep it open until the command has opened it

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def wait_for(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait for the first match in the output since the last match."""
        deadline = time.monotonic() + seconds
        while True:
            if found := re.search(pattern, self.shown, re.DOTALL):
                self.shown = self.shown[found.end() :]
                return found
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"no {pattern!r} in {self.shown[-2000:]!r}"
            assert self._read(remaining), f"ended without {pattern!r}: {self.shown[-2000:]!r}"

    def interrupt_until(self, pattern: str) -> None:
        """Press Ctrl-C until `pattern` appears: readline misses one that arrives just before it waits for a key."""
        for _ in range(10):
            self.type("\x03")
            before = time.monotonic()
            while time.monotonic() < before + 1.0 and not re.search(pattern, self.shown, re.DOTALL):
                assert self._read(0.1)
            if re.search(pattern, self.shown, re.DOTALL):
                break
        self.wait_for(pattern)

    def _read(self, seconds: float) -> bool:
        """Read output for up to `seconds`. False when the command has closed its terminal."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        if self._far is not None:
            os.close(self._far)
            self._far = None
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def end(self, seconds: float = 20.0) -> int:
        """Wait for the command to end while reading its output. Returns the exit code, or minus the signal."""
        deadline = time.monotonic() + seconds
        while self._read(max(0.0, deadline - time.monotonic())):
            assert time.monotonic() < deadline, f"still running: {self.shown[-2000:]!r}"
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)
        os.close(self.fd)


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    """Start a command on a terminal."""
    opened: list[Terminal] = []

    def open_terminal(*argv: str, **options: Any) -> Terminal:
        opened.append(Terminal(*argv, **options))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.close()
