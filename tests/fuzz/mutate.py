"""Inputs made from others by chance: for where no coverage-guided fuzzer is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from .oracle import MAX_INPUT_BYTES
from .targets import CORPUS

#: Bytes that parsers are sensitive to.
SPECIAL = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\r",
    b"\n",
    b",",
    b";",
    b"-",
    b".",
    b"9" * 40,
    b"9" * 5000,
    b"0",
    b" ",
    b"\xe2\x80\xa8",
    b"\xd9\xa3",
)


def corpus(name: str) -> dict[str, bytes]:
    """The inputs for a target, by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}


def mutants(seeds: Sequence[bytes], words: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """Inputs like `seeds`, without end."""
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _change(data, seeds, (*SPECIAL, *words), chance)
        yield bytes(data[:MAX_INPUT_BYTES])


def _change(data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = at + min(chance.choice((1, 1, 2, 8, 64)), len(data) - at)
    match chance.randrange(7):
        case 0:  # a wrong bit
            if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
        case 1:  # a hole
            del data[at:end]
        case 2:  # a word in the middle
            data[at:at] = chance.choice(words)
        case 3:  # a word in place of something
            data[at:end] = chance.choice(words)
        case 4:  # a repetition
            data[at:at] = data[at:end] * chance.choice((1, 1, 2, 20))
        case 5:  # junk
            data[at:end] = chance.randbytes(end - at)
        case _:  # a part of another
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + 64]
