"""Real threads on one database: nothing is torn, lost or stuck."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixgw.database import BAD, FAIL, SECFAIL, Database, Definition, Item, Reading

WRITES = 10_000


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def db() -> Database:
    return Database(
        [
            Definition(key="IAS", tolerance=60_000, aux=("Vne",)),
            Definition(key="LAT", tolerance=60_000, sources=("gps1", "gps2")),
            *(Definition(key=f"K{n}") for n in range(20)),
        ]
    )


@pytest.fixture
def ias(db: Database) -> Item:
    return db.item("IAS")


def together(*jobs: Callable[[], object]) -> None:
    """Run each job on its own thread, all starting at the same instant; raise what any of them raises."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(jobs))

    def work(job: Callable[[], object]) -> None:
        try:
            barrier.wait(10)
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "stuck"
    if errors:
        raise errors[0]


def writer(item: Item, source: str, count: int = WRITES) -> Callable[[], None]:
    def write() -> None:
        for n in range(count):
            item.write(float(n), source)

    return write


def test_a_value_is_never_seen_with_the_flags_of_another(ias: Item) -> None:
    """Even values are written good, odd ones bad and failed: any other combination is a torn reading."""
    done = threading.Event()

    def write() -> None:
        try:
            for n in range(WRITES):
                ias.write(n, "w", BAD | FAIL if n % 2 else 0)
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            value, _, old, bad, fail, _ = ias.reading.as_tuple()
            assert old or bad == fail == bool(int(value) % 2)

    ias.write(0.0, "w")
    together(write, read, read)


def test_four_writers_to_one_item_lose_no_write_and_the_newest_is_delivered_last(db: Database, ias: Item) -> None:
    told: list[Reading] = []
    db.subscribe("IAS", lambda k, r: told.append(r))
    together(*(writer(ias, f"source{n}") for n in range(4)))
    assert ias.writes == 4 * WRITES
    assert told[-1] is ias.reading
    assert len(told) <= 4 * WRITES
    assert len({id(r) for r in told}) == len(told), "nothing is notified twice"
    stamps = [r.stamp for r in told]
    assert stamps == sorted(stamps), "and everything is in order"


def test_writes_of_a_single_thread_are_delivered_without_gaps(db: Database) -> None:
    told: list[tuple[str, Any]] = []
    db.subscribe("*", lambda k, r: told.append((k, r.value)))
    together(*(writer(db.item(f"K{n}"), "w", 500) for n in range(4)))
    for n in range(4):
        assert [v for k, v in told if k == f"K{n}"] == [float(v) for v in range(500)]


def test_the_newest_is_delivered_last_even_to_slow_subscribers(db: Database, ias: Item) -> None:
    """A subscriber that releases the interpreter in every call, so that deliveries always overlap with writes."""
    told: list[Reading] = []

    def slow(key: str, reading: Reading) -> None:
        time.sleep(0)
        told.append(reading)

    db.subscribe("IAS", slow)
    together(*(writer(ias, f"source{n}", 500) for n in range(4)))
    assert told[-1] is ias.reading


class Interrupted:
    """A lock before which, from the second time on, another thread gets something done first."""

    def __init__(self, lock: threading.Lock, what: Callable[[], object]) -> None:
        self._lock = lock
        self._what = what
        self._times = 0

    def __enter__(self) -> None:
        self._times += 1
        if self._times == 2:
            together(self._what)
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_what_another_thread_delivers_first_is_delivered_once(db: Database, ias: Item) -> None:
    told: list[float] = []

    def tell(key: str, reading: Reading) -> None:
        told.append(reading.value)  # type: ignore[arg-type]
        if reading.value == 1.0:
            ias._lock = Interrupted(ias._lock, lambda: ias.write(3.0))  # type: ignore[assignment]
            ias.write(2.0)

    db.subscribe("IAS", tell)
    ias.write(1.0)
    assert told == [1.0, 3.0]


