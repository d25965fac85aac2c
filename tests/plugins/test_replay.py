"""replay: recordings back in the database, marked, at their own pace."""

from __future__ import annotations

import json
import shutil
import threading
import tracemalloc
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins import replay
from fixgw.recording import About, Alert, Change, RecordingError, flight, incumbent, layout
from fixgw.recording.container import Writer
from fixgw.world import World

T = datetime(2026, 5, 16, 14, tzinfo=UTC).timestamp()
DATA = Path(__file__).parents[1] / "data" / "recording"


class Fake:
    """A recording in memory."""

    def __init__(self, changes: list[Change], start: float = T, end: float | None = None) -> None:
        self._changes = changes
        self.about = About("fake", Path("fake"), start, max(c.time for c in changes) if end is None else end)
        self.opened = 0

    def changes(
        self, keys: Collection[str] | None = None, since: float | None = None, until: float | None = None
    ) -> Iterator[Change]:
        state: dict[str, Change] = {}
        for change in self._changes:
            if since is not None and change.time < since:
                state[change.key] = change._replace(time=since)
                continue
            yield from state.values()
            state = {}
            yield change
        yield from state.values()

    def alerts(self) -> list[Alert]:
        return []

    def close(self) -> None:
        self.opened -= 1


def value(seconds: float, key: str, value: Any, flags: int = 0, source: str = "", **reasons: str) -> Change:
    return Change(T + seconds, key, value, flags, source, reasons)


class Bench:
    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        definitions = [
            Definition(key="IAS", max=500.0, tolerance=2000),
            Definition(key="ALT", max=50000.0, tolerance=500),
            Definition(key="ACID", type="str"),
            Definition(key="GEAR", type="bool"),
            Definition(key="RPM", type="int", max=5000, tolerance=2000, sources=("eis", "canfix")),
            *(Definition(key=f"TIRE{n}", max=100.0) for n in range(1, 7)),
        ]
        self.db = Database(definitions, clock)
        self.quits: list[str] = []
        self.world = World(self.db, quit=self.quits.append)
        self.recordings: dict[str, Fake] = {}
        self._patch = monkeypatch
        self.plugins: list[replay.Plugin] = []

    def have(self, **recordings: Fake) -> None:
        """Replace the files by these."""

        def open_recording(path: Path, zone: Any = None) -> Fake:
            if path.name not in self.recordings:
                raise RecordingError(f"{path.name} is not a recording")
            self.recordings[path.name].opened += 1
            return self.recordings[path.name]

        self.recordings = recordings
        self._patch.setattr(replay, "open_recording", open_recording)
        self._patch.setattr(flight, "find", lambda name, places: Path(name))

    def make(self, *files: str, **options: Any) -> replay.Plugin:
        with self.world.hosting():
            plugin = replay.Plugin("replay", {"files": list(files) or list(self.recordings), **options})
        plugin.begin()
        plugin.step()
        self.plugins.append(plugin)
        return plugin

    def wind(self, plugin: replay.Plugin, seconds: float) -> None:
        """Let time pass, with the steps that the plugin asks for."""
        end = self.clock.now + seconds
        while self.clock.now < end - 1e-9:
            self.clock.now = min(end, self.clock.now + max(plugin._planned_s, 0.001))
            plugin.step()
            self.db.age()

    def flags(self, key: str) -> str:
        return self.db.read(key).flag_text


