"""The journal: records arrive with their fields on a real socket, and the output of each place is limited."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixgw import journal
from fixgw.errors import BadValue
from fixgw.hw_sim.bench.clock import Clock
from fixgw.journal import JournalHandler, Limit
from fixgw.logmemory import LogMemory

pytestmark = pytest.mark.slow


class Journald:
    """journald's end of the socket: receives datagrams, or sealed files sent with empty ones."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(10.0)
        self.files = 0

    def next(self) -> dict[str, str]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 22, 1)
        if not data:
            with open(descriptors[0], "rb") as file:
                seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
                assert seals == (fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
                file.seek(0)
                data = file.read()
            self.files += 1
        return self.parse(data)

    def parse(self, data: bytes) -> dict[str, str]:
        found = {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, end, data = data[8 : 8 + size], data[8 + size : 9 + size], data[9 + size :]
                assert end == b"\n"
            found[name.decode()] = value.decode()
        return found

    def close(self) -> None:
        self.socket.close()
        os.unlink(self.path)


def record(text: str = "no") -> logging.LogRecord:
    return logging.LogRecord("fixgw.gateway", logging.ERROR, "x.py", 1, text, None, None)


@pytest.fixture
def journald(short_path: Path) -> Iterator[Journald]:
    journald = Journald(short_path / "socket")
    yield journald
    journald.socket.close()


@pytest.fixture
def handler(journald: Journald) -> Iterator[JournalHandler]:
    handler = JournalHandler(journald.path)
    yield handler
    handler.close()


@pytest.fixture
def log(handler: JournalHandler) -> Iterator[logging.Logger]:
    log = logging.getLogger("fixgw.plugins.can two")
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)


def test_a_record_has_fields_for_connection_key_and_node(journald: Journald, log: logging.Logger) -> None:
    log.warning("node %d: %s", 12, BadValue("IAS", "not a number"), extra={"FIXGW_NODE": 12})
    found = journald.next()
    assert found["MESSAGE"] == "fixgw.plugins.can two: node 12: IAS: not a number"
    assert found["FIXGW_CONNECTION"] == "can two"
    assert (found["FIXGW_KEY"], found["FIXGW_NODE"]) == ("IAS", "12")
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("4", "fixgw")
    assert found["CODE_FUNC"] == "test_a_record_has_fields_for_connection_key_and_node"
    assert found["CODE_FILE"] == __file__
    assert int(found["CODE_LINE"]) > 0


def test_records_of_the_gateway_itself_name_no_connection(journald: Journald, handler: JournalHandler) -> None:
    handler.handle(logging.LogRecord("fixgw.gateway", logging.ERROR, "x.py", 1, "no", None, None))
    found = journald.next()
    assert found["PRIORITY"] == "3"
    assert found["CODE_FUNC"] == ""
    assert "FIXGW_CONNECTION" not in found


def test_the_first_key_counts_unless_the_one_who_logs_gives_another(journald: Journald, log: logging.Logger) -> None:
    log.warning("%s %s", BadValue("IAS", "x"), BadValue("ALT", "x"))
    assert journald.next()["FIXGW_KEY"] == "IAS"
    log.warning("%s", BadValue("IAS", "x"), extra={"FIXGW_KEY": "ALT", "FIXGW_CONNECTION": "other"})
    found = journald.next()
    assert (found["FIXGW_KEY"], found["FIXGW_CONNECTION"]) == ("ALT", "other")


def test_bursts_find_more_room_than_usual(handler: JournalHandler) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as usual:
        sizes = [each.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for each in (handler._socket, usual)]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    "text",
    ["two\nlines", "MESSAGE=x\nPRIORITY=0", "\n", "ä \udc80", "=", ""],
    ids=["two lines", "another field", "an empty line", "not UTF-8", "equals", "nothing"],
)
def test_any_text_stays_one_field(journald: Journald, handler: JournalHandler, text: str) -> None:
    # Not through a logger: invalid UTF-8 cannot be in the report of a test.
    handler.handle(logging.LogRecord("fixgw.plugins.can two", logging.ERROR, "x.py", 1, text, None, None))
    found = journald.next()
    assert found["MESSAGE"].startswith("fixgw.plugins.can two: ")
    assert found["MESSAGE"].endswith(text.encode("utf-8", "backslashreplace").decode())
    assert found["PRIORITY"] == "3"


