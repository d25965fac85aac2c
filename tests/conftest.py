"""Common to all tests; ``--quick`` (`make quick`) runs those without sockets, devices and processes.

The others, and those that take long, have the marker `slow`; ``pytestmark = pytest.mark.slow`` marks a whole file. An
unmarked test that uses a socket, a device or a process fails in the quick run.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A busy computer generates examples slowly, which is not a defect.
settings.register_profile("fixgw", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixgw")
settings.register_profile("quick", settings.get_profile("fixgw"), max_examples=10)

_states = tempfile.TemporaryDirectory(prefix="fixgw-tests-")
_tests = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests leave no saved state to each other, nor to the person who runs them."""
    if not _seen:
        _seen.update(dict.fromkeys(_remains(), ""))
    os.environ["XDG_STATE_HOME"] = os.path.join(_states.name, str(next(_tests)))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory whose path leaves room for a name in the 107 bytes of a socket's, wherever TMPDIR is."""
    with tempfile.TemporaryDirectory(prefix="fixgw-", dir="/tmp") as directory:
        yield Path(directory)


# -- tests in a process of their own -----------------------------------------------------------------------------------

#: Files whose tests load a library in C++ that does not leave the process as it was: once, a later test stood still.
OWN_PROCESS = {"test_mavlink_mavsdk.py", "test_sim_jsbsim.py"}
_INSIDE = "FIXGW_TESTS_OWN_PROCESS"


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.File | None:
    config = parent.config
    chosen = any(f"{module_path.name}::test_" in arg for arg in config.args)
    if module_path.name not in OWN_PROCESS or chosen or _INSIDE in os.environ or config.getoption("quick"):
        return None
    return _OwnProcess.from_parent(parent, path=module_path)


class _OwnProcess(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield _AllTests.from_parent(self, name="in_a_process_of_their_own")


class _AllTests(pytest.Item):
    """The tests of a file."""

    def runtest(self) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", self.path],
            env={**os.environ, _INSIDE: "yes"},
            cwd=self.config.rootpath,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
            pytest.skip(result.stdout)
        if result.returncode:
            pytest.fail(result.stdout, pytrace=False)


# -- a process that stands still ---------------------------------------------------------------------------------------

#: pytest-timeout ends a test earlier, unless the process as a whole hangs.
STILL_S = 400.0


class _Watch(threading.Thread):
    """Ends a worker that has been silent for `STILL_S`: it prints where it is, its test has failed, the others go on.

    Other workers may be waiting for it, so only the one that has been silent for longest is ended, and the next no
    earlier than `STILL_S` later.
    """

    def __init__(self) -> None:
        super().__init__(name="watch", daemon=True)
        self._heard: dict[str, tuple[float, int]] = {}  #: by worker: when, and its process
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        with self._lock:
            self._heard[node.gateway.id] = (time.monotonic(), node.gateway._io.popen.pid)
        if not self.is_alive():
            self.start()

    def pytest_runtest_logreport(self, report: Any) -> None:
        with self._lock:
            if (name := report.node.gateway.id) in self._heard:
                self._heard[name] = (time.monotonic(), self._heard[name][1])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        with self._lock:
            self._heard.pop(node.gateway.id, None)

    def pytest_sessionfinish(self) -> None:
        self._ended.set()

    def run(self) -> None:
        while not self._ended.wait(STILL_S / 20):
            with self._lock:
                since, pid = min(self._heard.values(), default=(math.inf, 0))
                if time.monotonic() - since > STILL_S:
                    os.kill(pid, signal.SIGABRT)  # faulthandler prints the stacks, even if a library has the lock
                    os.kill(pid, signal.SIGCONT)  # it may have been stopped
                    self._heard = {name: (time.monotonic(), pid) for name, (_, pid) in self._heard.items()}


# -- what a test leaves behind -----------------------------------------------------------------------------------------

#: For threads that have been told to end.
LEAVING_S = 2.0

_seen: dict[object, str] = {}  #: the test in which each was first seen; "" if that has been said


def _remains() -> dict[object, str]:
    """What may not outlive the tests of a file, as those of the next would meet it."""
    foreign = ("execnet", "xdist", "_pytest", "pytest_timeout")
    handlers = [each for each in logging.root.handlers if not type(each).__module__.startswith(foreign)]
    return {
        **{each: f"the thread {each.name!r}" for each in threading.enumerate()},
        **{each: f"the handler {each!r} of the root logger" for each in handlers},
        **{(number, signal.getsignal(number)): f"a handler of {number.name}" for number in SIGNALS},
    }


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _left_by(item: pytest.Item, nextitem: pytest.Item | None) -> list[str]:
    """What tests of the file of `item` have left, if it is the last of them: module fixtures have ended by then."""
    for each in _remains():
        _seen.setdefault(each, item.nodeid)
    if nextitem is not None and nextitem.path == item.path:
        return []
    end = time.monotonic() + LEAVING_S
    for each, test in _seen.items():
        if test and isinstance(each, threading.Thread):
            each.join(max(0.0, end - time.monotonic()))
    remains = _remains()
    found = [f"{test} has left {remains[each]}" for each, test in _seen.items() if test and each in remains]
    _seen.clear()
    _seen.update(dict.fromkeys(remains, ""))
    return found


# -- the quick run -----------------------------------------------------------------------------------------------------

#: The audit events of sockets and processes.
OUTSIDE = {"socket.__new__", "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
WHOLE_FILE = "\npytestmark = pytest.mark.slow\n"

_used: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order with this seed")
    parser.addoption("--quick", action="store_true", help="only tests that use no socket, no device and no process")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):
        config.pluginmanager.register(_Watch())
    if config.getoption("quick"):
        settings.load_profile("quick")
        openpty = os.openpty

        def recorded() -> tuple[int, int]:
            _used.append("os.openpty")
            return openpty()

        os.openpty = recorded
        sys.addaudithook(_record)


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if event in OUTSIDE:
        _used.append(event)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("quick") or collection_path.suffix != ".py":
        return None
    return WHOLE_FILE in collection_path.read_text(encoding="utf-8") or None


#: Files whose tests take long and keep the machine busy: each worker begins with one row. At the end of the run they
#: would leave the others without work, and disturb each other.
FIRST = (
    ("sim/test_demo.py",),
    ("plugins/web/test_page.py",),
    ("house/test_packaging.py", "house/test_path.py", "service/test_debian_package.py", "cli/test_cli_new.py"),
    ("cli/test_cli_canfix.py", "recording/test_whole_flight.py", "house/test_examples.py"),
)


def _long_ones_first(items: list[pytest.Item]) -> None:
    """Put the tests of `FIRST` where each of so many workers begins: the workers get equal parts, in this order."""
    rows = [[item for item in items if item.path.as_posix().endswith(files)] for files in FIRST]
    long = {item for row in rows for item in row}
    others = (item for item in items if item not in long)
    share = len(items) // len(FIRST)
    items[:] = [item for row in rows for item in (*row, *itertools.islice(others, share - len(row)))] + list(others)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if getattr(config, "workerinput", {}).get("workercount") == len(FIRST) and len(items) > 1000:
        _long_ones_first(items)
    if (seed := config.getoption("shuffle")) is not None:
        random.Random(seed).shuffle(items)
    if config.getoption("quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _used.clear()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    result = yield
    if left := _left_by(item, nextitem):
        pytest.fail("\n".join(left), pytrace=False)
    if _used:
        pytest.fail(f"it uses {', '.join(sorted(set(_used)))}: mark it slow", pytrace=False)
    return result