@pytest.fixture
def bench(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(clock, monkeypatch)
    yield bench
    for plugin in bench.plugins:
        plugin.finish()
    assert all(recording.opened == 0 for recording in bench.recordings.values())


@pytest.fixture
def simple(bench: Bench) -> Bench:
    """Ten seconds, IAS each half second, ALT once at the beginning."""
    bench.have(a=Fake([value(0, "ALT", 1000.0), *(value(n / 2, "IAS", float(n)) for n in range(21))]))
    return bench


# -- values ------------------------------------------------------------------------------------------------------------


def test_values_come_at_their_times_with_a_marked_source(simple: Bench) -> None:
    plugin = simple.make()
    seen: list[Any] = []
    simple.db.subscribe("IAS", lambda key, reading: seen.append((simple.clock.now, reading.value, reading.source)))
    begin = simple.clock.now
    assert simple.db.read("IAS").value == 0.0
    simple.wind(plugin, 3.2)
    assert seen == [(pytest.approx(begin + n / 2, abs=0.006), float(n), "replay/replay") for n in range(1, 7)]
    assert plugin.health() == ""
    assert plugin.get_status()["position"] == "2026-05-16T14:00:03Z"


def test_the_pace_does_not_drift(bench: Bench) -> None:
    bench.have(a=Fake([value(n * 0.0973, "IAS", n % 100) for n in range(6000)]))
    plugin = bench.make()
    bench.wind(plugin, 0.0973 * 5999 - 0.01)
    assert plugin.counts["values"] == 5999
    bench.wind(plugin, 0.015)
    assert plugin.counts["values"] == 6000


def test_a_process_that_was_held_up_goes_on_where_it_was(simple: Bench) -> None:
    plugin = simple.make()
    simple.wind(plugin, 2.0)
    before = plugin.counts["values"]
    simple.clock.now += 10.0
    plugin.step()
    assert plugin.counts["values"] <= before + 1
    assert plugin.counts["held up"] == 1
    simple.wind(plugin, 3.0)
    assert simple.db.read("IAS").value in (10.0, 11.0)


@pytest.mark.parametrize("flag", [ANNUNCIATE, BAD, FAIL, SECFAIL, OLD, BAD | SECFAIL])
def test_flags_are_as_recorded(bench: Bench, flag: int) -> None:
    bench.have(a=Fake([value(0, "IAS", 90.0), value(1, "IAS", 95.0, flag), value(2, "IAS", 96.0), value(9, "ALT", 1)]))
    plugin = bench.make()
    assert bench.db.read("IAS").flags == 0
    bench.wind(plugin, 1.1)
    assert bench.db.read("IAS").flags == flag
    assert bench.db.read("IAS").value == 95.0
    bench.wind(plugin, 1.0)
    assert bench.db.read("IAS").flags == 0


def test_reasons_are_as_recorded(bench: Bench) -> None:
    reasons = {"bad": "out of range", "fail": "sensor open", "old": "no data for 2 s", "annunciate": "too fast"}
    bench.have(a=Fake([value(0, "IAS", 90.0, BAD | FAIL | OLD | ANNUNCIATE | SECFAIL, "eis", **reasons)]))
    bench.make()
    reading = bench.db.read("IAS")
    assert [reading.reason(bit) for bit in (BAD, FAIL, OLD, ANNUNCIATE)] == list(reasons.values())
    assert reading.reason(SECFAIL) == "in the recording"
    assert reading.flags == 31


def test_what_becomes_old_in_the_recording_is_not_made_younger(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 90.0), value(2, "IAS", 90.0, OLD), value(9, "ALT", 1.0)]))
    plugin = bench.make()
    at = bench.db.read("IAS").stamp
    bench.wind(plugin, 2.1)
    reading = bench.db.read("IAS")
    assert reading.old
    assert reading.stamp == at


def test_it_ages_like_the_original(simple: Bench) -> None:
    plugin = simple.make()
    simple.wind(plugin, 0.45)
    assert simple.db.read("ALT").good
    simple.wind(plugin, 0.1)
    assert simple.flags("ALT") == "01000"


def test_items_without_a_value(bench: Bench) -> None:
    bench.have(
        a=Fake([value(0, "IAS", None, FAIL), value(0, "ALT", None), value(1, "IAS", 5.0), value(2, "IAS", None, FAIL)])
    )
    plugin = bench.make()
    assert bench.flags("IAS") == "01010"
    assert bench.flags("ALT") == "01000"
    bench.wind(plugin, 1.1)
    assert bench.flags("IAS") == "00000"
    bench.wind(plugin, 1.0)
    assert bench.flags("IAS") == "00010"
    assert bench.db.read("IAS").value == 5.0


def test_the_original_source_is_named(bench: Bench) -> None:
    sources = {
        "eis": "replay/eis",
        "canfix/12": "replay/canfix/12",
        "sim/demo": "replay/sim/demo",
        "replay/eis": "replay/eis",
        "netfix/10.0.0.2:3490/panel-1a2b3c/via-4d5e6f": "replay/netfix/10.0.0.2:3490",
    }
    bench.have(a=Fake([value(n, "IAS", n, 0, source) for n, source in enumerate(sources)]))
    plugin = bench.make()
    for expected in sources.values():
        assert bench.db.read("IAS").source == expected
        bench.wind(plugin, 1.0)


