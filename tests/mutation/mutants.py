"""Mutants: a source file with one small change each.

The changes come from the operators of `Cosmic Ray <https://cosmic-ray.readthedocs.io/>`_, of which we use those that
turn a decision around or move a limit by one, and from three of our own with the same interface.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

# The opposite, and the same limit with or without what lies on it. What all others change, one of these changes too.
COMPARISONS = (
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
)
ARITHMETIC = (
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul"),
    *("RShift_LShift", "LShift_RShift", "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr"),
)
OPERATORS = (
    *(f"ReplaceComparisonOperator_{change}" for change in COMPARISONS),
    *(f"ReplaceBinaryOperator_{change}" for change in ARITHMETIC),
    *(f"ReplaceUnaryOperator_{change}" for change in ("Delete_Not", "Delete_USub", "Delete_Invert")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
    *("ExceptionReplacer", "NumberReplacer", "RemoveDecorator"),
)

LOG_CALL = re.compile(r"[\w.]*\b_?log(ger)?\.(debug|info|warning|error|exception|critical|log)\(")
#: Arguments of a class that only the type checker, the garbage collector or a debugger minds.
MINOR = ("frozen", "kw_only", "gc", "repr")
ALIAS = re.compile(r"\w+ = (Callable|dict|list|set|tuple)\[")  # of a type
#: Decorators that only tell the reader, or the type checker, something.
SAYING = re.compile(r"@(\w+\.)?(override|overload|final|abstractmethod|runtime_checkable)\b")
OVERLOAD = re.compile(r"@(typing\.)?overload\b")


@dataclass(frozen=True)
class Place:
    """Where a file can be changed, and how: operators, each with the number of its occurrence in the file."""

    file: str  #: relative to the clone
    function: str  #: qualified name; empty for the module itself
    lines: frozenset[int] = field(compare=False)  #: of the statement, or of the head of the compound statement
    changes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    file: str
    function: str
    lines: frozenset[int]
    code: str
    diff: str

    @property
    def change(self) -> tuple[str, str]:
        """The lines before and after, without indentation: what identifies the mutant wherever its function moves."""
        lines = self.diff.splitlines()[2:]
        was, becomes = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
        return was, becomes


def places(root: Path, file: str) -> list[Place]:
    """All places of a file, in its order."""
    ast = importlib.import_module("cosmic_ray.ast")
    found: dict[Any, tuple[Any, list[tuple[str, int]]]] = {}
    counts = dict.fromkeys(_operators(), 0)
    for node in ast.ast_nodes(ast.get_ast((root / file).read_text(encoding="utf-8"))):
        if node.type in ("name", "string", "newline", "endmarker"):
            continue
        for name, operator in _operators().items():
            for span in operator.mutation_positions(node):
                if not is_left_out(node):
                    found.setdefault(span, (node, []))[1].append((name, counts[name]))
                counts[name] += 1
    return [Place(file, function_of(node), lines_of(node), tuple(changes)) for node, changes in found.values()]


def mutate(root: Path, place: Place, change: tuple[str, int]) -> Mutant | None:
    """The mutant; None if the operator makes none after all."""
    name, occurrence = change
    code = (root / place.file).read_text(encoding="utf-8")
    try:
        changed = importlib.import_module("cosmic_ray.mutating").mutate_code(code, _operators()[name], occurrence)
    except AttributeError:  # ExceptionReplacer in Cosmic Ray 8.7 knows no names with dots
        return None
    lines = difflib.unified_diff(code.splitlines(), changed.splitlines(), place.file, place.file, "", "", 0, "")
    diff = "\n".join(lines)
    return Mutant(place.file, place.function, place.lines, changed, diff) if diff else None


@cache
def _operators() -> dict[str, Any]:
    provider = importlib.import_module("cosmic_ray.operators.provider").OperatorProvider()
    return {name: provider[name]() for name in OPERATORS} | {
        operator.__name__: operator() for operator in (EmptyCollection, RemoveStatement, ReturnNone)
    }


class EmptyCollection:
    """A list, tuple, set or dictionary that is written out, or comprehended, has nothing in it."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "atom" and len(node.children) == 3 and self._emptied(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return _parsed(node, self._emptied(node))

    def _emptied(self, node: Any) -> str:
        bracket, inside = node.children[0].value, node.children[1]
        parts = [part.get_code().strip() for part in getattr(inside, "children", ())]
        if bracket == "[":
            return "[]"
        if bracket == "{":
            return "{}" if ":" in parts or "**" in parts else "set()"
        return "()" if inside.type == "testlist_comp" and "," in parts else ""


