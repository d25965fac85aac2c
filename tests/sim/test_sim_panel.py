"""The panel server for virtual pins: commands through the socket, answers, and permissions."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixgw.hw_sim import gpio as GPIO
from fixgw.hw_sim import panel, panel_pins, panel_server
from fixgw.hw_sim.gpio import Bank
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.panel_server import COMMANDS, MAX_CLIENTS, PanelServer, connect
from fixgw.hw_sim.world import World

pytestmark = pytest.mark.slow


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


class Hands:
    """A client of the panel."""

    def __init__(self, path: str) -> None:
        self.connection = connect(path)
        self.connection.settimeout(20.0)
        self._lines = self.connection.makefile("r")

    def say(self, *commands: str) -> None:
        self.connection.sendall("".join(f"{command}\n" for command in commands).encode())

    def hear(self) -> dict[str, Any]:
        """The next line."""
        line = self._lines.readline()
        assert line, "the connection was closed"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def see(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait for a state that satisfies `wanted`."""
        while True:
            heard = self.hear()
            assert "error" not in heard, heard
            if condition(heard):
                return heard

    def close(self) -> None:
        self._lines.close()
        self.connection.close()


@pytest.fixture
def bank() -> Iterator[Bank]:
    """A bank that is set up as by the demonstration."""
    made = Bank()
    made.setmode(GPIO.BCM)
    made.setup([5, 6, 17, 24], GPIO.IN, pull_up_down=GPIO.PUD_UP)
    made.setup(20, GPIO.OUT, initial=GPIO.LOW)
    made.add_event_detect(17, GPIO.BOTH)
    yield made
    made.reset()


@pytest.fixture
def server(bank: Bank, tmp_path: Path) -> Iterator[PanelServer]:
    with PanelServer(tmp_path / "panel", Panel(bank), bank) as made:
        yield made


@pytest.fixture
def hands(server: PanelServer) -> Iterator[Hands]:
    made = Hands(server.path)
    yield made
    made.close()


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_new_connection_gets_the_whole_state(hands: Hands) -> None:
    state = hands.hear()
    assert state["plugged"] is True
    assert len(state["pins"]) == GPIO.PINS
    pin = {"direction": "in", "level": 1, "pull": "up", "driven": None, "watched": True, "duty": None}
    assert state["pins"]["17"] == pin
    assert state["pins"]["5"] == {**pin, "watched": False}
    assert state["pins"]["20"] == {**pin, "direction": "out", "level": 0, "pull": None, "watched": False}
    assert state["pins"]["27"] == {**pin, "direction": None, "level": 0, "pull": None, "watched": False}
    assert state["panel"] == {
        "knobs": [{"a": 5, "b": 6, "push": 13, "position": 0}, {"a": 19, "b": 26, "push": 12, "position": 0}],
        "buttons": [17, 27, 22, 23],
        "switches": [24, 25],
        "lamps": {"OIL": 20, "ALTERNATOR": 21, "FUEL": 16, "WARNING": 8, "CAUTION": 7},
        "light": 18,
    }


def test_only_changes_made_by_the_program_are_sent(hands: Hands, bank: Bank) -> None:
    first = hands.hear()
    bank.output(20, True)
    second = hands.hear()
    assert second["pins"].pop("20")["level"] == 1
    assert first["pins"].pop("20")["level"] == 0
    assert second == first
    hands.connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        hands.hear()


def test_pulses_of_an_output_have_their_duty(tmp_path: Path) -> None:
    bank = GPIO.bank()
    bank.reset()
    bank.setmode(GPIO.BCM)
    bank.setup(18, GPIO.OUT)
    dimmer = GPIO.PWM(18, 200)
    dimmer.start(12.5)
    try:
        with PanelServer(tmp_path / "panel") as server:
            hands = Hands(server.path)
            assert hands.hear()["pins"]["18"]["duty"] == 12.5
            dimmer.ChangeDutyCycle(50)
            assert hands.hear()["pins"]["18"]["duty"] == 50
            hands.close()
    finally:
        bank.reset()