def test_unknown_keys_are_counted_and_named_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.have(a=Fake([value(n, key, 1.0) for n in range(5) for key in ("NOSUCH", "IAS", "OTHER")]))
    plugin = bench.make()
    bench.wind(plugin, 4.5)
    said = [r.getMessage() for r in caplog.records if "NOSUCH" in r.getMessage()]
    assert said == ["2 keys of the recording not defined here: NOSUCH, OTHER"]
    assert plugin.get_status()["unknown keys"] == 2
    assert bench.db.read("IAS").good


def test_a_value_of_another_type_fails_its_key(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.have(a=Fake([value(0, "IAS", "fast"), value(0, "ACID", 5), value(0, "GEAR", True), value(1, "IAS", 3.0)]))
    plugin = bench.make()
    assert bench.db.read("IAS").fail
    assert bench.db.read("GEAR").value is True
    assert plugin.counts["refused values"] == 2
    bench.wind(plugin, 1.1)
    assert bench.db.read("IAS").good


def test_a_value_out_of_range_is_bad(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1e12)]))
    bench.make()
    assert (bench.db.read("IAS").value, bench.flags("IAS")) == (500.0, "00100")


def test_a_ranked_item_takes_a_replayed_value_last(bench: Bench) -> None:
    bench.have(a=Fake([value(n / 2, "RPM", 2400 + n, 0, "eis") for n in range(20)]))
    plugin = bench.make()
    assert (bench.db.read("RPM").value, bench.db.read("RPM").source) == (2400, "replay/eis")
    bench.db.write("RPM", 1000, "canfix/4")
    bench.wind(plugin, 1.0)
    assert bench.db.read("RPM").source == "canfix/4"
    bench.wind(plugin, 2.0)
    assert bench.db.read("RPM").source == "replay/eis"
    plugin.finish()
    assert bench.db.item("RPM").sources == ("eis", "canfix")


def test_a_real_value_is_never_flagged_by_the_replay(simple: Bench) -> None:
    plugin = simple.make()
    simple.db.write("ALT", 333.0, "adc")
    plugin.finish()
    assert simple.db.read("ALT").good
    assert simple.db.read("IAS").reason(OLD) == "the replay was stopped"


# -- the end -----------------------------------------------------------------------------------------------------------


def test_at_the_end_everything_is_old_and_the_health_says_so(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "ACID", "N1"), value(1, "IAS", 90.0)]))
    plugin = bench.make()
    bench.wind(plugin, 1.5)
    assert bench.db.read("ACID").good
    bench.wind(plugin, 1.5)
    assert plugin.health() == "the recording has ended"
    assert plugin.get_status()["state"] == "ended"
    assert bench.db.read("ACID").reason(OLD) == "the recording has ended"
    assert bench.flags("IAS") == "01000"
    bench.wind(plugin, 30.0)
    assert bench.quits == []
    assert plugin.command("resume") == ""
    plugin.step()
    assert bench.db.read("ACID").good
    assert plugin.health() == ""


def test_values_become_old_in_the_order_of_the_recording(bench: Bench) -> None:
    keys = [f"TIRE{n}" for n in (3, 1, 6, 4, 2, 5)]
    bench.have(a=Fake([*(value(0, key, 30.0) for key in keys), value(1, "IAS", 90.0)]))
    plugin = bench.make()
    bench.wind(plugin, 0.2)
    old: list[str] = []
    for key in keys:
        bench.db.subscribe(key, lambda key, reading: old.append(key))
    plugin.finish()
    assert old == keys


def test_with_quit_the_gateway_stops_five_seconds_after_the_last_line(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1.0), value(1, "IAS", 90.0)]))
    plugin = bench.make(quit=True)
    bench.wind(plugin, 5.8)
    assert bench.quits == []
    bench.wind(plugin, 1.0)
    assert bench.quits == ["replay"]


def test_with_loop_it_begins_again_for_ever(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1.0), value(1, "IAS", 2.0), value(2, "ACID", "late")]))
    plugin = bench.make(loop=True)
    seen: list[Any] = []
    bench.db.subscribe("IAS", lambda key, reading: seen.append(reading.value) if not reading.old else None)
    bench.wind(plugin, 30.0)
    assert seen[:6] == [2.0, 1.0, 2.0, 1.0, 2.0, 1.0]
    assert len(seen) == 20
    bench.wind(plugin, 0.2)
    assert bench.db.read("ACID").reason(OLD) == "not in the recording at this time"
    assert plugin.health() == ""