@pytest.mark.parametrize(
    ("level", "priority"), [(10, "7"), (19, "7"), (20, "6"), (30, "4"), (39, "4"), (40, "3"), (50, "2"), (60, "2")]
)
def test_a_record_has_the_priority_of_its_level(
    journald: Journald, handler: JournalHandler, level: int, priority: str
) -> None:
    handler.handle(logging.LogRecord("fixgw.gateway", level, "x.py", 17, "no", None, None, "work"))
    found = journald.next()
    assert found["PRIORITY"] == priority
    assert {name: found[name] for name in ("LOGGER", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "THREAD_NAME")} == {
        "LOGGER": "fixgw.gateway",
        "CODE_FILE": "x.py",
        "CODE_LINE": "17",
        "CODE_FUNC": "work",
        "THREAD_NAME": "MainThread",
    }


def test_a_traceback_is_part_of_the_message(journald: Journald, log: logging.Logger) -> None:
    try:
        raise RuntimeError("a defect")
    except RuntimeError:
        log.exception("oh")
    lines = journald.next()["MESSAGE"].splitlines()
    assert lines[0].endswith("oh")
    assert lines[-1] == "RuntimeError: a defect"


def test_a_record_too_long_for_a_datagram_is_sent_as_a_file(
    journald: Journald, handler: JournalHandler, log: logging.Logger
) -> None:
    handler._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
    log.warning("%s", "x" * 200_000)
    log.warning("%s", "x" * 3_000_000)
    assert journald.next()["MESSAGE"].endswith(" " + "x" * 200_000)
    assert len(journald.next()["MESSAGE"]) == 1_048_576
    assert journald.files == 2


def test_lines_go_to_stderr_until_journald_returns(
    journald: Journald, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    journald.close()
    log.error("one\ntwo")
    log.info("not at this level")
    assert capsys.readouterr().err == "<3>fixgw.plugins.can two: one\n<3>two\n"
    again = Journald(Path(journald.path))
    log.error("three")
    assert again.next()["MESSAGE"].endswith("three")
    again.close()


def test_a_journald_that_does_not_read_delays_no_one(journald: Journald, log: logging.Logger) -> None:
    sent = 0
    while log.handlers[0].dropped < 3:  # type: ignore[attr-defined]
        log.warning("line %d", sent)
        sent += 1
    for _ in range(sent - 3):
        journald.next()
    log.warning("reading again")
    assert journald.next()["MESSAGE"].endswith(
        "reading again (3 lines before this one were lost: the journal was too busy)"
    )
    log.warning("and on")
    assert journald.next()["MESSAGE"].endswith("and on"), "it is said once"


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
def test_a_record_for_which_there_is_no_room_is_counted_and_not_shown(
    handler: JournalHandler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: int
) -> None:
    def full(data: bytes) -> None:
        raise OSError(error, "full")

    monkeypatch.setattr(handler, "_send", full)
    handler.handle(record())
    assert (handler.dropped, capsys.readouterr().err) == (1, "")


def test_what_only_looks_like_an_error_with_a_key_gives_no_key(journald: Journald, log: logging.Logger) -> None:
    number = ValueError("x")
    number.key = 3  # type: ignore[attr-defined]
    log.error("%s %s %s", SimpleNamespace(key="IAS"), ValueError("y"), number)
    assert "FIXGW_KEY" not in journald.next()
    log.error("%(n)d nodes", {"n": 2})
    assert journald.next()["MESSAGE"].endswith("2 nodes")


def test_a_line_for_stderr_is_there_at_once(
    journald: Journald, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written))
    journald.close()
    log.error("no journal")
    assert written.getvalue() == b"<3>fixgw.plugins.can two: no journal\n"


