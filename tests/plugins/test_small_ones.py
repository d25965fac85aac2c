"""system, test, dimmer and command: plugins that installations have."""

from __future__ import annotations

import errno
import io
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixgw import configuration
from fixgw.database import FAIL, INITIAL, Database, Definition
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins import command, dimmer, system, test
from fixgw.world import World

NOON = 1_800_000_000.25  # 2027-01-15 08:00:00.25 UTC


def text(key: str, tolerance: int = 2000) -> Definition:
    return Definition(key=key, type="str", tolerance=tolerance)


def whole(key: str) -> Definition:
    return Definition(key=key, type="int", min=0, max=60, tolerance=2000)


@pytest.fixture
def db(clock: Clock) -> Database:
    return Database(
        [
            *map(whole, ("TIMEZS", "TIMEZM", "TIMEZH")),
            text("TIMEZ"),
            text("TIMEL", 0),
            Definition(key="IAS", max=500.0, tolerance=2000),
            Definition(key="GEAR", type="bool"),
            Definition(key="DIM", type="int", min=0, max=100, initial=100, setting=True),
        ],
        clock,
    )


@pytest.fixture
def make(db: Database) -> Callable[..., Any]:
    """Make a plugin in a world with the database."""

    def make(module: Any, **options: Any) -> Any:
        with world.hosting():
            return module.Plugin("it", options)

    asked: list[str] = []
    world = World(db, quit=asked.append, status=lambda: {"health": "ok"})
    make.asked = asked  # type: ignore[attr-defined]
    return make


# -- system ------------------------------------------------------------------------------------------------------------

STOCK = {"enable": True, "keys": {"gmt_string": "TIMEZ", "gmt_seconds": "TIMEZS", "local_string": "TIMEL"}}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "EST5EDT")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_time_is_written(make: Callable[..., Any], db: Database, here: None) -> None:
    plugin = make(system, time=STOCK)
    plugin.wall_clock = lambda: NOON
    plugin.write_time()
    assert db.read("TIMEZ").value == "08:00:00 Z"
    assert db.read("TIMEL").value == "03:00:00 EST"
    assert db.read("TIMEZS").good
    assert db.read("TIMEZH").old, "not among the keys"
    assert db.read("TIMEZ").source == "it"


def test_without_keys_those_of_the_incumbents_stock_are_written(make: Callable[..., Any], db: Database) -> None:
    plugin = make(system, time={"enable": True})
    plugin.wall_clock = lambda: NOON
    plugin.write_time()
    assert [db.read(key).value for key in ("TIMEZH", "TIMEZM", "TIMEZS")] == [8, 0, 0]
    assert db.read("TIMEL").good


def test_a_clock_that_has_not_been_set_fails_its_keys(make: Callable[..., Any], db: Database) -> None:
    plugin = make(system, time=STOCK)
    plugin.wall_clock = lambda: 86400.0 * 3
    plugin.write_time()
    reading = db.read("TIMEZ")
    assert reading.fail
    assert reading.reason(FAIL) == system.NOT_SET
    assert plugin.health() == "the clock has not been set"
    plugin.wall_clock = lambda: NOON
    plugin.write_time()
    assert db.read("TIMEZ").good
    assert plugin.health() == ""


def test_a_receiver_comes_first(make: Callable[..., Any], db: Database, clock: Clock) -> None:
    plugin = make(system, time=STOCK)
    plugin.wall_clock = lambda: NOON
    db.write("TIMEZ", "08:00:03 Z", "gps", flags=0)
    plugin.write_time()
    assert db.read("TIMEZ").value == "08:00:03 Z"
    assert db.read("TIMEL").source == "it"
    clock.now += 2.5
    plugin.write_time()
    assert db.read("TIMEZ").source == "it"


def test_a_start_value_is_no_receiver(make: Callable[..., Any], db: Database) -> None:
    plugin = make(system, time=STOCK)
    plugin.wall_clock = lambda: NOON
    db.write("TIMEZ", "", INITIAL)
    plugin.write_time()
    assert db.read("TIMEZ").value == "08:00:00 Z"


def test_it_writes_on_the_second(make: Callable[..., Any]) -> None:
    plugin = make(system, time=STOCK)
    waits: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            self.set()
            return True

    plugin.stopping, plugin.wall_clock = Stopping(), lambda: NOON
    plugin.work()
    assert waits == [0.75]


def test_what_is_wrong_with_the_keys(db: Database) -> None:
    options = system.Options(time=system.Time(enable=True, keys=system.Keys(gmt_hours="TIMEZ", gmt_string="TIMEX")))
    assert [option for option, _ in system.Plugin.check(options, db)] == ["time.keys.gmt_hours", "time.keys.gmt_string"]
    assert list(system.Plugin.check(system.Options(), db)) == []


