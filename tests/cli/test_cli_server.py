"""run, check, config and plugins: in this process where possible, otherwise in a child process."""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from fixgw import configuration
from fixgw.cli import server
from fixgw.errors import ConfigurationError
from fixgw.logmemory import memory
from fixgw.logqueue import QueuedHandler

if TYPE_CHECKING:
    from tests.cli.conftest import Result

    Cli = Callable[..., Result]
    Started = Callable[..., subprocess.Popen[str]]

QUIET = "connections:\n  netfix: {module: fixgw.plugins.netfix, port: 0}\n"
BROKEN = "connections:\n  netfix: {module: fixgw.plugins.netfix, prot: 0}\n  gps: {module: fixgw.plugins.gsp}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "default.yaml"
    file.write_text(QUIET)
    return file


def serving(process: subprocess.Popen[str]) -> int:
    """The port on which a gateway listens, from its log."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on \S+ port (\d+)", line):
            return int(found[1])
    raise AssertionError("it never listened")


# -- run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("command", [[], ["run"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_serves_until_it_is_stopped(
    started: Started, file: Path, command: list[str], number: signal.Signals
) -> None:
    process = started(*command, "--config-file", str(file), "--verbose")
    with socket.create_connection(("127.0.0.1", serving(process)), 5) as client:
        client.sendall(b"@rIAS\n")
        assert client.recv(100).startswith(b"@rIAS;")
    process.send_signal(number)
    assert process.wait(20) == 0
    out, err = process.communicate()
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_sighup_rereads_the_configuration(started: Started, file: Path) -> None:
    process = started("run", "--config-file", str(file), "--verbose")
    first = serving(process)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file.write_text(QUIET.replace("port: 0", f"port: {port}"))
    process.send_signal(signal.SIGHUP)
    assert serving(process) == port != first
    process.terminate()
    assert process.wait(20) == 0


def test_run_refuses_a_configuration_with_problems(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text(BROKEN)
    checked, ran = cli("check", str(file)), cli("run", "--config-file", str(file))
    assert (checked.code, checked.err) == (1, "")
    assert (ran.code, ran.out) == (1, "")
    assert len(checked.out.splitlines()) == 2
    assert ran.err == checked.out + "fixgw: 2 problems in the configuration; not started\n"


@pytest.mark.slow
def test_a_service_that_must_not_start_says_why_and_succeeds(child: Cli, tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text("auto start: no\n" + QUIET)
    code, out, err = child("run", "--config-file", str(file), INVOCATION_ID="0123456789abcdef")
    assert (code, out) == (0, "")
    assert f"{file} says `auto start: no`" in err


@pytest.mark.slow
def test_auto_start_has_no_effect_outside_a_service(started: Started, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text("auto start: no\n" + QUIET)
    process = started("--config-file", str(file), "--verbose")
    assert serving(process)


@pytest.mark.slow
def test_the_environment_names_the_configuration(started: Started, file: Path) -> None:
    assert serving(started("--verbose", FIXGW_CONFIG=str(file)))


# -- logging -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def loggers() -> Iterator[logging.Logger]:
    """The root logger without handlers; restored afterwards."""
    root, own = logging.getLogger(), logging.getLogger("fixgw")
    handlers, levels = list(root.handlers), (root.level, own.level)
    for handler in handlers:
        root.removeHandler(handler)
    yield root
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def options(log_config: Path | None = None, verbose: bool = False, debug: bool = False) -> argparse.Namespace:
    return argparse.Namespace(log_config=log_config and str(log_config), verbose=verbose, debug=debug)


def to_file(path: Path, level: str = "WARNING") -> dict[str, object]:
    return {
        "version": 1,
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(path), "level": level}},
        "root": {"level": level, "handlers": ["file"]},
    }


def logged(loggers: logging.Logger, path: Path) -> str:
    """The contents of a log file, once its handler has written everything and is closed."""
    (handler,) = [each for each in loggers.handlers if each is not memory]
    assert isinstance(handler, QueuedHandler)
    assert handler.join(10.0)
    handler.close()
    return path.read_text()


def test_the_log_goes_where_the_configuration_says(loggers: logging.Logger, tmp_path: Path) -> None:
    server.set_up_logging(to_file(tmp_path / "log"), options())
    logging.getLogger("fixgw.x").warning("seen")
    logging.getLogger("fixgw.x").info("not seen")
    assert logged(loggers, tmp_path / "log") == "seen\n"


def test_verbose_overrides_a_quieter_configuration(loggers: logging.Logger, tmp_path: Path) -> None:
    server.set_up_logging(to_file(tmp_path / "log"), options(verbose=True))
    logging.getLogger("fixgw.x").info("seen")
    logging.getLogger("fixgw.x").debug("not seen")
    assert logged(loggers, tmp_path / "log") == "seen\n"


def test_setting_up_the_log_does_not_silence_existing_loggers(loggers: logging.Logger, tmp_path: Path) -> None:
    early = logging.getLogger("fixgw.early")
    server.set_up_logging(to_file(tmp_path / "log"), options())
    assert not early.disabled
    loggers.handlers[0].close()


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_log_config_option_overrides_the_configuration(
    loggers: logging.Logger, tmp_path: Path, wrapped: bool
) -> None:
    own = to_file(tmp_path / "own")
    file = tmp_path / "log.yaml"
    file.write_text(yaml.safe_dump({"logging": own} if wrapped else own))
    server.set_up_logging(to_file(tmp_path / "other"), options(file))
    logging.getLogger("fixgw.x").warning("here")
    assert logged(loggers, tmp_path / "own") == "here\n"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "content", [None, "- a list", "{", "version: 2", "version: 1\nroot: {handlers: [nobody]}", "version: 1\nroot: 7"]
)
def test_an_unusable_log_config_is_a_problem(loggers: logging.Logger, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "log.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        server.set_up_logging(None, options(file))
    assert [problem.file for problem in caught.value.problems] == [str(file)]


@pytest.mark.slow
@pytest.mark.parametrize(("journal", "stamp"), [("", r"\d{4}-\S+ \S+ "), ("8:1", "")])
def test_without_any_configuration_warnings_go_to_stderr(
    monkeypatch: pytest.MonkeyPatch, journal: str, stamp: str
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", journal)
    program = (
        "import argparse, logging; from fixgw.cli import server; "
        "server.set_up_logging(None, argparse.Namespace(log_config=None, verbose=False, debug=False)); "
        "logging.getLogger('fixgw.x').info('not seen'); logging.getLogger('fixgw.x').warning('seen')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert re.fullmatch(stamp + "WARNING fixgw.x: seen\n", done.stderr)


# -- check -------------------------------------------------------------------------------------------------------------


def test_a_good_configuration_is_summarised(cli: Cli, file: Path) -> None:
    code, out, err = cli("check", str(file))
    items = len(configuration.load(file).definitions)
    assert (code, out, err) == (0, f"OK: 1 connection, {items} items ({file})\n", "")


def test_every_problem_is_printed_with_its_position(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text(BROKEN)
    code, out, _ = cli("check", "--config-file", str(file))
    assert code == 1
    first, second = out.splitlines()
    assert re.fullmatch(re.escape(str(file)) + r":2:\d+: .*'prot'.*did you mean 'port'.*", first)
    assert re.fullmatch(re.escape(str(file)) + r":3:\d+: .*fixgw\.plugins\.gsp.*", second)


def test_problems_can_be_printed_as_json(cli: Cli, tmp_path: Path, file: Path) -> None:
    assert json.loads(cli("check", str(file), "--json").out) == []
    file.write_text(BROKEN)
    code, out, _ = cli("check", str(file), "--json")
    assert code == 1
    assert [(p["file"], p["line"]) for p in json.loads(out)] == [(str(file), 2), (str(file), 3)]


def test_a_missing_file_is_a_problem_too(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("check", str(tmp_path / "nowhere.yaml"))
    assert code == 1
    assert "nowhere.yaml" in out


# -- config ------------------------------------------------------------------------------------------------------------


def test_init_copies_a_valid_configuration_and_never_overwrites(cli: Cli, home: Path) -> None:
    directory = home / ".config" / "fixgw"
    assert cli("config", "init", str(directory)).code == 0
    assert cli("config", "path").out == f"{directory / 'default.yaml'}\n"
    assert cli("check").code == 0
    (directory / "default.yaml").write_text(QUIET)
    code, out, _ = cli("config", "init", str(directory))
    assert code == 0
    assert f"{directory / 'default.yaml'}: kept" in out
    assert (directory / "default.yaml").read_text() == QUIET


def test_init_copies_an_aircraft_of_the_gallery(cli: Cli, tmp_path: Path) -> None:
    assert "vw-single-seater" in cli("config", "init", "--example", "list").out.splitlines()
    code, out, err = cli("config", "init", str(tmp_path / "glider"), "--example", "motor-glidr")
    assert (code, out) == (1, "")
    assert err.startswith("fixgw: no aircraft 'motor-glidr' (did you mean 'motor-glider'?): auto-engine, ")
    assert cli("config", "init", str(tmp_path / "glider"), "--example", "motor-glider").code == 0
    assert cli("check", str(tmp_path / "glider" / "default.yaml")).code == 0


def test_init_needs_a_directory_that_it_can_create(cli: Cli, tmp_path: Path) -> None:
    assert cli("config", "init").code == 2
    assert cli("config", "path", str(tmp_path)).code == 2
    (tmp_path / "file").write_text("")
    code, out, err = cli("config", "init", str(tmp_path / "file" / "sub"))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


def test_show_prints_the_effective_configuration(cli: Cli, file: Path) -> None:
    out = cli("config", "show", "--config-file", str(file)).out
    shown = yaml.safe_load(out)
    assert shown["connections"]["netfix"]["module"] == "fixgw.plugins.netfix"
    assert shown["connections"]["netfix"]["port"] == 0
    assert shown == json.loads(cli("config", "show", "--json", "--config-file", str(file)).out)
    file.write_text(BROKEN)
    code, out, err = cli("config", "show", "--config-file", str(file))
    assert (code, out, err.count("\n")) == (1, "", 2)


def test_the_schema_describes_the_options_of_plugins(cli: Cli) -> None:
    schema = json.loads(cli("config", "schema").out)
    assert "connections" in schema["properties"]
    assert "rate_limit" in json.dumps(schema)


def test_a_stray_directory_is_refused(cli: Cli) -> None:
    assert cli("config", "path", "somewhere").code == 2


# -- plugins -----------------------------------------------------------------------------------------------------------


def test_plugins_are_listed_with_a_summary_and_their_options(cli: Cli) -> None:
    code, out, _ = cli("plugins")
    assert code == 0
    for name in ("netfix", "nmea0183", "skel", "demo"):
        assert re.search(rf"^{name} +\S", out, re.MULTILINE)
    assert "stall_timeout" in out


@pytest.mark.parametrize("name", ["netfix", "fixgw.plugins.netfix"])
def test_one_plugin_is_described_option_by_option(cli: Cli, name: str) -> None:
    code, out, _ = cli("plugins", name)
    assert code == 0
    assert "  port: whole number, 0 to 65535; default 3490\n      Port to listen on" in out
    assert "outputs[].host: " in out


def test_plugins_can_be_printed_as_json(cli: Cli) -> None:
    found = {p["name"]: p for p in json.loads(cli("plugins", "--json").out)}
    assert found["netfix"]["module"] == "fixgw.plugins.netfix"
    assert {o["name"]: o["default"] for o in found["netfix"]["options"]}["host"] == "127.0.0.1"
    (skel,) = json.loads(cli("plugins", "skel", "--json").out)
    assert skel == found["skel"]


def test_any_module_on_the_path_can_be_described(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "cli_test_plugins"
    package.mkdir()
    (package / "old.py").write_text(
        '"""Something of long ago.\n\nAnd more."""\nimport plugin\nclass Plugin(plugin.PluginBase):\n    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = cli("plugins", "cli_test_plugins.old")
    assert code == 0
    assert "old: Something of long ago." in out
    assert "does not declare its options" in out


@pytest.mark.parametrize("name", ["netfxi", "no.such.module"])
def test_an_unknown_plugin_is_refused(cli: Cli, name: str) -> None:
    code, out, err = cli("plugins", name)
    assert (code, out) == (1, "")
    assert name in err


OWN = '''"""Reads my thermometer."""
from fixgw.plugin import PluginBase


class Plugin(PluginBase):
    pass
'''


@pytest.mark.parametrize("place", [".", "conf", "conf/mine"], ids=["here", "beside the main file", "plugin path"])
def test_a_user_module_is_described_wherever_the_gateway_would_find_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    (tmp_path / "conf/mine").mkdir(parents=True)
    main = tmp_path / "conf/default.yaml"
    main.write_text("plugin path: [mine]\nconnections: {}\n")
    name = f"own_thermometer_{len(place)}"
    (tmp_path / place / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    code, out, _ = cli("plugins", name, "--config-file", str(main))
    assert (code, out.splitlines()[0]) == (0, f"{name}: Reads my thermometer.")
    code, out, _ = cli("plugins", f"./{place}/{name}.py")
    assert (code, out.splitlines()[0]) == (0, f"{name}: Reads my thermometer.")
    assert cli("plugins", "own_nothing").err == "fixgw: there is no module 'own_nothing'\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mgl", "fixgw.drivers.mgl_rdac replaces fixgw.plugins.mgl\n"),
        ("fixgw.plugins.dynon", "fixgw.drivers.dynon_d10 replaces fixgw.plugins.dynon\n"),
        ("gui", "fixgw.plugins.gui: left out: `fixgw watch`"),
    ],
)
def test_asking_for_a_plugin_of_the_incumbent_names_its_replacement(cli: Cli, name: str, words: str) -> None:
    code, _, err = cli("plugins", name)
    assert code == 1
    assert err.startswith(f"fixgw: {words}")
