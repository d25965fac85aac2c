"""sim panel: virtual pins operated by commands in a pipe, and on a page on a real terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixgw.cli.panel import Page, state_lines
from fixgw.cli.text import GREEN, RED, YELLOW
from fixgw.hw_sim import gpio as GPIO
from fixgw.hw_sim.gpio import Bank
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.panel_server import PanelServer
from fixgw.hw_sim.world import World
from fixgw.netfix import Client

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Result, Terminal

    Child = Callable[..., Result]
    Open = Callable[..., Terminal]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


@pytest.fixture
def bank() -> Iterator[Bank]:
    """Pins, set up as in the demo."""
    made = Bank()
    made.setmode(GPIO.BCM)
    made.setup([5, 6, 17, 24, 25], GPIO.IN, pull_up_down=GPIO.PUD_UP)
    made.setup(4, GPIO.IN, pull_up_down=GPIO.PUD_DOWN)
    made.setup([20, 18], GPIO.OUT, initial=GPIO.LOW)
    yield made
    made.reset()


@pytest.fixture
def server(bank: Bank, tmp_path: Path) -> Iterator[PanelServer]:
    """A panel with knobs that can be turned."""
    panel = Panel(bank)
    with PanelServer(tmp_path / "panel", panel, bank) as made, World() as world:
        world.attach(panel)
        yield made


@pytest.fixture
def plain(bank: Bank, tmp_path: Path) -> Iterator[PanelServer]:
    """Pins without a panel."""
    with PanelServer(tmp_path / "panel", None, bank) as made:
        yield made


def drawn(page: Page, width: int = 100, height: int = 30) -> str:
    return "\n".join(page.draw(width, height))


def paged(server: PanelServer, colour: bool = False) -> Page:
    page = Page(server.path, colour)
    page.take([server.state()])
    return page


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_page_shows_every_part_and_every_pin_that_is_set_up(server: PanelServer, bank: Bank) -> None:
    page = drawn(paged(server))
    assert "OIL dark" in page
    assert re.search(r"light +\.{20} 0 %", page)
    assert re.search(r"knobs +1: \+0 +\[5\] +- +2: \+0 +\[6\] +-", page)
    assert re.search(r"GPIO17 +in +high +up +button 1", page)
    assert re.search(r"GPIO20 +out +low +- +lamp OIL", page)
    assert "GPIO27" not in page
    bank.output([18, 20], 1)
    bank.press(17)
    bank.press(24)
    page = drawn(paged(server))
    assert "OIL LIT" in page
    assert re.search(r"light +#{20} 100 %", page)
    assert re.search(r"\[1\] +PRESSED", page)
    assert re.search(r"\[s\] +ON +\[t\] +off", page)


def test_lights_and_trouble_are_coloured(server: PanelServer, bank: Bank) -> None:
    bank.output(20, 1)
    bank.press(17)
    assert RED not in drawn(paged(server, colour=True))
    bank.unplug()
    page = paged(server, colour=True)
    for colour, words in ((YELLOW, "OIL LIT"), (GREEN, "PRESSED"), (RED, "UNPLUGGED")):
        assert re.search(rf"{re.escape(colour)}[^\n]*{words}", drawn(page)), words
    page.take([{"error": "it cannot be done"}])
    assert f"{RED}it cannot be done" in drawn(page)


def test_a_lamp_on_a_pin_that_is_not_set_up_is_dark(server: PanelServer, bank: Bank) -> None:
    bank.output(20, 1)
    bank.cleanup(20)
    assert bank.level(20)
    assert "OIL dark" in drawn(paged(server))


def test_nothing_is_wider_or_higher_than_the_terminal(server: PanelServer) -> None:
    page = paged(server)
    page.commands("\t")
    for width, height in ((100, 24), (80, 24), (40, 10), (10, 5), (1, 1), (80, 3), (300, 80)):
        lines = page.draw(width, height)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width


def test_the_selected_pin_stays_visible(bank: Bank, plain: PanelServer) -> None:
    page = paged(plain)
    for pin in (4, 5, 6, 17, 24, 25, 4):
        page.commands("\t")
        assert page.chosen == str(pin)
        assert f"> GPIO{pin} " in drawn(page, width=60, height=6)
    page.commands("\x1b[Z")
    assert page.chosen == "25"


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("1", "press 0 0.2"),
        ("6", "press 5 0.2"),
        ("\x1b[C", "turn 0 1"),
        ("a", "turn 0 -1"),
        ("\x1b[A", "turn 1 1"),
        ("j", "turn 1 -1"),
        ("s", "switch 0 1"),
        ("t", "switch 1 0"),
        ("u", "unplug"),
    ],
)
def test_keys_operate_the_panel(server: PanelServer, bank: Bank, key: str, command: str) -> None:
    bank.press(25)
    assert paged(server).commands(key) == [command]


@pytest.mark.parametrize("key", ["7", "0", "²", "x", "\x1b[H", " "])
def test_other_keys_do_nothing(server: PanelServer, key: str) -> None:
    assert paged(server).commands(key) == []
    assert Page("", False).commands(key) == []


def test_without_a_panel_keys_act_on_the_selected_pin(plain: PanelServer, bank: Bank) -> None:
    page = paged(plain)
    for key in ("1", "s", "\x1b[C", " "):
        assert page.commands(key) == []
    page.commands("\t")
    assert page.commands(" ") == ["drive 4 1"]  # it is pulled down
    page.commands("\t")
    assert page.commands(" ") == ["drive 5 0"]
    assert page.commands("\x1b[C") == ["turn-pins 5 6 1"]
    bank.drive(5, False)
    page.take([plain.state()])
    assert page.commands(" ") == ["let 5"]


def test_the_page_says_when_no_pins_are_set_up(tmp_path: Path) -> None:
    with PanelServer(tmp_path / "panel", None, Bank()) as server:
        page = paged(server)
        assert "No pins have been set up." in drawn(page)
        assert page.commands("\t") == []


# -- in a pipe ---------------------------------------------------------------------------------------------------------


def test_each_pin_is_a_line(server: PanelServer) -> None:
    assert list(state_lines(server.state())) == [
        "chip\tplugged",
        "GPIO4\tin\tlow\tdown\t\t",
        "GPIO5\tin\thigh\tup\t\tknob 0 a",
        "GPIO6\tin\thigh\tup\t\tknob 0 b",
        "GPIO17\tin\thigh\tup\t\tbutton 0",
        "GPIO18\tout\tlow\t\t\tlight",
        "GPIO20\tout\tlow\t\t\tlamp OIL",
        "GPIO24\tin\thigh\tup\t\tswitch 0",
        "GPIO25\tin\thigh\tup\t\tswitch 1",
        "knob 0\t0",
        "knob 1\t0",
    ]


def test_commands_are_run_until_the_input_ends(server: PanelServer, bank: Bank, child: Child) -> None:
    code, out, err = child("sim", "panel", server.path, input="press 0\ndrive 4 1")
    assert (code, err) == (0, "")
    assert {"GPIO17\tin\tlow\tup\t\tbutton 0", "GPIO4\tin\thigh\tdown\t\t"} <= set(out.splitlines())
    assert not bank.level(17)


def test_without_input_it_prints_the_state(server: PanelServer, child: Child) -> None:
    assert child("sim", "panel", server.path) == (0, "\n".join([*state_lines(server.state()), ""]), "")


def test_a_refused_command_is_reported_and_the_others_are_run(server: PanelServer, bank: Bank, child: Child) -> None:
    code, _, err = child("sim", "panel", server.path, input="press 9\npress 0\n")
    assert (code, err) == (1, "fixgw: press: 9 is not from 0 to 5\n")
    assert not bank.level(17)


class Pipe:
    """The command with pipes on both sides."""

    def __init__(self, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "sim", "panel", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def say(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def see(self, line: str) -> None:
        assert self.process.stdout is not None
        for heard in self.process.stdout:
            if heard == f"{line}\n":
                return
        pytest.fail(f"no {line!r}: {self.process.communicate()}")


@pytest.fixture
def pipe(server: PanelServer) -> Iterator[Pipe]:
    made = Pipe(server.path)
    yield made
    made.process.kill()
    made.process.communicate()


def test_each_change_is_printed_at_once(pipe: Pipe, bank: Bank) -> None:
    pipe.see("knob 1\t0")
    bank.output(20, 1)
    pipe.see("GPIO20\tout\thigh\t\t\tlamp OIL")
    pipe.say("turn 1 -2")
    pipe.see("knob 1\t-2")
    pipe.say("unplug")
    pipe.see("chip\tunplugged")
    pipe.process.send_signal(signal.SIGINT)
    assert pipe.process.wait(20) == 0
    assert pipe.process.stderr is not None
    assert pipe.process.stderr.read() == ""


def test_it_reports_the_loss_of_the_panel(pipe: Pipe, server: PanelServer) -> None:
    pipe.see("knob 1\t0")
    server.close()
    assert pipe.process.wait(20) == 1
    assert pipe.process.stderr is not None
    assert pipe.process.stderr.read() == "fixgw: lost the connection to the panel\n"


def test_a_missing_panel_is_reported_in_one_sentence(child: Child, tmp_path: Path) -> None:
    code, out, err = child("sim", "panel", FIXGW_PANEL=str(tmp_path / "none"))
    assert (code, out) == (1, "")
    assert re.fullmatch(
        rf"fixgw: no panel at {tmp_path}/none: no such file or directory; `fixgw demo` provides one, .*\n", err
    )


# -- on a terminal -----------------------------------------------------------------------------------------------------

ENTER, LEAVE = re.escape("\x1b[?1049h\x1b[?25l"), re.escape("\x1b[?25h\x1b[?1049l")


def test_keys_press_and_turn_and_lamps_light(server: PanelServer, bank: Bank, terminal: Open) -> None:
    pressed: list[int] = []
    bank.add_event_detect(17, GPIO.FALLING, pressed.append)
    it = terminal("sim", "panel", server.path, NO_COLOR="1")
    it.wait_for(ENTER)
    it.wait_for(r"OIL dark.*q +quits")
    bank.output(20, 1)
    it.wait_for(r"OIL LIT")
    it.type("1")
    assert wait_for(lambda: pressed)
    assert wait_for(lambda: bank.state(17).driven is None)
    it.type("s\x1bOC\x1b[C")
    it.wait_for(r"\[s\] +ON")
    it.wait_for(r"1: \+2")
    it.type("u")
    it.wait_for("UNPLUGGED")
    assert not bank.plugged
    it.type("q")
    it.wait_for(LEAVE)
    assert it.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_restored_when_the_command_is_killed(server: PanelServer, terminal: Open, number: int) -> None:
    it = terminal("sim", "panel", server.path)
    it.wait_for("OIL dark")
    if number == signal.SIGINT:
        it.type("\x03")
    else:
        it.process.send_signal(number)
    it.wait_for(LEAVE)
    assert it.end() == (0 if number == signal.SIGINT else 143)
    assert "Traceback" not in it.shown


def test_the_terminal_is_restored_when_the_panel_is_lost(server: PanelServer, terminal: Open) -> None:
    it = terminal("sim", "panel", server.path)
    it.wait_for("OIL dark")
    server.close()
    it.wait_for(LEAVE + r".*fixgw: lost the connection to the panel")
    assert it.end() == 1


def test_it_follows_the_size_of_the_terminal(server: PanelServer, terminal: Open) -> None:
    it = terminal("sim", "panel", server.path, columns=100, rows=4, NO_COLOR="1")
    it.wait_for(r"lamps.*1-6 press")
    assert "GPIO" not in it.shown
    it.resize(100, 30)
    it.wait_for(r"GPIO25")
    it.type("q")
    assert it.end() == 0


def test_a_dumb_terminal_gets_lines(server: PanelServer, terminal: Open) -> None:
    it = terminal("sim", "panel", server.path, TERM="dumb")
    it.wait_for("chip\tplugged\r\n")
    it.type("drive 17 0\n")
    it.wait_for("GPIO17\tin\tlow\tup")
    it.type("\x04")
    assert it.end() == 0


# -- with a whole gateway ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(home: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start a gateway, and return it with its output up to the line that contains `word`."""
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: str, word: str = "", **environ: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environ},
        )
        processes.append(process)
        said = ""
        assert process.stdout is not None
        while word and word not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        return process, said

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_the_panel_of_the_demo_is_found_and_leaves_no_files(
    run: Callable[..., Any], child: Child, tmp_path: Path
) -> None:
    places = {"TMPDIR": str(tmp_path / "tmp"), "XDG_RUNTIME_DIR": str(tmp_path / "run"), "FIXGW_PANEL": ""}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "run").mkdir()
    demo, said = run("demo", "--port", "0", word="Ctrl-C", **places)
    assert "fixgw sim panel\n" in said
    port = re.search(r"port (\d+)\.", said)
    assert port is not None
    with Client(port=int(port[1])) as client:
        knob = client.read("ENC3").value
        assert isinstance(knob, int)
        code, out, err = child("sim", "panel", input="press 0\nturn 0 3\nswitch 1 1\n", **places)
        assert (code, err) == (0, "")
        assert "lamp OIL" in out
        assert wait_for(lambda: client.read("BTN33").value is True)
        assert wait_for(lambda: client.read("BTN40").value is True)
        assert wait_for(lambda: client.read("ENC3").value == knob + 3)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(20) == 0
    assert os.listdir(tmp_path / "tmp") == []
    assert os.listdir(tmp_path / "run") == []


def test_any_gateway_shows_its_pins_with_the_panel_library(run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "panel"
    file = tmp_path / "default.yaml"
    file.write_text("""\
connections:
  pins:
    module: fixgw.drivers.gpio
    library: fixgw.hw_sim.panel_pins
    buttons: [{pin: 17, key: BTN1}]
    outputs: [{pin: 20, when: BTN1}]
""")
    gateway, _ = run("run", "--config-file", str(file), FIXGW_PANEL=str(path))
    assert wait_for(path.exists)
    pipe = Pipe(str(path))
    try:
        pipe.see("GPIO20\tout\tlow\t\t\t")
        pipe.say("drive 17 0")
        pipe.see("GPIO20\tout\thigh\t\t\t")
    finally:
        pipe.process.kill()
        pipe.process.communicate()
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait(20) == 0
    assert not path.exists()
