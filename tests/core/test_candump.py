"""Lines of recorded CAN traffic."""

from __future__ import annotations

import pytest

from fixgw.kit.candump import BRS, ERROR, ESI, EXTENDED, FD, REMOTE, Line, parse


def test_flags_are_those_of_socketcan() -> None:
    assert (EXTENDED, REMOTE, ERROR) == (1 << 31, 1 << 30, 1 << 29)
    assert (BRS, ESI, FD) == (1, 2, 4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("(1700000000.25) can0 183#0102", Line("can0", 0x183, b"\x01\x02", 0, 1700000000.25)),
        ("(1.0) can0 00000183#01 R", Line("can0", 0x183, b"\x01", EXTENDED, 1.0)),
        ("(1.0) can0 1FFFFFFF#", Line("can0", 0x1FFFFFFF, b"", EXTENDED, 1.0)),
        ("(1.0) can0 20000004#0102", Line("can0", 4, b"\x01\x02", ERROR, 1.0)),
        ("(1.0) can0 183#R", Line("can0", 0x183, b"", REMOTE, 1.0)),
        ("(1.0) can0 183#R8", Line("can0", 0x183, bytes(8), REMOTE, 1.0)),
        ("(1.0) can0 183#R9", None),
        ("(1.0) can0 183##00102", Line("can0", 0x183, b"\x01\x02", FD, 1.0)),
        ("(1.0) can0 00000183##FAA", Line("can0", 0x183, b"\xaa", EXTENDED | FD | BRS | ESI, 1.0)),
        ("(1.0) can0 183#01.02", Line("can0", 0x183, b"\x01\x02", 0, 1.0)),
        ("(1.0) can0 183#012", None),
        ("(1.0) can0 1834#01", None),
        ("can0  183   [2]  32 00", Line("can0", 0x183, b"\x32\x00", 0, 0.0)),
        ("  \x1b[31mcan0  183   [0]\x1b[0m  ", Line("can0", 0x183, b"", 0, 0.0)),
        ("(2.5) can0 RX - -  183   [1]  32   '2'", Line("can0", 0x183, b"\x32", 0, 2.5)),
        ("can0  20000004   [1]  01   ERRORFRAME", Line("can0", 4, b"\x01", ERROR, 0.0)),
        ("can0  183   [8]  remote request", Line("can0", 0x183, bytes(8), REMOTE, 0.0)),
        ("can0  183   [15]  remote request", Line("can0", 0x183, bytes(8), REMOTE, 0.0)),
        ("can0  183   [2]  32", None),
        ("can0  183  [08]  " + " ".join(["11"] * 8), Line("can0", 0x183, b"\x11" * 8, 0, 0.0)),
        ("can0  183  [12]  " + " ".join(["11"] * 12), Line("can0", 0x183, b"\x11" * 12, FD, 0.0)),
        ("(1970-01-02 00:00:01.5) can0  183   [1]  32", Line("can0", 0x183, b"\x32", 0, 86401.5)),
        ("(1970-01-02T00:00:01.500000) can0 183#32", Line("can0", 0x183, b"\x32", 0, 86401.5)),
        ("(1970-13-02 00:00:01.5) can0  183   [1]  32", None),
        ("no line", None),
    ],
)
def test_lines(text: str, line: Line | None) -> None:
    assert parse(text) == line
