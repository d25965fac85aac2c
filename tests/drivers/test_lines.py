"""Lines of text from sensors: formats, checksums, refusals, and patterns that would take forever."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import reduce
from operator import xor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import database
from fixgw.database import FAIL, Database
from fixgw.drivers.lines import Plugin
from fixgw.drivers.lines.pattern import compile_safely
from fixgw.drivers.lines.protocol import MAX_LINE, Decoder, Field, Format
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.wired import SerialBench
from fixgw.hw_sim.bench.words import Expect, Fault, StartGateway, s
from fixgw.hw_sim.devices.lines import READ_WITH, Arduino, crc16
from fixgw.hw_sim.pty import VirtualPort
from fixgw.kit.update import Update
from fixgw.plugin import Feeds

INVALID = frozenset(("nan", "", "---"))


def number(key: str, place: int | str, **more: Any) -> Field:
    return Field(key=key, place=place, invalid=INVALID, **more)


CSV = Format([number("OILP1", 1), number("OILT1", 3)], prefix="E,")


def heard(*lines: str, formats: list[Format] | None = None) -> dict[str, Update]:
    """The updates of whole lines, without the first fragment."""
    decoder = Decoder(formats or [CSV])
    decoder.feed(b"\n")
    return {u.key: u for line in lines for u in decoder.feed(line.encode() + b"\r\n")}


def values(*lines: str, formats: list[Format] | None = None) -> dict[str, Any]:
    return {key: update.value for key, update in heard(*lines, formats=formats).items() if not update.flags}


def adds_up(decoder: Decoder) -> bool:
    counts = decoder.counts
    parts = ("used", "ignored", *decoder.REFUSALS)
    return counts["received"] == sum(counts[part] for part in parts)


# -- forms -------------------------------------------------------------------------------------------------------------


def test_columns_are_counted_from_one_after_the_prefix() -> None:
    assert values("E,62.5,x, 88 ") == {"OILP1": 62.5, "OILT1": 88.0}


def test_the_message_of_a_probe_on_the_radio_that_an_arduino_sends_on() -> None:
    probe = Format([number("IAS", 1), number("OAT", 2)], prefix="$", columns=2)
    decoder = Decoder([probe], "nmea-xor")
    text = b"87.5,-2.3"
    assert decoder.feed(b"\n$%b*%02X\r\n" % (text, reduce(xor, text))) == [Update("IAS", 87.5), Update("OAT", -2.3)]


@pytest.mark.parametrize(("separator", "line"), [(";", "1;2"), ("", " 1 \t 2"), (" | ", "1 | 2"), ("\t", "1\t2")])
def test_columns_can_have_any_separator(separator: str, line: str) -> None:
    form = Format([number("OILP1", 1), number("OILT1", 2)], separator=separator)
    assert values(line, formats=[form]) == {"OILP1": 1.0, "OILT1": 2.0}


def test_pairs_are_found_by_name_in_any_order_and_others_are_ignored() -> None:
    form = Format([number("OAT", "t"), number("VOLT", "VOLT")], pairs=True)
    assert values("x=3,VOLT=14.1,t: 21.5", formats=[form]) == {"OAT": 21.5, "VOLT": 14.1}
    assert values("VOLT=14.1", formats=[form]) == {"VOLT": 14.1}


def test_a_pattern_finds_named_groups_in_the_whole_line() -> None:
    form = Format([number("OAT", "OAT")], pattern=compile_safely(r"temp is (?P<OAT>-?\d+\.\d) degrees.*"))
    assert values("temp is -3.5 degrees today", formats=[form]) == {"OAT": -3.5}
    assert values("the temp is -3.5 degrees", formats=[form]) == {}


def test_the_first_matching_format_reads_the_line() -> None:
    other = Format([number("OAT", "OAT")], prefix="E", pairs=True)
    found = values("E,1,2,3", "EOAT=4", formats=[CSV, other])
    assert found == {"OILP1": 1.0, "OILT1": 3.0, "OAT": 4.0}


def test_a_number_is_converted_by_its_curve() -> None:
    form = Format([number("OILP1", 1, curve=lambda x: x * 0.1 + 5)])
    assert values("620", formats=[form]) == {"OILP1": 67.0}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("float", "-1.5e2", -150.0),
        ("float", "+.5", 0.5),
        ("int", "2411.6", 2412),
        ("bool", "on", True),
        ("bool", "0", False),
        ("bool", "True", True),
        ("str", "climb now", "climb now"),
    ],
)
def test_the_text_is_converted_to_the_type_of_the_item(kind: Any, text: str, value: Any) -> None:
    (found,) = values(text, formats=[Format([number("X", 1, type=kind)])]).values()
    assert found == value
    assert type(found) is type(value)


# -- invalid options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["nan", "NaN", "---", ""])
def test_a_sensor_without_a_value_fails_its_key(text: str) -> None:
    update = heard(f"E,{text},0,1")["OILP1"]
    assert (update.value, update.flags) == (None, FAIL)
    assert update.reason == "the sensor has no value"


@pytest.mark.parametrize("text", ["abc", "1,5"[:1] + "_0", "0x10", "1e999", "--5", "infinity", "१२", "600"])
def test_an_absurd_number_or_none_at_all_fails_its_key_and_is_counted(text: str) -> None:
    decoder = Decoder([Format([number("OILP1", 1, high=500.0)], separator=";")])
    (update,) = decoder.feed(b"\n" + text.encode() + b"\n")
    assert (update.value, update.flags) == (None, FAIL)
    assert decoder.counts["absurd values"] == 1


@pytest.mark.parametrize(
    ("text", "value"), [("19.9", None), ("20", 20.0), ("30.0", 30.0), ("30.1", None), ("nothing", None)]
)
def test_a_number_must_be_within_the_limits_of_its_field(text: str, value: float | None) -> None:
    decoder = Decoder([Format([number("OAT", 1, low=20.0, high=30.0)])])
    (update,) = decoder.feed(b"\n" + text.encode() + b"\n")
    reason = f"the sensor sends {text!r}, which is impossible"
    assert update == (Update("OAT", value) if value else Update("OAT", None, FAIL, reason))


@pytest.mark.parametrize("text", ["1e999", "-1e999"])
def test_a_number_that_is_too_large_for_a_computer_fails_its_key(text: str) -> None:
    assert heard(text, formats=[Format([number("X", 1)])])["X"].flags == FAIL


def test_a_text_may_have_a_hundred_characters() -> None:
    form = Format([number("X", 1, type="str")])
    assert values("a" * 100, formats=[form]) == {"X": "a" * 100}
    update = heard("a" * 101, formats=[form])["X"]
    assert update == Update("X", None, FAIL, f"the sensor sends '{'a' * 20}', which is impossible")


def test_a_curve_without_a_value_fails_the_key() -> None:
    (update,) = heard("5", formats=[Format([number("X", 1, curve=lambda x: None)])]).values()
    assert update.flags == FAIL


def test_a_word_that_is_neither_yes_nor_no_fails_its_key() -> None:
    (update,) = heard("maybe", formats=[Format([number("X", 1, type="bool")])]).values()
    assert update.flags == FAIL


def test_a_line_with_a_wrong_number_of_columns_is_refused() -> None:
    decoder = Decoder([Format([number("X", 1)], columns=3)])
    assert decoder.feed(b"\n1,2\n1,2,3,4\n") == []
    assert decoder.counts["malformed"] == 2
    assert [u.value for u in decoder.feed(b"1,2,3\n")] == [1.0]
    short = Decoder([CSV])
    assert (short.refused, short.trouble) == ("", "")
    assert short.feed(b"\nE,1,2\n") == []
    assert short.counts["malformed"] == 1
    assert short.refused == "it has 2 columns: b'E,1,2'"


def test_a_line_that_one_format_refuses_may_have_another() -> None:
    decoder = Decoder([Format([number("X", 1)], columns=3), Format([number("Y", 1)], columns=2)])
    assert decoder.feed(b"\n1,2\n") == [Update("Y", 1.0)]
    assert (decoder.counts["used"], decoder.counts["malformed"]) == (1, 0)


def test_of_two_refusals_the_first_is_shown() -> None:
    decoder = Decoder([Format([number("X", 1)], prefix="E,", columns=3), Format([number("Y", 1)], columns=2)])
    decoder.feed(b"\nE,2\nE,1,2,3,4\n")
    assert decoder.refused == "it has 4 columns: b'E,1,2,3,4'"
    assert (decoder.counts["used"], decoder.counts["malformed"]) == (1, 1)


def test_a_pair_ends_at_the_first_equals_sign() -> None:
    form = Format([number("X", "X", type="str"), number("Y", "Y", type="str")], pairs=True)
    assert values("X=a=b:c, Y : d:e ,alone", formats=[form]) == {"X": "a=b:c", "Y": "d:e"}


# -- lines -------------------------------------------------------------------------------------------------------------


def test_the_first_line_may_be_a_fragment_and_is_not_used() -> None:
    decoder = Decoder([Format([number("X", 1)])])
    assert decoder.feed(b"23.4\r\n") == []
    assert decoder.counts["cut off"] == 1
    assert [u.value for u in decoder.feed(b"123.4\r\n")] == [123.4]
    assert adds_up(decoder)


def test_a_line_without_an_end_is_not_used() -> None:
    decoder = Decoder([Format([number("X", 1)])])
    assert decoder.feed(b"\n12") == []
    assert [u.value for u in decoder.feed(b"3\n")] == [123.0]


@pytest.mark.parametrize("junk", [b"\xff\xfe1,2", b"E,1\x00,2,3", b"E,1\x1b[0m,2,3"])
def test_garbage_is_refused_and_the_next_line_is_not(junk: bytes) -> None:
    decoder = Decoder([CSV])
    updates = decoder.feed(b"\n" + junk + b"\nE,1,2,3\n")
    assert len(updates) == 2
    assert decoder.counts["garbage"] == 1


def test_a_flood_without_an_end_of_line_takes_no_memory() -> None:
    decoder = Decoder([CSV])
    decoder.feed(b"\n")
    for _ in range(1000):
        decoder.feed(b"E,1,2,3," * 100)
        assert len(decoder._buffer) <= MAX_LINE
    assert len(decoder.feed(b"\nE,1,2,3\n")) == 2
    assert decoder.counts["too long"] == 1
    assert adds_up(decoder)


@pytest.mark.parametrize(("length", "used"), [(250, True), (251, False)])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_line_may_have_250_bytes(length: int, used: bool, pieces: int) -> None:
    decoder = Decoder([Format([number("X", 1, type="str")], separator=";", columns=2)])
    text = b"a;".ljust(length, b"b")
    decoder.feed(b"\n")
    if pieces == 2:
        decoder.feed(text)
        text = b""
    assert bool(decoder.feed(text + b"\n")) is used
    assert decoder.counts["too long"] == (not used)
    assert used or decoder.refused.startswith("too long: b'a;bbb")


def test_an_endless_first_line_is_cut_off_all_the_same() -> None:
    decoder = Decoder([CSV])
    decoder.feed(b"x" * 1000)
    decoder.feed(b"x" * 1000 + b"\n")
    assert (decoder.counts["cut off"], decoder.counts["too long"], decoder.counts["received"]) == (1, 0, 1)


def test_lines_of_no_interest_are_ignored() -> None:
    decoder = Decoder([CSV])
    assert decoder.feed(b"\nBooting...\n\n\r\nfree memory: 512\n") == []
    assert decoder.counts["ignored"] == 2


def test_health_says_so_while_no_line_can_be_used() -> None:
    decoder = Decoder([CSV])
    for _ in range(2):
        decoder.feed(b"hello\n" * 19)
        assert decoder.trouble == ""
        decoder.feed(b"hello\n")
        assert decoder.trouble == "lines arrive, but none of them is usable"
        decoder.feed(b"E,1,2,3\n")
        assert decoder.trouble == ""


def test_junk_before_a_dollar_does_not_invalidate_its_line() -> None:
    decoder = Decoder([Format([number("X", 2)], prefix="$")], "nmea-xor")
    assert [u.value for u in decoder.feed(b"\xff\x00$junk$E,1*58\r\n")] == [1.0]


CHUNKS = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"E,1,2,3\n", b"\r\n", b"x" * 300, b"E,"])))


@given(CHUNKS, st.sampled_from(["none", "nmea-xor", "sum8", "crc16"]))
def test_no_input_raises_and_the_counters_add_up(chunks: list[bytes], checksum: Any) -> None:
    decoder = Decoder([CSV, Format([number("Y", "y")], pairs=True)], checksum)
    for chunk in chunks:
        decoder.feed(chunk)
        assert adds_up(decoder)
    whole = Decoder([CSV, Format([number("Y", "y")], pairs=True)], checksum)
    whole.feed(b"".join(chunks))
    assert whole.counts == decoder.counts


# -- checksums ---------------------------------------------------------------------------------------------------------

#: By hand: 45^2C^31 = 58; 45+2C+31 = A2; CRC-16/CCITT-FALSE of "123456789" is 29B1 by its catalogue.
GOLDEN = [
    ("nmea-xor", b"E,1*58"),
    ("nmea-xor", b"$E,1*58"),
    ("nmea-xor", b"1,4,*05"),
    ("sum8", b"E,1*A2"),
    ("sum8", b"E,1*a2"),
    ("sum8", b"1,*,xwf*08"),
    ("crc16", None),
    ("crc16", b"1,4*0B55"),
]


@pytest.mark.parametrize(("kind", "line"), GOLDEN)
def test_a_right_checksum_is_accepted_and_a_wrong_one_refused(kind: Any, line: bytes | None) -> None:
    assert crc16(b"123456789") == 0x29B1
    line = line or b"123456789*29B1"
    decoder = Decoder([Format([number("X", 1)])], kind)
    decoder.feed(b"\n".join([line, line.replace(b"1", b"2", 1), line[:-1], line.partition(b"*")[0], b""]))
    assert decoder.counts["used"] == 1
    assert decoder.counts["bad checksum"] == 2
    assert decoder.counts["no checksum"] == 1


def test_with_a_checksum_the_first_line_counts() -> None:
    decoder = Decoder([Format([number("X", 1)])], "sum8")
    assert [u.value for u in decoder.feed(b"1*31\n")] == [1.0]


# -- patterns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(?P<X>(\d+,)*)",
        r".*.*.*=(?P<X>\d+)",
        r"(?P<X>a?a?a?a?a?a?a?a?aaaaaaaa)",
        r"(a|a)(a|a)(a|a)(a|a)b",
        r"(?P<X>\w+)\1",
        r"(?=.*x)(?P<X>.*)",
        r"(?i)(?P<X>abc)",
        r"(?P<X>\S*)\S*\d*\w*!",
        "x" * 501,
    ],
)
def test_a_pattern_that_might_take_forever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        compile_safely(pattern)


@pytest.mark.parametrize("pattern", ["(", "(?P<X>", "[z-a]", "*", "(?P<1>x)", "a{3,2}"])
def test_an_invalid_pattern_is_refused_with_an_explanation(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid regular expression: .* position"):
        compile_safely(pattern)


USEFUL = [
    r"T=(?P<OAT>-?\d+(?:\.\d+)?)",
    r".*T=(?P<OAT>-?\d+\.\d).*",
    r"(?P<A>[-\d.]+),(?P<B>[-\d.]+),(?P<C>[-\d.]+),(?P<D>[-\d.]+),(?P<E>[-\d.]+)",
    r"(?P<A>\d+)\s+(?P<B>\d+)\s+(?P<C>\w+)(?: (?P<D>\d+))?$",
    r"rpm (?P<TACH1>\d{1,4}) (?:ok|bad|fault)",
    r"^(?P<N>[^;]*);(?P<M>[^;]*);.*$",
]
WORST = ["a" * 250, "1" * 250, "1," * 125, "T=1" * 83, "1 " * 125, "1" * 125 + " " * 125, "T=" + "1" * 248, ";" * 250]


@pytest.mark.parametrize("pattern", USEFUL)
def test_useful_patterns_pass_and_are_quick_on_any_line(pattern: str) -> None:
    form = compile_safely(pattern)
    begin = time.process_time()
    for line in WORST:
        form.fullmatch(line)
    assert time.process_time() - begin < 0.5


PIECE = st.sampled_from(["a", "b", r"\d", r"\w", ".", "[ab]", "[^a]", "1", r"\s", ",", r"\D"])
REPEATED = st.builds(
    lambda piece, times: piece + times, PIECE, st.sampled_from(["", "*", "+", "?", "*?", "{2,9}", "{3}"])
)
GROUPED = st.builds(
    lambda parts, wrap: wrap.format("".join(parts)),
    st.lists(REPEATED, max_size=6),
    st.sampled_from(["{}", "({})", "(?:{})?", "(?:{}|b+)", "(?P<X>{})"]),
)


@given(st.lists(GROUPED, max_size=5), st.sampled_from(["ab", "a", "1", "a1", "ab1,", " a"]))
def test_every_accepted_pattern_is_quick(parts: list[str], filling: str) -> None:
    try:
        form = compile_safely("".join(parts))
    except ValueError:
        return
    line = (filling * 250)[:249] + "!"
    begin = time.process_time()
    form.fullmatch(line)
    assert time.process_time() - begin < 1.0, form.pattern


# -- the plugin --------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def db() -> Iterator[Database]:
    before = database.current()
    db = packaged_database()
    database.bind(db)
    yield db
    database.bind(before)


def problems(db: Database, **options: Any) -> dict[str, str]:
    return dict(Plugin.check(Plugin("arduino", {"port": "/dev/x", **options}).options, db))


def line(**more: Any) -> dict[str, Any]:
    return {"lines": [{"fields": {"OAT": {"from": 1}}, **more}]}


def test_an_arduino_needs_no_driver_code(gateway: StartGateway, expect: Expect, fault: Fault) -> None:
    arduino = gateway({"arduino": {"module": "fixgw.drivers.lines", **READ_WITH}}, arduino=Arduino)
    keys = [key for form in READ_WITH["lines"] for key in form["fields"]]
    expect(*keys).good().comes_from("arduino").by(5 * s)
    for key in keys:
        truth = arduino.aircraft.values()[key]
        expect(key).within(abs(truth) / 100 + 0.1, of=truth).now()
    arduino.devices["arduino"].failed = {"oilp", "OAT"}
    expect("OILP1", "OAT").fails(within=1 * s)
    expect("OILT1").good().now()
    assert not arduino.health()
    with fault("unplug"):
        expect(*keys).fails(within=1 * s)


@pytest.mark.slow
def test_a_sensor_that_must_be_polled_is_polled(db: Database) -> None:
    with VirtualPort() as port:
        options = {"port": port.path, "baud": 9600, "ask": {"text": "?\r\n", "every": 0.05}, **line()}
        plugin = Plugin("sensor", options)
        plugin.start()
        try:

            def answered() -> bool:
                if b"?\r\n" in port.read():
                    port.write(b"21.5\r\n")
                return db.read("OAT").good

            until(answered)
            assert db.read("OAT").value == 21.5
            assert plugin.counts["asked"] >= 2  # the first answer might be a fragment
        finally:
            plugin.shutdown()


def test_the_doctor_learns_which_keys_are_written(db: Database) -> None:
    plugin = Plugin("arduino", {"port": "/dev/x", **READ_WITH})
    (feeds,) = [found for found in Plugin.preflight(plugin.options) if isinstance(found, Feeds)]
    assert "FUELQ1" in feeds.keys
    assert "VOLT" in feeds.keys


def test_the_sample_configuration_has_no_problems(db: Database) -> None:
    assert problems(db, **READ_WITH) == {}


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("lines.0.fields.OATT", {"lines": [{"fields": {"OATT": {"from": 1}}}]}),
        ("lines.0.fields.OAT", {"lines": [{"fields": {"OAT": {}}}]}),
        ("lines.0.fields.OAT.from", {"lines": [{"fields": {"OAT": {"from": "t"}}}]}),
        ("lines.0.fields.OAT.from", {"lines": [{"columns": 3, "fields": {"OAT": {"from": 4}}}]}),
        ("lines.0.fields.OAT.from", line(form="pairs")),
        ("lines.0.columns", {"lines": [{"form": "pairs", "columns": 2, "fields": {"OAT": {}}}]}),
        ("lines.0.pattern", line(pattern="x")),
        (
            "lines.0.fields.OAT.curve",
            {"lines": [{"fields": {"OAT": {"from": 1, "factor": 2.0, "curve": {"linear": {"factor": 1.0}}}}}]},
        ),
        (
            "lines.0.fields.OILP1.curve",
            {
                "lines": [
                    {
                        "fields": {
                            "OILP1": {"from": 1, "curve": {"thermistor": {"r25": 1e4, "beta": 3950, "pull_up": 1e4}}}
                        }
                    }
                ]
            },
        ),
    ],
)
def test_wrong_options_are_reported_at_their_position(db: Database, option: str, options: dict[str, Any]) -> None:
    assert list(problems(db, **options)) == [option]


@pytest.mark.parametrize(
    ("option", "pattern"),
    [("lines.0.pattern", "(a+)+"), ("lines.0.pattern", "("), ("lines.0.fields.OAT", r"(?P<T>\d+)")],
)
def test_a_wrong_pattern_is_reported_at_its_position(db: Database, option: str, pattern: str) -> None:
    from fixgw.drivers.lines import FieldOptions, LineOptions, LinesOptions

    options = LinesOptions(
        port="/dev/x", lines=[LineOptions(form="pattern", pattern=pattern, fields={"OAT": FieldOptions()})]
    )
    assert [place for place, _ in Plugin.check(options, db)] == [option]


def test_an_unmatched_group_gives_no_value() -> None:
    form = Format([number("A", "A"), number("B", "B")], pattern=re.compile(r"(?P<A>\d)(?:,(?P<B>\d))?"))
    assert heard("1", formats=[form])["B"].flags == FAIL


# -- the contract that all drivers pass --------------------------------------------------------------------------------


class TestContract(Contract):
    subject = SerialBench.of(
        "fixgw.drivers.lines",
        Arduino,
        "TACH1 OILP1 OILT1 FUELQ1 OAT CAT VOLT COMSTDRX1",
        options=READ_WITH,
        absurd={"OILT1": 500.0},
        unknown=("OAT", "VOLT"),
    )
