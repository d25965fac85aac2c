"""The comparison of outcomes finds every difference, and says it in words."""

from __future__ import annotations

import pytest

from fixgw.recording import golden
from fixgw.recording.golden import Line

OLD = """\
0.500000 IAS 100.0 00000 eis
0.500000 OILT1 90 00000 eis
1.000000 IAS 101.5 00000 eis
2.500000 IAS 102.0 01000 eis
9.000000 ACID "N1 A" 00000 -
"""


def lines(text: str) -> list[Line]:
    return list(golden.read(text.splitlines()))


def test_the_same_is_equal_whatever_the_order_of_keys_at_one_instant() -> None:
    first, second, *rest = lines(OLD)
    assert golden.compare(lines(OLD), [second, first, *rest]).equal


@pytest.mark.parametrize(
    ("before", "after", "equal"),
    [
        ("101.5", "101.50000000001", True),
        ("101.5", "101.5000002", False),
        ("101.5", "101.6", False),
        ("101.5 00000", "101.5 00100", False),
        ("101.5 00000 eis", "101.5 00000 eis2", False),
        ("1.000000 IAS", "1.000001 IAS", False),
        ('"N1 A"', '"N1 B"', False),
        ('"N1 A"', "0.0", False),
    ],
)
def test_a_changed_line(before: str, after: str, equal: bool) -> None:
    assert golden.compare(lines(OLD), lines(OLD.replace(before, after))).equal is equal


def test_a_key_may_have_a_tolerance_of_its_own() -> None:
    new = lines(OLD.replace("101.5", "101.6").replace("OILT1 90 ", "OILT1 91 "))
    assert golden.compare(lines(OLD), new, {"IAS": 0.01}).counts == {"OILT1": 1}
    assert golden.compare(lines(OLD), new, {"IAS": 0.01, "OIL*": 0.1}).equal
    assert golden.tolerances_in(["# a comment", "# tolerance IAS 0.01", "# tolerance OIL* 1e-3"]) == {
        "IAS": 0.01,
        "OIL*": 0.001,
    }
    with pytest.raises(ValueError, match="tolerance KEY SHARE"):
        golden.tolerances_in(["# tolerance IAS much"])


def test_the_words_say_where_what_and_how_often() -> None:
    new = OLD.replace("102.0", "102.5").replace("0.500000 OILT1 90 00000 eis\n", "") + "9.500000 VOLT 14.1 00000 eis\n"
    found = golden.compare(lines(OLD), lines(new))
    assert found.counts == {"IAS": 1, "OILT1": 1, "VOLT": 1}
    assert found.words() == [
        "the first difference:",
        "  golden: 0.500000 OILT1 90 00000 eis",
        "  now:    nothing",
        "differing lines: 3, by key:",
        *sorted(["  OILT1: 1", "  IAS: 1", "  VOLT: 1"], key=found.words().index),
        "within 1 s of the first (- golden, + now):",
        "    0.500000 IAS 100.0 00000 eis",
        "  - 0.500000 OILT1 90 00000 eis",
        "    1.000000 IAS 101.5 00000 eis",
    ]


def test_nonsense_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match="line 2 is not a line of an outcome: 'hello'"):
        lines("0.5 IAS 1.0 00000 eis\nhello\n")
