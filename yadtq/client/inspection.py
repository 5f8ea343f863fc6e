"""What an app has in Kafka, for people: its queues, and its dead letters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yadtq.wire.deadletter import dead_letter

if TYPE_CHECKING:
    from yadtq.outside import Outside
    from yadtq.runtime.seams import Backlog
    from yadtq.wire.deadletter import DeadLetter

__all__ = ["Queue", "read_dead_letters", "read_queues"]


@dataclass(frozen=True, slots=True)
class Queue:
    """backlog: records from the lowest unfinished one of each partition to its end; some of them may be finished.

    oldest_age_s: of the oldest unfinished record, since its submit; None if all are finished.
    """

    name: str
    partitions: int
    backlog: int
    oldest_age_s: float | None


async def read_queues(outside: Outside) -> list[Queue]:
    """By name, all that the app has ever had. Raises `BrokerUnavailable`."""
    parts: defaultdict[str, list[Backlog]] = defaultdict(list)
    for (topic, _), backlog in (await outside.broker.backlog()).items():
        if (name := outside.names.queue_of(topic)) is not None:
            parts[name].append(backlog)
    now_ms = outside.clock.time() * 1000
    queues = []
    for name, found in sorted(parts.items()):
        stamps = [each.oldest_ms for each in found if each.oldest_ms is not None]
        age_s = max(0.0, now_ms - min(stamps)) / 1000 if stamps else None
        queues.append(Queue(name, len(found), sum(each.records for each in found), age_s))
    return queues


async def read_dead_letters(outside: Outside, since_s: float) -> list[DeadLetter]:
    """Of the last `since_s` seconds, oldest first. Raises `BrokerUnavailable`."""
    records = await outside.broker.recent(outside.names.dead, since_s)
    letters = [dead_letter(record.headers, record.value, record.timestamp) for record in records]
    return sorted(letters, key=lambda letter: letter.at)
