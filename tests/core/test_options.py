"""Declared options: plain messages with positions, and the tables that describe the options."""

from __future__ import annotations

import enum
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from fixgw.configuration import options
from fixgw.configuration.reader import Positions, Reader
from fixgw.kit.options import convert
from fixgw.plugin import Options


class Parity(enum.Enum):
    NONE = "none"
    EVEN = "even"


class Output(Options, kw_only=True, frozen=True):
    """A nested struct."""

    key: str
    every: Annotated[int, Meta(ge=1, description="How often.")] = 1

    def __post_init__(self) -> None:
        if self.key == "BAD":
            raise ValueError("BAD is no key")


class Example(Options, kw_only=True, frozen=True):
    """Every kind of option."""

    port: Annotated[int, Meta(ge=1, le=65535, description="Port to listen on.")]
    type: Literal["server", "client", "both"] = "server"
    rate: Annotated[float, Meta(gt=0)] = 1
    name: Annotated[str, Meta(min_length=1, pattern="^[a-z]*$")] = "a"
    baud: Annotated[int, Meta(ge=50)] | Literal["auto"] = "auto"
    verbose: bool = False
    allow: list[str] = []
    outputs: tuple[Output, ...] = ()
    pair: tuple[int, int] = (1, 2)
    limits: dict[str, Annotated[float, Meta(gt=0)]] = {}
    first: Output | None = None
    parity: Parity = Parity.NONE
    levels: list[float] = []

    def __post_init__(self) -> None:
        if self.rate == 99:
            raise ValueError("rate 99 makes no sense")


class Serial(Options, frozen=True, tag="serial"):
    baud: int = 9600


class Network(Options, frozen=True, tag="network"):
    host: str = ""


class Either(Options, frozen=True):
    """One of several structs, which a tag chooses."""

    link: Serial | Network = Serial()


