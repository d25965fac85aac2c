"""FlightGear: the shared vectors, protocol files good and hostile, records in and out, HTTP, the virtual simulator."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw import configuration
from fixgw.database import BAD, FAIL
from fixgw.drivers.fgfs import OWN_FILE, Plugin, protocol
from fixgw.drivers.fgfs.http import HttpLine
from fixgw.drivers.fgfs.protocol import BadFile, Generic, Layout, Properties, Property, parse, record
from fixgw.drivers.simulator import LOADING
from fixgw.errors import DeviceError
from fixgw.hw_sim.bench.base import Subject, packaged_database, until
from fixgw.hw_sim.bench.clock import Clock
from fixgw.hw_sim.bench.contract import Contract
from fixgw.hw_sim.bench.network import DatagramBench
from fixgw.hw_sim.devices.fgfs import Fgfs, WebServer
from fixgw.kit.update import TypeName
from fixgw.net import endpoint

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "flightgear.json").read_text())["vectors"]
#: Only looked at.
ITEMS = packaged_database()
TYPES: dict[str, TypeName] = {item.key: item.type for item in ITEMS.items()}
OWN = Path(protocol.__file__).with_name(OWN_FILE).read_bytes()


def block(name: str, chunks: list[str], between: str = ",", end: str = "newline", more: str = "") -> str:
    return (
        f"<{name}><line_separator>{escape(end)}</line_separator><var_separator>{escape(between)}</var_separator>{more}"
        + "".join(f"<chunk>{chunk}</chunk>" for chunk in chunks)
        + f"</{name}>"
    )


def chunk(key: str, form: str = "%.6f", kind: str = "float", more: str = "") -> str:
    return f"<name>{key}:words</name><type>{kind}</type><format>{form}</format><node>/x</node>{more}"


def written(*blocks: str) -> bytes:
    return f'<?xml version="1.0"?>\n<PropertyList><generic>{"".join(blocks)}</generic></PropertyList>'.encode()


def layout(*chunks: str, **words: str) -> Layout:
    output, _ = parse(written(block("output", list(chunks), **words)))
    assert output is not None
    return output


BINARY = "<binary_mode>true</binary_mode>"


def adds_up(reader: Any) -> bool:
    counts = reader.counts
    return bool(counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in reader.REFUSALS))


# -- the shared vectors ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("vector", [v for v in VECTORS if v.get("direction") != "encode"], ids=lambda v: v["name"])
def test_lines(vector: dict[str, Any]) -> None:
    """Through the whole driver, as values are clamped and rounded by the items."""
    form = layout(
        *(chunk(key) for key in vector["keys"]), between=vector["var_separator"], end=vector["line_separator"]
    )
    with_bench = FgfsBench(Subject("fixgw.drivers.fgfs", FgfsBench, Fgfs))
    try:
        plugin = with_bench.start()
        plugin._output = form  # type: ignore[attr-defined]
        plugin._new_protocol()  # type: ignore[attr-defined]
        for datagram in vector["datagrams"]:
            plugin.received(datagram.encode("latin-1"))  # type: ignore[attr-defined]
        for key, expected in vector["expect"].items():
            reading = with_bench.db.read(key)
            if expected == "fail":
                assert reading.fail, key
            elif expected == "clamped and bad":
                assert (reading.value, reading.bad) == (with_bench.db.item(key).max, True)
            elif not isinstance(expected, str) and expected > (with_bench.db.item(key).max or expected):
                assert (reading.value, reading.bad) == (with_bench.db.item(key).max, True)  # 28 V
            else:
                assert reading.good, key
                assert reading.value == pytest.approx(expected), key
        if not vector["expect"]:
            assert not [key for key in vector["keys"] if with_bench.db.read(key).source]
        counts = plugin.counts  # type: ignore[attr-defined]
        assert counts["received"] == counts["used"] + counts["ignored"] + sum(counts[r] for r in Generic.REFUSALS)
    finally:
        with_bench.close()


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.get("direction") == "encode"], ids=lambda v: v["name"])
def test_lines_sent(vector: dict[str, Any]) -> None:
    form = layout(
        *(chunk(key, form) for key, form in zip(vector["keys"], vector["formats"], strict=True)),
        between=vector["var_separator"],
        end=vector["line_separator"],
    )
    assert record(form, vector["expect"]) == vector["datagrams"][0].encode()


# -- protocol files ----------------------------------------------------------------------------------------------------


def test_the_file_of_the_gateway_converts_temperatures_rightly() -> None:
    output, given = parse(OWN)
    assert output is not None
    assert given is not None
    assert {*output.keys, *given.keys} <= {*TYPES}
    assert len(output.keys) == len({*output.keys}) == 25
    device = Fgfs(port=0)
    try:
        line = device.blocks["output"].line({"/engines/engine[0]/egt-degf": 48.04, "/position/latitude-deg": 44.0})
    finally:
        device.close()
    values = {update.key: update.value for update in Generic(output, TYPES).feed(line)}
    assert values["EGT11"] == 8.9


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no element found"),
        (b"<PropertyList><generic>", "no element found"),
        (b"<html/>", "not a protocol file"),
        (b"<html><generic><output/></generic></html>", "not a protocol file"),
        (b"<PropertyList><generic/></PropertyList>", "neither <output> nor <input>"),
        (b"<PropertyList>\n" + b"<a>" * 16, "line 2: elements are nested too deeply"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><PropertyList/>', "line 1: a DTD or entities are not allowed"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><PropertyList/>', "a DTD or entities are not allowed"),
        (b'<?xml version="1.0" encoding="ebcdic-cp-xx"?><PropertyList/>', "encoding"),
        (b"<PropertyList>&bomb;</PropertyList>", "undefined entity"),
        (b'\n<PropertyList include="/etc/passwd"/>', "line 2: include is not supported"),
        (OWN.ljust(262_145), "more than 262144 bytes"),
        (written("<output></output>"), "line 2: <output> has no <chunk>"),
        (written(block("output", [chunk("IAS")] * 500 + ["\n"])), "line 2: more than 500 chunks"),
        (written(block("output", [chunk("IAS"), chunk("ALT")], between="none")), "line 2: without a <var_separator>"),
        (
            written("\n\n" + block("output", [chunk("IAS", kind="flaot")])),
            "line 4: unknown type 'flaot' (did you mean 'float'?)",
        ),
        (written(block("output", [chunk("IAS", "%.2f %.2f")])), "the format '%.2f %.2f' is not understood"),
        (written(block("output", [chunk("IAS", "%n")])), "is not understood"),
        (written(block("output", [chunk("IAS", "%d%")])), "is not understood"),
        (written(block("output", [chunk("IAS", "%%%%%")])), "is not understood"),
        (written(block("output", [chunk("IAS", more="<offset>x</offset>")])), "could not convert"),
        (written(block("output", [chunk("IAS", more="<factor>x</factor>")])), "could not convert"),
        (written(block("input", [chunk("IAS", more="<relative>true</relative>")])), "would add up"),
        (
            written(block("output", [chunk("ACID", "%s", "string")], more="<binary_mode>true</binary_mode>")),
            "no string",
        ),
        (written(block("output", [chunk("IAS", kind="fixed")], more="<binary_mode>1</binary_mode>")), "no fixed"),
        *(
            (
                written(block("output", [chunk("IAS")], more=f"{BINARY}<binary_footer>{footer}</binary_footer>")),
                f"line 2: the footer '{footer}' is not understood",
            )
            for footer in ("magic", "magic,x", "lenght", "sum,1")
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadFile, match=re.escape(why)):
        parse(data)


def test_files_up_to_the_limits_are_read() -> None:
    output, given = parse(written(block("output", [chunk("IAS")] * 500)).ljust(262_144))
    assert output is not None
    assert output.keys == ["IAS"] * 500
    assert given is None
    deep = "<a>" * 13 + "</a>" * 13  # with PropertyList, generic and input: 16
    output, given = parse(written(block("input", [chunk("IAS"), "<format>only text</format>"], more=deep)))
    assert output is None
    assert given is not None
    assert given.keys == ["IAS"]


def test_a_billion_laughs_cost_nothing() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    with pytest.raises(BadFile, match="DTD or entities"):
        parse(f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><PropertyList>&l9;</PropertyList>'.encode())


@given(
    st.binary(max_size=300) | st.text("<>/&;!?'\"=[]aPropertyListgenericoutputchunk \n%", max_size=300).map(str.encode)
)
def test_any_file_is_read_or_refused(data: bytes) -> None:
    for text in (data, written(data.decode("latin-1")), OWN[:1500] + data + OWN[1500:]):
        try:
            parse(text)
        except BadFile:
            pass


# -- records -----------------------------------------------------------------------------------------------------------


def read(form: Layout, *datagrams: bytes) -> dict[str, Any]:
    reader = Generic(form, TYPES)
    updates = [update for datagram in datagrams for update in reader.feed(datagram)]
    assert adds_up(reader)
    return {update.key: update.value for update in updates}


THREE = [chunk("IAS", "%.1f"), chunk("ALT", "%.0f"), chunk("VS", "%.0f")]
WANTED = {"IAS": 100.0, "ALT": 3500.0, "VS": -20.0}


@pytest.mark.parametrize(
    ("between", "end", "data"),
    [
        (",", "newline", "100.0,3500,-20\r\n"),
        ("tab", "crlf", "100.0\t3500\t-20\r\n"),
        ("\\t", "\\r\\n", "100.0\t3500\t-20\r\n"),
        ("space", "lf", "100.0 3500 -20\n"),
        ("; ", "none", "100.0; 3500; -20"),
        ("newline", "newline", "100.0\n3500\n-20\n"),
        ("|", "END", "100.0|3500|-20END"),
        ("formfeed", "cr", "100.0\f3500\f-20\r"),
        ("verticaltab", "CarriageReturn", "100.0\v3500\v-20\r"),
        ("\\f", "\\v", "100.0\f3500\f-20\v"),
        ("\\r", "\\\\", "100.0\r3500\r-20\\"),
        (", ", "none", "100.0, 3500, -20"),
    ],
)
def test_separators(between: str, end: str, data: str) -> None:
    assert read(layout(*THREE, between=between, end=end), data.encode()) == WANTED


def test_words_may_have_capitals_and_blanks_around_them() -> None:
    named = "<name> IAS : knots</name><type> Float </type><format>%.1f</format>"
    form = layout(named, chunk("ALT"), between=" Tab ", end="\n LF ")
    assert (form.keys, form.between, form.end) == (["IAS", "ALT"], "\t", "\n")
    binary = (
        "<binary_mode> True </binary_mode><byte_order> Network </byte_order><binary_footer> Length </binary_footer>"
    )
    assert record(layout(named, more=binary), {"IAS": 100.5}) == struct.pack(">fi", 100.5, 4)
    with pytest.raises(BadFile, match="would add up"):
        layout(chunk("IAS", more="<relative> Yes </relative>"))


def test_without_separators_a_datagram_is_a_record_of_one_field() -> None:
    output, _ = parse(written(f"<output><chunk>{chunk('IAS')}</chunk></output>"))
    assert output is not None
    assert read(output, b"100.5") == {"IAS": 100.5}
    assert record(output, {"IAS": 100.5}) == b"100.500000"


def test_text_around_numbers_and_constants_are_left_out() -> None:
    form = layout("<format>Data</format>", chunk("IAS", "V=%05.1f kt"), chunk("ALT", "100%% %d"))
    assert read(form, b"Data,V=100.0 kt,100% 3500\n") == {"IAS": 100.0, "ALT": 3500.0}
    assert record(form, {"IAS": 7.25, "ALT": 3500.4}) == b"Data,V=007.2 kt,100% 3500\n"


@pytest.mark.parametrize(
    ("form", "kind", "value", "text"),
    [
        ("%d", "int", 2400.6, "2401"),
        ("%5d", "int", 7.0, "    7"),
        ("%05i", "int", -7.0, "-0007"),
        ("%-5u", "int", 7.0, "7    "),
        ("%-05d", "int", 7.0, "7    "),
        ("%+d", "int", 7.0, "+7"),
        ("%+ d", "int", 7.0, "+7"),
        ("% ld", "int", 7.0, " 7"),
        ("%+08.2f", "float", 7.25, "+0007.25"),
        ("%-8.1lf", "double", 7.25, "7.2     "),
        ("%.0f", "float", 7.25, "7"),
        ("%#.0f", "float", 7.25, "7."),
        ("%.2e", "float", 725.0, "7.25e+02"),
        ("%g", "float", 7.25, "7.25"),
        ("[%d%%]", "bool", True, "[1%]"),
        ("%s", "string", "N12345", "N12345"),
        ("%8s", "string", "N12345", "  N12345"),
        ("%-08s", "string", "N12345", "N12345  "),
        ("%s", "string", 7.25, "7.25"),
        ("%s", "string", 7.0, "7"),
        ("%s", "string", -122.394013, "-122.394013"),
        ("%s", "string", 0.1 + 0.2, "0.3"),
        ("", "int", 2400.6, "2401"),
        ("", "integer", 2400.6, "2401"),
        ("", "bool", True, "1"),
        ("", "float", 7.25, "7.250000"),
        ("", "double", 7.25, "7.250000"),
        ("", "fixed", 7.25, "7.250000"),
        ("", "string", "N12345", "N12345"),
    ],
)
def test_a_number_is_sent_as_its_format_says_in_c(form: str, kind: str, value: Any, text: str) -> None:
    assert record(layout(chunk("IAS", form, kind)), {"IAS": value}) == text.encode() + b"\n"


def test_a_chunk_without_a_type_is_a_whole_number() -> None:
    assert record(layout("<name>IAS</name><node>/x</node>"), {"IAS": 7.25}) == b"7\n"


def test_a_line_with_other_fields_is_refused_as_a_whole() -> None:
    """Both sides use different files: a value could be that of another field."""
    for line in (b"100.0,3500\n", b"100.0,3500,-20,7\n", b"100.0,3500,-20,\n"):
        assert read(layout(*THREE), line) == {}
    assert read(layout(*THREE), b"100.0,35", b"100.0,3500,-20\n") == {}, "a datagram is lost"


def test_a_preamble_and_a_postamble_are_no_fields() -> None:
    form = layout(*THREE, more="<preamble>IAS ALT VS\\n</preamble><postamble>end\\n</postamble>")
    reader = Generic(form, TYPES)
    assert len(reader.feed(b"IAS ALT VS\n100.0,3500,-20\n")) == 3
    assert reader.feed(b"end\n") == []
    assert (reader.counts["received"], reader.counts["used"]) == (1, 1)
    assert len(reader.feed(b"100.0,3500,-20\nend\n")) == 3
    assert reader.counts[protocol.BAD_FIELDS] == 1, "in the middle of a datagram it is a line"


def test_labels_and_empty_lines_are_no_records() -> None:
    reader = Generic(layout(*THREE), TYPES)
    assert len(reader.feed(b"<LABELS>,a,b\n\r\n\n100.0,3500,-20\n")) == 3
    assert {name: number for name, number in reader.counts.items() if number} == {
        "received": 2,
        "ignored": 1,
        "used": 1,
    }


def test_long_lines_are_forgotten() -> None:
    reader = Generic(layout(*THREE), TYPES)
    for _ in range(100):
        reader.feed(b"1" * 5000)
        assert len(reader._rest) <= protocol.MAX_RECORD_BYTES
    assert reader.feed(b"1\n100.0,3500,-20\n")[0].value == 100.0
    assert (reader.counts[protocol.TOO_LONG], adds_up(reader)) == (1, True)
    assert reader.refused == "'1': too long"


@pytest.mark.parametrize("end", ["newline", "none"])
def test_a_line_of_8192_characters_is_read_and_a_longer_one_is_not(end: str) -> None:
    last = "\n" if end == "newline" else ""
    reader = Generic(layout(*THREE, end=end), TYPES)
    line = "100.0,3500,"
    for length, used in ((8192, 1), (8193, 1), (8192, 2)):
        reader.feed((line.ljust(length - 3) + "-20" + last).encode())
        assert reader.counts["used"] == used
    assert (reader.counts[protocol.TOO_LONG], adds_up(reader)) == (1, True)
    assert reader.refused == repr(line.ljust(40)) + ": too long"


def test_a_line_may_grow_to_8192_characters_before_it_ends() -> None:
    reader = Generic(layout(*THREE), TYPES)
    reader.feed(b"100.0,3500,".ljust(8189) + b"-20")
    assert len(reader.feed(b"\n")) == 3
    reader.feed(b"100.0,3500,".ljust(8190) + b"-20")
    assert reader.feed(b"\n") == []


@pytest.mark.parametrize("unfinished", [b"100.0,35", b"1" * 9000])
def test_an_unfinished_line_is_forgotten_after_an_interruption(unfinished: bytes) -> None:
    reader = Generic(layout(*THREE), TYPES)
    reader.feed(unfinished)
    reader.interrupt()
    assert {update.key: update.value for update in reader.feed(b"100.0,3500,-20\n")} == WANTED
    assert (reader.counts["received"], reader.counts["used"]) == (1, 1)


def test_text_is_written_as_text_and_truth_as_truth() -> None:
    form = layout(chunk("ACID", "%s", "string"), chunk("TSBTN11", "%d", "bool"), chunk("IAS"))
    assert read(form, b"N12345,1,1\n") == {"ACID": "N12345", "TSBTN11": True, "IAS": 1.0}
    assert read(form, b"N12345,2,1_0\n") == {"ACID": "N12345", "TSBTN11": None, "IAS": None}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("IAS", "", None),
        ("IAS", "fast", None),
        ("IAS", "nan", None),
        ("IAS", "-inf", None),
        ("IAS", "\u0663", None),  # a digit, but not one of C
        ("IAS", "1e2", 100.0),
        ("TSBTN11", "True", True),
        ("TSBTN11", "1.0", True),
        ("TSBTN11", "0.0", False),
        ("TSBTN11", "false", False),
        ("TSBTN11", "", None),
        ("ACID", "", ""),
        ("ACID", "x" * 200, "x" * 200),
        ("ACID", "x" * 201, None),
        ("ACID", "N\x07", None),
    ],
)
def test_what_is_not_of_the_type_of_its_key_fails_it(key: str, text: str, value: Any) -> None:
    update = protocol.update_of(key, text, TYPES[key])
    assert (update.key, update.value, update.flags) == (key, value, FAIL if value is None else 0)
    assert update.reason == ("" if value is not None else f"FlightGear sends {text[:20]!r}")


def test_binary_records() -> None:
    kinds = [("TACH1", "int"), ("TSBTN11", "bool"), ("IAS", "float"), ("LAT", "double")]
    chunks = [chunk(key, kind=kind) for key, kind in kinds]
    wanted = {"TACH1": 2400.0, "TSBTN11": True, "IAS": 100.5, "LAT": 44.4136667}
    values = (2400, 1, 100.5, 44.4136667)
    binary = "<binary_mode>true</binary_mode>"
    assert read(layout(*chunks, more=binary), struct.pack("<ibfd", *values) * 2) == wanted
    assert read(layout(*chunks, more=binary), struct.pack("<ibfd", *values)[:-1]) == {}
    network = layout(*chunks, more=f"{binary}<byte_order>network</byte_order>")
    assert read(network, struct.pack(">ibfd", *values)) == wanted
    magic = layout(*chunks, more=f"{binary}<binary_footer>magic,0x12345678</binary_footer>")
    assert read(magic, struct.pack("<ibfdI", *values, 0x12345678)) == wanted
    assert read(magic, struct.pack("<ibfdI", *values, 0x12345679)) == {}
    assert record(magic, wanted) == struct.pack("<ibfdI", *values, 0x12345678)
    assert record(magic, {**wanted, "TACH1": 2399.6}) == record(magic, wanted), "whole numbers are rounded"
    assert record(network, {**wanted, "IAS": None}) is None
    assert record(network, {**wanted, "TACH1": 1e12}) is None
    assert record(network, {**wanted, "LAT": "north"}) is None
    assert record(network, wanted) == struct.pack(">ibfd", *values)


def test_a_binary_record_of_another_length_or_with_another_footer_is_refused_alone() -> None:
    def footed(footer: str) -> Layout:
        return layout(chunk("IAS"), more=f"{BINARY}<binary_footer>{footer}</binary_footer>")

    for length in (4, 8):  # without and with the footer
        assert read(footed("length"), struct.pack("<fi", 100.5, length)) == {"IAS": 100.5}
    for length in (0, 5, 12):
        assert read(footed("length"), struct.pack("<fi", 100.5, length)) == {}
    assert record(footed("length"), {"IAS": 100.5}) == struct.pack("<fi", 100.5, 4)
    assert record(footed("none"), {"IAS": 100.5}) == struct.pack("<f", 100.5)
    assert record(footed("MAGIC,-2"), {"IAS": 100.5}) == struct.pack("<fI", 100.5, 0xFFFFFFFE)
    reader = Generic(footed("magic,7"), TYPES)
    (update,) = reader.feed(struct.pack("<fIfI", 99.0, 8, 100.5, 7))
    assert update.value == 100.5
    assert reader.counts["received"] == 2
    for datagram in (b"", bytes(7), bytes(9)):
        assert reader.feed(datagram) == []
    assert reader.counts[protocol.BAD_LENGTH] == 4
    assert reader.refused == repr("\0" * 9) + ": wrong lengths"
    assert adds_up(reader)


def test_of_a_long_record_that_is_refused_the_beginning_is_shown() -> None:
    chunks = [chunk("IAS")] * 20
    reader = Generic(layout(*chunks, more=f"{BINARY}<binary_footer>magic,7</binary_footer>"), TYPES)
    for datagram in (b"x" * 84, b"y" * 85):  # with another footer, and of another length
        assert reader.feed(datagram) == []
        assert reader.refused == repr(datagram[:40].decode()) + ": wrong lengths"


def test_constants_of_a_binary_record_are_sent_as_zero_and_skipped() -> None:
    form = layout("<type>int</type><format>Data</format>", chunk("IAS"), more=BINARY)
    assert record(form, {"IAS": 100.5}) == struct.pack("<if", 0, 100.5)
    assert read(form, struct.pack("<if", 7, 100.5)) == {"IAS": 100.5}


def test_zeros_while_it_loads_are_no_values() -> None:
    temperature = chunk("OILT1", "%.1f", more="<factor>0.5556</factor><offset>-17.7778</offset>")
    reader = Generic(layout(chunk("LAT"), chunk("LONG"), temperature), TYPES)
    assert reader.feed(b"0.000000,0.000000,8.9\n") == []
    assert reader.trouble == LOADING
    assert len(reader.feed(b"44.000000,-121.000000,-17.8\n")) == 3
    failed = reader.feed(b"0.000000,0.000000,-17.8\n" * 2)
    assert [(update.key, update.value, update.flags) for update in failed] == [
        ("LAT", None, FAIL),
        ("LONG", None, FAIL),
        ("OILT1", None, FAIL),
    ]
    without = Generic(layout(chunk("IAS", "%.1f"), chunk("TACH1", "%d"), temperature), TYPES)
    assert without.feed(b"0.0,0,-17.8\n") == []
    assert without.counts["ignored"] == 1
    assert len(without.feed(b"0.0,0,8.9\n")) == 3


@pytest.mark.parametrize(
    ("form", "offset", "zero", "more"),
    [
        ("%d", "-17.5", "-18", "-19"),
        ("%+05d", "-17.7778", "-0018", "-0019"),
        ("%.1f", "-17.75", "-17.8", "-17.9"),
        ("%8f", "-17.77777777", "-17.777778", "-17.778"),
        ("%8.2f", "-17.7778", "  -17.78", "  -17.79"),
        ("%g", "-17.77777777", "-17.7778", "-17.778"),
        ("", "-0.0000005", "-0.000001", "-0.000002"),
    ],
)
def test_the_zero_of_a_property_is_recognised_in_its_format(form: str, offset: str, zero: str, more: str) -> None:
    reader = Generic(layout(chunk("IAS"), chunk("VS"), chunk("OILT1", form, more=f"<offset>{offset}</offset>")), TYPES)
    assert reader.feed(f"0,0,{zero}\n".encode()) == []
    assert len(reader.feed(f"0,0,{more}\n".encode())) == 3


@pytest.mark.parametrize("kind", ["float", "double"])
def test_the_zero_of_a_property_is_recognised_in_a_binary_record(kind: str) -> None:
    chunks = [chunk("IAS"), chunk("VS"), chunk("OILT1", kind=kind, more="<offset>-17.7777777</offset>")]
    reader = Generic(layout(*chunks, more=BINARY), TYPES)
    form = f"<ff{kind[0]}"
    assert reader.feed(struct.pack(form, 0.0, 0.0, -17.7777777)) == []
    assert len(reader.feed(struct.pack(form, 0.0, 0.0, -17.778))) == 3


@given(st.lists(st.binary(max_size=200) | st.just(b"100.0,3500,-20\n"), max_size=8))
def test_any_datagrams_are_counted(datagrams: list[bytes]) -> None:
    binary = layout(*THREE, more="<binary_mode>true</binary_mode>")
    for form in (layout(*THREE), layout(*THREE, end="none"), binary):
        reader = Generic(form, TYPES)
        for datagram in datagrams:
            reader.feed(datagram)
        assert adds_up(reader)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_a_record_comes_back(values: list[float]) -> None:
    form = layout(*(chunk(key) for key in ("IAS", "ALT", "VS")))
    given_values = dict(zip(("IAS", "ALT", "VS"), values, strict=True))
    data = record(form, dict(given_values))
    assert data is not None
    if any(abs(value) > 1e-6 for value in values):
        assert read(form, data) == pytest.approx(given_values, abs=1e-6)


def test_text_with_a_separator_is_not_sent() -> None:
    form = layout(chunk("ACID", "%s", "string"), chunk("IAS"))
    assert record(form, {"ACID": "N1", "IAS": 1.0}) == b"N1,1.000000\n"
    assert record(form, {"ACID": "N,1", "IAS": 1.0}) is None
    assert record(form, {"ACID": "N\n1", "IAS": 1.0}) is None
    assert record(form, {"ACID": "N\u20ac", "IAS": 1.0}) == b"N?,1.000000\n"
    assert record(form, {"ACID": "N1", "IAS": "fast"}) is None


# -- HTTP --------------------------------------------------------------------------------------------------------------

LAT, LONG = Property("/position/latitude-deg", "LAT"), Property("/position/longitude-deg", "LONG")
OIL = Property("/engines/engine[0]/oil-temperature-degf", "OILT1", 1 / 1.8, -32 / 1.8)


def answered(reader: Properties, *answers: str) -> list[Any]:
    updates = []
    for answer in answers:
        path = reader.due()
        assert path is not None
        assert reader.due() is None, "one at a time"
        updates += reader.feed(answer.replace("PATH", path, 1).encode() + b"\n")
    return updates


def test_properties_are_read_in_rounds() -> None:
    clock = Clock()
    reader = Properties(clock, [LAT, LONG, OIL], TYPES, rate=2.0)
    updates = answered(reader, *(f'200 PATH {{"value":{value}}}' for value in (44.0, -121.0, 212.0)))
    assert {update.key: update.value for update in updates} == pytest.approx(
        {"LAT": 44.0, "LONG": -121.0, "OILT1": 100.0}
    )
    assert reader.begun_at is None
    clock.now += 0.49
    assert reader.due() is None
    clock.now += 0.01
    assert reader.due() == LAT.path
    assert reader.begun_at == clock.now
    assert adds_up(reader)


def test_a_round_begins_in_its_turn_although_the_last_one_took_long() -> None:
    clock = Clock()
    reader = Properties(clock, [LAT, LONG], TYPES)  # ten times a second
    for path in (LAT.path, LONG.path):
        assert reader.due() == path
        clock.now += 0.04
        reader.feed(f'200 {path} {{"value":44.0}}\n'.encode())
    assert reader.due() is None
    clock.now += 0.03
    assert reader.due() == LAT.path


def test_what_is_unknown_or_no_number_fails() -> None:
    reader = Properties(Clock(), [LAT, LONG, OIL], TYPES)
    updates = answered(reader, "404 PATH <html>", '200 PATH {"value":"nan"}', "200 PATH {")
    assert [(update.value, update.flags) for update in updates] == [(None, FAIL)] * 3
    assert [update.reason for update in updates] == [
        "FlightGear has no property /position/latitude-deg",
        "FlightGear sends 'nan'",
        "FlightGear's answer for /engines/engine[0]/oil-temperature-degf is not understood",
    ]
    assert reader.counts[protocol.BAD_ANSWER] == 1
    assert reader.feed(b'200 /position/latitude-deg {"value":1}\n') == [], "nobody asked"
    assert reader.counts[protocol.BAD_ANSWER] == 2
    assert reader.refused == repr('/position/latitude-deg {"value":1}'[:40]) + ": wrong answers"
    assert adds_up(reader)


@pytest.mark.parametrize("body", ["[]", '"value"', "{}", "{", "[" * 8000, ""])
def test_an_answer_that_is_not_understood_fails_its_key(body: str) -> None:
    (update,) = answered(Properties(Clock(), [LAT], TYPES), f"200 PATH {body}")
    assert (update.key, update.value, update.flags) == ("LAT", None, FAIL)
    assert update.reason.endswith("is not understood")


def test_an_error_of_the_web_server_is_told() -> None:
    (update,) = answered(Properties(Clock(), [LAT], TYPES), '500 PATH {"value":44.0}')
    assert (update.value, update.reason) == (None, f"FlightGear answers 500 for {LAT.path}")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("404 PATH <html>", "FlightGear has no property {}"),
        ("999999999999999999999 PATH x", "FlightGear answers 99999999999999999999 for {}"),
        ("200 PATH {", "FlightGear's answer for {} is not understood"),
    ],
)
def test_reasons_do_not_grow_with_what_comes(answer: str, reason: str) -> None:
    path = "/x".ljust(150, "x")
    (update,) = answered(Properties(Clock(), [Property(path, "LAT")], TYPES), answer)
    assert update.reason == reason.format(path[:100])


def test_the_answer_for_another_property_is_not_taken() -> None:
    reader = Properties(Clock(), [LAT, LONG], TYPES)
    reader.due()
    assert reader.feed(f'200 {LONG.path} {{"value":-121.0}}\n'.encode()) == []
    assert reader.due() is None, "the answer may still come"
    assert reader.feed(f'200 {LAT.path} {{"value":44.0}}\n'.encode()) == []
    assert reader.due() == LONG.path


def test_answers_may_come_in_pieces_but_not_without_end() -> None:
    reader = Properties(Clock(), [LAT], TYPES)
    whole = f'200 {LAT.path} {{"value":44.0}}'.encode()
    reader.due()
    assert reader.feed(whole[:20]) == []
    assert reader.feed(whole[20:].ljust(8192 - 20)) == []
    (update,) = reader.feed(b"\n")
    assert update.value == 44.0
    reader = Properties(Clock(), [LAT], TYPES)
    reader.due()
    assert reader.feed(whole.ljust(8193)) == []
    assert (reader.counts[protocol.TOO_LONG], reader.refused) == (1, "'an answer': too long")
    assert [u.value for u in reader.feed(whole + b"\n")] == [44.0]
    assert adds_up(reader)


def test_values_by_http_have_the_type_of_their_key() -> None:
    button, call = Property("/controls/gear/brake", "TSBTN11"), Property("/sim/tail", "ACID", 2.0, 1.0)
    speed = Property("/velocities/speed", "IAS", 2.0, 1.0)
    answers = ('200 PATH {"value":true}', '200 PATH {"value":"N1"}', '200 PATH {"value":"100"}')
    updates = answered(Properties(Clock(), [button, call, speed], TYPES), *answers)
    assert [update.value for update in updates] == [True, "N1", 201.0]


def test_only_what_had_a_value_fails_when_another_flight_loads() -> None:
    reader = Generic(layout(chunk("LAT"), chunk("LONG"), chunk("IAS"), chunk("ACID", "%s", "string")), TYPES)
    assert reader.feed(b"0,0,100,N1\n") == []
    (*_, failed, _) = reader.feed(b"44,-121,fast,N1\n")
    assert (failed.key, failed.value) == ("IAS", None)
    assert {update.key for update in reader.feed(b"0,0,100,N1\n")} == {"LAT", "LONG", "ACID"}
    assert reader.feed(b"0,0,100,N1\n") == []


def test_zeros_by_http_are_no_values() -> None:
    clock = Clock()
    reader = Properties(clock, [LAT, LONG, OIL], TYPES)
    assert answered(reader, *['200 PATH {"value":0}'] * 3) == []
    assert reader.trouble == LOADING
    clock.now += 1.0
    assert len(answered(reader, *['200 PATH {"value":44}'] * 3)) == 3
    assert reader.trouble == ""
    clock.now += 1.0
    failed = answered(reader, *['200 PATH {"value":0}'] * 3)
    assert {update.key: update.flags for update in failed} == {"LAT": FAIL, "LONG": FAIL, "OILT1": FAIL}


@pytest.mark.slow
def test_an_answer_that_drips_holds_nobody_up() -> None:
    device = Fgfs(port=0)
    web = WebServer(device)
    web.drips.set()
    line = HttpLine(endpoint.Endpoint("tcp", "127.0.0.1", web.port))
    try:
        line.write(LAT.path.encode())
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            until(lambda: line.read(1))
        assert time.monotonic() - began < 1.0
    finally:
        line.close()
        web.drips.clear()
        web.close()
        device.close()


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data directory with a protocol file that names an engine which the aircraft does not have."""
    (tmp_path / "Protocol").mkdir()
    file = written(
        block("output", [chunk("IAS"), chunk("NOSUCHKEY"), chunk("ALT")]),
        block("input", [chunk("BARO"), chunk("THR9")]),
    )
    (tmp_path / "Protocol" / "mine.xml").write_bytes(file)
    return tmp_path


