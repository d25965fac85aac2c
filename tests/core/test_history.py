"""The values of the last minutes in memory."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL, KEPT, OLD, Database, Definition, Reading
from fixgw.history import History

# As docs/plugins/netfix.md tells clients.
STEP_S, SPAN_S, LENGTH = 0.5, 900.0, 1800
MAX_KEYS, MAX_ASKED = 120, 40
UNREAL, OVERRIDDEN = 32, 64


class Bench:
    """A database and its history on a clock that the test winds."""

    def __init__(self, *definitions: Definition) -> None:
        self.time = 1000.0
        self.db = Database(definitions or [Definition(key="IAS"), Definition(key="ALT")], lambda: self.time)
        self.history = History(self.db)

    def step(self, count: int = 1, also: Iterable[str] = (), **values: float) -> None:
        """The next steps, with values that are written in each; 1 for the keys of `also`."""
        values |= dict.fromkeys(also, 1.0)
        for _ in range(count):
            self.time += STEP_S
            for key, value in values.items():
                self.db.write(key, value, "eis")
            self.history.sample()

    def values(self, key: str, seconds: float = SPAN_S) -> list[float | None]:
        series = self.history.read([key], seconds).series[key]
        assert series is not None
        return series.values

    def flags(self, key: str) -> list[int]:
        series = self.history.read([key]).series[key]
        assert series is not None
        return list(series.flags)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_last_values_in_their_order_with_their_time(bench: Bench) -> None:
    for n in range(5):
        bench.step(IAS=n)
    bench.time += 0.1234
    past = bench.history.read(["IAS"], seconds=1.5)
    assert past.newest == bench.time - 0.1234
    assert past.series["IAS"] == ([2.0, 3.0, 4.0], bytes(3))
    assert past.tree(bench.time) == {
        "step": 0.5,
        "age": 0.123,
        "keys": {"IAS": {"values": [2, 3, 4], "flags": [0, 0, 0]}},
    }


def test_no_more_than_the_last_fifteen_minutes(bench: Bench) -> None:
    for n in range(LENGTH + 7):
        bench.step(IAS=n)
    assert bench.values("IAS") == [float(n) for n in range(7, LENGTH + 7)]
    assert bench.values("IAS", float("inf")) == bench.values("IAS", SPAN_S)
    assert bench.values("IAS", 0) == bench.values("IAS", -5) == []


def test_before_anything_was_remembered_there_is_nothing(bench: Bench) -> None:
    assert bench.values("IAS") == []
    bench.step(IAS=1)
    assert bench.values("IAS") == [1.0]


def test_a_clock_that_begins_at_zero_is_as_good(bench: Bench) -> None:
    bench.time = 0.0
    bench.db.write("IAS", 0.0, "eis")
    bench.history.sample()
    for n in range(1, 6):
        bench.step(IAS=n, ALT=n)
    assert bench.values("IAS") == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert bench.values("ALT") == [None, None, None, None, 4.0, 5.0], "new keys are looked for every two seconds"


def test_what_was_never_written_is_a_gap_and_no_zero(bench: Bench) -> None:
    bench.history.read(["ALT", "IAS"])
    bench.db.write("IAS", 80.0, KEPT)
    bench.step(2)
    bench.step(ALT=30)
    assert bench.values("ALT") == [None, None, 30.0]
    assert bench.values("IAS") == [80.0] * 3


def test_flags_are_kept() -> None:
    bench = Bench(Definition(key="IAS", tolerance=600))
    bench.step(IAS=1)
    bench.step(2)
    bench.db.write("IAS", 4.0, "eis", BAD)
    bench.step()
    bench.db.write("IAS", float("nan"), "eis")
    bench.step()
    bench.step(IAS=6)
    flags = bench.flags("IAS")
    assert flags[:4] == [0, 0, OLD, BAD]
    assert flags[4] & FAIL
    assert bench.values("IAS")[:4] == [1.0, 1.0, 1.0, 4.0]


@pytest.mark.parametrize(
    ("source", "bits"), [("eis", 0), ("sim/eis", UNREAL), ("replay/eis", UNREAL), ("override/me", OVERRIDDEN)]
)
def test_what_is_not_real_is_marked(bench: Bench, source: str, bits: int) -> None:
    bench.db.write("IAS", 1.0, source)
    bench.history.sample()
    assert bench.flags("IAS") == [bits]


def test_a_hold_up_is_a_gap(bench: Bench) -> None:
    bench.step(2, IAS=1)
    bench.time += 3 * STEP_S  # held up, and the values of before are no news
    bench.step(IAS=2)
    assert bench.values("IAS") == [1.0, 1.0, None, None, None, 2.0]


def test_while_it_is_held_up_the_gap_reaches_to_the_present(bench: Bench) -> None:
    bench.step(2, IAS=1)
    bench.time += 10.0
    past = bench.history.read(["IAS"])
    assert past.newest > bench.time - 2 * STEP_S
    assert past.series["IAS"] == ([1.0, 1.0] + [None] * 19, bytes(21))


def test_a_long_suspend_leaves_nothing_from_before() -> None:
    bench = Bench(Definition(key="IAS", tolerance=0))
    bench.db.write("IAS", 1.0, "eis", BAD)
    bench.step(LENGTH)
    assert bench.flags("IAS") == [BAD] * LENGTH
    bench.time += SPAN_S + 10
    bench.step(IAS=2)
    assert bench.values("IAS") == [None] * (LENGTH - 1) + [2.0]
    assert bench.flags("IAS") == [0] * (LENGTH - 1) + [BAD]


def test_only_numbers_that_are_fed() -> None:
    bench = Bench(
        Definition(key="NAME", type="str"),
        Definition(key="GEAR", type="bool"),
        Definition(key="COUNT", type="int"),
        Definition(key="BARO", setting=True),
        Definition(key="IAS"),
    )
    bench.db.write("NAME", "HB-ABC", "eis")
    bench.db.write("GEAR", True, "eis")
    bench.db.write("BARO", 29.92, KEPT)
    bench.step(COUNT=3)
    bench.step(IAS=3)
    assert bench.history.read(["NAME", "GEAR", "NO_SUCH"]).series == dict.fromkeys(["NAME", "GEAR", "NO_SUCH"])
    assert bench.values("COUNT") == [3.0, 3.0]
    assert bench.values("BARO") == [None, None]  # but from now on, for it was asked for
    bench.step()
    assert bench.values("BARO") == [None, None, 29.92]


def test_a_key_that_is_fed_later_is_remembered_within_two_seconds(bench: Bench) -> None:
    bench.step(7)
    bench.step(4, IAS=1)
    assert 1 <= sum(value is not None for value in bench.values("IAS")) <= 4


def many(count: int, tolerance: int = 1000) -> list[Definition]:
    return [Definition(key=f"K{n}", tolerance=tolerance) for n in range(count)]


def test_measurements_come_before_settings_and_the_first_ones_first() -> None:
    bench = Bench(Definition(key="BUG", setting=True, tolerance=1000), *many(MAX_KEYS + 1))
    bench.step(also=bench.db)
    left_out = f"K{MAX_KEYS}"
    assert bench.values(f"K{MAX_KEYS - 1}") == [1.0]
    assert bench.values(left_out) == bench.values("BUG") == [None]


def test_a_key_that_is_silent_for_all_the_time_makes_room() -> None:
    bench = Bench(*many(MAX_KEYS + 1))
    early = {f"K{n}" for n in range(MAX_KEYS)}
    bench.step(also=early)
    early.remove("K7")
    bench.time += SPAN_S - 10
    bench.step(4, also={*early, f"K{MAX_KEYS}"})
    assert bench.history._fed.keys() == {*early, "K7"}
    bench.time += 10
    bench.step(4, also={*early, f"K{MAX_KEYS}"})
    assert bench.history._fed.keys() == {*early, f"K{MAX_KEYS}"}


def test_all_the_time_is_what_is_remembered() -> None:
    bench = Bench(*many(MAX_KEYS + 1))
    fed = [f"K{n}" for n in range(MAX_KEYS + 1)]
    late = fed.pop()
    bench.step(4, also=fed)  # the last at 1002.0 s
    fed.remove("K7")
    bench.time = 1002.0 + SPAN_S - 2 * STEP_S
    bench.step(also=[*fed, late])
    assert late not in bench.history._fed
    bench.step(also=[*fed, late])
    assert late in bench.history._fed
    assert "K7" not in bench.history._fed


def test_those_asked_for_last_are_remembered_too_and_keep_it_when_they_are_fed() -> None:
    bench = Bench(*many(MAX_KEYS + MAX_ASKED + 1))
    bench.step(also=[f"K{n}" for n in range(MAX_KEYS)])
    others = [f"K{n}" for n in range(MAX_KEYS, MAX_KEYS + MAX_ASKED)]
    bench.history.read(others)
    bench.history.read([others[0]])
    bench.step(also=others)
    bench.history.read([f"K{MAX_KEYS + MAX_ASKED}"])  # the second one has to go
    assert bench.values(others[0])[-1] == 1.0
    assert bench.values(others[2])[-1] == 1.0
    assert bench.values(others[1])[-1] is None


def test_a_key_that_was_asked_for_before_it_was_fed_keeps_its_values(bench: Bench) -> None:
    bench.db.write("IAS", 0.0, KEPT)
    bench.values("IAS")
    bench.step()
    bench.step(6, IAS=1)
    assert bench.values("IAS") == [0.0] + [1.0] * 6
    assert not bench.history._asked


def test_pages_have_at_least_one_key(bench: Bench) -> None:
    bench.step(10, IAS=1, ALT=2)
    assert list(bench.history.read(["IAS", "ALT"], most=5).series) == ["IAS"]
    assert list(bench.history.read(["ALT", "IAS"], most=20).series) == ["ALT", "IAS"]
    assert list(bench.history.read(["NO_SUCH", "ALT", "IAS"], most=19).series) == ["NO_SUCH", "ALT"]
    assert list(bench.history.read(["NO_SUCH", "ALT", "IAS"], most=20).series) == ["NO_SUCH", "ALT", "IAS"]
    assert list(bench.history.read(["IAS", "IAS", "ALT"]).series) == ["IAS", "ALT"]
    assert bench.history.read([]).series == {}


def test_what_is_left_out_of_a_page_is_not_yet_remembered() -> None:
    bench = Bench(*many(4))
    bench.step(2)
    assert list(bench.history.read(["K0", "K1", "K2", "K3"], most=3).series) == ["K0"]
    assert list(bench.history._asked) == ["K0", "K1"]


def test_a_full_memory_takes_three_megabytes_at_most() -> None:
    bench = Bench(*many(MAX_KEYS + MAX_ASKED))
    bench.step(also=bench.db)
    bench.history.read(bench.db)
    rings = [*bench.history._fed.values(), *bench.history._asked.values()]
    assert len(rings) == MAX_KEYS + MAX_ASKED
    assert sum(sys.getsizeof(r) + sys.getsizeof(r.values) + sys.getsizeof(r.flags) for r in rings) < 3_000_000


def test_numbers_of_any_size_become_json(bench: Bench) -> None:
    bench = Bench(Definition(key="BIG", type="int"), Definition(key="LONG"))
    bench.step(BIG=2**63 - 1, LONG=-122.123456789)
    tree = json.loads(json.dumps(bench.history.read(["BIG", "LONG"]).tree(bench.time), allow_nan=False))
    assert tree["keys"]["BIG"]["values"] == [9.22337204e18]
    assert tree["keys"]["LONG"]["values"] == [-122.123457]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.floats(-1e6, 1e6)),
            st.tuples(st.just("wait"), st.sampled_from([0.1, 0.5, 0.7, 2.0, 400.0, 901.0])),
            st.tuples(st.just("sample"), st.none()),
            st.tuples(st.just("read"), st.floats(0, 1000)),
        ),
        max_size=40,
    )
)
def test_it_never_shows_what_was_not_there(actions: list[tuple[str, float | None]]) -> None:
    """Against a plain dictionary of what was sampled in which step."""
    bench = Bench(Definition(key="IAS", tolerance=1500))
    taken: dict[int, tuple[object, int]] = {}
    bench.history.read(["IAS"])
    for act, amount in [*actions, ("read", SPAN_S)]:
        if act == "write":
            bench.db.write("IAS", amount, "eis")
        elif act == "wait":
            bench.time += amount or 0.0
        elif act == "sample":
            bench.history.sample()
            reading = bench.db.read("IAS")
            step = int(bench.time / STEP_S)
            taken.setdefault(step, (reading.value if reading.source else None, reading.flags if reading.source else 0))
        else:
            past = bench.history.read(["IAS"], amount or 0.0)
            series = past.series["IAS"]
            assert series is not None
            end = round(past.newest / STEP_S)
            steps = range(end - len(series.values) + 1, end + 1)
            expected = [taken.get(step, (None, 0)) for step in steps]
            assert list(zip(series.values, series.flags, strict=True)) == expected
            if taken:
                assert bench.time - past.newest < 2 * STEP_S
                wanted = [step for step in taken if end - step < (amount or 0.0) / STEP_S and end - step < LENGTH]
                assert set(wanted) <= set(steps)


def almost() -> float:
    """A clock that stands just before a full half second, so that a thread waits for a millisecond."""
    return 100.499


def test_the_thread_remembers_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    db = Database([Definition(key="IAS")], almost)
    history = History(db)
    sampled = threading.Event()
    sample = history.sample

    def failing_first() -> None:
        if not sampled.is_set():
            sampled.set()
            raise RuntimeError("a defect")
        sample()
        done.set()

    done = threading.Event()
    monkeypatch.setattr(history, "sample", failing_first)
    db.write("IAS", 80.0, "eis")
    history.start()
    history.start()
    assert [t.name for t in threading.enumerate()].count("history") == 1
    assert done.wait(5)
    history.stop()
    assert "history" not in [t.name for t in threading.enumerate()]
    series = history.read(["IAS"]).series["IAS"]
    assert series is not None
    assert series.values == [80.0]
    assert "RuntimeError: a defect" in caplog.text


def test_it_remembers_at_each_full_half_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.25]
    history = History(Database([Definition(key="IAS")], lambda: now[0]))
    waited: list[float] = []
    remembered: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waited.append(timeout)
            now[0] += timeout
            return len(waited) > 3

    monkeypatch.setattr(history, "sample", lambda: remembered.append(now[0]))
    history._run(Stopping())
    assert waited == [0.25, 0.5, 0.5, 0.5]
    assert remembered == [100.5, 101.0, 101.5]


def test_it_can_be_started_again_and_its_thread_keeps_no_process_alive() -> None:
    history = History(Database([Definition(key="IAS")], almost))
    history.stop()
    for _ in range(2):
        sampled = threading.Event()
        history.sample = sampled.set  # type: ignore[method-assign]
        history.start()
        thread = history._thread
        assert thread is not None
        assert thread.daemon
        assert sampled.wait(5)
        history.stop()
        assert not thread.is_alive()


def test_a_thread_that_hangs_holds_up_the_stop_for_a_second() -> None:
    joined: list[float] = []
    history = History(Database())
    history._thread = SimpleNamespace(join=joined.append)  # type: ignore[assignment]
    history.stop()
    assert joined == [1.0]


def test_the_age_of_the_past_is_never_negative(bench: Bench) -> None:
    bench.step(IAS=1)
    assert bench.history.read([]).tree(bench.time - 5.0)["age"] == 0.0


def test_an_item_may_be_defined_while_it_looks_for_keys(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = bench.db.readings

    def meanwhile() -> list[Reading]:
        found = readings()
        bench.db.define(Definition(key="NEW"))
        return found

    monkeypatch.setattr(bench.db, "readings", meanwhile)
    bench.step(IAS=1)
    assert bench.values("IAS") == [1.0]