def problems(text: str, kind: Any = Example, name: str = "", known: tuple[str, ...] = ()) -> list[str]:
    reader = Reader("/nowhere/main.yaml")
    value, at = reader._parse("f", text)
    assert not reader.problems
    return [str(p) for p in options.problems(value, kind, at, name, known)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: abc", "f:1:7: port: expected whole number, 1 to 65535, got text 'abc'"),
        ("port: 0", "f:1:7: port: expected whole number, 1 to 65535, got the number 0"),
        ("port: 1.5", "f:1:7: port: expected whole number, 1 to 65535, got the number 1.5"),
        ("port: yes", "f:1:7: port: expected whole number, 1 to 65535, got yes"),
        ("port:", "f:1:6: port: expected whole number, 1 to 65535, got nothing"),
        ("port: {a: 1}", "f:1:7: port: expected whole number, 1 to 65535, got a mapping"),
        ("port: [1]", "f:1:7: port: expected whole number, 1 to 65535, got a list of 1"),
        (f"port: {2**70}", f"f:1:7: port: expected whole number, 1 to 65535, got the number {2**70}"),
        ("rate: 0", "f:1:7: rate: expected number, more than 0, got the number 0"),
        ("rate: -.inf", "f:1:7: rate: expected number, more than 0, got the number -inf"),
        (
            "type: no",
            "f:1:7: type: expected server, client or both, got no (YAML reads yes, no, on and off as switches): "
            "put it in quotes",
        ),
        (
            "parity: off",
            "f:1:9: parity: expected none or even, got no (YAML reads yes, no, on and off as switches): "
            "put it in quotes",
        ),
        ("rate: yes", "f:1:7: rate: expected number, more than 0, got yes"),
        ("verbose: 1", "f:1:10: verbose: expected yes/no, got the number 1"),
        ("type: sever", "f:1:7: type: expected server, client or both, got text 'sever' (did you mean 'server'?)"),
        ("name: ''", "f:1:7: name: expected text, at least 1 long, of the form ^[a-z]*$, got text ''"),
        ("name: 5", "f:1:7: name: expected text, at least 1 long, of the form ^[a-z]*$, got the number 5"),
        ("baud: fast", "f:1:7: baud: expected whole number, at least 50 or auto, got text 'fast'"),
        ("parity: evn", "f:1:9: parity: expected none or even, got text 'evn' (did you mean 'even'?)"),
        ("allow: 10.0.0.0/8", "f:1:8: allow: expected list of text, got text '10.0.0.0/8'"),
        ("allow: [a, 5]", "f:1:12: allow[1]: expected text, got the number 5"),
        ("pair: [1, x]", "f:1:11: pair[1]: expected whole number, got text 'x'"),
        ("pair: [1]", "f:1:7: pair: expected list of whole number and whole number, got a list of 1"),
        ("limits: {EGT*: -1}", "f:1:16: limits.EGT*: expected number, more than 0, got the number -1"),
        (
            "allow: [a, no]",
            "f:1:12: allow[1]: expected text, got no (YAML reads yes, no, on and off as switches): put it in quotes",
        ),
        (
            "limits: {off: 1}",
            "f:1:10: limits: the key no: expected text, got no (YAML reads yes, no, on and off as switches): "
            "put it in quotes",
        ),
        ("limits: {5: 1}", "f:1:10: limits: the key 5: expected text, got the number 5"),
        (
            "outputs: [{key: A, every: 0}]",
            "f:1:27: outputs[0].every: expected whole number, at least 1, got the number 0",
        ),
        ("outputs: [{every: 1}]", "f:1:11: outputs[0]: 'key' is missing"),
        ("outputs: [{key: A, evry: 2}]", "f:1:20: outputs[0]: unknown option 'evry' (did you mean 'every'?)"),
        ("outputs: [{key: A}, {key: BAD}]", "f:1:21: outputs[1]: BAD is no key"),
        ("first: {key: 5}", "f:1:14: first.key: expected text, got the number 5"),
        ("first: x", "f:1:8: first: expected mapping, got text 'x'"),
        ("rate: 99", "f:1:1: rate 99 makes no sense"),
        ("rate: .inf", "f:1:7: rate: expected a number, got the number inf"),
        ("limits: {A: 1, B: .inf}", "f:1:19: limits.B: expected a number, got the number inf"),
        ("levels: [0.5, .nan]", "f:1:15: levels[1]: expected a number, got the number nan"),
        ("prot: 1", "f:1:1: unknown option 'prot' (did you mean 'port'?)"),
        ("lod: 1", "f:1:1: unknown option 'lod' (did you mean 'load'?)"),
        ("5: 1", "f:1:1: unknown option 5"),
    ],
)
def test_a_problem_has_a_plain_message(text: str, expected: str) -> None:
    given = text if text.startswith("port:") else f"{text}\nport: 1\n"
    assert problems(given, known=("load",)) == [expected]


def test_all_problems_are_found(tmp_path: Path) -> None:
    assert problems(
        "type: x\nport: 0\noutputs:\n  - {key: 1, every: 0}\n  - {}\nunknown: 5\nrate: 99\n", name="gps"
    ) == [
        "f:1:7: gps.type: expected server, client or both, got text 'x'",
        "f:2:7: gps.port: expected whole number, 1 to 65535, got the number 0",
        "f:4:11: gps.outputs[0].key: expected text, got the number 1",
        "f:4:21: gps.outputs[0].every: expected whole number, at least 1, got the number 0",
        "f:5:5: gps.outputs[1]: 'key' is missing",
        "f:6:1: gps: unknown option 'unknown'",
    ]


