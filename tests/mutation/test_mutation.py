"""The mutants of `make mutate` are changes of the code, what is explained is still there, and only what a test notices
each time counts as noticed."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from . import sandbox
from .__main__ import CLONE, ROOMS, THROUGH_OTHERS, code_of, files_of_tests
from .explained import Explanation, explanations
from .mutants import mutate, places


@pytest.mark.parametrize("row", explanations(), ids=lambda row: f"{row.file}:{row.function}")
def test_an_explained_line_is_still_in_its_function(row: Explanation) -> None:
    assert row.because
    assert row.was in " ".join(line.strip() for line in source_of(row.file, row.function).splitlines())


def source_of(file: str, function: str) -> str:
    """The function's source; of a property, that of all its functions."""
    text = (CLONE / file).read_text(encoding="utf-8")
    nodes: list[ast.AST] = [ast.parse(text)]
    for name in function.split(".") if function else ():
        nodes = [child for node in nodes for child in ast.walk(node) if getattr(child, "name", None) == name]
    return "\n".join(ast.get_source_segment(text, node) or text for node in nodes)


def test_each_module_has_tests_in_its_room() -> None:
    for name, room in ROOMS.items():
        for file in code_of(room):
            if Path(file).stem not in ("__init__", "__main__"):
                assert any(files_of_tests(CLONE, name, file)), file
    assert all((CLONE / path).exists() for file, tests in THROUGH_OTHERS.items() for path in (file, *tests))


CODE = """
#: Called with a name.
Listener = Callable[[str], object]


@overload
def hear(listener: dict[str, Listener], *, often: int = 2) -> list[int]: ...


def hear(listener: dict[str, Listener], *, often: int = 3) -> list[int]:
    # why
    log.info("%d", often + 1)
    return [often + 1]
"""


def test_what_is_only_for_the_reader_is_not_changed(tmp_path: Path) -> None:
    pytest.importorskip("cosmic_ray", reason="`make mutate` installs it")
    (tmp_path / "code.py").write_text(CODE)
    changed = [mutate(tmp_path, place, change) for place in places(tmp_path, "code.py") for change in place.changes]
    assert {mutant.change[1] for mutant in changed if mutant} == {
        "def hear(listener: dict[str, Listener], *, often: int = 2) -> list[int]:",
        "def hear(listener: dict[str, Listener], *, often: int = 4) -> list[int]:",
        "return None",
        "return []",
        "return [often - 1]",
        "return [often + 0]",
        "return [often + 2]",
    }


WORDS = "WORDS = 2\n\n\ndef double(number):\n    return number * 2\n"
TESTS = """
import time
from pathlib import Path
import pytest
import words

def on_a_busy_computer(what):
    mark = Path(what)  # once
    if not mark.exists():
        mark.touch()
        return True

def test_double():
    assert words.double(2) == 4

def test_hangs():
    while words.double(0):
        time.sleep(0.01)

@pytest.mark.parametrize("number", range(words.WORDS))
def test_numbers(number):
    pass

def test_fails_once():
    assert not on_a_busy_computer("failed")

def test_hangs_once():
    if on_a_busy_computer("hung"):
        time.sleep(10)
"""


@pytest.mark.slow
def test_a_mutant_is_noticed_by_what_notices_it_again_and_only_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "words.py").write_text(WORDS)
    (clone / "test_words.py").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(sandbox, "SLOWER", 0.5)
    box = sandbox.Sandbox(clone, print)

    def outcome(becomes: str, *tests: str) -> str:
        was = "number * 2" if "number" in becomes else "WORDS = 2"
        with capfd.disabled():  # the tests write to a file
            return box.outcome("words.py", WORDS.replace(was, becomes), {f"test_words.py::{t}": 0.1 for t in tests})

    assert outcome("number * 3", "test_double") == "failed"
    assert outcome("number * 2.0", "test_double") == ""
    assert outcome("number + 1", "test_hangs") == "hung"
    assert outcome("number +", "test_double") == "failed", "it cannot be loaded"
    assert outcome("WORDS = 1", "test_numbers[1]") == "", "a test that is not there is missed by nobody"
    for test in "test_fails_once", "test_hangs_once":
        assert outcome("number * 2.0", test) == "", "it does so only once"
    assert (box.root / "failed").exists()
    assert (box.root / "hung").exists()
    assert (box.root / "words.py").read_text() == WORDS