# -- several files, gaps -----------------------------------------------------------------------------------------------


def test_files_follow_each_other(bench: Bench) -> None:
    bench.have(
        a=Fake([value(0, "IAS", 1.0), value(1, "IAS", 2.0)]),
        b=Fake([value(1.5, "IAS", 3.0), value(2, "IAS", 4.0)], T + 1.5),
        c=Fake([value(3600, "IAS", 5.0), value(3601, "IAS", 6.0)], T + 3600),
        d=Fake([value(-9000, "IAS", 7.0), value(-8999, "IAS", 8.0)], T - 9000),
    )
    plugin = bench.make()
    seen: list[tuple[float, Any]] = []
    begin = bench.clock.now

    def see(key: str, reading: Any) -> None:
        if not reading.old:
            seen.append((round(bench.clock.now - begin, 1), reading.value))

    bench.db.subscribe("IAS", see)
    bench.wind(plugin, 16.0)
    assert seen == [(1.0, 2), (1.5, 3), (2.0, 4), (12.0, 5), (13.0, 6), (14.0, 7), (15.0, 8)]


def test_during_a_gap_values_become_old(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1.0), value(900, "IAS", 2.0)]))
    plugin = bench.make(longest_gap=4)
    bench.wind(plugin, 3.5)
    assert bench.db.read("IAS").old
    assert plugin.get_status()["position"] == "2026-05-16T14:00:03Z"
    bench.wind(plugin, 0.6)
    assert bench.db.read("IAS").value == 2.0
    assert plugin.get_status()["position"] == "2026-05-16T14:15:00Z"


def test_a_file_that_cannot_be_read_is_left_out(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1.0)]), b=Fake([value(1, "IAS", 2.0), value(9, "ALT", 1.0)]))
    plugin = bench.make("a", "nosuch", "b")
    bench.wind(plugin, 2.0)
    assert bench.db.read("IAS").value == 2.0
    assert plugin.health() == "left out: nosuch is not a recording"


def test_without_any_readable_file_it_tries_again(bench: Bench) -> None:
    plugin = bench.make("a")
    assert plugin.health() == "there is no recording 'a': `fixgw flights` lists them"
    assert plugin.get_status()["state"] == "opening"
    assert plugin.command("seek 10") == "the recording is not open yet"
    bench.have(a=Fake([value(0, "IAS", 1.0)]))
    bench.wind(plugin, 5.5)
    assert bench.db.read("IAS").value == 1.0


def test_a_recording_that_fails_on_the_way_ends_there(bench: Bench) -> None:
    class Broken(Fake):
        def changes(self, *args: Any, **rest: Any) -> Iterator[Change]:
            yield value(0, "IAS", 1.0)
            yield value(1, "IAS", 2.0)
            raise OSError(5, "Input/output error")

    bench.have(a=Broken([value(0, "IAS", 1.0)]))
    plugin = bench.make()
    bench.wind(plugin, 3.0)
    assert bench.db.read("IAS").old
    assert plugin.health() == "the recording has ended"
    assert any("Input/output error" in text for text in plugin.get_status()["unreadable"])


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_pause_keeps_what_is_shown(simple: Bench) -> None:
    plugin = simple.make()
    simple.wind(plugin, 1.2)
    assert plugin.command("pause") == ""
    plugin.step()
    simple.wind(plugin, 60.0)
    assert simple.db.read("IAS").value == 2.0
    assert simple.db.read("IAS").good
    assert simple.db.read("ALT").old, "it was old when the pause began"
    assert plugin.health() == "paused at 2026-05-16T14:00:01Z"
    assert plugin.command("resume") == ""
    plugin.step()
    simple.wind(plugin, 0.5)
    assert simple.db.read("IAS").value == 3.0
    assert plugin.health() == ""


def test_speed(simple: Bench) -> None:
    plugin = simple.make(speed=4)
    simple.wind(plugin, 1.01)
    assert simple.db.read("IAS").value == 8.0
    plugin.command("speed 0.5")
    simple.wind(plugin, 2.0)
    assert simple.db.read("IAS").value == 10.0
    assert plugin.get_status()["speed"] == 0.5


