"""Who is alive, by the heartbeat topic alone."""

from __future__ import annotations

from typing import Literal

from tests.support.apps import make_record
from yadtq.client.roster import Roster
from yadtq.wire.heartbeat import Heartbeat

Phase = Literal["starting", "running", "draining", "stopped", "dead"]


def beat(roster: Roster, worker: str, at_ms: int, phase: Phase = "running", seq: int = 1) -> None:
    heartbeat = Heartbeat(worker=worker, host="h", pid=1, phase=phase, seq=seq, at=at_ms / 1000)
    roster.read(make_record(heartbeat.encode(), timestamp=at_ms))


def names(roster: Roster, now_ms: int) -> list[str]:
    return [each.worker for each in roster.workers(now_ms)]


def test_those_heard_of_lately_by_id_with_their_latest_word() -> None:
    roster = Roster(5.0)
    beat(roster, "b", 1_000)
    beat(roster, "a", 2_000, "starting")
    beat(roster, "a", 3_000, "draining", seq=2)
    assert names(roster, 3_000) == ["a", "b"]
    assert roster.workers(3_000)[0].phase == "draining"
    assert names(roster, 6_000) == ["a", "b"]
    assert names(roster, 6_001) == ["a"]
    assert names(roster, 8_001) == []


def test_who_has_stopped_or_was_declared_dead_is_gone_at_once() -> None:
    roster = Roster(5.0)
    for worker, phase in (("a", "stopped"), ("b", "dead")):
        beat(roster, worker, 1_000)
        beat(roster, worker, 1_100, phase)  # type: ignore[arg-type]
    assert names(roster, 1_100) == []


def test_what_is_no_heartbeat_is_passed_over() -> None:
    roster = Roster(5.0)
    beat(roster, "a", 1_000)
    for value in (None, b"", b"canary", b'{"v": 2}'):
        roster.read(make_record(value, timestamp=1_100))
    assert names(roster, 1_100) == ["a"]
