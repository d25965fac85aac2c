"""A batch of writes has an end that subscribers may wait for."""

from __future__ import annotations

import threading

import pytest

from fixgw.database import Database, Definition


@pytest.fixture
def db() -> Database:
    return Database([Definition(key="IAS"), Definition(key="ALT")])


def test_the_end_of_the_outermost_batch_is_told_once(db: Database) -> None:
    ended: list[bool] = []
    db.batch.on_end(lambda: ended.append(db.batch.is_open))
    with db.batch:
        with db.batch:
            assert db.batch.is_open
        assert (db.batch.is_open, ended) == (True, [])
    assert (db.batch.is_open, ended) == (False, [False])


def test_every_write_of_a_batch_is_published_at_once(db: Database) -> None:
    heard: list[object] = []
    db.subscribe("IAS", lambda key, reading: heard.append(reading.value))
    with db.batch:
        db.write("IAS", 1, "me")
        assert heard == [1.0]
        assert db.read("IAS").value == 1.0


def test_a_batch_belongs_to_its_thread(db: Database) -> None:
    seen: list[bool] = []
    with db.batch:
        thread = threading.Thread(target=lambda: seen.append(db.batch.is_open))
        thread.start()
        thread.join()
    assert seen == [False]


def test_a_batch_that_raises_has_ended_too(db: Database) -> None:
    ended: list[int] = []
    db.batch.on_end(lambda: ended.append(1))
    with pytest.raises(ZeroDivisionError), db.batch:
        raise ZeroDivisionError
    assert (db.batch.is_open, ended) == (False, [1])


def test_a_callback_that_was_removed_is_not_called(db: Database) -> None:
    ended: list[int] = []

    def end() -> None:
        ended.append(1)

    db.batch.on_end(end)
    db.batch.off_end(end)
    with db.batch:
        pass
    assert ended == []


def test_a_failure_at_the_end_of_a_batch_does_not_reach_the_writer(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    db.batch.on_end(fail)
    db.batch.on_end(lambda: ended.append(1))
    with db.batch:
        pass
    assert (db.callback_errors, ended) == (1, [1])
    assert caplog.messages == ["a callback at the end of a batch failed"]
