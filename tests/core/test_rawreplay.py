"""A replay of raw data gives what the drivers gave, always the same, and touches nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from fixgw import configuration, rawreplay, state
from fixgw.configuration import Configuration
from fixgw.database import FAIL, Database, Definition
from fixgw.hw_sim.devices.bmp import Bmp280
from fixgw.hw_sim.pty import VirtualPort
from fixgw.identity import identity
from fixgw.kit.raw import Event, Heard, PinLevel
from fixgw.rawreplay import Outcome, load, replay
from fixgw.recording import RecordingError, golden
from fixgw.recording.capture import (
    Capture,
    CaptureWriter,
    Entry,
    Outside,
    open_capture,
    unpack_configuration,
    write_capture,
)
from fixgw.recording.golden import Line
from fixgw.recording.raw import CanFrame
from tests.golden import make

BMP = {"address": 0x77, "rate": 10.0}


@contextmanager
def recorded(name: str) -> Iterator[Capture]:
    with closing(open_capture(make.HERE / f"{name}.mcap")) as capture:
        yield capture


class Made:
    """A capture in memory."""

    path = Path("made")
    offset: float | None = None
    configuration: dict[str, bytes] = {}

    def __init__(self, entries: Sequence[Entry], state: list[Outside] | None = None, end: float = 0.0) -> None:
        self._entries = entries
        self.links = {entry.connection for entry in entries if isinstance(entry, Heard)}
        self.start, self.end = make.START_S, end
        self.state = state or []

    def entries(self) -> Iterator[Entry]:
        return iter(self._entries)


def configured(directory: Path, text: str) -> Configuration:
    path = directory / "default.yaml"
    path.write_text(textwrap.dedent(text))
    return configuration.load(path)


def outcome(configured: Configuration, capture: Any, sent: bool = False) -> tuple[list[Line], Outcome]:
    lines: list[Line] = []
    return lines, replay(configured, capture, lines.append, sent)


def said(*texts: str, connection: str = "sensor", every: float = 0.5) -> list[Entry]:
    """What the sensor of `LINES` sends."""
    opened = Heard(connection, make.START_S, "in", Event("serial", "opened", "9600"))
    return [
        opened,
        *(Heard(connection, make.START_S + every * n, "in", text.encode()) for n, text in enumerate(texts, 1)),
    ]


LINES = """\
connections:
  sensor:
    module: fixgw.drivers.lines
    port: /dev/ttyUSB7
    lines: [{fields: {OILT1: {from: 1}}}]