def findings(options: dict[str, Any]) -> list[str]:
    made = Plugin("x", options).options
    return [f"{name}: {text}" for name, text in (*Plugin.check(made, ITEMS), *Plugin.advise(made, ITEMS))]


def test_protocol_files_are_found_where_the_incumbent_finds_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings({}) == []
    monkeypatch.setenv("HOME", str(root.parent))
    for options in (
        {"fg_root": str(root), "xml_file": "mine.xml"},
        {"fg_root": f"~/{root.name}", "xml_file": "mine"},
        {"fg_root": str(root / "Protocol"), "xml_file": "mine.xml"},
        {"xml_file": str(root / "Protocol" / "mine.xml")},
    ):
        first, second = findings(options)
        assert "no item 'NOSUCHKEY'" in first
        assert "nothing is sent to FlightGear without it" in second
    (missing,) = findings({"fg_root": str(root), "xml_file": "other.xml"})
    assert missing.startswith(f"xml_file: {root}/Protocol/other.xml: No such file or directory: nothing is read")


@pytest.mark.slow
def test_a_file_may_come_later(bench: FgfsBench, tmp_path: Path) -> None:
    """FlightGear's data may be on a disk that is mounted late, and files are changed."""
    file = tmp_path / "late.xml"
    bench.subject = Subject("fixgw.drivers.fgfs", FgfsBench, Fgfs, (), {"xml_file": str(file)})
    plugin = bench.plugin_class("bench", {**bench.options(), **bench.subject.options})
    plugin.clock = bench.clock  # type: ignore[attr-defined]
    bench.plugin = plugin
    plugin.start()
    until(lambda: "late.xml: No such file" in plugin.health())
    file.write_bytes(b"<PropertyList>")
    until(lambda: "late.xml: line 1: no element found" in plugin.health())
    file.write_bytes(OWN)
    until(lambda: plugin.connected)  # type: ignore[attr-defined]
    send(bench, lambda: bench.db.read("LAT").good)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"http": "127.0.0.1", "read": {"LAT": "/position/latitude-deg"}}, "http"),
        ({"http": "127.0.0.1:8080"}, "read"),
        ({"http": "127.0.0.1:8080", "read": {"LATT": "/position/latitude-deg"}}, "read.LATT"),
        ({"read": {"LAT": "/position/latitude-deg"}}, "read"),
        ({"recv_host": "a b"}, "recv_host"),
        ({"send_host": ""}, "send_host"),
        ({"changes_within": {"CHT12": 5}}, "changes_within.CHT12"),
        ({"allow": ["x"]}, "allow.0"),
    ],
)
def test_wrong_options_are_found(options: dict[str, Any], option: str) -> None:
    if options.get("send_host") == "":
        with pytest.raises(Exception, match="length"):
            Plugin("x", options)
        return
    assert [each.partition(":")[0] for each in findings(options)] == [option]


