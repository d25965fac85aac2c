"""Settings that survive a restart: saving, restoring, and faults of the disk."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import state
from fixgw.database import BAD, INITIAL, KEPT, OLD, Database, Definition
from fixgw.settings import Settings, path_for

pytestmark = pytest.mark.slow

DEFINITIONS = [
    Definition(key="BARO", min=20, max=35, setting=True, keep=True),
    Definition(key="DIM", type="int", min=0, max=100, setting=True, keep=True),
    Definition(key="NAME", type="str", setting=True, keep=True),
    Definition(key="COURSE", min=0, max=360, setting=True, keep=True, tolerance=2000),
    Definition(key="BUG", min=0, max=360, setting=True, keep=True, sources=("gpio", "netfix")),
    Definition(key="BTN1", type="bool", setting=True),
]


class Aircraft:
    """Successive gateways, each with its own database, with one state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "settings.json"
        self._settings: list[Settings] = []

    def start(self, definitions: list[Definition] = DEFINITIONS, initial: float = 29.92) -> Database:
        db = Database(definitions)
        db.write("BARO", initial, INITIAL)
        self._settings.append(Settings(db, self.path))
        self.now.open()
        return db

    @property
    def now(self) -> Settings:
        return self._settings[-1]

    def until_saved(self, times: int = 1) -> None:
        until(lambda: self.now.status()["saved"] >= times)

    def stop(self) -> None:
        for settings in self._settings:
            settings.close()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def aircraft(tmp_path: Path) -> Iterator[Aircraft]:
    aircraft = Aircraft(tmp_path)
    yield aircraft
    aircraft.stop()


def test_a_setting_survives_without_a_clean_stop(aircraft: Aircraft) -> None:
    db = aircraft.start()
    assert (db.read("BARO").value, db.read("BARO").source) == (29.92, INITIAL)
    db.write("BARO", 30.12, "gpio")
    aircraft.until_saved()
    again = aircraft.start()  # the first one was never closed
    assert (again.read("BARO").value, again.read("BARO").source, again.read("BARO").flags) == (30.12, KEPT, 0)
    assert aircraft.now.status()["restored"] == 1


def test_a_setting_survives_many_restarts(aircraft: Aircraft) -> None:
    aircraft.start().write("BARO", 30.12, "gpio")
    aircraft.until_saved()
    for n in range(3):
        db = aircraft.start()
        assert db.read("BARO").value == 30.12
        db.write("DIM", n, "gpio")
        aircraft.until_saved()
    kept = json.loads(state.load(aircraft.path) or b"")["settings"]
    assert kept["BARO"] == {"value": 30.12, "source": "gpio"}


def test_each_type_is_restored(aircraft: Aircraft) -> None:
    db = aircraft.start()
    for key, value in (("BARO", 30), ("DIM", 40), ("NAME", 'Zoë "x"'), ("BTN1", True)):
        db.write(key, value, "gpio")
    aircraft.stop()
    again = aircraft.start()
    assert [(type(v), v) for v in (again.read(k).value for k in ("BARO", "DIM", "NAME"))] == [
        (float, 30.0),
        (int, 40),
        (str, 'Zoë "x"'),
    ]
    assert again.read("BTN1").source == "", "not everything is kept"


def test_items_that_age_are_restored_as_old(aircraft: Aircraft) -> None:
    aircraft.start().write("COURSE", 270.0, "canfix/193")
    aircraft.stop()
    reading = aircraft.start().read("COURSE")
    assert (reading.value, reading.flags, reading.source) == (270.0, OLD, KEPT)


def test_a_ranked_item_starts_with_the_kept_value_until_a_source_writes(aircraft: Aircraft) -> None:
    aircraft.start().write("BUG", 90.0, "gpio")
    aircraft.stop()
    db = aircraft.start()
    assert (db.read("BUG").value, db.read("BUG").old) == (90.0, True)
    db.write("BUG", 180.0, "netfix")
    assert (db.read("BUG").value, db.read("BUG").source) == (180.0, "netfix")


def test_start_values_and_doubtful_or_simulated_values_are_not_kept(aircraft: Aircraft) -> None:
    db = aircraft.start()
    db.write("BARO", 30.12, "gpio")
    aircraft.until_saved()
    for source in ("sim/can/50", "replay/can", "override/BARO", INITIAL, KEPT):
        db.write("BARO", 25.0, source)
    db.write("BARO", 26.0, "canfix/50", BAD, "the node says so")
    db.write("BARO", 30.12, "gpio", 0)
    aircraft.stop()
    assert aircraft.now.status()["saved"] == 1
    assert aircraft.start().read("BARO").value == 30.12


