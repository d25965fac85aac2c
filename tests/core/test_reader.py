"""YAML with positions: values, positions, and every error that a file can have."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fixgw import cfg
from fixgw.configuration import writer
from fixgw.configuration.reader import MAX_BYTES, Positions, Reader, _resolve, described, instead
from fixgw.errors import ConfigurationError


def tree(directory: Path, **files: str) -> Path:
    """Files in `directory`; ``main`` is main.yaml, ``a__b`` is a/b.yaml, the rest are NAME.yaml."""
    for name, text in files.items():
        path = directory / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory / "main.yaml"


def read(directory: Path, **files: str) -> Any:
    return cfg.from_yaml(tree(directory, **files))


def problems(directory: Path, **files: str) -> list[str]:
    """The problems of main.yaml, without the directory."""
    reader = Reader(tree(directory, **files))
    reader.read(reader.main)
    return [str(p).replace(f"{directory}{os.sep}", "") for p in reader.sorted_problems()]


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("true", True),
        ("~", None),
        ("", None),
        ("17", 17),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("On", True),
        ("FALSE", False),
        ("-1_000", -1000),
        ("0x180", 0x180),
        ("0b101", 5),
        ("017", 15),
        ("-017", -15),
        ("07", 7),
        ("0_17", 15),
        ("+0x1F", 31),
        ("0o17", 15),
        ("08", "08"),
        ("0", 0),
        ("2.5", 2.5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("1e6", 1e6),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("+.INF", math.inf),
        ("'17'", "17"),
        ('"yes"', "yes"),
        ("!!str 17", "17"),
        ("!!float 17", 17.0),
        ("!!int 17", 17),
        ("!!bool yes", True),
        ("!!null ''", None),
        ("!!map {a: 1}", {"a": 1}),
        ("!!seq [1]", [1]),
        ("! 17", 17),
        ("<<", "<<"),
        ("plain text", "plain text"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3.4", "1.2.3.4"),
        ("-", [None]),
        ("[1, [2]]", [1, [2]]),
        ("{a: {b: c}}", {"a": {"b": "c"}}),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_are_read_as_intended(tmp_path: Path, text: str, value: Any) -> None:
    block = "\n  " if text == "-" else " "
    result = read(tmp_path, main=f"key:{block}{text}\n")["key"]
    assert result == value
    assert type(result) is type(value)


def test_nan_is_read(tmp_path: Path) -> None:
    assert math.isnan(read(tmp_path, main="key: .nan")["key"])


def test_numbers_can_be_keys(tmp_path: Path) -> None:
    assert read(tmp_path, main="0x300: a\n5: b\n") == {0x300: "a", 5: "b"}


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    assert read(tmp_path, main="# nothing\n") == {}


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    assert read(tmp_path, main="\ufeffa: 1\n") == {"a": 1}


def test_anchors_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    value = read(
        tmp_path,
        main="base: &base {a: 1, b: {c: 2}}\nlist: &limits [Min, Max]\none: {<<: *base, a: 5}\n"
        "two: *limits\nthree: {<<: [{b: 7}, *base]}\n",
    )
    assert value["one"] == {"a": 5, "b": {"c": 2}}
    assert value["two"] == ["Min", "Max"]
    assert value["three"] == {"a": 1, "b": 7}


def test_what_a_merge_key_brings_has_the_position_where_it_is_written(tmp_path: Path) -> None:
    text = "base: &base\n  a: 1\none:\n  <<: *base\n  b: 2\n"
    at = cfg.from_yaml(tree(tmp_path, main=text), metadata=True)[1]["one"]
    assert [(at[key].line, at[key].column, at.keys[key].column) for key in "ab"] == [(2, 6, 3), (5, 6, 3)]


def test_an_alias_gives_a_copy(tmp_path: Path) -> None:
    value = read(tmp_path, main="a: &a {x: [1]}\nb: *a\n")
    value["b"]["x"].append(2)
    assert value["a"] == {"x": [1]}


def is_the_same_to_pyyaml(text: str) -> bool:
    """We read ``1E3`` and ``.0E0`` as numbers, as in YAML 1.2; PyYAML reads them as text, and writes them bare."""
    tag: str = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag != "tag:yaml.org,2002:str" or isinstance(_resolve(text), str)


TEXTS = st.text(st.characters(codec="ascii")).filter(is_the_same_to_pyyaml)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXYZ_", min_size=1), inner)
)


@given(TREES, st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_output_of_yaml_is_read_back(tmp_path: Path, value: Any, flow: bool) -> None:
    text = yaml.safe_dump({"value": value}, default_flow_style=flow)
    assert read(tmp_path, main=text) == {"value": value}


NUMBERS_TO_SOME = st.from_regex(r"[-+]?(0[xob]?)?[0-9_]{0,5}\.?[0-9_]{0,3}([eE][-+]?[0-9]{0,3})?", fullmatch=True)
ANY_TEXT = st.one_of(
    NUMBERS_TO_SOME,
    st.text(st.characters(codec="utf-8", exclude_characters="{"), max_size=20),
    st.sampled_from(["<<", "yes", "- a", "a: b", "a #b", "~", "*a", "---", "{"]),
)
KEYS = ANY_TEXT.filter(lambda text: text != "include")
OUR_TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), ANY_TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@example({"k" * 120: []})
@example({"k" * 120: {}})
@given(st.dictionaries(KEYS, OUR_TREES, min_size=1, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_we_write_is_read_back(tmp_path: Path, value: Any) -> None:
    assert read(tmp_path, main="\n".join(writer.block(value, ""))) == value


def test_what_is_too_long_for_a_line_takes_several() -> None:
    fits = {"key": {"a": "x" * 108}}
    assert list(writer.block(fits, "  ")) == [f"  key: {{a: {'x' * 108}}}"]
    assert len(f"  key: {{a: {'x' * 108}}}") == 120
    assert list(writer.block({"key": {"a": "x" * 109}}, "  ")) == ["  key:", f"    a: {'x' * 109}"]
    assert list(writer.block({"key": ["x" * 109, 5]}, "  ")) == ["  key:", f"    - {'x' * 109}", "    - 5"]
    assert list(writer.block({"key": "x" * 120}, "")) == [f"key: {'x' * 120}"]
    assert list(writer.block([1, "a"], "  ")) == ["  [1, a]"]


def test_it_works_without_the_c_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixgw.configuration.reader._Loader", yaml.SafeLoader)
    value, at = cfg.from_yaml(tree(tmp_path, main="a: [1, {b: yes}]\n"), metadata=True)
    assert value == {"a": [1, {"b": True}]}
    assert (at["a"][1]["b"].line, at["a"][1]["b"].column) == (1, 12)
    twice = "main.yaml:2:1: 'a' occurs twice; the first is in line 1"
    assert problems(tmp_path, main="a: 1\na: 2\n") == [twice]
    assert problems(tmp_path, main="a: \x01\n") == [
        "main.yaml:1:4: not YAML: special characters are not allowed",
    ]


# -- positions ---------------------------------------------------------------------------------------------------------


def test_every_key_and_value_has_its_position(tmp_path: Path) -> None:
    _, at = cfg.from_yaml(tree(tmp_path, main="one: 1\nlist:\n  - a\n  - deep: true\n"), metadata=True)
    assert str(at["one"]) == f"{tmp_path}/main.yaml:1:6"
    assert (at.keys["list"].line, at.keys["list"].column) == (2, 1)
    assert (at["list"].line, at["list"][1]["deep"].column) == (3, 11)
    assert "one" in at
    assert "two" not in at


def test_a_path_leads_to_the_nearest_existing_element(tmp_path: Path) -> None:
    _, at = cfg.from_yaml(tree(tmp_path, main="outputs:\n  - key: A\n  - key: B\n"), metadata=True)
    assert at.at(["outputs", "1", "key"]).line == 3
    assert at.at(["outputs", 1, "missing", "key"]) is at["outputs"][1]
    _, at = cfg.from_yaml(tree(tmp_path, main="5: a\n'5': b\n"), metadata=True)
    assert at.at(["5"]).line == 2, "the text is nearer to a text than a number is"


def test_a_message_gives_the_position_of_a_key_or_value(tmp_path: Path) -> None:
    _, at = cfg.from_yaml(tree(tmp_path, main="port: 5\nlist: [1, 2]\n"), metadata=True)
    assert cfg.message("too low", at, "port") == f"{tmp_path}/main.yaml:1:1: too low"
    assert cfg.message("too low", at, "port", value=True) == f"{tmp_path}/main.yaml:1:7: too low"
    assert cfg.message("odd", at["list"], 1) == f"{tmp_path}/main.yaml:2:11: odd"
    assert cfg.message("missing", at, "host") == f"{tmp_path}/main.yaml:1:1: missing"


def test_included_content_keeps_its_position_in_its_own_file(tmp_path: Path) -> None:
    _, at = cfg.from_yaml(tree(tmp_path, main="a: 1\ninclude: other\n".replace("other", "o.yaml"), o="\nb: 2\n"), True)
    assert str(at["b"]) == f"{tmp_path}/o.yaml:2:4"
    assert str(at["a"]) == f"{tmp_path}/main.yaml:1:4"
    assert set(at.keys) == {"a", "b"}
    assert str(at.keys["b"]) == f"{tmp_path}/o.yaml:2:1"


def test_what_is_merged_keeps_its_position_too(tmp_path: Path) -> None:
    _, at = cfg.from_yaml(tree(tmp_path, main="a:\n  x: 1\ninclude: o.yaml\n", o="a: {x: 2, y: 3}\n"), metadata=True)
    assert str(at["a"]["x"]) == f"{tmp_path}/main.yaml:2:6"
    assert str(at["a"]["y"]) == f"{tmp_path}/o.yaml:1:14"


# -- includes ----------------------------------------------------------------------------------------------------------


def test_an_include_merges_mappings_and_the_including_one_wins(tmp_path: Path) -> None:
    value = read(
        tmp_path,
        main="netfix: {port: 5000}\ninclude: base.yaml\nlist: [3]\n",
        base="netfix: {host: here, port: 3490}\nlist: [1, 2]\nother: 1\n",
    )
    assert value == {"netfix": {"host": "here", "port": 5000}, "list": [3], "other": 1}


def test_the_later_of_several_includes_wins(tmp_path: Path) -> None:
    value = read(tmp_path, main="x:\n  include: [a.yaml, b.yaml]\n", a="p: {q: 1, r: 1}\n", b="p: {r: 2}\n")
    assert value == {"x": {"p": {"q": 1, "r": 2}}}


def test_an_entry_of_a_list_can_add_to_what_it_includes(tmp_path: Path) -> None:
    main = "items:\n  - {include: base.yaml, b: 2}\n  - deep: {include: base.yaml}\n"
    assert read(tmp_path, main=main, base="a: 1\n") == {"items": [{"a": 1, "b": 2}, {"deep": {"a": 1}}]}


def test_an_include_in_a_list_puts_the_items_there(tmp_path: Path) -> None:
    value = read(
        tmp_path,
        main="entries:\n  - first\n  - include: more.yaml\n  - include: [more.yaml, x.yaml]\n  - last\n",
        more="items: [a, b]\n",
        x="items:\n  - include: more.yaml\n  - c\n",
    )
    assert value == {"entries": ["first", "a", "b", "a", "b", "a", "b", "c", "last"]}


def test_files_are_looked_up_beside_the_including_file_then_beside_the_main_file(tmp_path: Path) -> None:
    value = read(
        tmp_path,
        main="include: sub/a.yaml\n",
        sub__a="include: [both.yaml, only.yaml]\n",
        sub__both="both: sub\n",
        both="both: main\n",
        sub__only="only: sub\n",
    )
    assert value == {"both": "sub", "only": "sub"}


def test_preferences_name_files_and_their_custom_file_overrides_them(tmp_path: Path) -> None:
    main = tree(
        tmp_path,
        main="include: [FIRST, SECOND]\n",
        preferences="includes:\n  FIRST: f/one.yaml\n  SECOND: f/two.yaml\nenabled: {GPS: yes, CAN: no}\n",
        f__one="one: 1\n",
        f__two="two: 2\n",
        f__mine="two: mine\n",
    )
    (tmp_path / "preferences.yaml.custom").write_text("includes: {SECOND: f/mine.yaml}\nenabled: {CAN: on}\n")
    reader = Reader(main)
    assert reader.read(main)[0] == {"one": 1, "two": "mine"}
    assert reader.enabled == {"GPS": True, "CAN": True}


def locate(directory: Path, preferences: str, *there: str) -> tuple[str, list[str]]:
    """Where x.yaml is found that sub/a.yaml names, relative to the main file's directory, and the advice."""
    for name in there:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(name)
    reader = Reader(tree(directory, main="", preferences=preferences))
    found = reader.locate("x.yaml", Positions(str(directory / "sub" / "a.yaml"), 3, 4))
    return str(found.relative_to(directory)), [str(a).replace(f"{directory}{os.sep}", "") for a in reader.advice]