def test_it_polls_at_most_twenty_times_a_second_and_only_with_a_client(
    server: PanelServer, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    state = server.state

    def looked() -> dict[str, Any]:
        looks.append(time.monotonic())
        return state()

    monkeypatch.setattr(server, "state", looked)
    before = time.monotonic()
    while time.monotonic() < before + 0.2:
        bank.drive(17, True)
        bank.drive(17, False)
    assert looks == []
    hands = Hands(server.path)
    begin = time.monotonic()
    while time.monotonic() < begin + 1.0 or len(looks) < 2:
        bank.output(20, not bank.level(20))
        hands.say("let 5", "turn 0 1")
    assert len(looks) <= (time.monotonic() - begin) / panel_server.LOOK_INTERVAL_S + 2
    hands.close()
    assert wait_for(lambda: not server._clients)
    seen = len(looks)
    time.sleep(0.2)
    assert len(looks) == seen


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_button_is_pressed_and_released(hands: Hands, bank: Bank) -> None:
    hands.say("press 0")
    assert hands.see(lambda s: s["pins"]["17"]["level"] == 0)["pins"]["17"]["driven"] == 0
    assert bank.input(17) == GPIO.LOW
    hands.say("release 0")
    assert hands.see(lambda s: s["pins"]["17"]["level"] == 1)["pins"]["17"]["driven"] is None


def test_a_timed_press_ends_on_time_and_a_repeated_one_lasts(hands: Hands, bank: Bank) -> None:
    edges: list[int] = []
    bank.add_event_callback(17, edges.append)
    once = 1 + 2 * panel.BOUNCES  # each time it closes or opens
    hands.say("press 0 0.1")
    assert wait_for(lambda: len(edges) == 2 * once)
    assert bank.level(17)
    hands.say("press 0 30")
    assert wait_for(lambda: len(edges) == 3 * once)
    hands.say("press 0 0.1")
    assert wait_for(lambda: bank.level(17))
    bank.flush()
    assert len(edges) == 4 * once  # it was not closed a second time
    hands.say("press 0 0.1", "press 0")  # held from now on
    assert wait_for(lambda: len(edges) == 5 * once)
    time.sleep(0.3)
    assert not bank.level(17)


def test_the_buttons_of_the_knobs_come_after_the_others(hands: Hands) -> None:
    hands.say("press 4", "press 5")
    hands.see(lambda s: s["pins"]["13"]["driven"] == 0 and s["pins"]["12"]["driven"] == 0)


def test_a_knob_is_turned_and_its_position_reported(server: PanelServer, hands: Hands) -> None:
    assert server.panel is not None
    with World() as world:
        world.attach(server.panel)
        hands.say("turn 0 3", "turn 1 -2")
        hands.see(lambda s: [knob["position"] for knob in s["panel"]["knobs"]] == [3, -2])


def test_a_switch_keeps_its_position(hands: Hands, bank: Bank) -> None:
    hands.say("switch 0 1")
    hands.see(lambda s: s["pins"]["24"]["level"] == 0)
    hands.say("switch 0 0")
    hands.see(lambda s: s["pins"]["24"]["level"] == 1)


def test_any_pin_can_be_driven_and_released(hands: Hands) -> None:
    hands.say("drive 5 0", "drive 9 1")
    hands.see(lambda s: (s["pins"]["5"]["level"], s["pins"]["9"]["driven"]) == (0, 1))
    hands.say("let 5")
    hands.see(lambda s: (s["pins"]["5"]["level"], s["pins"]["5"]["driven"]) == (1, None))


@pytest.mark.parametrize(("detents", "order"), [(2, [5, 6, 5, 6] * 2), (-2, [6, 5, 6, 5] * 2)])
def test_a_knob_on_any_two_pins_is_turned_in_the_background(
    hands: Hands, bank: Bank, detents: int, order: list[int]
) -> None:
    edges: list[int] = []
    for pin in (5, 6):
        bank.add_event_detect(pin, GPIO.BOTH, edges.append)
    hands.say(f"turn-pins 5 6 {detents}", "turn-pins 5 6 0", "press 0")
    hands.see(lambda s: s["pins"]["17"]["level"] == 0)
    assert wait_for(lambda: len(edges) >= 8)
    bank.flush()
    assert edges == order


def test_pulses_continue_until_stopped(server: PanelServer, hands: Hands, bank: Bank) -> None:
    edges: list[int] = []
    bank.add_event_detect(5, GPIO.FALLING, edges.append)
    hands.say("pulses 5 50", "pulses 5 200")
    assert wait_for(lambda: len(edges) > 50)
    hands.say("pulses 5 0")
    assert wait_for(lambda: not [t for t in threading.enumerate() if t.name == "pulses on GPIO5"])
    hands.say("pulses 5 200")
    assert wait_for(lambda: server._sending)
    server.close()
    assert [t for t in threading.enumerate() if t.name == "pulses on GPIO5"] == []


def test_the_chip_is_unplugged_and_plugged(hands: Hands, bank: Bank) -> None:
    hands.say("unplug")
    hands.see(lambda s: not s["plugged"])
    with pytest.raises(RuntimeError):
        bank.input(17)
    hands.say("plug")
    state = hands.see(lambda s: s["plugged"])
    assert state["pins"]["17"]["direction"] is None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("pres 0", "there is no command 'pres'; choose one of press, release, turn, "),
        ("press", "usage: press N [SECONDS]"),
        ("press 0 1 2", "usage: press N [SECONDS]"),
        ("press one", "usage: press N [SECONDS]"),
        ("press 6", "press: 6 is not from 0 to 5"),
        ("press -1", "press: -1 is not from 0 to 5"),
        ("press 0 nan", "press: nan is not from 0 to 60"),
        ("release 6", "press: 6 is not from 0 to 5"),
        ("turn 2 1", "turn: 2 is not from 0 to 1"),
        ("turn 0 1.5", "usage: turn KNOB DETENTS"),
        ("switch 0 2", "switch: 2 is not from 0 to 1"),
        ("drive 28 1", "pin: 28 is not from 0 to 27"),
        ("drive -1 1", "pin: -1 is not from 0 to 27"),
        ("let 99", "pin: 99 is not from 0 to 27"),
        ("turn-pins 5 6 1001", "turn-pins: 1001 is not from 0 to 1000"),
        ("turn-pins 5 28 1", "pin: 28 is not from 0 to 27"),
        ("pulses 5 1e9", "pulses: 1e+09 is not from 0.1 to 2000"),
        ("pulses 5 nan", "pulses: nan is not from 0.1 to 2000"),
        ("unplug now", "usage: unplug"),
        ("__init__", "there is no command '__init__'"),
        ("\xff\xfe", "there is no command"),
    ],
)
def test_an_impossible_command_is_an_error_without_effect(hands: Hands, command: str, error: str) -> None:
    before = hands.hear()
    hands.say(command, "", "drive 5 0")
    assert hands.hear()["error"].startswith(error)
    after = hands.see(lambda s: s["pins"]["5"]["driven"] == 0)
    assert after["pins"].pop("5")["level"] == 0
    before["pins"].pop("5")
    assert after == before


