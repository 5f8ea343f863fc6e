"""aiokafka's lines: the first with its cause, then one each ten seconds with a count, in any process."""

from __future__ import annotations

import logging

import pytest

from yadtq.broker.quiet import RateLimit, WithoutLogins, quieten
from yadtq.testing.doubles import ManualClock


def test_one_line_each_ten_seconds_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    logger = logging.getLogger("yadtq.test.quiet")
    limit = RateLimit(10.0, clock.monotonic)
    logger.addFilter(limit)
    try:
        for second in range(25):
            logger.error("no answer from %s", f"node {second}")
            clock.advance(1)
        logger.error("another line")
        logger.info("below a warning")
    finally:
        logger.removeFilter(limit)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "no answer from node 0",
        "no answer from node 10 (and 9 more like it)",
        "no answer from node 20 (and 9 more like it)",
        "another line",
    ]


def test_every_module_of_aiokafka_is_limited_once() -> None:
    quieten()
    quieten()
    for name in ("aiokafka.conn", "aiokafka.consumer.fetcher", "aiokafka.producer.sender"):
        assert [type(each) for each in logging.getLogger(name).filters] == [RateLimit, WithoutLogins]
