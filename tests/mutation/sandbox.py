"""A copy of the clone in which mutants are run, each against the tests that reach its lines.

This process has loaded pytest and forks for each run, which saves its start. The clone itself is never mutated; a run
that is killed leaves a copy in ``build/mutation``, which the next run replaces.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, settings

MAX_MEMORY_BYTES = 4 << 30  # a mutant may allocate without end
STARTS_S = 20.0  # the longest time to load the code and collect the tests
SLOWER = 5  # a test that takes so many times its usual time, and so many seconds, hangs
PATIENT = 4  # times as long, when it is confirmed that a test has noticed a mutant: the computer may be busy
MAPPING_LIMIT_S = 600.0  # for the tests of a file
NEVER_COPIED = (".git", ".venv", "build", "dist", ".mypy_cache", ".ruff_cache", ".hypothesis", "*.egg-info")
LOADING = ""  # in place of a test: what is run before the first one
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class Reach(NamedTuple):
    """How long a test takes, and which lines of which files it runs."""

    seconds: float
    lines: dict[str, list[int]]


class Sandbox:
    """Use it from one thread, and one at a time per clone. It changes the working directory of the process."""

    def __init__(self, clone: Path, say: Callable[[str], object]) -> None:
        self._say = say  # called with what takes long
        self.build = clone / "build" / "mutation"
        self.root = self.build / "tree"
        self.log = self.build / "last.log"  # what pytest printed
        self.last = self.build / "last.test"  # the test that it began last, or the file that it could not load
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(clone, self.root, symlinks=True, ignore=shutil.ignore_patterns(*NEVER_COPIED))
        os.chdir(self.root)
        sys.path.insert(0, str(self.root))
        os.environ["PYTHONPATH"] = str(self.root)

    def remove(self) -> None:
        os.chdir(self.build)
        shutil.rmtree(self.root)

    def outcome(self, file: str, code: str, tests: dict[str, float]) -> str:
        """Run tests, given with their usual times in seconds, the shortest first, on a file with this code.

        Returns how they noticed it: "failed", or "hung"; empty if they did not. On a busy computer a test may fail or
        hang by itself. So what notices a mutant must do so again, by itself and with more patience, and must pass
        without the mutant. If it does not, all tests have a second chance.
        """
        with self._mutated(file, code):
            if not self._how_it_ended(tests):
                return ""
        for again in (self._last_of(tests), tests):
            with self._mutated(file, code):
                how = self._how_it_ended(again, PATIENT)
            if how and not self._how_it_ended(again, PATIENT):
                return how
        return ""

    def _how_it_ended(self, tests: dict[str, float], patience: int = 1) -> str:
        files = sorted({test.partition("::")[0] for test in tests})
        seconds = patience * (STARTS_S + SLOWER * sum(tests.values()))
        self.last.unlink(missing_ok=True)
        ended = self._run(["-x", *files], _Chosen(tests, patience, self.last), seconds)
        if ended in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):  # nobody misses a test that is not there
            return ""
        hung = ended is None or b"from pytest-timeout" in self.log.read_bytes()
        return "hung" if hung else "failed"

    def _last_of(self, tests: dict[str, float]) -> dict[str, float]:
        """The test that ran last, or the shortest of the file that could not be loaded; if there is none, all."""
        last = self.last.read_text() if self.last.exists() else ""
        found = [test for test in tests if last in (test, test.partition("::")[0])]
        return {test: tests[test] for test in sorted(found, key=tests.__getitem__)[:1]} or tests

    @contextmanager
    def _mutated(self, file: str, code: str) -> Iterator[None]:
        original = (self.root / file).read_text(encoding="utf-8")
        self._write(self.root / file, code)
        try:
            yield
        finally:
            self._write(self.root / file, original)

    def _write(self, path: Path, code: str) -> None:
        path.write_text(code, encoding="utf-8")
        # Python takes bytecode for that of this file if the size and the second of the last change are the same.
        for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            cached.unlink()

    def reach(self, tests: str) -> dict[str, Reach]:
        """What each test of a file reaches, and `LOADING`. Tests that are skipped, or fail as things are, are not among
        them.

        It is kept until the file, or one of those it reaches, changes.
        """
        kept = self.build / "reached" / f"{tests.replace('/', '-')}.json"
        if not kept.exists() or any(self._digest(f) != d for f, d in json.loads(kept.read_text())["files"].items()):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.unlink(missing_ok=True)
            began = time.monotonic()
            self._run([tests], _Recorder(self, tests, kept), MAPPING_LIMIT_S)
            if not kept.exists():
                raise SystemExit(f"{tests}:\n{self.log.read_text(errors='replace')[-2000:]}")
            passed, seconds = len(json.loads(kept.read_text())["tests"]) - 1, time.monotonic() - began
            self._say(f"{tests}: mapped {passed} tests in {seconds:.0f} s")
        return {test: Reach(*what) for test, what in json.loads(kept.read_text())["tests"].items()}

    def _digest(self, file: str) -> str:
        path = self.root / file
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""

    def _run(self, arguments: list[str], plugin: object, seconds: float) -> int | None:
        """The exit code of pytest. None if it took too long; then it, and what it started, was killed."""
        child = os.fork()
        if not child:
            self._be_the_child([*OPTIONS, *arguments], plugin)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.02)
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if ended:
            return os.waitstatus_to_exitcode(status)
        os.waitpid(child, 0)
        return None

    def _be_the_child(self, arguments: list[str], plugin: object) -> None:
        code = 1
        try:
            os.setpgid(0, 0)  # not a session of its own, which would end with the first terminal that a test opens
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for fd in (1, 2):
                os.dup2(log, fd)
            code = int(pytest.main(arguments, [plugin]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class _Chosen:
    """A plugin of pytest: only these tests run, the shortest first. One that hangs fails."""

    def __init__(self, seconds: dict[str, float], patience: int, last: Path) -> None:
        self._seconds = seconds
        self._patience = patience
        self._last = last

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        # The same examples each time, and no time spent on making one smaller that failed.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", settings(), derandomize=True, database=None, phases=phases)
        settings.load_profile("mutation")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self._seconds), key=lambda i: self._seconds[i.nodeid])
        for item in items:
            item.add_marker(pytest.mark.timeout(self._patience * SLOWER * (1 + self._seconds[item.nodeid])))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._last.write_text(report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._last.write_text(nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped:  # unlike without the mutant
            report.outcome, report.longrepr = "failed", "skipped"
        return report


class _Recorder:
    """A plugin of pytest: measures what each test reaches, and writes it into a file at the end."""

    def __init__(self, sandbox: Sandbox, tests: str, into: Path) -> None:
        self._sandbox = sandbox
        self._tests = tests
        self._into = into
        self._seconds: dict[str, float] = {}
        self._passed = {LOADING}

    def pytest_configure(self) -> None:
        code = [str(self._sandbox.root / part / "*") for part in ("fixgw", "drivers")]
        self._coverage = importlib.import_module("coverage").Coverage(None, include=code, config_file=False)
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        self._forget()
        return (yield)

    def _forget(self) -> None:
        """Empty the caches of the code's functions: otherwise only the first test would reach what is in them."""
        for name, module in [*sys.modules.items()]:
            if name.startswith("fixgw"):
                for function in [*vars(module).values()]:
                    if isinstance(function, _lru_cache_wrapper):
                        function.cache_clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        reached: dict[str, dict[str, list[int]]] = {test: {} for test in self._passed}
        files = {self._tests}
        for path in data.measured_files():
            file = str(Path(path).relative_to(self._sandbox.root))
            files.add(file)
            for line, contexts in data.contexts_by_lineno(path).items():
                for test in self._passed.intersection(contexts):
                    reached[test].setdefault(file, []).append(line)
        kept: dict[str, Any] = {
            "files": {file: self._sandbox._digest(file) for file in files},
            "tests": {test: (self._seconds.get(test, 0.0), lines) for test, lines in reached.items()},
        }
        self._into.write_text(json.dumps(kept))
