"""The short run of the fuzzers: the corpus, and what a fixed seed makes of it. `make fuzz` is the long one."""

from __future__ import annotations

import random
import time
from itertools import islice, takewhile
from pathlib import Path

import pytest

from .mutate import corpus, mutants
from .oracle import MAX_INPUT_BYTES, Stream
from .targets import CORPUS, TARGETS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MUTANTS = 40  # of each target, unless they take longer than
MUTANTS_S = 0.2  # of CPU time
FLOOD_BYTES = 100_000


def modules() -> set[str]:
    return {target.module.__name__ for target in TARGETS.values()}


def test_every_protocol_is_fuzzed() -> None:
    protocols = {f"fixgw.drivers.{path.parent.name}.protocol" for path in (ROOT / "drivers").glob("*/protocol.py")}
    assert len(protocols) >= 18
    assert not protocols - modules(), "add a row to tests/fuzz/targets.py"


def test_the_corpus_has_something_for_every_target_and_nothing_else() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < 400_000
    for name in TARGETS:
        for data in corpus(name).values():
            assert len(data) <= MAX_INPUT_BYTES


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_mutants_of_it(name: str) -> None:
    target, seeds = TARGETS[name], corpus(name)
    for where, data in seeds.items():
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"{name}/{where}") from error
    made = mutants(list(seeds.values()), target.words, random.Random(name))
    end = time.thread_time() + MUTANTS_S
    for data in islice(takewhile(lambda _: time.thread_time() < end, made), MUTANTS):
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"{data!r}") from error


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if isinstance(target.check, Stream)])
def test_nothing_piles_up(name: str) -> None:
    target = TARGETS[name]
    assert isinstance(target.check, Stream)
    seeds = list(corpus(name).values())
    noise = random.Random(name).randbytes(MAX_INPUT_BYTES)
    for data in (b"".join(seeds)[:MAX_INPUT_BYTES], max(seeds, key=len)[:-1], noise):
        target.check.flood(data, FLOOD_BYTES)