@pytest.mark.parametrize("form", ["%H\n%M", "x" * 100_000])
def test_a_format_that_the_key_refuses_is_a_finding(db: Database, form: str) -> None:
    keys = system.Keys(gmt_string="TIMEZ", local_string="TIMEL")
    options = system.Options(time=system.Time(enable=True, keys=keys, gmt_format=form, local_format=form))
    assert [o for o, _ in system.Plugin.check(options, db)] == ["time.gmt_format", "time.local_format"]


# -- test --------------------------------------------------------------------------------------------------------------


def test_random_values_are_marked(make: Callable[..., Any], db: Database) -> None:
    plugin = make(test, key="IAS", low=60, high=70, delay=0.01)
    plugin.clock = time.monotonic
    plugin.start()
    deadline = time.monotonic() + 10
    while plugin.counts.get("values", 0) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    plugin.shutdown()
    assert db.read("IAS").source == "sim/it"
    assert 60 <= float(db.read("IAS").value) <= 70


def test_low_and_high_in_the_wrong_order() -> None:
    with pytest.raises(ValueError, match="high"):
        test.Options(key="IAS", low=2, high=1)


# -- dimmer ------------------------------------------------------------------------------------------------------------


def test_the_brightness_follows(make: Callable[..., Any], db: Database, tmp_path: Path, clock: Clock) -> None:
    device = tmp_path / "brightness"
    plugin = make(dimmer, DimmerDevice=str(device), Multiplier=2.55)
    plugin.clock = clock
    db.write("DIM", 50, INITIAL)
    plugin.follow()
    plugin.step(0.0)
    assert plugin.health() == f"{device}: No such file or directory"
    device.write_text("")
    (tmp_path / "max_brightness").write_text("200\n")
    clock.now += 0.4
    plugin.tick(clock.now)
    assert device.read_text() == "", "it waits before it tries again"
    clock.now += 0.2
    plugin.tick(clock.now)
    assert device.read_text() == "127\n"
    assert plugin.health() == ""
    db.write("DIM", 100, "knob")
    plugin.step(0.0)
    assert device.read_text() == "200\n", "not more than the screen's maximum"
    db.item("DIM").fail("the knob is broken", "knob")
    plugin.step(0.0)
    assert device.read_text() == "200\n"
    assert plugin.get_status()["brightness"] == 200


def test_a_device_that_comes_back_gets_its_brightness(
    make: Callable[..., Any], db: Database, tmp_path: Path, clock: Clock
) -> None:
    device = tmp_path / "brightness"
    device.write_text("0\n")
    plugin = make(dimmer, DimmerDevice=str(device))
    plugin.clock = clock
    db.write("DIM", 50, "knob")
    plugin.follow()
    plugin.step(0.0)
    assert device.read_text() == "50\n"
    device.unlink()
    clock.now += 1.0
    plugin.step(0.0)
    assert "No such file" in plugin.health()
    replaced = tmp_path / "new"  # it exists at the same time, so that its inode is another
    replaced.write_text("100\n")
    replaced.rename(device)
    clock.now += 20.0
    plugin.step(0.0)
    assert (device.read_text(), plugin.health()) == ("50\n", "")
    replaced.write_text("100\n")
    replaced.rename(device)
    clock.now += 1.0
    plugin.step(0.0)
    assert device.read_text() == "50\n", "it was replaced between two looks"


@pytest.mark.parametrize(("dim", "written"), [(0, "0\n"), (1, "1\n"), (40, "4\n")])
def test_the_screen_is_dark_only_if_it_is_meant_to_be(
    dim: int, written: str, make: Callable[..., Any], db: Database, tmp_path: Path
) -> None:
    device = tmp_path / "brightness"
    device.write_text("")
    plugin = make(dimmer, DimmerDevice=str(device), Multiplier=0.1)
    db.write("DIM", dim, "knob")
    plugin.follow()
    plugin.step(0.0)
    assert device.read_text() == written


