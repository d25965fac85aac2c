"""fixgw log, against a real gateway."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from fixgw import logmemory

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fresh = logmemory.LogMemory()
    monkeypatch.setattr(logmemory, "memory", fresh)
    logging.getLogger("fixgw").addHandler(fresh)
    yield
    logging.getLogger("fixgw").removeHandler(fresh)


def test_the_latest_lines_of_a_connection(bench: Bench, cli: Cli) -> None:
    log = logging.getLogger("fixgw.plugins.netfix")
    for n in range(60):
        log.warning("line %d\x1b[31m\nmore", n)
    logging.getLogger("fixgw.gateway").warning("of the gateway")
    shown = cli("log", "netfix", "-n", "2").out
    assert re.fullmatch(r"(\d\d:\d\d:\d\d\.\d{3} WARNING netfix: line 5[89]\\x1b\[31m\n    more\n){2}", shown), shown
    assert len(cli("log", "netfix").out.splitlines()) == 100
    assert cli("log", "-n", "1").out.endswith("WARNING gateway: of the gateway\n")
    assert json.loads(cli("log", "-n", "1", "--json").out)["text"] == "of the gateway"


def test_more_than_fits_into_one_answer(bench: Bench, cli: Cli) -> None:
    log = logging.getLogger("fixgw.plugins.netfix")
    for n in range(100):
        log.warning("%04d %s", n, "x" * 1500)
    shown = cli("log", "netfix", "-n", "1000").out.splitlines()
    assert [line.split(": ")[1][:4] for line in shown] == [f"{n:04}" for n in range(100)]


def test_an_unknown_connection(bench: Bench, cli: Cli) -> None:
    assert cli("log", "netfx").err == "fixgw: there is no connection 'netfx' (did you mean 'netfix'?)\n"
