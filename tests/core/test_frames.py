"""Where threads are, without the deadlock of Python 3.11."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from fixgw.frames import frames_of_threads


def test_each_thread_is_there() -> None:
    frames = frames_of_threads()
    missing = {thread.ident for thread in threading.enumerate()} - set(frames)
    assert not missing  # a thread that pytest-xdist started in its own way is there, too
    mine = frames[threading.get_ident()]
    while mine.f_code is not test_each_thread_is_there.__code__:
        assert mine.f_back is not None
        mine = mine.f_back


@pytest.fixture(params=[True, False], ids=["collecting", "not collecting"])
def collects(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_no_garbage_is_collected_meanwhile(collects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[], dict[int, FrameType]] = sys._current_frames
    meanwhile: list[bool] = []

    def look() -> dict[int, FrameType]:
        if not meanwhile:  # another thread looks while this one does
            others.start()
            others.join(0.02)
        meanwhile.append(gc.isenabled())
        return real()

    others = threading.Thread(target=frames_of_threads)
    monkeypatch.setattr(sys, "_current_frames", look)
    frames_of_threads()
    others.join()
    assert meanwhile == [False, False]
    assert gc.isenabled() is collects


def test_garbage_is_collected_as_before_after_a_failure(collects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_current_frames", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        frames_of_threads()
    assert gc.isenabled() is collects