@pytest.mark.parametrize(
    ("there", "found", "other"),
    [
        ((), "y.yaml", ""),
        (("sub/y.yaml",), "sub/y.yaml", ""),
        (("sub/y.yaml", "y.yaml"), "y.yaml", "sub/y.yaml"),
        (("sub/y.yaml", "y.yaml", "x.yaml"), "x.yaml", "y.yaml"),
        (("sub/y.yaml", "y.yaml", "x.yaml", "sub/x.yaml"), "sub/x.yaml", "x.yaml"),
    ],
)
def test_a_file_is_looked_up_by_its_own_name_before_that_in_the_preferences(
    tmp_path: Path, there: tuple[str, ...], found: str, other: str
) -> None:
    advice = [f"sub/a.yaml:3:4: advice: x.yaml: {found} is used, although there is {other} too"] if other else []
    assert locate(tmp_path, "includes: {x.yaml: y.yaml}\n", *there) == (found, advice)


def test_the_same_file_under_two_names_is_no_choice(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.yaml").symlink_to(tmp_path / "x.yaml")
    assert locate(tmp_path, "", "x.yaml") == ("sub/x.yaml", [])
    (tmp_path / "y.yaml").write_text("other")
    reader = Reader(tree(tmp_path, main="", preferences="includes: {x.yaml: y.yaml}\n"))
    assert reader.locate("x.yaml") == tmp_path / "x.yaml"
    assert reader.advice == [], "nobody can be told where it is named"


def test_texts_can_stand_in_for_files(tmp_path: Path) -> None:
    main = tree(tmp_path, main="include: o.yaml\n", o="a: 1\n")
    (tmp_path / "link.yaml").symlink_to("o.yaml")
    with instead({tmp_path / "link.yaml": "a: 2\n", tmp_path / "new.yaml": ""}):
        assert cfg.from_yaml(main) == {"a": 2}
        with instead({main: "b: 3\n"}):
            assert cfg.from_yaml(main) == {"b": 3}
        assert cfg.from_yaml(main) == {"a": 2}
        assert Reader(main).text(tmp_path / "new.yaml") == ""
        found: list[Any] = []
        other = threading.Thread(target=lambda: found.append(cfg.from_yaml(main)))
        other.start()
        other.join()
        assert found == [{"a": 1}], "another thread reads what is on the disk"
    assert cfg.from_yaml(main) == {"a": 1}


def test_preferences_may_say_more_and_say_it_in_words(tmp_path: Path) -> None:
    main = tree(
        tmp_path, main="", preferences="mine: {a: 1}\nenabled: {A: 'true', B: \"Off\", 5: T}\nincludes: {A: 't'}\n"
    )
    reader = Reader(main)
    assert reader.enabled == {"A": True, "B": False, "5": True}
    assert reader.includes == {"A": "t"}
    assert reader.problems == []
    assert [str(a).rpartition("/")[2] for a in reader.advice] == ["preferences.yaml:1:1: advice: mine: has no effect"]


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        ("- a", ["1:1: expected a mapping with includes: and enabled:, got a list of 1"]),
        (
            "includes: 5\nenabled: [GPS]\n",
            [
                "1:11: includes: expected a mapping, got the number 5",
                "2:10: enabled: expected a mapping, got a list of 1",
            ],
        ),
        (
            "includes: {A: 5, B: 6}\n",
            [
                f"1:{at}: {key}: expected the path of a file, got the number {n}"
                for at, key, n in ((15, "A", 5), (21, "B", 6))
            ],
        ),
        ("", []),
    ],
)
def test_wrong_preferences_are_reported(tmp_path: Path, preferences: str, expected: list[str]) -> None:
    assert problems(tmp_path, main="", preferences=preferences) == [f"preferences.yaml:{words}" for words in expected]