def test_the_delivery_thread_leaves_an_item_to_who_is_at_it(db: Database, ias: Item) -> None:
    told: list[Any] = []

    def write_again(key: str, reading: Reading) -> None:
        if reading.value == 1.0:
            ias.write(2.0)
            db._redeliver(ias)
            together(db._deliver_pending)

    db.subscribe("IAS", write_again)
    db.subscribe("IAS", lambda key, reading: told.append(reading.value))
    ias.write(1.0)
    assert told == [1.0, 2.0]


def test_who_returns_after_all_does_not_disturb_who_took_over(db: Database, ias: Item) -> None:
    told: list[Any] = []
    inside, go_on = threading.Event(), threading.Event()

    def tell(key: str, reading: Reading) -> None:
        told.append(reading.value)
        if reading.value == 1.0:
            ias._give_up_delivery(reading)
            threading.Thread(target=ias.write, args=(2.0,), daemon=True).start()
            assert inside.wait(10)
        elif reading.value == 2.0:
            inside.set()
            go_on.wait(10)
            told.append("2.0 has arrived")

    db.subscribe("IAS", tell)
    ias.write(1.0)
    ias.write(3.0)
    assert told == [1.0, 2.0], "the other thread is still at it"
    go_on.set()
    deadline = time.monotonic() + 10
    while ias._delivering and time.monotonic() < deadline:
        time.sleep(0.001)
    assert told == [1.0, 2.0, "2.0 has arrived", 3.0]


def test_only_the_delivery_that_hangs_is_given_up(db: Database, ias: Item) -> None:
    told: list[Any] = []

    def tell(key: str, reading: Reading) -> None:
        told.append(reading.value)
        if reading.value == 2.0:
            ias._give_up_delivery(first)
            together(lambda: ias.write(3.0))
            assert told == [1.0, 2.0], "this delivery goes on"

    db.subscribe("IAS", tell)
    first = ias.write(1.0)
    ias._give_up_delivery(first)
    db.age()
    assert told == [1.0], "it had ended"
    ias.write(2.0)
    assert told == [1.0, 2.0, 3.0]


