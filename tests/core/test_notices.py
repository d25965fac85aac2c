"""The board of notices: bounded, one line each, gone with their owner."""

from __future__ import annotations

import logging
import threading

import pytest

from fixgw.database import Database
from fixgw.notices import Notice, Notices
from fixgw.plugin import PluginBase
from fixgw.world import World

MAX_OWNERS, MAX_NOTICES, MAX_TEXT_LENGTH = 64, 32, 200


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices(clock: Clock) -> Notices:
    return Notices(clock)


def test_a_notice_is_put_replaced_and_cleared(notices: Notices, clock: Clock) -> None:
    assert notices.put("compare", "IAS", "caution", "IAS MISCOMPARE")
    clock.now = 105.0
    notices.put("compare", "IAS", "warning", "IAS MISCOMPARE 40 kt")
    notices.put("quorum", "lead", "advisory", "NOT LEADING")
    assert notices.all() == (
        Notice("compare", "IAS", "warning", "IAS MISCOMPARE 40 kt", 100.0),
        Notice("quorum", "lead", "advisory", "NOT LEADING", 105.0),
    )
    notices.clear("compare", "IAS")
    notices.clear("compare", "ALT")
    assert [n.owner for n in notices.all()] == ["quorum"]
    notices.clear("quorum")
    assert notices.all() == ()


def test_subscribers_hear_of_changes_only(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []

    def broken() -> None:
        raise RuntimeError("broken")

    notices.subscribe(broken)
    close = notices.subscribe(lambda: heard.append(len(notices.all())))
    for _ in range(3):
        assert notices.put("compare", "IAS", "caution", "IAS MISCOMPARE") is True
    assert heard == [1]
    notices.clear("compare", "ALT")
    notices.clear("quorum", "IAS")
    assert heard == [1]
    notices.clear("compare")
    notices.clear("compare")
    assert heard == [1, 0]
    close()
    notices.put("compare", "IAS", "caution", "IAS MISCOMPARE")
    assert heard == [1, 0]
    assert [r.getMessage().endswith("failed") for r in caplog.records] == [True], "and its failure is logged once"


def test_a_level_that_is_none_is_refused(notices: Notices) -> None:
    with pytest.raises(ValueError, match="advisory, caution, warning"):
        notices.put("compare", "IAS", "panic", "IAS")  # type: ignore[arg-type]


def test_text_is_one_line_of_limited_length(notices: Notices) -> None:
    notices.put("compare", "a\nb", "caution", "IAS\r\n\x1b[31mMISCOMPARE " + "x" * 1000)
    (notice,) = notices.all()
    assert notice.name == "a b"
    assert notice.text.isprintable()
    assert len(notice.text) == MAX_TEXT_LENGTH
    notices.clear("compare", "a\nb")
    assert notices.all() == ()


def test_only_text_that_is_too_long_is_cut(notices: Notices) -> None:
    for length in (MAX_TEXT_LENGTH, MAX_TEXT_LENGTH + 1):
        notices.put("compare", f"n{length}", "caution", "x" * length)
    assert [n.text for n in notices.all()] == ["x" * MAX_TEXT_LENGTH, "x" * (MAX_TEXT_LENGTH - 1) + "…"]


def test_the_first_of_the_least_severe_makes_room(notices: Notices) -> None:
    notices.put("compare", "worst", "warning", "W")
    notices.put("compare", "least", "advisory", "A")
    for n in range(MAX_NOTICES - 2):
        notices.put("compare", f"c{n}", "caution", "C")
    assert notices.put("compare", "c0", "caution", "another text"), "it has its place already"
    assert notices.put("compare", "new", "caution", "C")
    assert "least" not in {n.name for n in notices.all()}
    assert not notices.put("compare", "newer", "caution", "C")
    assert notices.put("compare", "newest", "warning", "W")
    assert {"worst", "new", "newest"} <= {n.name for n in notices.all()}
    assert "c0" not in {n.name for n in notices.all()}


def test_an_owner_s_notices_are_bounded_and_severe_ones_find_room(
    notices: Notices, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(MAX_NOTICES):
        assert notices.put("compare", f"a{n}", "advisory", "A")
    with caplog.at_level(logging.WARNING):
        assert not notices.put("compare", "more", "advisory", "A")
        assert not notices.put("compare", "again", "advisory", "A")
    assert notices.refused == 2
    assert caplog.messages == ["compare has too many notices: more is left out"], "once for each owner"
    assert notices.put("compare", "fire", "warning", "FIRE")
    assert len(notices.all()) == MAX_NOTICES
    assert notices.all()[-1].name == "fire"
    assert "a0" not in {n.name for n in notices.all()}
    assert notices.put("quorum", "lead", "advisory", "NOT LEADING"), "another owner has room of its own"


def test_the_owners_are_bounded(notices: Notices) -> None:
    assert [notices.put(f"c{n}", "x", "warning", "X") for n in range(MAX_OWNERS + 1)].count(False) == 1
    assert len(notices.all()) == MAX_OWNERS
    notices.clear("c0", "x")
    notices.clear("c1")
    assert notices.put("late", "x", "warning", "X"), "whoever has no notice left needs no place"
    assert notices.put("later", "x", "warning", "X")
    assert not notices.put("latest", "x", "warning", "X")


def test_many_threads_at_once(notices: Notices) -> None:
    def work(owner: str) -> None:
        for n in range(200):
            notices.put(owner, f"n{n % 10}", "caution", f"{n}")
            notices.clear(owner, f"n{(n + 5) % 10}")
        notices.clear(owner)

    threads = [threading.Thread(target=work, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notices.all() == ()


def test_a_plugin_reaches_the_board_of_its_gateway(clock: Clock) -> None:
    world = World(Database(clock=clock))
    with world.hosting():
        plugin = PluginBase("compare", {})
    plugin.notices.put(plugin.name, "IAS", "caution", "IAS MISCOMPARE")
    assert world.notices.all() == (Notice("compare", "IAS", "caution", "IAS MISCOMPARE", 100.0),)
    assert World().notices.all() == ()


def test_what_nobody_put_up_does_not_take_the_place_of_an_owner(notices: Notices) -> None:
    with pytest.raises(ValueError, match="'panic' is not one of"):
        notices.put("compare", "IAS", "panic", "IAS")  # type: ignore[arg-type]
    told: list[int] = []
    closes = [notices.subscribe(lambda n=n: told.append(n)) for n in range(3)]  # type: ignore[misc]
    closes[1]()
    closes[1]()
    for n in range(MAX_OWNERS):
        notices.put(f"c{n}", "x", "advisory", "X")
    assert told == [0, 2] * MAX_OWNERS
    assert not notices.put("late", "x", "warning", "X"), "however severe"
    assert told == [0, 2] * MAX_OWNERS, "nothing has changed"
