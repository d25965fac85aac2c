"""State on the disk: complete at every instant, whatever happens to the process, the power or the disk."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import state
from fixgw.hw_sim.bench.clock import Clock
from fixgw.state import Keeper, load, save

log = logging.getLogger("test")
MAX_BYTES = 65536
OLD, NEW = b'{"fuel": 40.0}', b'{"fuel": 39.5}' * 50


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_saved_state_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "there.json"
    assert load(path) is None
    for data in (OLD, NEW, b"", b"\0\xff\n# crc32 00000000\n"):
        save(path, data)
        assert load(path) == data
    assert sorted(os.listdir(path.parent)) == ["there.json", "there.json~"]


def test_the_service_manager_or_the_user_determines_the_directory() -> None:
    assert state.path("can", {"STATE_DIRECTORY": "/var/lib/fixgw:/other"}) == Path("/var/lib/fixgw/can.json")
    assert state.path("can", {"XDG_STATE_HOME": "/x"}) == Path("/x/fixgw/can.json")
    assert state.path("../a b", {"XDG_STATE_HOME": "/x"}) == Path("/x/fixgw/..%2fa%20b.json")
    assert state.path("can", {}).parts[-4:] == (".local", "state", "fixgw", "can.json")


def test_the_size_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save(path, bytes(MAX_BYTES))
    assert load(path) == bytes(MAX_BYTES)
    with pytest.raises(ValueError, match="too many"):
        save(path, bytes(MAX_BYTES + 1))
    path.write_bytes(bytes(10 * MAX_BYTES))
    with pytest.raises(ValueError, match="damaged"):
        load(path)


def damaged(content: bytes) -> Iterator[bytes]:
    yield b""
    yield from (content[:n] for n in (1, 20, len(content) - 1))
    yield bytes(len(content))
    yield from (content[:n] + bytes((content[n] ^ 1,)) + content[n + 1 :] for n in range(0, len(content), 7))
    yield content + b"\n"


def test_after_a_damaged_file_the_previous_one_is_used(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save(path, OLD)
    save(path, NEW)
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        assert load(path) == OLD
    save(path, b"newer")  # and does not become the previous file
    assert (tmp_path / "state.json~").read_bytes().startswith(OLD)
    path.write_bytes(b"x")
    (tmp_path / "state.json~").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        load(path)


# -- the process is killed ---------------------------------------------------------------------------------------------

KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from fixgw.state import load, save

path, last = Path(sys.argv[1]), 0
for _ in range(300):
    reading, writing = os.pipe()
    child = os.fork()  # here, where there are no threads
    if child == 0:
        os.write(writing, b".")
        while True:
            last += 1
            save(path, b"%d " % last * 1000)
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    time.sleep(random.uniform(0, 0.006))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    numbers = (load(path) or b"0 " * 1000).split()
    assert len(numbers) == 1000
    assert len(set(numbers)) == 1, set(numbers)
    assert int(numbers[0]) >= last  # never back to what was saved long ago
    last = int(numbers[0])
print(last)
"""