def test_in_slow_motion_nothing_is_old_that_was_not(simple: Bench) -> None:
    plugin = simple.make(speed=0.05)
    olds: list[str] = []
    simple.db.subscribe("IAS", lambda key, reading: olds.append(reading.flag_text) if reading.old else None)
    simple.wind(plugin, 40.0)
    assert olds == []
    assert simple.db.read("IAS").value == 4.0
    assert simple.db.read("ALT").old


@pytest.mark.parametrize(
    ("where", "expected"),
    [("5", 10), ("0:05", 10), ("0:00:05.5", 11), ("+2", 8), ("-1", 2), ("2026-05-16T14:00:07Z", 14), ("-100", 0),
     ("2026-05-16T16:00:07+02:00", 14), ("+1000", 20), ("1970-01-01", 0)],
)  # fmt: skip
def test_seek(simple: Bench, where: str, expected: int) -> None:
    plugin = simple.make()
    simple.wind(plugin, 2.0)
    assert plugin.command(f"seek {where}") == ""
    plugin.step()
    assert simple.db.read("IAS").value == expected


def test_seek_into_another_file(bench: Bench) -> None:
    bench.have(
        a=Fake([value(0, "IAS", 1.0), value(1, "IAS", 2.0)]),
        b=Fake([value(100, "IAS", 3.0), value(101, "IAS", 4.0)], T + 100),
    )
    plugin = bench.make()
    for where, expected in (("101", 4), ("0", 1), ("50", 3), ("1", 2)):
        plugin.command(f"seek {where}")
        plugin.step()
        assert bench.db.read("IAS").value == expected


def test_what_was_old_at_that_place_is_old(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "ALT", 100.0), value(0, "ACID", "N1"), *(value(n, "IAS", n) for n in range(60))]))
    plugin = bench.make()
    plugin.command("seek 30")
    plugin.step()
    assert bench.db.read("ALT").reason(OLD) == "old in the recording"
    assert bench.db.read("ACID").good
    assert bench.db.read("IAS").good


def test_what_came_later_is_old_after_going_back(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1.0), value(5, "GEAR", True), value(9, "IAS", 2.0)]))
    plugin = bench.make()
    bench.wind(plugin, 6.0)
    assert bench.db.read("GEAR").good
    plugin.command("seek 1")
    plugin.step()
    assert bench.db.read("GEAR").reason(OLD) == "not in the recording at this time"


@pytest.mark.parametrize(
    "words", ["", "stop", "speed", "speed x", "speed 0", "speed nan", "speed -1", "speed 1e9", "seek", "seek x",
              "pause 5", "seek 2026-13-01", "seek 9999-99", "seek " + "9" * 500],
)  # fmt: skip
def test_a_command_that_is_not_understood_says_why(simple: Bench, words: str) -> None:
    plugin = simple.make()
    assert plugin.command(words)
    plugin.step()
    assert plugin.health() == ""


def test_it_begins_where_the_options_say(simple: Bench) -> None:
    simple.make(start="0:05")
    assert simple.db.read("IAS").value == 10.0
    plugin = simple.make(start="2026-05-16T15:00:06", utc_offset=1)
    assert simple.db.read("IAS").value == 12.0
    assert plugin.get_status()["position"] == "2026-05-16T14:00:06Z"


# -- the incumbent's files ---------------------------------------------------------------------------------------------


def test_the_incumbents_flags_do_not_shift(bench: Bench, tmp_path: Path) -> None:
    lines = [{"frequency": "500", "starttime": "2026-05-16T14:00:00"}]
    lines += [{"IAS": [n, *(int(k == n) for k in range(5))]} for n in range(5)]  # type: ignore[dict-item]
    path = tmp_path / "a.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"IAS":[')
    plugin = bench.make(str(path), utc_offset=0)
    seen = [bench.flags("IAS")]
    for _ in range(4):
        bench.wind(plugin, 0.5)
        seen.append(bench.flags("IAS"))
    assert seen == ["10000", "01000", "00100", "00010", "00001"]
    bench.wind(plugin, 3.0)
    assert plugin.get_status()["lost pieces"] == 1
    assert plugin.health() == "the recording has ended"


def test_the_incumbents_file_plays(bench: Bench) -> None:
    plugin = bench.make(str(DATA / "fdr-two-starts.json"), utc_offset=0)
    bench.wind(plugin, 2.1)
    assert bench.db.read("IAS").value == pytest.approx(104.64, abs=0.01)
    bench.wind(plugin, 10.1)
    assert bench.db.read("IAS").value == pytest.approx(104.74, abs=0.01)
    assert plugin.get_status()["position"] == "2026-05-16T14:30:00Z"
    assert plugin.get_status()["unknown keys"] == 9