def test_a_new_start_value_applies_until_someone_sets_the_item(aircraft: Aircraft) -> None:
    aircraft.start().write("DIM", 1, "gpio")
    aircraft.stop()
    assert aircraft.start(initial=30.0).read("BARO").value == 30.0


def test_an_unchanged_value_is_not_saved_again(aircraft: Aircraft) -> None:
    db = aircraft.start()
    for _ in range(1000):
        db.write("BARO", 30.12, "canfix/50")
    aircraft.stop()
    assert aircraft.now.status()["saved"] == 1


def test_a_knob_does_not_wear_out_the_card(aircraft: Aircraft) -> None:
    db = aircraft.start()
    for n in range(5000):
        db.write("BARO", 20 + n / 1000, "gpio")
    aircraft.stop()
    assert aircraft.now.status()["saved"] <= 10
    assert aircraft.start().read("BARO").value == 24.999


def test_two_concurrent_writers_leave_the_value_of_the_database(aircraft: Aircraft) -> None:
    db = aircraft.start()

    def turn(source: str, low: float) -> None:
        for n in range(1000):
            db.write("BARO", low + n / 1000, source)
            db.write("DIM", n % 100, source)

    threads = [threading.Thread(target=turn, args=(f"gpio{n}", 20.0 + n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aircraft.stop()
    again = aircraft.start()
    assert (again.read("BARO").value, again.read("DIM").value) == (db.read("BARO").value, db.read("DIM").value)


def test_a_hung_disk_delays_no_one(aircraft: Aircraft, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    save = state.save
    monkeypatch.setattr(state, "save", lambda path, data: (answer.wait(20), save(path, data)))
    db = aircraft.start()
    heard: list[object] = []
    db.subscribe("BARO", lambda key, reading: heard.append(reading.value))
    for n in range(100):
        db.write("BARO", 30 + n / 100, "gpio")
    assert len(heard) == 100
    assert aircraft.now.status()["saved"] == 0
    aircraft.now.close()
    assert aircraft.now.trouble == "the disk does not answer"
    answer.set()
    aircraft.until_saved()


def test_no_setting_is_lost_while_another_subscriber_hangs(aircraft: Aircraft) -> None:
    db = aircraft.start()
    answer, reached = threading.Event(), threading.Event()

    def hang(key: str, reading: object) -> None:
        reached.set()
        answer.wait(20)

    db.subscribe("BARO", hang)
    writer = threading.Thread(target=db.write, args=("BARO", 30.12, "gpio"))
    writer.start()
    assert reached.wait(10)
    aircraft.until_saved()  # notified before later subscribers
    db.write("BARO", 30.50, "gpio")  # its notifications must wait for the hung one
    aircraft.stop()
    assert aircraft.start().read("BARO").value == 30.50
    answer.set()
    writer.join()


def test_a_full_disk_is_counted_and_logged_once(
    aircraft: Aircraft, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    db = aircraft.start()
    db.write("BARO", 30.12, "gpio")
    aircraft.until_saved()
    monkeypatch.setattr(state, "RETRY_S", 0.01)
    monkeypatch.setattr(state, "save", full)
    caplog.clear()
    db.write("BARO", 30.50, "gpio")
    until(lambda: aircraft.now.status()["saving failed"] >= 3)
    assert aircraft.now.trouble == "state is not saved: No space left on device"
    assert len(caplog.records) == 1
    assert db.read("BARO").value == 30.50
    assert aircraft.start().read("BARO").value == 30.12, "the previously saved value is still there"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\0" * 300, b'{"settings": {"BARO": {"value": 30.12, "source": "gpio"}}}',
        b'{"settings": {"BARO": {"value": 30.12, "source": "gpio"}}}\n# crc32 00000000\n',
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_one_line(
    aircraft: Aircraft, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    aircraft.path.write_bytes(content)
    assert aircraft.start().read("BARO").source == INITIAL
    assert len(caplog.records) == 1
    assert f"{aircraft.path} is unusable, starting without it" in caplog.text


def test_after_a_damaged_file_the_previous_one_is_used_with_a_warning(
    aircraft: Aircraft, caplog: pytest.LogCaptureFixture
) -> None:
    db = aircraft.start()
    for times, value in ((1, 30.12), (2, 30.50)):
        db.write("BARO", value, "gpio")
        aircraft.until_saved(times)
    aircraft.path.write_bytes(aircraft.path.read_bytes()[:-30])
    assert aircraft.start().read("BARO").value == 30.12
    assert [r.message for r in caplog.records] == [f"{aircraft.path} is damaged: using the previous state"]


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{}", b"nonsense", b'{"settings": []}', b'{"settings": ' + b"[" * 5000, b"\xff", b"12", b"null"],
)
def test_an_intact_file_without_meaning_is_refused_with_one_line(
    aircraft: Aircraft, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    state.save(aircraft.path, content)
    assert aircraft.start().read("BARO").source == INITIAL
    assert len(caplog.records) == 1


def test_one_unusable_setting_does_not_affect_the_others(aircraft: Aircraft, caplog: pytest.LogCaptureFixture) -> None:
    kept = {
        "BARO": {"value": 99.0, "source": "gpio"},  # the definition had another range at that time
        "DIM": {"value": "bright", "source": "gpio"},
        "COURSE": {"value": float("nan"), "source": "gpio"},
        "BUG": [1],
        "GONE": {"value": 1.0, "source": "gpio"},
        "BTN1": {"value": True, "source": "gpio"},  # is no longer kept
        "NAME": {"value": "N1", "source": "gpio"},
    }
    state.save(aircraft.path, json.dumps({"settings": kept}).encode())
    db = aircraft.start()
    assert {key: db.read(key).source for key in db} == {
        "BARO": INITIAL, "DIM": "", "NAME": KEPT, "COURSE": "", "BUG": "", "BTN1": "",
    }  # fmt: skip
    assert len(caplog.records) == 4


@pytest.mark.parametrize(
    ("key", "value", "usable"),
    [
        *(("BARO", 20.0, True), ("BARO", 35.0, True), ("BARO", 19.9, False), ("BARO", 35.1, False)),
        *(("DIM", 0, True), ("DIM", 100, True), ("DIM", -1, False), ("DIM", 101, False)),
    ],
)
def test_a_value_at_the_end_of_its_range_is_restored(
    aircraft: Aircraft, key: str, value: float, usable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    state.save(aircraft.path, json.dumps({"settings": {key: {"value": value, "source": "gpio"}}}).encode())
    db = aircraft.start()
    assert (db.read(key).source == KEPT) is usable
    assert caplog.messages == (
        [] if usable else [f"{key}: its saved value is not usable: {key}: {value} is outside its range"]
    )


def test_what_it_says_of_itself(aircraft: Aircraft, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    db = aircraft.start()
    assert not caplog.records
    db.write("BARO", 30.12, "gpio")
    db.write("DIM", 5, "gpio")
    aircraft.stop()
    assert aircraft.path.read_text().startswith('{\n "settings": {\n  "BARO": {\n'), "people can read it"
    again = aircraft.start()
    assert caplog.messages == ["restored 2 settings from before the restart"]
    again.write("BARO", 30.12, "netfix")
    aircraft.stop()
    again.write("BARO", 31.0, "netfix")
    file = str(aircraft.path)
    assert aircraft.now.status() == {"kept": 5, "restored": 2, "saved": 0, "saving failed": 0, "file": file}
    kept = json.loads(state.load(aircraft.path) or b"")["settings"]
    assert kept["BARO"] == {"value": 30.12, "source": "gpio"}, "what is the same is not saved, nor what comes too late"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"settings": []}', "its settings are not a mapping"),
        (b"{}", "KeyError: 'settings'"),
        (b"12", "TypeError: 'int' object is not subscriptable"),
    ],
)
def test_why_a_file_is_unusable(aircraft: Aircraft, content: bytes, why: str, caplog: pytest.LogCaptureFixture) -> None:
    state.save(aircraft.path, content)
    aircraft.start()
    assert caplog.messages == [f"{aircraft.path} is unusable, starting without it: {why}"]


def test_without_settings_to_keep_there_is_no_file_and_no_thread(aircraft: Aircraft) -> None:
    db = aircraft.start([Definition(key="BARO")])
    before = threading.active_count()
    db.write("BARO", 30.0, "gpio")
    aircraft.stop()
    assert threading.active_count() == before
    assert not aircraft.path.exists()


def test_two_configurations_do_not_share_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    one = path_for(Path("/etc/fixgw/default.yaml"))
    assert one == path_for(Path("/etc/fixgw/default.yaml"))
    assert one != path_for(Path("/home/pilot/default.yaml"))
    assert one.parent == tmp_path
    assert one.name.startswith("settings-default-")


@pytest.fixture(autouse=True)
def _warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
