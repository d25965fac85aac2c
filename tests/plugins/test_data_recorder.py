"""data_recorder: the incumbent's files, without what is wrong with its recorder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fixgw import configuration
from fixgw.database import BAD, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins import data_recorder
from fixgw.recording import Change
from fixgw.recording.incumbent import Incumbent
from fixgw.world import World

BERLIN = ZoneInfo("Europe/Berlin")


class Bench:
    """A recorder on a clock in the test's hand, and its wall clock."""

    def __init__(self, db: Database, clock: Clock, folder: Path) -> None:
        self.db, self.clock, self.folder = db, clock, folder
        self.utc = datetime(2026, 2, 8, 18, 3, 11, 123456, UTC)
        self._recorders: list[data_recorder.Plugin] = []

    def make(self, **options: Any) -> data_recorder.Plugin:
        with World(self.db).hosting():
            plugin = data_recorder.Plugin("fdr", {"filepath": str(self.folder), **options})
        plugin.wall = lambda: self.utc.astimezone(BERLIN)
        plugin.begin()
        self._recorders.append(plugin)
        return plugin

    def wind(self, plugin: data_recorder.Plugin, seconds: float, step: float = 0.5) -> None:
        """Let time pass, with a step of the recorder every half second."""
        for _ in range(round(seconds / step)):
            self.pass_time(step)
            plugin.step()

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.utc += timedelta(seconds=seconds)

    def lines(self, name: str = "2026/02/08/2026-02-08.19.json") -> list[Any]:
        return [json.loads(text) for text in (self.folder / name).read_text().splitlines()]

    def changes(self, name: str = "2026/02/08/2026-02-08.19.json") -> list[Change]:
        return list(Incumbent(self.folder / name, BERLIN).changes())

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*.json"))

    def close(self) -> None:
        for plugin in self._recorders:
            plugin.finish()


@pytest.fixture
def bench(clock: Clock, tmp_path: Path) -> Iterator[Bench]:
    definitions = [
        Definition(key="IAS", max=500.0, tolerance=2000),
        Definition(key="CHT11", max=500.0),
        Definition(key="CHTMAX1", max=500.0),
        Definition(key="ACID", type="str"),
        Definition(key="GEAR", type="bool"),
    ]
    bench = Bench(Database(definitions, clock), clock, tmp_path / "fdr")
    yield bench
    bench.close()


def test_the_layout(bench: Bench) -> None:
    bench.db.write("ACID", "D-Ä", "x")
    plugin = bench.make(key_prefixes="all", frequency=500)
    plugin.step()
    bench.db.write("IAS", 100.0, "eis", BAD)
    bench.db.write("IAS", 101.5, "eis", BAD)
    bench.wind(plugin, 1.0)
    bench.db.write("GEAR", True, "x")
    bench.wind(plugin, 0.5)
    text = (bench.folder / "2026/02/08/2026-02-08.19.json").read_text()
    assert text.splitlines() == [
        '{"frequency":"500","starttime":"2026-02-08T19:03:11.123456"}',
        '{"IAS":[0.0,0,1,0,0,0],"CHT11":[0.0,0,1,0,0,0],"CHTMAX1":[0.0,0,1,0,0,0],"ACID":["D-\\u00c4",0,0,0,0,0],'
        '"GEAR":[false,0,1,0,0,0]}',
        '{"IAS":[101.5,0,0,1,0,0]}',
        "{}",
        '{"GEAR":[true,0,0,0,0,0]}',
    ]
    assert text.endswith("\n")
    last = bench.changes()[-1]
    assert last.key == "GEAR"
    assert last.time == pytest.approx(bench.utc.timestamp())


def test_an_item_that_becomes_old_is_recorded(bench: Bench) -> None:
    plugin = bench.make()
    bench.db.write("IAS", 101.5, "eis")
    plugin.step()
    bench.pass_time(2.5)
    bench.db.age()
    plugin.step()
    assert bench.lines()[-1] == {"IAS": [101.5, 0, 1, 0, 0, 0]}


@pytest.mark.parametrize(
    ("prefixes", "keys"),
    [
        ({}, ["IAS", "CHT11", "CHTMAX1", "ACID", "GEAR"]),
        ({"key_prefixes": "all"}, ["IAS", "CHT11", "CHTMAX1", "ACID", "GEAR"]),
        ({"key_prefixes": ["CHT"]}, ["CHT11", "CHTMAX1"]),
        ({"key_prefixes": ("G", "IAS")}, ["IAS", "GEAR"]),
        ({"key_prefixes": "CHTM"}, ["CHTMAX1"]),
    ],
)
def test_the_keys_by_their_beginnings(bench: Bench, prefixes: Any, keys: list[str]) -> None:
    bench.make(**prefixes).step()
    assert list(bench.lines()[1]) == keys