def test_a_closed_handler_leaves_no_file_open(journald: Journald) -> None:
    before = len(os.listdir("/proc/self/fd"))
    handler = JournalHandler(journald.path)
    handler._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
    handler.handle(record("x" * 200_000))
    handler.name = "journal"
    handler.close()
    assert "journal" not in logging._handlers  # type: ignore[attr-defined]
    journald.next()
    assert journald.files == 1
    assert len(os.listdir("/proc/self/fd")) == before


# -- which handlers ----------------------------------------------------------------------------------------------------


def _closed() -> io.StringIO:
    closed = io.StringIO()
    closed.close()
    return closed


SERVICE = """
import logging, os, sys
from fixgw import journal, logqueue
logging.basicConfig(level="DEBUG")
stderr = logging.root.handlers[0]
stderr.setLevel("INFO")
stderr.addFilter(lambda record: record.msg != "not for stderr")
log = logging.getLogger("fixgw.plugins.gps")
file = logging.FileHandler(sys.argv[1])
log.addHandler(file)
about = os.fstat(2)
journal.set_up({"JOURNAL_STREAM": sys.argv[2].format(about.st_dev, about.st_ino)}, sys.argv[3])
log.debug("below its level")
log.info("not for stderr")
log.info("hello")
print(*(len([f for f in handler.filters if isinstance(f, journal.Limit)]) for handler in logging.root.handlers))
logqueue.finish(30.0)
"""


def serve(tmp_path: Path, stream: str, address: str) -> str:
    """The output of a process whose stderr is declared to be the journal."""
    done = subprocess.run(
        [sys.executable, "-c", SERVICE, tmp_path / "log", stream, address], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "log").read_text() == "below its level\nnot for stderr\nhello\n"  # the rest is unchanged
    assert done.stdout == "1 1\n", "a limit for the handler, and one for the memory"
    return done.stderr


def test_a_service_whose_stderr_is_the_journal_writes_to_the_journal(tmp_path: Path, journald: Journald) -> None:
    assert serve(tmp_path, "{}:{}", journald.path) == ""
    found = journald.next()
    assert (found["FIXGW_CONNECTION"], found["PRIORITY"]) == ("gps", "6")
    assert found["MESSAGE"] == "fixgw.plugins.gps: hello", "its filters and its level stay"


@pytest.mark.parametrize("stream", ["", "1:1", "nonsense"])
def test_any_other_stderr_gets_lines(tmp_path: Path, journald: Journald, stream: str) -> None:
    assert serve(tmp_path, stream, journald.path) == "INFO:fixgw.plugins.gps:hello\n"


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "full")


