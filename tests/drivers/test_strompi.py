"""The StromPi driver: reports and warnings, and a virtual board on a virtual serial port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import FAIL, Database
from fixgw.drivers import ups
from fixgw.drivers.strompi import Options, Plugin, protocol
from fixgw.drivers.strompi.protocol import Decoder
from fixgw.hw_sim.bench.base import Bench, Subject
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.devices.strompi import StromPi
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit.update import Update
from tests.drivers.bus_bench import SOURCE, packaged_database, running, until

#: The lines in the order of the vendor's status script: on USB, battery 3.312 V, 50 %, charging.
REPORT = [153012, 251121, 5, 3, 0, 1, 12, 0, 1, 1, 1, 0, 0, 0, 1, 30, 1, 0, 0, 0, 0,
          1, 3, 1, 0, 30, 0, 0, 0, 30, 1, 0, 3312, 5060, 5080, 1, 2, 173]  # fmt: skip


BAD_REPORTS = ({"WEEKDAY": 9}, {"MODE": 0}, {"LEVEL": 5}, {"CHARGING": 7}, {"STATUS": 0}, {"USB": 99999})


def lines(**changes: int) -> bytes:
    numbers = list(REPORT)
    for name, value in changes.items():
        numbers[getattr(protocol, name)] = value
    return "".join(f"{n}\r\n" for n in numbers).encode()


def values(data: bytes) -> dict[str, Any]:
    return {u.key: u.value for u in Decoder().feed(data)}


def test_a_report_gives_the_battery_and_the_supply() -> None:
    assert len(REPORT) == protocol.LINES
    decoder = Decoder()
    assert decoder.feed(lines()) == [
        Update("POWER_FAIL", False),
        Update("BAT_VOLTAGE", 3.312),
        Update("BAT_CHARGING", True),
        Update("BAT_REMAINING", 50),
    ]
    assert decoder.firmware == "173"
    assert decoder.counts == {"received": 1, "used": 1, "incomplete": 0, "absurd": 0, "warnings": 0, "other lines": 0}


@pytest.mark.parametrize(("level", "percent"), [(1, 10), (2, 25), (3, 50), (4, 100)])
def test_the_battery_has_four_levels(level: int, percent: int) -> None:
    assert values(lines(LEVEL=level))["BAT_REMAINING"] == percent


@pytest.mark.parametrize(("level", "remaining"), [(0, 0), (1, 10), (4, 100)])
def test_what_the_shutdown_goes_by(level: int, remaining: int) -> None:
    decoder = Decoder()
    assert (decoder.lost, decoder.remaining, decoder.firmware, decoder.trouble) == (None, 0, "", "")
    decoder.feed(lines(LEVEL=level, STATUS=3))
    assert (decoder.lost, decoder.remaining) == (True, remaining)
    decoder.feed(lines(LEVEL=3, STATUS=9, FIRMWARE=200))
    assert (decoder.lost, decoder.remaining, decoder.firmware) == (True, remaining, "173")


def test_running_on_battery_is_a_loss_of_supply() -> None:
    assert values(lines(STATUS=3))["POWER_FAIL"] is True
    assert values(lines(STATUS=2))["POWER_FAIL"] is False


def test_a_board_without_a_battery_gives_no_battery_voltage() -> None:
    decoder = Decoder()
    updates = {u.key: u for u in decoder.feed(lines(BATTERY=12))}
    assert updates["POWER_FAIL"].value is False
    for key in ("BAT_VOLTAGE", "BAT_REMAINING", "BAT_CHARGING"):
        assert updates[key] == Update(key, None, FAIL, "no battery")
    assert decoder.trouble == "no battery"
    assert decoder.feed(lines(BATTERY=499))[1].flags == FAIL
    assert decoder.feed(lines(BATTERY=500))[1] == Update("BAT_VOLTAGE", 0.5)
    assert decoder.trouble == ""
    assert values(lines(CHARGING=0))["BAT_CHARGING"] is False


def test_a_level_that_the_board_does_not_know_fails() -> None:
    (update,) = (u for u in Decoder().feed(lines(LEVEL=0)) if u.key == "BAT_REMAINING")
    assert update == Update("BAT_REMAINING", None, FAIL, "the board does not know the charge")
    assert values(lines(LEVEL=0))["BAT_VOLTAGE"] == 3.312


@pytest.mark.parametrize("change", BAD_REPORTS)
def test_an_impossible_report_is_refused(change: dict[str, int]) -> None:
    decoder = Decoder()
    assert decoder.feed(lines(**change)) == []
    assert decoder.counts["absurd"] == 1
    assert decoder.refused == "absurd: " + " ".join(lines(**change).decode().split())


def test_a_lost_line_loses_one_report() -> None:
    decoder = Decoder()
    decoder.start_report()
    assert decoder.feed(lines().partition(b"\n")[2]) == []
    assert decoder.refused == ""
    decoder.start_report()
    assert decoder.refused.startswith("incomplete: 251121 5 3")
    decoder.start_report()
    assert decoder.counts["incomplete"] == 1
    assert len(decoder.feed(lines())) == 4
    assert decoder.counts["received"] == 2


def test_warnings_are_recognised_between_report_lines() -> None:
    decoder = Decoder()
    begin, end = lines()[: lines().index(b"\n") + 1], lines()[lines().index(b"\n") + 1 :]
    assert decoder.feed(begin + b"xxx--StromPiPowerfail--xxx\n") == [Update("POWER_FAIL", True)]
    assert decoder.lost is True
    assert len(decoder.feed(end)) == 4
    decoder.feed(b"xxx--StromPiPowerfail--xxx\n")
    assert decoder.lost is True
    assert decoder.feed(b"\nxxx--StromPiPowerBack--xxx\n") == [Update("POWER_FAIL", False)]
    assert decoder.feed(b"\nxxxShutdownRaspberryPixxx\n") == [Update("POWER_FAIL", True)]
    assert decoder.counts["warnings"] == 4


def test_a_stream_can_be_cut_anywhere_and_contain_echoes() -> None:
    decoder = Decoder()
    updates = [u for byte in b"status-rpi\r\n" + lines() for u in decoder.feed(bytes((byte,)))]
    assert len(updates) == 4
    assert decoder.counts["other lines"] == 1


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (b"x" * 191 + b"PowerBack", "warnings"),
        (b"x" * 192 + b"PowerBack", "other lines"),
        (b"PowerBack" + b"x" * 5000, "other lines"),
        (b"1234567890", "other lines"),
        (b" \t", None),
    ],
)
def test_other_lines(line: bytes, count: str | None) -> None:
    for pieces in ([line], [bytes((byte,)) for byte in line]):
        decoder = Decoder()
        for piece in pieces:
            decoder.feed(piece)
        decoder.feed(b"\r\n")
        assert {name for name, number in decoder.counts.items() if number} == ({count} if count else set())
        assert len(decoder.feed(b"\0" + lines(MODE=6).replace(b"153012", b"123456789 "))) == 4


@given(st.lists(st.one_of(st.binary(max_size=300), st.just(b"\n"), st.integers(0, 10**12).map(lambda n: b"%d\n" % n))))
def test_no_input_raises_and_the_counters_add_up(chunks: list[bytes]) -> None:
    decoder = Decoder()
    for chunk in chunks:
        decoder.feed(chunk)
        if b"7" in chunk:
            decoder.start_report()
    counts = decoder.counts
    assert counts["received"] == counts["used"] + counts["incomplete"] + counts["absurd"]
    assert len(decoder._rest) <= protocol.MAX_LINE


# -- a virtual board ---------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[Database]:
    with packaged_database() as db:
        yield db


@pytest.fixture
def board() -> Iterator[StromPi]:
    """A board that answers on its own thread."""
    board = StromPi(VirtualPort())
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            board.answer(0.02)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield board
    ending.set()
    thread.join()
    board.close()


@pytest.mark.slow
def test_the_reports_of_the_board_reach_the_database(board: StromPi, db: Database) -> None:
    with running(Plugin, port=board.port.path, every=1.0) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE and not plugin.health())
        assert db.read("BAT_VOLTAGE").value == pytest.approx(3.31)
        assert db.read("BAT_REMAINING").value == 100
        assert db.read("POWER_FAIL").value is False
        assert plugin.get_status()["firmware"] == "173"
        board.supply = False
        until(lambda: db.read("POWER_FAIL").value is True)
        assert plugin.counts["warnings"] == 1
        board.supply, board.charging, board.level = True, True, 2
        until(lambda: db.read("POWER_FAIL").value is False)
        until(lambda: db.read("BAT_REMAINING").value == 25 and db.read("BAT_CHARGING").value)
    assert {db.read(key).reason(FAIL) for key in ups.KEYS} == {"stopped"}, "they would never age"


@pytest.mark.slow
def test_a_lost_port_fails_the_keys_until_it_is_back(board: StromPi, db: Database) -> None:
    with running(Plugin, port=board.port.path, every=1.0) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE)
        board.port.unplug()
        until(lambda: db.read("BAT_VOLTAGE").fail and db.read("POWER_FAIL").fail)
        board.port.plug()
        until(lambda: db.read("BAT_VOLTAGE").good and not plugin.health())


@pytest.mark.slow
def test_a_board_that_hangs_fails_the_keys_although_they_never_age(
    board: StromPi, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixgw.drivers.strompi.MAX_UNANSWERED", 1)
    with running(Plugin, port=board.port.path, every=1.0) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE)
        board.silent = True
        until(lambda: db.read("BAT_VOLTAGE").fail)
        assert db.read("BAT_VOLTAGE").reason(FAIL) == "the board does not answer"
        until(lambda: plugin.health() == "no data")
        board.silent = False
        until(lambda: db.read("BAT_VOLTAGE").good and not plugin.health())


@pytest.mark.slow
def test_a_loss_of_supply_starts_the_countdown(board: StromPi, db: Database) -> None:
    with running(Plugin, port=board.port.path, every=1.0, shutdown={"after": 3600.0}) as plugin:
        until(lambda: db.read("BAT_VOLTAGE").source == SOURCE and not plugin.health())
        board.supply = False
        until(lambda: plugin.health() == "on battery")
        board.supply = True
        until(lambda: plugin.health() == "")


def test_options_are_checked(db: Database) -> None:
    wrong = msgspec.convert(
        {"port": "/dev/null", "keys": {"BAT": None}, "shutdown": {"after": 10, "unless": "IASS > 1"}}, Options
    )
    assert [option for option, _ in Plugin.check(wrong, db)] == ["keys.BAT", "shutdown.unless"]
    assert list(Plugin.claims(wrong)) == [("/dev/null", "port")]


def test_without_a_board_initial_values_do_not_look_good(db: Database) -> None:
    with running(Plugin, port="/dev/no-such-port") as plugin:
        until(lambda: plugin.counts.get("outages"))
        until(lambda: all(db.read(key).fail for key in ("BAT_VOLTAGE", "BAT_REMAINING", "POWER_FAIL", "BAT_CHARGING")))


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class BoardBench(Bench):
    """A board on a serial port that sends only when polled; it uses the port of the subject's device."""

    CAN = frozenset({"late", "vanish", "counters", "silence"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.port = VirtualPort()
        self.device = subject.device(self.port)

    def options(self) -> dict[str, Any]:
        return {"port": self.port.path}

    def act(self) -> None:
        self.device.answer(0.002)

    def unplug(self) -> None:
        self.port.unplug()
        if self.plugin is not None:
            until(lambda: not self.plugin.connected, "the driver does not notice the loss of the board")

    def plug(self) -> None:
        self.port.plug()

    def silence(self) -> None:
        self.device.silent = True

    def speak(self) -> None:
        self.device.silent = False

    def half_a_frame(self) -> None:
        self.port.write(self.device.report()[:40])

    def hammer(self) -> None:
        self.port.write(self.device.report())

    def close(self) -> None:
        super().close()
        self.device.close()


class TestContract(Contract):
    subject = BoardBench.of(
        "fixgw.drivers.strompi",
        StromPi,
        "BAT_VOLTAGE BAT_REMAINING BAT_CHARGING POWER_FAIL",
        truth={"BAT_VOLTAGE": 3.31, "BAT_REMAINING": 100, "BAT_CHARGING": False, "POWER_FAIL": False},
        absurd={"voltage": 90.0},
    )
