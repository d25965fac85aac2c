"""fixgw override, and what write and flag say when a source writes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def permitted(bench: Bench) -> None:
    bench.stop()
    bench.connection_options = "admin: [127.0.0.1]"
    bench.start()


def test_a_value_is_overridden_listed_and_released(bench: Bench, cli: Cli) -> None:
    bench.db.write("IAS", 80.0, "eis")
    assert cli("override", "IAS", "120", "f", "--for", "10m").out == (
        "IAS  120  fail, for 10 min; `fixgw override release IAS` ends it\n"
    )
    assert cli("override").out == "IAS  120  fail  by netfix/127.0.0.1, for 10 min more\n"
    assert cli("status").out.startswith("DEGRADED: 1 of 1 connections well; 1 override: IAS\n")
    explained = cli("explain", "IAS").out
    assert "It is overridden, for 10 min more: `fixgw override release IAS` ends that." in explained
    assert "eis  80 knots  good" in explained
    assert cli("override", "release", "IAS") == (0, "", "")
    assert cli("override", "list").out == "nothing is overridden\n"
    assert bench.db.read("IAS").value == 80.0


def test_all_are_released_at_once(bench: Bench, cli: Cli) -> None:
    for key in ("IAS", "ALT"):
        assert cli("override", key, "100").code == 0
    assert cli("override", "release", "all").code == 0
    assert bench.db.overridden() == {}
    assert cli("override", "release", "IAS") == (1, "", "fixgw: IAS is not overridden\n")


def test_what_cannot_be_overridden_says_why(bench: Bench, cli: Cli) -> None:
    assert cli("override", "IAS", "fast").err == "fixgw: IAS: 'fast' is not a number\n"
    assert cli("override", "ISA", "3").err == "fixgw: no item 'ISA' (did you mean 'IAS'?)\n"
    assert cli("override", "IAS", "3", "--for", "2h").err == "fixgw: IAS: 7200 s: an override lasts at most 60 min\n"
    assert "there is no flag" in cli("override", "IAS", "3", "q").err
    assert cli("override", "IAS").code == 2
    assert bench.db.overridden() == {}


def test_a_write_that_a_source_replaces_says_so(bench: Bench, cli: Cli) -> None:
    bench.db.write("IAS", 80.0, "eis")
    advice = "fixgw: eis keeps writing IAS, and replaces this: `fixgw override IAS VALUE` holds a value\n"
    assert cli("write", "IAS", "100") == (0, "IAS  100  knots  good\n", advice)
    assert cli("write", "BARO", "29.5").err == ""


def test_the_status_of_one_connection(bench: Bench, cli: Cli) -> None:
    shown = cli("status", "netfix")
    assert shown.code == 0
    assert "listening: 127.0.0.1" in shown.out
    assert cli("status", "netfx").err == "fixgw: there is no connection 'netfx' (did you mean 'netfix'?)\n"


def test_a_list_looks_at_units_too(bench: Bench, cli: Cli) -> None:
    assert cli("list", "KNOTS").out == "IAS\n"
