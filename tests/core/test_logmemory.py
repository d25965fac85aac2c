"""The latest lines of the log in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from fixgw.logmemory import LogMemory

MAX_LINES, MAX_CHARS = 1000, 2000


@pytest.fixture
def memory() -> LogMemory:
    return LogMemory()


@pytest.fixture
def log(memory: LogMemory) -> Iterator[logging.Logger]:
    root = logging.getLogger("fixgw")
    root.addHandler(memory)
    yield logging.getLogger("fixgw.plugins.gps")
    root.removeHandler(memory)


def test_a_line_has_its_connection_level_and_text(memory: LogMemory, log: logging.Logger) -> None:
    log.warning("no data for %d s", 3)
    logging.getLogger("fixgw.gateway").error("alone")
    first, second = memory.lines()
    assert (first.number, first.level, first.connection, first.text) == (1, "WARNING", "gps", "no data for 3 s")
    assert (second.number, second.level, second.connection) == (2, "ERROR", "")
    assert memory.lines("gps") == [first]
    assert memory.lines(after=1) == [second]
    assert memory.lines("eis") == []


def test_a_traceback_is_kept_and_a_long_line_is_cut_in_the_middle(memory: LogMemory, log: logging.Logger) -> None:
    try:
        raise ValueError("x" * 10_000)
    except ValueError:
        log.exception("it failed")
    (line,) = memory.lines()
    assert line.text.startswith("it failed\nTraceback")
    assert line.text.endswith("x")
    assert len(line.text) == MAX_CHARS + 1
    for length in (MAX_CHARS, MAX_CHARS + 1):
        log.warning("%send", "a" * (length - 3))
    assert [line.text for line in memory.lines(after=1)] == [
        "a" * (MAX_CHARS - 3) + "end",
        "a" * (MAX_CHARS // 2) + "…" + "a" * (MAX_CHARS // 2 - 3) + "end",
    ]
    assert memory.last == 3


def test_who_logs_much_makes_room_itself(memory: LogMemory, log: logging.Logger) -> None:
    logging.getLogger("fixgw.plugins.eis").warning("precious")
    for n in range(3 * MAX_LINES):
        log.warning("%d", n)
    lines = memory.lines()
    assert len(lines) == MAX_LINES
    assert lines[0].text == "precious"
    assert lines[-1].text == str(3 * MAX_LINES - 1)


def test_of_a_record_that_cannot_be_formatted_it_keeps_where_it_is_from() -> None:
    memory = LogMemory()
    for message in ("%d", "%s"):
        memory.handle(logging.LogRecord("x", logging.WARNING, "x.py", 1, message, ("fine",), None))
    assert [line.text for line in memory.lines()] == ["x.py:1 logs what cannot be formatted: TypeError", "fine"]


def test_several_threads(memory: LogMemory, log: logging.Logger) -> None:
    def many() -> None:
        for _ in range(200):
            log.warning("x")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line.number for line in memory.lines()] == list(range(1, 801))


def test_a_line_has_the_time_of_its_record() -> None:
    memory = LogMemory()
    assert (memory.last, memory.lines()) == (0, [])
    record = logging.LogRecord("other.plugins.gps", logging.INFO, "x.py", 1, "said", None, None)
    record.created = 1234.5
    memory.handle(record)
    assert memory.lines() == [(1, 1234.5, "INFO", "", "said")]


def test_only_whoever_has_most_lines_loses_its_first(memory: LogMemory, log: logging.Logger) -> None:
    other = logging.getLogger("fixgw.plugins.eis")
    for n in range(MAX_LINES // 2 - 1):
        other.warning("%d", n)
    for n in range(MAX_LINES // 2 + 1):
        log.warning("%d", n)
    assert len(memory.lines()) == MAX_LINES
    other.warning("last")
    assert memory.lines("eis")[0].text == "0"
    assert memory.lines("gps")[0].text == "1"
    assert len(memory.lines()) == MAX_LINES
