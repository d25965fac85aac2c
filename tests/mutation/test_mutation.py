"""The mutants of `make mutate` are changes of the code, and what is explained is still there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .__main__ import CLONE, ROOMS, THROUGH_OTHERS, code_of, files_of_tests
from .explained import Explanation, explanations


@pytest.mark.parametrize("row", explanations(), ids=lambda row: f"{row.file}:{row.function}")
def test_an_explained_line_is_still_in_its_function(row: Explanation) -> None:
    assert row.because
    assert row.was in " ".join(line.strip() for line in source_of(row.file, row.function).splitlines())


def source_of(file: str, function: str) -> str:
    text = (CLONE / file).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for name in function.split(".") if function else ():
        node = next(child for child in ast.walk(node) if getattr(child, "name", None) == name)
    return ast.get_source_segment(text, node) or text


def test_each_module_has_tests_in_its_room() -> None:
    for name, room in ROOMS.items():
        for file in code_of(room):
            if Path(file).stem not in ("__init__", "__main__"):
                assert any(files_of_tests(CLONE, name, file)), file
    assert all((CLONE / path).exists() for file, tests in THROUGH_OTHERS.items() for path in (file, *tests))