def test_preferences_that_lead_nowhere_are_reported(tmp_path: Path) -> None:
    (tmp_path / "preferences.yaml").symlink_to("gone.yaml")
    assert problems(tmp_path, main="") == ["preferences.yaml: cannot be read: No such file or directory"]


def test_the_file_of_a_plugin_is_part_of_the_configuration(tmp_path: Path) -> None:
    tree(
        tmp_path, preferences="includes: {SHARED: shared/inputs.yaml}\n", shared__inputs="x: '{CONFIG}'\n", sub__map=""
    )
    (tmp_path / "sub" / "map.yaml").write_text("inputs: {include: SHARED}\n")
    reader = Reader(tmp_path / "sub" / "map.yaml", directory=tmp_path)
    assert reader.read(reader.main)[0] == {"inputs": {"x": str(tmp_path)}}


def test_variables_are_replaced_in_values_and_in_the_names_of_files(tmp_path: Path) -> None:
    main = tree(
        tmp_path,
        main="include: '{CONFIG}/{WHICH}.yaml'\n'{WHICH}': '{WHICH} and {OTHER} {'\nlist: ['{WHICH}']\n",
        o="x: '{CONFIG}'\n",
    )
    value, _ = Reader(main, {"WHICH": "o"}).read(main)
    assert value == {"x": str(tmp_path), "{WHICH}": "o and {OTHER} {", "list": ["o"]}