def test_playing_a_long_recording_needs_little_memory(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(incumbent.header(datetime(2026, 5, 16), 500))
        for n in range(600):
            file.write(incumbent.line({f"KEY{k}": (f"{n:900}", 0) for k in range(6)}))
    assert path.stat().st_size > 3_000_000
    plugin = bench.make(str(path), speed=200)
    tracemalloc.start()
    bench.wind(plugin, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plugin.get_status()["position"] == plugin._shown_time(plugin._player.begin + 200)
    assert peak < 300_000


def test_the_doctor_misses_a_file(tmp_path: Path) -> None:
    there, missing = tmp_path / "a.json", tmp_path / "b.json"
    there.touch()
    found = [f.message for f in replay.Plugin.preflight(replay.Options(files=(str(there), str(missing), "nosuch")))]
    assert found == [f"{missing} does not exist", "there is no recording 'nosuch': `fixgw flights` lists them"]


# -- life --------------------------------------------------------------------------------------------------------------


def test_its_thread_plays_and_stops(bench: Bench) -> None:
    bench.have(a=Fake([value(0, "IAS", 1.0), value(1, "IAS", 2.0)]))
    with bench.world.hosting():
        plugin = replay.Plugin("replay", {"files": ["a"]})
    played = threading.Event()
    bench.db.subscribe("IAS", lambda key, reading: played.set() if reading.value == 1.0 else None)
    plugin.start()
    assert played.wait(10)
    assert bench.world.offered("playback") is not None
    plugin.shutdown()
    assert bench.world.offered("playback") is None
    assert bench.db.read("IAS").old


# -- the recorder's files ----------------------------------------------------------------------------------------------


def test_a_flight_of_the_recorder_plays(bench: Bench, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "flight.mcap.part", {"ident": "N123", "version": "1"}, {})

    def write(seconds: float, topic: str, **content: Any) -> None:
        writer.write(topic, layout.encode(content), round((100 + seconds) * 1e9), round((T + seconds) * 1e9))

    writer.write_time(100.0, T, "boot")
    write(0, layout.SOURCES, IAS="adc", ALT="sim/demo")
    write(0, layout.FLAGS, IAS="00000", ALT="01000")
    write(0, "/flight", IAS=100.5, ALT=None)
    write(1, "/flight", ALT=1000.0)
    write(1, layout.FLAGS, IAS="00100", ALT="00000")
    write(1, layout.REASONS, IAS={"bad": "the pitot tube is iced"})
    write(1, "/flight", IAS=90.0)
    write(2, layout.FLAGS, IAS="00000")
    write(2, "/flight", IAS=101.0)
    path = writer.finish()
    plugin = bench.make(str(path))
    reading = bench.db.read("IAS")
    assert (reading.value, reading.source, reading.flags) == (100.5, "replay/adc", 0)
    assert bench.flags("ALT") == "01000"
    bench.wind(plugin, 1.1)
    reading = bench.db.read("IAS")
    assert (reading.value, reading.reason(BAD)) == (90.0, "the pitot tube is iced")
    assert bench.db.read("ALT").source == "replay/sim/demo"
    bench.wind(plugin, 1.0)
    assert bench.db.read("IAS").good
    plugin.command("seek 1.5")
    plugin.step()
    assert bench.db.read("IAS").reason(BAD) == "the pitot tube is iced"
    assert plugin.get_status()["end"] == "2026-05-16T14:00:02Z"


def test_a_flight_may_be_named_as_in_the_list(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "directories", lambda: [tmp_path])
    shutil.copy(DATA / "flight.mcap", tmp_path / "20260516-140500-1.mcap")
    plugin = bench.make("20260516-140500-1")
    bench.wind(plugin, 1.0)
    assert plugin.get_status()["file"] == str(tmp_path / "20260516-140500-1.mcap")
    assert bench.db.read("IAS").good


def test_a_flight_that_a_cut_ended_plays_to_the_cut(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "flight.mcap.part"
    path.write_bytes((DATA / "flight.mcap").read_bytes()[:20_000])
    plugin = bench.make(str(path))
    bench.wind(plugin, 20.0)
    assert plugin.health() == "the recording has ended"
    assert plugin.counts["values"] > 10
