"""The gateway as a process: signals, exit codes, and notifications to a service manager over a real socket."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixgw import service
from fixgw.service import EXIT_CONFIG, EXIT_FAILURE, EXIT_HUNG, EXIT_OK, Notifier

pytestmark = pytest.mark.slow

STUCK = """
    import threading
    import fixgw.plugin as plugin

    class Plugin(plugin.PluginBase):
        def run(self):
            self.thread = threading.Thread(target=threading.Event().wait)   # not a daemon: keeps a process alive
            self.thread.start()

        def stop(self):
            raise plugin.PluginFail("stuck")
"""


class Manager:
    """A service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.heard: list[str] = []

    def until(self, message: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not any(m.startswith(message) for m in self.heard):
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except TimeoutError:
                pytest.fail(f"{message} was not sent; heard {self.heard}")

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def manager(short_path: Path) -> Iterator[Manager]:
    manager = Manager(short_path / "notify")
    yield manager
    manager.close()


class Process:
    def __init__(self, directory: Path, configuration: str, **environment: str) -> None:
        self.file = directory / "default.yaml"
        self.configure(configuration)
        (directory / "stuck.py").write_text(textwrap.dedent(STUCK))
        environment = {**os.environ, "PYTHONPATH": str(directory), "HOME": str(directory), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "run", "--config-file", str(self.file), "--verbose"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def configure(self, text: str) -> None:
        self.file.write_text(textwrap.dedent(text))

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str]:
        if number is not None:
            self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


SKELETON = "connections: {a: {load: yes, module: fixgw.plugins.skel}}"


@pytest.fixture
def run(tmp_path: Path, manager: Manager) -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for each in processes:
        each.process.kill()
        each.process.communicate()


def start(run: list[Process], tmp_path: Path, manager: Manager, text: str, **environment: str) -> Process:
    run.append(Process(tmp_path, text, NOTIFY_SOCKET=manager.path, **environment))
    return run[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds_with_code_0(
    run: list[Process], tmp_path: Path, manager: Manager, number: int
) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    started = time.monotonic()
    code, output = process.end(number)
    assert code == EXIT_OK
    assert time.monotonic() - started < 2.0
    assert "Traceback" not in output
    manager.until("STOPPING=1")


def test_a_stuck_plugin_leads_to_a_hard_exit_with_its_code(
    run: list[Process], tmp_path: Path, manager: Manager
) -> None:
    process = start(run, tmp_path, manager, "connections: {a: {load: yes, module: stuck}}")
    manager.until("READY=1")
    code, output = process.end()
    assert code == EXIT_HUNG
    assert "stuck" in output


def test_a_failure_that_must_stop_the_gateway_has_its_code(
    run: list[Process], tmp_path: Path, manager: Manager
) -> None:
    text = """
        connections:
          a: {load: yes, module: fixgw.plugins.skel}
          n: {load: yes, module: fixgw.plugins.netfix, host: 203.0.113.1, port: 0, on_failure: stop}
        """
    code, _ = start(run, tmp_path, manager, text).end(None)
    assert code == EXIT_FAILURE


def test_a_broken_configuration_is_not_started(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    code, output = start(run, tmp_path, manager, "connections: {a: {load: yes, module: fixgw.plugins.skle}}").end(None)
    assert code == EXIT_CONFIG
    assert f"{tmp_path}/default.yaml:1:" in output
    assert "skel" in output


def test_reload_over_sighup_tells_the_manager(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    manager.heard.clear()
    process.configure("connections: {a: {load: yes, module: nonsense}}")
    process.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING=1")
    manager.until("MONOTONIC_USEC=")
    manager.until("READY=1")
    manager.until("STATUS=1 of 1 connections well; configuration: 1 problem")
    manager.heard.clear()
    process.configure(SKELETON.replace("}}", ", interval: 0.5}}"))
    process.process.send_signal(signal.SIGHUP)
    manager.until("STATUS=1 of 1 connections well")
    code, output = process.end()
    assert code == EXIT_OK
    assert "configuration reloaded: stopped a" in output
    assert "configuration reloaded: started a" in output


def test_the_watchdog_is_fed_while_all_is_well(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    start(run, tmp_path, manager, SKELETON, WATCHDOG_USEC="400000")
    manager.until("READY=1")
    for _ in range(3):
        manager.heard.clear()
        manager.until("WATCHDOG=1", 5.0)


def test_an_abstract_socket_works_too() -> None:
    name = f"fixgw-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name, "WATCHDOG_USEC": "3000000"})
        notifier.ready("all\nwell")
        assert listener.recv(100) == b"READY=1\nSTATUS=all well"
        assert notifier.watchdog_interval == 1.5
        notifier.close()


def test_the_exit_codes_are_those_that_the_unit_and_the_documentation_name() -> None:
    codes = (EXIT_OK, EXIT_CONFIG, service.EXIT_USAGE, EXIT_HUNG, EXIT_FAILURE, service.EXIT_DEFECT)
    assert codes == (0, 1, 2, 3, 4, 5)


def test_a_status_is_sent_when_it_changes(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})
    assert notifier.wanted
    for text in ("well", "well", "ill", "well"):
        notifier.status(text)
    notifier.watchdog()
    notifier.stopping()
    heard = [manager.socket.recv(100).decode() for _ in range(5)]
    assert heard == ["STATUS=well", "STATUS=ill", "STATUS=well", "WATCHDOG=1", "STOPPING=1\nSTATUS=stopping"]
    for _ in range(2):
        notifier.close()
        assert not notifier.wanted
    notifier.status("late")
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.socket.recv(100)


def test_without_a_service_manager_nothing_is_sent() -> None:
    notifier = Notifier({})
    assert not notifier.wanted
    assert notifier.send("READY=1"), "nobody has missed it"
    notifier.ready("x")
    notifier.watchdog()
    assert notifier.watchdog_interval == 0
    notifier.close()


def test_a_watchdog_for_another_process_is_ignored() -> None:
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_interval == 0
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_interval == 0.5
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_interval == 0


def test_nothing_is_left_behind_in_the_home_directory(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    process.end()
    left = {p.name for p in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"default.yaml", "stuck.py"}, json.dumps(sorted(left))


# -- guarantees to the service manager ---------------------------------------------------------------------------------

HANGING = """
    import os
    import threading
    import time
    from pathlib import Path

    import fixgw.runner
    from fixgw.plugin import PluginBase, Poller

    fixgw.runner.SILENT_S = 0.8
    HERE = Path(__file__).parent

    class Plugin(Poller):
        '''Polls until it is made to hang.'''

        poll_timeout = 0.02

        def poll(self, timeout):
            if (HERE / "hang").exists():
                threading.Event().wait()
            time.sleep(timeout)
"""
HOGGED = """
    import fixgw.database
    from fixgw.plugin import PluginBase
    from pathlib import Path
    import threading

    fixgw.database.AGEING_SILENT_S = 0.8
    HERE = Path(__file__).parent

    class Plugin(PluginBase):
        '''Blocks the ageing thread on request, which takes a defect.'''

        def run(self):
            self.db.look_for_hung = self.hold_up

        def hold_up(self):
            if (HERE / "hang").exists():
                threading.Event().wait()
"""
ENTRIES = """
        database file: "{CONFIG}/database.yaml"
        connections: {a: {load: yes, module: %s}}
        """
ITEM = "entries: [{key: FTIME, description: Time, type: float, min: 0, max: 10, units: h, tol: 100}]\n"


def pings(manager: Manager, seconds: float) -> int:
    """The number of pings within the given seconds."""
    deadline = time.monotonic() + seconds
    count = 0
    while (left := deadline - time.monotonic()) > 0:
        manager.socket.settimeout(left)
        try:
            message = manager.socket.recv(4096).decode()
            manager.heard.append(message)
            count += message == "WATCHDOG=1"
        except TimeoutError:
            break
    return count


@pytest.mark.parametrize(
    ("module", "says"),
    [(HANGING, "no sign of life for"), (HOGGED, "1 of 1 connections well")],
    ids=["poller", "ageing"],
)
def test_a_thread_that_hangs_ends_the_pings(
    run: list[Process], tmp_path: Path, manager: Manager, module: str, says: str
) -> None:
    (tmp_path / "hanging.py").write_text(textwrap.dedent(module))
    (tmp_path / "database.yaml").write_text(ITEM)
    process = start(run, tmp_path, manager, ENTRIES % "hanging", WATCHDOG_USEC="400000")
    manager.until("READY=1")
    assert pings(manager, 1.5) >= 2
    (tmp_path / "hang").touch()
    deadline = time.monotonic() + 20.0
    while pings(manager, 1.0):
        assert time.monotonic() < deadline
    assert pings(manager, 1.0) == 0
    assert process.process.poll() is None
    assert says in manager.heard[-1]


def test_a_reload_is_announced_as_type_notify_reload_requires(
    run: list[Process], tmp_path: Path, manager: Manager
) -> None:
    process = start(run, tmp_path, manager, SKELETON)
    manager.until("READY=1")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    process.process.send_signal(signal.SIGHUP)
    manager.socket.settimeout(10.0)
    while not (message := manager.socket.recv(4096)).startswith(b"RELOADING=1"):
        pass
    stamp = dict(line.split("=") for line in message.decode().splitlines())["MONOTONIC_USEC"]
    assert before <= int(stamp) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    while not (message := manager.socket.recv(4096)).startswith(b"READY=1"):
        pass
    process.end()
    manager.until("STOPPING=1")
    assert manager.heard[-1] == "STATUS=stopping"


def test_a_reload_has_the_time_in_microseconds(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: 5_000_000_123_456)
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})
    notifier.reloading()
    notifier.close()
    assert manager.socket.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=5000000123"


def test_a_status_of_any_length_and_any_text_reaches_systemd(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})
    for text in ("ä" * 10_000, "\udc80 two\nlines", ""):
        notifier.ready(text)
        message = manager.socket.recv(100_000)
        assert len(message) <= 4096
        assert message.startswith(b"READY=1\nSTATUS=")
        assert message.count(b"\n") == 1
    notifier.close()


class Gone(BaseException):
    """The process has ended."""


@pytest.mark.parametrize(
    ("code", "stray", "written", "hard"),
    [
        (EXIT_OK, False, True, False),
        (EXIT_FAILURE, False, True, False),
        (EXIT_HUNG, False, True, True),
        (EXIT_OK, True, True, True),
        (EXIT_OK, False, False, True),
    ],
)
def test_a_process_ends_hard_if_something_would_keep_it(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
    stray: bool,
    written: bool,
    hard: bool,
) -> None:
    ended: list[int] = []
    done: list[str] = []

    class Broken(io.StringIO):
        def flush(self) -> None:
            done.append("flush")
            raise OSError(32, "Broken pipe")

    def end(code: int) -> None:
        ended.append(code)
        raise Gone

    release = threading.Event()
    theirs = threading.Thread(target=release.wait, args=(10,), name="theirs")
    if stray:
        theirs.start()
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(logging, "shutdown", lambda: done.append("shutdown"))
    monkeypatch.setattr("fixgw.logqueue.finish", lambda: written)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", closed)
    try:
        with pytest.raises(Gone if hard else SystemExit) as left:
            service.leave(code)
    finally:
        release.set()
        if stray:
            theirs.join()
    assert (ended == [code]) is hard
    assert ("thread theirs is still running; exiting anyway" in caplog.messages) is stray
    assert done == (["shutdown", "flush"] if hard and written else []), "what was said is not lost, if it can be helped"
    if isinstance(left.value, SystemExit):
        assert left.value.code == code


@pytest.mark.parametrize("answer", [0, -1])
def test_all_memory_is_locked_once_it_is_used(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    asked: list[int] = []

    class Library:
        def __init__(self, name: None, use_errno: bool) -> None:
            assert use_errno

        def mlockall(self, flags: int) -> int:
            asked.append(flags)
            return answer

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(ctypes, "get_errno", lambda: 12)
    with pytest.raises(OSError, match="Cannot allocate memory") if answer else contextlib.nullcontext():
        service.lock_memory()
    assert asked == [1 | 2 | 4], "the present, the future, and both once they are used"


def test_a_long_status_ends_with_an_ellipsis() -> None:
    assert service._line("x" * 800) == "x" * 800
    assert service._line("x" * 801) == "x" * 799 + "…"


def test_a_service_manager_that_does_not_read_holds_up_nobody(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.path})
    sent = [notifier.send("WATCHDOG=1") for _ in range(10_000)]
    notifier.close()
    assert not notifier.wanted
    assert notifier.send("STOPPING=1"), "as if there were none"
    assert (sent[0], sent[-1]) == (True, False)


def test_a_status_that_could_not_be_sent_is_sent_again(short_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(short_path / "notify")})
    notifier.status("well")
    manager = Manager(short_path / "notify")
    notifier.status("well")
    manager.until("STATUS=well")
    notifier.close()
    manager.close()


STOPPERS = {
    "in run": "def run(self): threading.Event().wait()",
    "in stop": "def stop(self): threading.Event().wait()",
    "in both": "run = stop = lambda self: threading.Event().wait()",
}


@pytest.mark.parametrize("where", STOPPERS)
def test_plugins_that_hang_cannot_keep_it_from_stopping_in_time(
    run: list[Process], tmp_path: Path, manager: Manager, where: str
) -> None:
    text = f"import threading\nfrom fixgw.plugin import PluginBase\nclass Plugin(PluginBase):\n    {STOPPERS[where]}\n"
    (tmp_path / "hanging.py").write_text(text)
    fast = "start_timeout: 0.2, stop_timeout: 0.3, on_failure: ignore"
    hanging = "\n".join(f"  h{n}: {{load: yes, module: hanging, {fast}}}" for n in range(3))
    process = start(run, tmp_path, manager, f"connections:\n{hanging}\n  a: {{load: yes, module: fixgw.plugins.skel}}")
    manager.until("READY=1")
    begin = time.monotonic()
    code, output = process.end()
    assert code == EXIT_HUNG
    assert time.monotonic() - begin < 10.0
    assert "has not returned" in output


# -- disks that do not respond -----------------------------------------------------------------------------------------

FULL_DISK = """
    database file: "{CONFIG}/database.yaml"
    logging:
      version: 1
      handlers: {file: {class: logging.FileHandler, filename: /dev/full}}
      root: {level: DEBUG, handlers: [file]}
    connections:
      netfix: {load: yes, module: fixgw.plugins.netfix, port: 0}
      a: {load: yes, module: remembers}
    """
REMEMBERS = """
    from pathlib import Path
    from fixgw.plugin import Poller
    from fixgw.state import Keeper, path

    class Plugin(Poller):
        '''Writes a key and keeps its state, which nobody can.'''

        poll_timeout = 0.02

        def open(self):
            self.keeper = Keeper(path("remembers"), self.log)

        def poll(self, timeout):
            self.stopping.wait(timeout)
            self.count("polls")
            self.keeper.keep(b"%d" % self.counts["polls"])
            self.db.write("FTIME", 1.0, self.source, flags=0)
            (Path(__file__).parent / "flows").write_text(str(self.counts["polls"]))

        def close(self):
            self.keeper.close()

        def health(self):
            return super().health() or self.keeper.trouble
"""


def test_full_disks_are_reported_and_values_keep_flowing(run: list[Process], tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "remembers.py").write_text(textwrap.dedent(REMEMBERS))
    (tmp_path / "database.yaml").write_text(ITEM)
    (tmp_path / "state").write_text("a file, where the directory should be")
    process = start(run, tmp_path, manager, FULL_DISK, STATE_DIRECTORY=str(tmp_path / "state"), WATCHDOG_USEC="400000")
    manager.until("READY=1")
    manager.until("STATUS=1 of 2 connections well; a: state is not saved")

    def polls() -> int:
        return int((tmp_path / "flows").read_text() or 0)

    before = polls()
    assert pings(manager, 1.0) >= 1
    deadline = time.monotonic() + 10.0
    while polls() < before + 10:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    code, output = process.end()
    assert code == EXIT_OK
    assert output.count("cannot log") <= 3
