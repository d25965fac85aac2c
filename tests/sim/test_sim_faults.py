"""The faults of a wire do what they promise, reproducibly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.hw_sim.can import SimFrame
from fixgw.hw_sim.faults import (
    FAULTS,
    MAX_HELD,
    BaudMismatch,
    BitFlips,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Flood,
    Garbage,
    Jitter,
    Silent,
    Stuck,
    Truncate,
    Unplug,
    Wire,
)

FRAMES = [b"$GPRMC,%04d*00\r\n" % n for n in range(1000)]
LENGTH = len(FRAMES[0])

frames = st.lists(st.binary(max_size=40) | st.builds(SimFrame, st.integers(0, 0x7FF), st.binary(max_size=8)))


def passed(fault: Fault, frames: list[Any] = FRAMES, now: float = 0.0) -> list[Any]:
    return fault.carry(list(frames), now)


def test_without_a_fault_everything_passes() -> None:
    assert passed(Fault()) == FRAMES
    assert Wire().carry(FRAMES, 0.0) == FRAMES


def test_drop_loses_the_given_share() -> None:
    left = passed(Drop(rate=0.3))
    assert left == [frame for frame in FRAMES if frame in set(left)]
    assert 630 < len(left) < 770
    assert passed(Drop(rate=1.0)) == []
    assert passed(Drop(rate=0.0)) == FRAMES


def test_duplicate_repeats_the_given_share_in_place() -> None:
    out = passed(Duplicate(rate=0.3))
    assert list(dict.fromkeys(out)) == FRAMES
    assert 1230 < len(out) < 1370


def test_truncate_removes_at_least_one_byte_and_leaves_one() -> None:
    out = passed(Truncate(rate=1.0))
    assert all(whole.startswith(cut) for whole, cut in zip(FRAMES, out, strict=True))
    assert {len(cut) for cut in out} == set(range(1, LENGTH))
    assert passed(Truncate(rate=1.0), [b"", b"x", b"xy"]) == [b"x"]


def test_bit_flips_invert_the_given_share_of_bits() -> None:
    out = passed(BitFlips(rate=0.01))
    flipped = sum((a ^ b).bit_count() for x, y in zip(FRAMES, out, strict=True) for a, b in zip(x, y, strict=True))
    assert 0.008 < flipped / (8 * LENGTH * len(FRAMES)) < 0.012
    assert passed(BitFlips(rate=1.0), [b"\x0f"]) == [b"\xf0"]


def test_a_delay_passes_everything_later() -> None:
    delay = Delay(by=0.5)
    assert delay.carry([b"a"], 10.0) == []
    assert delay.carry([b"b"], 10.4) == []
    assert delay.carry([], 10.5) == [b"a"]
    assert delay.carry([], 99.0) == [b"b"]


def test_jitter_is_bounded_and_keeps_the_order() -> None:
    jitter = Jitter(jitter=0.2)
    out: list[tuple[float, bytes]] = []
    for tick in range(1400):
        now = tick / 1000
        out += [(now, frame) for frame in jitter.carry(FRAMES[tick : tick + 1], now)]
    assert [frame for _, frame in out] == FRAMES
    late = [when - n / 1000 for n, (when, _) in enumerate(out)]
    assert 0.0 <= min(late) < max(late) <= 0.2011


def test_a_delay_holds_a_bounded_number_of_frames() -> None:
    delay = Delay(by=1.0)
    for _ in range(12):
        delay.carry(FRAMES, 0.0)
    assert len(delay.carry([], 1.0)) == MAX_HELD


def test_stuck_repeats_the_first_frame() -> None:
    assert passed(Stuck()) == FRAMES[:1] * len(FRAMES)


def test_silence_passes_nothing() -> None:
    assert passed(Silent()) == []


def test_garbage_precedes_every_frame_or_replaces_it_on_a_bus() -> None:
    out = passed(Garbage(most=5))
    assert all(frame.endswith(whole) for whole, frame in zip(FRAMES, out, strict=True))
    assert {len(frame) - LENGTH for frame in out} == {1, 2, 3, 4, 5}
    (frame,) = passed(Garbage(most=40), [SimFrame(0x201, b"12345678")])
    assert frame.arbitration_id == 0x201
    assert frame.data != b"12345678"
    assert 1 <= len(frame.data) <= 8


def test_a_flood_repeats_everything() -> None:
    assert passed(Flood(times=3), [b"a", b"b"]) == [b"a"] * 3 + [b"b"] * 3


def test_unplugging_is_left_to_the_device() -> None:
    class Plugged:
        there = True

        def unplug(self) -> None:
            self.there = False

        def plug(self) -> None:
            self.there = True

    device, fault = Plugged(), Unplug()
    fault.begin(device)
    assert not device.there
    fault.end(device)
    assert device.there


def uart(data: bytes, ratio: float, oversampling: int = 16) -> bytes:
    """The bytes received by a UART with `ratio` times the sender's clock, by samples; framing errors are left out."""
    line = "".join("0" + f"{byte:08b}"[::-1] + "1" for byte in data) + "1" * 10
    step = 1.0 / ratio / oversampling  # bits of the sender from one sample to the next
    out, at = bytearray(), 0.0
    while at < len(line):
        if line[int(at)] == "1":
            at = int(at) + 1.0  # the falling edge
            continue
        middles = [at + (oversampling // 2 + oversampling * i) * step for i in range(10)]
        if middles[9] >= len(line):
            break
        bits = "".join(line[int(middle)] for middle in middles)
        if bits[9] == "1":
            out.append(int(bits[8:0:-1], 2))
        at = middles[9]
    return bytes(out)


@given(st.binary(max_size=60))
def test_at_the_right_rate_a_uart_takes_every_byte(data: bytes) -> None:
    assert b"".join(passed(BaudMismatch(1.0), [data])) == data


@given(st.binary(max_size=60))
def test_two_percent_is_not_a_mismatch(data: bytes) -> None:
    assert b"".join(passed(BaudMismatch(1.02), [data])) == data
    assert b"".join(passed(BaudMismatch(0.98), [data])) == data


@given(st.binary(max_size=60), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_a_wrong_rate_gives_what_a_uart_would_receive(data: bytes, ratio: float) -> None:
    assert b"".join(passed(BaudMismatch(ratio), [data])) == uart(data, ratio)


def test_half_the_rate_turns_a_letter_into_known_garbage() -> None:
    # "U" is 01010101 01 on the line, lowest bit first; at half the rate every second bit is seen.
    assert passed(BaudMismatch(0.5), [b"UUUU"]) != [b"UUUU"]
    assert passed(BaudMismatch(0.5), [b"\xff"]) == [b"\xff"]  # its start bit alone: the rest is idle


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_seed_gives_the_same_faults(name: str) -> None:
    kind = FAULTS[name]
    if "seed" in getattr(kind, "__dataclass_fields__", ()):
        out = [[kind(seed=seed).carry(FRAMES, 0.0) for _ in range(2)] for seed in (1, 2)]  # type: ignore[call-arg]
        assert out[0][0] == out[0][1]
        assert out[0] != out[1] or issubclass(kind, Delay)
    else:
        assert kind().carry(list(FRAMES), 0.0) == kind().carry(list(FRAMES), 0.0)


@pytest.mark.slow
@given(st.sampled_from(sorted(FAULTS)), frames, st.floats(0.0, 1e6))
def test_no_frame_makes_a_fault_raise(name: str, frames: list[Any], now: float) -> None:
    fault = FAULTS[name]()
    for frame in [*fault.carry(frames, now), *fault.carry([], now + 100.0)]:
        assert isinstance(frame, bytes) or len(frame.data) <= 8


def test_faults_accumulate_and_end_one_by_one() -> None:
    wire, flood, double = Wire(), Flood(times=2), Duplicate(rate=1.0)
    wire.begin(flood)
    wire.begin(double)
    assert wire.carry([b"a"], 0.0) == [b"a"] * 4
    wire.end(flood)
    wire.end(flood)
    assert wire.carry([b"a"], 0.0) == [b"a"] * 2
    wire.end(double)
    assert wire.carry([b"a"], 0.0) == [b"a"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Drop(rate=1.1),
        lambda: BitFlips(rate=-0.1),
        lambda: Delay(by=61.0),
        lambda: Jitter(jitter=-1.0),
        lambda: Garbage(most=0),
        lambda: Flood(times=0),
        lambda: BaudMismatch(ratio=0.0),
        lambda: Drop(rate=float("nan")),
    ],
)
def test_an_option_out_of_range_is_an_error(wrong: Callable[[], Fault]) -> None:
    with pytest.raises(ValueError, match="is not from"):
        wrong()