def test_pins_without_a_panel_have_no_buttons(bank: Bank, tmp_path: Path) -> None:
    with PanelServer(tmp_path / "panel", None, bank) as server:
        hands = Hands(server.path)
        assert hands.hear()["panel"] is None
        for command in ("press 0", "release 0", "turn 0 1", "switch 0 1"):
            hands.say(command)
            assert hands.hear()["error"].startswith("there are only pins here, no panel")
        hands.say("drive 17 0")
        hands.see(lambda s: s["pins"]["17"]["level"] == 0)
        hands.close()


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_client_that_closes_its_input_gets_the_rest_and_then_the_end(hands: Hands, bank: Bank) -> None:
    hands.connection.sendall(b"bogus\ndrive 5 0")  # the last one without a line's end
    hands.connection.shutdown(socket.SHUT_WR)
    hands.connection.settimeout(20.0)
    lines = [json.loads(line) for line in hands._lines]
    assert [line for line in lines if "error" in line]
    assert lines[-1]["pins"]["5"]["level"] == 0


def test_an_endless_line_ends_the_connection(server: PanelServer, hands: Hands) -> None:
    hands.hear()
    hands.connection.sendall(b"x" * 5000)
    assert hands.hear() == {"error": "a line is longer than 200 bytes"}
    assert wait_for(lambda: not server._clients)


def test_a_client_that_does_not_read_costs_nothing_and_then_sees_the_latest(
    server: PanelServer, hands: Hands, bank: Bank
) -> None:
    hands.hear()
    sluggish = Hands(server.path)
    assert wait_for(lambda: len(server._clients) == 2)
    its = server._clients[1]
    its.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    full = 0
    for n in range(100):
        bank.output(20, n % 2 == 0)
        hands.see(lambda s: s["pins"]["20"]["level"] == (n % 2 == 0))  # noqa: B023
        assert len(its.waiting) < 5000
        full += bool(its.waiting)
        if full > 5:
            break
    assert full > 5
    bank.output(20, True)
    bank.drive(5, False)
    sluggish.see(lambda s: s["pins"]["5"]["level"] == 0 and s["pins"]["20"]["level"] == 1)
    sluggish.close()


def test_a_client_that_only_makes_errors_and_never_reads_is_dropped(server: PanelServer) -> None:
    hands = Hands(server.path)

    def babble() -> None:
        while True:
            hands.say("bogus " * 20)

    with pytest.raises(OSError):
        babble()
    assert wait_for(lambda: not server._clients)
    hands.close()


def test_the_number_of_clients_is_limited(server: PanelServer, bank: Bank) -> None:
    many = [Hands(server.path) for _ in range(MAX_CLIENTS)]
    for one in many:
        one.hear()
    late = Hands(server.path)
    assert "too many" in late.hear()["error"]
    late.close()
    many.pop().close()
    assert wait_for(lambda: len(server._clients) == MAX_CLIENTS - 1)
    many.append(Hands(server.path))
    many[-1].say("drive 5 0")
    for one in many:
        one.see(lambda s: s["pins"]["5"]["level"] == 0)
        one.close()


