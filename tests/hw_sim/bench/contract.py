"""The contract suite: what every driver must do, whatever its device.

Any driver, ours or yours, is tested by a class among its tests that describes it:

    from fixgw.hw_sim.bench.contract import Contract
    from fixgw.hw_sim.bench.wired import SerialBench


    class TestContract(Contract):
        subject = SerialBench.of("fixgw.drivers.eis", Eis, "TACH1 OILP1 OILT1", absurd={"TACH1": 30_000})

The class inherits the tests of the suite that the bench and the subject allow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar, TypeVar

import pytest

from fixgw import loader
from fixgw.hw_sim.bench.base import Bench, Subject, until
from fixgw.hw_sim.faults import (
    BaudMismatch,
    Delay,
    Drop,
    Duplicate,
    F,
    Fault,
    Flood,
    Garbage,
    Jitter,
    Stuck,
    Truncate,
    data_of,
    with_data,
)
from fixgw.plugin import PluginBase

T = TypeVar("T", bound=Callable[..., None])

#: Waiting times of drivers on the bench, in seconds of real time, by attribute.
HURRY = {"reopen_delay": 0.01, "reopen_delay_max": 0.05, "poll_timeout": 0.05, "gather_s": 0.0}


def needs(ability: str) -> Callable[[T], T]:
    """Mark a test for drivers whose bench has `ability`."""

    def mark(test: T) -> T:
        test.ability = ability  # type: ignore[attr-defined]
        return test

    return mark


def family(cls: type[PluginBase]) -> Iterator[type[PluginBase]]:
    """A class and all its subclasses."""
    yield cls
    for child in cls.__subclasses__():
        yield from family(child)


@dataclass
class FlipOne(Fault):
    """One bit of every frame is wrong."""

    seed: int = 0

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def spoil(self, frame: F) -> list[F]:
        data = bytearray(data_of(frame))
        data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        return [with_data(frame, bytes(data))]


@dataclass
class AlmostAll(FlipOne):
    """One bit is wrong in 69 of 70 frames: with a checksum, like the stream of another device."""

    frames: int = 60

    def spoil(self, frame: F) -> list[F]:
        self.frames += 1
        if self.frames % 70 == 0:
            return [frame]
        data = bytearray(data_of(frame))
        data[self._random.randrange(len(data) // 4, len(data) // 2)] ^= 1 << self._random.randrange(8)
        return [with_data(frame, bytes(data))]


@dataclass
class Stutter(Fault):
    """Each frame is preceded by one without its end."""

    seed: int = 0

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def spoil(self, frame: F) -> list[F]:
        data = data_of(frame)
        return [with_data(frame, data[: self._random.randrange(1, len(data))]), frame]


def nothing_wrong(bench: Bench, before: dict[str, set[Any]]) -> None:
    """Check that every good value was one that the device sends when all is well; time and hours may advance."""
    moving = {key for key, values in before.items() if len(values) > 1}
    for key, values in bench.seen.items():
        if key not in moving:
            assert values <= before.get(key, set()), f"{key}: wrong, but looks good"


def clean(bench: Bench) -> dict[str, set[Any]]:
    """The values that the device sends when all is well."""
    bench.start()
    bench.becomes_good()
    bench.fly(3.0)
    seen = {key: set(values) for key, values in bench.seen.items()}
    bench.seen.clear()
    return seen


@pytest.mark.slow
class Contract:
    """The suite; a subclass whose name begins with ``Test`` sets `subject`."""

    subject: ClassVar[Subject]

    def __init_subclass__(cls) -> None:
        for name, test in vars(Contract).items():
            ability = getattr(test, "ability", None)
            if ability is not None and ability not in cls.subject.abilities:
                setattr(cls, name, None)  # pytest does not see it

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
        loader.load_plugin(self.subject.module)  # so that its classes are there
        for cls in family(PluginBase):
            for name in HURRY.keys() & vars(cls).keys():
                monkeypatch.setattr(cls, name, HURRY[name])
        subject = self.subject
        if subject.configuration:  # a file beside the test
            subject = replace(subject, configuration=request.path.parent / subject.configuration)
        bench = subject.bench(subject)
        yield bench
        bench.close()

    def test_its_subject_gives_absurd_values(self) -> None:
        assert self.subject.absurd or not self.subject.keys or not self.subject.bench.measures

    # -- life ----------------------------------------------------------------------------------------------------------

    def test_it_starts_stops_and_starts_again(self, bench: Bench) -> None:
        threads = set(threading.enumerate())
        for _ in range(3):
            plugin = bench.start()
            assert plugin.is_running()
            bench.becomes_good()
            bench.stop()
            assert not plugin.is_running()
            until(lambda: set(threading.enumerate()) <= threads, "it leaves a thread behind")

    def test_its_values_are_true_good_and_its_own(self, bench: Bench) -> None:
        bench.start()
        bench.becomes_good()
        bench.fly(3.0)
        truth = bench.truth()
        for key in bench.subject.keys:
            reading, item = bench.db.read(key), bench.db.item(key)
            assert reading.source.partition("/")[0] == "bench", key
            expected = truth[key]
            if isinstance(expected, float) and isinstance(reading.value, float):
                within = bench.subject.within.get(key, abs(expected) / 100 + 1e-6)
                assert abs(reading.value - expected) <= within, f"{key}: {reading.value} {item.units}, but {expected}"
            elif key not in ("TIMEZ", "TIMEZS"):
                assert reading.value == expected, key

    def test_it_stops_within_a_second_when_nothing_happens(self, bench: Bench) -> None:
        bench.start()
        assert bench.stop() < 1.0

    def test_it_stops_within_a_second_under_load(self, bench: Bench) -> None:
        bench.start()
        bench.becomes_good()
        with bench.hammered():
            assert bench.stop() < 1.0

    # -- the device comes and goes -------------------------------------------------------------------------------------

    @needs("late")
    def test_it_stops_within_a_second_while_it_waits_for_the_device(self, bench: Bench) -> None:
        bench.unplug()
        plugin = bench.start()
        until(plugin.health, "health does not report the missing device")
        assert bench.stop() < 1.0

    @needs("late")
    def test_a_device_that_appears_late_is_used(self, bench: Bench) -> None:
        bench.unplug()
        plugin = bench.start()
        until(plugin.health, "health does not report the missing device")
        assert plugin.is_running()
        # A setting that does not age is good before anything writes it.
        assert set(bench.not_good()) >= {k for k in bench.subject.keys if not bench.db.item(k).definition.setting}
        bench.plug()
        bench.becomes_good()

    @needs("vanish")
    def test_a_device_that_vanishes_in_mid_frame_fails_its_keys_and_can_return(self, bench: Bench) -> None:
        before = clean(bench)
        bench.half_a_frame()
        bench.unplug()
        until(lambda: all(bench.db.read(key).fail for key in bench.subject.keys), "its last values still look good")
        assert bench.plugin.health()
        assert bench.plugin.is_running()
        bench.plug()
        bench.other_half()
        bench.becomes_good()
        nothing_wrong(bench, before)

    @needs("exchange")
    def test_another_device_in_its_place_is_not_trusted(self, bench: Bench) -> None:
        bench.start()
        bench.becomes_good()
        bench.unplug()
        bench.seen.clear()
        bench.exchange()
        bench.plug()
        bench.fly(5.0)
        bench.fly_until(lambda: bench.plugin.health() or not bench.expects, "the driver has no complaint")
        assert not bench.seen
        assert set(bench.not_good()) == set(bench.subject.keys)

    @needs("refuse")
    def test_an_occasional_missing_answer_of_a_chip_is_retried(self, bench: Bench) -> None:
        before = clean(bench)
        bench.refuse()  # type: ignore[attr-defined]
        for _ in range(100):
            bench.step()
            assert not bench.not_good()
        assert bench.plugin.counts["read errors"]
        assert "outages" not in bench.plugin.counts
        nothing_wrong(bench, before)
        bench.counters_add_up()

    @needs("bits")
    def test_an_occasional_wrong_bit_is_not_trusted_even_without_a_checksum(self, bench: Bench) -> None:
        before = clean(bench)
        bench.flip_bits()  # type: ignore[attr-defined]
        bench.fly(10.0)
        assert bench.device.faults.spoiled > 5
        nothing_wrong(bench, before)
        assert "outages" not in bench.plugin.counts
        bench.becomes_good()

    # -- what comes is damaged -----------------------------------------------------------------------------------------

    @needs("garbage")
    def test_garbage_between_frames_hides_no_frame(self, bench: Bench) -> None:
        before = clean(bench)
        bench.spoil(Garbage(most=7, seed=3))
        bench.fly(5.0)
        assert not bench.not_good()
        nothing_wrong(bench, before)
        bench.counters_add_up()

    @needs("garbage")
    def test_a_frame_without_its_end_does_not_hide_the_next(self, bench: Bench) -> None:
        bench.start()
        bench.becomes_good()
        counts = bench.plugin.counts
        bench.hurry()
        used, rounds = counts["used"], bench.device.rounds
        bench.fly(5.0)
        a_round = (counts["used"] - used) / (bench.device.rounds - rounds)
        bench.spoil(Stutter())
        used, rounds = counts["used"], bench.device.rounds
        bench.fly(10.0)
        assert counts["used"] - used >= 0.9 * a_round * (bench.device.rounds - rounds)
        assert not bench.not_good()
        bench.counters_add_up()

    @needs("flip")
    def test_missing_data_is_not_invented(self, bench: Bench) -> None:
        before = clean(bench)
        bench.spoil(Truncate(rate=0.5, seed=1))
        bench.fly(10.0)
        nothing_wrong(bench, before)
        bench.counters_add_up()

    @needs("flip")
    def test_a_wrong_bit_is_noticed(self, bench: Bench) -> None:
        before = clean(bench)
        fault = FlipOne()
        bench.spoil(fault)
        bench.fly(10.0)
        nothing_wrong(bench, before)
        assert sum(bench.plugin.counts[reason] for reason in bench.plugin._protocol.REFUSALS)
        bench.heal(fault)
        bench.becomes_good()
        bench.counters_add_up()

    @needs("flip")
    def test_a_stream_with_one_valid_frame_in_seventy_is_not_trusted(self, bench: Bench) -> None:
        bench.spoil(AlmostAll())
        bench.hurry()
        bench.start()
        if getattr(bench.plugin._protocol, "SELF_EVIDENT", False):
            pytest.skip("this kind of frame cannot come from another device")
        bench.fly(20.0)
        assert bench.plugin.counts["used"]
        assert not bench.seen, bench.plugin.counts
        assert bench.plugin.health()

    @needs("baud")
    @pytest.mark.parametrize("ratio", [0.25, 0.5, 2.0])
    def test_the_wrong_baud_rate_gives_no_value_that_looks_good(self, bench: Bench, ratio: float) -> None:
        bench.spoil(BaudMismatch(ratio))
        plugin = bench.start()
        bench.fly(10.0)
        assert not bench.seen
        assert "garbage" in plugin.health() or "no data" in plugin.health()
        bench.counters_add_up()

    @needs("flood")
    def test_ten_times_the_data_rate_of_the_line_is_handled(self, bench: Bench) -> None:
        before = clean(bench)
        bench.spoil(Flood(10))
        bench.hurry()
        bench.fly(5.0)
        assert not bench.not_good()
        nothing_wrong(bench, before)
        bench.counters_add_up()

    @needs("wire")
    def test_the_counters_add_up_under_all_faults_at_once(self, bench: Bench) -> None:
        before = clean(bench)
        faults: list[Fault] = [Drop(0.2), Duplicate(0.2), Jitter(jitter=0.3)]
        if "garbage" in bench.subject.abilities:
            faults += [Garbage(20)]
        if bench.subject.checksum:
            faults += [Truncate(0.2)]
        if "flip" in bench.subject.abilities:
            faults += [FlipOne(7)]
        for fault in faults:
            bench.spoil(fault)
        bench.fly(20.0)
        nothing_wrong(bench, before)
        bench.counters_add_up()
        for fault in faults:
            bench.heal(fault)
        bench.becomes_good()

    @needs("wire")
    @pytest.mark.parametrize("faults", [lambda: [Delay(by=0.7, jitter=0.4), Duplicate(0.5)], lambda: [Stuck()]])
    def test_late_or_repeated_frames_give_true_values(self, bench: Bench, faults: Callable[[], list[Fault]]) -> None:
        before = clean(bench)
        begun = faults()
        for fault in begun:
            bench.spoil(fault)
        bench.fly(10.0)
        nothing_wrong(bench, before)
        bench.counters_add_up()
        for fault in begun:
            bench.heal(fault)
        bench.becomes_good()

    @needs("counters")
    def test_the_counters_add_up_when_all_is_well(self, bench: Bench) -> None:
        clean(bench)
        assert bench.plugin.counts["used"]
        assert not bench.refused()
        bench.counters_add_up()

    # -- what comes is whole, and cannot be true -----------------------------------------------------------------------

    @needs("absurd")
    def test_absurd_values_are_not_trusted(self, bench: Bench) -> None:
        before = clean(bench)
        for name, value in bench.subject.absurd.items():
            refused = bench.refused()
            bench.go_mad(name, value)
            lost = set(bench.subject.keys) if name.islower() else {name}
            bench.fly_until(lambda: any(not bench.db.read(key).good for key in lost), f"{name} is trusted")  # noqa: B023
            bench.fly(2.0)
            assert any(not bench.db.read(key).good for key in lost), f"{name} is trusted"
            assert bench.refused() > refused, f"{name} is not counted"
            nothing_wrong(bench, before)
            bench.counters_add_up()
            bench.recover()
            bench.becomes_good()

    @needs("unknown")
    def test_only_values_that_the_device_does_not_know_fail(self, bench: Bench) -> None:
        before = clean(bench)
        bench.device.failed |= set(bench.subject.unknown)
        bench.fly(5.0)
        assert set(bench.not_good()) == set(bench.subject.unknown)
        for key in bench.subject.unknown:
            assert bench.db.read(key).fail
            assert bench.db.read(key).reasons
        nothing_wrong(bench, before)
        bench.device.failed.clear()
        bench.becomes_good()

    @needs("repeats")
    def test_a_device_that_hangs_is_noticed(self, bench: Bench) -> None:
        bench.start()
        bench.becomes_good()
        bench.repeat()

        def noticed() -> bool:
            return bool(set(bench.not_good()) == set(bench.subject.keys) and bench.plugin.health())

        bench.fly_until(noticed, "values that stand still look good")

    # -- silence -------------------------------------------------------------------------------------------------------

    @needs("silence")
    def test_the_values_of_a_silent_device_become_old_and_recover(self, bench: Bench) -> None:
        plugin = bench.start()
        bench.becomes_good()
        bench.silence()
        tolerances = {key: bench.db.item(key).tolerance for key in bench.subject.keys}
        bench.fly(max(tolerances.values()) * 1.2 + 10.0)
        assert {key for key, tolerance in tolerances.items() if tolerance and not bench.db.read(key).old} == set()
        assert plugin.health() == "no data" or not bench.expects
        bench.speak()
        bench.becomes_good()
