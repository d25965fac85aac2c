from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import BAD, FAIL, OLD, WRITABLE, Definition, Reading
from fixgw.netfix import sentence
from fixgw.netfix.sentence import Garbage, LineSplitter

numbers = st.floats(allow_nan=False, allow_infinity=False)
plain_text = st.text(st.characters(codec="utf-8", exclude_characters=";", exclude_categories=["C", "Z"]), max_size=50)


@given(numbers)
def test_a_float_survives_the_wire(value: float) -> None:
    assert math.copysign(1.0, float(sentence.text_of(value))) == math.copysign(1.0, value)
    assert sentence.value_of(sentence.text_of(value), "float") == value


@given(st.integers() | st.booleans() | plain_text)
def test_other_values_survive_the_wire_when_their_type_is_known(value: int | bool | str) -> None:
    assert sentence.value_of(sentence.text_of(value), type(value).__name__) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (29.92, "29.92"), (10.0, "10.0"), (1.2e-07, "1.2e-07"), (0.1 + 0.2, "0.30000000000000004"), (-0.0, "-0.0"),
        (7, "7"), (True, "True"), (False, "False"), (None, "None"), ("", ""), ("N123AB", "N123AB"),
        ("a;b", "a,b"), ("a\r\nb\tc", "a  b c"), ("\ud800", " "),
    ],
)  # fmt: skip
def test_values_are_formatted_for_the_wire(value: object, text: str) -> None:
    assert sentence.text_of(value) == text  # type: ignore[arg-type]


@given(st.text())
def test_text_from_a_driver_never_breaks_a_sentence(text: str) -> None:
    carried = sentence.text_of(text)
    assert ";" not in carried
    assert len(f"{carried}\n".splitlines()) == 1
    carried.encode()


@pytest.mark.parametrize(
    ("text", "value"), [("100.0", 100.0), ("7", 7), ("True", True), ("None", None), ("nan", "nan"), ("1_0", "1_0")]
)
def test_without_a_type_a_value_is_parsed_by_its_form(text: str, value: object) -> None:
    found = sentence.value_of(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "flags", "mask"),
    [
        ("010", BAD, WRITABLE & ~1), ("0001", 1, WRITABLE), ("0100", BAD, WRITABLE),
        ("01010", FAIL, WRITABLE), ("01000", 0, WRITABLE),
    ],
)  # fmt: skip
def test_flags_of_a_client_are_parsed(text: str, flags: int, mask: int) -> None:
    assert sentence.flags_of(text) == (flags, mask)


@pytest.mark.parametrize("text", ["", "0", "00", "000000", "00x", "TFF", "00 "])
def test_anything_else_is_refused_as_flags(text: str) -> None:
    assert sentence.flags_of(text) is None


@given(st.integers(0, 31))
def test_flags_of_a_server_survive_the_wire(flags: int) -> None:
    text = sentence.update("K", Reading(1.0, flags, 0.0, "")).rpartition(";")[2]
    assert sentence.flag_bits(text) == flags


def test_updates_are_formatted_and_parsed() -> None:
    assert sentence.update("IAS", Reading(22.5, OLD, 0.0, "")) == "IAS;22.5;01000"
    assert sentence.aux_update("IAS", "Vne", None) == "IAS.Vne;None"


# -- lines -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary()))
def test_the_splitter_and_the_parser_never_raise(chunks: list[bytes]) -> None:
    splitter = LineSplitter(max_line=20, max_skipped=50)
    for chunk in chunks:
        for line in splitter.feed(chunk):
            if isinstance(line, str):
                command = sentence.parse(line)
                assert command.error("004").endswith("!004")
                assert "\n" not in command.error("004")
            else:
                assert "\n" not in line.echo


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_a_stream_can_be_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    whole = LineSplitter().feed(data)
    splitter = LineSplitter()
    places = sorted({0, *(c for c in cuts if c < len(data)), len(data)})
    pieces = [line for a, b in itertools.pairwise(places) for line in splitter.feed(data[a:b])]
    assert pieces == whole


def test_lines_end_with_either_kind_of_line_end_and_empty_ones_are_dropped() -> None:
    assert LineSplitter().feed(b"@l\r\n\n\r\n@rIAS\nhalf a li") == ["@l", "@rIAS"]


def test_an_overlong_line_is_reported_once_and_skipped_to_its_end() -> None:
    splitter = LineSplitter(max_line=10)
    assert splitter.feed(b"x" * 11) == [Garbage("x" * 11)]
    assert splitter.feed(b"x" * 1000) == []
    assert splitter.feed(b"xxx\n@l\n") == ["@l"]
    assert not splitter.hopeless


def test_an_endless_line_is_given_up_and_takes_no_memory() -> None:
    splitter = LineSplitter(max_line=10, max_skipped=1000)
    for _ in range(200):
        splitter.feed(b"x" * 100)
    assert splitter.hopeless
    assert len(splitter._tail) == 0


def test_invalid_utf8_is_garbage_with_a_harmless_echo() -> None:
    assert LineSplitter().feed(b"@r\xff\xfe\n@r\0IAS\n@rIAS\n") == [Garbage("@r��"), Garbage("@r�IAS"), "@rIAS"]


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "letter", "key", "rest"),
    [
        ("@l", "l", "", None), ("@rIAS.Vne", "r", "IAS.Vne", None), ("@rIAS;1", "r", "IAS;1", None),
        ("@wIAS;1", "w", "IAS", "1"), ("@wIAS", "w", "IAS", None), ("@wIAS;a;b", "w", "IAS", "a;b"),
        ("@fIAS;b;1", "f", "IAS", "b;1"), ("@xexplain IAS", "x", "explain IAS", None),
        ("IAS;1;000", "=", "IAS", "1;000"), ("hello", "", "hello", ""), ("@", "", "", None), ("@zIAS", "", "", None),
    ],
)  # fmt: skip
def test_commands_are_parsed(line: str, letter: str, key: str, rest: str | None) -> None:
    command = sentence.parse(line)
    assert (command.letter, command.key, command.rest) == (letter, key, rest)


# -- replies -----------------------------------------------------------------------------------------------------------


def test_the_list_is_one_line_and_ends_with_zzloader() -> None:
    assert sentence.key_list(["IAS", "ZZLOADER", "ALT"]) == "@l3;0;IAS,ALT,ZZLOADER"


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (
            Definition(key="IAS", min=0, max=1000, units="knots", tolerance=2000, aux=("Vs", "Vne"), description="Air"),
            "@qIAS;Air;float;0.0;1000.0;knots;2000;Vs,Vne",
        ),
        (Definition(key="N", type="int", min=0, max=5), "@qN;;int;0;5;;0;"),
        (Definition(key="B", type="bool"), "@qB;;bool;False;False;;0;"),
        (Definition(key="S", type="str", description="a;b\nc"), "@qS;a,b c;str;None;None;;0;"),
        (Definition(key="F"), "@qF;;float;-1.7976931348623157e+308;1.7976931348623157e+308;;0;"),
        (Definition(key="I", type="int"), "@qI;;int;-9223372036854775808;9223372036854775807;;0;"),
    ],
)
def test_a_report_has_eight_fields_for_any_definition(definition: Definition, text: str) -> None:
    assert sentence.report(definition) == text
    assert text.count(";") == 7
