"""What keeps the rows of watch and tui up to date."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from fixgw.cli.feed import LOST_S, Feed
from fixgw.cli.terminal import Row
from fixgw.cli.text import GREEN, YELLOW
from fixgw.clock import now
from fixgw.database import BAD, OLD

if TYPE_CHECKING:
    from tests.cli.conftest import Bench

pytestmark = pytest.mark.slow


@pytest.fixture
def feed(bench: Bench) -> Iterator[Feed]:
    made = Feed(Namespace(host="127.0.0.1", port=bench.port, timeout=5.0, units={}), also=["IAS", "NO_SUCH"])
    made.connect()
    made.start()
    yield made
    made.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_keys_have_rows_and_those_of_others_are_shared(bench: Bench, feed: Feed) -> None:
    assert list(feed.rows) == bench.db.keys()
    assert feed.others == {"IAS": feed.rows["IAS"]}
    assert feed.rows["IAS"].flags == OLD
    bench.db.write("IAS", 80.0, "eis")
    until(lambda: feed.rows["IAS"].value == 80.0)
    assert feed.rows["IAS"].verdict == ("good", GREEN)


def test_sources_mark_what_is_not_real(bench: Bench, feed: Feed) -> None:
    assert feed.unreal == []
    bench.db.write("ALT", 1000.0, "sim/eis")
    bench.db.write("EGT11", 700.0, "replay/eis")
    bench.db.item("IAS").override(120, 0, "override/netfix/127.0.0.1", "", 60.0)
    until(lambda: feed.overridden)
    assert feed.unreal == ["SIMULATED", "REPLAY", "1 OVERRIDE"]
    assert feed.rows["ALT"].source == "sim/eis"
    assert feed.rows["IAS"].verdict == ("overridden", YELLOW)


def test_an_overridden_value_keeps_the_words_of_its_flags() -> None:
    row = Row("IAS")
    row.update(1.0, BAD, 5.0)
    row.source = "override/netfix/127.0.0.1"
    assert row.verdict[0] == "overridden, bad"


def test_a_gateway_that_falls_silent_is_noticed(bench: Bench, feed: Feed) -> None:
    """Its thread stands still, as if the whole process did; the connection stays."""
    assert feed.trouble(now()) == ""
    with bench.gateway.runners["netfix"].plugin.server._fanout.working:  # type: ignore[union-attr]
        frozen = now()
        until(lambda: feed.trouble(now()))
        assert LOST_S - 0.5 < now() - frozen < LOST_S + 1.0
        assert feed.trouble(now()).startswith(f"no answer from 127.0.0.1:{bench.port} for 1.")
    until(lambda: not feed.trouble(now()))


def test_when_this_process_was_held_up_nothing_is_current(feed: Feed) -> None:
    assert feed.trouble(now() + 60).startswith("no answer")


def test_a_gateway_that_comes_back_with_other_keys(bench: Bench, feed: Feed) -> None:
    bench.stop()
    until(lambda: feed.trouble(now()).startswith("connection lost"))
    bench.entries = bench.entries.replace("key: ALT,", "key: SMOKE,")
    bench.start()
    until(lambda: not feed.trouble(now()))
    assert list(feed.rows) == bench.db.keys()
    assert feed.revision == 2
    ias, smoke = feed.rows["IAS"], feed.rows["SMOKE"]
    assert smoke.description == "Indicated altitude"
    for key in ("SMOKE", "IAS"):
        bench.db.write(key, 90.0, "eis")
    until(lambda: smoke.value == ias.value == 90.0)
    assert len(smoke._stamps) == len(ias._stamps) == 1, "each is subscribed to once"


def test_ages_are_those_of_the_gateway(bench: Bench, feed: Feed) -> None:
    bench.db.write("ALT", 1000.0, "eis")
    row = feed.rows["ALT"]
    until(lambda: row.value == 1000.0)
    before = row.updated
    feed._correct({"ALT": 30.0}, now())
    assert row.age(now()) == pytest.approx(30.0, abs=1.0)
    row.updated = before
    feed._correct({"ALT": 30.0}, (before or 0.0) - 1.0)
    assert row.updated == before, "the update came after the question"