def test_one_write_for_each_line_of_a_file_that_stays_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    syncs: list[float] = []
    plugin = bench.make(sync=5)
    plugin.step()
    opened: list[Any] = []
    real = os.write
    calls = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})

    def write(number: int, data: bytes) -> int:
        writes.append(data)
        return real(number, data)

    calls.write = write
    calls.fsync = lambda n: syncs.append(bench.clock.now)
    calls.open = lambda *a: opened.append(a)
    monkeypatch.setattr(data_recorder, "os", calls)
    bench.wind(plugin, 20.0)
    assert len(writes) == 40
    assert all(data.endswith(b"\n") for data in writes)
    assert [round(at - bench.clock.now + 20, 1) for at in syncs] == [5.0, 10.0, 15.0, 20.0]
    assert opened == []


def test_the_pace_does_not_drift(bench: Bench) -> None:
    plugin = bench.make()
    plugin.step()
    begin = bench.utc
    bench.wind(plugin, 60.0, 0.13)  # steps come late, by up to 0.13 s
    lines = bench.lines()
    assert len(lines) - 2 == int((bench.utc - begin).total_seconds() / 0.5)


def test_a_held_up_process_keeps_the_time_of_its_lines(bench: Bench) -> None:
    plugin = bench.make()
    plugin.step()
    bench.pass_time(3.2)
    bench.db.write("GEAR", True, "x")
    plugin.step()
    assert bench.lines()[2:] == [{}] * 5 + [{"GEAR": [True, 0, 0, 0, 0, 0]}]
    bench.pass_time(100.0)
    plugin.step()
    starts = [line for line in bench.lines() if "starttime" in line]
    assert [line["starttime"] for line in starts] == ["2026-02-08T19:03:11.123456", "2026-02-08T19:04:54.323456"]


def test_each_hour_has_its_file(bench: Bench) -> None:
    bench.utc = datetime(2026, 12, 31, 22, 59, 58, tzinfo=UTC)
    plugin = bench.make()
    plugin.step()
    bench.wind(plugin, 4.0)
    assert bench.files() == ["2026-12-31.23.json", "2027-01-01.00.json"]
    first, second = (bench.lines(f"{n.replace('-', '/')[:10]}/{n}") for n in bench.files())
    assert len(first) == 1 + 4
    assert second[0] == {"frequency": "500", "starttime": "2027-01-01T00:00:00.000000"}
    assert list(second[1]) == list(bench.db)
    assert plugin.counts["starts"] == 2


def test_the_hour_that_comes_twice_is_read_twice(bench: Bench) -> None:
    bench.utc = datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC)
    plugin = bench.make()
    plugin.step()
    bench.wind(plugin, 2.0)
    assert bench.files() == ["2026-10-25.02.json"]
    changes = bench.changes("2026/10/25/2026-10-25.02.json")
    times = [datetime.fromtimestamp(t, UTC) for t in sorted({c.time for c in changes if c.key == "ACID"})]
    assert [t.strftime("%H:%M:%S") for t in times] == ["00:59:59", "01:00:00"]


def test_a_step_of_the_clock_begins_anew(bench: Bench) -> None:
    plugin = bench.make()
    plugin.step()
    bench.utc += timedelta(seconds=1.5)  # the time service corrects such a difference slowly
    bench.wind(plugin, 1.0)
    assert plugin.counts["starts"] == 1
    bench.utc += timedelta(minutes=10)
    bench.wind(plugin, 1.0)
    starts = [line["starttime"] for line in bench.lines() if "starttime" in line]
    assert starts == ["2026-02-08T19:03:11.123456", "2026-02-08T19:13:14.123456"]
    bench.utc -= timedelta(hours=5)
    bench.wind(plugin, 1.0)
    assert bench.files() == ["2026-02-08.14.json", "2026-02-08.19.json"]


def test_a_clock_that_has_not_been_set_is_no_secret(bench: Bench) -> None:
    right = bench.utc
    bench.utc = datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC)
    plugin = bench.make()
    plugin.step()
    assert plugin.health() == "the clock has not been set"
    assert bench.files() == ["1970-01-01.01.json"]
    bench.utc = right
    bench.wind(plugin, 0.5)
    assert "2026-02-08.19.json" in bench.files()


def test_a_year_that_can_be_is_well(bench: Bench) -> None:
    bench.utc = datetime(2026, 5, 1, tzinfo=UTC)
    plugin = bench.make()
    plugin.step()
    assert plugin.health() == ""


def test_a_line_that_the_power_cut_is_ended(bench: Bench) -> None:
    path = bench.folder / "2026/02/08/2026-02-08.19.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"frequency":"500","starttime":"2026-02-08T19:00:00.0"}\n{"IAS":[1,0,0,0,0,0]}\n{"IA')
    bench.make().step()
    assert path.read_bytes().count(b"\n") == 5
    assert Incumbent(path, BERLIN).about.lost == 1