class Odd(Options, kw_only=True, frozen=True):
    """Types that the options of today do not have."""

    curve: dict[float, float] = {}
    one_or_more: Output | list[Output] = []
    names: frozenset[str] = frozenset()
    open: msgspec.Raw | None = None
    mapping: dict[str, dict[str, int]] = {}
    matrix: list[list[int]] = []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("curve: {.nan: 1}", "f:1:9: curve: the key nan: expected a number, got the number nan"),
        ("curve: {1.5: .inf}", "f:1:14: curve.1.5: expected a number, got the number inf"),
        ("curve: {1: x}", "f:1:12: curve.1: expected number, got text 'x'"),
        ("one_or_more: {key: 5}", "f:1:20: one_or_more.key: expected text, got the number 5"),
        ("one_or_more: [{key: A}, {key: 5}]", "f:1:31: one_or_more[1].key: expected text, got the number 5"),
        ("one_or_more: x", "f:1:14: one_or_more: expected mapping or list of mapping, got text 'x'"),
        ("names: [a, 5]", "f:1:12: names[1]: expected text, got the number 5"),
        ("mapping: {a: {b: x}}", "f:1:18: mapping.a.b: expected whole number, got text 'x'"),
        ("matrix: [[1], [2, x]]", "f:1:19: matrix[1][1]: expected whole number, got text 'x'"),
    ],
)
def test_a_problem_deep_in_an_option_has_its_position(text: str, expected: str) -> None:
    assert problems(text, Odd) == [expected]
    assert problems(f"a: {{{text}}}".replace("a: {", "{", 1), Odd, "x")[0].partition(": ")[2].startswith("x.")


def test_a_struct_that_allows_other_fields_is_not_asked_about_them() -> None:
    open_one = msgspec.defstruct("Open", [("port", int, 1)])
    assert problems("what: ever\nport: x", open_one) == ["f:2:7: port: expected whole number, got text 'x'"]


def test_what_fits_is_kept() -> None:
    given: dict[Any, Any] = {
        "port": 0,
        "type": "client",
        "outputs": [{"key": 5}, {"key": "A"}, 7, {"key": "B", "every": 2}],
        "levels": [1.0, 2.0],
        "limits": {"A": -1, "B": 2},
        "pair": [1, "x"],
        "allow": [5],
        "first": {"key": 5},
        "nothing": 1,
    }
    kept = {
        "type": "client",
        "outputs": [{"key": "A"}, {"key": "B", "every": 2}],
        "levels": [1.0, 2.0],
        "limits": {"B": 2},
    }
    fits, places = options.fitting(given, Example)
    assert fits == kept
    assert places["outputs"] == [1, 3]
    assert options.fitting(kept, Example) == (kept, {})


def test_nothing_means_nothing_unless_an_option_takes_it() -> None:
    given: dict[Any, Any] = {"port": None, "first": None, "unknown": None, "rate": 2, "allow": []}
    assert options.without_blanks(given, Example) == {"first": None, "unknown": None, "rate": 2, "allow": []}


def test_the_options_that_name_files_are_found() -> None:
    class Files(Options, kw_only=True, frozen=True):
        map: Annotated[str, Meta(extra={"file": True}, description="A map.")] = ""
        image: Annotated[str, Meta(description="No part of the configuration.")] = ""
        other: Annotated[str, Meta(extra={"unit": "m"})] = ""
        plain: str = ""

    assert options.files(Files) == ["map"]
    assert options.files(Example) == []


def test_valid_options_have_no_problems() -> None:
    assert problems("port: 1\nrate: 2\nbaud: 9600\nlimits: {A: 1}\nfirst: {key: A}\npair: [3, 4]\n") == []


def test_a_missing_option_is_not_reported_if_a_file_could_not_be_read() -> None:
    at = Positions("f", 1, 1)
    at.partial = True
    assert [str(p) for p in options.problems({"x": 1}, Example, at)] == ["f:1:1: unknown option 'x'"]
    assert list(options.problems({}, Example, at)) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(is_finite, [*value, *value.values()]))
    return all(map(is_finite, value)) if isinstance(value, list) else not isinstance(value, float) or isfinite(value)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from([f.encode_name for f in msgspec.structs.fields(Example)]), VALUES))
