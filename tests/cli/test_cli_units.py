"""Decimals and units for people in read, explain and watch, against a real gateway. Data for programs has neither."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from fixgw.errors import Refused
from fixgw.netfix import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.delenv("FIXGW_UNITS", raising=False)
    bench.stop()
    bench.entries = bench.entries.replace("units: degC,", "units: degC, decimals: 0,").replace(
        "units: inHg,", "units: inHg, decimals: 2,"
    )
    bench.start()
    bench.db.item("EGT11").write(768.3333, "eis")
    bench.db.item("BARO").write(29.921, "knob")
    return bench


def test_values_are_read_with_their_decimals_below_each_other(bench: Bench, cli: Cli) -> None:
    assert cli("read", "EGT11", "BARO", "IAS.Vne").out == (
        "EGT11    768     degC   good\nBARO      29.92  inHg   good\nIAS.Vne  -       knots\n"
    )


def test_units_by_option_and_by_environment(bench: Bench, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("read", "EGT11", "--units", "us").out == "EGT11  1415  degF  good\n"
    monkeypatch.setenv("FIXGW_UNITS", "us,hPa")
    assert cli("read", "BARO").out == "BARO  1013.2  hPa  good\n"
    assert "EGT11 = 1415 degF, good." in cli("explain", "EGT11").out
    assert cli("read", "EGT11", "--units", "degC").out == "EGT11  768  degC  good\n"
    monkeypatch.setenv("FIXGW_UNITS", "furlongs")
    assert "'furlongs' is neither a system of units" in cli("read", "EGT11").err


def test_programs_get_the_values_as_they_are(
    bench: Bench, cli: Cli, child: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIXGW_UNITS", "us")
    assert json.loads(cli("read", "EGT11", "--json").out)["EGT11"]["value"] == 768.3333
    facts = json.loads(cli("explain", "EGT11", "--json").out)["EGT11"]
    assert (facts["value"], facts["units"], facts["decimals"]) == (768.3333, "degC", 0)
    assert child("watch", "EGT11", "--count", "1").out == "EGT11\t768.3333\tdegC\tgood\n"
    assert "768.3333" in cli("write", "EGT12", "768.3333").out


def test_the_answer_to_a_query_is_as_ever_and_another_one_has_the_decimals(bench: Bench) -> None:
    with Client("127.0.0.1", bench.port) as client:
        assert client._ask("@qEGT11").count(";") == 6
        assert client.definitions() == {key: {"decimals": 0} for key in ("EGT11", "EGT12")} | {"BARO": {"decimals": 2}}


def test_a_gateway_that_does_not_know_decimals(bench: Bench, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Client) -> dict[str, object]:
        raise Refused("@xdefinitions", "004")

    monkeypatch.setattr(Client, "definitions", refuse)
    assert cli("read", "EGT11").out == "EGT11  768.3333  degC  good\n"
    monkeypatch.setattr(Client, "definitions", lambda self: {"EGT11": {"decimals": "many"}, "BARO": 7})
    assert cli("read", "EGT11").out == "EGT11  768.3333  degC  good\n"