class Disk:
    """Stands for `os` in the recorder; its disk fails as `error` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error = 0
        self.short = False
        self.free = 10**9
        monkeypatch.setattr(data_recorder, "os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _fail(self) -> None:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))

    def open(self, path: Any, *rest: Any) -> int:
        self._fail()
        return os.open(path, *rest)

    def write(self, number: int, data: bytes) -> int:
        self._fail()
        return os.write(number, data[:10] if self.short else data)

    def fsync(self, number: int) -> None:
        self._fail()

    def fstatvfs(self, number: int) -> Any:
        return SimpleNamespace(f_bavail=self.free, f_frsize=1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ENODEV])
def test_a_disk_in_trouble_costs_only_the_recording(bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    disk = Disk(monkeypatch)
    plugin = bench.make()
    plugin.step()
    disk.error = code
    bench.wind(plugin, 30.0)
    assert plugin.health().startswith("nothing is recorded: ")
    assert os.strerror(code) in plugin.health()
    assert str(bench.folder) in plugin.health()
    assert 3 < plugin.counts["failed writes"] < 10
    disk.error = 0
    bench.db.write("GEAR", True, "x")
    bench.wind(plugin, 10.5)
    assert plugin.health() == ""
    assert plugin.counts["starts"] == 2
    assert bench.changes()[-1].time <= bench.utc.timestamp() + 1e-3
    assert Incumbent(bench.folder / "2026/02/08/2026-02-08.19.json", BERLIN).about.lost == 0


def test_a_line_that_does_not_fit_is_taken_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    plugin = bench.make()
    plugin.step()
    disk.short = True
    bench.db.write("IAS", 100.0, "eis")
    bench.wind(plugin, 0.5)
    assert os.strerror(errno.ENOSPC) in plugin.health()
    assert len(bench.lines()) == 2


def test_some_space_stays_free_for_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    plugin = bench.make()
    plugin.step()
    disk.free = 9_000_000
    bench.wind(plugin, 20.0)
    assert "less than 10 MB are free" in plugin.health()
    assert len(bench.lines()) <= 2 + 10
    disk.free = 10**9
    bench.wind(plugin, 20.0)
    assert plugin.health() == ""


def test_a_file_that_vanishes_is_made_anew(bench: Bench) -> None:
    plugin = bench.make()
    plugin.step()
    shutil.rmtree(bench.folder)
    bench.wind(plugin, 5.5)
    assert "No such file" in plugin.health()
    bench.wind(plugin, 5.0)
    assert plugin.health() == ""
    assert plugin.counts["starts"] == 2
    assert bench.lines()


def test_something_else_is_in_the_way(bench: Bench) -> None:
    bench.folder.write_text("a file")
    plugin = bench.make()
    plugin.step()
    assert "nothing is recorded" in plugin.health()


def test_two_gateways_do_not_mix_their_lines(bench: Bench) -> None:
    first, second = bench.make(), bench.make()
    first.step()
    second.step()
    assert "another process records into it" in second.health()
    first.finish()
    bench.wind(second, 2.0)
    assert second.health() == ""


def test_a_disk_that_does_not_answer_is_no_hung_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    inside, answers = threading.Event(), threading.Event()

    def fsync(number: int) -> None:
        inside.set()
        assert answers.wait(10)

    plugin = bench.make()
    disk.fsync = fsync  # type: ignore[method-assign]
    plugin.running = True
    thread = threading.Thread(target=plugin.step)
    thread.start()
    assert inside.wait(10)
    bench.pass_time(12.0)
    assert plugin.health() == "the disk has not answered for 12 s"
    assert plugin.alive is None, "or the watchdog would restart the gateway"
    for n in range(1000):
        bench.db.write("IAS", float(n % 100), "x")  # does not wait
    answers.set()
    thread.join()
    assert plugin.health() == ""


def test_the_last_line_is_on_the_disk_at_the_end(bench: Bench) -> None:
    plugin = bench.make(frequency=3_600_000)
    plugin.clock = bench.clock
    plugin.start()
    try:
        for _ in range(500):
            if plugin.counts["lines"]:
                break
            threading.Event().wait(0.01)
        bench.db.write("GEAR", True, "x")
    finally:
        plugin.shutdown()
    assert bench.lines()[-1] == {"GEAR": [True, 0, 0, 0, 0, 0]}


# -- the configuration -------------------------------------------------------------------------------------------------


@pytest.fixture
def advice(tmp_path: Path) -> Callable[[str], list[str]]:
    def advice(section: str) -> list[str]:
        path = tmp_path / "default.yaml"
        path.write_text("connections:\n  fdr:\n    module: fixgw.plugins.data_recorder\n" + section)
        return [f"{a.line}:{a.column} {a.message}" for a in configuration.load(path).advice]

    return advice


@pytest.mark.slow
def test_a_prefix_without_keys_gives_advice(advice: Callable[[str], list[str]]) -> None:
    path = '    filepath: "{CONFIG}/../fdr"\n'
    assert advice(path + "    key_prefixes: all\n    frequency: 500\n") == []
    assert advice(path) == []
    (said,) = advice(path + "    key_prefixes: [CHT, XYZ]\n")
    assert said.startswith("5:25 key_prefixes[1]: no key begins with XYZ")
    assert "nothing is recorded" in advice(path + "    key_prefixes: []\n")[0]