def test_there_are_problems_exactly_if_the_struct_refuses_or_a_number_is_not_finite(value: dict[str, Any]) -> None:
    reader = Reader("/nowhere/main.yaml")
    content, at = reader._parse("f", yaml.safe_dump(value))
    found = list(options.problems(content, Example, at))
    try:
        msgspec.convert(content, Example, strict=True)
    except msgspec.ValidationError:
        assert found
    else:
        assert bool(found) is not is_finite(content)
    assert all(p.line >= 1 and p.column >= 1 for p in found)


def test_the_table_has_a_row_for_every_option() -> None:
    assert [tuple(row) for row in options.rows(Example)] == [
        ("port", "whole number, 1 to 65535", "required", "Port to listen on."),
        ("type", "server, client or both", "server", ""),
        ("rate", "number, more than 0", "1", ""),
        ("name", "text, at least 1 long, of the form ^[a-z]*$", "a", ""),
        ("baud", "whole number, at least 50 or auto", "auto", ""),
        ("verbose", "yes/no", "no", ""),
        ("allow", "list of text", "[]", ""),
        ("outputs", "list of mapping", "[]", ""),
        ("outputs[].key", "text", "required", ""),
        ("outputs[].every", "whole number, at least 1", "1", "How often."),
        ("pair", "list of whole number and whole number", "[1, 2]", ""),
        ("limits", "mapping of name to number, more than 0", "{}", ""),
        ("first", "mapping", "none", ""),
        ("first.key", "text", "required", ""),
        ("first.every", "whole number, at least 1", "1", "How often."),
        ("parity", "none or even", "none", ""),
        ("levels", "list of number", "[]", ""),
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[int, Meta(ge=0, lt=10)], "whole number, at least 0 and less than 10"),
        (Annotated[float, Meta(gt=-0.5, le=10.0)], "number, more than -0.5 and at most 10"),
        (Annotated[float, Meta(ge=0, le=0)], "number, 0 to 0"),
        (Annotated[float, Meta(lt=1)], "number, less than 1"),
        (Annotated[list[str], Meta(min_length=1, max_length=3)], "list of text, 1 to 3 long"),
        (Annotated[str, Meta(max_length=3)], "text, 0 to 3 long"),
        (dict[str, Any], "mapping"),
        (dict[str, list[int]], "mapping of name to list of whole number"),
        (list, "list"),
        (Annotated[float, Meta(gt=0, lt=10)], "number, more than 0 and less than 10"),
        (Annotated[float, Meta(gt=0, le=10)], "number, more than 0 and at most 10"),
        (Annotated[float, Meta(le=2.5)], "number, at most 2.5"),
        (Annotated[str, Meta(min_length=2)], "text, at least 2 long"),
        (Annotated[Annotated[int, Meta(ge=1)], Meta(description="x")] | None, "whole number, at least 1"),
        (int | str | None, "whole number or text"),
        (dict, "mapping"),
        (dict[str, str], "mapping of name to text"),
        (frozenset[int], "list of whole number"),
        (Any, "anything"),
    ],
)
def test_types_and_limits_in_words(kind: Any, words: str) -> None:
    (row,) = options.rows(msgspec.defstruct("One", [("one", kind)]))
    assert row[:3] == ("one", words, "required")


@pytest.mark.parametrize(
    ("default", "words"),
    [(None, "none"), ("", '""'), ("a b", "a b"), (True, "yes"), (False, "no"), (1.5, "1.5"), (("°", 2), '["°", 2]')],
)
def test_a_default_is_written_as_in_yaml(default: Any, words: str) -> None:
    (row,) = options.rows(msgspec.defstruct("One", [("one", Any, default)]))
    assert row.default == words


class Node(Options, kw_only=True, frozen=True):
    """A struct that contains itself."""

    name: Annotated[Annotated[str, Meta(description="inner")], Meta(description="outer")] = ""
    children: dict[str, Node] = {}