@pytest.mark.slow
def test_a_kill_at_any_time_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    done = subprocess.run([sys.executable, "-c", KILLER, path], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert int(done.stdout) > 10  # even a slow disk makes progress between the kills
    assert len(os.listdir(tmp_path)) <= 3


# -- the power fails ---------------------------------------------------------------------------------------------------


class PowerFailure(BaseException):
    pass


class Disk:
    """Replaces `os` in `fixgw.state`: performs and records the operations, and fails for good after the given number of
    them. `outcomes` are the directories that a power failure may leave: unsynced data may be in any state."""

    def __init__(self, directory: Path, operations: float = float("inf")) -> None:
        self.directory = directory
        self.left = operations
        self.names: list[dict[str, int]] = [self._names()]  # the directory after each change since it was last synced
        self.synced: dict[int, bytes] = {
            (directory / name).stat().st_ino: (directory / name).read_bytes() for name in self.names[0]
        }
        self.written: dict[int, bytes] = dict(self.synced)
        self.steps: list[str] = []

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(os, name)
        if name not in ("open", "write", "fsync", "close", "replace", "unlink"):
            return attribute

        def operation(*args: Any) -> Any:
            if self.left <= 0:
                raise PowerFailure
            self.left -= 1
            if name == "write":
                args = (args[0], args[1][: len(args[1]) // 2 + 1])  # a short write is allowed
            result = attribute(*args)
            self._note(name, args)
            return result

        return operation

    def _note(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "fsync":
            about = os.fstat(args[0])
            if stat.S_ISDIR(about.st_mode):
                self.names = [self._names()]
            else:
                self.synced[about.st_ino] = self.written[about.st_ino]
        elif name == "write":
            inode = os.fstat(args[0]).st_ino
            self.written[inode] = self.written.get(inode, b"") + args[1]
        elif name in ("open", "replace", "unlink") and (names := self._names()) != self.names[-1]:
            self.names.append(names)
            for inode in names.values():
                self.written.setdefault(inode, b"")
        self.steps.append(name)

    def _names(self) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.directory)}

    def outcomes(self) -> Iterator[dict[str, bytes]]:
        for names in self.names:
            choices = []
            for inode in names.values():
                synced, written = self.synced.get(inode, b""), self.written[inode]
                choices.append(
                    {synced, written, written[: len(written) // 2], bytes(len(written))}
                    if synced != written
                    else {synced}
                )
            for contents in itertools.product(*choices):
                yield dict(zip(names, contents, strict=True))


def test_a_power_failure_at_any_step_leaves_the_old_state_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for count in itertools.count():
        directory, after = tmp_path / f"before{count}", tmp_path / f"after{count}"
        save(directory / "state.json", b"older")
        save(directory / "state.json", OLD)
        disk = Disk(directory, count)
        monkeypatch.setattr(state, "os", disk)
        done = False
        try:
            save(directory / "state.json", NEW)
            done = True
        except PowerFailure:
            pass
        monkeypatch.setattr(state, "os", os)
        for number, files in enumerate(disk.outcomes()):
            copy = after / str(number)
            copy.mkdir(parents=True)
            for name, content in files.items():
                (copy / name).write_bytes(content)
            found = load(copy / "state.json")
            assert found in ((NEW,) if done else (OLD, NEW)), (disk.steps, files)
            seen.add(found)
        if done:
            break
    assert seen == {OLD, NEW}
    assert count > 8


def test_the_file_is_synced_before_it_is_renamed_and_the_directory_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    monkeypatch.setattr(state, "os", disk)
    save(tmp_path / "state.json", b"")
    important = [step for step in disk.steps if step in ("fsync", "replace")]
    assert important == ["fsync", "replace", "fsync"]


# -- the disk is full or does not respond ------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_saved_state_and_leaves_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    save(path, OLD)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, NEW)
    assert load(path) == OLD
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.slow
def test_a_file_size_limit_keeps_the_saved_state(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save(path, OLD)
    code = (
        "import resource, signal, sys; from pathlib import Path; from fixgw.state import save\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: save(Path(sys.argv[1]), bytes(5000))\n"
        "except OSError as error: print(error.strerror)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert load(path) == OLD
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_keeper_reports_a_disk_error_and_writes_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(state, "RETRY_S", 0.02)
    (tmp_path / "d").write_text("not a directory")
    keeper = Keeper(tmp_path / "d" / "state.json", log)
    keeper.keep(OLD)
    keeper.keep(NEW)
    until(lambda: keeper.failures >= 3)
    assert keeper.trouble.startswith("state is not saved: ")
    (tmp_path / "d").unlink()
    until(lambda: not keeper.trouble)
    assert load(keeper.path) == NEW
    assert keeper.close()
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]  # logged once, not each time


def test_a_hung_disk_delays_neither_the_caller_nor_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(state, "save", lambda path, data: answer.wait())
    keeper = Keeper(tmp_path / "state.json", log)
    begin = time.monotonic()
    for _ in range(1000):
        keeper.keep(NEW)
    assert not keeper.close(0.1)
    assert time.monotonic() - begin < 5.0
    assert keeper.trouble == "the disk does not answer"
    answer.set()


def test_a_keeper_writes_the_newest_state_and_the_last_one_at_the_end(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "state.json", log, interval=3600, burst=2)
    for n in range(1000):
        keeper.keep(b"%d" % n)
    assert keeper.close(20.0)
    assert load(keeper.path) == b"999"
    assert 1 <= keeper.saved <= 3
    assert keeper.load() == b"999"


def test_a_keeper_saves_seldom_to_spare_the_card(tmp_path: Path, clock: Clock) -> None:
    keeper = Keeper(tmp_path / "state.json", log, interval=10.0, burst=2, clock=clock)
    for data in (b"1", b"2"):
        keeper.keep(data)
        until(lambda data=data: load(keeper.path) == data)  # type: ignore[misc]
    keeper.keep(b"3")
    assert load(keeper.path) == b"2"
    clock.now += 20.0
    keeper.keep(b"4")
    until(lambda: keeper.saved == 3)
    assert load(keeper.path) == b"4"
    assert keeper.close()


def test_when_a_keeper_writes_again(tmp_path: Path, clock: Clock) -> None:
    keeper = Keeper(tmp_path / "state.json", log, interval=10.0, burst=3, clock=clock)
    assert keeper._pause(False) == float("-inf"), "at once"
    keeper._times = [clock.now - 25.0, clock.now - 9.0, clock.now - 2.0]
    assert keeper._pause(False) == 5.0, "three in thirty seconds"
    assert keeper._pause(True) == 28.0, "half a minute after a failure"


def test_unusable_state_gives_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state.json").write_text("{")
    assert Keeper(tmp_path / "state.json", log).load() is None
    assert "is unusable" in caplog.text
    assert Keeper(tmp_path / "other.json", log).load() is None
    assert len(caplog.records) == 1


def test_within_detached_nothing_is_loaded_or_saved(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save(path, OLD)
    elsewhere: list[Keeper] = []
    with state.detached():
        with state.detached():
            pass
        inside = Keeper(path, log)
        thread = threading.Thread(target=lambda: elsewhere.append(Keeper(path, log)))
        thread.start()
        thread.join()
    assert inside.load() is None
    inside.keep(NEW)
    assert inside.close()
    assert (inside.saved, load(path)) == (0, OLD)
    assert [keeper.load() for keeper in (*elsewhere, Keeper(path, log))] == [OLD, OLD], "another thread; and afterwards"


def test_a_file_has_the_mode_that_is_asked_for_or_the_default(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        state.replace(tmp_path / "a", b"1")
        state.replace(tmp_path / "b", b"1", 0o604)
        state.replace(tmp_path / "b", b"2", 0o604)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o604]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"], "without a backup"
    assert (tmp_path / "b").read_bytes() == b"2"


def test_what_a_kill_left_of_a_new_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".state.json.new").write_bytes(b"x" * 5000)
    save(tmp_path / "state.json", OLD)
    assert load(tmp_path / "state.json") == OLD


def test_a_file_that_cannot_be_read_is_an_error_and_no_state_for_a_keeper(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        load(path)
    assert Keeper(path, log).load() is None
    assert "is unusable, starting without it" in caplog.text


def test_a_keeper_makes_what_it_writes_when_it_writes_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(tmp_path / "state.json", log)
    made: list[str] = []

    def make() -> bytes:
        made.append(threading.current_thread().name)
        return OLD

    keeper.keep(make)
    thread = keeper._thread
    assert thread is not None
    assert thread.daemon, "a dead disk does not keep the process alive"
    assert keeper.close(20.0)
    assert made == ["saving state.json"]
    assert (load(keeper.path), keeper.saved, keeper.failures, keeper.trouble) == (OLD, 1, 0, "")
    keeper.keep(NEW)
    assert (load(keeper.path), keeper._thread) == (OLD, thread), "it is closed"
    assert not caplog.records


def test_what_could_not_be_saved_at_the_end_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(tmp_path / "state.json", log)
    keeper.keep(bytes(MAX_BYTES + 1))
    assert not keeper.close(20.0)
    assert keeper.failures in (1, 2)  # the thread may have tried before the end
    why = f"state is not saved: {MAX_BYTES + 1} bytes are too many for {keeper.path}"
    assert keeper.trouble == why
    assert caplog.messages == [f"{keeper.path}: {why}; retrying every 30 s", f"{keeper.path} was not saved: {why}"]


def test_by_default_eight_writes_go_to_the_disk_at_once_and_then_one_a_second(tmp_path: Path, clock: Clock) -> None:
    keeper = Keeper(tmp_path / "state.json", log, clock=clock)
    assert len(keeper._times) == 8
    keeper._times = [clock.now] * 8
    assert keeper._pause(False) == 8.0


def test_the_names_of_files_and_their_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/fixgw", "XDG_STATE_HOME": "/x"}
    assert state.path("a-b_c.1", environ) == Path("/var/lib/fixgw/a-b_c.1.json")
    assert state.path("a\n", environ) == Path("/var/lib/fixgw/a%0a.json")
    monkeypatch.setenv("HOME", "/home/pilot")
    usual = Path("/home/pilot/.local/state/fixgw/can.json")
    assert state.path("can", {"STATE_DIRECTORY": "", "XDG_STATE_HOME": ""}) == usual
    monkeypatch.setenv("STATE_DIRECTORY", "/run/fixgw")
    assert state.path("can") == Path("/run/fixgw/can.json")


def test_a_keeper_says_when_it_uses_the_previous_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(tmp_path / "state.json", log)
    save(keeper.path, OLD)
    save(keeper.path, NEW)
    keeper.path.unlink()
    assert keeper.load() == OLD
    assert caplog.messages == [], "the power failed just before the rename"
    keeper.path.write_text("x")
    assert keeper.load() == OLD
    assert caplog.messages == [f"{keeper.path} is damaged: using the previous state"]


def test_an_error_leaves_no_open_file_and_is_the_one_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "state.json", OLD)
    before = len(os.listdir("/proc/self/fd"))
    save(tmp_path / "state.json", NEW)

    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, "bad card")

    for name in ("write", "open"):
        with monkeypatch.context() as broken:
            broken.setattr(os, name, fail)
            with pytest.raises(OSError, match="bad card"):
                save(tmp_path / "state.json", OLD)
    assert load(tmp_path / "state.json") == NEW
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_error_within_detached_ends_it(tmp_path: Path) -> None:
    save(tmp_path / "state.json", OLD)
    with pytest.raises(ZeroDivisionError), state.detached():
        1 // 0  # noqa: B018
    assert Keeper(tmp_path / "state.json", log).load() == OLD


def test_a_keeper_that_was_closed_before_it_kept_anything_starts_no_thread(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "state.json", log)
    assert keeper.close() is True
    keeper.keep(OLD)
    assert keeper._thread is None
    assert load(keeper.path) is None


def test_a_state_that_came_during_a_failed_write_is_the_one_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "RETRY_S", 0.0)
    written: list[bytes] = []

    def write(path: Path, data: bytes) -> None:
        written.append(data)
        if len(written) == 1:
            keeper.keep(NEW)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "save", write)
    keeper = Keeper(tmp_path / "state.json", log)
    keeper.keep(OLD)
    until(lambda: keeper.saved == 1)
    assert keeper.close()
    assert written == [OLD, NEW]


def test_each_reason_for_an_outage_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors: list[Exception] = [OSError(errno.ENOSPC, "No space left"), OSError(errno.ENOSPC, "No space left")]
    errors += [OSError("odd"), ValueError("too many")]
    outcomes: list[Exception | None] = [*errors, None, None]

    def write(path: Path, data: bytes) -> None:
        if (error := outcomes.pop(0)) is not None:
            raise error

    monkeypatch.setattr(state, "save", write)
    keeper = Keeper(tmp_path / "x", log)
    assert [keeper._save(OLD) for _ in range(6)] == [False] * 4 + [True] * 2
    assert (keeper.failures, keeper.saved, keeper.trouble) == (4, 2, "")
    why = "x: state is not saved: {}; retrying every 30 s"
    said = [text.removeprefix(f"{tmp_path}/") for text in caplog.messages]
    assert said == [why.format("No space left"), why.format("odd"), why.format("too many"), "x: saved again"]


def test_the_reason_for_an_outage_stays_when_the_disk_hangs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(state, "save", lambda path, data: answer.wait())
    keeper = Keeper(tmp_path / "state.json", log)
    keeper.keep(NEW)
    keeper.trouble = "state is not saved: bad card"
    assert keeper.close(0.0) is False
    assert keeper.trouble == "state is not saved: bad card"
    answer.set()
