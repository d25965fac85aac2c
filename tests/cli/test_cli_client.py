"""list, read, write, flag, report, explain and status, against a real gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fixgw.cli.client import matching
from fixgw.database import ANNUNCIATE, BAD, FAIL, SECFAIL

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.cli.conftest import Bench, Result

    Cli = Callable[..., Result]


# -- list --------------------------------------------------------------------------------------------------------------


def test_list_prints_keys_in_the_order_of_their_definition(bench: Bench, cli: Cli) -> None:
    assert cli("list").out.split() == bench.db.keys()


@pytest.mark.parametrize(
    ("patterns", "keys"),
    [
        (["EGT*"], ["EGT11", "EGT12"]),
        (["egt"], ["EGT11", "EGT12"]),
        (["A"], ["IAS", "ALT", "BARO", "GEAR", "ACID"]),
        (["?A*", "COUNT"], ["IAS", "BARO", "COUNT"]),
        (["EGT1[2-9]"], ["EGT12"]),
    ],
)
def test_list_takes_patterns_and_parts_of_keys(bench: Bench, cli: Cli, patterns: list[str], keys: list[str]) -> None:
    assert cli("list", *patterns).out.split() == keys


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("EGT*", ["EGT11"]), ("egtb*", ["EGTBTN1"]), ("EGTBTN?", ["EGTBTN1"]), ("*", ["BTN1", "EGT11", "EGTBTN1"]),
        ("EGT[B1]*", ["EGT11"]), ("*btn*", ["BTN1", "EGTBTN1"]), ("NO*", []),
    ],
)  # fmt: skip
def test_a_pattern_leaves_out_buttons_unless_it_says_so(pattern: str, keys: list[str]) -> None:
    assert matching(pattern, ["BTN1", "EGT11", "EGTBTN1"]) == keys


def test_a_list_without_a_matching_key_looks_at_descriptions(bench: Bench, cli: Cli) -> None:
    assert cli("list", "altitude") == (0, "ALT\n", "")
    assert cli("list", "NOPE", "A?") == (1, "", "fixgw: no key, description or units match 'NOPE' or 'A?'\n")


def test_a_long_list_has_units_and_descriptions(bench: Bench, cli: Cli) -> None:
    assert cli("list", "-l", "ALT").out == "ALT  ft  Indicated altitude\n"
    assert json.loads(cli("list", "-l", "--json", "ALT").out)["ALT"]["units"] == "ft"
    assert json.loads(cli("list", "--json", "EGT").out) == ["EGT11", "EGT12"]


# -- read --------------------------------------------------------------------------------------------------------------


def test_read_prints_value_units_and_flags(bench: Bench, cli: Cli) -> None:
    bench.db.write("IAS", 103.2, "test")
    bench.db.write("IAS.Vne", 160, "test")
    bench.db.write("EGT11", 700, "test", BAD | ANNUNCIATE)
    code, out, err = cli("read", "IAS", "IAS.Vne", "IAS.Vs", "EGT*")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["IAS", "103.2", "knots", "good"],
        ["IAS.Vne", "160", "knots"],
        ["IAS.Vs", "-", "knots"],
        ["EGT11", "700", "degC", "annunciate,", "bad"],
        ["EGT12", "0", "degC", "old"],
    ]


def test_read_as_json_has_exact_values(bench: Bench, cli: Cli) -> None:
    bench.db.write("ALT", 0.1 + 0.2, "test")
    bench.db.write("GEAR", True, "test", FAIL)
    bench.db.write("ACID", "12", "test")
    assert json.loads(cli("read", "ALT", "GEAR", "ACID", "IAS.Vne", "--json").out) == {
        "ALT": {"value": 0.1 + 0.2, "units": "ft", "flags": [], "good": True},
        "GEAR": {"value": True, "units": "", "flags": ["fail"], "good": False},
        "ACID": {"value": "12", "units": "", "flags": [], "good": True},
        "IAS.Vne": {"value": None, "units": "knots"},
    }


def test_an_unknown_key_is_reported_with_a_suggestion_and_the_others_are_read(bench: Bench, cli: Cli) -> None:
    code, out, err = cli("read", "BARRO", "ALT", "IAS.Vn")
    assert code == 1
    assert out.startswith("ALT")
    assert err.splitlines() == [
        "fixgw: no item 'BARRO' (did you mean 'BARO'?)",
        "fixgw: no item 'IAS.Vn' (did you mean 'IAS.Vne'?)",
    ]


@pytest.mark.parametrize("word", ["NOPE*", "a;b", "a\nb", ""])
def test_a_word_that_matches_no_key_is_refused(bench: Bench, cli: Cli, word: str) -> None:
    code, out, err = cli("read", word)
    assert (code, out) == (1, "")
    assert err.startswith("fixgw: no item")


# -- write and flag ----------------------------------------------------------------------------------------------------


def test_write_stores_a_value_and_shows_it(bench: Bench, cli: Cli) -> None:
    assert cli("write", "BARO", "30.1") == (0, "BARO  30.1  inHg  good\n", "")
    assert bench.db.read("BARO").value == 30.1
    assert bench.db.read("BARO").source.startswith("netfix/")


def test_write_leaves_the_flags_alone_unless_told(bench: Bench, cli: Cli) -> None:
    bench.db.write("ALT", 1000, "test", ANNUNCIATE | SECFAIL)
    assert cli("write", "ALT", "1001").out == "ALT  1001  ft  annunciate, secfail\n"
    assert cli("write", "ALT", "1002", "bf").out == "ALT  1002  ft  bad, fail\n"
    assert cli("write", "ALT", "1003", "secfail").out == "ALT  1003  ft  secfail\n"
    assert cli("write", "ALT", "1004", "none").out == "ALT  1004  ft  good\n"


def test_value_and_flags_are_one_update(bench: Bench, cli: Cli) -> None:
    seen: list[tuple[Any, int]] = []
    bench.db.subscribe("ALT", lambda key, reading: seen.append((reading.value, reading.flags)))
    cli("write", "ALT", "1500", "a")
    assert seen == [(1500.0, ANNUNCIATE)]


def test_writing_the_same_value_again_counts_as_a_write(bench: Bench, cli: Cli) -> None:
    for flags in ([], ["none"]):
        bench.db.write("ALT", 1000, "test")
        assert cli("write", "ALT", "1000", *flags).code == 0
        assert bench.db.read("ALT").source.startswith("netfix/")


def test_write_shows_the_value_as_stored(bench: Bench, cli: Cli) -> None:
    assert cli("write", "BARO", "99").out == "BARO  35  inHg  good\n"
    assert cli("write", "ALT", "1e6", "none").out == "ALT  60000  ft  bad\n"
    assert cli("write", "ALT", "-500").out == "ALT  -500  ft  good\n"


def test_write_sets_and_unsets_aux_values(bench: Bench, cli: Cli) -> None:
    assert cli("write", "IAS.Vne", "180").out == "IAS.Vne  180  knots\n"
    assert cli("write", "IAS.Vne", "None").out == "IAS.Vne  -  knots\n"
    assert bench.db.read_aux("IAS.Vne") is None


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["IAS", "fast"], "IAS: 'fast' is not a number"),
        (["COUNT", "1.5"], "COUNT: '1.5' is not a whole number"),
        (["GEAR", "down"], "GEAR: 'down' is not True or False"),
        (["IAS", "nan"], "IAS: 'nan' is not a finite number"),
        (["ACID", "N1;2"], "ACID: cannot send text with ';'"),
        (["BARRO", "30"], "no item 'BARRO' (did you mean 'BARO'?)"),
        (["IAS.Vnee", "1"], "no item 'IAS.Vnee' (did you mean 'IAS.Vne'?)"),
        (["IAS.Vne", "1", "b"], "IAS.Vne: an aux value has no flags"),
    ],
)
def test_a_value_that_cannot_be_written_is_refused_in_a_sentence(
    bench: Bench, cli: Cli, argv: list[str], complaint: str
) -> None:
    code, out, err = cli("write", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(f"fixgw: {complaint}")
    assert bench.gateway.get_status()["database"]["failed"] == 0


def test_a_client_that_may_not_write_gets_an_explanation(bench: Bench, cli: Cli) -> None:
    bench.stop()
    bench.connection_options = "write: []"
    bench.start()
    for argv in (["write", "BARO", "30"], ["flag", "BARO", "bad", "on"]):
        code, out, err = cli(*argv)
        assert (code, out) == (1, "")
        assert "does not allow writes from this computer" in err
    code, _, err = cli("write", "BARO", "30", "b")
    assert code == 1
    assert "BARO was not set: this computer may not write" in err


def test_a_better_source_is_named_when_it_hides_a_write(bench: Bench, cli: Cli) -> None:
    bench.stop()
    bench.entries = bench.entries.replace("key: EGT12,", "key: EGT12, sources: [adc, spare],")
    bench.start()
    bench.db.write("EGT12", 600, "spare")
    bench.db.write("EGT12", 700, "adc")
    code, out, err = cli("write", "EGT12", "650")
    assert (code, out) == (1, "EGT12  700  degC  good\n")
    assert err == "fixgw: EGT12 was not set: a better source prevails; `fixgw explain EGT12` names it\n"
    code, out, err = cli("flag", "EGT12", "fail", "on")
    assert (code, out) == (1, "EGT12  600  degC  secfail\n")
    assert err == "fixgw: EGT12 is not fail: another source is published now; see `fixgw explain EGT12`\n"
    assert cli("write", "EGT11", "123.456789012345") == (0, "EGT11  123.456789  degC  good\n", "")
    assert cli("write", "EGT11", "123.456789012345", "none").code == 0


def test_flags_are_set_and_cleared_by_letter_or_name(bench: Bench, cli: Cli) -> None:
    bench.db.write("ALT", 1000, "test")
    assert cli("flag", "ALT", "fail", "on").out == "ALT  1000  ft  fail\n"
    assert cli("flag", "ALT", "B", "1").out == "ALT  1000  ft  bad, fail\n"
    assert cli("flag", "ALT", "f", "off").out == "ALT  1000  ft  bad\n"
    assert bench.db.read("ALT").flags == BAD
    assert json.loads(cli("flag", "ALT", "o", "on", "--json").out)["ALT"]["flags"] == ["old", "bad"]


# -- report, explain, status -------------------------------------------------------------------------------------------


def test_report_prints_the_definition_with_aux_values(bench: Bench, cli: Cli) -> None:
    bench.db.write("IAS.Vne", 160, "test")
    out = cli("report", "IAS").out
    assert out.splitlines() == [
        "IAS: Indicated airspeed",
        "  type         float",
        "  units        knots",
        "  range        0 to 1000",
        "  becomes old  after 2000 ms without an update",
        "  aux          Vs = -",
        "  aux          Vne = 160",
    ]
    assert json.loads(cli("report", "IAS", "GEAR", "--json").out)["IAS"] == {
        "description": "Indicated airspeed",
        "type": "float",
        "min": 0.0,
        "max": 1000.0,
        "units": "knots",
        "tolerance": 2000,
        "aux": {"Vs": None, "Vne": 160.0},
    }


def test_explain_names_the_connection_that_should_feed_a_missing_key(bench: Bench, cli: Cli) -> None:
    bench.stop()
    bench.entries += "  - {key: LAT, min: -90, max: 90, units: deg, tol: 3000}\n"
    bench.connection_options = "\n  gps: {module: fixgw.drivers.nmea0183, port: /dev/nowhere7}\n"
    bench.start()
    assert "Connection gps should feed it, and is not well: /dev/nowhere7: no such device." in cli("explain", "LAT").out
    assert "No connection of the configuration says that it feeds it." in cli("explain", "IAS").out
    assert json.loads(cli("explain", "LAT", "--json").out)["LAT"]["feeders"] == ["gps"]


def test_explain_names_the_source_of_a_value(bench: Bench, cli: Cli) -> None:
    bench.db.write("ALT", 1000, "canfix/12", BAD, "the sensor warms up")
    out = cli("explain", "ALT").out
    assert "ALT = 1000 ft, bad.\nFrom canfix/12, " in out
    assert "bad (suspect): the sensor warms up." in out
    assert json.loads(cli("explain", "ALT", "--json").out)["ALT"]["source"] == "canfix/12"
    assert cli("explain", "ALTT").code == 1


def test_status_begins_with_health(bench: Bench, cli: Cli) -> None:
    code, out, _ = cli("status")
    assert code == 0
    assert out.startswith("OK: 1 of 1 connections well\n")
    assert "netfix      running  ok" in out
    assert "peak" not in out
    assert "clients: 1" in cli("status", "--verbose").out
    assert json.loads(cli("status", "--json").out)["health"] == "ok"


def test_status_of_an_unhealthy_gateway_is_code_1(bench: Bench, cli: Cli) -> None:
    bench.gateway.problems = ["default.yaml:1:1: nonsense"]
    code, out, _ = cli("status")
    assert code == 1
    assert out.startswith("DEGRADED: ")
    assert "nonsense" in out


# -- a separate process ------------------------------------------------------------------------------------------------


def test_a_closed_pipe_ends_it_quietly_with_code_141(bench: Bench) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "fixgw", "list"], stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["read ALT", "status", "watch ALT --count 1", "--help"])
def test_a_closed_standard_stream_does_no_harm(bench: Bench, stream: str, command: str) -> None:
    shell = f'exec "$0" -m fixgw {command} {stream}'
    done = subprocess.run(["sh", "-c", shell, sys.executable], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_a_full_disk_is_reported_in_a_sentence(bench: Bench) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fixgw", "list"], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"fixgw: No space left on device\n")


def test_the_environment_can_name_the_host_and_port(bench: Bench, child: Cli) -> None:
    code, _, err = child("list", FIXGW_HOST="no-such-host.invalid")
    assert code == 1
    assert "no gateway answers at no-such-host.invalid:" in err
    assert "Traceback" not in err
    assert child("list", FIXGW_PORT="none").code == 2