# -- problems ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "main.yaml:3:2: the '[', opened in line 2, is not closed"),
        ("a:\n\tb: 1\n", "main.yaml:2:1: a tab where YAML does not allow one: indent with spaces"),
        ("a: 1\n b: 2\n", "main.yaml:2:3: indented deeper than the line before it"),
        ("x:\n  a: 1\n  b: 2\n  a: 3\n", "main.yaml:4:3: 'a' occurs twice; the first is in line 2"),
        ("a: *b\n", "main.yaml:1:4: *b is not defined before this"),
        ("a: {*: 4}\n", "main.yaml:1:6: a word cannot begin with '*': put it in quotes"),
        ("a: & b\n", "main.yaml:1:5: a word cannot begin with '&': put it in quotes"),
        ('a: "C:\\q"\n', "main.yaml:1:7: in double quotes a backslash has a special meaning: use single quotes"),
        ("a: 'it's'\n", "main.yaml:1:8: text after the quote that closes the value"),
        ("a: - b\n", "main.yaml:1:4: a list entry ('- ...') begins on its own line"),
        ("a: |b\n", "main.yaml:1:5: after '|' or '>' the text begins in the next line"),
        ("a: b\n- c\n", "main.yaml:2:1: a list entry ('- ...') among keys: indent it"),
        ("a : b\nb :c\n", "main.yaml:2:1: a colon is missing: 'b:'"),
        ("\r\r\ra : b\rb :c\n\n\n\n\n\n", "main.yaml:"),  # other line ends than those of the message
        ("a: &a [*a]\n", "main.yaml:1:8: *a refers to something that contains it"),
        ("a: {&m <<: {b: 1}, c: *m}\n", "main.yaml:1:23: *m is not defined before this"),
        ("a: !!float x\n", "main.yaml:1:4: the tag tag:yaml.org,2002:float is not supported here"),
        ("a: 1\nb: \x01\n", "main.yaml:2:4: not YAML: "),
        ("? [1]\n: 2\n", "main.yaml:1:3: a key must be text or a number, not a list of 1"),
        ("a: 1\n---\nb: 2\n", "main.yaml:2:1: a second document: a file may have only one"),
        ("a: !thing 5\n", "main.yaml:1:4: the tag !thing is not supported here"),
        ("a: !!python/object:os.system [x]\n", "main.yaml:1:4: the tag tag:yaml.org,2002:python/object:os.system is"),
        ("a: !!int x\n", "main.yaml:1:4: the tag tag:yaml.org,2002:int is not supported here"),
        ("a: {<<: 5}\n", "main.yaml:1:9: <<: expected a mapping, got the number 5"),
        ("a: b\x00c\n", "main.yaml:1:5: not YAML: control characters are not allowed"),
        ("include: [5, '']\n", "main.yaml:1:11: include: expected the name of a file, got the number 5"),
        ("a:\n  include: gone.yaml\n", "main.yaml:2:12: cannot read DIR/gone.yaml: No such file or directory"),
        ("include: list.yaml\n", "main.yaml:1:10: list.yaml: expected a mapping, got a list of 2"),
        ("a: [include: list.yaml]\n", "main.yaml:1:14: list.yaml: expected a mapping with a list 'items:' and"),
        ("include: main.yaml\n", "main.yaml:1:10: include loop: main.yaml -> main.yaml"),
        ("a: " + "[" * 60 + "]" * 60, "main.yaml:1:54: nested more than 50 levels deep"),
        ("include: '/dev/zero'\n", "main.yaml:1:10: cannot read /dev/zero: is not a file"),
        ("include: '.'\n", "main.yaml:1:10: cannot read DIR: Is a directory"),
        ('include: "a\\0b"\n', "main.yaml:1:10: include: expected the name of a file, got text 'a\\x00b'"),
        (f"include: {'x' * 300}\n", "main.yaml:1:10: cannot read DIR/xxx"),
    ],
)
def test_a_problem_has_a_position_and_a_message(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, main=text, list="[1, 2]\n")
    assert found
    assert found[0].startswith(expected.replace("DIR", str(tmp_path)).replace(f"{tmp_path}/", "")), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{[1]: 2, {a: 3}: 4}\n", ["1:2: a key must be text or a number", "1:10: a key must be text or a number"]),
        (
            "{<<: [5, {a: 1}, 6]}\n",
            ["1:6: <<: expected a mapping, got the number 5", "1:6: <<: expected a mapping, got"],
        ),
        ("include: [5, '', gone]\n", ["1:11: include: expected", "1:14: include: expected", "1:18: cannot read"]),
        ("- include: [list.yaml, wide.yaml]\n", ["1:12: list.yaml: expected a mapping", "1:12: wide.yaml: expected"]),
        ("include: [list.yaml, list.yaml]\n", ["1:10: list.yaml: expected a mapping, got a list of 2"]),
    ],
)
def test_a_problem_does_not_hide_the_next(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = problems(tmp_path, main=text, list="[1, 2]\n", wide="items: []\nmore: 1\n")
    assert len(found) == len(expected)
    assert all(map(str.startswith, found, [f"main.yaml:{words}" for words in expected])), found


def test_merging_goes_on_behind_what_is_no_mapping(tmp_path: Path) -> None:
    reader = Reader(tree(tmp_path, main="{<<: [5, {a: 1}]}\n"))
    assert reader.read(reader.main)[0] == {"a": 1}


def test_all_problems_are_found_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    assert problems(
        tmp_path,
        main="include: [a.yaml, gone.yaml, b.yaml]\nx: 1\nx: 2\ny: 1\ny: 2\n",
        a="p: 1\np: 2\nq: [\n",
        b="r: 1\nr: 2\n",
        preferences="includs: {}\nenabled: {GPS: perhaps}\n",
    ) == [
        "main.yaml:1:19: cannot read gone.yaml: No such file or directory",
        "main.yaml:3:1: 'x' occurs twice; the first is in line 2",
        "main.yaml:5:1: 'y' occurs twice; the first is in line 4",
        "preferences.yaml:1:1: unknown key 'includs' (did you mean 'includes'?)",
        "preferences.yaml:2:16: GPS: expected yes or no, got text 'perhaps'",
        "a.yaml:2:1: 'p' occurs twice; the first is in line 1",
        "a.yaml:4:1: not YAML: while parsing a flow node: did not find expected node content",
        "b.yaml:2:1: 'r' occurs twice; the first is in line 1",
    ]


def test_a_longer_include_loop_is_shown_whole(tmp_path: Path) -> None:
    assert problems(tmp_path, main="include: a.yaml\n", a="x:\n  include: b.yaml\n", b="include: a.yaml\n") == [
        "b.yaml:1:10: include loop: main.yaml -> a.yaml -> b.yaml -> a.yaml"
    ]


def test_a_loop_through_a_symbolic_link_is_a_loop(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to("main.yaml")
    assert problems(tmp_path, main="include: link.yaml\n") == ["main.yaml:1:10: include loop: main.yaml -> main.yaml"]


def test_invalid_utf8_is_reported_with_its_position(tmp_path: Path) -> None:
    tree(tmp_path, main="")
    (tmp_path / "main.yaml").write_bytes(b"a: 1\nname: Z\xfcrich\n")
    with pytest.raises(ConfigurationError) as caught:
        cfg.from_yaml(tmp_path / "main.yaml")
    assert [str(p) for p in caught.value.problems] == [f"{tmp_path}/main.yaml:2:8: is not UTF-8 text: byte 0xfc"]


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").symlink_to("main.yaml")
    with pytest.raises(ConfigurationError, match=r"main.yaml: cannot be read: Too many levels of symbolic links"):
        cfg.from_yaml(tmp_path / "main.yaml")


def test_a_fifo_does_not_block_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "main.yaml")
    with pytest.raises(ConfigurationError, match="is not a file"):
        cfg.from_yaml(tmp_path / "main.yaml")


def test_no_name_of_a_file_makes_the_reader_raise(tmp_path: Path) -> None:
    reader = Reader(tree(tmp_path, main=""))
    assert reader.read(tmp_path / "a\0b", Positions("f", 1, 2))[0] is None
    assert [str(p) for p in reader.problems] == [f"f:1:2: cannot read {tmp_path}/a\\x00b: embedded null byte"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    main = tree(tmp_path, main="#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match=r"is larger than 2,000,000 bytes"):
        cfg.from_yaml(main)


def test_an_alias_bomb_is_counted_and_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (found,) = problems(tmp_path, main="\n".join(lines))
    assert "more than 200,000 values, counting aliases" in found


def test_aliases_and_includes_cannot_exceed_the_depth_limit(tmp_path: Path) -> None:
    chain = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [[[[*a{n - 1}]]]]" for n in range(1, 20)]
    assert "nested more than 50 levels deep" in problems(tmp_path, main="\n".join(chain))[0]
    deep = "[" * 30 + "{include: deep.yaml}" + "]" * 30
    nested = problems(tmp_path, main=f"a: {deep}\n", deep=f"b: {'[' * 30}1{']' * 30}\n")
    assert any("nested more than 50 levels deep" in p for p in nested)


def test_the_depth_and_number_of_includes_are_limited(tmp_path: Path) -> None:
    files = {f"f{n}": f"include: f{n + 1}.yaml\n" for n in range(40)}
    (found,) = problems(tmp_path, main="include: f0.yaml\n", **files)
    assert "each included by the one before" in found
    crowd = "".join(f"a{n}: {{include: x.yaml}}\n" for n in range(300))
    (found,) = problems(tmp_path, main=crowd, x="y: 1\n")
    assert "more than 200 files are included" in found


@pytest.mark.parametrize(
    ("limit", "files", "words"),
    [
        ("MAX_BYTES", {"main": "a: 1234"}, "main.yaml: is larger than"),
        ("MAX_VALUES", {"main": "a: [1, 2, 3, x]"}, "main.yaml:1:14: more than"),
        ("MAX_VALUES", {"main": "[&a [], *a, 1, 2, x]"}, "main.yaml:1:19: more than"),
        ("MAX_DEPTH", {"main": "[[[[[[[x]]]]]]]"}, "main.yaml:1:8: nested more than"),
        ("MAX_VALUES", {"main": "[&a [1], *a, x]"}, "main.yaml:1:14: more than"),
        ("MAX_DEPTH", {"main": "[&a [[x]], [[[[*a]]]]]"}, "main.yaml:1:16: nested more than"),
        ("MAX_DEPTH", {"main": "[&a [], [[[[[*a]]]]]]"}, "main.yaml:1:14: nested more than"),
        ("MAX_DEPTH", {"main": "[&a [[x]], [[[[[[x]]]]]], *a]"}, "main.yaml:1:18: nested more than"),
        ("MAX_CHAIN", {"main": "include: f1.yaml"} | {f"f{n}": f"include: f{n + 1}.yaml" for n in range(1, 6)}, "f5"),
        ("MAX_FILES", {"main": "".join(f"a{n}: {{include: x.yaml}}\n" for n in range(6)), "x": ""}, "main.yaml:6:"),
    ],
)
def test_a_limit_may_be_reached_and_not_exceeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, files: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(f"fixgw.configuration.reader.{limit}", 7)
    files |= {"f6": "{}"}
    assert problems(tmp_path, **files) == []
    monkeypatch.setattr(f"fixgw.configuration.reader.{limit}", 6)
    (found,) = problems(tmp_path, **files)
    assert words in found


def test_a_file_that_is_nested_too_deep_spoils_nothing_else(tmp_path: Path) -> None:
    deep = f"{'[' * 60}1{']' * 60}"
    (found,) = problems(tmp_path, main="a: {include: deep.yaml}\nb: 1\n", deep=deep)
    assert found.startswith("deep.yaml:1:")


def test_a_file_of_another_kind_is_refused_by_from_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"main.yaml:1:1: expected a mapping, got a list of 1"):
        read(tmp_path, main="- 1\n")


@pytest.mark.slow
@given(st.text(max_size=200) | st.text("abc:-[]{}&*!|>'\"#%@, \n\t?<~0", max_size=60) | st.binary(max_size=100))
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_makes_the_reader_raise(tmp_path: Path, content: str | bytes) -> None:
    main = tmp_path / "main.yaml"
    main.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    reader = Reader(main)
    value, at = reader.read(main)
    assert isinstance(at, Positions)
    if value is None and at.partial:
        assert reader.problems
    assert all(p.line >= 1 and p.column >= 1 for p in reader.problems if p.line)


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a:\n  gps\n    load: yes\n", "2:3", "a colon is missing: 'gps:'"),
        ("a:\n  load yes  # always\n  module: x\n", "2:3", "a colon is missing: 'load:'"),
        ("a:\n    load: yes\n   module: x\n", "3:4", "this line's indentation, 3 spaces, matches no line above it"),
        ("a:\n  load: yes\n    module: x\n", "3:11", "indented deeper than the line before it (2 spaces)"),
        ("a:\n  port: a: b\n", "2:10", "a second ': ' in one line: put the value in quotes, port: 'a: b'"),
        ("a:\n  port: 'abc\n  b: c\n", "4:1", "a quote, opened in line 2, is never closed"),
        ("a:\n  port: {1: {key: A}\nb: c\n", "3:1", "the '{', opened in line 2, is not closed, or a comma is missing"),
        ("a:\n  - b\n  c: d\n", "3:3", "expected another list entry"),
        ("a:\n  port: @x\n", "2:9", "a value cannot begin with '@': put it in quotes"),
        ("a:\n\tb: c\n", "2:1", "a tab where YAML does not allow one"),
        ("a:1\n[:\n", "2:2", "a colon is not allowed here"),
        ("a: @x", "1:4", "a value cannot begin with '@': put it in quotes"),
        ('a: "it"s"', "1:8", "text after the quote that closes the value"),
        ("a:\n  port: 1\n\n    b: c", "4:6", "indented deeper than the line before it (2 spaces)"),
        ("a:\n  gps  # x\n\n  # more\n  load: yes\n", "2:3", "a colon is missing: 'gps:'"),
        ("a:\n  - gps\n      port: 1\n", "2:5", "a colon is missing: 'gps:'"),
        ("a:\n  - b\n c: d\n", "3:2", "this line's indentation, 1 space, matches no line above it"),
        ("a: 1\n b: c: d", "2:3", "indented deeper than the line before it (0 spaces)"),
        ("load yes\nb: c", "1:1", "a colon is missing: 'load:'"),
        ("a:\n  b: 1\n c: 2\n", "3:2", "this line's indentation, 1 space, matches no line above it"),
        ("a:\n  b: 1\n  - c\n", "3:3", "a list entry ('- ...') among keys: indent it"),
        ("a: [1\nb: [2]\n", "2:2", "the '[', opened in line 1, is not closed, or a comma is missing before this"),
        ("a: %x\n", "1:4", "a value cannot begin with '%': put it in quotes"),
    ],
)
def test_syntax_errors_are_explained_in_plain_words(
    text: str, where: str, words: str, loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(yaml, loader):
        pytest.skip("this PyYAML has no parser in C")
    monkeypatch.setattr("fixgw.configuration.reader._Loader", getattr(yaml, loader))
    with pytest.raises(ConfigurationError) as caught:
        cfg.from_yaml(tree(tmp_path, main=text))
    (problem,) = caught.value.problems
    assert words in problem.message
    if loader == "CSafeLoader":  # the other parser gives slightly different positions for some
        assert f"{problem.line}:{problem.column}" == where


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        ([], "a list of 0"),
        ("x" * 48, f"text '{'x' * 48}'"),
        ("x" * 49, f"text '{'x' * 46}..."),
        (1.5, "the number 1.5"),
    ],
)
def test_values_are_described(value: Any, words: str) -> None:
    assert described(value) == words


def test_a_number_that_python_does_not_write_is_described_too() -> None:
    assert described(1 << 20_000) == "a huge number"
