"""Complaints: one about a subject in each interval."""

from __future__ import annotations

import logging

import pytest

from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit.complaints import INTERVAL_S, MAX_SUBJECTS, Complaints


def test_the_same_complaint_waits_for_the_interval_and_another_does_not(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    complain = Complaints(logging.getLogger("fixgw.test"), clock)
    assert INTERVAL_S == 10.0
    for passed in (0.0, INTERVAL_S - 0.1, 0.1):
        clock.now += passed
        complain("%s is lost", "gps")
        complain("another", about="another")
    assert [record.getMessage() for record in caplog.records] == ["gps is lost", "another"] * 2
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_complaint_has_its_error_and_what_else_is_known(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("why")
    Complaints(logging.getLogger("fixgw.test"), clock)("lost", error=error, extra={"connection": "gps"})
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert vars(record)["connection"] == "gps"


def test_subjects_are_bounded(clock: Clock) -> None:
    complaints = Complaints(logging.getLogger("fixgw.test"), clock)
    assert all(complaints.due(str(n)) for n in range(MAX_SUBJECTS))
    assert not any(complaints.due(str(n)) for n in range(MAX_SUBJECTS))
    assert complaints.due("one more")
    assert complaints.due("0"), "all are forgotten"
    assert not complaints.due("one more")
