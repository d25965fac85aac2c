"""Compiles regular expressions from a configuration, and refuses those that might take practically forever.

Python's matcher backtracks wherever a repeat might also have stopped earlier. Patterns with nested repeats can
therefore take exponential time on the wrong line, and block all other threads. A choice is harmless when the next
character decides it: when the repeated or optional part cannot begin what follows it. A pattern may have at most
`MAX_CHOICES` others; on a line of 250 characters that means tens of thousands of steps.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

MAX_CHOICES = 2
MAX_LENGTH = 500  # characters in a pattern

# Every ASCII character is itself; four more numbers stand for the digits, letters, blanks and others beyond ASCII.
_ASCII = frozenset(range(128))
_BEYOND = frozenset((128, 129, 130, 131))
_ALL = _ASCII | _BEYOND
_CLASSES = {
    "DIGIT": frozenset(c for c in _ASCII if chr(c).isdigit()) | {128},
    "WORD": frozenset(c for c in _ASCII if chr(c).isalnum() or chr(c) == "_") | {128, 129},
    "SPACE": frozenset(c for c in _ASCII if chr(c).isspace()) | {130},
}
_ONE = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN)
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)


def compile_safely(pattern: str) -> re.Pattern[str]:
    """Compile `pattern` for `fullmatch`. Raises ValueError if it is no pattern, or might take practically forever."""
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"the pattern has {len(pattern)} characters; at most {MAX_LENGTH} are allowed")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what may mean something else in a later Python
            result = re.compile(pattern)
            tree = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a valid regular expression: {error}") from None
    if result.flags != re.UNICODE:
        raise ValueError("flags such as (?i) are not allowed here; write [Tt] instead")
    _, choices = _begin(tree, frozenset())
    if choices > MAX_CHOICES:
        raise ValueError(
            f"{choices} repeats may stop in several places, and at most {MAX_CHOICES} are allowed, so that no line can "
            "block the gateway: repeat only characters that cannot begin what follows, [^,]* instead "
            "of .* before a comma"
        )
    return result


def _begin(sequence: Iterable[Any], follow: frozenset[int]) -> tuple[frozenset[int], int]:
    """The characters that may begin `sequence` when `follow` may come after it, and the number of undecided choices."""
    choices = 0
    for code, argument in reversed(list(sequence)):
        if code in _ONE:
            follow = _characters(code, argument)
        elif code is op.AT:
            follow = frozenset() if argument in (op.AT_END, op.AT_END_STRING) else follow
        elif code is op.SUBPATTERN and not argument[1] and not argument[2]:
            follow, more = _begin(argument[3], follow)
            choices += more
        elif code is op.ATOMIC_GROUP:
            follow, more = _begin(argument, follow)
            choices += more
        elif code is op.BRANCH:
            begins = [_begin(branch, follow) for branch in argument[1]]
            follow = frozenset().union(*(first for first, _ in begins))
            decided = sum(len(first) for first, _ in begins) == len(follow)
            choices += sum(more for _, more in begins) + (0 if decided else len(begins) - 1)
        elif code in _REPEATS:
            least, most, body = argument
            if most > 1 and not _is_one(body):
                raise ValueError("only single characters and sets may be repeated, not groups")
            first, more = _begin(body, follow)
            choices += more + bool(least != most and code is not op.POSSESSIVE_REPEAT and first & follow)
            follow = first if least else first | follow
        else:
            raise ValueError(
                f"{str(code).lower().replace('_', ' ')}: not allowed here; use characters, sets and groups"
            )
    return follow, choices


def _is_one(body: Sequence[Any]) -> bool:
    if len(body) != 1:
        return False
    code, argument = body[0]
    return code in _ONE or (code is op.SUBPATTERN and _is_one(argument[3]))


def _characters(code: Any, argument: Any) -> frozenset[int]:
    """The characters that one element matches, or more."""
    if code is op.ANY:
        return _ALL
    if code is op.LITERAL:
        return frozenset((argument,)) if argument in _ASCII else _BEYOND
    if code is op.NOT_LITERAL:
        return _ALL - {argument} if argument in _ASCII else _ALL
    negated = argument[0][0] is op.NEGATE
    found: set[int] = set()
    for kind, value in argument[negated:]:
        if kind is op.CATEGORY:
            found |= _category(str(value))
            continue
        low, high = value if kind is op.RANGE else (value, value)
        found.update(range(low, min(high, 127) + 1))
        if high > 127 and not negated:  # in a negated set this excludes some characters beyond ASCII, not all
            found |= _BEYOND
    return _ALL - found if negated else frozenset(found)


def _category(name: str) -> frozenset[int]:
    members = _CLASSES[name.rpartition("_")[2]]
    return _ALL - members if "_NOT_" in name else members