def test_only_the_owner_can_use_the_socket(server: PanelServer) -> None:
    assert os.stat(server.path).st_mode & 0o777 == 0o600


def test_a_panel_of_another_user_is_not_trusted(server: PanelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "lstat", lambda path: SimpleNamespace(st_uid=os.getuid() + 4321, st_mode=0o140600))
    with pytest.raises(PermissionError, match="another user"):
        connect(server.path)


def test_it_leaves_no_files_behind(bank: Bank, tmp_path: Path) -> None:
    server = PanelServer(tmp_path / "panel", None, bank)
    hands = Hands(server.path)
    hands.hear()
    server.close()
    server.close()
    assert hands._lines.readline() == ""
    hands.close()
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name == "panel"]


def test_only_the_socket_of_a_killed_program_is_replaced(bank: Bank, short_path: Path) -> None:
    path = short_path / "panel"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with PanelServer(path, None, bank):
        with pytest.raises(OSError, match="in use"):
            PanelServer(path, None, bank)
        connect(str(path)).close()
    path.write_text("a file")
    with pytest.raises(OSError, match="in use"):
        PanelServer(path, None, bank)
    assert path.read_text() == "a file"


def test_a_path_can_be_longer_than_a_socket_address(bank: Bank, tmp_path: Path) -> None:
    directory = tmp_path / ("deep" * 20) / ("deeper" * 20)
    directory.mkdir(parents=True)
    with PanelServer(directory / "panel", None, bank) as server:
        hands = Hands(server.path)
        assert hands.hear()["plugged"]
        hands.close()
        assert os.listdir(directory) == ["panel"]
    assert os.listdir(directory) == []


# -- finding the panel -------------------------------------------------------------------------------------------------


def test_the_first_panel_is_found_without_a_path_until_it_ends(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIXGW_PANEL", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    link = tmp_path / f"fixgw-panel-{os.getuid()}"
    link.symlink_to(tmp_path / "gone")  # left by a killed program
    with PanelServer(tmp_path / "one", None, bank) as one, PanelServer(tmp_path / "two", None, bank) as two:
        assert one.publish()
        assert not two.publish()
        assert os.readlink(link) == str(tmp_path / "one")
        connect().close()
        two.close()
        connect().close()
    assert list(tmp_path.iterdir()) == []


def test_the_path_can_be_given(bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXGW_PANEL", str(tmp_path / "here"))
    with PanelServer(tmp_path / "one", None, bank) as one:
        assert one.publish()
        connect().close()
        assert {path.name for path in tmp_path.iterdir()} == {"one", "here"}
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_directory_leaves_it_unpublished(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIXGW_PANEL", str(tmp_path / "no" / "such"))
    with PanelServer(tmp_path / "one", None, bank) as one:
        assert not one.publish()


# -- the library with a panel ------------------------------------------------------------------------------------------


def test_the_library_differs_from_the_bank_only_in_opening_the_panel() -> None:
    names = [name for name in vars(GPIO) if not name.startswith("_") and name != "annotations"]
    assert [n for n in names if getattr(panel_pins, n) is not getattr(GPIO, n)] == ["setmode"]


PROGRAM = """
import sys
from fixgw.hw_sim import panel_pins as GPIO
for _ in range(2):
    GPIO.setmode(GPIO.BCM)
GPIO.setup(17, GPIO.IN, pull_up_down=GPIO.PUD_UP)
print("ready", flush=True)
print(GPIO.wait_for_edge(17, GPIO.FALLING, timeout=20000), flush=True)
sys.stdin.readline()
"""


def test_a_program_with_that_library_has_a_panel_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "panel"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FIXGW_PANEL": str(path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    hands = Hands(str(path))
    assert hands.see(lambda s: s["pins"]["17"]["watched"])["pins"]["17"]["direction"] == "in"
    hands.say("drive 17 0")
    assert process.stdout.readline() == "17\n"
    process.communicate("\n", timeout=20)
    assert process.returncode == 0
    hands.close()
    assert list(tmp_path.iterdir()) == []


def test_a_program_runs_without_a_panel_where_none_is_possible(tmp_path: Path) -> None:
    code = "from fixgw.hw_sim import panel_pins as GPIO; GPIO.setmode(GPIO.BCM); GPIO.setup(17, GPIO.IN); print('runs')"
    path = tmp_path / "no" / "such"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "FIXGW_PANEL": str(path)},
    )
    assert done.stdout == "runs\n"
    assert done.stderr == f"fixgw sim panel cannot reach these pins: {path}: No such file or directory\n"


def test_every_command_is_tested_here() -> None:
    tried = Path(__file__).read_text()
    assert [name for name in COMMANDS if f'say("{name}' not in tried and f'say(f"{name}' not in tried] == []
