"""Who is alive, by the heartbeat topic alone."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.support.apps import make_record
from yadtq.client.roster import Roster
from yadtq.testing.doubles import ManualClock
from yadtq.wire.heartbeat import LARGEST_BYTES, Heartbeat

Phase = Literal["starting", "running", "draining", "stopped", "dead"]


class Topic:
    """A roster and the records it reads; `at` counts seconds from the start."""

    def __init__(self, silence_s: float = 5.0, **limits: int) -> None:
        self.clock = ManualClock()
        self._begun = self.clock.time()
        self.roster = Roster(silence_s, self.clock, **limits)

    def at(self, seconds: float) -> None:
        self.clock.advance(self._begun + seconds - self.clock.time())

    def beat(self, worker: str, phase: Phase = "running", *, ahead_s: float = 0.0, seq: int = 1) -> None:
        """ahead_s: of the stamp before our clock."""
        stamp = self.clock.time() + ahead_s
        heartbeat = Heartbeat(worker=worker, host="h", pid=1, phase=phase, seq=seq, at=stamp)
        self.roster.read(make_record(heartbeat.encode(), timestamp=round(stamp * 1000)))

    def names(self) -> list[str]:
        return [each.worker for each in self.roster.workers()]


def test_those_heard_of_lately_by_id_with_their_latest_word() -> None:
    topic = Topic()
    topic.beat("b")
    topic.at(1)
    topic.beat("a", "starting")
    topic.at(2)
    topic.beat("a", "draining", seq=2)
    assert topic.names() == ["a", "b"]
    assert topic.roster.workers()[0].phase == "draining"
    topic.at(5)
    assert topic.names() == ["a", "b"]
    topic.at(5.1)
    assert topic.names() == ["a"]
    topic.at(7.1)
    assert topic.names() == []


def test_who_has_stopped_or_was_declared_dead_is_gone_at_once() -> None:
    topic = Topic()
    for worker, phase in (("a", "stopped"), ("b", "dead")):
        topic.beat(worker)
        topic.beat(worker, phase)  # type: ignore[arg-type]
    assert topic.names() == []


def test_what_is_no_heartbeat_is_passed_over() -> None:
    topic = Topic()
    topic.beat("a")
    for value in (None, b"", b"canary", b'{"v": 2}', b" " * LARGEST_BYTES + b"{}"):
        topic.roster.read(make_record(value, timestamp=1_100))
    assert topic.names() == ["a"]


@pytest.mark.parametrize("field", ["at", "age_s", "pid"])
@pytest.mark.parametrize("value", [b"1e300", b"-1", b'"\\u001b[2J"', b"1" + b"0" * 400])
def test_a_number_that_nobody_could_show_is_no_heartbeat(field: str, value: bytes) -> None:
    task = {"id": "t", "task": "n", "attempt": 1, "age_s": 7}
    good = Heartbeat.model_validate(
        {"worker": "w", "host": "h", "pid": 7, "phase": "running", "seq": 1, "at": 7, "running": [task]}
    ).encode()
    topic = Topic()
    bad = good.replace(f'"{field}":7.0'.encode(), f'"{field}":'.encode() + value)
    bad = bad.replace(f'"{field}":7,'.encode(), f'"{field}":'.encode() + value + b",")
    assert bad != good
    topic.roster.read(make_record(bad, timestamp=0))
    assert topic.names() == []


@pytest.mark.parametrize("first", ["forged", "real"])
def test_a_stamp_from_the_future_hides_nobody(first: str) -> None:
    topic = Topic()
    for name in [first, "forged", "real"]:
        topic.beat(name, ahead_s=3_600 if name == "forged" else 0)
    assert topic.names() == ["forged", "real"]


def test_a_worker_with_a_clock_ahead_is_gone_as_soon_as_any_other() -> None:
    topic = Topic()
    topic.beat("ahead", ahead_s=3_600)
    topic.at(6)
    topic.beat("other")
    assert topic.names() == ["other"]


def test_where_our_own_clock_is_wrong_the_newest_record_tells_the_time() -> None:
    topic = Topic()
    topic.beat("old", ahead_s=3_600)
    topic.beat("new", ahead_s=3_600 + 6)
    assert topic.names() == ["new"]


def test_a_flood_of_workers_does_not_fill_the_memory_and_hides_no_known_one() -> None:
    topic = Topic(most_workers=100)
    topic.beat("real")
    for number in range(1_000):
        topic.beat(f"fake-{number}")
        topic.beat("real")
    assert len(topic.names()) == 100
    assert "real" in topic.names()
    topic.at(10)
    topic.beat("late")
    assert topic.names() == ["late"]


def test_large_heartbeats_count_by_their_bytes() -> None:
    topic = Topic(most_bytes=1_000)
    for number in range(100):
        topic.beat(f"fake-{number}")
    assert 1 < len(topic.names()) < 10
