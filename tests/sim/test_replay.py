"""The replay of recorded logs: every byte, at the pace of the recording."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.hw_sim.replay import Replay

CAPTURES = Path(__file__).parents[1] / "captures" / "nmea0183"


class Tape:
    """A replay on its own clock; `out` is the output, with times."""

    def __init__(self, log: bytes, factor: float = 1.0, loop: bool = False) -> None:
        self.now = 1000.0
        self.out: list[tuple[float, bytes]] = []
        self.replay = Replay(log, lambda data: self.out.append((self.now - 1000.0, data)), factor, loop, self.clock)

    def clock(self) -> float:
        return self.now

    def play(self, steps: int = 10_000) -> Tape:
        for _ in range(steps):
            wait = self.replay.step()
            if wait is None:
                break
            self.now += wait
        return self

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.out)

    @property
    def times(self) -> list[float]:
        return [round(at, 6) for at, _ in self.out]


def log(*stamps: str) -> bytes:
    return b"".join(f"$GPGGA,{stamp},1,N\r\n$GPVTG,1\r\n$GPRMC,{stamp},A\r\njunk\xff\n".encode() for stamp in stamps)


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.log")), ids=lambda path: path.name)
def test_a_capture_is_replayed_whole_except_for_its_header_comments(path: Path) -> None:
    raw = path.read_bytes()
    lines = itertools.dropwhile(lambda line: line.startswith(b"#"), raw.splitlines(keepends=True))
    tape = Tape(raw).play()
    assert tape.bytes == b"".join(lines)
    assert max(len(data) for _, data in tape.out) < 2000


def test_the_replay_follows_the_time_stamps() -> None:
    tape = Tape(log("120000", "120001", "120003.50")).play()
    assert tape.times == [0.0, 1.0, 3.5]
    assert tape.out[0][1] == log("120000")


def test_a_factor_speeds_up_the_replay() -> None:
    tape = Tape(log("120000", "120001", "120002"), factor=10)
    assert tape.play().times == [0.0, 0.1, 0.2]
    assert tape.replay.duration == pytest.approx(0.2)


def test_midnight_causes_no_gap() -> None:
    assert Tape(log("235959", "000000")).play().times == [0.0, 1.0]


def test_a_gap_in_the_recording_takes_a_second() -> None:
    assert Tape(log("120000", "130000", "125959", "130000")).play().times == [0.0, 1.0, 2.0, 3.0]


def test_a_log_without_time_stamps_is_replayed_line_by_line() -> None:
    tape = Tape(b"a\nb\n").play()
    assert tape.times == [0.0, 0.1]
    assert tape.out[1][1] == b"b\n"


def test_a_loop_restarts_after_a_second() -> None:
    tape = Tape(log("120000", "120001"), loop=True).play(steps=5)
    assert tape.times == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert tape.replay.rounds == 3


def test_without_a_loop_the_replay_ends_for_good() -> None:
    tape = Tape(log("120000")).play()
    assert tape.replay.step() is None
    assert tape.bytes == log("120000")


@pytest.mark.parametrize("nothing", [b"", b"# only\n# comments\n"])
def test_an_empty_log_ends_at_once(nothing: bytes) -> None:
    assert Tape(nothing, loop=True).replay.step() is None


@pytest.mark.parametrize("factor", [0, -1, float("nan")])
def test_time_never_stops_or_runs_backwards(factor: float) -> None:
    with pytest.raises(ValueError):
        Replay(b"", print, factor)


@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 235959).map(lambda n: log(f"{n:06}"))), max_size=12))
def test_a_replay_neither_loses_nor_adds_bytes(parts: list[bytes]) -> None:
    data = b"x" + b"".join(parts)
    tape = Tape(data).play()
    assert tape.bytes == data
    assert tape.times == sorted(tape.times)


def test_it_runs_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"# head\n" + log("120000", "120001"))
    out: list[bytes] = []
    stop = threading.Event()
    replay = Replay.open(tmp_path / "a.log", out.append, factor=100, loop=True)
    thread = threading.Thread(target=replay.run, args=(stop,))
    thread.start()
    while replay.rounds < 3:
        pass
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert b"".join(out).startswith(log("120000", "120001"))