class RemoveStatement:
    """A call for its effect, a change of an attribute or an element, or a `raise`, does not take place."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "simple_stmt" and self._has_effect(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[0] = _parsed(node.children[0], "pass")
        return node

    def _has_effect(self, statement: Any) -> bool:
        if statement.type in ("raise_stmt", "del_stmt"):
            return True
        if statement.type == "expr_stmt":
            target, change = statement.children[:2]
            return bool(target.type == "atom_expr" and change.type != "annassign") or "augassign" in str(change)
        return bool(statement.type == "atom_expr" and statement.children[-1].get_code().startswith("("))


class ReturnNone:
    """A function returns None."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "return_stmt" and node.children[1].get_code().strip() != "None":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[1] = _parsed(node.children[1], "None")
        return node


def _parsed(node: Any, text: str) -> Any:
    return importlib.import_module("parso").parse(node.get_first_leaf().prefix + text)


# -- what stands where -------------------------------------------------------------------------------------------------


def is_left_out(node: Any) -> bool:
    """Whether this is in an annotation (but not in what a call there says, as in ``Meta(ge=0)``), the name of a type or
    an overload, in a call of a log, in an import for the type checker, in `__all__`, one of the `MINOR` arguments, or a
    decorator that does nothing; or the `*` before named parameters."""
    if node.type == "operator" and node.parent.type in ("parameters", "param"):
        return True
    if node.type in ("decorated", "decorators", "decorator"):
        return bool(SAYING.match(_code(node)))
    if node.type == "simple_stmt" and LOG_CALL.match(_code(node)):
        return True
    called = False
    if node.type == "if_stmt" and _is_for_the_type_checker(node):
        return True
    for child, parent in _upwards(node):
        if parent.type == "expr_stmt" and parent.get_first_leaf().value == "__all__":
            return True
        if parent.type == "expr_stmt" and ALIAS.match(_code(parent)):
            return True
        if parent.type == "argument" and parent.get_first_leaf().value in MINOR:
            return True
        called |= child.type == "trailer" and child.children[0].value == "("
        if parent.type == "atom_expr" and LOG_CALL.match(_code(parent)):
            return True
        if parent.type == "decorated" and OVERLOAD.match(_code(parent)):
            return True
        if parent.type in ("annassign", "tfpdef") and not called:
            return child is parent.children[1 if parent.type == "annassign" else 2]
        if parent.type == "funcdef" and parent.annotation is child:
            return True
        if parent.type == "if_stmt" and _is_for_the_type_checker(parent):
            return True
    return False


def _code(node: Any) -> str:
    """Its source, without the comment before it."""
    return str(node.get_code(include_prefix=False)).strip()


def _is_for_the_type_checker(node: Any) -> bool:
    return bool(node.children[1].get_code().strip() == "TYPE_CHECKING")


def function_of(node: Any) -> str:
    names = [parent.name.value for _, parent in _upwards(node) if parent.type in ("funcdef", "classdef")]
    if node.type in ("funcdef", "classdef"):
        names.insert(0, node.name.value)
    return ".".join(reversed(names))


def lines_of(node: Any) -> frozenset[int]:
    """The lines of the statement with this node, without the statements inside."""
    child = node
    for child, parent in _upwards(node):
        if child.type == "simple_stmt" or parent.type in ("file_input", "suite"):
            break
        if parent.type.endswith("_stmt") and "suite" in (part.type for part in parent.children):
            return frozenset({parent.start_pos[0]}) | _range(child)
    if child.type == "simple_stmt":
        return _range(child)
    head = next((part for part in child.children if part.type == "suite"), child)
    return frozenset(range(child.start_pos[0], (head.start_pos[0] if head is not child else child.end_pos[0]) + 1))


def _range(node: Any) -> frozenset[int]:
    first, last = node.start_pos[0], node.get_last_leaf().start_pos[0]
    return frozenset(range(first, last + 1))


def _upwards(node: Any) -> Iterator[tuple[Any, Any]]:
    while node.parent is not None:
        yield node, node.parent
        node = node.parent
