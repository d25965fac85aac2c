"""The mutants in ``explained.yaml``: those that no test can notice, or need not, each with the reason."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from .mutants import Mutant

EXPLAINED = Path(__file__).with_name("explained.yaml")


class Explanation(NamedTuple):
    """A line before and after, without indentation; several lines are joined by a space."""

    file: str
    function: str  #: qualified name; empty for the module itself
    was: str
    becomes: tuple[str, ...]
    because: str


@cache
def explanations() -> list[Explanation]:
    rows = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8"))
    return [
        Explanation(file, function, row["was"], tuple(row["becomes"]), row["because"])
        for file, functions in rows.items()
        for function, changes in functions.items()
        for row in changes
    ]


def is_explained(mutant: Mutant) -> bool:
    was, becomes = mutant.change
    return any(
        (row.file, row.function, row.was) == (mutant.file, mutant.function, was) and becomes in row.becomes
        for row in explanations()
    )
