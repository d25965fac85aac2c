"""Opening a link that takes long: what it returns, and what becomes of it if nobody waits any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from fixgw.drivers.links.opening import open_patiently


class Rig:
    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.release = threading.Event()
        self.closed: list[str] = []
        self.waits = 0
        self.fails: BaseException | None = None

    def open(self) -> str:
        assert self.release.wait(10)
        if self.fails is not None:
            raise self.fails
        return "the link"

    def finish(self) -> None:
        """Let the opening end, and wait until its thread has ended."""
        self.release.set()
        for thread in threading.enumerate():
            if thread.name == "gps opening":
                thread.join()

    def run(self, waiting: Callable[[], object] = lambda: None) -> str | None:
        def wait() -> None:
            self.waits += 1
            waiting()

        return open_patiently("gps", self.open, self.closed.append, self.stopping, wait)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_opened_is_returned_and_stays_open(rig: Rig) -> None:
    def waiting() -> None:
        if rig.waits == 3:
            rig.finish()

    began = time.monotonic()
    assert rig.run(waiting) == "the link"
    assert rig.waits == 3, "the caller shows that it is alive"
    assert time.monotonic() - began >= 3 * 0.05, "and rests in between"
    assert rig.closed == []


@pytest.mark.parametrize("error", [OSError("no such host"), SystemExit(1)])
def test_what_the_opening_raises_is_raised(rig: Rig, error: BaseException) -> None:
    rig.fails = error
    with pytest.raises(type(error)) as raised:
        rig.run(rig.finish)
    assert raised.value is error


def test_what_is_opened_after_a_stop_is_closed(rig: Rig) -> None:
    assert rig.run(rig.stopping.set) is None
    assert rig.closed == []
    rig.finish()
    assert rig.closed == ["the link"]


def test_what_is_opened_just_before_a_stop_is_closed_once(rig: Rig) -> None:
    def waiting() -> None:
        rig.finish()
        rig.stopping.set()

    assert rig.run(waiting) is None
    assert rig.closed == ["the link"]


@pytest.mark.parametrize("late", [False, True])
def test_what_could_not_be_opened_is_not_closed(rig: Rig, late: bool) -> None:
    rig.fails = OSError("no such host")

    def waiting() -> None:
        if not late:
            rig.finish()
        rig.stopping.set()

    assert rig.run(waiting) is None
    rig.finish()
    assert rig.closed == []
