"""An outage is told once, then each ten seconds, then that it is over."""

from __future__ import annotations

import logging

import pytest

from yadtq.runtime.outages import OutageLog
from yadtq.testing.doubles import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def outages(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> OutageLog:
    caplog.set_level(logging.DEBUG)
    return OutageLog(logging.getLogger("yadtq.test"), clock, "Redis")


def test_one_line_with_the_cause_then_one_each_ten_seconds_with_the_count(
    outages: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(250):  # 25 s, ten calls a second
        outages.failed("NOPERM no")
        clock.advance(0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "Redis is away: NOPERM no; calls are repeated until it answers",
        "Redis is away for 10 s now, 101 calls failed; the last: NOPERM no",
        "Redis is away for 20 s now, 201 calls failed; the last: NOPERM no",
    ]


def test_the_end_is_told_once(outages: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    outages.answered()
    assert not caplog.records
    outages.failed("x")
    clock.advance(3)
    outages.answered()
    outages.answered()
    assert not outages.open
    assert [record.getMessage() for record in caplog.records][1:] == ["Redis answers again after 3 s, 1 calls failed"]


def test_answers_amid_failures_end_nothing(
    outages: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only server answers every read, and refuses every write."""
    for _ in range(30):
        outages.failed("READONLY")
        clock.advance(0.2)
        outages.answered()
    assert len(caplog.records) == 1
    assert outages.open


def test_the_next_outage_is_told_anew(outages: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        outages.failed("x")
        clock.advance(5)
        outages.answered()
    assert len(caplog.records) == 4


def test_the_cause_is_foreign_text(outages: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    outages.failed("ERR two\nlines \x1b[2J")
    assert caplog.records[0].getMessage().count("\n") == 0
    assert "\x1b" not in caplog.records[0].getMessage()
