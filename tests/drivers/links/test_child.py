"""A program that a driver runs as its child, without the driver's thread: what is read, and why the child ended."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import ValidationError

from fixgw import database
from fixgw.database import Database
from fixgw.drivers.links.child import CHUNK_BYTES, ChildOptions, ChildPoller
from fixgw.errors import DeviceError
from fixgw.kit import raw
from fixgw.kit.raw import Buffer, Event, Feed, Heard
from fixgw.plugin import Finding

pytestmark = pytest.mark.slow


class Ear(ChildPoller[ChildOptions]):
    settle_s = 5.0  # the longest time that a child may take to say something

    def __init__(self, program: Path | str) -> None:
        super().__init__("ear", {"program": str(program)})
        self.heard: list[tuple[bytes, bool]] = []
        self.hold_up.clock = lambda: 0.0

    def received(self, data: bytes, fresh: bool) -> None:
        self.heard.append((data, fresh))

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < deadline
            self.poll(0.01)

    @property
    def words(self) -> str:
        return str(self.get_status()["last words"])


class Packaged(Ear):
    PACKAGE = "ear-tools"

    def arguments(self) -> list[str]:
        return ["-x", "a b"]


@pytest.fixture(autouse=True)
def db() -> Iterator[Database]:
    before = database.current()
    database.bind(Database())
    yield database.current()
    database.bind(before)


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Callable[..., Ear]]:
    """Open a child that runs a script."""
    made: list[Ear] = []

    def make(text: str, kind: type[Ear] = Ear) -> Ear:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        made.append(kind(program))
        made[-1].open()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_child_gets_its_arguments_and_nothing_to_read(ear: Callable[..., Ear]) -> None:
    it = ear('echo "$#:$1:$2:$(cat)"; exec sleep 60', Packaged)
    it.until(lambda: it.heard)
    assert it.heard == [(b"2:-x:a b:\n", True)]
    assert it._child is not None
    status = it.get_status()
    assert (status["process"], status["bytes"], status["last words"]) == (it._child.pid, 10, "")
    assert os.getsid(it._child.pid) == it._child.pid, "Ctrl-C is for the gateway"
    streams = it._child.stdout, it._child.stderr
    it.close()
    assert all(stream is not None and stream.closed for stream in streams)
    assert it.get_status()["process"] is None
    it.poll(0.0)
    assert "killed" not in it.counts


def test_the_output_is_read_in_chunks(ear: Callable[..., Ear]) -> None:
    it = ear(f"head -c {CHUNK_BYTES + 1} /dev/zero; exec sleep 60")
    it.until(lambda: it.counts["bytes"] == CHUNK_BYTES + 1)
    assert max(len(data) for data, _ in it.heard) <= CHUNK_BYTES


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 3", "ended with code 3"),
        ("echo no dongle >&2; exit 3", "ended with code 3: no dongle"),
        ("echo x; kill -9 $$", "ended with code -9"),
        ("exec 1>&-; exec sleep 60", "has closed its output"),
        ("echo no dongle >&2; exec 1>&-; exec sleep 60", "has closed its output: no dongle"),
    ],
)
def test_why_a_child_ended_is_said_in_words(ear: Callable[..., Ear], text: str, why: str) -> None:
    def run() -> None:
        ear(text).until(lambda: False)

    with pytest.raises(DeviceError) as raised:
        run()
    program, _, words = str(raised.value).partition(" ")
    assert (Path(program).name, words) == ("program", why)


def test_the_last_words_are_the_last_line_that_is_not_part_of_a_list(
    ear: Callable[..., Ear], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    it = ear("echo first >&2; echo '* a point' >&2; echo '  more' >&2; printf unfinished >&2; echo; exec sleep 60")
    it.until(lambda: it.words and it._error_rest)
    assert it.words == "first"
    assert [record.message for record in caplog.records if record.name == it.log.name] == [
        "b'first'",
        "b'* a point'",
        "b'  more'",
    ]


def test_long_words_are_cut_and_other_characters_replaced(ear: Callable[..., Ear]) -> None:
    it = ear("printf 'x\\377 \\r\\n' >&2; echo; exec sleep 60")
    it.until(lambda: it.words)
    assert it.words == "x\N{REPLACEMENT CHARACTER}"
    it = ear("head -c 9999 /dev/zero | tr '\\0' y >&2; echo >&2; echo; exec sleep 60")
    it.until(lambda: it.words)
    assert it.words == "y" * 300


def test_words_of_the_child_before_are_not_those_of_this_one(ear: Callable[..., Ear], tmp_path: Path) -> None:
    it = ear(f"[ -e {tmp_path}/second ] || echo no dongle >&2; echo; exec sleep 60")
    it.until(lambda: it.words)
    it.close()
    assert it.words == "no dongle", "while it is away, they say why"
    (tmp_path / "second").touch()
    it.open()
    it.until(lambda: len(it.heard) == 2)
    assert it.words == ""


def test_a_child_that_has_closed_its_standard_error_is_waited_for(ear: Callable[..., Ear]) -> None:
    it = ear("exec 2>&-; echo; exec sleep 60")
    it.until(lambda: it.heard)
    it.poll(0.0)
    began = time.monotonic()
    it.poll(0.1)
    assert time.monotonic() - began >= 0.1, "or the thread would never rest"


def test_a_child_that_says_nothing_has_started_after_a_while(
    ear: Callable[..., Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ear, "settle_s", 0.2)
    began = time.monotonic()
    it = ear("exec sleep 60")
    assert time.monotonic() - began >= 0.2
    assert it.get_status()["process"]
    assert ChildPoller.settle_s == 0.5


@pytest.mark.parametrize(
    ("kind", "mode", "why"),
    [
        (Ear, None, "is not installed"),
        (Packaged, None, "is not installed: sudo apt install ear-tools"),
        (Packaged, 0o644, "Permission denied"),
    ],
)
def test_a_program_that_cannot_be_run_is_named(tmp_path: Path, kind: type[Ear], mode: int | None, why: str) -> None:
    program = tmp_path / "ear"
    if mode is not None:
        program.touch(mode)
    it = kind(program)
    with pytest.raises(DeviceError, match=f"^{program}:? {why}$"):
        it.open()
    (finding,) = it.preflight(it.options)
    fix = "sudo apt install ear-tools" if kind is Packaged else ""
    assert finding == Finding("problem", f"{program} is not installed", fix)
    assert [*it.preflight(Ear("sh").options)] == []


def test_a_program_is_tried_again_after_growing_pauses() -> None:
    it = Ear("program-that-is-not-there")
    assert [it.step(0.0) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_program_has_a_name() -> None:
    with pytest.raises(ValidationError, match="program"):
        Ear("")
    assert [*Ear.heard_as("ear", Ear("sh").options)] == ["ear"]


def test_what_piled_up_while_the_process_was_held_up_is_old(ear: Callable[..., Ear], db: Database) -> None:
    buffer = Buffer(10)
    raw.listen(db, buffer, logging.getLogger("recorder"))
    it = ear("read nothing; echo old; exec sleep 60")
    it._raw = raw.point(db)
    at = 5.0
    it.hold_up.clock = lambda: at
    it._waiting.poll(10_000)
    it.poll(0.0)
    assert it.heard == [(b"old\n", False)]
    assert (it.counts["bytes"], it.counts["old bytes discarded"]) == (0, 4)
    assert [(h.direction, h.data) for h in buffer.take()] == [("discarded", b"old\n")]
    it._read = lambda timeout: b"new"  # type: ignore[method-assign]
    it.poll(0.0)
    assert it.heard[1:] == [(b"new", True)]
    assert [(h.connection, h.direction, h.data) for h in buffer.take()] == [("ear", "in", b"new")]
    del it._read


def test_the_time_without_a_child_is_no_hold_up(ear: Callable[..., Ear]) -> None:
    it = ear("echo; exec sleep 60")
    at = 0.0
    it.hold_up.clock = lambda: at
    it.hold_up.reset()
    it.close()
    at += 60.0
    it.open()
    it.until(lambda: it.heard)
    assert it.heard == [(b"\n", True)]


def test_old_output_without_end_is_discarded_for_a_second(ear: Callable[..., Ear]) -> None:
    it = ear("echo; exec sleep 60")
    at = 0.0

    def read(timeout: float) -> bytes:
        nonlocal at
        at += 0.25
        return b"x"

    it.hold_up.clock = lambda: at
    it.hold_up.reset()
    at += 5.0
    it._read = read  # type: ignore[method-assign]
    it.poll(0.0)
    assert it.counts["old bytes discarded"] == 6, "the first, those of a second, and what shows that it is over"
    it.poll(0.0)
    assert it.counts["bytes"] == 1, "then it is current again"
    at += 5.0
    it.stopping.set()
    it.poll(0.0)
    assert it.counts["old bytes discarded"] == 7, "a stop does not wait for it"


def test_recorders_hear_of_the_child_as_of_a_serial_line(ear: Callable[..., Ear], db: Database) -> None:
    buffer = Buffer(10)
    raw.listen(db, buffer, logging.getLogger("recorder"))
    it = Ear("program-that-is-not-there")
    it._raw = raw.point(db)
    it.clock = lambda: 7.0
    it.step(0.0)
    lost = Event("serial", "lost", "program-that-is-not-there is not installed")
    assert buffer.take() == [Heard("ear", 7.0, "in", lost)]
    it._start = lambda: None  # type: ignore[method-assign]
    it.step(0.0)
    assert buffer.take() == [Heard("ear", 7.0, "in", Event("serial", "opened"))]
    assert raw.point(db).facts() == [Heard("ear", 7.0, "in", Event("serial", "opened"))]


def test_in_a_replay_the_recording_takes_the_place_of_the_program(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(print)
    raw.point(db).feeds = lambda name: feed if name == "ear" else None
    it = Ear("program-that-is-not-there")
    monkeypatch.setattr(it._gateway, "adopt", lambda worker: None)
    it.run()
    it.step(0.0)
    assert it.health() == "the recording has no data of it"
    feed.trouble = ""
    feed.entries.append(Heard("ear", 0.0, "in", b"one"))
    it.step(0.0)
    assert it.health() == ""
    feed.entries.append(Heard("ear", 0.0, "in", b"two"))
    feed.held_up = True
    it.step(0.0)
    it.step(0.0)
    assert it.heard == [(b"one", True), (b"two", False)]
    assert it.get_status()["process"] is None
    feed.trouble = "program ended with code 1"
    it.step(0.0)
    assert it.health() == "program ended with code 1"