def test_only_handlers_for_stderr_are_replaced(
    journald: Journald, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.RootLogger(logging.DEBUG)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(root, "manager", logging.Manager(root), raising=False)
    memory = LogMemory()
    monkeypatch.setattr(journal, "memory", memory)
    queued: list[int] = []
    monkeypatch.setattr("fixgw.logqueue.queue_all", lambda: queued.append(len(root.handlers)))
    with open(tmp_path / "stderr", "w", encoding="utf-8") as stderr, open(tmp_path / "log", "w") as other:
        monkeypatch.setattr(sys, "stderr", stderr)
        plain, elsewhere = logging.StreamHandler(), logging.StreamHandler(other)
        file = logging.FileHandler(tmp_path / "file", delay=True)
        file.stream = stderr
        for handler in (plain, elsewhere, file):
            root.addHandler(handler)
        plain.setLevel(logging.ERROR)
        plain.addFilter(own := logging.Filter("fixgw"))
        gps = root.manager.getLogger("fixgw.plugins.gps")
        gps.addHandler(logging.StreamHandler())
        about = os.fstat(stderr.fileno())
        for _ in range(2):
            journal.set_up({"JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"}, journald.path)
            handlers = [*root.handlers, *gps.handlers]
            assert [len([f for f in handler.filters if isinstance(f, Limit)]) for handler in handlers] == [1] * 5
    assert queued == [3, 4], "the memory needs no queue"
    kept = [handler for handler in root.handlers if handler in (elsewhere, file, memory)]
    assert kept == [elsewhere, file, memory]
    (better,) = [handler for handler in root.handlers if isinstance(handler, JournalHandler)]
    assert (better.level, better.filters[0], len(root.handlers)) == (logging.ERROR, own, 4)
    (other_better,) = gps.handlers
    assert isinstance(other_better, JournalHandler)
    better.close()
    other_better.close()


@pytest.mark.parametrize("stderr", [None, io.StringIO(), _closed(), Full()])
def test_a_process_without_stderr_logs_in_silence(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, stderr: object
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert journal._is_stderr("1:1") is False
    journald.close()
    handler = JournalHandler(journald.path)
    handler.handle(logging.LogRecord("fixgw.gateway", logging.ERROR, "x.py", 1, "no", None, None))
    handler.close()


# -- the limit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(clock: Clock) -> Iterator[tuple[logging.Logger, list[str]]]:
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log = logging.getLogger("fixgw.limited")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handlers = [Handler(), Handler()]
    for handler in handlers:
        handler.addFilter(Limit(3, 10.0, clock))
        log.addHandler(handler)
    yield log, lines
    for handler in handlers:
        log.removeHandler(handler)
    log.propagate = True


def test_records_of_one_place_are_limited_and_the_suppressed_ones_counted(
    limited: tuple[logging.Logger, list[str]], clock: Clock
) -> None:
    log, lines = limited

    def say(n: int) -> None:
        log.warning("line %d", n)

    for n in range(100):
        say(n)
        clock.now += 0.01
    log.warning("another place")
    assert lines[::2] == lines[1::2] == ["line 0", "line 1", "line 2", "another place"]
    clock.now += 10.0
    say(100)
    say(101)
    assert lines[-4::2] == lines[-3::2] == ["line 100 (97 more records from there were suppressed)", "line 101"]


def test_the_limit_ends_with_its_interval(clock: Clock) -> None:
    limit = Limit(2, 10.0, clock)

    def passes() -> bool:
        return limit.filter(logging.LogRecord("name", logging.INFO, "x.py", 1, "x", None, None))

    assert [passes() for _ in range(3)] == [True, True, False]
    clock.now += 9.9
    assert not passes()
    clock.now += 0.1
    assert [passes() for _ in range(3)] == [True, True, False]


def test_without_a_wish_a_line_of_code_has_a_hundred_records_in_ten_seconds(clock: Clock) -> None:
    limit = Limit(clock=clock)
    assert [limit.filter(record()) for _ in range(102)] == [True] * 100 + [False] * 2
    clock.now += 10.0
    assert limit.filter(record())


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_said_of_suppressed_records_where_there_were_none(clock: Clock, count: int) -> None:
    limit = Limit(3, 10.0, clock)
    for _ in range(count):
        limit.filter(record("x"))
    clock.now += 10.0
    last = record("x")
    assert limit.filter(last)
    assert last.getMessage() == "x"


def test_debugging_is_not_limited(limited: tuple[logging.Logger, list[str]]) -> None:
    log, lines = limited
    for _ in range(100):
        log.debug("x")
    assert len(lines) == 200


def test_the_memory_of_the_limit_is_bounded(clock: Clock) -> None:
    limit = Limit(3, 10.0, clock)
    sizes = []
    for n in range(2 * journal.MAX_PLACES):
        limit.filter(logging.LogRecord(f"name{n}", logging.INFO, "x.py", 1, "x", None, None))
        sizes.append(len(limit._places))
    assert max(sizes) == journal.MAX_PLACES


FULL = """
import logging
from fixgw import journal, logqueue
logging.basicConfig(filename="/dev/full", level="INFO")
journal.set_up({})
for n in range(50):
    logging.getLogger("fixgw").info("line %d", n)
print("done", logqueue.finish(10.0))
"""


def test_a_log_on_a_full_disk_gives_one_line_not_one_per_record() -> None:
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=True)
    assert done.stdout == "done True\n"
    lines = done.stderr.splitlines()
    assert lines[0] == "<4>FileHandler cannot log: [Errno 28] No space left on device"
    assert sum("cannot log" in line for line in lines) == 1
