"""Conditions on keys: their syntax, their meaning, and unknown values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.database import Database, Definition
from fixgw.kit.expression import FLAGS, BadExpression, Expression, Reference, check


def value(text: str, **known: Any) -> Any:
    return Expression(text)(lambda reference: known.get(str(reference).replace(".", "__")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OILP1 < 20 and TACH1 > 500", True),
        ("OILP1 < 20 and not TACH1 > 500", False),
        ("20 < OILP1 or TACH1 >= 2000", True),
        ("10 <= OILP1 <= 20", True),
        ("10 <= OILP1 <= 14", False),
        ("OILP1 + 5 == 20.0", True),
        ("abs(OILP1 - 20) > 4", True),
        ("max(OILP1, TACH1, 1) == TACH1", True),
        ("TACH1 % 7 == 2000 - 7 * 285", True),
        ("-OILP1 < 0", True),
        ("ACID == 'N1'", True),
        ("ACID != 'N1'", False),
        ("BTN1 == true", True),
        ("not BTN1 or False", False),
        ("OILP1", 15.0),
        (" OILP1.lowWarn > OILP1 ", True),
        ("OILP1.fail", False),
    ],
)
def test_expressions_are_evaluated(text: str, expected: object) -> None:
    known = {"OILP1": 15.0, "TACH1": 2000, "ACID": "N1", "BTN1": True, "OILP1__lowWarn": 25.0, "OILP1__fail": False}
    assert value(text, **known) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("X < 1", None),
        ("not X", None),
        ("X or T", True),
        ("T or X", True),
        ("X or F", None),
        ("X and F", False),
        ("F and X", False),
        ("X and T", None),
        ("X + 1 < 3 or T", True),
        ("1 < 2 < X", None),
        ("2 < 1 < X", False),
        ("max(X, 1) > 0", None),
    ],
)
def test_an_unknown_operand_makes_the_result_unknown_unless_the_rest_decides(text: str, expected: object) -> None:
    assert value(text, T=True, F=False) is expected


@pytest.mark.parametrize(
    "text", ["ACID < 5", "1 / (TACH1 - TACH1) > 1", "ACID * 1000000000 == ACID", "-ACID == 1", "1e999 - 1e999"]
)
def test_meaningless_comparisons_are_unknown(text: str) -> None:
    assert value(text, ACID="N1", TACH1=5) is None


def test_each_reference_is_listed_once() -> None:
    found = Expression("OILP1 < OILP1.lowWarn or OILP1.old and OILP1 > 2").references
    assert found == (Reference("OILP1"), Reference("OILP1", "lowWarn"), Reference("OILP1", "old"))
    assert [reference.is_flag for reference in found] == [False, False, True]
    assert [Reference("A", flag).is_flag for flag in FLAGS] == [True] * 5


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "OILP1.__class__.__mro__",
        "2 ** 9999999999",
        "[x for x in (1,)]",
        "lambda: 1",
        "OILP1 if BTN1 else 2",
        "f'{OILP1}'",
        "OILP1 in (1, 2)",
        "abs(1, 2)",
        "max(1)",
        "max()",
        "open('x')",
        "OILP1 = 3",
        "",
        "OILP1 <",
        "(OILP1)\n(TACH1)",
        "1j < 2",
        "None",
        "not " * 30 + "BTN1",
        "(" * 300 + "1" + ")" * 300,
        "A or " * 200 + "B",
        "\0",
    ],
)
def test_nothing_else_gets_past_the_parser(text: str) -> None:
    with pytest.raises(BadExpression):
        Expression(text)


def test_an_error_is_reported_with_its_column() -> None:
    with pytest.raises(BadExpression, match=r"not a valid expression \(column \d+\)") as caught:
        Expression("OILP1 < 20 &")
    assert caught.value.column in (12, 13), "where it ends"
    with pytest.raises(BadExpression, match=r"allowed are and, or, not.*column 9"):
        Expression("OILP1 > 2 ** 2")


@given(st.text(max_size=60) | st.text("AB.<>=() andornt12'+-*/%,!", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        expression = Expression(text)
    except BadExpression:
        return
    expression(lambda reference: None)
    expression(lambda reference: 1.5)
    expression(lambda reference: "text")


def test_an_expression_is_checked_against_the_keys() -> None:
    db = Database([Definition(key="OILP1", type="float", aux=("lowAlarm",))])
    for text in ("OILP1 < OILP1.lowAlarm", "OILP1.fail"):
        assert list(check(text, db)) == []
    assert list(check("1 < 2", db)) == ["it refers to no key, so it never changes"]
    assert list(check("OILP < 1", db)) == ["the database has no item 'OILP' (did you mean 'OILP1'?)"]
    assert list(check("OILP1.lowAlrm", db)) == [
        "there is no aux value 'OILP1.lowAlrm' (did you mean 'OILP1.lowAlarm'?)"
    ]
    assert "column" in next(iter(check("OILP1 <", db)))