@pytest.mark.parametrize(("code", "hint"), [(errno.EACCES, "group 'video'"), (errno.EROFS, "unit")])
def test_a_file_that_may_not_be_written_gives_a_hint(
    code: int, hint: str, make: Callable[..., Any], db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    plugin = make(dimmer, DimmerDevice=str(tmp_path / "brightness"))
    db.write("DIM", 50, "knob")
    plugin.follow()
    monkeypatch.setattr(os, "open", refuse)
    plugin.step(0.0)
    monkeypatch.undo()
    assert hint in plugin.health()


def test_a_pipe_that_nobody_reads_does_not_hang_the_dimmer(
    make: Callable[..., Any], db: Database, tmp_path: Path
) -> None:
    device = tmp_path / "brightness"
    os.mkfifo(device)
    plugin = make(dimmer, DimmerDevice=str(device))
    db.write("DIM", 50, "knob")
    plugin.follow()
    thread = threading.Thread(target=plugin.step, args=(0.0,), daemon=True)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()
    assert plugin.health() == f"{device}: No such device or address"


# -- command -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def prompt(make: Callable[..., Any]) -> Any:
    plugin = make(command)
    plugin.output = io.StringIO()
    return plugin


def said(plugin: Any) -> str:
    text = str(plugin.output.getvalue())
    plugin.output.seek(0)
    plugin.output.truncate()
    return text


def test_commands(prompt: Any, db: Database) -> None:
    prompt.do(["write", "IAS", "101.5"])
    prompt.do(["read", "IAS"])
    assert said(prompt) == "IAS = (101.5, False, False, False, False, False)\n"
    prompt.do(["sub", "IAS"])
    prompt.do(["flag", "IAS", "b", "high"])
    prompt._tell_news()
    assert said(prompt) == "IAS = (101.5, False, False, True, False, False)\n"
    prompt.do(["flag", "IAS", "a", "1"])
    assert db.read("IAS").annunciate
    prompt.do(["flag", "IAS", "a", "no"])
    assert not db.read("IAS").annunciate
    prompt.do(["unsub", "IAS"])
    prompt.do(["write", "IAS", "90"])
    prompt._tell_news()
    prompt.do(["list"])
    assert said(prompt).splitlines()[-8:] == sorted(db)
    prompt.do(["status"])
    assert said(prompt) == "health: ok\n"
    prompt.do(["report", "IAS"])
    assert "writes: 2" in said(prompt)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("read NOPE", "NOPE"),
        ("flag NOPE b true", "NOPE"),
        ("flag IAS x true", "flag KEY"),
        ("flag IAS b perhaps", "flag KEY"),
        ("write IAS fast", "'fast' is not a number"),
        ("write IAS", "write KEY VALUE"),
        ("read", "read KEY"),
        ("unsub IAS", "not subscribed"),
        ("jump", "there is no command 'jump'"),
    ],
)
def test_what_is_wrong_is_said(prompt: Any, line: str, expected: str) -> None:
    prompt.do(line.split())
    assert expected in said(prompt)


def test_without_a_terminal_it_idles(prompt: Any, make: Any) -> None:
    prompt.input = io.StringIO("quit\n")
    prompt.start()
    prompt.stopping.wait(0.05)
    assert prompt.is_running()
    assert prompt.health() == ""
    prompt.shutdown()
    assert make.asked == []
    assert command.NO_TERMINAL in prompt.get_status()


@pytest.mark.slow
@pytest.mark.parametrize(("quits", "asked"), [(True, ["it"]), (False, [])])
def test_at_a_terminal(make: Any, db: Database, quits: bool, asked: list[str]) -> None:
    ours, theirs = pty.openpty()
    plugin = make(command, quit=quits)
    with open(theirs, closefd=True) as terminal:
        plugin.input, plugin.output = terminal, io.StringIO()
        plugin.start()
        os.write(ours, b"write IAS 88\n")
        deadline = time.monotonic() + 10
        while db.read("IAS").value != 88.0:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.write(ours, b"quit\n")
        while plugin.done_with is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        plugin.shutdown()
    os.close(ours)
    assert make.asked == asked


BACKGROUND = """
import fcntl, os, termios
from fixgw.plugins.command import _in_foreground
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
print(_in_foreground(0), flush=True)
if os.fork() == 0:
    os.setpgid(0, 0)
    print(_in_foreground(0), flush=True)
else:
    os.wait()
"""


def test_a_process_in_the_background_knows_that_it_is() -> None:
    ours, theirs = pty.openpty()
    try:
        run = [sys.executable, "-c", BACKGROUND]
        done = subprocess.run(run, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True, timeout=30, check=True)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout.split() == [b"True", b"False"]


def test_in_the_background_the_terminal_is_not_read(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read it there would stop the whole gateway."""
    ours, theirs = pty.openpty()
    plugin = make(command)

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp() + 1)
    with open(theirs, closefd=True) as terminal:
        plugin.input, plugin.output, plugin.stopping = terminal, io.StringIO(), Stopping()
        os.write(ours, b"quit\n")
        plugin.work()
        assert plugin.done_with is None
    os.close(ours)


# -- all of them -------------------------------------------------------------------------------------------------------


def test_the_incumbents_sections_load(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text("""\
connections:
  system:
    module: fixgw.plugins.system
    time:
      enable: true
      keys:
        gmt_seconds: TIMEZS
        gmt_minutes: TIMEZM
        gmt_hours: TIMEZH
        gmt_string: TIMEZ
        local_seconds: null
        local_minutes:
        local_hours:
        local_string: TIMEL
      gmt_format: "%H:%M:%S Z"
      local_format: "%H:%M:%S %Z"
  dimmer: {module: fixgw.plugins.dimmer, DimmerDevice: /sys/class/backlight/a/brightness, Multiplier: 2.55}
  command: {module: fixgw.plugins.command, prompt: "FIX>", quit: yes}
  test: {module: fixgw.plugins.test, key: IAS, low: 0, high: 100, delay: 1}
  quorum: {module: fixgw.plugins.quorum, nodeid: 2, total_nodes: 2}
""")
    assert configuration.check(tmp_path / "default.yaml") == []
