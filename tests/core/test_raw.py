"""Where links pass on their raw data: listeners early and late, those that raise, and the buffer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fixgw.kit import raw
from fixgw.kit.raw import Buffer, Event, Heard, Point

LOG = logging.getLogger("fixgw.test")


class Gateway:
    """Something that owns a point, as a database does."""


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def opened(connection: str, stamp: float) -> list[Heard]:
    return [Heard(connection, stamp, "in", Event("serial", what)) for what in ("baud", "opened")]


def test_a_listener_hears_what_is_read_until_it_closes(gateway: Gateway) -> None:
    heard: list[Any] = []
    tap = raw.listen(gateway, lambda *what: heard.append(what), LOG)
    point = raw.point(gateway)
    point.opened("serial", "gps", lambda: opened("gps", 1.0))
    point.pass_on("gps", 2.0, "in", b"x")
    point.lost("serial", "gps", 3.0, "unplugged")
    tap.close()
    tap.close()
    point.pass_on("gps", 4.0, "in", b"y")
    point.lost("serial", "gps", 5.0, "again")
    assert heard == [
        opened("gps", 1.0)[-1],
        ("gps", 2.0, "in", b"x"),
        ("gps", 3.0, "in", Event("serial", "lost", "unplugged")),
    ]


def test_a_late_listener_first_hears_of_the_open_links(gateway: Gateway) -> None:
    point = raw.point(gateway)
    for stamp, name in enumerate(("gps", "eis", "gone")):
        point.opened("serial", name, lambda name=name, stamp=stamp: opened(name, stamp))  # type: ignore[misc]
    point.lost("serial", "gone", 3.0, "unplugged")
    heard: list[Any] = []
    raw.listen(gateway, lambda *what: heard.append(what), LOG)
    assert heard == opened("gps", 0) + opened("eis", 1)


@pytest.mark.parametrize("late", [False, True])
def test_a_listener_that_raises_is_logged_and_never_called_again(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, late: bool
) -> None:
    def listener(*what: Any) -> None:
        calls.append(what)
        raise ValueError("full")

    calls: list[Any] = []
    others: list[Any] = []
    if late:
        raw.point(gateway).opened("serial", "gps", lambda: opened("gps", 1.0))
    tap = raw.listen(gateway, listener, LOG)
    raw.listen(gateway, lambda *what: others.append(what), LOG)
    for _ in range(2):
        raw.point(gateway).pass_on("gps", 2.0, "in", b"x")
    assert len(calls) == 1
    assert others[-2:] == [("gps", 2.0, "in", b"x")] * 2
    assert tap.failure == "ValueError: full"
    (record,) = caplog.records
    where = "the links" if late else "gps"
    assert record.getMessage() == f"recording of {where} failed, and has stopped: ValueError: full"


def test_each_gateway_has_a_point_until_it_is_forgotten(gateway: Gateway) -> None:
    point = raw.point(gateway)
    assert raw.point(gateway) is point is not raw.point(Gateway())
    raw.forget(gateway)
    raw.forget(gateway)
    assert raw.point(gateway) is not point


def test_a_link_has_a_feed_only_in_a_replay() -> None:
    point, feed = Point(), raw.Feed(lambda data: None)
    assert point.feed("gps") is None
    point.feeds = {"gps": feed}.get
    assert (point.feed("gps"), point.feed("eis")) == (feed, None)
    assert feed.trouble == "the recording has no data of it"


def test_a_buffer_loses_the_oldest_first_and_counts_them() -> None:
    buffer = Buffer(3)
    for number in range(5):
        buffer("gps", float(number), "in", number)
    assert buffer.lost == 2
    assert [heard.data for heard in buffer.take()] == [2, 3, 4]
    assert buffer.take() == []
    buffer("gps", 9.0, "in", 9)
    assert (buffer.lost, buffer.take()) == (2, [Heard("gps", 9.0, "in", 9)])
