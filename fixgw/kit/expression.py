"""Conditions on keys, written by builders, such as ``OILP1 < 20 and TACH1 > 500``: parsed once, evaluated often.

The language is a small subset of Python's expressions: ``and or not``, comparisons, ``+ - * / %``, ``abs min max``,
numbers, quoted text, ``True False``, and references: ``KEY``, ``KEY.aux``, ``KEY.old``, ``KEY.bad``, ``KEY.fail``,
``KEY.secfail``, ``KEY.annunciate``. The parser rejects everything else, so an expression cannot have side effects.

If the value of a reference is unknown (None), so is the result, unless the other operands decide it: ``A or B`` is true
when either is true, ``A and B`` is false when either is false (Kleene's three-valued logic).
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fixgw.errors import did_you_mean
from fixgw.kit.update import FLAG_NAMES, Value

if TYPE_CHECKING:
    from fixgw.database import Database

MAX_LENGTH = 500  # characters
MAX_DEPTH = 20

FLAGS = tuple(FLAG_NAMES.values())

#: Returns the present value of a reference, or None if it is unknown.
Look = Callable[["Reference"], "Value | None"]
Node = Callable[[Look], "Value | None"]


class Reference(NamedTuple):
    """``KEY`` (`attribute` empty), ``KEY.flag`` or ``KEY.aux``."""

    key: str
    attribute: str = ""

    @property
    def is_flag(self) -> bool:
        return self.attribute in FLAGS

    def __str__(self) -> str:
        return f"{self.key}.{self.attribute}" if self.attribute else self.key


class BadExpression(ValueError):
    """An expression that cannot be parsed; `column` counts from 1."""

    def __init__(self, message: str, column: int = 1) -> None:
        self.column = column
        super().__init__(f"{message} (column {column})")


class Expression:
    """A parsed expression. Immutable; any thread. Raises `BadExpression`."""

    def __init__(self, text: str) -> None:
        self.text = text
        #: Everything that it refers to, in order of appearance.
        self.references: tuple[Reference, ...] = ()
        if len(text) > MAX_LENGTH:
            raise BadExpression(f"too long: at most {MAX_LENGTH} characters")
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a later Python refuses
                tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            column = getattr(error, "offset", None) or len(text) or 1  # no offset: the text ends too early
            raise BadExpression("not a valid expression", column) from None
        self._evaluate = self._node(tree.body, 0)

    def __call__(self, look: Look) -> Value | None:
        """Evaluate it; None if the result is unknown. Raises only what `look` raises."""
        return self._evaluate(look)

    def _node(self, node: ast.expr, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise BadExpression("too deeply nested", node.col_offset + 1)
        below = depth + 1
        match node:
            case ast.Constant(value=value) if isinstance(value, (bool, int, float, str)):
                return lambda look: value
            case ast.Name(id="true" | "false" as word):
                return lambda look: word == "true"
            case ast.Name(id=key):
                return self._refer(Reference(key))
            case ast.Attribute(value=ast.Name(id=key), attr=attribute):
                return self._refer(Reference(key, attribute))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _apply(operator.not_, [self._node(operand, below)])
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _apply(_numeric(operator.neg), [self._node(operand, below)])
            case ast.BoolOp(op=op, values=values):
                return _logic(isinstance(op, ast.Or), [self._node(value, below) for value in values])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return _apply(_numeric(ARITHMETIC[type(op)]), [self._node(left, below), self._node(right, below)])
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
                operands = [self._node(each, below) for each in (left, *others)]
                pairs = zip(ops, operands, operands[1:], strict=False)
                return _logic(False, [_apply(COMPARISONS[type(op)], [a, b]) for op, a, b in pairs])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
                if len(arguments) < 1 + (name != "abs") or (name == "abs" and len(arguments) > 1):
                    raise BadExpression(f"{name} has the wrong number of arguments", node.col_offset + 1)
                return _apply(_numeric(FUNCTIONS[name]), [self._node(argument, below) for argument in arguments])
        raise BadExpression(
            "allowed are and, or, not, comparisons, + - * / %, abs, min, max and keys", node.col_offset + 1
        )

    def _refer(self, reference: Reference) -> Node:
        if reference not in self.references:
            self.references += (reference,)
        return lambda look: look(reference)


def check(text: str, db: Database) -> Iterator[str]:
    """Describe what is wrong with an expression on the keys of `db`, for `PluginBase.check`."""
    try:
        expression = Expression(text)
    except BadExpression as error:
        yield str(error)
        return
    for reference in expression.references:
        if reference.key not in db:
            yield f"the database has no item {reference.key!r}{did_you_mean(reference.key, db)}"
        elif reference.attribute and not reference.is_flag and reference.attribute not in db.item(reference.key).aux:
            known = [f"{reference.key}.{name}" for name in db.item(reference.key).aux]
            yield f"there is no aux value {str(reference)!r}{did_you_mean(str(reference), known)}"
    if not expression.references:
        yield "it refers to no key, so it never changes"


ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
COMPARISONS: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "min": min, "max": max}


def _numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, for numbers only: text multiplied by a number could exhaust the memory."""

    def apply_to_numbers(*values: Value) -> Any:
        if any(isinstance(value, str) for value in values):
            raise TypeError
        return function(*values)

    return apply_to_numbers


def _apply(function: Callable[..., Any], operands: list[Node]) -> Node:
    def evaluate(look: Look) -> Value | None:
        values = [operand(look) for operand in operands]
        if None in values:
            return None
        try:
            result: Value = function(*values)
        except (TypeError, ArithmeticError):  # text compared with a number, or division by zero
            return None
        return result if result == result else None  # NaN counts as unknown

    return evaluate


def _logic(decides: bool, operands: list[Node]) -> Node:
    """``or`` (`decides` is True) or ``and`` (`decides` is False)."""

    def evaluate(look: Look) -> bool | None:
        unknown = False
        for operand in operands:
            each = operand(look)
            if each is None:
                unknown = True
            elif bool(each) is decides:
                return decides
        return None if unknown else not decides

    return evaluate
