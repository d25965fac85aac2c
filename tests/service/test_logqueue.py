"""No thread waits for a log: neither for a hung handler nor for a stopped terminal."""

from __future__ import annotations

import io
import logging
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import logqueue
from fixgw.logqueue import QueuedHandler
from fixgw.netfix import Client


class Slow(logging.Handler):
    """A handler that writes to a list while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        self.written.append(self.format(record))


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.gate.set()


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.getLogger("test_logqueue")
    log.propagate = False
    yield log
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def test_records_arrive_in_order_and_as_they_were_when_they_were_logged(slow: Slow, log: logging.Logger) -> None:
    handler = QueuedHandler(slow)
    log.addHandler(handler)
    changing = ["first"]
    slow.gate.clear()
    log.warning("%s", changing)
    changing[0] = "second"
    log.warning("%s", changing)
    slow.gate.set()
    assert handler.join(20)
    assert slow.written == ["['first']", "['second']"]


def test_logging_never_waits_and_dropped_lines_are_counted_and_reported(slow: Slow, log: logging.Logger) -> None:
    clock = [100.0]
    handler = QueuedHandler(slow, size=10, clock=lambda: clock[0])
    log.addHandler(handler)
    slow.gate.clear()
    log.warning("0")
    assert slow.entered.wait(20)
    for number in range(1, 15):
        log.warning("%d", number)
    assert handler.dropped == 4
    clock[0] = 107.0
    assert handler.stuck_s == 7.0
    assert not handler.join(0.0)
    slow.gate.set()
    assert handler.join(20)
    assert slow.written == ["0", "4 log lines were dropped: Slow was too slow", *map(str, range(1, 11))]
    assert handler.stuck_s == 0.0


def test_of_a_record_that_cannot_be_formatted_the_log_says_where_it_is_from(
    slow: Slow, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = QueuedHandler(slow)
    for message in ("%d", "%s"):
        handler.handle(logging.LogRecord("x", logging.WARNING, "x.py", 1, message, ("fine",), None))
    assert handler.join(20)
    assert slow.written == ["x.py:1 logs what cannot be formatted: TypeError", "fine"]
    assert capsys.readouterr().err == ""  # stderr may be a stopped terminal


def test_what_a_target_fails_at_is_counted_and_said_once(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Raising(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            seen.append(record.getMessage())
            raise OSError("no room")

    handler = QueuedHandler(Raising())
    monkeypatch.setattr(logqueue, "_handlers", [handler])
    log.addHandler(handler)
    log.warning("a")
    log.warning("b")
    assert handler.join(20)
    assert seen == ["a", "b"]
    assert logqueue.dropped() == {"Raising": 2}
    assert capsys.readouterr().err == "<4>Raising cannot log: no room\n"


def test_a_filter_that_raises_does_no_harm_to_whoever_logs(slow: Slow, log: logging.Logger) -> None:
    slow.addFilter(lambda record: record.getMessage()[3] == "x")
    handler = QueuedHandler(slow)
    log.addHandler(handler)
    for text in ("a", "b", "123x"):
        log.warning(text)
    assert handler.join(20)
    said, passed = slow.written
    assert said == "Slow does not log what a filter fails at: IndexError('string index out of range')"
    assert passed == "123x"
    assert handler.failed == 2


def test_the_level_and_filters_of_the_target_apply(slow: Slow, log: logging.Logger) -> None:
    slow.setLevel(logging.ERROR)
    slow.addFilter(lambda record: "secret" not in record.getMessage())
    handler = QueuedHandler(slow)
    log.addHandler(handler)
    log.warning("too low")
    log.error("secret")
    log.error("said")
    assert handler.join(20)
    assert slow.written == ["said"]


def test_a_handler_that_is_stuck_is_named_after_two_seconds(
    slow: Slow, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    handler = QueuedHandler(slow, size=1, clock=lambda: clock[0])
    monkeypatch.setattr(logqueue, "_handlers", [handler, QueuedHandler(Slow())])
    log.addHandler(handler)
    assert (logqueue.trouble(), logqueue.dropped()) == ("", {})
    slow.gate.clear()
    log.warning("0")
    assert slow.entered.wait(20)
    clock[0] = 102.0
    assert logqueue.trouble() == ""
    clock[0] = 103.0
    assert logqueue.trouble() == "the log is stuck: Slow has been writing one line for 3 s"
    for number in range(1, 4):
        log.warning("%d", number)
    assert logqueue.trouble() == "the log is stuck: Slow has been writing one line for 3 s, 2 dropped"
    assert logqueue.dropped() == {"Slow": 2}
    assert not logqueue.finish(0.0)
    slow.gate.set()
    assert logqueue.finish(20)
    assert (logqueue.trouble(), slow.written[-1]) == ("", "1")


def test_what_a_stream_fails_at_is_counted_and_said_once_too(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = io.StringIO()
    closed.close()
    handler = QueuedHandler(logging.StreamHandler(closed))
    log.addHandler(handler)
    log.warning("a")
    log.warning("b")
    assert handler.join(20)
    assert handler.failed == 2
    assert capsys.readouterr().err == "<4>StreamHandler cannot log: I/O operation on closed file\n"


def test_each_line_that_is_dropped_is_reported_once(slow: Slow, log: logging.Logger) -> None:
    handler = QueuedHandler(slow, size=1)
    log.addHandler(handler)
    for lost in (2, 3):
        slow.entered.clear()
        slow.gate.clear()
        log.warning("written")
        assert slow.entered.wait(20)
        for _ in range(1 + lost):
            log.warning("more")
        written = len(slow.written)
        slow.gate.set()
        deadline = time.monotonic() + 20
        while len(slow.written) < written + 3 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert handler.join(20)
    assert [text for text in slow.written if "dropped" in text] == [
        "2 log lines were dropped: Slow was too slow",
        "3 log lines were dropped: Slow was too slow",
    ]
    assert handler.dropped == 5


def test_a_thousand_lines_wait(slow: Slow, log: logging.Logger) -> None:
    handler = QueuedHandler(slow)
    log.addHandler(handler)
    slow.gate.clear()
    log.warning("0")
    assert slow.entered.wait(20)
    for _ in range(1002):
        log.warning("more")
    assert handler.dropped == 2
    slow.gate.set()
    assert handler.join(20)


def test_a_target_is_closed_unless_it_is_stuck(
    slow: Slow, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    waits: list[float] = []
    slow.close = lambda: closed.append(1)  # type: ignore[method-assign]
    handler = QueuedHandler(slow)
    log.addHandler(handler)
    slow.gate.clear()
    log.warning("0")
    assert slow.entered.wait(20)
    thread = handler._thread
    assert thread is not None
    handler.set_name("the queue")
    with monkeypatch.context() as patched:
        patched.setattr(thread, "join", waits.append)
        handler.close()
    assert closed == []
    assert waits == [0.0], "nobody waits for one that is stuck"
    assert "the queue" not in vars(logging)["_handlers"]
    slow.gate.set()
    assert handler.join(20)
    handler.close()
    assert closed == [1]


def test_several_that_are_stuck_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [QueuedHandler(Slow(), clock=lambda: 110.0) for _ in range(3)]
    for number, queue in enumerate(queues):
        queue.dropped, queue.failed = number, number
    queues[0]._since = queues[2]._since = 100.0
    monkeypatch.setattr(logqueue, "_handlers", queues)
    stuck = "the log is stuck: Slow has been writing one line for 10 s"
    assert logqueue.trouble() == f"{stuck}; {stuck}, 2 dropped"
    assert logqueue.dropped() == {"Slow": 6}


def test_a_queue_sleeps_until_something_is_logged(slow: Slow, log: logging.Logger) -> None:
    waits: list[int] = []

    class Counted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(1)
            return super().wait(timeout)

    handler = QueuedHandler(slow)
    handler._wake = Counted()
    log.addHandler(handler)
    for number in range(3):
        slow.entered.clear()
        log.warning("%d", number)
        assert slow.entered.wait(20)
    assert handler.join(20)
    assert len(waits) <= 5, "once for each line, and for the end"
    assert handler._thread is not None
    assert handler._thread.daemon, "a handler that hangs does not keep the process alive"


def test_all_queues_together_have_the_time_to_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    waits: list[float] = []

    class Queue:
        def join(self, timeout: float) -> bool:
            waits.append(timeout)
            now[0] += 1.5
            return len(waits) != 2

    monkeypatch.setattr(logqueue, "_handlers", [Queue(), Queue(), Queue()])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert logqueue.finish(2.0) is False
    assert waits == [2.0, 0.5, 0.0]
    assert logqueue.finish(2.0) is True
    del waits[:]
    logqueue.finish()
    assert waits == [1.0, 0.0, 0.0], "the end of the process does not wait for long"


def test_what_a_filter_and_a_target_fail_at_is_said_again_after_a_while_each(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    written: list[logging.LogRecord] = []

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record)
            if record.name != "fixgw.logqueue":
                raise OSError("no room")

    target = Raising()
    target.addFilter(lambda record: record.getMessage() != "bad" or bool(1 // 0))
    handler = QueuedHandler(target, clock=lambda: clock[0])
    log.addHandler(handler)
    for at in (100.0, 109.9, 110.0):
        clock[0] = at
        log.warning("bad")
    assert handler.failed == 3
    log.warning("good")
    assert handler.join(20)
    told = [(record.levelname, record.getMessage()) for record in written if record.name == "fixgw.logqueue"]
    assert [level for level, _ in told] == ["WARNING"] * 2
    assert all("a filter fails at: ZeroDivisionError" in text for _, text in told)
    assert capsys.readouterr().err == "<4>Raising cannot log: no room\n", "it is another subject"
    assert handler.failed == 4
    clock[0] = 200.0
    assert handler.stuck_s == 0.0, "it has failed, and is not writing"


def test_whoever_asks_learns_whether_a_record_passed(slow: Slow) -> None:
    slow.addFilter(lambda record: record.getMessage() != "no" and record.getMessage()[0] != "x")
    handler = QueuedHandler(slow)

    def passed(text: str) -> bool:
        return handler.handle(logging.LogRecord("x", logging.WARNING, "x.py", 1, text, None, None))

    assert [passed(text) for text in ("yes", "no", "")] == [True, False, False]
    assert handler.join(20)


class Unwritable(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("stopped")


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise ValueError("closed")


@pytest.mark.parametrize("stderr", [None, Unwritable(), Closed()])
def test_a_queue_goes_on_without_a_stderr(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    seen: list[str] = []

    class Raising(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            seen.append(record.getMessage())
            raise OSError("no room")

    handler = QueuedHandler(Raising())
    log.addHandler(handler)
    log.warning("a")
    log.warning("b")
    assert handler.join(20)
    assert (seen, handler.failed) == (["a", "b"], 2)


def test_a_record_is_queued_with_its_arguments_and_stays_as_it_is_for_others(log: logging.Logger) -> None:
    seen: list[Any] = []
    target = logging.Handler()
    target.emit = seen.append  # type: ignore[method-assign,assignment]
    handler = QueuedHandler(target)
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "%s of %d", ("one", 2), None)
    handler.handle(record)
    thread = handler._thread
    assert thread is not None
    assert thread.name == "log Handler"
    assert handler.join(20)
    (queued,) = seen
    assert (queued.getMessage(), queued.args, queued.arguments) == ("one of 2", None, ("one", 2))
    assert (record.msg, record.args) == ("%s of %d", ("one", 2))
    handler.handle(record)
    assert not thread.is_alive()
    assert len(seen) == 1, "no more after the end"


def test_a_queue_that_was_never_used_closes_its_target(slow: Slow) -> None:
    closed: list[int] = []
    slow.close = lambda: closed.append(1)  # type: ignore[method-assign]
    handler = QueuedHandler(slow)
    assert handler.join(0.0) is True
    handler.close()
    assert (closed, handler._thread) == ([1], None)


def test_a_report_of_dropped_lines_is_a_warning_of_the_queue(slow: Slow, log: logging.Logger) -> None:
    slow.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    handler = QueuedHandler(slow, size=0)
    log.addHandler(handler)
    log.warning("x")
    assert (handler.dropped, handler._thread) == (1, None)
    handler._size = 1
    log.info("y")
    log.error("y")
    assert handler.join(20)
    assert slow.written == [
        "ERROR test_logqueue y",
        "WARNING fixgw.logqueue 1 log lines were dropped: Slow was too slow",
    ]


def test_loggers_that_share_a_handler_share_its_queue(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    queues: list[QueuedHandler] = []
    shared, own, other = Slow(), Slow(), logging.getLogger("test_logqueue.other")
    log.handlers, other.handlers = [shared, own], [shared]
    monkeypatch.setattr(logqueue, "_handlers", queues)
    root = Slow()
    monkeypatch.setattr(logging.root, "handlers", [root])
    nobody = logging.PlaceHolder(log)
    monkeypatch.setattr(logging.root.manager, "loggerDict", {"nobody": nobody, "a": log, "b": other})
    logqueue.queue_all()
    logqueue.queue_all()
    assert [queue.target for queue in queues] == [root, shared, own]
    assert (logging.root.handlers, log.handlers, other.handlers) == (queues[:1], queues[1:], queues[1:2])
    other.handlers = []


@pytest.mark.slow
def test_a_stopped_terminal_delays_no_one_and_sigterm_works(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "from fixgw.plugin import PluginBase\n\n\n"
        "class Plugin(PluginBase):\n"
        "    def run(self):\n"
        "        self.db_callback_add('IAS', lambda key, value, udata: self.log.warning('IAS is %s', value))\n"
    )
    (tmp_path / "main.yaml").write_text(
        "connections:\n  noisy: {module: noisy}\n  netfix: {module: fixgw.plugins.netfix, port: 0}\n"
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fixgw", "run", "--verbose", "--config-file", str(tmp_path / "main.yaml")],
        stdout=slave,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path)},
    )
    try:
        said = b""
        while b"listening on 127.0.0.1 port " not in said or not said.rstrip(b"\r\n ").rpartition(b"port ")[2]:
            said += os.read(master, 65536)
        port = int(said.partition(b"listening on 127.0.0.1 port ")[2].split()[0])
        with Client("127.0.0.1", port) as client:
            termios.tcflow(slave, termios.TCOOFF)
            for number in range(200):
                client.write("IAS", number)
            assert client.read("IAS").value == 199.0
            deadline = time.monotonic() + 20
            while "the log is stuck" not in client.status()["summary"]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