def test_the_table_of_a_struct_that_contains_itself_has_an_end() -> None:
    table = options.rows(Node)
    assert [row.name.count("children.*") for row in table if row.name.endswith("name")] == list(range(4))
    assert table[0].description == "outer"


def test_a_problem_in_one_of_several_structs_is_named_as_deep_as_it_is() -> None:
    assert problems("link: {type: network, host: 5}", Either) == ["f:1:7: link.host: Expected `str`, got `int`"]


# -- by pattern --------------------------------------------------------------------------------------------------------


class Sender(Options, kw_only=True, frozen=True):
    host: str = "localhost"
    items: Annotated[
        dict[Annotated[int, Meta(ge=0, le=199)], str],
        Meta(extra={"pattern": r"idx(\d+)"}, description="Item of a data set, by its number."),
    ] = msgspec.field(default_factory=dict)
    outputs: Annotated[dict[str, Output], Meta(extra={"pattern": r"out_(\w+)"}, description="An output.")] = (
        msgspec.field(default_factory=dict)
    )


class Needs(Options, kw_only=True, frozen=True):
    items: Annotated[dict[str, Any], Meta(extra={"pattern": r"idx\d+"})]


def test_options_of_a_pattern_become_one_mapping() -> None:
    made = convert({"host": "x", "idx3": "IAS", "out_a": {"key": "K"}, "idx17": "ALT"}, Sender)
    assert made == Sender(host="x", items={3: "IAS", 17: "ALT"}, outputs={"a": Output(key="K")})
    assert convert({}, Sender).items == {}
    assert convert({"idx3": None}, Needs).items == {"idx3": None}, "without a group, the whole name is the key"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idx3: IAS\nout_a: {key: K}", []),
        ("idx3: 7", ["f:1:7: idx3: expected text, got the number 7"]),
        ("host: x\nidx300: IAS", ["f:2:1: idx300: expected whole number, 0 to 199, got the number 300"]),
        (
            "out_a: {kex: K}",
            ["f:1:9: out_a: unknown option 'kex' (did you mean 'key'?)", "f:1:8: out_a: 'key' is missing"],
        ),
        ("idz3: IAS", ["f:1:1: unknown option 'idz3' (did you mean 'idx3'?)"]),
        ("items: {3: IAS}", ["f:1:1: unknown option 'items'"]),
        ("idx3: IAS\nidx03: ALT", ["f:2:1: idx03 is given twice"]),
        (
            "idx3: 7\nhost: 5",
            ["f:1:7: idx3: expected text, got the number 7", "f:2:7: host: expected text, got the number 5"],
        ),
    ],
)
def test_wrong_options_of_a_pattern_are_reported_at_their_position(text: str, expected: list[str]) -> None:
    assert problems(text, Sender) == expected
    value = yaml.safe_load(text)
    if expected:
        with pytest.raises(msgspec.ValidationError):
            convert(value, Sender)
    else:
        convert(value, Sender)
    convert(options.fitting(value, Sender)[0], Sender)


def test_a_required_pattern_needs_at_least_one_option() -> None:
    assert problems("{}", Needs) == ["f:1:1: 'idx<number>' is missing"]
    assert problems("idx1: x", Needs) == []


def test_the_table_has_one_row_for_a_pattern() -> None:
    table = options.rows(Sender)
    assert [row.name for row in table] == ["host", "idx<number>", "out_<name>", "out_<name>.key", "out_<name>.every"]
    assert table[1] == options.Row("idx<number>", "text", "none", "Item of a data set, by its number.")
    assert options.rows(Needs)[0][:3] == ("idx<number>", "anything", "required")


def test_a_pattern_needs_a_mapping() -> None:
    class Wrong(Options, kw_only=True, frozen=True):
        items: Annotated[list[str], Meta(extra={"pattern": "idx"})] = []

    with pytest.raises(TypeError, match=r"Wrong\.items: options by pattern need a dict"):
        convert({}, Wrong)