def test_a_writer_does_not_deliver_for_others_forever(db: Database, ias: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others write faster than the subscriber can be notified: after a while the ageing thread delivers instead."""
    monkeypatch.setattr("fixgw.database.item.MAX_REDELIVERIES", 3)
    flood_over, returned = threading.Event(), threading.Event()
    told: list[Reading] = []
    me = threading.get_ident()

    def slow(key: str, reading: Reading) -> None:
        told.append(reading)
        if threading.get_ident() == me and not flood_over.is_set():
            before = ias.writes
            while ias.writes == before:  # until another thread has written meanwhile
                time.sleep(0.0005)

    def flood() -> None:
        n = 0.0
        while not returned.is_set():
            ias.write(n, "flood")
            n += 1
            time.sleep(0.0005)

    db.subscribe("IAS", slow)
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    ias.write(-1.0, "me")
    returned.set()
    thread.join(10)
    flood_over.set()
    db.age()  # as the ageing thread does
    assert told[-1] is ias.reading
    assert len(told) < ias.writes + 1


def test_subscribing_and_unsubscribing_while_values_flow(db: Database, ias: Item) -> None:
    kept: list[Reading] = []
    db.subscribe("IAS", lambda k, r: kept.append(r))
    done = threading.Event()

    def write() -> None:
        try:
            writer(ias, "w", 2 * WRITES)()
        finally:
            done.set()

    def come_and_go() -> None:
        while not done.is_set():
            heard: list[Reading] = []
            one = db.subscribe("IAS", lambda k, r, h=heard: h.append(r))  # type: ignore[misc]
            every = db.subscribe("*", lambda k, r, h=heard: h.append(r))  # type: ignore[misc]
            one.close()
            every.close()
            ended = len(heard)
            time.sleep(0)
            assert len(heard) <= ended + 2, "at most the delivery in progress"

    together(write, come_and_go, come_and_go)
    assert len(kept) == 2 * WRITES
    assert len(ias._subscriptions) == 1
    assert db._wildcards == ()


def test_a_callback_that_fails_in_several_threads_is_dropped_once(db: Database, ias: Item) -> None:
    others: list[Reading] = []

    def broken(key: str, reading: Reading) -> None:
        raise ValueError

    db.subscribe("*", broken)
    db.subscribe("*", lambda k, r: others.append(r))
    together(*(writer(db.item(f"K{n}"), "w", 500) for n in range(4)))
    assert len(others) == 2000
    assert [len(i._subscriptions) for i in db.items()] == [1] * len(db)


def test_ranked_sources_on_separate_threads_end_with_the_best(db: Database) -> None:
    lat = db.item("LAT")
    told: list[Reading] = []
    db.subscribe("LAT", lambda k, r: told.append(r))

    def flap() -> None:
        for _ in range(300):
            lat.flag(FAIL, FAIL, "gps1", "flapping")
            lat.flag(0, FAIL, "gps1")

    together(writer(lat, "gps1"), writer(lat, "gps2"), flap)
    lat.fail("gone", "gps2")
    assert lat.reading.source == "gps1"
    assert lat.reading.flags == SECFAIL
    assert lat.reading.value == WRITES - 1
    assert told[-1] is lat.reading


@pytest.mark.slow
def test_writing_flagging_ageing_and_reading_work_concurrently() -> None:
    db = Database([Definition(key="A", tolerance=1), Definition(key="B", tolerance=1, sources=("x", "y"))])
    told: dict[str, Reading] = {}
    db.subscribe("*", lambda k, r: told.__setitem__(k, r))
    for key in db:  # on a busy machine, a thread may achieve nothing before the end
        db.write(key, 0, "x")
    db.start()
    end = time.monotonic() + 0.5

    def write(key: str, source: str) -> Callable[[], None]:
        def job() -> None:
            n = 0
            while time.monotonic() < end:
                db.write(key, n % 100, source)
                n += 1
                if n % 50 == 0:
                    time.sleep(0.003)  # long enough to become old

        return job

    def look() -> None:
        while time.monotonic() < end:
            for item in db.items():
                item.flag(BAD if item.writes % 2 else 0, BAD, "looker")
                item.explain()
            db.statistics()

    together(write("A", "x"), write("B", "x"), write("B", "y"), look)
    deadline = time.monotonic() + 5
    while not all(told[k].old for k in db):
        assert time.monotonic() < deadline, "everything finally becomes old, and is notified"
        time.sleep(0.005)
    db.stop()
    assert all(told[k] is db.read(k) for k in db)


def test_the_newest_aux_value_is_delivered_last(db: Database, ias: Item) -> None:
    told: list[Any] = []
    db.subscribe("IAS", on_aux=lambda k, n, v: told.append(v))

    def write(offset: int) -> Callable[[], None]:
        def job() -> None:
            for n in range(500):
                ias.write_aux("Vne", offset + n)

        return job

    together(write(0), write(1000), write(2000))
    assert told[-1] == ias.aux["Vne"]
    assert set(told) >= {float(offset + n) for offset in (0, 1000, 2000) for n in range(500)}
    assert ias._telling == set()


def test_a_mailbox_ends_with_the_newest_of_each_key(db: Database) -> None:
    latest: dict[str, Reading] = {}
    done = threading.Event()

    def write() -> None:
        try:
            for n in range(WRITES):
                db.write(f"K{n % 20}", n)
        finally:
            done.set()
            box.wake()

    def receive() -> None:
        while not done.is_set():
            latest.update(box.wait(10))
        latest.update(box.wait(0))

    with db.mailbox(f"K{n}" for n in range(20)) as box:
        together(write, receive)
    assert latest == {f"K{n}": db.read(f"K{n}") for n in range(20)}


def test_a_mailbox_wakes_its_thread_for_a_value_and_for_a_stop(db: Database) -> None:
    woken: list[tuple[float, int]] = []
    asked = threading.Semaphore(0)

    def receive() -> None:
        for _ in range(2):
            asked.release()
            begun = time.monotonic()
            woken.append((len(box.wait(30)), int(time.monotonic() - begun)))

    def provoke() -> None:
        asked.acquire()
        time.sleep(0.02)
        db.write("IAS", 1)
        asked.acquire()
        time.sleep(0.02)
        box.close()

    with db.mailbox() as box:
        together(receive, provoke)
    assert woken == [(1, 0), (0, 0)]