def test_its_source_is_simulated(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(
        "connections: {fgfs: {load: yes, module: fixgw.plugins.fgfs, source: gps, recv_port: 5500}}"
    )
    (connection,) = configuration.load(tmp_path / "default.yaml").connections
    assert connection.source == "sim/gps"


# -- with the virtual simulator ----------------------------------------------------------------------------------------


class FgfsBench(DatagramBench):
    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.device.output = ("127.0.0.1", self.here)

    def options(self) -> dict[str, Any]:
        return {"recv_port": self.here, "send_port": self.device.port}


KEYS = "LAT LONG TALT AGL GS TRACK TRACKM IAS TAS ALT VS PITCH ROLL HEAD OAT VOLT TACH1 MAP1 OILP1 OILT1 EGT11 CHT11"


class TestContract(Contract):
    subject = FgfsBench.of(
        "fixgw.drivers.fgfs",
        Fgfs,
        f"{KEYS} FUELF1 FUELQ1 FUELQ2",
        within={"TACH1": 1, "OAT": 0.05, "MAP1": 0.005, "TRACK": 0.005, "VS": 0.05},
    )


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[FgfsBench]:
    bench = FgfsBench(Subject("fixgw.drivers.fgfs", FgfsBench, Fgfs))
    monkeypatch.setattr(bench.plugin_class, "poll_timeout", 0.02)
    yield bench
    bench.close()


def send(bench: FgfsBench, condition: Any) -> None:
    """Let the driver send until `condition` holds."""

    def step() -> bool:
        bench.clock.now += 0.1
        bench.device.tick(bench.aircraft, bench.clock.now)
        return bool(condition())

    until(step, "nothing is sent")


@pytest.mark.slow
def test_a_setting_is_sent(bench: FgfsBench) -> None:
    bench.start()
    bench.db.write("BARO", 30.02, "knob")
    send(bench, lambda: bench.device.taken == {"/instrumentation/altimeter/setting-inhg": 30.02})


@pytest.mark.slow
def test_a_line_is_sent_only_if_all_of_it_is_good(bench: FgfsBench, root: Path) -> None:
    file = root / "Protocol" / "mine.xml"
    file.write_bytes(written(block("output", [chunk("IAS")]), block("input", [chunk("BARO"), chunk("THR1")])))
    subject = Subject("fixgw.drivers.fgfs", FgfsBench, Fgfs, (), {"xml_file": str(file)})
    bench.subject = subject
    plugin = bench.start()
    bench.db.write("BARO", 30.02, "knob")
    for value, flags in ((0.65, BAD), (0.65, FAIL)):
        bench.db.write("THR1", value, "lever", flags)
        left_out = bench.plugin.counts.get("records left out", 0)
        send(bench, lambda: bench.plugin.counts.get("records left out", 0) > left_out + 2)  # noqa: B023
    assert not bench.device.taken
    assert plugin.get_status()["not sent for want of"] == "THR1"
    send(bench, lambda: (bench.db.write("THR1", 0.65, "lever", 0), bench.device.received)[1])


@pytest.mark.slow
def test_a_simulator_that_loads_says_nothing(bench: FgfsBench) -> None:
    bench.device.loading = True
    bench.start()
    bench.fly_until(lambda: bench.plugin.health() == LOADING, "zeros are taken for values")
    assert not bench.db.read("OILT1").source
    bench.device.loading = False
    bench.fly_until(lambda: bench.db.read("LAT").good and not bench.plugin.health(), "it does not recover")


@pytest.mark.slow
def test_another_sender_is_refused(bench: FgfsBench) -> None:
    bench.start()
    bench.fly(0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.9", 0))
        other.sendto(b"0\n", ("127.0.0.1", bench.here))
    until(lambda: bench.plugin.counts.get("datagrams of other hosts"), "it is accepted")


@pytest.mark.slow
def test_a_round_that_takes_too_long_is_not_used(bench: FgfsBench) -> None:
    """Its first value would be as old as the round."""
    plugin: Any = bench.plugin_class("bench", {"http": "127.0.0.1:1", "read": {"LAT": LAT.path, "LONG": LONG.path}})
    clock = plugin.clock = Clock()
    plugin._new_protocol()
    (path,) = plugin.requests()
    plugin._protocol.feed(b'200 %b {"value":44.0}\n' % path)
    clock.now += 2.0
    assert list(plugin.requests()) == [LONG.path.encode()]
    clock.now += 2.0
    with pytest.raises(DeviceError, match="does not answer within 3 s"):
        list(plugin.requests())


@pytest.mark.slow
def test_what_waited_while_the_gateway_was_held_up_is_discarded(bench: FgfsBench) -> None:
    bench.start()
    bench.fly_until(lambda: bench.db.read("LAT").good, "no position")
    counts = bench.plugin.counts
    used, before = counts["used"], bench.db.read("LAT").stamp
    bench.hold_up()
    assert (counts["used"], bench.db.read("LAT").stamp) == (used, before)
    bench.fly_until(lambda: counts["used"] > used, "it does not recover")


@pytest.mark.slow
def test_properties_come_by_http(bench: FgfsBench) -> None:
    web = WebServer(bench.device)
    read = {"LAT": "/position/latitude-deg", "LONG": "/position/longitude-deg", "OAT": "/environment/nowhere"}
    bench.device.output = None
    bench.subject = Subject(
        "fixgw.drivers.fgfs", FgfsBench, Fgfs, (), {"http": f"127.0.0.1:{web.port}", "read": read, "rate": 50}
    )
    try:
        bench.device.tick(bench.aircraft, 0.0)
        plugin = bench.start()
        send(bench, lambda: bench.db.read("LONG").good and bench.db.read("OAT").fail)
        assert bench.db.read("LAT").value == bench.device.properties["/position/latitude-deg"]
        assert plugin.health() == ""
        web.frozen.set()
        send(bench, lambda: bench.db.read("LAT").fail)
        assert "does not answer" in plugin.health() or "went away" in plugin.health()
        web.frozen.clear()
        send(bench, lambda: bench.db.read("LAT").good)
    finally:
        bench.stop()
        web.close()