"""


# -- as the drivers did it ---------------------------------------------------------------------------------------------


def test_a_replay_gives_what_a_live_chip_gave(tmp_path: Path) -> None:
    """Its driver, on a clock that the test winds, with a recorder on the raw tap; the chip goes away and comes back."""
    changes: list[tuple[float, str, Any, str]] = []

    def note(db: Database) -> None:
        last: dict[str, Any] = {}

        def changed(key: str, reading: Any) -> None:
            facts = reading.value, reading.flag_text
            if key != "BARO" and last.get(key) != facts:
                last[key] = facts
                changes.append((round(db.clock() - make.START_S, 6), key, *facts))

        db.subscribe("*", changed)

    entries = make.run_chip("i2c_bmp", Bmp280, BMP, note)
    configuration = configured(
        tmp_path, "connections: {i2c_bmp: {module: fixgw.drivers.i2c_bmp, address: 0x77, rate: 10.0}}"
    )
    setting = Outside(make.START_S, "BARO", 29.92, 0, "test")
    lines, done = outcome(configuration, Made(entries, [setting]))
    assert not done.failed
    assert [(each.time, each.key, float(each.value), each.flags) for each in lines] == sorted(
        changes, key=lambda change: change[:2]
    )
    assert len(lines) > 50
    assert {each.flags for each in lines} >= {"00000", "00010"}


def test_a_capture_that_began_after_the_links_were_opened(tmp_path: Path) -> None:
    """What was exchanged when they were opened comes first, in its order, from whichever link it is."""
    with recorded("i2c_bmp") as capture:
        whole = [entry for entry in capture.entries() if isinstance(entry, Heard)]
        expected = outcome(load(None, capture, tmp_path), capture)[0]
    opened = next(n for n, e in enumerate(whole) if isinstance(e.data, Event) and e.data.what == "opened") + 1
    earlier = [e._replace(stamp=e.stamp - 9.0 + n * 0.01) for n, e in enumerate(whole[:opened])]
    other = Heard("eis", make.START_S - 8.95, "in", Event("serial", "opened"))
    path = tmp_path / "late.mcap"
    write_capture(path, [other, *earlier, *whole[opened:]], {}, make.START_S)
    with closing(open_capture(path)) as late, recorded("i2c_bmp") as capture:
        assert [e.stamp for e in late.entries()] == sorted(e.stamp for e in late.entries())
        assert outcome(load(None, capture, tmp_path), late)[0] == expected


def test_time_passes_between_the_data(tmp_path: Path) -> None:
    """Items age, when they are due; the driver says itself when its device is silent."""
    lines, _ = outcome(configured(tmp_path, LINES), Made(said("\n90\n", "91\n"), end=make.START_S + 8.0))
    (tolerance,) = {d.tolerance / 1000 for d in configured(tmp_path, LINES).definitions if d.key == "OILT1"}
    assert [str(each) for each in lines] == [
        "0.500000 OILT1 90.0 00000 sensor",
        "1.000000 OILT1 91.0 00000 sensor",
        f"{1.0 + tolerance:.6f} OILT1 91.0 01000 sensor",
    ]


def test_what_others_set_is_set_again(tmp_path: Path) -> None:
    """And what the replayed connections wrote is not: they write it themselves."""
    entries = [
        *said("\n90\n"),
        Outside(make.START_S + 2.0, "BARO", 29.5, 0, "netfix/127.0.0.1:50000"),
        Outside(make.START_S + 2.0, "OILT1", 12.0, 0, "sensor"),
        Outside(make.START_S + 2.5, "IAS.Vne", 180.0, 0, ""),
    ]
    before = [Outside(make.START_S, "BARO", 30.1, 0, "kept"), Outside(make.START_S, "IAS", 99.0, 0b01000, "gone")]
    lines, _ = outcome(configured(tmp_path, LINES), Made(entries, before))
    assert [str(each) for each in lines] == [
        "0.500000 OILT1 90.0 00000 sensor",
        "2.000000 BARO 29.5 00000 netfix/127.0.0.1:50000",
        "2.500000 IAS.Vne 180.0 - -",
        "2.500000 OILT1 90.0 01000 sensor",
    ]


def test_what_others_set_ages_when_the_recording_says_so(tmp_path: Path) -> None:
    """It has only changes, but whoever set a value has written it again and again."""
    at = make.START_S
    entries = [
        *said("\n90\n"),
        Outside(at + 1.0, "IAS", 100.0, 0, "sim/aircraft"),
        Outside(at + 9.0, "IAS", 100.0, 0b01000, "sim/aircraft"),
        Outside(at + 9.0, "TAS", 110.0, 0b01000, "kept"),
    ]
    before = [Outside(at, "ALT", 3000.0, 0, "sim/aircraft"), Outside(at, "TAS", 110.0, 0, "kept")]
    lines, _ = outcome(configured(tmp_path, LINES), Made(entries, before, end=at + 20.0))
    assert [str(each) for each in lines if each.key == "ALT"] == []
    good, old = (each for each in lines if each.key == "IAS")
    assert str(good) == "1.000000 IAS 100.0 00000 sim/aircraft"
    assert old.flags == "01000"
    assert 9.0 < old.time < 12.0
    (old,) = (each for each in lines if each.key == "TAS")
    assert (old.value, old.flags, old.source) == ("110.0", "01000", "kept")


def test_a_capture_that_is_written_bit_by_bit_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "bits.mcap"
    writer = CaptureWriter(path, {}, 1000.0)
    entries = [Heard("gps", 1000.0 + n / 10, "in", b"x") for n in range(100)]
    for entry in entries:
        writer.write([entry])
    writer.close()
    with closing(open_capture(path)) as capture:
        assert list(capture.entries()) == entries
        assert capture.end == pytest.approx(entries[-1].stamp, abs=0.2)


def test_bytes_that_were_discarded_are_discarded_again(tmp_path: Path) -> None:
    entries = said("\n90\n", "91\n9", "9\n", "92\n")
    entries[2] = entries[2]._replace(direction="discarded")  # type: ignore[call-arg]
    lines, _ = outcome(configured(tmp_path, LINES), Made(entries))
    values = [each.value for each in lines]
    assert values[0] == "90.0"
    assert "91.0" not in values
    assert "99.0" not in values, "a line is not put together from before and after the hold-up"


def test_computed_values_and_alerts_follow(tmp_path: Path) -> None:
    function = "{function: max, inputs: [OILT1, CAT], output: H2OT1}"
    text = LINES + f"  compute: {{module: fixgw.plugins.compute, functions: [{function}]}}\n"
    found = configuration.check(_written(tmp_path, text))
    assert not found, found
    capture = Made(said("\n90\n", "95\n"), [Outside(make.START_S, "CAT", 80.0, 0, "someone")])
    lines, done = outcome(configuration.load(tmp_path / "default.yaml"), capture)
    assert done.replayed == ["sensor", "compute"]
    assert [each.value for each in lines if each.key == "H2OT1"][-1] == "95.0"


def _written(directory: Path, text: str) -> Path:
    path = directory / "default.yaml"
    path.write_text(textwrap.dedent(text))
    return path


# -- always the same ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "times"), [(("eis", "gpio", "i2c_bmp"), 100), (("canfix",), 10)])
def test_all_replays_are_the_same(tmp_path: Path, names: tuple[str, ...], times: int) -> None:
    """Of an engine monitor, pins and a chip together, and of a bus."""
    connections: dict[str, dict[str, Any]] = {}
    entries: list[Heard] = []
    for name in names:
        with recorded(name) as capture:
            connections |= yaml.safe_load(capture.configuration["default.yaml"])["connections"]
            entries += [e for e in capture.entries() if isinstance(e, Heard) and e.stamp < make.START_S + 0.4]
    entries.sort(key=lambda heard: heard.stamp)
    whole = configured(tmp_path, yaml.safe_dump({"connections": connections}))
    keys = {each.key for each in outcome(whole, Made(entries))[0]} | {"BARO", "DIM", "OILP1", "BTN33", "ENC3", "FUELF1"}
    few = tuple(definition for definition in whole.definitions if definition.key in keys)  # it is faster
    configuration = replace(whole, definitions=few, initial=())
    first, done = outcome(configuration, Made(entries), sent=True)
    assert not done.failed
    assert {each.source.partition("/")[0] for each in first} >= set(names)
    for _ in range(times - 1):
        assert outcome(configuration, Made(entries), sent=True)[0] == first


@pytest.mark.slow
def test_it_is_the_same_in_every_process() -> None:
    """The order of sets and dictionaries differs from process to process."""
    name = make.HERE / "strompi.mcap"
    command = [sys.executable, "-m", "fixgw", "replay", str(name), "--sent"]
    outcomes = [
        subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("0", "1", "12345")
    ]
    assert len({done.stdout for done in outcomes}) == 1
    assert outcomes[0].stdout.decode() == name.with_suffix(".txt").read_text()


# -- nothing else happens ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_device_is_opened_and_nothing_is_sent(tmp_path: Path) -> None:
    with VirtualPort(str(tmp_path / "port")) as port:
        text = LINES.replace("/dev/ttyUSB7", port.path) + '    ask: {text: "?", every: 0.1}\n'
        lines, _ = outcome(configured(tmp_path, text), Made(said("\n90\n")), sent=True)
        assert not port.opened
    assert [each.value for each in lines if each.key == "sensor>"] == ['"?"'] * 5


def test_nothing_is_loaded_from_the_state_directory_or_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    state.save(state.path("canfix-canfix"), b'{"node": 33}')
    before = {path: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    text = "connections: {canfix: {module: fixgw.drivers.canfix}}"
    with recorded("canfix") as capture:
        lines, done = outcome(configured(tmp_path, text), capture, True)
    assert not done.failed
    assert any(each.value.startswith('"796#') for each in lines), "node 0xB6, as configured"
    assert {path: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before


def test_a_replay_never_shuts_the_computer_down(tmp_path: Path) -> None:
    text = f"""\
        connections:
          ups_x728:
            module: fixgw.drivers.ups_x728
            shutdown: {{after: 1, command: [touch, {tmp_path}/down]}}
        """
    with recorded("ups_x728") as capture:
        lines, done = outcome(configured(tmp_path, text), capture)
    assert not done.failed
    assert any(each.key == "POWER_FAIL" and each.value == "True" for each in lines)
    assert not (tmp_path / "down").exists()


def test_a_capture_runs_no_code_of_whoever_made_it(tmp_path: Path) -> None:
    """Neither modules beside the configuration or on its plugin path nor what `logging` names."""
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    main = LINES + (
        "  evil: {module: evil_beside}\n"
        "  worse: {module: fixgw.plugins.evil_on_path}\n"
        "  odd: {module: [1, 2]}\n"
        "  missing: {module: fixgw.drivers.lines, port: /dev/ttyUSB8}\n"
        "plugin path: ['{CONFIG}/more']\n"
        "logging: {version: 1, formatters: {x: {'()': evil_beside.y}}}\n"
    )
    path = tmp_path / "evil.mcap"
    files = {"default.yaml": main.encode(), "evil_beside.py": evil.encode(), "more/evil_on_path.py": evil.encode()}
    entries = [entry for entry in said("\n90\n") if isinstance(entry, Heard)]
    write_capture(path, entries, files, make.START_S)
    before = list(sys.path)
    with closing(open_capture(path)) as capture:
        lines, done = outcome(load(None, capture, tmp_path), capture)
    assert [each.value for each in lines] == ["90.0"]
    assert done.left_out.keys() == {"evil", "worse", "odd", "missing"}
    assert done.left_out["evil"] == "its module does not belong to the gateway"
    assert "lines" in done.left_out["missing"]
    assert not (tmp_path / "ran").exists()
    assert sys.path == before
    assert not {"evil_beside", "evil_on_path"} & sys.modules.keys()


@pytest.mark.parametrize("name", ["../out.yaml", "/etc/out.yaml", ".", "a/../../out.yaml"])
def test_the_files_of_a_capture_stay_in_their_directory(tmp_path: Path, name: str) -> None:
    capture: Any = Made([])
    capture.configuration = {name: b"x"}
    (tmp_path / "here").mkdir()
    with pytest.raises(RecordingError, match="not below it"):
        unpack_configuration(capture, tmp_path / "here")
    assert [*tmp_path.iterdir()] == [tmp_path / "here"]


def test_a_driver_has_turns_while_its_device_is_there_and_until_it_has_noticed_the_loss(tmp_path: Path) -> None:
    replaying = rawreplay._Replay(configured(tmp_path, LINES), Made([]), lambda line: None, False)  # type: ignore[arg-type]
    stepper = replaying.stepper
    stepper.start()
    worker: Any = stepper.plugins["sensor"]
    feed = stepper.feed("sensor")
    turns = [replaying._may_turn(worker)]
    for trouble, connected in (("", False), ("", True), ("lost", True), ("lost", False)):
        feed.trouble, worker._connected = trouble, connected
        turns.append(replaying._may_turn(worker))
    stepper.stop()
    assert turns == [False, True, True, True, False]


class Watched:
    """A replay of one sensor that only notes its turns: what its link has for it, and the trouble of the link."""

    def __init__(self, directory: Path, sent: bool = False) -> None:
        self.lines: list[Line] = []
        self.replaying = rawreplay._Replay(configured(directory, LINES), Made([]), self.lines.append, sent)  # type: ignore[arg-type]
        self.stepper = self.replaying.stepper
        self.stepper.start()
        self.worker: Any = self.stepper.plugins["sensor"]
        self.feed = self.stepper.feed("sensor")
        self.turns: list[tuple[list[Any], str]] = []
        self.stepper.turn = self._note  # type: ignore[method-assign]

    def _note(self, name: str) -> None:
        assert name == "sensor"
        self.turns.append(([entry.data for entry in self.feed.entries], self.feed.trouble))

    def take(self, data: Any, direction: Any = "in") -> None:
        self.replaying._take(Heard("sensor", make.START_S, direction, data))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.stepper.stop()


@pytest.mark.parametrize(
    ("connected", "outage", "event", "trouble", "turns"),
    [
        (False, True, Event("serial", "opened"), "", [(["x"], "")]),
        (True, False, Event("serial", "opened"), "before", []),
        (True, False, Event("serial", "polled"), "", [(["x"], "")]),
        (True, False, Event("serial", "lost", "unplugged"), "unplugged", [([], "unplugged")]),
        (False, False, Event("serial", "lost"), "lost", [([], "lost")]),
        (False, True, Event("serial", "lost", "still"), "still", []),
        (True, False, Event("serial", "baud", "4800"), "before", []),
    ],
)
def test_what_an_event_of_a_link_does(
    watched: Watched, connected: bool, outage: bool, event: Event, trouble: str, turns: list[Any]
) -> None:
    watched.feed.trouble, watched.worker._connected, watched.worker._outage = "before", connected, outage
    watched.feed.entries.append(Heard("sensor", 0.0, "in", "x"))
    watched.take(event)
    assert watched.feed.trouble == trouble
    assert watched.turns == turns


def test_data_before_any_event_open_the_link(watched: Watched) -> None:
    assert watched.feed.trouble == rawreplay.NO_DATA
    watched.take(b"a", "out")
    assert watched.turns == []
    watched.take(b"b")
    watched.take(b"c", "discarded")
    assert watched.turns == [([], ""), ([b"b"], ""), ([b"b", b"c"], "")]
    assert watched.feed.held_up
    watched.take(b"d")
    assert not watched.feed.held_up
    watched.feed.trouble = "unplugged"
    watched.take(b"e")
    assert watched.turns[-1] == ([b"b", b"c", b"d", b"e"], "unplugged"), "an outage ends only when it is said"


def test_the_transfers_of_a_poll_come_together(watched: Watched) -> None:
    one, two, three = (1, b"a"), (2, b"b"), (3, b"c")
    watched.worker._connected = True
    watched.take(one)
    watched.take(two)
    watched.take(Event("serial", "polled"))
    assert watched.turns == [([], "")], "that was another link"
    watched.take(Event("chip", "polled"))
    watched.take(three)
    watched.take(Event("chip", "lost", "no answer"))
    watched.take(Event("chip", "polled"))
    assert watched.turns[1:] == [
        ([one, two], ""),
        ([one, two, three], ""),
        ([], "no answer"),
        ([], ""),
    ]
    watched.worker._connected, watched.worker._outage = False, True
    watched.take(one)
    watched.take(Event("chip", "lost"))
    assert len(watched.turns) == 5, "one that was not open has nothing to read"


def test_pins_have_their_levels_and_edges_call_whoever_waits_for_them(watched: Watched) -> None:
    called: list[int] = []
    watched.feed.callbacks[4] = lambda: called.append(4)
    watched.take(PinLevel(4, True, False))
    assert (watched.feed.levels, called) == ({4: True}, [])
    watched.take(PinLevel(4, False, True))
    watched.take(PinLevel(5, True, True))
    assert (watched.feed.levels, called) == ({4: False, 5: True}, [4])
    watched.take(Event("pins", "opened", "4,17,"))
    assert watched.feed.polled == {4, 17}
    watched.take(Event("serial", "opened", "9600"))
    assert watched.feed.polled == {4, 17}, "not of another link"


def test_a_replay_lasts_from_the_start_of_the_capture_to_its_end(tmp_path: Path) -> None:
    sensor = configured(tmp_path, LINES)
    assert outcome(sensor, Made(said("\n90\n", "91\n")))[1].seconds == 1.0
    assert outcome(sensor, Made(said("\n90\n"), end=make.START_S + 3.0))[1].seconds == 3.0
    assert outcome(sensor, Made(said("\n90\n"), end=make.START_S + 0.1))[1].seconds == 0.5
    early = [entry._replace(stamp=entry.stamp - 5.0) for entry in said("\n90\n") if isinstance(entry, Heard)]
    lines, done = outcome(sensor, Made(early))
    assert [each.time for each in lines] == [0.0]
    assert (done.seconds, done.changes) == (0.0, 1)


def test_the_date_of_a_replay_is_that_of_the_capture(watched: Watched) -> None:
    assert watched.replaying._utc().timestamp() == make.START_S
    watched.replaying.capture.offset = 100.0
    assert watched.replaying._utc().timestamp() == make.START_S + 100.0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xe9x", r"\u00e9x"),
        ((0x0F, b"\x01\xab"), "0F: 01AB"),
        ("text", "text"),
        (SimpleNamespace(arbitration_id=0x1A, data=b"\xab"), "01A#AB"),
    ],
)
def test_what_is_sent_is_among_the_changes_if_it_is_asked_for(tmp_path: Path, data: Any, words: str) -> None:
    for sent in (False, True):
        watched = Watched(tmp_path, sent)
        watched.replaying._note_sent("can can0", data)
        watched.replaying._flush()
        assert [(each.key, each.value) for each in watched.lines] == ([("can:can0>", f'"{words}"')] if sent else [])
        assert watched.replaying.outcome.changes == len(watched.lines)
        watched.stepper.stop()


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    text = LINES + (
        "  netfix: {module: fixgw.plugins.netfix}\n"
        "  bridge: {module: fixgw.drivers.serial_bridge, port: /dev/ttyUSB8, tcp_port: 0}\n"
        "  gps: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB9}\n"
    )
    entries = [*said("\n90\n"), Heard("radio", make.START_S + 1.0, "in", b"x")]
    _, done = outcome(configured(tmp_path, text), Made(entries))
    assert done.left_out == {
        "netfix": "fixgw.plugins.netfix is no part of a replay",
        "bridge": "fixgw.drivers.serial_bridge is no part of a replay",
    }
    assert done.silent == ["gps"]
    assert dict(done.unknown) == {"radio": 1}
    assert done.replayed == ["sensor", "gps"]


def test_a_driver_that_fails_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fixgw.drivers.lines.protocol import Decoder

    feed = Decoder.feed

    def broken(self: Decoder, data: bytes) -> Any:
        if b"boom" in data:
            raise ZeroDivisionError("boom")
        return feed(self, data)

    monkeypatch.setattr(Decoder, "feed", broken)
    text = LINES + LINES.partition("connections:\n")[2].replace("sensor", "other").replace("USB7", "USB8").replace(
        "OILT1", "CAT"
    )
    entries = [*said("\n90\n", "boom\n", "91\n"), *said("\n20\n", "21\n", "22\n", "23\n", connection="other")]
    entries.sort(key=lambda entry: entry.stamp)
    lines, done = outcome(configured(tmp_path, text), Made(entries))
    assert list(done.failed) == ["sensor"]
    assert done.failed["sensor"].startswith("ZeroDivisionError: boom at test_rawreplay.py:")
    assert [each.value for each in lines if each.key == "OILT1"] == ["90.0"]
    assert [each.value for each in lines if each.key == "CAT"] == ["20.0", "21.0", "22.0", "23.0"]


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_log_of_candump(tmp_path: Path) -> None:
    log = tmp_path / "candump.log"
    log.write_text("(1700000000.000000) can0 183#0700000000B4\nnonsense\n(1700000000.500000) can0 183#0800000000B4\n")
    capture = open_capture(log)
    assert [(heard.connection, heard.stamp, heard.data[0].data[0]) for heard in capture.entries()] == [  # type: ignore
        ("socketcan can0", 1700000000.0, 7),
        ("socketcan can0", 1700000000.5, 8),
    ]
    lines, done = outcome(configured(tmp_path, "connections: {canfix: {module: fixgw.drivers.canfix}}"), capture)
    assert not done.silent
    assert any(each.source == "canfix/8" for each in lines), lines


def test_frames_that_were_discarded_are_discarded_again(tmp_path: Path) -> None:
    def speed(knots: int) -> list[CanFrame]:
        return [CanFrame(0x183, bytes([7, 0, 0]) + (10 * knots).to_bytes(2, "little"), 0, make.START_S)]

    bus = "socketcan can0"
    entries = [
        Heard(bus, make.START_S, "in", Event("can", "opened")),
        Heard(bus, make.START_S + 0.1, "in", speed(100)),
        Heard(bus, make.START_S + 0.2, "discarded", speed(110)),
        Heard(bus, make.START_S + 0.3, "out", speed(115)),
        Heard(bus, make.START_S + 0.4, "in", speed(120)),
    ]
    lines, _ = outcome(configured(tmp_path, "connections: {canfix: {module: fixgw.drivers.canfix}}"), Made(entries))
    assert [each.value for each in lines if each.key == "IAS"] == ["100.0", "120.0"]


def test_the_lines_that_candump_shows_on_a_screen(tmp_path: Path) -> None:
    log = tmp_path / "screen.txt"
    log.write_text(
        "a comment\n"
        " (2026-11-01 12:00:00.250000)  can1  183   [5]  07 00 00 E8 03   '.....'\n"
        " (2026-11-01 12:00:00.500000)  can1  20000004   [8]  00 08 00 00 00 00 00 00   ERRORFRAME\n"
    )
    with closing(open_capture(log, "slcan /dev/ttyACM0")) as capture:
        (heard,) = capture.entries()
    assert heard == Heard(
        "slcan /dev/ttyACM0", 1793534400.25, "in", [CanFrame(0x183, b"\7\0\0\xe8\3", 0, 1793534400.25)]
    )


def test_a_file_with_sentences(tmp_path: Path) -> None:
    log = make.HERE.parent / "captures/nmea0183/bu353s4.log"
    with pytest.raises(RecordingError, match="--connection"):
        open_capture(log)
    capture = open_capture(log, "gps")
    text = "connections: {gps: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB0}}"
    lines, _ = outcome(configured(tmp_path, text), capture)
    assert {each.key for each in lines if each.flags == "00000"} >= {"LAT", "LONG", "GS", "TIMEZ"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello\n", "is no capture"),
        (b"\x89MCAP0\r\n", "has no raw data"),
    ],
)
def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=words):
        open_capture(path)


def test_the_lines_of_an_outcome_are_read_as_written() -> None:
    lines = [
        golden.line(1.25, "IAS", 101.5, "01000", "eis"),
        golden.line(1.25, "ACID", 'N1 "x" ü\n', "00000", ""),
        golden.line(2.0, "BTN1", True, "00000", "sim/gpio"),
        golden.line(2.0, "IAS.Vne", None, "-", ""),
    ]
    assert str(lines[0]) == "1.250000 IAS 101.5 01000 eis"
    assert list(golden.read(["# a comment\n", "\n", *(f"{each}\n" for each in lines)])) == lines


# -- whose values are set again ----------------------------------------------------------------------------------------


def test_values_of_a_connection_without_recorded_data_are_set_and_those_of_others_are_its_own(tmp_path: Path) -> None:
    text = LINES + (
        "  gps: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB9}\n"
        "  eis: {module: fixgw.drivers.nmea0183, port: /dev/ttyUSB8}\n"
        "  compute: {module: fixgw.plugins.compute, functions: [{function: sum, inputs: [CAT, CAT], output: H2OT1}]}\n"
    )
    at = make.START_S
    entries: list[Entry] = [
        *said("\n90\n"),
        Outside(at + 1.0, "GS", 80.0, 0, "gps/1"),
        Outside(at + 1.0, "OILP1", 40.0, 0, "sensor/1"),
        Outside(at + 1.0, "H2OT1", 70.0, 0, "compute"),
        Outside(at + 1.0, "IAS.Vne", 180.0, 0, "someone"),
    ]
    lines, done = outcome(configured(tmp_path, text), Made(entries))
    assert [str(each) for each in lines if each.time == 1.0] == [
        "1.000000 GS 80.0 00000 gps/1",
        "1.000000 IAS.Vne 180.0 - someone",
    ]
    assert done.silent == ["eis", "gps"]


def test_values_of_a_connection_that_cannot_start_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = configured(tmp_path, LINES)
    monkeypatch.setattr(whole.connections[0].plugin, "run", lambda self: 1 // 0)
    lines, done = outcome(whole, Made([Outside(make.START_S + 1.0, "OILT1", 90.0, 0, "sensor")]))
    assert [str(each) for each in lines] == ["1.000000 OILT1 90.0 00000 sensor"]
    assert (done.replayed, list(done.failed)) == ([], ["sensor"])


def test_what_cannot_be_set_is_passed_over_and_flags_are_kept(tmp_path: Path) -> None:
    at = make.START_S
    entries = [
        Outside(at + 1.0, "NOSUCH", 1.0, 0, "x"),
        Outside(at + 1.0, "NOSUCH.Min", 1.0, 0, "x"),
        Outside(at + 1.0, "IAS", "fast", 0, "x"),
        Outside(at + 1.0, "TAS", None, 0, "x"),
        Outside(at + 1.0, "IAS.Vne", None, 0, "x"),
        Outside(at + 1.0, "ALT", 3000.0, FAIL, "x"),
    ]
    lines, _ = outcome(configured(tmp_path, LINES), Made(entries, end=at + 20.0))
    assert [(each.time, each.key, each.flags) for each in lines] == [(1.0, "ALT", "00010")], "and for all the time"


def test_what_somebody_else_has_written_since_is_not_set_again(tmp_path: Path) -> None:
    entries = said("\n90\n", "90\n")
    entries.insert(1, Outside(make.START_S + 0.2, "OILT1", 50.0, 0, "x"))
    lines, _ = outcome(configured(tmp_path, LINES), Made(entries, end=make.START_S + 9.0))
    assert [(each.value, each.flags, each.source) for each in lines] == [
        ("50.0", "00000", "x"),
        ("90.0", "00000", "sensor"),
        ("90.0", "01000", "sensor"),
    ], "and what is written again is no change"


def test_values_of_others_are_written_again_when_half_their_time_is_over(watched: Watched) -> None:
    item = watched.replaying.db.item("IAS")
    at, tolerance = watched.stepper.now, item.tolerance
    watched.replaying._set(Outside(at, "IAS", 100.0, 0, "sim/aircraft"))
    stamps = []
    for passed in (0.4, 0.6, 1.0, 1.2):
        watched.stepper.set_clock(at + passed * tolerance)
        watched.replaying._refresh()
        stamps.append(round((item.reading.stamp - at) / tolerance, 3))
    assert stamps == [0.0, 0.6, 0.6, 1.2]


def test_values_of_others_that_age_soon_stay_good(tmp_path: Path) -> None:
    whole = configured(tmp_path, LINES)
    short = Definition(key="IAS", tolerance=500), Definition(key="OILT1")
    capture = Made([Outside(make.START_S, "IAS", 100.0, 0, "sim/aircraft")], end=make.START_S + 5.0)
    lines, _ = outcome(replace(whole, definitions=short, initial=()), capture)
    assert [(each.time, each.key, each.flags) for each in lines] == [(0.0, "IAS", "00000")]


def test_changes_of_one_instant_are_in_the_order_of_their_keys(watched: Watched) -> None:
    for key, value in (("IAS", 1.0), ("ALT", 2.0), ("IAS", 3.0)):
        watched.replaying._add(key, value, "00000", "x")
    watched.replaying._flush()
    assert [(each.key, each.value) for each in watched.lines] == [("ALT", "2.0"), ("IAS", "1.0"), ("IAS", "3.0")]
    assert (watched.replaying.outcome.changes, watched.replaying.outcome.seconds) == (3, 0.0)


def test_whoever_notes_the_changes_keeps_no_writer_waiting(watched: Watched) -> None:
    watched.replaying._note_start()
    assert watched.replaying.db.item("IAS").quick


def test_a_worker_that_knows_no_outage_has_a_turn_when_its_link_is_lost(watched: Watched) -> None:
    watched.stepper.tasks["sensor"].worker = SimpleNamespace(name="sensor")  # type: ignore[assignment]
    watched.take(Event("serial", "lost", "unplugged"))
    assert watched.turns == [([], "unplugged")]


def test_events_of_a_driver_that_has_failed_do_no_harm(watched: Watched) -> None:
    watched.stepper.tasks.clear()
    watched.take((1, b"a"))
    for event in (Event("serial", "opened"), Event("chip", "lost", "gone"), Event("chip", "polled")):
        watched.take(event)
    assert watched.feed.trouble == ""


def test_a_replay_whose_capture_cannot_be_read_stops_its_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture: Any = Made([])

    def damaged() -> Iterator[Entry]:
        raise RecordingError("damaged")

    monkeypatch.setattr(capture, "entries", damaged)
    replaying = rawreplay._Replay(configured(tmp_path, LINES), capture, lambda line: None, False)
    with pytest.raises(RecordingError, match="damaged"):
        replaying.run()
    assert not replaying.stepper.plugins["sensor"].running


def test_a_replay_has_a_name_that_is_always_the_same(watched: Watched) -> None:
    assert identity(watched.replaying.db) == "replay-000000"


def test_the_configuration_is_the_one_that_is_named_or_that_of_the_capture_and_its_variables(tmp_path: Path) -> None:
    capture: Any = Made([])
    configured(tmp_path, LINES)
    named = load(str(tmp_path / "default.yaml"), capture, tmp_path / "unused")
    assert [each.name for each in named.connections] == ["sensor"]
    assert not (tmp_path / "unused").exists()
    alerts = '  alerts: {module: fixgw.plugins.alerts, include: "{CONFIG}/alerts.yaml"}\n'
    capture.configuration = {"default.yaml": (LINES.replace("sensor", "own") + alerts).encode()}
    capture.variables = {}
    own = load(None, capture, tmp_path / "own")
    assert [each.name for each in own.connections] == ["own", "alerts"], "a capture has no packaged files"
    assert list((tmp_path / "own").rglob("*.py*")) == []
