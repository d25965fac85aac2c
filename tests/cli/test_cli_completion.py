"""Completion in a shell: what argcomplete prints for a command line, with and without a gateway."""

from __future__ import annotations

import functools
import io
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import argcomplete.finders
import pytest

from fixgw.cli import EXIT_FAILED, client_main, completion, main

if TYPE_CHECKING:
    from tests.cli.conftest import Bench

pytestmark = pytest.mark.slow

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> Complete:
    """The completions of a command line at its end."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    # It would write to descriptors 8 and 9, which are something else in this process.
    monkeypatch.setattr(argcomplete.finders.CompletionFinder, "_init_debug_stream", lambda self: None)
    monkeypatch.setattr(completion, "PATIENCE_S", 5.0)  # the machine may be busy
    autocomplete = argcomplete.autocomplete

    def do(line: str, run: Callable[[list[str]], int] = main) -> list[str]:
        out = io.StringIO()
        ours = functools.partial(autocomplete, exit_method=leave, output_stream=out)
        monkeypatch.setattr(argcomplete, "autocomplete", ours)
        facts = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
        for name, value in {
            **facts,
            "COMP_LINE": line,
            "COMP_POINT": str(len(line.encode())),
            "COMP_TYPE": "9",
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            run([])
        return [word.strip() for word in out.getvalue().split("\n") if word.strip()]

    return do


def test_commands_and_options_need_no_gateway(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXGW_PORT", "1")
    assert {"read", "report", "restart"} <= set(complete("fixgw re"))
    assert complete("fixgw canf") == ["canfix"]
    assert {"nodes", "monitor", "report"} <= set(complete("fixgw canfix "))
    assert complete("fixgw watch --un") == ["--units"]
    assert complete("fixgw --conf") == ["--config-file"]
    assert "us" in complete("fixgw watch --units ")
    assert complete("fixgw flag IAS b") == ["bad"]
    assert complete("fixgw flag IAS bad o") == ["on", "off"]
    assert complete("fixgw nonsense x") == []
    assert "run" not in complete("fixgwc r", client_main)
    assert complete("fixgw read I") == []


def test_keys_aux_values_and_connections_of_a_running_gateway(bench: Bench, complete: Complete) -> None:
    assert complete("fixgw read EG") == ["EGT11", "EGT12"]
    assert complete("fixgw watch ia") == ["IAS"]
    assert complete("fixgw write IAS.V") == ["IAS.Vs", "IAS.Vne"]
    assert complete("fixgw write NOPE.") == []
    assert complete("fixgw write IAS ") == []
    assert complete("fixgw explain IAS ALT BA") == ["BARO"]
    assert complete("fixgw report AL") == ["ALT"]
    assert complete("fixgw status ") == ["netfix"]
    assert complete("fixgw log n") == ["netfix"]
    assert complete(f"fixgwc --port {bench.port} read BA", client_main) == ["BARO"]
    assert complete("fixgwc --port 1 read BA", client_main) == []
    assert complete(f"fixgw read --port {bench.port} BA") == ["BARO"]


def test_files_are_completed_where_files_are_wanted(
    complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert complete("fixgw check mi") == ["mine.yaml"]
    assert complete("fixgw run --config-file mi") == ["mine.yaml"]


def test_a_gateway_that_does_not_answer_holds_up_nobody(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("FIXGW_PORT", str(silent.getsockname()[1]))
        before = time.monotonic()
        assert complete("fixgw read I") == []
        assert time.monotonic() - before < 2.0
    for thread in threading.enumerate():
        if thread.name.startswith("completion"):
            thread.join(5)


def test_without_argcomplete_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setitem(sys.modules, "fixgw.cli.completion", None)
    assert main(["run"]) == EXIT_FAILED
    assert "_ARGCOMPLETE" in os.environ
