"""Common to all commands: help, version, usage errors, and imports on demand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixgw import __version__
from fixgw.cli import CLIENT, SERVER, client_main, main, stop_on_signal

if TYPE_CHECKING:
    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

COMMANDS = {**SERVER, **CLIENT}


def loaded_by(*argv: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    program = (
        "import sys, json; from fixgw.cli import main; main(sys.argv[1:]); "
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], capture_output=True, text=True, timeout=30, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_lists_every_command_with_its_purpose_and_examples(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for name, command in COMMANDS.items():
        assert f"{name:<14} {command.summary}" in out
    assert "fixgw watch IAS ALT" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_begins_with_its_purpose(cli: Cli, name: str) -> None:
    code, out, err = cli(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: fixgw {name}")
    assert COMMANDS[name].summary[1:] in out
    assert "examples:" in out


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version") == (0, f"fixgw {__version__}\n", "")


def test_a_misspelled_command_gets_a_suggestion(cli: Cli) -> None:
    code, out, err = cli("wacth", "IAS")
    assert (code, out) == (2, "")
    assert "no command 'wacth' (did you mean 'watch'?)" in err


@pytest.mark.parametrize(
    "argv",
    [
        ["read"],
        ["write", "IAS"],
        ["flag", "IAS", "x", "on"],
        ["flag", "IAS", "fail", "perhaps"],
        ["write", "IAS", "1", "old"],
        ["write", "IAS", "1", "xyz"],
        ["watch", "--count", "0"],
        ["watch", "--duration", "soon"],
        ["list", "--port", "0"],
        ["list", "--port", "70000"],
        ["list", "--timeout", "nan"],
        ["config", "eat"],
        ["run", "--no-such-option"],
        ["--debug", "list"],
    ],
)
def test_wrong_usage_is_one_line_on_stderr_and_code_2(cli: Cli, argv: list[str]) -> None:
    code, out, err = cli(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("fixgw ")
    assert err.count("\n") == 1


def test_options_before_the_command_belong_to_it(cli: Cli) -> None:
    assert cli("--config-file", "/nowhere.yaml", "config", "path") == (0, "/nowhere.yaml\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("place", range(3))
def test_options_may_stand_anywhere(cli: Cli, tmp_path: Path, place: int) -> None:
    (tmp_path / "main.yaml").write_text("connections:\n  panel: {module: fixgw.plugins.netfix, port: 3491}\n")
    words = ["explain", "panel"]
    words[place:place] = ["--config-file", str(tmp_path / "main.yaml")]
    code, out, err = cli("config", *words)
    assert (code, err, out.splitlines()[0]) == (0, "", "panel: fixgw.plugins.netfix")
    code, out, err = cli("config", *words, "more")
    assert (code, out) == (2, "")
    assert "unrecognized arguments: more" in err


def test_without_a_gateway_a_command_says_so_in_a_sentence(cli: Cli) -> None:
    for command in (["list"], ["read", "IAS"], ["status"], ["watch", "IAS"], ["explain", "IAS"]):
        code, out, err = cli(*command, "--port", "1")
        assert (code, out) == (1, "")
        assert err == "fixgw: no gateway answers at 127.0.0.1:1: start one with `fixgw run`, or try `fixgw demo`\n"


@pytest.mark.slow
def test_the_advice_differs_for_a_gateway_on_another_computer(cli: Cli) -> None:
    code, _, err = cli("list", "--host", "127.0.0.2", "--port", "1")
    assert code == 1
    assert "127.0.0.2:1 (Connection refused)" in err
    assert "`allow`" in err


@pytest.mark.slow
def test_fixgwc_has_only_client_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert client_main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: fixgwc" in out
    assert "  watch " in out
    assert "  run " not in out
    assert client_main(["run"]) == 2
    assert client_main(["--port", "1", "list"]) == 1
    assert "no gateway answers at 127.0.0.1:1" in capsys.readouterr().err


def test_main_takes_its_arguments_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fixgw", "--version"])
    assert main() == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.slow
def test_help_imports_nothing_but_the_parser() -> None:
    loaded = loaded_by("--help")
    assert {m for m in loaded if m.startswith("fixgw.")} == {"fixgw.cli", "fixgw.errors"}
    assert not {"yaml", "msgspec", "logging", "socket"} & loaded


@pytest.mark.slow
def test_a_client_command_imports_no_part_of_the_gateway() -> None:
    loaded = loaded_by("list", "--port", "1")
    assert not {"yaml", "fixgw.gateway", "fixgw.configuration", "fixgw.cli.watch", "fixgw.cli.console"} & loaded


@pytest.mark.slow
def test_the_help_of_run_imports_neither_client_nor_gateway() -> None:
    loaded = loaded_by("run", "--help")
    assert not {"yaml", "fixgw.gateway", "fixgw.netfix", "readline"} & loaded


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_a_command_end_well_and_a_later_one_ends_it(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr("fixgw.cli.SAME_SIGNAL_S", 1000.0)
    with stop_on_signal() as over:
        signal.raise_signal(number)
        signal.raise_signal(number)  # as `timeout` does
        assert over.is_set()
    monkeypatch.setattr("fixgw.cli.SAME_SIGNAL_S", 0.0)
    with stop_on_signal():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
