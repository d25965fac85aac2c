"""The monitor of a CAN-FIX bus: what it says of frames, and that it is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix import table
from fixgw.drivers.canfix.monitor import MAX_ROWS, PATIENCE_S, QUIET_S, Monitor
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame

TABLE = table.load()
NAMES = {12: "AHRS"}


class Bus:
    """A clock that the test winds, and frames from it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.monitor = Monitor(TABLE, lambda: self.now, lambda node: NAMES.get(node, ""))

    def hear(self, identifier: int, data: str, flags: int = 0) -> None:
        self.monitor.take([Frame(identifier, bytes.fromhex(data), flags, self.now)])

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.monitor.ask()["rows"]
        return rows


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_a_parameter_in_words(bus: Bus) -> None:
    bus.hear(0x183, "0c0002d204")
    bus.now += 0.25
    assert bus.rows() == [
        {
            "id": "183",
            "kind": "value",
            "node": 12,
            "name": "AHRS",
            "key": "IAS",
            "about": "Indicated Airspeed",
            "index": 0,
            "meta": None,
            "value": "123.4 knots",
            "flags": ["bad"],
            "data": "0c 00 02 d2 04",
            "count": 1,
            "rate": None,
            "age": 0.25,
        }
    ]


def test_each_node_index_and_meta_has_its_row_with_the_latest_frame(bus: Bus) -> None:
    for data in ("0c0000d204", "0d0000d204", "0c005010e0", "0c000000e0", "0c0004e803"):
        bus.hear(0x183, data)
    bus.hear(0x500, "0c0000e803")
    bus.hear(0x500, "0c0200e803")
    found = [(row["id"], row["node"], row["index"], row["meta"], row["flags"], row["count"]) for row in bus.rows()]
    assert found == [
        ("183", 12, 0, None, ["fail"], 3),
        ("183", 12, 0, "Vne", [], 1),
        ("183", 13, 0, None, [], 1),
        ("500", 12, 0, None, [], 1),
        ("500", 12, 2, None, [], 1),
    ]


def test_what_cannot_be_decoded_keeps_its_bytes(bus: Bus) -> None:
    bus.hear(0x183, "0c00")
    bus.hear(0x5FE, "0102030405")
    bus.hear(0x18FF1234, "beef", EXTENDED)
    bus.hear(0x183, "", REMOTE)
    bus.hear(0x40, "0000000000000000", ERROR)
    bus.hear(12, "0700aa")
    bus.hear(0x6E0 + 12, "0600000000")
    rows = {(row["id"], row["kind"]): row for row in bus.rows()}
    assert rows["183", "short"]["data"] == "0c 00"
    assert rows["5FE", "unknown"]["data"] == "01 02 03 04 05"
    assert rows["18FF1234", "not-for-us"]["data"] == "be ef"
    assert "bus off" in rows["040", "error"]["about"]
    assert (rows["00C", "alarm"]["node"], rows["00C", "alarm"]["about"]) == (12, "ALARM 7 aa")
    assert rows["6EC", "node-specific"]["name"] == "AHRS"
    assert rows["6EC", "node-specific"]["about"] == "good"
    assert all(row["about"] and not row["value"] for row in rows.values())
    assert len(rows) == 7


def test_messages_of_a_node_are_told_apart_by_what_they_are_about(bus: Bus) -> None:
    for data in ("0600000000", "060100fa00", "060200 8a00", "0600000100", "c801", "c802", "c803"):
        bus.hear(0x6E0 + 12, data)
    found = [(row["about"], row["count"]) for row in bus.rows()]
    assert found == [
        ("errors 0x0001", 2),
        ("Internal Temperature 25.0 °C", 1),
        ("Supply Voltage 13.8 V", 1),
        ("control code 200: 03", 3),
    ]


def test_rates_and_counts(bus: Bus) -> None:
    for _ in range(31):
        bus.hear(0x183, "0c0000d204")
        bus.now += 0.1
    (row,) = bus.rows()
    assert (row["count"], row["rate"]) == (31, pytest.approx(10.0, abs=0.6))
    bus.now += 5.0  # silence
    (row,) = bus.rows()
    bus.now += 2.5
    assert (bus.rows()[0]["rate"], round(bus.rows()[0]["age"], 1)) == (0.0, 7.6)


def test_a_flood_of_kinds_is_bounded_and_does_not_drive_out_what_is_known(bus: Bus) -> None:
    bus.hear(0x183, "0c0000d204")
    for index in range(256):
        for node in range(1, 11):
            bus.hear(0x500, f"{node:02x}{index:02x}000102")
    bus.hear(0x183, "0c0000d204")
    answer = bus.monitor.ask()
    assert len(answer["rows"]) == MAX_ROWS
    assert answer["left out"] == 2560 - (MAX_ROWS - 1)
    assert (answer["rows"][0]["key"], answer["rows"][0]["count"]) == ("IAS", 2)
    bus.now += QUIET_S / 2
    bus.hear(0x183, "0c0000d204")
    bus.now += QUIET_S / 2
    bus.hear(0x184, "0c000000000000")
    assert [row["key"] for row in bus.rows()] == ["IAS", "ALT"], "what is not heard any more has made room"


def test_nobody_looks_unless_somebody_asks(bus: Bus) -> None:
    assert bus.monitor.until == bus.now + PATIENCE_S
    bus.now += 4.0
    bus.hear(0x183, "0c0000d204")
    assert bus.monitor.until == 1000.0 + PATIENCE_S, "frames do not count"
    bus.monitor.ask()
    assert bus.monitor.until == bus.now + PATIENCE_S


IDENTIFIERS = st.integers(0, 0x7FF) | st.integers(0, 0x1FFFFFFF)


@given(st.lists(st.tuples(IDENTIFIERS, st.binary(max_size=8), st.sampled_from([0, 0, 0, EXTENDED, REMOTE, ERROR, FD]))))
def test_any_frame_has_words(frames: list[tuple[int, bytes, int]]) -> None:
    bus = Bus()
    bus.monitor.take([Frame(*frame, timestamp=bus.now) for frame in frames])
    rows = bus.rows()
    json.dumps(rows, allow_nan=False)
    assert sum(row["count"] for row in rows) == len(frames)
    assert all(row["kind"] in (*cf.KINDS, "error") for row in rows)
